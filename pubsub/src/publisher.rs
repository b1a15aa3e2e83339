//! The publishing end of a topic.

use crate::codec::Codec;
use crate::error::PublishError;
use crate::fan_out::{Blocked, Delivered, Passage, try_fan_out};
use crate::forked::{Origin, forked};
use crate::graph::Graph;
use crate::id::{PublisherId, TopicId};
use crate::leases::{Count, Gate, InFlight, Outstanding, Tracker};
use crate::prepared::Prepared;
use crate::sample::{Body, Boxed, Header, InLine, Kept};
use crate::snapshot::PublisherSnapshot;
use crate::subscriber::Subscriber;
use crate::topic_core::{AnyTopic, TopicCore, TopicState, label_as_name};
use crate::tracked::OnPublish;
use crate::transport::Outlet;
use crate::waiting::{self, Waiting};
use mproc_runtime::{
    Attempt, DropCause, Error, ErrorKind, Fault, Name, OutboxKey, Runtime, Undelivered,
    WaitSnapshot, hook, outbox_holds, spill_undelivered,
};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

/// What a publisher is made with.
#[must_use = "options do nothing until a publisher is made with them"]
#[derive(Clone, Copy, Debug, Default)]
pub struct PublisherOptions {
    history: usize,
    in_flight: Option<usize>,
    limit: Option<Duration>,
}

impl PublisherOptions {
    /// No history, no bound on samples in flight, the node's limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// Keeps the last `count` values. A late subscriber gets them first, in order: as many of the last as it has places.
    pub fn history(mut self, count: usize) -> Self {
        self.history = count;
        self
    }

    /// At most `count` values may be out at `Wait` subscriptions, queued or held. The next publish waits.
    pub fn in_flight(mut self, count: usize) -> Self {
        self.in_flight = Some(count);
        self
    }

    pub(crate) fn allows_nothing(&self) -> bool {
        self.in_flight == Some(0)
    }

    /// How long [`publish`](Publisher::publish) waits for room.
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// What a topic knows of a publisher, whatever its type.
#[derive(Debug)]
pub(crate) struct PublisherStatus {
    pub(crate) id: PublisherId,
    pub(crate) history: usize,
    /// The processor that made it.
    owner: OnceLock<Name>,
    /// Values published; the sequence number of the next. Written under the topic's lock.
    published: AtomicU64,
    outstanding: Arc<Count>,
    in_flight: Arc<Count>,
    gate: Gate,
    /// Publishing does nothing, and is no error: the topic has nobody who listens and nothing that is kept, and this is
    /// not closed. All that a publish to nobody reads. Written under the topic's lock; one that reads an old value came
    /// just before the change.
    idle: AtomicBool,
    closed: AtomicBool,
    /// Those who wait to publish, for whatever reason, and want to know when it is closed.
    on_close: Mutex<Vec<Waker>>,
    /// Those whose values stand behind others in a handler's outbox.
    behind_outbox: Mutex<Vec<Waker>>,
    waiting: Arc<Waiting>,
}

impl PublisherStatus {
    /// Says whether the topic, which has this publisher, has somebody who listens or something that is kept.
    pub(crate) fn note_liveness(&self, is_live: bool) {
        // Release pairs with the Acquire in `Publisher::is_idle`.
        self.idle.store(!is_live, Ordering::Release);
    }

    /// False if it was closed before. The topic must not have it any more, and its lock is held.
    pub(crate) fn set_closed(&self) -> bool {
        let was_open = !self.closed.swap(true, Ordering::AcqRel);
        self.note_liveness(true);
        was_open
    }

