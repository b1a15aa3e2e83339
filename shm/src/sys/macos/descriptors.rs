//! macOS: a pipe in the place of an event counter, and random bytes.

use super::calls;
use crate::fork::{ControlFd, Origin};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, dup2, fcntl_setfd, read, write};
use rustix::net::{AddressFamily, SocketType, socket};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Another thread may fork and exec between the making of a descriptor and this: then the new program has it, too.
pub(super) fn close_on_exec(fd: impl AsFd) -> Result<(), Errno> {
    fcntl_setfd(fd, FdFlags::CLOEXEC)
}

pub(super) fn do_not_wait(fd: impl AsFd) -> Result<(), Errno> {
    let flags = fcntl_getfl(&fd)?;
    fcntl_setfl(&fd, flags | OFlags::NONBLOCK)
}

/// Readable from a ring on until it is silenced.
pub(crate) struct Alarm {
    reader: ControlFd,
    writer: ControlFd,
}

impl Alarm {
    pub(crate) fn new() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        do_not_wait(&reader)?;
        do_not_wait(&writer)?;
        Ok(Self {
            reader: ControlFd::new(reader.into())?,
            writer: ControlFd::new(writer.into())?,
        })
    }

    /// Where it was made.
    pub(crate) fn origin(&self) -> Origin {
        self.reader.origin()
    }

    pub(crate) fn ring(&self) {
        // It fails if the pipe is full: then it has rung already.
        let _ = write(&self.writer, &[1]);
    }

    pub(crate) fn silence(&self) {
        // Until nothing is left, so that it is quiet; each ring is one byte.
        while let Ok(count) = read(&self.reader, &mut [0; 512]) {
            if count < 512 {
                return;
            }
        }
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

/// A descriptor through which nothing is reached: a socket that nobody knows. It is never readable, so that it tells of no end
/// where it stands for a kqueue.
pub(crate) fn inert() -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
    close_on_exec(&fd)?;
    do_not_wait(&fd)?;
    Ok(fd)
}

/// Lets `fd` refer to what `inert` refers to. For a child after a fork, which has one thread: two system calls, no lock, no memory.
pub(crate) fn replace(inert: &OwnedFd, fd: &mut OwnedFd) -> Result<(), Errno> {
    dup2(inert, fd)?;
    close_on_exec(fd)
}

/// Fills `bytes`, of which there are 256 at most.
pub(crate) fn random(bytes: &mut [u8]) -> io::Result<()> {
    calls::random(bytes)
}
