//! Who waits for whom. Finds circles: those of calls are refused, those with a stall in them are set going again.
//!
//! Two things wait, and they are kept apart:
//!
//! - A *thread* that blocks inside a handler holds up its whole [`Domain`]: every processor of its driver, or one cell of a
//!   pool. It waits for an answer ([`Owed::Answer`]) or for room ([`Owed::Room`]).
//! - A *stalled* processor waits for room for its outbox. It takes no messages, but its neighbours run.
//!
//! The edge of a call is its reply slot, which knows the processor that owes the answer: the target, from when the call
//! begins until its handler returns; whoever the message was forwarded to. It leads nowhere once the answer is there, and
//! when the reply was promised for later, because anybody may hold the token. What leads nowhere ends by its limit.
//!
//! # Circles of calls, and why none is a false alarm
//!
//! Before a thread blocks for an answer, it looks whether the chain of answers leads back to its own domain. If so, the
//! wait is refused, and the others of the circle go on. The look and the wait's entry into the table happen under one lock,
//! so of two waits that close a circle together the second sees the first. A chain is followed over a wait only if all
//! of this holds under the lock:
//!
//! 1. The wait is in the table, so its thread has not left it: it blocks, or is about to, or was woken and not yet gone on.
//! 2. Its slot is not answered. So the thread cannot go on either, but by its limit.
//! 3. The slot's owner is of a domain whose thread waits in the same way (or is the one that looks). An answer by the owner
//!    comes from its handler, its end, or its handing the message on, all of which that thread would have to do. A message
//!    that others could answer for it, because its mailbox may evict it, has no owner until it is handled.
//!
//! If the chain comes back, each thread in it waits for the next, and all of it is so at one moment: nobody in the
//! circle can be the first to go on, other than by a limit or by the end of the process. If an owner hands its debt on after it
//! was read, its thread does not wait, so it is not in the table, and cannot enter it while the lock is held.
//!
//! Every circle has a last edge: a wait that begins, or a message that is forwarded while its caller waits. It is looked
//! for at both.
//!
//! # Circles with a stall
//!
//! Stalled processors that wait for each other in a circle would wait for ever, and so would one that calls a processor
//! which is stalled because the caller's mailbox is full. One stalled member is allowed to handle a message although its
//! outbox is not empty: of those that have a message and whose thread does not block, the one with the smallest outbox, and
//! of equal ones the oldest. If there is none such, all of them may, and the first that can does. Handling a message frees a
//! place in its mailbox, or answers the call. Mailboxes stay within their bounds; only the outbox of who runs may grow, up to
//! its cap. A circle is looked for when an edge is added, when a thread that waits is woken in vain, and when a member that was
//! let run is stalled still.
//!
//! Nothing is refused for want of room: a place may come back from anybody who holds a permit. What is not seen ends by its
//! limit: waits over two nodes, and waits that block for something else than an answer or room (a flush, a driver's shutdown).

mod graph;
mod seen;

use self::graph::{Node, Stall, Table, Wait, Who};
use crate::cell::{AnyCell, CellRef};
use crate::current;
use crate::driver::DriverCore;
use crate::id::{DriverId, ProcessorId};
use crate::mailbox::Signals;
use crate::name::Name;
use crate::runtime::RuntimeCore;
use std::fmt;
use std::sync::Arc;

// Touched only when a processor stalls or a thread is about to sleep inside a handler. Lock order: this, then a reply slot or
// a mailbox. Not loom's: what it guards is a plain map, and a model's own objects may not live in a static.
use parking_lot::{Mutex, MutexGuard};

static TABLE: Mutex<Table> = Mutex::new(Table::new());

#[cfg(not(shuttle))]
fn table() -> MutexGuard<'static, Table> {
    TABLE.lock()
}

/// Threads that take turns on one thread of the system must not block it.
#[cfg(shuttle)]
fn table() -> MutexGuard<'static, Table> {
    loop {
        if let Some(table) = TABLE.try_lock() {
            return table;
        }
        crate::sync::yield_now();
    }
}

