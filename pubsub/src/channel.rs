//! A subscription as a crossbeam channel, for threads that already select over channels.
//!
//! A channel cannot tell when something is taken out of it, so here a place is given back when its sample is *dropped*.
//! Capacity therefore bounds what is queued and held together, and a bound on leases is one on the capacity. Policies that
//! evict take the oldest out of the channel themselves; what is held cannot be evicted.
//!
//! What other nodes publish stands in links until there is a place for it: whoever sees that there is one moves it over
//! ([`Channel::look_outside`]).

use crate::codec::CodecError;
use crate::delivery::Settings;
use crate::forked::Origin;
use crate::graph::Graph;
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::leases::InFlight;
use crate::prepared::Prepared;
use crate::raw;
use crate::reader::Reader;
use crate::sample::{Body, Gap, Held, Item, Receipt, Sample};
use crate::snapshot::SubscriptionSnapshot;
use crate::sources::{Arrival, Sources};
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber};
use crate::topic;
use crate::transport::Inlet;
use crossbeam_channel::{Receiver, Sender};
use mproc_runtime::queue::{Progress, Queue, Reserve, Waiter};
use mproc_runtime::{DropCause, Drops, LaneBell, Runtime, WhenFull, hook};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

pub(crate) struct Channel<T: ?Sized + 'static> {
    me: Weak<Self>,
    id: SubscriptionId,
    topic: &'static str,
    topic_id: TopicId,
    settings: Settings<T>,
    progress: Progress,
    state: Mutex<State<T>>,
    /// To take the oldest out again, and to count.
    receiver: Receiver<Sample<T>>,
    /// What comes from other nodes.
    sources: Sources<T>,
    /// Somebody moves samples from the sources to the channel.
    moving: AtomicBool,
    /// Whoever moves must look once more.
    look_again: AtomicBool,
    runtime: Runtime,
    origin: Origin,
}

struct State<T: ?Sized + 'static> {
    /// Places only: each sample that is out there holds a reserved one.
    places: Queue<VecDeque<()>>,
    sender: Option<Sender<Sample<T>>>,
    offered: u64,
    sent: u64,
    /// Used places: of samples that are queued or held.
    used: u64,
    refused: u64,
    /// Lost since the last that was sent.
    gap: u64,
    /// Lost before each that stands in the channel, in order; perhaps of some that were received since.
    gaps: VecDeque<Arc<AtomicU64>>,
    lost: u64,
    /// Of these: before they came here, from other nodes. They take numbers, and were not offered here.
    lost_elsewhere: u64,
    drops: Drops,
}

