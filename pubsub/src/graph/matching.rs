//! What a subscription to several topics matches.

use crate::id::TopicId;
use crate::pattern::Pattern;
use crate::topic;

/// The first segment of the names of the library's own topics: patterns match these only if they begin with it.
const INTERNAL: &str = "mproc";

pub(crate) fn is_internal(topic: &str) -> bool {
    topic
        .split_once('/')
        .is_some_and(|(first, _)| first == INTERNAL)
}

/// What a subscription to several topics matches.
pub(crate) enum Matches {
    Names(Pattern),
    Id(TopicId),
    Mid(u32),
    /// One topic, by what people call it: its name, or its id as text.
    Label(String),
}

impl Matches {
    pub(crate) fn matches(&self, name: &str, id: TopicId) -> bool {
        match self {
            Self::Names(pattern) => {
                !name.is_empty()
                    && (pattern.names(INTERNAL) || !is_internal(name))
                    && pattern.matches(name)
            }
            Self::Id(wanted) => id == *wanted,
            Self::Label(label) => topic::label(name, id) == *label,
            Self::Mid(mid) => !id.is_named() && id.mid() == *mid,
        }
    }
}
