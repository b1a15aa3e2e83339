//! One subscription's queue, under its own policy.
//!
//! The sending side is [`Subscriber`]: publishers reserve places and push. The receiving side takes items: a processor's
//! lane takes batches ([`Intake`]), a pulled subscription takes one at a time ([`Delivery::poll_recv`]).
//!
//! Lock order: a topic's lock, then one delivery's lock. Nothing else is taken under a delivery's lock, and nothing of
//! the user's runs under it.

use crate::error::RecvError;
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::leases::InFlight;
use crate::msg::Msg;
use crate::sample::{Body, Gap, Held, Item, Receipt, Sample};
use crate::snapshot::SubscriptionSnapshot;
use crate::topic;
use crate::topic_core::label_as_name;
use mproc_runtime::queue::{Admit, Progress, Queue, Reserve, Ticket};
use mproc_runtime::{DropCause, Drops, LaneBell, ProcessorId, Runtime, WhenFull, hook};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Poll, Waker};
use std::time::Instant;

/// The capacity of subscriptions that are not given one.
pub const DEFAULT_SUBSCRIPTION_CAPACITY: usize = 64;

pub(crate) type Filter<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// What a subscription is made with.
pub(crate) struct Settings<T: ?Sized> {
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) max_leases: Option<usize>,
    pub(crate) filter: Option<Filter<T>>,
}

/// What became of a value at one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued. `ring`: the receiving side must be told. `evicted`: the oldest had to go.
    Queued { ring: bool, evicted: bool },
    /// The policy dropped it; counted.
    Dropped,
    /// Refused and counted, and the publisher is to be told.
    Refused,
    /// Likewise, and the subscription is to be closed.
    Disconnect,
    /// No room, and nothing was counted: a `Wait` subscription without a reservation.
    Full,
    /// The subscription is closed.
    Gone,
}

/// The sending side of a subscription, as publishers see it.
pub(crate) trait Subscriber<T: ?Sized>: Send + Sync {
    fn id(&self) -> SubscriptionId;
    fn when_full(&self) -> WhenFull;
    /// True if its filter lets the value pass.
    fn wants(&self, body: &Arc<dyn Body<T>>) -> bool;
    fn try_reserve(&self) -> Reserve;
    fn poll_reserve(&self, ticket: &mut Ticket, waker: &Waker) -> Reserve;
    fn resign(&self, ticket: &mut Ticket);
    fn release(&self);
    /// Queues a value, if `reserved` in a place that was reserved. What must go is put into `evicted`, to be dropped when
    /// no lock is held.
    fn push(
        &self,
        body: &Arc<dyn Body<T>>,
        reserved: bool,
        in_flight: Option<&Arc<InFlight>>,
        evicted: &mut Evicted<T>,
    ) -> Pushed;
    /// Notes that a sample was dropped. No lock is held.
    fn dead_letter(&self, cause: DropCause);
    fn has_filter(&self) -> bool;
    /// Tells the receiving side that the queue has something. No lock is held.
    fn ring(&self);
    /// The processor whose lane it is.
    fn owner(&self) -> Option<&LaneBell>;
    /// What people call it.
    fn label(&self) -> String;
    /// The sequence numbers of the publisher's values that are queued here, if it is a processor's lane.
    fn queued_of(&self, publisher: PublisherId) -> Vec<u64>;
    /// No more comes; what is queued can still be taken.
    fn close(&self, cause: Closed);
    fn snapshot(&self) -> SubscriptionSnapshot;
}

/// Items that had to make room, to be dropped when no lock is held.
pub(crate) struct Evicted<T: ?Sized + 'static> {
    /// Of queues of the topic's own type.
    pub(crate) items: Vec<Item<T>>,
    /// Of queues of dynamic messages.
    pub(crate) msgs: Vec<Item<Msg>>,
}

impl<T: ?Sized> Default for Evicted<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            msgs: Vec::new(),
        }
    }
}

/// Notes that a sample was dropped. No lock is held.
pub(crate) fn dead_letter<T: ?Sized>(
    runtime: &Runtime,
    topic: &str,
    topic_id: TopicId,
    owner: Option<ProcessorId>,
    cause: DropCause,
) {
    if let Some(name) = label_as_name(topic, topic_id) {
        let type_name = std::any::type_name::<T>();
        hook::dropped(&name, type_name, cause);
        runtime
            .dead_letters()
            .record((owner, name), type_name, cause, runtime.now(), None);
    }
}

