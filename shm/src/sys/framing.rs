//! Packets on a socket that keeps no borders (`SOCK_STREAM`): the length of each before it.
//!
//! ```text
//! 0       4
//! +-------+----------------------+
//! | bytes | the packet           |    the length is little-endian; descriptors come with its first byte
//! +-------+----------------------+
//! ```
//!
//! For systems without `SOCK_SEQPACKET`; elsewhere it is there for its tests only.
//!
//! A packet is sent at once. The socket is made such that the system takes all of it or nothing. Should it take a part all the
//! same, the connection is shut down, so that the peer never takes the next packet for the rest of this one.
//!
//! A packet is received in parts, which wait in [`Framing`] until all are there. No read goes beyond the end of a packet, so
//! descriptors are those of the packet that is being read.

use crate::socket::DESCRIPTORS_MAX;
use crate::sys::Received;
use rustix::io::{Errno, FdFlags, IoSlice, IoSliceMut, fcntl_setfd};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, recvmsg, sendmsg, shutdown,
};
use std::fmt;
use std::mem::{self, MaybeUninit};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The bytes of a length.
pub(crate) const LENGTH: usize = 4;

/// What has come of the packet that is being received.
#[derive(Default)]
struct Incoming {
    /// Its length, then its bytes: as many as there are to be, of which `filled` have come.
    bytes: Vec<u8>,
    filled: usize,
    descriptors: Vec<OwnedFd>,
}

/// What a connection needs to keep packets apart.
#[derive(Default)]
pub(crate) struct Framing {
    /// Two packets that are sent at once must not mix.
    sending: Mutex<()>,
    incoming: Mutex<Incoming>,
}

/// What is behind these locks is whole after each statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Framing {
    pub(crate) fn new() -> Self {
        Self::default()
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
        let length = (bytes.len() as u32).to_le_bytes();
        let parts = [IoSlice::new(&length), IoSlice::new(bytes)];
        let _one_at_a_time = lock(&self.sending);
        let sent = sendmsg(fd, &parts, &mut control, SendFlags::DONTWAIT)?;
        if sent == LENGTH + bytes.len() {
            return Ok(());
        }
        // If it fails, the other end is closed already.
        let _ = shutdown(fd, Shutdown::Both);
        Err(Errno::PIPE)
    }

    /// Receives one packet, if all of it has come.
    pub(crate) fn recv(
        &self,
        fd: BorrowedFd<'_>,
        bytes: &mut [u8],
        descriptors: &mut Vec<OwnedFd>,
    ) -> Result<Received, Errno> {
        let mut incoming = lock(&self.incoming);
        let mut received = Received {
            bytes: 0,
            is_too_long: false,
            has_lost_descriptors: false,
        };
        loop {
            let Incoming {
                bytes: packet,
                filled,
                ..
            } = &mut *incoming;
            if *filled < LENGTH {
                packet.resize(LENGTH, 0);
            } else if *filled == LENGTH {
                let length = packet[..LENGTH].try_into().expect("it has come");
                let length = u32::from_le_bytes(length) as usize;
                if length > bytes.len() {
                    received.is_too_long = true;
                    return Ok(received);
                }
                if length == 0 {
                    return Ok(received);
                }
                packet.resize(LENGTH + length, 0);
            } else if *filled == packet.len() {
                received.bytes = packet.len() - LENGTH;
                bytes[..received.bytes].copy_from_slice(&packet[LENGTH..]);
                *filled = 0;
                descriptors.extend(mem::take(&mut incoming.descriptors));
                return Ok(received);
            }
            match incoming.receive(fd)? {
                Part::Some => {}
                Part::End => return Ok(received),
                Part::DescriptorsLost => {
                    received.has_lost_descriptors = true;
                    return Ok(received);
                }
            }
        }
    }
}

enum Part {
    Some,
    End,
    DescriptorsLost,
}

impl Incoming {
    /// Receives what there is of the bytes that are missing.
    fn receive(&mut self, fd: BorrowedFd<'_>) -> Result<Part, Errno> {
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut room);
        let mut parts = [IoSliceMut::new(&mut self.bytes[self.filled..])];
        let part = recvmsg(fd, &mut parts, &mut control, RecvFlags::DONTWAIT)?;
        for message in control.drain() {
            // Other kinds come only to those who ask for them.
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                for fd in fds {
                    // Nothing but a number that is not open makes this fail.
                    let _ = fcntl_setfd(&fd, FdFlags::CLOEXEC);
                    self.descriptors.push(fd);
                }
            }
        }
        self.filled += part.bytes;
        // More than one packet may have are refused before its end has come.
        let is_over = self.descriptors.len() > DESCRIPTORS_MAX;
        Ok(if is_over || part.flags.contains(ReturnFlags::CTRUNC) {
            Part::DescriptorsLost
        } else if part.bytes == 0 {
            Part::End
        } else {
            Part::Some
        })
    }
}

