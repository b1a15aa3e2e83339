//! What all programs of the domain have reported, put together: topics, services and processors across processes.

use crate::failure::{Failure, Outcome, nearest};
use mproc::{
    CodecKind, NodeReport, PatternSnapshot, PublisherSnapshot, ServiceSnapshot, SilentNode,
    SubscriptionSnapshot, Survey, TopicSnapshot, TypeInfo,
};
use std::collections::BTreeMap;

/// All that is known of a domain at one moment.
#[derive(Debug, Default)]
pub(crate) struct World {
    /// By program and process number.
    pub(crate) nodes: Vec<NodeReport>,
    /// Those that were found and do not answer.
    pub(crate) silent: Vec<SilentNode>,
}

/// Something of a node.
#[derive(Debug)]
pub(crate) struct Of<'a, T> {
    pub(crate) node: &'a NodeReport,
    pub(crate) what: &'a T,
}

/// A topic, across all nodes that publish or subscribe to it.
#[derive(Debug)]
pub(crate) struct TopicView<'a> {
    /// Its name, or its id as text.
    pub(crate) name: &'a str,
    /// What each node that has declared it says of its type: more than one if they differ.
    pub(crate) types: Vec<TypeInfo>,
    pub(crate) declared: Vec<Of<'a, TopicSnapshot>>,
    pub(crate) publishers: Vec<Of<'a, PublisherSnapshot>>,
    /// As the subscribers' own nodes count them.
    pub(crate) subscriptions: Vec<Of<'a, SubscriptionSnapshot>>,
    /// Subscriptions to whatever matches, of nodes that have not declared the topic.
    pub(crate) patterns: Vec<Of<'a, PatternSnapshot>>,
    /// Those who look on: not counted among the subscriptions. As their own nodes count them, over all topics.
    pub(crate) taps: Vec<Of<'a, PatternSnapshot>>,
    /// The ways from publishers to subscriptions of other nodes, as the publishers' nodes count them.
    pub(crate) links: Vec<Of<'a, SubscriptionSnapshot>>,
}

impl<'a> TopicView<'a> {
    /// The type, as the first node that publishes says, else as the first that has declared it.
    pub(crate) fn info(&self) -> Option<&TypeInfo> {
        self.types.first()
    }

    /// How many subscriptions there are, without taps.
    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len() + self.patterns.len()
    }

    /// Adds subscriptions of a node that match and belong to no topic.
    fn add_patterns(&mut self, node: &'a NodeReport) {
        let declared = self.declared.iter();
        let own = declared.filter(|of| of.node.node.id == node.node.id);
        let own: Vec<_> = own.flat_map(|of| &of.what.subscriptions).collect();
        // The library's own topics do not leave their process.
        let types: Vec<_> = self
            .types
            .iter()
            .filter(|_| !is_internal(self.name))
            .collect();
        for what in &node.snapshot.patterns {
            let is_tap = what.subscription.tap;
            let is_of_node = own
                .iter()
                .any(|s| s.node.is_none() && s.id == what.subscription.id);
            let leaves = |info: &TypeInfo| info.codec != CodecKind::Local;
            let is_met = |info: &&TypeInfo| leaves(info) && what.wants(self.name, info);
            if is_of_node && !is_tap || !is_of_node && !types.iter().any(is_met) {
                continue;
            }
            let list = match is_tap {
                true => &mut self.taps,
                false => &mut self.patterns,
            };
            list.push(Of { node, what });
        }
    }
}

/// A service, across all nodes that serve or call it.
#[derive(Debug)]
pub(crate) struct ServiceView<'a> {
    pub(crate) name: &'a str,
    /// Nodes that have a server of it.
    pub(crate) servers: Vec<Of<'a, ServiceSnapshot>>,
    /// Nodes that call it or know of it, without those that serve it.
    pub(crate) others: Vec<Of<'a, ServiceSnapshot>>,
}

impl<'a> ServiceView<'a> {
    /// How many servers there are.
    pub(crate) fn server_count(&self) -> u64 {
        self.servers.iter().map(|of| of.what.servers).sum()
    }

    /// Nodes that have called it.
    pub(crate) fn callers(&self) -> impl Iterator<Item = &Of<'a, ServiceSnapshot>> {
        let all = self.servers.iter().chain(&self.others);
        all.filter(|of| of.what.calls > 0)
    }

    /// The types of its requests and replies, as the first that knows them says.
    pub(crate) fn types(&self) -> Option<(&str, &str)> {
        let all = self.servers.iter().chain(&self.others);
        all.map(|of| (of.what.request_type.as_str(), of.what.reply_type.as_str()))
            .find(|(request, _)| !request.is_empty())
    }
}

/// Topics and services of the library itself are under this.
pub(crate) fn is_internal(name: &str) -> bool {
    name.starts_with("mproc/")
}

