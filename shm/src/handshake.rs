//! What processes say to each other on a connection: every byte.
//!
//! A packet holds one or more frames, back to back, and nothing else. Numbers are little-endian. A frame:
//!
//! ```text
//! at  bytes
//!  0  4      length of the body
//!  4  2      kind
//!  6  1      descriptors: how many of the packet's belong to this frame, in the order of the frames
//!  7  1      0 (not looked at)
//!  8  length body
//! ```
//!
//! A kind that is not known is passed over by its length, and its descriptors are closed. Kinds from 0x100 on are free
//! for the layers above. A body ends where its drawing ends; only `Hello` may be followed by more, which a later version
//! put there. A *text* is a length (2 bytes) and as many bytes of UTF-8; how many are allowed stands beside it.
//!
//! ```text
//! Hello (1)                          the first packet of each side, alone in it
//!   0  8   magic: 89 6d 70 72 6f 63 0d 0a
//!   8  2   protocol, the lowest that is spoken
//!  10  2   protocol, the highest that is spoken
//!  12  4   0 (not looked at)
//!  16  8   features, a bit each
//!  24  8   ABI hash
//!  32 16   node id
//!  48 16   boot id
//!  64  8   start time of the process
//!  72  4   process id
//!
//! topic:                             part of the frames below
//!   0  8   topic id
//!   8  8   type hash
//!  16  1   codec, as the layer above numbers them
//!  17      topic name (text, 255), type name (text, 1024)
//!
//! Announce (2)                       what this process does with a topic
//!   0  1   roles: bit 0 publishes, bit 1 subscribes
//!   1      topic
//!
//! Withdraw (3)
//!   0  1   roles that end
//!   1  8   topic id
//!
//! Attach (4)                         subscriber to publisher; descriptor: the subscriber's doorbell
//!   0  4   request, a number that the answer repeats
//!   4  4   depth of the queue
//!   8  4   most leases at a time
//!  12  4   history wanted, in messages
//!  16  4   bell: which pair of words in the doorbell
//!  20  1   when full, as the layer above numbers the policies
//!  21      topic
//!
//! Accept (5)                         descriptors: the link, the publisher's doorbell
//!   0  4   request
//!   4  4   link, the publisher's number for it on this connection
//!   8  4   slots: how many the publisher can ever have
//!  12  4   depth of the queue
//!  16  4   most leases at a time
//!  20  4   bell: which pair of words in the doorbell
//!  24  4   history that will be sent, in messages
//!  28  8   publisher's number in its process
//!
//! Refuse (6)
//!   0  4   request
//!   4  2   reason
//!   6      the publisher's value (text, 1100), the subscriber's value (text, 1100)
//!
//! Segment (7)                        descriptor: the segment. Before the first message that lies in it
//!   0  4   link
//!   4  4   segment: how many the publisher made before, the low 32 bits
//!   8  4   first slot, in the link's count
//!  12  4   slots
//!  16  4   largest payload, in bytes
//!
//! Detach (8)                         either side; a connection that ends without it was lost
//!   0  4   link, or ff ff ff ff for all
//!   4  2   reason
//!   6      for people (text, 1100)
//!
//! Retire (9)                         publisher to subscriber: nothing lies in this segment, and nothing will
//!   0  4   link
//!   4  4   first slot, in the link's count
//!
//! Retired (10)                       subscriber to publisher: it is not mapped any more. Other memory may have these slots now
//!   0  4   link
//!   4  4   first slot
//! ```
//!
//! # Agreement
//!
//! Each side sends its `Hello` at once and judges the other's by [`Hello::agree`], so both come to the same answer and
//! each can name both values. Nothing is mapped before that.
//!
//! # Decoding
//!
//! [`Frames`] accepts any bytes. It borrows from the packet, reads each byte once and allocates nothing. What is
//! well-formed may still be nonsense: a depth of 0 is for the layer above to refuse.

use crate::process::{BootId, Identity, NodeId};
use std::fmt;

/// The first bytes of a [`Hello`].
pub const MAGIC: [u8; 8] = *b"\x89mproc\r\n";

/// How many kinds of frame are known here: 1 to this number.
pub const FRAMES_KNOWN: u16 = 10;

const HEADER_BYTES: usize = 8;
const TOPIC_NAME_BYTES_MAX: usize = 255;
const TYPE_NAME_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1100;

/// Versions of the protocol that a build speaks, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocols {
    /// The lowest.
    pub min: u16,
    /// The highest.
    pub max: u16,
}

impl fmt::Display for Protocols {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.min == self.max {
            write!(f, "{}", self.min)
        } else {
            write!(f, "{} to {}", self.min, self.max)
        }
    }
}