/// A subscription that joins: it gets history first.
///
/// Its filter is the user's code and is asked without a lock, so joining takes turns: under the locks history is looked
/// through, and if there are values of which the filter was not asked, nothing happens but that they are noted. Then it
/// is asked ([`Joining::ask`]), and the next turn finds only what was published meanwhile.
pub(crate) struct Late<T: ?Sized + 'static> {
    pub(crate) subscriber: Arc<dyn Subscriber<T>>,
    capacity: usize,
    /// What the filter said, by the address of the body. Each is kept, so that no other gets its address.
    asked: HashMap<usize, (Arc<dyn Body<T>>, bool)>,
    unasked: Vec<Arc<dyn Body<T>>>,
}

/// A [`Late`] whose type is forgotten.
pub(crate) trait Joining: Any + Send {
    /// Asks the filter about what the last turn noted. False if that was nothing: it has joined. No lock is held.
    fn ask(&mut self) -> bool;
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: ?Sized + Send + Sync + 'static> Late<T> {
    pub(crate) fn new(subscriber: Arc<dyn Subscriber<T>>, capacity: usize) -> Self {
        Self {
            subscriber,
            capacity,
            asked: HashMap::new(),
            unasked: Vec::new(),
        }
    }

    /// Queues old values, as many of the last as there are places, before publishers see the subscription. False, and
    /// nothing is queued, if its filter must be asked about some of them first.
    pub(crate) fn push_history<'a>(
        &mut self,
        bodies: impl DoubleEndedIterator<Item = &'a Arc<dyn Body<T>>>,
        after: &mut Afterwards,
    ) -> bool
    where
        T: 'a,
    {
        let has_filter = self.subscriber.has_filter();
        let mut wanted = Vec::new();
        for body in bodies.rev() {
            if wanted.len() + self.unasked.len() == self.capacity {
                break;
            }
            match self.asked.get(&address(body)) {
                _ if !has_filter => wanted.push(body),
                Some((_, true)) => wanted.push(body),
                Some((_, false)) => {}
                None => self.unasked.push(body.clone()),
            }
        }
        if !self.unasked.is_empty() {
            return false;
        }
        let mut evicted = Evicted::default();
        let mut rings = false;
        for body in wanted.into_iter().rev() {
            if let Pushed::Queued { ring: true, .. } =
                self.subscriber.push(body, false, None, &mut evicted)
            {
                rings = true;
            }
        }
        if rings {
            let subscriber = self.subscriber.clone();
            after.call(move || subscriber.ring());
        }
        after.call(move || drop(evicted));
        true
    }
}

fn address<T: ?Sized>(body: &Arc<dyn Body<T>>) -> usize {
    Arc::as_ptr(body).cast::<()>().addr()
}

impl<T: ?Sized + Send + Sync + 'static> Joining for Late<T> {
    fn ask(&mut self) -> bool {
        let unasked = std::mem::take(&mut self.unasked);
        let joins_not_yet = !unasked.is_empty();
        for body in unasked {
            let wanted = self.subscriber.wants(&body);
            self.asked.insert(address(&body), (body, wanted));
        }
        joins_not_yet
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// What a change leaves to be done when no lock is held, because it runs the user's code: wakers, and drops of values.
#[derive(Default)]
pub(crate) struct Afterwards {
    wake: Vec<Waker>,
    calls: Vec<Box<dyn FnOnce() + Send>>,
}

impl Afterwards {
    pub(crate) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wake.extend(wakers);
    }

    pub(crate) fn call(&mut self, call: impl FnOnce() + Send + 'static) {
        self.calls.push(Box::new(call));
    }

    /// Does it. No lock is held.
    pub(crate) fn run(self) {
        self.wake.into_iter().for_each(Waker::wake);
        self.calls.into_iter().for_each(|call| call());
    }
}

/// Why a subscription is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It was unsubscribed, or its owner has ended.
    Unsubscribed,
    /// Its queue was full and its policy is to disconnect.
    Full,
}

