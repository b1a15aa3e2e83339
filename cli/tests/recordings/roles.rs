//! Programs to record, and to play to.

use crate::support::{LONG, listen, say};
use mproc::prelude::*;
use mproc::{Options, PublisherOptions};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How many values of each topic.
pub(crate) const COUNT: u64 = 100;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Reading {
    n: u64,
    x: f64,
    y: f32,
    name: String,
    list: Vec<Option<i32>>,
}

const READINGS: Topic<Reading> = Topic::new("test/readings");
const NUMBERS: Topic<u64> = Topic::new("test/numbers");
/// JSON cannot hold all of these.
const FLOATS: Topic<f64> = Topic::new("test/floats");
const MAPS: Topic<BTreeMap<u32, String>> = Topic::new("test/maps");
const POINTS: Topic<[f32; 3]> = Topic::plain("test/points");
const POSES: Topic<[f64; 2]> = Topic::plain("test/poses").with_schema("x: f64, y: f64");
const FRAMES: Topic<[u16]> = Topic::slices("test/frames");
const PICTURES: Topic<Reading> = Topic::new("test/pictures");
const BY_ID: Topic<u64> = Topic::with_id(mproc::TopicId::new(7, 1));
pub(crate) const COUNTER: Topic<(u64, String)> = Topic::new("counter");

fn reading(n: u64) -> Reading {
    Reading {
        n: u64::MAX - n,
        x: n as f64 * 0.1,
        y: n as f32 * 0.1,
        name: format!("r{n}\n\"é\u{1}"),
        list: vec![None, Some(-(n as i32))],
    }
}

fn float(n: u64) -> f64 {
    match n % 4 {
        0 => f64::NAN,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        _ => 1.0 / n as f64,
    }
}

fn frame(n: u64) -> Vec<u16> {
    (0..n as u16 * 7).map(|i| i ^ n as u16).collect()
}

fn parts(n: u64) -> Vec<Vec<u8>> {
    vec![vec![n as u8; n as usize], Vec::new(), b"end".to_vec()]
}

fn node() -> Node {
    let builder = Node::builder().options(Options::default());
    builder.domain("default").unwrap().build().unwrap()
}

fn publisher<T: ?Sized + Send + Sync + 'static>(node: &Node, topic: &Topic<T>) -> Publisher<T> {
    let publisher = node
        .publisher_with(topic, PublisherOptions::new().limit(LONG))
        .unwrap();
    publisher.wait_for_subscribers(1, LONG).unwrap();
    publisher
}

/// Publishes on topics of each kind once they are recorded, and says so when all was taken.
pub(crate) fn talker() {
    let node = node();
    say("ready");
    let readings = publisher(&node, &READINGS);
    let numbers = publisher(&node, &NUMBERS);
    let floats = publisher(&node, &FLOATS);
    let maps = publisher(&node, &MAPS);
    let points = publisher(&node, &POINTS);
    let poses = publisher(&node, &POSES);
    let frames = publisher(&node, &FRAMES);
    let pictures = publisher(&node, &PICTURES);
    for n in 0..COUNT {
        readings.publish(reading(n)).unwrap();
        numbers.publish(n).unwrap();
        floats.publish(float(n)).unwrap();
        maps.publish(BTreeMap::from([(n as u32, n.to_string())]))
            .unwrap();
        points.publish([n as f32, 0.1, f32::MIN_POSITIVE]).unwrap();
        poses
            .publish([n as f64 * 0.1, if n == 5 { f64::NAN } else { -1.0 }])
            .unwrap();
        let mut loan = frames.loan(frame(n).len()).unwrap();
        loan.copy_from_slice(&frame(n));
        loan.publish().unwrap();
        pictures.publish_with_parts(reading(n), parts(n)).unwrap();
    }
    readings.flush(LONG).unwrap();
    numbers.flush(LONG).unwrap();
    floats.flush(LONG).unwrap();
    maps.flush(LONG).unwrap();
    points.flush(LONG).unwrap();
    poses.flush(LONG).unwrap();
    frames.flush(LONG).unwrap();
    pictures.flush(LONG).unwrap();
    say("done");
    listen();
}

