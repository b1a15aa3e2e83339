//! The node without topics: drivers, processors and names. Its options and its end have a file each.

mod ending;
mod options;

pub use self::options::{DEFAULT_CAPACITY, DEFAULT_LIMIT, Idle, InExecutor, Options};

use crate::address::Address;
use crate::cell::{AnyCell, Cell, CellRef};
use crate::clocks::{Clocks, Time};
use crate::current;
use crate::dead_letters::DeadLetters;
use crate::driver::faults::{FaultCounts, Faults};
use crate::driver::simulated::Simulation;
use crate::driver::{
    self, Completion, Driver, DriverCore, Kind, Manual, Monitor, Pool, PoolOptions, ThreadOptions,
};
use crate::error::{Error, ErrorKind, SpawnError};
use crate::id::{DriverId, ProcessorId};
use crate::interrupt::Interrupts;
use crate::mailbox::{MailboxOptions, Signals};
use crate::name::Name;
use crate::processor::Processor;
use crate::registry::{Found, Registry};
use crate::sends::Sends;
use crate::shutdown::ShutdownReport;
use crate::snapshot::{ProcessorSnapshot, Snapshot, Totals};
use crate::sync::{AtomicBool, AtomicUsize, Mutex, PlainFlag, SeqCst};
use crate::time_keeper::TimeKeeper;
use crate::unblock::Unblocks;
use crate::world::World;
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// What all of a node's parts share. Public only because operations refer to it.
pub struct RuntimeCore {
    pub(crate) world: World,
    pub(crate) options: Options,
    pub(crate) dead_letters: DeadLetters,
    pub(crate) time_keeper: TimeKeeper,
    pub(crate) monitor: Monitor,
    pub(crate) interrupts: Interrupts,
    pub(crate) unblocks: Unblocks,
    /// Somebody has blocked a thread of an executor, and that was reported.
    pub(crate) warned_of_blocking: PlainFlag,
    pub(crate) clocks: Clocks,
    pub(crate) sends: Sends,
    /// The pool of those who name none, made at its first use.
    default_pool: Mutex<Option<Pool>>,
    start: Instant,
    registry: Mutex<Registry>,
    drivers: Mutex<BTreeMap<DriverId, Arc<DriverCore>>>,
    /// Sums over processors that have ended.
    ended: Mutex<Totals>,
    /// How many ended processors are being added to these sums right now.
    filing: AtomicUsize,
    extensions: Mutex<Vec<(TypeId, Arc<dyn Any + Send + Sync>)>>,
    ending: AtomicBool,
    /// Somebody is carrying out the end.
    led: AtomicBool,
    /// How many wakers are in `idle`.
    idle_watched: AtomicUsize,
    /// Who is told when a driver becomes idle: whoever carries out the end, and whoever waits for the node to settle.
    idle: Mutex<Vec<(u64, Waker)>>,
    over: Completion,
    /// The process that made it.
    process: u32,
}

impl RuntimeCore {
    fn new(world: World, options: Options) -> Arc<Self> {
        // The first time costs a fifth of a millisecond: not inside the first handler.
        let _ready = crate::clock::long_handler();
        Arc::new(Self {
            start: world.now(),
            world,
            dead_letters: DeadLetters::new(options.dead_letters),
            options,
            time_keeper: TimeKeeper::default(),
            monitor: Monitor::default(),
            interrupts: Interrupts::default(),
            unblocks: Unblocks::default(),
            warned_of_blocking: PlainFlag::new(false),
            clocks: Clocks::default(),
            sends: Sends::new(),
            default_pool: Mutex::new(None),
            registry: Mutex::new(Registry::default()),
            drivers: Mutex::new(BTreeMap::new()),
            ended: Mutex::new(Totals::default()),
            filing: AtomicUsize::new(0),
            extensions: Mutex::new(Vec::new()),
            ending: AtomicBool::new(false),
            led: AtomicBool::new(false),
            idle_watched: AtomicUsize::new(0),
            idle: Mutex::new(Vec::new()),
            over: Completion::default(),
            process: std::process::id(),
        })
    }

    /// False in a child that was forked from the process that made it: there are no drivers there, and whoever waits for one
    /// waits for ever.
    pub(crate) fn is_here(&self) -> bool {
        std::process::id() == self.process
    }

