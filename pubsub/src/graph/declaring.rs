//! Topics and their publishers are declared, and offered to other nodes.

use super::matching::is_internal;
use super::wiring::Wiring;
use super::{Graph, has_ended};
use crate::events::Event;
use crate::id::{SubscriptionId, TopicId};
use crate::monitor::Monitor;
use crate::msg::Msg;
use crate::publisher::{Publisher, PublisherOptions};
use crate::raw;
use crate::remote_link::RemoteLink;
use crate::subscriber::{Afterwards, Late};
use crate::topic::Topic;
use crate::topic_core::{AnyTopic, TopicCore, type_label};
use crate::transport::Neighbourhood as _;
use mproc_runtime::{Error, ErrorKind, Name, Runtime};
use std::sync::Arc;

impl Graph {
    /// Offers to other nodes what samples of the topic arrive at.
    pub(crate) fn offer(self: &Arc<Self>, runtime: &Runtime, from: TopicId) -> Result<(), Error> {
        let reached: Vec<_> = {
            let wiring = self.wiring.lock();
            let reached = wiring.reached(from);
            let declared = reached.iter().filter_map(|id| wiring.topics.get(id));
            declared.cloned().collect()
        };
        for topic in reached {
            let id = topic.id();
            if is_internal(topic.name()) {
                continue;
            }
            let Some(offered) = topic.offered(Arc::downgrade(self), runtime) else {
                continue;
            };
            if let Some(transport) = self.transport(runtime)? {
                transport.offer(offered);
                self.publishers_changed(id);
            }
        }
        Ok(())
    }

    /// A link to a subscription of another node joins.
    pub(crate) fn join_link<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        core: &Arc<TopicCore<T>>,
        link: &Arc<RemoteLink<T>>,
    ) -> Result<SubscriptionId, Error> {
        let (graph, link_id) = (Arc::downgrade(self), link.id_of());
        link.set_monitor(Monitor::new(graph, core.label(), link_id));
        let mut after = Afterwards::default();
        let mut late = Late::new(link.clone(), link.capacity());
        {
            let wiring = self.wiring.lock();
            if wiring.closed {
                return Err(has_ended(format!("cannot join {:?}", core.label())));
            }
            core.add_own(&late);
            wiring.relink(core.id, Some(&mut late), &mut after);
        }
        after.run();
        let id = late.subscriber.id();
        self.join(id, &mut [(core.clone(), Box::new(late))]);
        self.tell_joined(&**core, 1);
        Ok(id)
    }

    /// Declares a topic, or finds it.
    pub(crate) fn declare<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
    ) -> Result<Arc<TopicCore<T>>, Error> {
        let mut after = Afterwards::default();
        let declared = {
            let mut wiring = self.wiring.lock();
            self.declare_in(&mut wiring, topic, &mut after)
        };
        after.run();
        let (core, joined) = declared?;
        self.tell_joined(&*core, joined);
        Ok(core)
    }

    /// Also returns how many subscriptions have joined the topic, because they wait for any that match.
    pub(super) fn declare_in<T: ?Sized + Send + Sync + 'static>(
        &self,
        wiring: &mut Wiring,
        topic: &Topic<T>,
        after: &mut Afterwards,
    ) -> Result<(Arc<TopicCore<T>>, usize), Error> {
        let label = topic.label();
        let conflict = |what: String| {
            let text = format!("cannot declare topic {label:?}: {what}");
            Error::new(ErrorKind::TypeConflict, text)
        };
        if wiring.closed {
            return Err(has_ended(format!("cannot declare topic {label:?}")));
        }
        raw::check_schema(topic)?;
        let wanted = || type_label(&topic.info(), topic.is_raw());
        if let Some(known) = wiring.topics.get(&topic.id()) {
            if known.name() != topic.name() {
                return Err(conflict(format!(
                    "topic {:?} has the same id, {:?}",
                    known.label(),
                    topic.id()
                )));
            }
            let Ok(core) = known.clone().as_any().downcast::<TopicCore<T>>() else {
                return Err(conflict(format!(
                    "it has type {}, not {}",
                    known.type_label(),
                    wanted()
                )));
            };
            if core.codec.kind() != topic.codec() {
                return Err(conflict(format!(
                    "its values travel as {:?}, not as {:?}",
                    core.codec.kind(),
                    topic.codec()
                )));
            }
            core.announce(topic).map_err(conflict)?;
            return Ok((core, 0));
        }
        // A topic that is called by id has no name; one whose name is empty has the id of that.
        if !topic.name().is_empty() || topic.id() == TopicId::from_name("") {
            Name::new(topic.name()).map_err(|error| {
                Error::new(
                    ErrorKind::InvalidName,
                    format!("cannot declare a topic: {error}"),
                )
            })?;
            if topic.name().contains('*') {
                let text = format!("cannot declare topic {label:?}: * is for patterns");
                return Err(Error::new(ErrorKind::InvalidName, text));
            }
        }
        for other in wiring.wired_with(topic.id()) {
            if let Some(other) = wiring.topics.get(&other)
                && other.type_label() != wanted()
            {
                return Err(conflict(format!(
                    "it is connected with {:?}, which has type {}, not {}",
                    other.label(),
                    other.type_label(),
                    wanted()
                )));
            }
        }
        let core = TopicCore::new(topic, self.gate.clone());
        let any: Arc<dyn AnyTopic> = core.clone();
        wiring.topics.insert(topic.id(), any.clone());
        let mut joined = 0;
        for subscription in &wiring.patterns {
            // One of another type is not added: such a topic is simply not what the pattern asked for.
            if subscription.matches.matches(any.name(), any.id())
                && (subscription.attach)(&any).is_some()
            {
                joined += 1;
            }
        }
        wiring.relink(topic.id(), None, after);
        Ok((core, joined))
    }

    /// A publisher of `topic`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TypeConflict`], naming both, if the topic has another type, travels otherwise, or shares its id with
    /// another name; [`ErrorKind::InvalidName`]; [`ErrorKind::Closed`] if the node has ended.
    pub fn publisher<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
    ) -> Result<Publisher<T>, Error> {
        self.publisher_with(runtime, topic, PublisherOptions::default())
    }

    /// As [`publisher`](Self::publisher), with options.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher), and [`ErrorKind::InvalidSetting`] for a bound of 0 samples in flight.
    pub fn publisher_with<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        options: PublisherOptions,
    ) -> Result<Publisher<T>, Error> {
        if options.allows_nothing() {
            let text = format!(
                "cannot publish on {:?}: a bound on samples in flight must be at least 1, not 0",
                topic.label()
            );
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        self.check_here()?;
        let core = self.declare(topic)?;
        let publisher = Publisher::new(self, runtime, core.clone(), options);
        self.offer(runtime, topic.id())?;
        self.tell(Event::PublisherMatched {
            topic: topic.label(),
            publishers: core.publisher_count(),
        });
        Ok(publisher)
    }

    /// The node's own publisher of dynamic messages on a topic.
    pub(crate) fn msg_publisher(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<Msg>,
    ) -> Result<Publisher<Msg>, Error> {
        if let Some(known) = self.msgs.lock().get(&topic.id()) {
            return Ok(known.clone());
        }
        let made = self.publisher(runtime, topic)?;
        // If another was first, this one is closed when the lock is released, which is an event.
        Ok(self
            .msgs
            .lock()
            .entry(topic.id())
            .or_insert_with(|| made.clone())
            .clone())
    }
}
