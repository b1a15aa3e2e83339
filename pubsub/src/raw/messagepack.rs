//! Whether bytes are one value of MessagePack, without making it.

use crate::codec::DEPTH_MAX;
use std::fmt;

/// Why bytes are not one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    at: usize,
    what: &'static str,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.at, self.what)
    }
}

/// What follows the first byte of a value.
enum Follows {
    /// So many bytes.
    Bytes(usize),
    /// So many bytes of text.
    Text(usize),
    /// So many values.
    Values(u64),
}

/// The error says what is wrong, and where. Nothing is allocated but a number for each level.
pub(crate) fn check(bytes: &[u8]) -> Result<(), Wrong> {
    // How many values are still to come, at each level that is open.
    let mut open: Vec<u64> = vec![1];
    let mut at = 0;
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let start = at;
        let ends = Wrong {
            at: bytes.len(),
            what: "the bytes end inside a value",
        };
        match head(bytes, &mut at)?.ok_or_else(|| ends.clone())? {
            Follows::Bytes(count) => {
                take(bytes, &mut at, count).ok_or(ends)?;
            }
            Follows::Text(count) => {
                let text = take(bytes, &mut at, count).ok_or(ends)?;
                if std::str::from_utf8(text).is_err() {
                    let what = "a text that is not UTF-8";
                    return Err(Wrong { at: start, what });
                }
            }
            Follows::Values(count) => {
                // Each has at least a byte, so this is found before they are gone through.
                if usize::try_from(count).map_or(true, |count| count > bytes.len() - at) {
                    return Err(ends);
                }
                if open.len() > DEPTH_MAX {
                    let what = "values are nested too deeply";
                    return Err(Wrong { at: start, what });
                }
                open.push(count);
            }
        }
    }
    if at < bytes.len() {
        let what = "bytes are left over after the value";
        return Err(Wrong { at, what });
    }
    Ok(())
}

fn take<'a>(bytes: &'a [u8], at: &mut usize, count: usize) -> Option<&'a [u8]> {
    let taken = bytes.get(*at..at.checked_add(count)?)?;
    *at += count;
    Some(taken)
}

/// The number in the next `width` bytes, most significant first.
fn number(bytes: &[u8], at: &mut usize, width: usize) -> Option<usize> {
    let digits = take(bytes, at, width)?;
    let number = digits
        .iter()
        .fold(0_u64, |number, digit| number << 8 | u64::from(*digit));
    usize::try_from(number).ok()
}

/// What follows at `at`. `None` if the bytes end.
fn head(bytes: &[u8], at: &mut usize) -> Result<Option<Follows>, Wrong> {
    let start = *at;
    let Some(&[first]) = take(bytes, at, 1) else {
        return Ok(None);
    };
    let mut number = |width| number(bytes, at, width);
    Ok(match first {
        // Small numbers, nothing, false and true.
        0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => Some(Follows::Bytes(0)),
        0x80..=0x8f => Some(Follows::Values(u64::from(first & 0x0f) * 2)),
        0x90..=0x9f => Some(Follows::Values(u64::from(first & 0x0f))),
        0xa0..=0xbf => Some(Follows::Text(usize::from(first & 0x1f))),
        0xc1 => {
            let what = "0xc1 begins no value";
            return Err(Wrong { at: start, what });
        }
        0xc4..=0xc6 => number(1 << (first - 0xc4)).map(Follows::Bytes),
        // Extensions have a byte for their type.
        0xc7..=0xc9 => number(1 << (first - 0xc7)).map(|count| Follows::Bytes(count + 1)),
        0xca | 0xce | 0xd2 => Some(Follows::Bytes(4)),
        0xcb | 0xcf | 0xd3 => Some(Follows::Bytes(8)),
        0xcc | 0xd0 => Some(Follows::Bytes(1)),
        0xcd | 0xd1 => Some(Follows::Bytes(2)),
        0xd4..=0xd8 => Some(Follows::Bytes((1 << (first - 0xd4)) + 1)),
        0xd9..=0xdb => number(1 << (first - 0xd9)).map(Follows::Text),
        0xdc | 0xdd => number(2 << (first - 0xdc)).map(|count| Follows::Values(count as u64)),
        0xde | 0xdf => number(2 << (first - 0xde)).map(|count| Follows::Values(count as u64 * 2)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn said(bytes: &[u8]) -> String {
        check(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_one_value_is_named_with_its_place() {
        assert_eq!(said(&[]), "byte 0: the bytes end inside a value");
        assert_eq!(said(&[0x92, 1]), "byte 2: the bytes end inside a value");
        assert_eq!(said(&[0x91, 0xc1]), "byte 1: 0xc1 begins no value");
        assert_eq!(said(&[1, 2]), "byte 1: bytes are left over after the value");
        assert_eq!(
            said(&[0x91, 0xa1, 0xff]),
            "byte 1: a text that is not UTF-8"
        );
        let mut deep = vec![0x91; DEPTH_MAX + 1];
        deep.push(1);
        assert!(said(&deep).ends_with("nested too deeply"));
        assert!(check(&deep[1..]).is_ok());
    }

    #[test]
    fn a_header_that_promises_too_much_is_refused_at_once() {
        for bytes in [
            &[0xdd, 0xff, 0xff, 0xff, 0xff][..],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &[0xdb, 0xff, 0xff, 0xff, 0xff],
            &[0xc9, 0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(said(bytes), "byte 5: the bytes end inside a value");
        }
    }

    proptest! {
        #[test]
        fn what_the_encoder_writes_is_one_value(
            numbers: Vec<i64>,
            text: BTreeMap<String, Option<(f32, bool)>>,
            wide in proptest::sample::select(vec![0_usize, 1, 15, 16, 300, 65_536]),
        ) {
            let bytes = rmp_serde::to_vec_named(&(numbers, text, vec![0_u16; wide], u128::MAX)).unwrap();
            prop_assert_eq!(check(&bytes), Ok(()));
            prop_assert!(check(&bytes[..bytes.len() - 1]).is_err());
        }

        #[test]
        fn any_bytes_are_judged_as_a_decoder_that_takes_everything_does(bytes: Vec<u8>) {
            use serde::de::IgnoredAny;
            let mut rest = &bytes[..];
            let decoded = rmp_serde::from_read::<_, IgnoredAny>(&mut rest);
            // It ignores what text is, and knows no extensions.
            if check(&bytes).is_ok() && !bytes.iter().any(|b| (0xc7..=0xc9).contains(b) || (0xd4..=0xd8).contains(b)) {
                prop_assert!(decoded.is_ok() && rest.is_empty());
            }
        }
    }
}
