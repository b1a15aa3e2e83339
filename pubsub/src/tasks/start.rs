//! The start of a task: two calls, of which the first stays under way.

use super::client::unexpected;
use super::error::TaskError;
use super::messages::TaskReply;
use crate::services::ServiceError;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CutShort, Debt, Name, Operation, RuntimeCore};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What no other client says, in this process or another: 64 bits of chance for each process, and a count. Nothing is
/// decided by it, it is only compared.
pub(crate) fn key() -> (u64, u64) {
    static OF_PROCESS: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let of_process = OF_PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
    // Relaxed: only uniqueness is wanted.
    (*of_process, NEXT.fetch_add(1, Ordering::Relaxed))
}

type Call<F, R> = Arc<dyn Operation<TaskReply<F, R>, ServiceError>>;

/// Both go to one server, in this order, so what the second is told has been decided.
pub(crate) struct Start<F, R> {
    run: Call<F, R>,
    accepted: Call<F, R>,
    /// `run` is under way.
    is_running: AtomicBool,
}

impl<F, R> Start<F, R> {
    pub(crate) fn new(run: Call<F, R>, accepted: Call<F, R>) -> Self {
        Self {
            run,
            accepted,
            is_running: AtomicBool::new(false),
        }
    }

    /// `begin` puts one of them on its way.
    fn begin_by(
        &self,
        mut begin: impl FnMut(Call<F, R>) -> Poll<Result<(), ServiceError>>,
    ) -> Poll<Result<(), TaskError>> {
        if !self.is_running.load(Ordering::Acquire) {
            match begin(self.run.clone()) {
                Poll::Ready(Ok(())) => self.is_running.store(true, Ordering::Release),
                other => return other.map_err(TaskError::Service),
            }
        }
        let begun = begin(self.accepted.clone());
        if matches!(begun, Poll::Ready(Err(_))) {
            // Nobody will wait for the task.
            self.run.abandon(&mut Waiter::default());
        }
        begun.map_err(TaskError::Service)
    }

    /// The call that is to be begun, or was last.
    fn current(&self) -> &Call<F, R> {
        // Acquire and Release here and below: whoever waits may go from thread to thread.
        match self.is_running.load(Ordering::Acquire) {
            true => &self.accepted,
            false => &self.run,
        }
    }
}

impl<F: 'static, R: 'static> Operation<(u64, Call<F, R>), TaskError> for Start<F, R> {
    fn begin(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), TaskError>> {
        self.begin_by(|call| call.begin(ticket, waker))
    }

    fn start(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), TaskError>> {
        self.begin_by(|call| call.start(ticket, waker))
    }

    fn go_on(self: Arc<Self>, ticket: &mut Waiter, waker: &Waker) -> Poll<Result<(), TaskError>> {
        self.begin_by(|call| call.go_on(ticket, waker))
    }

    fn cut_short(&self, why: CutShort) -> TaskError {
        TaskError::Service(ServiceError::cut_short(why))
    }

    fn what(&self) -> &'static str {
        "start of a task"
    }

    fn retreat(&self, ticket: &mut Waiter) {
        self.current().retreat(ticket);
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<(u64, Call<F, R>), TaskError>> {
        let answer = match self.accepted.poll(waker) {
            Poll::Ready(answer) => answer,
            Poll::Pending => return Poll::Pending,
        };
        let error = match answer {
            Ok(TaskReply::Accepted { id }) => return Poll::Ready(Ok((id, self.run.clone()))),
            // The answer to the first says why.
            answer => match (self.run.poll(Waker::noop()), answer) {
                (Poll::Ready(Ok(TaskReply::Refused(why))), _) => {
                    return Poll::Ready(Err(TaskError::Refused(why)));
                }
                (Poll::Ready(Err(error)), _) => return Poll::Ready(Err(error.into())),
                (_, Ok(reply)) => unexpected(reply),
                (_, Err(error)) => error.into(),
            },
        };
        self.run.abandon(&mut Waiter::default());
        Poll::Ready(Err(error))
    }

    fn is_done(&self) -> bool {
        self.accepted.is_done()
    }

    fn abandon(&self, ticket: &mut Waiter) {
        match self.is_running.load(Ordering::Acquire) {
            true => {
                self.accepted.abandon(ticket);
                self.run.abandon(&mut Waiter::default());
            }
            false => self.run.abandon(ticket),
        }
    }

    fn refuse_to_block(&self) -> Option<TaskError> {
        let refused = self.current().refuse_to_block();
        refused.map(TaskError::Service)
    }

    fn debt(self: Arc<Self>) -> Option<Debt> {
        self.current().clone().debt()
    }

    fn deadlock(&self, circle: Vec<Name>) -> TaskError {
        TaskError::Service(ServiceError::Deadlock(circle))
    }

    fn timeout(&self) -> TaskError {
        TaskError::Service(ServiceError::Timeout)
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.run.runtime()
    }

    fn limit(&self) -> Duration {
        self.accepted.limit()
    }
}
