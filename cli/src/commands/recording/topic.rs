//! One topic that is recorded: its type, what was counted of it, and in which form its values are written.

use super::channel::Form;
use super::json::write_json;
use super::json_schema::schema_of;
use mproc::{CodecKind, Schema, TypeInfo};
use std::collections::BTreeMap;

/// In which form values are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Encoding {
    /// JSON where values can be read and are no slices, else as they travel.
    Auto,
    /// JSON, slices too. Topics whose values cannot be read are left out, and counted.
    Json,
    /// All as it travels: fastest, smallest, and the very bytes.
    Raw,
}

/// What was counted of a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    /// Bytes of values and parts, as they were written.
    pub(crate) bytes: u64,
    /// Lost because this recorder was too slow.
    pub(crate) dropped: u64,
    /// Left out as `--rate` says.
    pub(crate) throttled: u64,
    /// Left out because values cannot be read, and only JSON is wanted.
    pub(crate) unreadable: u64,
}

impl Counts {
    pub(super) fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.dropped += other.dropped;
        self.throttled += other.throttled;
        self.unreadable += other.unreadable;
    }

    pub(super) fn to_metadata(self) -> BTreeMap<String, String> {
        let all = [
            ("messages", self.messages),
            ("bytes", self.bytes),
            ("dropped", self.dropped),
            ("throttled", self.throttled),
            ("unreadable", self.unreadable),
        ];
        all.map(|(key, count)| (key.to_owned(), count.to_string()))
            .into()
    }
}

/// A topic of one type.
#[derive(Debug)]
pub(crate) struct Topic {
    pub(crate) name: String,
    pub(crate) info: TypeInfo,
    schema: Option<Schema>,
    /// In the files that were closed.
    pub(super) before: Counts,
    /// In this file.
    pub(super) now: Counts,
}

impl Topic {
    pub(super) fn new(name: &str, info: &TypeInfo) -> Self {
        Self {
            name: name.to_owned(),
            info: info.clone(),
            schema: Schema::of(info),
            before: Counts::default(),
            now: Counts::default(),
        }
    }

    /// In all files.
    pub(crate) fn counts(&self) -> Counts {
        let mut all = self.before;
        all.add(&self.now);
        all
    }
}

impl Topic {
    /// In which form this value is written. If that is JSON, `text` has it then. `None` if the value is left out.
    pub(super) fn form(
        &self,
        encoding: Encoding,
        bytes: &[u8],
        text: &mut Vec<u8>,
    ) -> Option<Form> {
        // Pictures and the like would be many times as large.
        let is_slice = self.info.codec == CodecKind::Slices;
        if encoding == Encoding::Raw || (encoding == Encoding::Auto && is_slice) {
            return Some(Form::Bytes);
        }
        const BEGIN: &[u8] = b"{\"value\":";
        text.clear();
        text.extend(BEGIN);
        let is_object = match self.info.codec {
            CodecKind::Serde => write_json(bytes, text).ok(),
            _ => self.plain_json(bytes, text),
        };
        match is_object {
            Some(true) => {
                text.drain(..BEGIN.len());
                Some(Form::Json)
            }
            Some(false) => {
                text.push(b'}');
                Some(Form::JsonValue)
            }
            None if encoding == Encoding::Json && !self.is_readable() => None,
            // Exactly, in a form that fewer can read.
            None => Some(Form::Bytes),
        }
    }

    fn is_readable(&self) -> bool {
        self.info.codec == CodecKind::Serde || self.schema.is_some()
    }

