//! What a thread that blocks in a handler does for the other processors of its driver: it delivers what they have sent.
//!
//! A stalled processor stands in line for room, and is woken when it gets a place. The place is kept for it, but only its
//! driver's thread can use it, and that may block in the handler of a neighbour, perhaps for room at that very place, or for
//! an answer that waits behind it. So the thread, whenever it is woken, uses the places that its stalled neighbours
//! were given. It enters none of their handlers: limits, ends and faults are left to their next turn.

use crate::cell::CellRef;
use crate::current;
use crate::mailbox::Signals;
use crate::waits_for;
use std::task::Waker;

/// The stalled neighbours of the handler that this thread blocks in. None can come meanwhile: that would take the thread.
pub(crate) struct Neighbours(Vec<CellRef>);

impl Neighbours {
    pub(crate) fn of_this_thread() -> Self {
        Self(waits_for::stalled_in(
            &current::domains(),
            current::handler(),
        ))
    }

    /// Delivers what has got room. `waker` is woken when it is worth doing again.
    pub(crate) fn deliver(&self, waker: &Waker) {
        for cell in &self.0 {
            let blocked_on = cell.deliver_outbox_of_neighbour(waker);
            waits_for::still_blocked_on(cell.id(), blocked_on);
        }
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        // From now on each must be woken itself.
        for cell in &self.0 {
            cell.clone().signal(Signals::ROOM);
        }
    }
}
