//! Closures that another closure can take the place of.

use crate::context::Cx;
use crate::error::Outcome;
use crate::processor::{AfterPanic, Handle, IntoOutcome, Processor};
use std::fmt;
use std::marker::PhantomData;

/// A closure as a processor that can change what it does; see [`behaviour`].
pub struct Behaviour<M: 'static, R: 'static> {
    now: Box<dyn Behave<M, R>>,
    /// The last message panicked: what it wanted to become does not count.
    panicked: bool,
}

/// A closure of some type: a trait of its own because the closure's type names the processor's.
trait Behave<M: 'static, R: 'static>: Send {
    fn handle(&mut self, message: M, cx: &mut Cx<'_, Behaviour<M, R>, R>) -> Outcome<R>;
}

impl<M: 'static, F, D> Behave<M, D::Reply> for (F, PhantomData<fn() -> D>)
where
    F: FnMut(M, &mut Cx<'_, Behaviour<M, D::Reply>, D::Reply>) -> D + Send,
    D: IntoOutcome,
{
    fn handle(
        &mut self,
        message: M,
        cx: &mut Cx<'_, Behaviour<M, D::Reply>, D::Reply>,
    ) -> Outcome<D::Reply> {
        (self.0)(message, cx).into_outcome()
    }
}

/// What the message that is being handled wants the processor to become.
struct Next<M: 'static, R: 'static>(Option<Box<dyn Behave<M, R>>>);

impl<M: 'static, R: 'static> Default for Next<M, R> {
    fn default() -> Self {
        Self(None)
    }
}

/// As [`closure`](crate::closure), for a handler that can have another take its place:
/// [`cx.become_(..)`](Cx::become_). Each has the same type of message and of reply.
///
/// # Examples
///
/// ```
/// use mproc_runtime::{Behaviour, Cx, Fault, Runtime, behaviour};
///
/// type Lamp<'a> = Cx<'a, Behaviour<(), &'static str>, &'static str>;
///
/// fn off(_: (), cx: &mut Lamp<'_>) -> Result<&'static str, Fault> {
///     cx.become_(on);
///     Ok("was off")
/// }
/// fn on(_: (), cx: &mut Lamp<'_>) -> Result<&'static str, Fault> {
///     cx.become_(off);
///     Ok("was on")
/// }
///
/// let node = Runtime::simulated(1);
/// let lamp = node.spawn_thread("lamp", behaviour(off))?;
/// assert_eq!(lamp.call(()).wait()?, "was off");
/// assert_eq!(lamp.call(()).wait()?, "was on");
/// assert_eq!(lamp.call(()).wait()?, "was off");
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub fn behaviour<M, F, D>(first: F) -> Behaviour<M, D::Reply>
where
    M: Send + 'static,
    F: FnMut(M, &mut Cx<'_, Behaviour<M, D::Reply>, D::Reply>) -> D + Send + 'static,
    D: IntoOutcome + 'static,
{
    Behaviour {
        now: Box::new((first, PhantomData::<fn() -> D>)),
        panicked: false,
    }
}

impl<M: Send + 'static, R: Send + 'static> Cx<'_, Behaviour<M, R>, R> {
    /// The next message, and all after it, are handled by `next`. The handler that runs is dropped when it has returned, with
    /// what it keeps. Called twice, the last counts; if the handler panics, none does.
    ///
    /// Together with [`stash`](Self::stash) a behaviour leaves to another what it does not handle itself.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Behaviour, Cx, Fault, TestCx, behaviour};
    /// // What the first message says is added to all others.
    /// let mut t = TestCx::new(behaviour(|base: i64, cx: &mut Cx<'_, Behaviour<i64, i64>, i64>| {
    ///     cx.become_(move |n, _cx| Ok::<_, Fault>(base + n));
    ///     Ok::<_, Fault>(base)
    /// }));
    /// assert_eq!(t.handle(100)?, 100);
    /// assert_eq!(t.handle(1)?, 101);
    /// assert_eq!(t.handle(2)?, 102);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn become_<F, D>(&mut self, next: F)
    where
        F: FnMut(M, &mut Cx<'_, Behaviour<M, R>, R>) -> D + Send + 'static,
        D: IntoOutcome<Reply = R> + 'static,
    {
        let next = Box::new((next, PhantomData::<fn() -> D>));
        self.extensions().get_or_default::<Next<M, R>>().0 = Some(next);
    }
}

impl<M: 'static, R: 'static> Processor for Behaviour<M, R> {
    fn on_panic(&mut self, _message: &str) -> AfterPanic {
        self.panicked = true;
        AfterPanic::GoOn
    }
}

impl<M: Send + 'static, R: Send + 'static> Handle<M> for Behaviour<M, R> {
    type Reply = R;

    fn handle(&mut self, message: M, cx: &mut Cx<'_, Self, R>) -> Outcome<R> {
        if std::mem::take(&mut self.panicked) {
            let _not_meant = cx.extensions().get_or_default::<Next<M, R>>().0.take();
        }
        let outcome = self.now.handle(message, cx);
        if let Some(next) = cx.extensions().get_or_default::<Next<M, R>>().0.take() {
            self.now = next;
        }
        outcome
    }
}

impl<M, R> fmt::Debug for Behaviour<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Behaviour")
    }
}
