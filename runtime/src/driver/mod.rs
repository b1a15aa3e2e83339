//! Drivers: threads that drain mailboxes. One loop for all kinds.
//!
//! A driver has *ready* cells, in order. It takes the first, runs it for a quantum, and puts it back if something is
//! left. Cells that become ready on the driver's own thread are queued without a lock; others come through the *inbox*.
//! How it sleeps, and why no wake-up is lost, stands in `inbox.rs`.

mod activity;
pub(crate) mod faults;
mod inbox;
mod manual;
mod marks;
mod monitor;
mod pool;
#[cfg(all(test, not(any(loom, shuttle))))]
mod pool_doors_tests;
mod readiness;
mod ready;
pub(crate) mod simulated;
mod sleep;
mod thread;
mod thread_options;

pub use manual::{Manual, SpinReport, Spun};
pub(crate) use marks::Marked;
pub(crate) use monitor::Monitor;
pub use pool::{Pool, PoolOptions};
pub(crate) use pool::{about_to_block, new_pool, works_for};
#[cfg(unix)]
pub use readiness::ReadyFd;
pub(crate) use ready::ReadyCells;
pub use thread::{Driver, OnDriver};
pub use thread_options::ThreadOptions;

pub(crate) use thread::{new_driver, on_own_thread, spawn_thread};

use self::activity::Activity;
use self::inbox::Inbox;
use self::marks::Marks;
use self::pool::PoolCore;
use self::readiness::Readiness;
use crate::address::Address;
use crate::cell::{AnyCell, Cell, CellRef};
use crate::clocks::core::ClockCore;
use crate::current;
use crate::error::SpawnError;
use crate::exit::Exit;
use crate::id::{DriverId, ProcessorId};
use crate::mailbox::{MailboxOptions, Signals};
use crate::name::Name;
use crate::outside::Outside;
use crate::processor::Processor;
use crate::queue::WhenFull;
use crate::runtime::{Idle, RuntimeCore};
use crate::snapshot::DriverSnapshot;
use crate::sync::{AtomicU64, Mutex, PlainCount, Relaxed, SeqCst, thread as sync_thread};
use crate::timer::{Deadline, Deadlines};
use crate::world::{World, this_thread};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// Messages that one cell is served before the next has its turn, unless a millisecond is over first (`cell/visit.rs`).
pub(crate) const QUANTUM: u32 = 64;

/// Of so many members of a driver each has lines of its own: see `cell/place.rs`.
const FEW: u64 = 32;

/// What kind of driver it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A thread for one processor, and what it spawns beside itself.
    Own,
    /// A thread for several.
    Shared,
    /// A thread of the program's, which spins.
    Manual,
    /// Several threads that steal work from each other.
    Pool,
}

/// Something to run on the driver's thread.
pub(crate) type Command = Box<dyn FnOnce(&Arc<DriverCore>) + Send>;

/// Who is told when a deadline comes.
pub(crate) enum Due {
    Tick {
        cell: CellRef,
        slot: u32,
        generation: u32,
    },
    Resume {
        cell: CellRef,
        key: u64,
    },
    Room(CellRef),
}

impl Due {
    pub(crate) fn tell(self) {
        match self {
            Self::Tick {
                cell,
                slot,
                generation,
            } => cell.tick(slot, generation),
            Self::Resume { cell, key } => cell.resume(key),
            Self::Room(cell) => cell.signal(Signals::ROOM),
        }
    }
}

