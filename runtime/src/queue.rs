//! A bounded queue with a policy for when it is full. It holds no lock: whoever owns it brings one.
//!
//! It serves the lanes of mailboxes and the queues of subscriptions, so that "full" means the same everywhere.
//!
//! # Places
//!
//! A queue of capacity `n` has `n` places. A place is
//!
//! | place    | held by                                                       | becomes                                   |
//! |----------|---------------------------------------------------------------|-------------------------------------------|
//! | free     | nobody; there is none while anybody waits                     | reserved or used                          |
//! | reserved | a permit, or a waiter that was just given one                 | used (`push_reserved`) or free (`release`) |
//! | used     | an item in `items`, or an item of the batch that the consumer took and has not handled yet | free |
//!
//! The consumer takes whole batches, so that it locks once per batch. The places of a batch are given back one by one,
//! without the lock: [`Progress::rest`] says how many items of the batch are still unhandled. Producers look at it only
//! when the queue is nearly full.
//!
//! # Waiting
//!
//! Waiters stand in order. A place that becomes free while anybody waits is handed to the first of them as a
//! reservation, so nobody can overtake. Two parties can free a place: whoever holds the lock, and the consumer that
//! moves on in its batch. The second case is a handshake of two words:
//!
//! ```text
//! consumer:  rest = k - 1;    then reads `wanted`     (Progress::step)
//! waiter:    wanted = true;   then reads `rest`       (Queue::enlist, under the lock)
//! ```
//!
//! Both store before they load (in one total order), so either the consumer sees `wanted` and comes to hand out the
//! place under the lock, or the waiter sees the new `rest` and takes the place itself.

use crate::sync::{AtomicBool, AtomicU32, Relaxed, store_before_loads};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::task::Waker;

/// What a full queue does with the next item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum WhenFull {
    /// The sender waits for room, up to its limit. Nothing is lost.
    #[default]
    Wait,
    /// The oldest queued item is dropped and counted; the new one takes its place.
    DropOldest,
    /// The new item is dropped and counted.
    DropNewest,
    /// Like `DropOldest`, in a queue of one: whoever looks sees the latest value. For subscriptions.
    Latest,
    /// The new item is refused at once, and whoever sent it is told.
    Fail,
    /// The queue is closed, with the reason. For subscriptions.
    Disconnect,
}

impl WhenFull {
    /// All policies, in the order in which tables show them.
    pub const ALL: [Self; 6] = [
        Self::Wait,
        Self::DropOldest,
        Self::DropNewest,
        Self::Latest,
        Self::Fail,
        Self::Disconnect,
    ];

    /// True if items that are already queued may be dropped to make room.
    pub fn evicts(self) -> bool {
        matches!(self, Self::DropOldest | Self::Latest)
    }
}

/// What the consumer writes and reads without the lock, and `own`: flags of whoever owns the queue, in what would be padding.
#[derive(Debug, Default)]
pub struct Progress<F = ()> {
    /// How many items of the consumer's batch are not handled yet. Written by the consumer only.
    rest: AtomicU32,
    /// True while somebody waits for room. Written under the queue's lock only.
    wanted: AtomicBool,
    pub(crate) own: F,
}

/// Numbers of items are kept in 32 bits. What has more than that has no bound, and nobody asks how full it is.
#[inline]
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

impl<F> Progress<F> {
    pub(crate) fn new(own: F) -> Self {
        Self {
            rest: AtomicU32::new(0),
            wanted: AtomicBool::new(false),
            own,
        }
    }

    /// How many items of the consumer's batch are not handled yet, as far as can be seen without the lock.
    #[inline]
    pub fn rest(&self) -> usize {
        self.rest.load(Relaxed) as usize
    }

    /// [`step`](Self::step) for a queue in which nobody ever waits.
    #[inline]
    pub fn step_unwatched(&self, rest: usize) {
        self.rest.store(narrow(rest), Relaxed);
    }

    /// The consumer has taken one more item out of its batch, of which `rest` are left. Returns true if somebody waits
    /// for the place: lock the queue and call [`Queue::hand_out`].
    #[inline]
    pub fn step(&self, rest: usize) -> bool {
        // Partner: `Queue::enlist`.
        store_before_loads(&self.rest, narrow(rest));
        self.wanted.load(crate::sync::SeqCst)
    }
}

