//! How much a processor has to do, for those who choose among several.

use super::Cell;
use crate::address::Address;
use crate::current;
use crate::processor::Processor;
use crate::sync::Relaxed;

impl<P: Processor> Cell<P> {
    /// How many messages have come and were not dropped, since it began. It takes the mailbox's lock.
    pub(crate) fn came(&self) -> u64 {
        let lanes = self.lanes().lock();
        let dropped = lanes.rare.as_ref().map_or(0, |rare| rare.drops.total());
        lanes.received.saturating_sub(dropped)
    }

    /// How many messages were handled; what is being handled now is not among them. Without a lock, so it may be a little old.
    ///
    /// `came - done` is how many wait, with the one in the handler.
    pub(crate) fn done(&self) -> u64 {
        let handled = self.counters().handled.load(Relaxed);
        let runs = self.counters().since.load(Relaxed) != 0;
        handled.saturating_sub(u64::from(runs))
    }
}

impl<P: Processor> Address<P> {
    /// True if a message would find room now, as far as this sender is concerned.
    pub(crate) fn has_room(&self) -> bool {
        if current::outbox_holds(self.key()) {
            return false;
        }
        let mut lanes = self.cell.lanes().lock();
        let (queue, progress) = lanes.queue(self.lane, self.cell.flags());
        queue.has_room(progress) || queue.when_full().evicts()
    }
}
