//! `mproc list`

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{self, Table, count, duration, note};
use crate::session::Session;
use crate::world::{Of, ServiceView, TopicView, World, is_internal};
use clap::{Args, ValueEnum};
use mproc::{CodecKind, NodeReport, Pattern, ProcessorSnapshot, SilentNode};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

/// Shows who is there: nodes, topics, processors and services.
///
/// Programs that do not answer are listed with the reason. What is under "mproc/" is the library's own, and is left out without
/// --internal.
///
/// With --json: an object with the arrays "nodes", "silent_nodes", "topics", "processors" and "services", those that were asked for.
/// Hashes of types and ids of topics are hexadecimal text.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc list                        all, with counts
  mproc list topics                 one kind
  mproc list topics 'robot/**'      those whose name matches
  mproc list processors --verbose   more columns
  mproc list --json | jq '.topics[].name'")]
pub(crate) struct Arguments {
    /// What to list; all four kinds if it is left out.
    #[arg(value_enum, default_value_t = What::All, value_name = "WHAT", hide_default_value = true)]
    what: What,
    /// Only names that match: "*" stands for one part between slashes, "**" for any number. Nodes go by their program's name.
    #[arg(value_name = "PATTERN")]
    pattern: Option<String>,
    /// More columns.
    #[arg(long, short)]
    verbose: bool,
    /// Also what is under "mproc/".
    #[arg(long)]
    internal: bool,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    All,
    Topics,
    Processors,
    Services,
    Nodes,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let pattern = match &arguments.pattern {
        Some(text) => Some(Pattern::new(text).map_err(|error| {
            Failure::new(Code::Usage, error.to_string()).hint("'robot/*/pose' or 'robot/**'")
        })?),
        None => None,
    };
    let session = Session::join(global)?;
    let world = session.look()?;
    let list = List::of(&world, arguments, pattern.as_ref());
    if arguments.json {
        return output::json_of_reports(&list.to_json());
    }
    let mut out = output::standard();
    write!(out, "{}", list.to_text(arguments))?;
    out.flush()?;
    if world.nodes.is_empty() && world.silent.is_empty() {
        note(&format!("nobody else is in domain {:?}", global.domain));
    }
    Ok(())
}

/// How values travel, in a word.
pub(crate) fn travels(codec: CodecKind) -> &'static str {
    match codec {
        CodecKind::Serde => "MessagePack",
        CodecKind::Plain => "plain",
        CodecKind::Slices => "slices",
        CodecKind::Local => "local",
        _ => "unknown",
    }
}

/// What a processor does now.
pub(crate) fn state(processor: &ProcessorSnapshot) -> String {
    if let Some(why) = &processor.ended {
        return format!("ended: {why}");
    }
    if processor.restarting {
        return "restarting".to_owned();
    }
    let handling = processor.handling_ns.map(|ns| {
        let message = processor
            .last_message_type
            .as_deref()
            .unwrap_or("a message");
        format!(
            "handling {message} for {}",
            duration(Duration::from_nanos(ns))
        )
    });
    match (handling, processor.stalled) {
        (Some(handling), _) => handling,
        (None, true) => "stalled: its outbox waits for room".to_owned(),
        (None, false) => "idle".to_owned(),
    }
}

/// The share of its node's life that it spent in handlers, in percent.
pub(crate) fn busy_percent(of: &Of<'_, ProcessorSnapshot>) -> f64 {
    let life = uptime(of.node).as_nanos().max(1) as f64;
    (of.what.busy_ns as f64 / life * 100.0).min(100.0)
}

/// For how long its node had been there when it reported.
pub(crate) fn uptime(report: &NodeReport) -> Duration {
    let ns = report
        .taken_unix_ns
        .saturating_sub(report.node.started_unix_ns);
    Duration::from_nanos(ns)
}

/// The types of a topic, in words: more than one is a conflict.
fn types(topic: &TopicView<'_>) -> String {
    let names: Vec<String> = topic
        .types
        .iter()
        .map(|t| without_modules(&t.type_name))
        .collect();
    match names.len() {
        0 | 1 => names.concat(),
        _ => format!("CONFLICT: {}", names.join(" / ")),
    }
}

