//! Patterns over topic names.

use mproc_runtime::{Error, ErrorKind};
use std::fmt;

/// A pattern over names whose segments are separated by `/`: `*` stands for one segment, `**` for any number of them,
/// also none.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::Pattern;
///
/// let poses = Pattern::new("robot/*/pose")?;
/// assert!(poses.matches("robot/left/pose"));
/// assert!(!poses.matches("robot/left/arm/pose"));
/// assert!(Pattern::new("robot/**")?.matches("robot/left/arm/pose"));
/// assert_eq!(
///     Pattern::new("robot/*left").unwrap_err().to_string(),
///     r#"pattern "robot/*left": segment 2, "*left", mixes * with other characters"#
/// );
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Clone, PartialEq, Eq)]
enum Segment {
    Is(String),
    Any,
    AnyNumber,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`], naming the segment, for one that no name could match: an empty pattern or segment, `*`
    /// beside other characters, a control character.
    pub fn new(pattern: &str) -> Result<Self, Error> {
        let wrong = |what: String| {
            Error::new(
                ErrorKind::InvalidName,
                format!("pattern {pattern:?}: {what}"),
            )
        };
        if pattern.is_empty() {
            return Err(wrong("it is empty".into()));
        }
        let segments = pattern
            .split('/')
            .enumerate()
            .map(|(i, segment)| match segment {
                "*" => Ok(Segment::Any),
                "**" => Ok(Segment::AnyNumber),
                "" => Err(wrong(format!("segment {} is empty", i + 1))),
                s if s.contains('*') => Err(wrong(format!(
                    "segment {}, {s:?}, mixes * with other characters",
                    i + 1
                ))),
                s if s.chars().any(char::is_control) => Err(wrong(format!(
                    "segment {}, {s:?}, has a control character",
                    i + 1
                ))),
                s => Ok(Segment::Is(s.to_owned())),
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            text: pattern.to_owned(),
            segments,
        })
    }

    /// True if its first segment is this very word.
    pub(crate) fn names(&self, first: &str) -> bool {
        matches!(self.segments.first(), Some(Segment::Is(word)) if word == first)
    }

    /// True if `name` matches.
    pub fn matches(&self, name: &str) -> bool {
        let names: Vec<&str> = name.split('/').collect();
        // Which numbers of names the pattern's segments so far can stand for: quadratic at worst, whatever the pattern.
        let mut reach = vec![false; names.len() + 1];
        reach[0] = true;
        for segment in &self.segments {
            let mut next = vec![false; names.len() + 1];
            for at in 0..=names.len() {
                match segment {
                    Segment::AnyNumber => next[at] = reach[at] || (at > 0 && next[at - 1]),
                    Segment::Any => next[at] = at > 0 && reach[at - 1],
                    Segment::Is(s) => next[at] = at > 0 && reach[at - 1] && names[at - 1] == s,
                }
            }
            reach = next;
        }
        reach[names.len()]
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_stars_match_any_number_of_segments_anywhere() {
        for (pattern, name, want) in [
            ("**", "a/b", true),
            ("a/**", "a", true),
            ("**/c", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/b/b/c", true),
            ("a/**/c", "a/b", false),
            ("*", "a/b", false),
            ("a/b", "a/b", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(name),
                want,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn impossible_patterns_are_refused_with_the_segment() {
        for pattern in ["", "a//b", "/a", "a/", "a*", "a/\n"] {
            assert!(Pattern::new(pattern).is_err(), "{pattern:?}");
        }
    }
}
