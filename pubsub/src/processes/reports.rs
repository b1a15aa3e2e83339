//! What is told to people, and what is counted.

use crate::snapshot::DomainSnapshot;
use mproc_runtime::hook;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// How many different texts about processes that were not met are remembered, so that each is told once.
const TEXTS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) peers: AtomicUsize,
    pub(super) links: AtomicUsize,
    pub(super) violations: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) lost_connections: AtomicU64,
    told: Mutex<BTreeSet<String>>,
}

impl Reports {
    pub(super) fn tell(&self, text: &str) {
        hook::remote(text);
    }

    /// As [`tell`](Self::tell), unless it was told before.
    pub(super) fn tell_once(&self, text: String) {
        let mut told = self.told.lock();
        if told.len() >= TEXTS_MAX || !told.insert(text.clone()) {
            return;
        }
        drop(told);
        self.tell(&text);
    }

    pub(super) fn violation(&self, text: &str) {
        self.violations.fetch_add(1, Relaxed);
        self.tell(text);
    }

    pub(super) fn snapshot(&self, name: String) -> DomainSnapshot {
        DomainSnapshot {
            name,
            peers: self.peers.load(Relaxed) as u64,
            links: self.links.load(Relaxed) as u64,
            violations: self.violations.load(Relaxed),
            refused: self.refused.load(Relaxed),
            lost_connections: self.lost_connections.load(Relaxed),
        }
    }
}