pub(crate) struct DriverCore {
    id: DriverId,
    name: Name,
    kind: Kind,
    runtime: Arc<RuntimeCore>,
    marks: Marks,
    arrivals: AtomicU64,
    inbox: Inbox<Post>,
    deadlines: Mutex<Deadlines<Due>>,
    /// What timers of its members follow that were told nothing; the node's if it is `None`.
    clock: Mutex<Option<Arc<ClockCore>>>,
    /// The nearest deadline in nanoseconds since the node began; `u64::MAX` if there is none. Written under the lock of
    /// `deadlines`.
    nearest_ns: AtomicU64,
    /// How many living cells it has. The node's registry holds them.
    members: PlainCount,
    /// The thread that runs it, and how to wake it.
    seat: OnceLock<Seat>,
    /// What others than this process reach it by, if a lane needs that. Set by the driver's own thread.
    outside: OnceLock<Arc<dyn Outside>>,
    /// Whether a manual driver has something to run, if somebody wants to know.
    readiness: Readiness,
    ended: Completion,
    threads: Mutex<Vec<sync_thread::JoinHandle<()>>>,
    counters: Counters,
    thread_options: ThreadOptions,
    /// What its thread is at. A pool's threads have one each.
    activity: Activity,
    /// What a pool has beside. It has no seat, and nothing comes through its inbox but the end.
    pool: Option<PoolCore>,
}

struct Seat {
    thread: ThreadId,
    waker: Waker,
}

/// What reaches a driver from other threads.
enum Post {
    /// A cell that has become ready.
    Ready(CellRef),
    /// Something to do on the driver's thread.
    Do(Command),
}

#[derive(Debug, Default)]
struct Counters {
    parks: PlainCount,
    wakes: PlainCount,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It served this many messages.
    Ran(u32),
    /// Nothing was ready.
    Idle,
}

impl DriverCore {
    pub(crate) fn new(name: Name, kind: Kind, runtime: Arc<RuntimeCore>) -> Arc<Self> {
        Arc::new(Self::made(
            name,
            kind,
            runtime,
            None,
            ThreadOptions::default(),
        ))
    }

    pub(crate) fn with_thread(
        name: Name,
        kind: Kind,
        runtime: Arc<RuntimeCore>,
        options: ThreadOptions,
    ) -> Arc<Self> {
        Arc::new(Self::made(name, kind, runtime, None, options))
    }

    pub(crate) fn new_pool(
        name: Name,
        runtime: Arc<RuntimeCore>,
        options: PoolOptions,
    ) -> Arc<Self> {
        let threads = options.thread_options().clone();
        let pool = Some(PoolCore::new(options));
        Arc::new(Self::made(name, Kind::Pool, runtime, pool, threads))
    }

    fn made(
        name: Name,
        kind: Kind,
        runtime: Arc<RuntimeCore>,
        pool: Option<PoolCore>,
        thread_options: ThreadOptions,
    ) -> Self {
        Self {
            id: DriverId::next(),
            name,
            kind,
            runtime,
            marks: Marks::none(),
            arrivals: AtomicU64::new(1),
            inbox: Inbox::new(),
            deadlines: Mutex::new(Deadlines::new()),
            clock: Mutex::new(None),
            nearest_ns: AtomicU64::new(u64::MAX),
            members: PlainCount::new(0),
            seat: OnceLock::new(),
            outside: OnceLock::new(),
            readiness: Readiness::default(),
            ended: Completion::default(),
            threads: Mutex::new(Vec::new()),
            counters: Counters::default(),
            thread_options,
            activity: Activity::default(),
            pool,
        }
    }

    pub(crate) fn id(&self) -> DriverId {
        self.id
    }

