//! `mproc info`: finds what has a name, and tells all that is known of it.

mod show;

use super::list::short;
use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome, nearest};
use crate::output::{self, safe};
use crate::session::Session;
use crate::world::{Of, ServiceView, TopicView, World};
use clap::{Args, ValueEnum};
use mproc::{NodeReport, ProcessorSnapshot, SilentNode};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;

/// Tells all that is known of a topic, processor, service or node; or what a recording holds.
///
/// NAME is a topic, a processor, a service, or a node: by its program's name, the number of its process, or the first digits
/// of its id. If a file of this name exists, and no --kind is given, it is read as a recording.
///
/// With --json: an array of objects, each with "kind" and the fields of the snapshot, in the units that their names end with.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc info camera/frames              a topic
  mproc info planner --kind processor   a processor, where a node has the same name
  mproc info 4711                       the node of this process
  mproc info run.mcap                   a recording")]
pub(crate) struct Arguments {
    /// What to look for.
    name: String,
    /// Only this kind.
    #[arg(long, short, value_enum, value_name = "KIND")]
    kind: Option<Kind>,
    /// JSON for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    Topic,
    Processor,
    Service,
    Node,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Processor => "processor",
            Self::Service => "service",
            Self::Node => "node",
        }
    }
}

/// Something that has the name.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Topic(TopicView<'a>),
    Processor(Of<'a, ProcessorSnapshot>),
    Service(ServiceView<'a>),
    Node(&'a NodeReport),
    Silent(&'a SilentNode),
}

impl Found<'_> {
    fn kind(&self) -> Kind {
        match self {
            Self::Topic(_) => Kind::Topic,
            Self::Processor(_) => Kind::Processor,
            Self::Service(_) => Kind::Service,
            Self::Node(_) | Self::Silent(_) => Kind::Node,
        }
    }
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let path = Path::new(&arguments.name);
    if arguments.kind.is_none() && path.is_file() {
        return super::recording::info(path, arguments.json);
    }
    let session = Session::join(global)?;
    let world = session.look()?;
    let found = find(&world, &arguments.name, arguments.kind)?;
    if arguments.json {
        let all: Vec<_> = found
            .iter()
            .map(|found| show::json(&world, found))
            .collect();
        return output::json_of_reports(&all);
    }
    let mut out = output::standard();
    for (n, found) in found.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        write!(out, "{}", show::text(&world, found))?;
    }
    out.flush()?;
    Ok(())
}

/// Whatever has this name; several only of one kind.
fn find<'a>(world: &'a World, name: &str, kind: Option<Kind>) -> Outcome<Vec<Found<'a>>> {
    let mut found = Vec::new();
    let topics = world.topics().into_iter();
    found.extend(topics.filter(|t| t.name == name).map(Found::Topic));
    for node in &world.nodes {
        let processors = node.snapshot.runtime.processors.iter();
        let named = processors.filter(|p| p.name == name);
        found.extend(named.map(|what| Found::Processor(Of { node, what })));
    }
    let services = world.services().into_iter();
    found.extend(services.filter(|s| s.name == name).map(Found::Service));
    let is_node = |id: &str, pid: u32| {
        pid.to_string() == name || (name.len() >= 4 && id.starts_with(name)) || id == name
    };
    let nodes = world.nodes.iter().filter(|report| {
        let node = &report.node;
        node.program == name || World::label(report) == name || is_node(&node.id, node.pid)
    });
    found.extend(nodes.map(Found::Node));
    let silent = world.silent.iter();
    found.extend(
        silent
            .filter(|silent| is_node(&silent.id, silent.pid))
            .map(Found::Silent),
    );
    found.retain(|found| kind.is_none_or(|kind| found.kind() == kind));
    let kinds: BTreeSet<Kind> = found.iter().map(Found::kind).collect();
    match kinds.len() {
        0 => Err(nothing(world, name, kind)),
        1 => Ok(found),
        _ => {
            let words: Vec<_> = kinds.iter().map(|kind| kind.as_str()).collect();
            Err(Failure::new(
                Code::Usage,
                format!("{name:?} is the name of a {}", words.join(" and a ")),
            )
            .hint(format!("--kind {}", words.join(", or --kind "))))
        }
    }
}

fn nothing(world: &World, name: &str, kind: Option<Kind>) -> Failure {
    let (topics, services) = (world.topics(), world.services());
    let is_asked_for = |asked| kind.is_none_or(|kind| kind == asked);
    let mut known: Vec<&str> = Vec::new();
    if is_asked_for(Kind::Topic) {
        known.extend(topics.iter().map(|topic| topic.name));
    }
    if is_asked_for(Kind::Service) {
        known.extend(services.iter().map(|service| service.name));
    }
    for report in &world.nodes {
        if is_asked_for(Kind::Node) {
            known.push(&report.node.program);
        }
        if is_asked_for(Kind::Processor) {
            let processors = report.snapshot.runtime.processors.iter();
            known.extend(processors.map(|p| p.name.as_str()));
        }
    }
    let near = nearest(name, known).map(str::to_owned);
    let silent = match world.silent.as_slice() {
        [] => String::new(),
        silent => {
            let pids: Vec<_> = silent.iter().map(|s| s.pid.to_string()).collect();
            format!(", and process {} does not answer", pids.join(", "))
        }
    };
    let what = kind.map_or("nothing", |_| "none");
    let of_kind = kind.map_or(String::new(), |kind| format!(" of kind {}", kind.as_str()));
    let failure = Failure::not_found(format!(
        "{what}{of_kind} has the name {name:?}: {} nodes were asked{silent}",
        world.nodes.len()
    ));
    match near {
        Some(near) => failure.hint(format!("mproc info {}", safe(&format!("{near:?}")))),
        None => failure.hint("mproc list"),
    }
}

/// What a node is called, with the digits by which it can be asked for.
pub(crate) fn node_line(report: &NodeReport) -> String {
    format!("{} {}", World::label(report), short(&report.node.id))
}
