//! Futures that a plain thread runs, and what Ctrl-C does to those who wait.

use crate::{HALF, LONG, NUMBERS, SECOND, Slow, real, simulated, squares};
use mproc::prelude::*;
use mproc::{CallError, DropCause, ErrorKind, Fault, RecvError, select};
use std::sync::mpsc;

#[test]
fn a_future_runs_on_a_plain_thread() {
    let node = real();
    let squares = squares(&node);
    let sum = node.run(async {
        let first = squares.call(2).await?;
        Ok::<_, CallError>(first + squares.call(3).await?)
    });
    assert_eq!(sum.unwrap().unwrap(), 13);
}

#[test]
fn running_a_future_is_refused_inside_a_handler_and_inside_a_future() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let runs = closure(move |(): (), cx: &mut Cx<'_, _>| {
        let refused = cx.runtime().run(async { 1 });
        tell.send(refused.map_err(|error| error.to_string()))
            .map_err(|_| Fault::new("nobody listens"))
    });
    let runs = node.spawn_thread("runs", runs).unwrap();
    runs.send(()).unwrap();
    node.settle();
    let text = told.try_recv().unwrap().unwrap_err();
    assert_eq!(
        text,
        "cannot run a future inside a handler or callback: go on with `then`"
    );
    let inner = node.run(async { node.run(async { 1 }) }).unwrap();
    assert_eq!(inner.unwrap_err().kind(), ErrorKind::Refused);

    let mut script = node.script().unwrap().with(None);
    script
        .after(Duration::ZERO, |kind, cx| {
            *kind = cx.runtime().run(async {}).map_err(|e| e.kind()).err()
        })
        .unwrap();
    script.spin_once(SECOND).unwrap();
    assert_eq!(
        script.state(|kind| *kind).unwrap(),
        Some(ErrorKind::Refused)
    );
}

#[test]
fn an_interrupt_cancels_what_a_future_waits_for() {
    let node = simulated(1);
    let squares = squares(&node);
    let nothing = node.subscription(&NUMBERS).unwrap();
    node.interrupt();
    let result = node.run(async {
        let _never_polled_again = nothing.recv().limit(LONG).await;
        squares.call(1).await
    });
    assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
    assert_eq!(node.snapshot().totals.handled, 0);
    // Told once: what cleans up afterwards can wait.
    assert_eq!(node.run(async { 1 }).unwrap(), 1);
    let before = node.now();
    assert!(matches!(
        nothing.recv().wait_timeout(HALF),
        Err(RecvError::Timeout | RecvError::Closed)
    ));
    assert!(node.now() - before <= HALF);
}

/// A handler that runs for `time`, and the call of it that was begun.
fn busy(node: &Node, time: Duration) -> Address<mproc::Closure<(), ()>> {
    let nothing = node.subscription(&NUMBERS).unwrap();
    let busy = closure(move |(): (), _cx| {
        let _timeout = nothing.recv_timeout(time);
        Ok::<_, Fault>(())
    });
    node.spawn_thread("busy", busy).unwrap()
}

/// Somebody who interrupts a tenth of a second from now.
fn interrupt_soon(node: &Node) {
    let interrupts = node.clone();
    let nothing = node.subscription(&NUMBERS).unwrap();
    let work = node.unblock(move || {
        let _timeout = nothing.recv_timeout(HALF / 5);
        interrupts.interrupt();
    });
    work.start().detach();
}

#[test]
fn an_interrupt_waits_a_bounded_time_for_handlers_that_run() {
    for (handler, waited) in [(HALF, HALF), (SECOND * 4, HALF / 5 + SECOND)] {
        let node = simulated(1);
        // A script of this thread carries the end out, later.
        let mut script = node.script().unwrap();
        let busy = busy(&node, handler);
        let before = node.now();
        interrupt_soon(&node);
        let result = node.run(async { busy.call(()).limit(LONG).await });
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Interrupted);
        assert_eq!(node.now() - before, waited);
        node.request_shutdown();
        script.spin().unwrap();
    }
}

