//! A call: a message on its way there, its reply on the way back, and who waits for it.

use crate::address::Address;
use crate::cell::{CellRef, Refused};
use crate::context::{Cx, Promise, ReplySlot};
use crate::current;
use crate::dead_letters::DropCause;
use crate::error::CallError;
use crate::exit::Exit;
use crate::hook::{self, Cause};
use crate::name::Name;
use crate::parcel::Parcel;
use crate::pending::{CleanUp, CleansUp, CutShort, Operation};
use crate::processor::{Handle, Processor};
use crate::queue::{Reserve, Waiter};
use crate::runtime::RuntimeCore;
use crate::sends::Sender;
use crate::spill::spill;
use crate::sync::{Acquire, AtomicBool, Mutex, Release};
use crate::waits_for::{Answer, Debt, Owed, Owner};
use std::any::Any;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

pub(crate) fn discarded(exit: Option<&Exit>) -> CallError {
    match exit {
        Some(exit) => CallError::Stopped(exit.clone()),
        None => CallError::Dropped,
    }
}

/// A call: its message on the way there, its reply on the way back, and who waits. One allocation for all of it.
#[repr(C)]
pub(crate) struct Call<P: Handle<M>, M> {
    /// Set after `state.result`, so that a spinning caller need not lock.
    done: AtomicBool,
    /// Keeps `done`, on which the caller spins, off the cache lines of what the driver works on.
    apart: [u8; 64],
    target: Address<P>,
    cause: Cause,
    state: Mutex<CallState<M, P::Reply>>,
}

impl<P: Handle<M>, M> Call<P, M> {
    pub(crate) fn new(target: Address<P>, message: M) -> Self {
        Self {
            done: AtomicBool::new(false),
            apart: [0; 64],
            target,
            cause: Cause::here(),
            state: Mutex::new(CallState {
                message: Some(message),
                cancelled: false,
                taken_back: false,
                answered: false,
                debtor: Debtor::Target,
                is_shown: false,
                result: None,
                waker: None,
                cancel_waker: None,
            }),
        }
    }
}

struct CallState<M, R> {
    /// Until the handler takes it, or the caller takes it back.
    message: Option<M>,
    cancelled: bool,
    /// By the caller that gave up: no handler has seen it.
    taken_back: bool,
    answered: bool,
    debtor: Debtor,
    /// A thread blocks for it, and that is to be seen in `waits_for`.
    is_shown: bool,
    result: Option<Result<R, CallError>>,
    waker: Option<Waker>,
    /// Of whoever owes the answer and wants to know that nobody waits for it any more.
    cancel_waker: Option<Waker>,
}

/// Who owes the answer.
enum Debtor {
    Target,
    /// The message was handed on to this one.
    Other(CellRef),
    /// Anybody may have the token.
    Unknown,
}

/// A call's message in a mailbox.
struct Asked<P: Handle<M>, M>(Arc<Call<P, M>>);

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Asked<P, M> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let message = self.0.state.lock().message.take();
        match message {
            Some(message) => {
                let cause = self.0.cause.clone();
                let _span = hook::handling(cx.name(), std::any::type_name::<M>(), cause);
                cx.handle_for(processor, message, Promise::owed(Some(self.0)));
            }
            // The caller gave up and took it back.
            None => cx.uncount_cancelled(),
        }
    }

    fn discard(self, _: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        let message = self.0.state.lock().message.take();
        self.0.answer(Err(discarded(exit)));
        message.map(|m| Box::new(m) as _)
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
    }
}

impl<P: Handle<M>, M: Send> ReplySlot<P::Reply> for Call<P, M> {
    fn answer(&self, result: Result<P::Reply, CallError>) {
        let waker = {
            let mut state = self.state.lock();
            if std::mem::replace(&mut state.answered, true) {
                return;
            }
            if !state.cancelled {
                state.result = Some(result);
            }
            state.waker.take()
        };
        // Release pairs with the Acquire in `is_done`.
        self.done.store(true, Release);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn hand_on(&self, to: Option<CellRef>) -> bool {
        let to = to.map_or(Debtor::Unknown, Debtor::Other);
        // The cell before is dropped after the lock is released.
        let (is_shown, _before) = {
            let mut state = self.state.lock();
            let before = std::mem::replace(&mut state.debtor, to);
            (state.is_shown, before)
        };
        is_shown
    }

    fn is_cancelled(&self) -> bool {
        self.state.lock().cancelled
    }

    fn on_cancel(&self, waker: Waker) {
        let (wake, _before) = {
            let mut state = self.state.lock();
            if state.cancelled {
                (Some(waker), None)
            } else {
                (None, state.cancel_waker.replace(waker))
            }
        };
        if let Some(waker) = wake {
            waker.wake();
        }
    }
}

impl<P: Handle<M>, M: Send> Answer for Call<P, M> {
    fn is_there(&self) -> bool {
        self.done.load(Acquire)
    }

    fn owner(&self) -> Option<Owner> {
        let state = self.state.lock();
        let target = &self.target.cell;
        match &state.debtor {
            // While it is queued, whoever sends next may evict it, and that is an answer, too.
            Debtor::Target if state.message.is_some() && target.evicts() => None,
            Debtor::Target => Some(Owner::of(&**target)),
            Debtor::Other(cell) => Some(Owner::of(&**cell)),
            Debtor::Unknown => None,
        }
    }

