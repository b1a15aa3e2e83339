//! Lanes beside the mailbox.

use super::Cx;
use crate::lane::{LaneBell, LaneSource};
use crate::mailbox::LaneId;
use crate::processor::Processor;

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Adds a bounded lane beside the mailbox. `lane` is given the bell that its sending half rings.
    pub fn add_lane(
        &mut self,
        lane: impl FnOnce(LaneBell) -> Box<dyn LaneSource<P> + Send>,
    ) -> LaneId {
        self.keep_lane(|bell| lane(bell))
    }

    /// The caller sees to it that the lane is `Send`, or that this is not a pool.
    pub(super) fn keep_lane(
        &mut self,
        lane: impl FnOnce(LaneBell) -> Box<dyn LaneSource<P>>,
    ) -> LaneId {
        // The bell needs the lane's id and the lane needs the bell: a slot is taken first.
        struct Nothing;
        impl<P: Processor> LaneSource<P> for Nothing {
            fn serve(&mut self, _: &mut P, _: &mut Cx<'_, P>) -> bool {
                false
            }
            fn head(&self) -> Option<u64> {
                None
            }
            fn item_type(&self) -> fn() -> &'static str {
                || ""
            }
            fn drain(&mut self) {}
            fn end(&mut self) {}
        }
        let id = self.local.add_lane(Box::new(Nothing));
        let lane = lane(LaneBell {
            cell: self.cell.clone(),
            lane: id,
        });
        self.local.lanes[id.slot as usize].lane = Some(lane);
        id
    }

    /// Removes a lane: its receiving half is ended and dropped.
    pub fn remove_lane(&mut self, lane: LaneId) {
        self.local.remove_lane(lane);
    }
}
