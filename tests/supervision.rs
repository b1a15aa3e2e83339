//! Supervision: what is restarted, when, in which order, and what becomes of messages meanwhile.

use mproc::prelude::*;
use mproc::{
    Backoff, CallError, ChildPlace, DropCause, Exit, Fault, Options, ReplyToken, Strategy,
    Supervisor, SupervisorEvent, SupervisorSpec, TrySendError, WhenGivingUp,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn note(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A part of a plant: notes when it starts (`+a`), stops (`-a`), and what it handles (`a 7`).
struct Part {
    name: &'static str,
    log: Log,
    kept: Vec<ReplyToken<u32>>,
}

/// Panics.
struct Boom;
/// Ends the incarnation in order.
struct Quit;
/// Keeps the handler for so long, in virtual time.
struct Busy(Duration);
/// Is answered never.
struct Later;

impl Processor for Part {
    fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.log.note(format!("+{}", self.name));
        Ok(())
    }
    fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
        self.log.note(format!("-{}", self.name));
    }
}
impl Handle<u32> for Part {
    type Reply = u32;
    fn handle(&mut self, n: u32, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.log.note(format!("{} {n}", self.name));
        Ok(n)
    }
}
impl Handle<Boom> for Part {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        panic!("boom");
    }
}
impl Handle<Quit> for Part {
    type Reply = ();
    fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.stop();
        Ok(())
    }
}
impl Handle<Busy> for Part {
    type Reply = ();
    fn handle(&mut self, Busy(time): Busy, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let node = cx.runtime();
        let until = node.now() + time;
        while node.now() < until {
            node.park(Some(until));
        }
        Ok(())
    }
}
impl Handle<Later> for Part {
    type Reply = u32;
    fn handle(&mut self, _: Later, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        cx.reply_later(|token| self.kept.push(token))
    }
}

fn node(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

fn part(name: &'static str, log: &Log) -> Child {
    let log = log.clone();
    Child::new(name, move || Part {
        name,
        log: log.clone(),
        kept: Vec::new(),
    })
}

/// Delays of exactly 100 ms.
fn fixed() -> Backoff {
    Backoff::exponential(100 * MS, 100 * MS).jitter(0.0)
}

/// A plant of parts called `a`, `b`, `c`, which are up.
fn plant(node: &Node, strategy: Strategy, log: &Log) -> Supervisor {
    let plant = node.supervisor("plant").strategy(strategy).backoff(fixed());
    let plant = ["a", "b", "c"]
        .into_iter()
        .fold(plant, |plant, name| plant.child(part(name, log)))
        .start()
        .unwrap();
    node.settle();
    assert_eq!(log.take(), ["+a", "+b", "+c"]);
    plant
}

fn address(plant: &Supervisor, name: &str) -> Address<Part> {
    plant.address(name).unwrap()
}

// ---- who is restarted

#[test]
fn one_for_one_restarts_the_one_that_failed_and_nobody_else() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let b = address(&plant, "b");
    b.send(Boom).unwrap();
    node.advance(99 * MS);
    assert_eq!(log.take(), Vec::<String>::new());
    assert!(b.snapshot().restarting);
    node.advance(MS);
    assert_eq!(log.take(), ["+b"]);
    let snapshot = b.snapshot();
    assert_eq!((snapshot.restarts, snapshot.restarting), (1, false));
    assert_eq!(node.snapshot().totals.restarts, 1);
}

#[test]
fn one_for_all_halts_the_others_in_reverse_and_begins_all_in_order() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForAll, &log);
    address(&plant, "b").send(Boom).unwrap();
    node.settle();
    assert_eq!(log.take(), ["-c", "-a"]);
    node.advance(100 * MS);
    assert_eq!(log.take(), ["+a", "+b", "+c"]);
}

#[test]
fn rest_for_one_restarts_those_that_were_started_later_with_it() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::RestForOne, &log);
    address(&plant, "b").send(Boom).unwrap();
    node.settle();
    assert_eq!(log.take(), ["-c"]);
    node.advance(100 * MS);
    assert_eq!(log.take(), ["+b", "+c"]);
    // One that fails while it is begun again starts them all over, from the first of all.
    address(&plant, "c").send(Boom).unwrap();
    node.advance(50 * MS);
    address(&plant, "a").send(Boom).unwrap();
    node.advance(100 * MS);
    assert_eq!(log.take(), ["-b", "+a", "+b", "+c"]);
}

#[test]
fn children_are_restarted_by_their_kind() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(fixed())
        .restarts(100, SECOND)
        .child(part("permanent", &log))
        .child(part("transient", &log).transient())
        .child(part("temporary", &log).temporary())
        .start()
        .unwrap();
    let all = ["permanent", "transient", "temporary"].map(|name| address(&plant, name));
    node.settle();
    log.take();
    for child in &all {
        child.send(Quit).unwrap();
    }
    node.advance(SECOND);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(
        seen,
        ["+permanent", "-permanent", "-temporary", "-transient"]
    );
    assert!(matches!(all[1].exit(), Some(Exit::Stopped)));
    assert!(matches!(all[2].exit(), Some(Exit::Stopped)));
    assert_eq!(plant.children().len(), 1);
    for name in ["transient", "temporary"] {
        let child = part(name, &log);
        let child = if name == "transient" {
            child.transient()
        } else {
            child.temporary()
        };
        plant.add(child).unwrap();
        address(&plant, name).send(Boom).unwrap();
    }
    node.advance(SECOND);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["+temporary", "+transient", "+transient"]);
    assert_eq!(plant.children().len(), 2);
}

