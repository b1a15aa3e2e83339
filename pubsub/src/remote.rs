//! Topics and subscriptions as a transport sees them: what is offered to other nodes, and what is sought there.

use crate::channel::Channel;
use crate::codec::{Codec, CodecKind};
use crate::delivery::Delivery;
use crate::graph::{Graph, Matches};
use crate::id::{SubscriptionId, TopicId};
use crate::msg::Msg;
use crate::raw::{self, TypeInfo};
use crate::reader::{Reader, RemoteNode, Typed, Unknown};
use crate::remote_link::RemoteLink;
use crate::topic::{self, Topic};
use crate::topic_core::TopicCore;
use crate::transport::{Inlet, Offered, OutLink, Remote, Sought, Terms, TopicKey};
use mproc_runtime::{Error, ErrorKind, LaneBell, Runtime, WhenFull};
use std::sync::{Arc, Weak};

/// How many samples of each other node a subscription may hold that says nothing about it.
pub(crate) const MAX_LEASES: usize = 256;

/// What two nodes must have in common to share the topic.
pub(crate) fn key(name: &str, id: TopicId, info: &TypeInfo) -> TopicKey {
    TopicKey {
        id,
        name: name.to_owned(),
        type_name: raw::told(info),
        type_hash: info.type_hash,
        codec: info.codec,
    }
}

/// A topic on which this node publishes.
pub(crate) struct OfferedTopic<T: ?Sized + 'static> {
    pub(crate) key: TopicKey,
    pub(crate) core: Arc<TopicCore<T>>,
    pub(crate) graph: Weak<Graph>,
    pub(crate) runtime: Runtime,
}

impl<T: ?Sized + Send + Sync + 'static> Offered for OfferedTopic<T> {
    fn key(&self) -> &TopicKey {
        &self.key
    }

    fn join(&self, link: Arc<dyn OutLink>) -> Result<SubscriptionId, Error> {
        let Some(graph) = self.graph.upgrade() else {
            return Err(Error::new(ErrorKind::Closed, "the node has ended"));
        };
        let core = &self.core;
        let link = RemoteLink::new(core.name, core.id, core.codec, link, &self.runtime);
        graph.join_link(core, &link)
    }

    fn leave(&self, id: SubscriptionId) {
        self.core.close_own(id);
        if let Some(graph) = self.graph.upgrade() {
            graph.detach_local(id);
        }
    }
}

/// What receives at a subscription: its queue, or its channel.
pub(crate) trait Receiver<T: ?Sized>: Send + Sync {
    fn subscription(&self) -> SubscriptionId;
    fn terms(&self) -> Terms;
    fn lane(&self) -> Option<LaneBell>;
    fn open(&self, inlet: Box<dyn Inlet>, reader: Arc<dyn Reader<T>>)
    -> Result<(), Box<dyn Inlet>>;
    fn look_outside(&self) -> bool;
}

fn terms<T: ?Sized + 'static>(
    capacity: usize,
    when_full: WhenFull,
    max_leases: Option<usize>,
) -> Terms {
    Terms {
        capacity,
        when_full,
        max_leases: max_leases.unwrap_or(MAX_LEASES),
        is_tap: raw::is_tap::<T>(),
    }
}

impl<T: ?Sized + Send + Sync + 'static> Receiver<T> for Delivery<T> {
    fn subscription(&self) -> SubscriptionId {
        self.id_of()
    }

    fn terms(&self) -> Terms {
        terms::<T>(self.capacity(), self.policy(), self.max_leases())
    }

    fn lane(&self) -> Option<LaneBell> {
        self.lane_bell().cloned()
    }

    fn open(
        &self,
        inlet: Box<dyn Inlet>,
        reader: Arc<dyn Reader<T>>,
    ) -> Result<(), Box<dyn Inlet>> {
        Self::open(self, inlet, reader)
    }

    fn look_outside(&self) -> bool {
        Self::look_outside(self)
    }
}

impl<T: ?Sized + Send + Sync + 'static> Receiver<T> for Channel<T> {
    fn subscription(&self) -> SubscriptionId {
        self.id_of()
    }

    fn terms(&self) -> Terms {
        terms::<T>(self.capacity(), self.policy(), self.max_leases())
    }

    fn lane(&self) -> Option<LaneBell> {
        None
    }

    fn open(
        &self,
        inlet: Box<dyn Inlet>,
        reader: Arc<dyn Reader<T>>,
    ) -> Result<(), Box<dyn Inlet>> {
        Self::open(self, inlet, reader)
    }

    fn look_outside(&self) -> bool {
        Self::look_outside(self)
    }
}

/// A subscription of this node: who receives, and what it seeks.
pub(crate) struct Seeker<T: ?Sized + 'static, S> {
    pub(crate) receiver: Arc<dyn Receiver<T>>,
    pub(crate) graph: Weak<Graph>,
    pub(crate) seeks: S,
}

/// What a subscription seeks at other nodes, and how it reads that.
pub(crate) trait Seeks<T: ?Sized>: Send + Sync {
    /// As [`Sought::wants`].
    fn wants(&self, theirs: &TopicKey, graph: &Graph) -> Result<bool, Error>;
    fn reader(&self, theirs: &TopicKey, from: Arc<RemoteNode>, graph: &Graph)
    -> Arc<dyn Reader<T>>;
}

