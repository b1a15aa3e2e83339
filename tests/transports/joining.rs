//! Who finds whom: names, patterns, pairs of numbers, connections; and who does not fit.

use super::*;
use mproc::{Data, Event, Msg, Topics, closure};
use serde::{Deserialize, Serialize};
use std::sync::mpsc::channel;

const LEFT: Topic<i64> = Topic::new("robot/left/speed");
const RIGHT: Topic<i64> = Topic::new("robot/right/speed");
const SPEED: Topic<i64> = Topic::new("speed");
const ALARM: Topic<String> = Topic::with_id(TopicId::new(7, 1));

#[test]
fn a_pattern_finds_topics_of_other_nodes() {
    both(|pair| {
        let options = SubscriptionOptions::new().travels_as(&LEFT);
        let speeds = pair
            .subscribe
            .subscription_matching::<i64>("robot/*/speed", options)
            .unwrap();
        let left = pair.publisher(&LEFT, 1);
        left.publish(1).unwrap();
        let sample = recv(&speeds);
        assert_eq!((*sample, sample.topic()), (1, "robot/left/speed".into()));
        // Declared later, and one that does not match.
        let right = pair.publisher(&RIGHT, 1);
        let other = pair.publish.publisher(&SPEED).unwrap();
        right.publish(2).unwrap();
        assert_eq!(other.publish(3).unwrap().count, 0);
        let sample = recv(&speeds);
        assert_eq!((*sample, sample.topic()), (2, "robot/right/speed".into()));
    });
}

#[test]
fn pairs_of_numbers_are_topics_as_names_are() {
    both(|pair| {
        let alarms = pair.subscribe.subscription(&ALARM).unwrap();
        pair.publisher(&ALARM, 1).publish("hot".into()).unwrap();
        let sample = recv(&alarms);
        assert_eq!((sample.as_str(), sample.topic().as_str()), ("hot", "7:1"));
    });
}

#[test]
fn dynamic_messages_cross() {
    both(|pair| {
        let (tell, told) = channel();
        let listener = pair
            .subscribe
            .spawn_thread("listener", closure(|(): (), _: &mut _| ()))
            .unwrap();
        listener
            .with_processor(move |_, cx| {
                let subscribed = cx.subscribe_mid(9).call(move |_, msg: Sample<Msg>, _| {
                    let text = msg.data.as_bytes().map(<[u8]>::to_vec);
                    tell.send((msg.cmd, msg.tag, msg.status, text)).unwrap();
                    Ok(())
                });
                subscribed.unwrap();
            })
            .unwrap();
        let message = |cmd, data| Msg::new(9, cmd).tag(5).data(data);
        let bytes = Data::Bytes(b"hello".as_slice().into());
        // Declares the topic; heard only once the two have met.
        let topic = Topic::<Msg>::with_id(TopicId::new(9, 1));
        let _publisher = pair.publisher(&topic, 1);
        pair.publish.send(message(1, bytes.clone())).unwrap();
        pair.publish.send(message(1, Data::Empty)).unwrap();
        assert_eq!(
            told.recv_timeout(LONG).unwrap(),
            (1, 5, 0, Some(b"hello".to_vec()))
        );
        assert_eq!(told.recv_timeout(LONG).unwrap(), (1, 5, 0, None));
        if pair.is_between() {
            // A shared value has no bytes.
            let error = pair.publish.send(message(1, Data::shared(5))).unwrap_err();
            assert!(error.to_string().contains("shared data"), "{error}");
        }
    });
}

#[test]
fn values_of_typed_topics_come_as_messages() {
    both(|pair| {
        let (tell, told) = channel();
        let listener = pair
            .subscribe
            .spawn_thread("listener", closure(|(): (), _: &mut _| ()))
            .unwrap();
        listener
            .with_processor(move |_, cx| {
                let id = TopicId::new(7, 1);
                let subscribed = cx.subscribe_msgs(id).call(move |_, msg: Sample<Msg>, _| {
                    let typed = msg.data.downcast_ref::<String>().cloned();
                    let bytes = msg.data.as_bytes().map(<[u8]>::to_vec);
                    tell.send((typed, bytes)).unwrap();
                    Ok(())
                });
                subscribed.unwrap();
            })
            .unwrap();
        let alarms = pair.publisher(&ALARM, 1);
        alarms.publish("hot".into()).unwrap();
        let (typed, bytes) = told.recv_timeout(LONG).unwrap();
        if pair.is_between() {
            // That process does not know the type.
            assert_eq!(bytes, Some(ALARM.encode(&"hot".into()).unwrap()));
        } else {
            assert_eq!(typed.as_deref(), Some("hot"));
        }
        alarms.flush(LONG).unwrap();
    });
}

#[test]
fn connected_topics_reach_across() {
    both(|pair| {
        let speeds = pair.subscribe.subscription(&SPEED).unwrap();
        pair.subscribe.connect("robot/left/speed", "speed").unwrap();
        let left = pair.publisher(&LEFT, 1);
        left.publish(4).unwrap();
        let sample = recv(&speeds);
        assert_eq!((*sample, sample.topic()), (4, "robot/left/speed".into()));
    });
}

