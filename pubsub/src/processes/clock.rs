//! Times of this process as numbers that other processes of the host understand, and back.

use mproc_shm::monotonic_ns;
use std::time::{Duration, Instant};

/// One moment on both clocks, to a part of a microsecond. They run alike, so that the difference says it all.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    instant: Instant,
    ns: u64,
}

impl Clock {
    pub(super) fn new() -> Self {
        // The closest of a few readings: a thread may lose its processor between two of them.
        let reading = || {
            let before = Instant::now();
            let ns = monotonic_ns();
            let took = before.elapsed();
            let instant = before + took / 2;
            (took, Self { instant, ns })
        };
        let readings = (0..16).map(|_| reading());
        let closest = readings.min_by_key(|(took, _)| *took);
        closest.expect("there are some").1
    }

    /// Nanoseconds of the host's monotonic clock.
    pub(super) fn ns(self, at: Instant) -> u64 {
        let whole = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        match at.checked_duration_since(self.instant) {
            Some(later) => self.ns.saturating_add(whole(later)),
            None => self
                .ns
                .saturating_sub(whole(self.instant.duration_since(at))),
        }
    }

    /// What another process meant. What no clock of this host can have shown becomes the nearest that it can.
    pub(super) fn instant(self, ns: u64) -> Instant {
        let at = if ns >= self.ns {
            self.instant.checked_add(Duration::from_nanos(ns - self.ns))
        } else {
            self.instant.checked_sub(Duration::from_nanos(self.ns - ns))
        };
        at.unwrap_or(self.instant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_the_way_there_and_back() {
        let clock = Clock::new();
        for at in [
            clock.instant,
            clock.instant + Duration::from_nanos(7),
            clock.instant - Duration::from_millis(3),
        ] {
            assert_eq!(clock.instant(clock.ns(at)), at);
        }
    }

    #[test]
    fn nonsense_is_a_time_too() {
        let clock = Clock::new();
        for ns in [0, 1, u64::MAX, clock.ns] {
            let at = clock.instant(ns);
            let _ = clock.ns(at);
        }
    }
}
