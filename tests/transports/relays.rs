//! Relays: what comes on one topic goes on to another, under the rules of each.

use super::*;
use mproc::{ErrorKind, Options, PublisherOptions, Relay, RelayOptions, RelaySnapshot};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;

const RAW: Topic<u64> = Topic::new("raw");
const SHOWN: Topic<u64> = Topic::new("shown");

/// The relay is where samples arrive, and what it sends comes back.
fn there_and_back(
    pair: &Pair,
    relayed: RelayOptions<u64>,
) -> (Relay, Subscription<u64>, Publisher<u64>) {
    let shown = options(2, WhenFull::Wait);
    let shown = pair.publish.subscription_with(&SHOWN, shown).unwrap();
    let relay = pair.subscribe.relay_with(&RAW, &SHOWN, relayed).unwrap();
    shown.wait_for_publishers(1, LONG).unwrap();
    until("what is relayed has a way", || {
        let topics = pair.subscribe.snapshot().topics;
        let shown = topics.iter().find(|t| t.name == "shown");
        shown.is_some_and(|t| !t.subscriptions.is_empty())
    });
    let raw = pair.publisher(&RAW, 1);
    (relay, shown, raw)
}

/// Waits until the relay has done so much.
fn has_done(relay: &Relay, done: impl Fn(RelaySnapshot) -> bool) -> RelaySnapshot {
    until("the relay has done it", || done(relay.snapshot()));
    relay.snapshot()
}

#[test]
fn a_relay_hands_values_on_in_order_under_their_own_time() {
    both(|pair| {
        let (relay, shown, raw) = there_and_back(pair, RelayOptions::new());
        let publisher = std::thread::spawn(move || {
            (0..300).for_each(|n| _ = raw.publish(n).unwrap());
            raw
        });
        for n in 0..300 {
            let sample = recv(&shown);
            assert_eq!((*sample, sample.sequence(), sample.gap()), (n, n, 0));
            assert_eq!(sample.topic(), "shown");
            assert!(sample.published() <= sample.received());
        }
        let raw = publisher.join().unwrap();
        raw.flush(LONG).unwrap();
        let done = relay.snapshot();
        assert_eq!((done.taken, done.sent), (300, 300));
        assert_eq!((done.dropped, done.waiting, done.lost), (0, 0, 0));
    });
}

#[test]
fn a_relay_holds_its_publisher_back_or_loses_as_its_queue_says() {
    both(|pair| {
        // Its subscriber has two places, itself it has one, and one is in its hands.
        let one = RelayOptions::new().subscription(options(1, WhenFull::Wait));
        let (relay, shown, raw) = there_and_back(pair, one);
        for n in 0..3 {
            raw.publish(n).unwrap();
        }
        // Between taking a value and sending it, one waits, too.
        let done = has_done(&relay, |done| (done.taken, done.waiting) == (3, 1));
        assert_eq!((done.taken, done.sent, done.dropped), (3, 2, 0));
        raw.publish(3).unwrap();
        assert!(raw.try_publish(4).is_err());
        assert_eq!(take_all(&shown, 4), [0, 1, 2, 3]);
        relay.stop();
        until("it has left", || raw.subscriber_count() == 0);
        drop((raw, shown));

        let newest = RelayOptions::new().subscription(options(1, WhenFull::DropOldest));
        let (relay, shown, raw) = there_and_back(pair, newest);
        for n in 0..3 {
            raw.publish(n).unwrap();
            has_done(&relay, |done| done.taken == n + 1);
        }
        has_done(&relay, |done| done.waiting == 1);
        (3..10).for_each(|n| _ = raw.publish(n).unwrap());
        assert_eq!(take_all(&shown, 4), [0, 1, 2, 9]);
        let done = has_done(&relay, |done| done.sent == 4);
        assert_eq!((done.taken, done.lost, done.dropped), (4, 6, 0));
    });
}

#[test]
fn a_relay_is_paused_and_stopped() {
    both(|pair| {
        let (relay, shown, raw) = there_and_back(pair, RelayOptions::new());
        raw.publish(1).unwrap();
        assert_eq!(*recv(&shown), 1);
        relay.pause();
        assert!(relay.snapshot().paused);
        raw.publish(2).unwrap();
        raw.publish(3).unwrap();
        assert_eq!(relay.snapshot().taken, 1);
        assert!(shown.try_recv().is_err());
        relay.resume();
        assert_eq!(take_all(&shown, 2), [2, 3]);
        relay.pause();
        let queued = raw.publish_tracked(4).unwrap();
        relay.stop();
        // Given back, and nothing more arrives.
        queued.wait_timeout(LONG).unwrap();
        until("it has left", || raw.subscriber_count() == 0);
        assert_eq!(raw.publish(5).unwrap().count, 0);
        assert!(shown.try_recv().is_err());
    });
}

