//! What is found out of the system by trying it.

use super::facts::{Kernel, SocketIs};
use std::path::Path;

#[cfg(target_os = "linux")]
mod linux {
    use super::*;
    use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, inotify};
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    use rustix::process::PidfdFlags;
    use std::os::fd::AsRawFd;

    /// Connects, and goes away again without a word; the node at the other end passes over that. Never waits.
    pub(crate) fn socket_is(directory: &Path, name: &str) -> SocketIs {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let Ok(folder) = rustix::fs::openat(CWD, directory, flags, Mode::empty()) else {
            return SocketIs::Unknown;
        };
        // A socket's address has room for 108 bytes. By the descriptor every path is short.
        let short = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
        let Ok(address) = SocketAddrUnix::new(short.as_str()) else {
            return SocketIs::Unknown;
        };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let kind = SocketType::SEQPACKET;
        let Ok(socket) = rustix::net::socket_with(AddressFamily::UNIX, kind, flags, None) else {
            return SocketIs::Unknown;
        };
        match rustix::net::connect(&socket, &address) {
            Ok(()) => SocketIs::Listening,
            Err(Errno::CONNREFUSED) => SocketIs::Stale,
            Err(Errno::AGAIN) => SocketIs::Busy,
            Err(_) => SocketIs::Unknown,
        }
    }

    pub(crate) fn kernel() -> Kernel {
        let why_not = |errno: Errno| errno.to_string();
        Kernel {
            release: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            memfd: try_memfd().err().map(why_not),
            pidfd: rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
                .err()
                .map(why_not),
            inotify: inotify::init(inotify::CreateFlags::CLOEXEC)
                .err()
                .map(why_not),
        }
    }

    /// Memory as topics have it: a file without a name, whose size is sealed.
    fn try_memfd() -> Result<(), Errno> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create("mproc-doctor", flags)?;
        rustix::fs::ftruncate(&file, 4096)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW)
    }
}

#[cfg(not(target_os = "linux"))]
mod others {
    use super::*;

    /// Only a node can tell.
    pub(crate) fn socket_is(_directory: &Path, _name: &str) -> SocketIs {
        SocketIs::Unknown
    }

    /// What nodes need there is part of every version.
    pub(crate) fn kernel() -> Kernel {
        let release = rustix::system::uname().release().to_owned();
        Kernel {
            release: release.to_string_lossy().into_owned(),
            ..Kernel::default()
        }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::{kernel, socket_is};
#[cfg(not(target_os = "linux"))]
pub(crate) use others::{kernel, socket_is};
