//! Parcels end to end in one buffer: what a lane of a mailbox keeps.
//!
//! A `u64` on its way takes two words, so a cache line that wanders from the sender's core to the driver's carries four
//! messages. Nothing is allocated per message, and the driver takes all that is there by swapping two buffers.
//!
//! # What the buffer holds
//!
//! | words                 | hold                                                                              |
//! |-----------------------|-----------------------------------------------------------------------------------|
//! | `..read`              | nothing any more                                                                  |
//! | `read..words.len()`   | `len` parcels: each a word with the address of its vtable, then its payload, of as many words as the vtable says |
//!
//! Every unsafe block below leans on this table and on the one in `parcel.rs`.

use crate::context::Cx;
use crate::parcel::{Envelope, Erased, Parcel, Vtable, Word};
use crate::processor::Processor;
use crate::queue::Items;
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

/// See the module's documentation.
pub(crate) struct Parcels<P: Processor> {
    words: Vec<Word>,
    read: usize,
    len: usize,
    /// Parcels are `Send`, whatever `P` is.
    of: PhantomData<fn(P)>,
}

/// The oldest parcel, taken out of the count but not yet moved: see [`Parcels::take_front`].
pub(crate) struct Front<P: Processor> {
    vtable: &'static Vtable<P>,
    payload: *mut Word,
}

impl<P: Processor> Front<P> {
    /// Its message's type, for logs.
    pub(crate) fn message_type(&self) -> fn() -> &'static str {
        self.vtable.message_type
    }

    /// Gives the message to its handler. The payload is moved out before any other code runs.
    ///
    /// # Safety
    ///
    /// Nothing has touched the parcels since [`Parcels::take_front`] but to ask for their number.
    #[inline]
    pub(crate) unsafe fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        // SAFETY: `take_front` gave a payload that belongs to `vtable` and stands before `read` now, so nobody else moves
        // it out; by the caller's promise its words have not been used again.
        unsafe { (self.vtable.deliver)(self.payload, processor, cx) }
    }
}

impl<P: Processor> Default for Parcels<P> {
    fn default() -> Self {
        Self {
            words: Vec::new(),
            read: 0,
            len: 0,
            of: PhantomData,
        }
    }
}

/// The first buffer is this large: room for 16 small messages.
const FIRST_WORDS: usize = 32;

/// Buffers larger than this are not kept as spare ones.
const SPARE_WORDS_MAX: usize = 1024;

thread_local! {
    /// A buffer that an idle cell has given back, for the next that needs one: a cell that handles one message now and then
    /// costs no allocation, and holds no memory in between.
    static SPARE: Cell<Vec<Word>> = const { Cell::new(Vec::new()) };
}

impl<P: Processor> Parcels<P> {
    /// Adds a parcel behind all others.
    #[inline]
    pub(crate) fn push<D: Parcel<P>>(&mut self, parcel: D) {
        let words = Erased::<P, D>::WORDS;
        // SAFETY: `put` fills as many words as the vtable of this very `D` says.
        unsafe {
            let payload = self.add(&Erased::<P, D>::VTABLE, words);
            Erased::<P, D>::put(payload, parcel);
        }
    }

    /// Makes room for a parcel, writes its first word and counts it. Returns where its payload belongs.
    ///
    /// # Safety
    ///
    /// `words` is `vtable.words`, and the caller fills the payload with what belongs to `vtable`, at once.
    #[inline]
    unsafe fn add(&mut self, vtable: &'static Vtable<P>, words: usize) -> *mut Word {
        if self.len == 0 && self.read > 0 {
            self.words.clear();
            self.read = 0;
        }
        if self.words.capacity() - self.words.len() < 1 + words {
            self.make_room(1 + words);
        }
        let end = self.words.len();
        // SAFETY: the buffer has room for `1 + words` more words, as was just seen to; the first becomes the vtable's
        // address (an address is one word at most), the others the caller fills.
        unsafe {
            let at = self.words.as_mut_ptr().add(end);
            at.cast::<&'static Vtable<P>>().write(vtable);
            self.words.set_len(end + 1 + words);
            self.len += 1;
            at.add(1)
        }
    }

    #[cold]
    fn make_room(&mut self, words: usize) {
        if self.words.capacity() == 0 {
            // A thread that is being torn down has no spare ones.
            self.words = SPARE.try_with(Cell::take).unwrap_or_default();
            self.words.clear();
            self.words.reserve(words.max(FIRST_WORDS));
        } else if self.read * 2 >= self.words.len() {
            // Half of it is read: those that are left move to the front, which costs each parcel at most one move more.
            let left = self.words.len() - self.read;
            self.words.copy_within(self.read.., 0);
            self.words.truncate(left);
            self.read = 0;
            self.words.reserve(words);
        } else {
            self.words.reserve(words);
        }
    }

