//! Handles for sending.

use crate::cell::{Cell, Refused, Watcher};
use crate::context::{Cx, Promise, ReplySlot};
use crate::current;
use crate::dead_letters::DropCause;
use crate::error::{CallError, Fault, ReserveError, SendError, TrySendError};
use crate::exit::{Down, Exit};
use crate::id::ProcessorId;
use crate::mailbox::{Control, Lane, Signals};
use crate::name::Name;
use crate::outbox::{Attempt, OUTBOX_CAPACITY, OutboxKey, Undelivered};
use crate::parcel::Parcel;
use crate::pending::{Operation, Pending};
use crate::processor::{Handle, Processor};
use crate::queue::{Reserve, Ticket, WhenFull};
use crate::runtime::RuntimeCore;
use crate::snapshot::ProcessorSnapshot;
use crate::sync::{Acquire, AtomicBool, Mutex, Release};
use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// A processor to send to. Cheap to clone; `Send + Sync` whatever the processor is.
///
/// Holding an address does not keep the processor from ending, and dropping the last one does not end it.
pub struct Address<P: Processor> {
    cell: Arc<Cell<P>>,
    lane: Lane,
}

/// An address that does not keep the processor's memory.
pub struct WeakAddress<P: Processor>(Weak<Cell<P>>);

/// A message on its way by `send`.
pub(crate) struct Told<M>(pub(crate) M);

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Told<M> {
    #[inline]
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        cx.handle_now(processor, self.0);
    }

    fn discard(self, _: DropCause, _: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(self.0))
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
    }
}

/// A message on its way by `forward`, with the promise that another processor gave.
struct Forwarded<M, R: 'static> {
    message: M,
    slot: Option<Arc<dyn ReplySlot<R>>>,
}

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Forwarded<M, P::Reply> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        cx.handle_for(processor, self.message, Promise::owed(self.slot));
    }

    fn discard(self, _: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        if let Some(slot) = self.slot {
            slot.answer(Err(discarded(exit)));
        }
        Some(Box::new(self.message))
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
    }
}

fn discarded(exit: Option<&Exit>) -> CallError {
    match exit {
        Some(exit) => CallError::Stopped(exit.clone()),
        None => CallError::Dropped,
    }
}

impl<P: Processor> Address<P> {
    pub(crate) fn from_cell(cell: Arc<Cell<P>>) -> Self {
        Self {
            cell,
            lane: Lane::Normal,
        }
    }

    pub(crate) fn cell(&self) -> &Arc<Cell<P>> {
        &self.cell
    }

    /// The processor's id: never used again.
    pub fn id(&self) -> ProcessorId {
        self.cell.id
    }

    /// The processor's name. After its end the name may belong to another.
    pub fn name(&self) -> &Name {
        &self.cell.name
    }

