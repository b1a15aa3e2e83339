//! What a full subscription does means the same everywhere, and gaps are exact.

use super::*;
use mproc::{ErrorKind, PublishError, RecvError, TryRecvError};

const NUMBERS: Topic<u64> = Topic::new("numbers");

/// The next values and the gaps before them; there are no more.
fn drain(subscription: &Subscription<u64>, count: usize) -> Vec<(u64, u64)> {
    // Between processes memory that is new has to be announced first, so what is queued may be there a little later.
    let next = (0..count).map(|_| recv(subscription));
    let got = next.map(|n| (*n, n.gap())).collect();
    assert!(subscription.try_recv().is_err());
    got
}

#[test]
fn wait_holds_the_publisher_back_and_names_who_is_full() {
    both(|pair| {
        let full = pair
            .subscribe
            .subscription_with(&NUMBERS, options(2, WhenFull::Wait))
            .unwrap();
        let free = pair
            .subscribe
            .subscription_with(&NUMBERS, options(100, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        for n in 0..2 {
            assert_eq!(numbers.try_publish(n).unwrap().count, 2);
        }
        match numbers.try_publish(2) {
            Err(PublishError::Full { value: 2, full }) => {
                assert_eq!(full.len(), 1);
                assert!(full[0].contains("numbers"), "{full:?}");
            }
            other => panic!("{other:?}"),
        }
        match numbers.publish_timeout(2, Duration::from_millis(10)) {
            Err(PublishError::Timeout { value: 2, .. }) => {}
            other => panic!("{other:?}"),
        }
        // Nobody got what was not published.
        assert_eq!(drain(&free, 2), [(0, 0), (1, 0)]);
        let waits = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.publish(2).map(|delivered| delivered.count))
        };
        assert_eq!(*recv(&full), 0);
        assert_eq!(waits.join().unwrap().unwrap(), 2);
        assert_eq!(take_all(&full, 2), [1, 2]);
        assert_eq!(take_all(&free, 1), [2]);
    });
}

#[test]
fn those_who_wait_have_their_turns() {
    both(|pair| {
        let one = pair
            .subscribe
            .subscription_with(&NUMBERS, options(1, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let threads: Vec<_> = (0..4)
            .map(|k| {
                let numbers = numbers.clone();
                std::thread::spawn(move || {
                    for n in 0..100 {
                        numbers.publish(k * 100 + n).unwrap();
                    }
                })
            })
            .collect();
        let mut all = take_all(&one, 400);
        all.sort();
        assert_eq!(all, (0..400).collect::<Vec<_>>());
        threads.into_iter().for_each(|t| t.join().unwrap());
    });
}

#[test]
fn lossy_policies_lose_what_they_say_and_count_it() {
    both(|pair| {
        let subscribe = |capacity, when_full| {
            pair.subscribe
                .subscription_with(&NUMBERS, options(capacity, when_full))
                .unwrap()
        };
        let oldest = subscribe(3, WhenFull::DropOldest);
        let newest = subscribe(3, WhenFull::DropNewest);
        let latest = subscribe(3, WhenFull::Latest);
        let fail = subscribe(3, WhenFull::Fail);
        let numbers = pair.publisher(&NUMBERS, 4);
        for n in 0..5 {
            let delivered = numbers.publish(n).unwrap();
            assert_eq!(
                delivered.refused.len(),
                usize::from(n >= 3),
                "{delivered:?}"
            );
        }
        assert_eq!(drain(&oldest, 3), [(2, 2), (3, 0), (4, 0)]);
        assert_eq!(drain(&newest, 3), [(0, 0), (1, 0), (2, 0)]);
        assert_eq!(drain(&latest, 1), [(4, 4)]);
        assert_eq!(drain(&fail, 3), [(0, 0), (1, 0), (2, 0)]);
        // What was lost at the end shows with the next that arrives.
        numbers.publish(5).unwrap();
        assert_eq!(drain(&oldest, 1), [(5, 0)]);
        assert_eq!(drain(&newest, 1), [(5, 2)]);
        assert_eq!(drain(&latest, 1), [(5, 0)]);
        assert_eq!(drain(&fail, 1), [(5, 2)]);
        for (subscription, lost) in [(&oldest, 2), (&newest, 2), (&latest, 4), (&fail, 2)] {
            let snapshot = subscription.snapshot();
            assert_eq!((snapshot.taken, snapshot.lost), (6 - lost, lost));
            assert_eq!(snapshot.queued, 0);
        }
    });
}

#[test]
fn disconnect_closes_the_subscription_after_what_was_queued() {
    both(|pair| {
        let subscription = pair
            .subscribe
            .subscription_with(&NUMBERS, options(2, WhenFull::Disconnect))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..2 {
            numbers.publish(n).unwrap();
        }
        let delivered = numbers.publish(2).unwrap();
        assert_eq!((delivered.count, delivered.refused.len()), (0, 1));
        assert_eq!(drain(&subscription, 2), [(0, 0), (1, 0)]);
        assert_eq!(
            subscription.recv_timeout(LONG).err(),
            Some(RecvError::Disconnected)
        );
        assert_eq!(
            subscription.try_recv().err(),
            Some(TryRecvError::Disconnected)
        );
    });
}

#[test]
fn a_filter_decides_before_anything_is_counted() {
    both(|pair| {
        let even = SubscriptionOptions::new().filter(|n: &u64| n.is_multiple_of(2));
        let even = pair.subscribe.subscription_with(&NUMBERS, even).unwrap();
        let all = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        for n in 0..10 {
            numbers.publish(n).unwrap();
        }
        assert_eq!(take_all(&all, 10), (0..10).collect::<Vec<_>>());
        for (number, n) in [0, 2, 4, 6, 8].into_iter().enumerate() {
            let sample = recv(&even);
            assert_eq!(
                (*sample, sample.number(), sample.gap()),
                (n, number as u64, 0)
            );
        }
    });
}

#[test]
fn a_paused_subscription_fills_and_goes_on() {
    both(|pair| {
        let subscription = pair
            .subscribe
            .subscription_with(&NUMBERS, options(2, WhenFull::DropOldest))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        subscription.pause();
        for n in 0..5 {
            numbers.publish(n).unwrap();
        }
        assert_eq!(subscription.try_recv().err(), Some(TryRecvError::Empty));
        subscription.resume();
        assert_eq!(recv(&subscription).gap(), 3);
        assert_eq!(*recv(&subscription), 4);
    });
}

#[test]
fn a_paused_publisher_waits() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.pause();
        assert!(matches!(
            numbers.try_publish(1),
            Err(PublishError::Full { .. })
        ));
        numbers.resume();
        pair.publish.pause();
        assert!(matches!(
            numbers.try_publish(1),
            Err(PublishError::Full { .. })
        ));
        pair.publish.resume();
        numbers.publish(1).unwrap();
        assert_eq!(*recv(&subscription), 1);
    });
}

