//! What a message processor is: its state, and a handler for each type of message.

use crate::context::Cx;
use crate::error::{Fault, Outcome};
use crate::exit::Exit;
use std::fmt;
use std::marker::PhantomData;

/// State that handles one message at a time.
///
/// A processor is never entered twice at once, so its handlers need no lock. Which messages it takes is said by
/// [`Handle`]. All methods here have a default.
pub trait Processor: Sized + 'static {
    /// Called once, on the driver's thread, before the first message. If it is supervised: once for each incarnation.
    ///
    /// # Errors
    ///
    /// A fault ends the processor, or its incarnation, with [`Exit::Faulted`].
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let _ = cx;
        Ok(())
    }

    /// Called once when the processor (or an incarnation of it) ends, on the driver's thread, after the last message. Not
    /// called after a panic.
    ///
    /// What it sends is delivered; if there is no room, an orderly end (`exit` is [`Exit::Stopped`]) waits for it as long as
    /// the limit of the send allows, with the mailbox closed.
    fn stopped(&mut self, exit: &Exit, cx: &mut Cx<'_, Self>) {
        let _ = (exit, cx);
    }

    /// Called after a handler returned a fault, and for what it sent and could not be delivered in the end. The fault
    /// has been counted and reported already. By default the processor goes on; [`Cx::stop`] ends it.
    fn on_error(&mut self, fault: Fault, cx: &mut Cx<'_, Self>) {
        let _ = (fault, cx);
    }

    /// Called after a handler panicked with `message`. The panic has been counted and reported already.
    ///
    /// The handler may have left the state half changed, so by default the processor ends with [`Exit::Panicked`], and its
    /// callers and watchers are told.
    fn on_panic(&mut self, message: &str) -> AfterPanic {
        let _ = message;
        AfterPanic::End
    }
}

/// Whether a processor goes on after a panic in one of its handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterPanic {
    /// It ends with [`Exit::Panicked`].
    End,
    /// It goes on with the next message. Only for a state that no handler leaves half changed.
    GoOn,
}

/// Handles messages of type `M`.
///
/// A handler that has to wait, and must not hold up its driver, is a [`HandleAsync`](crate::HandleAsync).
///
/// # Examples
///
/// ```
/// use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime};
///
/// struct Counter(i64);
/// struct Add(i64);
///
/// impl Processor for Counter {}
/// impl Handle<Add> for Counter {
///     type Reply = i64;
///     fn handle(&mut self, Add(n): Add, _cx: &mut Cx<'_, Self, i64>) -> Outcome<i64> {
///         self.0 += n;
///         Ok(self.0)
///     }
/// }
///
/// let node = Runtime::simulated(1);
/// let counter = node.spawn_thread("counter", Counter(0))?;
/// counter.send(Add(2))?;
/// assert_eq!(counter.call(Add(3)).wait()?, 5);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
///
/// A message without a handler does not compile:
///
/// ```compile_fail
/// # use mproc_runtime::{Address, Processor};
/// struct Counter;
/// impl Processor for Counter {}
/// fn nonsense(counter: &Address<Counter>) {
///     let _ = counter.send("no handler for this"); // `Counter` does not handle messages of type `&str`
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not handle messages of type `{M}`",
    label = "no handler for `{M}`",
    note = "add `impl Handle<{M}> for {Self}`"
)]
pub trait Handle<M>: Processor {
    /// What a [`call`](crate::Address::call) gets back. `()` where nobody asks.
    type Reply: Send + 'static;

    /// Handles one message. `cx` knows the reply's type, so that a reply can be promised for later
    /// ([`Cx::reply_later`]).
    ///
    /// # Errors
    ///
    /// A [`Fault`] is reported, sent to the caller if there is one, and given to
    /// [`on_error`](Processor::on_error); the processor goes on.
    fn handle(&mut self, message: M, cx: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply>;
}

/// What a closure handler may return: a plain value, or a `Result` whose error is a fault.
pub trait IntoOutcome {
    /// The reply.
    type Reply: Send + 'static;

