//! What the death, the stop and the mistakes of a process mean for the topics that others share with it: a test for each row
//! of the table of failures.
//!
//! A test runs *alone*: this binary starts itself for it, and what is left of it there (descriptors, mappings, threads, files)
//! is held against what was there before. In that process lives the *survivor*, a node with publishers and
//! subscriptions. The *actors* are processes again, of this binary, too: they do what they are told by lines, say
//! what they did, and are killed. Nothing sleeps: each side waits for the other's lines or for what its node tells, with
//! a limit that only ends a test that hangs.
//!
//! Actors stop where a program that uses topics can be: before and after it subscribes, with samples in hand, inside a handler,
//! with a loan half filled, between publishes, blocked in one, and anywhere in a stream of them. The points between
//! the steps of one publish or one take are those of `shm/src/kill_tests.rs`, which stops processes there by name, without
//! nodes. Rows that are not about topics are tested where they are decided: what a peer sends that makes no sense, sealed
//! memory, forks, numbers of processes that are used again and the rules of the handshake in `shm` and in
//! `pubsub/src/processes/tests`. No row is about clocks: no decision reads one that can jump.

mod actors;
mod handlers;
mod payload;
mod publishers;
mod stopped;
mod strangers;
mod subscribers;

use mproc::prelude::*;
use mproc::{DomainOptions, Event, PublishError, RecvError, SubscriptionSnapshot, TryRecvError};
use payload::Order;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

const FRAMES: Topic<[u8]> = Topic::slices("frames");

// ---------------------------------------------------------------------------------------------- a test, alone

/// Set for the process in which a test is alone.
const ALONE: &str = "PROCESSES_ALONE";

/// Where a test's domain has its directory.
struct Place {
    base: TempDir,
}

/// Runs `body` in a process of its own, and looks at what it leaves there.
fn alone<F: FnOnce(&Place)>(body: F) {
    let path = std::any::type_name::<F>();
    let (_, test) = path.split_once("::").expect("a path within this binary");
    // It is a closure in the function that is the test.
    let test = test.trim_end_matches("::{{closure}}");
    if env::var_os(ALONE).is_some() {
        return act_alone(body);
    }
    let output = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let told = String::from_utf8_lossy(&output.stderr);
    println!("{said}");
    eprintln!("{told}");
    assert!(output.status.success(), "{test}: {}", output.status);
    assert!(said.contains("1 passed"), "{test} is no test");
}

fn act_alone(body: impl FnOnce(&Place)) {
    // What is made once for a process is there before.
    let warm = Place::new();
    {
        let node = warm.node();
        let mut actor = warm.actor();
        let frames = warm.publisher(&node, &mut actor, "subscribe Wait 4 4");
        publish(&frames, 0..2, 1000);
        actor.ask("take 2", "took");
        actor.kill();
        frames.flush(LONG).unwrap();
        end(node);
    }
    drop(warm);
    let before = counts();
    let dev_shm = dev_shm();
    let place = Place::new();
    body(&place);
    // A thread that was joined may be shown for a moment.
    until_or(
        // Or fewer: one of what ended before may have been shown, too.
        || {
            counts()
                .iter()
                .zip(&before)
                .all(|(now, before)| now <= before)
        },
        || format!("{before:?} is {:?} now", counts()),
    );
    assert_eq!(place.files(), [""; 0], "files in the domain's directory");
    assert_eq!(self::dev_shm(), dev_shm);
}

/// Descriptors, maps that others may see, and threads of this process.
fn counts() -> [usize; 3] {
    let entries = |path: &str| fs::read_dir(path).unwrap().count();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let shared = maps.lines().filter(|line| line.contains("memfd:")).count();
    [entries("/proc/self/fd"), shared, entries("/proc/self/task")]
}

/// What is named after this project there. Others may use it meanwhile.
fn dev_shm() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/dev/shm") else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.contains("mproc")).collect()
}

/// Waits until something is so that tells nobody.
fn until(what: &str, is_so: impl Fn() -> bool) {
    until_or(is_so, || what.to_owned());
}

