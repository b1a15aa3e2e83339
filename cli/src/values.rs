//! Values as people write them, and as they travel.
//!
//! Serde values travel as MessagePack, which says what it holds. Plain values are read by their schema, if there is one. What
//! cannot be read is shown as bytes, in hexadecimal.

use mproc::{CodecKind, Schema, TypeInfo};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::fmt::{self, Write as _};

/// How deep values may be nested, as in JSON. They come from outside, and each level takes some of the stack.
const DEPTH_MAX: usize = 128;

/// Reads and writes the values of one topic.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    info: TypeInfo,
    schema: Option<Schema>,
}

/// Why a value was not read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ValueError(pub(crate) String);

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ValueError {}

fn wrong(error: impl fmt::Display) -> ValueError {
    ValueError(error.to_string())
}

impl Values {
    pub(crate) fn new(info: &TypeInfo) -> Self {
        Self {
            info: info.clone(),
            schema: Schema::of(info),
        }
    }

    pub(crate) fn info(&self) -> &TypeInfo {
        &self.info
    }

    /// True if values can be told by name and number, and not by bytes only.
    pub(crate) fn is_readable(&self) -> bool {
        match self.info.codec {
            CodecKind::Serde => true,
            _ => self.schema.is_some(),
        }
    }

    /// The value that `bytes` stand for; `None` if values of this type can only be shown as bytes.
    pub(crate) fn read(&self, bytes: &[u8]) -> Result<Option<Value>, ValueError> {
        match (&self.info.codec, &self.schema) {
            (CodecKind::Serde, _) => message_pack(bytes).map(Some),
            (CodecKind::Plain, Some(schema)) => to_json(schema.value(bytes)),
            (CodecKind::Slices, Some(schema)) => to_json(schema.values(bytes)),
            _ => Ok(None),
        }
    }

    /// The first `count` elements of a slice, and how many there are, if it has more than that: a picture has millions. `None` if
    /// it has not, and for what is no slice.
    pub(crate) fn read_first(
        &self,
        bytes: &[u8],
        count: usize,
    ) -> Result<Option<(Value, usize)>, ValueError> {
        let (CodecKind::Slices, Some(schema)) = (&self.info.codec, &self.schema) else {
            return Ok(None);
        };
        let size = schema.bytes().max(1);
        let first = count.checked_mul(size).and_then(|end| bytes.get(..end));
        match first {
            Some(first) if first.len() < bytes.len() && bytes.len().is_multiple_of(size) => {
                let value = to_json(schema.values(first))?;
                Ok(value.map(|value| (value, bytes.len() / size)))
            }
            _ => Ok(None),
        }
    }

    /// The bytes in which `value` travels.
    pub(crate) fn write(&self, value: &Value) -> Result<Vec<u8>, ValueError> {
        match (&self.info.codec, &self.schema) {
            (CodecKind::Serde, _) => rmp_serde::to_vec_named(value).map_err(wrong),
            (CodecKind::Plain, Some(schema)) => schema.write(value).map_err(wrong),
            (CodecKind::Slices, Some(schema)) => schema.write_values(value).map_err(wrong),
            _ => Err(ValueError(format!(
                "values of type {} are plain data without a schema",
                self.info.type_name
            ))),
        }
    }
}

fn to_json<E: fmt::Display>(value: Result<impl Serialize, E>) -> Result<Option<Value>, ValueError> {
    serde_json::to_value(value.map_err(wrong)?)
        .map(Some)
        .map_err(wrong)
}

/// The JSON of one MessagePack value.
pub(crate) fn message_pack(bytes: &[u8]) -> Result<Value, ValueError> {
    let mut rest = bytes;
    let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
    deserializer.set_max_depth(DEPTH_MAX);
    let Any(value) = Any::deserialize(&mut deserializer).map_err(wrong)?;
    match rest.len() {
        0 => Ok(value),
        n => Err(ValueError(format!(
            "{n} bytes are left over after the value"
        ))),
    }
}

/// Whatever stands there. JSON has less than MessagePack: bytes become numbers, keys of maps that are no text become text.
struct Any(Value);

impl<'de> Deserialize<'de> for Any {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor).map(Self)
    }
}

