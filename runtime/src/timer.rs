//! Deadlines in order. Nothing here knows the time: `now` is an argument.

use crate::clocks::Time;
use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// Deadlines of one driver, each with what is to be told when it comes.
pub(crate) struct Deadlines<T> {
    // A tree and not a heap: timers are cancelled and reset as often as they fire, and leave nothing behind.
    tree: BTreeMap<Deadline, T>,
    next: u64,
}

/// Where a deadline stands in the order; the number makes it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    number: u64,
}

impl<T> Deadlines<T> {
    pub(crate) fn new() -> Self {
        Self {
            tree: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn add(&mut self, at: Instant, what: T) -> Deadline {
        let deadline = Deadline {
            at,
            number: self.next,
        };
        self.next += 1;
        self.tree.insert(deadline, what);
        deadline
    }

    pub(crate) fn remove(&mut self, deadline: Deadline) -> Option<T> {
        self.tree.remove(&deadline)
    }

    pub(crate) fn nearest(&self) -> Option<Instant> {
        self.tree.first_key_value().map(|(d, _)| d.at)
    }

    /// All of them, the earliest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.tree.values()
    }

    /// The earliest.
    pub(crate) fn pop_first(&mut self) -> Option<T> {
        self.tree.pop_first().map(|(_, what)| what)
    }

    /// The earliest that has come by `now`.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<T> {
        let entry = self.tree.first_entry()?;
        (entry.key().at <= now).then(|| entry.remove())
    }
}

impl<T> fmt::Debug for Deadlines<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Deadlines({})", self.tree.len())
    }
}

/// One delivery of a periodic timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// When it was due, on the timer's grid. For a timer that follows another clock than steady time: when its tick was
    /// made.
    pub due: Instant,
    /// How many ticks just before this one were left out, because the processor was busy for longer than a period, or its
    /// clock jumped.
    pub skipped: u64,
    /// When it was due by the clock that the timer follows, on the timer's grid.
    pub time: Time,
}

/// The tick to deliver at `now` for a timer due at `due` with `period`, and when the next is due: both on the grid
/// `due + k * period`, so that periods do not drift. Of the ticks that have come by `now` the last is delivered and the
/// others are skipped.
///
/// Returns when the tick was due, how many were skipped, and when the next is due.
pub(crate) fn tick_at(due: Time, period: Duration, now: Time) -> (Time, u64, Time) {
    // Timers have a period of at least a nanosecond, so this does not divide by zero.
    let skipped = (now - due).as_nanos() / period.as_nanos().max(1);
    let over = skipped * period.as_nanos();
    // No longer than from `due` to `now`, of which each fits.
    let due = due + Duration::from_nanos(over as u64);
    (due, skipped as u64, due + period)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn deadlines_come_in_order_and_equal_ones_in_the_order_added() {
        let t = Instant::now();
        let mut d = Deadlines::new();
        d.add(t + 2 * MS, 'c');
        d.add(t + MS, 'a');
        let removed = d.add(t + MS, 'x');
        d.add(t + MS, 'b');
        assert_eq!(d.remove(removed), Some('x'));
        assert_eq!(d.pop_due(t), None);
        assert_eq!(d.nearest(), Some(t + MS));
        let come: String = std::iter::from_fn(|| d.pop_due(t + 2 * MS)).collect();
        assert_eq!(come, "abc");
    }

    #[test]
    fn an_overrun_of_ten_periods_gives_one_tick_on_the_grid() {
        let due = Time::from_secs(7);
        let (time, skipped, next) = tick_at(due, 10 * MS, due + 107 * MS);
        assert_eq!(skipped, 10);
        assert_eq!(time, due + 100 * MS);
        assert_eq!(next, due + 110 * MS);
        assert_eq!(tick_at(due, 10 * MS, due), (due, 0, due + 10 * MS));
    }
}
