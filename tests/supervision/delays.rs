//! Delays and limits.

use crate::{Boom, Broken, Log, MS, SECOND, address, node, part};
use mproc::prelude::*;
use mproc::{Backoff, Exit, SupervisorEvent};
use std::sync::{Arc, Mutex};
use std::time::Instant;

/// The delays that a supervisor has waited before each attempt, as the clock says.
fn delays(seed: u64) -> Vec<Duration> {
    let node = node(seed);
    let tries = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let (noted, clock) = (tries.clone(), node.without_guard());
    let broken = Child::new("broken", move || {
        noted.lock().unwrap().push(clock.now());
        Broken
    });
    let spec = node
        .supervisor("plant")
        .backoff(Backoff::exponential(10 * MS, SECOND))
        .restarts(9, Duration::from_secs(3600))
        .child(broken);
    let events = spec.events(100);
    let plant = spec.start().unwrap();
    node.advance(60 * SECOND);
    assert!(matches!(plant.exit(), Some(Exit::GaveUp { .. })));
    let tries = tries.lock().unwrap();
    let waited: Vec<_> = tries.windows(2).map(|w| w[1] - w[0]).collect();
    let said: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            SupervisorEvent::Fell { delay, .. } => Some(delay),
            _ => None,
        })
        .collect();
    assert_eq!(waited, said);
    waited
}

#[test]
fn delays_double_up_to_the_longest_with_a_part_left_to_chance_that_a_seed_repeats() {
    let mut all = Vec::new();
    for seed in 0..20 {
        let delays = delays(seed);
        assert_eq!(delays.len(), 9);
        for (n, delay) in delays.iter().enumerate() {
            let whole = (10 * MS * 2_u32.pow(n as u32)).min(SECOND);
            assert!((whole / 2..=whole).contains(delay), "{n}: {delay:?}");
        }
        assert_eq!(delays, self::delays(seed));
        all.push(delays);
    }
    all.dedup();
    assert_eq!(all.len(), 20, "chance has no part in it");
}

#[test]
fn whoever_was_up_for_long_begins_again_with_the_first_delay() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(Backoff::exponential(10 * MS, SECOND).jitter(0.0))
        .restarts(100, SECOND)
        .child(part("a", &log))
        .start()
        .unwrap();
    let (a, events) = (address(&plant, "a"), plant.events(100));
    for wait in [100 * MS, 100 * MS, 1100 * MS, 100 * MS] {
        a.send(Boom).unwrap();
        node.advance(wait);
    }
    let delays: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            SupervisorEvent::Fell { delay, .. } => Some(delay),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [10 * MS, 20 * MS, 40 * MS, 10 * MS]);
}

#[test]
fn restarts_count_within_a_window_that_slides() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(Backoff::none())
        .restarts(2, 10 * SECOND)
        .child(part("a", &log))
        .start()
        .unwrap();
    let a = address(&plant, "a");
    // At 0, 6, 12, 18, ... seconds: never more than two within ten.
    for _ in 0..10 {
        a.send(Boom).unwrap();
        node.advance(6 * SECOND);
    }
    assert_eq!(a.snapshot().restarts, 10);
    a.send(Boom).unwrap();
    node.advance(SECOND);
    a.send(Boom).unwrap();
    node.settle();
    let exit = plant.exit().unwrap();
    assert_eq!(
        exit.to_string(),
        "gave up on \"a\" after 2 restarts: panicked: boom"
    );
}