    /// The same processor by its high lane, which is served before the normal one. Order holds within a lane. The high
    /// lane has as many places as the normal one, and they are its own.
    pub fn high(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            lane: Lane::High,
        }
    }

    /// An address that does not keep the processor's memory.
    pub fn downgrade(&self) -> WeakAddress<P> {
        WeakAddress(Arc::downgrade(&self.cell))
    }

    /// True if the processor takes no more messages: it has ended, or drains.
    pub fn is_closed(&self) -> bool {
        self.cell.is_closed()
    }

    /// Why the processor ended; `None` while it lives.
    pub fn exit(&self) -> Option<Exit> {
        self.cell.ended()
    }

    /// Sends `message`, waiting for room at most as long as the node's send limit says (5 seconds by default).
    ///
    /// Returns once the message is queued, not once it is handled; to wait for an answer, use [`call`](Self::call).
    /// Messages from one sender through one lane are handled in the order sent.
    ///
    /// # Errors
    ///
    /// Each gives `message` back; see [`SendError`].
    ///
    /// # Deadlocks
    ///
    /// Inside a handler this does not wait: a message without room goes to the handler's outbox, and the sending
    /// processor takes no more messages until it is delivered. If that never happens it becomes a dead letter.
    ///
    /// On the thread of a script whose own callbacks would have to make room, it is refused with
    /// [`Deadlock`](SendError::Deadlock).
    #[inline]
    pub fn send<M: Send + 'static>(&self, message: M) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        self.send_within(message, None)
    }

    /// As [`send`](Self::send), waiting at most `limit`.
    ///
    /// # Errors
    ///
    /// Each gives `message` back; see [`SendError`].
    ///
    /// # Deadlocks
    ///
    /// As [`send`](Self::send).
    pub fn send_timeout<M: Send + 'static>(
        &self,
        message: M,
        limit: Duration,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        self.send_within(message, Some(limit))
    }

    /// Sends `message` if there is room now. Never waits, and never overtakes those who do.
    ///
    /// # Errors
    ///
    /// Each gives `message` back; see [`TrySendError`].
    pub fn try_send<M: Send + 'static>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        P: Handle<M>,
    {
        if current::outbox_holds(self.key()) {
            self.cell.count_returned();
            return Err(TrySendError::Full(message));
        }
        match self.cell.offer(self.lane, Told(message), true) {
            Ok(()) => Ok(()),
            Err(Refused::Full(Told(m))) => Err(TrySendError::Full(m)),
            Err(Refused::Closed(Told(m))) => Err(TrySendError::Closed(m)),
        }
    }

    /// Reserves a place: the permit's send cannot fail for want of room.
    ///
    /// # Errors
    ///
    /// [`ReserveError`], from waiting for it.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{MailboxOptions, Runtime, TrySendError, closure};
    /// let node = Runtime::simulated(1);
    /// let one = MailboxOptions::bounded(1);
    /// let sink = node.spawn_thread_with("sink", one, closure(|_: &str, _cx| ()))?;
    /// let permit = sink.reserve().wait()?;
    /// assert!(matches!(sink.try_send("overtakes"), Err(TrySendError::Full(_))));
    /// permit.send("has its place")?;
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn reserve(&self) -> Pending<Permit<P>, ReserveError> {
        Pending::new(Arc::new(Reservation {
            target: self.clone(),
            granted: AtomicBool::new(false),
        }))
    }

    /// Sends `message` and gives a [`Pending`] for the reply. Nothing is sent before that is waited for.
    ///
    /// # Errors
    ///
    /// [`CallError`], from waiting for the reply; within 5 seconds unless told otherwise.
    pub fn call<M: Send + 'static>(&self, message: M) -> Pending<P::Reply>
    where
        P: Handle<M>,
    {
        Pending::new(Arc::new(Call {
            target: self.clone(),
            done: AtomicBool::new(false),
            state: Mutex::new(CallState {
                message: Some(message),
                sent: false,
                cancelled: false,
                result: None,
                waker: None,
            }),
        }))
    }

    /// Asks the processor to end after its current message. What is queued is dropped and counted.
    pub fn stop(&self) {
        self.signal(Signals::STOP);
    }

    /// Closes the mailbox, lets the processor handle what is queued, then ends it.
    pub fn drain(&self) {
        self.signal(Signals::DRAIN);
    }

    /// Ends the processor as soon as its current handler returns, and drops what is queued, counted as `Killed`.
    pub fn kill(&self) {
        self.signal(Signals::KILL);
    }

    fn signal(&self, signal: Signals) {
        use crate::cell::AnyCell as _;
        self.cell.clone().signal(signal);
    }

    /// Waits for the processor's end. Gives its [`Down`] at once if it has ended.
    pub fn ended(&self) -> Pending<Down, CallError> {
        Pending::new(Arc::new(Ended {
            target: self.clone(),
            state: Arc::new(Mutex::new(EndedState::default())),
        }))
    }

    /// What is known of it now.
    pub fn snapshot(&self) -> ProcessorSnapshot {
        use crate::cell::AnyCell as _;
        self.cell.snapshot()
    }

    /// Has `f` called with the processor on its driver's thread, as if it were a message of the control lane: it needs
    /// no room and no handler. For layers that attach something to a processor; programs send messages.
    ///
    /// # Errors
    ///
    /// Gives `f` back unused, as a closed error, if the processor has ended.
    pub fn with_processor(
        &self,
        f: impl FnOnce(&mut P, &mut Cx<'_, P>) + Send + 'static,
    ) -> Result<(), crate::Error> {
        self.cell.control(Control::Do(Box::new(f))).map_err(|_| {
            crate::Error::new(
                crate::ErrorKind::Closed,
                format!("processor {:?} has ended", self.name().as_str()),
            )
        })
    }

    pub(crate) fn watch_with(&self, number: u64, tell: Box<dyn FnOnce(Down) + Send>) {
        use crate::cell::AnyCell as _;
        self.cell.watch(Watcher { number, tell });
    }

    pub(crate) fn unwatch(&self, number: u64) {
        use crate::cell::AnyCell as _;
        self.cell.unwatch(number);
    }

    fn key(&self) -> OutboxKey {
        OutboxKey::Mailbox(self.cell.id, self.lane as u8)
    }

    fn waits(&self) -> bool {
        self.cell.mailbox.when_full == WhenFull::Wait
    }

    fn runtime(&self) -> &Arc<RuntimeCore> {
        self.cell.driver.runtime()
    }

    /// For a thread that would have to wait: true if only it can make room.
    fn only_here(&self) -> bool {
        current::only_here(self.cell.driver.id())
    }

    #[inline]
    fn send_within<M: Send + 'static>(
        &self,
        message: M,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        let behind = current::outbox_holds(self.key());
        if behind {
            return self.spill(Told(message), limit);
        }
        match self.cell.offer(self.lane, Told(message), false) {
            Ok(()) => Ok(()),
            Err(Refused::Full(told)) => self.send_slowly(told, limit),
            Err(Refused::Closed(Told(m))) => {
                self.cell.count_returned();
                Err(SendError::Closed(m))
            }
        }
    }

    #[cold]
    fn send_slowly<M: Send + 'static>(
        &self,
        told: Told<M>,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        let refused = if !self.waits() {
            Some(SendError::Full as fn(M) -> SendError<M>)
        } else if limit.is_some_and(|l| l.is_zero()) {
            Some(SendError::Timeout as fn(M) -> SendError<M>)
        } else if current::handler().is_some() {
            return self.spill(told, limit);
        } else if self.only_here() {
            Some(SendError::Deadlock as fn(M) -> SendError<M>)
        } else {
            None
        };
        match refused {
            Some(why) => {
                self.cell.count_returned();
                Err(why(told.0))
            }
            None => self.wait_for_room(told, limit),
        }
    }

    /// Inside a handler: the message goes to the outbox.
    fn spill<M: Send + 'static>(
        &self,
        told: Told<M>,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        match spill(self, told, limit) {
            Ok(()) => Ok(()),
            Err(Told(m)) => {
                self.cell.count_returned();
                Err(SendError::Full(m))
            }
        }
    }

    fn wait_for_room<M: Send + 'static>(
        &self,
        told: Told<M>,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        let runtime = self.runtime();
        let world = &runtime.world;
        // First look on for a moment: a consumer in the middle of its batch frees places faster than this thread could
        // go to sleep and be woken. Wait for several, or each would be fought for.
        let progress = self.cell.mailbox.progress.of(self.lane);
        let some = (self.cell.mailbox.capacity / 2).clamp(1, 64);
        let mut told = told;
        let mut left = world.spins();
        while left > 0 {
            let before = progress.rest();
            while left > 0 {
                left -= 1;
                crate::sync::spin_loop();
                let now = progress.rest();
                if (before == 0 && now > 0) || now + some <= before || (now == 0 && before > 0) {
                    break;
                }
            }
            told = match self.cell.offer(self.lane, told, false) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(told)) => told,
                Err(Refused::Closed(Told(m))) => {
                    self.cell.count_returned();
                    return Err(SendError::Closed(m));
                }
            };
        }
        let deadline = world
            .now()
            .checked_add(limit.unwrap_or(runtime.options.send_limit));
        let waker = world.waker();
        let mut ticket = Ticket::default();
        let mut parcel = Some(told);
        loop {
            match self
                .cell
                .poll_push(self.lane, &mut ticket, &waker, &mut parcel)
            {
                Reserve::Granted => return Ok(()),
                Reserve::Closed => {
                    self.cell.count_returned();
                    return Err(SendError::Closed(unsent(parcel)));
                }
                Reserve::Full => {}
            }
            if deadline.is_some_and(|d| world.now() >= d) {
                self.cell.resign(self.lane, &mut ticket);
                self.cell.count_returned();
                return Err(SendError::Timeout(unsent(parcel)));
            }
            world.park(deadline);
        }
    }

    pub(crate) fn send_forwarded<M: Send + 'static>(
        &self,
        message: M,
        slot: Option<Arc<dyn ReplySlot<P::Reply>>>,
    ) where
        P: Handle<M>,
    {
        let parcel = Forwarded { message, slot };
        let behind = current::outbox_holds(self.key());
        let refused = if behind {
            Refused::Full(parcel)
        } else {
            match self.cell.offer(self.lane, parcel, false) {
                Ok(()) => return,
                Err(refused) => refused,
            }
        };
        let (parcel, error, cause) = match refused {
            Refused::Full(parcel) if self.waits() => match spill(self, parcel, None) {
                Ok(()) => return,
                Err(parcel) => (parcel, CallError::Full, DropCause::NoRoom),
            },
            Refused::Full(parcel) => (parcel, CallError::Full, DropCause::NoRoom),
            Refused::Closed(parcel) => {
                let exit = self.cell.ended().unwrap_or(Exit::Stopped);
                (parcel, CallError::Stopped(exit), DropCause::TargetEnded)
            }
        };
        let Forwarded { message, slot } = parcel;
        if let Some(slot) = slot {
            self.cell.count_returned();
            slot.answer(Err(error));
            return;
        }
        // Nobody waits for it and nobody gets it back: whoever forwarded it is told, and it becomes a dead letter.
        let message_type = std::any::type_name::<M>();
        let name = &self.cell.name;
        let fault = Fault::new(format!(
            "cannot forward {message_type} to {name:?}: {error}"
        ));
        current::with_handling(|h| {
            if let Some(h) = h {
                h.given_up += 1;
                h.faults.push(fault);
            }
        });
        crate::hook::dropped(name, message_type, cause);
        self.runtime().dead_letters.record(
            (Some(self.cell.id), name.clone()),
            message_type,
            cause,
            self.runtime().world.now(),
            Some(Box::new(message)),
        );
    }
}

