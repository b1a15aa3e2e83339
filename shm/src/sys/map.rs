//! One mapping, and the two ways into it: words that several processes load and store, and bytes.
//!
//! | way in           | what it gives                | why it cannot go wrong                                        |
//! |------------------|------------------------------|---------------------------------------------------------------|
//! | [`Map::word`]    | a reference to atomics only  | any bits are a value of it, and others may change it any time |
//! | [`Map::bytes`]   | a raw pointer                | making it is safe; whoever reads through it says why it may   |
//!
//! Both check the place against the length of the mapping, and the file behind it cannot shrink (its length is final), so that
//! every address inside is backed by memory for as long as the [`Map`] lives.

use crate::fork::Origin;
use crate::layout::{BellWords, LinkHead, RingEntry, SegmentHeader, SlotWords};
use crate::sync::AtomicU64;
use memmap2::MmapRaw;
use std::fmt;
use std::mem::ManuallyDrop;

/// A type that shared memory may hold and several processes may touch at once.
///
/// # Safety
///
/// It is made of atomics and of padding only, every pattern of bits is a value of it, it has no drop glue, and its layout is
/// fixed (`repr(C)` or `repr(transparent)`).
pub(crate) unsafe trait Word {}

// SAFETY: it is an atomic, and any 64 bits are a number.
unsafe impl Word for AtomicU64 {}
// SAFETY: atomics and padding, `repr(C)`; `layout` asserts where each of them stands.
unsafe impl Word for SegmentHeader {}
// SAFETY: as above.
unsafe impl Word for LinkHead {}
// SAFETY: as above.
unsafe impl Word for RingEntry {}
// SAFETY: as above.
unsafe impl Word for BellWords {}
// SAFETY: as above.
unsafe impl Word for SlotWords {}

/// A mapped file, unmapped when dropped.
pub(crate) struct Map {
    /// Unmapped where it was mapped, and nowhere else.
    raw: ManuallyDrop<MmapRaw>,
    writable: bool,
    origin: Origin,
}

impl Map {
    /// Takes over `raw`, of a file that cannot shrink. `writable` says how it was mapped, and
    /// `origin` where: children do not have it.
    pub(crate) fn new(raw: MmapRaw, writable: bool, origin: Origin) -> Self {
        let raw = ManuallyDrop::new(raw);
        Self {
            raw,
            writable,
            origin,
        }
    }

    /// False in a child made by `fork`, where nothing is mapped: there neither words nor bytes may be asked for.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// The words at `offset`. In a map that is read only they may be loaded, never stored: a store ends the process.
    ///
    /// # Panics
    ///
    /// If they are not inside, or not aligned: offsets come from checked geometry, so that would be a bug here.
    #[inline]
    pub(crate) fn word<T: Word>(&self, offset: usize) -> &T {
        self.check(offset, size_of::<T>(), align_of::<T>());
        // SAFETY: `check` has seen that all of it is inside the mapping, which lives as long as `&self`, and aligned (the
        // mapping starts at a page); whoever owns the map asks `is_here` first, so this is the process that has it. `T: Word`: whatever bits are there are a `T`, and since it is made of atomics others
        // may store at any time. Nobody makes a `&mut` to mapped memory that holds words.
        unsafe { &*self.raw.as_mut_ptr().add(offset).cast::<T>() }
    }

    /// Where `count` bytes at `offset` stand.
    ///
    /// # Panics
    ///
    /// As [`word`](Self::word).
    #[inline]
    pub(crate) fn bytes(&self, offset: usize, count: usize) -> *mut u8 {
        self.check(offset, count, 1);
        self.raw.as_mut_ptr().wrapping_add(offset)
    }

    /// Writes `bytes` to its beginning: for one that was made just now, and that no other process has.
    ///
    /// # Panics
    ///
    /// If they do not fit, or it cannot be written to.
    pub(crate) fn fill(&mut self, bytes: &[u8]) {
        assert!(self.writable && self.is_here(), "whoever made it fills it");
        let start = self.bytes(0, bytes.len());
        // SAFETY: `bytes` above has seen that so many are inside the mapping, which is writable; `&mut self` is the only way
        // to it in this process, and a slice of it was never given out.
        unsafe { start.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) }
    }

    /// A copy of the first `count` bytes, whatever another process does to them meanwhile. Empty in a child made by `fork`.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub(crate) fn copied(&self, count: usize) -> Vec<u8> {
        if !self.is_here() {
            return Vec::new();
        }
        let start = self.bytes(0, count);
        let mut copy = Vec::with_capacity(count);
        for i in 0..count / 8 {
            // SAFETY: inside the mapping (`bytes` has seen to it), which lives as long as `&self`, and aligned, since it starts
            // at a page. Volatile: it is read once, and the compiler assumes nothing about what others may do to it.
            let word = unsafe { start.cast::<u64>().add(i).read_volatile() };
            copy.extend_from_slice(&word.to_ne_bytes());
        }
        for i in count / 8 * 8..count {
            // SAFETY: as above.
            copy.push(unsafe { start.add(i).read_volatile() });
        }
        copy
    }

    #[inline]
    fn check(&self, offset: usize, count: usize, align: usize) {
        let end = offset.checked_add(count);
        assert!(
            end.is_some_and(|end| end <= self.raw.len()) && offset.is_multiple_of(align),
            "a place in a segment is inside it and aligned"
        );
    }
}

impl fmt::Debug for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = if self.writable { "rw" } else { "r" };
        write!(f, "Map({} bytes, {access})", self.raw.len())
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // In a child the addresses may be somebody else's by now.
        if self.is_here() {
            // SAFETY: it is dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.raw) }
        }
    }
}
