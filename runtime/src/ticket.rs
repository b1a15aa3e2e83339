//! An operation that was started: it goes on by itself, and its result is collected later.
//!
//! Most operations are under way as soon as they have begun, and a ticket is then nothing but a [`Pending`]. One that must
//! stand in line for room first needs somebody who takes the place when it comes. That is [`Starting`]: it stands in line with a
//! waker of its own, and whoever wakes that goes on with it, on whatever thread.
//!
//! | phase    | `waiter` | leaves by                                                        |
//! |----------|----------|------------------------------------------------------------------|
//! | `InLine` | there    | a wake (to `Busy`), a cancel (to `Over`)                         |
//! | `Busy`   | taken    | the end of the attempt: `Begun`, `InLine` again, `Over` if refused, or if a cancel came meanwhile |
//! | `Begun`  | there    | a cancel (to `Over`)                                             |
//! | `Over`   | gone     | never                                                            |
//!
//! Attempts run without the lock, because they wake others. One that is asked for while another runs is made after it
//! (`again`), by the same thread. So a wake never blocks, and none is lost.

use crate::error::CallError;
use crate::name::Name;
use crate::pending::{CleanUp, CleansUp, CutShort, Operation, Pending};
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::sync::Mutex;
use crate::waits_for::Debt;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// An operation that was started ([`Pending::start`]), whose result is collected later.
///
/// It goes on whether or not anybody looks at it. No limit counts before it is waited for.
///
/// What "started" means for a receive ([`Subscription::recv`] of the facade) and for a reservation: it has its place in the
/// line. A sample that comes is kept for it, and leaves the queue only when it is collected, so that cancelling consumes
/// nothing. Which sample that is, is decided then: the oldest.
///
/// # Cancel safety
///
/// Dropping it cancels, as dropping a [`Pending`] does, and never blocks. [`detach`](Self::detach) lets it go on.
///
/// [`Subscription::recv`]: https://docs.rs/mproc/latest/mproc/struct.Subscription.html#method.recv
#[must_use = "dropping it cancels the operation; detach() lets it go on"]
pub struct Ticket<T, E = CallError> {
    pending: Pending<T, E>,
    cancelled: bool,
}

impl<T: 'static, E: Send + 'static> Ticket<T, E> {
    pub(crate) fn start(mut pending: Pending<T, E>) -> Self {
        if !pending.start_here() {
            let starting = Arc::new(Starting {
                op: pending.op.clone(),
                state: Mutex::new(State {
                    phase: Phase::InLine,
                    waiter: Some(pending.take_waiter()),
                    again: false,
                    cancelled: false,
                    detached: false,
                    refused: None,
                    waker: None,
                }),
            });
            // In line it stands with a waker that does nothing. This leaves its own there, or takes the place if it has come.
            starting.attempt();
            pending.replace_with(starting);
        }
        Self {
            pending,
            cancelled: false,
        }
    }
}

impl<T: 'static, E: 'static> Ticket<T, E> {
    /// True if [`wait`](Self::wait) would not wait: the result is there, or the operation was refused or cancelled.
    ///
    /// For a receive from other processes with a filter it may be true, and what came turn out to be unwanted.
    pub fn is_done(&self) -> bool {
        self.cancelled || self.pending.has_result()
    }

    /// Blocks this thread until the result is there, at most as long as the operation's limit allows, counted from now. Then
    /// the operation is cancelled.
    ///
    /// # Errors
    ///
    /// As [`Pending::wait`]; the operation's own kind of `Cancelled` after a [`cancel`](Self::cancel), or if
    /// [`wait_timeout`](Self::wait_timeout) has given the result before.
    ///
    /// # Deadlocks
    ///
    /// As [`Pending::wait`]: what is refused there is refused here, and the operation is cancelled.
    pub fn wait(mut self) -> Result<T, E> {
        let limit = self.pending.own_limit();
        self.wait_timeout(limit)
    }

