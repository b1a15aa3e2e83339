//! One clock: what it shows, and who waits for a time by it.
//!
//! | clock  | shows                              | is changed by                                |
//! |--------|------------------------------------|----------------------------------------------|
//! | steady | the time since the node began      | nobody                                       |
//! | wall   | the system's time of day           | the system, which tells nobody               |
//! | domain | what its line says (`line.rs`)     | whoever drives it ([`ClockSetter`](super::ClockSetter)) |
//!
//! Whoever waits stands here, in the order of times by this clock. One alarm of the node's time keeper is set for the steady
//! time at which the first is due, and is set anew when the clock is changed. While domain time is paused there is none, so
//! nothing wakes. Timers that follow steady time do not stand here: their driver has them.
//!
//! # Locks
//!
//! The alarm's before the state's, and before that of the time keeper. What a change leads to (ticks, wakers, the calls of those
//! who asked for jumps) is collected in a [`Work`] and done when no lock is held. Entries are dropped without a lock, too: they
//! may hold the last reference to a processor.

use super::jump::{JumpCall, JumpThreshold};
use super::setter::Setting;
use super::sleep::{Sleeper, Slept};
use super::state::{Change, ClockDeadline, Entry, How, Look, State, Status, Work};
use super::{ClockKind, Time};
use crate::driver::Due;
use crate::runtime::RuntimeCore;
use crate::sync::Mutex;
use crate::time_keeper::Alarm;
use crate::world::World;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

/// See the module's documentation.
pub(crate) struct ClockCore {
    kind: ClockKind,
    world: World,
    /// When the node began.
    start: Instant,
    runtime: Weak<RuntimeCore>,
    state: Mutex<State>,
    /// For the first who waits, with the steady time for which it is set.
    alarm: Mutex<Option<(u64, Alarm)>>,
}

impl ClockCore {
    pub(super) fn new(kind: ClockKind, runtime: &Arc<RuntimeCore>) -> Arc<Self> {
        Arc::new(Self {
            kind,
            world: runtime.world.clone(),
            start: runtime.start(),
            runtime: Arc::downgrade(runtime),
            state: Mutex::new(State::new(kind)),
            alarm: Mutex::new(None),
        })
    }

    pub(crate) fn kind(&self) -> ClockKind {
        self.kind
    }

    /// Nanoseconds of steady time since the node began.
    fn steady(&self) -> u64 {
        let passed = self.world.now().saturating_duration_since(self.start);
        passed.as_nanos() as u64
    }

    fn time_of(&self, state: &State, steady: u64) -> Time {
        match self.kind {
            ClockKind::Steady => Time::from_nanos(steady),
            ClockKind::Wall => Time::from_nanos(self.world.wall_ns()),
            ClockKind::Domain => state.line.time(steady),
        }
    }

    /// When it will show `at`, by steady time; `None` if it does not get there by itself.
    fn steady_of(&self, state: &State, at: Time) -> Option<u64> {
        match self.kind {
            ClockKind::Steady => Some(at.as_nanos()),
            ClockKind::Wall => {
                let left = at - Time::from_nanos(self.world.wall_ns());
                self.steady().checked_add(left.as_nanos() as u64)
            }
            ClockKind::Domain => state.line.steady(at),
        }
    }

    pub(crate) fn now(&self) -> Time {
        match self.kind {
            ClockKind::Steady => Time::from_nanos(self.steady()),
            ClockKind::Wall => Time::from_nanos(self.world.wall_ns()),
            ClockKind::Domain => {
                // Read before the lock: whoever waits for it must not make time go back.
                let steady = self.steady();
                self.state.lock().line.time(steady)
            }
        }
    }

    pub(crate) fn look(&self) -> Look {
        let steady = self.steady();
        let state = self.state.lock();
        let now = self.time_of(&state, steady);
        let origin = match self.kind {
            ClockKind::Domain => state.origin,
            // The system does not say when it set the wall clock: as late as can be.
            ClockKind::Steady | ClockKind::Wall => now,
        };
        Look {
            now,
            epoch: state.epoch,
            origin,
        }
    }

