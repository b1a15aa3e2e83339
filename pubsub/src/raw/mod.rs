//! Values without their Rust types: as the bytes in which they travel, with what is known of the type.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | [`TypeInfo`], and [`Raw`], the value that a tap gives |
//! | `tap.rs` | which topics a tap hears, here and at other nodes |
//! | `reading.rs` | bytes of other nodes, as they came |
//! | `told.rs` | how other nodes learn the schema of a topic |
//! | `publisher.rs` | who publishes bytes, and what is checked of them |
//! | `messagepack.rs` | whether bytes are one value of MessagePack |
//!
//! Schemas of plain data are in `schema/`, calls of services in `services/raw_client.rs`. How a topic of this process with a
//! Rust type comes to a tap is in `carried.rs`.

mod messagepack;
mod publisher;
mod reading;
mod tap;
mod told;

pub(crate) use messagepack::check as check_messagepack;
pub use publisher::RawPublisher;
pub(crate) use publisher::{Decoding, RawSink, check_schema};
pub(crate) use tap::{AsBytes, id_of};
pub(crate) use told::told;

use crate::codec::{self, CodecError, CodecKind};
use crate::sample::Body;
use crate::transport::Lease;
use serde::{Deserialize, Serialize};
use std::any::TypeId;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// What is known of the type of a topic's values without the type itself.
///
/// [`TopicSnapshot::info`](crate::TopicSnapshot::info) gives it for a topic of any program, [`Topic::info`](crate::Topic::info)
/// for one that is known here. It is all that a [`RawPublisher`] needs so that typed subscribers understand what it publishes.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{CodecKind, Topic, TypeInfo};
///
/// const WORDS: Topic<Vec<String>> = Topic::new("words");
/// let info = TypeInfo::serde("Vec<String>"); // modules do not count
/// assert_eq!(info.type_hash, WORDS.info().type_hash);
/// assert_eq!(info.codec, CodecKind::Serde);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TypeInfo {
    /// What the type is called, for people.
    pub type_name: String,
    /// Equal for types that understand each other's bytes.
    pub type_hash: u64,
    /// How values travel.
    pub codec: CodecKind,
    /// The layout of plain data as its topic announces it, in the language of [`Schema`](crate::Schema). [`Schema::of`] also
    /// knows the layout of numbers and arrays, which need not be announced. Values that come from another process have it, too,
    /// if it and the type's name have not more than 1,020 bytes together.
    ///
    /// [`Schema::of`]: crate::Schema::of
    #[serde(default)]
    pub schema: Option<String>,
}

impl TypeInfo {
    /// The type of this name and hash, without a schema.
    pub fn new(type_name: &str, type_hash: u64, codec: CodecKind) -> Self {
        Self {
            type_name: type_name.to_owned(),
            type_hash,
            codec,
            schema: None,
        }
    }

    /// With this schema. It is not checked here; [`Schema::parse`](crate::Schema::parse) does.
    #[must_use]
    pub fn with_schema(mut self, schema: &str) -> Self {
        self.schema = Some(schema.to_owned());
        self
    }

    /// The type of this name whose values travel as MessagePack. Its hash is what [`Topic::new`](crate::Topic::new) has for a
    /// type that is called so: `f64`, `Vec<String>`, `robot::Pose` or `Pose`.
    pub fn serde(type_name: &str) -> Self {
        Self::new(type_name, codec::hash_of(type_name, &[]), CodecKind::Serde)
    }
}

impl fmt::Display for TypeInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.type_name)
    }
}

/// The same for as long as the program runs. Each different one is kept, as names of topics are.
fn intern(info: &TypeInfo) -> &'static TypeInfo {
    static KNOWN: Mutex<BTreeSet<&'static TypeInfo>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = known.get(info) {
        return known;
    }
    let kept: &'static TypeInfo = Box::leak(Box::new(info.clone()));
    known.insert(kept);
    kept
}

/// True if a queue of these values is a tap: only those are of raw bytes.
pub(crate) fn is_tap<T: ?Sized + 'static>() -> bool {
    TypeId::of::<T>() == TypeId::of::<Raw>()
}

/// A value as the bytes in which it travels: MessagePack or plain data, as its [`info`](Self::info) says.
///
/// A [`tap`](crate::Graph::tap) receives `Sample<Raw>`. The sample has the header (topic, publisher, sequence, gap, published)
/// and the [parts](crate::Sample::parts), as any sample; dropping it gives the lease back. What came from another process is
/// read where that process filled it. What was published in this process is encoded when somebody first asks for the bytes, on
/// the asking thread, and once for all who ask.
pub struct Raw {
    info: Arc<TypeInfo>,
    bytes: Bytes,
}

enum Bytes {
    /// Those that a [`RawPublisher`] was given.
    Own(Box<[u8]>),
    /// A value that was published in this process.
    Value(Box<dyn Encodes>),
    /// What another process has filled, and where the value stands in it.
    Leased(Box<dyn Lease>, Range<usize>),
}

/// A published value whose type is forgotten.
trait Encodes: Send + Sync {
    fn encoded(&self) -> Result<&[u8], CodecError>;
}

struct Published<T: ?Sized + 'static>(Arc<dyn Body<T>>);

impl<T: ?Sized + Send + Sync + 'static> Encodes for Published<T> {
    fn encoded(&self) -> Result<&[u8], CodecError> {
        self.0.encoded()
    }
}

impl Raw {
    pub(crate) fn published<T: ?Sized + Send + Sync + 'static>(
        info: &Arc<TypeInfo>,
        body: Arc<dyn Body<T>>,
    ) -> Self {
        Self {
            info: info.clone(),
            bytes: Bytes::Value(Box::new(Published(body))),
        }
    }

    fn own(info: &Arc<TypeInfo>, bytes: &[u8]) -> Self {
        Self {
            info: info.clone(),
            bytes: Bytes::Own(bytes.into()),
        }
    }

    fn leased(info: &Arc<TypeInfo>, lease: Box<dyn Lease>, range: Range<usize>) -> Self {
        Self {
            info: info.clone(),
            bytes: Bytes::Leased(lease, range),
        }
    }

    /// All that came with a value from another process: its parts, too.
    fn lease(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Leased(lease, _) => lease.bytes(),
            Bytes::Own(_) | Bytes::Value(_) => &[],
        }
    }

    /// The bytes of the value; none if it has none. Where that matters, ask [`encoded`](Self::encoded): a value of another
    /// process, or of a [`RawPublisher`], always has bytes, which may be no bytes at all; one of this process may be of a
    /// local topic.
    ///
    /// The same value has the same bytes each time.
    pub fn bytes(&self) -> &[u8] {
        self.encoded().unwrap_or_default()
    }

    /// The bytes of the value, or why it has none.
    ///
    /// # Errors
    ///
    /// [`CodecError`] for a value of this process that is of a local topic, or that cannot be encoded. The sample counts as
    /// taken all the same. Later calls give the same error.
    pub fn encoded(&self) -> Result<&[u8], CodecError> {
        match &self.bytes {
            Bytes::Own(bytes) => Ok(bytes),
            Bytes::Value(value) => value.encoded(),
            Bytes::Leased(lease, range) => Ok(&lease.bytes()[range.clone()]),
        }
    }

    /// What is known of its type.
    pub fn info(&self) -> &TypeInfo {
        &self.info
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Nothing is encoded for a log line, which holds no payload.
        write!(f, "Raw({}, {:?})", self.info.type_name, self.info.codec)
    }
}
