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
fn shutdown_names_a_handler_that_outlives_the_limit() {
    let node = Node::with_options(Options::default());
    let (release, blocked) = std::sync::mpsc::channel::<()>();
    let stuck = closure(move |(): (), _cx| {
        let _released = blocked.recv();
    });
    let stuck = node.spawn_thread("stuck", stuck).unwrap();
    node.spawn_thread("fine", nothing()).unwrap();
    stuck.send(()).unwrap();
    let report = node.shutdown(Duration::from_millis(200));
    let names: Vec<_> = report.left.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["stuck"]);
    assert!(report.left[0].handling.is_some());
    assert!(!report.is_clean());
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

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, mproc::Options::default())
}
