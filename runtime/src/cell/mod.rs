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
//! | running and released: `scheduled` is false, or the cell stands on the ready queue again | the driver's thread, inside `run` | `run` returning |
//! | entered by its script between two turns             | the script's thread, inside `enter`   | `enter` returning                  |
//! | stalled, while its driver's thread blocks elsewhere | that thread, inside `deliver_outbox_of_neighbour` | its returning          |
//!
//! A supervised cell without an incarnation (`restart.rs`) is in one of these rows, too: `body.processor` is `None`, and
//! `lanes.normal.own.stalled` keeps messages from scheduling it. Its next incarnation is made in the row "running".
//!
//! `scheduled` is set and cleared under the mailbox's lock, and a cell is queued exactly when it goes from false to
//! true, so it stands on at most one queue. A driver other than a pool is one thread, so a cell that stands on the queue while
//! it is running is not entered twice. On a pool a running cell is never released, and `scheduled` is cleared when `body` is let go
//! of (`leave_idle`), so whichever worker takes it off the queue is alone inside. The lock also carries what one visit wrote to the next visit, should that be
//! on another thread. A driver that is manual runs cells on the thread that made it and nowhere else; `enter` runs on
//! that thread too and refuses while a turn is going on.
//!
//! The body is the processor and what belongs to it beside its state. `place.rs` says where it is kept; what a small cell has on
//! the stack during a visit, it keeps or drops before it lets go of `body`.
//!
//! State that is not `Send` is made, used and dropped on its driver's thread. If a cell outlives that thread (its driver
//! could not be ended in order), such state is leaked, not dropped elsewhere.
//!
//! A pool has several threads, and one visit may be on another than the last. So on a pool all that `body` holds between two
//! visits is `Send`, by the doors that it came through:
//!
//! | in `body`                          | on a pool it came through                                                              |
//! |------------------------------------|----------------------------------------------------------------------------------------|
//! | the processor                      | `spawn_cell` with `movable`: it refuses anything else on a pool                        |
//! | timers, lanes, continuations, tasks | methods of `Cx` and `Pending` that demand `Send`; the `_local` ones refuse on a pool  |
//! | everything else of `Local`         | types that are `Send` by themselves (a test in `local.rs` says so to the compiler)     |

mod awaiting;
mod end;
mod load;
mod local;
#[cfg(all(test, loom))]
mod loom_tests;
mod pace;
mod place;
mod push;
mod put_back;
mod restart;
mod retire;
mod settle;
mod visit;

use self::place::{Body, Hot, Place};

pub(crate) use self::local::Local;
pub(crate) use self::push::Refused;
pub(crate) use self::restart::{Make, Order, Report, Supervision, spawn_supervised};

use crate::clock;
use crate::context::{Cx, Promise};
use crate::current;
use crate::driver::DriverCore;
use crate::exit::{Down, Exit};
use crate::hook;
use crate::id::ProcessorId;
use crate::mailbox::{Control, Flags, LaneId, Lanes, Mailbox, Manner, Rare, Signals};
use crate::name::Name;
use crate::processor::Processor;
use crate::queue::Items as _;
use crate::snapshot::ProcessorSnapshot;
use crate::sync::{Acquire, AtomicBool, AtomicU32, AtomicU64, Mutex, PlainCount, Relaxed};
use crate::waits_for::Keeper;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::task::Waker;
// The model checker need not see it: it is part of no protocol.
use std::sync::atomic::AtomicPtr;

/// A cell whose processor's type is forgotten: what stands on ready queues.
pub(crate) type CellRef = Arc<dyn AnyCell>;

/// A watch on a processor: told once, when it ends.
pub(crate) struct Watcher {
    pub(crate) number: u64,
    pub(crate) tell: Box<dyn FnOnce(Down) + Send>,
}

/// What a driver does with a cell it has run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Nothing is left, or it is stalled: whoever pushes next schedules it.
    Idle,
    /// It has used up its budget: to the back of the queue.
    Again,
    /// Its processor has ended.
    Ended,
}

