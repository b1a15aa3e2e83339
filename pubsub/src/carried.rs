//! Samples of typed topics as dynamic messages, and as raw bytes.
//!
//! A subscription to dynamic messages has one queue, of [`Msg`], whatever the types of the topics that it hears; a tap has
//! one of [`Raw`]. A topic of messages, or of raw bytes, queues its values there as they are. Every other topic sees that queue
//! through a [`Carrier`], which wraps each published body in another one ([`Carry`]): nothing of the value is copied, and
//! the place, the policy and the bound are the queue's.
//!
//! A message is made when its item is taken, around a sample of the value ([`Carried`]). That sample holds the leases, and not
//! the sample of the message: so they last as long as the message or any duplicate of it. Raw bytes are only ever lent, so there
//! the sample holds the leases, as everywhere ([`AsRaw`]).

use crate::codec::CodecError;
use crate::delivery::Delivery;
use crate::id::{PublisherId, SubscriptionId};
use crate::leases::InFlight;
use crate::msg::{Data, Msg};
use crate::prepared::Prepared;
use crate::raw::{Raw, TypeInfo};
use crate::sample::{Body, Gap, Header, Item, Receipt, Sample};
use crate::snapshot::SubscriptionSnapshot;
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber};
use mproc_runtime::queue::{Reserve, Waiter};
use mproc_runtime::{DropCause, LaneBell, WhenFull};
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// What values of any type can be carried as.
pub(crate) trait Carry: Sized + Send + Sync + 'static {
    /// What the queue makes of a published body. `info` is what is known of its type.
    fn carry<T: ?Sized + Send + Sync + 'static>(
        body: Arc<dyn Body<T>>,
        info: &Arc<TypeInfo>,
    ) -> Arc<dyn Body<Self>>;
    /// Where items go that had to make room.
    fn evicted<T: ?Sized>(evicted: &mut Evicted<T>) -> &mut Vec<Item<Self>>;
}

impl Carry for Msg {
    fn carry<T: ?Sized + Send + Sync + 'static>(
        body: Arc<dyn Body<T>>,
        _: &Arc<TypeInfo>,
    ) -> Arc<dyn Body<Self>> {
        carry(body)
    }

    fn evicted<T: ?Sized>(evicted: &mut Evicted<T>) -> &mut Vec<Item<Self>> {
        &mut evicted.msgs
    }
}

impl Carry for Raw {
    fn carry<T: ?Sized + Send + Sync + 'static>(
        body: Arc<dyn Body<T>>,
        info: &Arc<TypeInfo>,
    ) -> Arc<dyn Body<Self>> {
        let raw = Self::published(info, body.clone());
        Arc::new(AsRaw { body, raw })
    }

    fn evicted<T: ?Sized>(evicted: &mut Evicted<T>) -> &mut Vec<Item<Self>> {
        &mut evicted.raws
    }
}

/// A queue of `Q`, as a topic of another type sees it.
pub(crate) struct Carrier<Q: Carry> {
    queue: Arc<Delivery<Q>>,
    /// Of the topic, which may learn more of its type: a schema that is announced later.
    info: Arc<Mutex<Arc<TypeInfo>>>,
}

impl<Q: Carry> Carrier<Q> {
    pub(crate) fn new(queue: &Arc<Delivery<Q>>, info: &Arc<Mutex<Arc<TypeInfo>>>) -> Self {
        Self {
            queue: queue.clone(),
            info: info.clone(),
        }
    }

    fn carry<T: ?Sized + Send + Sync + 'static>(
        &self,
        body: &Arc<dyn Body<T>>,
    ) -> Arc<dyn Body<Q>> {
        let info = self.info.lock().clone();
        Q::carry(body.clone(), &info)
    }
}