#[test]
fn a_temporary_child_ends_with_the_others_and_does_not_come_back() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .strategy(Strategy::OneForAll)
        .child(part("a", &log))
        .child(part("b", &log).temporary())
        .child(part("c", &log).transient())
        .start()
        .unwrap();
    node.settle();
    address(&plant, "a").send(Boom).unwrap();
    node.advance(SECOND);
    let seen = log.take();
    assert_eq!(seen, ["+a", "+b", "+c", "-c", "-b", "+a", "+c"]);
}

/// A request by the address is about the processor, and not about an incarnation.
#[test]
fn whoever_ends_a_child_by_its_address_ends_it_for_good() {
    for end in [Address::stop, Address::drain, Address::kill] as [fn(&Address<Part>); 3] {
        let (node, log) = (node(1), Log::default());
        let plant = plant(&node, Strategy::OneForAll, &log);
        let b = address(&plant, "b");
        end(&b);
        node.advance(SECOND);
        assert!(b.exit().is_some_and(|exit| exit.is_orderly()));
        assert_eq!(log.take(), ["-b"]);
        let children = plant.children();
        assert_eq!(
            children.iter().map(|n| n.as_str()).collect::<Vec<_>>(),
            ["a", "c"]
        );
        assert!(plant.address::<Part>("b").is_err());
    }
}

#[test]
fn a_child_begins_when_the_one_before_it_is_up() {
    let (node, log) = (node(1), Log::default());
    let tries = Arc::new(AtomicU32::new(0));
    let (counted, noted) = (tries.clone(), log.clone());
    let second = Child::new("b", move || match counted.fetch_add(1, SeqCst) {
        0 => Err(Fault::new("not yet")),
        _ => Ok(Part {
            name: "b",
            log: noted.clone(),
            kept: Vec::new(),
        }),
    });
    let plant = node
        .supervisor("plant")
        .backoff(fixed())
        .child(part("a", &log))
        .child(second)
        .child(part("c", &log))
        .start()
        .unwrap();
    let events = plant.events(16);
    // All have their mailboxes from the start.
    address(&plant, "c").send(1).unwrap();
    node.settle();
    assert_eq!(log.take(), ["+a"]);
    node.advance(100 * MS);
    assert_eq!(log.take(), ["+b", "+c", "c 1"]);
    let told: Vec<_> = events.try_iter().map(told).collect();
    assert_eq!(
        told,
        [
            "a started",
            "b fell: did not start: not yet",
            "b started",
            "c started"
        ]
    );
}

fn told(event: SupervisorEvent) -> String {
    match event {
        SupervisorEvent::Started { child } => format!("{child} started"),
        SupervisorEvent::Fell { child, exit, .. } => format!("{child} fell: {exit}"),
        SupervisorEvent::Restarted { child, restarts } => format!("{child} restarted {restarts}"),
        SupervisorEvent::Ended { child, exit } => format!("{child} ended: {exit}"),
        SupervisorEvent::GaveUp {
            child,
            exit,
            restarts,
        } => format!("gave up on {child} after {restarts}: {exit}"),
        other => format!("{other:?}"),
    }
}

// ---- what becomes of messages

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

// ---- delays and limits

/// Never starts.
struct Broken;
impl Processor for Broken {
    fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
        Err(Fault::new("broken"))
    }
}

/// The delays that a supervisor has waited before each attempt, as the clock says.
fn delays(seed: u64) -> Vec<Duration> {
    let node = node(seed);
    let tries = Arc::new(Mutex::new(Vec::<Instant>::new()));
    let (noted, clock) = (tries.clone(), node.without_guard());
    let broken = Child::new("broken", move || {
        noted.lock().unwrap().push(clock.now());
        Broken
    });
    let spec = node
        .supervisor("plant")
        .backoff(Backoff::exponential(10 * MS, SECOND))
        .restarts(9, Duration::from_secs(3600))
        .child(broken);
    let events = spec.events(100);
    let plant = spec.start().unwrap();
    node.advance(60 * SECOND);
    assert!(matches!(plant.exit(), Some(Exit::GaveUp { .. })));
    let tries = tries.lock().unwrap();
    let waited: Vec<_> = tries.windows(2).map(|w| w[1] - w[0]).collect();
    let said: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            SupervisorEvent::Fell { delay, .. } => Some(delay),
            _ => None,
        })
        .collect();
    assert_eq!(waited, said);
    waited
}

