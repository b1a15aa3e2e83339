//! Whoever wants tasks to be carried out.

use super::error::TaskError;
use super::messages::{TaskEnd, TaskReply, TaskRequest};
use super::start::{self, Start};
use crate::graph::Graph;
use crate::services::{Client, ServiceError};
use mproc_runtime::{Error, Pending, Runtime};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

type TaskService<G, F, R> = Client<TaskRequest<G>, TaskReply<F, R>>;

/// Starts tasks by name, whoever carries them out. Cheap to clone.
pub struct TaskClient<G, F, R> {
    service: TaskService<G, F, R>,
    name: Arc<str>,
}

/// A task that was accepted. Dropping it asks the task to end early; [`detach`](Self::detach) lets it go on.
#[must_use = "dropping it cancels the task"]
pub struct GoalHandle<G, F, R> {
    service: TaskService<G, F, R>,
    id: u64,
    /// The call that is answered with the result. While it is under way, somebody waits for the task.
    result: Pending<TaskReply<F, R>, ServiceError>,
    /// The number of the last feedback that was taken.
    seen: Arc<AtomicU64>,
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskFeedback<F> {
    /// What the task has said.
    pub value: F,
    /// How many that it said since the last were dropped, because too many were waiting to be taken.
    pub gap: u64,
}

impl Graph {
    /// A client of the task `name`. Nobody need serve it yet.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn task_client<G, F, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
    ) -> Result<TaskClient<G, F, R>, Error>
    where
        G: Serialize + DeserializeOwned + Send + 'static,
        F: Serialize + DeserializeOwned + Clone + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Ok(TaskClient {
            service: self.client_of(runtime, &super::service(name))?,
            name: name.into(),
        })
    }
}

impl<G, F, R> TaskClient<G, F, R>
where
    G: Serialize + DeserializeOwned + Send + 'static,
    F: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// Asks for `goal`. Gives a handle when the server has accepted it, and the task runs.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`TaskError::Refused`] with the server's reason; [`TaskError::Service`] if there is no server, or it
    /// does not answer, within 5 seconds unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] takes the goal back if it is still queued, and asks a task that was started meanwhile to end early.
    pub fn start(&self, goal: G) -> Pending<GoalHandle<G, F, R>, TaskError> {
        let key = start::key();
        let run = self.service.call(TaskRequest::Run { key, goal });
        let accepted = self.service.call(TaskRequest::Accepted { key });
        let service = self.service.clone();
        let start = Start::new(run.into_operation(), accepted.into_operation());
        Pending::new(Arc::new(start)).convert(
            move |(id, run)| {
                Ok(GoalHandle {
                    service: service.clone(),
                    id,
                    result: Pending::begun(run).limit(Duration::MAX),
                    seen: Arc::default(),
                })
            },
            |error| error,
        )
    }

    /// A handle of a task that was [detached](GoalHandle::detach), perhaps by another process. That there is such a task shows
    /// when its result is waited for.
    pub fn attach(&self, id: u64) -> GoalHandle<G, F, R> {
        let mut result = self.service.call(TaskRequest::Result { id });
        result.begin();
        GoalHandle {
            service: self.service.clone(),
            id,
            result: result.limit(Duration::MAX),
            seen: Arc::default(),
        }
    }

    /// Waits until somebody serves it, as [`Client::available`].
    ///
    /// # Errors
    ///
    /// As [`Client::available`].
    pub fn available(&self) -> Pending<(), ServiceError> {
        self.service.available()
    }

    /// Blocks this thread until somebody serves it, at most for `limit`.
    ///
    /// # Errors
    ///
    /// As [`Client::wait_for_service`].
    ///
    /// # Deadlocks
    ///
    /// As [`Client::wait_for_service`].
    pub fn wait_for_server(&self, limit: Duration) -> Result<(), Error> {
        self.service.wait_for_service(limit)
    }

    /// What the task is called.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A reply that ends the wait, whatever it was for.
pub(crate) fn unexpected<F, R>(reply: TaskReply<F, R>) -> TaskError {
    match reply {
        TaskReply::Unknown => TaskError::Unknown,
        TaskReply::Gone => {
            TaskError::Service(ServiceError::Gone("the tasks' server has ended".to_owned()))
        }
        _ => TaskError::Failed("the server answered something else than it was asked".to_owned()),
    }
}

