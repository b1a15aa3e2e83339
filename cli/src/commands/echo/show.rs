//! Values for people: on one line if they fit, else a line for each field.

use crate::output::{cut, safe};
use serde_json::Value;
use std::fmt::Write as _;

/// How values are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    /// Digits after the point; all that count if `None`.
    pub(crate) precision: Option<usize>,
    /// So many elements of a list, and so many characters of a text, are shown.
    pub(crate) list_max: usize,
    pub(crate) text_max: usize,
}

impl Style {
    fn scalar(&self, value: &Value) -> Option<String> {
        Some(match value {
            Value::Null => "null".to_owned(),
            Value::Bool(is) => is.to_string(),
            Value::Number(number) => self.number(number),
            Value::String(text) => self.text(text),
            Value::Array(values) if values.is_empty() => "[]".to_owned(),
            Value::Object(fields) if fields.is_empty() => "{}".to_owned(),
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    pub(crate) fn number(&self, number: &serde_json::Number) -> String {
        match (self.precision, number.as_f64()) {
            (Some(digits), Some(float)) if number.is_f64() => format!("{float:.digits$}"),
            _ => number.to_string(),
        }
    }

    fn text(&self, text: &str) -> String {
        let quoted = safe(&cut(text, self.text_max)).replace('"', "\\\"");
        match text.chars().count() {
            n if n > self.text_max => format!("\"{quoted}\" ({n} characters)"),
            _ => format!("\"{quoted}\""),
        }
    }

    /// The value on one line; `None` if that has more than `width` characters.
    pub(crate) fn line(&self, value: &Value, width: usize) -> Option<String> {
        let mut text = String::new();
        // Fields of the value itself need no braces.
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (n, (name, value)) in fields.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    let _never_fails = write!(text, "{comma}{}: ", safe(name));
                    self.inline(value, width, &mut text)?;
                }
            }
            _ => self.inline(value, width, &mut text)?,
        }
        (text.chars().count() <= width).then_some(text)
    }

    /// Ends as soon as it is too long: values may be large.
    fn inline(&self, value: &Value, width: usize, text: &mut String) -> Option<()> {
        if text.len() > width.saturating_mul(4) {
            return None;
        }
        if let Some(scalar) = self.scalar(value) {
            text.push_str(&scalar);
            return Some(());
        }
        match value {
            Value::Array(values) => {
                text.push('[');
                for (n, value) in values.iter().take(self.list_max).enumerate() {
                    text.push_str(if n > 0 { ", " } else { "" });
                    self.inline(value, width, text)?;
                }
                if values.len() > self.list_max {
                    let _never_fails = write!(text, ", ... {} in all", values.len());
                }
                text.push(']');
            }
            Value::Object(fields) => {
                text.push('{');
                for (n, (name, value)) in fields.iter().enumerate() {
                    let comma = if n > 0 { ", " } else { "" };
                    let _never_fails = write!(text, "{comma}{}: ", safe(name));
                    self.inline(value, width, text)?;
                }
                text.push('}');
            }
            _ => {}
        }
        Some(())
    }

    /// The value over several lines, each indented and with its line end. Lists and groups that fit stand on one.
    pub(crate) fn block(&self, value: &Value, width: usize) -> String {
        let mut text = String::new();
        self.lines(value, 1, width, &mut text);
        text
    }

