//! Numbers that are names: hashes of types and ids of topics are written as hexadecimal text. Readers of JSON take numbers for
//! floats, and those hold 53 bits.

use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, PrettyFormatter, Serializer};
use std::io::{self, Write};

/// The same as [`serde_json::to_string_pretty`], but with those numbers as text: `"0x00000000000000ff"`.
pub(crate) fn to_string_pretty(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let mut text = Vec::new();
    let mut serializer = Serializer::with_formatter(&mut text, Ids::default());
    value.serialize(&mut serializer)?;
    Ok(String::from_utf8(text).expect("JSON is UTF-8"))
}

#[derive(Default)]
struct Ids {
    pretty: PrettyFormatter<'static>,
    /// The key whose value is being written, in each object that is open.
    keys: Vec<String>,
    is_in_key: bool,
}

impl Ids {
    /// True if the number that comes is a name.
    fn is_name(&self) -> bool {
        match &self.keys[..] {
            [.., key] if key == "type_hash" => true,
            [.., list, key] => list == "topics" && key == "id",
            _ => false,
        }
    }
}

impl Formatter for Ids {
    fn write_u64<W: ?Sized + Write>(&mut self, writer: &mut W, value: u64) -> io::Result<()> {
        match self.is_name() {
            true => write!(writer, "\"{value:#018x}\""),
            false => self.pretty.write_u64(writer, value),
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if self.is_in_key
            && let Some(key) = self.keys.last_mut()
        {
            key.push_str(fragment);
        }
        self.pretty.write_string_fragment(writer, fragment)
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.pretty.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.pretty.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.keys.push(String::new());
        self.pretty.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.keys.pop();
        self.pretty.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.is_in_key = true;
        if let Some(key) = self.keys.last_mut() {
            key.clear();
        }
        self.pretty.begin_object_key(writer, first)
    }

    fn end_object_key<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.is_in_key = false;
        self.pretty.end_object_key(writer)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.pretty.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_text_and_all_else_is_as_it_was() {
        let value = json!({
            "id": 7,
            "topics": [
                {"id": 255, "name": "a\"id\u{1}", "publishers": [{"id": 3}], "type_hash": u64::MAX},
                {"id": u64::MAX, "type_hash": 0},
            ],
            "type_hash": "text",
            "types": [{"type_hash": 1}],
        });
        let said: serde_json::Value =
            serde_json::from_str(&to_string_pretty(&value).unwrap()).unwrap();
        let wanted = json!({
            "id": 7,
            "topics": [
                {
                    "id": "0x00000000000000ff", "name": "a\"id\u{1}", "publishers": [{"id": 3}],
                    "type_hash": "0xffffffffffffffff",
                },
                {"id": "0xffffffffffffffff", "type_hash": "0x0000000000000000"},
            ],
            "type_hash": "text",
            "types": [{"type_hash": "0x0000000000000001"}],
        });
        assert_eq!(said, wanted);
        let other = json!({"a": [1, {"b": []}, {}], "c": 1.5, "d": null});
        let plain = serde_json::to_string_pretty(&other).unwrap();
        assert_eq!(to_string_pretty(&other).unwrap(), plain);
    }
}
