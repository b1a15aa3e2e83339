//! The publisher's half of a link. All of it is called under the publisher's own lock; see `README.md`.

use super::{LinkWords, WhenFull};
use crate::error::Violation;
use crate::layout::{
    CLOSED, DONE, IDLE, LEASED, OPEN, OVERFLOWED, QUEUED, WATCHING, cell, cell_parts, entry,
    entry_sequence,
};
use crate::points::reach;
use crate::sync::{AcqRel, Acquire, Relaxed, Release};
use std::collections::VecDeque;
use std::sync::Arc;

/// A slot that was never queued on a link has this stamp. No sequence gets there.
const NEVER: u64 = u64::MAX;

/// What a link says to a sample that is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// There is room: [`PublisherHalf::commit`] has to follow. The slot was revoked for it.
    Room(Option<u32>),
    /// The link was full: `DropNewest`.
    Dropped,
    /// The link was full: `Fail`.
    Refused,
    /// The link was full and is closed now: `Disconnect`.
    Overflowed,
}

/// Who has a slot, as far as one link is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It waits in the ring.
    Queued,
    /// The subscriber reads it.
    Leased,
    /// The subscriber is done with it.
    Back,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct PublisherHalf {
    words: Arc<LinkWords>,
    /// The sequence of the next entry. The word in shared memory is only written.
    tail: u64,
    /// How many samples were offered.
    offered: u64,
    /// What was queued and not seen taken yet: sequence and slot, oldest first.
    queue: VecDeque<(u64, u32)>,
    /// By slot: the sequence under which it was queued last, until it is known to be back.
    stamps: Vec<u64>,
}

impl PublisherHalf {
    pub(crate) fn new(words: Arc<LinkWords>) -> Self {
        Self {
            words,
            tail: 0,
            offered: 0,
            queue: VecDeque::new(),
            stamps: Vec::new(),
        }
    }

    pub(crate) fn words(&self) -> &Arc<LinkWords> {
        &self.words
    }

    pub(crate) fn when_full(&self) -> WhenFull {
        self.words.geometry().when_full
    }

    /// True once the subscriber says that it has left.
    pub(crate) fn subscriber_has_left(&self) -> Result<bool, Violation> {
        // Partner: `SubscriberHalf::drop`.
        match self.words.head().subscriber.state.load(Acquire) {
            OPEN => Ok(false),
            CLOSED => Ok(true),
            _ => Err(Violation::State),
        }
    }

    fn stamp(&self, slot: u32) -> u64 {
        self.stamps.get(slot as usize).copied().unwrap_or(NEVER)
    }

    /// The slot of `sequence` came back, or was taken back: nothing that this link's cell says about it counts any more.
    fn forget(&mut self, slot: u32) {
        self.stamps[slot as usize] = NEVER;
    }

    /// Who has `slot`, which was queued under `sequence`.
    fn look(&self, sequence: u64, slot: u32) -> Result<Standing, Violation> {
        // Acquire, partner of `SubscriberHalf::take` and `Held::drop`: whatever the subscriber read of ring and payload, it
        // has read before we write there again.
        match cell_parts(self.words.cell(slot).load(Acquire)) {
            (stamp, QUEUED) if stamp == sequence => Ok(Standing::Queued),
            (stamp, LEASED) if stamp == sequence => Ok(Standing::Leased),
            (stamp, DONE) if stamp == sequence => Ok(Standing::Back),
            // We alone write other stamps, and IDLE.
            _ => Err(Violation::Cell),
        }
    }

    /// Who has `slot`, which this link is known to hold. Once it said [`Standing::Back`], it must not be asked again until
    /// the slot is queued anew.
    pub(crate) fn standing(&mut self, slot: u32) -> Result<Standing, Violation> {
        let standing = self.look(self.stamp(slot), slot)?;
        if standing == Standing::Back {
            self.forget(slot);
        }
        Ok(standing)
    }

    /// Who has `slot`, which this link is known to hold. Changes nothing.
    pub(crate) fn peek(&self, slot: u32) -> Result<Standing, Violation> {
        self.look(self.stamp(slot), slot)
    }

    /// How many samples wait in the ring.
    pub(crate) fn queued(&mut self) -> Result<usize, Violation> {
        // The subscriber takes in order, so what it has taken stands in front.
        while let Some(&(sequence, slot)) = self.queue.front() {
            let here = self.stamp(slot) == sequence;
            if here && self.look(sequence, slot)? == Standing::Queued {
                break;
            }
            self.queue.pop_front();
        }
        Ok(self.queue.len())
    }

    pub(crate) fn is_full(&mut self) -> Result<bool, Violation> {
        let depth = self.words.geometry().depth as usize;
        Ok(self.queue.len() >= depth && self.queued()? >= depth)
    }

