//! Samples of typed topics as dynamic messages.
//!
//! A subscription to dynamic messages has one queue, of [`Msg`], whatever the types of the topics that it hears. A topic of
//! messages queues its values there as they are. Every other topic sees that queue through a [`Carrier`], which wraps each
//! published body in a [`Carried`]: nothing of the value is copied, and the place, the policy and the bound are the queue's.
//!
//! The message is made when its item is taken, around a sample of the value. That sample holds the leases, and not the
//! sample of the message: so they last as long as the message or any duplicate of it.

use crate::codec::CodecError;
use crate::delivery::Delivery;
use crate::id::{PublisherId, SubscriptionId};
use crate::leases::InFlight;
use crate::msg::{Data, Msg};
use crate::prepared::Prepared;
use crate::sample::{Body, Gap, Header, Item, Receipt, Sample};
use crate::snapshot::SubscriptionSnapshot;
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber};
use mproc_runtime::queue::{Reserve, Waiter};
use mproc_runtime::{DropCause, LaneBell, WhenFull};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

/// A queue of dynamic messages, as a topic of another type sees it.
pub(crate) struct Carrier(pub(crate) Arc<Delivery<Msg>>);

impl<T: ?Sized + Send + Sync + 'static> Subscriber<T> for Carrier {
    fn id(&self) -> SubscriptionId {
        self.0.id()
    }

    fn when_full(&self) -> WhenFull {
        self.0.when_full()
    }

    fn wants(&self, body: &Arc<dyn Body<T>>) -> bool {
        !self.0.must_be_asked() || self.0.wants(&carry(body.clone()))
    }

    fn try_reserve(&self) -> Reserve {
        self.0.try_reserve()
    }

    fn poll_reserve(&self, ticket: &mut Waiter, waker: &Waker) -> Reserve {
        self.0.poll_reserve(ticket, waker)
    }

    fn resign(&self, ticket: &mut Waiter) {
        self.0.resign(ticket);
    }

    fn release(&self) {
        self.0.release();
    }

    fn push(
        &self,
        body: &Arc<dyn Body<T>>,
        reserved: bool,
        in_flight: Option<&Arc<InFlight>>,
        prepared: &Prepared,
        evicted: &mut Evicted<T>,
    ) -> Pushed {
        let carried = carry(body.clone());
        let mut msgs = Evicted::default();
        let pushed = self
            .0
            .push(&carried, reserved, in_flight, prepared, &mut msgs);
        evicted.msgs.append(&mut msgs.items);
        pushed
    }

    fn dead_letter(&self, cause: DropCause) {
        self.0.dead_letter(cause);
    }

    fn tell_high(&self) {
        self.0.tell_high();
    }

    fn must_be_asked(&self) -> bool {
        self.0.must_be_asked()
    }

    fn ring(&self) {
        self.0.ring();
    }

    fn owner(&self) -> Option<&LaneBell> {
        self.0.owner()
    }

    fn label(&self) -> String {
        self.0.label()
    }

    fn queued_of(&self, publisher: PublisherId) -> Vec<u64> {
        self.0.queued_of(publisher)
    }

    fn close(&self, cause: Closed) {
        self.0.close(cause);
    }

    fn snapshot(&self) -> SubscriptionSnapshot {
        self.0.snapshot()
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

fn message<T: ?Sized + Send + Sync + 'static>(sample: Sample<T>) -> Msg {
    let topic = sample.topic_id();
    Msg::new(topic.mid(), topic.cmd()).data(Data::shared(sample))
}
