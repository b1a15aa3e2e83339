//! What processors promise: one message at a time, names, calls, faults, timers, ends.

use mproc::prelude::*;
use mproc::{
    AfterPanic, CallError, Closure, DropCause, Error, ErrorKind, Exit, Fault, Options, ReplyToken,
    SpawnError, Tick, TimerId, local_closure,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const S: Duration = Duration::from_secs(1);

type Log<T> = Arc<Mutex<Vec<T>>>;

fn log<T>() -> (Log<T>, Log<T>) {
    let log = Log::default();
    (log.clone(), log)
}

fn taken<T>(log: &Log<T>) -> Vec<T> {
    std::mem::take(&mut log.lock().unwrap())
}

/// Keeps the thread of a handler, in virtual time.
fn busy<P: Processor, R: 'static>(cx: &Cx<'_, P, R>, time: Duration) {
    let node = cx.runtime();
    let until = node.now() + time;
    while node.now() < until {
        node.park(Some(until));
    }
}

fn nothing() -> Closure<u32, ()> {
    closure(|_: u32, _cx| ())
}

#[test]
fn messages_are_handled_one_at_a_time_and_in_the_order_of_each_sender() {
    for seed in 0..20 {
        let node = Node::simulated(seed);
        let inside = AtomicU64::new(0);
        let (seen, add) = log();
        let sink = closure(move |m: (u32, u32), cx| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            busy(cx, Duration::from_millis(1));
            inside.fetch_sub(1, Ordering::SeqCst);
            add.lock().unwrap().push(m);
        });
        let sink = node
            .spawn_thread_with("sink", MailboxOptions::bounded(2), sink)
            .unwrap();
        for source in 0..3 {
            let to = sink.clone();
            let send = closure(move |n: u32, _cx| to.send((source, n)).unwrap());
            let source = node
                .spawn_thread(&format!("source {source}"), send)
                .unwrap();
            (0..20).for_each(|n| source.send(n).unwrap());
        }
        node.advance(S);
        let seen = taken(&seen);
        for source in 0..3 {
            let of: Vec<_> = seen.iter().filter(|m| m.0 == source).map(|m| m.1).collect();
            assert_eq!(of, (0..20).collect::<Vec<_>>(), "seed {seed}");
        }
    }
}

#[test]
fn a_name_is_unique_and_free_again_after_the_end_and_ids_are_never_reused() {
    let node = Node::simulated(1);
    let first = node.spawn_thread("a", nothing()).unwrap();
    let taken = node.spawn_thread("a", nothing()).unwrap_err();
    assert!(matches!(&taken, SpawnError::NameTaken(n) if n.as_str() == "a"));
    assert_eq!(node.driver("a").unwrap_err().kind(), ErrorKind::NameTaken);
    first.stop();
    node.settle();
    assert_eq!(
        node.lookup::<Closure<u32, ()>>("a").unwrap_err().kind(),
        ErrorKind::NotFound
    );
    let second = node.spawn_thread("a", nothing()).unwrap();
    assert!(second.id() > first.id());
    assert_eq!(node.lookup::<Closure<u32, ()>>("a").unwrap(), second);
}

