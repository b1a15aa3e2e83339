//! The thread that makes this node's reports and reads those of others: `mproc inspect`.
//!
//! It is not there until somebody asks, and ends when nobody has asked for a while. A node may have a million processors, whose
//! snapshot takes a second; the watch's thread has others to serve meanwhile. One report answers all who have asked before it was
//! begun, so that many who ask cost as much as one. Of one peer, a bounded number of questions waits; more are answered with why
//! there is no report.
//!
//! A peer may want to know who sends to whom first, for a while ([`send_watches`](super::send_watches)). Nobody else waits for that.
//!
//! Nothing of the user's runs here, but drops of what came to its end while it was looked at. Whatever panics, the thread goes on.

use super::control::Command;
use super::core::Core;
use super::line::{Descriptor, Line};
use super::send_watches::{SendWatches, Wanted};
use super::surveying::send_report;
use crate::inspect::{Ask, NodeReport, REPORT_BYTES_MAX, SendsSnapshot, check_bytes, decode, hex};
use mproc_runtime::SendWatch;
use mproc_shm::{NodeId, SealedBytes};
use parking_lot::{Condvar, Mutex};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// For how long the thread waits for more to do.
const IDLE: Duration = Duration::from_secs(3);

/// How many questions of one peer wait.
const QUESTIONS_MAX: usize = 256;

/// How many reports wait for a peer that does not read them: each has a descriptor here, and memory.
const UNREAD_MAX: usize = 64;

pub(super) enum Job {
    /// A peer wants a report of this node.
    Make {
        line: Arc<Line>,
        connection: u64,
        request: u64,
    },
    /// As `Make`, with what is sent from now on for a while.
    Watch(Wanted),
    /// The connection to a peer is over.
    Forget { connection: u64 },
    /// A peer has sent its report.
    Read {
        survey: u64,
        node: NodeId,
        pid: u32,
        descriptor: OwnedFd,
        bytes: u64,
        ask: Arc<Ask>,
    },
}

/// A report of this node, as it is sent.
pub(super) struct Made(Arc<SealedBytes>);

impl Made {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes()
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        Arc::clone(&self.0) as Descriptor
    }
}

#[derive(Default)]
struct Desk {
    jobs: VecDeque<Job>,
    thread: Option<JoinHandle<()>>,
    /// The thread has not said that it ends.
    is_running: bool,
    is_closed: bool,
}

/// What there is to do, and the thread if there is one.
#[derive(Default)]
pub(super) struct Inspector {
    desk: Mutex<Desk>,
    news: Condvar,
}

impl Job {
    /// Which connection a question came by, and its number.
    fn question(&self) -> Option<(&Arc<Line>, u64, u64)> {
        match self {
            Self::Make {
                line,
                connection,
                request,
            } => Some((line, *connection, *request)),
            Self::Watch(wanted) => Some((&wanted.line, wanted.connection, wanted.request)),
            Self::Forget { .. } | Self::Read { .. } => None,
        }
    }
}

impl Inspector {
    /// Leaves a job for the thread, which is made if need be. On the watch's thread.
    pub(super) fn post(&self, core: &Arc<Core>, job: Job) {
        let mut desk = self.desk.lock();
        if desk.is_closed {
            return;
        }
        if let Some((line, connection, request)) = job.question() {
            let same = |job: &&Job| job.question().is_some_and(|(_, c, _)| c == connection);
            if desk.jobs.iter().filter(same).count() >= QUESTIONS_MAX {
                drop(desk);
                let busy = format!("it is busy: {QUESTIONS_MAX} questions of this process wait");
                return send_report(line, request, Err(&busy));
            }
        }
        desk.jobs.push_back(job);
        if desk.is_running {
            drop(desk);
            self.news.notify_one();
            return;
        }
        let its_core = Arc::clone(core);
        let thread = thread::Builder::new().name("mproc inspect".into());
        match thread.spawn(move || its_core.inspector.run(&its_core)) {
            Ok(thread) => {
                desk.is_running = true;
                // The one before has said its last, and is not waited for.
                let _before = desk.thread.replace(thread);
            }
            Err(error) => {
                let jobs = std::mem::take(&mut desk.jobs);
                drop(desk);
                let why = format!("no thread for it: {error}");
                jobs.into_iter().for_each(|job| refuse(core, job, &why));
            }
        }
    }

    /// A connection is over: watches for whoever was there end. On the watch's thread.
    pub(super) fn forget(&self, connection: u64) {
        let mut desk = self.desk.lock();
        if desk.is_running && !desk.is_closed {
            desk.jobs.push_back(Job::Forget { connection });
            drop(desk);
            self.news.notify_one();
        }
    }

