//! Which topics there are, and what arrives where: connections and relays.

use super::matching::{Matches, is_internal};
use super::{Graph, has_ended};
use crate::id::{SubscriptionId, TopicId};
use crate::raw::TypeInfo;
use crate::snapshot::SubscriptionSnapshot;
use crate::subscriber::{Afterwards, Joining};
use crate::topic_core::AnyTopic;
use mproc_runtime::{Error, ErrorKind, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Default)]
pub(super) struct Wiring {
    /// The node has ended: nothing is declared any more.
    pub(super) closed: bool,
    pub(super) topics: BTreeMap<TopicId, Arc<dyn AnyTopic>>,
    /// Samples of the first arrive at subscribers of the second.
    pub(super) connections: BTreeSet<(TopicId, TopicId)>,
    /// Relays publish on the second what comes on the first. One for each relay.
    pub(super) relays: Vec<(TopicId, TopicId)>,
    /// Names in connections, for topics that are not declared yet.
    pub(super) names: BTreeMap<TopicId, String>,
    pub(super) patterns: Vec<PatternSubscription>,
}

/// Adds a subscription to a topic, and returns its [`Late`](crate::subscriber::Late); `None` if the topic is of no type for it.
pub(super) type Attach = Box<dyn Fn(&Arc<dyn AnyTopic>) -> Option<Box<dyn Joining>> + Send + Sync>;

/// A subscription that is attached to every topic that matches, now and later.
pub(super) struct PatternSubscription {
    pub(super) id: SubscriptionId,
    pub(super) matches: Arc<Matches>,
    pub(super) attach: Attach,
    /// Closes its queue: the node has ended.
    pub(super) close: Box<dyn Fn() + Send + Sync>,
    /// The type that topics must have, if one is wanted.
    pub(super) info: Option<TypeInfo>,
    pub(super) snapshot: Box<dyn Fn() -> SubscriptionSnapshot + Send + Sync>,
}

impl Wiring {
    /// What samples of `id` arrive at: itself and what it is connected to, however far.
    pub(super) fn reached(&self, id: TopicId) -> BTreeSet<TopicId> {
        let mut reached = BTreeSet::from([id]);
        let mut next = vec![id];
        while let Some(from) = next.pop() {
            for (_, to) in self.connections.iter().filter(|(a, _)| *a == from) {
                if reached.insert(*to) {
                    next.push(*to);
                }
            }
        }
        reached
    }

    /// What samples of `id` arrive at, over relays, too.
    pub(super) fn leads(&self, id: TopicId) -> BTreeSet<TopicId> {
        let mut reached = BTreeSet::from([id]);
        let mut next = vec![id];
        while let Some(from) = next.pop() {
            let ways = self.connections.iter().chain(&self.relays);
            for (_, to) in ways.filter(|(a, _)| *a == from) {
                if reached.insert(*to) {
                    next.push(*to);
                }
            }
        }
        reached
    }

    /// Everything in the same group of connections, in either direction.
    pub(super) fn wired_with(&self, id: TopicId) -> BTreeSet<TopicId> {
        let mut group = BTreeSet::from([id]);
        loop {
            let before = group.len();
            for (a, b) in &self.connections {
                if group.contains(a) || group.contains(b) {
                    group.extend([*a, *b]);
                }
            }
            if group.len() == before {
                group.remove(&id);
                return group;
            }
        }
    }

    /// Makes the lists anew of all topics whose samples arrive at `changed`, or that `changed` leads to.
    pub(super) fn relink(
        &self,
        changed: TopicId,
        mut late: Option<&mut dyn Joining>,
        after: &mut Afterwards,
    ) {
        for topic in self.topics.values() {
            let reached = self.reached(topic.id());
            if !reached.contains(&changed) {
                continue;
            }
            let reached: Vec<_> = reached
                .iter()
                .filter_map(|id| self.topics.get(id).cloned())
                .collect();
            topic.relink(&reached, late.as_deref_mut(), after);
        }
    }
}

impl Graph {
    /// True if samples of `from` arrive at subscribers of `to`.
    pub(crate) fn leads_to(&self, from: TopicId, to: TopicId) -> bool {
        let wiring = self.wiring.lock();
        !wiring.connections.is_empty() && wiring.reached(from).contains(&to)
    }

