//! Linux: `SOCK_SEQPACKET`, which keeps the borders of packets.

use crate::socket::DESCRIPTORS_MAX;
use crate::sys::Received;
use rustix::io::{Errno, IoSlice, IoSliceMut};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, accept_with,
    recvmsg, sendmsg, socket_with,
};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// A socket that closes on exec and does not wait.
pub(crate) fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// Takes the next connection, which closes on exec and does not wait.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)
}

/// Two ends of a connection.
#[cfg(test)]
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
}

/// What a connection needs to keep packets apart: nothing, the kernel does.
#[derive(Debug)]
pub(crate) struct Framing;

impl Framing {
    pub(crate) fn new() -> Self {
        Self
    }

    /// Sends one packet, as a whole or not at all.
    pub(crate) fn send(
        &self,
        fd: BorrowedFd<'_>,
        bytes: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), Errno> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        if !descriptors.is_empty() {
            let fits = control.push(SendAncillaryMessage::ScmRights(descriptors));
            assert!(
                fits,
                "the room is made for the largest number of descriptors"
            );
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        // The kernel takes a packet as a whole or not at all.
        sendmsg(fd, &[IoSlice::new(bytes)], &mut control, flags).map(drop)
    }

    /// Receives one packet.
    pub(crate) fn recv(
        &self,
        fd: BorrowedFd<'_>,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<Received, Errno> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let received = recvmsg(fd, &mut [IoSliceMut::new(bytes)], &mut control, flags)?;
        for message in control.drain() {
            // Other kinds come only to those who ask for them.
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                descriptors.extend(fds);
            }
        }
        Ok(Received {
            bytes: received.bytes,
            is_too_long: received.flags.contains(ReturnFlags::TRUNC),
            has_lost_descriptors: received.flags.contains(ReturnFlags::CTRUNC),
        })
    }
}
