//! Limits of operations that are awaited on somebody else's executor, which has no timers that we could use; and the alarms of
//! clocks ([`ClockCore`](crate::clocks::core::ClockCore)).
//!
//! One thread per node, started at the first such operation, asleep while none is near its limit. Blocking waits do not
//! need it (their thread sleeps until the limit), nor do continuations (their driver has deadlines of its own).

use crate::executor;
use crate::runtime::RuntimeCore;
use crate::sync::Mutex;
use crate::timer::{Deadline, Deadlines};
use std::fmt;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

#[derive(Debug, Default)]
pub(crate) struct TimeKeeper {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    deadlines: Option<Deadlines<Arc<Mutex<Bell>>>>,
    /// Wakes the thread, once it runs.
    thread: Option<Waker>,
    /// When the thread looks again by itself. It may be for a limit that was taken out meanwhile: who awaits one thing after the
    /// other has one look in vain at the end, and not a thread woken for each.
    looks_at: Option<Instant>,
    running: bool,
    ending: bool,
}

#[derive(Debug, Default)]
struct Bell {
    rung: bool,
    waker: Option<Waker>,
}

impl Bell {
    fn ring(bell: &Arc<Mutex<Self>>) {
        let waker = {
            let mut bell = bell.lock();
            bell.rung = true;
            bell.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// One limit. Dropping it takes it out of the order.
pub(crate) struct Alarm {
    runtime: Arc<RuntimeCore>,
    deadline: Option<Deadline>,
    bell: Arc<Mutex<Bell>>,
}

impl Alarm {
    pub(crate) fn new(runtime: &Arc<RuntimeCore>, limit: Duration) -> Self {
        Self::at(runtime, runtime.world.now().checked_add(limit))
    }

    /// As [`new`](Self::new), for a moment; for `None` it never goes off.
    pub(crate) fn at(runtime: &Arc<RuntimeCore>, at: Option<Instant>) -> Self {
        let bell = Arc::<Mutex<Bell>>::default();
        let deadline = at.and_then(|at| {
            let (deadline, wake, start) = {
                let mut state = runtime.time_keeper.state.lock();
                if state.ending {
                    // The node has ended, and with it what would be waited for.
                    bell.lock().rung = true;
                    return None;
                }
                let deadline = state
                    .deadlines
                    .get_or_insert_with(Deadlines::new)
                    .add(at, bell.clone());
                let is_too_late = state.looks_at.is_none_or(|looks_at| at < looks_at);
                let start = !std::mem::replace(&mut state.running, true);
                (
                    deadline,
                    is_too_late.then(|| state.thread.clone()).flatten(),
                    start,
                )
            };
            if start {
                TimeKeeper::start(runtime);
            }
            if let Some(wake) = wake {
                wake.wake();
            }
            Some(deadline)
        });
        Self {
            runtime: runtime.clone(),
            deadline,
            bell,
        }
    }

    /// True if the limit has passed; else `waker` is woken when it does.
    pub(crate) fn poll(&mut self, waker: &Waker) -> bool {
        // The waker before is dropped after the lock is released: its drop is the user's code.
        let waker = waker.clone();
        let (_before, rung) = {
            let mut bell = self.bell.lock();
            (bell.waker.replace(waker), bell.rung)
        };
        rung
    }
}

impl Alarm {
    /// True if what is awaited here was interrupted: by a future of a script's thread that no driver runs. Asked after
    /// [`poll`](Self::poll), so that an interrupt that is not seen here wakes its waker. Where [`Runtime::run`](crate::Runtime::run)
    /// polls, it is that which is interrupted.
    pub(crate) fn take_interrupt(&self) -> bool {
        !executor::polls_future() && self.runtime.take_interrupt()
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Some(deadline) = self.deadline.take() {
            let mut state = self.runtime.time_keeper.state.lock();
            if let Some(deadlines) = &mut state.deadlines {
                deadlines.remove(deadline);
            }
        }
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Alarm")
    }
}

impl TimeKeeper {
    fn start(runtime: &Arc<RuntimeCore>) {
        // The thread must not keep the node alive: it holds the core only, which the end of the node tells it to leave.
        let core = runtime.clone();
        let spawned = runtime.world.spawn("mproc limits", move || {
            core.time_keeper.run(&core);
        });
        if spawned.is_err() {
            // Without a thread awaited operations have no limit, but still complete. The next one tries again.
            runtime.time_keeper.state.lock().running = false;
        }
    }

    /// Has everybody who awaits something look again, before their limits.
    pub(crate) fn wake_all(&self) {
        let bells: Vec<_> = {
            let state = self.state.lock();
            state
                .deadlines
                .iter()
                .flat_map(Deadlines::iter)
                .cloned()
                .collect()
        };
        for bell in bells {
            let waker = bell.lock().waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn run(&self, core: &RuntimeCore) {
        self.state.lock().thread = Some(core.world.waker());
        loop {
            let now = core.world.now();
            let (due, next) = {
                let mut state = self.state.lock();
                if state.ending {
                    return;
                }
                let mut due = Vec::new();
                let mut next = None;
                if let Some(deadlines) = &mut state.deadlines {
                    while let Some(bell) = deadlines.pop_due(now) {
                        due.push(bell);
                    }
                    next = deadlines.nearest();
                }
                state.looks_at = if due.is_empty() { next } else { Some(now) };
                (due, next)
            };
            if due.is_empty() {
                core.world.park(next);
            }
            due.iter().for_each(Bell::ring);
        }
    }

    /// The node has ended: the thread leaves, and whoever still waits is told that no more comes.
    pub(crate) fn end(&self) {
        let (thread, left) = {
            let mut state = self.state.lock();
            state.ending = true;
            (state.thread.take(), state.deadlines.take())
        };
        if let Some(mut left) = left {
            while let Some(bell) = left.pop_first() {
                Bell::ring(&bell);
            }
        }
        if let Some(thread) = thread {
            thread.wake();
        }
    }
}