    fn lines(&self, value: &Value, depth: usize, width: usize, text: &mut String) {
        let pad = "  ".repeat(depth.min(20));
        let room = width.saturating_sub(pad.len()).max(20);
        let line = |head: String, value: &Value, text: &mut String| {
            let mut inline = String::new();
            let fits = self.inline(value, room, &mut inline).is_some()
                && head.len() + inline.chars().count() <= room;
            if fits || self.scalar(value).is_some() {
                let _never_fails = writeln!(text, "{pad}{head} {inline}");
            } else {
                let _never_fails = writeln!(text, "{pad}{head}");
                self.lines(value, depth + 1, width, text);
            }
        };
        match value {
            Value::Object(fields) if !fields.is_empty() => {
                for (name, value) in fields {
                    line(format!("{}:", safe(name)), value, text);
                }
            }
            Value::Array(values) if !values.is_empty() => {
                if self.wrapped(values, &pad, room, text) {
                    return;
                }
                for value in values.iter().take(self.list_max) {
                    line("-".to_owned(), value, text);
                }
                if values.len() > self.list_max {
                    let _never_fails = writeln!(text, "{pad}... {} in all", values.len());
                }
            }
            value => {
                let scalar = self.scalar(value).unwrap_or_default();
                let _never_fails = writeln!(text, "{pad}{scalar}");
            }
        }
    }

    /// A list of numbers and the like, as many on a line as fit. False if it is none.
    fn wrapped(&self, values: &[Value], pad: &str, room: usize, text: &mut String) -> bool {
        let shown = values.iter().take(self.list_max);
        let scalars: Option<Vec<String>> = shown.map(|value| self.scalar(value)).collect();
        let Some(mut scalars) = scalars else {
            return false;
        };
        if values.len() > self.list_max {
            scalars.push(format!("... {} in all", values.len()));
        }
        let mut line = String::new();
        for scalar in scalars {
            if !line.is_empty() && line.len() + scalar.len() + 2 > room {
                let _never_fails = writeln!(text, "{pad}{}", line.trim_end());
                line.clear();
            }
            line.push_str(&scalar);
            line.push_str(", ");
        }
        line.truncate(line.len() - ", ".len());
        let _never_fails = writeln!(text, "{pad}{line}");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STYLE: Style = Style {
        precision: None,
        list_max: 4,
        text_max: 8,
    };

    #[test]
    fn what_fits_stands_on_one_line() {
        let line = |value: Value| STYLE.line(&value, 60).unwrap();
        assert_eq!(line(json!(7)), "7");
        assert_eq!(line(json!("a\u{1b}[2J\"")), "\"a\\u{1b}[2J\\\"\"");
        assert_eq!(
            line(json!({"x": 1.5, "in": {"y": [1, 2]}, "e": []})),
            "x: 1.5, in: {y: [1, 2]}, e: []"
        );
        assert_eq!(line(json!([1, 2, 3, 4, 5])), "[1, 2, 3, 4, ... 5 in all]");
        assert_eq!(line(json!("0123456789")), "\"01234567...\" (10 characters)");
        let digits = Style {
            precision: Some(2),
            ..STYLE
        };
        assert_eq!(
            digits.line(&json!([1.0, 2, 0.123]), 60).unwrap(),
            "[1.00, 2, 0.12]"
        );
        assert_eq!(
            STYLE.line(&json!({"a": [1.123456, 2.123456, 3.123456]}), 20),
            None
        );
    }

    #[test]
    fn what_does_not_fit_has_a_line_for_each_field() {
        let value = json!({
            "pose": {"position": {"x": 1.0, "y": 2.0, "z": 3.0}, "name": "left"},
            "points": [[1, 2, 3], [4, 5, 6]],
            "scan": [1000001, 1000002, 1000003, 1000004, 1000005],
        });
        let wanted = "  pose:
    position:
      x: 1.0
      y: 2.0
      z: 3.0
    name: \"left\"
  points:
    - [1, 2, 3]
    - [4, 5, 6]
  scan:
    1000001, 1000002,
    1000003, 1000004,
    ... 5 in all
";
        assert_eq!(STYLE.block(&value, 24), wanted);
    }

    #[test]
    fn the_smallest_terminal_is_wide_enough() {
        let value =
            json!({"größe": [[{"a": []}, "ä\u{1b}"], {}, 1.5], "": null, "n": [1, 2, 3, 4, 5]});
        for width in 0..40 {
            assert!(STYLE.line(&value, width).is_none());
            assert!(STYLE.block(&value, width).lines().count() > 3);
        }
    }
}