/// What is never entered twice at once, and so waits as one while a handler blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Domain {
    /// All processors of a driver that is one thread.
    Driver(DriverId),
    /// One processor of a pool: any thread of the pool runs the others.
    Cell(ProcessorId),
}

impl Domain {
    /// Where a processor of `driver` belongs.
    #[inline]
    pub(crate) fn of(driver: &DriverCore, processor: ProcessorId) -> Self {
        if driver.is_pool() {
            Self::Cell(processor)
        } else {
            Self::Driver(driver.id())
        }
    }
}

/// A processor that would have to run so that a wait can end. For those who build on the runtime.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Keeper {
    pub(crate) id: ProcessorId,
    pub(crate) domain: Domain,
}

impl Keeper {
    pub(crate) fn of(cell: &dyn AnyCell) -> Self {
        Self {
            id: cell.id(),
            domain: Domain::of(cell.driver(), cell.id()),
        }
    }

    /// Which processor it is.
    pub fn processor(&self) -> ProcessorId {
        self.id
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keeper({})", self.id)
    }
}

/// Who owes an answer. Only its own domain's thread can give it.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// `None` if the driver itself owes it.
    pub(crate) processor: Option<ProcessorId>,
    pub(crate) domain: Domain,
    pub(crate) name: Name,
}

impl Owner {
    pub(crate) fn of(cell: &dyn AnyCell) -> Self {
        Self {
            processor: Some(cell.id()),
            domain: Domain::of(cell.driver(), cell.id()),
            name: cell.name().clone(),
        }
    }

    pub(crate) fn driver(driver: &DriverCore) -> Self {
        Self {
            processor: None,
            domain: Domain::Driver(driver.id()),
            name: driver.name().clone(),
        }
    }
}

/// An answer that somebody waits for: an edge.
pub(crate) trait Answer: Send + Sync {
    /// It has come, or will not come any more.
    fn is_there(&self) -> bool;

    /// Who owes it; `None` if that cannot be seen.
    fn owner(&self) -> Option<Owner>;

    /// A thread is about to block for it. From now on, whoever hands the debt on calls [`handed_on`].
    fn will_be_waited_for(&self) {}
}

/// What would end a wait that blocks. For those who build on the runtime: an operation that wraps another passes on the other's.
pub struct Debt(pub(crate) Owed);

pub(crate) enum Owed {
    /// The answer, which only its owner can give.
    Answer(Arc<dyn Answer>),
    /// Room at these. Others may give a place back, too.
    Room(Vec<Keeper>),
}

impl fmt::Debug for Debt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Owed::Answer(_) => "Debt(answer)",
            Owed::Room(_) => "Debt(room)",
        })
    }
}

/// A wait that stands in the table until this is dropped.
#[derive(Debug)]
pub(crate) struct Shown(u64);

impl Shown {
    /// The thread was woken and will sleep again. What it has sent may have reached a stalled processor meanwhile, which was
    /// not let run before because it had no message.
    pub(crate) fn look_again(&self) {
        let may_run = table().who_may_run(Node::Wait(self.0));
        let_run(may_run);
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // What it holds is dropped after the lock is released.
        let _wait = table().remove_wait(self.0);
    }
}

/// The calling thread is about to block for `owed`. `None` outside of handlers: nobody waits for a thread of the program's
/// own, unless it has scripts.
///
/// # Errors
///
/// If that would close a circle of calls: the names in it, beginning with the one that would wait.
pub(crate) fn show(owed: Owed, runtime: &RuntimeCore) -> Result<Option<Shown>, Vec<Name>> {
    let domains = current::domains();
    if domains.is_empty() {
        return Ok(None);
    }
    let wait = Wait {
        who: who_is_here(runtime),
        domains,
        owed,
    };
    let (number, may_run, _stall) = {
        let mut table = table();
        // One that was let run is still noted as stalled, for what its outbox waited for then. While its handler blocks, its
        // outbox is with the thread, and what that waits for is shown as such; after the handler it is noted afresh.
        let stall = current::handler().and_then(|id| table.stalls.remove(&id));
        if let Owed::Answer(answer) = &wait.owed {
            answer.will_be_waited_for();
            if let Some(names) = table.circle_of_calls(&wait) {
                return Err(names);
            }
        }
        let number = table.add_wait(wait);
        (number, table.who_may_run(Node::Wait(number)), stall)
    };
    let shown = Shown(number);
    let_run(may_run);
    Ok(Some(shown))
}

