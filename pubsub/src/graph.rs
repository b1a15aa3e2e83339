//! Who publishes and subscribes what in one node: declarations, patterns, connections.
//!
//! The graph's lock guards declarations and wiring. It is never taken by a publish. Lock order: graph, then topic, then
//! delivery. Nothing of the user's runs under it: what a change leaves to be done (wakers, drops) is collected in an
//! [`Afterwards`], and the filter of a subscription that joins is asked between two turns ([`Graph::join`]).

use crate::channel::{Channel, ChannelSubscription};
use crate::codec::CodecKind;
use crate::delivery::Delivery;
use crate::domain::DomainOptions;
use crate::events::{EVENTS, Event};
use crate::forked::{Origin, forked};
use crate::id::{SubscriptionId, TopicId};
use crate::inspect::{ConnectionSnapshot, PatternSnapshot, SendsSnapshot};
use crate::leases::Gate;
use crate::monitor::{Monitor, Telling};
use crate::msg::Msg;
use crate::pattern::Pattern;
use crate::processes::Processes;
use crate::publisher::{Publisher, PublisherOptions};
use crate::raw::{self, AsBytes, Raw, TypeInfo};
use crate::reader::RemoteNodes;
use crate::remote::{self, AsMessages, OfPattern, OfTopic, Receiver, Seeker};
use crate::remote_link::RemoteLink;
use crate::services::{Registry, ServiceSnapshot};
use crate::snapshot::{DomainSnapshot, SubscriptionSnapshot, TopicSnapshot};
use crate::subscriber::{Afterwards, Closed, Joining, Late, Subscriber};
use crate::subscription::{Subscription, SubscriptionOptions};
use crate::topic::{self, Topic};
use crate::topic_core::{AnyTopic, TopicCore, type_label};
use crate::transport::{Neighbourhood, Sought, Transport};
use mproc_runtime::{Error, ErrorKind, Name, Runtime, RuntimeCore, SendWatch, WaitSnapshot};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

/// What the node keeps: its end closes the graph, whoever else has that.
struct OfNode(Arc<Graph>);

impl Drop for OfNode {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The topics of a node.
pub struct Graph {
    wiring: Mutex<Wiring>,
    /// Closed while the whole node's publishers are paused.
    gate: Arc<Gate>,
    /// Publishes [`EVENTS`], made when somebody first listens to them.
    events: OnceLock<Publisher<Event>>,
    /// Publish what is sent without a receiver.
    msgs: Mutex<BTreeMap<TopicId, Publisher<Msg>>>,
    /// The domain that the node belongs to, if any.
    domain: OnceLock<DomainOptions>,
    /// The way to other nodes of the domain, made when the node joins.
    transport: Mutex<Option<Arc<dyn Transport>>>,
    /// Other nodes whose samples come here.
    remote_nodes: RemoteNodes,
    /// Held while the publishers of other nodes are counted.
    counting: Mutex<()>,
    /// Who serves what, made when it is first asked.
    services: OnceLock<Arc<Registry>>,
    /// Of the node, which keeps this.
    runtime: Weak<RuntimeCore>,
    /// When the node was made, by the time of day: asked once, so that it is always said alike.
    pub(crate) started_unix_ns: OnceLock<u64>,
    origin: Origin,
}

#[derive(Default)]
struct Wiring {
    /// The node has ended: nothing is declared any more.
    closed: bool,
    topics: BTreeMap<TopicId, Arc<dyn AnyTopic>>,
    /// Samples of the first arrive at subscribers of the second.
    connections: BTreeSet<(TopicId, TopicId)>,
    /// Relays publish on the second what comes on the first. One for each relay.
    relays: Vec<(TopicId, TopicId)>,
    /// Names in connections, for topics that are not declared yet.
    names: BTreeMap<TopicId, String>,
    patterns: Vec<PatternSubscription>,
}

/// Adds a subscription to a topic, and returns its [`Late`]; `None` if the topic is of no type for it.
type Attach = Box<dyn Fn(&Arc<dyn AnyTopic>) -> Option<Box<dyn Joining>> + Send + Sync>;

/// A topic, and a subscription that joins it.
type Join = (Arc<dyn AnyTopic>, Box<dyn Joining>);

/// Takes a subscription out again whose filter has panicked.
struct Leave<'a> {
    graph: &'a Graph,
    id: SubscriptionId,
}

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.graph.detach_id(self.id);
    }
}

