//! Who is restarted.

use crate::{Boom, Log, MS, Part, Quit, SECOND, address, fixed, node, part, plant, told};
use mproc::prelude::*;
use mproc::{Exit, Fault, Strategy};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;

#[test]
fn one_for_one_restarts_the_one_that_failed_and_nobody_else() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let b = address(&plant, "b");
    b.send(Boom).unwrap();
    node.advance(99 * MS);
    assert_eq!(log.take(), Vec::<String>::new());
    assert!(b.snapshot().restarting);
    node.advance(MS);
    assert_eq!(log.take(), ["+b"]);
    let snapshot = b.snapshot();
    assert_eq!((snapshot.restarts, snapshot.restarting), (1, false));
    assert_eq!(node.snapshot().totals.restarts, 1);
}

#[test]
fn one_for_all_halts_the_others_in_reverse_and_begins_all_in_order() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForAll, &log);
    address(&plant, "b").send(Boom).unwrap();
    node.settle();
    assert_eq!(log.take(), ["-c", "-a"]);
    node.advance(100 * MS);
    assert_eq!(log.take(), ["+a", "+b", "+c"]);
}

#[test]
fn rest_for_one_restarts_those_that_were_started_later_with_it() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::RestForOne, &log);
    address(&plant, "b").send(Boom).unwrap();
    node.settle();
    assert_eq!(log.take(), ["-c"]);
    node.advance(100 * MS);
    assert_eq!(log.take(), ["+b", "+c"]);
    // One that fails while it is begun again starts them all over, from the first of all.
    address(&plant, "c").send(Boom).unwrap();
    node.advance(50 * MS);
    address(&plant, "a").send(Boom).unwrap();
    node.advance(100 * MS);
    assert_eq!(log.take(), ["-b", "+a", "+b", "+c"]);
}

#[test]
fn children_are_restarted_by_their_kind() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(fixed())
        .restarts(100, SECOND)
        .child(part("permanent", &log))
        .child(part("transient", &log).transient())
        .child(part("temporary", &log).temporary())
        .start()
        .unwrap();
    let all = ["permanent", "transient", "temporary"].map(|name| address(&plant, name));
    node.settle();
    log.take();
    for child in &all {
        child.send(Quit).unwrap();
    }
    node.advance(SECOND);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(
        seen,
        ["+permanent", "-permanent", "-temporary", "-transient"]
    );
    assert!(matches!(all[1].exit(), Some(Exit::Stopped)));
    assert!(matches!(all[2].exit(), Some(Exit::Stopped)));
    assert_eq!(plant.children().len(), 1);
    for name in ["transient", "temporary"] {
        let child = part(name, &log);
        let child = if name == "transient" {
            child.transient()
        } else {
            child.temporary()
        };
        plant.add(child).unwrap();
        address(&plant, name).send(Boom).unwrap();
    }
    node.advance(SECOND);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["+temporary", "+transient", "+transient"]);
    assert_eq!(plant.children().len(), 2);
}

#[test]
fn a_temporary_child_ends_with_the_others_and_does_not_come_back() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .strategy(Strategy::OneForAll)
        .child(part("a", &log))
        .child(part("b", &log).temporary())
        .child(part("c", &log).transient())
        .start()
        .unwrap();
    node.settle();
    address(&plant, "a").send(Boom).unwrap();
    node.advance(SECOND);
    let seen = log.take();
    assert_eq!(seen, ["+a", "+b", "+c", "-c", "-b", "+a", "+c"]);
}

/// A request by the address is about the processor, and not about an incarnation.
#[test]
fn whoever_ends_a_child_by_its_address_ends_it_for_good() {
    for end in [Address::stop, Address::drain, Address::kill] as [fn(&Address<Part>); 3] {
        let (node, log) = (node(1), Log::default());
        let plant = plant(&node, Strategy::OneForAll, &log);
        let b = address(&plant, "b");
        end(&b);
        node.advance(SECOND);
        assert!(b.exit().is_some_and(|exit| exit.is_orderly()));
        assert_eq!(log.take(), ["-b"]);
        let children = plant.children();
        assert_eq!(
            children.iter().map(|n| n.as_str()).collect::<Vec<_>>(),
            ["a", "c"]
        );
        assert!(plant.address::<Part>("b").is_err());
    }
}

#[test]
fn a_child_begins_when_the_one_before_it_is_up() {
    let (node, log) = (node(1), Log::default());
    let tries = Arc::new(AtomicU32::new(0));
    let (counted, noted) = (tries.clone(), log.clone());
    let second = Child::new("b", move || match counted.fetch_add(1, SeqCst) {
        0 => Err(Fault::new("not yet")),
        _ => Ok(Part {
            name: "b",
            log: noted.clone(),
            kept: Vec::new(),
        }),
    });
    let plant = node
        .supervisor("plant")
        .backoff(fixed())
        .child(part("a", &log))
        .child(second)
        .child(part("c", &log))
        .start()
        .unwrap();
    let events = plant.events(16);
    // All have their mailboxes from the start.
    address(&plant, "c").send(1).unwrap();
    node.settle();
    assert_eq!(log.take(), ["+a"]);
    node.advance(100 * MS);
    assert_eq!(log.take(), ["+b", "+c", "c 1"]);
    let told: Vec<_> = events.try_iter().map(told).collect();
    assert_eq!(
        told,
        [
            "a started",
            "b fell: did not start: not yet",
            "b started",
            "c started"
        ]
    );
}
