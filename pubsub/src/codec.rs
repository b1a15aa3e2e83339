//! How values of a topic become bytes and come back. Within a process nothing is encoded unless somebody asks.

use crate::raw::{Raw, check_messagepack};
use rmp_serde::decode::Error;
use serde::Deserialize as _;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use std::fmt;
use std::io::ErrorKind;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// False if enums in enums cannot be too deep: each is a map, or a list, of one. To count what could begin one is quick, and mostly
/// says that the slow walk is not needed.
fn may_be_deep(bytes: &[u8]) -> bool {
    let begins = |byte: &u8| u8::from((*byte == 0x81) | (*byte == 0x91) | (*byte & 0xfc == 0xdc));
    // In pieces whose count fits into a byte: sixteen are counted at once then.
    let pieces = bytes.chunks(255);
    let count = pieces.map(|piece| usize::from(piece.iter().map(begins).sum::<u8>()));
    bytes.len() > DEPTH_MAX && count.sum::<usize>() > DEPTH_MAX
}

/// Which kind of codec a topic has.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[non_exhaustive]
pub enum CodecKind {
    /// MessagePack, by serde.
    Serde,
    /// The bytes themselves: every bit pattern is valid.
    Plain,
    /// A slice of plain values.
    Slices,
    /// None: values do not leave the process.
    Local,
}

/// How deep MessagePack may be nested, as JSON in `serde_json`. It comes from other processes, and each level takes some of the
/// reader's stack: at 1024 levels, where the decoder would end, a small stack has long been used up.
pub(crate) const DEPTH_MAX: usize = 128;

type Encode<T> = fn(&T) -> Result<Vec<u8>, CodecError>;
type Decode<T> = fn(&[u8]) -> Result<Box<T>, CodecError>;

/// The codec of values of type `T`, chosen by the topic's constructor.
pub struct Codec<T: ?Sized> {
    kind: CodecKind,
    encode: Encode<T>,
    decode: Decode<T>,
    /// How many bytes a value has.
    measure: fn(&T) -> Result<usize, CodecError>,
    /// Writes a value into memory, and says how many bytes it has taken.
    write: fn(&T, &mut [u8]) -> Result<usize, WriteError>,
    /// What makes the bytes themselves a value, for codecs whose values are read in place.
    in_place: Option<InPlace<T>>,
    /// Equal for types that understand each other's bytes.
    hash: fn() -> u64,
    /// How many bytes each plain value has. 0 for codecs whose values have no fixed size.
    value_bytes: usize,
}

/// The bytes of a value as the value. `None` if they are not one: their number or their alignment is wrong.
pub(crate) struct InPlace<T: ?Sized> {
    pub(crate) view: fn(&[u8]) -> Option<&T>,
    pub(crate) view_mut: fn(&mut [u8]) -> Option<&mut T>,
}

/// Why a value was not written.
pub(crate) enum WriteError {
    /// It has more bytes than there is room for.
    NoRoom,
    Codec(CodecError),
}

impl<T: ?Sized> Codec<T> {
    /// Its kind.
    pub fn kind(&self) -> CodecKind {
        self.kind
    }

    pub(crate) fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        (self.encode)(value)
    }

    pub(crate) fn decode(&self, bytes: &[u8]) -> Result<Box<T>, CodecError> {
        (self.decode)(bytes)
    }

    /// How many bytes the value has.
    pub(crate) fn measure(&self, value: &T) -> Result<usize, CodecError> {
        (self.measure)(value)
    }

    /// Writes the value into `room`, and returns how many bytes it has.
    pub(crate) fn write(&self, value: &T, room: &mut [u8]) -> Result<usize, WriteError> {
        (self.write)(value, room)
    }

    /// For codecs whose values are read in place.
    pub(crate) fn in_place(&self) -> Option<&InPlace<T>> {
        self.in_place.as_ref()
    }

    /// Equal for types that understand each other's bytes. Modules do not count, so that two programs may each have the
    /// type as their own; for values that are read in place size and alignment do.
    pub(crate) fn hash(&self) -> u64 {
        (self.hash)()
    }

    /// How many bytes each plain value has: each element, of slices. `None` for codecs whose values have no fixed size.
    pub(crate) fn value_bytes(&self) -> Option<usize> {
        match self.kind {
            CodecKind::Plain | CodecKind::Slices => Some(self.value_bytes),
            CodecKind::Serde | CodecKind::Local => None,
        }
    }
}

