//! Triggers: any thread has a callback run on a driver, once for all who asked before it ran.
//!
//! A trigger is a lane of its processor that holds at most one item (see `lane.rs` for the rule that none is left lying).

use crate::context::Cx;
use crate::driver::{Driver, Pool};
use crate::error::{Fault, Outcome, SpawnError};
use crate::hook::{self, Cause};
use crate::lane::{LaneBell, LaneSource};
use crate::processor::{AfterPanic, Handle, IntoOutcome, Processor};
use crate::runtime::Runtime;
use crate::sync::{Mutex, Relaxed};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Has a callback run on its driver, from any thread: what other systems call a guard condition.
///
/// It coalesces: however often it is pulled before the callback runs, the callback runs once. A pull while the callback
/// runs has it run once more. Made by [`Runtime::trigger`], [`Driver::trigger`], [`Pool::trigger`] and
/// [`Cx::trigger`]. Dropping all handles ends nothing; [`close`](Self::close) does, and the end of its processor.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::Runtime;
/// # use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
/// let node = Runtime::simulated(1);
/// let runs = Arc::new(AtomicU32::new(0));
/// let count = runs.clone();
/// let refresh = node.trigger(move |_cx| { count.fetch_add(1, Ordering::Relaxed); })?;
/// refresh.pull();
/// refresh.pull(); // the first was not served yet
/// node.settle();
/// assert_eq!(runs.load(Ordering::Relaxed), 1);
/// refresh.pull();
/// node.settle();
/// assert_eq!(runs.load(Ordering::Relaxed), 2);
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[derive(Clone)]
pub struct Trigger {
    core: Arc<Core>,
}

struct Core {
    state: Mutex<State>,
    /// The process that made it.
    process: u32,
}

#[derive(Default)]
struct State {
    /// Whom to tell. Absent before its processor has started, and after it has ended.
    bell: Option<LaneBell>,
    /// It was pulled, and not served since: with the arrival number, on drivers that serve in that order.
    pulled: Option<u64>,
    /// The processor was told, and has not found it empty since.
    rung: bool,
    is_closed: bool,
}

impl State {
    /// The bell to ring, if the processor has to be told.
    fn tell(&mut self) -> Option<LaneBell> {
        if self.rung {
            return None;
        }
        self.rung = self.bell.is_some();
        self.bell.clone()
    }
}

impl Trigger {
    fn new() -> Self {
        Self {
            core: Arc::new(Core {
                state: Mutex::new(State::default()),
                process: std::process::id(),
            }),
        }
    }

    /// Has the callback run, soon, on its driver. Never waits. False if that will not be: the trigger is closed, its
    /// processor or node has ended, or this is a forked child of the process that made it.
    pub fn pull(&self) -> bool {
        if std::process::id() != self.core.process {
            return false;
        }
        let bell = {
            let mut state = self.core.state.lock();
            if state.is_closed {
                return false;
            }
            if state.pulled.is_none() {
                let arrival = state.bell.as_ref().and_then(LaneBell::next_arrival);
                state.pulled = Some(arrival.unwrap_or(0));
            }
            state.tell()
        };
        if let Some(bell) = bell {
            bell.ring();
        }
        true
    }

    /// The callback runs no more, also if it was pulled before, and is dropped on its driver. Closing twice is harmless.
    pub fn close(&self) {
        if std::process::id() != self.core.process {
            return;
        }
        let bell = {
            let mut state = self.core.state.lock();
            state.is_closed = true;
            state.tell()
        };
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    /// True if it was closed, or its processor has ended.
    pub fn is_closed(&self) -> bool {
        self.core.state.lock().is_closed
    }

    /// Its lane is there: what was pulled before is told now.
    fn connect(&self, to: LaneBell) {
        let bell = {
            let mut state = self.core.state.lock();
            state.bell = Some(to);
            if state.pulled.is_some() || state.is_closed {
                state.tell()
            } else {
                None
            }
        };
        if let Some(bell) = bell {
            bell.ring();
        }
    }
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trigger")
            .field("is_closed", &self.is_closed())
            .finish()
    }
}

/// The receiving half.
struct TriggerLane<F> {
    core: Arc<Core>,
    /// Absent once it was closed.
    call: Option<F>,
    /// The processor is there for this callback alone.
    is_all: bool,
}

