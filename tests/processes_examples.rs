//! The examples of several processes, as a whole: the processes find each other in any order, and who is killed and started
//! again takes part again.
#![cfg(target_os = "linux")]

#[path = "support/examples.rs"]
mod examples;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

use examples::example;
use tempfile::TempDir;

/// How long anything that is waited for may take. Far more than it does.
const LIMIT: Duration = Duration::from_secs(60);

/// A place for the domains of one test, so that tests do not meet.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        // A directory that only this user may enter.
        Self(tempfile::tempdir().unwrap())
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Started {
        let mut process = Command::new(example(name))
            .args(arguments)
            .env("XDG_RUNTIME_DIR", self.0.path())
            .env("MPROC_DOMAIN", "examples")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (tell, lines) = mpsc::channel();
        let out: Box<dyn Read + Send> = Box::new(process.stdout.take().unwrap());
        let errors: Box<dyn Read + Send> = Box::new(process.stderr.take().unwrap());
        for from in [out, errors] {
            let tell = tell.clone();
            thread::spawn(move || {
                for line in BufReader::new(from).lines() {
                    // Nobody waits for more.
                    let _ = tell.send(line.unwrap());
                }
            });
        }
        Started {
            process,
            lines,
            shown: Vec::new(),
        }
    }
}

/// A program that runs. It is killed when this is dropped.
struct Started {
    process: Child,
    /// Of its output and of its errors.
    lines: Receiver<String>,
    shown: Vec<String>,
}

