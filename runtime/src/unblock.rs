//! Blocking work for those who must not block: closures on threads of their own.
//!
//! A node has a few threads for this, made when there is work and nobody is idle, at most [`THREADS_MAX`]. One that finds no work
//! for [`KEPT`] ends. Work waits in a line behind them; work that is cancelled there leaves the line.
//!
//! The lock guards the line, and who is idle. Whoever adds work takes an idle thread off the list in the same critical section,
//! and wakes it. A thread goes on the list only when the line is empty, and leaves for good only when it is still on it. So
//! either it sees the work, or whoever adds it sees that it is idle.

use crate::cell::panic_message;
use crate::hook;
use crate::name::Name;
use crate::pending::{CleanUp, CleansUp, CutShort, Operation, Pending};
use crate::queue::Waiter;
use crate::runtime::{Runtime, RuntimeCore};
use crate::sync::Mutex;
use std::cell::Cell;
use std::collections::VecDeque;
use std::error::Error as StdError;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How many threads of a node do blocking work at once.
const THREADS_MAX: usize = 64;
/// How long a thread without work is kept.
const KEPT: Duration = Duration::from_secs(10);

/// Why blocking work gave no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnblockError {
    /// It was not done within the limit. A closure that had begun goes on, and its result is dropped.
    Timeout,
    /// The closure panicked with this message.
    Panicked(Arc<str>),
    /// The node has ended before the closure began.
    Closed,
    /// The system gave no thread, and there was none before. Nothing was started; a later attempt may succeed.
    NoThread,
    /// It was [cancelled](crate::Ticket::cancel), or its result was taken before. A closure that had begun goes on.
    Cancelled,
    /// The program was interrupted meanwhile. A closure that had begun goes on.
    Interrupted,
    /// Waiting would have blocked a thread of an async executor: await it. Nothing was started. See
    /// [`Options::blocking_in_executor`](crate::Options::blocking_in_executor).
    InExecutor,
}

impl fmt::Display for UnblockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("blocking work was not done within the limit"),
            Self::Panicked(message) => write!(f, "blocking work panicked: {message}"),
            Self::Closed => f.write_str("node has ended before the blocking work began"),
            Self::NoThread => f.write_str("no thread to be had for blocking work"),
            Self::Cancelled => f.write_str("blocking work was cancelled"),
            Self::Interrupted => f.write_str("program was interrupted"),
            Self::InExecutor => {
                f.write_str("refused to block a thread of an async executor; await it")
            }
        }
    }
}

impl StdError for UnblockError {}

