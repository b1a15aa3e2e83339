//! What is known of a running program.

use crate::dead_letters::Drops;
use crate::id::{DriverId, ProcessorId};
use serde::{Deserialize, Serialize};

/// Processors and drivers, and totals over all that ever lived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Living processors, by id.
    pub processors: Vec<ProcessorSnapshot>,
    /// Living drivers, by id.
    pub drivers: Vec<DriverSnapshot>,
    /// Sums over living and ended processors.
    pub totals: Totals,
    /// Dead letters since the node began.
    pub dead_letters: u64,
}

/// One processor.
///
/// When it stands still, `received = handled + dropped + queued`, exactly. Messages given back to their senders are not
/// received.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ProcessorSnapshot {
    /// Its id.
    pub id: ProcessorId,
    /// Its name.
    pub name: String,
    /// The driver it runs on.
    pub driver: String,
    /// Why it ended, if it has.
    pub ended: Option<String>,
    /// True while its outbox waits for room elsewhere.
    pub stalled: bool,
    /// Messages that came in, also those that the policy dropped at once.
    pub received: u64,
    /// Messages whose handler was entered; one that was set aside counts when it is handled again.
    pub handled: u64,
    /// Messages that wait; those that were set aside ([`Cx::stash`](crate::Cx::stash)), too.
    pub queued: u64,
    /// Messages that were dropped, by cause.
    pub dropped: Drops,
    /// Messages given back to their senders.
    pub returned: u64,
    /// Messages that it sent and that wait in its outbox.
    pub outbox: u64,
    /// Messages that it sent and that were given up in its outbox; they are dead letters of their targets.
    pub outbox_dropped: u64,
    /// Handlers that returned a fault.
    pub faults: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// How often its supervisor has brought it up again.
    #[serde(default)]
    pub restarts: u64,
    /// True while it waits for its supervisor to bring it up: it takes messages, and handles none.
    #[serde(default)]
    pub restarting: bool,
    /// The supervisor that brings it up; `None` if it has none.
    #[serde(default)]
    pub supervisor: Option<String>,
    /// Places of its mailbox; `u64::MAX` if it has no bound.
    pub capacity: u64,
    /// The most messages that ever waited.
    pub high_water: u64,
    /// Time spent in handlers, in nanoseconds.
    pub busy_ns: u64,
    /// The longest handler, in nanoseconds; for runs of short ones their mean counts.
    pub longest_handler_ns: u64,
    /// For how long it has been in a handler, in nanoseconds; `None` if it is not in one.
    pub handling_ns: Option<u64>,
    /// The type of the message that it handles or, if it handles none, handled last; `None` if it has handled none. For
    /// what is no message, a word in its place: `timer`, `continuation`, `notice`, `task`.
    pub last_message_type: Option<String>,
}

/// Somebody who cannot go on now, and whom that is up to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WaitSnapshot {
    /// The processor that waits, or the driver whose thread does. For a publish outside of handlers the processor that has
    /// made the publisher, else `publisher of "topic"`.
    pub who: String,
    /// The processors for which it waits. Empty if nobody knows who will answer: the reply was promised for later. What is no
    /// processor of this node has a text with its topic: `process 1234 on "camera"`, `subscription 7 on "camera"`; with
    /// `(memory)` behind it if it holds the memory that a publisher needs.
    pub on: Vec<String>,
    /// `call`: for an answer, inside a handler. `room`: for places in mailboxes or subscriptions, inside a handler or with its
    /// outbox after it; or in subscriptions, on another thread that publishes.
    pub why: String,
}

/// How many messages one sent to another while somebody watched ([`Runtime::watch_sends`](crate::Runtime::watch_sends)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SendSnapshot {
    /// The processor that sent them; `None` if no processor of the node did, but the program outside of handlers.
    #[serde(default)]
    pub from: Option<String>,
    /// The processor whose mailbox has taken them.
    pub to: String,
    /// How many.
    pub count: u64,
}

impl WaitSnapshot {
    /// A wait that the layer above knows of.
    pub fn new(who: String, on: Vec<String>, why: &str) -> Self {
        let why = why.to_owned();
        Self { who, on, why }
    }
}

/// One driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct DriverSnapshot {
    /// Its id.
    pub id: DriverId,
    /// Its name.
    pub name: String,
    /// `own`, `shared`, `pool` or `manual`.
    pub kind: String,
    /// How many processors it serves.
    pub members: u64,
    /// How often it served a processor.
    pub turns: u64,
    /// How often it went to sleep.
    pub parks: u64,
    /// How often it was woken.
    pub wakes: u64,
    /// How many threads it has: 1, or those of a pool, spare ones included.
    pub threads: u64,
    /// How many of a pool's threads are blocked inside a handler, and replaced by spare ones as far as there are any.
    pub blocked: u64,
    /// How often one of a pool's threads took work from another.
    pub steals: u64,
    /// How often a pool's thread blocked and no spare one was left to take its place
    /// ([`PoolOptions::spares`](crate::PoolOptions::spares)).
    pub exhausted: u64,
}

/// Sums over processors, also those that have ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Processors that have ended.
    pub ended: u64,
    /// Messages that came in.
    pub received: u64,
    /// Messages whose handler was entered.
    pub handled: u64,
    /// Messages that wait in mailboxes.
    pub queued: u64,
    /// Messages that were dropped, by cause.
    pub dropped: Drops,
    /// Messages given back to their senders.
    pub returned: u64,
    /// Messages in outboxes.
    pub outbox: u64,
    /// Messages given up in outboxes.
    pub outbox_dropped: u64,
    /// Handlers that returned a fault.
    pub faults: u64,
    /// Handlers that panicked.
    pub panics: u64,
    /// How often supervisors have brought processors up again.
    #[serde(default)]
    pub restarts: u64,
}

impl Totals {
    pub(crate) fn add(&mut self, p: &ProcessorSnapshot) {
        self.received += p.received;
        self.handled += p.handled;
        self.queued += p.queued;
        self.dropped.merge(&p.dropped);
        self.returned += p.returned;
        self.outbox += p.outbox;
        self.outbox_dropped += p.outbox_dropped;
        self.faults += p.faults;
        self.panics += p.panics;
        self.restarts += p.restarts;
    }
}
