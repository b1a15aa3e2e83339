//! What an idle processor costs, by the allocator's own count: everything that is allocated between two moments, whoever does it.
//!
//! A binary of its own, since the allocator counts for the whole process.

#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one only counts, and leaves the rest to the system's"
)]

use mproc_runtime::{Address, Cx, ErrorKind, Handle, Options, Outcome, Processor, Runtime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};
use std::time::Duration;

struct Counting;

/// Bytes that are allocated now, with what an allocator adds to each piece.
static BYTES: AtomicIsize = AtomicIsize::new(0);

/// As glibc does it: a word in front, and chunks of 16 bytes, at least two.
fn with_overhead(layout: Layout) -> isize {
    let chunk = (layout.size() + 8).next_multiple_of(16).max(32);
    let apart = layout.align().saturating_sub(16);
    isize::try_from(chunk + apart).unwrap()
}

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.fetch_add(with_overhead(layout), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        BYTES.fetch_sub(with_overhead(layout), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const COUNT: usize = 20_000;
const BYTES_MAX: usize = 256;

/// A state of 8 bytes.
struct Quiet(Arc<AtomicU64>);

impl Processor for Quiet {}

impl Handle<u64> for Quiet {
    type Reply = ();
    fn handle(&mut self, n: u64, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.fetch_add(n, Ordering::Relaxed);
        Ok(())
    }
}

fn allocated() -> usize {
    usize::try_from(BYTES.load(Ordering::Relaxed)).unwrap()
}

/// Spawns this many, and sends each a message; they are idle again afterwards. Few at a time: a driver keeps the room of the longest
/// backlog that it has had, which is no processor's.
fn spawn(node: &Runtime, count: usize) {
    let sum = Arc::new(AtomicU64::new(0));
    let many = node.driver("many").unwrap();
    for n in 0..count {
        let address = many.spawn(&format!("processor {n}"), Quiet(sum.clone()));
        address.unwrap().send(1).unwrap();
        settle_now_and_then(node, n);
    }
    node.settle();
    assert_eq!(sum.load(Ordering::Relaxed), count as u64);
}

fn settle_now_and_then(node: &Runtime, n: usize) {
    if n % 100 == 99 {
        node.settle();
    }
}

fn nth(node: &Runtime, n: usize) -> Result<Address<Quiet>, mproc_runtime::Error> {
    node.lookup::<Quiet>(&format!("processor {n}"))
}

#[test]
fn an_idle_processor_costs_no_more_than_256_bytes_and_gives_them_back() {
    let node = Runtime::with_options(Options::default());
    // What a node and a driver cost is not asked here.
    let warm = node.driver("warm").unwrap();
    let sum = Arc::new(AtomicU64::new(0));
    let first = warm.spawn("first", Quiet(sum)).unwrap();
    first.send(1).unwrap();
    node.settle();

    let before = allocated();
    spawn(&node, COUNT);
    let each = (allocated() - before) / COUNT;
    println!("{each} bytes for an idle processor");
    assert!(each <= BYTES_MAX, "{each} bytes");

    // A second message finds a processor that has given everything back; then it is as small as before.
    for n in 0..COUNT {
        nth(&node, n).unwrap().send(1).unwrap();
        settle_now_and_then(&node, n);
    }
    node.settle();
    let again = (allocated() - before) / COUNT;
    assert!(again <= BYTES_MAX, "{again} bytes");
    let snapshot = nth(&node, COUNT - 1).unwrap().snapshot();
    assert_eq!((snapshot.received, snapshot.handled), (2, 2));

    // Every second one ends: the others are still there, and what the first had is given back.
    for n in (0..COUNT).step_by(2) {
        let address = nth(&node, n).unwrap();
        // Watched from before it ends: who is told then is told last, when its name is free.
        let mut ended = address.ended();
        ended.begin();
        address.stop();
        ended.wait().unwrap();
        assert_eq!(nth(&node, n).unwrap_err().kind(), ErrorKind::NotFound);
    }
    nth(&node, COUNT - 1).unwrap();
    for n in (1..COUNT).step_by(2) {
        nth(&node, n).unwrap().stop();
    }
    node.settle();
    while node.snapshot().processors.len() > 1 {
        node.settle();
    }
    let left = allocated().saturating_sub(before) / COUNT;
    assert!(left <= 8, "{left} bytes are left of each");
    drop(first);
    let report = node.shutdown(Duration::from_secs(5));
    assert!(report.is_clean(), "{report}");
}
