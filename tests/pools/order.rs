//! One message at a time, in the order sent, whichever thread a processor runs on.

use super::{real, simulated};
use mproc::prelude::*;
use mproc::{Closure, Fault};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// Checks that it is entered once at a time, and that each sender's numbers come in order.
struct Guarded {
    inside: Arc<AtomicBool>,
    last: Vec<u64>,
    sum: u64,
    threads: Arc<Mutex<BTreeSet<String>>>,
}

struct From(usize, u64);
struct Sum;

impl Processor for Guarded {}
impl Handle<From> for Guarded {
    type Reply = ();
    fn handle(&mut self, From(who, n): From, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        assert!(!self.inside.swap(true, SeqCst), "entered twice");
        assert_eq!(n, self.last[who] + 1, "out of order");
        self.last[who] = n;
        self.sum += n;
        if n.is_multiple_of(64) {
            let thread = format!("{:?}", std::thread::current().id());
            self.threads.lock().unwrap().insert(thread);
        }
        let _ = cx.now();
        self.inside.store(false, SeqCst);
        Ok(())
    }
}
impl Handle<Sum> for Guarded {
    type Reply = u64;
    fn handle(&mut self, _: Sum, _: &mut Cx<'_, Self, u64>) -> Outcome<u64> {
        Ok(self.sum)
    }
}

fn guarded(senders: usize) -> Guarded {
    Guarded {
        inside: Arc::default(),
        last: vec![0; senders],
        sum: 0,
        threads: Arc::default(),
    }
}

#[test]
fn a_processor_on_a_pool_is_entered_once_at_a_time_and_keeps_each_senders_order() {
    const EACH: u64 = 3_000;
    const SENDERS: usize = 3;
    const PROCESSORS: usize = 8;
    let node = real();
    let pool = node.pool("workers", 4).unwrap();
    let all: Vec<_> = (0..PROCESSORS)
        .map(|n| pool.spawn(&format!("p{n}"), guarded(SENDERS)).unwrap())
        .collect();
    std::thread::scope(|scope| {
        for who in 0..SENDERS {
            let all = &all;
            scope.spawn(move || {
                for n in 1..=EACH {
                    for address in all {
                        address.send(From(who, n)).unwrap();
                    }
                }
            });
        }
    });
    for address in &all {
        let sum = address.call(Sum).wait().unwrap();
        assert_eq!(sum, SENDERS as u64 * EACH * (EACH + 1) / 2);
    }
}

/// The same handlers, one of all possible orders for each seed.
#[test]
fn equal_seeds_run_a_pool_equally_and_different_ones_differ() {
    let run = |seed: u64| {
        let node = simulated(seed);
        let pool = node.pool("workers", 3).unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let all: Vec<Address<Closure<u32, ()>>> = (0..5)
            .map(|p| {
                let log = log.clone();
                let note = move |n: u32, _: &mut Cx<'_, _>| log.lock().unwrap().push((p, n));
                pool.spawn(&format!("p{p}"), closure(note)).unwrap()
            })
            .collect();
        for n in 0..4 {
            all.iter().for_each(|p| p.send(n).unwrap());
        }
        node.settle();
        let fingerprint = node.fingerprint();
        let log = log.lock().unwrap().clone();
        for p in 0..5 {
            let of_p: Vec<_> = log
                .iter()
                .filter(|(q, _)| *q == p)
                .map(|(_, n)| *n)
                .collect();
            assert_eq!(of_p, [0, 1, 2, 3], "seed {seed}");
        }
        (log, fingerprint)
    };
    assert_eq!(run(7), run(7));
    let logs: BTreeSet<_> = (0..20).map(|seed| run(seed).0).collect();
    assert!(logs.len() > 10, "{}", logs.len());
}

/// A handler that panics on a pool ends its processor and nobody else.
#[test]
fn a_panic_on_a_pool_is_caught_and_the_worker_goes_on() {
    let node = simulated(3);
    let pool = node.pool("workers", 1).unwrap();
    let bad = closure(|n: u32, _: &mut Cx<'_, _, u32>| {
        assert!(n != 1, "one");
        Ok::<_, Fault>(n)
    });
    let bad = pool.spawn("bad", bad).unwrap();
    let good = pool
        .spawn("good", closure(|n: u32, _| Ok::<_, Fault>(n + 1)))
        .unwrap();
    bad.send(1).unwrap();
    assert_eq!(good.call(1).wait().unwrap(), 2);
    assert_eq!(bad.call(2).wait().unwrap(), 2);
    assert_eq!(node.snapshot().totals.panics, 1);
}

/// Timers on a pool fire once, in virtual time, on the grid.
#[test]
fn timers_on_a_pool_keep_their_grid() {
    struct Clock(u32);
    struct Beat;
    struct Count;
    impl Processor for Clock {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.every(Duration::from_millis(10), |_| Beat);
            Ok(())
        }
    }
    impl Handle<Beat> for Clock {
        type Reply = ();
        fn handle(&mut self, _: Beat, _: &mut Cx<'_, Self>) -> Outcome<()> {
            self.0 += 1;
            Ok(())
        }
    }
    impl Handle<Count> for Clock {
        type Reply = u32;
        fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
            Ok(self.0)
        }
    }
    for seed in 0..20 {
        let node = simulated(seed);
        let pool = node.pool("workers", 3).unwrap();
        let clocks: Vec<_> = (0..10)
            .map(|n| pool.spawn(&format!("c{n}"), Clock(0)).unwrap())
            .collect();
        node.advance(Duration::from_millis(1_005));
        for clock in &clocks {
            assert_eq!(clock.call(Count).wait().unwrap(), 100, "seed {seed}");
        }
    }
}

/// A deadline that comes earlier than those before is kept although all workers sleep already.
#[test]
fn a_timer_that_is_nearer_than_the_others_wakes_a_sleeping_pool() {
    struct Waits(std::sync::mpsc::Sender<u64>);
    struct After(u64);
    struct Now(u64);
    impl Processor for Waits {}
    impl Handle<After> for Waits {
        type Reply = ();
        fn handle(&mut self, After(ms): After, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.after(Duration::from_millis(ms), Now(ms));
            Ok(())
        }
    }
    impl Handle<Now> for Waits {
        type Reply = ();
        fn handle(&mut self, Now(ms): Now, _: &mut Cx<'_, Self>) -> Outcome<()> {
            Ok(self.0.send(ms)?)
        }
    }
    let node = real();
    let pool = node.pool("workers", 3).unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let a = pool.spawn("a", Waits(tell.clone())).unwrap();
    let b = pool.spawn("b", Waits(tell)).unwrap();
    a.send(After(3_600_000)).unwrap();
    node.settle();
    b.send(After(20)).unwrap();
    assert_eq!(told.recv().unwrap(), 20);
    b.send(After(1)).unwrap();
    assert_eq!(told.recv().unwrap(), 1);
}
