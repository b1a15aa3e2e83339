//! For tests that use the command line as a person does: a domain of their own, `mproc` as a process, and programs to look at.
//!
//! A program to look at is this test program, started again with a role. Its test `role` must call [`play_role`].

#![allow(dead_code, unreachable_pub)] // Each test program needs a part of it.

use rustix::process::{Pid, Signal, kill_process};
use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// For what must happen on the slowest machine.
pub const LONG: Duration = Duration::from_secs(120);

/// Seconds that programs may take to answer, in tests that stop none. Those that do say another `--look-limit`.
pub const LOOK_LIMIT: &str = "60";

const ROLE: &str = "MPROC_CLI_TEST_ROLE";

/// A directory in which nobody else has a domain.
pub struct Place {
    directory: tempfile::TempDir,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub struct Ran {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// What it printed, if it ended well.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(self.ok()).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn with_environment(&self, mut command: Command) -> Command {
        command
            .env("XDG_RUNTIME_DIR", self.path())
            .env_remove("MPROC_DOMAIN")
            .env_remove("MPROC_CAPACITY")
            .env("NO_COLOR", "1")
            .env("MPROC_LOOK_LIMIT", LOOK_LIMIT)
            .current_dir(self.path());
        command
    }

    /// `mproc` with these arguments, not started yet.
    pub fn command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mproc"));
        command.args(arguments);
        self.with_environment(command)
    }

    /// Runs `mproc` with these arguments until it ends.
    pub fn run<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Ran {
        self.run_with_input(arguments, "")
    }

    /// As [`run`](Self::run), with this on its standard input.
    pub fn run_with_input<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S], input: &str) -> Ran {
        let mut running = self.start(arguments);
        running
            .input
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .ok();
        running.end()
    }

    /// Starts `mproc` with these arguments.
    pub fn start<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Running {
        Running::new(self.command(arguments))
    }

    /// Starts this test program as the program `role`, and returns when that has said `ready`.
    pub fn program(&self, role: &str) -> Running {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", "role", "--nocapture", "--test-threads=1"])
            .env(ROLE, role);
        let mut running = Running::new(self.with_environment(command));
        running.line_with("@ready");
        running
    }
}

/// In a test called `role` of each test program: plays the role that this process was started for, if it was, and then ends the process.
pub fn play_role(roles: &[(&str, fn())]) {
    let Ok(wanted) = env::var(ROLE) else {
        return;
    };
    let (_, play) = roles.iter().find(|(name, _)| *name == wanted).unwrap();
    play();
    std::process::exit(0);
}

/// For roles: tells the test that it can go on.
pub fn say(line: &str) {
    println!("@{line}");
    std::io::stdout().flush().unwrap();
}

/// For roles: returns when the test has closed the program's input, or said a line, which it returns.
pub fn listen() -> Option<String> {
    let mut line = String::new();
    match std::io::stdin().read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim_end().to_owned()),
    }
}

/// The lines of `output`, as they come.
fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let text = String::from_utf8_lossy(&line);
            if tell.send(text.trim_end_matches('\n').to_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    lines
}

/// Sends a signal, by its name without SIG.
#[track_caller]
pub fn send_signal(pid: Pid, name: &str) {
    let signal = match name {
        "INT" => Signal::INT,
        "TERM" => Signal::TERM,
        "KILL" => Signal::KILL,
        "STOP" => Signal::STOP,
        "CONT" => Signal::CONT,
        other => panic!("no such signal: {other}"),
    };
    kill_process(pid, signal).unwrap();
}

/// A process that runs. It is killed at drop.
pub struct Running {
    pub child: Child,
    pub input: Option<ChildStdin>,
    lines: Receiver<String>,
    errors: Receiver<String>,
    seen: String,
    seen_errors: String,
}

impl Running {
    fn new(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = child.stdout.take().unwrap();
        let lines = lines_of(output);
        let errors = lines_of(child.stderr.take().unwrap());
        Self {
            input: child.stdin.take(),
            child,
            lines,
            errors,
            seen: String::new(),
            seen_errors: String::new(),
        }
    }

    /// The next line of its output; `None` at its end.
    #[track_caller]
    pub fn line(&mut self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.lines.recv_timeout(LONG) {
            Ok(line) => {
                self.seen.push_str(&line);
                self.seen.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("no line for {LONG:?} after:\n{}", self.seen),
        }
    }

    /// The next line that has `text` in it.
    #[track_caller]
    pub fn line_with(&mut self, text: &str) -> String {
        loop {
            match self.line() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => {
                    while self.error_line().is_some() {}
                    panic!(
                        "it ended before {text:?}; it said:\n{}\n{}",
                        self.seen, self.seen_errors
                    )
                }
            }
        }
    }

    /// The next line of its standard error; `None` at its end.
    #[track_caller]
    pub fn error_line(&mut self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.errors.recv_timeout(LONG) {
            Ok(line) => {
                self.seen_errors.push_str(&line);
                self.seen_errors.push('\n');
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line for {LONG:?} after:\n{}", self.seen_errors)
            }
        }
    }

    /// The next line of its standard error that has `text` in it.
    #[track_caller]
    pub fn error_line_with(&mut self, text: &str) -> String {
        loop {
            match self.error_line() {
                Some(line) if line.contains(text) => return line,
                Some(_) => {}
                None => panic!("it ended before {text:?}:\n{}", self.seen_errors),
            }
        }
    }

    /// Says a line to it.
    #[track_caller]
    pub fn say(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal, by its name without SIG.
    #[track_caller]
    pub fn signal(&self, name: &str) {
        send_signal(Pid::from_child(&self.child), name);
    }

    /// Closes its input, waits for its end, and returns all that it said.
    #[track_caller]
    pub fn end(mut self) -> Ran {
        self.input = None;
        while self.line().is_some() {}
        while self.error_line().is_some() {}
        let status = self.child.wait().unwrap();
        Ran {
            code: status.code(),
            out: std::mem::take(&mut self.seen),
            err: std::mem::take(&mut self.seen_errors),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
