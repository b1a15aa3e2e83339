//! What goes on when an operation is done.

use super::{Cx, Promise};
use crate::cell::{Cell, Local};
use crate::driver::{DriverCore, Due};
use crate::error::Outcome;
use crate::hook::{self, Cause};
use crate::mailbox::Control;
use crate::pending::Pending;
use crate::processor::Processor;
use crate::sync::{AcqRel, AtomicBool, Release};
use crate::timer::Deadline;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::Duration;

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// The caller sees to it that `pending`, what comes of it, and `next` are `Send`, or that this is not a pool: they are
    /// kept.
    pub(crate) fn continue_with<T: 'static, E: 'static>(
        &mut self,
        mut pending: Pending<T, E>,
        limit: Duration,
        next: impl FnOnce(&mut P, Result<T, E>, &mut Cx<'_, P>) -> Outcome<()> + 'static,
    ) {
        let key = self.local.next_continuation;
        self.local.next_continuation += 1;
        let resume = Arc::new(ResumeWaker {
            cell: self.cell.clone(),
            key,
            queued: AtomicBool::new(false),
        });
        let waker = Waker::from(resume.clone());
        // Begins now, so that it has its place in the order of what this handler sends.
        let mut result = match pending.poll_begun(&waker) {
            Poll::Ready(result) => {
                waker.wake_by_ref();
                Some(result)
            }
            Poll::Pending => None,
        };
        let deadline = if result.is_none() {
            let driver = &self.cell.driver;
            driver.world().now().checked_add(limit).map(|at| {
                let cell = self.cell.clone();
                (at, driver.add_deadline(at, Due::Resume { cell, key }))
            })
        } else {
            None
        };
        let mut next = Some(next);
        let mut pending = Some(pending);
        let mut cause = Cause::here();
        let step = move |me: &mut P, cx: &mut Cx<'_, P>| -> bool {
            resume.queued.store(false, Release);
            if result.is_none()
                && let Some(pending) = &mut pending
            {
                match pending.poll_begun(&waker) {
                    Poll::Ready(done) => result = Some(done),
                    Poll::Pending => {
                        let late = deadline.is_some_and(|(at, _)| cx.now() >= at);
                        if !late {
                            return false;
                        }
                        result = Some(Err(pending.give_up()));
                    }
                }
            }
            pending = None;
            let cause = std::mem::take(&mut cause);
            let _span = hook::handling(cx.name(), "continuation", cause);
            if let (Some(result), Some(next)) = (result.take(), next.take())
                && let Err(fault) = next(me, result, cx)
            {
                cx.fault(me, fault);
            }
            true
        };
        let continuation = Continuation {
            step: Box::new(step),
            deadline: deadline.map(|(_, d)| d),
        };
        self.local.continuations.insert(key, continuation);
    }
}

type ContinuationStep<P> = Box<dyn FnMut(&mut P, &mut Cx<'_, P>) -> bool>;

/// What goes on when an operation is done. Kept by its processor's driver.
pub(crate) struct Continuation<P: Processor> {
    /// Returns true when it is finished.
    step: ContinuationStep<P>,
    deadline: Option<Deadline>,
}

impl<P: Processor> Continuation<P> {
    pub(crate) fn cancel_deadline(&mut self, driver: &DriverCore) {
        if let Some(deadline) = self.deadline.take() {
            driver.cancel_deadline(deadline);
        }
    }
}

/// Goes on with a continuation. False if it was not ready after all.
pub(crate) fn resume<P: Processor>(
    cell: &Arc<Cell<P>>,
    processor: &mut P,
    local: &mut Local<P>,
    key: u64,
) -> bool {
    let Some(mut continuation) = local.continuations.remove(&key) else {
        return false;
    };
    let done = (continuation.step)(processor, &mut Cx::new(cell, local, Promise::none()));
    if done {
        continuation.cancel_deadline(&cell.driver);
    } else {
        local.continuations.insert(key, continuation);
    }
    done
}

struct ResumeWaker<P: Processor> {
    cell: Arc<Cell<P>>,
    key: u64,
    /// A wake-up is in the control lane already: it has one place.
    queued: AtomicBool,
}

impl<P: Processor> Wake for ResumeWaker<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: partner of the store in the continuation's step, which looks at the operation after clearing it.
        if !self.queued.swap(true, AcqRel) {
            let _ended = self.cell.control(Control::Resume(self.key));
        }
    }
}
