//! The last messages that were dropped: a bounded ring that can be read and subscribed to.

use crate::id::ProcessorId;
use crate::name::Name;
use crate::sync::Mutex;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use serde::de::{self, IntoDeserializer as _, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum DropCause {
    /// The queue was full and its policy drops the oldest.
    Evicted,
    /// The queue was full and its policy drops the newest.
    NoRoom,
    /// The processor ended in order while the message was queued.
    Stopped,
    /// The processor was killed, or failed, while the message was queued.
    Killed,
    /// Whoever made the call gave up waiting for it while it was queued.
    Cancelled,
    /// It stood in an outbox until its limit passed.
    Timeout,
    /// It stood in an outbox when its target ended.
    TargetEnded,
    /// It stood in an outbox when its sender ended otherwise than in order.
    SenderEnded,
    /// Its subscription ended while it was queued.
    Unsubscribed,
    /// It came from another process, and its bytes are no value of the topic's type.
    Undecodable,
}

impl DropCause {
    /// All causes, in the order in which tables show them.
    pub const ALL: [Self; 10] = [
        Self::Evicted,
        Self::NoRoom,
        Self::Stopped,
        Self::Killed,
        Self::Cancelled,
        Self::Timeout,
        Self::TargetEnded,
        Self::SenderEnded,
        Self::Unsubscribed,
        Self::Undecodable,
    ];

    /// The cause in words: `no room`, `target ended`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evicted => "evicted",
            Self::NoRoom => "no room",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Cancelled => "cancelled",
            Self::Timeout => "timeout",
            Self::TargetEnded => "target ended",
            Self::SenderEnded => "sender ended",
            Self::Unsubscribed => "unsubscribed",
            Self::Undecodable => "undecodable",
        }
    }
}

/// As [`DropCause::as_str`].
impl fmt::Display for DropCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How many were dropped, by cause.
///
/// Serialized as a map from the causes that occurred to how often: `{"evicted": 3, "target_ended": 1}`. A cause that the
/// reader does not know, of a later version, is left out of what it reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropCause::ALL.len()]);

impl Drops {
    /// Counts `n` more.
    pub fn add(&mut self, cause: DropCause, n: u64) {
        self.0[cause as usize] += n;
    }

    /// How many were dropped for `cause`.
    pub fn by(&self, cause: DropCause) -> u64 {
        self.0[cause as usize]
    }

    /// How many were dropped in all.
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }

    /// The causes that occurred, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (DropCause, u64)> + '_ {
        DropCause::ALL
            .into_iter()
            .map(|cause| (cause, self.by(cause)))
            .filter(|(_, n)| *n > 0)
    }
}

impl Serialize for Drops {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The length goes first in formats that write it.
        let mut map = serializer.serialize_map(Some(self.iter().count()))?;
        for (cause, n) in self.iter() {
            map.serialize_entry(&cause, &n)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Drops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ReadDrops)
    }
}

struct ReadDrops;

impl<'de> Visitor<'de> for ReadDrops {
    type Value = Drops;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map from causes to counts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Drops, A::Error> {
        let mut drops = Drops::default();
        while let Some((cause, n)) = map.next_entry::<String, u64>()? {
            let cause: de::value::StringDeserializer<A::Error> = cause.into_deserializer();
            if let Ok(cause) = DropCause::deserialize(cause) {
                drops.0[cause as usize] = n;
            }
        }
        Ok(drops)
    }
}

/// `evicted 3, no room 1`, or `none`.
impl fmt::Display for Drops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for (cause, n) in self.iter() {
            write!(f, "{}{cause} {n}", if first { "" } else { ", " })?;
            first = false;
        }
        if first { f.write_str("none") } else { Ok(()) }
    }
}

/// What is known of a dropped message.
#[derive(Clone, Debug)]
pub struct LetterHeader {
    /// Counts all dead letters of the node, from 0. A jump says how many were missed.
    pub number: u64,
    /// For whom it was; `None` for a sample in a queue that no processor owns.
    pub to: Option<ProcessorId>,
    /// What that processor, or the sample's topic, was called.
    pub to_name: Name,
    /// The type of the message.
    pub message_type: &'static str,
    /// Why it was dropped.
    pub cause: DropCause,
    /// When, by the node's clock.
    pub at: Instant,
}

/// A dropped message.
pub struct DeadLetter {
    /// What is known of it.
    pub header: LetterHeader,
    message: Option<Box<dyn Any + Send>>,
}

impl DeadLetter {
    /// The message itself. Samples are not kept: a dead letter holds no lease.
    ///
    /// # Errors
    ///
    /// Gives the letter back if its message is not an `M`, or was not kept.
    pub fn into_message<M: 'static>(self) -> Result<M, Self> {
        let Self { header, message } = self;
        match message.map(Box::<dyn Any + Send>::downcast::<M>) {
            Some(Ok(message)) => Ok(*message),
            Some(Err(message)) => Err(Self {
                header,
                message: Some(message),
            }),
            None => Err(Self {
                header,
                message: None,
            }),
        }
    }
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.header, f)
    }
}

/// The node's dead letters.
pub struct DeadLetters {
    capacity: usize,
    ring: Mutex<Ring>,
}

#[derive(Default)]
struct Ring {
    count: u64,
    letters: VecDeque<DeadLetter>,
    subscribers: Vec<Sender<LetterHeader>>,
}

impl DeadLetters {
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            ring: Mutex::new(Ring::default()),
        }
    }

    /// Keeps a letter, letting the oldest go if the ring is full.
    ///
    /// For those who build queues of their own on the runtime.
    pub fn record(
        &self,
        to: (Option<ProcessorId>, Name),
        message_type: &'static str,
        cause: DropCause,
        at: Instant,
        message: Option<Box<dyn Any + Send>>,
    ) {
        // The oldest letter is dropped after the lock is released: its message's drop is the user's code.
        let name = to.1.clone();
        let oldest = {
            let mut ring = self.ring.lock();
            let header = LetterHeader {
                number: ring.count,
                to: to.0,
                to_name: to.1,
                message_type,
                cause,
                at,
            };
            ring.count += 1;
            ring.subscribers.retain(|subscriber| {
                !matches!(
                    subscriber.try_send(header.clone()),
                    Err(TrySendError::Disconnected(_))
                )
            });
            ring.letters.push_back(DeadLetter { header, message });
            if ring.letters.len() > self.capacity {
                ring.letters.pop_front()
            } else {
                None
            }
        };
        // It may have been anybody's message: what its drop does must not hit who happens to be here.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(oldest))) {
            crate::hook::panic(&name, "drop", &crate::cell::panic_message(&*payload));
        }
    }

    /// How many messages were dropped since the node began.
    pub fn count(&self) -> u64 {
        self.ring.lock().count
    }

    /// What is known of the last dropped messages, oldest first. They stay in the ring.
    pub fn recent(&self) -> Vec<LetterHeader> {
        let ring = self.ring.lock();
        ring.letters.iter().map(|l| l.header.clone()).collect()
    }

    /// Takes the letters out of the ring, oldest first, with their messages.
    pub fn take(&self) -> Vec<DeadLetter> {
        std::mem::take(&mut self.ring.lock().letters).into()
    }

    /// Every later dead letter's header, through a channel that holds `capacity` of them. While it is full, headers
    /// are left out; [`LetterHeader::number`] shows how many. Dropping the receiver ends it.
    pub fn subscribe(&self, capacity: usize) -> Receiver<LetterHeader> {
        let (sender, receiver) = crossbeam_channel::bounded(capacity.max(1));
        self.ring.lock().subscribers.push(sender);
        receiver
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}
