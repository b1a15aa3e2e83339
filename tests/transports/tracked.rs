//! One value is followed until everybody has given it back; a publish that waits is an operation.

use super::*;
use mproc::{ErrorKind, Options, Pending, PublishError, PublisherOptions, Released};
use std::sync::mpsc::channel;

const NUMBERS: Topic<u64> = Topic::new("numbers");
const FRAMES: Topic<[u8]> = Topic::slices("frames");

fn is_out(released: &mut Pending<Released, Error>) -> bool {
    use std::future::Future as _;
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(released).poll(&mut context).is_pending()
}

#[test]
fn a_tracked_value_is_back_when_the_last_holder_is_gone() {
    both(|pair| {
        let a = pair.subscribe.subscription(&NUMBERS).unwrap();
        let b = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        let mut released = numbers.publish_tracked(1).unwrap();
        let later = numbers.publish_tracked(2).unwrap();
        assert!(is_out(&mut released));
        let at_a = recv(&a);
        drop(recv(&b));
        let clone = at_a.clone();
        drop(at_a);
        assert!(is_out(&mut released));
        drop(clone);
        // The value itself, whatever came after it.
        assert_eq!(released.wait_timeout(LONG).unwrap().delivered.count, 2);
        assert_eq!((*recv(&a), *recv(&b)), (2, 2));
        later.wait_timeout(LONG).unwrap();
        numbers.flush(LONG).unwrap();
    });
}

#[test]
fn a_tracked_value_wakes_whoever_waits() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let released = numbers.publish_tracked(1).unwrap();
        let sample = recv(&subscription);
        let waits = std::thread::spawn(move || released.wait_timeout(LONG));
        drop(sample);
        waits.join().unwrap().unwrap();
    });
}

#[test]
fn a_tracker_of_several_parts_is_done_when_the_last_holder_of_any_part_is_gone() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let parts = vec![b"left".to_vec(), b"right".to_vec()];
        let mut released = numbers.publish_tracked_with_parts(1, parts).unwrap();
        let whole = recv(&subscription);
        let (left, right) = (whole.clone(), whole.clone());
        drop(whole);
        assert_eq!(left.parts().next(), Some(&b"left"[..]));
        drop(left);
        assert!(is_out(&mut released));
        assert_eq!(right.parts().nth(1), Some(&b"right"[..]));
        drop(right);
        released.wait_timeout(LONG).unwrap();
    });
}

#[test]
fn a_loan_is_tracked() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&FRAMES).unwrap();
        let frames = pair.publisher(&FRAMES, 1);
        let mut loan = frames.loan(10_000).unwrap();
        loan.fill(7);
        let mut released = loan.publish_tracked().unwrap();
        let frame = recv(&subscription);
        assert!(is_out(&mut released));
        assert!(frame.iter().all(|byte| *byte == 7));
        drop(frame);
        released.wait_timeout(LONG).unwrap();
    });
}

#[test]
fn a_subscriber_that_leaves_gives_tracked_values_back() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let released = numbers.publish_tracked(1).unwrap();
        drop(subscription);
        released.wait_timeout(LONG).unwrap();
    });
}

#[test]
fn a_value_that_is_evicted_is_given_back() {
    both(|pair| {
        let latest = options(1, WhenFull::DropOldest);
        let latest = pair.subscribe.subscription_with(&NUMBERS, latest).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let first = numbers.publish_tracked(1).unwrap();
        let mut second = numbers.publish_tracked(2).unwrap();
        first.wait_timeout(LONG).unwrap();
        assert!(is_out(&mut second));
        assert_eq!(*recv(&latest), 2);
        second.wait_timeout(LONG).unwrap();
    });
}

#[test]
fn history_does_not_hold_a_tracked_value() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let history = PublisherOptions::new().history(5);
        let numbers = pair.publish.publisher_with(&NUMBERS, history).unwrap();
        pair.joined(&numbers, 1);
        let released = numbers.publish_tracked(1).unwrap();
        drop(recv(&subscription));
        // Somebody who comes late has it from history, and holds it.
        let late = pair.subscribe.subscription(&NUMBERS).unwrap();
        let held = recv(&late);
        released.wait_timeout(LONG).unwrap();
        assert_eq!(*held, 1);
    });
}

