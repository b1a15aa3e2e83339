//! MessagePack as JSON text, exactly or not at all.
//!
//! JSON has no bytes, no keys but text, and no numbers that are not finite. A value with one of these is refused, and never
//! changed. Numbers are written so that they are read again as the same number: whole ones as such, others with a point or an
//! exponent and as many digits as it takes. That a number had 32 bits is not kept; it reads as the same number.

use std::fmt;

/// Why a value is not written as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotJson {
    Bytes,
    Key,
    KeyTwice,
    NotFinite,
    Deep,
    NotMessagePack,
}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes => "bytes",
            Self::Key => "a map with keys that are no text",
            Self::KeyTwice => "a map that has a key twice",
            Self::NotFinite => "a number that is not finite",
            Self::Deep => "values too deep in each other",
            Self::NotMessagePack => "no MessagePack",
        })
    }
}

/// How deep values may stand in each other. Readers of JSON have a limit, too.
const DEPTH_MAX: u32 = 100;

/// Appends the one value that `bytes` are to `out`, and returns whether it is an object. After an error, `out` has the
/// beginning of it.
pub(crate) fn write_json(bytes: &[u8], out: &mut Vec<u8>) -> Result<bool, NotJson> {
    let mut input = Input(bytes);
    let is_object = matches!(bytes.first(), Some(0x80..=0x8f | 0xde | 0xdf));
    input.value(out, 0)?;
    if !input.0.is_empty() {
        return Err(NotJson::NotMessagePack);
    }
    Ok(is_object)
}

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], NotJson> {
        let (taken, rest) = self
            .0
            .split_at_checked(count)
            .ok_or(NotJson::NotMessagePack)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], NotJson> {
        let (taken, rest) = self
            .0
            .split_first_chunk::<N>()
            .ok_or(NotJson::NotMessagePack)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn u8(&mut self) -> Result<u8, NotJson> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, NotJson> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, NotJson> {
        self.array().map(u32::from_be_bytes)
    }

    fn value(&mut self, out: &mut Vec<u8>, depth: u32) -> Result<(), NotJson> {
        match self.u8()? {
            byte @ 0x00..=0x7f => whole(out, i128::from(byte)),
            byte @ 0xe0..=0xff => whole(out, i128::from(byte as i8)),
            byte @ 0x80..=0x8f => return self.map(u32::from(byte & 0x0f), out, depth),
            byte @ 0x90..=0x9f => return self.list(u32::from(byte & 0x0f), out, depth),
            byte @ 0xa0..=0xbf => return self.text(u32::from(byte & 0x1f), out),
            0xc0 => out.extend(b"null"),
            0xc2 => out.extend(b"false"),
            0xc3 => out.extend(b"true"),
            0xc4..=0xc9 | 0xd4..=0xd8 => return Err(NotJson::Bytes),
            0xca => {
                let number = f32::from_be_bytes(self.array()?);
                return float(out, f64::from(number));
            }
            0xcb => {
                let number = f64::from_be_bytes(self.array()?);
                return float(out, number);
            }
            0xcc => whole(out, i128::from(self.u8()?)),
            0xcd => whole(out, i128::from(self.u16()?)),
            0xce => whole(out, i128::from(self.u32()?)),
            0xcf => whole(out, i128::from(u64::from_be_bytes(self.array()?))),
            0xd0 => whole(out, i128::from(i8::from_be_bytes(self.array()?))),
            0xd1 => whole(out, i128::from(i16::from_be_bytes(self.array()?))),
            0xd2 => whole(out, i128::from(i32::from_be_bytes(self.array()?))),
            0xd3 => whole(out, i128::from(i64::from_be_bytes(self.array()?))),
            0xd9 => {
                let bytes = u32::from(self.u8()?);
                return self.text(bytes, out);
            }
            0xda => {
                let bytes = u32::from(self.u16()?);
                return self.text(bytes, out);
            }
            0xdb => {
                let bytes = self.u32()?;
                return self.text(bytes, out);
            }
            0xdc => {
                let count = u32::from(self.u16()?);
                return self.list(count, out, depth);
            }
            0xdd => {
                let count = self.u32()?;
                return self.list(count, out, depth);
            }
            0xde => {
                let count = u32::from(self.u16()?);
                return self.map(count, out, depth);
            }
            0xdf => {
                let count = self.u32()?;
                return self.map(count, out, depth);
            }
            0xc1 => return Err(NotJson::NotMessagePack),
        }
        Ok(())
    }

    fn utf8(&mut self, bytes: u32) -> Result<&'a str, NotJson> {
        let bytes = self.take(bytes as usize)?;
        std::str::from_utf8(bytes).map_err(|_| NotJson::NotMessagePack)
    }

    fn text(&mut self, bytes: u32, out: &mut Vec<u8>) -> Result<(), NotJson> {
        quoted(out, self.utf8(bytes)?)
    }

    fn list(&mut self, count: u32, out: &mut Vec<u8>, depth: u32) -> Result<(), NotJson> {
        if depth == DEPTH_MAX {
            return Err(NotJson::Deep);
        }
        out.push(b'[');
        for at in 0..count {
            if at > 0 {
                out.push(b',');
            }
            self.value(out, depth + 1)?;
        }
        out.push(b']');
        Ok(())
    }

    fn map(&mut self, count: u32, out: &mut Vec<u8>, depth: u32) -> Result<(), NotJson> {
        if depth == DEPTH_MAX {
            return Err(NotJson::Deep);
        }
        // No room is made for what `count` promises: it comes from outside.
        let mut keys = Vec::new();
        out.push(b'{');
        for at in 0..count {
            if at > 0 {
                out.push(b',');
            }
            let bytes = match self.u8()? {
                byte @ 0xa0..=0xbf => u32::from(byte & 0x1f),
                0xd9 => u32::from(self.u8()?),
                0xda => u32::from(self.u16()?),
                0xdb => self.u32()?,
                _ => return Err(NotJson::Key),
            };
            let key = self.utf8(bytes)?;
            keys.push(key);
            quoted(out, key)?;
            out.push(b':');
            self.value(out, depth + 1)?;
        }
        out.push(b'}');
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(NotJson::KeyTwice);
        }
        Ok(())
    }
}

