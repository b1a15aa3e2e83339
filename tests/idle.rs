//! An idle program sleeps.
#![cfg(target_os = "linux")]

use mproc::prelude::*;
use std::collections::BTreeMap;

/// Context switches of every thread but this one, by thread.
fn switches() -> BTreeMap<String, u64> {
    let own = std::fs::read_link("/proc/thread-self").unwrap();
    let mut all = BTreeMap::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let path = task.unwrap().path();
        // A thread may have ended since the directory was read.
        let Ok(status) = std::fs::read_to_string(path.join("status")) else {
            continue;
        };
        if path.file_name() == own.file_name() {
            continue;
        }
        let name = status.lines().next().unwrap_or("").replace("Name:\t", "");
        let count = status
            .lines()
            .filter(|l| l.contains("ctxt_switches"))
            .filter_map(|l| l.split_whitespace().last()?.parse::<u64>().ok())
            .sum();
        all.insert(format!("{name} {:?}", path.file_name()), count);
    }
    all
}

#[test]
fn a_thousand_processors_without_messages_wake_nobody() {
    let node = Node::with_options(mproc::Options::default());
    let driver = node.driver("many").unwrap();
    let mut all = Vec::new();
    for n in 0..1000 {
        all.push(
            driver
                .spawn(&format!("member {n}"), closure(|(): (), _cx| ()))
                .unwrap(),
        );
    }
    for n in 0..4 {
        all.push(
            node.spawn_thread(&format!("own {n}"), closure(|(): (), _cx| ()))
                .unwrap(),
        );
    }
    for address in &all {
        address.call(()).wait().unwrap();
    }
    let pool = node.pool("pool", 2).unwrap();
    for n in 0..1000 {
        all.push(
            pool.spawn(&format!("on the pool {n}"), closure(|(): (), _cx| ()))
                .unwrap(),
        );
    }
    all[1004..].iter().for_each(|p| p.call(()).wait().unwrap());
    // One that is told of a silence, and then of none until something comes.
    const QUIET: Topic<()> = Topic::new("quiet");
    let (tell, told) = std::sync::mpsc::channel();
    let waits = closure(move |silent: bool, cx: &mut Cx<'_, _>| {
        if silent {
            tell.send(())?;
        } else {
            cx.subscribe(&QUIET)
                .silence(Duration::from_millis(20), || true)
                .call(|_, _, _| Ok(()))?;
        }
        Ok::<_, mproc::Fault>(())
    });
    let waits = node.spawn_thread("silence", waits).unwrap();
    waits.send(false).unwrap();
    told.recv().unwrap();
    // A pool of which a thread has blocked: the spare one that took its place has nothing to do any more.
    let pool = node.pool("spare", 1).unwrap();
    let (ask, asked) = std::sync::mpsc::channel();
    let blocks = closure(move |(): (), cx: &mut Cx<'_, _>| cx.block(|| asked.recv()));
    let blocks = pool.spawn("blocks", blocks).unwrap();
    let other = pool.spawn("other", closure(|(): (), _cx| ())).unwrap();
    blocks.send(()).unwrap();
    // Handled by the spare thread: the other one blocks.
    let snapshot = || {
        node.snapshot()
            .runtime
            .drivers
            .into_iter()
            .find(|d| d.name == "spare")
    };
    while snapshot().is_none_or(|pool| pool.blocked == 0) {
        std::thread::yield_now();
    }
    other.call(()).wait().unwrap();
    ask.send(()).unwrap();
    other.call(()).wait().unwrap();
    // Sleeps: that nothing happens shows only as time goes by. The first wait lets spinning threads go to sleep, and the monitor
    // look for the last time.
    std::thread::sleep(Duration::from_secs(2));
    // On a busy machine a thread goes to sleep late. Who polls is awake in each of these intervals.
    let mut woken = Vec::new();
    for _ in 0..6 {
        woken = who_wakes_within(Duration::from_secs(5));
        if woken.is_empty() {
            return;
        }
    }
    panic!("{woken:?} woke");
}

fn who_wakes_within(time: Duration) -> Vec<String> {
    let before = switches();
    assert!(before.len() >= 7, "{before:?}");
    std::thread::sleep(time);
    let after = switches().into_iter();
    // The test harness's own first thread waits for this one and may look at the clock.
    let after = after.filter(|(thread, _)| !thread.starts_with("idle"));
    let woken = after.filter(|(thread, count)| before.get(thread) != Some(count));
    woken.map(|(thread, _)| thread).collect()
}
