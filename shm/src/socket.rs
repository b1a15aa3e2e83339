//! Sockets that carry packets of bytes and descriptors between processes of one user.
//!
//! `SOCK_SEQPACKET` keeps the borders of packets and their order, and says when the other end is closed; where it is not to be
//! had, `sys` puts a length before each packet. Nothing here
//! waits: what cannot be done now is an answer, and [`Watch`](crate::Watch) tells when to try again.
//!
//! What is received is bounded before it is received: [`PACKET_BYTES_MAX`] bytes and [`DESCRIPTORS_MAX`] descriptors.
//! A packet that is larger in either is refused as a whole, and the descriptors that came with it are closed.
//!
//! # When descriptors run out
//!
//! A connection that cannot be accepted stays in the listener's queue, and the listener stays readable: a loop would
//! spin. So each [`Listener`] keeps one descriptor in reserve. When none is left it gives up the reserve, accepts,
//! closes at once (the peer sees the end of the connection and tries again later), and takes the reserve back.

use crate::fork::{ControlFd, Forked, Origin};
use crate::process::{Credentials, Process, ProcessError};
use crate::sys::{self, Framing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketAddrUnix, bind, connect, listen};
use rustix::process::{Resource, geteuid, getrlimit};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// The longest packet, in bytes.
pub const PACKET_BYTES_MAX: usize = 64 * 1024;

/// The most descriptors in one packet.
pub const DESCRIPTORS_MAX: usize = 8;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 64;

/// How many descriptors this process may have, for error texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DescriptorLimit(Option<u64>);

impl DescriptorLimit {
    fn now() -> Self {
        Self(getrlimit(Resource::Nofile).current)
    }
}

impl fmt::Display for DescriptorLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no descriptor is left")?;
        if let Some(limit) = self.0 {
            write!(f, " (this process may have {limit}, RLIMIT_NOFILE)")?;
        }
        Ok(())
    }
}

fn is_limit(errno: Errno) -> bool {
    matches!(errno, Errno::MFILE | Errno::NFILE)
}

/// Why there is no [`Listener`].
#[derive(Debug)]
#[non_exhaustive]
pub enum BindError {
    /// The handle was made before a fork.
    Forked,
    /// This process has no descriptor left.
    NoDescriptor(io::Error),
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forked => write!(f, "cannot listen: {Forked}"),
            Self::NoDescriptor(_) => write!(f, "cannot listen: {}", DescriptorLimit::now()),
            Self::Io(error) => write!(f, "cannot listen: {error}"),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Forked => None,
            Self::NoDescriptor(error) | Self::Io(error) => Some(error),
        }
    }
}

impl From<Errno> for BindError {
    fn from(errno: Errno) -> Self {
        if is_limit(errno) {
            Self::NoDescriptor(errno.into())
        } else {
            Self::Io(errno.into())
        }
    }
}

impl From<io::Error> for BindError {
    fn from(error: io::Error) -> Self {
        match Errno::from_io_error(&error) {
            Some(errno) => errno.into(),
            None => Self::Io(error),
        }
    }
}

