//! Layouts of plain data, in a small language: what the bytes of a value mean to those who do not have its type.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | [`Schema`], what programs see |
//! | `shape.rs` | what a schema is made of |
//! | `parse.rs` | text as a schema, and why not |
//! | `value.rs` | bytes as a value that any serde format can write |
//! | `write.rs` | any serde format's value as bytes |
//!
//! Texts come from other processes. So depth, bytes and the length of a text are bounded: recursion and allocation are, too.

mod parse;
mod shape;
#[cfg(test)]
mod tests;
mod value;
mod write;

pub use parse::SchemaError;

use crate::codec::{self, CodecError, CodecKind};
use crate::raw::TypeInfo;
use serde::{Deserializer, Serialize};
use shape::Shape;
use std::fmt;
use std::str::FromStr;

/// The layout of plain data: which numbers lie where.
///
/// Plain data has no padding, so its fields lie one after another. The language:
///
/// ```text
/// schema  = fields | type
/// fields  = name ":" type { "," name ":" type } [ "," ]        "x: f64, y: f64, flags: [u8; 4]"
/// type    = number                                             "f64"
///         | "[" type ";" count "]"                             "[f32; 3]", "[[u8; 2]; 4]"
///         | "{" fields "}"                                     "inner: { a: u32, b: i32 }"
///         | "text" "[" count "]"                               "name: text[16]"
/// number  = u8 | u16 | u32 | u64 | u128 | i8 | i16 | i32 | i64 | i128 | f32 | f64 | usize | isize
/// ```
///
/// A number is in the byte order of the machine, or in that of its ending: `u32be`, `f64le`. `text[16]` is 16 bytes of UTF-8, up to
/// the first that is zero. A name is of letters, digits and `_`, does not begin with a digit, and is there once in its group. A count is
/// at least 1. There are at most 32 levels, 2^28 bytes, and 65,536 bytes of text. `bool` and `char` are not plain data: not all
/// their bytes are values. Where a field of the type is one of zerocopy's, such as `U32<BigEndian>`, it is `u32be` here.
///
/// # Values
///
/// In any serde format a group is a map with its names, an array a sequence, and text is text. In formats that people read
/// (JSON) an array of `u8` is a sequence of numbers however long it is, and a float that is not finite is the text `NaN`,
/// `Infinity` or `-Infinity`, because JSON has no such numbers. In binary formats (MessagePack) an array of `u8` is bytes,
/// and floats keep their bits. (`serde_json` reads every float as it was written only with its feature `float_roundtrip`.)
///
/// # Examples
///
/// ```
/// use mproc_pubsub::Schema;
///
/// let pose = Schema::parse("x: f32, y: f32, flags: [u8; 2], joint: { id: u16be, name: text[4] }")?;
/// assert_eq!(pose.bytes(), 16);
///
/// let json = r#"{"x":0.5,"y":-2.0,"flags":[1,2],"joint":{"id":258,"name":"hip"}}"#;
/// let bytes = pose.write(&mut serde_json::Deserializer::from_str(json))?;
/// assert_eq!(bytes[8..], [1, 2, 1, 2, b'h', b'i', b'p', 0]);
/// assert_eq!(serde_json::to_string(&pose.value(&bytes)?)?, json);
///
/// let refused = pose.write(&mut serde_json::Deserializer::from_str(r#"{"x": 1, "flags": [1, 300]}"#));
/// assert!(refused.unwrap_err().to_string().starts_with("flags[1]: 300 is no u8"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Schema {
    shape: Shape,
}

