//! Linux: pidfds, and what `/proc` says.

use crate::process::{ProcessError, is_over};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::{c_int, c_void};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// Readable from the end of a process on: a pidfd.
pub(crate) type EndFd = OwnedFd;

/// Which run of the kernel this is: 16 bytes in lower case hexadecimal digits and dashes.
pub(crate) fn boot_id() -> io::Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim_end().into())
}

/// When process `pid` started, from `/proc/<pid>/stat`.
pub(crate) fn start_time(pid: u32) -> io::Result<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// The 22nd field. The second is the program's name in parentheses, and may hold anything, so counting starts after the
/// last parenthesis.
fn parse_start_time(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&c| c == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// True if process `pid` is stopped by a signal (`T`) or by a debugger (`t`).
pub(crate) fn is_stopped(pid: u32) -> io::Result<bool> {
    let stat = fs::read(format!("/proc/{pid}/stat"))?;
    let state = parse_state(&stat).ok_or(io::ErrorKind::InvalidData)?;
    Ok(matches!(state, b'T' | b't'))
}

/// The third field; see [`parse_start_time`].
fn parse_state(stat: &[u8]) -> Option<u8> {
    let name_end = stat.iter().rposition(|&c| c == b')')?;
    stat.get(name_end + 2).copied()
}

const SOL_SOCKET: c_int = if cfg!(any(
    target_arch = "mips",
    target_arch = "mips64",
    target_arch = "sparc64"
)) {
    0xffff
} else {
    1
};
const SO_PEERCRED: c_int = if cfg!(any(target_arch = "powerpc", target_arch = "powerpc64")) {
    21
} else if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    18
} else if cfg!(target_arch = "sparc64") {
    0x40
} else {
    17
};
/// Absent before Linux 6.5.
const SO_PEERPIDFD: c_int = if cfg!(target_arch = "sparc64") {
    0x56
} else {
    77
};

unsafe extern "C" {
    /// POSIX; `length` is a `socklen_t`.
    fn getsockopt(
        socket: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut u32,
    ) -> c_int;
}

/// An option of a socket that consists of `N` integers.
///
/// Not by rustix: it lacks `SO_PEERPIDFD`, and gives the process id of `SO_PEERCRED` as a number that cannot be 0,
/// which it is for a process in another pid namespace.
fn option<const N: usize>(socket: BorrowedFd<'_>, name: c_int) -> Result<[c_int; N], Errno> {
    let mut value = [0; N];
    let size = (N * size_of::<c_int>()) as u32;
    let mut length = size;
    // SAFETY: `socket` is open while it is borrowed; `value` has `length` bytes, which may be written, and any bytes
    // are integers.
    let result = unsafe {
        let value = value.as_mut_ptr().cast::<c_void>();
        getsockopt(socket.as_raw_fd(), SOL_SOCKET, name, value, &mut length)
    };
    if result != 0 {
        let error = io::Error::last_os_error();
        return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO));
    }
    if length == size {
        Ok(value)
    } else {
        Err(Errno::INVAL)
    }
}

/// Process (unless it is not visible from here) and effective user at the other end of `socket`.
pub(crate) fn credentials(socket: BorrowedFd<'_>) -> io::Result<(Option<u32>, u32)> {
    let [pid, uid, _] = option::<3>(socket, SO_PEERCRED)?;
    let pid = u32::try_from(pid).ok().filter(|&pid| pid != 0);
    Ok((pid, uid.cast_unsigned()))
}

/// What tells the end of the process at the other end of `socket`, and when that process started where it was found by its
/// number.
pub(crate) fn end_of_peer(socket: BorrowedFd<'_>) -> Result<(EndFd, Option<u64>), ProcessError> {
    match option::<1>(socket, SO_PEERPIDFD) {
        Ok([fd]) => {
            // SAFETY: The kernel has just made this descriptor for us and nobody else knows it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
            Ok((pidfd, None))
        }
        Err(Errno::NOPROTOOPT) => by_number(socket),
        Err(errno) => Err(errno.into()),
    }
}

/// For kernels without `SO_PEERPIDFD`.
fn by_number(socket: BorrowedFd<'_>) -> Result<(EndFd, Option<u64>), ProcessError> {
    let [pid, ..] = option::<3>(socket, SO_PEERCRED)?;
    let pid = Pid::from_raw(pid).ok_or_else(|| {
        let text = "the peer is in a pid namespace that is not visible from here";
        ProcessError::Unsupported(io::Error::other(text))
    })?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    let found = start_time(pid.as_raw_nonzero().get().unsigned_abs());
    if is_over(pidfd.as_fd()) {
        return Err(ProcessError::Ended);
    }
    let found = found.map_err(ProcessError::Unsupported)?;
    Ok((pidfd, Some(found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    #[test]
    fn start_time_is_found_behind_any_program_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        for name in ["a", "a b", ") S 1 (", "\u{e9}"] {
            let stat = format!("77 ({name}) {rest}");
            assert_eq!(parse_start_time(stat.as_bytes()), Some(4242));
            assert_eq!(parse_state(stat.as_bytes()), Some(b'S'));
        }
        assert_eq!(parse_start_time(b"77 (a) S 1"), None);
        assert_eq!(parse_start_time(b""), None);
        assert_eq!(parse_state(b"77 (a)"), None);
        assert!(start_time(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn both_ways_to_a_pidfd_find_the_peer() {
        let kind = SocketType::SEQPACKET;
        let (ours, _theirs) =
            socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
        let (by_socket, _) = end_of_peer(ours.as_fd()).unwrap();
        let (by_number, found) = by_number(ours.as_fd()).unwrap();
        assert!(!is_over(by_socket.as_fd()) && !is_over(by_number.as_fd()));
        assert_eq!(found, Some(start_time(std::process::id()).unwrap()));
    }
}
