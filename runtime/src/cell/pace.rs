//! When a driver looks into a mailbox that others are filling.
//!
//! A driver that keeps up with a stream finds one or two messages at each look, and with each look it takes the lock, and
//! the cache line it stands on, away from the sender. If it looks away for a moment in between, the sender runs undisturbed
//! and the driver finds many: both get faster. But to a caller that waits for its reply every such moment is lost.
//!
//! So the driver tries: after a few small batches in a row it looks away for a short while. If as many messages came as it
//! waited turns, this is a stream, and it tries twice as long; if not, it stops, and the next try comes later each time.
//!
//! The other way round, a processor that is asked now and then finds one message and, at its second look, nothing. Where
//! that was so the last time, it is taken to be so again, and the second look is left out: see `Local::released`.

use super::Cell;
use crate::processor::Processor;
use crate::sync::{Relaxed, spin_loop};

/// A batch of this size makes up for the cost of looking.
const LARGE: usize = 64;
/// Turns of the shortest try, some 0.2 microseconds.
const SHORT: u32 = 8;
/// Turns of the longest, some 6 microseconds.
const LONG: u32 = 256;
/// So many small batches in a row before the first try.
const TRY_AFTER: u32 = 4;
/// And so many at most after tries in vain.
const TRY_AFTER_MAX: u32 = 256;
/// A message that was alone once is taken to be alone so many times.
const ALONE: u32 = 64;

/// See the module's documentation.
#[derive(Debug)]
pub(super) struct Pace {
    /// How many turns to look away before the next look.
    away: u32,
    /// Batches in a row that were small, without looking away.
    small: u32,
    /// How many of those until the next try.
    try_after: u32,
    /// What the last look found.
    last: usize,
    /// So many more times a single message is taken to be alone.
    alone: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            away: 0,
            small: 0,
            try_after: TRY_AFTER,
            last: 0,
            alone: 0,
        }
    }
}

impl Pace {
    /// Called before a look into the mailbox.
    #[inline]
    pub(super) fn look_away<P: Processor>(&self, cell: &Cell<P>) {
        if self.away > 0 {
            self.spin(cell);
        }
    }

    #[cold]
    fn spin<P: Processor>(&self, cell: &Cell<P>) {
        for _ in 0..self.away.min(cell.driver.world().spins()) {
            // What is not a message may be urgent.
            if cell.flags().own.attention.load(Relaxed) {
                return;
            }
            spin_loop();
        }
    }

    /// A look has found so many messages.
    #[inline]
    pub(super) fn found(&mut self, messages: usize) {
        let last = std::mem::replace(&mut self.last, messages);
        if messages == 0 && last == 1 {
            self.alone = ALONE;
        } else if last > 0 || messages > 1 {
            self.alone = 0;
        }
        if messages == 0 {
            self.away = 0;
            self.small = 0;
        } else if self.away > 0 {
            if messages >= self.away as usize {
                self.away = (self.away * 2).min(LONG);
                self.try_after = TRY_AFTER;
            } else {
                self.away = 0;
                self.try_after = (self.try_after * 2).min(TRY_AFTER_MAX);
            }
        } else if messages < LARGE {
            self.small += 1;
            if self.small >= self.try_after {
                self.small = 0;
                self.away = SHORT;
            }
        }
    }
}

impl Pace {
    /// Called after `found`: true if what was found is a single message. On a pool the look at the end of a visit is left out
    /// then, since there is another one behind it: see `Local::last_look_is_later`.
    #[inline]
    pub(super) fn is_single(&mut self) -> bool {
        let single = self.last == 1;
        if single {
            self.last = 0;
        }
        single
    }

    /// Nothing is known yet. Of many processors most are sent a message now and then: the first is taken to be alone.
    pub(super) fn of_many() -> Self {
        Self {
            alone: 1,
            ..Self::default()
        }
    }

    /// Called after `found`: true if what was found is a single message that is probably alone.
    #[inline]
    pub(super) fn is_alone(&mut self) -> bool {
        if self.last != 1 || self.alone == 0 {
            return false;
        }
        self.alone -= 1;
        // The look that would find nothing is left out.
        self.last = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_to_be_alone_after_one_that_was_until_one_was_not() {
        let mut pace = Pace::default();
        let visit = |pace: &mut Pace| {
            pace.found(1);
            let alone = pace.is_alone();
            if !alone {
                pace.found(0);
            }
            alone
        };
        assert!(!visit(&mut pace));
        // Now and then it looks again.
        let alone = (0..650).filter(|_| visit(&mut pace)).count();
        assert_eq!(alone, 640);
        while visit(&mut pace) {}
        pace.found(1);
        pace.found(1);
        assert!(!pace.is_alone());
    }

    #[test]
    fn a_stream_is_given_time_and_callers_are_not_kept_waiting() {
        let mut pace = Pace::default();
        (0..20).for_each(|_| pace.found(1 + pace.away as usize));
        assert_eq!(pace.away, LONG);
        pace.found(0);
        assert_eq!(pace.away, 0);
        // Four callers, each with one call at a time: the tries become rare.
        let tries = (0..10_000).filter(|_| {
            pace.found(4);
            pace.away > 0
        });
        assert!(tries.count() < 60);
    }
}
