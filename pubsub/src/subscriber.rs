//! A subscriber as publishers see it: who reserves places and gets values, and who joins late.
//!
//! Three things are subscribers: the queue of a subscription (`delivery.rs`), a crossbeam channel (`channel.rs`), and a link to
//! a subscription of another node (`remote_link.rs`).

use crate::id::{PublisherId, SubscriptionId, TopicId};
use crate::leases::InFlight;
use crate::msg::Msg;
use crate::prepared::{Prepared, Unprepared};
use crate::raw::Raw;
use crate::sample::{Body, Item};
use crate::snapshot::SubscriptionSnapshot;
use crate::topic_core::label_as_name;
use crate::transport::Outlet;
use mproc_runtime::queue::{Reserve, Waiter};
use mproc_runtime::{DropCause, LaneBell, ProcessorId, Runtime, WhenFull, hook};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::task::Waker;

/// What became of a value at one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It is queued. `ring`: the receiving side must be told. `evicted`: the oldest had to go. `is_high`: that the
    /// queue is high is to be told.
    Queued {
        ring: bool,
        evicted: bool,
        is_high: bool,
    },
    /// The policy dropped it; counted.
    Dropped,
    /// Refused and counted, and the publisher is to be told.
    Refused,
    /// Likewise, and the subscription is to be closed.
    Disconnect,
    /// No room, and nothing was counted: a `Wait` subscription without a reservation.
    Full,
    /// The subscription is closed.
    Gone,
}

/// The sending side of a subscription, as publishers see it.
pub(crate) trait Subscriber<T: ?Sized>: Send + Sync {
    fn id(&self) -> SubscriptionId;
    fn when_full(&self) -> WhenFull;
    /// True if its filter lets the value pass.
    fn wants(&self, body: &Arc<dyn Body<T>>) -> bool;
    /// Makes what it needs to be pushed: bytes, if it is a link. No lock is held. If memory is short, `waker` is woken when
    /// some came back.
    fn prepare(
        &self,
        _body: &Arc<dyn Body<T>>,
        _prepared: &mut Prepared,
        _waker: Option<&Waker>,
    ) -> Result<(), Unprepared> {
        Ok(())
    }
    fn try_reserve(&self) -> Reserve;
    fn poll_reserve(&self, ticket: &mut Waiter, waker: &Waker) -> Reserve;
    fn resign(&self, ticket: &mut Waiter);
    fn release(&self);
    /// Queues a value, if `reserved` in a place that was reserved. What must go is put into `evicted`, to be dropped when
    /// no lock is held.
    fn push(
        &self,
        body: &Arc<dyn Body<T>>,
        reserved: bool,
        in_flight: Option<&Arc<InFlight>>,
        prepared: &Prepared,
        evicted: &mut Evicted<T>,
    ) -> Pushed;
    /// Notes that a sample was dropped. No lock is held.
    fn dead_letter(&self, cause: DropCause);
    /// Tells that the queue is high. No lock is held.
    fn tell_high(&self) {}
    /// True if [`wants`](Self::wants) or [`prepare`](Self::prepare) must be asked before a value is pushed.
    fn must_be_asked(&self) -> bool;
    /// Somebody waits for values to come back, and is woken by their counts: see that it becomes known when they do. No lock is
    /// held.
    fn watch_returns(&self) {}
    /// True if it is worth looking for a short while whether a link has room, before sleeping: then this says whether it has.
    fn spins_for_room(&self) -> Option<bool> {
        None
    }
    /// The memory of which it is given bytes, if it is a link.
    fn outlet(&self) -> Option<Arc<dyn Outlet>> {
        None
    }
    /// True if values are out there that it will only let go of when asked by [`watch_returns`](Self::watch_returns).
    fn has_out(&self) -> bool {
        false
    }
    /// Tells the receiving side that the queue has something. No lock is held.
    fn ring(&self);
    /// The processor whose lane it is.
    fn owner(&self) -> Option<&LaneBell>;
    /// What people call it.
    fn label(&self) -> String;
    /// The sequence numbers of the publisher's values that are queued here, if it is a processor's lane.
    fn queued_of(&self, publisher: PublisherId) -> Vec<u64>;
    /// No more comes; what is queued can still be taken.
    fn close(&self, cause: Closed);
    fn snapshot(&self) -> SubscriptionSnapshot;
}

/// Items that had to make room, to be dropped when no lock is held.
pub(crate) struct Evicted<T: ?Sized + 'static> {
    /// Of queues of the topic's own type.
    pub(crate) items: Vec<Item<T>>,
    /// Of queues of dynamic messages.
    pub(crate) msgs: Vec<Item<Msg>>,
    /// Of taps.
    pub(crate) raws: Vec<Item<Raw>>,
}

impl<T: ?Sized> Default for Evicted<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            msgs: Vec::new(),
            raws: Vec::new(),
        }
    }
}

