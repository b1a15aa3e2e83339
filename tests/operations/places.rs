//! `reserve().await?.send(m)`: waiting for room, in order.

use crate::{LONG, Woken, poll, real, simulated};
use mproc::prelude::*;
use mproc::{Fault, ReserveError, TrySendError};
use std::sync::mpsc;
use std::task::Poll;

fn one() -> MailboxOptions {
    MailboxOptions::bounded(1)
}

#[test]
fn an_awaited_place_is_there_for_the_message_that_comes() {
    let node = real();
    let (go_on, may_go_on) = mpsc::channel();
    let (tell, told) = mpsc::channel();
    let sink = closure(move |n: u32, _cx| {
        may_go_on.recv()?;
        tell.send(n).map_err(|_| Fault::new("nobody listens"))
    });
    let sink = node.spawn_thread_with("sink", one(), sink).unwrap();
    let threads = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    threads.block_on(async {
        for n in 0..100 {
            let permit = sink.reserve().limit(LONG).await.unwrap();
            permit.send(n).unwrap();
            go_on.send(()).unwrap();
        }
    });
    assert!(node.shutdown(LONG).is_clean());
    assert_eq!(
        told.try_iter().collect::<Vec<_>>(),
        (0..100).collect::<Vec<_>>()
    );
}

#[test]
fn who_waits_for_room_is_served_in_order_and_try_send_does_not_overtake() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let sink = closure(move |n: u32, _cx| tell.send(n));
    let sink = node.spawn_thread_with("sink", one(), sink).unwrap();
    sink.try_send(0).unwrap();
    let mut waiting: Vec<_> = (1..=3).map(|n| (n, sink.reserve(), Woken::new())).collect();
    for (_, pending, (_, waker)) in &mut waiting {
        assert!(poll(pending, waker).is_pending());
    }
    node.settle();
    // There is room, and it is for the first in line.
    assert!(matches!(sink.try_send(9), Err(TrySendError::Full(9))));
    for (n, mut pending, (woken, waker)) in waiting {
        assert_eq!(woken.count(), 1, "{n}");
        match poll(&mut pending, &waker) {
            Poll::Ready(Ok(permit)) => permit.send(n).unwrap(),
            other => panic!("{other:?}"),
        }
        node.settle();
    }
    sink.try_send(4).unwrap();
    node.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_waiter_that_is_dropped_after_it_was_woken_passes_the_place_on() {
    let node = simulated(1);
    let sink = closure(|_: u32, _cx| Ok::<_, Fault>(()));
    let sink = node.spawn_thread_with("sink", one(), sink).unwrap();
    sink.try_send(0).unwrap();
    let (mut first, mut second) = (sink.reserve(), sink.reserve());
    let ((woken_first, w1), (woken_second, w2)) = (Woken::new(), Woken::new());
    assert!(poll(&mut first, &w1).is_pending());
    assert!(poll(&mut second, &w2).is_pending());
    node.settle();
    assert_eq!((woken_first.count(), woken_second.count()), (1, 0));
    drop(first);
    assert_eq!(woken_second.count(), 1);
    assert!(poll(&mut second, &w2).is_ready());
}

#[test]
fn the_end_of_a_processor_ends_those_who_wait_with_closed() {
    let node = simulated(1);
    let sink = closure(|_: u32, _cx| Ok::<_, Fault>(()));
    let sink = node.spawn_thread_with("sink", one(), sink).unwrap();
    sink.try_send(0).unwrap();
    let mut waits = sink.reserve();
    let (woken, waker) = Woken::new();
    assert!(poll(&mut waits, &waker).is_pending());
    sink.kill();
    node.settle();
    assert_eq!(woken.count(), 1);
    match poll(&mut waits, &waker) {
        Poll::Ready(Err(error)) => assert_eq!(error, ReserveError::Closed),
        other => panic!("{other:?}"),
    }
}
