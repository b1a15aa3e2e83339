//! For layers that drive domain time: they decide who may, and tell other nodes.

use super::line::Line;
use super::state::{Change, How};
use super::{Clock, ClockKind, Time};
use crate::runtime::Runtime;
use std::time::{Duration, Instant};

/// How domain time goes, as one node tells another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// What it shows.
    pub time: Time,
    /// How many seconds go by in a second of steady time, while it runs.
    pub rate: f64,
    /// It stands still.
    pub paused: bool,
    /// How often it was set or stepped since it is driven. A setting with another number is a move.
    pub moves: u64,
    /// The first of these said what time it is: what the clock showed before means nothing.
    pub begun: bool,
    /// Which change by who drives it this is. Older ones than the last are ignored.
    pub sequence: u64,
}

impl Setting {
    /// True if time can go at this rate: from a millionth to a million.
    pub fn is_rate(rate: f64) -> bool {
        Line::is_rate(rate)
    }
}

/// The hand that changes a node's domain time. Programs use what the layer above makes of it, which decides who may.
///
/// Whoever drives it has a number. A change by another than who began last does nothing, so that one who has lost it and does not
/// know yet changes nothing any more.
///
/// Each method tells whoever waits for a time that has come, and whoever asked for jumps, before it returns, and returns how
/// time goes from then on; `None` if it did nothing.
#[derive(Clone, Debug)]
pub struct ClockSetter {
    clock: Clock,
}

impl ClockSetter {
    /// That of this node.
    pub fn of(node: &Runtime) -> Self {
        Self {
            clock: Clock::of(ClockKind::Domain, node.core()),
        }
    }

    /// The clock that it changes.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// How it goes now.
    pub fn setting(&self) -> Setting {
        self.clock.core.setting()
    }

    /// From now on `by` drives it. It stands still, at what it shows.
    pub fn begin(&self, by: u64) -> Option<Setting> {
        self.clock.core.change(|change| Some(change.begin(by)))
    }

    /// From now on it shows `time`. If that is the first change since [`begin`](Self::begin), it begins anew there: timers
    /// start afresh.
    pub fn set(&self, by: u64, time: Time) -> Option<Setting> {
        self.change(by, |change| change.set(time))
    }

    /// Moves it forward by `time`.
    pub fn step(&self, by: u64, time: Duration) -> Option<Setting> {
        self.change(by, |change| change.step(time))
    }

    /// It stands still, or goes on.
    pub fn pause(&self, by: u64, paused: bool) -> Option<Setting> {
        self.change(by, |change| change.pause(paused))
    }

    /// From now on so many seconds go by in a second of steady time. Nothing for a rate that is [none](Setting::is_rate).
    pub fn rate(&self, by: u64, rate: f64) -> Option<Setting> {
        if !Setting::is_rate(rate) {
            return None;
        }
        self.change(by, |change| change.set_rate(rate))
    }

    /// Nobody drives it any more. It stands still, and sleeps end.
    pub fn end(&self, by: u64) -> Option<Setting> {
        self.change(by, |change| change.end())
    }

    fn change(&self, by: u64, change: impl FnOnce(&mut Change<'_>) -> How) -> Option<Setting> {
        self.clock
            .core
            .change(|now| now.is_driven_by(by).then(|| change(now)))
    }

    /// What `by`, who drives it in another node, has said at `said`. If that is another than before, it begins. Nothing for a
    /// rate that is [none](Setting::is_rate), and for what was said before something that was heard.
    pub fn hear(&self, by: u64, setting: &Setting, said: Instant) -> Option<Setting> {
        if !Setting::is_rate(setting.rate) {
            return None;
        }
        let core = &self.clock.core;
        let begun = core.change(|now| (!now.is_driven_by(by)).then(|| now.begin(by)));
        let is_new = begun.is_some();
        let age = self
            .clock
            .runtime
            .world
            .now()
            .saturating_duration_since(said);
        core.change(|now| {
            // Somebody else may have begun meanwhile.
            now.is_driven_by(by)
                .then(|| now.hear(setting, age, is_new))
                .flatten()
        })
    }
}
