//! How many threads of a pool run. One that blocks inside a handler is replaced, so that as many go on as the pool was made
//! with.
//!
//! | a thread   | is                                                                        | becomes                                   |
//! |------------|---------------------------------------------------------------------------|-------------------------------------------|
//! | running    | busy, searching or asleep: it serves, or would if there were work         | blocked, retired                          |
//! | blocked    | inside a handler that waits (`Blocks`), or takes so long that the monitor has given its place away (`lent`) | running |
//! | retired    | a spare one, asleep until a running thread blocks                         | running                                   |
//!
//! When a thread blocks, a retired one takes its place; if there is none, one is started, up to a limit. When it goes on there
//! is one too many, and the next that comes between two cells retires.

use super::queues::WorkerQueue;
use super::{PoolCore, WorkerCounters, WorkerShared, worker};
use crate::driver::{Activity, DriverCore};
use crate::hook;
use crate::sync::{Mutex, SeqCst};
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// That no thread is left is told no more often than this; it is counted each time.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// See the module's documentation.
#[derive(Default)]
pub(super) struct Threads {
    /// Ever started: the next one's number.
    started: usize,
    /// Not yet left.
    living: usize,
    running: usize,
    retired: Vec<(usize, Waker)>,
    /// How often a thread blocked and nothing could take its place.
    exhausted: u64,
    /// When that was told last.
    told: Option<Instant>,
}

/// What to do when a thread has blocked.
enum Replace {
    /// Enough others run.
    Nothing,
    Wake(Waker),
    Start(usize),
    /// Nothing can be done.
    Exhausted {
        tell: bool,
    },
}

impl Threads {
    pub(super) fn living(&self) -> usize {
        self.living
    }

    pub(super) fn running(&self) -> usize {
        self.running
    }

    pub(super) fn blocked(&self) -> usize {
        self.living - self.running - self.retired.len()
    }

    pub(super) fn exhausted(&self) -> u64 {
        self.exhausted
    }

    fn start_one(&mut self) -> usize {
        let number = self.started;
        self.started += 1;
        self.living += 1;
        self.running += 1;
        number
    }

    fn stop_running(&mut self, wanted: usize, most: usize, now: Instant) -> Replace {
        self.running -= 1;
        if self.running >= wanted {
            return Replace::Nothing;
        }
        if let Some((_, waker)) = self.retired.pop() {
            self.running += 1;
            return Replace::Wake(waker);
        }
        if self.started < most {
            return Replace::Start(self.start_one());
        }
        self.exhausted += 1;
        let is_news = self
            .told
            .is_none_or(|told| now.saturating_duration_since(told) >= TELL_EVERY);
        let tell = self.running == 0 && is_news;
        if tell {
            self.told = Some(now);
        }
        Replace::Exhausted { tell }
    }
}

impl DriverCore {
    /// Starts the threads that the pool was made with.
    pub(super) fn start_workers(self: &Arc<Self>) -> std::io::Result<()> {
        let Some(pool) = self.pool() else {
            return Ok(());
        };
        for _ in 0..pool.options.threads {
            let number = pool.threads.lock().start_one();
            if let Err(error) = self.start_worker(pool, number) {
                // Those that were started leave.
                self.end_when_empty();
                return Err(error);
            }
        }
        Ok(())
    }

    fn start_worker(self: &Arc<Self>, pool: &PoolCore, number: usize) -> std::io::Result<()> {
        let queue = WorkerQueue::new_fifo();
        let stealer = queue.stealer();
        // The number was given to nobody else.
        let _new = pool.workers[number].set(WorkerShared {
            stealer,
            slot: Mutex::new(None),
            activity: Activity::default(),
            counters: WorkerCounters::default(),
        });
        let core = self.clone();
        let name = format!("{}-{number}", self.name());
        let thread = self
            .world()
            .spawn(&name, move || worker::run(&core, number, queue));
        match thread {
            Ok(thread) => {
                self.add_thread(thread);
                Ok(())
            }
            Err(error) => {
                if let Some(shared) = pool.workers[number].get() {
                    // There is nobody whom the monitor should watch.
                    shared.activity.sleeps();
                }
                // Meanwhile it was counted as living, and another may have left that was not the last for this one.
                self.worker_left();
                Err(error)
            }
        }
    }

