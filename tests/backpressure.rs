//! What happens when mailboxes are full.

use mproc::prelude::*;
use mproc::{Closure, DropCause, SendError, TrySendError};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};

const S: Duration = Duration::from_secs(1);

/// Keeps its driver's thread for as long as a message says, in virtual time.
fn sleeper() -> Closure<u64, ()> {
    closure(|seconds: u64, cx| {
        let node = cx.runtime();
        let until = node.now() + Duration::from_secs(seconds);
        while node.now() < until {
            node.park(Some(until));
        }
    })
}

fn bounded(n: usize) -> MailboxOptions {
    MailboxOptions::bounded(n)
}

/// Fails instead of hanging: a simulated node that never gives the baton back stops this thread, too.
fn within_a_minute(test: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        test();
        let _nobody = done.send(());
    });
    match finished.recv_timeout(Duration::from_secs(30)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        _ => thread.join().unwrap(),
    }
}

#[test]
fn capacity_n_accepts_exactly_n() {
    for n in [1, 2, 3, 16, 1000] {
        let node = Node::simulated(1);
        let sink = node
            .spawn_thread_with("sink", bounded(n), sleeper())
            .unwrap();
        for _ in 0..n {
            sink.try_send(0).unwrap();
        }
        assert!(matches!(sink.try_send(7), Err(TrySendError::Full(7))));
        node.settle();
        assert_eq!(sink.snapshot().handled, n as u64);
        assert_eq!(sink.snapshot().returned, 1);
    }
}

#[test]
fn capacity_n_accepts_exactly_n_while_a_handler_runs() {
    for n in [1, 2, 3, 16] {
        let node = Node::simulated(1);
        let sink = node
            .spawn_thread_with("sink", bounded(n), sleeper())
            .unwrap();
        sink.send(1).unwrap();
        node.settle();
        for _ in 0..n {
            sink.try_send(1).unwrap();
        }
        assert!(sink.try_send(1).is_err());
        // The next one runs, however many were taken at once: one place is free.
        node.advance(S);
        sink.try_send(1).unwrap();
        assert!(sink.try_send(1).is_err());
    }
}

#[test]
fn send_timeout_gives_the_message_back_at_its_limit() {
    let node = Node::simulated(1);
    let sink = node
        .spawn_thread_with("sink", bounded(1), sleeper())
        .unwrap();
    sink.send(100).unwrap();
    node.settle();
    sink.send(0).unwrap();
    let before = node.now();
    let back = sink.send_timeout(42, 3 * S);
    assert!(matches!(back, Err(SendError::Timeout(42))));
    assert_eq!(node.now() - before, 3 * S);
    assert!(matches!(sink.send(43), Err(SendError::Timeout(43))));
    assert_eq!(node.now() - before, 8 * S);
    assert!(matches!(
        sink.send_timeout(4, Duration::ZERO),
        Err(SendError::Timeout(4))
    ));
    assert_eq!(sink.snapshot().returned, 3);
}

#[test]
fn a_permit_holds_its_place_and_gives_it_back_when_dropped() {
    let node = Node::simulated(1);
    let sink = node
        .spawn_thread_with("sink", bounded(1), sleeper())
        .unwrap();
    let permit = sink.reserve().wait().unwrap();
    assert!(sink.try_send(0).is_err());
    drop(permit);
    sink.try_send(0).unwrap();
    node.settle();
    let permit = sink.reserve().wait().unwrap();
    assert!(sink.try_send(0).is_err());
    permit.send(0).unwrap();
    node.settle();
    assert_eq!(sink.snapshot().handled, 2);
    let permit = sink.reserve().wait().unwrap();
    sink.stop();
    node.settle();
    assert!(matches!(permit.send(9), Err(TrySendError::Closed(9))));
}