#[test]
fn each_value_is_seen_with_its_tracker() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let (tell, told) = channel();
        numbers.on_publish(move |n, released| {
            tell.send((**n, n.sequence(), n.topic(), released)).unwrap();
        });
        numbers.publish(10).unwrap();
        numbers.clone().try_publish(11).unwrap();
        numbers.publish_async(12).wait().unwrap();
        let mut seen: Vec<_> = told.try_iter().collect();
        let values: Vec<_> = seen.iter().map(|(n, s, t, _)| (*n, *s, &**t)).collect();
        assert_eq!(
            values,
            [(10, 0, "numbers"), (11, 1, "numbers"), (12, 2, "numbers")]
        );
        let (_, _, _, mut last) = seen.pop().unwrap();
        drop((recv(&subscription), recv(&subscription)));
        for (_, _, _, released) in seen {
            released.wait_timeout(LONG).unwrap();
        }
        assert!(is_out(&mut last));
        drop(recv(&subscription));
        last.wait_timeout(LONG).unwrap();
    });
}

#[test]
fn a_tracked_value_may_be_waited_for_with_a_limit() {
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let released = numbers.publish_tracked(1).unwrap();
        let error = released.wait_timeout(Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        assert!(error.to_string().contains("numbers"), "{error}");
        assert_eq!(*recv(&subscription), 1);
    });
}

#[test]
fn a_publish_is_awaited_until_there_is_room() {
    both(|pair| {
        let one = options(1, WhenFull::Wait);
        let subscription = pair.subscribe.subscription_with(&NUMBERS, one).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        assert_eq!(numbers.publish_async(1).wait().unwrap().count, 1);
        match numbers
            .publish_async(2)
            .wait_timeout(Duration::from_millis(5))
        {
            Err(PublishError::Timeout { value: 2, full }) => {
                assert!(full[0].contains("numbers"), "{full:?}");
            }
            other => panic!("{other:?}"),
        }
        let waits = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.publish_async(3).wait_timeout(LONG))
        };
        assert_eq!((*recv(&subscription), *recv(&subscription)), (1, 3));
        waits.join().unwrap().unwrap();
    });
}

#[test]
fn a_publish_that_is_dropped_while_it_waits_has_happened_for_nobody() {
    both(|pair| {
        let one = || options(1, WhenFull::Wait);
        let roomy = pair
            .subscribe
            .subscription_with(&NUMBERS, options(9, WhenFull::Wait));
        let roomy = roomy.unwrap();
        let tight = pair.subscribe.subscription_with(&NUMBERS, one()).unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        numbers.publish(1).unwrap();
        for n in 2..20 {
            let mut waits = numbers.publish_async(n);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            use std::future::Future as _;
            assert!(
                std::pin::Pin::new(&mut waits)
                    .poll(&mut context)
                    .is_pending()
            );
            // It holds a place at the roomy one, and gives it back.
        }
        assert_eq!((*recv(&roomy), *recv(&tight)), (1, 1));
        numbers.publish_async(20).wait().unwrap();
        let sample = recv(&roomy);
        assert_eq!((*sample, sample.sequence(), sample.gap()), (20, 1, 0));
        assert_eq!(*recv(&tight), 20);
        drop(sample);
        numbers.flush(LONG).unwrap();
    });
}

#[test]
fn a_closed_publisher_gives_an_awaited_value_back() {
    both(|pair| {
        let one = options(1, WhenFull::Wait);
        let _full = pair.subscribe.subscription_with(&NUMBERS, one).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        let waits = {
            let numbers = numbers.clone();
            std::thread::spawn(move || numbers.publish_async(2).wait_timeout(LONG))
        };
        numbers.close();
        let error = waits.join().unwrap().unwrap_err();
        assert!(matches!(error, PublishError::Closed(2)), "{error:?}");
    });
}

/// Publishes three values for each message, which find no room until they are asked for.
struct Burst(std::sync::mpsc::Sender<Pending<Released, Error>>);

impl Processor for Burst {}

impl Handle<u64> for Burst {
    type Reply = ();
    fn handle(&mut self, n: u64, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let numbers = cx.publisher(&NUMBERS)?;
        for n in n..n + 3 {
            self.0.send(numbers.publish_tracked(n)?)?;
        }
        Ok(())
    }
}

/// Says that it was woken.
struct Woken(std::sync::mpsc::Sender<()>);

impl std::task::Wake for Woken {
    fn wake(self: std::sync::Arc<Self>) {
        // Nobody waits for more.
        let _ = self.0.send(());
    }
}