#[test]
fn counts_and_events_tell_of_other_nodes() {
    both(|pair| {
        let events = pair.publish.events().unwrap();
        let speeds = pair.publish.publisher(&SPEED).unwrap();
        let next = || loop {
            let event = recv(&events).into_owned();
            if event.topic() == "speed" {
                return event;
            }
        };
        let topic = || "speed".to_owned();
        assert_eq!(
            next(),
            Event::PublisherMatched {
                topic: topic(),
                publishers: 1
            }
        );
        let subscription = pair.subscribe.subscription(&SPEED).unwrap();
        assert_eq!(
            next(),
            Event::SubscriberMatched {
                topic: topic(),
                subscribers: 1
            }
        );
        subscription.wait_for_publishers(1, LONG).unwrap();
        drop(subscription);
        assert_eq!(
            next(),
            Event::SubscriberUnmatched {
                topic: topic(),
                subscribers: 0
            }
        );
        assert_eq!(speeds.subscriber_count(), 0);
    });
}

mod old {
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
    pub(super) struct Reading {
        pub(super) celsius: f64,
    }
}

mod new {
    #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    pub(super) struct Reading {
        pub(super) kelvin: f64,
    }
}

#[test]
fn a_value_that_cannot_be_decoded_is_dropped_and_counted() {
    // The same name, another content: two programs of different age.
    const OLD: Topic<old::Reading> = Topic::new("reading");
    const NEW: Topic<new::Reading> = Topic::new("reading");
    let pair = Pair::between();
    let readings = pair.subscribe.subscription(&NEW).unwrap();
    let old = pair.publisher(&OLD, 1);
    for _ in 0..3 {
        old.publish(old::Reading { celsius: 20.0 }).unwrap();
    }
    old.flush(Duration::ZERO).unwrap_err();
    // The next that can be decoded says how many could not.
    let third = Node::builder()
        .domain_with(
            DomainOptions::new("contract")
                .unwrap()
                .directory(pair._directory.as_ref().unwrap().path()),
        )
        .build()
        .unwrap();
    let new = third.publisher(&NEW).unwrap();
    new.wait_for_subscribers(1, LONG).unwrap();
    new.publish(new::Reading { kelvin: 1.0 }).unwrap();
    assert_eq!(recv(&readings).kelvin, 1.0);
    // Looks for more, and so finds what makes no sense.
    assert!(readings.try_recv().is_err());
    old.flush(LONG).unwrap();
    let snapshot = readings.snapshot();
    let undecodable = snapshot.dropped.by(mproc::DropCause::Undecodable);
    assert_eq!((snapshot.taken, undecodable), (1, 3));
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Other;

#[test]
fn another_type_is_not_linked_and_hurts_nobody() {
    const WRONG: Topic<Other> = Topic::new("speed");
    let pair = Pair::between();
    let wrong = pair.subscribe.subscription(&WRONG).unwrap();
    let right = pair.subscribe.subscription(&LEFT).unwrap();
    let speeds = pair.publish.publisher(&SPEED).unwrap();
    let left = pair.publisher(&LEFT, 1);
    left.publish(1).unwrap();
    assert_eq!(*recv(&right), 1);
    // They have met, and are not linked.
    wrong.wait_for_publishers(1, LONG).unwrap();
    assert_eq!(speeds.publish(1).unwrap().count, 0);
    assert!(wrong.try_recv().is_err());
    let domain = |node: &Node| node.snapshot().domain.unwrap();
    until("the refusal is counted", || {
        domain(&pair.subscribe).refused == 1
    });
    until("the link is counted", || domain(&pair.publish).links == 1);
    let here = domain(&pair.publish);
    assert_eq!((here.name.as_str(), here.peers), ("contract", 1));
    let there = domain(&pair.subscribe);
    assert_eq!((there.peers, there.violations), (1, 0));
}

#[test]
fn local_topics_stay_where_they_are() {
    const JOBS: Topic<i64> = Topic::local("jobs");
    let pair = Pair::between();
    let jobs = pair.subscribe.subscription(&JOBS).unwrap();
    let here = pair.publish.publisher(&JOBS).unwrap();
    let marker = pair.subscribe.subscription(&SPEED).unwrap();
    pair.publisher(&SPEED, 1).publish(1).unwrap();
    assert_eq!(*recv(&marker), 1);
    assert_eq!(here.publish(1).unwrap().count, 0);
    assert!(jobs.try_recv().is_err());
}

#[test]
fn a_node_that_cannot_join_says_why() {
    let missing = std::path::Path::new("/nonexistent/for/mproc");
    let domain = DomainOptions::new("contract").unwrap().directory(missing);
    let error = Node::builder().domain_with(domain).build().unwrap_err();
    assert!(error.to_string().contains("/nonexistent"), "{error}");
}
