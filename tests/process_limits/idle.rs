//! Nodes that are linked, and have nothing to say to each other.

use super::*;
use crate::actor::ordinary;

/// How often threads of this process but the calling one have lost or left the processor.
pub(crate) fn switches() -> u64 {
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let mut all = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        // A thread may have ended since the directory was read.
        let Ok(status) = std::fs::read_to_string(path.join("status")) else {
            continue;
        };
        // The harness's first thread waits for the one that asks, and may look at the clock.
        let is_first = path.file_name() == Some(std::process::id().to_string().as_ref());
        if path.file_name() == own.file_name() || is_first {
            continue;
        }
        let counts = status.lines().filter(|l| l.contains("ctxt_switches"));
        let counts = counts.filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok());
        all += counts.sum::<u64>();
    }
    all
}

fn are_idle(actors: &mut [&mut actor::Actor]) {
    // Sleeps: that nothing happens shows only as time goes by. The first wait lets spinning threads go to sleep, and the monitor
    // look for the last time.
    std::thread::sleep(Duration::from_secs(2));
    let mut ask =
        |what: &str| -> Vec<String> { actors.iter_mut().map(|a| a.ask(what, what)).collect() };
    let mut before = ask("switches");
    // On a busy machine a thread goes to sleep late. Who polls is awake in each of these intervals.
    for _ in 0..6 {
        std::thread::sleep(Duration::from_secs(3));
        let after = ask("switches");
        if after == before {
            return;
        }
        before = after;
    }
    panic!("they wake: {before:?}");
}

#[test]
fn linked_nodes_wake_nobody_when_nothing_is_published() {
    let base = base();
    let mut publisher = ordinary(&base);
    let mut subscriber = ordinary(&base);
    publisher.ask("publisher data", "made");
    subscriber.ask("subscribe data", "subscribed");
    publisher.ask("joined data 1", "joined");
    are_idle(&mut [&mut publisher, &mut subscriber]);
    publisher.ask("publish data 10 1", "published");
    subscriber.ask("take data", "took");
    are_idle(&mut [&mut publisher, &mut subscriber]);
    // The queue is full, and a publisher has waited for it until its limit: it watches the link no more, or in vain.
    loop {
        publisher.tell("publish data 10 2");
        if !publisher.wait_for("").starts_with("published") {
            break;
        }
    }
    are_idle(&mut [&mut publisher, &mut subscriber]);
    // One that only one of many values is taken from: what comes back is told of, and no more.
    assert_eq!(subscriber.ask("take data", "took"), "10 2");
    are_idle(&mut [&mut publisher, &mut subscriber]);
    publisher.ask("publish data 10 3", "published");
    are_idle(&mut [&mut publisher, &mut subscriber]);
}
