//! Nodes in other processes, which are killed or leave. This binary runs itself as the others: `role` is a test that does
//! nothing unless the environment tells it its role. Parent and child speak in lines.

use super::*;
use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};

struct Actor {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

fn start(role: &str, base: &Path) -> Actor {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "processes::tests::children::role"])
        .args(["--nocapture", "--test-threads=1"])
        .env("PROCESSES_ROLE", role)
        .env("PROCESSES_BASE", base)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take().unwrap();
    let output = child.stdout.take().unwrap();
    let (tell, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // The harness writes lines of its own, and may begin one of ours.
            if let Some((_, ours)) = line.split_once("@ ")
                && tell.send(ours.to_owned()).is_err()
            {
                return;
            }
        }
    });
    Actor {
        child,
        input,
        lines,
    }
}

impl Actor {
    fn hear(&self, expected: &str) {
        assert_eq!(self.lines.recv_timeout(LONG).unwrap(), expected);
    }

    fn ask(&mut self, line: &str, answer: &str) {
        writeln!(self.input, "{line}").unwrap();
        self.hear(answer);
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let which = match signal {
            "STOP" => Signal::STOP,
            "CONT" => Signal::CONT,
            other => panic!("no such signal: {other}"),
        };
        kill_process(Pid::from_child(&self.child), which).unwrap();
        if signal == "STOP" {
            // It is sent, not carried out, when it returns.
            let is_stopped = || {
                let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
                stat.rsplit_once(") ").unwrap().1.starts_with('T')
            };
            until("it is stopped", is_stopped);
        }
    }

