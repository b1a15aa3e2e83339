//! An operation in flight, and the three ways to wait for it.

use crate::context::Cx;
use crate::converted::Converted;
use crate::current;
use crate::driver::about_to_block;
use crate::error::{CallError, Error, ErrorKind, Outcome};
use crate::executor;
use crate::interrupt::{self, WatchesInterrupts};
use crate::name::Name;
use crate::neighbours::Neighbours;
use crate::outbox::{Flushed, Outbox};
use crate::processor::Processor;
use crate::queue::Waiter;
use crate::runtime::RuntimeCore;
use crate::ticket::Ticket;
use crate::time_keeper::Alarm;
use crate::waits_for::{self, Debt, Owed, Shown};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// What an operation must be able to do so that one can wait for it in every way. For those who build on the runtime.
pub trait Operation<T, E>: Send + Sync {
    /// Puts it on its way, or stands in line for room. Asked again after `waker` was woken, until it is ready.
    fn begin(self: Arc<Self>, waiter: &mut Waiter, waker: &Waker) -> Poll<Result<(), E>>;

    /// Leaves the line that `begin` stands in, as if it had not been called. Nothing has been started.
    fn retreat(&self, waiter: &mut Waiter);

    /// Its result, once. `waker` is woken when it is worth asking again.
    fn poll(&self, waker: &Waker) -> Poll<Result<T, E>>;

    /// A cheap look whether a result is there, for spinning.
    fn is_done(&self) -> bool;

    /// Nobody waits any longer. Leaves the line; takes back what can be taken back.
    fn abandon(&self, waiter: &mut Waiter);

    /// Why this thread may not block for it. `None` if it may, and if a result is there already. If this refuses an
    /// operation that was not begun, nothing is started.
    fn refuse_to_block(&self) -> Option<E>;

    /// What would end the wait, for finding circles of waits. `None` if that is not known: then its limit ends it.
    fn debt(self: Arc<Self>) -> Option<Debt> {
        None
    }

    /// The error of a wait that would close a circle of calls: the names of those in it, in order. Only asked for if the
    /// [`debt`](Self::debt) is an answer.
    fn deadlock(&self, circle: Vec<Name>) -> E {
        let _names = circle;
        self.timeout()
    }

    /// The error of a limit that has passed.
    fn timeout(&self) -> E;

    /// As [`begin`](Self::begin), the first time, for one that was [started](Pending::start): it has its place from now
    /// on, and nobody polls it before the result is asked for.
    fn start(self: Arc<Self>, waiter: &mut Waiter, waker: &Waker) -> Poll<Result<(), E>> {
        self.begin(waiter, waker)
    }

    /// As [`begin`](Self::begin), again, for one that was [started](Pending::start): on whatever thread has woken the
    /// waker, perhaps inside somebody's handler. What it does is none of that handler's doing, and it must not block.
    fn go_on(self: Arc<Self>, waiter: &mut Waiter, waker: &Waker) -> Poll<Result<(), E>> {
        self.begin(waiter, waker)
    }

    /// True if the result is there, or is kept for this very operation, for one that was begun. Unlike
    /// [`is_done`](Self::is_done) it is no guess.
    fn has_result(&self) -> bool {
        self.is_done()
    }

    /// [`abandon`](Self::abandon), unless it is done: then it keeps its result. False if that is so.
    fn cancel(&self, waiter: &mut Waiter) -> bool {
        if self.is_done() {
            return false;
        }
        self.abandon(waiter);
        true
    }

    /// It was begun and is to go on, and nobody will ask for its result. By default that needs nothing.
    fn detach(&self, waiter: &mut Waiter) {
        let _waiter = waiter;
    }

    /// What of it still goes on after [`abandon`](Self::abandon), if there can be anything.
    fn clean_up(self: Arc<Self>) -> Option<CleanUp> {
        None
    }

    /// The error of a wait that ended for this reason. By default that of a limit that has passed.
    fn cut_short(&self, why: CutShort) -> E {
        let _why = why;
        self.timeout()
    }

    /// What people call it: `call` for what is written `call(..).wait()`.
    fn what(&self) -> &'static str {
        "operation"
    }

    /// The node it belongs to.
    fn runtime(&self) -> Arc<RuntimeCore>;

    /// How long it may take if nobody says otherwise.
    fn limit(&self) -> Duration;
}