#[test]
fn a_look_up_with_the_wrong_type_names_both() {
    let node = Node::simulated(1);
    node.spawn_thread("a", nothing()).unwrap();
    let error = node.lookup::<Closure<String, ()>>("a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TypeConflict);
    let text = error.to_string();
    assert!(
        text.contains("Closure<u32") && text.contains("String"),
        "{text}"
    );
}

#[test]
fn a_bad_name_or_capacity_is_refused_and_the_error_says_why() {
    let node = Node::simulated(1);
    let long = "x".repeat(256);
    for (name, problem) in [("", "empty"), (&*long, "256 bytes"), ("a\nb", "byte 1")] {
        let error = node.spawn_thread(name, nothing()).unwrap_err();
        assert!(matches!(error, SpawnError::Name(_)));
        assert!(error.to_string().contains(problem), "{error}");
        let error = node.driver(name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidName);
        assert!(error.to_string().contains(problem), "{error}");
    }
    let error = node
        .spawn_thread_with("a", MailboxOptions::bounded(0), nothing())
        .unwrap_err();
    assert!(matches!(error, SpawnError::Capacity(_, 0)), "{error}");
    // `Disconnect` silently became `Fail`, and `Latest` a capacity of 1.
    for policy in [WhenFull::Latest, WhenFull::Disconnect] {
        let options = MailboxOptions::bounded(8).when_full(policy);
        let error = node.spawn_thread_with("a", options, nothing()).unwrap_err();
        assert!(matches!(error, SpawnError::Policy(_, p) if p == policy));
        let text =
            format!("cannot spawn \"a\": `{policy:?}` is for subscriptions, not for mailboxes");
        assert_eq!(error.to_string(), text);
        assert_eq!(Error::from(error).kind(), ErrorKind::InvalidSetting);
    }
    assert!(Options::default().capacity(0).is_err());
    node.spawn_thread("a", nothing()).unwrap();
}

#[test]
fn a_call_gets_its_reply_now_later_or_from_whom_it_was_forwarded_to() {
    let node = roomy(1);
    let double = closure(|n: u32, _cx| Ok::<_, Fault>(2 * n));
    let double = node.spawn_thread("double", double).unwrap();
    assert_eq!(double.call(4).wait().unwrap(), 8);
    let to = double.clone();
    let front = closure(move |n: u32, cx: &mut Cx<'_, _, u32>| cx.forward(&to, n));
    let front = node.spawn_thread("front", front).unwrap();
    assert_eq!(front.call(5).wait().unwrap(), 10);
    let (kept, keep) = log::<ReplyToken<u32>>();
    let later = closure(move |(): (), cx: &mut Cx<'_, _, u32>| {
        cx.reply_later(|token| keep.lock().unwrap().push(token))
    });
    let later = node.spawn_thread("later", later).unwrap();
    let mut one = later.call(());
    let mut two = later.call(());
    one.begin();
    two.begin();
    node.settle();
    let mut tokens = taken(&kept).into_iter();
    tokens.next().unwrap().send(7);
    drop(tokens);
    assert_eq!(one.wait().unwrap(), 7);
    assert!(matches!(two.wait(), Err(CallError::NoReply)));
    double.stop();
    node.settle();
    assert!(matches!(
        double.call(1).wait(),
        Err(CallError::Stopped(Exit::Stopped))
    ));
    assert!(matches!(
        front.call(1).wait(),
        Err(CallError::Stopped(Exit::Stopped))
    ));
}

#[test]
fn a_call_ends_at_its_limit_and_takes_a_queued_message_back() {
    let node = roomy(1);
    let slow = closure(|n: u64, cx: &mut Cx<'_, _>| busy(cx, n as u32 * S));
    let slow = node.spawn_thread("slow", slow).unwrap();
    slow.send(60).unwrap();
    let before = node.now();
    assert!(matches!(slow.call(1).wait(), Err(CallError::Timeout)));
    assert_eq!(node.now() - before, 5 * S);
    assert!(matches!(
        slow.call(1).wait_timeout(2 * S),
        Err(CallError::Timeout)
    ));
    assert_eq!(node.now() - before, 7 * S);
    node.advance(60 * S);
    assert_eq!(slow.snapshot().handled, 1);
    assert_eq!(slow.snapshot().dropped.by(DropCause::Cancelled), 2);
}

#[derive(Default)]
struct Fragile {
    faults: Log<String>,
    goes_on: bool,
}
impl Processor for Fragile {
    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.faults.lock().unwrap().push(fault.to_string());
    }
    fn on_panic(&mut self, _: &str) -> AfterPanic {
        if self.goes_on {
            AfterPanic::GoOn
        } else {
            AfterPanic::End
        }
    }
}
impl Handle<&'static str> for Fragile {
    type Reply = u32;
    fn handle(&mut self, what: &'static str, _: &mut Cx<'_, Self, u32>) -> Outcome<u32> {
        match what {
            "panic" => panic!("on purpose"),
            "fault" => Err(Fault::new("a fault")),
            _ => Ok(1),
        }
    }
}

