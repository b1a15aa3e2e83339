//! Doors for what is not `Send`.
//!
//! Whatever a processor keeps between two messages stays with it. On a driver of one thread (own, shared, manual, each of
//! them simulated or not) that is one thread, so a closure may keep an `Rc`. On a pool the processor goes from thread to
//! thread, so there the usual methods are the only ones: they demand `Send`. Those here do not, and refuse on a pool.
//!
//! There are as few of them as will do: what is made afresh each time (`receive_timeout`, the silence of a subscription) can
//! take what is not `Send` from the processor itself when its message is handled.

use super::Cx;
use super::timers::once;
use crate::Tick;
use crate::error::{Error, ErrorKind};
use crate::lane::{LaneBell, LaneSource};
use crate::mailbox::LaneId;
use crate::processor::{Handle, Processor};
use crate::timers::{TimerId, Timers, When};
use std::time::Duration;

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// As [`every`](Self::every), for a closure that is not `Send`. Not on a pool, whose processors go from thread to thread.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool.
    ///
    /// # Examples
    ///
    /// Two members of one driver share a table without a lock:
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime, local_closure};
    /// use std::{cell::Cell, rc::Rc, time::Duration};
    ///
    /// struct Clock { beats: Rc<Cell<u32>> }
    /// struct Beat(u32);
    /// impl Processor for Clock {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         let beats = self.beats.clone();
    ///         cx.every_local(Duration::from_secs(1), move |_tick| Beat(beats.get() + 1));
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Beat> for Clock {
    ///     type Reply = ();
    ///     fn handle(&mut self, Beat(n): Beat, _: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.beats.set(n);
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let count = node.driver("time")?.build(|on| {
    ///     let beats = Rc::new(Cell::new(0));
    ///     let theirs = beats.clone();
    ///     on.spawn("clock", Clock { beats })?;
    ///     Ok(on.spawn("count", local_closure(move |(): (), _cx| Ok::<_, std::fmt::Error>(theirs.get())))?)
    /// })?;
    /// node.advance(Duration::from_secs(60)); // virtual: takes no time
    /// assert_eq!(count.call(()).wait()?, 60);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    #[track_caller]
    pub fn every_local<M: 'static>(
        &mut self,
        period: Duration,
        mut make: impl FnMut(Tick) -> M + 'static,
    ) -> TimerId
    where
        P: Handle<M>,
    {
        self.every_with_local(period, move |me, tick, cx| cx.handle_now(me, make(tick)))
    }

    /// As [`every_with`](Self::every_with), for a closure that is not `Send`. Not on a pool.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool.
    #[track_caller]
    pub fn every_with_local(
        &mut self,
        period: Duration,
        call: impl FnMut(&mut P, Tick, &mut Cx<'_, P>) + 'static,
    ) -> TimerId {
        self.must_stay();
        Timers::add(self.cell, self.local, When::Every(period), Box::new(call))
    }

    /// As [`after`](Self::after), for a message that is not `Send`. Not on a pool.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool.
    #[track_caller]
    pub fn after_local<M: 'static>(&mut self, delay: Duration, message: M) -> TimerId
    where
        P: Handle<M>,
    {
        self.after_with_local(delay, move |me, cx| cx.handle_now(me, message))
    }

    /// As [`after_with`](Self::after_with), for a closure that is not `Send`. Not on a pool.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool.
    #[track_caller]
    pub fn after_with_local(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut P, &mut Cx<'_, P>) + 'static,
    ) -> TimerId {
        self.must_stay();
        Timers::add(self.cell, self.local, When::After(delay), once(call))
    }

    /// As [`add_lane`](Self::add_lane), for a lane that is not `Send`. Not on a pool.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the processor runs on a pool. `lane` is then not called.
    pub fn add_lane_local(
        &mut self,
        lane: impl FnOnce(LaneBell) -> Box<dyn LaneSource<P>>,
    ) -> Result<LaneId, Error> {
        self.refuse_on_pool()?;
        Ok(self.keep_lane(lane))
    }

    /// Refuses to keep what is not `Send` where the processor goes from thread to thread.
    fn refuse_on_pool(&self) -> Result<(), Error> {
        if !self.cell.driver.is_pool() {
            return Ok(());
        }
        let text = format!(
            "processor {:?} goes from thread to thread on pool {:?}, so it keeps only what is `Send`: use the method \
             without `_local`",
            self.name(),
            self.cell.driver.name()
        );
        Err(Error::new(ErrorKind::Refused, text))
    }

    /// For methods that have no way to say no.
    #[track_caller]
    pub(crate) fn must_stay(&self) {
        if let Err(error) = self.refuse_on_pool() {
            panic!("{error}");
        }
    }
}
