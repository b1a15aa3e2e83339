//! Callbacks that are taken out and put back, and samples of one subscription that are run when somebody says so.

use super::*;
use mproc::{ErrorKind, Spun};
use std::sync::mpsc::{Sender, channel};

const NUMBERS: Topic<u64> = Topic::new("numbers");
const OTHERS: Topic<u64> = Topic::new("others");

/// Waits until so many samples stand in the subscription's queue, here or at the links.
fn queued(control: &mproc::Control, count: u64) {
    until("the samples are there", || {
        control.snapshot().is_some_and(|s| s.queued == count)
    });
}

#[test]
fn samples_of_a_script_wait_for_its_next_callback_in_order() {
    both(|pair| {
        let mut script = pair.subscribe.script().unwrap().with(Vec::new());
        let wait = options(3, WhenFull::Wait);
        let control = script
            .on_with(&NUMBERS, wait, |seen, n, _| seen.push(("first", *n)))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        script.take_callback(&control).unwrap();
        for n in 2..=4 {
            numbers.publish(n).unwrap();
        }
        // Its policy applies meanwhile.
        assert!(numbers.try_publish(5).is_err());
        queued(&control, 3);
        assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
        // Going on after a pause does not bring the callback back.
        control.pause();
        control.resume();
        assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
        script
            .set_callback(&control, |seen: &mut Vec<_>, n: Sample<u64>, _: &mut _| {
                seen.push(("second", *n));
            })
            .unwrap();
        for _ in 2..=4 {
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        }
        let seen = script.state(std::mem::take).unwrap();
        assert_eq!(
            seen,
            [("first", 1), ("second", 2), ("second", 3), ("second", 4)]
        );
    });
}

#[test]
fn samples_of_a_closure_wait_for_its_next_callback_in_order() {
    both(|pair| {
        let (tell, heard) = channel();
        let says = |who: &'static str, tell: &Sender<_>| {
            let tell = tell.clone();
            move |n: Sample<u64>| tell.send((who, *n)).unwrap()
        };
        let subscriber = pair
            .subscribe
            .subscribe(&NUMBERS, says("first", &tell))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(1).unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok(("first", 1)));
        subscriber.take_callback().unwrap();
        for n in 2..10 {
            numbers.publish(n).unwrap();
        }
        queued(subscriber.control(), 8);
        subscriber.set_callback(says("second", &tell)).unwrap();
        for n in 2..10 {
            assert_eq!(heard.recv_timeout(LONG), Ok(("second", n)));
        }
        // One after the other, without taking the first out.
        subscriber.set_callback(says("third", &tell)).unwrap();
        numbers.publish(10).unwrap();
        assert_eq!(heard.recv_timeout(LONG), Ok(("third", 10)));
    });
}

/// Says that it was dropped.
struct Captured(Sender<&'static str>);

impl Drop for Captured {
    fn drop(&mut self) {
        self.0.send("dropped").unwrap();
    }
}

#[test]
fn a_callback_that_is_taken_out_is_dropped() {
    let node = Node::simulated_with(1, mproc::Options::default());
    let (tell, told) = channel();
    let captured = Captured(tell.clone());
    let subscriber = node
        .subscribe(&NUMBERS, move |_| captured.0.send("called").unwrap())
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    node.settle();
    subscriber.take_callback().unwrap();
    numbers.publish(2).unwrap();
    node.settle();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["called", "dropped"]);
    let refused = subscriber.set_callback(|_: Sample<String>| ());
    assert_eq!(kind(refused), Some(ErrorKind::TypeConflict));

    let mut script = node.script().unwrap();
    let captured = Captured(tell);
    let control = script
        .on(&NUMBERS, move |_, _, _| captured.0.send("called").unwrap())
        .unwrap();
    script.take_callback(&control).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), ["dropped"]);
    let refused = script.set_callback(&control, |_: &mut (), _: Sample<String>, _: &mut _| ());
    assert_eq!(kind(refused), Some(ErrorKind::TypeConflict));
    control.unsubscribe();
    assert_eq!(
        kind(script.take_callback(&control)),
        Some(ErrorKind::Closed)
    );
}

/// A callback may take itself out, and put another in its place, while it is called.
#[test]
fn a_callback_replaces_itself() {
    let node = Node::simulated_with(1, mproc::Options::default());
    let (tell, heard) = channel();
    let own = std::sync::Arc::new(std::sync::OnceLock::new());
    let subscriber = {
        let (own, tell) = (own.clone(), tell.clone());
        node.subscribe(&NUMBERS, move |n: Sample<u64>| {
            tell.send(("first", *n)).unwrap();
            let own: &mproc::CallbackSubscription<_> = own.get().unwrap();
            own.take_callback().unwrap();
            let tell = tell.clone();
            own.set_callback(move |n: Sample<u64>| tell.send(("second", *n)).unwrap())
                .unwrap();
        })
    };
    assert!(own.set(subscriber.unwrap()).is_ok());
    let numbers = node.publisher(&NUMBERS).unwrap();
    (1..=3).for_each(|n| _ = numbers.publish(n).unwrap());
    node.settle();
    let heard: Vec<_> = heard.try_iter().collect();
    assert_eq!(heard, [("first", 1), ("second", 2), ("second", 3)]);
}

