//! The three kinds of segments: made by one process, mapped by others after they have checked the seals and the length.
//!
//! | segment | written by                        | holds                                                  |
//! |---------|-----------------------------------|--------------------------------------------------------|
//! | data    | its publisher only                | slots: a header and a payload each                     |
//! | link    | one publisher and one subscriber  | ring, lease cells, and the words where a publisher waits |
//! | bell    | a process and all its peers       | the words where the process's drivers sleep            |
//!
//! Everything that says how long or how many comes from a geometry in private memory, never from a segment.

use crate::class;
use crate::error::{SegmentError, SegmentErrorKind};
use crate::layout::{
    ABI_HASH, BELL_BYTES, BELLS_PER_PAGE, BellWords, CELL_BYTES, HEADER_WORDS, LINE,
    LINK_HEAD_BYTES, LinkHead, MAGIC_BELL, MAGIC_DATA, MAGIC_LINK, PAGE, PROTOCOL,
    RING_ENTRY_BYTES, RingEntry, SLOTS_MAX, SegmentHeader, SlotWords,
};
use crate::link::LinkGeometry;
use crate::sync::{AtomicU64, Relaxed};
use crate::sys::{self, Map};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const DATA: &str = "data segment";
const LINK: &str = "link segment";
const BELL: &str = "bell page";

/// Writes the first line. A node is named by 16 bytes.
fn write_header(map: &Map, magic: u64, node: [u8; 16], geometry: &[u64]) {
    let words = &map.word::<SegmentHeader>(0).words;
    let [low, high] = [0, 8].map(|at| {
        let half = node[at..at + 8].try_into().expect("8 bytes");
        u64::from_le_bytes(half)
    });
    let fixed = [
        magic,
        u64::from(PROTOCOL) | (LINE as u64) << 32,
        ABI_HASH,
        low,
        high,
    ];
    const { assert!(HEADER_WORDS == 16) };
    for (word, value) in words.iter().zip(fixed.iter().chain(geometry)) {
        word.store(*value, Relaxed);
    }
}

/// How the slots of a data segment stand. Both sides have it in private memory: the subscriber from the handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataGeometry {
    /// The index of the first slot: the slots of one publisher's segments are numbered one after another.
    pub first_slot: u32,
    /// How many slots there are.
    pub slots: u32,
    /// The room for a payload in each.
    pub payload_bytes: u32,
}

impl DataGeometry {
    /// Checks numbers that came from elsewhere.
    fn check(self) -> Result<Self, SegmentErrorKind> {
        let wrong = |which| Err(SegmentErrorKind::Geometry(which));
        let end = u64::from(self.first_slot) + u64::from(self.slots);
        if self.slots == 0 || end > u64::from(SLOTS_MAX) {
            return wrong("the number of slots");
        }
        if self.payload_bytes == 0 {
            return wrong("the size of a slot");
        }
        // No overflow: 2^24 slots of less than 2^33 bytes.
        if self.bytes() > isize::MAX as usize {
            return wrong("the size of the segment");
        }
        Ok(self)
    }

    fn stride(self) -> usize {
        class::stride(self.payload_bytes as usize)
    }

    /// The length of the segment.
    pub fn bytes(self) -> usize {
        PAGE + self.slots as usize * self.stride()
    }

    /// The numbers of its slots.
    pub(crate) fn numbers(self) -> Range<u32> {
        self.first_slot..self.first_slot + self.slots
    }

    /// True if the slot is in this segment.
    pub fn contains(self, slot: u32) -> bool {
        slot.checked_sub(self.first_slot)
            .is_some_and(|i| i < self.slots)
    }

    /// Where the slot's header stands; its payload follows.
    fn offset(self, slot: u32) -> usize {
        assert!(self.contains(slot), "the slot is in the segment");
        PAGE + (slot - self.first_slot) as usize * self.stride()
    }
}

/// What both sides do with a mapped data segment.
#[derive(Debug)]
pub(crate) struct DataMap {
    map: Map,
    geometry: DataGeometry,
}

impl DataMap {
    pub(crate) fn geometry(&self) -> DataGeometry {
        self.geometry
    }

    /// The header of a slot.
    pub(crate) fn header(&self, slot: u32) -> &SlotWords {
        self.map.word(self.geometry.offset(slot))
    }

    /// The first byte of a slot's payload, of which `payload_bytes` of the geometry follow.
    pub(crate) fn payload(&self, slot: u32) -> *mut u8 {
        let at = self.geometry.offset(slot) + size_of::<SlotWords>();
        self.map.bytes(at, self.geometry.payload_bytes as usize)
    }

    pub(crate) fn writable(&self) -> bool {
        self.map.writable()
    }

    /// See [`Map::is_here`].
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.map.is_here()
    }
}

/// A data segment at its publisher: the only mapping of it that can write.
#[derive(Debug)]
pub struct DataSegment {
    data: DataMap,
    fd: OwnedFd,
    number: u64,
}

impl DataSegment {
    pub(crate) fn create(
        geometry: DataGeometry,
        number: u64,
        node: [u8; 16],
    ) -> Result<Self, SegmentError> {
        let geometry = geometry
            .check()
            .map_err(|kind| SegmentError::new("create", DATA, kind))?;
        let (fd, map) = sys::create(DATA, geometry.bytes(), false)?;
        let slots = u64::from(geometry.slots) | u64::from(geometry.first_slot) << 32;
        let payload = u64::from(geometry.payload_bytes);
        write_header(&map, MAGIC_DATA, node, &[payload, slots]);
        let data = DataMap { map, geometry };
        Ok(Self { data, fd, number })
    }