    /// As [`wait`](Self::wait), at most `limit`. If it does not give the result, the operation goes on, and can be waited for
    /// again. Zero looks once and does not wait.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait). After the operation's own kind of time-out or deadlock it is still under way; after
    /// `Interrupted` it was cancelled.
    ///
    /// # Deadlocks
    ///
    /// As [`Pending::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{CallError, Runtime, closure};
    /// # use std::time::Duration;
    /// let node = Runtime::simulated(1);
    /// let square = closure(|n: u64, _cx| Ok::<_, std::fmt::Error>(n * n));
    /// let square = node.spawn_thread("square", square)?;
    /// let mut ticket = square.call(12).start();
    /// // In a simulated node others run only while this thread waits: the call is still under way.
    /// assert!(matches!(ticket.wait_timeout(Duration::ZERO), Err(CallError::Timeout)));
    /// assert_eq!(ticket.wait()?, 144);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, limit: Duration) -> Result<T, E> {
        if self.cancelled || self.pending.is_finished() {
            return Err(self.pending.op.cut_short(CutShort::Cancelled));
        }
        self.pending.block(limit).unwrap_or_else(Err)
    }

    /// Cancels the operation, without waiting, and returns true. False if it was done before: then the result stays.
    ///
    /// A message that is still queued is taken back (and counted as dropped, `Cancelled`); a handler that runs goes on, and its
    /// reply is dropped. A receive leaves the line, and the sample that was kept for it goes to the next.
    pub fn cancel(&mut self) -> bool {
        if self.cancelled {
            return true;
        }
        if self.pending.is_finished() || self.pending.is_refused() {
            return false;
        }
        let op = self.pending.op.clone();
        self.cancelled = op.cancel(self.pending.waiter());
        if self.cancelled {
            self.pending.finish();
        }
        self.cancelled
    }

    /// As [`cancel`](Self::cancel), and waits for the clean-up, at most `limit`: for a call, until a handler that had begun has
    /// answered or its reply token is gone; for [`unblock`](crate::Runtime::unblock) and
    /// [`update`](crate::AsyncHandle::update), until a closure that runs has returned; for
    /// [`spawn_task`](crate::Driver::spawn_task), until its driver has dropped the future.
    /// True if nothing of the operation goes on any more.
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread. Inside a handler, what the handler has sent is delivered first. If only this very thread can end
    /// the clean-up, the limit ends the wait.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// # use std::time::Duration;
    /// let node = Runtime::simulated(1);
    /// let slow = node.spawn_thread("slow", closure(|_: u8, _cx| Ok::<_, std::fmt::Error>(1)))?;
    /// let mut ticket = slow.call(7).start();
    /// assert!(ticket.cancel_and_wait(Duration::from_secs(1)));
    /// assert!(ticket.is_done());
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn cancel_and_wait(&mut self, limit: Duration) -> bool {
        if !self.cancel() {
            return true;
        }
        let op = &self.pending.op;
        let Some(left) = op.clone().clean_up() else {
            return true;
        };
        let runtime = op.runtime();
        let deadline = runtime.world.now().checked_add(limit);
        let look = |waker: &Waker| left.is_over(waker).then_some(());
        runtime.block_until(deadline, look).is_some()
    }

    /// Lets the operation go on without anybody who waits for it: its result is dropped. A call that still stands in line for
    /// room keeps its place there. A receive or a reservation, which is nothing without its result, is cancelled.
    pub fn detach(mut self) {
        if !self.cancelled && !self.pending.is_finished() {
            let op = self.pending.op.clone();
            op.detach(self.pending.waiter());
            self.pending.finish();
        }
    }
}

/// `.await` on any executor. At the limit, counted from the first poll, it ends with the operation's time-out.
impl<T: 'static, E: 'static> Future for Ticket<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if this.cancelled || this.pending.is_finished() {
            return Poll::Ready(Err(this.pending.op.cut_short(CutShort::Cancelled)));
        }
        Pin::new(&mut this.pending).poll(context)
    }
}

impl<T, E> fmt::Debug for Ticket<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("operation", &self.pending)
            .field("cancelled", &self.cancelled)
            .finish()
    }
}

/// An operation that stands in line for room by itself; see the module's documentation.
struct Starting<T, E> {
    op: Arc<dyn Operation<T, E>>,
    state: Mutex<State<E>>,
}

struct State<E> {
    phase: Phase,
    waiter: Option<Waiter>,
    again: bool,
    /// A cancel has come while an attempt was made.
    cancelled: bool,
    /// Nobody will ask for the result.
    detached: bool,
    refused: Option<E>,
    /// Of whoever waits for the phase to change.
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    InLine,
    Busy,
    Begun,
    Over,
}

impl<T: 'static, E: Send + 'static> Wake for Starting<T, E> {
    fn wake(self: Arc<Self>) {
        self.attempt();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.attempt();
    }
}