    fn run(&self, core: &Arc<Core>) {
        let mut watches = SendWatches::default();
        loop {
            let job = {
                let mut desk = self.desk.lock();
                loop {
                    if desk.is_closed {
                        return;
                    }
                    if let Some(job) = desk.jobs.pop_front() {
                        break Some(job);
                    }
                    let over = watches.next();
                    let until = over.unwrap_or_else(|| Instant::now() + IDLE);
                    let timed_out = self.news.wait_until(&mut desk, until).timed_out();
                    if timed_out && desk.jobs.is_empty() {
                        if over.is_some() {
                            break None;
                        }
                        desk.is_running = false;
                        return;
                    }
                }
            };
            if let Some(job) = job {
                self.carry_out(core, job, &mut watches);
            }
            // However much else there is to do: a window is not to be much longer than was asked for.
            while let Some((line, request, watch)) = watches.take_over(Instant::now()) {
                answer(core, &[(line, request)], Some(watch));
            }
        }
    }

    fn carry_out(&self, core: &Arc<Core>, job: Job, watches: &mut SendWatches) {
        match job {
            Job::Make { line, request, .. } => {
                let mut asked = vec![(line, request)];
                asked.append(&mut self.take_questions());
                answer(core, &asked, None);
            }
            Job::Watch(wanted) => {
                if let Err(wanted) = watches.begin(core, wanted) {
                    // With all who ask for no more than that: one report for all of them.
                    self.desk.lock().jobs.push_back(Job::Make {
                        line: wanted.line,
                        connection: wanted.connection,
                        request: wanted.request,
                    });
                }
            }
            Job::Forget { connection } => watches.forget(connection),
            Job::Read {
                survey,
                node,
                pid,
                descriptor,
                bytes,
                ask,
            } => {
                // Its time is over, or nobody wants it any more.
                if ask.is_over() {
                    return;
                }
                let read = AssertUnwindSafe(|| read(node, pid, &descriptor, bytes));
                let report = catch_unwind(read);
                let report = report.unwrap_or_else(|_| Err("reading it panicked".into()));
                core.post(Command::Read {
                    survey,
                    node,
                    report: Box::new(report),
                });
            }
        }
    }

    /// All questions that wait: one report answers them.
    fn take_questions(&self) -> Vec<(Arc<Line>, u64)> {
        let mut desk = self.desk.lock();
        let (questions, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut desk.jobs)
            .into_iter()
            .partition(|job| matches!(job, Job::Make { .. }));
        desk.jobs = others;
        drop(desk);
        questions_of(questions)
    }

    /// Ends the thread, after what it is at.
    pub(super) fn close(&self) {
        let (thread, _jobs) = {
            let mut desk = self.desk.lock();
            desk.is_closed = true;
            (desk.thread.take(), std::mem::take(&mut desk.jobs))
        };
        self.news.notify_all();
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // Its panics are caught.
            let _ = thread.join();
        }
    }
}

/// It cannot be done.
fn refuse(core: &Core, job: Job, why: &str) {
    if let Some((line, _, request)) = job.question() {
        send_report(line, request, Err(why));
    }
    match job {
        Job::Make { .. } | Job::Watch(_) | Job::Forget { .. } => {}
        Job::Read { survey, node, .. } => {
            let report = Box::new(Err(why.to_owned()));
            core.post(Command::Read {
                survey,
                node,
                report,
            });
        }
    }
}

fn questions_of(jobs: VecDeque<Job>) -> Vec<(Arc<Line>, u64)> {
    let question = |job| match job {
        Job::Make { line, request, .. } => Some((line, request)),
        _ => None,
    };
    jobs.into_iter().filter_map(question).collect()
}

fn answer(core: &Core, asked: &[(Arc<Line>, u64)], watch: Option<SendWatch>) {
    let mut made = None;
    let mut watch = watch;
    for (line, request) in asked {
        if line.descriptors_waiting() >= UNREAD_MAX {
            let busy = format!("it is busy: {UNREAD_MAX} reports for this process are not read");
            send_report(line, *request, Err(&busy));
            continue;
        }
        let made = made.get_or_insert_with(|| {
            let made = catch_unwind(AssertUnwindSafe(|| make(core, watch.take())));
            made.unwrap_or_else(|_| Err("making it panicked".into()))
        });
        send_report(line, *request, made.as_ref().map_err(String::as_str));
    }
}

fn make(core: &Core, watch: Option<SendWatch>) -> Result<Made, String> {
    let node = core.neighbourhood.upgrade();
    let node = node.ok_or_else(|| "the node has ended".to_owned())?;
    let sends = watch.map(|watch| SendsSnapshot::of(&watch));
    let bytes = node.report(sends)?;
    check_bytes(bytes.len() as u64)?;
    let sealed = SealedBytes::new(&bytes).map_err(|error| error.to_string())?;
    Ok(Made(Arc::new(sealed)))
}

/// What the report says; who it is about is known better by the connection.
fn read(node: NodeId, pid: u32, descriptor: &OwnedFd, bytes: u64) -> Result<NodeReport, String> {
    check_bytes(bytes)?;
    let bytes = SealedBytes::read(descriptor.as_fd(), bytes, REPORT_BYTES_MAX);
    let bytes = bytes.map_err(|error| error.to_string())?;
    let mut report = decode(&bytes)?;
    report.node.id = hex(&node.to_bytes());
    report.node.pid = pid;
    Ok(report)
}
