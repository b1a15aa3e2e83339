//! The publisher's side of a topic: its memory, and its links to subscriptions of other processes.

use super::core::Core;
use super::line::{Descriptor, Line};
use super::memory::LoanInShm;
use super::watching::{Afterwards, Seen};
use crate::transport::{self, Carried, Guard, Listener, LoanRefusal, OutLoan, Stamp, TopicKey};
use mproc_runtime::{Error, ErrorKind};
use mproc_shm::{
    AttachError, DataSegment, Endpoint, EndpointOptions, Filled, Frame, LinkGeometry, LinkId,
    LoanError, Queued, Retire, Ringer, Segment, SlotHeader, WhenFull,
};
use parking_lot::Mutex;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::sync::{Arc, Weak};
use std::task::Waker;

/// Set in [`SlotHeader::flags`] where parts follow the value.
pub(super) const HAS_PARTS: u32 = 1;

/// A topic's memory and links.
pub(super) struct Outlet {
    core: Arc<Core>,
    /// Itself: loans keep it.
    me: Weak<Outlet>,
    label: String,
    type_hash: u64,
    pub(super) inside: Mutex<Inside>,
    /// True while the bell thread has something to look at.
    pub(super) is_watched: AtomicBool,
    /// Memory came back inside this process while somebody waited for it.
    pub(super) has_local: Arc<AtomicBool>,
}

pub(super) struct Inside {
    /// None once the node has left.
    pub(super) endpoint: Option<Endpoint>,
    /// All links were told of the endpoint's segments with smaller numbers.
    pub(super) segments_told: u64,
    pub(super) ends: Vec<End>,
    /// Who waits for memory.
    pub(super) wakers: Vec<Waker>,
    /// All subscribers are asked to ring, because somebody waits for memory.
    pub(super) watches_memory: bool,
    /// Guards that were let go of under others' locks.
    pub(super) kept: Vec<Guard>,
}

/// A link, as the endpoint's side knows it.
pub(super) struct End {
    pub(super) id: LinkId,
    /// Its number on the connection.
    pub(super) number: u32,
    pub(super) line: Arc<Line>,
    pub(super) listener: Option<Weak<dyn Listener>>,
    /// Its listener wants to know.
    pub(super) is_wanted: bool,
    /// The subscriber was asked to ring for it.
    pub(super) is_asked: bool,
    /// Nothing is pushed any more, and what is queued may still be taken.
    pub(super) is_closed: bool,
    /// Its subscriber has left. It stays here until all that it held has come back.
    pub(super) has_left: bool,
    /// How many were queued and not evicted.
    pub(super) sent: u64,
    pub(super) seen: Seen,
}

/// What a new link's subscriber has to know.
pub(super) struct NewLink {
    pub(super) number: u32,
    pub(super) depth: u32,
    pub(super) leases_max: u32,
    pub(super) when_full: WhenFull,
    pub(super) ringer: Ringer,
}

impl Outlet {
    pub(super) fn new(core: &Arc<Core>, key: &TopicKey) -> Arc<Self> {
        let mut endpoint = Endpoint::new(EndpointOptions {
            bytes_max: core.options.bytes_max,
            slots_max: core.options.slots_max,
            // Those who come late are served by the topic, which has its history itself.
            history: 0,
            node: core.node.to_bytes(),
        });
        let has_local = Arc::new(AtomicBool::new(false));
        let local = Arc::clone(&has_local);
        let common = Arc::clone(core.bells.common());
        // Whoever drops a loan may hold any lock: so it only rings, and the bell thread does the rest.
        endpoint.on_local_return(Arc::new(move || {
            local.store(true, Release);
            common.ring();
        }));
        let outlet = Arc::new_cyclic(|me| Self {
            core: Arc::clone(core),
            me: me.clone(),
            label: key.label(),
            type_hash: key.type_hash,
            inside: Mutex::new(Inside {
                endpoint: Some(endpoint),
                segments_told: 0,
                ends: Vec::new(),
                wakers: Vec::new(),
                watches_memory: false,
                kept: Vec::new(),
            }),
            is_watched: AtomicBool::new(false),
            has_local,
        });
        core.bells.add_outlet(&outlet);
        outlet
    }

    pub(super) fn is_here(&self) -> bool {
        self.core.origin.is_here()
    }

    pub(super) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Makes a link, and has `accept` send it to the subscriber before all segments are announced there. New segments are
    /// announced after that, and never twice, because both happen under one lock.
    pub(super) fn attach(
        &self,
        line: &Arc<Line>,
        new: NewLink,
        accept: impl FnOnce(OwnedFd, LinkGeometry),
    ) -> Result<LinkId, AttachError> {
        let mut inside = self.inside.lock();
        let inside = &mut *inside;
        let Some(endpoint) = &mut inside.endpoint else {
            return Err(AttachError::TooManyLinks);
        };
        let ringer = Some(new.ringer);
        let attached = endpoint.attach(new.depth, new.leases_max, new.when_full, ringer)?;
        accept(attached.fd, attached.geometry);
        // Others were told of all of these, with the loan that made them.
        for segment in endpoint.segments() {
            announce(line, new.number, segment);
        }
        inside.ends.push(End {
            id: attached.id,
            number: new.number,
            line: Arc::clone(line),
            listener: None,
            is_wanted: false,
            is_asked: false,
            is_closed: false,
            has_left: false,
            sent: 0,
            seen: Seen::default(),
        });
        inside.set_watches();
        Ok(attached.id)
    }

