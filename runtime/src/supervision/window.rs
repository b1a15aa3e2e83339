//! How many restarts are too many: a decision from what was and what is, without a clock of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// At most so many restarts within any stretch of time of this length.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    limit: u32,
    within: Duration,
    /// When the restarts were that still count, oldest first: never more than `limit`.
    restarts: VecDeque<Instant>,
}

impl Window {
    pub(crate) fn new(limit: u32, within: Duration) -> Self {
        Self {
            limit,
            within,
            restarts: VecDeque::new(),
        }
    }

    /// Counts a restart at `now`, unless it would be one too many. One that was exactly `within` ago counts no more.
    pub(crate) fn admit(&mut self, now: Instant) -> bool {
        let over = |at: &Instant| now.saturating_duration_since(*at) >= self.within;
        while self.restarts.front().is_some_and(over) {
            self.restarts.pop_front();
        }
        let room = self.restarts.len() < self.limit as usize;
        if room {
            self.restarts.push_back(now);
        }
        room
    }

    /// How many counted when it was asked last.
    pub(crate) fn count(&self) -> u32 {
        self.restarts.len() as u32
    }

    pub(crate) fn clear(&mut self) {
        self.restarts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restart_counts_until_its_time_is_over() {
        let second = Duration::from_secs(1);
        let start = Instant::now();
        let mut window = Window::new(2, 10 * second);
        assert!(window.admit(start));
        assert!(window.admit(start + 5 * second));
        assert!(!window.admit(start + 9 * second));
        assert!(window.admit(start + 10 * second));
        assert!(!window.admit(start + 14 * second));
        assert!(window.admit(start + 15 * second));
        assert!(!Window::new(0, second).admit(start));
    }
}