#[test]
fn delays_double_up_to_the_longest_with_a_part_left_to_chance_that_a_seed_repeats() {
    let mut all = Vec::new();
    for seed in 0..20 {
        let delays = delays(seed);
        assert_eq!(delays.len(), 9);
        for (n, delay) in delays.iter().enumerate() {
            let whole = (10 * MS * 2_u32.pow(n as u32)).min(SECOND);
            assert!((whole / 2..=whole).contains(delay), "{n}: {delay:?}");
        }
        assert_eq!(delays, self::delays(seed));
        all.push(delays);
    }
    all.dedup();
    assert_eq!(all.len(), 20, "chance has no part in it");
}

#[test]
fn whoever_was_up_for_long_begins_again_with_the_first_delay() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(Backoff::exponential(10 * MS, SECOND).jitter(0.0))
        .restarts(100, SECOND)
        .child(part("a", &log))
        .start()
        .unwrap();
    let (a, events) = (address(&plant, "a"), plant.events(100));
    for wait in [100 * MS, 100 * MS, 1100 * MS, 100 * MS] {
        a.send(Boom).unwrap();
        node.advance(wait);
    }
    let delays: Vec<_> = events
        .try_iter()
        .filter_map(|event| match event {
            SupervisorEvent::Fell { delay, .. } => Some(delay),
            _ => None,
        })
        .collect();
    assert_eq!(delays, [10 * MS, 20 * MS, 40 * MS, 10 * MS]);
}

#[test]
fn restarts_count_within_a_window_that_slides() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .backoff(Backoff::none())
        .restarts(2, 10 * SECOND)
        .child(part("a", &log))
        .start()
        .unwrap();
    let a = address(&plant, "a");
    // At 0, 6, 12, 18, ... seconds: never more than two within ten.
    for _ in 0..10 {
        a.send(Boom).unwrap();
        node.advance(6 * SECOND);
    }
    assert_eq!(a.snapshot().restarts, 10);
    a.send(Boom).unwrap();
    node.advance(SECOND);
    a.send(Boom).unwrap();
    node.settle();
    let exit = plant.exit().unwrap();
    assert_eq!(
        exit.to_string(),
        "gave up on \"a\" after 2 restarts: panicked: boom"
    );
}

// ---- giving up

#[test]
fn who_gives_up_stops_the_children_in_reverse_and_ends_with_the_cause() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let events = plant.events(100);
    let (a, b) = (address(&plant, "a"), address(&plant, "b"));
    for _ in 0..4 {
        b.send(Boom).unwrap();
        node.advance(100 * MS);
    }
    assert_eq!(log.take(), ["+b", "+b", "+b", "-c", "-a"]);
    let down = plant.ended().wait().unwrap();
    assert!(matches!(&down.exit, Exit::GaveUp { restarts: 3, .. }));
    assert!(!down.exit.is_orderly());
    assert!(matches!(a.exit(), Some(Exit::Stopped)));
    assert!(b.exit().is_some());
    let told: Vec<_> = events.try_iter().map(told).collect();
    let end = [
        "gave up on b after 3: panicked: boom",
        "b ended: panicked: boom",
        "c ended: stopped",
        "a ended: stopped",
    ];
    assert_eq!(told[told.len() - 4..], end);
    // All names are free again, and the supervisor takes nobody.
    assert!(matches!(
        plant.add(part("d", &log)),
        Err(mproc::SpawnError::Closed(_))
    ));
    node.settle();
    node.supervisor("plant")
        .child(part("a", &log))
        .child(part("d", &log))
        .start()
        .unwrap();
}

#[test]
fn a_supervisor_that_gives_up_fails_as_a_child_of_its_own_supervisor() {
    let (node, log) = (node(1), Log::default());
    let inner = node
        .supervisor("inner")
        .backoff(Backoff::none())
        .restarts(1, 60 * SECOND)
        .child(part("b", &log))
        .child(part("c", &log));
    let events = inner.events(100);
    let outer = node
        .supervisor("outer")
        .strategy(Strategy::RestForOne)
        .backoff(fixed())
        .restarts(1, 60 * SECOND)
        .child(part("a", &log))
        .child(inner)
        .child(part("d", &log))
        .start()
        .unwrap();
    node.settle();
    // Children of different supervisors begin in no order among each other.
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["+a", "+b", "+c", "+d"]);
    let first = node.lookup::<Part>("b").unwrap();
    first.send(Boom).unwrap();
    node.settle();
    assert_eq!(log.take(), ["+b"]);
    first.send(Boom).unwrap();
    node.settle();
    // `inner` has given up: `c` is stopped by it, `d` by `outer`.
    assert_eq!(log.take(), ["-c", "-d"]);
    assert!(matches!(first.exit(), Some(Exit::Panicked(_))));
    node.advance(100 * MS);
    let mut seen = log.take();
    seen.sort();
    assert_eq!(seen, ["+b", "+c", "+d"]);
    let second = node.lookup::<Part>("b").unwrap();
    assert_ne!(first.id(), second.id());
    for _ in 0..2 {
        second.send(Boom).unwrap();
        node.settle();
    }
    node.advance(SECOND);
    let exit = outer.exit().unwrap().to_string();
    assert_eq!(
        exit,
        "gave up on \"inner\" after 1 restarts: gave up on \"b\" after 1 restarts: panicked: boom"
    );
    assert_eq!(log.take(), ["+b", "-c", "-d", "-a"]);
    let gave_up = events.try_iter().map(told);
    assert_eq!(gave_up.filter(|s| s.starts_with("gave up")).count(), 2);
}

