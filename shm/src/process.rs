//! Which process a peer is, and whether it lives.
//!
//! # Identity
//!
//! [`Identity`] is for people and tables: boot id, process id, start time and node id name one process and one node in
//! it for ever. It is what the peer says of itself.
//!
//! # Life
//!
//! [`Process`] holds a pidfd, which becomes readable when *all* threads of the process are gone, and its memory with
//! them: from then on it neither loads nor stores anything. It is not readable while the process is stopped, and a
//! grandchild that keeps the connection open does not hide the end.
//!
//! A pidfd never comes to mean another process, so only its making needs care. `SO_PEERPIDFD` gives that of the
//! process that connected or listened. An older kernel has none: there the number from `SO_PEERCRED` is opened, and
//!
//! 1. the start time of that number is read from `/proc`,
//! 2. the pidfd is not readable after that, so the number meant the process of the pidfd all the time, and the start
//!    time is its own,
//! 3. [`Process::is`] compares it with the start time in the peer's greeting: number and start time together name one
//!    process.
//!
//! The calls are in `sys`; macOS, which has no pidfds, goes a way like the second there.

use crate::sys;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::getpid;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::str::FromStr;

/// 16 bytes as people write them: groups of 8, 4, 4, 4 and 12 hexadecimal digits.
fn write_id(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        let dash = if matches!(i, 4 | 6 | 8 | 10) { "-" } else { "" };
        write!(f, "{dash}{byte:02x}")?;
    }
    Ok(())
}

/// The one spelling that `write_id` makes: each id has one name.
fn parse_id(text: &str) -> Option<[u8; 16]> {
    let text = text.as_bytes();
    if text.len() != 36 {
        return None;
    }
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; 16];
    let mut at = 0;
    for (i, byte) in bytes.iter_mut().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = digit(text[at])? << 4 | digit(text[at + 1])?;
        at += 2;
    }
    Some(bytes)
}

/// Which node: 16 random bytes, new each time a node starts.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// A new one.
    ///
    /// # Errors
    ///
    /// The system gives no random bytes.
    pub fn random() -> io::Result<Self> {
        let mut bytes = [0; 16];
        sys::random(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// The one with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

/// The text is not that of a [`NodeId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeIdError;

impl fmt::Display for NodeIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a node id has groups of 8, 4, 4, 4 and 12 lower case hexadecimal digits")
    }
}

impl std::error::Error for NodeIdError {}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        parse_id(text).map(Self).ok_or(NodeIdError)
    }
}

/// Which run of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootId([u8; 16]);

impl BootId {
    /// That of now.
    ///
    /// # Errors
    ///
    /// The system does not say (on Linux: `/proc` is not mounted).
    pub fn current() -> io::Result<Self> {
        let bytes = parse_id(&sys::boot_id()?).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self(bytes))
    }

    /// The one with these bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_id(&self.0, f)
    }
}

/// One process and one node in it, as it names itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The run of the kernel in which it lives.
    pub boot: BootId,
    /// Its number in its own pid namespace.
    pub pid: u32,
    /// When it started: on Linux in the kernel's ticks since the boot, on macOS in microseconds.
    pub start_time: u64,
    /// Its node.
    pub node: NodeId,
}

impl Identity {
    /// That of `node` in this process.
    ///
    /// # Errors
    ///
    /// The system does not say (on Linux: `/proc` is not mounted).
    pub fn here(node: NodeId) -> io::Result<Self> {
        let pid = getpid().as_raw_nonzero().get().unsigned_abs();
        Ok(Self {
            boot: BootId::current()?,
            pid,
            start_time: sys::start_time(pid)?,
            node,
        })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, node, .. } = self;
        write!(f, "process {pid} (node {node})")
    }
}

/// What the kernel says of the process at the other end of a socket, when it connected or listened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its number as seen from here, unless it lives in a pid namespace that is not visible from here.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
}

impl Credentials {
    /// Those of the process at the other end of `socket`.
    ///
    /// # Errors
    ///
    /// `socket` is not a connected Unix socket.
    pub fn of_peer(socket: BorrowedFd<'_>) -> io::Result<Self> {
        let (pid, uid) = sys::credentials(socket)?;
        Ok(Self { pid, uid })
    }
}

