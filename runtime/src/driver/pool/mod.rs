//! Pools: several threads that steal work from each other.
//!
//! A cell is the task. It stands on one queue at most, so whichever worker takes it is alone inside it (see `cell/mod.rs`).
//!
//! | file         | holds                                                                                   |
//! |--------------|-----------------------------------------------------------------------------------------|
//! | `mod.rs`     | what the threads of a pool share; the handle `Pool`                                       |
//! | `worker.rs`  | a worker's loop: what it runs next, and where what it wakes goes                          |
//! | `threads.rs` | how many threads run: blocked ones are replaced by spare ones                             |
//! | `queues.rs`  | the queues                                                                              |
//! | `../sleep/`  | who searches, who is asleep, and who is woken for what                                    |

#[cfg(all(test, loom))]
mod loom_tests;
mod queues;
#[cfg(all(test, shuttle))]
mod shuttle_tests;
mod threads;
mod worker;

pub(crate) use threads::about_to_block;
pub(crate) use worker::works_for;

use self::queues::{Injector, Stealer};
use self::threads::Threads;
use super::sleep::Sleep;
use super::{Activity, DriverCore, Monitor, ThreadOptions, spawn_cell};
use crate::address::Address;
use crate::cell::CellRef;
use crate::error::{Error, ErrorKind, SpawnError};
use crate::id::DriverId;
use crate::mailbox::MailboxOptions;
use crate::name::Name;
use crate::processor::Processor;
use crate::runtime::RuntimeCore;
use crate::shutdown::ShutdownReport;
use crate::snapshot::DriverSnapshot;
use crate::sync::{AtomicBool, Mutex, PlainCount, Relaxed, SeqCst};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How many threads may be started in the place of blocked ones, if nobody says otherwise.
const SPARES: usize = 64;
/// More threads than this no pool has, with the spare ones: place for what they share is made with the pool.
const THREADS_MAX: usize = 1 << 16;

/// How a pool is made.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    threads: usize,
    spares: usize,
    each_thread: ThreadOptions,
}

impl PoolOptions {
    /// A pool of so many threads: at least 1, and with the spare ones at most 65536.
    pub fn threads(threads: usize) -> Self {
        Self {
            threads,
            spares: SPARES,
            each_thread: ThreadOptions::default(),
        }
    }

    /// What each of its threads is like, spare ones included.
    pub fn each_thread(mut self, options: ThreadOptions) -> Self {
        self.each_thread = options;
        self
    }

    pub(super) fn thread_options(&self) -> &ThreadOptions {
        &self.each_thread
    }

    /// At most so many further threads are started in the place of those that are blocked, or that take long, 64 unless told
    /// otherwise. When all are
    /// in use, members wait until one of the blocked handlers goes on; that is reported by name, and counted in the
    /// [snapshot](crate::DriverSnapshot::exhausted).
    pub fn spares(mut self, spares: usize) -> Self {
        self.spares = spares;
        self
    }
}

impl Default for PoolOptions {
    /// As many threads as there are cores, at least 2, so that one long handler does not stop everything.
    fn default() -> Self {
        Self::threads(crate::world::cores().max(2))
    }
}

/// What the threads of a pool share.
pub(crate) struct PoolCore {
    /// Where cells go that become ready on other threads.
    injector: Injector<CellRef>,
    pub(super) sleep: Sleep,
    /// By number; those behind the last that was started are empty.
    workers: Box<[OnceLock<WorkerShared>]>,
    threads: Mutex<Threads>,
    /// More threads run than there should be: one of them retires.
    surplus: AtomicBool,
    /// The workers leave when there are no members.
    ending: AtomicBool,
    /// All workers have left.
    over: AtomicBool,
    options: PoolOptions,
}

/// What others may touch of a worker.
struct WorkerShared {
    stealer: Stealer<CellRef>,
    /// The cell that was woken last by the handler that this worker is in.
    slot: Mutex<Option<CellRef>>,
    activity: Activity,
    counters: WorkerCounters,
}

#[derive(Debug, Default)]
struct WorkerCounters {
    parks: PlainCount,
    steals: PlainCount,
}

impl PoolCore {
    pub(super) fn new(options: PoolOptions) -> Self {
        let most = options.threads + options.spares;
        Self {
            injector: Injector::new(),
            sleep: Sleep::new(),
            workers: (0..most).map(|_| OnceLock::new()).collect(),
            threads: Mutex::new(Threads::default()),
            surplus: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            over: AtomicBool::new(false),
            options,
        }
    }

    fn workers(&self) -> impl Iterator<Item = &WorkerShared> {
        self.workers.iter().map_while(OnceLock::get)
    }

    /// True if there is work: see `../sleep/README.md`.
    pub(super) fn has_work(&self) -> bool {
        !self.injector.is_empty() || self.workers().any(|w| !w.stealer.is_empty())
    }

    /// Puts a cell that has become ready where it will be found, and wakes somebody for it if that is needed.
    #[inline]
    pub(super) fn enqueue(&self, driver: DriverId, cell: CellRef) {
        if let Some(cell) = worker::push_here(self, driver, cell) {
            self.inject(cell);
        }
    }

    fn inject(&self, cell: CellRef) {
        if self.over.load(SeqCst) {
            // Nobody is left to take it. It has ended.
            return;
        }
        self.injector.push(cell);
        self.sleep.notify();
    }