struct Watcher(Address<Fragile>, Log<String>);
impl Processor for Watcher {}
impl Handle<()> for Watcher {
    type Reply = ();
    fn handle(&mut self, (): (), cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.watch(&self.0);
        Ok(())
    }
}
impl Handle<Down> for Watcher {
    type Reply = ();
    fn handle(&mut self, down: Down, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.1
            .lock()
            .unwrap()
            .push(format!("{} {}", down.name, down.exit));
        Ok(())
    }
}

#[test]
fn a_panic_ends_its_processor_only_and_caller_and_watchers_are_told_once() {
    let node = Node::simulated(1);
    let both = node.driver("both").unwrap();
    let fragile = both.spawn("fragile", Fragile::default()).unwrap();
    let other = both.spawn("other", Fragile::default()).unwrap();
    let (seen, downs) = log();
    let watcher = both
        .spawn("watcher", Watcher(fragile.clone(), downs))
        .unwrap();
    watcher.send(()).unwrap();
    node.settle();
    assert!(taken(&seen).is_empty());
    match fragile.call("panic").wait() {
        Err(CallError::Panicked(message)) => assert_eq!(&*message, "on purpose"),
        other => panic!("{other:?}"),
    }
    node.settle();
    assert_eq!(taken(&seen), ["fragile panicked: on purpose"]);
    assert_eq!(other.call("").wait().unwrap(), 1);
    // One that is already gone is told of at once, once more.
    watcher.send(()).unwrap();
    node.advance(S);
    assert_eq!(taken(&seen), ["fragile panicked: on purpose"]);
    assert!(matches!(fragile.exit(), Some(Exit::Panicked(_))));
}

#[test]
fn a_panic_can_be_survived_and_a_fault_goes_to_the_caller_and_to_on_error() {
    let node = Node::simulated(1);
    let (faults, add) = log();
    let fragile = Fragile {
        faults: add,
        goes_on: true,
    };
    let fragile = node.spawn_thread("fragile", fragile).unwrap();
    assert!(matches!(
        fragile.call("panic").wait(),
        Err(CallError::Panicked(_))
    ));
    match fragile.call("fault").wait() {
        Err(CallError::Faulted(fault)) => assert_eq!(fault.to_string(), "a fault"),
        other => panic!("{other:?}"),
    }
    fragile.send("fault").unwrap();
    assert_eq!(fragile.call("").wait().unwrap(), 1);
    assert_eq!(taken(&faults), ["a fault", "a fault"]);
    assert_eq!(
        (fragile.snapshot().faults, fragile.snapshot().panics),
        (2, 1)
    );
}

