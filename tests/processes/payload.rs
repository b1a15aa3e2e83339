//! Values that say who wrote them, in which order, and whether they are whole.
//!
//! ```text
//! writer u64 | sequence u64 | checksum u64 | filling, made of the two
//! ```

use std::collections::BTreeMap;

/// The smallest value.
pub(crate) const BYTES_MIN: usize = 24;

/// Fills all of `bytes`.
pub(crate) fn fill(bytes: &mut [u8], writer: u64, sequence: u64) {
    let (head, filling) = bytes.split_at_mut(BYTES_MIN);
    let mut word = mix(writer ^ mix(sequence));
    for chunk in filling.chunks_mut(8) {
        word = mix(word);
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
    let sum = sum(writer, sequence, filling);
    for (place, number) in head.chunks_mut(8).zip([writer, sequence, sum]) {
        place.copy_from_slice(&number.to_le_bytes());
    }
}

/// Who wrote it, and its number. The error says what is wrong with it.
pub(crate) fn check(bytes: &[u8]) -> Result<(u64, u64), String> {
    if bytes.len() < BYTES_MIN {
        return Err(format!("bad checksum: {} bytes", bytes.len()));
    }
    let (head, filling) = bytes.split_at(BYTES_MIN);
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("8 bytes"));
    let (writer, sequence, told) = (number(0), number(8), number(16));
    if sum(writer, sequence, filling) == told {
        Ok((writer, sequence))
    } else {
        Err(format!(
            "bad checksum: writer {writer:x}, sequence {sequence}, {} bytes",
            bytes.len()
        ))
    }
}

fn sum(writer: u64, sequence: u64, filling: &[u8]) -> u64 {
    let start = mix(writer ^ filling.len() as u64) ^ mix(sequence);
    filling.chunks(8).fold(start, |sum, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix(sum ^ u64::from_le_bytes(word))
    })
}

/// As in splitmix64.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What one subscription has received: of each writer, the last.
#[derive(Debug, Default)]
pub(crate) struct Order {
    last: BTreeMap<u64, u64>,
}

impl Order {
    /// One more, with the gap that was told. Each link has one writer here, so that all that was lost between two of its
    /// values is in the gap of the second. What came before the first that is received is not known.
    pub(crate) fn note(&mut self, writer: u64, sequence: u64, gap: u64) -> Result<(), String> {
        let Some(last) = self.last.insert(writer, sequence) else {
            return Ok(());
        };
        if sequence <= last {
            return Err(format!(
                "bad order: writer {writer:x} has {sequence} after {last}"
            ));
        }
        if sequence - last - 1 != gap {
            return Err(format!(
                "bad gap: writer {writer:x} has {sequence} after {last}, and the gap is {gap}"
            ));
        }
        Ok(())
    }
}
