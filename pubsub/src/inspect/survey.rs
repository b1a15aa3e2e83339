//! A survey as an operation: waited for, awaited, or continued in a handler.

use super::{
    Ask, NodeInfo, NodeReport, SendsSnapshot, Snapshot, Survey, SurveyOptions, encode, hex,
};
use crate::forked::forked;
use crate::graph::Graph;
use crate::transport::Transport;
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CutShort, Error, ErrorKind, Operation, Pending, Runtime, RuntimeCore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

/// How much longer than the survey's own limit a wait for it has, unless told otherwise: only for the case that the thread that
/// looks after connections does not run.
const GRACE: Duration = Duration::from_secs(5);

impl Graph {
    /// Asks every other node of the domain for a report, and gives a [`Survey`] when each has answered or is dead, or `limit` is
    /// over. This node is not in it. Whoever has not answered is in [`Survey::silent`], with the reason in words. A node that leaves in
    /// order meanwhile is in neither.
    ///
    /// The nodes are those that are in the domain's directory when it begins, also those that this node has not met yet; a node
    /// that comes later is not asked. A report is made on a thread of its own at the other node, so it comes also while all
    /// drivers there are blocked. Nothing begins before the operation is waited for.
    ///
    /// For a node of no domain and for a simulated one it is empty, at once.
    ///
    /// # Errors
    ///
    /// From waiting:
    ///
    /// - [`ErrorKind::Closed`]: the node has ended, perhaps meanwhile.
    /// - [`ErrorKind::InvalidSetting`], [`ErrorKind::Io`], [`ErrorKind::Refused`]: the node could not join its domain before,
    ///   and cannot now. The text says why, and what to do.
    /// - [`ErrorKind::Timeout`]: the wait itself was given a limit that is shorter than the survey's.
    /// - [`ErrorKind::Forked`] in a child that was forked from the process of the node.
    ///
    /// # Cancel safety
    ///
    /// Dropping it cancels: reports that come later are let go of unread.
    pub fn survey(self: &Arc<Self>, runtime: &Runtime, limit: Duration) -> Pending<Survey, Error> {
        self.survey_with(runtime, SurveyOptions::new().limit(limit))
    }

    /// As [`survey`](Self::survey), with options.
    ///
    /// # Errors
    ///
    /// As [`survey`](Self::survey).
    ///
    /// # Cancel safety
    ///
    /// As [`survey`](Self::survey). Who watches at another node goes on to its end, which nobody is told of.
    pub fn survey_with(
        self: &Arc<Self>,
        runtime: &Runtime,
        options: SurveyOptions,
    ) -> Pending<Survey, Error> {
        let watch = options.watch();
        Pending::new(Arc::new(Surveying {
            graph: Arc::clone(self),
            runtime: runtime.without_guard(),
            limit: watch.saturating_add(options.limit_of_answers()),
            watch,
            ask: Arc::default(),
            has_begun: AtomicBool::new(false),
        }))
    }

    /// Which node this is, as others see it.
    pub fn node_info(&self, runtime: &Runtime) -> NodeInfo {
        let id = self.made_transport_here().map(|transport| transport.node());
        let program = std::env::current_exe().unwrap_or_default();
        let program = program.file_name().unwrap_or_default();
        let since_start = || runtime.steady_clock().now().as_nanos();
        let started = || unix_ns(runtime).saturating_sub(since_start());
        NodeInfo {
            id: hex(&id.unwrap_or_default()),
            pid: std::process::id(),
            program: program.to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            domain: self.domain().map(str::to_owned),
            started_unix_ns: *self.started_unix_ns.get_or_init(started),
        }
    }

    /// What this node answers to a survey. The error is for people.
    pub(crate) fn report(
        &self,
        runtime: &Runtime,
        sends: Option<SendsSnapshot>,
    ) -> Result<Vec<u8>, String> {
        if runtime.has_ended() {
            return Err("the node has ended".into());
        }
        encode(NodeReport {
            node: self.node_info(runtime),
            taken_unix_ns: unix_ns(runtime),
            snapshot: Snapshot {
                sends,
                ..self.node_snapshot(runtime)
            },
        })
    }
}

fn unix_ns(runtime: &Runtime) -> u64 {
    runtime.wall_clock().now().as_nanos()
}

struct Surveying {
    graph: Arc<Graph>,
    runtime: Runtime,
    /// With the watch.
    limit: Duration,
    watch: Duration,
    ask: Arc<Ask>,
    has_begun: AtomicBool,
}

impl Surveying {
    fn transport(&self) -> Result<Option<Arc<dyn Transport>>, Error> {
        self.graph
            .check_here()
            .map_err(|_| forked("cannot survey the domain"))?;
        if self.runtime.has_ended() {
            let text = "cannot survey the domain: the node has ended";
            return Err(Error::new(ErrorKind::Closed, text));
        }
        self.graph.transport(&self.runtime)
    }
}

impl Operation<Survey, Error> for Surveying {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), Error>> {
        if self.has_begun.swap(true, AcqRel) {
            return Poll::Ready(Ok(()));
        }
        match self.transport() {
            Ok(Some(transport)) => {
                let deadline = Instant::now().checked_add(self.limit);
                transport.survey(&self.ask, deadline, self.watch);
            }
            Ok(None) => self.ask.finish(Ok(Survey::default())),
            Err(error) => return Poll::Ready(Err(error)),
        }
        Poll::Ready(Ok(()))
    }

    fn retreat(&self, _: &mut Waiter) {}

    fn poll(&self, waker: &Waker) -> Poll<Result<Survey, Error>> {
        self.ask.poll(waker)
    }

    fn is_done(&self) -> bool {
        self.ask.is_done()
    }

    fn abandon(&self, _: &mut Waiter) {
        if self.ask.is_over() {
            return;
        }
        self.ask.abandon();
        if let Some(transport) = self.graph.made_transport_here() {
            transport.forget_surveys();
        }
    }

    fn refuse_to_block(&self) -> Option<Error> {
        None
    }

    fn timeout(&self) -> Error {
        let text = "survey was not finished within the limit of the wait";
        Error::new(ErrorKind::Timeout, text)
    }

    fn cut_short(&self, why: CutShort) -> Error {
        why.error("survey was not made")
    }

    fn what(&self) -> &'static str {
        "survey"
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.runtime.shared()
    }

    fn limit(&self) -> Duration {
        self.limit.saturating_add(GRACE)
    }
}