pub(crate) struct Delivery<T: ?Sized + 'static> {
    id: SubscriptionId,
    topic: &'static str,
    topic_id: TopicId,
    when_full: WhenFull,
    capacity: usize,
    filter: Option<Filter<T>>,
    max_leases: Option<usize>,
    held: AtomicUsize,
    /// When those that are held were received, and how many at that time. Like `held`, kept only if there is a bound on
    /// leases: otherwise samples have nobody to tell.
    held_since: Mutex<BTreeMap<Instant, usize>>,
    paused: AtomicBool,
    /// It was unsubscribed: nothing more is handed out. Written under the lock of `state`.
    ended: AtomicBool,
    taken: Taken,
    progress: Progress,
    state: Mutex<State<T>>,
    /// Set right after a processor's lane is made; never for the other kinds.
    bell: OnceLock<LaneBell>,
    /// The lane's processor runs only while a script's thread spins it.
    is_of_script: OnceLock<bool>,
    runtime: Runtime,
}

struct State<T: ?Sized + 'static> {
    queue: Queue<VecDeque<Item<T>>>,
    /// How many were offered: the number of the next.
    offered: u64,
    refused: u64,
    drops: Drops,
    /// The receiving side has been told and has not yet found the queue empty. See `mproc_runtime::LaneSource`.
    rung: bool,
    closed: Option<Closed>,
    receivers: Receivers,
}