/// A processor that runs closures, with a log of ticks: when due since the start, in ms, and how many were skipped.
struct Clock(Log<(u128, u64)>);
type Task = Box<dyn FnOnce(&mut Cx<'_, Clock, Option<TimerId>>) -> Option<TimerId> + Send>;
impl Processor for Clock {}
impl Handle<Task> for Clock {
    type Reply = Option<TimerId>;
    fn handle(
        &mut self,
        task: Task,
        cx: &mut Cx<'_, Self, Option<TimerId>>,
    ) -> Outcome<Option<TimerId>> {
        Ok(task(cx))
    }
}
impl Handle<(u128, u64)> for Clock {
    type Reply = ();
    fn handle(&mut self, tick: (u128, u64), _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.lock().unwrap().push(tick);
        Ok(())
    }
}

/// A clock with a timer of 10 ms.
fn ticking(node: &Node) -> (Log<(u128, u64)>, Address<Clock>, TimerId) {
    let (ticks, add) = log();
    let clock = node.spawn_thread("clock", Clock(add)).unwrap();
    let start = node.now();
    let timer = on(&clock, move |cx| {
        let tick = move |t: Tick| ((t.due - start).as_millis(), t.skipped);
        Some(cx.every(Duration::from_millis(10), tick))
    });
    (ticks, clock, timer.unwrap())
}

fn on(
    clock: &Address<Clock>,
    task: impl FnOnce(&mut Cx<'_, Clock, Option<TimerId>>) -> Option<TimerId> + Send + 'static,
) -> Option<TimerId> {
    clock.call(Box::new(task) as Task).wait().unwrap()
}

#[test]
fn a_timer_keeps_its_grid_and_an_overrun_gives_one_tick_that_says_how_many_were_skipped() {
    let node = Node::simulated(1);
    let (ticks, clock, _) = ticking(&node);
    let ms = Duration::from_millis;
    node.advance(ms(35));
    assert_eq!(taken(&ticks), [(10, 0), (20, 0), (30, 0)]);
    on(&clock, move |cx| {
        busy(cx, ms(100));
        None
    });
    node.advance(ms(20));
    assert_eq!(taken(&ticks), [(130, 9), (140, 0), (150, 0)]);
}

#[test]
fn a_timer_cancelled_after_it_was_due_is_never_seen() {
    let node = Node::simulated(1);
    let (ticks, clock, timer) = ticking(&node);
    on(&clock, move |cx| {
        busy(cx, Duration::from_millis(15));
        assert!(cx.cancel(timer));
        assert!(!cx.cancel(timer));
        None
    });
    node.advance(S);
    assert!(taken(&ticks).is_empty());
}

#[test]
fn reset_and_set_period_start_a_timer_afresh() {
    let node = Node::simulated(1);
    let (ticks, clock, timer) = ticking(&node);
    let ms = Duration::from_millis;
    node.advance(ms(5));
    on(&clock, move |cx| {
        assert!(cx.reset(timer));
        None
    });
    node.advance(ms(20));
    assert_eq!(taken(&ticks), [(15, 0), (25, 0)]);
    on(&clock, move |cx| {
        assert!(cx.set_period(timer, ms(100)));
        assert_eq!(cx.time_until(timer), Some(ms(100)));
        None
    });
    node.advance(ms(210));
    assert_eq!(taken(&ticks), [(125, 0), (225, 0)]);
}

#[test]
fn stop_and_kill_drop_what_is_queued_as_dead_letters_and_drain_handles_it() {
    for (end, handled, cause) in [
        (Address::stop as fn(&Address<_>), 1, DropCause::Stopped),
        (Address::kill, 1, DropCause::Killed),
        (Address::drain, 3, DropCause::Stopped),
    ] {
        let node = roomy(1);
        let slow = closure(|_: u32, cx: &mut Cx<'_, _>| busy(cx, S));
        let slow: Address<Closure<u32, ()>> = node.spawn_thread("slow", slow).unwrap();
        slow.send(0).unwrap();
        node.settle();
        slow.send(1).unwrap();
        slow.send(2).unwrap();
        end(&slow);
        node.advance(10 * S);
        assert_eq!(slow.snapshot().handled, handled);
        assert_eq!(slow.snapshot().dropped.by(cause), 3 - handled);
        assert!(slow.send(9).is_err());
        let letters = node.dead_letters().take().into_iter();
        let letters: Vec<u32> = letters.map(|l| l.into_message().unwrap()).collect();
        assert_eq!(letters, if handled == 3 { vec![] } else { vec![1, 2] });
        assert!(slow.ended().wait().unwrap().exit.is_orderly());
    }
}

#[test]
fn members_of_a_driver_can_share_what_is_not_send() {
    let node = Node::simulated(1);
    let both = node.driver("both").unwrap();
    let (add, get) = both
        .build(|on| {
            let table = Rc::new(RefCell::new(0));
            let other = table.clone();
            let add = local_closure(move |n: u32, _cx| *table.borrow_mut() += n);
            let get = local_closure(move |(): (), _cx| Ok::<_, Fault>(*other.borrow()));
            Ok((on.spawn("add", add)?, on.spawn("get", get)?))
        })
        .unwrap();
    add.send(3).unwrap();
    add.send(4).unwrap();
    node.settle();
    assert_eq!(get.call(()).wait().unwrap(), 7);
}

#[test]
fn a_driver_in_arrival_order_serves_its_members_in_the_order_of_messages() {
    for seed in 0..20 {
        let node = Node::simulated(seed);
        let both = node.driver("both").unwrap().arrival_order();
        let (seen, add) = log();
        let member = |name: &str| {
            let add = add.clone();
            let member = closure(move |n: u32, _cx| add.lock().unwrap().push(n));
            both.spawn(name, member).unwrap()
        };
        let members = [member("a"), member("b")];
        for n in 0..50 {
            members[(n % 3 % 2) as usize].send(n).unwrap();
        }
        node.settle();
        assert_eq!(taken(&seen), (0..50).collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn the_high_lane_is_served_before_the_normal_one_and_each_keeps_its_order() {
    let node = roomy(1);
    let (seen, add) = log();
    let sink = closure(move |n: u32, _cx| add.lock().unwrap().push(n));
    let sink = node.spawn_thread("sink", sink).unwrap();
    for n in 0..5 {
        sink.send(10 + n).unwrap();
        sink.high().send(n).unwrap();
    }
    node.settle();
    assert_eq!(taken(&seen), [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]);
}

#[test]
fn of_17_messages_at_most_16_are_high_while_the_normal_lane_has_any() {
    for seed in 0..20 {
        for policy in [WhenFull::Wait, WhenFull::Fail, WhenFull::DropOldest] {
            let node = Node::simulated(seed);
            let (seen, add) = log();
            let sink = closure(move |high: bool, _cx| add.lock().unwrap().push(high));
            let options = MailboxOptions::bounded(1000).when_full(policy);
            let sink = node.spawn_thread_with("sink", options, sink).unwrap();
            (0..10).for_each(|_| sink.send(false).unwrap());
            (0..400).for_each(|_| sink.high().send(true).unwrap());
            node.settle();
            let seen = taken(&seen);
            // Exactly: it is never less than 16 to 1 either.
            let normal: Vec<_> = (0..410).filter(|at| !seen[*at]).collect();
            let expected: Vec<_> = (1..=10).map(|n| 17 * n - 1).collect();
            assert_eq!(normal, expected, "seed {seed}, {policy:?}");
        }
    }
}

#[test]
fn a_normal_message_that_comes_during_a_flood_of_high_ones_is_served_after_16_of_them() {
    for seed in 0..20 {
        let node = Node::simulated(seed);
        let (seen, add) = log();
        let sink = closure(move |high: bool, cx: &mut Cx<'_, Closure<bool, ()>>| {
            // The flood feeds itself.
            let mut seen = add.lock().unwrap();
            seen.push(high);
            if high && seen.len() < 500 {
                cx.me().high().send(true)?;
            }
            if seen.len() % 50 == 0 {
                cx.me().send(false)?;
            }
            Ok::<_, mproc::SendError<bool>>(())
        });
        let options = MailboxOptions::bounded(10);
        let sink = node.spawn_thread_with("sink", options, sink).unwrap();
        (0..5).for_each(|_| sink.high().send(true).unwrap());
        node.settle();
        let seen = taken(&seen);
        let normal: Vec<_> = (0..seen.len()).filter(|at| !seen[*at]).collect();
        assert!(normal.len() >= 9, "seed {seed}: {normal:?}");
        for (n, at) in normal.iter().enumerate() {
            let came = 50 * (n + 1);
            assert!((came..=came + 17).contains(at), "seed {seed}: {normal:?}");
        }
    }
}

/// True if of 17 in a row one is normal, for as long as the normal lane has any.
fn is_shared_fairly(high: &[bool]) -> bool {
    let last_normal = high.iter().rposition(|high| !high).unwrap();
    high[..last_normal].windows(17).all(|w| w.contains(&false))
}

/// A processor on a real thread takes many messages per turn. Of a lane that it takes one by one (its policy drops the oldest,
/// or it has one place) it took none while the high lane had any, until the turn ended.
#[test]
fn the_share_of_the_normal_lane_is_kept_within_one_turn_of_a_real_driver() {
    for policy in [WhenFull::Wait, WhenFull::DropOldest] {
        let node = Node::with_options(Options::default());
        let (seen, add) = log();
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        let mut blocked = Some(blocked);
        let sink = closure(move |high: bool, _cx| {
            if let Some(blocked) = blocked.take() {
                let _released = blocked.recv();
            } else {
                add.lock().unwrap().push(high);
            }
        });
        let options = MailboxOptions::bounded(1000).when_full(policy);
        let sink = node.spawn_thread_with("sink", options, sink).unwrap();
        sink.send(false).unwrap();
        (0..10).for_each(|_| sink.send(false).unwrap());
        (0..400).for_each(|_| sink.high().send(true).unwrap());
        drop(release);
        sink.drain();
        sink.ended().wait().unwrap();
        let seen = taken(&seen);
        assert_eq!(seen.len(), 410, "{policy:?}");
        assert!(is_shared_fairly(&seen), "{policy:?}: {seen:?}");
    }
}

#[test]
fn shutdown_names_a_handler_that_outlives_the_limit() {
    let node = Node::with_options(Options::default());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let (inside, is_inside) = std::sync::mpsc::channel();
    let stuck = closure(move |(): (), _cx| {
        inside.send(()).unwrap();
        let _released = blocked.recv();
    });
    let stuck = node.spawn_thread("stuck", stuck).unwrap();
    let fine = node.spawn_thread("fine", nothing()).unwrap();
    stuck.send(()).unwrap();
    is_inside.recv().unwrap();
    // It shall end within the limit of the end, so it runs before.
    fine.call(1).limit(60 * S).wait().unwrap();
    fine.stop();
    fine.ended().wait().unwrap();
    let report = node.shutdown(Duration::from_millis(200));
    let names: Vec<_> = report.left.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["stuck"]);
    assert!(report.left[0].handling.is_some());
    assert!(!report.is_clean());
    assert!(report.took >= Duration::from_millis(200) && report.took < 60 * S);
    drop(release);
    stuck.ended().wait().unwrap();
}

#[test]
fn a_nonsense_capacity_in_the_environment_is_an_error_that_names_it() {
    const CHILD: &str = "MPROC_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let error: Error = Node::new().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSetting);
        assert!(error.to_string().contains("MPROC_CAPACITY"));
        return;
    }
    for nonsense in ["0", "-1", "many", ""] {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_nonsense_capacity_in_the_environment_is_an_error_that_names_it",
            ])
            .env(CHILD, "1")
            .env("MPROC_CAPACITY", nonsense)
            .output()
            .unwrap();
        assert!(child.status.success(), "{nonsense:?}: {child:?}");
    }
}

#[test]
fn shutdown_ends_at_its_limit_though_two_processors_talk_for_ever() {
    // In a real node: virtual time stands still while anybody talks.
    let node = Node::with_options(Options::default());
    let talker = || {
        let mut peer: Option<Address<Talker>> = None;
        Talker(Box::new(move |to| match to {
            Some(to) => peer = Some(to),
            // A peer that has ended is no fault of the talker's.
            None => drop(peer.as_ref().map(|peer| peer.send(None))),
        }))
    };
    let a = node.spawn_thread("a", talker()).unwrap();
    let b = node.spawn_thread("b", talker()).unwrap();
    a.send(Some(b.clone())).unwrap();
    b.send(Some(a.clone())).unwrap();
    a.send(None).unwrap();
    let report = node.shutdown(Duration::from_millis(500));
    assert!(report.took < 60 * S, "{report}");
    for talker in [a, b] {
        talker.ended().wait().unwrap();
    }
}

struct Talker(Box<dyn FnMut(Option<Address<Talker>>) + Send>);
impl Processor for Talker {}
impl Handle<Option<Address<Talker>>> for Talker {
    type Reply = ();
    fn handle(&mut self, to: Option<Address<Self>>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        (self.0)(to);
        Ok(())
    }
}

#[test]
fn a_hundred_started_calls_take_as_long_as_one_and_blocking_ones_their_sum() {
    let node = roomy(1);
    let half = S / 2;
    let later = closure(move |n: u32, cx: &mut Cx<'_, Closure<u32, u32>, u32>| {
        let mut token = None;
        let outcome = cx.reply_later(|t| token = Some(t));
        cx.after_with(half, move |_, _| token.unwrap().send(n));
        outcome
    });
    let later = node.spawn_thread("later", later).unwrap();
    let before = node.now();
    let mut calls: Vec<_> = (0..100).map(|n| later.call(n)).collect();
    calls.iter_mut().for_each(|call| call.begin());
    let replies: Vec<_> = calls.into_iter().map(|c| c.wait().unwrap()).collect();
    assert_eq!(replies, (0..100).collect::<Vec<_>>());
    assert_eq!(node.now() - before, half);
    for n in 0..10 {
        assert_eq!(later.call(n).wait().unwrap(), n);
    }
    assert_eq!(node.now() - before, half * 11);
}

