//! Completion against cancellation against drop, in every interleaving of two threads: a call that stands in line for the one
//! place of a mailbox, the driver that makes room and answers, and whoever has the ticket.
//!
//! A lost wake-up leaves a model's thread parked for ever, which the checker reports as a deadlock.

use crate::mailbox::MailboxOptions;
use crate::sync::thread;
use crate::{Address, CallError, Cx, Handle, Manual, Options, Outcome, Processor, Runtime, Ticket};
use std::time::Duration;

struct Count;

#[derive(Default)]
struct Counter(u32);

impl Processor for Counter {}

impl Handle<Count> for Counter {
    type Reply = u32;
    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.0 += 1;
        Ok(self.0)
    }
}

/// A node, its driver, and a processor whose only place is taken.
fn full() -> (Manual, Address<Counter>) {
    // Its end is not what is looked at here.
    let node = Runtime::with_options(Options::default());
    let unguarded = node.without_guard();
    std::mem::forget(node);
    let manual = unguarded.manual("m").unwrap();
    let one = MailboxOptions::bounded(1);
    let counter = manual.spawn("counter", one, Counter::default()).unwrap();
    counter.try_send(Count).unwrap();
    (manual, counter)
}

/// As [`full`], and a call that stands in line for the place.
fn in_line() -> (Manual, Address<Counter>, Ticket<u32>) {
    let (manual, counter) = full();
    let ticket = counter.call(Count).start();
    assert!(!ticket.is_done());
    (manual, counter, ticket)
}

/// Handles all that comes until `other` is over, and returns how many messages were handled.
fn handle_all(manual: &Manual, counter: &Address<Counter>, other: thread::JoinHandle<()>) -> u32 {
    while manual.spin_some(8).unwrap().handled > 0 {}
    other.join().unwrap();
    while manual.spin_some(8).unwrap().handled > 0 {}
    // No place is lost, and none is kept for somebody who is gone.
    assert!(counter.try_send(Count).is_ok());
    while manual.spin_some(8).unwrap().handled > 0 {}
    manual.enter(counter, |counter, _| counter.0).unwrap() - 1
}

#[test]
fn loom_a_started_call_that_is_cancelled_is_answered_or_leaves_nothing() {
    loom::model(|| {
        let (manual, counter, mut ticket) = in_line();
        let canceller = thread::spawn(move || {
            if !ticket.cancel() {
                assert_eq!(ticket.wait().ok(), Some(2));
            }
        });
        let handled = handle_all(&manual, &counter, canceller);
        assert!(handled == 1 || handled == 2);
        drop(manual);
    });
}

#[test]
fn loom_a_started_call_that_is_dropped_leaves_nothing() {
    loom::model(|| {
        let (manual, counter, ticket) = in_line();
        let dropper = thread::spawn(move || drop(ticket));
        let handled = handle_all(&manual, &counter, dropper);
        assert!(handled == 1 || handled == 2);
        drop(manual);
    });
}

#[test]
fn loom_a_started_call_that_is_detached_is_handled() {
    loom::model(|| {
        let (manual, counter, ticket) = in_line();
        let detacher = thread::spawn(move || ticket.detach());
        assert_eq!(handle_all(&manual, &counter, detacher), 2);
        drop(manual);
    });
}

#[test]
fn loom_a_cancel_that_waits_returns_when_nothing_goes_on() {
    loom::model(|| {
        let (manual, counter, mut ticket) = in_line();
        let canceller = thread::spawn(move || {
            assert!(ticket.cancel_and_wait(Duration::MAX));
        });
        while manual.spin_some(8).unwrap().handled > 0 {}
        canceller.join().unwrap();
        let before = manual.enter(&counter, |counter, _| counter.0).unwrap();
        while manual.spin_some(8).unwrap().handled > 0 {}
        // Whoever waited has been told the truth: nothing of the call was handled afterwards.
        assert_eq!(
            manual.enter(&counter, |counter, _| counter.0).unwrap(),
            before
        );
        drop(manual);
    });
}

#[test]
fn loom_whoever_waits_for_a_started_call_gets_its_answer() {
    loom::model(|| {
        let (manual, counter, ticket) = in_line();
        let waiter = thread::spawn(move || ticket.wait());
        while manual.enter(&counter, |counter, _| counter.0).unwrap() < 2 {
            let _ran = manual.spin_once(Duration::MAX).unwrap();
        }
        assert_eq!(waiter.join().unwrap().ok(), Some(2));
        drop(manual);
    });
}

/// The place comes before, while or after the call gets into line for it.
#[test]
fn loom_a_call_that_is_started_while_room_comes_takes_the_place() {
    loom::model(|| {
        let (manual, counter) = full();
        let to = counter.clone();
        let starter = thread::spawn(move || to.call(Count).start().detach());
        assert_eq!(handle_all(&manual, &counter, starter), 2);
        drop(manual);
    });
}

/// The processor ends while its room is waited for: the ticket says so, however it is waited for.
#[test]
fn loom_a_started_call_is_told_of_the_end() {
    loom::model(|| {
        let (manual, counter, ticket) = in_line();
        let waiter = thread::spawn(move || ticket.wait());
        counter.kill();
        let down = manual.spin_until(&mut counter.ended(), Duration::MAX);
        assert!(down.unwrap().is_some());
        assert!(matches!(waiter.join().unwrap(), Err(CallError::Stopped(_))));
        drop(manual);
    });
}
