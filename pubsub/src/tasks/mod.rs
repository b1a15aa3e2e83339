//! Long tasks: a goal that is accepted or refused, feedback while it is pursued, a result, and a cancel that the task answers.
//!
//! A task's server is a processor that serves one service, `mproc/task/` and the task's name. What a client does is a call of it:
//!
//! ```text
//! client                              server
//!   Run(key, goal)          ---->       asks `accept`; a thread of its own runs the task
//!   Accepted(key)           ---->
//!                           <----     Accepted(id): the answer to Accepted. Or Refused: that to Run
//!   Feedback(id, after)     ---->       answered when there is a later one, or the task has ended
//!   Cancel(id)              ---->       answered when the task accepts or refuses
//!                           <----     Ended: the answer to Run
//! ```
//!
//! Run is under way as long as the task runs and its client has a handle. When it is cancelled (the handle was dropped, or the
//! client's process is gone) nobody waits for the task any more, and the server asks it to end. So nothing is needed
//! between processes that services do not have, and there is no moment at which a task is nobody's. A handle that was detached asks
//! with Result(id), later or elsewhere.
//!
//! Feedback is pulled, and not published: it reaches the one who asked for the task, its bound is exact, a client that comes back
//! to it loses nothing, and what is there when the task ends is still read.

mod client;
mod error;
mod messages;
mod server;
mod start;

pub use client::{GoalHandle, TaskClient, TaskFeedback};
pub use error::TaskError;
pub use server::{TaskCx, TaskOptions, TaskServer};

/// The service behind a task.
fn service(task: &str) -> String {
    format!("mproc/task/{task}")
}
