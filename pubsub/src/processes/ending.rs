//! The control's part for what ends: links, connections, processes, this node.

use super::control::{Control, Nonsense};
use super::wire;
use mproc_shm::{Detach, DetachReason};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

impl Control {
    /// A peer has ended a link, or all.
    pub(super) fn detached(
        &mut self,
        connection: u64,
        detach: &Detach<'_>,
    ) -> Result<(), Nonsense> {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return Ok(());
        };
        let Detach { link, reason, text } = *detach;
        if reason == DetachReason::NONSENSE {
            self.core.reports.violations.fetch_add(1, Relaxed);
            let what = if text.is_empty() {
                "no more is said"
            } else {
                text
            };
            let text = format!("{} does not understand this process: {what}", peer.label());
            self.core.reports.tell(&text);
        }
        let why = format!("{}: {reason}", peer.label());
        if link == Detach::ALL {
            peer.is_leaving = reason == DetachReason::LEAVING;
            for link in peer.incoming.values() {
                link.end(why.clone(), false);
            }
            peer.requests.clear();
            let topics: Vec<_> = std::mem::take(&mut peer.topics).into_keys().collect();
            let links: Vec<_> = peer.outgoing.keys().copied().collect();
            self.recount(topics);
            for number in links {
                self.end_outgoing(connection, number);
            }
        } else if peer.is_own(link) {
            self.end_outgoing(connection, link);
        } else if let Some(link) = peer.incoming.get(&link) {
            // It is removed when the inlet says that it has ended.
            link.end(why, false);
        }
        Ok(())
    }

    pub(super) fn violated(&mut self, connection: u64, number: u32, why: &str) {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return;
        };
        let is_own = peer.is_own(number);
        let topic = if is_own {
            peer.outgoing.get(&number).map(|link| link.topic)
        } else {
            peer.incoming.remove(&number).map(|link| link.topic)
        };
        // It was told already, if it is not there.
        let Some(topic) = topic else {
            return;
        };
        if peer.is_open {
            peer.detach(number, DetachReason::NONSENSE, why);
        }
        let key = if is_own {
            self.offers.get(&topic).map(|offer| offer.offered.key())
        } else {
            peer.topics.get(&topic)
        };
        let name = key.map_or_else(|| wire::topic_id(topic).to_string(), |key| key.label());
        let label = peer.label();
        let text =
            format!("{label} does not keep to the protocol on a link of topic {name:?}: {why}");
        self.core.reports.violation(&text);
        if is_own {
            self.end_outgoing(connection, number);
        }
    }

    /// Nothing comes any more, or nothing that makes sense. True if the end of the process has to be waited for.
    pub(super) fn connection_over(&mut self, connection: u64, why: Option<String>) -> bool {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return false;
        };
        if std::mem::replace(&mut peer.is_open, false) {
            peer.line.close();
            peer.requests.clear();
            self.core.inspector.forget(connection);
            let is_leaving = peer.is_leaving;
            let label = peer.label().to_owned();
            let node = peer.identity.node;
            let broken = why
                .as_ref()
                .map(|why| format!("its connection was closed: {why}"));
            for link in peer.incoming.values() {
                link.end(format!("the connection to {label} was lost"), false);
            }
            let topics: Vec<_> = std::mem::take(&mut peer.topics).into_keys().collect();
            let links: Vec<_> = peer.outgoing.keys().copied().collect();
            self.recount(topics);
            for number in links {
                self.end_outgoing(connection, number);
            }
            match broken {
                _ if is_leaving => self.ended_in_surveys(node, None),
                Some(why) => self.ended_in_surveys(node, Some(&why)),
                None => self.lost_in_surveys(connection),
            }
            if !is_leaving {
                let reports = &self.core.reports;
                reports.lost_connections.fetch_add(1, Relaxed);
                if let Some(why) = why {
                    reports.tell(&format!("the connection to {label} is closed: {why}"));
                }
                if let Some(rendezvous) = self.core.rendezvous() {
                    rendezvous.lost(node);
                }
            }
        }
        // Of a process that has not said that it leaves, the socket may have to be removed, too.
        let is_leaving = self
            .peers
            .get(&connection)
            .is_none_or(|peer| peer.is_leaving);
        let waits = self.prune(connection) || !is_leaving;
        if !waits {
            self.peers.remove(&connection);
        }
        self.count();
        waits
    }

    /// Forgets links of which nothing is out. True if others are left.
    pub(super) fn prune(&mut self, connection: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return false;
        };
        peer.held.retain(|(outlet, id)| outlet.holds(*id));
        !peer.held.is_empty()
    }

    /// The whole process is gone: what it had comes back, and what it queued can still be taken.
    pub(super) fn process_ended(&mut self, connection: u64) {
        let Some(peer) = self.peers.get_mut(&connection) else {
            return;
        };
        let identity = peer.identity;
        let why = format!("{} has ended", peer.label());
        for link in peer.incoming.values() {
            link.end(why.clone(), true);
        }
        // Its end is no loss of the connection.
        let has_left = std::mem::replace(&mut peer.is_leaving, true);
        let outgoing = peer.outgoing.values();
        let mut held: Vec<_> = outgoing
            .map(|link| (Arc::clone(&link.outlet), link.id))
            .collect();
        held.append(&mut peer.held);
        if !has_left {
            self.ended_in_surveys(identity.node, Some("its process has ended"));
        }
        // Before publishers are told: then they find the room.
        for (outlet, id) in held {
            outlet.reap(id);
        }
        self.connection_over(connection, None);
        self.peers.remove(&connection);
        self.count();
        if let Some(rendezvous) = self.core.rendezvous() {
            // If it fails, the next who starts removes the socket.
            let _ = rendezvous.ended(&identity);
        }
    }

    /// The node leaves its domain. What is queued at others stays there.
    pub(super) fn leave(&mut self) {
        self.leave_surveys();
        for peer in self.peers.values().filter(|peer| peer.is_open) {
            peer.detach(Detach::ALL, DetachReason::LEAVING, "");
        }
        let mut outlets: Vec<_> = self
            .offers
            .values_mut()
            .filter_map(|o| o.outlet.take())
            .collect();
        for peer in self.peers.values() {
            for link in peer.incoming.values() {
                link.end("this node has left its domain".into(), false);
            }
            outlets.extend(peer.outgoing.values().map(|link| Arc::clone(&link.outlet)));
            outlets.extend(peer.held.iter().map(|(outlet, _)| Arc::clone(outlet)));
        }
        for outlet in outlets {
            outlet.close();
        }
        for peer in self.peers.values() {
            peer.line.close();
        }
        self.peers.clear();
        self.offers.clear();
        self.seekers.clear();
        self.count();
    }
}
