//! What stands before each payload: who published it, when, and how long it is.

use crate::layout::SlotWords;
use crate::sync::Relaxed;

/// What a publisher says about a sample. The layers above give it meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotHeader {
    /// The topic's number.
    pub topic: u64,
    /// The number of the payload's type.
    pub type_hash: u64,
    /// The publisher's number within its process.
    pub publisher: u64,
    /// The publisher's own sequence.
    pub sequence: u64,
    /// When it was published.
    pub published_ns: u64,
    /// What it answers, or 0.
    pub correlation: u128,
    /// What kind of sample it is.
    pub flags: u32,
}

impl SlotHeader {
    /// Written by the publisher while nobody else has the slot.
    pub(crate) fn store(&self, words: &SlotWords, generation: u64, bytes: u32) {
        let values = [
            generation,
            u64::from(bytes) | u64::from(self.flags) << 32,
            self.topic,
            self.type_hash,
            self.publisher,
            self.sequence,
            self.published_ns,
            self.correlation as u64,
            (self.correlation >> 64) as u64,
        ];
        for (word, value) in words.words.iter().zip(values) {
            word.store(value, Relaxed);
        }
    }

    /// The header, and how long the payload claims to be. Each word is read once.
    pub(crate) fn load(words: &SlotWords) -> (Self, u32) {
        let word = |i: usize| words.words[i].load(Relaxed);
        let lengths = word(1);
        let header = Self {
            topic: word(2),
            type_hash: word(3),
            publisher: word(4),
            sequence: word(5),
            published_ns: word(6),
            correlation: u128::from(word(7)) | u128::from(word(8)) << 64,
            flags: (lengths >> 32) as u32,
        };
        (header, lengths as u32)
    }
}
