//! One publisher and all its links: slots go out to them and come back. Private memory, and the words of the links; no
//! payload is touched here. All of it is called under the publisher's own lock.

use crate::bell::Ringer;
use crate::error::Violation;
use crate::link::{LinkWords, Offered, PublisherHalf, Standing, WhenFull};
use crate::slots::{HISTORY, LINK_FIRST, LINKS_MAX, LOCAL, Slots};
use crate::sync::{SeqCst, fence};
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A link of one publisher. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(u64);

impl LinkId {
    /// The low bits are the holder, so that a link is found without a search.
    const HOLDER_BITS: u32 = 11;

    fn new(serial: u64, holder: u32) -> Self {
        const { assert!(LINK_FIRST as usize + LINKS_MAX <= 1 << Self::HOLDER_BITS) };
        Self(serial << Self::HOLDER_BITS | u64::from(holder))
    }

    fn holder(self) -> u32 {
        self.0 as u32 & ((1 << Self::HOLDER_BITS) - 1)
    }
}

/// What is kept as long as a link's subscriber has a sample queued or leased.
pub type Guard = Arc<dyn Any + Send + Sync>;

/// What became of a sample on one link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "only some of these mean that it is queued"]
pub enum Queued {
    /// It is queued.
    Queued {
        /// The link was full, and its oldest queued sample was taken back.
        evicted: bool,
    },
    /// The link was full, and drops what is new.
    Dropped,
    /// The link was full, and wants the publisher to know.
    Refused,
    /// The link was full, and is closed now. What is queued can still be taken.
    Overflowed,
    /// The link was full, and loses nothing: nothing happened. Wait for room.
    Full,
    /// The link gets nothing any more: it has ended, or its subscriber has left.
    Gone {
        /// Its subscriber does not keep to the protocol, which was seen just now.
        violation: Option<Violation>,
    },
}

/// Why a link did not get a sample that was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It was full, and drops what is new.
    Dropped,
    /// It was full, and wants the publisher to know.
    Full,
    /// It was full, and is closed now.
    Overflowed,
    /// Its subscriber does not keep to the protocol, and gets nothing any more.
    Faulted(Violation),
}

/// Where a link stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Live,
    /// It gets nothing any more. What it still holds comes back one by one.
    Leaving,
    /// Nothing that it says is believed: what it holds stays with it until its process is dead.
    Faulted,
}

struct Link {
    id: LinkId,
    phase: Phase,
    half: PublisherHalf,
    out: Out,
    /// Wakes its subscriber's driver, until the link has ended.
    ringer: Option<Ringer>,
    /// Its subscriber is asked to ring: for this link alone, and for all.
    watched: [bool; 2],
}

impl Link {
    fn watch(&mut self, which: Watched, on: bool) {
        let watched = &mut self.watched[which as usize];
        if *watched != on {
            *watched = on;
            self.half.announce_wait(on);
        }
    }
}

/// Why a link is watched.
#[derive(Clone, Copy)]
enum Watched {
    Alone,
    WithAll,
}

/// What a link holds, as far as is known: its slots in no order, each with its guard.
#[derive(Default)]
struct Out {
    held: Vec<(u32, Option<Guard>)>,
    /// By slot: its place in `held`, for those that are there.
    places: Vec<u32>,
}

impl Out {
    fn add(&mut self, slot: u32, guard: Option<Guard>) {
        let index = slot as usize;
        if index >= self.places.len() {
            self.places.resize(index + 1, 0);
        }
        self.places[index] = self.held.len() as u32;
        self.held.push((slot, guard));
    }

    fn remove(&mut self, slot: u32) -> Option<Guard> {
        let place = self.places[slot as usize] as usize;
        let (found, guard) = self.held.swap_remove(place);
        assert_eq!(found, slot, "a link gives back what it holds");
        if let Some((moved, _)) = self.held.get(place) {
            self.places[*moved as usize] = place as u32;
        }
        guard
    }

    fn slots(&self) -> Vec<u32> {
        self.held.iter().map(|(slot, _)| *slot).collect()
    }
}

/// What the slots of a publisher are used for. Each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    /// All of them.
    pub slots: usize,
    /// Held by nobody.
    pub free: usize,
    /// Being filled.
    pub loaned: usize,
    /// Read by at least one subscriber.
    pub leased: usize,
    /// Queued for at least one subscriber, and read by none.
    pub queued: usize,
    /// Kept for those who come late, and for no other reason.
    pub kept: usize,
    /// Held by a link that is not believed any more, and by nobody else.
    pub quarantined: usize,
    /// In segments that are being given back: not lent any more, and some link has not answered yet.
    pub retired: usize,
}

