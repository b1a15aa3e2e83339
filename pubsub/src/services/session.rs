//! What this node has with one other that takes part in services: a link to it, and a link from it.
//!
//! Frames that find no room on the link, or no memory, stand in a backlog. It is bounded by what they are about: requests by
//! the window of each server ([`WINDOW`](super::state::WINDOW)), replies and cancellations by the calls that are under way,
//! the rest by the number of servers.

use super::dispatcher::Kick;
use super::serving::Serving;
use super::snapshot::Counts;
use crate::id::{SubscriptionId, TopicId};
use crate::transport::{
    Carried, Ending, Inlet, Lease, Listener, LoanRefusal, OutLink, Remote, Stamp, Took,
};
use mproc_runtime::Error;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

pub(crate) struct Session {
    /// Never used again in this node.
    pub(crate) number: u64,
    /// The other node.
    pub(crate) remote: Remote,
    topic: TopicId,
    kick: Arc<Kick>,
    inside: Mutex<Inside>,
    /// The link from the other node.
    inlet: Mutex<Option<Box<dyn Inlet>>>,
    had_inlet: AtomicBool,
    /// There is a link to the other node. Written under `inside`.
    is_open: AtomicBool,
    /// Requests of the other node that are not answered. For the dispatcher alone.
    pub(crate) servings: Mutex<BTreeMap<u64, UnderWay>>,
    /// For each of this node's servers, how many requests have come, wait in no line any more, and were said to. For the
    /// dispatcher alone.
    pub(crate) taken: Mutex<BTreeMap<u64, Taken>>,
}

/// A request of the other node, and where it is counted.
pub(crate) struct UnderWay {
    pub(crate) serving: Arc<dyn Serving>,
    pub(crate) counts: Arc<Counts>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Taken {
    pub(crate) came: u64,
    pub(crate) count: u64,
    pub(crate) told: u64,
}

struct Inside {
    out: Option<Arc<dyn OutLink>>,
    /// Which one that is, or was.
    out_id: Option<SubscriptionId>,
    backlog: VecDeque<Outgoing>,
    is_watched: bool,
    /// The other node is gone.
    is_over: bool,
}

/// A frame on its way.
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    pub(crate) about: About,
    /// When what it tells of was made, where that counts.
    pub(crate) made: Option<Instant>,
}

/// Who is told if a frame cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// This node's call.
    Request(u64),
    /// The other node's.
    Reply(u64),
    /// Nobody: such frames are small.
    Other,
}

/// Frames that can never be sent, and why.
pub(crate) type Unsent = Vec<(About, Error)>;

impl Outgoing {
    pub(crate) fn small(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            about: About::Other,
            made: None,
        }
    }
}

/// What a link had.
pub(crate) enum Came {
    Frame(Box<dyn Lease>),
    Nothing,
    Ended(String),
}

impl Session {
    pub(crate) fn new(number: u64, remote: Remote, topic: TopicId, kick: &Arc<Kick>) -> Arc<Self> {
        Arc::new(Self {
            number,
            remote,
            topic,
            kick: Arc::clone(kick),
            inside: Mutex::new(Inside {
                out: None,
                out_id: None,
                backlog: VecDeque::new(),
                is_watched: false,
                is_over: false,
            }),
            inlet: Mutex::new(None),
            had_inlet: AtomicBool::new(false),
            is_open: AtomicBool::new(false),
            servings: Mutex::default(),
            taken: Mutex::default(),
        })
    }

    /// True if requests can be sent.
    pub(crate) fn is_open(&self) -> bool {
        self.is_open.load(Ordering::Acquire)
    }

    /// The link to the other node. False if this session has or had one: then the nodes have met anew.
    pub(crate) fn join(self: &Arc<Self>, link: &Arc<dyn OutLink>, id: SubscriptionId) -> bool {
        {
            let mut inside = self.inside.lock();
            if inside.out_id.is_some() || inside.is_over {
                return false;
            }
            inside.out_id = Some(id);
            inside.out = Some(Arc::clone(link));
            self.is_open.store(true, Ordering::Release);
        }
        let listener: Weak<Self> = Arc::downgrade(self);
        link.set_listener(listener);
        true
    }

    /// The link to the other node is gone. False if it is another's.
    pub(crate) fn left(&self, id: SubscriptionId) -> bool {
        let mut inside = self.inside.lock();
        if inside.out_id != Some(id) {
            return false;
        }
        let out = inside.close(&self.is_open);
        drop(inside);
        drop(out);
        true
    }

    /// The link from the other node. Gives it back if this session has or had one.
    pub(crate) fn open(&self, inlet: Box<dyn Inlet>) -> Result<(), Box<dyn Inlet>> {
        if self.had_inlet.swap(true, Ordering::AcqRel) {
            return Err(inlet);
        }
        *self.inlet.lock() = Some(inlet);
        Ok(())
    }

