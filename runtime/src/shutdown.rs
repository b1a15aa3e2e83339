//! What is left when something ends.

use crate::cell::AnyCell;
use crate::id::ProcessorId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[must_use]
pub struct ShutdownReport {
    /// Processors that had not ended at the limit. They end as soon as their handlers return.
    pub left: Vec<Left>,
    /// Called from inside a handler: the end has begun and nobody waited for it.
    pub only_begun: bool,
    /// How long it took.
    pub took: Duration,
}

impl ShutdownReport {
    /// True if everything ended within the limit.
    pub fn is_clean(&self) -> bool {
        self.left.is_empty() && !self.only_begun
    }
}

/// A processor that had not ended at the limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Left {
    /// Its id.
    pub id: ProcessorId,
    /// Its name.
    pub name: String,
    /// Messages that it had not handled.
    pub queued: u64,
    /// For how long it has been in a handler, if it is in one.
    pub handling: Option<Duration>,
    /// The type of the message that it handles or handled last, as in
    /// [`ProcessorSnapshot`](crate::ProcessorSnapshot::last_message_type).
    pub last_message_type: Option<String>,
}

impl Left {
    pub(crate) fn of(cell: &dyn AnyCell) -> Self {
        let snapshot = cell.snapshot();
        Self {
            id: snapshot.id,
            name: snapshot.name,
            queued: snapshot.queued,
            handling: snapshot.handling_ns.map(Duration::from_nanos),
            last_message_type: snapshot.last_message_type,
        }
    }
}

/// `all ended in 1.2ms`, or what is left.
impl fmt::Display for ShutdownReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.only_begun {
            return f.write_str("the end has begun");
        }
        if self.left.is_empty() {
            return write!(f, "all ended in {:?}", self.took);
        }
        write!(f, "not ended after {:?}:", self.took)?;
        for left in &self.left {
            write!(f, " {:?} ({} queued", left.name, left.queued)?;
            match (left.handling, &left.last_message_type) {
                (Some(time), Some(message)) => {
                    write!(f, ", in the handler of {message} for {time:?})")?;
                }
                (Some(time), None) => write!(f, ", in a handler for {time:?})")?,
                (None, _) => f.write_str(")")?,
            }
        }
        Ok(())
    }
}
