//! How bytes that came from another node become values.

use crate::carried::carry;
use crate::codec::{Codec, CodecError};
use crate::id::{PublisherId, TopicId};
use crate::msg::{Data, Msg};
use crate::parts;
use crate::sample::{Body, Header};
use crate::transport::{Lease, Stamp};
use mproc_runtime::hook::Cause;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

/// Makes bodies of what comes through one link.
pub(crate) trait Reader<T: ?Sized>: Send + Sync {
    fn read(&self, lease: Box<dyn Lease>) -> Result<Arc<dyn Body<T>>, CodecError>;
}

/// How many publishers of another node are remembered.
const PUBLISHERS_MAX: usize = 1 << 16;

/// What this node knows of another one whose samples it gets. Kept as long as there is a link from it.
#[derive(Default)]
pub(crate) struct RemoteNode {
    /// Our ids for its publishers.
    publishers: Mutex<HashMap<u64, PublisherId>>,
    /// Values that were decoded just now, by topic: other subscriptions of this node want the same.
    decoded: Mutex<HashMap<TopicId, Weak<dyn Any + Send + Sync>>>,
}

/// Those that are known.
#[derive(Default)]
pub(crate) struct RemoteNodes(Mutex<HashMap<[u8; 16], Weak<RemoteNode>>>);

impl RemoteNodes {
    pub(crate) fn get(&self, node: [u8; 16]) -> Arc<RemoteNode> {
        let mut nodes = self.0.lock();
        if let Some(known) = nodes.get(&node).and_then(Weak::upgrade) {
            return known;
        }
        nodes.retain(|_, known| known.strong_count() > 0);
        let new = Arc::<RemoteNode>::default();
        nodes.insert(node, Arc::downgrade(&new));
        new
    }
}

impl RemoteNode {
    fn publisher(&self, number: u64) -> PublisherId {
        let mut publishers = self.publishers.lock();
        // The numbers come from outside: whoever makes them up without end gets new ids.
        if publishers.len() >= PUBLISHERS_MAX && !publishers.contains_key(&number) {
            publishers.clear();
        }
        *publishers.entry(number).or_insert_with(PublisherId::next)
    }

    fn decoded<T: ?Sized + Send + Sync + 'static>(&self, topic: TopicId) -> Arc<Decoded<T>> {
        let mut all = self.decoded.lock();
        let known = all.get(&topic).and_then(Weak::upgrade);
        if let Some(known) = known.and_then(|known| known.downcast().ok()) {
            return known;
        }
        let new = Arc::<Decoded<T>>::default();
        let any: Arc<dyn Any + Send + Sync> = new.clone();
        all.insert(topic, Arc::downgrade(&any));
        new
    }
}

/// How many values are remembered for the other subscriptions of a topic.
const REMEMBERED: usize = 64;

/// Values of one topic of one other node that were decoded here and still live.
struct Decoded<T: ?Sized>(Mutex<VecDeque<Remembered<T>>>);

/// Publisher, sequence and value.
type Remembered<T> = (u64, u64, Weak<Box<T>>);

impl<T: ?Sized> Default for Decoded<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: ?Sized> Decoded<T> {
    fn find(&self, stamp: &Stamp) -> Option<Arc<Box<T>>> {
        let values = self.0.lock();
        let key = (stamp.publisher, stamp.sequence);
        values
            .iter()
            .rev()
            .find_map(|(publisher, sequence, value)| {
                ((*publisher, *sequence) == key)
                    .then(|| value.upgrade())
                    .flatten()
            })
    }

    fn remember(&self, stamp: &Stamp, value: &Arc<Box<T>>) {
        let mut values = self.0.lock();
        if values.len() == REMEMBERED {
            values.pop_front();
        }
        values.push_back((stamp.publisher, stamp.sequence, Arc::downgrade(value)));
    }
}

/// Reads values of the topic's own type.
pub(crate) struct Typed<T: ?Sized + 'static> {
    /// Of the topic that the link is for.
    name: &'static str,
    id: TopicId,
    codec: &'static Codec<T>,
    from: Arc<RemoteNode>,
    decoded: Arc<Decoded<T>>,
}

impl<T: ?Sized + Send + Sync + 'static> Typed<T> {
    pub(crate) fn new(
        name: &'static str,
        id: TopicId,
        codec: &'static Codec<T>,
        from: Arc<RemoteNode>,
    ) -> Self {
        let decoded = from.decoded(id);
        Self {
            name,
            id,
            codec,
            from,
            decoded,
        }
    }
}

pub(crate) fn header(name: &'static str, id: TopicId, stamp: &Stamp, from: &RemoteNode) -> Header {
    Header {
        // Topics that are connected have other names, which are not sent along.
        topic: if stamp.topic == id { name } else { "" },
        topic_id: stamp.topic,
        publisher: from.publisher(stamp.publisher),
        sequence: AtomicU64::new(stamp.sequence),
        published: stamp.published,
        parts: Vec::new(),
        outstanding: None,
        cause: Cause::none(),
    }
}

