//! The end of a node, and who waits until all is quiet.
//!
//! # The end, in order
//!
//! 1. `ending` is set: nothing more is spawned, scripts stop spinning and help.
//! 2. All timers are cancelled, and sleeps end: nothing new begins inside.
//! 3. Everything that is queued is handled, with what it sends, until all is quiet.
//! 4. Every processor is drained and ended; drivers end when they have no members; threads are joined.
//! 5. At the limit, whoever is left is told to end as soon as its handler returns, and is reported.

use super::RuntimeCore;
use crate::current;
use crate::driver::Manual;
use crate::mailbox::Signals;
use crate::shutdown::{Left, ShutdownReport};
use crate::sync::{Relaxed, SeqCst, fence};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

/// While it lives, a thread is told when a driver becomes idle.
struct WatchesIdle<'a> {
    core: &'a RuntimeCore,
    number: u64,
}

impl Drop for WatchesIdle<'_> {
    fn drop(&mut self) {
        let mut idle = self.core.idle.lock();
        idle.retain(|(number, _)| *number != self.number);
        self.core.idle_watched.fetch_sub(1, Relaxed);
    }
}

impl RuntimeCore {
    /// Called by drivers that are about to sleep.
    ///
    /// A handshake of two sides that each store before they load: the driver's cells have become quiet, then it looks for
    /// watchers; whoever watches says so (`watch_idle`), then looks whether cells are quiet. Of the two fences one comes
    /// first, so either the driver sees the watcher or the watcher sees the quiet cells.
    pub(crate) fn a_driver_is_idle(&self) {
        fence(SeqCst);
        if self.idle_watched.load(Relaxed) == 0 {
            return;
        }
        let wakers: Vec<_> = self.idle.lock().iter().map(|(_, w)| w.clone()).collect();
        wakers.into_iter().for_each(Waker::wake);
    }

    /// A cheap look for drivers that look again and again, and so need not see it at once.
    pub(crate) fn is_idle_watched(&self) -> bool {
        self.idle_watched.load(Relaxed) > 0
    }

