//! Scripts, from outside: spinning, timers, ends and refusals.

use mproc::prelude::*;
use mproc::{CallError, ErrorKind, Fault, OnFault, PublishError, Spun};
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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
        assert_eq!(script.spin_some(budget).unwrap(), ran);
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
    assert_eq!(script.spin_some(7).unwrap(), 7);
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
        .every(SECOND * 60, move |(), _| {
            fires.store(true, Ordering::SeqCst)
        })
        .unwrap();
    let began = Instant::now();
    let other = std::thread::spawn(move || node.shutdown(SECOND * 5).is_clean());
    script.spin().unwrap();
    assert!(other.join().unwrap());
    assert!(began.elapsed() < SECOND * 5);
    assert!(!fired.load(Ordering::SeqCst));
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
    assert_eq!(script.spin_some(10).unwrap(), 3);
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
    assert_eq!(script.spin_some(10).unwrap(), 1);
    numbers.publish(2).unwrap();
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
    let mut script = mproc::init_without_signals().unwrap();
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
    assert_eq!(threads(), before);
}

/// A node whose queues have their ordinary room whatever `MPROC_CAPACITY` says: for claims that need several places.
fn roomy(seed: u64) -> Node {
    Node::simulated_with(seed, mproc::Options::default())
}

/// The child spins; the parent sends it a signal once it says that it does.
#[cfg(unix)]
#[test]
fn ctrl_c_and_sigterm_end_a_script_in_order() {
    use std::io::{BufRead, BufReader};
    const NAME: &str = "ctrl_c_and_sigterm_end_a_script_in_order";
    const CHILD: &str = "MPROC_TEST_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let mut script = mproc::init().unwrap();
        script
            .after(Duration::ZERO, |_, _| println!("\nit spins"))
            .unwrap();
        script.spin().unwrap();
        println!("\nit ended in order");
        return;
    }
    for signal in ["-INT", "-TERM"] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture"])
            .env(CHILD, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap() == "it spins"));
        let id = child.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([signal, &id])
            .status();
        assert!(sent.unwrap().success());
        assert!(
            lines.any(|line| line.unwrap() == "it ended in order"),
            "{signal}"
        );
        assert!(child.wait().unwrap().success());
    }
}
