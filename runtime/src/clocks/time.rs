//! A moment by a clock.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// A moment by a clock, in nanoseconds since that clock's zero.
///
/// The zero of steady time is the node's beginning, that of wall time is the beginning of 1970 (UTC), and that of domain
/// time is whatever its driver means. Moments of different clocks have nothing to do with each other.
///
/// # Examples
///
/// ```
/// use mproc_runtime::Time;
/// use std::time::Duration;
///
/// let start = Time::from_secs(100);
/// let later = start + Duration::from_millis(1500);
/// assert_eq!(later - start, Duration::from_millis(1500));
/// assert_eq!(start - later, Duration::ZERO); // never less than nothing
/// assert_eq!(later.to_string(), "101.500000000 s");
/// ```
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Time(u64);

impl Time {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);

    /// So many nanoseconds after the clock's zero.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// So many milliseconds after the clock's zero; the latest moment there is if that is beyond it (584 years).
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis.saturating_mul(1_000_000))
    }

    /// So many seconds after the clock's zero; the latest moment there is if that is beyond it (584 years).
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since the clock's zero.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after the clock's zero.
    pub const fn since_zero(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// `self + time`; `None` if that is later than can be said.
    pub fn checked_add(self, time: Duration) -> Option<Self> {
        let time = u64::try_from(time.as_nanos()).ok()?;
        self.0.checked_add(time).map(Self)
    }

    /// How long after `earlier`; zero if it is not after it.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// The latest moment there is, if the sum is later.
impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        self.checked_add(time).unwrap_or(Self(u64::MAX))
    }
}

/// As [`Time::saturating_since`].
impl Sub for Time {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_since(earlier)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        write!(f, "{secs}.{nanos:09} s")
    }
}
