//! `mproc doctor`, with programs that have what it looks for.

mod support;

use mproc::prelude::*;
use mproc::{DEFAULT_DOMAIN, Options};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Instant;
use support::{LONG, LOOK_LIMIT, Place, Ran, listen, play_role, say};

const NUMBERS: Topic<i64> = Topic::new("numbers");
const OTHER_NUMBERS: Topic<f64> = Topic::new("numbers");
const TEXTS: Topic<String> = Topic::new("texts");

fn node() -> Node {
    let builder = Node::builder().options(Options::default());
    builder.domain(DEFAULT_DOMAIN).unwrap().build().unwrap()
}

/// Nothing is wrong with it.
fn sound() {
    let node = node();
    let _numbers = node.publisher(&NUMBERS).unwrap();
    let _reader = node.subscription(&NUMBERS).unwrap();
    say("ready");
    listen();
}

/// Means something else by the same name.
fn contrary() {
    let node = node();
    let _numbers = node.publisher(&OTHER_NUMBERS).unwrap();
    say("ready");
    listen();
}

/// Publishes, and nobody listens; and listens where nobody publishes.
fn lonely() {
    let node = node();
    let _numbers = node.publisher(&NUMBERS).unwrap();
    let _texts = node.subscription(&TEXTS).unwrap();
    say("ready");
    listen();
}

/// Its processor is in a handler until it is told to go on.
fn stuck() {
    let node = node();
    let _texts = node.publisher(&TEXTS).unwrap();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let sleeper = closure(move |_: u32, _cx| {
        say("ready");
        let _ = wait.recv();
    });
    let sleeper = node.spawn_thread("sleeper", sleeper).unwrap();
    sleeper.send(1).unwrap();
    sleeper.send(2).unwrap();
    listen();
    drop(go_on);
}

/// Keeps a sample.
fn holder() {
    let node = node();
    let numbers = node.publisher(&NUMBERS).unwrap();
    let options = SubscriptionOptions::new().max_leases(4);
    let reader = node.subscription_with(&NUMBERS, options).unwrap();
    numbers.publish(1).unwrap();
    let _kept = reader.recv().wait().unwrap();
    say("ready");
    listen();
}

/// Has had a panic and a full queue.
fn careless() {
    std::panic::set_hook(Box::new(|_| {}));
    let node = node();
    let full = SubscriptionOptions::new().capacity(1);
    let _reader = node.subscription_with(&NUMBERS, full).unwrap();
    let numbers = node.publisher(&NUMBERS).unwrap();
    numbers.publish(1).unwrap();
    let clumsy = closure(|n: u32, _cx| assert!(n > 0, "0 is not greater"));
    let clumsy = node.spawn_thread("clumsy", clumsy).unwrap();
    let _ = clumsy.call(0).wait();
    say("ready");
    listen();
}

#[test]
fn role() {
    play_role(&[
        ("sound", sound),
        ("contrary", contrary),
        ("lonely", lonely),
        ("stuck", stuck),
        ("holder", holder),
        ("careless", careless),
    ]);
}

fn doctor(place: &Place) -> (Option<i32>, Value) {
    doctor_with(place, LOOK_LIMIT)
}

/// As [`doctor`], with so many seconds for programs to answer.
fn doctor_with(place: &Place, look_limit: &str) -> (Option<i32>, Value) {
    let ran = place.run(&["doctor", "--json", "--look-limit", look_limit]);
    let report = serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    (ran.code, report)
}

/// What it says of `check`, without what is well.
fn said(report: &Value, check: &str) -> Vec<(String, String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings
        .filter(|finding| finding["check"] == check && finding["severity"] != "ok")
        .map(|f| (text(&f["severity"]), text(&f["what"]), text(&f["advice"])))
        .collect()
}

/// Asks again until it says something of `check`: what is too long takes its time.
#[track_caller]
fn until_said(place: &Place, check: &str) -> (String, String, String) {
    let end = Instant::now() + LONG;
    loop {
        let (_, report) = doctor(place);
        if let Some(first) = said(&report, check).into_iter().next() {
            return first;
        }
        assert!(Instant::now() < end, "{check}: {report:#}");
    }
}

fn domain_directory(place: &Place) -> PathBuf {
    place.path().join("mproc").join(DEFAULT_DOMAIN)
}

