//! A child that was forked without exec, and has all handles of its parent.

use super::*;
use crate::actor::{orders, ordinary, say, start, topic};
use mproc::{Error, Loan, PublishError, Publisher, Sample, Subscription, TryRecvError};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

unsafe extern "C" {
    /// POSIX. A child of 0 is the child itself.
    fn fork() -> i32;
    /// POSIX. Ends the process at once.
    fn _exit(code: i32) -> !;
    /// POSIX. A signal that ends the process comes after so many seconds.
    fn alarm(seconds: u32) -> u32;
}

pub(crate) const FRAMES: Topic<[u8]> = Topic::slices("frames");
const PATIENCE: Duration = Duration::from_secs(5);

/// One of each.
struct Handles {
    up: Publisher<Vec<u8>>,
    /// Only subscriptions of its own process.
    local: Publisher<Vec<u8>>,
    frames: Publisher<[u8]>,
    loan: Loan<[u8]>,
    down: Subscription<Vec<u8>>,
    down_local: Subscription<Vec<u8>>,
    channel: mproc::ChannelSubscription<Vec<u8>>,
    sample: Sample<Vec<u8>>,
    frame: Sample<[u8]>,
    callback: mproc::CallbackSubscription<mproc::Closure<(), ()>>,
    node: Node,
}

/// What was done, to be found if it goes no further. Without the standard streams, whose locks may be held.
fn step(what: &str, begun: &mut Instant) {
    let took = begun.elapsed();
    let line = format!("\n@ step {what} {}\n", took.as_millis());
    let _ = rustix::io::write(rustix::stdio::stdout(), line.as_bytes());
    *begun = Instant::now();
}

fn handles(node: &Node) -> Handles {
    let up = node.publisher(&topic("up")).unwrap();
    let local = node.publisher(&topic("local")).unwrap();
    let frames = node.publisher(&FRAMES).unwrap();
    let down = node.subscription(&topic("down")).unwrap();
    let frames_here = node.subscription(&FRAMES).unwrap();
    let down_local = node.subscription(&topic("local")).unwrap();
    let channel = node
        .channel(&topic("local"), SubscriptionOptions::new())
        .unwrap();
    let callback = node.subscribe(&topic("down"), |_| {}).unwrap();
    say("made");
    up.wait_for_subscribers(1, LONG).unwrap();
    frames.wait_for_subscribers(2, LONG).unwrap();
    let sample = down.recv_timeout(LONG).unwrap();
    let mut loan = frames.loan(100).unwrap();
    loan[0] = 7;
    loan.publish().unwrap();
    let frame = frames_here.recv_timeout(LONG).unwrap();
    let loan = frames.loan(100).unwrap();
    local.publish(vec![1]).unwrap();
    Handles {
        up,
        local,
        frames,
        loan,
        down,
        down_local,
        channel,
        sample,
        frame,
        callback,
        node: node.clone(),
    }
}

/// In the forked child: nothing of this changes anything, waits or crashes.
fn use_all(handles: Handles) {
    let Handles {
        up,
        local,
        frames,
        mut loan,
        down,
        down_local,
        channel,
        sample,
        frame,
        callback,
        node,
    } = handles;
    let mut begun = Instant::now();
    let now = &mut begun;
    let forked = |error: &Error| assert_eq!(error.kind(), mproc::ErrorKind::Forked, "{error}");
    let unpublished = |result: Result<_, PublishError<Vec<u8>>>| {
        let error = result.unwrap_err();
        assert!(error.to_string().contains("fork"), "{error}");
        assert_eq!(error.into_inner(), Some(vec![9]), "it comes back");
    };
    unpublished(up.try_publish(vec![9]));
    step("try_publish", now);
    unpublished(up.publish(vec![9]));
    step("publish", now);
    unpublished(up.publish_timeout(vec![9], PATIENCE));
    step("publish_timeout", now);
    unpublished(local.publish(vec![9]));
    step("local.publish", now);
    forked(&up.flush(PATIENCE).unwrap_err());
    step("flush", now);
    forked(&frames.loan(10).unwrap_err());
    step("loan", now);
    let _ = &mut loan[..].iter_mut();
    let _ = loan.len();
    assert!(loan.publish().is_err());
    step("loan.publish", now);
    assert!(matches!(down.try_recv(), Err(TryRecvError::Closed)));
    step("try_recv", now);
    assert!(down.recv_timeout(PATIENCE).is_err());
    step("recv_timeout", now);
    assert!(down_local.recv_timeout(PATIENCE).is_err());
    step("local.recv_timeout", now);
    let _ = (sample.len(), frame.len());
    let _ = (sample.clone(), frame.clone());
    step("read", now);
    drop((sample, frame));
    step("drop samples", now);
    forked(&node.publisher(&topic("more")).unwrap_err());
    step("node.publisher", now);
    forked(&node.subscription(&topic("down")).unwrap_err());
    step("node.subscription", now);
    let _ = node.snapshot();
    step("snapshot", now);
    drop(down);
    step("drop subscription", now);
    drop((down_local, channel));
    step("drop local subscriptions", now);
    drop(callback);
    step("drop callback", now);
    drop((up, local, frames));
    step("drop publishers", now);
    drop(node);
    step("drop node", now);
}