/// Threads and tasks that wait for an item, in order.
#[derive(Default)]
struct Receivers {
    next: u64,
    in_order: VecDeque<(u64, Waker)>,
    /// Those that were woken for an item and have not taken it yet.
    granted: Vec<u64>,
    /// Those that only want to know that something is there.
    watchers: Vec<Waker>,
}

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    pub(crate) fn new(
        runtime: &Runtime,
        topic: &'static str,
        topic_id: TopicId,
        settings: Settings<T>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id: SubscriptionId::next(),
            topic,
            topic_id,
            when_full: settings.when_full,
            capacity: settings.capacity,
            filter: settings.filter,
            max_leases: settings.max_leases,
            held: AtomicUsize::new(0),
            held_since: Mutex::default(),
            paused: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            taken: Taken::default(),
            progress: Progress::default(),
            state: Mutex::new(State {
                queue: Queue::new(settings.capacity, settings.when_full),
                offered: 0,
                refused: 0,
                drops: Drops::default(),
                rung: false,
                closed: None,
                receivers: Receivers::default(),
            }),
            bell: OnceLock::new(),
            is_of_script: OnceLock::new(),
            runtime: runtime.without_guard(),
        })
    }

    /// On the thread of the lane's processor.
    pub(crate) fn set_bell(&self, bell: LaneBell) {
        let is_of_script = self.runtime.is_script_here(bell.driver());
        let _set_once = self.is_of_script.set(is_of_script);
        let _set_once = self.bell.set(bell);
    }

    fn is_of_script(&self) -> bool {
        self.is_of_script.get() == Some(&true)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    pub(crate) fn id_of(&self) -> SubscriptionId {
        self.id
    }

    pub(crate) fn lets_pass(&self, value: &T) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter(value))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire)
    }

    /// True once it was unsubscribed.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(crate) fn pause(&self) {
        self.paused.store(true, Ordering::Release);
    }

    pub(crate) fn resume(&self) {
        self.paused.store(false, Ordering::Release);
        // Whatever came meanwhile, and what was left of a batch, is looked at again.
        self.look_again();
    }

    /// Has the receiving side look again. A lane that is rung will do so anyway: to ring it once more would put it on its
    /// processor's list twice, and give it two turns where other lanes have one.
    fn look_again(&self) {
        let is_rung = std::mem::replace(&mut self.state.lock().rung, true);
        if !is_rung || self.bell.get().is_none() {
            self.ring_now();
        }
    }

    fn ring_now(&self) {
        if let Some(bell) = self.bell.get() {
            bell.ring();
            return;
        }
        let (first, watchers) = {
            let mut state = self.state.lock();
            let state = &mut *state;
            let free = state
                .queue
                .len()
                .saturating_sub(state.receivers.granted.len());
            let mut first = Vec::new();
            if !self.is_paused() {
                for _ in 0..free {
                    let Some((number, waker)) = state.receivers.in_order.pop_front() else {
                        break;
                    };
                    state.receivers.granted.push(number);
                    first.push(waker);
                }
            }
            (first, std::mem::take(&mut state.receivers.watchers))
        };
        first.into_iter().chain(watchers).for_each(Waker::wake);
    }

    fn receipt(self: &Arc<Self>, gap: u64, received: Instant) -> Receipt {
        let held = self.max_leases.map(|_| self.clone() as Arc<dyn Held>);
        Receipt {
            subscription: self.id,
            gap: Gap::Known(gap),
            received,
            held,
        }
    }

    fn is_at_lease_limit(&self) -> bool {
        self.max_leases
            .is_some_and(|max| self.held.load(Ordering::Acquire) >= max)
    }

    // ---- pulled subscriptions

    /// Takes an item, or stands in line for one.
    pub(crate) fn poll_recv(
        self: &Arc<Self>,
        ticket: &mut Option<u64>,
        waker: &Waker,
    ) -> Poll<Result<Sample<T>, RecvError>> {
        // Dropped after the lock, because it is made before: a waker's drop is the user's code.
        let mut _old = None;
        let mut state = self.state.lock();
        let granted = match *ticket {
            Some(number) => match state.receivers.granted.iter().position(|&n| n == number) {
                Some(at) => {
                    state.receivers.granted.swap_remove(at);
                    true
                }
                None => false,
            },
            None => state.receivers.in_order.is_empty(),
        };
        let spoken_for = state.receivers.granted.len();
        if granted
            && state.queue.len() > spoken_for
            && !self.is_paused()
            && !self.is_at_lease_limit()
        {
            *ticket = None;
            return Poll::Ready(Ok(self.take(state)));
        }
        if let Some(closed) = state.closed
            && state.queue.is_empty()
        {
            *ticket = None;
            return Poll::Ready(Err(match closed {
                Closed::Unsubscribed => RecvError::Closed,
                Closed::Full => RecvError::Disconnected,
            }));
        }
        match *ticket {
            Some(number) if !granted => {
                if let Some((_, kept)) = state
                    .receivers
                    .in_order
                    .iter_mut()
                    .find(|(n, _)| *n == number)
                {
                    _old = Some(std::mem::replace(kept, waker.clone()));
                }
            }
            // Woken in vain keeps the place at the head of the line.
            Some(number) => state.receivers.in_order.push_front((number, waker.clone())),
            None => {
                let number = state.receivers.next;
                state.receivers.next += 1;
                state.receivers.in_order.push_back((number, waker.clone()));
                *ticket = Some(number);
            }
        }
        Poll::Pending
    }

    /// Takes an item if nobody else waits for it.
    pub(crate) fn try_recv(self: &Arc<Self>) -> Result<Option<Sample<T>>, RecvError> {
        let state = self.state.lock();
        let spoken_for = state.receivers.granted.len();
        if state.receivers.in_order.is_empty()
            && state.queue.len() > spoken_for
            && !self.is_paused()
            && !self.is_at_lease_limit()
        {
            return Ok(Some(self.take(state)));
        }
        match state.closed {
            Some(Closed::Unsubscribed) if state.queue.is_empty() => Err(RecvError::Closed),
            Some(Closed::Full) if state.queue.is_empty() => Err(RecvError::Disconnected),
            _ => Ok(None),
        }
    }

    fn take(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State<T>>) -> Sample<T> {
        let (item, wake) = state.queue.pop(&self.progress);
        let Some(item) = item else {
            unreachable!("the caller saw an item under this lock");
        };
        let gap = self.taken.note(item.number);
        let is_last = state.closed.is_some() && state.queue.is_empty();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if is_last {
            // Those who wait have been told that it is closed, and have found this item still there.
            self.wake_all_receivers();
        }
        let received = self.runtime.now();
        let receipt = self.receipt(gap, received);
        Sample::new(item, receipt)
    }

    /// Leaves the line. An item it was woken for goes to the next.
    pub(crate) fn leave_line(&self, ticket: &mut Option<u64>) {
        let Some(number) = ticket.take() else {
            return;
        };
        // Dropped after the lock is released: a waker's drop is the user's code.
        let _left = {
            let mut state = self.state.lock();
            let receivers = &mut state.receivers;
            receivers.granted.retain(|n| *n != number);
            let at = receivers.in_order.iter().position(|(n, _)| *n == number);
            at.and_then(|at| receivers.in_order.remove(at))
        };
        self.ring_now();
    }

    /// True if something can be taken or the subscription is closed; else `waker` is woken when that changes.
    pub(crate) fn poll_ready(&self, waker: &Waker) -> bool {
        let mut state = self.state.lock();
        let spoken_for = state.receivers.granted.len();
        if (state.queue.len() > spoken_for && !self.is_paused() && !self.is_at_lease_limit())
            || state.closed.is_some()
        {
            return true;
        }
        if !state.receivers.watchers.iter().any(|w| w.will_wake(waker)) {
            state.receivers.watchers.push(waker.clone());
        }
        false
    }

    /// A look for those who spin.
    pub(crate) fn has_samples(&self) -> bool {
        let state = self.state.lock();
        !state.queue.is_empty() || state.closed.is_some()
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }
}

