//! The driver that the program's own thread runs, by spinning.

use super::{DriverCore, Kind, Turn, spawn_cell};
use crate::address::Address;
use crate::context::Cx;
use crate::current;
use crate::error::{Error, ErrorKind, SpawnError};
use crate::interrupt::WatchesInterrupts;
use crate::mailbox::MailboxOptions;
use crate::name::Name;
use crate::pending::Pending;
use crate::processor::Processor;
use crate::runtime::{Runtime, RuntimeCore};
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

/// What a spin did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spun {
    /// One callback or handler ran.
    Ran,
    /// Nothing was ready within the time allowed.
    Idle,
    /// The node is ending.
    Shutdown,
}

/// What [`Manual::spin_some`] has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpinReport {
    /// How many messages, samples, timers and continuations were handled: never more than the budget.
    pub handled: usize,
    /// How many messages and values that had stood in an outbox, because there was no room for them, found it meanwhile and
    /// went out. What finds room at once never stands there, and is not counted.
    pub delivered: usize,
    /// The node is ending: no later spin runs anything, and `spin` carries the end out.
    pub is_ending: bool,
}

/// A driver without a thread: its processors run while the thread that made it spins. For those who build scripts or
/// event loops on the runtime; programs use the `Script` of the facade.
pub struct Manual {
    core: Arc<DriverCore>,
    /// Processors that are not `Send` live here.
    not_send: PhantomData<*mut ()>,
}

impl Manual {
    pub(crate) fn new(runtime: &Arc<RuntimeCore>, name: &str) -> Result<Self, Error> {
        let name = Name::new(name)?;
        let core = DriverCore::new(name, Kind::Manual, runtime.clone());
        runtime.add_driver(&core, true)?;
        core.sit();
        current::add_script(core.id());
        Ok(Self {
            core,
            not_send: PhantomData,
        })
    }

    pub(crate) fn core(&self) -> &Arc<DriverCore> {
        &self.core
    }

    /// Spawns a processor on this thread; it need not be `Send`.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn_with`](crate::Driver::spawn_with).
    pub fn spawn<P: Processor>(
        &self,
        name: &str,
        options: MailboxOptions,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        spawn_cell(&self.core, name, processor, false, options)
    }

    /// The node, without topics.
    pub fn runtime(&self) -> Runtime {
        Runtime::from_core(self.core.runtime().clone())
    }