/// Why a wait was cut short, though the operation has not failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CutShort {
    /// The operation was cancelled, or its result was taken before.
    Cancelled,
    /// The program was interrupted: see [`Runtime::interrupt`](crate::Runtime::interrupt).
    Interrupted,
    /// It would have blocked a thread of an async executor, and the node was told to refuse that.
    InExecutor,
}

impl CutShort {
    /// The error of an operation whose own errors have no kind for it. `what` is what was not done.
    pub fn error(self, what: &str) -> Error {
        let (kind, why) = match self {
            Self::Cancelled => (ErrorKind::Cancelled, "it was cancelled"),
            Self::Interrupted => (ErrorKind::Interrupted, "the program was interrupted"),
            Self::InExecutor => (
                ErrorKind::Refused,
                "it would have blocked a thread of an async executor; await it",
            ),
        };
        Error::new(kind, format!("{what}: {why}"))
    }
}

/// What of an abandoned operation still goes on. For those who build operations on the runtime.
pub struct CleanUp(Arc<dyn CleansUp>);

/// See [`CleanUp`].
pub trait CleansUp: Send + Sync {
    /// True if nothing of it goes on any more; else `waker` is woken when that is so.
    fn poll_over(&self, waker: &Waker) -> bool;
}

impl CleanUp {
    /// Of this operation.
    pub fn of(operation: Arc<dyn CleansUp>) -> Self {
        Self(operation)
    }

    pub(crate) fn is_over(&self, waker: &Waker) -> bool {
        self.0.poll_over(waker)
    }
}

impl fmt::Debug for CleanUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CleanUp")
    }
}

/// An operation in flight: a call, or a wait for room.
///
/// It does nothing until it is waited for, in one of these ways:
/// [`wait`](Self::wait) blocks the thread; `.await` works on any executor; [`start`](Self::start) starts it, and its result is
/// collected later; [`then`](Self::then) goes on inside the handler that started it, and no thread waits. A call takes its place
/// in the order of messages at that moment, or at [`begin`](Self::begin).
///
/// Every wait has a limit: 5 seconds unless told otherwise, here or in the node's options.
///
/// # Cancel safety
///
/// Dropping it cancels: a message that is still queued is taken back (and counted as dropped, `Cancelled`); a handler that
/// runs goes on, and its reply is dropped. It never blocks.
#[must_use = "an operation does nothing until it is waited for"]
pub struct Pending<T, E = CallError> {
    pub(crate) op: Arc<dyn Operation<T, E>>,
    waiter: Waiter,
    begun: bool,
    /// `begin` has failed with this; whoever waits gets it.
    refused: Option<E>,
    finished: bool,
    limit: Option<Duration>,
    /// Ends an awaited operation at its limit.
    alarm: Option<Alarm>,
}

impl<T: 'static, E: 'static> Pending<T, E> {
    /// For those who build operations on the runtime.
    pub fn new(op: Arc<dyn Operation<T, E>>) -> Self {
        Self {
            op,
            waiter: Waiter::default(),
            begun: false,
            refused: None,
            finished: false,
            limit: None,
            alarm: None,
        }
    }

    /// As [`new`](Self::new), for an operation that is under way already. Dropping it cancels it.
    pub fn begun(op: Arc<dyn Operation<T, E>>) -> Self {
        let mut pending = Self::new(op);
        pending.begun = true;
        pending
    }

    /// The operation itself, for those who build others on it. One that was begun is cancelled by this.
    pub fn into_operation(mut self) -> Arc<dyn Operation<T, E>> {
        // What was not begun has nothing to be cancelled; a place in a line is left.
        self.finished |= !self.begun;
        self.op.clone()
    }