/// The debt of `answer` has gone over to another owner, while a thread waits for it. If that closes a circle of calls,
/// returns the names in it, beginning with the one that waits.
pub(crate) fn handed_on(answer: *const ()) -> Option<Vec<Name>> {
    let may_run = {
        let mut table = table();
        let number = table.waits_for(answer)?;
        if let Some(names) = table.circle_through(number) {
            return Some(names);
        }
        table.who_may_run(Node::Wait(number))
    };
    let_run(may_run);
    None
}

/// Notes that `cell` waits for room at each of `blocked_on`. If that closes a circle, returns the members that may run and have
/// not been told so; `has_leave` if `cell` has.
pub(crate) fn stalled(
    cell: CellRef,
    blocked_on: Vec<Keeper>,
    outbox_len: usize,
    has_leave: bool,
) -> Vec<CellRef> {
    let me = Keeper::of(&*cell);
    let stall = Stall {
        domain: me.domain,
        blocked_on,
        outbox_len,
        has_leave,
        cell: Some(cell),
    };
    let mut table = table();
    let before = table.stalls.insert(me.id, stall);
    let may_run = table.who_may_run(Node::Stall(me.id));
    // In this order: what is dropped is dropped with no lock held.
    drop(table);
    drop(before);
    may_run
}

/// Part of what `id` is stalled for was delivered by its neighbour's thread: an edge that is there no longer must not hide
/// another circle.
pub(crate) fn still_blocked_on(id: ProcessorId, blocked_on: Vec<Keeper>) {
    let may_run = {
        let mut table = table();
        match table.stalls.get_mut(&id) {
            Some(stall) if stall.blocked_on != blocked_on => stall.blocked_on = blocked_on,
            _ => return,
        }
        table.who_may_run_beside(id)
    };
    let_run(may_run);
}

/// The stalled processors of these domains but `except`. The calling thread is the one that runs them.
pub(crate) fn stalled_in(domains: &[Domain], except: Option<ProcessorId>) -> Vec<CellRef> {
    if domains.is_empty() {
        return Vec::new();
    }
    let table = table();
    let stalls = table.stalls.iter();
    stalls
        .filter(|(id, stall)| Some(**id) != except && domains.contains(&stall.domain))
        .filter_map(|(_, stall)| stall.cell.clone())
        .collect()
}

/// `id` is stalled no longer.
pub(crate) fn cleared(id: ProcessorId) {
    // The cell is dropped after the lock is released: it may be the last reference to it.
    let _stall = table().stalls.remove(&id);
}

fn let_run(members: Vec<CellRef>) {
    for member in members {
        member.signal(Signals::PASS);
    }
}

/// What the calling thread is called in a circle: by the processor whose handler it is in, else by its driver.
fn who_is_here(runtime: &RuntimeCore) -> Who {
    let driver = current::driver().or_else(|| current::scripts().first().copied());
    let driver = driver.and_then(|id| runtime.driver_of(id));
    match (driver, current::handler()) {
        (Some(driver), Some(id)) => Who::Member(driver, id),
        (Some(driver), None) => Who::Named(driver.name().clone()),
        (None, _) => match Name::new("(a processor of another node)") {
            Ok(name) => Who::Named(name),
            Err(_) => unreachable!("it has no control characters and is short"),
        },
    }
}

/// As text.
pub(crate) fn name_here(runtime: &RuntimeCore) -> Name {
    who_is_here(runtime).name()
}
