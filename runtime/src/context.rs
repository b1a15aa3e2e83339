//! What a handler is given beside the message.

mod by_hand;
mod local;

use crate::Tick;
use crate::address::{Address, Told};
use crate::cell::{Cell, CellRef, Local};
use crate::driver::{DriverCore, Due, about_to_block};
use crate::error::{CallError, Fault, Outcome, SpawnError};
use crate::exit::Down;
use crate::hook::{self, Cause};
use crate::id::ProcessorId;
use crate::lane::{LaneBell, LaneSource};
use crate::mailbox::{Control, LaneId, MailboxOptions};
use crate::name::Name;
use crate::parcel::Envelope;
use crate::pending::Pending;
use crate::processor::{Handle, Processor};
use crate::runtime::Runtime;
use crate::sync::{AcqRel, AtomicBool, Release};
use crate::timer::Deadline;
use crate::timers::{TimerCall, TimerId, Timers, When};
use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::task::{Poll, Wake, Waker};
use std::time::{Duration, Instant};

/// A handler's context: time, self address, timers, watches, replies, spawning, stopping.
///
/// `R` is the type of the reply that the handler owes.
pub struct Cx<'a, P: Processor, R: 'static = ()> {
    cell: &'a Arc<Cell<P>>,
    local: &'a mut Local<P>,
    promise: Promise<R>,
}

/// Who waits for the reply of the message that is being handled; nobody if it was sent, not called.
pub(crate) struct Promise<R: 'static>(Option<Arc<dyn ReplySlot<R>>>);

/// Where a reply goes.
pub(crate) trait ReplySlot<R>: Send + Sync {
    /// The first answer counts; later ones are ignored.
    fn answer(&self, result: Result<R, CallError>);

    /// From now on this processor owes the answer; `None`: whoever has the token. True if a thread that blocks for it has
    /// shown that: then whoever hands it on looks for a circle.
    fn hand_on(&self, to: Option<CellRef>) -> bool;

    /// True if the caller has given up: nobody gets the answer.
    fn is_cancelled(&self) -> bool;

    /// Has `waker` woken when the caller gives up; at once if it has. The last one counts.
    fn on_cancel(&self, waker: Waker);
}

impl<R: 'static> Promise<R> {
    #[inline]
    pub(crate) fn none() -> Self {
        Self(None)
    }

    pub(crate) fn owed(slot: Option<Arc<dyn ReplySlot<R>>>) -> Self {
        Self(slot)
    }

    #[inline]
    fn take(&mut self) -> Option<Arc<dyn ReplySlot<R>>> {
        self.0.take()
    }

    pub(crate) fn answer(mut self, result: Result<R, CallError>) {
        if let Some(slot) = self.take() {
            slot.answer(result);
        }
    }
}

