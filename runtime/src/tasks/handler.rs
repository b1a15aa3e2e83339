//! Handlers that await.

use super::{Kept, Run};
use crate::context::{Cx, Promise};
use crate::error::{CallError, Fault, Outcome};
use crate::exit::Exit;
use crate::processor::{Handle, Processor};
use std::future::Future;
use std::task::{Context, Poll};

/// A processor that has asynchronous handlers ([`HandleAsync`]). There is nothing to it but saying so, in a line of its own,
/// because only then the compiler can tell such processors from those that have a [`Handle`] for messages of any type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has asynchronous handlers, and does not say so",
    label = "asynchronous handler of a processor that is none",
    note = "add `impl AsyncProcessor for {Self} {{}}`"
)]
pub trait AsyncProcessor: Processor {}

/// Handles messages of type `M` by a future: the handler may wait without holding up its driver.
///
/// A processor that implements it, and [`AsyncProcessor`], handles `M` ([`Handle<M>`](Handle)) like any other: it is sent to,
/// called, and given samples and ticks in the same ways, and a [`call`](crate::Address::call) gets what the future returns.
///
/// - The future runs on the processor's own driver. It does not hold it: other processors there run whenever it waits.
/// - The processor's next message, sample, tick or continuation waits until the future is done. So handlers are entered one
///   at a time, in order, however long they wait. Futures of [`Cx::spawn`] are not held back, but their updates are.
/// - The future does not borrow the state. What it needs from the beginning it is given by `handle_async`; later it enters
///   by [`AsyncHandle::update`](super::AsyncHandle::update), at once.
/// - Faults and panics in it are treated like those of any handler.
///
/// A future that is not `Send` is for drivers of one thread: implement [`Handle`] and return [`Cx::reply_async_local`].
///
/// # Cancel safety
///
/// [`stop`](crate::Address::stop) and [`kill`](crate::Address::kill) end the processor while the future waits: the future is
/// dropped, and the caller gets [`CallError::Stopped`]. [`drain`](crate::Address::drain) waits for it, and so does
/// [`Cx::stop`] in an update of its own. A caller that gives up does not stop it.
///
/// # Deadlocks
///
/// A future that awaits a call to its own processor waits for a message that is held back until it is done. That ends by the
/// call's limit. Use an update.
///
/// # Examples
///
/// ```
/// use mproc_runtime::{Address, AsyncProcessor, Cx, Handle, HandleAsync, Outcome, Processor, Runtime};
///
/// struct Source;
/// struct Get;
/// impl Processor for Source {}
/// impl Handle<Get> for Source {
///     type Reply = i64;
///     fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> { Ok(7) }
/// }
///
/// struct Sum { total: i64, source: Address<Source> }
/// struct Fetch;
/// impl Processor for Sum {}
/// impl AsyncProcessor for Sum {}
/// impl HandleAsync<Fetch> for Sum {
///     type Reply = i64;
///     fn handle_async(
///         &mut self,
///         _: Fetch,
///         cx: &mut Cx<'_, Self, i64>,
///     ) -> impl Future<Output = Outcome<i64>> + Send + 'static {
///         let (me, source) = (cx.async_handle(), self.source.clone());
///         async move {
///             let n = source.call(Get).await?; // no thread waits
///             Ok(me.update(move |sum, _cx| { sum.total += n; sum.total }).await?)
///         }
///     }
/// }
///
/// let node = Runtime::simulated(1);
/// let source = node.spawn_thread("source", Source)?;
/// let sum = node.spawn_thread("sum", Sum { total: 0, source })?;
/// sum.send(Fetch)?;
/// assert_eq!(sum.call(Fetch).wait()?, 14);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
///
/// A future that borrows the state does not compile:
///
/// ```compile_fail
/// # use mproc_runtime::{AsyncProcessor, Cx, HandleAsync, Outcome, Processor};
/// struct Sum(i64);
/// impl Processor for Sum {}
/// impl AsyncProcessor for Sum {}
/// impl HandleAsync<i64> for Sum {
///     type Reply = ();
///     fn handle_async(&mut self, n: i64, _: &mut Cx<'_, Self>) -> impl Future<Output = Outcome<()>> + Send + 'static {
///         async move { self.0 += n; Ok(()) }
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle messages of type `{M}`",
    label = "no handler for `{M}`",
    note = "add `impl Handle<{M}> for {Self}`, or `impl HandleAsync<{M}> for {Self}`"
)]
pub trait HandleAsync<M>: AsyncProcessor {
    /// What a [`call`](crate::Address::call) gets back. `()` where nobody asks.
    type Reply: Send + 'static;