/// Why there is no [`Process`] for a peer.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProcessError {
    /// It has ended already.
    Ended,
    /// This process has no descriptor left.
    NoDescriptor,
    /// The system has no means to watch it.
    Unsupported(io::Error),
}

impl fmt::Display for ProcessError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ended => "the peer has ended",
            Self::NoDescriptor => "no descriptor is left to watch the peer by",
            Self::Unsupported(_) => {
                "the system gives no pidfd of the peer (Linux 5.3 or later does)"
            }
        })
    }
}

impl std::error::Error for ProcessError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unsupported(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Errno> for ProcessError {
    fn from(errno: Errno) -> Self {
        match errno {
            // Which of the two an ended process gives depends on the kernel's version.
            Errno::SRCH | Errno::INVAL => Self::Ended,
            Errno::MFILE | Errno::NFILE => Self::NoDescriptor,
            _ => Self::Unsupported(errno.into()),
        }
    }
}

/// A process to be watched. Its descriptor is readable from the moment the whole process is gone.
#[derive(Debug)]
pub struct Process {
    /// The pidfd, or what the system has instead.
    end: sys::EndFd,
    /// Known where it was made from a number: see the module's third step.
    start_time: Option<u64>,
}

impl Process {
    /// The one at the other end of `socket`: the one that connected, or the one that listened.
    ///
    /// # Errors
    ///
    /// [`ProcessError`] has one variant for each thing to do about it.
    pub fn of_peer(socket: BorrowedFd<'_>) -> Result<Self, ProcessError> {
        let (end, start_time) = sys::end_of_peer(socket)?;
        Ok(Self { end, start_time })
    }

    /// True unless this is known not to be the process that `identity` names. To be asked before the peer is believed.
    pub fn is(&self, identity: &Identity) -> bool {
        self.start_time
            .is_none_or(|found| found == identity.start_time)
    }

    /// True once the whole process is gone.
    pub fn has_ended(&self) -> bool {
        is_over(self.end.as_fd())
    }
}

/// True if process `pid` is stopped, by a signal or by a debugger; false if it is not, or cannot be looked at. For people: the
/// number may be another process's by now.
pub fn is_stopped(pid: u32) -> bool {
    sys::is_stopped(pid).unwrap_or(false)
}

/// True if the end that `fd` tells of has come.
pub(crate) fn is_over(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    loop {
        match poll(&mut fds, Some(&now)) {
            Err(Errno::INTR) => {}
            // An answer that did not come is not a death.
            result => return result == Ok(1),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_id_reads_what_it_writes_and_nothing_else() {
        let id = NodeId::random().unwrap();
        let text = id.to_string();
        assert_eq!(text.parse(), Ok(id));
        assert_eq!(text.len(), 36);
        for wrong in [
            "",
            "x",
            &text[1..],
            &text.replace('-', "_"),
            &format!("{text}0"),
        ] {
            assert_eq!(wrong.parse::<NodeId>(), Err(NodeIdError), "{wrong:?}");
        }
        let upper = "ABCDEFAB-0000-0000-0000-000000000000";
        assert!(upper.parse::<NodeId>().is_err() && upper.to_lowercase().parse::<NodeId>().is_ok());
        assert_ne!(NodeId::random().unwrap(), id);
    }

    #[test]
    fn peer_is_found_and_told_from_a_later_one_with_its_number() {
        let (ours, _theirs) = sys::pair().unwrap();
        let credentials = Credentials::of_peer(ours.as_fd()).unwrap();
        assert_eq!(credentials.pid, Some(std::process::id()));
        assert_eq!(credentials.uid, rustix::process::geteuid().as_raw());
        let mut identity = Identity::here(NodeId::random().unwrap()).unwrap();
        let mut process = Process::of_peer(ours.as_fd()).unwrap();
        assert!(!process.has_ended());
        assert!(process.is(&identity));
        process.start_time = Some(identity.start_time);
        assert!(process.is(&identity));
        // Another process that was given the number afterwards has another start time.
        identity.start_time += 1;
        assert!(!process.is(&identity));
    }

    #[test]
    fn pidfd_of_something_else_than_a_socket_is_an_error() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(matches!(
            Process::of_peer(file.as_fd()),
            Err(ProcessError::Unsupported(_))
        ));
    }
}