impl<T: ?Sized> State<T> {
    /// Only the last `queued` still stand in the channel.
    fn forget_received(&mut self, queued: usize) {
        while self.gaps.len() > queued {
            self.gaps.pop_front();
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Channel<T> {
    pub(crate) fn new(
        runtime: &Runtime,
        topic: &'static str,
        topic_id: TopicId,
        mut settings: Settings<T>,
    ) -> Arc<Self> {
        if let Some(max_leases) = settings.max_leases {
            settings.capacity = settings.capacity.min(max_leases);
        }
        let (sender, receiver) = crossbeam_channel::unbounded();
        let sources = Sources::new(settings.copies_first);
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            id: SubscriptionId::next(),
            topic,
            topic_id,
            progress: Progress::default(),
            state: Mutex::new(State {
                places: Queue::new(settings.capacity, settings.when_full),
                sender: Some(sender),
                offered: 0,
                sent: 0,
                used: 0,
                refused: 0,
                gap: 0,
                gaps: VecDeque::new(),
                lost: 0,
                lost_elsewhere: 0,
                drops: Drops::default(),
            }),
            settings,
            receiver,
            sources,
            moving: AtomicBool::new(false),
            look_again: AtomicBool::new(false),
            runtime: runtime.without_guard(),
            origin: Origin::now(),
        })
    }

    pub(crate) fn capacity(&self) -> usize {
        self.settings.capacity
    }

    pub(crate) fn id_of(&self) -> SubscriptionId {
        self.id
    }

    pub(crate) fn policy(&self) -> WhenFull {
        self.settings.when_full
    }

    pub(crate) fn max_leases(&self) -> Option<usize> {
        self.settings.max_leases
    }

    pub(crate) fn open(
        &self,
        inlet: Box<dyn Inlet>,
        reader: Arc<dyn Reader<T>>,
    ) -> Result<(), Box<dyn Inlet>> {
        self.sources.open(inlet, reader)
    }

    /// Moves what the sources have to the channel, as long as there are places. True if it moved any.
    pub(crate) fn look_outside(&self) -> bool {
        let mut moved = false;
        if !self.sources.any() {
            return false;
        }
        // Who is second says so, and the first looks once more: filters and decoders, which are the user's code, run
        // without a lock, and samples keep their order.
        self.look_again.store(true, SeqCst);
        while self.look_again.load(SeqCst) && !self.moving.swap(true, SeqCst) {
            let _moving = Moving(&self.moving);
            self.look_again.store(false, SeqCst);
            while self.move_one() {
                moved = true;
            }
        }
        moved
    }

    fn move_one(&self) -> bool {
        if !self.sources.have_news()
            || self.state.lock().places.try_reserve(&self.progress) != Reserve::Granted
        {
            return false;
        }
        // A filter or a decoder that panics takes no place with it.
        let reserved = Reserved(self);
        let (body, gap) = loop {
            let undecoded = match self.sources.take() {
                Arrival::Sample(undecoded) => undecoded,
                other => {
                    drop(reserved);
                    if matches!(other, Arrival::Overflowed) {
                        self.close(Closed::Full);
                    }
                    return false;
                }
            };
            let taken = undecoded.decode();
            let (source, gap) = (taken.source, taken.gap);
            match taken.body {
                Ok(body) if self.wants(&body) => break (body, gap),
                Ok(_unwanted) => self.sources.carry_gap(source, gap),
                Err(error) => {
                    self.sources.carry_gap(source, gap.saturating_add(1));
                    let is_new = self.sources.is_new_to_report(source, taken.publisher);
                    self.drop_undecodable(is_new, &error);
                }
            }
        };
        {
            let mut state = self.state.lock();
            // Numbers of another process: any are possible.
            state.gap = state.gap.saturating_add(gap);
            state.lost = state.lost.saturating_add(gap);
            state.offered = state.offered.saturating_add(gap);
            state.lost_elsewhere = state.lost_elsewhere.saturating_add(gap);
        }
        std::mem::forget(reserved);
        let mut evicted = Evicted::default();
        self.push(&body, true, None, &Prepared::default(), &mut evicted);
        true
    }

    fn drop_undecodable(&self, is_new: bool, error: &CodecError) {
        {
            let mut state = self.state.lock();
            state.offered += 1;
            state.drops.add(DropCause::Undecodable, 1);
        }
        if is_new {
            hook::remote(&format!("{}: a value is dropped: {error}", self.label()));
        }
        self.dead_letter(DropCause::Undecodable);
    }
}

/// Somebody moves samples, until this is dropped.
struct Moving<'a>(&'a AtomicBool);

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.0.store(false, SeqCst);
    }
}

