//! A place inside a value: `pose.position.x`, `points[2]`, `table["odd name"]`; `.` for the value itself.

use serde_json::Value;
use std::fmt;
use std::str::FromStr;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Name(String),
    Index(usize),
}

/// As it was written, and what it means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    text: String,
    steps: Vec<Step>,
}

impl Path {
    /// What is there; `None` if nothing is.
    pub(crate) fn of<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.steps.iter().try_fold(value, |value, step| match step {
            Step::Name(name) => value.get(name),
            Step::Index(at) => value.get(at),
        })
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// Reads a path at the beginning of `text`, and returns what follows it.
    pub(super) fn read(text: &str) -> Result<(Self, &str), String> {
        let mut rest = text;
        let mut steps = Vec::new();
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
        }
        loop {
            if let Some(after) = rest.strip_prefix('[') {
                let (step, after) = in_brackets(after)?;
                steps.push(step);
                rest = after;
            } else {
                let ends = |c: char| !(c.is_alphanumeric() || c == '_' || c == '-' || c == '$');
                let (name, after) = rest.split_at(rest.find(ends).unwrap_or(rest.len()));
                if !name.is_empty() {
                    steps.push(Step::Name(name.to_owned()));
                } else if !steps.is_empty() || !text.starts_with('.') {
                    return Err(format!(
                        "a name or an index must stand at {:?}",
                        shown(rest)
                    ));
                }
                rest = after;
            }
            if rest.starts_with('[') {
                continue;
            }
            match rest.strip_prefix('.') {
                Some(after) => rest = after,
                None => break,
            }
        }
        let text = text[..text.len() - rest.len()].to_owned();
        Ok((Self { text, steps }, rest))
    }
}

fn shown(rest: &str) -> &str {
    if rest.is_empty() { "the end" } else { rest }
}

/// An index or a name in quotes, up to and with the closing bracket.
fn in_brackets(text: &str) -> Result<(Step, &str), String> {
    if let Some((name, after)) = super::filter::quoted(text)? {
        let after = after
            .strip_prefix(']')
            .ok_or_else(|| format!("\"]\" must stand at {:?}", shown(after)))?;
        return Ok((Step::Name(name), after));
    }
    let (digits, after) = text
        .split_once(']')
        .ok_or_else(|| format!("\"]\" is missing after {text:?}"))?;
    let index = digits
        .trim()
        .parse()
        .map_err(|_| format!("{digits:?} is no index: a number, or a name in quotes"))?;
    Ok((Step::Index(index), after))
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (path, rest) = Self::read(text)?;
        match rest {
            "" => Ok(path),
            rest => Err(format!("it is not clear what {rest:?} is for")),
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_leads_to_what_it_names() {
        let value = json!({"a": {"b": [1, {"c": 2}]}, "odd name]": 3, "x-y": 4});
        let at = |text: &str| text.parse::<Path>().unwrap().of(&value).cloned();
        assert_eq!(at("a.b[0]"), Some(json!(1)));
        assert_eq!(at("a.b[1].c"), Some(json!(2)));
        assert_eq!(at(".a.b[1][\"c\"]"), Some(json!(2)));
        assert_eq!(at("[\"odd name]\"]"), Some(json!(3)));
        assert_eq!(at("x-y"), Some(json!(4)));
        assert_eq!(at("."), Some(value.clone()));
        assert_eq!(at("a.b[7]"), None);
        assert_eq!(at("a.b.c"), None);
    }

    #[test]
    fn nonsense_is_named() {
        for text in [
            "", "a..b", "a.", "a[", "a[x]", "a[1", "a[\"x]", "a b", "[-1]", "a[0]b",
        ] {
            assert!(text.parse::<Path>().is_err(), "{text:?}");
        }
    }
}
