//! Frames to bytes.

use super::frame::{Frame, TopicType};
use super::{
    FRAMES_KNOWN, HEADER_BYTES, MAGIC, TOPIC_NAME_BYTES_MAX, TYPE_NAME_BYTES_MAX, VALUE_BYTES_MAX,
};
use std::fmt;

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
    /// [`Frame::Other`] with a kind that this build knows.
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

fn put_name(out: &mut Vec<u8>, name: &str, bytes_max: usize) -> Result<(), EncodeError> {
    let bytes = name.len();
    if bytes > bytes_max {
        return Err(EncodeError::Name { bytes, bytes_max });
    }
    // `bytes_max` fits: it is one of the constants of `mod.rs`.
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
