//! Who serves what, here and at other nodes, and who waits for it.
//!
//! The registry's lock guards all of that and is taken alone, but for the lock of a session, which comes after it. Wakers,
//! events and drops of what belongs to others come after the lock is released ([`After`]).

use super::dispatcher::{self, Kick};
use super::error::ServiceError;
use super::frame::Frame;
use super::links::Links;
use super::local::{AnyLocal, Types};
use super::serving::{Woken, failure};
use super::session::{About, Outgoing, Session, Unsent};
use super::slot::Slot;
use super::snapshot::{Counts, ServiceSnapshot};
use super::state::{After, Place, Server, Service, Standing, State};
use crate::forked::{Origin, forked};
use crate::graph::Graph;
use mproc_runtime::{Error, ErrorKind, Name, Runtime};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::thread::{self, JoinHandle};
use std::time::Instant;

/// The services that a node has to do with.
pub(crate) struct Registry {
    me: Weak<Self>,
    pub(crate) graph: Weak<Graph>,
    pub(crate) runtime: Runtime,
    origin: Origin,
    pub(super) state: Mutex<State>,
    pub(super) kick: Arc<Kick>,
    pub(super) woken: Arc<Woken>,
    /// The dispatcher was told of what other nodes have sent. Cleared by it before it takes.
    pub(super) is_told: AtomicBool,
    /// The ways to other nodes are there. Held while they are made.
    thread: Mutex<Option<JoinHandle<()>>>,
}

pub(super) fn has_ended(cannot: &str) -> Error {
    Error::new(ErrorKind::Closed, format!("{cannot}: the node has ended"))
}

