//! Scripts, from outside: spinning, timers, ends and refusals.

use mproc::prelude::*;
use mproc::{
    CallError, Closure, ErrorKind, Fault, OnFault, PublishError, PublisherOptions, Spun, Topics,
    local_closure,
};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

const NUMBERS: Topic<u32> = Topic::new("numbers");
const SECOND: Duration = Duration::from_secs(1);

/// A script that keeps the numbers it hears, and a publisher of them.
fn listener() -> (Script<Vec<u32>>, Publisher<u32>) {
    let mut script = roomy(1).script().unwrap().with(Vec::new());
    script.on(&NUMBERS, |seen, n, _| seen.push(*n)).unwrap();
    let numbers = script.publisher(&NUMBERS).unwrap();
    (script, numbers)
}

fn seen(script: &mut Script<Vec<u32>>) -> Vec<u32> {
    script.state(|seen| seen.clone()).unwrap()
}

#[test]
fn spin_once_runs_exactly_one_step() {
    let (mut script, numbers) = listener();
    assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
    (0..3).for_each(|n| drop(numbers.publish(n).unwrap()));
    for count in 1..=3 {
        assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Ran);
        assert_eq!(seen(&mut script).len(), count);
    }
    let before = script.now();
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Idle);
    assert_eq!(script.now() - before, SECOND);
}

#[test]
fn spin_some_runs_exactly_its_budget_and_discards_nothing() {
    let (mut script, numbers) = listener();
    (0..10).for_each(|n| drop(numbers.publish(n).unwrap()));
    let mut all = 0;
    for (budget, ran) in [(0, 0), (1, 1), (3, 3), (0, 0), (100, 6), (5, 0)] {
        assert_eq!(script.spin_some(budget).unwrap().handled, ran);
        all += ran as u32;
        assert_eq!(seen(&mut script), (0..all).collect::<Vec<_>>());
    }
}

#[test]
fn spin_some_counts_what_callbacks_queue_themselves() {
    let mut script = Node::simulated(1).script().unwrap().with(0_u32);
    script
        .on(&NUMBERS, |count, n, cx| {
            *count += 1;
            cx.publish(&NUMBERS, *n + 1).map(drop)
        })
        .unwrap();
    let numbers = script.publisher(&NUMBERS).unwrap();
    numbers.publish(0).unwrap();
    assert_eq!(script.spin_some(7).unwrap().handled, 7);
    assert_eq!(script.state(|count| *count).unwrap(), 7);
}

#[test]
fn timers_fire_when_due_and_cancelled_ones_never() {
    let mut script = roomy(1).script().unwrap().with(Vec::new());
    script.every(SECOND, |seen, _| seen.push(1)).unwrap();
    script
        .after(SECOND * 3 / 2, |seen, _| seen.push(2))
        .unwrap();
    let never = script.after(SECOND, |seen, _| seen.push(3)).unwrap();
    assert!(script.cancel(never).unwrap());
    assert!(!script.cancel(never).unwrap());
    script
        .after(SECOND * 7 / 2, |_, cx| cx.runtime().request_shutdown())
        .unwrap();
    let state = Rc::new(RefCell::new(Vec::new()));
    let kept = state.clone();
    script
        .after(SECOND * 13 / 4, move |seen: &mut Vec<u32>, _| {
            kept.borrow_mut().clone_from(seen);
        })
        .unwrap();
    script.spin().unwrap();
    assert_eq!(*state.borrow(), [1, 2, 1, 1]);
}

