//! What people build on processors again and again.

mod behaviour;
mod groups;
mod keyed;
mod pool_address;
mod probes;
mod stash;

use mproc::prelude::*;
use mproc::{Driver, Options, Pool, SpawnError};

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MILLI: Duration = Duration::from_millis(1);

/// A real node with the documented capacities.
pub(crate) fn real() -> Node {
    let limit = Duration::from_secs(60);
    Node::with_options(Options::default().call_limit(limit).send_limit(limit))
}

pub(crate) fn simulated(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

/// Where the processors of a test run.
pub(crate) enum Where {
    Own(Node),
    Shared(Driver),
    Pool(Pool),
}

impl Where {
    /// One of the three, by the seed.
    pub(crate) fn of(seed: u64, node: &Node) -> Self {
        match seed % 3 {
            0 => Self::Own(node.clone()),
            1 => Self::Shared(node.driver("shared").unwrap()),
            _ => Self::Pool(node.pool("pool", 3).unwrap()),
        }
    }

    pub(crate) fn spawn_with<P: Processor + Send>(
        &self,
        name: &str,
        options: MailboxOptions,
        processor: P,
    ) -> Result<Address<P>, SpawnError> {
        match self {
            Self::Own(node) => node.spawn_thread_with(name, options, processor),
            Self::Shared(driver) => driver.spawn_with(name, options, processor),
            Self::Pool(pool) => pool.spawn_with(name, options, processor),
        }
    }

    pub(crate) fn spawn<P: Processor + Send>(&self, name: &str, processor: P) -> Address<P> {
        let options = MailboxOptions::default();
        self.spawn_with(name, options, processor).unwrap()
    }
}

/// Keeps the thread of a handler, in virtual time.
pub(crate) fn busy<P: Processor, R: 'static>(cx: &Cx<'_, P, R>, time: Duration) {
    let node = cx.runtime();
    let until = node.now() + time;
    while node.now() < until {
        node.park(Some(until));
    }
}

/// All that was received was handled, dropped, or waits.
pub(crate) fn assert_conserved(node: &Node, seed: u64) {
    for p in &node.snapshot().processors {
        let (queued, dropped) = (p.queued, p.dropped.total());
        assert_eq!(
            p.received,
            p.handled + dropped + queued,
            "seed {seed}: {p:?}"
        );
    }
    let t = node.snapshot().totals.clone();
    let all = t.handled + t.dropped.total() + t.queued;
    assert_eq!(t.received, all, "seed {seed}: {t:?}");
}
