//! What a node is made with, and what the environment says of it.

use crate::error::{Error, ErrorKind};
use crate::tasks::PollsInside;
use std::time::Duration;

/// The capacity of mailboxes that are not given one.
pub const DEFAULT_CAPACITY: usize = 1024;
/// How long `send` and `publish` wait for room, and calls for their reply, if nobody says otherwise.
pub const DEFAULT_LIMIT: Duration = Duration::from_secs(5);

/// What a node is made with.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) capacity: usize,
    pub(crate) capacity_is_forced: bool,
    pub(crate) send_limit: Duration,
    pub(crate) call_limit: Duration,
    pub(super) dead_letters: usize,
    pub(crate) idle: Idle,
    pub(crate) polls_inside: PollsInside,
    /// What to do about blocking in an executor, and who else knows that the thread is in one.
    pub(crate) in_executor: (InExecutor, Option<fn() -> bool>),
}

/// What is done about an operation that would block a thread of an async executor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum InExecutor {
    /// It is refused, with the operation's own kind of `InExecutor`. Nothing is started.
    Refuse,
    /// It blocks, and the first of the node is reported with its `.await` form.
    #[default]
    Warn,
    /// It blocks.
    Allow,
}

/// What a driver's thread does when it has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Idle {
    /// It looks on for a few microseconds, about as long as it takes to wake a sleeper, then sleeps. On a single core it
    /// sleeps at once.
    #[default]
    SpinThenPark,
    /// It sleeps at once: the least CPU time, and each message to an idle driver pays for waking it.
    Park,
    /// It never sleeps: the shortest reaction, for the price of a core for each driver. For machines with more cores than
    /// such drivers.
    Spin,
}

impl Options {
    /// The defaults, and what the environment says: `MPROC_CAPACITY` is the capacity of every queue that is not given one
    /// explicitly.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSetting`], naming the variable, if it is not a number of at least 1.
    pub fn from_environment() -> Result<Self, Error> {
        let mut options = Self::default();
        if let Some(value) = std::env::var_os("MPROC_CAPACITY") {
            let capacity = value.to_str().and_then(|v| v.parse().ok());
            match capacity {
                Some(capacity) if capacity > 0 => {
                    options.capacity = capacity;
                    options.capacity_is_forced = true;
                }
                _ => {
                    let text =
                        format!("MPROC_CAPACITY is {value:?}, not a whole number of at least 1");
                    return Err(Error::new(ErrorKind::InvalidSetting, text));
                }
            }
        }
        Ok(options)
    }

    /// The capacity of mailboxes that are not given one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidSetting`] for 0.
    pub fn capacity(mut self, capacity: usize) -> Result<Self, Error> {
        if capacity == 0 {
            let text = "the default capacity must be at least 1, not 0";
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        self.capacity = capacity;
        Ok(self)
    }

    /// How long `send` waits for room.
    pub fn send_limit(mut self, limit: Duration) -> Self {
        self.send_limit = limit;
        self
    }

    /// How long a call waits for its reply.
    pub fn call_limit(mut self, limit: Duration) -> Self {
        self.call_limit = limit;
        self
    }

    /// What drivers do when they have nothing to do. Ignored in a simulated node.
    pub fn idle(mut self, idle: Idle) -> Self {
        self.idle = idle;
        self
    }

    /// What is done about [`Pending::wait`](crate::Pending::wait), `wait_timeout` and the same of a
    /// [`Ticket`](crate::Ticket) on a thread of an async executor, whose other tasks would wait, too.
    ///
    /// A thread is known to be one while this library itself polls a future on it
    /// ([`Runtime::run`](crate::Runtime::run)), and when the function given to
    /// [`inside_executor`](Self::inside_executor) says so. Nothing else is seen.
    pub fn blocking_in_executor(mut self, answer: InExecutor) -> Self {
        self.in_executor.0 = answer;
        self
    }

    /// Has `probe` asked whether the calling thread is one of an async executor, before an operation blocks it: for tokio
    /// `|| tokio::runtime::Handle::try_current().is_ok()`, which is also true inside `spawn_blocking`.
    pub fn inside_executor(mut self, probe: fn() -> bool) -> Self {
        self.in_executor.1 = Some(probe);
        self
    }

    /// How many dead letters are kept.
    pub fn dead_letters(mut self, count: usize) -> Self {
        self.dead_letters = count;
        self
    }

    /// The default for a queue whose own default is `capacity`: that, or what `MPROC_CAPACITY` says.
    pub fn capacity_or(&self, capacity: usize) -> usize {
        if self.capacity_is_forced {
            self.capacity
        } else {
            capacity
        }
    }

    /// How long `publish` waits for room, likewise.
    pub fn wait_limit(&self) -> Duration {
        self.send_limit
    }

    /// How long a reply may take if nobody says otherwise: for layers that call.
    pub fn reply_limit(&self) -> Duration {
        self.call_limit
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            capacity: DEFAULT_CAPACITY,
            capacity_is_forced: false,
            send_limit: DEFAULT_LIMIT,
            call_limit: DEFAULT_LIMIT,
            dead_letters: 256,
            idle: Idle::default(),
            in_executor: (InExecutor::default(), None),
            polls_inside: PollsInside::default(),
        }
    }
}
