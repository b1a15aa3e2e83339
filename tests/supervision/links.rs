//! Watches and links.

use crate::{Boom, Busy, Log, Part, Quit, SECOND, address, node, plant};
use mproc::prelude::*;
use mproc::{DropCause, Exit, Strategy};
use std::sync::{Arc, Mutex};

/// Watches and links as it is told, once it has started.
struct Friend {
    watches: Vec<Address<Part>>,
    links: Vec<Address<Part>>,
    log: Log,
}
impl Processor for Friend {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        for other in &self.watches {
            cx.watch(other);
        }
        for other in &self.links {
            cx.link(other);
        }
        self.log.note("+friend");
        Ok(())
    }
}
impl Handle<Down> for Friend {
    type Reply = ();
    fn handle(&mut self, down: Down, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.log.note(format!("down {} {}", down.name, down.exit));
        Ok(())
    }
}
impl Handle<Boom> for Friend {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        panic!("boom");
    }
}
impl Handle<Quit> for Friend {
    type Reply = ();
    fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.stop();
        Ok(())
    }
}

#[test]
fn down_comes_at_the_end_for_good_once_to_the_incarnation_that_lives() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let (a, noted) = (address(&plant, "a"), log.clone());
    let watched = a.clone();
    let friend = Child::new("friend", move || Friend {
        watches: vec![watched.clone()],
        links: Vec::new(),
        log: noted.clone(),
    });
    plant.add(friend).unwrap();
    let friend = plant.address::<Friend>("friend").unwrap();
    node.settle();
    a.send(Boom).unwrap();
    node.advance(SECOND);
    friend.send(Boom).unwrap();
    node.advance(SECOND);
    assert_eq!(log.take(), ["+friend", "+a", "+friend"]);
    a.stop();
    node.settle();
    assert_eq!(log.take(), ["-a", "down a stopped"]);
}

#[test]
fn linked_processors_end_together_unless_the_end_is_in_order() {
    let (node, log) = (node(1), Log::default());
    let make = |name: &'static str| {
        let part = Part {
            name,
            log: Log::default(),
            kept: Vec::new(),
        };
        node.spawn_thread(name, part).unwrap()
    };
    let link = |name: &str, other: &Address<Part>| {
        let friend = Friend {
            watches: Vec::new(),
            links: vec![other.clone()],
            log: log.clone(),
        };
        let friend = node.spawn_thread(name, friend).unwrap();
        node.settle();
        friend
    };
    // Either way round.
    let a = make("a");
    let friend = link("friend of a", &a);
    a.send(Boom).unwrap();
    node.settle();
    let exit = friend.exit().unwrap();
    assert_eq!(exit.to_string(), "ended with \"a\": panicked: boom");
    assert!(!exit.is_orderly());
    let b = make("b");
    let friend = link("friend of b", &b);
    b.send(Busy(SECOND)).unwrap();
    b.send(1).unwrap();
    node.settle();
    friend.kill();
    node.settle();
    assert!(b.exit().is_none(), "its handler goes on to its end");
    node.advance(SECOND);
    assert!(matches!(b.exit(), Some(Exit::Linked { .. })));
    assert_eq!(b.snapshot().dropped.by(DropCause::Killed), 1);
    // In order.
    let c = make("c");
    let friend = link("friend of c", &c);
    c.stop();
    node.settle();
    assert!(friend.exit().is_none());
    // With one that has ended already.
    let friend = link("late friend of a", &a);
    assert!(matches!(friend.exit(), Some(Exit::Linked { .. })));
}

#[test]
fn links_of_a_supervised_processor_are_those_of_its_incarnation() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let make = || {
        let part = Part {
            name: "p",
            log: Log::default(),
            kept: Vec::new(),
        };
        node.spawn_thread("p", part).unwrap()
    };
    let (p, noted) = (Arc::new(Mutex::new(make())), log.clone());
    let linked = p.clone();
    let friend = Child::new("friend", move || Friend {
        watches: Vec::new(),
        links: vec![linked.lock().unwrap().clone()],
        log: noted.clone(),
    });
    plant.add(friend.transient()).unwrap();
    let friend = plant.address::<Friend>("friend").unwrap();
    node.settle();
    // Its restart ends nobody, and leaves no link behind.
    let first = p.lock().unwrap().clone();
    friend.send(Boom).unwrap();
    node.settle();
    assert!(first.exit().is_none());
    first.kill();
    node.settle();
    *p.lock().unwrap() = make();
    node.advance(SECOND);
    assert_eq!(log.take(), ["+friend", "+friend"]);
    // It is restarted after the end of whom it is linked to.
    let second = p.lock().unwrap().clone();
    second.send(Boom).unwrap();
    node.settle();
    *p.lock().unwrap() = make();
    node.advance(SECOND);
    assert_eq!(log.take(), ["+friend"]);
    assert_eq!(friend.snapshot().restarts, 2);
    // Its end for good is told to those who are linked.
    let third = p.lock().unwrap().clone();
    friend.kill();
    node.settle();
    assert!(matches!(third.exit(), Some(Exit::Linked { .. })));
}
