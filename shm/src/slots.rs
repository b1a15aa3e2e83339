//! Who has which slot: the publisher's private side. It holds no lock and touches no shared memory.
//!
//! | a slot is   | held by                                                         | leaves by                          |
//! |-------------|-----------------------------------------------------------------|------------------------------------|
//! | unused      | nobody: its number has no memory                                | [`Slots::add`]                     |
//! | free        | nobody; it stands in its class's list                           | [`Slots::take`], [`Slots::retire`] |
//! | loaned      | whoever fills it                                                | [`Slots::put_back`], [`Slots::send`] |
//! | outstanding | the bits of `holders`: links, this process, the history         | the last [`Slots::let_go`]         |
//! | retired     | nobody, but subscribers may still map its memory                | [`Slots::forget`]                  |
//!
//! Links give slots back by a word in shared memory, and nobody tells us. So outstanding slots are looked through when a
//! list is empty, oldest first, and then many are taken back at once.

use crate::class::CLASSES;
use std::collections::VecDeque;
use std::ops::Range;

/// This process: it reads the slot, or may still queue it.
pub(crate) const LOCAL: u32 = 0;
/// Kept for those who come late.
pub(crate) const HISTORY: u32 = 1;
/// Links are the holders from here on.
pub(crate) const LINK_FIRST: u32 = 2;
/// How many links there can be.
pub(crate) const LINKS_MAX: usize = 1024;

/// A look through outstanding slots goes on until it has found this many, so that the next ones need not look.
const TAKE_BACK: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unused,
    Free,
    Loaned,
    Outstanding,
    Retired,
}

#[derive(Debug)]
struct Slot {
    class: usize,
    state: State,
    /// How many there are; `Slots::holders` says which.
    count: u32,
    /// How often it was sent: tells apart the places that it had in `outstanding`. It goes on when the number gets other memory.
    generation: u64,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    /// Sets of bits, one after another: `words` for each slot. Few links need one word.
    holders: Vec<u64>,
    words: usize,
    /// By class. The slot that was given back last is used first: its memory is warm.
    free: Vec<Vec<u32>>,
    /// By class: when a slot of it was taken last, counted in such takes.
    used: Vec<u64>,
    takes: u64,
    /// Slots in the order in which they were sent, with the generation they had. Some are back already: those have another
    /// state or generation now.
    outstanding: VecDeque<(u32, u64)>,
}

impl Slots {
    pub(crate) fn new() -> Self {
        Self {
            slots: Vec::new(),
            holders: Vec::new(),
            words: 1,
            free: vec![Vec::new(); CLASSES],
            used: vec![0; CLASSES],
            takes: 0,
            outstanding: VecDeque::new(),
        }
    }

