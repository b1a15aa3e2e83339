//! Learning that everybody has given one value back.
//!
//! A tracked value has a count of its own ([`Tracker`]): how many guards of it live. Its body has one, and so have the
//! bytes that were made of it for links, as long as any of them has them. So it is zero when the last sample of it is
//! gone, here and in other processes, whatever part of it was read. History keeps values in bodies without a guard.
//!
//! A link lets go of what came back when somebody asks ([`TopicCore::watch_returns`]). Whoever waits asks, and again when the
//! value is published: a value that stood in a handler's outbox was at no link before.

use crate::error::PublishError;
use crate::fan_out::Delivered;
use crate::forked::{Origin, forked};
use crate::id::{PublisherId, SubscriptionId};
use crate::leases::Tracker;
use crate::publisher::{Publisher, PublisherCore, Wait};
use crate::sample::{Body, Gap, Item, Receipt, Sample};
use crate::topic_core::{AnyTopic as _, TopicCore};
use mproc_runtime::queue::Waiter;
use mproc_runtime::{CutShort, Error, ErrorKind, Operation, Pending, Runtime, RuntimeCore};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Everybody who got a value has given it back: see [`Publisher::publish_tracked`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Released {
    /// What the publish did, as [`Publisher::publish`] would have returned it.
    pub delivered: Delivered,
}

impl<T: ?Sized + Send + Sync + 'static> Publisher<T> {
    /// Publishes by `publish`, and gives the operation that waits for what was published.
    pub(crate) fn tracked<V>(
        &self,
        publish: impl FnOnce(Arc<Tracker>) -> Result<Delivered, PublishError<V>>,
    ) -> Result<Pending<Released, Error>, PublishError<V>> {
        let tracker = Tracker::new();
        let delivered = publish(tracker.clone())?;
        Ok(Releasing::pending(&self.core, tracker, delivered))
    }

    /// Has `call` called with each value that is published from now on, and with the operation that completes when all who got
    /// it have given it back, as [`publish_tracked`](Self::publish_tracked) returns it. A later call of this replaces
    /// `call`, also for the publisher's clones.
    ///
    /// It is called after the value was queued everywhere, on the thread that published it; for a value that stood in a
    /// handler's outbox, on the thread that delivered it. No lock is held. It is not called for values that go to
    /// nobody and are not kept. The sample is not received by any subscription; a clone of it is a lease like any
    /// other. A panic in it goes on in whoever publishes, and the value is published all the same.
    ///
    /// # Deadlocks
    ///
    /// The value is not back before `call` has returned, so waiting for that in it ends by its limit. Publishing in it
    /// calls it again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use mproc_pubsub::{Graph, Topic};
    /// # use mproc_runtime::Runtime;
    /// # use std::sync::mpsc::channel;
    /// const WORDS: Topic<String> = Topic::new("words");
    /// # let node = Runtime::simulated(1);
    /// # let graph = Graph::of(&node);
    /// let words = graph.publisher(&node, &WORDS)?;
    /// let reader = graph.subscription(&node, &WORDS)?;
    /// let (tell, told) = channel();
    /// words.on_publish(move |word, released| tell.send((word.sequence(), released)).unwrap());
    ///
    /// words.publish("hello".into())?;
    /// let (sequence, released) = told.try_recv().unwrap();
    /// drop(reader.try_recv()?);
    /// released.wait()?;
    /// assert_eq!(sequence, 0);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn on_publish(
        &self,
        call: impl Fn(&Sample<T>, Pending<Released, Error>) + Send + Sync + 'static,
    ) {
        self.core.on_publish.set(Arc::new(call));
    }
}

