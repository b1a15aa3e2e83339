//! The timers of one processor. The order of deadlines is the driver's ([`Deadlines`](crate::timer::Deadlines)) for those
//! that follow steady time, and the clock's ([`ClockCore`]) for others.
//!
//! A timer is armed again when its tick is *delivered*, not when it is due: so there is never a second undelivered tick.
//! Each arming has a generation. Cancelling or resetting a timer starts a new one, and a tick that is already on its way
//! is recognised as old and ignored.
//!
//! A clock that is no steady time may go back, or begin anew: then its timers are told before they are due, look at what it
//! shows, and are put off ([`Timer::is_put_off`]).
//!
//! A timer for *silence* ([`Cx::receive_timeout`]) has a deadline at the time at which it can come at the earliest. Messages
//! do not move it: when it is due, it is put off to the last message and its limit, if any came. When it has told, or a
//! message waits to be handled, it has no deadline until the end of the next visit that handled messages. So an idle
//! processor is not woken again and again.

use crate::cell::{Cell, Local};
use crate::clocks::Time;
use crate::clocks::core::ClockCore;
use crate::clocks::followed;
use crate::clocks::state::ClockDeadline;
use crate::context::{Cx, Promise};
use crate::driver::{DriverCore, Due};
use crate::hook::{self, Cause};
use crate::processor::Processor;
use crate::timer::{Deadline, Tick, tick_at};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Which timer of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimerId {
    slot: u32,
    /// Tells apart the timers that used a slot one after the other.
    owner: u32,
}

