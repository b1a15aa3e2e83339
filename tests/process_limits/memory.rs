//! No more shared memory.

use super::*;
use crate::actor::{Actor, ordinary, start};
use std::ffi::OsStr;

/// A publisher with a subscription of its own and one of another process.
fn linked(base: &TempDir, more: &[(&str, &OsStr)]) -> (Actor, Actor) {
    let mut publisher = start("node", base.path(), more);
    let mut subscriber = ordinary(base);
    publisher.ask("publisher data", "made");
    publisher.ask("subscribe data", "subscribed");
    subscriber.ask("subscribe data", "subscribed");
    publisher.ask("joined data 2", "joined");
    publish(&mut publisher, &mut [&mut subscriber], 1);
    (publisher, subscriber)
}

/// A small value arrives here and there.
fn publish(publisher: &mut Actor, subscribers: &mut [&mut Actor], n: u8) {
    let count = publisher.ask(&format!("publish data 100 {n}"), "published");
    assert_eq!(count, (subscribers.len() + 1).to_string());
    assert_eq!(publisher.ask("take data", "took"), format!("100 {n}"));
    for subscriber in subscribers {
        assert_eq!(subscriber.ask("take data", "took"), format!("100 {n}"));
    }
}

fn is_clear(text: &str, bytes: usize) {
    for what in ["\"data\"", &bytes.to_string(), "RLIMIT_FSIZE", "RLIMIT_AS"] {
        assert!(text.contains(what), "{what} is not in: {text}");
    }
}

#[test]
fn publish_without_memory_is_refused_and_everything_else_goes_on() {
    let base = base();
    let (mut publisher, mut subscriber) = linked(&base, &[]);
    publisher.ask("fsize 100000", "limited");
    // The child looks whether its value came back.
    let text = publisher.ask("publish data 3000000 2", "refused");
    // A sequence of bytes has five more that say how long it is.
    is_clear(&text, 3_000_005);
    // Nobody got it, and links that are there go on.
    publish(&mut publisher, &mut [&mut subscriber], 3);
    // A new link is refused, which is told where it is missed.
    publisher.ask("fsize 8192", "limited");
    let mut late = ordinary(&base);
    late.ask("subscribe data", "subscribed");
    let text = late.wait_for("told topic \"data\"");
    assert!(text.contains(&publisher.label()), "{text}");
    assert!(text.contains("out of shared memory"), "{text}");
    publish(&mut publisher, &mut [&mut subscriber], 4);
    // When all links are gone no shared memory is needed.
    subscriber.leave();
    publisher.ask("left data 1", "left");
    assert_eq!(publisher.ask("publish data 3000000 5", "published"), "1");
    assert_eq!(publisher.ask("take data", "took"), "3000000 5");
    // When there is room again, who was refused gets what is published.
    publisher.ask("fsize none", "limited");
    publisher.ask("joined data 2", "joined");
    publish(&mut publisher, &mut [&mut late], 6);
    assert_eq!(publisher.ask("publish data 3000000 7", "published"), "2");
    assert_eq!(late.ask("take data", "took"), "3000000 7");
    late.leave();
    publisher.leave();
}

#[test]
fn publish_without_address_space_is_refused_and_links_go_on() {
    let base = base();
    let (mut publisher, mut subscriber) = linked(&base, &[]);
    let text = publisher.ask("squeeze data 16000000 2", "refused");
    is_clear(&text, 16_000_005);
    publish(&mut publisher, &mut [&mut subscriber], 3);
    assert_eq!(publisher.ask("publish data 16000000 4", "published"), "2");
    assert_eq!(subscriber.ask("take data", "took"), "16000000 4");
}

/// The bound is the program's own: the text says how to raise it.
#[test]
fn publish_of_more_than_a_topic_may_have_names_the_setting() {
    let base = base();
    let (mut publisher, mut subscriber) = linked(&base, &[("LIMITS_BYTES", "1000000".as_ref())]);
    let text = publisher.ask("publish data 2000000 2", "refused");
    for what in ["\"data\"", "2000005", "1000000", "topic_bytes"] {
        assert!(text.contains(what), "{what} is not in: {text}");
    }
    publish(&mut publisher, &mut [&mut subscriber], 3);
}
