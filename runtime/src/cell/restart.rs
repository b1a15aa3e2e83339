//! Restarting in place: the incarnations of a supervised processor, one after the other in one cell.
//!
//! The cell of a supervised processor is made without a processor. Its driver makes an *incarnation* when the supervisor
//! says so, and another after that one has fallen. Id, name, addresses and mailbox belong to the cell and stay.
//!
//! | the cell                  | `down` | `body.processor` | leaves by                                                        |
//! |---------------------------|--------|------------------|------------------------------------------------------------------|
//! | waits for its supervisor  | true   | `None`           | [`Order::Begin`] (`rise`); a request to end (`end_for_good`)      |
//! | has an incarnation        | false  | `Some`           | its end: `fall` if another follows, else `end_for_good`          |
//! | has ended                 | either | `None`           | never                                                            |
//!
//! Another incarnation follows ([`Supervision::falls`]) if nobody has asked for the end by the processor's address, the node
//! goes on, and the supervisor has halted it or its kind says so.
//!
//! # What becomes of what, when an incarnation falls
//!
//! | what                                             | fate                                                                |
//! |--------------------------------------------------|---------------------------------------------------------------------|
//! | queued messages, and the rest of a batch         | stay in order, for the next incarnation                             |
//! | those who wait for room, permits                 | unchanged: the mailbox takes what it has room for, then as always   |
//! | the message whose handler panicked               | is consumed; its caller gets `CallError::Panicked`                  |
//! | reply tokens in the state, or a continuation     | `CallError::Restarted`                                              |
//! | its own calls that continuations wait for        | given up, as when a `Pending` is dropped                            |
//! | the outbox                                       | is delivered, also while the cell is down                           |
//! | timers, subscriptions, continuations, extensions | dropped; `started` makes new ones                                   |
//! | futures, of handlers and spawned                 | dropped; callers of the handlers get `CallError::Restarted`         |
//! | its watches and links                            | ended; `started` makes new ones                                     |
//! | notices on their way to it                       | dropped: its watches are over                                       |
//! | tasks of `with_processor`                        | wait for the next incarnation                                       |
//! | those who watch it, or are linked to it          | are told nothing: it has not ended                                  |
//!
//! While a cell is down `lanes.normal.own.stalled` is true, so messages do not schedule it, and control does.

use super::place::Resident;
use super::{After, AnyCell, Body, Cell, panic_message};
use crate::address::Address;
use crate::context::drop_for_restart;
use crate::driver::{DriverCore, new_cell, seat_cell};
use crate::error::{Fault, SpawnError};
use crate::exit::Exit;
use crate::hook;
use crate::mailbox::{Control, MailboxOptions, Signals};
use crate::name::Name;
use crate::parcel::Envelope;
use crate::processor::Processor;
use crate::supervision::Restart;
use crate::sync::{Relaxed, Release};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};

/// Makes an incarnation.
pub(crate) type Make<P> = Box<dyn FnMut() -> Result<P, Fault> + Send>;

/// What a supervisor wants of a child's cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Make an incarnation.
    Begin,
    /// End the incarnation after its current message, in order; another will follow.
    Halt,
    /// The same, and not in order.
    HaltNow,
    /// When the incarnation ends by itself, another will follow.
    WillHalt,
    /// When the incarnation ends by itself, that is for good.
    LetEnd,
    /// There is no incarnation, and none will follow: it has ended with the last one.
    LetGo,
}

/// What a cell tells its supervisor. That it has ended for good, watchers are told.
#[derive(Clone, Debug)]
pub(crate) enum Report {
    /// An incarnation is up: `started` has returned. So many times it has come up after a fall.
    Up(u64),
    /// The incarnation is gone, or could not be made.
    Fell(Exit),
}

