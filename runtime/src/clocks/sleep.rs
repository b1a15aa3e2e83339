//! Sleeping by a clock, as an operation that can be waited for in every way.

use super::core::ClockCore;
use super::jump::Jump;
use super::state::ClockDeadline;
use super::{Clock, Time};
use crate::error::{Error, ErrorKind};
use crate::pending::{CutShort, Operation, Pending};
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::sync::Mutex;
use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Slept {
    /// The clock shows the time that was slept for, or a later one.
    Reached,
    /// The clock went back, or began anew, and the time is not reached: it may never be.
    Changed(Jump),
    /// Nobody drives the clock any more, or the node ends.
    Ended,
}

/// Why a sleep has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SleepError {
    /// The limit passed that was set by [`Pending::limit`] or [`Pending::wait_timeout`], which is steady time.
    Timeout,
    /// The sleep was [cancelled](crate::Ticket::cancel), or its result was taken before.
    Cancelled,
    /// The program was interrupted meanwhile.
    Interrupted,
    /// It would have blocked a thread of an async executor: await it. See
    /// [`Options::blocking_in_executor`](crate::Options::blocking_in_executor).
    InExecutor,
    /// This process was forked from the one that the node belongs to: no clock wakes anybody here.
    Forked,
}

impl fmt::Display for SleepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Timeout => "the time was not reached within the limit",
            Self::Cancelled => "sleep was cancelled",
            Self::Interrupted => "program was interrupted",
            Self::InExecutor => "refused to block a thread of an async executor; await it",
            Self::Forked => {
                "cannot sleep: the node belongs to the process that this one was forked from"
            }
        })
    }
}

impl StdError for SleepError {}

impl From<SleepError> for Error {
    fn from(error: SleepError) -> Self {
        let kind = match error {
            SleepError::Timeout => ErrorKind::Timeout,
            SleepError::Cancelled => ErrorKind::Cancelled,
            SleepError::Interrupted => ErrorKind::Interrupted,
            SleepError::InExecutor => ErrorKind::Refused,
            SleepError::Forked => ErrorKind::Forked,
        };
        Self::new(kind, error.to_string())
    }
}

/// Somebody who sleeps.
#[derive(Debug, Default)]
pub(super) struct Sleeper(Mutex<Sleeping>);

#[derive(Debug, Default)]
struct Sleeping {
    slept: Option<Slept>,
    /// How often the clock was changed meanwhile.
    changes: u64,
    waker: Option<Waker>,
}

impl Sleeper {
    /// The sleep is over. Whoever calls this wakes the waker, with no lock held.
    #[must_use]
    pub(super) fn end(&self, slept: Slept) -> Option<Waker> {
        let mut state = self.0.lock();
        state.slept.get_or_insert(slept);
        state.waker.take()
    }

    /// The clock was changed, and the sleep goes on. As [`end`](Self::end).
    #[must_use]
    pub(super) fn look_again(&self) -> Option<Waker> {
        let mut state = self.0.lock();
        state.changes += 1;
        state.waker.take()
    }

    pub(super) fn changes(&self) -> u64 {
        self.0.lock().changes
    }

    /// How it ended; else `waker` is woken when it does, or the clock is changed.
    pub(super) fn poll(&self, waker: &Waker) -> Option<Slept> {
        // The waker before is dropped after the lock is released: its drop is the user's code.
        let waker = waker.clone();
        let (_before, slept) = {
            let mut state = self.0.lock();
            (state.waker.replace(waker), state.slept)
        };
        slept
    }

    fn is_over(&self) -> bool {
        self.0.lock().slept.is_some()
    }
}

/// For how long.
#[derive(Clone, Copy)]
enum Goal {
    Until(Time),
    For(Duration),
}

struct Sleep {
    clock: Arc<ClockCore>,
    runtime: Arc<RuntimeCore>,
    goal: Goal,
    sleeper: Arc<Sleeper>,
    /// Where it stands with its clock, while it does.
    deadline: Mutex<Option<ClockDeadline>>,
}