    pub(crate) fn nanos_since_start(&self, at: Instant) -> u64 {
        // Rounded up to no less than the instant itself, so that nothing fires early; 584 years fit.
        at.saturating_duration_since(self.start).as_nanos() as u64
    }

    /// When it began: the zero of its steady time.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// Steady time.
    pub(crate) fn steady_time(&self) -> Time {
        Time::from_nanos(self.nanos_since_start(self.world.now()))
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending.load(SeqCst)
    }

    /// Looks again and again for a short while. True as soon as `done` is.
    #[inline]
    pub(crate) fn spin_until(&self, done: impl Fn() -> bool) -> bool {
        for _ in 0..self.world.spins() {
            if done() {
                return true;
            }
            crate::sync::spin_loop();
        }
        false
    }

    // ---- names

    pub(crate) fn register(&self, cell: CellRef) -> Result<(), SpawnError> {
        let name = cell.name().clone();
        if self.registry.lock().add(cell) {
            Ok(())
        } else {
            Err(SpawnError::NameTaken(name))
        }
    }

    /// The node lets go of a processor, and of its name if that still leads to it.
    /// False if it had done so before.
    pub(crate) fn unregister(&self, cell: &dyn AnyCell) -> bool {
        self.sends.ended(cell);
        // Dropped after the lock is released, though whoever calls this holds another.
        let removed = self.registry.lock().remove(cell);
        removed.is_some()
    }

    /// What the living ones among these processors are called.
    pub(crate) fn names_of(&self, ids: &BTreeSet<ProcessorId>) -> BTreeMap<ProcessorId, Name> {
        let mut names = BTreeMap::new();
        for number in 0.. {
            if names.len() == ids.len() {
                break;
            }
            // A few at a time: whoever spawns meanwhile does not wait long.
            let Some(cells) = self.registry.lock().block(number) else {
                break;
            };
            let wanted = cells.iter().filter(|cell| ids.contains(&cell.id()));
            names.extend(wanted.map(|cell| (cell.id(), cell.name().clone())));
        }
        names
    }

    pub(crate) fn members_of(&self, driver: DriverId) -> Vec<CellRef> {
        self.registry.lock().of_driver(driver)
    }

    pub(crate) fn returned_after_the_end(&self) {
        self.ended.lock().returned += 1;
    }

    pub(crate) fn processor_ended(
        &self,
        cell: &dyn AnyCell,
        snapshot: impl FnOnce() -> ProcessorSnapshot,
    ) {
        // Partner: `Runtime::snapshot`, which counts again if it sees that somebody is being filed meanwhile.
        self.filing.fetch_add(1, SeqCst);
        let snapshot = snapshot();
        {
            let mut sums = self.ended.lock();
            sums.add(&snapshot);
            sums.ended += 1;
        }
        self.filing.fetch_sub(1, SeqCst);
        self.registry.lock().unname(cell);
    }

    /// Files a driver. One that shares its name with its only processor (`named` false) leaves the name to that.
    pub(crate) fn add_driver(&self, driver: &Arc<DriverCore>, named: bool) -> Result<(), Error> {
        let name = driver.name();
        let ended = || {
            let text = format!("cannot make driver {name:?}: the node has ended");
            Error::new(ErrorKind::Closed, text)
        };
        if self.is_ending() {
            return Err(ended());
        }
        if named && !self.registry.lock().add_driver(name, driver.id()) {
            let text = format!("cannot make driver {name:?}: the name is taken");
            return Err(Error::new(ErrorKind::NameTaken, text));
        }
        self.drivers.lock().insert(driver.id(), driver.clone());
        self.sends.driver_made(driver);
        if self.is_ending() {
            // Whoever ends the node says so, and looks then which drivers there are: perhaps before this one was there.
            let _driver = self.drivers.lock().remove(&driver.id());
            if named {
                self.registry.lock().remove_driver(name, driver.id());
            }
            return Err(ended());
        }
        Ok(())
    }

