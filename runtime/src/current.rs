//! What the calling thread is doing: which driver it serves, and whose handler it is in.
//!
//! `send` and `publish` take no context argument, yet behave differently inside a handler: they must not block a driver
//! that others share. This is where they find out.

use crate::driver::{DriverCore, ReadyCells};
use crate::error::Fault;
use crate::id::{DriverId, ProcessorId};
use crate::outbox::{Outbox, OutboxKey};
use crate::sync::thread_local;
use crate::waits_for::Domain;
use std::cell::{Cell, RefCell};
use std::sync::Arc;

/// The handler that the thread is in, as far as it is needed when something does not go the common way.
#[derive(Debug)]
pub(crate) struct Handling {
    pub(crate) id: ProcessorId,
    /// The driver serves this processor alone, so that waiting holds up nobody else.
    pub(crate) may_block: bool,
    pub(crate) outbox: Outbox,
    /// Given up while the handler ran, for `on_error` after it.
    pub(crate) faults: Vec<Fault>,
    /// Entries given up while the handler waited.
    pub(crate) given_up: u64,
}

impl Handling {
    /// Puts an outbox back that was taken out for a flush. What the flush itself sent meanwhile (a message's drop is the
    /// user's code, and may send) comes behind; true if there is any.
    pub(crate) fn put_back(&mut self, outbox: Outbox) -> bool {
        let later = std::mem::replace(&mut self.outbox, outbox);
        let any = !later.is_empty();
        self.outbox.append(later);
        any
    }

    fn is_clean(&self) -> bool {
        self.outbox.is_empty() && self.faults.is_empty() && self.given_up == 0
    }
}

/// What every message reads. These words need no destructor, so that reading them is one instruction.
struct Words {
    driver: Cell<Option<DriverId>>,
    handler: Cell<Option<ProcessorId>>,
    /// What waits as one while that handler blocks.
    domain: Cell<Option<Domain>>,
    /// `Handling::may_block` of that handler.
    may_block: Cell<bool>,
    /// There is something in `Kept::handling`.
    unsettled: Cell<bool>,
    /// When the thread last read the clock between two handlers, in cycles; 0: it has done something else since.
    clock: Cell<u64>,
    /// See [`delivered`].
    delivered: Cell<u64>,
}

/// What is kept for the thread behind the words.
struct Kept {
    /// Cells of its driver that became ready on this thread: no lock is needed to queue them.
    ready: RefCell<ReadyCells>,
    /// Absent as long as the handler's sends find room.
    handling: RefCell<Option<Handling>>,
    /// Drivers that only this thread can run, because it made a script: waiting here for what they must do never ends.
    scripts: RefCell<Vec<(DriverId, ReadyCells)>>,
    /// Drivers of scripts that were dropped inside a handler: they end after it.
    orphans: RefCell<Vec<Arc<DriverCore>>>,
}

const fn words() -> Words {
    Words {
        driver: Cell::new(None),
        handler: Cell::new(None),
        domain: Cell::new(None),
        may_block: Cell::new(false),
        unsettled: Cell::new(false),
        clock: Cell::new(0),
        delivered: Cell::new(0),
    }
}

const fn kept() -> Kept {
    Kept {
        ready: RefCell::new(ReadyCells::new()),
        handling: RefCell::new(None),
        scripts: RefCell::new(Vec::new()),
        orphans: RefCell::new(Vec::new()),
    }
}

#[cfg(not(any(loom, shuttle)))]
thread_local! {
    static WORDS: Words = const { words() };
    static CURRENT: Kept = const { kept() };
}

#[cfg(any(loom, shuttle))]
thread_local! {
    static WORDS: Words = words();
    static CURRENT: Kept = kept();
}

/// Which driver the thread serves, if it does.
#[inline]
pub(crate) fn driver() -> Option<DriverId> {
    WORDS.with(|w| w.driver.get())
}

/// Says which driver the thread serves from now on. Returns the one before.
pub(crate) fn set_driver(driver: Option<DriverId>) -> Option<DriverId> {
    WORDS.with(|w| w.driver.replace(driver))
}

