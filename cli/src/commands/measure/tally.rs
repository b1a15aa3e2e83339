//! What was published by one publisher.
//!
//! Each sample has its number at its publisher and the time when it was published. Between two that were seen, so many were
//! published as their numbers are apart, in the time that lies between: exactly, whatever was lost between them.

use super::What;
use hdrhistogram::Histogram;
use std::time::{Duration, Instant};

/// The header of a sample that was taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) sequence: u64,
    pub(super) published: Instant,
    /// Of the value and its parts.
    pub(super) bytes: u64,
    /// When it was taken.
    pub(super) age: Duration,
}

/// From one sample to another.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    what: What,
    from: Option<Seen>,
    last: Option<Seen>,
    /// Samples taken since `from`, which is not counted.
    taken: u64,
    /// Samples whose figures are in `figures`.
    bytes: u64,
    /// Nanoseconds between neighbours, bytes of samples, or nanoseconds of age.
    figures: Histogram<u64>,
}

/// Of times in nanoseconds, or of bytes.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct Spread {
    pub(super) min: u64,
    pub(super) p50: u64,
    pub(super) p90: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
    pub(super) mean: f64,
}

impl Spread {
    pub(super) fn of(figures: &Histogram<u64>) -> Option<Self> {
        (!figures.is_empty()).then(|| Self {
            min: figures.min(),
            p50: figures.value_at_quantile(0.5),
            p90: figures.value_at_quantile(0.9),
            p99: figures.value_at_quantile(0.99),
            max: figures.max(),
            mean: figures.mean(),
        })
    }
}

/// Three digits that count, up to any number.
pub(super) fn figures() -> Histogram<u64> {
    Histogram::new(3).expect("3 is a number of digits that a histogram can have")
}

impl Tally {
    pub(super) fn new(what: What) -> Self {
        Self {
            what,
            from: None,
            last: None,
            taken: 0,
            bytes: 0,
            figures: figures(),
        }
    }

    pub(super) fn add(&mut self, seen: &Seen) {
        let last = self.last.replace(*seen);
        let figure = match self.what {
            What::Bandwidth => Some(seen.bytes),
            What::Delay => Some(nanos(seen.age)),
            // Only neighbours: what lies between others is not known, but their mean.
            What::Rate => last
                .filter(|last| seen.sequence.checked_sub(1) == Some(last.sequence))
                .map(|last| nanos(seen.published.saturating_duration_since(last.published))),
        };
        if let Some(figure) = figure {
            // It grows as far as any number goes; without memory for that the figure is left out.
            let _left_out = self.figures.record(figure);
        }
        self.bytes = self.bytes.saturating_add(seen.bytes);
        match self.from {
            None => self.from = Some(*seen),
            Some(_) => self.taken += 1,
        }
    }

    /// From when to when samples were published, if any was seen.
    pub(super) fn span(&self) -> Option<(Instant, Instant)> {
        Some((self.from?.published, self.last?.published))
    }

    /// What comes is counted from the last sample on.
    pub(super) fn next(&mut self) {
        self.from = self.last.or(self.from);
        self.taken = 0;
        self.bytes = 0;
        self.figures.reset();
    }

    /// How many were published, without the sample that it began with.
    pub(super) fn published(&self) -> u64 {
        match (self.from, self.last) {
            (Some(from), Some(last)) => last.sequence.saturating_sub(from.sequence),
            _ => 0,
        }
    }

    /// How many of them were taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    pub(super) fn seconds(&self) -> f64 {
        match (self.from, self.last) {
            (Some(from), Some(last)) => {
                let time = last.published.saturating_duration_since(from.published);
                time.as_secs_f64()
            }
            _ => 0.0,
        }
    }

    /// `None` if fewer than two samples were seen.
    pub(super) fn rate_hz(&self) -> Option<f64> {
        let seconds = self.seconds();
        (self.published() > 0 && seconds > 0.0).then(|| self.published() as f64 / seconds)
    }

    /// Exact if all samples were taken, else as if the others were as large as those.
    pub(super) fn bytes_per_second(&self) -> Option<f64> {
        let mean = Spread::of(&self.figures)?.mean;
        Some(self.rate_hz()? * mean)
    }

    pub(super) fn figures(&self) -> &Histogram<u64> {
        &self.figures
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(what: What, seen: &[(u64, u64)]) -> Tally {
        let zero = Instant::now();
        let mut tally = Tally::new(what);
        for (sequence, micros) in seen {
            tally.add(&Seen {
                sequence: *sequence,
                published: zero + Duration::from_micros(*micros),
                bytes: 100,
                age: Duration::from_micros(5),
            });
        }
        tally
    }

    #[test]
    fn a_rate_is_exact_although_samples_are_lost() {
        // 100 kHz, of which one in a thousand and its neighbour are seen.
        let seen: Vec<_> = (0..50)
            .flat_map(|n| [n * 1000, n * 1000 + 1])
            .map(|n| (n, n * 10))
            .collect();
        let tally = tally(What::Rate, &seen);
        assert_eq!(tally.published(), 49_001);
        assert_eq!(tally.taken(), 99);
        assert!((tally.rate_hz().unwrap() - 100_000.0).abs() < 1e-6);
        let spread = Spread::of(tally.figures()).unwrap();
        assert_eq!((spread.min, tally.figures().len()), (10_000, 50));
    }

    #[test]
    fn windows_join_without_a_hole() {
        let zero = Instant::now();
        let mut tally = Tally::new(What::Bandwidth);
        let mut published = 0;
        for n in 0..100_u64 {
            tally.add(&Seen {
                sequence: n,
                published: zero + Duration::from_millis(n),
                bytes: 10,
                age: Duration::ZERO,
            });
            if n % 10 == 7 {
                published += tally.published();
                assert!((tally.bytes_per_second().unwrap() - 10_000.0).abs() < 1.0);
                tally.next();
            }
        }
        assert_eq!(published + tally.published(), 99);
    }

    #[test]
    fn one_sample_has_no_rate_and_nonsense_does_no_harm() {
        assert_eq!(tally(What::Rate, &[(3, 0)]).rate_hz(), None);
        let nonsense = tally(What::Rate, &[(u64::MAX, 5), (0, 1), (7, 0)]);
        assert_eq!(nonsense.rate_hz(), None);
    }
}
