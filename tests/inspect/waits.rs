//! Who waits for whom, in the snapshot of one node.

use super::*;
use mproc::MailboxOptions;
use mproc::{Address, Closure};
use std::sync::mpsc::{Receiver, Sender, channel};

struct Hold(Receiver<()>);

/// A processor of this name with one place that is in a handler until what is returned is dropped.
fn held(node: &Node, name: &str) -> (Address<Closure<Hold, ()>>, Sender<()>) {
    let (begun, has_begun) = channel();
    let holds = closure(move |Hold(until): Hold, _cx| {
        begun.send(()).unwrap();
        let _dropped = until.recv();
    });
    let one = MailboxOptions::bounded(1);
    let holds = node.spawn_thread_with(name, one, holds).unwrap();
    let (go, until) = channel();
    holds.send(Hold(until)).unwrap();
    has_begun.recv().unwrap();
    (holds, go)
}

/// Two nodes of one program: the table of who waits is one.
#[test]
fn a_processor_without_room_for_what_it_sends_is_shown_with_whom_it_waits_for_and_by_its_node_alone()
 {
    let [node, other] = [(); 2].map(|()| Node::with_options(Options::default()));
    let (full, go) = held(&node, "full");
    let target = full.clone();
    let sends = closure(move |(): (), _cx| {
        for _ in 0..3 {
            let (_, returns_at_once) = channel();
            target.send(Hold(returns_at_once)).unwrap();
        }
    });
    let sends = node.spawn_thread("sends", sends).unwrap();
    sends.send(()).unwrap();
    until("it waits", || !node.snapshot().waits.is_empty());
    let waits = node.snapshot().waits;
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert_eq!((&*waits[0].who, &*waits[0].why), ("sends", "room"));
    assert_eq!(waits[0].on, ["full"]);
    assert_eq!(other.snapshot().waits, []);
    drop(go);
    until("nobody waits", || node.snapshot().waits.is_empty());
    node.settle();
    assert_eq!(full.snapshot().handled, 4);
}

#[test]
fn a_call_on_a_pool_is_shown_with_whoever_owes_the_answer() {
    let node = Node::with_options(Options::default());
    let (owes, go) = held(&node, "owes");
    let pool = node.pool("pool", 2).unwrap();
    let calls = closure(move |(): (), _cx| {
        let (_, returns_at_once) = channel();
        let _answer = owes.call(Hold(returns_at_once)).limit(LONG).wait();
    });
    let calls = pool.spawn("calls", calls).unwrap();
    calls.send(()).unwrap();
    until("it waits", || !node.snapshot().waits.is_empty());
    let waits = node.snapshot().waits;
    let shown = (&*waits[0].who, waits[0].on.join(" "), &*waits[0].why);
    assert_eq!(
        (waits.len(), shown),
        (1, ("calls", "owes".to_owned(), "call"))
    );
    drop(go);
    calls.call(()).wait().unwrap();
    assert_eq!(node.snapshot().waits, []);
}
