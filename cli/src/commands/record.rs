//! `mproc record`
//!
//! Taps drop their oldest sample when they are full, so a recorder never holds a publisher back; what was dropped is counted,
//! and written in the file.

use super::recording::file::FileOptions;
use super::recording::parse::{self, Patterns};
use super::recording::recording::{Incoming, Limits, Recording, Wrote};
use super::recording::times::{self, Times, nanoseconds};
use super::recording::topic::{Counts, Encoding};
use super::recording::{counted, shown};
use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output;
use crate::session::Session;
use crate::unanswered::Unanswered;
use crate::world::{TopicView, World};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mcap::Compression;
use mproc::{
    CodecKind, PublisherId, Raw, RecvError, Sample, Schema, Selectable, Subscription,
    SubscriptionOptions, TypeInfo, WhenFull, select,
};
use serde::Serialize;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Records topics into MCAP files.
///
/// It ends with Ctrl-C, or as --duration and --max-size say, and then writes what is queued and closes the file in order. A
/// recorder never slows a publisher: what it cannot take in time is dropped, counted, and told. A file whose recorder was
/// killed can be read up to its last second.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc record --all                                  all topics, into mproc_DATE_TIME.mcap
  mproc record -o run.mcap host/cpu 'robot/**'        these
  mproc record --all --exclude 'camera/**'            all but these
  mproc record --all --max-size 1GiB --split          files of a gibibyte
  mproc record host/cpu --rate 10 --duration 60       ten a second, for a minute
  mproc record --all --encoding raw --compression lz4  fastest")]
pub(crate) struct Arguments {
    /// Topics, by name, pattern (robot/**) or id (7:1). Those that appear later are joined.
    #[arg(value_name = "TOPIC", value_parser = parse::topics, required_unless_present = "all")]
    topics: Vec<String>,
    /// All topics. Those without a name are those that there are at the start.
    #[arg(long, short = 'a', conflicts_with = "topics")]
    all: bool,
    /// The file. Without it: mproc_DATE_TIME.mcap in this directory.
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write over files that are there.
    #[arg(long, short = 'f')]
    force: bool,
    /// Leave out these topics. May be given several times.
    #[arg(long, short = 'x', value_name = "TOPIC", value_parser = parse::topics)]
    exclude: Vec<String>,
    /// End after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds)]
    duration: Option<Duration>,
    /// End, or with --split go on in another file, at this size: 500MB, 1GiB.
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    max_size: Option<u64>,
    /// Go on in another file at --max-size: run_001.mcap, run_002.mcap.
    #[arg(long, requires = "max_size")]
    split: bool,
    /// Go on in another file after this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = parse::seconds)]
    split_every: Option<Duration>,
    /// How chunks are compressed.
    #[arg(long, value_name = "HOW", default_value = "zstd")]
    compression: Compressed,
    /// About how large a chunk is before it is compressed. One is written at least each second.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = parse::size)]
    chunk_size: u64,
    /// Record at most this many samples a second of each topic, and leave out the rest.
    #[arg(long, value_name = "HZ", value_parser = parse::frequency)]
    rate: Option<f64>,
    /// In which form values are written.
    #[arg(long, value_name = "FORM", default_value = "auto")]
    encoding: Encoding,
    /// How many samples of each topic and program wait at most while the disk is slow. They wait in the memory of who has
    /// published them, so let it be less if they are large.
    #[arg(long, value_name = "COUNT", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    queue: u32,
    /// Say nothing but errors and warnings.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Print what was recorded as JSON at the end.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Compressed {
    /// Small.
    Zstd,
    /// Fast.
    Lz4,
    /// Not at all.
    None,
}