/// Whether one more item may come in.
#[derive(Debug)]
pub enum Admit<T> {
    /// There is a place.
    Room,
    /// There is a place, because this oldest item had to go. Drop it after the lock is released.
    Evicted(T),
    /// The new item has to go, by the queue's policy.
    Drop,
    /// There is no place, and the policy is not to lose anything.
    Full,
    /// The queue is closed.
    Closed,
}

/// One who waits for a place. Kept by the waiter between its attempts.
#[derive(Debug, Default)]
pub struct Waiter {
    number: Option<u64>,
    /// A waker that stands in line no longer. Its drop is the user's code, so it waits here until the lock is released.
    old: Option<Waker>,
}

impl Waiter {
    /// Call it after each use, when the queue's lock is released: drops what could not be dropped under it.
    #[inline]
    pub fn tidy(&mut self) {
        self.old = None;
    }

    /// True if it stands in a queue: then it must be given back through [`Queue::resign`].
    pub fn is_enlisted(&self) -> bool {
        self.number.is_some()
    }
}

/// What an attempt to get a place gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// The place is reserved: use it with [`Queue::push_reserved`] or give it back with [`Queue::release`].
    Granted,
    /// No place is free.
    Full,
    /// The queue is closed.
    Closed,
}

/// Those who wait, and those who were given a place and do not know it yet. Absent while nobody waits.
#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    in_order: VecDeque<(u64, Waker)>,
    granted: Vec<u64>,
}

/// How a queue keeps its items.
pub trait Items: Default {
    /// What is queued.
    type Item;

    /// How many there are.
    fn len(&self) -> usize;

    /// True if there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds one behind all others.
    fn push_back(&mut self, item: Self::Item);

    /// Takes the oldest.
    fn pop_front(&mut self) -> Option<Self::Item>;

    /// Moves the oldest behind those of `other`.
    fn move_front(&mut self, other: &mut Self) {
        if let Some(item) = self.pop_front() {
            other.push_back(item);
        }
    }

    /// Gives back memory that a burst left behind. There are no items.
    fn shrink(&mut self);
}

impl<T> Items for VecDeque<T> {
    type Item = T;

    #[inline]
    fn len(&self) -> usize {
        self.len()
    }

    #[inline]
    fn push_back(&mut self, item: T) {
        self.push_back(item);
    }

    #[inline]
    fn pop_front(&mut self) -> Option<T> {
        self.pop_front()
    }

    /// A few places are kept: a queue that is emptied as fast as it is filled would allocate each time.
    fn shrink(&mut self) {
        const KEPT: usize = 16;
        if self.capacity() > KEPT {
            *self = Self::new();
        }
    }
}

/// A bounded queue; see the module's documentation. What every push touches stands together. `own` are flags of whoever owns
/// the queue, in what would be padding.
#[derive(Debug)]
#[repr(C)]
pub struct Queue<I, F = ()> {
    items: I,
    /// `u32::MAX`: no bound.
    capacity: u32,
    reserved: u32,
    /// `Progress::rest` as last seen: it only shrinks until the next batch, so this is never too small.
    rest_seen: u32,
    high_water: u32,
    waiting: Option<Box<Waiting>>,
    closed: bool,
    when_full: WhenFull,
    pub(crate) own: F,
}

/// The capacity of a queue that has no bound. Neither has one of 4294967295 places or more.
pub const UNBOUNDED: usize = usize::MAX;

impl<I: Items, F: Default> Queue<I, F> {
    /// A queue of `capacity` places, at least 1; [`UNBOUNDED`] for no bound. `Latest` always has one.
    ///
    /// # Panics
    ///
    /// If `capacity` is 0: callers check what comes from outside.
    pub fn new(capacity: usize, when_full: WhenFull) -> Self {
        assert!(capacity > 0, "a queue needs at least one place");
        Self {
            items: I::default(),
            capacity: if when_full == WhenFull::Latest {
                1
            } else {
                narrow(capacity)
            },
            when_full,
            closed: false,
            reserved: 0,
            rest_seen: 0,
            high_water: 0,
            waiting: None,
            own: F::default(),
        }
    }
}

impl<I: Items, F> Queue<I, F> {
    /// How many items are queued, without those in the consumer's batch.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True if nothing is queued.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// True if nothing is queued, no place is reserved and nobody stands in line.
    pub fn is_untouched(&self) -> bool {
        self.items.is_empty() && self.reserved == 0 && self.waiting.is_none()
    }

