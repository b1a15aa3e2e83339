//! What the control knows of one connection.

use super::bells::Home;
use super::inlet::Told;
use super::line::Line;
use super::outlet::Outlet;
use super::surveying::{FEATURE_REPORTS, FEATURE_SENDS};
use super::wire::FEATURE_TAPS;
use crate::id::SubscriptionId;
use crate::transport::{Offered, Remote, TopicKey};
use mproc_shm::{
    Detach, DetachReason, Frame, Identity, LinkId, PeerBells, SegmentError, SegmentsHandle,
    WhenFull,
};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

pub(super) struct PeerState {
    pub(super) line: Arc<Line>,
    pub(super) identity: Identity,
    pub(super) remote: Remote,
    /// The last bit of the numbers that this node gives to links of the connection.
    pub(super) own_parity: u32,
    /// False once the connection is over; then only the end of the process is waited for.
    pub(super) is_open: bool,
    /// It has said that it leaves.
    pub(super) is_leaving: bool,
    /// It answers questions for a report.
    pub(super) gives_reports: bool,
    /// It says with them, if it is asked to, who sends to whom.
    pub(super) watches_sends: bool,
    /// How many of these it has not answered.
    pub(super) unanswered: usize,
    /// It understands that a subscription is a tap.
    pub(super) knows_taps: bool,
    bells: Option<PeerBells>,
    /// What it publishes.
    pub(super) topics: BTreeMap<u64, TopicKey>,
    /// Topics of which it was told that they do not fit.
    pub(super) told: BTreeSet<u64>,
    /// Links to its subscriptions, by number.
    pub(super) outgoing: BTreeMap<u32, Outgoing>,
    /// Links from its publishers, by number.
    pub(super) incoming: BTreeMap<u32, Incoming>,
    /// What this node asked for, and was not answered yet.
    pub(super) requests: BTreeMap<u32, Request>,
    pub(super) next_request: u32,
    pub(super) next_link: u32,
    /// Links that have ended and of which it still has samples: taken back at the latest when its process is dead.
    pub(super) held: Vec<(Arc<Outlet>, LinkId)>,
}

/// A link to a subscription of the peer.
pub(super) struct Outgoing {
    pub(super) outlet: Arc<Outlet>,
    pub(super) id: LinkId,
    pub(super) topic: u64,
    pub(super) offered: Arc<dyn Offered>,
    /// As which subscription it joined, until it is told that it has left.
    pub(super) joined: Option<SubscriptionId>,
}

/// A link from a publisher of the peer.
pub(super) struct Incoming {
    pub(super) topic: u64,
    pub(super) subscription: SubscriptionId,
    /// The link's memory. What the publisher says about it is done here, so that it waits for no receiver: one may be at its limit
    /// of leases, or not look for a long time.
    pub(super) segments: SegmentsHandle,
    pub(super) told: Arc<Told>,
    pub(super) home: Arc<Home>,
}

impl Incoming {
    /// Nothing more will be queued on it.
    pub(super) fn end(&self, why: String, is_dead: bool) {
        self.told.end(why, is_dead);
        self.home.ring();
    }
}

/// An `Attach` that was sent.
pub(super) struct Request {
    pub(super) subscription: SubscriptionId,
    pub(super) key: TopicKey,
    pub(super) depth: u32,
    pub(super) leases_max: u32,
    pub(super) when_full: WhenFull,
}

impl PeerState {
    pub(super) fn new(
        line: &Arc<Line>,
        identity: Identity,
        is_own_larger: bool,
        features: u64,
    ) -> Self {
        let own_parity = u32::from(is_own_larger);
        Self {
            line: Arc::clone(line),
            identity,
            remote: Remote {
                node: identity.node.to_bytes(),
                label: format!("process {}", identity.pid),
            },
            own_parity,
            is_open: true,
            is_leaving: false,
            gives_reports: features & FEATURE_REPORTS != 0,
            watches_sends: features & FEATURE_SENDS != 0,
            unanswered: 0,
            knows_taps: features & FEATURE_TAPS != 0,
            bells: None,
            topics: BTreeMap::new(),
            told: BTreeSet::new(),
            outgoing: BTreeMap::new(),
            incoming: BTreeMap::new(),
            requests: BTreeMap::new(),
            next_request: 0,
            next_link: own_parity,
            held: Vec::new(),
        }
    }

    /// For people.
    pub(super) fn label(&self) -> &str {
        &self.remote.label
    }

    /// True if this node gave the number, as a publisher.
    pub(super) fn is_own(&self, link: u32) -> bool {
        link & 1 == self.own_parity
    }

    /// Sends a frame without names, which can always be encoded.
    pub(super) fn detach(&self, link: u32, reason: DetachReason, text: &str) {
        let frame = Frame::Detach(Detach { link, reason, text });
        let sent = self.line.send(&frame, &[]);
        debug_assert!(sent.is_ok(), "a text that is too long is cut");
    }

    /// The peer's page of bells: a node has one, so that the first that it sends serves for all links.
    pub(super) fn bells(&mut self, fd: &OwnedFd) -> Result<&PeerBells, SegmentError> {
        if self.bells.is_none() {
            self.bells = Some(PeerBells::open(fd.as_fd())?);
        }
        Ok(self.bells.as_ref().expect("it was opened"))
    }

    /// The link between one of its topics and a subscription of this node.
    pub(super) fn incoming_of(&self, topic: u64, subscription: SubscriptionId) -> Option<u32> {
        let mut links = self.incoming.iter();
        let is_it = |link: &Incoming| link.topic == topic && link.subscription == subscription;
        links.find_map(|(number, link)| is_it(link).then_some(*number))
    }

    /// True if this node has asked for such a link.
    pub(super) fn has_asked(&self, topic: u64, subscription: SubscriptionId) -> bool {
        let mut requests = self.requests.values();
        requests.any(|r| r.key.id.get() == topic && r.subscription == subscription)
    }
}