/// One chunk is written as often, at least.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// How often the line of progress changes.
const SHOW_EVERY: Duration = Duration::from_millis(200);
/// How long what is queued at the end may take to be written.
const REST_LIMIT: Duration = Duration::from_secs(5);
/// How many samples are taken of one tap before the next has its turn.
const BATCH: usize = 256;
/// Publishers of one topic that have channels of their own; those that follow share the last.
const PUBLISHERS_MAX: usize = 256;

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let session = Session::join(global)?;
    let began = session.now();
    let clock = Times::new(began, times::unix_now_ns());
    let world = session.look()?;
    let taps = Taps::new(arguments, &session, &world)?;
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("mproc_{}.mcap", times::name(clock.unix_ns()))));
    let recording = Recording::create(
        &path,
        FileOptions {
            compression: match arguments.compression {
                Compressed::Zstd => Some(Compression::Zstd),
                Compressed::Lz4 => Some(Compression::Lz4),
                Compressed::None => None,
            },
            chunk_bytes: arguments.chunk_size,
            overwrite: arguments.force,
        },
        Limits {
            bytes_max: arguments.max_size,
            span_ns_max: arguments.split_every.map(nanoseconds),
            is_split: arguments.split || arguments.split_every.is_some(),
        },
        arguments.encoding,
        clock,
        &global.domain,
    )?;
    let mut recorder = Recorder {
        session,
        recording,
        clock,
        world,
        unanswered: Unanswered::default(),
        throttle_ns: arguments.rate.map(|hz| (1e9 / hz) as u64),
        topics: HashMap::new(),
    };
    if !arguments.quiet && !arguments.json {
        let mut out = output::standard();
        let path = shown(&recorder.recording.path().display().to_string());
        writeln!(out, "recording to {path}; Ctrl-C ends it")?;
        out.flush()?;
    }
    let until = arguments
        .duration
        .and_then(|limit| began.checked_add(limit));
    let progress = Progress::new(arguments.quiet || arguments.json);
    let recorded = recorder.record(&taps, until, &progress);
    progress.end();
    drop(taps);
    // Also after an error: what was recorded before it is closed in order, if that can be done.
    let ended = recorder.session.now();
    let closed = recorder.recording.close().map(<[_]>::to_vec);
    let files = closed?;
    let report = Report::new(&recorder.recording, &files, ended - began);
    report.warn();
    if arguments.json {
        output::json(&report)?;
    } else if !arguments.quiet {
        report.print()?;
    }
    recorded
}

/// What is received of the topics that were asked for.
struct Taps {
    wanted: Patterns,
    excluded: Patterns,
    all: Vec<Subscription<Raw>>,
}

impl Taps {
    fn new(arguments: &Arguments, session: &Session, world: &World) -> Outcome<Self> {
        let mut wanted = arguments.topics.clone();
        if arguments.all {
            wanted.push("**".to_owned());
            let topics = world.topics().into_iter();
            let by_id = topics.filter(|topic| parse::is_id(topic.name));
            wanted.extend(by_id.map(|topic| topic.name.to_owned()));
        }
        let mut all = Vec::new();
        for topics in &wanted {
            let published =
                |topic: &TopicView<'_>| topic.name == topics && !topic.publishers.is_empty();
            if !topics.contains('*') && !arguments.quiet && !world.topics().iter().any(published) {
                output::note(&format!("nobody publishes {topics:?} yet"));
            }
            let options = SubscriptionOptions::new()
                .capacity(arguments.queue as usize)
                .when_full(WhenFull::DropOldest);
            let tap = session.tap(topics, options).map_err(|error| {
                Failure::from(error).while_doing(format!("cannot record {topics:?}"))
            })?;
            all.push(tap);
        }
        Ok(Self {
            wanted: Patterns::new(&wanted),
            excluded: Patterns::new(&arguments.exclude),
            all,
        })
    }

    /// Which tap's samples of this topic are recorded: several may hear it.
    fn of(&self, topic: &str) -> Option<usize> {
        match self.excluded.first(topic) {
            Some(_) => None,
            None => self.wanted.tapped(topic),
        }
    }
}

/// What is known of a topic that was heard.
struct Heard {
    /// Which tap it is recorded from, if it is.
    tap: Option<usize>,
    /// Its number in the recording, for the type with this hash.
    number: Option<(u64, usize)>,
    publishers: HashMap<PublisherId, u32>,
    /// Samples that were published before are left out.
    next_ns: u64,
}

struct Recorder {
    session: Session,
    recording: Recording,
    clock: Times,
    world: World,
    unanswered: Unanswered,
    throttle_ns: Option<u64>,
    topics: HashMap<String, Heard>,
}

impl Recorder {
    /// Records until it is to end, or no more fits.
    fn record(&mut self, taps: &Taps, until: Option<Instant>, progress: &Progress) -> Outcome {
        let selectable: Vec<&dyn Selectable> =
            taps.all.iter().map(|tap| tap as &dyn Selectable).collect();
        let mut flush_at = self.session.now() + FLUSH_EVERY;
        let mut flushed = 0;
        let mut show_at = self.session.now();
        loop {
            let now = self.session.now();
            let is_over = until.is_some_and(|until| now >= until);
            if is_over || self.session.is_ending() {
                return self.take_rest(taps, now);
            }
            if now >= flush_at {
                if self.recording.messages() != flushed {
                    self.recording.flush()?;
                    flushed = self.recording.messages();
                }
                flush_at = now + FLUSH_EVERY;
            }
            if now >= show_at {
                progress.show(&self.recording, now);
                show_at = now + SHOW_EVERY;
            }
            let mut took = false;
            for (number, tap) in taps.all.iter().enumerate() {
                for _ in 0..BATCH {
                    let Ok(sample) = tap.try_recv() else { break };
                    took = true;
                    if self.take(taps, number, &sample)? == Wrote::Full {
                        return Ok(());
                    }
                }
            }
            if took {
                continue;
            }
            let mut wake_at = flush_at;
            if progress.is_shown() {
                wake_at = wake_at.min(show_at);
            }
            if let Some(until) = until {
                wake_at = wake_at.min(until);
            }
            let limit = wake_at.saturating_duration_since(now);
            match select(&selectable, None, limit) {
                Ok(_) | Err(RecvError::Timeout) => {}
                // Seen above.
                Err(RecvError::Interrupted) => {}
                Err(error) => return Err(Failure::new(Code::Failed, error.to_string())),
            }
        }
    }