impl<T: Send + Sync + 'static> Publisher<T> {
    /// Publishes `value` as [`publish`](Self::publish), and gives an operation that completes when all who got it have
    /// given it back: every sample of it, whole, with its parts, of subscriptions here and in other processes. A value
    /// that a subscription drops from its queue is given back, and so is all that a process had that has ended.
    ///
    /// What history keeps does not count, nor does what late subscribers get of it, as for [`flush`](Self::flush). If
    /// nobody listens, the operation is done at once.
    ///
    /// # Errors
    ///
    /// As [`publish`](Self::publish). From waiting:
    ///
    /// - [`ErrorKind::Timeout`]: the value is still out at the limit, which is the publisher's unless told otherwise.
    ///   Who has it shows in the snapshot of its topic.
    /// - [`ErrorKind::NotDelivered`]: the value stood in the outbox of a handler and never found room. It is a dead letter.
    /// - [`ErrorKind::Deadlock`]: it waits in the queue of a callback that only this thread can run. Spin instead, with
    ///   the operation in `spin_until`.
    /// - [`ErrorKind::Closed`]: this process was forked from the one that published it.
    ///
    /// # Deadlocks
    ///
    /// Publishing: as [`publish`](Self::publish). Waiting: as [`flush`](Self::flush). It is not seen if this thread
    /// waits for a sample that it holds itself; then the limit ends it.
    ///
    /// # Cancel safety
    ///
    /// The value is published when this returns. Dropping the operation changes nothing.
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
    /// let reader = graph.subscription(&node, &WORDS)?;
    ///
    /// let released = words.publish_tracked("hello".into())?;
    /// words.publish("later".into())?;
    /// let sample = reader.try_recv()?;
    /// drop(sample);
    /// // Of this very value: the later one is still queued.
    /// assert_eq!(released.wait()?.delivered.count, 1);
    /// # Ok::<(), mproc_runtime::Error>(())
    /// ```
    pub fn publish_tracked(&self, value: T) -> Result<Pending<Released, Error>, PublishError<T>> {
        self.publish_tracked_with_parts(value, Vec::new())
    }

    /// As [`publish_tracked`](Self::publish_tracked), with parts, as
    /// [`publish_with_parts`](Self::publish_with_parts). Whoever reads any part holds the sample, so the operation
    /// completes when the last holder of any part is gone.
    ///
    /// # Errors
    ///
    /// As [`publish_tracked`](Self::publish_tracked); the parts are dropped.
    ///
    /// # Deadlocks
    ///
    /// As [`publish_tracked`](Self::publish_tracked).
    pub fn publish_tracked_with_parts(
        &self,
        value: T,
        parts: Vec<Vec<u8>>,
    ) -> Result<Pending<Released, Error>, PublishError<T>> {
        self.tracked(|tracker| self.publish_value(value, parts, Wait::Limit, Some(tracker)))
    }
}

/// Waits until a value is back. It keeps the topic, and not the publisher.
struct Releasing<T: ?Sized + Send + Sync + 'static> {
    topic: Arc<TopicCore<T>>,
    publisher: PublisherId,
    tracker: Arc<Tracker>,
    delivered: Delivered,
    runtime: Runtime,
    limit: Duration,
    origin: Origin,
}

impl<T: ?Sized + Send + Sync + 'static> Releasing<T> {
    fn pending(
        core: &PublisherCore<T>,
        tracker: Arc<Tracker>,
        delivered: Delivered,
    ) -> Pending<Released, Error> {
        let mut pending = Pending::new(Arc::new(Self {
            topic: core.topic.clone(),
            publisher: core.id(),
            tracker,
            delivered,
            runtime: core.runtime().clone(),
            limit: core.limit(),
            origin: Origin::now(),
        }));
        pending.begin();
        pending
    }

    fn result(&self) -> Result<Released, Error> {
        // Nothing was done for a value that nobody wants: it has no number.
        let went_nowhere = !self.delivered.deferred;
        if went_nowhere || self.tracker.sequence().is_some() {
            return Ok(Released {
                delivered: self.delivered.clone(),
            });
        }
        let text = format!(
            "a value of topic {:?} never found room and is a dead letter",
            self.topic.label()
        );
        Err(Error::new(ErrorKind::NotDelivered, text))
    }
}

