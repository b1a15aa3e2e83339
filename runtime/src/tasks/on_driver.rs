//! Tasks made on a driver: futures with a processor of their own, and a result.

use super::reply::Reply;
use super::{Kept, Run};
use crate::address::Address;
use crate::cell::CellRef;
use crate::context::{Cx, Promise, ReplySlot};
use crate::driver::{Driver, DriverCore, Manual, OnDriver, Pool, spawn_cell};
use crate::error::{CallError, Outcome, SpawnError};
use crate::exit::Exit;
use crate::mailbox::MailboxOptions;
use crate::pending::{CleanUp, CleansUp, CutShort, Operation, Pending};
use crate::processor::Processor;
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// The processor of one task. It handles no messages, and ends with the task.
struct OneTask<T: 'static> {
    /// Until it is started.
    task: Option<Running<T>>,
}

/// A task's future, and who waits for its result.
struct Running<T: 'static> {
    future: Option<Kept<T>>,
    result: Option<T>,
    /// Dropped while a panic unwinds it tells whoever waits of that.
    promise: Promise<T>,
}

impl<T: Send + 'static> Processor for OneTask<T> {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(task) = self.task.take() {
            let (cell, local) = cx.parts();
            cell.add_task(local, Box::new(task), true, || "task");
        }
        Ok(())
    }

    /// Its driver has ended before it was started.
    fn stopped(&mut self, exit: &Exit, cx: &mut Cx<'_, Self>) {
        if let Some(mut task) = self.task.take() {
            let runtime = cx.runtime();
            let hook = &runtime.core().options.polls_inside;
            if hook.run(|| task.future = None).is_none() {
                task.future = None;
            }
            Box::new(task).refuse(exit);
        }
    }
}

impl<T: Send + 'static> Run<OneTask<T>> for Running<T> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        match future.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.result = Some(result);
                self.future = None;
                Poll::Ready(())
            }
        }
    }

    fn finish(self: Box<Self>, _: &mut OneTask<T>, cx: &mut Cx<'_, OneTask<T>>) {
        cx.stop();
        if let Some(result) = self.result {
            self.promise.answer(Ok(result));
        }
    }

    fn drop_future(&mut self) {
        self.future = None;
    }

    fn refuse(self: Box<Self>, exit: &Exit) {
        self.promise.answer(Err(CallError::Stopped(exit.clone())));
    }
}

impl<T: Send + 'static> ReplySlot<T> for Reply<T> {
    fn answer(&self, result: Result<T, CallError>) {
        Self::answer(self, result);
    }

    fn hand_on(&self, _: Option<CellRef>) -> bool {
        false
    }

    // The task's future is dropped when its caller gives up: nobody is left to ask.
    fn is_cancelled(&self) -> bool {
        false
    }

    fn on_cancel(&self, _: Waker) {}
}

/// What waits for a task.
struct TaskOperation<T: Send + 'static> {
    task: Address<OneTask<T>>,
    result: Arc<Reply<T>>,
}

impl<T: Send + 'static> Operation<T, CallError> for TaskOperation<T> {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), CallError>> {
        // It runs since it was made.
        Poll::Ready(Ok(()))
    }

    fn cut_short(&self, why: CutShort) -> CallError {
        CallError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "spawn_task"
    }

    fn retreat(&self, _: &mut Waiter) {}

    fn poll(&self, waker: &Waker) -> Poll<Result<T, CallError>> {
        self.result.poll(waker)
    }

    fn is_done(&self) -> bool {
        self.result.is_done()
    }

    fn abandon(&self, _: &mut Waiter) {
        self.result.cancel(false);
        self.task.kill();
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        Some(CleanUp::of(self))
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        if !self.task.only_here() || self.is_done() {
            return None;
        }
        Some(CallError::Deadlock(self.task.circle_here()))
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.task.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.task.runtime().options.call_limit
    }
}

