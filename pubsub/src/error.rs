//! Why a value was not published or a sample not received.

use mproc_runtime::{Error, ErrorKind};
use std::fmt;

/// Why a value was not published. Nobody got it, and it comes back (but see [`Kept`](Self::Kept)).
///
/// `full` names the subscriptions that had no room, by their owner and topic.
#[must_use]
pub enum PublishError<V> {
    /// Somebody who must not miss it has no room now, and this publish does not wait
    /// ([`try_publish`](crate::Publisher::try_publish)), or the handler's outbox is at its cap.
    Full {
        /// What was to be published.
        value: V,
        /// Who has no room.
        full: Vec<String>,
    },
    /// There was no room until the limit.
    Timeout {
        /// What was to be published.
        value: V,
        /// Who had no room.
        full: Vec<String>,
    },
    /// The publisher was closed, or its node has ended.
    Closed(V),
    /// Only this very thread could make room: it waits for callbacks of its own script. Spin first, or use
    /// `try_publish`.
    Deadlock {
        /// What was to be published.
        value: V,
        /// Who has no room.
        full: Vec<String>,
    },
    /// The topic cannot be published on, for this reason: its type, its name.
    Refused {
        /// What was to be published.
        value: V,
        /// Why not.
        error: Error,
    },
    /// The value was not published, and it does not come back: the filter of a subscription to dynamic messages has seen
    /// it as a message and keeps that. Whoever wrote the filter should not.
    Kept {
        /// Why it was not published: what the error would be otherwise.
        error: Error,
    },
}

impl<V> PublishError<V> {
    /// What was not published; `None` if a filter keeps it ([`Kept`](Self::Kept)).
    pub fn into_inner(self) -> Option<V> {
        match self {
            Self::Full { value, .. }
            | Self::Timeout { value, .. }
            | Self::Closed(value)
            | Self::Deadlock { value, .. }
            | Self::Refused { value, .. } => Some(value),
            Self::Kept { .. } => None,
        }
    }

    /// The same reason, with `change` applied to the value.
    pub fn map<W>(self, change: impl FnOnce(V) -> W) -> PublishError<W> {
        match self {
            Self::Full { value, full } => PublishError::Full {
                value: change(value),
                full,
            },
            Self::Timeout { value, full } => PublishError::Timeout {
                value: change(value),
                full,
            },
            Self::Closed(value) => PublishError::Closed(change(value)),
            Self::Deadlock { value, full } => PublishError::Deadlock {
                value: change(value),
                full,
            },
            Self::Refused { value, error } => PublishError::Refused {
                value: change(value),
                error,
            },
            Self::Kept { error } => PublishError::Kept { error },
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } => ErrorKind::NotDelivered,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Closed(_) => ErrorKind::Closed,
            Self::Deadlock { .. } => ErrorKind::Deadlock,
            Self::Refused { error, .. } | Self::Kept { error } => error.kind(),
        }
    }
}

impl<V> fmt::Debug for PublishError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { full, .. } => write!(f, "Full({full:?})"),
            Self::Timeout { full, .. } => write!(f, "Timeout({full:?})"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Deadlock { full, .. } => write!(f, "Deadlock({full:?})"),
            Self::Refused { error, .. } => write!(f, "Refused({error})"),
            Self::Kept { error } => write!(f, "Kept({error})"),
        }
    }
}

impl<V> fmt::Display for PublishError<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full { full, .. } => write!(f, "no room at {}", full.join(", ")),
            Self::Timeout { full, .. } => {
                write!(f, "no room until the limit at {}", full.join(", "))
            }
            Self::Closed(_) => f.write_str("publisher is closed"),
            Self::Deadlock { full, .. } => {
                write!(f, "only this thread could make room at {}", full.join(", "))
            }
            Self::Refused { error, .. } => fmt::Display::fmt(error, f),
            Self::Kept { error } => write!(f, "{error}, and a filter keeps the value"),
        }
    }
}

impl<V> std::error::Error for PublishError<V> {}

impl<V> From<PublishError<V>> for Error {
    fn from(error: PublishError<V>) -> Self {
        Self::new(error.kind(), error.to_string())
    }
}

/// Why no sample was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing came within the limit.
    Timeout,
    /// The subscription is closed and everything queued has been received.
    Closed,
    /// The subscription was closed because its queue was full
    /// ([`WhenFull::Disconnect`](mproc_runtime::WhenFull::Disconnect)), and everything queued has been received.
    Disconnected,
    /// The receive was [cancelled](mproc_runtime::Ticket::cancel), or its sample was taken before. Nothing was lost.
    Cancelled,
    /// The program was interrupted meanwhile. Nothing was lost.
    Interrupted,
    /// It would have blocked a thread of an async executor: await it. See
    /// [`Options::blocking_in_executor`](mproc_runtime::Options::blocking_in_executor).
    InExecutor,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "no sample within the limit",
            Self::Closed => "subscription is closed",
            Self::Disconnected => "subscription was closed because its queue was full",
            Self::Cancelled => "receive was cancelled",
            Self::Interrupted => "program was interrupted",
            Self::InExecutor => "refused to block a thread of an async executor; await it",
        })
    }
}

impl std::error::Error for RecvError {}

impl From<RecvError> for Error {
    fn from(error: RecvError) -> Self {
        let kind = match error {
            RecvError::Timeout => ErrorKind::Timeout,
            RecvError::Closed | RecvError::Disconnected => ErrorKind::Closed,
            RecvError::Cancelled => ErrorKind::Cancelled,
            RecvError::Interrupted => ErrorKind::Interrupted,
            RecvError::InExecutor => ErrorKind::Refused,
        };
        Self::new(kind, error.to_string())
    }
}

/// Why [`try_recv`](crate::Subscription::try_recv) gave no sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TryRecvError {
    /// Nothing is queued, or others already wait for what is.
    Empty,
    /// As [`RecvError::Closed`].
    Closed,
    /// As [`RecvError::Disconnected`].
    Disconnected,
}

impl fmt::Display for TryRecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "no sample is queued",
            Self::Closed => "subscription is closed",
            Self::Disconnected => "subscription was closed because its queue was full",
        })
    }
}

impl std::error::Error for TryRecvError {}

impl From<TryRecvError> for Error {
    fn from(error: TryRecvError) -> Self {
        let kind = match error {
            TryRecvError::Empty => ErrorKind::NotDelivered,
            TryRecvError::Closed | TryRecvError::Disconnected => ErrorKind::Closed,
        };
        Self::new(kind, error.to_string())
    }
}
