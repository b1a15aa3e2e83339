//! A worker: one thread of a pool.

use super::queues::{WorkerQueue, steal_half, take_batch, take_one};
use super::{PoolCore, WorkerShared};
use crate::cell::{After, CellRef};
use crate::current;
use crate::driver::simulated::Random;
use crate::driver::sleep::Standing;
use crate::driver::{DriverCore, QUANTUM, manual};
use crate::id::DriverId;
use crate::runtime::Idle;
use crate::sync::{Relaxed, SeqCst, spin_loop};
use crate::world::World;
use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;

/// Every so many picks the injector comes first, or a worker whose own queue never runs dry would never see it.
const INJECTOR_EVERY: u32 = 61;
/// So many cells in a row come from the slot.
const SLOT_RUN: u32 = 3;
/// While a worker spins, it looks into the queues of others every so many turns.
const LOOK_EVERY: u32 = 16;

/// What a worker keeps for itself.
struct Worker {
    core: Arc<DriverCore>,
    number: usize,
    queue: WorkerQueue<CellRef>,
    /// In how many waits, one inside the other, its handler is.
    waits: Cell<u32>,
}

#[cfg(not(any(loom, shuttle)))]
crate::sync::thread_local! {
    /// The worker that this thread is, if it is one.
    static HERE: RefCell<Option<Worker>> = const { RefCell::new(None) };
}

#[cfg(any(loom, shuttle))]
crate::sync::thread_local! {
    static HERE: RefCell<Option<Worker>> = RefCell::new(None);
}

/// True if the calling thread works for the pool `driver`.
pub(crate) fn works_for(driver: DriverId) -> bool {
    // A thread that is being torn down works for nobody.
    HERE.try_with(|here| {
        here.borrow()
            .as_ref()
            .is_some_and(|w| w.core.id() == driver)
    })
    .unwrap_or(false)
}

/// The calling thread begins to wait. `None` unless it is a worker that serves a cell: in a handler, or dropping what the cell
/// held. Else its pool and its number, if it waits for nothing yet.
pub(super) fn begin_to_wait() -> Option<Option<(Arc<DriverCore>, usize)>> {
    // A thread that is being torn down works for nobody.
    let begun = HERE.try_with(|here| {
        let here = here.borrow();
        let worker = here.as_ref().filter(|worker| worker.serves())?;
        let waits = worker.waits.replace(worker.waits.get() + 1);
        Some((waits == 0).then(|| (worker.core.clone(), worker.number)))
    });
    begun.ok().flatten()
}

/// The end of a wait that [`begin_to_wait`] has counted.
pub(super) fn end_to_wait() {
    HERE.with(|here| {
        if let Some(worker) = &*here.borrow() {
            worker.waits.set(worker.waits.get() - 1);
        }
    });
}

/// Queues a cell at the worker that the calling thread is; gives it back if it is none of this pool's.
#[inline]
pub(super) fn push_here(pool: &PoolCore, driver: DriverId, cell: CellRef) -> Option<CellRef> {
    if current::driver() != Some(driver) {
        return Some(cell);
    }
    HERE.with(|here| {
        let here = here.borrow();
        let Some(worker) = here.as_ref().filter(|w| w.core.id() == driver) else {
            return Some(cell);
        };
        if worker.waits.get() > 0 {
            // Another runs in its place.
            return Some(cell);
        }
        let Some(shared) = pool.workers[worker.number].get() else {
            return Some(cell);
        };
        if !worker.serves() {
            worker.requeue(pool, shared, cell);
            return None;
        }
        // What a handler wakes runs next on this thread, and what it woke before is work for everybody.
        let before = shared.slot.lock().replace(cell);
        if let Some(before) = before {
            worker.queue.push(before);
            pool.sleep.notify();
        }
        None
    })
}

impl Worker {
    /// It is inside a visit, or in a handler of a script that ends here. Not between two cells, where it soon looks at what
    /// there is.
    fn serves(&self) -> bool {
        if current::handler().is_some() {
            return true;
        }
        let shared = self.core.pool().map(|pool| &pool.workers[self.number]);
        shared
            .and_then(std::sync::OnceLock::get)
            .is_some_and(|shared| shared.activity.visit().is_some())
    }

