//! What a tap hears.

use super::*;
use mproc::{CodecKind, ErrorKind, PublisherOptions, Schema, TopicId, TryRecvError, TypeInfo};

const POSE_OF_TWO: Pose = Pose {
    x: 1.5,
    y: -2.0,
    flags: [1, 2, 3, 4, 5, 6, 7, 8],
};

#[test]
fn one_tap_hears_three_topics_of_three_codecs() {
    both(|pair| {
        let tap = pair.tap("robot/**");
        let pose = pair.publisher(&POSE, 1);
        let scan = pair.publisher(&SCAN, 1);
        let words = pair.publisher(&WORDS, 1);
        pose.publish(POSE_OF_TWO).unwrap();
        let sample = recv(&tap);
        assert_eq!(sample.topic(), "robot/pose");
        assert_eq!(sample.bytes(), POSE_OF_TWO.as_bytes());
        assert_eq!(sample.info().codec, CodecKind::Plain);
        assert_eq!(sample.info(), &POSE.info(), "with its schema");

        let mut loan = scan.loan(2).unwrap();
        loan.copy_from_slice(&[0.5, 1.0]);
        loan.publish().unwrap();
        let sample = recv(&tap);
        assert_eq!(sample.topic(), "robot/scan");
        let schema = Schema::of(sample.info()).unwrap();
        let json = serde_json::to_string(&schema.values(sample.bytes()).unwrap()).unwrap();
        assert_eq!(json, "[0.5,1.0]");

        words.publish(vec!["to".into(), "go".into()]).unwrap();
        let sample = recv(&tap);
        assert_eq!(sample.topic(), "robot/words");
        assert_eq!(sample.bytes(), b"\x92\xa2to\xa2go");
        assert_eq!(
            sample.info().type_name,
            std::any::type_name::<Vec<String>>()
        );
        assert_eq!((sample.sequence(), sample.gap()), (0, 0));
    });
}

#[test]
fn a_tap_takes_a_name_a_pattern_or_the_text_of_an_id() {
    const BY_ID: Topic<u32> = Topic::with_id(TopicId::new(7, 1));
    const NAMED_SO: Topic<u32> = Topic::new("7:1");
    both(|pair| {
        let by_id = pair.tap("7:1");
        let by_name = pair.tap("robot/goal");
        let all = pair.tap("**");
        let ids = pair.publisher(&BY_ID, 1);
        // One of that very name is heard, too.
        let named = pair.publisher(&NAMED_SO, 2);
        let goals = pair.publisher(&GOAL, 2);
        ids.publish(1).unwrap();
        let sample = recv(&by_id);
        assert_eq!((sample.topic().as_str(), sample.bytes()), ("7:1", &[1][..]));
        assert_eq!(sample.topic_id(), BY_ID.id());
        named.publish(2).unwrap();
        assert_eq!(recv(&by_id).bytes(), [2]);
        let goal = Goal {
            name: "door".into(),
            speed: 0.5,
        };
        goals.publish(goal.clone()).unwrap();
        let sample = recv(&by_name);
        assert_eq!(*GOAL.decode(sample.bytes()).unwrap(), goal);
        // Topics that have no name match no pattern.
        assert_eq!(recv(&all).topic(), "7:1");
        assert_eq!(recv(&all).topic(), "robot/goal");
        assert_eq!(all.try_recv().err(), Some(TryRecvError::Empty));
    });
}

/// A tap that was there before knew the type as it was declared first, for as long as it heard the topic.
#[test]
fn a_schema_that_is_announced_later_reaches_taps() {
    const BARE: Topic<Pose> = Topic::plain("robot/pose");
    both(|pair| {
        let tap = pair.tap("robot/**");
        let bare = pair.publisher(&BARE, 1);
        bare.publish(POSE_OF_TWO).unwrap();
        assert_eq!(recv(&tap).info().schema, None);
        // A later publisher of the same topic, in the same program.
        let later = pair.publish.publisher(&POSE).unwrap();
        let schema = loop {
            later.publish(POSE_OF_TWO).unwrap();
            let sample = recv(&tap);
            if sample.info().schema.is_some() || !pair.is_between() {
                break sample.info().schema.clone();
            }
        };
        assert_eq!(schema.as_deref(), Some(POSE_SCHEMA));
        bare.publish(POSE_OF_TWO).unwrap();
        let sample = recv(&tap);
        assert_eq!(sample.info(), &POSE.info());
        assert!(Schema::of(sample.info()).is_some());
    });
}