#[test]
fn spin_until_runs_callbacks_until_the_operation_is_done() {
    let (mut script, numbers) = listener();
    let worker = closure(|n: u32, _| Ok::<_, Fault>(n * 2));
    let worker = script.spawn("worker", worker).unwrap();
    numbers.publish(7).unwrap();
    let mut call = worker.call(4);
    let error = script.spin_until(&mut call, Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(seen(&mut script), []);
    assert_eq!(script.spin_until(&mut call, SECOND).unwrap(), 8);
}

#[test]
fn an_operation_that_is_not_done_in_time_says_so_with_the_limit_and_can_be_waited_for_again() {
    let mut script = Node::simulated(1).script().unwrap();
    let slow = closure(|(): (), cx: &mut Cx<'_, Closure<(), u32>, u32>| {
        let mut token = None;
        let later = cx.reply_later(|t| token = Some(t));
        cx.after_with(SECOND, move |_, _| token.unwrap().send(7));
        later
    });
    let slow = script.spawn("slow", slow).unwrap();
    let mut call = slow.call(());
    let before = script.now();
    for limit in [Duration::from_millis(250), Duration::from_millis(500)] {
        let error = script.spin_until(&mut call, limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let text = error.to_string();
        assert_eq!(text, format!("the operation was not done after {limit:?}"));
    }
    assert_eq!(script.now() - before, SECOND * 3 / 4);
    assert_eq!(script.spin_until(&mut call, SECOND).unwrap(), 7);
    assert_eq!(script.now() - before, SECOND);
}

#[test]
fn spin_until_returns_when_another_thread_is_done_and_zero_does_not_wait() {
    for limit in [Duration::MAX, SECOND * 60] {
        let mut script = Node::simulated(1).script().unwrap();
        let worker = closure(|n: u32, cx: &mut Cx<'_, _, u32>| {
            let node = cx.runtime();
            let until = node.now() + SECOND;
            while node.now() < until {
                node.park(Some(until));
            }
            Ok::<_, Fault>(n * 2)
        });
        let worker = script.spawn_thread("worker", worker).unwrap();
        let mut call = worker.call(4);
        call.begin();
        let before = script.now();
        let error = script.spin_until(&mut call, Duration::ZERO).unwrap_err();
        assert_eq!((error.kind(), script.now()), (ErrorKind::Timeout, before));
        assert_eq!(script.spin_until(&mut call, limit).unwrap(), 8);
        assert_eq!(script.now() - before, SECOND);
    }
}

/// What another thread adds to a processor of the script, while the script sleeps in `spin_once`.
type Addition = fn(&mut Cx<'_, Closure<u32, ()>>, &Arc<AtomicBool>);

#[test]
fn a_blocked_spin_once_notices_what_another_thread_adds() {
    let timer: Addition = |cx, ran| {
        let ran = ran.clone();
        cx.after_with(SECOND, move |_, _| ran.store(true, Ordering::SeqCst));
    };
    let subscription: Addition = |cx, ran| {
        let ran = ran.clone();
        cx.subscribe(&NUMBERS)
            .call(move |_, _, _| {
                ran.store(true, Ordering::SeqCst);
                Ok(())
            })
            .unwrap();
    };
    for (add, later) in [(timer, SECOND), (subscription, Duration::ZERO)] {
        let mut script = Node::simulated(1).script().unwrap();
        let ran = Arc::new(AtomicBool::new(false));
        let member = script.spawn("member", closure(|_: u32, _| ())).unwrap();
        assert_eq!(script.spin_once(Duration::ZERO).unwrap(), Spun::Idle);
        let (to, flag) = (member.clone(), ran.clone());
        let other = closure(move |(): (), cx: &mut Cx<'_, _>| {
            let flag = flag.clone();
            to.with_processor(move |_, cx| add(cx, &flag)).unwrap();
            // Room is not the point: the script takes it up while this waits.
            let node = Node::from(&*cx);
            let numbers = node.publisher(&NUMBERS)?;
            numbers.wait_for_subscribers(1, SECOND / 2).ok();
            numbers.publish(1).map(drop)?;
            Ok::<_, Fault>(())
        });
        let other = script.spawn_thread("other", other).unwrap();
        let before = script.now();
        let start = closure(move |(): (), _| other.send(()));
        let start = script.spawn_thread("start", start).unwrap();
        start.send(()).unwrap();
        // The addition itself, then what was added.
        assert_eq!(script.spin_once(SECOND * 60).unwrap(), Spun::Ran);
        assert!(!ran.load(Ordering::SeqCst));
        assert_eq!(script.spin_once(SECOND * 60).unwrap(), Spun::Ran);
        assert!(ran.load(Ordering::SeqCst));
        assert_eq!(script.now() - before, later);
    }
}

