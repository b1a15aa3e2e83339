//! How publishers are held back, and by whom they are not: the same in one process and between two.

use super::*;
use mproc::{PublishError, PublisherOptions};
use std::collections::BTreeSet;
use std::sync::mpsc::{TryRecvError, channel};

const NUMBERS: Topic<u64> = Topic::new("numbers");
const FRAMES: Topic<[u8]> = Topic::slices("frames");

#[test]
fn capacity_n_accepts_exactly_n() {
    both(|pair| {
        for capacity in [1, 2, 7, 64] {
            let wait = options(capacity, WhenFull::Wait);
            let subscription = pair.subscribe.subscription_with(&NUMBERS, wait).unwrap();
            let numbers = pair.publisher(&NUMBERS, 1);
            for round in 0..3 {
                for n in 0..capacity as u64 {
                    assert_eq!(
                        numbers.try_publish(n).unwrap().count,
                        1,
                        "{n} of {capacity}"
                    );
                }
                match numbers.try_publish(1000) {
                    Err(PublishError::Full { value: 1000, .. }) => {}
                    other => panic!("round {round}: {other:?}"),
                }
                for n in 0..capacity as u64 {
                    assert_eq!(*recv(&subscription), n);
                }
            }
            // Each that is taken makes room for one more.
            for n in 0..capacity as u64 {
                numbers.try_publish(n).unwrap();
            }
            for n in 0..capacity as u64 {
                assert_eq!(*recv(&subscription), n);
                numbers.try_publish(n).unwrap();
                assert!(numbers.try_publish(1000).is_err());
            }
            drop(subscription);
            until("it has left", || numbers.subscriber_count() == 0);
        }
    });
}

#[test]
fn with_one_in_flight_the_second_publish_waits_until_the_first_handler_has_returned() {
    both(|pair| {
        let (entered, is_in) = channel();
        let (go, may_return) = channel::<()>();
        let _subscriber = pair
            .subscribe
            .subscribe(&NUMBERS, move |n| {
                entered.send(format!("enters {}", *n)).unwrap();
                may_return.recv().unwrap();
            })
            .unwrap();
        let one = PublisherOptions::new().in_flight(1);
        let numbers = pair.publish.publisher_with(&NUMBERS, one).unwrap();
        pair.joined(&numbers, 1);
        numbers.publish(1).unwrap();
        assert_eq!(is_in.recv_timeout(LONG).unwrap(), "enters 1");
        // It is taken and not returned: no place is missing but the one in flight.
        assert!(matches!(
            numbers.try_publish(2),
            Err(PublishError::Full { .. })
        ));
        let (published, is_published) = channel();
        let second = {
            let numbers = numbers.clone();
            std::thread::spawn(move || {
                numbers.publish_timeout(2, LONG).unwrap();
                published.send(()).unwrap();
            })
        };
        assert_eq!(is_published.try_recv(), Err(TryRecvError::Empty));
        go.send(()).unwrap();
        assert_eq!(is_in.recv_timeout(LONG).unwrap(), "enters 2");
        is_published.recv_timeout(LONG).unwrap();
        go.send(()).unwrap();
        second.join().unwrap();
        numbers.flush(LONG).unwrap();
    });
}

#[test]
fn closing_a_subscriber_gives_all_that_is_queued_back_and_its_publisher_goes_on() {
    both(|pair| {
        for when_full in WhenFull::ALL {
            let closing = options(4, when_full);
            let closing = pair.subscribe.subscription_with(&FRAMES, closing).unwrap();
            let other = options(64, WhenFull::Wait);
            let other = pair.subscribe.subscription_with(&FRAMES, other).unwrap();
            let frames = pair.publisher(&FRAMES, 2);
            let publish = |n: u8| {
                let mut loan = frames.loan(1000).unwrap();
                loan.fill(n);
                loan.publish_tracked().unwrap()
            };
            let queued: Vec<_> = (0..4).map(publish).collect();
            for n in 0..4 {
                assert_eq!(recv(&other)[0], n);
            }
            // The rest is with the one that closes.
            assert!(frames.snapshot().outstanding > 0, "{when_full:?}");
            drop(closing);
            for released in queued {
                released.wait_timeout(LONG).unwrap();
            }
            assert_eq!(frames.snapshot().outstanding, 0);
            drop(publish(9));
            assert_eq!(recv(&other)[0], 9);
            drop(other);
            until("both have left", || frames.subscriber_count() == 0);
        }
    });
}

