//! The way from a future into the state of its processor.

use super::is_in_handler_future_of;
use super::reply::Reply;
use crate::address::Address;
use crate::call::discarded;
use crate::cell::{CellRef, Refused};
use crate::context::{Cx, Promise, ReplySlot};
use crate::current;
use crate::dead_letters::DropCause;
use crate::error::CallError;
use crate::exit::Exit;
use crate::hook::{self, Cause};
use crate::parcel::Parcel;
use crate::pending::{CleanUp, CleansUp, CutShort, Operation, Pending};
use crate::processor::Processor;
use crate::queue::{Reserve, Waiter};
use crate::runtime::RuntimeCore;
use crate::sends::Sender;
use crate::spill::spill;
use crate::sync::Mutex;
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// The way into a processor's state, for its futures and for whoever they give it to. `Send + Sync` whatever the processor is.
pub struct AsyncHandle<P: Processor>(Address<P>);

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// The way back into this processor's state, to be moved into a future.
    pub fn async_handle(&self) -> AsyncHandle<P> {
        AsyncHandle(self.me())
    }
}

impl<P: Processor> AsyncHandle<P> {
    /// The processor's address.
    pub fn address(&self) -> &Address<P> {
        &self.0
    }

    /// Has `work` run with the state, on the processor's driver, as a handler would. Returns what `work` does.
    ///
    /// It is a message: it takes its place in the mailbox, waits for room there, is handled in order, and is counted. Only in
    /// the future of a handler of this very processor ([`HandleAsync`](super::HandleAsync)) it is part of the message that is
    /// handled, and `work` runs at once, when the future has returned from its poll.
    ///
    /// # Errors
    ///
    /// [`CallError::Stopped`] if the processor has ended, or drains and takes no more; [`CallError::Panicked`] if `work` did,
    /// and what the processor's policy for that is, follows; [`CallError::Timeout`] if it did not come to it within the
    /// limit; the others as for a message that is dropped or finds no room ([`CallError`]). `work` has not run unless it
    /// panicked, or was running when the limit passed.
    ///
    /// # Cancel safety
    ///
    /// As any [`Pending`]: it does nothing until it is waited for. Dropped before, `work` does not run, unless it runs already.
    ///
    /// # Deadlocks
    ///
    /// Blocking for it ([`Pending::wait`]) in the processor itself, or where only this thread could run it, is refused. A
    /// future of a handler that lets another thread or task update, and waits for that, waits for a message that is held
    /// back: that ends by the limit.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{AsyncHandle, Cx, Handle, Outcome, Processor, Runtime};
    /// struct Counter(u32);
    /// struct Enter;
    /// impl Processor for Counter {}
    /// impl Handle<Enter> for Counter {
    ///     type Reply = AsyncHandle<Counter>;
    ///     fn handle(&mut self, _: Enter, cx: &mut Cx<'_, Self, Self::Reply>) -> Outcome<Self::Reply> {
    ///         Ok(cx.async_handle())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let counter = node.spawn_thread("counter", Counter(40))?.call(Enter).wait()?;
    /// let sum = counter.update(|counter, _cx| { counter.0 += 2; counter.0 }).wait()?;
    /// assert_eq!(sum, 42);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn update<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut P, &mut Cx<'_, P>) -> T + Send + 'static,
    ) -> Pending<T> {
        Pending::new(Arc::new(Update {
            target: self.0.clone(),
            work: Mutex::new(Some(Box::new(work))),
            reply: Reply::new(),
            cause: Cause::here(),
        }))
    }
}

impl<P: Processor> Clone for AsyncHandle<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Processor> fmt::Debug for AsyncHandle<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AsyncHandle({:?})", self.0.name())
    }
}

type Work<P, T> = Box<dyn FnOnce(&mut P, &mut Cx<'_, P>) -> T + Send>;

/// An update on its way: as a call, with work in the place of a message.
struct Update<P: Processor, T> {
    target: Address<P>,
    /// Until it runs, or is taken back.
    work: Mutex<Option<Work<P, T>>>,
    reply: Reply<T>,
    cause: Cause,
}

/// An update in a mailbox, or in line for a handler's future.
struct Entering<P: Processor, T>(Arc<Update<P, T>>);

impl<P: Processor, T: Send + 'static> Entering<P, T> {
    /// Runs the work, and answers. False if it was taken back.
    fn run(self, processor: &mut P, cx: &mut Cx<'_, P>, by_mail: bool) -> bool {
        let Some(work) = self.0.take_work() else {
            return false;
        };
        // What is part of a message runs in the span of that.
        let cause = self.0.cause.clone();
        let _span = by_mail.then(|| hook::handling(cx.name(), "update", cause));
        // If the work panics, this is dropped while that unwinds, and tells whoever waits.
        let promise = Promise::owed(Some(self.0 as Arc<dyn ReplySlot<T>>));
        if by_mail {
            cx.about_to_handle();
        }
        let result = work(processor, cx);
        promise.answer(Ok(result));
        true
    }
}

/// An update in line for a handler's future. If that panics, it is dropped there, and tells whoever waits: perhaps somebody
/// else than the future, which may have given it away.
struct AtOnce<P: Processor, T: Send + 'static>(Option<Entering<P, T>>);

