//! Topics and subscriptions as a transport sees them: what is offered to other nodes, and what is sought there.

use crate::channel::Channel;
use crate::codec::{Codec, CodecKind};
use crate::delivery::Delivery;
use crate::graph::{Graph, Matches};
use crate::id::{SubscriptionId, TopicId};
use crate::msg::Msg;
use crate::reader::{Reader, Typed, Unknown};
use crate::remote_link::RemoteLink;
use crate::topic::{self, Topic};
use crate::topic_core::TopicCore;
use crate::transport::{Inlet, Offered, OutLink, Remote, Sought, Terms, TopicKey};
use mproc_runtime::{Error, ErrorKind, LaneBell, Runtime, WhenFull};
use std::sync::{Arc, Weak};

/// How many samples of each other node a subscription may hold that says nothing about it.
pub(crate) const MAX_LEASES: usize = 256;

/// What two nodes must have in common to share the topic.
pub(crate) fn key<T: ?Sized + 'static>(
    name: &str,
    id: TopicId,
    codec: &'static Codec<T>,
) -> TopicKey {
    TopicKey {
        id,
        name: name.to_owned(),
        type_name: std::any::type_name::<T>().to_owned(),
        type_hash: codec.hash(),
        codec: codec.kind(),
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

fn terms(capacity: usize, when_full: WhenFull, max_leases: Option<usize>) -> Terms {
    Terms {
        capacity,
        when_full,
        max_leases: max_leases.unwrap_or(MAX_LEASES),
    }
}

impl<T: ?Sized + Send + Sync + 'static> Receiver<T> for Delivery<T> {
    fn subscription(&self) -> SubscriptionId {
        self.id_of()
    }

    fn terms(&self) -> Terms {
        terms(self.capacity(), self.policy(), self.max_leases())
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
        terms(self.capacity(), self.policy(), self.max_leases())
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

/// A subscription to one topic, and to those that are connected to it.
pub(crate) struct ToTopic<T: ?Sized + 'static> {
    pub(crate) key: TopicKey,
    pub(crate) codec: &'static Codec<T>,
    pub(crate) receiver: Arc<dyn Receiver<T>>,
    pub(crate) graph: Weak<Graph>,
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

impl<T: ?Sized + Send + Sync + 'static> Sought for ToTopic<T> {
    fn id(&self) -> SubscriptionId {
        self.receiver.subscription()
    }

    fn wants(&self, key: &TopicKey) -> Result<bool, Error> {
        let leads_here = key.id == self.key.id
            || self
                .graph
                .upgrade()
                .is_some_and(|graph| graph.leads_to(key.id, self.key.id));
        if !leads_here {
            return Ok(false);
        }
        if key.id == self.key.id && key.name != self.key.name {
            let text = format!(
                "topic {:?} of another process has the id of topic {:?}, {:?}",
                key.label(),
                self.key.label(),
                key.id
            );
            return Err(Error::new(ErrorKind::TypeConflict, text));
        }
        fits(&self.key, key).map(|()| true)
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
        let reader = Typed::new(topic::intern(&key.name), key.id, self.codec, from);
        self.receiver.open(inlet, Arc::new(reader)).is_ok()
    }

    fn look(&self) -> bool {
        self.receiver.look_outside()
    }
}

/// A subscription to all topics of a pattern and one type.
pub(crate) struct ToPattern<T: ?Sized + 'static> {
    pub(crate) matches: Arc<Matches>,
    pub(crate) codec: &'static Codec<T>,
    pub(crate) receiver: Arc<dyn Receiver<T>>,
    pub(crate) graph: Weak<Graph>,
}

impl<T: ?Sized + Send + Sync + 'static> Sought for ToPattern<T> {
    fn id(&self) -> SubscriptionId {
        self.receiver.subscription()
    }

    fn wants(&self, theirs: &TopicKey) -> Result<bool, Error> {
        // Those of another type are simply not what the pattern asks for.
        let ours = key("", theirs.id, self.codec);
        Ok(self.matches.matches(&theirs.name, theirs.id) && fits(&ours, theirs).is_ok())
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
        let reader = Typed::new(topic::intern(&key.name), key.id, self.codec, from);
        self.receiver.open(inlet, Arc::new(reader)).is_ok()
    }

    fn look(&self) -> bool {
        self.receiver.look_outside()
    }
}

/// A subscription to dynamic messages.
pub(crate) struct ToMsgs {
    pub(crate) matches: Arc<Matches>,
    pub(crate) receiver: Arc<dyn Receiver<Msg>>,
    pub(crate) graph: Weak<Graph>,
}

impl Sought for ToMsgs {
    fn id(&self) -> SubscriptionId {
        self.receiver.subscription()
    }

    fn wants(&self, key: &TopicKey) -> Result<bool, Error> {
        Ok(self.matches.matches(&key.name, key.id))
    }

    fn terms(&self) -> Terms {
        self.receiver.terms()
    }

    fn bell(&self) -> Option<LaneBell> {
        self.receiver.lane()
    }

    fn open(&self, from: &Remote, theirs: &TopicKey, inlet: Box<dyn Inlet>) -> bool {
        let Some(graph) = self.graph.upgrade() else {
            return false;
        };
        let from = graph.remote_nodes().get(from.node);
        let of_msgs = Topic::<Msg>::with_id(theirs.id);
        let is_msgs =
            theirs.codec == CodecKind::Serde && theirs.type_hash == of_msgs.codec_ref().hash();
        let known = graph.find(theirs.id);
        let reader: Arc<dyn Reader<Msg>> = if is_msgs {
            let typed = Typed::new("", theirs.id, of_msgs.codec_ref(), from);
            Arc::new(typed)
        } else if let Some(reader) = known.and_then(|known| known.msg_reader(theirs, &from)) {
            reader
        } else {
            Arc::new(Unknown {
                id: theirs.id,
                from,
            })
        };
        self.receiver.open(inlet, reader).is_ok()
    }

    fn look(&self) -> bool {
        self.receiver.look_outside()
    }
}
