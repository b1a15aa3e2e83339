//! What happens to topics, as a topic.

use crate::topic::Topic;
use serde::{Deserialize, Serialize};

/// Every change of who publishes and who subscribes, in this process. Events never hold anybody back: subscribe with a
/// policy that drops, or lose none with room for all.
///
/// It is published only while it is subscribed to through the node's `events`.
pub const EVENTS: Topic<Event> = Topic::new("mproc/events");

/// A change of who publishes and who subscribes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Event {
    /// A subscription has joined.
    SubscriberMatched {
        /// Of this topic.
        topic: String,
        /// How many there are now.
        subscribers: usize,
    },
    /// A subscription has left.
    SubscriberUnmatched {
        /// Of this topic.
        topic: String,
        /// How many there are now.
        subscribers: usize,
    },
    /// A publisher has joined.
    PublisherMatched {
        /// Of this topic.
        topic: String,
        /// How many there are now.
        publishers: usize,
    },
    /// A publisher has left.
    PublisherUnmatched {
        /// Of this topic.
        topic: String,
        /// How many there are now.
        publishers: usize,
    },
}

impl Event {
    /// The topic that it is about.
    pub fn topic(&self) -> &str {
        match self {
            Self::SubscriberMatched { topic, .. }
            | Self::SubscriberUnmatched { topic, .. }
            | Self::PublisherMatched { topic, .. }
            | Self::PublisherUnmatched { topic, .. } => topic,
        }
    }

    pub(crate) fn is_about(&self, name: &str) -> bool {
        self.topic() == name
    }
}
