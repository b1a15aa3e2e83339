//! A subscription of another node, as publishers of this one see it: one more subscriber.
//!
//! Its queue is the link. What this side knows of it is how many samples were queued and not taken yet: *credits*, a queue of
//! places only, so that waiting for a place is the same as everywhere (`mproc_runtime::queue`). Places come back when the other
//! side takes; that is seen when somebody looks ([`RemoteLink::refill`]), and while somebody waits the transport tells.
//!
//! A value is *out* at a link until the other side has given it back. Each has a guard, which the transport keeps as long.

use crate::codec::Codec;
use crate::events::Event;
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::inspect::hex;
use crate::leases::{InFlight, Outstanding};
use crate::monitor::Monitor;
use crate::prepared::{FIRST_HINT, Prepared, Unprepared};
use crate::sample::Body;
use crate::snapshot::SubscriptionSnapshot;
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber, dead_letter};
use crate::topic;
use crate::transport::{Carried, Listener, OutLink, Outlet, Stamp};
use mproc_runtime::queue::{Progress, Queue, Reserve, Waiter};
use mproc_runtime::{DropCause, Drops, LaneBell, Runtime, WhenFull};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

pub(crate) struct RemoteLink<T: ?Sized + 'static> {
    id: SubscriptionId,
    topic: &'static str,
    topic_id: TopicId,
    codec: &'static Codec<T>,
    link: Arc<dyn OutLink>,
    runtime: Runtime,
    hint: AtomicUsize,
    /// How many guards live.
    out: Arc<AtomicUsize>,
    progress: Progress,
    monitor: OnceLock<Monitor>,
    state: Mutex<State>,
}

struct State {
    credits: Queue<VecDeque<()>>,
    /// Wakers of those who were given a place while a lock was held.
    to_wake: Vec<Waker>,
    /// Somebody waits for values to come back.
    returns_are_watched: bool,
    /// The transport tells what comes back.
    is_watched: bool,
    offered: u64,
    refused: u64,
    drops: Drops,
    closed: bool,
}

/// Kept by the transport with a value that is out.
struct OutGuard {
    _in_flight: Option<Arc<InFlight>>,
    _outstanding: Option<Arc<Outstanding>>,
    out: Arc<AtomicUsize>,
}

impl Drop for OutGuard {
    fn drop(&mut self) {
        // Relaxed: a plain count, read under the lock to decide whether to go on watching. One that is read too large is
        // watched once more.
        self.out.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<T: ?Sized + Send + Sync + 'static> RemoteLink<T> {
    pub(crate) fn new(
        topic: &'static str,
        topic_id: TopicId,
        codec: &'static Codec<T>,
        link: Arc<dyn OutLink>,
        runtime: &Runtime,
    ) -> Arc<Self> {
        let capacity = link.capacity();
        let when_full = link.when_full();
        let made = Arc::new(Self {
            id: SubscriptionId::next(),
            topic,
            topic_id,
            codec,
            link,
            runtime: runtime.without_guard(),
            hint: AtomicUsize::new(FIRST_HINT),
            out: Arc::default(),
            progress: Progress::default(),
            monitor: OnceLock::new(),
            state: Mutex::new(State {
                credits: Queue::new(capacity, when_full),
                to_wake: Vec::new(),
                returns_are_watched: false,
                is_watched: false,
                offered: 0,
                refused: 0,
                drops: Drops::default(),
                closed: false,
            }),
        });
        let listener: Weak<Self> = Arc::downgrade(&made);
        made.link.set_listener(listener);
        made
    }

    pub(crate) fn id_of(&self) -> SubscriptionId {
        self.id
    }

    /// Tells of what is dropped. Before it joins.
    pub(crate) fn set_monitor(&self, monitor: Monitor) {
        let _set_once = self.monitor.set(monitor);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.link.capacity()
    }

    /// Places of what the other side has taken are free again.
    fn refill(&self, state: &mut State) {
        let queued = self.link.queued();
        while state.credits.len() > queued {
            let (_, wake) = state.credits.pop(&self.progress);
            state.to_wake.extend(wake);
        }
    }

    /// Has the transport tell what comes back, and looks at what has come back before.
    fn watch(&self, state: &mut State) {
        if !std::mem::replace(&mut state.is_watched, true) {
            self.link.watch(true);
        }
        self.refill(state);
    }

    fn reserve(&self, state: &mut State) -> Reserve {
        match state.credits.try_reserve(&self.progress) {
            Reserve::Full => {
                self.refill(state);
                state.credits.try_reserve(&self.progress)
            }
            other => other,
        }
    }

    /// Wakes those who were given a place while a lock was held. No lock is held.
    fn wake_those_given(&self) {
        let wake = std::mem::take(&mut self.state.lock().to_wake);
        wake.into_iter().for_each(Waker::wake);
    }

    fn close_state(&self) {
        let wake = {
            let mut state = self.state.lock();
            state.closed = true;
            state.credits.close(&self.progress)
        };
        wake.into_iter().for_each(Waker::wake);
        self.wake_those_given();
    }
}

impl<T: ?Sized + Send + Sync + 'static> Listener for RemoteLink<T> {
    fn came_back(&self) {
        self.link.sweep();
        let wake = {
            let mut state = self.state.lock();
            self.refill(&mut state);
            state.returns_are_watched &= self.has_out();
            if state.is_watched && !state.returns_are_watched && state.credits.nobody_waits() {
                state.is_watched = false;
                self.link.watch(false);
            }
            std::mem::take(&mut state.to_wake)
        };
        wake.into_iter().for_each(Waker::wake);
    }
}

