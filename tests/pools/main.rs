//! Pools: many processors on few threads.

mod blocking;
mod ends;
mod long;
mod order;
mod scheduling;

use mproc::prelude::*;
use mproc::{DriverSnapshot, Options};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A real node with the documented capacities. Its limits are none that a busy machine reaches.
pub(crate) fn real() -> Node {
    let limit = 60 * SECOND;
    Node::with_options(Options::default().call_limit(limit).send_limit(limit))
}

pub(crate) fn simulated(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

/// Keeps the thread of a handler, in virtual time.
pub(crate) fn busy<P: Processor, R: 'static>(cx: &Cx<'_, P, R>, time: Duration) {
    let node = cx.runtime();
    let until = node.now() + time;
    while node.now() < until {
        node.park(Some(until));
    }
}

pub(crate) fn driver(node: &Node, name: &str) -> DriverSnapshot {
    let drivers = node.snapshot().drivers.clone();
    drivers.into_iter().find(|d| d.name == name).unwrap()
}