struct AnyVisitor;

impl<'de> Visitor<'de> for AnyVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, is: bool) -> Result<Value, E> {
        Ok(is.into())
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        // JSON has no such numbers: they become text, as in the values of schemas.
        Ok(match number {
            n if n.is_nan() => "NaN".into(),
            f64::INFINITY => "Infinity".into(),
            f64::NEG_INFINITY => "-Infinity".into(),
            n => n.into(),
        })
    }

    fn visit_f32<E: serde::de::Error>(self, number: f32) -> Result<Value, E> {
        // As many digits as it has itself: 0.1 and not 0.10000000149011612.
        match number.is_finite() {
            true => self.visit_f64(number.to_string().parse().unwrap_or(f64::from(number))),
            false => self.visit_f64(f64::from(number)),
        }
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
        Ok(bytes.iter().copied().map(Value::from).collect())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, inside: D) -> Result<Value, D::Error> {
        inside.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inside: D) -> Result<Value, D::Error> {
        inside.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut all = Vec::new();
        while let Some(Any(value)) = values.next_element()? {
            all.push(value);
        }
        Ok(Value::Array(all))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut all = Map::new();
        while let Some((Any(key), Any(value))) = fields.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            all.insert(key, value);
        }
        Ok(Value::Object(all))
    }
}

/// Bytes as people see them: `0x` and two digits each; what is beyond `count_max` is counted.
pub(crate) fn hexadecimal(bytes: &[u8], count_max: usize) -> String {
    let mut text = String::from("0x");
    for byte in bytes.iter().take(count_max) {
        let _never_fails = write!(text, "{byte:02x}");
    }
    if bytes.len() > count_max {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    #[test]
    fn all_of_message_pack_has_a_shape_in_json() {
        let read = |bytes: &[u8]| message_pack(bytes).unwrap();
        let of = |value: &dyn Fn() -> Vec<u8>| read(&value());
        let keys = BTreeMap::from([(7_u32, 0.1_f32), (9, f32::NAN)]);
        assert_eq!(
            of(&|| rmp_serde::to_vec_named(&keys).unwrap()),
            json!({"7": 0.1, "9": "NaN"})
        );
        assert_eq!(read(&[0xc4, 2, 1, 255]), json!([1, 255]));
        assert_eq!(read(&[0xd4, 5, 1]), json!([5, [1]]));
        let pair = (u64::MAX, (), Some(-1.5), "x");
        assert_eq!(
            of(&|| rmp_serde::to_vec_named(&pair).unwrap()),
            json!([u64::MAX, null, -1.5, "x"])
        );
    }

    #[test]
    fn of_a_long_slice_only_what_is_shown_is_read() {
        let values = Values::new(&TypeInfo::new("[u16]", 1, CodecKind::Slices));
        let bytes: Vec<u8> = (0..100_u16).flat_map(u16::to_ne_bytes).collect();
        let first = values.read_first(&bytes, 3).unwrap();
        assert_eq!(first, Some((json!([0, 1, 2]), 100)));
        assert_eq!(values.read_first(&bytes, 100), Ok(None));
        assert_eq!(values.read_first(&bytes, usize::MAX), Ok(None));
        // That is no slice, which `read` says.
        assert_eq!(values.read_first(&bytes[1..], 3), Ok(None));
        assert!(values.read(&bytes[1..]).is_err());
    }

    #[test]
    fn bytes_that_are_no_value_are_refused() {
        assert!(message_pack(&[]).is_err());
        assert_eq!(
            message_pack(&[1, 2]).unwrap_err().to_string(),
            "1 bytes are left over after the value"
        );
        // As deep as it goes: refused, and no stack is used up.
        assert!(message_pack(&[0x91; 1_000_000]).is_err());
        assert!(message_pack(&[0xdd, 0xff, 0xff, 0xff, 0xff, 1]).is_err());
    }

    #[test]
    fn bytes_are_cut_and_counted() {
        assert_eq!(hexadecimal(&[1, 255], 2), "0x01ff");
        assert_eq!(hexadecimal(&[1, 255, 3], 2), "0x01ff... (3 bytes)");
    }
}