fn unsent<M>(parcel: Option<Told<M>>) -> M {
    match parcel {
        Some(Told(message)) => message,
        None => unreachable!("the parcel is taken only when a place was granted"),
    }
}

/// Puts a parcel into the outbox of the handler that the thread is in. Gives it back if the outbox is at its cap, or if
/// there is no handler.
fn spill<P: Processor, D: Parcel<P>>(
    address: &Address<P>,
    parcel: D,
    limit: Option<Duration>,
) -> Result<(), D> {
    let runtime = address.runtime();
    let now = runtime.world.now();
    let deadline = now.checked_add(limit.unwrap_or(runtime.options.send_limit));
    make_room_in_outbox(runtime, deadline);
    current::with_handling(|h| match h {
        Some(h) if h.outbox.len() < OUTBOX_CAPACITY => {
            let entry = Spilled {
                target: address.clone(),
                ticket: Ticket::default(),
                parcel: Some(parcel),
            };
            h.outbox.push(address.key(), Box::new(entry), deadline);
            Ok(())
        }
        _ => Err(parcel),
    })
}

/// On a driver that serves one processor alone, a full outbox makes the thread wait.
pub(crate) fn make_room_in_outbox(runtime: &RuntimeCore, deadline: Option<Instant>) {
    let taken = current::with_handling(|h| {
        h.filter(|h| h.may_block && h.outbox.len() >= OUTBOX_CAPACITY)
            .map(|h| (h.id, std::mem::take(&mut h.outbox)))
    });
    if let Some((id, mut outbox)) = taken {
        let faults = outbox.block_until_below(OUTBOX_CAPACITY, id, runtime, deadline);
        current::with_handling(|h| {
            if let Some(h) = h {
                h.put_back(outbox);
                h.faults.extend(faults);
            }
        });
    }
}