impl<P: Processor, T: Send + 'static> Drop for AtOnce<P, T> {
    fn drop(&mut self) {
        if let Some(Entering(update)) = self.0.take() {
            let _work = update.take_work();
            update.answer(Err(discarded(None)));
        }
    }
}

impl<P: Processor, T: Send + 'static> Parcel<P> for Entering<P, T> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        if !self.run(processor, cx, true) {
            cx.uncount_cancelled();
        }
    }

    fn discard(self, _: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        let _work = self.0.take_work();
        self.0.answer(Err(discarded(exit)));
        None
    }

    fn message_type() -> &'static str {
        "update"
    }
}

impl<P: Processor, T: Send + 'static> Update<P, T> {
    fn take_work(&self) -> Option<Work<P, T>> {
        self.work.lock().take()
    }

    fn stopped(&self) -> CallError {
        CallError::Stopped(self.target.cell.ended().unwrap_or(Exit::Stopped))
    }

    /// In the future of a handler of the target: it runs when the poll has returned.
    fn begin_at_once(self: Arc<Self>) -> Result<(), CallError> {
        let target = self.target.clone();
        let mut at_once = AtOnce(Some(Entering(self.clone())));
        let queued = target.cell.add_entry(Box::new(move |processor, cx| {
            if let Some(entering) = at_once.0.take() {
                let _taken_back = entering.run(processor, cx, false);
            }
        }));
        if queued { Ok(()) } else { Err(self.stopped()) }
    }

    /// In any other handler or future: its place is among what that sends, in the mailbox or in the outbox.
    fn begin_in_handler(self: Arc<Self>) -> Result<(), CallError> {
        let target = &self.target;
        let entering = Entering(self.clone());
        let refused = if current::outbox_holds(target.key()) {
            Refused::Full(entering)
        } else {
            match target.cell.offer(target.lane, entering, false) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            }
        };
        match refused {
            Refused::Full(entering) if target.waits() => {
                spill(target, entering, None).map_err(|_| CallError::Full)
            }
            Refused::Full(_) => Err(CallError::Full),
            Refused::Closed(_) => Err(self.stopped()),
        }
    }
}

impl<P: Processor, T: Send + 'static> Update<P, T> {
    /// As a message from outside: it stands in line for room.
    fn begin_in_line(
        self: Arc<Self>,
        ticket: &mut Waiter,
        waker: &Waker,
    ) -> Poll<Result<(), CallError>> {
        let (this, target) = (self.clone(), self.target.clone());
        let result = if target.waits() {
            let mut entering = Some(Entering(self));
            let reserve =
                target
                    .cell
                    .poll_push(Sender::Program, target.lane, ticket, waker, &mut entering);
            match reserve {
                Reserve::Granted => return Poll::Ready(Ok(())),
                Reserve::Full => return Poll::Pending,
                Reserve::Closed => Err(this.stopped()),
            }
        } else {
            let entering = Entering(self);
            match target
                .cell
                .offer_by(Sender::Program, target.lane, entering, false)
            {
                Ok(()) => Ok(()),
                Err(Refused::Full(_)) => Err(CallError::Full),
                Err(Refused::Closed(_)) => Err(this.stopped()),
            }
        };
        if result.is_err() {
            target.cell.count_returned();
        }
        Poll::Ready(result)
    }
}

impl<P: Processor, T: Send + 'static> ReplySlot<T> for Update<P, T> {
    fn answer(&self, result: Result<T, CallError>) {
        self.reply.answer(result);
    }

    fn hand_on(&self, _: Option<CellRef>) -> bool {
        false
    }

    fn is_cancelled(&self) -> bool {
        self.reply.is_cancelled()
    }

    // What enters the state does so in one go: nobody asks.
    fn on_cancel(&self, _: Waker) {}
}

impl<P: Processor, T: Send + 'static> Operation<T, CallError> for Update<P, T> {
    fn begin(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        let target = self.target.clone();
        if is_in_handler_future_of(target.id()) {
            target.cell.resign(target.lane, ticket);
            return Poll::Ready(self.begin_at_once());
        }
        if current::handler().is_none() {
            return self.begin_in_line(ticket, waker);
        }
        // It may have stood in line outside.
        target.cell.resign(target.lane, ticket);
        let result = self.begin_in_handler();
        if result.is_err() {
            target.cell.count_returned();
        }
        Poll::Ready(result)
    }

    fn go_on(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        self.begin_in_line(ticket, waker)
    }

    fn cut_short(&self, why: CutShort) -> CallError {
        CallError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "update"
    }

    fn retreat(&self, ticket: &mut Waiter) {
        self.target.cell.resign(self.target.lane, ticket);
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<T, CallError>> {
        self.reply.poll(waker)
    }

    fn is_done(&self) -> bool {
        self.reply.is_done()
    }

    fn abandon(&self, ticket: &mut Waiter) {
        self.target.cell.resign(self.target.lane, ticket);
        let taken_back = self.take_work();
        self.reply.cancel(taken_back.is_some());
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        Some(CleanUp::of(self))
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        let target = &self.target;
        if !target.only_here() || self.is_done() {
            return None;
        }
        Some(CallError::Deadlock(target.circle_here()))
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.target.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.target.runtime().options.call_limit
    }
}

/// Work that has begun goes on.
impl<P: Processor, T: Send + 'static> CleansUp for Update<P, T> {
    fn poll_over(&self, waker: &Waker) -> bool {
        self.reply.poll_over(waker)
    }
}