impl From<UnblockError> for crate::Error {
    fn from(error: UnblockError) -> Self {
        use crate::ErrorKind;
        let kind = match error {
            UnblockError::Timeout => ErrorKind::Timeout,
            UnblockError::Panicked(_) => ErrorKind::Fault,
            UnblockError::Closed => ErrorKind::Closed,
            UnblockError::NoThread => ErrorKind::Io,
            UnblockError::Cancelled => ErrorKind::Cancelled,
            UnblockError::Interrupted => ErrorKind::Interrupted,
            UnblockError::InExecutor => ErrorKind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

thread_local! {
    /// The thread is one of a node's for blocking work.
    static SERVES: Cell<bool> = const { Cell::new(false) };
}

/// A node's threads for blocking work, and what waits for them.
#[derive(Default)]
pub(crate) struct Unblocks {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    line: VecDeque<(u64, Arc<dyn Work>)>,
    /// Numbers of work and of threads.
    next: u64,
    idle: Vec<(u64, Waker)>,
    threads: usize,
    ending: bool,
    /// Of whoever waits until the threads are gone.
    ended: Option<Waker>,
}

trait Work: Send + Sync {
    fn run(&self);
    /// Nobody will run it.
    fn refuse(&self, error: UnblockError);
}

impl Unblocks {
    /// Puts it in line, and sees to it that somebody comes. Its number in the line.
    fn add(runtime: &Arc<RuntimeCore>, work: Arc<dyn Work>) -> Result<u64, UnblockError> {
        let (number, idle, spawns) = {
            let mut state = runtime.unblocks.state.lock();
            if state.ending {
                return Err(UnblockError::Closed);
            }
            let number = state.number();
            state.line.push_back((number, work));
            let idle = state.idle.pop();
            let spawns = idle.is_none() && state.threads < THREADS_MAX;
            state.threads += usize::from(spawns);
            (number, idle, spawns)
        };
        if let Some((_, waker)) = idle {
            waker.wake();
        }
        if spawns {
            let core = runtime.clone();
            let spawned = runtime.world.spawn("mproc unblock", move || {
                core.unblocks.serve(&core);
            });
            if spawned.is_err() && runtime.unblocks.thread_is_gone() {
                return match runtime.unblocks.remove(number) {
                    Some(_) => Err(UnblockError::NoThread),
                    None => Ok(number),
                };
            }
        }
        Ok(number)
    }

    /// Takes work out of the line, if nobody has begun it.
    fn remove(&self, number: u64) -> Option<Arc<dyn Work>> {
        let mut state = self.state.lock();
        let at = state.line.iter().position(|(n, _)| *n == number)?;
        state.line.remove(at).map(|(_, work)| work)
    }

    /// True if it was the last.
    fn thread_is_gone(&self) -> bool {
        let (last, ended) = {
            let mut state = self.state.lock();
            state.threads -= 1;
            (state.threads == 0, state.ended.take())
        };
        if let Some(ended) = ended {
            ended.wake();
        }
        last
    }

    /// What one of the threads does.
    fn serve(&self, core: &RuntimeCore) {
        SERVES.set(true);
        let waker = core.world.waker();
        let me = self.state.lock().number();
        let mut until: Option<Instant> = None;
        loop {
            let work = {
                let mut state = self.state.lock();
                let was_idle = state.idle.iter().position(|(n, _)| *n == me);
                let work = state.line.pop_front();
                let is_late = until.is_some_and(|until| core.world.now() >= until);
                if work.is_some() || state.ending || (was_idle.is_some() && is_late) {
                    let _mine = was_idle.map(|at| state.idle.remove(at));
                    if work.is_none() {
                        break;
                    }
                } else if was_idle.is_none() {
                    until = core.world.now().checked_add(KEPT);
                    state.idle.push((me, waker.clone()));
                }
                work
            };
            match work {
                Some((_, work)) => {
                    core.world.choice_point();
                    quietly(move || work.run());
                }
                None => core.world.park(until),
            }
        }
        let _last = self.thread_is_gone();
    }

    /// The node has ended: what has not begun is refused, and the threads leave. Waits for them, at most until `deadline`.
    pub(crate) fn end(&self, core: &RuntimeCore, deadline: Option<Instant>) {
        let (line, idle) = {
            let mut state = self.state.lock();
            state.ending = true;
            (std::mem::take(&mut state.line), state.idle.clone())
        };
        for (_, work) in line {
            quietly(move || work.refuse(UnblockError::Closed));
        }
        idle.into_iter().for_each(|(_, waker)| waker.wake());
        let waker = core.world.waker();
        // A closure that had the last handle of the node ends it, and cannot wait for itself.
        let mine = usize::from(SERVES.get());
        let all_gone = || {
            let mut state = self.state.lock();
            state.ended = Some(waker.clone());
            state.threads <= mine
        };
        while !all_gone() && deadline.is_none_or(|d| core.world.now() < d) {
            core.world.park(deadline);
        }
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The drop of a result that nobody wants, or of a closure, is the user's code: a panic in it must not take the thread along.
fn quietly(what: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(what)) {
        if let Ok(name) = Name::new("unblock") {
            hook::panic(&name, "drop", &panic_message(&*payload));
        }
        // A payload may panic in its drop.
        let _dropped = catch_unwind(AssertUnwindSafe(move || drop(payload)));
    }
}

impl fmt::Debug for Unblocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let threads = self.state.lock().threads;
        f.debug_struct("Unblocks")
            .field("threads", &threads)
            .finish()
    }
}

struct Unblock<T, F> {
    runtime: Arc<RuntimeCore>,
    state: Mutex<UnblockState<T, F>>,
}

struct UnblockState<T, F> {
    /// Until somebody begins with it, or nobody wants it any more.
    closure: Option<F>,
    number: Option<u64>,
    runs: bool,
    cancelled: bool,
    result: Option<Result<T, UnblockError>>,
    waker: Option<Waker>,
}

impl<T: Send, F: FnOnce() -> T + Send> Unblock<T, F> {
    fn finish(&self, result: Result<T, UnblockError>) {
        // If it was cancelled, the result is dropped after the lock is released: that is the user's code.
        let mut result = Some(result);
        let waker = {
            let mut state = self.state.lock();
            state.runs = false;
            if !state.cancelled {
                state.result = result.take();
            }
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T: Send, F: FnOnce() -> T + Send> Work for Unblock<T, F> {
    fn run(&self) {
        let closure = {
            let mut state = self.state.lock();
            state.runs = state.closure.is_some();
            state.closure.take()
        };
        if let Some(closure) = closure {
            // What a panic leaves half done is the closure's own: it is gone.
            let result = catch_unwind(AssertUnwindSafe(closure));
            self.finish(result.map_err(|payload| {
                let error = UnblockError::Panicked(panic_message(&*payload));
                // A payload may panic in its drop.
                let _dropped = catch_unwind(AssertUnwindSafe(move || drop(payload)));
                error
            }));
        }
    }

    fn refuse(&self, error: UnblockError) {
        let _closure = self.state.lock().closure.take();
        self.finish(Err(error));
    }
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> Operation<T, UnblockError>
    for Unblock<T, F>
{
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), UnblockError>> {
        Poll::Ready(Unblocks::add(&self.runtime, self.clone()).map(|number| {
            self.state.lock().number = Some(number);
        }))
    }

    fn retreat(&self, _: &mut Waiter) {
        // It never waits to begin.
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, UnblockError>> {
        // Made before the lock is taken and dropped after it: a waker's clone and drop are the user's code.
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                drop(state);
                Poll::Pending
            }
        }
    }

    fn is_done(&self) -> bool {
        self.state.lock().result.is_some()
    }

    fn abandon(&self, _: &mut Waiter) {
        let (number, _dropped) = {
            let mut state = self.state.lock();
            state.cancelled = true;
            let dropped = (
                state.closure.take(),
                state.result.take(),
                state.waker.take(),
            );
            (state.number.filter(|_| dropped.0.is_some()), dropped)
        };
        if let Some(number) = number {
            let _mine = self.runtime.unblocks.remove(number);
        }
    }

    fn refuse_to_block(&self) -> Option<UnblockError> {
        None
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        Some(CleanUp::of(self))
    }

    fn timeout(&self) -> UnblockError {
        UnblockError::Timeout
    }

    fn cut_short(&self, why: CutShort) -> UnblockError {
        match why {
            CutShort::Cancelled => UnblockError::Cancelled,
            CutShort::Interrupted => UnblockError::Interrupted,
            CutShort::InExecutor => UnblockError::InExecutor,
        }
    }

    fn what(&self) -> &'static str {
        "unblock"
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.runtime.clone()
    }

    fn limit(&self) -> Duration {
        self.runtime.options.call_limit
    }
}

impl<T: Send + 'static, F: FnOnce() -> T + Send + 'static> CleansUp for Unblock<T, F> {
    fn poll_over(&self, waker: &Waker) -> bool {
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        if !state.runs {
            return true;
        }
        std::mem::swap(&mut state.waker, &mut waker);
        drop(state);
        false
    }
}

impl Runtime {
    /// Runs `closure`, which may block, on a thread of its own, and gives a [`Pending`] for what it returns: blocking code in a
    /// future, or from a handler with [`then`](Pending::then).
    ///
    /// A node has at most 64 threads for this; more work than that waits in line. A thread that had no work for 10 seconds
    /// ends.
    ///
    /// # Errors
    ///
    /// [`UnblockError`], from waiting for it; within the node's limit for calls ([`Options::call_limit`]), 5 seconds unless told
    /// otherwise, here by [`Pending::limit`].
    ///
    /// [`Options::call_limit`]: crate::Options::call_limit
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] before the closure has begun drops the closure. One that has begun goes on, because nothing can
    /// stop it, and its result is dropped; [`Ticket::cancel_and_wait`](crate::Ticket::cancel_and_wait) waits for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::Runtime;
    /// let node = Runtime::simulated(1);
    /// let words = node.unblock(|| std::fs::read_to_string("Cargo.toml").map(|text| text.lines().count()));
    /// assert!(words.wait()?.is_ok());
    ///
    /// let panics = node.unblock(|| -> u8 { panic!("no such device") });
    /// assert_eq!(panics.wait().unwrap_err().to_string(), "blocking work panicked: no such device");
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn unblock<T: Send + 'static>(
        &self,
        closure: impl FnOnce() -> T + Send + 'static,
    ) -> Pending<T, UnblockError> {
        Pending::new(Arc::new(Unblock {
            runtime: self.core().clone(),
            state: Mutex::new(UnblockState {
                closure: Some(closure),
                number: None,
                runs: false,
                cancelled: false,
                result: None,
                waker: None,
            }),
        }))
    }
}
