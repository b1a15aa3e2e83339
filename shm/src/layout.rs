//! Where every word stands. `WIRE.md` draws it; the assertions below hold the drawing to the types.

use crate::sync::{AtomicU32, AtomicU64, Futex};

/// What one process writes shares no line with what another writes. 128 bytes: processors with 64-byte lines fetch them in
/// pairs, and others have lines of 128.
pub(crate) const LINE: usize = 128;

/// Slots start after this many bytes, and large ones at multiples of it.
pub(crate) const PAGE: usize = 4096;

/// The version of everything in this file and of the steps in `link` and `bell`.
pub const PROTOCOL: u32 = 1;

pub(crate) const MAGIC_DATA: u64 = u64::from_le_bytes(*b"mprocD\0\0");
pub(crate) const MAGIC_LINK: u64 = u64::from_le_bytes(*b"mprocL\0\0");
pub(crate) const MAGIC_BELL: u64 = u64::from_le_bytes(*b"mprocB\0\0");

/// The first line of every segment: for people and debuggers. Nothing here reads it: geometry comes by the handshake.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct SegmentHeader {
    /// Magic, version and header length, ABI hash, node (2 words), then the geometry.
    pub(crate) words: [AtomicU64; HEADER_WORDS],
}

/// In a model there is nobody to read it.
pub(crate) const HEADER_WORDS: usize = if cfg!(loom) { 0 } else { 16 };

/// What the publisher writes on a link.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct PublisherLine {
    /// How many entries were ever written into the ring.
    pub(crate) tail: AtomicU64,
    /// One of `OPEN`, `CLOSED`, `OVERFLOWED`.
    pub(crate) state: AtomicU32,
    /// How many samples were offered to the link: those in the ring and those that found it full. Statistics.
    pub(crate) offered: AtomicU64,
}

/// What the subscriber writes on a link.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct SubscriberLine {
    /// The entry it takes next. Statistics: it shows whether the peer makes progress.
    pub(crate) head: AtomicU64,
    /// `OPEN`, or `CLOSED` when it has left.
    pub(crate) state: AtomicU32,
}

/// Where the publisher sleeps. Written by the subscriber, when `waiting` is not 0, and by the publisher's own process.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct SpaceLine {
    pub(crate) space: Futex,
}

/// How many threads of the publisher wait, and `WATCHING` for each reason why it wants its bell to be rung. Written by the
/// publisher only.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct WaitingLine {
    pub(crate) waiting: AtomicU32,
}

/// The fixed part of a link segment; the ring follows, then the cells.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct LinkHead {
    pub(crate) header: SegmentHeader,
    pub(crate) publisher: PublisherLine,
    pub(crate) subscriber: SubscriberLine,
    pub(crate) space: SpaceLine,
    pub(crate) waiting: WaitingLine,
}

/// One place of the ring.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct RingEntry {
    /// The low 40 bits of the link's sequence, then 24 bits of slot index.
    pub(crate) entry: AtomicU64,
    /// The sample's number among all that were offered to this link, from 1. Differences are gaps.
    pub(crate) offered: AtomicU64,
}

/// The two words of one sleeper, on lines of their own.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct BellWords {
    pub(crate) bell: BellLine,
    pub(crate) sleeping: SleepingLine,
}

/// Where a driver sleeps. Written by whoever rings.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct BellLine {
    pub(crate) bell: Futex,
}

/// 0 while the driver is awake, else the epoch of its sleep. Set by the driver, cleared by it and by whoever rings.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct SleepingLine {
    pub(crate) sleeping: AtomicU32,
}

/// What stands before a payload.
#[derive(Debug, Default)]
#[repr(C, align(128))]
pub(crate) struct SlotWords {
    /// See `SlotHeader` for their order.
    pub(crate) words: [AtomicU64; 16],
}

pub(crate) const LINK_HEAD_BYTES: usize = 5 * LINE;
pub(crate) const RING_ENTRY_BYTES: usize = 16;
pub(crate) const CELL_BYTES: usize = 8;
pub(crate) const SLOT_HEADER_BYTES: usize = LINE;
pub(crate) const BELL_BYTES: usize = 2 * LINE;

/// How many sleepers a doorbell page has room for.
pub const BELLS_PER_PAGE: usize = (PAGE - LINE) / BELL_BYTES;