#[test]
fn a_supervisor_that_is_halted_or_stopped_stops_its_children_first() {
    for strategy in [Strategy::OneForAll, Strategy::OneForOne] {
        let (node, log) = (node(1), Log::default());
        let inner = node
            .supervisor("inner")
            .child(part("b", &log))
            .child(part("c", &log));
        let outer = node
            .supervisor("outer")
            .strategy(strategy)
            .backoff(fixed())
            .child(inner)
            .child(part("d", &log))
            .start()
            .unwrap();
        node.settle();
        log.take();
        if strategy == Strategy::OneForAll {
            address(&outer, "d").send(Boom).unwrap();
            node.settle();
            assert_eq!(log.take(), ["-c", "-b"]);
            node.advance(SECOND);
            let mut seen = log.take();
            seen.sort();
            assert_eq!(seen, ["+b", "+c", "+d"]);
        }
        outer.stop();
        let down = outer.ended().wait().unwrap();
        assert!(matches!(down.exit, Exit::Stopped));
        assert_eq!(log.take(), ["-d", "-c", "-b"]);
        assert_eq!(node.snapshot().processors.len(), 0);
    }
}

fn one_bad(node: &Node, log: &Log, then: WhenGivingUp) -> (Supervisor, Address<Part>) {
    let plant = node
        .supervisor("plant")
        .restarts(0, SECOND)
        .backoff(fixed())
        .when_giving_up(then)
        .child(part("a", log))
        .child(part("b", log))
        .start()
        .unwrap();
    node.settle();
    log.take();
    let a = address(&plant, "a");
    (plant, a)
}

#[test]
fn a_supervisor_may_end_the_node_in_order() {
    let (node, log) = (node(1), Log::default());
    let (plant, a) = one_bad(&node, &log, WhenGivingUp::EndNode);
    let other = Part {
        name: "other",
        log: log.clone(),
        kept: Vec::new(),
    };
    let other = node.spawn_thread("other", other).unwrap();
    node.settle();
    a.send(Boom).unwrap();
    node.advance(SECOND);
    assert!(node.has_ended());
    assert!(matches!(plant.exit(), Some(Exit::GaveUp { .. })));
    assert!(matches!(other.exit(), Some(Exit::Stopped)));
    assert_eq!(log.take(), ["+other", "-b", "-other"]);
}

#[test]
fn a_supervisor_may_start_afresh() {
    let (node, log) = (node(1), Log::default());
    let (plant, first) = one_bad(&node, &log, WhenGivingUp::StartAfresh);
    plant.add(part("later", &log)).unwrap();
    for _ in 0..3 {
        let a = address(&plant, "a");
        a.send(Boom).unwrap();
        a.send(1).unwrap();
        node.advance(100 * MS);
        assert!(a.exit().is_some());
        assert_ne!(address(&plant, "a"), a);
    }
    assert!(plant.address::<Part>("later").is_err());
    assert!(plant.exit().is_none());
    assert!(first.exit().is_some());
    assert_eq!(node.dead_letters().count(), 3);
    // Also while it waits.
    address(&plant, "a").send(Boom).unwrap();
    node.settle();
    plant.stop();
    node.settle();
    assert!(matches!(plant.exit(), Some(Exit::Stopped)));
}

// ---- what panics or fails at odd moments

#[test]
fn panics_in_factories_started_stopped_and_drops_are_failures_of_the_child_only() {
    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Bad {
        Factory,
        FactoryFault,
        Started,
        Fault,
        Stopped,
        Drop,
    }
    struct Odd(Bad, Arc<AtomicBool>);
    impl Processor for Odd {
        fn started(&mut self, _: &mut Cx<'_, Self>) -> Outcome<()> {
            match self.0 {
                Bad::Started if self.1.swap(false, SeqCst) => panic!("started"),
                Bad::Fault if self.1.swap(false, SeqCst) => Err(Fault::new("started")),
                _ => Ok(()),
            }
        }
        fn stopped(&mut self, _: &Exit, _: &mut Cx<'_, Self>) {
            if self.0 == Bad::Stopped && self.1.swap(false, SeqCst) {
                panic!("stopped");
            }
        }
    }
    impl Handle<Quit> for Odd {
        type Reply = ();
        fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
            cx.stop();
            Ok(())
        }
    }
    impl Drop for Odd {
        fn drop(&mut self) {
            let panics = self.0 == Bad::Drop && !std::thread::panicking();
            if panics && self.1.swap(false, SeqCst) {
                panic!("drop");
            }
        }
    }
    let all = [
        Bad::Factory,
        Bad::FactoryFault,
        Bad::Started,
        Bad::Fault,
        Bad::Stopped,
        Bad::Drop,
    ];
    for bad in all {
        let node = node(1);
        let driver = node.driver("shared").unwrap();
        let neighbour = closure(|n: u32, _cx| Ok::<_, Fault>(2 * n));
        let neighbour = driver.spawn("neighbour", neighbour).unwrap();
        let once = Arc::new(AtomicBool::new(true));
        let odd = Child::new("odd", move || match bad {
            Bad::Factory if once.swap(false, SeqCst) => panic!("factory"),
            Bad::FactoryFault if once.swap(false, SeqCst) => Err(Fault::new("factory")),
            _ => Ok(Odd(bad, once.clone())),
        });
        let plant = node.supervisor("plant").child(odd.on(&driver));
        let plant = plant.start().unwrap();
        let odd = plant.address::<Odd>("odd").unwrap();
        node.settle();
        odd.send(Quit).unwrap();
        node.advance(SECOND);
        assert_eq!(odd.snapshot().restarts, 1, "{bad:?}");
        assert_eq!(odd.snapshot().handled, 1, "{bad:?}");
        assert_eq!(neighbour.call(4).wait().unwrap(), 8, "{bad:?}");
    }
}