/// A subscription that is attached to every topic that matches, now and later.
struct PatternSubscription {
    id: SubscriptionId,
    matches: Arc<Matches>,
    attach: Attach,
    /// Closes its queue: the node has ended.
    close: Box<dyn Fn() + Send + Sync>,
    /// The type that topics must have, if one is wanted.
    info: Option<TypeInfo>,
    snapshot: Box<dyn Fn() -> SubscriptionSnapshot + Send + Sync>,
}

/// The first segment of the names of the library's own topics: patterns match these only if they begin with it.
const INTERNAL: &str = "mproc";

pub(crate) fn is_internal(topic: &str) -> bool {
    topic
        .split_once('/')
        .is_some_and(|(first, _)| first == INTERNAL)
}

/// What a subscription to several topics matches.
pub(crate) enum Matches {
    Names(Pattern),
    Id(TopicId),
    Mid(u32),
    /// One topic, by what people call it: its name, or its id as text.
    Label(String),
}

impl Matches {
    pub(crate) fn matches(&self, name: &str, id: TopicId) -> bool {
        match self {
            Self::Names(pattern) => {
                !name.is_empty()
                    && (pattern.names(INTERNAL) || !is_internal(name))
                    && pattern.matches(name)
            }
            Self::Id(wanted) => id == *wanted,
            Self::Label(label) => topic::label(name, id) == *label,
            Self::Mid(mid) => !id.is_named() && id.mid() == *mid,
        }
    }
}

fn has_ended(cannot: String) -> Error {
    let text = format!("{cannot}: the node has ended");
    Error::new(ErrorKind::Closed, text)
}

impl Graph {
    /// The topics of this node.
    ///
    /// Once the node has ended they are closed, and nothing can be declared.
    pub fn of(runtime: &Runtime) -> Arc<Self> {
        let of_node = runtime.extension(|| {
            let wiring = Wiring {
                // A node lets go of its extensions after it says that it has ended, so this sees it.
                closed: runtime.has_ended(),
                ..Wiring::default()
            };
            OfNode(Arc::new(Self {
                wiring: Mutex::new(wiring),
                gate: Arc::default(),
                events: OnceLock::new(),
                msgs: Mutex::new(BTreeMap::new()),
                domain: OnceLock::new(),
                transport: Mutex::new(None),
                remote_nodes: RemoteNodes::default(),
                counting: Mutex::new(()),
                services: OnceLock::new(),
                runtime: Arc::downgrade(&runtime.shared()),
                started_unix_ns: OnceLock::new(),
                origin: Origin::now(),
            }))
        });
        of_node.0.clone()
    }

    /// The node has ended: whoever waits for a sample or to publish learns it.
    fn close(&self) {
        if !self.origin.is_here() {
            return;
        }
        let (topics, patterns) = {
            let mut wiring = self.wiring.lock();
            wiring.closed = true;
            (
                std::mem::take(&mut wiring.topics),
                std::mem::take(&mut wiring.patterns),
            )
        };
        for topic in topics.into_values() {
            topic.close_all();
        }
        for pattern in patterns {
            (pattern.close)();
        }
        if let Some(services) = self.services.get() {
            services.close();
        }
        let transport = self.transport.lock().take();
        if let Some(transport) = transport {
            transport.close();
        }
    }

    /// The node's services.
    pub(crate) fn services(self: &Arc<Self>, runtime: &Runtime) -> Arc<Registry> {
        let made = || Registry::new(&Arc::downgrade(self), runtime, self.wiring.lock().closed);
        self.services.get_or_init(made).clone()
    }

    /// Every service that the node serves, calls or knows of from other nodes, by name.
    pub fn service_snapshot(&self) -> Vec<ServiceSnapshot> {
        self.services
            .get()
            .map_or_else(Vec::new, |services| services.snapshot())
    }

    /// The node belongs to this domain: topics that it declares from now on are shared with the other nodes of the domain.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if it belongs to one already.
    pub fn join_domain(&self, options: DomainOptions) -> Result<(), Error> {
        self.domain.set(options).map_err(|options| {
            let text = format!(
                "cannot join domain {:?}: the node belongs to {:?}",
                options.name(),
                self.domain.get().map_or("none", DomainOptions::name)
            );
            Error::new(ErrorKind::Refused, text)
        })
    }