    /// True if there is or was a link from the other node: its end is the session's.
    pub(crate) fn had_inlet(&self) -> bool {
        self.had_inlet.load(Ordering::Acquire)
    }

    /// True if [`take`](Self::take) may say something new.
    pub(crate) fn has_news(&self) -> bool {
        let inlet = self.inlet.lock();
        inlet.as_ref().is_some_and(|inlet| inlet.has_news())
    }

    /// For the dispatcher alone.
    pub(crate) fn take(&self) -> Came {
        let mut inlet = self.inlet.lock();
        let Some(open) = inlet.as_mut() else {
            return Came::Nothing;
        };
        match open.take() {
            Took::Sample { lease, .. } => Came::Frame(lease),
            // Leases are let go of at once, so the limit is never met.
            Took::Nothing | Took::LeaseLimit => Came::Nothing,
            Took::Ended(ending) => {
                let over = inlet.take();
                drop(inlet);
                drop(over);
                Came::Ended(match ending {
                    Ending::Left(why) => why,
                    Ending::Overflowed => "its link was full".to_owned(),
                })
            }
        }
    }

    /// Nothing comes or goes any more.
    pub(crate) fn end(&self) {
        let (out, inlet) = {
            let mut inside = self.inside.lock();
            inside.is_over = true;
            let out = inside.close(&self.is_open);
            (out, self.inlet.lock().take())
        };
        if let Some(out) = out {
            out.close();
        }
        drop(inlet);
    }

    /// Sends a frame, or lets it stand in the backlog until there is room. False if the other node is gone.
    pub(crate) fn send(&self, frame: Outgoing, unsent: &mut Unsent) -> bool {
        let is_put = self.put(frame);
        if is_put {
            self.flush(unsent);
        }
        is_put
    }

    /// As [`send`](Self::send), at the next [`flush`](Self::flush): under the registry's lock, so that who serves is told in the
    /// order in which it changed.
    pub(crate) fn put(&self, frame: Outgoing) -> bool {
        let mut inside = self.inside.lock();
        let is_open = inside.out.is_some();
        if is_open {
            inside.backlog.push_back(frame);
        }
        is_open
    }

    /// Sends what there is room for.
    pub(crate) fn flush(&self, unsent: &mut Unsent) {
        // The same for each attempt, so that it is remembered once.
        let waker = Waker::from(Arc::clone(&self.kick));
        let ring = {
            let mut inside = self.inside.lock();
            let Some(out) = inside.out.clone() else {
                return;
            };
            inside
                .push_all(&out, self.topic, &waker, unsent)
                .then_some(out)
        };
        if let Some(out) = ring {
            out.ring();
        }
    }

    pub(crate) fn has_backlog(&self) -> bool {
        self.backlog() > 0
    }

    /// How many frames wait for room.
    pub(crate) fn backlog(&self) -> usize {
        self.inside.lock().backlog.len()
    }
}

impl Inside {
    /// The link, to be dropped without the lock.
    fn close(&mut self, is_open: &AtomicBool) -> Option<Arc<dyn OutLink>> {
        is_open.store(false, Ordering::Release);
        self.backlog.clear();
        self.out.take()
    }

    /// True if something was pushed.
    fn push_all(
        &mut self,
        out: &Arc<dyn OutLink>,
        topic: TopicId,
        waker: &Waker,
        unsent: &mut Unsent,
    ) -> bool {
        let mut pushed = false;
        while let Some(frame) = self.backlog.front() {
            let filled = match out.outlet().poll_loan(frame.bytes.len(), waker) {
                Ok(mut loan) => {
                    loan.bytes_mut().copy_from_slice(&frame.bytes);
                    loan.freeze()
                }
                Err(LoanRefusal::Short) => return pushed,
                Err(LoanRefusal::Never(error)) => {
                    unsent.push((frame.about, error));
                    self.backlog.pop_front();
                    continue;
                }
            };
            let stamp = Stamp {
                topic,
                publisher: 0,
                sequence: 0,
                published: frame.made.unwrap_or_else(Instant::now),
                has_parts: false,
            };
            match out.push(&filled, &stamp, Arc::new(())) {
                Carried::Full if !self.is_watched => {
                    // What came back before it was watched is found by the second attempt.
                    self.is_watched = true;
                    out.watch(true);
                }
                Carried::Full => return pushed,
                Carried::Gone => {
                    // Whoever manages the link says so soon.
                    self.backlog.clear();
                    return pushed;
                }
                _ => {
                    pushed = true;
                    self.backlog.pop_front();
                }
            }
        }
        if std::mem::take(&mut self.is_watched) {
            out.watch(false);
        }
        pushed
    }
}

impl Listener for Session {
    fn came_back(&self) {
        let out = self.inside.lock().out.clone();
        if let Some(out) = out {
            out.sweep();
        }
        self.kick.kick();
    }
}