fn type_hash<T: ?Sized>(more: &[u64]) -> u64 {
    hash_of(std::any::type_name::<T>(), more)
}

/// The 64-bit FNV-1a hash of a type's name without modules, and of `more`.
pub(crate) fn hash_of(type_name: &str, more: &[u64]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325_u64;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    short_name(type_name).bytes().for_each(&mut mix);
    more.iter().flat_map(|n| n.to_le_bytes()).for_each(&mut mix);
    hash
}

/// A type's name without the modules: `alloc::vec::Vec<a::b::C>` is `Vec<C>`.
pub(crate) fn short_name(name: &str) -> String {
    let mut short = String::new();
    let mut word = String::new();
    let mut rest = name.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else if c == ':' && rest.peek() == Some(&':') {
            rest.next();
            word.clear();
        } else {
            short.push_str(&word);
            word.clear();
            short.push(c);
        }
    }
    short + &word
}

/// Counts what is written and keeps nothing.
#[derive(Default)]
struct Counting(usize);

impl std::io::Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes into memory, and counts what does not fit.
struct Bounded<'a> {
    room: &'a mut [u8],
    written: usize,
}

impl std::io::Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(room) = self.room.get_mut(self.written..self.written + bytes.len()) {
            room.copy_from_slice(bytes);
        }
        self.written += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn write_bytes(bytes: &[u8], room: &mut [u8]) -> Result<usize, WriteError> {
    let room = room.get_mut(..bytes.len()).ok_or(WriteError::NoRoom)?;
    room.copy_from_slice(bytes);
    Ok(bytes.len())
}

impl<T: ?Sized> fmt::Debug for Codec<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codec({:?})", self.kind)
    }
}

