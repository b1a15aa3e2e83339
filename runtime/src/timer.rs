//! Deadlines in order. Nothing here knows the time: `now` is an argument.

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
pub struct Tick {
    /// When it was due, on the timer's grid.
    pub due: Instant,
    /// How many ticks just before this one were left out, because the processor was busy for longer than a period.
    pub skipped: u64,
}

/// The tick to deliver at `now` for a timer due at `due` with `period`, and when the next is due: both on the grid
/// `due + k * period`, so that periods do not drift. Of the ticks that have come by `now` the last is delivered and the
/// others are skipped.
pub(crate) fn tick_at(due: Instant, period: Duration, now: Instant) -> (Tick, Instant) {
    let late = now.saturating_duration_since(due);
    // Timers have a period of at least a nanosecond, so this does not divide by zero.
    let skipped = (late.as_nanos() / period.as_nanos().max(1)).min(u128::from(u64::MAX)) as u64;
    let over = u128::from(skipped) * period.as_nanos();
    let over = Duration::new((over / 1_000_000_000) as u64, (over % 1_000_000_000) as u32);
    let due = due + over;
    (Tick { due, skipped }, due + period)
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
        let due = Instant::now();
        let (tick, next) = tick_at(due, 10 * MS, due + 107 * MS);
        assert_eq!(tick.skipped, 10);
        assert_eq!(tick.due, due + 100 * MS);
        assert_eq!(next, due + 110 * MS);
        let (tick, next) = tick_at(due, 10 * MS, due);
        assert_eq!((tick.skipped, next), (0, due + 10 * MS));
    }
}
