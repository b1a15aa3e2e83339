//! What a processor used is given back when it has ended. In a file of its own, as it counts what the whole process allocates.

use mproc::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

static BYTES_LIVE: AtomicIsize = AtomicIsize::new(0);

struct Counting;

// SAFETY: it is the system's allocator; counting touches no memory that was given out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES_LIVE.fetch_add(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        BYTES_LIVE.fetch_sub(layout.size() as isize, Ordering::Relaxed);
        // SAFETY: the caller's promise is the same, and `alloc` has it from there.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that are left of a node in which one processor after the other has ended. Its threads have ended, too.
fn bytes_left_of_a_node(processors: usize) -> isize {
    let before = BYTES_LIVE.load(Ordering::SeqCst);
    let node = Node::with_options(mproc::Options::default());
    let driver = node.driver("driver").unwrap();
    // Kept until the driver has let go of them, so that the last hold is this thread's.
    let mut all = Vec::new();
    for n in 0..processors {
        let brief = closure(|_: [u64; 4], _cx| ());
        let brief = driver.spawn(&format!("brief {n}"), brief).unwrap();
        for n in 0..500 {
            brief.send([n; 4]).unwrap();
        }
        brief.drain();
        brief.ended().wait().unwrap();
        all.push(brief);
    }
    assert!(node.shutdown(Duration::from_secs(20)).is_clean());
    drop((all, driver, node));
    BYTES_LIVE.load(Ordering::SeqCst) - before
}

/// The buffers of a processor were never given back if its last address was dropped by another thread than its driver's.
#[test]
fn an_ended_processor_leaves_no_memory_behind() {
    // What is allocated once for the whole process.
    bytes_left_of_a_node(5);
    let left = bytes_left_of_a_node(205) - bytes_left_of_a_node(5);
    assert!(left < 200 * 64, "200 processors have left {left} bytes");
}
