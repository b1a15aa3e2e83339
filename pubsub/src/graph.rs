//! Who publishes and subscribes what in one node: declarations, patterns, connections.
//!
//! The graph's lock guards declarations and wiring. It is never taken by a publish. Lock order: graph, then topic, then
//! delivery. Nothing of the user's runs under it: what a change leaves to be done (wakers, drops) is collected in an
//! [`Afterwards`](crate::subscriber::Afterwards), and the filter of a subscription that joins is asked between two turns ([`Graph::join`]).
//!
//! | file | idea |
//! |---|---|
//! | `declaring.rs` | topics and their publishers are declared, and offered to other nodes |
//! | `matching.rs` | what a subscription to several topics matches |
//! | `subscribing.rs` | subscriptions join their topics, and leave them |
//! | `telling.rs` | events and snapshots |
//! | `wiring.rs` | which topics there are, and what arrives where |

mod declaring;
mod matching;
mod subscribing;
mod telling;
mod wiring;

use crate::domain::DomainOptions;
use crate::events::Event;
use crate::forked::{Origin, forked};
use crate::id::TopicId;
use crate::inspect::SendsSnapshot;
use crate::leases::Gate;
use crate::msg::Msg;
use crate::processes::Processes;
use crate::publisher::Publisher;
use crate::reader::RemoteNodes;
use crate::services::{Registry, ServiceSnapshot};
use crate::snapshot::DomainSnapshot;
use crate::topic;
use crate::topic_core::AnyTopic;
use crate::transport::{Neighbourhood, Transport};
pub(crate) use matching::{Matches, is_internal};
use mproc_runtime::{Error, ErrorKind, Runtime, RuntimeCore, SendWatch};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use wiring::Wiring;

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

    /// The error: this process was forked from the one that the node belongs to.
    pub(crate) fn check_here(&self) -> Result<(), Error> {
        let here = self.origin.check();
        here.map_err(|_| forked("cannot declare a topic"))
    }

    /// Makes every publisher of the node wait until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.gate.pause();
    }

    /// Lets the node's publishers go on.
    pub fn resume(&self) {
        self.gate.resume();
    }

    pub(crate) fn find(&self, id: TopicId) -> Option<Arc<dyn AnyTopic>> {
        self.wiring.lock().topics.get(&id).cloned()
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