pub(crate) type TimerCall<P> = Box<dyn FnMut(&mut P, Tick, &mut Cx<'_, P>)>;

pub(crate) struct Timers<P: Processor> {
    slots: Vec<Timer<P>>,
    /// What new timers follow, if the processor said so.
    clock: Option<Arc<ClockCore>>,
    /// Present once there is a timer for silence: `Local::messages` when they were looked at last.
    heard: Option<u64>,
}

/// When a timer is due.
#[derive(Clone, Copy)]
pub(crate) enum When {
    /// Once.
    After(Duration),
    /// On a grid.
    Every(Duration),
    /// So long after the last message.
    Silence(Duration),
}

impl When {
    fn with_delay(self, delay: Duration) -> Self {
        match self {
            Self::After(_) => Self::After(delay),
            Self::Every(_) => Self::Every(delay.max(SHORTEST_PERIOD)),
            Self::Silence(_) => Self::Silence(delay),
        }
    }

    fn delay(self) -> Duration {
        let (Self::After(delay) | Self::Every(delay) | Self::Silence(delay)) = self;
        delay
    }
}

struct Timer<P: Processor> {
    used: bool,
    owner: u32,
    generation: u32,
    /// What it follows; `None` for steady time.
    clock: Option<Arc<ClockCore>>,
    /// The clock's epoch when it was armed.
    epoch: u64,
    due: Time,
    /// For silence: when messages were handled last.
    heard: Time,
    when: When,
    deadline: Option<Armed>,
    /// It waits to be reset.
    halted: bool,
    /// Absent while it runs.
    call: Option<TimerCall<P>>,
}

/// Where its deadline stands.
#[derive(Clone, Copy)]
enum Armed {
    Driver(Deadline),
    Clock(ClockDeadline),
}

/// A shorter period would let nothing else run.
const SHORTEST_PERIOD: Duration = Duration::from_micros(1);

impl<P: Processor> Timers<P> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            clock: None,
            heard: None,
        }
    }

    /// New timers follow `clock`.
    pub(crate) fn follow(&mut self, clock: Arc<ClockCore>) {
        self.clock = Some(clock);
    }

    /// As if the processor had said nothing.
    pub(crate) fn forget_clock(&mut self) {
        self.clock = None;
    }

    pub(crate) fn followed(&self) -> &Option<Arc<ClockCore>> {
        &self.clock
    }

    pub(crate) fn add(
        cell: &Arc<Cell<P>>,
        local: &mut Local<P>,
        when: When,
        call: TimerCall<P>,
    ) -> TimerId {
        let clock = followed(&local.timers.clock, &cell.driver);
        let when = when.with_delay(when.delay());
        let slots = &mut local.timers.slots;
        let slot = match slots.iter().position(|t| !t.used) {
            Some(free) => free,
            None => {
                slots.push(Timer {
                    used: false,
                    owner: 0,
                    generation: 0,
                    clock: None,
                    epoch: 0,
                    due: Time::ZERO,
                    heard: Time::ZERO,
                    when,
                    deadline: None,
                    halted: false,
                    call: None,
                });
                slots.len() - 1
            }
        };
        let timer = &mut slots[slot];
        timer.used = true;
        timer.when = when;
        timer.clock = clock;
        timer.call = Some(call);
        let id = TimerId {
            slot: slot as u32,
            owner: timer.owner,
        };
        timer.heard = timer.look(cell);
        timer.arm(cell, id.slot, timer.heard);
        id
    }

    /// Adds a timer for silence, which begins now: the message that is being handled does not count.
    pub(crate) fn add_silence(
        cell: &Arc<Cell<P>>,
        local: &mut Local<P>,
        limit: Duration,
        call: TimerCall<P>,
    ) -> TimerId {
        local.timers.heard.get_or_insert(local.messages);
        Self::add(cell, local, When::Silence(limit), call)
    }

    /// True if there never was one.
    pub(crate) fn is_unused(&self) -> bool {
        self.slots.is_empty() && self.heard.is_none() && self.clock.is_none()
    }

    /// For how many timers there is room without more memory.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.slots.capacity()
    }

    /// True if [`hear`](Self::hear) is wanted at the end of a visit.
    #[inline]
    pub(crate) fn watch_for_silence(&self) -> bool {
        self.heard.is_some()
    }

    /// If messages were handled since it was called last, notes when, and gives timers for silence that have told their
    /// deadline again.
    #[inline(never)]
    pub(crate) fn hear(cell: &Arc<Cell<P>>, local: &mut Local<P>) {
        let timers = &mut local.timers;
        let Some(heard) = &mut timers.heard else {
            return;
        };
        if *heard == local.messages {
            return;
        }
        *heard = local.messages;
        for (slot, timer) in timers.slots.iter_mut().enumerate() {
            if !timer.used || !matches!(timer.when, When::Silence(_)) {
                continue;
            }
            timer.heard = timer.look(cell);
            if timer.deadline.is_none() && !timer.halted {
                timer.arm(cell, slot as u32, timer.heard);
            }
        }
    }

    fn get(&mut self, id: TimerId) -> Option<&mut Timer<P>> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|t| t.used && t.owner == id.owner)
    }

    /// True if it was still to fire.
    pub(crate) fn cancel(&mut self, driver: &DriverCore, id: TimerId) -> bool {
        match self.get(id) {
            Some(timer) => {
                timer.free(driver);
                true
            }
            None => false,
        }
    }

    /// Starts its delay, or its period, afresh from now.
    pub(crate) fn reset(
        cell: &Arc<Cell<P>>,
        local: &mut Local<P>,
        id: TimerId,
        period: Option<Duration>,
    ) -> bool {
        let Some(timer) = local.timers.get(id) else {
            return false;
        };
        if let Some(period) = period {
            timer.when = timer.when.with_delay(period);
        }
        let now = timer.look(cell);
        timer.arm(cell, id.slot, now);
        true
    }

    /// From here on it is not due, until it is reset. False if it has ended.
    pub(crate) fn halt(&mut self, driver: &DriverCore, id: TimerId) -> bool {
        match self.get(id) {
            Some(timer) => {
                timer.disarm(driver);
                timer.halted = true;
                true
            }
            None => false,
        }
    }

    /// How long until it is due; zero if it is overdue.
    pub(crate) fn time_left(&mut self, cell: &Cell<P>, id: TimerId) -> Option<Duration> {
        let timer = self.get(id).filter(|timer| !timer.halted)?;
        let due = match timer.when {
            // It has told: the soonest that it can come is its limit after a message that came now.
            When::Silence(limit) if timer.deadline.is_none() => return Some(limit),
            When::Silence(limit) => timer.due.max(timer.heard.checked_add(limit)?),
            When::After(_) | When::Every(_) => timer.due,
        };
        Some(due - timer.now(cell))
    }

    pub(crate) fn clear(&mut self, driver: &DriverCore) {
        for timer in self.slots.iter_mut().filter(|t| t.used) {
            timer.free(driver);
        }
    }

    /// Delivers a tick that is due. Returns false for one of an old generation.
    pub(crate) fn fire(
        cell: &Arc<Cell<P>>,
        processor: &mut P,
        local: &mut Local<P>,
        slot: u32,
        generation: u32,
    ) -> bool {
        let timer = local.timers.slots.get(slot as usize);
        let Some(timer) = timer.filter(|t| t.used && t.generation == generation) else {
            return false;
        };
        let when = timer.when;
        if local.timers.slots[slot as usize].is_put_off(cell, slot) {
            return false;
        }
        if let When::Silence(limit) = when
            && Self::put_off(cell, local, slot, limit)
        {
            return false;
        }
        let timer = &mut local.timers.slots[slot as usize];
        let Some(mut call) = timer.call.take() else {
            return false;
        };
        timer.deadline = None;
        let owner = timer.owner;
        let (time, skipped) = match timer.when {
            When::Every(period) => {
                let now = timer.look(cell);
                let (time, skipped, next) = tick_at(timer.due, period, now);
                timer.arm_at(cell, slot, next);
                (time, skipped)
            }
            When::After(_) | When::Silence(_) => (timer.due, 0),
        };
        let tick = Tick {
            due: match timer.clock {
                None => cell.driver.runtime().start() + time.since_zero(),
                Some(_) => cell.driver.world().now(),
            },
            skipped,
            time,
        };
        let once = matches!(timer.when, When::After(_));
        if once {
            // Free before it runs, so that the call may set the next one.
            timer.free(&cell.driver);
        }
        cell.set_last_type(|| "timer");
        let result = catch_unwind(AssertUnwindSafe(|| {
            let _span = hook::handling(&cell.name, "timer", Cause::none());
            call(processor, tick, &mut Cx::new(cell, local, Promise::none()));
        }));
        if !once && let Some(timer) = local.timers.get(TimerId { slot, owner }) {
            timer.call = Some(call);
        }
        if let Err(payload) = result {
            resume_unwind(payload);
        }
        true
    }

    /// A timer for silence is due. True if there was none: then it is due later.
    fn put_off(cell: &Arc<Cell<P>>, local: &mut Local<P>, slot: u32, limit: Duration) -> bool {
        // Messages of this very visit count as handled now.
        Self::hear(cell, local);
        let waits = cell.has_messages(local);
        let timers = &mut local.timers;
        let timer = &mut timers.slots[slot as usize];
        if waits {
            // The end of the visit that handles them gives it its deadline.
            timer.deadline = None;
            return true;
        }
        let due = timer.heard.checked_add(limit);
        let now = timer.look(cell);
        match due.filter(|due| *due > now) {
            Some(due) => {
                timer.arm_at(cell, slot, due);
                true
            }
            None => false,
        }
    }
}

