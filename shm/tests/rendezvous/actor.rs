//! A process that plays a role, as its parent has it.

use crate::lab;
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(120);

/// A process that plays a role.
pub(super) struct Actor {
    pub(super) child: Child,
    pub(super) input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// All that have come.
    pub(super) seen: Vec<String>,
    /// Those that nobody has waited for.
    untaken: Vec<String>,
}

pub(super) fn start(role: &str, base: &Path, node: u8, more: &[(&str, &str)]) -> Actor {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env("RENDEZVOUS_ROLE", role)
        .env("RENDEZVOUS_BASE", base)
        .env("RENDEZVOUS_NODE", node.to_string())
        .envs(more.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    let output = child.stdout.take().unwrap();
    let (tell, lines) = channel();
    thread::spawn(move || {
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
        seen: Vec::new(),
        untaken: Vec::new(),
    }
}

impl Actor {
    /// Waits for a line that begins with `start`, takes it, and returns the rest of it. Lines that come before it can
    /// still be taken.
    pub(super) fn wait_for(&mut self, start: &str) -> String {
        let mut passed = 0;
        loop {
            if let Some(line) = self.untaken.get(passed) {
                if let Some(rest) = line.strip_prefix(start) {
                    let rest = rest.trim().to_owned();
                    self.untaken.remove(passed);
                    return rest;
                }
                passed += 1;
                continue;
            }
            match self.lines.recv_timeout(LONG) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    self.untaken.push(line);
                }
                Err(error) => panic!("waiting for {start:?}: {error}, after {:#?}", self.seen),
            }
        }
    }

    pub(super) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(super) fn ask(&mut self, line: &str, answer: &str) -> String {
        self.tell(line);
        self.wait_for(answer)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    pub(super) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    pub(super) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the kernel says that it is stopped.
    pub(super) fn stop(&self) {
        self.signal(Signal::STOP);
        let (_, status) = waitpid(Some(self.pid()), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped());
    }

    pub(super) fn leave(mut self) {
        self.tell("leave");
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}, after {:#?}", self.seen);
    }

    pub(super) fn has_seen(&self, start: &str) -> bool {
        self.seen.iter().any(|line| line.starts_with(start))
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(super) fn base() -> TempDir {
    tempfile::tempdir().unwrap()
}

pub(super) fn joined(base: &TempDir, node: u8) -> Actor {
    let mut actor = start("node", base.path(), node, &[]);
    actor.wait_for("joined");
    actor
}

pub(super) fn files(base: &TempDir) -> usize {
    fs::read_dir(lab(base.path()).path()).unwrap().count()
}
