//! The timers of one processor. The order of deadlines is the driver's ([`Deadlines`](crate::timer::Deadlines)).
//!
//! A timer is armed again when its tick is *delivered*, not when it is due: so there is never a second undelivered tick.
//! Each arming has a generation. Cancelling or resetting a timer starts a new one, and a tick that is already on its way
//! is recognised as old and ignored.
//!
//! A timer for *silence* ([`Cx::receive_timeout`]) has a deadline at the time at which it can come at the earliest. Messages
//! do not move it: when it is due, it is put off to the last message and its limit, if any came. When it has told, or a
//! message waits to be handled, it has no deadline until the end of the next visit that handled messages. So an idle
//! processor is not woken again and again.

use crate::cell::{Cell, Local};
use crate::context::{Cx, Promise};
use crate::driver::{DriverCore, Due};
use crate::processor::Processor;
use crate::timer::{Deadline, Tick, tick_at};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

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
    /// Present once there is a timer for silence: most processors have none.
    heard: Option<Box<Heard>>,
}

/// When messages were handled last.
struct Heard {
    /// `Local::messages` at that time.
    messages: u64,
    at: Instant,
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
    due: Instant,
    when: When,
    deadline: Option<Deadline>,
    /// Absent while it runs.
    call: Option<TimerCall<P>>,
}

/// A shorter period would let nothing else run.
const SHORTEST_PERIOD: Duration = Duration::from_micros(1);

impl<P: Processor> Timers<P> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            heard: None,
        }
    }

    pub(crate) fn add(
        cell: &Arc<Cell<P>>,
        local: &mut Local<P>,
        when: When,
        call: TimerCall<P>,
    ) -> TimerId {
        let now = cell.driver.world().now();
        let when = when.with_delay(when.delay());
        let slots = &mut local.timers.slots;
        let slot = match slots.iter().position(|t| !t.used) {
            Some(free) => free,
            None => {
                slots.push(Timer {
                    used: false,
                    owner: 0,
                    generation: 0,
                    due: now,
                    when,
                    deadline: None,
                    call: None,
                });
                slots.len() - 1
            }
        };
        let timer = &mut slots[slot];
        timer.used = true;
        timer.when = when;
        timer.call = Some(call);
        let id = TimerId {
            slot: slot as u32,
            owner: timer.owner,
        };
        timer.arm(cell, id.slot, now);
        id
    }

    /// Adds a timer for silence, which begins now: the message that is being handled does not count.
    pub(crate) fn add_silence(
        cell: &Arc<Cell<P>>,
        local: &mut Local<P>,
        limit: Duration,
        call: TimerCall<P>,
    ) -> TimerId {
        if local.timers.heard.is_none() {
            local.timers.heard = Some(Box::new(Heard {
                messages: local.messages,
                at: cell.driver.world().now(),
            }));
        }
        Self::add(cell, local, When::Silence(limit), call)
    }

    /// True if there never was one.
    pub(crate) fn is_unused(&self) -> bool {
        self.slots.is_empty() && self.heard.is_none()
    }

    /// True if [`hear`](Self::hear) is wanted at the end of a visit.
    #[inline]
    pub(crate) fn watch_for_silence(&self) -> bool {
        self.heard.is_some()
    }

    /// If messages were handled since it was called last, notes when, and gives timers for silence that have told their
    /// deadline again.
    pub(crate) fn hear(cell: &Arc<Cell<P>>, local: &mut Local<P>) {
        let timers = &mut local.timers;
        let Some(heard) = &mut timers.heard else {
            return;
        };
        if heard.messages == local.messages {
            return;
        }
        heard.messages = local.messages;
        heard.at = cell.driver.world().now();
        for (slot, timer) in timers.slots.iter_mut().enumerate() {
            if timer.used && timer.deadline.is_none() && matches!(timer.when, When::Silence(_)) {
                timer.arm(cell, slot as u32, heard.at);
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
        let now = cell.driver.world().now();
        let Some(timer) = local.timers.get(id) else {
            return false;
        };
        if let Some(period) = period {
            timer.when = timer.when.with_delay(period);
        }
        timer.arm(cell, id.slot, now);
        true
    }

    /// How long until it is due; zero if it is overdue.
    pub(crate) fn time_left(&mut self, id: TimerId, now: Instant) -> Option<Duration> {
        let heard = self.heard.as_ref().map(|heard| heard.at);
        let timer = self.get(id)?;
        let due = match timer.when {
            // It has told: the soonest that it can come is its limit after a message that came now.
            When::Silence(limit) if timer.deadline.is_none() => return Some(limit),
            When::Silence(limit) => timer.due.max(heard?.checked_add(limit)?),
            When::After(_) | When::Every(_) => timer.due,
        };
        Some(due.saturating_duration_since(now))
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
        if let When::Silence(limit) = timer.when
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
        let tick = match timer.when {
            When::Every(period) => {
                let (tick, next) = tick_at(timer.due, period, cell.driver.world().now());
                timer.arm_at(cell, slot, next);
                tick
            }
            When::After(_) | When::Silence(_) => Tick {
                due: timer.due,
                skipped: 0,
            },
        };
        let once = matches!(timer.when, When::After(_));
        if once {
            // Free before it runs, so that the call may set the next one.
            timer.free(&cell.driver);
        }
        cell.set_last_type(|| "timer");
        let result = catch_unwind(AssertUnwindSafe(|| {
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
        let now = cell.driver.world().now();
        let last = timers.heard.as_ref().map(|heard| heard.at);
        let due = last.and_then(|last| last.checked_add(limit));
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
    fn arm(&mut self, cell: &Arc<Cell<P>>, slot: u32, now: Instant) {
        match now.checked_add(self.when.delay()) {
            Some(due) => self.arm_at(cell, slot, due),
            // Beyond what the clock can say: never.
            None => self.disarm(&cell.driver),
        }
    }

    fn arm_at(&mut self, cell: &Arc<Cell<P>>, slot: u32, due: Instant) {
        self.disarm(&cell.driver);
        self.due = due;
        let what = Due::Tick {
            cell: cell.clone(),
            slot,
            generation: self.generation,
        };
        self.deadline = Some(cell.driver.add_deadline(due, what));
    }

    /// From here on a tick on its way is an old one.
    fn disarm(&mut self, driver: &DriverCore) {
        self.generation = self.generation.wrapping_add(1);
        if let Some(deadline) = self.deadline.take() {
            driver.cancel_deadline(deadline);
        }
    }

    fn free(&mut self, driver: &DriverCore) {
        self.disarm(driver);
        self.used = false;
        self.owner = self.owner.wrapping_add(1);
        self.call = None;
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
