//! The commands that look at programs and talk to them, with real processes.
//!
//! | file | idea |
//! |---|---|
//! | `main.rs` | the programs to look at |
//! | `looking.rs` | list, info, graph |
//! | `hearing.rs` | echo, hz, bw, delay |
//! | `talking.rs` | pub, call |

#[path = "../support/mod.rs"]
mod support;

mod hearing;
mod looking;
mod talking;

use mproc::prelude::*;
use mproc::{Fault, Options, Rate};
use serde::{Deserialize, Serialize};
use support::{listen, play_role, say};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Pose {
    x: f64,
    y: f64,
    name: String,
    path: Vec<u32>,
}

const POSE: Topic<Pose> = Topic::new("robot/pose");
const COUNT: Topic<u64> = Topic::new("count");
const POINT: Topic<[f32; 3]> = Topic::plain("point");
const PLANE: Topic<[u8; 12]> = Topic::plain("plane").with_schema("x: f32, y: f32, flags: [u8; 4]");
const OPAQUE: Topic<[u8]> = Topic::slices("opaque");
const PARTED: Topic<u8> = Topic::new("parted");
const LOCAL: Topic<u8> = Topic::local("local");

fn node() -> Node {
    let builder = Node::builder().options(Options::default());
    builder.domain("default").unwrap().build().unwrap()
}

/// Publishes a pose for each line that it is told: the line is its `x`.
fn robot() {
    let node = node();
    let robot = node.publisher(&POSE).unwrap();
    say("ready");
    while let Some(line) = listen() {
        let (x, name) = line.split_once(' ').unwrap_or((&line, "arm"));
        let pose = Pose {
            x: x.parse().unwrap(),
            y: 0.25,
            name: name.to_owned(),
            path: vec![1, 2, 3],
        };
        robot.publish(pose).unwrap();
    }
}

/// Publishes numbers as fast as it is told, until its input ends.
fn counter() {
    let node = node();
    let counter = node.publisher(&COUNT).unwrap();
    say("ready");
    let hz: f64 = listen().unwrap().parse().unwrap();
    let is_over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let end = is_over.clone();
    std::thread::spawn(move || {
        listen();
        end.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let mut rate = Rate::new(&node.steady_clock(), Duration::from_secs_f64(1.0 / hz));
    let mut n = 0;
    while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
        // What is due by now.
        for _ in 0..=rate.sleep().missed {
            counter.publish(n).unwrap();
            n += 1;
        }
    }
}

/// Publishes values of plain data once for each line: with a schema, without one that is needed, and without any.
fn sensor() {
    let node = node();
    let point = node.publisher(&POINT).unwrap();
    let plane = node.publisher(&PLANE).unwrap();
    let opaque = node.publisher(&OPAQUE).unwrap();
    let _local = node.publisher(&LOCAL).unwrap();
    let parted = node.publisher(&PARTED).unwrap();
    say("ready");
    while listen().is_some() {
        point.publish([0.5, -1.0, 2.0]).unwrap();
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&1.5_f32.to_le_bytes());
        bytes[8] = 7;
        plane.publish(bytes).unwrap();
        let mut loan = opaque.loan(3).unwrap();
        loan.copy_from_slice(&[1, 2, 255]);
        loan.publish().unwrap();
        parted
            .publish_with_parts(7, vec![vec![0; 3], vec![0; 2048]])
            .unwrap();
    }
}

/// Says what it hears on all topics, and serves.
fn listener() {
    let node = node();
    let _poses = node
        .subscribe(&POSE, |pose| say(&format!("pose {:?}", *pose)))
        .unwrap();
    let _counts = node
        .subscribe(&COUNT, |n| say(&format!("count {}", *n)))
        .unwrap();
    let _planes = node
        .subscribe(&PLANE, |plane| say(&format!("plane {:?}", *plane)))
        .unwrap();
    say("ready");
    listen();
}

/// Says what it hears by a pattern, and over a connection from a topic that it has not declared.
fn roamer() {
    const TO: Topic<u64> = Topic::new("to");
    let node = node();
    let by_pattern =
        node.subscription_matching::<u64>("free/**", SubscriptionOptions::new().travels_as(&TO));
    node.connect("from", "to").unwrap();
    let connected = node.subscription(&TO);
    for (what, subscription) in [("pattern", by_pattern), ("connection", connected)] {
        let subscription = subscription.unwrap();
        std::thread::spawn(move || {
            for n in subscription.iter() {
                say(&format!("{what} {}", *n));
            }
        });
    }
    say("ready");
    listen();
}

fn server() {
    let node = node();
    let _add = node.serve("add", |(a, b): (i64, i64)| Ok(a + b)).unwrap();
    let _fails = node
        .serve("fails", |(): ()| {
            Err::<i64, _>(Fault::new("no\u{1b}[2J luck"))
        })
        .unwrap();
    // A processor that is called as a service is.
    let _add = node.spawn_thread("add", closure(|_: u8, _cx| ())).unwrap();
    // It never replies.
    let mut kept = Vec::new();
    let _waits = node
        .serve_with("waits", mproc::ServeOptions::new(), move |(): (), cx| {
            cx.reply_later(|token: mproc::ReplyToken<i64>| kept.push(token))
        })
        .unwrap();
    say("ready");
    listen();
}

/// The same topic with another type.
fn stranger() {
    const OTHER: Topic<String> = Topic::new("robot/pose");
    let node = node();
    let _other = node.publisher(&OTHER).unwrap();
    say("ready");
    listen();
}

/// Names that are not easy to print.
fn odd() {
    const ODD: Topic<String> = Topic::new("größe/\"a b\", \u{202e}<x>;");
    let node = node();
    let odd = node.publisher(&ODD).unwrap();
    let _quotes = node.spawn_thread("it's \"quoted\" \\", closure(|_: u8, _cx| ()));
    say("ready");
    while let Some(_line) = listen() {
        odd.publish("\u{1b}[31mred\u{9b}\r\nline".to_owned())
            .unwrap();
    }
}

/// Sends a number to another processor each millisecond.
struct Pump(Address<mproc::Closure<u64, ()>>);

impl Processor for Pump {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.every(Duration::from_millis(1), |tick| tick);
        Ok(())
    }
}

impl Handle<mproc::Tick> for Pump {
    type Reply = ();

    fn handle(&mut self, _: mproc::Tick, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Ok(self.0.send(1)?)
    }
}

/// Two processors, one of which sends to the other.
fn chain() {
    let node = node();
    let sink = node
        .spawn_thread("sink", closure(|_: u64, _cx| ()))
        .unwrap();
    let _pump = node.spawn_thread("pump", Pump(sink)).unwrap();
    say("ready");
    listen();
}

#[test]
fn role() {
    play_role(&[
        ("robot", robot),
        ("counter", counter),
        ("sensor", sensor),
        ("listener", listener),
        ("server", server),
        ("roamer", roamer),
        ("stranger", stranger),
        ("odd", odd),
        ("chain", chain),
    ]);
}
