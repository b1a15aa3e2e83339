//! Supervision: what is restarted, when, in which order, and what becomes of messages meanwhile.
//!
//! | file | subject |
//! |---|---|
//! | `restarts.rs` | who is restarted |
//! | `messages.rs` | what becomes of messages, replies, timers and subscriptions |
//! | `delays.rs` | delays and limits |
//! | `giving_up.rs` | giving up |
//! | `odd_moments.rs` | what panics or fails at odd moments |
//! | `links.rs` | watches and links |
//! | `children.rs` | children that come later, and mistakes |
//! | `conservation.rs` | every message has one fate |

mod children;
mod conservation;
mod delays;
mod giving_up;
mod links;
mod messages;
mod odd_moments;
mod restarts;

use mproc::prelude::*;
use mproc::{Backoff, Exit, Fault, Options, ReplyToken, Strategy, Supervisor, SupervisorEvent};
use std::sync::{Arc, Mutex};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A part of a plant: notes when it starts (`+a`), stops (`-a`), and what it handles (`a 7`).
struct Part {
    name: &'static str,
    log: Log,
    kept: Vec<ReplyToken<u32>>,
}

/// Panics.
struct Boom;
/// Ends the incarnation in order.
struct Quit;
/// Keeps the handler for so long, in virtual time.
struct Busy(Duration);
/// Is answered never.
struct Later;

impl Processor for Part {
    fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.log.note(format!("+{}", self.name));
        Ok(())
    }
    fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
        self.log.note(format!("-{}", self.name));
    }
}
impl Handle<u32> for Part {
    type Reply = u32;
    fn handle(&mut self, n: u32, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.log.note(format!("{} {n}", self.name));
        Ok(n)
    }
}
impl Handle<Boom> for Part {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        panic!("boom");
    }
}
impl Handle<Quit> for Part {
    type Reply = ();
    fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.stop();
        Ok(())
    }
}
impl Handle<Busy> for Part {
    type Reply = ();
    fn handle(&mut self, Busy(time): Busy, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let node = cx.runtime();
        let until = node.now() + time;
        while node.now() < until {
            node.park(Some(until));
        }
        Ok(())
    }
}
impl Handle<Later> for Part {
    type Reply = u32;
    fn handle(&mut self, _: Later, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        cx.reply_later(|token| self.kept.push(token))
    }
}

fn node(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

fn part(name: &'static str, log: &Log) -> Child {
    let log = log.clone();
    Child::new(name, move || Part {
        name,
        log: log.clone(),
        kept: Vec::new(),
    })
}

/// Delays of exactly 100 ms.
fn fixed() -> Backoff {
    Backoff::exponential(100 * MS, 100 * MS).jitter(0.0)
}

/// A plant of parts called `a`, `b`, `c`, which are up.
fn plant(node: &Node, strategy: Strategy, log: &Log) -> Supervisor {
    let plant = node.supervisor("plant").strategy(strategy).backoff(fixed());
    let plant = ["a", "b", "c"]
        .into_iter()
        .fold(plant, |plant, name| plant.child(part(name, log)))
        .start()
        .unwrap();
    node.settle();
    assert_eq!(log.take(), ["+a", "+b", "+c"]);
    plant
}

fn address(plant: &Supervisor, name: &str) -> Address<Part> {
    plant.address(name).unwrap()
}

/// Never starts.
struct Broken;
impl Processor for Broken {
    fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Err(Fault::new("broken"))
    }
}

fn told(event: SupervisorEvent) -> String {
    match event {
        SupervisorEvent::Started { child } => format!("{child} started"),
        SupervisorEvent::Fell { child, exit, .. } => format!("{child} fell: {exit}"),
        SupervisorEvent::Restarted { child, restarts } => format!("{child} restarted {restarts}"),
        SupervisorEvent::Ended { child, exit } => format!("{child} ended: {exit}"),
        SupervisorEvent::GaveUp {
            child,
            exit,
            restarts,
        } => format!("gave up on {child} after {restarts}: {exit}"),
        other => format!("{other:?}"),
    }
}
