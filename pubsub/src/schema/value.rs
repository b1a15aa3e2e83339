//! Bytes as a value that any serde format can write.

use super::shape::{Kind, Number, Shape};
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

/// One value: as many bytes as its shape has.
pub(super) struct Value<'a> {
    shape: &'a Shape,
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    pub(super) fn new(shape: &'a Shape, bytes: &'a [u8]) -> Self {
        Self { shape, bytes }
    }
}

/// A whole number of values.
pub(super) struct Values<'a> {
    shape: &'a Shape,
    bytes: &'a [u8],
}

impl<'a> Values<'a> {
    pub(super) fn new(shape: &'a Shape, bytes: &'a [u8]) -> Self {
        Self { shape, bytes }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.shape {
            Shape::Number(number) => write_number(*number, self.bytes, serializer),
            Shape::Text(_) => {
                let end = self.bytes.iter().position(|byte| *byte == 0);
                let text = &self.bytes[..end.unwrap_or(self.bytes.len())];
                serializer.serialize_str(&String::from_utf8_lossy(text))
            }
            Shape::Array(element, _) => Values::new(element, self.bytes).serialize(serializer),
            Shape::Group(group) => {
                let mut map = serializer.serialize_map(Some(group.fields.len()))?;
                for field in &group.fields {
                    let end = field.offset + field.shape.bytes();
                    let value = Value::new(&field.shape, &self.bytes[field.offset..end]);
                    map.serialize_entry(&field.name, &value)?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for Values<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.shape.is_byte() && !serializer.is_human_readable() {
            return serializer.serialize_bytes(self.bytes);
        }
        let size = self.shape.bytes();
        let mut sequence = serializer.serialize_seq(Some(self.bytes.len() / size))?;
        for bytes in self.bytes.chunks_exact(size) {
            sequence.serialize_element(&Value::new(self.shape, bytes))?;
        }
        sequence.end()
    }
}

fn write_number<S: Serializer>(
    number: Number,
    bytes: &[u8],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let bits = number.read(bytes);
    // Each has no more bits than its kind.
    match number.kind {
        Kind::U8 => serializer.serialize_u8(bits as u8),
        Kind::U16 => serializer.serialize_u16(bits as u16),
        Kind::U32 => serializer.serialize_u32(bits as u32),
        Kind::U64 => serializer.serialize_u64(bits as u64),
        Kind::U128 => serializer.serialize_u128(bits),
        Kind::I8 => serializer.serialize_i8(bits as i8),
        Kind::I16 => serializer.serialize_i16(bits as i16),
        Kind::I32 => serializer.serialize_i32(bits as i32),
        Kind::I64 => serializer.serialize_i64(bits as i64),
        Kind::I128 => serializer.serialize_i128(bits as i128),
        Kind::F32 => {
            let value = f32::from_bits(bits as u32);
            match name_of(f64::from(value)).filter(|_| serializer.is_human_readable()) {
                Some(name) => serializer.serialize_str(name),
                None => serializer.serialize_f32(value),
            }
        }
        Kind::F64 => {
            let value = f64::from_bits(bits as u64);
            match name_of(value).filter(|_| serializer.is_human_readable()) {
                Some(name) => serializer.serialize_str(name),
                None => serializer.serialize_f64(value),
            }
        }
    }
}

/// What a float is called that is not finite.
pub(super) fn name_of(value: f64) -> Option<&'static str> {
    if value.is_nan() {
        Some("NaN")
    } else if value == f64::INFINITY {
        Some("Infinity")
    } else if value == f64::NEG_INFINITY {
        Some("-Infinity")
    } else {
        None
    }
}
