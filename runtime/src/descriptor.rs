//! File descriptors: the one file of the runtime that asks the system about them.
//!
//! A [`Level`] is a descriptor that is readable while it is raised, and not otherwise. [`wait`] sleeps until one of
//! several descriptors is ready; it is `poll`, which every Unix has, knows every kind of file, and lets two watch one
//! descriptor. It costs a little for each descriptor that is watched, each time.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read, retry_on_intr, write};
use std::fmt;
use std::io;
use std::ops::BitOr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What one waits for at a file descriptor, and what it is ready for.
///
/// # Examples
///
/// ```
/// use mproc_runtime::Interest;
///
/// let both = Interest::READ | Interest::WRITE;
/// assert!(both.is_readable() && both.is_writable());
/// assert!(!Interest::READ.is_writable());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// Something can be read, or the other end is closed.
    pub const READ: Self = Self(1);
    /// There is room to write.
    pub const WRITE: Self = Self(2);

    /// True if it includes [`READ`](Self::READ).
    pub fn is_readable(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// True if it includes [`WRITE`](Self::WRITE).
    pub fn is_writable(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    fn flags(self) -> PollFlags {
        let mut flags = PollFlags::empty();
        flags.set(PollFlags::IN, self.is_readable());
        flags.set(PollFlags::OUT, self.is_writable());
        flags
    }

    /// What of it is there. An error and a hang-up count as all of it: reading or writing then says what is wrong.
    fn found(self, events: PollFlags) -> Option<Self> {
        if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return Some(self);
        }
        let mut found = 0;
        if events.contains(PollFlags::IN) {
            found |= Self::READ.0;
        }
        if events.contains(PollFlags::OUT) {
            found |= Self::WRITE.0;
        }
        (found != 0).then_some(Self(found))
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_readable(), self.is_writable()) {
            (true, true) => "READ | WRITE",
            (true, false) => "READ",
            (false, true) => "WRITE",
            (false, false) => "none",
        })
    }
}

/// A descriptor that is readable while it is raised. On Linux an event counter in an `epoll` of its own, which is what others
/// get: nobody can read from that, so nobody can lower it by reading. Elsewhere the end of a pipe.
///
/// Whoever uses it raises it only while it is lowered, and lowers it only while it is raised, one after the other.
#[derive(Debug)]
pub(crate) struct Level {
    /// The counter, or the end of the pipe that is written to.
    inner: OwnedFd,
    /// What others watch.
    outer: OwnedFd,
}

impl Level {
    /// A new one, lowered. It closes on exec, and never blocks.
    #[cfg(target_os = "linux")]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, epoll, eventfd};
        let inner = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let outer = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let data = epoll::EventData::new_u64(0);
        epoll::add(&outer, &inner, data, epoll::EventFlags::IN)?;
        Ok(Self { inner, outer })
    }

    /// A new one, lowered. It closes on exec from shortly after it is made, and never blocks.
    #[cfg(not(target_os = "linux"))]
    pub(crate) fn new() -> io::Result<Self> {
        use rustix::io::{FdFlags, fcntl_setfd, ioctl_fionbio};
        let (outer, inner) = rustix::pipe::pipe()?;
        for end in [&outer, &inner] {
            fcntl_setfd(end, FdFlags::CLOEXEC)?;
            ioctl_fionbio(end, true)?;
        }
        Ok(Self { inner, outer })
    }

    #[cfg(target_os = "linux")]
    fn reader(&self) -> &OwnedFd {
        &self.inner
    }

    #[cfg(not(target_os = "linux"))]
    fn reader(&self) -> &OwnedFd {
        &self.outer
    }

    /// Makes it readable.
    pub(crate) fn raise(&self) {
        // A lowered one has room for it.
        let _written = retry_on_intr(|| write(&self.inner, &1_u64.to_ne_bytes()));
    }

    /// Makes it not readable.
    pub(crate) fn lower(&self) {
        let mut bytes = [0; 8];
        let _taken = retry_on_intr(|| read(self.reader(), &mut bytes));
    }
}

impl AsFd for Level {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}

/// Sleeps until `wake` is raised, or one of `watched` is ready. What each of them is ready for, in their order.
pub(crate) fn wait(
    wake: &Level,
    watched: &[(BorrowedFd<'_>, Interest)],
) -> io::Result<Vec<Option<Interest>>> {
    let theirs = watched.iter();
    let theirs = theirs.map(|(fd, interest)| PollFd::from_borrowed_fd(*fd, interest.flags()));
    let mut all = vec![PollFd::new(wake, PollFlags::IN)];
    all.extend(theirs);
    match poll(&mut all, None) {
        Ok(_) => {}
        // Nothing is ready: the caller looks again at what it watches.
        Err(Errno::INTR) => return Ok(vec![None; watched.len()]),
        Err(error) => return Err(error.into()),
    }
    let found = watched.iter().zip(&all[1..]);
    Ok(found
        .map(|((_, interest), polled)| interest.found(polled.revents()))
        .collect())
}

#[cfg(all(test, not(any(loom, shuttle))))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_level_is_readable_while_it_is_raised() {
        let (level, never) = (Level::new().unwrap(), Level::new().unwrap());
        never.raise();
        let is_up = || wait(&never, &[(level.as_fd(), Interest::READ)]).unwrap()[0].is_some();
        for _ in 0..3 {
            assert!(!is_up());
            level.raise();
            assert!(is_up());
            #[cfg(target_os = "linux")]
            assert_eq!(read(&level, &mut [0; 8]), Err(Errno::INVAL));
            assert!(is_up());
            level.lower();
        }
        assert!(!is_up());
    }

    #[test]
    fn each_descriptor_is_ready_for_what_it_was_watched_for() {
        let wake = Level::new().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        let both = Interest::READ | Interest::WRITE;
        let fds = [
            (far.as_fd(), Interest::READ),
            (far.as_fd(), Interest::WRITE),
            (far.as_fd(), both),
        ];
        let write = Some(Interest::WRITE);
        assert_eq!(wait(&wake, &fds).unwrap(), [None, write, write]);
        near.write_all(b"x").unwrap();
        let read = Some(Interest::READ);
        assert_eq!(wait(&wake, &fds).unwrap(), [read, write, Some(both)]);
        drop(near);
        assert_eq!(wait(&wake, &fds).unwrap(), [read, write, Some(both)]);
    }
}
