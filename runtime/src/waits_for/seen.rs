//! What the table shows to whoever looks: the waits of one node, by name.

use super::graph::{Wait, Who};
use super::{Domain, Keeper, Owed, table};
use crate::id::{DriverId, ProcessorId};
use crate::name::Name;
use crate::runtime::Runtime;
use crate::snapshot::{ProcessorSnapshot, WaitSnapshot};
use std::collections::BTreeSet;

/// A wait as it was read under the lock. Names are looked up after it.
struct Seen {
    who: Whose,
    on: Vec<Whose>,
    why: &'static str,
}

/// A name, or whose name it is.
enum Whose {
    Named(Name),
    Processor(ProcessorId),
}

impl Whose {
    fn of_keepers(keepers: &[Keeper]) -> Vec<Self> {
        keepers
            .iter()
            .map(|keeper| Self::Processor(keeper.id))
            .collect()
    }
}

impl Seen {
    fn of(wait: &Wait) -> Option<Self> {
        let who = match &wait.who {
            Who::Named(name) => Whose::Named(name.clone()),
            Who::Member(_, id) => Whose::Processor(*id),
        };
        let (on, why) = match &wait.owed {
            // The thread has its answer, and goes on.
            Owed::Answer(answer) if answer.is_there() => return None,
            Owed::Answer(answer) => {
                let owner = answer.owner().map(|owner| Whose::Named(owner.name));
                (owner.into_iter().collect(), "call")
            }
            Owed::Room(keepers) => (Whose::of_keepers(keepers), "room"),
        };
        Some(Self { who, on, why })
    }
}

impl Runtime {
    /// The processor in whose handler the calling thread is; `None` outside of handlers.
    pub fn name_of_handler(&self) -> Option<Name> {
        let is_in_one = self.in_handler();
        is_in_one.then(|| super::name_here(self.core()))
    }

    /// Who of this node waits now, and for whom: threads that block inside a handler, and processors whose outbox waits for room.
    /// `processors` are those of a snapshot taken just before, by id; one that has come since has no name here and is left out.
    ///
    /// Nothing in a child that was forked from the process that made the node.
    pub fn waits(&self, processors: &[ProcessorSnapshot]) -> Vec<WaitSnapshot> {
        if !self.core().is_here() {
            return Vec::new();
        }
        // The table is the whole program's.
        let drivers: BTreeSet<DriverId> = self.core().drivers().iter().map(|d| d.id()).collect();
        let name = |id: ProcessorId| {
            let at = processors.binary_search_by_key(&id, |p| p.id).ok()?;
            Some(processors[at].name.clone())
        };
        let is_own = |domain: &Domain| match domain {
            Domain::Driver(id) => drivers.contains(id),
            Domain::Cell(id) => name(*id).is_some(),
        };
        let seen: Vec<Seen> = {
            let table = table();
            let waits = table.waits().filter(|wait| wait.domains.iter().any(is_own));
            let stalls = table.stalls.iter();
            let stalls = stalls.filter(|(_, stall)| is_own(&stall.domain));
            let stalls = stalls.map(|(id, stall)| Seen {
                who: Whose::Processor(*id),
                on: Whose::of_keepers(&stall.blocked_on),
                why: "room",
            });
            waits.filter_map(Seen::of).chain(stalls).collect()
        };
        let text = |whose: Whose| match whose {
            Whose::Named(name) => Some(name.as_str().to_owned()),
            Whose::Processor(id) => name(id),
        };
        let shown = seen.into_iter().filter_map(|seen| {
            Some(WaitSnapshot {
                who: text(seen.who)?,
                on: seen.on.into_iter().filter_map(text).collect(),
                why: seen.why.to_owned(),
            })
        });
        shown.collect()
    }
}
