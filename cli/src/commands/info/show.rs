//! What is told of each kind, for people and as JSON.

use super::super::list::{OfNodeJson, busy_percent, peers, short, state, travels, uptime};
use super::{Found, node_line};
use crate::output::{Table, count, duration, safe};
use crate::world::{Of, ServiceView, TopicView, World};
use mproc::{
    Drops, NodeReport, PatternSnapshot, ProcessorSnapshot, PublisherSnapshot, ServiceSnapshot,
    SilentNode, SubscriptionSnapshot, TopicSnapshot, TypeInfo, WaitSnapshot, WhenFull,
};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Lines of a name and a value, the values below each other.
#[derive(Default)]
struct Lines(Vec<(&'static str, String)>);

impl Lines {
    fn add(&mut self, name: &'static str, value: impl Into<String>) {
        self.0.push((name, value.into()));
    }

    fn to_text(&self) -> String {
        let width = self.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, value) in &self.0 {
            let pad = width - name.len() + 2;
            let line = format!("{name}:{:pad$}{}", "", safe(value));
            let _never_fails = writeln!(text, "{}", line.trim_end());
        }
        text
    }
}

fn section(text: &mut String, title: &str, table: &Table) {
    if !table.is_empty() {
        let _never_fails = write!(text, "\n{title}\n{table}");
    }
}

fn time(ns: u64) -> String {
    duration(Duration::from_nanos(ns))
}

fn policy(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::Wait => "Wait",
        WhenFull::DropOldest => "DropOldest",
        WhenFull::DropNewest => "DropNewest",
        WhenFull::Latest => "Latest",
        WhenFull::Fail => "Fail",
        WhenFull::Disconnect => "Disconnect",
        _ => "unknown",
    }
}

/// What was dropped, by cause; `-` for nothing.
fn drops(drops: &Drops) -> String {
    match drops.total() {
        0 => "-".to_owned(),
        _ => drops.to_string(),
    }
}

fn yes(is: bool, word: &str) -> Option<String> {
    is.then(|| word.to_owned())
}

fn words(words: impl IntoIterator<Item = Option<String>>) -> String {
    let words: Vec<String> = words.into_iter().flatten().collect();
    match words.is_empty() {
        true => "-".to_owned(),
        false => words.join(", "),
    }
}

pub(super) fn text(world: &World, found: &Found<'_>) -> String {
    match found {
        Found::Topic(topic) => topic_text(world, topic),
        Found::Processor(processor) => processor_text(processor),
        Found::Service(service) => service_text(service),
        Found::Node(report) => node_text(report),
        Found::Silent(silent) => silent_text(silent),
    }
}

fn topic_text(world: &World, topic: &TopicView<'_>) -> String {
    let mut lines = Lines::default();
    lines.add("Topic", topic.name);
    for info in &topic.types {
        lines.add("Type", &info.type_name);
        lines.add("Hash", format!("{:016x}", info.type_hash));
        lines.add("Travels as", travels(info.codec));
        if let Some(schema) = &info.schema {
            lines.add("Schema", schema);
        }
    }
    if topic.types.len() > 1 {
        let types: Vec<_> = topic.types.iter().map(|t| t.type_name.as_str()).collect();
        let text = format!(
            "programs disagree on its type ({}); samples do not pass between them",
            types.join(", ")
        );
        lines.add("CONFLICT", text);
    }
    let history: u64 = topic.declared.iter().map(|of| of.what.history).sum();
    if history > 0 {
        let text = format!("{} values for late subscribers", count(history));
        lines.add("History", text);
    }
    for of in &topic.declared {
        for to in &of.what.connected_to {
            lines.add(
                "Connected to",
                format!("{to} (by {})", World::label(of.node)),
            );
        }
    }
    let mut text = lines.to_text();

    let mut table = Table::new(&["NODE", "OWNER", ">PUBLISHED", ">OUT", ">IN FLIGHT", "STATE"]);
    for of in &topic.publishers {
        let p: &PublisherSnapshot = of.what;
        table.row([
            World::label(of.node),
            p.owner.clone().unwrap_or("-".to_owned()),
            count(p.published),
            count(p.outstanding),
            count(p.in_flight),
            words([yes(p.paused, "paused")]),
        ]);
    }
    section(&mut text, "Publishers", &table);
    section(
        &mut text,
        "Subscriptions",
        &subscriptions(topic.subscriptions.iter(), None),
    );
    section(
        &mut text,
        "Subscriptions to patterns, over all topics that match",
        &patterns(&topic.patterns),
    );
    section(
        &mut text,
        "Taps, which look on, over all topics that match",
        &patterns(&topic.taps),
    );
    section(
        &mut text,
        "Links to other processes, as their publishers count",
        &subscriptions(topic.links.iter(), Some(world)),
    );
    text
}

