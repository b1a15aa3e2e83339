//! Recordings: MCAP files, as `record` writes them and `play` and `info` read them.
//!
//! | file | idea |
//! |---|---|
//! | `channel.rs` | what a channel says of its topic and type, and in which form values stand in it |
//! | `json.rs` | MessagePack as JSON text, exactly or not at all |
//! | `json_schema.rs` | the JSON schema of a value |
//! | `parts.rs` | the parts of a sample as one message |
//! | `times.rs` | from the steady clock to the time of day |
//! | `file.rs` | one file that is being written |
//! | `topic.rs` | one topic that is recorded: its type, its counts, the form of its values |
//! | `recording.rs` | all that is recorded: topics, channels, and when one file follows another |
//! | `scan.rs` | what a file holds, also one that was not closed in order, or is damaged |
//! | `ordered.rs` | the messages of several files in the order of time |
//! | `summary.rs` | what `mproc info FILE` prints |
//! | `pace.rs` | when which message is due |
//! | `outlets.rs` | who publishes the messages of which channel |
//! | `keys.rs` | keys that are pressed while it plays |
//! | `parse.rs` | sizes, times and names in arguments |
//!
//! # How a recording is laid out
//!
//! Each publisher of a topic has a channel, so that sequence numbers mean something; its metadata has all that is needed to
//! publish on the topic again. `log_time` is when a sample was taken from the recorder's queue, `publish_time` when it was
//! published, both in nanoseconds since 1970. Values that people can read stand there as JSON, so that viewers show them; those
//! that JSON cannot hold exactly (bytes, keys that are no text, in MessagePack numbers that are not finite) stand as they travel
//! in a second channel of the same topic. A sample's parts stand before its value, in a channel `TOPIC#parts`. Whenever a file is
//! closed it gets a metadata record `mproc/recording` for the whole and one `mproc/topic` for each topic, with what was dropped.

pub(crate) mod channel;
pub(crate) mod file;
mod json;
mod json_schema;
pub(crate) mod keys;
pub(crate) mod ordered;
pub(crate) mod outlets;
pub(crate) mod pace;
pub(crate) mod parse;
mod parts;
#[expect(clippy::module_inception, reason = "it is what the folder is about")]
pub(crate) mod recording;
pub(crate) mod scan;
mod summary;
pub(crate) mod times;
pub(crate) mod topic;

pub(crate) use summary::{info, scan_shown};

/// Text from a file or a program, in which nothing can control the terminal.
pub(crate) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        // The directions of writing, too: they can make a line look like another.
        let is_hidden = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if is_hidden {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `1 message`, `2 messages`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

/// What an error of the file format means, with its cause.
pub(crate) fn reason(error: &mcap::McapError) -> String {
    match error {
        mcap::McapError::Io(error) => error.to_string(),
        mcap::McapError::Parse(_) => "a record cannot be read".to_owned(),
        other => {
            let text = other.to_string();
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                // Their sentences begin with a capital letter.
                (Some(first), Some(second)) if second.is_lowercase() => {
                    first.to_lowercase().chain(text.chars().skip(1)).collect()
                }
                _ => text,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_control_the_terminal() {
        assert_eq!(shown("a/b é 日本"), "a/b é 日本");
        assert_eq!(shown("a\x1b[2Jb\n\u{202e}c"), "a\\u{1b}[2Jb\\n\\u{202e}c");
    }
}
