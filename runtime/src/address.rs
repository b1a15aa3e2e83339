//! Handles for sending.

use crate::call::Call;
use crate::cell::{Cell, Refused, Watcher};
use crate::context::Cx;
use crate::current;
use crate::dead_letters::DropCause;
use crate::ended::Ended;
use crate::error::{CallError, ReserveError, SendError, TrySendError};
use crate::exit::{Down, Exit};
use crate::handled_by::{HandledBy, Sealed};
use crate::hook::{self, Cause};
use crate::id::ProcessorId;
use crate::mailbox::{Control, Lane, Signals};
use crate::name::Name;
use crate::neighbours::Neighbours;
use crate::outbox::OutboxKey;
use crate::parcel::Parcel;
use crate::pending::Pending;
use crate::permit::{Permit, Reservation};
use crate::processor::{Handle, Processor};
use crate::queue::{Reserve, Waiter};
use crate::runtime::RuntimeCore;
use crate::sends::Sender;
use crate::snapshot::ProcessorSnapshot;
use crate::spill::spill;
use crate::waits_for::{self, Keeper, Owed};
use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A processor to send to. Cheap to clone; `Send + Sync` whatever the processor is.
///
/// Holding an address does not keep the processor from ending, and dropping the last one does not end it.
pub struct Address<P: Processor> {
    pub(crate) cell: Arc<Cell<P>>,
    pub(crate) lane: Lane,
}

/// An address that does not keep the processor's memory.
pub struct WeakAddress<P: Processor>(Weak<Cell<P>>);

/// A message on its way by `send`.
pub(crate) struct Told<M>(pub(crate) M, pub(crate) Cause);

const _: () = assert!(size_of::<Told<u64>>() == size_of::<u64>() + size_of::<Cause>());

impl<M> Told<M> {
    /// Sent here and now.
    #[inline]
    pub(crate) fn new(message: M) -> Self {
        Self(message, Cause::here())
    }
}

