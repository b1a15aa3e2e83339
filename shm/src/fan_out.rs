//! One publisher and all its links: slots go out to them and come back. Private memory, and the words of the links; no
//! payload is touched here. All of it is called under the publisher's own lock.

use crate::error::Violation;
use crate::link::{LinkWords, PublisherHalf, Pushed, Standing, WhenFull};
use crate::slots::{HISTORY, LINKS_MAX, LOCAL, Slots, bits};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

/// A link of one publisher. Never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LinkId(u64);

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

#[derive(Debug)]
struct Link {
    id: LinkId,
    phase: Phase,
    half: PublisherHalf,
    /// How many slots it holds, as far as is known.
    held: u32,
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
    /// By holder's bit.
    links: Vec<Option<Link>>,
    next_id: u64,
    /// Slots of the last samples, oldest first; each has the bit `HISTORY`.
    history: VecDeque<u32>,
    history_max: usize,
}

impl FanOut {
    pub(crate) fn new(history_max: usize) -> Self {
        Self {
            slots: Slots::new(),
            links: Vec::new(),
            next_id: 0,
            history: VecDeque::new(),
            history_max,
        }
    }

    /// Adds a link and queues on it what is kept for those who come late, as much as its queue has room for. `None` if there
    /// are as many links as can be.
    pub(crate) fn attach(&mut self, words: Arc<LinkWords>) -> Option<LinkId> {
        let bit = match self.links.iter().position(Option::is_none) {
            Some(bit) => bit,
            None if self.links.len() < LINKS_MAX => {
                self.links.push(None);
                self.links.len() - 1
            }
            None => return None,
        };
        let id = LinkId(self.next_id);
        self.next_id += 1;
        let depth = words.geometry().depth as usize;
        let mut half = PublisherHalf::new(words);
        let skip = self.history.len().saturating_sub(depth);
        let mut held = 0;
        for slot in self.history.iter().skip(skip) {
            // A new link is not full, and its peer has not seen it yet.
            if half.push(*slot, |_| {}) == Ok(Pushed::Queued) {
                self.slots.hold(*slot, bit as u32);
                held += 1;
            }
        }
        let phase = Phase::Live;
        self.links[bit] = Some(Link {
            id,
            phase,
            half,
            held,
        });
        Some(id)
    }

    fn find(&mut self, id: LinkId) -> Option<(u32, &mut Link)> {
        let mut links = self.links.iter_mut().enumerate();
        links.find_map(|(bit, link)| {
            let link = link.as_mut().filter(|link| link.id == id)?;
            Some((bit as u32, link))
        })
    }

