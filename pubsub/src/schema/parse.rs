//! Text as a schema.

use super::shape::{Field, Group, Number, Shape};
use std::collections::BTreeSet;
use std::fmt;

const TEXT_BYTES_MAX: usize = 1 << 16;
const DEPTH_MAX: usize = 32;
const BYTES_MAX: usize = 1 << 28;

/// Why a text is no schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    pub(super) at: usize,
    pub(super) what: String,
}

impl SchemaError {
    /// At which character of the text, counted from 1.
    pub fn at(&self) -> usize {
        self.at
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema, character {}: {}", self.at, self.what)
    }
}

impl std::error::Error for SchemaError {}

/// A word, a sign, or nothing at the end; and where it begins.
#[derive(Clone, Copy, PartialEq)]
struct Token<'a> {
    text: &'a str,
    /// In bytes.
    at: usize,
}

impl Token<'_> {
    fn is_word(&self) -> bool {
        self.text.starts_with(is_letter)
    }

    /// For people.
    fn label(&self) -> String {
        match self.text {
            "" => "the end".to_owned(),
            text => format!("{text:?}"),
        }
    }
}

fn is_letter(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn is_of_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

struct Parser<'a> {
    text: &'a str,
    /// What was not looked at yet begins here.
    at: usize,
    next: Token<'a>,
}

pub(super) fn schema(text: &str) -> Result<Shape, SchemaError> {
    let mut parser = Parser {
        text,
        at: 0,
        next: Token { text: "", at: 0 },
    };
    if text.len() > TEXT_BYTES_MAX {
        let what = format!("it has {} bytes, more than {TEXT_BYTES_MAX}", text.len());
        return Err(parser.wrong(parser.next, what));
    }
    parser.step();
    let shape = match parser.next.is_word() && parser.peek().text == ":" {
        true => Shape::Group(parser.fields("", 0)?),
        false => parser.shape(0)?,
    };
    let rest = parser.next;
    match rest.text {
        "" => Ok(shape),
        _ => Err(parser.wrong(rest, format!("{} after the schema", rest.label()))),
    }
}

impl<'a> Parser<'a> {
    fn wrong(&self, token: Token<'_>, what: impl Into<String>) -> SchemaError {
        SchemaError {
            at: self.text[..token.at].chars().count() + 1,
            what: what.into(),
        }
    }

    fn peek(&self) -> Token<'a> {
        let rest = self.text[self.at..].trim_start();
        let at = self.text.len() - rest.len();
        let end = match rest.chars().next() {
            None => 0,
            Some(c) if is_of_word(c) => rest.find(|c| !is_of_word(c)).unwrap_or(rest.len()),
            Some(c) => c.len_utf8(),
        };
        Token {
            text: &rest[..end],
            at,
        }
    }

    /// Goes on by one token, and returns the one before.
    fn step(&mut self) -> Token<'a> {
        let next = self.peek();
        self.at = next.at + next.text.len();
        std::mem::replace(&mut self.next, next)
    }

    fn expect(&mut self, sign: &str, after: &str) -> Result<(), SchemaError> {
        let token = self.step();
        if token.text == sign {
            return Ok(());
        }
        let what = format!("expected {sign:?} after {after}, not {}", token.label());
        Err(self.wrong(token, what))
    }

    /// Fields up to `end`, which is left.
    fn fields(&mut self, end: &str, depth: usize) -> Result<Group, SchemaError> {
        let mut group = Group {
            fields: Vec::new(),
            bytes: 0,
        };
        let mut names = BTreeSet::new();
        loop {
            let name = self.step();
            if !name.is_word() {
                let what = format!("expected the name of a field, not {}", name.label());
                return Err(self.wrong(name, what));
            }
            if !names.insert(name.text) {
                return Err(self.wrong(name, format!("field {:?} is there twice", name.text)));
            }
            self.expect(":", &format!("field {:?}", name.text))?;
            let shape = self.shape(depth)?;
            let offset = group.bytes;
            group.bytes = self.bounded(name, group.bytes.checked_add(shape.bytes()))?;
            group.fields.push(Field {
                name: name.text.to_owned(),
                shape,
                offset,
            });
            if self.next.text == "," {
                self.step();
                if self.next.text != end {
                    continue;
                }
            }
            if self.next.text == end {
                return Ok(group);
            }
            let what = format!(
                "expected \",\" or the end of the fields, not {}",
                self.next.label()
            );
            return Err(self.wrong(self.next, what));
        }
    }

    fn bounded(&self, at: Token<'_>, bytes: Option<usize>) -> Result<usize, SchemaError> {
        bytes.filter(|bytes| *bytes <= BYTES_MAX).ok_or_else(|| {
            self.wrong(
                at,
                format!("a value would have more than {BYTES_MAX} bytes"),
            )
        })
    }

    fn shape(&mut self, depth: usize) -> Result<Shape, SchemaError> {
        let token = self.step();
        if depth >= DEPTH_MAX {
            return Err(self.wrong(token, format!("more than {DEPTH_MAX} levels")));
        }
        match token.text {
            "[" => {
                let element = self.shape(depth + 1)?;
                self.expect(";", "the type of the elements")?;
                let count = self.count()?;
                self.expect("]", "the number of elements")?;
                self.bounded(token, element.bytes().checked_mul(count))?;
                Ok(Shape::Array(Box::new(element), count))
            }
            "{" => {
                let group = self.fields("}", depth + 1)?;
                self.expect("}", "the fields")?;
                Ok(Shape::Group(group))
            }
            "text" => {
                self.expect("[", "\"text\"")?;
                let bytes = self.count()?;
                self.expect("]", "the number of bytes")?;
                self.bounded(token, Some(bytes))?;
                Ok(Shape::Text(bytes))
            }
            name @ ("bool" | "char") => {
                let instead = if name == "bool" { "u8" } else { "u32" };
                Err(self.wrong(token, format!("{name} is no plain data; use {instead}")))
            }
            name => Number::named(name).map(Shape::Number).ok_or_else(|| {
                let what = match token.is_word() {
                    true => format!("no type is called {name:?}"),
                    false => format!("expected a type, not {}", token.label()),
                };
                self.wrong(token, what)
            }),
        }
    }

    fn count(&mut self) -> Result<usize, SchemaError> {
        let token = self.step();
        if !token.text.starts_with(|c: char| c.is_ascii_digit()) {
            let what = format!("expected a number, not {}", token.label());
            return Err(self.wrong(token, what));
        }
        match token.text.parse() {
            Ok(0) => Err(self.wrong(token, "a count must be at least 1")),
            Ok(count) => Ok(count),
            Err(_) => Err(self.wrong(token, format!("{:?} is no count", token.text))),
        }
    }
}