/// The number of a cell's seat among the ready cells of its driver, once it has one. Written by the driver's thread only, and
/// read by others in vain, hence relaxed.
#[derive(Debug, Default)]
pub(crate) struct Seat(AtomicU32);

impl Seat {
    #[inline]
    pub(crate) fn get(&self) -> Option<u32> {
        // One more than the number, so that 0 is none.
        self.0.load(Relaxed).checked_sub(1)
    }

    pub(crate) fn set(&self, number: Option<u32>) {
        self.0.store(number.map_or(0, |n| n + 1), Relaxed);
    }
}

pub(crate) trait AnyCell: Send + Sync {
    fn id(&self) -> ProcessorId;
    fn name(&self) -> &Name;
    fn driver(&self) -> &Arc<DriverCore>;
    /// A `Cell<P>`, for whoever knows the type.
    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// What `P` is.
    fn type_name(&self) -> &'static str;
    /// Its number among the cells of the node.
    fn number(&self) -> &Seat;
    /// Serves up to `budget` messages and returns how many were served, and what becomes of the cell, which comes back.
    fn run(self: Arc<Self>, budget: u32) -> (CellRef, After, u32);
    /// Where its driver keeps it.
    fn seat(&self) -> &Seat;
    fn signal(self: Arc<Self>, signal: Signals);
    fn tick(self: Arc<Self>, slot: u32, generation: u32);
    fn resume(self: Arc<Self>, key: u64);
    fn lane_ready(self: Arc<Self>, lane: LaneId);
    /// Lanes that have nothing left leave the list of those that are asked. On its driver's thread, between two visits.
    fn rest_lanes(&self);
    /// The arrival number of what would be served next, for drivers that serve in order of arrival.
    fn head(&self) -> Option<u64>;
    /// True if nothing is queued, running or waiting for room.
    fn is_quiet(&self) -> bool;
    /// A number that grows with each message that comes and with the time spent in handlers.
    fn received_and_busy(&self) -> u64;
    /// True if a message or an item of a subscription waits to be handled, and for nothing else.
    fn has_queued(&self) -> bool;
    /// Tells `watcher` when it ends, or at once if it has.
    fn watch(&self, watcher: Watcher);
    fn unwatch(&self, number: u64);
    fn snapshot(&self) -> ProcessorSnapshot;
    /// As `snapshot`; `None` if its counts are in the node's sums.
    fn snapshot_unless_filed(&self) -> Option<ProcessorSnapshot>;
    /// Has a supervised one report to `supervisor`, by `tell`, from now on.
    fn adopt(&self, supervisor: Name, tell: Arc<dyn Fn(Report) + Send + Sync>);
    /// What its supervisor wants of it.
    fn order(self: Arc<Self>, order: Order);
    /// Ends it from the driver's thread when the driver itself ends.
    fn end_with_driver(self: Arc<Self>, exit: Exit);
    /// Delivers what its outbox holds and has room, while the driver's thread blocks in the handler of another member. Only
    /// that thread may call this. Returns whose room it still waits for.
    fn deliver_outbox_of_neighbour(&self, waker: &Waker) -> Vec<Keeper>;
}

/// See the module's documentation.
pub(crate) struct Cell<P: Processor> {
    pub(crate) id: ProcessorId,
    pub(crate) name: Name,
    pub(crate) driver: Arc<DriverCore>,
    pub(crate) seat: Seat,
    /// Where the node keeps it; written once, under the lock of what keeps it.
    number: Seat,
    place: Place<P>,
}

