//! The processor that a supervisor is. The states of a child stand in a table in `mod.rs`.
//!
//! It does one thing after the other, and [`Keeper::go_on`] finds what is next: to end children, to halt those that are
//! restarted together, or to begin the first that is to begin. It is asked after every report, and waits for nothing.

use super::SupervisorEvent;
use super::child::{Child, Restart, Seated};
use super::spec::{Strategy, SupervisorSpec, WhenGivingUp};
use super::window::Window;
use crate::address::Address;
use crate::cell::{Order, Report, Watcher};
use crate::context::Cx;
use crate::ended::next_watch;
use crate::error::{Fault, Outcome, SpawnError};
use crate::exit::Exit;
use crate::hook;
use crate::id::ProcessorId;
use crate::mailbox::Signals;
use crate::name::Name;
use crate::processor::Processor;
use crate::runtime::RuntimeCore;
use crate::sync::{AtomicBool, Mutex, Relaxed};
use crate::timers::TimerId;
use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::sync::Arc;
use std::time::Instant;

/// What a supervisor and its handles share.
#[derive(Default)]
pub(crate) struct Shared {
    children: Mutex<Vec<(ProcessorId, Name)>>,
    subscribers: Mutex<Vec<Sender<SupervisorEvent>>>,
}

impl Shared {
    pub(crate) fn children(&self) -> Vec<Name> {
        let children = self.children.lock();
        children.iter().map(|(_, name)| name.clone()).collect()
    }

    pub(crate) fn has_child(&self, name: &str) -> bool {
        let children = self.children.lock();
        children.iter().any(|(_, child)| child.as_str() == name)
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Receiver<SupervisorEvent> {
        let (sender, receiver) = crossbeam_channel::bounded(capacity.max(1));
        self.subscribers.lock().push(sender);
        receiver
    }

    fn tell(&self, event: &SupervisorEvent) {
        let mut refused = Vec::new();
        self.subscribers
            .lock()
            .retain(|subscriber| match subscriber.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Full(event)) => {
                    refused.push(event);
                    true
                }
                Err(TrySendError::Disconnected(event)) => {
                    refused.push(event);
                    false
                }
            });
        // With no lock held: a fault's drop is the user's code.
        drop(refused);
    }

    fn forget(&self, id: ProcessorId) {
        self.children.lock().retain(|(child, _)| *child != id);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Down,
    Delayed,
    Starting,
    Up,
    Halting,
    Ending,
}

/// A child, as its supervisor sees it.
pub(crate) struct Kept {
    id: ProcessorId,
    name: Name,
    restart: Restart,
    stop_limit: std::time::Duration,
    seated: Box<dyn Seated>,
    status: Status,
    /// Since when it is up; `None` before it first is, and kept until it next is.
    up_since: Option<Instant>,
    /// How often it has failed without having been up for long.
    failures: u32,
    /// The end of its delay, or of the time it may take to stop.
    timer: Option<TimerId>,
    /// What it was asked to do is still wanted.
    wanted: Arc<AtomicBool>,
}

impl Kept {
    fn new(child: &Child, seated: Box<dyn Seated>) -> Self {
        let cell = seated.cell();
        Self {
            id: cell.id(),
            name: cell.name().clone(),
            restart: child.restart,
            stop_limit: child.stop_limit,
            seated,
            status: Status::Down,
            up_since: None,
            failures: 0,
            timer: None,
            wanted: Arc::default(),
        }
    }

    /// What it was asked before is over. Returns what says whether the next is.
    fn ask(&mut self) -> Arc<AtomicBool> {
        self.wanted.store(false, Relaxed);
        self.wanted = Arc::new(AtomicBool::new(true));
        self.wanted.clone()
    }

    fn kill(&self) {
        self.seated.cell().signal(Signals::KILL);
    }
}

/// Those that are restarted together: all from the first on.
struct Group {
    first: usize,
    /// Present until the delay is over.
    delay: Option<TimerId>,
}

/// Why it ends its children.
enum Ending {
    /// It was asked to end.
    Asked,
    GaveUp(Exit),
    /// It has done what there was to do, and ends.
    Over,
}

/// See the module's documentation.
pub(crate) struct Keeper {
    spec: Arc<SupervisorSpec>,
    runtime: Arc<RuntimeCore>,
    children: Vec<Kept>,
    window: Window,
    group: Option<Group>,
    ending: Option<Ending>,
}