    /// What the node has to do with the other processes of its domain; `None` if it belongs to none.
    pub fn domain_snapshot(&self) -> Option<DomainSnapshot> {
        let domain = self.domain.get()?;
        Some(match self.made_transport() {
            Some(transport) => transport.snapshot(),
            // It has not joined it, or could not.
            None => DomainSnapshot {
                name: domain.name().to_owned(),
                ..DomainSnapshot::default()
            },
        })
    }

    /// The domain that the node belongs to, if any.
    pub fn domain(&self) -> Option<&str> {
        self.domain.get().map(DomainOptions::name)
    }

    /// The way to other nodes, if the node belongs to a domain and is not simulated. Made at the first call.
    pub(crate) fn transport(
        self: &Arc<Self>,
        runtime: &Runtime,
    ) -> Result<Option<Arc<dyn Transport>>, Error> {
        let Some(options) = self.domain.get().filter(|_| !runtime.is_simulated()) else {
            return Ok(None);
        };
        let mut transport = self.transport.lock();
        if transport.is_none() && !self.wiring.lock().closed {
            let node: Weak<dyn Neighbourhood> = Arc::<Self>::downgrade(self);
            *transport = Some(Processes::join(options.processes(), node)?);
        }
        Ok(transport.clone())
    }

    /// The transport, if it was needed before.
    pub(crate) fn made_transport(&self) -> Option<Arc<dyn Transport>> {
        self.transport.lock().clone()
    }

    /// As [`made_transport`](Self::made_transport); `None` in a forked child, too.
    pub(crate) fn made_transport_here(&self) -> Option<Arc<dyn Transport>> {
        let is_here = self.origin.is_here();
        is_here.then(|| self.made_transport()).flatten()
    }

    /// Joins the node's domain now, unless it is simulated or has none. Else it joins when it first needs to: to declare a topic
    /// that can leave the process, or a service.
    ///
    /// # Errors
    ///
    /// - [`ErrorKind::InvalidSetting`]: the domain's name, a number of its options, or what the environment says about the
    ///   directory.
    /// - [`ErrorKind::Io`]: the directory, a descriptor, memory or a thread was refused. The text says which, and what to do.
    /// - [`ErrorKind::Refused`]: processes share no topics on this system.
    ///
    /// A later attempt may succeed.
    pub fn join_now(self: &Arc<Self>, runtime: &Runtime) -> Result<(), Error> {
        self.transport(runtime).map(drop)
    }

    pub(crate) fn remote_nodes(&self) -> &RemoteNodes {
        &self.remote_nodes
    }

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

    /// Looks for a subscription's topics at other nodes.
    fn seek(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        sought: impl FnOnce() -> Arc<dyn Sought>,
    ) -> Result<(), Error> {
        if !is_internal(name)
            && let Some(transport) = self.transport(runtime)?
        {
            transport.seek(sought());
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

    /// The error: this process was forked from the one that the node belongs to.
    pub(crate) fn check_here(&self) -> Result<(), Error> {
        let here = self.origin.check();
        here.map_err(|_| forked("cannot declare a topic"))
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
    fn declare_in<T: ?Sized + Send + Sync + 'static>(
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

    /// A subscription to pull from.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher).
    pub fn subscription<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
    ) -> Result<Subscription<T>, Error> {
        self.subscription_with(runtime, topic, SubscriptionOptions::new())
    }

    /// As [`subscription`](Self::subscription), with options.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher), and [`ErrorKind::InvalidSetting`] for a capacity of 0.
    pub fn subscription_with<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
    ) -> Result<Subscription<T>, Error> {
        let delivery = options.delivery(runtime, topic.name(), topic.id())?;
        let subscription = Subscription::new(self, runtime, delivery.clone());
        self.attach_delivery(runtime, topic, &delivery)?;
        Ok(subscription)
    }

    /// A subscription as a crossbeam channel.
    ///
    /// # Errors
    ///
    /// As [`subscription_with`](Self::subscription_with).
    pub fn channel<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        options: SubscriptionOptions<T>,
    ) -> Result<ChannelSubscription<T>, Error> {
        if options.is_watched() {
            let text = format!(
                "cannot subscribe to {:?}: a channel has no water marks and no limit for leases",
                topic.label()
            );
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        let settings = options.settings(runtime, topic.name(), topic.id())?;
        let channel = Channel::new(runtime, topic.name(), topic.id(), settings);
        let capacity = channel.capacity();
        let subscription = ChannelSubscription {
            channel: channel.clone(),
            graph: Arc::downgrade(self),
        };
        self.attach(topic, channel.clone(), capacity)?;
        self.seek_topic(runtime, topic, channel)?;
        Ok(subscription)
    }

    /// A subscription to pull from, to every topic of `pattern` and type `T`, now and later. Topics of another type are
    /// left out, and so are the library's own, under `mproc/`, unless the pattern begins with `mproc/`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidName`] for an impossible pattern; [`ErrorKind::InvalidSetting`] for a capacity of 0;
    /// [`ErrorKind::Closed`] if the node has ended.
    pub fn subscription_matching<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        pattern: &str,
        options: SubscriptionOptions<T>,
    ) -> Result<Subscription<T>, Error> {
        let pattern = Pattern::new(pattern)?;
        let delivery = options.delivery(runtime, "", TopicId::from_name(&pattern.to_string()))?;
        let subscription = Subscription::new(self, runtime, delivery.clone());
        self.attach_matching(runtime, pattern, &delivery)?;
        Ok(subscription)
    }