    /// Offers the next sample: makes room for it, where the policy says so.
    ///
    /// With [`WhenFull::Wait`] the caller has seen, under the same lock, that there is room.
    pub(crate) fn offer(&mut self) -> Result<Offered, Violation> {
        // Numbers are given to what finds no room, too: so the subscriber can tell how much it missed.
        self.offered += 1;
        let offered = &self.words.head().publisher.offered;
        offered.store(self.offered, Relaxed);
        let mut revoked = None;
        if self.is_full()? {
            match self.when_full() {
                WhenFull::Wait => unreachable!("only we add, and there was room"),
                WhenFull::DropNewest => return Ok(Offered::Dropped),
                WhenFull::Fail => return Ok(Offered::Refused),
                WhenFull::Disconnect => {
                    // Partner: `SubscriberHalf::take`.
                    let state = &self.words.head().publisher.state;
                    state.store(OVERFLOWED, Release);
                    return Ok(Offered::Overflowed);
                }
                WhenFull::DropOldest => revoked = self.revoke_oldest()?,
            }
        }
        Ok(Offered::Room(revoked))
    }

    /// Makes room by one: takes the oldest entry back, and returns its slot. If the subscriber was faster, it has made the
    /// room itself.
    fn revoke_oldest(&mut self) -> Result<Option<u32>, Violation> {
        let Some((sequence, slot)) = self.queue.pop_front() else {
            return Ok(None);
        };
        let revoked = self.revoke(sequence, slot)?;
        reach("publisher: revoked");
        Ok(revoked.then_some(slot))
    }

    /// True if the entry was still queued and is now ours again.
    fn revoke(&mut self, sequence: u64, slot: u32) -> Result<bool, Violation> {
        if self.stamp(slot) != sequence {
            return Ok(false);
        }
        let (from, to) = (cell(sequence, QUEUED), cell(sequence, IDLE));
        // Acquire in both cases: the subscriber has read its ring entry if it has taken it, and then we may write there.
        match self
            .words
            .cell(slot)
            .compare_exchange(from, to, AcqRel, Acquire)
        {
            Ok(_) => {
                self.forget(slot);
                Ok(true)
            }
            Err(found) => match cell_parts(found) {
                (stamp, LEASED | DONE) if stamp == sequence => Ok(false),
                _ => Err(Violation::Cell),
            },
        }
    }

    /// Takes `slot` back if it is still queued: then this link does not hold it any more.
    pub(crate) fn revoke_slot(&mut self, slot: u32) -> Result<bool, Violation> {
        let sequence = self.stamp(slot);
        let revoked = self.revoke(sequence, slot)?;
        if revoked {
            self.queue.retain(|(queued, _)| *queued != sequence);
        }
        Ok(revoked)
    }

    /// Queues the filled `slot`, after [`offer`](Self::offer) said that there is room. This side does not touch the slot any
    /// more until it comes back.
    pub(crate) fn commit(&mut self, slot: u32) {
        let index = slot as usize;
        if index >= self.stamps.len() {
            self.stamps.resize(index + 1, NEVER);
        }
        self.stamps[index] = self.tail;
        self.queue.push_back((self.tail, slot));
        let words = &self.words;
        words.cell(slot).store(cell(self.tail, QUEUED), Relaxed);
        reach("publisher: cell stored");
        let place = words.ring(self.tail);
        place.offered.store(self.offered, Relaxed);
        let sequence = entry_sequence(self.tail);
        place.entry.store(entry(sequence, slot), Relaxed);
        reach("publisher: entry stored");
        self.tail += 1;
        // Partner: the load in `SubscriberHalf::take`. Whoever sees this tail sees entry, cell, slot header and payload.
        words.head().publisher.tail.store(self.tail, Release);
        reach("publisher: tail stored");
    }

    /// One more waits for room here or for slots, or one less. The caller makes the fence, and then looks.
    pub(crate) fn announce_wait(&self, on: bool) {
        let waiting = &self.words.head().waiting.waiting;
        if on {
            waiting.fetch_add(WATCHING, Relaxed);
        } else {
            waiting.fetch_sub(WATCHING, Relaxed);
        }
    }

    /// Nothing will be queued any more. What is queued can still be taken.
    pub(crate) fn close(&self) {
        let state = &self.words.head().publisher.state;
        if state.load(Relaxed) != OVERFLOWED {
            // Partner: `SubscriberHalf::take`.
            state.store(CLOSED, Release);
        }
    }

    /// The subscriber is dead: nothing of it can touch the words any more. Says who had `slot`, which this link holds, and
    /// takes it back.
    pub(crate) fn reap(&mut self, slot: u32) -> Option<Standing> {
        let sequence = self.stamp(slot);
        let standing = self.look(sequence, slot).ok();
        self.forget(slot);
        self.words.cell(slot).store(cell(sequence, IDLE), Relaxed);
        standing
    }

    /// Wakes threads of this process that wait for room on this link: there is a reason to look again.
    pub(crate) fn wake_waiting(&self) {
        self.words.head().space.space.bump_and_wake();
    }
}
