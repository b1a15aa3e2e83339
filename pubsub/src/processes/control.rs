//! All that connections decide. It runs on the watch's thread only, and holds no lock while it calls others.

use super::bells::Home;
use super::core::Core;
use super::line::Line;
use super::outlet::Outlet;
use super::peer::PeerState;
use super::source::PeerSource;
use super::surveying::{INSPECT, REPORT, Surveys};
use super::wire;
use crate::id::{SubscriptionId, TopicId};
use crate::inspect::{Asking, NodeReport};
use crate::transport::{Offered, Sought};
use mproc_shm::{
    Announce, Connection, Detach, DetachReason, Event, Frame, Next, NodeId, Peer, Source,
    WatchHandle, Withdraw,
};
use std::collections::BTreeMap;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// What other threads want of the control.
pub(super) enum Command {
    Met(Box<Peer>),
    Offer(Arc<dyn Offered>),
    Withdraw(TopicId),
    Seek(Arc<dyn Sought>, Arc<Home>),
    Forget(SubscriptionId),
    Reconsider,
    /// A publisher's end was closed by the layer above.
    CloseLink {
        connection: u64,
        number: u32,
    },
    /// A subscriber's end has said that it has ended.
    Drained {
        connection: u64,
        number: u32,
    },
    /// What a link holds makes no sense.
    Violated {
        connection: u64,
        number: u32,
        why: String,
    },
    Survey(Asking, Option<Instant>, Duration),
    /// Nobody waits for some of the surveys any more.
    ForgetSurveys,
    NotMet(NodeId),
    Read {
        survey: u64,
        node: NodeId,
        report: Box<Result<NodeReport, String>>,
    },
}

/// A topic that this node publishes, or published while links stay.
pub(super) struct Offer {
    pub(super) offered: Arc<dyn Offered>,
    pub(super) is_active: bool,
    /// There while there are links.
    pub(super) outlet: Option<Arc<Outlet>>,
}

/// A subscription of this node.
pub(super) struct Seeker {
    pub(super) sought: Arc<dyn Sought>,
    pub(super) home: Arc<Home>,
}

/// What a peer sent cannot be, and why. The connection is closed.
pub(super) type Nonsense = String;

pub(super) struct Control {
    /// The core has the control until it is closed.
    pub(super) core: Arc<Core>,
    pub(super) offers: BTreeMap<u64, Offer>,
    pub(super) seekers: BTreeMap<SubscriptionId, Seeker>,
    /// By the number of the connection.
    pub(super) peers: BTreeMap<u64, PeerState>,
    pub(super) surveys: Surveys,
    next_connection: u64,
}

