//! The subscriber's half of a link, and what it holds; see `README.md`.
//!
//! Nothing read from the link is trusted: each word is read once, into a local variable, and checked before it is used.

use super::{LinkEnd, LinkWords};
use crate::bell::Ringer;
use crate::error::Violation;
use crate::layout::{
    CLOSED, DONE, IDLE, LEASED, OPEN, OVERFLOWED, QUEUED, WATCHING, cell, cell_parts, entry_parts,
    entry_sequence,
};
use crate::points::reach;
use crate::sync::{AcqRel, Acquire, AtomicU32, Call, Relaxed, Release, SeqCst, fence};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// No publisher is this far ahead: the ring would have gone round far too often for its tags to tell the rounds apart.
const AHEAD_MAX: u64 = 1 << 39;

/// What both the half and what it holds need.
struct Shared {
    words: Arc<LinkWords>,
    /// How many are held. It counts in this process only.
    leases: AtomicU32,
    /// 1 from when `LeaseLimit` is said until something is given back.
    limited: AtomicU32,
    /// Called then, once.
    on_lease_return: Mutex<Option<Call>>,
    /// A bell of the publisher's process, for drivers of it that watch the link.
    ringer: Mutex<Option<Ringer>>,
}

impl Shared {
    /// After something was given back by a store: wakes a publisher that waits for it.
    fn tell_publisher(&self) {
        // Partners: `Waiter::announced` and `FanOut::watch`. Both store, fence, then load: either we see that it waits, or it
        // sees what we stored.
        fence(SeqCst);
        self.tell_publisher_after_fence();
    }

    fn tell_publisher_after_fence(&self) {
        let head = self.words.head();
        let waiting = head.waiting.waiting.load(Relaxed);
        if waiting == 0 {
            return;
        }
        head.space.space.bump();
        reach("subscriber: space bumped");
        if !waiting.is_multiple_of(WATCHING) {
            head.space.space.wake();
        }
        if waiting < WATCHING {
            return;
        }
        // Out of the lock before it is rung: the drop of a lease waits for nobody.
        let ringer = self.ringer.lock().clone();
        if let Some(ringer) = ringer {
            // The fence above serves here, too: a driver announces that it watches, then that it sleeps, and then looks.
            ringer.ring_after_fence();
        }
    }

    /// As many are held as may be, and that was said.
    fn is_limited(&self) -> bool {
        self.limited.load(Relaxed) != 0
            && self.leases.load(Relaxed) >= self.words.geometry().leases_max
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shared({} leases)", self.leases.load(Relaxed))
    }
}

/// What an attempt to take gave.
#[derive(Debug)]
pub(crate) enum Took {
    /// The oldest queued sample, and how many before it were missed since the last one taken.
    Held(Held, u64),
    /// Nothing is queued.
    Empty,
    /// Something is queued, and as many are held as may be.
    LeaseLimit,
    /// The oldest queued sample is in a segment that this side does not have yet. It stays queued.
    Unannounced(u32),
    /// Nothing is queued, and nothing will be.
    End(LinkEnd),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct SubscriberHalf {
    shared: Arc<Shared>,
    /// The sequence of the entry to take next.
    head: u64,
    /// The number, among all samples offered to the link, of the last one taken; 0 before the first.
    taken: u64,
    /// The sequence after the entry that had this number.
    taken_next: u64,
    /// The end was told.
    ended: bool,
    /// The publisher's process is dead.
    died: bool,
}

impl SubscriberHalf {
    pub(crate) fn new(words: Arc<LinkWords>) -> Self {
        let shared = Shared {
            words,
            leases: AtomicU32::new(0),
            limited: AtomicU32::new(0),
            on_lease_return: Mutex::new(None),
            ringer: Mutex::new(None),
        };
        Self {
            shared: Arc::new(shared),
            head: 0,
            taken: 0,
            taken_next: 0,
            ended: false,
            died: false,
        }
    }

    /// False in a child made by `fork`, where nothing else may be asked.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.words.is_here()
    }

    /// From now on `ringer` is rung when something was taken or given back while the publisher watches.
    pub(crate) fn ring_on_return(&mut self, ringer: Ringer) {
        *self.shared.ringer.lock() = Some(ringer);
        // What was given back before by a thread that found no ringer yet.
        self.shared.tell_publisher();
    }

    /// From now on `call` is called when something is given back after `LeaseLimit` was said.
    pub(crate) fn on_lease_return(&mut self, call: Call) {
        *self.shared.on_lease_return.lock() = Some(call);
    }