impl Started {
    /// Waits for a line of which `is_it` is true, and returns it.
    #[track_caller]
    fn shows(&mut self, what: &str, is_it: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + LIMIT;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(rest) {
                Ok(line) => {
                    self.shown.push(line);
                    let line = self.shown.last().unwrap();
                    if is_it(line) {
                        return line.clone();
                    }
                }
                Err(error) => panic!("no {what}: {error}\n{}", self.shown.join("\n")),
            }
        }
    }

    #[track_caller]
    fn says(&mut self, line: &str) {
        self.shows(line, |shown| shown == line);
    }

    /// A line that is a number, as the subscriber writes them.
    #[track_caller]
    fn number(&mut self) -> u64 {
        let line = self.shows("number", |line| line.parse::<u64>().is_ok());
        line.parse().unwrap()
    }

    fn signal(&self, signal: &str) {
        signal_to(self.process.id(), signal);
    }

    /// Waits for its end. Returns all that it has shown.
    #[track_caller]
    fn ends(mut self) -> (ExitStatus, String) {
        // Its output ends when it does.
        let deadline = Instant::now() + LIMIT;
        loop {
            let rest = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(rest) {
                Ok(line) => self.shown.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("it does not end: {error}\n{}", self.shown.join("\n")),
            }
        }
        (self.process.wait().unwrap(), self.shown.join("\n"))
    }

    #[track_caller]
    fn ends_well(self) -> String {
        let (status, shown) = self.ends();
        assert!(status.success(), "{status}:\n{shown}");
        shown
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn signal_to(process: u32, signal: &str) {
    use rustix::process::{Pid, Signal, kill_process};
    let signal = match signal {
        "-INT" => Signal::INT,
        "-KILL" => Signal::KILL,
        "-TERM" => Signal::TERM,
        other => panic!("no such signal: {other}"),
    };
    let id = i32::try_from(process).ok().and_then(Pid::from_raw);
    kill_process(id.unwrap(), signal).unwrap();
}

#[test]
fn a_subscriber_finds_a_publisher_that_was_there_before() {
    let place = Place::new();
    let mut publisher = place.start("two_processes", &["publish"]);
    publisher.says("0 to 0 subscribers");
    let mut subscriber = place.start("two_processes", &["subscribe", "--count", "5"]);
    let first = subscriber.number();
    for next in first + 1..first + 5 {
        assert_eq!(subscriber.number(), next);
    }
    subscriber.ends_well();
    publisher.signal("-INT");
    publisher.ends_well();
}

#[test]
fn a_publisher_finds_a_subscriber_that_was_there_before() {
    let place = Place::new();
    let mut subscriber = place.start("two_processes", &["subscribe", "--count", "5"]);
    subscriber.says("waiting for numbers");
    let publisher = place.start("two_processes", &["publish", "--count", "5"]);
    subscriber.says("a publisher came: 1");
    // What was published to it comes, also when the publisher has ended.
    publisher.ends_well();
    let shown = subscriber.ends_well();
    assert!(!shown.contains("missed"), "{shown}");
}

#[test]
fn a_subscriber_that_is_killed_and_started_again_gets_what_is_published_then() {
    let place = Place::new();
    let mut publisher = place.start("two_processes", &["publish"]);
    let mut subscriber = place.start("two_processes", &["subscribe"]);
    let before = subscriber.number();
    publisher.shows("subscriber", |line| line.ends_with(" to 1 subscribers"));
    subscriber.signal("-KILL");
    let (status, _) = subscriber.ends();
    assert!(!status.success());
    publisher.shows("end of it", |line| line.ends_with(" to 0 subscribers"));
    let mut again = place.start("two_processes", &["subscribe", "--count", "3"]);
    assert!(again.number() > before);
    again.ends_well();
    publisher.signal("-TERM");
    publisher.ends_well();
}

#[test]
fn a_publisher_that_is_killed_and_started_again_is_found_again() {
    let place = Place::new();
    let mut subscriber = place.start("two_processes", &["subscribe"]);
    for _ in 0..2 {
        let publisher = place.start("two_processes", &["publish"]);
        subscriber.says("a publisher came: 1");
        subscriber.number();
        publisher.signal("-KILL");
        publisher.ends();
        subscriber.says("a publisher left: 0");
    }
    subscriber.signal("-INT");
    subscriber.ends_well();
}

/// Both orders of start. The subscriber is slower, so its publisher awaits room, and its other task goes on.
#[test]
fn asynchronous_programs_wait_for_each_other() {
    for publisher_first in [true, false] {
        let place = Place::new();
        let start = |name| place.start(name, &[]);
        let (publisher, subscriber) = if publisher_first {
            let mut publisher = start("async_publisher");
            publisher.says("waiting for a subscriber");
            (publisher, start("async_subscriber"))
        } else {
            let mut subscriber = start("async_subscriber");
            subscriber.says("waiting for numbers");
            (start("async_publisher"), subscriber)
        };
        let published = publisher.ends_well();
        for n in 1..20 {
            assert!(
                published.contains(&format!("published {n}\n")),
                "{published}"
            );
        }
        let end = "20 is back from 1 subscriber\ndone; ticked meanwhile: true";
        assert!(published.ends_with(end), "{published}");
        let heard = subscriber.ends_well();
        assert!(heard.ends_with("\n20 makes 210"), "{heard}");
    }
}

#[test]
fn a_service_is_called_and_its_failure_told() {
    let place = Place::new();
    // It waits for the server.
    let early = place.start("service", &["call", "2", "3"]);
    let server = place.start("service", &["serve"]);
    assert_eq!(early.ends_well(), "2 + 3 = 5");
    let largest = i64::MAX.to_string();
    let (status, shown) = place.start("service", &["call", &largest, "1"]).ends();
    assert_eq!(status.code(), Some(1));
    assert_eq!(shown, "Error: server failed: the sum is too large");
    server.signal("-INT");
    server.ends_well();
}

/// Prime, and not factored within the time of a test.
const PRIME: &str = "18446744073709551557";

#[test]
fn a_task_gives_feedback_and_ends_early_when_its_client_is_killed() {
    let place = Place::new();
    let mut server = place.start("service", &["serve"]);
    let shown = place
        .start("service", &["factor", "600851475143"])
        .ends_well();
    assert!(shown.starts_with("started\nhas the factor 71\n"), "{shown}");
    assert!(
        shown.ends_with("\n600851475143 = [71, 839, 1471, 6857]"),
        "{shown}"
    );
    for signal in ["-KILL", "-INT"] {
        let mut client = place.start("service", &["factor", PRIME]);
        client.says("started");
        client.signal(signal);
        let (status, _) = client.ends();
        assert!(!status.success());
        server.says("ends early");
    }
    server.signal("-TERM");
    server.ends_well();
}

#[test]
fn a_server_that_is_killed_is_told_to_whoever_waits_for_its_task() {
    let place = Place::new();
    let server = place.start("service", &["serve"]);
    let mut client = place.start("service", &["factor", PRIME]);
    client.says("started");
    server.signal("-KILL");
    server.ends();
    let (status, shown) = client.ends();
    assert_eq!(status.code(), Some(1));
    assert!(
        shown.contains("Error: server ended before it replied: process "),
        "{shown}"
    );
}

#[track_caller]
fn frames_are_right(arguments: &[&str]) {
    let place = Place::new();
    let shown = place.start("frames", arguments).ends_well();
    for consumer in ["careful   Wait", "latest    Latest", "slow      DropOldest"] {
        assert!(shown.contains(consumer), "no {consumer:?} in\n{shown}");
    }
    let verdict = "every frame is accounted for and right; copied between processes: 0 bytes";
    assert!(shown.ends_with(verdict), "{shown}");
}

#[test]
fn frames_that_it_draws_are_read_where_they_were_filled() {
    frames_are_right(&["--frames", "25", "--size", "64x48"]);
}

#[test]
fn frames_of_a_file_are_read_where_they_were_filled() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("picture.png");
    let picture = image::RgbImage::from_fn(7, 5, |x, y| image::Rgb([x as u8, y as u8, 3]));
    picture.save(&file).unwrap();
    frames_are_right(&["--frames", "10", "--size", "33x17", file.to_str().unwrap()]);
}

