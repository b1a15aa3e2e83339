//! Serving one lane out of its turn: for those who choose what a script runs.

use super::{Cx, Promise, tell_unwound};
use crate::cell::panic_message;
use crate::hook;
use crate::lane::LaneBell;
use crate::processor::{AfterPanic, Processor};
use std::panic::{AssertUnwindSafe, catch_unwind};

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Serves one item of a lane of this processor now, as its driver would in the lane's turn. False if nothing was
    /// served: the lane has nothing, is another's or has gone, is being served already, or the processor is stalled.
    ///
    /// For layers. A panic in what serves it is reported and counted, and `on_panic` says what becomes of the
    /// processor. Call it at most once for each time that the processor is entered: what the item sends is dealt with
    /// afterwards.
    ///
    /// A lane that has nothing takes its bell down, and may still stand in line for its turn. So look first whether it
    /// has something.
    pub fn serve_lane(&mut self, processor: &mut P, bell: &LaneBell) -> bool {
        if bell.cell.id() != self.cell.id || self.local.stalled {
            return false;
        }
        let Some(mut lane) = self.local.take_lane(bell.lane) else {
            return false;
        };
        self.cell.set_last_type(lane.item_type());
        let served = catch_unwind(AssertUnwindSafe(|| {
            lane.serve(
                processor,
                &mut Cx::new(self.cell, self.local, Promise::none()),
            )
        }));
        self.local.put_lane(bell.lane, lane);
        if matches!(served, Ok(false)) {
            return false;
        }
        self.local.messages += 1;
        if let Err(payload) = served {
            let message = panic_message(&*payload);
            self.cell.rarely(|rare| rare.panics += 1);
            hook::panic(&self.cell.name, self.cell.last_type(), &message);
            tell_unwound(&message);
            let after = catch_unwind(AssertUnwindSafe(|| processor.on_panic(&message)));
            if after.unwrap_or(AfterPanic::End) == AfterPanic::End {
                self.stop();
            }
        }
        true
    }
}