/// What a processor's supervisor, and those linked to it, have to do with it. Under the mailbox's lock.
pub(crate) struct Supervision<P: Processor> {
    /// Whether it has a supervisor at all, and after which ends it wants another incarnation.
    restart: Option<Restart>,
    /// Absent while it is at work.
    make: Option<Make<P>>,
    tell: Option<Arc<dyn Fn(Report) + Send + Sync>>,
    /// Whose it is, for people.
    supervisor: Option<Name>,
    /// No incarnation.
    down: bool,
    /// The order to make one has not been carried out yet.
    begin: bool,
    /// One was ordered, and has not fallen.
    begun: bool,
    /// It is to fall.
    halting: bool,
    halt_now: bool,
    /// Its end was asked for by its address.
    ends: bool,
    /// No incarnation will follow the last.
    let_go: bool,
    /// It is to end with this.
    cause: Option<Exit>,
    /// How many incarnations have fallen. What belongs to an earlier one is known by this number.
    incarnation: u64,
    /// How often one was up.
    ups: u64,
    /// How the last one fell.
    last: Option<Exit>,
    /// Where the incarnation watches, and under which numbers.
    watches: Vec<(Weak<dyn AnyCell>, u64)>,
}

impl<P: Processor> Default for Supervision<P> {
    fn default() -> Self {
        Self {
            restart: None,
            make: None,
            tell: None,
            supervisor: None,
            down: false,
            begin: false,
            begun: false,
            halting: false,
            halt_now: false,
            ends: false,
            let_go: false,
            cause: None,
            incarnation: 0,
            ups: 0,
            last: None,
            watches: Vec::new(),
        }
    }
}

impl<P: Processor> Supervision<P> {
    pub(crate) fn is_down(&self) -> bool {
        self.down
    }

    /// How often it has come up again.
    pub(crate) fn restarts(&self) -> u64 {
        self.ups.saturating_sub(1)
    }

    /// Whose it is.
    pub(crate) fn supervisor(&self) -> Option<String> {
        let name = self.supervisor.as_ref()?;
        Some(name.as_str().to_owned())
    }

    /// Somebody has asked for the processor's end by its address.
    pub(crate) fn ends_for_good(&mut self) {
        self.ends = true;
    }

    /// True if another incarnation follows one that ends like this.
    fn falls(&self, exit: &Exit) -> bool {
        let wanted = self.restart.is_some_and(|restart| restart.follows(exit));
        !self.ends && self.restart.is_some() && (self.halting || wanted)
    }
}

/// Puts a processor on `driver` that is yet to be made: when its supervisor says so, by `make`, on the driver's thread.
pub(crate) fn spawn_supervised<P: Processor + Send>(
    driver: &Arc<DriverCore>,
    name: &str,
    options: MailboxOptions,
    restart: Restart,
    make: Make<P>,
) -> Result<Address<P>, SpawnError> {
    let cell = new_cell::<P>(driver, name, None, true, options)?;
    {
        let mut lanes = cell.lanes().lock();
        lanes.normal.own.stalled = true;
        lanes.rare().supervision = Some(Box::new(Supervision {
            restart: Some(restart),
            make: Some(make),
            down: true,
            ..Supervision::default()
        }));
    }
    seat_cell(cell)
}

impl<P: Processor> Cell<P> {
    /// The processor ends, or its incarnation does.
    #[inline(never)]
    pub(super) fn end(self: &Arc<Self>, body: &mut Body<'_, P>, exit: Exit) {
        if !body.has_ended() && self.falls(body, &exit) {
            self.fall(body, exit);
        } else {
            self.end_for_good(body, exit);
        }
    }

    /// True if another incarnation follows one that ends like this.
    pub(super) fn falls(&self, body: &Body<'_, P>, exit: &Exit) -> bool {
        let mut lanes = self.lanes().lock();
        lanes.supervision().is_some_and(|s| s.falls(exit))
            && !body.local.draining
            && !body.local.farewell
            && !self.driver.runtime().is_ending()
    }

