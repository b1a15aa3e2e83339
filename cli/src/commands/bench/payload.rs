//! Payloads that tell whether they have arrived as they were sent.
//!
//! ```text
//! word 0  which one it is: 1, 2, 3, ...
//! word 1  1 if an acknowledgement is wanted
//! word 2  the sum of the words after it
//! ```
//!
//! The publisher writes all of it and the reader sums all of it, so that both are part of what is measured.

/// Words before the filling.
const HEAD: usize = 3;

/// How many words a payload of about `bytes` has.
pub(crate) fn words(bytes: usize) -> usize {
    bytes.div_ceil(8).max(HEAD + 1)
}

pub(crate) fn fill(words: &mut [u64], sequence: u64, wants_answer: bool) {
    let (head, rest) = words.split_at_mut(HEAD);
    let mut sum = 0u64;
    for (word, at) in rest.iter_mut().zip(0u64..) {
        *word = sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ at;
        sum = sum.wrapping_add(*word);
    }
    head.copy_from_slice(&[sequence, u64::from(wants_answer), sum]);
}

/// What a reader has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    /// Those that were damaged, or not the next one.
    pub(crate) wrong: u64,
}

/// An acknowledgement: of which payload, and all that was seen so far.
pub(crate) type Answer = [u64; 3];

impl Seen {
    /// Checks one. Returns the answer, if one is wanted.
    pub(crate) fn take(&mut self, words: &[u64]) -> Option<Answer> {
        let Some((&[sequence, wants_answer, sum], rest)) = words.split_first_chunk() else {
            self.wrong += 1;
            return None;
        };
        self.count += 1;
        let actual = rest.iter().fold(0u64, |sum, word| sum.wrapping_add(*word));
        if actual != sum || sequence != self.count {
            self.wrong += 1;
        }
        (wants_answer == 1).then_some([sequence, self.count, self.wrong])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_and_loss_are_seen() {
        let mut words = vec![0; words(64)];
        assert_eq!(words.len(), 8);
        let mut seen = Seen::default();
        fill(&mut words, 1, false);
        assert_eq!(seen.take(&words), None);
        fill(&mut words, 2, true);
        assert_eq!(seen.take(&words), Some([2, 2, 0]));
        fill(&mut words, 3, true);
        words[5] ^= 1;
        assert_eq!(seen.take(&words), Some([3, 3, 1]));
        fill(&mut words, 5, true);
        assert_eq!(seen.take(&words), Some([5, 4, 2]));
        assert_eq!(seen.take(&[]), None);
        assert_eq!(seen.wrong, 3);
    }
}
