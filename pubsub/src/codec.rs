//! How values of a topic become bytes and come back. Within a process nothing is encoded unless somebody asks.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Which kind of codec a topic has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
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

type Encode<T> = fn(&T) -> Result<Vec<u8>, CodecError>;
type Decode<T> = fn(&[u8]) -> Result<Box<T>, CodecError>;

/// The codec of values of type `T`, chosen by the topic's constructor.
pub struct Codec<T: ?Sized> {
    kind: CodecKind,
    encode: Encode<T>,
    decode: Decode<T>,
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
                let mut rest = bytes;
                let value =
                    rmp_serde::from_read(&mut rest).map_err(|e| CodecError(e.to_string()))?;
                if rest.is_empty() {
                    Ok(Box::new(value))
                } else {
                    Err(CodecError(format!(
                        "{} bytes are left over after the value",
                        rest.len()
                    )))
                }
            },
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable> Codec<T> {
    pub(crate) const fn plain() -> Self {
        Self {
            kind: CodecKind::Plain,
            encode: |value| Ok(value.as_bytes().to_vec()),
            decode: |bytes| match T::read_from_bytes(bytes) {
                Ok(value) => Ok(Box::new(value)),
                Err(_) => Err(wrong_length::<T>(bytes.len())),
            },
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
        }
    }
}

impl<T> Codec<T> {
    pub(crate) const fn local() -> Self {
        Self {
            kind: CodecKind::Local,
            encode: |_| {
                Err(CodecError(
                    "values of a local topic do not leave the process".into(),
                ))
            },
            decode: |_| {
                Err(CodecError(
                    "values of a local topic do not leave the process".into(),
                ))
            },
        }
    }
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