impl<'a, P: Processor, R: 'static> Cx<'a, P, R> {
    #[inline]
    pub(crate) fn new(
        cell: &'a Arc<Cell<P>>,
        local: &'a mut Local<P>,
        promise: Promise<R>,
    ) -> Self {
        Self {
            cell,
            local,
            promise,
        }
    }

    /// The processor's own address.
    pub fn me(&self) -> Address<P> {
        Address::from_cell(self.cell.clone())
    }

    /// The processor's id.
    pub fn id(&self) -> ProcessorId {
        self.cell.id
    }

    /// The processor's name.
    pub fn name(&self) -> &Name {
        &self.cell.name
    }

    /// Steady time, as an instant: virtual in a simulated node. What the clock shows that its timers follow is
    /// [`time`](Self::time).
    pub fn now(&self) -> Instant {
        self.cell.driver.world().now()
    }

    /// The node, without topics.
    pub fn runtime(&self) -> Runtime {
        Runtime::from_core(self.cell.driver.runtime().clone())
    }

    /// True if whoever called has given up, so that nobody gets the reply: the [`Pending`](crate::Pending) was dropped or its
    /// limit has passed, or the caller's process is gone. False if the message was sent and not called, or if the reply was
    /// promised for later: then the token knows ([`ReplyToken::is_cancelled`]).
    ///
    /// For long handlers, which may look now and then and return early.
    pub fn is_cancelled(&self) -> bool {
        self.promise
            .0
            .as_ref()
            .is_some_and(|slot| slot.is_cancelled())
    }

    /// Ends the processor in order, after the current message.
    pub fn stop(&mut self) {
        self.local.stop = true;
    }

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

    /// Sends the processor itself one [`Down`] when the other ends, or at once if it has ended.
    ///
    /// A restart by a supervisor is no end: `Down` comes when the other ends for good. If the watching processor is
    /// restarted, its watches end, and [`started`](Processor::started) makes them again.
    pub fn watch<Q: Processor>(&mut self, other: &Address<Q>) -> WatchId
    where
        P: Handle<Down>,
    {
        let me = Arc::downgrade(self.cell);
        let number = crate::ended::next_watch();
        let incarnation = self.cell.note_watch(other.cell(), number);
        other.watch_with(
            number,
            Box::new(move |down| {
                if let Some(me) = me.upgrade() {
                    // A watcher that has ended, or was restarted since, need not know.
                    me.notice(
                        incarnation,
                        number,
                        Envelope::new(Told(down, Cause::none())),
                    );
                }
            }),
        );
        WatchId(number)
    }

    /// Ends a watch: no `Down` comes of it any more, unless it is on its way already.
    pub fn unwatch<Q: Processor>(&mut self, other: &Address<Q>, watch: WatchId) {
        self.cell.forget_watch(watch.0);
        other.unwatch(watch.0);
    }

    /// Spawns a processor on the same driver: the two are never entered at once, and may share what is not `Send`.
    ///
    /// # Errors
    ///
    /// As [`Driver::spawn`](crate::Driver::spawn), and [`SpawnError::OnPool`] if the driver is a pool: there "here" is no one
    /// thread, so it is refused whether the processor is `Send` or not.
    pub fn spawn_here<Q: Processor>(
        &mut self,
        name: &str,
        processor: Q,
    ) -> Result<Address<Q>, SpawnError> {
        // A new cell of a driver that has one processor of its own makes it a shared one in all but name.
        crate::driver::spawn_cell(
            &self.cell.driver,
            name,
            processor,
            false,
            MailboxOptions::default(),
        )
    }

    /// Runs `work`, which may block for long: a file, a device, a computation. On a pool another thread takes this one's place
    /// meanwhile, so that the other members go on; on every other driver it just runs `work`, because its members may not move
    /// to another thread.
    ///
    /// Waiting for mproc's own operations ([`Pending::wait`] and the like) does this by itself. What the handler has sent before
    /// is on its way already, unless it found no room: then it goes on after the handler, as always.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::new()?;
    /// let pool = node.pool("files", 2)?;
    /// let read = pool.spawn("read", closure(|path: &'static str, cx| cx.block(|| std::fs::read_to_string(path))))?;
    /// let text = read.call("Cargo.toml").wait()?;
    /// assert!(text.contains("[package]"));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn block<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let _blocks = about_to_block();
        work()
    }

    /// Handles `message` here and now, as if it had come by the mailbox; a fault goes the same way.
    ///
    /// For lanes and timers, which turn what comes into the processor's own messages.
    #[inline]
    pub fn handle_now<M: 'static>(&mut self, processor: &mut P, message: M)
    where
        P: Handle<M>,
    {
        self.cell.set_last_type(std::any::type_name::<M>);
        let outcome = {
            let mut cx = Cx::new(self.cell, self.local, Promise::none());
            processor.handle(message, &mut cx)
        };
        if let Err(fault) = outcome {
            self.fault(processor, fault);
        }
    }

    /// A message of the mailbox is about to be handled. Panics if a simulated world says so.
    #[inline]
    pub(crate) fn about_to_handle(&self) {
        if self.local.may_panic {
            self.meet_fault();
        }
    }

    #[cold]
    fn meet_fault(&self) {
        if self
            .cell
            .driver
            .world()
            .is_to_panic(self.cell.name.as_str())
        {
            // The handler's panic, for whoever catches those. Nobody's bug, so no hook is told.
            std::panic::resume_unwind(Box::new("a fault of the simulation"));
        }
    }

    pub(crate) fn cell(&self) -> &Arc<Cell<P>> {
        self.cell
    }

    /// What the parts of the runtime that add methods to it work on.
    pub(crate) fn parts(&mut self) -> (&'a Arc<Cell<P>>, &mut Local<P>) {
        (self.cell, self.local)
    }

    pub(crate) fn parts_ref(&self) -> (&Arc<Cell<P>>, &Local<P>) {
        (self.cell, self.local)
    }

    /// Who waits for the reply waits for another to give it.
    pub(crate) fn take_promise(&mut self) -> Promise<R> {
        Promise(self.promise.take())
    }

    pub(crate) fn with_promise<S: 'static>(&mut self, promise: Promise<S>) -> Cx<'_, P, S> {
        Cx::new(self.cell, self.local, promise)
    }

    pub(crate) fn uncount_cancelled(&self) {
        self.cell.uncount_cancelled();
    }

    /// Counts and reports a fault and gives it to [`Processor::on_error`].
    pub fn fault(&mut self, processor: &mut P, fault: Fault) {
        if !fault.is_reply_later() {
            self.cell.report_fault(fault, processor, self.local);
        }
    }

    /// A place for what a layer above the runtime keeps per processor, by type. It is dropped when the processor ends. On a
    /// pool it goes from thread to thread with the processor, so what is kept must be `Send`.
    pub fn extensions(&mut self) -> &mut Extensions {
        &mut self.local.extensions
    }

    /// Adds a bounded lane beside the mailbox. `lane` is given the bell that its sending half rings.
    pub fn add_lane(
        &mut self,
        lane: impl FnOnce(LaneBell) -> Box<dyn LaneSource<P> + Send>,
    ) -> LaneId {
        self.keep_lane(|bell| lane(bell))
    }

    /// The caller sees to it that the lane is `Send`, or that this is not a pool.
    fn keep_lane(&mut self, lane: impl FnOnce(LaneBell) -> Box<dyn LaneSource<P>>) -> LaneId {
        // The bell needs the lane's id and the lane needs the bell: a slot is taken first.
        struct Nothing;
        impl<P: Processor> LaneSource<P> for Nothing {
            fn serve(&mut self, _: &mut P, _: &mut Cx<'_, P>) -> bool {
                false
            }
            fn head(&self) -> Option<u64> {
                None
            }
            fn item_type(&self) -> fn() -> &'static str {
                || ""
            }
            fn drain(&mut self) {}
            fn end(&mut self) {}
        }
        let id = self.local.add_lane(Box::new(Nothing));
        let lane = lane(LaneBell {
            cell: self.cell.clone(),
            lane: id,
        });
        self.local.lanes[id.slot as usize].lane = Some(lane);
        id
    }

    /// Removes a lane: its receiving half is ended and dropped.
    pub fn remove_lane(&mut self, lane: LaneId) {
        self.local.remove_lane(lane);
    }

    /// The caller sees to it that `pending`, what comes of it, and `next` are `Send`, or that this is not a pool: they are
    /// kept.
    pub(crate) fn continue_with<T: 'static, E: 'static>(
        &mut self,
        mut pending: Pending<T, E>,
        limit: Duration,
        next: impl FnOnce(&mut P, Result<T, E>, &mut Cx<'_, P>) -> Outcome<()> + 'static,
    ) {
        let key = self.local.next_continuation;
        self.local.next_continuation += 1;
        let resume = Arc::new(ResumeWaker {
            cell: self.cell.clone(),
            key,
            queued: AtomicBool::new(false),
        });
        let waker = Waker::from(resume.clone());
        // Begins now, so that it has its place in the order of what this handler sends.
        let mut result = match pending.poll_begun(&waker) {
            Poll::Ready(result) => {
                waker.wake_by_ref();
                Some(result)
            }
            Poll::Pending => None,
        };
        let deadline = if result.is_none() {
            let driver = &self.cell.driver;
            driver.world().now().checked_add(limit).map(|at| {
                let cell = self.cell.clone();
                (at, driver.add_deadline(at, Due::Resume { cell, key }))
            })
        } else {
            None
        };
        let mut next = Some(next);
        let mut pending = Some(pending);
        let mut cause = Cause::here();
        let step = move |me: &mut P, cx: &mut Cx<'_, P>| -> bool {
            resume.queued.store(false, Release);
            if result.is_none()
                && let Some(pending) = &mut pending
            {
                match pending.poll_begun(&waker) {
                    Poll::Ready(done) => result = Some(done),
                    Poll::Pending => {
                        let late = deadline.is_some_and(|(at, _)| cx.now() >= at);
                        if !late {
                            return false;
                        }
                        result = Some(Err(pending.give_up()));
                    }
                }
            }
            pending = None;
            let cause = std::mem::take(&mut cause);
            let _span = hook::handling(cx.name(), "continuation", cause);
            if let (Some(result), Some(next)) = (result.take(), next.take())
                && let Err(fault) = next(me, result, cx)
            {
                cx.fault(me, fault);
            }
            true
        };
        let continuation = Continuation {
            step: Box::new(step),
            deadline: deadline.map(|(_, d)| d),
        };
        self.local.continuations.insert(key, continuation);
    }
}

