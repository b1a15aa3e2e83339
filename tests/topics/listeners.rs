//! Values of typed topics as dynamic messages.

use crate::{Peer, Precious, SECOND, assert_conserved, roomy, values};
use mproc::prelude::*;
use mproc::{
    Data, DropCause, ErrorKind, Event, Fault, Msg, Outcome, PublishError, PublisherOptions, closure,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};

const COUNT: Topic<u32> = Topic::with_id(TopicId::new(20, 1));
const TEXT: Topic<String> = Topic::with_id(TopicId::new(20, 2));
const MIXED: u32 = 20;

/// Tells each message that it hears.
struct Listener {
    /// `None` for every topic of [`MIXED`].
    to: Option<TopicId>,
    options: Option<SubscriptionOptions<Msg>>,
    controls: mpsc::Sender<mproc::Control>,
    heard: mpsc::Sender<Sample<Msg>>,
}
impl Processor for Listener {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let options = self.options.take().unwrap_or_default();
        let subscribing = match self.to {
            Some(topic) => cx.subscribe_msgs(topic),
            None => cx.subscribe_mid(MIXED),
        };
        let control = subscribing.options(options).call(|me, msg, _| {
            me.heard.send(msg)?;
            Ok(())
        })?;
        self.controls.send(control)?;
        Ok(())
    }
    fn on_error(&mut self, _: Fault, _: &mut Cx<'_, Self>) {}
}

fn listen(
    node: &Node,
    to: Option<TopicId>,
    options: SubscriptionOptions<Msg>,
) -> (mpsc::Receiver<Sample<Msg>>, mproc::Control) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!("listener-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let (heard, hears) = mpsc::channel();
    let (controls, control) = mpsc::channel();
    let listener = Listener {
        to,
        options: Some(options),
        controls,
        heard,
    };
    node.spawn_thread(&name, listener).unwrap();
    node.settle();
    (hears, control.try_recv().unwrap())
}

fn hear_all(node: &Node) -> (mpsc::Receiver<Sample<Msg>>, mproc::Control) {
    listen(node, None, SubscriptionOptions::new())
}

fn counts(hears: &mpsc::Receiver<Sample<Msg>>) -> Vec<(u32, u64)> {
    let count = |m: &Sample<Msg>| *m.data.downcast_ref::<u32>().unwrap();
    hears.try_iter().map(|m| (count(&m), m.gap())).collect()
}

#[test]
fn values_of_typed_topics_come_to_listeners_of_their_mid_and_share_one_sample() {
    const FRAGILE: Topic<Precious> = Topic::local_with_id(TopicId::new(MIXED, 3));
    let node = Node::simulated(1);
    let early = node.publisher(&COUNT).unwrap(); // declared before
    let (hears, _) = hear_all(&node);
    let (hears_one, _) = listen(&node, Some(FRAGILE.id()), SubscriptionOptions::new());
    let late = node.publisher(&TEXT).unwrap(); // and after
    let elsewhere: Topic<u32> = Topic::with_id(TopicId::new(MIXED + 1, 1));
    assert_eq!(early.publish(5).unwrap().count, 1);
    node.settle();
    assert_eq!(late.publish("hot".into()).unwrap().count, 1);
    node.settle();
    let other = node.publisher(&elsewhere).unwrap();
    assert_eq!(other.publish(6).unwrap().count, 0);
    let heard: Vec<_> = hears.try_iter().collect();
    let kinds: Vec<_> = heard.iter().map(|m| (m.mid, m.cmd)).collect();
    assert_eq!(kinds, [(MIXED, 1), (MIXED, 2)]);
    assert_eq!(heard[0].data.downcast_ref(), Some(&5_u32));
    assert_eq!(heard[1].data.downcast_ref::<u32>(), None);
    assert_eq!((heard[1].src, heard[1].dst), (None, None));
    let text = heard[1].data.sample::<String>().unwrap();
    assert_eq!((text.as_str(), text.publisher()), ("hot", late.id()));
    assert_eq!((heard[1].number(), text.number()), (1, 1));
    assert_eq!(heard[1].encoded(), text.encoded());

    let typed = node.subscription(&FRAGILE).unwrap();
    let copies = Arc::new(AtomicUsize::new(0));
    let fragile = node.publisher(&FRAGILE).unwrap();
    let precious = Precious(copies.clone());
    assert_eq!(fragile.publish(precious).unwrap().count, 3);
    node.settle();
    let typed = typed.try_recv().unwrap();
    for hears in [hears, hears_one] {
        let msg = hears.try_recv().unwrap().into_owned();
        let value = msg.data.downcast_ref::<Precious>().unwrap();
        assert!(std::ptr::eq(value, &raw const *typed));
    }
    assert_eq!(copies.load(Ordering::SeqCst), 0);
}