#[test]
fn a_handler_that_goes_on_later_needs_another_spin_once() {
    let mut script = Node::simulated(1).script().unwrap();
    let log = Rc::new(RefCell::new(Vec::new()));
    let answers = closure(|(): (), _| Ok::<_, Fault>(5_u32));
    let answers = script.spawn_thread("answers", answers).unwrap();
    let seen = log.clone();
    let asks = local_closure(move |(): (), cx: &mut Cx<'_, _>| {
        seen.borrow_mut().push(0);
        let seen = seen.clone();
        answers.call(()).then_local(cx, move |_, n, _| {
            seen.borrow_mut().push(n?);
            Ok(())
        });
    });
    let asks = script.spawn("asks", asks).unwrap();
    asks.send(()).unwrap();
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Ran);
    assert_eq!(*log.borrow(), [0]);
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Ran);
    assert_eq!(*log.borrow(), [0, 5]);
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Idle);
}

#[test]
fn a_panic_does_not_stop_the_following_callbacks_however_they_are_reached() {
    let mut script = roomy(1).script().unwrap().with(Vec::new());
    script
        .every(SECOND, |seen: &mut Vec<u32>, _| {
            seen.push(1);
            assert_ne!(seen.len(), 1, "wanted");
        })
        .unwrap();
    script
        .after(SECOND, |_: &mut Vec<u32>, _| -> () { panic!("wanted") })
        .unwrap();
    script
        .after(SECOND, |seen: &mut Vec<u32>, cx| {
            seen.push(2);
            // A continuation.
            let me = cx.me();
            me.ended()
                .limit(SECOND)
                .then(cx, |_, _, _| panic!("wanted"));
        })
        .unwrap();
    script
        .after(SECOND * 5 / 2, |seen: &mut Vec<u32>, _| seen.push(3))
        .unwrap();
    while script.spin_once(SECOND).unwrap() == Spun::Ran && script.state(|s| s.len()).unwrap() < 5 {
    }
    assert_eq!(seen(&mut script), [1, 2, 1, 3, 1]);
}

#[test]
fn what_is_being_spun_can_be_taken_down_from_inside_and_again_outside() {
    let mut script = roomy(1).script().unwrap().with(0_u32);
    let own = Rc::new(RefCell::new(Vec::new()));
    let numbers = script.publisher(&NUMBERS).unwrap();
    let inside = (own.clone(), RefCell::new(Some(numbers.clone())));
    let member = script.spawn("member", closure(|(): (), _| ())).unwrap();
    let ends = member.clone();
    let control = script
        .on(&NUMBERS, move |count, _, cx| {
            *count += 1;
            // Its own subscription, a timer, a publisher, a neighbour: all while they are in use.
            inside
                .0
                .borrow_mut()
                .drain(..)
                .for_each(|(control, timer)| {
                    let control: mproc::Control = control;
                    control.unsubscribe();
                    control.unsubscribe();
                    assert!(cx.cancel(timer));
                    assert!(!cx.cancel(timer));
                });
            inside.1.take();
            ends.kill();
            ends.stop();
        })
        .unwrap();
    let timer = script.every(SECOND, |count, _| *count += 100).unwrap();
    own.borrow_mut().push((control.clone(), timer));
    numbers.publish(1).unwrap();
    while script.spin_once(SECOND * 10).unwrap() == Spun::Ran {}
    assert_eq!(script.state(|count| *count).unwrap(), 1);
    assert_eq!(numbers.publish(2).unwrap().count, 0);
    control.unsubscribe();
    assert!(!script.cancel(timer).unwrap());
    assert!(member.send(()).is_err());
    member.stop();
    let node = script.node().clone();
    assert!(node.shutdown(SECOND).is_clean());
    assert!(node.shutdown(SECOND).is_clean());
    drop(script);
    drop(node);
}