impl<P: Processor, R: Send + 'static> Cx<'_, P, R> {
    /// Promises the reply for later: `keep` is given a token, which can be kept, or sent anywhere, and answered with
    /// [`ReplyToken::send`]. The handler returns what this returns.
    ///
    /// If nobody waits for the reply (the message was sent, not called), the token leads nowhere. A token that is dropped
    /// unanswered tells the caller [`CallError::NoReply`].
    ///
    /// # Errors
    ///
    /// What it returns is always an `Err` to the compiler's eyes, and means "later", not a fault.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Cx, Handle, Outcome, Processor, ReplyToken, Runtime};
    /// struct Door { waiting: Vec<ReplyToken<&'static str>> }
    /// struct Knock;
    /// struct Open;
    /// impl Processor for Door {}
    /// impl Handle<Knock> for Door {
    ///     type Reply = &'static str;
    ///     fn handle(&mut self, _: Knock, cx: &mut Cx<'_, Self, &'static str>) -> Outcome<&'static str> {
    ///         cx.reply_later(|token| self.waiting.push(token))
    ///     }
    /// }
    /// impl Handle<Open> for Door {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Open, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.waiting.drain(..).for_each(|token| token.send("come in"));
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let door = node.spawn_thread("door", Door { waiting: vec![] })?;
    /// let mut answer = door.call(Knock);
    /// answer.begin();
    /// door.send(Open)?;
    /// assert_eq!(answer.wait()?, "come in");
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn reply_later(&mut self, keep: impl FnOnce(ReplyToken<R>)) -> Outcome<R> {
        let slot = self.promise.take();
        if let Some(slot) = &slot {
            // Nobody can know who will answer.
            slot.hand_on(None);
        }
        keep(ReplyToken(slot));
        Err(Fault::reply_later())
    }