/// A value that stood in an outbox comes to a link only later. Whoever waited for it from before once heard nothing of its way
/// back.
#[test]
fn a_tracked_value_may_wait_in_an_outbox_first() {
    use std::future::Future as _;
    both(|pair| {
        let subscription = pair.subscribe.subscription(&NUMBERS).unwrap();
        let (tell, told) = channel();
        let burst = pair.publish.spawn_thread("burst", Burst(tell)).unwrap();
        // Joined before the first value.
        let _joined = pair.publisher(&NUMBERS, 1);
        // Nothing is out, so nobody watches what comes back.
        pair.publish.pause();
        burst.send(1).unwrap();
        let all: Vec<_> = (0..3).map(|_| told.recv_timeout(LONG).unwrap()).collect();
        let mut last = all.into_iter().next_back().unwrap();
        let (woken, is_woken) = channel();
        let waker = std::task::Waker::from(std::sync::Arc::new(Woken(woken)));
        let mut context = std::task::Context::from_waker(&waker);
        // Asked while it is in the outbox, and once.
        assert!(
            std::pin::Pin::new(&mut last)
                .poll(&mut context)
                .is_pending()
        );
        pair.publish.resume();
        for n in 1..=3 {
            assert_eq!(*recv(&subscription), n);
        }
        // Asked again only when it is woken.
        let released = loop {
            is_woken.recv_timeout(LONG).unwrap();
            let polled = std::pin::Pin::new(&mut last).poll(&mut context);
            if let std::task::Poll::Ready(released) = polled {
                break released.unwrap();
            }
        };
        assert!(released.delivered.deferred);
    });
}

#[test]
fn a_tracked_value_that_never_finds_room_says_so() {
    let options = Options::default().send_limit(Duration::from_millis(10));
    let node = Node::simulated_with(1, options);
    let full = SubscriptionOptions::new().capacity(1);
    let full = node.subscription_with(&NUMBERS, full).unwrap();
    let (tell, told) = channel();
    let burst = node.spawn_thread("burst", Burst(tell)).unwrap();
    burst.send(1).unwrap();
    node.settle();
    node.advance(Duration::from_secs(1));
    let released: Vec<_> = told.try_iter().collect();
    assert_eq!(*full.try_recv().unwrap(), 1);
    let results: Vec<_> = released.into_iter().map(|r| kind(r.wait())).collect();
    let never = Some(ErrorKind::NotDelivered);
    assert_eq!(results, [None, never, never]);
    assert_eq!(node.dead_letters().count(), 2);
}

// A link says what came back only when it is asked. `is_done` of a ticket did not ask, so a loop that only looks at it never
// ended.
#[test]
fn a_ticket_of_a_tracked_value_is_done_for_whoever_only_looks() {
    both(|pair| {
        let reader = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let ticket = numbers.publish_tracked(1).unwrap().start();
        let sample = recv(&reader);
        assert!(!ticket.is_done());
        drop(sample);
        until("it is back", || ticket.is_done());
        assert_eq!(ticket.wait().unwrap().delivered.count, 1);
    });
}

#[test]
fn a_publish_that_is_started_goes_on_by_itself_until_it_is_cancelled() {
    both(|pair| {
        let reader = pair
            .subscribe
            .subscription_with(&NUMBERS, super::options(1, WhenFull::Wait))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        // Whoever stands in line first is cancelled: the next has its turn.
        let mut cancelled = numbers.publish_async(2).start();
        let kept = numbers.publish_async(3).start();
        assert!(!cancelled.is_done() && !kept.is_done());
        assert!(cancelled.cancel());
        numbers.publish_async(4).start().detach();
        assert_eq!(*recv(&reader), 1);
        until("it is published", || kept.is_done());
        assert_eq!(*recv(&reader), 3);
        assert_eq!(kept.wait().unwrap().count, 1);
        assert_eq!(*recv(&reader), 4);
        assert!(reader.try_recv().is_err());
        numbers.flush(LONG).unwrap();
    });
}

#[test]
fn a_tracked_value_waits_behind_a_relay_for_a_callback_that_was_taken_out() {
    const BEHIND: Topic<u64> = Topic::new("behind");
    both(|pair| {
        // The relay is where the subscriber is: what goes on to other processes is a copy.
        let relay = pair.subscribe.relay(&NUMBERS, &BEHIND).unwrap();
        let (told, seen) = channel();
        let again = told.clone();
        let callback = pair.subscribe.subscribe(&BEHIND, move |n: Sample<u64>| {
            let _ = told.send(*n);
        });
        let callback = callback.unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers
            .publish_tracked(1)
            .unwrap()
            .wait_timeout(LONG)
            .unwrap();
        assert_eq!(seen.recv_timeout(LONG), Ok(1));
        callback.take_callback().unwrap();
        let ticket = numbers.publish_tracked(2).unwrap().start();
        until("it is relayed", || relay.snapshot().sent == 2);
        assert!(!ticket.is_done());
        callback
            .set_callback(move |n: Sample<u64>| {
                let _ = again.send(*n + 100);
            })
            .unwrap();
        assert_eq!(seen.recv_timeout(LONG), Ok(102));
        until("it is back", || ticket.is_done());
        // What the end of the subscription gives back counts as well.
        callback.take_callback().unwrap();
        let left = numbers.publish_tracked(3).unwrap().start();
        until("it is relayed", || relay.snapshot().sent == 3);
        drop(callback);
        until("it is given back", || left.is_done());
    });
}
