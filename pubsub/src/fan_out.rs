//! One publish to all subscriptions of a topic: reserve on all that must not miss it, then queue on all.
//!
//! A publish happens for everybody at once or for nobody. It has two phases:
//!
//! 1. *Reserve*: one place at every `Wait` subscription whose filter lets the value pass, in the order of their ids. Whoever
//!    must wait holds what it has at subscriptions of smaller ids. All publishes do so, so they cannot wait for each other
//!    in a circle.
//! 2. *Commit*, under the topic's lock, if the subscriptions are those of phase 1. One that has joined meanwhile gets its
//!    place first, and one that has left gives it back. Who joins may have a smaller id than others (by a connection, a
//!    pattern, or a subscription that was made earlier than it joined): then its place is taken out of order if it is
//!    free, and else the places of all larger ids are given back, waited for again after this one. Then the value gets
//!    its sequence number, goes into history, and is queued everywhere. Nothing waits here. A publisher that was closed
//!    meanwhile commits nothing.
//!
//! Links to other nodes need the value's bytes. These are made before phase 1, and the memory for them may have to be waited for.
//! Whoever waits for memory holds no places, since those who have the memory may wait for places.
//!
//! The quick path does both under the topic's lock, without waiting; it gives up everything if one subscription is full.
//! A late subscriber joins under the same lock, so it gets a value either from history or live, never both or neither.

use crate::id::SubscriptionId;
use crate::leases::InFlight;
use crate::prepared::{Prepared, Unprepared};
use crate::publisher::{OnClose, PublisherCore};
use crate::sample::Body;
use crate::subscriber::{Closed, Evicted, Pushed, Subscriber};
use crate::topic_core::{Subscribers, TopicState};
use crate::waiting::Wait;
use mproc_runtime::queue::{Reserve, Waiter};
use mproc_runtime::{DropCause, Error, Keeper, WhenFull};
use parking_lot::MutexGuard;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

/// What a publish did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivered {
    /// At how many subscriptions the value is queued now.
    pub count: usize,
    /// The `Fail` and `Disconnect` subscriptions that had no room.
    pub refused: Vec<Refusal>,
    /// The value stands in the handler's outbox and will be delivered after it, when there is room.
    pub deferred: bool,
}

/// A subscription that refused a value, because it had no room. Displayed as its label.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// Which subscription it is.
    pub id: SubscriptionId,
    /// What people call it: its owner and topic. One owner may have several subscriptions to a topic.
    pub label: String,
}

impl Refusal {
    fn of<T: ?Sized>(subscriber: &dyn Subscriber<T>) -> Self {
        Self {
            id: subscriber.id(),
            label: subscriber.label(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label)
    }
}

/// Why a publish did not go through now.
pub(crate) enum Blocked<T: ?Sized> {
    /// This subscription has no room.
    Full(Arc<dyn Subscriber<T>>),
    /// There is no memory now for the value's bytes, which this subscription needs.
    Memory(Arc<dyn Subscriber<T>>),
    /// The value has no bytes, and a subscription needs them.
    Impossible(Error),
    /// The publisher has as many values in flight as it may.
    InFlight,
    /// The publisher, or its node, is paused.
    Paused,
    /// The publisher is closed.
    Closed,
}

impl<T: ?Sized> Blocked<T> {
    /// Whose room is missing, for people.
    pub(crate) fn names(&self) -> Vec<String> {
        vec![match self {
            Self::Full(subscriber) => subscriber.label(),
            Self::Memory(subscriber) => format!("{} (memory)", subscriber.label()),
            Self::Impossible(error) => error.to_string(),
            Self::InFlight => "samples in flight".to_owned(),
            Self::Paused => "paused publisher".to_owned(),
            Self::Closed => "closed publisher".to_owned(),
        }]
    }