/// With a world: links, which say where they lead.
fn subscriptions<'a>(
    all: impl Iterator<Item = &'a Of<'a, SubscriptionSnapshot>>,
    links: Option<&World>,
) -> Table {
    let who = if links.is_some() { "TO" } else { "OWNER" };
    let mut table = Table::new(&[
        "NODE",
        who,
        "WHEN FULL",
        ">QUEUED",
        ">PLACES",
        ">HIGH WATER",
        ">OFFERED",
        ">TAKEN",
        ">LOST",
        "DROPPED",
        ">HELD",
        ">OLDEST",
        "STATE",
    ]);
    for of in all {
        let s = of.what;
        let owner = s.owner.clone().unwrap_or("(pulled)".to_owned());
        let who = match (links, &s.node) {
            (Some(world), Some(node)) => world.label_of(node),
            _ => owner,
        };
        table.row([
            World::label(of.node),
            who,
            policy(s.when_full).to_owned(),
            count(s.queued),
            count(s.capacity),
            count(s.high_water),
            count(s.offered),
            count(s.taken),
            count(s.lost),
            drops(&s.dropped),
            count(s.held),
            s.held_ns_max.map_or("-".to_owned(), time),
            words([
                yes(s.tap, "tap"),
                yes(s.paused, "paused"),
                yes(s.closed, "closed"),
                yes(s.refused > 0, &format!("refused {}", s.refused)),
            ]),
        ]);
    }
    table
}

/// Subscriptions to whatever matches, with what they match.
fn patterns(all: &[Of<'_, PatternSnapshot>]) -> Table {
    let mut table = Table::new(&[
        "NODE",
        "OWNER",
        "PATTERN",
        "WHEN FULL",
        ">QUEUED",
        ">PLACES",
        ">TAKEN",
        ">LOST",
        "DROPPED",
    ]);
    for of in all {
        let s = &of.what.subscription;
        table.row([
            World::label(of.node),
            s.owner.clone().unwrap_or("(pulled)".to_owned()),
            of.what.pattern.clone(),
            policy(s.when_full).to_owned(),
            count(s.queued),
            count(s.capacity),
            count(s.taken),
            count(s.lost),
            drops(&s.dropped),
        ]);
    }
    table
}

/// The waits of a node that this processor takes part in.
fn waits<'a>(of: &Of<'a, ProcessorSnapshot>) -> impl Iterator<Item = &'a WaitSnapshot> {
    let (name, waits) = (&of.what.name, &of.node.snapshot.waits);
    waits
        .iter()
        .filter(move |wait| wait.who == *name || wait.on.contains(name))
}

fn wait_line(wait: &WaitSnapshot) -> String {
    let on = match wait.on.as_slice() {
        [] => "an unknown processor".to_owned(),
        on => on.join(", "),
    };
    let why = match wait.why.as_str() {
        "call" => "the reply of".to_owned(),
        "room" => "room at".to_owned(),
        other => other.to_owned(),
    };
    format!("{} waits for {why} {on}", wait.who)
}

fn processor_text(of: &Of<'_, ProcessorSnapshot>) -> String {
    let p = of.what;
    let mut lines = Lines::default();
    lines.add("Processor", &p.name);
    lines.add("Node", node_line(of.node));
    lines.add("Driver", driver(of));
    if let Some(supervisor) = &p.supervisor {
        lines.add("Supervisor", supervisor);
    }
    lines.add("State", state(p));
    for wait in waits(of) {
        lines.add("Waits", wait_line(wait));
    }
    let places = match p.capacity {
        u64::MAX => "no bound".to_owned(),
        places => format!("{} places", count(places)),
    };
    let queue = format!(
        "{} of {places}, {} at most so far",
        count(p.queued),
        count(p.high_water)
    );
    lines.add("Queued", queue);
    lines.add("Received", count(p.received));
    lines.add("Handled", count(p.handled));
    lines.add("Dropped", drops(&p.dropped));
    lines.add(
        "Returned",
        format!("{} to their senders", count(p.returned)),
    );
    let outbox = format!("{}, {} given up", count(p.outbox), count(p.outbox_dropped));
    lines.add("Outbox", outbox);
    lines.add(
        "Busy",
        format!("{:.1} % of the node's life", busy_percent(of)),
    );
    lines.add("Longest handler", time(p.longest_handler_ns));
    if let Some(last) = &p.last_message_type {
        lines.add("Last message", last);
    }
    lines.add("Faults", count(p.faults));
    lines.add("Panics", count(p.panics));
    lines.add("Restarts", count(p.restarts));
    lines.to_text()
}

