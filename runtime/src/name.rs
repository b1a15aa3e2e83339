//! Names of processors, drivers and topics: what a valid one is.
//!
//! There may be millions of names, so one is a single pointer to an allocation of a *head* and the text behind it, shared by
//! all copies. Every unsafe block below leans on this table.
//!
//! | where                | what                                                                | written by        |
//! |----------------------|---------------------------------------------------------------------|-------------------|
//! | `Head::copies`       | how many `Name`s point here, at least 1                             | `clone`, `drop`   |
//! | `Head::bytes`        | the length of the text                                              | `Name::of`, once  |
//! | `bytes` bytes behind | the text, UTF-8                                                     | `Name::of`, once  |

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ptr::NonNull;
// Not loom's: nothing but the count of copies is shared, as in an `Arc`.
use std::sync::atomic::{AtomicU32, Ordering as Order, fence};

/// The longest name allowed, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A valid name: 1 to 255 bytes of UTF-8 without control characters. Cheap to clone.
pub struct Name(NonNull<Head>);

/// See the table above.
struct Head {
    copies: AtomicU32,
    bytes: u8,
}

const _: () = assert!(NAME_BYTES_MAX <= u8::MAX as usize);

/// A name with more copies than this is written anew, so that the count cannot overflow.
const COPIES_MAX: u32 = u32::MAX / 2;

/// Where the text begins: right behind the length.
const TEXT_AT: usize = std::mem::offset_of!(Head, bytes) + 1;

// SAFETY: the text is never written again, and the count is atomic.
unsafe impl Send for Name {}
// SAFETY: as above.
unsafe impl Sync for Name {}

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
            return Ok(Self::of(name));
        };
        Err(NameError {
            name: name.into(),
            wrong,
        })
    }

    /// A new allocation with a text that was checked.
    fn of(text: &str) -> Self {
        assert!(text.len() <= NAME_BYTES_MAX, "the length was checked");
        let layout = layout(text.len());
        // SAFETY: the layout has at least the size of a head.
        let head = unsafe { alloc(layout) }.cast::<Head>();
        let Some(head) = NonNull::new(head) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the allocation is ours alone, and as large as the table says: a head, then the text. The text begins within
        // the head's own size, in its padding, so the head is written by fields and not as a whole.
        unsafe {
            (&raw mut (*head.as_ptr()).copies).write(AtomicU32::new(1));
            (&raw mut (*head.as_ptr()).bytes).write(text.len() as u8);
            let to = head.as_ptr().cast::<u8>().add(TEXT_AT);
            to.copy_from_nonoverlapping(text.as_ptr(), text.len());
        }
        Self(head)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        // SAFETY: by the table; this copy keeps the allocation for as long as `self` is borrowed. Only fields are read, never
        // the head as a whole.
        unsafe {
            let bytes = (*self.0.as_ptr()).bytes as usize;
            let text = self.0.as_ptr().cast::<u8>().add(TEXT_AT);
            std::str::from_utf8_unchecked(std::slice::from_raw_parts(text, bytes))
        }
    }

    fn copies(&self) -> &AtomicU32 {
        // SAFETY: this copy keeps the allocation.
        unsafe { &(*self.0.as_ptr()).copies }
    }
}

/// Of a name of so many bytes. No smaller than a head, whose padding the text begins in.
fn layout(bytes: usize) -> Layout {
    let size = (TEXT_AT + bytes).max(size_of::<Head>());
    match Layout::from_size_align(size, align_of::<Head>()) {
        Ok(layout) => layout,
        Err(_) => unreachable!("a name has at most 255 bytes"),
    }
}

impl Clone for Name {
    #[inline]
    fn clone(&self) -> Self {
        // Relaxed: whoever makes a copy has one.
        if self.copies().fetch_add(1, Order::Relaxed) >= COPIES_MAX {
            self.copies().fetch_sub(1, Order::Relaxed);
            return Self::of(self.as_str());
        }
        Self(self.0)
    }
}

impl Drop for Name {
    #[inline]
    fn drop(&mut self) {
        // As `Arc` does it: Release says that this copy is not read any more, and the fence lets the last one see that of all.
        if self.copies().fetch_sub(1, Order::Release) != 1 {
            return;
        }
        fence(Order::Acquire);
        let layout = layout(self.as_str().len());
        // SAFETY: this was the last copy, and `of` allocated with this very layout.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0 || self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Name {
    /// As its text does, since it can be borrowed as one.
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

    #[test]
    fn copies_share_one_text_until_there_are_too_many() {
        for length in [1, 3, 4, 19, 255] {
            let text = "n".repeat(length);
            let name = Name::new(&text).unwrap();
            let copy = name.clone();
            assert_eq!(copy.0, name.0);
            drop(name);
            assert_eq!(copy.as_str(), text);
            copy.copies().store(COPIES_MAX, Order::Relaxed);
            let other = copy.clone();
            assert_ne!(other.0, copy.0);
            assert_eq!(other, copy);
            assert_eq!(copy.copies().load(Order::Relaxed), COPIES_MAX);
            copy.copies().store(1, Order::Relaxed);
        }
    }
}
