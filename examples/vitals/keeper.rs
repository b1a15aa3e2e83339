//! The parent of the processes, when each part has one: starts them, starts again what dies, and ends them in order.
//!
//! A child ends when its standard input does. So the parent says when, and if the parent is killed the children end too.

use std::{
    collections::BTreeMap,
    env,
    io::{self, Write},
    process::{self, ChildStdin, Command, Output, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use mproc::{Error, Options, ReplyToken, Result, prelude::*};

use crate::roles::Role;

/// A child that dies again and again is started no more often than this.
const START_EVERY: Duration = Duration::from_millis(300);

/// Runs every role in a process of its own until a signal comes or the time is over. Returns whether all accounts hold.
pub(crate) fn run(limit: Option<Duration>) -> Result<bool> {
    // The parent itself publishes nothing, and is in no domain.
    let node = Node::with_options(Options::from_environment()?);
    let mut script = node.script()?;
    let keeper = script.spawn("keeper", Keeper::new(limit))?;
    let end = keeper.clone();
    let mut told = false;
    ctrlc::set_handler(move || {
        if told || end.try_send(End).is_err() {
            process::exit(130);
        }
        told = true;
    })
    .map_err(|error| io::Error::other(format!("cannot handle Ctrl-C: {error}")))?;
    let ended = script.spin_until(&mut keeper.call(Run), Duration::MAX)?;
    ended.map_err(Error::from)
}

struct Keeper {
    limit: Option<Duration>,
    /// When all began, so that every process counts time from there.
    began: SystemTime,
    running: BTreeMap<Role, Running>,
    is_ending: bool,
    /// What the children have written but for the display, which writes to our own output.
    written: String,
    /// Whether the accounts of all that have ended hold, or why it went no further.
    outcome: io::Result<bool>,
    ended: Option<ReplyToken<io::Result<bool>>>,
}

struct Running {
    /// Closing it ends the child in order.
    input: Option<ChildStdin>,
    started: Instant,
}

/// Starts all. The reply comes when all have ended.
struct Run;
struct Start(Role);
struct Ended(Role, io::Result<Output>);
struct End;

impl Keeper {
    fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            began: SystemTime::now(),
            running: BTreeMap::new(),
            is_ending: false,
            written: String::new(),
            outcome: Ok(true),
            ended: None,
        }
    }

    fn start(&mut self, role: Role, cx: &Cx<'_, Self>) -> io::Result<()> {
        let began = self.began.duration_since(SystemTime::UNIX_EPOCH);
        let began = began.map_err(io::Error::other)?;
        let mut command = Command::new(env::current_exe()?);
        command
            .args(env::args_os().skip(1))
            .args(["--role", role.name()])
            .args(["--began-ns", &began.as_nanos().to_string()])
            .env("MPROC_DOMAIN", format!("vitals-{}", process::id()))
            .stdin(Stdio::piped());
        if role != Role::Display {
            command.stdout(Stdio::piped());
        }
        // Ctrl-C in a terminal is for the parent.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let running = Running {
            input: child.stdin.take(),
            started: cx.now(),
        };
        self.running.insert(role, running);
        let me = cx.me();
        thread::spawn(move || {
            let output = child.wait_with_output();
            // If the keeper has ended, nobody wants to know.
            let _ = me.send(Ended(role, output));
        });
        Ok(())
    }

    /// Ends who is to end next, and is called again when that one has ended.
    fn end_next(&mut self) {
        self.is_ending = true;
        for role in Role::ALL {
            if let Some(running) = self.running.get_mut(&role) {
                running.input = None;
                return;
            }
        }
        // Without anybody to show it to there is nothing to be done about it.
        let _ = io::stdout().write_all(self.written.as_bytes());
        if let Some(ended) = self.ended.take() {
            ended.send(std::mem::replace(&mut self.outcome, Ok(false)));
        }
    }
}

impl Processor for Keeper {}

impl Handle<Run> for Keeper {
    type Reply = io::Result<bool>;

    fn handle(
        &mut self,
        _: Run,
        cx: &mut Cx<'_, Self, io::Result<bool>>,
    ) -> Outcome<io::Result<bool>> {
        let me = cx.me();
        for role in Role::ALL.into_iter().rev() {
            me.send(Start(role))?;
        }
        cx.reply_later(|ended| self.ended = Some(ended))
    }
}

impl Handle<Start> for Keeper {
    type Reply = ();

    fn handle(&mut self, Start(role): Start, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if self.is_ending {
            return Ok(());
        }
        if let Err(error) = self.start(role, cx) {
            let text = format!("cannot start {role}: {error}");
            self.outcome = Err(io::Error::new(error.kind(), text));
            self.end_next();
        } else if let Some(limit) = self.limit.take() {
            cx.after(limit, End);
        }
        Ok(())
    }
}

impl Handle<Ended> for Keeper {
    type Reply = ();

    fn handle(&mut self, Ended(role, output): Ended, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let Some(running) = self.running.remove(&role) else {
            return Ok(());
        };
        let output = output?;
        let shown = String::from_utf8_lossy(&output.stdout);
        if self.is_ending {
            if let Ok(holds) = &mut self.outcome {
                *holds &= output.status.success();
            }
            if role != Role::Display {
                self.written.push_str(&format!("\n{role}:{shown}"));
            }
            self.end_next();
        } else if output.status.code() == Some(1) {
            // It has said why it cannot go on. Nor could the next.
            let text = format!("{role} has given up");
            self.outcome = Err(io::Error::other(text));
            self.end_next();
        } else {
            eprintln!(
                "vitals: {role} has ended ({}), it is started again",
                output.status
            );
            let next = running.started + START_EVERY;
            cx.after(next.saturating_duration_since(cx.now()), Start(role));
        }
        Ok(())
    }
}

impl Handle<End> for Keeper {
    type Reply = ();

    fn handle(&mut self, _: End, _: &mut Cx<'_, Self>) -> Outcome<()> {
        if !self.is_ending {
            self.end_next();
        }
        Ok(())
    }
}