/// Gives access to the ready cells of the driver that the thread serves.
#[inline]
pub(crate) fn ready<R>(f: impl FnOnce(&mut ReadyCells) -> R) -> R {
    CURRENT.with(|c| f(&mut c.ready.borrow_mut()))
}

/// Handlers of `id` run on this thread from now on. `outbox` is what it could not deliver before; it is with the thread
/// until [`leave`].
#[inline]
pub(crate) fn enter(id: ProcessorId, domain: Domain, may_block: bool, outbox: &mut Outbox) {
    WORDS.with(|w| {
        let before = w.handler.replace(Some(id));
        debug_assert!(before.is_none(), "a handler was entered inside a handler");
        w.domain.set(Some(domain));
        w.may_block.set(may_block);
    });
    if !outbox.is_empty() {
        with_handling(|h| {
            if let Some(h) = h {
                h.outbox = std::mem::take(outbox);
            }
        });
    }
}

/// Leaves the handler: its outbox goes back to where it was. Returns how many entries were given up meanwhile.
#[inline]
pub(crate) fn leave(outbox: &mut Outbox) -> u64 {
    let unsettled = WORDS.with(|w| {
        w.handler.set(None);
        w.domain.set(None);
        w.unsettled.replace(false)
    });
    if unsettled {
        CURRENT.with(|c| match c.handling.borrow_mut().take() {
            Some(handling) => {
                *outbox = handling.outbox;
                handling.given_up
            }
            None => 0,
        })
    } else {
        0
    }
}

/// Leaves the handler, if the thread is in one, because a panic has left it half way.
pub(crate) fn abandon() {
    let mut outbox = Outbox::default();
    let _given_up = leave(&mut outbox);
    outbox.abandon(crate::dead_letters::DropCause::SenderEnded);
}

/// True if the handler that the thread is in has left something to be settled: sends without room, or faults.
#[inline]
pub(crate) fn is_unsettled() -> bool {
    WORDS.with(|w| w.unsettled.get())
}

/// True if the handler that the thread is in has something under `key` in its outbox: what comes later must stand behind.
#[inline]
pub(crate) fn outbox_holds(key: OutboxKey) -> bool {
    is_unsettled() && handling_holds(key)
}

#[inline(never)]
fn handling_holds(key: OutboxKey) -> bool {
    with_handling(|h| h.is_some_and(|h| h.outbox.holds(key)))
}

/// Gives access to the handler that the thread is in, if it is in one.
pub(crate) fn with_handling<R>(f: impl FnOnce(Option<&mut Handling>) -> R) -> R {
    let Some(id) = handler() else {
        return f(None);
    };
    CURRENT.with(|c| {
        let mut handling = c.handling.borrow_mut();
        let handling = handling.get_or_insert_with(|| Handling {
            id,
            may_block: WORDS.with(|w| w.may_block.get()),
            outbox: Outbox::default(),
            faults: Vec::new(),
            given_up: 0,
        });
        (handling.id, handling.may_block) = (id, WORDS.with(|w| w.may_block.get()));
        let result = f(Some(handling));
        WORDS.with(|w| w.unsettled.set(!handling.is_clean()));
        result
    })
}

/// In whose handler the thread is.
#[inline]
pub(crate) fn handler() -> Option<ProcessorId> {
    WORDS.with(|w| w.handler.get())
}

/// When the last handler on this thread returned, in cycles, if the thread has done nothing else since.
#[inline]
pub(crate) fn clock() -> Option<u64> {
    WORDS.with(|w| Some(w.clock.get()).filter(|at| *at != 0))
}

#[inline]
pub(crate) fn set_clock(cycles: u64) {
    WORDS.with(|w| w.clock.set(cycles));
}

/// The thread goes on to something else.
pub(crate) fn forget_clock() {
    set_clock(0);
}

/// Says that the thread has made a script, whose driver nobody else can run.
pub(crate) fn add_script(driver: DriverId) {
    CURRENT.with(|c| c.scripts.borrow_mut().push((driver, ReadyCells::new())));
}

