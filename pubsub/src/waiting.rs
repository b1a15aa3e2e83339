//! Publishes that wait for room, as snapshots show them.
//!
//! The runtime knows who waits for a processor, because a circle of those has to be found. It does not know subscriptions that a
//! thread reads, nor those of other processes. So each publish that waits says here who it is and whom it waits for, and a
//! snapshot has both: what the runtime knows of a processor with a full outbox is completed, and all others are added.

use crate::graph::Graph;
use crate::id::SubscriptionId;
use mproc_runtime::{Name, Runtime, WaitSnapshot};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What publishes wait for, as [`WaitSnapshot::why`] says it.
const ROOM: &str = "room";

/// The publishes of one publisher that wait.
#[derive(Debug, Default)]
pub(crate) struct Waiting(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    next: u64,
    all: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    number: u64,
    /// In whose handler it was begun; `None` outside of handlers.
    who: Option<Name>,
    /// What people call the subscription without room.
    on: String,
}

impl Waiting {
    /// Who waits, and for whom. A publish outside of handlers is its publisher's, which is called `publisher`.
    pub(crate) fn snapshot(&self, publisher: impl Fn() -> String) -> Vec<WaitSnapshot> {
        let entries = self.0.lock();
        let all = entries.all.iter().map(|entry| {
            let who = entry.who.as_ref().map(|name| name.as_str().to_owned());
            let who = who.unwrap_or_else(&publisher);
            WaitSnapshot::new(who, vec![entry.on.clone()], ROOM)
        });
        all.collect()
    }
}

/// One publish: it is among its publisher's [`Waiting`] from [`wait_for`](Self::wait_for) on, until [`go_on`](Self::go_on) or its drop.
pub(crate) struct Wait {
    of: Arc<Waiting>,
    who: Option<Name>,
    /// Its number there, and for which subscription it waits.
    shown: Option<(u64, SubscriptionId)>,
}

impl Wait {
    /// One that does not wait yet. On the thread that publishes.
    pub(crate) fn new(of: &Arc<Waiting>, runtime: &Runtime) -> Self {
        Self {
            of: of.clone(),
            who: runtime.name_of_handler(),
            shown: None,
        }
    }

    /// It waits for this subscription, which is called `on`.
    pub(crate) fn wait_for(&mut self, id: SubscriptionId, on: impl FnOnce() -> String) {
        if self.shown.is_some_and(|(_, shown)| shown == id) {
            return;
        }
        self.go_on();
        let on = on();
        let mut entries = self.of.0.lock();
        let number = entries.next;
        entries.next += 1;
        let who = self.who.clone();
        entries.all.push(Entry { number, who, on });
        self.shown = Some((number, id));
    }

    /// It waits no longer.
    pub(crate) fn go_on(&mut self) {
        if let Some((number, _)) = self.shown.take() {
            let mut entries = self.of.0.lock();
            entries.all.retain(|entry| entry.number != number);
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.go_on();
    }
}

impl Graph {
    /// Adds publishes that wait to what the runtime knows of waits.
    pub(crate) fn add_waits(&self, waits: &mut Vec<WaitSnapshot>) {
        let for_room = waits.iter().enumerate();
        let for_room = for_room.filter(|(_, wait)| wait.why == ROOM);
        let mut known: BTreeMap<String, usize> =
            for_room.map(|(at, wait)| (wait.who.clone(), at)).collect();
        for publish in self.publishes_that_wait() {
            match known.get(&publish.who) {
                Some(at) => {
                    let on = &mut waits[*at].on;
                    let more = publish.on.into_iter();
                    let more: Vec<_> = more.filter(|more| !on.contains(more)).collect();
                    on.extend(more);
                }
                None => {
                    known.insert(publish.who.clone(), waits.len());
                    waits.push(publish);
                }
            }
        }
    }
}
