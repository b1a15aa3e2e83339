//! The table of who waits, and the circles in it. See the module above.

use super::{Answer, Domain, Keeper, Owed, Owner};
use crate::cell::CellRef;
use crate::driver::DriverCore;
use crate::id::ProcessorId;
use crate::name::Name;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A thread that blocks.
pub(super) struct Wait {
    /// The processor whose handler blocks; the driver, if it is in none.
    pub(super) who: Who,
    /// What cannot run meanwhile. Several if the thread has scripts.
    pub(super) domains: Vec<Domain>,
    pub(super) owed: Owed,
}

/// Who blocks. Its name is looked up only if it is told to somebody: a node may have very many.
pub(super) enum Who {
    Named(Name),
    Member(Arc<DriverCore>, ProcessorId),
}

impl Who {
    pub(super) fn name(&self) -> Name {
        match self {
            Self::Named(name) => name.clone(),
            Self::Member(driver, id) => driver
                .member_name(*id)
                .unwrap_or_else(|| driver.name().clone()),
        }
    }
}

/// A processor whose outbox waits for room.
pub(super) struct Stall {
    pub(super) domain: Domain,
    pub(super) blocked_on: Vec<Keeper>,
    pub(super) outbox_len: usize,
    /// It may handle one message although it is stalled, and has not done so yet. Who has that is not told again: two that
    /// can do nothing with it would tell each other for ever.
    pub(super) has_leave: bool,
    /// `None` in tests of this file only.
    pub(super) cell: Option<CellRef>,
}

pub(super) struct Table {
    pub(super) stalls: BTreeMap<ProcessorId, Stall>,
    waits: BTreeMap<u64, Wait>,
    next_wait: u64,
    /// Which waits hold up a domain: one, and another inside it while its thread also waits for room.
    held_up: BTreeMap<Domain, Vec<u64>>,
}

/// Something that cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Stall(ProcessorId),
    Wait(u64),
}

impl Table {
    pub(super) const fn new() -> Self {
        Self {
            stalls: BTreeMap::new(),
            waits: BTreeMap::new(),
            next_wait: 0,
            held_up: BTreeMap::new(),
        }
    }

    pub(super) fn add_wait(&mut self, wait: Wait) -> u64 {
        let number = self.next_wait;
        self.next_wait += 1;
        for domain in &wait.domains {
            self.held_up.entry(*domain).or_default().push(number);
        }
        self.waits.insert(number, wait);
        number
    }

    pub(super) fn remove_wait(&mut self, number: u64) -> Option<Wait> {
        let wait = self.waits.remove(&number)?;
        for domain in &wait.domains {
            if let Some(numbers) = self.held_up.get_mut(domain) {
                numbers.retain(|n| *n != number);
                if numbers.is_empty() {
                    self.held_up.remove(domain);
                }
            }
        }
        Some(wait)
    }

