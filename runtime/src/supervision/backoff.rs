//! How long to wait before a restart.

use crate::world::World;
use std::time::Duration;

/// How long a supervisor waits before it restarts a child, so that what fails at once does not use up a core, and what many
/// children wait for is not asked by all at the same moment.
///
/// The delay doubles with each failure of a child, from the first up to the longest. Of each delay a part is left to chance
/// (in a simulated node: to the seed). A child that was up for at least as long as the longest delay begins again with the
/// first.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::Backoff;
/// # use std::time::Duration;
/// // 5 to 10 ms, 10 to 20 ms, 20 to 40 ms, ..., 0.5 to 1 s.
/// let backoff = Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1));
/// // Exactly 10 ms, 20 ms, 40 ms, ..., 1 s.
/// let exact = backoff.jitter(0.0);
/// # let _ = exact;
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// Which part of a delay is left to chance, from 0 to 1.
    jitter: f64,
}

impl Default for Backoff {
    /// From 10 ms to 1 s, half of it left to chance.
    fn default() -> Self {
        Self::exponential(Duration::from_millis(10), Duration::from_secs(1))
    }
}

impl Backoff {
    /// No delay.
    pub fn none() -> Self {
        Self::exponential(Duration::ZERO, Duration::ZERO)
    }

    /// From `first` to `longest`, doubling. Half of each delay is left to chance.
    pub fn exponential(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest: longest.max(first),
            jitter: 0.5,
        }
    }

    /// Leaves this part of each delay to chance: of 0.0 nothing, of 1.0 all. What is no number from 0 to 1 counts as the
    /// nearest that is; what is no number at all, as 0.
    pub fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part.is_nan() {
            0.0
        } else {
            part.clamp(0.0, 1.0)
        };
        self
    }

    /// The longest delay.
    pub(crate) fn longest(&self) -> Duration {
        self.longest
    }

    /// Before the restart that follows `failures` earlier failures.
    pub(crate) fn delay(&self, failures: u32, world: &World) -> Duration {
        let doubled = 2_u32
            .checked_pow(failures)
            .and_then(|n| self.first.checked_mul(n));
        let whole = doubled.unwrap_or(self.longest).min(self.longest);
        // A float beyond what a `u64` holds becomes its largest value: 584 years.
        let left_to_chance = (whole.as_nanos() as f64 * self.jitter) as u64;
        let less = world.random_below(left_to_chance.saturating_add(1));
        whole.saturating_sub(Duration::from_nanos(less))
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use crate::driver::simulated::Simulation;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn delays_double_up_to_the_longest_and_chance_takes_no_more_than_its_part() {
        let world = World::Simulated(Simulation::new(1));
        let exact = Backoff::exponential(10 * MS, 50 * MS).jitter(0.0);
        let delays = (0..5).map(|n| exact.delay(n, &world));
        assert_eq!(
            delays.collect::<Vec<_>>(),
            [10, 20, 40, 50, 50].map(|n| n * MS)
        );
        assert_eq!(exact.delay(u32::MAX, &world), 50 * MS);
        let half = exact.jitter(0.5);
        let delays: Vec<_> = (0..1000).map(|_| half.delay(1, &world)).collect();
        assert!(delays.iter().all(|d| (10 * MS..=20 * MS).contains(d)));
        assert!(delays.iter().any(|d| *d < 11 * MS) && delays.iter().any(|d| *d > 19 * MS));
        let nonsense = exact.jitter(f64::NAN).delay(0, &world);
        assert_eq!(nonsense, 10 * MS);
        let long = Backoff::exponential(Duration::MAX, Duration::MAX).jitter(2.0);
        let _no_overflow = long.delay(9, &world);
        assert_eq!(Backoff::none().delay(3, &world), Duration::ZERO);
    }
}