/// A type's name as people write it: `Vec<String>` for `alloc::vec::Vec<alloc::string::String>`.
fn without_modules(type_name: &str) -> String {
    let mut shown = String::with_capacity(type_name.len());
    let mut word = String::new();
    let mut chars = type_name.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ':' && chars.peek() == Some(&':') {
            chars.next();
            word.clear();
        } else if c.is_alphanumeric() || c == '_' {
            word.push(c);
        } else {
            shown.push_str(&word);
            word.clear();
            shown.push(c);
        }
    }
    shown + &word
}

/// The nodes that have to do with something, each once.
fn nodes<'a>(reports: impl Iterator<Item = &'a NodeReport>) -> BTreeSet<String> {
    reports.map(World::label).collect()
}

#[derive(Debug)]
struct List<'a> {
    nodes: Option<Vec<&'a NodeReport>>,
    silent: Vec<&'a SilentNode>,
    topics: Option<Vec<TopicView<'a>>>,
    processors: Option<Vec<Of<'a, ProcessorSnapshot>>>,
    services: Option<Vec<ServiceView<'a>>>,
}

impl<'a> List<'a> {
    fn of(world: &'a World, arguments: &Arguments, pattern: Option<&Pattern>) -> Self {
        let is_asked_for = |what| arguments.what == What::All || arguments.what == what;
        let matches = |name: &str| pattern.is_none_or(|pattern| pattern.matches(name));
        let shows = |name: &str| (arguments.internal || !is_internal(name)) && matches(name);
        let processors = || {
            let all = world.nodes.iter().flat_map(|node| {
                let processors = node.snapshot.runtime.processors.iter();
                processors.map(move |what| Of { node, what })
            });
            let mut shown: Vec<_> = all.filter(|of| shows(&of.what.name)).collect();
            shown.sort_by(|a, b| a.what.name.cmp(&b.what.name));
            shown
        };
        Self {
            nodes: is_asked_for(What::Nodes).then(|| {
                let nodes = world.nodes.iter();
                nodes.filter(|node| matches(&node.node.program)).collect()
            }),
            silent: world.silent.iter().collect(),
            topics: is_asked_for(What::Topics).then(|| {
                let mut topics = world.topics();
                topics.retain(|topic| shows(topic.name));
                topics
            }),
            processors: is_asked_for(What::Processors).then(processors),
            services: is_asked_for(What::Services).then(|| {
                let mut services = world.services();
                services.retain(|service| shows(service.name));
                services
            }),
        }
    }

    fn to_text(&self, arguments: &Arguments) -> String {
        let mut text = String::new();
        let mut section = |title: &str, n: usize, table: Table| {
            if arguments.what == What::All {
                if !text.is_empty() {
                    text.push('\n');
                }
                text.push_str(&format!("{title} ({n})\n"));
            }
            if !table.is_empty() {
                text.push_str(&table.to_string());
            }
        };
        if let Some(nodes) = &self.nodes {
            section("Nodes", nodes.len(), node_table(nodes, arguments.verbose));
        }
        if let Some(topics) = &self.topics {
            section(
                "Topics",
                topics.len(),
                topic_table(topics, arguments.verbose),
            );
        }
        if let Some(processors) = &self.processors {
            let table = processor_table(processors, arguments.verbose);
            section("Processors", processors.len(), table);
        }
        if let Some(services) = &self.services {
            let table = service_table(services, arguments.verbose);
            section("Services", services.len(), table);
        }
        if !self.silent.is_empty() {
            text.push_str(&format!("\nDo not answer ({})\n", self.silent.len()));
            let mut table = Table::new(&[">PID", "ID", "WHY"]);
            for silent in &self.silent {
                table.row([
                    silent.pid.to_string(),
                    short(&silent.id),
                    silent.why.clone(),
                ]);
            }
            text.push_str(&table.to_string());
        }
        text
    }

    fn to_json(&self) -> ListJson<'_> {
        ListJson {
            nodes: self
                .nodes
                .as_ref()
                .map(|nodes| nodes.iter().map(|node| NodeJson::of(node)).collect()),
            silent_nodes: &self.silent,
            topics: self
                .topics
                .as_ref()
                .map(|topics| topics.iter().map(TopicJson::of).collect()),
            processors: self.processors.as_ref().map(|processors| {
                let rows = processors.iter().map(|of| OfNodeJson::of(of.node, of.what));
                rows.collect()
            }),
            services: self
                .services
                .as_ref()
                .map(|services| services.iter().map(ServiceJson::of).collect()),
        }
    }
}

