//! `examples/tap` shows what it says, of its own topics and of another process's.
#![cfg(any(target_os = "linux", target_os = "macos"))]

#[path = "support/examples.rs"]
mod examples;

use examples::example;
use mproc::prelude::*;
use mproc::{DomainOptions, Options, TypeInfo};
use std::process::{Command, Stdio};

/// How long anything that is waited for may take. Far more than it does.
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn without_arguments_it_records_three_topics_of_three_codecs() {
    let output = Command::new(example("tap"))
        .env_remove("MPROC_DOMAIN")
        .env_remove("MPROC_CAPACITY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            r#"{"missed":0,"sequence":0,"topic":"tap/point","value":[0.5,-2.0]}"#,
            r#"{"missed":0,"sequence":0,"topic":"tap/words","value":["to","go"]}"#,
            r#"{"missed":0,"sequence":0,"topic":"tap/scan","value":[7,8,9]}"#,
        ]
    );
}

#[test]
fn it_records_what_another_process_publishes() {
    let directory = tempfile::tempdir().unwrap();
    let program = Command::new(example("tap"))
        .args(["robot/**", "2"])
        .env("XDG_RUNTIME_DIR", directory.path())
        .env("MPROC_DOMAIN", "tap")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let domain = DomainOptions::new("tap").unwrap();
    let domain = domain.directory(directory.path());
    let node = Node::builder()
        .options(Options::default())
        .domain_with(domain)
        .build()
        .unwrap();
    let known = TypeInfo::new("Pose", 1, mproc::CodecKind::Plain).with_schema("x: u16, y: u16");
    let unknown = TypeInfo::new("Odd", 2, mproc::CodecKind::Plain);
    for (name, info) in [("robot/pose", &known), ("robot/odd", &unknown)] {
        let publisher = node.raw_publisher(name, info, Default::default()).unwrap();
        publisher.wait_for_subscribers(1, LIMIT).unwrap();
        publisher.publish(&[1, 0, 2, 0], &[]).unwrap();
        publisher.flush(LIMIT).unwrap();
    }
    let output = program.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        shown.lines().collect::<Vec<_>>(),
        [
            r#"{"missed":0,"sequence":0,"topic":"robot/pose","value":{"x":1,"y":2}}"#,
            r#"{"missed":0,"sequence":0,"topic":"robot/odd","value":"4 bytes of Odd"}"#,
        ]
    );
}