    pub(crate) fn driver_ended(&self, id: DriverId, name: &Name, kind: Kind) {
        // The map's reference may be the last: dropped after the lock is released.
        let _driver = self.drivers.lock().remove(&id);
        if kind != Kind::Own {
            self.registry.lock().remove_driver(name, id);
        }
    }

    pub(crate) fn drivers(&self) -> Vec<Arc<DriverCore>> {
        self.drivers.lock().values().cloned().collect()
    }

    pub(crate) fn driver_of(&self, id: DriverId) -> Option<Arc<DriverCore>> {
        self.drivers.lock().get(&id).cloned()
    }

    fn cells(&self) -> Vec<CellRef> {
        self.registry.lock().all()
    }
}

impl fmt::Debug for RuntimeCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("world", &self.world)
            .field("is_ending", &self.is_ending())
            .finish_non_exhaustive()
    }
}

/// A node without topics. The facade's `Node` adds them; the words are the same.
///
/// Dropping the last handle ends the node in order, waiting at most 5 seconds; dropped inside a handler, it only begins
/// the end.
#[derive(Clone)]
pub struct Runtime {
    core: Arc<RuntimeCore>,
    /// Absent in handles that processors are given: those do not keep the node from ending.
    guard: Option<Arc<Guard>>,
}

struct Guard(Weak<RuntimeCore>);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(core) = self.0.upgrade()
            && !core.over.is_complete()
        {
            if core.is_here() {
                let _report = core.shutdown(DEFAULT_LIMIT);
            } else {
                // To let go of threads that this process does not have would touch memory that is not theirs any more.
                std::mem::forget(core);
            }
        }
    }
}

/// How often a snapshot is begun again because a processor ended meanwhile, before it is taken as it is.
const SNAPSHOT_TRIES: u32 = 100;

