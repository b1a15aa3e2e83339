//! Whoever carries out tasks.

use super::messages::{TaskEnd, TaskReply, TaskRequest};
use crate::graph::Graph;
use crate::services::{ServeOptions, Served};
use mproc_runtime::{
    Address, AfterPanic, CallError, Closure, Cx, Error, Exit, Handle, Outcome, Processor,
    ReplyToken, Runtime, closure,
};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

/// How many feedbacks of a task are kept for its client. Of more, the oldest are dropped.
const FEEDBACK_KEPT: usize = 64;

/// For how long a result is kept that nobody has fetched, unless told otherwise.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// What a task may do while it runs.
pub struct TaskCx<F> {
    id: u64,
    shared: Arc<Shared<F>>,
    runtime: Runtime,
}

impl<F: Send + 'static> TaskCx<F> {
    /// The task's number at its server.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Tells the client how far it is. Never waits: 64 are kept until the client takes them, and of more the oldest are
    /// dropped, which the client sees as a [`gap`](super::TaskFeedback::gap).
    pub fn feedback(&self, value: F) {
        let dropped = {
            let mut state = self.shared.state.lock();
            state.number += 1;
            let number = state.number;
            state.feedback.push_back((number, value));
            (state.feedback.len() > FEEDBACK_KEPT).then(|| state.feedback.pop_front())
        };
        drop(dropped);
        (self.shared.nudge)();
    }

    /// True if the task was asked to end early: by its client, because nobody waits for it any more, or because its server ends.
    /// It answers with [`accept_cancel`](Self::accept_cancel) or [`refuse_cancel`](Self::refuse_cancel), or returns.
    pub fn is_cancel_requested(&self) -> bool {
        self.shared.state.lock().is_cancel_requested
    }

    /// Blocks the task until it is asked to end early, at most for `limit`. True if it was asked. For a task that would sleep.
    pub fn wait_for_cancel(&self, limit: Duration) -> bool {
        let deadline = self.runtime.now().checked_add(limit);
        let asked = self.runtime.block_until(deadline, |waker| {
            let waker = waker.clone();
            let mut state = self.shared.state.lock();
            let before = state.waker.replace(waker);
            let is_requested = state.is_cancel_requested;
            drop(state);
            drop(before);
            is_requested.then_some(())
        });
        asked.is_some()
    }

    /// The task will end early. Whatever it returns then, its client gets [`Cancelled`](super::TaskError::Cancelled).
    pub fn accept_cancel(&self) {
        self.answer(Ok(()));
    }

    /// The task goes on, for this reason. It may be asked again.
    pub fn refuse_cancel(&self, why: &str) {
        self.answer(Err(why.to_owned()));
    }

    fn answer(&self, answer: Result<(), String>) {
        let before = {
            let mut state = self.shared.state.lock();
            if !state.is_cancel_requested || state.is_cancelled {
                return;
            }
            state.is_cancelled = answer.is_ok();
            state.is_cancel_requested = answer.is_ok();
            state.answer.replace(answer)
        };
        drop(before);
        (self.shared.nudge)();
    }
}

impl<F> fmt::Debug for TaskCx<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskCx({})", self.id)
    }
}

/// What a task and its server share.
struct Shared<F> {
    state: Mutex<State<F>>,
    /// Has the server look.
    nudge: Box<dyn Fn() + Send + Sync>,
}

struct State<F> {
    /// Of the last feedback.
    number: u64,
    feedback: VecDeque<(u64, F)>,
    is_cancel_requested: bool,
    /// The task has accepted.
    is_cancelled: bool,
    /// What the task has said, until those who asked are told.
    answer: Option<Result<(), String>>,
    /// Of a task that waits to be cancelled.
    waker: Option<Waker>,
}