/// Who speaks, and which language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The versions it speaks.
    pub protocols: Protocols,
    /// What it can do beyond that, a bit each.
    pub features: u64,
    /// A hash of what two programs must have in common before they share memory: the processor, and every number that
    /// the layout of the shared words depends on.
    pub abi: u64,
    /// Which process and node it is, by its own word.
    pub identity: Identity,
}

/// What two sides have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The highest version that both speak.
    pub protocol: u16,
    /// The features that both have.
    pub features: u64,
}

/// Why two processes cannot work together. Each variant has both sides' values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// They speak no version in common. Build both from versions that do.
    Protocol {
        /// What the peer speaks.
        theirs: Protocols,
        /// What we speak.
        ours: Protocols,
    },
    /// They would see different things in the same memory. Build both for one architecture with one version.
    Abi {
        /// The peer's hash.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol { theirs, ours } => {
                write!(
                    f,
                    "the peer speaks protocol {theirs}, this build speaks {ours}"
                )
            }
            Self::Abi { theirs, ours } => write!(
                f,
                "the peer has ABI {theirs:016x}, this build has {ours:016x}: \
                 build both for one architecture with one version"
            ),
        }
    }
}

impl std::error::Error for Mismatch {}

impl Hello {
    /// What both have in common.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] names both values. The peer comes to the same answer.
    pub fn agree(&self, theirs: &Self) -> Result<Agreed, Mismatch> {
        let (ours, other) = (self.protocols, theirs.protocols);
        let protocol = ours.max.min(other.max);
        if protocol < ours.min || protocol < other.min {
            return Err(Mismatch::Protocol {
                theirs: other,
                ours,
            });
        }
        if self.abi != theirs.abi {
            return Err(Mismatch::Abi {
                theirs: theirs.abi,
                ours: self.abi,
            });
        }
        Ok(Agreed {
            protocol,
            features: self.features & theirs.features,
        })
    }
}

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

/// Why a publisher gives no link. Numbers that a later version gives are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RefuseReason(pub u16);

impl RefuseReason {
    /// It does not publish the topic, or no longer.
    pub const NO_TOPIC: Self = Self(1);
    /// The topic has another type.
    pub const TYPE: Self = Self(2);
    /// The topic has another codec.
    pub const CODEC: Self = Self(3);
    /// Two topics have one id.
    pub const CLASH: Self = Self(4);
    /// The queue asked for is too deep, or has no place.
    pub const DEPTH: Self = Self(5);
    /// So many leases cannot be given.
    pub const LEASES: Self = Self(6);
    /// The memory it may use does not suffice.
    pub const MEMORY: Self = Self(7);
    /// It has no descriptor left. Ask again later.
    pub const DESCRIPTORS: Self = Self(8);
    /// It does not know the policy.
    pub const WHEN_FULL: Self = Self(9);

    fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::NO_TOPIC => "the topic is not published there",
            Self::TYPE => "the topic has another type",
            Self::CODEC => "the topic has another codec",
            Self::CLASH => "two topics have one id",
            Self::DEPTH => "no queue of this depth",
            Self::LEASES => "not so many leases",
            Self::MEMORY => "not enough memory",
            Self::DESCRIPTORS => "no descriptor left",
            Self::WHEN_FULL => "the policy is not known",
            _ => return None,
        })
    }
}

/// Why a link ends. Numbers that a later version gives are kept as they are.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DetachReason(pub u16);

impl DetachReason {
    /// The subscription has ended.
    pub const SUBSCRIPTION_ENDED: Self = Self(1);
    /// The publisher has ended.
    pub const PUBLISHER_ENDED: Self = Self(2);
    /// The node leaves the domain.
    pub const LEAVING: Self = Self(3);
    /// The queue was full, and this is its policy.
    pub const QUEUE_FULL: Self = Self(4);
    /// What the other side wrote or sent makes no sense.
    pub const NONSENSE: Self = Self(5);
    /// Somebody told the publisher to be rid of it.
    pub const EVICTED: Self = Self(6);

    fn text(self) -> Option<&'static str> {
        Some(match self {
            Self::SUBSCRIPTION_ENDED => "the subscription has ended",
            Self::PUBLISHER_ENDED => "the publisher has ended",
            Self::LEAVING => "the node leaves the domain",
            Self::QUEUE_FULL => "the queue was full",
            Self::NONSENSE => "what the other side wrote makes no sense",
            Self::EVICTED => "it was evicted",
            _ => return None,
        })
    }
}

macro_rules! reason {
    ($($name:ident),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self.text() {
                    Some(text) => f.write_str(text),
                    None => write!(f, "reason {}, which this build does not know", self.0),
                }
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({}, {self})", stringify!($name), self.0)
            }
        }
    )*};
}

