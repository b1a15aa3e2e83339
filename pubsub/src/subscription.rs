//! The receiving end of a topic, pulled from by a thread or a task.

use crate::codec::Codec;
use crate::delivery::{DEFAULT_SUBSCRIPTION_CAPACITY, Delivery, Filter, Paused, Settings};
use crate::error::{RecvError, TryRecvError};
use crate::forked::forked;
use crate::graph::Graph;
use crate::id::{SubscriptionId, TopicId};
use crate::publisher::wait_until;
use crate::sample::Sample;
use crate::snapshot::SubscriptionSnapshot;
use crate::subscriber::Subscriber;
use crate::topic::Topic;
use crate::topic_core::{AnyTopic, TopicCore};
use mproc_runtime::queue::Waiter;
use mproc_runtime::{
    CutShort, Cx, Error, ErrorKind, LaneBell, Operation, Pending, Processor, Runtime, RuntimeCore,
    WhenFull,
};
use parking_lot::Mutex;
use std::fmt;
use std::sync::{Arc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

/// What a subscription is made with.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::SubscriptionOptions;
/// use mproc_runtime::WhenFull;
///
/// let newest_even = SubscriptionOptions::new()
///     .capacity(8)
///     .when_full(WhenFull::DropOldest)
///     .filter(|n: &i64| n % 2 == 0);
/// # let _ = newest_even;
/// ```
#[must_use = "options do nothing until a subscription is made with them"]
pub struct SubscriptionOptions<T: ?Sized + 'static> {
    capacity: Option<usize>,
    when_full: WhenFull,
    max_leases: Option<usize>,
    filter: Option<Filter<T>>,
    codec: Option<&'static Codec<T>>,
    copies_first: bool,
    water_marks: Option<(usize, usize)>,
    lease_warning: Option<Duration>,
    silence: Option<Duration>,
}