    /// Takes what was published before the end. What comes after it is not waited for.
    fn take_rest(&mut self, taps: &Taps, end: Instant) -> Outcome {
        // Publishers that never pause cannot keep it from ending.
        let until = end + REST_LIMIT;
        for (number, tap) in taps.all.iter().enumerate() {
            while let Some(sample) = self.queued(tap, until) {
                // Others of the same tap, of another publisher, may still be earlier.
                if sample.published() > end {
                    continue;
                }
                if self.take(taps, number, &sample)? == Wrote::Full {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// A sample that is queued. That of another process may stand in memory that is not met here yet, which is waited for.
    fn queued(&self, tap: &Subscription<Raw>, until: Instant) -> Option<Sample<Raw>> {
        if self.session.now() > until {
            return None;
        }
        if let Ok(sample) = tap.try_recv() {
            return Some(sample);
        }
        if tap.snapshot().queued == 0 {
            return None;
        }
        // Not by `recv_timeout`: after Ctrl-C that waits no more.
        let mut coming = tap.recv();
        let taken = self.session.block_until(Some(until), |waker| {
            match Pin::new(&mut coming).poll(&mut Context::from_waker(waker)) {
                Poll::Ready(taken) => Some(taken),
                Poll::Pending => None,
            }
        });
        taken?.ok()
    }

    fn take(&mut self, taps: &Taps, tap: usize, sample: &Sample<Raw>) -> Outcome<Wrote> {
        let topic = sample.topic();
        let info = sample.info();
        let heard = self.topics.entry(topic.clone()).or_insert_with(|| Heard {
            tap: taps.of(&topic),
            number: None,
            publishers: HashMap::new(),
            next_ns: 0,
        });
        if heard.tap != Some(tap) {
            return Ok(Wrote::No);
        }
        let known = heard.number.filter(|(hash, _)| *hash == info.type_hash);
        let is_due = self
            .unanswered
            .is_due(&topic, info.type_hash, self.session.now());
        let number = match known.filter(|_| !is_due) {
            Some((_, number)) => number,
            None => {
                let recording = &mut self.recording;
                let number = match recording.number(&topic, info.type_hash) {
                    Some(number) if !is_due => number,
                    known => {
                        let (session, unanswered) = (&self.session, &mut self.unanswered);
                        let all = with_layout(session, &mut self.world, unanswered, &topic, info);
                        // What is learned later does not hold for what was written: it is as a topic of its own.
                        match known.filter(|_| all.schema == info.schema) {
                            Some(number) => number,
                            None => recording.add(&topic, &all),
                        }
                    }
                };
                heard.number = Some((info.type_hash, number));
                number
            }
        };
        let next = (heard.publishers.len() + 1).min(PUBLISHERS_MAX) as u32;
        let publisher = match heard.publishers.get(&sample.publisher()) {
            Some(publisher) => *publisher,
            None => {
                heard.publishers.insert(sample.publisher(), next);
                next
            }
        };
        self.recording.count_dropped(number, sample.gap());
        let published_ns = self.clock.unix(sample.published());
        if let Some(throttle_ns) = self.throttle_ns {
            if published_ns < heard.next_ns {
                self.recording.count_throttled(number);
                return Ok(Wrote::No);
            }
            // From when it was due, so that the rate is right on average; from now, if nothing came for long.
            let due_ns = heard.next_ns.saturating_add(throttle_ns);
            heard.next_ns = if due_ns > published_ns {
                due_ns
            } else {
                published_ns.saturating_add(throttle_ns)
            };
        }
        let parts: Vec<&[u8]> = sample.parts().collect();
        let incoming = Incoming {
            publisher,
            sequence: sample.sequence(),
            published_ns,
            logged_ns: self.clock.unix(sample.received()),
            bytes: sample.bytes(),
            parts: &parts,
        };
        self.recording.write(number, &incoming)
    }
}

/// All that is known of a type. What comes from another process does not say the layout of plain data; that process does
/// when it is asked.
fn with_layout(
    session: &Session,
    world: &mut World,
    unanswered: &mut Unanswered,
    topic: &str,
    info: &TypeInfo,
) -> TypeInfo {
    let is_plain = matches!(info.codec, CodecKind::Plain | CodecKind::Slices);
    if !is_plain || info.schema.is_some() || Schema::of(info).is_some() {
        return info.clone();
    }
    let find = |world: &World| {
        let known = world.topic(topic).ok()?;
        let same = known
            .types
            .iter()
            .find(|known| known.type_hash == info.type_hash)?;
        Some(same.clone())
    };
    if let Some(known) = find(world) {
        unanswered.settle(topic, info.type_hash);
        return known;
    }
    if let Ok(now) = session.look() {
        *world = now;
    }
    let found = find(world);
    // Who does not answer may be the one that knows.
    match found.is_none() && !world.silent.is_empty() {
        true => unanswered.put_off(topic, info.type_hash, session.now()),
        false => unanswered.settle(topic, info.type_hash),
    }
    found.unwrap_or_else(|| info.clone())
}

/// The line that changes, on a terminal.
struct Progress {
    bar: ProgressBar,
    is_shown: bool,
    rate: std::cell::Cell<(Option<Instant>, u64, f64)>,
}

impl Progress {
    fn new(is_quiet: bool) -> Self {
        let is_shown = !is_quiet && std::io::stderr().is_terminal();
        let bar = if is_shown {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        Self {
            bar,
            is_shown,
            rate: std::cell::Cell::new((None, 0, 0.0)),
        }
    }

    fn is_shown(&self) -> bool {
        self.is_shown
    }

    fn show(&self, recording: &Recording, now: Instant) {
        if !self.is_shown {
            return;
        }
        let messages = recording.messages();
        let (last, before, mut rate) = self.rate.get();
        let seconds = last.map_or(0.0, |last| (now - last).as_secs_f64());
        if seconds > 0.0 {
            // Over the last second or so.
            let current = (messages - before) as f64 / seconds;
            rate += (current - rate) * 0.3;
        }
        self.rate.set((Some(now), messages, rate));
        self.bar.set_message(format!(
            "{} topics  {} messages  {}  {}  {} dropped",
            recording.topics().len(),
            output::count(messages),
            output::rate(rate),
            output::data(recording.bytes()),
            output::count(recording.dropped()),
        ));
        self.bar.tick();
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// What was recorded. The names of its fields are those of `mproc record --json`.
#[derive(Debug, Serialize)]
struct Report {
    files: Vec<FileReport>,
    messages: u64,
    bytes: u64,
    duration_ns: u64,
    dropped: u64,
    topics: Vec<TopicReport>,
}

#[derive(Debug, Serialize)]
struct FileReport {
    file: String,
    bytes: u64,
    messages: u64,
}

#[derive(Debug, Serialize)]
struct TopicReport {
    topic: String,
    type_name: String,
    messages: u64,
    bytes: u64,
    dropped: u64,
    throttled: u64,
    unreadable: u64,
}

impl Report {
    fn new(
        recording: &Recording,
        files: &[super::recording::file::Closed],
        took: Duration,
    ) -> Self {
        let topics = recording.topics().iter().map(|topic| {
            let Counts {
                messages,
                bytes,
                dropped,
                throttled,
                unreadable,
            } = topic.counts();
            TopicReport {
                topic: topic.name.clone(),
                type_name: topic.info.type_name.clone(),
                messages,
                bytes,
                dropped,
                throttled,
                unreadable,
            }
        });
        let files = files.iter().map(|file| FileReport {
            file: file.path.display().to_string(),
            bytes: file.bytes,
            messages: file.messages,
        });
        let mut report = Self {
            files: files.collect(),
            messages: recording.messages(),
            bytes: recording.bytes(),
            duration_ns: nanoseconds(took),
            dropped: recording.dropped(),
            topics: topics.collect(),
        };
        report.topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        report
    }

    fn warn(&self) {
        for topic in &self.topics {
            let name = shown(&topic.topic);
            if topic.dropped > 0 {
                anstream::eprintln!(
                    "mproc: warning: {} of {} samples of {name} were dropped: the recorder was too slow (try --encoding raw, --compression lz4, a larger --queue)",
                    topic.dropped,
                    topic.dropped + topic.messages + topic.throttled,
                );
            }
            if topic.unreadable > 0 {
                anstream::eprintln!(
                    "mproc: warning: {} samples of {name} were left out: they cannot be written as JSON (try --encoding auto)",
                    topic.unreadable,
                );
            }
        }
    }

    fn print(&self) -> Outcome {
        let mut out = output::standard();
        let took = output::duration(Duration::from_nanos(self.duration_ns));
        let messages = counted(self.messages, "message");
        let topics = counted(self.topics.len() as u64, "topic");
        let size = output::data(self.bytes);
        writeln!(out, "{messages} of {topics} in {took}, {size}")?;
        for file in &self.files {
            writeln!(out, "  {}", shown(&file.file))?;
        }
        out.flush()?;
        Ok(())
    }
}