/// What the receiving side counts. It is written by one receiver at a time (the lane's driver, or whoever holds the
/// lock) and orders nothing, hence relaxed.
#[derive(Default)]
struct Taken {
    count: AtomicU64,
    /// The number that comes next; a larger one is a gap.
    expected: AtomicU64,
    gaps: AtomicU64,
}

impl Taken {
    /// Counts an item that is taken, and returns how many were lost before it.
    fn note(&self, number: u64) -> u64 {
        let gap = number.saturating_sub(self.expected.load(Ordering::Relaxed));
        self.expected.store(number + 1, Ordering::Relaxed);
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        if gap > 0 {
            let gaps = self.gaps.load(Ordering::Relaxed);
            self.gaps.store(gaps + gap, Ordering::Relaxed);
        }
        gap
    }
}

impl<T: ?Sized + Send + Sync + 'static> Subscriber<T> for Delivery<T> {
    fn id(&self) -> SubscriptionId {
        self.id
    }

    fn when_full(&self) -> WhenFull {
        self.when_full
    }

    fn wants(&self, body: &Arc<dyn Body<T>>) -> bool {
        self.lets_pass(body.value())
    }

    fn try_reserve(&self) -> Reserve {
        self.state.lock().queue.try_reserve(&self.progress)
    }

    fn poll_reserve(&self, ticket: &mut Ticket, waker: &Waker) -> Reserve {
        let reserve = {
            let mut state = self.state.lock();
            state.queue.poll_reserve(ticket, waker, &self.progress)
        };
        ticket.tidy();
        reserve
    }

    fn resign(&self, ticket: &mut Ticket) {
        let wake = self.state.lock().queue.resign(ticket, &self.progress);
        ticket.tidy();
        wake.into_iter().for_each(Waker::wake);
    }

    fn release(&self) {
        let wake = self.state.lock().queue.release(&self.progress);
        wake.into_iter().for_each(Waker::wake);
    }

    fn push(
        &self,
        body: &Arc<dyn Body<T>>,
        reserved: bool,
        in_flight: Option<&Arc<InFlight>>,
        evicted: &mut Evicted<T>,
    ) -> Pushed {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return Pushed::Gone;
        }
        let item = Item {
            body: body.clone(),
            number: state.offered,
            arrival: match self.bell.get() {
                Some(bell) => bell.next_arrival().unwrap_or(0),
                None => 0,
            },
            in_flight: in_flight.cloned(),
        };
        let mut evicts = false;
        if reserved {
            if state.queue.push_reserved(item).is_err() {
                return Pushed::Gone;
            }
        } else {
            match state.queue.admit(&self.progress) {
                Admit::Room => state.queue.insert(item),
                Admit::Evicted(oldest) => {
                    state.drops.add(DropCause::Evicted, 1);
                    evicted.items.push(oldest);
                    evicts = true;
                    state.queue.insert(item);
                }
                Admit::Drop => {
                    state.offered += 1;
                    state.drops.add(DropCause::NoRoom, 1);
                    return Pushed::Dropped;
                }
                Admit::Closed => return Pushed::Gone,
                Admit::Full if self.when_full == WhenFull::Wait => return Pushed::Full,
                Admit::Full => {
                    state.offered += 1;
                    state.refused += 1;
                    return match self.when_full {
                        WhenFull::Disconnect => Pushed::Disconnect,
                        _ => Pushed::Refused,
                    };
                }
            }
        }
        state.offered += 1;
        // Pulled subscriptions have no bell: each item may wake one more receiver.
        let first = !std::mem::replace(&mut state.rung, true);
        Pushed::Queued {
            ring: first || state.receivers.is_waited_for(),
            evicted: evicts,
        }
    }

    fn dead_letter(&self, cause: DropCause) {
        let owner = self.bell.get().map(LaneBell::processor);
        dead_letter::<T>(&self.runtime, self.topic, self.topic_id, owner, cause);
    }

    fn has_filter(&self) -> bool {
        self.filter.is_some()
    }

    fn ring(&self) {
        self.ring_now();
    }

    fn owner(&self) -> Option<&LaneBell> {
        self.bell.get()
    }

    fn label(&self) -> String {
        let topic = topic::label(self.topic, self.topic_id);
        match self.bell.get() {
            Some(bell) => format!("{:?} on {topic:?}", bell.processor_name().as_str()),
            None => format!("subscription {} on {topic:?}", self.id.get()),
        }
    }

    fn queued_of(&self, publisher: PublisherId) -> Vec<u64> {
        if self.bell.get().is_none() {
            return Vec::new();
        }
        let state = self.state.lock();
        let headers = state.queue.items().iter().map(|item| item.body.header());
        headers
            .filter(|header| header.publisher == publisher)
            .map(|header| header.sequence.load(Ordering::Relaxed))
            .collect()
    }

    fn close(&self, cause: Closed) {
        let (items, wake) = {
            let mut state = self.state.lock();
            match (state.closed, cause) {
                (None, _) => {}
                // What it was still to read, it wants no more.
                (Some(Closed::Full), Closed::Unsubscribed) => {}
                (Some(_), _) => return,
            }
            state.closed = Some(cause);
            if cause == Closed::Unsubscribed {
                self.ended.store(true, Ordering::Release);
            }
            let wake = state.queue.close(&self.progress);
            // What a full subscriber has queued it may still read; whoever unsubscribed wants no more.
            let items = match cause {
                Closed::Full => VecDeque::new(),
                Closed::Unsubscribed => {
                    let items = state.queue.drain();
                    state.drops.add(DropCause::Unsubscribed, items.len() as u64);
                    items
                }
            };
            (items, wake)
        };
        wake.into_iter().for_each(Waker::wake);
        drop(items);
        self.wake_all_receivers();
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        let oldest = self.held_since.lock().keys().next().copied();
        let held_ns_max = oldest.map(|received| {
            let age = self.runtime.now().saturating_duration_since(received);
            age.as_nanos() as u64
        });
        let state = self.state.lock();
        let taken = self.taken.count.load(Ordering::Relaxed);
        SubscriptionSnapshot {
            id: self.id,
            owner: self
                .bell
                .get()
                .map(|bell| bell.processor_name().as_str().to_owned()),
            when_full: self.when_full,
            capacity: self.capacity as u64,
            paused: self.is_paused(),
            closed: state.closed.is_some(),
            offered: state.offered,
            taken,
            queued: state
                .offered
                .saturating_sub(taken)
                .saturating_sub(state.drops.total())
                .saturating_sub(state.refused),
            high_water: state.queue.high_water() as u64,
            dropped: state.drops.clone(),
            refused: state.refused,
            lost: self.taken.gaps.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed) as u64,
            held_ns_max,
        }
    }
}

