//! When which message is due.

use super::times::nanoseconds;
use std::time::{Duration, Instant};

/// Where in the recording playing is. Each due time is computed from the last change of pace, so that nothing adds up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    rate: f64,
    is_paused: bool,
    /// When playing was at `anchor_ns`.
    anchor: Instant,
    anchor_ns: u64,
}

impl Pace {
    pub(crate) fn new(now: Instant, at_ns: u64, rate: f64, is_paused: bool) -> Self {
        Self {
            rate,
            is_paused,
            anchor: now,
            anchor_ns: at_ns,
        }
    }

    pub(crate) fn rate(&self) -> f64 {
        self.rate
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    /// The time of the recording that is played now.
    pub(crate) fn position(&self, now: Instant) -> u64 {
        if self.is_paused {
            return self.anchor_ns;
        }
        let gone = now.saturating_duration_since(self.anchor);
        // A float has too few digits for times since 1970, and enough for differences.
        let played = nanoseconds(gone) as f64 * self.rate;
        self.anchor_ns.saturating_add(played as u64)
    }

    /// When that time of the recording is due; `None` while it is paused, or if that is never.
    pub(crate) fn due(&self, time_ns: u64) -> Option<Instant> {
        if self.is_paused {
            return None;
        }
        let ahead_ns = time_ns.saturating_sub(self.anchor_ns) as f64 / self.rate;
        self.anchor
            .checked_add(Duration::from_nanos(ahead_ns as u64))
    }

    pub(crate) fn pause(&mut self, now: Instant) {
        self.anchor_ns = self.position(now);
        self.anchor = now;
        self.is_paused = true;
    }

    pub(crate) fn resume(&mut self, now: Instant) {
        self.anchor = now;
        self.is_paused = false;
    }

    pub(crate) fn set_rate(&mut self, now: Instant, rate: f64) {
        self.anchor_ns = self.position(now);
        self.anchor = now;
        self.rate = rate;
    }

    /// Goes on from there.
    pub(crate) fn jump(&mut self, now: Instant, to_ns: u64) {
        self.anchor = now;
        self.anchor_ns = to_ns;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: u64 = 1_795_292_983_123_456_789;

    fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn times_are_due_at_the_rate() {
        let now = Instant::now();
        let mut pace = Pace::new(now, BEGIN, 2.0, false);
        assert_eq!(pace.due(BEGIN), Some(now));
        assert_eq!(pace.due(BEGIN - 5), Some(now));
        assert_eq!(pace.due(BEGIN + 1_000_000_000), Some(now + ms(500)));
        assert_eq!(pace.position(now + ms(500)), BEGIN + 1_000_000_000);
        pace.set_rate(now + ms(500), 0.5);
        assert_eq!(pace.due(BEGIN + 1_500_000_000), Some(now + ms(1500)));
        assert_eq!(pace.rate(), 0.5);
    }

    #[test]
    fn a_pause_takes_no_time_of_the_recording() {
        let now = Instant::now();
        let mut pace = Pace::new(now, BEGIN, 1.0, false);
        pace.pause(now + ms(100));
        assert!(pace.is_paused());
        assert_eq!(pace.due(BEGIN), None);
        assert_eq!(pace.position(now + ms(5000)), BEGIN + 100_000_000);
        pace.jump(now + ms(6000), BEGIN + 300_000_000);
        assert_eq!(pace.position(now + ms(7000)), BEGIN + 300_000_000);
        pace.resume(now + ms(8000));
        assert_eq!(pace.due(BEGIN + 400_000_000), Some(now + ms(8100)));
    }

    #[test]
    fn times_that_never_come_are_never_due() {
        let pace = Pace::new(Instant::now(), 0, 0.001, false);
        assert!(pace.due(u64::MAX).is_none_or(|due| due > Instant::now()));
    }
}
