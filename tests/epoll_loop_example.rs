//! `examples/epoll_loop` shows what it says.
#![cfg(unix)]

#[path = "support/examples.rs"]
mod examples;

use examples::example;
use std::process::Command;

#[test]
fn one_loop_serves_sockets_and_the_script_and_ends_in_order() {
    if !has_loopback() {
        return;
    }
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

/// False, which is said, on a machine that cannot connect to itself.
fn has_loopback() -> bool {
    let tried = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .and_then(std::net::TcpStream::connect);
    match tried {
        // Refused, for nobody listens any more: the way there is open.
        Ok(_) => true,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => true,
        Err(error) => {
            println!("skipped: no loopback: {error}");
            false
        }
    }
}
