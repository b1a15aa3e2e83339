//! What belongs to a processor beside its state, and is touched by its driver only.

use super::pace::Pace;
use crate::context::{Continuation, Extensions};
use crate::lane::LaneSource;
use crate::mailbox::{Control, LaneId};
use crate::outbox::Outbox;
use crate::parcels::Parcels;
use crate::processor::Processor;
use crate::queue::Items as _;
use crate::tasks::{Tasks, Woken};
use crate::timer::Deadline;
use crate::timers::Timers;
use crate::waits_for::Keeper;
use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

/// What belongs to the processor beside its state, and is touched by its driver only. A small cell keeps one only while it needs
/// it, see [`is_blank`](Self::is_blank); else a visit has it on its stack.
pub(crate) struct Local<P: Processor> {
    pub(crate) stop: bool,
    /// The world is to be asked before each message whether its handler panics. Set at the begin of a visit.
    pub(crate) may_panic: bool,
    pub(super) draining: bool,
    /// `stopped` was called: what it sent is still to be delivered.
    pub(super) farewell: bool,
    pub(crate) stalled: bool,
    pub(super) pass: bool,
    /// It is supervised, and there is no incarnation: see `restart.rs`.
    pub(super) down: bool,
    /// The high lane has something.
    pub(super) high: bool,
    pub(super) high_run: u32,
    /// What is handled is a message of the mailbox, counted as handled, and was not set aside yet.
    pub(super) by_mail: bool,
    /// How many at the front of `batch` were set aside before, and are back: see `put_back.rs`.
    pub(super) put_back: usize,
    /// Whose turn it is: control, messages, lanes.
    pub(super) turn: u8,
    /// What was taken out of the normal lane and is not handled yet.
    pub(super) batch: Parcels<P>,
    pub(super) pace: Pace,
    /// The cell is running but no longer `scheduled`, because the message in `batch` is taken to be the only one: a push
    /// puts it on the ready queue again, behind this visit. See the table in `cell/mod.rs`.
    pub(super) released: bool,
    /// On a pool: what is in `batch` is taken to be all that there is, so the visit is over behind it. `leave_idle` looks under
    /// the lock in any case.
    pub(super) last_look_is_later: bool,
    pub(super) control: VecDeque<Control<P>>,
    pub(super) ready: VecDeque<LaneId>,
    /// The future of a handler is not done: nothing else enters the processor. See `awaiting.rs`.
    pub(super) held: bool,
    /// Tasks that are to be polled.
    pub(super) woken: VecDeque<Woken>,
    pub(super) tasks: Option<Box<Tasks<P>>>,
    pub(super) outbox: Outbox,
    /// How many of these are counted in the mailbox's `Rare`.
    pub(super) outbox_counted: u64,
    pub(super) outbox_deadline: Option<Deadline>,
    pub(super) waker: Option<Waker>,
    /// How many messages and items of subscriptions were taken, and how many futures of handlers were done.
    pub(crate) messages: u64,
    pub(crate) timers: Timers<P>,
    pub(crate) lanes: Vec<LaneSlot<P>>,
    pub(crate) continuations: BTreeMap<u64, Continuation<P>>,
    pub(crate) next_continuation: u64,
    pub(crate) extensions: Extensions,
}

pub(crate) struct LaneSlot<P: Processor> {
    pub(crate) generation: u32,
    /// Absent while it is served, and when the slot is free.
    pub(crate) lane: Option<Box<dyn LaneSource<P>>>,
    pub(crate) used: bool,
}

impl<P: Processor> Local<P> {
    pub(super) fn new() -> Self {
        Self {
            stop: false,
            may_panic: false,
            draining: false,
            farewell: false,
            stalled: false,
            pass: false,
            down: false,
            high: false,
            high_run: 0,
            by_mail: false,
            put_back: 0,
            turn: 0,
            batch: Parcels::default(),
            pace: Pace::default(),
            released: false,
            last_look_is_later: false,
            control: VecDeque::new(),
            ready: VecDeque::new(),
            held: false,
            woken: VecDeque::new(),
            tasks: None,
            outbox: Outbox::default(),
            outbox_counted: 0,
            outbox_deadline: None,
            waker: None,
            messages: 0,
            timers: Timers::new(),
            lanes: Vec::new(),
            continuations: BTreeMap::new(),
            next_continuation: 0,
            extensions: Extensions::default(),
        }
    }

    /// Of a cell that makes one for each visit.
    pub(super) fn of_many() -> Self {
        Self {
            pace: Pace::of_many(),
            ..Self::new()
        }
    }

    /// See [`AnyCell::deliver_outbox_of_neighbour`](super::AnyCell::deliver_outbox_of_neighbour).
    pub(super) fn deliver_outbox(&mut self, waker: &Waker, blocked_on: &mut Vec<Keeper>) {
        self.outbox.deliver(waker, blocked_on);
    }

