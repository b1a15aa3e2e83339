//! The parts of a sample as one message: how many there are and how long each is, as little-endian 64-bit numbers, then the
//! parts themselves, one after the other.

/// The parts, as one message.
pub(crate) fn join(parts: &[&[u8]]) -> Vec<u8> {
    let total: usize = parts.iter().map(|part| part.len()).sum();
    let mut message = Vec::with_capacity(8 * (1 + parts.len()) + total);
    message.extend((parts.len() as u64).to_le_bytes());
    for part in parts {
        message.extend((part.len() as u64).to_le_bytes());
    }
    for part in parts {
        message.extend(*part);
    }
    message
}

/// The parts of a message; `None` if it is not one of parts.
pub(crate) fn split(message: &[u8]) -> Option<Vec<&[u8]>> {
    let (count, mut lengths) = number(message)?;
    // Each has a length, so a number too large is found before room is made for it.
    let head = count.checked_mul(8)?;
    let mut data = lengths.get(head..)?;
    let mut parts = Vec::with_capacity(count);
    for _ in 0..count {
        let (bytes, rest) = number(lengths)?;
        lengths = rest;
        let (part, rest) = data.split_at_checked(bytes)?;
        parts.push(part);
        data = rest;
    }
    data.is_empty().then_some(parts)
}

fn number(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (number, rest) = bytes.split_first_chunk()?;
    Some((usize::try_from(u64::from_le_bytes(*number)).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were() {
        for parts in [vec![], vec![&b""[..]], vec![b"ab", b"", b"cde"]] {
            let message = join(&parts);
            assert_eq!(split(&message), Some(parts));
            for end in 0..message.len() {
                assert_eq!(split(&message[..end]), None);
            }
        }
        assert_eq!(split(&[0xff; 64]), None);
    }
}
