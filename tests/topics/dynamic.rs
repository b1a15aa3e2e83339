//! Dynamic messages.

use crate::Peer;
use mproc::prelude::*;
use mproc::{Data, ErrorKind, Msg, Place};
use std::sync::mpsc;

#[test]
fn dynamic_messages_go_to_their_receiver_and_answers_come_back() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    let (answer, answered) = mpsc::channel();
    let a = node.spawn_thread("a", Peer(tell)).unwrap();
    let b = node.spawn_thread("b", Peer(answer)).unwrap();
    let (a, b): (Place, Place) = (node.accept_msgs(&a), node.accept_msgs(&b));
    let question = Msg::new(7, 1).from(b).to(a.component(3)).tag(42);
    node.send(question.data(Data::shared(5_i64))).unwrap();
    node.settle();
    let (how, got) = told.try_recv().unwrap();
    assert_eq!((how, got.data.downcast_ref()), ("direct", Some(&5_i64)));
    let (how, got) = answered.try_recv().unwrap();
    assert_eq!((how, got.tag, got.status), ("direct", 42, 1));
    assert_eq!(
        (got.src, got.data.as_bytes()),
        (Some(a.component(3)), Some(&b"yes"[..]))
    );
    assert!(told.try_recv().is_err());
}

#[test]
fn dynamic_messages_without_a_receiver_reach_all_who_subscribe_to_their_kind() {
    let node = Node::simulated(1);
    let (tell, told) = mpsc::channel();
    node.spawn_thread("a", Peer(tell)).unwrap();
    node.settle();
    for (mid, cmd) in [(7, 1), (7, 2), (8, 1), (8, 2), (9, 1)] {
        node.send(Msg::new(mid, cmd)).unwrap();
        node.settle();
    }
    let seen: Vec<_> = told.try_iter().map(|(h, m)| (h, m.mid, m.cmd)).collect();
    assert_eq!(seen, [("7:1", 7, 1), ("8:*", 8, 1), ("8:*", 8, 2)]);
}

#[test]
fn a_dynamic_message_to_nobody_is_not_found() {
    let node = Node::simulated(1);
    let (tell, _told) = mpsc::channel();
    let deaf = node.spawn_thread("a", Peer(tell)).unwrap();
    let error = node.send(Msg::new(1, 1).to(Place::of(deaf.id())));
    assert_eq!(error.unwrap_err().kind(), ErrorKind::NotFound);
}
