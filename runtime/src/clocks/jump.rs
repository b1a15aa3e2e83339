//! Clocks that do not go on as they went, and who is told.

use super::Time;
use super::core::ClockCore;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A clock that was changed: from here on it shows something else than it would have shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jump {
    /// What it would have shown.
    pub from: Time,
    /// What it shows.
    pub to: Time,
    /// What happened.
    pub kind: JumpKind,
}

/// What happened to a clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum JumpKind {
    /// It was set or stepped.
    Moved,
    /// Somebody drives it from now on.
    Started,
    /// Nobody drives it any more: it stands still.
    Ended,
}

impl Jump {
    /// How far forward; zero if it went back.
    pub fn forward(&self) -> Duration {
        self.to - self.from
    }

    /// How far back; zero if it went forward.
    pub fn backward(&self) -> Duration {
        self.from - self.to
    }
}

/// Which changes of a clock are worth a call: those that are so far or farther.
///
/// # Examples
///
/// See [`Clock::on_jump`](super::Clock::on_jump).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JumpThreshold {
    forward: Option<Duration>,
    backward: Option<Duration>,
    clock_change: bool,
}

impl JumpThreshold {
    /// Every move, however small, and every change of who drives the clock.
    pub fn new() -> Self {
        Self {
            forward: Some(Duration::ZERO),
            backward: Some(Duration::ZERO),
            clock_change: true,
        }
    }

    /// Of moves forward only those by `least` or more; none with `None`.
    pub fn forward(mut self, least: impl Into<Option<Duration>>) -> Self {
        self.forward = least.into();
        self
    }

    /// Of moves backward only those by `least` or more; none with `None`.
    pub fn backward(mut self, least: impl Into<Option<Duration>>) -> Self {
        self.backward = least.into();
        self
    }

    /// Whether it is told that somebody begins to drive the clock, and that nobody does any more.
    pub fn clock_change(mut self, told: bool) -> Self {
        self.clock_change = told;
        self
    }

    pub(super) fn is_met(&self, jump: &Jump) -> bool {
        if jump.kind != JumpKind::Moved {
            return self.clock_change;
        }
        let far = |least: Option<Duration>, distance: Duration| {
            !distance.is_zero() && least.is_some_and(|least| distance >= least)
        };
        far(self.forward, jump.forward()) || far(self.backward, jump.backward())
    }
}

impl Default for JumpThreshold {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) type JumpCall = Arc<dyn Fn(Jump) + Send + Sync>;

/// Keeps a call of [`Clock::on_jump`](super::Clock::on_jump): dropping it ends that.
#[must_use = "dropping it ends the calls"]
pub struct JumpCallback {
    pub(super) clock: Weak<ClockCore>,
    pub(super) number: u64,
}

impl JumpCallback {
    /// Keeps the call for the life of the node.
    pub fn detach(mut self) {
        self.clock = Weak::new();
    }
}

impl Drop for JumpCallback {
    fn drop(&mut self) {
        if let Some(clock) = self.clock.upgrade() {
            clock.forget_callback(self.number);
        }
    }
}

impl fmt::Debug for JumpCallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JumpCallback({})", self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(from: u64, to: u64) -> Jump {
        Jump {
            from: Time::from_secs(from),
            to: Time::from_secs(to),
            kind: JumpKind::Moved,
        }
    }

    #[test]
    fn a_threshold_is_met_by_what_is_so_far_or_farther() {
        let second = Duration::from_secs(1);
        let threshold = JumpThreshold::new().forward(3 * second).backward(second);
        assert!(threshold.is_met(&moved(0, 3)) && !threshold.is_met(&moved(0, 2)));
        assert!(threshold.is_met(&moved(2, 1)));
        let never_forward = threshold.forward(None);
        assert!(!never_forward.is_met(&moved(0, 1000)) && never_forward.is_met(&moved(1, 0)));
    }

    #[test]
    fn no_move_is_no_jump_and_a_change_of_who_drives_has_no_distance() {
        assert!(!JumpThreshold::new().is_met(&moved(1, 1)));
        let started = Jump {
            kind: JumpKind::Started,
            ..moved(1, 1)
        };
        assert!(JumpThreshold::new().is_met(&started));
        assert!(!JumpThreshold::new().clock_change(false).is_met(&started));
    }
}