#[test]
fn a_publish_that_waits_for_a_subscriber_goes_on_when_that_closes() {
    both(|pair| {
        let full = options(1, WhenFull::Wait);
        let full = pair.subscribe.subscription_with(&NUMBERS, full).unwrap();
        let other = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        numbers.publish(1).unwrap();
        let waits = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.publish_timeout(2, LONG).unwrap().count)
        };
        drop(full);
        assert_eq!(waits.join().unwrap(), 1);
        assert_eq!(take_all(&other, 2), [1, 2]);
    });
}

#[test]
fn many_threads_on_one_publisher_give_unique_sequence_numbers_without_gaps() {
    const THREADS: u64 = 8;
    const EACH: u64 = 250;
    both(|pair| {
        let subscription = options(16, WhenFull::Wait);
        let subscription = pair
            .subscribe
            .subscription_with(&NUMBERS, subscription)
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let mut values = BTreeSet::new();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let numbers = numbers.clone();
                scope.spawn(move || {
                    for n in 0..EACH {
                        numbers.publish_timeout(thread * EACH + n, LONG).unwrap();
                    }
                });
            }
            let mut last_of = [None; THREADS as usize];
            for sequence in 0..THREADS * EACH {
                let sample = recv(&subscription);
                assert_eq!((sample.sequence(), sample.gap()), (sequence, 0));
                assert!(values.insert(*sample), "{} came twice", *sample);
                // Those of one thread in its order.
                let last = &mut last_of[(*sample / EACH) as usize];
                assert!(*last < Some(*sample));
                *last = Some(*sample);
            }
        });
        assert_eq!(values, (0..THREADS * EACH).collect());
        assert_eq!(numbers.snapshot().published, THREADS * EACH);
    });
}

#[test]
fn a_lossy_subscriber_never_holds_its_publisher_back_even_while_its_handler_is_busy() {
    struct Busy {
        when_full: WhenFull,
        entered: std::sync::mpsc::Sender<()>,
        may_return: std::sync::mpsc::Receiver<()>,
    }
    impl Processor for Busy {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            let lossy = cx.subscribe(&NUMBERS).capacity(2);
            lossy.when_full(self.when_full).samples()?;
            Ok(())
        }
    }
    impl Handle<Sample<u64>> for Busy {
        type Reply = ();
        fn handle(&mut self, _: Sample<u64>, _: &mut Cx<'_, Self>) -> Outcome<()> {
            let _nobody_asks = self.entered.send(());
            let _at_the_end = self.may_return.recv();
            Ok(())
        }
    }
    both(|pair| {
        for when_full in WhenFull::ALL {
            if when_full == WhenFull::Wait {
                continue;
            }
            let (entered, is_in) = channel();
            let (go, may_return) = channel();
            let busy = Busy {
                when_full,
                entered,
                may_return,
            };
            let busy = pair.subscribe.spawn_thread("busy", busy).unwrap();
            let numbers = pair.publisher(&NUMBERS, 1);
            numbers.publish(0).unwrap();
            is_in.recv_timeout(LONG).unwrap();
            // The handler does not return. None of these may wait, and all have a limit that would end the test if they did.
            for n in 1..=500 {
                let published = numbers.publish_timeout(n, Duration::ZERO);
                published.unwrap_or_else(|error| panic!("{when_full:?}: {error:?}"));
            }
            assert_eq!(numbers.snapshot().published, 501);
            drop(go);
            busy.stop();
            busy.ended().wait_timeout(LONG).unwrap();
            if when_full != WhenFull::Disconnect {
                until("it has left", || numbers.subscriber_count() == 0);
            }
        }
    });
}
