//! Bytes to frames.

use super::frame::{
    Accept, Announce, Attach, Detach, Frame, Refuse, Retire, Segment, TopicType, Withdraw,
};
use super::hello::{Hello, Protocols};
use super::reason::{DetachReason, RefuseReason};
use super::{MAGIC, TOPIC_NAME_BYTES_MAX, TYPE_NAME_BYTES_MAX, VALUE_BYTES_MAX};
use crate::process::{BootId, Identity, NodeId};
use std::fmt;

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
    pub(super) at: usize,
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
