//! Topics: a name or an id, a type, and how its values travel.

use crate::codec::{Codec, CodecError, CodecKind};
use crate::id::TopicId;
use crate::raw::{Raw, TypeInfo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A stream of values of one type. The constructor says how values travel; all are `const`.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{Topic, TopicId};
///
/// struct Job; // any value, within this process
/// const CHANGED: Topic<i64> = Topic::new("counter/changed");
/// const POSE: Topic<[f64; 3]> = Topic::plain("robot/pose");
/// const FRAMES: Topic<[u8]> = Topic::slices("camera/frames");
/// const JOBS: Topic<Job> = Topic::local("jobs");
/// const GOAL: Topic<[f64; 2]> = Topic::plain("robot/goal").with_schema("x: f64, y: f64");
/// const ALARM: Topic<String> = Topic::with_id(TopicId::new(7, 1));
///
/// assert_eq!(CHANGED.name(), "counter/changed");
/// assert_eq!(ALARM.id().to_string(), "7:1");
/// # let _ = (POSE, FRAMES, JOBS, GOAL);
/// ```
pub struct Topic<T: ?Sized + 'static> {
    name: &'static str,
    id: TopicId,
    codec: &'static Codec<T>,
    schema: Option<&'static str>,
    /// The type of the values, for a topic that is declared without it.
    raw: Option<&'static TypeInfo>,
}

impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Topic<T> {
    /// Serde values: shared by `Arc` in a process, MessagePack between processes. There a value may be nested 128 deep (lists, maps,
    /// structs and enums in each other); a deeper one is dropped where it arrives, as undecodable.
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            id: TopicId::from_name(name),
            codec: const { &Codec::<T>::serde() },
            schema: None,
            raw: None,
        }
    }

    /// As [`new`](Self::new), called by (`mid`, `cmd`) and not by name.
    pub const fn with_id(id: TopicId) -> Self {
        Self {
            name: "",
            id,
            codec: const { &Codec::<T>::serde() },
            schema: None,
            raw: None,
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout + Send + Sync + 'static> Topic<T> {
    /// Plain data: types for which every bit pattern is valid, read in place between processes.
    pub const fn plain(name: &'static str) -> Self {
        Self {
            name,
            id: TopicId::from_name(name),
            codec: const { &Codec::<T>::plain() },
            schema: None,
            raw: None,
        }
    }
}

impl<T: FromBytes + IntoBytes + Immutable + Send + Sync + 'static> Topic<[T]> {
    /// Slices of plain data, of any length, read in place between processes.
    pub const fn slices(name: &'static str) -> Self {
        Self {
            name,
            id: TopicId::from_name(name),
            codec: const { &Codec::<[T]>::slices() },
            schema: None,
            raw: None,
        }
    }
}

impl<T: Send + Sync + 'static> Topic<T> {
    /// Any value, within this process only.
    pub const fn local(name: &'static str) -> Self {
        Self {
            name,
            id: TopicId::from_name(name),
            codec: const { &Codec::<T>::local() },
            schema: None,
            raw: None,
        }
    }

    /// As [`local`](Self::local), called by (`mid`, `cmd`).
    pub const fn local_with_id(id: TopicId) -> Self {
        Self {
            name: "",
            id,
            codec: const { &Codec::<T>::local() },
            schema: None,
            raw: None,
        }
    }
}

impl<T: ?Sized + 'static> Topic<T> {
    /// Its name; empty if it is called by id.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its id.
    pub const fn id(&self) -> TopicId {
        self.id
    }

    /// How its values travel.
    pub fn codec(&self) -> CodecKind {
        self.codec.kind()
    }

    /// Says what the fields of plain data are, for programs that do not have the type: the layout in the language of
    /// [`Schema`](crate::Schema). Of slices it is the layout of an element. Numbers and arrays of them need none: it is known
    /// from the type's name.
    ///
    /// It is checked when the topic is declared: it must be a schema, its bytes must be as many as the type's, and the topic's
    /// values must travel as plain data ([`ErrorKind::InvalidSetting`](mproc_runtime::ErrorKind::InvalidSetting)). That its
    /// fields are the type's, in the same order, is on whoever writes it.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::{Graph, Schema, Topic};
    /// use mproc_runtime::Runtime;
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Pose {
    ///     x: f64,
    ///     y: f64,
    ///     flags: [u8; 8],
    /// }
    ///
    /// const POSE: Topic<Pose> = Topic::plain("robot/pose").with_schema("x: f64, y: f64, flags: [u8; 8]");
    /// const SHORT: Topic<Pose> = Topic::plain("robot/short").with_schema("x: f64, y: f64");
    ///
    /// assert_eq!(Schema::of(&POSE.info()).map(|schema| schema.bytes()), Some(24));
    /// let node = Runtime::simulated(1);
    /// let refused = Graph::of(&node).publisher(&node, &SHORT).unwrap_err();
    /// assert!(refused.to_string().ends_with("its schema has 16 bytes, and its type 24"));
    /// ```
    pub const fn with_schema(self, schema: &'static str) -> Self {
        Self {
            name: self.name,
            id: self.id,
            codec: self.codec,
            schema: Some(schema),
            raw: self.raw,
        }
    }

    /// What is known of the type of its values by those who do not have it.
    pub fn info(&self) -> TypeInfo {
        match self.raw {
            Some(info) => info.clone(),
            None => TypeInfo {
                type_name: std::any::type_name::<T>().to_owned(),
                type_hash: self.codec.hash(),
                codec: self.codec.kind(),
                schema: self.schema.map(str::to_owned),
            },
        }
    }

    /// As it was given to [`with_schema`](Self::with_schema).
    pub(crate) fn schema(&self) -> Option<&'static str> {
        self.schema
    }

    /// True if it is declared without its type.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    pub(crate) fn codec_ref(&self) -> &'static Codec<T> {
        self.codec
    }

    /// A topic that is called otherwise and is equal in all else, for names that are known only at run time. Each
    /// different name is kept for as long as the program runs.
    pub fn renamed(&self, name: &str) -> Self {
        let name = intern(name);
        Self {
            name,
            id: TopicId::from_name(name),
            codec: self.codec,
            schema: self.schema,
            raw: self.raw,
        }
    }

    /// What people call it.
    pub fn label(&self) -> String {
        label(self.name, self.id)
    }

    /// The bytes that `value` has between processes.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the value cannot be encoded, or the topic is local.
    pub fn encode(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        self.codec.encode(value)
    }

    /// The value that `bytes` stand for.
    ///
    /// # Errors
    ///
    /// [`CodecError`] for any bytes that are not exactly one value of the type, or if the topic is local.
    pub fn decode(&self, bytes: &[u8]) -> Result<Box<T>, CodecError> {
        self.codec.decode(bytes)
    }
}