    /// Those who wait, at a gate or for room, learn that it is closed. No lock is held.
    pub(crate) fn tell_closed(&self) {
        let waiting = std::mem::take(&mut *self.on_close.lock());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Its publishes that wait. `topic` is what people call its topic.
    pub(crate) fn waits(&self, topic: &str) -> Vec<WaitSnapshot> {
        let owner = || self.owner.get().map(|name| name.as_str().to_owned());
        let name = || owner().unwrap_or_else(|| format!("publisher of {topic:?}"));
        self.waiting.snapshot(name)
    }

    pub(crate) fn snapshot(&self) -> PublisherSnapshot {
        PublisherSnapshot {
            id: self.id,
            published: self.published.load(Ordering::Relaxed),
            outstanding: self.outstanding.get() as u64,
            in_flight: self.in_flight.get() as u64,
            paused: self.gate.is_paused(),
            owner: self.owner.get().map(|name| name.as_str().to_owned()),
        }
    }
}

/// One who waits to publish: woken when the publisher is closed.
pub(crate) struct OnClose {
    status: Arc<PublisherStatus>,
    watched: Option<Waker>,
}

impl OnClose {
    /// From now on `waker` is woken, and none before it. Look whether it is closed afterwards.
    pub(crate) fn watch(&mut self, waker: &Waker) {
        if !self.watched.as_ref().is_some_and(|w| w.will_wake(waker)) {
            self.leave();
            self.watched = Some(waker.clone());
            self.status.on_close.lock().push(waker.clone());
        }
    }

    fn leave(&mut self) {
        let Some(waker) = self.watched.take() else {
            return;
        };
        let _left = {
            let mut watchers = self.status.on_close.lock();
            let at = watchers.iter().position(|w| w.will_wake(&waker));
            at.map(|at| watchers.swap_remove(at))
        };
    }
}

impl Drop for OnClose {
    fn drop(&mut self) {
        self.leave();
    }
}

pub(crate) struct PublisherCore<T: ?Sized + Send + Sync + 'static> {
    pub(crate) topic: Arc<TopicCore<T>>,
    status: Arc<PublisherStatus>,
    options: PublisherOptions,
    pub(crate) on_publish: OnPublish<T>,
    runtime: Runtime,
    graph: Weak<Graph>,
    origin: Origin,
}

impl<T: ?Sized + Send + Sync + 'static> PublisherCore<T> {
    pub(crate) fn is_closed(&self) -> bool {
        self.status.closed.load(Ordering::Acquire)
    }

    /// A publish of the calling thread that may wait.
    pub(crate) fn wait(&self) -> waiting::Wait {
        waiting::Wait::new(&self.status.waiting, &self.runtime)
    }

    pub(crate) fn on_close(&self) -> OnClose {
        OnClose {
            status: self.status.clone(),
            watched: None,
        }
    }

    pub(crate) fn check_open(&self) -> Result<(), Blocked<T>> {
        if self.is_closed() {
            return Err(Blocked::Closed);
        }
        if self.status.gate.is_paused() || self.topic.gate.is_paused() {
            return Err(Blocked::Paused);
        }
        Ok(())
    }

    pub(crate) fn poll_open(&self, waker: &Waker) -> Result<(), Blocked<T>> {
        if self.is_closed() {
            return Err(Blocked::Closed);
        }
        if self.status.gate.poll_open(waker) && self.topic.gate.poll_open(waker) {
            Ok(())
        } else {
            Err(Blocked::Paused)
        }
    }

    /// A place among the values in flight, if they are bounded.
    pub(crate) fn take_flight(&self) -> Result<Option<Arc<InFlight>>, Blocked<T>> {
        match self.options.in_flight {
            None => Ok(None),
            Some(bound) => match InFlight::try_new(&self.status.in_flight, bound) {
                Some(guard) => Ok(Some(guard)),
                None => Err(Blocked::InFlight),
            },
        }
    }

    pub(crate) fn poll_flight(&self, waker: &Waker) -> Result<Option<Arc<InFlight>>, Blocked<T>> {
        loop {
            match self.take_flight() {
                Err(Blocked::InFlight) => {
                    let bound = self.options.in_flight.unwrap_or(usize::MAX);
                    let in_flight = &self.status.in_flight;
                    if !in_flight.poll_below(bound, waker) {
                        self.topic.watch_returns();
                        if !in_flight.poll_below(bound, waker) {
                            return Err(Blocked::InFlight);
                        }
                    }
                }
                other => return other,
            }
        }
    }

    /// The number of the value that is being committed.
    pub(crate) fn next_sequence(&self, _under_lock: &TopicState<T>) -> u64 {
        self.status.published.load(Ordering::Relaxed)
    }