/// The children of a description, which wait to begin.
fn seat_all(spec: &SupervisorSpec, core: &Arc<RuntimeCore>) -> Result<Vec<Kept>, SpawnError> {
    let mut children: Vec<Kept> = Vec::new();
    for child in &spec.plan.children {
        match child.seat(core) {
            Ok(seated) => children.push(Kept::new(child, seated)),
            Err(error) => {
                children.iter().for_each(Kept::kill);
                return Err(error);
            }
        }
    }
    *spec.shared.children.lock() = children.iter().map(|c| (c.id, c.name.clone())).collect();
    Ok(children)
}

/// A child that comes later. Its cell is made here, and the supervisor is told of it.
pub(crate) fn add(
    keeper: &Address<Keeper>,
    shared: &Shared,
    child: Child,
) -> Result<(), SpawnError> {
    let kept = Kept::new(&child, child.seat(keeper.runtime())?);
    let cell = kept.seated.cell();
    let (id, name) = (kept.id, kept.name.clone());
    shared.children.lock().push((id, name.clone()));
    let added = keeper.with_processor(move |keeper, cx| {
        if keeper.ending.is_some() {
            kept.kill();
            keeper.spec.shared.forget(kept.id);
            return;
        }
        keeper.adopt(&kept, cx);
        keeper.children.push(kept);
        keeper.go_on(cx);
    });
    added.map_err(|_| {
        cell.signal(Signals::KILL);
        shared.forget(id);
        SpawnError::Closed(name)
    })
}

impl Keeper {
    pub(crate) fn new(
        spec: &Arc<SupervisorSpec>,
        core: &Arc<RuntimeCore>,
    ) -> Result<Self, SpawnError> {
        Ok(Self {
            children: seat_all(spec, core)?,
            spec: spec.clone(),
            runtime: core.clone(),
            window: Window::new(spec.plan.restarts, spec.plan.within),
            group: None,
            ending: None,
        })
    }

    /// From now on the child reports here.
    fn adopt(&self, child: &Kept, cx: &Cx<'_, Self>) {
        let (id, cell) = (child.id, child.seated.cell());
        let me = cx.me().downgrade();
        let keeper = me.clone();
        let supervisor = cx.name().clone();
        cell.adopt(
            supervisor,
            Arc::new(move |report: Report| {
                if let Some(keeper) = keeper.upgrade() {
                    // A supervisor that has ended has ended its children, too.
                    let _ended = keeper.with_processor(move |k, cx| k.hear(id, report, cx));
                }
            }),
        );
        cell.watch(Watcher {
            number: next_watch(),
            tell: Box::new(move |down| {
                if let Some(keeper) = me.upgrade() {
                    let _ended = keeper.with_processor(move |k, cx| k.has_ended(id, down.exit, cx));
                }
            }),
        });
    }

    fn find(&self, id: ProcessorId) -> Option<usize> {
        self.children.iter().position(|child| child.id == id)
    }

    fn tell(&self, event: SupervisorEvent) {
        self.spec.shared.tell(&event);
    }

    fn hear(&mut self, id: ProcessorId, report: Report, cx: &mut Cx<'_, Self>) {
        let Some(at) = self.find(id) else {
            return;
        };
        let child = &mut self.children[at];
        match report {
            Report::Up(restarts) => {
                child.up_since = Some(cx.now());
                if child.status == Status::Starting {
                    child.status = Status::Up;
                }
                let child = child.name.clone();
                self.tell(match restarts {
                    0 => SupervisorEvent::Started { child },
                    restarts => SupervisorEvent::Restarted { child, restarts },
                });
            }
            Report::Fell(exit) => match child.status {
                Status::Halting => {
                    child.ask();
                    if let Some(timer) = child.timer.take() {
                        cx.cancel(timer);
                    }
                    child.status = Status::Down;
                }
                // It fell before it heard that it was to end, and nothing that it was told reaches it now but this.
                Status::Ending => child.seated.cell().order(Order::LetGo),
                Status::Up | Status::Starting => self.has_failed(at, exit, cx),
                Status::Down | Status::Delayed => {}
            },
        }
        self.go_on(cx);
    }