#[test]
fn a_node_that_ends_restarts_nobody_and_waits_for_no_delay() {
    for seed in 0..20 {
        let (node, log) = (node(seed), Log::default());
        let plant = node
            .supervisor("plant")
            .backoff(Backoff::exponential(3600 * SECOND, 3600 * SECOND))
            .child(part("a", &log))
            .child(part("b", &log))
            .child(part("c", &log))
            .start()
            .unwrap();
        node.settle();
        let (a, b, c) = (
            address(&plant, "a"),
            address(&plant, "b"),
            address(&plant, "c"),
        );
        a.send(Boom).unwrap();
        node.settle();
        a.send(1).unwrap();
        // Falls while the node ends.
        b.send(Busy(MS)).unwrap();
        b.send(Boom).unwrap();
        b.send(2).unwrap();
        c.send(3).unwrap();
        let before = node.now();
        let report = node.shutdown(10 * SECOND);
        assert!(report.is_clean(), "{report}");
        assert!(node.now() - before < SECOND, "{report}");
        assert!(matches!(a.exit(), Some(Exit::Panicked(_))));
        assert!(matches!(b.exit(), Some(Exit::Panicked(_))));
        assert!(matches!(c.exit(), Some(Exit::Stopped)));
        assert!(matches!(plant.exit(), Some(Exit::Stopped)));
        let totals = node.snapshot().totals.clone();
        assert_eq!(totals.dropped.by(DropCause::Killed), 2);
        assert_eq!(totals.received, totals.handled + totals.dropped.total());
    }
}

#[test]
fn a_child_that_does_not_stop_is_killed_at_its_limit_and_not_waited_for() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .child(part("a", &log))
        .child(part("b", &log).stop_limit(SECOND))
        .child(part("c", &log))
        .start()
        .unwrap();
    let b = address(&plant, "b");
    b.send(Busy(60 * SECOND)).unwrap();
    b.send(1).unwrap();
    node.settle();
    log.take();
    let before = node.now();
    plant.stop();
    plant.ended().wait().unwrap();
    assert_eq!(node.now() - before, SECOND);
    assert_eq!(log.take(), ["-c", "-a"]);
    node.advance(60 * SECOND);
    assert!(matches!(b.exit(), Some(Exit::Killed)));
}

#[test]
fn a_child_that_does_not_halt_is_cut_short_and_waited_for_before_the_next_begins() {
    let (node, log) = (node(1), Log::default());
    let plant = node
        .supervisor("plant")
        .strategy(Strategy::OneForAll)
        .backoff(fixed())
        .child(part("a", &log))
        .child(part("b", &log).stop_limit(SECOND))
        .start()
        .unwrap();
    let (a, b) = (address(&plant, "a"), address(&plant, "b"));
    b.send(Busy(5 * SECOND)).unwrap();
    b.send(1).unwrap();
    node.settle();
    log.take();
    a.send(Boom).unwrap();
    node.advance(4 * SECOND);
    assert_eq!(log.take(), Vec::<String>::new());
    node.advance(2 * SECOND);
    assert_eq!(log.take(), ["-b", "+a", "+b", "b 1"]);
}

// ---- watches and links

/// Watches and links as it is told, once it has started.
struct Friend {
    watches: Vec<Address<Part>>,
    links: Vec<Address<Part>>,
    log: Log,
}
impl Processor for Friend {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        for other in &self.watches {
            cx.watch(other);
        }
        for other in &self.links {
            cx.link(other);
        }
        self.log.note("+friend");
        Ok(())
    }
}
impl Handle<Down> for Friend {
    type Reply = ();
    fn handle(&mut self, down: Down, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.log.note(format!("down {} {}", down.name, down.exit));
        Ok(())
    }
}
impl Handle<Boom> for Friend {
    type Reply = ();
    fn handle(&mut self, _: Boom, _: &mut Cx<'_, Self>) -> Outcome<()> {
        panic!("boom");
    }
}
impl Handle<Quit> for Friend {
    type Reply = ();
    fn handle(&mut self, _: Quit, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.stop();
        Ok(())
    }
}

