//! Any serde format's value as bytes.
//!
//! Every level has a place: the path of what is being written, for errors, and its room in the bytes.

use super::shape::{Group, Kind, Number, Shape};
use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

pub(super) fn value<'de, D: Deserializer<'de>>(
    shape: &Shape,
    value: D,
) -> Result<Vec<u8>, D::Error> {
    let mut bytes = vec![0; shape.bytes()];
    let place = Place {
        shape,
        path: &Path::Top,
        room: &mut bytes,
    };
    place.deserialize(value)?;
    Ok(bytes)
}

pub(super) fn values<'de, D: Deserializer<'de>>(
    shape: &Shape,
    values: D,
) -> Result<Vec<u8>, D::Error> {
    let visitor = Slice { shape };
    match shape.is_byte() && !values.is_human_readable() {
        true => values.deserialize_bytes(visitor),
        false => values.deserialize_seq(visitor),
    }
}

/// Which value of a value.
enum Path<'a> {
    Top,
    Field(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Top => Ok(()),
            Self::Field(Self::Top, name) => f.write_str(name),
            Self::Field(path, name) => write!(f, "{path}.{name}"),
            Self::Element(path, index) => write!(f, "{path}[{index}]"),
        }
    }
}

impl Path<'_> {
    /// The error `what`, of the value of this path.
    fn wrong<E: Error>(&self, what: impl fmt::Display) -> E {
        match self {
            Self::Top => E::custom(what),
            _ => E::custom(format_args!("{self}: {what}")),
        }
    }

    /// For what formats say of a value of another type.
    fn expecting(&self, f: &mut fmt::Formatter<'_>, what: &dyn fmt::Display) -> fmt::Result {
        match self {
            Self::Top => write!(f, "{what}"),
            _ => write!(f, "{what} for {self}"),
        }
    }
}

struct Place<'a> {
    shape: &'a Shape,
    path: &'a Path<'a>,
    /// As many bytes as the shape has.
    room: &'a mut [u8],
}

impl<'de> DeserializeSeed<'de> for Place<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Place { shape, path, room } = self;
        match shape {
            Shape::Number(number) => {
                let visitor = OfNumber {
                    number: *number,
                    path,
                    room,
                };
                match number.kind {
                    // Formats have no such numbers unless they are asked for them.
                    Kind::U128 => deserializer.deserialize_u128(visitor),
                    Kind::I128 => deserializer.deserialize_i128(visitor),
                    _ => deserializer.deserialize_any(visitor),
                }
            }
            Shape::Text(_) => deserializer.deserialize_str(OfText { path, room }),
            Shape::Array(element, count) => {
                let visitor = OfArray {
                    element,
                    count: *count,
                    path,
                    room,
                };
                match element.is_byte() && !deserializer.is_human_readable() {
                    true => deserializer.deserialize_bytes(visitor),
                    false => deserializer.deserialize_seq(visitor),
                }
            }
            Shape::Group(group) => deserializer.deserialize_map(OfGroup { group, path, room }),
        }
    }
}

struct OfNumber<'a> {
    number: Number,
    path: &'a Path<'a>,
    room: &'a mut [u8],
}

impl OfNumber<'_> {
    fn out_of_range<E: Error>(&self, value: impl fmt::Display) -> E {
        let kind = self.number.kind.name();
        self.path.wrong(format_args!("{value} is no {kind}"))
    }

    /// `sign` of `magnitude`.
    fn integer<E: Error>(self, is_negative: bool, magnitude: u128) -> Result<(), E> {
        let shown = || format!("{}{magnitude}", if is_negative { "-" } else { "" });
        let bits = 8 * self.number.kind.bytes() as u32;
        let all = u128::MAX >> (128 - bits);
        let fits = match self.number.kind {
            // By way of the other, which sees what is too large.
            Kind::F32 | Kind::F64 => {
                let value = magnitude as f64;
                return self.float64(if is_negative { -value } else { value });
            }
            Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 | Kind::U128 => match is_negative {
                true => magnitude == 0,
                false => magnitude <= all,
            },
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::I128 => match is_negative {
                true => magnitude <= all / 2 + 1,
                false => magnitude <= all / 2,
            },
        };
        if !fits {
            let kind = self.number.kind;
            let bounds = match kind {
                Kind::U8 | Kind::U16 | Kind::U32 | Kind::U64 | Kind::U128 => format!("0 to {all}"),
                _ => format!("-{} to {}", all / 2 + 1, all / 2),
            };
            let what = format!("{} is no {}, which is {bounds}", shown(), kind.name());
            return Err(self.path.wrong(what));
        }
        let value = if is_negative {
            magnitude.wrapping_neg()
        } else {
            magnitude
        };
        self.number.write(value, self.room);
        Ok(())
    }

    fn float32<E: Error>(self, value: f32) -> Result<(), E> {
        match self.number.kind {
            Kind::F32 => {
                self.number.write(u128::from(value.to_bits()), self.room);
                Ok(())
            }
            _ => self.float64(f64::from(value)),
        }
    }

    fn float64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.number.kind {
            Kind::F64 => {
                self.number.write(u128::from(value.to_bits()), self.room);
                Ok(())
            }
            Kind::F32 => {
                let narrow = value as f32;
                if narrow.is_infinite() && value.is_finite() {
                    return Err(self.out_of_range(value));
                }
                self.float32(narrow)
            }
            // 2^127 and what is above it no float needs to stand for.
            _ if value.fract() == 0.0 && value.abs() < 1.7e38 => {
                self.integer(value < 0.0, value.abs() as u128)
            }
            _ => Err(self.out_of_range(value)),
        }
    }
}

