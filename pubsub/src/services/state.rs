//! What a registry knows: services, their servers, and requests on their way.

use super::error::ServiceError;
use super::frame::Frame;
use super::local::{AnyLocal, Types};
use super::session::{About, Outgoing, Session};
use super::slot::Slot;
use super::snapshot::Counts;
use crate::events::Event;
use crate::graph::Graph;
use mproc_runtime::Name;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

/// How many requests of this node may be on their way to one server of another node, or stand in line for its mailbox there.
/// Further ones stand in line here.
pub(crate) const WINDOW: u64 = 64;

/// After how many the other node says that they are taken.
pub(super) const TAKEN_TOLD: u64 = WINDOW / 2;

/// Servers that were made within this time of each other are taken to be equally old.
const SAME_TIME: Duration = Duration::from_millis(1);

#[derive(Default)]
pub(super) struct State {
    pub(super) closed: bool,
    pub(super) services: BTreeMap<String, Service>,
    pub(super) sessions: Vec<Arc<Session>>,
    /// Calls that were sent to other nodes and are not answered.
    pub(super) calls: BTreeMap<u64, Sent>,
    pub(super) next: u64,
}

/// A call at another node.
pub(super) struct Sent {
    pub(super) session: u64,
    pub(super) slot: Arc<Slot>,
}

pub(super) struct Service {
    /// Of whoever declared it first here.
    pub(super) types: Option<Types>,
    pub(super) servers: Vec<Arc<Server>>,
    /// Who waits for a server.
    pub(super) waiting: BTreeMap<u64, Waker>,
    /// How many servers events have told of.
    told: usize,
    /// Whose turn it is among servers that are equally busy.
    pub(super) turn: usize,
    pub(super) counts: Arc<Counts>,
}

/// Somebody who serves.
pub(crate) struct Server {
    /// Never used again in the node that has it.
    pub(crate) number: u64,
    pub(crate) types: Types,
    pub(crate) shared: bool,
    pub(super) made: Instant,
    /// How many calls of this node it has not answered.
    pub(crate) busy: AtomicUsize,
    pub(crate) at: Place,
}

pub(crate) enum Place {
    Here(Arc<dyn AnyLocal>, Name),
    There(Arc<Session>, Mutex<Flow>),
}

/// Requests to a server of another node.
#[derive(Default)]
pub(crate) struct Flow {
    pub(super) sent: u64,
    pub(super) taken: u64,
    /// Requests that wait for room in the window, in the order in which they came.
    pub(super) line: VecDeque<Standing>,
    /// Nobody serves there any more: those who stood in line look for another server.
    pub(super) is_over: bool,
}

/// A request that stands in line. It needs nobody to be sent: so it keeps its place in the order, whenever its caller looks.
pub(crate) struct Standing {
    pub(super) call: u64,
    pub(super) slot: Arc<Slot>,
    pub(super) body: Arc<Vec<u8>>,
    /// Whom to wake when it is sent, or when nobody serves any more.
    pub(super) waker: Option<Waker>,
}

impl Server {
    pub(super) fn is_usable(&self) -> bool {
        match &self.at {
            Place::Here(..) => true,
            Place::There(session, _) => session.is_open(),
        }
    }

    pub(super) fn is_here(&self) -> bool {
        matches!(self.at, Place::Here(..))
    }

    /// For people.
    pub(super) fn whereabouts(&self) -> String {
        match &self.at {
            Place::Here(_, name) => format!("processor {name:?}"),
            Place::There(session, _) => session.remote.label.clone(),
        }
    }

    /// Whose claim to the name is older.
    pub(super) fn is_before(&self, other: &Self, own: [u8; 16]) -> bool {
        let (a, b) = (self.made, other.made);
        let apart = a.max(b) - a.min(b);
        if apart >= SAME_TIME {
            return a < b;
        }
        let node = |server: &Self| match &server.at {
            Place::Here(..) => own,
            Place::There(session, _) => session.remote.node,
        };
        (node(self), self.number) < (node(other), other.number)
    }
}

/// What is left to be done without the lock.
#[derive(Default)]
pub(crate) struct After {
    pub(super) wakers: Vec<Waker>,
    pub(super) events: Vec<Event>,
    pub(super) dropped: Vec<Arc<Server>>,
}

impl After {
    pub(crate) fn run(self, graph: &Weak<Graph>) {
        self.wakers.into_iter().for_each(Waker::wake);
        if let Some(graph) = graph.upgrade() {
            self.events.into_iter().for_each(|event| graph.tell(event));
        }
    }
}