    pub(crate) fn data(&self) -> &DataMap {
        &self.data
    }

    /// Its number among all that its endpoint ever had, from 0 on.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Where its slots stand, to be sent with the descriptor.
    pub fn geometry(&self) -> DataGeometry {
        self.data.geometry
    }
}

/// The descriptor to send to subscribers.
impl AsFd for DataSegment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Maps a data segment for reading. The descriptor is not needed afterwards.
pub(crate) fn open_data(
    fd: BorrowedFd<'_>,
    geometry: DataGeometry,
) -> Result<DataMap, SegmentError> {
    let geometry = geometry
        .check()
        .map_err(|kind| SegmentError::new("open", DATA, kind))?;
    let map = sys::open(DATA, fd, geometry.bytes(), false)?;
    Ok(DataMap { map, geometry })
}

/// The words of a mapped link.
#[derive(Debug)]
pub(crate) struct LinkWords {
    map: Map,
    geometry: LinkGeometry,
}

impl LinkWords {
    pub(crate) fn create(
        geometry: LinkGeometry,
        node: [u8; 16],
    ) -> Result<(OwnedFd, Self), SegmentError> {
        let geometry = geometry
            .check()
            .map_err(|kind| SegmentError::new("create", LINK, kind))?;
        let (fd, map) = sys::create(LINK, Self::bytes(geometry), true)?;
        let queue = u64::from(geometry.depth) | (geometry.ring() as u64) << 32;
        let leases = u64::from(geometry.slots) | u64::from(geometry.leases_max) << 32;
        write_header(&map, MAGIC_LINK, node, &[queue, leases]);
        Ok((fd, Self { map, geometry }))
    }

    pub(crate) fn open(fd: BorrowedFd<'_>, geometry: LinkGeometry) -> Result<Self, SegmentError> {
        let geometry = geometry
            .check()
            .map_err(|kind| SegmentError::new("open", LINK, kind))?;
        let map = sys::open(LINK, fd, Self::bytes(geometry), true)?;
        Ok(Self { map, geometry })
    }

    fn bytes(geometry: LinkGeometry) -> usize {
        LINK_HEAD_BYTES + geometry.ring() * RING_ENTRY_BYTES + geometry.slots as usize * CELL_BYTES
    }

    pub(crate) fn geometry(&self) -> LinkGeometry {
        self.geometry
    }

    /// See [`Map::is_here`].
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.map.is_here()
    }

    #[inline]
    pub(crate) fn head(&self) -> &LinkHead {
        self.map.word(0)
    }

    /// The place of the ring where the entry with this sequence belongs.
    #[inline]
    pub(crate) fn ring(&self, sequence: u64) -> &RingEntry {
        let place = sequence as usize & (self.geometry.ring() - 1);
        self.map.word(LINK_HEAD_BYTES + place * RING_ENTRY_BYTES)
    }

    /// The lease cell of a slot.
    #[inline]
    pub(crate) fn cell(&self, slot: u32) -> &AtomicU64 {
        assert!(slot < self.geometry.slots, "the link has the slot");
        let cells = LINK_HEAD_BYTES + self.geometry.ring() * RING_ENTRY_BYTES;
        self.map.word(cells + slot as usize * CELL_BYTES)
    }

    /// All its 64-bit words, for a test that plays a peer gone mad.
    #[cfg(test)]
    pub(crate) fn scribble(&self, at: usize, value: u64) {
        let words = Self::bytes(self.geometry) / 8;
        let word = self.map.word::<AtomicU64>(at % words * 8);
        word.store(value, Relaxed);
    }
}

/// The doorbells of one process.
#[derive(Debug)]
pub(crate) struct BellMap {
    map: Map,
}

impl BellMap {
    pub(crate) fn create(node: [u8; 16]) -> Result<(OwnedFd, Self), SegmentError> {
        let (fd, map) = sys::create(BELL, PAGE, true)?;
        write_header(&map, MAGIC_BELL, node, &[BELLS_PER_PAGE as u64]);
        Ok((fd, Self { map }))
    }

    pub(crate) fn open(fd: BorrowedFd<'_>) -> Result<Self, SegmentError> {
        let map = sys::open(BELL, fd, PAGE, true)?;
        Ok(Self { map })
    }

    /// See [`Map::is_here`].
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.map.is_here()
    }

    #[inline]
    pub(crate) fn words(&self, index: usize) -> &BellWords {
        assert!(index < BELLS_PER_PAGE, "the page has the bell");
        self.map.word(LINE + index * BELL_BYTES)
    }

    /// Writes over a word, for a test that plays a peer gone mad.
    #[cfg(test)]
    pub(crate) fn scribble(&self, at: usize, value: u32) {
        let words = self.words(at % BELLS_PER_PAGE);
        if at & 64 == 0 {
            words.sleeping.sleeping.store(value, Relaxed);
        } else {
            words.bell.bell.bump();
        }
    }
}

/// A bell's index that came from elsewhere is on the page.
pub(crate) fn check_bell(index: u32) -> Result<usize, SegmentError> {
    let index = index as usize;
    if index < BELLS_PER_PAGE {
        Ok(index)
    } else {
        let kind = SegmentErrorKind::Geometry("the index of the bell");
        Err(SegmentError::new("open", BELL, kind))
    }
}