#[test]
fn down_comes_at_the_end_for_good_once_to_the_incarnation_that_lives() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let (a, noted) = (address(&plant, "a"), log.clone());
    let watched = a.clone();
    let friend = Child::new("friend", move || Friend {
        watches: vec![watched.clone()],
        links: Vec::new(),
        log: noted.clone(),
    });
    plant.add(friend).unwrap();
    let friend = plant.address::<Friend>("friend").unwrap();
    node.settle();
    a.send(Boom).unwrap();
    node.advance(SECOND);
    friend.send(Boom).unwrap();
    node.advance(SECOND);
    assert_eq!(log.take(), ["+friend", "+a", "+friend"]);
    a.stop();
    node.settle();
    assert_eq!(log.take(), ["-a", "down a stopped"]);
}

#[test]
fn linked_processors_end_together_unless_the_end_is_in_order() {
    let (node, log) = (node(1), Log::default());
    let make = |name: &'static str| {
        let part = Part {
            name,
            log: Log::default(),
            kept: Vec::new(),
        };
        node.spawn_thread(name, part).unwrap()
    };
    let link = |name: &str, other: &Address<Part>| {
        let friend = Friend {
            watches: Vec::new(),
            links: vec![other.clone()],
            log: log.clone(),
        };
        let friend = node.spawn_thread(name, friend).unwrap();
        node.settle();
        friend
    };
    // Either way round.
    let a = make("a");
    let friend = link("friend of a", &a);
    a.send(Boom).unwrap();
    node.settle();
    let exit = friend.exit().unwrap();
    assert_eq!(exit.to_string(), "ended with \"a\": panicked: boom");
    assert!(!exit.is_orderly());
    let b = make("b");
    let friend = link("friend of b", &b);
    b.send(Busy(SECOND)).unwrap();
    b.send(1).unwrap();
    node.settle();
    friend.kill();
    node.settle();
    assert!(b.exit().is_none(), "its handler goes on to its end");
    node.advance(SECOND);
    assert!(matches!(b.exit(), Some(Exit::Linked { .. })));
    assert_eq!(b.snapshot().dropped.by(DropCause::Killed), 1);
    // In order.
    let c = make("c");
    let friend = link("friend of c", &c);
    c.stop();
    node.settle();
    assert!(friend.exit().is_none());
    // With one that has ended already.
    let friend = link("late friend of a", &a);
    assert!(matches!(friend.exit(), Some(Exit::Linked { .. })));
}

#[test]
fn links_of_a_supervised_processor_are_those_of_its_incarnation() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    let make = || {
        let part = Part {
            name: "p",
            log: Log::default(),
            kept: Vec::new(),
        };
        node.spawn_thread("p", part).unwrap()
    };
    let (p, noted) = (Arc::new(Mutex::new(make())), log.clone());
    let linked = p.clone();
    let friend = Child::new("friend", move || Friend {
        watches: Vec::new(),
        links: vec![linked.lock().unwrap().clone()],
        log: noted.clone(),
    });
    plant.add(friend.transient()).unwrap();
    let friend = plant.address::<Friend>("friend").unwrap();
    node.settle();
    // Its restart ends nobody, and leaves no link behind.
    let first = p.lock().unwrap().clone();
    friend.send(Boom).unwrap();
    node.settle();
    assert!(first.exit().is_none());
    first.kill();
    node.settle();
    *p.lock().unwrap() = make();
    node.advance(SECOND);
    assert_eq!(log.take(), ["+friend", "+friend"]);
    // It is restarted after the end of whom it is linked to.
    let second = p.lock().unwrap().clone();
    second.send(Boom).unwrap();
    node.settle();
    *p.lock().unwrap() = make();
    node.advance(SECOND);
    assert_eq!(log.take(), ["+friend"]);
    assert_eq!(friend.snapshot().restarts, 2);
    // Its end for good is told to those who are linked.
    let third = p.lock().unwrap().clone();
    friend.kill();
    node.settle();
    assert!(matches!(third.exit(), Some(Exit::Linked { .. })));
}

// ---- children that come later, and mistakes

#[test]
fn a_child_is_added_found_by_its_type_and_its_name_is_free_when_it_has_ended() {
    let (node, log) = (node(1), Log::default());
    let plant = plant(&node, Strategy::OneForOne, &log);
    assert!(matches!(
        plant.add(part("a", &log)),
        Err(mproc::SpawnError::NameTaken(_))
    ));
    plant.add(part("d", &log).temporary()).unwrap();
    let d = address(&plant, "d");
    assert_eq!(d.call(1).wait().unwrap(), 1);
    assert_eq!(log.take(), ["+d", "d 1"]);
    let wrong = plant.address::<Broken>("d").unwrap_err();
    assert_eq!(wrong.kind(), mproc::ErrorKind::TypeConflict);
    d.stop();
    node.settle();
    let gone = plant.address::<Part>("d").unwrap_err();
    assert_eq!(gone.kind(), mproc::ErrorKind::NotFound);
    plant.add(part("d", &log)).unwrap();
    assert_eq!(address(&plant, "d").call(2).wait().unwrap(), 2);
}