fn until_or(is_so: impl Fn() -> bool, what: impl Fn() -> String) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "it never came: {}", what());
        thread::yield_now();
    }
}

impl Place {
    fn new() -> Self {
        Self {
            base: tempfile::tempdir().unwrap(),
        }
    }

    fn options(&self) -> DomainOptions {
        let domain = DomainOptions::new("rows").unwrap();
        domain.directory(self.base.path())
    }

    fn node(&self) -> Node {
        self.node_with(|options| options)
    }

    fn node_with(&self, change: impl FnOnce(DomainOptions) -> DomainOptions) -> Node {
        let domain = change(self.options());
        Node::builder()
            .options(mproc::Options::default().call_limit(LONG).send_limit(LONG))
            .domain_with(domain)
            .build()
            .unwrap()
    }

    /// A process with a node of this domain.
    fn actor(&self) -> Actor {
        Actor::start(self.base.path(), "rows")
    }

    /// A publisher of `FRAMES` and the actor as its one subscriber.
    fn publisher(&self, node: &Node, actor: &mut Actor, subscribe: &str) -> Publisher<[u8]> {
        let frames = node.publisher(&FRAMES).unwrap();
        let before = frames.subscriber_count();
        actor.ask(subscribe, "subscribed");
        frames.wait_for_subscribers(before + 1, LONG).unwrap();
        frames
    }

    /// What is left in the domain's directory.
    fn files(&self) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.base.path().join("mproc/rows")) else {
            return Vec::new();
        };
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).collect()
    }

    /// Waits until a process that was killed has left nothing here: somebody who lives has removed its socket.
    fn forgets(&self, actor: &Actor) {
        let its = format!("{}-", actor.child.id());
        until_or(
            || !self.files().iter().any(|name| name.starts_with(&its)),
            || format!("{its} is away, but {:?} are here", self.files()),
        );
    }
}

/// Ends a node in order.
fn end(node: Node) {
    assert!(node.shutdown(LONG).is_clean());
}

fn options(capacity: usize, when_full: WhenFull) -> SubscriptionOptions<[u8]> {
    SubscriptionOptions::new()
        .capacity(capacity)
        .when_full(when_full)
}

/// The survivor publishes as writer 1.
fn publish(frames: &Publisher<[u8]>, numbers: std::ops::Range<u64>, bytes: usize) {
    for n in numbers {
        let loan = loan(frames, n, bytes);
        loan.publish()
            .map_err(|error| format!("{error:?}"))
            .unwrap();
    }
}

fn loan(frames: &Publisher<[u8]>, n: u64, bytes: usize) -> mproc::Loan<[u8]> {
    let mut loan = frames.loan(bytes).unwrap();
    payload::fill(&mut loan, 1, n);
    loan
}

/// What is published must come back.
fn flush(frames: &Publisher<[u8]>) {
    frames.flush(LONG).unwrap();
    assert_eq!(frames.snapshot().outstanding, 0);
}

/// Has the publisher look at what came back: of a sample that a queue has dropped it lets go with its next look.
fn looked(frames: &Publisher<[u8]>) {
    assert!(frames.flush(Duration::ZERO).is_err());
}

/// The links of `FRAMES` to other processes.
fn links(node: &Node) -> Vec<SubscriptionSnapshot> {
    let topics = node.snapshot().topics;
    let frames = topics.into_iter().find(|topic| topic.name == "frames");
    let all = frames.map(|topic| topic.subscriptions).unwrap_or_default();
    let links = all.into_iter();
    links
        .filter(|link| {
            let owner = link.owner.as_deref();
            owner.is_some_and(|owner| owner.starts_with("process "))
        })
        .collect()
}

/// A subscription of the survivor, whose samples are checked as they come.
struct Watched {
    subscription: Subscription<[u8]>,
    order: Order,
}

impl Watched {
    fn new(node: &Node, capacity: usize, when_full: WhenFull) -> Self {
        let options = options(capacity, when_full);
        Self {
            subscription: node.subscription_with(&FRAMES, options).unwrap(),
            order: Order::default(),
        }
    }