#[test]
fn a_blocking_call_to_a_neighbour_on_the_same_driver_is_refused_at_once_and_names_both() {
    for begun in [false, true] {
        let node = Node::simulated(1);
        let both = node.driver("both").unwrap();
        let answers = closure(|(): (), _cx| Ok::<_, Fault>(()));
        let answers = both.spawn("answers", answers).unwrap();
        let asks = closure(move |(): (), _cx| {
            let mut call = answers.call(());
            if begun {
                call.begin();
            }
            Ok::<_, Fault>(call.wait().unwrap_err().to_string())
        });
        let asks = both.spawn("asks", asks).unwrap();
        let before = node.now();
        let error = asks.call(()).wait().unwrap();
        assert_eq!(error, "waiting would never end: asks -> answers -> asks");
        assert_eq!(node.now(), before);
    }
}

type Ask = Option<Address<Asker>>;

/// Waits for an answer of whom it is told to ask, and tells what came of it.
struct Asker(Log<Result<(), CallError>>, Ask);
impl Processor for Asker {}
impl Handle<Ask> for Asker {
    type Reply = ();
    fn handle(&mut self, ask: Ask, _: &mut Cx<'_, Self>) -> Outcome<()> {
        match ask {
            Some(_) => self.1 = ask,
            None => {
                let result = self.1.as_ref().unwrap().call(None).wait();
                self.0.lock().unwrap().push(result);
            }
        }
        Ok(())
    }
}