#[test]
fn snapshots_say_who_taps_on_both_sides() {
    both(|pair| {
        let tap = pair.tap("robot/**");
        let _reader = pair.subscribe.subscription(&WORDS).unwrap();
        let words = pair.publisher(&WORDS, 2);
        words.publish(vec!["go".into()]).unwrap();
        recv(&tap);

        let topics = pair.publish.snapshot().topics;
        let topic = topics.iter().find(|topic| topic.name == "robot/words");
        let subscriptions = &topic.unwrap().subscriptions;
        let taps: Vec<_> = subscriptions.iter().filter(|s| s.tap).collect();
        assert_eq!((subscriptions.len(), taps.len()), (2, 1));
        assert_eq!((taps[0].capacity, taps[0].offered), (64, 1));
        let tapping = pair.subscribe.info().id;
        let node = pair.is_between().then_some(tapping);
        assert_eq!(taps[0].node, node);

        let patterns = pair.subscribe.snapshot().patterns;
        let [pattern] = &patterns[..] else {
            panic!("{patterns:?}");
        };
        let counts = &pattern.subscription;
        assert_eq!((pattern.pattern.as_str(), counts.tap), ("robot/**", true));
        assert_eq!((counts.capacity, counts.taken, counts.queued), (64, 1, 0));
        drop(tap);
        assert_eq!(pair.subscribe.snapshot().patterns, []);
    });
}

#[test]
fn the_librarys_own_topics_come_only_to_those_who_name_them() {
    let pair = Pair::here();
    let events = pair.subscribe.events().unwrap();
    let all = pair.tap("**");
    let own = pair.tap("mproc/**");
    let words = pair.publisher(&WORDS, 1);
    words.publish(vec![]).unwrap();
    assert_eq!(recv(&own).topic(), "mproc/events");
    assert_eq!(recv(&all).topic(), "robot/words");
    assert_eq!(all.try_recv().err(), Some(TryRecvError::Empty));
    drop(events);
}

#[test]
fn a_tap_that_takes_nothing_and_drops_the_oldest_holds_nobody_back() {
    both(|pair| {
        let options = SubscriptionOptions::new()
            .capacity(2)
            .when_full(WhenFull::DropOldest);
        let tap = pair.subscribe.tap("robot/words", options).unwrap();
        let words = pair.publisher(&WORDS, 1);
        for n in 0..500 {
            // It would say who has no room.
            let delivered = words.try_publish(vec![n.to_string()]).unwrap();
            assert_eq!(delivered.count, 1);
        }
        let first = recv(&tap);
        assert_eq!((first.sequence(), first.gap()), (498, 498));
        let last = recv(&tap);
        assert_eq!((last.sequence(), last.gap()), (499, 0));
        assert_eq!(last.bytes(), b"\x91\xa3499");
    });
}

#[test]
fn dropping_a_sample_gives_its_lease_back() {
    both(|pair| {
        let tap = pair.tap("robot/pose");
        let pose = pair.publisher(&POSE, 1);
        pose.publish(POSE_OF_TWO).unwrap();
        let sample = recv(&tap);
        assert_eq!(kind(pose.flush(Duration::ZERO)), Some(ErrorKind::Timeout));
        let kept = sample.clone();
        drop(sample);
        assert_eq!(kind(pose.flush(Duration::ZERO)), Some(ErrorKind::Timeout));
        assert_eq!(kept.bytes(), POSE_OF_TWO.as_bytes());
        drop(kept);
        pose.flush(LONG).unwrap();
    });
}

#[test]
fn no_more_than_max_leases_are_held() {
    both(|pair| {
        let options = SubscriptionOptions::new().capacity(8).max_leases(1);
        let tap = pair.subscribe.tap("robot/pose", options).unwrap();
        let pose = pair.publisher(&POSE, 1);
        pose.publish(POSE_OF_TWO).unwrap();
        pose.publish(POSE_OF_TWO).unwrap();
        let held = recv(&tap);
        let next = tap.recv_timeout(Duration::ZERO);
        assert!(next.is_err(), "a second one would be held");
        drop(held);
        assert_eq!(recv(&tap).sequence(), 1);
    });
}