/// Puts something that found no room into the outbox of the handler that the thread is in. It is tried again until
/// `limit` has passed.
///
/// For layers that deliver in their own way. Gives it back if the thread is in no handler, or the outbox is at its cap.
pub fn spill_undelivered(
    runtime: &crate::Runtime,
    key: OutboxKey,
    what: Box<dyn Undelivered>,
    limit: Duration,
) -> Result<(), Box<dyn Undelivered>> {
    let core = runtime.core();
    let deadline = core.world.now().checked_add(limit);
    make_room_in_outbox(core, deadline);
    current::with_handling(|h| match h {
        Some(h) if h.outbox.len() < OUTBOX_CAPACITY => {
            h.outbox.push(key, what, deadline);
            Ok(())
        }
        _ => Err(what),
    })
}

/// True if the handler that the thread is in has something under `key` in its outbox: what comes later must stand behind.
pub fn outbox_holds(key: OutboxKey) -> bool {
    current::outbox_holds(key)
}

/// A parcel in an outbox.
struct Spilled<P: Processor, D: Parcel<P>> {
    target: Address<P>,
    ticket: Ticket,
    parcel: Option<D>,
}

impl<P: Processor, D: Parcel<P>> Undelivered for Spilled<P, D> {
    fn attempt(&mut self, waker: &Waker) -> Attempt {
        let cell = &self.target.cell;
        match cell.poll_push(self.target.lane, &mut self.ticket, waker, &mut self.parcel) {
            Reserve::Granted => Attempt::Delivered,
            Reserve::Full => Attempt::Blocked(Some(cell.id)),
            Reserve::Closed => Attempt::Ended,
        }
    }