    /// To the back of the queue. Nobody is woken for a cell that this worker takes next.
    fn requeue(&self, pool: &PoolCore, shared: &WorkerShared, cell: CellRef) {
        let is_next = self.queue.is_empty() && shared.slot.lock().is_none();
        self.queue.push(cell);
        if !is_next {
            pool.sleep.notify();
        }
    }
}

/// Puts what is in this worker's slot and queue where everybody finds it.
pub(super) fn give_away(pool: &PoolCore, driver: DriverId) {
    let given = HERE.with(|here| {
        let here = here.borrow();
        let Some(worker) = here.as_ref().filter(|w| w.core.id() == driver) else {
            return false;
        };
        let mut any = false;
        let slot = pool.workers[worker.number]
            .get()
            .and_then(|shared| shared.slot.lock().take());
        for cell in slot
            .into_iter()
            .chain(std::iter::from_fn(|| worker.queue.pop()))
        {
            pool.injector.push(cell);
            any = true;
        }
        any
    });
    if given {
        pool.sleep.notify();
    }
}

/// The loop of a worker, and what it knows that nobody else needs to.
struct Loop<'a> {
    core: &'a Arc<DriverCore>,
    pool: &'a PoolCore,
    shared: &'a WorkerShared,
    number: usize,
    waker: Waker,
    picks: u32,
    slot_run: u32,
    /// The last cell has used up its turn, and stands at the back: those who wait at the injector come before it.
    turn_used_up: bool,
    searching: bool,
    random: Random,
}

/// Runs on a thread of its own.
pub(super) fn run(core: &Arc<DriverCore>, number: usize, queue: WorkerQueue<CellRef>) {
    let Some(pool) = core.pool() else { return };
    let Some(shared) = pool.workers[number].get() else {
        return;
    };
    core.apply_thread_options();
    current::set_driver(Some(core.id()));
    HERE.with(|here| {
        *here.borrow_mut() = Some(Worker {
            core: core.clone(),
            number,
            queue,
            waits: Cell::new(0),
        });
    });
    let mut this = Loop {
        core,
        pool,
        shared,
        number,
        waker: core.world().waker(),
        picks: 0,
        slot_run: 0,
        turn_used_up: false,
        searching: false,
        random: Random::new(number as u64),
    };
    while this.turn() {}
    this.leave();
    let _worker = HERE.with(|here| here.borrow_mut().take());
    current::set_driver(None);
}

