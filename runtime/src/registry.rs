//! What a node holds for each of its processors: a reference, and the name.
//!
//! There may be millions, so both are kept small: references stand in blocks, 16 bytes each, and the table of names holds
//! numbers of places in these blocks, 5 bytes each and what a table needs to have free. The hash of each name stands in the block,
//! too, 4 bytes: a table that grows need not fetch a million names. Both give memory back when processors end.
//!
//! | the processor                    | its reference is | its name leads to it |
//! |----------------------------------|------------------|----------------------|
//! | is spawned: [`Registry::add`]    | here             | yes                  |
//! | has ended: [`Registry::unname`]  | here             | no, and may be taken again |
//! | has told those who watch it: [`Registry::remove`] | not here | no           |

use crate::cell::{AnyCell, CellRef};
use crate::id::DriverId;
use crate::name::Name;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use std::collections::{BTreeMap, BTreeSet};
// Always the same order, unlike that of a map with keys drawn by chance.
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// See the module's documentation. Whoever holds its lock drops no cell.
#[derive(Default)]
pub(crate) struct Registry {
    cells: Blocks,
    /// Where the processor with a name stands.
    names: HashTable<u32>,
    /// The names of drivers: processors may not have them.
    drivers: BTreeMap<Name, DriverId>,
}

/// Who has a name.
pub(crate) enum Found {
    Processor(CellRef),
    Driver,
}

/// What is kept of a name's hash.
fn hash(name: &str) -> u32 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish() as u32
}

/// As the table wants it: it looks at both ends of a long word. (Fibonacci hashing: the multiplier is 2^64 over the golden ratio.)
fn spread(hash: u32) -> u64 {
    let product = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 32)
}

impl Registry {
    /// Adds a processor. False if its name is taken, or if there are 2^32 processors.
    pub(crate) fn add(&mut self, cell: CellRef) -> bool {
        let name = cell.name().clone();
        if self.drivers.contains_key(name.as_str()) {
            return false;
        }
        let cells = &mut self.cells;
        let hash = hash(name.as_str());
        let is_it = |at: &u32| cells.hash(*at) == hash && cells.name(*at) == name.as_str();
        let of = |at: &u32| spread(cells.hash(*at));
        let Entry::Vacant(vacant) = self.names.entry(spread(hash), is_it, of) else {
            return false;
        };
        let Some(at) = cells.next() else {
            return false;
        };
        vacant.insert(at);
        cell.number().set(Some(at));
        cells.put(at, cell, hash);
        true
    }

    pub(crate) fn find(&self, name: &str) -> Option<Found> {
        let is_it = |at: &u32| self.cells.name(*at) == name;
        match self.names.find(spread(hash(name)), is_it) {
            Some(at) => self.cells.get(*at).cloned().map(Found::Processor),
            None => self.drivers.contains_key(name).then_some(Found::Driver),
        }
    }

    /// Its name leads to it no longer.
    pub(crate) fn unname(&mut self, cell: &dyn AnyCell) {
        let Some(at) = self.place_of(cell) else {
            return;
        };
        let hash = spread(self.cells.hash(at));
        if let Ok(entry) = self.names.find_entry(hash, |other| *other == at) {
            entry.remove();
        }
        if self.names.len() < self.names.capacity() / 8 {
            let cells = &self.cells;
            self.names.shrink_to(0, |at| spread(cells.hash(*at)));
        }
    }

    /// Removes it, and gives the reference back.
    pub(crate) fn remove(&mut self, cell: &dyn AnyCell) -> Option<CellRef> {
        self.unname(cell);
        let at = self.place_of(cell)?;
        self.cells.take(at)
    }

    fn place_of(&self, cell: &dyn AnyCell) -> Option<u32> {
        let at = cell.number().get()?;
        let there = self.cells.get(at)?;
        (there.id() == cell.id()).then_some(at)
    }

    /// The processors of one block: `None` behind the last block. For a look at all that takes the lock for a few at a time.
    pub(crate) fn block(&self, number: usize) -> Option<Vec<CellRef>> {
        let block = self.cells.blocks.get(number)?;
        Some(block.places.iter().flatten().cloned().collect())
    }

    /// All processors, the oldest first.
    pub(crate) fn all(&self) -> Vec<CellRef> {
        let mut all: Vec<_> = self.cells.iter().cloned().collect();
        all.sort_unstable_by_key(|cell| cell.id());
        all
    }

