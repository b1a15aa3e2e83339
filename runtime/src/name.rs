//! Names of processors, drivers and topics: what a valid one is.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest name allowed, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A valid name: 1 to 255 bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// Checks `name`.
    ///
    /// # Errors
    ///
    /// [`NameError`] says what is wrong with it and where.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_runtime::Name;
    ///
    /// assert_eq!(Name::new("camera/left")?.as_str(), "camera/left");
    /// assert_eq!(Name::new("a\nb").unwrap_err().to_string(), r#"name "a\nb" has a control character at byte 1"#);
    /// # Ok::<(), mproc_runtime::NameError>(())
    /// ```
    pub fn new(name: &str) -> Result<Self, NameError> {
        let wrong = if name.is_empty() {
            Wrong::Empty
        } else if name.len() > NAME_BYTES_MAX {
            Wrong::TooLong
        } else if let Some((at, _)) = name.char_indices().find(|(_, c)| c.is_control()) {
            Wrong::ControlCharacter { at }
        } else {
            return Ok(Self(name.into()));
        };
        Err(NameError {
            name: name.into(),
            wrong,
        })
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wrong {
    Empty,
    TooLong,
    ControlCharacter { at: usize },
}

/// Why a name was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameError {
    name: Box<str>,
    wrong: Wrong,
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wrong {
            Wrong::Empty => f.write_str("name is empty"),
            Wrong::TooLong => {
                let head: String = self.name.chars().take(32).collect();
                write!(
                    f,
                    "name {head:?}... has {} bytes, at most {NAME_BYTES_MAX} are allowed",
                    self.name.len()
                )
            }
            Wrong::ControlCharacter { at } => {
                let head: String = self.name.chars().take(64).collect();
                write!(f, "name {head:?} has a control character at byte {at}")
            }
        }
    }
}

impl std::error::Error for NameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wrong_name_is_refused_with_what_is_wrong() {
        assert_eq!(Name::new("").unwrap_err().to_string(), "name is empty");
        let long = "x".repeat(256);
        assert!(
            Name::new(&long)
                .unwrap_err()
                .to_string()
                .contains("256 bytes")
        );
        assert!(Name::new(&long[..255]).is_ok());
        assert!(
            Name::new("\u{7f}")
                .unwrap_err()
                .to_string()
                .contains("byte 0")
        );
        assert!(Name::new("naïve/☂").is_ok());
    }
}
