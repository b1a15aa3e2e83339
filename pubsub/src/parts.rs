//! How a value and its parts stand in the bytes of one sample.
//!
//! Without parts the bytes are the value's. With parts:
//!
//! ```text
//! value | part 0 | part 1 | .. | lengths: the value's, then each part's, 8 bytes each | how many parts, 8 bytes
//! ```
//!
//! Numbers are little-endian. They stand at the end, so that the value starts where the sample starts, which is aligned.

use crate::codec::CodecError;
use std::ops::Range;

const NUMBER_BYTES: usize = 8;

/// How many bytes are added to a value of `value` bytes.
pub(crate) fn added(parts: &[Vec<u8>]) -> usize {
    let bytes: usize = parts.iter().map(Vec::len).sum();
    bytes + (parts.len() + 2) * NUMBER_BYTES
}

/// Writes the parts behind the value, which has the first `value` bytes of `room`. Returns how many bytes it all has;
/// `None` if there is no room.
pub(crate) fn write(value: usize, parts: &[Vec<u8>], room: &mut [u8]) -> Option<usize> {
    let mut at = value;
    let mut put = |bytes: &[u8]| {
        room.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    for part in parts {
        put(part)?;
    }
    put(&(value as u64).to_le_bytes())?;
    for part in parts {
        put(&(part.len() as u64).to_le_bytes())?;
    }
    put(&(parts.len() as u64).to_le_bytes())?;
    Some(at)
}

/// Where the value stands, and each part. Any bytes may come.
pub(crate) fn read(bytes: &[u8]) -> Result<(Range<usize>, Vec<Range<usize>>), CodecError> {
    let nonsense = || CodecError::new("the lengths of its parts make no sense");
    let number = |at: usize| -> Result<usize, CodecError> {
        let bytes = bytes.get(at..at + NUMBER_BYTES).ok_or_else(nonsense)?;
        let number = u64::from_le_bytes(bytes.try_into().map_err(|_| nonsense())?);
        usize::try_from(number).map_err(|_| nonsense())
    };
    let last = bytes.len().checked_sub(NUMBER_BYTES).ok_or_else(nonsense)?;
    let count = number(last)?;
    // At least as many bytes as there are numbers, so nothing large is allocated for nonsense.
    let lengths = count
        .checked_add(1)
        .and_then(|numbers| numbers.checked_mul(NUMBER_BYTES))
        .and_then(|lengths| last.checked_sub(lengths))
        .ok_or_else(nonsense)?;
    let value = number(lengths)?;
    let mut at = value;
    let mut parts = Vec::with_capacity(count);
    for i in 1..=count {
        let end = at
            .checked_add(number(lengths + i * NUMBER_BYTES)?)
            .ok_or_else(nonsense)?;
        parts.push(at..end);
        at = end;
    }
    if at == lengths {
        Ok((0..value, parts))
    } else {
        Err(nonsense())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_from_their_bytes() {
        for parts in [vec![], vec![vec![]], vec![vec![1, 2, 3], vec![], vec![4]]] {
            let mut room = vec![9; 5 + added(&parts)];
            let written = write(5, &parts, &mut room).unwrap();
            assert_eq!(written, room.len());
            let (value, ranges) = read(&room).unwrap();
            assert_eq!(value, 0..5);
            let back: Vec<_> = ranges.into_iter().map(|r| room[r].to_vec()).collect();
            assert_eq!(back, parts);
            assert!(write(5, &parts, &mut room[1..]).is_none());
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_ranges_inside_them_or_an_error(bytes: Vec<u8>, count in 0_u64..4, tail: [u64; 3]) {
            let mut some = bytes;
            for number in tail {
                some.extend_from_slice(&(number % 64).to_le_bytes());
            }
            some.extend_from_slice(&count.to_le_bytes());
            if let Ok((value, parts)) = read(&some) {
                proptest::prop_assert!(value.end <= some.len());
                proptest::prop_assert!(parts.iter().all(|r| r.start <= r.end && r.end <= some.len()));
            }
        }
    }
}