impl<T: Serialize + DeserializeOwned> Codec<T> {
    pub(crate) const fn serde() -> Self {
        Self {
            kind: CodecKind::Serde,
            // Maps with field names: readable without the program's types.
            encode: |value| rmp_serde::to_vec_named(value).map_err(|e| CodecError(e.to_string())),
            decode: |bytes| {
                // The decoder does not count enums in enums.
                if may_be_deep(bytes) {
                    check_messagepack(bytes).map_err(|wrong| CodecError(wrong.to_string()))?;
                }
                let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
                // It refuses the level at which its count is used up.
                reader.set_max_depth(DEPTH_MAX + 1);
                let value = T::deserialize(&mut reader).map_err(|e| CodecError(e.to_string()))?;
                // It does not say how far it has come, but that it is at the end.
                match IgnoredAny::deserialize(&mut reader) {
                    Err(Error::InvalidMarkerRead(e)) if e.kind() == ErrorKind::UnexpectedEof => {
                        Ok(Box::new(value))
                    }
                    _ => Err(CodecError::new("bytes are left over after the value")),
                }
            },
            measure: |value| {
                let mut counting = Counting::default();
                rmp_serde::encode::write_named(&mut counting, value)
                    .map_err(|e| CodecError(e.to_string()))?;
                Ok(counting.0)
            },
            write: |value, room| {
                let length = room.len();
                let mut bounded = Bounded { room, written: 0 };
                rmp_serde::encode::write_named(&mut bounded, value)
                    .map_err(|e| WriteError::Codec(CodecError(e.to_string())))?;
                if bounded.written <= length {
                    Ok(bounded.written)
                } else {
                    Err(WriteError::NoRoom)
                }
            },
            in_place: None,
            hash: || type_hash::<T>(&[]),
            value_bytes: 0,
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Codec<T> {
    pub(crate) const fn plain() -> Self {
        Self {
            kind: CodecKind::Plain,
            encode: |value| Ok(value.as_bytes().to_vec()),
            decode: |bytes| match T::read_from_bytes(bytes) {
                Ok(value) => Ok(Box::new(value)),
                Err(_) => Err(wrong_length::<T>(bytes.len())),
            },
            measure: |_| Ok(size_of::<T>()),
            write: |value, room| write_bytes(value.as_bytes(), room),
            in_place: Some(InPlace {
                view: |bytes| T::ref_from_bytes(bytes).ok(),
                view_mut: |bytes| T::mut_from_bytes(bytes).ok(),
            }),
            hash: || type_hash::<T>(&[size_of::<T>() as u64, align_of::<T>() as u64]),
            value_bytes: size_of::<T>(),
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Codec<[T]> {
    pub(crate) const fn slices() -> Self {
        Self {
            kind: CodecKind::Slices,
            encode: |values| Ok(values.as_bytes().to_vec()),
            decode: |bytes| {
                if size_of::<T>() == 0 || bytes.len() % size_of::<T>() != 0 {
                    return Err(wrong_length::<T>(bytes.len()));
                }
                bytes
                    .chunks_exact(size_of::<T>())
                    .map(|chunk| {
                        T::read_from_bytes(chunk).map_err(|_| wrong_length::<T>(chunk.len()))
                    })
                    .collect()
            },
            measure: |values| Ok(size_of_val(values)),
            write: |values, room| write_bytes(values.as_bytes(), room),
            in_place: Some(InPlace {
                view: |bytes| <[T]>::ref_from_bytes(bytes).ok(),
                view_mut: |bytes| <[T]>::mut_from_bytes(bytes).ok(),
            }),
            hash: || type_hash::<[T]>(&[size_of::<T>() as u64, align_of::<T>() as u64]),
            value_bytes: size_of::<T>(),
        }
    }
}

impl Codec<Raw> {
    /// Of values that are bytes already, and travel as `kind` says. Whoever reads them knows their type from elsewhere: from
    /// the topic's [`TypeInfo`](crate::TypeInfo), which also has their hash.
    pub(crate) const fn raw(kind: CodecKind) -> Self {
        Self {
            kind,
            encode: |value| value.encoded().map(<[u8]>::to_vec),
            decode: |_| Err(CodecError::new("raw bytes are not decoded")),
            measure: |value| value.encoded().map(<[u8]>::len),
            write: |value, room| {
                let bytes = value.encoded().map_err(WriteError::Codec)?;
                write_bytes(bytes, room)
            },
            in_place: None,
            hash: || 0,
            value_bytes: 0,
        }
    }
}

impl<T> Codec<T> {
    pub(crate) const fn local() -> Self {
        Self {
            kind: CodecKind::Local,
            encode: |_| Err(stays_here()),
            decode: |_| Err(stays_here()),
            measure: |_| Err(stays_here()),
            write: |_, _| Err(WriteError::Codec(stays_here())),
            in_place: None,
            hash: || type_hash::<T>(&[]),
            value_bytes: 0,
        }
    }
}

fn stays_here() -> CodecError {
    CodecError("values of a local topic do not leave the process".into())
}

fn wrong_length<T>(bytes: usize) -> CodecError {
    CodecError(format!(
        "{bytes} bytes are no whole number of {} ({} bytes each)",
        std::any::type_name::<T>(),
        size_of::<T>()
    ))
}

/// Why a value could not be encoded or decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodecError(String);

impl CodecError {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for CodecError {}

impl From<CodecError> for mproc_runtime::Error {
    fn from(error: CodecError) -> Self {
        Self::new(mproc_runtime::ErrorKind::Codec, error.0)
    }
}