    /// Runs `f` with a processor of this driver, between two spins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a handler, or if the processor lives on another driver; [`ErrorKind::Closed`] if it
    /// has ended.
    pub fn enter<P: Processor, R>(
        &self,
        address: &Address<P>,
        f: impl FnOnce(&mut P, &mut Cx<'_, P>) -> R,
    ) -> Result<R, Error> {
        self.refuse("reach into a script")?;
        if address.cell().driver.id() != self.core.id() {
            let text = format!("processor {:?} runs on another driver", address.name());
            return Err(Error::new(ErrorKind::Refused, text));
        }
        let _looks = LooksAfter(&self.core);
        let entered = {
            // What runs meanwhile (`f`, and drops of what it leaves) is inside, too.
            let _serves = current::serve_script(self.core.id());
            // SAFETY: `self` is not `Send`, so this is the thread that runs the driver.
            unsafe { address.cell().enter(f) }
        };
        end_orphans();
        entered.ok_or_else(|| {
            let text = format!("processor {:?} has ended", address.name());
            Error::new(ErrorKind::Closed, text)
        })
    }

    /// What only the thread that made it may do, outside of all handlers, and not in a forked child.
    fn refuse(&self, what: &str) -> Result<(), Error> {
        if !self.core.runtime().is_here() {
            let text = format!(
                "cannot {what}: the node belongs to the process from which this one was forked; make one here, or exec"
            );
            return Err(Error::new(ErrorKind::Forked, text));
        }
        if current::is_inside() {
            let text = format!("cannot {what} inside a handler or callback");
            return Err(Error::new(ErrorKind::Refused, text));
        }
        Ok(())
    }

    fn turn(&self, budget: u32) -> Turn {
        let _looks = LooksAfter(&self.core);
        let turn = {
            let _serves = current::serve_script(self.core.id());
            // What the script did since the last turn took time of its own.
            current::forget_clock();
            self.core.turn(budget)
        };
        end_orphans();
        turn
    }

    /// Runs at most one callback or handler, waiting for one at most `timeout`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] inside a handler or callback; [`ErrorKind::Forked`] in a forked child.
    pub fn spin_once(&self, timeout: Duration) -> Result<Spun, Error> {
        self.refuse("spin")?;
        let until = super::deadline(self.core.world(), timeout);
        let spun = self.step(until, timeout.is_zero());
        // It may be the last spin for long, and does not end in a sleep.
        self.core.runtime().a_driver_is_idle();
        Ok(spun)
    }

    fn step(&self, until: Option<Instant>, no_wait: bool) -> Spun {
        loop {
            if self.core.runtime().is_ending() {
                self.core.tells_of_the_end();
                return Spun::Shutdown;
            }
            if let Turn::Ran(_) = self.turn(1) {
                return Spun::Ran;
            }
            if no_wait || until.is_some_and(|until| self.core.world().now() >= until) {
                return Spun::Idle;
            }
            self.core.sleep(until);
        }
    }

    /// Runs what is ready, at most `budget` callbacks and handlers, and returns how many ran. Never waits, never discards.
    /// What they queue themselves counts, within the budget. With a budget of 0 nothing is done at all.
    ///
    /// # Errors
    ///
    /// As [`spin_once`](Self::spin_once).
    pub fn spin_some(&self, budget: usize) -> Result<SpinReport, Error> {
        self.refuse("spin")?;
        let mut ran = 0;
        let delivered_before = current::delivered();
        while ran < budget && !self.core.runtime().is_ending() {
            // One at a time: what is ready takes turns.
            match self.turn(1) {
                Turn::Ran(n) => ran += n as usize,
                Turn::Idle => break,
            }
        }
        // As in `spin_once`.
        self.core.runtime().a_driver_is_idle();
        if self.core.runtime().is_ending() {
            self.core.tells_of_the_end();
        }
        Ok(SpinReport {
            handled: ran,
            delivered: (current::delivered() - delivered_before) as usize,
            is_ending: self.core.runtime().is_ending(),
        })
    }

    /// Runs callbacks and handlers until the node is told to end, and leaves the end to the caller.
    ///
    /// # Errors
    ///
    /// As [`spin_once`](Self::spin_once).
    pub fn spin_until_the_end(&self) -> Result<(), Error> {
        self.refuse("spin")?;
        while self.step(None, false) != Spun::Shutdown {}
        Ok(())
    }

    /// Runs callbacks and handlers until the node is told to end, then ends it in order, waiting at most `limit` for
    /// that.
    ///
    /// # Errors
    ///
    /// As [`spin_once`](Self::spin_once).
    pub fn spin(&self, limit: Duration) -> Result<crate::ShutdownReport, Error> {
        self.spin_until_the_end()?;
        Ok(self.runtime().shutdown(limit))
    }

    /// Runs callbacks and handlers until `pending` is done, and returns its result; `None` if `timeout` has passed
    /// first, or the node is ending. A timeout of zero looks once and runs nothing.
    ///
    /// # Errors
    ///
    /// As [`spin_once`](Self::spin_once), and [`ErrorKind::Interrupted`] after an [interrupt](Runtime::interrupt).
    pub fn spin_until<T: 'static, E: 'static>(
        &self,
        pending: &mut Pending<T, E>,
        timeout: Duration,
    ) -> Result<Option<Result<T, E>>, Error> {
        self.refuse("spin")?;
        let until = super::deadline(self.core.world(), timeout);
        // The operation's own waker is this thread's, which is also what ends the driver's sleep.
        let waker = self.core.world().waker();
        let interrupts = WatchesInterrupts::of_script(self.core.runtime(), &waker);
        loop {
            if let Poll::Ready(result) = pending.poll_begun(&waker) {
                self.core.runtime().a_driver_is_idle();
                return Ok(Some(result));
            }
            if timeout.is_zero()
                || self.core.runtime().is_ending()
                || until.is_some_and(|until| self.core.world().now() >= until)
            {
                return Ok(None);
            }
            if interrupts
                .as_ref()
                .is_some_and(WatchesInterrupts::was_interrupted)
            {
                let text = "waiting for the operation was interrupted";
                return Err(Error::new(ErrorKind::Interrupted, text));
            }
            if let Turn::Idle = self.turn(1) {
                self.core.sleep(until);
            }
        }
    }

    /// True if a spin would run something now, or the node is ending. It costs a look, and nothing is kept for it.
    pub fn is_ready(&self) -> bool {
        self.core.is_ready()
    }

    /// Has `call` called once whenever there is something to run, or an end of the node, where there was nothing before:
    /// for loops that watch no descriptors. If there is something already it is called at once. Another `call` replaces the
    /// one before.
    ///
    /// It is called by whatever thread made the change, perhaps in the middle of its `send`, so it should do no more than
    /// tell the loop. It must not block. A panic in it is reported and changes nothing.
    ///
    /// Once it was called it is called again only after a spin has found nothing left to run, so spin until
    /// [`is_ready`](Self::is_ready) says no.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Io`] if other processes reach this driver already and there is no thread to listen to them in its place;
    /// [`ErrorKind::Forked`] in a forked child.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_runtime::{MailboxOptions, Runtime, closure};
    /// use std::sync::mpsc::channel;
    ///
    /// let node = Runtime::simulated(1);
    /// let manual = node.manual("loop")?;
    /// let sink = manual.spawn("sink", MailboxOptions::default(), closure(|_: u32, _cx| ()))?;
    /// manual.spin_some(10)?; // it starts
    ///
    /// let (tell, told) = channel();
    /// manual.on_ready(move || drop(tell.send(())))?;
    /// sink.send(1)?;
    /// sink.send(2)?;
    /// assert_eq!(told.try_iter().count(), 1); // something where there was nothing
    /// assert_eq!(manual.spin_some(10)?.handled, 2);
    /// sink.send(3)?;
    /// assert_eq!(told.try_iter().count(), 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn on_ready(&self, call: impl Fn() + Send + Sync + 'static) -> Result<(), Error> {
        self.core.set_on_ready(Arc::new(call))
    }