#[test]
fn blocking_calls_in_a_circle_over_two_or_three_drivers_end() {
    for (count, seed) in [(2, 0), (2, 1), (3, 0), (3, 1)] {
        let node = roomy(seed);
        let (results, add) = log();
        let askers: Vec<_> = (0..count)
            .map(|n| {
                let asker = Asker(add.clone(), None);
                node.spawn_thread(&format!("asker {n}"), asker).unwrap()
            })
            .collect();
        for n in 0..count {
            let next = askers[(n + 1) % count].clone();
            askers[n].send(Some(next)).unwrap();
        }
        node.settle();
        // All at once: each waits for the next.
        askers.iter().for_each(|asker| asker.send(None).unwrap());
        node.advance(60 * S);
        let results = taken(&results);
        // Each asks when it is told to, and again for whoever asked it and had not given up.
        assert!(results.len() >= count, "{results:?}");
        let failed = results.iter().filter(|r| {
            let error = r.as_ref().err();
            error.is_some_and(|e| matches!(e, CallError::Timeout | CallError::Deadlock(_)))
        });
        assert!(failed.count() > 0, "{results:?}");
        for asker in &askers {
            assert_eq!(asker.snapshot().queued, 0);
            assert_eq!(asker.snapshot().handling_ns, None);
        }
    }
}

