//! Links and doorbells in private memory, for models: the model checker's atomics cannot stand in a mapped file.

use crate::layout::{BellWords, LinkHead, RingEntry};
use crate::link::LinkGeometry;
use crate::sync::AtomicU64;

/// See `segment::LinkWords`.
#[derive(Debug)]
pub(crate) struct LinkWords {
    geometry: LinkGeometry,
    head: LinkHead,
    ring: Vec<RingEntry>,
    cells: Vec<AtomicU64>,
}

impl LinkWords {
    pub(crate) fn new(geometry: LinkGeometry) -> Self {
        Self {
            geometry,
            head: LinkHead::default(),
            ring: (0..geometry.ring()).map(|_| RingEntry::default()).collect(),
            cells: (0..geometry.slots).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    pub(crate) fn is_here(&self) -> bool {
        true
    }

    pub(crate) fn geometry(&self) -> LinkGeometry {
        self.geometry
    }

    pub(crate) fn head(&self) -> &LinkHead {
        &self.head
    }

    pub(crate) fn ring(&self, sequence: u64) -> &RingEntry {
        &self.ring[sequence as usize & (self.geometry.ring() - 1)]
    }

    pub(crate) fn cell(&self, slot: u32) -> &AtomicU64 {
        &self.cells[slot as usize]
    }
}

/// See `segment::BellMap`.
#[derive(Debug, Default)]
pub(crate) struct BellMap {
    words: BellWords,
}

impl BellMap {
    pub(crate) fn is_here(&self) -> bool {
        true
    }

    pub(crate) fn words(&self, _index: usize) -> &BellWords {
        &self.words
    }
}
