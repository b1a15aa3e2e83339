//! `mproc top`
//!
//! | file | idea |
//! |---|---|
//! | `model.rs` | what is shown, as numbers: the differences of two surveys |
//! | `grid.rs` | the five tables: columns, sorting, filtering |
//! | `keys.rs` | the state of the screen, and what keys do to it |
//! | `view.rs` | how it looks |
//! | `text.rs` | text of other programs, made fit for a terminal |

mod grid;
mod keys;
mod model;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod text;
mod view;

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{json, json_line, standard};
use crate::session::Session;
use crate::world::World;
use clap::{Args, ColorChoice};
use grid::{Grid, Sort, Tab};
use keys::Ui;
use model::Figures;
use mproc::Node;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use std::io::{IsTerminal, Write, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};
use view::Look;

pub(crate) use model::causes;

/// How long nodes may take to answer one survey of the screen, unless it was said.
const SURVEY_LIMIT: Duration = Duration::from_millis(800);
/// At least this often the loop looks whether a signal has come.
const LOOK_ROUND: Duration = Duration::from_millis(250);

/// Shows the domain live: processors, topics, and who waits for whom.
///
/// Five tables, of which the keys 1 to 5 choose one: processors by load, topics by rate, drivers, services, and who waits for
/// whom, with the nodes that do not answer. Press ? for all keys.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc top                          the live screen
  mproc top --interval 0.2           five surveys a second
  mproc top --once                   one set of tables, for logs
  mproc top --once --json            the same for programs
  mproc top --count 10 --json        ten lines of JSON, one for each interval

JSON: an object with domain, nodes, silent, processors, topics, drivers, services, waits. Units are in the names: load is the \
share of one core, ..._per_s are rates over the interval (null until they are known), ..._ns are nanoseconds. What is not so named \
counts from the program's start.")]
pub(crate) struct Arguments {
    /// Time between two surveys.
    #[arg(long, short, default_value = "1", value_name = "SECONDS", value_parser = seconds)]
    interval: f64,
    /// Print the tables once, after one interval, and end.
    #[arg(long)]
    once: bool,
    /// Print JSON: one object; with --count one on each line.
    #[arg(long)]
    json: bool,
    /// Print this often, and end.
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Show topics and services of the library itself, too.
    #[arg(long, short)]
    all: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if !(0.05..=3600.0).contains(&seconds) {
        return Err("from 0.05 to 3600".to_owned());
    }
    Ok(seconds)
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    if arguments.once || arguments.json || arguments.count.is_some() {
        return print(arguments, global);
    }
    if !stdout().is_terminal() {
        return Err(Failure::new(
            Code::Usage,
            "standard output is not a terminal, which the live screen needs",
        )
        .hint("mproc top --once, or --json"));
    }
    let session = Session::join(global)?;
    let limit = global.look_limit.unwrap_or(SURVEY_LIMIT);
    // A domain that cannot be joined is told before the screen is taken.
    let Some(world) = look(&session, limit)? else {
        return Ok(());
    };
    let outcome = screen(arguments, global, &session, world, limit);
    // The thread that asks has the node, too: it is ended here and now, so that its socket does not stay.
    let _ = session.shutdown(Duration::from_secs(1));
    outcome
}