impl Control {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            offers: BTreeMap::new(),
            seekers: BTreeMap::new(),
            peers: BTreeMap::new(),
            surveys: Surveys::default(),
            next_connection: 0,
        }
    }

    fn carry_out(&mut self, command: Command) {
        match command {
            Command::Met(peer) => self.met(*peer),
            Command::Offer(offered) => self.offer(offered),
            Command::Withdraw(id) => self.withdraw(id),
            Command::Seek(sought, home) => self.seek(sought, home),
            Command::Forget(id) => self.forget(id),
            Command::Reconsider => self.reconsider(),
            Command::CloseLink { connection, number } => self.close_link(connection, number),
            Command::Drained { connection, number } => self.drained(connection, number),
            Command::Violated {
                connection,
                number,
                why,
            } => self.violated(connection, number, &why),
            Command::Survey(asking, deadline, watch) => self.survey(asking, deadline, watch),
            Command::ForgetSurveys => self.finish_surveys(),
            Command::NotMet(node) => self.not_met(node),
            Command::Read {
                survey,
                node,
                report,
            } => self.read(survey, node, *report),
        }
        self.count();
    }

    pub(super) fn count(&self) {
        let open = self.peers.values().filter(|peer| peer.is_open);
        let links = |peer: &PeerState| peer.incoming.len() + peer.outgoing.len();
        let reports = &self.core.reports;
        reports.peers.store(open.count(), Relaxed);
        let links = self.peers.values().map(links).sum();
        reports.links.store(links, Relaxed);
    }

    fn met(&mut self, peer: Peer) {
        let Peer {
            connection: Connection { socket, process },
            identity,
            agreed,
        } = peer;
        // It came again, perhaps before the end of the old connection was seen here.
        let is_old = |peer: &PeerState| peer.identity.node == identity.node;
        let old: Vec<_> = self.peers.iter().filter(|(_, peer)| is_old(peer)).collect();
        let old: Vec<_> = old.into_iter().map(|(connection, _)| *connection).collect();
        for connection in old {
            self.connection_over(connection, None);
            // From now on the new connection tells of the end of the process, unless something is out.
            if !self.prune(connection)
                && let Some(old) = self.peers.remove(&connection)
            {
                old.line.forget();
            }
        }
        let connection = self.next_connection;
        self.next_connection += 1;
        let socket = Arc::new(socket);
        let watch = self.core.watch.clone();
        let line = Arc::new(Line::new(Arc::clone(&socket), watch.clone()));
        let source = PeerSource::new(&self.core, connection, socket, process, &line);
        let is_own_larger = self.core.node > identity.node;
        let state = PeerState::new(&line, identity, is_own_larger, agreed.features);
        self.peers.insert(connection, state);
        for offer in self.offers.values().filter(|offer| offer.is_active) {
            self.announce(&line, &*offer.offered);
        }
        if watch.add("peer", source).is_err() {
            self.peers.remove(&connection);
        }
        self.ask_in_surveys(connection);
        self.finish_surveys();
    }

    pub(super) fn announce(&self, line: &Line, offered: &dyn Offered) {
        let key = offered.key();
        // A topic whose values stay in the process is nothing to others.
        let Some(topic) = wire::topic(key) else {
            return;
        };
        let roles = Announce::PUBLISHES;
        let frame = Frame::Announce(Announce { roles, topic });
        if let Err(error) = line.send(&frame, &[]) {
            let label = key.label();
            let text = format!("topic {label:?} is not published to other processes: {error}");
            self.core.reports.tell_once(text);
        }
    }

    fn offer(&mut self, offered: Arc<dyn Offered>) {
        let id = offered.key().id.get();
        if let Some(offer) = self.offers.get_mut(&id) {
            // More may be known of its type since: a schema.
            let is_said = offer.offered.key() == offered.key();
            if std::mem::replace(&mut offer.is_active, true) && is_said {
                return;
            }
            offer.offered = Arc::clone(&offered);
        } else {
            let offer = Offer {
                offered: Arc::clone(&offered),
                is_active: true,
                outlet: None,
            };
            self.offers.insert(id, offer);
        }
        for peer in self.peers.values().filter(|peer| peer.is_open) {
            self.announce(&peer.line, &*offered);
        }
    }

    fn withdraw(&mut self, id: TopicId) {
        let topic = id.get();
        let Some(offer) = self.offers.get_mut(&topic) else {
            return;
        };
        offer.is_active = false;
        let roles = Announce::PUBLISHES;
        let frame = Frame::Withdraw(Withdraw { roles, topic });
        for peer in self.peers.values().filter(|peer| peer.is_open) {
            let _ = peer.line.send(&frame, &[]);
        }
        self.tidy(topic);
    }

    /// Lets go of a topic's memory when it has no links, and of the topic if it is not published either.
    pub(super) fn tidy(&mut self, topic: u64) {
        let has_links = |peer: &PeerState| peer.outgoing.values().any(|link| link.topic == topic);
        if self.peers.values().any(has_links) {
            return;
        }
        if let Some(offer) = self.offers.get_mut(&topic) {
            let outlet = offer.outlet.take();
            if !offer.is_active {
                self.offers.remove(&topic);
            }
            drop(outlet);
        }
    }

    /// What a peer has sent.
    pub(super) fn frame(
        &mut self,
        connection: u64,
        frame: Frame<'_>,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), Nonsense> {
        if !self.peers.get(&connection).is_some_and(|peer| peer.is_open) {
            return Ok(());
        }
        let done = match frame {
            Frame::Announce(announce) => self.announced(connection, &announce),
            Frame::Withdraw(withdraw) => self.withdrawn(connection, withdraw),
            Frame::Attach(attach) => self.attach(connection, &attach, descriptors),
            Frame::Accept(accept) => self.accepted(connection, accept, descriptors),
            Frame::Refuse(refuse) => self.refused(connection, &refuse),
            Frame::Segment(segment) => self.segment(connection, segment, descriptors),
            Frame::Detach(detach) => self.detached(connection, &detach),
            Frame::Retire(retire) => self.retire(connection, retire),
            Frame::Retired(retired) => self.retired(connection, retired),
            Frame::Other { kind, body } if kind == INSPECT => {
                self.inspect(connection, body, &descriptors)
            }
            Frame::Other { kind, body } if kind == REPORT => {
                self.reported(connection, body, descriptors)
            }
            Frame::Hello(_) => Err("it said hello twice".into()),
            // Of a later version.
            _ => Ok(()),
        };
        self.count();
        if let Err(why) = &done {
            self.core.reports.violations.fetch_add(1, Relaxed);
            if let Some(peer) = self.peers.get(&connection) {
                peer.detach(Detach::ALL, DetachReason::NONSENSE, why);
            }
        }
        done
    }

    /// How many peers publish these topics, again.
    pub(super) fn recount(&self, topics: impl IntoIterator<Item = u64>) {
        for topic in topics {
            let has = |peer: &&PeerState| peer.topics.contains_key(&topic);
            let count = self.peers.values().filter(has).count();
            let before = {
                let mut publishers = self.core.publishers.lock();
                if count == 0 {
                    publishers.remove(&topic).unwrap_or(0)
                } else {
                    publishers.insert(topic, count).unwrap_or(0)
                }
            };
            if before != count
                && let Some(node) = self.core.neighbourhood.upgrade()
            {
                node.publishers_changed(wire::topic_id(topic));
            }
        }
    }
}

/// Carries out the commands of other threads.
pub(super) struct Desk {
    core: Arc<Core>,
    /// Some time that has passed.
    made: Instant,
}

impl Desk {
    pub(super) fn new(core: &Arc<Core>) -> Self {
        Self {
            core: Arc::clone(core),
            made: Instant::now(),
        }
    }
}

impl Source for Desk {
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn deadline(&self) -> Option<Instant> {
        if self.core.has_commands() {
            return Some(self.made);
        }
        let due = *self.core.survey_due.lock();
        [self.core.again_at(), due].into_iter().flatten().min()
    }

    fn on_event(&mut self, _: Event, now: Instant, _: &WatchHandle) -> Next {
        if self.core.take_again(now) {
            self.core.with_control(Control::reconsider);
        }
        if self.core.take_survey_due(now) {
            self.core.with_control(|control| control.surveys_due(now));
        }
        for command in self.core.take_commands() {
            self.core.with_control(|control| control.carry_out(command));
        }
        Next::Keep
    }
}