    /// Who would have to run so that it goes through.
    pub(crate) fn keeper(&self) -> Option<Keeper> {
        match self {
            Self::Full(subscriber) => subscriber.owner().map(|bell| bell.keeper()),
            _ => None,
        }
    }
}

/// The quick path. Nothing has happened if it is blocked, but that bytes are prepared for the next attempt.
pub(crate) fn try_fan_out<T: ?Sized + Send + Sync + 'static>(
    publisher: &PublisherCore<T>,
    body: &Arc<dyn Body<T>>,
    prepared: &mut Prepared,
) -> Result<Delivered, Blocked<T>> {
    publisher.check_open()?;
    let in_flight = publisher.take_flight()?;
    let mut state = publisher.topic.state.lock();
    let mut subscribers = state.subscribers.clone();
    let mut passes = Indices::default();
    if state.must_ask {
        // A filter is the user's code: it is asked without the lock. Then the list must still be the same.
        loop {
            let listed = state.subscribers.clone();
            drop(state);
            // Without the lock, too: perhaps the last that knew a subscription which has ended.
            subscribers = listed;
            passes = Indices::default();
            for (i, subscriber) in subscribers.iter().enumerate() {
                if subscriber.wants(body) {
                    prepare(subscriber, body, prepared, None)?;
                    passes.add(i);
                }
            }
            state = publisher.topic.state.lock();
            if Arc::ptr_eq(&subscribers, &state.subscribers) {
                break;
            }
        }
    } else {
        passes.add_all(subscribers.len());
    }
    // Closing takes the same lock after it has said so: what is committed before is forgotten then.
    if publisher.is_closed() {
        return Err(Blocked::Closed);
    }
    // A single subscription, the common case, needs no reservation: its queue decides alone.
    let mut reserved = Indices::default();
    if subscribers.len() > 1 {
        for (i, subscriber) in subscribers.iter().enumerate() {
            if !passes.has(i) || subscriber.when_full() != WhenFull::Wait {
                continue;
            }
            match subscriber.try_reserve() {
                Reserve::Granted => reserved.add(i),
                Reserve::Closed => {}
                Reserve::Full => {
                    drop(state);
                    for (j, subscriber) in subscribers.iter().enumerate().take(i) {
                        if reserved.has(j) {
                            subscriber.release();
                        }
                    }
                    return Err(Blocked::Full(subscriber.clone()));
                }
            }
        }
    }
    let ways = Ways {
        subscribers: &subscribers,
        passes: &passes,
        reserved: &reserved,
        prepared,
    };
    commit(publisher, state, ways, body, in_flight.as_ref())
}

fn prepare<T: ?Sized + Send + Sync + 'static>(
    subscriber: &Arc<dyn Subscriber<T>>,
    body: &Arc<dyn Body<T>>,
    prepared: &mut Prepared,
    waker: Option<&Waker>,
) -> Result<(), Blocked<T>> {
    subscriber
        .prepare(body, prepared, waker)
        .map_err(|unprepared| match unprepared {
            Unprepared::Short => Blocked::Memory(subscriber.clone()),
            Unprepared::Failed(error) => Blocked::Impossible(error),
        })
}

/// To whom a commit goes, and with what.
struct Ways<'a, T: ?Sized + 'static> {
    subscribers: &'a Subscribers<T>,
    /// Those that want it, by index.
    passes: &'a Indices,
    /// Those that have a place for it.
    reserved: &'a Indices,
    prepared: &'a Prepared,
}

/// A set of indices. The first 64 need no memory.
#[derive(Default)]
struct Indices {
    first: u64,
    more: Vec<usize>,
}

impl Indices {
    fn add(&mut self, index: usize) {
        if index < 64 {
            self.first |= 1 << index;
        } else {
            self.more.push(index);
        }
    }

    fn add_all(&mut self, count: usize) {
        if count < 64 {
            self.first = (1 << count) - 1;
        } else {
            self.first = u64::MAX;
            self.more.extend(64..count);
        }
    }

    fn has(&self, index: usize) -> bool {
        if index < 64 {
            self.first & (1 << index) != 0
        } else {
            self.more.binary_search(&index).is_ok()
        }
    }

    fn is_empty(&self) -> bool {
        self.first == 0 && self.more.is_empty()
    }
}

/// What a commit leaves to be done without the lock, because it runs the user's code or takes long.
pub(crate) struct After<T: ?Sized + 'static> {
    evicted: Evicted<T>,
    /// By index of the subscriber.
    dropped: Vec<(usize, DropCause)>,
    disconnected: Vec<usize>,
    ring: Indices,
    /// Whose queues are high.
    high: Indices,
}