impl<T: ?Sized + 'static> SubscriptionOptions<T> {
    /// 64 places (or what `MPROC_CAPACITY` says), publishers wait, no filter.
    pub fn new() -> Self {
        Self {
            capacity: None,
            when_full: WhenFull::Wait,
            max_leases: None,
            filter: None,
            codec: None,
            copies_first: false,
            water_marks: None,
            lease_warning: None,
            silence: None,
        }
    }

    /// Exactly `capacity` samples are queued at most. At least 1; `Latest` always has 1. What other processes publish has queues of
    /// its own, one for each process, with this capacity each.
    pub fn capacity(mut self, capacity: usize) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// What happens to a sample that finds the queue full.
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Lets only those values pass for which `filter` is true. It runs on the publisher's thread before queueing, and on the
    /// thread that subscribes for values of the past. No lock is held then; it must not publish. One value may be asked
    /// about more than once.
    ///
    /// What other processes publish is filtered when it is taken: until then it has its place in the queue.
    ///
    /// A filter of dynamic messages should not keep one that carries a sample: if the publish then fails, its publisher does
    /// not get the value back ([`PublishError::Kept`](crate::PublishError::Kept)). Such a sample does not know its number
    /// and gap yet.
    pub fn filter(mut self, filter: impl Fn(&T) -> bool + Send + Sync + 'static) -> Self {
        self.filter = Some(Box::new(filter));
        self
    }

    /// Whoever receives may hold at most `count` samples. Then no more are taken until one is let go of. A subscription that
    /// says nothing may hold 256 samples of each other process, and any number of its own.
    ///
    /// Of a [channel](crate::Graph::channel) the capacity bounds what is queued and held together, so this makes the
    /// capacity no larger than `count`.
    pub fn max_leases(mut self, count: usize) -> Self {
        self.max_leases = Some(count);
        self
    }

    /// Has the subscription tell when `high` samples are queued ([`Event::QueueHigh`](crate::Event::QueueHigh)), and
    /// then when only `low` are left ([`Event::QueueLow`](crate::Event::QueueLow)), and so on in turns. `low` is less
    /// than `high`, and `high` at most the capacity.
    ///
    /// What other processes publish has queues of its own, which are not watched. A channel has no marks.
    pub fn water_marks(mut self, low: usize, high: usize) -> Self {
        self.water_marks = Some((low, high));
        self
    }

    /// Has the subscription tell when a sample is held for longer than `limit`
    /// ([`Event::LeaseHeld`](crate::Event::LeaseHeld)), by the node's clock, while it is still held. A channel does not tell.
    pub fn lease_warning(mut self, limit: Duration) -> Self {
        self.lease_warning = Some(limit);
        self
    }

    /// Has the subscription tell when no sample was received by it for `limit` and none waits
    /// ([`Event::Silent`](crate::Event::Silent)), by the node's clock: once for each silence. While a silence lasts
    /// that was told, nothing is timed. A processor that wants a message instead says so where it subscribes
    /// ([`Subscribing::silence`](crate::Subscribing::silence)). A channel does not tell.
    pub fn silence(mut self, limit: Duration) -> Self {
        self.silence = Some(limit);
        self
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.water_marks.is_some() || self.lease_warning.is_some() || self.silence.is_some()
    }

    /// Copies what other processes publish before it is decoded or read. Without this it is read where it was filled, which
    /// trusts those processes, of the same user, not to write to what is leased.
    pub fn copies_first(mut self) -> Self {
        self.copies_first = true;
        self
    }

    /// For a subscription to a pattern: values travel as those of `topic` do. Without this it gets what this process
    /// publishes on topics of its pattern, and nothing from other processes.
    pub fn travels_as(mut self, topic: &Topic<T>) -> Self {
        self.codec = Some(topic.codec_ref());
        self
    }

    pub(crate) fn delivery(
        self,
        runtime: &Runtime,
        topic: &'static str,
        topic_id: TopicId,
    ) -> Result<Arc<Delivery<T>>, Error>
    where
        T: Send + Sync,
    {
        let settings = self.settings(runtime, topic, topic_id)?;
        Ok(Delivery::new(runtime, topic, topic_id, settings))
    }

    pub(crate) fn settings(
        self,
        runtime: &Runtime,
        topic: &'static str,
        topic_id: TopicId,
    ) -> Result<Settings<T>, Error> {
        let capacity = self
            .capacity
            .unwrap_or_else(|| runtime.options().capacity_or(DEFAULT_SUBSCRIPTION_CAPACITY));
        for (what, count) in [
            ("a capacity", capacity),
            ("a bound on leases", self.max_leases.unwrap_or(1)),
        ] {
            if count == 0 {
                let text = format!(
                    "cannot subscribe to {:?}: {what} must be at least 1, not 0",
                    crate::topic::label(topic, topic_id)
                );
                return Err(Error::new(ErrorKind::InvalidSetting, text));
            }
        }
        if let Some((low, high)) = self.water_marks
            && (low >= high || high > capacity)
        {
            let text = format!(
                "cannot subscribe to {:?}: the marks must be low < high <= capacity, not {low} < {high} <= {capacity}",
                crate::topic::label(topic, topic_id)
            );
            return Err(Error::new(ErrorKind::InvalidSetting, text));
        }
        Ok(Settings {
            capacity: if self.when_full == WhenFull::Latest {
                1
            } else {
                capacity
            },
            when_full: self.when_full,
            max_leases: self.max_leases,
            filter: self.filter,
            codec: self.codec,
            copies_first: self.copies_first,
            water_marks: self.water_marks,
            lease_warning: self.lease_warning,
            silence: self.silence,
        })
    }
}

impl<T: ?Sized> Default for SubscriptionOptions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized> fmt::Debug for SubscriptionOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubscriptionOptions")
            .field("capacity", &self.capacity)
            .field("when_full", &self.when_full)
            .finish_non_exhaustive()
    }
}

/// A subscription's controls, for whoever does not receive from it. It keeps nothing alive; dropping it changes nothing.
#[derive(Clone)]
pub struct Control {
    subscription: Weak<dyn Controlled>,
    id: SubscriptionId,
}

/// A delivery whose type is forgotten.
pub(crate) trait Controlled: Send + Sync {
    fn pause(&self, why: Paused);
    fn resume(&self, why: Paused);
    /// The lane that it is, if it is one and has something that may be handed out.
    fn lane_with_samples(&self) -> Option<LaneBell>;
    fn unsubscribe(&self);
    fn snapshot(&self) -> SubscriptionSnapshot;
}

/// What a control points to: the queue and where it hangs.
pub(crate) struct Hanging<T: ?Sized + Send + Sync + 'static> {
    pub(crate) delivery: Arc<Delivery<T>>,
    pub(crate) graph: Weak<Graph>,
}

