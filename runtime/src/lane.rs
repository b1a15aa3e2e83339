//! The seam for bounded lanes that are not the mailbox: the subscriptions of a processor.
//!
//! A lane is two halves. The receiving half is a [`LaneSource`]: it lives in the processor's cell, and its driver asks it
//! for one item at a time. The sending half keeps the queue (with a lock and a policy of its own) and a [`LaneBell`],
//! and rings when the queue goes from nothing to something. A hot lane cannot crowd out the others: control, messages and
//! lanes are served in turn, and lanes among themselves likewise.
//!
//! The rule that no item is left lying: the sending half keeps a flag under its queue's lock, "rung". A push that finds
//! it false sets it and rings after the lock is released. [`LaneSource::serve`] clears it, under the same lock, exactly
//! when it finds nothing to serve and returns false.

use crate::cell::CellRef;
use crate::context::Cx;
use crate::id::{DriverId, ProcessorId};
use crate::mailbox::LaneId;
use crate::processor::Processor;
use crate::waits_for::Keeper;
use std::fmt;

/// The receiving half of a lane. It is kept with its processor, and `Send` as a rule ([`Cx::add_lane`]).
pub trait LaneSource<P: Processor>: 'static {
    /// Serves one item, or returns false if there is none. Then it is asked again only after its bell was rung.
    fn serve(&mut self, processor: &mut P, cx: &mut Cx<'_, P>) -> bool;

    /// Leaves nothing behind: if there is no item, does what [`serve`](Self::serve) does before it returns false, and returns
    /// true. Serves nothing, and runs no code of the program. False if there is an item, or if it cannot say.
    fn rest(&mut self) -> bool {
        false
    }

    /// The arrival number of the next item ([`LaneBell::next_arrival`]), if its driver counts arrivals.
    fn head(&self) -> Option<u64>;

    /// The type of the items, for logs.
    fn item_type(&self) -> fn() -> &'static str;

    /// The processor drains: take nothing new, but serve what is queued.
    fn drain(&mut self);

    /// The lane was removed, or its processor has ended. Not called while it is served.
    fn end(&mut self);
}

/// Tells a processor's driver that a lane has something.
#[derive(Clone)]
pub struct LaneBell {
    pub(crate) cell: CellRef,
    pub(crate) lane: LaneId,
}

impl LaneBell {
    /// The lane has something, and had nothing before. Call it with no lock held.
    pub fn ring(&self) {
        self.cell.clone().lane_ready(self.lane);
    }

    /// The number that the next item gets, if the driver serves in order of arrival. Call it under the queue's lock.
    #[inline]
    pub fn next_arrival(&self) -> Option<u64> {
        self.cell.driver().next_arrival()
    }

    /// Whose lane it is.
    pub fn processor(&self) -> ProcessorId {
        self.cell.id()
    }

    /// Who would have to run so that there is room in the lane.
    pub fn keeper(&self) -> Keeper {
        Keeper::of(&*self.cell)
    }

    /// What its processor is called.
    pub fn processor_name(&self) -> &crate::Name {
        self.cell.name()
    }

    /// Which driver serves it.
    pub fn driver(&self) -> DriverId {
        self.cell.driver().id()
    }
}

impl fmt::Debug for LaneBell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LaneBell({} of {:?})", self.lane.slot, self.cell.name())
    }
}
