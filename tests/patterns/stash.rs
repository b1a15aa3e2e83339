//! Messages that are set aside, and come back.

use super::{MILLI, SECOND, Where, assert_conserved, simulated};
use mproc::prelude::*;
use mproc::{CallError, DropCause, Exit, Options, TrySendError};
use std::sync::{Arc, Mutex};

/// Sets aside what comes while it is shut.
struct Gate {
    open: bool,
    seen: Arc<Mutex<Vec<u64>>>,
    limit: Option<usize>,
}

struct Item(u64);
struct Open(bool);
struct Peek;

impl Processor for Gate {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(limit) = self.limit {
            cx.limit_stash(limit);
        }
        Ok(())
    }
}
impl Handle<Item> for Gate {
    type Reply = Result<u64, u64>;
    fn handle(
        &mut self,
        item: Item,
        cx: &mut Cx<'_, Self, Self::Reply>,
    ) -> Outcome<Result<u64, u64>> {
        if !self.open {
            return cx
                .stash(item)
                .unwrap_or_else(|full| Ok(Err(full.into_inner().0)));
        }
        self.seen.lock().unwrap().push(item.0);
        Ok(Ok(item.0))
    }
}
impl Handle<Open> for Gate {
    type Reply = usize;
    fn handle(&mut self, Open(open): Open, cx: &mut Cx<'_, Self, usize>) -> Outcome<usize> {
        self.open = open;
        Ok(if open { cx.unstash_all() } else { cx.stashed() })
    }
}
impl Handle<Peek> for Gate {
    type Reply = usize;
    fn handle(&mut self, _: Peek, cx: &mut Cx<'_, Self, usize>) -> Outcome<usize> {
        Ok(cx.stashed())
    }
}

fn gate(limit: Option<usize>) -> (Gate, Arc<Mutex<Vec<u64>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate {
        open: false,
        seen: seen.clone(),
        limit,
    };
    (gate, seen)
}

#[test]
fn what_was_set_aside_comes_back_in_order_before_what_came_later() {
    for seed in 0..60 {
        let node = simulated(seed);
        let (shut, seen) = gate(None);
        let gate = Where::of(seed, &node).spawn("gate", shut);
        for n in 0..5 {
            gate.send(Item(n)).unwrap();
        }
        gate.send(Open(true)).unwrap();
        for n in 5..10 {
            gate.send(Item(n)).unwrap();
        }
        // Also when it is shut again while some of them wait.
        gate.send(Open(false)).unwrap();
        gate.send(Item(10)).unwrap();
        gate.send(Item(11)).unwrap();
        gate.send(Open(true)).unwrap();
        gate.send(Item(12)).unwrap();
        node.settle();
        assert_eq!(*seen.lock().unwrap(), Vec::from_iter(0..13), "seed {seed}");
        assert_conserved(&node, seed);
        let snapshot = gate.snapshot();
        assert_eq!(
            (snapshot.received, snapshot.handled),
            (16, 16),
            "seed {seed}"
        );
    }
}

#[test]
fn several_senders_keep_their_order_through_a_gate_that_opens_and_shuts() {
    for seed in 0..100 {
        let node = simulated(seed);
        let (shut, seen) = gate(None);
        let place = Where::of(seed, &node);
        // Few places, so that senders wait and are let in while others are put back.
        let gate = place
            .spawn_with("gate", MailboxOptions::bounded(2), shut)
            .unwrap();
        gate.call(Peek).wait().unwrap();
        let widen = |_: &mut Gate, cx: &mut Cx<'_, Gate>| cx.limit_stash(1_000);
        gate.with_processor(widen).unwrap();
        for s in 0..3_u64 {
            let to = gate.clone();
            let send = closure(move |(): (), _cx| {
                for n in 0..10 {
                    to.send(Item(s * 100 + n))?;
                    if n % 4 == s {
                        to.send(Open(n % 2 == 0))?;
                    }
                }
                Ok::<_, mproc::Fault>(())
            });
            let name = format!("sender {s}");
            node.spawn_thread(&name, send).unwrap().send(()).unwrap();
        }
        node.settle();
        assert_conserved(&node, seed);
        gate.send(Open(true)).unwrap();
        node.settle();
        let seen = seen.lock().unwrap();
        for s in 0..3 {
            let its: Vec<_> = seen
                .iter()
                .filter(|n| **n / 100 == s)
                .map(|n| n % 100)
                .collect();
            assert_eq!(its, Vec::from_iter(0..10), "seed {seed}");
        }
        assert_conserved(&node, seed);
    }
}