    pub(super) fn set_listener(&self, id: LinkId, listener: Weak<dyn Listener>) {
        if let Some(end) = self.inside.lock().end(id) {
            end.listener = Some(listener);
        }
    }

    /// A guard that is not needed, to be dropped later.
    pub(super) fn keep(&self, guard: Guard) {
        self.inside.lock().kept.push(guard);
    }

    /// Memory, announced to all who may have to read it. If it is short, `waker` is remembered. No guard is dropped.
    pub(super) fn lend(
        &self,
        bytes: usize,
        waker: Option<&Waker>,
    ) -> Result<Box<dyn OutLoan>, LoanRefusal> {
        if !self.is_here() {
            let text = "this process was forked from the one that has the memory; use exec";
            return Err(LoanRefusal::Never(Error::new(ErrorKind::Closed, text)));
        }
        let mut inside = self.inside.lock();
        let mut loaned = self.loan_inside(&mut inside, bytes);
        if let (Err(LoanRefusal::Short), Some(waker)) = (&loaned, waker) {
            if !inside.wakers.iter().any(|other| other.will_wake(waker)) {
                inside.wakers.push(waker.clone());
            }
            let any = inside.set_watches();
            self.is_watched.store(any, Release);
            // What came back before they were asked to ring.
            loaned = self.loan_inside(&mut inside, bytes);
        }
        drop(inside);
        let me = self.me.upgrade().expect("whoever calls has it");
        Ok(Box::new(LoanInShm::new(loaned?, me)))
    }

    fn loan_inside(
        &self,
        inside: &mut Inside,
        bytes: usize,
    ) -> Result<mproc_shm::Loan, LoanRefusal> {
        let Some(endpoint) = &mut inside.endpoint else {
            let text = format!("topic {:?}: the node has left its domain", self.label);
            return Err(LoanRefusal::Never(Error::new(ErrorKind::Closed, text)));
        };
        let loaned = endpoint.loan(bytes);
        for (id, first_slot) in endpoint.take_retired() {
            if let Some(end) = inside.ends.iter().find(|end| end.id == id) {
                let link = end.number;
                let frame = Frame::Retire(Retire { link, first_slot });
                let sent = end.line.send(&frame, &[]);
                debug_assert!(sent.is_ok(), "a frame without names can be encoded");
            }
        }
        let told = inside.segments_told;
        let is_new = |segment: &&Arc<DataSegment>| segment.number() >= told;
        for segment in endpoint.segments().iter().filter(is_new) {
            for end in inside.ends.iter().filter(|end| !end.has_left) {
                announce(&end.line, end.number, segment);
            }
            inside.segments_told = segment.number() + 1;
        }
        loaned.map_err(|error| match error {
            LoanError::Short => LoanRefusal::Short,
            error => {
                let advice = match &error {
                    LoanError::Segment(why) => format!(
                        ": {why}; free some, or raise what this process may have (RLIMIT_FSIZE, RLIMIT_AS, RLIMIT_NOFILE, \
                         its memory cgroup)"
                    ),
                    LoanError::TooLarge => "; DomainOptions::topic_bytes gives it more".into(),
                    _ => String::new(),
                };
                let text = format!(
                    "topic {:?}: no shared memory for {bytes} bytes (it may use {} bytes): {error}{advice}",
                    self.label, self.core.options.bytes_max
                );
                LoanRefusal::Never(Error::new(ErrorKind::Io, text))
            }
        })
    }

    /// Queues a sample. `faulted` says whether the link's subscriber does not keep to the protocol.
    pub(super) fn push(
        &self,
        id: LinkId,
        filled: &Filled,
        stamp: &Stamp,
        guard: Guard,
        faulted: &mut Option<String>,
    ) -> Carried {
        let header = SlotHeader {
            topic: stamp.topic.get(),
            type_hash: self.type_hash,
            publisher: stamp.publisher,
            sequence: stamp.sequence,
            published_ns: self.core.clock.ns(stamp.published),
            correlation: 0,
            flags: if stamp.has_parts { HAS_PARTS } else { 0 },
        };
        let mut inside = self.inside.lock();
        let Inside {
            endpoint,
            ends,
            kept,
            ..
        } = &mut *inside;
        let end = ends.iter_mut().find(|end| end.id == id && !end.is_closed);
        let (Some(endpoint), Some(end)) = (endpoint, end) else {
            kept.push(guard);
            return Carried::Gone;
        };
        match endpoint.queue(id, filled, &header, Some(guard)) {
            Queued::Queued { evicted } => {
                end.sent += u64::from(!evicted);
                Carried::Queued { evicted }
            }
            Queued::Dropped => Carried::Dropped,
            Queued::Refused => Carried::Refused,
            Queued::Overflowed => Carried::Overflowed,
            Queued::Full => Carried::Full,
            Queued::Gone { violation } => {
                // It may have been found out by who asked for room or memory.
                let before = || "what it has written makes no sense".to_owned();
                let is_known = || endpoint.faulted().contains(&id);
                *faulted = match violation {
                    Some(violation) => Some(violation.to_string()),
                    None => is_known().then(before),
                };
                Carried::Gone
            }
        }
    }

