//! A processor at its place: state, mailbox, and the only code that enters a handler.
//!
//! # Who may touch `body`
//!
//! | the cell is                                         | `body` may be touched by              | leaves by                          |
//! |-----------------------------------------------------|---------------------------------------|------------------------------------|
//! | new: `scheduled`, not yet queued                    | whoever makes it                      | `DriverCore::enqueue`              |
//! | idle: `scheduled` is false                          | nobody                                | a push that sets `scheduled`       |
//! | scheduled: on its driver's ready queue, once        | nobody                                | the driver taking it off the queue |
//! | running: taken off the queue, `scheduled` still true | the driver's thread, inside `run`    | `run` returning                    |
//! | entered by its script between two turns             | the script's thread, inside `enter`   | `enter` returning                  |
//!
//! `scheduled` is set and cleared under the mailbox's lock, and a cell is queued exactly when it goes from false to
//! true, so it stands on at most one queue. The lock also carries what one visit wrote to the next visit, should that be
//! on another thread. A driver that is manual runs cells on the thread that made it and nowhere else; `enter` runs on
//! that thread too and refuses while a turn is going on.
//!
//! State that is not `Send` is made, used and dropped on its driver's thread. If a cell outlives that thread (its driver
//! could not be ended in order), such state is leaked, not dropped elsewhere.

use crate::context::{Cx, Extensions, Promise};
use crate::current::{self, Handling};
use crate::dead_letters::DropCause;
use crate::driver::DriverCore;
use crate::envelope::{Envelope, Parcel};
use crate::error::Fault;
use crate::exit::{Down, Exit};
use crate::hook;
use crate::id::ProcessorId;
use crate::lane::LaneSource;
use crate::mailbox::{Control, Lane, LaneId, Lanes, Mailbox, Signals};
use crate::name::Name;
use crate::outbox::Outbox;
use crate::processor::{AfterPanic, Processor};
use crate::queue::{Admit, Reserve, Ticket, UNBOUNDED};
use crate::snapshot::ProcessorSnapshot;
use crate::sync::{AtomicU64, Relaxed, UnsafeCell};
use crate::timer::Deadline;
use crate::timers::Timers;
use crate::{clock, waits_for};
use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::{Wake, Waker};

/// A cell whose processor's type is forgotten: what stands on ready queues.
pub(crate) type CellRef = Arc<dyn AnyCell>;

/// A watch on a processor: told once, when it ends.
pub(crate) struct Watcher {
    pub(crate) number: u64,
    pub(crate) tell: Box<dyn FnOnce(Down) + Send>,
}

/// What a driver does with a cell it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing is left, or it is stalled: whoever pushes next schedules it.
    Idle,
    /// It has used up its budget: to the back of the queue.
    Again,
}

/// Between two readings of the clock, at most this many messages.
const CLOCK_EVERY: u32 = 16;
/// Of so many high messages in a row, one normal message follows.
const HIGH_RUN: u32 = 16;

