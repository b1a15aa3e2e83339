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
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | every byte, drawn, and how long things may be |
//! | `frame.rs` | the kinds of frame, and what each says |
//! | `hello.rs` | who speaks, and what two sides have in common |
//! | `reason.rs` | why there is no link, or no longer |
//! | `encode.rs` | frames to bytes |
//! | `decode.rs` | bytes to frames |

mod decode;
mod encode;
mod frame;
mod hello;
mod reason;
#[cfg(test)]
mod tests;

pub use decode::{DecodeError, Frames};
pub use encode::EncodeError;
pub use frame::{
    Accept, Announce, Attach, Detach, Frame, Refuse, Retire, Segment, TopicType, Withdraw,
};
pub use hello::{Agreed, Hello, Mismatch, Protocols};
pub use reason::{DetachReason, RefuseReason};
/// The first bytes of a [`Hello`].
pub const MAGIC: [u8; 8] = *b"\x89mproc\r\n";

/// How many kinds of frame are known here: 1 to this number.
pub const FRAMES_KNOWN: u16 = 10;

const HEADER_BYTES: usize = 8;
const TOPIC_NAME_BYTES_MAX: usize = 255;
const TYPE_NAME_BYTES_MAX: usize = 1024;
const VALUE_BYTES_MAX: usize = 1100;