impl<T: ?Sized + Send + Sync + 'static, Q: Carry> Subscriber<T> for Carrier<Q> {
    fn id(&self) -> SubscriptionId {
        self.queue.id()
    }

    fn when_full(&self) -> WhenFull {
        self.queue.when_full()
    }

    fn wants(&self, body: &Arc<dyn Body<T>>) -> bool {
        !self.queue.must_be_asked() || self.queue.wants(&self.carry(body))
    }

    fn try_reserve(&self) -> Reserve {
        self.queue.try_reserve()
    }

    fn poll_reserve(&self, ticket: &mut Waiter, waker: &Waker) -> Reserve {
        self.queue.poll_reserve(ticket, waker)
    }

    fn resign(&self, ticket: &mut Waiter) {
        self.queue.resign(ticket);
    }

    fn release(&self) {
        self.queue.release();
    }

    fn push(
        &self,
        body: &Arc<dyn Body<T>>,
        reserved: bool,
        in_flight: Option<&Arc<InFlight>>,
        prepared: &Prepared,
        evicted: &mut Evicted<T>,
    ) -> Pushed {
        let carried = self.carry(body);
        let mut of_queue = Evicted::default();
        let pushed = self
            .queue
            .push(&carried, reserved, in_flight, prepared, &mut of_queue);
        Q::evicted(evicted).append(&mut of_queue.items);
        pushed
    }

    fn dead_letter(&self, cause: DropCause) {
        self.queue.dead_letter(cause);
    }

    fn tell_high(&self) {
        self.queue.tell_high();
    }

    fn must_be_asked(&self) -> bool {
        self.queue.must_be_asked()
    }

    fn ring(&self) {
        self.queue.ring();
    }

    fn owner(&self) -> Option<&LaneBell> {
        self.queue.owner()
    }

    fn label(&self) -> String {
        self.queue.label()
    }

    fn queued_of(&self, publisher: PublisherId) -> Vec<u64> {
        self.queue.queued_of(publisher)
    }

    fn close(&self, cause: Closed) {
        self.queue.close(cause);
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        self.queue.snapshot()
    }
}

/// A message that will carry `body`.
pub(crate) fn carry<T: ?Sized + Send + Sync + 'static>(
    body: Arc<dyn Body<T>>,
) -> Arc<dyn Body<Msg>> {
    Arc::new(Carried {
        body,
        msg: OnceLock::new(),
    })
}

/// A published body on its way to one subscription to dynamic messages.
struct Carried<T: ?Sized + 'static> {
    body: Arc<dyn Body<T>>,
    /// Made when it is taken from the queue; nobody can see it before.
    msg: OnceLock<Msg>,
}

impl<T: ?Sized + Send + Sync + 'static> Body<Msg> for Carried<T> {
    fn header(&self) -> &Header {
        self.body.header()
    }

    fn value(&self) -> &Msg {
        match self.msg.get() {
            Some(msg) => msg,
            None => unreachable!("a sample is made by unpacking its body"),
        }
    }

    fn shown_to(&self, filter: &dyn Fn(&Msg) -> bool) -> bool {
        // For the filter's eyes only: nothing is offered yet, and nothing is leased. One that keeps it keeps the body, so the
        // value cannot be moved back if the publish fails (`PublishError::Kept`).
        let item = Item {
            body: self.body.clone(),
            number: 0,
            arrival: 0,
            in_flight: None,
        };
        let receipt = Receipt {
            subscription: SubscriptionId::none(),
            gap: Gap::Known(0),
            received: self.header().published,
            held: None,
        };
        filter(&message(Sample::new(item, receipt)))
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        self.body.encoded()
    }

    fn into_box(self: Arc<Self>) -> Result<Box<Msg>, Arc<dyn Body<Msg>>> {
        // Clones share the data, and with it the leases.
        Ok(Box::new(self.value().dup()))
    }

    fn unpack(&self, number: u64, in_flight: &mut Option<Arc<InFlight>>, receipt: &mut Receipt) {
        let item = Item {
            body: self.body.clone(),
            number,
            arrival: 0,
            in_flight: in_flight.take(),
        };
        let receipt = Receipt {
            subscription: receipt.subscription,
            gap: receipt.gap.clone(),
            received: receipt.received,
            held: receipt.held.take(),
        };
        let _taken_once = self.msg.set(message(Sample::new(item, receipt)));
    }
}

/// A published body on its way to one tap.
struct AsRaw<T: ?Sized + 'static> {
    body: Arc<dyn Body<T>>,
    raw: Raw,
}

impl<T: ?Sized + Send + Sync + 'static> Body<Raw> for AsRaw<T> {
    fn header(&self) -> &Header {
        self.body.header()
    }

    fn value(&self) -> &Raw {
        &self.raw
    }

    fn encoded(&self) -> Result<&[u8], CodecError> {
        self.body.encoded()
    }

    fn into_box(self: Arc<Self>) -> Result<Box<Raw>, Arc<dyn Body<Raw>>> {
        match Arc::try_unwrap(self) {
            Ok(body) => Ok(Box::new(body.raw)),
            Err(shared) => Err(shared),
        }
    }

    fn part_count(&self) -> usize {
        self.body.part_count()
    }

    fn part(&self, index: usize) -> &[u8] {
        self.body.part(index)
    }
}

fn message<T: ?Sized + Send + Sync + 'static>(sample: Sample<T>) -> Msg {
    let topic = sample.topic_id();
    Msg::new(topic.mid(), topic.cmd()).data(Data::shared(sample))
}
