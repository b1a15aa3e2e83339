//! The seam between topics and whatever carries their samples to other nodes.
//!
//! Nothing above this file knows where other nodes are. Nothing below it knows types: it carries bytes.
//!
//! ```text
//! a publish                                                  a handler
//!   TopicCore -- RemoteLink (a Subscriber) -- OutLink  ~~~>  Inlet -- Source -- Delivery
//!                                |                             |
//!                              Outlet: memory to fill        Lease: the bytes, until the sample is let go of
//! ```
//!
//! A [`Transport`] finds other nodes. It is told what this node publishes ([`Transport::offer`]) and what it subscribes to
//! ([`Transport::seek`]), and makes a link for each pair of a topic that is published and a subscription that wants it. Each
//! link is a queue of its own, with the capacity and the policy of its subscription: to the publisher it is one more
//! subscriber, to the subscription one more source.
//!
//! # Locks
//!
//! [`OutLink::push`] and [`OutLink::queued`] are called under a topic's lock: they run nothing of others. What they let go of
//! (guards) is kept and dropped in the next call of [`OutLink::sweep`] or [`OutLink::ring`], which are called without locks. A
//! transport calls [`Offered`] and [`Sought`] without locks of its own.

use crate::codec::CodecKind;
use crate::id::{SubscriptionId, TopicId};
use crate::inspect::{Ask, SendsSnapshot};
use crate::snapshot::DomainSnapshot;
use mproc_runtime::{Error, LaneBell, SendWatch, WhenFull};
use std::any::Any;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// What two nodes must have in common to share a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TopicKey {
    pub(crate) id: TopicId,
    /// Empty if it is called by id.
    pub(crate) name: String,
    /// For people.
    pub(crate) type_name: String,
    /// Equal for types that understand each other's bytes.
    pub(crate) type_hash: u64,
    pub(crate) codec: CodecKind,
}

impl TopicKey {
    /// What people call it.
    pub(crate) fn label(&self) -> String {
        crate::topic::label(&self.name, self.id)
    }
}

/// Another node, as this one knows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remote {
    /// Never used by two nodes.
    pub(crate) node: [u8; 16],
    /// For people: `process 1234`.
    pub(crate) label: String,
}

/// What a subscription asks of each of its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) max_leases: usize,
    /// It looks on: for people, who ask who consumes a topic.
    pub(crate) is_tap: bool,
}

/// Finds other nodes, and links topics with subscriptions.
pub(crate) trait Transport: Send + Sync {
    /// The node publishes on this topic from now on. Again for the same topic is nothing.
    fn offer(&self, topic: Arc<dyn Offered>);
    /// The topic has no publisher any more. Links stay until their subscriptions leave: there may be a publisher again.
    fn withdraw(&self, id: TopicId);
    /// The node has this subscription from now on. For a processor's it is called on its driver's thread.
    fn seek(&self, sought: Arc<dyn Sought>);
    /// A subscription has ended.
    fn forget(&self, id: SubscriptionId);
    /// What subscriptions want has changed: ask them again.
    fn reconsider(&self);
    /// How many other nodes publish on this topic, as far as is known now.
    fn publishers(&self, id: TopicId) -> usize;
    /// What other nodes know this one by: their [`Remote::node`].
    fn node(&self) -> [u8; 16];
    /// Asks all other nodes for reports until the deadline, and finishes the survey. Each watches for so long first who sends to
    /// whom.
    fn survey(&self, ask: &Arc<Ask>, deadline: Option<Instant>, watch: Duration);
    /// Nobody waits for some of the surveys any more.
    fn forget_surveys(&self);
    /// What is counted.
    fn snapshot(&self) -> DomainSnapshot;
    /// The node ends: what is queued at others stays there. Returns when no thread of the transport runs any more, unless it
    /// is called by one.
    fn close(&self);
}

/// What a transport tells its node. Called without locks.
pub(crate) trait Neighbourhood: Send + Sync {
    /// Another number of nodes publish on this topic than before: see [`Transport::publishers`].
    fn publishers_changed(&self, id: TopicId);
    /// What this node says of itself, in bytes, or for people why it says nothing. It may take seconds.
    fn report(&self, sends: Option<SendsSnapshot>) -> Result<Vec<u8>, String>;
    /// Counts from now on who sends to whom; `None` if the node has ended.
    fn watch_sends(&self) -> Option<SendWatch>;
}

/// A topic on which this node publishes.
pub(crate) trait Offered: Send + Sync {
    fn key(&self) -> &TopicKey;
    /// A subscription of another node joins: it gets history first, then all that is published, and nothing twice.
    ///
    /// The error: the node has ended.
    fn join(&self, link: Arc<dyn OutLink>) -> Result<SubscriptionId, Error>;
    /// It has left, also after its link was closed here. Publishes that wait for it go on. Nothing if it is not known any more.
    fn leave(&self, id: SubscriptionId);
}

/// A subscription of this node.
pub(crate) trait Sought: Send + Sync {
    fn id(&self) -> SubscriptionId;
    /// True if it wants the samples of that topic. The error, for people, names both types: it would want them, but they do
    /// not fit.
    fn wants(&self, key: &TopicKey) -> Result<bool, Error>;
    fn terms(&self) -> Terms;
    /// The processor's lane that it is, if it is one: the lane's own driver looks at its links, and nobody else.
    fn bell(&self) -> Option<LaneBell>;
    /// One more source. False if the subscription has ended.
    fn open(&self, from: &Remote, key: &TopicKey, inlet: Box<dyn Inlet>) -> bool;
    /// Looks whether a source has news, and if so tells whoever receives. True if there was news that nobody was told of.
    /// It costs a load or two for each source.
    fn look(&self) -> bool;
}