/// The first digits of a node's id: enough to tell nodes apart.
pub(crate) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

fn node_table(nodes: &[&NodeReport], verbose: bool) -> Table {
    let mut titles = vec!["NODE", "ID", ">UP", ">PROCESSORS", ">TOPICS"];
    if verbose {
        titles.extend([
            "VERSION",
            ">DRIVERS",
            ">HANDLED",
            ">QUEUED",
            ">DEAD LETTERS",
            ">PEERS",
        ]);
    }
    let mut table = Table::new(&titles);
    for report in nodes {
        let snapshot = &report.snapshot;
        let mut row = vec![
            World::label(report),
            short(&report.node.id),
            duration(uptime(report)),
            snapshot.runtime.processors.len().to_string(),
            snapshot.topics.len().to_string(),
        ];
        if verbose {
            row.extend([
                report.node.version.clone(),
                snapshot.runtime.drivers.len().to_string(),
                count(snapshot.runtime.totals.handled),
                count(snapshot.runtime.totals.queued),
                count(snapshot.runtime.dead_letters),
                peers(report).map_or("-".to_owned(), |n| n.to_string()),
            ]);
        }
        table.row(row);
    }
    table
}

/// How many other nodes it is connected to, without this command's.
pub(crate) fn peers(report: &NodeReport) -> Option<u64> {
    let domain = report.snapshot.domain.as_ref()?;
    Some(domain.peers.saturating_sub(1))
}

fn topic_table(topics: &[TopicView<'_>], verbose: bool) -> Table {
    let mut titles = vec!["TOPIC", "TYPE", ">PUBLISHERS", ">SUBSCRIPTIONS", ">TAPS"];
    if verbose {
        titles.extend([
            "TRAVELS",
            ">PUBLISHED",
            ">QUEUED",
            ">DROPPED",
            ">HISTORY",
            "NODES",
        ]);
    }
    let mut table = Table::new(&titles);
    for topic in topics {
        let mut row = vec![
            topic.name.to_owned(),
            types(topic),
            topic.publishers.len().to_string(),
            topic.subscription_count().to_string(),
            topic.taps.len().to_string(),
        ];
        if verbose {
            let publishers = topic.publishers.iter();
            let subscriptions = topic.subscriptions.iter();
            row.extend([
                topic
                    .info()
                    .map_or("", |info| travels(info.codec))
                    .to_owned(),
                count(publishers.map(|of| of.what.published).sum()),
                count(subscriptions.clone().map(|of| of.what.queued).sum()),
                count(subscriptions.map(|of| of.what.dropped.total()).sum()),
                count(topic.declared.iter().map(|of| of.what.history).sum()),
                joined(nodes(topic.declared.iter().map(|of| of.node))),
            ]);
        }
        table.row(row);
    }
    table
}

fn joined(names: BTreeSet<String>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}

fn processor_table(processors: &[Of<'_, ProcessorSnapshot>], verbose: bool) -> Table {
    let mut titles = vec!["PROCESSOR", "NODE", ">QUEUED", ">HANDLED"];
    if verbose {
        titles.extend([
            ">HIGH WATER",
            ">BUSY",
            ">LONGEST",
            ">DROPPED",
            ">FAULTS",
            ">PANICS",
            ">RESTARTS",
            "DRIVER",
        ]);
    }
    titles.push("STATE");
    let mut table = Table::new(&titles);
    for of in processors {
        let p = of.what;
        let mut row = vec![
            p.name.clone(),
            World::label(of.node),
            count(p.queued),
            count(p.handled),
        ];
        if verbose {
            row.extend([
                count(p.high_water),
                format!("{:.1} %", busy_percent(of)),
                duration(Duration::from_nanos(p.longest_handler_ns)),
                count(p.dropped.total()),
                count(p.faults),
                count(p.panics),
                count(p.restarts),
                p.driver.clone(),
            ]);
        }
        row.push(state(p));
        table.row(row);
    }
    table
}

fn service_table(services: &[ServiceView<'_>], verbose: bool) -> Table {
    let mut titles = vec!["SERVICE", "REQUEST", "REPLY", ">SERVERS", ">CALLERS"];
    if verbose {
        titles.extend([">CALLS", ">ANSWERED", ">FAILED", "SERVED BY"]);
    }
    let mut table = Table::new(&titles);
    for service in services {
        let (request, reply) = service.types().unwrap_or(("", ""));
        let mut row = vec![
            service.name.to_owned(),
            without_modules(request),
            without_modules(reply),
            service.server_count().to_string(),
            service.callers().count().to_string(),
        ];
        if verbose {
            let sum = |of: fn(&mproc::ServiceSnapshot) -> u64| {
                count(service.callers().map(|caller| of(caller.what)).sum())
            };
            row.extend([
                sum(|s| s.calls),
                sum(|s| s.answered),
                sum(|s| s.failed),
                joined(nodes(service.servers.iter().map(|of| of.node))),
            ]);
        }
        table.row(row);
    }
    table
}

#[derive(Serialize)]
struct ListJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes: Option<Vec<NodeJson<'a>>>,
    silent_nodes: &'a [&'a SilentNode],
    #[serde(skip_serializing_if = "Option::is_none")]
    topics: Option<Vec<TopicJson<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processors: Option<Vec<OfNodeJson<'a, ProcessorSnapshot>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<ServiceJson<'a>>>,
}

#[derive(Serialize)]
struct NodeJson<'a> {
    #[serde(flatten)]
    node: &'a mproc::NodeInfo,
    uptime_s: f64,
    processors: usize,
    drivers: usize,
    topics: usize,
    services: usize,
    dead_letters: u64,
}

