//! Relays: what comes on one topic is published on another, by a processor of its own.
//!
//! Unlike a connection ([`Graph::connect`]), which is wiring, a relay is a subscriber of the one topic and a publisher
//! of the other. So each side has its own capacity, policy and limit, it can be paused, and it counts. The value is
//! handed on as it is: the body that is published holds the sample that was received ([`Relayed`]), and so its lease.

use crate::codec::{Codec, CodecError};
use crate::graph::Graph;
use crate::id::TopicId;
use crate::leases::{Outstanding, Tracker};
use crate::processors::Topics as _;
use crate::publisher::{Publisher, PublisherOptions, Wait};
use crate::sample::{Body, Header, Sample};
use crate::subscription::{Control, SubscriptionOptions};
use crate::topic::Topic;
use mproc_runtime::{Address, AfterPanic, Cx, Error, ErrorKind, Fault, Processor, Runtime};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

type Tap<T> = Box<dyn FnMut(&Sample<T>) + Send>;

/// What a relay is made with.
///
/// # Examples
///
/// ```
/// use mproc_pubsub::{RelayOptions, SubscriptionOptions};
/// use mproc_runtime::WhenFull;
///
/// let newest = SubscriptionOptions::new().capacity(8).when_full(WhenFull::DropOldest);
/// let options = RelayOptions::new()
///     .subscription(newest)
///     .tap(|n: &mproc_pubsub::Sample<i64>| println!("passes: {}", **n));
/// # let _ = options;
/// ```
#[must_use = "options do nothing until a relay is made with them"]
pub struct RelayOptions<T: ?Sized + 'static> {
    subscription: SubscriptionOptions<T>,
    publisher: PublisherOptions,
    tap: Option<Tap<T>>,
}

impl<T: ?Sized + 'static> RelayOptions<T> {
    /// Both sides as a subscription and a publisher without options, and no tap.
    pub fn new() -> Self {
        Self {
            subscription: SubscriptionOptions::new(),
            publisher: PublisherOptions::new(),
            tap: None,
        }
    }

    /// How it subscribes: its capacity, its policy, a filter.
    pub fn subscription(mut self, options: SubscriptionOptions<T>) -> Self {
        self.subscription = options;
        self
    }

    /// How it publishes: its limit, its history. What its history keeps stays leased.
    pub fn publisher(mut self, options: PublisherOptions) -> Self {
        self.publisher = options;
        self
    }

    /// Has `tap` called with each sample that it takes, after it was sent, on the relay's thread. A panic in it is
    /// reported, and the relay goes on.
    pub fn tap(mut self, tap: impl FnMut(&Sample<T>) + Send + 'static) -> Self {
        self.tap = Some(Box::new(tap));
        self
    }
}

impl<T: ?Sized> Default for RelayOptions<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ?Sized> fmt::Debug for RelayOptions<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RelayOptions")
            .field("subscription", &self.subscription)
            .field("publisher", &self.publisher)
            .finish_non_exhaustive()
    }
}

/// What a relay has done: `taken = sent + dropped + waiting`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RelaySnapshot {
    /// Samples that it took from its queue.
    pub taken: u64,
    /// Of these, those that it published, to whomever listened.
    pub sent: u64,
    /// Of these, those that found no room until the limit, or could not be published for another reason. They are dead letters.
    pub dropped: u64,
    /// Of these, those that wait for room.
    pub waiting: u64,
    /// Samples that were lost before it took them, by its queue's policy, as far as it has noticed.
    pub lost: u64,
    /// It takes nothing until it is resumed.
    pub paused: bool,
}

/// Publishes on one topic what comes on another, on a thread of its own. Dropping it stops it; [`detach`](Self::detach)
/// keeps it.
#[must_use = "dropping it stops the relay; detach() keeps it"]
pub struct Relay {
    control: Control,
    stop: Option<Box<dyn Fn() + Send + Sync>>,
    lead: Lead,
    counts: Arc<Counts>,
    sent: Box<dyn Fn() -> u64 + Send + Sync>,
}

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    dropped: AtomicU64,
}

impl Relay {
    /// Makes it take nothing more. Its queue fills, and then its policy applies. What waits for room is still sent.
    pub fn pause(&self) {
        self.control.pause();
    }

    /// Lets it go on, with what has waited, in order.
    pub fn resume(&self) {
        self.control.resume();
    }

    /// Ends it at once: what is queued is given back, and what waits for room is dropped. The same as dropping it, said
    /// in words.
    pub fn stop(self) {
        drop(self);
    }

