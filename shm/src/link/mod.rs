//! A link: one publisher, one subscriber, a ring of what is queued, and a lease cell for each slot.
//!
//! `README.md` beside this file has the words, the steps of both sides, the argument that they are right, and what each
//! leaves behind when it dies between two of them.

mod publisher;
mod subscriber;

#[cfg(all(test, loom))]
mod models;
#[cfg(all(test, not(loom)))]
pub(crate) mod tests;

pub(crate) use publisher::{Offered, PublisherHalf, Standing};
#[cfg(not(loom))]
pub(crate) use subscriber::Held;
pub(crate) use subscriber::{SubscriberHalf, Took};

#[cfg(loom)]
pub(crate) use crate::heap::LinkWords;
#[cfg(not(loom))]
pub(crate) use crate::segment::LinkWords;

use crate::error::SegmentErrorKind;
use crate::layout::SLOTS_MAX;

/// What a full link does with the next sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The publisher waits for room: nothing is queued anywhere before there is.
    Wait,
    /// The oldest queued sample is revoked.
    DropOldest,
    /// The new sample is not queued on this link.
    DropNewest,
    /// The new sample is not queued on this link, and the publisher is told.
    Fail,
    /// The link is closed.
    Disconnect,
}

/// What was agreed about a link in the handshake. Both sides have it in private memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkGeometry {
    /// How many samples may be queued.
    pub depth: u32,
    /// How many slots its publisher can ever have: there is a cell for each.
    pub slots: u32,
    /// How many samples the subscriber may hold.
    pub leases_max: u32,
    /// What happens when `depth` samples are queued.
    pub when_full: WhenFull,
}

/// No link has a deeper queue.
pub const DEPTH_MAX: u32 = 1 << 20;

impl LinkGeometry {
    /// Checks numbers that came from elsewhere.
    pub(crate) fn check(self) -> Result<Self, SegmentErrorKind> {
        let wrong = |which| Err(SegmentErrorKind::Geometry(which));
        if self.depth == 0 || self.depth > DEPTH_MAX {
            return wrong("the depth of the queue");
        }
        if self.slots == 0 || self.slots > SLOTS_MAX {
            return wrong("the number of slots");
        }
        if self.leases_max == 0 {
            return wrong("the number of leases");
        }
        Ok(self)
    }

    /// How many entries the ring has: a power of two, so that a sequence's place is a matter of bits.
    pub(crate) fn ring(self) -> usize {
        self.depth.next_power_of_two() as usize
    }
}

/// Why a link has ended, other than by a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkEnd {
    /// The publisher has closed it.
    Closed,
    /// Its queue was full, and its policy is [`WhenFull::Disconnect`].
    Overflowed,
    /// The publisher's process is dead: see [`SubscriberLink::publisher_ended`](crate::SubscriberLink::publisher_ended).
    PublisherDied,
    /// This process was forked from the one that opened the link, and does not have it.
    Forked,
}
