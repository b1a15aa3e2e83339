//! `mproc graph`
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | the graph itself, and its JSON |
//! | `tree.rs` | as text: a tree for each node |
//! | `drawn.rs` | for Mermaid and Graphviz |

mod drawn;
mod tree;

use crate::arguments::Arguments as Global;
use crate::failure::Outcome;
use crate::output::{self, note};
use crate::session::Session;
use crate::world::{Of, World, is_internal};
use clap::{Args, ValueEnum};
use mproc::{NodeReport, Pattern, SendSnapshot, SurveyOptions};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};
use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

/// Shows who sends to whom: processors by node, topics, services, direct messages, and who waits for whom now.
///
/// "program" stands for what a program does outside of processors. This command's own node is left out.
///
/// Programs do not note who sends direct messages to whom, so this command has them watch for a second (--watch). What is
/// shown as sent was sent in that time, with its rate; calls of processors and messages that are handed on are among it. Whoever
/// sends seldom may be missing.
///
/// With --format json: an object with "nodes" (each with its "processors"), "topics", "services" and "edges". An edge has a "kind"
/// (publishes, subscribes, serves, calls, sends, supervises, waits) and two ends, "from" and "to"; an end is an object with "node"
/// and "processor" (null for the program), with "topic", or with "service". What flows, flows from "from" to "to". One of
/// kind "sends" has a "count" and "per_second".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc graph
  mproc graph 'robot/**'                      only these topics and services
  mproc graph --watch 10                      also who sends seldom
  mproc graph --format dot | dot -Tsvg > graph.svg
  mproc graph --format mermaid > graph.mmd
  mproc graph --format json | jq '.edges[] | select(.kind == \"waits\")'")]
pub(crate) struct Arguments {
    /// Only topics and services that match.
    #[arg(value_parser = pattern)]
    pattern: Option<Pattern>,
    /// Which form.
    #[arg(long, short, value_enum, default_value = "text", value_name = "FORM")]
    format: Format,
    /// For how many seconds to watch who sends direct messages to whom, at most 60; 0: not at all.
    #[arg(long, default_value = "1", value_parser = watch, value_name = "SECONDS")]
    watch: Duration,
    /// Also what is under "mproc/".
    #[arg(long)]
    internal: bool,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Mermaid,
    Dot,
    Json,
}

fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| error.to_string())
}