    fn label(&self) -> String {
        format!("process {}", self.child.id())
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is left in the domain's directory.
fn files(base: &Path) -> usize {
    fs::read_dir(base.join("mproc/lab")).unwrap().count()
}

#[test]
fn what_a_killed_publisher_has_queued_is_received_and_then_the_end() {
    let base = tempfile::tempdir().unwrap();
    let node = node(base.path());
    let subscription = FakeSubscription::new(key("numbers"), 8, WhenFull::Wait, 8);
    node.seek(subscription.clone());
    let mut publisher = start("publisher", base.path());
    publisher.hear("linked");
    publisher.ask("publish", "published");
    let (held, _) = subscription.sample();
    publisher.ask("publish", "published");
    publisher.ask("publish large", "published");
    assert_eq!(files(base.path()), 2);
    publisher.kill();
    until("its end is seen", || node.snapshot().peers == 0);
    assert_eq!(subscription.sample().0.bytes(), b"small");
    assert_eq!(subscription.sample().0.bytes(), vec![7; 100_000]);
    let why = subscription.end();
    assert!(why.contains(&publisher.label()), "{why}");
    assert_eq!(held.bytes(), b"small");
    until("its socket is removed", || files(base.path()) == 1);
    // Another takes its place.
    let mut next = start("publisher", base.path());
    next.hear("linked");
    next.ask("publish", "published");
    assert_eq!(subscription.sample().0.bytes(), b"small");
}

#[test]
fn what_a_killed_subscriber_had_comes_back() {
    let base = tempfile::tempdir().unwrap();
    let node = node_with(base.path(), |options| options.bytes_max = 200_000);
    let topic = FakeTopic::new(key("numbers"));
    node.offer(topic.clone());
    let mut subscriber = start("subscriber", base.path());
    let link = topic.link(0);
    subscriber.hear("linked");
    let guard: Guard = Arc::new(());
    push(&link, b"0", &stamp(0), guard.clone());
    subscriber.ask("take", "taken");
    while let Ok(mut loan) = link.outlet().loan(16_000) {
        loan.truncate(1);
        let carried = link.push(&loan.freeze(), &stamp(1), guard.clone());
        if carried == Carried::Full {
            break;
        }
        assert_eq!(carried, Carried::Queued { evicted: false });
    }
    link.watch(true);
    assert!(Arc::strong_count(&guard) > 2);
    let told = topic.listener.told.load(SeqCst);
    subscriber.kill();
    topic.wait_until_left(0);
    until("all has come back", || Arc::strong_count(&guard) == 1);
    assert!(topic.listener.told.load(SeqCst) > told);
    assert_eq!(link.queued(), 0);
    assert!(link.outlet().loan(16_000).is_ok());
    until("its socket is removed", || files(base.path()) == 1);
    until("its end is seen", || node.snapshot().peers == 0);
}

/// A process that is stopped keeps memory from other sizes, until it goes on or ends.
#[test]
fn memory_that_a_stopped_subscriber_maps_is_waited_for() {
    for is_killed in [false, true] {
        let base = tempfile::tempdir().unwrap();
        let node = node_with(base.path(), |options| options.bytes_max = LARGE_BYTES);
        let topic = FakeTopic::new(key("numbers"));
        node.offer(topic.clone());
        let mut subscriber = start("subscriber", base.path());
        let link = topic.link(0);
        subscriber.hear("linked");
        fill_with_small(&link);
        subscriber.signal("STOP");
        let (woken, waker) = Woken::waker();
        let short = link.outlet().poll_loan(LARGE, &waker);
        assert!(matches!(short, Err(LoanRefusal::Short)));
        // Nothing comes by itself: this much time is far more than an answer takes, and a late one would only hide a mistake.
        std::thread::sleep(Duration::from_millis(50));
        assert!(woken.count() == 0 && is_short(&link, LARGE));
        if is_killed {
            subscriber.kill();
        } else {
            subscriber.signal("CONT");
        }
        until("the waker is woken", || woken.count() > 0);
        drop(wait_for(&link, LARGE));
        if !is_killed {
            publish(&link, &[7; LARGE], 0);
            subscriber.ask("take", "taken");
        }
    }
}

#[test]
fn process_that_leaves_is_no_loss() {
    let base = tempfile::tempdir().unwrap();
    let node = node(base.path());
    let subscription = FakeSubscription::new(key("numbers"), 8, WhenFull::Wait, 8);
    node.seek(subscription.clone());
    let mut publisher = start("publisher", base.path());
    publisher.hear("linked");
    publisher.ask("publish", "published");
    publisher.ask("leave", "left");
    assert!(publisher.child.wait().unwrap().success());
    assert_eq!(subscription.sample().0.bytes(), b"small");
    subscription.end();
    until("its end is seen", || node.snapshot().peers == 0);
    assert_eq!(node.snapshot().lost_connections, 0);
    assert_eq!(files(base.path()), 1);
}

#[test]
fn close_leaves_nothing() {
    let base = tempfile::tempdir().unwrap();
    let actor = start("closer", base.path());
    actor.hear("before and after are alike");
    assert_eq!(files(base.path()), 0);
}

// ------------------------------------------------------------------------------------------------ the actors' side

fn say(line: &str) {
    println!("@ {line}");
}

#[test]
fn role() {
    let Ok(role) = env::var("PROCESSES_ROLE") else {
        return;
    };
    let base = PathBuf::from(env::var("PROCESSES_BASE").unwrap());
    match &*role {
        "publisher" => act_publisher(&base),
        "subscriber" => act_subscriber(&base),
        _ => act_closer(&base),
    }
}

fn act_publisher(base: &Path) {
    let node = node(base);
    let topic = FakeTopic::new(key("numbers"));
    node.offer(topic.clone());
    let link = topic.link(0);
    say("linked");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        match &*line {
            "publish" => drop(publish(&link, b"small", 0)),
            "publish large" => drop(publish(&link, &vec![7; 100_000], 0)),
            _ => {
                node.close();
                return say("left");
            }
        }
        say("published");
    }
}

fn act_subscriber(base: &Path) {
    let node = node(base);
    let subscription = FakeSubscription::new(key("numbers"), 8, WhenFull::Wait, 8);
    node.seek(subscription.clone());
    subscription.inlets(1);
    say("linked");
    let mut held = Vec::new();
    for _ in std::io::stdin().lines().map_while(Result::ok) {
        held.push(subscription.sample());
        say("taken");
    }
}

/// Descriptors, maps that others see, and threads of this process.
fn counts() -> [usize; 3] {
    let entries = |path: &str| fs::read_dir(path).unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter(|line| line.contains("memfd")).count();
    [entries("/proc/self/fd"), shared, entries("/proc/self/task")]
}

fn act_closer(base: &Path) {
    // What is made once for the process is there before.
    let warm = tempfile::tempdir().unwrap();
    node(warm.path()).close();
    drop(warm);
    let before = counts();
    let (a, b) = (node(base), node(base));
    let topic = FakeTopic::new(key("numbers"));
    let subscription = FakeSubscription::new(key("numbers"), 8, WhenFull::Wait, 8);
    a.offer(topic.clone());
    b.seek(subscription.clone());
    let link = topic.link(0);
    subscription.inlets(1);
    publish(&link, b"taken", 0);
    publish(&link, &[1; 100_000], 1);
    let (lease, _) = subscription.sample();
    let loan = link.outlet().loan(5).unwrap();
    a.close();
    b.close();
    assert_eq!(lease.bytes(), b"taken");
    drop((lease, loan, link, topic, subscription));
    drop((a, b));
    // A thread that was joined may be shown for a moment.
    // Or was shown before.
    until("all is as before", || {
        counts()
            .iter()
            .zip(&before)
            .all(|(now, before)| now <= before)
    });
    say("before and after are alike");
}