impl<T: ?Sized + Send + Sync + 'static> Reader<T> for Typed<T> {
    fn read(&self, lease: Box<dyn Lease>) -> Result<Arc<dyn Body<T>>, CodecError> {
        let stamp = *lease.stamp();
        let bytes = lease.bytes();
        let (range, parts) = if stamp.has_parts {
            parts::read(bytes)?
        } else {
            (0..bytes.len(), Vec::new())
        };
        let value = match self.codec.in_place() {
            Some(in_place) => match (in_place.view)(&bytes[range.clone()]) {
                Some(_) => None,
                // It does not stand where such a value may stand, so it is moved; or it is none, and this says why.
                None => Some(Arc::new(self.codec.decode(&bytes[range.clone()])?)),
            },
            // Only if another subscription has it, too, is it looked for.
            None if Arc::strong_count(&self.decoded) > 1 => match self.decoded.find(&stamp) {
                Some(value) => Some(value),
                None => {
                    let value = Arc::new(self.codec.decode(&bytes[range.clone()])?);
                    self.decoded.remember(&stamp, &value);
                    Some(value)
                }
            },
            None => Some(Arc::new(self.codec.decode(&bytes[range.clone()])?)),
        };
        Ok(Arc::new(Arrived {
            header: header(self.name, self.id, &stamp, &self.from),
            codec: self.codec,
            lease,
            range,
            parts,
            value,
        }))
    }
}

/// A value that came from another node, with its lease.
struct Arrived<T: ?Sized + 'static> {
    header: Header,
    codec: &'static Codec<T>,
    lease: Box<dyn Lease>,
    /// Where the value stands.
    range: Range<usize>,
    parts: Vec<Range<usize>>,
    /// `None` if it is read in place.
    value: Option<Arc<Box<T>>>,
}

impl<T: ?Sized + Send + Sync + 'static> Arrived<T> {
    fn bytes(&self) -> &[u8] {
        &self.lease.bytes()[self.range.clone()]
    }
}

impl<T: ?Sized + Send + Sync + 'static> Body<T> for Arrived<T> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &T {
        match &self.value {
            Some(value) => value,
            None => {
                let in_place = self.codec.in_place().map(|in_place| in_place.view);
                match in_place.and_then(|view| view(self.bytes())) {
                    Some(value) => value,
                    None => unreachable!("it was a value when it was read"),
                }
            }
        }
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        Ok(self.bytes())
    }

    fn wire(&self) -> Option<&[u8]> {
        Some(self.lease.bytes())
    }

    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>> {
        match Arc::try_unwrap(self) {
            Ok(mut body) => match body.value.take().map(Arc::try_unwrap) {
                Some(Ok(value)) => Ok(value),
                Some(Err(shared)) => {
                    body.value = Some(shared);
                    Err(Arc::new(body))
                }
                None => match body.codec.decode(body.bytes()) {
                    Ok(value) => Ok(value),
                    Err(_) => Err(Arc::new(body)),
                },
            },
            Err(shared) => Err(shared),
        }
    }

    fn part_count(&self) -> usize {
        self.parts.len()
    }

    fn part(&self, index: usize) -> &[u8] {
        &self.lease.bytes()[self.parts[index].clone()]
    }
}

/// Reads values of a topic that this node has declared, for a subscription to dynamic messages.
pub(crate) struct AsMsgs<T: ?Sized + 'static>(pub(crate) Typed<T>);

impl<T: ?Sized + Send + Sync + 'static> Reader<Msg> for AsMsgs<T> {
    fn read(&self, lease: Box<dyn Lease>) -> Result<Arc<dyn Body<Msg>>, CodecError> {
        self.0.read(lease).map(carry)
    }
}

/// Reads values of a type that this node does not know: messages that carry the bytes.
pub(crate) struct Unknown {
    pub(crate) id: TopicId,
    pub(crate) from: Arc<RemoteNode>,
}

impl Reader<Msg> for Unknown {
    fn read(&self, lease: Box<dyn Lease>) -> Result<Arc<dyn Body<Msg>>, CodecError> {
        let stamp = *lease.stamp();
        let bytes = lease.bytes();
        let (range, _parts) = if stamp.has_parts {
            parts::read(bytes)?
        } else {
            (0..bytes.len(), Vec::new())
        };
        let data = Data::Bytes(bytes[range].into());
        let msg = Msg::new(stamp.topic.mid(), stamp.topic.cmd()).data(data);
        Ok(Arc::new(BytesOnly {
            header: header("", self.id, &stamp, &self.from),
            msg,
            lease,
        }))
    }
}

/// A message that carries the bytes of a value.
struct BytesOnly {
    header: Header,
    msg: Msg,
    /// Given back when the handler has returned, as ever.
    lease: Box<dyn Lease>,
}

impl Body<Msg> for BytesOnly {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &Msg {
        &self.msg
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        Ok(self.lease.bytes())
    }

    fn into_box(self: Arc<Self>) -> Result<Box<Msg>, Arc<dyn Body<Msg>>> {
        match Arc::try_unwrap(self) {
            Ok(body) => Ok(Box::new(body.msg)),
            Err(shared) => Err(shared),
        }
    }
}