    /// The incarnation is over, and the cell stays. See the table above.
    fn fall(self: &Arc<Self>, body: &mut Body<'_, P>, exit: Exit) {
        drop_for_restart(|| self.drop_tasks(body, None));
        if !matches!(exit, Exit::Panicked(_)) {
            self.say_farewell(body, &exit);
        }
        drop_for_restart(|| {
            self.drop_tasks(body, None);
            self.drop_incarnation(body);
        });
        let local = &mut body.local;
        (local.down, local.stop, local.farewell) = (true, false, false);
        // A handler that panicked has left its visit half way.
        self.counters().since.store(0, Release);
        if !local.outbox.is_empty() || local.stalled {
            self.settle_down(body);
        }
        hook::fell(&self.name, &exit);
        let mut notices = self.take_notices(&mut body.local.control);
        let (watches, tell, cause) = {
            let mut lanes = self.lanes().lock();
            lanes.normal.own.stalled = true;
            notices.append(&mut self.take_notices(&mut lanes.rare().control));
            let Some(s) = lanes.supervision() else {
                return;
            };
            s.down = true;
            (s.begin, s.begun) = (false, false);
            (s.halting, s.halt_now) = (false, false);
            s.incarnation += 1;
            s.last = Some(exit.clone());
            (
                std::mem::take(&mut s.watches),
                s.tell.clone(),
                s.cause.take(),
            )
        };
        self.quietly("drop", || drop((notices, cause)));
        for (watched, number) in watches {
            if let Some(watched) = watched.upgrade() {
                watched.unwatch(number);
            }
        }
        if let Some(tell) = tell {
            tell(Report::Fell(exit));
        }
    }

    /// Everything that the incarnation has made for itself, each thing where a panic in its drop hurts nothing else.
    fn drop_incarnation(self: &Arc<Self>, body: &mut Body<'_, P>) {
        let local = &mut body.local;
        loop {
            // One that panics is free all the same: the next round goes on behind it.
            let cleared = catch_unwind(AssertUnwindSafe(|| local.timers.clear(&self.driver)));
            match cleared {
                Ok(()) => break,
                Err(payload) => hook::panic(&self.name, "drop", &panic_message(&*payload)),
            }
        }
        local.timers.forget_clock();
        for slot in 0..local.lanes.len() {
            let id = crate::mailbox::LaneId {
                slot: slot as u32,
                generation: local.lanes[slot].generation,
            };
            self.quietly("drop", || local.remove_lane(id));
        }
        local.ready.clear();
        for (_, mut continuation) in std::mem::take(&mut local.continuations) {
            continuation.cancel_deadline(&self.driver);
            self.quietly("drop", || drop(continuation));
        }
        let extensions = std::mem::take(&mut local.extensions);
        self.quietly("drop", || drop(extensions));
        let processor = body.processor.take();
        self.quietly("drop", || drop(processor));
    }

    /// What came of watches of the incarnation that is over.
    fn take_notices(
        &self,
        control: &mut std::collections::VecDeque<Control<P>>,
    ) -> Vec<Control<P>> {
        let (notices, others): (Vec<_>, Vec<_>) = std::mem::take(control)
            .into_iter()
            .partition(|c| matches!(c, Control::Deliver(_)));
        *control = others.into();
        notices
    }

    /// Delivers the outbox, as far as there is room, with nobody to tell of faults.
    fn settle_down(self: &Arc<Self>, body: &mut Body<'_, P>) {
        self.open(body.local);
        let settled = catch_unwind(AssertUnwindSafe(|| self.settle_with(None, body.local)));
        if let Err(payload) = settled {
            hook::panic(&self.name, "drop", &panic_message(&*payload));
        }
        self.close_visit(body);
    }