    /// Hands the message on: `other` replies in this processor's place. The handler returns what this returns.
    ///
    /// # Errors
    ///
    /// As [`reply_later`](Self::reply_later). If `other` has ended, the caller gets [`CallError::Stopped`]; if it waits,
    /// perhaps over others, for the caller, that gets [`CallError::Deadlock`].
    pub fn forward<Q, M>(&mut self, other: &Address<Q>, message: M) -> Outcome<R>
    where
        Q: Handle<M, Reply = R>,
        M: Send + 'static,
    {
        let slot = self.promise.take();
        other.send_forwarded(message, slot);
        Err(Fault::reply_later())
    }

    /// Deals with what a handler returned, when somebody may wait for it.
    #[inline]
    pub(crate) fn conclude(&mut self, processor: &mut P, outcome: Outcome<R>) {
        let slot = self.promise.take();
        match outcome {
            Ok(reply) => {
                if let Some(slot) = slot {
                    slot.answer(Ok(reply));
                }
            }
            Err(fault) if fault.is_reply_later() => {
                // The promise was taken by whoever answers; if it was not, the caller must not wait for nothing.
                if let Some(slot) = slot {
                    slot.answer(Err(CallError::NoReply));
                }
            }
            Err(fault) => {
                if let Some(slot) = slot {
                    slot.answer(Err(CallError::Faulted(fault.clone())));
                }
                self.cell.report_fault(fault, processor, self.local);
            }
        }
    }
}