#[test]
fn unsubscribing_lets_publishers_go_on() {
    both(|pair| {
        let full = pair
            .subscribe
            .subscription_with(&NUMBERS, options(1, WhenFull::Wait))
            .unwrap();
        let other = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        numbers.publish(0).unwrap();
        let waits = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.publish(1))
        };
        full.unsubscribe();
        waits.join().unwrap().unwrap();
        assert_eq!(take_all(&other, 2), [0, 1]);
        assert_eq!(numbers.publish(2).unwrap().count, 1);
    });
}

#[test]
fn what_a_closed_publisher_queued_is_delivered() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        for n in 0..3 {
            numbers.publish(n).unwrap();
        }
        numbers.close();
        assert!(matches!(numbers.publish(3), Err(PublishError::Closed(3))));
        assert_eq!(take_all(&subscription, 3), [0, 1, 2]);
        // Another may come.
        let again = pair.publisher(&NUMBERS, 1);
        again.publish(4).unwrap();
        assert_eq!(*recv(&subscription), 4);
    });
}

#[test]
fn a_publish_without_subscribers_is_nothing() {
    both(|pair| {
        let numbers = pair.publish.publisher(&NUMBERS).unwrap();
        assert_eq!(numbers.publish(1).unwrap().count, 0);
        assert_eq!(
            kind(numbers.wait_for_subscribers(1, Duration::from_millis(1))),
            Some(ErrorKind::Timeout)
        );
    });
}

// A link that was closed because its queue had overflowed was taken to have left its topic already, and so it stayed there for
// the life of the publisher's node: `subscriber_count` never fell.
#[test]
fn a_disconnected_subscription_leaves_its_publisher_when_its_owner_lets_go() {
    both(|pair| {
        let subscribe = || {
            pair.subscribe
                .subscription_with(&NUMBERS, options(1, WhenFull::Disconnect))
                .unwrap()
        };
        let subscription = subscribe();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(0).unwrap();
        assert_eq!(numbers.publish(1).unwrap().refused.len(), 1);
        assert_eq!(*recv(&subscription), 0);
        assert_eq!(
            subscription.recv_timeout(LONG).err(),
            Some(RecvError::Disconnected)
        );
        drop(subscription);
        until("it has left", || numbers.subscriber_count() == 0);
        assert_eq!(numbers.publish(2).unwrap().count, 0);
        // One that is never asked for what it has leaves as well.
        let unread = subscribe();
        pair.joined(&numbers, 1);
        numbers.publish(3).unwrap();
        assert_eq!(numbers.publish(4).unwrap().refused.len(), 1);
        drop(unread);
        until("it has left unread", || numbers.subscriber_count() == 0);
    });
}
