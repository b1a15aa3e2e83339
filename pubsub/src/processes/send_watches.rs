//! Watches over who sends to whom in this node, for peers that have asked for one with their report.
//!
//! They are held by the thread of [`inspector`](super::inspector), which does other things until the next is over. A watch ends
//! when its time is over, when whoever asked is gone, and with the thread.

use super::core::Core;
use super::line::Line;
use crate::inspect::WATCH_MAX;
use mproc_runtime::SendWatch;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many peers' watches there are at a time: each costs every message of the node some nanoseconds.
const WATCHES_MAX: usize = 8;

/// How many of them one peer may have.
const WATCHES_OF_PEER_MAX: usize = 2;

/// Who wants to know, and for how long.
pub(super) struct Wanted {
    pub(super) line: Arc<Line>,
    pub(super) connection: u64,
    pub(super) request: u64,
    pub(super) time: Duration,
}

struct Open {
    wanted: Wanted,
    until: Instant,
    watch: SendWatch,
}

#[derive(Default)]
pub(super) struct SendWatches(Vec<Open>);

impl SendWatches {
    /// Gives it back if there is none to be had: the report is to be made now, and without.
    pub(super) fn begin(&mut self, core: &Core, wanted: Wanted) -> Result<(), Wanted> {
        let is_same = |open: &&Open| open.wanted.connection == wanted.connection;
        let of_the_peer = self.0.iter().filter(is_same).count();
        if self.0.len() >= WATCHES_MAX || of_the_peer >= WATCHES_OF_PEER_MAX {
            return Err(wanted);
        }
        let node = core.neighbourhood.upgrade();
        let Some(watch) = node.and_then(|node| node.watch_sends()) else {
            return Err(wanted);
        };
        self.0.push(Open {
            until: Instant::now() + wanted.time.min(WATCH_MAX),
            wanted,
            watch,
        });
        Ok(())
    }

    /// When the next is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|open| open.until).min()
    }

    /// One that is over by `now`, to be read.
    pub(super) fn take_over(&mut self, now: Instant) -> Option<(Arc<Line>, u64, SendWatch)> {
        let at = self.0.iter().position(|open| open.until <= now)?;
        let Open { wanted, watch, .. } = self.0.swap_remove(at);
        Some((wanted.line, wanted.request, watch))
    }

    /// Nobody is at the other end of this connection any more.
    pub(super) fn forget(&mut self, connection: u64) {
        self.0.retain(|open| open.wanted.connection != connection);
    }
}