    /// Keeps it for the life of the node.
    pub fn detach(mut self) {
        self.stop = None;
        self.lead.keep();
    }

    /// What it has done until now.
    pub fn snapshot(&self) -> RelaySnapshot {
        // In this order: what is sent or dropped later was taken before, so the rest is never negative.
        let sent = (self.sent)();
        let dropped = self.counts.dropped.load(Ordering::Acquire);
        let taken = self.counts.taken.load(Ordering::Acquire);
        let queue = self.control.snapshot();
        RelaySnapshot {
            taken,
            sent,
            dropped,
            waiting: taken.saturating_sub(sent).saturating_sub(dropped),
            lost: queue.as_ref().map_or(0, |queue| queue.lost),
            paused: queue.is_some_and(|queue| queue.paused),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            self.control.unsubscribe();
            stop();
        }
    }
}

impl fmt::Debug for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Relay({:?})", self.control)
    }
}

/// That a relay leads from one topic to another: counts for circles until it is dropped.
pub(crate) struct Lead {
    graph: Weak<Graph>,
    pair: (TopicId, TopicId),
}

impl Lead {
    /// It stays for the life of the node.
    fn keep(&mut self) {
        self.graph = Weak::new();
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(graph) = self.graph.upgrade() {
            graph.remove_lead(self.pair);
        }
    }
}

/// The processor of a relay.
struct Relaying<T: ?Sized + Send + Sync + 'static> {
    to: Publisher<T>,
    /// Values travel on both topics in the same way, so bytes can be handed on.
    same_bytes: bool,
    tap: Option<Tap<T>>,
    counts: Arc<Counts>,
}

impl<T: ?Sized + Send + Sync + 'static> Processor for Relaying<T> {
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        AfterPanic::GoOn
    }
}

impl<T: ?Sized + Send + Sync + 'static> Relaying<T> {
    fn relay(&mut self, sample: Sample<T>) -> Result<(), Fault> {
        // Release: partner in `Relay::snapshot`.
        self.counts.taken.fetch_add(1, Ordering::Release);
        let body = Relayed::new(&self.to, sample.clone(), self.same_bytes, &self.counts);
        let sent = self.to.publish_body(Arc::new(body), Wait::Limit);
        if let Some(tap) = &mut self.tap {
            tap(&sample);
        }
        match sent {
            Ok(_) => Ok(()),
            Err((body, failure)) => {
                drop(body);
                Err(Fault::from(Error::from(failure.with(()))))
            }
        }
    }
}

impl Graph {
    /// Publishes on topic `to` what comes on topic `from`, by a processor with a thread of its own, until the [`Relay`]
    /// is dropped.
    ///
    /// Unlike [`connect`](Self::connect) it has a queue and a publisher of its own, with the options of each. While a
    /// `Wait` subscriber of `to` has no room it takes nothing more, its queue fills, and then its policy applies. A
    /// value that finds no room until the publisher's limit is dropped, and becomes a dead letter.
    ///
    /// A value is not copied, and not encoded again: subscribers in this process get the one that came, and the bytes
    /// that came from another process go to others as they are, if both topics' values travel alike. Samples carry the
    /// time at which they were published on `from`, and a sequence of the relay's. The sample on `from` stays leased
    /// until all in this process have given back what they got on `to`; to other processes goes a copy.
    ///
    /// # Errors
    ///
    /// As [`subscription_with`](Self::subscription_with) and [`publisher_with`](Self::publisher_with).
    /// [`ErrorKind::Refused`] if values would come back to where they came from, over relays and connections of this
    /// node, or if one of the topics is the library's own (`mproc/`). A circle through other nodes is not seen.
    /// [`ErrorKind::Timeout`] if its thread has not begun within the node's limit; nothing is left of it then.
    ///
    /// # Deadlocks
    ///
    /// It blocks this thread until the relay has subscribed. Inside a handler, what the handler has sent is delivered first.
    pub fn relay<T: ?Sized + Send + Sync + 'static>(
        self: &Arc<Self>,
        runtime: &Runtime,
        from: &Topic<T>,
        to: &Topic<T>,
        options: RelayOptions<T>,
    ) -> Result<Relay, Error> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.check_here()?;
        let pair = (from.id(), to.id());
        // Both have their type, and it is one type, before anything leads anywhere.
        self.declare(from)?;
        let publisher = self.publisher_with(runtime, to, options.publisher)?;
        self.add_lead(pair, &from.label(), &to.label())?;
        let lead = Lead {
            graph: Arc::downgrade(self),
            pair,
        };
        let counts = Arc::<Counts>::default();
        let relaying = Relaying {
            to: publisher.clone(),
            same_bytes: from.codec() == to.codec(),
            tap: options.tap,
            counts: counts.clone(),
        };
        let name = format!("relay-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let address = runtime.spawn_thread(&name, relaying)?;
        match subscribe(runtime, &address, *from, options.subscription) {
            Ok(control) => Ok(Relay {
                control,
                stop: Some(Box::new(move || address.stop())),
                lead,
                counts,
                sent: Box::new(move || publisher.snapshot().published),
            }),
            Err(error) => {
                address.stop();
                Err(error)
            }
        }
    }
}

