//! macOS: sockets by their whole path, and a kqueue that tells that a directory has changed.

use super::descriptors;
use crate::fork::{ControlFd, Origin};
use crate::sys::Sighting;
use rustix::event::kqueue::{Event, EventFilter, EventFlags, VnodeEvents, kevent_timespec, kqueue};
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use rustix::process::{Pid, test_kill_process};
use rustix::time::Timespec;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::ptr;

/// The path by which a socket `name` in the directory is bound or connected to.
///
/// There is no path relative to an open directory here. So whoever may write above the directory could exchange it after it was
/// checked: root, and this user. (In `/tmp` others may not: it is sticky.) A path has 103 bytes at most; a longer one is an
/// error when it is bound.
pub(crate) fn address(_directory: BorrowedFd<'_>, path: &Path, name: &str) -> PathBuf {
    path.join(name)
}

/// True if nobody listens any more where a connection was refused. A listener whose queue is full refuses, too, so the process is
/// asked for. Another process may have its number by now; then the socket stays as long as that one.
pub(crate) fn is_dead_if_refused(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| test_kill_process(pid) == Err(Errno::SRCH))
}

/// Tells that something changes in a directory, but not what. Readable when something has.
#[derive(Debug)]
pub(crate) struct Observer {
    queue: ControlFd,
    /// The one that is observed: closing it would end that.
    _directory: OwnedFd,
}

impl Observer {
    pub(crate) fn new(directory: BorrowedFd<'_>, _path: &Path) -> io::Result<Self> {
        let directory = fcntl_dupfd_cloexec(directory, 0)?;
        let queue = kqueue()?;
        descriptors::close_on_exec(&queue)?;
        let filter = EventFilter::Vnode {
            vnode: directory.as_raw_fd(),
            flags: VnodeEvents::WRITE
                | VnodeEvents::DELETE
                | VnodeEvents::RENAME
                | VnodeEvents::REVOKE,
        };
        let flags = EventFlags::ADD | EventFlags::CLEAR;
        let change = [Event::new(filter, flags, ptr::null_mut())];
        let nothing: &mut [Event] = &mut [];
        // SAFETY: The event refers to `directory`, which is kept as long as the queue.
        unsafe { kevent_timespec(&queue, &change, nothing, None) }?;
        Ok(Self {
            queue: ControlFd::new(queue)?,
            _directory: directory,
        })
    }

    /// Where it was made.
    pub(crate) fn origin(&self) -> Origin {
        self.queue.origin()
    }

    /// Tells what has happened, without waiting.
    pub(crate) fn read(&mut self, mut tell: impl FnMut(Sighting<'_>)) -> io::Result<()> {
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut room = [MaybeUninit::uninit(); 4];
        let events = loop {
            // SAFETY: No event is added here.
            match unsafe { kevent_timespec(&self.queue, &[], &mut room, Some(&now)) } {
                Ok((events, _)) => break events,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        };
        for event in events {
            let EventFilter::Vnode { flags, .. } = event.filter() else {
                continue;
            };
            if flags.contains(VnodeEvents::WRITE) {
                tell(Sighting::Unknown);
            }
            if flags.intersects(VnodeEvents::DELETE | VnodeEvents::RENAME | VnodeEvents::REVOKE) {
                tell(Sighting::DirectoryGone);
            }
        }
        Ok(())
    }
}

impl AsFd for Observer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}