    /// Attaches a queue to its topic, here and at other nodes. If it fails, whoever made the queue detaches it.
    pub(crate) fn attach_delivery<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        delivery: &Arc<Delivery<T>>,
    ) -> Result<(), Error> {
        if topic.id() != EVENTS.id() {
            let graph = Arc::downgrade(self);
            delivery.set_monitor(Monitor::new(graph, topic.label(), delivery.id_of()));
        }
        self.attach(topic, delivery.clone(), delivery.capacity())?;
        self.seek_topic(runtime, topic, delivery.clone())
    }

    fn seek_topic<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        topic: &Topic<T>,
        receiver: Arc<dyn Receiver<T>>,
    ) -> Result<(), Error> {
        if topic.codec() == CodecKind::Local {
            return Ok(());
        }
        let graph = Arc::downgrade(self);
        self.seek(runtime, topic.name(), || {
            let seeks = OfTopic {
                key: remote::key(topic.name(), topic.id(), &topic.info()),
                codec: topic.codec_ref(),
            };
            Arc::new(Seeker {
                receiver,
                graph,
                seeks,
            })
        })?;
        // Those that were met before the topic was declared.
        self.publishers_changed(topic.id());
        Ok(())
    }

    /// Attaches a queue to its topic of this node.
    fn attach<T: ?Sized + Send + Sync + 'static>(
        &self,
        topic: &Topic<T>,
        subscriber: Arc<dyn Subscriber<T>>,
        capacity: usize,
    ) -> Result<(), Error> {
        self.check_here()?;
        let mut after = Afterwards::default();
        let mut late = Late::new(subscriber, capacity);
        let declared = {
            let mut wiring = self.wiring.lock();
            let declared = self.declare_in(&mut wiring, topic, &mut after);
            if let Ok((core, _)) = &declared {
                core.add_own(&late);
                wiring.relink(topic.id(), Some(&mut late), &mut after);
            }
            declared
        };
        after.run();
        let (core, joined) = declared?;
        let id = late.subscriber.id();
        self.join(id, &mut [(core.clone(), Box::new(late))]);
        self.tell_joined(&*core, joined + 1);
        Ok(())
    }

    /// Goes on until a new subscription has joined each of these topics: it is told what history they keep, asks its
    /// filter, and comes again.
    ///
    /// Each value is asked about once, so this ends as soon as nothing is published while the filter runs.
    fn join(&self, id: SubscriptionId, joins: &mut [Join]) {
        let unless_it_panics = Leave { graph: self, id };
        loop {
            let mut after = Afterwards::default();
            // All are asked before any comes again: the lock is taken once for all.
            let asked: Vec<bool> = joins.iter_mut().map(|(_, late)| late.ask()).collect();
            if !asked.contains(&true) {
                break;
            }
            {
                let wiring = self.wiring.lock();
                for ((topic, late), asked) in joins.iter_mut().zip(asked) {
                    if asked {
                        wiring.relink(topic.id(), Some(&mut **late), &mut after);
                    }
                }
            }
            after.run();
        }
        std::mem::forget(unless_it_panics);
    }

    /// Attaches a queue to every topic of its type that `pattern` names, now and later.
    pub(crate) fn attach_matching<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        pattern: Pattern,
        delivery: &Arc<Delivery<T>>,
    ) -> Result<(), Error> {
        let subscriber = delivery.clone();
        let attach: Attach = Box::new(move |topic| {
            let core = topic.clone().as_any().downcast::<TopicCore<T>>().ok()?;
            let late = Late::<T>::new(subscriber.clone(), subscriber.capacity());
            core.add_own(&late);
            Some(Box::new(late))
        });
        let cannot = format!("cannot subscribe to {pattern:?}");
        let label = pattern.to_string();
        let matches = Arc::new(Matches::Names(pattern));
        self.monitor_matching(&matches, label, delivery);
        let info = match delivery.codec() {
            Some(codec) => (codec.hash(), codec.kind()),
            None => (0, CodecKind::Local),
        };
        let info = TypeInfo::new(std::any::type_name::<T>(), info.0, info.1);
        let is_closed = self.attach_where(matches.clone(), delivery, attach, Some(info));
        is_closed.map_err(|()| has_ended(cannot))?;
        let Some(codec) = delivery.codec() else {
            return Ok(());
        };
        let graph = Arc::downgrade(self);
        self.seek(runtime, "", || {
            Arc::new(Seeker {
                receiver: delivery.clone(),
                graph,
                seeks: OfPattern { matches, codec },
            })
        })
    }

    /// Attaches a queue of dynamic messages to every topic that matches, of whatever type, now and later.
    pub(crate) fn attach_msgs(
        self: &Arc<Self>,
        runtime: &Runtime,
        matches: Matches,
        delivery: &Arc<Delivery<Msg>>,
    ) -> Result<(), Error> {
        let queue = delivery.clone();
        let attach: Attach = Box::new(move |topic| Some(topic.add_msgs(&queue)));
        let matches = Arc::new(matches);
        let label = topic::label("", delivery.topic_id());
        self.monitor_matching(&matches, label, delivery);
        self.attach_where(matches.clone(), delivery, attach, None)
            .map_err(|()| has_ended("cannot subscribe to messages".to_owned()))?;
        let graph = Arc::downgrade(self);
        self.seek(runtime, "", || {
            Arc::new(Seeker {
                receiver: delivery.clone(),
                graph,
                seeks: AsMessages { matches },
            })
        })
    }

    /// Attaches a tap to every topic that matches, of whatever type, now and later.
    pub(crate) fn attach_raw(
        self: &Arc<Self>,
        runtime: &Runtime,
        matches: Matches,
        label: &str,
        delivery: &Arc<Delivery<Raw>>,
    ) -> Result<(), Error> {
        let queue = delivery.clone();
        let attach: Attach = Box::new(move |topic| Some(topic.add_raw(&queue)));
        let matches = Arc::new(matches);
        self.monitor_matching(&matches, label.to_owned(), delivery);
        self.attach_where(matches.clone(), delivery, attach, None)
            .map_err(|()| has_ended(format!("cannot tap {label:?}")))?;
        let graph = Arc::downgrade(self);
        self.seek(runtime, "", || {
            Arc::new(Seeker {
                receiver: delivery.clone(),
                graph,
                seeks: AsBytes::new(matches),
            })
        })
    }

    /// Has the queue tell of itself, unless events may come to it.
    fn monitor_matching<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        matches: &Matches,
        label: String,
        delivery: &Arc<Delivery<T>>,
    ) {
        if !matches.matches(EVENTS.name(), EVENTS.id()) {
            let graph = Arc::downgrade(self);
            delivery.set_monitor(Monitor::new(graph, label, delivery.id_of()));
        }
    }

    /// Attaches to every topic that matches and that `attach` can attach to, now and later. The error: the node has ended.
    fn attach_where<T: ?Sized + Send + Sync + 'static>(
        &self,
        matches: Arc<Matches>,
        delivery: &Arc<Delivery<T>>,
        attach: Attach,
        info: Option<TypeInfo>,
    ) -> Result<(), ()> {
        let (id, queue) = (delivery.id_of(), delivery.clone());
        let shown = delivery.clone();
        self.check_here().map_err(drop)?;
        let mut after = Afterwards::default();
        let mut joins: Vec<Join> = Vec::new();
        {
            let mut wiring = self.wiring.lock();
            if wiring.closed {
                return Err(());
            }
            let topics = wiring.topics.values();
            for topic in topics.filter(|topic| matches.matches(topic.name(), topic.id())) {
                // One of another type is not what was asked for, declared before or after.
                if let Some(late) = attach(topic) {
                    joins.push((topic.clone(), late));
                }
            }
            wiring.patterns.push(PatternSubscription {
                id,
                matches,
                attach,
                close: Box::new(move || queue.close(Closed::Unsubscribed)),
                info,
                snapshot: Box::new(move || shown.snapshot()),
            });
            for (topic, late) in &mut joins {
                wiring.relink(topic.id(), Some(&mut **late), &mut after);
            }
        }
        after.run();
        self.join(id, &mut joins);
        for (topic, _) in joins {
            self.tell_joined(&*topic, 1);
        }
        Ok(())
    }

    /// Takes a subscription out of all topics and closes its queue.
    pub(crate) fn detach<T: ?Sized + Send + Sync + 'static>(&self, delivery: &Arc<Delivery<T>>) {
        self.detach_id(delivery.id_of());
        delivery.close(Closed::Unsubscribed);
    }

    /// Takes a subscription out of all topics, here and at other nodes.
    pub(crate) fn detach_id(&self, id: SubscriptionId) {
        if !self.origin.is_here() {
            return;
        }
        if let Some(transport) = self.made_transport() {
            transport.forget(id);
        }
        self.detach_local(id);
    }

    pub(crate) fn detach_local(&self, id: SubscriptionId) {
        let mut gone = Vec::new();
        let mut after = Afterwards::default();
        let _pattern = {
            let mut wiring = self.wiring.lock();
            let patterns = &mut wiring.patterns;
            let at = patterns.iter().position(|p| p.id == id);
            let pattern = at.map(|at| patterns.remove(at));
            for topic in wiring.topics.values() {
                if topic.remove_own(id, &mut after) {
                    wiring.relink(topic.id(), None, &mut after);
                    gone.push((topic.label(), topic.subscriber_count()));
                }
            }
            pattern
        };
        after.run();
        for (topic, subscribers) in gone {
            self.tell(Event::SubscriberUnmatched { topic, subscribers });
        }
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
    fn wiring_changed(&self) {
        if let Some(transport) = self.made_transport() {
            transport.reconsider();
        }
    }

    /// Makes every publisher of the node wait until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.gate.pause();
    }

    /// Lets the node's publishers go on.
    pub fn resume(&self) {
        self.gate.resume();
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

    pub(crate) fn find(&self, id: TopicId) -> Option<Arc<dyn AnyTopic>> {
        self.wiring.lock().topics.get(&id).cloned()
    }

    /// True if events are published.
    pub(crate) fn has_events(&self) -> bool {
        // A child that was forked tells nothing, and asks for no lock.
        self.origin.is_here()
            && self
                .events
                .get()
                .is_some_and(|publisher| publisher.subscriber_count() > 0)
    }

    /// Publishes an event, if anybody listens.
    pub(crate) fn tell(&self, event: Event) {
        if let Some(publisher) = self.events.get()
            && !event.is_about(EVENTS.name())
        {
            let _telling = Telling::begin();
            // Events never hold anybody back.
            let _nobody_waits = publisher.try_publish(event);
        }
    }

    /// So many subscriptions have joined a topic.
    fn tell_joined(&self, topic: &dyn AnyTopic, joined: usize) {
        let subscribers = topic.subscriber_count();
        for later in (0..joined).rev() {
            self.tell(Event::SubscriberMatched {
                topic: topic.label(),
                subscribers: subscribers.saturating_sub(later),
            });
        }
    }

    pub(crate) fn publisher_gone(&self, topic: &dyn AnyTopic) {
        if topic.own_publisher_count() == 0
            && let Some(transport) = self.made_transport()
        {
            transport.withdraw(topic.id());
        }
        self.tell(Event::PublisherUnmatched {
            topic: topic.label(),
            publishers: topic.publisher_count(),
        });
    }

    /// From now on [`EVENTS`] are published.
    ///
    /// # Errors
    ///
    /// As [`publisher`](Self::publisher).
    pub fn publish_events(self: &Arc<Self>, runtime: &Runtime) -> Result<(), Error> {
        if self.events.get().is_none() {
            let publisher = self.publisher(runtime, &EVENTS)?;
            let _other_was_first = self.events.set(publisher);
        }
        Ok(())
    }

    /// Subscriptions to whatever matches, in the order in which they were made.
    pub(crate) fn pattern_snapshots(&self) -> Vec<PatternSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let wiring = self.wiring.lock();
        let patterns = wiring.patterns.iter().map(|of| PatternSnapshot {
            pattern: of.matches.to_string(),
            info: of.info.clone(),
            subscription: (of.snapshot)(),
        });
        patterns.collect()
    }

    /// Which topics are connected, by name.
    pub(crate) fn connection_snapshots(&self) -> Vec<ConnectionSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let wiring = self.wiring.lock();
        let name = |id| wiring.names.get(id).cloned();
        let connections = wiring.connections.iter().filter_map(|(from, to)| {
            let (from, to) = (name(from)?, name(to)?);
            Some(ConnectionSnapshot { from, to })
        });
        let mut connections: Vec<_> = connections.collect();
        connections.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
        connections
    }

    pub(crate) fn publishes_that_wait(&self) -> Vec<WaitSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let topics: Vec<_> = self.wiring.lock().topics.values().cloned().collect();
        topics.iter().flat_map(|topic| topic.waits()).collect()
    }

    /// Every topic, by name.
    pub fn snapshot(&self) -> Vec<TopicSnapshot> {
        if !self.origin.is_here() {
            return Vec::new();
        }
        let (topics, connections, names) = {
            let wiring = self.wiring.lock();
            (
                wiring.topics.values().cloned().collect::<Vec<_>>(),
                wiring.connections.clone(),
                wiring.names.clone(),
            )
        };
        let mut snapshots: Vec<_> = topics
            .iter()
            .map(|topic| {
                let mut snapshot = topic.snapshot();
                snapshot.connected_to = connections
                    .iter()
                    .filter(|(from, _)| *from == topic.id())
                    .filter_map(|(_, to)| names.get(to).cloned())
                    .collect();
                snapshot
            })
            .collect();
        snapshots.sort_by(|a, b| a.name.cmp(&b.name));
        snapshots
    }
}

