//! The link in every interleaving of its two sides, with weak memory. Payloads are cells that the model checker watches: a
//! write while somebody reads, or a read that is not ordered after the write, ends a model.

use super::{LinkGeometry, LinkWords, SubscriberHalf, Took, WhenFull};
use crate::bell::{Bell, Ringer};
use crate::fan_out::{FanOut, Guard, LinkId, Queued};
use crate::heap::BellMap;
use crate::waiter::Waiter;
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;

/// The memory of the slots. Each holds the number of the message that was written last.
struct Payloads(Vec<UnsafeCell<u64>>);

// SAFETY: this is what the models check: loom reports each access that another one may overlap.
unsafe impl Sync for Payloads {}
// SAFETY: as above.
unsafe impl Send for Payloads {}

impl Payloads {
    fn new(slots: u32) -> Arc<Self> {
        Arc::new(Self((0..slots).map(|_| UnsafeCell::new(0)).collect()))
    }

    fn write(&self, slot: u32, message: u64) {
        // SAFETY: loom checks that nobody else uses it meanwhile.
        self.0[slot as usize].with_mut(|payload| unsafe { *payload = message });
    }

    fn read(&self, slot: u32) -> u64 {
        // SAFETY: as above.
        self.0[slot as usize].with(|payload| unsafe { *payload })
    }
}

fn link(slots: u32, depth: u32, when_full: WhenFull) -> (FanOut, SubscriberHalf, Arc<Payloads>) {
    let geometry = LinkGeometry {
        depth,
        slots,
        leases_max: 2,
        when_full,
    };
    let words = Arc::new(LinkWords::new(geometry));
    let mut fan_out = FanOut::new(0);
    fan_out.slots.add(0, 0..slots);
    fan_out.attach(words.clone(), None).unwrap();
    (fan_out, SubscriberHalf::new(words), Payloads::new(slots))
}

/// Publishes `message` if a slot is free.
fn publish(fan_out: &mut FanOut, payloads: &Payloads, message: u64) -> bool {
    let mut slot = fan_out.slots.take(0);
    if slot.is_none() {
        fan_out.collect(None);
        slot = fan_out.slots.take(0);
    }
    let Some(slot) = slot else {
        return false;
    };
    payloads.write(slot, message);
    fan_out.publish(slot, false, |_, why| panic!("refused: {why:?}"));
    true
}

/// Takes `attempts` times, holds two at once, and gives them back out of order. Checks that what arrives is in order, whole,
/// and that gaps are exact.
fn take(subscriber: &mut SubscriberHalf, payloads: &Payloads, attempts: usize) -> u64 {
    let mut held = Vec::new();
    let (mut last, mut offered) = (0, 0);
    for _ in 0..attempts {
        match subscriber.take(|_| true).unwrap() {
            Took::Held(lease, gap) => {
                let message = payloads.read(lease.slot());
                assert!(message > last, "{message} came after {last}");
                offered += gap + 1;
                assert_eq!(message, offered, "the gap is exact");
                last = message;
                held.push((lease, message));
            }
            Took::Empty => {}
            // The older one goes first here, the younger one first below.
            Took::LeaseLimit => drop(held.remove(0)),
            other => panic!("{other:?}"),
        }
    }
    while let Some((lease, message)) = held.pop() {
        assert_eq!(payloads.read(lease.slot()), message, "it changed");
    }
    last
}

fn drop_oldest(slots: u32, depth: u32, messages: u64, attempts: usize) {
    loom::model(move || {
        let (mut fan_out, mut subscriber, payloads) = link(slots, depth, WhenFull::DropOldest);
        let theirs = payloads.clone();
        let subscribing = thread::spawn(move || {
            take(&mut subscriber, &theirs, attempts);
            // Out of the thread, so that it does not leave yet.
            subscriber
        });
        for message in 1..=messages {
            // With two leases, what is queued and one to fill, there is always a slot.
            assert!(publish(&mut fan_out, &payloads, message));
        }
        let subscriber = subscribing.join().unwrap();
        let counts = fan_out.counts();
        assert_eq!(counts.leased, 0, "all was given back");
        assert_eq!(counts.free + counts.queued, counts.slots);
        drop(subscriber);
    });
}