impl<P: Processor> Timer<P> {
    /// What its clock shows.
    fn now(&self, cell: &Cell<P>) -> Time {
        match &self.clock {
            None => cell.driver.runtime().steady_time(),
            Some(clock) => clock.now(),
        }
    }

    /// What its clock shows. What is computed from that belongs to the clock's epoch of now.
    fn look(&mut self, cell: &Cell<P>) -> Time {
        match &self.clock {
            None => cell.driver.runtime().steady_time(),
            Some(clock) => {
                let look = clock.look();
                self.epoch = look.epoch;
                look.now
            }
        }
    }

    /// It was told. If it is not due, because its clock was changed, it is put off, and this is true.
    ///
    /// If the clock went back, the timer comes when it is due, but no later than its delay after what the clock showed then:
    /// who set it did not mean to wait for what the clock has shown before. If it began anew, that alone counts.
    fn is_put_off(&mut self, cell: &Arc<Cell<P>>, slot: u32) -> bool {
        let Some(clock) = &self.clock else {
            return false;
        };
        let look = clock.look();
        // From the change on, and not from now: the processor may look late.
        let latest = look.origin + self.when.delay();
        let due = match self.epoch == look.epoch {
            true if look.now >= self.due => return false,
            true => self.due.min(latest),
            false => latest,
        };
        self.epoch = look.epoch;
        // What was heard before the change says nothing about times after it.
        self.heard = self.heard.min(look.origin);
        self.arm_at(cell, slot, due);
        true
    }

    fn arm(&mut self, cell: &Arc<Cell<P>>, slot: u32, now: Time) {
        match now.checked_add(self.when.delay()) {
            Some(due) => self.arm_at(cell, slot, due),
            // Beyond what the clock can say: never.
            None => self.disarm(&cell.driver),
        }
    }

    fn arm_at(&mut self, cell: &Arc<Cell<P>>, slot: u32, due: Time) {
        self.disarm(&cell.driver);
        self.due = due;
        self.halted = false;
        let what = Due::Tick {
            cell: cell.clone(),
            slot,
            generation: self.generation,
        };
        match &self.clock {
            Some(clock) => {
                let delay = self.when.delay();
                self.deadline = Some(Armed::Clock(clock.add_timer(due, delay, what)));
            }
            None => {
                // Beyond what the system's clock can say: never.
                let at = cell.driver.runtime().start().checked_add(due.since_zero());
                self.deadline = at.map(|at| Armed::Driver(cell.driver.add_deadline(at, what)));
            }
        }
    }

    /// From here on a tick on its way is an old one.
    fn disarm(&mut self, driver: &DriverCore) {
        self.generation = self.generation.wrapping_add(1);
        match (self.deadline.take(), &self.clock) {
            (Some(Armed::Driver(deadline)), _) => driver.cancel_deadline(deadline),
            (Some(Armed::Clock(deadline)), Some(clock)) => clock.cancel(deadline),
            (Some(Armed::Clock(_)) | None, _) => {}
        }
    }

    fn free(&mut self, driver: &DriverCore) {
        self.disarm(driver);
        self.used = false;
        self.owner = self.owner.wrapping_add(1);
        self.call = None;
        self.clock = None;
        self.halted = false;
    }
}

impl<P: Processor> fmt::Debug for Timers<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Timers({})",
            self.slots.iter().filter(|t| t.used).count()
        )
    }
}
