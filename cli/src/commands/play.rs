//! `mproc play`

use super::recording::keys::{self, Key, Keys};
use super::recording::ordered::{Next, Order, Ordered};
use super::recording::outlets::{Outlets, Selection, Sent};
use super::recording::pace::Pace;
use super::recording::parse::{self, Patterns};
use super::recording::scan::{Scanned, Span};
use super::recording::times::nanoseconds;
use super::recording::{counted, scan_shown, shown};
use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::meeting;
use crate::output;
use crate::session::Session;
use crate::world::World;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mproc::{DomainTime, ErrorKind, Time};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::task::Waker;
use std::time::{Duration, Instant};

/// Plays recordings: publishes what was recorded, as it was published.
///
/// It waits first until all subscribers that are there now are matched, and at the end until they have handled all. On a
/// terminal keys control it: space pauses and goes on, s or . steps by one message, + and - change the rate, q ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc play run.mcap                                as it was
  mproc play run.mcap --rate 2 --loop                twice as fast, again and again
  mproc play run_001.mcap run_002.mcap --clock       several files as one; domain time follows
  mproc play run.mcap --topics 'robot/**' --remap robot/pose=old/pose
  mproc play run.mcap --start-offset 60 --duration 5  five seconds, from the second minute on
  mproc play run.mcap --pause                        step through it with s")]
pub(crate) struct Arguments {
    /// The recordings. Several are played as one.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How many times faster than it was.
    #[arg(long, short = 'r', value_name = "TIMES", default_value = "1", value_parser = parse::play_rate)]
    rate: f64,
    /// Begin again at the end, 10 milliseconds after the last beginning at the earliest.
    #[arg(long = "loop", short = 'l')]
    is_loop: bool,
    /// Leave out so many seconds at the beginning.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse::seconds)]
    start_offset: Duration,
    /// Play so many seconds of the recording.
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds)]
    duration: Option<Duration>,
    /// Play these topics, by name or pattern. May be given several times.
    #[arg(long, short = 't', value_name = "TOPIC", value_parser = parse::topics)]
    topics: Vec<String>,
    /// Leave out these topics. May be given several times.
    #[arg(long, short = 'x', value_name = "TOPIC", value_parser = parse::topics)]
    exclude: Vec<String>,
    /// Publish topic OLD as NEW. May be given several times.
    #[arg(long, value_name = "OLD=NEW", value_parser = parse::remap)]
    remap: Vec<(String, String)>,
    /// Start paused.
    #[arg(long, conflicts_with = "no_keys")]
    pause: bool,
    /// Drive domain time: it follows the recording, its rate, pauses and steps.
    #[arg(long)]
    clock: bool,
    /// Wait first until each topic has so many subscribers, taps among them.
    #[arg(long, value_name = "COUNT")]
    wait_for: Option<usize>,
    /// Wait so many seconds first.
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = parse::seconds)]
    delay: Duration,
    /// In which order, and at what times.
    #[arg(long, value_name = "BY", default_value = "publish")]
    order: Order,
    /// Do not listen to the keyboard.
    #[arg(long)]
    no_keys: bool,
    /// Say nothing but errors and warnings.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print what was played as JSON at the end.
    #[arg(long)]
    json: bool,
}

/// How long subscribers that are there may take to be matched, and at the end to handle what they have.
const MATCH_LIMIT: Duration = Duration::from_secs(2);
const FLUSH_LIMIT: Duration = Duration::from_secs(10);
/// Rounds of a loop begin so far apart at the least: one of a single message has no length.
const ROUND_MIN: Duration = Duration::from_millis(10);
const SHOW_EVERY: Duration = Duration::from_millis(100);
/// The rates that keys can choose.
const RATE_MIN: f64 = 1.0 / 64.0;
const RATE_MAX: f64 = 64.0;

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let has_keys = !arguments.no_keys && std::io::stdin().is_terminal();
    if arguments.pause && !has_keys {
        let failure = "--pause needs a terminal, whose keys let it go on";
        return Err(Failure::new(Code::Usage, failure));
    }
    let mut files = Vec::new();
    for path in &arguments.files {
        files.push(scan_shown(path)?);
    }
    for file in &files {
        for damage in &file.damage {
            warn(&format!("{}: {damage}", file.path.display()));
        }
    }
    let session = Session::join(global)?;
    let world = session.look()?;
    let selection = Selection {
        topics: Patterns::new(&arguments.topics),
        excluded: Patterns::new(&arguments.exclude),
        remap: arguments.remap.clone(),
    };
    let outlets = Outlets::new(&session, &files, &selection, &world);
    for skipped in &outlets.skipped {
        warn(&format!(
            "{} of {} not played: {}",
            counted(skipped.messages, "message"),
            skipped.channel,
            skipped.why
        ));
    }
    let span = files.iter().fold(None, |all, file| {
        Span::join(all, arguments.order.span(file))
    });
    let (Some(span), false) = (span, outlets.all.is_empty()) else {
        return Err(nothing_to_play(&files));
    };
    let from_ns = span
        .first
        .saturating_add(nanoseconds(arguments.start_offset));
    let to_ns = match arguments.duration {
        Some(duration) => from_ns.saturating_add(nanoseconds(duration)),
        None => u64::MAX,
    };
    let time = if arguments.clock {
        Some(session.drive_time()?)
    } else {
        None
    };
    let last_ns = span.last.min(to_ns);
    let is_quiet = arguments.quiet || arguments.json;
    let progress = progress(last_ns.saturating_sub(from_ns), is_quiet);
    let mut player = Player {
        pace: Pace::new(session.now(), from_ns, arguments.rate, arguments.pause),
        session,
        outlets,
        time,
        keys: None,
        progress,
        show_at: None,
        from_ns,
        steps: 0,
        is_over: false,
        late_ns_max: 0,
    };
    if player.meet(arguments, &world, is_quiet)? {
        if has_keys {
            player.keys = Some(Keys::listen()?);
            if !is_quiet {
                player.progress.println(keys::HELP);
            }
        }
        player.play(arguments, &files, to_ns)?;
        player.keys = None;
    }
    player.progress.finish_and_clear();
    player.end(arguments)
}

