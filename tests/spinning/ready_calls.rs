//! `on_ready`: for loops that watch no descriptors.

use super::*;
use mproc::closure;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

fn counted(script: &Script<Vec<u32>>) -> Arc<AtomicU32> {
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let call = move || {
        count.fetch_add(1, Ordering::SeqCst);
    };
    script.on_ready(call).unwrap();
    calls
}

#[test]
fn it_is_called_once_per_change_from_nothing_to_something() {
    let node = simulated();
    let mut script = listener(&node);
    let calls = counted(&script);
    let numbers = node.publisher(&NUMBERS).unwrap();
    for round in 0..3 {
        assert_eq!(calls.load(Ordering::SeqCst), round);
        (0..5).for_each(|n| drop(numbers.publish(n).unwrap()));
        assert_eq!(calls.load(Ordering::SeqCst), round + 1);
        // Something is left: that is no change.
        assert_eq!(handled(script.spin_some(2)), 2);
        numbers.publish(5).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), round + 1);
        assert_eq!(handled(script.spin_some(10)), 4);
    }
}

#[test]
fn it_is_called_by_the_thread_that_made_the_change() {
    let node = real();
    let script = listener(&node);
    let (tell, told) = std::sync::mpsc::channel();
    let call = move || {
        let _gone = tell.send(std::thread::current().id());
    };
    script.on_ready(call).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let sender = std::thread::spawn(move || {
        numbers.publish(1).unwrap();
        std::thread::current().id()
    });
    assert_eq!(told.recv_timeout(LONG).unwrap(), sender.join().unwrap());
}

#[test]
fn it_is_called_at_once_for_what_is_there_already_and_the_next_call_replaces_it() {
    let node = simulated();
    let mut script = listener(&node);
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    let first = counted(&script);
    assert_eq!(first.load(Ordering::SeqCst), 1);
    let second = counted(&script);
    assert_eq!(second.load(Ordering::SeqCst), 1);
    assert_eq!(Arc::strong_count(&first), 1, "the first is dropped");
    assert_eq!(handled(script.spin_some(10)), 1);
    numbers.publish(2).unwrap();
    assert_eq!(first.load(Ordering::SeqCst), 1);
    assert_eq!(second.load(Ordering::SeqCst), 2);
}

#[test]
fn a_due_timer_and_the_end_of_the_node_are_changes() {
    let node = simulated();
    let mut script = listener(&node);
    let calls = counted(&script);
    script.after(SECOND, |_, _| ()).unwrap();
    assert_eq!(calls.load(Ordering::SeqCst), 0);
    node.advance(SECOND);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(handled(script.spin_some(10)), 1);
    node.request_shutdown();
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    script.spin().unwrap();
    drop(script);
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

#[test]
fn a_panic_in_it_reaches_nobody_and_the_next_call_comes() {
    let node = simulated();
    let mut script = listener(&node);
    let calls = Arc::new(AtomicU32::new(0));
    let count = calls.clone();
    let call = move || {
        count.fetch_add(1, Ordering::SeqCst);
        panic!("wanted");
    };
    script.on_ready(call).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    for n in 1..=2 {
        numbers.publish(n).unwrap();
        assert_eq!(calls.load(Ordering::SeqCst), n);
        assert_eq!(handled(script.spin_some(10)), 1);
    }
}

/// The loop of a toolkit: it sleeps on a channel of its own, and is told by `on_ready` when to spin.
#[test]
fn a_loop_that_is_told_handles_all_that_threads_send() {
    const EACH: u32 = 2000;
    let node = real();
    let mut script = node.script().unwrap();
    let sink = closure(|_: u32, _: &mut Cx<'_, _>| ());
    let sink = script.spawn("sink", sink).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    script
        .on_ready(move || {
            let _gone = tell.send(());
        })
        .unwrap();
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let sink = sink.clone();
            std::thread::spawn(move || (0..EACH).for_each(|n| sink.send(n).unwrap()))
        })
        .collect();
    let mut sum = 0;
    while sum < 3 * EACH {
        if !script.is_ready() {
            told.recv_timeout(LONG).unwrap();
        }
        sum += handled(script.spin_some(7)) as u32;
    }
    senders.into_iter().for_each(|s| s.join().unwrap());
    assert!(!script.is_ready());
}
