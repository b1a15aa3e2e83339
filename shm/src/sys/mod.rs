//! Calls to the operating system, and the memory that is mapped. Which system it is, is asked here and nowhere else.
//!
//! | what                                | Linux                             | macOS                                     |
//! |-------------------------------------|-----------------------------------|-------------------------------------------|
//! | segments                            | sealed memfds                     | POSIX shared memory whose name is removed |
//! | waiting on a word                   | futexes                           | `os_sync_wait_on_address`, shared         |
//! | packets (`socket`)                  | `SOCK_SEQPACKET`                  | `SOCK_STREAM`, a length before each       |
//! | the end of a process (`process`)    | pidfds                            | kqueues with `EVFILT_PROC`                |
//! | who comes and goes (`directory`)    | inotify                           | a kqueue with `EVFILT_VNODE`, and a list  |
//! | waking the watch (`descriptors`)    | an eventfd                        | a pipe                                    |
//!
//! The code for macOS was compiled and never run, but for `framing.rs`, whose tests run on Linux too: see the crate's
//! documentation.

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!("mproc-shm is for Linux and macOS only: see the crate's documentation");

#[cfg(any(test, target_os = "macos"))]
mod framing;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod map;

#[cfg(target_os = "linux")]
use linux as system;
#[cfg(target_os = "macos")]
use macos as system;

pub(crate) use map::Map;
pub(crate) use system::descriptors::{Alarm, inert, random, replace};
pub(crate) use system::directory::{Observer, address, is_dead_if_refused};
pub use system::monotonic_ns;
pub(crate) use system::process::{
    EndFd, boot_id, credentials, end_of_peer, is_stopped, start_time,
};
#[cfg(test)]
pub(crate) use system::socket::pair;
pub(crate) use system::socket::{Framing, accept, new_socket};
pub(crate) use system::{create, open, wait, wait_any, wake_all};

/// One packet that was received.
pub(crate) struct Received {
    /// 0: the other end is closed.
    pub(crate) bytes: usize,
    /// It was longer than the room for it.
    pub(crate) is_too_long: bool,
    /// Some of its descriptors did not arrive.
    pub(crate) has_lost_descriptors: bool,
}

/// What an [`Observer`] saw in a directory.
#[cfg_attr(target_os = "macos", expect(dead_code, reason = "it says no names"))]
pub(crate) enum Sighting<'a> {
    /// A name appeared.
    Came(&'a [u8]),
    /// A name is gone.
    Went(&'a [u8]),
    /// Something changed: list the directory.
    Unknown,
    /// The directory itself is gone.
    DirectoryGone,
}