    /// Begins to handle one message: what is done here, before the future, is done with the state at hand.
    ///
    /// # Errors
    ///
    /// The future's [`Fault`] is reported, sent to the caller if there is one, and given to
    /// [`on_error`](Processor::on_error); the processor goes on.
    fn handle_async(
        &mut self,
        message: M,
        cx: &mut Cx<'_, Self, Self::Reply>,
    ) -> impl Future<Output = Outcome<Self::Reply>> + Send + 'static;
}

#[diagnostic::do_not_recommend]
impl<P: AsyncProcessor + HandleAsync<M>, M> Handle<M> for P {
    type Reply = <P as HandleAsync<M>>::Reply;

    fn handle(&mut self, message: M, cx: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply> {
        let future = self.handle_async(message, cx);
        cx.reply_async(future)
    }
}

impl<P: Processor, R: Send + 'static> Cx<'_, P, R> {
    /// Goes on with the message in a future, whose outcome becomes the handler's: all that [`HandleAsync`] says holds. The
    /// handler returns what this returns. For handlers that wait only for some messages. In
    /// [`started`](Processor::started) nobody is to be answered: use [`spawn`](Self::spawn).
    ///
    /// # Errors
    ///
    /// What it returns is always an `Err` to the compiler's eyes, and means "later", not a fault.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Address, Closure, Cx, Handle, Outcome, Processor, Runtime, closure};
    /// struct Cache { last: Option<(u32, u32)>, slow: Address<Closure<u32, u32>> }
    /// struct Square(u32);
    /// impl Processor for Cache {}
    /// impl Handle<Square> for Cache {
    ///     type Reply = u32;
    ///     fn handle(&mut self, Square(n): Square, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
    ///         if let Some((_, squared)) = self.last.filter(|(of, _)| *of == n) {
    ///             return Ok(squared);
    ///         }
    ///         let (me, slow) = (cx.async_handle(), self.slow.clone());
    ///         cx.reply_async(async move {
    ///             let squared = slow.call(n).await?;
    ///             me.update(move |cache, _cx| cache.last = Some((n, squared))).await?;
    ///             Ok(squared)
    ///         })
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let slow = node.spawn_thread("slow", closure(|n: u32, _cx| n.checked_mul(n).ok_or(std::fmt::Error)))?;
    /// let cache = node.spawn_thread("cache", Cache { last: None, slow: slow.clone() })?;
    /// assert_eq!(cache.call(Square(9)).wait()?, 81);
    /// assert_eq!(cache.call(Square(9)).wait()?, 81);
    /// assert_eq!(slow.snapshot().handled, 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn reply_async(
        &mut self,
        future: impl Future<Output = Outcome<R>> + Send + 'static,
    ) -> Outcome<R> {
        self.await_reply(Box::pin(future))
    }

    /// As [`reply_async`](Self::reply_async), for a future that is not `Send`. Not on a pool, whose processors go from thread
    /// to thread.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool. The future is dropped.
    ///
    /// # Errors
    ///
    /// As [`reply_async`](Self::reply_async).
    #[track_caller]
    pub fn reply_async_local(
        &mut self,
        future: impl Future<Output = Outcome<R>> + 'static,
    ) -> Outcome<R> {
        self.must_stay();
        self.await_reply(Box::pin(future))
    }

    /// The caller sees to it that the future is `Send`, or that this is not a pool.
    fn await_reply(&mut self, future: Kept<Outcome<R>>) -> Outcome<R> {
        let answering = Answering {
            future: Some(future),
            outcome: None,
            promise: self.take_promise(),
        };
        let (cell, local) = self.parts();
        let name = cell.last_type_now();
        cell.add_task(local, Box::new(answering), true, name);
        Err(Fault::reply_later())
    }
}

/// The future of a handler, and who waits for its reply.
struct Answering<R: 'static> {
    future: Option<Kept<Outcome<R>>>,
    outcome: Option<Outcome<R>>,
    /// Dropped while a panic unwinds it tells the caller of that.
    promise: Promise<R>,
}

impl<P: Processor, R: Send + 'static> Run<P> for Answering<R> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let Some(future) = &mut self.future else {
            return Poll::Ready(());
        };
        match future.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(outcome) => {
                self.outcome = Some(outcome);
                self.future = None;
                Poll::Ready(())
            }
        }
    }

    fn finish(self: Box<Self>, processor: &mut P, cx: &mut Cx<'_, P>) {
        let Self {
            outcome, promise, ..
        } = *self;
        if let Some(outcome) = outcome {
            cx.with_promise(promise).conclude(processor, outcome);
        }
    }

    fn drop_future(&mut self) {
        self.future = None;
    }

    fn refuse(self: Box<Self>, exit: &Exit) {
        self.promise.answer(Err(CallError::Stopped(exit.clone())));
    }
}
