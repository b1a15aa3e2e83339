//! Why a call of a service has no reply.

use mproc_runtime::{CallError, CutShort, Error, ErrorKind, Exit, Name};
use std::fmt;

/// Why a call of a service has no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServiceError {
    /// Nobody serves it now. Nothing was sent. [`Client::wait_for_service`](crate::Client::wait_for_service) waits until
    /// somebody does.
    NoServer,
    /// The server ended before it replied: it was stopped, its node has ended, or its process is dead. The text says which.
    /// The request may have been handled, in part or as a whole.
    Gone(String),
    /// The server's handler returned a fault or panicked. The text is its reason.
    Failed(String),
    /// The server's mailbox dropped the request before it was handled, by its policy.
    Dropped,
    /// The server let go of the request without a reply.
    NoReply,
    /// The server's mailbox was full, and its policy is to refuse. Nothing was handled.
    Full,
    /// No reply within the limit (5 seconds unless told otherwise). The server is told that nobody waits any more. If the
    /// request was still queued it is not handled; else it may have been.
    Timeout,
    /// Waiting here could never end: the call would have closed a circle within this process. As
    /// [`CallError::Deadlock`].
    Deadlock(Vec<Name>),
    /// The server takes or gives other types. The text names both. No later call can succeed with this client.
    TypeConflict(String),
    /// The bytes of the request, or of the reply, are no value of the type. The text says which, and what is wrong.
    Undecodable(String),
    /// The request, or the reply, could not be sent to another process: it cannot be encoded, or there never is so much shared
    /// memory. The text says why.
    NotSent(String),
    /// The call was [cancelled](mproc_runtime::Ticket::cancel), or its result was taken before. The server is told.
    Cancelled,
    /// The program was interrupted meanwhile, and the call was cancelled.
    Interrupted,
    /// It would have blocked a thread of an async executor: await it. Nothing was sent. See
    /// [`Options::blocking_in_executor`](mproc_runtime::Options::blocking_in_executor).
    InExecutor,
    /// This node has ended, or belongs to the process that this one was forked from. No later call can succeed.
    Closed,
}

impl ServiceError {
    pub(crate) fn cut_short(why: CutShort) -> Self {
        match why {
            CutShort::Interrupted => Self::Interrupted,
            CutShort::InExecutor => Self::InExecutor,
            _ => Self::Cancelled,
        }
    }

    /// What the caller is told of a call that went to a processor of this process.
    pub(crate) fn of_call(error: CallError) -> Self {
        match error {
            CallError::Full => Self::Full,
            CallError::Timeout => Self::Timeout,
            CallError::Stopped(Exit::Stopped) => Self::Gone("it has stopped".to_owned()),
            CallError::Stopped(exit) => Self::Gone(exit.to_string()),
            CallError::Restarted => Self::Gone("it was restarted".to_owned()),
            CallError::Dropped => Self::Dropped,
            CallError::NoReply => Self::NoReply,
            CallError::Faulted(fault) => Self::Failed(fault.to_string()),
            CallError::Panicked(message) => Self::Failed(format!("panicked: {message}")),
            CallError::Deadlock(circle) => Self::Deadlock(circle),
            CallError::Cancelled => Self::Cancelled,
            CallError::Interrupted => Self::Interrupted,
            CallError::InExecutor => Self::InExecutor,
            other => Self::Failed(other.to_string()),
        }
    }

    /// Its number and its text in a frame.
    pub(crate) fn to_wire(&self) -> (u8, String) {
        match self {
            Self::NoServer => (1, String::new()),
            Self::Gone(text) => (2, text.clone()),
            Self::Failed(text) => (3, text.clone()),
            Self::Dropped => (4, String::new()),
            Self::NoReply => (5, String::new()),
            Self::Full => (6, String::new()),
            Self::Undecodable(text) => (7, text.clone()),
            Self::NotSent(text) => (8, text.clone()),
            Self::TypeConflict(text) => (9, text.clone()),
            // They are about the waiting side; a server that says so failed.
            other @ (Self::Timeout
            | Self::Deadlock(_)
            | Self::Cancelled
            | Self::Interrupted
            | Self::InExecutor
            | Self::Closed) => (3, other.to_string()),
        }
    }

    /// What a frame says. Any number may come.
    pub(crate) fn from_wire(number: u8, text: &str) -> Self {
        let text = || text.to_owned();
        match number {
            1 => Self::NoServer,
            2 => Self::Gone(text()),
            4 => Self::Dropped,
            5 => Self::NoReply,
            6 => Self::Full,
            7 => Self::Undecodable(text()),
            8 => Self::NotSent(text()),
            9 => Self::TypeConflict(text()),
            _ => Self::Failed(text()),
        }
    }
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer => f.write_str("nobody serves it"),
            Self::Gone(why) => write!(f, "server ended before it replied: {why}"),
            Self::Failed(why) => write!(f, "server failed: {why}"),
            Self::Dropped => f.write_str("request was dropped before it was handled"),
            Self::NoReply => f.write_str("server let go of the request without a reply"),
            Self::Full => f.write_str("server's mailbox is full"),
            Self::Timeout => f.write_str("no reply within the limit"),
            Self::Deadlock(circle) => CallError::Deadlock(circle.clone()).fmt(f),
            Self::TypeConflict(what) => f.write_str(what),
            Self::Undecodable(what) => f.write_str(what),
            Self::NotSent(what) => f.write_str(what),
            Self::Cancelled => f.write_str("call was cancelled"),
            Self::Interrupted => f.write_str("program was interrupted"),
            Self::InExecutor => {
                f.write_str("refused to block a thread of an async executor; await it")
            }
            Self::Closed => f.write_str("this node has ended"),
        }
    }
}

impl std::error::Error for ServiceError {}

impl From<ServiceError> for Error {
    fn from(error: ServiceError) -> Self {
        let kind = match error {
            ServiceError::NoServer => ErrorKind::NotFound,
            ServiceError::Gone(_) | ServiceError::Closed => ErrorKind::Closed,
            ServiceError::Timeout => ErrorKind::Timeout,
            ServiceError::Deadlock(_) => ErrorKind::Deadlock,
            ServiceError::TypeConflict(_) => ErrorKind::TypeConflict,
            ServiceError::Undecodable(_) | ServiceError::NotSent(_) => ErrorKind::Codec,
            ServiceError::Full => ErrorKind::NotDelivered,
            ServiceError::Cancelled => ErrorKind::Cancelled,
            ServiceError::Interrupted => ErrorKind::Interrupted,
            ServiceError::InExecutor => ErrorKind::Refused,
            _ => ErrorKind::NoReply,
        };
        Self::new(kind, error.to_string())
    }
}