    /// How many places there are.
    #[inline]
    pub fn capacity(&self) -> usize {
        if self.is_unbounded() {
            UNBOUNDED
        } else {
            self.capacity as usize
        }
    }

    /// True if there is no bound.
    #[inline]
    pub fn is_unbounded(&self) -> bool {
        self.capacity == u32::MAX
    }

    /// What it does when it is full.
    pub fn when_full(&self) -> WhenFull {
        self.when_full
    }

    /// The most items that were ever queued at once, without those in the consumer's batch unless it was full.
    pub fn high_water(&self) -> usize {
        (self.high_water as usize).max(self.items.len())
    }

    /// True once it is closed: what is queued can still be taken.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many places are free.
    #[inline]
    fn free(&mut self, progress: &Progress<impl Sized>) -> usize {
        let used = self.items.len() + self.reserved as usize;
        let capacity = self.capacity();
        let sure = capacity.saturating_sub(used + self.rest_seen as usize);
        if sure > 0 || self.rest_seen == 0 {
            return sure;
        }
        // Nearly full: look again. SeqCst: partner of `Progress::step`, when called from `enlist`.
        self.rest_seen = progress.rest.load(crate::sync::SeqCst);
        capacity.saturating_sub(used + self.rest_seen as usize)
    }

    /// True if no one stands in line. A place that has just become free while somebody does is theirs, although it was not
    /// handed out yet: the consumer, having seen that it is wanted, is on its way to do so.
    #[inline]
    pub fn nobody_waits(&self) -> bool {
        match &self.waiting {
            None => true,
            Some(waiting) => waiting.in_order.is_empty(),
        }
    }

    /// True if [`admit`](Self::admit) would give a free place.
    #[inline]
    pub fn has_room(&mut self, progress: &Progress<impl Sized>) -> bool {
        !self.closed && self.nobody_waits() && self.free(progress) > 0
    }

    /// Asks for a place for one more item, without waiting. Unless the answer is to refuse, [`insert`](Self::insert)
    /// follows under the same lock.
    #[inline]
    pub fn admit(&mut self, progress: &Progress<impl Sized>) -> Admit<I::Item> {
        if self.closed {
            return Admit::Closed;
        }
        if self.has_room(progress) {
            return Admit::Room;
        }
        self.high_water = self.capacity;
        match self.when_full {
            WhenFull::DropOldest | WhenFull::Latest => match self.items.pop_front() {
                Some(oldest) => Admit::Evicted(oldest),
                // Every place is reserved, or in the consumer's hands.
                None => Admit::Drop,
            },
            WhenFull::DropNewest => Admit::Drop,
            WhenFull::Wait | WhenFull::Fail | WhenFull::Disconnect => Admit::Full,
        }
    }

    /// Queues an item for which [`admit`](Self::admit) just gave a place.
    #[inline]
    pub fn insert(&mut self, item: I::Item) {
        self.items.push_back(item);
    }

    /// As [`insert`](Self::insert), for items with a way of their own to come in: `add` adds one.
    #[inline]
    pub fn insert_with(&mut self, add: impl FnOnce(&mut I)) {
        let before = self.items.len();
        add(&mut self.items);
        debug_assert_eq!(self.items.len(), before + 1, "one place, one item");
    }

    /// The length is at its largest just before the consumer takes.
    #[inline]
    fn note_high_water(&mut self) {
        self.high_water = self.high_water.max(narrow(self.items.len()));
    }

    /// Reserves a place without waiting.
    pub fn try_reserve(&mut self, progress: &Progress<impl Sized>) -> Reserve {
        if self.closed {
            Reserve::Closed
        } else if self.nobody_waits() && self.free(progress) > 0 {
            self.reserved += 1;
            Reserve::Granted
        } else {
            Reserve::Full
        }
    }

