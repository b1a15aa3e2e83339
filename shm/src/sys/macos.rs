//! macOS 14.4 or later: POSIX shared memory whose name is removed at once, and waiting on words that several processes map.
//!
//! Compiled, and never run. What is said of the kernel here is what its published source says; the system in hand may be newer.
//!
//! # What stands for seals
//!
//! | Linux                                       | here                                                                      |
//! |---------------------------------------------|---------------------------------------------------------------------------|
//! | sealed against shrinking and growing        | shared memory gets its length once: a second `ftruncate` is refused         |
//! | a file that is not sealed is refused        | a file that is not shared memory is refused: `lseek` works on files only    |
//! | the length is exact                         | it is rounded up to pages, so one that is long enough is accepted           |
//! | only the publisher can write a data segment | subscribers get a descriptor for reading, which cannot be mapped for writing |
//! | all of it is allocated when it is made      | pages are found when they are first written                                 |
//! | it never has a name                         | it has a random name, open to this user, between two calls                  |
//!
//! # What is weaker
//!
//! - A subscriber who means harm can write a data segment: the kernel lets `mprotect` make a mapping writable although its
//!   descriptor is for reading. Nothing tells the publisher. On Linux the seal forbids it.
//! - Memory may run out when a message is written, and the system then ends some process.
//! - A publisher that waits for several links sleeps for a millisecond at a time.
//! - A descriptor is told to close on exec after it is made: a fork and exec by another thread in between passes it on.
//! - A process killed between the two calls leaves a name, and the memory with it, until the host starts again.

mod calls;
pub(crate) mod descriptors;
pub(crate) mod directory;
pub(crate) mod process;
pub(crate) mod socket;
#[cfg(test)]
mod tests;

use super::map::Map;
use crate::error::{SegmentError, SegmentErrorKind};
use crate::fork::Origin;
use memmap2::MmapOptions;
use rustix::fs::{Mode, SeekFrom};
use rustix::io::Errno;
use rustix::shm::OFlags;
use std::fmt::Write;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// The most bytes of a name of shared memory.
const NAME_BYTES_MAX: usize = 31;

/// A name of shared memory, removed when this is dropped.
struct Name(String);

impl Name {
    fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 12];
        calls::random(&mut bytes)?;
        let mut name = String::from("/mproc");
        for byte in bytes {
            // A string takes all.
            let _ = write!(name, "{byte:02x}");
        }
        assert!(name.len() <= NAME_BYTES_MAX, "names of segments fit");
        Ok(Self(name))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        // If it fails, the name stays: there is nobody to tell who could do more.
        let _ = rustix::shm::unlink(self.0.as_str());
    }
}

/// Makes shared memory of `len` bytes without a name, mapped for writing. The descriptor, which is to be sent, can be mapped for
/// writing only if `readers_write`.
pub(crate) fn create(
    what: &'static str,
    len: usize,
    readers_write: bool,
) -> Result<(OwnedFd, Map), SegmentError> {
    let failed = |kind| SegmentError::new("create", what, kind);
    let io = |errno: Errno| failed(out_of_memory_or(errno));
    let origin = Origin::here().map_err(|e| failed(SegmentErrorKind::Io(e)))?;
    let name = Name::random().map_err(|e| failed(SegmentErrorKind::Io(e)))?;
    // Made by nobody else: otherwise it would be an error.
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::RDWR;
    let fd = rustix::shm::open(name.0.as_str(), flags, Mode::RUSR | Mode::WUSR).map_err(io)?;
    rustix::fs::ftruncate(&fd, len as u64).map_err(io)?;
    let to_send = if readers_write {
        None
    } else {
        // Opened anew: a copy of a descriptor can do what the first one can.
        let fd = rustix::shm::open(name.0.as_str(), OFlags::RDONLY, Mode::empty());
        Some(fd.map_err(io)?)
    };
    drop(name);
    let raw = MmapOptions::new()
        .len(len)
        .map_raw(&fd)
        .map_err(|e| failed(mapping(e)))?;
    calls::keep_from_children(&raw).map_err(|e| failed(mapping(e)))?;
    Ok((to_send.unwrap_or(fd), Map::new(raw, true, origin)))
}