#[test]
fn slices_are_heard_in_the_memory_that_their_publisher_filled() {
    const FRAMES: Topic<[u8]> = Topic::slices("frames");
    let node = Node::simulated(1);
    let (hears, _) = listen(&node, Some(FRAMES.id()), SubscriptionOptions::new());
    let mut loan = node.publisher(&FRAMES).unwrap().loan(3).unwrap();
    loan.copy_from_slice(b"RGB");
    let filled = loan.as_ptr();
    loan.publish().unwrap();
    node.settle();
    let msg = hears.try_recv().unwrap();
    let frame = msg.data.sample::<[u8]>().unwrap();
    assert_eq!((&**frame, frame.as_ptr()), (&b"RGB"[..], filled));
    assert_eq!(msg.topic_id(), FRAMES.id());
}

#[test]
fn a_value_heard_as_a_message_is_leased_until_the_last_duplicate_is_dropped() {
    let node = Node::simulated(1);
    let (hears, _) = hear_all(&node);
    let one = PublisherOptions::new().in_flight(1);
    let p = node.publisher_with(&COUNT, one).unwrap();
    p.try_publish(1).unwrap();
    node.settle();
    let sample = hears.try_recv().unwrap();
    let msg = sample.into_owned(); // its sample is gone, its message is not
    let dup = msg.dup();
    drop(msg);
    assert!(matches!(p.try_publish(2), Err(PublishError::Full { .. })));
    assert!(p.flush(SECOND).is_err());
    drop(dup);
    p.flush(Duration::ZERO).unwrap();
    p.try_publish(2).unwrap();
    node.settle();
    let msg = hears.try_recv().unwrap().into_owned();
    let kept = msg.data.sample::<u32>().unwrap().clone();
    drop(msg);
    assert!(p.try_publish(3).is_err());
    drop(kept);
    p.try_publish(3).unwrap();
}

#[test]
fn a_value_heard_as_a_message_is_leased_until_its_handler_returns() {
    struct Looker(Publisher<u32>, mpsc::Sender<(u64, bool)>);
    impl Processor for Looker {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.subscribe_mid(MIXED).map(Sample::into_owned)?;
            Ok(())
        }
    }
    impl Handle<Msg> for Looker {
        type Reply = ();
        fn handle(&mut self, _: Msg, _: &mut Cx<'_, Self>) -> Outcome<()> {
            let full = self.0.try_publish(0).is_err();
            self.1.send((self.0.snapshot().in_flight, full))?;
            Ok(())
        }
    }
    let node = Node::simulated(1);
    let one = PublisherOptions::new().in_flight(1);
    let p = node.publisher_with(&COUNT, one).unwrap();
    let (tell, told) = mpsc::channel();
    node.spawn_thread("looker", Looker(p.clone(), tell))
        .unwrap();
    node.settle();
    for n in 1..4 {
        p.try_publish(n).unwrap();
        node.settle();
        assert_eq!(told.try_recv(), Ok((1, true)));
        assert_eq!(p.snapshot().outstanding, 0);
    }
}