    pub(crate) fn name(&self) -> &Name {
        &self.name
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeCore> {
        &self.runtime
    }

    pub(crate) fn world(&self) -> &World {
        &self.runtime.world
    }

    pub(crate) fn is_own(&self) -> bool {
        self.kind == Kind::Own
    }

    pub(crate) fn is_manual(&self) -> bool {
        self.kind == Kind::Manual
    }

    /// Which of its threads runs a member may change from one visit to the next.
    #[inline]
    pub(crate) fn is_pool(&self) -> bool {
        self.pool.is_some()
    }

    #[inline]
    fn pool(&self) -> Option<&PoolCore> {
        self.pool.as_ref()
    }

    #[inline]
    pub(crate) fn marks(&self) -> Marked {
        self.marks.get()
    }

    /// Other threads see it soon, or with whatever else they hear from this one.
    pub(crate) fn mark(&self, mark: Marked, on: bool) {
        self.marks.set(mark, on);
    }

    #[inline]
    pub(crate) fn is_in_arrival_order(&self) -> bool {
        self.marks().has(Marked::IN_ARRIVAL_ORDER)
    }

    /// The number of the next message to arrive, if this driver counts them.
    #[inline]
    pub(crate) fn next_arrival(&self) -> Option<u64> {
        self.is_in_arrival_order()
            .then(|| self.arrivals.fetch_add(1, Relaxed))
    }

    /// True on the thread that runs it; on any of those that do, for a pool.
    pub(crate) fn is_current_thread(&self) -> bool {
        if self.is_pool() {
            return current::driver() == Some(self.id);
        }
        self.seat
            .get()
            .is_some_and(|seat| seat.thread == this_thread())
    }

    /// The calling thread runs this driver from now on.
    fn sit(&self) {
        let seat = Seat {
            thread: this_thread(),
            waker: self.world().waker(),
        };
        let taken = self.seat.set(seat).is_err();
        assert!(!taken, "a driver is run by one thread");
    }

    /// What reaches this driver from outside, made now if it is wanted for the first time. On its own thread only: then
    /// that thread is awake, and looks there before it sleeps. Nothing reaches a pool: it has no one thread to sleep there.
    pub(crate) fn outside(
        &self,
        make: impl FnOnce() -> Option<Arc<dyn Outside>>,
    ) -> Option<Arc<dyn Outside>> {
        assert!(
            self.is_current_thread(),
            "what reaches a driver from outside is asked for on the driver's own thread"
        );
        if self.world().is_simulated() || self.is_pool() {
            return None;
        }
        if self.outside.get().is_none() {
            if self.is_readiness_wanted() {
                // Its thread sleeps in a loop of others.
                return None;
            }
            // Not inside `get_or_init`: `make` may fail, and may ask for it itself, and is then the second to set it.
            let _late = self.outside.set(make()?);
        }
        self.outside.get().cloned()
    }

    /// Looks for what came from outside. True if there was anything.
    #[inline]
    fn look_outside(&self) -> bool {
        self.outside.get().is_some_and(|outside| outside.look())
    }

    /// Puts a cell that has just become ready on the ready queue.
    #[inline]
    pub(crate) fn enqueue<P: Processor>(&self, cell: &Arc<Cell<P>>) {
        if let Some(pool) = &self.pool {
            pool.enqueue(self.id, cell.clone());
            return;
        }
        if current::driver() != Some(self.id) {
            // A closed inbox: the driver has ended all its cells, and this one with them.
            let _closed = self.post(Post::Ready(cell.clone()));
            return;
        }
        match cell.seat.get() {
            Some(seat) => current::ready(|ready| ready.push_seated(seat, cell.id)),
            None => current::ready(|ready| ready.push(cell.clone())),
        }
    }

    /// Puts something into the inbox and wakes the driver. False if the driver has ended.
    fn post(&self, post: Post) -> bool {
        match self.inbox.post(post) {
            Ok(ring) => {
                if ring {
                    self.ring();
                }
                self.look_for_others();
                true
            }
            Err(_) => false,
        }
    }

    pub(crate) fn ring(&self) {
        if let Some(seat) = self.seat.get() {
            self.counters.wakes.fetch_add(1, Relaxed);
            seat.waker.wake_by_ref();
        }
    }

    /// Runs `command` on the driver's thread. False if the driver has ended.
    pub(crate) fn command(&self, command: Command) -> bool {
        self.post(Post::Do(command))
    }

    /// One turn: what has come, what is due, and one ready cell for up to `budget` messages.
    pub(crate) fn turn(self: &Arc<Self>, budget: u32) -> Turn {
        loop {
            self.collect();
            self.fire_due();
            let Some(cell) = self.pick() else {
                return Turn::Idle;
            };
            let budget = if self.is_in_arrival_order() || self.world().is_simulated() {
                1
            } else {
                budget
            };
            self.activity.begin(cell.id());
            let (cell, after, served) = cell.run(budget);
            if self.activity.end() {
                self.watched_visit_is_over(&self.activity);
            }
            // Dropped when nothing of the thread's own is borrowed any more.
            let _not_kept = current::ready(|ready| ready.put_back(cell, after));
            self.world().choice_point();
            if served > 0 {
                return Turn::Ran(served);
            }
        }
    }

    /// Moves what came from outside and through the inbox to the ready queue.
    #[inline]
    fn collect(self: &Arc<Self>) {
        self.look_outside();
        if self.inbox.has_mail() {
            self.take_mail();
        }
    }

    #[inline(never)]
    fn take_mail(self: &Arc<Self>) {
        for post in self.inbox.take() {
            match post {
                Post::Ready(cell) => current::ready(|ready| ready.push(cell)),
                Post::Do(command) => {
                    command(self);
                    current::forget_clock();
                }
            }
        }
    }

    #[inline]
    fn pick(&self) -> Option<CellRef> {
        if self.is_in_arrival_order() || self.world().is_simulated() {
            return self.pick_out_of_turn();
        }
        current::ready(ReadyCells::pop)
    }

    #[inline(never)]
    fn pick_out_of_turn(&self) -> Option<CellRef> {
        if self.is_in_arrival_order() {
            return current::ready(|ready| {
                ready.take(|cells| {
                    let heads = cells.map(|cell| cell.head()).enumerate();
                    heads.min_by_key(|(_, head)| *head).map(|(index, _)| index)
                })
            });
        }
        match self.world() {
            // Which of a shared driver's members goes first is a choice too.
            World::Simulated(simulation) if self.kind == Kind::Shared => current::ready(|ready| {
                ready.take(|cells| match cells.len() {
                    0 => None,
                    len => Some(simulation.random_below(len as u64) as usize),
                })
            }),
            _ => current::ready(ReadyCells::pop),
        }
    }

    /// Tells those whose deadline has come.
    #[inline]
    fn fire_due(&self) {
        if self.nearest_ns.load(Relaxed) == u64::MAX {
            return;
        }
        self.fire_those_due();
    }

    #[inline(never)]
    fn fire_those_due(&self) {
        let now = self.world().now();
        if self.nearest_ns.load(Relaxed) > self.runtime.nanos_since_start(now) {
            return;
        }
        loop {
            let due = {
                let mut deadlines = self.deadlines.lock();
                let due = deadlines.pop_due(now);
                self.note_nearest(&deadlines);
                due
            };
            match due {
                None => return,
                Some(due) => due.tell(),
            }
        }
    }

    /// True if a deadline has come, and nobody has told those who wait for it.
    fn has_due(&self) -> bool {
        let now = self.runtime.nanos_since_start(self.world().now());
        self.nearest_ns.load(Relaxed) <= now
    }

    fn nearest_deadline(&self) -> Option<Instant> {
        self.deadlines.lock().nearest()
    }

    fn note_nearest(&self, deadlines: &Deadlines<Due>) {
        let nearest = match deadlines.nearest() {
            Some(at) => self.runtime.nanos_since_start(at),
            None => u64::MAX,
        };
        self.nearest_ns.store(nearest, Relaxed);
    }

    pub(crate) fn add_deadline(&self, at: Instant, due: Due) -> Deadline {
        let (deadline, first) = {
            let mut deadlines = self.deadlines.lock();
            let deadline = deadlines.add(at, due);
            self.note_nearest(&deadlines);
            (deadline, deadlines.nearest() == Some(at))
        };
        if first {
            // It sleeps until what used to be the nearest.
            match &self.pool {
                Some(pool) => pool.sleep.ring_keeper(),
                None if !self.is_current_thread() => self.ring(),
                None => {}
            }
        }
        deadline
    }

    /// What timers of its members follow that were told nothing, if it was told something.
    pub(crate) fn clock(&self) -> Option<Arc<ClockCore>> {
        self.clock.lock().clone()
    }

    pub(crate) fn follow(&self, clock: &Arc<ClockCore>) {
        // What was followed before is dropped after the lock is released.
        let _before = self.clock.lock().replace(clock.clone());
    }

    pub(crate) fn cancel_deadline(&self, deadline: Deadline) {
        // Dropped after the lock is released: it may hold the last reference to a cell.
        let _due = {
            let mut deadlines = self.deadlines.lock();
            let due = deadlines.remove(deadline);
            self.note_nearest(&deadlines);
            due
        };
    }

    /// True if nothing is in the inbox: the caller parks, and whoever posts next rings.
    pub(crate) fn may_sleep(&self) -> bool {
        self.inbox.may_sleep()
    }

    /// Sleeps until something comes through the inbox or from outside, a deadline comes, or `limit` has passed.
    pub(crate) fn sleep(&self, limit: Option<Instant>) {
        current::forget_clock();
        match self.runtime.options.idle {
            Idle::SpinThenPark => {
                if self
                    .runtime
                    .spin_until(|| self.inbox.has_mail() || self.look_outside())
                {
                    return;
                }
            }
            Idle::Park => {}
            // Its loop looks again: outside, into the inbox, at the clock, at the end.
            Idle::Spin if !self.world().is_simulated() => {
                if self.runtime.is_idle_watched() {
                    self.runtime.a_driver_is_idle();
                }
                crate::sync::spin_loop();
                return;
            }
            Idle::Spin => {}
        }
        if !self.inbox.may_sleep() {
            return;
        }
        // A script's loop ends with its node. Whoever says so rings after saying it: either it is seen here, or the ring
        // ends the park.
        if self.is_manual() && self.runtime.is_ending() {
            return;
        }
        self.runtime.a_driver_is_idle();
        let nearest = self.nearest_deadline();
        let until = match (limit, nearest) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        self.counters
            .parks
            .store(self.counters.parks.load(Relaxed) + 1, Relaxed);
        self.activity.sleeps();
        match self.outside.get() {
            None => self.world().park(until),
            // Somebody else sleeps there.
            Some(_) if self.is_readiness_wanted() => self.world().park(until),
            // A script is not served here, so what it finds in its last look comes through its inbox.
            Some(outside) => self.world().park_in(outside, until),
        }
        self.woke_up(&self.activity);
        // `asleep` may stay up after a time-out: then the next post rings for nothing, which costs less than looking.
    }

    /// The loop of a driver that has a thread of its own.
    fn run(self: &Arc<Self>) {
        self.apply_thread_options();
        self.sit();
        current::set_driver(Some(self.id));
        loop {
            if self.turn(QUANTUM) == Turn::Idle {
                manual::end_orphans();
                if self.may_leave() {
                    break;
                }
                self.sleep(None);
            }
        }
        self.finish();
        current::set_driver(None);
    }

    /// True when a driver has nobody left to serve, and closes it.
    fn may_leave(&self) -> bool {
        // Whoever spawns counts before it posts: if that is not seen here, its post finds the inbox closed.
        if self.has_members() {
            return false;
        }
        self.inbox.close_if_empty(self.kind == Kind::Own)
    }

    /// Ends what is left, on the driver's thread.
    fn finish(self: &Arc<Self>) {
        drop(self.inbox.close());
        if !self.is_pool() {
            // A pool has none, and may be ended by a thread that keeps those of another driver: the one that made it in vain.
            drop(current::ready(ReadyCells::take_all));
        }
        // Again, as long as what ends leaves more behind.
        while self.has_members() {
            let members = self.members();
            if members.is_empty() {
                // One is being spawned, and will find the inbox closed.
                break;
            }
            for cell in members {
                self.disown(&*cell);
                cell.end_with_driver(Exit::Stopped);
            }
        }
        self.runtime.driver_ended(self.id, &self.name, self.kind);
        self.ended.complete();
        self.end_readiness();
        self.runtime.a_driver_is_idle();
    }

    /// As [`may_leave`](Self::may_leave), for the threads of a pool. Whoever spawns enters the member first and looks then
    /// whether the pool ends; here it is the other way round. So one of them sees the other.
    fn pool_may_leave(&self) -> bool {
        self.pool.as_ref().is_some_and(PoolCore::is_ending)
            && self.inbox.close_if_empty(false)
            && !self.has_members()
    }

    /// A cell has ended, or is about to: the node lets go of it.
    pub(crate) fn disown(&self, cell: &dyn AnyCell) {
        if !self.runtime.unregister(cell) {
            return;
        }
        let is_last = self.members.fetch_sub(1, SeqCst) == 1;
        if let Some(pool) = &self.pool {
            pool.member_ended(is_last);
        }
    }

    /// One of its processors. It looks at all: not for what happens often.
    pub(crate) fn member(&self, id: ProcessorId) -> Option<CellRef> {
        self.members().into_iter().find(|cell| cell.id() == id)
    }

    /// The names of those in whose handlers its threads are.
    fn handling(&self) -> Vec<Name> {
        let pool = self.pool.iter().flat_map(PoolCore::activities);
        pool.filter_map(Activity::visit)
            .filter_map(|visit| self.member_name(visit.of))
            .collect()
    }

    /// Called on each of its threads first. That it may be so was tried when the driver was made.
    fn apply_thread_options(&self) {
        if !self.world().is_simulated() {
            let _refused_meanwhile = self.thread_options.apply();
        }
    }

    fn add_thread(&self, thread: sync_thread::JoinHandle<()>) {
        self.threads.lock().push(thread);
    }

    pub(crate) fn member_name(&self, id: ProcessorId) -> Option<Name> {
        let members = self.members();
        let member = members.iter().find(|cell| cell.id() == id)?;
        Some(member.name().clone())
    }

    pub(crate) fn members(&self) -> Vec<CellRef> {
        self.runtime.members_of(self.id)
    }

    pub(crate) fn has_members(&self) -> bool {
        self.members.load(SeqCst) > 0
    }

    /// True if the next cell is one of few, and may be hot: see `cell/place.rs`.
    fn keeps_apart(&self) -> bool {
        self.members.load(Relaxed) < FEW
    }

    pub(crate) fn signal_all(&self, signal: Signals) {
        for cell in self.members() {
            cell.signal(signal);
        }
    }

    /// The thread leaves once it has no members.
    pub(crate) fn end_when_empty(&self) {
        if self.inbox.end() {
            self.ring();
        }
        if let Some(pool) = &self.pool {
            pool.end_when_empty();
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_complete()
    }

    /// Waits until the driver has ended and its thread is gone, at most until `deadline`.
    pub(crate) fn wait_ended(&self, deadline: Option<Instant>) -> bool {
        if !self.ended.wait(self.world(), deadline) {
            return false;
        }
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            // It has left its loop: joining takes no longer than the system needs. A panic in it was reported.
            let _panicked = thread.join();
        }
        true
    }

    pub(crate) fn snapshot(&self) -> DriverSnapshot {
        let mut snapshot = DriverSnapshot {
            id: self.id,
            name: self.name.as_str().to_owned(),
            kind: format!("{:?}", self.kind).to_lowercase(),
            members: self.members.load(Relaxed),
            turns: self.activity.visits(),
            parks: self.counters.parks.load(Relaxed),
            wakes: self.counters.wakes.load(Relaxed),
            threads: 1,
            blocked: 0,
            steals: 0,
            exhausted: 0,
        };
        if let Some(pool) = &self.pool {
            pool.snapshot_into(&mut snapshot);
        }
        snapshot
    }
}

impl fmt::Debug for DriverCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Driver({} {:?})", self.id, self.name)
    }
}