/// What the domain has; `None` if Ctrl-C came, which is no failure.
fn look(session: &Session, limit: Duration) -> Outcome<Option<World>> {
    match session.look_for(limit) {
        Ok(world) => Ok(Some(world)),
        Err(_) if session.is_ending() => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Without a screen.
fn print(arguments: &Arguments, global: &Global) -> Outcome {
    let session = Session::join(global)?;
    let Some(mut before) = look(&session, session.look_limit())? else {
        return Ok(());
    };
    let mut left = arguments.count.unwrap_or(1);
    while left > 0 {
        if !pause(&session, Duration::from_secs_f64(arguments.interval)) {
            return Ok(());
        }
        let Some(now) = look(&session, session.look_limit())? else {
            return Ok(());
        };
        let figures = Figures::new(&global.domain, Some(&before), &now, arguments.all);
        match (arguments.json, arguments.count) {
            (true, None) => json(&figures)?,
            (true, Some(_)) => {
                let mut out = standard();
                json_line(&mut out, &figures)?;
                out.flush()?;
            }
            (false, _) => {
                let mut out = standard();
                write!(out, "{}", tables(&figures))?;
                out.flush()?;
            }
        }
        before = now;
        left -= 1;
    }
    Ok(())
}

/// Waits, and returns false if Ctrl-C came.
fn pause(session: &Session, time: Duration) -> bool {
    session.steady_clock().sleep(time).wait().is_ok() && !session.is_ending()
}

/// All tables that have something in them, as text.
fn tables(figures: &Figures) -> String {
    let mut text = format!(
        "domain {}: {} node{}, {} silent\n",
        text::shown(&figures.domain),
        figures.nodes.len(),
        if figures.nodes.len() == 1 { "" } else { "s" },
        figures.silent.len()
    );
    for tab in Tab::ALL {
        let sort = Sort {
            column: tab.first_sort(),
            is_reversed: false,
        };
        let table = Grid::new(figures, tab, sort, "").table();
        if !table.is_empty() {
            text.push_str(&format!("\n{table}"));
        }
    }
    text
}

/// What the loop of the screen is woken by.
enum Woken {
    Event(Event),
    /// The terminal is gone.
    NoTerminal,
    Survey(Result<World, String>),
}

/// The terminal, given back at drop. A panic gives it back before it is reported: `ratatui::try_init` sees to that.
struct Screen(DefaultTerminal);

impl Drop for Screen {
    fn drop(&mut self) {
        // It may be gone, which serves as well.
        let _ = ratatui::try_restore();
    }
}

fn screen(
    arguments: &Arguments,
    global: &Global,
    session: &Session,
    world: World,
    limit: Duration,
) -> Outcome {
    let look = Look {
        has_colour: match global.color {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        },
        has_utf8: text::terminal_has_utf8(),
    };
    let mut screen = Screen(ratatui::try_init()?);
    let (tell, woken) = channel();
    let (ask, asked) = channel();
    let node = Node::clone(session);
    let tell_survey = tell.clone();
    thread::spawn(move || answer(&node, limit, &asked, &tell_survey));
    thread::spawn(move || read_keys(&tell));

    let mut live = Live {
        figures: Figures::new(&global.domain, None, &world, arguments.all),
        before: world,
        ui: Ui::new(),
        trouble: None,
        is_asked: false,
        // The first rates come soon.
        next: Instant::now() + Duration::from_secs_f64(arguments.interval.min(0.5)),
    };
    while !live.ui.is_over && !session.is_ending() {
        let draw = |frame: &mut ratatui::Frame<'_>| {
            let trouble = live.trouble.as_deref();
            let interval_s = arguments.interval;
            view::draw(
                frame,
                &live.figures,
                &mut live.ui,
                look,
                interval_s,
                trouble,
            );
        };
        screen.0.draw(draw)?;
        if !live.wait(arguments, global, session, &ask, &woken) {
            break;
        }
    }
    Ok(())
}

/// What the loop keeps.
struct Live {
    figures: Figures,
    before: World,
    ui: Ui,
    trouble: Option<String>,
    /// True while a survey is under way.
    is_asked: bool,
    /// When the next is due.
    next: Instant,
}

impl Live {
    /// Returns when there may be something new to draw; false if there is no terminal any more.
    fn wait(
        &mut self,
        arguments: &Arguments,
        global: &Global,
        session: &Session,
        ask: &Sender<()>,
        woken: &Receiver<Woken>,
    ) -> bool {
        let interval = Duration::from_secs_f64(arguments.interval);
        while !session.is_ending() {
            let now = Instant::now();
            let is_due = !self.is_asked && !self.ui.is_paused;
            if is_due && now >= self.next {
                self.is_asked = ask.send(()).is_ok();
                self.next = now + interval;
            }
            let mut limit = LOOK_ROUND;
            if !self.is_asked && !self.ui.is_paused {
                limit = limit.min(self.next.saturating_duration_since(now));
            }
            match woken.recv_timeout(limit) {
                Ok(Woken::Event(Event::Key(key))) => {
                    self.ui.press(key, &self.figures);
                    return true;
                }
                Ok(Woken::Event(Event::Resize(..))) => return true,
                Ok(Woken::Event(_)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Woken::NoTerminal) | Err(RecvTimeoutError::Disconnected) => return false,
                Ok(Woken::Survey(result)) => {
                    self.is_asked = false;
                    // One that was under way when the screen was held is not shown.
                    if !self.ui.is_paused {
                        self.take(result, arguments, global);
                        return true;
                    }
                }
            }
        }
        true
    }

    fn take(&mut self, result: Result<World, String>, arguments: &Arguments, global: &Global) {
        match result {
            Ok(now) => {
                self.figures =
                    Figures::new(&global.domain, Some(&self.before), &now, arguments.all);
                self.before = now;
                self.trouble = None;
            }
            Err(error) => self.trouble = Some(error),
        }
    }
}

/// Surveys, one whenever it is asked for, so that keys are served while a node takes its time.
fn answer(node: &Node, limit: Duration, asked: &Receiver<()>, tell: &Sender<Woken>) {
    while asked.recv().is_ok() {
        let survey = node.survey(limit).wait();
        let result = survey.map(World::new).map_err(|error| error.to_string());
        if tell.send(Woken::Survey(result)).is_err() {
            return;
        }
    }
}

/// Passes on what the terminal says, until the process ends.
fn read_keys(tell: &Sender<Woken>) {
    while let Ok(event) = event::read() {
        if tell.send(Woken::Event(event)).is_err() {
            return;
        }
    }
    // Nobody listens when the command ends just now.
    let _ = tell.send(Woken::NoTerminal);
}
