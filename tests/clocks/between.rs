//! Domain time between the nodes of a domain: two nodes in this test's process, which meet as two processes would; and two
//! processes, where one is killed.

use super::*;
use mproc::{CLOCK, ClockState, DomainOptions, ErrorKind, JumpKind, JumpThreshold, Slept};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Barrier};
use std::thread;
use tempfile::TempDir;

struct Domain(TempDir);

impl Domain {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn node(&self) -> Node {
        node_in(self.0.path())
    }
}

fn node_in(directory: &Path) -> Node {
    let domain = DomainOptions::new("clocks").unwrap();
    let builder = Node::builder().options(Options::default().call_limit(LONG).send_limit(LONG));
    let builder = builder.domain_with(domain.directory(directory));
    builder.build().unwrap()
}

/// Waits until `clock` shows `time`, which another node will set.
fn reaches(clock: &Clock, time: Time) {
    // While the clock goes back or begins anew it is asked again.
    while clock.sleep_until(time).wait_timeout(LONG).unwrap() != Slept::Reached {}
}

#[test]
fn the_timers_of_another_node_follow() {
    let domain = Domain::new();
    let (drives, follows) = (domain.node(), domain.node());
    let clock = follows.domain_clock().unwrap();
    let (ticker, ticks) = Ticker::new(Some(&clock), 3600 * SECOND);
    follows.spawn_thread("ticker", ticker).unwrap();
    // It has set its timer.
    follows.settle();
    let time = drives.drive_time().unwrap();
    let begin = secs(1_700_000_000);
    time.set(begin).unwrap();
    reaches(&clock, begin);
    time.step(3600 * SECOND).unwrap();
    let told = ticks.recv_timeout(LONG).unwrap();
    assert_eq!((told.time, told.skipped), (begin + 3600 * SECOND, 0));

    // It goes by itself from here on: an hour in less than four milliseconds, and nobody is told of it.
    time.rate(1e6).unwrap();
    time.resume().unwrap();
    let told = ticks.recv_timeout(LONG).unwrap();
    assert_eq!(told.time, begin + (told.skipped as u32 + 2) * 3600 * SECOND);
    time.pause().unwrap();
    // Far beyond what the other has gone on until it hears of the pause.
    let jump = time.clock().now() + 10 * 365 * 24 * 3600 * SECOND;
    time.set(jump).unwrap();
    reaches(&clock, jump);
    assert_eq!(clock.now(), jump);
}

#[test]
fn who_comes_late_has_the_time_at_once_and_a_second_driver_is_refused() {
    let domain = Domain::new();
    let drives = domain.node();
    let time = drives.drive_time().unwrap();
    time.set(secs(1000)).unwrap();
    time.rate(2.0).unwrap();

    let late = domain.node();
    let clock = late.domain_clock().unwrap();
    reaches(&clock, secs(1000));
    assert_eq!(clock.now(), secs(1000));
    let refused = late.drive_time().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    let name = format!("process {}", std::process::id());
    assert!(refused.to_string().contains(&name), "{refused}");

    // When the first has ended, another may.
    let mut sleep = clock.sleep(SECOND);
    sleep.begin();
    time.end();
    assert_eq!(sleep.wait_timeout(LONG), Ok(Slept::Ended));
    let second = late.drive_time().unwrap();
    assert_eq!(second.clock().now(), secs(1000));
    second.step(SECOND).unwrap();
    reaches(&drives.domain_clock().unwrap(), secs(1001));
}

#[test]
fn when_the_driving_node_goes_the_others_stand_still() {
    let domain = Domain::new();
    let (drives, follows) = (domain.node(), domain.node());
    let clock = follows.domain_clock().unwrap();
    let (told, jumps) = channel();
    let ended = JumpThreshold::new().forward(None).backward(None);
    let _callback = clock.on_jump(ended, move |jump| told.send(jump.kind).unwrap());
    let time = drives.drive_time().unwrap();
    time.resume().unwrap();
    assert_eq!(jumps.recv_timeout(LONG), Ok(JumpKind::Started));
    // It says nothing any more.
    assert!(drives.shutdown(LONG).is_clean());
    assert_eq!(jumps.recv_timeout(LONG), Ok(JumpKind::Ended));
    assert!(!clock.is_driven() && clock.is_paused());
    drop(time);
}