#[test]
fn a_value_in_flight_comes_back_when_its_raw_sample_is_dropped() {
    both(|pair| {
        let tap = pair.tap("robot/pose");
        let options = PublisherOptions::new().in_flight(1);
        let pose = pair.publish.publisher_with(&POSE, options).unwrap();
        pose.wait_for_subscribers(1, LONG).unwrap();
        pose.publish(POSE_OF_TWO).unwrap();
        let held = recv(&tap);
        assert!(pose.try_publish(POSE_OF_TWO).is_err());
        drop(held);
        pose.publish_timeout(POSE_OF_TWO, LONG).unwrap();
        assert_eq!(recv(&tap).sequence(), 1);
    });
}

#[test]
fn history_comes_to_a_late_tap() {
    both(|pair| {
        let options = PublisherOptions::new().history(2);
        let words = pair.publish.publisher_with(&WORDS, options).unwrap();
        for n in 0..3 {
            words.publish(vec![n.to_string()]).unwrap();
        }
        let tap = pair.tap("robot/words");
        assert_eq!(recv(&tap).bytes(), b"\x91\xa11");
        assert_eq!(recv(&tap).bytes(), b"\x91\xa12");
    });
}

#[test]
fn parts_come_with_the_value() {
    both(|pair| {
        let tap = pair.tap("robot/goal");
        let goals = pair.publisher(&GOAL, 1);
        let goal = Goal {
            name: "door".into(),
            speed: 0.5,
        };
        let parts = vec![b"one".to_vec(), vec![], b"three".to_vec()];
        goals.publish_with_parts(goal.clone(), parts).unwrap();
        let sample = recv(&tap);
        assert_eq!(*GOAL.decode(sample.bytes()).unwrap(), goal);
        let parts: Vec<_> = sample.parts().collect();
        assert_eq!(parts, [&b"one"[..], b"", b"three"]);
    });
}

#[test]
fn samples_of_a_connected_topic_have_its_name() {
    const FRONT: Topic<u32> = Topic::new("front");
    const CAMERA: Topic<u32> = Topic::new("camera");
    both(|pair| {
        pair.publish.connect("front", "camera").unwrap();
        // Of a type, so that the topic that is connected to is declared.
        let _camera = pair.publish.subscription(&CAMERA).unwrap();
        let tap = pair.tap("camera");
        let front = pair.publisher(&FRONT, 2);
        front.publish(3).unwrap();
        let sample = recv(&tap);
        assert_eq!(
            (sample.topic().as_str(), sample.bytes()),
            ("front", &[3][..])
        );
        assert_eq!(sample.topic_id(), FRONT.id());
    });
}

#[test]
fn what_is_connected_where_the_tap_is_comes_from_other_processes_too() {
    const FRONT: Topic<u32> = Topic::new("front");
    let pair = Pair::between();
    let node = &pair.subscribe;
    node.connect("front", "middle").unwrap();
    let before = pair.tap("camera");
    let front = pair.publish.publisher(&FRONT).unwrap();
    assert_eq!(front.subscriber_count(), 0);
    node.connect("middle", "camera").unwrap();
    let after = pair.tap("camera/**");
    front.wait_for_subscribers(2, LONG).unwrap();
    front.publish(3).unwrap();
    for tap in [&before, &after] {
        let sample = recv(tap);
        assert_eq!(
            (sample.topic().as_str(), sample.bytes()),
            ("front", &[3][..])
        );
    }
}

#[test]
fn a_filter_sees_the_bytes() {
    both(|pair| {
        let options = SubscriptionOptions::new()
            .capacity(8)
            .filter(|raw: &Raw| raw.bytes().last() == Some(&b'b'));
        let tap = pair.subscribe.tap("robot/words", options).unwrap();
        let words = pair.publisher(&WORDS, 1);
        for word in ["a", "b"] {
            words.publish(vec![word.to_owned()]).unwrap();
        }
        assert_eq!(recv(&tap).bytes(), b"\x91\xa1b");
    });
}

