//! Topics and services of which a program has the bytes only: in one process, between two, and in a simulated world.
//!
//! As in `tests/transports`, a pair of nodes is one node, or two of one domain that share memory as two processes would. What
//! crosses between real processes is in `children.rs`.

mod children;
mod client;
mod publisher;
mod simulated;
mod tap;

use mproc::prelude::*;
use mproc::{DomainOptions, Error, Options, Raw};
use serde::{Deserialize, Serialize};
use std::path::Path;
use tempfile::TempDir;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The documented capacities, and limits that a busy machine does not reach.
fn node_options() -> Options {
    Options::default().call_limit(LONG).send_limit(LONG)
}

#[derive(Clone, Copy, Debug, PartialEq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Pose {
    x: f64,
    y: f64,
    flags: [u8; 8],
}

const POSE_SCHEMA: &str = "x: f64, y: f64, flags: [u8; 8]";
const POSE: Topic<Pose> = Topic::plain("robot/pose").with_schema(POSE_SCHEMA);
const SCAN: Topic<[f32]> = Topic::slices("robot/scan");
const WORDS: Topic<Vec<String>> = Topic::new("robot/words");

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Goal {
    name: String,
    speed: f32,
}

const GOAL: Topic<Goal> = Topic::new("robot/goal");

/// Where values come from and where they arrive.
struct Pair {
    publish: Node,
    subscribe: Node,
    // Removed when the nodes are gone.
    _directory: Option<TempDir>,
}

fn node_in(directory: &Path) -> Node {
    let domain = DomainOptions::new("raw").unwrap().directory(directory);
    let builder = Node::builder().options(node_options());
    builder.domain_with(domain).build().unwrap()
}

impl Pair {
    fn here() -> Self {
        let node = Node::with_options(node_options());
        Self {
            publish: node.clone(),
            subscribe: node,
            _directory: None,
        }
    }

    fn between() -> Self {
        let directory = TempDir::new().unwrap();
        Self {
            publish: node_in(directory.path()),
            subscribe: node_in(directory.path()),
            _directory: Some(directory),
        }
    }

    fn is_between(&self) -> bool {
        self._directory.is_some()
    }

    fn tap(&self, pattern: &str) -> Subscription<Raw> {
        let options = SubscriptionOptions::new().capacity(64);
        self.subscribe.tap(pattern, options).unwrap()
    }

    /// A publisher, once `count` subscriptions are joined to it.
    fn publisher<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        count: usize,
    ) -> Publisher<T> {
        let publisher = self.publish.publisher(topic).unwrap();
        publisher.wait_for_subscribers(count, LONG).unwrap();
        publisher
    }
}

fn both(case: impl Fn(&Pair)) {
    for make in [Pair::here, Pair::between] {
        let pair = make();
        println!("between processes: {}", pair.is_between());
        case(&pair);
    }
}

fn recv<T: ?Sized + Send + Sync + 'static>(subscription: &Subscription<T>) -> Sample<T> {
    subscription
        .recv_timeout(LONG)
        .unwrap_or_else(|error| panic!("{error}: {:?}", subscription.snapshot()))
}

fn kind<T>(result: Result<T, Error>) -> Option<mproc::ErrorKind> {
    result.err().map(|error| error.kind())
}
