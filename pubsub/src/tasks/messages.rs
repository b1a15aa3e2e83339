//! What a task's client and its server say to each other: the requests and the replies of one service.

use serde::{Deserialize, Serialize};

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TaskRequest<G> {
    /// Answered when the task has ended, or was not accepted. The key is the client's.
    Run {
        key: (u64, u64),
        goal: G,
    },
    /// Comes behind a Run.
    Accepted {
        key: (u64, u64),
    },
    Result {
        id: u64,
    },
    Feedback {
        id: u64,
        after: u64,
    },
    Cancel {
        id: u64,
    },
    Detach {
        id: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TaskReply<F, R> {
    Accepted {
        id: u64,
    },
    Refused(String),
    Ended(TaskEnd<R>),
    /// Numbers have gaps where feedback was dropped.
    Feedback {
        number: u64,
        value: F,
    },
    /// No more comes.
    NoFeedback,
    /// The task ends early.
    CancelAccepted,
    CancelRefused(String),
    Detached,
    /// There is no such task, or its result is not kept any more.
    Unknown,
    /// The server ends before the task has.
    Gone,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum TaskEnd<R> {
    Done(R),
    Cancelled,
    Failed(String),
}
