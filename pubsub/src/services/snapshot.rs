//! What is counted of a service.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What is known of a service that a node has to do with.
///
/// `calls = answered + failed + cancelled +` those under way, and
/// `requests = replies + replies_dropped + requests_cancelled +` those under way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServiceSnapshot {
    /// What it is called.
    pub name: String,
    /// The type of its requests; empty if that is not known.
    pub request_type: String,
    /// The type of its replies; empty if that is not known.
    pub reply_type: String,
    /// How many servers this node has.
    pub servers: u64,
    /// How many servers of other nodes can be called.
    pub servers_elsewhere: u64,
    /// How many calls of this node have been put on their way.
    pub calls: u64,
    /// How many of them have got a reply.
    pub answered: u64,
    /// How many of them have got an error.
    pub failed: u64,
    /// How many of them were given up: dropped, or too late.
    pub cancelled: u64,
    /// How many requests of other nodes have come.
    pub requests: u64,
    /// To how many of them a reply, or the reason for none, was sent.
    pub replies: u64,
    /// Replies that were dropped, because their caller's node was gone.
    pub replies_dropped: u64,
    /// How many of them their callers gave up before they were answered, or because their node was gone.
    pub requests_cancelled: u64,
}

/// Relaxed throughout: plain counts, in no order with anything.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    calls: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    cancelled: AtomicU64,
    requests: AtomicU64,
    replies: AtomicU64,
    replies_dropped: AtomicU64,
    requests_cancelled: AtomicU64,
}

impl Counts {
    pub(crate) fn add_call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_result(&self, is_reply: bool) {
        match is_reply {
            true => self.answered.fetch_add(1, Relaxed),
            false => self.failed.fetch_add(1, Relaxed),
        };
    }

    pub(crate) fn add_cancelled(&self) {
        self.cancelled.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn add_reply(&self, is_sent: bool) {
        match is_sent {
            true => self.replies.fetch_add(1, Relaxed),
            false => self.replies_dropped.fetch_add(1, Relaxed),
        };
    }

    pub(crate) fn add_cancelled_there(&self) {
        self.requests_cancelled.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(
        &self,
        name: String,
        types: Option<(String, String)>,
        servers: u64,
        servers_elsewhere: u64,
    ) -> ServiceSnapshot {
        let (request_type, reply_type) = types.unwrap_or_default();
        ServiceSnapshot {
            name,
            request_type,
            reply_type,
            servers,
            servers_elsewhere,
            calls: self.calls.load(Relaxed),
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            requests: self.requests.load(Relaxed),
            replies: self.replies.load(Relaxed),
            replies_dropped: self.replies_dropped.load(Relaxed),
            requests_cancelled: self.requests_cancelled.load(Relaxed),
        }
    }
}