impl Visitor<'_> for OfNumber<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.number.kind.name();
        let article = if kind.starts_with('u') { "a" } else { "an" };
        self.path.expecting(f, &format_args!("{article} {kind}"))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(false, u128::from(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value < 0, u128::from(value.unsigned_abs()))
    }

    fn visit_u128<E: Error>(self, value: u128) -> Result<(), E> {
        self.integer(false, value)
    }

    fn visit_i128<E: Error>(self, value: i128) -> Result<(), E> {
        self.integer(value < 0, value.unsigned_abs())
    }

    fn visit_f32<E: Error>(self, value: f32) -> Result<(), E> {
        self.float32(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.float64(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let value = match text {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            _ => return Err(E::invalid_type(serde::de::Unexpected::Str(text), &self)),
        };
        match self.number.kind {
            Kind::F32 | Kind::F64 => self.float64(value),
            _ => Err(self.out_of_range(text)),
        }
    }
}

struct OfText<'a> {
    path: &'a Path<'a>,
    room: &'a mut [u8],
}

impl Visitor<'_> for OfText<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format_args!("text of at most {} bytes", self.room.len());
        self.path.expecting(f, &what)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let bytes = text.as_bytes();
        if bytes.contains(&0) {
            return Err(self
                .path
                .wrong("a text with a zero byte, which would end it"));
        }
        match self.room.get_mut(..bytes.len()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Ok(())
            }
            None => {
                let (has, most) = (bytes.len(), self.room.len());
                let what = format!("the text has {has} bytes, more than {most}");
                Err(self.path.wrong(what))
            }
        }
    }
}

struct OfArray<'a> {
    element: &'a Shape,
    count: usize,
    path: &'a Path<'a>,
    room: &'a mut [u8],
}

impl OfArray<'_> {
    fn wrong_count<E: Error>(&self, there: impl fmt::Display) -> E {
        let count = self.count;
        let what = format_args!("{there} elements where {count} are expected");
        self.path.wrong(what)
    }
}

impl<'de> Visitor<'de> for OfArray<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = format_args!("a sequence of {} elements", self.count);
        self.path.expecting(f, &what)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        let size = self.element.bytes();
        for (index, room) in self.room.chunks_exact_mut(size).enumerate() {
            let place = Place {
                shape: self.element,
                path: &Path::Element(self.path, index),
                room,
            };
            if sequence.next_element_seed(place)?.is_none() {
                return Err(self.wrong_count(index));
            }
        }
        match sequence.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(self.wrong_count("more")),
        }
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<(), E> {
        if !self.element.is_byte() {
            return Err(E::invalid_type(serde::de::Unexpected::Bytes(bytes), &self));
        }
        if bytes.len() != self.count {
            return Err(self.wrong_count(bytes.len()));
        }
        self.room.copy_from_slice(bytes);
        Ok(())
    }
}

struct OfGroup<'a> {
    group: &'a Group,
    path: &'a Path<'a>,
    room: &'a mut [u8],
}

impl<'de> Visitor<'de> for OfGroup<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.expecting(f, &"a map of fields")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let fields = &self.group.fields;
        let mut is_there = vec![false; fields.len()];
        // Values usually come in the order of the fields: look first at the one that is next.
        let mut next = 0;
        while let Some(name) = map.next_key::<String>()? {
            let path = Path::Field(self.path, &name);
            let is_it = |index: &usize| fields.get(*index).is_some_and(|f| f.name == name);
            let found = Some(next)
                .filter(is_it)
                .or_else(|| (0..fields.len()).find(is_it));
            let Some(index) = found else {
                let names: Vec<_> = fields.iter().map(|f| f.name.as_str()).collect();
                let what = format!("there is no such field, but {}", names.join(", "));
                return Err(path.wrong(what));
            };
            if std::mem::replace(&mut is_there[index], true) {
                return Err(path.wrong("the field is there twice"));
            }
            let field = &fields[index];
            let end = field.offset + field.shape.bytes();
            map.next_value_seed(Place {
                shape: &field.shape,
                path: &path,
                room: &mut self.room[field.offset..end],
            })?;
            next = index + 1;
        }
        match is_there.iter().position(|is_there| !is_there) {
            None => Ok(()),
            Some(missing) => {
                let path = Path::Field(self.path, &fields[missing].name);
                Err(path.wrong("the field is missing"))
            }
        }
    }
}

/// Values of a slice, as many as come.
struct Slice<'a> {
    shape: &'a Shape,
}

impl<'de> Visitor<'de> for Slice<'_> {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<u8>, A::Error> {
        let mut bytes = Vec::new();
        // Each is written into the same room first: how many come is not known.
        let mut room = vec![0; self.shape.bytes()];
        for index in 0.. {
            room.fill(0);
            let place = Place {
                shape: self.shape,
                path: &Path::Element(&Path::Top, index),
                room: &mut room,
            };
            if sequence.next_element_seed(place)?.is_none() {
                break;
            }
            bytes.extend_from_slice(&room);
        }
        Ok(bytes)
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        match self.shape.is_byte() {
            true => Ok(bytes.to_vec()),
            false => Err(E::invalid_type(serde::de::Unexpected::Bytes(bytes), &self)),
        }
    }
}
