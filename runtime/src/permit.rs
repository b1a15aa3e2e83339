//! A place in a mailbox, reserved before there is a message for it.

use crate::address::Address;
use crate::error::{ReserveError, TrySendError};
use crate::handled_by::{HandledBy, Sealed};
use crate::parcel::Parcel;
use crate::pending::{CutShort, Operation};
use crate::processor::Processor;
use crate::queue::{Reserve, Waiter};
use crate::runtime::RuntimeCore;
use crate::sync::{Acquire, AtomicBool, Release};
use crate::waits_for::{Debt, Keeper, Owed};
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// A reserved place in a mailbox. Dropping it gives the place back.
#[must_use = "dropping the permit gives the place back"]
pub struct Permit<P: Processor> {
    target: Option<Address<P>>,
}

impl<P: Processor> Permit<P> {
    /// Sends `message` into the reserved place. Never waits.
    ///
    /// # Errors
    ///
    /// [`Closed`](TrySendError::Closed), with the message, if the processor has ended.
    pub fn send<M: HandledBy<P>>(self, message: M) -> Result<(), TrySendError<M>> {
        message.send_into(self, Sealed)
    }

    /// Puts a parcel into the place; it comes back if the processor has ended.
    pub(crate) fn put<D: Parcel<P>>(mut self, parcel: D) -> Result<(), D> {
        match self.target.take() {
            Some(target) => target.cell.push_reserved(target.lane, parcel),
            None => Err(parcel),
        }
    }
}

impl<P: Processor> Drop for Permit<P> {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            target.cell.release_place(target.lane);
        }
    }
}

impl<P: Processor> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?})", self.target)
    }
}

pub(crate) struct Reservation<P: Processor> {
    target: Address<P>,
    granted: AtomicBool,
}

impl<P: Processor> Reservation<P> {
    pub(crate) fn new(target: Address<P>) -> Self {
        Self {
            target,
            granted: AtomicBool::new(false),
        }
    }
}

impl<P: Processor> Operation<Permit<P>, ReserveError> for Reservation<P> {
    fn begin(
        self: Arc<Self>,
        ticket: &mut Waiter,
        waker: &Waker,
    ) -> Poll<Result<(), ReserveError>> {
        if self.granted.load(Acquire) {
            return Poll::Ready(Ok(()));
        }
        match self
            .target
            .cell
            .poll_reserve(self.target.lane, ticket, waker)
        {
            Reserve::Granted => {
                self.granted.store(true, Release);
                Poll::Ready(Ok(()))
            }
            Reserve::Closed => Poll::Ready(Err(ReserveError::Closed)),
            Reserve::Full if !self.target.waits() => {
                self.target.cell.resign(self.target.lane, ticket);
                Poll::Ready(Err(ReserveError::Full))
            }
            Reserve::Full => Poll::Pending,
        }
    }

    fn retreat(&self, ticket: &mut Waiter) {
        self.target.cell.resign(self.target.lane, ticket);
    }

    fn poll(&self, _: &Waker) -> Poll<Result<Permit<P>, ReserveError>> {
        // Acquire pairs with the Release in `begin`, which may have run on another thread.
        if self.granted.swap(false, Acquire) {
            Poll::Ready(Ok(Permit {
                target: Some(self.target.clone()),
            }))
        } else {
            Poll::Pending
        }
    }

    fn is_done(&self) -> bool {
        self.granted.load(Acquire)
    }

    fn abandon(&self, ticket: &mut Waiter) {
        self.target.cell.resign(self.target.lane, ticket);
        if self.granted.swap(false, Acquire) {
            self.target.cell.release_place(self.target.lane);
        }
    }

    /// A place that was granted goes to the next in line.
    fn cancel(&self, waiter: &mut Waiter) -> bool {
        self.abandon(waiter);
        true
    }

    fn refuse_to_block(&self) -> Option<ReserveError> {
        if !self.target.only_here() || self.granted.load(Acquire) {
            return None;
        }
        // With room there is nothing to wait for.
        match self.target.cell.try_reserve(self.target.lane) {
            Reserve::Granted => {
                self.granted.store(true, Release);
                None
            }
            Reserve::Closed => None,
            Reserve::Full => Some(ReserveError::Deadlock),
        }
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        let keeper = Keeper::of(&**self.target.cell());
        Some(Debt(Owed::Room(vec![keeper])))
    }

    fn detach(&self, waiter: &mut Waiter) {
        self.abandon(waiter);
    }

    fn timeout(&self) -> ReserveError {
        ReserveError::Timeout
    }

    fn cut_short(&self, why: CutShort) -> ReserveError {
        match why {
            CutShort::Cancelled => ReserveError::Cancelled,
            CutShort::Interrupted => ReserveError::Interrupted,
            CutShort::InExecutor => ReserveError::InExecutor,
        }
    }

    fn what(&self) -> &'static str {
        "reserve"
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.target.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.target.runtime().options.send_limit
    }
}
