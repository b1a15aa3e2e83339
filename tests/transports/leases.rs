//! A sample is out until its receiver lets go of it.

use super::*;
use mproc::{ErrorKind, Loan, PublishError, PublisherOptions, TryRecvError};

const NUMBERS: Topic<u64> = Topic::new("numbers");
const FRAMES: Topic<[u8]> = Topic::slices("frames");

#[test]
fn flush_waits_for_every_sample() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.flush(LONG).unwrap();
        for n in 0..5 {
            numbers.publish(n).unwrap();
        }
        let held: Vec<_> = (0..5).map(|_| recv(&subscription)).collect();
        assert_eq!(
            kind(numbers.flush(Duration::from_millis(10))),
            Some(ErrorKind::Timeout)
        );
        let flushes = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.flush(LONG))
        };
        drop(held);
        flushes.join().unwrap().unwrap();
        assert_eq!(numbers.snapshot().outstanding, 0);
    });
}

#[test]
fn leases_come_back_in_any_order() {
    both(|pair| {
        let frames = pair.publish.publisher(&FRAMES).unwrap();
        let subscription = pair.subscribe.subscription(&FRAMES).unwrap();
        pair.joined(&frames, 1);
        let publish = |n: u8| {
            let mut loan = frames.loan(1000).unwrap();
            loan.fill(n);
            loan.publish().unwrap();
        };
        (0..10).for_each(publish);
        let mut held: Vec<_> = (0..10).map(|_| recv(&subscription)).collect();
        // Every second goes back first, and its memory is used again.
        for n in [8, 6, 4, 2, 0] {
            drop(held.remove(n));
        }
        (10..40).for_each(|n| {
            publish(n);
            assert!(recv(&subscription).iter().all(|byte| *byte == n));
        });
        for (frame, n) in held.iter().zip([1, 3, 5, 7, 9]) {
            assert!(frame.iter().all(|byte| *byte == n));
        }
        drop(held);
        frames.flush(LONG).unwrap();
    });
}

#[test]
fn samples_in_flight_are_bounded() {
    both(|pair| {
        let a = pair.subscribe.subscription(&NUMBERS).unwrap();
        let b = pair.subscribe.subscription(&NUMBERS).unwrap();
        // Whoever may lose samples holds nobody back.
        let lossy = options(1, WhenFull::DropOldest);
        let lossy = pair.subscribe.subscription_with(&NUMBERS, lossy).unwrap();
        let options = PublisherOptions::new().in_flight(1);
        let numbers = pair.publish.publisher_with(&NUMBERS, options).unwrap();
        pair.joined(&numbers, 3);
        numbers.publish(1).unwrap();
        let (first, at_b) = (recv(&a), recv(&b));
        assert!(matches!(
            numbers.try_publish(2),
            Err(PublishError::Full { .. })
        ));
        drop(at_b);
        assert!(matches!(
            numbers.publish_timeout(2, Duration::from_millis(10)),
            Err(PublishError::Timeout { .. })
        ));
        let waits = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.publish(2))
        };
        drop(first);
        waits.join().unwrap().unwrap();
        assert_eq!((*recv(&a), *recv(&b), *recv(&lossy)), (2, 2, 2));
    });
}

#[test]
fn a_clone_keeps_the_lease() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&FRAMES).unwrap();
        let frames = pair.publisher(&FRAMES, 1);
        let mut loan = frames.loan(10).unwrap();
        loan.fill(1);
        loan.publish().unwrap();
        let sample = recv(&subscription);
        let clone = sample.clone();
        drop(sample);
        assert!(frames.flush(Duration::from_millis(1)).is_err());
        assert_eq!(*clone, [1; 10]);
        drop(clone);
        frames.flush(LONG).unwrap();
    });
}

#[test]
fn a_bound_on_leases_holds() {
    both(|pair| {
        let two = SubscriptionOptions::new().max_leases(2);
        let subscription = pair.subscribe.subscription_with(&NUMBERS, two).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..4 {
            numbers.publish(n).unwrap();
        }
        let (first, second) = (recv(&subscription), recv(&subscription));
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
        assert_eq!(subscription.snapshot().held, 2);
        let waits = std::thread::spawn(move || {
            let sample = recv(&subscription);
            (*sample, subscription)
        });
        drop(first);
        let (third, subscription) = waits.join().unwrap();
        assert_eq!((*second, third), (1, 2));
        assert_eq!(*recv(&subscription), 3);
    });
}

#[test]
fn samples_outlive_subscription_publisher_and_nodes() {
    both(|pair| {
        let sample = {
            let subscription = pair.subscribe.subscription(&FRAMES).unwrap();
            let frames = pair.publisher(&FRAMES, 1);
            let mut loan = frames.loan(100_000).unwrap();
            loan.fill(9);
            loan.publish().unwrap();
            recv(&subscription)
        };
        assert!(pair.publish.shutdown(LONG).is_clean());
        assert!(pair.subscribe.shutdown(LONG).is_clean());
        assert!(sample.iter().all(|byte| *byte == 9));
    });
}

