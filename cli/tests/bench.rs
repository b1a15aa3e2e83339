//! `mproc bench`: every question has an answer, and nothing is left behind.

mod support;

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{LONG, Place, send_signal};

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

/// How many nodes are in the domain of a run, whose directory this is.
fn nodes(of_the_run: &Path) -> usize {
    let domain = of_the_run.join("mproc/bench");
    fs::read_dir(domain).map_or(0, Iterator::count)
}

#[test]
fn every_question_has_positive_figures() {
    let place = Place::new();
    let mut command = place.command(&["bench", "--quick", "--json"]);
    command.env("TMPDIR", place.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    // No bar where there is no terminal.
    assert!(output.stderr.is_empty(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(report["doubts"].is_array());
    let results = report["results"].as_array().unwrap();
    assert_eq!(results.len(), 4 + 2 * 2 * 2 * 2);
    let positive = |value: &Value| value.as_u64().unwrap() > 0;
    for result in results {
        match &result["round_trip"] {
            Value::Null => {
                assert!(positive(&result["messages_per_s"]), "{result}");
                let has_payload = !result["payload_bytes"].is_null();
                assert_eq!(!result["bytes_per_s"].is_null(), has_payload, "{result}");
            }
            trip => {
                for name in ["count", "p50_ns", "p90_ns", "p99_ns", "p99_9_ns", "max_ns"] {
                    assert!(positive(&trip[name]), "{name}: {result}");
                }
                assert!(
                    trip["p50_ns"].as_u64() <= trip["max_ns"].as_u64(),
                    "{result}"
                );
            }
        }
    }
    let mut questions: Vec<_> = results
        .iter()
        .map(|r| r["question"].as_str().unwrap())
        .collect();
    questions.sort_unstable();
    questions.dedup();
    assert_eq!(
        questions,
        [
            "call_from_thread",
            "message_one_driver",
            "message_two_drivers",
            "send_from_thread",
            "topic_latency_between_processes",
            "topic_latency_in_process",
            "topic_throughput_between_processes",
            "topic_throughput_in_process",
        ]
    );
    // Neither its own domain nor anything in the one that the user has.
    assert_eq!(entries(place.path()), Vec::<PathBuf>::new());
}

#[test]
fn table_says_what_was_measured() {
    let place = Place::new();
    let ran = place.run(&["bench", "--seconds", "1", "--sizes", "1KiB"]);
    let text = ran.ok();
    for part in [
        "THERE AND BACK",
        "topic, two processes  plain   1.00 KiB",
        "AS MANY AS GO",
        "call from a thread (there and back): a call of a processor, by a thread that waits for the reply",
        "Medians of 3 rounds",
    ] {
        assert!(text.contains(part), "{part:?} in:\n{text}");
    }
}

#[test]
fn wrong_sizes_are_refused() {
    let place = Place::new();
    for sizes in ["1", "1GiB", "x", "64,,1KiB", "17MiB"] {
        let ran = place.run(&["bench", "--sizes", sizes]);
        assert_eq!(ran.code, Some(2), "{sizes}: {ran:?}");
    }
}

/// Starts a long run, interrupts it as soon as `is_time` says so and then `later`, and looks at what it says and leaves behind.
fn interrupt(place: &Place, is_time: impl Fn() -> bool, later: Duration) {
    let mut command = place.command(&["bench", "--seconds", "600", "--sizes", "64"]);
    let mut child = command
        .env("TMPDIR", place.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + LONG;
    while !is_time() {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none());
        // A directory does not say when something comes into it.
        sleep(Duration::from_millis(5));
    }
    sleep(later);
    send_signal(rustix::process::Pid::from_child(&child), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(
        text, "",
        "whoever interrupts it knows why it ended ({later:?})"
    );
    assert_eq!(entries(place.path()), Vec::<PathBuf>::new());
}

#[test]
fn interrupted_while_it_starts_it_leaves_nothing_behind() {
    let place = Place::new();
    let has_directory = || !entries(place.path()).is_empty();
    interrupt(&place, has_directory, Duration::ZERO);
}

/// It said "interrupted" when it had begun to measure, and nothing before.
#[test]
fn interrupted_while_it_measures_it_leaves_nothing_behind() {
    let place = Place::new();
    // Both processes are in their domain: then it begins. Of these instants some are in the middle of it, on any machine.
    let has_both = || {
        let of_the_run = entries(place.path()).into_iter().next();
        of_the_run.is_some_and(|directory| nodes(&directory) >= 2)
    };
    for later in [0, 20, 100, 500, 1500] {
        interrupt(&place, has_both, Duration::from_millis(later));
    }
}