    /// The workers leave when the last member has ended.
    pub(super) fn end_when_empty(&self) {
        self.ending.store(true, SeqCst);
        self.ring_all();
    }

    pub(super) fn ring_all(&self) {
        self.sleep.ring_all();
        self.ring_spares();
    }

    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(SeqCst)
    }

    /// The last member has ended, perhaps.
    pub(super) fn member_ended(&self, is_last: bool) {
        if is_last && self.ending.load(SeqCst) {
            self.ring_all();
        }
    }

    pub(super) fn activities(&self) -> impl Iterator<Item = &Activity> {
        self.workers().map(|worker| &worker.activity)
    }

    /// Nobody is there for work, because as many threads as run are inside long visits.
    pub(super) fn is_held_by(&self, long: usize) -> bool {
        let running = self.threads.lock().running();
        self.sleep.asleep() == 0 && long >= running
    }

    /// What waits in the slot of a worker whose visit takes long is work for the others.
    pub(super) fn empty_slot(&self, number: usize) {
        let cell = self.workers[number]
            .get()
            .and_then(|w| w.slot.lock().take());
        if let Some(cell) = cell {
            self.inject(cell);
        }
    }

    pub(super) fn snapshot_into(&self, snapshot: &mut DriverSnapshot) {
        for worker in self.workers() {
            snapshot.turns += worker.activity.visits();
            snapshot.parks += worker.counters.parks.load(Relaxed);
            snapshot.steals += worker.counters.steals.load(Relaxed);
        }
        let threads = self.threads.lock();
        snapshot.threads = threads.living() as u64;
        snapshot.blocked = threads.blocked() as u64;
        snapshot.exhausted = threads.exhausted();
    }
}

/// A set of threads that serve very many processors. Each processor still handles one message at a time; which thread it
/// runs on may change from one message to the next.
///
/// It lives until it is shut down, or its node is. Dropping this handle does not end it.
#[derive(Clone)]
pub struct Pool {
    core: Arc<DriverCore>,
}

/// A new pool.
pub(crate) fn new_pool(
    runtime: &Arc<RuntimeCore>,
    name: &str,
    options: PoolOptions,
) -> Result<Pool, Error> {
    let name = Name::new(name)?;
    if options.threads == 0 {
        let text = format!("cannot make pool {name:?}: it needs at least 1 thread, not 0");
        return Err(Error::new(ErrorKind::InvalidSetting, text));
    }
    let most = options.threads.checked_add(options.spares);
    if most.is_none_or(|most| most > THREADS_MAX) {
        let PoolOptions {
            threads, spares, ..
        } = options;
        let text = format!(
            "cannot make pool {name:?}: {threads} threads and {spares} spare ones are more than {THREADS_MAX}"
        );
        return Err(Error::new(ErrorKind::InvalidSetting, text));
    }
    options.each_thread.check(&runtime.world, name.as_str())?;
    let core = DriverCore::new_pool(name, runtime.clone(), options);
    runtime.add_driver(&core, true)?;
    if let Err(error) = core.start_workers() {
        let name = core.name();
        let text = format!("cannot start pool {name:?}: no thread to be had");
        return Err(Error::new(ErrorKind::Io, text).with_source(error));
    }
    Monitor::start(runtime);
    Ok(Pool { core })
}

impl Pool {
    pub(crate) fn core(&self) -> &Arc<DriverCore> {
        &self.core
    }

    /// The pool's id, as that of any driver.
    pub fn id(&self) -> DriverId {
        self.core.id()
    }

    /// The pool's name, which no processor and no driver of the node shares.
    pub fn name(&self) -> &Name {
        self.core.name()
    }

    /// How many threads it was made with, without spare ones.
    pub fn threads(&self) -> usize {
        self.core.pool().map_or(0, |pool| pool.options.threads)
    }

    /// Spawns a processor on this pool.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Name`] and [`SpawnError::NameTaken`] for the name; [`SpawnError::Closed`] if the pool or the node has
    /// ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let pool = node.pool("workers", 4)?;
    /// let sums: Vec<_> = (0..100)
    ///     .map(|n| {
    ///         let mut sum = 0;
    ///         pool.spawn(&format!("sum {n}"), closure(move |more: u64, _cx| {
    ///             sum += more;
    ///             Ok::<_, std::fmt::Error>(sum)
    ///         }))
    ///     })
    ///     .collect::<Result<_, _>>()?;
    /// for sum in &sums {
    ///     sum.send(1)?;
    ///     sum.send(2)?;
    /// }
    /// for sum in &sums {
    ///     assert_eq!(sum.call(3).wait()?, 6);
    /// }
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn spawn<P: Processor + Send>(
        &self,
        name: &str,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        self.spawn_with(name, MailboxOptions::default(), processor)
    }

    /// As [`spawn`](Self::spawn), with a mailbox of one's choice.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn), and [`SpawnError::Capacity`] for a capacity of 0, [`SpawnError::Policy`] for a policy of
    /// subscriptions.
    pub fn spawn_with<P: Processor + Send>(
        &self,
        name: &str,
        options: MailboxOptions,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        spawn_cell(&self.core, name, processor, true, options)
    }

    /// Ends its members in order, then its threads; as [`Driver::shutdown`](crate::Driver::shutdown).
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        self.core.shutdown(limit)
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.core, f)
    }
}