impl Loop<'_> {
    /// One cell, or a sleep. False: the worker leaves.
    fn turn(&mut self) -> bool {
        if self.pool.surplus.load(Relaxed) {
            // Whoever sleeps does not search.
            self.stop_searching();
            if self.core.retire(self.number, &self.waker) {
                current::forget_clock();
            }
        }
        self.core.fire_due();
        if let Some(cell) = self.take() {
            self.stop_searching();
            self.serve(cell);
            return true;
        }
        // Whoever searches is counted on, and does nothing else: what ends here may take long. After each cell, there is a first
        // time without.
        if !self.searching {
            manual::end_orphans();
        }
        if self.core.pool_may_leave() {
            return false;
        }
        if !self.searching && self.pool.sleep.begin_search(self.pool.options.threads) {
            self.searching = true;
            return true;
        }
        self.rest();
        true
    }

    /// Rule 3.
    fn stop_searching(&mut self) {
        if std::mem::take(&mut self.searching) && self.pool.sleep.found() && self.pool.has_work() {
            self.pool.sleep.notify();
        }
    }

    fn serve(&mut self, cell: CellRef) {
        let world = self.core.world();
        let budget = if world.is_simulated() { 1 } else { QUANTUM };
        let activity = &self.shared.activity;
        activity.begin(cell.id());
        let (cell, after, _served) = cell.run(budget);
        if activity.end() {
            self.core.watched_visit_is_over(activity);
        }
        self.turn_used_up = after == After::Again;
        match after {
            After::Again => HERE.with(|here| {
                if let Some(worker) = &*here.borrow() {
                    worker.requeue(self.pool, self.shared, cell);
                }
            }),
            // Not the last reference, or its drop is the user's code: nothing is borrowed here.
            After::Idle | After::Ended => drop(cell),
        }
        world.choice_point();
    }

    /// What to run next.
    fn take(&mut self) -> Option<CellRef> {
        self.picks = self.picks.wrapping_add(1);
        let injector_first = match self.core.world() {
            World::Real => self.turn_used_up || self.picks.is_multiple_of(INJECTOR_EVERY),
            World::Simulated(simulation) => simulation.random_below(4) == 0,
        };
        HERE.with(|here| {
            let here = here.borrow();
            let Worker { queue, .. } = here.as_ref()?;
            if injector_first && let Some(cell) = take_one(&self.pool.injector) {
                // What this worker was to take next has to wait: others may want it.
                if !queue.is_empty() {
                    self.pool.sleep.notify();
                }
                return Some(cell);
            }
            let slot = self.shared.slot.lock().take();
            if let Some(cell) = slot {
                if self.slot_run < SLOT_RUN {
                    self.slot_run += 1;
                    if !queue.is_empty() {
                        self.pool.sleep.notify();
                    }
                    return Some(cell);
                }
                queue.push(cell);
            }
            self.slot_run = 0;
            queue
                .pop()
                .or_else(|| take_batch(&self.pool.injector, queue))
                .or_else(|| {
                    if self.searching {
                        self.steal(queue)
                    } else {
                        None
                    }
                })
        })
    }

    /// From the others, beginning with any.
    fn steal(&mut self, queue: &WorkerQueue<CellRef>) -> Option<CellRef> {
        let started = self.pool.workers().count();
        let first = match self.core.world() {
            World::Real => self.random.below(started as u64),
            World::Simulated(simulation) => simulation.random_below(started as u64),
        } as usize;
        let others = (0..started).map(|n| (first + n) % started);
        for other in others.filter(|other| *other != self.number) {
            let Some(victim) = self.pool.workers[other].get() else {
                continue;
            };
            if let Some(cell) = steal_half(&victim.stealer, queue) {
                let steals = &self.shared.counters.steals;
                steals.store(steals.load(Relaxed) + 1, Relaxed);
                return Some(cell);
            }
        }
        None
    }

    /// There is nothing to do: looks on for a moment, then sleeps until there is. It searches afterwards.
    fn rest(&mut self) {
        current::forget_clock();
        let runtime = self.core.runtime();
        let simulated = self.core.world().is_simulated();
        match runtime.options.idle {
            Idle::Spin if !simulated => {
                if runtime.is_idle_watched() {
                    runtime.a_driver_is_idle();
                }
                spin_loop();
                return;
            }
            // Counted as searching while it looks on, so that whoever adds work need not wake anybody.
            Idle::SpinThenPark if self.searching && self.spin() => return,
            _ => {}
        }
        self.pool
            .sleep
            .lie_down(self.number, self.waker.clone(), self.searching);
        self.searching = true;
        if self.pool.has_work() || self.pool.surplus.load(SeqCst) {
            self.pool.sleep.get_up(self.number);
            return;
        }
        runtime.a_driver_is_idle();
        self.shared.activity.sleeps();
        loop {
            let standing = self.pool.sleep.standing(self.number);
            let until = match standing {
                Standing::Taken => break,
                Standing::Keeper => self.core.nearest_deadline(),
                Standing::Asleep => None,
            };
            if self.core.pool_may_leave() {
                self.pool.sleep.get_up(self.number);
                break;
            }
            if until.is_some_and(|until| self.core.world().now() >= until) {
                // What is due goes to this worker's queue, and somebody is woken for it, perhaps this very one.
                self.core.fire_due();
                if self.pool.has_work() {
                    self.pool.sleep.notify();
                }
                continue;
            }
            let parks = &self.shared.counters.parks;
            parks.store(parks.load(Relaxed) + 1, Relaxed);
            self.core.world().park(until);
        }
        self.core.woke_up(&self.shared.activity);
    }

    /// True if something came.
    fn spin(&self) -> bool {
        for n in 1..=self.core.world().spins() {
            if !self.pool.injector.is_empty()
                || (n.is_multiple_of(LOOK_EVERY) && self.pool.has_work())
            {
                return true;
            }
            spin_loop();
        }
        false
    }

    fn leave(&mut self) {
        self.stop_searching();
        // The end of a visit may overlook that its place was given away meanwhile.
        let (lent, _) = self.shared.activity.settle();
        if lent {
            self.core.take_back();
        }
        self.core.worker_left();
    }
}
