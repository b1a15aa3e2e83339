//! Topics between the processes of one user on one host: a [`Transport`] over shared memory.
//!
//! It is the only place of this crate that knows of `mproc_shm`. Types are unknown here; samples are bytes.
//!
//! # One connection
//!
//! Two nodes of a domain that have met keep one connection. Frames on it (`mproc_shm::Frame`) say:
//!
//! ```text
//! publisher                                          subscriber
//!   Announce (publishes; for each topic)    ---->      asks each subscription whether it wants it
//!                                           <----    Attach (its terms, its page of bells, which bell)
//!   Accept (the link, its page of bells)    ---->      opens the link
//!   Segment (each that there is)            ---->
//!   history, then what is published        ~~~~>     takes, through shared memory alone
//!   Segment (each that is added)            ---->
//!   Retire (memory that is needed for other sizes, and of which nothing is out)
//!                                           ---->      lets go of it
//!                                           <----    Retired
//!                                           <----    Detach (the subscription has ended)
//! ```
//!
//! or `Refuse`, with both values; what was refused is asked for again when the topic is announced again, or what subscriptions
//! want has changed. Both sides publish and subscribe. Link numbers are the publisher's; those of the node with the
//! smaller id are even and those of the other odd, so that a `Detach` names one link. What arrives twice, too late or in no
//! order that this file knows is nonsense: the connection is closed, and that is told.
//!
//! Memory has slots of one size, and a topic has a budget. When a sample has another size than those before it and the budget
//! is used, segments of which nothing is out are retired, and a loan is short until all links have answered: whoever waits for
//! memory waits for that, too. The control answers, so that it takes no receiver, which may be at its limit of leases or not
//! look for long. A process that is stopped does not answer: then the budget stays short, and the policy and limit of the
//! publisher decide, until it goes on, its link ends, or its process does.
//!
//! Either side may ask the other for a report at any time, which [`surveying`] and [`inspector`] are about.
//!
//! # How it ends
//!
//! | what is seen | publishers' side | subscribers' side |
//! |---|---|---|
//! | `Detach` of a link | what is queued comes back now, what is leased when it is let go of | what is queued is taken, then the end |
//! | `Detach` of all, then the end of the connection | the same, for all links | the same |
//! | the end of the connection, and the process lives | the same; the nodes meet again | the same |
//! | the end of the process | all of it comes back now | what is queued is taken, then the end |
//! | a link's words make no sense | it gets nothing more; what it has stays with it until its process ends | the end |
//!
//! What a link has comes back without its word only when its process is dead, which only the pidfd says.
//!
//! # Threads
//!
//! `mproc processes`, the watch, waits for sockets, pidfds and the directory. All that the connections decide happens there, in
//! [`control`]; others leave it commands. `mproc bells` is woken by peers for receivers without a bell of their own and for
//! publishers who wait; see [`bells`]. `mproc inspect` is there while somebody [asks](inspector) for reports.
//!
//! # Locks
//!
//! Each alone, but for one pair: an outlet (`outlet.rs`) before the line of a peer (`line.rs`), so that a segment is announced
//! before anything in it is queued. The control belongs to the watch's thread, which takes it out of its lock while it works.
//! [`Offered`], [`Sought`], [`Listener`](crate::transport::Listener) and wakers are called, and guards dropped, with no lock of
//! this module held.
//!
//! # In a forked child
//!
//! Everything does nothing, or says that it was forked. No lock is taken there: a thread that the child does not have may hold it.

mod bells;
mod clock;
mod control;
mod core;
mod ending;
mod inlet;
mod inspector;
mod line;
mod memory;
mod out_link;
mod outlet;
mod peer;
mod publishing;
mod reports;
mod send_watches;
mod source;
mod subscribing;
mod surveying;
#[cfg(test)]
mod tests;
mod watching;
mod wire;

pub(crate) use self::core::Options as ProcessesOptions;

use self::control::{Command, Desk};
use self::core::Core;
use crate::id::{SubscriptionId, TopicId};
use crate::inspect::{Ask, Asking};
use crate::snapshot::DomainSnapshot;
use crate::transport::{Neighbourhood, Offered, Sought, Transport};
use mproc_runtime::{Error, ErrorKind};
use mproc_shm::{
    ABI_HASH, Directory, DirectoryError, DirectoryProblem, Domain, DomainError, Hello, Identity,
    MeetingError, NodeId, OnMeeting, Origin, PROTOCOL, Peer, Protocols, Rendezvous, Watch,
    WatchHandle,
};
use parking_lot::Mutex;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::AcqRel;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// See [`DomainOptions::is_available`](crate::DomainOptions::is_available).
pub(crate) const IS_AVAILABLE: bool = true;

