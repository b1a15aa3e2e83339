//! What `top` shows, as numbers: the differences of two surveys. Nothing here draws, and nothing asks for the time.

use super::text::short_type;
use crate::output::duration;
use crate::world::{World, is_internal};
use mproc::{DriverId, Drops, NodeReport, ProcessorId, ProcessorSnapshot, PublisherId, WhenFull};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// All that is shown of a domain. Also the JSON of `top --json`, so its names stay.
///
/// What is per second is `None` until there is an earlier survey of the same node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Figures {
    pub(crate) domain: String,
    pub(crate) nodes: Vec<NodeRow>,
    pub(crate) silent: Vec<SilentRow>,
    pub(crate) processors: Vec<ProcessorRow>,
    pub(crate) topics: Vec<TopicRow>,
    pub(crate) drivers: Vec<DriverRow>,
    pub(crate) services: Vec<ServiceRow>,
    pub(crate) waits: Vec<WaitRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct NodeRow {
    pub(crate) id: String,
    /// Program and process.
    pub(crate) label: String,
    pub(crate) pid: u32,
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) taken_unix_ns: u64,
    /// Between the two surveys of it.
    pub(crate) interval_s: Option<f64>,
    pub(crate) dead_letters: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SilentRow {
    pub(crate) id: String,
    pub(crate) pid: u32,
    pub(crate) why: String,
}