/// A very small executor: a thread that sleeps until its future is woken. Fails instead of hanging.
fn run_alone<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut future = std::pin::pin!(future);
    let until = Instant::now() + 20 * S;
    loop {
        let mut cx = std::task::Context::from_waker(&waker);
        match future.as_mut().poll(&mut cx) {
            std::task::Poll::Ready(result) => return result,
            std::task::Poll::Pending => std::thread::park_timeout(20 * S),
        }
        assert!(Instant::now() < until, "nobody woke the future");
    }
}

#[test]
fn one_address_works_from_several_executors_and_from_a_plain_thread() {
    // Nothing may be helped on by its limit.
    let node = Node::with_options(Options::default().call_limit(60 * S));
    let double = closure(|n: u32, _cx| Ok::<_, Fault>(2 * n));
    let double = node.spawn_thread("double", double).unwrap();
    for n in 0..3 {
        let to = double.clone();
        let executor = std::thread::spawn(move || {
            run_alone(async move {
                let permit = to.reserve().await.unwrap();
                permit.send(0).unwrap();
                let first = to.call(n).await.unwrap();
                first + to.call(first).await.unwrap()
            })
        });
        assert_eq!(executor.join().unwrap(), 6 * n);
        assert_eq!(double.call(n).wait().unwrap(), 2 * n);
    }
    // An operation may move, too: begun on one thread, awaited on another.
    let mut call = double.call(21);
    call.begin();
    let moved = std::thread::spawn(move || run_alone(call).unwrap());
    assert_eq!(moved.join().unwrap(), 42);
}