impl<P: Handle<M>, M: Send + 'static> Parcel<P> for Told<M> {
    #[inline]
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let Self(message, cause) = self;
        let _span = hook::handling(cx.name(), std::any::type_name::<M>(), cause);
        cx.about_to_handle();
        cx.handle_now(processor, message);
    }

    fn discard(self, _: DropCause, _: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        Some(Box::new(self.0))
    }

    fn message_type() -> &'static str {
        std::any::type_name::<M>()
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, SendError, closure};
    /// let node = Runtime::simulated(1);
    /// let printer = node.spawn_thread("printer", closure(|page: String, _cx| println!("{page}")))?;
    /// printer.send("page 1".to_owned())?; // queued; it is handled on the printer's thread
    ///
    /// printer.drain(); // handles what is queued, then ends
    /// printer.ended().wait()?;
    /// match printer.send("page 2".to_owned()) {
    ///     Err(SendError::Closed(page)) => assert_eq!(page, "page 2"), // not lost
    ///     other => unreachable!("{other:?}"),
    /// }
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    #[inline]
    pub fn send<M: HandledBy<P>>(&self, message: M) -> Result<(), SendError<M>> {
        message.send_to(self, None, Sealed)
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
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{MailboxOptions, Runtime, SendError, closure};
    /// # use std::time::Duration;
    /// let node = Runtime::simulated(1);
    /// let one = MailboxOptions::bounded(1);
    /// let slow = node.spawn_thread_with("slow", one, closure(|_: u8, _cx| ()))?;
    /// let permit = slow.reserve().wait()?; // takes the only place
    ///
    /// let before = node.now();
    /// let refused = slow.send_timeout(7, Duration::from_secs(2)).unwrap_err();
    /// assert!(matches!(refused, SendError::Timeout(7)));
    /// assert_eq!(node.now() - before, Duration::from_secs(2)); // virtual: takes no time
    ///
    /// drop(permit);
    /// slow.send_timeout(refused.into_inner(), Duration::from_secs(2))?;
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn send_timeout<M: HandledBy<P>>(
        &self,
        message: M,
        limit: Duration,
    ) -> Result<(), SendError<M>> {
        message.send_to(self, Some(limit), Sealed)
    }

    /// Sends `message` if there is room now. Never waits, and never overtakes those who do.
    ///
    /// # Errors
    ///
    /// Each gives `message` back; see [`TrySendError`].
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{MailboxOptions, Runtime, TrySendError, closure};
    /// let node = Runtime::simulated(1);
    /// let two = MailboxOptions::bounded(2);
    /// let sink = node.spawn_thread_with("sink", two, closure(|_: u8, _cx| ()))?;
    /// sink.try_send(1)?;
    /// sink.try_send(2)?;
    /// assert!(matches!(sink.try_send(3), Err(TrySendError::Full(3))));
    /// node.settle(); // both are handled
    /// sink.try_send(3)?;
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn try_send<M: HandledBy<P>>(&self, message: M) -> Result<(), TrySendError<M>> {
        message.try_send_to(self, Sealed)
    }

    pub(crate) fn try_send_now<M: Send + 'static>(&self, message: M) -> Result<(), TrySendError<M>>
    where
        P: Handle<M>,
    {
        if current::outbox_holds(self.key()) {
            self.cell.count_returned();
            return Err(TrySendError::Full(message));
        }
        match self.cell.offer(self.lane, Told::new(message), true) {
            Ok(()) => Ok(()),
            Err(Refused::Full(Told(m, _))) => Err(TrySendError::Full(m)),
            Err(Refused::Closed(Told(m, _))) => Err(TrySendError::Closed(m)),
        }
    }

    /// Reserves a place: the permit's send cannot fail for want of room.
    ///
    /// # Errors
    ///
    /// [`ReserveError`], from waiting for it.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] leaves the line, and gives back a place that was granted meanwhile. Whoever waits again
    /// stands at the end of the line.
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
        Pending::new(self.reserve_operation())
    }

    pub(crate) fn reserve_operation(&self) -> Arc<Reservation<P>> {
        Arc::new(Reservation::new(self.clone()))
    }

    /// Sends `message` and gives a [`Pending`] for the reply. Nothing is sent before that is waited for.
    ///
    /// # Errors
    ///
    /// [`CallError`], from waiting for the reply; within 5 seconds unless told otherwise.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] takes a message back that is still queued: it is dropped, and counted as `Cancelled`. A
    /// handler that has begun goes on, and its reply is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let square = closure(|n: u64, _cx| Ok::<_, std::fmt::Error>(n * n));
    /// let square = node.spawn_thread("square", square)?;
    /// assert_eq!(square.call(12).wait()?, 144);
    ///
    /// // Several at once: `begin` puts a call on its way, and waiting comes later.
    /// let mut calls: Vec<_> = (1..=3).map(|n| square.call(n)).collect();
    /// calls.iter_mut().for_each(|call| call.begin());
    /// let squares: Result<Vec<_>, _> = calls.into_iter().map(|call| call.wait()).collect();
    /// assert_eq!(squares?, [1, 4, 9]);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn call<M: HandledBy<P>>(&self, message: M) -> Pending<M::Reply> {
        message.call_to(self, Sealed)
    }

    pub(crate) fn call_operation<M: Send + 'static>(&self, message: M) -> Arc<Call<P, M>>
    where
        P: Handle<M>,
    {
        Arc::new(Call::new(self.clone(), message))
    }

    /// Asks the processor to end after its current message. What is queued is dropped and counted. The future of a handler that
    /// awaits ([`HandleAsync`](crate::HandleAsync)) is dropped.
    pub fn stop(&self) {
        self.signal(Signals::STOP);
    }

    /// Closes the mailbox, lets the processor handle what is queued, futures of handlers included, then ends it.
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

    /// Waits for the processor's end. Gives its [`Down`] at once if it has ended. A restart by its supervisor is no end.
    ///
    /// # Errors
    ///
    /// From waiting for it: [`CallError::Timeout`] when the limit passes (the node's limit for calls, 5 seconds by default);
    /// [`CallError::Deadlock`] inside a handler, if only the thread that would wait can bring the end about, perhaps over
    /// others.
    ///
    /// # Cancel safety
    ///
    /// Dropping the [`Pending`] ends the watch and changes nothing else. A later one gets the same [`Down`].
    pub fn ended(&self) -> Pending<Down, CallError> {
        Pending::new(Arc::new(Ended::new(self.clone())))
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

    pub(crate) fn key(&self) -> OutboxKey {
        OutboxKey::Mailbox(self.cell.id, self.lane as u8)
    }

    pub(crate) fn waits(&self) -> bool {
        self.cell.manner().waits()
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeCore> {
        self.cell.driver.runtime()
    }

    /// For a thread that would have to wait: true if only it can make room.
    pub(crate) fn only_here(&self) -> bool {
        if self.cell.driver.is_pool() {
            return current::handler() == Some(self.cell.id);
        }
        current::only_here(self.cell.driver.id())
    }

    /// The circle in which this thread would wait for it, if only this thread can run it.
    pub(crate) fn circle_here(&self) -> Vec<Name> {
        let mut names = match current::handler() {
            Some(_) => vec![waits_for::name_here(self.runtime())],
            // What the thread does between two spins.
            None => vec![self.cell.driver.name().clone()],
        };
        if names[0] != self.cell.name {
            names.push(self.cell.name.clone());
        }
        names
    }

    #[inline]
    pub(crate) fn send_within<M: Send + 'static>(
        &self,
        message: M,
        limit: Option<Duration>,
    ) -> Result<(), SendError<M>>
    where
        P: Handle<M>,
    {
        let behind = current::outbox_holds(self.key());
        if behind {
            return self.spill(Told::new(message), limit);
        }
        match self.cell.offer(self.lane, Told::new(message), false) {
            Ok(()) => Ok(()),
            Err(Refused::Full(told)) => self.send_slowly(told, limit),
            Err(Refused::Closed(Told(m, _))) => {
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
            Err(Told(m, _)) => {
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
        // Messages of the high lane are taken one by one: nothing is ever left of a batch.
        let progress = (self.lane == Lane::Normal).then(|| self.cell.flags());
        let rest = || progress.map_or(0, |progress| progress.rest());
        let some = (self.cell.lanes().lock().normal.capacity() / 2).clamp(1, 64);
        let mut told = told;
        let mut left = world.spins();
        while left > 0 {
            let before = rest();
            while left > 0 {
                left -= 1;
                crate::sync::spin_loop();
                let now = rest();
                if (before == 0 && now > 0) || now + some <= before || (now == 0 && before > 0) {
                    break;
                }
            }
            told = match self.cell.offer(self.lane, told, false) {
                Ok(()) => return Ok(()),
                Err(Refused::Full(told)) => told,
                Err(Refused::Closed(Told(m, _))) => {
                    self.cell.count_returned();
                    return Err(SendError::Closed(m));
                }
            };
        }
        let deadline = world
            .now()
            .checked_add(limit.unwrap_or(runtime.options.send_limit));
        let waker = world.waker();
        let mut ticket = Waiter::default();
        let mut parcel = Some(told);
        // A thread with scripts holds them up while it waits.
        let mut shown = None;
        let mut neighbours = None;
        loop {
            match self
                .cell
                .poll_push(Sender::Here, self.lane, &mut ticket, &waker, &mut parcel)
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
            if shown.is_none() && current::holds_up_others() {
                let keeper = Keeper::of(&*self.cell);
                shown = waits_for::show(Owed::Room(vec![keeper]), runtime)
                    .ok()
                    .flatten();
            }
            neighbours
                .get_or_insert_with(Neighbours::of_this_thread)
                .deliver(&waker);
            world.park(deadline);
        }
    }
}

fn unsent<M>(parcel: Option<Told<M>>) -> M {
    match parcel {
        Some(Told(message, _)) => message,
        None => unreachable!("the parcel is taken only when a place was granted"),
    }
}

impl<P: Processor> WeakAddress<P> {
    /// The address, unless the processor has ended and nobody holds its memory.
    pub fn upgrade(&self) -> Option<Address<P>> {
        self.0.upgrade().map(Address::from_cell)
    }
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
