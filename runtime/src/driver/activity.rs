//! What a driver's thread is at, for the monitor to see.
//!
//! Its own thread writes one word at the beginning of a visit and two at the end, with plain stores; the monitor reads them now
//! and then. What the monitor wants of the thread it writes into `flags`, which the thread reads when a visit ends.
//!
//! | flag       | set by                                    | taken down by                                        |
//! |------------|-------------------------------------------|------------------------------------------------------|
//! | `LENT`     | the monitor: another thread runs in its place | the end of the visit, or its beginning to block (it stays replaced then) |
//! | `BLOCKED`  | the thread, before it blocks in a handler | the thread, when it goes on                          |
//! | `REPORTED` | the monitor: the visit was reported as long | the end of the visit                               |

use crate::id::ProcessorId;
use crate::sync::{AcqRel, Acquire, PlainCount, Relaxed, Release, SeqCst};
// Watching is part of no protocol that is model-checked: a late look costs a tick of the monitor.
use std::sync::atomic::{AtomicBool, AtomicU8};

const LENT: u8 = 1;
const BLOCKED: u8 = 2;
const REPORTED: u8 = 4;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// The processor that is being served; 0 for none.
    handling: PlainCount,
    /// Visits that have ended.
    visits: PlainCount,
    flags: AtomicU8,
    asleep: AtomicBool,
}

/// A visit that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Visit {
    pub(crate) number: u64,
    pub(crate) of: ProcessorId,
    /// It has been reported, or is known to wait: the monitor need not stay awake for it.
    pub(crate) is_known: bool,
    /// It has been reported.
    pub(crate) is_reported: bool,
}

impl Activity {
    #[inline]
    pub(crate) fn begin(&self, id: ProcessorId) {
        self.handling.store(id.get(), Relaxed);
    }

    /// True if somebody has asked to be told.
    #[inline]
    pub(crate) fn end(&self) -> bool {
        self.handling.store(0, Relaxed);
        // Release: partner in `lend`. One writer.
        self.visits.store(self.visits.load(Relaxed) + 1, Release);
        self.flags.load(Relaxed) != 0
    }

    /// Takes the flags down after a visit. Returns whether it was lent, and whether it was reported.
    pub(crate) fn settle(&self) -> (bool, bool) {
        let flags = self.flags.swap(0, AcqRel);
        (flags & LENT != 0, flags & REPORTED != 0)
    }

    /// How many visits have ended.
    pub(crate) fn visits(&self) -> u64 {
        self.visits.load(Relaxed)
    }

    /// The visit that is going on, if there is one.
    pub(crate) fn visit(&self) -> Option<Visit> {
        let number = self.visits.load(Acquire);
        let of = ProcessorId::from_number(self.handling.load(Relaxed))?;
        let flags = self.flags.load(Relaxed);
        Some(Visit {
            number,
            of,
            is_known: flags & (BLOCKED | REPORTED) != 0,
            is_reported: flags & REPORTED != 0,
        })
    }

    /// Gives the thread's place away because its visit takes long. False if that visit is over, or its place was given away
    /// already.
    pub(crate) fn lend(&self, visit: u64) -> bool {
        let taken = self.flags.fetch_update(AcqRel, Acquire, |flags| {
            (flags & (LENT | BLOCKED) == 0).then_some(flags | LENT)
        });
        if taken.is_err() {
            return false;
        }
        if self.visits.load(Acquire) == visit {
            return true;
        }
        // It was over already. If the thread has seen the flag meanwhile it has counted itself as running once more, and
        // the place is to be given away after all.
        self.flags.fetch_and(!LENT, AcqRel) & LENT == 0
    }

    /// The thread is about to block. True if its place was given away already.
    pub(crate) fn block(&self) -> bool {
        let flags = self
            .flags
            .fetch_update(AcqRel, Acquire, |flags| Some((flags | BLOCKED) & !LENT));
        flags.is_ok_and(|flags| flags & LENT != 0)
    }

    /// True if another thread runs in this one's place.
    pub(crate) fn is_replaced(&self) -> bool {
        self.flags.load(Relaxed) & (LENT | BLOCKED) != 0
    }

    pub(crate) fn go_on(&self) {
        self.flags.fetch_and(!BLOCKED, AcqRel);
    }

    /// A visit is reported, unless it is over: then the next one would not be watched.
    pub(crate) fn report(&self, visit: u64) {
        self.flags.fetch_or(REPORTED, AcqRel);
        if self.visits.load(Acquire) != visit {
            self.flags.fetch_and(!REPORTED, AcqRel);
        }
    }

    pub(crate) fn sleeps(&self) {
        self.asleep.store(true, SeqCst);
    }

    pub(crate) fn wakes(&self) {
        self.asleep.store(false, SeqCst);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.asleep.load(SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ProcessorId {
        ProcessorId::from_number(n).unwrap()
    }

    #[test]
    fn a_visit_is_lent_once_and_not_after_its_end() {
        let activity = Activity::default();
        activity.begin(id(7));
        let visit = activity.visit().unwrap();
        assert_eq!((visit.of, visit.is_known), (id(7), false));
        assert!(activity.lend(visit.number));
        assert!(!activity.lend(visit.number));
        assert!(activity.end());
        assert_eq!(activity.settle(), (true, false));
        assert_eq!(activity.visit(), None);
        activity.begin(id(8));
        assert!(!activity.lend(visit.number));
        assert!(!activity.end());
    }

    #[test]
    fn a_thread_whose_place_was_given_away_blocks_without_giving_it_away_again() {
        let activity = Activity::default();
        activity.begin(id(7));
        let visit = activity.visit().unwrap();
        assert!(activity.lend(visit.number));
        assert!(activity.block());
        assert!(!activity.lend(visit.number));
        activity.go_on();
        assert!(!activity.end());
        activity.begin(id(7));
        assert!(!activity.block());
    }
}