impl Registry {
    /// `closed`: the node has ended.
    pub(crate) fn new(graph: &Weak<Graph>, runtime: &Runtime, closed: bool) -> Arc<Self> {
        let kick = Arc::<Kick>::default();
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            graph: graph.clone(),
            runtime: runtime.without_guard(),
            origin: Origin::now(),
            state: Mutex::new(State {
                closed,
                ..State::default()
            }),
            woken: Woken::new(&kick),
            kick,
            is_told: AtomicBool::new(false),
            thread: Mutex::new(None),
        })
    }

    /// The error: this process was forked from the one that the node belongs to.
    pub(crate) fn is_here(&self) -> bool {
        self.origin.is_here()
    }

    /// Makes the ways to other nodes, if there can be any.
    fn link(self: &Arc<Self>) -> Result<(), Error> {
        let Some(graph) = self.graph.upgrade() else {
            return Ok(());
        };
        let mut thread = self.thread.lock();
        if thread.is_some() {
            return Ok(());
        }
        let Some(transport) = graph.transport(&self.runtime)? else {
            return Ok(());
        };
        let started = dispatcher::start(&self.kick, self.me.clone());
        *thread = Some(started.map_err(|error| {
            Error::new(ErrorKind::Io, "cannot make a thread for services").with_source(error)
        })?);
        let links = Links::new(&self.me);
        transport.offer(links.clone());
        transport.seek(links);
        Ok(())
    }

    /// Checks the name and the types of a service that is to be served or called.
    fn declare(
        self: &Arc<Self>,
        cannot: &str,
        name: &str,
        types: &Types,
    ) -> Result<Arc<Counts>, Error> {
        if !self.is_here() {
            return Err(forked(cannot));
        }
        Name::new(name)
            .map_err(|error| Error::new(ErrorKind::InvalidName, format!("{cannot}: {error}")))?;
        self.link()?;
        let mut state = self.state.lock();
        if state.closed {
            return Err(has_ended(cannot));
        }
        let service = state.service(name);
        let others = service.servers.iter().map(|server| &server.types);
        if let Some(other) = service
            .types
            .iter()
            .chain(others)
            .find(|other| !other.fit(types))
        {
            let text = format!("{cannot}: it is {}, not {}", other.label(), types.label());
            return Err(Error::new(ErrorKind::TypeConflict, text));
        }
        // A client of any types says nothing about the service.
        if !types.is_any() {
            service.types.get_or_insert_with(|| types.clone());
        }
        Ok(Arc::clone(&service.counts))
    }

    /// What a client of a service counts.
    pub(crate) fn client(
        self: &Arc<Self>,
        name: &str,
        types: &Types,
    ) -> Result<Arc<Counts>, Error> {
        self.declare(&format!("cannot call service {name:?}"), name, types)
    }

    /// Adds a server of this node, and returns its number.
    pub(crate) fn serve(
        self: &Arc<Self>,
        name: &str,
        types: &Types,
        shared: bool,
        server: Arc<dyn AnyLocal>,
        processor: &Name,
    ) -> Result<u64, Error> {
        let cannot = format!("cannot serve {name:?}");
        self.declare(&cannot, name, types)?;
        let mut after = After::default();
        let (number, sessions) = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(has_ended(&cannot));
            }
            let number = state.number();
            let service = state.service(name);
            let clash = |other: &&Arc<Server>| !(other.shared && shared);
            if let Some(other) = service.servers.iter().find(clash) {
                let text = format!(
                    "{cannot}: {} serves it, and not both are shared",
                    other.whereabouts()
                );
                return Err(Error::new(ErrorKind::NameTaken, text));
            }
            let made = Instant::now();
            service.servers.push(Arc::new(Server {
                number,
                types: types.clone(),
                shared,
                made,
                busy: AtomicUsize::new(0),
                at: Place::Here(server, processor.clone()),
            }));
            for session in &state.sessions {
                session.put(serve_frame(number, name, types, shared, made));
            }
            state.changed(&mut after);
            (number, state.sessions.clone())
        };
        after.run(&self.graph);
        sessions.iter().for_each(|session| self.flush(session));
        Ok(number)
    }

    /// Takes one of this node's servers out. False if it was taken out before.
    pub(crate) fn unserve(&self, number: u64) -> bool {
        if !self.is_here() {
            return false;
        }
        let mut after = After::default();
        let (removed, sessions) = {
            let mut state = self.state.lock();
            let is_it = |server: &Server| server.is_here() && server.number == number;
            let removed = !state.remove(&mut after, is_it).is_empty();
            if removed {
                state.put_unserve(number);
            }
            (removed, state.sessions.clone())
        };
        after.run(&self.graph);
        if removed {
            sessions.iter().for_each(|session| self.flush(session));
        }
        removed
    }

    /// True if one of this node's servers is there: it may have had to make way for an older one.
    pub(crate) fn serves(&self, number: u64) -> bool {
        let state = self.state.lock();
        let mut servers = state.services.values().flat_map(|s| &s.servers);
        servers.any(|server| server.is_here() && server.number == number)
    }

    /// True if the node has ended, or belongs to another process.
    pub(crate) fn has_closed(&self) -> bool {
        !self.is_here() || self.state.lock().closed
    }

    /// How many servers there are that can be called.
    pub(crate) fn servers(&self, name: &str) -> usize {
        let state = self.state.lock();
        let service = state.services.get(name);
        service.map_or(0, |s| s.servers.iter().filter(|s| s.is_usable()).count())
    }

    /// Whether a server can be called. If there is none, `waker` is woken when that may have changed; `who` is who waits.
    pub(crate) fn poll_available(
        &self,
        name: &str,
        types: &Types,
        who: u64,
        waker: &Waker,
    ) -> Option<Result<(), ServiceError>> {
        let waker = waker.clone();
        let mut state = self.state.lock();
        if state.closed {
            return Some(Err(ServiceError::Closed));
        }
        let service = state.service(name);
        match service.candidates(types) {
            Ok(_) => Some(Ok(())),
            Err(ServiceError::NoServer) => {
                let before = service.waiting.insert(who, waker);
                drop(state);
                drop(before);
                None
            }
            Err(error) => Some(Err(error)),
        }
    }

    pub(crate) fn forget_waiting(&self, name: &str, who: u64) {
        let mut state = self.state.lock();
        let waiting = &mut state.service(name).waiting;
        let before = waiting.remove(&who);
        drop(state);
        drop(before);
    }

    /// Who is to be called: the one that has the fewest unanswered calls of this node, and in turn if they are equal.
    pub(crate) fn choose(&self, name: &str, types: &Types) -> Result<Arc<Server>, ServiceError> {
        if !self.is_here() {
            return Err(ServiceError::Closed);
        }
        let mut state = self.state.lock();
        if state.closed {
            return Err(ServiceError::Closed);
        }
        let service = state.service(name);
        let candidates = service.candidates(types)?;
        // Relaxed: a guess that is wrong by one is as good. Read once for each, because they change meanwhile.
        let busy: Vec<_> = candidates
            .iter()
            .map(|s| s.busy.load(Ordering::Relaxed))
            .collect();
        let fewest = busy.iter().min();
        let equal: Vec<_> = candidates
            .iter()
            .zip(&busy)
            .filter(|(_, busy)| Some(*busy) == fewest)
            .map(|(server, _)| server)
            .collect();
        let Some(chosen) = equal.get(service.turn % equal.len().max(1)) else {
            return Err(ServiceError::NoServer);
        };
        let chosen = Arc::clone(chosen);
        service.turn = service.turn.wrapping_add(1);
        Ok(chosen)
    }

    /// Sends a request to a server of another node, or stands in line for that. `None` while it stands in line: it is sent from
    /// there when there is room, whoever is asked first, and then `waker` is woken.
    pub(crate) fn send(
        &self,
        server: &Server,
        call: u64,
        slot: &Arc<Slot>,
        body: &Arc<Vec<u8>>,
        waker: &Waker,
    ) -> Option<Result<(), ServiceError>> {
        let Place::There(session, flow) = &server.at else {
            return Some(Err(ServiceError::NoServer));
        };
        let waker = waker.clone();
        let mut state = self.state.lock();
        if slot.is_sent() {
            return Some(Ok(()));
        }
        if state.closed {
            return Some(Err(ServiceError::Closed));
        }
        let mut flow = flow.lock();
        // Whoever ends the session, or takes the server out, says so before it empties the line.
        if flow.is_over || !session.is_open() {
            return Some(Err(ServiceError::NoServer));
        }
        if let Some(standing) = flow.line.iter_mut().find(|other| other.call == call) {
            let before = standing.waker.replace(waker);
            drop(flow);
            drop(state);
            drop(before);
            return None;
        }
        let standing = Standing {
            call,
            slot: Arc::clone(slot),
            body: Arc::clone(body),
            waker: Some(waker),
        };
        flow.line.push_back(standing);
        let sent = flow.send(session, server.number, &mut state.calls);
        let is_sent = slot.is_sent();
        drop(flow);
        drop(state);
        self.flush(session);
        let others = sent.into_iter().filter(|standing| standing.call != call);
        let wakers = others.filter_map(|standing| standing.waker);
        wakers.for_each(Waker::wake);
        is_sent.then_some(Ok(()))
    }

    /// Sends what was [put](Session::put) to one session, whoever put it, and tells whose request or reply cannot be sent.
    pub(super) fn flush(&self, session: &Arc<Session>) {
        let mut unsent = Unsent::new();
        session.flush(&mut unsent);
        self.tell_unsent(session, unsent);
    }

    /// Leaves the line. If it was sent from there meanwhile, it is cancelled.
    pub(crate) fn leave_line(&self, server: &Server, call: u64) {
        let Place::There(_, flow) = &server.at else {
            return;
        };
        let before = {
            let mut flow = flow.lock();
            let place = flow.line.iter().position(|other| other.call == call);
            place.and_then(|place| flow.line.remove(place))
        };
        if before.is_none() {
            self.cancel(server, call);
        }
    }

    /// Nobody waits for a call at another node any more.
    pub(crate) fn cancel(&self, server: &Server, call: u64) {
        if !self.is_here() {
            return;
        }
        let sent = self.state.lock().calls.remove(&call);
        if let (Some(_), Place::There(session, _)) = (&sent, &server.at) {
            let frame = Outgoing::small(Frame::Cancel { call }.to_bytes());
            let mut unsent = Unsent::new();
            session.send(frame, &mut unsent);
            self.tell_unsent(session, unsent);
        }
    }

    /// Tells those whose frames can never be sent.
    pub(super) fn tell_unsent(&self, session: &Arc<Session>, unsent: Unsent) {
        let mut left = VecDeque::from(unsent);
        while let Some((about, error)) = left.pop_front() {
            let error = ServiceError::NotSent(error.to_string());
            match about {
                About::Request(call) => {
                    let sent = self.state.lock().calls.remove(&call);
                    if let Some(sent) = sent {
                        sent.slot.complete(Err(error));
                    }
                }
                About::Reply(call) => {
                    let mut more = Unsent::new();
                    session.send(Outgoing::small(failure(call, &error)), &mut more);
                    left.extend(more);
                }
                About::Other => {}
            }
        }
    }

    /// Every service that this node has to do with, by name.
    pub(crate) fn snapshot(&self) -> Vec<ServiceSnapshot> {
        if !self.is_here() {
            return Vec::new();
        }
        let state = self.state.lock();
        let services = state.services.iter();
        let known =
            services.filter(|(_, s)| s.types.is_some() || !s.servers.is_empty() || s.has_client());
        let snapshot = |(name, service): (&String, &Service)| {
            let first = service.servers.first().map(|server| &server.types);
            let types = service.types.as_ref().or(first);
            let here = service.servers.iter().filter(|s| s.is_here()).count();
            let usable = service.servers.iter().filter(|s| s.is_usable()).count();
            service.counts.snapshot(
                name.clone(),
                types.map(|t| (t.request.name.clone(), t.reply.name.clone())),
                here as u64,
                (usable - here) as u64,
            )
        };
        known.map(snapshot).collect()
    }

    /// The node ends: what was answered is sent, and whoever waits is told.
    pub(crate) fn close(&self) {
        if !self.is_here() {
            return;
        }
        self.kick.close();
        let dispatcher = self.thread.lock().take();
        if let Some(dispatcher) = dispatcher
            && dispatcher.thread().id() != thread::current().id()
        {
            // Its panics are caught.
            let _ = dispatcher.join();
        }
        let (services, sessions, calls) = {
            let mut state = self.state.lock();
            state.closed = true;
            (
                std::mem::take(&mut state.services),
                std::mem::take(&mut state.sessions),
                std::mem::take(&mut state.calls),
            )
        };
        for session in &sessions {
            session.end();
        }
        for sent in calls.into_values() {
            sent.slot.complete(Err(ServiceError::Closed));
        }
        for service in services.into_values() {
            service.waiting.into_values().for_each(Waker::wake);
            for server in &service.servers {
                if let Place::There(_, flow) = &server.at {
                    let line = std::mem::take(&mut flow.lock().line);
                    line.into_iter()
                        .filter_map(|standing| standing.waker)
                        .for_each(Waker::wake);
                }
            }
        }
    }
}

pub(super) fn serve_frame(
    server: u64,
    name: &str,
    types: &Types,
    shared: bool,
    made: Instant,
) -> Outgoing {
    let frame = Frame::Serve {
        server,
        shared,
        name,
        request: (&types.request.name, types.request.hash),
        reply: (&types.reply.name, types.reply.hash),
    };
    Outgoing {
        bytes: frame.to_bytes(),
        about: About::Other,
        made: Some(made),
    }
}