    pub(super) fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.waits.values()
    }

    // ---- circles of calls

    /// The answer for which the thread of `domain` waits, and who waits.
    fn awaited_in(&self, domain: Domain) -> Option<(&Who, &Arc<dyn Answer>)> {
        let numbers = self.held_up.get(&domain)?;
        numbers.iter().rev().find_map(|n| {
            let wait = self.waits.get(n)?;
            match &wait.owed {
                Owed::Answer(answer) => Some((&wait.who, answer)),
                Owed::Room(_) => None,
            }
        })
    }

    /// Follows the answers from `wait`. If they lead back to it, returns the names on the way: each waits for the next,
    /// for its answer or, where both share a thread, for its handler to return; the last for the first.
    pub(super) fn circle_of_calls(&self, wait: &Wait) -> Option<Vec<Name>> {
        let Owed::Answer(first) = &wait.owed else {
            return None;
        };
        let mut answer = first;
        let mut steps = Vec::new();
        let mut who = &wait.who;
        // A circle that does not lead back to `wait` is none of its business, and must not be walked for ever.
        for _ in 0..=self.waits.len() {
            if answer.is_there() {
                return None;
            }
            let owner = answer.owner()?;
            let domain = owner.domain;
            steps.push((who, owner));
            if wait.domains.contains(&domain) {
                return Some(names_of(steps));
            }
            (who, answer) = self.awaited_in(domain)?;
        }
        None
    }

    /// As `circle_of_calls`, for a wait that is in the table.
    pub(super) fn circle_through(&self, number: u64) -> Option<Vec<Name>> {
        self.circle_of_calls(self.waits.get(&number)?)
    }

    /// Which wait is for this answer.
    pub(super) fn waits_for(&self, answer: *const ()) -> Option<u64> {
        let is_it = |wait: &Wait| match &wait.owed {
            Owed::Answer(a) => Arc::as_ptr(a).cast::<()>() == answer,
            Owed::Room(_) => false,
        };
        let found = self.waits.iter().find(|(_, wait)| is_it(wait));
        found.map(|(number, _)| *number)
    }

    // ---- circles with a stall

    /// The stalled members that may run from now on, if `start` is in a circle with any. The caller tells them.
    pub(super) fn who_may_run(&mut self, start: Node) -> Vec<CellRef> {
        let mut cells = Vec::new();
        for id in self.chosen(start) {
            if let Some(stall) = self.stalls.get_mut(&id)
                && !std::mem::replace(&mut stall.has_leave, true)
            {
                cells.extend(stall.cell.clone());
            }
        }
        cells
    }

    /// As `who_may_run`, for the waits of the thread that runs `id`.
    pub(super) fn who_may_run_beside(&mut self, id: ProcessorId) -> Vec<CellRef> {
        let domain = self.stalls.get(&id).map(|stall| stall.domain);
        let numbers = domain.and_then(|domain| self.held_up.get(&domain));
        let numbers = numbers.cloned().unwrap_or_default();
        numbers
            .into_iter()
            .flat_map(|n| self.who_may_run(Node::Wait(n)))
            .collect()
    }

    fn chosen(&self, start: Node) -> Vec<ProcessorId> {
        if self.stalls.is_empty() {
            return Vec::new();
        }
        let circle = self.members_of_circles(start).into_iter();
        let members: Vec<_> = circle
            .filter_map(|node| match node {
                Node::Stall(id) => Some((id, &self.stalls[&id])),
                Node::Wait(_) => None,
            })
            .collect();
        // One that can use its leave at once: its thread does not block, and it has a message.
        let can = |stall: &Stall| {
            let has_queued = stall.cell.as_ref().is_none_or(|cell| cell.has_queued());
            !self.is_held_up(stall.domain) && has_queued
        };
        let able = members.iter().filter(|(_, stall)| can(stall));
        match able.min_by_key(|(id, stall)| (stall.outbox_len, *id)) {
            Some((id, _)) => vec![*id],
            // Whoever is able first.
            None => members.into_iter().map(|(id, _)| id).collect(),
        }
    }

    fn is_held_up(&self, domain: Domain) -> bool {
        self.held_up.contains_key(&domain)
    }

    /// What keeps a processor of `domain` from handling a message.
    fn obstacles(&self, id: Option<ProcessorId>, domain: Domain, found: &mut Vec<Node>) {
        if let Some(id) = id.filter(|id| self.stalls.contains_key(id)) {
            found.push(Node::Stall(id));
        }
        let numbers = self.held_up.get(&domain);
        found.extend(numbers.into_iter().flatten().map(|n| Node::Wait(*n)));
    }

    /// What `node` waits for, of what cannot go on itself.
    fn edges(&self, node: Node) -> Vec<Node> {
        let mut found = Vec::new();
        match node {
            Node::Stall(id) => {
                if let Some(stall) = self.stalls.get(&id) {
                    for keeper in &stall.blocked_on {
                        self.obstacles(Some(keeper.id), keeper.domain, &mut found);
                    }
                    // Its own thread delivers its outbox.
                    self.obstacles(None, stall.domain, &mut found);
                }
            }
            Node::Wait(number) => match self.waits.get(&number).map(|wait| &wait.owed) {
                Some(Owed::Answer(answer)) if !answer.is_there() => {
                    if let Some(owner) = answer.owner() {
                        self.obstacles(owner.processor, owner.domain, &mut found);
                    }
                }
                Some(Owed::Room(keepers)) => {
                    for keeper in keepers {
                        self.obstacles(Some(keeper.id), keeper.domain, &mut found);
                    }
                }
                _ => {}
            },
        }
        found
    }

    /// All members of circles that `start` is in: those it leads to that also lead to it.
    fn members_of_circles(&self, start: Node) -> BTreeSet<Node> {
        // Slots are asked once each: what a walk sees is of one moment.
        let mut edges = BTreeMap::new();
        let mut next = vec![start];
        while let Some(node) = next.pop() {
            if let Entry::Vacant(vacant) = edges.entry(node) {
                next.extend(vacant.insert(self.edges(node)).iter());
            }
        }
        // Walk the edges backwards within what was reached.
        let mut circle = BTreeSet::from([start]);
        loop {
            let before = circle.len();
            for (node, to) in &edges {
                if to.iter().any(|to| circle.contains(to)) {
                    circle.insert(*node);
                }
            }
            if circle.len() == before {
                break;
            }
        }
        let leads_to_itself = edges[&start].iter().any(|to| circle.contains(to));
        if leads_to_itself {
            circle
        } else {
            BTreeSet::new()
        }
    }
}