impl<'a> NodeJson<'a> {
    fn of(report: &'a NodeReport) -> Self {
        Self {
            node: &report.node,
            uptime_s: uptime(report).as_secs_f64(),
            processors: report.snapshot.runtime.processors.len(),
            drivers: report.snapshot.runtime.drivers.len(),
            topics: report.snapshot.topics.len(),
            services: report.snapshot.services.len(),
            dead_letters: report.snapshot.runtime.dead_letters,
        }
    }
}

/// Something of a node, with the node beside its own fields.
#[derive(Serialize)]
pub(crate) struct OfNodeJson<'a, T> {
    node: String,
    node_id: &'a str,
    #[serde(flatten)]
    what: &'a T,
}

impl<'a, T> OfNodeJson<'a, T> {
    pub(crate) fn of(node: &'a NodeReport, what: &'a T) -> Self {
        Self {
            node: World::label(node),
            node_id: &node.node.id,
            what,
        }
    }
}

#[derive(Serialize)]
struct TopicJson<'a> {
    name: &'a str,
    types: &'a [mproc::TypeInfo],
    publishers: usize,
    subscriptions: usize,
    taps: usize,
    links: usize,
    nodes: BTreeSet<String>,
}

impl<'a> TopicJson<'a> {
    fn of(topic: &'a TopicView<'a>) -> Self {
        Self {
            name: topic.name,
            types: &topic.types,
            publishers: topic.publishers.len(),
            subscriptions: topic.subscription_count(),
            taps: topic.taps.len(),
            links: topic.links.len(),
            nodes: nodes(topic.declared.iter().map(|of| of.node)),
        }
    }
}

#[derive(Serialize)]
struct ServiceJson<'a> {
    name: &'a str,
    request_type: &'a str,
    reply_type: &'a str,
    servers: u64,
    callers: usize,
    served_by: BTreeSet<String>,
}

impl<'a> ServiceJson<'a> {
    fn of(service: &'a ServiceView<'a>) -> Self {
        let (request_type, reply_type) = service.types().unwrap_or(("", ""));
        Self {
            name: service.name,
            request_type,
            reply_type,
            servers: service.server_count(),
            callers: service.callers().count(),
            served_by: nodes(service.servers.iter().map(|of| of.node)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_shown_without_their_modules() {
        let shown =
            without_modules("alloc::vec::Vec<(alloc::string::String, [u8; 4], &dyn a::b::C)>");
        assert_eq!(shown, "Vec<(String, [u8; 4], &dyn C)>");
        assert_eq!(without_modules(""), "");
        assert_eq!(without_modules("a::"), "");
    }
}