/// Phase 2, under the topic's lock, for those that `passes` names. Blocked only if there is a single one, without a
/// reservation, and it is full.
fn commit<T: ?Sized + Send + Sync + 'static>(
    publisher: &PublisherCore<T>,
    mut state: MutexGuard<'_, TopicState<T>>,
    ways: Ways<'_, T>,
    body: &Arc<dyn Body<T>>,
    in_flight: Option<&Arc<InFlight>>,
) -> Result<Delivered, Blocked<T>> {
    let Ways {
        subscribers,
        passes,
        reserved,
        prepared,
    } = ways;
    let sequence = publisher.next_sequence(&state);
    body.header().sequence.store(sequence, Ordering::Relaxed);
    let mut delivered = Delivered::default();
    let mut after = After {
        evicted: Evicted::default(),
        dropped: Vec::new(),
        disconnected: Vec::new(),
        ring: Indices::default(),
        high: Indices::default(),
    };
    for (i, subscriber) in subscribers.iter().enumerate() {
        if !passes.has(i) {
            continue;
        }
        let guard = in_flight.filter(|_| subscriber.when_full() == WhenFull::Wait);
        match subscriber.push(body, reserved.has(i), guard, prepared, &mut after.evicted) {
            Pushed::Queued {
                ring,
                evicted,
                is_high,
            } => {
                delivered.count += 1;
                if is_high {
                    after.high.add(i);
                }
                if ring {
                    after.ring.add(i);
                }
                if evicted {
                    after.dropped.push((i, DropCause::Evicted));
                }
            }
            Pushed::Dropped => after.dropped.push((i, DropCause::NoRoom)),
            Pushed::Refused => delivered.refused.push(Refusal::of(&**subscriber)),
            Pushed::Disconnect => {
                delivered.refused.push(Refusal::of(&**subscriber));
                after.disconnected.push(i);
            }
            Pushed::Gone => {}
            Pushed::Full => return Err(Blocked::Full(subscriber.clone())),
        }
    }
    publisher.count_published(&mut state);
    let forgotten = publisher.keep_in_history(&mut state, body);
    drop(state);
    drop(forgotten);
    if !after.ring.is_empty() {
        for (i, subscriber) in subscribers.iter().enumerate() {
            if after.ring.has(i) {
                subscriber.ring();
            }
        }
    }
    if !after.high.is_empty() {
        for (i, subscriber) in subscribers.iter().enumerate() {
            if after.high.has(i) {
                subscriber.tell_high();
            }
        }
    }
    for (i, cause) in after.dropped {
        subscribers[i].dead_letter(cause);
    }
    for i in after.disconnected {
        // It stays in the topic's list, closed, until its owner lets go of it.
        subscribers[i].close(Closed::Full);
    }
    publisher.published(body, sequence, &delivered);
    Ok(delivered)
}

/// Where a slow publish stands with one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Its filter said no, or it is closed.
    Unwanted,
    /// It never makes publishers wait.
    NotNeeded,
    Held,
}

/// A publish on its slow way: it waits for places one after the other and holds what it has.
pub(crate) struct Passage<T: ?Sized + 'static> {
    body: Arc<dyn Body<T>>,
    in_flight: Option<Arc<InFlight>>,
    prepared: Prepared,
    /// By ascending id. While it waits, those that are held have smaller ids than the one that it waits for.
    considered: Vec<(Arc<dyn Subscriber<T>>, Place)>,
    waiting: Option<(Arc<dyn Subscriber<T>>, Waiter)>,
    /// Wakes it when its publisher is closed.
    on_close: OnClose,
    /// Shows in snapshots whom it waits for.
    shown: Wait,
}