#[test]
fn shutdown_inside_a_callback_ends_spin() {
    let (mut script, numbers) = listener();
    script
        .on(&NUMBERS, |_, _, cx| {
            let report = cx.runtime().shutdown(SECOND);
            assert!(report.only_begun);
        })
        .unwrap();
    numbers.publish(1).unwrap();
    script.spin().unwrap();
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Shutdown);
}

#[test]
fn shutdown_from_another_thread_ends_spin_and_the_timer_never_fires() {
    let node = Node::new().unwrap();
    let mut script = node.script().unwrap();
    let fired = Arc::new(AtomicBool::new(false));
    let fires = fired.clone();
    script
        .every(SECOND * 600, move |(), _| {
            fires.store(true, Ordering::SeqCst)
        })
        .unwrap();
    let began = Instant::now();
    let other = std::thread::spawn(move || node.shutdown(SECOND * 240).is_clean());
    script.spin().unwrap();
    assert!(other.join().unwrap());
    // Half of its limit, or more, if somebody was not told.
    assert!(began.elapsed() < SECOND * 60);
    assert!(!fired.load(Ordering::SeqCst));
}

/// The thread that led the end was not told when the script had become quiet, and looked again after half of the limit.
#[test]
fn shutdown_from_another_thread_takes_no_longer_than_what_is_left_to_do() {
    let node = Node::new().unwrap();
    let mut script = node.script().unwrap();
    let other = std::thread::spawn(move || node.shutdown(SECOND * 240));
    script.spin().unwrap();
    let report = other.join().unwrap();
    assert!(report.is_clean());
    assert!(report.took < SECOND * 60, "{report}");
}

#[test]
fn an_operation_that_the_end_of_the_node_cuts_off_is_not_said_to_have_taken_its_limit() {
    let mut script = Node::simulated(1).script().unwrap();
    let never = closure(|(): (), cx: &mut Cx<'_, Closure<(), ()>, ()>| {
        cx.reply_later(std::mem::forget::<mproc::ReplyToken<()>>)
    });
    let never = script.spawn_thread("never", never).unwrap();
    script
        .after(SECOND, |(), cx| cx.runtime().request_shutdown())
        .unwrap();
    let before = script.now();
    let mut call = never.call(());
    let error = script.spin_until(&mut call, SECOND * 60).unwrap_err();
    assert_eq!(script.now() - before, SECOND);
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(!error.to_string().contains("60s"), "{error}");
}

#[test]
fn a_flooded_topic_does_not_starve_a_timer() {
    let mut script = Node::new().unwrap().script().unwrap().with(0_u32);
    script
        .on(&NUMBERS, |_, n, cx| cx.publish(&NUMBERS, *n).map(drop))
        .unwrap();
    script
        .every(Duration::from_millis(2), |ticks, cx| {
            *ticks += 1;
            if *ticks == 5 {
                cx.runtime().request_shutdown();
            }
        })
        .unwrap();
    script.publisher(&NUMBERS).unwrap().publish(1).unwrap();
    script.spin().unwrap();
}

#[test]
fn a_panic_in_a_callback_does_not_stop_the_following_messages() {
    let mut script = roomy(1).script().unwrap().with(Vec::new());
    script
        .on(&NUMBERS, |seen: &mut Vec<u32>, n, _| {
            assert_ne!(*n, 1, "wanted");
            seen.push(*n);
        })
        .unwrap();
    let numbers = script.publisher(&NUMBERS).unwrap();
    (0..3).for_each(|n| drop(numbers.publish(n).unwrap()));
    assert_eq!(script.spin_some(10).unwrap().handled, 3);
    assert_eq!(seen(&mut script), [0, 2]);
    numbers.flush(Duration::ZERO).unwrap();
}

#[test]
fn a_fault_ends_the_script_only_if_it_was_asked_to() {
    for on_fault in [OnFault::GoOn, OnFault::End] {
        let mut script = Node::simulated(1).script().unwrap();
        script.on_fault(on_fault).unwrap();
        script
            .after(SECOND, |(), _| Err::<(), _>(Fault::new("broken")))
            .unwrap();
        script
            .after(SECOND * 2, |(), cx| cx.runtime().request_shutdown())
            .unwrap();
        let before = script.now();
        let end = script.spin();
        if on_fault == OnFault::GoOn {
            end.unwrap();
            assert_eq!(script.now() - before, SECOND * 2);
        } else {
            let error = end.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Fault);
            assert!(error.to_string().contains("broken"), "{error}");
            assert_eq!(script.now() - before, SECOND);
        }
    }
}