    /// Those of one driver, the oldest first.
    pub(crate) fn of_driver(&self, driver: DriverId) -> Vec<CellRef> {
        let members = self.cells.iter().filter(|c| c.driver().id() == driver);
        let mut members: Vec<_> = members.cloned().collect();
        members.sort_unstable_by_key(|cell| cell.id());
        members
    }

    /// False if the name is taken.
    pub(crate) fn add_driver(&mut self, name: &Name, id: DriverId) -> bool {
        let taken = self.find(name.as_str()).is_some();
        if !taken {
            self.drivers.insert(name.clone(), id);
        }
        !taken
    }

    pub(crate) fn remove_driver(&mut self, name: &Name, id: DriverId) {
        if self.drivers.get(name.as_str()) == Some(&id) {
            self.drivers.remove(name.as_str());
        }
    }
}

/// How many places a block has: as many as a word of flags has bits.
const BLOCK: usize = u128::BITS as usize;

/// Numbered places, in blocks, so that growing moves nothing and a block that is empty can be freed.
#[derive(Default)]
struct Blocks {
    blocks: Vec<Block>,
    /// The blocks that have a free place, those that are freed included.
    open: BTreeSet<u32>,
}

#[derive(Default)]
struct Block {
    /// A bit for each place that is used.
    used: u128,
    /// `BLOCK` places, or none while none is used.
    places: Vec<Option<CellRef>>,
    /// The hashes of their names.
    hashes: Vec<u32>,
}

impl Blocks {
    /// The number of a free place; `None` if there are no more numbers.
    fn next(&mut self) -> Option<u32> {
        let block = match self.open.first() {
            Some(block) => *block,
            None => {
                // One number less than there are: a seat keeps one more than it is told.
                let block = u32::try_from(self.blocks.len()).ok()?;
                if block >= u32::MAX / BLOCK as u32 {
                    return None;
                }
                self.blocks.push(Block::default());
                self.open.insert(block);
                block
            }
        };
        let free = self.blocks[block as usize].used.trailing_ones();
        Some(block * BLOCK as u32 + free)
    }

    /// Fills a place that is free.
    fn put(&mut self, at: u32, cell: CellRef, hash: u32) {
        let number = at / BLOCK as u32;
        let block = &mut self.blocks[number as usize];
        if block.places.is_empty() {
            block.places = Vec::with_capacity(BLOCK);
            block.places.resize_with(BLOCK, || None);
            block.hashes = vec![0; BLOCK];
        }
        block.places[at as usize % BLOCK] = Some(cell);
        block.hashes[at as usize % BLOCK] = hash;
        block.used |= 1 << (at as usize % BLOCK);
        if block.used == u128::MAX {
            self.open.remove(&number);
        }
    }

    fn get(&self, at: u32) -> Option<&CellRef> {
        let block = self.blocks.get(at as usize / BLOCK)?;
        block.places.get(at as usize % BLOCK)?.as_ref()
    }

    fn name(&self, at: u32) -> &str {
        self.get(at).map_or("", |cell| cell.name().as_str())
    }

    /// The hash of the name of whoever has this place.
    fn hash(&self, at: u32) -> u32 {
        let block = self.blocks.get(at as usize / BLOCK);
        let hash = block.and_then(|block| block.hashes.get(at as usize % BLOCK));
        hash.copied().unwrap_or_default()
    }

    /// Empties a place.
    fn take(&mut self, at: u32) -> Option<CellRef> {
        let number = at / BLOCK as u32;
        let block = self.blocks.get_mut(number as usize)?;
        let cell = block.places.get_mut(at as usize % BLOCK)?.take()?;
        block.used &= !(1 << (at as usize % BLOCK));
        self.open.insert(number);
        if block.used == 0 {
            block.places = Vec::new();
            block.hashes = Vec::new();
        }
        while self.blocks.last().is_some_and(|last| last.used == 0) {
            self.blocks.pop();
            self.open.remove(&(self.blocks.len() as u32));
        }
        if self.blocks.len() < self.blocks.capacity() / 8 {
            self.blocks.shrink_to_fit();
        }
        Some(cell)
    }

    fn iter(&self) -> impl Iterator<Item = &CellRef> {
        self.blocks.iter().flat_map(|b| b.places.iter().flatten())
    }
}