    /// From now on the calling thread is woken when a driver becomes idle.
    fn watch_idle(&self) -> WatchesIdle<'_> {
        let waker = self.world.waker();
        let number = {
            let mut idle = self.idle.lock();
            let number = idle.last().map_or(0, |(last, _)| last + 1);
            idle.push((number, waker));
            number
        };
        self.idle_watched.fetch_add(1, Relaxed);
        fence(SeqCst);
        WatchesIdle { core: self, number }
    }

    /// See [`Runtime::settle`]. Nothing is served meanwhile.
    pub(super) fn wait_until_quiet(&self, limit: Duration) {
        let deadline = self.world.now().checked_add(limit);
        let _watches = self.watch_idle();
        let mut from = 0;
        while !self.all_quiet(&mut from) {
            if deadline.is_some_and(|d| self.world.now() >= d) {
                return;
            }
            self.world.park(deadline);
        }
    }

    /// Tells the node to end, without waiting: scripts stop spinning and carry it out. If there is no script, a thread
    /// made for it does.
    pub(super) fn begin_end(self: &Arc<Self>, limit: Duration) {
        if self.ending.swap(true, SeqCst) {
            return;
        }
        let drivers = self.drivers();
        let mut scripts = drivers.iter().filter(|d| d.is_manual()).peekable();
        if scripts.peek().is_none() {
            let core = self.clone();
            let spawned = self.world.spawn("mproc end", move || {
                let _report = core.end(limit);
            });
            if spawned.is_err() {
                // Without a thread to lead the end, everybody is at least told to end.
                drivers.iter().for_each(|d| d.end_when_empty());
                self.cells()
                    .into_iter()
                    .for_each(|c| c.signal(Signals::DRAIN));
            }
        }
        scripts.for_each(|d| {
            d.ring();
            d.look_for_others();
        });
    }

    pub(crate) fn shutdown(self: &Arc<Self>, limit: Duration) -> ShutdownReport {
        if !self.is_here() {
            return ShutdownReport::default();
        }
        if current::handler().is_some() || current::driver().is_some() {
            self.begin_end(limit);
            return ShutdownReport {
                only_begun: true,
                ..ShutdownReport::default()
            };
        }
        self.ending.store(true, SeqCst);
        for driver in self.drivers().iter().filter(|d| d.is_manual()) {
            driver.ring();
            driver.look_for_others();
        }
        self.end(limit)
    }

    /// See the module's documentation.
    fn end(self: &Arc<Self>, limit: Duration) -> ShutdownReport {
        let before = self.world.now();
        let deadline = before.checked_add(limit);
        let report = |left| ShutdownReport {
            left,
            only_begun: false,
            took: self.world.now().saturating_duration_since(before),
        };
        if self.led.swap(true, SeqCst) {
            // Somebody else leads. This thread's scripts must still be served.
            let waker = self.world.waker();
            let over = self.wait_serving(deadline, None, || {
                // The leader waits for this thread's scripts, too, and nobody else says that they are idle.
                self.a_driver_is_idle();
                self.over.poll(&waker)
            });
            let left = if over { Vec::new() } else { self.left() };
            return report(left);
        }
        for cell in self.cells() {
            cell.signal(Signals::QUIET);
        }
        self.clocks.close();
        let watches = self.watch_idle();
        // Half of the time for what is queued and what it leads to. Whoever never becomes quiet (a handler that hangs, two
        // that talk for ever) must not take the other half from those who only need to be told to end.
        let half = before.checked_add(limit / 2);
        let mut quiet_before = None;
        let drivers = self.drivers();
        let mut from = 0;
        self.wait_serving(half, Some(&mut quiet_before), || self.all_quiet(&mut from));
        // Asked for again: one that was being made when the end began may have joined since.
        for driver in self.drivers() {
            driver.end_when_empty();
            driver.signal_all(Signals::DRAIN);
        }
        let all_ended = self.wait_serving(deadline, None, || self.drivers.lock().is_empty());
        let left = if all_ended { Vec::new() } else { self.left() };
        if all_ended {
            // Their threads have left their loops; the system must be done with them, too.
            for driver in drivers.iter().filter(|d| !d.is_manual()) {
                driver.wait_ended(deadline);
            }
        } else {
            for cell in self.cells() {
                cell.signal(Signals::KILL);
            }
        }
        drop(watches);
        self.unblocks.end(self, deadline);
        self.time_keeper.end();
        self.monitor.end();
        let _pool = self.default_pool.lock().take();
        // Before the extensions are taken: one that is made later sees that the node has ended.
        self.over.complete();
        // What layers above keep per node may refer to the node. Dropped after the lock is released.
        let _extensions = std::mem::take(&mut *self.extensions.lock());
        report(left)
    }

    fn left(&self) -> Vec<Left> {
        self.cells().iter().map(|cell| Left::of(&**cell)).collect()
    }

    /// Waits until `done`, serving the scripts of this thread meanwhile. False if the deadline passed first.
    ///
    /// With `seen`, `done` must hold twice with nothing having been received in between: one look at many processors is
    /// not one moment.
    fn wait_serving(
        &self,
        deadline: Option<Instant>,
        mut seen: Option<&mut Option<u64>>,
        mut done: impl FnMut() -> bool,
    ) -> bool {
        loop {
            let scripts = current::scripts();
            let mut busy = false;
            for driver in self.drivers() {
                if scripts.contains(&driver.id()) {
                    busy |= Manual::serve_ending(&driver);
                }
            }
            if done() {
                match &mut seen {
                    None => return true,
                    Some(seen) => {
                        let received = self.received();
                        if **seen == Some(received) {
                            return true;
                        }
                        **seen = Some(received);
                        continue;
                    }
                }
            }
            if deadline.is_some_and(|d| self.world.now() >= d) {
                return false;
            }
            if !busy {
                self.world.park(deadline);
            }
        }
    }

    /// True if no processor has anything to do. There may be millions, and this is asked whenever a driver becomes idle, so it
    /// begins with the block in which it found one the last time (`from`), and ends with the first it finds.
    fn all_quiet(&self, from: &mut usize) -> bool {
        let is_quiet = |number: usize| {
            // Looked at, and dropped, without the registry's lock.
            let cells = self.registry.lock().block(number);
            cells.map(|cells| cells.iter().all(|cell| cell.is_quiet()))
        };
        for number in *from.. {
            match is_quiet(number) {
                Some(true) => {}
                Some(false) => {
                    *from = number;
                    return false;
                }
                None => break,
            }
        }
        for number in 0..*from {
            if is_quiet(number) == Some(false) {
                *from = number;
                return false;
            }
        }
        true
    }

    /// Changes whenever anybody has handled something.
    fn received(&self) -> u64 {
        let mut sum = 0;
        for number in 0.. {
            let Some(cells) = self.registry.lock().block(number) else {
                break;
            };
            sum += cells
                .iter()
                .map(|cell| cell.received_and_busy())
                .sum::<u64>();
        }
        sum + self.ended.lock().received
    }
}
