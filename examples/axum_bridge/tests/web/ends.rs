//! The whole program, and a signal.
#![cfg(unix)]

use crate::support::{Changes, LIMIT, client};
use std::io::{BufRead as _, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::thread;

/// It is killed when this is dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // Both fail if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Program {
    /// It, its address, and what else it says.
    fn start() -> (Self, String, Lines<BufReader<ChildStdout>>) {
        let mut process = Command::new(env!("CARGO_BIN_EXE_mproc-axum-bridge"))
            .arg("127.0.0.1:0")
            .env_remove("MPROC_DOMAIN")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let program = Self(process);
        let first = lines.next().unwrap().unwrap();
        let address = first.strip_prefix("listening on ").unwrap().to_owned();
        (program, address, lines)
    }
}

fn a_signal_ends_it_in_order(signal: rustix::process::Signal) {
    let (mut program, address, lines) = Program::start();
    let tokio = tokio::runtime::Runtime::new().unwrap();
    tokio.block_on(async {
        let mut changes = Changes::open(client().get(format!("{address}/changes"))).await;
        let add = client()
            .post(format!("{address}/add"))
            .json(&serde_json::json!({ "n": 2 }));
        assert_eq!(crate::support::value(add).await, 2);
        assert_eq!(changes.total().await.unwrap().1, 2);
        let id = rustix::process::Pid::from_child(&program.0);
        rustix::process::kill_process(id, signal).unwrap();
        // The stream has an end, and is not just cut off.
        assert_eq!(changes.total().await, None);
    });
    let (tell, told) = mpsc::channel();
    thread::spawn(move || tell.send(lines.map(Result::unwrap).collect::<Vec<_>>()));
    let said = told.recv_timeout(LIMIT).unwrap();
    assert_eq!(said[0], "the server has ended", "{said:?}");
    assert!(said[1].starts_with("all ended in "), "{said:?}");
    assert!(program.0.wait().unwrap().success());
}

#[test]
fn ctrl_c_ends_the_server_and_then_the_node() {
    a_signal_ends_it_in_order(rustix::process::Signal::INT);
}

#[test]
fn so_does_sigterm() {
    a_signal_ends_it_in_order(rustix::process::Signal::TERM);
}
