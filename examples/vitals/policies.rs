//! The slow subscribers, one for each policy of a full queue; the relay before the one that may miss nothing; and the rows
//! that say how each has fared.

use std::{thread, time::Duration};

use mproc::{Fault, Result, Snapshot, SubscriptionSnapshot, prelude::*};

use crate::{
    display::PolicyRow,
    figures::{Cpu, Reading},
    topics::{CPU, Count, Ledger, RELAYED},
};

/// How long a slow subscriber takes for a sample: five come meanwhile.
const SLOWNESS: Duration = Duration::from_millis(100);
const SLOW_CAPACITY: usize = 4;

/// Stands between `host/cpu` and a subscriber that publishers wait for, and waits in place of the sampler.
#[derive(Default)]
pub(crate) struct Relay {
    ledger: Ledger,
}

impl Processor for Relay {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&CPU);
        cx.subscribe(&CPU)
            .capacity(SLOW_CAPACITY)
            .when_full(WhenFull::DropOldest)
            .samples()?;
        Ok(())
    }

    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.ledger.undelivered(&RELAYED, &fault);
    }
}

impl Handle<Sample<Reading<Cpu>>> for Relay {
    type Reply = ();

    fn handle(&mut self, sample: Sample<Reading<Cpu>>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.handled(&CPU);
        // Without room this does not block the thread: the value stands in the outbox, and no sample is taken meanwhile.
        self.ledger.publish(cx, &RELAYED, sample.into_owned());
        Ok(())
    }
}

impl Handle<Count> for Relay {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Subscribes with one of the policies, and is too slow on purpose.
pub(crate) struct Slow {
    when_full: WhenFull,
    topic: Topic<Reading<Cpu>>,
    ledger: Ledger,
}

impl Processor for Slow {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&self.topic);
        cx.subscribe(&self.topic)
            .capacity(SLOW_CAPACITY)
            .when_full(self.when_full)
            .samples()?;
        Ok(())
    }
}

impl Handle<Sample<Reading<Cpu>>> for Slow {
    type Reply = ();

    fn handle(&mut self, _: Sample<Reading<Cpu>>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        // A handler should not sleep: nobody else on its driver runs meanwhile. Here that is the point. It stands for work
        // that takes too long, and the driver is this processor's own, so that nobody else pays for it.
        thread::sleep(SLOWNESS);
        self.ledger.handled(&self.topic);
        Ok(())
    }
}

impl Handle<Count> for Slow {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Spawns a slow subscriber for each policy.
pub(crate) fn spawn_slow(node: &Node) -> Result<Vec<Address<Slow>>> {
    let mut slow = Vec::new();
    for when_full in WhenFull::ALL {
        let (name, topic) = match when_full {
            WhenFull::Wait => ("slow/wait", RELAYED),
            WhenFull::DropOldest => ("slow/drop-oldest", CPU),
            WhenFull::DropNewest => ("slow/drop-newest", CPU),
            WhenFull::Latest => ("slow/latest", CPU),
            WhenFull::Fail => ("slow/fail", CPU),
            WhenFull::Disconnect => ("slow/disconnect", CPU),
            // A policy of a later version.
            _ => continue,
        };
        let processor = Slow {
            when_full,
            topic,
            ledger: Ledger::default(),
        };
        slow.push(node.spawn_thread(name, processor)?);
    }
    Ok(slow)
}

pub(crate) fn policy_rows(snapshot: &Snapshot) -> Vec<PolicyRow> {
    let subscriptions = snapshot
        .topics
        .iter()
        .flat_map(|topic| &topic.subscriptions);
    let mut slow: Vec<&SubscriptionSnapshot> = subscriptions
        .filter(|s| s.owner.as_ref().is_some_and(|o| o.starts_with("slow/")))
        .collect();
    let place = |when_full| WhenFull::ALL.iter().position(|&known| known == when_full);
    slow.sort_by_key(|s| place(s.when_full));
    slow.into_iter()
        .map(|s| PolicyRow {
            policy: format!("{:?}", s.when_full),
            offered: s.offered,
            handled: s.taken,
            dropped: s.dropped.total(),
            refused: s.refused,
            gap: s.lost,
            queued: s.queued,
            note: if s.closed { "closed" } else { "" }.to_owned(),
        })
        .collect()
}