    /// The same operation, with what `map` makes of its result.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let length = closure(|text: String, _cx| Ok::<_, std::fmt::Error>(text.len()));
    /// let length = node.spawn("length", length)?;
    /// let is_long = length.call("four".to_owned()).map(|length| length > 3);
    /// assert!(is_long.wait()?);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn map<U: 'static>(self, map: impl Fn(T) -> U + Send + Sync + 'static) -> Pending<U, E> {
        self.convert(move |result| Ok(map(result)), |error| error)
    }

    /// The same operation, with what `result` makes of its result and `error` of its errors: for layers whose operations are
    /// others underneath. What was begun stays so.
    pub fn convert<U: 'static, F: 'static>(
        mut self,
        result: impl Fn(T) -> Result<U, F> + Send + Sync + 'static,
        error: impl Fn(E) -> F + Send + Sync + 'static,
    ) -> Pending<U, F> {
        let finished = std::mem::replace(&mut self.finished, true);
        let refused = self.refused.take().map(&error);
        Pending {
            op: Arc::new(Converted {
                op: self.op.clone(),
                result,
                error,
            }),
            waiter: std::mem::take(&mut self.waiter),
            begun: self.begun,
            refused,
            finished,
            limit: self.limit,
            alarm: self.alarm.take(),
        }
    }

    /// The same, with another limit for `.await` and [`then`](Self::then).
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Puts the operation on its way without waiting for it: a call takes its place in the order of messages now, if
    /// there is room; otherwise when it is waited for.
    pub fn begin(&mut self) {
        if self.begun || self.refused.is_some() {
            return;
        }
        match self.op.clone().begin(&mut self.waiter, Waker::noop()) {
            Poll::Ready(Ok(())) => self.begun = true,
            Poll::Ready(Err(error)) => self.refused = Some(error),
            // Nobody is there to use a place that would be granted: others would wait behind it.
            Poll::Pending => self.op.retreat(&mut self.waiter),
        }
    }

    /// Blocks this thread until the result is there, at most as long as the limit allows.
    ///
    /// # Errors
    ///
    /// As the operation says; its own kind of time-out when the limit passes. On a thread that has a script, outside its
    /// callbacks, its own kind of `Interrupted` after [`Runtime::interrupt`](crate::Runtime::interrupt), which Ctrl-C calls: the
    /// operation was cancelled. Inside an async executor as [`Options::blocking_in_executor`](crate::Options::blocking_in_executor)
    /// says.
    ///
    /// # Deadlocks
    ///
    /// Inside a handler, what the handler has sent before is delivered as room comes, before the answer or meanwhile. Waiting
    /// for a processor that only this very thread can run is refused at once, and so is a call that would wait for ever because whoever owes the answer waits,
    /// perhaps over others, for this very thread: [`CallError::Deadlock`] names the circle. The others in it go on. An
    /// answer that was promised for later ([`Cx::reply_later`]) may come from anybody, and is never refused; the limit ends
    /// that wait. On a driver that others share, they wait too: prefer [`then`](Self::then).
    pub fn wait(self) -> Result<T, E> {
        let limit = self.limit.unwrap_or_else(|| self.op.limit());
        self.wait_timeout(limit)
    }

    /// As [`wait`](Self::wait), with this limit. Zero looks once and does not wait.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Deadlocks
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(mut self, limit: Duration) -> Result<T, E> {
        // Whatever ends the wait without a result: the drop that follows cancels.
        self.block(limit).unwrap_or_else(Err)
    }

    /// Blocks this thread until there is a result. The outer error says why it does not wait, or no longer: the operation
    /// goes on, unless it was interrupted.
    pub(crate) fn block(&mut self, limit: Duration) -> Result<Result<T, E>, E> {
        // What was refused when it began says why, and waits for nothing.
        if let Some(error) = self.refused.take() {
            self.finished = true;
            return Ok(Err(error));
        }
        if let Some(refused) = self.op.refuse_to_block() {
            return Err(refused);
        }
        let runtime = self.op.runtime();
        if !limit.is_zero() && executor::refuses(&runtime, self.op.what()) {
            return Err(self.op.cut_short(CutShort::InExecutor));
        }
        let world = &runtime.world;
        let waker = world.waker();
        // The clock is read only if it comes to sleeping.
        let mut deadline = None;
        let mut blocks = None;
        let mut spun = false;
        let mut shown = None;
        let mut neighbours = None;
        let mut interrupts = None;
        loop {
            if let Poll::Ready(result) = self.poll_begun(&waker) {
                return Ok(result);
            }
            let mut outbox = None;
            if current::is_unsettled() {
                // What the handler has sent before may be what the answer needs, and the operation itself may stand behind it.
                if !limit.is_zero() {
                    self.show(&mut shown, &runtime)?;
                }
                outbox = flush_outbox(&runtime, &waker);
                if let Poll::Ready(result) = self.poll_begun(&waker) {
                    return Ok(result);
                }
            }
            if !spun {
                spun = true;
                if !limit.is_zero() && runtime.spin_until(|| self.op.is_done()) {
                    continue;
                }
            }
            let until = *deadline.get_or_insert_with(|| world.now().checked_add(limit));
            if until.is_some_and(|until| world.now() >= until) {
                return Err(self.op.timeout());
            }
            if interrupts
                .get_or_insert_with(|| WatchesInterrupts::of_script(&runtime, &waker))
                .as_ref()
                .is_some_and(WatchesInterrupts::was_interrupted)
            {
                return Err(self.interrupted(&runtime));
            }
            self.show(&mut shown, &runtime)?;
            // The answer may come although something else finds no room: then the handler goes on, and its processor stalls.
            let room = outbox.map(|left| {
                let shown = waits_for::show(Owed::Room(left.blocked_on), &runtime);
                (shown, left.deadline)
            });
            neighbours
                .get_or_insert_with(Neighbours::of_this_thread)
                .deliver(&waker);
            let next = room.as_ref().and_then(|(_, next)| *next);
            blocks.get_or_insert_with(about_to_block);
            world.park(earlier(until, next));
        }
    }

    /// The program was interrupted while this thread waited: cancels, and waits a bounded time for what that leaves.
    fn interrupted(&mut self, runtime: &RuntimeCore) -> E {
        self.finished = true;
        self.op.abandon(&mut self.waiter);
        let left = self.op.clone().clean_up();
        interrupt::wait_for_clean_up(runtime, left.into_iter().collect());
        self.op.cut_short(CutShort::Interrupted)
    }

    /// Shows whom this thread waits for, before it sleeps. Refused if it would wait in a circle of calls.
    fn show(&mut self, shown: &mut Option<Shown>, runtime: &RuntimeCore) -> Result<(), E> {
        if let Some(shown) = shown {
            shown.look_again();
            return Ok(());
        }
        if !current::holds_up_others() {
            return Ok(());
        }
        let Some(debt) = self.op.clone().debt() else {
            return Ok(());
        };
        match waits_for::show(debt.0, runtime) {
            Ok(wait) => {
                *shown = wait;
                Ok(())
            }
            Err(names) => Err(self.op.deadlock(names)),
        }
    }

    /// Goes on in the handler that started it: when the result is there, or the limit has passed, `next` is called with
    /// it as a message to self. No thread waits, and other messages are handled meanwhile.
    ///
    /// The result and `next` are kept with the processor until then, so they must be `Send`; where they are not,
    /// [`then_local`](Self::then_local).
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Address, Cx, Handle, Outcome, Processor, Runtime};
    /// struct Source;
    /// struct Get;
    /// impl Processor for Source {}
    /// impl Handle<Get> for Source {
    ///     type Reply = i64;
    ///     fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> { Ok(7) }
    /// }
    ///
    /// struct Sum { total: i64, source: Address<Source> }
    /// struct Fetch;
    /// impl Processor for Sum {}
    /// impl Handle<Fetch> for Sum {
    ///     type Reply = ();
    ///     fn handle(&mut self, _: Fetch, cx: &mut Cx<'_, Self>) -> Outcome<()> {
    ///         self.source.call(Get).then(cx, |me, reply, _cx| {
    ///             me.total += reply?;
    ///             Ok(())
    ///         });
    ///         Ok(())
    ///     }
    /// }
    /// impl Handle<Get> for Sum {
    ///     type Reply = i64;
    ///     fn handle(&mut self, _: Get, _: &mut Cx<'_, Self, i64>) -> Outcome<i64> { Ok(self.total) }
    /// }
    ///
    /// let node = Runtime::simulated(1);
    /// let source = node.spawn_thread("source", Source)?;
    /// let sum = node.spawn_thread("sum", Sum { total: 0, source })?;
    /// sum.send(Fetch)?;
    /// node.settle();
    /// assert_eq!(sum.call(Get).wait()?, 7);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn then<P: Processor, R: 'static>(
        self,
        cx: &mut Cx<'_, P, R>,
        next: impl FnOnce(&mut P, Result<T, E>, &mut Cx<'_, P>) -> Outcome<()> + Send + 'static,
    ) where
        T: Send,
        E: Send,
    {
        let limit = self.limit.unwrap_or_else(|| self.op.limit());
        cx.continue_with(self, limit, next);
    }

    /// As [`then`](Self::then), for a `next` or a result that is not `Send`. Not on a pool, whose processors go from thread
    /// to thread.
    ///
    /// # Panics
    ///
    /// If the processor runs on a pool. The operation is then cancelled, as by dropping it.
    #[track_caller]
    pub fn then_local<P: Processor, R: 'static>(
        self,
        cx: &mut Cx<'_, P, R>,
        next: impl FnOnce(&mut P, Result<T, E>, &mut Cx<'_, P>) -> Outcome<()> + 'static,
    ) {
        cx.must_stay();
        let limit = self.limit.unwrap_or_else(|| self.op.limit());
        cx.continue_with(self, limit, next);
    }

    /// It is to go on without being polled. False if it stands in line for room, where somebody must take its place.
    pub(crate) fn start_here(&mut self) -> bool {
        if self.begun || self.refused.is_some() {
            return true;
        }
        match self.op.clone().start(&mut self.waiter, Waker::noop()) {
            Poll::Ready(Ok(())) => self.begun = true,
            Poll::Ready(Err(error)) => self.refused = Some(error),
            Poll::Pending => return false,
        }
        true
    }

    /// Where it stands in line, for whoever stands there in its place.
    pub(crate) fn take_waiter(&mut self) -> Waiter {
        std::mem::take(&mut self.waiter)
    }

    pub(crate) fn waiter(&mut self) -> &mut Waiter {
        &mut self.waiter
    }

    /// The same operation by another name: nothing of it has begun.
    pub(crate) fn replace_with(&mut self, op: Arc<dyn Operation<T, E>>) {
        self.op = op;
    }

    /// True once it has given its result, or was refused or given up.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// It could not begin, and nobody was told yet.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// Nobody asks any more, and nothing is to be cancelled.
    pub(crate) fn finish(&mut self) {
        self.finished = true;
    }

    /// A result is there, or is kept for it.
    pub(crate) fn has_result(&self) -> bool {
        self.finished || self.refused.is_some() || self.op.has_result()
    }

    pub(crate) fn own_limit(&self) -> Duration {
        self.limit.unwrap_or_else(|| self.op.limit())
    }

    pub(crate) fn poll_begun(&mut self, waker: &Waker) -> Poll<Result<T, E>> {
        if let Some(error) = self.refused.take() {
            self.finished = true;
            return Poll::Ready(Err(error));
        }
        if !self.begun {
            match self.op.clone().begin(&mut self.waiter, waker) {
                Poll::Ready(Ok(())) => self.begun = true,
                Poll::Ready(Err(error)) => {
                    self.finished = true;
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        let poll = self.op.poll(waker);
        self.finished |= poll.is_ready();
        poll
    }

    /// The limit has passed.
    pub(crate) fn give_up(&mut self) -> E {
        self.finished = true;
        self.op.abandon(&mut self.waiter);
        self.op.timeout()
    }
}

impl<T: 'static, E: Send + 'static> Pending<T, E> {
    /// Starts the operation, and gives a [`Ticket`] to collect its result with later. From now on it goes on by itself: a
    /// call takes its place in the order of messages, also if it must stand in line for room first; a receive or a
    /// reservation has its place in the line.
    ///
    /// # Examples
    ///
    /// Many at once, from a thread that blocks only for the results:
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let square = closure(|n: u64, _cx| Ok::<_, std::fmt::Error>(n * n));
    /// let square = node.spawn_thread("square", square)?;
    /// let tickets: Vec<_> = (1..=3).map(|n| square.call(n).start()).collect();
    /// let squares: Result<Vec<_>, _> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn start(self) -> Ticket<T, E> {
        Ticket::start(self)
    }
}

/// Before a handler blocks, what it has sent is delivered: whoever must answer may need it.
pub(crate) fn deliver_outbox(runtime: &RuntimeCore, deadline: Option<Instant>) {
    let Some(mut outbox) = current::with_handling(|h| {
        h.filter(|h| !h.outbox.is_empty())
            .map(|h| std::mem::take(&mut h.outbox))
    }) else {
        return;
    };
    let faults = outbox.block_until_below(1, runtime, deadline);
    current::with_handling(|h| {
        if let Some(h) = h {
            h.put_back(outbox);
            h.faults.extend(faults);
        }
    });
}

/// Tries once to deliver what the handler has sent. What it is blocked on, if something is left.
fn flush_outbox(runtime: &RuntimeCore, waker: &Waker) -> Option<Flushed> {
    loop {
        // Out of the thread's hands while user code (a message's drop) may run.
        let mut outbox = current::with_handling(|h| {
            h.filter(|h| !h.outbox.is_empty())
                .map(|h| std::mem::take(&mut h.outbox))
        })?;
        let mut flushed = outbox.flush(waker, Some(runtime.world.now()));
        let given_up = std::mem::take(&mut flushed.given_up);
        let left = outbox.len();
        let more = current::with_handling(|h| {
            h.is_some_and(|h| {
                h.given_up += given_up.len() as u64;
                h.faults.extend(given_up.into_iter().filter_map(|(_, f)| f));
                h.put_back(outbox)
            })
        });
        if !more {
            return (left > 0).then_some(flushed);
        }
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl Outbox {
    /// Waits on this thread until fewer than `count` entries are left, or the deadline has passed.
    pub(crate) fn block_until_below(
        &mut self,
        count: usize,
        runtime: &RuntimeCore,
        deadline: Option<Instant>,
    ) -> Vec<crate::Fault> {
        let mut faults = Vec::new();
        let waker = runtime.world.waker();
        let mut blocks = None;
        let mut neighbours = None;
        loop {
            let now = runtime.world.now();
            let flushed = self.flush(&waker, Some(now));
            // Its handling is on this thread.
            let given_up = flushed.given_up.len() as u64;
            current::with_handling(|h| {
                if let Some(h) = h {
                    h.given_up += given_up;
                }
            });
            faults.extend(flushed.given_up.into_iter().filter_map(|(_, f)| f));
            if self.len() < count || deadline.is_some_and(|d| d <= now) {
                return faults;
            }
            // The edge shows while the thread waits; a member of the circle that can run is let run.
            let shown = waits_for::show(Owed::Room(flushed.blocked_on), runtime);
            neighbours
                .get_or_insert_with(Neighbours::of_this_thread)
                .deliver(&waker);
            blocks.get_or_insert_with(about_to_block);
            runtime.world.park(earlier(flushed.deadline, deadline));
            drop(shown);
        }
    }
}

/// `.await` on any executor. At the limit it ends with the operation's time-out.
impl<T: 'static, E: 'static> Future for Pending<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Poll::Ready(result) = this.poll_begun(context.waker()) {
            this.alarm = None;
            return Poll::Ready(result);
        }
        let limit = this.limit.unwrap_or_else(|| this.op.limit());
        let alarm = this
            .alarm
            .get_or_insert_with(|| Alarm::new(&this.op.runtime(), limit));
        if alarm.poll(context.waker()) {
            this.alarm = None;
            return Poll::Ready(Err(this.give_up()));
        }
        if alarm.take_interrupt() {
            this.alarm = None;
            this.finished = true;
            this.op.abandon(&mut this.waiter);
            return Poll::Ready(Err(this.op.cut_short(CutShort::Interrupted)));
        }
        Poll::Pending
    }
}

// Nothing in it is pinned: the operation is behind an `Arc`.
impl<T, E> Unpin for Pending<T, E> {}

impl<T, E> Drop for Pending<T, E> {
    fn drop(&mut self) {
        if !self.finished {
            self.op.abandon(&mut self.waiter);
            interrupt::note_abandoned(|| self.op.clone().clean_up());
        } else if self.waiter.is_enlisted() {
            self.op.retreat(&mut self.waiter);
        }
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("begun", &self.begun)
            .field("is_done", &self.op.is_done())
            .finish_non_exhaustive()
    }
}