impl Runtime {
    /// A node on the real machine, with the options of the environment.
    ///
    /// # Errors
    ///
    /// As [`Options::from_environment`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self::with_options(Options::from_environment()?))
    }

    /// A node on the real machine.
    pub fn with_options(options: Options) -> Self {
        Self::in_world(World::Real, options)
    }

    /// A node in a simulated world: one handler runs at a time, chosen by `seed`, in virtual time. Equal programs with
    /// equal seeds run equally. The calling thread takes part: the others run while it waits.
    ///
    /// An environment that makes no sense is reported on standard error, and ignored.
    pub fn simulated(seed: u64) -> Self {
        let options = Options::from_environment().unwrap_or_else(|error| {
            eprintln!("mproc: {error}; going on without it");
            Options::default()
        });
        Self::simulated_with(seed, options)
    }

    /// As [`simulated`](Self::simulated), with options.
    pub fn simulated_with(seed: u64, options: Options) -> Self {
        Self::simulated_with_faults(seed, options, Faults::new())
    }

    /// As [`simulated_with`](Self::simulated_with), in a world that makes faults: wakes come late or for nothing, threads
    /// are delayed, handlers panic. The seed chooses which; equal programs with equal seeds and faults run equally.
    ///
    /// Faults take time. [`settle`](Self::settle) lets none go by, so it does not wait for who is delayed;
    /// [`advance`](Self::advance) does.
    ///
    /// # Examples
    ///
    /// See [`Faults`].
    pub fn simulated_with_faults(seed: u64, options: Options, faults: Faults) -> Self {
        Self::in_world(
            World::Simulated(Simulation::with_faults(seed, faults)),
            options,
        )
    }

    fn in_world(world: World, options: Options) -> Self {
        let core = RuntimeCore::new(world, options);
        let guard = Arc::new(Guard(Arc::downgrade(&core)));
        Self {
            core,
            guard: Some(guard),
        }
    }

    pub(crate) fn from_core(core: Arc<RuntimeCore>) -> Self {
        Self { core, guard: None }
    }

    pub(crate) fn core(&self) -> &Arc<RuntimeCore> {
        &self.core
    }

    /// The options it was made with.
    pub fn options(&self) -> &Options {
        &self.core.options
    }

    /// The time by the node's clock: virtual in a simulated node.
    pub fn now(&self) -> Instant {
        self.core.world.now()
    }

    /// True if time and order are simulated.
    pub fn is_simulated(&self) -> bool {
        self.core.world.is_simulated()
    }

    /// True once the node has been told to end.
    pub fn is_ending(&self) -> bool {
        self.core.is_ending()
    }

    /// True once the end is over: nothing of the node runs any more, but what would not end within its limit.
    pub fn has_ended(&self) -> bool {
        self.core.over.is_complete()
    }

    /// Spawns a processor on a thread of its own, where it may block as it likes.
    ///
    /// # Errors
    ///
    /// [`SpawnError`] by cause; nothing is left behind.
    pub fn spawn_thread<P: Processor + Send>(
        &self,
        name: &str,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        self.spawn_thread_with(name, MailboxOptions::default(), processor)
    }

    /// As [`spawn_thread`](Self::spawn_thread), with a mailbox of one's choice.
    ///
    /// # Errors
    ///
    /// As [`spawn_thread`](Self::spawn_thread), and [`SpawnError::Capacity`] for a capacity of 0, [`SpawnError::Policy`] for a
    /// policy of subscriptions.
    pub fn spawn_thread_with<P: Processor + Send>(
        &self,
        name: &str,
        options: MailboxOptions,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        driver::spawn_thread(&self.core, name, processor, options)
    }

    /// Makes a driver: one thread for several processors.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`], [`ErrorKind::NameTaken`], [`ErrorKind::Closed`] if the node has ended, or
    /// [`ErrorKind::Io`] if the system gives no thread.
    pub fn driver(&self, name: &str) -> Result<Driver, Error> {
        self.driver_with(name, ThreadOptions::default())
    }

    /// As [`driver`](Self::driver), with a thread that stands with the system as `options` say.
    ///
    /// # Errors
    ///
    /// As [`driver`](Self::driver); [`ErrorKind::InvalidSetting`] for options that no thread can have (a core that is not there,
    /// a nice value beyond -20 to 19); [`ErrorKind::Io`] if the system refuses them, or does not know them.
    pub fn driver_with(&self, name: &str, options: ThreadOptions) -> Result<Driver, Error> {
        driver::new_driver(&self.core, name, options)
    }

    /// Makes a pool of `threads` threads, at least 1, for very many processors.
    ///
    /// # Errors
    ///
    /// As [`driver`](Self::driver), and [`ErrorKind::InvalidSetting`] for 0 threads, or more than 65536 with the spare ones.
    pub fn pool(&self, name: &str, threads: usize) -> Result<Pool, Error> {
        self.pool_with(name, PoolOptions::threads(threads))
    }

    /// As [`pool`](Self::pool), with options.
    ///
    /// # Errors
    ///
    /// As [`pool`](Self::pool) and, for what its threads are to be like, [`driver_with`](Self::driver_with).
    pub fn pool_with(&self, name: &str, options: PoolOptions) -> Result<Pool, Error> {
        driver::new_pool(&self.core, name, options)
    }

    /// Spawns a processor on the node's default pool, which is made at the first use: `default pool`, with as many threads as
    /// there are cores, at least 2. It ends with the node; once it was shut down by itself, no other takes its place.
    ///
    /// # Errors
    ///
    /// As [`Pool::spawn`], and [`SpawnError::Thread`] if the pool cannot be made.
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
        let pool = self.default_pool().map_err(|error| {
            let name = Name::new(name);
            match (name, error.kind()) {
                (Err(wrong), _) => SpawnError::Name(wrong),
                (Ok(name), ErrorKind::Closed) => SpawnError::Closed(name),
                (Ok(name), _) => SpawnError::Thread(name, std::io::Error::other(error)),
            }
        })?;
        pool.spawn_with(name, options, processor)
    }

    /// The pool of [`spawn`](Self::spawn), made now if nobody has used it yet.
    ///
    /// # Errors
    ///
    /// As [`pool`](Self::pool): somebody may have taken its name, `default pool`.
    pub fn default_pool(&self) -> Result<Pool, Error> {
        let mut default = self.core.default_pool.lock();
        if let Some(pool) = &*default {
            return Ok(pool.clone());
        }
        let pool = self.pool_with("default pool", PoolOptions::default())?;
        Ok(default.insert(pool).clone())
    }

    /// Makes a driver that the calling thread runs by spinning.
    ///
    /// # Errors
    ///
    /// As [`driver`](Self::driver).
    pub fn manual(&self, name: &str) -> Result<Manual, Error> {
        Manual::new(&self.core, name)
    }

    /// The processor called `name`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if no living processor has the name; [`ErrorKind::TypeConflict`], naming both types, if it
    /// is not a `P`.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, ErrorKind, Handle, Outcome, Processor, Runtime};
    /// struct Camera;
    /// struct Lamp;
    /// impl Processor for Camera {}
    /// impl Processor for Lamp {}
    ///
    /// let node = Runtime::simulated(1);
    /// let camera = node.spawn_thread("camera", Camera)?;
    /// assert_eq!(node.lookup::<Camera>("camera")?, camera);
    /// let wrong = node.lookup::<Lamp>("camera").unwrap_err();
    /// assert_eq!(wrong.kind(), ErrorKind::TypeConflict);
    /// let nobody = node.lookup::<Lamp>("lamp").unwrap_err();
    /// assert_eq!(nobody.kind(), ErrorKind::NotFound);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn lookup<P: Processor>(&self, name: &str) -> Result<Address<P>, Error> {
        // Its own statement: whatever is dropped below, the lock is released.
        let found = self.core.registry.lock().find(name);
        match found {
            None => {
                let text = format!("cannot find processor {name:?}: no living one has the name");
                Err(Error::new(ErrorKind::NotFound, text))
            }
            Some(Found::Driver) => Err(Error::new(
                ErrorKind::TypeConflict,
                format!("cannot find processor {name:?}: it is a driver"),
            )),
            Some(Found::Processor(cell)) => {
                let type_name = cell.type_name();
                let cell = cell.as_any().downcast::<Cell<P>>().map_err(|_| {
                    let wanted = std::any::type_name::<P>();
                    let text = format!(
                        "cannot find processor {name:?}: it is a {type_name}, not a {wanted}"
                    );
                    Error::new(ErrorKind::TypeConflict, text)
                })?;
                Ok(Address::from_cell(cell))
            }
        }
    }

    /// The last messages that were dropped.
    pub fn dead_letters(&self) -> &DeadLetters {
        &self.core.dead_letters
    }

    /// What is known of the program now. Nothing in a child that was forked from the process that made the node.
    pub fn snapshot(&self) -> Snapshot {
        if !self.core.is_here() {
            // A lock may be held here by a thread that the child does not have.
            return Snapshot::default();
        }
        let drivers = self.core.drivers();
        // A processor that ends while we count is among the living or in the sums of those that have ended. So that it is in
        // one of them and not in both, count again if any has ended meanwhile.
        let (mut totals, mut processors);
        let mut tries = 0;
        loop {
            let quiet = self.core.filing.load(SeqCst) == 0;
            totals = self.core.ended.lock().clone();
            let before = totals.ended;
            processors = Vec::new();
            for cell in self.core.cells() {
                if let Some(snapshot) = cell.snapshot_unless_filed() {
                    totals.add(&snapshot);
                    if snapshot.ended.is_none() {
                        processors.push(snapshot);
                    }
                }
            }
            tries += 1;
            let quiet = quiet && self.core.filing.load(SeqCst) == 0;
            if (quiet && self.core.ended.lock().ended == before) || tries == SNAPSHOT_TRIES {
                break;
            }
        }
        processors.sort_by_key(|p| p.id);
        Snapshot {
            processors,
            drivers: drivers.iter().map(|d| d.snapshot()).collect(),
            totals,
            dead_letters: self.core.dead_letters.count(),
        }
    }

    /// Ends the node in order, waiting at most `limit`: timers stop, what is queued is handled, processors end, threads
    /// are joined. What has not ended then is told to end as soon as its handler returns, and is named in the report.
    ///
    /// # Deadlocks
    ///
    /// Works from any thread, and serves the scripts of the calling thread meanwhile. From inside a handler or callback it
    /// does not wait, because the end waits for that very handler: it only begins the end, and says so
    /// ([`ShutdownReport::only_begun`]).
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// # use std::time::Duration;
    /// let node = Runtime::simulated(1);
    /// let sink = node.spawn_thread("sink", closure(|_: u8, _cx| ()))?;
    /// for n in 0..100 {
    ///     sink.send(n)?;
    /// }
    /// let report = node.shutdown(Duration::from_secs(1));
    /// assert!(report.is_clean(), "{report}"); // says who was left, if anybody
    /// assert_eq!(node.snapshot().totals.handled, 100);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        self.core.shutdown(limit)
    }

    /// Tells the node to end, without waiting. A script that spins carries it out.
    pub fn request_shutdown(&self) {
        self.core.begin_end(DEFAULT_LIMIT);
    }

    /// Cuts an end short that has begun: every processor ends as soon as its handler returns, and what is queued is
    /// dropped and counted. Leases are given back all the same.
    pub fn cut_short(&self) {
        if self.core.is_ending() {
            for cell in self.core.cells() {
                cell.signal(Signals::KILL);
            }
        }
    }

    /// Waits until nothing is queued and nobody is in a handler. Time does not go on meanwhile in a simulated node; in a
    /// real one it gives up after 5 seconds.
    ///
    /// For tests.
    pub fn settle(&self) {
        match &self.core.world {
            World::Simulated(simulation) => simulation.settle(),
            World::Real => self.core.wait_until_quiet(DEFAULT_LIMIT),
        }
    }

    /// Lets `time` go by: at once in a simulated node, as a sleep in a real one. Everything that is due by then has been
    /// handled.
    ///
    /// For tests.
    pub fn advance(&self, time: Duration) {
        let until = self.now().checked_add(time);
        while until.is_none_or(|until| self.now() < until) {
            self.core.world.park(until);
        }
        self.settle();
    }

    /// How many choices a simulated node has made, and a number that is equal for equal runs; `None` in a real one.
    pub fn fingerprint(&self) -> Option<(u64, u64)> {
        match &self.core.world {
            World::Simulated(simulation) => Some(simulation.fingerprint()),
            World::Real => None,
        }
    }

    /// How many faults a simulated node has made so far ([`Faults`]); `None` for a real one.
    pub fn fault_counts(&self) -> Option<FaultCounts> {
        match &self.core.world {
            World::Simulated(simulation) => Some(simulation.fault_counts()),
            World::Real => None,
        }
    }

    /// What a layer above keeps per node, by type, made at the first use.
    pub fn extension<T: Send + Sync + 'static>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut extensions = self.core.extensions.lock();
        let id = TypeId::of::<T>();
        if let Some((_, found)) = extensions.iter().find(|(t, _)| *t == id)
            && let Ok(found) = found.clone().downcast()
        {
            return found;
        }
        let made = Arc::new(make());
        extensions.push((id, made.clone()));
        made
    }

    /// A waker for the calling thread, and [`park`](Self::park) to sleep until it is woken: for layers whose operations
    /// block.
    pub fn waker(&self) -> Waker {
        self.core.world.waker()
    }

    /// Sleeps until this thread's waker is woken or `deadline` has come; perhaps shorter.
    pub fn park(&self, deadline: Option<Instant>) {
        let _blocks = driver::about_to_block();
        self.core.world.park(deadline);
    }

    /// Looks again and again for a short while, as long as sleeping would cost. True as soon as `done` is.
    pub fn spin_until(&self, done: impl Fn() -> bool) -> bool {
        self.core.spin_until(done)
    }

    /// True if only the calling thread can run what that driver runs, and it does not while it waits.
    pub fn only_here(&self, driver: DriverId) -> bool {
        current::only_here(driver)
    }

    /// True inside a handler or callback.
    pub fn in_handler(&self) -> bool {
        current::handler().is_some()
    }

    /// What all handles share, for operations.
    pub fn shared(&self) -> Arc<RuntimeCore> {
        self.core.clone()
    }

    /// A handle that does not keep the node from ending, for layers that are kept by the node itself.
    pub fn without_guard(&self) -> Self {
        Self::from_core(self.core.clone())
    }

    /// As [`without_guard`](Self::without_guard), of what [`shared`](Self::shared) gave.
    pub fn of_shared(core: Arc<RuntimeCore>) -> Self {
        Self::from_core(core)
    }

    /// True if both are handles of one node.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.core, &other.core)
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = &self.guard;
        fmt::Debug::fmt(&self.core, f)
    }
}
