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
    fs::File,
    io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use mproc::{Result, Spun, prelude::*};

use alarms::Threshold;
use callbacks::{Display, end_on_signal, show};
use figures::{Cpu, Disk, Memory, Net, Processes};
use meters::Meters;
use policies::{Relay, Slow};
use recorder::Recorder;
use sampler::Sampler;
use source::{Origin, Source, Watch};
use summary::{ask, count_receivers, count_samplers, finish, report, settle};
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
    /// Take the figures from the library that is used where there is no /proc. For tests.
    #[arg(long, hide = true)]
    no_proc: bool,
}

/// The processors, in the order in which they are to be asked.
struct Parts {
    cpu: Address<Sampler<Cpu>>,
    memory: Address<Sampler<Memory>>,
    net: Address<Sampler<Net>>,
    disk: Address<Sampler<Disk>>,
    process: Address<Sampler<Processes>>,
    receivers: Receivers,
}

struct Receivers {
    meters: Address<Meters>,
    watchman: Address<Watchman>,
    recorder: Option<Address<Recorder>>,
    relay: Address<Relay>,
    slow: Vec<Address<Slow>>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
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
    let (origin, notice) = Origin::find(Path::new("/proc"), arguments.no_proc);
    // Signals are handled here and not by `mproc::init`, which would end the node at once: the accounts need it until the
    // samplers have stopped and everything has been handled.
    let script = mproc::init_without_signals()?;
    let start = script.now();
    let mut script = script.with(Display::new(&origin, start));
    end_on_signal(&mut script)?;
    if let Some(notice) = notice {
        script.state(|display| display.print(&notice))?;
    }
    let display_name = show(&mut script)?;
    if let Some(seconds) = arguments.seconds {
        script.after(Duration::from_secs(seconds), |display, _| {
            display.ended = true;
        })?;
    }

    // Receivers first, and each has subscribed before the first sample: so all get the same samples.
    let receivers = spawn_receivers(&script, arguments, series, start)?;
    count_receivers(&mut script, &receivers)?;
    let parts = spawn_samplers(&script, arguments, &origin, start, receivers)?;

    while !script.state(|display| display.ended)? {
        if script.spin_once(Duration::MAX)? == Spun::Shutdown {
            break;
        }
    }

    finish(&mut script, &parts)?;
    let settled = settle(&mut script)?;
    let mut ledgers = count_receivers(&mut script, &parts.receivers)?;
    ledgers.extend(count_samplers(&mut script, &parts)?);
    let ledger = script.state(|display| display.ledger.clone())?;
    ledgers.push((display_name.clone(), ledger));
    let holds = report(&mut script, &ledgers, &display_name)?;

    if let (Some(recorder), Some(path)) = (&parts.receivers.recorder, &arguments.csv) {
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

fn spawn_receivers(
    node: &Node,
    arguments: &Arguments,
    series: Option<csv::Series<File>>,
    start: Instant,
) -> Result<Receivers> {
    let watchman = Watchman::new(arguments.alarms.clone(), start);
    let meters = Meters::new(start);
    let recorder = match series {
        Some(series) => Some(node.spawn_thread("csv", Recorder::new(series))?),
        None => None,
    };
    Ok(Receivers {
        watchman: node.spawn_thread("alarms", watchman)?,
        meters: node.spawn_thread("rates", meters)?,
        recorder,
        relay: node.spawn_thread("relay", Relay::default())?,
        slow: policies::spawn_slow(node)?,
    })
}

/// Five samplers on one driver: they take turns on one thread, and each has its own source.
fn spawn_samplers(
    node: &Node,
    arguments: &Arguments,
    origin: &Origin,
    start: Instant,
    receivers: Receivers,
) -> Result<Parts> {
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
    Ok(Parts {
        cpu: driver.spawn("sampler/cpu", cpu)?,
        memory: driver.spawn("sampler/memory", memory)?,
        net: driver.spawn("sampler/net", net)?,
        disk: driver.spawn("sampler/disk", disk)?,
        process: driver.spawn("sampler/process", process)?,
        receivers,
    })
}
