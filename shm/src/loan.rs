//! A slot that is being filled, one that is filled, and how both come back.
//!
//! | a slot has          | its memory is                         | leaves by                                             |
//! |---------------------|---------------------------------------|-------------------------------------------------------|
//! | a [`Loan`]          | written by the loan's owner           | [`Loan::freeze`], or its drop                         |
//! | [`Filled`] handles  | read by whoever has a handle, and by the links on which it is queued | the last one's drop; [`Filled::thaw`], if it is the only one and was never queued |
//!
//! In both cases there is one [`Place`]; its drop gives the slot back through [`Returns`].

use crate::fork::Origin;
use crate::layout::SLOT_HEADER_BYTES;
use crate::segment::DataSegment;
use crate::sync::{AtomicU32, Call, Futex, Relaxed, SeqCst, fence};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8};

/// How a slot comes back from this process's own holders, which may be in any thread.
pub(crate) struct Returns {
    /// Slots, and whether each was loaned or was held here.
    list: Mutex<Vec<(u32, Returned)>>,
    pub(crate) space: Futex,
    /// How many threads wait for slots.
    pub(crate) waiting: AtomicU32,
    /// Somebody wants `call` to be called. Written under the publisher's lock.
    watched: AtomicBool,
    call: Mutex<Option<Call>>,
    origin: Origin,
}

/// What a returned slot was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returned {
    Loaned,
    Local,
}

impl Returns {
    pub(crate) fn new(origin: Origin) -> Self {
        Self {
            list: Mutex::default(),
            space: Futex::default(),
            waiting: AtomicU32::new(0),
            watched: AtomicBool::new(false),
            call: Mutex::new(None),
            origin,
        }
    }

    fn push(&self, slot: u32, was: Returned) {
        // In a child the lock may be held by a thread that it does not have.
        if !self.origin.is_here() {
            return;
        }
        self.list.lock().push((slot, was));
        self.tell();
    }

    /// After something came back: wakes those who wait for memory.
    pub(crate) fn tell(&self) {
        // Partners: `Waiter::announced` and `watch`.
        fence(SeqCst);
        if self.waiting.load(Relaxed) != 0 {
            self.space.bump_and_wake();
        }
        if self.watched.load(Relaxed) {
            // Out of the lock before it is called: what it does is its own affair.
            let call = self.call.lock().clone();
            if let Some(call) = call {
                call();
            }
        }
    }

    pub(crate) fn take(&self) -> Vec<(u32, Returned)> {
        std::mem::take(&mut self.list.lock())
    }

    pub(crate) fn on_return(&self, call: Call) {
        *self.call.lock() = Some(call);
    }

    /// What comes back after `watch(true)` either is found by the caller, who looks then, or calls.
    pub(crate) fn watch(&self, on: bool) {
        self.watched.store(on, Relaxed);
        // Partner: `push`.
        fence(SeqCst);
    }
}

impl fmt::Debug for Returns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Returns({} slots)", self.list.lock().len())
    }
}

/// It was not queued: dropped, it goes back as it was lent.
const LOANED: u8 = 0;
/// It is queued, or was, and has the holder `LOCAL`.
const LOCAL: u8 = 1;
/// It was published without the holder `LOCAL`: it comes back by its links.
const SENT: u8 = 2;

/// A slot that this process has. There is one for each slot that is loaned or has the holder `LOCAL`.
struct Place {
    slot: u32,
    segment: Arc<DataSegment>,
    returns: Arc<Returns>,
    /// How many bytes of its payload count.
    bytes: usize,
    /// One of the above. Changed under the publisher's lock only.
    state: AtomicU8,
}

impl Place {
    fn capacity(&self) -> usize {
        self.segment.geometry().payload_bytes as usize
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        match *self.state.get_mut() {
            LOANED => self.returns.push(self.slot, Returned::Loaned),
            LOCAL => self.returns.push(self.slot, Returned::Local),
            _ => {}
        }
    }
}