fn out_of_memory_or(errno: Errno) -> SegmentErrorKind {
    match errno {
        Errno::NOSPC | Errno::NOMEM | Errno::FBIG => SegmentErrorKind::OutOfSharedMemory,
        other => SegmentErrorKind::Io(other.into()),
    }
}

/// Why it could not be mapped.
fn mapping(e: std::io::Error) -> SegmentErrorKind {
    match Errno::from_io_error(&e) {
        Some(errno) => out_of_memory_or(errno),
        None => SegmentErrorKind::Io(e),
    }
}

/// Maps shared memory that another process made, after checking that it is such and as long as was agreed. Written to only if
/// `readers_write`.
pub(crate) fn open(
    what: &'static str,
    fd: BorrowedFd<'_>,
    len: usize,
    readers_write: bool,
) -> Result<Map, SegmentError> {
    let failed = |kind| SegmentError::new("open", what, kind);
    let io = |errno: Errno| failed(SegmentErrorKind::Io(errno.into()));
    // A file has a position, shared memory has none; pipes and sockets, which have none either, cannot be mapped. Whoever sent a
    // file could cut it off under us.
    match rustix::fs::seek(fd, SeekFrom::Current(0)) {
        Err(Errno::SPIPE) => {}
        _ => return Err(failed(SegmentErrorKind::Unsealed)),
    }
    let size = rustix::fs::fstat(fd).map_err(io)?.st_size;
    let found = u64::try_from(size).unwrap_or(0);
    // Its length was rounded up to whole pages when it was set, and cannot be set again. Memory that has none yet is too short.
    if found < len as u64 {
        let kind = SegmentErrorKind::Size {
            agreed: len as u64,
            found,
        };
        return Err(failed(kind));
    }
    let origin = Origin::here().map_err(|e| failed(SegmentErrorKind::Io(e)))?;
    let mut options = MmapOptions::new();
    let options = options.len(len);
    let raw = if readers_write {
        options.map_raw(&fd)
    } else {
        options.map_raw_read_only(&fd)
    };
    let raw = raw.map_err(|e| failed(mapping(e)))?;
    calls::keep_from_children(&raw).map_err(|e| failed(mapping(e)))?;
    Ok(Map::new(raw, readers_write, origin))
}

pub(crate) fn wake_all(word: &AtomicU32) {
    calls::wake_all(word);
}

/// Sleeps while `word` is `seen`. It may return early: callers look again at what they wait for.
pub(crate) fn wait(word: &AtomicU32, seen: u32, limit: Option<Duration>) {
    calls::wait(word, seen, limit);
}

/// How long a wait for several words sleeps on the first of them before the others are looked at.
const TURN: Duration = Duration::from_millis(1);

/// How long a wait for one word sleeps. The word may be in private memory, whose page a fork by another thread moves: then nobody
/// who wakes finds the sleeper.
const TURN_ALONE: Duration = Duration::from_millis(100);

/// Sleeps while each word is as it was seen, or for a short while: the system waits for one word only, so callers look again.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], limit: Option<Duration>) {
    let turn = match words {
        [_] => TURN_ALONE,
        _ => TURN,
    };
    let limit = limit.unwrap_or(turn).min(turn);
    wait(words[0].0, words[0].1, Some(limit));
}

/// The time of the host's monotonic clock, in nanoseconds: what all its processes see alike, and what
/// [`SlotHeader::published_ns`](crate::SlotHeader::published_ns) holds. It stands still while the host sleeps, as
/// [`Instant`](std::time::Instant) does here.
pub fn monotonic_ns() -> u64 {
    calls::uptime_ns()
}