/// The directory of the domain, for a process that drives its time until it is killed.
const DRIVES_IN: &str = "CLOCKS_DRIVES_IN";

#[test]
fn when_the_driving_process_is_killed_time_stands_and_another_may_drive() {
    if let Some(directory) = std::env::var_os(DRIVES_IN) {
        let node = node_in(directory.as_ref());
        let time = node.drive_time().unwrap();
        time.set(secs(1000)).unwrap();
        time.resume().unwrap();
        // Until it is killed, or its parent is.
        let _end = std::io::stdin().lines().next();
        return;
    }
    let domain = Domain::new();
    let node = domain.node();
    let clock = node.domain_clock().unwrap();
    let test = "between::when_the_driving_process_is_killed_time_stands_and_another_may_drive";
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(DRIVES_IN, domain.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    reaches(&clock, secs(1000));
    let refused = node.drive_time().unwrap_err();
    let name = format!("process {} ", child.id());
    assert!(refused.to_string().contains(&name), "{refused}");

    let mut sleep = clock.sleep(365 * 24 * 3600 * SECOND);
    sleep.begin();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(sleep.wait_timeout(LONG), Ok(Slept::Ended));
    assert!(clock.is_paused() && !clock.is_driven());
    let stands = clock.now();
    assert!(stands >= secs(1000));
    let time = node.drive_time().unwrap();
    time.step(SECOND).unwrap();
    assert_eq!(clock.now(), stands + SECOND);
}

#[test]
fn of_two_that_begin_at_once_one_goes_on_and_the_other_is_told() {
    let domain = Domain::new();
    let nodes = [domain.node(), domain.node()];
    let both = Arc::new(Barrier::new(2));
    let begin = |node: &Node| {
        let (node, both) = (node.clone(), both.clone());
        thread::spawn(move || {
            both.wait();
            node.drive_time()
        })
    };
    let begun = nodes.each_ref().map(begin);
    let mut times: Vec<_> = begun
        .into_iter()
        .filter_map(|begun| match begun.join().unwrap() {
            Ok(time) => Some(time),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused);
                None
            }
        })
        .collect();
    // They may have missed each other for a moment.
    let deadline = std::time::Instant::now() + LONG;
    while times.len() > 1 {
        assert!(std::time::Instant::now() < deadline, "both drive");
        times.retain(|time| match time.rate(2.0) {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
                false
            }
        });
        thread::yield_now();
    }
    times[0].set(secs(77)).unwrap();
    for node in &nodes {
        reaches(&node.domain_clock().unwrap(), secs(77));
    }
}

#[test]
fn what_no_node_would_say_changes_nothing() {
    let domain = Domain::new();
    let (stranger, node) = (domain.node(), domain.node());
    let clock = node.domain_clock().unwrap();
    let states = stranger.publisher(&CLOCK).unwrap();
    states.wait_for_subscribers(1, LONG).unwrap();
    let sense = ClockState {
        time_ns: 5_000_000_000,
        rate: 1.0,
        since_ns: 1,
        driver: 1,
        moves: 1,
        sequence: 1,
        process: 1,
        state: 1,
        begun: 0,
    };
    for rate in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e200] {
        states
            .publish(ClockState {
                rate,
                time_ns: u64::MAX,
                ..sense
            })
            .unwrap();
    }
    let state = 7;
    states
        .publish(ClockState {
            state,
            time_ns: u64::MAX,
            ..sense
        })
        .unwrap();
    states.publish(sense).unwrap();
    // It comes behind them.
    reaches(&clock, secs(5));
    assert_eq!(clock.now(), secs(5));
    // The end of time, running, is a time too.
    let (sequence, moves, state) = (2, 2, 0);
    let last = ClockState {
        sequence,
        moves,
        state,
        time_ns: u64::MAX,
        rate: 1e6,
        ..sense
    };
    states.publish(last).unwrap();
    reaches(&clock, Time::from_nanos(u64::MAX));
    let refused = node.drive_time().unwrap_err();
    assert!(refused.to_string().contains("process 1 "), "{refused}");
}

#[test]
fn a_topic_of_the_program_with_that_name_is_told() {
    const MINE: Topic<String> = Topic::new("clock");
    let node = simulated(1);
    let _mine = node.publisher(&MINE).unwrap();
    assert_eq!(
        node.drive_time().unwrap_err().kind(),
        ErrorKind::TypeConflict
    );
}
