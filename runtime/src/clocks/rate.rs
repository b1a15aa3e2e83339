//! A loop that goes round once in a period.

use super::{Clock, Slept, Time};
use std::fmt;
use std::time::Duration;

/// Keeps a loop in step with a clock: [`sleep`](Self::sleep) blocks until the next period begins. It needs no executor and no
/// spinning, and no other thread.
///
/// The grid is fixed by when it was made, so that nothing drifts.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::{Rate, Runtime, Slept};
/// use std::time::Duration;
///
/// let node = Runtime::simulated(1);
/// let clock = node.steady_clock();
/// let mut rate = Rate::new(&clock, Duration::from_millis(10));
/// let begun = clock.now();
/// for n in 1..=3 {
///     let beat = rate.sleep();
///     assert_eq!((beat.slept, beat.missed), (Slept::Reached, 0));
///     assert_eq!(clock.now(), begun + n * Duration::from_millis(10));
/// }
/// node.advance(Duration::from_millis(35)); // this time round took long
/// assert_eq!(rate.sleep().missed, 2); // it returns at once, and says how many were left out
/// rate.sleep();
/// assert_eq!(clock.now(), begun + Duration::from_millis(70)); // still on the grid
/// ```
pub struct Rate {
    clock: Clock,
    period: Duration,
    next: Time,
}

/// What [`Rate::sleep`] returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beat {
    /// How the sleep ended.
    pub slept: Slept,
    /// How many periods began and were left out, because the loop took longer.
    pub missed: u64,
}

impl Rate {
    /// The first period ends one `period` from now. A period below 1 microsecond counts as 1 microsecond.
    pub fn new(clock: &Clock, period: Duration) -> Self {
        let period = period.max(Duration::from_micros(1));
        Self {
            clock: clock.clone(),
            period,
            next: clock.now() + period,
        }
    }

    /// Sleeps until the next period begins. If one has begun since it was called last, it does not sleep, and says how many
    /// others were left out.
    ///
    /// If the clock is changed and the time not reached, the sleep ends, and the grid begins anew at what the clock shows.
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread as long as the clock takes: for ever, if that is paused by this very thread, until the node ends.
    /// Inside a handler its driver waits too; there use a timer ([`Cx::every`](crate::Cx::every)).
    pub fn sleep(&mut self) -> Beat {
        let slept = self.clock.core.block_until(&self.clock.runtime, self.next);
        let now = self.clock.now();
        if slept != Slept::Reached {
            self.next = now + self.period;
            return Beat { slept, missed: 0 };
        }
        let (_, missed, next) = crate::timer::tick_at(self.next, self.period, now);
        self.next = next;
        Beat { slept, missed }
    }

    /// The time from one to the next.
    pub fn period(&self) -> Duration {
        self.period
    }

    /// How long until the next period begins, by the clock; zero if it has begun.
    pub fn time_left(&self) -> Duration {
        self.next - self.clock.now()
    }

    /// Begins the grid anew: the next period ends one period from now.
    pub fn reset(&mut self) {
        self.next = self.clock.now() + self.period;
    }
}

impl fmt::Debug for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rate")
            .field("period", &self.period)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