impl Operation<Slept, SleepError> for Sleep {
    fn begin(
        self: Arc<Self>,
        _waiter: &mut Waiter,
        _waker: &Waker,
    ) -> Poll<Result<(), SleepError>> {
        if !self.runtime.is_here() {
            return Poll::Ready(Err(SleepError::Forked));
        }
        let at = match self.goal {
            Goal::Until(at) => at,
            Goal::For(time) => self.clock.now() + time,
        };
        let deadline = self.clock.add_sleep(at, &self.sleeper);
        *self.deadline.lock() = deadline;
        Poll::Ready(Ok(()))
    }

    fn cut_short(&self, why: CutShort) -> SleepError {
        match why {
            CutShort::Cancelled => SleepError::Cancelled,
            CutShort::Interrupted => SleepError::Interrupted,
            CutShort::InExecutor => SleepError::InExecutor,
        }
    }

    fn what(&self) -> &'static str {
        "sleep"
    }

    fn retreat(&self, _waiter: &mut Waiter) {}

    fn poll(&self, waker: &Waker) -> Poll<Result<Slept, SleepError>> {
        match self.sleeper.poll(waker) {
            Some(slept) => Poll::Ready(Ok(slept)),
            None => Poll::Pending,
        }
    }

    fn is_done(&self) -> bool {
        self.sleeper.is_over()
    }

    fn abandon(&self, _waiter: &mut Waiter) {
        let deadline = self.deadline.lock().take();
        if let Some(deadline) = deadline {
            self.clock.cancel(deadline);
        }
    }

    fn refuse_to_block(&self) -> Option<SleepError> {
        (!self.runtime.is_here()).then_some(SleepError::Forked)
    }

    fn timeout(&self) -> SleepError {
        SleepError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.runtime.clone()
    }

    fn limit(&self) -> Duration {
        // A sleep takes as long as it was asked to.
        Duration::MAX
    }
}

impl Clock {
    /// Sleeps until the clock shows `time`, or a later one. If it does already, it is over at once.
    ///
    /// A time that is passed by a step or a move forward is [`Reached`](Slept::Reached). If the clock goes back, or is driven
    /// anew and told what time it is, the sleep ends with [`Changed`](Slept::Changed): what was slept for may never come. It
    /// ends with [`Ended`](Slept::Ended) when nobody drives the clock any more, and when the node ends.
    ///
    /// Unlike other operations it has no limit unless one is [given](Pending::limit), and that is steady time: while a clock
    /// is paused, or nobody drives it yet, a sleep by it takes as long as that lasts.
    ///
    /// # Errors
    ///
    /// [`SleepError::Timeout`] if a limit was given and has passed; [`SleepError::Forked`] in a forked child.
    ///
    /// # Deadlocks
    ///
    /// [`wait`](Pending::wait) blocks this thread. If it is the one that would move the clock, only a limit ends that. Inside a
    /// handler use [`then`](Pending::then).
    ///
    /// # Cancel safety
    ///
    /// Dropping it ends the sleep; nothing else is lost.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, Slept};
    /// use std::time::Duration;
    ///
    /// let node = Runtime::simulated(1);
    /// let clock = node.steady_clock();
    /// let time = clock.now() + Duration::from_secs(3600);
    /// assert_eq!(clock.sleep_until(time).wait()?, Slept::Reached); // virtual: takes no time
    /// assert_eq!(clock.now(), time);
    /// # Ok::<(), mproc_runtime::SleepError>(())
    /// ```
    pub fn sleep_until(&self, time: Time) -> Pending<Slept, SleepError> {
        self.sleep_for(Goal::Until(time))
    }

    /// Sleeps for `time` by this clock, from when it is first waited for, polled, started or continued. Otherwise as
    /// [`sleep_until`](Self::sleep_until).
    ///
    /// # Errors
    ///
    /// As [`sleep_until`](Self::sleep_until).
    ///
    /// # Deadlocks
    ///
    /// As [`sleep_until`](Self::sleep_until).
    ///
    /// # Cancel safety
    ///
    /// As [`sleep_until`](Self::sleep_until).
    pub fn sleep(&self, time: Duration) -> Pending<Slept, SleepError> {
        self.sleep_for(Goal::For(time))
    }

    fn sleep_for(&self, goal: Goal) -> Pending<Slept, SleepError> {
        Pending::new(Arc::new(Sleep {
            clock: self.core.clone(),
            runtime: self.runtime.clone(),
            goal,
            sleeper: Arc::default(),
            deadline: Mutex::default(),
        }))
    }
}
