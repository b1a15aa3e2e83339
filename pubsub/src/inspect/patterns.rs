//! Subscriptions that belong to no topic, and connections: what else of a node samples of a topic can come to.

use crate::codec::CodecKind;
use crate::graph::Matches;
use crate::id::TopicId;
use crate::pattern::Pattern;
use crate::raw::{TypeInfo, id_of};
use crate::snapshot::SubscriptionSnapshot;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A subscription to whatever topics match, now and later: to a pattern, to dynamic messages, or a [tap](crate::Graph::tap).
///
/// With each topic that its own node has declared it is listed among that topic's subscriptions, too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PatternSnapshot {
    /// What it hears: a pattern (`robot/**`), a name, an id as text (`7:1`), or all ids of a message id (`7:*`).
    pub pattern: String,
    /// The type that a topic must have; `None` if any will do, as for taps and dynamic messages. Of
    /// [`CodecKind::Local`] for a subscription that hears its own process only.
    #[serde(default)]
    pub info: Option<TypeInfo>,
    /// Its queue and its counts, over all topics. [`tap`](SubscriptionSnapshot::tap) says whether it is a tap.
    pub subscription: SubscriptionSnapshot,
}

impl PatternSnapshot {
    /// True if it hears a topic of another node with this name, or id as text, whose values are of this type.
    ///
    /// # Examples
    ///
    /// ```
    /// use mproc_pubsub::{Graph, SubscriptionOptions, TypeInfo};
    /// use mproc_runtime::Runtime;
    ///
    /// let node = Runtime::simulated(1);
    /// let graph = Graph::of(&node);
    /// let _tap = graph.tap(&node, "robot/**", SubscriptionOptions::new().capacity(8))?;
    ///
    /// let patterns = graph.node_snapshot(&node).patterns;
    /// assert_eq!((patterns[0].pattern.as_str(), patterns[0].subscription.capacity), ("robot/**", 8));
    /// assert!(patterns[0].wants("robot/pose", &TypeInfo::serde("Pose")));
    /// assert!(!patterns[0].wants("camera", &TypeInfo::serde("Pose")));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn wants(&self, topic: &str, info: &TypeInfo) -> bool {
        let fits = |wanted: &TypeInfo| {
            wanted.codec == info.codec
                && wanted.codec != CodecKind::Local
                && wanted.type_hash == info.type_hash
        };
        self.info.as_ref().is_none_or(fits) && is_meant(&self.pattern, topic)
    }
}

/// True if a text that [`Matches`] has written means this topic. Any text may come.
fn is_meant(pattern: &str, topic: &str) -> bool {
    if pattern == topic || pattern == TopicId::from_name(topic).to_string() {
        return true;
    }
    if let Some(mid) = pattern.strip_suffix(":*")
        && let Ok(mid) = mid.parse()
    {
        return id_of(topic).is_some_and(|id| Matches::Mid(mid).matches("", id));
    }
    // A name has no `*`, and was compared above.
    let pattern = Some(pattern).filter(|pattern| pattern.contains('*'));
    let is_name = id_of(topic).is_none();
    let pattern = pattern.and_then(|pattern| Pattern::new(pattern).ok());
    let matches = |pattern| Matches::Names(pattern).matches(topic, TopicId::from_name(topic));
    is_name && pattern.is_some_and(matches)
}

impl fmt::Display for Matches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Names(pattern) => write!(f, "{pattern}"),
            Self::Id(id) => write!(f, "{id}"),
            Self::Mid(mid) => write!(f, "{mid}:*"),
            Self::Label(label) => f.write_str(label),
        }
    }
}

/// Samples of one topic arrive at subscribers of another ([`Graph::connect`](crate::Graph::connect)). Neither need be declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ConnectionSnapshot {
    /// Where samples are published.
    pub from: String,
    /// Whose subscribers get them, too.
    pub to: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_of_a_match_means_the_same_topics() {
        let ids = |text: &str| id_of(text).unwrap_or(TopicId::from_name(text));
        let all = [
            Matches::Names(Pattern::new("robot/*").unwrap()),
            Matches::Names(Pattern::new("**").unwrap()),
            Matches::Names(Pattern::new("mproc/**").unwrap()),
            Matches::Id(TopicId::new(7, 1)),
            Matches::Id(TopicId::from_name("robot/pose")),
            Matches::Mid(7),
            Matches::Label("robot/pose".to_owned()),
            Matches::Label("7:1".to_owned()),
        ];
        let topics = [
            "robot/pose",
            "robot",
            "mproc/clock",
            "7:1",
            "7:2",
            "8:1",
            "*",
        ];
        for matches in all {
            for topic in topics {
                let id = ids(topic);
                let name = if id.is_named() { topic } else { "" };
                let wanted = matches.matches(name, id);
                assert_eq!(
                    is_meant(&matches.to_string(), topic),
                    wanted,
                    "{matches} {topic}"
                );
            }
        }
    }

    #[test]
    fn any_text_of_a_pattern_is_read() {
        for text in ["", "*x", "a//b", ":*", "99999999999:*", "**/**", "\u{1b}*"] {
            let _any_answer = is_meant(text, "robot/pose");
        }
        assert!(!is_meant("*x", "x"));
    }
}
