//! The kinds of frame, and what each says.

use super::hello::Hello;
use super::reason::{DetachReason, RefuseReason};
use std::fmt;

/// A topic and the type of its values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicType<'a> {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: &'a str,
    /// The hash of its type's schema.
    pub type_hash: u64,
    /// The name of its type, for people.
    pub type_name: &'a str,
    /// Its codec, as the layer above numbers them.
    pub codec: u8,
}

/// What a process does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Announce<'a> {
    /// A sum of [`PUBLISHES`](Self::PUBLISHES) and [`SUBSCRIBES`](Self::SUBSCRIBES).
    pub roles: u8,
    /// The topic.
    pub topic: TopicType<'a>,
}

impl Announce<'_> {
    /// It has publishers.
    pub const PUBLISHES: u8 = 1;
    /// It has subscriptions.
    pub const SUBSCRIBES: u8 = 2;
}

/// What a process no longer does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Withdraw {
    /// The roles that end.
    pub roles: u8,
    /// The topic's id.
    pub topic: u64,
}

/// A subscriber asks for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attach<'a> {
    /// The answer repeats this number.
    pub request: u32,
    /// How many messages its queue holds.
    pub depth: u32,
    /// How many leases it holds at most.
    pub leases_max: u32,
    /// How many past messages it wants.
    pub history: u32,
    /// Which pair of words in its doorbell to ring.
    pub bell: u32,
    /// What a full queue does, as the layer above numbers the policies.
    pub when_full: u8,
    /// What it subscribes, as it knows it.
    pub topic: TopicType<'a>,
}

/// A publisher gives a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Which [`Attach`] this answers.
    pub request: u32,
    /// The link's number on this connection, given by the publisher.
    pub link: u32,
    /// How many slots the publisher can ever have.
    pub slots: u32,
    /// How many messages its queue holds.
    pub depth: u32,
    /// How many leases may be held.
    pub leases_max: u32,
    /// Which pair of words in the publisher's doorbell.
    pub bell: u32,
    /// How many past messages will come first.
    pub history: u32,
    /// Which publisher of its process.
    pub publisher: u64,
}

/// A publisher gives no link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refuse<'a> {
    /// Which [`Attach`] this answers.
    pub request: u32,
    /// Why.
    pub reason: RefuseReason,
    /// What the publisher has, or allows. A longer text is cut when it is encoded.
    pub publisher: &'a str,
    /// What the subscriber has, or asked for. A longer text is cut when it is encoded.
    pub subscriber: &'a str,
}

impl fmt::Display for Refuse<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            reason,
            publisher,
            subscriber,
            ..
        } = self;
        write!(
            f,
            "{reason}: the publisher has {publisher}, the subscriber {subscriber}"
        )
    }
}

/// More memory in which messages of a link may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The link it is for.
    pub link: u32,
    /// How many the publisher made before, the low 32 bits.
    pub segment: u32,
    /// The number of its first slot in the link's count.
    pub first_slot: u32,
    /// How many slots it has.
    pub slots: u32,
    /// The largest payload, in bytes.
    pub payload_bytes: u32,
}

/// A link ends in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Detach<'a> {
    /// Which, or [`ALL`](Self::ALL).
    pub link: u32,
    /// Why.
    pub reason: DetachReason,
    /// More, for people. A longer text is cut when it is encoded.
    pub text: &'a str,
}

impl Detach<'_> {
    /// All links of the connection.
    pub const ALL: u32 = u32::MAX;
}

/// Which segment a link is to let go of, or has let go of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retire {
    /// The link.
    pub link: u32,
    /// The number of the segment's first slot in the link's count.
    pub first_slot: u32,
}

/// One frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// See [`Hello`].
    Hello(Hello),
    /// See [`Announce`].
    Announce(Announce<'a>),
    /// See [`Withdraw`].
    Withdraw(Withdraw),
    /// See [`Attach`].
    Attach(Attach<'a>),
    /// See [`Accept`].
    Accept(Accept),
    /// See [`Refuse`].
    Refuse(Refuse<'a>),
    /// See [`Segment`].
    Segment(Segment),
    /// See [`Detach`].
    Detach(Detach<'a>),
    /// The subscriber is asked to let go of a segment of which it has nothing.
    Retire(Retire),
    /// It has let go of it.
    Retired(Retire),
    /// A kind that this build does not know: one of a layer above, or of a later version.
    Other {
        /// Its number.
        kind: u16,
        /// Its body.
        body: &'a [u8],
    },
}

impl Frame<'_> {
    /// Its number on the wire.
    pub fn kind(&self) -> u16 {
        match self {
            Self::Hello(_) => 1,
            Self::Announce(_) => 2,
            Self::Withdraw(_) => 3,
            Self::Attach(_) => 4,
            Self::Accept(_) => 5,
            Self::Refuse(_) => 6,
            Self::Segment(_) => 7,
            Self::Detach(_) => 8,
            Self::Retire(_) => 9,
            Self::Retired(_) => 10,
            Self::Other { kind, .. } => *kind,
        }
    }
}