    pub(crate) fn count_published(&self, _under_lock: &mut TopicState<T>) {
        let next = self.status.published.load(Ordering::Relaxed) + 1;
        self.status.published.store(next, Ordering::Relaxed);
    }

    /// Keeps the value if this publisher keeps history. Returns what is forgotten for it.
    pub(crate) fn keep_in_history(
        &self,
        state: &mut TopicState<T>,
        body: &Arc<dyn Body<T>>,
    ) -> Option<Arc<dyn Body<T>>> {
        if self.options.history == 0 {
            return None;
        }
        let kept = body.to_history()?;
        state.keep(self.status.id, self.options.history, kept)
    }

    pub(crate) fn header(&self, parts: Vec<Vec<u8>>, tracker: Option<Arc<Tracker>>) -> Header {
        let tracker = tracker.or_else(|| self.on_publish.wants().then(Tracker::new));
        Header {
            topic: self.topic.name,
            topic_id: self.topic.id,
            publisher: self.status.id,
            sequence: AtomicU64::new(0),
            published: self.runtime.now(),
            parts,
            outstanding: Some(Outstanding::new(&self.status.outstanding, tracker)),
            cause: hook::Cause::here(),
        }
    }

    /// A value was published. No lock is held.
    pub(crate) fn published(&self, body: &Arc<dyn Body<T>>, sequence: u64, delivered: &Delivered) {
        let outstanding = body.header().outstanding.as_ref();
        if let Some(tracker) = outstanding.and_then(Outstanding::tracker) {
            tracker.publish(sequence);
            self.on_publish.tell(self, body, tracker, delivered);
        }
    }

