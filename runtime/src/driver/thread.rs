//! Drivers that have a thread: own (for one processor) and shared (for several).

use super::{DriverCore, Kind, Marked, Monitor, ThreadOptions, deadline, spawn_cell};
use crate::address::Address;
use crate::current;
use crate::error::{Error, ErrorKind, InCircle, SpawnError};
use crate::id::DriverId;
use crate::mailbox::{MailboxOptions, Signals};
use crate::name::Name;
use crate::processor::Processor;
use crate::runtime::RuntimeCore;
use crate::shutdown::{Left, ShutdownReport};
use crate::sync::{Acquire, AtomicBool, Mutex, Release};
use crate::waits_for::{self, Answer, Owed, Owner};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

/// A thread that serves several processors, one handler at a time.
///
/// It lives until it is shut down, or its node is. Dropping this handle does not end it.
#[derive(Clone)]
pub struct Driver {
    core: Arc<DriverCore>,
}

/// Starts the thread of a driver that is filed already.
fn start(driver: &Arc<DriverCore>) -> std::io::Result<()> {
    let core = driver.clone();
    let thread = driver
        .world()
        .spawn(driver.name().as_str(), move || core.run())?;
    driver.add_thread(thread);
    Monitor::start(driver.runtime());
    Ok(())
}

/// A new shared driver.
pub(crate) fn new_driver(
    runtime: &Arc<RuntimeCore>,
    name: &str,
    options: ThreadOptions,
) -> Result<Driver, Error> {
    let name = Name::new(name)?;
    options.check(&runtime.world, name.as_str())?;
    let core = DriverCore::with_thread(name.clone(), Kind::Shared, runtime.clone(), options);
    runtime.add_driver(&core, true)?;
    if let Err(error) = start(&core) {
        runtime.driver_ended(core.id(), &name, Kind::Shared);
        let text = format!("cannot start driver {name:?}: no thread to be had");
        return Err(Error::new(ErrorKind::Io, text).with_source(error));
    }
    Ok(Driver { core })
}

/// A processor with a driver of its own.
pub(crate) fn spawn_thread<P: Processor + Send>(
    runtime: &Arc<RuntimeCore>,
    name: &str,
    processor: P,
    options: MailboxOptions,
) -> Result<Address<P>, SpawnError> {
    on_own_thread(runtime, name, |core| {
        spawn_cell(core, name, processor, true, options)
    })
}

/// What `spawn` puts on a driver that is made for it.
pub(crate) fn on_own_thread<P: Processor + Send>(
    runtime: &Arc<RuntimeCore>,
    name: &str,
    spawn: impl FnOnce(&Arc<DriverCore>) -> Result<Address<P>, SpawnError>,
) -> Result<Address<P>, SpawnError> {
    let valid = Name::new(name).map_err(SpawnError::Name)?;
    let core = DriverCore::new(valid.clone(), Kind::Own, runtime.clone());
    runtime
        .add_driver(&core, false)
        .map_err(|_| SpawnError::Closed(valid.clone()))?;
    let address = spawn(&core).inspect_err(|_| {
        runtime.driver_ended(core.id(), &valid, Kind::Own);
    })?;
    if let Err(error) = start(&core) {
        core.disown(&**address.cell());
        runtime.driver_ended(core.id(), &valid, Kind::Own);
        return Err(SpawnError::Thread(valid, error));
    }
    Ok(address)
}

impl Driver {
    pub(crate) fn core(&self) -> &Arc<DriverCore> {
        &self.core
    }

    /// The driver's id.
    pub fn id(&self) -> DriverId {
        self.core.id()
    }

    /// The driver's name, which no processor of the node shares.
    pub fn name(&self) -> &Name {
        self.core.name()
    }

    /// From now on serves its members strictly in the order in which messages arrived, over all of them. It costs a
    /// little per message. High lanes and control still come first.
    pub fn arrival_order(self) -> Self {
        self.core.mark(Marked::IN_ARRIVAL_ORDER, true);
        self
    }

