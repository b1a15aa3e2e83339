//! What sending asks of a message: that its receiver handles it.
//!
//! [`Address::send`] could ask `P: Handle<M>` itself. But a processor that handles one type of message lets the compiler
//! guess `M` before it has looked at the message, which then has "mismatched types", and one that handles none lets it
//! guess nothing, so the report speaks of `_`. Asked this way round, `M` is what was given, and the report names it.

use crate::address::{Address, Told};
use crate::error::{SendError, TrySendError};
use crate::pending::Pending;
use crate::permit::Permit;
use crate::processor::{Handle, Processor};
use std::time::Duration;

/// A message that processors of type `P` handle: [`Handle<M>`](Handle) seen from the message.
///
/// It is implemented for every message of a [`Handle`] that can be sent to another thread, and cannot be implemented
/// otherwise. Write `P: Handle<M>` in bounds of your own; sending then works, too.
#[diagnostic::on_unimplemented(
    message = "`{P}` does not handle messages of type `{Self}`",
    label = "no handler for `{Self}`",
    note = "add `impl Handle<{Self}> for {P}`"
)]
pub trait HandledBy<P: Processor>: Sized + Send + 'static {
    /// What a [`call`](Address::call) with it gets back.
    type Reply: Send + 'static;

    #[doc(hidden)]
    fn send_to(
        self,
        to: &Address<P>,
        limit: Option<Duration>,
        _: Sealed,
    ) -> Result<(), SendError<Self>>;

    #[doc(hidden)]
    fn try_send_to(self, to: &Address<P>, _: Sealed) -> Result<(), TrySendError<Self>>;

    #[doc(hidden)]
    fn call_to(self, to: &Address<P>, _: Sealed) -> Pending<Self::Reply>;

    #[doc(hidden)]
    fn send_into(self, place: Permit<P>, _: Sealed) -> Result<(), TrySendError<Self>>;
}

/// Nobody outside can name it, so nobody outside can implement the trait or call its methods.
#[derive(Clone, Copy, Debug)]
pub struct Sealed;

impl<P: Handle<M>, M: Send + 'static> HandledBy<P> for M {
    type Reply = P::Reply;

    #[inline]
    fn send_to(
        self,
        to: &Address<P>,
        limit: Option<Duration>,
        _: Sealed,
    ) -> Result<(), SendError<M>> {
        to.send_within(self, limit)
    }

    #[inline]
    fn try_send_to(self, to: &Address<P>, _: Sealed) -> Result<(), TrySendError<M>> {
        to.try_send_now(self)
    }

    #[inline]
    fn call_to(self, to: &Address<P>, _: Sealed) -> Pending<P::Reply> {
        Pending::new(to.call_operation(self))
    }

    #[inline]
    fn send_into(self, place: Permit<P>, _: Sealed) -> Result<(), TrySendError<M>> {
        place
            .put(Told::new(self))
            .map_err(|Told(message, _)| TrySendError::Closed(message))
    }
}
