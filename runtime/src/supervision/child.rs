//! What a supervisor is told about a child: how it is made, where it lives, and when it is restarted.

use super::keeper::Keeper;
use super::spec::SupervisorSpec;
use crate::address::Address;
use crate::cell::{CellRef, Make, Order, spawn_supervised};
use crate::driver::{self, Driver, Pool};
use crate::error::{Fault, SpawnError};
use crate::exit::Exit;
use crate::mailbox::{MailboxOptions, Signals};
use crate::processor::Processor;
use crate::runtime::RuntimeCore;
use crate::sync::{AtomicBool, Mutex, Relaxed};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// After which ends of an incarnation a child is restarted.
///
/// An end that is asked for by the child's address ([`Address::stop`], `drain`, `kill`) is an end for good, whatever this
/// says: the address means the processor, and not one of its incarnations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// After every one, also if it stopped itself ([`Cx::stop`](crate::Cx::stop)).
    #[default]
    Permanent,
    /// After failures: a panic, a fault in `started`, a factory that failed, a link. Not if it stopped itself.
    Transient,
    /// Never.
    Temporary,
}

impl Restart {
    /// True if another incarnation follows one that ends like this.
    pub(crate) fn follows(self, exit: &Exit) -> bool {
        match self {
            Self::Permanent => true,
            Self::Transient => !matches!(exit, Exit::Stopped),
            Self::Temporary => false,
        }
    }
}

/// Where a child lives; see [`Child::on`].
#[derive(Clone, Debug)]
pub struct ChildPlace(Where);

#[derive(Clone, Debug)]
enum Where {
    /// On a thread of its own.
    Thread,
    /// With others on one thread.
    Driver(Driver),
    /// With others on several threads.
    Pool(Pool),
    /// With the node's supervisors, none of which blocks.
    Supervisors,
}

impl From<&Driver> for ChildPlace {
    fn from(driver: &Driver) -> Self {
        Self(Where::Driver(driver.clone()))
    }
}

impl From<&Pool> for ChildPlace {
    fn from(pool: &Pool) -> Self {
        Self(Where::Pool(pool.clone()))
    }
}

impl ChildPlace {
    /// The one place that knows how a child is put where it lives.
    fn spawn<P: Processor + Send>(
        &self,
        runtime: &Arc<RuntimeCore>,
        child: &Child,
        make: Make<P>,
    ) -> Result<Address<P>, SpawnError> {
        let (name, mailbox, restart) = (&*child.name, child.mailbox, child.restart);
        match &self.0 {
            Where::Thread => driver::on_own_thread(runtime, name, |core| {
                spawn_supervised(core, name, mailbox, restart, make)
            }),
            Where::Driver(driver) => spawn_supervised(driver.core(), name, mailbox, restart, make),
            Where::Pool(pool) => spawn_supervised(pool.core(), name, mailbox, restart, make),
            Where::Supervisors => {
                let driver = super::supervisors_driver(runtime)?;
                spawn_supervised(driver.core(), name, mailbox, restart, make)
            }
        }
    }
}

/// What a factory may return: the processor, or a `Result` with it.
pub trait IntoProcessor {
    /// The processor.
    type Processor: Processor;

    /// The processor, or why there is none.
    ///
    /// # Errors
    ///
    /// That of the factory.
    fn into_processor(self) -> Result<Self::Processor, Fault>;
}

impl<P: Processor> IntoProcessor for P {
    type Processor = P;

    fn into_processor(self) -> Result<P, Fault> {
        Ok(self)
    }
}

impl<P: Processor, E: Into<Fault>> IntoProcessor for Result<P, E> {
    type Processor = P;

    fn into_processor(self) -> Result<P, Fault> {
        self.map_err(Into::into)
    }
}

/// A child of a supervisor: its name, the factory that makes it, where it lives and when it is restarted.
///
/// Unless told otherwise it is [permanent](Restart::Permanent), lives on a thread of its own, has the node's default mailbox,
/// and is given 5 seconds to stop.
///
/// # Examples
///
/// A processor without a factory cannot be a child:
///
/// ```compile_fail
/// # use mproc_runtime::{Child, Processor};
/// struct Camera;
/// impl Processor for Camera {}
/// let camera = Child::new("camera", Camera); // who would make the next one?
/// ```
#[must_use = "a child does nothing until a supervisor has it"]
pub struct Child {
    pub(crate) name: String,
    pub(crate) restart: Restart,
    pub(crate) stop_limit: Duration,
    place: ChildPlace,
    mailbox: MailboxOptions,
    seats: Box<dyn Seats>,
}

/// Makes a child's cell.
trait Seats: Send + Sync {
    fn seat(
        &self,
        runtime: &Arc<RuntimeCore>,
        child: &Child,
    ) -> Result<Box<dyn Seated>, SpawnError>;
}

/// What a supervisor can do with a child, whatever it is.
pub(crate) trait Seated: Send {
    fn cell(&self) -> CellRef;
    /// Asks an incarnation that is up to end after its current message, because another will follow. `wanted` is false once
    /// that is over.
    fn halt(&self, wanted: &Arc<AtomicBool>);
    /// The same, for good.
    fn stop(&self, wanted: &Arc<AtomicBool>);
}

