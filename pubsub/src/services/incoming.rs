//! What other nodes do: they come and go, serve, call and answer.
//!
//! Links come and go on the transport's thread ([`Registry::joined`], [`left`](Registry::left), [`opened`](Registry::opened)),
//! [`look`](Registry::look) is asked by the thread of the bells, and the rest is the dispatcher's.

use super::error::ServiceError;
use super::frame::Frame;
use super::links::Links;
use super::local::Types;
use super::registry::{Registry, has_ended, serve_frame};
use super::serving::{Serving, failure};
use super::session::{About, Came, Outgoing, Session, UnderWay, Unsent};
use super::snapshot::Counts;
use super::state::{After, Place, Sent, Server, State, TAKEN_TOLD, WINDOW};
use crate::id::SubscriptionId;
use crate::transport::{Inlet, OutLink, Remote};
use mproc_runtime::{Error, Name};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

/// How many frames of one node are taken before others have their turns.
const AT_ONCE: usize = 256;

/// How many servers another node may say that it has, and how many frames may wait for it to take others. What keeps to the
/// protocol stays far below; what does not, must not use up this process's memory.
const SERVERS_MAX: usize = 4096;
const BACKLOG_MAX: usize = 1 << 16;

impl Registry {
    /// A link to another node.
    pub(crate) fn joined(&self, link: &Arc<dyn OutLink>) -> Result<SubscriptionId, Error> {
        let id = SubscriptionId::next();
        let mut after = After::default();
        let session = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(has_ended("cannot link services"));
            }
            let remote = link.remote().clone();
            let session = self.session(&mut state, &remote, |session| session.join(link, id));
            for (name, service) in &state.services {
                for s in service.servers.iter().filter(|s| s.is_here()) {
                    session.put(serve_frame(s.number, name, &s.types, s.shared, s.made));
                }
            }
            state.changed(&mut after);
            session
        };
        after.run(&self.graph);
        self.flush(&session);
        Ok(id)
    }

    /// The session of a node that `takes` this link, or a new one.
    fn session(
        &self,
        state: &mut State,
        remote: &Remote,
        mut takes: impl FnMut(&Arc<Session>) -> bool,
    ) -> Arc<Session> {
        let is_its = |session: &&Arc<Session>| session.remote.node == remote.node;
        if let Some(session) = state.sessions.iter().filter(is_its).find(|s| takes(s)) {
            return Arc::clone(session);
        }
        let number = state.number();
        let session = Session::new(number, remote.clone(), Links::topic(), &self.kick);
        let taken = takes(&session);
        debug_assert!(taken, "a new session takes every link");
        state.sessions.push(Arc::clone(&session));
        session
    }

    /// A link to another node is gone.
    pub(crate) fn left(&self, id: SubscriptionId) {
        let mut after = After::default();
        {
            let mut state = self.state.lock();
            let Some(session) = state.sessions.iter().find(|s| s.left(id)).cloned() else {
                return;
            };
            // Nobody else would say that it is over.
            if !session.had_inlet() {
                state.sessions.retain(|s| s.number != session.number);
            }
            // Those who stand in line look again, and find another server or none.
            for server in state.services.values().flat_map(|s| &s.servers) {
                if let Place::There(its, flow) = &server.at
                    && its.number == session.number
                {
                    let line = std::mem::take(&mut flow.lock().line);
                    after
                        .wakers
                        .extend(line.into_iter().filter_map(|s| s.waker));
                }
            }
            state.changed(&mut after);
        }
        after.run(&self.graph);
    }

    /// A link from another node. False if the node has ended.
    pub(crate) fn opened(&self, from: &Remote, inlet: Box<dyn Inlet>) -> bool {
        let mut inlet = Some(inlet);
        {
            let mut state = self.state.lock();
            if state.closed {
                return false;
            }
            self.session(&mut state, from, |session| {
                let Some(open) = inlet.take() else {
                    return false;
                };
                inlet = session.open(open).err();
                inlet.is_none()
            });
        }
        self.kick.kick();
        true
    }

    /// See [`Sought::look`](crate::transport::Sought::look).
    pub(crate) fn look(&self) -> bool {
        if self.is_told.load(Ordering::Acquire) {
            return false;
        }
        let sessions = self.state.lock().sessions.clone();
        let has_news = sessions.iter().any(|session| session.has_news());
        let is_new = has_news && !self.is_told.swap(true, Ordering::AcqRel);
        if is_new {
            self.kick.kick();
        }
        is_new
    }

    /// All that there is to do. For the dispatcher alone.
    pub(crate) fn turn(&self) {
        // Before it takes: what comes later is told again.
        self.is_told.store(false, Ordering::Release);
        let sessions = self.state.lock().sessions.clone();
        for session in &sessions {
            self.take_all(session);
        }
        loop {
            let woken = self.woken.take();
            if woken.is_empty() {
                break;
            }
            for serving in woken {
                self.step(&serving);
            }
        }
        for session in &sessions {
            self.tell_taken(session);
            if session.has_backlog() {
                self.flush(session);
            }
        }
    }

    fn take_all(&self, session: &Arc<Session>) {
        for _ in 0..AT_ONCE {
            match session.take() {
                Came::Frame(lease) => {
                    let made = lease.stamp().published;
                    // Copied, so that its memory goes back at once, and whatever the other process does meanwhile.
                    let bytes = lease.copied();
                    drop(lease);
                    if let Err(what) = self.came(session, &bytes, made) {
                        let label = &session.remote.label;
                        let text =
                            format!("{label} does not keep to the protocol of services: {what}");
                        mproc_runtime::hook::remote(&text);
                        return self.over(session, &text);
                    }
                }
                Came::Nothing => return,
                Came::Ended(why) => return self.over(session, &why),
            }
        }
        // There may be more, and others have their turns before that.
        self.kick.kick();
    }

    /// The error is nonsense, for people.
    fn came(&self, session: &Arc<Session>, bytes: &[u8], made: Instant) -> Result<(), String> {
        match Frame::read(bytes)? {
            Some(Frame::Serve {
                server,
                shared,
                name,
                request,
                reply,
            }) => {
                Name::new(name).map_err(|error| error.to_string())?;
                let types = Types::elsewhere(request, reply);
                self.served_elsewhere(session, server, name, types, shared, made)?;
            }
            Some(Frame::Unserve { server }) => {
                let mut after = After::default();
                let is_it = |s: &Server| {
                    s.number == server
                        && matches!(&s.at, Place::There(its, _) if its.number == session.number)
                };
                self.state.lock().remove(&mut after, is_it);
                after.run(&self.graph);
            }
            Some(Frame::Request { call, server, body }) => {
                self.request(session, call, server, body)?;
            }
            Some(Frame::Taken { server, count }) => self.taken(session, server, count)?,
            Some(Frame::Cancel { call }) => {
                let under_way = session.servings.lock().remove(&call);
                if let Some(under_way) = under_way {
                    cancel(session, &under_way);
                }
            }
            Some(Frame::Reply { call, body }) => {
                self.answered(session, call, Ok(body.to_vec()));
            }
            Some(Frame::Failure { call, number, text }) => {
                self.answered(session, call, Err(ServiceError::from_wire(number, text)));
            }
            None => {}
        }
        Ok(())
    }

    fn served_elsewhere(
        &self,
        session: &Arc<Session>,
        number: u64,
        name: &str,
        types: Types,
        shared: bool,
        made: Instant,
    ) -> Result<(), String> {
        let server = Arc::new(Server {
            number,
            types,
            shared,
            made,
            busy: AtomicUsize::new(0),
            at: Place::There(Arc::clone(session), Mutex::default()),
        });
        let own = self.own_node();
        let mut after = After::default();
        let (lost, sessions) = {
            let mut state = self.state.lock();
            let is_its = |s: &&Arc<Server>| matches!(&s.at, Place::There(its, _) if its.number == session.number);
            let servers = state.services.values().flat_map(|s| &s.servers);
            if servers.filter(is_its).count() >= SERVERS_MAX {
                return Err(format!("more than {SERVERS_MAX} servers"));
            }
            let service = state.service(name);
            let its = service.servers.iter().filter(is_its);
            if its.into_iter().any(|s| s.number == number) {
                return Ok(());
            }
            // Two that were made before their nodes had met: the younger one makes way, at its own node.
            let lost: Vec<_> = service
                .servers
                .iter()
                .filter(|s| s.is_here() && !(s.shared && shared) && server.is_before(s, own))
                .map(|s| s.number)
                .collect();
            service.servers.push(Arc::clone(&server));
            state.changed(&mut after);
            if !lost.is_empty() {
                let is_it = |s: &Server| s.is_here() && lost.contains(&s.number);
                state.remove(&mut after, is_it);
            }
            lost.iter().for_each(|lost| state.put_unserve(*lost));
            (lost, state.sessions.clone())
        };
        after.run(&self.graph);
        for _ in lost {
            let whereabouts = server.whereabouts();
            mproc_runtime::hook::remote(&format!(
                "service {name:?} is not served here any more: {whereabouts} has served it for longer, and not both are shared"
            ));
        }
        sessions.iter().for_each(|session| self.flush(session));
        Ok(())
    }

    /// What other nodes know this one by.
    fn own_node(&self) -> [u8; 16] {
        self.graph
            .upgrade()
            .and_then(|graph| graph.made_transport())
            .map_or([u8::MAX; 16], |transport| transport.node())
    }

    fn request(
        &self,
        session: &Arc<Session>,
        call: u64,
        server: u64,
        body: &[u8],
    ) -> Result<(), String> {
        if session.backlog() > BACKLOG_MAX {
            return Err("it asks, and does not take the answers".into());
        }
        let found = {
            let state = self.state.lock();
            state.services.values().find_map(|service| {
                let mut servers = service.servers.iter();
                let server = servers.find(|s| s.is_here() && s.number == server)?;
                Some((Arc::clone(server), Arc::clone(&service.counts)))
            })
        };
        // For a server that has ended nothing is counted: who asks will hear of that, and numbers that never were one's cost
        // nothing.
        if found.is_some() {
            let mut taken = session.taken.lock();
            let taken = taken.entry(server).or_default();
            taken.came += 1;
            if taken.came - taken.told > WINDOW {
                return Err(format!("more than {WINDOW} requests for one server"));
            }
        }
        let serving = match found.as_ref().map(|(server, _)| &server.at) {
            Some(Place::Here(local, _)) => {
                local.serve(body, &self.woken, server, (session.number, call))
            }
            _ => Err(ServiceError::NoServer),
        };
        if let Some((_, counts)) = &found {
            counts.add_request();
        }
        let counts = found.map(|(_, counts)| counts);
        match (serving, counts) {
            (Ok(serving), Some(counts)) => {
                let under_way = UnderWay {
                    serving: Arc::clone(&serving),
                    counts,
                };
                let other = session.servings.lock().insert(call, under_way);
                if let Some(other) = other {
                    cancel(session, &other);
                    return Err(format!("call {call} came twice"));
                }
                self.step(&serving);
            }
            (serving, counts) => {
                let error = serving.err().unwrap_or(ServiceError::NoServer);
                if counts.is_some() {
                    session.taken.lock().entry(server).or_default().count += 1;
                }
                let frame = Outgoing::small(failure(call, &error));
                self.reply(session, frame, counts.as_deref());
            }
        }
        Ok(())
    }

    /// A request of another node goes on.
    fn step(&self, serving: &Arc<dyn Serving>) {
        let (session, call) = serving.call();
        let session = {
            let state = self.state.lock();
            state.sessions.iter().find(|s| s.number == session).cloned()
        };
        let Some(session) = session.filter(|s| s.servings.lock().contains_key(&call)) else {
            // Its session is over, or it was cancelled.
            return;
        };
        let step = Arc::clone(serving).step();
        if step.is_taken {
            let mut taken = session.taken.lock();
            taken.entry(serving.server()).or_default().count += 1;
        }
        if let Some((bytes, is_reply)) = step.answer {
            let under_way = session.servings.lock().remove(&call);
            let about = match is_reply {
                true => About::Reply(call),
                false => About::Other,
            };
            let frame = Outgoing {
                bytes,
                about,
                made: None,
            };
            let counts = under_way.map(|under_way| under_way.counts);
            self.reply(&session, frame, counts.as_deref());
        }
    }

    fn reply(&self, session: &Arc<Session>, frame: Outgoing, counts: Option<&Counts>) {
        let mut unsent = Unsent::new();
        let is_sent = session.send(frame, &mut unsent);
        self.tell_unsent(session, unsent);
        if let Some(counts) = counts {
            counts.add_reply(is_sent);
        }
    }

    fn tell_taken(&self, session: &Arc<Session>) {
        let tell: Vec<_> = {
            let mut taken = session.taken.lock();
            let due = taken
                .iter_mut()
                .filter(|(_, taken)| taken.count - taken.told >= TAKEN_TOLD);
            due.map(|(server, taken)| {
                taken.told = taken.count;
                (*server, taken.count)
            })
            .collect()
        };
        let mut unsent = Unsent::new();
        for (server, count) in tell {
            let frame = Frame::Taken { server, count };
            session.send(Outgoing::small(frame.to_bytes()), &mut unsent);
        }
        self.tell_unsent(session, unsent);
    }

    fn taken(&self, session: &Arc<Session>, server: u64, count: u64) -> Result<(), String> {
        let sent = {
            let mut state = self.state.lock();
            let State {
                services, calls, ..
            } = &mut *state;
            let mut servers = services.values().flat_map(|s| &s.servers);
            let flow = servers.find_map(|s| match &s.at {
                Place::There(its, flow) if its.number == session.number && s.number == server => {
                    Some(flow)
                }
                _ => None,
            });
            // It may have ended since.
            let Some(flow) = flow else {
                return Ok(());
            };
            let mut flow = flow.lock();
            if count < flow.taken || count > flow.sent {
                return Err(format!("it has taken {count} of {} requests", flow.sent));
            }
            flow.taken = count;
            flow.send(session, server, calls)
        };
        self.flush(session);
        let wakers = sent.into_iter().filter_map(|standing| standing.waker);
        wakers.for_each(Waker::wake);
        Ok(())
    }

    fn answered(&self, session: &Session, call: u64, result: Result<Vec<u8>, ServiceError>) {
        let sent = {
            let mut state = self.state.lock();
            let is_its = |sent: &Sent| sent.session == session.number;
            // Else it was cancelled meanwhile.
            match state.calls.get(&call).is_some_and(is_its) {
                true => state.calls.remove(&call),
                false => None,
            }
        };
        if let Some(sent) = sent {
            sent.slot.complete(result);
        }
    }

    /// Another node is gone, or talks nonsense.
    fn over(&self, session: &Arc<Session>, why: &str) {
        session.end();
        let mut after = After::default();
        let calls = {
            let mut state = self.state.lock();
            state.sessions.retain(|s| s.number != session.number);
            let is_its =
                |s: &Server| matches!(&s.at, Place::There(its, _) if its.number == session.number);
            state.remove(&mut after, is_its);
            let (its, others) = std::mem::take(&mut state.calls)
                .into_iter()
                .partition(|(_, sent)| sent.session == session.number);
            state.calls = others;
            let its: BTreeMap<u64, Sent> = its;
            its
        };
        after.run(&self.graph);
        for (_, sent) in calls {
            let text = format!("{}: {why}", session.remote.label);
            sent.slot.complete(Err(ServiceError::Gone(text)));
        }
        let servings = std::mem::take(&mut *session.servings.lock());
        for under_way in servings.into_values() {
            cancel(session, &under_way);
        }
    }
}

/// Nobody waits for a request of another node any more.
fn cancel(session: &Session, under_way: &UnderWay) {
    let UnderWay { serving, counts } = under_way;
    if serving.cancel() {
        let mut taken = session.taken.lock();
        taken.entry(serving.server()).or_default().count += 1;
    }
    counts.add_cancelled_there();
}
