//! One sample for all, in order; what it carries, and how long it lives.

use crate::{NUMBERS, PRECIOUS, Precious, WORDS, options};
use mproc::PublishError;
use mproc::prelude::*;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

#[test]
fn all_subscribers_share_one_sample() {
    let node = Node::simulated(1);
    let a = node.subscription(&WORDS).unwrap();
    let b = node.subscription(&WORDS).unwrap();
    let words = node.publisher(&WORDS).unwrap();
    assert_eq!(words.publish("hello".into()).unwrap().count, 2);
    let (a, b) = (a.try_recv().unwrap(), b.try_recv().unwrap());
    assert!(std::ptr::eq::<String>(&*a, &*b));
    assert_eq!(a.publisher(), words.id());
    assert_ne!(a.subscription(), b.subscription());
}

#[test]
fn samples_arrive_in_order_without_gaps() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let _subscriber = node
        .subscribe(&NUMBERS, move |n| {
            tell.send((*n, n.sequence(), n.gap())).unwrap();
        })
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    for n in 0..500 {
        numbers.publish(n).unwrap();
    }
    node.settle();
    let expected: Vec<_> = (0..500).map(|n| (n, u64::from(n), 0)).collect();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn many_threads_on_one_publisher_give_unique_sequence_numbers_without_gaps() {
    let node = Node::new().unwrap();
    let all = node
        .subscription_with(&NUMBERS, options().capacity(400))
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..100).for_each(|n| assert_eq!(numbers.publish(n).unwrap().count, 1)));
        }
    });
    let sequence: Vec<_> = all.try_iter().map(|s| s.sequence()).collect();
    assert_eq!(sequence, (0..400).collect::<Vec<_>>());
}

#[test]
fn a_sample_stays_unchanged_after_its_publisher_is_gone() {
    let node = Node::simulated(1);
    let s = node.subscription(&WORDS).unwrap();
    let p = node.publisher(&WORDS).unwrap();
    p.publish("first".into()).unwrap();
    let held = s.try_recv().unwrap();
    let at: *const String = &*held;
    p.publish("second".into()).unwrap();
    p.close();
    assert!(matches!(
        p.publish("x".into()),
        Err(PublishError::Closed(_))
    ));
    drop(p);
    assert_eq!((held.as_str(), &*held as *const String), ("first", at));
    assert_eq!(*s.try_recv().unwrap(), "second"); // queued ones are delivered all the same
}

#[test]
fn into_owned_moves_for_the_last_holder_and_clones_otherwise() {
    let node = Node::simulated(1);
    let clones = Arc::new(AtomicUsize::new(0));
    let a = node.subscription(&PRECIOUS).unwrap();
    let b = node.subscription(&PRECIOUS).unwrap();
    let p = node.publisher(&PRECIOUS).unwrap();
    p.publish(Precious(clones.clone())).unwrap();
    drop(a.try_recv().unwrap().into_owned());
    assert_eq!(clones.load(Ordering::SeqCst), 1);
    drop(b.try_recv().unwrap().into_owned());
    assert_eq!(clones.load(Ordering::SeqCst), 1);
}

#[test]
fn a_value_is_encoded_once_for_all_its_samples() {
    let node = Node::simulated(1);
    let a = node.subscription(&WORDS).unwrap();
    let b = node.subscription(&WORDS).unwrap();
    node.publisher(&WORDS)
        .unwrap()
        .publish("hi".into())
        .unwrap();
    let (a, b) = (a.try_recv().unwrap(), b.try_recv().unwrap());
    assert!(std::ptr::eq(a.encoded().unwrap(), b.encoded().unwrap()));
    assert_eq!(*WORDS.decode(a.encoded().unwrap()).unwrap(), "hi");
    let p = node.subscription(&PRECIOUS).unwrap();
    let precious = node.publisher(&PRECIOUS).unwrap();
    precious.publish(Precious(Arc::default())).unwrap();
    assert!(p.try_recv().unwrap().encoded().is_err());
}

#[test]
fn parts_travel_with_the_value_in_order() {
    let node = Node::simulated(1);
    let s = node.subscription(&NUMBERS).unwrap();
    let p = node.publisher(&NUMBERS).unwrap();
    p.publish_with_parts(1, vec![b"one".to_vec(), Vec::new(), b"three".to_vec()])
        .unwrap();
    let sample = s.try_recv().unwrap();
    let parts: Vec<_> = sample.parts().collect();
    assert_eq!(parts, [&b"one"[..], b"", b"three"]);
}

#[test]
fn a_loan_is_read_in_place_and_comes_back_if_there_is_no_room() {
    const FRAMES: Topic<[u8]> = Topic::slices("frames");
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&FRAMES, SubscriptionOptions::new().capacity(1))
        .unwrap();
    let p = node.publisher(&FRAMES).unwrap();
    let mut loan = p.loan(3).unwrap();
    loan.copy_from_slice(b"RGB");
    let memory = loan.as_ptr();
    loan.publish().unwrap();
    let mut second = p.loan(2).unwrap();
    second.copy_from_slice(b"ab");
    let second = second.try_publish().unwrap_err().into_inner().unwrap();
    assert_eq!(&*second, b"ab");
    let sample = s.try_recv().unwrap();
    assert_eq!((&*sample, sample.as_ptr()), (&b"RGB"[..], memory));
    second.publish().unwrap();
    assert_eq!(&*s.try_recv().unwrap(), b"ab");
}
