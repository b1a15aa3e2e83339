//! A message on its way to a processor of type `P`, and what can be done with it when its type is forgotten.
//!
//! A parcel is kept as an address of its [`Vtable`] and a *payload*: words that hold the parcel itself, or a box with it.
//! A single one is an [`Envelope`]; many stand end to end in [`Parcels`](crate::parcels::Parcels).
//!
//! # What a payload holds
//!
//! | `D` (the parcel)                                | the payload is                        |
//! |-------------------------------------------------|---------------------------------------|
//! | at most [`INLINE_WORDS`], aligned like a word   | a `D`, in `Erased::<P, D>::WORDS`     |
//! | anything else                                   | a `Box<D>`, in one word               |
//!
//! The vtable always belongs to the `D` in the payload. The parcel is moved out exactly once: by `deliver`, by `discard` or
//! by `drop`. Every unsafe block below leans on this table.

use crate::context::Cx;
use crate::dead_letters::DropCause;
use crate::exit::Exit;
use crate::processor::Processor;
use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};

/// What payloads are made of. Copying one keeps whatever it holds, pointers included.
pub(crate) type Word = MaybeUninit<u64>;

/// Payloads up to this many words are not allocated.
pub(crate) const INLINE_WORDS: usize = 6;

/// What can be sent: a message, or a call that holds one.
pub(crate) trait Parcel<P: Processor>: Send + 'static {
    /// Gives the message to its handler and deals with the outcome.
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>);

    /// The message will not be handled, for `cause` (`exit` if its processor ended): tells whoever waits for a reply,
    /// and returns the message for the dead letters.
    fn discard(self, cause: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>>;

    /// The message's type, for logs.
    fn message_type() -> &'static str;

    /// When it arrived, counted by a driver that serves in order of arrival; else 0.
    fn arrival(&self) -> u64 {
        0
    }
}

/// A parcel with its arrival number.
pub(crate) struct Numbered<D> {
    pub(crate) arrival: u64,
    pub(crate) parcel: D,
}

impl<P: Processor, D: Parcel<P>> Parcel<P> for Numbered<D> {
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        self.parcel.deliver(processor, cx);
    }

    fn discard(self, cause: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
        self.parcel.discard(cause, exit)
    }

    fn message_type() -> &'static str {
        D::message_type()
    }

    fn arrival(&self) -> u64 {
        self.arrival
    }
}

type Discard = unsafe fn(*mut Word, DropCause, Option<&Exit>) -> Option<Box<dyn Any + Send>>;

/// What can be done with a payload. Each function but `arrival` moves the parcel out.
pub(crate) struct Vtable<P: Processor> {
    pub(crate) deliver: unsafe fn(*mut Word, &mut P, &mut Cx<'_, P>),
    discard: Discard,
    pub(crate) drop: unsafe fn(*mut Word),
    pub(crate) arrival: unsafe fn(*const Word) -> u64,
    pub(crate) message_type: fn() -> &'static str,
    /// How many words the payload has.
    pub(crate) words: usize,
}

/// The two rows of the table, for one `P` and `D`.
pub(crate) struct Erased<P, D>(PhantomData<(P, D)>);

impl<P: Processor, D: Parcel<P>> Erased<P, D> {
    const IN_LINE: bool =
        size_of::<D>() <= INLINE_WORDS * size_of::<Word>() && align_of::<D>() <= align_of::<Word>();

    pub(crate) const WORDS: usize = if Self::IN_LINE {
        size_of::<D>().div_ceil(size_of::<Word>())
    } else {
        1
    };

    pub(crate) const VTABLE: Vtable<P> = Vtable {
        deliver: Self::deliver,
        discard: Self::discard,
        drop: Self::drop,
        arrival: Self::arrival,
        message_type: D::message_type,
        words: Self::WORDS,
    };

    /// Moves the parcel in.
    ///
    /// # Safety
    ///
    /// `payload` is valid for writes of [`WORDS`](Self::WORDS) words.
    #[inline]
    pub(crate) unsafe fn put(payload: *mut Word, parcel: D) {
        if Self::IN_LINE {
            // SAFETY: row 1: `WORDS` words are enough for a `D`, and aligned for it.
            unsafe { payload.cast::<D>().write(parcel) };
        } else {
            // SAFETY: row 2: a box is one word at most, and aligned like one.
            unsafe { payload.cast::<Box<D>>().write(Box::new(parcel)) };
        }
    }

    /// Moves the parcel out.
    ///
    /// # Safety
    ///
    /// `payload` was filled by `put` of this very type (or is a copy of such words), and nothing was moved out before.
    #[inline]
    unsafe fn take(payload: *mut Word) -> D {
        if Self::IN_LINE {
            // SAFETY: row 1, by the caller's promise.
            unsafe { payload.cast::<D>().read() }
        } else {
            // SAFETY: row 2, by the caller's promise.
            unsafe { *payload.cast::<Box<D>>().read() }
        }
    }

    unsafe fn deliver(payload: *mut Word, processor: &mut P, cx: &mut Cx<'_, P>) {
        // SAFETY: the caller passes on the promise of `take`.
        unsafe { Self::take(payload) }.deliver(processor, cx);
    }