reason!(RefuseReason, DetachReason);

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
    /// A kind that this file does not know: one of a layer above, or of a later version.
    Other {
        /// Its number.
        kind: u16,
        /// Its body.
        body: &'a [u8],
    },
}

/// Why a frame was not encoded. The buffer is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// A name has more bytes than are allowed.
    Name {
        /// How many it has.
        bytes: usize,
        /// How many are allowed.
        bytes_max: usize,
    },
    /// A body has more bytes than a packet.
    Body {
        /// How many it has.
        bytes: usize,
    },
    /// [`Frame::Other`] with a kind that this file knows.
    KnownKind(u16),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { bytes, bytes_max } => {
                write!(
                    f,
                    "a name has {bytes} bytes, at most {bytes_max} can be sent"
                )
            }
            Self::Body { bytes } => write!(f, "a frame of {bytes} bytes is longer than a packet"),
            Self::KnownKind(kind) => write!(f, "frame kind {kind} has a form of its own"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// What a packet holds that is not frames, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DecodeError {
    at: usize,
    kind: Option<u16>,
    wrong: Wrong,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    /// The packet or the body ends too early.
    Short,
    /// The body goes on behind its end.
    Long,
    Text,
    TextLength(usize),
    Magic,
    Range,
    Descriptors {
        claimed: usize,
        came: usize,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Some(kind) => write!(f, "frame of kind {kind}, byte {} of the packet: ", self.at)?,
            None => write!(f, "byte {} of the packet: ", self.at)?,
        }
        match self.wrong {
            Wrong::Short => f.write_str("it ends too early"),
            Wrong::Long => f.write_str("bytes are left over"),
            Wrong::Text => f.write_str("a text is not UTF-8"),
            Wrong::TextLength(bytes) => write!(f, "a text of {bytes} bytes is too long"),
            Wrong::Magic => f.write_str("the greeting is not one of mproc"),
            Wrong::Range => f.write_str("the lowest protocol is above the highest"),
            Wrong::Descriptors { claimed, came } => {
                write!(
                    f,
                    "the frames claim {claimed} descriptors, {came} have come"
                )
            }
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads forward, each byte once.
struct Bytes<'a> {
    rest: &'a [u8],
    /// Where `rest` starts in the packet.
    at: usize,
}

impl<'a> Bytes<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Wrong> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Wrong::Short)?;
        self.rest = rest;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(Wrong::Short)?;
        self.rest = rest;
        self.at += N;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, Wrong> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Wrong> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Wrong> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Wrong> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self, bytes_max: usize) -> Result<&'a str, Wrong> {
        let bytes = usize::from(self.u16()?);
        if bytes > bytes_max {
            return Err(Wrong::TextLength(bytes));
        }
        std::str::from_utf8(self.take(bytes)?).map_err(|_| Wrong::Text)
    }

    fn topic(&mut self) -> Result<TopicType<'a>, Wrong> {
        Ok(TopicType {
            id: self.u64()?,
            type_hash: self.u64()?,
            codec: self.u8()?,
            name: self.text(TOPIC_NAME_BYTES_MAX)?,
            type_name: self.text(TYPE_NAME_BYTES_MAX)?,
        })
    }

    fn hello(&mut self) -> Result<Hello, Wrong> {
        if self.array()? != MAGIC {
            return Err(Wrong::Magic);
        }
        let (min, max) = (self.u16()?, self.u16()?);
        if min > max {
            return Err(Wrong::Range);
        }
        self.u32()?;
        let (features, abi) = (self.u64()?, self.u64()?);
        let node = NodeId::from_bytes(self.array()?);
        let boot = BootId::from_bytes(self.array()?);
        let (start_time, pid) = (self.u64()?, self.u32()?);
        // What a later version has more to say.
        let rest = self.rest.len();
        self.take(rest)?;
        Ok(Hello {
            protocols: Protocols { min, max },
            features,
            abi,
            identity: Identity {
                boot,
                pid,
                start_time,
                node,
            },
        })
    }

    fn retire(&mut self) -> Result<Retire, Wrong> {
        Ok(Retire {
            link: self.u32()?,
            first_slot: self.u32()?,
        })
    }

    fn frame(&mut self, kind: u16) -> Result<Frame<'a>, Wrong> {
        let frame = match kind {
            1 => Frame::Hello(self.hello()?),
            2 => Frame::Announce(Announce {
                roles: self.u8()?,
                topic: self.topic()?,
            }),
            3 => Frame::Withdraw(Withdraw {
                roles: self.u8()?,
                topic: self.u64()?,
            }),
            4 => Frame::Attach(Attach {
                request: self.u32()?,
                depth: self.u32()?,
                leases_max: self.u32()?,
                history: self.u32()?,
                bell: self.u32()?,
                when_full: self.u8()?,
                topic: self.topic()?,
            }),
            5 => Frame::Accept(Accept {
                request: self.u32()?,
                link: self.u32()?,
                slots: self.u32()?,
                depth: self.u32()?,
                leases_max: self.u32()?,
                bell: self.u32()?,
                history: self.u32()?,
                publisher: self.u64()?,
            }),
            6 => Frame::Refuse(Refuse {
                request: self.u32()?,
                reason: RefuseReason(self.u16()?),
                publisher: self.text(VALUE_BYTES_MAX)?,
                subscriber: self.text(VALUE_BYTES_MAX)?,
            }),
            7 => Frame::Segment(Segment {
                link: self.u32()?,
                segment: self.u32()?,
                first_slot: self.u32()?,
                slots: self.u32()?,
                payload_bytes: self.u32()?,
            }),
            8 => Frame::Detach(Detach {
                link: self.u32()?,
                reason: DetachReason(self.u16()?),
                text: self.text(VALUE_BYTES_MAX)?,
            }),
            9 => Frame::Retire(self.retire()?),
            10 => Frame::Retired(self.retire()?),
            kind => Frame::Other {
                kind,
                body: self.take(self.rest.len())?,
            },
        };
        if self.rest.is_empty() {
            Ok(frame)
        } else {
            Err(Wrong::Long)
        }
    }
}

