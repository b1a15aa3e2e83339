//! Who has which slot: the publisher's private side. It holds no lock and touches no shared memory.
//!
//! | a slot is   | held by                                                         | leaves by                          |
//! |-------------|-----------------------------------------------------------------|------------------------------------|
//! | free        | nobody; it stands in its class's list                           | [`Slots::take`]                    |
//! | loaned      | whoever fills it                                                | [`Slots::put_back`], [`Slots::send`] |
//! | outstanding | the bits of `holders`: links, this process, the history         | the last [`Slots::let_go`]         |
//!
//! Links give slots back by a word in shared memory, and nobody tells us. So outstanding slots are looked through when a
//! list is empty, oldest first, and then many are taken back at once.

use crate::class::CLASSES;
use std::collections::VecDeque;

/// Links have the bits below this one.
pub(crate) const LINKS_MAX: usize = 62;
/// Subscribers in this process.
pub(crate) const LOCAL: u32 = 62;
/// Kept for those who come late.
pub(crate) const HISTORY: u32 = 63;

/// A look through outstanding slots goes on until it has found this many, so that the next ones need not look.
const TAKE_BACK: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Loaned,
    Outstanding,
}

#[derive(Debug)]
struct Slot {
    class: usize,
    state: State,
    holders: u64,
    /// How often it was sent: tells apart the places that it had in `outstanding`.
    generation: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// By class. The slot that was given back last is used first: its memory is warm.
    free: Vec<Vec<u32>>,
    /// Slots in the order in which they were sent, with the generation they had. Some are back already: those have another
    /// state or generation now.
    outstanding: VecDeque<(u32, u64)>,
}

/// The bits of a set of holders.
pub(crate) fn bits(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let bit = (set != 0).then(|| set.trailing_zeros())?;
        set &= set - 1;
        Some(bit)
    })
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: vec![Vec::new(); CLASSES],
            outstanding: VecDeque::new(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// How many of a class there are.
    pub(crate) fn of_class(&self, class: usize) -> usize {
        self.slots.iter().filter(|slot| slot.class == class).count()
    }

    /// Adds `count` free slots behind all others. The first of them is used first.
    pub(crate) fn add(&mut self, class: usize, count: u32) {
        let first = self.len();
        for _ in 0..count {
            self.slots.push(Slot {
                class,
                state: State::Free,
                holders: 0,
                generation: 0,
            });
        }
        self.free[class].extend((first..first + count).rev());
    }

    /// Takes a free slot of exactly this class.
    pub(crate) fn take(&mut self, class: usize) -> Option<u32> {
        let slot = self.free[class].pop()?;
        let state = &mut self.slots[slot as usize].state;
        debug_assert_eq!(*state, State::Free, "lists have free slots");
        *state = State::Loaned;
        Some(slot)
    }

    /// Takes a free slot of the next larger class that has one.
    pub(crate) fn take_larger(&mut self, class: usize) -> Option<u32> {
        (class + 1..CLASSES).find_map(|class| self.take(class))
    }

    /// True if a slot of this class or of a larger one is free.
    pub(crate) fn has_free_from(&self, class: usize) -> bool {
        self.free[class..].iter().any(|list| !list.is_empty())
    }

    /// True if there is a slot of this class or of a larger one, whoever has it.
    pub(crate) fn has_any_from(&self, class: usize) -> bool {
        self.slots.iter().any(|slot| slot.class >= class)
    }

    /// How often the slot was sent.
    pub(crate) fn generation(&self, slot: u32) -> u64 {
        self.slots[slot as usize].generation
    }

    fn free(&mut self, slot: u32) {
        let at = &mut self.slots[slot as usize];
        at.state = State::Free;
        self.free[at.class].push(slot);
    }

    /// A loaned slot that was not sent.
    pub(crate) fn put_back(&mut self, slot: u32) {
        assert_eq!(self.slots[slot as usize].state, State::Loaned);
        self.free(slot);
    }

    /// A loaned slot becomes an outstanding one. Nobody holds it yet: [`hold`](Self::hold) it, then call
    /// [`settle`](Self::settle). Returns how often this slot was sent, with this time.
    pub(crate) fn send(&mut self, slot: u32) -> u64 {
        if self.outstanding.len() >= 2 * self.slots.len() + TAKE_BACK {
            // Slots that never stay away long leave their old places here.
            let slots = &self.slots;
            let away = |&(slot, generation): &(u32, u64)| slots[slot as usize].is_out(generation);
            self.outstanding.retain(away);
        }
        let at = &mut self.slots[slot as usize];
        assert_eq!(at.state, State::Loaned);
        at.state = State::Outstanding;
        at.generation += 1;
        self.outstanding.push_back((slot, at.generation));
        at.generation
    }

    pub(crate) fn hold(&mut self, slot: u32, holder: u32) {
        let at = &mut self.slots[slot as usize];
        debug_assert_eq!(at.state, State::Outstanding);
        at.holders |= 1 << holder;
    }

    /// All holders of a slot that was just sent are known: if there are none it is free.
    pub(crate) fn settle(&mut self, slot: u32) {
        if self.slots[slot as usize].holders == 0 {
            self.free(slot);
        }
    }

    /// Who holds it.
    pub(crate) fn holders(&self, slot: u32) -> u64 {
        self.slots[slot as usize].holders
    }

    /// One holder less. The last one makes it free.
    pub(crate) fn let_go(&mut self, slot: u32, holder: u32) {
        let at = &mut self.slots[slot as usize];
        assert!(at.holders & 1 << holder != 0, "it let go of what it held");
        at.holders &= !(1 << holder);
        if at.holders == 0 {
            self.free(slot);
        }
    }

    /// Looks through outstanding slots, oldest first, and asks `is_back` about each of their holders. Stops when it has
    /// taken back 64 slots and one of them is of class `wanted`; with `None` it looks at all.
    pub(crate) fn collect(
        &mut self,
        wanted: Option<usize>,
        mut is_back: impl FnMut(u32, u32) -> bool,
    ) {
        let (mut found, mut seen) = (0, 0);
        while seen < self.outstanding.len() {
            let (slot, generation) = self.outstanding[seen];
            if !self.slots[slot as usize].is_out(generation) {
                seen += 1;
                continue;
            }
            let back = bits(self.holders(slot)).filter(|holder| is_back(slot, *holder));
            let back: u64 = back.map(|holder| 1 << holder).sum();
            for holder in bits(back) {
                self.let_go(slot, holder);
            }
            found += usize::from(self.holders(slot) == 0);
            seen += 1;
            if wanted.is_some_and(|class| found >= TAKE_BACK && !self.free[class].is_empty()) {
                break;
            }
        }
        // Those that are still away move up behind those that are gone.
        let mut away = Vec::new();
        for (slot, generation) in self.outstanding.drain(..seen) {
            if self.slots[slot as usize].is_out(generation) {
                away.push((slot, generation));
            }
        }
        for place in away.into_iter().rev() {
            self.outstanding.push_front(place);
        }
    }

    /// The outstanding slots of `class` or a larger one, oldest first.
    pub(crate) fn outstanding_from(&self, class: usize) -> Vec<u32> {
        let away = self.outstanding.iter().filter(|(slot, generation)| {
            let at = &self.slots[*slot as usize];
            at.is_out(*generation) && at.class >= class
        });
        away.map(|(slot, _)| *slot).collect()
    }

    /// All slots that `holder` holds.
    pub(crate) fn held_by(&self, holder: u32) -> Vec<u32> {
        let held = |slot: &u32| self.holders(*slot) & 1 << holder != 0;
        (0..self.len()).filter(held).collect()
    }

    /// How many are free, and how many loaned.
    pub(crate) fn idle(&self) -> (usize, usize) {
        let count = |state| self.slots.iter().filter(|s| s.state == state).count();
        (count(State::Free), count(State::Loaned))
    }
}

