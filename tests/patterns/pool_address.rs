//! One address over several processors.

use super::{MILLI, SECOND, Where, assert_conserved, busy, real, simulated};
use mproc::prelude::*;
use mproc::{CallError, Exit, PoolAddress, SendError, TrySendError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// What each of several processors has handled, in order.
type Seen = Arc<Mutex<Vec<(usize, u64)>>>;

struct Worker {
    number: usize,
    seen: Seen,
    work: Duration,
}

struct Job(u64);
struct Who;

impl Processor for Worker {}
impl Handle<Job> for Worker {
    type Reply = ();
    fn handle(&mut self, Job(n): Job, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if !self.work.is_zero() {
            busy(cx, self.work);
        }
        self.seen.lock().unwrap().push((self.number, n));
        Ok(())
    }
}
impl Handle<Who> for Worker {
    type Reply = usize;
    fn handle(&mut self, _: Who, _: &mut Cx<'_, Self, usize>) -> Outcome<usize> {
        Ok(self.number)
    }
}
impl Clone for Job {
    fn clone(&self) -> Self {
        Self(self.0)
    }
}

struct Workers {
    pool: PoolAddress<Worker>,
    all: Vec<Address<Worker>>,
    seen: Seen,
}

fn workers(node: &Node, place: &Where, count: usize, capacity: usize, work: Duration) -> Workers {
    let seen = Seen::default();
    let all: Vec<_> = (0..count)
        .map(|number| {
            let seen = seen.clone();
            let worker = Worker { number, seen, work };
            let options = MailboxOptions::bounded(capacity);
            place
                .spawn_with(&format!("worker {number}"), options, worker)
                .unwrap()
        })
        .collect();
    Workers {
        pool: node.pool_address(all.clone()),
        all,
        seen,
    }
}

#[test]
fn members_are_served_in_turn_on_every_driver() {
    for seed in 0..30 {
        let node = simulated(seed);
        let w = workers(&node, &Where::of(seed, &node), 3, 64, Duration::ZERO);
        for n in 0..30 {
            w.pool.send(Job(n)).unwrap();
        }
        node.settle();
        for (number, member) in w.all.iter().enumerate() {
            assert_eq!(member.snapshot().handled, 10, "seed {seed}");
            let seen = w.seen.lock().unwrap();
            let its: Vec<_> = seen.iter().filter(|(m, _)| *m == number).collect();
            assert!(its.is_sorted_by_key(|(_, n)| n), "seed {seed}: {its:?}");
        }
        assert_conserved(&node, seed);
    }
}

#[test]
fn a_full_member_is_passed_by_and_only_if_all_are_full_it_waits() {
    let node = simulated(1);
    let w = workers(&node, &Where::Own(node.clone()), 2, 2, Duration::ZERO);
    let held: Vec<_> = (0..2).map(|_| w.all[0].reserve().wait().unwrap()).collect();
    w.pool.try_send(Job(0)).unwrap();
    w.pool.send(Job(1)).unwrap();
    let Err(TrySendError::Full(Job(2))) = w.pool.try_send(Job(2)) else {
        panic!("there was room");
    };
    let before = node.now();
    // Nobody waits where there is no room for long: the one with room by now is found.
    w.pool.send_timeout(Job(2), SECOND).unwrap();
    assert_eq!(node.now(), before);
    node.settle();
    assert_eq!(w.all[1].snapshot().handled, 3);

    let more: Vec<_> = (0..2).map(|_| w.all[1].reserve().wait().unwrap()).collect();
    let Err(SendError::Timeout(Job(7))) = w.pool.send_timeout(Job(7), SECOND) else {
        panic!("there was room");
    };
    assert_eq!(node.now() - before, SECOND);
    drop((held, more));
    w.pool.send(Job(8)).unwrap();
}

#[test]
fn the_least_loaded_member_is_chosen_with_what_others_sent_and_what_is_being_handled() {
    for seed in 0..30 {
        let node = simulated(seed);
        let place = match seed % 2 {
            0 => Where::Own(node.clone()),
            _ => Where::Pool(node.pool("pool", 4).unwrap()),
        };
        let w = workers(&node, &place, 4, 64, SECOND);
        let pool = w.pool.least_loaded();
        // The first choice looks at all of them; later ones go by estimates.
        pool.send(Job(0)).unwrap();
        node.advance(SECOND * 2);
        // Sent past the pool address: member 0 has three to do, member 1 two, member 2 one.
        for (member, count) in [(0, 3), (1, 2), (2, 1)] {
            for _ in 0..count {
                w.all[member].send(Job(100)).unwrap();
            }
        }
        // Their first is in the handler now, and counts all the same.
        node.advance(MILLI);
        for n in 0..6 {
            pool.send(Job(n)).unwrap();
        }
        let received: Vec<_> = w.all.iter().map(|m| m.snapshot().received).collect();
        assert_eq!(received, [4, 3, 3, 3], "seed {seed}");
        node.advance(SECOND * 10);
        assert_conserved(&node, seed);
    }
}

#[test]
fn the_least_loaded_member_is_found_again_after_its_messages_were_dropped() {
    let node = simulated(1);
    let w = workers(&node, &Where::Own(node.clone()), 2, 64, SECOND);
    let pool = w.pool.least_loaded();
    // Calls that are given up are dropped: the estimates have counted them.
    let mut given_up: Vec<_> = (0..20).map(|_| pool.call(Job(0))).collect();
    given_up.iter_mut().for_each(|call| call.begin());
    drop(given_up);
    node.advance(SECOND * 5);
    for n in 0..200 {
        pool.send(Job(n)).unwrap();
        node.advance(SECOND / 2);
    }
    node.advance(SECOND * 50);
    let handled: Vec<_> = w.all.iter().map(|m| m.snapshot().handled).collect();
    assert!(handled.iter().all(|n| *n > 70), "{handled:?}");
}

#[test]
fn messages_of_a_key_are_handled_by_one_member_in_order() {
    const SENDERS: u64 = 3;
    const KEYS: u64 = 10;
    for seed in 0..60 {
        let node = simulated(seed);
        // Two places each, so that senders wait for their member.
        let w = workers(&node, &Where::of(seed, &node), 4, 2, Duration::ZERO);
        let senders: Vec<_> = (0..SENDERS)
            .map(|s| {
                let pool = w.pool.clone();
                let send = move |n: u64, _: &mut Cx<'_, _>| {
                    for key in 0..KEYS {
                        pool.send_keyed(&key, Job(s * 1_000_000 + key * 1_000 + n))?;
                    }
                    Ok::<(), SendError<Job>>(())
                };
                node.spawn_thread(&format!("sender {s}"), closure(send))
                    .unwrap()
            })
            .collect();
        for n in 0..5 {
            senders.iter().for_each(|s| s.send(n).unwrap());
        }
        node.settle();
        let seen = w.seen.lock().unwrap();
        assert_eq!(seen.len() as u64, SENDERS * KEYS * 5, "seed {seed}");
        let mut of_key: BTreeMap<u64, (usize, BTreeMap<u64, u64>)> = BTreeMap::new();
        for (member, n) in seen.iter() {
            let (sender, key, n) = (n / 1_000_000, n / 1_000 % 1_000, n % 1_000);
            let (of, next) = of_key.entry(key).or_insert((*member, BTreeMap::new()));
            assert_eq!(of, member, "seed {seed}");
            let next = next.entry(sender).or_insert(0);
            assert_eq!(*next, n, "seed {seed}");
            *next += 1;
        }
        assert_conserved(&node, seed);
    }
}

