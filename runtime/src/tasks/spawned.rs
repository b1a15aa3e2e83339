//! Futures beside the messages of a processor.

use super::{Kept, Run, TaskWake};
use crate::context::Cx;
use crate::exit::Exit;
use crate::processor::{IntoOutcome, Processor};
use crate::sync::{Acquire, Release};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Wake};

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Runs a future beside the processor's messages, on its driver. It is polled first after the current handler, ends with
    /// the processor (or with its incarnation, if it is supervised), and is not waited for when the processor drains.
    ///
    /// It holds no state. It enters by [`AsyncHandle::update`](super::AsyncHandle::update), which is a message. It returns
    /// `()`, or a `Result` whose error is a fault, which is reported and given to [`on_error`](Processor::on_error). A panic
    /// in it is treated like one in a handler.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Address, Closure, Cx, Fault, Handle, Outcome, Processor, Runtime, closure};
    /// struct Total { sum: u32, source: Address<Closure<(), u32>> }
    /// struct Get;
    /// impl Processor for Total {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         let (me, source) = (cx.async_handle(), self.source.clone());
    ///         cx.spawn(async move {
    ///             while let Ok(n) = source.call(()).await {
    ///                 me.update(move |total, _cx| total.sum += n).await?;
    ///             }
    ///             Ok::<(), Fault>(())
    ///         });
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Get> for Total {
    ///     type Reply = u32;
    ///     fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> { Ok(self.sum) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let mut left = vec![1, 2, 3];
    /// let source = node.spawn_thread("source", closure(move |(), _cx| left.pop().ok_or(std::fmt::Error)))?;
    /// let total = node.spawn_thread("total", Total { sum: 0, source })?;
    /// node.settle();
    /// assert_eq!(total.call(Get).wait()?, 6);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn spawn<F>(&mut self, future: F) -> TaskHandle
    where
        F: Future + Send + 'static,
        F::Output: IntoOutcome<Reply = ()> + 'static,
    {
        self.keep_task(Box::pin(future))
    }

    /// As [`spawn`](Self::spawn), for a future that is not `Send`. Not on a pool, whose processors go from thread to thread.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool. The future is dropped.
    #[track_caller]
    pub fn spawn_local<F>(&mut self, future: F) -> TaskHandle
    where
        F: Future + 'static,
        F::Output: IntoOutcome<Reply = ()> + 'static,
    {
        self.must_stay();
        self.keep_task(Box::pin(future))
    }

    /// The caller sees to it that the future is `Send`, or that this is not a pool.
    fn keep_task<D: IntoOutcome<Reply = ()> + 'static>(&mut self, future: Kept<D>) -> TaskHandle {
        let spawned = Spawned {
            future: Some(future),
            output: None,
        };
        let (cell, local) = self.parts();
        let wake = cell.add_task(local, Box::new(spawned), false, || "task");
        TaskHandle(wake)
    }
}

struct Spawned<D> {
    future: Option<Kept<D>>,
    output: Option<D>,
}

impl<P: Processor, D: IntoOutcome<Reply = ()> + 'static> Run<P> for Spawned<D> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        match future.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(output) => {
                self.output = Some(output);
                self.future = None;
                Poll::Ready(())
            }
        }
    }

    fn finish(self: Box<Self>, processor: &mut P, cx: &mut Cx<'_, P>) {
        if let Some(Err(fault)) = self.output.map(IntoOutcome::into_outcome) {
            cx.fault(processor, fault);
        }
    }

    fn drop_future(&mut self) {
        self.future = None;
    }

    fn refuse(self: Box<Self>, _: &Exit) {}
}

/// A future that was spawned ([`Cx::spawn`]), to cancel it. Dropping this changes nothing.
#[derive(Clone)]
pub struct TaskHandle(Arc<dyn Controls>);

trait Controls: Send + Sync {
    fn cancel(self: Arc<Self>);
    fn is_over(&self) -> bool;
}

impl<P: Processor> Controls for TaskWake<P> {
    fn cancel(self: Arc<Self>) {
        // Release pairs with the Acquire in `begin_poll`.
        self.cancelled.store(true, Release);
        self.wake();
    }

    fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }
}

impl TaskHandle {
    /// Has the future dropped, on its driver: not at once, but before it would be polled again. What it has begun and waits
    /// for is given up, as when a [`Pending`](crate::Pending) is dropped. Harmless if it has finished.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime, TaskHandle};
    /// struct Idle;
    /// struct Begin;
    /// impl Processor for Idle {}
    /// impl Handle<Begin> for Idle {
    ///     type Reply = TaskHandle;
    ///     fn handle(&mut self, _: Begin, cx: &mut Cx<'_, Self, TaskHandle>) -> Outcome<TaskHandle> {
    ///         Ok(cx.spawn(std::future::pending::<()>()))
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let task = node.spawn_thread("idle", Idle)?.call(Begin).wait()?;
    /// assert!(!task.is_finished());
    /// task.cancel();
    /// node.settle();
    /// assert!(task.is_finished());
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn cancel(&self) {
        self.0.clone().cancel();
    }

    /// True if the future is gone: it has returned, has panicked, was cancelled, or its processor has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_over()
    }
}

impl fmt::Debug for TaskHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskHandle")
            .field("is_finished", &self.is_finished())
            .finish()
    }
}