impl Receivers {
    fn is_waited_for(&self) -> bool {
        !self.in_order.is_empty() || !self.watchers.is_empty()
    }
}

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    fn wake_all_receivers(&self) {
        if self.bell.get().is_some() {
            self.look_again();
            return;
        }
        let wake: Vec<Waker> = {
            let mut state = self.state.lock();
            let receivers = &mut state.receivers;
            let waiting = receivers.in_order.iter().map(|(_, w)| w.clone());
            let wake = waiting.collect::<Vec<_>>();
            wake.into_iter()
                .chain(std::mem::take(&mut receivers.watchers))
                .collect()
        };
        wake.into_iter().for_each(Waker::wake);
    }
}

impl<T: ?Sized + Send + Sync + 'static> Held for Delivery<T> {
    fn keep(&self, received: Instant) {
        self.held.fetch_add(1, Ordering::AcqRel);
        *self.held_since.lock().entry(received).or_default() += 1;
    }

    fn let_go(&self, received: Instant) {
        {
            let mut since = self.held_since.lock();
            if let Some(count) = since.get_mut(&received) {
                *count -= 1;
                if *count == 0 {
                    since.remove(&received);
                }
            }
        }
        let before = self.held.fetch_sub(1, Ordering::AcqRel);
        // At the limit nothing more is taken: now something may be.
        if Some(before) == self.max_leases {
            self.look_again();
        }
    }
}