/// What a processor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// It is in a handler.
    Handling,
    /// Its outbox waits for room elsewhere.
    Stalled,
    /// It waits for its supervisor to bring it up.
    Restarting,
    Ended,
    /// It has messages, and waits for its driver.
    Ready,
    Idle,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ProcessorRow {
    #[serde(skip)]
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) node_id: String,
    pub(crate) pid: u32,
    pub(crate) driver: String,
    /// Share of one core that its handlers took.
    pub(crate) load: Option<f64>,
    /// Messages of its mailbox that it handled, and samples of its subscriptions that it took. Timers are not counted.
    pub(crate) handled_per_s: Option<f64>,
    pub(crate) received: u64,
    pub(crate) handled: u64,
    pub(crate) queued: u64,
    /// `None` if it has no bound.
    pub(crate) capacity: Option<u64>,
    pub(crate) high_water: u64,
    pub(crate) busy_ns: u64,
    pub(crate) longest_handler_ns: u64,
    pub(crate) state: State,
    pub(crate) handling_ns: Option<u64>,
    pub(crate) last_message_type: Option<String>,
    pub(crate) ended: Option<String>,
    pub(crate) outbox: u64,
    pub(crate) outbox_dropped: u64,
    pub(crate) drops: u64,
    pub(crate) dropped: Drops,
    pub(crate) returned: u64,
    pub(crate) faults: u64,
    pub(crate) panics: u64,
    pub(crate) restarts: u64,
    pub(crate) supervisor: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct TopicRow {
    pub(crate) name: String,
    pub(crate) type_name: String,
    pub(crate) published_per_s: Option<f64>,
    pub(crate) published: u64,
    /// Samples queued in its fullest subscription, and the places there.
    pub(crate) queued: u64,
    pub(crate) capacity: u64,
    pub(crate) high_water: u64,
    pub(crate) drops: u64,
    pub(crate) held_ns_max: Option<u64>,
    pub(crate) publishers: Vec<PublisherRow>,
    pub(crate) subscriptions: Vec<SubscriptionRow>,
    pub(crate) links: Vec<LinkRow>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct PublisherRow {
    pub(crate) node: String,
    pub(crate) owner: Option<String>,
    pub(crate) published_per_s: Option<f64>,
    pub(crate) published: u64,
    pub(crate) outstanding: u64,
    pub(crate) paused: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct SubscriptionRow {
    pub(crate) node: String,
    pub(crate) owner: Option<String>,
    pub(crate) when_full: WhenFull,
    pub(crate) queued: u64,
    pub(crate) capacity: u64,
    pub(crate) high_water: u64,
    pub(crate) taken: u64,
    pub(crate) drops: u64,
    pub(crate) dropped: Drops,
    pub(crate) refused: u64,
    pub(crate) lost: u64,
    pub(crate) held: u64,
    pub(crate) held_ns_max: Option<u64>,
    pub(crate) paused: bool,
}

/// The way of a topic from a node that publishes to one that subscribes. What does not go into a full queue there is dropped
/// here, so these drops are not among those of the subscriptions.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct LinkRow {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) when_full: WhenFull,
    pub(crate) queued: u64,
    pub(crate) capacity: u64,
    pub(crate) drops: u64,
    pub(crate) dropped: Drops,
    pub(crate) refused: u64,
    pub(crate) held: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct DriverRow {
    #[serde(skip)]
    pub(crate) key: String,
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) kind: String,
    /// Sum of its processors' loads, in cores.
    pub(crate) load: Option<f64>,
    pub(crate) members: u64,
    pub(crate) threads: u64,
    pub(crate) blocked: u64,
    pub(crate) turns_per_s: Option<f64>,
    pub(crate) parks_per_s: Option<f64>,
    pub(crate) steals_per_s: Option<f64>,
    pub(crate) turns: u64,
    pub(crate) parks: u64,
    pub(crate) wakes: u64,
    pub(crate) steals: u64,
    pub(crate) exhausted: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct ServiceRow {
    pub(crate) name: String,
    pub(crate) request_type: String,
    pub(crate) reply_type: String,
    pub(crate) servers: u64,
    pub(crate) calls_per_s: Option<f64>,
    pub(crate) calls: u64,
    pub(crate) answered: u64,
    pub(crate) failed: u64,
    pub(crate) cancelled: u64,
    /// Nodes that serve it.
    pub(crate) nodes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct WaitRow {
    pub(crate) who: String,
    pub(crate) node: String,
    pub(crate) why: String,
    pub(crate) on: Vec<String>,
}

/// The earlier survey, made ready for being compared with.
#[derive(Debug, Default)]
struct Before<'a> {
    nodes: BTreeMap<&'a str, u64>,
    processors: BTreeMap<(&'a str, ProcessorId), &'a ProcessorSnapshot>,
    /// Samples that subscriptions of processors have taken.
    taken: BTreeMap<(&'a str, &'a str), u64>,
    published: BTreeMap<(&'a str, &'a str, PublisherId), u64>,
    drivers: BTreeMap<(&'a str, DriverId), [u64; 3]>,
    calls: BTreeMap<(&'a str, &'a str), u64>,
}

impl<'a> Before<'a> {
    fn new(world: &'a World) -> Self {
        let mut before = Self::default();
        for report in &world.nodes {
            let id = report.node.id.as_str();
            before.nodes.insert(id, report.taken_unix_ns);
            for processor in &report.snapshot.processors {
                before.processors.insert((id, processor.id), processor);
            }
            for (owner, taken) in taken(report) {
                before.taken.insert((id, owner), taken);
            }
            for topic in &report.snapshot.topics {
                for publisher in &topic.publishers {
                    let key = (id, topic.name.as_str(), publisher.id);
                    before.published.insert(key, publisher.published);
                }
            }
            for driver in &report.snapshot.drivers {
                let counts = [driver.turns, driver.parks, driver.steals];
                before.drivers.insert((id, driver.id), counts);
            }
            for service in &report.snapshot.services {
                before.calls.insert((id, &service.name), service.calls);
            }
        }
        before
    }

    /// How long ago it was taken, in seconds.
    fn interval(&self, id: &str, taken_unix_ns: u64) -> Option<f64> {
        let before = *self.nodes.get(id)?;
        match taken_unix_ns.saturating_sub(before) {
            0 => None,
            ns => Some(ns as f64 / 1e9),
        }
    }
}

/// How many samples the subscriptions of each processor have taken. One to a pattern stands under each of its topics.
fn taken(report: &NodeReport) -> BTreeMap<&str, u64> {
    let mut subscriptions = BTreeMap::new();
    for topic in &report.snapshot.topics {
        for subscription in topic.subscriptions.iter().filter(|s| s.node.is_none()) {
            subscriptions.insert(subscription.id, subscription);
        }
    }
    let mut taken = BTreeMap::new();
    for subscription in subscriptions.into_values() {
        if let Some(owner) = &subscription.owner {
            let sum: &mut u64 = taken.entry(owner.as_str()).or_default();
            *sum = sum.saturating_add(subscription.taken);
        }
    }
    taken
}

/// What is new since the earlier survey had it at 0.
fn per_second(before: Option<u64>, now: u64, interval: Option<f64>) -> Option<f64> {
    let more = now.saturating_sub(before.unwrap_or(0));
    interval.map(|seconds| more as f64 / seconds)
}

/// Time in handlers, also in the one that is not over.
fn busy_ns(processor: &ProcessorSnapshot) -> u64 {
    let handling_ns = processor.handling_ns.unwrap_or(0);
    processor.busy_ns.saturating_add(handling_ns)
}

fn state(processor: &ProcessorSnapshot) -> State {
    match processor {
        p if p.ended.is_some() => State::Ended,
        p if p.restarting => State::Restarting,
        p if p.handling_ns.is_some() => State::Handling,
        p if p.stalled => State::Stalled,
        p if p.queued > 0 => State::Ready,
        _ => State::Idle,
    }
}

fn sum(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a + b),
        (a, b) => a.or(b),
    }
}

impl ProcessorRow {
    /// What it does, in words.
    pub(crate) fn doing(&self) -> String {
        match self.state {
            State::Handling => {
                let what = self.last_message_type.as_deref().unwrap_or("a message");
                let time = Duration::from_nanos(self.handling_ns.unwrap_or(0));
                format!("handling {} {}", short_type(what), duration(time))
            }
            State::Stalled => format!("stalled, {} in outbox", self.outbox),
            State::Restarting => "restarting".to_owned(),
            State::Ended => format!("ended: {}", self.ended.as_deref().unwrap_or_default()),
            State::Ready => "ready".to_owned(),
            State::Idle => "idle".to_owned(),
        }
    }
}

impl Figures {
    /// What `now` shows, with what is per second since `before`. Topics of the library itself are left out unless `with_all`.
    pub(crate) fn new(domain: &str, before: Option<&World>, now: &World, with_all: bool) -> Self {
        let before = before.map(Before::new).unwrap_or_default();
        let mut figures = Self {
            domain: domain.to_owned(),
            ..Self::default()
        };
        figures.add_nodes(&before, now);
        figures.add_topics(&before, now, with_all);
        figures.add_services(&before, now, with_all);
        figures
    }

    fn add_nodes(&mut self, before: &Before<'_>, now: &World) {
        for report in &now.nodes {
            let id = report.node.id.as_str();
            let label = World::label(report);
            let interval = before.interval(id, report.taken_unix_ns);
            self.nodes.push(NodeRow {
                id: id.to_owned(),
                label: label.clone(),
                pid: report.node.pid,
                program: report.node.program.clone(),
                version: report.node.version.clone(),
                taken_unix_ns: report.taken_unix_ns,
                interval_s: interval,
                dead_letters: report.snapshot.dead_letters,
            });
            let first = self.processors.len();
            let taken = taken(report);
            for p in &report.snapshot.processors {
                let earlier = before.processors.get(&(id, p.id)).copied();
                // Messages of its mailbox, and samples of its subscriptions.
                let samples = taken.get(p.name.as_str()).copied().unwrap_or(0);
                let samples_before = before.taken.get(&(id, p.name.as_str())).copied();
                let handled_before =
                    earlier.map(|e| e.handled.saturating_add(samples_before.unwrap_or(0)));
                let busy_per_s = per_second(earlier.map(busy_ns), busy_ns(p), interval);
                self.processors.push(ProcessorRow {
                    key: format!("{id}/{:?}", p.id),
                    name: p.name.clone(),
                    node: label.clone(),
                    node_id: id.to_owned(),
                    pid: report.node.pid,
                    driver: p.driver.clone(),
                    load: busy_per_s.map(|ns| ns / 1e9),
                    handled_per_s: per_second(
                        handled_before,
                        p.handled.saturating_add(samples),
                        interval,
                    ),
                    received: p.received,
                    handled: p.handled,
                    queued: p.queued,
                    capacity: (p.capacity != u64::MAX).then_some(p.capacity),
                    high_water: p.high_water,
                    busy_ns: p.busy_ns,
                    longest_handler_ns: p.longest_handler_ns.max(p.handling_ns.unwrap_or(0)),
                    state: state(p),
                    handling_ns: p.handling_ns,
                    last_message_type: p.last_message_type.clone(),
                    ended: p.ended.clone(),
                    outbox: p.outbox,
                    outbox_dropped: p.outbox_dropped,
                    drops: p.dropped.total().saturating_add(p.outbox_dropped),
                    dropped: p.dropped.clone(),
                    returned: p.returned,
                    faults: p.faults,
                    panics: p.panics,
                    restarts: p.restarts,
                    supervisor: p.supervisor.clone(),
                });
            }
            for d in &report.snapshot.drivers {
                let members = self.processors[first..].iter();
                let load = members
                    .filter(|p| p.driver == d.name)
                    .fold(None, |load, p| sum(load, p.load));
                let earlier = before.drivers.get(&(id, d.id));
                let rate = |at: usize, now| per_second(earlier.map(|e| e[at]), now, interval);
                self.drivers.push(DriverRow {
                    key: format!("{id}/{:?}", d.id),
                    name: d.name.clone(),
                    node: label.clone(),
                    kind: d.kind.clone(),
                    load,
                    members: d.members,
                    threads: d.threads,
                    blocked: d.blocked,
                    turns_per_s: rate(0, d.turns),
                    parks_per_s: rate(1, d.parks),
                    steals_per_s: rate(2, d.steals),
                    turns: d.turns,
                    parks: d.parks,
                    wakes: d.wakes,
                    steals: d.steals,
                    exhausted: d.exhausted,
                });
            }
            for wait in &report.snapshot.waits {
                self.waits.push(WaitRow {
                    who: wait.who.clone(),
                    node: label.clone(),
                    why: wait.why.clone(),
                    on: wait.on.clone(),
                });
            }
        }
        for silent in &now.silent {
            self.silent.push(SilentRow {
                id: silent.id.clone(),
                pid: silent.pid,
                why: silent.why.clone(),
            });
        }
    }

    fn add_topics(&mut self, before: &Before<'_>, now: &World, with_all: bool) {
        for topic in now.topics() {
            if is_internal(topic.name) && !with_all {
                continue;
            }
            let mut row = TopicRow {
                name: topic.name.to_owned(),
                type_name: topic.declared.first().map_or_else(String::new, |of| {
                    // What publishers say of it is the topic's type.
                    let publishing = topic
                        .declared
                        .iter()
                        .find(|of| !of.what.publishers.is_empty());
                    publishing.unwrap_or(of).what.type_name.clone()
                }),
                published_per_s: None,
                published: 0,
                queued: 0,
                capacity: 0,
                high_water: 0,
                drops: 0,
                held_ns_max: None,
                publishers: Vec::new(),
                subscriptions: Vec::new(),
                links: Vec::new(),
            };
            for of in &topic.publishers {
                let id = of.node.node.id.as_str();
                let earlier = before.published.get(&(id, topic.name, of.what.id)).copied();
                let interval = before.interval(id, of.node.taken_unix_ns);
                let rate = per_second(earlier, of.what.published, interval);
                row.published_per_s = sum(row.published_per_s, rate);
                row.published = row.published.saturating_add(of.what.published);
                row.publishers.push(PublisherRow {
                    node: World::label(of.node),
                    owner: of.what.owner.clone(),
                    published_per_s: rate,
                    published: of.what.published,
                    outstanding: of.what.outstanding,
                    paused: of.what.paused,
                });
            }
            for of in topic.subscriptions.iter().filter(|of| !of.what.closed) {
                let s = of.what;
                row.drops = row.drops.saturating_add(s.dropped.total());
                row.high_water = row.high_water.max(s.high_water);
                row.held_ns_max = row.held_ns_max.max(s.held_ns_max);
                let fill = |queued: u64, capacity: u64| queued as f64 / capacity.max(1) as f64;
                if row.capacity == 0 || fill(s.queued, s.capacity) > fill(row.queued, row.capacity)
                {
                    (row.queued, row.capacity) = (s.queued, s.capacity);
                }
                row.subscriptions.push(SubscriptionRow {
                    node: World::label(of.node),
                    owner: s.owner.clone(),
                    when_full: s.when_full,
                    queued: s.queued,
                    capacity: s.capacity,
                    high_water: s.high_water,
                    taken: s.taken,
                    drops: s.dropped.total(),
                    dropped: s.dropped.clone(),
                    refused: s.refused,
                    lost: s.lost,
                    held: s.held,
                    held_ns_max: s.held_ns_max,
                    paused: s.paused,
                });
            }
            for of in topic.links.iter().filter(|of| !of.what.closed) {
                let link = of.what;
                row.drops = row.drops.saturating_add(link.dropped.total());
                row.links.push(LinkRow {
                    from: World::label(of.node),
                    to: now.label_of(link.node.as_deref().unwrap_or_default()),
                    when_full: link.when_full,
                    queued: link.queued,
                    capacity: link.capacity,
                    drops: link.dropped.total(),
                    dropped: link.dropped.clone(),
                    refused: link.refused,
                    held: link.held,
                });
            }
            self.topics.push(row);
        }
    }

    fn add_services(&mut self, before: &Before<'_>, now: &World, with_all: bool) {
        for service in now.services() {
            if is_internal(service.name) && !with_all {
                continue;
            }
            let (request_type, reply_type) = service.types().unwrap_or_default();
            let mut row = ServiceRow {
                name: service.name.to_owned(),
                request_type: request_type.to_owned(),
                reply_type: reply_type.to_owned(),
                servers: 0,
                calls_per_s: None,
                calls: 0,
                answered: 0,
                failed: 0,
                cancelled: 0,
                nodes: Vec::new(),
            };
            for of in service.servers.iter().chain(&service.others) {
                let id = of.node.node.id.as_str();
                let earlier = before.calls.get(&(id, service.name)).copied();
                let interval = before.interval(id, of.node.taken_unix_ns);
                row.calls_per_s = sum(
                    row.calls_per_s,
                    per_second(earlier, of.what.calls, interval),
                );
                row.servers += of.what.servers;
                row.calls += of.what.calls;
                row.answered += of.what.answered;
                row.failed += of.what.failed;
                row.cancelled += of.what.cancelled;
            }
            row.nodes = service
                .servers
                .iter()
                .map(|of| World::label(of.node))
                .collect();
            self.services.push(row);
        }
    }
}

/// Drops by cause, as people read them: `evicted 3, target ended 1`.
pub(crate) fn causes(dropped: &Drops) -> String {
    let parts: Vec<_> = dropped
        .iter()
        .map(|(cause, n)| format!("{cause} {n}"))
        .collect();
    parts.join(", ")
}