#[test]
fn a_supervisor_that_cannot_start_leaves_nothing_behind() {
    let (node, log) = (node(1), Log::default());
    node.spawn_thread("taken", closure(|(): (), _cx| ()))
        .unwrap();
    let specs: [SupervisorSpec; 3] = [
        node.supervisor("plant")
            .child(part("a", &log))
            .child(part("taken", &log)),
        node.supervisor("taken").child(part("a", &log)),
        node.supervisor("").child(part("a", &log)),
    ];
    for spec in specs {
        assert!(spec.start().is_err());
        node.settle();
        assert_eq!(node.snapshot().processors.len(), 1);
    }
    assert_eq!(log.take(), Vec::<String>::new());
    let report = node.shutdown(SECOND);
    assert!(report.is_clean(), "{report}");
    assert!(node.supervisor("plant").start().is_err());
}

#[test]
fn children_live_on_a_driver_or_pool_with_others_if_they_are_told_so() {
    let (with_driver, with_pool) = (node(1), node(1));
    let driver = with_driver.driver("shared").unwrap();
    let end = |limit| driver.shutdown(limit);
    live_with_others(&with_driver, &ChildPlace::from(&driver), &end);
    let pool = with_pool.pool("shared", 2).unwrap();
    let end = |limit| pool.shutdown(limit);
    live_with_others(&with_pool, &ChildPlace::from(&pool), &end);
}

fn live_with_others(
    node: &Node,
    place: &ChildPlace,
    end: &dyn Fn(Duration) -> mproc::ShutdownReport,
) {
    let log = Log::default();
    let plant = node
        .supervisor("plant")
        .child(part("a", &log).on(place.clone()))
        .child(part("b", &log).on(place.clone()))
        .start()
        .unwrap();
    let (a, b) = (address(&plant, "a"), address(&plant, "b"));
    a.send(Boom).unwrap();
    assert_eq!(b.call(1).wait().unwrap(), 1);
    assert_eq!(a.call(2).wait().unwrap(), 2);
    assert_eq!(a.snapshot().driver, "shared");
    assert_eq!(a.snapshot().restarts, 1);
    // Their driver's end is theirs.
    let report = end(SECOND);
    assert!(report.is_clean(), "{report}");
    node.settle();
    assert!(plant.children().is_empty());
    assert!(plant.exit().is_none());
}

#[test]
fn a_node_on_the_real_machine_restarts_too() {
    let node = Node::with_options(Options::default());
    let log = Log::default();
    let plant = node
        .supervisor("plant")
        .backoff(Backoff::exponential(MS, MS))
        .restarts(100, SECOND)
        .child(part("a", &log))
        .start()
        .unwrap();
    let a = address(&plant, "a");
    for n in 0..20 {
        assert!(matches!(a.call(Boom).wait(), Err(CallError::Panicked(_))));
        assert_eq!(a.call(n).wait().unwrap(), n);
    }
    assert_eq!(a.snapshot().restarts, 20);
    plant.stop();
    assert!(matches!(plant.ended().wait().unwrap().exit, Exit::Stopped));
    let report = node.shutdown(10 * SECOND);
    assert!(report.is_clean(), "{report}");
}

// ---- conservation

/// What became of each message, by number.
#[derive(Default)]
struct Fates(Mutex<BTreeMap<u32, Vec<&'static str>>>);

impl Fates {
    fn note(&self, number: u32, fate: &'static str) {
        let mut fates = self.0.lock().unwrap();
        fates.entry(number).or_default().push(fate);
    }
}

/// A message with a number. `panics`: its handler does.
struct Numbered {
    number: u32,
    panics: bool,
    /// Where it goes next, so often.
    hops: u32,
}

struct Hops {
    peers: Arc<Mutex<Vec<Address<Hops>>>>,
    fates: Arc<Fates>,
    kept: Vec<ReplyToken<u32>>,
    next: Arc<AtomicU32>,
    random: u64,
}

impl Hops {
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % bound
    }
}

impl Processor for Hops {}
impl Handle<Numbered> for Hops {
    type Reply = u32;
    fn handle(&mut self, m: Numbered, cx: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        self.fates.note(m.number, "handled");
        if m.hops > 0 {
            let peers = self.peers.lock().unwrap().clone();
            let to = self.below(peers.len() as u64) as usize;
            let next = Numbered {
                number: self.next.fetch_add(1, SeqCst),
                panics: self.below(8) == 0,
                hops: m.hops - 1,
            };
            self.fates.note(next.number, "made");
            let high = self.below(4) == 0;
            let to = if high {
                peers[to].high()
            } else {
                peers[to].clone()
            };
            if let Err(error) = to.send(next) {
                self.fates.note(error.into_inner().number, "returned");
            }
        }
        if m.panics {
            panic!("wanted");
        }
        match self.below(3) {
            0 => cx.reply_later(|token| self.kept.push(token)),
            1 => Err(Fault::new("wanted")),
            _ => Ok(m.number),
        }
    }
}

