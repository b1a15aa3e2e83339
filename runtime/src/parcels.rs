//! Parcels end to end in one buffer: what a lane of a mailbox keeps.
//!
//! A `u64` on its way takes two words, so a cache line that wanders from the sender's core to the driver's carries four
//! messages. Nothing is allocated per message, and the driver takes all that is there by swapping two buffers.
//!
//! # What a buffer holds
//!
//! One allocation, so that a mailbox that is empty is one pointer. Its *head* counts in words.
//!
//! | words                | hold                                                                              |
//! |----------------------|-----------------------------------------------------------------------------------|
//! | before the first     | the head                                                                          |
//! | `..read`             | nothing any more                                                                  |
//! | `read..end`          | `count` parcels: each a word with the address of its vtable, then its payload, of as many words as the vtable says |
//! | `end..room`          | nothing yet                                                                       |
//!
//! Every unsafe block below leans on this table and on the one in `parcel.rs`.

use crate::context::Cx;
use crate::parcel::{Envelope, Erased, Parcel, Vtable, Word};
use crate::processor::Processor;
use crate::queue::Items;
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// See the module's documentation.
pub(crate) struct Parcels<P: Processor> {
    buffer: Option<Buffer>,
    /// Parcels are `Send`, whatever `P` is.
    of: PhantomData<fn(P)>,
}

/// One allocation, as the module's table says. It knows nothing of what its words hold: dropping it frees them and no more.
struct Buffer(NonNull<Head>);

/// The head of a buffer. What is changed together stands apart: two words that are written as one and read one by one, or the
/// other way round, make the processor wait.
#[repr(C)]
struct Head {
    count: usize,
    room: usize,
    end: usize,
    read: usize,
}

const _: () = assert!(size_of::<Head>().is_multiple_of(size_of::<Word>()));
const _: () = assert!(align_of::<Head>() <= align_of::<Word>());

// SAFETY: a buffer is memory that belongs to whoever has it. What its words hold is `Send`: see `Parcel`.
unsafe impl Send for Buffer {}
// SAFETY: through a shared reference only the head is read, and words are copied.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// For `room` words.
    fn layout(room: usize) -> Layout {
        let layout = Layout::array::<Word>(room)
            .and_then(|words| Layout::new::<Head>().extend(words))
            .map(|(layout, _)| layout);
        // As every collection does: this much memory is not to be had.
        layout.unwrap_or_else(|_| panic!("a mailbox cannot hold {room} words"))
    }

    fn new(room: usize) -> Self {
        let layout = Self::layout(room);
        // SAFETY: the layout has at least the size of a head.
        let Some(at) = NonNull::new(unsafe { alloc(layout) }.cast::<Head>()) else {
            handle_alloc_error(layout)
        };
        let head = Head {
            room,
            read: 0,
            end: 0,
            count: 0,
        };
        // SAFETY: just allocated, with room for a head and aligned for words, which is enough for it.
        unsafe { at.write(head) };
        Self(at)
    }

    #[inline]
    fn head(&self) -> &Head {
        // SAFETY: the head is valid from `new` to `drop`, and ours.
        unsafe { self.0.as_ref() }
    }

    #[inline]
    fn head_mut(&mut self) -> &mut Head {
        // SAFETY: as above.
        unsafe { self.0.as_mut() }
    }

    /// Where the words are. They are not part of the head, so references to it say nothing about them.
    #[inline]
    fn words(&self) -> *mut Word {
        // SAFETY: the words stand behind the head in the same allocation.
        unsafe { self.0.add(1).cast::<Word>().as_ptr() }
    }

    /// Nothing is in it.
    fn clear(&mut self) {
        let head = self.head_mut();
        (head.read, head.end, head.count) = (0, 0, 0);
    }

    /// Moves what is left to the front.
    fn close_up(&mut self) {
        let words = self.words();
        let head = self.head_mut();
        let left = head.end - head.read;
        // SAFETY: both ranges are within the words; the parcels move as they are, and what stood before `read` is nothing.
        unsafe { words.copy_from(words.add(head.read), left) };
        (head.read, head.end) = (0, left);
    }

    /// Has room for `words` more afterwards.
    #[inline]
    fn grow(&mut self, words: usize) {
        let Head { room, end, .. } = *self.head();
        if room - end < words {
            self.grow_by(words);
        }
    }

    #[cold]
    fn grow_by(&mut self, words: usize) {
        let Head { room, end, .. } = *self.head();
        let more = (end + words).max(room * 2);
        let layout = Self::layout(more);
        // SAFETY: allocated by `new` or here with the layout of `room`; the new size is that of a layout, and not 0.
        let at = unsafe { realloc(self.0.as_ptr().cast(), Self::layout(room), layout.size()) };
        let Some(at) = NonNull::new(at.cast::<Head>()) else {
            handle_alloc_error(layout)
        };
        self.0 = at;
        self.head_mut().room = more;
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let layout = Self::layout(self.head().room);
        // SAFETY: allocated with this layout; a head needs no drop.
        unsafe { dealloc(self.0.as_ptr().cast(), layout) }
    }
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
            buffer: None,
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
    static SPARE: Cell<Option<Buffer>> = const { Cell::new(None) };
}