    /// Spawns a processor on this driver.
    ///
    /// # Errors
    ///
    /// [`SpawnError::Name`] and [`SpawnError::NameTaken`] for the name; [`SpawnError::Closed`] if the driver or the node
    /// has ended.
    pub fn spawn<P: Processor + Send>(
        &self,
        name: &str,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        self.spawn_with(name, MailboxOptions::default(), processor)
    }

    /// As [`spawn`](Self::spawn), with a mailbox of one's choice.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn), and [`SpawnError::Capacity`] for a capacity of 0.
    pub fn spawn_with<P: Processor + Send>(
        &self,
        name: &str,
        options: MailboxOptions,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        spawn_cell(&self.core, name, processor, true, options)
    }

    /// Runs `build` on the driver's thread and waits for what it returns. What it makes need not be `Send`, so members can
    /// share an `Rc`; what it returns must be.
    ///
    /// # Errors
    ///
    /// What `build` returns; [`ErrorKind::Closed`] if the driver has ended; [`ErrorKind::Timeout`] if the driver did not
    /// come to it within the node's call limit (then it is not run at all); [`ErrorKind::Deadlock`], naming the circle, if it
    /// never would, because it waits for the calling thread; [`ErrorKind::Fault`] if it panicked.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, local_closure};
    /// use std::{cell::RefCell, rc::Rc};
    ///
    /// let node = Runtime::simulated(1);
    /// let io = node.driver("io")?;
    /// let (add, get) = io.build(|on| {
    ///     let table = Rc::new(RefCell::new(Vec::new())); // no lock: one thread, one handler at a time
    ///     let other = table.clone();
    ///     let add = on.spawn("add", local_closure(move |n: i32, _cx| table.borrow_mut().push(n)))?;
    ///     let get = on.spawn("get", local_closure(move |(): (), _cx| Ok::<_, std::fmt::Error>(other.borrow().len())))?;
    ///     Ok((add.recipient::<i32>(), get))
    /// })?;
    /// add.send(7)?;
    /// node.settle();
    /// assert_eq!(get.call(()).wait()?, 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn build<T: Send + 'static>(
        &self,
        build: impl FnOnce(&mut OnDriver<'_>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let run = move |core: &Arc<DriverCore>| {
            build(&mut OnDriver {
                core,
                not_send: PhantomData,
            })
        };
        if current::driver() == Some(self.core.id()) {
            return run(&self.core);
        }
        let world = self.core.world();
        let waker = world.waker();
        // `None` while it is on its way; the closure is taken out of `work` by whoever comes first, the driver to run
        // it or this thread to take it back.
        let work = Arc::new(Mutex::new(Some(run)));
        let result = Arc::new(Mutex::new(None));
        let built = Arc::new(Built {
            driver: self.core.clone(),
            done: AtomicBool::new(false),
        });
        let (theirs, answer, done) = (work.clone(), result.clone(), waker.clone());
        let there = built.clone();
        let queued = self.core.command(Box::new(move |core| {
            let run = theirs.lock().take();
            if let Some(run) = run {
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(core)));
                *answer.lock() = Some(outcome);
            }
            // Release pairs with the Acquire in `Built::is_there`.
            there.done.store(true, Release);
            done.wake();
        }));
        let closed = || {
            let name = self.core.name();
            Error::new(ErrorKind::Closed, format!("driver {name:?} has ended"))
        };
        if !queued {
            return Err(closed());
        }
        let limit = deadline(world, self.core.runtime().options.call_limit);
        let look = |waker: &Waker| {
            // The driver's end wakes this thread, too.
            let has_ended = self.core.ended.poll(waker);
            match result.lock().take() {
                Some(Ok(outcome)) => Some(outcome),
                Some(Err(payload)) => {
                    let message = crate::cell::panic_message(&*payload);
                    let text = format!("building on driver {:?} panicked: {message}", self.name());
                    Some(Err(Error::new(ErrorKind::Fault, text)))
                }
                None => has_ended.then(|| Err(closed())),
            }
        };
        let runtime = self.core.runtime();
        let shown = match waits_for::show(Owed::Answer(built), runtime) {
            Ok(shown) => shown,
            // What runs already goes on, and its own wait for this thread has a limit.
            Err(circle) if work.lock().take().is_some() => {
                let (name, circle) = (self.name(), InCircle(&circle));
                let text =
                    format!("cannot build on driver {name:?}: waiting would never end: {circle}");
                return Err(Error::new(ErrorKind::Deadlock, text));
            }
            Err(_) => None,
        };
        if let Some(outcome) = runtime.block_until(limit, look) {
            return outcome;
        }
        drop(shown);
        if work.lock().take().is_some() {
            let text = format!("driver {:?} is busy", self.name());
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        // It runs already: then it also ends.
        runtime
            .block_until(None, look)
            .unwrap_or_else(|| Err(closed()))
    }

    /// Ends its members in order (each handles what is queued), then the thread, waiting at most `limit`. What is left
    /// then is told to end as soon as its handler returns, and named in the report.
    ///
    /// Called from a handler on this driver it only begins the end, and says so.
    pub fn shutdown(&self, limit: Duration) -> ShutdownReport {
        self.core.shutdown(limit)
    }
}