/// Its output without what varies: the place, process numbers, the version and amounts.
fn without_what_varies(ran: &Ran, place: &Place) -> String {
    let place = place.path().display().to_string();
    let mut text = ran.out.replace(&place, "PLACE");
    text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_of_machine = ["kernel ", "limits ", "memory ", "file system "]
            .iter()
            .any(|check| line.contains(&format!("  {check}")));
        if !is_of_machine || line.starts_with("problem") {
            lines.push(line.to_owned());
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn sound_domain_is_well() {
    let place = Place::new();
    let _sound = place.program("sound");
    let ran = place.run(&["doctor", "--all"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let text = without_what_varies(&ran, &place);
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("domain default: 0 problems, "), "{text}");
    let lines: Vec<_> = text.lines().filter(|line| line.starts_with("ok")).collect();
    assert_eq!(
        lines.join("\n") + "\n",
        include_str!("golden/doctor_sound.txt"),
        "{text}"
    );
}

#[test]
fn empty_domain_is_said_to_be_empty() {
    let place = Place::new();
    let (code, report) = doctor(&place);
    assert_eq!(code, Some(0));
    let nodes = said(&report, "nodes");
    assert_eq!(nodes[0].1, "nobody is in domain \"default\"");
}

#[test]
fn type_conflict_names_both_types() {
    let place = Place::new();
    let _sound = place.program("sound");
    let _contrary = place.program("contrary");
    let (code, report) = doctor(&place);
    assert_eq!(code, Some(5), "{report:#}");
    let types = said(&report, "types");
    assert_eq!(types[0].0, "problem");
    assert!(types[0].1.contains("i64 (Serde) at doctor-"), "{types:?}");
    assert!(types[0].1.contains("f64 (Serde) at doctor-"), "{types:?}");
}

#[test]
fn topics_with_one_side_are_notes_and_warnings_if_strict() {
    let place = Place::new();
    let _lonely = place.program("lonely");
    let (code, report) = doctor(&place);
    assert_eq!(code, Some(0), "{report:#}");
    let topics = said(&report, "topics");
    assert_eq!(topics.len(), 2, "{topics:?}");
    assert!(
        topics[0]
            .1
            .starts_with("topic numbers has no subscriber; doctor-")
    );
    assert!(
        topics[1]
            .1
            .starts_with("topic texts has no publisher; doctor-")
    );
    assert_eq!(topics[0].0, "note");
    assert_eq!(place.run(&["doctor", "--strict"]).code, Some(5));
}

#[test]
fn stuck_handler_is_found() {
    let place = Place::new();
    let _stuck = place.program("stuck");
    let (severity, what, advice) = until_said(&place, "handlers");
    assert_ne!(severity, "note");
    assert!(what.starts_with("sleeper of doctor-"), "{what}");
    assert!(
        what.contains("has been handling u32 for ") && what.ends_with("; 1 wait"),
        "{what}"
    );
    assert!(advice.starts_with("look where it is: gdb -p "), "{advice}");
}

#[test]
fn old_lease_is_found() {
    let place = Place::new();
    let _holder = place.program("holder");
    let (severity, what, _) = until_said(&place, "leases");
    assert_eq!(severity, "warning");
    assert!(
        what.contains("holds 1 sample of numbers, the oldest for "),
        "{what}"
    );
}

#[test]
fn panics_and_full_queues_are_found() {
    let place = Place::new();
    let _careless = place.program("careless");
    let (_, report) = doctor(&place);
    let faults = said(&report, "faults");
    assert_eq!(faults.len(), 1, "{report:#}");
    assert!(faults[0].1.contains("1 panic"), "{faults:?}");
    let queues = said(&report, "queues");
    assert!(
        queues[0].1.contains("for numbers is full: 1 (Wait)"),
        "{queues:?}"
    );
}

#[test]
fn stopped_process_is_a_problem() {
    let place = Place::new();
    let sound = place.program("sound");
    sound.signal("STOP");
    let (code, report) = doctor_with(&place, "1");
    let nodes = said(&report, "nodes");
    sound.signal("CONT");
    assert_eq!(code, Some(5), "{report:#}");
    let pid = sound.child.id();
    assert_eq!(
        nodes[0].1,
        format!("process {pid} is stopped, and does not answer")
    );
    assert!(
        nodes[0].2.starts_with(&format!("kill -CONT {pid}")),
        "{nodes:?}"
    );
}

#[test]
fn stale_socket_is_told_and_removed() {
    let place = Place::new();
    let mut sound = place.program("sound");
    let pid = sound.child.id();
    sound.child.kill().unwrap();
    sound.child.wait().unwrap();
    assert_eq!(fs::read_dir(domain_directory(&place)).unwrap().count(), 1);
    let (code, report) = doctor(&place);
    assert_eq!(code, Some(0), "{report:#}");
    let sockets = said(&report, "sockets");
    let expected =
        format!("process {pid} was killed and had left its socket, which has been removed now");
    assert_eq!(sockets[0].1, expected);
    assert_eq!(fs::read_dir(domain_directory(&place)).unwrap().count(), 0);
}

#[test]
fn open_directory_is_a_problem_and_the_rest_is_said_all_the_same() {
    let place = Place::new();
    let directory = domain_directory(&place);
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(
        place.path().join("mproc"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    for mode in [0o755, 0o777] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let (code, report) = doctor(&place);
        assert_eq!(code, Some(5), "{report:#}");
        let said_of = said(&report, "directory");
        let name = directory.display();
        assert_eq!(
            said_of[0].1,
            format!("{name} has mode {mode:04o}, and must have 0700")
        );
        assert_eq!(said_of[0].2, format!("chmod 700 {name}"));
        let nodes = said(&report, "nodes");
        assert_eq!(nodes[0].0, "problem");
        assert!(
            nodes[0].1.contains("programs were not looked at"),
            "{nodes:?}"
        );
        let checks = report["findings"].as_array().unwrap();
        assert!(
            checks.iter().any(|finding| finding["check"] == "kernel"),
            "{report:#}"
        );
    }
}

#[test]
fn missing_base_directory_is_a_problem() {
    let place = Place::new();
    let mut command = place.command(&["doctor"]);
    command.env("XDG_RUNTIME_DIR", place.file("nowhere"));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let ran = Ran {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    };
    assert_eq!(ran.err, "");
    let text = without_what_varies(&ran, &place);
    assert!(
        text.starts_with("problem   directory  PLACE/nowhere does not exist\n"),
        "{text}"
    );
}

#[test]
fn other_domains_are_told() {
    let place = Place::new();
    let _sound = place.program("sound");
    let ran = place.run(&["--domain", "lab", "doctor"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("1 node in domain \"default\""), "{ran:?}");
    assert!(ran.out.contains("mproc --domain default list"), "{ran:?}");
}
