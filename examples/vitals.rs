//! Shows what the machine is doing, fifty times a second, and accounts for every sample at the end.
//!
//! ```text
//! five samplers, one driver   host/cpu host/memory host/net host/disk host/process      (a failed reading: host/errors)
//!   -> rates                  host/rates                                                (percentiles: host/summaries)
//!        -> alarms            host/alarms
//!        -> csv               a file, with --csv
//! display                     callbacks of a script on the main thread
//! slow/...                    one subscriber for each policy of a full queue, each much too slow for host/cpu
//! ```
//!
//! No sampler ever waits: nobody who subscribes to the five topics asks for it. The slow subscriber that may miss nothing
//! (`Wait`) therefore stands behind a relay, which waits in its place and drops the oldest itself.
//!
//! At the end each receiver's samples are added up: sent = handled + dropped + left. What was sent and what was handled is
//! counted by the processors themselves, what was dropped and what is left by the node. If a sum does not hold, the exit
//! code is 1.
//!
//! ```text
//! cargo run --release --example vitals -- --seconds 10 --csv vitals.csv --alarm cpu=80:60
//! ```
//!
//! With `--processes` the samplers, the rates, the alarms, the slow subscribers and the display have a process each. They are
//! in a domain of their own and find each other by topic. Who dies is started again, and at the end each has its accounts.
//! Without it everything is in this process, and of no domain: several of these programs do not hear each other.
//!
//! This file has the arguments and the program from its first processor to its exit code. The parts are in `vitals/`:
//!
//! | file | what it has |
//! |---|---|
//! | `topics.rs` | topics, periods, and the ledger that every part counts in |
//! | `sampler.rs`, around `source.rs` | readings: `/proc` parsed by `figures.rs`, or `library.rs` in its place |
//! | `meters.rs`, around `meter.rs` | `metric.rs`: what is measured; `rates.rs`: two readings compared; `window.rs`: percentiles |
//! | `watchman.rs`, around `alarms.rs` | thresholds and alarms |
//! | `recorder.rs`, around `csv.rs` | the file |
//! | `policies.rs` | the relay and the slow subscribers |
//! | `callbacks.rs`, around `display.rs` | the main thread: signals, the table or the lines |
//! | `summary.rs` | counting, settling, and the report at the end |
//! | `roles.rs`, `keeper.rs` | which parts can have a process of their own, and the parent of these |
//!
//! The file behind each "around" knows no node, so it is tested without one, in `tests/vitals_parts.rs`.

#[path = "vitals/alarms.rs"]
mod alarms;
#[path = "vitals/callbacks.rs"]
mod callbacks;
#[path = "vitals/csv.rs"]
mod csv;
#[path = "vitals/display.rs"]
mod display;
#[path = "vitals/figures.rs"]
mod figures;
#[path = "vitals/keeper.rs"]
mod keeper;
#[path = "vitals/library.rs"]
mod library;
#[path = "vitals/meter.rs"]
mod meter;
#[path = "vitals/meters.rs"]
mod meters;
#[path = "vitals/metric.rs"]
mod metric;
#[path = "vitals/policies.rs"]
mod policies;
#[path = "vitals/rates.rs"]
mod rates;
#[path = "vitals/recorder.rs"]
mod recorder;
#[path = "vitals/roles.rs"]
mod roles;
#[path = "vitals/sampler.rs"]
mod sampler;
#[path = "vitals/source.rs"]
mod source;
#[path = "vitals/summary.rs"]
mod summary;
#[path = "vitals/topics.rs"]
mod topics;
#[path = "vitals/watchman.rs"]
mod watchman;
#[path = "vitals/window.rs"]
mod window;

use std::{
    io,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant, SystemTime},
};

use clap::Parser;
use mproc::{Options, Result, Spun, prelude::*};

use alarms::Threshold;
use callbacks::{Display, end_on_signal, end_with_input, show};
use meters::Meters;
use policies::Relay;
use recorder::Recorder;
use roles::Role;
use sampler::Sampler;
use source::{Origin, Source, Watch};
use summary::{Part, ask, count, finish, report, settle};
use topics::{CPU, DISK, Finish, LIMIT, MEMORY, NET, PROCESS};
use watchman::Watchman;

/// Shows what the machine is doing, and accounts for every sample at the end.
#[derive(Debug, Parser)]
struct Arguments {
    /// End after this many seconds; else with Ctrl-C.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=31_536_000))]
    seconds: Option<u64>,
    /// Write every value to this file.
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Raise an alarm: KIND=RAISE or KIND=RAISE:CLEAR, as in cpu=80:60 or net-received=10M. May be given several times.
    #[arg(long = "alarm", value_name = "ALARM", default_values = ["cpu=90", "memory=90"])]
    alarms: Vec<Threshold>,
    /// Watch this process, beside the busiest. May be given several times.
    #[arg(long = "process", value_name = "PID")]
    processes: Vec<u32>,
    /// Give each part a process of its own.
    #[arg(long = "processes", conflicts_with = "csv")]
    is_split: bool,
    /// Take the figures from the library that is used where there is no /proc. For tests.
    #[arg(long, hide = true)]
    no_proc: bool,
    /// Read this directory in place of /proc. For tests.
    #[arg(long, hide = true, value_name = "DIRECTORY", default_value = "/proc")]
    proc: PathBuf,
    /// Be this part only. The program starts itself so.
    #[arg(long, hide = true, requires = "began_ns")]
    role: Option<Role>,
    /// When the parent began, in nanoseconds of the system's clock.
    #[arg(long, hide = true)]
    began_ns: Option<u64>,
}

impl Arguments {
    /// True if this process has that part.
    fn has(&self, role: Role) -> bool {
        self.role.is_none_or(|only| only == role)
    }