#[test]
fn a_kept_message_counts_once_against_the_bound_on_leases() {
    let node = roomy(1);
    let (hears, control) = listen(&node, None, SubscriptionOptions::new().max_leases(2));
    let p = node.publisher(&COUNT).unwrap();
    (0..4).for_each(|n| drop(p.publish(n).unwrap()));
    node.settle();
    let mut kept: Vec<Msg> = hears.try_iter().map(Sample::into_owned).collect();
    assert_eq!((kept.len(), control.snapshot().unwrap().held), (2, 2));
    kept.remove(0);
    node.settle();
    assert_eq!(hears.try_iter().count(), 1);
}

#[test]
fn a_listener_pushes_back_as_any_subscription_and_all_or_nobody_gets_a_value() {
    let node = roomy(1);
    let typed = node.subscription(&COUNT).unwrap();
    let (hears, control) = listen(&node, None, SubscriptionOptions::new().capacity(1));
    control.pause();
    let (count, text) = (node.publisher(&COUNT), node.publisher(&TEXT));
    let (count, text) = (count.unwrap(), text.unwrap());
    // One place for both topics: alone on the second, and beside another on the first.
    text.publish("first".into()).unwrap();
    assert_eq!(
        text.try_publish("no".into()).unwrap_err().into_inner(),
        Some("no".into())
    );
    let before = node.now();
    let PublishError::Timeout { value, full } = count.publish_timeout(1, SECOND).unwrap_err()
    else {
        panic!("it times out");
    };
    assert_eq!((node.now() - before, value), (SECOND, 1));
    assert!(full.len() == 1 && full[0].contains("listener"), "{full:?}");
    assert_eq!(values(&typed), []);
    assert_eq!(control.snapshot().unwrap().offered, 1);
    control.resume();
    count.publish(2).unwrap(); // waits for the place
    node.settle();
    let (first, second) = (hears.try_recv().unwrap(), hears.try_recv().unwrap());
    assert_eq!(first.data.downcast_ref::<String>().unwrap(), "first");
    assert_eq!(second.data.downcast_ref(), Some(&2_u32));
    assert_eq!(values(&typed), [2]);
    assert_conserved(&control.snapshot().unwrap());
}

#[test]
fn a_lossy_listener_holds_nobody_back_and_is_told_the_gap() {
    for (when_full, told, cause) in [
        (WhenFull::DropOldest, [(3, 3), (4, 0)], DropCause::Evicted),
        (WhenFull::DropNewest, [(0, 0), (1, 0)], DropCause::NoRoom),
    ] {
        let node = Node::simulated(1);
        let o = SubscriptionOptions::new().capacity(2).when_full(when_full);
        let (hears, control) = listen(&node, Some(COUNT.id()), o);
        let p = node.publisher(&COUNT).unwrap();
        control.pause();
        (0..5).for_each(|n| drop(p.try_publish(n).unwrap()));
        assert_eq!(p.snapshot().outstanding, 2);
        control.resume();
        node.settle();
        let inner = |m: &Sample<Msg>| m.data.sample::<u32>().unwrap().gap();
        let heard: Vec<_> = hears.try_iter().collect();
        assert!(heard.iter().all(|m| inner(m) == m.gap()));
        let values = heard.iter().map(|m| *m.data.downcast_ref::<u32>().unwrap());
        let heard: Vec<_> = values.zip(heard.iter().map(|m| m.gap())).collect();
        assert_eq!(heard, told);
        let shot = control.snapshot().unwrap();
        assert_eq!(shot.dropped.by(cause), 3);
        assert_eq!(node.dead_letters().count(), 3);
        assert_conserved(&shot);
    }
}

#[test]
fn a_late_listener_gets_history_first() {
    let node = roomy(1);
    let o = PublisherOptions::new().history(2);
    let p = node.publisher_with(&COUNT, o).unwrap();
    (0..3).for_each(|n| drop(p.publish(n).unwrap()));
    let (hears, _) = hear_all(&node);
    p.publish(3).unwrap();
    node.settle();
    assert_eq!(counts(&hears), [(1, 0), (2, 0), (3, 0)]);
}