impl Wiring {
    /// What samples of `id` arrive at: itself and what it is connected to, however far.
    fn reached(&self, id: TopicId) -> BTreeSet<TopicId> {
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
    fn leads(&self, id: TopicId) -> BTreeSet<TopicId> {
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
    fn wired_with(&self, id: TopicId) -> BTreeSet<TopicId> {
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
    fn relink(&self, changed: TopicId, mut late: Option<&mut dyn Joining>, after: &mut Afterwards) {
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

impl Neighbourhood for Graph {
    fn report(&self, sends: Option<SendsSnapshot>) -> Result<Vec<u8>, String> {
        let runtime = self.runtime.upgrade().map(Runtime::of_shared);
        let runtime = runtime.ok_or_else(|| "the node has ended".to_owned())?;
        Self::report(self, &runtime, sends)
    }

    fn watch_sends(&self) -> Option<SendWatch> {
        let runtime = self.runtime.upgrade().map(Runtime::of_shared)?;
        Some(runtime.watch_sends())
    }

    fn publishers_changed(&self, id: TopicId) {
        let (Some(topic), Some(transport)) = (self.find(id), self.made_transport()) else {
            return;
        };
        let (before, publishers) = {
            // Whoever has it last has read the number last.
            let _one_at_a_time = self.counting.lock();
            let before = topic.publisher_count();
            topic.note_publishers_elsewhere(transport.publishers(id));
            (before, topic.publisher_count())
        };
        let label = topic.label();
        for publishers in before + 1..=publishers {
            self.tell(Event::PublisherMatched {
                topic: label.clone(),
                publishers,
            });
        }
        for publishers in (publishers..before).rev() {
            self.tell(Event::PublisherUnmatched {
                topic: label.clone(),
                publishers,
            });
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let topics: Vec<_> = self
            .wiring
            .lock()
            .topics
            .values()
            .map(|t| topic::label(t.name(), t.id()))
            .collect();
        f.debug_struct("Graph").field("topics", &topics).finish()
    }
}
