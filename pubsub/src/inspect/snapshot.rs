//! All of a node's snapshots in one.

use crate::graph::Graph;
use crate::services::ServiceSnapshot;
use crate::snapshot::{DomainSnapshot, TopicSnapshot};
use mproc_runtime::{Runtime, WaitSnapshot};
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
        let waits = runtime.waits(&processors.processors);
        Snapshot {
            runtime: processors,
            topics: self.snapshot(),
            services: self.service_snapshot(),
            domain: self.domain_snapshot(),
            waits,
        }
    }
}