#[test]
fn a_picture_that_cannot_be_read_is_named() {
    let place = Place::new();
    let (status, shown) = place.start("frames", &["missing.png"]).ends();
    assert_eq!(status.code(), Some(1));
    assert!(
        shown.starts_with("frames: cannot read missing.png: "),
        "{shown}"
    );
}

/// A directory laid out like `/proc`, with the kept samples in it.
fn proc_of_samples() -> TempDir {
    let root = tempfile::tempdir().unwrap();
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/vitals/samples");
    fs::create_dir(root.path().join("net")).unwrap();
    for (sample, name) in [
        ("stat", "stat"),
        ("meminfo", "meminfo"),
        ("net_dev", "net/dev"),
        ("diskstats", "diskstats"),
    ] {
        fs::copy(samples.join(sample), root.path().join(name)).unwrap();
    }
    root
}

/// The process of `parent` that has this role.
fn child_with_role(parent: u32, role: &str) -> Option<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    processes.filter_map(Result::ok).find_map(|process| {
        let id = process.file_name().to_str()?.parse().ok()?;
        // It may have ended since the directory was read.
        let command = fs::read_to_string(process.path().join("cmdline")).ok()?;
        let stat = fs::read_to_string(process.path().join("stat")).ok()?;
        // After the name, which ends with the last parenthesis: the state and the parent.
        let its_parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
        let is_it =
            its_parent == parent.to_string() && command.contains(&format!("--role\0{role}\0"));
        is_it.then_some(id)
    })
}

#[test]
fn vitals_in_processes_starts_again_who_is_killed_and_ends_in_order() {
    let place = Place::new();
    let root = proc_of_samples();
    let arguments = ["--processes", "--alarm", "memory=0.5", "--proc"];
    let arguments = [&arguments[..], &[root.path().to_str().unwrap()]].concat();
    let mut vitals = place.start("vitals", &arguments);
    // From the samplers over the rates to the alarms and to the display: four processes.
    vitals.shows("alarm", |line| {
        line.contains("memory") && line.contains("raised")
    });
    vitals.shows("memory", |line| line.contains(" | memory "));
    let rates = child_with_role(vitals.process.id(), "rates").unwrap();
    signal_to(rates, "-KILL");
    vitals.says("vitals: rates has ended (signal: 9 (SIGKILL)), it is started again");
    // What it had shown before may be read after what it has told.
    let deadline = Instant::now() + LIMIT;
    while child_with_role(vitals.process.id(), "rates").is_none_or(|again| again == rates) {
        assert!(Instant::now() < deadline, "it was not started again");
        thread::yield_now();
    }
    for _ in 0..3 {
        vitals.shows("memory", |line| line.contains(" | memory "));
    }
    vitals.signal("-INT");
    let shown = vitals.ends_well();
    for part in [
        "display: host/summaries (Latest)",
        "sampler/memory published ",
        "rates: host/memory (DropOldest)",
        "alarms: host/rates (Wait)",
        "relay: host/cpu (DropOldest)",
    ] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    assert_eq!(shown.matches(": holds for all ").count(), 4, "{shown}");
    assert!(!shown.contains("DOES NOT HOLD"), "{shown}");
}

#[test]
fn several_vitals_do_not_hear_each_other() {
    let place = Place::new();
    let both = [(); 2].map(|()| place.start("vitals", &["--seconds", "2"]));
    for vitals in both {
        let shown = vitals.ends_well();
        assert!(shown.contains(": holds for all "), "{shown}");
    }
}
