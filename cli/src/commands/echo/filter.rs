//! Which samples are shown.
//!
//! ```text
//! filter = all { "or" all }
//! all    = one { "and" one }
//! one    = "not" one | "(" filter ")" | path [ op literal ]
//! op     = "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"         "~": text that contains, or a list that has
//! path   = "." | name { "." name | "[" index "]" | "[" text "]" }
//! literal = number | "text" | 'text' | true | false | null | word
//! ```
//!
//! A path alone holds if something is there that is not `false` and not `null`. Nothing that is not there is equal to, smaller or
//! larger than anything.

use super::path::Path;
use serde_json::Value;
use std::cmp::Ordering;
use std::str::FromStr;

/// So deep may a filter be nested.
const DEPTH_MAX: usize = 64;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filter {
    Any(Vec<Filter>),
    All(Vec<Filter>),
    Not(Box<Filter>),
    Is(Path),
    Compare(Path, Op, Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Contains,
}

/// The longer ones first.
const OPS: [(&str, Op); 8] = [
    ("==", Op::Equal),
    ("!=", Op::NotEqual),
    ("<=", Op::LessOrEqual),
    (">=", Op::GreaterOrEqual),
    ("=", Op::Equal),
    ("<", Op::Less),
    (">", Op::Greater),
    ("~", Op::Contains),
];

impl Filter {
    /// True if `value` is to be shown.
    pub(crate) fn holds(&self, value: &Value) -> bool {
        match self {
            Self::Any(filters) => filters.iter().any(|filter| filter.holds(value)),
            Self::All(filters) => filters.iter().all(|filter| filter.holds(value)),
            Self::Not(filter) => !filter.holds(value),
            Self::Is(path) => match path.of(value) {
                None | Some(Value::Null | Value::Bool(false)) => false,
                Some(_) => true,
            },
            Self::Compare(path, op, with) => path
                .of(value)
                .is_some_and(|value| compare(value, *op, with)),
        }
    }
}

fn compare(value: &Value, op: Op, with: &Value) -> bool {
    if op == Op::Contains {
        return match (value, with) {
            (Value::String(text), Value::String(part)) => text.contains(part),
            (Value::Array(values), with) => values.iter().any(|v| compare(v, Op::Equal, with)),
            (Value::Object(fields), Value::String(name)) => fields.contains_key(name),
            _ => false,
        };
    }
    let order = match (value, with) {
        (Value::Number(a), Value::Number(b)) => match (a.as_i128(), b.as_i128()) {
            (Some(a), Some(b)) => Some(a.cmp(&b)),
            _ => a
                .as_f64()
                .zip(b.as_f64())
                .and_then(|(a, b)| a.partial_cmp(&b)),
        },
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (a, b) => (a == b).then_some(Ordering::Equal),
    };
    match op {
        Op::Equal => order == Some(Ordering::Equal),
        Op::NotEqual => order != Some(Ordering::Equal),
        Op::Less => order == Some(Ordering::Less),
        Op::LessOrEqual => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Op::Greater => order == Some(Ordering::Greater),
        Op::GreaterOrEqual => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Op::Contains => false,
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parser = Parser {
            rest: text,
            depth: 0,
        };
        let filter = parser.any()?;
        parser.blank();
        match parser.rest {
            "" => Ok(filter),
            rest => Err(format!("it is not clear what {rest:?} is for")),
        }
    }
}

/// A text in quotes at the beginning of `text`, and what follows; `None` if there are no quotes.
pub(super) fn quoted(text: &str) -> Result<Option<(String, &str)>, String> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return Ok(None);
    };
    let mut inside = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            c if c == quote => return Ok(Some((inside, &text[at + c.len_utf8()..]))),
            '\\' => inside.extend(chars.next().map(|(_, c)| c)),
            c => inside.push(c),
        }
    }
    Err(format!("the quotes of {text:?} are not closed"))
}

struct Parser<'a> {
    rest: &'a str,
    depth: usize,
}

