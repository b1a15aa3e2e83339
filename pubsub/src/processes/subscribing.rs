//! The control's part for what this node subscribes: links are asked for, opened, and end.

use super::bells::Home;
use super::control::{Control, Nonsense, Seeker};
use super::core::is_shortage;
use super::inlet::{InletInShm, Told};
use super::line::Descriptor;
use super::peer::{Incoming, Request};
use super::wire;
use crate::id::SubscriptionId;
use crate::transport::{Sought, TopicKey};
use mproc_shm::{
    Accept, Announce, Attach, DataGeometry, DetachReason, Frame, LinkGeometry, Refuse,
    RefuseReason, Retire, Segment, SegmentError, SubscriberLink, Withdraw,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// How many topics one peer may publish.
const TOPICS_MAX: usize = 1 << 16;

impl Control {
    /// A peer publishes a topic.
    pub(super) fn announced(
        &mut self,
        connection: u64,
        announce: &Announce<'_>,
    ) -> Result<(), Nonsense> {
        if announce.roles & Announce::PUBLISHES == 0 {
            return Ok(());
        }
        let topic = announce.topic.id;
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Ok(());
        };
        let Some(key) = wire::key(&announce.topic) else {
            let text = format!(
                "{} publishes topic {:?} with codec {}, which this build does not know",
                peer.label(),
                announce.topic.name,
                announce.topic.codec
            );
            self.core.reports.tell_once(text);
            return Ok(());
        };
        if peer.topics.len() >= TOPICS_MAX && !peer.topics.contains_key(&topic) {
            return Err(format!("it publishes more than {TOPICS_MAX} topics"));
        }
        peer.topics.insert(topic, key);
        self.recount([topic]);
        let seekers: Vec<_> = self.seekers.keys().copied().collect();
        for subscription in seekers {
            self.consider(connection, topic, subscription);
        }
        Ok(())
    }

    /// A peer publishes a topic no more. Its links stay, because it may begin again.
    pub(super) fn withdrawn(
        &mut self,
        connection: u64,
        withdraw: Withdraw,
    ) -> Result<(), Nonsense> {
        if withdraw.roles & Announce::PUBLISHES != 0
            && let Some(peer) = self.peers.get_mut(&connection)
        {
            peer.topics.remove(&withdraw.topic);
            self.recount([withdraw.topic]);
        }
        Ok(())
    }

    pub(super) fn seek(&mut self, sought: Arc<dyn Sought>, home: Arc<Home>) {
        let subscription = sought.id();
        self.seekers.insert(subscription, Seeker { sought, home });
        self.consider_all([subscription]);
    }

    pub(super) fn reconsider(&mut self) {
        let seekers: Vec<_> = self.seekers.keys().copied().collect();
        self.consider_all(seekers);
    }

    fn consider_all(&mut self, subscriptions: impl IntoIterator<Item = SubscriptionId>) {
        let topics: Vec<_> = self
            .peers
            .iter()
            .flat_map(|(connection, peer)| peer.topics.keys().map(|topic| (*connection, *topic)))
            .collect();
        for subscription in subscriptions {
            for &(connection, topic) in &topics {
                self.consider(connection, topic, subscription);
            }
        }
    }

    /// Asks a subscription whether it wants a topic of a peer, and makes or ends the link accordingly.
    fn consider(&mut self, connection: u64, topic: u64, subscription: SubscriptionId) {
        let Some(peer) = self.peers.get(&connection).filter(|peer| peer.is_open) else {
            return;
        };
        let Some(key) = peer.topics.get(&topic).cloned() else {
            return;
        };
        let Some(seeker) = self.seekers.get(&subscription) else {
            return;
        };
        let existing = peer.incoming_of(topic, subscription);
        let has_asked = peer.has_asked(topic, subscription);
        let sought = Arc::clone(&seeker.sought);
        let bell = seeker.home.index();
        match sought.wants(&key) {
            Ok(true) if existing.is_none() && !has_asked => {
                let terms = sought.terms();
                self.ask(connection, subscription, key, &terms, bell);
            }
            Ok(true) => {}
            Ok(false) => {
                if let Some(number) = existing {
                    self.end_incoming(connection, number, "the subscription does not want it now");
                }
            }
            Err(error) => self.does_not_fit(connection, topic, &error.to_string()),
        }
    }

    fn ask(
        &mut self,
        connection: u64,
        subscription: SubscriptionId,
        key: crate::transport::TopicKey,
        terms: &crate::transport::Terms,
        bell: u32,
    ) {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return;
        };
        let Some(topic) = wire::topic(&key).filter(|_| peer.requests.len() < TOPICS_MAX) else {
            return;
        };
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let (when_full, policy, depth) = wire::policy(terms);
        let (depth, leases_max) = (number(depth), number(terms.max_leases));
        let tap = match terms.is_tap && peer.knows_taps {
            true => wire::TAP,
            false => 0,
        };
        let request = peer.next_request;
        peer.next_request = request.wrapping_add(1);
        let frame = Frame::Attach(Attach {
            request,
            depth,
            leases_max,
            // The topic has it, and queues as much as there is room for.
            history: depth,
            bell,
            when_full: policy | tap,
            topic,
        });
        let page: Descriptor = Arc::clone(self.core.bells.page()) as Descriptor;
        // Its names came in a frame, so they fit into one.
        if peer.line.send(&frame, &[page]).is_ok() {
            let asked = Request {
                subscription,
                key,
                depth,
                leases_max,
                when_full,
            };
            peer.requests.insert(request, asked);
        }
    }

    fn does_not_fit(&mut self, connection: u64, topic: u64, why: &str) {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return;
        };
        // A peer may go through topics without end.
        if peer.told.len() >= TOPICS_MAX || !peer.told.insert(topic) {
            return;
        }
        self.core.reports.refused.fetch_add(1, Relaxed);
        let name = peer
            .topics
            .get(&topic)
            .map_or_else(|| wire::topic_id(topic).to_string(), |key| key.label());
        let text = format!("topic {name:?} of {} is not received: {why}", peer.label());
        self.core.reports.tell(&text);
    }

    /// A peer has given a link.
    pub(super) fn accepted(
        &mut self,
        connection: u64,
        accept: Accept,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Nonsense> {
        let Ok([link_fd, bells_fd]) = <[OwnedFd; 2]>::try_from(descriptors) else {
            return Err("a link comes with two descriptors".into());
        };
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Ok(());
        };
        let number = accept.link;
        if peer.is_own(number) || peer.incoming.contains_key(&number) {
            return Err(format!("link {number} is another one already"));
        }
        let Some(request) = peer.requests.remove(&accept.request) else {
            return Err(format!("request {} was not made", accept.request));
        };
        if accept.depth != request.depth || accept.leases_max > request.leases_max {
            let text = "the link is not what was asked for";
            return Err(format!("request {}: {text}", accept.request));
        }
        // Its subscription may have ended since.
        let Some(seeker) = self.seekers.get(&request.subscription) else {
            peer.detach(number, DetachReason::SUBSCRIPTION_ENDED, "");
            return Ok(());
        };
        let (sought, home) = (Arc::clone(&seeker.sought), Arc::clone(&seeker.home));
        let geometry = LinkGeometry {
            depth: accept.depth,
            slots: accept.slots,
            leases_max: accept.leases_max,
            when_full: request.when_full,
        };
        let mut open = || -> Result<SubscriberLink, SegmentError> {
            let mut link = SubscriberLink::open(link_fd.as_fd(), geometry)?;
            link.ring_on_return(peer.bells(&bells_fd)?.ringer(accept.bell)?);
            let home = Arc::clone(&home);
            link.on_lease_return(Arc::new(move || home.ring()));
            Ok(link)
        };
        let link = match open() {
            Ok(link) => link,
            Err(error) => {
                let text = error.to_string();
                peer.detach(number, DetachReason::EVICTED, &text);
                if is_shortage(&error) {
                    self.core.ask_again();
                }
                let topic = request.key.id.get();
                self.does_not_fit(connection, topic, &text);
                return Ok(());
            }
        };
        self.core.has_enough();
        let told = Arc::<Told>::default();
        let key = request.key;
        let segments = link.segments();
        let names = [peer.label().to_owned(), key.label()];
        let inlet = InletInShm::new(&self.core, link, &told, (connection, number), names);
        let incoming = Incoming {
            topic: key.id.get(),
            subscription: request.subscription,
            segments,
            told,
            home: Arc::clone(&home),
        };
        peer.incoming.insert(number, incoming);
        let remote = peer.remote.clone();
        if sought.open(&remote, &key, Box::new(inlet)) {
            // What was queued before it was opened.
            home.ring();
        } else if let Some(peer) = self.peers.get_mut(&connection) {
            peer.incoming.remove(&number);
            peer.detach(number, DetachReason::SUBSCRIPTION_ENDED, "");
        }
        Ok(())
    }

    pub(super) fn refused(&mut self, connection: u64, refuse: &Refuse<'_>) -> Result<(), Nonsense> {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Ok(());
        };
        let Some(request) = peer.requests.remove(&refuse.request) else {
            return Err(format!("request {} was not made", refuse.request));
        };
        // It was withdrawn while the request was on its way.
        if matches!(
            refuse.reason,
            RefuseReason::MEMORY | RefuseReason::DESCRIPTORS
        ) {
            self.core.ask_again();
        }
        if refuse.reason != RefuseReason::NO_TOPIC {
            let topic = request.key.id.get();
            self.does_not_fit(connection, topic, &refuse.to_string());
        }
        Ok(())
    }

    pub(super) fn segment(
        &mut self,
        connection: u64,
        segment: Segment,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Nonsense> {
        let Ok([fd]) = <[OwnedFd; 1]>::try_from(descriptors) else {
            return Err("a segment comes with one descriptor".into());
        };
        let Some(peer) = self.peers.get(&connection) else {
            return Ok(());
        };
        if peer.is_own(segment.link) {
            return Err(format!("link {} is not its own", segment.link));
        }
        // Else the link has ended meanwhile.
        if let Some(link) = peer.incoming.get(&segment.link) {
            let geometry = DataGeometry {
                first_slot: segment.first_slot,
                slots: segment.slots,
                payload_bytes: segment.payload_bytes,
            };
            match link.segments.add(fd.as_fd(), geometry) {
                Ok(()) => link.home.ring(),
                // For want of memory here the publisher is not to blame: the link is given up, and asked for again.
                Err(error) if is_shortage(&error) => {
                    let topic = peer.topics.get(&link.topic).map(TopicKey::label);
                    let topic = topic.unwrap_or_default();
                    let label = peer.label();
                    let why =
                        format!("topic {topic:?} of {label} is not received for a while: {error}");
                    self.core.reports.tell_once(why.clone());
                    self.core.ask_again();
                    self.end_incoming(connection, segment.link, &why);
                }
                Err(error) => {
                    let why = error.to_string();
                    let label = peer.label();
                    link.end(
                        format!("{label} does not keep to the protocol: {why}"),
                        false,
                    );
                    self.violated(connection, segment.link, &why);
                }
            }
        }
        Ok(())
    }

    /// A peer wants a segment back in which a link has nothing.
    pub(super) fn retire(&mut self, connection: u64, retire: Retire) -> Result<(), Nonsense> {
        let Some(peer) = self.peers.get(&connection) else {
            return Ok(());
        };
        let Retire { link, first_slot } = retire;
        if peer.is_own(link) {
            return Err(format!("link {link} is not its own"));
        }
        // A link that has ended meanwhile need not answer: the peer hears of its end.
        if let Some(incoming) = peer.incoming.get(&link) {
            if !incoming.segments.remove(first_slot) {
                return Err(format!(
                    "link {link} has no segment that begins with slot {first_slot}"
                ));
            }
            let sent = peer.line.send(&Frame::Retired(retire), &[]);
            debug_assert!(sent.is_ok(), "a frame without names can be encoded");
        }
        Ok(())
    }

    /// A subscription has ended, and its inlets with it.
    pub(super) fn forget(&mut self, subscription: SubscriptionId) {
        let seeker = self.seekers.remove(&subscription);
        for peer in self.peers.values_mut() {
            let links = peer.incoming.iter();
            let its = links.filter(|(_, link)| link.subscription == subscription);
            let numbers: Vec<_> = its.map(|(number, _)| *number).collect();
            for number in numbers {
                peer.incoming.remove(&number);
                if peer.is_open {
                    peer.detach(number, DetachReason::SUBSCRIPTION_ENDED, "");
                }
            }
        }
        drop(seeker);
    }

    /// This node wants no more of a link.
    fn end_incoming(&mut self, connection: u64, number: u32, why: &str) {
        if let Some(peer) = self.peers.get_mut(&connection)
            && let Some(link) = peer.incoming.remove(&number)
        {
            link.end(why.to_owned(), false);
            peer.detach(number, DetachReason::SUBSCRIPTION_ENDED, "");
        }
    }

    /// An inlet has said its last.
    pub(super) fn drained(&mut self, connection: u64, number: u32) {
        if let Some(peer) = self.peers.get_mut(&connection)
            && peer.incoming.remove(&number).is_some()
            && peer.is_open
        {
            peer.detach(number, DetachReason::SUBSCRIPTION_ENDED, "");
        }
    }
}