#[test]
fn a_key_keeps_its_member_but_for_those_that_a_change_concerns() {
    let node = simulated(1);
    let place = Where::Own(node.clone());
    let w = workers(&node, &place, 5, 8, Duration::ZERO);
    let owners = || -> Vec<_> {
        (0..500_u32)
            .map(|key| w.pool.member_of(&key).unwrap().name().clone())
            .collect()
    };
    let before = owners();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), 5);
    let added = Worker {
        number: 5,
        seen: w.seen.clone(),
        work: Duration::ZERO,
    };
    let added = place.spawn("worker 5", added);
    assert!(w.pool.add(added.clone()));
    assert!(!w.pool.add(added.clone()));
    let with = owners();
    let moved: Vec<_> = before.iter().zip(&with).filter(|(a, b)| a != b).collect();
    assert!(moved.iter().all(|(_, to)| *to == added.name()));
    // A sixth of them is 83.
    assert!((40..130).contains(&moved.len()), "{}", moved.len());
    assert!(w.pool.remove(&added));
    assert!(!w.pool.remove(&added));
    assert_eq!(owners(), before);

    w.all[2].stop();
    node.settle();
    let after = owners();
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == w.all[2].name());
        assert_ne!(after, w.all[2].name());
    }
    assert_eq!(w.pool.members().len(), 4);
}