#[test]
fn a_call_that_was_set_aside_is_answered_later() {
    for seed in 0..30 {
        let node = simulated(seed);
        let (shut, _) = gate(None);
        let gate = Where::of(seed, &node).spawn("gate", shut);
        let mut calls: Vec<_> = (0..4).map(|n| gate.call(Item(n))).collect();
        calls.iter_mut().for_each(|call| call.begin());
        assert_eq!(gate.call(Peek).wait().unwrap(), 4);
        assert_eq!(gate.snapshot().queued, 4);
        // One is given up meanwhile: it is handled all the same, and its reply is dropped.
        drop(calls.remove(1));
        assert_eq!(gate.call(Open(true)).wait().unwrap(), 4);
        for (call, n) in calls.into_iter().zip([0, 2, 3]) {
            assert_eq!(call.wait().unwrap(), Ok(n), "seed {seed}");
        }
        assert_conserved(&node, seed);
    }
}

#[test]
fn a_full_stash_gives_the_message_back_and_promises_nothing() {
    let node = simulated(1);
    let (shut, _) = gate(Some(2));
    let gate = node.spawn_thread("gate", shut).unwrap();
    gate.send(Item(1)).unwrap();
    gate.send(Item(2)).unwrap();
    assert_eq!(gate.call(Item(3)).wait().unwrap(), Err(3));
    assert_eq!(gate.call(Peek).wait().unwrap(), 2);
    assert_conserved(&node, 1);
    // Without a limit of its own it is as large as the mailbox.
    let (shut, _) = self::gate(None);
    let three = MailboxOptions::bounded(3);
    let small = node.spawn_thread_with("small", three, shut).unwrap();
    for n in 0..5 {
        small.send(Item(n)).unwrap();
        node.settle();
    }
    assert_eq!(small.call(Peek).wait().unwrap(), 3);
}

#[test]
fn at_the_end_what_is_set_aside_is_dead_and_its_callers_are_told() {
    for seed in 0..40 {
        let node = simulated(seed);
        let (shut, seen) = gate(None);
        let gate = Where::of(seed, &node).spawn("gate", shut);
        gate.send(Item(1)).unwrap();
        let mut call = gate.call(Item(2));
        call.begin();
        node.settle();
        let killed = seed % 2 == 0;
        if killed {
            gate.kill();
        } else {
            gate.drain();
        }
        let exit = match call.wait() {
            Err(CallError::Stopped(exit)) => exit,
            other => panic!("seed {seed}: {other:?}"),
        };
        assert_eq!(matches!(exit, Exit::Killed), killed);
        let cause = if killed {
            DropCause::Killed
        } else {
            DropCause::Stopped
        };
        let dead: Vec<_> = node.dead_letters().take();
        assert!(dead.iter().all(|letter| letter.header.cause == cause));
        let dead: Vec<_> = dead
            .into_iter()
            .map(|letter| letter.into_message::<Item>().unwrap().0)
            .collect();
        assert_eq!(dead, [1, 2], "seed {seed}");
        assert!(seen.lock().unwrap().is_empty());
        node.settle();
        assert_conserved(&node, seed);
        assert_eq!(node.snapshot().totals.dropped.by(cause), 2);
    }
}

/// Handles in the middle of what was put back what others send: as much as the mailbox has places.
struct Narrow {
    open: bool,
    seen: Vec<u64>,
}
impl Processor for Narrow {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.limit_stash(10);
        Ok(())
    }
}
impl Handle<Item> for Narrow {
    type Reply = ();
    fn handle(&mut self, item: Item, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if !self.open {
            return cx.stash(item)?;
        }
        self.seen.push(item.0);
        if item.0 == 3 {
            let me = cx.me();
            assert!(me.snapshot().high_water <= 2);
            me.try_send(Item(10))?;
            me.try_send(Item(11))?;
            assert!(matches!(me.try_send(Item(12)), Err(TrySendError::Full(_))));
        }
        Ok(())
    }
}

