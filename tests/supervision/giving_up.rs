//! Giving up.

use crate::{Boom, Log, MS, Part, SECOND, address, fixed, node, part, plant, told};
use mproc::prelude::*;
use mproc::{Backoff, Exit, Strategy, Supervisor, WhenGivingUp};

#[test]
fn who_gives_up_stops_the_children_in_reverse_and_ends_with_the_cause() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let events = plant.events(100);
    let (a, b) = (address(&plant, "a"), address(&plant, "b"));
    for _ in 0..4 {
        b.send(Boom).unwrap();
        node.advance(100 * MS);
    }
    assert_eq!(log.take(), ["+b", "+b", "+b", "-c", "-a"]);
    let down = plant.ended().wait().unwrap();
    assert!(matches!(&down.exit, Exit::GaveUp { restarts: 3, .. }));
    assert!(!down.exit.is_orderly());
    assert!(matches!(a.exit(), Some(Exit::Stopped)));
    assert!(b.exit().is_some());
    let told: Vec<_> = events.try_iter().map(told).collect();
    let end = [
        "gave up on b after 3: panicked: boom",
        "b ended: panicked: boom",
        "c ended: stopped",
        "a ended: stopped",
    ];
    assert_eq!(told[told.len() - 4..], end);
    // All names are free again, and the supervisor takes nobody.
    assert!(matches!(
        plant.add(part("d", &log)),
        Err(mproc::SpawnError::Closed(_))
    ));
    node.settle();
    node.supervisor("plant")
        .child(part("a", &log))
        .child(part("d", &log))
        .start()
        .unwrap();
}

#[test]
fn a_supervisor_that_gives_up_fails_as_a_child_of_its_own_supervisor() {
    let (node, log) = (node(1), Log::default());
    let inner = node
        .supervisor("inner")
        .backoff(Backoff::none())
        .restarts(1, 60 * SECOND)
        .child(part("b", &log))
        .child(part("c", &log));
    let events = inner.events(100);
    let outer = node
        .supervisor("outer")
        .strategy(Strategy::RestForOne)
        .backoff(fixed())
        .restarts(1, 60 * SECOND)
        .child(part("a", &log))
        .child(inner)
        .child(part("d", &log))
        .start()
        .unwrap();
    node.settle();
    // Children of different supervisors begin in no order among each other.
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["+a", "+b", "+c", "+d"]);
    let first = node.lookup::<Part>("b").unwrap();
    first.send(Boom).unwrap();
    node.settle();
    assert_eq!(log.take(), ["+b"]);
    first.send(Boom).unwrap();
    node.settle();
    // `inner` has given up: `c` is stopped by it, `d` by `outer`.
    assert_eq!(log.take(), ["-c", "-d"]);
    assert!(matches!(first.exit(), Some(Exit::Panicked(_))));
    node.advance(100 * MS);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["+b", "+c", "+d"]);
    let second = node.lookup::<Part>("b").unwrap();
    assert_ne!(first.id(), second.id());
    for _ in 0..2 {
        second.send(Boom).unwrap();
        node.settle();
    }
    node.advance(SECOND);
    let exit = outer.exit().unwrap().to_string();
    assert_eq!(
        exit,
        "gave up on \"inner\" after 1 restarts: gave up on \"b\" after 1 restarts: panicked: boom"
    );
    assert_eq!(log.take(), ["+b", "-c", "-d", "-a"]);
    let gave_up = events.try_iter().map(told);
    assert_eq!(gave_up.filter(|s| s.starts_with("gave up")).count(), 2);
}

#[test]
fn a_supervisor_that_is_halted_or_stopped_stops_its_children_first() {
    for strategy in [Strategy::OneForAll, Strategy::OneForOne] {
        let (node, log) = (node(1), Log::default());
        let inner = node
            .supervisor("inner")
            .child(part("b", &log))
            .child(part("c", &log));
        let outer = node
            .supervisor("outer")
            .strategy(strategy)
            .backoff(fixed())
            .child(inner)
            .child(part("d", &log))
            .start()
            .unwrap();
        node.settle();
        log.take();
        if strategy == Strategy::OneForAll {
            address(&outer, "d").send(Boom).unwrap();
            node.settle();
            assert_eq!(log.take(), ["-c", "-b"]);
            node.advance(SECOND);
            let mut seen = log.take();
            seen.sort();
            assert_eq!(seen, ["+b", "+c", "+d"]);
        }
        outer.stop();
        let down = outer.ended().wait().unwrap();
        assert!(matches!(down.exit, Exit::Stopped));
        assert_eq!(log.take(), ["-d", "-c", "-b"]);
        assert_eq!(node.snapshot().processors.len(), 0);
    }
}

fn one_bad(node: &Node, log: &Log, then: WhenGivingUp) -> (Supervisor, Address<Part>) {
    let plant = node
        .supervisor("plant")
        .restarts(0, SECOND)
        .backoff(fixed())
        .when_giving_up(then)
        .child(part("a", log))
        .child(part("b", log))
        .start()
        .unwrap();
    node.settle();
    log.take();
    let a = address(&plant, "a");
    (plant, a)
}

#[test]
fn a_supervisor_may_end_the_node_in_order() {
    let (node, log) = (node(1), Log::default());
    let (plant, a) = one_bad(&node, &log, WhenGivingUp::EndNode);
    let other = Part {
        name: "other",
        log: log.clone(),
        kept: Vec::new(),
    };
    let other = node.spawn_thread("other", other).unwrap();
    node.settle();
    a.send(Boom).unwrap();
    node.advance(SECOND);
    assert!(node.has_ended());
    assert!(matches!(plant.exit(), Some(Exit::GaveUp { .. })));
    assert!(matches!(other.exit(), Some(Exit::Stopped)));
    assert_eq!(log.take(), ["+other", "-b", "-other"]);
}

#[test]
fn a_supervisor_may_start_afresh() {
    let (node, log) = (node(1), Log::default());
    let (plant, first) = one_bad(&node, &log, WhenGivingUp::StartAfresh);
    plant.add(part("later", &log)).unwrap();
    for _ in 0..3 {
        let a = address(&plant, "a");
        a.send(Boom).unwrap();
        a.send(1).unwrap();
        node.advance(100 * MS);
        assert!(a.exit().is_some());
        assert_ne!(address(&plant, "a"), a);
    }
    assert!(plant.address::<Part>("later").is_err());
    assert!(plant.exit().is_none());
    assert!(first.exit().is_some());
    assert_eq!(node.dead_letters().count(), 3);
    // Also while it waits.
    address(&plant, "a").send(Boom).unwrap();
    node.settle();
    plant.stop();
    node.settle();
    assert!(matches!(plant.exit(), Some(Exit::Stopped)));
}
