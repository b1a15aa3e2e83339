//! `mproc bench`: every question has an answer, and nothing is left behind.

mod support;

use serde_json::Value;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use support::{LONG, Place};

fn entries(place: &Place) -> Vec<String> {
    let entries = fs::read_dir(place.path()).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
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
    assert_eq!(entries(&place), Vec::<String>::new());
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

#[test]
fn interrupted_it_leaves_nothing_behind() {
    let place = Place::new();
    let mut command = place.command(&["bench", "--seconds", "600", "--sizes", "64"]);
    let mut child = command
        .env("TMPDIR", place.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + LONG;
    while entries(&place).is_empty() {
        assert!(Instant::now() < end && child.try_wait().unwrap().is_none());
        // A directory does not say when something comes into it.
        sleep(Duration::from_millis(5));
    }
    let pid = child.id().to_string();
    let sent = Command::new("kill").args(["-INT", &pid]).status().unwrap();
    assert!(sent.success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text, "", "whoever interrupts it knows why it ended");
    assert_eq!(entries(&place), Vec::<String>::new());
}