impl<T: ?Sized + Send + Sync + 'static> Hanging<T> {
    pub(crate) fn control(self: &Arc<Self>) -> Control {
        let me: Arc<dyn Controlled> = self.clone();
        Control {
            subscription: Arc::downgrade(&me),
            id: self.delivery.id_of(),
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Controlled for Hanging<T> {
    fn pause(&self, why: Paused) {
        self.delivery.pause(why);
    }

    fn resume(&self, why: Paused) {
        self.delivery.resume(why);
    }

    fn lane_with_samples(&self) -> Option<LaneBell> {
        let bell = self.delivery.lane_bell()?;
        let has_samples = !self.delivery.is_paused() && self.delivery.has_samples();
        has_samples.then(|| bell.clone())
    }

    fn unsubscribe(&self) {
        match self.graph.upgrade() {
            Some(graph) => graph.detach(&self.delivery),
            None => self.delivery.close(crate::subscriber::Closed::Unsubscribed),
        }
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        self.delivery.snapshot()
    }
}

impl Control {
    /// Which subscription it is.
    pub fn id(&self) -> SubscriptionId {
        self.id
    }

    /// Stops handing out samples. The queue fills, and then its policy applies.
    pub fn pause(&self) {
        if let Some(subscription) = self.subscription.upgrade() {
            subscription.pause(Paused::Asked);
        }
    }

    /// Goes on handing out samples, in order.
    pub fn resume(&self) {
        if let Some(subscription) = self.subscription.upgrade() {
            subscription.resume(Paused::Asked);
        }
    }

    /// For layers that keep callbacks: while its callback is out nothing is handed out, whatever `pause` and `resume` say.
    pub fn take_callback_out(&self) {
        if let Some(subscription) = self.subscription.upgrade() {
            subscription.pause(Paused::NoCallback);
        }
    }

    /// For layers: its callback is back, and what waits is handed out, in order.
    pub fn put_callback_back(&self) {
        if let Some(subscription) = self.subscription.upgrade() {
            subscription.resume(Paused::NoCallback);
        }
    }

    /// For layers: calls the callback with one sample that is queued, now and out of turn. False if there is none, if it is
    /// paused, or if it is not a subscription of this processor. Once for each time that the processor is entered.
    pub fn serve_one<P: Processor>(&self, processor: &mut P, cx: &mut Cx<'_, P>) -> bool {
        let subscription = self.subscription.upgrade();
        let lane = subscription.and_then(|subscription| subscription.lane_with_samples());
        lane.is_some_and(|lane| cx.serve_lane(processor, &lane))
    }

    /// True if the subscription has ended.
    pub fn has_ended(&self) -> bool {
        let subscription = self.subscription.upgrade();
        subscription.is_none_or(|subscription| subscription.snapshot().closed)
    }

    /// Ends the subscription at once; what is queued is given back. A handler that is running with a sample of it returns as
    /// usual, and is not called again.
    pub fn unsubscribe(&self) {
        if let Some(subscription) = self.subscription.upgrade() {
            subscription.unsubscribe();
        }
    }

    /// What is known of it now; `None` if it is gone.
    pub fn snapshot(&self) -> Option<SubscriptionSnapshot> {
        Some(self.subscription.upgrade()?.snapshot())
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Control({})", self.id.get())
    }
}

/// A queue of samples to pull from. Several threads may; each sample goes to one.
///
/// Dropping it ends the subscription at once and gives queued samples back. It cannot be detached: a queue that nobody can
/// pull from would only fill.
#[must_use = "dropping it ends the subscription"]
pub struct Subscription<T: ?Sized + Send + Sync + 'static> {
    hanging: Arc<Hanging<T>>,
    runtime: Runtime,
}

impl<T: ?Sized + Send + Sync + 'static> Subscription<T> {
    pub(crate) fn new(graph: &Arc<Graph>, runtime: &Runtime, delivery: Arc<Delivery<T>>) -> Self {
        Self {
            hanging: Arc::new(Hanging {
                delivery,
                graph: Arc::downgrade(graph),
            }),
            runtime: runtime.without_guard(),
        }
    }

    pub(crate) fn delivery(&self) -> &Arc<Delivery<T>> {
        &self.hanging.delivery
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// Nothing is delivered any more, and what is queued is given back.
    pub(crate) fn end(&self) {
        self.hanging.unsubscribe();
    }

    /// Its id, which samples carry.
    pub fn id(&self) -> SubscriptionId {
        self.delivery().id_of()
    }

    /// The next sample, waited for in any of the ways of [`Pending`]. Receivers are served in order.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    ///
    /// # Cancel safety
    ///
    /// A sample leaves the queue in the very moment that it is returned. A wait that is cancelled, also after it was woken,
    /// loses nothing: the sample goes to the next who waits.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, RecvError, Topic};
    /// # use mproc_runtime::Runtime;
    /// # use std::time::Duration;
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let numbers = graph.subscription(&node, &NUMBERS)?;
    /// graph.publisher(&node, &NUMBERS)?.publish(7)?;
    /// let sample = numbers.recv().wait()?;
    /// assert_eq!((*sample, sample.gap()), (7, 0));
    ///
    /// let nothing_more = numbers.recv().wait_timeout(Duration::from_millis(5));
    /// assert_eq!(nothing_more.unwrap_err(), RecvError::Timeout);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn recv(&self) -> Pending<Sample<T>, RecvError> {
        Pending::new(Arc::new(Recv {
            delivery: self.delivery().clone(),
            runtime: self.runtime.clone(),
            place: Mutex::new(None),
        }))
    }

    /// The next sample, waiting for it at most `limit` on this thread.
    ///
    /// # Errors
    ///
    /// [`RecvError`].
    ///
    /// # Deadlocks
    ///
    /// As [`Pending::wait`]: inside a handler, what the handler has sent is delivered first, and others on its driver wait
    /// too. What only this thread would publish does not come; the limit ends that.
    ///
    /// # Cancel safety
    ///
    /// As [`recv`](Self::recv): a limit that passes loses nothing.
    pub fn recv_timeout(&self, limit: Duration) -> Result<Sample<T>, RecvError> {
        match self.try_recv() {
            Ok(sample) => Ok(sample),
            Err(TryRecvError::Empty) => self.recv().wait_timeout(limit),
            Err(TryRecvError::Closed) => Err(RecvError::Closed),
            Err(TryRecvError::Disconnected) => Err(RecvError::Disconnected),
        }
    }

    /// A sample, if one is queued and nobody else waits for it.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`].
    pub fn try_recv(&self) -> Result<Sample<T>, TryRecvError> {
        match self.delivery().try_recv() {
            Ok(Some(sample)) => Ok(sample),
            Ok(None) => Err(TryRecvError::Empty),
            Err(RecvError::Disconnected) => Err(TryRecvError::Disconnected),
            Err(_) => Err(TryRecvError::Closed),
        }
    }

    /// Samples as they come, waiting for each as long as it takes. Ends when the subscription is closed, when the program is
    /// interrupted on a thread that has a script, and at once where [blocking is refused](mproc_runtime::InExecutor::Refuse).
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread, and without a limit: nothing ends it if nobody publishes and the node does not end. Inside a
    /// handler prefer a subscription of the processor's own.
    ///
    /// # Cancel safety
    ///
    /// A sample leaves the queue in the very moment that the iterator returns it. Dropping the iterator loses nothing.
    pub fn iter(&self) -> impl Iterator<Item = Sample<T>> + '_ {
        std::iter::from_fn(|| self.recv_timeout(Duration::MAX).ok())
    }

    /// Samples that are queued now, without waiting.
    pub fn try_iter(&self) -> impl Iterator<Item = Sample<T>> + '_ {
        std::iter::from_fn(|| self.try_recv().ok())
    }

    /// Calls `call` with at most `limit` samples, as long as any is queued, and returns how many: exactly `limit`, or
    /// all that were there. A sample of another process is there when its memory has been met here. Never waits. What
    /// `call` itself makes come is included, within the limit.
    ///
    /// Nobody else who waits for a sample is overtaken, and while it is paused nothing is handed out. A panic in `call` goes on
    /// here; the samples behind it stay queued.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, Topic};
    /// # use mproc_runtime::Runtime;
    /// const NUMBERS: Topic<i64> = Topic::new("numbers");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let numbers = graph.subscription(&node, &NUMBERS)?;
    /// let publisher = graph.publisher(&node, &NUMBERS)?;
    /// for n in 1..=4 {
    ///     publisher.publish(n)?;
    /// }
    /// let mut seen = Vec::new();
    /// assert_eq!(numbers.run_pending(3, |n| seen.push(*n)), 3);
    /// assert_eq!(seen, [1, 2, 3]);
    /// assert_eq!(numbers.run_pending(3, drop), 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn run_pending(&self, limit: usize, mut call: impl FnMut(Sample<T>)) -> usize {
        let mut ran = 0;
        while ran < limit
            && let Ok(sample) = self.try_recv()
        {
            call(sample);
            ran += 1;
        }
        ran
    }

    /// Waits until at least `count` publishers are there, at most `limit`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Timeout`], naming the topic and saying how many there are; [`ErrorKind::Refused`] for a subscription to
    /// a pattern, which has no one topic to count them on; [`ErrorKind::Closed`] if the node has ended;
    /// [`ErrorKind::Interrupted`] after Ctrl-C, on a thread that has a script.
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread, as [`Publisher::wait_for_subscribers`](crate::Publisher::wait_for_subscribers) does.
    ///
    /// # Cancel safety
    ///
    /// Nothing is changed by waiting, and it can be waited for again.
    pub fn wait_for_publishers(&self, count: usize, limit: Duration) -> Result<(), Error> {
        let delivery = self.delivery();
        if !delivery.is_here() {
            return Err(forked("cannot wait for publishers"));
        }
        let topic = self
            .hanging
            .graph
            .upgrade()
            .and_then(|graph| graph.find(delivery.topic_id()))
            .and_then(|topic| topic.as_any().downcast::<TopicCore<T>>().ok());
        let closed = || {
            let text = format!("{} is closed", delivery.label());
            Error::new(ErrorKind::Closed, text)
        };
        let Some(topic) = topic else {
            if delivery.is_ended() {
                return Err(closed());
            }
            let text = "a subscription to a pattern cannot wait for publishers";
            return Err(Error::new(ErrorKind::Refused, text));
        };
        wait_until(
            &self.runtime,
            limit,
            |waker| {
                if topic.poll_publishers(count, waker) {
                    return Some(Ok(()));
                }
                // Only the end of the node closes it while it is there, and wakes the same waiters.
                topic.is_closed().then(|| Err(closed()))
            },
            || {
                format!(
                    "topic {:?} has {} of {count} publishers after {limit:?}",
                    topic.label(),
                    topic.publisher_count()
                )
            },
        )
    }

    /// Its controls, for somebody else.
    pub fn control(&self) -> Control {
        self.hanging.control()
    }

    /// Stops handing out samples. The queue fills, and then its policy applies.
    pub fn pause(&self) {
        self.delivery().pause(Paused::Asked);
    }

    /// Goes on handing out samples, in order.
    pub fn resume(&self) {
        self.delivery().resume(Paused::Asked);
    }

    /// Ends it at once; what is queued is given back. The same as dropping it, said in words.
    pub fn unsubscribe(self) {
        drop(self);
    }

    /// What is known of it now.
    pub fn snapshot(&self) -> SubscriptionSnapshot {
        self.delivery().snapshot()
    }
}

