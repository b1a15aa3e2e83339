//! What a child that was forked without exec may do with its parent's topics: nothing.
//!
//! Locks may be held there by threads that it does not have, and shared memory is its parent's. So each handle asks its
//! [`Origin`] first, which is a load or two, and then says so, or does nothing. That a process was forked is known once one of its
//! nodes has joined a domain.

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
pub(crate) use crate::no_processes::Origin;
use mproc_runtime::{Error, ErrorKind};
#[cfg(any(target_os = "linux", target_os = "macos"))]
pub(crate) use mproc_shm::Origin;

/// `cannot` says what was to be done.
pub(crate) fn forked(cannot: &str) -> Error {
    let text = format!(
        "{cannot}: the node belongs to the process from which this one was forked; make one here, or exec"
    );
    Error::new(ErrorKind::Forked, text)
}