    /// The publisher's process is dead: nothing is stored by it any more.
    pub(crate) fn publisher_ended(&mut self) {
        self.died = true;
    }

    /// How many samples may be queued, as far as the publisher can be believed; those that were revoked may count, too.
    pub(crate) fn queued(&self) -> u32 {
        let tail = self.shared.words.head().publisher.tail.load(Acquire);
        let ahead = tail.checked_sub(self.head);
        let depth = self.shared.words.geometry().depth;
        let ahead = ahead.filter(|ahead| *ahead <= AHEAD_MAX).unwrap_or(0);
        ahead.min(u64::from(depth)) as u32
    }

    /// How many samples are held.
    pub(crate) fn leases(&self) -> u32 {
        self.shared.leases.load(Relaxed)
    }

    /// True if [`take`](Self::take) may have something to say. It is what a driver asks before it sleeps.
    pub(crate) fn has_news(&self) -> bool {
        let words = &self.shared.words;
        let publisher = &words.head().publisher;
        // Acquire, as in `take`. Partner in the decision to sleep: the fence in `Ringer::ring`.
        if publisher.tail.load(Acquire) != self.head {
            return !self.shared.is_limited();
        }
        !self.ended && (self.died || publisher.state.load(Acquire) != OPEN)
    }

    /// True if the oldest queued sample is in memory that this side does not have yet: nothing can be taken before it has.
    pub(crate) fn waits_for_memory(&self, known: impl Fn(u32) -> bool) -> bool {
        let words = &self.shared.words;
        // Acquire, as in `take`.
        if self.died || words.head().publisher.tail.load(Acquire) == self.head {
            return false;
        }
        let (tag, slot) = entry_parts(words.ring(self.head).entry.load(Relaxed));
        // What makes no sense is for `take` to say; so is one that was revoked.
        tag == entry_sequence(self.head)
            && slot < words.geometry().slots
            && !known(slot)
            && words.cell(slot).load(Relaxed) == cell(self.head, QUEUED)
    }

    /// The end, if nothing is queued and nothing will be. Takes no sample.
    pub(crate) fn take_end(&mut self) -> Result<Option<LinkEnd>, Violation> {
        let publisher = &self.shared.words.head().publisher;
        let state = publisher.state.load(Acquire);
        // Looked at in this order: what was queued before the link was closed is seen.
        let tail = publisher.tail.load(Acquire);
        if tail != self.head {
            // Who only asks for the end learns, too, that nothing can be taken from there.
            let ahead = tail.checked_sub(self.head);
            let ahead = ahead.filter(|ahead| *ahead <= AHEAD_MAX);
            return ahead.map(|_| None).ok_or(Violation::Tail);
        }
        if state == OPEN && !self.died {
            return Ok(None);
        }
        let end = match state {
            OPEN => LinkEnd::PublisherDied,
            CLOSED => LinkEnd::Closed,
            OVERFLOWED => LinkEnd::Overflowed,
            _ => return Err(Violation::State),
        };
        self.ended = true;
        Ok(Some(end))
    }

    /// Takes the oldest queued sample. `known` says whether this side has the memory of a slot; it is asked about the slot that is
    /// taken last of all, after its entry was read and before it is taken.
    pub(crate) fn take(&mut self, mut known: impl FnMut(u32) -> bool) -> Result<Took, Violation> {
        let geometry = self.shared.words.geometry();
        let publisher = &self.shared.words.head().publisher;
        // Partner: `PublisherHalf::commit`.
        let mut tail = publisher.tail.load(Acquire);
        if tail == self.head {
            if let Some(end) = self.take_end()? {
                return Ok(Took::End(end));
            }
            // What was queued before the link was closed is seen now.
            tail = self.shared.words.head().publisher.tail.load(Acquire);
            if tail == self.head {
                return Ok(Took::Empty);
            }
        }
        if self.shared.leases.load(Relaxed) >= geometry.leases_max {
            self.shared.limited.store(1, Relaxed);
            // Partner: the fence in `Held::drop`. Either we see here that one was given back, or its drop sees that this was
            // said.
            fence(SeqCst);
            if self.shared.leases.load(Relaxed) >= geometry.leases_max {
                return Ok(Took::LeaseLimit);
            }
            self.shared.limited.store(0, Relaxed);
        }
        let ahead = tail.checked_sub(self.head).ok_or(Violation::Tail)?;
        if ahead > AHEAD_MAX {
            return Err(Violation::Tail);
        }
        let ring = geometry.ring() as u64;
        if ahead > ring {
            // Lapped: all entries before the last `ring` ones are overwritten.
            self.head = tail - ring;
        }
        // At most `ring` rounds, whatever the peer does meanwhile.
        while self.head != tail {
            if let Some(took) = self.take_entry(&mut known)? {
                return Ok(took);
            }
            self.head += 1;
        }
        Ok(Took::Empty)
    }

