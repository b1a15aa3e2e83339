//! Dynamic messages, for programs and scripts that decide at run time: who, what and with which data are all values.

use crate::graph::Graph;
use crate::id::TopicId;
use crate::sample::Sample;
use crate::topic::Topic;
use mproc_runtime::{Address, Error, ErrorKind, Handle, ProcessorId, Recipient, Runtime};
use parking_lot::Mutex;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A processor, and a component of it that its handler knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The processor.
    pub processor: ProcessorId,
    /// The component; 0 where there is only one.
    pub component: u32,
}

impl Place {
    /// A processor that has one component.
    pub fn of(processor: ProcessorId) -> Self {
        Self {
            processor,
            component: 0,
        }
    }

    /// Another component of the same processor.
    #[must_use]
    pub fn component(self, component: u32) -> Self {
        Self { component, ..self }
    }
}

/// What a [`Msg`] carries.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Data {
    /// Nothing.
    #[default]
    Empty,
    /// Bytes.
    Bytes(Arc<[u8]>),
    /// Any value, shared. A [`Sample`] too, whose lease it then holds: so values of typed topics come to those who
    /// subscribe to dynamic messages.
    Shared(Arc<dyn Any + Send + Sync>),
}

impl Data {
    /// A shared value.
    pub fn shared<T: Send + Sync + 'static>(value: T) -> Self {
        Self::Shared(Arc::new(value))
    }

    /// The bytes, if it is bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The shared value, if it is a `T` or a sample of one.
    pub fn downcast_ref<T: 'static>(&self) -> Option<&T> {
        match self {
            Self::Shared(value) => match value.downcast_ref() {
                Some(value) => Some(value),
                None => self.sample().map(|sample| &**sample),
            },
            _ => None,
        }
    }

    /// The shared value, if it is a sample of a `T`: for its publisher, sequence, parts and bytes, for values without a
    /// size (slices), and to keep it without its message.
    pub fn sample<T: ?Sized + 'static>(&self) -> Option<&Sample<T>> {
        match self {
            Self::Shared(value) => value.downcast_ref(),
            _ => None,
        }
    }
}

impl fmt::Debug for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("Empty"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Shared(_) => f.write_str("Shared(..)"),
        }
    }
}

/// Shared values have no bytes: a message that carries one stays in its process.
impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Empty => serializer.serialize_none(),
            Self::Bytes(bytes) => serializer.serialize_some(&AsBytes(bytes)),
            Self::Shared(_) => Err(serde::ser::Error::custom(
                "a message with shared data does not leave the process: give it bytes",
            )),
        }
    }
}

struct AsBytes<'a>(&'a [u8]);

impl Serialize for AsBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_option(DataVisitor)
    }
}

struct DataVisitor;

impl<'de> Visitor<'de> for DataVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes or nothing")
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Empty)
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Empty)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_bytes(self)
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Data, E> {
        Ok(Data::Bytes(bytes.into()))
    }

    /// As formats for people write bytes.
    fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Data, A::Error> {
        let mut bytes = Vec::new();
        while let Some(byte) = numbers.next_element()? {
            bytes.push(byte);
        }
        Ok(Data::Bytes(bytes.into()))
    }
}

/// A message whose receiver, kind and data are decided at run time.
///
/// Between processes it travels with its `mid`, `cmd`, `tag`, `status` and data, if that is bytes. Its `src` and `dst` name
/// processors of one process and stay there: it comes from nobody.
///
/// With a `dst` it goes to that processor, which handles it by `impl Handle<Msg>`. Without one it is published on the
/// topic (`mid`, `cmd`). Values of a typed topic (`mid`, `cmd`) come as messages too, to those who subscribe by
/// [`subscribe_msgs`](crate::Topics::subscribe_msgs) or [`subscribe_mid`](crate::Topics::subscribe_mid).
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{Data, Msg, Place};
/// use mproc_runtime::ProcessorId;
///
/// let (a, b) = (ProcessorId::from_number(1).unwrap(), ProcessorId::from_number(2).unwrap());
/// let question = Msg::new(7, 1).from(Place::of(a)).to(Place::of(b).component(3)).tag(42);
/// let answer = question.reply(0, Data::Empty);
/// assert_eq!(answer.dst, Some(Place::of(a)));
/// assert_eq!(answer.src, Some(Place::of(b).component(3)));
/// assert_eq!((answer.mid, answer.cmd, answer.tag), (7, 1, 42));
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Msg {
    /// Who sends it.
    #[serde(skip)]
    pub src: Option<Place>,
    /// Whom it is for; `None` for all who subscribe to its topic.
    #[serde(skip)]
    pub dst: Option<Place>,
    /// The protocol, or kind of message.
    pub mid: u32,
    /// The command within it.
    pub cmd: u32,
    /// Pairs an answer with its question.
    pub tag: u64,
    /// 0 for well, else what the protocol says.
    pub status: i32,
    /// What it carries.
    pub data: Data,
}

