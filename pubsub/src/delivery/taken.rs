//! What the receiving side counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the receiving side counts. It is written by one receiver at a time (the lane's driver, or whoever holds the
/// lock) and orders nothing, hence relaxed.
#[derive(Default)]
pub(crate) struct Taken {
    pub(super) count: AtomicU64,
    /// The number in the queue that comes next; a larger one is a gap.
    expected: AtomicU64,
    pub(super) gaps: AtomicU64,
    /// How many were offered before the next, by the queue and the sources together: its number in the subscription.
    numbered: AtomicU64,
}

impl Taken {
    /// Counts an item that is taken from the queue, and returns how many were lost before it. Its number in the queue becomes
    /// its number in the subscription.
    pub(crate) fn note(&self, number: &mut u64) -> u64 {
        let gap = number.saturating_sub(self.expected.load(Ordering::Relaxed));
        self.expected.store(*number + 1, Ordering::Relaxed);
        *number = self.note_gap(gap);
        gap
    }

    /// Counts a sample before which so many were lost, and returns its number in the subscription.
    pub(super) fn note_gap(&self, gap: u64) -> u64 {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        if gap > 0 {
            let gaps = self.gaps.load(Ordering::Relaxed);
            self.gaps.store(gaps.saturating_add(gap), Ordering::Relaxed);
        }
        let before = self.numbered.load(Ordering::Relaxed);
        let number = before.saturating_add(gap);
        self.numbered
            .store(number.saturating_add(1), Ordering::Relaxed);
        number
    }
}
