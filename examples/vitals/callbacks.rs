//! The callbacks of the script on the main thread: what they show of the topics, and how a signal ends the program.

use std::{
    io::{self, IsTerminal, Stdout},
    thread,
    time::{Duration, Instant},
};

use mproc::{Control, Result, Snapshot, prelude::*};

use crate::{
    alarms::AlarmEvent,
    display::{Screen, Size, View, alarm_line},
    policies::policy_rows,
    source::Origin,
    topics::{ALARMS, ERRORS, Ledger, SUMMARIES, Summaries},
};

/// The main thread's script.
pub(crate) type Main = Script<Display>;

/// The state of the callbacks on the main thread.
pub(crate) struct Display {
    pub(crate) view: View,
    screen: Screen<Stdout>,
    /// Draws a table in place of writing lines.
    pub(crate) terminal: bool,
    pub(crate) colour: bool,
    start: Instant,
    pub(crate) ended: bool,
    /// Why nothing can be shown any more.
    pub(crate) failed: Option<io::Error>,
    pub(crate) ledger: Ledger,
}

impl Display {
    /// Shows figures that come from `origin`, as suits the standard output.
    pub(crate) fn new(origin: &Origin, start: Instant) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            view: View::new(match origin {
                Origin::Proc(root) => root.display().to_string(),
                Origin::Library => "the library sysinfo".to_owned(),
            }),
            screen: Screen::new(io::stdout()),
            terminal,
            colour: terminal && std::env::var_os("NO_COLOR").is_none(),
            start,
            ended: false,
            failed: None,
            ledger: Ledger::default(),
        }
    }

    fn now(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// A line that stays. On a terminal the page shows the same.
    fn line(&mut self, text: &str) {
        if !self.terminal {
            self.print(text);
        }
    }

    pub(crate) fn print(&mut self, text: &str) {
        let written = self.screen.print(text);
        self.note(written);
    }

    /// Without anybody to show it to, the program ends.
    fn note(&mut self, written: io::Result<()>) {
        if let Err(error) = written {
            self.failed.get_or_insert(error);
            self.ended = true;
        }
    }

    fn refresh(&mut self, snapshot: &Snapshot, at: Instant) {
        self.view.elapsed = self.now(at);
        self.view.policies = policy_rows(snapshot);
        if self.terminal {
            let written = self.screen.draw(&self.view, Size::of_terminal());
            self.note(written);
        } else {
            let line = self.view.line();
            self.print(&line);
        }
    }
}

/// Publishing on this ends the program in order.
const END: Topic<()> = Topic::local("vitals/end");

fn end(script: &mut Main) -> Result<Publisher<()>> {
    script.on(&END, |display, _, _| {
        display.ended = true;
    })?;
    script.publisher(&END)
}

/// The first Ctrl-C or SIGTERM ends the program in order, the second at once.
pub(crate) fn end_on_signal(script: &mut Main) -> Result<()> {
    let end = end(script)?;
    let mut told = false;
    ctrlc::set_handler(move || {
        if told || end.try_publish(()).is_err() {
            std::process::exit(130);
        }
        told = true;
    })
    .map_err(|error| io::Error::other(format!("cannot handle Ctrl-C: {error}")))?;
    Ok(())
}

/// The end of the standard input, which the parent holds, ends the program in order.
pub(crate) fn end_with_input(script: &mut Main) -> Result<()> {
    let end = end(script)?;
    thread::spawn(move || {
        // An input that cannot be read is over, too.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        // If this fails the script has ended.
        let _ = end.try_publish(());
    });
    Ok(())
}

/// Makes the callbacks of the display. Returns the name under which the node knows them.
pub(crate) fn show(script: &mut Main) -> Result<String> {
    let control: Control = script.on_with(
        &ERRORS,
        // The same file fails 50 times a second; a display that falls behind shows the newest.
        SubscriptionOptions::new().when_full(WhenFull::DropOldest),
        |display, text: Sample<String>, cx| {
            display.ledger.handled(&ERRORS);
            let at = display.now(cx.now());
            if display.view.trouble(at, &text) {
                display.line(&format!("{:7.1} s error: {}", at.as_secs_f64(), *text));
            }
        },
    )?;
    script.on_with(
        &SUMMARIES,
        SubscriptionOptions::new().when_full(WhenFull::Latest),
        |display, summaries: Sample<Summaries>, _| {
            display.ledger.handled(&SUMMARIES);
            display.view.went_back = summaries.went_back;
            display.view.summaries = summaries.into_owned().series;
        },
    )?;
    script.on(&ALARMS, |display, event: Sample<AlarmEvent>, _| {
        display.ledger.handled(&ALARMS);
        display.view.alarm(&event);
        display.line(&alarm_line(&event));
    })?;
    let period = if script.state(|display| display.terminal)? {
        Duration::from_millis(250)
    } else {
        Duration::from_secs(1)
    };
    script.every(period, |display, cx| {
        // The table at the end takes the place of what would be drawn now.
        if !display.ended {
            display.refresh(&Node::from(&*cx).snapshot(), cx.now());
        }
    })?;
    script.state(|display| {
        display.ledger.subscribed(&ERRORS);
        display.ledger.subscribed(&SUMMARIES);
        display.ledger.subscribed(&ALARMS);
    })?;
    let owner = control.snapshot().and_then(|snapshot| snapshot.owner);
    owner.ok_or_else(|| io::Error::other("the display has ended").into())
}