    /// A child has fallen by itself.
    fn has_failed(&mut self, at: usize, exit: Exit, cx: &mut Cx<'_, Self>) {
        let now = cx.now();
        let plan = &self.spec.plan;
        let child = &mut self.children[at];
        child.status = Status::Down;
        if self.ending.is_some() {
            return;
        }
        let up = child.up_since.map(|at| now.saturating_duration_since(at));
        if up.is_some_and(|up| up >= plan.backoff.longest()) {
            child.failures = 0;
        }
        let delay = plan.backoff.delay(child.failures, &self.runtime.world);
        child.failures = child.failures.saturating_add(1);
        let (id, name) = (child.id, child.name.clone());
        if !self.window.admit(now) {
            self.give_up(name, exit, cx);
            return;
        }
        self.tell(SupervisorEvent::Fell {
            child: name,
            exit,
            delay,
        });
        let first = match self.spec.plan.strategy {
            Strategy::OneForOne => {
                let timer = cx.after_with(delay, move |keeper, cx| {
                    if let Some(at) = keeper.find(id)
                        && keeper.children[at].status == Status::Delayed
                    {
                        keeper.children[at].timer = None;
                        keeper.children[at].status = Status::Down;
                        keeper.go_on(cx);
                    }
                });
                self.children[at].status = Status::Delayed;
                self.children[at].timer = Some(timer);
                return;
            }
            Strategy::OneForAll => 0,
            Strategy::RestForOne => at,
        };
        // It may be one that is restarted together with others right now: then it goes on from the first of all, after the
        // latest delay.
        let before = self.group.take();
        if let Some(timer) = before.as_ref().and_then(|group| group.delay) {
            cx.cancel(timer);
        }
        let timer = cx.after_with(delay, |keeper, cx| {
            if let Some(group) = &mut keeper.group {
                group.delay = None;
            }
            keeper.go_on(cx);
        });
        self.group = Some(Group {
            first: before.map_or(first, |group| group.first.min(first)),
            delay: Some(timer),
        });
    }

    fn give_up(&mut self, child: Name, exit: Exit, cx: &Cx<'_, Self>) {
        let restarts = self.window.count();
        let cause = Exit::GaveUp {
            child: child.clone(),
            restarts,
            exit: Arc::new(exit.clone()),
        };
        hook::gave_up(cx.name(), &cause);
        self.tell(SupervisorEvent::GaveUp {
            child,
            exit,
            restarts,
        });
        self.ending = Some(Ending::GaveUp(cause));
    }

    /// A child has ended for good.
    fn has_ended(&mut self, id: ProcessorId, exit: Exit, cx: &mut Cx<'_, Self>) {
        let Some(at) = self.find(id) else {
            return;
        };
        let child = self.let_go(at, cx);
        self.tell(SupervisorEvent::Ended { child, exit });
        self.go_on(cx);
    }

    /// It is a child no longer.
    fn let_go(&mut self, at: usize, cx: &mut Cx<'_, Self>) -> Name {
        let child = self.children.remove(at);
        if let Some(timer) = child.timer {
            cx.cancel(timer);
        }
        if let Some(group) = &mut self.group
            && group.first > at
        {
            group.first -= 1;
        }
        self.spec.shared.forget(child.id);
        child.name
    }

    /// Ends its children, and then itself.
    pub(crate) fn wind_up(&mut self, cx: &mut Cx<'_, Self>) {
        let afresh = self.spec.plan.when_giving_up == WhenGivingUp::StartAfresh;
        match &self.ending {
            None => self.ending = Some(Ending::Asked),
            // It will not start afresh.
            Some(Ending::GaveUp(_)) if afresh => self.ending = Some(Ending::Asked),
            Some(Ending::Over) if afresh => cx.stop(),
            Some(_) => return,
        }
        self.go_on(cx);
    }

    /// Does what is next.
    fn go_on(&mut self, cx: &mut Cx<'_, Self>) {
        if self.ending.is_some() {
            // Those that are down have nothing to stop, and others may wait for room at them.
            for at in 0..self.children.len() {
                if matches!(self.children[at].status, Status::Down | Status::Delayed) {
                    self.end_child(at, cx);
                }
            }
            match self.children.len() {
                0 => self.finish(cx),
                len if self.children.iter().all(|c| c.status != Status::Ending) => {
                    self.end_child(len - 1, cx);
                }
                _ => {}
            }
            return;
        }
        if let Some(group) = &self.group {
            let (first, delayed) = (group.first, group.delay.is_some());
            if self.halt_from(first, cx) || delayed {
                return;
            }
            self.group = None;
        }
        self.begin_next();
    }

