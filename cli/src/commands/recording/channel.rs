//! What a channel says of its topic and type, and in which form values stand in it.

use mproc::{CodecKind, TypeInfo};
use std::collections::BTreeMap;

/// Which layout of recordings this is. A reader that knows another one leaves the channels alone.
const VERSION: &str = "1";

/// How a message of a channel holds what was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Form {
    /// The value as a JSON object.
    Json,
    /// The value as JSON that is no object, in `{"value": ..}`: viewers want objects.
    JsonValue,
    /// The value in the bytes in which it travels.
    Bytes,
    /// The parts of the value that follows; see `parts.rs`.
    Parts,
}

impl Form {
    fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::JsonValue => "json_value",
            Self::Bytes => "bytes",
            Self::Parts => "parts",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        let all = [Self::Json, Self::JsonValue, Self::Bytes, Self::Parts];
        all.into_iter().find(|form| form.name() == name)
    }
}

/// All that a channel of ours says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChannelType {
    /// The topic's name, or its id as text.
    pub(crate) topic: String,
    pub(crate) info: TypeInfo,
    pub(crate) form: Form,
    /// Which publisher of the topic, counted from 1 in one recording.
    pub(crate) publisher: u32,
}

pub(crate) fn codec_name(codec: CodecKind) -> &'static str {
    match codec {
        CodecKind::Serde => "serde",
        CodecKind::Plain => "plain",
        CodecKind::Slices => "slices",
        _ => "local",
    }
}

fn codec_from_name(name: &str) -> Option<CodecKind> {
    let all = [CodecKind::Serde, CodecKind::Plain, CodecKind::Slices];
    all.into_iter().find(|codec| codec_name(*codec) == name)
}

impl ChannelType {
    /// The name of the channel.
    pub(crate) fn name(&self) -> String {
        match self.form {
            Form::Parts => format!("{}#parts", self.topic),
            _ => self.topic.clone(),
        }
    }

    /// The encoding of its messages, by the names that the format's registry has.
    pub(crate) fn encoding(&self) -> &'static str {
        match (self.form, self.info.codec) {
            (Form::Json | Form::JsonValue, _) => "json",
            (Form::Bytes, CodecKind::Serde) => "msgpack",
            _ => "application/octet-stream",
        }
    }

    pub(crate) fn to_metadata(&self) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        let mut put = |key: &str, text: String| all.insert(key.to_owned(), text);
        put("mproc_recording", VERSION.to_owned());
        put("topic", self.topic.clone());
        put("type_name", self.info.type_name.clone());
        put("type_hash", format!("{:016x}", self.info.type_hash));
        put("codec", codec_name(self.info.codec).to_owned());
        put("form", self.form.name().to_owned());
        put("publisher", self.publisher.to_string());
        if let Some(schema) = &self.info.schema {
            put("schema", schema.clone());
        }
        all
    }

    /// What a channel's metadata says: nothing if another program than this has written it.
    ///
    /// The error says what cannot be understood.
    pub(crate) fn from_metadata(all: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let Some(version) = all.get("mproc_recording") else {
            return Ok(None);
        };
        if version != VERSION {
            return Err(format!(
                "it has version {version} of recordings, and this program knows version {VERSION}"
            ));
        }
        let get = |key: &str| all.get(key).ok_or_else(|| format!("it has no {key:?}"));
        let wrong = |key: &str| format!("its {key:?} makes no sense");
        let codec = codec_from_name(get("codec")?).ok_or_else(|| wrong("codec"))?;
        let hash = get("type_hash")?;
        let hash = u64::from_str_radix(hash, 16).map_err(|_| wrong("type_hash"))?;
        let mut info = TypeInfo::new(get("type_name")?, hash, codec);
        if let Some(schema) = all.get("schema") {
            info = info.with_schema(schema);
        }
        Ok(Some(Self {
            topic: get("topic")?.clone(),
            info,
            form: Form::from_name(get("form")?).ok_or_else(|| wrong("form"))?,
            publisher: get("publisher")?.parse().map_err(|_| wrong("publisher"))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel() -> ChannelType {
        ChannelType {
            topic: "robot/pose".to_owned(),
            info: TypeInfo::new("Pose", u64::MAX - 5, CodecKind::Plain).with_schema("x: f64"),
            form: Form::Parts,
            publisher: 3,
        }
    }

    #[test]
    fn metadata_says_all_of_the_type() {
        let channel = channel();
        assert_eq!(channel.name(), "robot/pose#parts");
        let read = ChannelType::from_metadata(&channel.to_metadata());
        assert_eq!(read, Ok(Some(channel)));
    }

    #[test]
    fn what_others_write_is_not_taken_for_ours() {
        assert_eq!(ChannelType::from_metadata(&BTreeMap::new()), Ok(None));
        for key in [
            "topic",
            "type_name",
            "type_hash",
            "codec",
            "form",
            "publisher",
        ] {
            let mut all = channel().to_metadata();
            all.remove(key);
            assert!(ChannelType::from_metadata(&all).is_err(), "{key}");
        }
        for key in ["type_hash", "codec", "form", "publisher", "mproc_recording"] {
            let mut all = channel().to_metadata();
            all.insert(key.to_owned(), "?".to_owned());
            assert!(ChannelType::from_metadata(&all).is_err(), "{key}");
        }
    }
}
