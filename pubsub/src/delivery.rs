//! One subscription's queue, under its own policy.
//!
//! The sending side is [`Subscriber`]: publishers of this node reserve places and push. What other nodes publish stands in links,
//! which have queues of their own ([`Sources`]); the receiver takes from those itself, in turns with the queue (`delivery/outside.rs`). The receiving side
//! takes items: a processor's lane takes batches (`intake.rs`), a pulled subscription takes one at a time
//! ([`Delivery::poll_recv`]).
//!
//! Lock order: a topic's lock, then one delivery's lock, then that of its sources. Nothing else is taken under these, and nothing
//! of the user's runs under them.

use crate::codec::Codec;
use crate::error::RecvError;
use crate::events::Event;
use crate::forked::Origin;
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::leases::InFlight;
use crate::monitor::{Marks, Monitor};
use crate::prepared::Prepared;
use crate::sample::{Body, Gap, Held, Item, Receipt, Sample};
use crate::snapshot::SubscriptionSnapshot;
use crate::sources::Sources;
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber, dead_letter};
use crate::topic;
use crate::watches::{Hears, HeldSince, LeaseWatch, Leased, SilenceWatch};
use mproc_runtime::queue::{Admit, Progress, Queue, Reserve, Waiter};
use mproc_runtime::{DropCause, Drops, LaneBell, Runtime, WhenFull};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

mod line;
mod outside;

pub(crate) use outside::AtLimit;
use outside::Fetched;

/// The capacity of subscriptions that are not given one.
pub const DEFAULT_SUBSCRIPTION_CAPACITY: usize = 64;

pub(crate) type Filter<T> = Box<dyn Fn(&T) -> bool + Send + Sync>;

/// What a subscription is made with.
pub(crate) struct Settings<T: ?Sized + 'static> {
    pub(crate) capacity: usize,
    pub(crate) when_full: WhenFull,
    pub(crate) max_leases: Option<usize>,
    pub(crate) filter: Option<Filter<T>>,
    /// How values travel, if that is known without a topic.
    pub(crate) codec: Option<&'static Codec<T>>,
    /// What other processes publish is copied before it is looked at.
    pub(crate) copies_first: bool,
    /// When the queue counts as low again, and when as high.
    pub(crate) water_marks: Option<(usize, usize)>,
    /// For how long a sample may be held before that is told.
    pub(crate) lease_warning: Option<Duration>,
    /// For how long nothing may come before that is told.
    pub(crate) silence: Option<Duration>,
}

pub(crate) struct Delivery<T: ?Sized + 'static> {
    id: SubscriptionId,
    topic: &'static str,
    topic_id: TopicId,
    when_full: WhenFull,
    capacity: usize,
    filter: Option<Filter<T>>,
    codec: Option<&'static Codec<T>>,
    max_leases: Option<usize>,
    held: AtomicUsize,
    /// When those that are held were received, and how many at that time. Like `held`, kept only if there is a bound on
    /// leases: otherwise samples have nobody to tell.
    held_since: HeldSince,
    /// Why nothing is handed out; 0 if it is. See [`Paused`].
    paused: AtomicU8,
    /// It was unsubscribed: nothing more is handed out. Written under the lock of `state`.
    ended: AtomicBool,
    pub(crate) taken: Taken,
    pub(crate) progress: Progress,
    pub(crate) state: Mutex<State<T>>,
    /// Tells what happens here; set before it joins its topic. Never for those that events may come to.
    monitor: OnceLock<Monitor>,
    marks: Option<Marks>,
    lease_watch: Option<Arc<LeaseWatch>>,
    silence_watch: Option<Arc<SilenceWatch>>,
    /// What comes from other nodes.
    sources: Sources<T>,
    /// It is the sources' turn, not the queue's. A hint.
    sources_turn: AtomicBool,
    /// Pulled from: receivers have been told that the sources have news, and have not found them empty since.
    told: AtomicBool,
    /// When the next of the sources arrived, for drivers that serve in that order.
    source_arrival: AtomicU64,
    /// Set right after a processor's lane is made; never for the other kinds.
    bell: OnceLock<LaneBell>,
    /// The lane's processor runs only while a script's thread spins it.
    is_of_script: OnceLock<bool>,
    pub(crate) runtime: Runtime,
    origin: Origin,
}