    /// From when on time is counted: the same moment in all processes, also in one that was started again.
    fn start(&self, now: Instant) -> Instant {
        let Some(began_ns) = self.began_ns else {
            return now;
        };
        let began = SystemTime::UNIX_EPOCH + Duration::from_nanos(began_ns);
        let ago = SystemTime::now().duration_since(began).unwrap_or_default();
        now.checked_sub(ago).unwrap_or(now)
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = if arguments.is_split && arguments.role.is_none() {
        keeper::run(arguments.seconds.map(Duration::from_secs))
    } else {
        run(&arguments)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vitals: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns whether every sample is accounted for.
fn run(arguments: &Arguments) -> Result<bool> {
    let series = match &arguments.csv {
        Some(path) => Some(csv::Series::create(path)?),
        None => None,
    };
    let (origin, notice) = Origin::find(&arguments.proc, arguments.no_proc);
    let node = match arguments.role {
        // In the domain that the parent has set.
        Some(_) => Node::new()?,
        // For this process alone, whatever the environment says.
        None => Node::with_options(Options::from_environment()?),
    };
    let start = arguments.start(node.now());
    // Signals are handled here and not by `mproc::init`, which would end the node at once: the accounts need it until the
    // samplers have stopped and everything has been handled.
    let mut script = node.script()?.with(Display::new(&origin, start));
    if arguments.role.is_some() {
        end_with_input(&mut script)?;
    } else {
        end_on_signal(&mut script)?;
    }
    let mut display_name = None;
    if arguments.has(Role::Display) {
        if let Some(notice) = notice {
            script.state(|display| display.print(&notice))?;
        }
        display_name = Some(show(&mut script)?);
    }
    if let Some(seconds) = arguments.seconds.filter(|_| arguments.role.is_none()) {
        script.after(Duration::from_secs(seconds), |display, _| {
            display.ended = true;
        })?;
    }

    // Receivers first, and each has subscribed before the first sample: so all of this process get the same samples.
    let recorder = match series {
        Some(series) => Some(script.spawn_thread("csv", Recorder::new(series))?),
        None => None,
    };
    let mut parts = spawn_receivers(&script, arguments, start)?;
    parts.extend(recorder.as_ref().map(Part::counting));
    count(&mut script, &parts)?;
    if arguments.has(Role::Sampler) {
        // They stand first, so that they stop first.
        parts.splice(0..0, spawn_samplers(&script, arguments, &origin, start)?);
    }

    while !script.state(|display| display.ended)? {
        if script.spin_once(Duration::MAX)? == Spun::Shutdown {
            break;
        }
    }

    finish(&mut script, &parts)?;
    let settled = settle(&mut script)?;
    let mut ledgers = count(&mut script, &parts)?;
    if let Some(name) = &display_name {
        let ledger = script.state(|display| display.ledger.clone())?;
        ledgers.push((name.clone(), ledger));
    }
    let holds = report(&mut script, &ledgers, display_name.as_deref())?;

    if let (Some(recorder), Some(path)) = (&recorder, &arguments.csv) {
        let rows = ask(&mut script, recorder.call(Finish))?.map_err(|error| {
            let text = format!("cannot write {}: {error}", path.display());
            io::Error::new(error.kind(), text)
        })?;
        script.state(|display| display.print(&format!("csv: {rows} values written")))?;
    }
    let failed = script.state(|display| display.failed.take())?;
    if !settled {
        eprintln!("vitals: samples were still under way after {LIMIT:?}");
    }
    let ended = script.shutdown(LIMIT);
    if !ended.is_clean() {
        eprintln!("vitals: {ended}");
    }
    if let Some(error) = failed {
        return Err(error.into());
    }
    Ok(holds && settled && ended.is_clean())
}

fn spawn_receivers(node: &Node, arguments: &Arguments, start: Instant) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    if arguments.has(Role::Rates) {
        let meters = node.spawn_thread("rates", Meters::new(start))?;
        parts.push(Part::finishing(&meters));
    }
    if arguments.has(Role::Alarms) {
        let watchman = Watchman::new(arguments.alarms.clone(), start);
        let watchman = node.spawn_thread("alarms", watchman)?;
        parts.push(Part::finishing(&watchman));
    }
    if arguments.has(Role::Policies) {
        let relay = node.spawn_thread("relay", Relay::default())?;
        parts.push(Part::counting(&relay));
        parts.extend(policies::spawn_slow(node)?.iter().map(Part::counting));
    }
    Ok(parts)
}

/// Five samplers on one driver: they take turns on one thread, and each has its own source.
fn spawn_samplers(
    node: &Node,
    arguments: &Arguments,
    origin: &Origin,
    start: Instant,
) -> Result<Vec<Part>> {
    let source = || {
        let watch = Watch {
            pids: arguments.processes.clone(),
            busiest: 3,
            look_every: Duration::from_secs(1),
        };
        Source::new(origin, watch)
    };
    let driver = node.driver("samplers")?;
    let cpu = Sampler::new(source(), CPU, Source::cpu, start);
    let memory = Sampler::new(source(), MEMORY, Source::memory, start);
    let net = Sampler::new(source(), NET, Source::net, start);
    let disk = Sampler::new(source(), DISK, Source::disk, start);
    let process = Sampler::new(source(), PROCESS, Source::processes, start);
    Ok(vec![
        Part::finishing(&driver.spawn("sampler/cpu", cpu)?),
        Part::finishing(&driver.spawn("sampler/memory", memory)?),
        Part::finishing(&driver.spawn("sampler/net", net)?),
        Part::finishing(&driver.spawn("sampler/disk", disk)?),
        Part::finishing(&driver.spawn("sampler/process", process)?),
    ])
}
