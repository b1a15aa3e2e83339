//! The timers of one processor. The order of deadlines is the driver's ([`Deadlines`](crate::timer::Deadlines)).
//!
//! A timer is armed again when its tick is *delivered*, not when it is due: so there is never a second undelivered tick.
//! Each arming has a generation. Cancelling or resetting a timer starts a new one, and a tick that is already on its way
//! is recognised as old and ignored.

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
}

struct Timer<P: Processor> {
    used: bool,
    owner: u32,
    generation: u32,
    due: Instant,
    /// `None`: fires once.
    period: Option<Duration>,
    delay: Duration,
    deadline: Option<Deadline>,
    /// Absent while it runs.
    call: Option<TimerCall<P>>,
}

/// A shorter period would let nothing else run.
const SHORTEST_PERIOD: Duration = Duration::from_micros(1);

impl<P: Processor> Timers<P> {
    pub(crate) fn new() -> Self {
        Self { slots: Vec::new() }
    }

    pub(crate) fn add(
        cell: &Arc<Cell<P>>,
        local: &mut Local<P>,
        delay: Duration,
        period: Option<Duration>,
        call: TimerCall<P>,
    ) -> TimerId {
        let now = cell.driver.world().now();
        let period = period.map(|p| p.max(SHORTEST_PERIOD));
        let slots = &mut local.timers.slots;
        let slot = match slots.iter().position(|t| !t.used) {
            Some(free) => free,
            None => {
                slots.push(Timer {
                    used: false,
                    owner: 0,
                    generation: 0,
                    due: now,
                    period: None,
                    delay,
                    deadline: None,
                    call: None,
                });
                slots.len() - 1
            }
        };
        let timer = &mut slots[slot];
        timer.used = true;
        timer.period = period;
        timer.delay = delay;
        timer.call = Some(call);
        let id = TimerId {
            slot: slot as u32,
            owner: timer.owner,
        };
        timer.arm(cell, id.slot, now, delay);
        id
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
            let period = period.max(SHORTEST_PERIOD);
            timer.delay = period;
            if timer.period.is_some() {
                timer.period = Some(period);
            }
        }
        let delay = timer.period.unwrap_or(timer.delay);
        timer.arm(cell, id.slot, now, delay);
        true
    }

    /// How long until it is due; zero if it is overdue.
    pub(crate) fn time_left(&mut self, id: TimerId, now: Instant) -> Option<Duration> {
        self.get(id)
            .map(|timer| timer.due.saturating_duration_since(now))
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
        let Some(timer) = local.timers.slots.get_mut(slot as usize) else {
            return false;
        };
        if !timer.used || timer.generation != generation {
            return false;
        }
        let Some(mut call) = timer.call.take() else {
            return false;
        };
        timer.deadline = None;
        let owner = timer.owner;
        let tick = match timer.period {
            Some(period) => {
                let (tick, next) = tick_at(timer.due, period, cell.driver.world().now());
                timer.arm_at(cell, slot, next);
                tick
            }
            None => Tick {
                due: timer.due,
                skipped: 0,
            },
        };
        let once = timer.period.is_none();
        if once {
            // Free before it runs, so that the call may set the next one.
            timer.free(&cell.driver);
        }
        local.last_type = || "timer";
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
}

impl<P: Processor> Timer<P> {
    fn arm(&mut self, cell: &Arc<Cell<P>>, slot: u32, now: Instant, delay: Duration) {
        match now.checked_add(delay) {
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