/// A slot of shared memory that the caller fills. Dropped, it goes back unpublished.
pub struct Loan(Place);

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
        Self(Place {
            slot,
            segment,
            returns,
            bytes,
            state: AtomicU8::new(LOANED),
        })
    }

    pub(crate) fn slot(&self) -> u32 {
        self.0.slot
    }

    pub(crate) fn segment(&self) -> &Arc<DataSegment> {
        &self.0.segment
    }

    pub(crate) fn is_of(&self, returns: &Arc<Returns>) -> bool {
        Arc::ptr_eq(&self.0.returns, returns)
    }

    /// Its slot was sent, and this process does not hold it: it does not come back when this is dropped.
    pub(crate) fn into_sent(mut self) {
        *self.0.state.get_mut() = SENT;
    }

    /// Its slot was sent, and has the holder `LOCAL` until the last handle is dropped.
    pub(crate) fn into_local(mut self) -> Filled {
        *self.0.state.get_mut() = LOCAL;
        self.freeze()
    }

    /// It is filled. From now on it is only read, and can be queued on any number of links.
    pub fn freeze(self) -> Filled {
        Filled(Arc::new(self.0))
    }

    /// How many bytes there is room for; at least as many as were asked for.
    pub fn capacity(&self) -> usize {
        self.0.capacity()
    }

    /// How many bytes will be published: as many as were asked for, unless [`set_len`](Self::set_len) said otherwise.
    pub fn len(&self) -> usize {
        self.0.bytes
    }

    /// True if nothing will be published but the header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says how many bytes, from the first on, will be published.
    ///
    /// # Panics
    ///
    /// If it is more than [`capacity`](Self::capacity).
    pub fn set_len(&mut self, bytes: usize) {
        assert!(bytes <= self.capacity(), "a loan has its capacity only");
        self.0.bytes = bytes;
    }

    /// All of its memory. It holds what was published there before, or zeros: subscribers had it already, so that what is not
    /// overwritten tells them nothing new.
    ///
    /// In a child made by `fork` it is empty.
    pub fn buffer(&mut self) -> &mut [u8] {
        let place = &self.0;
        let data = place.segment.data();
        if !data.is_here() {
            return &mut [];
        }
        let (start, capacity) = (data.payload(place.slot), place.capacity());
        // SAFETY: `start` has `capacity` bytes inside the mapping that `segment` keeps, mapped for writing (checked in
        // `new`), in this process (`is_here`), and initialised: files start as zeros. The slot is loaned, this is its only
        // loan (`new`; `thaw` makes one only when no handle is left and none was queued), and `&mut self` keeps this the only
        // borrow. Every subscriber that had it has given it back, or was revoked before it could read (`link/README.md`), and
        // no other process can write to the segment.
        unsafe { std::slice::from_raw_parts_mut(start, capacity) }
    }

    /// What will be published, as it is filled now. In a child made by `fork` it is empty.
    pub fn payload(&self) -> &[u8] {
        let place = &self.0;
        let data = place.segment.data();
        if !data.is_here() {
            return &[];
        }
        let start = data.payload(place.slot);
        // SAFETY: inside the mapping and initialised, as in `buffer`; `bytes` is at most the capacity. The slot is loaned, this
        // is its only loan, and `&self` keeps `buffer` from lending it for writing.
        unsafe { std::slice::from_raw_parts(start, place.bytes) }
    }
}

impl fmt::Debug for Loan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (slot, bytes, capacity) = (self.slot(), self.len(), self.capacity());
        write!(f, "Loan(slot {slot}, {bytes} of {capacity} bytes)")
    }
}

/// A slot that is filled and not written any more: queued on links by [`Endpoint::queue`](crate::Endpoint::queue), read by
/// subscribers of the publisher's own process, kept for those who come late. Clones are handles of the same slot.
///
/// While a handle lives, the slot is not used for anything else. When the last one is dropped and no link has it, it goes back.
#[derive(Clone)]
pub struct Filled(Arc<Place>);

impl Filled {
    pub(crate) fn slot(&self) -> u32 {
        self.0.slot
    }

    pub(crate) fn segment(&self) -> &DataSegment {
        &self.0.segment
    }

    pub(crate) fn is_of(&self, returns: &Arc<Returns>) -> bool {
        Arc::ptr_eq(&self.0.returns, returns)
    }

    /// True for the first caller, under the publisher's lock, who then makes the slot one that this process holds.
    pub(crate) fn becomes_local(&self) -> bool {
        // Relaxed: the lock orders those who queue. `thaw` and the drop come after all other handles are gone, which the count
        // of the `Arc` orders.
        self.0.state.swap(LOCAL, Relaxed) == LOANED
    }

    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.0.bytes
    }

    /// True if it has none: there is a header only.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it was filled with. In a child made by `fork` it is empty.
    pub fn payload(&self) -> &[u8] {
        let place = &*self.0;
        let data = place.segment.data();
        if !data.is_here() {
            return &[];
        }
        let start = data.payload(place.slot);
        // SAFETY: inside the mapping and initialised, as in `Loan::buffer`; `bytes` is at most the capacity. The slot is loaned
        // or has the holder `LOCAL` until the last handle is dropped, so nobody else gets a loan of it; its own loan is
        // consumed, and comes back only when this handle is consumed and no other exists.
        unsafe { std::slice::from_raw_parts(start, place.bytes) }
    }

    /// Gives the loan back, to be filled again.
    ///
    /// # Errors
    ///
    /// There is another handle, or it was queued on a link already: then nothing has changed.
    pub fn thaw(self) -> Result<Loan, Self> {
        let mut place = Arc::try_unwrap(self.0).map_err(Self)?;
        if *place.state.get_mut() == LOANED {
            Ok(Loan(place))
        } else {
            Err(Self(Arc::new(place)))
        }
    }
}

impl fmt::Debug for Filled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Filled(slot {}, {} bytes)", self.slot(), self.len())
    }
}

// Payloads start at a line: types with larger alignment are refused before.
const _: () = assert!(SLOT_HEADER_BYTES == crate::layout::LINE);
