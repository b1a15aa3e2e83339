//! Who is told that a clock was changed.

use super::*;
use mproc::{Jump, JumpKind, JumpThreshold};
use std::sync::{Arc, Mutex};

/// What is told of jumps of the node's domain time.
fn watch(node: &Node, threshold: JumpThreshold) -> (mproc::JumpCallback, Arc<Mutex<Vec<Jump>>>) {
    let jumps = Arc::new(Mutex::new(Vec::new()));
    let theirs = jumps.clone();
    let clock = node.domain_clock().unwrap();
    let callback = clock.on_jump(threshold, move |jump| theirs.lock().unwrap().push(jump));
    (callback, jumps)
}

fn taken(jumps: &Arc<Mutex<Vec<Jump>>>) -> Vec<(JumpKind, u64, u64)> {
    let millis = |time: Time| time.as_nanos() / 1_000_000;
    let jumps = std::mem::take(&mut *jumps.lock().unwrap());
    jumps
        .iter()
        .map(|j| (j.kind, millis(j.from), millis(j.to)))
        .collect()
}

#[test]
fn jumps_are_told_from_their_threshold_on_and_smooth_changes_never() {
    let node = simulated(1);
    let threshold = JumpThreshold::new().forward(2 * SECOND).backward(SECOND);
    let (callback, jumps) = watch(&node, threshold);
    let time = node.drive_time().unwrap();
    assert_eq!(taken(&jumps), [(JumpKind::Started, 0, 0)]);
    time.step(1999 * MS).unwrap();
    time.resume().unwrap();
    time.rate(100.0).unwrap();
    node.advance(SECOND);
    time.pause().unwrap();
    assert_eq!(taken(&jumps), []);
    time.step(2 * SECOND).unwrap();
    let now = 1999 + 100_000 + 2000;
    assert_eq!(taken(&jumps), [(JumpKind::Moved, now - 2000, now)]);
    time.set(Time::from_millis(now - 999)).unwrap();
    assert_eq!(taken(&jumps), []);
    time.set(Time::from_millis(now - 1999)).unwrap();
    assert_eq!(taken(&jumps), [(JumpKind::Moved, now - 999, now - 1999)]);
    time.end();
    let last = now - 1999;
    assert_eq!(taken(&jumps), [(JumpKind::Ended, last, last)]);
    drop(callback);
    let _again = node.drive_time().unwrap();
    assert_eq!(taken(&jumps), []);
}

#[test]
fn moves_and_changes_can_be_left_out() {
    let node = simulated(2);
    let nothing = JumpThreshold::new()
        .forward(None)
        .backward(None)
        .clock_change(false);
    let (_callback, jumps) = watch(&node, nothing);
    let time = node.drive_time().unwrap();
    time.set(secs(100)).unwrap();
    time.set(secs(1)).unwrap();
    time.end();
    assert_eq!(taken(&jumps), []);
}

#[test]
fn a_callback_may_move_the_clock_and_one_that_panics_stops_no_other() {
    let node = simulated(3);
    let time = Arc::new(node.drive_time().unwrap());
    let clock = time.clock();
    let _panics = clock.on_jump(JumpThreshold::new(), |_| panic!("a callback's own mistake"));
    let theirs = time.clone();
    let back = JumpThreshold::new().backward(None).clock_change(false);
    // Not beyond ten seconds: whatever moves it there is undone.
    let moves = clock.on_jump(back.forward(10 * SECOND), move |_| {
        theirs.set(secs(10)).unwrap();
    });
    time.set(secs(50)).unwrap();
    assert_eq!(clock.now(), secs(10));
    // What it kept goes with it.
    drop(moves);
    assert_eq!(Arc::strong_count(&time), 1);
}