    /// True if a new one is as good: nothing is in it, and it has numbered nothing. A timer, a lane or a continuation may have
    /// left its number with somebody, who must not find another one under it; so what has had any is kept. What is lost is
    /// how messages came lately (`pace`), and whose turn it is.
    #[inline]
    pub(super) fn is_blank(&self) -> bool {
        let flags =
            self.stop | self.draining | self.farewell | self.stalled | self.pass | self.down;
        !flags
            && !self.released
            && !self.last_look_is_later
            && self.batch.is_empty()
            && self.control.is_empty()
            && self.ready.is_empty()
            && self.tasks.is_none()
            && self.outbox.is_empty()
            && self.outbox_counted == 0
            && self.outbox_deadline.is_none()
            && self.timers.is_unused()
            && self.lanes.is_empty()
            && self.next_continuation == 0
            && self.extensions.is_empty()
    }

    /// True if anything of it has memory, though perhaps nothing is in it: then it must be dropped. All fields are named, so that the
    /// compiler asks about a new one.
    #[inline]
    pub(super) fn holds_memory(&self) -> bool {
        let Self {
            control,
            ready,
            woken,
            lanes,
            outbox,
            timers,
            batch,
            waker,
            tasks,
            // It never had any if none was numbered.
            continuations: _,
            next_continuation,
            // What is there once stays.
            extensions,
            // Plain values.
            stop: _,
            may_panic: _,
            draining: _,
            farewell: _,
            stalled: _,
            pass: _,
            down: _,
            high: _,
            high_run: _,
            by_mail: _,
            put_back: _,
            turn: _,
            pace: _,
            released: _,
            last_look_is_later: _,
            held: _,
            outbox_counted: _,
            outbox_deadline: _,
            messages: _,
        } = self;
        let room = control.capacity() | ready.capacity() | woken.capacity() | lanes.capacity();
        (room | outbox.room() | timers.room()) != 0
            || batch.has_buffer()
            || waker.is_some()
            || tasks.is_some()
            || *next_continuation != 0
            || !extensions.is_empty()
    }

    /// Nothing is to be done on the driver's side but to serve normal messages.
    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        // Asked several times for each message: without a branch for each part.
        let waiting = self.control.len() | self.ready.len() | self.woken.len();
        let flags = self.held | self.stalled | self.stop | self.draining;
        waiting == 0 && !flags
    }

    /// True if nothing that was queued is left on the driver's side, subscriptions included, and nothing that a message has
    /// begun goes on (each of these has a limit).
    pub(super) fn is_drained(&self) -> bool {
        self.batch.is_empty()
            && self.ready.is_empty()
            && self.continuations.is_empty()
            && !self.held
            && !self.stalled
    }

    pub(super) fn slot(&self, id: LaneId) -> Option<&LaneSlot<P>> {
        self.lanes
            .get(id.slot as usize)
            .filter(|slot| slot.used && slot.generation == id.generation)
    }

    pub(super) fn lane(&self, id: LaneId) -> Option<&dyn LaneSource<P>> {
        self.slot(id)?.lane.as_deref()
    }

    pub(crate) fn take_lane(&mut self, id: LaneId) -> Option<Box<dyn LaneSource<P>>> {
        self.slot(id)?;
        self.lanes[id.slot as usize].lane.take()
    }

    /// Puts a lane back after it was served. If it was removed meanwhile, it ends now.
    pub(crate) fn put_lane(&mut self, id: LaneId, mut lane: Box<dyn LaneSource<P>>) {
        if self.slot(id).is_some() {
            self.lanes[id.slot as usize].lane = Some(lane);
        } else {
            lane.end();
        }
    }

    /// See [`AnyCell::rest_lanes`](super::AnyCell::rest_lanes).
    pub(super) fn rest_lanes(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(id) = self.ready.pop_front() else {
                return;
            };
            let Some(mut lane) = self.take_lane(id) else {
                continue;
            };
            if !lane.rest() {
                self.ready.push_back(id);
            }
            self.put_lane(id, lane);
        }
    }

    pub(crate) fn add_lane(&mut self, lane: Box<dyn LaneSource<P>>) -> LaneId {
        let slot = match self.lanes.iter().position(|slot| !slot.used) {
            Some(free) => free,
            None => {
                self.lanes.push(LaneSlot {
                    generation: 0,
                    lane: None,
                    used: false,
                });
                self.lanes.len() - 1
            }
        };
        let entry = &mut self.lanes[slot];
        entry.used = true;
        entry.lane = Some(lane);
        LaneId {
            slot: slot as u32,
            generation: entry.generation,
        }
    }

    pub(crate) fn remove_lane(&mut self, id: LaneId) {
        if self.slot(id).is_none() {
            return;
        }
        let entry = &mut self.lanes[id.slot as usize];
        entry.used = false;
        entry.generation = entry.generation.wrapping_add(1);
        if let Some(mut lane) = entry.lane.take() {
            lane.end();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;

    /// Parts that come through no door that demands `Send`: on a pool they go from thread to thread all the same. The
    /// compiler is the test. Timers, lanes and continuations are the others.
    #[test]
    fn what_no_door_guards_is_send_whatever_the_processor_is() {
        fn is_send<T: Send>() {}
        fn parts<P: Processor>() {
            is_send::<(Parcels<P>, Pace, VecDeque<Control<P>>)>();
            is_send::<(VecDeque<LaneId>, Outbox, Option<Deadline>)>();
            is_send::<(Option<Waker>, Extensions)>();
        }
        struct NotSend(#[expect(dead_code, reason = "keeps it from being `Send`")] *mut ());
        impl Processor for NotSend {}
        parts::<NotSend>();
    }
}
