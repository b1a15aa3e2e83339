//! Who waits for room at whom. Finds circles, and names the member that may run to break one.
//!
//! A processor is stalled while its outbox waits for room elsewhere; it takes no messages then. Stalled processors that
//! wait for each other in a circle would wait for ever, so one of them is allowed to handle a message although its
//! outbox is not empty: the one with the smallest outbox, and of equal ones the oldest. Handling a message frees a place
//! in its mailbox, which the member before it in the circle waits for. Mailboxes stay within their bounds; only that
//! member's outbox may grow, up to its cap.
//!
//! Every circle has a last edge, and it is looked for when an edge is added, so none is missed.

use crate::cell::CellRef;
use crate::id::ProcessorId;
use std::collections::{BTreeMap, BTreeSet};

// Touched only when a processor stalls; never held together with another lock. Not loom's: what it guards is a plain
// map, and a model's own objects may not live in a static.
use parking_lot::Mutex;

static STALLS: Mutex<BTreeMap<ProcessorId, Stall>> = Mutex::new(BTreeMap::new());

struct Stall {
    blocked_on: Vec<ProcessorId>,
    outbox_len: usize,
    /// `None` for a thread that waits inside a handler: it cannot run anything else.
    cell: Option<CellRef>,
}

/// Notes that `id` waits for room at each of `blocked_on`. If that closes a circle, returns the member that may run.
pub(crate) fn stalled(
    id: ProcessorId,
    blocked_on: Vec<ProcessorId>,
    outbox_len: usize,
    cell: Option<CellRef>,
) -> Option<CellRef> {
    let mut stalls = STALLS.lock();
    stalls.insert(
        id,
        Stall {
            blocked_on,
            outbox_len,
            cell,
        },
    );
    circle_through(id, &stalls)
        .into_iter()
        .filter_map(|member| {
            let stall = &stalls[&member];
            Some((stall.outbox_len, member, stall.cell.as_ref()?))
        })
        .min_by_key(|(len, member, _)| (*len, *member))
        .map(|(_, _, cell)| cell.clone())
}

/// `id` waits no longer.
pub(crate) fn cleared(id: ProcessorId) {
    // The cell is dropped after the lock is released: it may be the last reference to it.
    let _stall = STALLS.lock().remove(&id);
}

/// All members of circles that `start` is in: those it leads to that also lead to it.
fn circle_through(
    start: ProcessorId,
    stalls: &BTreeMap<ProcessorId, Stall>,
) -> BTreeSet<ProcessorId> {
    let mut reached = BTreeSet::new();
    let mut next = vec![start];
    while let Some(id) = next.pop() {
        for &to in stalls.get(&id).map_or(&[][..], |s| &s.blocked_on) {
            if stalls.contains_key(&to) && reached.insert(to) {
                next.push(to);
            }
        }
    }
    if !reached.contains(&start) {
        return BTreeSet::new();
    }
    // Walk the edges backwards within what was reached.
    let mut circle = BTreeSet::from([start]);
    loop {
        let before = circle.len();
        for &id in &reached {
            if stalls[&id].blocked_on.iter().any(|to| circle.contains(to)) {
                circle.insert(id);
            }
        }
        if circle.len() == before {
            return circle;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> ProcessorId {
        ProcessorId::from_number(n).unwrap()
    }

    fn graph(edges: &[(u64, &[u64])]) -> BTreeMap<ProcessorId, Stall> {
        edges
            .iter()
            .map(|(from, to)| {
                let stall = Stall {
                    blocked_on: to.iter().map(|&n| id(n)).collect(),
                    outbox_len: 0,
                    cell: None,
                };
                (id(*from), stall)
            })
            .collect()
    }

    #[test]
    fn a_chain_is_no_circle_and_side_branches_are_not_members() {
        let chain = graph(&[(1, &[2]), (2, &[3])]);
        assert!(circle_through(id(1), &chain).is_empty());
        let circle = graph(&[(1, &[2, 5]), (2, &[3]), (3, &[1, 4]), (4, &[9]), (5, &[6])]);
        assert_eq!(circle_through(id(2), &circle), [id(1), id(2), id(3)].into());
        let own = graph(&[(1, &[1])]);
        assert_eq!(circle_through(id(1), &own), [id(1)].into());
    }
}
