//! What is published as bytes, and who understands it.

use super::*;
use mproc::{CodecKind, ErrorKind, PublishError, PublisherOptions, RawPublisher, TypeInfo};

fn raw(node: &Node, name: &str, info: &TypeInfo) -> RawPublisher {
    node.raw_publisher(name, info, PublisherOptions::new())
        .unwrap()
}

/// What is wrong with the bytes.
fn refused(result: Result<mproc::Delivered, PublishError<()>>) -> String {
    match result.unwrap_err() {
        PublishError::Refused { error, .. } => {
            assert_eq!(error.kind(), ErrorKind::Codec);
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn typed_subscribers_get_values_whose_type_the_publisher_has_from_a_snapshot_only() {
    let pair = Pair::between();
    let poses = pair.subscribe.subscription(&POSE).unwrap();
    let goals = pair.subscribe.subscription(&GOAL).unwrap();
    let scans = pair.subscribe.subscription(&SCAN).unwrap();
    // As a survey brings it.
    let snapshot = serde_json::to_string(&pair.subscribe.snapshot()).unwrap();
    let snapshot: mproc::Snapshot = serde_json::from_str(&snapshot).unwrap();
    let published: Vec<_> = snapshot
        .topics
        .iter()
        .map(|topic| raw(&pair.publish, &topic.name, &topic.info()))
        .collect();
    let goal = Goal {
        name: "door".into(),
        speed: 0.5,
    };
    let pose = Pose {
        x: 1.0,
        y: 2.0,
        flags: [7; 8],
    };
    for publisher in &published {
        publisher.wait_for_subscribers(1, LONG).unwrap();
        let bytes = match publisher.topic() {
            "robot/pose" => pose.as_bytes().to_vec(),
            "robot/goal" => GOAL.encode(&goal).unwrap(),
            "robot/scan" => [0.5_f32, 1.5].as_bytes().to_vec(),
            other => panic!("{other}"),
        };
        assert_eq!(publisher.publish(&bytes, &[]).unwrap().count, 1);
    }
    assert_eq!(*recv(&poses), pose);
    assert_eq!(*recv(&goals), goal);
    assert_eq!(*recv(&scans), [0.5, 1.5]);
    for publisher in &published {
        publisher.flush(LONG).unwrap();
        assert_eq!(publisher.subscriber_count(), 1);
        assert_eq!(publisher.snapshot().published, 1);
    }
}

#[test]
fn raw_publishers_and_taps_need_no_type_at_all() {
    both(|pair| {
        let info = TypeInfo::new("robot::Odd", 99, CodecKind::Plain).with_schema("a: u16, b: u8");
        let tap = pair.tap("odd");
        let odd = raw(&pair.publish, "odd", &info);
        odd.wait_for_subscribers(1, LONG).unwrap();
        odd.publish(&[1, 0, 2], &[b"part", b""]).unwrap();
        let sample = recv(&tap);
        assert_eq!(sample.bytes(), [1, 0, 2]);
        assert_eq!(sample.parts().collect::<Vec<_>>(), [&b"part"[..], b""]);
        assert_eq!(sample.info().type_name, "robot::Odd");
        assert_eq!(sample.info().type_hash, 99);
        assert_eq!(
            sample.info(),
            &info,
            "with the schema, wherever it comes from"
        );
        assert_eq!(sample.publisher() == odd.id(), !pair.is_between());
        assert_eq!(pair.publish.snapshot().topics[0].info(), info);
        drop(sample);
        odd.flush(LONG).unwrap();
    });
}

#[test]
fn a_topic_that_has_its_type_in_this_process_gets_decoded_values() {
    let pair = Pair::here();
    let goals = pair.subscribe.subscription(&GOAL).unwrap();
    let poses = pair.subscribe.subscription(&POSE).unwrap();
    let goal = Goal {
        name: "door".into(),
        speed: 0.5,
    };
    let publisher = raw(&pair.publish, "robot/goal", &TypeInfo::serde("Goal"));
    let bytes = GOAL.encode(&goal).unwrap();
    publisher.publish(&bytes, &[b"part"]).unwrap();
    let sample = recv(&goals);
    assert_eq!(*sample, goal);
    assert_eq!(sample.parts().collect::<Vec<_>>(), [b"part"]);
    // One value of MessagePack, and no goal.
    let text = refused(publisher.publish(&[0xc0], &[]));
    assert!(text.contains("robot/goal"), "{text}");

    let publisher = raw(&pair.publish, "robot/pose", &POSE.info());
    publisher.publish(&[0; 24], &[]).unwrap();
    assert_eq!(recv(&poses).flags, [0; 8]);
}

#[test]
fn bytes_that_are_no_value_are_refused_with_the_reason() {
    let node = Node::with_options(Options::default());
    let words = raw(&node, "words", &TypeInfo::serde("String"));
    let text = refused(words.publish(b"\xa5hell", &[]));
    assert!(
        text.contains("\"words\"") && text.contains("byte 5"),
        "{text}"
    );
    let text = refused(words.try_publish(b"\x01\x02", &[]));
    assert!(text.contains("left over"), "{text}");
    assert!(words.publish(b"\xa5hello", &[]).is_ok());

    let pose = raw(&node, "pose", &POSE.info());
    let text = refused(pose.publish(&[0; 23], &[]));
    assert!(text.contains("23 bytes are no value of 24 bytes"), "{text}");
    let scan = raw(&node, "scan", &SCAN.info());
    let text = refused(scan.publish_timeout(&[0; 7], &[], LONG));
    assert!(
        text.contains("no whole number of values of 4 bytes"),
        "{text}"
    );
    assert!(scan.publish(&[0; 8], &[]).is_ok());
    // Of one whose layout is not known nothing can be said.
    let unknown = raw(
        &node,
        "unknown",
        &TypeInfo::new("Pose", 1, CodecKind::Plain),
    );
    assert!(unknown.publish(&[0; 5], &[]).is_ok());
}

#[test]
fn one_topic_has_one_type_known_or_not() {
    let node = Node::with_options(Options::default());
    let _words = node.publisher(&WORDS).unwrap();
    let options = PublisherOptions::new;
    let conflict = |name: &str, info: &TypeInfo, with: [&str; 2]| {
        let error = node.raw_publisher(name, info, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TypeConflict);
        let text = error.to_string();
        assert!(with.iter().all(|with| text.contains(with)), "{text}");
    };
    let vec_of = std::any::type_name::<Vec<String>>();
    conflict("robot/words", &TypeInfo::serde("i64"), [vec_of, "i64"]);
    let plain = TypeInfo::new(vec_of, WORDS.info().type_hash, CodecKind::Plain);
    conflict("robot/words", &plain, ["Serde", "Plain"]);

    let _raw = raw(&node, "goal", &TypeInfo::serde("robot::Goal"));
    conflict("goal", &TypeInfo::serde("Pose"), ["robot::Goal", "Pose"]);
    // The same again is one more publisher.
    let _again = raw(&node, "goal", &TypeInfo::serde("robot::Goal"));
    let error = node.publisher(&Topic::<Goal>::new("goal")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    assert!(
        error.to_string().contains("known by its bytes only"),
        "{error}"
    );

    let _a = raw(&node, "a", &TypeInfo::serde("u8"));
    let _b = node.publisher(&Topic::<u8>::new("b")).unwrap();
    assert_eq!(kind(node.connect("a", "b")), Some(ErrorKind::TypeConflict));
}

#[test]
fn what_no_topic_can_be_is_refused() {
    let node = Node::with_options(Options::default());
    let refused =
        |name: &str, info: &TypeInfo| kind(node.raw_publisher(name, info, PublisherOptions::new()));
    let info = TypeInfo::serde("u8");
    for name in ["", "a*", "a\n", "mproc/clock"] {
        assert_eq!(
            refused(name, &info),
            Some(ErrorKind::InvalidName),
            "{name:?}"
        );
    }
    for info in [
        TypeInfo::new("u8", 1, CodecKind::Local),
        TypeInfo::new("Pose", 1, CodecKind::Plain).with_schema("x: f65"),
        TypeInfo::serde(&"x".repeat(1025)),
    ] {
        assert_eq!(refused("a", &info), Some(ErrorKind::InvalidSetting));
    }
    let nothing = PublisherOptions::new().in_flight(0);
    let refused = kind(node.raw_publisher("a", &info, nothing));
    assert_eq!(refused, Some(ErrorKind::InvalidSetting));
}

#[test]
fn another_type_of_another_process_is_not_delivered() {
    let pair = Pair::between();
    let goals = pair.subscribe.subscription(&GOAL).unwrap();
    let wrong = raw(&pair.publish, "robot/goal", &TypeInfo::serde("Pose"));
    // It has met the other node when a right one has.
    let right = pair.publisher(&WORDS, 0);
    let words = pair.subscribe.subscription(&WORDS).unwrap();
    right.wait_for_subscribers(1, LONG).unwrap();
    right.publish(vec![]).unwrap();
    drop(recv(&words));
    assert_eq!(wrong.subscriber_count(), 0);
    assert!(goals.try_recv().is_err());
    let refused = || pair.subscribe.snapshot().domain.unwrap().refused;
    assert!(refused() > 0, "it was told");
}

#[test]
fn a_full_subscription_pushes_back() {
    both(|pair| {
        let options = SubscriptionOptions::new().capacity(1);
        let tap = pair.subscribe.tap("words", options).unwrap();
        let words = raw(&pair.publish, "words", &TypeInfo::serde("String"));
        words.wait_for_subscribers(1, LONG).unwrap();
        words.publish(b"\xa1a", &[]).unwrap();
        let full = words.try_publish(b"\xa1b", &[]).unwrap_err();
        assert!(matches!(full, PublishError::Full { .. }), "{full:?}");
        let late = words.publish_timeout(b"\xa1b", &[], Duration::ZERO);
        assert!(matches!(late, Err(PublishError::Timeout { .. })));
        assert_eq!(recv(&tap).bytes(), b"\xa1a");
        words.publish(b"\xa1c", &[]).unwrap();
        assert_eq!(recv(&tap).bytes(), b"\xa1c");
        words.close();
        let closed = words.publish(b"\xa1d", &[]);
        assert!(matches!(closed, Err(PublishError::Closed(()))));
    });
}

#[test]
fn messagepack_with_other_fields_is_dropped_by_its_subscriber_and_counted() {
    let pair = Pair::between();
    let goals = pair.subscribe.subscription(&GOAL).unwrap();
    let publisher = raw(&pair.publish, "robot/goal", &GOAL.info());
    publisher.wait_for_subscribers(1, LONG).unwrap();
    let goal = Goal {
        name: "door".into(),
        speed: 0.5,
    };
    publisher.publish(b"\x81\xa4name\xa4door", &[]).unwrap();
    publisher
        .publish(&GOAL.encode(&goal).unwrap(), &[])
        .unwrap();
    assert_eq!(*recv(&goals), goal);
    let dropped = goals.snapshot().dropped;
    assert_eq!(dropped.by(mproc::DropCause::Undecodable), 1);
}

#[test]
fn a_late_subscriber_gets_the_history_of_a_raw_publisher() {
    let pair = Pair::between();
    let options = PublisherOptions::new().history(2);
    let words = pair
        .publish
        .raw_publisher("robot/words", &WORDS.info(), options)
        .unwrap();
    for word in [b"\x91\xa1a", b"\x91\xa1b", b"\x91\xa1c"] {
        words.publish(word, &[]).unwrap();
    }
    let late = pair.subscribe.subscription(&WORDS).unwrap();
    assert_eq!(*recv(&late), ["b"]);
    assert_eq!(*recv(&late), ["c"]);
    let tap = pair.publish.tap("robot/words", SubscriptionOptions::new());
    assert_eq!(recv(&tap.unwrap()).bytes(), b"\x91\xa1b");
}

#[test]
fn a_topic_that_is_called_by_id_is_published_by_its_text() {
    const BY_ID: Topic<u32> = Topic::with_id(mproc::TopicId::new(7, 1));
    let pair = Pair::between();
    let ids = pair.subscribe.subscription(&BY_ID).unwrap();
    let publisher = raw(&pair.publish, &BY_ID.label(), &BY_ID.info());
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher.publish(&[5], &[]).unwrap();
    assert_eq!(*recv(&ids), 5);
}