    fn give_up(mut self: Box<Self>, cause: DropCause) -> Option<Fault> {
        let cell = &self.target.cell;
        cell.resign(self.target.lane, &mut self.ticket);
        let parcel = self.parcel.take()?;
        let message_type = D::message_type();
        crate::hook::dropped(&cell.name, message_type, cause);
        let exit = cell.ended();
        let message = parcel.discard(cause, exit.as_ref());
        self.target.runtime().dead_letters.record(
            (Some(cell.id), cell.name.clone()),
            message_type,
            cause,
            self.target.runtime().world.now(),
            message,
        );
        None
    }
}

impl<P: Processor> WeakAddress<P> {
    /// The address, unless the processor has ended and nobody holds its memory.
    pub fn upgrade(&self) -> Option<Address<P>> {
        self.0.upgrade().map(Address::from_cell)
    }
}

/// A reserved place in a mailbox. Dropping it gives the place back.
#[must_use = "dropping the permit gives the place back"]
pub struct Permit<P: Processor> {
    target: Option<Address<P>>,
}

impl<P: Processor> Permit<P> {
    /// Sends `message` into the reserved place. Never waits.
    ///
    /// # Errors
    ///
    /// [`Closed`](TrySendError::Closed), with the message, if the processor has ended.
    pub fn send<M: Send + 'static>(mut self, message: M) -> Result<(), TrySendError<M>>
    where
        P: Handle<M>,
    {
        match self.target.take() {
            Some(target) => target
                .cell
                .push_reserved(target.lane, Told(message))
                .map_err(|Told(m)| TrySendError::Closed(m)),
            None => Err(TrySendError::Closed(message)),
        }
    }
}

impl<P: Processor> Drop for Permit<P> {
    fn drop(&mut self) {
        if let Some(target) = self.target.take() {
            target.cell.release_place(target.lane);
        }
    }
}

impl<P: Processor> fmt::Debug for Permit<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permit({:?})", self.target)
    }
}

struct Reservation<P: Processor> {
    target: Address<P>,
    granted: AtomicBool,
}

impl<P: Processor> Operation<Permit<P>, ReserveError> for Reservation<P> {
    fn begin(
        self: Arc<Self>,
        ticket: &mut Ticket,
        waker: &Waker,
    ) -> Poll<Result<(), ReserveError>> {
        if self.granted.load(Acquire) {
            return Poll::Ready(Ok(()));
        }
        match self
            .target
            .cell
            .poll_reserve(self.target.lane, ticket, waker)
        {
            Reserve::Granted => {
                self.granted.store(true, Release);
                Poll::Ready(Ok(()))
            }
            Reserve::Closed => Poll::Ready(Err(ReserveError::Closed)),
            Reserve::Full if !self.target.waits() => {
                self.target.cell.resign(self.target.lane, ticket);
                Poll::Ready(Err(ReserveError::Full))
            }
            Reserve::Full => Poll::Pending,
        }
    }