/// In the relay's process it is one value. To another process a copy goes, and what was copied is given back at once.
#[test]
fn a_value_is_leased_until_those_in_the_process_of_the_relay_let_go() {
    both(|pair| {
        let (_relay, shown, raw) = there_and_back(pair, RelayOptions::new());
        let near = pair.subscribe.subscription(&SHOWN).unwrap();
        let released = raw.publish_tracked(1).unwrap();
        let (near, far) = (recv(&near), recv(&shown));
        assert!(raw.flush(Duration::from_millis(5)).is_err());
        drop(near);
        if pair.is_between() {
            released.wait_timeout(LONG).unwrap();
            assert_eq!(*far, 1);
        } else {
            assert!(raw.flush(Duration::from_millis(5)).is_err());
            drop(far);
            released.wait_timeout(LONG).unwrap();
        }
    });
}

#[test]
fn parts_go_along() {
    both(|pair| {
        let (_relay, shown, raw) = there_and_back(pair, RelayOptions::new());
        let parts = vec![b"left".to_vec(), Vec::new(), b"right".to_vec()];
        raw.publish_with_parts(7, parts.clone()).unwrap();
        let sample = recv(&shown);
        assert_eq!(*sample, 7);
        assert_eq!(sample.parts().collect::<Vec<_>>(), parts);
    });
}

#[test]
fn a_tap_sees_what_passes_and_may_panic() {
    both(|pair| {
        let (tell, told) = channel();
        let tap = RelayOptions::new().tap(move |n: &Sample<u64>| {
            tell.send(**n).unwrap();
            assert_ne!(**n, 1, "on purpose");
        });
        let (relay, shown, raw) = there_and_back(pair, tap);
        for n in 0..4 {
            raw.publish(n).unwrap();
            assert_eq!(*recv(&shown), n);
            assert_eq!(told.recv_timeout(LONG), Ok(n));
        }
        let done = relay.snapshot();
        assert_eq!((done.taken, done.sent, done.dropped), (4, 4, 0));
        raw.flush(LONG).unwrap();
    });
}

#[test]
fn subscribers_in_one_process_get_the_value_that_came() {
    let node = Node::simulated_with(1, Options::default());
    let before = node.subscription(&RAW).unwrap();
    let after = node.subscription(&SHOWN).unwrap();
    let _relay = node.relay(&RAW, &SHOWN).unwrap();
    node.publisher(&RAW).unwrap().publish(1).unwrap();
    let (came, went) = (before.try_recv().unwrap(), after.recv().wait().unwrap());
    assert!(std::ptr::eq::<u64>(&*came, &*went));
    assert_eq!(came.published(), went.published());
}

#[test]
fn what_finds_no_room_until_the_limit_is_dropped_and_counted() {
    let node = Node::simulated_with(1, Options::default());
    let full = node
        .subscription_with(&SHOWN, options(1, WhenFull::Wait))
        .unwrap();
    let short = PublisherOptions::new().limit(Duration::from_secs(1));
    let relay = node
        .relay_with(&RAW, &SHOWN, RelayOptions::new().publisher(short))
        .unwrap();
    let raw = node.publisher(&RAW).unwrap();
    (0..3).for_each(|n| _ = raw.publish(n).unwrap());
    node.settle();
    let done = relay.snapshot();
    // One is sent, one waits, and the last is not taken yet.
    assert_eq!(
        (done.taken, done.sent, done.dropped, done.waiting),
        (2, 1, 0, 1)
    );
    node.advance(Duration::from_secs(3));
    let done = relay.snapshot();
    assert_eq!(
        (done.taken, done.sent, done.dropped, done.waiting),
        (3, 1, 2, 0)
    );
    assert_eq!(node.dead_letters().count(), 2);
    assert_eq!(*full.try_recv().unwrap(), 0);
    raw.publish(3).unwrap();
    node.settle();
    assert_eq!((*full.try_recv().unwrap(), relay.snapshot().sent), (3, 2));
    raw.flush(Duration::ZERO).unwrap();
}

#[test]
fn a_relay_that_stands_still_is_detached_or_dropped() {
    let node = Node::simulated_with(1, Options::default());
    let shown = node.subscription(&SHOWN).unwrap();
    let raw = node.publisher(&RAW).unwrap();
    drop(node.relay(&RAW, &SHOWN).unwrap());
    node.settle();
    assert_eq!(raw.subscriber_count(), 0);
    node.relay(&RAW, &SHOWN).unwrap().detach();
    raw.publish(1).unwrap();
    assert_eq!(*shown.recv().wait().unwrap(), 1);
}

