//! A slot that is being filled, and one that subscribers of the publisher's own process read.

use crate::layout::SLOT_HEADER_BYTES;
use crate::segment::DataSegment;
use crate::sync::{AtomicU32, Futex, Relaxed, SeqCst, fence};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// How a slot comes back from this process's own holders, which may be in any thread.
#[derive(Debug, Default)]
pub(crate) struct Returns {
    /// Slots, and whether each was loaned or was read here.
    list: Mutex<Vec<(u32, Returned)>>,
    pub(crate) space: Futex,
    /// How many threads wait for slots.
    pub(crate) waiting: AtomicU32,
}

/// What a returned slot was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    Loaned,
    Local,
}

impl Returns {
    fn push(&self, slot: u32, was: Returned) {
        self.list.lock().push((slot, was));
        // Partner: `Waiter::announced`.
        fence(SeqCst);
        if self.waiting.load(Relaxed) != 0 {
            self.space.bump_and_wake();
        }
    }

    pub(crate) fn take(&self) -> Vec<(u32, Returned)> {
        std::mem::take(&mut self.list.lock())
    }
}

/// A slot of shared memory that the caller fills. [`Endpoint::publish`](crate::Endpoint::publish) consumes it; dropped, it
/// goes back unpublished.
pub struct Loan {
    slot: u32,
    segment: Arc<DataSegment>,
    returns: Arc<Returns>,
    bytes: usize,
    sent: bool,
}

impl Loan {
    /// # Safety
    ///
    /// `slot` is in `segment`, is loaned, and no other `Loan` of it exists.
    pub(crate) unsafe fn new(
        slot: u32,
        segment: Arc<DataSegment>,
        returns: Arc<Returns>,
        bytes: usize,
    ) -> Self {
        assert!(segment.data().writable(), "publishers map for writing");
        Self {
            slot,
            segment,
            returns,
            bytes,
            sent: false,
        }
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot
    }

    pub(crate) fn segment(&self) -> &Arc<DataSegment> {
        &self.segment
    }

    pub(crate) fn is_of(&self, returns: &Arc<Returns>) -> bool {
        Arc::ptr_eq(&self.returns, returns)
    }

    /// Its slot was sent: it does not come back when this is dropped.
    pub(crate) fn into_sent(mut self) {
        self.sent = true;
    }

    /// How many bytes there is room for; at least as many as were asked for.
    pub fn capacity(&self) -> usize {
        self.segment.geometry().payload_bytes as usize
    }

    /// How many bytes will be published: as many as were asked for, unless [`set_len`](Self::set_len) said otherwise.
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// True if nothing will be published but the header.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Says how many bytes, from the first on, will be published.
    ///
    /// # Panics
    ///
    /// If it is more than [`capacity`](Self::capacity).
    pub fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= self.capacity(), "a loan has its capacity only");
        self.bytes = bytes;
    }

    /// All of its memory. It holds what was published there before, or zeros: subscribers had it already, so that what is not
    /// overwritten tells them nothing new.
    pub fn buffer(&mut self) -> &mut [u8] {
        let (start, capacity) = (self.segment.data().payload(self.slot), self.capacity());
        // SAFETY: `start` has `capacity` bytes inside the mapping that `segment` keeps, mapped for writing (checked in
        // `new`), and initialised: files start as zeros. The slot is loaned, this is its only loan (`new`), and `&mut self`
        // keeps this the only borrow. Every subscriber that had it has given it back, or was revoked before it could read
        // (`link/README.md`), and no other process can write to the segment.
        unsafe { std::slice::from_raw_parts_mut(start, capacity) }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        if !self.sent {
            self.returns.push(self.slot, Returned::Loaned);
        }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, capacity) = (self.bytes, self.capacity());
        write!(f, "Loan(slot {}, {bytes} of {capacity} bytes)", self.slot)
    }
}

/// A published slot, read by subscribers of the publisher's own process: they share it by `Arc`. Dropping it gives the slot
/// back.
pub struct LocalLease {
    slot: u32,
    segment: Arc<DataSegment>,
    returns: Arc<Returns>,
    bytes: usize,
}

impl LocalLease {
    /// # Safety
    ///
    /// `loan` is about to be published, its slot gets the holder `LOCAL`, and this is made once.
    pub(crate) unsafe fn new(loan: &Loan) -> Self {
        Self {
            slot: loan.slot,
            segment: loan.segment.clone(),
            returns: loan.returns.clone(),
            bytes: loan.bytes,
        }
    }

    /// What was published.
    pub fn payload(&self) -> &[u8] {
        let start = self.segment.data().payload(self.slot);
        // SAFETY: inside the mapping, as in `Loan::buffer`; `bytes` is at most the capacity. The slot has the holder `LOCAL`
        // until this is dropped, so it is not free and nobody gets a loan of it.
        unsafe { std::slice::from_raw_parts(start, self.bytes) }
    }
}

impl Drop for LocalLease {
    fn drop(&mut self) {
        self.returns.push(self.slot, Returned::Local);
    }
}

impl fmt::Debug for LocalLease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LocalLease(slot {}, {} bytes)", self.slot, self.bytes)
    }
}

// Payloads start at a line: types with larger alignment are refused before.
const _: () = assert!(SLOT_HEADER_BYTES == crate::layout::LINE);
