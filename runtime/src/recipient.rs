//! Whoever takes messages of one type.

use crate::address::Address;
use crate::error::{SendError, TrySendError};
use crate::id::ProcessorId;
use crate::name::Name;
use crate::processor::{Handle, Processor};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whoever takes messages of type `M`, where only that matters.
pub struct Recipient<M>(Arc<dyn Receive<M>>);

trait Receive<M>: Send + Sync {
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>>;
    fn try_send(&self, message: M) -> Result<(), TrySendError<M>>;
    fn id(&self) -> ProcessorId;
    fn name(&self) -> &Name;
}

impl<P: Handle<M>, M: Send + 'static> Receive<M> for Address<P> {
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>> {
        Address::send_within(self, message, limit)
    }

    fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        Address::try_send(self, message)
    }

    fn id(&self) -> ProcessorId {
        self.cell.id
    }

    fn name(&self) -> &Name {
        &self.cell.name
    }
}

impl<P: Processor> Address<P> {
    /// The processor as one that takes messages of type `M`, whatever else it is.
    pub fn recipient<M: Send + 'static>(&self) -> Recipient<M>
    where
        P: Handle<M>,
    {
        Recipient(Arc::new(self.clone()))
    }
}

impl<P: Handle<M>, M: Send + 'static> From<Address<P>> for Recipient<M> {
    fn from(address: Address<P>) -> Self {
        Self(Arc::new(address))
    }
}

impl<M: Send + 'static> Recipient<M> {
    /// As [`Address::send`].
    ///
    /// # Errors
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

    /// Whose address it is.
    pub fn id(&self) -> ProcessorId {
        self.0.id()
    }

    /// What it is called.
    pub fn name(&self) -> &Name {
        self.0.name()
    }
}

impl<M> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Recipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({} {:?})", self.0.id(), self.0.name())
    }
}
