//! Interrupts: what Ctrl-C does to waits, and futures that a plain thread runs.
//!
//! An interrupt ends one wait of each thread that waits outside handlers: a thread that has a script, or that runs a future.
//! Which threads have been told is kept with the interrupt, so that one that comes between two waits is not missed, and what a
//! program does afterwards to clean up is not cut short as well. The next interrupt tells everybody again.
//!
//! Two sides that each say first and look then, under one lock: a thread that waits has its waker in `waiting`, then looks
//! whether it must be told; whoever interrupts says so, then wakes those in `waiting`.

use crate::current;
use crate::driver::DriverCore;
use crate::error::{Error, ErrorKind};
use crate::executor::{self, PollsFuture};
use crate::pending::CleanUp;
use crate::runtime::{Runtime, RuntimeCore};
use crate::sync::{Mutex, PlainFlag, Relaxed};
use crate::world::this_thread;
use std::cell::RefCell;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::ThreadId;
use std::time::Duration;

/// How long whoever was interrupted waits for the clean-up of what was cancelled.
pub(crate) const CLEAN_UP_LIMIT: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Interrupts {
    /// There has been one. Set under the lock, so that looking costs nothing before.
    any: PlainFlag,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Threads that know of the last one.
    told: Vec<ThreadId>,
    next: u64,
    waiting: Vec<(u64, Waker)>,
}

impl Interrupts {
    fn raise(&self) {
        let wake: Vec<_> = {
            let mut state = self.state.lock();
            self.any.store(true, Relaxed);
            state.told.clear();
            state.waiting.iter().map(|(_, w)| w.clone()).collect()
        };
        wake.into_iter().for_each(Waker::wake);
    }

    /// True once for each thread and interrupt.
    fn tell(&self) -> bool {
        // Relaxed: whoever waits looks after it was woken, and its waker orders that.
        if !self.any.load(Relaxed) {
            return false;
        }
        let mut state = self.state.lock();
        let me = this_thread();
        let is_new = !state.told.contains(&me);
        if is_new {
            state.told.push(me);
        }
        is_new
    }
}

/// For a wait that blocks: only a thread that has a script is interrupted, and only outside its callbacks. Others serve a node,
/// and end with it.
fn may_be_interrupted() -> bool {
    !current::is_inside() && current::holds_up_others()
}

impl RuntimeCore {
    /// As [`Runtime::take_interrupt`].
    pub(crate) fn take_interrupt(&self) -> bool {
        may_be_interrupted() && self.interrupts.tell()
    }
}

impl DriverCore {
    /// A spin tells of the end of the node: the interrupt that came with it is dealt with.
    pub(crate) fn tells_of_the_end(&self) {
        let _dealt_with = self.runtime().take_interrupt();
    }
}

/// While it lives, an interrupt wakes its thread.
pub(crate) struct WatchesInterrupts<'a> {
    runtime: &'a RuntimeCore,
    number: u64,
}

impl<'a> WatchesInterrupts<'a> {
    /// For a wait that blocks.
    pub(crate) fn of_script(runtime: &'a RuntimeCore, waker: &Waker) -> Option<Self> {
        may_be_interrupted().then(|| Self::new(runtime, waker))
    }

    fn new(runtime: &'a RuntimeCore, waker: &Waker) -> Self {
        let waker = waker.clone();
        let mut state = runtime.interrupts.state.lock();
        let number = state.next;
        state.next += 1;
        state.waiting.push((number, waker));
        drop(state);
        Self { runtime, number }
    }

    pub(crate) fn was_interrupted(&self) -> bool {
        self.runtime.interrupts.tell()
    }
}

impl Drop for WatchesInterrupts<'_> {
    fn drop(&mut self) {
        // The waker is dropped after the lock is released.
        let _waker = {
            let mut state = self.runtime.interrupts.state.lock();
            let mut waiting = state.waiting.iter();
            let at = waiting.position(|(number, _)| *number == self.number);
            at.map(|at| state.waiting.swap_remove(at))
        };
    }
}

thread_local! {
    /// What is left of operations that are dropped now, while somebody asks for it.
    static ABANDONED: RefCell<Option<Vec<CleanUp>>> = const { RefCell::new(None) };
}

/// An operation was dropped unfinished.
pub(crate) fn note_abandoned(left: impl FnOnce() -> Option<CleanUp>) {
    // A thread that is being torn down asks for nothing.
    let asked = ABANDONED.try_with(|a| a.borrow().is_some());
    if asked != Ok(true) {
        return;
    }
    if let Some(left) = left() {
        ABANDONED.with(|a| a.borrow_mut().get_or_insert_default().push(left));
    }
}