#[test]
fn spinning_inside_a_callback_is_refused() {
    let node = Node::simulated(1);
    let mut inner = node.script().unwrap();
    let mut outer = node.script().unwrap().with(Vec::new());
    outer
        .on(&NUMBERS, move |kinds, _, _| {
            kinds.push(inner.spin_once(SECOND).unwrap_err().kind());
            kinds.push(inner.spin_some(1).unwrap_err().kind());
            kinds.push(inner.spin().unwrap_err().kind());
        })
        .unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    assert_eq!(outer.spin_once(SECOND).unwrap(), Spun::Ran);
    let kinds = outer.state(std::mem::take).unwrap();
    assert_eq!(kinds, [ErrorKind::Refused; 3]);
    numbers.publish(2).unwrap();
    assert_eq!(outer.spin_once(SECOND).unwrap(), Spun::Ran);
}

#[test]
fn publishing_to_ones_own_full_callback_is_a_deadlock_at_once() {
    let mut script = Node::simulated(1).script().unwrap();
    let one = SubscriptionOptions::new().capacity(1);
    script.on_with(&NUMBERS, one, |(), _, _| ()).unwrap();
    let numbers = script.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    let before = script.now();
    let Err(PublishError::Deadlock { value, full }) = numbers.publish(2) else {
        panic!("it is refused");
    };
    assert_eq!((value, full.len(), script.now()), (2, 1, before));
    assert_eq!(script.spin_some(10).unwrap().handled, 1);
    numbers.publish(2).unwrap();
}

/// These waited for their whole limit. The second callback of a batch was even harder to see: it was no longer in the queue.
#[test]
fn flushing_what_waits_for_ones_own_callback_is_a_deadlock_at_once() {
    let (mut script, numbers) = listener();
    numbers.publish(1).unwrap();
    numbers.publish(2).unwrap();
    let before = script.now();
    let refused = |count: &str| {
        let error = numbers.flush(SECOND).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Deadlock);
        let text = error.to_string();
        assert!(text.starts_with(count), "{text}");
        assert!(text.contains("script-"), "{text}");
    };
    refused("2 values");
    assert_eq!(script.spin_some(1).unwrap().handled, 1);
    refused("1 values");
    assert_eq!(script.spin_some(1).unwrap().handled, 1);
    numbers.flush(SECOND).unwrap();
    assert_eq!(script.now(), before);
}

#[test]
fn publishing_with_all_in_flight_at_ones_own_callback_is_a_deadlock_at_once() {
    let mut script = roomy(1).script().unwrap();
    script.on(&NUMBERS, |(), _, _| ()).unwrap();
    let two = PublisherOptions::new().in_flight(2);
    let numbers = script.publisher_with(&NUMBERS, two).unwrap();
    numbers.publish(1).unwrap();
    numbers.publish(2).unwrap();
    let before = script.now();
    let Err(PublishError::Deadlock { value, full }) = numbers.publish(3) else {
        panic!("it is refused");
    };
    assert_eq!((value, full.len(), script.now()), (3, 1, before));
    assert!(full[0].contains("script-"), "{full:?}");
    assert_eq!(script.spin_some(1).unwrap().handled, 1);
    numbers.publish(3).unwrap();
}

/// Another publisher may make such a callback let go of what it has, so nobody can say that nothing will.
#[test]
fn flushing_what_waits_for_ones_own_lossy_callback_ends_by_the_limit() {
    let mut script = roomy(1).script().unwrap();
    let latest = SubscriptionOptions::new().when_full(WhenFull::Latest);
    script.on_with(&NUMBERS, latest, |(), _, _| ()).unwrap();
    let numbers = script.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    let before = script.now();
    let error = numbers.flush(SECOND).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(script.now() - before, SECOND);
}

