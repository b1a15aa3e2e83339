//! Scripts and manual drivers that live in other event loops, triggers, watched descriptors, and what spinning refuses.
//!
//! The other claims about spinning stand in `tests/scripts.rs`, those about timers and shutdowns in `tests/processors.rs`.
//!
//! Whether a descriptor is readable is asked without waiting, when nothing else runs: then the answer is not a matter of time.
//! Where a thread waits for it, that has a long limit which only ends a test that hangs.

mod executors;
#[cfg(unix)]
mod forks;
#[cfg(unix)]
mod interrupts;
#[cfg(unix)]
mod readiness;
mod ready_calls;
mod triggers;
#[cfg(unix)]
mod watched;

use mproc::prelude::*;
use mproc::{Options, SpinReport};

const NUMBERS: Topic<u32> = Topic::new("numbers");
const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Queues have their ordinary room whatever `MPROC_CAPACITY` says.
fn simulated() -> Node {
    Node::simulated_with(1, Options::default())
}

/// A node on the real machine, with ordinary room, for this process alone.
fn real() -> Node {
    Node::with_options(Options::default().call_limit(LONG).send_limit(LONG))
}

/// A script that keeps the numbers it hears, has started, and has nothing to do.
fn listener(node: &Node) -> Script<Vec<u32>> {
    let mut script = node.script().unwrap().with(Vec::new());
    script.on(&NUMBERS, |seen, n, _| seen.push(*n)).unwrap();
    assert_eq!(handled(script.spin_some(usize::MAX)), 0);
    script
}

fn handled(report: mproc::Result<SpinReport>) -> usize {
    report.unwrap().handled
}

fn seen(script: &mut Script<Vec<u32>>) -> Vec<u32> {
    script.state(std::mem::take).unwrap()
}
