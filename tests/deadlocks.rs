//! Calls that would wait for ever are refused, with the names in the circle; circles with a stall in them go on.
//!
//! Random ones, with and without circles: `MPROC_SEEDS=n` runs more of them, `MPROC_SEED=n` one.

#[path = "support/examples.rs"]
mod examples;

use mproc::prelude::*;
use mproc::{CallError, Driver, ErrorKind, Options, ReplyToken, Spun, closure};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

const S: Duration = Duration::from_secs(1);

type PeerCx<'a> = Cx<'a, Peer, u32>;
type Work = Box<dyn FnOnce(&mut PeerCx<'_>) -> Outcome<u32> + Send>;

/// Does what it is told.
struct Peer;
impl Processor for Peer {}
impl Handle<Work> for Peer {
    type Reply = u32;
    fn handle(&mut self, work: Work, cx: &mut PeerCx<'_>) -> Outcome<u32> {
        work(cx)
    }
}

fn work(work: impl FnOnce(&mut PeerCx<'_>) -> Outcome<u32> + Send + 'static) -> Work {
    Box::new(work)
}

fn answer(n: u32) -> Work {
    work(move |_| Ok(n))
}

fn ask(to: &Address<Peer>, what: Work) -> Result<u32, CallError> {
    to.call(what).wait()
}

/// Keeps the thread of a handler, in virtual time.
fn busy<P: Processor, R: 'static>(cx: &Cx<'_, P, R>, time: Duration) {
    let node = cx.runtime();
    let until = node.now() + time;
    while node.now() < until {
        node.park(Some(until));
    }
}

/// What handlers found, in order.
#[derive(Clone, Default)]
struct Found(Arc<Mutex<Vec<String>>>);

impl Found {
    fn note(&self, what: impl ToString) {
        self.0.lock().unwrap().push(what.to_string());
    }

    fn note_result(&self, result: &Result<u32, CallError>) {
        match result {
            Ok(n) => self.note(n),
            Err(error) => self.note(error),
        }
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn never(circle: &str) -> String {
    format!("waiting would never end: {circle}")
}

fn node(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

fn own(node: &Node, name: &str) -> Address<Peer> {
    node.spawn_thread(name, Peer).unwrap()
}

fn full_at_1(node: &Node, name: &str) -> Address<Peer> {
    node.spawn_thread_with(name, MailboxOptions::bounded(1), Peer)
        .unwrap()
}

/// Calls the first in a handler, which calls the next there, and so on. Each notes what it got, the last first.
fn call_along(path: &[&Address<Peer>], found: &Found) -> Work {
    let Some((to, rest)) = path.split_first() else {
        return answer(7);
    };
    let (to, next, found) = ((*to).clone(), call_along(rest, found), found.clone());
    work(move |_| {
        let result = ask(&to, next);
        found.note_result(&result);
        Ok(result.unwrap_or(1))
    })
}

// ---- circles of calls

#[test]
fn of_two_that_call_each_other_the_one_that_closes_the_circle_is_refused_and_both_go_on() {
    let node = node(1);
    let (a, b) = (own(&node, "a"), own(&node, "b"));
    let (before, found) = (node.now(), Found::default());
    assert_eq!(ask(&a, call_along(&[&b, &a], &found)).unwrap(), 1);
    assert_eq!(found.take(), [never("b -> a -> b"), "1".into()]);
    assert_eq!(ask(&a, call_along(&[&b], &found)).unwrap(), 7);
    assert_eq!(node.now(), before);
}

#[test]
fn a_circle_of_three_is_named_in_order() {
    let node = node(1);
    let (a, b, c) = (own(&node, "a"), own(&node, "b"), own(&node, "c"));
    let (before, found) = (node.now(), Found::default());
    ask(&a, call_along(&[&b, &c, &a], &found)).unwrap();
    assert_eq!(found.take()[0], never("c -> a -> b -> c"));
    assert_eq!(node.now(), before);
}

#[test]
fn all_at_once_exactly_one_of_a_circle_is_refused_whatever_the_order() {
    for seed in 0..100 {
        let node = node(seed);
        let all = ["a", "b", "c"].map(|name| own(&node, name));
        let found = Found::default();
        for n in 0..3 {
            all[n]
                .send(call_along(&[&all[(n + 1) % 3]], &found))
                .unwrap();
        }
        let before = node.now();
        node.settle();
        let found = found.take();
        let refused = found.iter().filter(|f| *f != "7").count();
        assert!(refused <= 1, "seed {seed}: {found:?}");
        assert_eq!(found.len(), 3, "seed {seed}: {found:?}");
        assert_eq!(node.now(), before, "seed {seed}: ended by a limit");
    }
}

#[test]
fn a_circle_over_a_shared_driver_and_an_own_one_names_the_neighbour_whose_thread_it_is() {
    let node = node(1);
    let both = node.driver("both").unwrap();
    let a = both.spawn("a", Peer).unwrap();
    let neighbour = both.spawn("neighbour", Peer).unwrap();
    let b = own(&node, "b");
    let (before, found) = (node.now(), Found::default());
    ask(&a, call_along(&[&b, &neighbour], &found)).unwrap();
    assert_eq!(found.take()[0], never("b -> neighbour -> a -> b"));
    assert_eq!(node.now(), before);
}

/// On a pool the processors wait one by one: a neighbour is served by another thread, and only a circle is refused.
#[test]
fn on_a_pool_a_circle_is_refused_and_a_neighbour_is_not() {
    for threads in 1..4 {
        let node = node(threads as u64);
        let pool = node.pool("pool", threads).unwrap();
        let spawn = |name: &str| pool.spawn(name, Peer).unwrap();
        let (a, b, c) = (spawn("a"), spawn("b"), own(&node, "c"));
        let to_b = b.clone();
        let asked = ask(&a, work(move |_| Ok(ask(&to_b, answer(7))?)));
        assert_eq!(asked.unwrap(), 7);
        let me = a.clone();
        let error = ask(&a, work(move |_| Ok(ask(&me, answer(7))?))).unwrap_err();
        assert!(error.to_string().contains(&never("a -> a")), "{error}");
        let found = Found::default();
        drop(ask(&a, call_along(&[&b, &c, &a], &found)));
        assert_eq!(found.take()[0], never("c -> a -> b -> c"));
    }
}

#[test]
fn a_call_to_oneself_and_to_a_neighbour_is_refused() {
    let node = node(1);
    let both = node.driver("both").unwrap();
    let a = both.spawn("a", Peer).unwrap();
    let neighbour = both.spawn("neighbour", Peer).unwrap();
    let c = own(&node, "c");
    let found = Found::default();
    ask(&a, call_along(&[&a], &found)).unwrap();
    ask(&a, call_along(&[&neighbour], &found)).unwrap();
    ask(&c, call_along(&[&c], &found)).unwrap();
    let circles = ["a -> a", "a -> neighbour -> a", "c -> c"].map(never);
    assert_eq!(found.take(), circles);
}

#[test]
fn what_was_begun_before_and_what_is_called_by_a_recipient_is_refused_like_a_call() {
    let node = node(1);
    let (a, b) = (own(&node, "a"), own(&node, "b"));
    let found = Found::default();
    let (to_a, note) = (a.clone(), found.clone());
    let calls_back = work(move |_| {
        let mut begun = to_a.call(answer(1));
        begun.begin();
        note.note(begun.wait().unwrap_err());
        let recipient = to_a.recipient::<Work>();
        note.note(recipient.call(answer(2)).wait().unwrap_err());
        Ok(3)
    });
    let to_b = b.clone();
    let result = ask(&a, work(move |_| Ok(ask(&to_b, calls_back)?)));
    assert_eq!(result.unwrap(), 3);
    assert_eq!(found.take(), [never("b -> a -> b"), never("b -> a -> b")]);
}

#[test]
fn waiting_for_the_end_of_one_that_calls_the_waiter_closes_a_circle() {
    let node = node(1);
    let (a, b) = (own(&node, "a"), own(&node, "b"));
    let found = Found::default();
    let (to_b, note) = (b.clone(), found.clone());
    let waits = work(move |cx| {
        busy(cx, S);
        note.note(to_b.ended().wait().unwrap_err());
        Ok(4)
    });
    a.send(waits).unwrap();
    b.send(call_along(&[&a], &found)).unwrap();
    node.advance(2 * S);
    assert_eq!(found.take(), [never("a -> b -> a"), "7".into()]);
}

// ---- scripts

#[test]
fn a_script_in_the_circle_is_refused_in_its_callback_and_between_two_spins() {
    let node = node(1);
    let mut script = node.script().unwrap();
    let worker = script.spawn("worker", Peer).unwrap();
    let neighbour = script.spawn("neighbour", Peer).unwrap();
    let b = own(&node, "b");
    let (before, found) = (node.now(), Found::default());
    // In a callback.
    worker.send(call_along(&[&b, &neighbour], &found)).unwrap();
    assert_eq!(script.spin_once(S).unwrap(), Spun::Ran);
    let circle = never("b -> neighbour -> worker -> b");
    assert_eq!(found.take(), [circle, "1".into()]);
    // Between two spins: the thread itself waits for `b`.
    assert_eq!(ask(&b, call_along(&[&worker], &found)).unwrap(), 1);
    let error = found.take().remove(0);
    assert!(error.contains("b -> worker -> script-"), "{error}");
    assert_eq!(node.now(), before);
}

#[test]
fn a_thread_without_scripts_is_in_no_circle() {
    let node = node(1);
    let (a, b) = (own(&node, "a"), own(&node, "b"));
    assert_eq!(ask(&a, call_along(&[&b], &Found::default())).unwrap(), 7);
}

// ---- forwarding, answers that were there, answers for later

fn forward_to(to: &Address<Peer>, what: Work) -> Work {
    let to = to.clone();
    work(move |cx| cx.forward(&to, what))
}

#[test]
fn the_edge_of_a_call_moves_with_the_message_that_is_forwarded() {
    let node = node(1);
    let (a, b, c) = (own(&node, "a"), own(&node, "b"), own(&node, "c"));
    let (before, found) = (node.now(), Found::default());
    // `b` owes nothing any more: `c` may wait for `b`, but not for `a`.
    let at_c = call_along(&[&b], &found);
    let to_b = b.clone();
    let via_b = forward_to(&c, at_c);
    assert_eq!(ask(&a, work(move |_| Ok(ask(&to_b, via_b)?))).unwrap(), 7);
    assert_eq!(found.take(), ["7"]);
    let to_b = b.clone();
    let via_b = forward_to(&c, call_along(&[&a], &found));
    assert_eq!(ask(&a, work(move |_| Ok(ask(&to_b, via_b)?))).unwrap(), 1);
    assert_eq!(found.take(), [never("c -> a -> c")]);
    assert_eq!(node.now(), before);
}

#[test]
fn a_message_forwarded_to_one_that_waits_for_its_caller_is_refused() {
    let node = node(1);
    let (a, b, c) = (own(&node, "a"), own(&node, "b"), own(&node, "c"));
    let found = Found::default();
    let (to_b, to_c, note) = (b.clone(), c.clone(), found.clone());
    let calls_a = call_along(&[&a], &found);
    let begins = work(move |_| {
        to_c.send(calls_a).unwrap();
        let forwards = work(move |cx| {
            // Until `c` waits for `a`.
            busy(cx, S);
            cx.forward(&to_c, answer(5))
        });
        let result = ask(&to_b, forwards);
        note.note_result(&result);
        Ok(6)
    });
    assert_eq!(ask(&a, begins).unwrap(), 6);
    node.settle();
    assert_eq!(found.take(), [never("a -> c -> a"), "7".into()]);
}

#[test]
fn an_answer_that_is_there_is_no_edge_although_its_caller_has_not_gone_on_yet() {
    for seed in 0..200 {
        let node = node(seed);
        let (a, b) = (own(&node, "a"), own(&node, "b"));
        let found = Found::default();
        a.send(call_along(&[&b], &found)).unwrap();
        // Behind the call, or before it.
        b.send(call_along(&[&a], &found)).unwrap();
        let before = node.now();
        node.settle();
        let errors = found.take().into_iter().filter(|f| f != "7");
        let errors: Vec<_> = errors.collect();
        // If `b` is first told to call, both wait for each other; then it is a circle indeed.
        assert!(errors.len() <= 1, "seed {seed}: {errors:?}");
        assert_eq!(node.now(), before, "seed {seed}");
        // In this order it never is one: the second message comes after the answer to the first.
        let (to_b, note) = (b.clone(), found.clone());
        let calls_a = call_along(&[&a], &found);
        let in_order = work(move |_| {
            let mut call = to_b.call(answer(7));
            call.begin();
            to_b.send(calls_a).unwrap();
            note.note_result(&call.wait());
            Ok(0)
        });
        a.send(in_order).unwrap();
        node.settle();
        assert_eq!(found.take(), ["7", "7"], "seed {seed}");
        assert_eq!(node.now(), before, "seed {seed}");
    }
}

/// Answers whom it is given, a while later.
fn answers_later() -> mproc::Closure<ReplyToken<u32>, ()> {
    closure(|token: ReplyToken<u32>, cx| {
        busy(cx, S);
        token.send(8);
    })
}

#[test]
fn a_reply_promised_for_later_is_no_edge() {
    let node = node(1);
    let (a, b) = (own(&node, "a"), own(&node, "b"));
    let later = node.spawn_thread("later", answers_later()).unwrap();
    let (before, found) = (node.now(), Found::default());
    let calls_a = call_along(&[&a], &found);
    let (to_b, itself, note) = (b.clone(), b.clone(), found.clone());
    let promises = work(move |cx| {
        itself.send(calls_a).unwrap();
        cx.reply_later(|token| later.send(token).unwrap())
    });
    let asks = work(move |_| {
        let result = ask(&to_b, promises);
        note.note_result(&result);
        Ok(9)
    });
    assert_eq!(ask(&a, asks).unwrap(), 9);
    node.settle();
    assert_eq!(found.take(), ["8", "7"]);
    assert_eq!(node.now() - before, S);
}

#[test]
fn a_continuation_is_no_edge() {
    let node = node(1);
    let (a, b) = (own(&node, "a"), own(&node, "b"));
    let found = Found::default();
    let (to_b, note) = (b.clone(), found.clone());
    let calls_a = call_along(&[&a], &found);
    let goes_on = work(move |cx| {
        to_b.call(calls_a).then(cx, move |_, reply, _| {
            note.note_result(&reply);
            Ok(())
        });
        Ok(0)
    });
    ask(&a, goes_on).unwrap();
    node.settle();
    assert_eq!(found.take(), ["7", "7"]);
}

#[test]
fn a_call_that_a_later_message_may_evict_is_no_edge_before_it_is_handled() {
    let node = node(1);
    let evicts = MailboxOptions::bounded(1).when_full(WhenFull::DropOldest);
    let a = node.spawn_thread_with("a", evicts, Peer).unwrap();
    let b = own(&node, "b");
    let (before, found) = (node.now(), Found::default());
    let calls_a = call_along(&[&a], &found);
    let (to_b, note) = (b.clone(), found.clone());
    let asks = work(move |_| {
        note.note_result(&ask(&to_b, calls_a));
        Ok(0)
    });
    a.send(asks).unwrap();
    node.settle();
    // `b` waits for `a`, whose only place this takes.
    a.send(answer(2)).unwrap();
    node.settle();
    let evicted = CallError::Dropped.to_string();
    assert_eq!(found.take(), [evicted, "1".into()]);
    assert_eq!(node.now(), before);
}

// ---- other waits that block

#[test]
fn building_on_a_driver_that_waits_for_the_builder_is_refused() {
    let node = node(1);
    let io = node.driver("io").unwrap();
    let member = io.spawn("member", Peer).unwrap();
    let a = own(&node, "a");
    let (before, found) = (node.now(), Found::default());
    let note = found.clone();
    let builds = work(move |_| {
        let ran = Arc::new(AtomicUsize::new(0));
        let runs = ran.clone();
        let error = io.build(move |_| {
            runs.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadlock);
        assert_eq!(ran.load(Ordering::Relaxed), 0);
        note.note(error);
        Ok(3)
    });
    let to_a = a.clone();
    assert_eq!(
        ask(&member, work(move |_| Ok(ask(&to_a, builds)?))).unwrap(),
        3
    );
    let found = found.take().remove(0);
    assert!(found.contains(&never("a -> io -> member -> a")), "{found}");
    assert_eq!(node.now(), before);
}

// ---- circles with a stall

/// Sends `to` more than it has room for.
fn floods(to: &Address<Peer>, count: u32, after: Duration) -> Work {
    let to = to.clone();
    work(move |cx| {
        busy(cx, after);
        for _ in 0..count {
            to.send(answer(0)).unwrap();
        }
        Ok(0)
    })
}

/// `a` calls `b`, which has sent more to `full` than there is room for, at `stalls_after`, and cannot go on before `a` does.
fn mixed(node: &Node, a: &Address<Peer>, full: &Address<Peer>, stalls_after: Duration) {
    let b = own(node, "b");
    let (before, found) = (node.now(), Found::default());
    b.send(floods(full, 3, stalls_after)).unwrap();
    let to_b = b.clone();
    let note = found.clone();
    a.send(work(move |cx| {
        busy(cx, S);
        note.note_result(&ask(&to_b, answer(7)));
        Ok(0)
    }))
    .unwrap();
    node.advance(S.max(stalls_after));
    assert_eq!(found.take(), ["7"]);
    assert_eq!(node.now() - before, S.max(stalls_after));
    assert_eq!(node.dead_letters().count(), 0);
    assert_eq!(full.snapshot().queued, 0);
    assert!(!b.snapshot().stalled);
}

#[test]
fn a_call_to_one_that_is_stalled_for_room_at_the_caller_is_answered() {
    // The stall comes first, or the call does.
    for stalls_after in [Duration::ZERO, 2 * S] {
        let node = node(1);
        let a = full_at_1(&node, "a");
        mixed(&node, &a, &a, stalls_after);
    }
}

#[test]
fn a_call_to_one_that_is_stalled_for_room_at_a_neighbour_of_the_caller_is_answered() {
    for stalls_after in [Duration::ZERO, 2 * S] {
        let node = node(1);
        let both = node.driver("both").unwrap();
        let one = MailboxOptions::bounded(1);
        let a = both.spawn_with("a", one, Peer).unwrap();
        let one = MailboxOptions::bounded(1);
        let neighbour = both.spawn_with("neighbour", one, Peer).unwrap();
        mixed(&node, &a, &neighbour, stalls_after);
    }
}

#[test]
fn a_call_whose_handler_has_flooded_one_that_waits_for_it_is_answered() {
    let node = node(1);
    let (a, b, c) = (own(&node, "a"), full_at_1(&node, "b"), own(&node, "c"));
    let (before, found) = (node.now(), Found::default());
    // `b` waits for `a`, which has sent it more than it has room for and calls `c`.
    let (to_b, to_c, note) = (b.clone(), c.clone(), found.clone());
    let calls_a = call_along(&[&a], &found);
    a.send(work(move |_| {
        to_b.send(calls_a).unwrap();
        for _ in 0..3 {
            to_b.send(answer(0)).unwrap();
        }
        note.note_result(&ask(&to_c, answer(5)));
        Ok(0)
    }))
    .unwrap();
    node.settle();
    assert_eq!(found.take(), ["5", "7"]);
    assert_eq!(b.snapshot().handled, 4);
    assert_eq!(node.now(), before);
}

/// A place is kept for whom it was given to. Its thread could not use it while a neighbour blocked there, and the neighbour
/// waited for room behind it: both until their limits.
#[test]
fn a_place_given_to_a_stalled_neighbour_is_used_while_its_thread_blocks() {
    let node = node(1);
    let sink = full_at_1(&node, "sink");
    let both = node.driver("both").unwrap();
    let [a, neighbour] = ["a", "neighbour"].map(|name| both.spawn(name, Peer).unwrap());
    let (before, found) = (node.now(), Found::default());
    let takes_long = work(|cx| {
        busy(cx, S);
        Ok(0)
    });
    sink.send(takes_long).unwrap();
    node.settle();
    sink.send(answer(0)).unwrap();
    neighbour.send(floods(&sink, 1, Duration::ZERO)).unwrap();
    node.settle();
    assert!(neighbour.snapshot().stalled);
    a.send(call_along(&[&sink], &found)).unwrap();
    node.advance(S);
    assert_eq!(found.take(), ["7"]);
    assert_eq!(sink.snapshot().handled, 4);
    assert!(!neighbour.snapshot().stalled);
    assert_eq!(node.now() - before, S);
}

#[test]
fn the_example_is_refused_once_and_goes_on() {
    let example = examples::example("deadlock");
    let output = std::process::Command::new(example).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    // Which of the two is last to wait is chance.
    let circles = ["ann -> bob -> ann", "bob -> ann -> bob"].map(never);
    let refused = circles.iter().map(|circle| output.matches(circle).count());
    assert_eq!(refused.sum::<usize>(), 1, "{output}");
    assert!(output.ends_with("ann signs, so bob signs\n"), "{output}");
}

// ---- at random

/// Splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn from_environment(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

fn each_seed(count: u64, run: impl Fn(u64)) {
    match from_environment("MPROC_SEED") {
        Some(seed) => run(seed),
        None => (0..from_environment("MPROC_SEEDS").unwrap_or(count)).for_each(run),
    }
}

/// One that calls others, and whoever handles a call calls others again.
struct Caller(Arc<Program>, usize);

struct Program {
    callers: Mutex<Vec<Address<Caller>>>,
    /// Of each, its driver; equal ones are one thread.
    drivers: Vec<usize>,
    /// Calls go to later drivers only: there is no circle.
    ordered: bool,
    /// There are messages beside the calls, which stall their senders.
    sends: bool,
    random: Mutex<Random>,
    /// Who waits for whose answer now.
    waits: Mutex<BTreeMap<usize, usize>>,
    refused: AtomicUsize,
}

/// A call, or a message, after which `depth` more may follow. `from`: who waits for the answer.
struct Round {
    depth: u32,
    from: Option<usize>,
}

impl Program {
    fn pick(&self, from: usize) -> Option<usize> {
        let fits = |to: &usize| !self.ordered || self.drivers[*to] > self.drivers[from];
        let whom: Vec<_> = (0..self.drivers.len()).filter(fits).collect();
        let len = whom.len() as u64;
        (len > 0).then(|| whom[self.random.lock().unwrap().below(len) as usize])
    }

    fn one_in(&self, n: u64) -> bool {
        self.random.lock().unwrap().one_in(n)
    }

    fn address(&self, n: usize) -> Address<Caller> {
        self.callers.lock().unwrap()[n].clone()
    }

    /// Each name in the circle waits for the next.
    fn is_circle(&self, names: &[mproc::Name], caller: usize) -> bool {
        let numbers: Vec<usize> = names.iter().map(|n| n.as_str().parse().unwrap()).collect();
        let waits = self.waits.lock().unwrap();
        let next = |i: usize| numbers[(i + 1) % numbers.len()];
        numbers.contains(&caller)
            && (0..numbers.len()).all(|i| {
                let (from, to) = (numbers[i], next(i));
                let on_one_thread = self.drivers[from] == self.drivers[to];
                waits.get(&from) == Some(&to) || (on_one_thread && waits.contains_key(&to))
            })
    }
}

impl Caller {
    fn call(&self, to: usize, depth: u32) {
        let Self(program, me) = self;
        program.waits.lock().unwrap().insert(*me, to);
        let round = Round {
            depth,
            from: Some(*me),
        };
        let result = program.address(to).call(round).wait();
        match result {
            Ok(()) => {}
            Err(CallError::Deadlock(names)) => {
                assert!(program.is_circle(&names, *me), "{me}: {names:?}");
                program.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => panic!("{me} -> {to}: {error}"),
        }
        program.waits.lock().unwrap().remove(me);
    }
}

impl Processor for Caller {
    fn on_panic(&mut self, message: &str) -> mproc::AfterPanic {
        eprintln!("{message}");
        std::process::exit(101);
    }
}

impl Handle<Round> for Caller {
    type Reply = ();
    fn handle(&mut self, round: Round, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let program = self.0.clone();
        if round.depth == 0 {
            return Ok(());
        }
        let depth = round.depth - 1;
        for _ in 0..2 {
            if program.sends
                && program.one_in(3)
                && let Some(to) = program.pick(self.1)
            {
                program.address(to).send(Round { depth, from: None })?;
            }
            if let Some(to) = program.pick(self.1)
                && !program.one_in(4)
            {
                self.call(to, depth);
            }
        }
        if let Some(from) = round.from
            && program.one_in(4)
            && let Some(to) = program.pick(self.1)
        {
            // From now on, whoever waits for the answer waits for this one.
            program.waits.lock().unwrap().insert(from, to);
            let round = Round {
                depth,
                from: Some(from),
            };
            return cx.forward(&program.address(to), round);
        }
        Ok(())
    }
}

/// Runs one program. Returns how many calls were refused. Mailboxes have up to `capacities` places; 0: very many.
fn run(seed: u64, ordered: bool, sends: bool, capacities: u64) -> usize {
    let node = node(seed);
    let mut random = Random(seed);
    let count = 2 + random.below(6) as usize;
    let mut shared: Vec<(usize, Driver)> = Vec::new();
    let mut places = Vec::new();
    let pool = node.pool("pool", 1 + random.below(2) as usize).unwrap();
    for n in 0..count {
        let driver = if random.one_in(2) {
            None
        } else if random.one_in(2) && !shared.is_empty() {
            Some(shared[random.below(shared.len() as u64) as usize].clone())
        } else {
            let driver = node.driver(&format!("driver {n}")).unwrap();
            shared.push((100 + n, driver));
            shared.last().cloned()
        };
        places.push(driver);
    }
    let drivers = places.iter().enumerate();
    let drivers = drivers.map(|(n, place)| place.as_ref().map_or(n, |(number, _)| *number));
    let program = Arc::new(Program {
        callers: Mutex::default(),
        drivers: drivers.collect(),
        ordered,
        sends,
        random: Mutex::new(Random(seed + 1)),
        waits: Mutex::default(),
        refused: AtomicUsize::new(0),
    });
    for (n, place) in places.iter().enumerate() {
        let caller = Caller(program.clone(), n);
        let options = match capacities {
            0 => MailboxOptions::default(),
            bound => MailboxOptions::bounded(1 + random.below(bound) as usize),
        };
        let name = n.to_string();
        let address = match place {
            // On a pool each is a domain of its own, as on a thread of its own.
            None if random.one_in(2) => pool.spawn_with(&name, options, caller).unwrap(),
            None => node.spawn_thread_with(&name, options, caller).unwrap(),
            Some((_, driver)) => driver.spawn_with(&name, options, caller).unwrap(),
        };
        program.callers.lock().unwrap().push(address);
    }
    let before = node.now();
    for _ in 0..2 {
        for n in 0..count {
            let round = Round {
                depth: 2,
                from: None,
            };
            program.address(n).send(round).unwrap();
        }
    }
    node.settle();
    assert_eq!(node.now(), before, "seed {seed}: a limit ended something");
    for n in 0..count {
        let snapshot = program.address(n).snapshot();
        let idle = snapshot.queued == 0 && snapshot.handling_ns.is_none() && !snapshot.stalled;
        assert!(idle, "seed {seed}: {snapshot:?}");
        assert_eq!(snapshot.faults, 0, "seed {seed}");
    }
    assert_eq!(node.dead_letters().count(), 0, "seed {seed}");
    program.callers.lock().unwrap().clear();
    program.refused.load(Ordering::Relaxed)
}

#[test]
fn calls_that_form_no_circle_are_never_refused() {
    each_seed(2_000, |seed| {
        assert_eq!(run(seed, true, true, seed % 4), 0, "seed {seed}");
    });
}

#[test]
fn every_wait_in_a_random_circle_ends_with_an_answer_or_with_names_that_are_one() {
    let refused = AtomicUsize::new(0);
    each_seed(2_000, |seed| {
        let more = run(seed, false, seed % 2 == 0, seed / 2 % 4);
        refused.fetch_add(more, Ordering::Relaxed);
    });
    if from_environment("MPROC_SEED").is_none() {
        assert!(refused.into_inner() > 0, "there were no circles at all");
    }
}

/// Two stalled ones in a circle, whose mailboxes are full of places that others hold. Neither has a message to handle, and they
/// told each other that they may, again and again, without an end.
#[test]
fn a_circle_in_which_nobody_has_a_message_sleeps_until_one_comes() {
    for seed in 0..20 {
        let node = Node::simulated_with(seed, Options::default());
        let pool = node.pool("pool", 1 + seed as usize % 2).unwrap();
        let full = MailboxOptions::bounded(1);
        let a = pool.spawn_with("a", full, Peer).unwrap();
        let b = pool.spawn_with("b", full, Peer).unwrap();
        let permits = [&a, &b].map(|peer| peer.reserve().wait().unwrap());
        for (from, to) in [(&a, b.clone()), (&b, a.clone())] {
            from.with_processor(move |_, _| to.send(answer(1)).unwrap())
                .unwrap();
        }
        node.settle();
        assert_eq!((a.snapshot().outbox, b.snapshot().outbox), (1, 1));
        for permit in permits {
            permit.send(answer(2)).unwrap();
        }
        node.settle();
        for peer in [&a, &b] {
            let snapshot = peer.snapshot();
            assert_eq!((snapshot.outbox, snapshot.handled), (0, 2));
        }
    }
}