impl<P: Processor, R: 'static> fmt::Debug for Cx<'_, P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cx({:?})", self.cell.name)
    }
}

impl<R: 'static> Drop for Promise<R> {
    #[inline]
    fn drop(&mut self) {
        if let Some(slot) = self.take() {
            Self::broken(slot);
        }
    }
}

impl<R: 'static> Promise<R> {
    /// A handler that unwinds leaves its promise behind. Its caller is told when the panic's message is known, a few
    /// frames further out.
    #[cold]
    fn broken(slot: Arc<dyn ReplySlot<R>>) {
        if std::thread::panicking() {
            UNWOUND.with(|unwound| {
                unwound.borrow_mut().push(Box::new(move |message| {
                    slot.answer(Err(CallError::Panicked(message)));
                }));
            });
        } else {
            slot.answer(Err(let_go()));
        }
    }
}

type TellPanicked = Box<dyn FnOnce(Arc<str>)>;

thread_local! {
    /// Promises of handlers that are unwinding on this thread.
    static UNWOUND: RefCell<Vec<TellPanicked>> = const { RefCell::new(Vec::new()) };
    /// What is dropped on this thread belonged to an incarnation that another will follow.
    static RESTARTING: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// What those are told who wait for a reply whose promise was let go of.
fn let_go() -> CallError {
    match RESTARTING.try_with(std::cell::Cell::get) {
        Ok(true) => CallError::Restarted,
        _ => CallError::NoReply,
    }
}

/// Drops what a dead incarnation has left: those who wait for its replies are told that it is restarted.
pub(crate) fn drop_for_restart(what: impl FnOnce()) {
    struct Before(bool);
    impl Drop for Before {
        fn drop(&mut self) {
            RESTARTING.set(self.0);
        }
    }
    let _before = Before(RESTARTING.replace(true));
    what();
}

/// The panic has been caught: tells those who waited for a reply of the handler.
pub(crate) fn tell_unwound(message: &Arc<str>) {
    let unwound = UNWOUND.with(|unwound| std::mem::take(&mut *unwound.borrow_mut()));
    for tell in unwound {
        tell(message.clone());
    }
}

/// A promised reply. Whoever holds it owes an answer; dropping it tells the caller [`CallError::NoReply`].
#[must_use = "dropping the token tells the caller that no reply comes"]
pub struct ReplyToken<R: 'static>(Option<Arc<dyn ReplySlot<R>>>);

impl<R: 'static> ReplyToken<R> {
    /// Answers.
    pub fn send(mut self, reply: R) {
        if let Some(slot) = self.0.take() {
            slot.answer(Ok(reply));
        }
    }

    /// Answers with a fault: the caller gets [`CallError::Faulted`].
    pub fn fail(mut self, fault: Fault) {
        if let Some(slot) = self.0.take() {
            slot.answer(Err(CallError::Faulted(fault)));
        }
    }

    /// Where the answer goes, for whoever owes it from now on.
    pub(crate) fn into_slot(mut self) -> Option<Arc<dyn ReplySlot<R>>> {
        self.0.take()
    }

    /// True if somebody waits for it: the message was called and not sent.
    pub fn is_awaited(&self) -> bool {
        self.0.is_some()
    }

    /// True if whoever called has given up since: nobody gets the reply.
    pub fn is_cancelled(&self) -> bool {
        self.0.as_ref().is_some_and(|slot| slot.is_cancelled())
    }

    /// Has `waker` woken when whoever called gives up; at once if that has happened. Of several, the last one counts. It is
    /// called on the thread of whoever gives up, with no lock held.
    pub fn on_cancel(&self, waker: Waker) {
        if let Some(slot) = &self.0 {
            slot.on_cancel(waker);
        }
    }
}

