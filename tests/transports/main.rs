//! The contract of topics, the same in one process and between two.
//!
//! Each case gets a pair of nodes, one to publish and one to subscribe. In one process both are the same node; between
//! processes they are two nodes of one domain, which meet through a directory of their own and share memory. (They live in this
//! test's process, where each maps what the other sends, as two processes would. What only the death of a process shows is in
//! `tests/processes.rs`.)

mod backpressure;
mod callbacks;
mod flow;
mod joining;
mod kinds;
mod leases;
mod monitor;
mod policies;
mod pools;
mod relays;
mod tracked;
mod values;

use mproc::prelude::*;
use mproc::{DomainOptions, Error, Options};
use std::sync::Arc;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The documented capacities, and limits that a busy machine does not reach.
fn node_options() -> Options {
    Options::default().call_limit(LONG).send_limit(LONG)
}

/// Where samples are published and where they arrive.
struct Pair {
    what: &'static str,
    publish: Node,
    subscribe: Node,
    // Removed when the nodes are gone.
    _directory: Option<Arc<TempDir>>,
}

impl Pair {
    fn here() -> Self {
        // The cases say which capacities they need, and take the others as they are documented.
        let node = Node::with_options(node_options());
        Self {
            what: "in one process",
            publish: node.clone(),
            subscribe: node,
            _directory: None,
        }
    }

    fn between() -> Self {
        Self::between_with(|domain| domain)
    }

    fn between_with(options: impl Fn(DomainOptions) -> DomainOptions) -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        let node = || {
            let domain = DomainOptions::new("contract").unwrap();
            let domain = options(domain.directory(directory.path()));
            let builder = Node::builder().options(node_options());
            builder.domain_with(domain).build().unwrap()
        };
        Self {
            what: "between processes",
            publish: node(),
            subscribe: node(),
            _directory: Some(directory),
        }
    }

    fn is_between(&self) -> bool {
        self._directory.is_some()
    }

    /// A publisher, once `count` subscriptions are joined to it.
    fn publisher<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        count: usize,
    ) -> Publisher<T> {
        let publisher = self.publish.publisher(topic).unwrap();
        self.joined(&publisher, count);
        publisher
    }

    fn joined<T: ?Sized + Send + Sync + 'static>(&self, publisher: &Publisher<T>, count: usize) {
        let joined = publisher.wait_for_subscribers(count, LONG);
        joined.unwrap_or_else(|error| panic!("{}: {error}", self.what));
    }
}

/// Runs a case for every transport.
fn both(case: impl Fn(&Pair)) {
    for make in [Pair::here, Pair::between] {
        let pair = make();
        println!("{}", pair.what);
        case(&pair);
    }
}

fn options<T: ?Sized>(capacity: usize, when_full: WhenFull) -> SubscriptionOptions<T> {
    SubscriptionOptions::new()
        .capacity(capacity)
        .when_full(when_full)
}

fn recv<T: ?Sized + Send + Sync + 'static>(subscription: &Subscription<T>) -> Sample<T> {
    subscription
        .recv_timeout(LONG)
        .unwrap_or_else(|error| panic!("{error}: {:?}", subscription.snapshot()))
}

/// What arrives next, without waiting longer than the thing takes that is known to come.
fn take_all<T: Clone + Send + Sync + 'static>(
    subscription: &Subscription<T>,
    count: usize,
) -> Vec<T> {
    (0..count).map(|_| (*recv(subscription)).clone()).collect()
}

/// Waits for what other threads do in their own time.
fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + LONG;
    while !done() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn kind<T>(result: Result<T, Error>) -> Option<mproc::ErrorKind> {
    result.err().map(|error| error.kind())
}