/// Checks the name of a domain.
///
/// # Errors
///
/// `InvalidSetting`, saying what is wrong with it and where.
pub(crate) fn check_domain(name: &str) -> Result<(), Error> {
    Domain::new(name).map(drop).map_err(invalid_domain)
}

/// Where the directory of the domain `name` is, in `base` or where the environment says; `None` if the name is not valid.
pub(crate) fn domain_path(name: &str, base: Option<&Path>) -> Option<PathBuf> {
    let domain = Domain::new(name).ok()?;
    Some(match base {
        Some(base) => Directory::place_at(base, &domain),
        None => Directory::place(&domain),
    })
}

fn invalid_domain(error: DomainError) -> Error {
    Error::new(ErrorKind::InvalidSetting, error.to_string()).with_source(error)
}

/// A node's membership in a domain of processes.
pub(crate) struct Processes {
    core: Arc<Core>,
    watch: Mutex<Option<Watch>>,
    bell_thread: Mutex<Option<JoinHandle<()>>>,
}

impl Processes {
    /// Joins the domain. Peers are met from now on.
    ///
    /// # Errors
    ///
    /// - `InvalidSetting`: the domain's name, a number in `options`, or what the environment says about the directory.
    /// - `Io`: the directory, a descriptor, memory or a thread was refused. The text says which, and what to do.
    pub(crate) fn join(
        options: ProcessesOptions,
        node: Weak<dyn Neighbourhood>,
    ) -> Result<Arc<Self>, Error> {
        options.check()?;
        let domain = match &options.domain {
            Some(name) => Domain::new(name).map_err(invalid_domain)?,
            None => Domain::from_environment().map_err(invalid_domain)?,
        };
        let directory = match &options.base {
            Some(base) => Directory::open_at(base, &domain),
            None => Directory::open(&domain),
        };
        let directory = directory.map_err(|error| refused_directory(&domain, error))?;
        let io = |what: &str, error: &dyn fmt::Display| {
            let path = directory.path();
            let text = format!("cannot join domain {domain} in {path:?}: {what}: {error}");
            Error::new(ErrorKind::Io, text)
        };
        let id = NodeId::random().map_err(|error| io("no random bytes", &error))?;
        let identity = Identity::here(id).map_err(|error| io("who this process is", &error))?;
        let watch = Watch::start("mproc processes", |name, text| {
            mproc_runtime::hook::remote(&format!(
                "the source {name:?} of a connection panicked: {text}"
            ));
        });
        let watch = watch.map_err(|error| io("no thread to watch connections", &error))?;
        let origin = Origin::here().map_err(|error| io("forks cannot be watched", &error))?;
        let (core, bell) = Core::new(options, (id, node), watch.handle(), origin)
            .map_err(|error| io("no page of bells", &error))?;
        let added = watch.handle().add("desk", Desk::new(&core));
        added.map_err(|error| io("the watch", &error))?;
        let its_core = Arc::clone(&core);
        let bell_thread = thread::Builder::new()
            .name("mproc bells".into())
            .spawn(move || {
                let core = its_core;
                let run = || core.bells.run(&bell);
                // What panics is code of others: a waker, or a guard's drop. The next one has a right to be woken.
                while catch_unwind(AssertUnwindSafe(run)).is_err() {
                    core.reports.tell("what was woken by a peer panicked");
                }
            })
            .map_err(|error| {
                // Nobody else will.
                core.leave();
                io("no thread for bells", &error)
            })?;
        let this = Arc::new(Self {
            core,
            watch: Mutex::new(Some(watch)),
            bell_thread: Mutex::new(Some(bell_thread)),
        });
        // From here on a failure ends the threads, by the drop.
        let hello = Hello {
            protocols: Protocols {
                min: PROTOCOL as u16,
                max: PROTOCOL as u16,
            },
            features: surveying::FEATURE_REPORTS | surveying::FEATURE_SENDS | wire::FEATURE_TAPS,
            abi: ABI_HASH,
            identity,
        };
        let handle = this.core.watch.clone();
        let rendezvous = Rendezvous::join(&directory, hello, &handle, this.on_meeting());
        let rendezvous = rendezvous.map_err(|error| io("its socket", &error))?;
        *this.core.rendezvous.lock() = Some(Arc::new(rendezvous));
        Ok(this)
    }

