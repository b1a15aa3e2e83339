//! What a schema is made of.

use std::fmt;

/// A value's layout. It has at least one byte, so that the number of values is bounded by that of bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Number(Number),
    /// So many bytes of UTF-8.
    Text(usize),
    Array(Box<Shape>, usize),
    Group(Group),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) fields: Vec<Field>,
    pub(super) bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) shape: Shape,
    /// Where it begins in its group.
    pub(super) offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) kind: Kind,
    pub(super) order: Order,
}

/// `usize` and `isize` are the kinds of their width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    U8,
    U16,
    U32,
    U64,
    U128,
    I8,
    I16,
    I32,
    I64,
    I128,
    F32,
    F64,
}

/// The order of a number's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// The machine's own.
    Native,
    Little,
    Big,
}

impl Kind {
    pub(super) const ALL: [(&'static str, Self); 12] = [
        ("u8", Self::U8),
        ("u16", Self::U16),
        ("u32", Self::U32),
        ("u64", Self::U64),
        ("u128", Self::U128),
        ("i8", Self::I8),
        ("i16", Self::I16),
        ("i32", Self::I32),
        ("i64", Self::I64),
        ("i128", Self::I128),
        ("f32", Self::F32),
        ("f64", Self::F64),
    ];

    pub(super) fn name(self) -> &'static str {
        let all = Self::ALL.iter();
        all.filter(|(_, kind)| *kind == self)
            .map(|(name, _)| *name)
            .next()
            .unwrap_or_default()
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 => 8,
            Self::U128 | Self::I128 => 16,
        }
    }
}

impl Number {
    /// The number of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        let (kind, order) = match name {
            "usize" if cfg!(target_pointer_width = "64") => ("u64", Order::Native),
            "isize" if cfg!(target_pointer_width = "64") => ("i64", Order::Native),
            "usize" => ("u32", Order::Native),
            "isize" => ("i32", Order::Native),
            _ => match (name.strip_suffix("le"), name.strip_suffix("be")) {
                (Some(kind), _) => (kind, Order::Little),
                (_, Some(kind)) => (kind, Order::Big),
                _ => (name, Order::Native),
            },
        };
        let (_, kind) = Kind::ALL.into_iter().find(|(known, _)| *known == kind)?;
        // One byte has no order.
        (kind.bytes() > 1 || order == Order::Native).then_some(Self { kind, order })
    }

    pub(super) fn is_byte(self) -> bool {
        self.kind == Kind::U8
    }

    fn is_little(self) -> bool {
        match self.order {
            Order::Native => cfg!(target_endian = "little"),
            Order::Little => true,
            Order::Big => false,
        }
    }

    /// Its bits, from its bytes.
    pub(super) fn read(self, bytes: &[u8]) -> u128 {
        let fold = |bits: u128, byte: &u8| bits << 8 | u128::from(*byte);
        match self.is_little() {
            true => bytes.iter().rev().fold(0, fold),
            false => bytes.iter().fold(0, fold),
        }
    }

    /// Its bytes, from its bits.
    pub(super) fn write(self, bits: u128, room: &mut [u8]) {
        let little = bits.to_le_bytes();
        for (byte, bits) in room.iter_mut().zip(little) {
            *byte = bits;
        }
        if !self.is_little() {
            room.reverse();
        }
    }
}

impl Shape {
    /// At least 1.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Number(number) => number.kind.bytes(),
            Self::Text(bytes) => *bytes,
            // The parser has seen that it is not too large.
            Self::Array(element, count) => element.bytes() * count,
            Self::Group(group) => group.bytes,
        }
    }

    pub(super) fn is_byte(&self) -> bool {
        matches!(self, Self::Number(number) if number.is_byte())
    }
}

impl Group {
    pub(super) fn fields_fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, field) in self.fields.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", field.name, field.shape)?;
        }
        Ok(())
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.order {
            Order::Native => "",
            Order::Little => "le",
            Order::Big => "be",
        };
        write!(f, "{}{order}", self.kind.name())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Text(bytes) => write!(f, "text[{bytes}]"),
            Self::Array(element, count) => write!(f, "[{element}; {count}]"),
            Self::Group(group) => {
                f.write_str("{ ")?;
                group.fields_fmt(f)?;
                f.write_str(" }")
            }
        }
    }
}