#[test]
fn loom_drop_oldest_depth_1() {
    drop_oldest(4, 1, 3, 3);
}

#[test]
fn loom_drop_oldest_depth_2() {
    drop_oldest(5, 2, 3, 3);
}

/// As few slots as there can be: each message reuses a slot that was just revoked or given back.
#[test]
fn loom_a_slot_is_used_again_at_once() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(2, 1, WhenFull::DropOldest);
        let theirs = payloads.clone();
        let subscribing = thread::spawn(move || {
            take(&mut subscriber, &theirs, 2);
            subscriber
        });
        for message in 1..=3 {
            if !publish(&mut fan_out, &payloads, message) {
                // One is leased and one is queued: the newest is queued anyway, so this is as far as it goes.
                break;
            }
        }
        drop(subscribing.join().unwrap());
        assert_eq!(fan_out.counts().leased, 0);
    });
}

/// The subscriber's process dies after it has taken one message; its end is known afterwards.
#[test]
fn loom_what_a_dead_subscriber_held_comes_back_once() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(3, 2, WhenFull::DropOldest);
        let theirs = payloads.clone();
        let subscribing = thread::spawn(move || {
            if let Took::Held(lease, _) = subscriber.take(|_| true).unwrap() {
                theirs.read(lease.slot());
                // Killed here: nothing is given back by it.
                std::mem::forget(lease);
            }
            std::mem::forget(subscriber);
        });
        for message in 1..=2 {
            assert!(publish(&mut fan_out, &payloads, message));
        }
        subscribing.join().unwrap();
        let (id, _) = fan_out.live().next().unwrap();
        let before = fan_out.counts();
        let reaped = fan_out.reap(id).unwrap();
        assert_eq!(
            (reaped.queued, reaped.leased),
            (before.queued, before.leased)
        );
        assert_eq!(fan_out.counts().free, 3);
        assert!(fan_out.reap(id).is_none());
        // All slots can be written again.
        for message in 3..=5 {
            assert!(publish(&mut fan_out, &payloads, message));
        }
    });
}

/// A queue of one and a subscriber that gives back only at the end: the publisher waits for each place. A wake-up that is lost
/// is a deadlock.
fn waits_for_room(messages: u64) {
    loom::model(move || {
        let (fan_out, mut subscriber, payloads) = link(3, 1, WhenFull::Wait);
        let theirs = payloads.clone();
        let done = Arc::new(Mutex::new(0));
        let taken = done.clone();
        let subscribing = thread::spawn(move || {
            let mut next = 1;
            while next <= messages {
                match subscriber.take(|_| true).unwrap() {
                    Took::Held(lease, 0) => {
                        assert_eq!(theirs.read(lease.slot()), next);
                        next += 1;
                        *taken.lock().unwrap() = next;
                    }
                    Took::Empty => thread::yield_now(),
                    other => panic!("{other:?}"),
                }
            }
            subscriber
        });
        let mut fan_out = fan_out;
        for message in 1..=messages {
            loop {
                if fan_out.full().is_empty() && publish(&mut fan_out, &payloads, message) {
                    break;
                }
                let waiter = Waiter::new(fan_out.words());
                if fan_out.full().is_empty() && publish(&mut fan_out, &payloads, message) {
                    break;
                }
                waiter.wait(None);
            }
        }
        subscribing.join().unwrap();
    });
}

#[test]
fn loom_a_publisher_waits_for_room_in_the_queue() {
    waits_for_room(2);
}