impl<G, F, R> GoalHandle<G, F, R>
where
    G: Serialize + DeserializeOwned + Send + 'static,
    F: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// The task's number at its server.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The result. It has no limit unless told otherwise.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`TaskError::Failed`], [`TaskError::Cancelled`], [`TaskError::Unknown`], or [`TaskError::Service`] at
    /// once when the server ends or its process dies.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`], or a limit that passes, asks the task to end early: nobody waits for it any more.
    pub fn result(self) -> Pending<R, TaskError> {
        self.result.convert(
            |reply| match reply {
                TaskReply::Ended(TaskEnd::Done(result)) => Ok(result),
                TaskReply::Ended(TaskEnd::Cancelled) => Err(TaskError::Cancelled),
                TaskReply::Ended(TaskEnd::Failed(why)) => Err(TaskError::Failed(why)),
                other => Err(unexpected(other)),
            },
            TaskError::Service,
        )
    }

    /// The next feedback; `None` when the task has ended and all was taken. It has no limit unless told otherwise.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`TaskError::Service`] if the server has ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] takes nothing: the next one gives the same feedback.
    pub fn next_feedback(&self) -> Pending<Option<TaskFeedback<F>>, TaskError> {
        let (id, seen) = (self.id, Arc::clone(&self.seen));
        // Relaxed throughout: one number, which only says where to go on.
        let after = seen.load(Ordering::Relaxed);
        let call = self.service.call(TaskRequest::Feedback { id, after });
        call.limit(Duration::MAX).convert(
            move |reply| match reply {
                TaskReply::Feedback { number, value } => {
                    let before = seen.fetch_max(number, Ordering::Relaxed);
                    let gap = number.saturating_sub(before).saturating_sub(1);
                    Ok(Some(TaskFeedback { value, gap }))
                }
                TaskReply::NoFeedback => Ok(None),
                other => Err(unexpected(other)),
            },
            TaskError::Service,
        )
    }

    /// What the task says, one after the other, until it ends or its server does. It blocks the thread between them.
    pub fn feedback(&self) -> impl Iterator<Item = TaskFeedback<F>> + '_ {
        std::iter::from_fn(|| self.next_feedback().wait().ok().flatten())
    }

    /// Asks the task to end early. Done when the task has accepted; its result is then [`TaskError::Cancelled`].
    ///
    /// # Errors
    ///
    /// From waiting for it: [`TaskError::CancelRefused`] with the task's reason, or because it has ended;
    /// [`TaskError::Service`], also if the task does not answer within 5 seconds unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] may or may not have asked.
    pub fn cancel(&self) -> Pending<(), TaskError> {
        let call = self.service.call(TaskRequest::Cancel { id: self.id });
        call.convert(
            |reply| match reply {
                TaskReply::CancelAccepted => Ok(()),
                TaskReply::CancelRefused(why) => Err(TaskError::CancelRefused(why)),
                other => Err(unexpected(other)),
            },
            TaskError::Service,
        )
    }

    /// Lets the task go on although nobody waits for it, and gives its number: [`TaskClient::attach`] fetches the result, as long
    /// as the server keeps it.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`TaskError::Unknown`], or [`TaskError::Service`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] before it is done drops the handle.
    pub fn detach(self) -> Pending<u64, TaskError> {
        let id = self.id;
        let call = self.service.call(TaskRequest::Detach { id });
        // Kept until the server knows.
        let handle = Mutex::new(Some(self));
        call.convert(
            move |reply| match reply {
                TaskReply::Detached => {
                    let handle = handle.lock().take();
                    drop(handle);
                    Ok(id)
                }
                other => Err(unexpected(other)),
            },
            TaskError::Service,
        )
    }
}

impl<G, F, R> Clone for TaskClient<G, F, R> {
    fn clone(&self) -> Self {
        Self {
            service: self.service.clone(),
            name: Arc::clone(&self.name),
        }
    }
}

impl<G, F, R> fmt::Debug for TaskClient<G, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskClient({:?})", self.name)
    }
}

impl<G, F, R> fmt::Debug for GoalHandle<G, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GoalHandle({})", self.id)
    }
}