impl Slot {
    /// True if it is still away since it was sent for the `generation`-th time.
    fn is_out(&self, generation: u64) -> bool {
        self.state == State::Outstanding && self.generation == generation
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn sent(slots: &mut Slots, class: usize, holders: &[u32]) -> u32 {
        let slot = slots.take(class).unwrap();
        slots.send(slot);
        for holder in holders {
            slots.hold(slot, *holder);
        }
        slots.settle(slot);
        slot
    }

    #[test]
    fn the_slot_given_back_last_is_used_first() {
        let mut slots = Slots::new();
        slots.add(0, 3);
        let (a, b) = (sent(&mut slots, 0, &[1]), sent(&mut slots, 0, &[1, 2]));
        slots.let_go(a, 1);
        slots.let_go(b, 1);
        slots.let_go(b, 2);
        assert_eq!(slots.take(0), Some(b));
        assert_eq!(slots.take(0), Some(a));
    }

    #[test]
    fn a_look_takes_back_64_or_more_and_leaves_the_rest_in_order() {
        let mut slots = Slots::new();
        slots.add(3, 200);
        let order: Vec<_> = (0..200).map(|_| sent(&mut slots, 3, &[0, 5])).collect();
        let mut asked = Vec::new();
        // Holder 5 keeps the first.
        slots.collect(Some(3), |slot, holder| {
            asked.push(slot);
            slot != order[0] || holder == 0
        });
        assert_eq!(slots.idle(), (64, 0));
        assert_eq!(asked.len(), 130);
        assert_eq!(slots.holders(order[0]), 1 << 5);
        let left = slots.outstanding_from(0);
        assert_eq!(left[0], order[0]);
        assert_eq!(left[1..], order[65..]);
    }

    #[test]
    fn what_never_stays_away_leaves_nothing_behind() {
        let mut slots = Slots::new();
        slots.add(0, 2);
        for _ in 0..10_000 {
            let slot = sent(&mut slots, 0, &[7]);
            slots.let_go(slot, 7);
        }
        assert!(slots.outstanding.len() <= 2 * 2 + TAKE_BACK);
        sent(&mut slots, 0, &[]);
        assert_eq!(slots.idle(), (2, 0));
    }
}
