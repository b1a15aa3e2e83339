//! What a supervisor is made from.

use super::child::Child;
use super::keeper::{Keeper, Shared};
use super::{Backoff, Supervisor, SupervisorEvent};
use crate::driver::spawn_cell;
use crate::error::SpawnError;
use crate::mailbox::MailboxOptions;
use crate::runtime::Runtime;
use crossbeam_channel::Receiver;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Which children are restarted with one that has fallen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Nobody else.
    #[default]
    OneForOne,
    /// All: the others are stopped in reverse order of their start, then all begin in order.
    OneForAll,
    /// Those that were started after it, likewise.
    RestForOne,
}

/// What a supervisor does that has given up, beside saying so, once its children have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenGivingUp {
    /// It ends, with [`Exit::GaveUp`](crate::Exit::GaveUp). If it has a supervisor of its own, that one decides.
    #[default]
    End,
    /// After the longest delay of its backoff it makes its children afresh, as it was described: with new ids, empty
    /// mailboxes and no restarts counted. What was added later is not made again.
    StartAfresh,
    /// It ends, and so does the node, in order ([`Runtime::request_shutdown`]).
    EndNode,
}

/// A supervisor that is being described; see [`Runtime::supervisor`]. It is started, or made a child of another.
#[must_use = "a supervisor does nothing until it is started, or a child of another"]
pub struct SupervisorSpec {
    runtime: Runtime,
    pub(crate) plan: Plan,
    pub(crate) shared: Arc<Shared>,
}

/// What a supervisor was told.
#[derive(Debug)]
pub(crate) struct Plan {
    name: String,
    pub(crate) strategy: Strategy,
    pub(crate) restarts: u32,
    pub(crate) within: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) when_giving_up: WhenGivingUp,
    pub(crate) children: Vec<Child>,
}

impl SupervisorSpec {
    pub(crate) fn new(runtime: Runtime, name: &str) -> Self {
        Self {
            runtime,
            plan: Plan {
                name: name.to_owned(),
                strategy: Strategy::default(),
                restarts: 3,
                within: Duration::from_secs(5),
                backoff: Backoff::default(),
                when_giving_up: WhenGivingUp::default(),
                children: Vec::new(),
            },
            shared: Arc::default(),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.plan.name
    }

    fn with(mut self, change: impl FnOnce(&mut Plan)) -> Self {
        change(&mut self.plan);
        self
    }

    /// Which children are restarted with one that has fallen. One for one, unless told otherwise.
    pub fn strategy(self, strategy: Strategy) -> Self {
        self.with(|plan| plan.strategy = strategy)
    }

    /// At most so many restarts within any stretch of time of that length, over all children; with one more it gives up.
    /// 3 within 5 seconds, unless told otherwise. To restart several together counts once.
    pub fn restarts(self, restarts: u32, within: Duration) -> Self {
        self.with(|plan| (plan.restarts, plan.within) = (restarts, within))
    }

    /// How long to wait before a restart.
    pub fn backoff(self, backoff: Backoff) -> Self {
        self.with(|plan| plan.backoff = backoff)
    }

    /// What happens when it gives up.
    pub fn when_giving_up(self, then: WhenGivingUp) -> Self {
        self.with(|plan| plan.when_giving_up = then)
    }

    /// A child, started after those before it: each begins when the one before it is up.
    pub fn child(self, child: impl Into<Child>) -> Self {
        let child = child.into();
        self.with(|plan| plan.children.push(child))
    }

    /// Starts it. When this returns, all children have their names and addresses, and take messages; they begin one after
    /// the other, without the caller waiting.
    ///
    /// # Errors
    ///
    /// [`SpawnError`], for its own name or that of a child; nothing is left behind.
    pub fn start(self) -> Result<Supervisor, SpawnError> {
        let spec = Arc::new(self);
        let core = spec.runtime.core();
        let keeper = Keeper::new(&spec, core)?;
        let driver = super::supervisors_driver(core)?;
        let options = MailboxOptions::default();
        // If it is not spawned, it is dropped, and ends its children.
        let address = spawn_cell(driver.core(), spec.name(), keeper, true, options)?;
        Ok(Supervisor {
            address,
            shared: spec.shared.clone(),
        })
    }

    /// What it will tell, as [`Supervisor::events`]: from the very first, and also of one that is a child of another.
    pub fn events(&self, capacity: usize) -> Receiver<SupervisorEvent> {
        self.shared.subscribe(capacity)
    }
}

impl fmt::Debug for SupervisorSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.plan, f)
    }
}
