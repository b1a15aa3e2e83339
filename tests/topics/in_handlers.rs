//! Publishing inside handlers.

use crate::{NUMBERS, options, values};
use mproc::prelude::*;
use mproc::{DropCause, Fault, Outcome};

struct Pusher(Vec<String>);
struct Push(u32);
struct Faults;
impl Processor for Pusher {
    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.0.push(fault.to_string());
    }
}
impl Handle<Push> for Pusher {
    type Reply = bool;
    fn handle(&mut self, Push(n): Push, cx: &mut Cx<'_, Self, bool>) -> Outcome<bool> {
        Ok(cx.publish(&NUMBERS, n)?.deferred)
    }
}
impl Handle<Faults> for Pusher {
    type Reply = Vec<String>;
    fn handle(&mut self, _: Faults, _: &mut Cx<'_, Self, Vec<String>>) -> Outcome<Vec<String>> {
        Ok(self.0.clone())
    }
}

#[test]
fn a_publish_in_a_handler_without_room_is_deferred_and_delivered() {
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&NUMBERS, options().capacity(1))
        .unwrap();
    let pusher = node.spawn_thread("pusher", Pusher(Vec::new())).unwrap();
    assert!(!pusher.call(Push(0)).wait().unwrap());
    assert!(pusher.call(Push(1)).wait().unwrap());
    node.settle();
    assert_eq!(values(&s), [0]);
    node.settle();
    assert_eq!(values(&s), [1]);
    assert_eq!(node.dead_letters().count(), 0);
}

#[test]
fn a_deferred_publish_that_never_finds_room_is_a_dead_letter_and_its_processor_is_told() {
    let node = Node::simulated(1);
    let s = node
        .subscription_with(&NUMBERS, options().capacity(1))
        .unwrap();
    let pusher = node.spawn_thread("pusher", Pusher(Vec::new())).unwrap();
    pusher.send(Push(0)).unwrap();
    pusher.send(Push(1)).unwrap();
    node.advance(Duration::from_secs(6));
    let letters = node.dead_letters().recent();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].cause, DropCause::Timeout);
    assert_eq!(letters[0].to_name.as_str(), "numbers");
    let faults = pusher.call(Faults).wait().unwrap();
    assert!(
        faults.len() == 1 && faults[0].contains("numbers"),
        "{faults:?}"
    );
    assert_eq!(values(&s), [0]);
}