    /// Reserves a place, or stands in line for one: `waker` is woken when it is worth calling again.
    pub fn poll_reserve(
        &mut self,
        ticket: &mut Waiter,
        waker: &Waker,
        progress: &Progress<impl Sized>,
    ) -> Reserve {
        if self.closed {
            ticket.number = None;
            return Reserve::Closed;
        }
        let Some(number) = ticket.number else {
            return match self.try_reserve(progress) {
                Reserve::Full => self.enlist(ticket, waker, progress),
                done => done,
            };
        };
        let Some(waiting) = &mut self.waiting else {
            // Closing forgets all tickets; opening again does not exist.
            ticket.number = None;
            return Reserve::Closed;
        };
        if let Some(at) = waiting.granted.iter().position(|&n| n == number) {
            waiting.granted.swap_remove(at);
            ticket.number = None;
            self.tidy_waiting(progress);
            return Reserve::Granted;
        }
        if let Some((_, kept)) = waiting.in_order.iter_mut().find(|(n, _)| *n == number)
            && !kept.will_wake(waker)
        {
            ticket.old = Some(std::mem::replace(kept, waker.clone()));
        }
        Reserve::Full
    }

    fn enlist(
        &mut self,
        ticket: &mut Waiter,
        waker: &Waker,
        progress: &Progress<impl Sized>,
    ) -> Reserve {
        // Partner: `Progress::step`. First say that a place is wanted, then look once more.
        progress.wanted.store(true, crate::sync::SeqCst);
        #[cfg(loom)]
        crate::sync::fence(crate::sync::SeqCst);
        if self.nobody_waits() && self.free(progress) > 0 {
            self.reserved += 1;
            self.tidy_waiting(progress);
            return Reserve::Granted;
        }
        let waiting = self.waiting.get_or_insert_default();
        let number = waiting.next;
        waiting.next += 1;
        waiting.in_order.push_back((number, waker.clone()));
        ticket.number = Some(number);
        Reserve::Full
    }

    /// Says whether anybody still waits, where `step` reads it.
    fn tidy_waiting(&mut self, progress: &Progress<impl Sized>) {
        match &self.waiting {
            Some(waiting) if !waiting.in_order.is_empty() => return,
            Some(waiting) if waiting.granted.is_empty() => self.waiting = None,
            _ => {}
        }
        // Relaxed is enough for `false`: reading an old `true` costs the consumer one visit in vain.
        progress.wanted.store(false, Relaxed);
    }

    /// Leaves the line. A place that was granted meanwhile goes to the next in line: wake those returned.
    #[must_use]
    pub fn resign(&mut self, ticket: &mut Waiter, progress: &Progress<impl Sized>) -> Vec<Waker> {
        let (Some(number), Some(waiting)) = (ticket.number.take(), &mut self.waiting) else {
            return Vec::new();
        };
        if let Some(at) = waiting.granted.iter().position(|&n| n == number) {
            waiting.granted.swap_remove(at);
            self.reserved -= 1;
            return self.hand_out(progress);
        }
        if let Some(at) = waiting.in_order.iter().position(|(n, _)| *n == number) {
            ticket.old = waiting.in_order.remove(at).map(|(_, waker)| waker);
        }
        self.tidy_waiting(progress);
        Vec::new()
    }

    /// Gives free places to those who wait, in order: wake those returned, after the lock is released.
    #[inline]
    #[must_use]
    pub fn hand_out(&mut self, progress: &Progress<impl Sized>) -> Vec<Waker> {
        if self.waiting.is_none() {
            return Vec::new();
        }
        self.hand_out_in_order(progress)
    }

    fn hand_out_in_order(&mut self, progress: &Progress<impl Sized>) -> Vec<Waker> {
        let mut wake = Vec::new();
        while self.free(progress) > 0 {
            let Some(waiting) = &mut self.waiting else {
                break;
            };
            let Some((number, waker)) = waiting.in_order.pop_front() else {
                break;
            };
            waiting.granted.push(number);
            self.reserved += 1;
            wake.push(waker);
        }
        self.tidy_waiting(progress);
        wake
    }

    /// Uses a reserved place.
    ///
    /// # Errors
    ///
    /// Gives the item back if the queue was closed meanwhile. The place is gone with all others.
    ///
    /// # Panics
    ///
    /// As [`use_reserved`](Self::use_reserved).
    pub fn push_reserved(&mut self, item: I::Item) -> Result<(), I::Item> {
        if self.closed {
            return Err(item);
        }
        self.use_reserved();
        self.insert(item);
        Ok(())
    }

    /// A reserved place of an open queue becomes one for which [`insert`](Self::insert) follows under the same lock.
    ///
    /// # Panics
    ///
    /// If no place was reserved: a bug of whoever owns the queue, looked for in builds with debug assertions.
    pub fn use_reserved(&mut self) {
        debug_assert!(self.reserved > 0, "no place was reserved");
        self.reserved -= 1;
    }

