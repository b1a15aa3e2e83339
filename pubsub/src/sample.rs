//! One value received from a topic, and the lease that comes with it.
//!
//! A published value has one *body*, whatever the number of subscribers. The body lives until the last sample of it is
//! dropped; its drop tells the publisher, which counts what is still out (`flush`). History keeps values in bodies of
//! their own, which are not counted.

use crate::codec::{Codec, CodecError};
use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::leases::{InFlight, Outstanding};
use crate::msg::Msg;
use crate::topic;
use crate::transport::{Filled, Outlet};
use mproc_runtime::hook::Cause;
use std::any::TypeId;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// What travels with a value.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) topic: &'static str,
    pub(crate) topic_id: TopicId,
    pub(crate) publisher: PublisherId,
    /// Given at commit, once, before anybody else has the body; hence relaxed.
    pub(crate) sequence: AtomicU64,
    pub(crate) published: Instant,
    pub(crate) parts: Vec<Vec<u8>>,
    /// Counts the value as out until the body is dropped. Absent in history, and in what came from another node.
    pub(crate) outstanding: Option<Outstanding>,
    /// Nothing in history, and in what came from another node.
    pub(crate) cause: Cause,
}

/// Memory that other nodes read, and whose it is.
pub(crate) type InMemory<'a> = (&'a Arc<dyn Outlet>, &'a Arc<dyn Filled>);

/// A value with its header, wherever it is kept.
pub(crate) trait Body<T: ?Sized>: Send + Sync {
    fn header(&self) -> &Header;
    fn value(&self) -> &T;
    /// The bytes of the value, made at the first call.
    fn encoded(&self) -> Result<&[u8], CodecError>;
    /// The bytes that it came in from another process, with those of its parts: what a link to a third can be given as
    /// they are.
    fn wire(&self) -> Option<&[u8]> {
        None
    }
    /// The value, if nobody else has this body.
    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>>;
    /// Called when a sample is made of a body that was taken from a queue. One that carries a sample of another type
    /// makes it now, and that one takes the leases over.
    fn unpack(&self, _number: u64, _in_flight: &mut Option<Arc<InFlight>>, _receipt: &mut Receipt) {
    }
    /// What the filter says of the value; it may see it before it is taken from a queue.
    fn shown_to(&self, filter: &dyn Fn(&T) -> bool) -> bool {
        filter(self.value())
    }
    fn part_count(&self) -> usize {
        self.header().parts.len()
    }
    /// One of them.
    fn part(&self, index: usize) -> &[u8] {
        &self.header().parts[index]
    }
    /// The memory for links that it stands in, if it does.
    fn filled(&self) -> Option<InMemory<'_>> {
        None
    }
    /// The body that history keeps: of the same value, and not counted as out.
    fn to_history(&self) -> Option<Arc<dyn Body<T>>> {
        None
    }
}

/// The body of a sized value: in the body's own allocation.
pub(crate) struct InLine<T: 'static> {
    pub(crate) header: Header,
    pub(crate) codec: &'static Codec<T>,
    pub(crate) encoded: OnceLock<Result<Vec<u8>, CodecError>>,
    pub(crate) value: T,
}

/// The body of a slice, or of a value that was loaned: the memory that the publisher filled.
pub(crate) struct Boxed<T: ?Sized + 'static> {
    pub(crate) header: Header,
    pub(crate) codec: &'static Codec<T>,
    pub(crate) encoded: OnceLock<Result<Vec<u8>, CodecError>>,
    pub(crate) value: Box<T>,
}

/// The body of a value that history keeps too.
pub(crate) struct Kept<T: ?Sized + 'static> {
    pub(crate) header: Header,
    pub(crate) codec: &'static Codec<T>,
    pub(crate) encoded: OnceLock<Result<Vec<u8>, CodecError>>,
    pub(crate) value: Arc<Box<T>>,
}

