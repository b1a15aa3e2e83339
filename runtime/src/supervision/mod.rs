//! Supervisors: processors that bring others up again.
//!
//! A supervisor is a processor (`keeper.rs`) that decides; what a restart does to a processor and its messages is done in
//! the processor's cell, where it lives (`cell/restart.rs`, with the table of what becomes of what). The two talk by
//! orders and reports: the supervisor orders an incarnation or its end, the cell reports that one is up or has fallen. The
//! supervisor blocks nowhere, so all supervisors of a node share one thread, made with the first.
//!
//! | a child is | and                                                        | leaves by                                           |
//! |------------|------------------------------------------------------------|-----------------------------------------------------|
//! | `Down`     | is to begin when it is its turn                            | the order to begin                                  |
//! | `Delayed`  | is to begin when its delay is over (one for one)           | the end of the delay                                |
//! | `Starting` | its factory or its `started` is at work                    | its report: up, or fallen                           |
//! | `Up`       | handles messages                                           | its report that it fell; the order to halt          |
//! | `Halting`  | is to fall, because others have                            | its report that it fell; at its limit it is cut short |
//! | `Ending`   | is to end for good                                         | its end; at its limit it is killed, and not waited for |
//!
//! Who has ended for good is a child no longer.

mod backoff;
mod child;
mod keeper;
mod spec;
mod window;

pub use self::backoff::Backoff;
pub use self::child::{Child, ChildPlace, IntoProcessor, Restart};
pub use self::spec::{Strategy, SupervisorSpec, WhenGivingUp};

use self::keeper::{Keeper, Shared};
use crate::address::Address;
use crate::driver::{self, Driver, ThreadOptions};
use crate::error::{CallError, Error, ErrorKind, SpawnError};
use crate::exit::{Down, Exit};
use crate::id::ProcessorId;
use crate::name::Name;
use crate::pending::Pending;
use crate::processor::Processor;
use crate::runtime::{Runtime, RuntimeCore};
use crate::sync::Mutex;
use crossbeam_channel::Receiver;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a supervisor tells of its children.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SupervisorEvent {
    /// A child is up for the first time.
    Started {
        /// Which.
        child: Name,
    },
    /// An incarnation has failed, and the child is to be restarted, perhaps with others.
    Fell {
        /// Which.
        child: Name,
        /// How it ended.
        exit: Exit,
        /// How long the supervisor waits before the restart.
        delay: Duration,
    },
    /// A child is up again.
    Restarted {
        /// Which.
        child: Name,
        /// How often it has come up again by now.
        restarts: u64,
    },
    /// A child has ended for good.
    Ended {
        /// Which.
        child: Name,
        /// How it ended.
        exit: Exit,
    },
    /// There were too many failures. The supervisor ends its children now.
    GaveUp {
        /// Which child failed last.
        child: Name,
        /// How it ended.
        exit: Exit,
        /// How many restarts there had been within the time that the supervisor looks at.
        restarts: u32,
    },
}

/// A supervisor that was started. Cheap to clone. Dropping it does not end it.
#[derive(Clone)]
pub struct Supervisor {
    address: Address<Keeper>,
    shared: Arc<Shared>,
}

impl Supervisor {
    /// Its id, as a processor.
    pub fn id(&self) -> ProcessorId {
        self.address.id()
    }

    /// Its name, which no processor of the node shares.
    pub fn name(&self) -> &Name {
        self.address.name()
    }

    /// Its children by now, in order. Who has ended for good is not among them.
    pub fn children(&self) -> Vec<Name> {
        self.shared.children()
    }

    /// The address of its child `name`. It stays valid over restarts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if it has no such child; [`ErrorKind::TypeConflict`], naming both types, if that is no `P`.
    pub fn address<P: Processor>(&self, name: &str) -> Result<Address<P>, Error> {
        if !self.shared.has_child(name) {
            let text = format!("supervisor {:?} has no child {name:?}", self.name());
            return Err(Error::new(ErrorKind::NotFound, text));
        }
        Runtime::from_core(self.address.runtime().clone()).lookup(name)
    }