    /// The descriptor that is readable while a spin would run something: see [`ReadyFd`](crate::ReadyFd). It is made at the
    /// first call.
    ///
    /// # Errors
    ///
    /// As [`on_ready`](Self::on_ready), and [`ErrorKind::Io`] if the system gives no descriptor.
    #[cfg(unix)]
    pub fn ready_fd(&self) -> Result<super::ReadyFd, Error> {
        self.core.readiness_descriptor()
    }

    /// One turn while the node ends. False if there was nothing to do: then whoever posts rings.
    pub(crate) fn serve_ending(core: &Arc<DriverCore>) -> bool {
        let busy = Self::turn_ending(core);
        end_orphans();
        busy
    }

    fn turn_ending(core: &Arc<DriverCore>) -> bool {
        let _serves = current::serve_script(core.id());
        current::forget_clock();
        if let Turn::Ran(_) = core.turn(super::QUANTUM) {
            return true;
        }
        if core.may_end_here() {
            core.finish();
            return true;
        }
        !core.may_sleep()
    }
}

/// When it is dropped, also by a panic, it looks whether the driver has something to run.
struct LooksAfter<'a>(&'a Arc<DriverCore>);

impl Drop for LooksAfter<'_> {
    fn drop(&mut self) {
        self.0.look_for_oneself();
    }
}

impl DriverCore {
    /// A manual driver has no loop of its own that would notice.
    fn may_end_here(&self) -> bool {
        !self.has_ended() && self.inbox.is_ending() && !self.has_members()
    }
}

impl Drop for Manual {
    /// Ends what lives here, and the driver. Inside a handler this is put off until the handler has returned.
    fn drop(&mut self) {
        if !self.core.runtime().is_here() {
            // In a forked child nothing of it is ended: it is the parent's.
            std::mem::forget(self.core.clone());
            return;
        }
        current::add_orphan(self.core.clone());
        if !current::is_inside() {
            end_orphans();
        }
    }
}

/// Ends the drivers of scripts that are gone. Not inside a handler.
pub(crate) fn end_orphans() {
    while let Some(core) = current::take_orphan() {
        if !core.has_ended() {
            let _serves = current::serve_script(core.id());
            core.finish();
        }
        current::remove_script(core.id());
    }
}

impl fmt::Debug for Manual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Manual({:?})", self.core)
    }
}