/// Drops `future`. What is left of the operations that it waited for.
fn cancel<F>(future: F) -> Vec<CleanUp> {
    ABANDONED.set(Some(Vec::new()));
    drop(future);
    ABANDONED.take().unwrap_or_default()
}

pub(crate) fn wait_for_clean_up(runtime: &RuntimeCore, left: Vec<CleanUp>) {
    if left.is_empty() {
        return;
    }
    let deadline = runtime.world.now().checked_add(CLEAN_UP_LIMIT);
    let look = |waker: &Waker| left.iter().all(|left| left.is_over(waker)).then_some(());
    // What takes longer goes on alone, and a second interrupt cuts this short.
    let interrupts = WatchesInterrupts::new(runtime, &runtime.world.waker());
    let _over = runtime.block_until_watching(deadline, Some(&interrupts), look);
}

/// Wakes a thread that runs a future, and says so while it does not sleep yet.
struct Woken {
    is_woken: PlainFlag,
    thread: Waker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.thread.wake_by_ref();
        self.is_woken.store(true, Relaxed);
    }
}

impl Runtime {
    /// What Ctrl-C does to threads that wait. It does not end the node; [`request_shutdown`](Self::request_shutdown) does. For
    /// programs that handle signals themselves: from any thread, though not inside a signal handler.
    ///
    /// A thread that has a script and blocks for an operation outside its callbacks, or awaits one that has a limit there, and one that [runs](Self::run) a future,
    /// cancels what it waits for, waits at most a second for the clean-up of that, and returns `Interrupted`. A thread that
    /// does not wait now is told when it waits next. Each is told once, so that it can still wait for what it does to clean up.
    pub fn interrupt(&self) {
        self.core().interrupts.raise();
        self.core().time_keeper.wake_all();
    }

    /// True if the calling thread, which has a script, was [interrupted](Self::interrupt) and not told yet. It is told with
    /// this: for programs that wait for something else.
    pub fn take_interrupt(&self) -> bool {
        self.core().take_interrupt()
    }

    /// Runs `future` on the calling thread until it is done: asynchronous code in a script. It is no executor: there is this
    /// one future, and what it spawns elsewhere runs elsewhere.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::Refused`] inside a handler or callback, where the thread has others to serve, and inside a future that
    ///   this library polls. Nothing was polled. Inside a handler go on with [`Pending::then`](crate::Pending::then); in a
    ///   future, await.
    /// - [`ErrorKind::Interrupted`] after an [`interrupt`](Self::interrupt): the future was dropped, which cancels what it
    ///   waited for. Calls that it had begun were given at most a second for their handlers to return.
    ///
    /// # Deadlocks
    ///
    /// The thread's scripts run nothing meanwhile. To wait for one of their callbacks use `Script::spin_until`.
    ///
    /// # Panics
    ///
    /// If the future does.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let square = closure(|n: u64, _cx| Ok::<_, std::fmt::Error>(n * n));
    /// let square = node.spawn_thread("square", square)?;
    /// let sum = node.run(async {
    ///     Ok::<u64, mproc_runtime::CallError>(square.call(3).await? + square.call(4).await?)
    /// })?;
    /// assert_eq!(sum?, 25);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn run<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        if current::is_inside() {
            let text = "cannot run a future inside a handler or callback: go on with `then`";
            return Err(Error::new(ErrorKind::Refused, text));
        }
        if executor::polls_future() {
            let text = "cannot run a future inside another: await it";
            return Err(Error::new(ErrorKind::Refused, text));
        }
        let core = self.core();
        let interrupts = WatchesInterrupts::new(core, &core.world.waker());
        let mut future = Box::pin(future);
        let woken = Arc::new(Woken {
            is_woken: PlainFlag::new(false),
            thread: core.world.waker(),
        });
        let waker = Waker::from(woken.clone());
        let done = core.block_until_watching(None, Some(&interrupts), |_| {
            // Relaxed, here and below: the waker of the thread orders what the wake is about; this only spares the sleep.
            woken.is_woken.store(false, Relaxed);
            let polled = {
                let _polls = PollsFuture::here();
                future.as_mut().poll(&mut Context::from_waker(&waker))
            };
            match polled {
                Poll::Ready(output) => Some(output),
                Poll::Pending => {
                    // As a wait that blocks does. If it was woken, the thread does not sleep behind this.
                    core.spin_until(|| woken.is_woken.load(Relaxed));
                    None
                }
            }
        });
        done.map_err(|_| {
            wait_for_clean_up(core, cancel(future));
            let text = "the program was interrupted while it ran a future";
            Error::new(ErrorKind::Interrupted, text)
        })
    }
}