/// Puts a processor on `driver`.
///
/// `movable` says that `P` is `Send`. If it is not, the calling thread must be the driver's, and a pool refuses.
pub(crate) fn spawn_cell<P: Processor>(
    driver: &Arc<DriverCore>,
    name: &str,
    processor: P,
    movable: bool,
    options: MailboxOptions,
) -> Result<Address<P>, SpawnError> {
    seat_cell(new_cell(driver, name, processor, movable, options)?)
}

/// A cell that nobody knows of yet. Without a processor if it is to be supervised.
pub(crate) fn new_cell<P: Processor>(
    driver: &Arc<DriverCore>,
    name: &str,
    processor: impl Into<Option<P>>,
    movable: bool,
    options: MailboxOptions,
) -> Result<Arc<Cell<P>>, SpawnError> {
    let name = Name::new(name).map_err(SpawnError::Name)?;
    let runtime = driver.runtime();
    let capacity = options.capacity.unwrap_or(runtime.options.capacity);
    if capacity == 0 {
        return Err(SpawnError::Capacity(name, 0));
    }
    if matches!(options.when_full, WhenFull::Latest | WhenFull::Disconnect) {
        return Err(SpawnError::Policy(name, options.when_full));
    }
    if runtime.is_ending() {
        return Err(SpawnError::Closed(name));
    }
    if !movable && driver.is_pool() {
        return Err(SpawnError::OnPool(name, driver.name().clone()));
    }
    Ok(Cell::new(
        name,
        driver.clone(),
        processor,
        movable,
        capacity,
        options.when_full,
        driver.keeps_apart(),
    ))
}