/// A signal that came between `init` and `with` made the program panic.
#[test]
fn a_script_that_is_given_its_state_while_the_node_ends_has_ended() {
    let script = Node::simulated(1).script().unwrap();
    let before = script.now();
    script.request_shutdown();
    let mut script = script.with(7);
    assert_eq!(format!("{script:?}"), "Script(ended)");
    let closed = [
        script.on(&NUMBERS, |_, _, _| ()).map(drop),
        script.every(SECOND, |_, _| ()).map(drop),
        script.after(SECOND, |_, _| ()).map(drop),
        script.on_fault(OnFault::End),
        script.state(|_| ()),
    ];
    for result in closed {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(script.spin_once(SECOND).unwrap(), Spun::Shutdown);
    script.spin().unwrap();
    assert_eq!(script.now(), before);
}

#[test]
fn calling_ones_own_unspun_processor_is_a_deadlock_at_once() {
    let mut script = Node::simulated(1).script().unwrap();
    let worker = closure(|n: u32, _| Ok::<_, Fault>(n));
    let worker = script.spawn("worker", worker).unwrap();
    let before = script.now();
    let error = worker.call(1).wait().unwrap_err();
    assert!(matches!(error, CallError::Deadlock(_)), "{error}");
    let mut started = worker.call(2);
    started.begin();
    let error = started.wait().unwrap_err();
    assert!(matches!(error, CallError::Deadlock(_)), "{error}");
    assert_eq!(script.now(), before);
}

#[cfg(target_os = "linux")]
#[test]
fn after_shutdown_the_process_has_the_threads_it_had() {
    const NAME: &str = "after_shutdown_the_process_has_the_threads_it_had";
    const CHILD: &str = "MPROC_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let me = std::env::current_exe().unwrap();
        let child = std::process::Command::new(me)
            .args([NAME, "--exact"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        return;
    }
    let threads = || std::fs::read_dir("/proc/self/task").unwrap().count();
    let before = threads();
    let mut script = Node::with_options(mproc::Options::default())
        .script()
        .unwrap();
    script.spawn_thread("a", closure(|(): (), _| ())).unwrap();
    let _listener = script.subscribe(&NUMBERS, drop).unwrap();
    let _driver = script.driver("shared").unwrap();
    assert!(threads() >= before + 3);
    script
        .after(Duration::from_millis(5), |(), cx| {
            cx.runtime().request_shutdown();
        })
        .unwrap();
    script.spin().unwrap();
    // A thread that was joined may be shown for a moment.
    let start = std::time::Instant::now();
    while threads() > before && start.elapsed() < Duration::from_secs(60) {
        std::thread::yield_now();
    }
    assert_eq!(threads(), before);
}

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, mproc::Options::default())
}

/// The other process of a test about signals: this very test, in a process of its own, which shares its topics with nobody.
#[cfg(unix)]
struct Child {
    process: std::process::Child,
    lines: std::io::Lines<std::io::BufReader<std::process::ChildStdout>>,
}

#[cfg(unix)]
impl Child {
    const MARK: &str = "MPROC_TEST_CHILD";

    fn is_here() -> bool {
        std::env::var_os(Self::MARK).is_some()
    }

    fn start(test: &str) -> Self {
        use std::io::BufRead;
        let mut process = std::process::Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(Self::MARK, "1")
            .env("MPROC_DOMAIN", Self::domain())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = std::io::BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, lines }
    }

    /// One that nobody else is in.
    fn domain() -> String {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        format!("scripts-{}-{number}", std::process::id())
    }

    /// Waits until it says so.
    #[track_caller]
    fn says(&mut self, line: &str) {
        let said = self.lines.any(|said| said.unwrap() == line);
        assert!(said, "it ended without saying {line:?}");
    }

    /// One whose second signal came before it told its processors to end in order, which it does after half of the limit of
    /// its end. On a machine that stood still for so long in between it is tried again.
    fn interrupted_twice(test: &str) -> Self {
        for _ in 0..10 {
            let mut child = Self::start(test);
            child.says("it spins");
            child.signal("-INT");
            child.says("the end has begun");
            child.signal("-INT");
            let lines = child.lines.by_ref().map(Result::unwrap);
            let mut lines = lines.filter(|line| line.starts_with("the canary was "));
            if lines.next().unwrap() == "the canary was killed" {
                return child;
            }
            child.process.kill().unwrap();
            child.process.wait().unwrap();
        }
        panic!("the second signal never cuts the end short");
    }

    fn signal(&self, signal: &str) {
        let signal = match signal {
            "-INT" => rustix::process::Signal::INT,
            "-TERM" => rustix::process::Signal::TERM,
            other => panic!("no such signal: {other}"),
        };
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, signal).unwrap();
    }
}