#[test]
fn a_keyed_send_waits_for_its_member_while_others_have_room() {
    let node = simulated(1);
    let w = workers(&node, &Where::Own(node.clone()), 3, 1, Duration::ZERO);
    let of_key = w.pool.member_of("key").unwrap();
    let held = of_key.reserve().wait().unwrap();
    let Err(TrySendError::Full(Job(1))) = w.pool.try_send_keyed("key", Job(1)) else {
        panic!("there was room");
    };
    let before = node.now();
    let refused = w.pool.send_keyed_timeout("key", Job(1), SECOND);
    let Err(SendError::Timeout(Job(1))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(node.now() - before, SECOND);
    drop(held);
    w.pool.send_keyed("key", Job(1)).unwrap();
    assert_eq!(of_key.snapshot().received, 1);
}

#[test]
fn members_that_end_are_left_out_and_when_all_have_ended_it_is_closed() {
    for seed in 0..30 {
        let node = simulated(seed);
        let w = workers(&node, &Where::of(seed, &node), 3, 8, Duration::ZERO);
        w.all[0].stop();
        w.all[1].kill();
        node.settle();
        for n in 0..6 {
            w.pool.send(Job(n)).unwrap();
            w.pool.send_keyed(&n, Job(n)).unwrap();
            assert_eq!(w.pool.call(Who).wait().unwrap(), 2);
        }
        assert_eq!(w.pool.members(), [w.all[2].clone()]);
        assert_eq!(w.pool.broadcast(&Job(9)).unwrap(), 1);
        w.all[2].stop();
        node.settle();
        assert!(matches!(
            w.pool.send(Job(1)),
            Err(SendError::Closed(Job(1)))
        ));
        assert!(matches!(
            w.pool.try_send(Job(1)),
            Err(TrySendError::Closed(Job(1)))
        ));
        assert!(matches!(
            w.pool.send_keyed("k", Job(1)),
            Err(SendError::Closed(Job(1)))
        ));
        let refused = w.pool.try_send_keyed("k", Job(1));
        assert!(matches!(refused, Err(TrySendError::Closed(Job(1)))));
        let refused = w.pool.call(Who).wait();
        assert!(matches!(refused, Err(CallError::Stopped(Exit::Stopped))));
        let refused = w.pool.call_keyed("k", Who).wait();
        assert!(matches!(refused, Err(CallError::Stopped(Exit::Stopped))));
        assert!(w.pool.broadcast(&Job(1)).unwrap_err().is_closed());
        assert_eq!(w.pool.member_of("k"), None);
        assert!(!w.pool.add(w.all[2].clone()));
    }
}

#[test]
fn what_a_handler_sends_into_full_members_is_delivered_when_they_have_room() {
    for seed in 0..60 {
        let node = simulated(seed);
        let place = Where::of(seed, &node);
        let w = workers(&node, &place, 3, 1, MILLI);
        let pool = if seed % 2 == 0 {
            w.pool.clone()
        } else {
            w.pool.least_loaded()
        };
        let burst = move |count: u64, _: &mut Cx<'_, _>| {
            for n in 0..count {
                pool.send(Job(n))?;
            }
            Ok::<(), SendError<Job>>(())
        };
        let source = place.spawn("source", closure(burst));
        source.send(50).unwrap();
        node.advance(SECOND);
        let seen: BTreeSet<_> = w.seen.lock().unwrap().iter().map(|(_, n)| *n).collect();
        assert_eq!(seen.len(), 50, "seed {seed}");
        assert_eq!(source.snapshot().faults, 0, "seed {seed}");
        assert_conserved(&node, seed);
    }
}

