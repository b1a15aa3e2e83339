//! What publishers of this node see of a subscription: places, pushes, and its end.

use super::Delivery;
use crate::id::{PublisherId, SubscriptionId};
use crate::leases::InFlight;
use crate::prepared::Prepared;
use crate::raw;
use crate::sample::{Body, Item};
use crate::snapshot::SubscriptionSnapshot;
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber, dead_letter};
use crate::topic;
use mproc_runtime::queue::{Admit, Reserve, Waiter};
use mproc_runtime::{DropCause, LaneBell, WhenFull};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

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
            tap: raw::is_tap::<T>(),
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