/// One run: every message that was made met one fate, and every call had one result.
fn conserves(seed: u64) -> (u64, u64) {
    let node = Node::simulated_with(seed, Options::default().dead_letters(100_000));
    let fates = Arc::new(Fates::default());
    let next = Arc::new(AtomicU32::new(0));
    let peers = Arc::new(Mutex::new(Vec::new()));
    // Two of four live on a thread of their own, and two with others: on one thread, on several, or on either.
    let driver = node.driver("shared").unwrap();
    let pool = node.pool("pool", 1 + seed as usize % 3).unwrap();
    let strategies = [
        Strategy::OneForOne,
        Strategy::OneForAll,
        Strategy::RestForOne,
    ];
    let mut spec = node
        .supervisor("plant")
        .strategy(strategies[seed as usize % 3])
        .backoff(Backoff::exponential(MS, 20 * MS))
        .restarts(if seed.is_multiple_of(5) { 3 } else { 1000 }, SECOND);
    for n in 0..4 {
        let (peers, fates, next) = (peers.clone(), fates.clone(), next.clone());
        let mut incarnations = 0;
        let child = Child::new(&format!("hops {n}"), move || {
            incarnations += 1;
            Hops {
                peers: peers.clone(),
                fates: fates.clone(),
                kept: Vec::new(),
                next: next.clone(),
                random: seed ^ (n << 32) ^ (incarnations << 48),
            }
        });
        let child = child.mailbox(MailboxOptions::bounded(1 + n as usize));
        let child = match (n, seed % 4) {
            (0, 0 | 1) | (2, 0 | 2) => child.on(&driver),
            (0 | 2, _) => child.on(&pool),
            _ => child,
        };
        spec = spec.child(if n == 3 { child.transient() } else { child });
    }
    let plant = spec.start().unwrap();
    let all: Vec<_> = (0..4)
        .map(|n| plant.address::<Hops>(&format!("hops {n}")).unwrap())
        .collect();
    *peers.lock().unwrap() = all.clone();
    let mut calls = Vec::new();
    for n in 0..40_u64 {
        let message = Numbered {
            number: next.fetch_add(1, SeqCst),
            panics: n % 5 == 4,
            hops: 4,
        };
        fates.note(message.number, "made");
        let to = &all[((seed >> 3) + n) as usize % 4];
        if n % 3 == 0 {
            let mut call = to.call(message);
            call.begin();
            calls.push((next.load(SeqCst) - 1, call));
        } else if let Err(error) = to.send(message) {
            fates.note(error.into_inner().number, "returned");
        }
        if seed % 4 == 1 && n == 20 {
            all[2].kill();
        }
        if n % 7 == 0 {
            node.advance(3 * MS);
        }
    }
    if seed % 4 == 2 {
        plant.stop();
    }
    node.advance(SECOND);
    let mut results = BTreeMap::new();
    for (number, call) in calls {
        results.insert(number, call.wait());
    }
    let report = node.shutdown(20 * SECOND);
    assert!(report.is_clean(), "{report}");
    for letter in node.dead_letters().take() {
        let message: Numbered = letter.into_message().unwrap();
        fates.note(message.number, "dead");
    }
    let totals = node.snapshot().totals.clone();
    assert_eq!(totals.queued, 0, "seed {seed}");
    assert_eq!(
        totals.received,
        totals.handled + totals.dropped.total(),
        "seed {seed}"
    );
    for (number, fate) in fates.0.lock().unwrap().iter() {
        let result = results.remove(number);
        let one_fate = match (&fate[..], &result) {
            (["made", "handled"], Some(Err(e))) => !matches!(e, CallError::Full),
            (["made", "handled" | "dead" | "returned"], None) => true,
            (["made", "handled"], Some(Ok(reply))) => reply == number,
            (["made", "dead"], Some(Err(e))) => matches!(e, CallError::Stopped(_)),
            // The call has kept its message. Nobody is stuck, so none times out in a queue.
            (["made"], Some(Err(e))) => matches!(e, CallError::Stopped(_)),
            _ => false,
        };
        assert!(one_fate, "seed {seed}, {number}: {fate:?} {result:?}");
    }
    let (_, fingerprint) = node.fingerprint().unwrap();
    (totals.restarts, fingerprint)
}

#[test]
fn every_message_has_one_fate_while_processors_are_restarted() {
    let seeds = std::env::var("MPROC_SEEDS").ok();
    let seeds = seeds.and_then(|n| n.parse().ok()).unwrap_or(150);
    let mut restarts = 0;
    for seed in 0..seeds {
        let (more, _) = conserves(seed);
        restarts += more;
    }
    assert!(restarts > 3 * seeds, "{restarts} restarts");
}

#[test]
fn a_seed_repeats_a_run_with_restarts() {
    for seed in [3, 10, 77] {
        assert_eq!(conserves(seed), conserves(seed));
    }
}