/// Puts a new cell on its driver.
pub(crate) fn seat_cell<P: Processor>(cell: Arc<Cell<P>>) -> Result<Address<P>, SpawnError> {
    let driver = &cell.driver.clone();
    let (runtime, name) = (driver.runtime(), cell.name.clone());
    runtime.register(cell.clone())?;
    driver.members.fetch_add(1, SeqCst);
    // A new cell is `scheduled`: it stands on the queue from here on, and its first visit starts it.
    // Whoever ends the driver says so first and tells the members then: this one hears of it, or sees it here.
    let queued = if driver.inbox.is_ending() {
        false
    } else if let Some(pool) = &driver.pool {
        pool.enqueue(driver.id, cell.clone());
        true
    } else if current::driver() == Some(driver.id) {
        current::ready(|ready| ready.push(cell.clone()));
        true
    } else {
        driver.post(Post::Ready(cell.clone()))
    };
    if !queued {
        driver.disown(&*cell);
        return Err(SpawnError::Closed(name));
    }
    Ok(Address::from_cell(cell))
}

/// Something that happens once, and can be waited for.
#[derive(Debug, Default)]
pub(crate) struct Completion {
    state: Mutex<(bool, Vec<Waker>)>,
}

impl Completion {
    pub(crate) fn complete(&self) {
        let wakers = {
            let mut state = self.state.lock();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.state.lock().0
    }

    /// True if it has happened; else `waker` is woken when it does.
    pub(crate) fn poll(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        if !state.0 && !state.1.iter().any(|w| w.will_wake(waker)) {
            state.1.push(waker.clone());
        }
        state.0
    }

    /// False if the deadline passed first.
    pub(crate) fn wait(&self, world: &World, deadline: Option<Instant>) -> bool {
        let waker = world.waker();
        loop {
            if self.poll(&waker) {
                return true;
            }
            if deadline.is_some_and(|d| world.now() >= d) {
                return false;
            }
            world.park(deadline);
        }
    }
}

/// The limit of operations that take a `limit` argument, as a deadline.
pub(crate) fn deadline(world: &World, limit: Duration) -> Option<Instant> {
    crate::world::deadline_after(world.now(), limit)
}