impl fmt::Debug for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Framing")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::PACKET_BYTES_MAX;
    use rustix::net::{AddressFamily, SocketFlags, SocketType, send, socketpair};
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    struct End {
        fd: OwnedFd,
        framing: Framing,
        room: Vec<u8>,
        descriptors: Vec<OwnedFd>,
    }

    impl End {
        fn new(fd: OwnedFd) -> Self {
            Self {
                fd,
                framing: Framing::new(),
                room: vec![0; PACKET_BYTES_MAX],
                descriptors: Vec::new(),
            }
        }

        fn send(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), Errno> {
            self.framing.send(self.fd.as_fd(), bytes, descriptors)
        }

        fn recv(&mut self) -> Result<Received, Errno> {
            let (fd, descriptors) = (self.fd.as_fd(), &mut self.descriptors);
            self.framing.recv(fd, &mut self.room, descriptors)
        }

        /// The bytes of the next packet.
        fn packet(&mut self) -> &[u8] {
            let received = self.recv().unwrap();
            assert!(!received.is_too_long && !received.has_lost_descriptors);
            &self.room[..received.bytes]
        }
    }

    fn pair() -> (End, End) {
        let flags = SocketFlags::empty();
        let (a, b) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
        (End::new(a), End::new(b))
    }

    #[test]
    fn packets_keep_their_borders_order_and_descriptors() {
        let (a, mut b) = pair();
        assert_eq!(b.recv().err(), Some(Errno::AGAIN));
        let (mut reader, writer) = std::io::pipe().unwrap();
        a.send(b"one", &[]).unwrap();
        a.send(b"two", &[writer.as_fd()]).unwrap();
        a.send(&[7; 30_000], &[]).unwrap();
        drop(writer);
        assert_eq!(b.packet(), b"one");
        assert!(b.descriptors.is_empty());
        assert_eq!(b.packet(), b"two");
        let fd = b.descriptors.pop().unwrap();
        assert!(b.descriptors.is_empty());
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(FdFlags::CLOEXEC));
        std::fs::File::from(fd).write_all(b"hi").unwrap();
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hi");
        assert_eq!(b.packet(), [7; 30_000]);
        assert_eq!(b.recv().err(), Some(Errno::AGAIN));
        drop(a);
        assert_eq!(b.packet(), b"");
    }

    #[test]
    fn packet_that_comes_byte_by_byte_is_whole_in_the_end() {
        let (a, mut b) = pair();
        let bytes = [3, 0, 0, 0, b'a', b'b', b'c'];
        for (i, byte) in bytes.into_iter().enumerate() {
            assert_eq!(b.recv().err(), Some(Errno::AGAIN), "{i}");
            send(&a.fd, &[byte], SendFlags::empty()).unwrap();
        }
        assert_eq!(b.packet(), b"abc");
        // What is cut off by the end is no packet.
        send(&a.fd, &bytes[..5], SendFlags::empty()).unwrap();
        drop(a);
        assert_eq!(b.packet(), b"");
    }

    #[test]
    fn lengths_out_of_bounds_and_too_many_descriptors_are_refused() {
        let (a, mut b) = pair();
        let length = (PACKET_BYTES_MAX as u32 + 1).to_le_bytes();
        send(&a.fd, &length, SendFlags::empty()).unwrap();
        assert!(b.recv().unwrap().is_too_long);
        let (a, mut b) = pair();
        send(&a.fd, &[0; LENGTH], SendFlags::empty()).unwrap();
        assert_eq!(b.recv().unwrap().bytes, 0, "as if it were closed");
        let (a, mut b) = pair();
        let too_many = [a.fd.as_fd(); DESCRIPTORS_MAX + 1];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(60))];
        let mut control = SendAncillaryBuffer::new(&mut room);
        assert!(control.push(SendAncillaryMessage::ScmRights(&too_many)));
        sendmsg(
            &a.fd,
            &[IoSlice::new(b"x")],
            &mut control,
            SendFlags::empty(),
        )
        .unwrap();
        assert!(b.recv().unwrap().has_lost_descriptors);
    }

    #[test]
    fn packet_that_was_sent_in_part_ends_the_connection() {
        // An ordinary socket takes what there is room for.
        let (a, mut b) = pair();
        let mut sent = 0;
        let error = loop {
            match a.send(&[7; PACKET_BYTES_MAX], &[]) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        if error == Errno::AGAIN {
            // The room was a multiple of the packet: nothing was sent of the last one.
            return;
        }
        assert_eq!(error, Errno::PIPE);
        for _ in 0..sent {
            assert_eq!(b.packet(), [7; PACKET_BYTES_MAX]);
        }
        assert_eq!(b.packet(), b"");
    }
}