/// The receiving side of a processor's lane: takes batches, and gives their places back one by one.
pub(crate) struct Intake<T: ?Sized + 'static> {
    delivery: Arc<Delivery<T>>,
    batch: VecDeque<Item<T>>,
    received: Instant,
    limit_reported: bool,
}

impl<T: ?Sized + Send + Sync + 'static> Intake<T> {
    pub(crate) fn new(delivery: Arc<Delivery<T>>) -> Self {
        let received = delivery.runtime.now();
        Self {
            delivery,
            batch: VecDeque::new(),
            received,
            limit_reported: false,
        }
    }

    /// What people call it.
    pub(crate) fn label(&self) -> String {
        self.delivery.label()
    }

    /// The next sample, or `None`: then it is worth asking again only after the bell was rung.
    #[inline]
    pub(crate) fn next(&mut self) -> Next<T> {
        let delivery = &self.delivery;
        if delivery.is_ended() {
            return Next::Ended;
        }
        if delivery.is_paused() || delivery.is_at_lease_limit() {
            let mut state = delivery.state.lock();
            // Looked at again under the lock that `close`, `resume` and `let_go` take before they ring.
            if delivery.is_ended() {
                return Next::Ended;
            }
            if delivery.is_paused() {
                state.rung = false;
                return Next::Nothing;
            }
            if delivery.is_at_lease_limit() {
                state.rung = false;
                let first = !std::mem::replace(&mut self.limit_reported, true);
                return if first {
                    Next::LeaseLimit
                } else {
                    Next::Nothing
                };
            }
        }
        self.limit_reported = false;
        let item = match self.batch.pop_front() {
            Some(item) => {
                if delivery.progress.step(self.batch.len()) {
                    let wake = delivery.state.lock().queue.hand_out(&delivery.progress);
                    wake.into_iter().for_each(Waker::wake);
                }
                item
            }
            None => {
                let mut state = delivery.state.lock();
                // Likewise: whoever closes it does not ring if it is rung.
                if delivery.is_ended() {
                    return Next::Ended;
                }
                let front = state.queue.items().front();
                let in_order_of_arrival = front.is_some_and(|item| item.arrival != 0);
                // A script is left between two callbacks, and what waits for it then must be seen in the queue
                // ([`Subscriber::queued_of`]).
                let wake = if in_order_of_arrival || delivery.is_of_script() {
                    state.queue.take_one(&mut self.batch, &delivery.progress)
                } else {
                    state.queue.take_batch(&mut self.batch, &delivery.progress)
                };
                let item = self.batch.pop_front();
                if item.is_none() {
                    state.rung = false;
                    state.queue.shrink();
                }
                drop(state);
                wake.into_iter().for_each(Waker::wake);
                let Some(item) = item else {
                    return Next::Nothing;
                };
                self.received = delivery.runtime.now();
                item
            }
        };
        let gap = delivery.taken.note(item.number);
        let receipt = delivery.receipt(gap, self.received);
        Next::Sample(Sample::new(item, receipt))
    }

    pub(crate) fn head(&self) -> Option<u64> {
        if self.delivery.is_ended() {
            // Its lane is removed before anything else is served.
            return Some(0);
        }
        if let Some(item) = self.batch.front() {
            return Some(item.arrival);
        }
        let state = self.delivery.state.lock();
        state.queue.items().front().map(|item| item.arrival)
    }

    /// The lane ends: what is left of the batch was not delivered.
    pub(crate) fn end(&mut self) {
        let left = self.batch.len() as u64;
        {
            let mut state = self.delivery.state.lock();
            state.queue.abandon_batch(&self.delivery.progress);
            state.drops.add(DropCause::Unsubscribed, left);
        }
        self.batch.clear();
    }
}

/// What an intake has.
pub(crate) enum Next<T: ?Sized + 'static> {
    Sample(Sample<T>),
    Nothing,
    /// Nothing, because the processor holds as many leases as it may. Said once each time.
    LeaseLimit,
    /// It was unsubscribed: nothing comes any more.
    Ended,
}
