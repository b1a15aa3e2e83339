//! Whoever takes messages of one type.

use crate::address::Address;
use crate::error::{ReserveError, SendError, TrySendError};
use crate::id::ProcessorId;
use crate::name::Name;
use crate::pending::{Operation, Pending};
use crate::permit::Permit;
use crate::processor::{Handle, Processor};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whoever takes messages of type `M`, where only that matters, and what a [`call`](Self::call) gets back.
///
/// # Examples
///
/// Two processors that reply differently, told and called alike:
///
/// ```
/// # use mproc_runtime::{Recipient, Runtime, closure};
/// let node = Runtime::simulated(1);
/// let shouts = node.spawn_thread("shouts", closure(|_: u8, _cx| Ok::<_, std::fmt::Error>("!")))?;
/// let counts = node.spawn_thread("counts", closure(|n: u8, _cx| Ok::<_, std::fmt::Error>(n + 1)))?;
///
/// let all: [Recipient<u8>; 2] = [shouts.recipient(), counts.recipient()];
/// for one in &all {
///     one.send(1)?;
///     one.call(2).wait()?; // `()`: it has been handled
/// }
/// let next: Recipient<u8, u8> = counts.recipient_with_reply();
/// assert_eq!(next.call(3).wait()?, 4);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub struct Recipient<M, R = ()>(Arc<dyn Receive<M, R>>);

trait Receive<M, R>: Send + Sync {
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>>;
    fn try_send(&self, message: M) -> Result<(), TrySendError<M>>;
    fn reserve(&self) -> Pending<RecipientPermit<M>, ReserveError>;
    fn call(&self, message: M) -> Pending<R>;
    fn id(&self) -> ProcessorId;
    fn name(&self) -> &Name;
}

/// An address, and how to call it for what the recipient gives back.
struct Target<P: Processor, C> {
    address: Address<P>,
    call: C,
}

impl<P, M, R, C> Receive<M, R> for Target<P, C>
where
    P: Handle<M>,
    M: Send + 'static,
    C: Fn(&Address<P>, M) -> Pending<R> + Send + Sync,
{
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>> {
        self.address.send_within(message, limit)
    }

    fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.address.try_send(message)
    }

    fn reserve(&self) -> Pending<RecipientPermit<M>, ReserveError> {
        let permit = |permit: Permit<P>| RecipientPermit(Box::new(permit));
        map(self.address.reserve_operation(), permit)
    }

    fn call(&self, message: M) -> Pending<R> {
        (self.call)(&self.address, message)
    }

    fn id(&self) -> ProcessorId {
        self.address.cell.id
    }

    fn name(&self) -> &Name {
        &self.address.cell.name
    }
}

impl<P: Processor> Address<P> {
    /// The processor as one that takes messages of type `M`, whatever else it is and replies.
    pub fn recipient<M: Send + 'static>(&self) -> Recipient<M>
    where
        P: Handle<M>,
    {
        Recipient(Arc::new(Target {
            address: self.clone(),
            call: |to: &Address<P>, message: M| map(to.call_operation(message), drop),
        }))
    }

    /// The processor as one that takes messages of type `M` and replies to them as it does, whatever else it is.
    pub fn recipient_with_reply<M: Send + 'static>(&self) -> Recipient<M, P::Reply>
    where
        P: Handle<M>,
    {
        Recipient(Arc::new(Target {
            address: self.clone(),
            call: |to: &Address<P>, message: M| Pending::new(to.call_operation(message)),
        }))
    }
}

impl<P: Handle<M>, M: Send + 'static> From<Address<P>> for Recipient<M> {
    fn from(address: Address<P>) -> Self {
        address.recipient()
    }
}

impl<M: Send + 'static, R: 'static> Recipient<M, R> {
    /// As [`Address::send`].
    ///
    /// # Errors
    ///
    /// As [`Address::send`].
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`].
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.0.send_within(message, None)
    }

    /// As [`Address::send_timeout`].
    ///
    /// # Errors
    ///
    /// As [`Address::send_timeout`].
    ///
    /// # Deadlocks
    ///
    /// As [`Address::send`].
    pub fn send_timeout(&self, message: M, limit: Duration) -> Result<(), SendError<M>> {
        self.0.send_within(message, Some(limit))
    }

    /// As [`Address::try_send`].
    ///
    /// # Errors
    ///
    /// As [`Address::try_send`].
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.0.try_send(message)
    }

    /// As [`Address::reserve`].
    ///
    /// # Errors
    ///
    /// As [`Address::reserve`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::reserve`].
    pub fn reserve(&self) -> Pending<RecipientPermit<M>, ReserveError> {
        self.0.reserve()
    }

    /// As [`Address::call`]. Where the recipient was made without the reply, it gives `()` when the message has been
    /// answered.
    ///
    /// # Errors
    ///
    /// As [`Address::call`].
    ///
    /// # Cancel safety
    ///
    /// As [`Address::call`].
    pub fn call(&self, message: M) -> Pending<R> {
        self.0.call(message)
    }

    /// Whose address it is.
    pub fn id(&self) -> ProcessorId {
        self.0.id()
    }

    /// What it is called.
    pub fn name(&self) -> &Name {
        self.0.name()
    }
}

impl<M, R> Clone for Recipient<M, R> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M, R> fmt::Debug for Recipient<M, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({} {:?})", self.0.id(), self.0.name())
    }
}

/// A reserved place in a mailbox, for a message of type `M`. Dropping it gives the place back.
#[must_use = "dropping the permit gives the place back"]
pub struct RecipientPermit<M>(Box<dyn Place<M>>);

trait Place<M>: Send + Sync {
    fn send(self: Box<Self>, message: M) -> Result<(), TrySendError<M>>;
}

impl<P: Handle<M>, M: Send + 'static> Place<M> for Permit<P> {
    fn send(self: Box<Self>, message: M) -> Result<(), TrySendError<M>> {
        Permit::send(*self, message)
    }
}

impl<M: Send + 'static> RecipientPermit<M> {
    /// As [`Permit::send`].
    ///
    /// # Errors
    ///
    /// As [`Permit::send`].
    pub fn send(self, message: M) -> Result<(), TrySendError<M>> {
        self.0.send(message)
    }
}

impl<M> fmt::Debug for RecipientPermit<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecipientPermit")
    }
}

fn map<T: 'static, E: 'static, U: 'static>(
    op: Arc<dyn Operation<T, E>>,
    map: impl Fn(T) -> U + Send + Sync + 'static,
) -> Pending<U, E> {
    Pending::new(op).map(map)
}
