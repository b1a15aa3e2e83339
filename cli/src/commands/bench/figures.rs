//! Figures of several rounds, and their medians.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Up to one minute, three digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are valid")
}

/// Times there and back. Its names are those of the JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct RoundTrip {
    pub(crate) count: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p90_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) p99_9_ns: u64,
    pub(crate) max_ns: u64,
}

impl RoundTrip {
    pub(crate) fn of(times: &Histogram<u64>) -> Self {
        Self {
            count: times.len(),
            p50_ns: times.value_at_quantile(0.5),
            p90_ns: times.value_at_quantile(0.9),
            p99_ns: times.value_at_quantile(0.99),
            p99_9_ns: times.value_at_quantile(0.999),
            max_ns: times.max(),
        }
    }

    /// Of each figure the median, but the greatest of all and the number of all. `None` if there is none.
    pub(crate) fn median(rounds: &[Self]) -> Option<Self> {
        if rounds.is_empty() {
            return None;
        }
        let of = |figure: fn(&Self) -> u64| median(rounds.iter().map(figure).collect());
        Some(Self {
            count: rounds.iter().map(|round| round.count).sum(),
            p50_ns: of(|round| round.p50_ns),
            p90_ns: of(|round| round.p90_ns),
            p99_ns: of(|round| round.p99_ns),
            p99_9_ns: of(|round| round.p99_9_ns),
            max_ns: rounds.iter().map(|round| round.max_ns).max()?,
        })
    }
}

/// The one in the middle; 0 if there is none.
pub(crate) fn median(mut figures: Vec<u64>) -> u64 {
    figures.sort_unstable();
    figures.get(figures.len() / 2).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_each_figure_and_the_greatest_is_of_all() {
        let round = |p50_ns, max_ns| RoundTrip {
            count: 10,
            p50_ns,
            max_ns,
            ..RoundTrip::default()
        };
        let median = RoundTrip::median(&[round(5, 90), round(1, 70), round(3, 80)]).unwrap();
        assert_eq!((median.count, median.p50_ns, median.max_ns), (30, 3, 90));
        assert_eq!(RoundTrip::median(&[]), None);
    }
}
