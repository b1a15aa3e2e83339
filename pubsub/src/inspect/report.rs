//! What a node says of itself to others, and how it is written.
//!
//! A report is MessagePack with field names, by serde. Fields that a reader does not know are passed over, and those that came
//! later have a default, so that nodes of other versions can be read.

use super::{ConnectionSnapshot, PatternSnapshot, SendsSnapshot, Snapshot};
use crate::services::ServiceSnapshot;
use crate::snapshot::{DomainSnapshot, TopicSnapshot};
use mproc_runtime::WaitSnapshot;
use serde::{Deserialize, Serialize};

/// Which node of which program it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeInfo {
    /// 32 hexadecimal digits that no other node has; all 0 for a node that has joined no domain, which no other can see.
    #[serde(default)]
    pub id: String,
    /// Its process.
    #[serde(default)]
    pub pid: u32,
    /// The file name of the program; empty if the system does not say it.
    #[serde(default)]
    pub program: String,
    /// The version of mproc that the program was built with.
    #[serde(default)]
    pub version: String,
    /// Its domain; `None` if it is for its process alone.
    #[serde(default)]
    pub domain: Option<String>,
    /// When the node was made, by the system's time of day: nanoseconds since 1970.
    #[serde(default)]
    pub started_unix_ns: u64,
}

/// What another node said of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct NodeReport {
    /// Which node it is.
    pub node: NodeInfo,
    /// What was known of it.
    pub snapshot: Snapshot,
    /// When it was asked, by the system's time of day: nanoseconds since 1970.
    #[serde(default)]
    pub taken_unix_ns: u64,
}

/// A node that was found and has not answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SilentNode {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its process, by its own word or its socket's name.
    pub pid: u32,
    /// Why it has not answered, for people.
    pub why: String,
}

/// The other nodes of a domain: what each has said of itself, or why it has not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Survey {
    /// Those that have answered, by process id, then by id.
    pub reports: Vec<NodeReport>,
    /// Those that have not, in the same order.
    pub silent: Vec<SilentNode>,
}

/// A report as it travels: the parts of [`NodeReport`], but that the snapshot's runtime is a field of its own. Flattened, a reader
/// would have to keep all of it as values without types first.
#[derive(Serialize, Deserialize)]
struct Travelling<R> {
    node: NodeInfo,
    #[serde(default)]
    taken_unix_ns: u64,
    runtime: R,
    #[serde(default)]
    topics: Vec<TopicSnapshot>,
    #[serde(default)]
    patterns: Vec<PatternSnapshot>,
    #[serde(default)]
    connections: Vec<ConnectionSnapshot>,
    #[serde(default)]
    services: Vec<ServiceSnapshot>,
    #[serde(default)]
    domain: Option<DomainSnapshot>,
    #[serde(default)]
    waits: Vec<WaitSnapshot>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sends: Option<SendsSnapshot>,
}

/// How many lists and maps of a report may lie in each other. A report has less than ten; whoever sends more wants the stack.
const DEPTH_MAX: usize = 64;

/// The longest report that is sent or read: that of a million processors with names of 100 bytes, of which each takes some 480. With
/// names of 12 bytes each takes some 300.
pub(crate) const REPORT_BYTES_MAX: u64 = 512 << 20;

/// The error, for people: a report of so many bytes is not read.
pub(crate) fn check_bytes(bytes: u64) -> Result<(), String> {
    if bytes <= REPORT_BYTES_MAX {
        return Ok(());
    }
    Err(format!(
        "it has {bytes} bytes, and at most {REPORT_BYTES_MAX} are read, which are those of a million processors"
    ))
}

/// The bytes of a report. The error is for people.
pub(crate) fn encode(report: NodeReport) -> Result<Vec<u8>, String> {
    let NodeReport {
        node,
        snapshot,
        taken_unix_ns,
    } = report;
    let travelling = Travelling {
        node,
        taken_unix_ns,
        runtime: snapshot.runtime,
        topics: snapshot.topics,
        patterns: snapshot.patterns,
        connections: snapshot.connections,
        services: snapshot.services,
        domain: snapshot.domain,
        waits: snapshot.waits,
        sends: snapshot.sends,
    };
    rmp_serde::to_vec_named(&travelling).map_err(|error| error.to_string())
}

