//! What a clock knows: how its time goes, who waits, and what a change means to them. Everything here is under the clock's
//! lock; what is to be done is collected in a [`Work`], for when that is released.

use super::jump::{Jump, JumpCall, JumpKind, JumpThreshold};
use super::line::Line;
use super::setter::Setting;
use super::sleep::{Sleeper, Slept};
use super::{ClockKind, Time};
use crate::driver::Due;
use crate::hook;
use crate::name::Name;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// Where an entry stands in the order; the number makes it unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClockDeadline {
    pub(super) at: Time,
    number: u64,
}

/// What a timer sees of its clock at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Look {
    pub(crate) now: Time,
    /// How often the clock began anew.
    pub(crate) epoch: u64,
    /// What it showed when it began anew, or went back, the last time.
    pub(crate) origin: Time,
}

/// Who waits for a time.
pub(super) enum Entry {
    Timer(Due),
    Sleep(Arc<Sleeper>),
}

pub(super) struct State {
    pub(super) line: Line,
    pub(super) status: Status,
    /// How often domain time began anew. Timers that were set before start afresh.
    pub(super) epoch: u64,
    /// What it showed when it began anew, or went back, the last time.
    pub(super) origin: Time,
    /// Somebody has begun to drive it, and has changed nothing yet.
    pub(super) fresh: bool,
    /// Whoever drives it has said first of all what time it is.
    pub(super) begun: bool,
    /// Who drives it, or did last.
    pub(super) driver: Option<u64>,
    /// Of the last change by whoever drives it.
    pub(super) sequence: u64,
    /// How often who drives it has moved it.
    pub(super) moves: u64,
    pub(super) next: u64,
    pub(super) entries: BTreeMap<ClockDeadline, Entry>,
    /// Threads that sleep by themselves: no alarm is set for them.
    pub(super) threads: Vec<(Time, Arc<Sleeper>)>,
    pub(super) callbacks: Vec<(u64, JumpThreshold, JumpCall)>,
    /// The node ends.
    pub(super) closed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// Nobody has driven it.
    Waiting,
    Driven,
    Ended,
}

/// What a change was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It goes on from where it was, perhaps at another rate.
    Smooth,
    Moved,
    /// It was moved, and what it showed before means nothing.
    Began,
    Started,
    Ended,
}

/// What is to be done once no lock is held.
#[derive(Default)]
pub(super) struct Work {
    pub(super) due: Vec<Due>,
    pub(super) wakers: Vec<Waker>,
    pub(super) calls: Vec<(JumpCall, Jump)>,
    pub(super) dropped: Vec<Entry>,
}

impl Work {
    pub(super) fn end_sleep(&mut self, sleeper: &Sleeper, slept: Slept) {
        self.wakers.extend(sleeper.end(slept));
    }

    pub(super) fn run(self) {
        drop(self.dropped);
        self.due.into_iter().for_each(Due::tell);
        self.wakers.into_iter().for_each(Waker::wake);
        for (call, jump) in self.calls {
            let called = catch_unwind(AssertUnwindSafe(|| call(jump)));
            if let (Err(payload), Ok(name)) = (called, Name::new("clock")) {
                hook::panic(&name, "jump", &crate::cell::panic_message(&*payload));
            }
        }
    }
}

impl State {
    pub(super) fn new(kind: ClockKind) -> Self {
        Self {
            line: Line::STANDS_AT_ZERO,
            status: match kind {
                ClockKind::Domain => Status::Waiting,
                ClockKind::Steady | ClockKind::Wall => Status::Driven,
            },
            epoch: 0,
            origin: Time::ZERO,
            fresh: false,
            begun: false,
            driver: None,
            sequence: 0,
            moves: 0,
            next: 0,
            entries: BTreeMap::new(),
            threads: Vec::new(),
            callbacks: Vec::new(),
            closed: false,
        }
    }

    /// Those come out who are due.
    pub(super) fn take_due(&mut self, now: Time, work: &mut Work) {
        while let Some(first) = self.entries.first_entry() {
            if first.key().at > now {
                return;
            }
            match first.remove() {
                Entry::Timer(due) => work.due.push(due),
                Entry::Sleep(sleeper) => work.end_sleep(&sleeper, Slept::Reached),
            }
        }
    }