    /// How many have memory, and how many of these are retired.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let count = |state| self.slots.iter().filter(|s| s.state == state).count();
        let unused = count(State::Unused);
        (self.slots.len() - unused, count(State::Retired))
    }

    /// How many of a class there are, without those that are retired.
    pub(crate) fn of_class(&self, class: usize) -> usize {
        let of_class = |slot: &&Slot| slot.class == class && slot.has_memory();
        self.slots.iter().filter(of_class).count()
    }

    /// Numbers without memory, one after another: the first `wanted` of them, or else as many as there are in one place. None
    /// is `slots_max` or larger.
    pub(crate) fn unused(&self, wanted: u32, slots_max: u32) -> Range<u32> {
        let mut longest = 0..0;
        let mut first = 0;
        for number in 0..=slots_max {
            let slot = self.slots.get(number as usize);
            let is_unused = slot.is_none_or(|slot| slot.state == State::Unused);
            if is_unused && number < slots_max && number - first < wanted {
                continue;
            }
            if number - first > longest.end - longest.start {
                longest = first..number;
            }
            if number - first == wanted {
                return longest;
            }
            first = number + 1;
        }
        longest
    }

    /// Numbers that are unused become free slots. The first of them is used first.
    pub(crate) fn add(&mut self, class: usize, numbers: Range<u32>) {
        while self.slots.len() < numbers.end as usize {
            self.slots.push(Slot {
                class,
                state: State::Unused,
                count: 0,
                generation: 0,
            });
        }
        self.holders.resize(self.slots.len() * self.words, 0);
        for number in numbers.clone() {
            let slot = &mut self.slots[number as usize];
            assert_eq!(slot.state, State::Unused, "a number names one slot");
            (slot.state, slot.class) = (State::Free, class);
        }
        self.free[class].extend(numbers.rev());
    }

    /// True if all of these are free.
    pub(crate) fn all_free(&self, numbers: Range<u32>) -> bool {
        let slots = &self.slots[numbers.start as usize..numbers.end as usize];
        slots.iter().all(|slot| slot.state == State::Free)
    }

    /// When a slot of the class was taken last, counted in such takes.
    pub(crate) fn last_used(&self, class: usize) -> u64 {
        self.used[class]
    }

    /// Free slots of one class, all of one segment, are not lent any more.
    pub(crate) fn retire(&mut self, numbers: Range<u32>) {
        for slot in &mut self.slots[numbers.start as usize..numbers.end as usize] {
            assert_eq!(slot.state, State::Free, "what is out is not retired");
            slot.state = State::Retired;
        }
        let class = self.slots[numbers.start as usize].class;
        self.free[class].retain(|slot| !numbers.contains(slot));
    }

    /// Nobody maps the memory of retired slots any more: their numbers may get other memory.
    pub(crate) fn forget(&mut self, numbers: Range<u32>) {
        for slot in &mut self.slots[numbers.start as usize..numbers.end as usize] {
            assert_eq!(slot.state, State::Retired, "its links were told");
            slot.state = State::Unused;
        }
    }

    /// Takes a free slot of exactly this class.
    pub(crate) fn take(&mut self, class: usize) -> Option<u32> {
        let slot = self.free[class].pop()?;
        let state = &mut self.slots[slot as usize].state;
        debug_assert_eq!(*state, State::Free, "lists have free slots");
        *state = State::Loaned;
        self.takes += 1;
        self.used[class] = self.takes;
        Some(slot)
    }

    /// Takes a free slot of the smallest of these classes that has one.
    pub(crate) fn take_from(&mut self, mut classes: Range<usize>) -> Option<u32> {
        classes.find_map(|class| self.take(class))
    }

    /// True if a slot of this class or of a larger one is free.
    pub(crate) fn has_free_from(&self, class: usize) -> bool {
        self.free[class..].iter().any(|list| !list.is_empty())
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
        self.make_room(holder);
        let (word, bit) = self.place(slot, holder);
        let at = &mut self.slots[slot as usize];
        debug_assert_eq!(at.state, State::Outstanding);
        at.count += u32::from(self.holders[word] & bit == 0);
        self.holders[word] |= bit;
    }

    /// Where the bit of `holder` stands, for which there is room.
    fn place(&self, slot: u32, holder: u32) -> (usize, u64) {
        let word = slot as usize * self.words + holder as usize / 64;
        (word, 1 << (holder % 64))
    }

    /// More words for each slot, if `holder` needs them.
    fn make_room(&mut self, holder: u32) {
        let words = holder as usize / 64 + 1;
        if words <= self.words {
            return;
        }
        let mut holders = vec![0; self.slots.len() * words];
        let (old, new) = (self.holders.chunks(self.words), holders.chunks_mut(words));
        for (old, new) in old.zip(new) {
            new[..old.len()].copy_from_slice(old);
        }
        (self.holders, self.words) = (holders, words);
    }

    /// All holders of a slot that was just sent are known: if there are none it is free.
    pub(crate) fn settle(&mut self, slot: u32) {
        if self.slots[slot as usize].count == 0 {
            self.free(slot);
        }
    }

    /// True if `holder` has it.
    pub(crate) fn is_held_by(&self, slot: u32, holder: u32) -> bool {
        if holder as usize / 64 >= self.words {
            return false;
        }
        let (word, bit) = self.place(slot, holder);
        self.holders[word] & bit != 0
    }

    /// The first holder of `slot` from `from` on. Holders may change between two calls, so it is no iterator.
    pub(crate) fn holder_from(&self, slot: u32, from: u32) -> Option<u32> {
        let first = slot as usize * self.words;
        let of_slot = &self.holders[first..first + self.words];
        let (skip, low) = (from as usize / 64, from % 64);
        let mut mask = u64::MAX << low;
        for (index, word) in of_slot.iter().enumerate().skip(skip) {
            let set = word & mask;
            if set != 0 {
                return Some(index as u32 * 64 + set.trailing_zeros());
            }
            mask = u64::MAX;
        }
        None
    }

    /// One holder less. The last one makes it free.
    pub(crate) fn let_go(&mut self, slot: u32, holder: u32) {
        assert!(self.is_held_by(slot, holder), "it let go of what it held");
        let (word, bit) = self.place(slot, holder);
        self.holders[word] &= !bit;
        let at = &mut self.slots[slot as usize];
        at.count -= 1;
        if at.count == 0 {
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
            let mut from = 0;
            while let Some(holder) = self.holder_from(slot, from) {
                if is_back(slot, holder) {
                    self.let_go(slot, holder);
                }
                from = holder + 1;
            }
            found += usize::from(self.slots[slot as usize].count == 0);
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

    /// How many are free, and how many loaned.
    pub(crate) fn idle(&self) -> (usize, usize) {
        let count = |state| self.slots.iter().filter(|s| s.state == state).count();
        (count(State::Free), count(State::Loaned))
    }
}

impl Slot {
    fn has_memory(&self) -> bool {
        !matches!(self.state, State::Unused | State::Retired)
    }

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
        slots.add(0, 0..3);
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
        slots.add(3, 0..200);
        let order: Vec<_> = (0..200).map(|_| sent(&mut slots, 3, &[0, 5])).collect();
        let mut asked = Vec::new();
        // Holder 5 keeps the first.
        slots.collect(Some(3), |slot, holder| {
            asked.push(slot);
            slot != order[0] || holder == 0
        });
        assert_eq!(slots.idle(), (64, 0));
        assert_eq!(asked.len(), 130);
        assert_eq!(slots.holder_from(order[0], 0), Some(5));
        assert_eq!(slots.holder_from(order[0], 6), None);
        let left = slots.outstanding_from(0);
        assert_eq!(left[0], order[0]);
        assert_eq!(left[1..], order[65..]);
    }

    #[test]
    fn what_never_stays_away_leaves_nothing_behind() {
        let mut slots = Slots::new();
        slots.add(0, 0..2);
        for _ in 0..10_000 {
            let slot = sent(&mut slots, 0, &[7]);
            slots.let_go(slot, 7);
        }
        assert!(slots.outstanding.len() <= 2 * 2 + TAKE_BACK);
        sent(&mut slots, 0, &[]);
        assert_eq!(slots.idle(), (2, 0));
    }

    #[test]
    fn more_holders_than_bits_in_a_word_are_told_apart() {
        let mut slots = Slots::new();
        slots.add(0, 0..3);
        let early = sent(&mut slots, 0, &[0, 63]);
        let late = sent(&mut slots, 0, &[63, 64, 700, 1025]);
        assert!(slots.is_held_by(early, 63) && !slots.is_held_by(early, 64));
        let mut seen = Vec::new();
        while let Some(holder) = slots.holder_from(late, seen.last().map_or(0, |last| last + 1)) {
            seen.push(holder);
        }
        assert_eq!(seen, [63, 64, 700, 1025]);
        for holder in seen {
            assert_eq!(slots.idle().0, 1);
            slots.let_go(late, holder);
        }
        assert_eq!(slots.idle().0, 2);
        // What is added afterwards has room for as many.
        slots.add(0, 3..4);
        let new = sent(&mut slots, 0, &[1025]);
        slots.let_go(new, 1025);
        slots.let_go(early, 0);
        slots.let_go(early, 63);
        assert_eq!(slots.idle(), (4, 0));
    }
    #[test]
    fn numbers_get_other_memory_when_they_are_unused_again() {
        let mut slots = Slots::new();
        assert_eq!(slots.unused(5, 10), 0..5);
        slots.add(0, 0..4);
        slots.add(1, 4..6);
        slots.add(2, 6..10);
        assert_eq!(slots.unused(1, 10), 0..0);
        let old = sent(&mut slots, 1, &[9]);
        assert!(!slots.all_free(4..6) && slots.all_free(0..4));
        slots.let_go(old, 9);
        slots.retire(4..6);
        slots.retire(0..4);
        assert_eq!((slots.take(0), slots.take(1)), (None, None));
        assert_eq!((slots.counts(), slots.of_class(1)), ((10, 6), 0));
        slots.forget(0..4);
        // The first that suffice, or the most that there are.
        assert_eq!((slots.unused(3, 10), slots.unused(9, 10)), (0..3, 0..4));
        slots.forget(4..6);
        assert_eq!((slots.unused(5, 12), slots.unused(9, 12)), (0..5, 0..6));
        slots.add(3, 1..6);
        assert_eq!((slots.unused(1, 12), slots.unused(2, 12)), (0..1, 10..12));
        assert_eq!(slots.counts(), (9, 0));
        // The place that it had under its old number is not its own.
        for _ in 0..5 {
            slots.take(3).unwrap();
        }
        assert!(slots.outstanding_from(0).is_empty());
        slots.send(old);
        assert_eq!(slots.generation(old), 2);
        slots.hold(old, 9);
        assert_eq!(slots.outstanding_from(3), [old]);
    }

    #[test]
    fn the_class_that_was_taken_last_is_known() {
        let mut slots = Slots::new();
        slots.add(0, 0..2);
        slots.add(5, 2..4);
        assert_eq!(slots.take_from(1..5), None);
        slots.take(5).unwrap();
        slots.take(0).unwrap();
        assert!(slots.last_used(5) < slots.last_used(0) && slots.last_used(1) == 0);
        assert_eq!(slots.take_from(1..6), Some(3));
        assert!(slots.last_used(0) < slots.last_used(5));
    }
}
