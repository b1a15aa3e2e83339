//! Linux: event counters, and random bytes.

use crate::fork::{ControlFd, Origin};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::{DupFlags, Errno, dup3, read, write};
use rustix::rand::{GetRandomFlags, getrandom};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Readable from a ring on until it is silenced.
pub(crate) struct Alarm(ControlFd);

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        ControlFd::new(fd).map(Self)
    }

    /// Where it was made.
    pub(crate) fn origin(&self) -> Origin {
        self.0.origin()
    }

    pub(crate) fn ring(&self) {
        // It fails if the counter is full: then it has rung already.
        let _ = write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(crate) fn silence(&self) {
        // It fails if there is nothing to read any more.
        let _ = read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor through which nothing is reached: an event counter that nobody else knows.
pub(crate) fn inert() -> Result<OwnedFd, Errno> {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)
}

/// Lets `fd` refer to what `inert` refers to. For a child after a fork: one system call, no lock, no memory.
pub(crate) fn replace(inert: &OwnedFd, fd: &mut OwnedFd) -> Result<(), Errno> {
    dup3(inert, fd, DupFlags::CLOEXEC)
}

/// Fills `bytes`, of which there are 256 at most.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    // A request of up to 256 bytes is answered in full or not at all.
    if getrandom(&mut *bytes, GetRandomFlags::empty())? != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}
