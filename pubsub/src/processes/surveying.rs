//! The control's part for surveys: who is asked, who has answered, and why the others have not.
//!
//! | a node of the survey | becomes                                                                                       |
//! |----------------------|-----------------------------------------------------------------------------------------------|
//! | unmet                | asked, when it is met; silent, if it does not fit or its socket is stale; nothing, if it left    |
//! | asked                | read, when its report has come; unmet, if the connection is lost; silent, if it refuses or its process ends; nothing, if it leaves |
//! | read                 | done, when [`inspector`](super::inspector) has read the report                                |
//!
//! What is left at the deadline is silent, with what is known of it. The bytes of both frames stand in `shm/WIRE.md`.

use super::control::{Command, Control, Nonsense};
use super::core::Core;
use super::inspector::Job;
use super::line::Line;
use super::send_watches::Wanted;
use crate::inspect::{Asking, NodeReport, SilentNode, Survey, hex};
use mproc_shm::{
    ConnectError, Entry, Frame, GreetingError, MeetingError, NodeId, Removal, Rendezvous,
    is_stopped,
};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A peer that has not answered so many questions is asked no more until it does: what it does not read must not fill the
/// connection, which has its links, too.
const UNANSWERED_MAX: usize = 256;

/// Asks for a report. See `shm/WIRE.md`.
pub(super) const INSPECT: u16 = 0x100;

/// Answers that.
pub(super) const REPORT: u16 = 0x101;

/// In the greeting: it answers [`INSPECT`].
pub(super) const FEATURE_REPORTS: u64 = 1;

/// In the greeting: a question may say for how long it watches first who sends to whom.
pub(super) const FEATURE_SENDS: u64 = 2;

/// The longest text of a report that was not made, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Of how many nodes that were not met the reason is remembered.
const UNMET_MAX: usize = 1024;

/// Why a node was not met.
pub(super) struct Unmet {
    /// `None` if it has left in order.
    why: Option<String>,
    /// No later attempt will succeed.
    is_final: bool,
}

/// Reasons, by node.
pub(super) type UnmetNodes = BTreeMap<NodeId, Unmet>;

/// The surveys of this node that are not finished.
#[derive(Default)]
pub(super) struct Surveys {
    next: u64,
    open: BTreeMap<u64, Open>,
}

struct Open {
    asking: Asking,
    deadline: Option<Instant>,
    /// For how long everybody is to watch who sends to whom; zero: not at all.
    watch: Duration,
    waiting: BTreeMap<NodeId, Waiting>,
    survey: Survey,
}

struct Waiting {
    pid: u32,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Unmet,
    /// Over this connection.
    Asked(u64),
    Read,
}

impl Open {
    fn silent(&mut self, node: NodeId, why: String) {
        if let Some(waiting) = self.waiting.remove(&node) {
            self.survey.silent.push(SilentNode {
                id: hex(&node.to_bytes()),
                pid: waiting.pid,
                why,
            });
        }
    }

    /// `why` is `None` if it has left in order.
    fn ended(&mut self, node: NodeId, why: Option<&str>) {
        match why {
            Some(why) => self.silent(node, why.to_owned()),
            None => drop(self.waiting.remove(&node)),
        }
    }

    /// Who is asked over this connection.
    fn asked(&self, connection: u64) -> Option<NodeId> {
        let is_it = |waiting: &Waiting| waiting.state == State::Asked(connection);
        let found = self.waiting.iter().find(|(_, waiting)| is_it(waiting));
        found.map(|(node, _)| *node)
    }

    fn finish(mut self) {
        self.survey
            .reports
            .sort_by(|a, b| (a.node.pid, &a.node.id).cmp(&(b.node.pid, &b.node.id)));
        self.survey
            .silent
            .sort_by(|a, b| (a.pid, &a.id).cmp(&(b.pid, &b.id)));
        let survey = std::mem::take(&mut self.survey);
        self.asking.0.finish(Ok(survey));
    }
}

/// What a meeting that failed says about a node, if it is known about which.
pub(super) fn unmet(error: &MeetingError) -> Option<(NodeId, Unmet)> {
    let (node, is_final) = match error {
        MeetingError::Connect { entry, error } => {
            let is_final = matches!(
                error,
                ConnectError::Stale | ConnectError::Gone | ConnectError::OtherUser { .. }
            );
            (entry.node, is_final)
        }
        MeetingError::Greeting { entry, error } => {
            let passes = matches!(
                error,
                GreetingError::Late
                    | GreetingError::Closed
                    | GreetingError::Send(_)
                    | GreetingError::Recv(_)
            );
            let said = match error {
                GreetingError::Mismatch { peer, .. } => Some(peer.node),
                _ => None,
            };
            (entry.map(|entry| entry.node).or(said)?, !passes)
        }
        _ => return None,
    };
    let why = match error {
        MeetingError::Connect { error, .. } => match error {
            ConnectError::Stale => Some(STALE.to_owned()),
            ConnectError::Gone => None,
            error => Some(error.to_string()),
        },
        MeetingError::Greeting { error, .. } => Some(error.to_string()),
        other => Some(other.to_string()),
    };
    Some((node, Unmet { why, is_final }))
}