impl Topic<Raw> {
    /// A topic of values of this type, of which only the bytes are known.
    pub(crate) fn raw(name: &'static str, id: TopicId, info: &'static TypeInfo) -> Self {
        const SERDE: Codec<Raw> = Codec::raw(CodecKind::Serde);
        const PLAIN: Codec<Raw> = Codec::raw(CodecKind::Plain);
        const SLICES: Codec<Raw> = Codec::raw(CodecKind::Slices);
        const LOCAL: Codec<Raw> = Codec::raw(CodecKind::Local);
        Self {
            name,
            id,
            codec: match info.codec {
                CodecKind::Serde => &SERDE,
                CodecKind::Plain => &PLAIN,
                CodecKind::Slices => &SLICES,
                CodecKind::Local => &LOCAL,
            },
            schema: None,
            raw: Some(info),
        }
    }
}

pub(crate) fn label(name: &str, id: TopicId) -> String {
    if name.is_empty() {
        id.to_string()
    } else {
        name.to_owned()
    }
}

pub(crate) fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    if name.is_empty() {
        return "";
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(kept);
    kept
}

impl<T: ?Sized> Clone for Topic<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: ?Sized> Copy for Topic<T> {}

impl<T: ?Sized> fmt::Debug for Topic<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Topic({:?}, {}, {:?})",
            self.label(),
            std::any::type_name::<T>(),
            self.codec.kind()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBERS: Topic<Vec<i64>> = Topic::new("numbers");
    const WORDS: Topic<[u32]> = Topic::slices("words");
    const POINT: Topic<[f32; 2]> = Topic::plain("point");

    #[test]
    fn values_come_back_from_their_bytes() {
        let bytes = NUMBERS.encode(&vec![1, -2]).unwrap();
        assert_eq!(*NUMBERS.decode(&bytes).unwrap(), [1, -2]);
        let bytes = WORDS.encode(&[7, 8]).unwrap();
        assert_eq!(*WORDS.decode(&bytes).unwrap(), [7, 8]);
        let bytes = POINT.encode(&[0.5, 2.0]).unwrap();
        assert_eq!(*POINT.decode(&bytes).unwrap(), [0.5, 2.0]);
    }

    /// A program ended by the overflow of its stack: what came was 100,000 lists in each other, under a name that its type does not
    /// have, and to pass over them took a call for each.
    #[test]
    fn lists_in_lists_without_end_are_refused() {
        #[derive(Debug, Serialize, serde::Deserialize)]
        struct Chain {
            #[serde(default)]
            next: Option<Box<Self>>,
        }
        const CHAIN: Topic<Chain> = Topic::new("chain");
        let chain = |length| {
            (0..length).fold(Chain { next: None }, |next, _| Chain {
                next: Some(Box::new(next)),
            })
        };
        let decode = |length| CHAIN.decode(&CHAIN.encode(&chain(length)).unwrap());
        assert!(decode(127).is_ok());
        assert!(decode(128).is_err());

        let mut unknown = vec![0x81, 0xA1, b'x'];
        unknown.extend([0x91; 100_000]);
        unknown.push(0xC0);
        assert!(CHAIN.decode(&unknown).is_err());

        // Enums in enums are not counted by the decoder.
        #[derive(Debug, Serialize, serde::Deserialize)]
        enum Term {
            Leaf,
            Not(Box<Self>),
        }
        const TERM: Topic<Term> = Topic::new("term");
        let term = |depth| [b"\x81\xA3Not".repeat(depth), b"\xA4Leaf".to_vec()].concat();
        assert!(matches!(*TERM.decode(&term(128)).unwrap(), Term::Not(_)));
        assert!(TERM.decode(&term(129)).is_err());
        assert!(TERM.decode(&term(100_000)).is_err());
        assert!(TERM.encode(&Term::Leaf).is_ok());
    }

    #[test]
    fn bytes_that_are_no_value_are_refused() {
        assert!(NUMBERS.decode(&[0xC1]).is_err());
        let mut bytes = NUMBERS.encode(&vec![1]).unwrap();
        bytes.push(0);
        assert!(
            NUMBERS
                .decode(&bytes)
                .unwrap_err()
                .to_string()
                .contains("left over")
        );
        assert!(WORDS.decode(&[1, 2, 3]).is_err());
        assert!(POINT.decode(&[0; 7]).is_err());
        assert!(Topic::<u8>::local("x").encode(&1).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>) {
            let _ = NUMBERS.decode(&bytes);
            let _ = WORDS.decode(&bytes);
            let _ = POINT.decode(&bytes);
        }
    }
}
