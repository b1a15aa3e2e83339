//! What can be read of a running program, and how it is written down.

use mproc::prelude::*;
use mproc::{DropCause, Drops};
use std::sync::mpsc;

/// They were nine bare numbers, which nobody could read and no later version could add to.
#[test]
fn drops_are_written_as_a_map_of_the_causes_that_occurred() {
    let mut drops = Drops::default();
    assert_eq!(serde_json::to_string(&drops).unwrap(), "{}");
    drops.add(DropCause::TargetEnded, 2);
    drops.add(DropCause::NoRoom, 1);
    drops.add(DropCause::Evicted, u64::MAX);
    let text = serde_json::to_string(&drops).unwrap();
    let wanted = r#"{"evicted":18446744073709551615,"no_room":1,"target_ended":2}"#;
    assert_eq!(text, wanted);
    assert_eq!(serde_json::from_str::<Drops>(&text).unwrap(), drops);
    assert_eq!(drops.total(), u64::MAX);
    let shown = format!("evicted {}, no room 1, target ended 2", u64::MAX);
    assert_eq!(drops.to_string(), shown);
}

#[test]
fn every_cause_survives_being_written_and_read() {
    let mut drops = Drops::default();
    for (n, cause) in (1..).zip(DropCause::ALL) {
        drops.add(cause, n);
        let word = cause.as_str().replace(' ', "_");
        assert_eq!(serde_json::to_value(cause).unwrap(), word);
    }
    let text = serde_json::to_string(&drops).unwrap();
    assert_eq!(serde_json::from_str::<Drops>(&text).unwrap(), drops);
}

#[test]
fn causes_of_a_later_version_are_left_out_and_nonsense_is_refused() {
    let text = r#"{"evicted": 3, "struck_by_lightning": 4}"#;
    let drops: Drops = serde_json::from_str(text).unwrap();
    assert_eq!((drops.by(DropCause::Evicted), drops.total()), (3, 3));
    for nonsense in [r#"{"evicted": -1}"#, "[1]", r#"{"evicted": "many"}"#] {
        assert!(
            serde_json::from_str::<Drops>(nonsense).is_err(),
            "{nonsense}"
        );
    }
}

#[derive(Debug)]
struct Job(mpsc::Sender<()>, mpsc::Receiver<()>);

/// The report said for how long somebody had been in a handler, but not in which.
#[test]
fn a_processor_that_hangs_is_reported_with_the_message_it_hangs_in() {
    let node = Node::with_options(mproc::Options::default());
    let hangs = closure(|Job(begun, goes_on): Job, _cx| {
        begun.send(()).unwrap();
        goes_on.recv().unwrap();
    });
    let hangs = node.spawn_thread("hangs", hangs).unwrap();
    assert_eq!(hangs.snapshot().last_message_type, None);
    let (begun, has_begun) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel();
    hangs.send(Job(begun, goes_on)).unwrap();
    has_begun.recv().unwrap();
    let job = Some("snapshots::Job".to_owned());
    assert_eq!(hangs.snapshot().last_message_type, job);
    let report = node.shutdown(Duration::from_millis(10));
    assert_eq!(report.left.len(), 1);
    assert_eq!(report.left[0].last_message_type, job);
    let text = report.to_string();
    let wanted = r#""hangs" (0 queued, in the handler of snapshots::Job for "#;
    assert!(text.contains(wanted), "{text}");
    go_on.send(()).unwrap();
    hangs.ended().wait().unwrap();
}

#[test]
fn the_type_of_the_last_message_stays_when_it_was_handled() {
    let node = Node::simulated(1);
    let timed = node.spawn_thread(
        "timed",
        closure(|_: u8, cx| {
            cx.after_with(Duration::from_secs(1), |_, _| ());
        }),
    );
    let timed = timed.unwrap();
    timed.call(1).wait().unwrap();
    let last = || timed.snapshot().last_message_type;
    assert_eq!(last().as_deref(), Some("u8"));
    node.advance(Duration::from_secs(1));
    assert_eq!(last().as_deref(), Some("timer"));
}

/// CPU time of the calling thread, in nanoseconds.
#[cfg(target_os = "linux")]
fn on_cpu_ns() -> u64 {
    // Some sandboxes have none: then nothing is known, and nothing counts.
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.map_or(0, |ns| ns.parse().unwrap())
}

/// It asked again and again without a pause, for as long as it took.
#[cfg(target_os = "linux")]
#[test]
fn settling_on_a_real_node_sleeps_until_the_last_handler_returns() {
    let node = Node::with_options(mproc::Options::default());
    let (begun, has_begun) = mpsc::channel();
    let slow = closure(move |time: Duration, _cx| {
        begun.send(()).unwrap();
        // A handler that takes its time is what is waited for.
        std::thread::sleep(time);
    });
    let slow = node.spawn_thread("slow", slow).unwrap();
    slow.send(Duration::from_millis(400)).unwrap();
    has_begun.recv().unwrap();
    let before = on_cpu_ns();
    node.settle();
    let used = Duration::from_nanos(on_cpu_ns() - before);
    assert_eq!(slow.snapshot().handled, 1);
    assert_eq!(slow.snapshot().handling_ns, None);
    // Who asks without a pause uses all of it, unless others take it away.
    assert!(used < Duration::from_millis(200), "{used:?} of 400 ms");
}

#[test]
fn settling_on_a_real_node_ends_when_all_is_handled() {
    let node = Node::with_options(mproc::Options::default());
    let mut late = 0;
    for _ in 0..50 {
        let slow = node.spawn_thread("slow", closure(|_: u8, _cx| ())).unwrap();
        (0..20).for_each(|n| slow.send(n).unwrap());
        let before = node.now();
        node.settle();
        // Its limit is five seconds. A machine may stand still for as long, but not again and again.
        late += u32::from(node.now() - before > Duration::from_secs(4));
        assert!(late < 5);
        assert_eq!(slow.snapshot().handled, 20);
        slow.stop();
        slow.ended().wait().unwrap();
    }
}
