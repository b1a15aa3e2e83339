//! Values as rows of a table. The first value says which columns there are, and in which order.

use serde_json::Value;
use std::borrow::Cow;

/// The columns of the values.
#[derive(Clone, Debug, Default)]
pub(crate) struct Columns {
    names: Vec<String>,
}

/// Each number, text and so on of a value with its place: `a.b[0]`. The value itself, if it is one, is called `value`.
fn leaves<'a>(value: &'a Value, name: String, into: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(fields) => {
            for (field, value) in fields {
                let dot = if name.is_empty() { "" } else { "." };
                leaves(value, format!("{name}{dot}{field}"), into);
            }
        }
        Value::Array(values) => {
            for (at, value) in values.iter().enumerate() {
                leaves(value, format!("{name}[{at}]"), into);
            }
        }
        _ if name.is_empty() => into.push(("value".to_owned(), value)),
        _ => into.push((name, value)),
    }
}

impl Columns {
    pub(crate) fn of(value: &Value) -> Self {
        let mut all = Vec::new();
        leaves(value, String::new(), &mut all);
        Self {
            names: all.into_iter().map(|(name, _)| name).collect(),
        }
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }

    /// The cells of `value`, empty where it has nothing, and whether it has more than there are columns for.
    pub(crate) fn row(
        &self,
        value: &Value,
        number: impl Fn(&serde_json::Number) -> String,
    ) -> (Vec<String>, bool) {
        let mut all = Vec::new();
        leaves(value, String::new(), &mut all);
        let mut cells = vec![String::new(); self.names.len()];
        let mut is_more = false;
        let mut next = 0;
        for (name, value) in all {
            // Nearly always they come in the order of the columns.
            let at = match self.names.get(next) {
                Some(expected) if *expected == name => Some(next),
                _ => self.names.iter().position(|known| *known == name),
            };
            let Some(at) = at else {
                is_more = true;
                continue;
            };
            next = at + 1;
            cells[at] = match value {
                Value::Null => String::new(),
                Value::Number(n) => number(n),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
        }
        (cells, is_more)
    }
}

/// A row as RFC 4180 has it, without its line end.
pub(crate) fn line(cells: &[String]) -> String {
    let cells: Vec<_> = cells.iter().map(|cell| quoted(cell)).collect();
    cells.join(",")
}

fn quoted(cell: &str) -> Cow<'_, str> {
    if !cell.contains([',', '"', '\n', '\r']) {
        return Cow::Borrowed(cell);
    }
    Cow::Owned(format!("\"{}\"", cell.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_are_those_of_the_first_value() {
        let columns = Columns::of(&json!({"a": {"b": 1, "c": [2, 3]}, "t": "x"}));
        assert_eq!(columns.names(), ["a.b", "a.c[0]", "a.c[1]", "t"]);
        let row = |value| columns.row(&value, ToString::to_string);
        let (cells, is_more) = row(json!({"t": "say \"hi\", twice", "a": {"c": [5], "b": null}}));
        assert_eq!(line(&cells), r#",5,,"say ""hi"", twice""#);
        assert!(!is_more);
        assert!(row(json!({"a": {"b": 1}, "new": 2})).1);
        assert_eq!(Columns::of(&json!(3)).names(), ["value"]);
    }
}