/// The publisher's end of a link.
pub(crate) trait OutLink: Send + Sync {
    /// The memory for its samples; all links of one topic to one transport share it.
    fn outlet(&self) -> &Arc<dyn Outlet>;
    fn capacity(&self) -> usize;
    fn when_full(&self) -> WhenFull;
    /// True if the other side has said that it is a tap.
    fn is_tap(&self) -> bool;
    /// Who is at the other end.
    fn remote(&self) -> &Remote;
    /// Told whenever something came back while [`watch`](Self::watch) is on, and when the link is gone. Set once, before anything
    /// is pushed.
    fn set_listener(&self, listener: Weak<dyn Listener>);
    /// Queues a sample by the link's policy. `guard` is kept until the other side has given it back, or it was dropped.
    fn push(&self, filled: &Arc<dyn Filled>, stamp: &Stamp, guard: Guard) -> Carried;
    /// How many samples the other side has not taken yet. 0 once the link is gone.
    fn queued(&self) -> usize;
    /// Lets go of the guards of all that came back.
    fn sweep(&self);
    /// While it is on, the listener is told of what comes back. After turning it on, look again.
    fn watch(&self, on: bool);
    /// Wakes the other side, if it sleeps.
    fn ring(&self);
    /// No more comes. The other side may still take what is queued, unless it is `Full`'s counterpart that has left.
    fn close(&self);
}

/// Kept with a sample that is out.
pub(crate) type Guard = Arc<dyn Any + Send + Sync>;

/// What became of a sample that was offered to a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carried {
    /// It is queued; the oldest may have had to go.
    Queued { evicted: bool },
    /// The policy dropped it.
    Dropped,
    /// It was full, and the publisher wants to know.
    Refused,
    /// It was full, and is closed now.
    Overflowed,
    /// A link that waits has no room. Nothing happened.
    Full,
    /// The link is gone.
    Gone,
}

/// Told that something came back, on any thread and without locks.
pub(crate) trait Listener: Send + Sync {
    fn came_back(&self);
}

/// The memory in which samples of one topic are carried.
pub(crate) trait Outlet: Send + Sync {
    /// Memory for `bytes`, to be filled.
    fn loan(&self, bytes: usize) -> Result<Box<dyn OutLoan>, LoanRefusal>;
    /// As [`loan`](Self::loan). If memory is short, `waker` is woken when some came back.
    fn poll_loan(&self, bytes: usize, waker: &Waker) -> Result<Box<dyn OutLoan>, LoanRefusal>;
}

/// Why there is no memory.
#[derive(Debug)]
pub(crate) enum LoanRefusal {
    /// All of it is out. Some will come back.
    Short,
    /// There never will be.
    Never(Error),
}

/// Memory that is being filled.
pub(crate) trait OutLoan: Send + Sync {
    /// As many bytes as were asked for; they are initialised.
    fn bytes(&self) -> &[u8];
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Publishes only the first `bytes`.
    fn truncate(&mut self, bytes: usize);
    /// It is filled: from now on it is only read.
    fn freeze(self: Box<Self>) -> Arc<dyn Filled>;
}

/// Memory that is filled. Each link of its outlet may queue it; this node may read it. It goes back when nobody has it.
pub(crate) trait Filled: Send + Sync {
    fn bytes(&self) -> &[u8];
    /// The loan again, if nobody else has it and it was never queued.
    fn thaw(self: Arc<Self>) -> Result<Box<dyn OutLoan>, Arc<dyn Filled>>;
    fn as_any(&self) -> &dyn Any;
}

/// The subscriber's end of a link.
pub(crate) trait Inlet: Send {
    /// True if [`take`](Self::take) may say something that it has not said.
    fn has_news(&self) -> bool;
    fn take(&mut self) -> Took;
    /// How many samples wait.
    fn queued(&self) -> usize;
    /// Deals with news that are no samples. `Some` if nothing waits and nothing will come.
    fn settle(&mut self) -> Option<Ending>;
}

/// What an inlet had.
pub(crate) enum Took {
    /// A sample, and how many that were offered before it did not come.
    Sample {
        lease: Box<dyn Lease>,
        gap: u64,
    },
    Nothing,
    /// Nothing, because as many leases are held as may be. The [`Sought`] is looked at again when one is let go of.
    LeaseLimit,
    /// Nothing, and nothing will come.
    Ended(Ending),
}

/// Why nothing comes any more.
pub(crate) enum Ending {
    /// The queue was full, and the policy is to close the subscription then.
    Overflowed,
    /// For people: who has left, or broke the protocol.
    Left(String),
}

/// The bytes of a sample, unchanged until it is dropped. Dropping it gives them back.
pub(crate) trait Lease: Send + Sync {
    /// In place. Whoever published them is trusted not to change them meanwhile.
    fn bytes(&self) -> &[u8];
    /// A copy of them, whatever their publisher does meanwhile.
    fn copied(&self) -> Vec<u8>;
    fn stamp(&self) -> &Stamp;
}

/// What travels with the bytes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The topic that it was published on; the link's own, unless topics are connected.
    pub(crate) topic: TopicId,
    /// The publisher's number in its own node.
    pub(crate) publisher: u64,
    /// The publisher's own sequence.
    pub(crate) sequence: u64,
    pub(crate) published: Instant,
    /// Parts follow the value; see `parts.rs`.
    pub(crate) has_parts: bool,
}