#[test]
fn all_taps_of_a_process_share_one_encoding() {
    let pair = Pair::here();
    let (a, b) = (pair.tap("robot/words"), pair.tap("robot/*"));
    let words = pair.publisher(&WORDS, 2);
    words.publish(vec!["once".into()]).unwrap();
    let (a, b) = (recv(&a), recv(&b));
    assert!(std::ptr::eq(a.bytes(), b.bytes()));
    assert!(std::ptr::eq(a.bytes(), Raw::encoded(&a).unwrap()));
}

#[test]
fn a_value_that_has_no_bytes_is_there_all_the_same_and_says_why() {
    struct Job;
    #[derive(Serialize, Deserialize)]
    struct Never {
        #[serde(serialize_with = "never")]
        field: u32,
    }
    fn never<S: serde::Serializer>(_: &u32, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
    const JOBS: Topic<Job> = Topic::local("jobs");
    const NEVER: Topic<Never> = Topic::new("never");
    let pair = Pair::here();
    let tap = pair.tap("*");
    pair.publisher(&JOBS, 1).publish(Job).unwrap();
    pair.publisher(&NEVER, 1)
        .publish(Never { field: 1 })
        .unwrap();
    let job = recv(&tap);
    assert_eq!((job.topic().as_str(), job.bytes()), ("jobs", &[][..]));
    assert_eq!(job.info().codec, CodecKind::Local);
    let why = Raw::encoded(&job).unwrap_err().to_string();
    assert!(why.contains("do not leave the process"), "{why}");
    let never = recv(&tap);
    let why = Raw::encoded(&never).unwrap_err().to_string();
    assert!(why.contains("not today"), "{why}");
    assert_eq!(tap.snapshot().taken, 2);
}

#[test]
fn the_snapshot_says_all_that_is_known_of_a_type() {
    let node = Node::with_options(Options::default());
    let _poses = node.publisher(&POSE).unwrap();
    let _scans = node.publisher(&SCAN).unwrap();
    let snapshot = node.snapshot();
    let [pose, scan] = &snapshot.topics[..] else {
        panic!("{:?}", snapshot.topics);
    };
    assert_eq!(pose.info(), POSE.info());
    assert_eq!(pose.schema.as_deref(), Some(POSE_SCHEMA));
    assert_eq!(scan.info(), SCAN.info());
    assert_eq!(scan.type_hash, SCAN.info().type_hash);
    let json = serde_json::to_string(&pose.info()).unwrap();
    assert_eq!(
        serde_json::from_str::<TypeInfo>(&json).unwrap(),
        pose.info()
    );
}

#[test]
fn a_schema_that_is_not_its_types_is_refused_when_the_topic_is_declared() {
    let node = Node::with_options(Options::default());
    let refused = |topic: &Topic<Pose>| {
        let error = node.subscription(topic).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSetting);
        error.to_string()
    };
    let plain = Topic::<Pose>::plain("pose");
    let text = refused(&plain.with_schema("x: f64, y: f64"));
    assert!(text.contains("16 bytes") && text.contains("24"), "{text}");
    let text = refused(&plain.with_schema("x: f64, y:"));
    assert!(text.contains("character 11"), "{text}");
    let words = WORDS.with_schema("x: f64");
    assert_eq!(
        kind(node.publisher(&words)),
        Some(ErrorKind::InvalidSetting)
    );

    // One topic has one schema; whoever says none takes it.
    let _first = node.publisher(&Topic::<Pose>::plain("robot/pose")).unwrap();
    let _second = node.publisher(&POSE).unwrap();
    assert_eq!(
        node.snapshot().topics[0].schema.as_deref(),
        Some(POSE_SCHEMA)
    );
    let other = POSE.with_schema("a: f64, b: f64, c: f64");
    assert_eq!(kind(node.publisher(&other)), Some(ErrorKind::TypeConflict));
}

#[test]
fn an_impossible_name_is_refused() {
    let node = Node::with_options(Options::default());
    let tap = |name: &str| kind(node.tap(name, SubscriptionOptions::new()));
    for name in ["", "robot/a*", "a\n", &"x".repeat(256)] {
        assert_eq!(tap(name), Some(ErrorKind::InvalidName), "{name:?}");
    }
    let nothing = SubscriptionOptions::new().capacity(0);
    assert_eq!(
        kind(node.tap("a", nothing)),
        Some(ErrorKind::InvalidSetting)
    );
}