/// A place in the channel that goes back if this is dropped.
struct Reserved<'a, T: ?Sized + Send + Sync + 'static>(&'a Channel<T>);

impl<T: ?Sized + Send + Sync> Drop for Reserved<'_, T> {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl<T: ?Sized + Send + Sync + 'static> Subscriber<T> for Channel<T> {
    fn id(&self) -> SubscriptionId {
        self.id
    }

    fn when_full(&self) -> WhenFull {
        self.settings.when_full
    }

    fn wants(&self, body: &Arc<dyn Body<T>>) -> bool {
        let filter = self.settings.filter.as_ref();
        filter.is_none_or(|filter| body.shown_to(filter))
    }

    fn must_be_asked(&self) -> bool {
        self.settings.filter.is_some()
    }

    fn try_reserve(&self) -> Reserve {
        self.state.lock().places.try_reserve(&self.progress)
    }

    fn poll_reserve(&self, ticket: &mut Waiter, waker: &Waker) -> Reserve {
        let reserve = {
            let mut state = self.state.lock();
            state.places.poll_reserve(ticket, waker, &self.progress)
        };
        ticket.tidy();
        reserve
    }

    fn resign(&self, ticket: &mut Waiter) {
        let wake = self.state.lock().places.resign(ticket, &self.progress);
        ticket.tidy();
        wake.into_iter().for_each(Waker::wake);
    }

    fn release(&self) {
        let wake = self.state.lock().places.release(&self.progress);
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
        let mut evicts = false;
        let mut place = None;
        let mut state = self.state.lock();
        if state.sender.is_none() {
            return Pushed::Gone;
        }
        if !reserved && state.places.try_reserve(&self.progress) != Reserve::Granted {
            let when_full = self.settings.when_full;
            let oldest = if when_full.evicts() {
                self.receiver.try_recv().ok()
            } else {
                None
            };
            match (oldest, when_full) {
                (Some(mut oldest), _) => {
                    // Its place becomes the new one's.
                    place = oldest.take_held();
                    evicted.items.push(oldest.to_item());
                    state.drops.add(DropCause::Evicted, 1);
                    state.sent -= 1;
                    state.lost += 1;
                    // What was lost before it, and itself, is lost before the one that is the oldest now.
                    state.forget_received(self.receiver.len());
                    let lost = oldest.gap() + 1;
                    match state.gaps.front() {
                        Some(gap) => _ = gap.fetch_add(lost, Relaxed),
                        None => state.gap += lost,
                    }
                    evicts = true;
                }
                (None, WhenFull::Wait) => return Pushed::Full,
                (None, WhenFull::Fail | WhenFull::Disconnect) => {
                    state.offered += 1;
                    state.refused += 1;
                    state.lost += 1;
                    state.gap += 1;
                    return match when_full {
                        WhenFull::Disconnect => Pushed::Disconnect,
                        _ => Pushed::Refused,
                    };
                }
                (None, _) => {
                    state.offered += 1;
                    state.drops.add(DropCause::NoRoom, 1);
                    state.lost += 1;
                    state.gap += 1;
                    return Pushed::Dropped;
                }
            }
        }
        let item = Item {
            body: body.clone(),
            number: state.offered,
            arrival: 0,
            in_flight: in_flight.cloned(),
        };
        state.offered = state.offered.saturating_add(1);
        state.sent += 1;
        state.forget_received(self.receiver.len());
        let gap = Arc::new(AtomicU64::new(std::mem::take(&mut state.gap)));
        state.gaps.push_back(gap.clone());
        let receipt = Receipt {
            subscription: self.id,
            gap: Gap::Growing(gap),
            received: self.runtime.now(),
            held: place.or_else(|| {
                let channel = self.me.upgrade()?;
                state.used += 1;
                Some(Arc::new(Place(channel)) as Arc<dyn Held>)
            }),
        };
        if let Some(sender) = &state.sender {
            // `self.receiver` keeps the channel open.
            let _sent = sender.send(Sample::new(item, receipt));
        }
        Pushed::Queued {
            ring: false,
            evicted: evicts,
            is_high: false,
        }
    }

    fn dead_letter(&self, cause: DropCause) {
        crate::subscriber::dead_letter::<T>(&self.runtime, self.topic, self.topic_id, None, cause);
    }

    fn ring(&self) {}

    fn owner(&self) -> Option<&LaneBell> {
        None
    }

    fn label(&self) -> String {
        let topic = topic::label(self.topic, self.topic_id);
        format!("channel {} on {topic:?}", self.id.get())
    }

    fn queued_of(&self, _: PublisherId) -> Vec<u64> {
        Vec::new()
    }

    fn close(&self, cause: Closed) {
        if !self.origin.is_here() {
            return;
        }
        let (sender, wake) = {
            let mut state = self.state.lock();
            let wake = state.places.close(&self.progress);
            (state.sender.take(), wake)
        };
        // Receivers find what is queued, then the end.
        drop(sender);
        wake.into_iter().for_each(Waker::wake);
        drop(self.sources.close());
        if cause == Closed::Unsubscribed {
            while let Ok(sample) = self.receiver.try_recv() {
                let mut state = self.state.lock();
                state.sent -= 1;
                state.drops.add(DropCause::Unsubscribed, 1);
                drop(state);
                drop(sample);
            }
        }
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        let state = self.state.lock();
        let queued = self.receiver.len() as u64;
        SubscriptionSnapshot {
            id: self.id,
            owner: None,
            node: None,
            tap: raw::is_tap::<T>(),
            when_full: self.settings.when_full,
            capacity: self.settings.capacity as u64,
            paused: false,
            closed: state.sender.is_none(),
            offered: state.offered - state.lost_elsewhere,
            taken: state.sent.saturating_sub(queued),
            queued,
            high_water: state.places.high_water() as u64,
            dropped: state.drops.clone(),
            refused: state.refused,
            lost: state.lost,
            held: state.used.saturating_sub(queued),
            // Which of the used places are of samples that were received, a channel does not say.
            held_ns_max: None,
        }
    }
}

/// A used place, shared by the clones of a sample: given back when the last is dropped.
struct Place<T: ?Sized + Send + Sync + 'static>(Arc<Channel<T>>);

impl<T: ?Sized + Send + Sync + 'static> Held for Place<T> {
    fn keep(&self, _: Instant) {}

    fn let_go(&self, _: Instant) {}
}