fn driver(of: &Of<'_, ProcessorSnapshot>) -> String {
    let drivers = of.node.snapshot.runtime.drivers.iter();
    let mut named = drivers.filter(|driver| driver.name == of.what.driver);
    match named.next() {
        Some(driver) => format!(
            "{} ({}, {} processors)",
            driver.name, driver.kind, driver.members
        ),
        None => of.what.driver.clone(),
    }
}

fn service_text(service: &ServiceView<'_>) -> String {
    let mut lines = Lines::default();
    let (request, reply) = service.types().unwrap_or(("unknown", "unknown"));
    lines.add("Service", service.name);
    lines.add("Request", request);
    lines.add("Reply", reply);
    lines.add("Servers", service.server_count().to_string());
    let mut text = lines.to_text();

    let mut table = Table::new(&[
        "NODE",
        ">SERVERS",
        ">REQUESTS",
        ">REPLIES",
        ">REPLIES DROPPED",
        ">CANCELLED",
    ]);
    for of in &service.servers {
        let s: &ServiceSnapshot = of.what;
        table.row([
            World::label(of.node),
            s.servers.to_string(),
            count(s.requests),
            count(s.replies),
            count(s.replies_dropped),
            count(s.requests_cancelled),
        ]);
    }
    section(&mut text, "Served by (requests of other nodes)", &table);
    let mut table = Table::new(&["NODE", ">CALLS", ">ANSWERED", ">FAILED", ">CANCELLED"]);
    for of in service.callers() {
        let s = of.what;
        table.row([
            World::label(of.node),
            count(s.calls),
            count(s.answered),
            count(s.failed),
            count(s.cancelled),
        ]);
    }
    section(&mut text, "Called by", &table);
    text
}

fn node_text(report: &NodeReport) -> String {
    let (node, snapshot) = (&report.node, &report.snapshot);
    let totals = &snapshot.runtime.totals;
    let mut lines = Lines::default();
    lines.add("Node", World::label(report));
    lines.add("Id", &node.id);
    lines.add("Program", &node.program);
    lines.add("Process", node.pid.to_string());
    lines.add("Version", &node.version);
    lines.add("Domain", node.domain.as_deref().unwrap_or("none"));
    lines.add("Up", duration(uptime(report)));
    let living = snapshot.runtime.processors.len();
    let processors = format!("{living}, and {} have ended", count(totals.ended));
    lines.add("Processors", processors);
    lines.add("Topics", snapshot.topics.len().to_string());
    lines.add("Services", snapshot.services.len().to_string());
    let messages = format!(
        "{} received, {} handled, {} queued, {} returned",
        count(totals.received),
        count(totals.handled),
        count(totals.queued),
        count(totals.returned)
    );
    lines.add("Messages", messages);
    lines.add("Dropped", drops(&totals.dropped));
    lines.add("Dead letters", count(snapshot.runtime.dead_letters));
    let failures = format!(
        "{} faults, {} panics, {} restarts",
        count(totals.faults),
        count(totals.panics),
        count(totals.restarts)
    );
    lines.add("Failures", failures);
    if let Some(domain) = &snapshot.domain {
        let others = format!(
            "{} (without this command), {} links",
            peers(report).unwrap_or(0),
            count(domain.links)
        );
        lines.add("Other nodes", others);
        let counters = format!(
            "{} violations, {} refused, {} lost connections",
            count(domain.violations),
            count(domain.refused),
            count(domain.lost_connections)
        );
        lines.add("Domain", counters);
    }
    for wait in &snapshot.waits {
        lines.add("Waits", wait_line(wait));
    }
    let mut text = lines.to_text();
    let mut table = Table::new(&[
        "DRIVER",
        "KIND",
        ">THREADS",
        ">BLOCKED",
        ">PROCESSORS",
        ">TURNS",
        ">PARKS",
        ">WAKES",
    ]);
    for driver in &snapshot.runtime.drivers {
        table.row([
            driver.name.clone(),
            driver.kind.clone(),
            driver.threads.to_string(),
            driver.blocked.to_string(),
            count(driver.members),
            count(driver.turns),
            count(driver.parks),
            count(driver.wakes),
        ]);
    }
    section(&mut text, "Drivers", &table);
    let patterns_of = |tap| -> Vec<_> {
        let all = snapshot.patterns.iter();
        let all = all.filter(|what| what.subscription.tap == tap);
        all.map(|what| Of { node: report, what }).collect()
    };
    section(&mut text, "Taps", &patterns(&patterns_of(true)));
    let others = patterns(&patterns_of(false));
    section(&mut text, "Subscriptions to patterns", &others);
    text
}