    /// The outcome that the closure's value stands for.
    fn into_outcome(self) -> Outcome<Self::Reply>;
}

impl IntoOutcome for () {
    type Reply = ();

    fn into_outcome(self) -> Outcome<()> {
        Ok(())
    }
}

impl<T: Send + 'static, E: Into<Fault>> IntoOutcome for Result<T, E> {
    type Reply = T;

    fn into_outcome(self) -> Outcome<T> {
        self.map_err(Into::into)
    }
}

type Call<P, M, R> = dyn FnMut(M, &mut Cx<'_, P, R>) -> Outcome<R>;

/// A closure as a processor; see [`closure`].
pub struct Closure<M: 'static, R: 'static>(Box<dyn CallSend<M, R>>);

/// A closure that stays on its driver's thread, as a processor; see [`local_closure`].
pub struct LocalClosure<M: 'static, R: 'static>(Box<Call<LocalClosure<M, R>, M, R>>);

/// `Call` with `Send`: a trait of its own because the closure's type names the processor's.
trait CallSend<M: 'static, R: 'static>: Send {
    fn call(&mut self, message: M, cx: &mut Cx<'_, Closure<M, R>, R>) -> Outcome<R>;
}

impl<M: 'static, F, D> CallSend<M, D::Reply> for (F, PhantomData<fn() -> D>)
where
    F: FnMut(M, &mut Cx<'_, Closure<M, D::Reply>, D::Reply>) -> D + Send,
    D: IntoOutcome,
{
    fn call(
        &mut self,
        message: M,
        cx: &mut Cx<'_, Closure<M, D::Reply>, D::Reply>,
    ) -> Outcome<D::Reply> {
        (self.0)(message, cx).into_outcome()
    }
}

/// Makes a processor from a closure that handles one type of message. A panic in the closure is reported and the next
/// message is handled all the same.
///
/// # Examples
///
/// ```
/// use mproc_runtime::{Runtime, closure};
///
/// let node = Runtime::simulated(1);
/// let mut seen = 0;
/// let sum = node.spawn_thread("sum", closure(move |n: i64, _cx| {
///     seen += n;
///     Ok::<_, std::fmt::Error>(seen)
/// }))?;
/// sum.send(2)?;
/// assert_eq!(sum.call(3).wait()?, 5);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub fn closure<M, F, D>(call: F) -> Closure<M, D::Reply>
where
    M: Send + 'static,
    F: FnMut(M, &mut Cx<'_, Closure<M, D::Reply>, D::Reply>) -> D + Send + 'static,
    D: IntoOutcome + 'static,
{
    Closure(Box::new((call, PhantomData::<fn() -> D>)))
}

/// As [`closure`], for one that is not `Send`: it is made and run on its driver's thread
/// ([`Driver::build`](crate::Driver::build)).
pub fn local_closure<M, F, D>(mut call: F) -> LocalClosure<M, D::Reply>
where
    M: Send + 'static,
    F: FnMut(M, &mut Cx<'_, LocalClosure<M, D::Reply>, D::Reply>) -> D + 'static,
    D: IntoOutcome,
{
    LocalClosure(Box::new(move |message, cx| {
        call(message, cx).into_outcome()
    }))
}

impl<M: 'static, R: 'static> Processor for Closure<M, R> {
    fn on_panic(&mut self, _message: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl<M: 'static, R: 'static> Processor for LocalClosure<M, R> {
    fn on_panic(&mut self, _message: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl<M: Send + 'static, R: Send + 'static> Handle<M> for Closure<M, R> {
    type Reply = R;

    fn handle(&mut self, message: M, cx: &mut Cx<'_, Self, R>) -> Outcome<R> {
        self.0.call(message, cx)
    }
}

impl<M: Send + 'static, R: Send + 'static> Handle<M> for LocalClosure<M, R> {
    type Reply = R;

    fn handle(&mut self, message: M, cx: &mut Cx<'_, Self, R>) -> Outcome<R> {
        (self.0)(message, cx)
    }
}

impl<M, R> fmt::Debug for Closure<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Closure")
    }
}

impl<M, R> fmt::Debug for LocalClosure<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalClosure")
    }
}