    pub(crate) fn id(&self) -> PublisherId {
        self.status.id
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// From now on `waker` is woken when one of its values has left a handler's outbox.
    pub(crate) fn watch_outbox(&self, waker: &Waker) {
        let mut waiting = self.status.behind_outbox.lock();
        if !waiting.iter().any(|w| w.will_wake(waker)) {
            waiting.push(waker.clone());
        }
    }

    pub(crate) fn key(&self) -> OutboxKey {
        OutboxKey::Publisher(self.status.id.get())
    }

    pub(crate) fn limit(&self) -> Duration {
        self.options
            .limit
            .unwrap_or_else(|| self.runtime.options().wait_limit())
    }

    /// Publishes a body, waiting as `wait` says. On failure nobody else has the body.
    pub(crate) fn publish(
        self: &Arc<Self>,
        body: Arc<dyn Body<T>>,
        wait: Wait,
    ) -> Result<Delivered, (Arc<dyn Body<T>>, Failure)> {
        if let Err(error) = self.check_here("cannot publish") {
            return Err((body, Failure::Refused(error)));
        }
        let behind = outbox_holds(self.key());
        let mut prepared = Prepared::default();
        if !behind {
            match try_fan_out(self, &body, &mut prepared) {
                Ok(delivered) => return Ok(delivered),
                Err(Blocked::Closed) => return Err((body, Failure::Closed)),
                Err(Blocked::Impossible(error)) => return Err((body, Failure::Refused(error))),
                Err(blocked) => {
                    if wait == Wait::No {
                        return Err((body, Failure::Full(blocked.names())));
                    }
                    if !self.runtime.in_handler() {
                        return self.publish_waiting(body, prepared, blocked, wait);
                    }
                }
            }
        } else if wait == Wait::No {
            return Err((body, Failure::Full(vec!["the handler's outbox".into()])));
        }
        let limit = match wait {
            Wait::AtMost(limit) => limit,
            _ => self.limit(),
        };
        let entry = Box::new(Spilled {
            publisher: self.clone(),
            passage: Some(Passage::new(self, body.clone(), prepared)),
            full: Vec::new(),
        });
        match spill_undelivered(&self.runtime, self.key(), entry, limit) {
            Ok(()) => Ok(Delivered {
                deferred: true,
                ..Delivered::default()
            }),
            Err(entry) => {
                drop(entry);
                Err((body, Failure::Full(vec!["the handler's outbox".into()])))
            }
        }
    }

    fn publish_waiting(
        &self,
        body: Arc<dyn Body<T>>,
        prepared: Prepared,
        mut blocked: Blocked<T>,
        wait: Wait,
    ) -> Result<Delivered, (Arc<dyn Body<T>>, Failure)> {
        let limit = match wait {
            Wait::AtMost(limit) => limit,
            _ => self.limit(),
        };
        let deadline = self.runtime.now().checked_add(limit);
        let waker = self.runtime.waker();
        let mut passage = Passage::new(self, body.clone(), prepared);
        loop {
            if let Blocked::Full(subscriber) = &blocked
                && subscriber.spins_for_room().is_some()
            {
                // Another process takes while we look; to be woken by it takes longer.
                self.runtime
                    .spin_until(|| subscriber.spins_for_room() == Some(true));
            }
            if let Some(names) = self.waits_for_this_thread(&blocked) {
                return Err((body, Failure::Deadlock(names)));
            }
            if deadline.is_some_and(|d| self.runtime.now() >= d) {
                return Err((body, Failure::Timeout(blocked.names())));
            }
            match passage.advance(self, &waker) {
                Ok(delivered) => return Ok(delivered),
                Err(Blocked::Closed) => return Err((body, Failure::Closed)),
                Err(Blocked::Impossible(error)) => return Err((body, Failure::Refused(error))),
                Err(still) => blocked = still,
            }
            self.runtime.park(deadline);
        }
    }

    /// If nothing but this very thread, which is about to wait, could unblock it: who would have to run.
    pub(crate) fn waits_for_this_thread(&self, blocked: &Blocked<T>) -> Option<Vec<String>> {
        match blocked {
            Blocked::Full(subscriber) => {
                let bell = subscriber.owner()?;
                let only_here = self.runtime.only_here(bell.driver());
                only_here.then(|| blocked.names())
            }
            Blocked::InFlight => {
                // One that comes back from anybody else would do.
                let lanes = self.topic.lanes_that_only_run_here(&self.runtime);
                let (queued, names) = self.queued_at(&lanes);
                let all = self.options.in_flight.unwrap_or(usize::MAX);
                (queued.len() >= all).then_some(names)
            }
            Blocked::Paused | Blocked::Closed | Blocked::Memory(_) | Blocked::Impossible(_) => None,
        }
    }

    /// The sequence numbers of this publisher's values that are queued at `lanes`, and what people call these lanes.
    fn queued_at(&self, lanes: &[Arc<dyn Subscriber<T>>]) -> (BTreeSet<u64>, Vec<String>) {
        let (mut queued, mut names) = (BTreeSet::new(), Vec::new());
        for lane in lanes {
            let of_this = lane.queued_of(self.status.id);
            if !of_this.is_empty() {
                names.push(lane.label());
                queued.extend(of_this);
            }
        }
        (queued, names)
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for PublisherCore<T> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T: ?Sized + Send + Sync + 'static> PublisherCore<T> {
    /// The error: this process was forked from the one that made it.
    pub(crate) fn check_here(&self, cannot: &str) -> Result<(), Error> {
        let here = self.origin.check();
        here.map_err(|_| forked(&format!("{cannot} on {:?}", self.topic.label())))
    }

    fn close(&self) {
        if !self.origin.is_here() {
            return;
        }
        let (waiters, _forgotten) = {
            let mut state = self.topic.state.lock();
            if self.is_closed() {
                return;
            }
            state.publishers.retain(|p| p.id != self.status.id);
            let forgotten = state.forget(self.status.id);
            self.topic.note_liveness(&state);
            self.status.set_closed();
            (std::mem::take(&mut state.waiters), forgotten)
        };
        waiters.into_iter().for_each(Waker::wake);
        self.status.tell_closed();
        if let Some(graph) = self.graph.upgrade() {
            graph.publisher_gone(&*self.topic);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    No,
    Limit,
    AtMost(Duration),
}

/// Why a publish did not happen.
pub(crate) enum Failure {
    Full(Vec<String>),
    Timeout(Vec<String>),
    Deadlock(Vec<String>),
    Closed,
    Refused(Error),
}

impl Failure {
    pub(crate) fn with<V>(self, value: V) -> PublishError<V> {
        match self {
            Self::Full(full) => PublishError::Full { value, full },
            Self::Timeout(full) => PublishError::Timeout { value, full },
            Self::Deadlock(full) => PublishError::Deadlock { value, full },
            Self::Closed => PublishError::Closed(value),
            Self::Refused(error) => PublishError::Refused { value, error },
        }
    }

    /// With the body's value, which nobody else got; but a filter of dynamic messages may have kept the sample it saw.
    pub(crate) fn with_value_of<T: ?Sized>(self, body: Arc<dyn Body<T>>) -> PublishError<Box<T>> {
        match body.into_box() {
            Ok(value) => self.with(value),
            Err(_kept) => PublishError::Kept {
                error: Error::from(self.with(())),
            },
        }
    }
}

/// A publish in a handler's outbox.
struct Spilled<T: ?Sized + Send + Sync + 'static> {
    publisher: Arc<PublisherCore<T>>,
    passage: Option<Passage<T>>,
    /// Who had no room at the last attempt. Nobody before the first: it comes when its publisher's values before it are
    /// delivered.
    full: Vec<String>,
}

impl<T: ?Sized + Send + Sync + 'static> Drop for Spilled<T> {
    fn drop(&mut self) {
        let waiting = std::mem::take(&mut *self.publisher.status.behind_outbox.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

impl<T: ?Sized + Send + Sync + 'static> Undelivered for Spilled<T> {
    fn attempt(&mut self, waker: &Waker) -> Attempt {
        let Some(passage) = &mut self.passage else {
            return Attempt::Ended;
        };
        match passage.advance(&self.publisher, waker) {
            Ok(_) => Attempt::Delivered,
            Err(Blocked::Closed) => Attempt::Ended,
            // The bytes that it cannot have are those of a link that joined since it was published.
            Err(Blocked::Impossible(error)) => {
                self.full = vec![error.to_string()];
                Attempt::Ended
            }
            Err(blocked) => {
                self.full = blocked.names();
                Attempt::Blocked(blocked.keeper())
            }
        }
    }

    fn give_up(mut self: Box<Self>, cause: DropCause) -> Option<Fault> {
        self.passage = None;
        let topic = &self.publisher.topic;
        let runtime = &self.publisher.runtime;
        if let Some(name) = label_as_name(topic.name, topic.id) {
            let type_name = std::any::type_name::<T>();
            mproc_runtime::hook::dropped(&name, type_name, cause);
            let now = runtime.now();
            runtime
                .dead_letters()
                .record((None, name), type_name, cause, now, None);
        }
        let why = if self.publisher.is_closed() {
            "its publisher was closed".to_owned()
        } else if self.full.is_empty() {
            "a value that its publisher published before had no room".to_owned()
        } else {
            format!("no room at {}", self.full.join(", "))
        };
        let text = format!("cannot publish on {:?}: {why}", topic.label());
        Some(Fault::new(text))
    }
}

/// Publishes values of a topic. Cheap to clone: clones are one publisher, with one sequence.
///
/// Dropping the last one, or [`close`](Self::close), ends it; what is queued is still delivered.
pub struct Publisher<T: ?Sized + Send + Sync + 'static> {
    pub(crate) core: Arc<PublisherCore<T>>,
}

impl<T: ?Sized + Send + Sync + 'static> Publisher<T> {
    pub(crate) fn new(
        graph: &Arc<Graph>,
        runtime: &Runtime,
        topic: Arc<TopicCore<T>>,
        options: PublisherOptions,
    ) -> Self {
        let status = Arc::new(PublisherStatus {
            id: PublisherId::next(),
            history: options.history,
            owner: OnceLock::new(),
            published: AtomicU64::new(0),
            outstanding: Arc::default(),
            in_flight: Arc::default(),
            gate: Gate::default(),
            idle: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            on_close: Mutex::default(),
            behind_outbox: Mutex::default(),
            waiting: Arc::default(),
        });
        let waiters = {
            let mut state = topic.state.lock();
            if state.closed {
                // The node has ended since the topic was found.
                status.set_closed();
            } else {
                state.publishers.push(status.clone());
                topic.note_liveness(&state);
            }
            std::mem::take(&mut state.waiters)
        };
        waiters.into_iter().for_each(Waker::wake);
        Self {
            core: Arc::new(PublisherCore {
                topic,
                status,
                options,
                on_publish: OnPublish::default(),
                runtime: runtime.without_guard(),
                graph: Arc::downgrade(graph),
                origin: Origin::now(),
            }),
        }
    }

    /// The publisher's id.
    pub fn id(&self) -> PublisherId {
        self.core.status.id
    }

    /// The id of its topic.
    pub fn topic_id(&self) -> TopicId {
        self.core.topic.id
    }

    /// How many subscriptions a value would reach now.
    pub fn subscriber_count(&self) -> usize {
        self.core.topic.subscriber_count()
    }

    /// Waits until at least `count` subscriptions listen, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], naming the topic and saying how many there are; [`ErrorKind::Closed`] if the publisher is
    /// closed, perhaps meanwhile; [`ErrorKind::Interrupted`] after Ctrl-C, on a thread that has a script.
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread. Inside a handler, what the handler has sent is delivered first; others on its driver wait
    /// too, and so does a script's thread: a subscription that one of them would make does not come meanwhile. The limit
    /// ends that.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by waiting, and it can be waited for again.
    pub fn wait_for_subscribers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        self.core.check_here("cannot wait for subscribers")?;
        let topic = &self.core.topic;
        wait_until(
            &self.core.runtime,
            limit,
            |waker| {
                if topic.poll_subscribers(count, waker) {
                    return Some(Ok(()));
                }
                // Closing wakes the same waiters.
                self.core.is_closed().then(|| {
                    let text = format!("a publisher of topic {:?} is closed", topic.label());
                    Err(Error::new(ErrorKind::Closed, text))
                })
            },
            || {
                format!(
                    "topic {:?} has {} of {count} subscribers after {limit:?}",
                    topic.label(),
                    topic.subscriber_count()
                )
            },
        )
    }

    /// Waits until every sample of every value has been given back, at most `limit`. Values kept in history do not count.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], saying how many values are still out; [`ErrorKind::Deadlock`], naming whose turn it would be;
    /// [`ErrorKind::Interrupted`] after Ctrl-C, on a thread that has a script.
    ///
    /// # Deadlocks
    ///
    /// Values that wait for callbacks which only this very thread can run (of its own script, or on the driver that it is
    /// in a handler of) stay out while it waits: that is refused at once. Spin first. It is not seen when it waits for a
    /// sample that this thread holds, the one that its handler was given included, or for what a callback that evicts
    /// ([`WhenFull::DropOldest`](mproc_runtime::WhenFull::DropOldest), [`WhenFull::Latest`](mproc_runtime::WhenFull::Latest))
    /// has queued; then the limit ends it.
    ///
    /// Inside a handler, what the handler has sent and published is delivered first.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by waiting, and it can be waited for again.
    pub fn flush(&self, limit: Duration) -> Result<(), Error> {
        self.core.check_here("cannot wait for samples")?;
        let status = &self.core.status;
        wait_until(
            &self.core.runtime,
            limit,
            |waker| {
                if status.outstanding.poll_below(1, waker) {
                    return Some(Ok(()));
                }
                self.core.topic.watch_returns();
                if status.outstanding.poll_below(1, waker) {
                    return Some(Ok(()));
                }
                let lanes = self.core.topic.lanes_that_only_run_here(&self.core.runtime);
                let (queued, names) = self.core.queued_at(&lanes);
                (!queued.is_empty()).then(|| {
                    let text = format!(
                        "{} values of topic {:?} wait for {}, which only this thread can run",
                        queued.len(),
                        self.core.topic.label(),
                        names.join(", ")
                    );
                    Err(Error::new(ErrorKind::Deadlock, text))
                })
            },
            || {
                format!(
                    "{} values of topic {:?} are still out after {limit:?}",
                    status.outstanding.get(),
                    self.core.topic.label()
                )
            },
        )
    }

    /// Makes publishes wait until [`resume`](Self::resume), as if every queue were full.
    pub fn pause(&self) {
        self.core.status.gate.pause();
    }

    /// Lets publishes go on.
    pub fn resume(&self) {
        self.core.status.gate.resume();
    }

    /// Ends it, also for its clones. What is queued is still delivered; its history is gone, and publishes that wait end
    /// with [`PublishError::Closed`].
    pub fn close(&self) {
        self.core.close();
    }

    /// What is known of it now.
    pub fn snapshot(&self) -> PublisherSnapshot {
        self.core.status.snapshot()
    }

    /// Which processor has made it, once.
    pub(crate) fn set_owner(&self, owner: &Name) {
        let _before = self.core.status.owner.set(owner.clone());
    }

    /// Nobody listens and nothing is kept: publishing would do nothing.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        // Acquire pairs with the Release in `note_liveness`.
        self.core.status.idle.load(Ordering::Acquire)
    }
}