    /// Halts those from `first` on, the last first. False if none is up.
    fn halt_from(&mut self, first: usize, cx: &mut Cx<'_, Self>) -> bool {
        let mut any = false;
        for at in (first..self.children.len()).rev() {
            let child = &mut self.children[at];
            match child.status {
                Status::Down | Status::Delayed if child.restart == Restart::Temporary => {
                    // It was to begin, and ends with the others.
                    self.end_child(at, cx);
                    return true;
                }
                Status::Down | Status::Delayed => {}
                Status::Starting | Status::Up if child.restart == Restart::Temporary => {
                    self.end_child(at, cx);
                    return true;
                }
                Status::Starting | Status::Up => {
                    child.status = Status::Halting;
                    let wanted = child.ask();
                    child.seated.halt(&wanted);
                    self.limit_stop(at, cx);
                    return true;
                }
                // Those that are cut short already are waited for while the next one is halted.
                Status::Halting | Status::Ending if child.timer.is_some() => return true,
                Status::Halting | Status::Ending => any = true,
            }
        }
        any
    }

    /// Begins what is to begin, and whose turn it is: a child begins when all before it are up. Where each is restarted for
    /// itself, one that was up before has no turn to wait for, and nobody waits for it.
    fn begin_next(&mut self) {
        let one_for_one = self.spec.plan.strategy == Strategy::OneForOne;
        let mut turn = true;
        for child in &mut self.children {
            let alone = one_for_one && child.up_since.is_some();
            if child.status == Status::Down && (turn || alone) {
                child.status = Status::Starting;
                child.seated.cell().order(Order::Begin);
            }
            turn &= alone || child.status == Status::Up;
        }
    }

    fn end_child(&mut self, at: usize, cx: &mut Cx<'_, Self>) {
        let child = &mut self.children[at];
        let is_down = matches!(child.status, Status::Down | Status::Delayed);
        child.status = Status::Ending;
        let wanted = child.ask();
        if is_down {
            child.seated.cell().order(Order::LetGo);
        } else {
            child.seated.stop(&wanted);
        }
        self.limit_stop(at, cx);
    }

    /// The child has so much time to stop.
    fn limit_stop(&mut self, at: usize, cx: &mut Cx<'_, Self>) {
        let child = &mut self.children[at];
        let id = child.id;
        if let Some(before) = child.timer.take() {
            cx.cancel(before);
        }
        let timer = cx.after_with(child.stop_limit, move |keeper, cx| {
            if let Some(at) = keeper.find(id) {
                keeper.takes_too_long(at, cx);
            }
        });
        self.children[at].timer = Some(timer);
    }

    fn takes_too_long(&mut self, at: usize, cx: &mut Cx<'_, Self>) {
        let child = &mut self.children[at];
        child.timer = None;
        match child.status {
            // It is to be restarted, so it is waited for however long its handler takes.
            Status::Halting => child.seated.cell().order(Order::HaltNow),
            Status::Ending => {
                child.kill();
                self.let_go(at, cx);
            }
            _ => return,
        }
        self.go_on(cx);
    }

    /// All children have ended.
    fn finish(&mut self, cx: &mut Cx<'_, Self>) {
        match self.ending.replace(Ending::Over) {
            Some(Ending::Asked) => cx.stop(),
            Some(Ending::GaveUp(exit)) => match self.spec.plan.when_giving_up {
                WhenGivingUp::End => cx.cell().end_with(exit),
                WhenGivingUp::EndNode => {
                    cx.runtime().request_shutdown();
                    cx.cell().end_with(exit);
                }
                WhenGivingUp::StartAfresh => {
                    let delay = self.spec.plan.backoff.longest();
                    cx.after_with(delay, |keeper, cx| {
                        if let Err(error) = keeper.start_afresh(cx) {
                            cx.cell().end_with(Exit::Faulted(Fault::from(error)));
                        }
                    });
                }
            },
            Some(Ending::Over) | None => {}
        }
    }

    fn start_afresh(&mut self, cx: &mut Cx<'_, Self>) -> Result<(), SpawnError> {
        self.children = seat_all(&self.spec, &self.runtime)?;
        self.window.clear();
        self.group = None;
        self.ending = None;
        self.begin(cx);
        Ok(())
    }

    fn begin(&mut self, cx: &mut Cx<'_, Self>) {
        for child in &self.children {
            self.adopt(child, cx);
        }
        self.go_on(cx);
    }
}

impl Processor for Keeper {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.begin(cx);
        Ok(())
    }
}

/// However it ends, it leaves no children behind. When the node ends, that ends them, in order.
impl Drop for Keeper {
    fn drop(&mut self) {
        for child in &self.children {
            self.spec.shared.forget(child.id);
            if !self.runtime.is_ending() {
                child.kill();
            }
        }
    }
}