    /// The clock shows something else than `before` now, because of `how`.
    pub(super) fn settle(&mut self, before: Time, now: Time, how: How, work: &mut Work) {
        let kind = match how {
            How::Moved | How::Began if now != before => Some(JumpKind::Moved),
            How::Started => Some(JumpKind::Started),
            How::Ended => Some(JumpKind::Ended),
            How::Smooth | How::Moved | How::Began => None,
        };
        let jump = kind.map(|kind| Jump {
            from: before,
            to: now,
            kind,
        });
        let begins_anew = how == How::Began;
        self.epoch += u64::from(begins_anew);
        // What each who sleeps until `at` is told, if anything.
        let told = |at: Time| match (how, jump) {
            _ if at <= now => Some(Slept::Reached),
            (How::Ended, _) => Some(Slept::Ended),
            (_, Some(jump)) if begins_anew || now < before => Some(Slept::Changed(jump)),
            _ => None,
        };
        if begins_anew || now < before {
            self.origin = now;
            // Timers look at what their clock shows now.
            for (deadline, entry) in std::mem::take(&mut self.entries) {
                match (entry, told(deadline.at)) {
                    (Entry::Timer(due), _) => work.due.push(due),
                    (Entry::Sleep(sleeper), Some(slept)) => work.end_sleep(&sleeper, slept),
                    (entry @ Entry::Sleep(_), None) => {
                        self.entries.insert(deadline, entry);
                    }
                }
            }
        } else {
            self.take_due(now, work);
            if how == How::Ended {
                self.end_sleeps(work);
            }
        }
        self.threads.retain(|(at, sleeper)| match told(*at) {
            Some(slept) => {
                work.end_sleep(sleeper, slept);
                false
            }
            None => {
                // It computes anew for how long.
                work.wakers.extend(sleeper.look_again());
                true
            }
        });
        if let Some(jump) = jump {
            let met = self.callbacks.iter().filter(|(_, t, _)| t.is_met(&jump));
            work.calls
                .extend(met.map(|(_, _, call)| (call.clone(), jump)));
        }
    }

    pub(super) fn end_sleeps(&mut self, work: &mut Work) {
        self.entries.retain(|_, entry| match entry {
            Entry::Sleep(sleeper) => {
                work.end_sleep(sleeper, Slept::Ended);
                false
            }
            Entry::Timer(_) => true,
        });
    }

    pub(super) fn setting(&self, now: Time) -> Setting {
        Setting {
            time: now,
            rate: self.line.rate,
            paused: self.line.paused,
            moves: self.moves,
            begun: self.begun,
            sequence: self.sequence,
        }
    }
}

impl State {
    pub(super) fn number(&mut self, at: Time) -> ClockDeadline {
        let number = self.next;
        self.next += 1;
        ClockDeadline { at, number }
    }
}

/// Domain time in the hands of whoever changes it.
pub(super) struct Change<'a> {
    pub(super) state: &'a mut State,
    pub(super) now: Time,
    pub(super) steady: u64,
}

impl Change<'_> {
    /// It is driven by `by` from now on, and stands still.
    pub(super) fn begin(&mut self, by: u64) -> How {
        self.state.status = Status::Driven;
        self.state.driver = Some(by);
        (self.state.sequence, self.state.moves) = (0, 0);
        (self.state.fresh, self.state.begun) = (true, false);
        self.state.line.rate = 1.0;
        self.stand(true);
        How::Started
    }

    pub(super) fn end(&mut self) -> How {
        self.state.status = Status::Ended;
        self.stand(true);
        How::Ended
    }

    pub(super) fn is_driven_by(&self, by: u64) -> bool {
        self.state.status == Status::Driven && self.state.driver == Some(by)
    }

    /// From now on it shows `to`, and goes on as it went. If nothing was changed before, it begins anew.
    pub(super) fn set(&mut self, to: Time) -> How {
        let begins = self.state.fresh;
        self.state.begun |= begins;
        self.move_to(to);
        if begins { How::Began } else { How::Moved }
    }

    /// Moves it forward.
    pub(super) fn step(&mut self, time: Duration) -> How {
        self.move_to(self.now + time);
        How::Moved
    }

    fn move_to(&mut self, to: Time) {
        self.count();
        self.state.line.base = to;
        self.state.line.at = self.steady;
        self.state.line.floor = Time::ZERO;
        self.state.moves += 1;
    }

    /// Whoever drives it has changed it.
    fn count(&mut self) {
        self.state.fresh = false;
        self.state.sequence += 1;
    }

    pub(super) fn pause(&mut self, paused: bool) -> How {
        self.count();
        self.stand(paused);
        How::Smooth
    }

    /// `rate` is one that there can be.
    pub(super) fn set_rate(&mut self, rate: f64) -> How {
        self.stand(self.state.line.paused);
        self.state.line.rate = rate;
        self.count();
        How::Smooth
    }

    /// What it shows now is where it goes on from.
    fn stand(&mut self, paused: bool) {
        self.state.line.base = self.now;
        self.state.line.at = self.steady;
        self.state.line.paused = paused;
    }

    /// What whoever drives it elsewhere has said, `age` ago.
    pub(super) fn hear(&mut self, setting: &Setting, age: Duration, is_new: bool) -> Option<How> {
        let state = &mut *self.state;
        if !is_new && setting.sequence <= state.sequence {
            return None;
        }
        let moved = is_new || setting.moves != state.moves;
        let said = Line {
            base: setting.time,
            at: 0,
            rate: setting.rate,
            paused: setting.paused,
            floor: Time::ZERO,
        };
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        state.line = Line {
            base: said.time(age),
            at: self.steady,
            floor: if moved { Time::ZERO } else { self.now },
            ..said
        };
        (state.sequence, state.moves) = (setting.sequence, setting.moves);
        let begins = setting.begun && !state.begun;
        (state.fresh, state.begun) = (false, setting.begun);
        Some(match moved {
            true if begins => How::Began,
            true => How::Moved,
            false => How::Smooth,
        })
    }
}
