//! What becomes of messages, replies, timers and subscriptions.

use crate::{Boom, Busy, Later, Log, MS, Part, SECOND, address, fixed, node, part, plant};
use mproc::prelude::*;
use mproc::{Backoff, CallError, DropCause, Strategy, TrySendError};

#[test]
fn id_name_address_and_queue_outlive_a_restart_and_the_message_that_panicked_is_consumed() {
    for seed in 0..50 {
        let (node, log) = (node(seed), Log::default());
        let plant = plant(&node, Strategy::OneForOne, &log);
        let b = address(&plant, "b");
        let (id, name) = (b.id(), b.name().clone());
        b.send(1).unwrap();
        b.send(2).unwrap();
        let mut call = b.call(Boom);
        call.begin();
        b.send(3).unwrap();
        let mut answered = b.call(4);
        answered.begin();
        b.high().send(5).unwrap();
        let panicked = call.wait().unwrap_err();
        assert!(matches!(panicked, CallError::Panicked(_)), "{panicked}");
        assert_eq!(answered.wait().unwrap(), 4);
        let seen = log.take();
        let handled: Vec<_> = seen.iter().filter(|s| *s != "b 5").collect();
        assert_eq!(handled, ["b 1", "b 2", "+b", "b 3", "b 4"], "seed {seed}");
        assert_eq!(seen.len(), 6);
        assert_eq!((b.id(), b.name()), (id, &name));
        assert_eq!(node.lookup::<Part>("b").unwrap(), b);
        let snapshot = b.snapshot();
        assert_eq!((snapshot.received, snapshot.handled), (6, 6));
        assert_eq!(node.dead_letters().count(), 0);
    }
}

/// Keeps a promise in a continuation.
struct Asks {
    answers: Address<Part>,
}
impl Processor for Asks {}
impl Handle<Later> for Asks {
    type Reply = u32;
    fn handle(&mut self, _: Later, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        let call = self.answers.call(Later);
        let mut kept = None;
        let outcome = cx.reply_later(|token| kept = Some(token));
        call.then(cx, move |_, reply, _| {
            if let Some(token) = kept {
                token.send(reply?);
            }
            Ok(())
        });
        outcome
    }
}
impl Handle<Boom> for Asks {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        panic!("boom");
    }
}

#[test]
fn promises_of_a_dead_incarnation_are_told_that_it_was_restarted() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let (a, answers) = (address(&plant, "a"), address(&plant, "b"));
    let asked = answers.clone();
    let asks = Child::new("asks", move || Asks {
        answers: asked.clone(),
    });
    plant.add(asks).unwrap();
    let asks = plant.address::<Asks>("asks").unwrap();
    let mut in_state = a.call(Later);
    let mut in_continuation = asks.call(Later);
    in_state.begin();
    in_continuation.begin();
    node.settle();
    a.send(Boom).unwrap();
    asks.send(Boom).unwrap();
    node.settle();
    for call in [in_state, in_continuation] {
        let error = call.wait_timeout(Duration::ZERO).unwrap_err();
        assert!(matches!(error, CallError::Restarted), "{error}");
    }
    // An end for good breaks promises as ever.
    let mut call = answers.call(Later);
    call.begin();
    node.settle();
    answers.stop();
    let error = call.wait().unwrap_err();
    assert!(matches!(error, CallError::NoReply), "{error}");
}

#[test]
fn while_it_is_down_the_mailbox_takes_what_it_has_room_for() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(fixed())
        .child(part("a", &log).mailbox(MailboxOptions::bounded(2)))
        .start()
        .unwrap();
    let a = address(&plant, "a");
    node.settle();
    a.send(Boom).unwrap();
    node.settle();
    let before = node.now();
    a.try_send(1).unwrap();
    a.try_send(2).unwrap();
    assert!(matches!(a.try_send(3), Err(TrySendError::Full(3))));
    assert_eq!(a.snapshot().queued, 2);
    // Waits until the next one is up.
    a.send(3).unwrap();
    assert_eq!(node.now() - before, 100 * MS);
    node.settle();
    assert_eq!(log.take(), ["+a", "+a", "a 1", "a 2", "a 3"]);
}

#[test]
fn it_can_be_ended_while_it_is_down() {
    type End = fn(&Address<Part>);
    let ends: [(End, DropCause); 3] = [
        (Address::stop, DropCause::Stopped),
        (Address::drain, DropCause::Stopped),
        (Address::kill, DropCause::Killed),
    ];
    for (end, cause) in ends {
        let (node, log) = (node(1), Log::default());
        let plant = plant(&node, Strategy::OneForOne, &log);
        let b = address(&plant, "b");
        b.send(Boom).unwrap();
        b.send(1).unwrap();
        let mut call = b.call(2);
        call.begin();
        node.settle();
        end(&b);
        node.settle();
        assert!(b.exit().is_some_and(|exit| exit.is_orderly()));
        assert!(matches!(call.wait(), Err(CallError::Stopped(_))));
        let letters = node.dead_letters().recent();
        assert_eq!(letters.len(), 2);
        assert!(letters.iter().all(|letter| letter.cause == cause));
        node.advance(SECOND);
        assert_eq!(log.take(), Vec::<String>::new());
        assert!(node.lookup::<Part>("b").is_err());
        assert!(plant.exit().is_none());
    }
}