const STOPPED: &str = "its process is stopped, by a signal or by a debugger";

const STALE: &str = "its process has ended and left its socket in the directory";

impl Core {
    /// Remembers why somebody was not met, and lets surveys know.
    pub(super) fn note_unmet(&self, error: &MeetingError) {
        let Some((node, reason)) = unmet(error) else {
            return;
        };
        {
            let mut nodes = self.unmet.lock();
            if nodes.len() >= UNMET_MAX && !nodes.contains_key(&node) {
                nodes.pop_first();
            }
            nodes.insert(node, reason);
        }
        self.post(Command::NotMet(node));
    }

    /// True if a survey has to be finished now, once: [`Control::surveys_due`] does it, and says when the next has to.
    pub(super) fn take_survey_due(&self, now: Instant) -> bool {
        let mut due = self.survey_due.lock();
        let is_due = due.is_some_and(|at| at <= now);
        if is_due {
            *due = None;
        }
        is_due
    }
}

impl Control {
    /// Begins a survey.
    pub(super) fn survey(&mut self, asking: Asking, deadline: Option<Instant>, watch: Duration) {
        let number = self.surveys.next;
        self.surveys.next += 1;
        let mut open = Open {
            asking,
            deadline,
            watch,
            waiting: BTreeMap::new(),
            survey: Survey::default(),
        };
        for peer in self
            .peers
            .values()
            .filter(|peer| peer.is_open && !peer.is_leaving)
        {
            let identity = peer.identity;
            let state = State::Unmet;
            let waiting = Waiting {
                pid: identity.pid,
                state,
            };
            open.waiting.insert(identity.node, waiting);
        }
        if let Some(rendezvous) = self.core.rendezvous() {
            // If it cannot be read, those that are met are asked all the same.
            let others = rendezvous.others().unwrap_or_default();
            self.core
                .unmet
                .lock()
                .retain(|node, _| others.iter().any(|entry| entry.node == *node));
            for entry in others {
                self.find(&mut open, entry, &rendezvous);
            }
            rendezvous.hurry();
        }
        self.surveys.open.insert(number, open);
        let connections: Vec<u64> = self.peers.keys().copied().collect();
        for connection in connections {
            self.ask_in_surveys(connection);
        }
        self.finish_surveys();
    }

    /// A node that is in the directory and perhaps not met.
    fn find(&self, open: &mut Open, entry: Entry, rendezvous: &Rendezvous) {
        if open.waiting.contains_key(&entry.node) {
            return;
        }
        let waiting = Waiting {
            pid: entry.pid,
            state: State::Unmet,
        };
        open.waiting.insert(entry.node, waiting);
        let unmet = self.core.unmet.lock();
        let known = unmet.get(&entry.node).filter(|unmet| unmet.is_final);
        let known = known.map(|unmet| unmet.why.clone());
        drop(unmet);
        if let Some(why) = known {
            open.ended(entry.node, why.as_deref());
        } else if entry.node < self.core.node && is_stale(rendezvous, &entry) {
            // It would have visited us: nobody else looks whether it lives.
            open.silent(entry.node, STALE.to_owned());
        }
    }

    /// A peer was met: it is asked in every survey that waits for it.
    pub(super) fn ask_in_surveys(&mut self, connection: u64) {
        let peer = self.peers.get_mut(&connection);
        let Some(peer) = peer.filter(|peer| peer.is_open) else {
            return;
        };
        let node = peer.identity.node;
        self.core.unmet.lock().remove(&node);
        for (number, open) in &mut self.surveys.open {
            let Some(waiting) = open.waiting.get_mut(&node) else {
                continue;
            };
            if waiting.state != State::Unmet {
                continue;
            }
            let pid = waiting.pid;
            if peer.gives_reports && peer.unanswered < UNANSWERED_MAX {
                let mut body = number.to_le_bytes().to_vec();
                if peer.watches_sends && !open.watch.is_zero() {
                    let watch_ns = u64::try_from(open.watch.as_nanos()).unwrap_or(u64::MAX);
                    body.extend(watch_ns.to_le_bytes());
                }
                let kind = INSPECT;
                let sent = peer.line.send(&Frame::Other { kind, body: &body }, &[]);
                debug_assert!(sent.is_ok(), "two numbers fit into a packet");
                peer.unanswered += 1;
                waiting.state = State::Asked(connection);
            } else {
                let why = match peer.gives_reports {
                    false => "it was built with a version of mproc that gives no reports",
                    true if is_stopped(pid) => STOPPED,
                    true => "it has not answered what it was asked before",
                };
                open.silent(node, why.to_owned());
            }
        }
    }