/// Each message is handled once, or given back, or is a dead letter of a member that ended with it queued.
#[test]
fn no_message_is_lost_when_members_end_while_they_are_sent_to() {
    for seed in 0..120 {
        let node = simulated(seed);
        let w = workers(&node, &Where::of(seed, &node), 4, 2, MILLI);
        let returned: Arc<Mutex<Vec<u64>>> = Arc::default();
        for s in 0..3_u64 {
            let (pool, returned) = (w.pool.clone(), returned.clone());
            let send = move |(): (), cx: &mut Cx<'_, _>| {
                for n in 0..20 {
                    let n = s * 100 + n;
                    let sent = match n % 3 {
                        0 => pool.send(Job(n)).map_err(SendError::into_inner),
                        1 => pool.send_keyed(&n, Job(n)).map_err(SendError::into_inner),
                        _ => pool.try_send(Job(n)).map_err(TrySendError::into_inner),
                    };
                    if let Err(Job(n)) = sent {
                        returned.lock().unwrap().push(n);
                    }
                    busy(cx, MILLI);
                }
            };
            let name = format!("sender {s}");
            node.spawn_thread(&name, closure(send))
                .unwrap()
                .send(())
                .unwrap();
        }
        for (i, member) in w.all.iter().enumerate() {
            node.advance(MILLI * (2 + seed as u32 % 3));
            match i {
                0 => member.stop(),
                1 => member.kill(),
                2 => member.drain(),
                _ if seed % 4 == 0 => member.stop(),
                _ => {}
            }
        }
        node.advance(SECOND);
        let mut all: Vec<_> = w.seen.lock().unwrap().iter().map(|(_, n)| *n).collect();
        all.extend(returned.lock().unwrap().iter());
        let dead = node.dead_letters().take().into_iter();
        all.extend(dead.map(|letter| letter.into_message::<Job>().unwrap().0));
        all.sort_unstable();
        let expected: Vec<_> = (0..3)
            .flat_map(|s| (0..20).map(move |n| s * 100 + n))
            .collect();
        assert_eq!(all, expected, "seed {seed}");
        assert_conserved(&node, seed);
    }
}

#[test]
fn a_call_goes_to_another_member_if_the_chosen_one_ends_before_it_is_queued() {
    for seed in 0..40 {
        let node = simulated(seed);
        let w = workers(&node, &Where::of(seed, &node), 2, 1, Duration::ZERO);
        let held: Vec<_> = w.all.iter().map(|m| m.reserve().wait().unwrap()).collect();
        // It stands in line at one of the two.
        let mut call = w.pool.call(Who);
        let (ending, staying) = (&w.all[seed as usize % 2], 1 - seed as usize % 2);
        call.begin();
        ending.stop();
        node.settle();
        drop(held);
        assert_eq!(call.wait().unwrap(), staying, "seed {seed}");
    }
}