/// What a dead subscriber had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Samples that it had not taken.
    pub queued: usize,
    /// Samples that it was reading.
    pub leased: usize,
    /// Samples that it had given back, or about which its cells said nothing that makes sense.
    pub returned: usize,
}

/// See the module's documentation.
pub(crate) struct FanOut {
    pub(crate) slots: Slots,
    /// By holder. The first ones are no links.
    links: Vec<Option<Link>>,
    next_serial: u64,
    /// New links are watched, too.
    watching_all: bool,
    /// Of samples that came back. Dropping one may run anything, so nothing here does.
    released: Vec<Guard>,
    /// Slots of the last samples, oldest first; each has the bit `HISTORY`.
    history: VecDeque<u32>,
    history_max: usize,
}

impl FanOut {
    pub(crate) fn new(history_max: usize) -> Self {
        Self {
            slots: Slots::new(),
            links: (0..LINK_FIRST).map(|_| None).collect(),
            next_serial: 0,
            watching_all: false,
            released: Vec::new(),
            history: VecDeque::new(),
            history_max,
        }
    }

    /// Adds a link and queues on it what is kept for those who come late, as much as its queue has room for. `None` if there
    /// are as many links as can be.
    pub(crate) fn attach(
        &mut self,
        words: Arc<LinkWords>,
        ringer: Option<Ringer>,
    ) -> Option<LinkId> {
        let first = LINK_FIRST as usize;
        let bit = match self.links[first..].iter().position(Option::is_none) {
            Some(index) => first + index,
            None if self.links.len() < first + LINKS_MAX => {
                self.links.push(None);
                self.links.len() - 1
            }
            None => return None,
        };
        let id = LinkId::new(self.next_serial, bit as u32);
        self.next_serial += 1;
        let depth = words.geometry().depth as usize;
        let mut half = PublisherHalf::new(words);
        let skip = self.history.len().saturating_sub(depth);
        let mut out = Out::default();
        for slot in self.history.iter().skip(skip) {
            // A new link is not full, and its peer has not seen it yet.
            if half.offer() == Ok(Offered::Room(None)) {
                half.commit(*slot);
                self.slots.hold(*slot, bit as u32);
                out.add(*slot, None);
            }
        }
        let mut link = Link {
            id,
            phase: Phase::Live,
            half,
            out,
            ringer,
            watched: [false; 2],
        };
        link.watch(Watched::WithAll, self.watching_all);
        self.links[bit] = Some(link);
        Some(id)
    }

    fn find(&self, id: LinkId) -> Option<&Link> {
        let link = self.links.get(id.holder() as usize)?.as_ref();
        link.filter(|link| link.id == id)
    }