impl<F> Shared<F> {
    fn request_cancel(&self) {
        let waker = {
            let mut state = self.state.lock();
            state.is_cancel_requested = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// How tasks are served.
#[must_use = "it is used by task_with"]
pub struct TaskOptions<G> {
    accept: Accept<G>,
    at_once: usize,
    keep: Duration,
}

type Accept<G> = Box<dyn FnMut(&G) -> Result<(), String> + Send>;

impl<G> TaskOptions<G> {
    /// One task at once, every goal is accepted, and results are kept for 60 seconds.
    pub fn new() -> Self {
        Self {
            accept: Box::new(|_| Ok(())),
            at_once: 1,
            keep: KEPT_FOR,
        }
    }

    /// Asks `accept` about each goal; its error is why the goal is refused.
    pub fn accept(mut self, accept: impl FnMut(&G) -> Result<(), String> + Send + 'static) -> Self {
        self.accept = Box::new(accept);
        self
    }

    /// How many tasks may run at once, each on a thread of its own. Further goals are refused. At least 1.
    pub fn at_once(mut self, count: usize) -> Self {
        self.at_once = count.max(1);
        self
    }

    /// For how long a result is kept that nobody has fetched.
    pub fn keep(mut self, keep: Duration) -> Self {
        self.keep = keep;
        self
    }
}

impl<G> Default for TaskOptions<G> {
    fn default() -> Self {
        Self::new()
    }
}

impl<G> fmt::Debug for TaskOptions<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskOptions")
            .field("at_once", &self.at_once)
            .field("keep", &self.keep)
            .finish_non_exhaustive()
    }
}

/// Tasks that are being served. Dropping it ends that: tasks that run are asked to end, and their clients are told that the server
/// is gone. [`detach`](Self::detach) keeps it.
#[must_use = "dropping it ends the tasks"]
pub struct TaskServer {
    served: Served,
    stop: Option<Box<dyn Fn() + Send + Sync>>,
}

impl TaskServer {
    /// Keeps it for the life of the node.
    pub fn detach(mut self) {
        self.stop = None;
    }

    /// True while goals come here: see [`Served::is_serving`].
    pub fn is_serving(&self) -> bool {
        self.served.is_serving()
    }
}

impl Drop for TaskServer {
    fn drop(&mut self) {
        if let Some(stop) = &self.stop {
            self.served.unserve();
            stop();
        }
    }
}

impl fmt::Debug for TaskServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TaskServer({:?})", self.served)
    }
}

type Run<G, F, R> = dyn Fn(G, &TaskCx<F>) -> Outcome<R> + Send + Sync;

impl Graph {
    /// Has `run` carry out goals of the task `name`, each on a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`serve`](Self::serve), and as [`Runtime::spawn_thread`].
    pub fn task<G, F, R>(
        self: &Arc<Self>,
        runtime: &Runtime,
        name: &str,
        options: TaskOptions<G>,
        run: impl Fn(G, &TaskCx<F>) -> Outcome<R> + Send + Sync + 'static,
    ) -> Result<TaskServer, Error>
    where
        G: Serialize + DeserializeOwned + Send + 'static,
        F: Serialize + DeserializeOwned + Clone + Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        // Relaxed: only uniqueness is wanted.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let run: Arc<Run<G, F, R>> = Arc::new(run);
        let tasks = Tasks {
            number,
            run,
            options,
            next: 0,
            tasks: BTreeMap::new(),
        };
        let address = runtime.spawn_thread(&format!("tasks-{number}"), tasks)?;
        let service = super::service(name);
        match self.serve_at(runtime, &service, ServeOptions::new(), &address) {
            Ok(served) => Ok(TaskServer {
                served,
                stop: Some(Box::new(move || address.stop())),
            }),
            Err(error) => {
                address.stop();
                Err(error)
            }
        }
    }
}

/// The server: it starts tasks and knows how they stand.
struct Tasks<G: 'static, F: 'static, R: 'static> {
    /// Of this server, in the names of its processors.
    number: u64,
    run: Arc<Run<G, F, R>>,
    options: TaskOptions<G>,
    next: u64,
    tasks: BTreeMap<u64, Task<G, F, R>>,
}

type Token<F, R> = ReplyToken<TaskReply<F, R>>;

struct Task<G: 'static, F: 'static, R: 'static> {
    shared: Arc<Shared<F>>,
    runner: Address<Closure<G, R>>,
    /// Its client's.
    key: (u64, u64),
    /// Nobody need wait for it.
    is_detached: bool,
    /// Until it has ended.
    is_running: bool,
    /// Until it is fetched.
    end: Option<TaskEnd<R>>,
    waits_for_end: Option<Token<F, R>>,
    wait_for_feedback: Vec<(u64, Token<F, R>)>,
    wait_for_cancel: Vec<Token<F, R>>,
}

impl<G, F, R> Processor for Tasks<G, F, R>
where
    G: Send + 'static,
    F: Clone + Send + 'static,
    R: Send + 'static,
{
    /// What panics here is the user's code about one goal: how it is accepted, cloned or dropped. The others go on.
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        AfterPanic::GoOn
    }

    fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
        for task in std::mem::take(&mut self.tasks).into_values() {
            task.shared.request_cancel();
            task.runner.stop();
            let waits = task.wait_for_feedback.into_iter().map(|(_, token)| token);
            let waits = waits.chain(task.wait_for_cancel).chain(task.waits_for_end);
            waits.for_each(|token| token.send(TaskReply::Gone));
        }
    }
}