impl<T: ?Sized + Send + Sync + 'static> Passage<T> {
    pub(crate) fn new(
        publisher: &PublisherCore<T>,
        body: Arc<dyn Body<T>>,
        prepared: Prepared,
    ) -> Self {
        Self {
            body,
            in_flight: None,
            prepared,
            considered: Vec::new(),
            waiting: None,
            on_close: publisher.on_close(),
            shown: publisher.wait(),
        }
    }

    /// Goes on as far as it can. If it is blocked, `waker` is woken when it is worth calling again.
    pub(crate) fn advance(
        &mut self,
        publisher: &PublisherCore<T>,
        waker: &Waker,
    ) -> Result<Delivered, Blocked<T>> {
        let advanced = self.go_on(publisher, waker);
        match &advanced {
            Err(Blocked::Full(full)) => self.shown.wait_for(full.id(), || on(&**full)),
            Err(Blocked::Memory(short)) => {
                let on = || format!("{} (memory)", short.label());
                self.shown.wait_for(short.id(), on);
            }
            _ => self.shown.go_on(),
        }
        advanced
    }

    fn go_on(
        &mut self,
        publisher: &PublisherCore<T>,
        waker: &Waker,
    ) -> Result<Delivered, Blocked<T>> {
        self.on_close.watch(waker);
        publisher.poll_open(waker)?;
        if self.in_flight.is_none() {
            self.in_flight = publisher.poll_flight(waker)?;
        }
        loop {
            if let Some((subscriber, ticket)) = &mut self.waiting {
                let place = match subscriber.poll_reserve(ticket, waker) {
                    Reserve::Full => return Err(Blocked::Full(subscriber.clone())),
                    Reserve::Granted => Place::Held,
                    Reserve::Closed => Place::Unwanted,
                };
                let subscriber = subscriber.clone();
                self.waiting = None;
                self.note(subscriber, place);
            }
            let state = publisher.topic.state.lock();
            if publisher.is_closed() {
                return Err(Blocked::Closed);
            }
            match self.compare(&state.subscribers) {
                Change::None => return self.commit(publisher, state),
                Change::Joined(subscriber) => {
                    // The filter is the user's code: not under the lock.
                    drop(state);
                    self.consider(subscriber, waker)?;
                }
                Change::Left(at) => {
                    drop(state);
                    let (subscriber, place) = self.considered.remove(at);
                    give_back(&*subscriber, place);
                }
            }
        }
    }

    /// What has changed since the subscriptions were considered. Both lists are by ascending id.
    fn compare(&self, subscribers: &Subscribers<T>) -> Change<T> {
        for (i, subscriber) in subscribers.iter().enumerate() {
            match self.considered.get(i) {
                Some((known, _)) if known.id() == subscriber.id() => {}
                Some((known, _)) if known.id() < subscriber.id() => return Change::Left(i),
                _ => return Change::Joined(subscriber.clone()),
            }
        }
        if self.considered.len() > subscribers.len() {
            return Change::Left(subscribers.len());
        }
        Change::None
    }

    fn consider(
        &mut self,
        subscriber: Arc<dyn Subscriber<T>>,
        waker: &Waker,
    ) -> Result<(), Blocked<T>> {
        if !subscriber.wants(&self.body) {
            self.note(subscriber, Place::Unwanted);
            return Ok(());
        }
        let blocked = prepare(&subscriber, &self.body, &mut self.prepared, None);
        if let Err(Blocked::Memory(_)) = blocked {
            // Those who have the memory may wait for one of our places.
            for (held, place) in std::mem::take(&mut self.considered) {
                give_back(&*held, place);
            }
            prepare(&subscriber, &self.body, &mut self.prepared, Some(waker))?;
            // All are considered again, this one in its turn.
            return Ok(());
        }
        blocked?;
        if subscriber.when_full() == WhenFull::Wait {
            self.stand_in_line(subscriber);
        } else {
            self.note(subscriber, Place::NotNeeded);
        }
        Ok(())
    }

    fn stand_in_line(&mut self, subscriber: Arc<dyn Subscriber<T>>) {
        let larger = self.first_after(subscriber.id());
        if self.considered[larger..]
            .iter()
            .any(|(_, place)| *place == Place::Held)
        {
            // Out of order it must not wait: others may hold this place and wait for one of those that we hold.
            match subscriber.try_reserve() {
                Reserve::Granted => return self.note(subscriber, Place::Held),
                Reserve::Closed => return self.note(subscriber, Place::Unwanted),
                Reserve::Full => {}
            }
            for (larger, place) in self.considered.split_off(larger) {
                give_back(&*larger, place);
            }
        }
        self.waiting = Some((subscriber, Waiter::default()));
    }

    fn note(&mut self, subscriber: Arc<dyn Subscriber<T>>, place: Place) {
        let at = self.first_after(subscriber.id());
        self.considered.insert(at, (subscriber, place));
    }

    fn first_after(&self, id: SubscriptionId) -> usize {
        self.considered.partition_point(|(s, _)| s.id() < id)
    }

    fn commit(
        &mut self,
        publisher: &PublisherCore<T>,
        state: MutexGuard<'_, TopicState<T>>,
    ) -> Result<Delivered, Blocked<T>> {
        let considered = std::mem::take(&mut self.considered);
        let (mut passes, mut reserved) = (Indices::default(), Indices::default());
        for (i, (_, place)) in considered.iter().enumerate() {
            if *place != Place::Unwanted {
                passes.add(i);
            }
            if *place == Place::Held {
                reserved.add(i);
            }
        }
        let list: Subscribers<T> = considered.into_iter().map(|(s, _)| s).collect();
        let in_flight = self.in_flight.take();
        let ways = Ways {
            subscribers: &list,
            passes: &passes,
            reserved: &reserved,
            prepared: &self.prepared,
        };
        commit(publisher, state, ways, &self.body, in_flight.as_ref())
    }
}

/// Whom a publish waits for: a processor by its name, as in other waits.
fn on<T: ?Sized>(full: &dyn Subscriber<T>) -> String {
    match full.owner() {
        Some(bell) => bell.processor_name().as_str().to_owned(),
        None => full.label(),
    }
}

/// How a topic's subscriptions differ from those that a publish has considered.
enum Change<T: ?Sized + 'static> {
    None,
    /// This one was not considered.
    Joined(Arc<dyn Subscriber<T>>),
    /// The one that was considered at this index is not there any more.
    Left(usize),
}

fn give_back<T: ?Sized + 'static>(subscriber: &dyn Subscriber<T>, place: Place) {
    if place == Place::Held {
        subscriber.release();
    }
}

/// Gives all places back.
impl<T: ?Sized + 'static> Drop for Passage<T> {
    fn drop(&mut self) {
        if let Some((subscriber, mut ticket)) = self.waiting.take() {
            subscriber.resign(&mut ticket);
        }
        for (subscriber, place) in std::mem::take(&mut self.considered) {
            give_back(&*subscriber, place);
        }
    }
}
