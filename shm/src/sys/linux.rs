//! Linux: sealed memfds, and futexes on words that several processes map.

pub(crate) mod descriptors;
pub(crate) mod directory;
pub(crate) mod process;
pub(crate) mod socket;
#[cfg(test)]
mod tests;

use super::map::Map;
use crate::error::{SegmentError, SegmentErrorKind};
use crate::fork::Origin;
use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::process::Resource;
use rustix::thread::futex;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// What its owner does with a file after mapping it, and others check before they do.
fn seals(readers_write: bool) -> SealFlags {
    let size = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    if readers_write {
        size
    } else {
        size | SealFlags::FUTURE_WRITE
    }
}

/// Makes a file of `len` bytes without a name, all of it backed by memory, mapped for writing and then sealed:
/// its length is final, and unless `readers_write` no other mapping can write.
pub(crate) fn create(
    what: &'static str,
    len: usize,
    readers_write: bool,
) -> Result<(OwnedFd, Map), SegmentError> {
    let failed = |kind| SegmentError::new("create", what, kind);
    let io = |errno: Errno| failed(out_of_memory_or(errno));
    // Past this limit the kernel does not only refuse: it sends SIGXFSZ, which ends the process.
    let limit = rustix::process::getrlimit(Resource::Fsize).current;
    if limit.is_some_and(|limit| len as u64 > limit) {
        return Err(failed(SegmentErrorKind::OutOfSharedMemory));
    }
    let origin = Origin::here().map_err(|e| failed(SegmentErrorKind::Io(e)))?;
    let fd = memfd(what).map_err(io)?;
    rustix::fs::ftruncate(&fd, len as u64).map_err(io)?;
    // Pages that are there now need not be found when a message is written, where there would be no error but SIGBUS.
    rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, len as u64).map_err(io)?;
    let raw = MmapOptions::new()
        .len(len)
        .map_raw(&fd)
        .map_err(|e| failed(mapping(e)))?;
    keep_from_children(&raw).map_err(|e| failed(mapping(e)))?;
    rustix::fs::fcntl_add_seals(&fd, seals(readers_write)).map_err(io)?;
    Ok((fd, Map::new(raw, true, origin)))
}

fn memfd(what: &str) -> Result<OwnedFd, Errno> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let name = format!("mproc {what}");
    match rustix::fs::memfd_create(&name, flags | MemfdFlags::NOEXEC_SEAL) {
        // Kernels before 6.3 do not know the flag.
        Err(Errno::INVAL) => rustix::fs::memfd_create(&name, flags),
        made => made,
    }
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

/// Maps a file that another process made, after checking that it is sealed and as long as was agreed. Written to only if
/// `readers_write`.
pub(crate) fn open(
    what: &'static str,
    fd: BorrowedFd<'_>,
    len: usize,
    readers_write: bool,
) -> Result<Map, SegmentError> {
    let failed = |kind| SegmentError::new("open", what, kind);
    let io = |errno: Errno| failed(SegmentErrorKind::Io(errno.into()));
    // A file that knows no seals is not a memfd, and whoever sent it could cut it off under us.
    let found = match rustix::fs::fcntl_get_seals(fd) {
        Err(Errno::INVAL) => return Err(failed(SegmentErrorKind::Unsealed)),
        found => found.map_err(io)?,
    };
    if !found.contains(seals(readers_write)) {
        return Err(failed(SegmentErrorKind::Unsealed));
    }
    let size = rustix::fs::fstat(fd).map_err(io)?.st_size;
    if u64::try_from(size) != Ok(len as u64) {
        let kind = SegmentErrorKind::Size {
            agreed: len as u64,
            found: u64::try_from(size).unwrap_or(0),
        };
        return Err(failed(kind));
    }
    let origin = Origin::here().map_err(|e| failed(SegmentErrorKind::Io(e)))?;
    let mut options = MmapOptions::new();
    let options = options.len(len);
    let raw = if readers_write {
        options.map_raw(&fd.as_fd())
    } else {
        options.map_raw_read_only(&fd.as_fd())
    };
    let raw = raw.map_err(|e| failed(mapping(e)))?;
    keep_from_children(&raw).map_err(|e| failed(mapping(e)))?;
    Ok(Map::new(raw, readers_write, origin))
}

/// A child made by `fork` does not inherit the mapping: it could not know what its parent does to the words meanwhile.
fn keep_from_children(raw: &MmapRaw) -> std::io::Result<()> {
    raw.advise(Advice::DontFork)
}

// The futex calls below are not "private": the words are found by the page behind them, not by their address.

pub(crate) fn wake_all(word: &AtomicU32) {
    // It fails for addresses that are no words only.
    let _woken = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
}

/// Sleeps while `word` is `seen`. Returns early when a signal arrives: callers look again at what they wait for.
pub(crate) fn wait(word: &AtomicU32, seen: u32, limit: Option<Duration>) {
    let limit = limit.map(timespec);
    let _why = futex::wait(word, futex::Flags::empty(), seen, limit.as_ref());
}

/// The kernel waits for this many words at once.
const WORDS_MAX: usize = 128;

/// Sleeps while each word is as it was seen. Where the kernel cannot wait for several words (before 5.16), it waits for the
/// first one.
pub(crate) fn wait_any(words: &[(&AtomicU32, u32)], limit: Option<Duration>) {
    let waits: Vec<futex::Wait> = words
        .iter()
        .take(WORDS_MAX)
        .map(|(word, seen)| {
            let mut wait = futex::Wait::new();
            wait.val = u64::from(*seen);
            wait.uaddr = futex::WaitPtr::new(word.as_ptr().cast());
            wait.flags = futex::WaitFlags::SIZE_U32;
            wait
        })
        .collect();
    // This call takes a point in time, not a length of it.
    let clock = rustix::thread::ClockId::Monotonic;
    let until = limit.and_then(|limit| {
        let now = rustix::time::clock_gettime(clock);
        now.checked_add(timespec(limit))
    });
    let nothing = futex::WaitvFlags::empty();
    if let Err(Errno::NOSYS | Errno::PERM) = futex::waitv(&waits, nothing, until.as_ref(), clock) {
        wait(words[0].0, words[0].1, limit);
    }
}

/// The time of the host's monotonic clock, in nanoseconds: what all its processes see alike, and what
/// [`SlotHeader::published_ns`](crate::SlotHeader::published_ns) holds.
pub fn monotonic_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // It counts from the start of the host: neither part is negative, and nanoseconds fit for centuries.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn timespec(limit: Duration) -> futex::Timespec {
    futex::Timespec {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: limit.subsec_nanos().into(),
    }
}