    /// True if somebody drives it.
    pub(super) fn is_driven(&self) -> bool {
        self.state.lock().status == Status::Driven
    }

    pub(super) fn is_paused(&self) -> bool {
        match self.kind {
            ClockKind::Steady | ClockKind::Wall => false,
            ClockKind::Domain => self.state.lock().line.paused,
        }
    }

    // ---- who waits

    /// A timer that is due when this clock shows `at`, which was computed to be no more than `delay` away.
    pub(crate) fn add_timer(
        self: &Arc<Self>,
        at: Time,
        delay: Duration,
        due: Due,
    ) -> ClockDeadline {
        let mut work = Work::default();
        let deadline = {
            let steady = self.steady();
            let mut state = self.state.lock();
            let deadline = state.number(at);
            if state.closed {
                work.dropped.push(Entry::Timer(due));
            } else if at > self.time_of(&state, steady) + delay {
                // The clock went back since. Who comes in now has missed being told.
                work.due.push(due);
            } else {
                state.entries.insert(deadline, Entry::Timer(due));
            }
            deadline
        };
        work.run();
        self.arm();
        deadline
    }

    /// Somebody who sleeps until `at`. `None` if the sleep is over: the sleeper knows why.
    pub(super) fn add_sleep(
        self: &Arc<Self>,
        at: Time,
        sleeper: &Arc<Sleeper>,
    ) -> Option<ClockDeadline> {
        let steady = self.steady();
        let deadline = {
            let mut state = self.state.lock();
            if let Some(slept) = self.over_at_once(&state, at, steady) {
                // Nobody waits yet, so there is nobody to wake.
                let _nobody = sleeper.end(slept);
                return None;
            }
            let deadline = state.number(at);
            state
                .entries
                .insert(deadline, Entry::Sleep(sleeper.clone()));
            deadline
        };
        self.arm();
        Some(deadline)
    }

    fn over_at_once(&self, state: &State, at: Time, steady: u64) -> Option<Slept> {
        if state.closed {
            return Some(Slept::Ended);
        }
        if self.time_of(state, steady) >= at {
            return Some(Slept::Reached);
        }
        (state.status == Status::Ended).then_some(Slept::Ended)
    }

    /// Takes somebody out who does not wait any more.
    pub(crate) fn cancel(&self, deadline: ClockDeadline) {
        // The alarm stays: it finds nobody, and is not set again.
        let entry = self.state.lock().entries.remove(&deadline);
        drop(entry);
    }

