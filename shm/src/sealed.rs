//! Bytes that travel beside a packet, in memory of their own: for what is longer than a packet.
//!
//! Whoever has them writes once, seals, and sends the descriptor with the length. The receiver believes neither: it checks the
//! seals and the length of the file, maps it for reading, and copies. What it has copied nobody changes any more.

use crate::error::{SegmentError, SegmentErrorKind};
use crate::sys;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const WHAT: &str = "sealed bytes";

/// Bytes in a file without a name that cannot be made longer or shorter, or written to by others.
pub struct SealedBytes {
    fd: OwnedFd,
    bytes: u64,
}

impl SealedBytes {
    /// A copy of `bytes`, of which there is at least one.
    ///
    /// # Errors
    ///
    /// There are none, or the system has no memory or descriptor for them.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_shm::SealedBytes;
    /// use std::os::fd::AsFd;
    ///
    /// let sealed = SealedBytes::new(b"a report")?;
    /// let read = SealedBytes::read(sealed.as_fd(), sealed.bytes(), 1024)?;
    /// assert_eq!(read, b"a report");
    /// assert!(SealedBytes::read(sealed.as_fd(), sealed.bytes(), 4).is_err()); // longer than is allowed
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(bytes: &[u8]) -> Result<Self, SegmentError> {
        if bytes.is_empty() {
            let none = SegmentErrorKind::Geometry("the number of bytes");
            return Err(SegmentError::new("create", WHAT, none));
        }
        let (fd, mut map) = sys::create(WHAT, bytes.len(), false)?;
        map.fill(bytes);
        let bytes = bytes.len() as u64;
        Ok(Self { fd, bytes })
    }

    /// How many there are, to be sent with the descriptor.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies what another process has sealed. It says that there are `bytes`, of which at most `bytes_max` are taken.
    ///
    /// # Errors
    ///
    /// There are none or too many, the file is not sealed or has another length, or the system refused.
    pub fn read(fd: BorrowedFd<'_>, bytes: u64, bytes_max: u64) -> Result<Vec<u8>, SegmentError> {
        let count = usize::try_from(bytes).unwrap_or(usize::MAX);
        if bytes == 0 || bytes > bytes_max || count > isize::MAX as usize {
            let wrong = SegmentErrorKind::Geometry("the number of bytes");
            return Err(SegmentError::new("open", WHAT, wrong));
        }
        let map = sys::open(WHAT, fd, count, false)?;
        Ok(map.copied(count))
    }
}

/// The descriptor to send.
impl AsFd for SealedBytes {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedBytes({})", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_comes_back_as_it_was() {
        for count in [1, 7, 8, 9, 4095, 4096, 4097, 100_003] {
            let bytes: Vec<u8> = (0..count).map(|n| (n % 251) as u8).collect();
            let sealed = SealedBytes::new(&bytes).unwrap();
            let read = SealedBytes::read(sealed.as_fd(), sealed.bytes(), 1 << 20);
            assert_eq!(read.unwrap(), bytes);
        }
    }

    #[test]
    fn another_length_than_the_file_has_is_refused() {
        let sealed = SealedBytes::new(b"12345678").unwrap();
        for claimed in [0, 1, 7, 9, 4096, 1 << 20, (1 << 20) + 1, u64::MAX] {
            let read = SealedBytes::read(sealed.as_fd(), claimed, 1 << 20);
            assert!(read.is_err(), "{claimed}");
        }
        assert!(SealedBytes::new(b"").is_err());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_that_could_be_cut_off_is_refused() {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        let open = memfd_create("open", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&open, 8).unwrap();
        let refused = SealedBytes::read(open.as_fd(), 8, 8).unwrap_err();
        assert!(matches!(refused.kind(), SegmentErrorKind::Unsealed));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert!(SealedBytes::read(null.as_fd(), 8, 8).is_err());
    }
}
