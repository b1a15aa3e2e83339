//! Ending a processor that has nothing to do, without losing a message that comes just then.

use super::{Cell, Local};
use crate::processor::Processor;
use crate::sync::Relaxed;

impl<P: Processor> Cell<P> {
    /// Closes the mailbox and has the processor end after what it is doing now, if nothing at all waits for it: no message,
    /// queued or set aside, no place that somebody holds or waits for, no notice, and nothing that it has begun. Returns
    /// false, and changes nothing, otherwise.
    ///
    /// That nothing waits is seen under the same lock under which the mailbox is closed, so a message comes before, and the
    /// processor goes on, or after, and its sender gets it back.
    pub(crate) fn retire_if_idle(&self, local: &mut Local<P>) -> bool {
        let begun = !local.is_drained() || !local.control.is_empty() || local.tasks.is_some();
        if begun || local.draining || local.stop {
            return false;
        }
        let mut lanes = self.lanes().lock();
        let dropped = lanes.rare.as_ref().map_or(0, |rare| rare.drops.total());
        let settled = self.counters().handled.load(Relaxed) + dropped;
        let high_is_untouched = lanes
            .rare
            .as_ref()
            .and_then(|rare| rare.high.as_ref())
            .is_none_or(|high| high.queue.is_untouched());
        let idle = lanes.received == settled
            && lanes.normal.is_untouched()
            && high_is_untouched
            && lanes.normal.own.signals.is_empty()
            && !lanes.has_control()
            && !lanes.has_ready();
        if !idle {
            return false;
        }
        // Nobody waits for room, so there is nobody to wake.
        let _nobody = lanes.normal.close(self.flags());
        if let Some(high) = lanes.rare().high.as_mut() {
            let _nobody = high.queue.close(&high.progress);
        }
        drop(lanes);
        local.stop = true;
        true
    }
}
