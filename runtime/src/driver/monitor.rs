//! The monitor: one thread of a node that looks, now and then, at what the drivers are at.
//!
//! It does what a driver that is inside a long handler cannot do for itself: it gives the place of a pool's thread away when
//! work waits and nobody takes it, sees to the cell that waits in the slot of such a thread, and says which handlers take
//! longer than a second.
//!
//! It is awake only while some driver is: a driver that wakes up wakes the monitor if that is asleep. Both sides say first
//! and look then (SeqCst throughout): the driver says that it is awake and looks whether the monitor sleeps; the monitor says
//! that it sleeps and looks whether a driver is awake. So one of them sees the other. A visit that is known to wait, or was
//! reported, does not keep it awake; the end of one that was reported wakes it. So nobody looks for work that comes later
//! to a pool of which all threads are inside such visits: before the monitor sleeps, one of their places is given away.
//!
//! Scripts are not watched: what they do between two spins is nobody's business. There is no monitor in a simulated world,
//! where no handler takes time.

use super::activity::{Activity, Visit};
use super::{DriverCore, Kind};
use crate::hook;
use crate::id::DriverId;
use crate::runtime::RuntimeCore;
use crate::sync::{AtomicBool, Mutex, SeqCst, thread as sync_thread};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// How often it looks while a pool is busy: a visit that lasts over two looks is long.
const TICK: Duration = Duration::from_millis(10);
/// How often it looks while only drivers are busy whose thread nobody can replace.
const SLOW_TICK: Duration = Duration::from_millis(250);
/// A handler that takes longer is reported.
const LONG: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Monitor {
    asleep: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    thread: Option<(Waker, Option<sync_thread::JoinHandle<()>>)>,
    running: bool,
    ending: bool,
}

/// What was seen of a thread at the last look.
struct Seen {
    visit: u64,
    since: Instant,
    looks: u32,
}

impl Monitor {
    /// Starts the thread, if it does not run yet.
    pub(crate) fn start(runtime: &Arc<RuntimeCore>) {
        if runtime.world.is_simulated() || cfg!(any(loom, shuttle)) {
            return;
        }
        {
            let mut state = runtime.monitor.state.lock();
            if state.ending || std::mem::replace(&mut state.running, true) {
                return;
            }
        }
        let core = runtime.clone();
        let thread = runtime
            .world
            .spawn("mproc monitor", move || core.monitor.run(&core));
        let mut state = runtime.monitor.state.lock();
        match thread {
            Ok(thread) => {
                if let Some((_, handle)) = &mut state.thread {
                    *handle = Some(thread);
                } else {
                    state.thread = Some((Waker::noop().clone(), Some(thread)));
                }
            }
            // Without it long handlers are seen when they return. The next driver tries again.
            Err(_) => state.running = false,
        }
    }

    /// A driver has woken up.
    #[inline]
    pub(crate) fn look_up(&self) {
        if self.asleep.load(SeqCst) {
            self.wake();
        }
    }

