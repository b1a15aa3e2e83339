//! macOS: `SOCK_STREAM`, with the length of each packet before it: see `sys/framing.rs`.
//!
//! # A packet is sent as a whole or not at all
//!
//! The kernel refuses a send that does not fit into what is free if less than the low-water mark is free, and nothing of it is
//! sent then. The mark is [`LOW_WATER`], more than any packet has: what does not fit is refused. The socket is told to be
//! writable from the same mark on.

use super::{calls, descriptors::close_on_exec, descriptors::do_not_wait};
use crate::socket::PACKET_BYTES_MAX;
use crate::sys::framing::LENGTH;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket, sockopt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

pub(crate) use crate::sys::framing::Framing;

/// More than the longest packet has, with its length and its descriptors.
const LOW_WATER: usize = 72 * 1024;

const _: () = assert!(LOW_WATER >= LENGTH + PACKET_BYTES_MAX + 4096);

/// How many bytes may wait in a socket.
const BUFFER: usize = 4 * LOW_WATER;

fn prepare(fd: &OwnedFd) -> Result<(), Errno> {
    close_on_exec(fd)?;
    do_not_wait(fd)?;
    // A send to one who has gone is an error and no signal.
    sockopt::set_socket_nosigpipe(fd, true)?;
    sockopt::set_socket_send_buffer_size(fd, BUFFER)?;
    sockopt::set_socket_recv_buffer_size(fd, BUFFER)?;
    calls::set_send_low_water(fd.as_fd(), LOW_WATER as i32)
}

/// A socket that closes on exec and does not wait.
pub(crate) fn new_socket() -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    prepare(&fd)?;
    Ok(fd)
}

/// Takes the next connection, which closes on exec and does not wait.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let fd = rustix::net::accept(listener)?;
    match prepare(&fd) {
        Ok(()) => Ok(fd),
        // Options of a socket whose other end is closed cannot be set.
        Err(Errno::INVAL) => Err(Errno::CONNABORTED),
        Err(errno) => Err(errno),
    }
}

/// Two ends of a connection.
#[cfg(test)]
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = rustix::net::SocketFlags::empty();
    let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    prepare(&a)?;
    prepare(&b)?;
    Ok((a, b))
}