    fn checked(&mut self, sample: &Sample<[u8]>) -> u64 {
        let (writer, sequence) = payload::check(sample).unwrap();
        self.order.note(writer, sequence, sample.gap()).unwrap();
        sequence
    }

    fn recv(&mut self) -> Sample<[u8]> {
        let sample = self.subscription.recv_timeout(LONG);
        let sample =
            sample.unwrap_or_else(|error| panic!("{error}: {:?}", self.subscription.snapshot()));
        self.checked(&sample);
        sample
    }

    /// The numbers of all that is there.
    fn rest(&mut self) -> Vec<u64> {
        let mut all = Vec::new();
        while let Ok(sample) = self.subscription.try_recv() {
            all.push(self.checked(&sample));
        }
        all
    }
}

/// Waits for the event that `FRAMES` has this many publishers, of what was there before.
fn lost_publisher(events: &Subscription<Event>, publishers: usize) {
    let topic = "frames".to_owned();
    let expected = Event::PublisherUnmatched { topic, publishers };
    while *events.recv_timeout(LONG).unwrap() != expected {}
}

// ---------------------------------------------------------------------------------------------- actors, from outside

/// A process that does what it is told.
struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    threads: Vec<JoinHandle<String>>,
    seen: Vec<String>,
}

impl Actor {
    fn start(base: &Path, domain: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .env("PROCESSES_ROLE", domain)
            .env("PROCESSES_BASE", base)
            .env_remove(ALONE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.take();
        let output = child.stdout.take().unwrap();
        let mut errors = child.stderr.take().unwrap();
        let (tell, lines) = channel();
        let reads = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // The harness writes lines of its own, and may begin one of ours.
                if let Some((_, ours)) = line.split_once("@ ")
                    && tell.send(ours.to_owned()).is_err()
                {
                    break;
                }
            }
            String::new()
        });
        let hears = thread::spawn(move || {
            let mut all = Vec::new();
            let _all_that_came = errors.read_to_end(&mut all);
            String::from_utf8_lossy(&all).into_owned()
        });
        Self {
            child,
            input,
            lines,
            threads: vec![reads, hears],
            seen: Vec::new(),
        }
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Waits for its next line, which must begin with `start`, and returns the words after that.
    fn hear(&mut self, start: &str) -> Vec<String> {
        match self.lines.recv_timeout(LONG) {
            Ok(line) => {
                self.seen.push(line.clone());
                let rest = line.strip_prefix(start);
                let rest = rest.unwrap_or_else(|| panic!("{line:?} and not {start:?}"));
                rest.split_whitespace().map(str::to_owned).collect()
            }
            Err(error) => panic!(
                "waiting for {start:?}: {error}, after {:?}; it said {}",
                self.seen.clone(),
                self.stop_and_read()
            ),
        }
    }

    fn ask(&mut self, line: &str, answer: &str) -> Vec<String> {
        self.tell(line);
        self.hear(answer)
    }

    fn numbers(&mut self, line: &str, answer: &str) -> Vec<u64> {
        let words = self.ask(line, answer);
        words.iter().map(|word| word.parse().unwrap()).collect()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// What others call it.
    fn label(&self) -> String {
        format!("process {}", self.child.id())
    }

    /// SIGKILL, and the end of all its threads.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the kernel says that it is stopped.
    fn stop(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped());
    }

    fn go_on(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// It leaves in order.
    fn leave(&mut self) {
        self.ask("leave", "left");
        assert!(self.child.wait().unwrap().success());
    }

    /// Its end, and all that it said to people.
    fn stop_and_read(&mut self) -> String {
        let _ended_before = self.child.kill();
        let _ended_before = self.child.wait();
        self.input = None;
        let threads = self.threads.drain(..);
        threads.map(|thread| thread.join().unwrap()).collect()
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let said = self.stop_and_read();
        if !said.is_empty() {
            eprintln!("{} said: {said}", self.label());
        }
    }
}

/// What actors run. It does nothing in others.
#[test]
fn role() {
    if let Ok(domain) = env::var("PROCESSES_ROLE") {
        actors::act(&domain, env::var_os("PROCESSES_BASE").unwrap().as_ref());
    }
}
