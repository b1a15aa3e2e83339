//! Where workers live: drivers, a pool, threads of their own, under a supervisor or not.

use crate::Random;
use crate::worker::{Home, Worker};
use mproc::prelude::*;
use mproc::{Backoff, ChildPlace, Fault, PoolOptions, Strategy, Supervisor};

pub(super) fn worker_name(who: usize) -> String {
    format!("worker {who}")
}

/// Where workers live.
pub(super) struct Places {
    node: Node,
    drivers: Vec<mproc::Driver>,
    pool: mproc::Pool,
    /// What is to be supervised, until all are there.
    children: Vec<(usize, Child)>,
}

impl Places {
    pub(super) fn new(node: &Node, random: &mut Random) -> Self {
        let threads = PoolOptions::threads(1 + random.below(3) as usize);
        // So few that they are used up now and then.
        let pool = threads.spares(random.below(4) as usize);
        let driver = |n| node.driver(&format!("driver {n}")).unwrap();
        Self {
            node: node.clone(),
            drivers: (0..2).map(driver).collect(),
            pool: node.pool_with("pool", pool).unwrap(),
            children: Vec::new(),
        }
    }

    /// Spawns a worker, or describes it to the supervisor.
    pub(super) fn put(
        &mut self,
        who: usize,
        home: Home,
        random: &mut Random,
    ) -> Option<Address<Worker>> {
        let policy = match random.below(7) {
            0 => WhenFull::DropOldest,
            1 => WhenFull::DropNewest,
            2 => WhenFull::Fail,
            _ => WhenFull::Wait,
        };
        // Now and then as large as the environment says.
        let room = match random.below(6) {
            0 => MailboxOptions::default(),
            _ => MailboxOptions::bounded(1 + random.below(4) as usize),
        };
        let (name, options) = (worker_name(who), room.when_full(policy));
        let place = random.below(6) as usize;
        if random.one_in(3) {
            let child = Child::new(&name, move || {
                Worker::remembers(&home, false).ok_or(Fault::new("two incarnations at once"))
            });
            let child = match random.below(6) {
                0 => child.temporary(),
                1 | 2 => child.transient(),
                _ => child.permanent(),
            };
            let child = match (self.drivers.get(place), place) {
                (Some(driver), _) => child.on(ChildPlace::from(driver)),
                (None, 2 | 3) => child.on(ChildPlace::from(&self.pool)),
                _ => child,
            };
            self.children.push((who, child.mailbox(options)));
            return None;
        }
        let worker = Worker::remembers(&home, random.one_in(2)).unwrap();
        let address = match (self.drivers.get(place), place) {
            (Some(driver), _) => driver.spawn_with(&name, options, worker),
            (None, 2 | 3) => self.pool.spawn_with(&name, options, worker),
            _ => self.node.spawn_thread_with(&name, options, worker),
        };
        Some(address.unwrap())
    }

    /// Starts the supervisor, if it has any children, and finds their addresses.
    pub(super) fn supervise(
        self,
        random: &mut Random,
        peers: &mut [Option<Address<Worker>>],
    ) -> Option<Supervisor> {
        if self.children.is_empty() {
            return None;
        }
        let strategies = [
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
        ];
        let backoff = Backoff::exponential(random.ms(10), Duration::from_millis(100));
        let mut spec = self
            .node
            .supervisor("supervisor")
            .strategy(strategies[random.below(3) as usize])
            .restarts(1 + random.below(20) as u32, Duration::from_secs(1))
            .backoff(backoff);
        let mut children = Vec::new();
        for (who, child) in self.children {
            children.push(who);
            spec = spec.child(child);
        }
        let supervisor = spec.start().unwrap();
        for who in children {
            // One that has ended already is a child no longer.
            peers[who] = Some(supervisor.address(&worker_name(who)).unwrap());
        }
        Some(supervisor)
    }
}