    /// Blocks this thread until the clock shows `at`. It needs no other thread.
    pub(super) fn block_until(&self, runtime: &RuntimeCore, at: Time) -> Slept {
        let sleeper = Arc::new(Sleeper::default());
        {
            let steady = self.steady();
            let mut state = self.state.lock();
            if let Some(slept) = self.over_at_once(&state, at, steady) {
                return slept;
            }
            state.threads.push((at, sleeper.clone()));
        }
        /// It leaves also if what the handler has sent unwinds.
        struct Leave<'a>(&'a ClockCore, Arc<Sleeper>);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                let mut state = self.0.state.lock();
                state.threads.retain(|(_, s)| !Arc::ptr_eq(s, &self.1));
            }
        }
        let _leave = Leave(self, sleeper.clone());
        loop {
            // A change after this wakes the thread.
            let changes = sleeper.changes();
            let until = {
                let state = self.state.lock();
                self.steady_of(&state, at)
            };
            let until = until.and_then(|ns| self.start.checked_add(Duration::from_nanos(ns)));
            let slept = runtime.block_until(until, |waker| {
                if let Some(slept) = sleeper.poll(waker) {
                    return Some(Some(slept));
                }
                (sleeper.changes() != changes).then_some(None)
            });
            match slept.flatten() {
                Some(slept) => return slept,
                None if self.now() >= at => return Slept::Reached,
                // It was changed, or the wall clock was set back.
                None => {}
            }
        }
    }

    // ---- jumps

    pub(super) fn add_callback(&self, threshold: JumpThreshold, call: JumpCall) -> u64 {
        let mut state = self.state.lock();
        let number = state.next;
        state.next += 1;
        state.callbacks.push((number, threshold, call));
        number
    }

    pub(super) fn forget_callback(&self, number: u64) {
        // Dropped after the lock is released: it is the user's.
        let _callback = {
            let mut state = self.state.lock();
            let callbacks = &mut state.callbacks;
            let at = callbacks.iter().position(|(n, ..)| *n == number);
            at.map(|at| callbacks.swap_remove(at))
        };
    }

    // ---- the alarm

    /// Sets the alarm for the first who waits.
    fn arm(self: &Arc<Self>) {
        let Some(runtime) = self.runtime.upgrade() else {
            return;
        };
        // One that is late already may go off before there is anybody to hear it: then it is this thread that tells.
        while !self.is_armed(&runtime) {
            self.tell_due();
        }
    }

    /// Sets the alarm, if one is needed. False if it went off at once.
    fn is_armed(self: &Arc<Self>, runtime: &Arc<RuntimeCore>) -> bool {
        let mut alarm = self.alarm.lock();
        let next = {
            let state = self.state.lock();
            let first = state.entries.first_key_value().map(|(first, _)| first.at);
            // The time keeper ends after its clocks are closed, so an alarm that is set goes off at its time only.
            first
                .filter(|_| !state.closed)
                .and_then(|at| self.steady_of(&state, at))
        };
        let Some(next) = next else {
            *alarm = None;
            return true;
        };
        if alarm.as_ref().is_some_and(|(set, _)| *set == next) {
            return true;
        }
        let at = self.start.checked_add(Duration::from_nanos(next));
        let mut made = Alarm::at(runtime, at);
        let waker = Waker::from(Arc::new(Rings {
            clock: Arc::downgrade(self),
        }));
        if made.poll(&waker) {
            *alarm = None;
            return false;
        }
        *alarm = Some((next, made));
        true
    }

    /// The alarm went off.
    fn ring(self: &Arc<Self>) {
        let rung = self.alarm.lock().take();
        drop(rung);
        self.tell_due();
        self.arm();
    }

    fn tell_due(&self) {
        let steady = self.steady();
        let mut work = Work::default();
        {
            let mut state = self.state.lock();
            let now = self.time_of(&state, steady);
            state.take_due(now, &mut work);
        }
        work.run();
    }

    // ---- changes

    /// Changes domain time. `change` is given the time that it shows, and says what it did. Returns how it goes then, if it
    /// did anything.
    pub(super) fn change(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Change<'_>) -> Option<How>,
    ) -> Option<Setting> {
        let mut work = Work::default();
        let setting = {
            let mut state = self.state.lock();
            let steady = self.steady();
            let before = state.line.time(steady);
            let how = change(&mut Change {
                state: &mut state,
                now: before,
                steady,
            })?;
            let now = state.line.time(steady);
            if !state.closed {
                state.settle(before, now, how, &mut work);
            }
            state.setting(now)
        };
        work.run();
        self.arm();
        Some(setting)
    }

    /// How domain time goes now.
    pub(super) fn setting(&self) -> Setting {
        let steady = self.steady();
        let state = self.state.lock();
        state.setting(state.line.time(steady))
    }

    /// The node ends: nobody waits any longer.
    pub(super) fn close(&self) {
        let mut work = Work::default();
        let callbacks = {
            let mut state = self.state.lock();
            state.closed = true;
            state.end_sleeps(&mut work);
            for (_, sleeper) in std::mem::take(&mut state.threads) {
                work.end_sleep(&sleeper, Slept::Ended);
            }
            let entries = std::mem::take(&mut state.entries);
            work.dropped.extend(entries.into_values());
            std::mem::take(&mut state.callbacks)
        };
        drop(callbacks);
        work.run();
        let alarm = self.alarm.lock().take();
        drop(alarm);
    }
}

/// Wakes a clock when its alarm goes off.
struct Rings {
    clock: Weak<ClockCore>,
}

impl Wake for Rings {
    fn wake(self: Arc<Self>) {
        if let Some(clock) = self.clock.upgrade() {
            clock.ring();
        }
    }
}

impl fmt::Debug for ClockCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clock")
            .field("kind", &self.kind)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}
