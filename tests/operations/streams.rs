//! Samples and events as streams, and closing a subscription that still has some.

use crate::{HALF, NUMBERS, SECOND, Slow, Woken, real, simulated, squares};
use futures_core::Stream;
use mproc::prelude::*;
use mproc::{DropCause, Event, Fault, Linger, RecvError, SampleStream, replies};
use std::cell::Cell;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

async fn next(stream: &mut SampleStream<u32>) -> Option<u32> {
    std::future::poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx))
        .await
        .map(|sample| *sample)
}

#[test]
fn a_stream_gives_samples_in_order_and_ends_with_its_subscription() {
    let node = real();
    let mut stream = node.subscription(&NUMBERS).unwrap().into_stream();
    let publisher = node.publisher(&NUMBERS).unwrap();
    for n in 0..3 {
        publisher.publish(n).unwrap();
    }
    smol::block_on(async {
        for n in 0..3 {
            assert_eq!(next(&mut stream).await, Some(n));
        }
        assert!(node.shutdown(SECOND).is_clean());
        assert_eq!(next(&mut stream).await, None);
        assert_eq!(next(&mut stream).await, None);
    });
}

#[test]
fn a_stream_takes_nothing_ahead_and_dropping_it_half_way_loses_nothing() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    let mut stream = numbers.stream();
    let (woken, waker) = Woken::new();
    let mut context = Context::from_waker(&waker);
    assert!(Pin::new(&mut stream).poll_next(&mut context).is_pending());
    for n in 0..10 {
        publisher.publish(n).unwrap();
    }
    assert_eq!((woken.count(), numbers.snapshot().queued), (1, 10));
    match Pin::new(&mut stream).poll_next(&mut context) {
        Poll::Ready(Some(sample)) => assert_eq!(*sample, 0),
        other => panic!("{other:?}"),
    }
    assert_eq!(numbers.snapshot().queued, 9);
    drop(stream);
    let left: Vec<_> = numbers.try_iter().map(|sample| *sample).collect();
    assert_eq!(left, (1..10).collect::<Vec<_>>());
}