    fn will_be_waited_for(&self) {
        self.state.lock().is_shown = true;
    }
}

impl<P: Handle<M>, M: Send + 'static> Operation<P::Reply, CallError> for Call<P, M> {
    fn begin(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        if current::handler().is_none() {
            return self.begin_in_line(ticket, waker);
        }
        // It may have stood in line outside. Here it takes its place among what the handler sends.
        self.target.cell.resign(self.target.lane, ticket);
        let result = self.begin_in_handler(&mut Some(Asked(self.clone())));
        if result.is_err() {
            self.target.cell.count_returned();
        }
        Poll::Ready(result)
    }

    fn go_on(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), CallError>> {
        self.begin_in_line(ticket, waker)
    }

    fn retreat(&self, ticket: &mut Waiter) {
        self.target.cell.resign(self.target.lane, ticket);
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<P::Reply, CallError>> {
        // Made before the lock is taken and dropped after it: a waker's clone and drop are the user's code.
        let mut waker = (!self.is_done()).then(|| waker.clone());
        let mut state = self.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                Poll::Pending
            }
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    fn abandon(&self, ticket: &mut Waiter) {
        self.target.cell.resign(self.target.lane, ticket);
        // Dropped after the lock is released: a message's drop is the user's code.
        let (_dropped, told) = {
            let mut state = self.state.lock();
            state.cancelled = true;
            state.taken_back |= state.message.is_some();
            let dropped = (
                state.message.take(),
                state.result.take(),
                state.waker.take(),
            );
            (dropped, state.cancel_waker.take())
        };
        if let Some(waker) = told {
            waker.wake();
        }
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        let target = &self.target;
        if !target.only_here() || self.is_done() {
            return None;
        }
        Some(CallError::Deadlock(target.circle_here()))
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        Some(Debt(Owed::Answer(self)))
    }

    fn deadlock(&self, circle: Vec<Name>) -> CallError {
        CallError::Deadlock(circle)
    }

    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        Some(CleanUp::of(self))
    }

    fn cut_short(&self, why: CutShort) -> CallError {
        CallError::cut_short(why)
    }

    fn what(&self) -> &'static str {
        "call"
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

/// A handler that has begun goes on; what it has promised for later counts, too.
impl<P: Handle<M>, M: Send + 'static> CleansUp for Call<P, M> {
    fn poll_over(&self, waker: &Waker) -> bool {
        // As in `Operation::poll`.
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        if state.taken_back || state.answered {
            return true;
        }
        std::mem::swap(&mut state.waker, &mut waker);
        drop(state);
        false
    }
}

impl<P: Handle<M>, M: Send + 'static> Call<P, M> {
    /// It has its place in the mailbox, or stands in line for one. Whoever's thread this is has no part in it.
    fn begin_in_line(
        self: &Arc<Self>,
        ticket: &mut Waiter,
        waker: &Waker,
    ) -> Poll<Result<(), CallError>> {
        let target = &self.target;
        let result = if target.waits() {
            let mut parcel = Some(Asked(self.clone()));
            match target
                .cell
                .poll_push(Sender::Program, target.lane, ticket, waker, &mut parcel)
            {
                Reserve::Granted => return Poll::Ready(Ok(())),
                Reserve::Full => return Poll::Pending,
                Reserve::Closed => Err(self.stopped()),
            }
        } else {
            let asked = Asked(self.clone());
            match target
                .cell
                .offer_by(Sender::Program, target.lane, asked, false)
            {
                Ok(()) => Ok(()),
                Err(Refused::Full(_)) => Err(CallError::Full),
                Err(Refused::Closed(_)) => Err(self.stopped()),
            }
        };
        if result.is_err() {
            target.cell.count_returned();
        }
        Poll::Ready(result)
    }

    /// The message, if it was not queued: for whoever calls another instead.
    pub(crate) fn take_back(&self) -> Option<M> {
        self.state.lock().message.take()
    }

    fn stopped(&self) -> CallError {
        CallError::Stopped(self.target.cell.ended().unwrap_or(Exit::Stopped))
    }

    /// A call inside a handler has its place among what the handler sends: in the mailbox, or in the outbox.
    fn begin_in_handler(
        self: &Arc<Self>,
        parcel: &mut Option<Asked<P, M>>,
    ) -> Result<(), CallError> {
        let target = &self.target;
        let Some(asked) = parcel.take() else {
            return Ok(());
        };
        let behind = current::outbox_holds(target.key());
        let refused = if behind {
            Refused::Full(asked)
        } else {
            match target.cell.offer(target.lane, asked, false) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            }
        };
        match refused {
            Refused::Full(asked) if target.waits() => {
                spill(target, asked, None).map_err(|_| CallError::Full)
            }
            Refused::Full(_) => Err(CallError::Full),
            Refused::Closed(_) => Err(self.stopped()),
        }
    }
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Handles a message for whoever waits behind `promise`.
    #[inline]
    pub(crate) fn handle_for<M>(
        &mut self,
        processor: &mut P,
        message: M,
        promise: Promise<P::Reply>,
    ) where
        P: Handle<M>,
    {
        let mut cx = self.with_promise(promise);
        cx.about_to_handle();
        let outcome = processor.handle(message, &mut cx);
        cx.conclude(processor, outcome);
    }
}