// The layout is read by other processes, perhaps built from another commit.
#[cfg(not(loom))]
const _: () = {
    use std::mem::{align_of, offset_of, size_of};
    assert!(size_of::<SegmentHeader>() == LINE);
    assert!(size_of::<LinkHead>() == LINK_HEAD_BYTES && align_of::<LinkHead>() == LINE);
    assert!(offset_of!(LinkHead, publisher) == LINE);
    assert!(offset_of!(PublisherLine, tail) == 0);
    assert!(offset_of!(PublisherLine, state) == 8);
    assert!(offset_of!(PublisherLine, offered) == 16);
    assert!(offset_of!(LinkHead, subscriber) == 2 * LINE);
    assert!(offset_of!(SubscriberLine, head) == 0);
    assert!(offset_of!(SubscriberLine, state) == 8);
    assert!(offset_of!(LinkHead, space) == 3 * LINE);
    assert!(offset_of!(LinkHead, waiting) == 4 * LINE);
    assert!(size_of::<RingEntry>() == RING_ENTRY_BYTES);
    assert!(offset_of!(RingEntry, offered) == 8);
    assert!(size_of::<AtomicU64>() == CELL_BYTES && align_of::<AtomicU64>() == 8);
    assert!(size_of::<BellWords>() == BELL_BYTES && offset_of!(BellWords, sleeping) == LINE);
    assert!(size_of::<SlotWords>() == SLOT_HEADER_BYTES);
    assert!(size_of::<Futex>() == 4);
    assert!(PAGE.is_multiple_of(LINE) && BELLS_PER_PAGE == 15);
};

/// One reason, in `waiting`, why the publisher's bell is to be rung. Below it threads are counted that sleep on `space`.
pub(crate) const WATCHING: u32 = 1 << 16;

// States of a link, of either side.
pub(crate) const OPEN: u32 = 0;
pub(crate) const CLOSED: u32 = 1;
/// The queue was full and the policy is to close the link then.
pub(crate) const OVERFLOWED: u32 = 2;

// States of a lease cell, in its low bits; above them the link's sequence.
pub(crate) const IDLE: u64 = 0;
pub(crate) const QUEUED: u64 = 1;
pub(crate) const LEASED: u64 = 2;
pub(crate) const DONE: u64 = 3;
const STATE_BITS: u32 = 2;

/// What a cell holds while the message with this sequence is in `state`.
pub(crate) const fn cell(sequence: u64, state: u64) -> u64 {
    sequence << STATE_BITS | state
}

/// Sequence and state of a cell.
pub(crate) const fn cell_parts(cell: u64) -> (u64, u64) {
    (cell >> STATE_BITS, cell & ((1 << STATE_BITS) - 1))
}

pub(crate) const SLOT_BITS: u32 = 24;

/// A link has no more slots than this.
pub const SLOTS_MAX: u32 = 1 << SLOT_BITS;

pub(crate) const ENTRY_SEQUENCE_BITS: u32 = 64 - SLOT_BITS;

/// A ring entry.
pub(crate) const fn entry(sequence: u64, slot: u32) -> u64 {
    sequence << SLOT_BITS | slot as u64
}

/// What a ring entry can hold of a sequence, and its slot.
pub(crate) const fn entry_parts(entry: u64) -> (u64, u32) {
    (entry >> SLOT_BITS, entry as u32 & (SLOTS_MAX - 1))
}

/// What a ring entry can hold of `sequence`.
pub(crate) const fn entry_sequence(sequence: u64) -> u64 {
    sequence & ((1 << ENTRY_SEQUENCE_BITS) - 1)
}

/// Two processes understand each other's segments if this number is the same in both: it covers the processor, and every
/// constant of the layout.
pub const ABI_HASH: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let arch = std::env::consts::ARCH.as_bytes();
    let mut i = 0;
    while i < arch.len() {
        hash = mix(hash, arch[i] as u64);
        i += 1;
    }
    let constants = [
        cfg!(target_endian = "little") as u64,
        usize::BITS as u64,
        PROTOCOL as u64,
        LINE as u64,
        PAGE as u64,
        LINK_HEAD_BYTES as u64,
        RING_ENTRY_BYTES as u64,
        CELL_BYTES as u64,
        SLOT_HEADER_BYTES as u64,
        BELL_BYTES as u64,
        BELLS_PER_PAGE as u64,
        STATE_BITS as u64,
        SLOT_BITS as u64,
        (IDLE | QUEUED << 8 | LEASED << 16 | DONE << 24),
        (OPEN | CLOSED << 8 | OVERFLOWED << 16) as u64,
        WATCHING as u64,
        crate::class::LARGE_BYTES as u64,
    ];
    let mut i = 0;
    while i < constants.len() {
        hash = mix(hash, constants[i]);
        i += 1;
    }
    hash
};

const fn mix(hash: u64, value: u64) -> u64 {
    let mut hash = hash;
    let bytes = value.to_le_bytes();
    let mut i = 0;
    while i < bytes.len() {
        hash = (hash ^ bytes[i] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        i += 1;
    }
    hash
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn cells_and_entries_give_back_what_was_put_in() {
        let sequence = (1 << 62) - 1;
        assert_eq!(cell_parts(cell(sequence, LEASED)), (sequence, LEASED));
        let wide = (7 << 40) + 5;
        assert_eq!(entry_parts(entry(wide, SLOTS_MAX - 1)), (5, SLOTS_MAX - 1));
        assert_eq!(entry_sequence(wide), 5);
    }
}