/// Waits on this thread until `look` returns something, or says why it has not: the limit has passed, or the wait was
/// interrupted.
pub(crate) fn wait_until(
    runtime: &Runtime,
    limit: Duration,
    look: impl FnMut(&Waker) -> Option<Result<(), Error>>,
    why_not: impl FnOnce() -> String,
) -> Result<(), Error> {
    let deadline = runtime.now().checked_add(limit);
    runtime.wait_until(deadline, look).unwrap_or_else(|kind| {
        let text = match kind {
            ErrorKind::Interrupted => "the program was interrupted while it waited".to_owned(),
            _ => why_not(),
        };
        Err(Error::new(kind, text))
    })
}

impl<T: Send + Sync + 'static> Publisher<T> {
    /// Publishes `value`: one sample, whatever the number of subscribers. Waits while a `Wait` subscription has no room,
    /// at most the publisher's limit (5 seconds unless told otherwise).
    ///
    /// A publish happens for everybody at once or for nobody. If nobody listens it costs one load.
    ///
    /// # Errors
    ///
    /// Nobody got the value, and it comes back (but see [`PublishError::Kept`]).
    ///
    /// # Deadlocks
    ///
    /// Inside a handler this does not wait: a value without room goes to the handler's outbox
    /// ([`Delivered::deferred`]), and the processor takes no more messages until it is delivered. If that never happens
    /// it becomes a dead letter, and the processor's `on_error` is told.
    ///
    /// Outside, a wait that only this very thread could end is refused at once ([`PublishError::Deadlock`]): for room at a
    /// callback of its own script, or, with a bound on values in flight, for such callbacks to give values back.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, Topic};
    /// # use mproc_runtime::Runtime;
    /// const WORDS: Topic<String> = Topic::new("words");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let words = graph.publisher(&node, &WORDS)?;
    /// assert_eq!(words.publish("nobody listens".into())?.count, 0);
    ///
    /// let left = graph.subscription(&node, &WORDS)?;
    /// let right = graph.subscription(&node, &WORDS)?;
    /// assert_eq!(words.publish("hello".into())?.count, 2);
    /// // One value, shared.
    /// assert!(std::ptr::eq::<String>(&*left.try_recv()?, &*right.try_recv()?));
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn publish(&self, value: T) -> Result<Delivered, PublishError<T>> {
        self.publish_value(value, Vec::new(), Wait::Limit, None)
    }

    /// As [`publish`](Self::publish), waiting at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish).
    ///
    /// # Deadlocks
    ///
    /// As [`publish`](Self::publish). Inside a handler it does not wait either: `limit` is how long the value may stand in
    /// the outbox.
    pub fn publish_timeout(&self, value: T, limit: Duration) -> Result<Delivered, PublishError<T>> {
        self.publish_value(value, Vec::new(), Wait::AtMost(limit), None)
    }

    /// As [`publish`](Self::publish), without waiting.
    ///
    /// # Errors
    ///
    /// [`PublishError::Full`] if a `Wait` subscription has no room.
    pub fn try_publish(&self, value: T) -> Result<Delivered, PublishError<T>> {
        self.publish_value(value, Vec::new(), Wait::No, None)
    }

    /// As [`publish`](Self::publish), with parts: bytes that travel with the value and are leased with it.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish); the parts are dropped.
    ///
    /// # Deadlocks
    ///
    /// As [`publish`](Self::publish).
    pub fn publish_with_parts(
        &self,
        value: T,
        parts: Vec<Vec<u8>>,
    ) -> Result<Delivered, PublishError<T>> {
        self.publish_value(value, parts, Wait::Limit, None)
    }

    pub(crate) fn publish_value(
        &self,
        value: T,
        parts: Vec<Vec<u8>>,
        wait: Wait,
        tracker: Option<Arc<Tracker>>,
    ) -> Result<Delivered, PublishError<T>> {
        if self.is_idle() {
            return Ok(Delivered::default());
        }
        let body = self.body_of(value, parts, tracker);
        self.core
            .publish(body, wait)
            .map_err(|(body, failure)| failure.with_value_of(body).map(|value| *value))
    }

    pub(crate) fn body_of(
        &self,
        value: T,
        parts: Vec<Vec<u8>>,
        tracker: Option<Arc<Tracker>>,
    ) -> Arc<dyn Body<T>> {
        let core = &self.core;
        let header = core.header(parts, tracker);
        if core.options.history > 0 {
            Arc::new(Kept {
                header,
                codec: core.topic.codec,
                encoded: OnceLock::new(),
                value: Arc::new(Box::new(value)),
            })
        } else {
            Arc::new(InLine {
                header,
                codec: core.topic.codec,
                encoded: OnceLock::new(),
                value,
            })
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Publisher<T> {
    pub(crate) fn publish_boxed(
        &self,
        value: Box<T>,
        wait: Wait,
        tracker: Option<Arc<Tracker>>,
    ) -> Result<Delivered, PublishError<Box<T>>> {
        self.publish_boxed_with(value, Vec::new(), wait, tracker)
    }

    pub(crate) fn publish_boxed_with(
        &self,
        value: Box<T>,
        parts: Vec<Vec<u8>>,
        wait: Wait,
        tracker: Option<Arc<Tracker>>,
    ) -> Result<Delivered, PublishError<Box<T>>> {
        if self.is_idle() {
            return Ok(Delivered::default());
        }
        let core = &self.core;
        let header = core.header(parts, tracker);
        let body: Arc<dyn Body<T>> = if core.options.history > 0 {
            Arc::new(Kept {
                header,
                codec: core.topic.codec,
                encoded: OnceLock::new(),
                value: Arc::new(value),
            })
        } else {
            Arc::new(Boxed {
                header,
                codec: core.topic.codec,
                encoded: OnceLock::new(),
                value,
            })
        };
        core.publish(body, wait)
            .map_err(|(body, failure)| failure.with_value_of(body))
    }

    // ---- for loans

    pub(crate) fn publish_body(
        &self,
        body: Arc<dyn Body<T>>,
        wait: Wait,
    ) -> Result<Delivered, (Arc<dyn Body<T>>, Failure)> {
        self.core.publish(body, wait)
    }

    pub(crate) fn header(&self, tracker: Option<Arc<Tracker>>) -> Header {
        self.core.header(Vec::new(), tracker)
    }

    pub(crate) fn codec(&self) -> &'static Codec<T> {
        self.core.topic.codec
    }

    pub(crate) fn check_here(&self, cannot: &str) -> Result<(), Error> {
        self.core.check_here(cannot)
    }

    /// The memory of a link that values go to, if there is any.
    pub(crate) fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        self.core.topic.outlet()
    }

    pub(crate) fn topic_label(&self) -> String {
        self.core.topic.label()
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.core.runtime
    }

    pub(crate) fn limit(&self) -> Duration {
        self.core.limit()
    }
}

impl<T: ?Sized + Send + Sync> Clone for Publisher<T> {
    fn clone(&self) -> Self {
        Self {
            core: self.core.clone(),
        }
    }
}

impl<T: ?Sized + Send + Sync> fmt::Debug for Publisher<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Publisher({} on {:?})",
            self.id().get(),
            self.core.topic.label()
        )
    }
}