impl<P, F> LaneSource<P> for TriggerLane<F>
where
    P: Processor,
    F: FnMut(&mut P, &mut Cx<'_, P>) + 'static,
{
    fn serve(&mut self, processor: &mut P, cx: &mut Cx<'_, P>) -> bool {
        let (was_pulled, is_closed) = {
            let mut state = self.core.state.lock();
            let was_pulled = state.pulled.take().is_some();
            state.rung = was_pulled;
            (was_pulled, state.is_closed)
        };
        if is_closed && self.call.take().is_some() && self.is_all {
            cx.stop();
        }
        match &mut self.call {
            Some(call) if was_pulled => {
                let _span = hook::handling(cx.name(), "trigger", Cause::none());
                call(processor, cx);
                true
            }
            _ => false,
        }
    }

    fn rest(&mut self) -> bool {
        let mut state = self.core.state.lock();
        let is_to_be_dropped = state.is_closed && self.call.is_some();
        let is_idle = state.pulled.is_none() && !is_to_be_dropped;
        if is_idle {
            state.rung = false;
        }
        is_idle
    }

    fn head(&self) -> Option<u64> {
        let state = self.core.state.lock();
        let is_to_be_dropped = state.is_closed && self.call.is_some();
        state.pulled.or(is_to_be_dropped.then_some(0))
    }

    fn item_type(&self) -> fn() -> &'static str {
        || "trigger"
    }

    fn drain(&mut self) {
        // What was pulled is served by who drains, and then the lane ends.
    }

    fn end(&mut self) {
        let _bell = {
            let mut state = self.core.state.lock();
            state.is_closed = true;
            state.pulled = None;
            state.bell.take()
        };
    }
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// A [`Trigger`] that sends the processor itself a message: what `make` returns, once for all pulls before that.
    pub fn trigger<M: 'static>(&mut self, mut make: impl FnMut() -> M + Send + 'static) -> Trigger
    where
        P: Handle<M>,
    {
        self.trigger_with(move |me, cx| cx.handle_now(me, make()))
    }

    /// As [`trigger`](Self::trigger), with something to do in place of a message.
    pub fn trigger_with(
        &mut self,
        call: impl FnMut(&mut P, &mut Cx<'_, P>) + Send + 'static,
    ) -> Trigger {
        let trigger = Trigger::new();
        self.connect_trigger(&trigger, call, false);
        trigger
    }

    /// As [`trigger_with`](Self::trigger_with), for a closure that is not `Send`. Not on a pool.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`](crate::ErrorKind::Refused) if the processor runs on a pool.
    pub fn trigger_with_local(
        &mut self,
        call: impl FnMut(&mut P, &mut Cx<'_, P>) + 'static,
    ) -> Result<Trigger, crate::Error> {
        let trigger = Trigger::new();
        let core = trigger.core.clone();
        let mut to = None;
        self.add_lane_local(|bell| {
            to = Some(bell);
            Box::new(TriggerLane {
                core,
                call: Some(call),
                is_all: false,
            })
        })?;
        if let Some(to) = to {
            trigger.connect(to);
        }
        Ok(trigger)
    }

    fn connect_trigger(
        &mut self,
        trigger: &Trigger,
        call: impl FnMut(&mut P, &mut Cx<'_, P>) + Send + 'static,
        is_all: bool,
    ) {
        let core = trigger.core.clone();
        let mut to = None;
        self.add_lane(|bell| {
            to = Some(bell);
            Box::new(TriggerLane {
                core,
                call: Some(call),
                is_all,
            })
        });
        if let Some(to) = to {
            trigger.connect(to);
        }
    }
}

/// The processor of a trigger that belongs to no other.
pub struct Triggered {
    /// Until it starts.
    #[expect(clippy::type_complexity, reason = "said once")]
    connect: Option<Box<dyn FnOnce(&mut Cx<'_, Self>) + Send>>,
}

impl Processor for Triggered {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(connect) = self.connect.take() {
            connect(cx);
        }
        Ok(())
    }

    fn on_panic(&mut self, _message: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl fmt::Debug for Triggered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Triggered")
    }
}

/// A trigger, and the processor that its callback runs in.
fn triggered<D: IntoOutcome<Reply = ()> + 'static>(
    mut call: impl FnMut(&mut Cx<'_, Triggered>) -> D + Send + 'static,
) -> (Trigger, String, Triggered) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let name = format!("trigger-{}", NEXT.fetch_add(1, Relaxed));
    let trigger = Trigger::new();
    let theirs = trigger.clone();
    let connect = move |cx: &mut Cx<'_, Triggered>| {
        let call = move |me: &mut Triggered, cx: &mut Cx<'_, Triggered>| {
            let outcome: Result<(), Fault> = call(cx).into_outcome();
            if let Err(fault) = outcome {
                cx.fault(me, fault);
            }
        };
        cx.connect_trigger(&theirs, call, true);
    };
    let processor = Triggered {
        connect: Some(Box::new(connect)),
    };
    (trigger, name, processor)
}

impl Runtime {
    /// A [`Trigger`] whose callback runs on the default pool ([`spawn`](Self::spawn)), in a processor made for it. A fault or
    /// a panic in it is reported, and the next pull has it run all the same.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// See [`Trigger`].
    pub fn trigger<D: IntoOutcome<Reply = ()> + 'static>(
        &self,
        call: impl FnMut(&mut Cx<'_, Triggered>) -> D + Send + 'static,
    ) -> Result<Trigger, SpawnError> {
        let (trigger, name, processor) = triggered(call);
        self.spawn(&name, processor)?;
        Ok(trigger)
    }
}

impl Driver {
    /// A [`Trigger`] whose callback runs on this driver, in a processor made for it: never beside a handler of another
    /// member. A fault or a panic in it is reported, and the next pull has it run all the same.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn trigger<D: IntoOutcome<Reply = ()> + 'static>(
        &self,
        call: impl FnMut(&mut Cx<'_, Triggered>) -> D + Send + 'static,
    ) -> Result<Trigger, SpawnError> {
        let (trigger, name, processor) = triggered(call);
        self.spawn(&name, processor)?;
        Ok(trigger)
    }
}

impl Pool {
    /// A [`Trigger`] whose callback runs on this pool, in a processor made for it: never twice at once. A fault or a panic in
    /// it is reported, and the next pull has it run all the same.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    pub fn trigger<D: IntoOutcome<Reply = ()> + 'static>(
        &self,
        call: impl FnMut(&mut Cx<'_, Triggered>) -> D + Send + 'static,
    ) -> Result<Trigger, SpawnError> {
        let (trigger, name, processor) = triggered(call);
        self.spawn(&name, processor)?;
        Ok(trigger)
    }
}