impl Msg {
    /// A message of this kind, from nobody and for all.
    pub fn new(mid: u32, cmd: u32) -> Self {
        Self {
            mid,
            cmd,
            ..Self::default()
        }
    }

    /// Sent by `src`.
    #[must_use]
    pub fn from(mut self, src: Place) -> Self {
        self.src = Some(src);
        self
    }

    /// For `dst`.
    #[must_use]
    pub fn to(mut self, dst: Place) -> Self {
        self.dst = Some(dst);
        self
    }

    /// With this tag.
    #[must_use]
    pub fn tag(mut self, tag: u64) -> Self {
        self.tag = tag;
        self
    }

    /// With this data.
    #[must_use]
    pub fn data(mut self, data: Data) -> Self {
        self.data = data;
        self
    }

    /// The topic that it is published on when it has no `dst`.
    pub fn topic(&self) -> TopicId {
        TopicId::new(self.mid, self.cmd)
    }

    /// The answer: back to where it came from, with the same kind and tag.
    #[must_use]
    pub fn reply(&self, status: i32, data: Data) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            mid: self.mid,
            cmd: self.cmd,
            tag: self.tag,
            status,
            data,
        }
    }

    /// The same message again; shared data is shared, not copied.
    #[must_use]
    pub fn dup(&self) -> Self {
        self.clone()
    }
}

/// Who takes dynamic messages. Kept by the node.
#[derive(Debug, Default)]
pub(crate) struct Switchboard {
    receivers: Mutex<BTreeMap<ProcessorId, Recipient<Msg>>>,
}

/// Lets `address` be reached by [`send_msg`]. It stays reachable until it ends.
pub fn accept_msgs<P: Handle<Msg>>(runtime: &Runtime, address: &Address<P>) -> Place {
    let board = runtime.extension(Switchboard::default);
    let mut receivers = board.receivers.lock();
    receivers.insert(address.id(), address.recipient());
    Place::of(address.id())
}

/// Sends a dynamic message: to its `dst`, or to all who subscribe to its topic.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if no processor with that id takes dynamic messages; [`ErrorKind::TypeConflict`] if its topic
/// has values of another type (a topic has one type: they come as messages, but messages do not become values); else as
/// [`Address::send`] and [`Publisher::publish`](crate::Publisher::publish).
pub fn send_msg(runtime: &Runtime, msg: Msg) -> Result<(), Error> {
    let Some(dst) = msg.dst else {
        let topic = Topic::<Msg>::with_id(msg.topic());
        let graph = Graph::of(runtime);
        let publisher = graph.msg_publisher(runtime, &topic)?;
        publisher.publish(msg)?;
        return Ok(());
    };
    let board = runtime.extension(Switchboard::default);
    let receiver = board.receivers.lock().get(&dst.processor).cloned();
    let Some(receiver) = receiver else {
        let text = format!(
            "cannot send a message to {}: no processor with that id takes dynamic messages",
            dst.processor
        );
        return Err(Error::new(ErrorKind::NotFound, text));
    };
    receiver.send(msg).map_err(|error| {
        if let mproc_runtime::SendError::Closed(_) = &error {
            board.receivers.lock().remove(&dst.processor);
        }
        Error::from(error)
    })
}
