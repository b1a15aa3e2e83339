//! Whole pools under a scheduler that draws the order of all steps: mailboxes, workers that steal and sleep, timers, spawning,
//! stopping, and the end. Longer programs than the model checker can take, each in many orders.
//!
//! Blocking calls inside handlers are left to the simulated worlds: the table of who waits is locked for real.

use crate::mailbox::MailboxOptions;
use crate::sync::{Mutex, thread};
use crate::{Address, Cx, Handle, Options, Outcome, Processor, Runtime};
use std::sync::Arc;
use std::time::Duration;

/// How many orders each program is run in, unless `MPROC_ORDERS` says otherwise.
const ORDERS: usize = 300;

fn in_many_orders(program: impl Fn() + Send + Sync + 'static) {
    let orders = std::env::var("MPROC_ORDERS").ok();
    let orders = orders.and_then(|n| n.parse().ok()).unwrap_or(ORDERS);
    let mut config = shuttle::Config::new();
    config.stack_size = 1 << 20;
    // It draws another seed each time, and prints it when a run fails.
    let scheduler = shuttle::scheduler::RandomScheduler::new(orders);
    shuttle::Runner::new(scheduler, config).run(program);
}

/// What was handled, in order: who, and what.
type Log = Arc<Mutex<Vec<(usize, u32)>>>;

/// Notes what it is sent, and passes it on to the next, once.
struct Passes {
    me: usize,
    next: Option<Address<Passes>>,
    log: Log,
}

struct Next(Address<Passes>);
/// To be noted, passed on if so, and noted once more by a timer.
struct Number {
    n: u32,
    pass: bool,
    later: bool,
}

impl Processor for Passes {}

impl Handle<Next> for Passes {
    type Reply = ();
    fn handle(&mut self, Next(next): Next, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.next = Some(next);
        Ok(())
    }
}

impl Handle<Number> for Passes {
    type Reply = u32;
    fn handle(&mut self, number: Number, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        let Number { n, pass, later } = number;
        self.log.lock().push((self.me, n));
        let once = |n| Number {
            n,
            pass: false,
            later: false,
        };
        if let Some(next) = self.next.as_ref().filter(|_| pass) {
            next.send(once(n + 100))?;
        }
        if later {
            cx.after(Duration::ZERO, once(n + 200));
        }
        Ok(n)
    }
}

/// Two senders from outside, three processors that pass messages on, and timers: each message is handled once, and those of
/// one sender in order. Then the pool ends, and nobody is left.
#[test]
fn shuttle_messages_and_timers_on_a_pool_are_handled_once_and_in_order() {
    in_many_orders(|| {
        let node = Runtime::with_options(Options::default());
        let pool = node.pool("pool", 2).unwrap();
        let log = Log::default();
        let all: Vec<_> = (0..3)
            .map(|me| {
                let next = None;
                let log = log.clone();
                pool.spawn(&format!("p{me}"), Passes { me, next, log })
                    .unwrap()
            })
            .collect();
        for me in 0..3 {
            all[me].send(Next(all[(me + 1) % 3].clone())).unwrap();
        }
        let senders: Vec<_> = (0..2)
            .map(|who| {
                let all = all.clone();
                thread::spawn(move || {
                    for n in 0..3 {
                        let number = Number {
                            n: who * 10 + n,
                            pass: true,
                            later: n == 1,
                        };
                        all[who as usize].send(number).unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.join().unwrap();
        }
        let asked = Number {
            n: 50,
            pass: false,
            later: false,
        };
        assert_eq!(all[2].call(asked).wait().unwrap(), 50);
        let report = node.shutdown(Duration::from_secs(600));
        assert!(report.is_clean(), "{report}");
        let log = std::mem::take(&mut *log.lock());
        let of = |who: usize, from: u32, to: u32| -> Vec<u32> {
            let of_it = log
                .iter()
                .filter(|(me, n)| *me == who && (from..to).contains(n));
            of_it.map(|(_, n)| *n).collect()
        };
        assert_eq!(of(0, 0, 10), [0, 1, 2]);
        assert_eq!(of(1, 10, 20), [10, 11, 12]);
        assert_eq!(of(1, 100, 103), [100, 101, 102]);
        assert_eq!(of(2, 110, 113), [110, 111, 112]);
        assert_eq!(of(2, 50, 51), [50]);
        let totals = node.snapshot().totals;
        assert_eq!(totals.received, totals.handled + totals.dropped.total());
        assert_eq!(totals.queued, 0);
        // A timer that was set before the end may have been cancelled by it; none fires twice.
        for n in [201, 211] {
            assert!(log.iter().filter(|(_, m)| *m == n).count() <= 1);
        }
    });
}

/// A mailbox of one place between two that flood each other, while a third is spawned and stopped.
#[test]
fn shuttle_full_mailboxes_on_a_pool_lose_nothing() {
    in_many_orders(|| {
        let node = Runtime::with_options(Options::default());
        let pool = node.pool("pool", 2).unwrap();
        let log = Log::default();
        let all: Vec<_> = (0..2)
            .map(|me| {
                let next = None;
                let log = log.clone();
                let one = MailboxOptions::bounded(1);
                pool.spawn_with(&format!("p{me}"), one, Passes { me, next, log })
                    .unwrap()
            })
            .collect();
        for me in 0..2 {
            all[me].send(Next(all[1 - me].clone())).unwrap();
        }
        let theirs = (pool.clone(), log.clone());
        let spawner = thread::spawn(move || {
            let (pool, log) = theirs;
            let (me, next) = (7, None);
            let third = pool.spawn("third", Passes { me, next, log }).unwrap();
            third.stop();
            third.ended().wait().unwrap();
        });
        for n in 0..3 {
            for to in &all {
                let number = Number {
                    n,
                    pass: true,
                    later: false,
                };
                to.send(number).unwrap();
            }
        }
        spawner.join().unwrap();
        let report = node.shutdown(Duration::from_secs(600));
        assert!(report.is_clean(), "{report}");
        let mut log = std::mem::take(&mut *log.lock());
        log.sort_unstable();
        let each = [0, 1, 2, 100, 101, 102];
        let both = (0..2).flat_map(|me| each.map(|n| (me, n)));
        assert_eq!(log, both.collect::<Vec<_>>());
    });
}