    /// Serves a processor that has not started: starts it, or waits for its supervisor. `None`: look again.
    #[cold]
    pub(super) fn rise(self: &Arc<Self>, body: &mut Body<'_, P>) -> Option<After> {
        if body.processor.is_some() {
            // Not supervised: its first visit.
            self.start(body);
            return None;
        }
        if std::mem::take(&mut body.local.released) {
            let mut lanes = self.lanes().lock();
            if std::mem::replace(&mut lanes.normal.own.scheduled, true) {
                // It stands on the ready queue again, behind this visit.
                return Some(After::Idle);
            }
        }
        let (signals, begin, let_go, last) = {
            let mut lanes = self.lanes().lock();
            self.flags().own.attention.store(false, Relaxed);
            let signals = std::mem::take(&mut lanes.normal.own.signals);
            let order = lanes.supervision().map(|s| {
                // Who is linked to it has nobody to end.
                let cause = s.cause.take();
                let begin = std::mem::take(&mut s.begin);
                (begin, s.let_go, s.last.clone(), cause)
            });
            let (begin, let_go, last, cause) = order.unwrap_or_default();
            if signals.is_empty() && !begin {
                lanes.normal.own.stalled = true;
                // As in `go_idle`.
                lanes.normal.own.scheduled = self.driver.is_pool();
                return Some(After::Idle);
            }
            drop(lanes);
            self.quietly("drop", || drop(cause));
            (signals, begin, let_go, last)
        };
        if signals.has(Signals::PASS) {
            body.local.pass = true;
        }
        let node_ends = signals.has(Signals::QUIET) || self.driver.runtime().is_ending();
        // Nobody will bring it up any more: its last incarnation was the last.
        let was_the_last = let_go || node_ends;
        if signals.has(Signals::KILL) {
            self.end_for_good(body, Exit::Killed);
        } else if signals.ends() {
            self.end_for_good(body, Exit::Stopped);
        } else if was_the_last {
            self.end_for_good(body, last.unwrap_or(Exit::Stopped));
        } else {
            if body.local.stalled {
                self.settle_down(body);
            }
            if begin {
                self.make(body);
            }
        }
        None
    }

    /// Makes an incarnation, and starts it.
    fn make(self: &Arc<Self>, body: &mut Body<'_, P>) {
        let make = {
            let mut lanes = self.lanes().lock();
            lanes
                .supervision()
                .and_then(|s| if s.halting { None } else { s.make.take() })
        };
        let Some(mut make) = make else {
            // It was halted before it was made.
            self.end(body, Exit::Stopped);
            return;
        };
        self.open(body.local);
        let made = catch_unwind(AssertUnwindSafe(&mut make));
        self.close_visit(body);
        let failed = match made {
            Ok(Ok(processor)) => {
                *body.processor = Some(Resident::new(processor, true));
                body.local.down = false;
                None
            }
            Ok(Err(fault)) => {
                self.count_fault();
                hook::fault(&self.name, "factory", &fault);
                Some(Exit::Faulted(fault))
            }
            Err(payload) => {
                let message = panic_message(&*payload);
                self.rarely(|rare| rare.panics += 1);
                hook::panic(&self.name, "factory", &message);
                crate::context::tell_unwound(&message);
                Some(Exit::Panicked(message))
            }
        };
        {
            let mut lanes = self.lanes().lock();
            if let Some(s) = lanes.supervision() {
                s.make = Some(make);
                s.down = failed.is_some();
            }
            if failed.is_none() {
                lanes.normal.own.stalled = body.local.stalled;
            }
        }
        // Whatever has come meanwhile is looked for under the lock.
        self.flags().own.attention.store(true, Relaxed);
        match failed {
            Some(exit) => self.end(body, exit),
            None => {
                self.start(body);
                if body.is_up() && !body.has_ended() {
                    self.is_up();
                }
            }
        }
    }

    /// `started` has returned.
    fn is_up(&self) {
        let (restarts, tell) = {
            let mut lanes = self.lanes().lock();
            let Some(s) = lanes.supervision() else {
                return;
            };
            s.ups += 1;
            (s.restarts(), s.tell.clone())
        };
        if restarts > 0 {
            hook::restarted(&self.name, restarts);
        }
        if let Some(tell) = tell {
            tell(Report::Up(restarts));
        }
    }

    /// During a visit: what is ordered. The exit, if the processor or its incarnation ends now.
    pub(super) fn obey(&self) -> Option<Exit> {
        let mut lanes = self.lanes().lock();
        let s = lanes.supervision()?;
        if let Some(cause) = s.cause.take() {
            return Some(cause);
        }
        if s.halt_now {
            return Some(Exit::Killed);
        }
        // Its outbox outlives it, and is not waited for: it may be full of messages to one that is down until this one is.
        s.halting.then_some(Exit::Stopped)
    }