    /// True if samples of `from` arrive at subscribers of a topic that matches, over connections of this node.
    pub(crate) fn leads_to_match(&self, from: TopicId, matches: &Matches) -> bool {
        let wiring = self.wiring.lock();
        let is_it = |id: &TopicId| {
            let name = wiring.names.get(id);
            name.is_some_and(|name| matches.matches(name, *id))
        };
        !wiring.connections.is_empty() && wiring.reached(from).iter().any(is_it)
    }

    /// Makes samples of topic `from` arrive at subscribers of topic `to`, too. Either may be declared later.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if it would close a circle; [`ErrorKind::TypeConflict`] if the two have different types;
    /// [`ErrorKind::InvalidName`]; [`ErrorKind::Closed`] if the node has ended.
    pub fn connect(&self, from: &str, to: &str) -> Result<(), Error> {
        let cannot = |kind, what: String| {
            Error::new(kind, format!("cannot connect {from:?} to {to:?}: {what}"))
        };
        for name in [from, to] {
            Name::new(name).map_err(|e| cannot(ErrorKind::InvalidName, e.to_string()))?;
        }
        let (a, b) = (TopicId::from_name(from), TopicId::from_name(to));
        let mut after = Afterwards::default();
        let mut wiring = self.wiring.lock();
        if wiring.closed {
            return Err(has_ended(format!("cannot connect {from:?} to {to:?}")));
        }
        if wiring.leads(b).contains(&a) {
            return Err(cannot(
                ErrorKind::Refused,
                format!("samples of {to:?} already arrive at {from:?}"),
            ));
        }
        // Every topic of one connected group has one type.
        let mut group = wiring.wired_with(a);
        group.extend(wiring.wired_with(b));
        group.extend([a, b]);
        let mut declared = group.iter().filter_map(|id| wiring.topics.get(id));
        if let Some(first) = declared.next()
            && let Some(other) = declared.find(|t| t.type_label() != first.type_label())
        {
            return Err(cannot(
                ErrorKind::TypeConflict,
                format!(
                    "{:?} has type {}, and {:?} has type {}",
                    first.label(),
                    first.type_label(),
                    other.label(),
                    other.type_label()
                ),
            ));
        }
        wiring.names.insert(a, from.to_owned());
        wiring.names.insert(b, to.to_owned());
        wiring.connections.insert((a, b));
        wiring.relink(a, None, &mut after);
        drop(wiring);
        after.run();
        self.wiring_changed();
        Ok(())
    }

    /// Ends a connection. False if there was none.
    pub fn disconnect(&self, from: &str, to: &str) -> bool {
        let pair = (TopicId::from_name(from), TopicId::from_name(to));
        let mut after = Afterwards::default();
        let had = {
            let mut wiring = self.wiring.lock();
            let had = wiring.connections.remove(&pair);
            if had {
                wiring.relink(pair.0, None, &mut after);
            }
            had
        };
        after.run();
        if had {
            self.wiring_changed();
        }
        had
    }

    /// A relay will lead from the first topic to the second.
    pub(crate) fn add_lead(
        &self,
        pair: (TopicId, TopicId),
        from: &str,
        to: &str,
    ) -> Result<(), Error> {
        let refused = |what: String| {
            let text = format!("cannot relay {from:?} to {to:?}: {what}");
            Error::new(ErrorKind::Refused, text)
        };
        if let Some(own) = [from, to].into_iter().find(|name| is_internal(name)) {
            return Err(refused(format!("{own:?} is the library's own")));
        }
        let mut wiring = self.wiring.lock();
        if wiring.leads(pair.1).contains(&pair.0) {
            return Err(refused(format!(
                "samples of {to:?} already arrive at {from:?}"
            )));
        }
        wiring.relays.push(pair);
        Ok(())
    }

    /// A relay has ended.
    pub(crate) fn remove_lead(&self, pair: (TopicId, TopicId)) {
        if !self.origin.is_here() {
            return;
        }
        let mut wiring = self.wiring.lock();
        if let Some(at) = wiring.relays.iter().position(|known| *known == pair) {
            wiring.relays.swap_remove(at);
        }
    }

    /// What subscriptions want of other nodes may be more or less now, and so may be what is offered to these.
    pub(super) fn wiring_changed(&self) {
        if let Some(transport) = self.made_transport() {
            transport.reconsider();
        }
    }
}