impl<T: ?Sized + Send + Sync + 'static> Drop for Subscription<T> {
    fn drop(&mut self) {
        self.hanging.unsubscribe();
    }
}

impl<T: ?Sized + Send + Sync> fmt::Debug for Subscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subscription({})", self.delivery().label())
    }
}

struct Recv<T: ?Sized + Send + Sync + 'static> {
    delivery: Arc<Delivery<T>>,
    runtime: Runtime,
    /// In the line of receivers.
    place: Mutex<Option<u64>>,
}

impl<T: ?Sized + Send + Sync + 'static> Recv<T> {
    /// The lock is not held meanwhile: others are woken. Nobody else changes the place, an operation has one who waits for it.
    fn with_place<R>(&self, change: impl FnOnce(&mut Option<u64>) -> R) -> R {
        let mut place = *self.place.lock();
        let result = change(&mut place);
        *self.place.lock() = place;
        result
    }
}

impl<T: ?Sized + Send + Sync + 'static> Operation<Sample<T>, RecvError> for Recv<T> {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), RecvError>> {
        Poll::Ready(Ok(()))
    }

    fn retreat(&self, _: &mut Waiter) {
        // Beginning stands in no line; polling does.
    }

    fn start(self: Arc<Self>, _: &mut Waiter, waker: &Waker) -> Poll<Result<(), RecvError>> {
        self.with_place(|place| self.delivery.stand_in_line(place, waker));
        Poll::Ready(Ok(()))
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Sample<T>, RecvError>> {
        self.with_place(|place| self.delivery.poll_recv(place, waker))
    }

    fn is_done(&self) -> bool {
        self.delivery.has_samples()
    }

    fn abandon(&self, _: &mut Waiter) {
        self.with_place(|place| self.delivery.leave_line(place));
    }

    fn has_result(&self) -> bool {
        self.delivery.is_kept_for(*self.place.lock())
    }

    /// What is kept for it has not left the queue: it goes to the next.
    fn cancel(&self, waiter: &mut Waiter) -> bool {
        self.abandon(waiter);
        true
    }

    fn detach(&self, waiter: &mut Waiter) {
        self.abandon(waiter);
    }

    fn cut_short(&self, why: CutShort) -> RecvError {
        match why {
            CutShort::Interrupted => RecvError::Interrupted,
            CutShort::InExecutor => RecvError::InExecutor,
            _ => RecvError::Cancelled,
        }
    }

    fn what(&self) -> &'static str {
        "recv"
    }

    fn refuse_to_block(&self) -> Option<RecvError> {
        None
    }

    fn timeout(&self) -> RecvError {
        RecvError::Timeout
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.runtime.shared()
    }

    fn limit(&self) -> Duration {
        self.runtime.options().wait_limit()
    }
}