/// What is put back holds no place of the mailbox: its capacity is exact before, during and after.
#[test]
fn what_is_put_back_takes_no_place_from_senders() {
    for seed in 0..20 {
        let node = simulated(seed);
        let narrow = Narrow {
            open: false,
            seen: Vec::new(),
        };
        let two = MailboxOptions::bounded(2);
        let place = Where::of(seed, &node);
        let narrow = place.spawn_with("narrow", two, narrow).unwrap();
        for n in 0..10 {
            narrow.send(Item(n)).unwrap();
            node.settle();
        }
        let open = |me: &mut Narrow, cx: &mut Cx<'_, Narrow>| {
            me.open = true;
            assert_eq!(cx.unstash_all(), 10);
        };
        narrow.with_processor(open).unwrap();
        node.settle();
        let (tell, seen) = std::sync::mpsc::channel();
        let look = move |me: &mut Narrow, _: &mut Cx<'_, Narrow>| {
            tell.send(me.seen.clone()).unwrap();
        };
        narrow.with_processor(look).unwrap();
        node.settle();
        assert_eq!(seen.recv().unwrap(), Vec::from_iter(0..12), "seed {seed}");
        let snapshot = narrow.snapshot();
        assert_eq!((snapshot.faults, snapshot.panics), (0, 0), "seed {seed}");
        assert!(snapshot.high_water <= 2);
        assert_conserved(&node, seed);
    }
}

/// A message that a timer, or the handler itself, has made was never received: it counts from when it is set aside.
#[test]
fn messages_that_did_not_come_by_the_mailbox_are_counted_too() {
    struct Ticks(Arc<Mutex<Vec<u64>>>, bool);
    impl Processor for Ticks {
        fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.every(SECOND, |_| Item(1));
            Ok(())
        }
    }
    impl Handle<Item> for Ticks {
        type Reply = ();
        fn handle(&mut self, item: Item, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            if !self.1 {
                return cx.stash(item)?;
            }
            self.0.lock().unwrap().push(item.0);
            Ok(())
        }
    }
    impl Handle<Open> for Ticks {
        type Reply = ();
        fn handle(&mut self, _: Open, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            self.1 = true;
            // Made here, and handled here: set aside as a message of its own.
            cx.unstash_all();
            cx.handle_now(self, Item(7));
            self.1 = false;
            cx.handle_now(self, Item(8));
            self.1 = true;
            Ok(())
        }
    }
    for seed in 0..30 {
        let node = simulated(seed);
        let seen: Arc<Mutex<Vec<u64>>> = Arc::default();
        let ticks = Where::of(seed, &node).spawn("ticks", Ticks(seen.clone(), false));
        node.advance(SECOND * 3 + MILLI);
        assert_eq!(ticks.snapshot().queued, 3, "seed {seed}");
        assert_conserved(&node, seed);
        ticks.send(Open(true)).unwrap();
        node.settle();
        assert_eq!(*seen.lock().unwrap(), [7, 1, 1, 1], "seed {seed}");
        assert_conserved(&node, seed);
        assert_eq!(ticks.snapshot().queued, 1, "8 is aside");
    }
}

#[test]
fn a_script_puts_back_between_two_spins_and_the_next_spin_handles_it() {
    let node = Node::simulated_with(1, Options::default());
    let manual = node.manual("script").unwrap();
    let (shut, seen) = gate(None);
    let gate = manual
        .spawn("gate", MailboxOptions::default(), shut)
        .unwrap();
    gate.send(Item(1)).unwrap();
    gate.send(Item(2)).unwrap();
    manual.spin_some(10).unwrap();
    let back = manual.enter(&gate, |me, cx| {
        me.open = true;
        cx.unstash_all()
    });
    assert_eq!(back.unwrap(), 2);
    manual.spin_some(10).unwrap();
    assert_eq!(*seen.lock().unwrap(), [1, 2]);
    assert_conserved(&node, 1);
}

#[test]
fn a_driver_that_serves_in_order_of_arrival_serves_what_is_put_back_first() {
    for seed in 0..20 {
        let node = simulated(seed);
        let driver = node.driver("ordered").unwrap().arrival_order();
        let (shut, seen) = gate(None);
        let gate = driver.spawn("gate", shut).unwrap();
        for n in 0..3 {
            gate.send(Item(n)).unwrap();
        }
        gate.send(Open(true)).unwrap();
        gate.send(Item(3)).unwrap();
        node.settle();
        assert_eq!(*seen.lock().unwrap(), [0, 1, 2, 3], "seed {seed}");
        assert_conserved(&node, seed);
    }
}

/// The high lane goes before everything else, as always.
#[test]
fn the_high_lane_goes_before_what_is_put_back() {
    let node = simulated(1);
    let (shut, seen) = gate(None);
    let gate = node.spawn_thread("gate", shut).unwrap();
    gate.send(Item(1)).unwrap();
    gate.high().send(Item(2)).unwrap();
    node.settle();
    gate.send(Open(true)).unwrap();
    gate.high().send(Open(true)).unwrap();
    gate.high().send(Item(9)).unwrap();
    node.settle();
    assert_eq!(*seen.lock().unwrap(), [9, 2, 1]);
    assert_conserved(&node, 1);
}