impl Parser<'_> {
    fn blank(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Takes this word, if it is next and ends there.
    fn word(&mut self, word: &str) -> bool {
        self.blank();
        let Some(after) = self.rest.strip_prefix(word) else {
            return false;
        };
        if after.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | '[' | '-')) {
            return false;
        }
        self.rest = after;
        true
    }

    fn any(&mut self) -> Result<Filter, String> {
        let mut filters = vec![self.all()?];
        while self.word("or") {
            filters.push(self.all()?);
        }
        Ok(match filters.len() {
            1 => filters.remove(0),
            _ => Filter::Any(filters),
        })
    }

    fn all(&mut self) -> Result<Filter, String> {
        let mut filters = vec![self.one()?];
        while self.word("and") {
            filters.push(self.one()?);
        }
        Ok(match filters.len() {
            1 => filters.remove(0),
            _ => Filter::All(filters),
        })
    }

    fn one(&mut self) -> Result<Filter, String> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err("it is nested too deeply".to_owned());
        }
        let filter = self.one_inside();
        self.depth -= 1;
        filter
    }

    fn one_inside(&mut self) -> Result<Filter, String> {
        if self.word("not") {
            return Ok(Filter::Not(Box::new(self.one()?)));
        }
        self.blank();
        if let Some(after) = self.rest.strip_prefix('(') {
            self.rest = after;
            let filter = self.any()?;
            self.blank();
            self.rest = self
                .rest
                .strip_prefix(')')
                .ok_or_else(|| "\")\" is missing".to_owned())?;
            return Ok(filter);
        }
        let (path, rest) = Path::read(self.rest)?;
        self.rest = rest;
        self.blank();
        let Some((sign, op)) = OPS.iter().find(|(sign, _)| self.rest.starts_with(sign)) else {
            return Ok(Filter::Is(path));
        };
        self.rest = &self.rest[sign.len()..];
        Ok(Filter::Compare(path, *op, self.literal()?))
    }

    fn literal(&mut self) -> Result<Value, String> {
        self.blank();
        if let Some((text, rest)) = quoted(self.rest)? {
            self.rest = rest;
            return Ok(Value::String(text));
        }
        let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')');
        let (word, rest) = self
            .rest
            .split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        if word.is_empty() {
            return Err("a number or a text is missing at the end of a comparison".to_owned());
        }
        self.rest = rest;
        // What is no JSON is text.
        let value = serde_json::from_str(word);
        Ok(match value {
            Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => value,
            _ => Value::String(word.to_owned()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn holds(filter: &str, value: &Value) -> bool {
        filter.parse::<Filter>().unwrap().holds(value)
    }

    #[test]
    fn a_filter_shows_what_it_says() {
        let value = json!({"x": 2.5, "n": 7, "name": "left arm", "on": true, "list": [1, 2], "none": null, "order": 1});
        for filter in [
            "x > 2",
            "x>2 and n==7",
            "n = 7.0",
            "x < 2 or n >= 7",
            "name ~ arm",
            "name == 'left arm'",
            r#"name != "right""#,
            "on",
            "not none",
            "list ~ 2",
            "list[1] == 2",
            "order == 1",
            "not (x < 2 or missing)",
            "on == true and none == null",
            ".",
        ] {
            assert!(holds(filter, &value), "{filter}");
        }
        for filter in [
            "x < 2",
            "missing",
            "missing != 1",
            "none",
            "name > 3",
            "list ~ 3",
            "not on",
        ] {
            assert!(!holds(filter, &value), "{filter}");
        }
        assert!(holds(". >= 18446744073709551615", &json!(u64::MAX)));
        assert!(!holds(
            ". > 9007199254740992",
            &json!(9_007_199_254_740_992_u64)
        ));
    }

    #[test]
    fn a_filter_that_is_none_is_refused() {
        let deep = "(".repeat(100_000);
        for filter in [
            "",
            "x >",
            "(x",
            "x)",
            "x == 'a",
            "and",
            "x = 1 y = 2",
            "== 3",
            &deep,
        ] {
            // `and` alone is a field that is called so.
            assert!(
                filter.parse::<Filter>().is_err() || filter == "and",
                "{filter:.20}"
            );
        }
    }

    #[test]
    fn no_text_makes_it_panic() {
        let whole = "not (größe[\"a\\\"]\"] >= -1.5e3 or .x[0].y ~ 'ä\\' and z) == \u{1f980}";
        let value = json!({"größe": {"a": 1}, "x": [{"y": "ä"}], "z": null});
        let ends: Vec<usize> = whole.char_indices().map(|(at, _)| at).collect();
        for (n, start) in ends.iter().enumerate() {
            for end in &ends[n..] {
                if let Ok(filter) = whole[*start..*end].parse::<Filter>() {
                    let _either = filter.holds(&value);
                }
                let _either = whole[*start..*end].parse::<Path>();
            }
        }
    }
}
