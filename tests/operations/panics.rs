//! A callback that panics does not stop what comes after it, however that comes.

use crate::{NUMBERS, SECOND, simulated};
use mproc::prelude::*;
use mproc::{AfterPanic, CallError};
use std::sync::mpsc;

/// Panics at each second number, and tells of the others.
struct Touchy {
    tell: mpsc::Sender<u32>,
    seen: u32,
}

impl Touchy {
    fn see(&mut self, n: u32) {
        self.seen += 1;
        assert!(!self.seen.is_multiple_of(2), "the second of two");
        self.tell.send(n).unwrap();
    }
}

impl Processor for Touchy {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.subscribe(&NUMBERS).call(|me, n, _| {
            me.see(*n);
            Ok(())
        })?;
        Ok(())
    }

    fn on_panic(&mut self, _message: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl Handle<u32> for Touchy {
    type Reply = u32;
    fn handle(&mut self, n: u32, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.see(n);
        Ok(n)
    }
}

#[test]
fn a_callback_that_panics_does_not_stop_what_follows_however_it_comes() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let touchy = node
        .spawn_thread("touchy", Touchy { tell, seen: 0 })
        .unwrap();
    node.settle();
    let seen = || {
        node.settle();
        told.try_iter().collect::<Vec<_>>()
    };
    for n in 0..4 {
        touchy.send(n).unwrap();
    }
    assert_eq!(seen(), [0, 2]);

    let publisher = node.publisher(&NUMBERS).unwrap();
    for n in 0..4 {
        publisher.publish(n).unwrap();
    }
    assert_eq!(seen(), [0, 2]);

    let tickets: Vec<_> = (0..4).map(|n| touchy.call(n).start()).collect();
    let results: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
    assert!(matches!(
        &results[..],
        [
            Ok(0),
            Err(CallError::Panicked(_)),
            Ok(2),
            Err(CallError::Panicked(_))
        ]
    ));
    assert_eq!(seen(), [0, 2]);

    for n in 0..4 {
        touchy.reserve().wait().unwrap().send(n).unwrap();
    }
    assert_eq!(seen(), [0, 2]);
}

#[test]
fn a_closure_that_panics_gets_the_samples_that_follow() {
    let node = simulated(1);
    let (tell, told) = mpsc::channel();
    let subscription = node
        .subscribe(&NUMBERS, move |n| {
            assert!(*n != 1, "not this one");
            tell.send(*n).unwrap();
        })
        .unwrap();
    let publisher = node.publisher(&NUMBERS).unwrap();
    for n in 0..4 {
        publisher.publish(n).unwrap();
    }
    publisher.flush(SECOND).unwrap();
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [0, 2, 3]);
    drop(subscription);
}
