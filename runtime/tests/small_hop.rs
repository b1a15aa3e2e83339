//! What a message between two of many processors costs the allocator: nothing.
//!
//! A binary of its own, since the allocator counts for the whole process.

#![allow(
    unsafe_code,
    reason = "an allocator is unsafe to write; this one only counts, and leaves the rest to the system's"
)]

use mproc_runtime::{Address, Cx, Handle, Options, Outcome, Processor, Runtime};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

struct Counting;

/// How often something was allocated.
static PIECES: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is passed on as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PIECES.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// So many that most of them are kept as one of many.
const MEMBERS: usize = 500;
const ROUNDS: u64 = 20;

/// Sends a token on, with one less to go.
struct Member {
    next: Option<Address<Self>>,
    done: Sender<()>,
}

struct Meet(Address<Member>);

impl Processor for Member {}

impl Handle<Meet> for Member {
    type Reply = ();
    fn handle(&mut self, Meet(next): Meet, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.next = Some(next);
        Ok(())
    }
}

impl Handle<u64> for Member {
    type Reply = ();
    fn handle(&mut self, left: u64, _: &mut Cx<'_, Self>) -> Outcome<()> {
        match (left.checked_sub(1), &self.next) {
            (Some(left), Some(next)) => next.send(left)?,
            _ => self.done.send(()).unwrap(),
        }
        Ok(())
    }
}

/// Sends a token around, and returns how many pieces were allocated meanwhile.
fn pieces_of_a_ring(first: &Address<Member>, done: &Receiver<()>) -> u64 {
    let before = PIECES.load(Ordering::Relaxed);
    first.send(ROUNDS * MEMBERS as u64 - 1).unwrap();
    done.recv_timeout(Duration::from_secs(60)).unwrap();
    PIECES.load(Ordering::Relaxed) - before
}

/// Each visit once made what belongs to a processor beside its state anew, in memory of its own.
#[test]
fn a_message_among_many_processors_allocates_nothing() {
    let node = Runtime::with_options(Options::default());
    let driver = node.driver("driver").unwrap();
    let (done, is_done) = channel();
    let member = |n| {
        let member = Member {
            next: None,
            done: done.clone(),
        };
        driver.spawn(&format!("member {n}"), member).unwrap()
    };
    let members: Vec<_> = (0..MEMBERS).map(member).collect();
    for (member, next) in members.iter().zip(members.iter().cycle().skip(1)) {
        member.call(Meet(next.clone())).wait().unwrap();
    }
    // Once around first, so that what a driver keeps is there.
    pieces_of_a_ring(&members[0], &is_done);
    let pieces = pieces_of_a_ring(&members[0], &is_done);
    let hops = ROUNDS * MEMBERS as u64;
    println!("{pieces} pieces for {hops} hops");
    // Not 0: the node's other threads may allocate.
    assert!(pieces < hops / 20, "{pieces} pieces for {hops} hops");
    node.settle();
    assert_eq!(members[MEMBERS - 1].snapshot().handled, 2 * ROUNDS + 1);
}
