//! How other nodes learn the schema of a topic: with the name of its type, as Rust writes both.
//!
//! ```text
//! robot::Pose { x: f64, y: f64 }
//! ```
//!
//! Nodes compare types by hash and codec only. The name is for people, who like to see the fields too, and for taps.

use super::TypeInfo;
use crate::codec::CodecKind;
use crate::schema::Schema;

/// The longest name of a type that is told to other nodes, in bytes.
pub(super) const TYPE_NAME_BYTES_MAX: usize = 1024;

/// What other nodes are told of a type, for people and for taps. Without the schema if there is no room for it.
pub(crate) fn told(info: &TypeInfo) -> String {
    let name = &info.type_name;
    match &info.schema {
        Some(schema) => Some(format!("{name} {{ {schema} }}"))
            .filter(|told| told.len() <= TYPE_NAME_BYTES_MAX)
            .unwrap_or_else(|| name.clone()),
        None => name.clone(),
    }
}

/// What is known of a type of which another node has told this. Any text may come: what ends in no schema is a name.
pub(super) fn heard(told: &str, type_hash: u64, codec: CodecKind) -> TypeInfo {
    if matches!(codec, CodecKind::Plain | CodecKind::Slices)
        && let Some((name, rest)) = told.split_once(" { ")
        && let Some(schema) = rest.strip_suffix(" }")
        && Schema::parse(schema).is_ok()
    {
        return TypeInfo::new(name, type_hash, codec).with_schema(schema);
    }
    TypeInfo::new(told, type_hash, codec)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pose(schema: &str) -> TypeInfo {
        TypeInfo::new("robot::Pose", 7, CodecKind::Plain).with_schema(schema)
    }

    #[test]
    fn what_is_told_is_heard() {
        for info in [
            TypeInfo::new("[f64; 3]", 7, CodecKind::Plain),
            TypeInfo::serde("Vec<String>"),
            pose("x: f64, inner: { a: u8 }"),
            pose("[u8; 3]"),
        ] {
            assert_eq!(heard(&told(&info), info.type_hash, info.codec), info);
        }
        assert_eq!(told(&pose("x: f64")), "robot::Pose { x: f64 }");
    }

    #[test]
    fn a_schema_for_which_there_is_no_room_is_not_told() {
        let fits = format!("x{}: u8", "y".repeat(1024 - "robot::Pose { x: u8 }".len()));
        assert_eq!(told(&pose(&fits)).len(), 1024);
        assert_eq!(told(&pose(&format!("y{fits}"))), "robot::Pose");
    }

    #[test]
    fn what_ends_in_no_schema_is_a_name() {
        for name in ["a { b }", "a { x: u8", "a { } b }", "{ x: u8 }"] {
            let info = heard(name, 7, CodecKind::Plain);
            assert_eq!((info.type_name.as_str(), info.schema), (name, None));
        }
        let map = heard("Map { x: u8 }", 7, CodecKind::Serde);
        assert_eq!(map.schema, None);
    }

    proptest! {
        #[test]
        fn any_text_is_heard(text: String) {
            let info = heard(&text, 7, CodecKind::Slices);
            prop_assert!(info.schema.is_some() || info.type_name == text);
        }
    }
}