/// The frames of a packet, each with the number of its descriptors. Nothing follows an error.
#[derive(Debug)]
pub struct Frames<'a> {
    rest: &'a [u8],
    at: usize,
    descriptors_came: usize,
    descriptors_claimed: usize,
    is_done: bool,
}

impl<'a> Frames<'a> {
    /// Those in `packet`, with which `descriptors` have come.
    pub fn new(packet: &'a [u8], descriptors: usize) -> Self {
        Self {
            rest: packet,
            at: 0,
            descriptors_came: descriptors,
            descriptors_claimed: 0,
            is_done: false,
        }
    }

    fn next_frame(&mut self) -> Result<Option<(Frame<'a>, usize)>, DecodeError> {
        let start = self.at;
        let whole = |wrong| DecodeError {
            at: start,
            kind: None,
            wrong,
        };
        let (claimed, came) = (self.descriptors_claimed, self.descriptors_came);
        if self.rest.is_empty() {
            self.is_done = true;
            return if claimed == came {
                Ok(None)
            } else {
                Err(whole(Wrong::Descriptors { claimed, came }))
            };
        }
        let mut bytes = Bytes {
            rest: self.rest,
            at: start,
        };
        let mut header = || Ok((bytes.u32()?, bytes.u16()?, bytes.u8()?, bytes.u8()?));
        let (length, kind, descriptors, _) = header().map_err(whole)?;
        let body_at = bytes.at;
        let body = bytes.take(length as usize).map_err(whole)?;
        self.rest = bytes.rest;
        self.at = bytes.at;
        let descriptors = usize::from(descriptors);
        self.descriptors_claimed += descriptors;
        if self.descriptors_claimed > came {
            let claimed = self.descriptors_claimed;
            return Err(whole(Wrong::Descriptors { claimed, came }));
        }
        let mut bytes = Bytes {
            rest: body,
            at: body_at,
        };
        match bytes.frame(kind) {
            Ok(frame) => Ok(Some((frame, descriptors))),
            Err(wrong) => Err(DecodeError {
                at: bytes.at,
                kind: Some(kind),
                wrong,
            }),
        }
    }
}

impl<'a> Iterator for Frames<'a> {
    /// A frame, and how many of the packet's descriptors are its own.
    type Item = Result<(Frame<'a>, usize), DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let item = self.next_frame().transpose();
        self.is_done |= matches!(item, Some(Err(_)));
        item
    }
}

fn put_name(out: &mut Vec<u8>, name: &str, bytes_max: usize) -> Result<(), EncodeError> {
    let bytes = name.len();
    if bytes > bytes_max {
        return Err(EncodeError::Name { bytes, bytes_max });
    }
    // `bytes_max` fits: it is one of the constants above.
    out.extend((bytes as u16).to_le_bytes());
    out.extend(name.as_bytes());
    Ok(())
}

