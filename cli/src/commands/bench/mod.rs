//! `mproc bench`
//!
//! | file | idea |
//! |---|---|
//! | `machine.rs` | what machine it is, and what makes its figures doubtful |
//! | `payload.rs` | payloads that tell whether they are whole |
//! | `figures.rs` | percentiles, and medians of rounds |
//! | `messages.rs` | messages between processors |
//! | `topics.rs` | topics, within the process and between two |
//!
//! What would make the figures wrong: payloads that nobody touches (each is written, and summed by its reader), values that get
//! lost (all are counted), a first round that pays for start-up (each question has one that does not count), and a machine that does
//! something else (its load is shown, and of three rounds the median counts).

mod figures;
mod machine;
mod messages;
mod payload;
mod topics;

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{Table, count, data, duration, json, standard};
use clap::Args;
use figures::{RoundTrip, median};
use indicatif::{ProgressBar, ProgressStyle};
use machine::Machine;
use mproc::{Node, Options, Script};
use serde::Serialize;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use topics::{Kind, Line};

const ROUNDS_MIN: usize = 3;
/// No round of a question is longer: who has more time gets more rounds, and Ctrl-C is served between two.
const ROUND_MAX: Duration = Duration::from_millis(500);
/// The largest payload.
const BYTES_MAX: usize = 16 << 20;
/// What comes before the first round of a question and does not count.
const WARM_UP: Duration = Duration::from_millis(10);

/// Measures what this machine can do.
///
/// Latency and throughput of messages between processors, of calls, and of topics, within one process and between two. Each
/// payload is written, and read by its receiver, who checks it; one that is lost or damaged is an error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc bench                           about 20 seconds
  mproc bench --quick                   a few seconds, less exact
  mproc bench --sizes 1KiB,4MiB         other payloads
  mproc bench --json > bench.json       for comparing machines and versions

JSON: an object with machine, doubts, rounds, and results: each has question, about, values (plain, serde, or null), payload_bytes, and \
round_trip (count, p50_ns, p90_ns, p99_ns, p99_9_ns, max_ns) or messages_per_s and bytes_per_s.")]
pub(crate) struct Arguments {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// About how long it takes.
    #[arg(long, value_name = "N", default_value = "20", value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// Payloads of these sizes: bytes, or with KiB or MiB.
    #[arg(long, value_name = "SIZES", value_delimiter = ',', default_value = "64,4KiB,64KiB,1MiB", value_parser = size)]
    sizes: Vec<usize>,
    /// Two seconds, and two sizes.
    #[arg(long, conflicts_with_all = ["seconds", "sizes"])]
    quick: bool,
    /// The other process of a run.
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    child: Option<PathBuf>,
}

fn size(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => text.split_at(at),
        None => (text, ""),
    };
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        _ => return Err("a unit is B, KiB or MiB".to_owned()),
    };
    let number: usize = number.parse().map_err(|_| "not a number".to_owned())?;
    let bytes = number.saturating_mul(unit);
    if !(32..=BYTES_MAX).contains(&bytes) {
        return Err("from 32 B to 16 MiB".to_owned());
    }
    Ok(bytes)
}

/// What is asked of this machine.
#[derive(Clone, Copy, Debug)]
enum Question {
    OneDriver,
    TwoDrivers,
    Call,
    Send,
    /// A payload there, an answer back.
    Latency(Place, Kind, usize),
    /// As many as go.
    Throughput(Place, Kind, usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Inside,
    Between,
}

impl Question {
    /// All of them, in the order in which they are shown.
    fn all(sizes: &[usize]) -> Vec<Self> {
        let mut all = vec![Self::OneDriver, Self::TwoDrivers, Self::Call, Self::Send];
        let kinds: [fn(Place, Kind, usize) -> Self; 2] = [Self::Latency, Self::Throughput];
        for question in kinds {
            for place in [Place::Inside, Place::Between] {
                for kind in Kind::ALL {
                    all.extend(sizes.iter().map(|bytes| question(place, kind, *bytes)));
                }
            }
        }
        all
    }

