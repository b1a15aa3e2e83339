//! Layouts that programs have not told, because they did not answer: when to ask for them again.
//!
//! What is not known when a program is busy for a moment must not stay unknown, and a program that is stopped must not
//! cost its limit at each sample. So the rests between two questions grow.

use std::collections::HashMap;
use std::time::{Duration, Instant};

const REST: Duration = Duration::from_secs(1);
const REST_MAX: Duration = Duration::from_secs(64);

/// The types that were asked for in vain: by their hashes, and by the topics that have them.
#[derive(Debug, Default)]
pub(crate) struct Unanswered {
    types: HashMap<u64, HashMap<String, (Instant, Duration)>>,
}

impl Unanswered {
    /// True if the type of this topic was asked for in vain and it is time to ask again.
    pub(crate) fn is_due(&self, topic: &str, type_hash: u64, now: Instant) -> bool {
        let of_topic = self.types.get(&type_hash).and_then(|all| all.get(topic));
        of_topic.is_some_and(|(again, _)| now >= *again)
    }

    /// It was asked for, and somebody did not answer.
    pub(crate) fn put_off(&mut self, topic: &str, type_hash: u64, now: Instant) {
        let topics = self.types.entry(type_hash).or_default();
        let (again, rest) = topics.entry(topic.to_owned()).or_insert((now, REST));
        *again = now + *rest;
        *rest = (*rest * 2).min(REST_MAX);
    }

    /// All is known of it that will be.
    pub(crate) fn settle(&mut self, topic: &str, type_hash: u64) {
        if let Some(topics) = self.types.get_mut(&type_hash) {
            topics.remove(topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_until_it_is_settled_for_each_topic() {
        let begin = Instant::now();
        let at = |s| begin + Duration::from_secs(s);
        let mut types = Unanswered::default();
        assert!(!types.is_due("a", 1, begin));
        types.put_off("a", 1, begin);
        assert!(!types.is_due("a", 1, begin) && types.is_due("a", 1, at(1)));
        assert!(!types.is_due("b", 1, at(1)) && !types.is_due("a", 2, at(1)));
        types.put_off("b", 1, begin);
        types.put_off("a", 1, at(1));
        assert!(!types.is_due("a", 1, at(2)) && types.is_due("a", 1, at(3)));
        (0..20).for_each(|_| types.put_off("a", 1, at(3)));
        assert!(!types.is_due("a", 1, at(66)) && types.is_due("a", 1, at(67)));
        types.settle("a", 1);
        assert!(!types.is_due("a", 1, at(100)) && types.is_due("b", 1, at(1)));
    }
}