impl<T: Send + Sync + 'static> Body<T> for InLine<T> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &T {
        &self.value
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        encode_once(&self.encoded, self.codec, &self.value)
    }

    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>> {
        match Arc::try_unwrap(self) {
            Ok(body) => Ok(Box::new(body.value)),
            Err(shared) => Err(shared),
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Body<T> for Boxed<T> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &T {
        &self.value
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        encode_once(&self.encoded, self.codec, &self.value)
    }

    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>> {
        match Arc::try_unwrap(self) {
            Ok(body) => Ok(body.value),
            Err(shared) => Err(shared),
        }
    }
}

impl<T: ?Sized + Send + Sync + 'static> Body<T> for Kept<T> {
    fn header(&self) -> &Header {
        &self.header
    }

    fn value(&self) -> &T {
        &self.value
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        encode_once(&self.encoded, self.codec, &self.value)
    }

    fn into_box(self: Arc<Self>) -> Result<Box<T>, Arc<dyn Body<T>>> {
        match Arc::try_unwrap(self) {
            Ok(body) => match Arc::try_unwrap(body.value) {
                Ok(value) => Ok(value),
                // History has it too.
                Err(value) => Err(Arc::new(Self {
                    header: body.header,
                    codec: body.codec,
                    encoded: body.encoded,
                    value,
                })),
            },
            Err(shared) => Err(shared),
        }
    }

    fn to_history(&self) -> Option<Arc<dyn Body<T>>> {
        Some(Arc::new(Self {
            header: self.header.without_lease(),
            codec: self.codec,
            encoded: OnceLock::new(),
            value: self.value.clone(),
        }))
    }
}

impl Header {
    pub(crate) fn without_lease(&self) -> Self {
        Self {
            topic: self.topic,
            topic_id: self.topic_id,
            publisher: self.publisher,
            sequence: AtomicU64::new(self.sequence.load(Ordering::Relaxed)),
            published: self.published,
            parts: self.parts.clone(),
            outstanding: None,
            cause: Cause::none(),
        }
    }
}

fn encode_once<'a, T: ?Sized>(
    cell: &'a OnceLock<Result<Vec<u8>, CodecError>>,
    codec: &Codec<T>,
    value: &T,
) -> Result<&'a [u8], CodecError> {
    match cell.get_or_init(|| codec.encode(value)) {
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(error.clone()),
    }
}

/// What stands in a subscription's queue.
pub(crate) struct Item<T: ?Sized> {
    /// Counts against the publisher's bound on samples in flight until it is dropped; before the body, as in [`Sample`].
    pub(crate) in_flight: Option<Arc<InFlight>>,
    pub(crate) body: Arc<dyn Body<T>>,
    /// Its number among all that were offered to this subscription: a jump is a gap.
    pub(crate) number: u64,
    /// When it arrived, for drivers that serve in that order.
    pub(crate) arrival: u64,
}

/// One value received from a topic. It derefs to the value.
///
/// The value stays as it was published for as long as a sample of it is held. Dropping the sample gives the lease back;
/// for a handler that does nothing special, that is when it returns. Cloning keeps the lease.
pub struct Sample<T: ?Sized + 'static> {
    // Dropped in this order: when the last body is gone and `flush` returns, nothing is in flight any more.
    in_flight: Option<Arc<InFlight>>,
    body: Arc<dyn Body<T>>,
    held: Option<Arc<dyn Held>>,
    subscription: SubscriptionId,
    number: u64,
    gap: Gap,
    received: Instant,
}

/// How many samples were lost just before one.
#[derive(Clone)]
pub(crate) enum Gap {
    /// Known when it was taken.
    Known(u64),
    /// Of a sample in a channel: it grows while samples before it are evicted.
    Growing(Arc<AtomicU64>),
}

/// Told when a sample of a subscription is let go of.
pub(crate) trait Held: Send + Sync {
    /// `received` is when the batch of the sample was taken from the queue.
    fn keep(&self, received: Instant);
    fn let_go(&self, received: Instant);
}

/// Where a sample comes from and what was lost before it.
pub(crate) struct Receipt {
    pub(crate) subscription: SubscriptionId,
    pub(crate) gap: Gap,
    pub(crate) received: Instant,
    pub(crate) held: Option<Arc<dyn Held>>,
}