fn warn(text: &str) {
    anstream::eprintln!("mproc: warning: {}", shown(text));
}

fn nothing_to_play(files: &[Scanned]) -> Failure {
    let messages: u64 = files.iter().map(|file| file.messages).sum();
    let text = match messages {
        0 => "there is nothing to play: no message could be read".to_owned(),
        n => format!(
            "there is nothing to play: none of {n} messages is of a topic that is selected and can be played"
        ),
    };
    let failure = Failure::new(Code::Failed, text);
    match files.first() {
        Some(file) => failure.hint(format!(
            "mproc info {}",
            shown(&file.path.display().to_string())
        )),
        None => failure,
    }
}

fn progress(length_ns: u64, is_quiet: bool) -> ProgressBar {
    if is_quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let length = Some(length_ns / 1_000_000);
    let bar = ProgressBar::with_draw_target(length, ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("{msg} [{wide_bar}]") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

struct Player {
    session: Session,
    outlets: Outlets,
    pace: Pace,
    time: Option<DomainTime>,
    keys: Option<Keys>,
    progress: ProgressBar,
    show_at: Option<Instant>,
    from_ns: u64,
    /// Messages that may be played although it is paused.
    steps: u64,
    /// Somebody has pressed the key for it.
    is_over: bool,
    late_ns_max: u64,
}

/// Why a wait is over.
enum Woken {
    Due,
    Pressed(Key),
    /// Ctrl-C.
    Ending,
}

impl Player {
    /// Waits for subscribers, and as long as was asked for. Returns false if it was interrupted.
    fn meet(&mut self, arguments: &Arguments, world: &World, is_quiet: bool) -> Outcome<bool> {
        let met = match arguments.wait_for {
            Some(count) => self.meet_so_many(count, is_quiet),
            // Whoever was there, and is not any more, is not waited for longer than this.
            None => {
                let meetings = self.outlets.meetings(world);
                let met = meeting::meet(&self.session, &meetings, MATCH_LIMIT);
                if let Ok(missing) = met
                    && missing > 0
                {
                    let seconds = MATCH_LIMIT.as_secs_f64();
                    output::note(&format!(
                        "{missing} of the subscriptions and taps that are known were not met within {seconds} s"
                    ));
                }
                let is_known = world.silent.is_empty();
                let settled = met.and_then(|_| match is_known {
                    true => Ok(()),
                    false => meeting::settle(&meetings, MATCH_LIMIT),
                });
                settled.map_err(Failure::from)
            }
        };
        match met {
            // The node has ended, too, when Ctrl-C was pressed.
            Err(_) if self.session.is_ending() => return Ok(false),
            met => met?,
        }
        let until = self.session.now().checked_add(arguments.delay);
        Ok(!matches!(self.wait(until), Woken::Ending))
    }

    fn meet_so_many(&self, count: usize, is_quiet: bool) -> Outcome {
        for outlet in &self.outlets.all {
            if !is_quiet && count > 0 {
                let mut out = output::standard();
                let topic = shown(&outlet.topic);
                let wanted = counted(count as u64, "subscriber");
                writeln!(out, "waiting for {wanted} of {topic}")?;
                out.flush()?;
            }
            outlet.wait_for_subscribers(count, Duration::MAX)?;
        }
        Ok(())
    }

    fn play(&mut self, arguments: &Arguments, files: &[Scanned], to_ns: u64) -> Outcome {
        loop {
            let next_round = self.session.now() + ROUND_MIN;
            self.begin()?;
            let mut messages = Ordered::new(files, arguments.order, self.from_ns, to_ns);
            for next in messages.by_ref() {
                if self.session.is_ending() || !self.one(next)? {
                    return Ok(());
                }
            }
            for failed in &messages.failed {
                warn(failed);
            }
            if !arguments.is_loop || self.session.is_ending() {
                return Ok(());
            }
            if self.outlets.sent() == Sent::default() {
                return Ok(());
            }
            if !self.rest(next_round)? {
                return Ok(());
            }
        }
    }

    /// Waits until the next round may begin. Returns false if playing is over.
    fn rest(&mut self, until: Instant) -> Outcome<bool> {
        loop {
            match self.wait(Some(until)) {
                Woken::Due => return Ok(true),
                Woken::Ending => return Ok(false),
                Woken::Pressed(key) => self.press(key)?,
            }
            if self.is_over {
                return Ok(false);
            }
        }
    }

    fn begin(&mut self) -> Outcome {
        self.pace.jump(self.session.now(), self.from_ns);
        if let Some(time) = &self.time {
            time.set(Time::from_nanos(self.from_ns))?;
            time.rate(self.pace.rate())?;
            if !self.pace.is_paused() {
                time.resume()?;
            }
        }
        Ok(())
    }

    /// Plays one message when it is due. Returns false if playing is over.
    fn one(&mut self, next: Next) -> Outcome<bool> {
        if self.outlets.is_played(next.file, next.message.channel) {
            while !self.is_over && !self.is_due(&next)? {
                if self.is_over {
                    break;
                }
                let due = self.pace.due(next.time_ns);
                match self.wait(due) {
                    Woken::Due => {}
                    Woken::Ending => return Ok(false),
                    Woken::Pressed(key) => self.press(key)?,
                }
            }
            if self.is_over {
                return Ok(false);
            }
            if self.pace.is_paused() {
                self.steps -= 1;
                self.step_to(next.time_ns)?;
            } else if let Some(due) = self.pace.due(next.time_ns) {
                let late = self.session.now().saturating_duration_since(due);
                self.late_ns_max = self.late_ns_max.max(nanoseconds(late));
            }
        }
        self.outlets.play(next.file, next.message);
        self.show();
        Ok(true)
    }

    fn is_due(&mut self, next: &Next) -> Outcome<bool> {
        // Keys are looked at even if there is no time to wait.
        let keys = self.keys.as_ref();
        if let Some(key) = keys.and_then(|keys| keys.poll(Waker::noop())) {
            self.press(key)?;
            return Ok(false);
        }
        if self.pace.is_paused() {
            return Ok(self.steps > 0);
        }
        let due = self.pace.due(next.time_ns);
        Ok(due.is_some_and(|due| due <= self.session.now()))
    }

    /// Waits until then, for a key, or for Ctrl-C.
    fn wait(&mut self, until: Option<Instant>) -> Woken {
        loop {
            if self.session.is_ending() {
                return Woken::Ending;
            }
            let shows_at = match self.progress.is_hidden() {
                true => None,
                false => self.show_at,
            };
            let deadline = match (until, shows_at) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            let keys = self.keys.as_ref();
            let woken = self
                .session
                .wait_until(deadline, |waker| keys.and_then(|keys| keys.poll(waker)));
            match woken {
                Ok(key) => return Woken::Pressed(key),
                Err(ErrorKind::Timeout) => {
                    let now = self.session.now();
                    self.show();
                    if until.is_some_and(|until| until <= now) {
                        return Woken::Due;
                    }
                }
                Err(_) => return Woken::Ending,
            }
        }
    }

    fn press(&mut self, key: Key) -> Outcome {
        let now = self.session.now();
        match key {
            Key::Pause if self.pace.is_paused() => {
                self.pace.resume(now);
                self.steps = 0;
                if let Some(time) = &self.time {
                    time.resume()?;
                }
            }
            Key::Pause => {
                self.pace.pause(now);
                if let Some(time) = &self.time {
                    time.pause()?;
                }
            }
            Key::Step => {
                if !self.pace.is_paused() {
                    self.press(Key::Pause)?;
                }
                self.steps += 1;
            }
            Key::Faster | Key::Slower => {
                let factor = if key == Key::Faster { 2.0 } else { 0.5 };
                let rate = (self.pace.rate() * factor).clamp(RATE_MIN, RATE_MAX);
                self.pace.set_rate(now, rate);
                if let Some(time) = &self.time {
                    time.rate(rate)?;
                }
            }
            Key::End => self.is_over = true,
        }
        self.show_at = None;
        self.show();
        Ok(())
    }

    /// While it is paused, time goes to that of the message that is played.
    fn step_to(&mut self, time_ns: u64) -> Outcome {
        let now = self.session.now();
        let step_ns = time_ns.saturating_sub(self.pace.position(now));
        self.pace.jump(now, time_ns);
        if let Some(time) = &self.time
            && step_ns > 0
        {
            time.step(Duration::from_nanos(step_ns))?;
        }
        Ok(())
    }

    fn show(&mut self) {
        if self.progress.is_hidden() {
            return;
        }
        let now = self.session.now();
        if self.show_at.is_some_and(|at| now < at) {
            return;
        }
        self.show_at = now.checked_add(SHOW_EVERY);
        let at_ns = self.pace.position(now).saturating_sub(self.from_ns);
        let at = output::duration(Duration::from_millis(at_ns / 1_000_000));
        let state = if self.pace.is_paused() { " paused" } else { "" };
        let count = self.outlets.sent().published;
        self.progress.set_message(format!(
            "{at} x{}{state} {count} messages",
            self.pace.rate()
        ));
        self.progress.set_position(at_ns / 1_000_000);
        self.progress.tick();
    }

    /// Waits until all was handled, and says what was played.
    fn end(self, arguments: &Arguments) -> Outcome {
        let mut unflushed = 0;
        if !self.session.is_ending() {
            for outlet in &self.outlets.all {
                if outlet.flush(FLUSH_LIMIT).is_err() {
                    unflushed += 1;
                }
            }
        }
        let report = Report::new(&self, unflushed);
        report.warn();
        if arguments.json {
            return output::json(&report);
        }
        if !arguments.quiet {
            report.print()?;
        }
        Ok(())
    }
}

/// What was played. The names of its fields are those of `mproc play --json`.
#[derive(Debug, Serialize)]
struct Report {
    /// That were published, as those below were not.
    messages: u64,
    refused: u64,
    timed_out: u64,
    unreadable: u64,
    failed: u64,
    /// Topics that had subscribers which had not handled all in time.
    unflushed: usize,
    /// How long after it was due a message was published, at most.
    late_ns_max: u64,
    topics: Vec<TopicReport>,
    skipped: Vec<SkippedReport>,
}

#[derive(Debug, Serialize)]
struct TopicReport {
    topic: String,
    messages: u64,
    refused: u64,
    timed_out: u64,
    unreadable: u64,
    failed: u64,
    error: Option<String>,
}

#[derive(Debug, Serialize)]
struct SkippedReport {
    topic: String,
    messages: u64,
    why: String,
}

impl Report {
    fn new(player: &Player, unflushed: usize) -> Self {
        let all = player.outlets.sent();
        let topics = player.outlets.all.iter().map(|outlet| TopicReport {
            topic: outlet.topic.clone(),
            messages: outlet.sent.published,
            refused: outlet.sent.refused,
            timed_out: outlet.sent.timed_out,
            unreadable: outlet.sent.unreadable,
            failed: outlet.sent.failed,
            error: outlet.error.clone(),
        });
        let skipped = player.outlets.skipped.iter().map(|skipped| SkippedReport {
            topic: skipped.channel.clone(),
            messages: skipped.messages,
            why: skipped.why.clone(),
        });
        Self {
            messages: all.published,
            refused: all.refused,
            timed_out: all.timed_out,
            unreadable: all.unreadable,
            failed: all.failed,
            unflushed,
            late_ns_max: player.late_ns_max,
            topics: topics.collect(),
            skipped: skipped.collect(),
        }
    }

    fn warn(&self) {
        for topic in &self.topics {
            let lost = [
                (topic.refused, "were refused by a full subscriber"),
                (topic.timed_out, "found no room in time"),
                (topic.unreadable, "are no values of the topic's type"),
                (topic.failed, "were not published"),
            ];
            for (count, what) in lost.iter().filter(|(count, _)| *count > 0) {
                let why = topic
                    .error
                    .as_ref()
                    .map_or_else(String::new, |error| format!(": {error}"));
                warn(&format!("{count} messages of {} {what}{why}", topic.topic));
            }
        }
        if self.unflushed > 0 {
            warn(&format!(
                "subscribers of {} topics have not handled all after {}",
                self.unflushed,
                output::duration(FLUSH_LIMIT)
            ));
        }
    }

    fn print(&self) -> Outcome {
        let mut out = output::standard();
        let late = output::duration(Duration::from_nanos(self.late_ns_max));
        let mut topics: Vec<&str> = self
            .topics
            .iter()
            .map(|topic| topic.topic.as_str())
            .collect();
        topics.sort_unstable();
        topics.dedup();
        let messages = counted(self.messages, "message");
        let topics = counted(topics.len() as u64, "topic");
        writeln!(out, "{messages} of {topics}, at most {late} late")?;
        out.flush()?;
        Ok(())
    }
}