    /// Adds a child after the others. It has its name, and takes messages, when this returns.
    ///
    /// # Errors
    ///
    /// As [`Runtime::spawn_thread`]; [`SpawnError::Closed`] if the supervisor has ended, or is ending. Nothing is left behind.
    pub fn add(&self, child: impl Into<Child>) -> Result<(), SpawnError> {
        keeper::add(&self.address, &self.shared, child.into())
    }

    /// Every later event, through a channel that holds `capacity` of them. While it is full, events are left out. Dropping
    /// the receiver ends it.
    pub fn events(&self, capacity: usize) -> Receiver<SupervisorEvent> {
        self.shared.subscribe(capacity)
    }

    /// Ends its children in reverse order of their start, waiting for each at most as long as its
    /// [`stop_limit`](Child::stop_limit) says, and then itself. Returns at once; see [`ended`](Self::ended).
    ///
    /// Each child handles its current message; what is queued is dropped and counted, as by [`Address::stop`].
    pub fn stop(&self) {
        // It has ended: nothing is to be done.
        let _ended = self.address.with_processor(|keeper, cx| keeper.wind_up(cx));
    }

    /// Waits for its end. Its [`Exit`] is [`Exit::GaveUp`] if it gave up.
    ///
    /// # Errors
    ///
    /// As [`Address::ended`].
    pub fn ended(&self) -> Pending<Down, CallError> {
        self.address.ended()
    }

    /// Why it ended; `None` while it lives.
    pub fn exit(&self) -> Option<Exit> {
        self.address.exit()
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Supervisor({} {:?})", self.id(), self.name())
    }
}

impl Runtime {
    /// Describes a supervisor called `name`. It does nothing until it is started
    /// ([`start`](SupervisorSpec::start)), or is a child of another.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Backoff, Child, Cx, Handle, Outcome, Processor, Runtime, Strategy};
    /// # use std::time::Duration;
    /// struct Divider;
    /// impl Processor for Divider {}
    /// impl Handle<u32> for Divider {
    ///     type Reply = u32;
    ///     fn handle(&mut self, n: u32, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> { Ok(100 / n) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let plant = node.supervisor("plant")
    ///     .strategy(Strategy::OneForOne)
    ///     .restarts(5, Duration::from_secs(10))
    ///     .backoff(Backoff::exponential(Duration::from_millis(10), Duration::from_secs(1)))
    ///     .child(Child::new("divider", || Divider))
    ///     .start()?;
    /// let divider = plant.address::<Divider>("divider")?;
    /// assert!(divider.call(0).wait().is_err()); // panics
    /// assert_eq!(divider.call(5).wait()?, 20); // waits in the mailbox until the next one is up
    /// assert_eq!(divider.snapshot().restarts, 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn supervisor(&self, name: &str) -> SupervisorSpec {
        SupervisorSpec::new(self.without_guard(), name)
    }
}

/// Where all supervisors of a node live.
#[derive(Default)]
struct SupervisorsDriver(Mutex<Option<Driver>>);

/// It is made with the first supervisor, and ends with the node.
pub(crate) fn supervisors_driver(core: &Arc<RuntimeCore>) -> Result<Driver, SpawnError> {
    const NAME: &str = "mproc supervisors";
    let kept = Runtime::from_core(core.clone()).extension(SupervisorsDriver::default);
    let mut kept = kept.0.lock();
    if let Some(driver) = &*kept {
        return Ok(driver.clone());
    }
    let driver = driver::new_driver(core, NAME, ThreadOptions::default()).map_err(|error| {
        let name = Name::new(NAME).map_err(SpawnError::Name);
        match (name, error.kind()) {
            (Ok(name), ErrorKind::Closed) => SpawnError::Closed(name),
            (Ok(name), ErrorKind::NameTaken) => SpawnError::NameTaken(name),
            (Ok(name), _) => SpawnError::Thread(name, std::io::Error::other(error)),
            (Err(invalid), _) => invalid,
        }
    })?;
    Ok(kept.insert(driver).clone())
}
