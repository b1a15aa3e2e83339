//! All of a node's snapshots in one.

use super::{ConnectionSnapshot, PatternSnapshot};
use crate::graph::Graph;
use crate::services::ServiceSnapshot;
use crate::snapshot::{DomainSnapshot, TopicSnapshot};
use mproc_runtime::{Runtime, SendSnapshot, SendWatch, WaitSnapshot};
use serde::{Deserialize, Serialize};
use std::ops::Deref;

/// Everything that is known of a running program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Snapshot {
    /// Processors, drivers and totals.
    #[serde(flatten)]
    pub runtime: mproc_runtime::Snapshot,
    /// Topics, by name.
    pub topics: Vec<TopicSnapshot>,
    /// Subscriptions to whatever topics match, taps among them, in the order in which they were made.
    #[serde(default)]
    pub patterns: Vec<PatternSnapshot>,
    /// Topics that are connected, also those that are not declared.
    #[serde(default)]
    pub connections: Vec<ConnectionSnapshot>,
    /// Services that it serves, calls or knows of from other processes, by name.
    #[serde(default)]
    pub services: Vec<ServiceSnapshot>,
    /// The other processes of its domain; `None` if it is for this process alone.
    #[serde(default)]
    pub domain: Option<DomainSnapshot>,
    /// Who cannot go on, and whom that is up to. A processor may be there twice: one that waits for an answer, and for room
    /// for what it has sent before.
    #[serde(default)]
    pub waits: Vec<WaitSnapshot>,
    /// Who sent messages to whom, if that was watched before the snapshot was made: in a report that was asked for with
    /// [`SurveyOptions::watch_sends`](crate::SurveyOptions::watch_sends), by a node that could. Else `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sends: Option<SendsSnapshot>,
}

/// Who sent messages to whom in a window of time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SendsSnapshot {
    /// How long the window was, in nanoseconds.
    pub window_ns: u64,
    /// Each pair of a sender and a receiver, as [`SendWatch::sends`] gives them.
    pub pairs: Vec<SendSnapshot>,
    /// How many messages were sent between pairs that are not there: [`SendWatch::more`].
    #[serde(default)]
    pub more: u64,
}

impl SendsSnapshot {
    /// What a watch has counted so far.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::SendsSnapshot;
    /// # use mproc_runtime::{Runtime, closure};
    /// let node = Runtime::simulated(1);
    /// let sink = node.spawn_thread("sink", closure(|_: u8, _cx| ()))?;
    /// let watch = node.watch_sends();
    /// sink.send(1)?;
    /// node.advance(std::time::Duration::from_secs(2));
    /// let sends = SendsSnapshot::of(&watch);
    /// assert_eq!((sends.pairs[0].count, sends.window_ns), (1, 2_000_000_000));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn of(watch: &SendWatch) -> Self {
        Self {
            window_ns: u64::try_from(watch.window().as_nanos()).unwrap_or(u64::MAX),
            pairs: watch.sends(),
            more: watch.more(),
        }
    }
}

impl Deref for Snapshot {
    type Target = mproc_runtime::Snapshot;

    fn deref(&self) -> &mproc_runtime::Snapshot {
        &self.runtime
    }
}

impl Graph {
    /// What is known of the node now, with its processors. It waits for no driver, so it comes also while all of them are
    /// blocked.
    pub fn node_snapshot(&self, runtime: &Runtime) -> Snapshot {
        let processors = runtime.snapshot();
        let mut waits = runtime.waits(&processors.processors);
        self.add_waits(&mut waits);
        Snapshot {
            runtime: processors,
            topics: self.snapshot(),
            patterns: self.pattern_snapshots(),
            connections: self.connection_snapshots(),
            services: self.service_snapshot(),
            domain: self.domain_snapshot(),
            waits,
            sends: None,
        }
    }
}
