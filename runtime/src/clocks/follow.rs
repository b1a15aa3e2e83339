//! Whose timers follow which clock: what the processor says, else its driver, else the node, else steady time.

use super::core::ClockCore;
use super::{Clock, ClockKind, Clocks, Time};
use crate::context::Cx;
use crate::driver::{Driver, DriverCore, Manual, Pool};
use crate::processor::Processor;
use crate::runtime::Runtime;
use std::sync::Arc;

/// What a clock is to timers: `None` for steady time, whose deadlines their driver has.
pub(crate) type Followed = Option<Arc<ClockCore>>;

/// The clock that timers of a processor follow which has said `own`.
pub(crate) fn followed(own: &Followed, driver: &DriverCore) -> Followed {
    let of_node = || driver.runtime().clocks.followed.lock().clone();
    let clock = own.clone().or_else(|| driver.clock()).or_else(of_node);
    clock.filter(|clock| clock.kind() != ClockKind::Steady)
}

impl Clocks {
    fn follow(&self, clock: &Clock) {
        // What was followed before is dropped after the lock is released.
        let _before = self.followed.lock().replace(clock.core.clone());
    }
}

impl Runtime {
    /// From now on new timers follow `clock`, on every driver that was not told otherwise and in every processor that was
    /// not: see [`Cx::follow`]. Timers that are set already stay as they are.
    pub fn follow(&self, clock: &Clock) {
        self.core().clocks.follow(clock);
    }
}

impl Driver {
    /// From now on new timers of its members follow `clock`, but of those that were told otherwise: see [`Cx::follow`].
    pub fn follow(&self, clock: &Clock) {
        self.core().follow(&clock.core);
    }
}

impl Pool {
    /// As [`Driver::follow`].
    pub fn follow(&self, clock: &Clock) {
        self.core().follow(&clock.core);
    }
}

impl Manual {
    /// As [`Driver::follow`].
    pub fn follow(&self, clock: &Clock) {
        self.core().follow(&clock.core);
    }
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// From now on new timers of this processor follow `clock`: [`every`](Self::every), [`after`](Self::after),
    /// [`receive_timeout`](Self::receive_timeout), silences of subscriptions. Limits on waiting do not: they follow steady
    /// time.
    ///
    /// If its driver and its node were told nothing either, a processor follows steady time. After a restart by a supervisor
    /// it has forgotten, and [`started`](Processor::started) says it again.
    ///
    /// By a clock that jumps forward over several ticks a timer gets one, which says how many were skipped. If the clock goes
    /// back, a timer is due at most one period (or its delay) after what the clock shows then; if domain time is driven anew
    /// and told what time it is, exactly that.
    ///
    /// A processor that follows another clock than steady time is a few hundred bytes larger while it is idle.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{ClockSetter, Clock, Cx, Handle, Outcome, Processor, Runtime, Time};
    /// use std::time::Duration;
    ///
    /// struct Meter { clock: Clock, read: Vec<Time> }
    /// struct Read;
    /// struct Get;
    /// impl Processor for Meter {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.follow(&self.clock);
    ///         cx.every(Duration::from_secs(1), |_tick| Read);
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Read> for Meter {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Read, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.read.push(cx.time());
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Get> for Meter {
    ///     type Reply = Vec<Time>;
    ///     fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, Vec<Time>>) -> Outcome<Vec<Time>> { Ok(self.read.clone()) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let domain = ClockSetter::of(&node);
    /// domain.begin(1);
    /// let meter = node.spawn_thread("meter", Meter { clock: domain.clock().clone(), read: vec![] })?;
    /// node.advance(Duration::from_secs(3600)); // domain time stands still
    /// assert_eq!(meter.call(Get).wait()?, []);
    /// domain.step(1, Duration::from_secs(1));
    /// assert_eq!(meter.call(Get).wait()?, [Time::from_secs(1)]);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn follow(&mut self, clock: &Clock) {
        let (_, local) = self.parts();
        local.timers.follow(clock.core.clone());
    }

    /// The clock that its new timers follow.
    pub fn clock(&self) -> Clock {
        let (cell, local) = self.parts_ref();
        let runtime = cell.driver.runtime();
        match followed(local.timers.followed(), &cell.driver) {
            Some(core) => Clock::from_core(core, runtime),
            None => Clock::of(ClockKind::Steady, runtime),
        }
    }

    /// What the clock shows that its new timers follow: for steady time, how long ago the node began.
    ///
    /// [`now`](Self::now) is steady time in any case, as an instant.
    pub fn time(&self) -> Time {
        let (cell, local) = self.parts_ref();
        match followed(local.timers.followed(), &cell.driver) {
            Some(clock) => clock.now(),
            None => cell.driver.runtime().steady_time(),
        }
    }
}