/// Notes that a sample was dropped. No lock is held.
pub(crate) fn dead_letter<T: ?Sized>(
    runtime: &Runtime,
    topic: &str,
    topic_id: TopicId,
    owner: Option<ProcessorId>,
    cause: DropCause,
) {
    if let Some(name) = label_as_name(topic, topic_id) {
        let type_name = std::any::type_name::<T>();
        hook::dropped(&name, type_name, cause);
        runtime
            .dead_letters()
            .record((owner, name), type_name, cause, runtime.now(), None);
    }
}

/// A subscription that joins: it gets history first.
///
/// Its filter is the user's code and is asked without a lock, so joining takes turns: under the locks history is looked
/// through, and if there are values of which the filter was not asked, nothing happens but that they are noted. Then it
/// is asked ([`Joining::ask`]), and the next turn finds only what was published meanwhile.
pub(crate) struct Late<T: ?Sized + 'static> {
    pub(crate) subscriber: Arc<dyn Subscriber<T>>,
    capacity: usize,
    /// What was answered, by the address of the body. Each is kept, so that no other gets its address.
    asked: HashMap<usize, (Arc<dyn Body<T>>, Answer)>,
    unasked: Vec<Arc<dyn Body<T>>>,
}

/// What a subscriber that joins says of a value: no, or yes and with this.
type Answer = Option<Prepared>;

/// A [`Late`] whose type is forgotten.
pub(crate) trait Joining: Any + Send {
    /// Asks the filter about what the last turn noted. False if that was nothing: it has joined. No lock is held.
    fn ask(&mut self) -> bool;
    fn as_any(&mut self) -> &mut dyn Any;
}

impl<T: ?Sized + Send + Sync + 'static> Late<T> {
    pub(crate) fn new(subscriber: Arc<dyn Subscriber<T>>, capacity: usize) -> Self {
        Self {
            subscriber,
            capacity,
            asked: HashMap::new(),
            unasked: Vec::new(),
        }
    }

    /// Queues old values, as many of the last as there are places, before publishers see the subscription. False, and
    /// nothing is queued, if its filter must be asked about some of them first.
    pub(crate) fn push_history<'a>(
        &mut self,
        bodies: impl DoubleEndedIterator<Item = &'a Arc<dyn Body<T>>>,
        after: &mut Afterwards,
    ) -> bool
    where
        T: 'a,
    {
        let must_be_asked = self.subscriber.must_be_asked();
        let nothing = Prepared::default();
        let mut wanted = Vec::new();
        for body in bodies.rev() {
            if wanted.len() + self.unasked.len() == self.capacity {
                break;
            }
            match self.asked.get(&address(body)) {
                _ if !must_be_asked => wanted.push((body, &nothing)),
                Some((_, Some(prepared))) => wanted.push((body, prepared)),
                Some((_, None)) => {}
                None => self.unasked.push(body.clone()),
            }
        }
        if !self.unasked.is_empty() {
            return false;
        }
        let mut evicted = Evicted::default();
        let mut rings = false;
        for (body, prepared) in wanted.into_iter().rev() {
            if let Pushed::Queued { ring: true, .. } =
                self.subscriber
                    .push(body, false, None, prepared, &mut evicted)
            {
                rings = true;
            }
        }
        if rings {
            let subscriber = self.subscriber.clone();
            after.call(move || subscriber.ring());
        }
        after.call(move || drop(evicted));
        true
    }
}

fn address<T: ?Sized>(body: &Arc<dyn Body<T>>) -> usize {
    Arc::as_ptr(body).cast::<()>().addr()
}

impl<T: ?Sized + Send + Sync + 'static> Joining for Late<T> {
    fn ask(&mut self) -> bool {
        let unasked = std::mem::take(&mut self.unasked);
        let joins_not_yet = !unasked.is_empty();
        for body in unasked {
            let mut prepared = Prepared::default();
            // What is kept and cannot be encoded, or finds no memory, is not there for those who come late.
            let wanted = self.subscriber.wants(&body)
                && self.subscriber.prepare(&body, &mut prepared, None).is_ok();
            let answer = wanted.then_some(prepared);
            self.asked.insert(address(&body), (body, answer));
        }
        joins_not_yet
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// What a change leaves to be done when no lock is held, because it runs the user's code: wakers, and drops of values.
#[derive(Default)]
pub(crate) struct Afterwards {
    wake: Vec<Waker>,
    calls: Vec<Box<dyn FnOnce() + Send>>,
}

impl Afterwards {
    pub(crate) fn wake(&mut self, wakers: impl IntoIterator<Item = Waker>) {
        self.wake.extend(wakers);
    }

    pub(crate) fn call(&mut self, call: impl FnOnce() + Send + 'static) {
        self.calls.push(Box::new(call));
    }

    /// Does it. No lock is held.
    pub(crate) fn run(self) {
        self.wake.into_iter().for_each(Waker::wake);
        self.calls.into_iter().for_each(|call| call());
    }
}

/// Why a subscription is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It was unsubscribed, or its owner has ended.
    Unsubscribed,
    /// Its queue was full and its policy is to disconnect.
    Full,
    /// Its owner wants nothing new, and what is queued is still taken.
    Draining,
}