impl World {
    pub(crate) fn new(survey: Survey) -> Self {
        let mut world = Self {
            nodes: survey.reports,
            silent: survey.silent,
        };
        world.nodes.sort_by(|a, b| {
            let key = |report: &NodeReport| (report.node.program.clone(), report.node.pid);
            key(a).cmp(&key(b)).then_with(|| a.node.id.cmp(&b.node.id))
        });
        world.silent.sort_by_key(|silent| silent.pid);
        world
    }

    /// The node with this id.
    pub(crate) fn node(&self, id: &str) -> Option<&NodeReport> {
        self.nodes.iter().find(|report| report.node.id == id)
    }

    /// What people call a node: the program and the number of its process.
    pub(crate) fn label(report: &NodeReport) -> String {
        format!("{}[{}]", report.node.program, report.node.pid)
    }

    /// What people call the node with this id, also of one that has not reported.
    pub(crate) fn label_of(&self, id: &str) -> String {
        self.node(id)
            .map_or_else(|| id.chars().take(8).collect(), Self::label)
    }

    /// All topics, by name.
    pub(crate) fn topics(&self) -> Vec<TopicView<'_>> {
        let mut views = BTreeMap::<&str, TopicView<'_>>::new();
        for node in &self.nodes {
            for topic in &node.snapshot.topics {
                let view = views.entry(&topic.name).or_insert_with(|| TopicView {
                    name: &topic.name,
                    types: Vec::new(),
                    declared: Vec::new(),
                    publishers: Vec::new(),
                    subscriptions: Vec::new(),
                    patterns: Vec::new(),
                    taps: Vec::new(),
                    links: Vec::new(),
                });
                let info = topic.info();
                let is_new = !view
                    .types
                    .iter()
                    .any(|known| known.type_hash == info.type_hash && known.codec == info.codec);
                if is_new {
                    // What publishers say of it comes first.
                    let at = if topic.publishers.is_empty() || !view.publishers.is_empty() {
                        view.types.len()
                    } else {
                        0
                    };
                    view.types.insert(at, info);
                }
                view.declared.push(Of { node, what: topic });
                view.publishers
                    .extend(topic.publishers.iter().map(|what| Of { node, what }));
                for what in &topic.subscriptions {
                    let list = match what.node {
                        Some(_) => &mut view.links,
                        // It is among the patterns of its node.
                        None if what.tap => continue,
                        None => &mut view.subscriptions,
                    };
                    list.push(Of { node, what });
                }
            }
        }
        let mut views: Vec<_> = views.into_values().collect();
        for view in &mut views {
            self.nodes.iter().for_each(|node| view.add_patterns(node));
        }
        views
    }

    /// All services, by name.
    pub(crate) fn services(&self) -> Vec<ServiceView<'_>> {
        let mut views = BTreeMap::<&str, ServiceView<'_>>::new();
        for node in &self.nodes {
            for service in &node.snapshot.services {
                let view = views.entry(&service.name).or_insert_with(|| ServiceView {
                    name: &service.name,
                    servers: Vec::new(),
                    others: Vec::new(),
                });
                let list = if service.servers > 0 {
                    &mut view.servers
                } else {
                    &mut view.others
                };
                list.push(Of {
                    node,
                    what: service,
                });
            }
        }
        views.into_values().collect()
    }

    /// The topic of this name.
    ///
    /// The failure names one that is called nearly so.
    pub(crate) fn topic(&self, name: &str) -> Outcome<TopicView<'_>> {
        let mut topics = self.topics();
        match topics.iter().position(|topic| topic.name == name) {
            Some(at) => Ok(topics.swap_remove(at)),
            None => {
                let near = nearest(name, topics.iter().map(|topic| topic.name));
                Err(self.nothing("topic", name, near, "mproc list topics"))
            }
        }
    }

    /// The service of this name.
    ///
    /// The failure names one that is called nearly so.
    pub(crate) fn service(&self, name: &str) -> Outcome<ServiceView<'_>> {
        let mut services = self.services();
        match services.iter().position(|service| service.name == name) {
            Some(at) => Ok(services.swap_remove(at)),
            None => {
                let near = nearest(name, services.iter().map(|service| service.name));
                Err(self.nothing("service", name, near, "mproc list services"))
            }
        }
    }

    fn nothing(&self, kind: &str, name: &str, near: Option<&str>, list: &str) -> Failure {
        let silent = match self.silent.len() {
            0 => String::new(),
            n => format!(", and {n} do not answer"),
        };
        let failure = Failure::not_found(format!(
            "no {kind} {name:?}: {} nodes were asked{silent}",
            self.nodes.len()
        ));
        match near {
            Some(near) => failure.hint(format!("{near:?}, which there is")),
            None => failure.hint(list),
        }
    }
}