    pub(super) fn queued(&self, id: LinkId) -> usize {
        let mut inside = self.inside.lock();
        let Inside { endpoint, ends, .. } = &mut *inside;
        match endpoint {
            Some(endpoint) if ends.iter().any(|end| end.id == id) => endpoint.queued(id),
            _ => 0,
        }
    }

    pub(super) fn sweep(&self, id: LinkId) {
        let mut inside = self.inside.lock();
        if let Some(endpoint) = &mut inside.endpoint {
            endpoint.sweep(id);
        }
        let guards = inside.take_guards();
        drop(inside);
        drop(guards);
    }

    /// Drops the guards that calls under others' locks have kept.
    pub(super) fn drop_released(&self) {
        let mut inside = self.inside.lock();
        let guards = inside.take_guards();
        drop(inside);
        drop(guards);
    }

    /// Nothing is pushed on the link any more; its subscriber may take what is queued.
    pub(super) fn close_link(&self, id: LinkId) {
        if let Some(end) = self.inside.lock().end(id) {
            end.is_closed = true;
        }
    }

    /// Ends a link whose subscriber has left: what is queued comes back now, what is leased when its leases end.
    pub(super) fn detach(&self, id: LinkId) {
        let mut inside = self.inside.lock();
        if let Some(endpoint) = &mut inside.endpoint {
            endpoint.detach(id);
        }
        let after = inside.gone(id, false);
        drop(inside);
        after.carry_out();
    }

    /// A link's subscriber has let go of a segment that it was asked to. Those who wait for memory are told by the bell thread.
    /// False if it was not asked.
    pub(super) fn retired(&self, id: LinkId, first_slot: u32) -> bool {
        let mut inside = self.inside.lock();
        match &mut inside.endpoint {
            Some(endpoint) => endpoint.segment_removed(id, first_slot),
            None => true,
        }
    }

    /// Takes everything back from a link whose subscriber's process is dead.
    pub(super) fn reap(&self, id: LinkId) {
        let mut inside = self.inside.lock();
        if let Some(endpoint) = &mut inside.endpoint {
            endpoint.reap(id);
        }
        let after = inside.gone(id, true);
        drop(inside);
        after.carry_out();
    }

    /// True if a link that was detached still has samples.
    pub(super) fn holds(&self, id: LinkId) -> bool {
        let mut inside = self.inside.lock();
        let Some(endpoint) = &mut inside.endpoint else {
            return false;
        };
        endpoint.sweep(id);
        let holds = endpoint.held(id) > 0;
        let guards = inside.take_guards();
        drop(inside);
        drop(guards);
        holds
    }

    /// The node leaves. Subscribers may still take what is queued.
    pub(super) fn close(&self) {
        let mut inside = self.inside.lock();
        let mut after = Afterwards {
            guards: inside.take_guards(),
            endpoint: inside.endpoint.take(),
            wakers: std::mem::take(&mut inside.wakers),
            ..Afterwards::default()
        };
        for end in inside.ends.drain(..) {
            after.listeners.extend(end.listener);
        }
        drop(inside);
        after.carry_out();
    }
}

fn announce(line: &Line, link: u32, segment: &Arc<DataSegment>) {
    let geometry = segment.geometry();
    let frame = Frame::Segment(Segment {
        link,
        // A name for people: the first slot is what both sides go by.
        segment: segment.number() as u32,
        first_slot: geometry.first_slot,
        slots: geometry.slots,
        payload_bytes: geometry.payload_bytes,
    });
    let descriptor: Descriptor = Arc::clone(segment) as Descriptor;
    line.send(&frame, &[descriptor])
        .expect("a frame without names can be encoded");
}

impl transport::Outlet for Outlet {
    fn loan(&self, bytes: usize) -> Result<Box<dyn OutLoan>, LoanRefusal> {
        let lent = self.lend(bytes, None);
        if self.is_here() {
            self.drop_released();
        }
        lent
    }

    fn poll_loan(&self, bytes: usize, waker: &Waker) -> Result<Box<dyn OutLoan>, LoanRefusal> {
        let lent = self.lend(bytes, Some(waker));
        if self.is_here() {
            self.drop_released();
        }
        lent
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Outlet({:?})", self.label)
    }
}