fn silent_text(silent: &SilentNode) -> String {
    let mut lines = Lines::default();
    lines.add("Node", format!("process {}", silent.pid));
    lines.add("Id", short(&silent.id));
    lines.add("Does not answer", &silent.why);
    lines.to_text()
}

/// What is told of one of them, as JSON.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Json<'a> {
    Topic {
        name: &'a str,
        types: &'a [TypeInfo],
        history: u64,
        connected_to: Vec<&'a str>,
        publishers: Vec<OfNodeJson<'a, PublisherSnapshot>>,
        subscriptions: Vec<OfNodeJson<'a, SubscriptionSnapshot>>,
        patterns: Vec<OfNodeJson<'a, PatternSnapshot>>,
        taps: Vec<OfNodeJson<'a, PatternSnapshot>>,
        links: Vec<LinkJson<'a>>,
    },
    Processor {
        #[serde(flatten)]
        processor: OfNodeJson<'a, ProcessorSnapshot>,
        busy_percent: f64,
        waits: Vec<&'a WaitSnapshot>,
    },
    Service {
        name: &'a str,
        request_type: &'a str,
        reply_type: &'a str,
        servers: Vec<OfNodeJson<'a, ServiceSnapshot>>,
        others: Vec<OfNodeJson<'a, ServiceSnapshot>>,
    },
    Node(&'a NodeReport),
    SilentNode(&'a SilentNode),
}

/// A link: the subscription as its publisher's node counts it.
#[derive(Serialize)]
pub(super) struct LinkJson<'a> {
    from: String,
    to: String,
    #[serde(flatten)]
    link: &'a SubscriptionSnapshot,
}

fn all<'a, T>(of: &[Of<'a, T>]) -> Vec<OfNodeJson<'a, T>> {
    of.iter()
        .map(|of| OfNodeJson::of(of.node, of.what))
        .collect()
}

pub(super) fn json<'a>(world: &World, found: &'a Found<'a>) -> Json<'a> {
    match found {
        Found::Topic(topic) => {
            let declared = || {
                topic
                    .declared
                    .iter()
                    .map(|of| -> &TopicSnapshot { of.what })
            };
            let links = topic.links.iter().map(|of| LinkJson {
                from: World::label(of.node),
                to: of
                    .what
                    .node
                    .as_deref()
                    .map_or(String::new(), |id| world.label_of(id)),
                link: of.what,
            });
            Json::Topic {
                name: topic.name,
                types: &topic.types,
                history: declared().map(|topic| topic.history).sum(),
                connected_to: declared()
                    .flat_map(|topic| &topic.connected_to)
                    .map(String::as_str)
                    .collect(),
                publishers: all(&topic.publishers),
                subscriptions: all(&topic.subscriptions),
                patterns: all(&topic.patterns),
                taps: all(&topic.taps),
                links: links.collect(),
            }
        }
        Found::Processor(of) => Json::Processor {
            processor: OfNodeJson::of(of.node, of.what),
            busy_percent: busy_percent(of),
            waits: waits(of).collect(),
        },
        Found::Service(service) => {
            let (request_type, reply_type) = service.types().unwrap_or(("", ""));
            Json::Service {
                name: service.name,
                request_type,
                reply_type,
                servers: all(&service.servers),
                others: all(&service.others),
            }
        }
        Found::Node(report) => Json::Node(report),
        Found::Silent(silent) => Json::SilentNode(silent),
    }
}
