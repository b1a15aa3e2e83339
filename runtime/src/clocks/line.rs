//! How domain time goes with steady time. Nothing here knows what time it is: steady time is an argument.
//!
//! ```text
//! time = base + rate * (steady - at)        while it runs
//! time = base                               while it is paused
//! ```
//!
//! The rate is kept as a whole number of parts, so that the way there and the way back fit exactly: what is due is due at the
//! very nanosecond that was computed for it, and not looked at too early again and again.

use super::Time;
use std::time::Duration;

/// Parts of a rate of 1.
const ONE: u64 = 1 << 40;

/// The fastest that domain time can go. Beyond it nanoseconds say nothing any more.
pub(crate) const RATE_MAX: f64 = 1e6;

/// The slowest, but for a pause.
pub(crate) const RATE_MIN: f64 = 1e-6;

/// See the module's documentation. Times of the steady clock are in nanoseconds since the node began.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) base: Time,
    pub(crate) at: u64,
    pub(crate) rate: f64,
    pub(crate) paused: bool,
    /// It is not before this: a change that is no move does not take time back, though who hears of it later has gone on.
    pub(crate) floor: Time,
}

impl Line {
    pub(crate) const STANDS_AT_ZERO: Self = Self {
        base: Time::ZERO,
        at: 0,
        rate: 1.0,
        paused: true,
        floor: Time::ZERO,
    };

    /// True if time can go at this rate.
    pub(crate) fn is_rate(rate: f64) -> bool {
        (RATE_MIN..=RATE_MAX).contains(&rate)
    }

    fn parts(&self) -> u64 {
        // Within 2^20 and 2^60 for every rate there can be.
        ((self.rate * ONE as f64) as u64).max(1)
    }

    /// What it shows at `steady`.
    pub(crate) fn time(&self, steady: u64) -> Time {
        let passed = if self.paused {
            0
        } else {
            u128::from(steady.saturating_sub(self.at)) * u128::from(self.parts()) / u128::from(ONE)
        };
        let passed = u64::try_from(passed).unwrap_or(u64::MAX);
        (self.base + Duration::from_nanos(passed)).max(self.floor)
    }

    /// When it shows `time` for the first time; `None` if it does not get there by itself.
    pub(crate) fn steady(&self, time: Time) -> Option<u64> {
        if time <= self.floor || time <= self.base {
            return Some(self.at);
        }
        if self.paused {
            return None;
        }
        let distance = u128::from((time - self.base).as_nanos() as u64) * u128::from(ONE);
        let passed = distance.div_ceil(u128::from(self.parts()));
        u64::try_from(passed).ok()?.checked_add(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rate: f64) -> Line {
        Line {
            base: Time::from_nanos(1_700_000_000_000_000_007),
            at: 12_345,
            rate,
            paused: false,
            floor: Time::ZERO,
        }
    }

    #[test]
    fn what_is_due_is_due_at_the_very_nanosecond() {
        for rate in [RATE_MIN, 0.001, 0.3, 1.0, 1.1, 10.0, 999.9, RATE_MAX] {
            let line = line(rate);
            for ahead in [1, 2, 3, 999, 1_000_000, 3_600_000_000_000] {
                let time = line.base + Duration::from_nanos(ahead);
                let steady = line.steady(time).unwrap();
                assert!(line.time(steady) >= time, "{rate} {ahead}");
                assert!(line.time(steady - 1) < time, "{rate} {ahead}");
            }
        }
    }

    #[test]
    fn a_rate_of_one_is_exact() {
        let line = line(1.0);
        assert_eq!(line.time(12_345 + 5), line.base + Duration::from_nanos(5));
        assert_eq!(
            line.time(u64::MAX) - line.base,
            Duration::from_nanos(u64::MAX - line.base.as_nanos())
        );
    }

    #[test]
    fn a_pause_stands_and_a_floor_holds() {
        let mut line = line(10.0);
        line.paused = true;
        assert_eq!(line.time(999_999), line.base);
        assert_eq!(line.steady(line.base + Duration::from_nanos(1)), None);
        line.floor = line.base + Duration::from_nanos(50);
        assert_eq!(line.time(0), line.floor);
        assert_eq!(line.steady(line.floor), Some(line.at));
    }

    #[test]
    fn nonsense_is_no_rate() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300, 1e-300] {
            assert!(!Line::is_rate(rate), "{rate}");
        }
        assert!(Line::is_rate(0.5) && Line::is_rate(RATE_MAX));
    }
}