/// Why [`Listener::accept`] gave no connection. The listener goes on in each case.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcceptError {
    /// The handle was made before a fork.
    Forked,
    /// This process has no descriptor left, so the connection was closed. The peer tries again later.
    NoDescriptor {
        /// How many it may have.
        limit: Option<u64>,
        /// True if the connection could not even be closed: the listener is still readable, so wait a while before
        /// the next attempt.
        is_stuck: bool,
    },
    /// The peer runs as another user, and the connection was closed.
    OtherUser {
        /// Its user.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The peer ended before it was accepted.
    Ended,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for AcceptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot accept a peer: ")?;
        match self {
            Self::Forked => write!(f, "{Forked}"),
            Self::NoDescriptor { limit, .. } => write!(f, "{}", DescriptorLimit(*limit)),
            Self::OtherUser { theirs, ours } => {
                write!(f, "it runs as user {theirs}, this process as user {ours}")
            }
            Self::Ended => write!(f, "{}", ProcessError::Ended),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for AcceptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why [`Directory::connect`](crate::Directory::connect) gave no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// The handle was made before a fork.
    Forked,
    /// Nobody listens: its process has ended and left the socket behind. See
    /// [`Directory::remove_stale`](crate::Directory::remove_stale).
    Stale,
    /// There is no such socket any more.
    Gone,
    /// Too many others wait to be accepted. Try again later.
    Busy,
    /// This process has no descriptor left. Try again later.
    NoDescriptor {
        /// How many it may have.
        limit: Option<u64>,
    },
    /// The peer runs as another user.
    OtherUser {
        /// Its user.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot connect to a peer: ")?;
        match self {
            Self::Forked => write!(f, "{Forked}"),
            Self::Stale => f.write_str("it has ended and left its socket behind"),
            Self::Gone => f.write_str("its socket is gone"),
            Self::Busy => f.write_str("too many others wait to be accepted"),
            Self::NoDescriptor { limit } => write!(f, "{}", DescriptorLimit(*limit)),
            Self::OtherUser { theirs, ours } => {
                write!(f, "it runs as user {theirs}, this process as user {ours}")
            }
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<Errno> for ConnectError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::CONNREFUSED => Self::Stale,
            Errno::NOENT => Self::Gone,
            Errno::AGAIN => Self::Busy,
            errno if is_limit(errno) => Self::NoDescriptor {
                limit: DescriptorLimit::now().0,
            },
            errno => Self::Io(errno.into()),
        }
    }
}

/// A socket to a process of the same user, and that process.
#[derive(Debug)]
pub struct Connection {
    /// Where packets go and come from.
    pub socket: Socket,
    /// Tells when it ends.
    pub process: Process,
}

#[derive(Debug)]
pub(crate) enum Refused {
    OtherUser { theirs: u32, ours: u32 },
    Process(ProcessError),
    Io(io::Error),
}

impl Connection {
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Refused> {
        let theirs = Credentials::of_peer(fd.as_fd()).map_err(Refused::Io)?.uid;
        let ours = geteuid().as_raw();
        if theirs != ours {
            return Err(Refused::OtherUser { theirs, ours });
        }
        let process = Process::of_peer(fd.as_fd()).map_err(Refused::Process)?;
        let socket = Socket::new(fd).map_err(Refused::Io)?;
        Ok(Self { socket, process })
    }

    /// Connects to the listener at `path`.
    pub(crate) fn to(path: &Path) -> Result<Self, ConnectError> {
        let fd = sys::new_socket()?;
        let address = SocketAddrUnix::new(path)?;
        loop {
            match connect(&fd, &address) {
                Err(Errno::INTR) => {}
                result => break result?,
            }
        }
        let connection = Self::new(fd).map_err(|refused| match refused {
            Refused::OtherUser { theirs, ours } => ConnectError::OtherUser { theirs, ours },
            Refused::Process(ProcessError::Ended) => ConnectError::Stale,
            Refused::Process(ProcessError::NoDescriptor) => ConnectError::NoDescriptor {
                limit: DescriptorLimit::now().0,
            },
            Refused::Process(ProcessError::Unsupported(error)) | Refused::Io(error) => {
                ConnectError::Io(error)
            }
        })?;
        // Somebody else may hold the listening socket of a process that has ended: nobody will ever accept.
        if connection.process.has_ended() {
            return Err(ConnectError::Stale);
        }
        Ok(connection)
    }
}

/// Where peers connect.
#[derive(Debug)]
pub struct Listener {
    fd: ControlFd,
    /// Given up for a moment when no other descriptor is left.
    reserve: Mutex<Option<OwnedFd>>,
}

impl Listener {
    /// Listens at `path`, which does not exist yet.
    pub(crate) fn at(path: &Path) -> Result<Self, BindError> {
        let fd = sys::new_socket()?;
        bind(&fd, &SocketAddrUnix::new(path)?)?;
        listen(&fd, BACKLOG)?;
        Ok(Self {
            fd: ControlFd::new(fd)?,
            reserve: Mutex::new(Some(sys::inert()?)),
        })
    }

    /// Takes the next connection that waits, if there is one.
    ///
    /// # Errors
    ///
    /// [`AcceptError`]; the listener goes on, call again.
    pub fn accept(&self) -> Result<Option<Connection>, AcceptError> {
        self.fd
            .origin()
            .check()
            .map_err(|Forked| AcceptError::Forked)?;
        let Some(fd) = self.accept_descriptor()? else {
            return Ok(None);
        };
        let refused = match Connection::new(fd) {
            Ok(connection) => return Ok(Some(connection)),
            Err(refused) => refused,
        };
        Err(match refused {
            Refused::OtherUser { theirs, ours } => AcceptError::OtherUser { theirs, ours },
            Refused::Process(ProcessError::Ended) => AcceptError::Ended,
            Refused::Process(ProcessError::NoDescriptor) => AcceptError::NoDescriptor {
                limit: DescriptorLimit::now().0,
                is_stuck: false,
            },
            Refused::Process(ProcessError::Unsupported(error)) | Refused::Io(error) => {
                AcceptError::Io(error)
            }
        })
    }

    fn accept_descriptor(&self) -> Result<Option<OwnedFd>, AcceptError> {
        match accept_now(&self.fd) {
            Ok(accepted) => return Ok(accepted),
            Err(errno) if is_limit(errno) => {}
            Err(errno) => return Err(AcceptError::Io(errno.into())),
        }
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        *reserve = None;
        // Another thread may take the number before we do; or the limit was lowered below it.
        let is_stuck = accept_now(&self.fd).map(drop).is_err();
        *reserve = sys::inert().ok();
        Err(AcceptError::NoDescriptor {
            limit: DescriptorLimit::now().0,
            is_stuck,
        })
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn accept_now(listener: &ControlFd) -> Result<Option<OwnedFd>, Errno> {
    loop {
        match sys::accept(listener.as_fd()) {
            Ok(fd) => return Ok(Some(fd)),
            Err(Errno::AGAIN) => return Ok(None),
            // The second is a connection that was closed while it waited; the next one may be there.
            Err(Errno::INTR | Errno::CONNABORTED) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Why [`Socket::send`] did not send. Nothing of the packet was sent.
#[derive(Debug)]
#[non_exhaustive]
pub enum SendError {
    /// The handle was made before a fork.
    Forked,
    /// The peer has not read what it was sent before. Try again when the socket is writable.
    Full,
    /// The packet has this many bytes; 1 to [`PACKET_BYTES_MAX`] are allowed.
    Length(usize),
    /// The packet has this many descriptors; up to [`DESCRIPTORS_MAX`] are allowed.
    TooManyDescriptors(usize),
    /// The other end is closed.
    Closed,
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot send to a peer: ")?;
        match self {
            Self::Forked => write!(f, "{Forked}"),
            Self::Full => f.write_str("it has not read what it was sent before"),
            Self::Length(bytes) => {
                write!(
                    f,
                    "a packet of {bytes} bytes; 1 to {PACKET_BYTES_MAX} are allowed"
                )
            }
            Self::TooManyDescriptors(count) => {
                write!(
                    f,
                    "a packet with {count} descriptors; up to {DESCRIPTORS_MAX} are allowed"
                )
            }
            Self::Closed => f.write_str("the connection is closed"),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SendError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Why [`Socket::recv`] gave no packet. Only [`Forked`](Self::Forked) leaves the connection of use, to the parent.
#[derive(Debug)]
#[non_exhaustive]
pub enum RecvError {
    /// The handle was made before a fork.
    Forked,
    /// The other end is closed, or sent a packet without any bytes.
    Closed,
    /// The packet was longer than [`PACKET_BYTES_MAX`].
    TooLong,
    /// Not all descriptors of the packet have arrived: there were more than [`DESCRIPTORS_MAX`], or this process has no
    /// more free.
    DescriptorsLost {
        /// How many descriptors this process may have.
        limit: Option<u64>,
    },
    /// The system refused.
    Io(io::Error),
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cannot receive from a peer: ")?;
        match self {
            Self::Forked => write!(f, "{Forked}"),
            Self::Closed => f.write_str("the connection is closed"),
            Self::TooLong => write!(f, "a packet of more than {PACKET_BYTES_MAX} bytes"),
            Self::DescriptorsLost { limit } => write!(
                f,
                "a packet had more than {DESCRIPTORS_MAX} descriptors, or {}",
                DescriptorLimit(*limit)
            ),
            Self::Io(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for RecvError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

/// Room for one received packet, to be used again and again.
pub struct Packet {
    room: Box<[u8]>,
    length: usize,
    descriptors: Vec<OwnedFd>,
}

impl Packet {
    /// Room for the longest packet.
    pub fn new() -> Self {
        Self {
            room: vec![0; PACKET_BYTES_MAX].into(),
            length: 0,
            descriptors: Vec::new(),
        }
    }

    /// The bytes of the packet received last.
    pub fn bytes(&self) -> &[u8] {
        &self.room[..self.length]
    }

    /// The bytes, and the descriptors to be taken. Those that are left are closed with the next receive.
    pub fn parts(&mut self) -> (&[u8], &mut Vec<OwnedFd>) {
        (&self.room[..self.length], &mut self.descriptors)
    }

    fn clear(&mut self) {
        self.length = 0;
        self.descriptors.clear();
    }
}

impl Default for Packet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            length,
            descriptors,
            ..
        } = self;
        write!(
            f,
            "Packet({length} bytes, {} descriptors)",
            descriptors.len()
        )
    }
}

/// One end of a connection. Readable when a packet has come or the other end is closed.
#[derive(Debug)]
pub struct Socket {
    fd: ControlFd,
    framing: Framing,
}

impl Socket {
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        let fd = ControlFd::new(fd)?;
        let framing = Framing::new();
        Ok(Self { fd, framing })
    }

    /// Where it was made.
    pub fn origin(&self) -> Origin {
        self.fd.origin()
    }

    /// Sends one packet: `bytes`, and copies of `descriptors`.
    ///
    /// # Errors
    ///
    /// [`SendError`]. After [`Full`](SendError::Full) a later attempt may succeed.
    pub fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        self.fd
            .origin()
            .check()
            .map_err(|Forked| SendError::Forked)?;
        if bytes.is_empty() || bytes.len() > PACKET_BYTES_MAX {
            return Err(SendError::Length(bytes.len()));
        }
        if descriptors.len() > DESCRIPTORS_MAX {
            return Err(SendError::TooManyDescriptors(descriptors.len()));
        }
        loop {
            match self.framing.send(self.fd.as_fd(), bytes, descriptors) {
                Ok(()) => return Ok(()),
                Err(Errno::INTR) => {}
                // NOBUFS: there is no memory for it now.
                Err(Errno::AGAIN | Errno::NOBUFS) => return Err(SendError::Full),
                Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                    return Err(SendError::Closed);
                }
                Err(errno) => return Err(SendError::Io(errno.into())),
            }
        }
    }

    /// Receives one packet into `packet`, if one is there. What was in `packet` before is gone, its descriptors are
    /// closed. False if there is none.
    ///
    /// # Errors
    ///
    /// [`RecvError`]. The connection is of no more use.
    pub fn recv(&self, packet: &mut Packet) -> Result<bool, RecvError> {
        self.fd
            .origin()
            .check()
            .map_err(|Forked| RecvError::Forked)?;
        packet.clear();
        let received = loop {
            let Packet {
                room, descriptors, ..
            } = &mut *packet;
            match self.framing.recv(self.fd.as_fd(), room, descriptors) {
                Ok(received) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::CONNRESET | Errno::NOTCONN) => return Err(RecvError::Closed),
                Err(errno) => return Err(RecvError::Io(errno.into())),
            }
        };
        // The room is rounded up, so one more than the limit may have come whole.
        let is_over = packet.descriptors.len() > DESCRIPTORS_MAX;
        let error = if is_over || received.has_lost_descriptors {
            RecvError::DescriptorsLost {
                limit: DescriptorLimit::now().0,
            }
        } else if received.is_too_long {
            RecvError::TooLong
        } else if received.bytes == 0 {
            RecvError::Closed
        } else {
            packet.length = received.bytes;
            return Ok(true);
        };
        packet.clear();
        Err(error)
    }

    /// True if the other end is closed. What it sent before can still be received.
    pub fn is_closed(&self) -> bool {
        // Linux tells it anyway; macOS has to be asked for it.
        let mut fds = [PollFd::new(&self.fd, PollFlags::HUP)];
        let now = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        loop {
            match poll(&mut fds, Some(&now)) {
                Err(Errno::INTR) => {}
                _ => return fds[0].revents().intersects(PollFlags::HUP | PollFlags::ERR),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::IoSlice;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
    use std::io::{Read, Write};
    use std::mem::MaybeUninit;

    fn pair() -> (Socket, Socket) {
        let (a, b) = sys::pair().unwrap();
        (Socket::new(a).unwrap(), Socket::new(b).unwrap())
    }

    #[test]
    fn packets_keep_their_borders_and_order() {
        let (a, b) = pair();
        let mut packet = Packet::new();
        assert!(!b.recv(&mut packet).unwrap());
        a.send(b"one", &[]).unwrap();
        a.send(&[7; PACKET_BYTES_MAX], &[]).unwrap();
        assert!(b.recv(&mut packet).unwrap());
        assert_eq!(packet.bytes(), b"one");
        assert!(b.recv(&mut packet).unwrap());
        assert_eq!(packet.bytes(), [7; PACKET_BYTES_MAX]);
        assert!(!b.recv(&mut packet).unwrap());
        assert!(!b.is_closed());
        a.send(b"last", &[]).unwrap();
        drop(a);
        assert!(b.is_closed());
        assert!(b.recv(&mut packet).unwrap());
        assert!(matches!(b.recv(&mut packet), Err(RecvError::Closed)));
        assert!(matches!(b.send(b"late", &[]), Err(SendError::Closed)));
    }

    #[test]
    fn descriptors_arrive_and_close_on_exec() {
        let (a, b) = pair();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        a.send(b"x", &[writer.as_fd(), reader.as_fd()]).unwrap();
        let mut packet = Packet::new();
        assert!(b.recv(&mut packet).unwrap());
        let (_, descriptors) = packet.parts();
        assert_eq!(descriptors.len(), 2);
        for fd in descriptors.iter() {
            let flags = rustix::io::fcntl_getfd(fd).unwrap();
            assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
        std::fs::File::from(descriptors.remove(0))
            .write_all(b"hi")
            .unwrap();
        writer.write_all(b"!").unwrap();
        drop(writer);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi!");
    }

    #[test]
    fn descriptors_that_nobody_takes_are_closed() {
        let (a, b) = pair();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut packet = Packet::new();
        a.send(b"x", &[writer.as_fd(); DESCRIPTORS_MAX]).unwrap();
        assert!(b.recv(&mut packet).unwrap());
        assert_eq!(packet.parts().1.len(), DESCRIPTORS_MAX);
        drop(writer);
        assert!(!b.recv(&mut packet).unwrap());
        // The end of the pipe: no copy of the writer is open.
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn packet_with_too_many_descriptors_is_refused_and_they_are_closed() {
        let (a, b) = pair();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let too_many = [writer.as_fd(); DESCRIPTORS_MAX + 1];
        let far_too_many = [writer.as_fd(); 60];
        assert!(matches!(
            a.send(b"x", &too_many),
            Err(SendError::TooManyDescriptors(9))
        ));
        // A peer that does not ask `send`.
        for descriptors in [&too_many[..], &far_too_many] {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(60))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
            let bytes = [IoSlice::new(b"x")];
            sendmsg(&a.fd, &bytes, &mut control, SendFlags::empty()).unwrap();
            let error = b.recv(&mut Packet::new()).unwrap_err();
            assert!(
                matches!(error, RecvError::DescriptorsLost { .. }),
                "{error}"
            );
            assert!(error.to_string().contains("more than 8 descriptors"));
        }
        drop(writer);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }

    /// Where the system keeps the borders of packets; for the others see `sys/framing.rs`.
    #[cfg(target_os = "linux")]
    #[test]
    fn packet_that_is_too_long_or_empty_is_refused() {
        let (a, b) = pair();
        let long = vec![0; PACKET_BYTES_MAX + 1];
        assert!(matches!(a.send(&long, &[]), Err(SendError::Length(_))));
        assert!(matches!(a.send(&[], &[]), Err(SendError::Length(0))));
        rustix::net::send(&a.fd, &long, SendFlags::empty()).unwrap();
        rustix::net::send(&a.fd, &[], SendFlags::empty()).unwrap();
        let mut packet = Packet::new();
        assert!(matches!(b.recv(&mut packet), Err(RecvError::TooLong)));
        assert!(matches!(b.recv(&mut packet), Err(RecvError::Closed)));
    }

    #[test]
    fn peer_that_does_not_read_makes_the_socket_full_and_nothing_is_lost() {
        let (a, b) = pair();
        let mut sent = 0_u32;
        let error = loop {
            match a.send(&sent.to_le_bytes(), &[]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SendError::Full), "{error}");
        let mut packet = Packet::new();
        for i in 0..sent {
            assert!(b.recv(&mut packet).unwrap());
            assert_eq!(packet.bytes(), i.to_le_bytes());
        }
        assert!(!b.recv(&mut packet).unwrap());
        a.send(b"again", &[]).unwrap();
    }
}
