//! What happens to topics, as a topic.

use crate::id::SubscriptionId;
use crate::topic::Topic;
use serde::{Deserialize, Serialize};

/// What happens to the topics of this process, and at their subscriptions. Events never hold anybody back: subscribe
/// with a policy that drops, or lose none with room for all. What happens to a subscription to events itself, and while
/// an event is published, is no event.
///
/// It is published only while it is subscribed to through the node's `events`.
pub const EVENTS: Topic<Event> = Topic::new("mproc/events");

/// Something that happened to a topic: who publishes and subscribes has changed, or a subscription is in trouble.
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
    /// The queue of a subscription has reached its high mark; see
    /// [`water_marks`](crate::SubscriptionOptions::water_marks).
    QueueHigh {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
        /// How many samples were queued then.
        queued: u64,
    },
    /// The queue of a subscription that was high is down at its low mark.
    QueueLow {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
        /// How many samples were queued then.
        queued: u64,
    },
    /// A subscription has lost samples: its policy dropped them, or they could not be decoded. What one process
    /// published and another dropped is told in both: by the publisher's when it happens, by the subscriber's when it
    /// finds the gap. Refused samples ([`WhenFull::Fail`](mproc_runtime::WhenFull::Fail)) are told to who publishes,
    /// and are no event.
    Dropped {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
        /// How many, since the event before.
        count: u64,
    },
    /// A subscription hands nothing out any more: it was paused, or its callback was taken out.
    Paused {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
    },
    /// A subscription that was paused goes on.
    Resumed {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
    },
    /// What handles the samples of a subscription panicked. Its processor's `on_panic` says what comes of that. Panics
    /// over other messages are told by watches and supervisors.
    HandlerPanicked {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
        /// The processor's name.
        processor: String,
    },
    /// A sample is held for longer than [`lease_warning`](crate::SubscriptionOptions::lease_warning) allows. Told once
    /// for all that were received at one time.
    LeaseHeld {
        /// Of this topic, or the pattern.
        topic: String,
        /// By whose receiver.
        subscription: SubscriptionId,
        /// For how long by now.
        held_ns: u64,
    },
    /// Nothing came to a subscription for as long as [`silence`](crate::SubscriptionOptions::silence) says. Told once
    /// for each silence.
    Silent {
        /// Of this topic, or the pattern.
        topic: String,
        /// Which one.
        subscription: SubscriptionId,
        /// For how long by now.
        silent_ns: u64,
    },
    /// A server of a service can be called, here or in another process.
    ServerMatched {
        /// Of this service.
        service: String,
        /// How many there are now.
        servers: usize,
    },
    /// A server is gone.
    ServerUnmatched {
        /// Of this service.
        service: String,
        /// How many there are now.
        servers: usize,
    },
}

impl Event {
    /// The topic that it is about; for events about servers, the service.
    pub fn topic(&self) -> &str {
        match self {
            Self::SubscriberMatched { topic, .. }
            | Self::SubscriberUnmatched { topic, .. }
            | Self::PublisherMatched { topic, .. }
            | Self::PublisherUnmatched { topic, .. }
            | Self::QueueHigh { topic, .. }
            | Self::QueueLow { topic, .. }
            | Self::Dropped { topic, .. }
            | Self::Paused { topic, .. }
            | Self::Resumed { topic, .. }
            | Self::HandlerPanicked { topic, .. }
            | Self::LeaseHeld { topic, .. }
            | Self::Silent { topic, .. } => topic,
            Self::ServerMatched { service, .. } | Self::ServerUnmatched { service, .. } => service,
        }
    }

    pub(crate) fn is_about(&self, name: &str) -> bool {
        let is_service = matches!(
            self,
            Self::ServerMatched { .. } | Self::ServerUnmatched { .. }
        );
        !is_service && self.topic() == name
    }
}
