//! History for those who come late, pauses, filters.

use crate::{NUMBERS, SECOND, assert_conserved, options, roomy, values};
use mproc::prelude::*;
use mproc::{PublishError, PublisherOptions, TryRecvError};
use std::sync::mpsc;

#[test]
fn a_late_subscriber_gets_history_then_live_samples_none_twice() {
    for (published, depth, capacity) in [(2_u32, 3_usize, 64_usize), (9, 3, 64), (9, 5, 2)] {
        let node = Node::simulated(1);
        let o = PublisherOptions::new().history(depth);
        let p = node.publisher_with(&NUMBERS, o).unwrap();
        (0..published).for_each(|n| drop(p.publish(n).unwrap()));
        let s = node
            .subscription_with(&NUMBERS, options().capacity(capacity))
            .unwrap();
        let first = (published as usize).min(depth).min(capacity) as u32;
        let mut seen = values(&s);
        p.publish(published).unwrap();
        seen.extend(values(&s));
        let expected: Vec<_> = (published - first..=published).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_paused_subscription_fills_and_then_its_policy_applies() {
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&NUMBERS, options().capacity(2))
        .unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    s.pause();
    p.publish(0).unwrap();
    p.publish(1).unwrap();
    assert!(p.try_publish(2).is_err());
    assert_eq!(s.try_recv().unwrap_err(), TryRecvError::Empty);
    assert!(s.snapshot().paused);
    s.resume();
    assert_eq!(values(&s), [0, 1]);
}

#[test]
fn a_paused_processor_subscription_goes_on_in_order() {
    let node = roomy(1);
    let (tell, told) = mpsc::channel();
    let s = node.subscribe(&NUMBERS, move |n| tell.send(*n).unwrap());
    let s = s.unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    s.control().pause();
    (0..5).for_each(|n| drop(p.publish(n).unwrap()));
    node.settle();
    assert_eq!(told.try_iter().count(), 0);
    s.control().resume();
    node.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_conserved(&s.control().snapshot().unwrap());
}

#[test]
fn a_paused_publisher_or_node_waits_until_it_is_resumed() {
    let node = roomy(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.pause();
    assert!(p.try_publish(0).is_err());
    assert!(matches!(
        p.publish_timeout(0, SECOND),
        Err(PublishError::Timeout { .. })
    ));
    p.resume();
    p.try_publish(1).unwrap();
    node.pause();
    assert!(p.try_publish(2).is_err());
    node.resume();
    p.try_publish(3).unwrap();
    assert_eq!(values(&s), [1, 3]);
}

#[test]
fn a_filter_runs_before_queueing_and_makes_no_gaps() {
    let node = Node::simulated(1);
    let o = options().capacity(5).filter(|n| n % 2 == 0);
    let s = node.subscription_with(&NUMBERS, o).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    (0..10).for_each(|n| drop(p.try_publish(n).unwrap()));
    assert!(p.try_publish(10).is_err());
    assert_eq!(p.try_publish(11).unwrap().count, 0);
    assert_eq!(s.snapshot().offered, 5);
    assert!(s.try_iter().all(|n| *n % 2 == 0 && n.gap() == 0));
}
