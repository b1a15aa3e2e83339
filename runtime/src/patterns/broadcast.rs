//! One message for many.

use crate::address::{Address, Told};
use crate::cell::Refused;
use crate::current;
use crate::error::SendError;
use crate::name::Name;
use crate::processor::Handle;
use crate::world::World;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

/// Why a broadcast did not reach everybody. The message itself stays with whoever sent it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BroadcastError {
    /// How many took it.
    pub sent: usize,
    /// Who did not, and why. Those who have ended are not among them.
    pub refused: Vec<(Name, SendError<()>)>,
}

impl BroadcastError {
    /// True if nobody was there any more. No later attempt can succeed, unless somebody is added.
    pub fn is_closed(&self) -> bool {
        self.sent == 0 && self.refused.is_empty()
    }
}

impl fmt::Display for BroadcastError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((name, error)) = self.refused.first() else {
            return f.write_str("all processors have ended");
        };
        let (refused, all) = (self.refused.len(), self.refused.len() + self.sent);
        write!(
            f,
            "{refused} of {all} did not take the message: {name:?}: {error}"
        )?;
        if refused > 1 {
            f.write_str(", and others")?;
        }
        Ok(())
    }
}

impl StdError for BroadcastError {}

/// Whoever takes messages of type `M`, seen by those who choose among several.
pub(crate) trait Target<M>: Send + Sync {
    /// Queues the message if there is room now. A refusal is not counted as a message given back: another may take it.
    fn offer(&self, message: M) -> Result<(), Refused<M>>;

    /// As [`Address::send_timeout`], or [`Address::send`].
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>>;

    fn name(&self) -> &Name;
}

impl<P: Handle<M>, M: Send + 'static> Target<M> for Address<P> {
    fn offer(&self, message: M) -> Result<(), Refused<M>> {
        if current::outbox_holds(self.key()) {
            // It must not overtake what this handler has sent there before.
            return Err(Refused::Full(message));
        }
        match self.cell.offer(self.lane, Told::new(message), false) {
            Ok(()) => Ok(()),
            Err(Refused::Full(Told(m, _))) => Err(Refused::Full(m)),
            Err(Refused::Closed(Told(m, _))) => Err(Refused::Closed(m)),
        }
    }

    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>> {
        Self::send_within(self, message, limit)
    }

    fn name(&self) -> &Name {
        Self::name(self)
    }
}

/// Sends a clone to each: first to all that have room, then, waiting, to the others. Together they take at most `limit`.
pub(crate) fn broadcast<'a, M: Clone, T: Target<M> + ?Sized + 'a>(
    world: &World,
    limit: Duration,
    targets: impl IntoIterator<Item = &'a T>,
    message: &M,
) -> BroadcastError {
    let mut result = BroadcastError {
        sent: 0,
        refused: Vec::new(),
    };
    let mut full = Vec::new();
    for target in targets {
        match target.offer(message.clone()) {
            Ok(()) => result.sent += 1,
            Err(Refused::Full(message)) => full.push((target, message)),
            Err(Refused::Closed(_)) => {}
        }
    }
    if full.is_empty() {
        return result;
    }
    let deadline = world.now().checked_add(limit);
    for (target, message) in full {
        let left = deadline.map_or(limit, |d| d.saturating_duration_since(world.now()));
        match target.send_within(message, Some(left)) {
            Ok(()) => result.sent += 1,
            Err(SendError::Closed(_)) => {}
            Err(error) => {
                let name = target.name().clone();
                result.refused.push((name, error.map(drop)));
            }
        }
    }
    result
}