    /// Gives a reserved place back: wake those returned.
    #[must_use]
    pub fn release(&mut self, progress: &Progress<impl Sized>) -> Vec<Waker> {
        if self.closed {
            return Vec::new();
        }
        self.reserved -= 1;
        self.hand_out(progress)
    }

    /// Takes one item: wake those returned.
    ///
    /// For a consumer that takes no batches, or whose last batch is empty.
    pub fn pop(&mut self, progress: &Progress<impl Sized>) -> (Option<I::Item>, Vec<Waker>) {
        self.note_high_water();
        let item = self.items.pop_front();
        self.rest_seen = 0;
        let wake = if item.is_some() {
            self.hand_out(progress)
        } else {
            Vec::new()
        };
        (item, wake)
    }

    /// Takes everything that is queued into `batch`, which is empty. Wake those returned.
    ///
    /// The consumer takes one item after the other out of `batch`. The first one's place is free from here on; after each
    /// of the others it calls [`Progress::step`] with how many are left. Queues that evict give one item at a time: what
    /// is in a batch could not be evicted any more.
    ///
    /// # Panics
    ///
    /// If `batch` is not empty: a bug of the consumer, looked for in builds with debug assertions.
    #[inline]
    #[must_use]
    pub fn take_batch(&mut self, batch: &mut I, progress: &Progress<impl Sized>) -> Vec<Waker> {
        debug_assert!(batch.is_empty(), "the last batch is not finished");
        if self.when_full.evicts() {
            return self.take_one(batch, progress);
        }
        self.note_high_water();
        std::mem::swap(&mut self.items, batch);
        let rest = narrow(batch.len().saturating_sub(1));
        if rest > 0 || self.rest_seen > 0 {
            // Relaxed: producers read it under the lock that we hold, until the consumer's next `step`.
            progress.rest.store(rest, Relaxed);
            self.rest_seen = rest;
        }
        self.hand_out(progress)
    }

    /// As [`take_batch`](Self::take_batch), for one item.
    #[must_use]
    pub fn take_one(&mut self, batch: &mut I, progress: &Progress<impl Sized>) -> Vec<Waker> {
        self.note_high_water();
        self.items.move_front(batch);
        self.rest_seen = 0;
        self.hand_out(progress)
    }

    /// The consumer gives up the rest of its batch, having moved it elsewhere.
    pub fn abandon_batch(&mut self, progress: &Progress<impl Sized>) {
        progress.rest.store(0, Relaxed);
        self.rest_seen = 0;
    }

    /// Gives back memory that a burst left behind.
    pub fn shrink(&mut self) {
        if self.items.is_empty() {
            self.items.shrink();
        }
    }

    /// What is queued.
    pub fn items(&self) -> &I {
        &self.items
    }

    /// Closes the queue: no more can be pushed, and nobody waits any longer (wake those returned).
    #[must_use]
    pub fn close(&mut self, progress: &Progress<impl Sized>) -> Vec<Waker> {
        self.closed = true;
        self.reserved = 0;
        progress.wanted.store(false, Relaxed);
        match self.waiting.take() {
            Some(waiting) => waiting.in_order.into_iter().map(|(_, w)| w).collect(),
            None => Vec::new(),
        }
    }

    /// Takes all that is left. Drop it after the lock is released.
    pub fn drain(&mut self) -> I {
        std::mem::take(&mut self.items)
    }
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize as Count, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Counted(Count);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn offer(q: &mut Queue<VecDeque<u32>>, item: u32, p: &Progress) -> Admit<u32> {
        let answer = q.admit(p);
        if matches!(answer, Admit::Room | Admit::Evicted(_)) {
            q.insert(item);
        }
        answer
    }

    fn queue(capacity: usize, when_full: WhenFull) -> (Queue<VecDeque<u32>>, Progress) {
        (Queue::new(capacity, when_full), Progress::default())
    }

    #[test]
    fn capacity_counts_the_rest_of_the_batch() {
        let (mut q, p) = queue(3, WhenFull::Wait);
        for i in 0..3 {
            assert!(matches!(offer(&mut q, i, &p), Admit::Room));
        }
        assert!(matches!(offer(&mut q, 3, &p), Admit::Full));
        let mut batch = VecDeque::new();
        assert!(q.take_batch(&mut batch, &p).is_empty());
        assert_eq!(batch.pop_front(), Some(0));
        assert!(matches!(offer(&mut q, 3, &p), Admit::Room));
        assert!(matches!(offer(&mut q, 4, &p), Admit::Full));
        batch.pop_front();
        assert!(!p.step(batch.len()));
        assert!(matches!(offer(&mut q, 4, &p), Admit::Room));
        assert!(matches!(offer(&mut q, 5, &p), Admit::Full));
    }