/// A subscription of any type, for [`select`].
pub trait Selectable: selectable::Sealed {}

mod selectable {
    use std::task::Waker;

    pub trait Sealed {
        fn poll_ready(&self, waker: &Waker) -> bool;
        fn runtime(&self) -> mproc_runtime::Runtime;
    }
}

impl<T: ?Sized + Send + Sync> Selectable for Subscription<T> {}

impl<T: ?Sized + Send + Sync> selectable::Sealed for Subscription<T> {
    fn poll_ready(&self, waker: &Waker) -> bool {
        self.delivery().poll_ready(waker)
    }

    fn runtime(&self) -> Runtime {
        self.runtime.clone()
    }
}

/// Waits until one of several subscriptions, of whatever types, has a sample or is closed, at most `limit`. Returns its
/// index; if several have, the first after `last` (a hot subscription cannot starve the others if `last` is the index
/// returned before).
///
/// # Errors
///
/// [`RecvError::Timeout`]; [`RecvError::Closed`] if there is nothing to wait for; [`RecvError::Interrupted`] after Ctrl-C, on a
/// thread that has a script.
///
/// # Deadlocks
///
/// It blocks this thread. Inside a handler, what the handler has sent is delivered first, and others on its driver wait too.
///
/// # Cancel safety
///
/// It takes nothing: the sample stays in its queue until it is received, perhaps by somebody else.
///
/// # Examples
///
/// ```
/// # use mproc_pubsub::{Graph, Topic, select};
/// # use mproc_runtime::Runtime;
/// # use std::time::Duration;
/// const NUMBERS: Topic<i64> = Topic::new("numbers");
/// const WORDS: Topic<String> = Topic::new("words");
/// # let node = Runtime::simulated(1);
/// # let graph = Graph::of(&node);
/// let numbers = graph.subscription(&node, &NUMBERS)?;
/// let words = graph.subscription(&node, &WORDS)?;
/// graph.publisher(&node, &WORDS)?.publish("hello".into())?;
/// let ready = select(&[&numbers, &words], None, Duration::from_secs(1))?;
/// assert_eq!(ready, 1);
/// assert_eq!(*words.try_recv()?, "hello");
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
pub fn select(
    subscriptions: &[&dyn Selectable],
    last: Option<usize>,
    limit: Duration,
) -> Result<usize, RecvError> {
    let Some(first) = subscriptions.first() else {
        return Err(RecvError::Closed);
    };
    let runtime = first.runtime();
    let deadline = runtime.now().checked_add(limit);
    let start = last.map_or(0, |last| last.wrapping_add(1));
    let look = |waker: &Waker| {
        let mut order =
            (0..subscriptions.len()).map(|i| start.wrapping_add(i) % subscriptions.len());
        order.find(|&i| subscriptions[i].poll_ready(waker))
    };
    runtime
        .wait_until(deadline, look)
        .map_err(|kind| match kind {
            ErrorKind::Interrupted => RecvError::Interrupted,
            _ => RecvError::Timeout,
        })
}