    /// The processor has ended: its factory may hold its own address, and is not kept.
    pub(super) fn drop_factory(&self) {
        let factory = {
            let mut lanes = self.lanes().lock();
            lanes.supervision().map(|s| (s.make.take(), s.tell.take()))
        };
        self.quietly("drop", || drop(factory));
    }

    pub(super) fn report_to(&self, supervisor: Name, tell: Arc<dyn Fn(Report) + Send + Sync>) {
        let mut lanes = self.lanes().lock();
        let _before = lanes
            .supervision()
            .map(|s| (s.supervisor.replace(supervisor), s.tell.replace(tell)));
    }

    pub(super) fn take_order(self: &Arc<Self>, order: Order) {
        self.direct(|s| match order {
            Order::Begin => {
                s.begin = !s.begun;
                s.begun = true;
                s.begin
            }
            // If it has fallen by itself, and its supervisor has not heard of it, there is nothing to halt.
            Order::Halt | Order::HaltNow => {
                s.halting = s.begun;
                s.halt_now = s.halting && order == Order::HaltNow;
                s.halting
            }
            Order::WillHalt => {
                s.halting = s.begun;
                false
            }
            Order::LetEnd => {
                s.ends = true;
                false
            }
            Order::LetGo => {
                s.let_go = true;
                true
            }
        });
    }

    /// Ends the processor with this as soon as its current handler returns; a supervised one may be restarted then.
    pub(crate) fn end_with(self: &Arc<Self>, exit: Exit) {
        self.direct(|s| {
            s.cause.get_or_insert(exit);
            true
        });
    }

    /// Changes what is kept for it, and has it look, if `change` says so.
    fn direct(self: &Arc<Self>, change: impl FnOnce(&mut Supervision<P>) -> bool) {
        let mut lanes = self.lanes().lock();
        if lanes.ended().is_some() {
            return;
        }
        if !change(lanes.rare().supervision.get_or_insert_default()) {
            return;
        }
        lanes.normal.own.signals.set(Signals::ORDER);
        let schedule = lanes.schedule_for_control();
        drop(lanes);
        self.flags().own.attention.store(true, Relaxed);
        if schedule {
            self.schedule();
        }
    }

    // ---- watches of one incarnation

    /// The incarnation watches there, under this number. Returns which incarnation it is.
    pub(crate) fn note_watch(&self, watched: &Arc<impl AnyCell + 'static>, number: u64) -> u64 {
        let watched: Arc<dyn AnyCell> = watched.clone();
        match self.lanes().lock().supervision() {
            Some(s) if s.restart.is_some() => {
                s.watches.push((Arc::downgrade(&watched), number));
                s.incarnation
            }
            // There is only one.
            _ => 0,
        }
    }

    pub(crate) fn forget_watch(&self, number: u64) {
        if let Some(s) = self.lanes().lock().supervision() {
            s.watches.retain(|(_, n)| *n != number);
        }
    }

    /// True if this is still the incarnation that watches under this number.
    pub(crate) fn is_incarnation(&self, incarnation: u64) -> bool {
        let mut lanes = self.lanes().lock();
        lanes.supervision().map_or(0, |s| s.incarnation) == incarnation
    }

    /// A notice for that incarnation.
    pub(crate) fn notice(self: &Arc<Self>, incarnation: u64, number: u64, notice: Envelope<P>) {
        let unwanted = {
            let mut lanes = self.lanes().lock();
            let now = lanes.supervision().map_or(0, |s| {
                s.watches.retain(|(_, n)| *n != number);
                s.incarnation
            });
            if lanes.ended().is_none() && now == incarnation {
                lanes.rare().control.push_back(Control::Deliver(notice));
                let schedule = lanes.schedule_for_control();
                drop(lanes);
                self.flags().own.attention.store(true, Relaxed);
                if schedule {
                    self.schedule();
                }
                None
            } else {
                Some(notice)
            }
        };
        drop(unwanted);
    }
}
