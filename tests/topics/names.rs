//! Names, types, wiring.

use crate::{NUMBERS, OTHERS, WORDS, options, roomy, values};
use mproc::prelude::*;
use mproc::{ErrorKind, Event};

#[test]
fn patterns_reach_topics_now_and_later_and_no_others() {
    const LEFT: Topic<u32> = Topic::new("robot/left/pose");
    const RIGHT: Topic<u32> = Topic::new("robot/right/pose");
    const DEEP: Topic<u32> = Topic::new("robot/left/arm/pose");
    let node = roomy(1);
    let left = node.publisher(&LEFT).unwrap();
    let one = node.subscription_matching("robot/*/pose", options());
    let one = one.unwrap();
    let all = node.subscription_matching("robot/**", options()).unwrap();
    let right = node.publisher(&RIGHT).unwrap();
    let deep = node.publisher(&DEEP).unwrap();
    left.publish(1).unwrap();
    right.publish(2).unwrap();
    deep.publish(3).unwrap();
    assert_eq!(values(&one), [1, 2]);
    assert_eq!(values(&all), [1, 2, 3]);
    for wrong in ["", "robot//pose", "robot/*left", "a/***", "a/\n"] {
        let error = node.subscription_matching(wrong, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{wrong:?}");
    }
}

/// A pattern was refused if a topic of another type was there before it, and left that topic out if it came later. So after
/// `node.events()` the pattern `**` was refused for every type but that of events.
#[test]
fn a_pattern_leaves_out_topics_of_another_type_and_internal_ones_declared_before_or_after_it() {
    const BYTE: Topic<u8> = Topic::new("a/byte");
    const WORD: Topic<u32> = Topic::new("a/word");
    for before in [true, false] {
        let node = Node::simulated(1);
        let events = before.then(|| node.events().unwrap());
        let bytes = before.then(|| node.publisher(&BYTE).unwrap());
        let words = before.then(|| node.publisher(&WORD).unwrap());
        let some = node.subscription_matching("a/*", options()).unwrap();
        let all = node.subscription_matching("**", options()).unwrap();
        let all_events = SubscriptionOptions::<Event>::new();
        let no_events = node.subscription_matching("**", all_events).unwrap();
        let all_events = SubscriptionOptions::<Event>::new();
        let their_events = node.subscription_matching("mproc/*", all_events).unwrap();
        let events = events.unwrap_or_else(|| node.events().unwrap());
        let bytes = bytes.unwrap_or_else(|| node.publisher(&BYTE).unwrap());
        let words = words.unwrap_or_else(|| node.publisher(&WORD).unwrap());
        events.try_iter().for_each(drop);
        their_events.try_iter().for_each(drop);
        assert_eq!(bytes.publish(1).unwrap().count, 0);
        assert_eq!(words.publish(2).unwrap().count, 2);
        assert_eq!((values(&some), values(&all)), (vec![2], vec![2]));
        drop(bytes);
        assert_eq!(events.try_iter().count(), 1);
        assert_eq!(their_events.try_iter().count(), 1);
        assert_eq!(no_events.try_iter().count(), 0);
    }
}

#[test]
fn a_conflict_of_types_names_both() {
    let node = Node::simulated(1);
    let _p = node.publisher(&NUMBERS).unwrap();
    let error = node
        .subscription(&Topic::<String>::new("numbers"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(text.contains("u32") && text.contains("String"), "{text}");
    let error = node.publisher(&Topic::<u32>::local("numbers")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(text.contains("Serde") && text.contains("Local"), "{text}");
    let error = node.publisher(&Topic::<u32>::new("a/*")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
}

/// Two names with one 64-bit FNV-1a hash.
const TWINS: [&str; 2] = ["8yn0iYCKYHlIj4-BwPqk", "GReLUrM4wMqfg9yzV3KQ"];

#[test]
fn two_names_with_one_id_are_refused_and_the_error_names_both() {
    for [first, second] in [TWINS, [TWINS[1], TWINS[0]]] {
        let node = Node::simulated(1);
        let (known, wanted) = (NUMBERS.renamed(first), NUMBERS.renamed(second));
        assert_eq!(known.id(), wanted.id());
        let p = node.publisher(&known).unwrap();
        let s = node.subscription(&known).unwrap();
        for error in [
            node.publisher(&wanted).unwrap_err(),
            node.subscription(&wanted).unwrap_err(),
            node.channel(&wanted, options()).unwrap_err(),
            node.subscribe(&wanted, drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::TypeConflict);
            let text = error.to_string();
            assert!(text.contains(first) && text.contains(second), "{text}");
        }
        // The first is none the worse for it.
        p.publish(1).unwrap();
        assert_eq!(values(&s), [1]);
    }
}

#[test]
fn a_pair_that_is_the_id_of_a_name_is_refused_and_the_error_names_both() {
    let id = NUMBERS.id();
    let pair: Topic<u32> = Topic::with_id(TopicId::new(id.mid(), id.cmd()));
    for (known, wanted) in [(NUMBERS, pair), (pair, NUMBERS)] {
        let node = Node::simulated(1);
        let _p = node.publisher(&known).unwrap();
        let error = node.subscription(&wanted).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TypeConflict);
        let text = error.to_string();
        let named = text.contains("\"numbers\"") && text.contains(&id.to_string());
        assert!(named, "{text}");
    }
}

#[test]
fn a_bad_topic_name_is_refused_and_the_error_says_why() {
    let node = Node::simulated(1);
    let long = "x".repeat(256);
    for (name, problem) in [(&*long, "256 bytes"), ("a\nb", "byte 1"), ("a/*", "*")] {
        let topic = NUMBERS.renamed(name);
        for error in [
            node.publisher(&topic).unwrap_err(),
            node.subscription(&topic).unwrap_err(),
            node.channel(&topic, options()).unwrap_err(),
            node.subscribe(&topic, drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
    for (name, problem) in [("", "empty"), (&*long, "256 bytes"), ("a\nb", "byte 1")] {
        for (from, to) in [(name, "fine"), ("fine", name)] {
            let error = node.connect(from, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidName);
            assert!(error.to_string().contains(problem), "{error}");
        }
    }
    // 255 bytes are not too many.
    node.publisher(&NUMBERS.renamed(&long[1..])).unwrap();
}

#[test]
fn an_empty_topic_name_is_refused() {
    let node = Node::simulated(1);
    let error = node.publisher(&Topic::<u32>::new("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
    assert!(error.to_string().contains("empty"), "{error}");
    let error = node.subscription(&Topic::<u32>::local("")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidName);
}

#[test]
fn an_impossible_pattern_is_refused_and_the_error_names_the_segment() {
    let node = Node::simulated(1);
    for (pattern, problem) in [
        ("", "empty"),
        ("robot//pose", "segment 2"),
        ("/robot", "segment 1"),
        ("robot/", "segment 2"),
        ("robot/*left", "\"*left\""),
        ("a/b/***", "segment 3"),
        ("a/\n", "control character"),
    ] {
        let error = node.subscription_matching(pattern, options()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName, "{pattern:?}");
        let text = error.to_string();
        let named = text.contains(problem) && text.contains(&format!("{pattern:?}"));
        assert!(named, "{text}");
    }
}

#[test]
fn connected_topics_share_samples_and_circles_are_refused() {
    let node = Node::simulated(1);
    node.connect("numbers", "others").unwrap();
    let others = node.subscription(&OTHERS).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    assert_eq!(values(&others), [1]);
    for (from, to) in [("others", "numbers"), ("numbers", "numbers")] {
        let error = node.connect(from, to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    }
    node.connect("others", "third").unwrap();
    let error = node.connect("third", "numbers").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    let _words = node.publisher(&WORDS).unwrap();
    let error = node.connect("numbers", "words").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    assert!(node.disconnect("numbers", "others"));
    assert!(!node.disconnect("numbers", "others"));
    numbers.publish(2).unwrap();
    assert_eq!(values(&others), []);
}