fn watch(text: &str) -> Result<Duration, String> {
    let time = output::seconds(text).ok();
    time.filter(|time| *time <= Duration::from_secs(60))
        .ok_or_else(|| "it must be between 0 and 60 seconds".to_owned())
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let session = Session::join(global)?;
    if !arguments.watch.is_zero() && std::io::stderr().is_terminal() {
        let time = output::duration(arguments.watch);
        note(&format!("watching for {time} who sends to whom"));
    }
    let options = SurveyOptions::new().limit(session.look_limit());
    let world = session.look_with(options.watch_sends(arguments.watch))?;
    let shows = |name: &str| {
        (arguments.internal || !is_internal(name))
            && arguments.pattern.as_ref().is_none_or(|p| p.matches(name))
    };
    let graph = Graph::of(
        &world,
        arguments.pattern.is_some(),
        arguments.internal,
        shows,
    );
    for silent in &world.silent {
        note(&format!(
            "process {} does not answer: {}",
            silent.pid, silent.why
        ));
    }
    if !arguments.watch.is_zero() {
        note_what_is_missing(&world);
    }
    let text = match arguments.format {
        _ if arguments.json => return output::json(&graph),
        Format::Json => return output::json(&graph),
        Format::Text => tree::text(&graph),
        Format::Mermaid => drawn::mermaid(&graph),
        Format::Dot => drawn::dot(&graph),
    };
    let mut out = output::standard();
    write!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Of direct messages.
fn note_what_is_missing(world: &World) {
    for node in &world.nodes {
        let label = World::label(node);
        match &node.snapshot.sends {
            None => note(&format!(
                "{label} does not say who sends to whom: it was built with an earlier version of mproc, or is watched by others"
            )),
            Some(sends) if sends.more > 0 => note(&format!(
                "{label}: {} more messages were sent, between pairs that are not shown",
                sends.more
            )),
            Some(_) => {}
        }
    }
}

/// Who sends what to whom.
#[derive(Debug, Default, Serialize)]
struct Graph {
    nodes: Vec<NodeOf>,
    topics: Vec<TopicOf>,
    services: Vec<ServiceOf>,
    edges: Vec<Edge>,
}

#[derive(Debug, Serialize)]
struct NodeOf {
    id: String,
    label: String,
    processors: BTreeSet<String>,
}

#[derive(Debug, Serialize)]
struct TopicOf {
    name: String,
    #[serde(rename = "type")]
    type_name: String,
}

#[derive(Debug, Serialize)]
struct ServiceOf {
    name: String,
    request_type: String,
    reply_type: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Edge {
    kind: Kind,
    from: End,
    to: End,
    /// Of messages that were watched.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    sent: Option<Sent>,
}

/// How many messages were sent, and in what time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    count: u64,
    window_ns: u64,
}

impl Sent {
    fn per_second(self) -> f64 {
        // A window that was over at once has no rate.
        match self.window_ns {
            0 => 0.0,
            ns => self.count as f64 * 1e9 / ns as f64,
        }
    }
}

impl Serialize for Sent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("count", &self.count)?;
        map.serialize_entry("per_second", &self.per_second())?;
        map.end()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Publishes,
    Subscribes,
    Serves,
    Calls,
    Sends,
    Supervises,
    Waits,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
enum End {
    /// A processor of a node, or what its program does outside of processors.
    Of {
        node: String,
        processor: Option<String>,
    },
    Topic {
        topic: String,
    },
    Service {
        service: String,
    },
}

impl End {
    fn of(node: &NodeReport, processor: Option<&str>) -> Self {
        Self::Of {
            node: node.node.id.clone(),
            processor: processor.map(str::to_owned),
        }
    }

    /// Who waits: a processor or a driver, or the program for a publisher that belongs to none.
    fn who(node: &NodeReport, who: &str) -> Self {
        let is_publisher = who.starts_with("publisher of \"");
        Self::of(node, Some(who).filter(|_| !is_publisher))
    }

    /// Whom it waits for: a processor, or the topic of a subscription that is none of this node's processors.
    fn on(node: &NodeReport, on: &str, topics: &[TopicOf]) -> Self {
        let known = &node.snapshot.runtime.processors;
        let is_of = |topic: &&TopicOf| {
            let on = on.trim_end_matches(" (memory)");
            on.ends_with(&format!(" on {:?}", topic.name))
        };
        match topics.iter().find(is_of) {
            Some(topic) if !known.iter().any(|processor| processor.name == on) => Self::Topic {
                topic: topic.name.clone(),
            },
            _ => Self::of(node, Some(on)),
        }
    }
}

impl Graph {
    /// `is_filtered`: processors that have nothing to do with what is shown are left out.
    fn of(
        world: &World,
        is_filtered: bool,
        with_internal: bool,
        shows: impl Fn(&str) -> bool,
    ) -> Self {
        let mut graph = Self::default();
        let mut edges = BTreeSet::new();
        let mut add = |kind, from, to| {
            let sent = None;
            edges.insert(Edge {
                kind,
                from,
                to,
                sent,
            });
        };
        for view in world.topics() {
            let is_used = !view.publishers.is_empty() || view.subscription_count() > 0;
            if !is_used || !shows(view.name) {
                continue;
            }
            let topic = || End::Topic {
                topic: view.name.to_owned(),
            };
            for Of { node, what } in &view.publishers {
                add(
                    Kind::Publishes,
                    End::of(node, what.owner.as_deref()),
                    topic(),
                );
            }
            for Of { node, what } in &view.subscriptions {
                add(
                    Kind::Subscribes,
                    topic(),
                    End::of(node, what.owner.as_deref()),
                );
            }
            for Of { node, what } in &view.patterns {
                let owner = what.subscription.owner.as_deref();
                add(Kind::Subscribes, topic(), End::of(node, owner));
            }
            graph.topics.push(TopicOf {
                name: view.name.to_owned(),
                type_name: view.info().map_or(String::new(), |i| i.type_name.clone()),
            });
        }
        for view in world.services() {
            if !shows(view.name) || (view.servers.is_empty() && view.callers().next().is_none()) {
                continue;
            }
            let service = || End::Service {
                service: view.name.to_owned(),
            };
            // Which processor serves is not told.
            for of in &view.servers {
                add(Kind::Serves, service(), End::of(of.node, None));
            }
            for of in view.callers() {
                add(Kind::Calls, End::of(of.node, None), service());
            }
            let (request_type, reply_type) = view.types().unwrap_or(("", ""));
            graph.services.push(ServiceOf {
                name: view.name.to_owned(),
                request_type: request_type.to_owned(),
                reply_type: reply_type.to_owned(),
            });
        }
        for node in &world.nodes {
            let mut processors = BTreeSet::new();
            for processor in &node.snapshot.runtime.processors {
                let name = Some(processor.name.as_str());
                if is_internal(&processor.name) || processor.ended.is_some() {
                    continue;
                }
                processors.insert(processor.name.clone());
                if let Some(supervisor) = &processor.supervisor {
                    add(
                        Kind::Supervises,
                        End::of(node, Some(supervisor)),
                        End::of(node, name),
                    );
                }
            }
            for wait in &node.snapshot.waits {
                for on in &wait.on {
                    let to = End::on(node, on, &graph.topics);
                    add(Kind::Waits, End::who(node, &wait.who), to);
                }
            }
            graph.nodes.push(NodeOf {
                id: node.node.id.clone(),
                label: World::label(node),
                processors,
            });
        }
        for node in &world.nodes {
            edges.extend(sends_of(node, with_internal));
        }
        graph.edges = edges.into_iter().collect();
        if is_filtered {
            graph.keep_only_neighbours();
        }
        // Who takes part is there, whatever it is called: a script's callbacks, a supervisor.
        for end in graph.edges.iter().flat_map(|edge| [&edge.from, &edge.to]) {
            if let End::Of {
                node,
                processor: Some(name),
            } = end
                && let Some(of) = graph.nodes.iter_mut().find(|of| of.id == *node)
            {
                of.processors.insert(name.clone());
            }
        }
        graph
    }

    /// Leaves only who publishes, subscribes, serves or calls, and what is between those.
    fn keep_only_neighbours(&mut self) {
        let is_flow =
            |edge: &&Edge| !matches!(edge.kind, Kind::Sends | Kind::Supervises | Kind::Waits);
        let flows = self.edges.iter().filter(is_flow);
        let ends: BTreeSet<End> = flows.flat_map(|e| [e.from.clone(), e.to.clone()]).collect();
        self.edges
            .retain(|edge| ends.contains(&edge.from) && ends.contains(&edge.to));
        for node in &mut self.nodes {
            let id = &node.id;
            node.processors.retain(|name| {
                ends.contains(&End::Of {
                    node: id.clone(),
                    processor: Some(name.clone()),
                })
            });
        }
        self.nodes.retain(|node| {
            let is_of = |end: &End| matches!(end, End::Of { node: id, .. } if *id == node.id);
            ends.iter().any(is_of)
        });
    }

    /// What people call the end of an edge.
    fn name(&self, end: &End) -> String {
        match end {
            End::Topic { topic } => topic.clone(),
            End::Service { service } => service.clone(),
            End::Of { node, processor } => {
                let of = self.nodes.iter().find(|of| of.id == *node);
                let label = of.map_or(node.as_str(), |of| &of.label);
                format!("{label}/{}", processor.as_deref().unwrap_or("program"))
            }
        }
    }
}

/// What was sent in a node while it was watched.
fn sends_of(node: &NodeReport, with_internal: bool) -> Vec<Edge> {
    let Some(sends) = &node.snapshot.sends else {
        return Vec::new();
    };
    let is_shown = |send: &&SendSnapshot| {
        let mut ends = [send.from.as_deref(), Some(&*send.to)]
            .into_iter()
            .flatten();
        with_internal || !ends.any(is_internal)
    };
    let edge = |send: &SendSnapshot| Edge {
        kind: Kind::Sends,
        from: End::of(node, send.from.as_deref()),
        to: End::of(node, Some(&send.to)),
        sent: Some(Sent {
            count: send.count,
            window_ns: sends.window_ns,
        }),
    };
    sends.pairs.iter().filter(is_shown).map(edge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processor(node: &str, name: &str) -> End {
        End::Of {
            node: node.to_owned(),
            processor: Some(name.to_owned()),
        }
    }

    /// A graph with names that no format is fond of.
    pub(super) fn odd() -> Graph {
        let topic = || End::Topic {
            topic: "a \"b\"; <c> \\ #1 | {d}".to_owned(),
        };
        let program = End::Of {
            node: "id2".to_owned(),
            processor: None,
        };
        let service = || End::Service {
            service: "add".to_owned(),
        };
        let edge = |kind, from, to| Edge {
            kind,
            from,
            to,
            sent: None,
        };
        let sends = |from, to, count| Edge {
            sent: Some(Sent {
                count,
                window_ns: 2_000_000_000,
            }),
            ..edge(Kind::Sends, from, to)
        };
        let of = |id: &str, label: &str, processors: &[&str]| NodeOf {
            id: id.to_owned(),
            label: label.to_owned(),
            processors: processors.iter().map(|p| (*p).to_owned()).collect(),
        };
        Graph {
            nodes: vec![
                of("id1", "left[1]", &["end", "größe"]),
                of("id2", "right[2]", &["sink"]),
            ],
            topics: vec![TopicOf {
                name: "a \"b\"; <c> \\ #1 | {d}".to_owned(),
                type_name: "i64".to_owned(),
            }],
            services: vec![ServiceOf {
                name: "add".to_owned(),
                request_type: "(i64, i64)".to_owned(),
                reply_type: "i64".to_owned(),
            }],
            edges: vec![
                edge(Kind::Publishes, processor("id1", "end"), topic()),
                edge(Kind::Subscribes, topic(), processor("id1", "größe")),
                edge(Kind::Subscribes, topic(), program.clone()),
                edge(Kind::Serves, service(), processor("id1", "end")),
                edge(Kind::Calls, program.clone(), service()),
                sends(program, processor("id2", "sink"), 5),
                sends(processor("id1", "end"), processor("id1", "größe"), 25_000),
                edge(
                    Kind::Supervises,
                    processor("id1", "end"),
                    processor("id1", "größe"),
                ),
                edge(
                    Kind::Waits,
                    processor("id1", "größe"),
                    processor("id1", "end"),
                ),
            ],
        }
    }

    #[test]
    fn a_wait_for_a_subscription_leads_to_its_topic() {
        use crate::commands::top::tests::{report, world};
        let name = r#"a "b""#;
        let topic = serde_json::json!({
            "name": name, "id": 7, "type_name": "u8", "codec": "Serde", "history": 0, "connected_to": [],
            "publishers": [{
                "id": 1, "owner": "camera", "published": 0, "outstanding": 0, "in_flight": 0, "paused": false,
            }],
            "subscriptions": [],
        });
        let waits = serde_json::json!([
            { "who": format!("publisher of {name:?}"), "on": [format!("process 7 on {name:?}")], "why": "room" },
            { "who": "camera", "on": [format!("subscription 3 on {name:?} (memory)")], "why": "room" },
            { "who": "camera", "on": ["viewer"], "why": "call" },
        ]);
        let snapshot = serde_json::json!({ "topics": [topic], "waits": waits });
        let reports = serde_json::json!([report("id1", 7, 1, snapshot)]);
        let world = world(reports, serde_json::json!([]));
        let graph = Graph::of(&world, false, false, |_| true);
        let topic = || End::Topic {
            topic: name.to_owned(),
        };
        let program = End::Of {
            node: "id1".to_owned(),
            processor: None,
        };
        let waits = graph.edges.iter().filter(|edge| edge.kind == Kind::Waits);
        let waits: Vec<_> = waits.map(|edge| (&edge.from, &edge.to)).collect();
        let camera = processor("id1", "camera");
        assert_eq!(
            waits,
            [
                (&program, &topic()),
                (&camera, &processor("id1", "viewer")),
                (&camera, &topic()),
            ]
        );
    }

    #[test]
    fn an_end_says_what_it_is() {
        let json = serde_json::to_value(&odd().edges[1]).unwrap();
        let wanted = serde_json::json!({
            "kind": "subscribes",
            "from": {"topic": "a \"b\"; <c> \\ #1 | {d}"},
            "to": {"node": "id1", "processor": "größe"},
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn what_was_sent_has_a_count_and_a_rate() {
        let json = serde_json::to_value(&odd().edges[6]).unwrap();
        let wanted = serde_json::json!({
            "kind": "sends",
            "from": {"node": "id1", "processor": "end"},
            "to": {"node": "id1", "processor": "größe"},
            "count": 25_000,
            "per_second": 12_500.0,
        });
        assert_eq!(json, wanted);
    }

    #[test]
    fn a_watch_is_between_nothing_and_a_minute() {
        assert_eq!(watch("0"), Ok(Duration::ZERO));
        assert_eq!(watch("0.5s"), Ok(Duration::from_millis(500)));
        assert_eq!(watch("60"), Ok(Duration::from_secs(60)));
        for nonsense in ["61", "-1", "", "soon", "NaN", "1e300"] {
            assert!(watch(nonsense).is_err(), "{nonsense}");
        }
    }
}