    /// Somebody was not met.
    pub(super) fn not_met(&mut self, node: NodeId) {
        let unmet = self.core.unmet.lock();
        let known = unmet.get(&node).filter(|unmet| unmet.is_final);
        let Some(why) = known.map(|unmet| unmet.why.clone()) else {
            return;
        };
        drop(unmet);
        for open in self.surveys.open.values_mut() {
            let waiting = open.waiting.get(&node);
            if waiting.is_some_and(|waiting| waiting.state == State::Unmet) {
                open.ended(node, why.as_deref());
            }
        }
        self.finish_surveys();
    }

    /// A connection was lost. They meet again, if the process lives.
    pub(super) fn lost_in_surveys(&mut self, connection: u64) {
        for open in self.surveys.open.values_mut() {
            let node = open.asked(connection);
            if let Some(waiting) = node.and_then(|node| open.waiting.get_mut(&node)) {
                waiting.state = State::Unmet;
            }
        }
    }

    /// Nothing will come from a node: for this reason, or because it has left in order, and is of the domain no longer. What has
    /// come is read all the same.
    pub(super) fn ended_in_surveys(&mut self, node: NodeId, why: Option<&str>) {
        for open in self.surveys.open.values_mut() {
            let waiting = open.waiting.get(&node);
            if waiting.is_some_and(|waiting| waiting.state != State::Read) {
                open.ended(node, why);
            }
        }
        self.finish_surveys();
    }

    /// A peer asks for a report.
    pub(super) fn inspect(
        &mut self,
        connection: u64,
        body: &[u8],
        descriptors: &[OwnedFd],
    ) -> Result<(), Nonsense> {
        let (Some((request, watch)), []) = (question(body), descriptors) else {
            return Err("its question for a report makes no sense".into());
        };
        if let Some(peer) = self.peers.get(&connection) {
            let line = Arc::clone(&peer.line);
            let job = match watch {
                Some(time) => Job::Watch(Wanted {
                    line,
                    connection,
                    request,
                    time,
                }),
                None => Job::Make {
                    line,
                    connection,
                    request,
                },
            };
            self.core.inspector.post(&self.core, job);
        }
        Ok(())
    }

    /// A peer has sent a report, or why it has none.
    pub(super) fn reported(
        &mut self,
        connection: u64,
        body: &[u8],
        mut descriptors: Vec<OwnedFd>,
    ) -> Result<(), Nonsense> {
        let Some(report) = Reported::decode(body) else {
            return Err("its report is not written as the protocol says".into());
        };
        let descriptor = descriptors.pop();
        let fits = descriptor.is_some() == (report.bytes > 0) && descriptors.is_empty();
        if !fits || report.request >= self.surveys.next {
            return Err("its report makes no sense: nobody asked, or there is no memory".into());
        }
        if let Some(peer) = self.peers.get_mut(&connection) {
            peer.unanswered = peer.unanswered.saturating_sub(1);
        }
        // One that comes too late is let go of.
        let Some(open) = self.surveys.open.get_mut(&report.request) else {
            return Ok(());
        };
        let Some(node) = open.asked(connection) else {
            return Ok(());
        };
        match descriptor {
            None => open.silent(node, format!("it gives no report: {}", report.text)),
            Some(descriptor) => {
                let ask = Arc::clone(&open.asking.0);
                if let Some(waiting) = open.waiting.get_mut(&node) {
                    waiting.state = State::Read;
                    let job = Job::Read {
                        survey: report.request,
                        node,
                        pid: waiting.pid,
                        descriptor,
                        bytes: report.bytes,
                        ask,
                    };
                    self.core.inspector.post(&self.core, job);
                }
            }
        }
        self.finish_surveys();
        Ok(())
    }

    /// A report was read.
    pub(super) fn read(&mut self, survey: u64, node: NodeId, report: Result<NodeReport, String>) {
        let Some(open) = self.surveys.open.get_mut(&survey) else {
            return;
        };
        match report {
            Ok(report) => {
                if open.waiting.remove(&node).is_some() {
                    open.survey.reports.push(report);
                }
            }
            Err(why) => open.silent(node, format!("its report cannot be read: {why}")),
        }
        self.finish_surveys();
    }