impl Child {
    /// A child called `name`, each incarnation of which is made by `factory`: on the thread where it lives, with its
    /// mailbox open. A factory that fails or panics counts as a failure of the child.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Child, Processor};
    /// # use std::fs::File;
    /// struct Log(File);
    /// impl Processor for Log {}
    ///
    /// let log = Child::new("log", || File::create("log").map(Log)).transient();
    /// # let _ = log;
    /// ```
    pub fn new<F, D>(name: &str, factory: F) -> Self
    where
        F: FnMut() -> D + Send + 'static,
        D: IntoProcessor + 'static,
        D::Processor: Send,
    {
        Self {
            name: name.to_owned(),
            restart: Restart::default(),
            stop_limit: crate::runtime::DEFAULT_LIMIT,
            place: ChildPlace(Where::Thread),
            mailbox: MailboxOptions::default(),
            seats: Box::new(Factory {
                factory: Arc::new(Mutex::new(Some(factory))),
                makes: PhantomData::<fn() -> D>,
            }),
        }
    }

    /// It is restarted after every end of an incarnation. This is the default.
    pub fn permanent(mut self) -> Self {
        self.restart = Restart::Permanent;
        self
    }

    /// It is restarted after failures only.
    pub fn transient(mut self) -> Self {
        self.restart = Restart::Transient;
        self
    }

    /// It is never restarted. If the supervisor restarts all together, it ends with the others and does not come back.
    pub fn temporary(mut self) -> Self {
        self.restart = Restart::Temporary;
        self
    }

    /// It lives there, with others.
    pub fn on(mut self, place: impl Into<ChildPlace>) -> Self {
        self.place = place.into();
        self
    }

    /// With a mailbox of one's choice.
    pub fn mailbox(mut self, options: MailboxOptions) -> Self {
        self.mailbox = options;
        self
    }

    /// How long it may take to stop. After that it is killed: it ends as soon as its handler returns.
    pub fn stop_limit(mut self, limit: Duration) -> Self {
        self.stop_limit = limit;
        self
    }

    /// Makes its cell, which waits for the supervisor.
    pub(crate) fn seat(&self, runtime: &Arc<RuntimeCore>) -> Result<Box<dyn Seated>, SpawnError> {
        self.seats.seat(runtime, self)
    }
}

impl fmt::Debug for Child {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Child")
            .field("name", &self.name)
            .field("restart", &self.restart)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

/// The factory is kept for as long as the supervisor may make the child afresh, and lent to its cell while it is at work.
struct Factory<F, D> {
    factory: Arc<Mutex<Option<F>>>,
    makes: PhantomData<fn() -> D>,
}

struct Lent<'a, F> {
    of: &'a Mutex<Option<F>>,
    factory: Option<F>,
}

impl<F> Drop for Lent<'_, F> {
    fn drop(&mut self) {
        *self.of.lock() = self.factory.take();
    }
}

impl<F, D> Seats for Factory<F, D>
where
    F: FnMut() -> D + Send + 'static,
    D: IntoProcessor + 'static,
    D::Processor: Send,
{
    fn seat(
        &self,
        runtime: &Arc<RuntimeCore>,
        child: &Child,
    ) -> Result<Box<dyn Seated>, SpawnError> {
        let of = self.factory.clone();
        let make: Make<D::Processor> = Box::new(move || {
            let taken = of.lock().take();
            let mut lent = Lent {
                of: &of,
                factory: Some(taken.ok_or_else(|| Fault::new("its factory is still at work"))?),
            };
            match &mut lent.factory {
                Some(factory) => factory().into_processor(),
                None => unreachable!("it was just put there"),
            }
        });
        let address = child.place.spawn(runtime, child, make)?;
        Ok(Box::new(Ordinary(address)))
    }
}

/// A child that is no supervisor.
struct Ordinary<P: Processor>(Address<P>);

impl<P: Processor> Seated for Ordinary<P> {
    fn cell(&self) -> CellRef {
        self.0.cell().clone()
    }

    fn halt(&self, _: &Arc<AtomicBool>) {
        self.cell().order(Order::Halt);
    }

    fn stop(&self, _: &Arc<AtomicBool>) {
        self.cell().signal(Signals::STOP);
    }
}

/// A supervisor as a child: permanent, unless told otherwise. When it gives up it ends, and its own supervisor decides.
impl From<SupervisorSpec> for Child {
    fn from(spec: SupervisorSpec) -> Self {
        Self {
            name: spec.name().to_owned(),
            restart: Restart::default(),
            stop_limit: Duration::from_secs(60),
            place: ChildPlace(Where::Supervisors),
            mailbox: MailboxOptions::default(),
            seats: Box::new(Nested(Arc::new(spec))),
        }
    }
}

struct Nested(Arc<SupervisorSpec>);

impl Seats for Nested {
    fn seat(
        &self,
        runtime: &Arc<RuntimeCore>,
        child: &Child,
    ) -> Result<Box<dyn Seated>, SpawnError> {
        let (spec, core) = (self.0.clone(), runtime.clone());
        let make: Make<Keeper> = Box::new(move || Ok(Keeper::new(&spec, &core)?));
        let address = child.place.spawn(runtime, child, make)?;
        Ok(Box::new(NestedSeat(address)))
    }
}

/// A supervisor must stop its own children before it ends: it is asked to, and then stops itself.
struct NestedSeat(Address<Keeper>);

impl NestedSeat {
    fn wind_up(&self, wanted: &Arc<AtomicBool>) {
        let wanted = wanted.clone();
        // It has ended: so much the better.
        let _ended = self.0.with_processor(move |keeper, cx| {
            // It may have fallen meanwhile, and this would hit the next one.
            if wanted.load(Relaxed) {
                keeper.wind_up(cx);
            }
        });
    }
}

impl Seated for NestedSeat {
    fn cell(&self) -> CellRef {
        self.0.cell().clone()
    }

    fn halt(&self, wanted: &Arc<AtomicBool>) {
        self.cell().order(Order::WillHalt);
        self.wind_up(wanted);
    }

    fn stop(&self, wanted: &Arc<AtomicBool>) {
        self.cell().order(Order::LetEnd);
        self.wind_up(wanted);
    }
}