impl Schema {
    /// Reads a schema.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] says what is wrong, and at which character.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::Schema;
    ///
    /// let wrong = Schema::parse("x: f64, ok: bool").unwrap_err();
    /// assert_eq!(wrong.to_string(), "schema, character 13: bool is no plain data; use u8");
    /// assert_eq!(wrong.at(), 13);
    /// ```
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        Ok(Self {
            shape: parse::schema(text)?,
        })
    }

    /// The schema of a topic's values, from what is known of their type: the one that is announced, else what the type's name
    /// says (`f64`, `[f64; 3]`, `zerocopy::byteorder::U32<BigEndian>`). Of slices it is the schema of an element. `None` if that is
    /// not known, and for values that are no plain data: MessagePack says itself what it holds.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::{CodecKind, Schema, TypeInfo};
    ///
    /// let points = TypeInfo::new("[[f32; 3]]", 1, CodecKind::Slices);
    /// assert_eq!(Schema::of(&points).unwrap().to_string(), "[f32; 3]");
    /// let unknown = TypeInfo::new("robot::Pose", 2, CodecKind::Plain);
    /// assert_eq!(Schema::of(&unknown), None);
    /// assert_eq!(Schema::of(&unknown.with_schema("x: f64")).unwrap().bytes(), 8);
    /// ```
    pub fn of(info: &TypeInfo) -> Option<Self> {
        if !matches!(info.codec, CodecKind::Plain | CodecKind::Slices) {
            return None;
        }
        if let Some(schema) = &info.schema {
            return Self::parse(schema).ok();
        }
        let mut name = codec::short_name(&info.type_name);
        for (order, ending) in [("<BigEndian>", "be"), ("<LittleEndian>", "le")] {
            for number in [
                "U16", "U32", "U64", "U128", "I16", "I32", "I64", "I128", "F32", "F64",
            ] {
                let theirs = format!("{number}{order}");
                let ours = format!("{}{ending}", number.to_lowercase());
                name = name.replace(&theirs, &ours);
            }
        }
        if info.codec == CodecKind::Slices {
            name = name.strip_prefix('[')?.strip_suffix(']')?.to_owned();
        }
        Self::parse(&name).ok()
    }

    /// How many bytes a value has.
    pub fn bytes(&self) -> usize {
        self.shape.bytes()
    }

    /// The value that `bytes` are, to be written in any serde format. It reads them in place.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if they are not as many as a value has.
    pub fn value<'a>(&'a self, bytes: &'a [u8]) -> Result<impl Serialize + use<'a>, CodecError> {
        self.check(bytes)?;
        Ok(value::Value::new(&self.shape, bytes))
    }

    /// As [`value`](Self::value), for a slice: a sequence of as many values as there are.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if they are no whole number of values.
    pub fn values<'a>(&'a self, bytes: &'a [u8]) -> Result<impl Serialize + use<'a>, CodecError> {
        self.check_values(bytes)?;
        Ok(value::Values::new(&self.shape, bytes))
    }

    /// The bytes of a value of any serde format.
    ///
    /// Any number of the format will do that the field can hold: `1` and `1.0` for a float or an integer; an `f32` is rounded to.
    ///
    /// # Errors
    ///
    /// The format's own, which names the field by its path (`joint.flags[2]`): a field that is missing or unknown or there twice, a
    /// number out of its range, another type, a sequence of another length, a text that is too long.
    pub fn write<'de, D: Deserializer<'de>>(&self, value: D) -> Result<Vec<u8>, D::Error> {
        write::value(&self.shape, value)
    }

    /// As [`write`](Self::write), for a slice: of a sequence of values.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    pub fn write_values<'de, D: Deserializer<'de>>(&self, values: D) -> Result<Vec<u8>, D::Error> {
        write::values(&self.shape, values)
    }

    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), CodecError> {
        if bytes.len() == self.bytes() {
            return Ok(());
        }
        Err(CodecError::new(format!(
            "{} bytes are no value of {} bytes",
            bytes.len(),
            self.bytes()
        )))
    }

    pub(crate) fn check_values(&self, bytes: &[u8]) -> Result<(), CodecError> {
        // No shape has 0 bytes.
        if bytes.len().is_multiple_of(self.bytes()) {
            return Ok(());
        }
        Err(CodecError::new(format!(
            "{} bytes are no whole number of values of {} bytes",
            bytes.len(),
            self.bytes()
        )))
    }
}

impl FromStr for Schema {
    type Err = SchemaError;

    fn from_str(text: &str) -> Result<Self, SchemaError> {
        Self::parse(text)
    }
}

impl fmt::Display for Schema {
    /// In the language that [`parse`](Self::parse) reads.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.shape {
            Shape::Group(group) => group.fields_fmt(f),
            other => other.fmt(f),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({self})")
    }
}