pub(crate) fn remove_script(driver: DriverId) {
    let _removed = CURRENT.with(|c| {
        let mut scripts = c.scripts.borrow_mut();
        let at = scripts.iter().position(|(d, _)| *d == driver)?;
        Some(scripts.swap_remove(at))
    });
}

/// True inside a handler, callback or other code that a driver runs on this thread.
pub(crate) fn is_inside() -> bool {
    driver().is_some() || handler().is_some()
}

/// The script is gone while the thread is inside a handler: its driver ends after that.
pub(crate) fn add_orphan(driver: Arc<DriverCore>) {
    CURRENT.with(|c| c.orphans.borrow_mut().push(driver));
}

/// An orphan that can be ended now.
pub(crate) fn take_orphan() -> Option<Arc<DriverCore>> {
    CURRENT.with(|c| c.orphans.borrow_mut().pop())
}

/// True if a cell of that script, which the thread has made, is ready and has something to do. Inside of its handlers: if
/// one is ready.
pub(crate) fn has_work(script: DriverId) -> bool {
    if driver() == Some(script) {
        return ready(|ready| ready.len() > 0);
    }
    CURRENT.with(|c| {
        let scripts = c.scripts.borrow();
        let found = scripts.iter().find(|(d, _)| *d == script);
        found.is_some_and(|(_, ready)| ready.has_work())
    })
}

/// A message that found no room has been delivered by this thread.
pub(crate) fn count_delivered() {
    WORDS.with(|w| w.delivered.set(w.delivered.get() + 1));
}

/// How many messages that had found no room this thread has delivered so far.
pub(crate) fn delivered() -> u64 {
    WORDS.with(|w| w.delivered.get())
}

/// The drivers of the scripts that the thread has made.
pub(crate) fn scripts() -> Vec<DriverId> {
    CURRENT.with(|c| c.scripts.borrow().iter().map(|(d, _)| *d).collect())
}

/// Serves a script's driver until the guard is dropped.
pub(crate) fn serve_script(driver: DriverId) -> ServesScript {
    swap_ready(driver);
    ServesScript {
        driver,
        before: set_driver(Some(driver)),
    }
}

/// See [`serve_script`].
#[derive(Debug)]
pub(crate) struct ServesScript {
    driver: DriverId,
    before: Option<DriverId>,
}

impl Drop for ServesScript {
    fn drop(&mut self) {
        set_driver(self.before);
        swap_ready(self.driver);
    }
}

/// A thread may have several scripts: each keeps its own ready cells while it is not served.
fn swap_ready(driver: DriverId) {
    CURRENT.with(|c| {
        let mut scripts = c.scripts.borrow_mut();
        if let Some((_, kept)) = scripts.iter_mut().find(|(d, _)| *d == driver) {
            std::mem::swap(kept, &mut c.ready.borrow_mut());
        }
    });
}

/// True if there is anything that cannot run while this thread blocks here.
pub(crate) fn holds_up_others() -> bool {
    is_inside() || CURRENT.with(|c| !c.scripts.borrow().is_empty())
}

/// What cannot run while this thread blocks here. Nothing on a thread of the program's own that has no scripts.
pub(crate) fn domains() -> Vec<Domain> {
    let handler = WORDS.with(|w| w.domain.get());
    let mut domains: Vec<_> = handler
        .or_else(|| driver().map(Domain::Driver))
        .into_iter()
        .collect();
    for script in scripts().into_iter().map(Domain::Driver) {
        if !domains.contains(&script) {
            domains.push(script);
        }
    }
    domains
}

/// True if only this thread can run what `driver` runs, and it does not while it waits here. Not so on a pool's thread: its other
/// threads go on.
pub(crate) fn only_here(target: DriverId) -> bool {
    if crate::driver::works_for(target) {
        return false;
    }
    CURRENT
        .with(|c| driver() == Some(target) || c.scripts.borrow().iter().any(|(d, _)| *d == target))
}
