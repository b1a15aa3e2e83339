//! Loops in step with a clock.

use super::*;
use mproc::{Rate, Slept};
use std::thread;

#[test]
fn a_rate_keeps_its_grid_and_says_what_it_missed() {
    let node = simulated(1);
    let clock = node.steady_clock();
    let begun = clock.now();
    let mut rate = Rate::new(&clock, 100 * MS);
    let mut seen = Vec::new();
    for busy in [10, 99, 100, 370, 0, 0] {
        node.advance(busy * MS);
        let beat = rate.sleep();
        assert_eq!(beat.slept, Slept::Reached);
        seen.push(((clock.now() - begun).as_millis(), beat.missed));
    }
    // 370 ms of work after 300: it comes late, at once, and 400 and 500 were left out.
    assert_eq!(
        seen,
        [(100, 0), (200, 0), (300, 0), (670, 2), (700, 0), (800, 0)]
    );
    assert_eq!(rate.time_left(), 100 * MS);
    node.advance(30 * MS);
    rate.reset();
    assert_eq!(rate.time_left(), 100 * MS);
}

#[test]
fn a_rate_needs_no_other_thread_and_no_spinning() {
    // The node has no driver and makes no thread for it: its snapshot stays empty, and the sleeps end all the same.
    let node = Node::with_options(Options::default());
    let mut rate = Rate::new(&node.steady_clock(), MS);
    for _ in 0..3 {
        assert_eq!(rate.sleep().slept, Slept::Reached);
    }
    assert!(node.snapshot().drivers.is_empty());
}

#[test]
fn a_rate_follows_domain_time_through_changes_of_its_rate() {
    let node = simulated(2);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    time.rate(10.0).unwrap();
    time.resume().unwrap();
    let mut rate = Rate::new(&clock, SECOND);
    let begun = node.now();
    rate.sleep();
    assert_eq!(node.now() - begun, 100 * MS);
    time.rate(100.0).unwrap();
    rate.sleep();
    assert_eq!(node.now() - begun, 110 * MS);
    // Steps go over several.
    time.step(5 * SECOND).unwrap();
    let beat = rate.sleep();
    assert_eq!(
        (beat.slept, beat.missed, clock.now()),
        (Slept::Reached, 4, secs(7))
    );
}

#[test]
fn a_loop_that_sleeps_is_told_when_its_clock_is_changed() {
    let node = Node::with_options(Options::default());
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    time.set(secs(100)).unwrap();
    let (told, beats) = channel();
    let theirs = clock.clone();
    let looped = thread::spawn(move || {
        let mut rate = Rate::new(&theirs, 10 * SECOND);
        loop {
            told.send(None).unwrap();
            let beat = rate.sleep();
            told.send(Some((beat.slept, rate.time_left()))).unwrap();
            if beat.slept == Slept::Ended {
                return;
            }
        }
    });
    let next = || beats.recv_timeout(LONG).unwrap();
    assert_eq!(next(), None);
    // Whether it sleeps already or not: it is reached.
    time.step(10 * SECOND).unwrap();
    assert_eq!(next(), Some((Slept::Reached, 10 * SECOND)));
    assert_eq!(next(), None);
    // It may look at the clock before this or after: back only a loop that sleeps already is told.
    time.rate(1000.0).unwrap();
    time.resume().unwrap();
    assert!(matches!(next(), Some((Slept::Reached, _))));
    assert_eq!(next(), None);
    drop(time);
    while !matches!(next(), Some((Slept::Ended, _))) {}
    looped.join().unwrap();
}

#[test]
fn a_rate_whose_clock_went_back_begins_its_grid_anew() {
    let node = simulated(3);
    let time = node.drive_time().unwrap();
    let clock = time.clock();
    time.set(secs(100)).unwrap();
    let (told, beats) = channel();
    let theirs = clock.clone();
    // On a thread of the simulation, which sleeps when this one settles.
    let looper = mproc::closure(move |(): (), _cx: &mut Cx<'_, _, ()>| {
        let mut rate = Rate::new(&theirs, 10 * SECOND);
        for _ in 0..2 {
            told.send((rate.sleep().slept, rate.time_left())).unwrap();
        }
    });
    let looper = node.spawn_thread("looper", looper).unwrap();
    looper.send(()).unwrap();
    node.settle();
    time.set(secs(50)).unwrap();
    node.settle();
    match beats.try_recv().unwrap() {
        (Slept::Changed(jump), left) => {
            assert_eq!(
                (jump.from, jump.to, left),
                (secs(100), secs(50), 10 * SECOND)
            );
        }
        other => panic!("{other:?}"),
    }
    time.step(10 * SECOND).unwrap();
    node.settle();
    assert_eq!(beats.try_recv().unwrap(), (Slept::Reached, 10 * SECOND));
}