/// A call that stands in line when its member ends does not wait for its limit.
#[test]
fn a_call_that_waits_for_room_hears_of_the_end_and_asks_another() {
    let node = simulated(1);
    let w = workers(&node, &Where::Own(node.clone()), 2, 1, Duration::ZERO);
    let mut held: Vec<_> = w.all.iter().map(|m| m.reserve().wait().unwrap()).collect();
    let second = held.pop();
    let stops = w.all[0].clone();
    let helper = closure(
        move |_: Option<mproc::Permit<Worker>>, cx: &mut Cx<'_, _>| {
            busy(cx, MILLI);
            stops.stop();
            busy(cx, MILLI);
            // The permit is dropped: there is room at the other one.
        },
    );
    let helper = node.spawn_thread("helper", helper).unwrap();
    helper.send(second).unwrap();
    let before = node.now();
    assert_eq!(w.pool.call(Who).wait().unwrap(), 1);
    assert_eq!(node.now() - before, MILLI * 2);
}

#[test]
fn a_blocking_call_prefers_members_of_other_threads_and_is_refused_without_any() {
    for seed in 0..20 {
        let node = simulated(seed);
        let shared = Where::Shared(node.driver("shared").unwrap());
        let w = workers(&node, &shared, 3, 8, Duration::ZERO);
        let pool = w.pool.clone();
        let asks = closure(move |(): (), _cx| {
            Ok::<_, std::fmt::Error>(pool.call(Who).wait().map_err(|error| error.to_string()))
        });
        let asks = shared.spawn("asks", asks);
        let refused = asks.call(()).wait().unwrap().unwrap_err();
        assert!(
            refused.contains("worker 0 -> worker 1 -> worker 2"),
            "{refused}"
        );
        let elsewhere = Worker {
            number: 9,
            seen: w.seen.clone(),
            work: Duration::ZERO,
        };
        w.pool
            .add(node.spawn_thread("elsewhere", elsewhere).unwrap());
        for _ in 0..4 {
            assert_eq!(asks.call(()).wait().unwrap(), Ok(9), "seed {seed}");
        }
    }
}

#[test]
fn a_broadcast_reaches_all_with_room_and_names_those_without() {
    for seed in 0..20 {
        let node = simulated(seed);
        let w = workers(&node, &Where::of(seed, &node), 3, 1, Duration::ZERO);
        assert_eq!(w.pool.broadcast(&Job(1)).unwrap(), 3);
        node.settle();
        let held = w.all[1].reserve().wait().unwrap();
        let refused = w.pool.broadcast(&Job(2)).unwrap_err();
        assert_eq!(refused.sent, 2);
        assert_eq!(refused.refused[0].0, *w.all[1].name());
        assert!(matches!(refused.refused[0].1, SendError::Timeout(())));
        assert_eq!(
            refused.to_string(),
            r#"1 of 3 did not take the message: "worker 1": mailbox stayed full until the limit"#
        );
        drop(held);
        assert_eq!(w.pool.broadcast(&Job(3)).unwrap(), 3);
        node.settle();
        assert_eq!(w.seen.lock().unwrap().len(), 8, "seed {seed}");
    }
}

#[test]
fn many_threads_send_to_real_processors_and_each_message_is_handled_once() {
    let node = real();
    let pool = Where::Pool(node.pool("pool", 4).unwrap());
    let w = workers(&node, &pool, 8, 4, Duration::ZERO);
    std::thread::scope(|scope| {
        for s in 0..4_u64 {
            let pool = match s % 2 {
                0 => w.pool.clone(),
                _ => w.pool.least_loaded(),
            };
            scope.spawn(move || {
                for n in 0..2_000 {
                    match n % 2 {
                        0 => pool.send(Job(s * 10_000 + n)).unwrap(),
                        _ => pool.send_keyed(&n, Job(s * 10_000 + n)).unwrap(),
                    }
                }
            });
        }
    });
    node.settle();
    let seen: BTreeSet<_> = w.seen.lock().unwrap().iter().map(|(_, n)| *n).collect();
    assert_eq!(seen.len(), 8_000);
    assert_eq!(w.seen.lock().unwrap().len(), 8_000);
    assert_conserved(&node, 0);
}