    /// Appends plain data as JSON, and returns whether it is an object. `None` if its layout is not known, or if JSON read back
    /// would not give the very bytes: of a number that is not finite or a text, some bits may mean nothing.
    fn plain_json(&self, bytes: &[u8], text: &mut Vec<u8>) -> Option<bool> {
        let schema = self.schema.as_ref()?;
        let begin = text.len();
        let is_slice = self.info.codec == CodecKind::Slices;
        if is_slice {
            serde_json::to_writer(&mut *text, &schema.values(bytes).ok()?).ok()?;
        } else {
            serde_json::to_writer(&mut *text, &schema.value(bytes).ok()?).ok()?;
        }
        let json = text.get(begin..)?;
        let mut json_reader = serde_json::Deserializer::from_slice(json);
        let back = if is_slice {
            schema.write_values(&mut json_reader)
        } else {
            schema.write(&mut json_reader)
        };
        let is_same = back.is_ok_and(|back| back == bytes);
        is_same.then(|| json.first() == Some(&b'{'))
    }

    pub(super) fn json_schema(&self, form: Form, first: &[u8]) -> Option<String> {
        if !matches!(form, Form::Json | Form::JsonValue) {
            return None;
        }
        let first = serde_json::from_slice(first).ok()?;
        let description = match (&self.info.codec, &self.info.schema) {
            (CodecKind::Serde, _) => "inferred from the first value".to_owned(),
            (_, Some(schema)) => format!("of plain data: {schema}"),
            (_, None) => format!("of plain data: {}", self.info.type_name),
        };
        let schema = schema_of(&self.info.type_name, &description, &first);
        serde_json::to_string(&schema).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_json_is_left_out_only_if_that_was_said() {
        let unknown = TypeInfo::new("Odd", 1, CodecKind::Plain);
        let known = TypeInfo::new("[f64; 2]", 1, CodecKind::Plain);
        let slices = TypeInfo::new("[u8]", 1, CodecKind::Slices);
        let serde = TypeInfo::serde("T");
        let form = |info: &TypeInfo, encoding, bytes: &[u8]| {
            let topic = Topic::new("t", info);
            let mut text = Vec::new();
            let form = topic.form(encoding, bytes, &mut text);
            (form, String::from_utf8(text).unwrap())
        };
        let zero = [0; 16];
        assert_eq!(form(&unknown, Encoding::Auto, &zero).0, Some(Form::Bytes));
        assert_eq!(form(&unknown, Encoding::Json, &zero).0, None);
        let (json, text) = form(&known, Encoding::Auto, &zero);
        assert_eq!(
            (json, text.as_str()),
            (Some(Form::JsonValue), r#"{"value":[0.0,0.0]}"#)
        );
        let nan = [f64::NAN.to_le_bytes(), f64::NEG_INFINITY.to_le_bytes()].concat();
        let (json, text) = form(&known, Encoding::Json, &nan);
        assert_eq!(
            (json, text.as_str()),
            (Some(Form::JsonValue), r#"{"value":["NaN","-Infinity"]}"#)
        );
        // Another NaN than the one that the text is read as.
        let odd = [0xff; 16];
        assert_eq!(form(&known, Encoding::Json, &odd).0, Some(Form::Bytes));
        let named =
            TypeInfo::new("Pose", 1, CodecKind::Plain).with_schema("flags: [u8; 2], t: text[4]");
        let (json, text) = form(&named, Encoding::Auto, b"\x01\x02hi\0\0");
        assert_eq!(
            (json, text.as_str()),
            (Some(Form::Json), r#"{"flags":[1,2],"t":"hi"}"#)
        );
        assert_eq!(
            form(&named, Encoding::Auto, b"\x01\x02h\0i\0").0,
            Some(Form::Bytes)
        );
        assert_eq!(form(&slices, Encoding::Auto, &[1, 2]).0, Some(Form::Bytes));
        let (json, text) = form(&slices, Encoding::Json, &[1, 2]);
        assert_eq!(
            (json, text.as_str()),
            (Some(Form::JsonValue), r#"{"value":[1,2]}"#)
        );
        let (json, text) = form(&serde, Encoding::Auto, &[0x81, 0xa1, b'a', 1]);
        assert_eq!((json, text.as_str()), (Some(Form::Json), r#"{"a":1}"#));
        let raw = form(&serde, Encoding::Raw, &[0x81, 0xa1, b'a', 1]);
        assert_eq!(raw.0, Some(Form::Bytes));
    }
}
