//! The subscriber's end of a link.

use super::Core;
use super::control::Command;
use super::outlet::HAS_PARTS;
use super::wire::topic_id;
use crate::transport::{Ending, Inlet, Lease, Stamp, Took};
use mproc_shm::{LinkEnd, SubscriberLink, Taken};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};

/// What the control tells an inlet. Whoever tells rings the receiver's home afterwards.
#[derive(Debug, Default)]
pub(super) struct Told {
    end: Mutex<Option<End>>,
    has_news: AtomicBool,
}

/// Why nothing more is queued, and whether the publisher's process is dead.
#[derive(Clone, Debug)]
struct End {
    why: String,
    is_dead: bool,
}

impl Told {
    /// Nothing more will be queued. What is queued is still taken.
    pub(super) fn end(&self, why: String, is_dead: bool) {
        let mut told = self.end.lock();
        match &mut *told {
            None => *told = Some(End { why, is_dead }),
            // The first reason is the cause; the death of the process is news all the same.
            Some(end) => end.is_dead |= is_dead,
        }
        drop(told);
        self.has_news.store(true, Release);
    }
}

pub(super) struct InletInShm {
    pub(super) core: Arc<Core>,
    pub(super) link: SubscriberLink,
    pub(super) told: Arc<Told>,
    pub(super) connection: u64,
    pub(super) number: u32,
    /// For people.
    pub(super) publisher: String,
    pub(super) topic: String,
    end: Option<End>,
    /// [`Took::Ended`] was said.
    is_over: bool,
}

impl InletInShm {
    pub(super) fn new(
        core: &Arc<Core>,
        link: SubscriberLink,
        told: &Arc<Told>,
        (connection, number): (u64, u32),
        [publisher, topic]: [String; 2],
    ) -> Self {
        Self {
            core: Arc::clone(core),
            link,
            told: Arc::clone(told),
            connection,
            number,
            publisher,
            topic,
            end: None,
            is_over: false,
        }
    }

    fn take_news(&mut self) {
        if !self.told.has_news.swap(false, Acquire) {
            return;
        }
        let end = self.told.end.lock().clone();
        if end.as_ref().is_some_and(|end| end.is_dead) {
            self.link.publisher_ended();
        }
        self.end = end;
    }

    fn over(&mut self, why: Ending) -> Ending {
        self.is_over = true;
        let (connection, number) = (self.connection, self.number);
        self.core.post(Command::Drained { connection, number });
        why
    }

    /// The link has said that it has ended.
    fn link_ended(&mut self, end: LinkEnd) -> Ending {
        let why = match (end, &self.end) {
            (LinkEnd::Overflowed, _) => Ending::Overflowed,
            (_, Some(end)) => Ending::Left(end.why.clone()),
            (_, None) => Ending::Left(format!("{} has ended its publisher", self.publisher)),
        };
        self.over(why)
    }

    fn violated(&mut self, what: &str) -> Ending {
        let Self {
            publisher, topic, ..
        } = self;
        let why = format!("{publisher} does not keep to the protocol on topic {topic:?}: {what}");
        self.is_over = true;
        self.core.post(Command::Violated {
            connection: self.connection,
            number: self.number,
            why: what.to_owned(),
        });
        Ending::Left(why)
    }
}

impl Inlet for InletInShm {
    fn has_news(&self) -> bool {
        !self.is_over
            && (self.link.has_news()
                || self.told.has_news.load(Acquire)
                || (self.end.is_some() && self.link.queued() == 0))
    }

    fn take(&mut self) -> Took {
        if self.is_over || !self.core.origin.is_here() {
            return Took::Nothing;
        }
        self.take_news();
        match self.link.take() {
            Ok(Taken::Sample(lease)) => {
                let header = lease.header();
                let stamp = Stamp {
                    topic: topic_id(header.topic),
                    publisher: header.publisher,
                    sequence: header.sequence,
                    published: self.core.clock.instant(header.published_ns),
                    has_parts: header.flags & HAS_PARTS != 0,
                };
                let gap = lease.gap();
                let lease = Box::new(LeaseInShm { lease, stamp });
                Took::Sample { lease, gap }
            }
            Ok(Taken::LeaseLimit) => Took::LeaseLimit,
            Ok(Taken::Empty | Taken::Unannounced { .. }) => match &self.end {
                // Who has said that it leaves has announced what it queued before; who was lost announces nothing more.
                Some(end) => {
                    let why = Ending::Left(end.why.clone());
                    Took::Ended(self.over(why))
                }
                None => Took::Nothing,
            },
            Ok(Taken::End(end)) => Took::Ended(self.link_ended(end)),
            Err(violation) => Took::Ended(self.violated(&violation.to_string())),
        }
    }

    fn settle(&mut self) -> Option<Ending> {
        if self.is_over || !self.core.origin.is_here() {
            return None;
        }
        self.take_news();
        match self.link.take_end() {
            Ok(Some(end)) => Some(self.link_ended(end)),
            Ok(None) => {
                let end = self.end.as_ref().filter(|_| self.link.queued() == 0)?;
                let why = Ending::Left(end.why.clone());
                Some(self.over(why))
            }
            Err(violation) => Some(self.violated(&violation.to_string())),
        }
    }

    fn queued(&self) -> usize {
        self.link.queued()
    }
}

struct LeaseInShm {
    lease: mproc_shm::Lease,
    stamp: Stamp,
}

impl Lease for LeaseInShm {
    fn bytes(&self) -> &[u8] {
        self.lease.payload()
    }

    fn copied(&self) -> Vec<u8> {
        let mut copy = Vec::new();
        self.lease.copy_into(&mut copy);
        copy
    }

    fn stamp(&self) -> &Stamp {
        &self.stamp
    }
}