// A million of them are a program's memory: see `runtime/tests/idle_memory.rs`. With the counts of references, and what
// the allocator adds, 192 bytes.
#[cfg(all(target_pointer_width = "64", not(any(loom, shuttle))))]
const _: () = {
    struct Eight(#[expect(dead_code, reason = "only its size matters")] u64);
    impl Processor for Eight {}
    assert!(size_of::<Cell<Eight>>() == 168);
};

/// Written by the driver that runs the cell, read by anybody: plain counts that order nothing, hence relaxed. What is counted
/// seldom is in the mailbox's `Rare`.
#[derive(Debug, Default)]
struct Counters {
    handled: PlainCount,
    busy: PlainCount,
    longest: PlainCount,
    /// The type of the message that is or was handled last.
    last_type: LastType,
    /// When the visit or message that is going on began, in cycles; 0 while nothing is going on.
    since: AtomicU64,
}

/// A function that names a type; null before the first message. Written for every message, hence one plain store, and
/// read by whoever wants to know what a processor is at.
#[derive(Debug, Default)]
struct LastType(AtomicPtr<()>);

impl LastType {
    #[inline]
    fn set(&self, name: fn() -> &'static str) {
        self.0.store(name as *mut (), Relaxed);
    }

    fn get(&self) -> Option<fn() -> &'static str> {
        let name = self.0.load(Relaxed);
        // SAFETY: what is not null was stored by `set`, and is a function of this type.
        let name_of = || unsafe { std::mem::transmute::<*mut (), fn() -> &'static str>(name) };
        (!name.is_null()).then(name_of)
    }
}

fn count(counter: &PlainCount, more: u64) {
    // One writer: no read-modify-write is needed.
    counter.store(counter.load(Relaxed) + more, Relaxed);
}

// SAFETY: everything but `body` is `Send + Sync` (the mailbox is a mutex around envelopes, which are `Send`). `body` is
// touched as the table in the module's documentation allows: by one thread at a time, with the mailbox's lock between
// two visits. State that is not `Send` is never touched off its driver's thread, see `Drop`. On a pool, where that thread may
// be another one for each visit, there is no such state, by the second table.
unsafe impl<P: Processor> Send for Cell<P> {}
// SAFETY: as above.
unsafe impl<P: Processor> Sync for Cell<P> {}

impl<P: Processor> Cell<P> {
    pub(crate) fn new(
        name: Name,
        driver: Arc<DriverCore>,
        // `None` for one that is supervised: its driver makes it.
        processor: impl Into<Option<P>>,
        movable: bool,
        capacity: usize,
        when_full: crate::queue::WhenFull,
        apart: bool,
    ) -> Arc<Self> {
        let mailbox = Mailbox::new(capacity, when_full);
        let manner = Manner::of(&mailbox.lanes.lock().normal);
        Arc::new(Self {
            id: ProcessorId::next(),
            name,
            driver,
            seat: Seat::default(),
            number: Seat::default(),
            place: Place::new(processor, movable, mailbox, manner, apart),
        })
    }

    #[inline]
    pub(crate) fn lanes(&self) -> &Mutex<Lanes<P>> {
        self.place.lanes()
    }

    /// What is read between messages without the lock.
    #[inline]
    pub(crate) fn flags(&self) -> &Flags {
        self.place.flags()
    }

    #[inline]
    fn counters(&self) -> &Counters {
        self.place.counters()
    }

    #[inline]
    pub(crate) fn manner(&self) -> Manner {
        self.flags().own.manner
    }

    /// Counts what seldom happens.
    pub(crate) fn rarely(&self, f: impl FnOnce(&mut Rare<P>)) {
        f(self.lanes().lock().rare());
    }

    /// The only way into `body`.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that the table in the module's documentation names.
    ///
    /// # Panics
    ///
    /// If this very thread is inside already: whoever is called from there (handlers, drops) may call anything.
    #[inline]
    unsafe fn with_body<R>(&self, f: impl FnOnce(&mut Body<'_, P>) -> R) -> R {
        struct Leave<'a>(&'a AtomicBool);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                self.0.store(false, Relaxed);
            }
        }
        let occupied = &self.flags().own.occupied;
        assert!(
            !occupied.load(Relaxed),
            "a processor was entered while one of its handlers runs"
        );
        occupied.store(true, Relaxed);
        let _leave = Leave(occupied);
        // SAFETY: no other thread comes here, by the caller's promise, and this one is here once, as just checked.
        unsafe { self.place.with_body(f) }
    }

    /// Runs `f` with the processor outside of a visit, on the thread of its manual driver. `None` if it has ended.
    ///
    /// # Safety
    ///
    /// The calling thread is the one that runs the cell's driver.
    ///
    /// # Panics
    ///
    /// If `f` does.
    pub(crate) unsafe fn enter<R>(
        self: &Arc<Self>,
        f: impl FnOnce(&mut P, &mut Cx<'_, P>) -> R,
    ) -> Option<R> {
        let enter = |body: &mut Body<'_, P>| {
            if body.is_new() {
                self.start(body);
            }
            let was_stalled = body.local.stalled;
            self.open(body.local);
            let result = catch_unwind(AssertUnwindSafe(|| {
                let processor = body.processor.as_mut()?;
                let result = f(processor, &mut Cx::new(self, body.local, Promise::none()));
                self.settle(body);
                Some(result)
            }));
            self.close_visit(body);
            self.leave_to_next_visit(body, was_stalled);
            result.unwrap_or_else(|payload| resume_unwind(payload))
        };
        // SAFETY: the last row of the table, by the caller's promise.
        unsafe { self.with_body(enter) }
    }

    /// What came of `f` outside of a visit is dealt with in the next one.
    fn leave_to_next_visit(self: &Arc<Self>, body: &Body<'_, P>, was_stalled: bool) {
        let ends = body.local.stop;
        let freed = was_stalled && !body.local.stalled;
        let polls = !body.local.woken.is_empty();
        if ends || freed || polls {
            let mut lanes = self.lanes().lock();
            if ends {
                lanes.normal.own.signals.set(Signals::STOP);
            }
            if freed {
                // Messages that came while none were wanted have not scheduled it.
                lanes.normal.own.stalled = false;
            }
            let schedule = lanes.schedule_for_control();
            drop(lanes);
            self.flags().own.attention.store(true, Relaxed);
            if schedule {
                self.schedule();
            }
        }
    }

    #[inline]
    pub(crate) fn set_last_type(&self, name: fn() -> &'static str) {
        self.counters().last_type.set(name);
    }

    pub(crate) fn last_type(&self) -> &'static str {
        self.last_type_now()()
    }

    pub(crate) fn last_type_now(&self) -> fn() -> &'static str {
        self.counters().last_type.get().unwrap_or(|| "")
    }

    /// What is known of it, its counts from one moment.
    fn snapshot_of(&self, lanes: &Lanes<P>) -> ProcessorSnapshot {
        let c = self.counters();
        let rest = self.flags().rest();
        let handled = c.handled.load(Relaxed);
        let rare = lanes.rare.as_deref();
        let drops = rare.map(|r| r.drops.clone()).unwrap_or_default();
        let supervision = rare.and_then(|r| r.supervision.as_deref());
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
            stalled: lanes.normal.own.stalled
                && !lanes.normal.own.awaits
                && !supervision.is_some_and(|s| s.is_down()),
            received: lanes.received,
            handled,
            queued,
            dropped: drops,
            returned: rare.map_or(0, |r| r.returned),
            outbox: rare.map_or(0, |r| r.outbox),
            outbox_dropped: rare.map_or(0, |r| r.outbox_drops),
            faults: rare.map_or(0, |r| r.faults),
            panics: rare.map_or(0, |r| r.panics),
            restarts: supervision.map_or(0, Supervision::restarts),
            restarting: supervision.is_some_and(|s| s.is_down()) && lanes.ended().is_none(),
            supervisor: supervision.and_then(Supervision::supervisor),
            capacity: lanes.normal.capacity() as u64,
            high_water: lanes.normal.high_water().max(rest) as u64,
            busy_ns: clock::nanos(c.busy.load(Relaxed)),
            longest_handler_ns: clock::nanos(c.longest.load(Relaxed)),
            handling_ns: self.handling_ns(),
            last_message_type: c.last_type.get().map(|name| name().to_owned()),
        }
    }
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

    fn as_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<P>()
    }

    fn number(&self) -> &Seat {
        &self.number
    }

    fn run(self: Arc<Self>, budget: u32) -> (CellRef, After, u32) {
        let visit = || {
            // SAFETY: row "running": only `DriverCore::turn` calls this, with a cell it took off its ready queue, on the one
            // thread that runs the driver.
            unsafe { self.with_body(|body| self.serve(body, budget)) }
        };
        // Whatever of the user's code panics is caught further in. Should something get through all the same, one processor
        // is lost, and not all that share its driver.
        match catch_unwind(AssertUnwindSafe(visit)) {
            Ok((After::Idle, served)) if self.driver.is_pool() => {
                let after = self.leave_idle();
                (self, after, served)
            }
            Ok((after, served)) => (self, after, served),
            Err(payload) => {
                current::abandon();
                hook::panic(&self.name, "visit", &panic_message(&*payload));
                (self, After::Idle, 1)
            }
        }
    }

    fn seat(&self) -> &Seat {
        &self.seat
    }

    fn signal(self: Arc<Self>, signal: Signals) {
        let mut lanes = self.lanes().lock();
        if lanes.ended().is_some() {
            return;
        }
        lanes.normal.own.signals.set(signal);
        if signal.ends()
            && let Some(supervision) = lanes.supervision()
        {
            supervision.ends_for_good();
        }
        let schedule = lanes.schedule_for_control();
        drop(lanes);
        self.flags().own.attention.store(true, Relaxed);
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
        let mut lanes = self.lanes().lock();
        if lanes.ended().is_some() {
            return;
        }
        lanes.rare().ready.push_back(lane);
        let schedule = lanes.schedule_for_message();
        drop(lanes);
        self.flags().own.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
    }

    fn rest_lanes(&self) {
        // SAFETY: row "scheduled", as in `head`: only `DriverCore::rest` calls this, for a cell that it took off its ready queue,
        // on the one thread that runs the driver.
        unsafe { self.with_body(|body| body.local.rest_lanes()) };
    }

    fn head(&self) -> Option<u64> {
        let (message, ready, woken, is_urgent, is_high) = {
            let lanes = self.lanes().lock();
            if !lanes.normal.own.signals.is_empty() {
                return Some(0);
            }
            let rare = lanes.rare.as_deref();
            let ready: Vec<_> = rare.map_or(Vec::new(), |r| r.ready.iter().copied().collect());
            (
                lanes.normal.items().front_arrival(),
                ready,
                rare.and_then(|r| r.woken.front().copied()),
                rare.is_some_and(|r| !r.control.is_empty()),
                lanes.high_len() > 0,
            )
        };
        let first = |body: &mut Body<'_, P>| {
            let is_up = body.is_up();
            let local = &*body.local;
            if !is_up {
                return Some(0);
            }
            let woken = [woken, local.woken.front().copied()].into_iter().flatten();
            let woken = woken.map(|woken| woken.arrival).min();
            if local.held {
                // Whatever else is there waits for the future of a handler: see `awaiting.rs`.
                return woken;
            }
            if is_urgent || !local.control.is_empty() {
                return Some(0);
            }
            if local.stalled && !local.pass {
                return woken;
            }
            if is_high {
                return Some(0);
            }
            let lanes = ready.iter().chain(&local.ready);
            let lane = lanes.filter_map(|id| local.lane(*id)?.head()).min();
            [woken, message, lane, local.batch.front_arrival()]
                .into_iter()
                .flatten()
                .min()
        };
        // SAFETY: row "scheduled", about to become "running": only `DriverCore::turn` calls this, for a cell on its ready
        // queue, on the one thread that runs the driver.
        unsafe { self.with_body(first) }
    }

    fn is_quiet(&self) -> bool {
        let mut lanes = self.lanes().lock();
        if lanes.supervision().is_some_and(|s| s.is_down()) {
            // It takes messages and handles none: quiet if there are none.
            return !lanes.normal.own.scheduled && self.snapshot_of(&lanes).queued == 0;
        }
        // A cell may be running although it is not scheduled (`Local::released`). A visit says that it has begun before it
        // takes the lock to release the cell, so whoever sees that it is released sees this, too. Acquire pairs with the
        // Release at the end of a visit: whoever finds the cell quiet sees what its handlers did.
        !lanes.normal.own.scheduled
            && (!lanes.normal.own.stalled || lanes.normal.own.awaits)
            && self.counters().since.load(Acquire) == 0
    }

    fn received_and_busy(&self) -> u64 {
        self.lanes().lock().received + self.counters().busy.load(Relaxed)
    }

    fn has_queued(&self) -> bool {
        let lanes = self.lanes().lock();
        // What waits for a handler's future can do nothing with leave to run.
        let may_be_handled = !lanes.normal.own.held;
        may_be_handled && (lanes.has_ready() || self.snapshot_of(&lanes).queued > 0)
    }

    fn watch(&self, watcher: Watcher) {
        let exit = {
            let mut lanes = self.lanes().lock();
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
            let mut lanes = self.lanes().lock();
            let watchers = &mut lanes.rare().watchers;
            watchers
                .iter()
                .position(|w| w.number == number)
                .map(|at| watchers.swap_remove(at))
        };
    }

    fn snapshot(&self) -> ProcessorSnapshot {
        self.snapshot_of(&self.lanes().lock())
    }

    fn snapshot_unless_filed(&self) -> Option<ProcessorSnapshot> {
        let lanes = self.lanes().lock();
        let filed = lanes.rare.as_ref().is_some_and(|rare| rare.filed);
        (!filed).then(|| self.snapshot_of(&lanes))
    }

    fn adopt(&self, supervisor: Name, tell: Arc<dyn Fn(Report) + Send + Sync>) {
        self.report_to(supervisor, tell);
    }

    fn order(self: Arc<Self>, order: Order) {
        self.take_order(order);
    }

    fn end_with_driver(self: Arc<Self>, exit: Exit) {
        self.quietly("end", || {
            // SAFETY: only `DriverCore::finish` calls this, on the one thread that runs the driver.
            unsafe { self.with_body(|body| self.end_for_good(body, exit)) };
        });
    }

    fn deliver_outbox_of_neighbour(&self, waker: &Waker) -> Vec<Keeper> {
        let mut blocked_on = Vec::new();
        // Both are read by this thread only. It may be on its way out of this very cell.
        if !self.driver.is_current_thread() || self.flags().own.occupied.load(Relaxed) {
            return blocked_on;
        }
        // A publisher's attempt may ask filters, which are the user's code.
        self.quietly("outbox", || {
            // SAFETY: the last row of the table: this is the thread that runs the driver, and it is not inside this cell.
            unsafe { self.with_body(|body| body.local.deliver_outbox(waker, &mut blocked_on)) };
        });
        blocked_on
    }
}

impl<P: Processor> Cell<P> {
    /// True if messages wait to be handled: in the mailbox, or taken out of it already.
    pub(crate) fn has_messages(&self, local: &Local<P>) -> bool {
        let lanes = self.lanes().lock();
        !local.batch.is_empty() || !lanes.normal.is_empty() || lanes.high_len() > 0
    }

    /// For how many nanoseconds it has been handling, if it is.
    fn handling_ns(&self) -> Option<u64> {
        let since = self.counters().since.load(Relaxed);
        (since != 0).then(|| clock::nanos(clock::cycles().saturating_sub(since)))
    }

    /// Runs the user's code where a panic must not get further: it is told, and the caller goes on.
    fn quietly(&self, during: &str, what: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(what)) {
            hook::panic(&self.name, during, &panic_message(&*payload));
        }
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
        // What a pool's cell holds may be dropped by any thread, in every part: the second table of the module.
        if !self.driver.is_current_thread() && !self.driver.is_pool() {
            self.place.leak_what_is_not_send();
        }
    }
}