impl<T, S> Sought for Seeker<T, S>
where
    T: ?Sized + Send + Sync + 'static,
    S: Seeks<T>,
{
    fn id(&self) -> SubscriptionId {
        self.receiver.subscription()
    }

    fn wants(&self, key: &TopicKey) -> Result<bool, Error> {
        match self.graph.upgrade() {
            Some(graph) => self.seeks.wants(key, &graph),
            None => Ok(false),
        }
    }

    fn terms(&self) -> Terms {
        self.receiver.terms()
    }

    fn bell(&self) -> Option<LaneBell> {
        self.receiver.lane()
    }

    fn open(&self, from: &Remote, key: &TopicKey, inlet: Box<dyn Inlet>) -> bool {
        let Some(graph) = self.graph.upgrade() else {
            return false;
        };
        let from = graph.remote_nodes().get(from.node);
        let reader = self.seeks.reader(key, from, &graph);
        self.receiver.open(inlet, reader).is_ok()
    }

    fn look(&self) -> bool {
        self.receiver.look_outside()
    }
}

fn typed<T: ?Sized + Send + Sync + 'static>(
    codec: &'static Codec<T>,
    theirs: &TopicKey,
    from: Arc<RemoteNode>,
) -> Arc<dyn Reader<T>> {
    let name = topic::intern(&theirs.name);
    Arc::new(Typed::new(name, theirs.id, codec, from))
}

/// True if `theirs` is what we want, apart from its name and id. The error names both.
fn fits(ours: &TopicKey, theirs: &TopicKey) -> Result<(), Error> {
    let conflict = |what: String| {
        let text = format!("topic {:?} of another process: {what}", theirs.label());
        Err(Error::new(ErrorKind::TypeConflict, text))
    };
    if ours.codec != theirs.codec {
        return conflict(format!(
            "its values travel as {:?} there and as {:?} here",
            theirs.codec, ours.codec
        ));
    }
    if ours.type_hash != theirs.type_hash {
        return conflict(format!(
            "it has type {} there and {} here, or these have other layouts",
            theirs.type_name, ours.type_name
        ));
    }
    Ok(())
}

/// One topic, and those that are connected to it.
pub(crate) struct OfTopic<T: ?Sized + 'static> {
    pub(crate) key: TopicKey,
    pub(crate) codec: &'static Codec<T>,
}

impl<T: ?Sized + Send + Sync + 'static> Seeks<T> for OfTopic<T> {
    fn wants(&self, theirs: &TopicKey, graph: &Graph) -> Result<bool, Error> {
        let is_it = theirs.id == self.key.id;
        if !is_it && !graph.leads_to(theirs.id, self.key.id) {
            return Ok(false);
        }
        if is_it && theirs.name != self.key.name {
            let text = format!(
                "topic {:?} of another process has the id of topic {:?}, {:?}",
                theirs.label(),
                self.key.label(),
                theirs.id
            );
            return Err(Error::new(ErrorKind::TypeConflict, text));
        }
        fits(&self.key, theirs).map(|()| true)
    }

    fn reader(&self, theirs: &TopicKey, from: Arc<RemoteNode>, _: &Graph) -> Arc<dyn Reader<T>> {
        typed(self.codec, theirs, from)
    }
}

/// All topics of a pattern and one type.
pub(crate) struct OfPattern<T: ?Sized + 'static> {
    pub(crate) matches: Arc<Matches>,
    pub(crate) codec: &'static Codec<T>,
}

impl<T: ?Sized + Send + Sync + 'static> Seeks<T> for OfPattern<T> {
    fn wants(&self, theirs: &TopicKey, _: &Graph) -> Result<bool, Error> {
        // Those of another type are simply not what the pattern asks for.
        let fits = self.codec.kind() == theirs.codec && self.codec.hash() == theirs.type_hash;
        Ok(fits && self.matches.matches(&theirs.name, theirs.id))
    }

    fn reader(&self, theirs: &TopicKey, from: Arc<RemoteNode>, _: &Graph) -> Arc<dyn Reader<T>> {
        typed(self.codec, theirs, from)
    }
}

/// Topics whose values come as dynamic messages, whatever their type.
pub(crate) struct AsMessages {
    pub(crate) matches: Arc<Matches>,
}

impl Seeks<Msg> for AsMessages {
    fn wants(&self, theirs: &TopicKey, _: &Graph) -> Result<bool, Error> {
        Ok(self.matches.matches(&theirs.name, theirs.id))
    }

    fn reader(
        &self,
        theirs: &TopicKey,
        from: Arc<RemoteNode>,
        graph: &Graph,
    ) -> Arc<dyn Reader<Msg>> {
        let of_msgs = Topic::<Msg>::with_id(theirs.id).codec_ref();
        if theirs.codec == CodecKind::Serde && theirs.type_hash == of_msgs.hash() {
            return typed(of_msgs, theirs, from);
        }
        let known = graph.find(theirs.id);
        let known = known.and_then(|known| known.msg_reader(theirs, &from));
        known.unwrap_or_else(|| {
            Arc::new(Unknown {
                id: theirs.id,
                from,
            })
        })
    }
}
