//! Why a task has no result.

use crate::services::ServiceError;
use mproc_runtime::{Error, ErrorKind};
use std::fmt;

/// Why a task was not started, or has no result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// The server does not take the goal, for this reason. Nothing was started.
    Refused(String),
    /// The task goes on: it does not want to be cancelled now, or it had ended before. The text says which.
    CancelRefused(String),
    /// The task was cancelled and ended early.
    Cancelled,
    /// The task returned a fault or panicked. The text is its reason.
    Failed(String),
    /// The server knows no such task: its result was fetched before, or is not kept any more.
    Unknown,
    /// The server could not be asked, or has ended.
    Service(ServiceError),
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => write!(f, "goal was refused: {why}"),
            Self::CancelRefused(why) => write!(f, "task goes on: {why}"),
            Self::Cancelled => f.write_str("task was cancelled"),
            Self::Failed(why) => write!(f, "task failed: {why}"),
            Self::Unknown => f.write_str("server knows no such task"),
            Self::Service(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TaskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Service(error) => Some(error),
            _ => None,
        }
    }
}

impl From<ServiceError> for TaskError {
    fn from(error: ServiceError) -> Self {
        Self::Service(error)
    }
}

impl From<TaskError> for Error {
    fn from(error: TaskError) -> Self {
        let kind = match error {
            TaskError::Service(error) => return error.into(),
            TaskError::Refused(_) | TaskError::CancelRefused(_) => ErrorKind::Refused,
            TaskError::Unknown => ErrorKind::NotFound,
            TaskError::Cancelled | TaskError::Failed(_) => ErrorKind::NoReply,
        };
        Self::new(kind, error.to_string())
    }
}