impl DriverCore {
    /// As [`Driver::shutdown`] says.
    pub(super) fn shutdown(&self, limit: Duration) -> ShutdownReport {
        let world = self.world();
        let before = world.now();
        let until = before.checked_add(limit);
        // What a handler has sent to a member before comes before the end. Half of the time for that: a target that never
        // has room must not take the other half from the members.
        self.runtime()
            .deliver_what_was_sent(before.checked_add(limit / 2));
        self.end_when_empty();
        self.signal_all(Signals::DRAIN);
        let mut report = ShutdownReport::default();
        if current::driver() == Some(self.id) {
            report.only_begun = true;
            return report;
        }
        // A handler's outbox may have grown since: a member in a circle with this one is let run.
        let look = |waker: &Waker| self.ended.poll(waker).then_some(());
        let ended = self.runtime().block_until(until, look);
        if ended.is_none() || !self.wait_ended(until) {
            for cell in self.members() {
                report.left.push(Left::of(&*cell));
                cell.signal(Signals::KILL);
            }
        }
        report.took = world.now().saturating_duration_since(before);
        report
    }
}

/// What a driver was told to build: only its own thread does that.
struct Built {
    driver: Arc<DriverCore>,
    /// Set after the result, and stays when that is taken.
    done: AtomicBool,
}

impl Answer for Built {
    fn is_there(&self) -> bool {
        self.done.load(Acquire) || self.driver.has_ended()
    }

    fn owner(&self) -> Option<Owner> {
        Some(Owner::driver(&self.driver))
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.core, f)
    }
}

/// The inside of a driver's thread, where processors can be made that are not `Send`.
pub struct OnDriver<'a> {
    pub(crate) core: &'a Arc<DriverCore>,
    /// Neither `Send` nor `Sync`: only the driver's thread may spawn what is not `Send`.
    pub(crate) not_send: PhantomData<*mut ()>,
}

impl OnDriver<'_> {
    /// As [`Driver::spawn`], for a processor that need not be `Send`.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn`].
    pub fn spawn<P: Processor>(
        &mut self,
        name: &str,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        self.spawn_with(name, MailboxOptions::default(), processor)
    }

    /// As [`spawn`](Self::spawn), with a mailbox of one's choice.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn_with`].
    pub fn spawn_with<P: Processor>(
        &mut self,
        name: &str,
        options: MailboxOptions,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        spawn_cell(self.core, name, processor, false, options)
    }
}

impl fmt::Debug for OnDriver<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OnDriver({:?})", self.core)
    }
}
