//! Blocking a thread for something that is no [`Pending`](crate::Pending): a flush, a driver's end, a partner that is to
//! come.
//!
//! Inside a handler the order matters: what the handler has sent is delivered first, because whoever ends the wait may
//! need it. While that itself waits for room, the edge shows in `waits_for`.

use crate::current;
use crate::driver::about_to_block;
use crate::error::ErrorKind;
use crate::id::DriverId;
use crate::interrupt::WatchesInterrupts;
use crate::neighbours::Neighbours;
use crate::pending::deliver_outbox;
use crate::runtime::{Runtime, RuntimeCore};
use std::task::Waker;
use std::time::Instant;

impl RuntimeCore {
    /// Waits on this thread until `look` returns something; `None` if the deadline passed first. `look` has `waker` woken
    /// when it is worth looking again, and is asked at least once, whatever the deadline.
    pub(crate) fn block_until<T>(
        &self,
        deadline: Option<Instant>,
        look: impl FnMut(&Waker) -> Option<T>,
    ) -> Option<T> {
        self.block_until_watching(deadline, None, look).ok()
    }

    /// As [`block_until`](Self::block_until), and an interrupt that `interrupts` sees ends it. Why it ended otherwise.
    pub(crate) fn block_until_watching<T>(
        &self,
        deadline: Option<Instant>,
        interrupts: Option<&WatchesInterrupts<'_>>,
        mut look: impl FnMut(&Waker) -> Option<T>,
    ) -> Result<T, ErrorKind> {
        let waker = self.world.waker();
        let mut blocks = None;
        let mut neighbours = None;
        loop {
            if let Some(found) = look(&waker) {
                return Ok(found);
            }
            if current::is_unsettled() {
                deliver_outbox(self, deadline);
                if let Some(found) = look(&waker) {
                    return Ok(found);
                }
            }
            if deadline.is_some_and(|d| self.world.now() >= d) {
                return Err(ErrorKind::Timeout);
            }
            if interrupts.is_some_and(WatchesInterrupts::was_interrupted) {
                return Err(ErrorKind::Interrupted);
            }
            neighbours
                .get_or_insert_with(Neighbours::of_this_thread)
                .deliver(&waker);
            blocks.get_or_insert_with(about_to_block);
            self.world.park(deadline);
        }
    }

    /// Delivers what the handler that this thread is in has sent, as far as it finds room before the deadline.
    pub(crate) fn deliver_what_was_sent(&self, deadline: Option<Instant>) {
        if current::is_unsettled() {
            deliver_outbox(self, deadline);
        }
    }
}

impl Runtime {
    /// Blocks the calling thread until `look` returns something; `None` if `deadline` passed first. `look` is asked at
    /// least once, and again whenever the waker that it is given was woken, perhaps more often. For layers whose
    /// operations block.
    ///
    /// Inside a handler, what the handler has sent is delivered before the thread sleeps.
    pub fn block_until<T>(
        &self,
        deadline: Option<Instant>,
        look: impl FnMut(&Waker) -> Option<T>,
    ) -> Option<T> {
        self.core().block_until(deadline, look)
    }

    /// As [`block_until`](Self::block_until), and an [interrupt](Self::interrupt) ends it too, on a thread that has a script.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`] if `deadline` passed first, [`ErrorKind::Interrupted`] after an interrupt.
    pub fn wait_until<T>(
        &self,
        deadline: Option<Instant>,
        look: impl FnMut(&Waker) -> Option<T>,
    ) -> Result<T, ErrorKind> {
        let core = self.core();
        let interrupts = WatchesInterrupts::of_script(core, &core.world.waker());
        core.block_until_watching(deadline, interrupts.as_ref(), look)
    }

    /// True if that driver is one of the calling thread's scripts: it runs what it runs only while the thread spins it.
    pub fn is_script_here(&self, driver: DriverId) -> bool {
        current::scripts().contains(&driver)
    }
}