    unsafe fn discard(
        payload: *mut Word,
        cause: DropCause,
        exit: Option<&Exit>,
    ) -> Option<Box<dyn Any + Send>> {
        // SAFETY: the caller passes on the promise of `take`.
        unsafe { Self::take(payload) }.discard(cause, exit)
    }

    unsafe fn drop(payload: *mut Word) {
        // SAFETY: the caller passes on the promise of `take`.
        drop(unsafe { Self::take(payload) });
    }

    unsafe fn arrival(payload: *const Word) -> u64 {
        if Self::IN_LINE {
            // SAFETY: row 1, by the promise of `take`, which the caller passes on; nothing is moved.
            unsafe { &*payload.cast::<D>() }.arrival()
        } else {
            // SAFETY: row 2, likewise.
            unsafe { &*payload.cast::<Box<D>>() }.arrival()
        }
    }
}

/// A single parcel.
pub(crate) struct Envelope<P: Processor> {
    vtable: &'static Vtable<P>,
    payload: [Word; INLINE_WORDS],
}

// SAFETY: the payload is a `D` or a `Box<D>` with `D: Parcel`, and `Parcel` requires `Send`. `P` is only named by the
// function pointers.
unsafe impl<P: Processor> Send for Envelope<P> {}

impl<P: Processor> Envelope<P> {
    pub(crate) fn new<D: Parcel<P>>(parcel: D) -> Self {
        let mut payload = [Word::uninit(); INLINE_WORDS];
        // SAFETY: `WORDS` is at most `INLINE_WORDS`.
        unsafe { Erased::<P, D>::put(payload.as_mut_ptr(), parcel) };
        Self {
            vtable: &Erased::<P, D>::VTABLE,
            payload,
        }
    }

    /// Takes over a parcel that stands elsewhere.
    ///
    /// # Safety
    ///
    /// `payload` belongs to `vtable`, the parcel has not been moved out of it, and will not be.
    pub(crate) unsafe fn take_over(vtable: &'static Vtable<P>, payload: *const Word) -> Self {
        let mut copy = [Word::uninit(); INLINE_WORDS];
        // SAFETY: a payload has `vtable.words` words, at most `INLINE_WORDS`.
        unsafe {
            copy.as_mut_ptr()
                .copy_from_nonoverlapping(payload, vtable.words)
        };
        Self {
            vtable,
            payload: copy,
        }
    }

    /// Its parts, for a place that takes it over: the vtable, and the words that belong to it.
    pub(crate) fn into_parts(self) -> (&'static Vtable<P>, [Word; INLINE_WORDS]) {
        let this = ManuallyDrop::new(self);
        (this.vtable, this.payload)
    }

    pub(crate) fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let (vtable, mut payload) = self.into_parts();
        // SAFETY: `vtable` belongs to what `payload` holds, and the parts are ours alone: it is moved out once.
        unsafe { (vtable.deliver)(payload.as_mut_ptr(), processor, cx) }
    }

    pub(crate) fn discard(
        self,
        cause: DropCause,
        exit: Option<&Exit>,
    ) -> Option<Box<dyn Any + Send>> {
        let (vtable, mut payload) = self.into_parts();
        // SAFETY: as in `deliver`.
        unsafe { (vtable.discard)(payload.as_mut_ptr(), cause, exit) }
    }

    pub(crate) fn message_type(&self) -> &'static str {
        (self.vtable.message_type)()
    }

    pub(crate) fn message_type_of(&self) -> fn() -> &'static str {
        self.vtable.message_type
    }
}

impl<P: Processor> Drop for Envelope<P> {
    fn drop(&mut self) {
        // SAFETY: `into_parts` forgets the envelope, so the parcel is still there.
        unsafe { (self.vtable.drop)(self.payload.as_mut_ptr()) }
    }
}

impl<P: Processor> fmt::Debug for Envelope<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({})", self.message_type())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;

    pub(crate) struct Nobody;
    impl Processor for Nobody {}

    /// A parcel of any size that counts its living copies.
    pub(crate) struct Heavy<const N: usize>(
        #[expect(dead_code, reason = "only its drop matters")] pub(crate) Arc<()>,
        pub(crate) [u8; N],
    );

    impl<const N: usize> Parcel<Nobody> for Heavy<N> {
        fn deliver(self, _: &mut Nobody, _: &mut Cx<'_, Nobody>) {}
        fn discard(self, _: DropCause, _: Option<&Exit>) -> Option<Box<dyn Any + Send>> {
            Some(Box::new(self.1.to_vec()))
        }
        fn message_type() -> &'static str {
            "heavy"
        }
    }

    fn moves_out_once<const N: usize>() {
        let alive = Arc::new(());
        drop(Envelope::new(Heavy(alive.clone(), [7; N])));
        assert_eq!(Arc::strong_count(&alive), 1);
        let envelope = Envelope::new(Heavy(alive.clone(), [7; N]));
        assert_eq!(envelope.message_type(), "heavy");
        let back = envelope.discard(DropCause::Stopped, None).unwrap();
        assert_eq!(*back.downcast::<Vec<u8>>().unwrap(), vec![7; N]);
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn parcels_of_every_size_are_moved_out_once() {
        moves_out_once::<0>();
        moves_out_once::<8>();
        moves_out_once::<40>();
        moves_out_once::<41>();
        moves_out_once::<4000>();
    }
}
