//! What is known of topics in a running program.

use crate::codec::CodecKind;
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::raw::TypeInfo;
use mproc_runtime::{Drops, WhenFull};
use serde::{Deserialize, Serialize};

/// One topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TopicSnapshot {
    /// Its name, or its id as text.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// The type of its values.
    pub type_name: String,
    /// Equal for types that understand each other's bytes.
    #[serde(default)]
    pub type_hash: u64,
    /// How its values travel.
    pub codec: CodecKind,
    /// The layout of plain data, if it is announced ([`Topic::with_schema`](crate::Topic::with_schema)).
    #[serde(default)]
    pub schema: Option<String>,
    /// Who publishes on it.
    pub publishers: Vec<PublisherSnapshot>,
    /// Who subscribes to it, without those connected from other topics.
    pub subscriptions: Vec<SubscriptionSnapshot>,
    /// Values kept for late subscribers.
    pub history: u64,
    /// Topics whose subscribers get this topic's samples too.
    pub connected_to: Vec<String>,
}

impl TopicSnapshot {
    /// What is known of the type of its values: enough to publish on it without having it
    /// ([`Graph::raw_publisher`](crate::Graph::raw_publisher)), in this process or another.
    pub fn info(&self) -> TypeInfo {
        let info = TypeInfo::new(&self.type_name, self.type_hash, self.codec);
        match &self.schema {
            Some(schema) => info.with_schema(schema),
            None => info,
        }
    }
}

/// What a node has to do with the other processes of its domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DomainSnapshot {
    /// The domain.
    pub name: String,
    /// Other nodes to which there is a connection.
    pub peers: u64,
    /// Links from their publishers and to their subscriptions.
    pub links: u64,
    /// How often a peer did not keep to the protocol. Its link, or its connection, was closed each time.
    pub violations: u64,
    /// Topics and subscriptions that did not fit: another type, another codec, no memory.
    pub refused: u64,
    /// Connections that ended although the other process had not said that it leaves. The system closes a dying process's
    /// connections before its end is seen, so a death may be counted here too.
    pub lost_connections: u64,
}

/// One publisher.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PublisherSnapshot {
    /// Its id.
    pub id: PublisherId,
    /// Values published while anybody listened or history was kept.
    pub published: u64,
    /// Values of which samples are queued or held.
    pub outstanding: u64,
    /// Values not given back by `Wait` subscriptions, if that is bounded.
    pub in_flight: u64,
    /// True while it is paused.
    pub paused: bool,
    /// The processor that made it, by its context; `None` for one that was made elsewhere.
    #[serde(default)]
    pub owner: Option<String>,
}

/// One subscription. When it stands still, `offered = taken + dropped + refused + queued`, exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionSnapshot {
    /// Its id.
    pub id: SubscriptionId,
    /// The processor that handles its samples; `None` if it is pulled from. For one of another node, its process: see
    /// [`node`](Self::node).
    pub owner: Option<String>,
    /// The other node that it is of, by [`NodeInfo::id`](crate::NodeInfo::id); `None` for one of this node.
    #[serde(default)]
    pub node: Option<String>,
    /// True for a [tap](crate::Graph::tap), of this node or another: it looks on, and nobody has to consume what it hears.
    /// Of a tap at a node of an earlier version it is not known, and false.
    #[serde(default)]
    pub tap: bool,
    /// What it does when it is full.
    pub when_full: WhenFull,
    /// Its places.
    pub capacity: u64,
    /// True while it is paused.
    pub paused: bool,
    /// True if it is closed.
    pub closed: bool,
    /// Samples that passed its filter.
    pub offered: u64,
    /// Samples that were handed to its handler or receiver.
    pub taken: u64,
    /// Samples that wait.
    pub queued: u64,
    /// The most that ever waited.
    pub high_water: u64,
    /// Samples that were dropped, by cause.
    pub dropped: Drops,
    /// Samples that were refused because it was full.
    pub refused: u64,
    /// Sum of the gaps that its receiver has seen.
    pub lost: u64,
    /// Samples that are held, if that is bounded; by a channel it always is.
    pub held: u64,
    /// For how long the oldest of these has been out of the queue, in nanoseconds: since the batch it came in was taken.
    /// `None` if none is held, if that is not bounded, and for a channel.
    pub held_ns_max: Option<u64>,
}