impl<T: ?Sized + Send + Sync + 'static> Drop for Place<T> {
    fn drop(&mut self) {
        if !self.0.origin.is_here() {
            return;
        }
        let wake = {
            let mut state = self.0.state.lock();
            state.used -= 1;
            state.places.release(&self.0.progress)
        };
        wake.into_iter().for_each(Waker::wake);
        self.0.look_outside();
    }
}

/// A subscription as a crossbeam channel: it derefs to the receiver, which works in `crossbeam_channel::select!`.
///
/// A place is given back when its sample is dropped. Dropping this ends the subscription.
#[must_use = "dropping it ends the subscription"]
pub struct ChannelSubscription<T: ?Sized + Send + Sync + 'static> {
    pub(crate) channel: Arc<Channel<T>>,
    pub(crate) graph: Weak<Graph>,
}

impl<T: ?Sized + Send + Sync + 'static> ChannelSubscription<T> {
    /// The receiver. Clones of it may be used as long as this lives.
    pub fn receiver(&self) -> &Receiver<Sample<T>> {
        &self.channel.receiver
    }

    /// What is known of it now.
    pub fn snapshot(&self) -> SubscriptionSnapshot {
        self.channel.snapshot()
    }
}

impl<T: ?Sized + Send + Sync> Deref for ChannelSubscription<T> {
    type Target = Receiver<Sample<T>>;

    fn deref(&self) -> &Receiver<Sample<T>> {
        &self.channel.receiver
    }
}

impl<T: ?Sized + Send + Sync> Drop for ChannelSubscription<T> {
    fn drop(&mut self) {
        if let Some(graph) = self.graph.upgrade() {
            graph.detach_id(self.channel.id);
        }
        self.channel.close(Closed::Unsubscribed);
    }
}

impl<T: ?Sized + Send + Sync> fmt::Debug for ChannelSubscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelSubscription({})", self.channel.label())
    }
}
