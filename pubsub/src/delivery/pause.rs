//! Pauses: while there is a reason, nothing is handed out.

use super::Delivery;
use crate::events::Event;
use std::sync::atomic::Ordering;

/// Why nothing is handed out. One bit each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paused {
    /// Somebody said so.
    Asked = 1,
    /// Its callback was taken out.
    NoCallback = 2,
}

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire) != 0
    }

    /// True if it was not paused for this reason before.
    pub(crate) fn pause(&self, why: Paused) -> bool {
        let before = self.paused.fetch_or(why as u8, Ordering::AcqRel);
        if before == 0 {
            self.tell(|topic, subscription| Event::Paused {
                topic,
                subscription,
            });
        }
        before & why as u8 == 0
    }

    /// True if it was paused for this reason.
    pub(crate) fn resume(&self, why: Paused) -> bool {
        if !self.is_here() {
            return false;
        }
        let before = self.paused.fetch_and(!(why as u8), Ordering::AcqRel);
        // Whatever came meanwhile, and what was left of a batch, is looked at again.
        self.look_again();
        if before == why as u8 {
            self.tell(|topic, subscription| Event::Resumed {
                topic,
                subscription,
            });
        }
        before & why as u8 != 0
    }
}