impl<T: ?Sized> Sample<T> {
    pub(crate) fn new(mut item: Item<T>, mut receipt: Receipt) -> Self {
        // Nothing else carries a sample: for other types this line is gone when compiled.
        if TypeId::of::<T>() == TypeId::of::<Msg>() {
            let in_flight = &mut item.in_flight;
            item.body.unpack(item.number, in_flight, &mut receipt);
        }
        if let Some(held) = &receipt.held {
            held.keep(receipt.received);
        }
        Self {
            body: item.body,
            in_flight: item.in_flight,
            held: receipt.held,
            subscription: receipt.subscription,
            number: item.number,
            gap: receipt.gap,
            received: receipt.received,
        }
    }

    fn header(&self) -> &Header {
        self.body.header()
    }

    /// Where it was published.
    pub(crate) fn cause(&self) -> Cause {
        self.header().cause.clone()
    }

    pub(crate) fn body(&self) -> &Arc<dyn Body<T>> {
        &self.body
    }

    /// Takes over what would be told when the sample is let go of.
    pub(crate) fn take_held(&mut self) -> Option<Arc<dyn Held>> {
        self.held.take()
    }

    /// What stands in a queue for this sample.
    pub(crate) fn to_item(&self) -> Item<T> {
        Item {
            body: self.body.clone(),
            number: self.number,
            arrival: 0,
            in_flight: self.in_flight.clone(),
        }
    }

    /// The name of the topic it was published on, or its id as text.
    pub fn topic(&self) -> String {
        topic::label(self.header().topic, self.header().topic_id)
    }

    /// The id of the topic it was published on.
    pub fn topic_id(&self) -> TopicId {
        self.header().topic_id
    }

    /// Who published it.
    pub fn publisher(&self) -> PublisherId {
        self.header().publisher
    }

    /// Which subscription received it, for callbacks that serve several.
    pub fn subscription(&self) -> SubscriptionId {
        self.subscription
    }

    /// Its number among all that its publisher has published to anybody, from 0, without gaps.
    pub fn sequence(&self) -> u64 {
        self.header().sequence.load(Ordering::Relaxed)
    }

    /// Its number among all that were offered to this subscription, from 0.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many samples this subscription lost just before this one, exactly: offered after its filter, and dropped or
    /// refused by its policy.
    pub fn gap(&self) -> u64 {
        match &self.gap {
            Gap::Known(gap) => *gap,
            // Relaxed: a plain count.
            Gap::Growing(gap) => gap.load(Ordering::Relaxed),
        }
    }

    /// When it was published, by the node's clock.
    pub fn published(&self) -> Instant {
        self.header().published
    }

    /// When the batch it came in was taken from the queue.
    pub fn received(&self) -> Instant {
        self.received
    }

    /// The parts that were published with the value, in order.
    pub fn parts(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.body.part_count()).map(|i| self.body.part(i))
    }

    /// The bytes that the value has between processes. They are made at the first call, for all samples of the value.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if the value cannot be encoded, or the topic is local.
    pub fn encoded(&self) -> Result<&[u8], CodecError> {
        self.body.encoded()
    }
}

impl<T: Clone + 'static> Sample<T> {
    /// The value itself: moved out if this is the last sample of it and no history keeps it, else cloned.
    pub fn into_owned(self) -> T {
        let body = self.body.clone();
        drop(self);
        match body.into_box() {
            Ok(value) => *value,
            Err(shared) => shared.value().clone(),
        }
    }
}

impl<T: ?Sized> Deref for Sample<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.body.value()
    }
}

impl<T: ?Sized> Clone for Sample<T> {
    fn clone(&self) -> Self {
        if let Some(held) = &self.held {
            held.keep(self.received);
        }
        Self {
            body: self.body.clone(),
            in_flight: self.in_flight.clone(),
            held: self.held.clone(),
            subscription: self.subscription,
            number: self.number,
            gap: self.gap.clone(),
            received: self.received,
        }
    }
}

impl<T: ?Sized> Drop for Sample<T> {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.let_go(self.received);
        }
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Sample<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sample")
            .field("topic", &self.topic())
            .field("sequence", &self.sequence())
            .field("value", &self.body.value())
            .finish_non_exhaustive()
    }
}