#[test]
fn an_awaited_call_ends_at_its_limit() {
    let node = Node::with_options(Options::default());
    let never = closure(|(): (), cx: &mut Cx<'_, _, ()>| {
        cx.reply_later(std::mem::forget::<ReplyToken<()>>)
    });
    let never = node.spawn_thread("never", never).unwrap();
    let call = never.call(()).limit(Duration::from_millis(20));
    assert!(matches!(run_alone(call), Err(CallError::Timeout)));
}

#[test]
fn a_panic_and_a_fault_are_told_on_standard_error_with_the_name_and_the_message() {
    const NAME: &str =
        "a_panic_and_a_fault_are_told_on_standard_error_with_the_name_and_the_message";
    const CHILD: &str = "MPROC_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let node = Node::simulated(1);
        let fragile = Fragile {
            goes_on: true,
            ..Fragile::default()
        };
        let fragile = node.spawn_thread("fragile", fragile).unwrap();
        fragile.send("panic").unwrap();
        fragile.send("fault").unwrap();
        node.settle();
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args([NAME, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{child:?}");
    let told = String::from_utf8(child.stderr).unwrap();
    for line in [
        "mproc: processor \"fragile\" panicked while handling &str: on purpose",
        "mproc: processor \"fragile\" failed while handling &str: a fault",
    ] {
        assert_eq!(told.lines().filter(|l| *l == line).count(), 1, "{told}");
    }
}

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, mproc::Options::default())
}

/// Whatever a driver does when it is idle, it handles what comes and what is due, and ends with its node.
#[test]
fn a_driver_is_served_alike_whether_it_spins_or_sleeps_when_idle() {
    for idle in [
        mproc::Idle::SpinThenPark,
        mproc::Idle::Park,
        mproc::Idle::Spin,
    ] {
        let node = Node::with_options(Options::default().idle(idle));
        let (tell, told) = std::sync::mpsc::channel();
        let address = node
            .spawn_thread(
                "timed",
                closure(move |n: u32, cx: &mut Cx<'_, _>| {
                    let tell = tell.clone();
                    cx.after_with(Duration::from_millis(1), move |_, _| {
                        tell.send(n).expect("the test waits");
                    });
                }),
            )
            .unwrap();
        for n in 0..3 {
            address.send(n).unwrap();
            assert_eq!(
                told.recv_timeout(Duration::from_secs(20)),
                Ok(n),
                "{idle:?}"
            );
        }
        let report = node.shutdown(Duration::from_secs(20));
        assert!(report.left.is_empty(), "{idle:?}: {report:?}");
    }
}