#[test]
fn exactly_as_many_samples_of_a_script_run_as_are_asked_for() {
    both(|pair| {
        let mut script = pair.subscribe.script().unwrap().with(Vec::new());
        let control = script.on(&NUMBERS, |seen, n, _| seen.push(*n)).unwrap();
        script
            .on(&OTHERS, |seen, n, _| seen.push(1000 + *n))
            .unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        let others = pair.publisher(&OTHERS, 1);
        // The first comes when its memory has been met, which is told in its own time.
        for first in [&numbers, &others] {
            first.publish(0).unwrap();
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        }
        script.state(std::mem::take).unwrap();
        for n in 0..10 {
            numbers.publish(n).unwrap();
            others.publish(n).unwrap();
        }
        queued(&control, 10);
        assert_eq!(script.run_pending(&control, 0).unwrap(), 0);
        assert_eq!(script.run_pending(&control, 3).unwrap(), 3);
        assert_eq!(script.state(|seen| seen.clone()).unwrap(), [0, 1, 2]);
        control.pause();
        assert_eq!(script.run_pending(&control, 3).unwrap(), 0);
        control.resume();
        assert_eq!(script.run_pending(&control, 100).unwrap(), 7);
        let seen = script.state(std::mem::take).unwrap();
        assert_eq!(seen, (0..10).collect::<Vec<_>>());
        // The other's wait, and nothing of the first is left or comes twice.
        let mut ran = 0;
        while ran < 10 {
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
            ran += 1;
        }
        assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
        let seen = script.state(std::mem::take).unwrap();
        assert_eq!(seen, (1000..1010).collect::<Vec<_>>());
        // And what comes later comes by spinning as ever.
        numbers.publish(11).unwrap();
        assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        assert_eq!(script.state(std::mem::take).unwrap(), [11]);
    });
}

#[test]
fn a_callback_that_is_run_may_queue_more_within_the_limit() {
    let node = Node::simulated_with(1, mproc::Options::default());
    let mut script = node.script().unwrap().with(0);
    let numbers = node.publisher(&NUMBERS).unwrap();
    let again = numbers.clone();
    let control = script
        .on(&NUMBERS, move |sum, n: Sample<u64>, _| {
            *sum += 1;
            again.publish(*n + 1).map(drop)
        })
        .unwrap();
    numbers.publish(0).unwrap();
    assert_eq!(script.run_pending(&control, 5).unwrap(), 5);
    assert_eq!(script.state(|sum| *sum).unwrap(), 5);
    assert_eq!(control.snapshot().unwrap().queued, 1);
}

#[test]
fn a_callback_that_panics_does_not_stop_those_that_are_run_after_it() {
    let node = Node::simulated_with(1, mproc::Options::default());
    let mut script = node.script().unwrap().with(Vec::new());
    let control = script
        .on(&NUMBERS, |seen: &mut Vec<u64>, n: Sample<u64>, _| {
            assert_ne!(*n, 1, "on purpose");
            seen.push(*n);
        })
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    (0..4).for_each(|n| _ = numbers.publish(n).unwrap());
    assert_eq!(script.run_pending(&control, 3).unwrap(), 3);
    assert_eq!(script.run_pending(&control, 3).unwrap(), 1);
    assert_eq!(script.state(|seen| seen.clone()).unwrap(), [0, 2, 3]);
    numbers.flush(Duration::ZERO).unwrap();
    let panics: u64 = node.snapshot().processors.iter().map(|p| p.panics).sum();
    assert_eq!(panics, 1);
}

#[test]
fn exactly_as_many_samples_are_pulled_as_are_asked_for() {
    both(|pair| {
        let numbers_in = pair.subscribe.subscription(&NUMBERS).unwrap();
        let numbers = pair.publisher(&NUMBERS, 1);
        numbers.publish(0).unwrap();
        drop(recv(&numbers_in));
        (0..7).for_each(|n| _ = numbers.publish(n).unwrap());
        queued(&numbers_in.control(), 7);
        let mut seen = Vec::new();
        assert_eq!(numbers_in.run_pending(0, |n| seen.push(*n)), 0);
        assert_eq!(numbers_in.run_pending(3, |n| seen.push(*n)), 3);
        assert_eq!(seen, [0, 1, 2]);
        assert_eq!(numbers_in.run_pending(30, |n| seen.push(*n)), 4);
        assert_eq!(numbers_in.run_pending(30, |n| seen.push(*n)), 0);
        assert_eq!(seen, (0..7).collect::<Vec<_>>());
        numbers.flush(LONG).unwrap();
    });
}

/// One callback for several subscriptions: each sample says which received it.
#[test]
fn one_callback_serves_several_subscriptions() {
    both(|pair| {
        let mut script = pair.subscribe.script().unwrap().with(Vec::new());
        let hear = |seen: &mut Vec<_>, n: Sample<u64>, _: &mut mproc::ScriptCx<'_, Vec<_>>| {
            seen.push((n.subscription(), *n));
        };
        let left = script.on(&NUMBERS, hear).unwrap();
        let right = script.on(&NUMBERS, hear).unwrap();
        let other = script.on(&OTHERS, hear).unwrap();
        let numbers = pair.publisher(&NUMBERS, 2);
        let others = pair.publisher(&OTHERS, 1);
        numbers.publish(1).unwrap();
        others.publish(2).unwrap();
        for _ in 0..3 {
            assert_eq!(script.spin_once(LONG).unwrap(), Spun::Ran);
        }
        let mut seen = script.state(std::mem::take).unwrap();
        seen.sort();
        assert_eq!(seen, [(left.id(), 1), (right.id(), 1), (other.id(), 2)]);
    });
}
