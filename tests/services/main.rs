//! The contract of services and tasks, the same in one process and between two nodes that share memory.
//!
//! Each case gets a pair of nodes, one to serve and one to call. In one process both are the same node; between processes they
//! are two nodes of one domain, which meet through a directory of their own. What only the death of a process shows is in
//! `killed.rs`, with processes that are killed.

mod between;
mod calls;
mod cancel;
mod drivers;
mod killed;
mod seeds;
mod servers;
mod tasks;

use mproc::prelude::*;
use mproc::{Client, DomainOptions, Options, Pending, ServiceError, ServiceSnapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The documented capacities, and limits that a busy machine does not reach.
fn node_options() -> Options {
    Options::default().call_limit(LONG).send_limit(LONG)
}

/// Where it is served, and where it is called.
struct Pair {
    serve: Node,
    call: Node,
    // Removed when the nodes are gone.
    directory: Option<Arc<TempDir>>,
}

fn node_in(directory: &Path) -> Node {
    let domain = DomainOptions::new("services").unwrap();
    let domain = domain.directory(directory);
    let builder = Node::builder().options(node_options());
    builder.domain_with(domain).build().unwrap()
}

impl Pair {
    fn here() -> Self {
        let node = Node::with_options(node_options());
        Self {
            serve: node.clone(),
            call: node,
            directory: None,
        }
    }

    fn between() -> Self {
        let directory = Arc::new(TempDir::new().unwrap());
        Self {
            serve: node_in(directory.path()),
            call: node_in(directory.path()),
            directory: Some(directory),
        }
    }

    fn is_between(&self) -> bool {
        self.directory.is_some()
    }

    /// A client that sees so many servers.
    fn client<Q, R>(&self, name: &str, servers: usize) -> Client<Q, R>
    where
        Q: Serialize + DeserializeOwned + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let client = self.call.client(name).unwrap();
        until(&format!("{servers} servers of {name}"), || {
            client.server_count() == servers
        });
        client
    }

    /// What the calling side has counted.
    fn called(&self, name: &str) -> ServiceSnapshot {
        snapshot(&self.call, name)
    }

    /// What the serving side has counted.
    fn served(&self, name: &str) -> ServiceSnapshot {
        snapshot(&self.serve, name)
    }
}

fn snapshot(node: &Node, name: &str) -> ServiceSnapshot {
    let services = node.snapshot().services;
    let found = services.into_iter().find(|service| service.name == name);
    found.unwrap_or_default()
}

/// Runs a case in one process and between two nodes.
fn both(case: impl Fn(&Pair)) {
    for make in [Pair::here, Pair::between] {
        let pair = make();
        let what = ["in one process", "between nodes"];
        println!("{}", what[usize::from(pair.is_between())]);
        case(&pair);
    }
}

/// Waits for what other threads do in their own time.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + LONG;
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn get<R: 'static>(pending: Pending<R, ServiceError>) -> Result<R, ServiceError> {
    pending.wait_timeout(LONG)
}

/// A call that is on its way.
fn begun<Q, R>(client: &Client<Q, R>, request: Q) -> Pending<R, ServiceError>
where
    Q: Serialize + DeserializeOwned + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    let mut pending = client.call(request);
    pending.begin();
    pending
}