impl<R: 'static> Drop for ReplyToken<R> {
    fn drop(&mut self) {
        if let Some(slot) = self.0.take() {
            slot.answer(Err(let_go()));
        }
    }
}

impl<R: 'static> fmt::Debug for ReplyToken<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyToken")
            .field("is_awaited", &self.is_awaited())
            .finish()
    }
}

/// Which watch, to end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchId(u64);

/// Values by type, for what a layer above the runtime keeps per processor.
#[derive(Default)]
pub struct Extensions(Vec<(TypeId, Box<dyn Any + Send>)>);

impl Extensions {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of this type, made if it is not there.
    pub fn get_or_default<T: Default + Send + 'static>(&mut self) -> &mut T {
        let id = TypeId::of::<T>();
        let at = match self.0.iter().position(|(t, _)| *t == id) {
            Some(at) => at,
            None => {
                self.0.push((id, Box::new(T::default())));
                self.0.len() - 1
            }
        };
        match self.0[at].1.downcast_mut() {
            Some(value) => value,
            None => unreachable!("values are filed under their own type"),
        }
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Extensions({})", self.0.len())
    }
}

/// A timer's call that is made once.
fn once<P: Processor>(call: impl FnOnce(&mut P, &mut Cx<'_, P>) + 'static) -> TimerCall<P> {
    let mut call = Some(call);
    Box::new(move |me, _, cx| {
        if let Some(call) = call.take() {
            call(me, cx);
        }
    })
}

type ContinuationStep<P> = Box<dyn FnMut(&mut P, &mut Cx<'_, P>) -> bool>;

/// What goes on when an operation is done. Kept by its processor's driver.
pub(crate) struct Continuation<P: Processor> {
    /// Returns true when it is finished.
    step: ContinuationStep<P>,
    deadline: Option<Deadline>,
}

impl<P: Processor> Continuation<P> {
    pub(crate) fn cancel_deadline(&mut self, driver: &DriverCore) {
        if let Some(deadline) = self.deadline.take() {
            driver.cancel_deadline(deadline);
        }
    }
}

/// Goes on with a continuation. False if it was not ready after all.
pub(crate) fn resume<P: Processor>(
    cell: &Arc<Cell<P>>,
    processor: &mut P,
    local: &mut Local<P>,
    key: u64,
) -> bool {
    let Some(mut continuation) = local.continuations.remove(&key) else {
        return false;
    };
    let done = (continuation.step)(processor, &mut Cx::new(cell, local, Promise::none()));
    if done {
        continuation.cancel_deadline(&cell.driver);
    } else {
        local.continuations.insert(key, continuation);
    }
    done
}

struct ResumeWaker<P: Processor> {
    cell: Arc<Cell<P>>,
    key: u64,
    /// A wake-up is in the control lane already: it has one place.
    queued: AtomicBool,
}

impl<P: Processor> Wake for ResumeWaker<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // AcqRel: partner of the store in the continuation's step, which looks at the operation after clearing it.
        if !self.queued.swap(true, AcqRel) {
            let _ended = self.cell.control(Control::Resume(self.key));
        }
    }
}