/// The names in a circle: in each step, who waits, and who owes the answer; a name that would follow itself once.
fn names_of(steps: Vec<(&Who, Owner)>) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::new();
    for (who, owner) in steps {
        for name in [who.name(), owner.name] {
            if names.last() != Some(&name) {
                names.push(name);
            }
        }
    }
    if names.len() > 1 && names.first() == names.last() {
        names.pop();
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DriverId;

    fn id(n: u64) -> ProcessorId {
        ProcessorId::from_number(n).unwrap()
    }

    fn driver(n: u64) -> Domain {
        Domain::Driver(DriverId::from_number(n).unwrap())
    }

    /// Processors 10 to 19 are on driver 1, and so on; those from 900 on are of a pool.
    fn keeper(n: u64) -> Keeper {
        let domain = if n >= 900 {
            Domain::Cell(id(n))
        } else {
            driver(n / 10)
        };
        Keeper { id: id(n), domain }
    }

    /// An answer that this processor owes; 0: nobody knows who does.
    struct Owes(u64, bool);

    impl Answer for Owes {
        fn is_there(&self) -> bool {
            self.1
        }

        fn owner(&self) -> Option<Owner> {
            (self.0 != 0).then(|| Owner {
                processor: Some(id(self.0)),
                domain: keeper(self.0).domain,
                name: Name::new(&self.0.to_string()).unwrap(),
            })
        }
    }

    fn call(from: u64, to: u64, answered: bool) -> Wait {
        Wait {
            who: Who::Named(Name::new(&from.to_string()).unwrap()),
            domains: vec![keeper(from).domain],
            owed: Owed::Answer(Arc::new(Owes(to, answered))),
        }
    }

    fn table(calls: &[(u64, u64)], stalls: &[(u64, &[u64], usize)]) -> Table {
        let mut table = Table::new();
        for (from, to) in calls {
            table.add_wait(call(*from, *to, false));
        }
        for (from, to, outbox_len) in stalls {
            let stall = Stall {
                domain: keeper(*from).domain,
                blocked_on: to.iter().map(|&n| keeper(n)).collect(),
                outbox_len: *outbox_len,
                has_leave: false,
                cell: None,
            };
            table.stalls.insert(id(*from), stall);
        }
        table
    }

    fn circle(calls: &[(u64, u64)], last: (u64, u64)) -> Option<String> {
        let names = table(calls, &[]).circle_of_calls(&call(last.0, last.1, false))?;
        let names: Vec<_> = names.iter().map(Name::as_str).collect();
        Some(names.join(" "))
    }

    #[test]
    fn calls_in_a_circle_are_named_in_order_and_a_chain_is_none() {
        assert_eq!(circle(&[], (10, 20)), None);
        assert_eq!(circle(&[(20, 30), (30, 40)], (10, 20)), None);
        assert_eq!(circle(&[(20, 10)], (10, 20)).unwrap(), "10 20");
        assert_eq!(circle(&[(20, 30), (30, 10)], (10, 20)).unwrap(), "10 20 30");
        assert_eq!(circle(&[], (10, 10)).unwrap(), "10");
    }

    #[test]
    fn neighbours_on_a_driver_wait_for_each_other_and_cells_of_a_pool_do_not() {
        assert_eq!(circle(&[], (10, 11)).unwrap(), "10 11");
        assert_eq!(circle(&[(21, 11)], (10, 20)).unwrap(), "10 20 21 11");
        assert_eq!(circle(&[], (900, 901)), None);
        assert_eq!(circle(&[(902, 900)], (900, 901)), None);
        assert_eq!(circle(&[(901, 900)], (900, 901)).unwrap(), "900 901");
        assert_eq!(circle(&[], (900, 900)).unwrap(), "900");
    }

    #[test]
    fn an_answer_that_is_there_or_that_nobody_is_seen_to_owe_ends_the_chain() {
        let mut table = Table::new();
        let number = table.add_wait(call(20, 10, true));
        assert!(table.circle_of_calls(&call(10, 20, false)).is_none());
        table.remove_wait(number);
        assert!(table.held_up.is_empty());
        table.add_wait(call(20, 0, false));
        assert!(table.circle_of_calls(&call(10, 20, false)).is_none());
    }

    #[test]
    fn a_circle_somewhere_behind_does_not_keep_the_walk() {
        assert_eq!(circle(&[(20, 30), (30, 20)], (10, 20)), None);
    }

    #[test]
    fn a_chain_is_no_circle_and_side_branches_are_not_members() {
        let chain = table(&[], &[(10, &[20], 0), (20, &[30], 0)]);
        assert!(chain.members_of_circles(Node::Stall(id(10))).is_empty());
        let stalls: &[(u64, &[u64], usize)] = &[
            (10, &[20, 50], 0),
            (20, &[30], 0),
            (30, &[10, 40], 0),
            (40, &[90], 0),
            (50, &[60], 0),
        ];
        let members = table(&[], stalls).members_of_circles(Node::Stall(id(20)));
        let expected = [10, 20, 30].map(|n| Node::Stall(id(n)));
        assert_eq!(members, expected.into());
        let own = table(&[], &[(10, &[10], 0)]);
        assert_eq!(own.chosen(Node::Stall(id(10))), [id(10)]);
    }

    #[test]
    fn a_circle_of_calls_and_stalls_lets_the_stalled_one_with_the_smallest_outbox_run() {
        // 10 calls 20, which is stalled because 11, a neighbour of the caller, has no room.
        let mixed = table(&[(10, 20)], &[(20, &[11], 5)]);
        assert_eq!(mixed.chosen(Node::Wait(0)), [id(20)]);
        assert_eq!(mixed.chosen(Node::Stall(id(20))), [id(20)]);
        let longer = table(&[(10, 20)], &[(20, &[30], 5), (30, &[10], 2)]);
        assert_eq!(longer.chosen(Node::Wait(0)), [id(30)]);
        // A chain: what 20 waits for can run.
        let chain = table(&[(10, 20)], &[(20, &[30], 5)]);
        assert_eq!(chain.chosen(Node::Wait(0)), []);
        // A neighbour of a cell of a pool is no obstacle.
        let pool = table(&[(900, 20)], &[(20, &[901], 5)]);
        assert_eq!(pool.chosen(Node::Wait(0)), []);
    }

    #[test]
    fn a_stalled_one_whose_thread_blocks_is_let_run_only_if_there_is_no_other() {
        // The thread of 30 waits for 20; 30 itself is stalled, too, with the smaller outbox.
        let stalls: &[(u64, &[u64], usize)] = &[(20, &[30], 5), (30, &[20], 1)];
        let table = table(&[(31, 20)], stalls);
        assert_eq!(table.chosen(Node::Wait(0)), [id(20)]);
    }
}