/// What somebody's bytes say. The error is for people.
pub(crate) fn decode(bytes: &[u8]) -> Result<NodeReport, String> {
    let mut reader = rmp_serde::Deserializer::from_read_ref(bytes);
    // It refuses the level at which its count is used up.
    reader.set_max_depth(DEPTH_MAX + 1);
    let travelling = Travelling::<mproc_runtime::Snapshot>::deserialize(&mut reader);
    let travelling = travelling.map_err(|error| error.to_string())?;
    Ok(NodeReport {
        node: travelling.node,
        taken_unix_ns: travelling.taken_unix_ns,
        snapshot: Snapshot {
            runtime: travelling.runtime,
            topics: travelling.topics,
            patterns: travelling.patterns,
            connections: travelling.connections,
            services: travelling.services,
            domain: travelling.domain,
            waits: travelling.waits,
            sends: travelling.sends,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::de::IgnoredAny;
    use std::collections::BTreeMap;

    fn report() -> NodeReport {
        let runtime = mproc_runtime::Runtime::simulated(1);
        let sink = runtime.spawn("sink", mproc_runtime::closure(|_: u8, _cx| ()));
        sink.unwrap().send(1).unwrap();
        let graph = crate::graph::Graph::of(&runtime);
        let options = crate::SubscriptionOptions::new();
        let _tap = graph.tap(&runtime, "robot/**", options).unwrap();
        graph.connect("a", "b").unwrap();
        NodeReport {
            node: graph.node_info(&runtime),
            snapshot: graph.node_snapshot(&runtime),
            taken_unix_ns: 7,
        }
    }

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = report();
        assert_eq!(report.snapshot.processors.len(), 1);
        assert!(report.snapshot.patterns[0].subscription.tap);
        assert_eq!(report.snapshot.connections[0].to, "b");
        assert_eq!(decode(&encode(report.clone()).unwrap()).unwrap(), report);
        let runtime = mproc_runtime::Runtime::simulated(1);
        let watch = runtime.watch_sends();
        let sink = runtime.spawn("sink", mproc_runtime::closure(|_: u8, _cx| ()));
        sink.unwrap().send(1).unwrap();
        let mut watched = report;
        watched.snapshot.sends = Some(SendsSnapshot::of(&watch));
        assert_eq!(decode(&encode(watched.clone()).unwrap()).unwrap(), watched);
        assert_eq!(watched.snapshot.sends.unwrap().pairs.len(), 1);
    }

    #[test]
    fn a_million_processors_fit_into_a_report() {
        let mut report = report();
        let one = encode(report.clone()).unwrap().len() as u64;
        let mut processor = report.snapshot.runtime.processors[0].clone();
        // As a processor has it that has been busy for years.
        processor.name = "a".repeat(100);
        processor.driver = processor.name.clone();
        for count in [
            &mut processor.received,
            &mut processor.handled,
            &mut processor.busy_ns,
            &mut processor.longest_handler_ns,
        ] {
            *count = u64::MAX;
        }
        let more = std::iter::repeat_n(processor, 1000);
        report.snapshot.runtime.processors.extend(more);
        let each = (encode(report).unwrap().len() as u64 - one) / 1000;
        println!("{each} bytes each");
        assert!(check_bytes(each * 1_000_000).is_ok(), "{each}");
        assert!(check_bytes(REPORT_BYTES_MAX).is_ok());
        let why = check_bytes(REPORT_BYTES_MAX + 1).unwrap_err();
        assert!(why.contains("at most 536870912 are read"), "{why}");
    }

    #[test]
    fn a_report_has_the_names_of_its_fields() {
        let bytes = encode(report()).unwrap();
        let fields: BTreeMap<String, IgnoredAny> = rmp_serde::from_slice(&bytes).unwrap();
        let names: Vec<_> = fields.into_keys().collect();
        let wanted = [
            "connections",
            "domain",
            "node",
            "patterns",
            "runtime",
            "services",
            "taken_unix_ns",
            "topics",
            "waits",
        ];
        assert_eq!(names, wanted);
    }

    /// What a later version may have beside what this one knows, and an earlier one may not have had.
    #[derive(Serialize)]
    struct Other<'a> {
        weather: BTreeMap<&'a str, Vec<u8>>,
        node: BTreeMap<&'a str, &'a str>,
        runtime: mproc_runtime::Snapshot,
    }

    #[test]
    fn a_report_of_another_version_is_read_as_far_as_it_is_known() {
        let runtime = report().snapshot.runtime;
        let bytes = rmp_serde::to_vec_named(&Other {
            weather: BTreeMap::from([("rain", vec![1, 2, 3])]),
            node: BTreeMap::from([("program", "later"), ("colour", "red")]),
            runtime: runtime.clone(),
        });
        let read = decode(&bytes.unwrap()).unwrap();
        let node = NodeInfo {
            program: "later".into(),
            ..NodeInfo::default()
        };
        assert_eq!((read.node, read.taken_unix_ns), (node, 0));
        assert_eq!(read.snapshot.runtime, runtime);
        assert_eq!(
            (read.snapshot.topics.len(), read.snapshot.waits.len()),
            (0, 0)
        );
        assert_eq!(read.snapshot.sends, None);
    }
}