    /// A running thread does not run any more: sees to it that as many others do as should.
    fn replace_one(self: &Arc<Self>, pool: &PoolCore) {
        let most = pool.workers.len();
        let replace =
            pool.threads
                .lock()
                .stop_running(pool.options.threads, most, self.world().now());
        match replace {
            Replace::Nothing => {}
            Replace::Wake(waker) => waker.wake(),
            Replace::Start(number) => {
                if let Err(error) = self.start_worker(pool, number) {
                    pool.threads.lock().exhausted += 1;
                    hook::no_spare_thread(self.name(), &error.to_string(), &self.handling());
                }
            }
            Replace::Exhausted { tell } => {
                if tell {
                    let text = format!("all {most} threads are blocked");
                    hook::no_spare_thread(self.name(), &text, &self.handling());
                }
            }
        }
    }

    fn run_again(&self, pool: &PoolCore) {
        let mut threads = pool.threads.lock();
        threads.running += 1;
        if threads.running > pool.options.threads {
            // Partner: `Loop::rest`, which looks at it after it has said that it is asleep.
            pool.surplus.store(true, SeqCst);
        }
    }

    /// Called between two cells: if more threads run than should, this one gives its cells away and sleeps until it is
    /// needed. True if it slept.
    pub(super) fn retire(&self, number: usize, waker: &Waker) -> bool {
        let Some(pool) = self.pool() else {
            return false;
        };
        let Some(shared) = pool.workers[number].get() else {
            return false;
        };
        {
            let mut threads = pool.threads.lock();
            if threads.running <= pool.options.threads || pool.ending.load(SeqCst) {
                pool.surplus.store(false, SeqCst);
                return false;
            }
            threads.running -= 1;
            threads.retired.push((number, waker.clone()));
            if threads.running == pool.options.threads {
                pool.surplus.store(false, SeqCst);
            }
        }
        worker::give_away(pool, self.id());
        shared.activity.sleeps();
        loop {
            let mut threads = pool.threads.lock();
            let Some(at) = threads.retired.iter().position(|(n, _)| *n == number) else {
                break;
            };
            if pool.ending.load(SeqCst) {
                threads.retired.swap_remove(at);
                threads.running += 1;
                break;
            }
            drop(threads);
            self.runtime().a_driver_is_idle();
            self.world().park(None);
        }
        self.woke_up(&shared.activity);
        true
    }

    /// The monitor has found that a worker's visit takes long, while work waits and nobody takes it: another thread takes
    /// its place. `visit` is the one that was seen.
    pub(in crate::driver) fn lend(self: &Arc<Self>, activity: &Activity, visit: u64) {
        let Some(pool) = self.pool() else { return };
        if activity.lend(visit) {
            self.replace_one(pool);
        }
    }

    /// A lent visit is over.
    pub(in crate::driver) fn take_back(&self) {
        if let Some(pool) = self.pool() {
            self.run_again(pool);
        }
    }

    /// A worker has left its loop. The last one ends the pool.
    pub(super) fn worker_left(self: &Arc<Self>) {
        let Some(pool) = self.pool() else { return };
        let is_last = {
            let mut threads = pool.threads.lock();
            threads.living -= 1;
            threads.running -= 1;
            threads.living == 0
        };
        if is_last {
            pool.over.store(true, SeqCst);
            while super::queues::take_one(&pool.injector).is_some() {}
            self.finish();
        } else {
            // Another may have gone to sleep after the last ring.
            pool.ring_all();
        }
    }
}

impl PoolCore {
    pub(super) fn ring_spares(&self) {
        let retired: Vec<_> = {
            let threads = self.threads.lock();
            threads.retired.iter().map(|(_, w)| w.clone()).collect()
        };
        retired.into_iter().for_each(Waker::wake);
    }
}

/// While it lives, the calling thread counts as blocked: another takes its place in the pool. Nothing on threads that work for
/// no pool.
#[must_use]
pub(crate) struct Blocks {
    /// The pool and the thread's number, for the outermost of several.
    works_for: Option<(Arc<DriverCore>, usize)>,
    /// The worker has counted this wait.
    counted: bool,
    /// It is about the calling thread.
    not_send: PhantomData<*mut ()>,
}

/// The calling thread is about to block.
pub(crate) fn about_to_block() -> Blocks {
    let begun = worker::begin_to_wait();
    let counted = begun.is_some();
    let works_for = begun.flatten();
    if let Some((core, number)) = &works_for
        && let Some(pool) = core.pool()
        && let Some(shared) = pool.workers[*number].get()
    {
        worker::give_away(pool, core.id());
        if !shared.activity.block() {
            core.replace_one(pool);
        }
    }
    Blocks {
        works_for,
        counted,
        not_send: PhantomData,
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        if !self.counted {
            return;
        }
        worker::end_to_wait();
        if let Some((core, number)) = &self.works_for
            && let Some(pool) = core.pool()
            && let Some(shared) = pool.workers[*number].get()
        {
            shared.activity.go_on();
            core.run_again(pool);
        }
    }
}