impl State {
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub(super) fn service(&mut self, name: &str) -> &mut Service {
        self.services
            .entry(name.to_owned())
            .or_insert_with(|| Service {
                types: None,
                servers: Vec::new(),
                waiting: BTreeMap::new(),
                told: 0,
                turn: 0,
                counts: Arc::default(),
            })
    }

    /// Who serves may be others now: those who wait are woken, and events say so.
    pub(super) fn changed(&mut self, after: &mut After) {
        for (name, service) in &mut self.services {
            let servers = service.servers.iter().filter(|s| s.is_usable()).count();
            if servers > 0 {
                after
                    .wakers
                    .extend(std::mem::take(&mut service.waiting).into_values());
            }
            let before = std::mem::replace(&mut service.told, servers);
            let service = || name.clone();
            for servers in before + 1..=servers {
                let service = service();
                after.events.push(Event::ServerMatched { service, servers });
            }
            for servers in (servers..before).rev() {
                let service = service();
                after
                    .events
                    .push(Event::ServerUnmatched { service, servers });
            }
        }
    }

    /// A server of this node has ended: tells all others, behind what they were told before, when they are flushed.
    pub(super) fn put_unserve(&self, server: u64) {
        let frame = Frame::Unserve { server }.to_bytes();
        for session in &self.sessions {
            session.put(Outgoing::small(frame.clone()));
        }
    }

    /// Takes servers out.
    pub(super) fn remove(
        &mut self,
        after: &mut After,
        is_it: impl Fn(&Server) -> bool,
    ) -> Vec<Arc<Server>> {
        let mut removed = Vec::new();
        for service in self.services.values_mut() {
            let (out, rest) = std::mem::take(&mut service.servers)
                .into_iter()
                .partition::<Vec<_>, _>(|server| is_it(server));
            service.servers = rest;
            removed.extend(out);
        }
        for server in &removed {
            if let Place::There(_, flow) = &server.at {
                let mut flow = flow.lock();
                flow.is_over = true;
                let line = std::mem::take(&mut flow.line);
                drop(flow);
                after
                    .wakers
                    .extend(line.into_iter().filter_map(|s| s.waker));
            }
        }
        after.dropped.extend(removed.iter().cloned());
        self.changed(after);
        // What is known only because others served it once is forgotten, unless a client counts there.
        self.services.retain(|_, s| {
            s.types.is_some() || !s.servers.is_empty() || !s.waiting.is_empty() || s.has_client()
        });
        removed
    }
}

impl Service {
    /// A client counts what it calls here. One that says no types has left no other trace.
    pub(super) fn has_client(&self) -> bool {
        Arc::strong_count(&self.counts) > 1
    }

    /// The servers that can be called. The error: there is none, or none with these types.
    pub(super) fn candidates(&self, types: &Types) -> Result<Vec<Arc<Server>>, ServiceError> {
        let usable: Vec<_> = self.servers.iter().filter(|s| s.is_usable()).collect();
        // Two of which one must make way, and has not yet: the oldest counts.
        let usable = match usable.iter().any(|s| !s.shared) {
            true => usable
                .into_iter()
                .min_by_key(|s| s.made)
                .into_iter()
                .collect(),
            false => usable,
        };
        let fitting: Vec<_> = usable
            .iter()
            .filter(|s| s.types.fit(types))
            .map(|s| Arc::clone(s))
            .collect();
        match (fitting.is_empty(), usable.first()) {
            (false, _) => Ok(fitting),
            (true, None) => Err(ServiceError::NoServer),
            (true, Some(other)) => Err(ServiceError::TypeConflict(format!(
                "{} serves {}, and the client wants {}",
                other.whereabouts(),
                other.types.label(),
                types.label()
            ))),
        }
    }
}

impl Flow {
    /// Puts as many requests into the session's backlog as there is room for; their callers are to be woken. Under the
    /// registry's lock, so that all requests to one server are sent in the order in which they came.
    pub(super) fn send(
        &mut self,
        session: &Session,
        server: u64,
        calls: &mut BTreeMap<u64, Sent>,
    ) -> Vec<Standing> {
        let mut sent = Vec::new();
        while self.sent - self.taken < WINDOW
            && let Some(standing) = self.line.pop_front()
        {
            let Standing {
                call, slot, body, ..
            } = &standing;
            let (call, body) = (*call, body.as_slice());
            let frame = Outgoing {
                bytes: Frame::Request { call, server, body }.to_bytes(),
                about: About::Request(call),
                made: None,
            };
            if !session.put(frame) {
                // It has ended just now: whoever ends it empties the line, and they look for another server.
                self.line.push_front(standing);
                break;
            }
            self.sent += 1;
            slot.set_sent();
            let (session, slot) = (session.number, Arc::clone(slot));
            calls.insert(call, Sent { session, slot });
            sent.push(standing);
        }
        sent
    }
}