impl<G, F, R> Handle<TaskRequest<G>> for Tasks<G, F, R>
where
    G: Serialize + DeserializeOwned + Send + 'static,
    F: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    type Reply = TaskReply<F, R>;

    fn handle(
        &mut self,
        request: TaskRequest<G>,
        cx: &mut Cx<'_, Self, TaskReply<F, R>>,
    ) -> Outcome<TaskReply<F, R>> {
        match request {
            TaskRequest::Run { key, goal } => match self.start(key, goal, cx) {
                Ok(id) => self.answer_at_end(id, cx),
                Err(why) => Ok(TaskReply::Refused(why)),
            },
            TaskRequest::Accepted { key } => {
                let mut tasks = self.tasks.iter();
                let task = tasks.find(|(_, task)| task.key == key);
                Ok(task.map_or(TaskReply::Unknown, |(&id, _)| TaskReply::Accepted { id }))
            }
            TaskRequest::Result { id } => {
                let Some(task) = self.tasks.get_mut(&id) else {
                    return Ok(TaskReply::Unknown);
                };
                if let Some(end) = task.end.take() {
                    return Ok(TaskReply::Ended(end));
                }
                if !task.is_running || task.waits_for_end.is_some() {
                    return Ok(TaskReply::Unknown);
                }
                task.is_detached = false;
                self.answer_at_end(id, cx)
            }
            TaskRequest::Feedback { id, after } => {
                let Some(task) = self.tasks.get_mut(&id) else {
                    return Ok(TaskReply::NoFeedback);
                };
                match task.feedback(after) {
                    Some(reply) => Ok(reply),
                    None => {
                        // Who asks again and again, each time for a while, leaves nothing behind.
                        let gone = |(_, token): &mut (u64, Token<F, R>)| token.is_cancelled();
                        let gone: Vec<_> = task.wait_for_feedback.extract_if(.., gone).collect();
                        drop(gone);
                        cx.reply_later(|token| task.wait_for_feedback.push((after, token)))
                    }
                }
            }
            TaskRequest::Cancel { id } => {
                let Some(task) = self.tasks.get_mut(&id).filter(|task| task.is_running) else {
                    return Ok(TaskReply::CancelRefused("it has ended".to_owned()));
                };
                if task.shared.state.lock().is_cancelled {
                    return Ok(TaskReply::CancelAccepted);
                }
                let outcome = cx.reply_later(|token| task.wait_for_cancel.push(token));
                task.shared.request_cancel();
                outcome
            }
            TaskRequest::Detach { id } => Ok(match self.tasks.get_mut(&id) {
                Some(task) => {
                    task.is_detached = true;
                    // Its wait ends without a word: whoever had it has asked for that.
                    task.waits_for_end = None;
                    TaskReply::Detached
                }
                None => TaskReply::Unknown,
            }),
        }
    }
}