    /// Its name in the JSON.
    fn name(self) -> &'static str {
        match self {
            Self::OneDriver => "message_one_driver",
            Self::TwoDrivers => "message_two_drivers",
            Self::Call => "call_from_thread",
            Self::Send => "send_from_thread",
            Self::Latency(Place::Inside, ..) => "topic_latency_in_process",
            Self::Latency(Place::Between, ..) => "topic_latency_between_processes",
            Self::Throughput(Place::Inside, ..) => "topic_throughput_in_process",
            Self::Throughput(Place::Between, ..) => "topic_throughput_between_processes",
        }
    }

    /// Its name in the table.
    fn title(self) -> &'static str {
        match self {
            Self::OneDriver => "message, one driver",
            Self::TwoDrivers => "message, two drivers",
            Self::Call => "call from a thread",
            Self::Send => "send from a thread",
            Self::Latency(Place::Inside, ..) | Self::Throughput(Place::Inside, ..) => {
                "topic, in process"
            }
            Self::Latency(Place::Between, ..) | Self::Throughput(Place::Between, ..) => {
                "topic, two processes"
            }
        }
    }

    fn about(self) -> &'static str {
        match self {
            Self::OneDriver => "a message to another processor of the same driver, and one back",
            Self::TwoDrivers => "a message to a processor of another thread, and one back",
            Self::Call => "a call of a processor, by a thread that waits for the reply",
            Self::Send => "messages from a thread to one processor, until all are handled",
            Self::Latency(Place::Inside, ..) => {
                "a value to a thread that sums it, and a small answer back"
            }
            Self::Latency(Place::Between, ..) => {
                "a value to another process that sums it, and a small answer back"
            }
            Self::Throughput(Place::Inside, ..) => "values to a thread, until all are summed",
            Self::Throughput(Place::Between, ..) => {
                "values to another process, until all are summed"
            }
        }
    }

    fn payload(self) -> Option<(Kind, usize)> {
        match self {
            Self::Latency(_, kind, bytes) | Self::Throughput(_, kind, bytes) => Some((kind, bytes)),
            _ => None,
        }
    }
}

/// What one round has found.
enum Round {
    RoundTrip(RoundTrip),
    PerSecond(u64),
}

/// Its names are those of the JSON.
#[derive(Debug, Serialize)]
struct Answer {
    question: &'static str,
    #[serde(skip)]
    title: &'static str,
    about: &'static str,
    values: Option<&'static str>,
    payload_bytes: Option<usize>,
    /// Medians of the rounds; the greatest is that of all.
    round_trip: Option<RoundTrip>,
    messages_per_s: Option<u64>,
    bytes_per_s: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    doubts: Vec<String>,
    rounds: usize,
    results: Vec<Answer>,
}

pub(crate) fn run(arguments: &Arguments, _global: &Global) -> Outcome {
    if let Some(directory) = &arguments.child {
        return answer_as_child(directory);
    }
    let quick = [64, 64 << 10];
    let (seconds, sizes) = match arguments.quick {
        true => (2, &quick[..]),
        false => (arguments.seconds, &arguments.sizes[..]),
    };
    let questions = Question::all(sizes);
    let time = Duration::from_secs(seconds);
    let rounds = rounds(&questions, time);
    let machine = Machine::look();
    let report = Report {
        doubts: machine.doubts(),
        machine,
        rounds,
        results: measure(&questions, rounds, time)?,
    };
    if arguments.json {
        return json(&report);
    }
    let mut out = standard();
    write(&mut out, &report)?;
    out.flush()?;
    Ok(())
}

/// The other process: reads until whoever started it goes.
fn answer_as_child(directory: &Path) -> Outcome {
    let builder = Node::builder().options(Options::default());
    let node = builder.domain_with(topics::domain(directory)?).build()?;
    topics::readers(&node)?;
    let mut nothing = Vec::new();
    // Its end is that of the other process, also when that is killed.
    std::io::stdin().read_to_end(&mut nothing)?;
    let _ = node.shutdown(Duration::from_secs(1));
    Ok(())
}

/// The other process, from the side of the one that started it.
struct Other(Child);