/// Threads that take all locks of these handles all the time, until they are told to end.
fn busy(handles: &Handles) -> impl FnOnce() + use<> {
    let is_over = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    let mut again = |mut work: Box<dyn FnMut() + Send>| {
        let is_over = is_over.clone();
        threads.push(std::thread::spawn(move || {
            while !is_over.load(Relaxed) {
                work();
            }
        }));
    };
    let (up, local, frames) = (
        handles.up.clone(),
        handles.local.clone(),
        handles.frames.clone(),
    );
    // Their queues are full, so that nothing is published.
    again(Box::new(move || drop(up.try_publish(vec![8]))));
    again(Box::new(move || drop(local.try_publish(vec![8]))));
    again(Box::new(move || drop(frames.loan(100))));
    let node = handles.node.clone();
    let short = Duration::from_micros(50);
    again(Box::new(move || {
        let _ = node.snapshot();
        let more = node.subscription(&topic("local")).unwrap();
        let _ = more.recv_timeout(short);
        let _ = node.publisher(&topic("down"));
    }));
    move || {
        is_over.store(true, Relaxed);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    }
}

/// Forks when it is told to, and publishes and receives before and after.
pub(crate) fn act(base: &Path) {
    let node = node(base).unwrap();
    let mut handles = handles(&node);
    drop(node);
    for line in orders() {
        match line.as_str() {
            "fork" | "fork-busy" => {
                let quiet = (line == "fork-busy").then(|| busy(&handles));
                std::io::stdout().flush().unwrap();
                // SAFETY: The child uses what this thread has, allocates (the C library mends its allocator in a child), and
                // ends by `_exit`.
                match unsafe { fork() } {
                    0 => {
                        // SAFETY: It takes a number. If the child waits for what never comes, it is ended and that is seen.
                        unsafe { alarm(100) };
                        let all = std::panic::AssertUnwindSafe(|| use_all(handles));
                        let code = i32::from(std::panic::catch_unwind(all).is_err());
                        // SAFETY: Ends this process, without the destructors and buffers of its parent.
                        unsafe { _exit(code) }
                    }
                    child => {
                        let child = Pid::from_raw(child).unwrap();
                        let ended = waitpid(Some(child), WaitOptions::empty());
                        let (_, status) = ended.unwrap().unwrap();
                        let code = status.exit_status();
                        if let Some(quiet) = quiet {
                            quiet();
                        }
                        say(&format!("child {code:?} {:?}", status.terminating_signal()));
                    }
                }
            }
            "publish" => {
                let count = handles.up.publish(vec![5]).unwrap().count;
                say(&format!("published {count}"));
            }
            "receive" => {
                handles.sample = handles.down.recv_timeout(LONG).unwrap();
                let (number, gap) = (handles.sample.number(), handles.sample.gap());
                say(&format!("received {} {number} {gap}", handles.sample[0]));
            }
            other => panic!("no such order: {other}"),
        }
    }
}

#[test]
fn forked_child_can_do_nothing_and_its_parent_goes_on() {
    let base = base();
    let mut peer = ordinary(&base);
    peer.ask("publisher down", "made");
    peer.ask("subscribe up", "subscribed");
    peer.ask("subscribe-frames", "subscribed");
    let mut parent = start("forker", base.path(), &[]);
    parent.wait_for("made");
    // The subscription and the callback.
    peer.ask("joined down 2", "joined");
    assert_eq!(peer.ask("publish down 3 1", "published"), "2");
    assert_eq!(peer.ask("take-frame", "took"), "100 7");
    for round in 1..4 {
        assert_eq!(
            parent.ask("fork", "child"),
            "Some(0) None",
            "{:#?}",
            parent.seen
        );
        // Each step says how many milliseconds it took.
        let slow = |line: &&String| {
            let took = line
                .strip_prefix("step ")
                .and_then(|l| l.split(' ').next_back());
            took.is_some_and(|took| took.parse::<u64>().unwrap() > 60_000)
        };
        let slow: Vec<_> = parent.seen.iter().filter(slow).collect();
        assert!(slow.is_empty(), "{slow:?} took longer than a minute");
        for n in 0..10 {
            assert_eq!(parent.ask("publish", "published"), "1");
            assert_eq!(peer.ask("take up", "took"), "1 5");
            assert_eq!(peer.ask(&format!("publish down 3 {n}"), "published"), "2");
            let number = (round - 1) * 10 + n + 1;
            assert_eq!(parent.ask("receive", "received"), format!("{n} {number} 0"));
        }
    }
    parent.leave();
    peer.leave();
}

/// The threads that hold locks when a process is forked do not exist in the child.
#[test]
fn forked_child_waits_for_no_lock_of_its_parents_threads() {
    let base = base();
    let mut peer = ordinary(&base);
    peer.ask("publisher down", "made");
    peer.ask("subscribe up", "subscribed");
    peer.ask("subscribe-frames", "subscribed");
    let mut parent = start("forker", base.path(), &[]);
    parent.wait_for("made");
    peer.ask("joined down 2", "joined");
    assert_eq!(peer.ask("publish down 3 1", "published"), "2");
    for round in 0..30 {
        let child = parent.ask("fork-busy", "child");
        assert_eq!(child, "Some(0) None", "round {round}: {:#?}", parent.seen);
    }
    parent.leave();
    peer.leave();
}
