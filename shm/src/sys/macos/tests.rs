//! What stands for seals.

use super::{Name, create, open};
use crate::error::SegmentErrorKind;
use crate::sync::{AtomicU64, Relaxed};
use memmap2::MmapOptions;
use std::os::fd::AsFd;

#[test]
fn a_data_segment_is_mapped_for_writing_by_its_owner_only_and_never_shrinks() {
    let (fd, map) = create("data segment", 8192, false).unwrap();
    map.word::<AtomicU64>(4096).store(7, Relaxed);
    let reader = open("data segment", fd.as_fd(), 8192, false).unwrap();
    assert_eq!(reader.word::<AtomicU64>(4096).load(Relaxed), 7);
    map.word::<AtomicU64>(4096).store(8, Relaxed);
    assert_eq!(reader.word::<AtomicU64>(4096).load(Relaxed), 8);
    assert!(MmapOptions::new().len(8192).map_raw(&fd).is_err());
    let (link, _map) = create("link segment", 8192, true).unwrap();
    for fd in [fd, link] {
        for len in [0, 4096, 65536] {
            assert!(rustix::fs::ftruncate(&fd, len).is_err());
        }
    }
}

#[test]
fn a_link_is_written_by_both() {
    let (fd, map) = create("link segment", 4096, true).unwrap();
    let other = open("link segment", fd.as_fd(), 4096, true).unwrap();
    other.word::<AtomicU64>(8).store(7, Relaxed);
    assert_eq!(map.word::<AtomicU64>(8).load(Relaxed), 7);
}

#[test]
fn a_file_or_memory_that_is_too_short_is_not_mapped() {
    let file = std::env::current_exe().and_then(std::fs::File::open);
    let refused = open("link segment", file.unwrap().as_fd(), 4096, true).unwrap_err();
    assert!(matches!(refused.kind(), SegmentErrorKind::Unsealed));
    let (fd, _map) = create("link segment", 4096, true).unwrap();
    let refused = open("link segment", fd.as_fd(), 1 << 20, true).unwrap_err();
    assert!(matches!(refused.kind(), SegmentErrorKind::Size { .. }));
}

#[test]
fn names_differ_and_fit() {
    let (a, b) = (Name::random().unwrap(), Name::random().unwrap());
    assert_ne!(a.0, b.0);
    assert!(a.0.len() <= super::NAME_BYTES_MAX);
}

#[test]
fn the_hosts_clock_does_not_go_back() {
    let first = super::monotonic_ns();
    assert!(first > 0 && super::monotonic_ns() >= first);
}