/// A text for people is cut rather than refused.
fn put_value(out: &mut Vec<u8>, text: &str) -> Result<(), EncodeError> {
    let mut end = text.len().min(VALUE_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    put_name(out, &text[..end], VALUE_BYTES_MAX)
}

fn put_topic(out: &mut Vec<u8>, topic: &TopicType<'_>) -> Result<(), EncodeError> {
    out.extend(topic.id.to_le_bytes());
    out.extend(topic.type_hash.to_le_bytes());
    out.push(topic.codec);
    put_name(out, topic.name, TOPIC_NAME_BYTES_MAX)?;
    put_name(out, topic.type_name, TYPE_NAME_BYTES_MAX)
}

fn put_u32s(out: &mut Vec<u8>, numbers: &[u32]) {
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
}

fn put_u64s(out: &mut Vec<u8>, numbers: &[u64]) {
    out.extend(numbers.iter().flat_map(|n| n.to_le_bytes()));
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

    /// Appends it to `packet`, as the owner of `descriptors` of the packet's descriptors.
    ///
    /// # Errors
    ///
    /// [`EncodeError`]; `packet` is as before.
    pub fn encode(&self, descriptors: u8, packet: &mut Vec<u8>) -> Result<(), EncodeError> {
        let start = packet.len();
        packet.extend([0; HEADER_BYTES]);
        let result = self.encode_body(packet).and_then(|()| {
            let bytes = packet.len() - start;
            if bytes > crate::socket::PACKET_BYTES_MAX {
                return Err(EncodeError::Body { bytes });
            }
            Ok((bytes - HEADER_BYTES) as u32)
        });
        match result {
            Ok(length) => {
                packet[start..start + 4].copy_from_slice(&length.to_le_bytes());
                packet[start + 4..start + 6].copy_from_slice(&self.kind().to_le_bytes());
                packet[start + 6] = descriptors;
                Ok(())
            }
            Err(error) => {
                packet.truncate(start);
                Err(error)
            }
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match self {
            Self::Hello(hello) => {
                out.extend(MAGIC);
                out.extend(hello.protocols.min.to_le_bytes());
                out.extend(hello.protocols.max.to_le_bytes());
                put_u32s(out, &[0]);
                put_u64s(out, &[hello.features, hello.abi]);
                let identity = &hello.identity;
                out.extend(identity.node.to_bytes());
                out.extend(identity.boot.to_bytes());
                put_u64s(out, &[identity.start_time]);
                put_u32s(out, &[identity.pid]);
            }
            Self::Announce(announce) => {
                out.push(announce.roles);
                put_topic(out, &announce.topic)?;
            }
            Self::Withdraw(withdraw) => {
                out.push(withdraw.roles);
                put_u64s(out, &[withdraw.topic]);
            }
            Self::Attach(a) => {
                put_u32s(out, &[a.request, a.depth, a.leases_max, a.history, a.bell]);
                out.push(a.when_full);
                put_topic(out, &a.topic)?;
            }
            Self::Accept(a) => {
                put_u32s(out, &[a.request, a.link, a.slots]);
                put_u32s(out, &[a.depth, a.leases_max, a.bell, a.history]);
                put_u64s(out, &[a.publisher]);
            }
            Self::Refuse(refuse) => {
                put_u32s(out, &[refuse.request]);
                out.extend(refuse.reason.0.to_le_bytes());
                put_value(out, refuse.publisher)?;
                put_value(out, refuse.subscriber)?;
            }
            Self::Segment(s) => {
                let numbers = [s.link, s.segment, s.first_slot, s.slots, s.payload_bytes];
                put_u32s(out, &numbers);
            }
            Self::Detach(detach) => {
                put_u32s(out, &[detach.link]);
                out.extend(detach.reason.0.to_le_bytes());
                put_value(out, detach.text)?;
            }
            Self::Retire(r) | Self::Retired(r) => put_u32s(out, &[r.link, r.first_slot]),
            Self::Other { kind, body } => {
                if (1..=FRAMES_KNOWN).contains(kind) {
                    return Err(EncodeError::KnownKind(*kind));
                }
                out.extend(*body);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hello() -> Hello {
        Hello {
            protocols: Protocols { min: 1, max: 3 },
            features: 0b1011,
            abi: 77,
            identity: Identity {
                boot: BootId::from_bytes([0xb0; 16]),
                pid: 0x0403_0201,
                start_time: 9,
                node: NodeId::from_bytes([0x0d; 16]),
            },
        }
    }

    /// Owns the texts that a frame borrows, and as much else as the largest frame has.
    #[derive(Clone, Debug)]
    struct Parts {
        bytes: [u8; 32],
        n: [u32; 7],
        w: [u64; 3],
        name: String,
        type_name: String,
        text: String,
        body: Vec<u8>,
        other: u16,
    }

    fn parts() -> impl Strategy<Value = Parts> {
        let numbers = (any::<[u8; 32]>(), any::<[u32; 7]>(), any::<[u64; 3]>());
        let texts = (".{0,60}", ".{0,200}", ".{0,200}");
        let other = (proptest::collection::vec(any::<u8>(), 0..300), 11_u16..);
        (numbers, texts, other).prop_map(
            |((bytes, n, w), (name, type_name, text), (body, other))| Parts {
                bytes,
                n,
                w,
                name,
                type_name,
                text,
                body,
                other,
            },
        )
    }

    fn frame(p: &Parts, kind: u16) -> Frame<'_> {
        let [a, b, c, d, e, g, h] = p.n;
        let [u, v, w] = p.w;
        let small = p.bytes[0];
        let topic = TopicType {
            id: u,
            name: &p.name,
            type_hash: v,
            type_name: &p.type_name,
            codec: small,
        };
        let reason = u16::from_le_bytes([p.bytes[1], p.bytes[2] % 2]);
        match kind {
            1 => Frame::Hello(Hello {
                protocols: Protocols {
                    min: reason,
                    max: reason.saturating_add(a as u16),
                },
                features: u,
                abi: v,
                identity: Identity {
                    boot: BootId::from_bytes(*p.bytes.first_chunk().unwrap()),
                    pid: b,
                    start_time: w,
                    node: NodeId::from_bytes(*p.bytes.last_chunk().unwrap()),
                },
            }),
            2 => Frame::Announce(Announce {
                roles: small,
                topic,
            }),
            3 => Frame::Withdraw(Withdraw {
                roles: small,
                topic: w,
            }),
            4 => Frame::Attach(Attach {
                request: a,
                depth: b,
                leases_max: c,
                history: d,
                bell: e,
                when_full: small,
                topic,
            }),
            5 => Frame::Accept(Accept {
                request: a,
                link: b,
                slots: c,
                depth: d,
                leases_max: e,
                bell: g,
                history: h,
                publisher: v,
            }),
            6 => Frame::Refuse(Refuse {
                request: a,
                reason: RefuseReason(reason),
                publisher: &p.text,
                subscriber: &p.type_name,
            }),
            7 => Frame::Segment(Segment {
                link: a,
                segment: b,
                first_slot: c,
                slots: d,
                payload_bytes: e,
            }),
            8 => Frame::Detach(Detach {
                link: a,
                reason: DetachReason(reason),
                text: &p.text,
            }),
            9 => Frame::Retire(Retire {
                link: a,
                first_slot: b,
            }),
            10 => Frame::Retired(Retire {
                link: a,
                first_slot: b,
            }),
            _ => Frame::Other {
                kind: p.other,
                body: &p.body,
            },
        }
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were(
            parts in proptest::collection::vec((parts(), 1_u16..=11, 0_u8..3), 0..6)
        ) {
            let sent: Vec<_> = parts.iter().map(|(p, kind, n)| (frame(p, *kind), usize::from(*n))).collect();
            let mut packet = Vec::new();
            for (frame, n) in &sent {
                frame.encode(*n as u8, &mut packet).unwrap();
            }
            let descriptors = sent.iter().map(|(_, n)| n).sum();
            let came: Vec<_> = Frames::new(&packet, descriptors).map(Result::unwrap).collect();
            prop_assert_eq!(&came, &sent);
            // A packet that lost its end is an error, unless the cut is between two frames.
            if let Some(cut) = packet.len().checked_sub(1) {
                prop_assert!(Frames::new(&packet[..cut], descriptors).any(|f| f.is_err()));
            }
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), descriptors in 0_usize..9
        ) {
            check_any(&bytes, descriptors);
        }

        #[test]
        fn frames_with_any_byte_changed_are_frames_or_an_error(
            p in parts(), kind in 1_u16..=11, at in any::<prop::sample::Index>(), value in any::<u8>()
        ) {
            let mut packet = Vec::new();
            frame(&p, kind).encode(0, &mut packet).unwrap();
            let at = at.index(packet.len());
            packet[at] = value;
            check_any(&packet, 0);
        }
    }

    /// What is decoded can be encoded again, and nothing follows an error.
    fn check_any(bytes: &[u8], descriptors: usize) {
        let mut frames = Frames::new(bytes, descriptors);
        let mut at = 0;
        while let Some(item) = frames.next() {
            let Ok((frame, n)) = item else {
                assert!(frames.next().is_none());
                break;
            };
            let mut again = Vec::new();
            frame.encode(n as u8, &mut again).unwrap();
            let length = frames.at - at;
            // A greeting may have more behind it, and one byte of the header is not looked at.
            let compared = again.len().min(length);
            assert!(matches!(frame, Frame::Hello(_)) || compared == length);
            if !matches!(frame, Frame::Hello(_)) {
                assert_eq!(bytes[at + 8..at + compared], again[8..compared]);
            }
            at = frames.at;
        }
    }

    #[test]
    fn hello_has_the_bytes_of_its_drawing() {
        let mut packet = Vec::new();
        Frame::Hello(hello()).encode(0, &mut packet).unwrap();
        let mut drawn = vec![76, 0, 0, 0, 1, 0, 0, 0];
        drawn.extend(b"\x89mproc\r\n");
        drawn.extend([1, 0, 3, 0, 0, 0, 0, 0]);
        drawn.extend([0b1011, 0, 0, 0, 0, 0, 0, 0, 77, 0, 0, 0, 0, 0, 0, 0]);
        drawn.extend([0x0d; 16]);
        drawn.extend([0xb0; 16]);
        drawn.extend([9, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        assert_eq!(packet, drawn);
        // What a later version says more is passed over.
        packet.extend([1, 2, 3]);
        packet[0] += 3;
        let only: Vec<_> = Frames::new(&packet, 0).collect();
        assert_eq!(only, [Ok((Frame::Hello(hello()), 0))]);
    }

    #[test]
    fn attach_has_the_bytes_of_its_drawing() {
        let attach = Attach {
            request: 1,
            depth: 2,
            leases_max: 3,
            history: 4,
            bell: 5,
            when_full: 6,
            topic: TopicType {
                id: 7,
                name: "t",
                type_hash: 8,
                type_name: "u8",
                codec: 9,
            },
        };
        let mut packet = Vec::new();
        Frame::Attach(attach).encode(1, &mut packet).unwrap();
        let mut drawn = vec![45, 0, 0, 0, 4, 0, 1, 0];
        drawn.extend([
            1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6,
        ]);
        drawn.extend([7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
        drawn.extend([1, 0, b't', 2, 0, b'u', b'8']);
        assert_eq!(packet, drawn);
    }

    #[test]
    fn accept_and_segment_have_the_bytes_of_their_drawings() {
        let accept = Accept {
            request: 1,
            link: 2,
            slots: 3,
            depth: 4,
            leases_max: 5,
            bell: 6,
            history: 7,
            publisher: 8,
        };
        let segment = Segment {
            link: 1,
            segment: 2,
            first_slot: 3,
            slots: 4,
            payload_bytes: 5,
        };
        let mut packet = Vec::new();
        Frame::Accept(accept).encode(2, &mut packet).unwrap();
        Frame::Segment(segment).encode(1, &mut packet).unwrap();
        let mut drawn = vec![36, 0, 0, 0, 5, 0, 2, 0];
        drawn.extend((1..=7_u32).flat_map(u32::to_le_bytes));
        drawn.extend(8_u64.to_le_bytes());
        drawn.extend([20, 0, 0, 0, 7, 0, 1, 0]);
        drawn.extend((1..=5_u32).flat_map(u32::to_le_bytes));
        assert_eq!(packet, drawn);
    }

    #[test]
    fn retire_and_its_answer_have_the_bytes_of_their_drawings() {
        let retire = Retire {
            link: 1,
            first_slot: 2,
        };
        let mut packet = Vec::new();
        Frame::Retire(retire).encode(0, &mut packet).unwrap();
        Frame::Retired(retire).encode(0, &mut packet).unwrap();
        let body = [1, 0, 0, 0, 2, 0, 0, 0];
        let drawn = [
            [[8, 0, 0, 0, 9, 0, 0, 0], body],
            [[8, 0, 0, 0, 10, 0, 0, 0], body],
        ];
        assert_eq!(packet, drawn.as_flattened().as_flattened());
    }

    #[test]
    fn each_wrong_packet_is_refused_with_what_is_wrong() {
        let text = |packet: &[u8], descriptors| {
            let last = Frames::new(packet, descriptors).last().unwrap();
            last.unwrap_err().to_string()
        };
        assert_eq!(text(&[1], 0), "byte 0 of the packet: it ends too early");
        let huge = [255, 255, 255, 255, 1, 0, 0, 0];
        assert_eq!(text(&huge, 0), "byte 0 of the packet: it ends too early");
        let long = [10, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(
            text(&long, 0),
            "frame of kind 3, byte 17 of the packet: bytes are left over"
        );
        let withdraw = [9, 0, 0, 0, 3, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        let claims = "byte 0 of the packet: the frames claim 1 descriptors, 0 have come";
        assert_eq!(text(&withdraw, 0), claims);
        let left = "byte 17 of the packet: the frames claim 1 descriptors, 2 have come";
        assert_eq!(text(&withdraw, 2), left);
        let detach = [8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0];
        assert_eq!(
            text(&detach, 0),
            "frame of kind 8, byte 16 of the packet: it ends too early"
        );
        let not_utf8 = [9, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0xff];
        assert_eq!(
            text(&not_utf8, 0),
            "frame of kind 8, byte 17 of the packet: a text is not UTF-8"
        );
        let too_long = [8, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 16];
        assert!(text(&too_long, 0).ends_with("a text of 4096 bytes is too long"));
        let mut packet = Vec::new();
        Frame::Hello(hello()).encode(0, &mut packet).unwrap();
        packet[8] = b'H';
        assert!(text(&packet, 0).ends_with("the greeting is not one of mproc"));
        packet[8] = MAGIC[0];
        packet[16] = 4;
        assert!(text(&packet, 0).ends_with("the lowest protocol is above the highest"));
    }

    #[test]
    fn unknown_kinds_are_passed_over() {
        let mut packet = Vec::new();
        let later = Frame::Other {
            kind: 0x100,
            body: b"a call",
        };
        let detach = Frame::Detach(Detach {
            link: Detach::ALL,
            reason: DetachReason::LEAVING,
            text: "",
        });
        later.encode(2, &mut packet).unwrap();
        detach.encode(0, &mut packet).unwrap();
        let frames: Vec<_> = Frames::new(&packet, 2).map(Result::unwrap).collect();
        assert_eq!(frames, [(later, 2), (detach, 0)]);
        let wrong = Frame::Other { kind: 8, body: &[] };
        assert_eq!(wrong.encode(0, &mut packet), Err(EncodeError::KnownKind(8)));
    }

    #[test]
    fn names_that_are_too_long_are_refused_and_texts_are_cut() {
        let mut packet = vec![1, 2, 3];
        let name = "n".repeat(256);
        let topic = TopicType {
            id: 1,
            name: &name,
            type_hash: 1,
            type_name: "",
            codec: 0,
        };
        let announce = Frame::Announce(Announce { roles: 1, topic });
        let error = announce.encode(0, &mut packet).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a name has 256 bytes, at most 255 can be sent"
        );
        assert_eq!(packet, [1, 2, 3]);
        let body = vec![0; 65536];
        let other = Frame::Other {
            kind: 300,
            body: &body,
        };
        assert!(other.encode(0, &mut packet).is_err() && packet.len() == 3);
        packet.clear();
        // 1099 bytes of one letter each, then one letter of two bytes.
        let text = "x".repeat(1099) + "\u{e9}";
        let detach = Frame::Detach(Detach {
            link: 1,
            reason: DetachReason::EVICTED,
            text: &text,
        });
        detach.encode(0, &mut packet).unwrap();
        let (frame, _) = Frames::new(&packet, 0).next().unwrap().unwrap();
        assert!(matches!(frame, Frame::Detach(d) if d.text == &text[..1099]));
    }

    #[test]
    fn agreement_takes_the_highest_version_and_the_common_features() {
        let ours = hello();
        let mut theirs = hello();
        theirs.protocols = Protocols { min: 2, max: 9 };
        theirs.features = 0b0110;
        let agreed = Agreed {
            protocol: 3,
            features: 0b0010,
        };
        assert_eq!(ours.agree(&theirs), Ok(agreed));
        assert_eq!(theirs.agree(&ours), Ok(agreed));
    }

    #[test]
    fn mismatch_names_both_values() {
        let ours = hello();
        let mut theirs = hello();
        theirs.abi = 0xabc;
        let text = ours.agree(&theirs).unwrap_err().to_string();
        assert!(
            text.contains("0000000000000abc") && text.contains("000000000000004d"),
            "{text}"
        );
        for (min, max) in [(4, 5), (0, 0)] {
            theirs.protocols = Protocols { min, max };
            assert!(matches!(
                ours.agree(&theirs),
                Err(Mismatch::Protocol { .. })
            ));
            assert!(matches!(
                theirs.agree(&ours),
                Err(Mismatch::Protocol { .. })
            ));
        }
        theirs.protocols = Protocols { min: 4, max: 5 };
        let text = ours.agree(&theirs).unwrap_err().to_string();
        assert_eq!(
            text,
            "the peer speaks protocol 4 to 5, this build speaks 1 to 3"
        );
    }

    #[test]
    fn reasons_of_later_versions_can_be_told() {
        assert_eq!(
            DetachReason(900).to_string(),
            "reason 900, which this build does not know"
        );
        let refuse = Refuse {
            request: 1,
            reason: RefuseReason::TYPE,
            publisher: "u8",
            subscriber: "i64",
        };
        let text = "the topic has another type: the publisher has u8, the subscriber i64";
        assert_eq!(refuse.to_string(), text);
    }
}