impl<T: ?Sized + Send + Sync + 'static> Subscriber<T> for RemoteLink<T> {
    fn id(&self) -> SubscriptionId {
        self.id
    }

    fn when_full(&self) -> WhenFull {
        self.link.when_full()
    }

    /// Its filter is at the other side.
    fn wants(&self, _body: &Arc<dyn Body<T>>) -> bool {
        true
    }

    fn prepare(
        &self,
        body: &Arc<dyn Body<T>>,
        prepared: &mut Prepared,
        waker: Option<&Waker>,
    ) -> Result<(), Unprepared> {
        if self.state.lock().closed {
            return Ok(());
        }
        prepared.fill(self.link.outlet(), self.codec, body, &self.hint, waker)
    }

    fn must_be_asked(&self) -> bool {
        true
    }

    fn try_reserve(&self) -> Reserve {
        self.reserve(&mut self.state.lock())
    }

    fn poll_reserve(&self, ticket: &mut Waiter, waker: &Waker) -> Reserve {
        let reserve = {
            let mut state = self.state.lock();
            match state.credits.poll_reserve(ticket, waker, &self.progress) {
                Reserve::Full => {
                    self.watch(&mut state);
                    state.credits.poll_reserve(ticket, waker, &self.progress)
                }
                other => other,
            }
        };
        ticket.tidy();
        self.wake_those_given();
        reserve
    }

    fn resign(&self, ticket: &mut Waiter) {
        let wake = self.state.lock().credits.resign(ticket, &self.progress);
        ticket.tidy();
        wake.into_iter().for_each(Waker::wake);
    }

    fn release(&self) {
        let wake = self.state.lock().credits.release(&self.progress);
        wake.into_iter().for_each(Waker::wake);
    }

    fn push(
        &self,
        body: &Arc<dyn Body<T>>,
        reserved: bool,
        in_flight: Option<&Arc<InFlight>>,
        prepared: &Prepared,
        _evicted: &mut Evicted<T>,
    ) -> Pushed {
        let mut state = self.state.lock();
        let state = &mut *state;
        let Some(filled) = prepared.of(self.link.outlet()).filter(|_| !state.closed) else {
            return Pushed::Gone;
        };
        let waits = self.when_full() == WhenFull::Wait;
        if waits && !reserved {
            match self.reserve(state) {
                Reserve::Granted => {}
                Reserve::Full => return Pushed::Full,
                Reserve::Closed => return Pushed::Gone,
            }
        }
        let header = body.header();
        let stamp = Stamp {
            topic: header.topic_id,
            publisher: header.publisher.get(),
            sequence: header.sequence.load(Ordering::Relaxed),
            published: header.published,
            has_parts: body.part_count() > 0,
        };
        self.out.fetch_add(1, Ordering::Relaxed);
        let guard = Arc::new(OutGuard {
            _in_flight: in_flight.cloned(),
            _outstanding: prepared.outstanding().cloned(),
            out: self.out.clone(),
        });
        let carried = self.link.push(filled, &stamp, guard);
        if waits {
            if matches!(carried, Carried::Queued { .. }) {
                let _open = state.credits.push_reserved(());
            } else {
                let wake = state.credits.release(&self.progress);
                state.to_wake.extend(wake);
            }
        }
        match carried {
            Carried::Queued { evicted } => {
                state.offered += 1;
                if evicted {
                    state.drops.add(DropCause::Evicted, 1);
                }
                Pushed::Queued {
                    ring: true,
                    evicted,
                    is_high: false,
                }
            }
            Carried::Dropped => {
                state.offered += 1;
                state.drops.add(DropCause::NoRoom, 1);
                Pushed::Dropped
            }
            Carried::Refused | Carried::Overflowed => {
                state.offered += 1;
                state.refused += 1;
                if carried == Carried::Refused {
                    Pushed::Refused
                } else {
                    Pushed::Disconnect
                }
            }
            Carried::Full => Pushed::Full,
            Carried::Gone => Pushed::Gone,
        }
    }

    fn watch_returns(&self) {
        {
            let mut state = self.state.lock();
            if self.has_out() {
                state.returns_are_watched = true;
                self.watch(&mut state);
            }
        }
        self.link.sweep();
        self.wake_those_given();
    }

    fn spins_for_room(&self) -> Option<bool> {
        let mut state = self.state.lock();
        if state.closed {
            return Some(true);
        }
        self.refill(&mut state);
        Some(state.credits.nobody_waits() && state.credits.has_room(&self.progress))
    }

    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        Some(self.link.outlet().clone())
    }

    fn has_out(&self) -> bool {
        self.out.load(Ordering::Relaxed) > 0
    }

    fn dead_letter(&self, cause: DropCause) {
        dead_letter::<T>(&self.runtime, self.topic, self.topic_id, None, cause);
        if let Some(monitor) = self.monitor.get() {
            monitor.tell(|topic, subscription| Event::Dropped {
                topic,
                subscription,
                count: 1,
            });
        }
    }

    fn ring(&self) {
        self.link.ring();
        self.wake_those_given();
    }

    fn owner(&self) -> Option<&LaneBell> {
        None
    }

    fn label(&self) -> String {
        let topic = topic::label(self.topic, self.topic_id);
        format!("{} on {topic:?}", self.link.remote().label)
    }

    fn queued_of(&self, _publisher: PublisherId) -> Vec<u64> {
        Vec::new()
    }

    fn close(&self, _cause: Closed) {
        self.link.close();
        self.close_state();
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        let queued = self.link.queued() as u64;
        let state = self.state.lock();
        let lost = state.drops.total();
        let taken = state
            .offered
            .saturating_sub(lost)
            .saturating_sub(state.refused)
            .saturating_sub(queued);
        SubscriptionSnapshot {
            id: self.id,
            owner: Some(self.link.remote().label.clone()),
            node: Some(hex(&self.link.remote().node)),
            tap: self.link.is_tap(),
            when_full: self.link.when_full(),
            capacity: self.link.capacity() as u64,
            paused: false,
            closed: state.closed,
            offered: state.offered,
            taken,
            queued,
            // Policies that do not wait take no credits: then it is as many as wait now, at the least.
            high_water: (state.credits.high_water() as u64).max(queued),
            dropped: state.drops.clone(),
            refused: state.refused,
            lost,
            held: (self.out.load(Ordering::Relaxed) as u64).saturating_sub(queued),
            held_ns_max: None,
        }
    }
}

impl<T: ?Sized> Drop for RemoteLink<T> {
    fn drop(&mut self) {
        self.link.close();
    }
}
