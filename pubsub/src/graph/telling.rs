//! What the graph tells: events and snapshots.

use super::Graph;
use crate::events::{EVENTS, Event};
use crate::inspect::{ConnectionSnapshot, PatternSnapshot};
use crate::monitor::Telling;
use crate::snapshot::TopicSnapshot;
use crate::topic_core::AnyTopic;
use mproc_runtime::{Error, Runtime, WaitSnapshot};
use std::sync::Arc;

impl Graph {
    /// True if events are published.
    pub(crate) fn has_events(&self) -> bool {
        // A child that was forked tells nothing, and asks for no lock.
        self.origin.is_here()
            && self
                .events
                .get()
                .is_some_and(|publisher| publisher.subscriber_count() > 0)
    }

    /// Publishes an event, if anybody listens.
    pub(crate) fn tell(&self, event: Event) {
        if let Some(publisher) = self.events.get()
            && !event.is_about(EVENTS.name())
        {
            let _telling = Telling::begin();
            // Events never hold anybody back.
            let _nobody_waits = publisher.try_publish(event);
        }
    }

    /// So many subscriptions have joined a topic.
    pub(super) fn tell_joined(&self, topic: &dyn AnyTopic, joined: usize) {
        let subscribers = topic.subscriber_count();
        for later in (0..joined).rev() {
            self.tell(Event::SubscriberMatched {
                topic: topic.label(),
                subscribers: subscribers.saturating_sub(later),
            });
        }
    }

    pub(crate) fn publisher_gone(&self, topic: &dyn AnyTopic) {
        if topic.own_publisher_count() == 0
            && let Some(transport) = self.made_transport()
        {
            transport.withdraw(topic.id());
        }
        self.tell(Event::PublisherUnmatched {
            topic: topic.label(),
            publishers: topic.publisher_count(),
        });
    }

    /// From now on [`EVENTS`] are published.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher).
    pub fn publish_events(self: &Arc<Self>, runtime: &Runtime) -> Result<(), Error> {
        if self.events.get().is_none() {
            let publisher = self.publisher(runtime, &EVENTS)?;
            let _other_was_first = self.events.set(publisher);
        }
        Ok(())
    }

    /// Subscriptions to whatever matches, in the order in which they were made.
    pub(crate) fn pattern_snapshots(&self) -> Vec<PatternSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let wiring = self.wiring.lock();
        let patterns = wiring.patterns.iter().map(|of| PatternSnapshot {
            pattern: of.matches.to_string(),
            info: of.info.clone(),
            subscription: (of.snapshot)(),
        });
        patterns.collect()
    }

    /// Which topics are connected, by name.
    pub(crate) fn connection_snapshots(&self) -> Vec<ConnectionSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let wiring = self.wiring.lock();
        let name = |id| wiring.names.get(id).cloned();
        let connections = wiring.connections.iter().filter_map(|(from, to)| {
            let (from, to) = (name(from)?, name(to)?);
            Some(ConnectionSnapshot { from, to })
        });
        let mut connections: Vec<_> = connections.collect();
        connections.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        connections
    }

    pub(crate) fn publishes_that_wait(&self) -> Vec<WaitSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let topics: Vec<_> = self.wiring.lock().topics.values().cloned().collect();
        topics.iter().flat_map(|topic| topic.waits()).collect()
    }

    /// Every topic, by name.
    pub fn snapshot(&self) -> Vec<TopicSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let (topics, connections, names) = {
            let wiring = self.wiring.lock();
            (
                wiring.topics.values().cloned().collect::<Vec<_>>(),
                wiring.connections.clone(),
                wiring.names.clone(),
            )
        };
        let mut snapshots: Vec<_> = topics
            .iter()
            .map(|topic| {
                let mut snapshot = topic.snapshot();
                snapshot.connected_to = connections
                    .iter()
                    .filter(|(from, _)| *from == topic.id())
                    .filter_map(|(_, to)| names.get(to).cloned())
                    .collect();
                snapshot
            })
            .collect();
        snapshots.sort_by(|a, b| a.name.cmp(&b.name));
        snapshots
    }
}