impl<G, F, R> Tasks<G, F, R>
where
    G: Serialize + DeserializeOwned + Send + 'static,
    F: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    /// The number of the task that was started. The error: why not.
    fn start(
        &mut self,
        key: (u64, u64),
        goal: G,
        cx: &mut Cx<'_, Self, TaskReply<F, R>>,
    ) -> Result<u64, String> {
        let running = self.tasks.values().filter(|task| task.is_running).count();
        let at_once = self.options.at_once;
        if running >= at_once {
            return Err(format!("busy with {running} of {at_once} tasks"));
        }
        (self.options.accept)(&goal)?;
        self.next += 1;
        let id = self.next;
        let me = cx.me();
        let nudge = move || {
            // If it has ended, nobody is left to be told.
            let _ended = me.with_processor(move |me: &mut Self, _| me.look(id));
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                number: 0,
                feedback: VecDeque::new(),
                is_cancel_requested: false,
                is_cancelled: false,
                answer: None,
                waker: None,
            }),
            nudge: Box::new(nudge),
        });
        let runtime = cx.runtime();
        let task = TaskCx {
            id,
            shared: Arc::clone(&shared),
            runtime: runtime.without_guard(),
        };
        let run = Arc::clone(&self.run);
        let runner = closure(move |goal: G, _: &mut Cx<'_, Closure<G, R>, R>| run(goal, &task));
        let name = format!("task-{}-{id}", self.number);
        let runner = runtime.spawn_thread(&name, runner);
        let runner = runner.map_err(|error| error.to_string())?;
        // It ends when it ends.
        let call = runner.call(goal).limit(Duration::MAX);
        call.then(cx, move |me, result, cx| {
            me.ended(id, result, cx);
            Ok(())
        });
        let task = Task {
            shared,
            runner,
            key,
            is_detached: false,
            is_running: true,
            end: None,
            waits_for_end: None,
            wait_for_feedback: Vec::new(),
            wait_for_cancel: Vec::new(),
        };
        self.tasks.insert(id, task);
        Ok(id)
    }

    /// Whoever asks gets the result when there is one. If it gives up, nobody waits for the task.
    fn answer_at_end(
        &mut self,
        id: u64,
        cx: &mut Cx<'_, Self, TaskReply<F, R>>,
    ) -> Outcome<TaskReply<F, R>> {
        let server = cx.me();
        let Some(task) = self.tasks.get_mut(&id) else {
            return Ok(TaskReply::Unknown);
        };
        cx.reply_later(|token| {
            token.on_cancel(Waker::from(Arc::new(NobodyWaits { server, id })));
            task.waits_for_end = Some(token);
        })
    }

    fn ended(&mut self, id: u64, result: Result<R, CallError>, cx: &mut Cx<'_, Self>) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let is_cancelled = task.shared.state.lock().is_cancelled;
        let end = match result {
            _ if is_cancelled => TaskEnd::Cancelled,
            Ok(result) => TaskEnd::Done(result),
            Err(CallError::Faulted(fault)) => TaskEnd::Failed(fault.to_string()),
            Err(CallError::Panicked(text)) => TaskEnd::Failed(format!("panicked: {text}")),
            Err(error) => TaskEnd::Failed(error.to_string()),
        };
        task.is_running = false;
        task.runner.stop();
        match task.waits_for_end.take() {
            Some(token) if !token.is_cancelled() => token.send(TaskReply::Ended(end)),
            _ => task.end = Some(end),
        }
        self.look(id);
        cx.after_with(self.options.keep, move |me, _| {
            me.tasks.remove(&id);
        });
    }

    /// Something may be there for those who wait.
    fn look(&mut self, id: u64) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        for (after, token) in std::mem::take(&mut task.wait_for_feedback) {
            match task.feedback(after) {
                Some(reply) => token.send(reply),
                None => task.wait_for_feedback.push((after, token)),
            }
        }
        let answer = task.shared.state.lock().answer.take();
        let answer = match answer {
            None if !task.is_running => Some(Err("it has ended".to_owned())),
            answer => answer,
        };
        if let Some(answer) = answer {
            for token in task.wait_for_cancel.drain(..) {
                token.send(match &answer {
                    Ok(()) => TaskReply::CancelAccepted,
                    Err(why) => TaskReply::CancelRefused(why.clone()),
                });
            }
        }
    }

    /// Nobody waits for the end of a task any more.
    fn abandoned(&mut self, id: u64) {
        let Some(task) = self.tasks.get_mut(&id) else {
            return;
        };
        let is_its = task
            .waits_for_end
            .as_ref()
            .is_some_and(ReplyToken::is_cancelled);
        if is_its && !task.is_detached {
            task.waits_for_end = None;
            task.shared.request_cancel();
        }
    }
}

impl<G, F: Clone, R> Task<G, F, R> {
    /// What comes after the feedback with that number, if that is known. Earlier ones are not needed any more.
    fn feedback(&mut self, after: u64) -> Option<TaskReply<F, R>> {
        let mut taken = Vec::new();
        let mut state = self.shared.state.lock();
        while state.feedback.front().is_some_and(|(n, _)| *n <= after) {
            taken.extend(state.feedback.pop_front());
        }
        let next = state.feedback.pop_front();
        drop(state);
        drop(taken);
        // Cloned and dropped without the lock: both are the user's code.
        match next {
            Some((number, value)) => {
                let again = value.clone();
                let mut state = self.shared.state.lock();
                state.feedback.push_front((number, again));
                Some(TaskReply::Feedback { number, value })
            }
            None => (!self.is_running).then_some(TaskReply::NoFeedback),
        }
    }
}

/// Woken when the client of a task gives up.
struct NobodyWaits<G: 'static, F: 'static, R: 'static>
where
    Tasks<G, F, R>: Processor,
{
    server: Address<Tasks<G, F, R>>,
    id: u64,
}

impl<G, F, R> Wake for NobodyWaits<G, F, R>
where
    G: Serialize + DeserializeOwned + Send + 'static,
    F: Serialize + DeserializeOwned + Clone + Send + 'static,
    R: Serialize + DeserializeOwned + Send + 'static,
{
    fn wake(self: Arc<Self>) {
        let id = self.id;
        // If it has ended, so has the task.
        let _ended = self
            .server
            .with_processor(move |me: &mut Tasks<G, F, R>, _| me.abandoned(id));
    }
}

impl<G, F, R> fmt::Debug for Tasks<G, F, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tasks({})", self.tasks.len())
    }
}