    /// Finishes surveys whose time is over.
    pub(super) fn surveys_due(&mut self, now: Instant) {
        let rendezvous = self.core.rendezvous();
        for open in self.surveys.open.values_mut() {
            if open.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            let waiting = open.waiting.iter();
            let waiting: Vec<_> = waiting.map(|(node, w)| (*node, w.pid, w.state)).collect();
            for (node, pid, state) in waiting {
                let entry = Entry { pid, node };
                let why = match state {
                    State::Read => "its report was still being read when the limit was over".into(),
                    _ if is_stopped(pid) => STOPPED.to_owned(),
                    State::Asked(_) => "it was asked, and has not answered within the limit".into(),
                    State::Unmet => {
                        let is_stale = |rendezvous| is_stale(rendezvous, &entry);
                        let unmet = self.core.unmet.lock();
                        let last = unmet.get(&node).and_then(|unmet| unmet.why.clone());
                        drop(unmet);
                        match last {
                            _ if rendezvous.as_deref().is_some_and(is_stale) => STALE.to_owned(),
                            Some(why) => format!("it was not met within the limit: {why}"),
                            None => "it was not met within the limit".into(),
                        }
                    }
                };
                open.silent(node, why);
            }
        }
        self.finish_surveys();
    }

    /// Finishes those that wait for nobody, and forgets those that nobody wants. Says when the next is due.
    pub(super) fn finish_surveys(&mut self) {
        let open = &mut self.surveys.open;
        let is_over = |open: &Open| open.waiting.is_empty() || open.asking.0.is_over();
        let over: Vec<u64> = open
            .iter()
            .filter(|(_, o)| is_over(o))
            .map(|(n, _)| *n)
            .collect();
        let over: Vec<Open> = over
            .iter()
            .filter_map(|number| open.remove(number))
            .collect();
        let due = open.values().filter_map(|open| open.deadline).min();
        *self.core.survey_due.lock() = due;
        for open in over {
            // A waker is code of others. The next one has a right to be woken.
            let _panicked = catch_unwind(AssertUnwindSafe(|| open.finish()));
        }
    }

    /// The node leaves its domain: whoever waits for a survey is told so.
    pub(super) fn leave_surveys(&mut self) {
        drop(std::mem::take(&mut self.surveys.open));
        *self.core.survey_due.lock() = None;
    }
}

/// True if it was stale. It is removed then.
fn is_stale(rendezvous: &Rendezvous, entry: &Entry) -> bool {
    matches!(rendezvous.remove_stale(entry), Ok(Removal::Removed))
}

/// A frame of kind [`INSPECT`]: the number of the question, and for how long to watch first who sends to whom.
fn question(body: &[u8]) -> Option<(u64, Option<Duration>)> {
    let (request, rest) = body.split_first_chunk()?;
    let request = u64::from_le_bytes(*request);
    if rest.is_empty() {
        return Some((request, None));
    }
    let watch = Duration::from_nanos(u64::from_le_bytes(rest.try_into().ok()?));
    Some((request, Some(watch).filter(|watch| !watch.is_zero())))
}

/// A frame of kind [`REPORT`].
struct Reported<'a> {
    request: u64,
    bytes: u64,
    text: &'a str,
}

impl<'a> Reported<'a> {
    fn decode(body: &'a [u8]) -> Option<Self> {
        let (request, rest) = body.split_first_chunk()?;
        let (bytes, text) = rest.split_first_chunk()?;
        if text.len() > TEXT_BYTES_MAX {
            return None;
        }
        Some(Self {
            request: u64::from_le_bytes(*request),
            bytes: u64::from_le_bytes(*bytes),
            text: std::str::from_utf8(text).ok()?,
        })
    }
}

/// Sends a report of so many bytes, whose memory goes along, or the text why there is none.
pub(super) fn send_report(
    line: &Line,
    request: u64,
    report: Result<&super::inspector::Made, &str>,
) {
    let (bytes, mut text) = match report {
        Ok(made) => (made.bytes(), ""),
        Err(why) => (0, why),
    };
    while text.len() > TEXT_BYTES_MAX {
        let end = text.char_indices().next_back().map_or(0, |(at, _)| at);
        text = &text[..end];
    }
    let numbers = [request.to_le_bytes(), bytes.to_le_bytes()].concat();
    let body = [&numbers, text.as_bytes()].concat();
    let frame = Frame::Other {
        kind: REPORT,
        body: &body,
    };
    let descriptors = report.map_or_else(|_| Vec::new(), |made| vec![made.descriptor()]);
    let sent = line.send(&frame, &descriptors);
    debug_assert!(sent.is_ok(), "a text that is too long is cut");
}