#[test]
fn a_listener_filters_by_the_value() {
    let node = roomy(1);
    let even = SubscriptionOptions::new().capacity(1).filter(|m: &Msg| {
        m.data
            .downcast_ref()
            .is_some_and(|n: &u32| n.is_multiple_of(2))
    });
    let (hears, _) = listen(&node, None, even);
    let p = node.publisher(&COUNT).unwrap();
    assert_eq!(p.publish(1).unwrap().count, 0);
    p.publish(2).unwrap();
    assert_eq!(p.try_publish(4).unwrap_err().into_inner(), Some(4));
    p.try_publish(5).unwrap();
    node.settle();
    assert_eq!(counts(&hears), [(2, 0)]);
}

#[test]
fn with_no_listener_left_a_publish_does_nothing() {
    let node = Node::simulated(1);
    let (hears, control) = hear_all(&node);
    let p = node.publisher(&COUNT).unwrap();
    p.publish(0).unwrap();
    control.unsubscribe(); // and what is queued is given back
    assert_eq!(p.publish(1).unwrap().count, 0);
    assert_eq!((p.snapshot().published, p.snapshot().outstanding), (1, 0));
    node.settle();
    assert_eq!(counts(&hears), []);
}

#[test]
fn events_tell_that_listeners_join_topics_of_now_and_later() {
    let node = roomy(1);
    let events = node.events().unwrap();
    let now = node.publisher(&COUNT).unwrap();
    let (_hears, control) = hear_all(&node);
    let later = node.publisher(&TEXT).unwrap();
    control.unsubscribe();
    let joined_and_left = |topic_id: TopicId| {
        let topic = topic_id.to_string();
        let joined = Event::SubscriberMatched {
            topic: topic.clone(),
            subscribers: 1,
        };
        let subscribers = 0;
        [joined, Event::SubscriberUnmatched { topic, subscribers }]
    };
    let seen: Vec<Event> = events.try_iter().map(Sample::into_owned).collect();
    for topic in [now.topic_id(), later.topic_id()] {
        let of_subscribers = |event: &&Event| {
            event.topic() == topic.to_string() && !matches!(event, Event::PublisherMatched { .. })
        };
        let seen: Vec<Event> = seen.iter().filter(of_subscribers).cloned().collect();
        assert_eq!(seen, joined_and_left(topic));
    }
}

#[test]
fn a_publish_deferred_by_its_handler_reaches_listeners() {
    let node = Node::simulated(1);
    let (hears, control) = listen(&node, None, SubscriptionOptions::new().capacity(1));
    let pusher = closure(|n: u32, cx: &mut Cx<'_, _>| cx.publish(&COUNT, n).map(drop));
    let pusher = node.spawn_thread("pusher", pusher).unwrap();
    control.pause();
    for n in 0..3 {
        pusher.try_send(n).unwrap();
        node.settle();
    }
    control.resume();
    node.settle();
    assert_eq!(counts(&hears), [(0, 0), (1, 0), (2, 0)]);
    assert_eq!(node.dead_letters().count(), 0);
}

#[test]
fn a_script_listens_to_a_mid() {
    let node = Node::simulated(1);
    let mut script = node.script().unwrap();
    let (tell, told) = mpsc::channel();
    script.spawn("peer", Peer(tell)).unwrap();
    let p = node.publisher(&Topic::<u32>::with_id(TopicId::new(8, 5)));
    let p = p.unwrap();
    script.spin_some(10).unwrap();
    p.publish(9).unwrap();
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    let (how, msg) = told.try_recv().unwrap();
    assert_eq!((how, msg.cmd), ("8:*", 5));
    assert_eq!(msg.data.downcast_ref(), Some(&9_u32));
}

#[test]
fn a_topic_has_one_type_so_a_message_does_not_become_a_value() {
    let node = Node::simulated(1);
    let typed = node.subscription(&COUNT).unwrap();
    let msg = Msg::new(MIXED, 1).data(Data::shared(1_u32));
    let error = node.send(msg).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(text.contains("u32") && text.contains("Msg"), "{text}");
    assert_eq!(values(&typed), []);
}
