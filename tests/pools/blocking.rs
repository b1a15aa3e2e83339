//! Handlers that block on a pool do not stop the others.

use super::{SECOND, busy, driver, real, simulated};
use mproc::prelude::*;
use mproc::{Closure, Fault, PoolOptions};
use std::sync::mpsc;

/// Calls the next and waits for it, inside the handler.
struct Link {
    next: Option<Address<Link>>,
}
struct Depth;
impl Processor for Link {}
impl Handle<Depth> for Link {
    type Reply = u32;
    fn handle(&mut self, _: Depth, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        match &self.next {
            None => Ok(1),
            Some(next) => Ok(next.call(Depth).wait()? + 1),
        }
    }
}

fn chain(pool: &mproc::Pool, length: u32) -> Address<Link> {
    let mut next = None;
    for n in 0..length {
        next = Some(pool.spawn(&format!("link {n}"), Link { next }).unwrap());
    }
    next.unwrap()
}

/// Each of them keeps a thread while it waits for the next, and the pool has two.
#[test]
fn calls_that_wait_inside_handlers_go_deeper_than_the_pool_has_threads() {
    let node = real();
    let pool = node.pool("workers", 2).unwrap();
    let first = chain(&pool, 20);
    assert_eq!(first.call(Depth).wait().unwrap(), 20);
    assert_eq!(first.call(Depth).wait().unwrap(), 20);
    let pool = driver(&node, "workers");
    assert!(pool.threads >= 20, "{pool:?}");
    assert_eq!((pool.blocked, pool.exhausted), (0, 0));
}

#[test]
fn the_same_holds_for_every_seed() {
    for seed in 0..50 {
        let node = simulated(seed);
        let pool = node.pool("workers", 1).unwrap();
        let first = chain(&pool, 6);
        assert_eq!(first.call(Depth).wait().unwrap(), 6, "seed {seed}");
    }
}

/// With one spare thread, the third link finds none: what it waits for ends by its limit, and the pool says so.
#[test]
fn a_pool_without_spare_threads_says_so_and_the_wait_ends_by_its_limit() {
    let node = simulated(1);
    let pool = node
        .pool_with("workers", PoolOptions::threads(1).spares(1))
        .unwrap();
    let first = chain(&pool, 3);
    let error = first.call(Depth).limit(60 * SECOND).wait().unwrap_err();
    assert!(error.to_string().contains("fail"), "{error}");
    assert!(driver(&node, "workers").exhausted > 0);
    // It recovers: a shorter chain fits.
    let second = pool.spawn("a", Link { next: None }).unwrap();
    let short = pool.spawn("b", Link { next: Some(second) }).unwrap();
    assert_eq!(short.call(Depth).wait().unwrap(), 2);
}

fn echo() -> Closure<u32, u32> {
    closure(|n: u32, _cx| Ok::<_, Fault>(n))
}

/// The only thread is inside `block`, and another takes its place.
#[test]
fn others_are_served_while_a_handler_blocks_in_words() {
    let node = real();
    let pool = node.pool("workers", 1).unwrap();
    let (open, opened) = mpsc::channel::<u32>();
    let opened = std::sync::Mutex::new(opened);
    let waits = closure(move |(): (), cx: &mut Cx<'_, _, u32>| {
        let opened = opened.lock().unwrap();
        Ok::<_, Fault>(cx.block(|| opened.recv())?)
    });
    let waits = pool.spawn("waits", waits).unwrap();
    let mut call = waits.call(());
    call.begin();
    let echo = pool.spawn("echo", echo()).unwrap();
    for n in 0..10 {
        assert_eq!(echo.call(n).wait().unwrap(), n);
    }
    open.send(7).unwrap();
    assert_eq!(call.wait().unwrap(), 7);
}

#[test]
fn block_on_other_drivers_just_runs_what_it_is_given() {
    let node = simulated(1);
    let here = closure(|n: u32, cx: &mut Cx<'_, _, u32>| Ok::<_, Fault>(cx.block(|| n + 1)));
    let own = node.spawn_thread("own", here).unwrap();
    assert_eq!(own.call(1).wait().unwrap(), 2);
}

/// A block inside a block, and a call inside it, give the place away once and take it back once.
#[test]
fn waits_inside_waits_count_once() {
    let node = simulated(5);
    let pool = node.pool("workers", 1).unwrap();
    let echo = pool.spawn("echo", echo()).unwrap();
    let nested = closure(move |n: u32, cx: &mut Cx<'_, _, u32>| {
        let node = cx.runtime();
        let until = node.now() + SECOND;
        let echo = &echo;
        cx.block(|| {
            node.park(Some(until));
            Ok::<_, Fault>(echo.call(n).wait()? + echo.call(1).wait()?)
        })
    });
    let nested = pool.spawn("nested", nested).unwrap();
    for n in 0..5 {
        assert_eq!(nested.call(n).wait().unwrap(), n + 1);
    }
    let pool = driver(&node, "workers");
    assert_eq!((pool.blocked, pool.threads), (0, 2));
}

/// In virtual time: ten handlers of a second each on a pool of ten take one second, not ten.
#[test]
fn handlers_that_take_long_run_side_by_side() {
    let node = simulated(9);
    let pool = node.pool("workers", 2).unwrap();
    let all: Vec<_> = (0..10)
        .map(|n| {
            let work = closure(|(): (), cx: &mut Cx<'_, _, ()>| {
                busy(cx, SECOND);
                Ok::<_, Fault>(())
            });
            pool.spawn(&format!("p{n}"), work).unwrap()
        })
        .collect();
    let before = node.now();
    let mut calls: Vec<_> = all.iter().map(|p| p.call(()).limit(60 * SECOND)).collect();
    calls.iter_mut().for_each(mproc::Pending::begin);
    calls.into_iter().for_each(|call| call.wait().unwrap());
    assert_eq!(node.now() - before, SECOND);
}

/// Handlers that block had spare threads started, and when they went on, one thread too many went to sleep for good while it
/// counted as searching for work. Whoever added work after that relied on it and woke nobody: the pool stood still.
#[test]
fn a_thread_that_is_one_too_many_does_not_count_as_searching_while_it_sleeps() {
    for seed in 0..60 {
        let node = simulated(seed);
        let pool = node.pool("workers", 3).unwrap();
        let workers: Vec<_> = (0..4)
            .map(|n| {
                let work = closure(|_: u32, cx: &mut Cx<'_, _>| busy(cx, SECOND / 1000));
                let two = MailboxOptions::bounded(2);
                pool.spawn_with(&format!("worker {n}"), two, work).unwrap()
            })
            .collect();
        for s in 0..3 {
            let workers = workers.clone();
            let send = closure(move |(): (), cx: &mut Cx<'_, _>| {
                for n in 0..20 {
                    let _full = workers[n % 4].try_send(0);
                    busy(cx, SECOND / 1000);
                }
            });
            let sender = node.spawn_thread(&format!("sender {s}"), send).unwrap();
            sender.send(()).unwrap();
        }
        node.advance(SECOND);
        for worker in &workers {
            assert_eq!(worker.snapshot().queued, 0, "seed {seed}");
        }
    }
}