impl<T: 'static, E: Send + 'static> Starting<T, E> {
    fn attempt(self: &Arc<Self>) {
        let mut waiter = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::InLine => {}
                Phase::Busy => {
                    state.again = true;
                    return;
                }
                Phase::Begun | Phase::Over => return,
            }
            state.phase = Phase::Busy;
            state.waiter.take().unwrap_or_default()
        };
        let mine = Waker::from(self.clone());
        let (waker, detached) = loop {
            let attempt = self.op.clone().go_on(&mut waiter, &mine);
            let mut state = self.state.lock();
            if state.cancelled {
                drop(state);
                // A place that has come goes to the next in line; a message that was queued is taken back.
                self.op.abandon(&mut waiter);
                state = self.state.lock();
                state.phase = Phase::Over;
                break (state.waker.take(), false);
            }
            match attempt {
                Poll::Pending if std::mem::take(&mut state.again) => continue,
                Poll::Pending => {
                    state.phase = Phase::InLine;
                    state.waiter = Some(waiter);
                    return;
                }
                Poll::Ready(Ok(())) if state.detached => {
                    state.phase = Phase::Over;
                    break (state.waker.take(), true);
                }
                Poll::Ready(Ok(())) => {
                    state.phase = Phase::Begun;
                    state.waiter = Some(std::mem::take(&mut waiter));
                    break (state.waker.take(), false);
                }
                Poll::Ready(Err(error)) => {
                    state.phase = Phase::Over;
                    state.refused = Some(error);
                    break (state.waker.take(), false);
                }
            }
        };
        if detached {
            self.op.detach(&mut waiter);
        }
        if waiter.is_enlisted() {
            self.op.retreat(&mut waiter);
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T, E> Starting<T, E> {
    /// True if the phase is one of these; else `waker` is woken when it has changed.
    fn poll_phase(&self, waker: &Waker, wanted: impl Fn(Phase) -> bool) -> bool {
        // Made before the lock is taken, and the one before dropped after it: a waker's clone and drop are the user's code.
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        if wanted(state.phase) {
            return true;
        }
        std::mem::swap(&mut state.waker, &mut waker);
        drop(state);
        false
    }
}

impl<T: 'static, E: Send + 'static> Operation<T, E> for Starting<T, E> {
    fn begin(self: Arc<Self>, _: &mut Waiter, waker: &Waker) -> Poll<Result<(), E>> {
        if !self.poll_phase(waker, |phase| matches!(phase, Phase::Begun | Phase::Over)) {
            return Poll::Pending;
        }
        let (phase, refused) = {
            let mut state = self.state.lock();
            (state.phase, state.refused.take())
        };
        Poll::Ready(match (phase, refused) {
            (Phase::Begun, _) => Ok(()),
            (_, Some(error)) => Err(error),
            (_, None) => Err(self.op.cut_short(CutShort::Cancelled)),
        })
    }

    fn retreat(&self, _: &mut Waiter) {
        // Whoever asks stands in no line: this does.
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, E>> {
        self.op.poll(waker)
    }

    fn is_done(&self) -> bool {
        let (phase, refused) = {
            let state = self.state.lock();
            (state.phase, state.refused.is_some())
        };
        refused || (phase == Phase::Begun && self.op.is_done())
    }

    fn has_result(&self) -> bool {
        let (phase, refused) = {
            let state = self.state.lock();
            (state.phase, state.refused.is_some())
        };
        refused || (phase == Phase::Begun && self.op.has_result())
    }

    fn abandon(&self, _: &mut Waiter) {
        let waiter = {
            let mut state = self.state.lock();
            match state.phase {
                Phase::InLine | Phase::Begun => {
                    state.phase = Phase::Over;
                    state.waiter.take()
                }
                // Whoever is at it sees it.
                Phase::Busy => {
                    state.cancelled = true;
                    None
                }
                Phase::Over => None,
            }
        };
        if let Some(mut waiter) = waiter {
            self.op.abandon(&mut waiter);
        }
    }

    fn cancel(&self, mine: &mut Waiter) -> bool {
        let (waiter, refused) = {
            let mut state = self.state.lock();
            let begun = state.phase == Phase::Begun;
            let waiter = state.waiter.take_if(|_| begun);
            (waiter, state.refused.is_some())
        };
        let Some(mut waiter) = waiter else {
            if !refused {
                self.abandon(mine);
            }
            return !refused;
        };
        let cancelled = self.op.cancel(&mut waiter);
        let mut state = self.state.lock();
        if cancelled {
            state.phase = Phase::Over;
        }
        state.waiter = Some(waiter);
        cancelled
    }

    fn detach(&self, _: &mut Waiter) {
        let waiter = {
            let mut state = self.state.lock();
            state.detached = true;
            let begun = state.phase == Phase::Begun;
            state.waiter.take_if(|_| begun)
        };
        if let Some(mut waiter) = waiter {
            self.op.detach(&mut waiter);
        }
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        Some(CleanUp::of(self))
    }

    fn refuse_to_block(&self) -> Option<E> {
        if self.state.lock().refused.is_some() {
            return None;
        }
        self.op.refuse_to_block()
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        self.op.clone().debt()
    }

    fn deadlock(&self, circle: Vec<Name>) -> E {
        self.op.deadlock(circle)
    }

    fn timeout(&self) -> E {
        self.op.timeout()
    }

    fn cut_short(&self, why: CutShort) -> E {
        self.op.cut_short(why)
    }

    fn what(&self) -> &'static str {
        self.op.what()
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.op.runtime()
    }

    fn limit(&self) -> Duration {
        self.op.limit()
    }
}

impl<T: 'static, E: Send + 'static> CleansUp for Starting<T, E> {
    fn poll_over(&self, waker: &Waker) -> bool {
        if !self.poll_phase(waker, |phase| phase != Phase::Busy) {
            return false;
        }
        let left = self.op.clone().clean_up();
        left.is_none_or(|left| left.is_over(waker))
    }
}

impl<T, E> Drop for Starting<T, E> {
    fn drop(&mut self) {
        let waiter = self.state.lock().waiter.take();
        if let Some(mut waiter) = waiter
            && waiter.is_enlisted()
        {
            self.op.retreat(&mut waiter);
        }
    }
}

#[cfg(all(test, loom))]
mod loom_tests;
