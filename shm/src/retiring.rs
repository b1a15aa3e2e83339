//! Segments that are given back, so that their bytes serve messages of another size.
//!
//! | a segment is | its slots are                          | leaves by                                                  |
//! |--------------|----------------------------------------|------------------------------------------------------------|
//! | in use       | lent and come back                     | [`choose`], when none of its slots is out                   |
//! | retired      | free, and in no list: nobody gets them | the answers of all links that were asked; links that end   |
//! | gone         | numbers without memory                 | a new segment, which may have the same numbers             |
//!
//! ```text
//! publisher    none of its slots is out;  its slots leave the lists;  asks each link that may take what is queued next
//! subscriber   lets go of its mapping;  answers
//! publisher    all have answered:  its bytes and the numbers of its slots are used for something else
//! ```
//!
//! # Why nobody reads old memory
//!
//! A subscriber finds a sample by the number of its slot, so it would read old memory if it had the segment that had this number
//! before. A sample is queued in new memory only after the answers of all links on which it may be queued, and these had let go
//! of the old segment before they answered. So the subscriber finds the new segment under that number, or none yet.
//!
//! Links that are not asked get nothing from then on: they have ended, or their subscribers have left. What these still map counts
//! in no budget. Links that were attached later were never told of the old segment.
//!
//! What a subscriber still finds in the ring about a slot that is retired was revoked or taken before, since the slot is free.
//! Its cell says so, and no payload is looked at: a take from retired memory cannot happen. If the publisher lies, and retires what
//! is queued, its own link stands still at a sample for which there is no memory.

use crate::fan_out::LinkId;
use crate::segment::DataSegment;
use std::sync::Arc;

/// A segment of which some links have not said yet that they let go of it.
#[derive(Debug)]
pub(crate) struct Retired {
    pub(crate) segment: Arc<DataSegment>,
    /// Who has not answered, and whether it was asked already.
    pub(crate) waits_for: Vec<(LinkId, bool)>,
}

/// A segment that could be given back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    /// Its place in the endpoint's list.
    pub(crate) index: usize,
    pub(crate) bytes: u64,
    /// When its class was used last.
    pub(crate) last_used: u64,
}

/// As few segments as have `bytes` together, at least one; where there is a choice, those of classes that were used longest ago.
/// `None` if all of them have less. The places come in ascending order.
pub(crate) fn choose(mut candidates: Vec<Candidate>, bytes: u64) -> Option<Vec<usize>> {
    candidates.sort_by_key(|candidate| candidate.last_used);
    let largest = |candidates: &[Candidate], count: usize| -> u64 {
        let mut sizes: Vec<_> = candidates.iter().map(|c| c.bytes).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.iter().take(count).sum()
    };
    let enough = |count: &usize| largest(&candidates, *count) >= bytes;
    let mut count = (1..=candidates.len()).find(enough)?;
    let mut missing = bytes;
    let mut chosen = Vec::new();
    for (at, candidate) in candidates.iter().enumerate() {
        if count == 0 {
            break;
        }
        // With this one, the largest of those behind it have to suffice.
        let others = largest(&candidates[at + 1..], count - 1);
        if candidate.bytes + others >= missing {
            chosen.push(candidate.index);
            missing = missing.saturating_sub(candidate.bytes);
            count -= 1;
        }
    }
    chosen.sort_unstable();
    Some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn candidates(sizes: &[(u64, u64)]) -> Vec<Candidate> {
        let all = sizes.iter().enumerate();
        all.map(|(index, &(bytes, last_used))| Candidate {
            index,
            bytes,
            last_used,
        })
        .collect()
    }

    #[test]
    fn few_are_chosen_and_of_these_the_oldest() {
        let some = candidates(&[(10, 3), (10, 1), (30, 2), (10, 0)]);
        assert_eq!(choose(some.clone(), 0), Some(vec![3]));
        assert_eq!(choose(some.clone(), 10), Some(vec![3]));
        assert_eq!(choose(some.clone(), 11), Some(vec![2]));
        assert_eq!(choose(some.clone(), 40), Some(vec![2, 3]));
        assert_eq!(choose(some.clone(), 50), Some(vec![1, 2, 3]));
        assert_eq!(choose(some.clone(), 60), Some(vec![0, 1, 2, 3]));
        assert_eq!(choose(some, 61), None);
        assert_eq!(choose(Vec::new(), 0), None);
    }

    proptest! {
        #[test]
        fn what_is_chosen_suffices_and_fewer_would_not(
            sizes in prop::collection::vec((1_u64..50, 0_u64..5), 0..8), bytes in 0_u64..200
        ) {
            let size = |places: &[usize]| places.iter().map(|at| sizes[*at].0).sum::<u64>();
            let subsets = (1_u32..1 << sizes.len()).map(|set| {
                (0..sizes.len()).filter(|at| set & 1 << at != 0).collect::<Vec<_>>()
            });
            let fewest = subsets.filter(|s| size(s) >= bytes).map(|s| s.len()).min();
            let chosen = choose(candidates(&sizes), bytes);
            prop_assert_eq!(chosen.as_ref().map(Vec::len), fewest);
            prop_assert!(chosen.is_none_or(|chosen| size(&chosen) >= bytes));
        }
    }
}