    fn retreat(&self, ticket: &mut Ticket) {
        self.target.cell.resign(self.target.lane, ticket);
    }

    fn poll(&self, _: &Waker) -> Poll<Result<Permit<P>, ReserveError>> {
        // Acquire pairs with the Release in `begin`, which may have run on another thread.
        if self.granted.swap(false, Acquire) {
            Poll::Ready(Ok(Permit {
                target: Some(self.target.clone()),
            }))
        } else {
            Poll::Pending
        }
    }

    fn is_done(&self) -> bool {
        self.granted.load(Acquire)
    }

    fn abandon(&self, ticket: &mut Ticket) {
        self.target.cell.resign(self.target.lane, ticket);
        if self.granted.swap(false, Acquire) {
            self.target.cell.release_place(self.target.lane);
        }
    }

    fn refuse_to_block(&self) -> Option<ReserveError> {
        if !self.target.only_here() || self.granted.load(Acquire) {
            return None;
        }
        // With room there is nothing to wait for.
        match self.target.cell.try_reserve(self.target.lane) {
            Reserve::Granted => {
                self.granted.store(true, Release);
                None
            }
            Reserve::Closed => None,
            Reserve::Full => Some(ReserveError::Deadlock),
        }
    }

    fn timeout(&self) -> ReserveError {
        ReserveError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.target.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.target.runtime().options.send_limit
    }
}

/// A call: its message on the way there, its reply on the way back, and who waits. One allocation for all of it.
struct Call<P: Handle<M>, M> {
    target: Address<P>,
    /// Set after `state.result`, so that a spinning caller need not lock.
    done: AtomicBool,
    state: Mutex<CallState<M, P::Reply>>,
}

struct CallState<M, R> {
    /// Until the handler takes it, or the caller takes it back.
    message: Option<M>,
    sent: bool,
    cancelled: bool,
    result: Option<Result<R, CallError>>,
    waker: Option<Waker>,
}

/// A call's message in a mailbox.
struct Asked<P: Handle<M>, M>(Arc<Call<P, M>>);

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Asked<P, M> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let message = self.0.state.lock().message.take();
        match message {
            Some(message) => cx.handle_for(processor, message, Promise::owed(Some(self.0))),
            // The caller gave up and took it back.
            None => cx.uncount_cancelled(),
        }
    }

    fn discard(self, _: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        let message = self.0.state.lock().message.take();
        self.0.answer(Err(discarded(exit)));
        message.map(|m| Box::new(m) as _)
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
    }
}