    /// The links that get what is published.
    pub(crate) fn live(&self) -> impl Iterator<Item = (LinkId, &PublisherHalf)> {
        let links = self.links.iter().flatten();
        let live = links.filter(|link| link.phase == Phase::Live);
        live.map(|link| (link.id, &link.half))
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
            let Some(link) = &mut self.links[bit] else {
                continue;
            };
            if link.phase != Phase::Live || link.half.when_full() != WhenFull::Wait {
                continue;
            }
            match link.half.is_full() {
                Ok(false) => {}
                // Nobody will make room there.
                Ok(true) => match link.half.subscriber_has_left() {
                    Ok(false) => full.push(link.id),
                    Ok(true) => self.leave_bit(bit as u32),
                    Err(_) => self.fault(bit as u32),
                },
                Err(_) => self.fault(bit as u32),
            }
        }
        full
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
            let slots = &mut self.slots;
            let Some(link) = &mut self.links[bit as usize] else {
                continue;
            };
            if link.phase != Phase::Live {
                continue;
            }
            let held = &mut link.held;
            let pushed = link.half.push(slot, |revoked| {
                slots.let_go(revoked, bit);
                *held -= 1;
            });
            let id = link.id;
            match pushed {
                Ok(Pushed::Queued) => {
                    slots.hold(slot, bit);
                    *held += 1;
                    count += 1;
                }
                Ok(Pushed::Dropped) => refused(id, Refusal::Dropped),
                Ok(Pushed::Refused) => refused(id, Refusal::Full),
                Ok(Pushed::Overflowed) => {
                    link.phase = Phase::Leaving;
                    refused(id, Refusal::Overflowed);
                }
                Err(violation) => {
                    self.fault(bit);
                    refused(id, Refusal::Faulted(violation));
                }
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
        let mut faulted = 0_u64;
        let links = &mut self.links;
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
                    link.held -= 1;
                    true
                }
                Ok(_) => false,
                Err(_) => {
                    link.phase = Phase::Faulted;
                    faulted |= 1 << holder;
                    false
                }
            }
        });
        for bit in bits(faulted) {
            self.fault(bit);
        }
        for link in &mut self.links {
            let over = |link: &Link| link.phase == Phase::Leaving && link.held == 0;
            if link.as_ref().is_some_and(over) {
                *link = None;
            }
        }
    }

    /// Takes back what waits in the queues of links that may lose samples, oldest first, until `enough` says so: only slots
    /// of `class` or larger that become free by it.
    pub(crate) fn revoke_lossy(&mut self, class: usize, enough: impl Fn(&Slots) -> bool) {
        for slot in self.slots.outstanding_from(class) {
            if enough(&self.slots) {
                return;
            }
            let holders = self.slots.holders(slot);
            let all_queued = bits(holders).all(|holder| {
                let link = self.links.get_mut(holder as usize);
                link.and_then(Option::as_mut).is_some_and(|link| {
                    link.phase == Phase::Live
                        && link.half.when_full() != WhenFull::Wait
                        && link.half.peek(slot) == Ok(Standing::Queued)
                })
            });
            if !all_queued {
                continue;
            }
            for bit in bits(holders) {
                let Some(link) = &mut self.links[bit as usize] else {
                    continue;
                };
                match link.half.revoke_slot(slot) {
                    Ok(true) => {
                        link.held -= 1;
                        self.slots.let_go(slot, bit);
                    }
                    // It was taken just now.
                    Ok(false) => {}
                    Err(_) => self.fault(bit),
                }
            }
        }
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
        if let Some((bit, _)) = self.find(id) {
            self.leave_bit(bit);
        }
    }

    fn leave_bit(&mut self, bit: u32) {
        let held = self.slots.held_by(bit);
        let Some(link) = &mut self.links[bit as usize] else {
            return;
        };
        if link.phase == Phase::Faulted {
            return;
        }
        link.phase = Phase::Leaving;
        link.half.close();
        link.half.wake_waiting();
        for slot in held {
            match link.half.revoke_slot(slot) {
                Ok(true) => {
                    link.held -= 1;
                    self.slots.let_go(slot, bit);
                }
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
        let (bit, _) = self.find(id)?;
        let held = self.slots.held_by(bit);
        let mut link = self.links[bit as usize].take()?;
        assert_eq!(held.len(), link.held as usize, "each slot is counted once");
        let mut reaped = Reaped::default();
        for slot in held {
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
        self.collect(None);
        let (bit, _) = self.find(id)?;
        let held = self.slots.held_by(bit);
        let (_, link) = self.find(id)?;
        let mut counts = (0, 0);
        for slot in held {
            match link.half.peek(slot).ok()? {
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
        let mut counts = SlotCounts {
            slots: self.slots.len() as usize,
            free,
            loaned,
            ..SlotCounts::default()
        };
        for slot in self.slots.outstanding_from(0) {
            let holders = self.slots.holders(slot);
            let (mut leased, mut queued) = (holders & 1 << LOCAL != 0, false);
            let mut quarantined = false;
            for bit in bits(holders) {
                let Some(Some(link)) = self.links.get_mut(bit as usize) else {
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
        write!(
            f,
            "FanOut({links} links, {free} of {} slots free)",
            self.slots.len()
        )
    }
}