    #[test]
    fn a_free_place_goes_to_the_first_in_line_and_nobody_overtakes() {
        let (mut q, p) = queue(1, WhenFull::Wait);
        assert!(matches!(offer(&mut q, 0, &p), Admit::Room));
        let woken: Vec<_> = (0..2).map(|_| Arc::new(Counted::default())).collect();
        let mut tickets = [Waiter::default(), Waiter::default()];
        for (ticket, w) in tickets.iter_mut().zip(&woken) {
            assert_eq!(q.poll_reserve(ticket, &w.clone().into(), &p), Reserve::Full);
        }
        let (item, wake) = q.pop(&p);
        assert_eq!(item, Some(0));
        wake.into_iter().for_each(Waker::wake);
        assert_eq!(woken[0].0.load(Ordering::Relaxed), 1);
        assert_eq!(woken[1].0.load(Ordering::Relaxed), 0);
        assert!(matches!(offer(&mut q, 9, &p), Admit::Full));
        // The first gives up: the place passes to the second.
        let wake = q.resign(&mut tickets[0], &p);
        assert_eq!(wake.len(), 1);
        assert_eq!(
            q.poll_reserve(&mut tickets[1], &woken[1].clone().into(), &p),
            Reserve::Granted
        );
        q.push_reserved(1).unwrap();
        assert_eq!(q.pop(&p).0, Some(1));
        assert!(matches!(offer(&mut q, 2, &p), Admit::Room));
    }

    /// A place that had become free, and was not handed out yet, was taken by whoever asked first.
    #[test]
    fn who_does_not_wait_never_overtakes_who_stands_in_line() {
        let (mut q, p) = queue(2, WhenFull::Wait);
        for i in 0..2 {
            assert!(matches!(offer(&mut q, i, &p), Admit::Room));
        }
        let mut batch = VecDeque::new();
        assert!(q.take_batch(&mut batch, &p).is_empty());
        assert!(matches!(offer(&mut q, 2, &p), Admit::Room));
        let (mut first, mut second) = (Waiter::default(), Waiter::default());
        let full = q.poll_reserve(&mut first, Waker::noop(), &p);
        assert_eq!(full, Reserve::Full);
        // The consumer has freed a place and has not come to hand it out.
        batch.truncate(0);
        assert!(p.step(0));
        assert!(matches!(q.admit(&p), Admit::Full));
        assert_eq!(q.try_reserve(&p), Reserve::Full);
        let behind = q.poll_reserve(&mut second, Waker::noop(), &p);
        assert_eq!(behind, Reserve::Full);
        assert_eq!(q.hand_out(&p).len(), 1);
        let granted = q.poll_reserve(&mut first, Waker::noop(), &p);
        assert_eq!(granted, Reserve::Granted);
    }

    #[test]
    fn each_policy_does_what_it_says_when_full() {
        let (mut q, p) = queue(2, WhenFull::DropOldest);
        for i in 0..2 {
            assert!(matches!(offer(&mut q, i, &p), Admit::Room));
        }
        assert!(matches!(offer(&mut q, 2, &p), Admit::Evicted(0)));
        let (mut q, p) = queue(2, WhenFull::DropNewest);
        for i in 0..2 {
            assert!(matches!(offer(&mut q, i, &p), Admit::Room));
        }
        assert!(matches!(offer(&mut q, 2, &p), Admit::Drop));
        let (mut q, p) = queue(8, WhenFull::Latest);
        assert!(matches!(offer(&mut q, 1, &p), Admit::Room));
        assert!(matches!(offer(&mut q, 2, &p), Admit::Evicted(1)));
        let (mut q, p) = queue(1, WhenFull::Fail);
        assert!(matches!(offer(&mut q, 1, &p), Admit::Room));
        assert!(matches!(offer(&mut q, 2, &p), Admit::Full));
        assert_eq!(q.high_water(), 1);
    }