/// Until its driver has dropped the future.
impl<T: Send + 'static> CleansUp for TaskOperation<T> {
    fn poll_over(&self, waker: &Waker) -> bool {
        self.result.poll_over(waker)
    }
}

/// The caller sees to it that the future is `Send` (`movable`), or that this is the driver's thread.
fn spawn_task<T: Send + 'static>(
    driver: &Arc<DriverCore>,
    future: Kept<T>,
    movable: bool,
) -> Result<Pending<T>, SpawnError> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    // Relaxed: only uniqueness is wanted.
    let name = format!("task-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let result = Arc::new(Reply::new());
    let task = Running {
        future: Some(future),
        result: None,
        promise: Promise::owed(Some(result.clone() as Arc<dyn ReplySlot<T>>)),
    };
    let processor = OneTask { task: Some(task) };
    let task = spawn_cell(driver, &name, processor, movable, MailboxOptions::default())?;
    Ok(Pending::new(Arc::new(TaskOperation { task, result })))
}

impl Driver {
    /// Makes a task on this driver: `future` runs there, one poll at a time between the handlers of its processors, from now
    /// on. Its result comes as a [`Pending`], whose limit is that of calls: 5 seconds unless told otherwise.
    ///
    /// The task is a processor that handles nothing, named `task-` and a number. It ends with its future; ends in order wait
    /// for it, as for a handler.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn). The `Pending` ends with [`CallError::Panicked`] if the future panics,
    /// [`CallError::Stopped`] if its driver ends first, and [`CallError::Timeout`] at its limit.
    ///
    /// # Cancel safety
    ///
    /// Dropping the `Pending` has the future dropped, also when its limit passes.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let twice = node.spawn_thread("twice", closure(|n: i32, _cx| n.checked_mul(2).ok_or(std::fmt::Error)))?;
    /// let io = node.driver("io")?;
    /// let task = io.spawn_task(async move {
    ///     let first = twice.call(5).await?;
    ///     twice.call(first).await
    /// })?;
    /// assert_eq!(task.wait()??, 20);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn spawn_task<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<Pending<T>, SpawnError> {
        spawn_task(self.core(), Box::pin(future), true)
    }
}

impl OnDriver<'_> {
    /// As [`Driver::spawn_task`], for a future that need not be `Send`. Its result must be.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn_task`].
    pub fn spawn_task<T: Send + 'static>(
        &mut self,
        future: impl Future<Output = T> + 'static,
    ) -> Result<Pending<T>, SpawnError> {
        spawn_task(self.core, Box::pin(future), false)
    }
}

impl Pool {
    /// As [`Driver::spawn_task`], on whichever of the pool's threads is free at each poll.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn_task`].
    pub fn spawn_task<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Result<Pending<T>, SpawnError> {
        spawn_task(self.core(), Box::pin(future), true)
    }
}

impl Manual {
    /// As [`Driver::spawn_task`], on this thread, for a future that need not be `Send`. Its result must be. It runs while the
    /// driver is spun: each poll is one step of [`spin_once`](Self::spin_once).
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn_task`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, Spun};
    /// # use std::{future::poll_fn, task::Poll, time::Duration};
    /// let node = Runtime::simulated(1);
    /// let manual = node.manual("loop")?;
    /// let mut polls = 0;
    /// let mut task = manual.spawn_task(poll_fn(move |context| {
    ///     polls += 1;
    ///     context.waker().wake_by_ref();
    ///     if polls < 3 { Poll::Pending } else { Poll::Ready(polls) }
    /// }))?;
    /// for _ in 0..3 {
    ///     assert_eq!(manual.spin_once(Duration::ZERO)?, Spun::Ran); // a task that suspends needs another call
    /// }
    /// assert_eq!(manual.spin_once(Duration::ZERO)?, Spun::Idle);
    /// assert_eq!(manual.spin_until(&mut task, Duration::ZERO)?.unwrap()?, 3);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn spawn_task<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + 'static,
    ) -> Result<Pending<T>, SpawnError> {
        spawn_task(self.core(), Box::pin(future), false)
    }
}