impl Other {
    fn start(directory: &Path) -> Outcome<Self> {
        let program = std::env::current_exe()?;
        let child = Command::new(program)
            .args(["bench", "--child"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // A terminal sends Ctrl-C to the whole group: the other one would be gone before this one has seen it, and this one
            // would say that it is missing.
            .process_group(0)
            .spawn();
        let child = child.map_err(|error| {
            Failure::from(error).while_doing("cannot start this command as another process")
        })?;
        Ok(Self(child))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It ends with its input. One that does not is of no use to anybody.
        drop(self.0.stdin.take());
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What topics are measured on.
struct Bench {
    // Dropped in this order: the lines first, and the directory last.
    inside: [Line; 2],
    between: [Line; 2],
    _node: Node,
    _script: Script<()>,
    /// Ends with Ctrl-C.
    signals: Script<()>,
    _other: Other,
    _directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Outcome<Self> {
        // From here on Ctrl-C ends this in order: it must not leave the directory behind.
        let signals = Node::builder().options(Options::default()).init()?;
        let directory = tempfile::tempdir()?;
        let other = Other::start(directory.path())?;
        let builder = Node::builder().options(Options::default());
        let script = builder
            .domain_with(topics::domain(directory.path())?)
            .init()?;
        let node = topics::node_here()?;
        Ok(Self {
            inside: [
                Line::new(&node, Kind::Plain)?,
                Line::new(&node, Kind::Serde)?,
            ],
            between: [
                Line::new(&script, Kind::Plain)?,
                Line::new(&script, Kind::Serde)?,
            ],
            _node: node,
            _script: script,
            signals,
            _other: other,
            _directory: directory,
        })
    }

    fn line(&mut self, place: Place, kind: Kind) -> &mut Line {
        let lines = match place {
            Place::Inside => &mut self.inside,
            Place::Between => &mut self.between,
        };
        &mut lines[kind as usize]
    }

    fn ask(&mut self, question: Question, time: Duration) -> Outcome<Round> {
        Ok(match question {
            Question::OneDriver => Round::RoundTrip(messages::there_and_back(true, time)?),
            Question::TwoDrivers => Round::RoundTrip(messages::there_and_back(false, time)?),
            Question::Call => Round::RoundTrip(messages::call(time)?),
            Question::Send => Round::PerSecond(messages::send(time)?),
            Question::Latency(place, kind, bytes) => {
                Round::RoundTrip(self.line(place, kind).there_and_back(bytes, time)?)
            }
            Question::Throughput(place, kind, bytes) => {
                Round::PerSecond(self.line(place, kind).stream(bytes, time)?)
            }
        })
    }
}

/// How many there are: an odd number, so that one is in the middle.
fn rounds(questions: &[Question], time: Duration) -> usize {
    let each = time.as_millis() / (questions.len() as u128 * ROUND_MAX.as_millis());
    usize::try_from(each).unwrap_or(usize::MAX).max(ROUNDS_MIN) | 1
}

/// All rounds of all questions. One round of each comes before the next round of the first, so that a noise of seconds does not
/// fall on all rounds of one question.
fn measure(questions: &[Question], rounds_wanted: usize, time: Duration) -> Outcome<Vec<Answer>> {
    let mut bench = Bench::new()?;
    let steps = questions.len() * rounds_wanted;
    let slice = time / u32::try_from(steps).unwrap_or(u32::MAX);
    // Hidden where standard error is no terminal.
    let bar = ProgressBar::new(steps as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3}%  {msg}") {
        bar.set_style(style.progress_chars("#>-"));
    }
    let mut rounds: Vec<Vec<Round>> = questions.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds_wanted {
        for (question, rounds) in questions.iter().zip(&mut rounds) {
            bar.set_message(question.title());
            let mut ask = || {
                if round == 0 {
                    bench.ask(*question, WARM_UP.min(slice))?;
                }
                bench.ask(*question, slice)
            };
            let result = ask();
            if bench.signals.is_ending() {
                bar.finish_and_clear();
                // Whoever interrupts it knows why it ended.
                return Err(Failure::silent(Code::Failed));
            }
            let result = result
                .map_err(|failure| failure.while_doing(format!("measuring {}", question.title())));
            rounds.push(result?);
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let answers = questions.iter().zip(rounds);
    Ok(answers
        .map(|(question, rounds)| answer(*question, &rounds))
        .collect())
}

fn answer(question: Question, rounds: &[Round]) -> Answer {
    let mut trips = Vec::new();
    let mut rates = Vec::new();
    for round in rounds {
        match round {
            Round::RoundTrip(trip) => trips.push(*trip),
            Round::PerSecond(rate) => rates.push(*rate),
        }
    }
    let messages_per_s = (!rates.is_empty()).then(|| median(rates));
    let payload = question.payload();
    Answer {
        question: question.name(),
        title: question.title(),
        about: question.about(),
        values: payload.map(|(kind, _)| match kind {
            Kind::Plain => "plain",
            Kind::Serde => "serde",
        }),
        payload_bytes: payload.map(|(_, bytes)| bytes),
        round_trip: RoundTrip::median(&trips),
        messages_per_s,
        bytes_per_s: payload
            .zip(messages_per_s)
            .map(|((_, bytes), rate)| rate.saturating_mul(bytes as u64)),
    }
}

fn write(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let machine = &report.machine;
    let or_unknown = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".to_owned());
    writeln!(
        out,
        "{}, {} cores, kernel {}, governor {}, load {}",
        or_unknown(&machine.cpu),
        machine.cores,
        or_unknown(&machine.kernel),
        or_unknown(&machine.governor),
        or_unknown(&machine.load_1min.map(|load| format!("{load:.2}")))
    )?;
    for doubt in &report.doubts {
        writeln!(out, "warning: {doubt}")?;
    }
    let time = |ns| duration(Duration::from_nanos(ns));
    let head = |answer: &Answer| {
        [
            answer.title.to_owned(),
            answer.values.unwrap_or("-").to_owned(),
            answer
                .payload_bytes
                .map_or_else(|| "-".to_owned(), |bytes| data(bytes as u64)),
        ]
    };
    let mut table = Table::new(&[
        "THERE AND BACK",
        "VALUES",
        ">PAYLOAD",
        ">P50",
        ">P90",
        ">P99",
        ">P99.9",
        ">MAX",
    ]);
    for answer in &report.results {
        let Some(trip) = &answer.round_trip else {
            continue;
        };
        let times = [
            trip.p50_ns,
            trip.p90_ns,
            trip.p99_ns,
            trip.p99_9_ns,
            trip.max_ns,
        ];
        table.row(head(answer).into_iter().chain(times.map(time)));
    }
    write!(out, "\n{table}")?;
    let mut table = Table::new(&[
        "AS MANY AS GO",
        "VALUES",
        ">PAYLOAD",
        ">PER SECOND",
        ">DATA",
    ]);
    for answer in &report.results {
        let Some(rate) = answer.messages_per_s else {
            continue;
        };
        let bytes = answer
            .bytes_per_s
            .map_or_else(|| "-".to_owned(), |bytes| format!("{}/s", data(bytes)));
        table.row(head(answer).into_iter().chain([count(rate), bytes]));
    }
    write!(out, "\n{table}\n")?;
    let mut said = Vec::new();
    for answer in &report.results {
        if !said.contains(&answer.about) {
            said.push(answer.about);
            let kind = match answer.round_trip {
                Some(_) => "there and back",
                None => "as many as go",
            };
            writeln!(out, "{} ({kind}): {}", answer.title, answer.about)?;
        }
    }
    writeln!(
        out,
        "Medians of {} rounds; max is of all. Every payload is written, summed by its reader and counted; all were whole.",
        report.rounds
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("64"), Ok(64));
        assert_eq!(size("1KiB"), Ok(1024));
        assert_eq!(size("2 mib"), Ok(2 << 20));
        for wrong in [
            "",
            "KiB",
            "-1",
            "1GB",
            "0",
            "17MiB",
            "99999999999999999999",
            "5é",
        ] {
            assert!(size(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn more_time_is_more_rounds() {
        let questions = Question::all(&[64]);
        let rounds = |seconds| rounds(&questions, Duration::from_secs(seconds));
        assert_eq!(questions.len(), 12);
        assert_eq!(
            (rounds(1), rounds(18), rounds(24), rounds(600)),
            (3, 3, 5, 101)
        );
    }

    #[test]
    fn each_size_is_asked_in_each_way() {
        let all = Question::all(&[64, 128]);
        assert_eq!(all.len(), 4 + 2 * 2 * 2 * 2);
    }
}