    fn on_meeting(&self) -> OnMeeting {
        let core = Arc::downgrade(&self.core);
        Arc::new(move |met: Result<Peer, MeetingError>, _: &WatchHandle| {
            let Some(core) = core.upgrade() else {
                return;
            };
            match met {
                Ok(peer) => core.post(Command::Met(Box::new(peer))),
                Err(error) => core.not_met(&error),
            }
        })
    }

    fn post(&self, command: Command) {
        if self.core.origin.is_here() {
            self.core.post(command);
        }
    }
}

impl Transport for Processes {
    fn offer(&self, topic: Arc<dyn Offered>) {
        self.post(Command::Offer(topic));
    }

    fn withdraw(&self, id: TopicId) {
        self.post(Command::Withdraw(id));
    }

    fn seek(&self, sought: Arc<dyn Sought>) {
        if !self.core.origin.is_here() || self.core.is_closed() {
            return;
        }
        let home = self.core.bells.home(sought.bell().as_ref());
        home.add(Arc::clone(&sought));
        self.core
            .homes
            .lock()
            .insert(sought.id(), Arc::clone(&home));
        self.core.post(Command::Seek(sought, home));
    }

    fn forget(&self, id: SubscriptionId) {
        if !self.core.origin.is_here() {
            return;
        }
        // At once, because what a driver looks at may hold the driver.
        let home = self.core.homes.lock().remove(&id);
        if let Some(home) = home {
            home.remove(id);
        }
        self.core.post(Command::Forget(id));
    }

    fn reconsider(&self) {
        self.post(Command::Reconsider);
    }

    fn publishers(&self, id: TopicId) -> usize {
        if !self.core.origin.is_here() {
            return 0;
        }
        let publishers = self.core.publishers.lock();
        publishers.get(&id.get()).copied().unwrap_or(0)
    }

    fn node(&self) -> [u8; 16] {
        self.core.node.to_bytes()
    }

    fn snapshot(&self) -> DomainSnapshot {
        let name = self.core.options.domain.clone().unwrap_or_default();
        self.core.reports.snapshot(name)
    }

    fn survey(&self, ask: &Arc<Ask>, deadline: Option<Instant>, watch: Duration) {
        let asking = Asking(Arc::clone(ask));
        self.post(Command::Survey(asking, deadline, watch));
        if self.core.origin.is_here() && self.core.is_closed() {
            // It may have come behind the last that were let go of.
            drop(self.core.take_commands());
        }
    }

    fn forget_surveys(&self) {
        self.post(Command::ForgetSurveys);
    }

    fn close(&self) {
        if !self.core.origin.is_here() || self.core.closed.swap(true, AcqRel) {
            return;
        }
        // Nobody is met any more, and others see at once that this node is gone.
        let rendezvous = self.core.rendezvous.lock().take();
        drop(rendezvous);
        let watch = self.watch.lock().take();
        // Waits for the thread, unless this is it: then whoever has the control out carries out the end.
        drop(watch);
        self.core.leave();
        self.core.inspector.close();
        self.core.bells.close();
        let bell_thread = self.bell_thread.lock().take();
        if let Some(thread) = bell_thread
            && thread.thread().id() != thread::current().id()
        {
            // Its panics are caught.
            let _ = thread.join();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        self.close();
        if !self.core.origin.is_here() {
            // A child has no such thread: to let go of it would touch memory that is not its any more.
            std::mem::forget(self.bell_thread.get_mut().take());
        }
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Processes({:?}, {:?})", self.core.node, self.snapshot())
    }
}

fn refused_directory(domain: &Domain, error: DirectoryError) -> Error {
    let kind = match error.problem() {
        DirectoryProblem::Relative | DirectoryProblem::Missing => ErrorKind::InvalidSetting,
        _ => ErrorKind::Io,
    };
    let text = format!("cannot join domain {domain}: {error}");
    Error::new(kind, text).with_source(error)
}