fn whole(out: &mut Vec<u8>, number: i128) {
    out.extend(number.to_string().as_bytes());
}

fn float(out: &mut Vec<u8>, number: f64) -> Result<(), NotJson> {
    if !number.is_finite() {
        return Err(NotJson::NotFinite);
    }
    serde_json::to_writer(out, &number).map_err(|_| NotJson::NotFinite)
}

fn quoted(out: &mut Vec<u8>, text: &str) -> Result<(), NotJson> {
    serde_json::to_writer(out, text).map_err(|_| NotJson::NotMessagePack)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Serialize;
    use serde_json::{Value, json};

    fn written(value: &impl Serialize) -> Result<(bool, String), NotJson> {
        let bytes = rmp_serde::to_vec_named(value).unwrap();
        let mut out = Vec::new();
        let is_object = write_json(&bytes, &mut out)?;
        Ok((is_object, String::from_utf8(out).unwrap()))
    }

    #[test]
    fn values_are_the_same_values_in_json() {
        let values = [
            json!(null),
            json!([
                true,
                false,
                0,
                127,
                128,
                255,
                256,
                65_535,
                65_536,
                u32::MAX,
                u64::MAX
            ]),
            json!([-1, -32, -33, -128, -129, i16::MIN, i32::MIN, i64::MIN]),
            json!([0.1, 1.0, -0.0, f64::MIN_POSITIVE, f64::MAX, 5e-324, 1e300]),
            json!("a\u{1}\"\\/\u{2028}日本"),
            json!({"a": {"b": [{}, [], "x".repeat(40), "y".repeat(300), "z".repeat(70_000)]}}),
            json!(vec![1; 20]),
            json!(vec![1; 70_000]),
            json!(
                (0..20)
                    .map(|n| (n.to_string(), json!(n)))
                    .collect::<serde_json::Map<_, _>>()
            ),
        ];
        for value in values {
            let (is_object, text) = written(&value).unwrap();
            assert_eq!(is_object, value.is_object());
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
        // The sign of a zero is compared by its text.
        assert_eq!(written(&-0.0).unwrap().1, "-0.0");
        assert_eq!(written(&0.1_f32).unwrap().1, "0.10000000149011612");
    }

    #[test]
    fn what_json_cannot_hold_is_refused() {
        let map = |key: i64| std::collections::BTreeMap::from([(key, 1)]);
        assert_eq!(written(&f64::NAN), Err(NotJson::NotFinite));
        assert_eq!(written(&[f32::INFINITY]), Err(NotJson::NotFinite));
        assert_eq!(written(&map(1)), Err(NotJson::Key));
        assert_eq!(written(&u128::MAX), Err(NotJson::Bytes));
        let mut out = Vec::new();
        assert_eq!(write_json(&[0xc4, 1, 0], &mut out), Err(NotJson::Bytes));
        let twice = [0x82, 0xa1, b'a', 1, 0xa1, b'a', 2];
        assert_eq!(write_json(&twice, &mut out), Err(NotJson::KeyTwice));
        assert_eq!(write_json(&[0x91; 1000], &mut out), Err(NotJson::Deep));
    }

    #[test]
    fn odd_bytes_are_refused() {
        let mut out = Vec::new();
        let odd: [&[u8]; 7] = [
            &[],
            &[0xc1],
            &[1, 2],
            &[0xa2, 0xff, 0xfe],
            &[0xdd, 0xff, 0xff, 0xff, 0xff],
            &[0xdf, 0xff, 0xff, 0xff, 0xff],
            &[0xdb, 0xff, 0xff, 0xff, 0xff, b'a'],
        ];
        for bytes in odd {
            let refused = write_json(bytes, &mut out);
            assert_eq!(refused, Err(NotJson::NotMessagePack), "{bytes:?}");
        }
    }
}
