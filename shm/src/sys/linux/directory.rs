//! Linux: names relative to an open directory, and inotify.

use crate::fork::{ControlFd, Origin};
use crate::sys::Sighting;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use std::ffi::{CStr, OsString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The path by which a socket `name` in the open directory is bound or connected to. `_path` is where that directory was found.
pub(crate) fn address(directory: BorrowedFd<'_>, _path: &Path, name: &str) -> PathBuf {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()).into()
}

/// True if nobody listens any more where a connection was refused. A listener whose queue is full answers otherwise here.
pub(crate) fn is_dead_if_refused(_pid: u32) -> bool {
    true
}

/// Tells what changes in a directory. Readable when something has.
#[derive(Debug)]
pub(crate) struct Observer {
    /// What a child reads from it would be lost to us.
    fd: ControlFd,
    /// Which of the two watches is that of the directory above.
    above: i32,
    /// The directory's name in the one above.
    name: OsString,
}

impl Observer {
    pub(crate) fn new(directory: BorrowedFd<'_>, path: &Path) -> io::Result<Self> {
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|errno| {
            let text = match errno {
                Errno::MFILE => {
                    "no descriptor is left, or this user has too many inotify instances \
                     (fs.inotify.max_user_instances)"
                }
                _ => return io::Error::from(errno),
            };
            io::Error::other(text)
        })?;
        let events = WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::ONLYDIR;
        // The trailing dot names the directory itself, not the link to it.
        inotify::add_watch(&fd, address(directory, path, "."), events)?;
        // Our descriptor keeps a removed directory alive, so only the one above can tell of the removal.
        let events = WatchFlags::DELETE | WatchFlags::MOVED_FROM | WatchFlags::ONLYDIR;
        let above = inotify::add_watch(&fd, address(directory, path, ".."), events)?;
        let name = path.file_name().unwrap_or_default().into();
        let fd = ControlFd::new(fd)?;
        Ok(Self { fd, above, name })
    }

    /// Where it was made.
    pub(crate) fn origin(&self) -> Origin {
        self.fd.origin()
    }

    /// Tells what has happened, without waiting.
    pub(crate) fn read(&mut self, mut tell: impl FnMut(Sighting<'_>)) -> io::Result<()> {
        let mut room = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut room);
        loop {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let what = event.events();
            let name = event.file_name().map_or(&b""[..], CStr::to_bytes);
            if what.contains(ReadFlags::QUEUE_OVERFLOW) {
                tell(Sighting::Unknown);
            } else if event.wd() == self.above {
                if name == self.name.as_bytes() {
                    tell(Sighting::DirectoryGone);
                }
            } else if what.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
                tell(Sighting::Came(name));
            } else {
                tell(Sighting::Went(name));
            }
        }
    }
}

impl AsFd for Observer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