    #[cold]
    pub(crate) fn wake(&self) {
        if !self.asleep.swap(false, SeqCst) {
            return;
        }
        let waker = self.state.lock().thread.as_ref().map(|(w, _)| w.clone());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn run(&self, core: &Arc<RuntimeCore>) {
        let waker = core.world.waker();
        {
            let mut state = self.state.lock();
            match &mut state.thread {
                Some((kept, _)) => *kept = waker,
                None => state.thread = Some((waker, None)),
            }
        }
        let mut seen = BTreeMap::new();
        loop {
            if self.state.lock().ending {
                return;
            }
            let now = core.world.now();
            let tick = look(&core.drivers(), &mut seen, now);
            if let Some(tick) = tick {
                core.world.park(now.checked_add(tick));
                continue;
            }
            self.asleep.store(true, SeqCst);
            if look(&core.drivers(), &mut seen, now).is_some() {
                self.asleep.store(false, SeqCst);
                continue;
            }
            while self.asleep.load(SeqCst) && !self.state.lock().ending {
                core.world.park(None);
            }
            seen.clear();
        }
    }

    /// The node has ended: the thread leaves.
    pub(crate) fn end(&self) {
        let thread = {
            let mut state = self.state.lock();
            state.ending = true;
            state.thread.take()
        };
        self.asleep.store(false, SeqCst);
        if let Some((waker, thread)) = thread {
            waker.wake();
            if let Some(thread) = thread {
                let _panicked = thread.join();
            }
        }
    }
}

/// When to look again; `None` if all sleep, or do what need not be watched.
fn look(
    drivers: &[Arc<DriverCore>],
    seen: &mut BTreeMap<(DriverId, usize), Seen>,
    now: Instant,
) -> Option<Duration> {
    let mut next = None;
    for driver in drivers.iter().filter(|d| d.kind != Kind::Manual) {
        let mut long = Vec::new();
        for (number, activity) in driver.activities().enumerate() {
            if activity.is_asleep() {
                continue;
            }
            let Some(visit) = activity.visit() else {
                next = shorter(next, driver);
                continue;
            };
            let seen = seen.entry((driver.id(), number)).or_insert(Seen {
                visit: visit.number,
                since: now,
                looks: 0,
            });
            if seen.visit != visit.number {
                (seen.visit, seen.since, seen.looks) = (visit.number, now, 0);
            }
            seen.looks += 1;
            if !visit.is_known {
                next = shorter(next, driver);
                if now.saturating_duration_since(seen.since) >= LONG {
                    activity.report(visit.number);
                    report(driver, visit.of);
                }
            }
            if seen.looks > 1 || visit.is_reported {
                long.push((number, activity, visit));
            }
        }
        if driver.relieve(&long) {
            next = shorter(next, driver);
        }
    }
    // Some are of drivers that have ended.
    let mut living: Vec<_> = drivers.iter().map(|driver| driver.id()).collect();
    living.sort_unstable();
    seen.retain(|(driver, _), _| living.binary_search(driver).is_ok());
    next
}

fn shorter(tick: Option<Duration>, driver: &DriverCore) -> Option<Duration> {
    let own = if driver.pool().is_some() {
        TICK
    } else {
        SLOW_TICK
    };
    Some(tick.map_or(own, |tick| tick.min(own)))
}

fn report(driver: &DriverCore, id: crate::ProcessorId) {
    if let Some(cell) = driver.member(id) {
        let snapshot = cell.snapshot();
        let of = snapshot.last_message_type.unwrap_or_default();
        hook::handler_takes_long(cell.name(), &of, snapshot.handling_ns.unwrap_or(0));
    }
}

impl DriverCore {
    /// What each of its threads is at.
    fn activities(&self) -> impl Iterator<Item = &Activity> {
        let pool = self.pool().into_iter().flat_map(|pool| pool.activities());
        std::iter::once(&self.activity)
            .filter(|_| self.pool().is_none())
            .chain(pool)
    }

    /// Some of a pool's threads are inside long visits: sees to what waits for them, and to what will. True if that is
    /// to be looked at again.
    fn relieve(self: &Arc<Self>, long: &[(usize, &Activity, Visit)]) -> bool {
        let Some(pool) = self.pool() else {
            return false;
        };
        for &(number, _, _) in long {
            pool.empty_slot(number);
        }
        // Others run in the places of the rest.
        let holding = || {
            long.iter()
                .filter(|(_, activity, _)| !activity.is_replaced())
        };
        let Some((_, activity, visit)) = holding().next() else {
            return false;
        };
        if !pool.is_held_by(holding().count()) {
            return false;
        }
        // Of what comes after all are known, nobody will know.
        let all_are_known = holding().all(|(_, _, visit)| visit.is_known);
        if !(all_are_known || pool.has_work() || self.has_due()) {
            return false;
        }
        // One at a time: if work still waits at the next look, another follows.
        self.lend(activity, visit.number);
        true
    }

    /// A thread of this driver has been asleep.
    pub(super) fn woke_up(&self, activity: &Activity) {
        activity.wakes();
        self.runtime.monitor.look_up();
    }

    /// The monitor has asked to be told when this visit is over.
    #[cold]
    pub(super) fn watched_visit_is_over(&self, activity: &Activity) {
        let (lent, reported) = activity.settle();
        if lent {
            self.take_back();
        }
        if reported {
            self.runtime.monitor.wake();
        }
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests;