/// Beats each second, and tells when it is told so.
struct Beats(Log);
struct Beat;
impl Processor for Beats {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.every(SECOND, |_| Beat);
        Ok(())
    }
}
impl Handle<Beat> for Beats {
    type Reply = ();
    fn handle(&mut self, _: Beat, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.note("beat");
        Ok(())
    }
}
impl Handle<Boom> for Beats {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        panic!("boom");
    }
}

#[test]
fn timers_of_a_dead_incarnation_are_never_seen_and_started_makes_new_ones() {
    let (node, log) = (node(1), Log::default());
    let noted = log.clone();
    let plant = node
        .supervisor("plant")
        .backoff(fixed())
        .restarts(100, SECOND)
        .child(Child::new("beats", move || Beats(noted.clone())))
        .start()
        .unwrap();
    let beats = plant.address::<Beats>("beats").unwrap();
    node.advance(900 * MS);
    beats.send(Boom).unwrap();
    node.advance(1050 * MS);
    // The first one's grid has gone by.
    assert_eq!(log.take(), Vec::<String>::new());
    node.advance(50 * MS);
    assert_eq!(log.take(), ["beat"]);
    for _ in 0..5 {
        beats.send(Boom).unwrap();
        node.advance(100 * MS);
    }
    node.advance(10 * SECOND);
    assert_eq!(log.take().len(), 10);
}

const NUMBERS: Topic<u32> = Topic::new("numbers");

/// Subscribes with two places, and takes its time.
struct Listens(Log);
impl Processor for Listens {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let options = SubscriptionOptions::new().capacity(2);
        cx.subscribe(&NUMBERS).options(options).call(|me, n, cx| {
            me.0.note(format!("{}", *n));
            if *n == 1 {
                let node = cx.runtime();
                let until = node.now() + SECOND;
                while node.now() < until {
                    node.park(Some(until));
                }
                panic!("boom");
            }
            Ok(())
        })?;
        Ok(())
    }
}

#[test]
fn samples_queued_in_a_subscription_go_back_and_started_subscribes_again() {
    let (node, log) = (node(1), Log::default());
    let noted = log.clone();
    let listens = Child::new("listens", move || Listens(noted.clone()));
    let plant = node.supervisor("plant").backoff(fixed()).child(listens);
    let _plant = plant.start().unwrap();
    node.settle();
    let numbers = node.publisher(&NUMBERS).unwrap();
    for n in 1..=3 {
        numbers.publish(n).unwrap();
        node.settle();
    }
    node.advance(2 * SECOND);
    assert_eq!(log.take(), ["1"]);
    let topics = node.snapshot().topics;
    assert_eq!(topics.len(), 1);
    let subscriptions = &topics[0].subscriptions;
    assert_eq!(subscriptions.len(), 1, "the old one is gone");
    numbers.publish(4).unwrap();
    node.settle();
    assert_eq!(log.take(), ["4"]);
}

/// Sends all it has to a full target, then panics.
struct Forwards(Address<Part>);
impl Processor for Forwards {}
impl Handle<Boom> for Forwards {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        for n in 1..=3 {
            self.0.send(n)?;
        }
        panic!("boom");
    }
}

#[test]
fn what_a_dead_incarnation_has_sent_is_delivered() {
    let (node, log) = (node(1), Log::default());
    let one = MailboxOptions::bounded(1);
    let target = Part {
        name: "target",
        log: log.clone(),
        kept: Vec::new(),
    };
    let target = node.spawn_thread_with("target", one, target).unwrap();
    target.send(Busy(SECOND)).unwrap();
    let to = target.clone();
    let slow = Backoff::exponential(60 * SECOND, 60 * SECOND).jitter(0.0);
    let plant = node
        .supervisor("plant")
        .backoff(slow)
        .child(Child::new("forwards", move || Forwards(to.clone())))
        .start()
        .unwrap();
    let forwards = plant.address::<Forwards>("forwards").unwrap();
    forwards.send(Boom).unwrap();
    node.settle();
    let snapshot = forwards.snapshot();
    assert_eq!((snapshot.restarting, snapshot.outbox), (true, 2));
    node.advance(2 * SECOND);
    assert_eq!(log.take(), ["+target", "target 1", "target 2", "target 3"]);
    let snapshot = forwards.snapshot();
    assert_eq!((snapshot.restarting, snapshot.outbox), (true, 0));
    assert_eq!(node.dead_letters().count(), 0);
    node.advance(60 * SECOND);
    assert_eq!(forwards.snapshot().restarts, 1);
}

/// Calls, and panics before the answer comes.
struct Caller(Address<Part>, Log);
impl Processor for Caller {}
impl Handle<Boom> for Caller {
    type Reply = ();
    fn handle(&mut self, _: Boom, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let log = self.1.clone();
        self.0.call(7).then(cx, move |_, _, _| {
            log.note("went on");
            Ok(())
        });
        panic!("boom");
    }
}

#[test]
fn calls_of_a_dead_incarnation_are_given_up() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let a = address(&plant, "a");
    a.send(Busy(10 * MS)).unwrap();
    let (to, noted) = (a.clone(), log.clone());
    let caller = Child::new("caller", move || Caller(to.clone(), noted.clone()));
    plant.add(caller).unwrap();
    let caller = plant.address::<Caller>("caller").unwrap();
    caller.send(Boom).unwrap();
    node.advance(SECOND);
    assert_eq!(log.take(), Vec::<String>::new());
    assert_eq!(a.snapshot().dropped.by(DropCause::Cancelled), 1);
}
