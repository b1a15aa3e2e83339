//! What the calling thread is doing: which driver it serves, and whose handler it is in.
//!
//! `send` and `publish` take no context argument, yet behave differently inside a handler: they must not block a driver
//! that others share. This is where they find out.

use crate::cell::CellRef;
use crate::error::Fault;
use crate::id::{DriverId, ProcessorId};
use crate::outbox::Outbox;
use crate::sync::thread_local;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// The handler that the thread is in.
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
}

struct Current {
    driver: Cell<Option<DriverId>>,
    /// Cells of that driver that became ready on this thread: no lock is needed to queue them.
    ready: RefCell<VecDeque<CellRef>>,
    handling: RefCell<Option<Handling>>,
    /// Drivers that only this thread can run, because it made a script: waiting here for what they must do never ends.
    scripts: RefCell<Vec<(DriverId, VecDeque<CellRef>)>>,
}

thread_local! {
    static CURRENT: Current = Current {
        driver: Cell::new(None),
        ready: RefCell::new(VecDeque::new()),
        handling: RefCell::new(None),
        scripts: RefCell::new(Vec::new()),
    };
}

/// Which driver the thread serves, if it does.
#[inline]
pub(crate) fn driver() -> Option<DriverId> {
    CURRENT.with(|c| c.driver.get())
}

/// Says which driver the thread serves from now on. Returns the one before.
pub(crate) fn set_driver(driver: Option<DriverId>) -> Option<DriverId> {
    CURRENT.with(|c| c.driver.replace(driver))
}

/// Queues a cell if the thread serves its driver; else gives it back.
#[inline]
pub(crate) fn push_ready(driver: DriverId, cell: CellRef) -> Result<(), CellRef> {
    CURRENT.with(|c| {
        if c.driver.get() != Some(driver) {
            return Err(cell);
        }
        c.ready.borrow_mut().push_back(cell);
        Ok(())
    })
}

#[inline]
pub(crate) fn pop_ready() -> Option<CellRef> {
    CURRENT.with(|c| c.ready.borrow_mut().pop_front())
}

pub(crate) fn push_back_ready(cell: CellRef) {
    CURRENT.with(|c| c.ready.borrow_mut().push_back(cell));
}

/// Takes the cell at `index` out of turn.
pub(crate) fn take_ready(
    choose: impl FnOnce(&VecDeque<CellRef>) -> Option<usize>,
) -> Option<CellRef> {
    CURRENT.with(|c| {
        let mut ready = c.ready.borrow_mut();
        let index = choose(&ready)?;
        ready.remove(index)
    })
}

/// Enters a handler of `id`.
#[inline]
pub(crate) fn enter(handling: Handling) {
    CURRENT.with(|c| {
        let before = c.handling.borrow_mut().replace(handling);
        debug_assert!(before.is_none(), "a handler was entered inside a handler");
    });
}

/// Leaves the handler.
#[inline]
pub(crate) fn leave() -> Option<Handling> {
    CURRENT.with(|c| c.handling.borrow_mut().take())
}

/// Gives access to the handler that the thread is in, if it is in one.
#[inline]
pub(crate) fn with_handling<R>(f: impl FnOnce(Option<&mut Handling>) -> R) -> R {
    CURRENT.with(|c| f(c.handling.borrow_mut().as_mut()))
}

/// In whose handler the thread is.
pub(crate) fn handler() -> Option<ProcessorId> {
    with_handling(|h| h.map(|h| h.id))
}

/// Says that the thread has made a script, whose driver nobody else can run.
pub(crate) fn add_script(driver: DriverId) {
    CURRENT.with(|c| c.scripts.borrow_mut().push((driver, VecDeque::new())));
}

pub(crate) fn remove_script(driver: DriverId) {
    CURRENT.with(|c| c.scripts.borrow_mut().retain(|(d, _)| *d != driver));
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

/// True if only this thread can run what `driver` runs, and it does not while it waits here.
pub(crate) fn only_here(target: DriverId) -> bool {
    CURRENT.with(|c| {
        c.driver.get() == Some(target) || c.scripts.borrow().iter().any(|(d, _)| *d == target)
    })
}
