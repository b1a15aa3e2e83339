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
        // Who made it waits for the first only.
        let _ = begun.send(());
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
    let [node, other] = [(); 2].map(|()| Node::with_options(node_options()));
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
    until("all are handled", || full.snapshot().handled == 4);
}

#[test]
fn a_call_on_a_pool_is_shown_with_whoever_owes_the_answer() {
    let node = Node::with_options(node_options());
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
    calls.call(()).limit(LONG).wait().unwrap();
    assert_eq!(node.snapshot().waits, []);
}

const FRAMES: Topic<u64> = Topic::new("frames");

/// The waits of a node, once there are some.
fn waits_of(node: &Node) -> Vec<mproc::WaitSnapshot> {
    until("it waits", || !node.snapshot().waits.is_empty());
    node.snapshot().waits
}

/// The runtime sees processors that wait for processors; threads that publish, and subscriptions that a thread reads, it does not.
#[test]
fn a_thread_that_publishes_is_shown_with_whom_it_waits_for() {
    let node = Node::with_options(Options::default());
    let one = || SubscriptionOptions::new().capacity(1);
    let pulled = node.subscription_with(&FRAMES, one()).unwrap();
    let frames = node.publisher(&FRAMES).unwrap();
    frames.publish(1).unwrap();
    let publisher = frames.clone();
    let publishes = thread::spawn(move || publisher.publish_timeout(2, LONG).unwrap());
    let waits = waits_of(&node);
    assert_eq!(waits.len(), 1, "{waits:?}");
    assert_eq!(waits[0].who, r#"publisher of "frames""#);
    let id = pulled.snapshot().id.get();
    assert_eq!(waits[0].on, [format!(r#"subscription {id} on "frames""#)]);
    assert_eq!(waits[0].why, "room");
    assert_eq!(*pulled.recv().wait().unwrap(), 1);
    publishes.join().unwrap();
    assert_eq!(node.snapshot().waits, []);
}

#[test]
fn a_handler_that_publishes_is_shown_once_with_a_subscription_that_a_thread_reads() {
    let node = Node::with_options(Options::default());
    let one = SubscriptionOptions::new().capacity(1);
    let pulled = node.subscription_with(&FRAMES, one).unwrap();
    let frames = node.publisher(&FRAMES).unwrap();
    let camera = closure(move |n: u64, _cx| {
        frames.publish(n).unwrap();
    });
    let camera = node.spawn_thread("camera", camera).unwrap();
    camera.send(1).unwrap();
    camera.send(2).unwrap();
    let id = pulled.snapshot().id.get();
    let on = format!(r#"subscription {id} on "frames""#);
    until("it is named", || {
        let waits = node.snapshot().waits;
        waits.len() == 1 && waits[0].who == "camera" && waits[0].on == [on.clone()]
    });
    for n in [1, 2] {
        assert_eq!(*pulled.recv().wait().unwrap(), n);
    }
    until("nobody waits", || node.snapshot().waits.is_empty());
}

/// A publisher whose values another process does not take stood still, and no screen said for whom.
#[test]
fn a_publisher_is_shown_with_the_process_that_it_waits_for() {
    let place = Place::new();
    let (here, there) = (place.node(), place.node());
    let one = SubscriptionOptions::new().capacity(1);
    let pulled = there.subscription_with(&FRAMES, one).unwrap();
    let frames = here.publisher(&FRAMES).unwrap();
    frames.wait_for_subscribers(1, LONG).unwrap();
    frames.publish(1).unwrap();
    let publishes = thread::spawn(move || frames.publish_timeout(2, LONG).unwrap());
    let waits = waits_of(&here);
    assert_eq!(waits.len(), 1, "{waits:?}");
    let on = format!(r#"process {} on "frames""#, std::process::id());
    assert_eq!(
        (&*waits[0].who, &waits[0].on),
        (r#"publisher of "frames""#, &vec![on])
    );
    assert_eq!(there.snapshot().waits, []);
    assert_eq!(*pulled.recv().wait().unwrap(), 1);
    publishes.join().unwrap();
    assert_eq!(here.snapshot().waits, []);
}
