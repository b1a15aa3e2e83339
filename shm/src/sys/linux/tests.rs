//! What seals are for.

use super::{create, open};
use crate::error::SegmentErrorKind;
use crate::sync::{AtomicU64, Relaxed};
use memmap2::MmapOptions;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::Errno;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

#[test]
fn a_data_segment_can_be_written_by_its_owner_only_and_never_shrinks() {
    let (fd, map) = create("data segment", 8192, false).unwrap();
    map.word::<AtomicU64>(4096).store(7, Relaxed);
    let reader = open("data segment", fd.as_fd(), 8192, false).unwrap();
    assert_eq!(reader.word::<AtomicU64>(4096).load(Relaxed), 7);
    map.word::<AtomicU64>(4096).store(8, Relaxed);
    assert_eq!(
        reader.word::<AtomicU64>(4096).load(Relaxed),
        8,
        "the old mapping still writes"
    );
    assert!(MmapOptions::new().len(8192).map_raw(&fd).is_err());
    for len in [0, 4096, 16384] {
        assert_eq!(ftruncate(&fd, len), Err(Errno::PERM));
    }
    assert_eq!(fcntl_add_seals(&fd, SealFlags::WRITE), Err(Errno::PERM));
    let again = OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    assert!(again.and_then(|mut file| file.write_all(b"x")).is_err());
}

#[test]
fn the_hosts_clock_does_not_go_back() {
    let first = super::monotonic_ns();
    assert!(first > 0 && super::monotonic_ns() >= first);
}

#[test]
fn a_file_that_is_not_sealed_or_not_as_long_as_agreed_is_not_mapped() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let loose = memfd_create("loose", flags).unwrap();
    ftruncate(&loose, 4096).unwrap();
    let unsealed = |fd: &dyn AsFd| {
        let refused = open("link segment", fd.as_fd(), 4096, true).unwrap_err();
        matches!(refused.kind(), SegmentErrorKind::Unsealed)
    };
    assert!(unsealed(&loose));
    let file = std::env::current_exe().and_then(std::fs::File::open);
    assert!(unsealed(&file.unwrap()), "no memory at all");
    // A link is not sealed against writers: it is no data segment.
    let (link, _map) = create("link segment", 4096, true).unwrap();
    let refused = open("data segment", link.as_fd(), 4096, false).unwrap_err();
    assert!(matches!(refused.kind(), SegmentErrorKind::Unsealed));
    let refused = open("link segment", link.as_fd(), 8192, true).unwrap_err();
    let sizes = "cannot open link segment: it has 4096 bytes, 8192 were agreed";
    assert_eq!(refused.to_string(), sizes);
}