pub(crate) struct State<T: ?Sized + 'static> {
    pub(crate) queue: Queue<VecDeque<Item<T>>>,
    /// How many were offered by publishers of this node: the number of the next.
    offered: u64,
    /// How many were taken from the sources, or dropped there because they could not be decoded.
    from_sources: u64,
    refused: u64,
    pub(crate) drops: Drops,
    /// The receiving side has been told and has not yet found the queue empty. See `mproc_runtime::LaneSource`.
    pub(crate) rung: bool,
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

/// Why nothing is handed out. One bit each.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Paused {
    /// Somebody said so.
    Asked = 1,
    /// Its callback was taken out.
    NoCallback = 2,
}

impl<T: ?Sized + Send + Sync + 'static> Delivery<T> {
    pub(crate) fn new(
        runtime: &Runtime,
        topic: &'static str,
        topic_id: TopicId,
        settings: Settings<T>,
    ) -> Arc<Self> {
        let lease_watch = settings.lease_warning.map(|limit| {
            let runtime = runtime.without_guard();
            LeaseWatch::new(runtime, limit)
        });
        let silence_watch = settings.silence.map(|limit| {
            let runtime = runtime.without_guard();
            SilenceWatch::new(runtime, limit)
        });
        let made = Arc::new(Self {
            id: SubscriptionId::next(),
            topic,
            topic_id,
            when_full: settings.when_full,
            capacity: settings.capacity,
            filter: settings.filter,
            codec: settings.codec,
            max_leases: settings.max_leases,
            held: AtomicUsize::new(0),
            held_since: Mutex::default(),
            paused: AtomicU8::new(0),
            ended: AtomicBool::new(false),
            taken: Taken::default(),
            progress: Progress::default(),
            state: Mutex::new(State {
                queue: Queue::new(settings.capacity, settings.when_full),
                offered: 0,
                from_sources: 0,
                refused: 0,
                drops: Drops::default(),
                rung: false,
                closed: None,
                receivers: Receivers::default(),
            }),
            monitor: OnceLock::new(),
            marks: settings
                .water_marks
                .map(|(low, high)| Marks::new(low, high)),
            lease_watch,
            silence_watch,
            sources: Sources::new(settings.copies_first),
            sources_turn: AtomicBool::new(false),
            told: AtomicBool::new(false),
            source_arrival: AtomicU64::new(0),
            bell: OnceLock::new(),
            is_of_script: OnceLock::new(),
            runtime: runtime.without_guard(),
            origin: Origin::now(),
        });
        if let Some(watch) = &made.lease_watch {
            let leased: Weak<dyn Leased> = Arc::<Self>::downgrade(&made);
            watch.watch(leased);
        }
        made
    }

    /// Has it tell what happens here. Before it joins its topic.
    pub(crate) fn set_monitor(self: &Arc<Self>, monitor: Monitor) {
        let _set_once = self.monitor.set(monitor);
        if let Some(watch) = &self.silence_watch {
            let hears: Weak<dyn Hears> = Arc::<Self>::downgrade(self);
            watch.begin(hears);
        }
    }

    /// A sample was received, from this node or another. No lock is held.
    #[inline]
    fn note_received(&self) {
        if let Some(watch) = &self.silence_watch {
            watch.hear();
        }
    }

    /// Tells an event, if anybody listens. No lock is held.
    pub(crate) fn tell(&self, make: impl FnOnce(String, SubscriptionId) -> Event) {
        if let Some(monitor) = self.monitor.get() {
            monitor.tell(make);
        }
    }

    /// Tells that samples were lost. No lock is held.
    fn tell_dropped(&self, count: u64) {
        self.tell(|topic, subscription| Event::Dropped {
            topic,
            subscription,
            count,
        });
    }

    /// A sample was taken from the queue. No lock is held.
    #[inline]
    pub(crate) fn note_taken(&self) {
        self.note_received();
        if let Some(marks) = self.marks.as_ref().filter(|marks| marks.is_high())
            && let Some(monitor) = self.monitor.get()
        {
            let queued = self.state.lock().queue.len() + self.progress.rest();
            marks.tell_if_low(monitor, queued);
        }
    }

    /// False in a child that was forked from the process that made it.
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// On the thread of the lane's processor.
    pub(crate) fn set_bell(&self, bell: LaneBell) {
        let is_of_script = self.runtime.is_script_here(bell.driver());
        let _set_once = self.is_of_script.set(is_of_script);
        let _set_once = self.bell.set(bell);
    }

    pub(crate) fn is_of_script(&self) -> bool {
        self.is_of_script.get() == Some(&true)
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// How values travel, if its options said so.
    pub(crate) fn codec(&self) -> Option<&'static Codec<T>> {
        self.codec
    }

    pub(crate) fn policy(&self) -> WhenFull {
        self.when_full
    }

    pub(crate) fn max_leases(&self) -> Option<usize> {
        self.max_leases
    }

    pub(crate) fn lane_bell(&self) -> Option<&LaneBell> {
        self.bell.get()
    }

    pub(crate) fn id_of(&self) -> SubscriptionId {
        self.id
    }

    fn passes(&self, body: &Arc<dyn Body<T>>) -> bool {
        let filter = self.filter.as_ref();
        filter.is_none_or(|filter| body.shown_to(filter))
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Acquire) != 0
    }

    /// True once it was unsubscribed.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// True if it was not paused for this reason before.
    pub(crate) fn pause(&self, why: Paused) -> bool {
        let before = self.paused.fetch_or(why as u8, Ordering::AcqRel);
        if before == 0 {
            self.tell(|topic, subscription| Event::Paused {
                topic,
                subscription,
            });
        }
        before & why as u8 == 0
    }

    /// True if it was paused for this reason.
    pub(crate) fn resume(&self, why: Paused) -> bool {
        if !self.is_here() {
            return false;
        }
        let before = self.paused.fetch_and(!(why as u8), Ordering::AcqRel);
        // Whatever came meanwhile, and what was left of a batch, is looked at again.
        self.look_again();
        if before == why as u8 {
            self.tell(|topic, subscription| Event::Resumed {
                topic,
                subscription,
            });
        }
        before & why as u8 != 0
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
                .saturating_add(self.sources.available())
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

    pub(crate) fn receipt(self: &Arc<Self>, gap: u64, received: Instant) -> Receipt {
        let held = (self.max_leases.is_some() || self.lease_watch.is_some())
            .then(|| self.clone() as Arc<dyn Held>);
        Receipt {
            subscription: self.id,
            gap: Gap::Known(gap),
            received,
            held,
        }
    }

    pub(crate) fn is_at_lease_limit(&self) -> bool {
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
        if !self.is_here() {
            return Poll::Ready(Err(RecvError::Closed));
        }
        // Dropped after the lock, because it is made before: a waker's drop is the user's code.
        let mut _old = None;
        let mut was_granted = false;
        let mut sources_are_dry = !self.sources.any();
        loop {
            let mut state = self.state.lock();
            let granted = was_granted
                || match *ticket {
                    Some(number) => {
                        let granted = &mut state.receivers.granted;
                        match granted.iter().position(|&n| n == number) {
                            Some(at) => {
                                granted.swap_remove(at);
                                true
                            }
                            None => false,
                        }
                    }
                    None => state.receivers.in_order.is_empty(),
                };
            match self.choose(&state, granted, sources_are_dry) {
                Choice::Queue => {
                    *ticket = None;
                    return Poll::Ready(Ok(self.take(state)));
                }
                Choice::Sources => {
                    drop(state);
                    if let Fetched::Sample(body, gap) = self.fetch() {
                        *ticket = None;
                        return Poll::Ready(Ok(self.fetched(body, gap)));
                    }
                    was_granted = granted;
                    sources_are_dry = true;
                    continue;
                }
                Choice::Nothing => {}
            }
            if let Some(closed) = state.closed
                && state.queue.is_empty()
                && (sources_are_dry || self.sources.available() == 0)
            {
                *ticket = None;
                return Poll::Ready(Err(match closed {
                    Closed::Unsubscribed | Closed::Draining => RecvError::Closed,
                    Closed::Full => RecvError::Disconnected,
                }));
            }
            match *ticket {
                Some(number) if !granted => {
                    let mut waiting = state.receivers.in_order.iter_mut();
                    if let Some((_, kept)) = waiting.find(|(n, _)| *n == number) {
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
            drop(state);
            self.enlisted();
            return Poll::Pending;
        }
    }

    /// From where a receiver takes that may take: queue and sources have their turns.
    fn choose(&self, state: &State<T>, granted: bool, sources_are_dry: bool) -> Choice {
        if !granted || self.is_paused() || self.is_at_lease_limit() {
            return Choice::Nothing;
        }
        let from_sources = if sources_are_dry {
            0
        } else {
            self.sources.available()
        };
        let spoken_for = state.receivers.granted.len();
        if state.queue.len() + from_sources <= spoken_for {
            return Choice::Nothing;
        }
        let is_sources_turn = self.sources_turn.fetch_not(Ordering::Relaxed);
        if from_sources > 0 && (state.queue.is_empty() || is_sources_turn) {
            Choice::Sources
        } else if state.queue.is_empty() {
            Choice::Nothing
        } else {
            Choice::Queue
        }
    }

    /// Takes an item if nobody else waits for it.
    pub(crate) fn try_recv(self: &Arc<Self>) -> Result<Option<Sample<T>>, RecvError> {
        if !self.is_here() {
            return Err(RecvError::Closed);
        }
        let mut sources_are_dry = !self.sources.any();
        loop {
            let state = self.state.lock();
            let granted = state.receivers.in_order.is_empty();
            match self.choose(&state, granted, sources_are_dry) {
                Choice::Queue => return Ok(Some(self.take(state))),
                Choice::Sources => {
                    drop(state);
                    if let Fetched::Sample(body, gap) = self.fetch() {
                        return Ok(Some(self.fetched(body, gap)));
                    }
                    sources_are_dry = true;
                }
                Choice::Nothing => {
                    return match state.closed {
                        Some(Closed::Unsubscribed | Closed::Draining) if state.queue.is_empty() => {
                            Err(RecvError::Closed)
                        }
                        Some(Closed::Full) if state.queue.is_empty() => {
                            Err(RecvError::Disconnected)
                        }
                        _ => Ok(None),
                    };
                }
            }
        }
    }

    fn take(self: &Arc<Self>, mut state: parking_lot::MutexGuard<'_, State<T>>) -> Sample<T> {
        let (item, wake) = state.queue.pop(&self.progress);
        let Some(mut item) = item else {
            unreachable!("the caller saw an item under this lock");
        };
        let gap = self.taken.note(&mut item.number);
        let is_last = state.closed.is_some() && state.queue.is_empty();
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        if is_last {
            // Those who wait have been told that it is closed, and have found this item still there.
            self.wake_all_receivers();
        }
        self.note_taken();
        let received = self.runtime.now();
        let receipt = self.receipt(gap, received);
        Sample::new(item, receipt)
    }

    /// Leaves the line. An item it was woken for goes to the next.
    pub(crate) fn leave_line(&self, ticket: &mut Option<u64>) {
        let Some(number) = ticket.take().filter(|_| self.is_here()) else {
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
        if !self.is_here() {
            return true;
        }
        let mut state = self.state.lock();
        let spoken_for = state.receivers.granted.len();
        let there = state.queue.len() + self.sources.available();
        if (there > spoken_for && !self.is_paused() && !self.is_at_lease_limit())
            || state.closed.is_some()
        {
            return true;
        }
        if !state.receivers.watchers.iter().any(|w| w.will_wake(waker)) {
            state.receivers.watchers.push(waker.clone());
        }
        drop(state);
        self.enlisted();
        false
    }

    /// A look for those who spin.
    pub(crate) fn has_samples(&self) -> bool {
        if !self.is_here() || self.sources.have_news() {
            return true;
        }
        let state = self.state.lock();
        !state.queue.is_empty() || state.closed.is_some()
    }

    pub(crate) fn topic_id(&self) -> TopicId {
        self.topic_id
    }
}

enum Choice {
    Queue,
    Sources,
    Nothing,
}

/// What the receiving side counts. It is written by one receiver at a time (the lane's driver, or whoever holds the
/// lock) and orders nothing, hence relaxed.
#[derive(Default)]
pub(crate) struct Taken {
    count: AtomicU64,
    /// The number in the queue that comes next; a larger one is a gap.
    expected: AtomicU64,
    gaps: AtomicU64,
    /// How many were offered before the next, by the queue and the sources together: its number in the subscription.
    numbered: AtomicU64,
}

impl Taken {
    /// Counts an item that is taken from the queue, and returns how many were lost before it. Its number in the queue becomes
    /// its number in the subscription.
    pub(crate) fn note(&self, number: &mut u64) -> u64 {
        let gap = number.saturating_sub(self.expected.load(Ordering::Relaxed));
        self.expected.store(*number + 1, Ordering::Relaxed);
        *number = self.note_gap(gap);
        gap
    }

    /// Counts a sample before which so many were lost, and returns its number in the subscription.
    fn note_gap(&self, gap: u64) -> u64 {
        let count = self.count.load(Ordering::Relaxed);
        self.count.store(count + 1, Ordering::Relaxed);
        if gap > 0 {
            let gaps = self.gaps.load(Ordering::Relaxed);
            self.gaps.store(gaps.saturating_add(gap), Ordering::Relaxed);
        }
        let before = self.numbered.load(Ordering::Relaxed);
        let number = before.saturating_add(gap);
        self.numbered
            .store(number.saturating_add(1), Ordering::Relaxed);
        number
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
        self.passes(body)
    }

    fn try_reserve(&self) -> Reserve {
        self.state.lock().queue.try_reserve(&self.progress)
    }

    fn poll_reserve(&self, ticket: &mut Waiter, waker: &Waker) -> Reserve {
        let reserve = {
            let mut state = self.state.lock();
            state.queue.poll_reserve(ticket, waker, &self.progress)
        };
        ticket.tidy();
        reserve
    }

    fn resign(&self, ticket: &mut Waiter) {
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
        _prepared: &Prepared,
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
        let marks = self.marks.as_ref();
        Pushed::Queued {
            is_high: marks
                .is_some_and(|marks| marks.rises(state.queue.len() + self.progress.rest())),
            ring: first || state.receivers.is_waited_for(),
            evicted: evicts,
        }
    }

    fn dead_letter(&self, cause: DropCause) {
        let owner = self.bell.get().map(LaneBell::processor);
        dead_letter::<T>(&self.runtime, self.topic, self.topic_id, owner, cause);
        self.tell_dropped(1);
    }

    fn tell_high(&self) {
        if let (Some(marks), Some(monitor)) = (&self.marks, self.monitor.get()) {
            let queued = self.state.lock().queue.len() + self.progress.rest();
            marks.tell_high(monitor, queued);
        }
    }

    fn must_be_asked(&self) -> bool {
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
        if !self.is_here() {
            return;
        }
        let (items, wake) = {
            let mut state = self.state.lock();
            match (state.closed, cause) {
                (None, _) => {}
                // What it was still to read, it wants no more.
                (Some(Closed::Full | Closed::Draining), Closed::Unsubscribed) => {}
                (Some(_), _) => return,
            }
            state.closed = Some(cause);
            if cause == Closed::Unsubscribed {
                self.ended.store(true, Ordering::Release);
            }
            let wake = state.queue.close(&self.progress);
            // What a full subscriber has queued it may still read; whoever unsubscribed wants no more.
            let items = match cause {
                Closed::Full | Closed::Draining => VecDeque::new(),
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
        match cause {
            Closed::Full | Closed::Draining => self.sources.drain(),
            Closed::Unsubscribed => drop(self.sources.close()),
        }
        self.wake_all_receivers();
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        let oldest = self.held_since.lock().keys().next().copied();
        let held_ns_max = oldest.map(|received| {
            let age = self.runtime.now().saturating_duration_since(received);
            age.as_nanos() as u64
        });
        let waits_at_sources = self.sources.queued() as u64;
        let state = self.state.lock();
        let taken = self.taken.count.load(Ordering::Relaxed);
        let offered = state.offered + state.from_sources + waits_at_sources;
        SubscriptionSnapshot {
            id: self.id,
            node: None,
            owner: self
                .bell
                .get()
                .map(|bell| bell.processor_name().as_str().to_owned()),
            when_full: self.when_full,
            capacity: self.capacity as u64,
            paused: self.is_paused(),
            closed: state.closed.is_some(),
            offered,
            taken,
            queued: offered
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

impl<T: ?Sized + Send + Sync + 'static> Hears for Delivery<T> {
    fn has_something(&self) -> bool {
        !self.is_paused() && self.snapshot().queued > 0
    }

    fn has_ended(&self) -> bool {
        !self.is_here() || self.state.lock().closed.is_some()
    }

    fn monitor(&self) -> Option<&Monitor> {
        self.monitor.get()
    }
}

impl<T: ?Sized + Send + Sync + 'static> Leased for Delivery<T> {
    fn held_since(&self) -> &HeldSince {
        &self.held_since
    }

    fn monitor(&self) -> Option<&Monitor> {
        self.monitor.get()
    }
}

impl<T: ?Sized + Send + Sync + 'static> Held for Delivery<T> {
    fn keep(&self, received: Instant) {
        if !self.is_here() {
            return;
        }
        self.held.fetch_add(1, Ordering::AcqRel);
        *self.held_since.lock().entry(received).or_default() += 1;
        if let Some(watch) = &self.lease_watch {
            watch.note();
        }
    }

    fn let_go(&self, received: Instant) {
        if !self.is_here() {
            return;
        }
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