impl<T: ?Sized + Send + Sync + 'static> Operation<Released, Error> for Releasing<T> {
    fn begin(self: Arc<Self>, _: &mut Waiter, _: &Waker) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn cut_short(&self, why: CutShort) -> Error {
        why.error("cannot wait for a published value to come back")
    }

    fn what(&self) -> &'static str {
        "publish_tracked"
    }

    fn retreat(&self, _: &mut Waiter) {
        // It stands in no line.
    }

    fn poll(&self, waker: &Waker) -> Poll<Result<Released, Error>> {
        if self.origin.check().is_err() {
            return Poll::Ready(Err(forked("cannot wait for a value")));
        }
        if !self.tracker.poll_back(waker) {
            self.topic.watch_returns();
            if !self.tracker.poll_back(waker) {
                return Poll::Pending;
            }
        }
        Poll::Ready(self.result())
    }

    fn is_done(&self) -> bool {
        self.tracker.is_back()
    }

    fn has_result(&self) -> bool {
        // A link lets go of what came back only when it is asked, and whoever looks at a ticket may never wait for it.
        if !self.is_done() && self.origin.check().is_ok() {
            self.topic.watch_returns();
        }
        self.is_done()
    }

    fn abandon(&self, _: &mut Waiter) {
        // What is published stays published.
    }

    fn refuse_to_block(&self) -> Option<Error> {
        if self.origin.check().is_err() || self.is_done() {
            return None;
        }
        let sequence = self.tracker.sequence()?;
        let mut lanes = self.topic.lanes_that_only_run_here(&self.runtime);
        lanes.retain(|lane| lane.queued_of(self.publisher).contains(&sequence));
        if lanes.is_empty() {
            return None;
        }
        let names: Vec<_> = lanes.iter().map(|lane| lane.label()).collect();
        let text = format!(
            "a value of topic {:?} waits for {}, which only this thread can run",
            self.topic.label(),
            names.join(", ")
        );
        Some(Error::new(ErrorKind::Deadlock, text))
    }

    fn timeout(&self) -> Error {
        let text = format!(
            "a value of topic {:?} is still out at the limit",
            self.topic.label()
        );
        Error::new(ErrorKind::Timeout, text)
    }

    fn runtime(&self) -> Arc<RuntimeCore> {
        self.runtime.shared()
    }

    fn limit(&self) -> Duration {
        self.limit
    }
}

type Call<T> = dyn Fn(&Sample<T>, Pending<Released, Error>) + Send + Sync;

/// What is called with each value that a publisher publishes.
pub(crate) struct OnPublish<T: ?Sized + 'static> {
    /// A hint for those who publish, so that they take no lock.
    is_set: AtomicBool,
    call: Mutex<Option<Arc<Call<T>>>>,
}

impl<T: ?Sized> Default for OnPublish<T> {
    fn default() -> Self {
        Self {
            is_set: AtomicBool::new(false),
            call: Mutex::new(None),
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> OnPublish<T> {
    /// True if values are to be tracked.
    pub(crate) fn wants(&self) -> bool {
        // Relaxed: a publish that does not see it began before it was set. What is behind it has a lock.
        self.is_set.load(Ordering::Relaxed)
    }

    fn set(&self, call: Arc<Call<T>>) {
        // Dropped without the lock: it is the user's code.
        let _before = self.call.lock().replace(call);
        self.is_set.store(true, Ordering::Relaxed);
    }

    /// A value was published. No lock is held.
    pub(crate) fn tell(
        &self,
        core: &PublisherCore<T>,
        body: &Arc<dyn Body<T>>,
        tracker: &Arc<Tracker>,
        delivered: &Delivered,
    ) {
        if !self.wants() {
            return;
        }
        let call = self.call.lock().clone();
        if let Some(call) = call {
            let item = Item {
                body: body.clone(),
                number: 0,
                arrival: 0,
                in_flight: None,
            };
            let receipt = Receipt {
                subscription: SubscriptionId::none(),
                gap: Gap::Known(0),
                received: body.header().published,
                held: None,
            };
            let sample = Sample::new(item, receipt);
            let released = Releasing::pending(core, tracker.clone(), delivered.clone());
            call(&sample, released);
        }
    }
}