#[test]
fn a_handler_that_sends_to_a_full_mailbox_stalls_and_nothing_is_lost() {
    let node = Node::simulated(1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let slow = closure(move |n: u64, cx| {
        let runtime = cx.runtime();
        let until = runtime.now() + Duration::from_millis(100);
        while runtime.now() < until {
            runtime.park(Some(until));
        }
        log.lock().unwrap().push(n);
    });
    let sink = node.spawn_thread_with("sink", bounded(1), slow).unwrap();
    let to = sink.clone();
    let source = closure(move |from: u64, _cx| {
        for n in from..from + 10 {
            to.send(n).unwrap();
        }
    });
    let source = node.spawn_thread("source", source).unwrap();
    source.send(0).unwrap();
    source.send(10).unwrap();
    node.settle();
    assert!(source.snapshot().stalled);
    assert_eq!(source.snapshot().handled, 1);
    node.advance(3 * S);
    assert_eq!(*seen.lock().unwrap(), (0..20).collect::<Vec<_>>());
    assert!(!source.snapshot().stalled);
    assert_eq!(node.dead_letters().count(), 0);
}

struct Flood {
    peer: Option<Address<Flood>>,
    handled: Arc<AtomicU64>,
}
impl Processor for Flood {}
impl Handle<Address<Flood>> for Flood {
    type Reply = ();
    fn handle(&mut self, peer: Address<Flood>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        for _ in 0..5 {
            peer.send(50u64)?;
        }
        self.peer = Some(peer);
        Ok(())
    }
}
impl Handle<u64> for Flood {
    type Reply = ();
    fn handle(&mut self, left: u64, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.handled.fetch_add(1, Ordering::Relaxed);
        if let (Some(peer), true) = (&self.peer, left > 0) {
            peer.send(left - 1)?;
        }
        Ok(())
    }
}

fn flood(seed: u64, shared: bool) {
    let node = Node::simulated(seed);
    let handled = Arc::new(AtomicU64::new(0));
    let make = || Flood {
        peer: None,
        handled: handled.clone(),
    };
    let driver = node.driver("both").unwrap();
    let (a, b) = if shared {
        (
            driver.spawn_with("a", bounded(1), make()).unwrap(),
            driver.spawn_with("b", bounded(1), make()).unwrap(),
        )
    } else {
        (
            node.spawn_thread_with("a", bounded(1), make()).unwrap(),
            node.spawn_thread_with("b", bounded(1), make()).unwrap(),
        )
    };
    // Before any message of the other can come: neither may be without its peer.
    let (to_a, to_b) = (a.clone(), b.clone());
    a.with_processor(move |me, _| me.peer = Some(to_b)).unwrap();
    b.with_processor(move |me, _| me.peer = Some(to_a)).unwrap();
    node.settle();
    a.send(b.clone()).unwrap();
    b.send(a.clone()).unwrap();
    let before = node.now();
    node.settle();
    assert_eq!(handled.load(Ordering::Relaxed), 10 * 51, "seed {seed}");
    assert_eq!(node.dead_letters().count(), 0, "seed {seed}");
    assert_eq!(node.now(), before, "seed {seed}: took a limit to get on");
}

#[test]
fn two_that_flood_each_other_with_capacity_1_make_progress_on_one_driver() {
    within_a_minute(|| (0..100).for_each(|seed| flood(seed, true)));
}

#[test]
fn two_that_flood_each_other_with_capacity_1_make_progress_on_own_drivers() {
    within_a_minute(|| (0..100).for_each(|seed| flood(seed, false)));
}

#[test]
fn a_processor_with_capacity_1_sends_itself_as_much_as_it_likes() {
    within_a_minute(|| {
        let node = Node::simulated(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let own = closure(move |n: u64, cx: &mut Cx<'_, Closure<u64, ()>>| {
            log.lock().unwrap().push(n);
            if n == 0 {
                for n in 1..=20 {
                    cx.me().send(n)?;
                }
            }
            Ok::<_, SendError<u64>>(())
        });
        let own = node.spawn_thread_with("own", bounded(1), own).unwrap();
        own.send(0).unwrap();
        node.settle();
        assert_eq!(*seen.lock().unwrap(), (0..=20).collect::<Vec<_>>());
    });
}

#[test]
fn try_send_behind_an_outbox_entry_is_full() {
    let node = Node::simulated(1);
    let sink = node
        .spawn_thread_with("sink", bounded(1), sleeper())
        .unwrap();
    let (to, result) = (sink.clone(), Arc::new(Mutex::new(None)));
    let told = result.clone();
    let source = closure(move |(): (), cx| {
        to.send(0).unwrap();
        to.send(0).unwrap();
        // Even when room has come meanwhile: it would overtake.
        let node = cx.runtime();
        let until = node.now() + S;
        while node.now() < until {
            node.park(Some(until));
        }
        *told.lock().unwrap() = Some(to.try_send(5));
    });
    let source = node.spawn_thread("source", source).unwrap();
    source.send(()).unwrap();
    node.advance(2 * S);
    assert!(matches!(
        *result.lock().unwrap(),
        Some(Err(TrySendError::Full(5)))
    ));
    assert_eq!(sink.snapshot().handled, 2);
}

#[test]
fn what_waits_for_a_target_that_ends_becomes_a_dead_letter_with_the_cause() {
    let node = Node::simulated(1);
    let sink = node
        .spawn_thread_with("sink", bounded(1), sleeper())
        .unwrap();
    let to = sink.clone();
    let source = closure(move |(): (), _cx| {
        for n in [1, 70, 71] {
            to.send(n).unwrap();
        }
    });
    let source = node.spawn_thread("source", source).unwrap();
    source.send(()).unwrap();
    node.settle();
    sink.stop();
    node.advance(2 * S);
    let letters = node.dead_letters().take();
    let mut found: Vec<_> = letters
        .into_iter()
        .map(|l| (l.header.cause, l.into_message::<u64>().unwrap()))
        .collect();
    found.sort_by_key(|(_, n)| *n);
    assert_eq!(
        found,
        [(DropCause::Stopped, 70), (DropCause::TargetEnded, 71)]
    );
    assert_eq!(source.snapshot().outbox_dropped, 1);
    assert!(!source.snapshot().stalled);
}

#[test]
fn what_an_outbox_gives_up_while_its_handler_waits_is_counted() {
    let node = Node::simulated(1);
    let sink = node
        .spawn_thread_with("sink", bounded(1), sleeper())
        .unwrap();
    let other = node.spawn_thread("other", sleeper()).unwrap();
    sink.send(100).unwrap();
    node.settle();
    sink.send(0).unwrap();
    let to = sink.clone();
    let source = closure(move |(): (), _cx| {
        to.send_timeout(5, S).unwrap();
        other.call(0).wait().unwrap();
    });
    let source = node.spawn_thread("source", source).unwrap();
    source.send(()).unwrap();
    node.advance(10 * S);
    assert_eq!(node.dead_letters().count(), 1);
    assert_eq!(source.snapshot().outbox_dropped, 1);
}

#[test]
fn a_processor_told_to_stop_while_stalled_delivers_its_outbox_first_and_lets_others_run() {
    within_a_minute(|| {
        let node = Node::simulated(1);
        let both = node.driver("both").unwrap();
        let sink = both.spawn_with("sink", bounded(1), sleeper()).unwrap();
        let to = sink.clone();
        let source = closure(move |(): (), cx| {
            for _ in 0..5 {
                to.send(0).unwrap();
            }
            cx.stop();
        });
        let source = both.spawn("source", source).unwrap();
        source.send(()).unwrap();
        node.settle();
        assert_eq!(sink.snapshot().handled, 5);
        assert!(source.is_closed());
    });
}

#[test]
fn each_policy_counts_what_it_drops_or_refuses() {
    for (policy, cause, kept) in [
        (WhenFull::DropOldest, Some(DropCause::Evicted), [3, 4]),
        (WhenFull::DropNewest, Some(DropCause::NoRoom), [0, 1]),
        (WhenFull::Fail, None, [0, 1]),
    ] {
        let node = Node::simulated(1);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let log = seen.clone();
        let sink = closure(move |n: i32, _cx| log.lock().unwrap().push(n));
        let options = bounded(2).when_full(policy);
        let sink = node.spawn_thread_with("sink", options, sink).unwrap();
        let refused = (0..5)
            .filter(|n| matches!(sink.send(*n), Err(SendError::Full(_))))
            .count();
        node.settle();
        assert_eq!(*seen.lock().unwrap(), kept, "{policy:?}");
        let s = sink.snapshot();
        assert_eq!(s.dropped.total(), cause.map_or(0, |_| 3), "{policy:?}");
        assert_eq!(cause.map_or(0, |c| s.dropped.by(c)), s.dropped.total());
        assert_eq!(s.returned, refused as u64, "{policy:?}");
        assert_eq!(refused, if cause.is_none() { 3 } else { 0 });
        assert_eq!(s.received, s.handled + s.dropped.total() + s.queued);
    }
}

/// Sends a last word when it is dropped.
struct LastWord(Address<Closure<u64, ()>>);

impl Drop for LastWord {
    fn drop(&mut self) {
        self.0.send(0).unwrap();
    }
}

/// A message that was given up in an outbox was dropped there, and its drop sent another, which found no room either. That
/// one was put into the outbox while it was out for the flush, and lost when it came back.
#[test]
fn what_the_drop_of_a_given_up_message_sends_is_delivered() {
    // No dead letters: the message is dropped at once.
    let options = mproc::Options::default().dead_letters(0);
    let node = Node::simulated_with(1, options);
    let sink = node
        .spawn_thread_with("sink", bounded(1), sleeper())
        .unwrap();
    let slow = closure(|_: Option<LastWord>, cx| {
        let node = cx.runtime();
        let until = node.now() + 10 * S;
        while node.now() < until {
            node.park(Some(until));
        }
    });
    let slow = node.spawn_thread_with("slow", bounded(1), slow).unwrap();
    sink.send(3).unwrap();
    slow.send(None).unwrap();
    node.settle();
    sink.send(3).unwrap();
    slow.send(None).unwrap();
    let (to, last) = (slow.clone(), sink.clone());
    let sender = closure(move |(): (), _cx| to.send_timeout(Some(LastWord(last.clone())), S));
    let sender = node.spawn_thread("sender", sender).unwrap();
    sender.send(()).unwrap();
    node.advance(30 * S);
    assert_eq!(sender.snapshot().outbox_dropped, 1);
    assert_eq!(sender.snapshot().outbox, 0);
    assert_eq!(sink.snapshot().handled, 3);
}