#[test]
fn a_loan_that_is_not_published_comes_back() {
    both(|pair| {
        let subscription = pair
            .subscribe
            .subscription_with(&FRAMES, options(1, WhenFull::Wait))
            .unwrap();
        let frames = pair.publisher(&FRAMES, 1);
        for _ in 0..100 {
            // Dropped.
            let _loan = frames.loan(100_000).unwrap();
        }
        let filled = |n: u8| {
            let mut loan = frames.loan(100_000).unwrap();
            loan.fill(n);
            loan
        };
        filled(1).publish().unwrap();
        // Refused: it comes back as it was filled, and can be published later.
        let loan: Loan<[u8]> = match filled(2).try_publish() {
            Err(PublishError::Full { value, .. }) => value,
            other => panic!("{other:?}"),
        };
        assert!(loan.iter().all(|byte| *byte == 2));
        assert_eq!(recv(&subscription)[0], 1);
        loan.publish().unwrap();
        assert_eq!(recv(&subscription)[99_999], 2);
    });
}

#[test]
fn memory_that_is_short_is_waited_for() {
    // Room for about eight frames. In one process there is no such bound.
    let pair = Pair::between_with(|domain| domain.topic_bytes(1 << 20));
    let subscription = pair
        .subscribe
        .subscription_with(&FRAMES, options(1000, WhenFull::Wait))
        .unwrap();
    let frames = pair.publisher(&FRAMES, 1);
    let publisher = std::thread::spawn(move || {
        for n in 0..200_u8 {
            let mut loan = frames.loan(100_000).unwrap();
            loan.fill(n);
            loan.publish().unwrap();
        }
        frames
    });
    for n in 0..200_u8 {
        let frame = recv(&subscription);
        assert!(frame.iter().all(|byte| *byte == n));
    }
    let frames = publisher.join().unwrap();
    // More than there can ever be is refused at once, and says so.
    let error = frames.loan(3 << 20).err().unwrap();
    assert!(error.to_string().contains("frames"), "{error}");
}

#[test]
fn values_wait_for_memory_too() {
    const TEXTS: Topic<String> = Topic::new("texts");
    let pair = Pair::between_with(|domain| domain.topic_bytes(1 << 20));
    let subscription = pair
        .subscribe
        .subscription_with(&TEXTS, options(1000, WhenFull::Wait))
        .unwrap();
    let texts = pair.publisher(&TEXTS, 1);
    let held: Vec<_> = (0..)
        .map_while(|n| {
            // Of two sizes, so that memory goes from one to the other.
            let text = format!("{n}").repeat(50_000);
            texts.try_publish(text).ok()
        })
        .map(|_| recv(&subscription))
        .collect();
    assert!(!held.is_empty());
    match texts.publish_timeout("x".repeat(100_000), Duration::from_millis(10)) {
        Err(PublishError::Timeout { value, full }) => {
            assert_eq!(value.len(), 100_000);
            assert!(full[0].contains("memory"), "{full:?}");
        }
        other => panic!("{other:?}"),
    }
    let waits = {
        let texts = texts.clone();
        std::thread::spawn(move || texts.publish("y".repeat(100_000)))
    };
    drop(held);
    waits.join().unwrap().unwrap();
    assert_eq!(recv(&subscription).len(), 100_000);
    match texts.publish("z".repeat(3 << 20)) {
        Err(PublishError::Refused { value, error }) => {
            assert_eq!(value.len(), 3 << 20);
            assert!(error.to_string().contains("texts"), "{error}");
        }
        other => panic!("{other:?}"),
    }
}

/// Memory has slots of one size, and goes from one size to another when the budget is short: it once stayed with the first.
#[test]
fn sizes_of_all_kinds_take_turns_in_one_budget() {
    let pair = Pair::between_with(|domain| domain.topic_bytes(1 << 20));
    let subscribe = |leases| {
        let options = options(1000, WhenFull::Wait).max_leases(leases);
        let joined = pair.subscribe.subscription_with(&FRAMES, options);
        joined.unwrap()
    };
    let (slow, fast) = (subscribe(1), subscribe(16));
    let frames = pair.publisher(&FRAMES, 2);
    let size = |n: u32| match n % 7 {
        0 => 100,
        1 => 900_000,
        2 => 30_000 + n as usize,
        3 => 300_000,
        // Small ones fill memory up, and then a large one comes.
        _ => 100 * (1 << (n.wrapping_mul(0x9e37_79b9) >> 29)),
    };
    const COUNT: u32 = 400;
    let check = |frame: &[u8], n: u32| {
        assert_eq!(frame.len(), size(n), "frame {n}");
        assert!(frame.iter().all(|byte| *byte == n as u8), "frame {n}");
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..COUNT {
                let frame = recv(&slow);
                for _ in 0..5 {
                    check(&frame, n);
                }
            }
        });
        scope.spawn(|| {
            let mut held = std::collections::VecDeque::new();
            for n in 0..COUNT {
                // What it holds must not be what the publisher waits for.
                let frame = match fast.try_recv() {
                    Ok(frame) => frame,
                    Err(_) => {
                        held.clear();
                        recv(&fast)
                    }
                };
                check(&frame, n);
                held.push_back((frame, n));
                if held.len() > 3 {
                    let (oldest, n) = held.pop_front().unwrap();
                    check(&oldest, n);
                }
            }
        });
        for n in 0..COUNT {
            let mut loan = frames.loan(size(n)).unwrap();
            loan.fill(n as u8);
            loan.publish().unwrap();
        }
    });
    frames.flush(LONG).unwrap();
}