/// Room in the queue is not enough here: the only slot has to come back.
#[test]
fn loom_a_publisher_waits_for_memory() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(1, 1, WhenFull::Wait);
        let theirs = payloads.clone();
        assert!(publish(&mut fan_out, &payloads, 1));
        let subscribing = thread::spawn(move || {
            let Took::Held(lease, 0) = subscriber.take(|_| true).unwrap() else {
                panic!("it was queued before");
            };
            assert_eq!(theirs.read(lease.slot()), 1);
            drop(lease);
            subscriber
        });
        loop {
            let waiter = Waiter::new(fan_out.words());
            if fan_out.full().is_empty() && publish(&mut fan_out, &payloads, 2) {
                break;
            }
            waiter.wait(None);
        }
        drop(subscribing.join().unwrap());
    });
}

/// Queues what `slot` holds on the only link, if there is room.
fn queue(fan_out: &mut FanOut, id: LinkId, payloads: &Payloads, slot: u32, message: u64) -> bool {
    let guard: Guard = Arc::new(());
    let queued = fan_out.queue(id, slot, Some(guard), |slots| {
        payloads.write(slot, message);
        slots.send(slot);
    });
    match queued {
        Queued::Queued { evicted: false } => true,
        Queued::Full => false,
        other => panic!("{other:?}"),
    }
}

fn bell() -> (Bell, Ringer) {
    let bell = Bell::of(Arc::new(BellMap::default()));
    let ringer = bell.ringer();
    (bell, ringer)
}

/// A driver waits for room on its own bell: it announces that it watches, then that it sleeps, and then looks. A wake-up that
/// is lost is a deadlock.
#[test]
fn loom_a_driver_that_watches_is_rung_when_there_is_room() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(2, 1, WhenFull::Wait);
        let (id, _) = fan_out.live().next().unwrap();
        let (bell, ringer) = bell();
        subscriber.ring_on_return(ringer);
        let first = fan_out.slots.take(0).unwrap();
        assert!(queue(&mut fan_out, id, &payloads, first, 1));
        let theirs = payloads.clone();
        let subscribing = thread::spawn(move || {
            let Took::Held(lease, 0) = subscriber.take(|_| true).unwrap() else {
                panic!("it was queued before");
            };
            assert_eq!(theirs.read(lease.slot()), 1);
            // It is given back later: the take alone has to ring.
            (lease, subscriber)
        });
        let second = fan_out.slots.take(0).unwrap();
        while !queue(&mut fan_out, id, &payloads, second, 2) {
            fan_out.watch(id, true);
            let drowsy = bell.about_to_sleep_shared();
            if queue(&mut fan_out, id, &payloads, second, 2) {
                break;
            }
            drowsy.wait();
        }
        fan_out.watch(id, false);
        drop(subscribing.join().unwrap());
    });
}

/// The same for memory, on a link that may lose samples: the only slot has to come back, and its guard with it.
#[test]
fn loom_a_driver_that_watches_is_rung_when_a_slot_comes_back() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(1, 1, WhenFull::DropNewest);
        let (id, _) = fan_out.live().next().unwrap();
        let (bell, ringer) = bell();
        subscriber.ring_on_return(ringer);
        let slot = fan_out.slots.take(0).unwrap();
        assert!(queue(&mut fan_out, id, &payloads, slot, 1));
        let theirs = payloads.clone();
        let subscribing = thread::spawn(move || {
            let Took::Held(lease, 0) = subscriber.take(|_| true).unwrap() else {
                panic!("it was queued before");
            };
            assert_eq!(theirs.read(lease.slot()), 1);
            drop(lease);
            subscriber
        });
        fan_out.watch_all(true);
        let came_back = |fan_out: &mut FanOut| {
            fan_out.sweep(id);
            fan_out.held(id) == 0
        };
        while !came_back(&mut fan_out) {
            let drowsy = bell.about_to_sleep_shared();
            if !came_back(&mut fan_out) {
                drowsy.wait();
            }
        }
        assert_eq!(fan_out.take_released().len(), 1);
        let again = fan_out.slots.take(0).unwrap();
        assert!(queue(&mut fan_out, id, &payloads, again, 2));
        drop(subscribing.join().unwrap());
    });
}

