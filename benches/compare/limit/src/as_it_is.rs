//! What in-place hand-over by iceoryx2 needs: memory that nobody fills first.

use std::mem::MaybeUninit;

use iceoryx2::{prelude::ipc, sample_mut::SampleMut, sample_mut_uninit::SampleMutUninit};

/// Takes the bytes of a loan as they are: zeros, or those of an older sample.
///
/// The other way, `loan_slice`, writes zeros to all of it. iceoryx2's own benchmark does as here.
pub fn as_it_is(
    loan: SampleMutUninit<ipc::Service, [MaybeUninit<u8>], ()>,
) -> SampleMut<ipc::Service, [u8], ()> {
    // SAFETY: the memory of an `ipc` service is a shared memory object of the system, which is made of zeros, and
    // which only samples of bytes are written to. So each byte has a value, and every value is a `u8`.
    unsafe { loan.assume_init() }
}
