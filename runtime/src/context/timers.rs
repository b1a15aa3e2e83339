//! Messages to itself: by time, or by silence.

use super::Cx;
use crate::Tick;
use crate::processor::{Handle, Processor};
use crate::timers::{TimerCall, TimerId, Timers, When};
use std::time::Duration;

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Sends the processor itself a message every `period`, by the clock that it [follows](Self::follow). The first comes one
    /// period from now.
    ///
    /// The grid is fixed: the next tick is due one period after the last was *due*, so nothing drifts. If a handler takes
    /// longer than a period, the ticks that were missed are left out, and the next says how many
    /// ([`Tick::skipped`]). There is at most one undelivered tick. A period below 1 microsecond counts as 1 microsecond.
    ///
    /// `make` is kept with the processor, which on a pool goes from thread to thread, so it must be `Send`. Elsewhere
    /// [`every_local`](Self::every_local) takes one that is not.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime};
    /// # use std::time::Duration;
    /// struct Clock(u32);
    /// struct Beat;
    /// struct Count;
    /// impl Processor for Clock {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.every(Duration::from_secs(1), |_tick| Beat);
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Beat> for Clock {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Beat, _: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.0 += 1;
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Count> for Clock {
    ///     type Reply = u32;
    ///     fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> { Ok(self.0) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let clock = node.spawn_thread("clock", Clock(0))?;
    /// node.advance(Duration::from_secs(60)); // virtual: takes no time
    /// assert_eq!(clock.call(Count).wait()?, 60);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    ///
    /// A closure that keeps what is not `Send` does not compile:
    ///
    /// ```compile_fail
    /// # use mproc_runtime::{Cx, Handle, Processor};
    /// # use std::{rc::Rc, time::Duration};
    /// fn count<P: Processor + Handle<usize>>(cx: &mut Cx<'_, P>) {
    ///     let shared = Rc::new(());
    ///     cx.every(Duration::from_secs(1), move |_tick| Rc::strong_count(&shared));
    /// }
    /// ```
    pub fn every<M: 'static>(
        &mut self,
        period: Duration,
        mut make: impl FnMut(Tick) -> M + Send + 'static,
    ) -> TimerId
    where
        P: Handle<M>,
    {
        self.every_with(period, move |me, tick, cx| cx.handle_now(me, make(tick)))
    }

    /// Like [`every`](Self::every), with something to do in place of a message.
    pub fn every_with(
        &mut self,
        period: Duration,
        call: impl FnMut(&mut P, Tick, &mut Cx<'_, P>) + Send + 'static,
    ) -> TimerId {
        Timers::add(self.cell, self.local, When::Every(period), Box::new(call))
    }

    /// Sends the processor itself `message` once, `delay` from now, by the clock that it [follows](Self::follow).
    pub fn after<M: Send + 'static>(&mut self, delay: Duration, message: M) -> TimerId
    where
        P: Handle<M>,
    {
        self.after_with(delay, move |me, cx| cx.handle_now(me, message))
    }

    /// Like [`after`](Self::after), with something to do in place of a message.
    pub fn after_with(
        &mut self,
        delay: Duration,
        call: impl FnOnce(&mut P, &mut Cx<'_, P>) + Send + 'static,
    ) -> TimerId {
        Timers::add(self.cell, self.local, When::After(delay), once(call))
    }

    /// Ends a timer. It is never seen again, also if its message was already on its way. False if it had ended before.
    pub fn cancel(&mut self, timer: TimerId) -> bool {
        self.local.timers.cancel(&self.cell.driver, timer)
    }

    /// Starts a timer afresh: its next tick is one period (or its delay) from now. False if it has ended.
    pub fn reset(&mut self, timer: TimerId) -> bool {
        Timers::reset(self.cell, self.local, timer, None)
    }

    /// Changes a timer's period (or delay) and starts it afresh. False if it has ended.
    pub fn set_period(&mut self, timer: TimerId, period: Duration) -> bool {
        Timers::reset(self.cell, self.local, timer, Some(period))
    }

    /// Stops a timer without ending it: it does not come until it is [`reset`](Self::reset), also if its message was already
    /// on its way. False if it has ended. A timer that is stopped in the handler that made it has never started.
    pub fn stop_timer(&mut self, timer: TimerId) -> bool {
        self.local.timers.halt(&self.cell.driver, timer)
    }

    /// How long until the timer is due, by the clock that it follows; zero if it is overdue, `None` if it has ended or was
    /// stopped.
    pub fn time_until(&mut self, timer: TimerId) -> Option<Duration> {
        self.local.timers.time_left(self.cell, timer)
    }

    /// Sends the processor itself what `make` returns when no message and no sample came for `limit`: once, and again
    /// after the next message, when that has been followed by silence. Timers, continuations and notices are not
    /// messages.
    ///
    /// The silence begins now, and again at the end of each turn in which the processor handled messages (up to 64 of
    /// them). So the time-out comes `limit` after the last handler returned or later, never sooner; it is later by what
    /// the processor did in the same turn after that message, and by how busy its driver is. It does not come while a
    /// message waits in the mailbox. A processor that is told no more messages is not woken again.
    ///
    /// [`reset`](Self::reset) begins the silence now, also after it has been told; [`set_period`](Self::set_period)
    /// changes the limit; [`time_until`](Self::time_until) is how soon it can come. It costs one reading of the clock per
    /// turn, not per message.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, Runtime};
    /// # use std::time::Duration;
    /// struct Door { open: bool }
    /// struct Enter;
    /// struct Silence;
    /// struct IsOpen;
    /// impl Processor for Door {
    ///     fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         cx.receive_timeout(Duration::from_secs(10), || Silence);
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Enter> for Door {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Enter, _: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.open = true;
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Silence> for Door {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Silence, _: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.open = false;
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<IsOpen> for Door {
    ///     type Reply = bool;
    ///     fn handle(&mut self, _: IsOpen, _: &mut Cx<'_, Self, bool>) -> Outcome<bool> { Ok(self.open) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let door = node.spawn_thread("door", Door { open: false })?;
    /// door.send(Enter)?;
    /// node.advance(Duration::from_secs(9));
    /// assert!(door.call(IsOpen).wait()?); // a message, too: the silence begins again
    /// node.advance(Duration::from_secs(10));
    /// assert!(!door.call(IsOpen).wait()?);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn receive_timeout<M: 'static>(
        &mut self,
        limit: Duration,
        mut make: impl FnMut() -> M + Send + 'static,
    ) -> TimerId
    where
        P: Handle<M>,
    {
        let tell = move |me: &mut P, _: Tick, cx: &mut Cx<'_, P>| cx.handle_now(me, make());
        Timers::add_silence(self.cell, self.local, limit, Box::new(tell))
    }
}

/// A timer's call that is made once.
pub(super) fn once<P: Processor>(
    call: impl FnOnce(&mut P, &mut Cx<'_, P>) + 'static,
) -> TimerCall<P> {
    let mut call = Some(call);
    Box::new(move |me, _, cx| {
        if let Some(call) = call.take() {
            call(me, cx);
        }
    })
}