fn receive<T: ?Sized + Send + Sync + 'static>(
    subscription: &Subscription<T>,
    check: impl Fn(u64, &Sample<T>) -> bool,
) {
    for n in 0..COUNT {
        let sample = subscription.recv_timeout(LONG).unwrap();
        if !check(n, &sample) {
            say(&format!("wrong {} at {n}", sample.topic()));
            std::process::exit(1);
        }
    }
}

/// Checks that each value comes, as the talker published it and in order, and that no more come.
pub(crate) fn listener() {
    let node = node();
    fn listen_to<T: ?Sized + Send + Sync + 'static>(
        node: &Node,
        topic: &Topic<T>,
    ) -> Subscription<T> {
        let options = SubscriptionOptions::new().capacity(2 * COUNT as usize);
        node.subscription_with(topic, options).unwrap()
    }
    let readings = listen_to(&node, &READINGS);
    let numbers = listen_to(&node, &NUMBERS);
    let floats = listen_to(&node, &FLOATS);
    let maps = listen_to(&node, &MAPS);
    let points = listen_to(&node, &POINTS);
    let poses = listen_to(&node, &POSES);
    let frames = listen_to(&node, &FRAMES);
    let pictures = listen_to(&node, &PICTURES);
    say("ready");
    receive(&readings, |n, s| **s == reading(n));
    receive(&numbers, |n, s| **s == n);
    receive(&floats, |n, s| (**s).to_bits() == float(n).to_bits());
    receive(&maps, |n, s| {
        **s == BTreeMap::from([(n as u32, n.to_string())])
    });
    receive(&points, |n, s| **s == [n as f32, 0.1, f32::MIN_POSITIVE]);
    receive(&poses, |n, s| {
        s[0] == n as f64 * 0.1 && if n == 5 { s[1].is_nan() } else { s[1] == -1.0 }
    });
    receive(&frames, |n, s| **s == *frame(n));
    receive(&pictures, |n, s| {
        **s == reading(n) && s.parts().eq(parts(n).iter().map(Vec::as_slice))
    });
    say("all");
    listen();
    let more = readings.try_iter().count()
        + numbers.try_iter().count()
        + floats.try_iter().count()
        + maps.try_iter().count()
        + points.try_iter().count()
        + poses.try_iter().count()
        + frames.try_iter().count()
        + pictures.try_iter().count();
    say(&format!("{more} more"));
}

/// Publishes as many numbers as it is told, each with a text of a kilobyte, and says when all was taken.
pub(crate) fn counter() {
    let node = node();
    say("ready");
    let counter = publisher(&node, &COUNTER);
    let mut next = 0;
    while let Some(count) = listen().and_then(|line| line.parse::<u64>().ok()) {
        for n in next..next + count {
            counter.publish((n, format!("{n:01000}"))).unwrap();
        }
        next += count;
        say("published");
        counter.flush(LONG).unwrap();
        say("done");
    }
}

/// Says each number that comes.
pub(crate) fn reader() {
    let node = node();
    let options = SubscriptionOptions::new().capacity(100_000);
    let counter = node.subscription_with(&COUNTER, options).unwrap();
    say("ready");
    for sample in counter.iter() {
        say(&format!("got {}", sample.0));
    }
}

/// As the reader, of another topic.
pub(crate) fn renamed() {
    let node = node();
    let other = Topic::<(u64, String)>::new("counter/other");
    let counter = node.subscription(&other).unwrap();
    say("ready");
    for sample in counter.iter() {
        say(&format!("got {}", sample.0));
    }
}

/// A topic without a name.
pub(crate) fn by_id() {
    let node = node();
    let numbers = node.publisher(&BY_ID).unwrap();
    say("ready");
    numbers.wait_for_subscribers(1, LONG).unwrap();
    numbers.publish(5).unwrap();
    numbers.flush(LONG).unwrap();
    say("done");
    listen();
}

/// Says what domain time is, each hundredth second of domain time.
pub(crate) fn follower() {
    let builder = Node::builder().options(Options::default());
    let mut script = builder
        .domain_time()
        .domain("default")
        .unwrap()
        .init()
        .unwrap();
    script
        .every(Duration::from_millis(10), |(), cx| {
            say(&format!("time {}", cx.time().as_nanos()));
        })
        .unwrap();
    script.domain_clock().unwrap();
    say("ready");
    script.spin().unwrap();
}