impl<P: Processor> Parcels<P> {
    /// True if it has a buffer, perhaps an empty one.
    #[inline]
    pub(crate) fn has_buffer(&self) -> bool {
        self.buffer.is_some()
    }

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
        let buffer = match &mut self.buffer {
            Some(buffer) => {
                let head = buffer.head_mut();
                if head.count == 0 {
                    (head.read, head.end) = (0, 0);
                }
                if head.room - head.end < 1 + words {
                    make_room(buffer, 1 + words);
                }
                buffer
            }
            none => none.insert(first_buffer(1 + words)),
        };
        let all = buffer.words();
        let head = buffer.head_mut();
        // SAFETY: the buffer has room for `1 + words` more words, as was just seen to; the first becomes the vtable's
        // address (an address is one word at most), the others the caller fills.
        unsafe {
            let at = all.add(head.end);
            at.cast::<&'static Vtable<P>>().write(vtable);
            head.end += 1 + words;
            head.count += 1;
            at.add(1)
        }
    }

    /// The oldest parcel's vtable and where its payload stands, if there is one.
    #[inline]
    fn front(&self) -> Option<(&'static Vtable<P>, *const Word)> {
        let buffer = self.buffer.as_ref()?;
        let head = buffer.head();
        if head.count == 0 {
            return None;
        }
        // SAFETY: row 3: at `read` stands the address of a vtable, and the payload behind it.
        unsafe {
            let at = buffer.words().add(head.read);
            Some((at.cast::<&'static Vtable<P>>().read(), at.add(1)))
        }
    }

    /// Takes the oldest parcel out of the count. It has to be delivered before the parcels are touched again; if it is not,
    /// it leaks.
    #[inline]
    pub(crate) fn take_front(&mut self) -> Option<Front<P>> {
        let buffer = self.buffer.as_mut()?;
        let all = buffer.words();
        let head = buffer.head_mut();
        if head.count == 0 {
            return None;
        }
        // SAFETY: row 3, as in `front`; the payload is to be written to by whoever moves the parcel out.
        let (vtable, payload) = unsafe {
            let at = all.add(head.read);
            (at.cast::<&'static Vtable<P>>().read(), at.add(1))
        };
        head.read += 1 + vtable.words;
        head.count -= 1;
        Some(Front { vtable, payload })
    }

    /// The arrival number of the oldest parcel; 0 if its driver does not count arrivals.
    pub(crate) fn front_arrival(&self) -> Option<u64> {
        let (vtable, payload) = self.front()?;
        // SAFETY: row 2: the payload belongs to the vtable, and the parcel is still there.
        Some(unsafe { (vtable.arrival)(payload) })
    }
}

/// The first buffer of a queue: a spare one, if there is one.
#[cold]
fn first_buffer(words: usize) -> Buffer {
    // A thread that is being torn down has no spare ones.
    let mut buffer = SPARE
        .try_with(Cell::take)
        .unwrap_or_default()
        .unwrap_or_else(|| Buffer::new(words.max(FIRST_WORDS)));
    buffer.clear();
    buffer.grow(words);
    buffer
}

#[cold]
fn make_room(buffer: &mut Buffer, words: usize) {
    if buffer.head().read * 2 >= buffer.head().end {
        // Half of it is read: those that are left move to the front, which costs each parcel at most one move more.
        buffer.close_up();
    }
    buffer.grow(words);
}

impl<P: Processor> Items for Parcels<P> {
    type Item = Envelope<P>;

    #[inline]
    fn len(&self) -> usize {
        self.buffer.as_ref().map_or(0, |buffer| buffer.head().count)
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
        if let Some(buffer) = self.buffer.take()
            && buffer.head().room <= SPARE_WORDS_MAX
        {
            // The one before, if any, is freed. A thread that is being torn down keeps none.
            let _before = SPARE.try_with(|spare| spare.replace(Some(buffer)));
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
        write!(f, "Parcels({})", self.len())
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
        let room = parcels.buffer.as_ref().unwrap().head().room;
        assert!(room < 256, "{room}");
        assert_eq!(Arc::strong_count(&alive), 1 + parcels.len());
        drop(parcels);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn a_buffer_that_is_given_back_is_used_again() {
        let mut first = Parcels::<Nobody>::default();
        first.push(Heavy(Arc::new(()), [1; 1]));
        let address = first.buffer.as_ref().unwrap().words();
        drop(first.pop_front());
        first.shrink();
        assert!(first.buffer.is_none());
        let mut second = Parcels::<Nobody>::default();
        second.push(Heavy(Arc::new(()), [2; 1]));
        assert_eq!(second.buffer.as_ref().unwrap().words(), address);
    }
}