    /// Takes the entry at `head`, unless it is gone: then `None`.
    fn take_entry(
        &mut self,
        known: &mut impl FnMut(u32) -> bool,
    ) -> Result<Option<Took>, Violation> {
        let sequence = self.head;
        let words = &self.shared.words;
        let geometry = words.geometry();
        let place = words.ring(sequence);
        let (tag, slot) = entry_parts(place.entry.load(Relaxed));
        let offered = place.offered.load(Relaxed);
        let rounds = entry_sequence(tag.wrapping_sub(sequence));
        if rounds != 0 {
            // Overwritten by a later entry of the same place, or by somebody who does not know the rules.
            let later = rounds <= AHEAD_MAX && rounds.is_multiple_of(geometry.ring() as u64);
            return if later {
                Ok(None)
            } else {
                Err(Violation::Entry)
            };
        }
        if slot >= geometry.slots {
            return Err(Violation::Slot);
        }
        let held = cell(sequence, QUEUED);
        let word = words.cell(slot);
        if !known(slot) {
            // Perhaps it is revoked already: then there is nothing to wait for.
            let revoked = word.load(Relaxed) != held;
            // Nobody announces it any more when the publisher is dead: it is missed like what was revoked.
            if revoked || self.died {
                return Ok(None);
            }
            return Ok(Some(Took::Unannounced(slot)));
        }
        // Acquire: what stands in the slot is what was queued under this sequence. Release: `place` was read before;
        // partner `PublisherHalf::look`.
        if let Err(found) = word.compare_exchange(held, cell(sequence, LEASED), AcqRel, Relaxed) {
            return match cell_parts(found) {
                // Revoked; or revoked and queued again, and perhaps revoked again.
                (stamp, IDLE) if stamp >= sequence => Ok(None),
                (stamp, QUEUED) if stamp > sequence => Ok(None),
                _ => Err(Violation::Cell),
            };
        }
        self.shared.leases.fetch_add(1, Relaxed);
        let held = Held {
            shared: self.shared.clone(),
            slot,
            sequence,
        };
        reach("subscriber: leased");
        // The publisher had not overwritten `place` when we took the entry, so `offered` belongs to it.
        self.head = sequence + 1;
        words.head().subscriber.head.store(self.head, Relaxed);
        // Each entry has a larger number than the one before it.
        let numbers = offered.checked_sub(self.taken);
        let entries = self.head - self.taken_next;
        if numbers.is_none_or(|numbers| numbers < entries || numbers > AHEAD_MAX) {
            return Err(Violation::Offered);
        }
        let gap = offered - self.taken - 1;
        (self.taken, self.taken_next) = (offered, self.head);
        // There is room in the queue.
        self.shared.tell_publisher();
        Ok(Some(Took::Held(held, gap)))
    }
}

/// The subscriber leaves in order. What it holds stays valid.
impl Drop for SubscriberHalf {
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        let state = &self.shared.words.head().subscriber.state;
        // Partner: `PublisherHalf::subscriber_has_left`.
        state.store(CLOSED, Release);
        self.shared.tell_publisher();
    }
}

/// A slot that this side holds: nobody writes to it until it is dropped.
pub(crate) struct Held {
    shared: Arc<Shared>,
    slot: u32,
    sequence: u64,
}

impl Held {
    /// False in a child made by `fork`.
    pub(crate) fn is_here(&self) -> bool {
        self.shared.words.is_here()
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    pub(crate) fn sequence(&self) -> u64 {
        self.sequence
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.is_here() {
            return;
        }
        self.shared.leases.fetch_sub(1, Relaxed);
        // Release, partner `PublisherHalf::look`: what we read of the slot, we have read before the publisher writes again.
        let cell_word = self.shared.words.cell(self.slot);
        cell_word.store(cell(self.sequence, DONE), Release);
        reach("subscriber: done stored");
        // For both: the publisher that may wait, and this side's `take`, which may have said `LeaseLimit`.
        fence(SeqCst);
        self.shared.tell_publisher_after_fence();
        let limited = &self.shared.limited;
        if limited.load(Relaxed) != 0 && limited.swap(0, Relaxed) != 0 {
            let call = self.shared.on_lease_return.lock().clone();
            if let Some(call) = call {
                call();
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Held(slot {}, sequence {})", self.slot, self.sequence)
    }
}
