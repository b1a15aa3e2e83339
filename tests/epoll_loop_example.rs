//! `examples/epoll_loop` shows what it says.
#![cfg(unix)]

#[path = "support/examples.rs"]
mod examples;

use examples::example;
use std::process::Command;

#[test]
fn one_loop_serves_sockets_and_the_script_and_ends_in_order() {
    let directory = tempfile::TempDir::new().unwrap();
    let output = Command::new(example("epoll_loop"))
        .env("XDG_RUNTIME_DIR", directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "3 words so far",
            "4 words so far",
            "6 words so far",
            "the visitor has gone",
        ]
    );
}