impl<P: Handle<M>, M: Send> ReplySlot<P::Reply> for Call<P, M> {
    fn answer(&self, result: Result<P::Reply, CallError>) {
        let waker = {
            let mut state = self.state.lock();
            if state.cancelled || state.result.is_some() || self.done.load(Acquire) {
                return;
            }
            state.result = Some(result);
            // Release pairs with the Acquire in `is_done`.
            self.done.store(true, Release);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<P: Handle<M>, M: Send + 'static> Operation<P::Reply, CallError> for Call<P, M> {
    fn begin(self: Arc<Self>, ticket: &mut Ticket, waker: &Waker) -> Poll<Result<(), CallError>> {
        if current::handler().is_some() {
            // It may have stood in line outside. Here it takes its place among what the handler sends.
            self.target.cell.resign(self.target.lane, ticket);
        }
        // `sent` is set before the parcel is on its way: its handler may answer before we come back.
        self.state.lock().sent = true;
        let target = &self.target;
        let mut parcel = Some(Asked(self.clone()));
        let result = if current::handler().is_some() {
            self.begin_in_handler(&mut parcel)
        } else if target.waits() {
            match target
                .cell
                .poll_push(target.lane, ticket, waker, &mut parcel)
            {
                Reserve::Granted => return Poll::Ready(Ok(())),
                Reserve::Full => {
                    self.state.lock().sent = false;
                    return Poll::Pending;
                }
                Reserve::Closed => Err(self.stopped()),
            }
        } else {
            match target.cell.offer(target.lane, Asked(self.clone()), false) {
                Ok(()) => Ok(()),
                Err(Refused::Full(_)) => Err(CallError::Full),
                Err(Refused::Closed(_)) => Err(self.stopped()),
            }
        };
        if result.is_err() {
            self.state.lock().sent = false;
            target.cell.count_returned();
        }
        Poll::Ready(result)
    }

    fn retreat(&self, ticket: &mut Ticket) {
        self.target.cell.resign(self.target.lane, ticket);
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<P::Reply, CallError>> {
        // Made before the lock is taken and dropped after it: a waker's clone and drop are the user's code.
        let mut waker = (!self.is_done()).then(|| waker.clone());
        let mut state = self.state.lock();
        match state.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                Poll::Pending
            }
        }
    }

    fn is_done(&self) -> bool {
        self.done.load(Acquire)
    }

    fn abandon(&self, ticket: &mut Ticket) {
        self.target.cell.resign(self.target.lane, ticket);
        // Dropped after the lock is released: a message's drop is the user's code.
        let _dropped = {
            let mut state = self.state.lock();
            state.cancelled = true;
            (
                state.message.take(),
                state.result.take(),
                state.waker.take(),
            )
        };
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        let target = &self.target;
        if !target.only_here() || self.is_done() {
            return None;
        }
        let mut names = vec![target.cell.name.clone()];
        if let Some(id) = current::handler()
            && id != target.cell.id
            && let Some(name) = target.cell.driver.member_name(id)
        {
            names.insert(0, name);
        }
        Some(CallError::Deadlock(names))
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.target.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.target.runtime().options.call_limit
    }
}

impl<P: Handle<M>, M: Send + 'static> Call<P, M> {
    fn stopped(&self) -> CallError {
        CallError::Stopped(self.target.cell.ended().unwrap_or(Exit::Stopped))
    }

    /// A call inside a handler has its place among what the handler sends: in the mailbox, or in the outbox.
    fn begin_in_handler(
        self: &Arc<Self>,
        parcel: &mut Option<Asked<P, M>>,
    ) -> Result<(), CallError> {
        let target = &self.target;
        let Some(asked) = parcel.take() else {
            return Ok(());
        };
        let behind = current::outbox_holds(target.key());
        let refused = if behind {
            Refused::Full(asked)
        } else {
            match target.cell.offer(target.lane, asked, false) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            }
        };
        match refused {
            Refused::Full(asked) if target.waits() => {
                spill(target, asked, None).map_err(|_| CallError::Full)
            }
            Refused::Full(_) => Err(CallError::Full),
            Refused::Closed(_) => Err(self.stopped()),
        }
    }
}

impl<P: Processor, R: 'static> Cx<'_, P, R> {
    /// Handles a message for whoever waits behind `promise`.
    #[inline]
    pub(crate) fn handle_for<M>(
        &mut self,
        processor: &mut P,
        message: M,
        promise: Promise<P::Reply>,
    ) where
        P: Handle<M>,
    {
        let mut cx = self.with_promise(promise);
        let outcome = processor.handle(message, &mut cx);
        cx.conclude(processor, outcome);
    }
}

#[derive(Default)]
struct EndedState {
    down: Option<Down>,
    waker: Option<Waker>,
    watching: Option<u64>,
}

struct Ended<P: Processor> {
    target: Address<P>,
    state: Arc<Mutex<EndedState>>,
}