    #[test]
    fn closing_wakes_all_who_wait_and_they_learn_it() {
        let (mut q, p) = queue(1, WhenFull::Wait);
        assert!(matches!(offer(&mut q, 0, &p), Admit::Room));
        let w = Arc::new(Counted::default());
        let mut ticket = Waiter::default();
        assert_eq!(
            q.poll_reserve(&mut ticket, &w.clone().into(), &p),
            Reserve::Full
        );
        q.close(&p).into_iter().for_each(Waker::wake);
        assert_eq!(w.0.load(Ordering::Relaxed), 1);
        assert_eq!(q.poll_reserve(&mut ticket, &w.into(), &p), Reserve::Closed);
        assert_eq!(q.drain(), [0]);
    }
}

/// The handshake between the consumer's progress and those who wait for room, in every interleaving.
#[cfg(all(test, loom))]
mod loom_tests {
    use super::*;
    use crate::sync::{Mutex, thread};
    use crate::world::World;
    use std::sync::Arc;

    /// A consumer that works off a batch without the lock, and a producer that waits for a place: the producer gets it,
    /// although the consumer never looks at the queue again after its batch.
    #[test]
    fn loom_a_waiter_gets_the_place_that_a_step_frees() {
        loom::model(|| {
            let shared = Arc::new((
                Mutex::new(Queue::<VecDeque<i32>>::new(2, WhenFull::Wait)),
                Progress::<()>::default(),
            ));
            {
                let mut queue = shared.0.lock();
                for item in 0..2 {
                    assert!(matches!(queue.admit(&shared.1), Admit::Room));
                    queue.insert(item);
                }
            }
            let mut batch = VecDeque::new();
            let wake = shared.0.lock().take_batch(&mut batch, &shared.1);
            assert!(wake.is_empty());
            assert_eq!(batch.pop_front(), Some(0));
            {
                // The first item's place is free at once: used again, the queue is full.
                let mut queue = shared.0.lock();
                assert!(matches!(queue.admit(&shared.1), Admit::Room));
                queue.insert(2);
            }
            let theirs = shared.clone();
            let producer = thread::spawn(move || {
                let waker = World::Real.waker();
                let mut ticket = Waiter::default();
                loop {
                    let answer = theirs.0.lock().poll_reserve(&mut ticket, &waker, &theirs.1);
                    match answer {
                        Reserve::Granted => break,
                        Reserve::Full => World::Real.park(None),
                        Reserve::Closed => unreachable!("nobody closes it"),
                    }
                }
                assert!(theirs.0.lock().push_reserved(3).is_ok());
            });
            batch.pop_front();
            if shared.1.step(batch.len()) {
                let wake = shared.0.lock().hand_out(&shared.1);
                wake.into_iter().for_each(Waker::wake);
            }
            // A lost wake-up would leave the producer parked for ever, which the model reports as a deadlock.
            producer.join().unwrap();
            assert_eq!(shared.0.lock().len(), 2);
        });
    }

    /// Two producers wait for one place each; one gives up at any moment. The other still gets a place.
    #[test]
    fn loom_a_waiter_that_gives_up_passes_the_place_on() {
        loom::model(|| {
            let shared = Arc::new((
                Mutex::new(Queue::<VecDeque<i32>>::new(1, WhenFull::Wait)),
                Progress::<()>::default(),
            ));
            {
                let mut queue = shared.0.lock();
                assert!(matches!(queue.admit(&shared.1), Admit::Room));
                queue.insert(0);
            }
            let mut quitter = Waiter::default();
            let answer = shared
                .0
                .lock()
                .poll_reserve(&mut quitter, Waker::noop(), &shared.1);
            assert_eq!(answer, Reserve::Full);
            let theirs = shared.clone();
            let patient = thread::spawn(move || {
                let waker = World::Real.waker();
                let mut ticket = Waiter::default();
                while theirs.0.lock().poll_reserve(&mut ticket, &waker, &theirs.1)
                    != Reserve::Granted
                {
                    World::Real.park(None);
                }
            });
            let theirs = shared.clone();
            let consumer = thread::spawn(move || {
                let (item, wake) = theirs.0.lock().pop(&theirs.1);
                assert_eq!(item, Some(0));
                wake.into_iter().for_each(Waker::wake);
            });
            let wake = shared.0.lock().resign(&mut quitter, &shared.1);
            wake.into_iter().for_each(Waker::wake);
            consumer.join().unwrap();
            patient.join().unwrap();
        });
    }
}