/// A subscriber that holds as much as it may sleeps until another thread drops a lease.
#[test]
fn loom_a_subscriber_at_its_limit_is_called_when_a_lease_is_dropped() {
    loom::model(|| {
        let geometry = LinkGeometry {
            depth: 2,
            slots: 2,
            leases_max: 1,
            when_full: WhenFull::DropNewest,
        };
        let words = Arc::new(LinkWords::new(geometry));
        let mut fan_out = FanOut::new(0);
        fan_out.slots.add(0, 0..2);
        fan_out.attach(words.clone(), None).unwrap();
        let mut subscriber = SubscriberHalf::new(words);
        let payloads = Payloads::new(2);
        for message in 1..=2 {
            assert!(publish(&mut fan_out, &payloads, message));
        }
        let (bell, ringer) = bell();
        subscriber.on_lease_return(Arc::new(move || {
            ringer.ring();
        }));
        let Took::Held(first, 0) = subscriber.take(|_| true).unwrap() else {
            panic!("it was queued before");
        };
        let dropping = thread::spawn(move || drop(first));
        loop {
            match subscriber.take(|_| true).unwrap() {
                Took::Held(second, 0) => {
                    assert_eq!(payloads.read(second.slot()), 2);
                    break;
                }
                Took::LeaseLimit => {
                    let drowsy = bell.about_to_sleep_shared();
                    if !subscriber.has_news() {
                        drowsy.wait();
                    }
                }
                other => panic!("{other:?}"),
            }
        }
        dropping.join().unwrap();
    });
}

/// Whoever looks right after it watches either finds the room, or what it waits for changes.
#[test]
fn loom_a_look_after_the_watch_is_conclusive() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(2, 1, WhenFull::Wait);
        let (id, half) = fan_out.live().next().unwrap();
        let words = half.words().clone();
        let first = fan_out.slots.take(0).unwrap();
        assert!(queue(&mut fan_out, id, &payloads, first, 1));
        let subscribing = thread::spawn(move || {
            let taken = subscriber.take(|_| true).unwrap();
            // Neither drops nor leaves before the check below: that would tell, too.
            (taken, subscriber)
        });
        let second = fan_out.slots.take(0).unwrap();
        let before = words.head().space.space.load();
        fan_out.watch(id, true);
        let found = queue(&mut fan_out, id, &payloads, second, 2);
        let held = subscribing.join().unwrap();
        assert!(found || words.head().space.space.load() != before);
        drop(held);
    });
}

/// `LeaseLimit` is a promise: a call follows, without another look.
#[test]
fn loom_a_call_follows_the_lease_limit() {
    loom::model(|| {
        let (mut fan_out, mut subscriber, payloads) = link(3, 3, WhenFull::DropNewest);
        for message in 1..=3 {
            assert!(publish(&mut fan_out, &payloads, message));
        }
        let called = Arc::new((Mutex::new(false), Condvar::new()));
        let calling = called.clone();
        subscriber.on_lease_return(Arc::new(move || {
            *calling.0.lock().unwrap() = true;
            calling.1.notify_all();
        }));
        let mut take = || subscriber.take(|_| true).unwrap();
        let (Took::Held(first, 0), Took::Held(second, 0)) = (take(), take()) else {
            panic!("they were queued before");
        };
        let dropping = thread::spawn(move || drop(first));
        if matches!(take(), Took::LeaseLimit) {
            let mut was_called = called.0.lock().unwrap();
            while !*was_called {
                was_called = called.1.wait(was_called).unwrap();
            }
            drop(was_called);
            assert!(matches!(take(), Took::Held(_, 0)));
        }
        dropping.join().unwrap();
        drop(second);
    });
}
