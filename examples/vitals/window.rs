//! The values of a series within the last while, and their percentiles.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

/// The values of one series within the last `span`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    values: VecDeque<(Duration, f64)>,
}

/// At 50 values a second, the last 80 seconds. With a longer window or a faster reader the oldest values go first.
const VALUES_MAX: usize = 4096;

/// A value below which a part of the values of a window lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: usize,
    pub(crate) last: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Window {
    pub(crate) fn push(&mut self, at: Duration, value: f64) {
        if self.values.len() == VALUES_MAX {
            self.values.pop_front();
        }
        self.values.push_back((at, value));
    }

    /// Forgets what is older than `span`.
    pub(crate) fn forget(&mut self, now: Duration, span: Duration) {
        while (self.values.front()).is_some_and(|&(at, _)| at.saturating_add(span) < now) {
            self.values.pop_front();
        }
    }

    /// Returns the percentiles by nearest rank, so each is a value that was seen, or `None` if the window is empty.
    ///
    /// Sorting a copy of a few hundred values when the table is drawn costs less than keeping them sorted at each value.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let &(_, last) = self.values.back()?;
        let mut sorted: Vec<f64> = self.values.iter().map(|&(_, value)| value).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = |percent: usize| {
            // The smallest value with at least that percentage of all values at or below it.
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted[rank - 1]
        };
        Some(Percentiles {
            count: sorted.len(),
            last,
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max: rank(100),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut window = Window::default();
        assert_eq!(window.percentiles(), None);
        window.push(ms(0), 7.0);
        let one = window.percentiles().unwrap();
        assert_eq!((one.p50, one.p95, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
        let mut window = Window::default();
        for n in (1..=100).rev() {
            window.push(ms(200 - n), n as f64);
        }
        let all = window.percentiles().unwrap();
        assert_eq!(all.count, 100);
        assert_eq!(all.last, 1.0);
        assert_eq!(
            (all.p50, all.p95, all.p99, all.max),
            (50.0, 95.0, 99.0, 100.0)
        );
        // What came before 150 ms is forgotten: 50 and less stay.
        window.forget(ms(250), ms(100));
        assert_eq!(window.percentiles().unwrap().max, 50.0);
    }

    #[test]
    fn a_window_is_bounded() {
        let mut window = Window::default();
        for n in 0..2 * VALUES_MAX {
            window.push(ms(0), n as f64);
        }
        assert_eq!(window.percentiles().unwrap().count, VALUES_MAX);
    }
}
