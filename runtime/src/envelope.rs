//! A message on its way to a processor of type `P`. Small messages travel in line, larger ones are boxed once.
//!
//! # What `payload` holds
//!
//! | `D` (the parcel)                                | `payload` holds                | made by           |
//! |-------------------------------------------------|--------------------------------|-------------------|
//! | at most [`INLINE_BYTES`], aligned to 8 or less  | a `D`                          | [`Envelope::new`] |
//! | anything else                                   | a `Box<D>`                     | [`Envelope::new`] |
//!
//! `vtable` always belongs to the `D` in `payload`. The value is moved out exactly once: by `deliver`, by `discard` or by
//! the envelope's own drop. Every unsafe block below leans on this table.

use crate::context::Cx;
use crate::dead_letters::DropCause;
use crate::exit::Exit;
use crate::processor::Processor;
use std::any::Any;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit, align_of, size_of};

/// Payloads up to this size are not allocated. With it an envelope is one cache line.
pub(crate) const INLINE_BYTES: usize = 48;

type Payload = MaybeUninit<[u64; INLINE_BYTES / 8]>;

/// What an envelope can carry: a message, or a call that holds one.
pub(crate) trait Parcel<P: Processor>: Send + 'static {
    /// Gives the message to its handler and deals with the outcome.
    fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>);

    /// The message will not be handled, for `cause` (`exit` if its processor ended): tells whoever waits for a reply,
    /// and returns the message for the dead letters.
    fn discard(self, cause: DropCause, exit: Option<&Exit>) -> Option<Box<dyn Any + Send>>;

    /// The message's type, for logs.
    fn message_type() -> &'static str;
}

type Discard = unsafe fn(*mut Payload, DropCause, Option<&Exit>) -> Option<Box<dyn Any + Send>>;

struct Vtable<P: Processor> {
    deliver: unsafe fn(*mut Payload, &mut P, &mut Cx<'_, P>),
    discard: Discard,
    drop: unsafe fn(*mut Payload),
    message_type: fn() -> &'static str,
}

/// A parcel whose type is forgotten.
pub(crate) struct Envelope<P: Processor> {
    vtable: &'static Vtable<P>,
    /// When it arrived, counted by a driver that serves in order of arrival; else 0.
    pub(crate) arrival: u64,
    payload: Payload,
}

// SAFETY: the payload is a `D` or a `Box<D>` with `D: Parcel`, and `Parcel` requires `Send`. `P` is only named by the
// function pointers.
unsafe impl<P: Processor> Send for Envelope<P> {}

struct Erased<P, D>(std::marker::PhantomData<(P, D)>);

impl<P: Processor, D: Parcel<P>> Erased<P, D> {
    const IN_LINE: bool =
        size_of::<D>() <= INLINE_BYTES && align_of::<D>() <= align_of::<Payload>();

    const VTABLE: Vtable<P> = Vtable {
        deliver: Self::deliver,
        discard: Self::discard,
        drop: Self::drop,
        message_type: D::message_type,
    };

    fn put(parcel: D) -> Payload {
        let mut payload = Payload::uninit();
        if Self::IN_LINE {
            // SAFETY: row 1: a `D` fits in size and alignment, and the new payload is ours.
            unsafe { payload.as_mut_ptr().cast::<D>().write(parcel) };
        } else {
            // SAFETY: row 2: a box is one word, aligned like the payload.
            unsafe {
                payload
                    .as_mut_ptr()
                    .cast::<Box<D>>()
                    .write(Box::new(parcel))
            };
        }
        payload
    }

    /// Moves the parcel out.
    ///
    /// # Safety
    ///
    /// `payload` was made by `put` of this very type, and nothing was moved out of it before.
    unsafe fn take(payload: *mut Payload) -> D {
        if Self::IN_LINE {
            // SAFETY: row 1, by the caller's promise.
            unsafe { payload.cast::<D>().read() }
        } else {
            // SAFETY: row 2, by the caller's promise.
            unsafe { *payload.cast::<Box<D>>().read() }
        }
    }

    unsafe fn deliver(payload: *mut Payload, processor: &mut P, cx: &mut Cx<'_, P>) {
        // SAFETY: the caller passes on the promise of `take`.
        unsafe { Self::take(payload) }.deliver(processor, cx);
    }

    unsafe fn discard(
        payload: *mut Payload,
        cause: DropCause,
        exit: Option<&Exit>,
    ) -> Option<Box<dyn Any + Send>> {
        // SAFETY: the caller passes on the promise of `take`.
        unsafe { Self::take(payload) }.discard(cause, exit)
    }

    unsafe fn drop(payload: *mut Payload) {
        // SAFETY: the caller passes on the promise of `take`.
        drop(unsafe { Self::take(payload) });
    }
}

impl<P: Processor> Envelope<P> {
    #[inline]
    pub(crate) fn new<D: Parcel<P>>(parcel: D) -> Self {
        Self {
            vtable: &Erased::<P, D>::VTABLE,
            arrival: 0,
            payload: Erased::<P, D>::put(parcel),
        }
    }

    #[inline]
    pub(crate) fn deliver(self, processor: &mut P, cx: &mut Cx<'_, P>) {
        let mut this = ManuallyDrop::new(self);
        let deliver = this.vtable.deliver;
        // SAFETY: `vtable` belongs to what `payload` holds, and `this` is never dropped, so it is moved out once.
        unsafe { deliver(&mut this.payload, processor, cx) }
    }

    pub(crate) fn discard(
        self,
        cause: DropCause,
        exit: Option<&Exit>,
    ) -> Option<Box<dyn Any + Send>> {
        let mut this = ManuallyDrop::new(self);
        let discard = this.vtable.discard;
        // SAFETY: as in `deliver`.
        unsafe { discard(&mut this.payload, cause, exit) }
    }

    pub(crate) fn message_type(&self) -> &'static str {
        (self.vtable.message_type)()
    }
}

impl<P: Processor> Drop for Envelope<P> {
    fn drop(&mut self) {
        // SAFETY: `deliver` and `discard` take the envelope without dropping it, so the parcel is still there.
        unsafe { (self.vtable.drop)(&mut self.payload) }
    }
}

impl<P: Processor> fmt::Debug for Envelope<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Envelope({})", self.message_type())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    struct Nobody;
    impl Processor for Nobody {}

    /// A parcel of any size that counts its living copies.
    struct Heavy<const N: usize>(
        #[expect(dead_code, reason = "only its drop matters")] Arc<()>,
        [u8; N],
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

    #[test]
    fn an_envelope_is_one_cache_line() {
        assert_eq!(size_of::<Envelope<Nobody>>(), 64);
    }
}