#[test]
fn an_interrupt_ends_a_wait_of_a_script_between_two_spins_by_the_same_rule() {
    for (handler, waited) in [(HALF, HALF), (SECOND * 4, HALF / 5 + SECOND)] {
        let node = simulated(1);
        let mut script = node.script().unwrap();
        let busy = busy(&node, handler);
        let before = node.now();
        interrupt_soon(&node);
        let result = busy.call(()).wait_timeout(LONG);
        assert!(matches!(result, Err(CallError::Interrupted)));
        assert_eq!(node.now() - before, waited);
        node.request_shutdown();
        script.spin().unwrap();
    }
}

/// An endless loop over samples used to go on for ever after Ctrl-C, and the script never came to its end.
#[test]
fn an_interrupt_ends_a_loop_over_samples() {
    let node = simulated(1);
    let mut script = node.script().unwrap();
    let numbers = node.subscription(&NUMBERS).unwrap();
    node.publisher(&NUMBERS).unwrap().publish(7).unwrap();
    interrupt_soon(&node);
    let seen: Vec<_> = numbers.iter().map(|n| *n).collect();
    assert_eq!(seen, [7]);
    node.request_shutdown();
    script.spin().unwrap();
}

#[test]
fn an_interrupt_ends_a_wait_for_partners_and_for_samples_of_several() {
    let node = simulated(1);
    let mut script = node.script().unwrap();
    let numbers = node.subscription(&NUMBERS).unwrap();
    let before = node.now();
    interrupt_soon(&node);
    let error = numbers.wait_for_publishers(1, LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interrupted);
    interrupt_soon(&node);
    assert_eq!(
        select(&[&numbers], None, LONG).unwrap_err(),
        RecvError::Interrupted
    );
    assert_eq!(node.now() - before, HALF / 5 * 2);
    node.request_shutdown();
    script.spin().unwrap();
}

/// The second cuts short what the first still waited for.
#[test]
fn a_second_interrupt_ends_the_wait_for_clean_up() {
    let node = simulated(1);
    let mut script = node.script().unwrap();
    let busy = busy(&node, SECOND * 4);
    let before = node.now();
    interrupt_soon(&node);
    let twice = node.clone();
    let nothing = node.subscription(&NUMBERS).unwrap();
    node.unblock(move || {
        let _timeout = nothing.recv_timeout(HALF);
        twice.interrupt();
    })
    .start()
    .detach();
    let result = busy.call(()).wait_timeout(LONG);
    assert!(matches!(result, Err(CallError::Interrupted)));
    assert_eq!(node.now() - before, HALF);
    node.request_shutdown();
    script.spin().unwrap();
}

#[test]
fn an_interrupted_ticket_is_cancelled_and_its_message_taken_back() {
    let node = simulated(1);
    let mut script = node.script().unwrap();
    let busy = busy(&node, HALF);
    let _runs = busy.call(()).start();
    node.settle();
    let mut queued = busy.call(()).start();
    interrupt_soon(&node);
    assert!(matches!(
        queued.wait_timeout(LONG),
        Err(CallError::Interrupted)
    ));
    node.request_shutdown();
    script.spin().unwrap();
    assert_eq!(node.snapshot().totals.dropped.by(DropCause::Cancelled), 1);
}

#[test]
fn an_interrupt_leaves_threads_without_scripts_and_handlers_alone() {
    let node = simulated(1);
    let slow = node.spawn_thread("slow", Slow).unwrap();
    let asks = closure(move |(): (), _cx| Ok::<_, Fault>(slow.call(7).wait()?));
    let asks = node.spawn_thread("asks", asks).unwrap();
    interrupt_soon(&node);
    // This thread has no script, and waits for a handler that waits.
    match asks.call(()).wait() {
        Ok(n) => assert_eq!(n, 7),
        // The end of the node may come first to one of the two.
        Err(CallError::Stopped(_) | CallError::Faulted(_)) => {}
        other => panic!("{other:?}"),
    }
}