impl<P: Processor> Operation<Down, CallError> for Ended<P> {
    fn begin(self: Arc<Self>, _: &mut Ticket, waker: &Waker) -> Poll<Result<(), CallError>> {
        let number = next_watch();
        {
            let mut state = self.state.lock();
            state.waker = Some(waker.clone());
            state.watching = Some(number);
        }
        let shared = self.state.clone();
        self.target.watch_with(
            number,
            Box::new(move |down| {
                let waker = {
                    let mut state = shared.lock();
                    state.down = Some(down);
                    state.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            }),
        );
        Poll::Ready(Ok(()))
    }

    fn retreat(&self, _: &mut Ticket) {
        // It stands in no line.
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Down, CallError>> {
        // Made before the lock is taken and dropped after it, as in `Call::poll`.
        let mut waker = Some(waker.clone());
        let mut state = self.state.lock();
        match state.down.take() {
            Some(down) => Poll::Ready(Ok(down)),
            None => {
                std::mem::swap(&mut state.waker, &mut waker);
                Poll::Pending
            }
        }
    }

    fn is_done(&self) -> bool {
        self.state.lock().down.is_some()
    }

    fn abandon(&self, _: &mut Ticket) {
        let number = self.state.lock().watching.take();
        if let Some(number) = number {
            self.target.unwatch(number);
        }
    }

    fn refuse_to_block(&self) -> Option<CallError> {
        let inside = current::handler().is_some();
        (inside && !self.is_done() && self.target.only_here() && !self.target.is_closed())
            .then(|| CallError::Deadlock(vec![self.target.name().clone()]))
    }

    fn timeout(&self) -> CallError {
        CallError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.target.runtime().clone()
    }

    fn limit(&self) -> Duration {
        self.target.runtime().options.call_limit
    }
}

pub(crate) fn next_watch() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    // Relaxed: only uniqueness is wanted.
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<P: Processor> Clone for Address<P> {
    fn clone(&self) -> Self {
        Self {
            cell: self.cell.clone(),
            lane: self.lane,
        }
    }
}

impl<P: Processor> PartialEq for Address<P> {
    /// The same processor, by whatever lane.
    fn eq(&self, other: &Self) -> bool {
        self.cell.id == other.cell.id
    }
}

impl<P: Processor> Eq for Address<P> {}

impl<P: Processor> fmt::Debug for Address<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({} {:?})", self.cell.id, self.cell.name)
    }
}

impl<P: Processor> Clone for WeakAddress<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Processor> fmt::Debug for WeakAddress<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakAddress")
    }
}

/// Whoever takes messages of type `M`, where only that matters.
pub struct Recipient<M>(Arc<dyn Receive<M>>);

trait Receive<M>: Send + Sync {
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>>;
    fn try_send(&self, message: M) -> Result<(), TrySendError<M>>;
    fn id(&self) -> ProcessorId;
    fn name(&self) -> &Name;
}

impl<P: Handle<M>, M: Send + 'static> Receive<M> for Address<P> {
    fn send_within(&self, message: M, limit: Option<Duration>) -> Result<(), SendError<M>> {
        Address::send_within(self, message, limit)
    }

    fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        Address::try_send(self, message)
    }

    fn id(&self) -> ProcessorId {
        self.cell.id
    }

    fn name(&self) -> &Name {
        &self.cell.name
    }
}

impl<P: Processor> Address<P> {
    /// The processor as one that takes messages of type `M`, whatever else it is.
    pub fn recipient<M: Send + 'static>(&self) -> Recipient<M>
    where
        P: Handle<M>,
    {
        Recipient(Arc::new(self.clone()))
    }
}

impl<P: Handle<M>, M: Send + 'static> From<Address<P>> for Recipient<M> {
    fn from(address: Address<P>) -> Self {
        Self(Arc::new(address))
    }
}

impl<M: Send + 'static> Recipient<M> {
    /// As [`Address::send`].
    ///
    /// # Errors
    ///
    /// As [`Address::send`].
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.0.send_within(message, None)
    }

    /// As [`Address::send_timeout`].
    ///
    /// # Errors
    ///
    /// As [`Address::send_timeout`].
    pub fn send_timeout(&self, message: M, limit: Duration) -> Result<(), SendError<M>> {
        self.0.send_within(message, Some(limit))
    }

    /// As [`Address::try_send`].
    ///
    /// # Errors
    ///
    /// As [`Address::try_send`].
    pub fn try_send(&self, message: M) -> Result<(), TrySendError<M>> {
        self.0.try_send(message)
    }

    /// Whose address it is.
    pub fn id(&self) -> ProcessorId {
        self.0.id()
    }

    /// What it is called.
    pub fn name(&self) -> &Name {
        self.0.name()
    }
}

impl<M> Clone for Recipient<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M> fmt::Debug for Recipient<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({} {:?})", self.0.id(), self.0.name())
    }
}
