//! Subscriptions that are pulled: select, channels, receivers that wait.

use crate::{NUMBERS, SECOND, WORDS, assert_conserved, options, roomy};
use mproc::prelude::*;
use mproc::{DropCause, RecvError, select};

#[test]
fn select_over_two_types_takes_turns() {
    let node = Node::simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let words = node.subscription(&WORDS).unwrap();
    let both: [&dyn mproc::Selectable; 2] = [&numbers, &words];
    assert_eq!(select(&both, None, SECOND), Err(RecvError::Timeout));
    node.publisher(&WORDS).unwrap().publish("a".into()).unwrap();
    assert_eq!(select(&both, None, SECOND), Ok(1));
    node.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    assert_eq!(select(&both, None, SECOND), Ok(0));
    assert_eq!(select(&both, Some(0), SECOND), Ok(1));
    assert_eq!(select(&both, Some(1), SECOND), Ok(0));
    assert_eq!(select(&[], None, SECOND), Err(RecvError::Closed));
}

#[test]
fn a_channel_bounds_queued_and_held_together() {
    let node = Node::simulated(1);
    let c = node.channel(&NUMBERS, options().capacity(2)).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish(0).unwrap();
    p.publish(1).unwrap();
    let held = c.try_recv().unwrap();
    assert!(p.try_publish(2).is_err());
    assert_conserved(&c.snapshot());
    drop(held);
    p.try_publish(2).unwrap();
    assert_eq!(c.try_iter().map(|n| *n).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_channel_that_drops_the_oldest_keeps_the_newest() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::DropOldest);
    let c = node.channel(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    assert_conserved(&c.snapshot());
    assert_eq!(c.snapshot().dropped.by(DropCause::Evicted), 3);
    assert_eq!(c.try_iter().map(|n| *n).collect::<Vec<_>>(), [3, 4]);
}

#[test]
fn the_first_sample_of_a_channel_after_a_drop_tells_the_gap() {
    let node = Node::simulated(1);
    let o = options().capacity(2).when_full(WhenFull::DropOldest);
    let c = node.channel(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    let seen: Vec<_> = c.try_iter().map(|n| (*n, n.gap())).collect();
    assert_eq!(seen, [(3, 3), (4, 0)]);
}

#[test]
fn a_cancelled_receive_consumes_nothing() {
    let node = Node::simulated(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    let waker = node.waker();
    for n in 0..3 {
        let mut pending = s.recv();
        let mut cx = std::task::Context::from_waker(&waker);
        assert!(std::pin::Pin::new(&mut pending).poll(&mut cx).is_pending());
        p.publish(n).unwrap(); // it is woken, and cancelled before it looks
        drop(pending);
        assert_eq!(*s.try_recv().unwrap(), n);
    }
    assert_eq!(s.snapshot().taken, 3);
}

#[test]
fn a_receiver_that_takes_a_sample_leaves_no_other_asleep() {
    let node = roomy(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    let waker = node.waker();
    let mut cx = std::task::Context::from_waker(&waker);
    let (mut first, mut second) = (s.recv(), s.recv());
    assert!(std::pin::Pin::new(&mut first).poll(&mut cx).is_pending());
    assert!(std::pin::Pin::new(&mut second).poll(&mut cx).is_pending());
    p.publish(0).unwrap();
    p.publish(1).unwrap();
    // Out of turn: the second looks before the first, whose turn it was.
    assert_eq!(*second.wait_timeout(SECOND).unwrap(), 0);
    assert_eq!(*first.wait_timeout(SECOND).unwrap(), 1);
}