    /// The oldest parcel's vtable and where its payload stands, if there is one.
    #[inline]
    fn front(&self) -> Option<(&'static Vtable<P>, *const Word)> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: row 2: at `read` stands the address of a vtable, and the payload behind it.
        unsafe {
            let at = self.words.as_ptr().add(self.read);
            Some((at.cast::<&'static Vtable<P>>().read(), at.add(1)))
        }
    }

    /// Takes the oldest parcel out of the count. It has to be delivered before the parcels are touched again; if it is not,
    /// it leaks.
    #[inline]
    pub(crate) fn take_front(&mut self) -> Option<Front<P>> {
        if self.len == 0 {
            return None;
        }
        // SAFETY: row 2, as in `front`; the payload is to be written to by whoever moves the parcel out.
        let (vtable, payload) = unsafe {
            let at = self.words.as_mut_ptr().add(self.read);
            (at.cast::<&'static Vtable<P>>().read(), at.add(1))
        };
        self.read += 1 + vtable.words;
        self.len -= 1;
        Some(Front { vtable, payload })
    }

    /// The arrival number of the oldest parcel; 0 if its driver does not count arrivals.
    pub(crate) fn front_arrival(&self) -> Option<u64> {
        let (vtable, payload) = self.front()?;
        // SAFETY: row 2: the payload belongs to the vtable, and the parcel is still there.
        Some(unsafe { (vtable.arrival)(payload) })
    }
}

impl<P: Processor> Items for Parcels<P> {
    type Item = Envelope<P>;

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    fn push_back(&mut self, envelope: Envelope<P>) {
        let (vtable, payload) = envelope.into_parts();
        // SAFETY: the payload is copied as it is, and the envelope was forgotten, so the parcel has moved here.
        unsafe {
            let to = self.add(vtable, vtable.words);
            to.copy_from_nonoverlapping(payload.as_ptr(), vtable.words);
        }
    }

    fn pop_front(&mut self) -> Option<Envelope<P>> {
        let Front { vtable, payload } = self.take_front()?;
        // SAFETY: `take_front` has put the parcel before `read`: it is moved from there once, here.
        Some(unsafe { Envelope::take_over(vtable, payload) })
    }

    fn shrink(&mut self) {
        debug_assert!(self.is_empty(), "only an empty buffer can be given back");
        if self.words.capacity() == 0 {
            return;
        }
        self.read = 0;
        let buffer = std::mem::take(&mut self.words);
        if buffer.capacity() <= SPARE_WORDS_MAX {
            // The one before, if any, is freed. A thread that is being torn down keeps none.
            let _before = SPARE.try_with(|spare| spare.replace(buffer));
        }
    }
}

impl<P: Processor> Drop for Parcels<P> {
    fn drop(&mut self) {
        while let Some(envelope) = self.pop_front() {
            drop(envelope);
        }
    }
}

impl<P: Processor> fmt::Debug for Parcels<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parcels({})", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dead_letters::DropCause;
    use crate::parcel::tests::{Heavy, Nobody};
    use std::sync::Arc;

    fn first_byte(envelope: Envelope<Nobody>) -> u8 {
        let bytes = envelope.discard(DropCause::Stopped, None).unwrap();
        bytes.downcast::<Vec<u8>>().unwrap()[0]
    }

    /// Sizes in line and boxed come out in order, whatever stands before them, and a buffer that is never empty does not
    /// grow without end.
    #[test]
    fn parcels_of_mixed_sizes_keep_their_order_while_the_buffer_is_used_again() {
        let alive = Arc::new(());
        let mut parcels = Parcels::<Nobody>::default();
        let (mut next, mut expected) = (0_u8, 0_u8);
        for round in 0..1000 {
            for _ in 0..=round % 3 {
                match next % 3 {
                    0 => parcels.push(Heavy(alive.clone(), [next; 1])),
                    1 => parcels.push(Heavy(alive.clone(), [next; 40])),
                    _ => parcels.push_back(Envelope::new(Heavy(alive.clone(), [next; 200]))),
                }
                next = next.wrapping_add(1);
            }
            while parcels.len() > 5 {
                assert_eq!(first_byte(parcels.pop_front().unwrap()), expected);
                expected = expected.wrapping_add(1);
            }
        }
        assert!(
            parcels.words.capacity() < 256,
            "{}",
            parcels.words.capacity()
        );
        assert_eq!(Arc::strong_count(&alive), 1 + parcels.len());
        drop(parcels);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_buffer_that_is_given_back_is_used_again() {
        let mut first = Parcels::<Nobody>::default();
        first.push(Heavy(Arc::new(()), [1; 1]));
        let address = first.words.as_ptr();
        drop(first.pop_front());
        first.shrink();
        assert_eq!(first.words.capacity(), 0);
        let mut second = Parcels::<Nobody>::default();
        second.push(Heavy(Arc::new(()), [2; 1]));
        assert_eq!(second.words.as_ptr(), address);
    }
}