#[test]
fn a_stream_that_is_dropped_between_wake_and_poll_passes_the_wake_on() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    let mut first = numbers.stream();
    let mut second = numbers.stream();
    let ((woken_first, w1), (woken_second, w2)) = (Woken::new(), Woken::new());
    assert!(
        Pin::new(&mut first)
            .poll_next(&mut Context::from_waker(&w1))
            .is_pending()
    );
    assert!(
        Pin::new(&mut second)
            .poll_next(&mut Context::from_waker(&w2))
            .is_pending()
    );
    publisher.publish(7).unwrap();
    assert_eq!((woken_first.count(), woken_second.count()), (1, 0));
    drop(first);
    assert_eq!(woken_second.count(), 1);
    match Pin::new(&mut second).poll_next(&mut Context::from_waker(&w2)) {
        Poll::Ready(Some(sample)) => assert_eq!(*sample, 7),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_events_of_a_node_are_a_stream() {
    let node = real();
    let mut events = node.events().unwrap().into_stream();
    let _numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    let matched = smol::block_on(async {
        loop {
            let event = std::future::poll_fn(|cx| Pin::new(&mut events).poll_next(cx)).await;
            let event = event.expect("the node lives");
            if let Event::SubscriberMatched { topic, .. } | Event::PublisherMatched { topic, .. } =
                &*event
            {
                return topic.clone();
            }
        }
    });
    assert_eq!(matched, "numbers");
    drop(publisher);
}

// ---- replies

#[test]
fn replies_come_in_order_and_nothing_is_started_ahead_unless_told() {
    for prefetch in [0, 1, 5] {
        let node = simulated(1);
        let slow = node.spawn_thread("slow", Slow).unwrap();
        let started = Cell::new(0);
        let calls = (0..10).map(|n| {
            started.set(started.get() + 1);
            slow.call(n)
        });
        let mut replies = replies(calls).prefetch(prefetch);
        assert_eq!(started.get(), 0);
        let before = node.now();
        for n in 0..10 {
            assert_eq!(replies.next().unwrap().unwrap(), n);
            assert_eq!(started.get(), (n as usize + 1 + prefetch).min(10));
        }
        assert!(replies.next().is_none());
        let rounds = 10_usize.div_ceil(prefetch + 1) as u32;
        assert_eq!(node.now() - before, HALF * rounds, "{prefetch}");
    }
}

/// A producer that is dropped half way is finished off at once: what it has started is cancelled, and no driver is held up.
#[test]
fn replies_that_are_dropped_half_way_cancel_what_was_started() {
    let node = simulated(1);
    let squares = squares(&node);
    let mut some = replies((0..).map(|n| squares.call(n))).prefetch(7);
    assert_eq!(some.next().unwrap().unwrap(), 0);
    let handled = node.snapshot().totals.handled;
    let before = node.now();
    drop(some);
    node.settle();
    assert_eq!(node.now(), before);
    let totals = node.snapshot().totals.clone();
    assert_eq!(totals.handled, handled);
    assert_eq!(totals.handled + totals.dropped.by(DropCause::Cancelled), 8);
    assert_eq!(squares.call(3).wait().unwrap(), 9);
}

#[test]
fn replies_are_a_stream_too() {
    let node = real();
    let squares = squares(&node);
    let mut some = replies((0..100).map(|n| squares.call(n))).prefetch(7);
    let sum = smol::block_on(async {
        let mut sum = 0;
        while let Some(square) = std::future::poll_fn(|cx| Pin::new(&mut some).poll_next(cx)).await
        {
            sum += square.unwrap();
        }
        sum
    });
    assert_eq!(sum, (0..100).map(|n| n * n).sum());
}

// ---- closing

#[test]
fn closing_gives_back_what_is_queued_and_says_how_much() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    for n in 0..3 {
        publisher.publish(n).unwrap();
    }
    let held = numbers.try_recv().unwrap();
    assert_eq!(numbers.close(Linger::Discard), 2);
    assert_eq!(numbers.close(Linger::Discard), 0);
    assert_eq!(numbers.recv().wait().unwrap_err(), RecvError::Closed);
    // The one that was received is still out, the others came back.
    assert!(publisher.flush(Duration::ZERO).is_err());
    drop(held);
    publisher.flush(Duration::ZERO).unwrap();
}

#[test]
fn a_drain_lets_others_take_what_is_queued_and_nothing_new_comes() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    for n in 0..3 {
        publisher.publish(n).unwrap();
    }
    let mut stream = numbers.stream();
    let reader = closure(move |(): (), cx: &mut Cx<'_, _, _>| {
        let runtime = cx.runtime();
        let mut next = || {
            let look = |waker: &Waker| match Pin::new(&mut stream)
                .poll_next(&mut Context::from_waker(waker))
            {
                Poll::Ready(sample) => Some(sample.map(|sample| *sample)),
                Poll::Pending => None,
            };
            runtime.block_until(None, look).flatten()
        };
        let mut seen = Vec::new();
        while let Some(n) = next() {
            seen.push(n);
        }
        Ok::<_, Fault>(seen)
    });
    let reader = node.spawn_thread("reader", reader).unwrap();
    let seen = reader.call(()).start();
    let before = node.now();
    assert_eq!(numbers.close(Linger::Drain(SECOND)), 0);
    assert_eq!(node.now(), before);
    assert_eq!(publisher.publish(9).unwrap().count, 0);
    assert_eq!(seen.wait().unwrap(), [0, 1, 2]);
}

#[test]
fn a_drain_that_nobody_helps_with_ends_at_its_limit_and_says_what_was_left() {
    let node = simulated(1);
    let numbers = node.subscription(&NUMBERS).unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    publisher.publish(1).unwrap();
    let before = node.now();
    assert_eq!(numbers.close(Linger::Drain(HALF)), 1);
    assert_eq!(node.now() - before, HALF);
    publisher.flush(Duration::ZERO).unwrap();
}