pub(crate) trait AnyCell: Send + Sync {
    fn id(&self) -> ProcessorId;
    fn name(&self) -> &Name;
    fn driver(&self) -> &Arc<DriverCore>;
    /// Serves up to `budget` messages. Returns how many were served, too.
    fn run(self: Arc<Self>, budget: u32) -> (Next, u32);
    fn signal(self: Arc<Self>, signal: Signals);
    fn tick(self: Arc<Self>, slot: u32, generation: u32);
    fn resume(self: Arc<Self>, key: u64);
    fn lane_ready(self: Arc<Self>, lane: LaneId);
    /// The arrival number of what would be served next, for drivers that serve in order of arrival.
    fn head(&self) -> Option<u64>;
    /// True if nothing is queued, running or waiting for room.
    fn is_quiet(&self) -> bool;
    /// Tells `watcher` when it ends, or at once if it has.
    fn watch(&self, watcher: Watcher);
    fn unwatch(&self, number: u64);
    fn snapshot(&self) -> ProcessorSnapshot;
    /// Ends it from the driver's thread when the driver itself ends.
    fn end_with_driver(self: Arc<Self>, exit: Exit);
    /// What it is handling, and for how many nanoseconds, if it is.
    fn handling(&self) -> Option<(&'static str, u64)>;
}

/// See the module's documentation.
pub(crate) struct Cell<P: Processor> {
    pub(crate) id: ProcessorId,
    pub(crate) name: Name,
    pub(crate) driver: Arc<DriverCore>,
    pub(crate) mailbox: Mailbox<P>,
    body: UnsafeCell<Body<P>>,
    counters: Counters,
    /// The processor is `Send`: it may be dropped by any thread.
    movable: bool,
}

/// Written by the driver that runs the cell, read by anybody: plain counts that order nothing, hence relaxed.
#[derive(Debug, Default)]
struct Counters {
    handled: AtomicU64,
    faults: AtomicU64,
    panics: AtomicU64,
    busy: AtomicU64,
    longest: AtomicU64,
    outbox: AtomicU64,
    outbox_drops: AtomicU64,
    /// When the visit or message that is going on began, in cycles; 0 while nothing is going on.
    since: AtomicU64,
}

fn count(counter: &AtomicU64, more: u64) {
    // One writer: no read-modify-write is needed.
    counter.store(counter.load(Relaxed) + more, Relaxed);
}

struct Body<P: Processor> {
    processor: Option<P>,
    local: Local<P>,
}

/// What belongs to the processor beside its state, and is touched by its driver only.
pub(crate) struct Local<P: Processor> {
    started: bool,
    ended: bool,
    pub(crate) stop: bool,
    draining: bool,
    pub(crate) stalled: bool,
    pass: bool,
    /// The high lane has something.
    high: bool,
    high_run: u32,
    /// Whose turn it is: control, messages, lanes.
    turn: u8,
    first: Option<Envelope<P>>,
    batch: VecDeque<Envelope<P>>,
    control: VecDeque<Control<P>>,
    ready: VecDeque<LaneId>,
    outbox: Outbox,
    outbox_deadline: Option<Deadline>,
    waker: Option<Waker>,
    pub(crate) last_type: &'static str,
    pub(crate) messages: u64,
    pub(crate) timers: Timers<P>,
    pub(crate) lanes: Vec<LaneSlot<P>>,
    pub(crate) continuations: BTreeMap<u64, crate::context::Continuation<P>>,
    pub(crate) next_continuation: u64,
    pub(crate) extensions: Extensions,
}

pub(crate) struct LaneSlot<P: Processor> {
    pub(crate) generation: u32,
    /// Absent while it is served, and when the slot is free.
    pub(crate) lane: Option<Box<dyn LaneSource<P>>>,
    pub(crate) used: bool,
}

// SAFETY: everything but `body` is `Send + Sync` (the mailbox is a mutex around envelopes, which are `Send`). `body` is
// touched as the table in the module's documentation allows: by one thread at a time, with the mailbox's lock between
// two visits. State that is not `Send` is never touched off its driver's thread, see `Drop`.
unsafe impl<P: Processor> Send for Cell<P> {}
// SAFETY: as above.
unsafe impl<P: Processor> Sync for Cell<P> {}

/// Why a message was not queued; the parcel comes back.
pub(crate) enum Refused<D> {
    Full(D),
    Closed(D),
}

impl<P: Processor> Cell<P> {
    pub(crate) fn new(
        name: Name,
        driver: Arc<DriverCore>,
        processor: P,
        movable: bool,
        capacity: usize,
        when_full: crate::queue::WhenFull,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: ProcessorId::next(),
            name,
            driver,
            mailbox: Mailbox::new(capacity, when_full),
            body: UnsafeCell::new(Body {
                processor: Some(processor),
                local: Local::new(),
            }),
            counters: Counters::default(),
            movable,
        })
    }

    /// Queues a parcel, or says why not. Never waits.
    #[inline]
    pub(crate) fn offer<D: Parcel<P>>(
        self: &Arc<Self>,
        lane: Lane,
        parcel: D,
        final_try: bool,
    ) -> Result<(), Refused<D>> {
        let progress = self.mailbox.progress.of(lane);
        let mut lanes = self.mailbox.lanes.lock();
        let evicted = match lanes.queue(lane).admit(progress) {
            Admit::Room => None,
            Admit::Evicted(oldest) => {
                lanes.drops(DropCause::Evicted, 1);
                Some(oldest)
            }
            Admit::Drop => {
                lanes.received += 1;
                lanes.drops(DropCause::NoRoom, 1);
                drop(lanes);
                self.dead_letter(Envelope::new(parcel), DropCause::NoRoom, None);
                return Ok(());
            }
            Admit::Full => {
                if final_try {
                    self.count_returned_in(&mut lanes);
                }
                return Err(Refused::Full(parcel));
            }
            Admit::Closed => {
                if final_try {
                    self.count_returned_in(&mut lanes);
                }
                return Err(Refused::Closed(parcel));
            }
        };
        let mut envelope = Envelope::new(parcel);
        if let Some(arrival) = self.driver.next_arrival() {
            envelope.arrival = arrival;
        }
        lanes.queue(lane).insert(envelope);
        lanes.received += 1;
        let schedule = lanes.schedule_for_message();
        drop(lanes);
        if lane == Lane::High {
            self.mailbox.progress.attention.store(true, Relaxed);
        }
        if schedule {
            self.schedule();
        }
        if let Some(oldest) = evicted {
            self.dead_letter(oldest, DropCause::Evicted, None);
        }
        Ok(())
    }

    /// Queues a parcel when there is room for it, standing in line meanwhile. `parcel` is taken when it is queued.
    pub(crate) fn poll_push<D: Parcel<P>>(
        self: &Arc<Self>,
        lane: Lane,
        ticket: &mut Ticket,
        waker: &Waker,
        parcel: &mut Option<D>,
    ) -> Reserve {
        let progress = self.mailbox.progress.of(lane);
        let mut lanes = self.mailbox.lanes.lock();
        let reserve = lanes.queue(lane).poll_reserve(ticket, waker, progress);
        if reserve != Reserve::Granted {
            return reserve;
        }
        let Some(parcel) = parcel.take() else {
            return Reserve::Granted;
        };
        self.use_place(lanes, lane, Envelope::new(parcel));
        Reserve::Granted
    }

    /// Reserves a place without using it.
    pub(crate) fn poll_reserve(&self, lane: Lane, ticket: &mut Ticket, waker: &Waker) -> Reserve {
        let progress = self.mailbox.progress.of(lane);
        let mut lanes = self.mailbox.lanes.lock();
        lanes.queue(lane).poll_reserve(ticket, waker, progress)
    }

    /// Uses a reserved place; the parcel comes back if the processor has ended.
    pub(crate) fn push_reserved<D: Parcel<P>>(
        self: &Arc<Self>,
        lane: Lane,
        parcel: D,
    ) -> Result<(), D> {
        let mut lanes = self.mailbox.lanes.lock();
        if lanes.queue(lane).is_closed() {
            self.count_returned_in(&mut lanes);
            return Err(parcel);
        }
        self.use_place(lanes, lane, Envelope::new(parcel));
        Ok(())
    }

    fn use_place(
        self: &Arc<Self>,
        mut lanes: crate::sync::MutexGuard<'_, Lanes<P>>,
        lane: Lane,
        mut envelope: Envelope<P>,
    ) {
        if let Some(arrival) = self.driver.next_arrival() {
            envelope.arrival = arrival;
        }
        if lanes.queue(lane).push_reserved(envelope).is_err() {
            unreachable!("the caller saw under this lock that the queue is open");
        }
        lanes.received += 1;
        let schedule = lanes.schedule_for_message();
        drop(lanes);
        if lane == Lane::High {
            self.mailbox.progress.attention.store(true, Relaxed);
        }
        if schedule {
            self.schedule();
        }
    }

    pub(crate) fn release_place(&self, lane: Lane) {
        let wake = {
            let mut lanes = self.mailbox.lanes.lock();
            lanes.queue(lane).release(self.mailbox.progress.of(lane))
        };
        wake.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn resign(&self, lane: Lane, ticket: &mut Ticket) {
        if !ticket.is_enlisted() {
            return;
        }
        let wake = {
            let mut lanes = self.mailbox.lanes.lock();
            lanes
                .queue(lane)
                .resign(ticket, self.mailbox.progress.of(lane))
        };
        wake.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn count_returned(&self) {
        let mut lanes = self.mailbox.lanes.lock();
        self.count_returned_in(&mut lanes);
    }

    /// Once its counts are in the node's sums, what comes later is added there, too. Lock order: mailbox, sums.
    fn count_returned_in(&self, lanes: &mut Lanes<P>) {
        let rare = lanes.rare();
        rare.returned += 1;
        if rare.filed {
            self.driver.runtime().returned_after_the_end();
        }
    }

    /// Why it ended, if it has.
    pub(crate) fn ended(&self) -> Option<Exit> {
        self.mailbox.lanes.lock().ended().cloned()
    }

    /// True if no more messages are taken: it has ended, or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        self.mailbox.lanes.lock().normal.is_closed()
    }

    /// Adds to the control lane. A cell that has ended gives it back.
    pub(crate) fn control(self: &Arc<Self>, control: Control<P>) -> Result<(), Control<P>> {
        let mut lanes = self.mailbox.lanes.lock();
        if lanes.ended().is_some() {
            return Err(control);
        }
        lanes.control.push_back(control);
        let schedule = lanes.schedule_for_control();
        drop(lanes);
        self.mailbox.progress.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
        Ok(())
    }

    #[inline]
    fn schedule(self: &Arc<Self>) {
        self.driver.enqueue(self.clone());
    }

    /// Runs `f` with the processor outside of a visit, on the thread of its manual driver.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that runs the cell's driver, and it is not running any cell of it now.
    pub(crate) unsafe fn enter<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut P, &mut Cx<'_, P>) -> R,
    ) -> Option<R> {
        self.body.with_mut(|body| {
            // SAFETY: the last row of the table, by the caller's promise.
            let body = unsafe { &mut *body };
            if !body.local.started {
                self.start(body);
            }
            let processor = body.processor.as_mut()?;
            self.open(&mut body.local);
            let result = f(
                processor,
                &mut Cx::new(self, &mut body.local, Promise::none()),
            );
            self.settle(body);
            self.close_visit(body);
            if body.local.stop {
                // Ends at its next visit, like any other.
                let mut lanes = self.mailbox.lanes.lock();
                lanes.signals.set(Signals::STOP);
                let schedule = lanes.schedule_for_control();
                drop(lanes);
                if schedule {
                    self.schedule();
                }
            }
            Some(result)
        })
    }

    /// Says that handlers of this processor run on this thread from now on.
    fn open(&self, local: &mut Local<P>) {
        current::enter(Handling {
            id: self.id,
            may_block: self.driver.is_own(),
            outbox: std::mem::take(&mut local.outbox),
            faults: Vec::new(),
            given_up: 0,
        });
    }

    fn close_visit(&self, body: &mut Body<P>) {
        if let Some(handling) = current::leave() {
            count(&self.counters.outbox_drops, handling.given_up);
            body.local.outbox = handling.outbox;
        }
        self.counters
            .outbox
            .store(body.local.outbox.len() as u64, Relaxed);
    }

    fn start(self: &Arc<Self>, body: &mut Body<P>) {
        body.local.started = true;
        let Some(processor) = body.processor.as_mut() else {
            return;
        };
        self.open(&mut body.local);
        let mut cx = Cx::new(self, &mut body.local, Promise::none());
        let outcome = catch_unwind(AssertUnwindSafe(|| processor.started(&mut cx)));
        let exit = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(fault)) => {
                count(&self.counters.faults, 1);
                hook::fault(&self.name, "started", &fault);
                Some(Exit::Faulted(fault))
            }
            Err(payload) => {
                let message = panic_message(&*payload);
                count(&self.counters.panics, 1);
                hook::panic(&self.name, "started", &message);
                Some(Exit::Panicked(message))
            }
        };
        if exit.is_none() {
            self.settle(body);
        }
        self.close_visit(body);
        if let Some(exit) = exit {
            self.end(body, exit);
        }
    }

    fn serve(self: &Arc<Self>, body: &mut Body<P>, budget: u32) -> (Next, u32) {
        if !body.local.started {
            self.start(body);
        }
        let mut served = 0;
        let next = loop {
            if body.local.ended {
                break Next::Idle;
            }
            self.open(&mut body.local);
            // One catch for many messages: what is queued lives outside of it, and a message that panics is consumed.
            let result = catch_unwind(AssertUnwindSafe(|| {
                self.serve_batch(body, budget, &mut served)
            }));
            match result {
                Ok(visit) => {
                    self.close_visit(body);
                    match visit {
                        Visit::Done(next) => break next,
                        Visit::End(exit) => self.end(body, exit),
                    }
                }
                Err(payload) => {
                    served += 1;
                    self.panicked(body, &*payload);
                }
            }
        };
        (next, served)
    }

    fn panicked(self: &Arc<Self>, body: &mut Body<P>, payload: &(dyn std::any::Any + Send)) {
        let message = panic_message(payload);
        count(&self.counters.panics, 1);
        hook::panic(&self.name, body.local.last_type, &message);
        crate::context::tell_unwound(&message);
        let after = match &mut body.processor {
            Some(processor) => catch_unwind(AssertUnwindSafe(|| processor.on_panic(&message)))
                .unwrap_or(AfterPanic::End),
            None => AfterPanic::End,
        };
        if after == AfterPanic::GoOn {
            // What the message sent before it panicked is delivered like any other.
            self.settle(body);
        }
        self.close_visit(body);
        if after == AfterPanic::End {
            self.end(body, Exit::Panicked(message));
        }
    }

    /// Serves messages until the budget is used up, nothing is left, or the processor is to end.
    fn serve_batch(self: &Arc<Self>, body: &mut Body<P>, budget: u32, served: &mut u32) -> Visit {
        let mut clock = clock::cycles();
        self.counters.since.store(clock, Relaxed);
        let mut unread = 0;
        let visit = loop {
            if let Some(visit) = self.refill(body) {
                break visit;
            }
            let Body { processor, local } = &mut *body;
            let Some(processor) = processor else {
                break Visit::Done(Next::Idle);
            };
            while *served < budget {
                match self.step(processor, local) {
                    Step::Served => {}
                    Step::Nothing => break,
                }
                *served += 1;
                unread += 1;
                if unread == CLOCK_EVERY {
                    clock = self.read_clock(clock, unread, local);
                    unread = 0;
                }
                if current::with_handling(|h| {
                    h.is_some_and(|h| !h.outbox.is_empty() || !h.faults.is_empty())
                }) {
                    self.settle_parts(processor, local);
                }
                if local.stop || self.mailbox.progress.attention.load(Relaxed) {
                    break;
                }
            }
            if local.stop && !local.stalled {
                break Visit::End(Exit::Stopped);
            }
            if *served >= budget {
                break Visit::Done(Next::Again);
            }
        };
        if unread > 0 {
            self.read_clock(clock, unread, &body.local);
        }
        self.counters.since.store(0, Relaxed);
        visit
    }

    /// Looks under the lock at what has come. `None`: there is something to serve.
    fn refill(self: &Arc<Self>, body: &mut Body<P>) -> Option<Visit> {
        let progress = &self.mailbox.progress;
        let mut lanes = self.mailbox.lanes.lock();
        // Cleared before the lanes are read: whoever sets it later is seen later.
        progress.attention.store(false, Relaxed);
        let local = &mut body.local;
        let signals = std::mem::take(&mut lanes.signals);
        if !lanes.control.is_empty() {
            local.control.append(&mut lanes.control);
        }
        if !lanes.ready.is_empty() {
            local.ready.append(&mut lanes.ready);
        }
        if signals.has(Signals::PASS) {
            local.pass = true;
        }
        local.high = lanes.high_len() > 0;
        let open = !local.stalled || local.pass;
        lanes.stalled = !open;
        let mut wake = Vec::new();
        let mut drain_lanes = false;
        if open && local.first.is_none() && local.batch.is_empty() {
            (local.first, wake) = if self.driver.is_in_arrival_order() {
                lanes.normal.pop(&progress.normal)
            } else {
                lanes.normal.take_batch(&mut local.batch, &progress.normal)
            };
        }
        if local.draining && lanes.normal.is_empty() && lanes.high_len() == 0 && local.is_drained()
        {
            local.stop = true;
        }
        let nothing = signals.is_empty()
            && local.control.is_empty()
            && (!local.stop || local.stalled)
            && (!open
                || (local.first.is_none()
                    && local.batch.is_empty()
                    && local.ready.is_empty()
                    && lanes.high_len() == 0));
        if nothing {
            lanes.scheduled = false;
            if local.batch.is_empty() && local.batch.capacity() > 0 {
                local.batch = VecDeque::new();
            }
            lanes.normal.shrink();
            drop(lanes);
            wake.into_iter().for_each(Waker::wake);
            return Some(Visit::Done(Next::Idle));
        }
        if signals.has(Signals::DRAIN) && !local.draining {
            local.draining = true;
            drain_lanes = true;
            wake.append(&mut lanes.normal.close(&progress.normal));
            if let Some(high) = lanes.rare().high.as_mut() {
                wake.append(&mut high.close(&progress.high));
            }
            if lanes.normal.is_empty() && lanes.high_len() == 0 && local.is_drained() {
                local.stop = true;
            }
        }
        drop(lanes);
        wake.into_iter().for_each(Waker::wake);
        if drain_lanes {
            for lane in local.lanes.iter_mut().filter_map(|slot| slot.lane.as_mut()) {
                lane.drain();
            }
        }
        if signals.has(Signals::KILL) {
            return Some(Visit::End(Exit::Killed));
        }
        if signals.has(Signals::QUIET) {
            local.timers.clear(&self.driver);
        }
        if signals.has(Signals::STOP) {
            local.stop = true;
        }
        if signals.has(Signals::ROOM) || local.stalled {
            self.settle(body);
        }
        if body.local.stop && !body.local.stalled {
            return Some(Visit::End(Exit::Stopped));
        }
        None
    }

    /// Serves one thing: control, a message or an item of a subscription, in turn.
    #[inline]
    fn step(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> Step {
        // The common case first: nothing but normal messages.
        if local.control.is_empty()
            && local.ready.is_empty()
            && !local.stalled
            && !local.high
            && let Some(envelope) = self.next_normal(local)
        {
            self.deliver(envelope, processor, local);
            return Step::Served;
        }
        for _ in 0..3 {
            let turn = local.turn;
            local.turn = (local.turn + 1) % 3;
            let served = match turn {
                0 => self.step_control(processor, local),
                1 => self.step_message(processor, local),
                _ => self.step_lane(processor, local),
            };
            if served {
                return Step::Served;
            }
        }
        Step::Nothing
    }

    fn step_control(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> bool {
        while let Some(control) = local.control.pop_front() {
            match control {
                Control::Tick { slot, generation } => {
                    let fired = Timers::fire(self, processor, local, slot, generation);
                    if fired {
                        return true;
                    }
                }
                Control::Resume(key) => {
                    local.last_type = "continuation";
                    if crate::context::resume(self, processor, local, key) {
                        return true;
                    }
                }
                Control::Deliver(envelope) => {
                    local.last_type = envelope.message_type();
                    envelope.deliver(processor, &mut Cx::new(self, local, Promise::none()));
                    return true;
                }
                Control::Do(f) => {
                    f(processor, &mut Cx::new(self, local, Promise::none()));
                    return true;
                }
            }
        }
        false
    }

    fn step_message(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> bool {
        if local.stalled && !std::mem::take(&mut local.pass) {
            return false;
        }
        let had_pass = local.stalled;
        let envelope = if local.high_run >= HIGH_RUN {
            local.high_run = 0;
            self.next_normal(local).or_else(|| self.next_high(local))
        } else {
            self.next_high(local).or_else(|| self.next_normal(local))
        };
        match envelope {
            Some(envelope) => {
                self.deliver(envelope, processor, local);
                true
            }
            None => {
                // The pass is for one message; it is kept until there is one.
                local.pass = had_pass;
                false
            }
        }
    }

    fn step_lane(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) -> bool {
        if local.stalled && !local.pass {
            return false;
        }
        // Each ready lane is asked at most once; one that served goes to the back.
        for _ in 0..local.ready.len() {
            let Some(id) = local.ready.pop_front() else {
                return false;
            };
            let Some(mut lane) = local.take_lane(id) else {
                continue;
            };
            local.last_type = lane.item_type();
            // A callback that panics must not take its subscription along.
            let served = catch_unwind(AssertUnwindSafe(|| {
                lane.serve(processor, &mut Cx::new(self, local, Promise::none()))
            }));
            local.put_lane(id, lane);
            if !matches!(served, Ok(false)) {
                local.messages += 1;
                local.pass = false;
                local.ready.push_back(id);
            }
            match served {
                Ok(false) => {}
                Ok(true) => return true,
                Err(payload) => resume_unwind(payload),
            }
        }
        false
    }

    #[inline]
    fn next_normal(&self, local: &mut Local<P>) -> Option<Envelope<P>> {
        if let Some(first) = local.first.take() {
            return Some(first);
        }
        let envelope = local.batch.pop_front()?;
        let progress = &self.mailbox.progress.normal;
        let rest = local.batch.len();
        if self.is_unbounded() {
            progress.step_unwatched(rest);
        } else if progress.step(rest) {
            let wake = self.mailbox.lanes.lock().normal.hand_out(progress);
            wake.into_iter().for_each(Waker::wake);
        }
        Some(envelope)
    }

    fn next_high(&self, local: &mut Local<P>) -> Option<Envelope<P>> {
        if !local.high {
            local.high_run = 0;
            return None;
        }
        let (envelope, wake) = {
            let mut lanes = self.mailbox.lanes.lock();
            let high = lanes.rare.as_mut()?.high.as_mut()?;
            high.pop(&self.mailbox.progress.high)
        };
        wake.into_iter().for_each(Waker::wake);
        local.high = envelope.is_some();
        local.high_run = if local.high { local.high_run + 1 } else { 0 };
        envelope
    }

    fn is_unbounded(&self) -> bool {
        self.mailbox.capacity == UNBOUNDED
    }

    #[inline]
    fn deliver(self: &Arc<Self>, envelope: Envelope<P>, processor: &mut P, local: &mut Local<P>) {
        local.last_type = envelope.message_type();
        local.messages += 1;
        // Counted before the handler runs, so that a message that panics is counted too.
        count(&self.counters.handled, 1);
        envelope.deliver(processor, &mut Cx::new(self, local, Promise::none()));
    }

    /// A call that was given up while it was queued: it counts as dropped, not as handled.
    pub(crate) fn uncount_cancelled(&self) {
        self.counters
            .handled
            .store(self.counters.handled.load(Relaxed) - 1, Relaxed);
        self.mailbox.lanes.lock().drops(DropCause::Cancelled, 1);
    }

    pub(crate) fn count_fault(&self) {
        count(&self.counters.faults, 1);
    }

    /// Books the time since `before`, which `messages` messages took, and returns the time now.
    fn read_clock(&self, before: u64, messages: u32, local: &Local<P>) -> u64 {
        let now = clock::cycles();
        let took = now.saturating_sub(before);
        count(&self.counters.busy, took);
        // Of several short ones only the sum is known: their mean says what one took.
        let each = took / u64::from(messages.max(1));
        if each > self.counters.longest.load(Relaxed) {
            self.counters.longest.store(each, Relaxed);
        }
        if took > clock::long_handler() && !self.driver.world().is_simulated() {
            hook::long_handler(&self.name, local.last_type, clock::nanos(took));
        }
        self.counters.since.store(now, Relaxed);
        now
    }

    /// Delivers what is in the outbox, and stalls if something is left.
    fn settle(self: &Arc<Self>, body: &mut Body<P>) {
        if let Some(processor) = &mut body.processor {
            self.settle_parts(processor, &mut body.local);
        }
    }

    fn settle_parts(self: &Arc<Self>, processor: &mut P, local: &mut Local<P>) {
        // The outbox is taken out of the thread's hands while user code (drops, `on_error`) may run.
        let taken = current::with_handling(|h| {
            h.map(|h| (std::mem::take(&mut h.outbox), std::mem::take(&mut h.faults)))
        });
        let given_up = current::with_handling(|h| h.map_or(0, |h| std::mem::take(&mut h.given_up)));
        count(&self.counters.outbox_drops, given_up);
        let Some((mut outbox, mut faults)) = taken else {
            return;
        };
        if outbox.is_empty() && !local.stalled {
            for fault in faults {
                self.report_fault(fault, processor, local);
            }
            return;
        }
        let waker = local
            .waker
            .get_or_insert_with(|| Waker::from(Arc::new(RoomWaker(self.clone()))))
            .clone();
        let (blocked_on, deadline, left) = loop {
            let flushed = outbox.flush(&waker, Some(self.driver.world().now()));
            count(&self.counters.outbox_drops, flushed.given_up.len() as u64);
            let left = outbox.len();
            let more = current::with_handling(|h| h.is_some_and(|h| h.put_back(outbox)));
            let given_up = flushed.given_up.into_iter();
            faults.extend(given_up.filter_map(|(_, fault)| fault));
            if !more {
                break (flushed.blocked_on, flushed.deadline, left);
            }
            outbox = current::with_handling(|h| {
                h.map(|h| std::mem::take(&mut h.outbox)).unwrap_or_default()
            });
        };
        if let Some(deadline) = local.outbox_deadline.take() {
            self.driver.cancel_deadline(deadline);
        }
        if left == 0 {
            if std::mem::take(&mut local.stalled) {
                local.pass = false;
                waits_for::cleared(self.id);
                // Messages may have come while none were wanted: the next look under the lock finds them.
                self.mailbox.progress.attention.store(true, Relaxed);
            }
        } else {
            local.stalled = true;
            if let Some(at) = deadline {
                local.outbox_deadline = Some(
                    self.driver
                        .add_deadline(at, crate::driver::Due::Room(self.clone())),
                );
            }
            let may_run = waits_for::stalled(self.id, blocked_on, left, Some(self.clone()));
            if let Some(member) = may_run {
                if member.id() == self.id {
                    local.pass = true;
                    self.mailbox.progress.attention.store(true, Relaxed);
                } else {
                    member.signal(Signals::PASS);
                }
            }
        }
        for fault in faults {
            self.report_fault(fault, processor, local);
        }
    }

    pub(crate) fn report_fault(
        self: &Arc<Self>,
        fault: Fault,
        processor: &mut P,
        local: &mut Local<P>,
    ) {
        self.count_fault();
        hook::fault(&self.name, local.last_type, &fault);
        processor.on_error(fault, &mut Cx::new(self, local, Promise::none()));
    }

    fn dead_letter(&self, envelope: Envelope<P>, cause: DropCause, exit: Option<&Exit>) {
        let message_type = envelope.message_type();
        hook::dropped(&self.name, message_type, cause);
        // The message's drop, and telling its caller, are the user's code.
        let message =
            catch_unwind(AssertUnwindSafe(|| envelope.discard(cause, exit))).unwrap_or(None);
        self.driver.runtime().dead_letters.record(
            (Some(self.id), self.name.clone()),
            message_type,
            cause,
            self.driver.world().now(),
            message,
        );
    }

    /// What is known of it, its counts from one moment.
    fn snapshot_of(&self, lanes: &Lanes<P>) -> ProcessorSnapshot {
        let c = &self.counters;
        let rest = self.mailbox.progress.normal.rest();
        let handled = c.handled.load(Relaxed);
        let drops = lanes
            .rare
            .as_ref()
            .map(|r| r.drops.clone())
            .unwrap_or_default();
        // What came in and is neither handled nor dropped is queued, in the mailbox or in the driver's batch.
        let queued = lanes
            .received
            .saturating_sub(handled)
            .saturating_sub(drops.total());
        ProcessorSnapshot {
            id: self.id,
            name: self.name.as_str().to_owned(),
            driver: self.driver.name().as_str().to_owned(),
            ended: lanes.ended().map(ToString::to_string),
            stalled: lanes.stalled,
            received: lanes.received,
            handled,
            queued,
            dropped: drops,
            returned: lanes.rare.as_ref().map_or(0, |r| r.returned),
            outbox: c.outbox.load(Relaxed),
            outbox_dropped: c.outbox_drops.load(Relaxed),
            faults: c.faults.load(Relaxed),
            panics: c.panics.load(Relaxed),
            capacity: lanes.normal.capacity() as u64,
            high_water: lanes.normal.high_water().max(rest) as u64,
            busy_ns: clock::nanos(c.busy.load(Relaxed)),
            longest_handler_ns: clock::nanos(c.longest.load(Relaxed)),
            handling_ns: self.handling().map(|(_, ns)| ns),
        }
    }

    /// The end of the processor, on its driver's thread.
    fn end(self: &Arc<Self>, body: &mut Body<P>, exit: Exit) {
        if std::mem::replace(&mut body.local.ended, true) {
            return;
        }
        if !matches!(exit, Exit::Panicked(_))
            && let Some(processor) = &mut body.processor
        {
            self.open(&mut body.local);
            let mut cx = Cx::new(self, &mut body.local, Promise::none());
            if let Err(payload) =
                catch_unwind(AssertUnwindSafe(|| processor.stopped(&exit, &mut cx)))
            {
                let message = panic_message(&*payload);
                hook::panic(&self.name, "stopped", &message);
                crate::context::tell_unwound(&message);
            }
            self.close_visit(body);
        }
        let local = &mut body.local;
        let cause = if matches!(exit, Exit::Stopped) {
            DropCause::Stopped
        } else {
            DropCause::Killed
        };
        let mut left: Vec<Envelope<P>> = local.first.take().into_iter().collect();
        left.extend(local.batch.drain(..));
        let (wake, watchers, control) = {
            let mut lanes = self.mailbox.lanes.lock();
            let mut wake = lanes.normal.close(&self.mailbox.progress.normal);
            lanes.normal.abandon_batch(&self.mailbox.progress.normal);
            left.extend(lanes.normal.drain());
            let high = lanes.rare().high.as_mut().map(|high| {
                let wake = high.close(&self.mailbox.progress.high);
                (wake, high.drain())
            });
            if let Some((more, queued)) = high {
                wake.extend(more);
                left.extend(queued);
            }
            let rare = lanes.rare();
            rare.ended = Some(exit.clone());
            rare.drops.add(cause, left.len() as u64);
            let watchers = std::mem::take(&mut rare.watchers);
            (wake, watchers, std::mem::take(&mut lanes.control))
        };
        wake.into_iter().for_each(Waker::wake);
        for envelope in left {
            self.dead_letter(envelope, cause, Some(&exit));
        }
        // From here on, dropping things runs user code that might panic; the end goes on all the same.
        let quietly = |what: &mut dyn FnMut()| {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(&mut *what)) {
                hook::panic(&self.name, "drop", &panic_message(&*payload));
            }
        };
        let mut held = Some((control, std::mem::take(&mut local.control)));
        quietly(&mut || drop(held.take()));
        local.timers.clear(&self.driver);
        if let Some(deadline) = local.outbox_deadline.take() {
            self.driver.cancel_deadline(deadline);
        }
        let abandoned = local.outbox.abandon(DropCause::SenderEnded);
        count(&self.counters.outbox_drops, abandoned as u64);
        self.counters.outbox.store(0, Relaxed);
        if std::mem::take(&mut local.stalled) {
            waits_for::cleared(self.id);
        }
        for slot in &mut local.lanes {
            if let Some(mut lane) = slot.lane.take() {
                quietly(&mut || lane.end());
            }
        }
        let mut held = Some((
            std::mem::take(&mut local.continuations),
            std::mem::take(&mut local.extensions),
            std::mem::replace(&mut local.timers, Timers::new()),
            local.waker.take(),
        ));
        quietly(&mut || drop(held.take()));
        let mut processor = body.processor.take();
        quietly(&mut || drop(processor.take()));
        hook::ended(&self.name, &exit);
        self.driver
            .runtime()
            .processor_ended(self.id, &self.name, || {
                let mut lanes = self.mailbox.lanes.lock();
                lanes.rare().filed = true;
                self.snapshot_of(&lanes)
            });
        let down = Down {
            id: self.id,
            name: self.name.clone(),
            exit,
        };
        for watcher in watchers {
            (watcher.tell)(down.clone());
        }
        self.driver.disown(self.id);
    }
}

enum Visit {
    Done(Next),
    End(Exit),
}

enum Step {
    Served,
    Nothing,
}

impl<P: Processor> AnyCell for Cell<P> {
    fn id(&self) -> ProcessorId {
        self.id
    }

    fn name(&self) -> &Name {
        &self.name
    }

    fn driver(&self) -> &Arc<DriverCore> {
        &self.driver
    }

    fn run(self: Arc<Self>, budget: u32) -> (Next, u32) {
        self.body.with_mut(|body| {
            // SAFETY: row "running": only `DriverCore::turn` calls this, with a cell it took off its ready queue, on
            // the one thread that runs the driver.
            let body = unsafe { &mut *body };
            self.serve(body, budget)
        })
    }

    fn signal(self: Arc<Self>, signal: Signals) {
        let mut lanes = self.mailbox.lanes.lock();
        if lanes.ended().is_some() {
            return;
        }
        lanes.signals.set(signal);
        let schedule = lanes.schedule_for_control();
        drop(lanes);
        self.mailbox.progress.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
    }

    fn tick(self: Arc<Self>, slot: u32, generation: u32) {
        // A processor that has ended has no timers left.
        let _ended = self.control(Control::Tick { slot, generation });
    }

    fn resume(self: Arc<Self>, key: u64) {
        let _ended = self.control(Control::Resume(key));
    }

    fn lane_ready(self: Arc<Self>, lane: LaneId) {
        let mut lanes = self.mailbox.lanes.lock();
        if lanes.ended().is_some() {
            return;
        }
        lanes.ready.push_back(lane);
        let schedule = lanes.schedule_for_message();
        drop(lanes);
        self.mailbox.progress.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
    }

    fn head(&self) -> Option<u64> {
        let (mut head, ready) = {
            let lanes = self.mailbox.lanes.lock();
            if !lanes.control.is_empty() || !lanes.signals.is_empty() {
                return Some(0);
            }
            if lanes.high_len() > 0 {
                return Some(0);
            }
            (
                lanes.normal.front().map(|e| e.arrival),
                lanes.ready.iter().copied().collect::<Vec<_>>(),
            )
        };
        self.body.with_mut(|body| {
            // SAFETY: only `DriverCore::turn` calls this, for a cell on its ready queue, on the one thread that runs
            // the driver: nobody else can be running it.
            let local = unsafe { &(*body).local };
            if !local.started || !local.control.is_empty() {
                return Some(0);
            }
            for id in ready.iter().chain(&local.ready) {
                let lane = local.lane(*id).and_then(|lane| lane.head());
                head = [head, lane].into_iter().flatten().min();
            }
            let first = local.first.as_ref().map(|e| e.arrival);
            [head, first].into_iter().flatten().min()
        })
    }

    fn is_quiet(&self) -> bool {
        let lanes = self.mailbox.lanes.lock();
        !lanes.scheduled && !lanes.stalled
    }

    fn watch(&self, watcher: Watcher) {
        let exit = {
            let mut lanes = self.mailbox.lanes.lock();
            match lanes.ended() {
                None => {
                    lanes.rare().watchers.push(watcher);
                    return;
                }
                Some(exit) => exit.clone(),
            }
        };
        (watcher.tell)(Down {
            id: self.id,
            name: self.name.clone(),
            exit,
        });
    }

    fn unwatch(&self, number: u64) {
        let _watcher = {
            let mut lanes = self.mailbox.lanes.lock();
            let watchers = &mut lanes.rare().watchers;
            watchers
                .iter()
                .position(|w| w.number == number)
                .map(|at| watchers.swap_remove(at))
        };
    }

    fn snapshot(&self) -> ProcessorSnapshot {
        self.snapshot_of(&self.mailbox.lanes.lock())
    }
    fn end_with_driver(self: Arc<Self>, exit: Exit) {
        self.body.with_mut(|body| {
            // SAFETY: called by the driver's own thread after its last turn, so no cell of it is running.
            let body = unsafe { &mut *body };
            self.end(body, exit);
        });
    }

    fn handling(&self) -> Option<(&'static str, u64)> {
        let since = self.counters.since.load(Relaxed);
        (since != 0).then(|| {
            (
                std::any::type_name::<P>(),
                clock::nanos(clock::cycles().saturating_sub(since)),
            )
        })
    }
}

impl<P: Processor> Local<P> {
    fn new() -> Self {
        Self {
            started: false,
            ended: false,
            stop: false,
            draining: false,
            stalled: false,
            pass: false,
            high: false,
            high_run: 0,
            turn: 0,
            first: None,
            batch: VecDeque::new(),
            control: VecDeque::new(),
            ready: VecDeque::new(),
            outbox: Outbox::default(),
            outbox_deadline: None,
            waker: None,
            last_type: "",
            messages: 0,
            timers: Timers::new(),
            lanes: Vec::new(),
            continuations: BTreeMap::new(),
            next_continuation: 0,
            extensions: Extensions::default(),
        }
    }

    /// True if nothing that was queued is left on the driver's side, subscriptions included.
    fn is_drained(&self) -> bool {
        self.first.is_none() && self.batch.is_empty() && self.ready.is_empty() && !self.stalled
    }

    fn slot(&self, id: LaneId) -> Option<&LaneSlot<P>> {
        self.lanes
            .get(id.slot as usize)
            .filter(|slot| slot.used && slot.generation == id.generation)
    }

    fn lane(&self, id: LaneId) -> Option<&dyn LaneSource<P>> {
        self.slot(id)?.lane.as_deref()
    }

    fn take_lane(&mut self, id: LaneId) -> Option<Box<dyn LaneSource<P>>> {
        self.slot(id)?;
        self.lanes[id.slot as usize].lane.take()
    }

    /// Puts a lane back after it was served. If it was removed meanwhile, it ends now.
    fn put_lane(&mut self, id: LaneId, mut lane: Box<dyn LaneSource<P>>) {
        if self.slot(id).is_some() {
            self.lanes[id.slot as usize].lane = Some(lane);
        } else {
            lane.end();
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

/// Tells a stalled cell that there may be room for its outbox.
struct RoomWaker<P: Processor>(Arc<Cell<P>>);

impl<P: Processor> Wake for RoomWaker<P> {
    fn wake(self: Arc<Self>) {
        self.0.clone().signal(Signals::ROOM);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.clone().signal(Signals::ROOM);
    }
}

pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> Arc<str> {
    if let Some(text) = payload.downcast_ref::<&str>() {
        Arc::from(*text)
    } else if let Some(text) = payload.downcast_ref::<String>() {
        Arc::from(text.as_str())
    } else {
        Arc::from("(a panic without a message)")
    }
}

impl<P: Processor> Drop for Cell<P> {
    fn drop(&mut self) {
        let on_own_thread = self.driver.is_current_thread();
        self.body.with_mut(|body| {
            // SAFETY: nobody else has a reference to a cell that is being dropped.
            let body = unsafe { &mut *body };
            if on_own_thread {
                return;
            }
            // The driver's thread is gone without ending this cell. What is not known to be `Send` is leaked.
            if !self.movable {
                std::mem::forget(body.processor.take());
            }
            if body.local.started {
                std::mem::forget(std::mem::replace(&mut body.local, Local::new()));
            }
        });
    }
}
