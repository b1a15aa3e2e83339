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
use mproc::{NodeReport, Pattern};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::Write;

/// Shows who sends to whom: processors by node, topics, services, and who waits for whom now.
///
/// "program" stands for what a program does outside of processors. This command's own node is left out.
///
/// With --format json: an object with "nodes" (each with its "processors"), "topics", "services" and "edges". An edge has a "kind"
/// (publishes, subscribes, serves, calls, supervises, waits) and two ends, "from" and "to"; an end is an object with "node" and
/// "processor" (null for the program), with "topic", or with "service". What flows, flows from "from" to "to".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc graph
  mproc graph 'robot/**'                      only these topics and services
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

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let session = Session::join(global)?;
    let world = session.look()?;
    let shows = |name: &str| {
        (arguments.internal || !is_internal(name))
            && arguments.pattern.as_ref().is_none_or(|p| p.matches(name))
    };
    let graph = Graph::of(&world, arguments.pattern.is_some(), shows);
    for silent in &world.silent {
        note(&format!(
            "process {} does not answer: {}",
            silent.pid, silent.why
        ));
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Publishes,
    Subscribes,
    Serves,
    Calls,
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
}

impl Graph {
    /// `is_filtered`: processors that have nothing to do with what is shown are left out.
    fn of(world: &World, is_filtered: bool, shows: impl Fn(&str) -> bool) -> Self {
        let mut graph = Self::default();
        let mut edges = BTreeSet::new();
        let mut add = |kind, from, to| {
            edges.insert(Edge { kind, from, to });
        };
        for view in world.topics() {
            let is_used = !(view.publishers.is_empty() && view.subscriptions.is_empty());
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
                    let (from, to) = (End::of(node, Some(&wait.who)), End::of(node, Some(on)));
                    add(Kind::Waits, from, to);
                }
            }
            graph.nodes.push(NodeOf {
                id: node.node.id.clone(),
                label: World::label(node),
                processors,
            });
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
        let is_flow = |edge: &&Edge| !matches!(edge.kind, Kind::Supervises | Kind::Waits);
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
        let edge = |kind, from, to| Edge { kind, from, to };
        let of = |id: &str, label: &str, processors: &[&str]| NodeOf {
            id: id.to_owned(),
            label: label.to_owned(),
            processors: processors.iter().map(|p| (*p).to_owned()).collect(),
        };
        Graph {
            nodes: vec![
                of("id1", "left[1]", &["end", "größe"]),
                of("id2", "right[2]", &[]),
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
                edge(Kind::Calls, program, service()),
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
    fn an_end_says_what_it_is() {
        let json = serde_json::to_value(&odd().edges[1]).unwrap();
        let wanted = serde_json::json!({
            "kind": "subscribes",
            "from": {"topic": "a \"b\"; <c> \\ #1 | {d}"},
            "to": {"node": "id1", "processor": "größe"},
        });
        assert_eq!(json, wanted);
    }
}