/// The child spins; the parent sends it a signal once it says that it does.
#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_end_a_script_in_order() {
    if Child::is_here() {
        let mut script = mproc::init().unwrap();
        script
            .after(Duration::ZERO, |_, _| println!("\nit spins"))
            .unwrap();
        script.spin().unwrap();
        println!("\nit ended in order");
        return;
    }
    for signal in ["-INT", "-TERM"] {
        let mut child = Child::start("ctrl_c_and_sigterm_end_a_script_in_order");
        child.says("it spins");
        child.signal(signal);
        child.says("it ended in order");
        assert!(child.process.wait().unwrap().success());
    }
}

/// A script whose worker is in a handler when the end comes, with more queued. Says how far it has come.
#[cfg(unix)]
fn a_worker_in_its_handler(returns: bool) -> (Script<()>, mproc::Address<Closure<u32, ()>>) {
    let mut script = mproc::init().unwrap();
    let (tell, told) = std::sync::mpsc::channel::<mproc::Address<Closure<(), ()>>>();
    let mut canary = None;
    let worker = closure(move |_: u32, cx: &mut Cx<'_, Closure<u32, ()>>| {
        let canary = canary.get_or_insert_with(|| told.recv().unwrap());
        // Not a sleep: looks until the first signal has come.
        while !cx.runtime().is_ending() {
            std::thread::yield_now();
        }
        println!("\nthe end has begun");
        // While this handler runs nobody is told to end in order before half of the end's limit, so a canary that is killed
        // tells that the end was cut short.
        let down = canary.ended().wait().unwrap();
        println!("\nthe canary was {}", down.exit);
        if !returns {
            loop {
                std::thread::park();
            }
        }
    });
    let worker = script
        .spawn_thread_with("worker", MailboxOptions::bounded(8), worker)
        .unwrap();
    (0..5).for_each(|n| worker.send(n).unwrap());
    // Made after the worker, and therefore told after it.
    let canary = script.spawn_thread("canary", closure(|(): (), _| ()));
    tell.send(canary.unwrap()).unwrap();
    script
        .after(Duration::ZERO, |_, _| println!("\nit spins"))
        .unwrap();
    (script, worker)
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_drops_what_is_queued_and_ends_as_soon_as_the_handler_returns() {
    if Child::is_here() {
        let (mut script, worker) = a_worker_in_its_handler(true);
        script.spin().unwrap();
        let s = worker.snapshot();
        let dropped = s.dropped.by(mproc::DropCause::Killed);
        println!("\n{} handled, {dropped} dropped", s.handled);
        return;
    }
    const NAME: &str =
        "a_second_ctrl_c_drops_what_is_queued_and_ends_as_soon_as_the_handler_returns";
    let mut child = Child::interrupted_twice(NAME);
    child.says("1 handled, 4 dropped");
    assert!(child.process.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_third_ctrl_c_ends_the_process_with_130_whatever_its_handlers_do() {
    if Child::is_here() {
        let (mut script, _worker) = a_worker_in_its_handler(false);
        let end = script.spin();
        println!("\nit was not ended: {end:?}");
        return;
    }
    const NAME: &str = "a_third_ctrl_c_ends_the_process_with_130_whatever_its_handlers_do";
    let mut child = Child::interrupted_twice(NAME);
    child.signal("-INT");
    assert_eq!(child.process.wait().unwrap().code(), Some(130));
}
