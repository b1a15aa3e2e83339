//! The receiving side of a processor's lane.

use crate::delivery::{AtLimit, Delivery};
use crate::sample::{Item, Sample};
use crate::subscriber::Subscriber as _;
use mproc_runtime::DropCause;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

/// The receiving side of a processor's lane: takes batches, and gives their places back one by one.
pub(crate) struct Intake<T: ?Sized + 'static> {
    delivery: Arc<Delivery<T>>,
    batch: VecDeque<Item<T>>,
    received: Instant,
    limit_reported: bool,
    /// It is the turn of what comes from other nodes, not the queue's.
    sources_turn: bool,
}

impl<T: ?Sized + Send + Sync + 'static> Intake<T> {
    pub(crate) fn new(delivery: Arc<Delivery<T>>) -> Self {
        let received = delivery.runtime.now();
        Self {
            delivery,
            batch: VecDeque::new(),
            received,
            limit_reported: false,
            sources_turn: false,
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
        if delivery.has_sources() {
            return self.next_in_turn();
        }
        self.limit_reported = false;
        match self.next_from_queue() {
            Some(item) => Next::Sample(self.sample_of(item)),
            // Looked at under the lock, too: whoever closes it does not ring if it is rung.
            None if self.delivery.is_ended() => Next::Ended,
            None => Next::Nothing,
        }
    }

    /// From the queue and from other nodes, in turns. `rung` stays up until both were found empty.
    fn next_in_turn(&mut self) -> Next<T> {
        let mut at_limit = false;
        let mut from_sources = std::mem::replace(&mut self.sources_turn, false);
        let mut looked = 0;
        while looked < 2 {
            if from_sources {
                match self.delivery.next_from_sources() {
                    Ok(Some(sample)) => {
                        self.limit_reported = false;
                        return Next::Sample(sample);
                    }
                    Ok(None) => {}
                    Err(AtLimit) => at_limit = true,
                }
            } else if let Some(item) = self.next_from_queue() {
                self.sources_turn = true;
                return Next::Sample(self.sample_of(item));
            }
            from_sources = !from_sources;
            looked += 1;
            if looked == 2 && !self.delivery.found_nothing() {
                // Something came while it was looked for.
                looked = 0;
            }
        }
        if self.delivery.is_ended() {
            Next::Ended
        } else if at_limit && !std::mem::replace(&mut self.limit_reported, true) {
            Next::LeaseLimit
        } else {
            Next::Nothing
        }
    }

    fn sample_of(&self, mut item: Item<T>) -> Sample<T> {
        self.delivery.note_taken();
        let gap = self.delivery.taken.note(&mut item.number);
        let receipt = self.delivery.receipt(gap, self.received);
        Sample::new(item, receipt)
    }

    fn next_from_queue(&mut self) -> Option<Item<T>> {
        let delivery = &self.delivery;
        if let Some(item) = self.batch.pop_front() {
            if delivery.progress.step(self.batch.len()) {
                let wake = delivery.state.lock().queue.hand_out(&delivery.progress);
                wake.into_iter().for_each(Waker::wake);
            }
            return Some(item);
        }
        let mut state = delivery.state.lock();
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
            if !delivery.has_sources() && !delivery.is_ended() {
                state.rung = false;
            }
            state.queue.shrink();
        }
        drop(state);
        wake.into_iter().for_each(Waker::wake);
        item.inspect(|_| self.received = delivery.runtime.now())
    }

    /// See [`mproc_runtime::LaneSource::rest`].
    pub(crate) fn rest(&mut self) -> bool {
        // An end is looked for afterwards, too: whoever closes it does not ring if it is rung.
        self.batch.is_empty()
            && !self.delivery.is_ended()
            && self.delivery.found_nothing()
            && !self.delivery.is_ended()
    }

    pub(crate) fn head(&self) -> Option<u64> {
        if self.delivery.is_ended() {
            // Its lane is removed before anything else is served.
            return Some(0);
        }
        let in_queue = match self.batch.front() {
            Some(item) => Some(item.arrival),
            None => {
                let state = self.delivery.state.lock();
                state.queue.items().front().map(|item| item.arrival)
            }
        };
        match (in_queue, self.delivery.source_arrival()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
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