    fn find_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        let link = self.links.get_mut(id.holder() as usize)?.as_mut();
        link.filter(|link| link.id == id)
    }

    /// The holder of a link that gets what is queued.
    fn live_bit(&self, id: LinkId) -> Option<u32> {
        let live = self.find(id)?.phase == Phase::Live;
        live.then_some(id.holder())
    }

    /// The link does not hold `slot` any more.
    fn back(&mut self, bit: u32, slot: u32) {
        if let Some(link) = &mut self.links[bit as usize] {
            self.released.extend(link.out.remove(slot));
        }
        self.slots.let_go(slot, bit);
    }

    /// Forgets a link that has ended, once it holds nothing.
    fn forget_if_over(&mut self, bit: u32) {
        let link = &mut self.links[bit as usize];
        let over = |link: &Link| link.phase == Phase::Leaving && link.out.held.is_empty();
        if link.as_ref().is_some_and(over) {
            *link = None;
        }
    }

    /// The links that get what is published.
    pub(crate) fn live(&self) -> impl Iterator<Item = (LinkId, &PublisherHalf)> {
        let links = self.links.iter().flatten();
        let live = links.filter(|link| link.phase == Phase::Live);
        live.map(|link| (link.id, &link.half))
    }

    /// The links on which something may still be queued, and whose subscribers have not left: they may take what is queued next,
    /// wherever it lies.
    pub(crate) fn takers(&self) -> impl Iterator<Item = LinkId> {
        let stays = |half: &PublisherHalf| half.subscriber_has_left() == Ok(false);
        self.live()
            .filter(move |(_, half)| stays(half))
            .map(|(id, _)| id)
    }

    /// True if the link is one of the [`takers`](Self::takers).
    pub(crate) fn is_taker(&self, id: LinkId) -> bool {
        let link = self.find(id).filter(|link| link.phase == Phase::Live);
        link.is_some_and(|link| link.half.subscriber_has_left() == Ok(false))
    }

    /// The words of every link that holds something or gets something.
    pub(crate) fn words(&self) -> impl Iterator<Item = &Arc<LinkWords>> {
        let links = self.links.iter().flatten();
        let honest = links.filter(|link| link.phase != Phase::Faulted);
        honest.map(|link| link.half.words())
    }

    /// The live links that must have room before anything is published, and have none.
    pub(crate) fn full(&mut self) -> Vec<LinkId> {
        let mut full = Vec::new();
        for bit in 0..self.links.len() {
            let Some(link) = &self.links[bit] else {
                continue;
            };
            let id = link.id;
            if link.phase != Phase::Live || link.half.when_full() != WhenFull::Wait {
                continue;
            }
            // One that is gone holds back nobody.
            if self.room_to_wait_for(bit as u32) == Err(Queued::Full) {
                full.push(id);
            }
        }
        full
    }

    /// `Ok` if the live link `bit`, which loses nothing, has room.
    fn room_to_wait_for(&mut self, bit: u32) -> Result<(), Queued> {
        let Some(link) = &mut self.links[bit as usize] else {
            return Err(Queued::Gone { violation: None });
        };
        let left = match link.half.is_full() {
            Ok(false) => return Ok(()),
            Ok(true) => link.half.subscriber_has_left(),
            Err(violation) => Err(violation),
        };
        match left {
            Ok(false) => Err(Queued::Full),
            Ok(true) => {
                // Nobody will make room there.
                self.leave_bit(bit);
                Err(Queued::Gone { violation: None })
            }
            Err(violation) => Err(self.gone(bit, violation)),
        }
    }

    fn gone(&mut self, bit: u32, violation: Violation) -> Queued {
        self.fault(bit);
        let violation = Some(violation);
        Queued::Gone { violation }
    }

    /// Queues `slot` on one link by that link's policy. `fill_in` is called when it is certain that it will be queued, and
    /// before anybody can see it: after it, the slot is outstanding.
    ///
    /// `guard` is released when the link does not hold the slot any more: at once, if it is not queued.
    pub(crate) fn queue(
        &mut self,
        id: LinkId,
        slot: u32,
        guard: Option<Guard>,
        fill_in: impl FnOnce(&mut Slots),
    ) -> Queued {
        let Some(bit) = self.live_bit(id) else {
            self.released.extend(guard);
            return Queued::Gone { violation: None };
        };
        if self.slots.is_held_by(slot, bit) {
            // Once more on the same link: right if it has come back since.
            let link = self.links[bit as usize].as_mut().expect("it is live");
            match link.half.standing(slot) {
                Ok(Standing::Back) => self.back(bit, slot),
                Ok(_) => panic!("a link holds a slot once"),
                Err(violation) => {
                    self.released.extend(guard);
                    return self.gone(bit, violation);
                }
            }
        }
        self.queue_bit(bit, slot, guard, fill_in)
    }

    /// [`queue`](Self::queue) on a live link that does not hold the slot.
    fn queue_bit(
        &mut self,
        bit: u32,
        slot: u32,
        guard: Option<Guard>,
        fill_in: impl FnOnce(&mut Slots),
    ) -> Queued {
        let not_queued = match self.room(bit) {
            Ok(evicted) => {
                if let Some(evicted) = evicted {
                    self.back(bit, evicted);
                }
                fill_in(&mut self.slots);
                let link = self.links[bit as usize].as_mut();
                let link = link.expect("it had room");
                link.half.commit(slot);
                link.out.add(slot, guard);
                self.slots.hold(slot, bit);
                let evicted = evicted.is_some();
                return Queued::Queued { evicted };
            }
            Err(not_queued) => not_queued,
        };
        self.released.extend(guard);
        not_queued
    }

    /// Makes room on a live link, where its policy says so. Gives the slot that was taken back for it.
    fn room(&mut self, bit: u32) -> Result<Option<u32>, Queued> {
        let when_full = |link: &Option<Link>| link.as_ref().map(|link| link.half.when_full());
        if when_full(&self.links[bit as usize]) == Some(WhenFull::Wait) {
            self.room_to_wait_for(bit)?;
        }
        let Some(link) = &mut self.links[bit as usize] else {
            return Err(Queued::Gone { violation: None });
        };
        match link.half.offer() {
            Ok(Offered::Room(evicted)) => Ok(evicted),
            Ok(Offered::Dropped) => Err(Queued::Dropped),
            Ok(Offered::Refused) => Err(Queued::Refused),
            Ok(Offered::Overflowed) => {
                link.phase = Phase::Leaving;
                Err(Queued::Overflowed)
            }
            Err(violation) => Err(self.gone(bit, violation)),
        }
    }

    /// Gives the filled, loaned `slot` to all live links, keeps it for `locals` if wanted, and remembers it for those who come
    /// late. The caller has seen, under the same lock, that [`full`](Self::full) is empty.
    ///
    /// Returns how many links have it; those that do not are passed to `refused`.
    pub(crate) fn publish(
        &mut self,
        slot: u32,
        locals: bool,
        mut refused: impl FnMut(LinkId, Refusal),
    ) -> u32 {
        self.slots.send(slot);
        let mut count = 0;
        for bit in 0..self.links.len() as u32 {
            let Some(link) = &self.links[bit as usize] else {
                continue;
            };
            if link.phase != Phase::Live {
                continue;
            }
            let id = link.id;
            match self.queue_bit(bit, slot, None, |_| {}) {
                Queued::Queued { .. } => count += 1,
                Queued::Dropped => refused(id, Refusal::Dropped),
                Queued::Refused => refused(id, Refusal::Full),
                Queued::Overflowed => refused(id, Refusal::Overflowed),
                Queued::Gone {
                    violation: Some(violation),
                } => refused(id, Refusal::Faulted(violation)),
                Queued::Gone { violation: None } => {}
                Queued::Full => unreachable!("only we add, and there was room"),
            }
        }
        if locals {
            self.slots.hold(slot, LOCAL);
        }
        if self.history_max > 0 {
            self.slots.hold(slot, HISTORY);
            if self.history.len() == self.history_max {
                self.forget_oldest();
            }
            self.history.push_back(slot);
        }
        self.slots.settle(slot);
        count
    }

    /// Keeps one sample less for those who come late. False if none is kept.
    pub(crate) fn forget_oldest(&mut self) -> bool {
        let oldest = self.history.pop_front();
        if let Some(slot) = oldest {
            self.slots.let_go(slot, HISTORY);
        }
        oldest.is_some()
    }

    /// Subscribers in this process are done with `slot`.
    pub(crate) fn local_done(&mut self, slot: u32) {
        self.slots.let_go(slot, LOCAL);
    }

    /// Looks for slots that links have given back; see [`Slots::collect`].
    pub(crate) fn collect(&mut self, wanted: Option<usize>) {
        let mut faulted = Vec::new();
        let (links, released) = (&mut self.links, &mut self.released);
        self.slots.collect(wanted, |slot, holder| {
            let Some(Some(link)) = links.get_mut(holder as usize) else {
                // Not a link, but this process or the history.
                return false;
            };
            if link.phase == Phase::Faulted {
                return false;
            }
            match link.half.standing(slot) {
                Ok(Standing::Back) => {
                    released.extend(link.out.remove(slot));
                    true
                }
                Ok(_) => false,
                Err(_) => {
                    link.phase = Phase::Faulted;
                    faulted.push(holder);
                    false
                }
            }
        });
        for bit in faulted {
            self.fault(bit);
        }
        for bit in LINK_FIRST..self.links.len() as u32 {
            self.forget_if_over(bit);
        }
    }

    /// Takes back what one link has given back, after looking at all that it holds.
    pub(crate) fn sweep(&mut self, id: LinkId) {
        let bit = id.holder();
        let mut at = 0;
        while let Some(link) = self.find_mut(id) {
            if link.phase == Phase::Faulted {
                return;
            }
            let Some(&(slot, _)) = link.out.held.get(at) else {
                return self.forget_if_over(bit);
            };
            match link.half.standing(slot) {
                // Another one has its place now.
                Ok(Standing::Back) => self.back(bit, slot),
                Ok(_) => at += 1,
                Err(_) => return self.fault(bit),
            }
        }
    }

    /// How many samples of a link are not taken yet; 0 if it gets none any more.
    pub(crate) fn queued(&mut self, id: LinkId) -> usize {
        let Some(link) = self.find_mut(id).filter(|link| link.phase == Phase::Live) else {
            return 0;
        };
        link.half.queued().unwrap_or_else(|_| {
            self.fault(id.holder());
            0
        })
    }

    /// How many slots a link has, as far as is known.
    pub(crate) fn held(&self, id: LinkId) -> usize {
        self.find(id).map_or(0, |link| link.out.held.len())
    }

    /// Asks the link's subscriber to ring when it has taken something or given something back, or not any more.
    pub(crate) fn watch(&mut self, id: LinkId, on: bool) {
        if let Some(link) = self.find_mut(id) {
            link.watch(Watched::Alone, on);
            // Partner: the fence in `Shared::tell_publisher`. The caller looks after this.
            fence(SeqCst);
        }
    }

    /// [`watch`](Self::watch) for all links that hold something or get something, and for those that come.
    pub(crate) fn watch_all(&mut self, on: bool) {
        self.watching_all = on;
        for link in self.links.iter_mut().flatten() {
            link.watch(Watched::WithAll, on);
        }
        // As above.
        fence(SeqCst);
    }

    pub(crate) fn take_released(&mut self) -> Vec<Guard> {
        std::mem::take(&mut self.released)
    }

    /// Not needed: it is released like those of samples that came back.
    #[cfg(not(loom))]
    pub(crate) fn release(&mut self, guard: Option<Guard>) {
        self.released.extend(guard);
    }

    /// What wakes a link's driver.
    pub(crate) fn ringer(&self, id: LinkId) -> Option<&Ringer> {
        self.find(id)?.ringer.as_ref()
    }

    /// What wakes the drivers of all links.
    pub(crate) fn ringers(&self) -> impl Iterator<Item = &Ringer> {
        let links = self.links.iter().flatten();
        links.filter_map(|link| link.ringer.as_ref())
    }

    /// A link has ended: its driver is woken once more, by the caller.
    pub(crate) fn take_ringer(&mut self, id: LinkId) -> Option<Ringer> {
        self.find_mut(id)?.ringer.take()
    }

    /// Takes back what waits in the queues of links that may lose samples, oldest first, until `enough` says so: only slots
    /// of `class` or larger that become free by it.
    pub(crate) fn revoke_lossy(&mut self, class: usize, enough: impl Fn(&Slots) -> bool) {
        for slot in self.slots.outstanding_from(class) {
            if enough(&self.slots) {
                return;
            }
            if self.all_lossy_and_queued(slot) {
                self.revoke_everywhere(slot);
            }
        }
    }

    /// True if each of these slots is free, or waits in queues of links that may lose samples, and nowhere else.
    pub(crate) fn can_be_free(&self, mut numbers: Range<u32>) -> bool {
        numbers.all(|slot| {
            let is_held = self.slots.holder_from(slot, 0).is_some();
            self.slots.all_free(slot..slot + 1) || is_held && self.all_lossy_and_queued(slot)
        })
    }

    /// Takes `slot` back from every link that has it queued.
    pub(crate) fn revoke_everywhere(&mut self, slot: u32) {
        let mut from = 0;
        while let Some(bit) = self.slots.holder_from(slot, from) {
            from = bit + 1;
            let Some(link) = &mut self.links[bit as usize] else {
                continue;
            };
            match link.half.revoke_slot(slot) {
                Ok(true) => self.back(bit, slot),
                // It was taken just now.
                Ok(false) => {}
                Err(_) => self.fault(bit),
            }
        }
    }

    /// True if every holder of `slot` is a link that may lose samples and has not taken it.
    fn all_lossy_and_queued(&self, slot: u32) -> bool {
        let mut from = 0;
        while let Some(holder) = self.slots.holder_from(slot, from) {
            let lossy_and_queued = self.links[holder as usize].as_ref().is_some_and(|link| {
                link.phase == Phase::Live
                    && link.half.when_full() != WhenFull::Wait
                    && link.half.peek(slot) == Ok(Standing::Queued)
            });
            if !lossy_and_queued {
                return false;
            }
            from = holder + 1;
        }
        true
    }

    /// How many leases links that may lose samples can hold, in all.
    pub(crate) fn lossy_leases(&self) -> u64 {
        let links = self.links.iter().flatten();
        let lossy = links.filter(|link| link.half.when_full() != WhenFull::Wait);
        lossy
            .map(|link| u64::from(link.half.words().geometry().leases_max))
            .sum()
    }

    /// Ends a link in order: takes back what is queued; what is leased comes back when its leases end. Does nothing if the
    /// link is gone.
    pub(crate) fn detach(&mut self, id: LinkId) {
        if self.find(id).is_some() {
            self.leave_bit(id.holder());
        }
    }

    fn leave_bit(&mut self, bit: u32) {
        let Some(link) = &mut self.links[bit as usize] else {
            return;
        };
        if link.phase == Phase::Faulted {
            return;
        }
        link.phase = Phase::Leaving;
        link.half.close();
        link.half.wake_waiting();
        for slot in link.out.slots() {
            let Some(link) = &mut self.links[bit as usize] else {
                return;
            };
            match link.half.revoke_slot(slot) {
                Ok(true) => self.back(bit, slot),
                Ok(false) => {}
                Err(_) => return self.fault(bit),
            }
        }
    }

    /// The link's subscriber does not keep to the protocol.
    fn fault(&mut self, bit: u32) {
        if let Some(link) = &mut self.links[bit as usize] {
            link.phase = Phase::Faulted;
            link.half.close();
            link.half.wake_waiting();
        }
    }

    /// Links whose subscribers do not keep to the protocol, until they are reaped.
    pub(crate) fn faulted(&self) -> Vec<LinkId> {
        let links = self.links.iter().flatten();
        let faulted = links.filter(|link| link.phase == Phase::Faulted);
        faulted.map(|link| link.id).collect()
    }

    /// The process of the link's subscriber is dead, all of it: takes back everything that the link holds, exactly once. `None`
    /// if the link is gone.
    pub(crate) fn reap(&mut self, id: LinkId) -> Option<Reaped> {
        self.find(id)?;
        let bit = id.holder();
        let mut link = self.links[bit as usize].take()?;
        let mut reaped = Reaped::default();
        for (slot, guard) in std::mem::take(&mut link.out.held) {
            self.released.extend(guard);
            match link.half.reap(slot) {
                Some(Standing::Queued) => reaped.queued += 1,
                Some(Standing::Leased) => reaped.leased += 1,
                Some(Standing::Back) | None => reaped.returned += 1,
            }
            self.slots.let_go(slot, bit);
        }
        // Threads of this process may wait for room there.
        link.half.close();
        link.half.wake_waiting();
        Some(reaped)
    }

    /// How many samples wait in a link's queue, and how many are leased.
    pub(crate) fn link_counts(&mut self, id: LinkId) -> Option<(usize, usize)> {
        self.sweep(id);
        let link = self.find(id).filter(|link| link.phase != Phase::Faulted)?;
        let mut counts = (0, 0);
        for (slot, _) in &link.out.held {
            match link.half.peek(*slot).ok()? {
                Standing::Queued => counts.0 += 1,
                Standing::Leased => counts.1 += 1,
                // It came back since we looked.
                Standing::Back => {}
            }
        }
        Some(counts)
    }

    /// What all slots are used for, after taking back what can be.
    pub(crate) fn counts(&mut self) -> SlotCounts {
        self.collect(None);
        let (free, loaned) = self.slots.idle();
        let (slots, retired) = self.slots.counts();
        let mut counts = SlotCounts {
            slots,
            free,
            loaned,
            retired,
            ..SlotCounts::default()
        };
        for slot in self.slots.outstanding_from(0) {
            let (mut leased, mut queued) = (self.slots.is_held_by(slot, LOCAL), false);
            let mut quarantined = false;
            let mut from = 0;
            while let Some(bit) = self.slots.holder_from(slot, from) {
                from = bit + 1;
                let Some(link) = &self.links[bit as usize] else {
                    continue;
                };
                if link.phase == Phase::Faulted {
                    quarantined = true;
                    continue;
                }
                // What comes back meanwhile still counts as leased: it is found the next time.
                match link.half.peek(slot) {
                    Ok(Standing::Queued) => queued = true,
                    Ok(Standing::Leased | Standing::Back) => leased = true,
                    Err(_) => quarantined = true,
                }
            }
            match (leased, queued, quarantined) {
                (true, ..) => counts.leased += 1,
                (_, true, _) => counts.queued += 1,
                (.., true) => counts.quarantined += 1,
                _ => counts.kept += 1,
            }
        }
        counts
    }
}

impl fmt::Debug for FanOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let links = self.links.iter().flatten().count();
        let (free, _) = self.slots.idle();
        let (slots, _) = self.slots.counts();
        write!(f, "FanOut({links} links, {free} of {slots} slots free)")
    }
}