/// Subscribes the processor on its own thread, and waits for that.
fn subscribe<T: ?Sized + Send + Sync + 'static>(
    runtime: &Runtime,
    address: &Address<Relaying<T>>,
    from: Topic<T>,
    options: SubscriptionOptions<T>,
) -> Result<Control, Error> {
    let (answer, made) = crossbeam_channel::bounded(1);
    let waker = runtime.waker();
    address.with_processor(move |_, cx: &mut Cx<'_, Relaying<T>>| {
        let subscribing = cx.subscribe(&from).options(options);
        let control = subscribing.call(|me, sample, _| me.relay(sample));
        // The other end waits for it, at most for the node's limit. If it has given up, the processor ends next.
        let _gave_up = answer.send(control);
        waker.wake();
    })?;
    let deadline = runtime.now().checked_add(runtime.options().wait_limit());
    let subscribed = runtime.block_until(deadline, |_| match made.try_recv() {
        Ok(control) => Some(Some(control)),
        Err(_) => address.is_closed().then_some(None),
    });
    subscribed.flatten().unwrap_or_else(|| {
        let text = format!("relay {:?} did not start", address.name().as_str());
        Err(Error::new(ErrorKind::Timeout, text))
    })
}

/// A value that is published again: the sample that was received, under a header of the relay's.
struct Relayed<T: ?Sized + 'static> {
    header: Header,
    codec: &'static Codec<T>,
    encoded: OnceLock<Result<Vec<u8>, CodecError>>,
    sample: Sample<T>,
    same_bytes: bool,
    counts: Arc<Counts>,
}

impl<T: ?Sized + Send + Sync + 'static> Relayed<T> {
    fn new(to: &Publisher<T>, sample: Sample<T>, same_bytes: bool, counts: &Arc<Counts>) -> Self {
        let mut header = to.header(Some(Tracker::new()));
        header.published = sample.published();
        if !same_bytes || sample.body().wire().is_none() {
            // They are written behind the value, if it is encoded.
            header.parts = sample.parts().map(<[u8]>::to_vec).collect();
        }
        Self {
            header,
            codec: to.codec(),
            encoded: OnceLock::new(),
            sample,
            same_bytes,
            counts: counts.clone(),
        }
    }
}

impl<T: ?Sized> Drop for Relayed<T> {
    fn drop(&mut self) {
        let outstanding = self.header.outstanding.as_ref();
        let tracker = outstanding.and_then(Outstanding::tracker);
        // What history keeps has none.
        if tracker.is_some_and(|tracker| tracker.sequence().is_none()) {
            // Release: partner in `Relay::snapshot`.
            self.counts.dropped.fetch_add(1, Ordering::Release);
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Body<T> for Relayed<T> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &T {
        &self.sample
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        if self.same_bytes {
            return self.sample.encoded();
        }
        let made = self.encoded.get_or_init(|| self.codec.encode(&self.sample));
        made.as_deref().map_err(Clone::clone)
    }

    fn wire(&self) -> Option<&[u8]> {
        self.sample.body().wire().filter(|_| self.same_bytes)
    }

    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>> {
        // It belongs to the topic that it came on, too.
        Err(self)
    }

    fn part_count(&self) -> usize {
        self.sample.body().part_count()
    }

    fn part(&self, index: usize) -> &[u8] {
        self.sample.body().part(index)
    }

    fn to_history(&self) -> Option<Arc<dyn Body<T>>> {
        Some(Arc::new(Self {
            header: self.header.without_lease(),
            codec: self.codec,
            encoded: OnceLock::new(),
            sample: self.sample.clone(),
            same_bytes: self.same_bytes,
            counts: self.counts.clone(),
        }))
    }
}
