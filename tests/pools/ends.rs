//! The end of pools and of what lives on them.

use super::{SECOND, busy, driver, real, simulated};
use mproc::prelude::*;
use mproc::{Fault, SpawnError};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

fn adder(sum: &Arc<AtomicU64>) -> mproc::Closure<u64, ()> {
    let sum = sum.clone();
    closure(move |n: u64, _cx| {
        sum.fetch_add(n, SeqCst);
    })
}

#[test]
fn a_node_with_a_pool_ends_in_order_and_handles_what_is_queued() {
    for seed in 0..30 {
        let node = simulated(seed);
        let pool = node.pool("workers", 3).unwrap();
        let sum = Arc::default();
        for n in 0..20 {
            let p = pool.spawn(&format!("p{n}"), adder(&sum)).unwrap();
            (0..5).for_each(|n| p.send(n).unwrap());
        }
        let report = node.shutdown(SECOND);
        assert!(report.is_clean(), "{report}");
        assert_eq!(sum.load(SeqCst), 200, "seed {seed}");
        assert!(matches!(
            pool.spawn("late", adder(&sum)),
            Err(SpawnError::Closed(_))
        ));
        assert!(matches!(
            node.spawn("late", adder(&sum)),
            Err(SpawnError::Closed(_))
        ));
    }
}

#[test]
fn a_pool_ends_alone_and_its_name_can_be_taken_again() {
    let node = real();
    for _ in 0..20 {
        let pool = node.pool("workers", 2).unwrap();
        let sum = Arc::default();
        let p = pool.spawn("p", adder(&sum)).unwrap();
        (0..100).for_each(|n| p.send(n).unwrap());
        let report = pool.shutdown(60 * SECOND);
        assert!(report.is_clean(), "{report}");
        assert_eq!(sum.load(SeqCst), 4950);
        assert!(matches!(
            pool.spawn("q", adder(&sum)),
            Err(SpawnError::Closed(_))
        ));
    }
}

/// After the end, the process has the threads it had before.
#[cfg(target_os = "linux")]
#[test]
fn the_threads_of_a_pool_are_gone_after_the_end() {
    // Other tests of this program start and end threads at any time, so each is looked for by its name.
    let of_ours = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("going-")).count()
    };
    let node = real();
    let pool = node.pool("going", 3).unwrap();
    let p = pool
        .spawn(
            "p",
            closure(|n: u32, cx: &mut Cx<'_, _, u32>| Ok::<_, Fault>(cx.block(|| n))),
        )
        .unwrap();
    assert_eq!(p.call(1).wait().unwrap(), 1);
    // A thread has its name when it has run first, and one that was joined may be shown for a moment.
    let until = |is_so: &dyn Fn(usize) -> bool| {
        let start = std::time::Instant::now();
        while !is_so(of_ours()) {
            assert!(start.elapsed() < 60 * SECOND, "{} threads", of_ours());
            std::thread::yield_now();
        }
    };
    until(&|count| count >= 3);
    assert!(node.shutdown(60 * SECOND).is_clean());
    until(&|count| count == 0);
}

#[test]
fn a_handler_that_sleeps_past_the_limit_is_named() {
    let node = simulated(2);
    let pool = node.pool("workers", 2).unwrap();
    let slow = closure(|(): (), cx: &mut Cx<'_, _, ()>| {
        busy(cx, 10 * SECOND);
        Ok::<_, Fault>(())
    });
    let slow = pool.spawn("slow", slow).unwrap();
    slow.send(()).unwrap();
    node.settle();
    let before = node.now();
    let report = node.shutdown(SECOND);
    assert_eq!(node.now() - before, SECOND);
    let left: Vec<_> = report.left.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(left, ["slow"]);
}

#[test]
fn members_stop_one_by_one_and_their_places_are_free_again() {
    for seed in 0..20 {
        let node = simulated(seed);
        let pool = node.pool("workers", 2).unwrap();
        let sum = Arc::default();
        for round in 0..3 {
            let all: Vec<_> = (0..50)
                .map(|n| pool.spawn(&format!("p{n}"), adder(&sum)).unwrap())
                .collect();
            all.iter().for_each(|p| p.send(1).unwrap());
            node.settle();
            all.iter().for_each(Address::stop);
            node.settle();
            assert_eq!(driver(&node, "workers").members, 0);
            assert_eq!(node.snapshot().totals.ended, 50 * (round + 1));
        }
        assert_eq!(sum.load(SeqCst), 150);
    }
}

/// Spawned from many threads while the pool ends: each is refused, or ends in order.
#[test]
fn a_pool_that_ends_while_others_spawn_leaves_nobody_behind() {
    for _ in 0..20 {
        let node = real();
        let pool = node.pool("workers", 2).unwrap();
        let sum: Arc<AtomicU64> = Arc::default();
        let refused = std::thread::scope(|scope| {
            let spawners: Vec<_> = (0..3)
                .map(|t| {
                    let (pool, sum) = (&pool, &sum);
                    scope.spawn(move || {
                        for n in 0.. {
                            match pool.spawn(&format!("{t}/{n}"), adder(sum)) {
                                Ok(p) => drop(p.send(1)),
                                Err(SpawnError::Closed(_)) => return true,
                                Err(other) => panic!("{other}"),
                            }
                        }
                        false
                    })
                })
                .collect();
            let report = pool.shutdown(60 * SECOND);
            assert!(report.is_clean(), "{report}");
            spawners.into_iter().all(|s| s.join().unwrap())
        });
        assert!(refused);
        assert!(node.shutdown(60 * SECOND).is_clean());
        let totals = node.snapshot().totals.clone();
        assert_eq!(totals.handled, sum.load(SeqCst));
        assert_eq!(totals.received, totals.handled + totals.dropped.total());
    }
}