#[test]
fn circles_of_relays_and_connections_are_refused() {
    const ENDS: Topic<u64> = Topic::new("ends");
    let node = Node::simulated_with(1, Options::default());
    let refused = |result: Result<Relay, Error>| kind(result) == Some(ErrorKind::Refused);
    assert!(refused(node.relay(&RAW, &RAW)));
    let first = node.relay(&RAW, &SHOWN).unwrap();
    assert!(refused(node.relay(&SHOWN, &RAW)));
    node.connect("shown", "ends").unwrap();
    assert!(refused(node.relay(&ENDS, &RAW)));
    assert_eq!(kind(node.connect("ends", "raw")), Some(ErrorKind::Refused));
    // Two ways are no circle.
    let second = node.relay(&RAW, &ENDS).unwrap();
    drop(first);
    drop(second);
    // What was in the way has gone, and with it all that was left of those that were refused.
    let back = node.relay(&ENDS, &RAW).unwrap();
    back.detach();
    assert_eq!(kind(node.connect("raw", "shown")), Some(ErrorKind::Refused));
    let own = Topic::<mproc::Event>::new("my/events");
    let of_events = node.relay(&mproc::EVENTS, &own);
    assert_eq!(kind(of_events), Some(ErrorKind::Refused));
}

#[test]
fn a_relay_that_is_refused_leaves_nothing_behind() {
    let node = Node::simulated_with(1, Options::default());
    let none = RelayOptions::new().subscription(SubscriptionOptions::new().capacity(0));
    let refused = node.relay_with(&RAW, &SHOWN, none);
    assert_eq!(kind(refused), Some(ErrorKind::InvalidSetting));
    let other = Topic::<u64>::plain("shown");
    assert_eq!(
        kind(node.relay(&RAW, &other)),
        Some(ErrorKind::TypeConflict)
    );
    node.settle();
    assert!(
        node.snapshot()
            .processors
            .iter()
            .all(|p| !p.name.starts_with("relay"))
    );
    node.connect("shown", "raw").unwrap();
}

/// A value that counts how often it is encoded and decoded.
#[derive(Clone, Debug, PartialEq)]
struct Counted(u64);

static ENCODED: AtomicU64 = AtomicU64::new(0);
static DECODED: AtomicU64 = AtomicU64::new(0);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ENCODED.fetch_add(1, Ordering::Relaxed);
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        DECODED.fetch_add(1, Ordering::Relaxed);
        u64::deserialize(deserializer).map(Self)
    }
}

/// Over three nodes: bytes are made by the first, read by each of the others once, and never made again.
#[test]
fn bytes_that_came_go_on_as_they_are() {
    const FROM: Topic<Counted> = Topic::new("counted/from");
    const TO: Topic<Counted> = Topic::new("counted/to");
    let pair = Pair::between();
    let (tell, told) = channel();
    // Parts are behind the value in the same bytes.
    let tap =
        RelayOptions::new().tap(move |n: &Sample<Counted>| tell.send(n.parts().len()).unwrap());
    let shown = pair.publish.subscription(&TO).unwrap();
    let _relay = pair.subscribe.relay_with(&FROM, &TO, tap).unwrap();
    shown.wait_for_publishers(1, LONG).unwrap();
    let relayed = pair.subscribe.publisher(&TO).unwrap();
    pair.joined(&relayed, 1);
    let counted = pair.publisher(&FROM, 1);
    for n in 0..20 {
        counted
            .publish_with_parts(Counted(n), vec![vec![n as u8; 100]])
            .unwrap();
        let sample = recv(&shown);
        assert_eq!(*sample, Counted(n));
        assert_eq!(sample.parts().collect::<Vec<_>>(), [vec![n as u8; 100]]);
        assert_eq!(told.recv_timeout(LONG), Ok(1));
    }
    assert_eq!(ENCODED.load(Ordering::Relaxed), 20);
    assert_eq!(DECODED.load(Ordering::Relaxed), 40);
}

#[test]
fn a_relay_joins_topics_whose_values_travel_otherwise() {
    const PLAIN: Topic<u64> = Topic::plain("plain");
    both(|pair| {
        let shown = pair.publish.subscription(&SHOWN).unwrap();
        let _relay = pair.subscribe.relay(&PLAIN, &SHOWN).unwrap();
        shown.wait_for_publishers(1, LONG).unwrap();
        let relayed = pair.subscribe.publisher(&SHOWN).unwrap();
        pair.joined(&relayed, 1);
        let plain = pair.publisher(&PLAIN, 1);
        plain.publish_with_parts(1 << 40, vec![vec![5]]).unwrap();
        let sample = recv(&shown);
        assert_eq!(*sample, 1 << 40);
        assert_eq!(sample.parts().collect::<Vec<_>>(), [[5]]);
    });
}
