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

#[path = "vitals/csv.rs"]
mod csv;
#[path = "vitals/display.rs"]
mod display;
#[path = "vitals/figures.rs"]
mod figures;
#[path = "vitals/library.rs"]
mod library;
#[path = "vitals/rates.rs"]
mod rates;
#[path = "vitals/source.rs"]
mod source;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, IsTerminal, Stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::{Duration, Instant},
};

use clap::Parser;
use mproc::{
    Control, Delivered, Error, Fault, Pending, Result, Snapshot, Spun, SubscriptionSnapshot,
    TimerId, prelude::*,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use display::{Account, PolicyRow, Screen, Size, View};
use figures::{Cpu, Disk, Memory, Net, Processes, Reading};
use rates::{AlarmEvent, Alarms, Meter, Rates, Summary, Threshold};
use source::{Origin, Source, SourceError, Watch};

const CPU: Topic<Reading<Cpu>> = Topic::new("host/cpu");
const MEMORY: Topic<Reading<Memory>> = Topic::new("host/memory");
const NET: Topic<Reading<Net>> = Topic::new("host/net");
const DISK: Topic<Reading<Disk>> = Topic::new("host/disk");
const PROCESS: Topic<Reading<Processes>> = Topic::new("host/process");
const ERRORS: Topic<String> = Topic::new("host/errors");
const RATES: Topic<Rates> = Topic::new("host/rates");
const SUMMARIES: Topic<Summaries> = Topic::new("host/summaries");
const ALARMS: Topic<AlarmEvent> = Topic::new("host/alarms");
/// What the relay passes on of `host/cpu`.
const RELAYED: Topic<Reading<Cpu>> = Topic::new("slow/relayed");

/// 50 times a second.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);
/// Rates compare readings this far apart; percentiles are over the window.
const SPAN: Duration = Duration::from_millis(500);
const WINDOW: Duration = Duration::from_secs(30);
const SUMMARIES_EVERY: Duration = Duration::from_millis(250);
/// How long a slow subscriber takes for a sample: five come meanwhile.
const SLOWNESS: Duration = Duration::from_millis(100);
const SLOW_CAPACITY: usize = 4;
/// How long anything at the end may take.
const LIMIT: Duration = Duration::from_secs(10);

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

/// The percentiles of all series, as the display wants them.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Summaries {
    series: Vec<Summary>,
    went_back: u64,
}

/// What a processor counts itself, by topic. The accounts compare it with what the node counts.
#[derive(Clone, Debug, Default)]
struct Ledger {
    /// A topic is in here from the subscription on.
    handled: BTreeMap<&'static str, u64>,
    published: BTreeMap<&'static str, u64>,
    /// How many had been published when this subscriber was last refused one, the refused one included.
    last_refused: BTreeMap<String, u64>,
    /// The last publish that failed, and why.
    failed: Option<String>,
}

impl Ledger {
    fn subscribed<T: ?Sized>(&mut self, topic: &Topic<T>) {
        self.handled.insert(topic.name(), 0);
    }

    fn handled<T: ?Sized>(&mut self, topic: &Topic<T>) {
        *self.handled.entry(topic.name()).or_default() += 1;
    }

    fn publish<P: Processor, R: 'static, T: Send + Sync + 'static>(
        &mut self,
        cx: &mut Cx<'_, P, R>,
        topic: &Topic<T>,
        value: T,
    ) {
        match cx.publish(topic, value) {
            Ok(Delivered { refused, .. }) => {
                let published = self.published.entry(topic.name()).or_default();
                *published += 1;
                for who in refused {
                    self.last_refused.insert(who.label, *published);
                }
            }
            Err(error) => self.failed = Some(format!("{}: {error}", topic.name())),
        }
    }

    /// Takes back a publish that stood in the outbox and was given up there: nobody got it.
    fn undelivered<T: ?Sized>(&mut self, topic: &Topic<T>, fault: &Fault) {
        if let Some(published) = self.published.get_mut(topic.name()) {
            *published = published.saturating_sub(1);
        }
        self.failed = Some(format!("{}: {fault}", topic.name()));
    }
}

/// Asks a processor for its ledger. An answer also says that it has started, and so has subscribed.
struct Count;

/// Tells a processor to begin nothing new. It still handles what comes.
struct Finish;

/// What reads figures of one kind.
type Read<T> = fn(&mut Source, Duration) -> Result<Reading<T>, SourceError>;

/// Reads figures of one kind, and publishes them.
struct Sampler<T: 'static> {
    source: Source,
    read: Read<T>,
    topic: Topic<Reading<T>>,
    start: Instant,
    timer: Option<TimerId>,
    ledger: Ledger,
}

struct Due;

impl<T: Send + Sync + 'static> Processor for Sampler<T> {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.timer = Some(cx.every(SAMPLE_EVERY, |_| Due));
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Handle<Due> for Sampler<T> {
    type Reply = ();

    fn handle(&mut self, _: Due, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let at = cx.now().saturating_duration_since(self.start);
        match (self.read)(&mut self.source, at) {
            Ok(reading) => self.ledger.publish(cx, &self.topic, reading),
            Err(error) => self.ledger.publish(cx, &ERRORS, error.to_string()),
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Handle<Finish> for Sampler<T> {
    type Reply = ();

    fn handle(&mut self, _: Finish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        Ok(())
    }
}

impl<T: Send + Sync + 'static> Handle<Count> for Sampler<T> {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Turns readings into rates, and rates into percentiles.
struct Meters {
    meter: Meter,
    start: Instant,
    timer: Option<TimerId>,
    ledger: Ledger,
}

struct Summarize;

impl Meters {
    /// A sampler must never wait for the rates, so the oldest readings go first should this fall behind.
    fn follow<T: Send + Sync + 'static>(
        &mut self,
        topic: &Topic<Reading<T>>,
        cx: &mut Cx<'_, Self>,
    ) -> Outcome<()>
    where
        Self: Handle<Sample<Reading<T>>>,
    {
        self.ledger.subscribed(topic);
        cx.subscribe(topic)
            .when_full(WhenFull::DropOldest)
            .samples()?;
        Ok(())
    }

    fn measured<T>(&mut self, topic: &Topic<Reading<T>>, rates: Rates, cx: &mut Cx<'_, Self>) {
        self.ledger.handled(topic);
        // The first readings have nothing to be compared with.
        if !rates.values.is_empty() {
            self.ledger.publish(cx, &RATES, rates);
        }
    }
}

impl Processor for Meters {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.follow(&CPU, cx)?;
        self.follow(&MEMORY, cx)?;
        self.follow(&NET, cx)?;
        self.follow(&DISK, cx)?;
        self.follow(&PROCESS, cx)?;
        self.timer = Some(cx.every(SUMMARIES_EVERY, |_| Summarize));
        Ok(())
    }

    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        // Of what this publishes, only rates have subscribers that are waited for.
        self.ledger.undelivered(&RATES, &fault);
    }
}

/// One handler for each type of reading. They differ in nothing but the topic and the method.
macro_rules! meters_handle {
    ($($figures:ty, $topic:ident, $method:ident;)*) => {$(
        impl Handle<Sample<Reading<$figures>>> for Meters {
            type Reply = ();

            fn handle(&mut self, sample: Sample<Reading<$figures>>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
                let rates = self.meter.$method(sample.into_owned());
                self.measured(&$topic, rates, cx);
                Ok(())
            }
        }
    )*};
}

meters_handle! {
    Cpu, CPU, cpu;
    Memory, MEMORY, memory;
    Net, NET, net;
    Disk, DISK, disk;
    Processes, PROCESS, processes;
}

impl Handle<Summarize> for Meters {
    type Reply = ();

    fn handle(&mut self, _: Summarize, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let now = cx.now().saturating_duration_since(self.start);
        let summaries = Summaries {
            series: self.meter.summaries(now),
            went_back: self.meter.went_back(),
        };
        self.ledger.publish(cx, &SUMMARIES, summaries);
        Ok(())
    }
}

impl Handle<Finish> for Meters {
    type Reply = ();

    fn handle(&mut self, _: Finish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        Ok(())
    }
}

impl Handle<Count> for Meters {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Raises and clears alarms.
struct Watchman {
    alarms: Alarms,
    start: Instant,
    timer: Option<TimerId>,
    ledger: Ledger,
}

struct Expire;

impl Watchman {
    fn tell(&mut self, events: Vec<AlarmEvent>, cx: &mut Cx<'_, Self>) {
        for event in events {
            self.ledger.publish(cx, &ALARMS, event);
        }
    }
}

impl Processor for Watchman {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&RATES);
        // An alarm that is missed is worse than rates that are late: wait.
        cx.subscribe(&RATES).when_full(WhenFull::Wait).samples()?;
        self.timer = Some(cx.every(Duration::from_secs(1), |_| Expire));
        Ok(())
    }

    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.ledger.undelivered(&ALARMS, &fault);
    }
}

impl Handle<Sample<Rates>> for Watchman {
    type Reply = ();

    fn handle(&mut self, rates: Sample<Rates>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.handled(&RATES);
        let events = self.alarms.update(&rates);
        self.tell(events, cx);
        Ok(())
    }
}

impl Handle<Expire> for Watchman {
    type Reply = ();

    fn handle(&mut self, _: Expire, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        let now = cx.now().saturating_duration_since(self.start);
        let events = self.alarms.expire(now);
        self.tell(events, cx);
        Ok(())
    }
}

impl Handle<Finish> for Watchman {
    type Reply = ();

    fn handle(&mut self, _: Finish, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(timer) = self.timer.take() {
            cx.cancel(timer);
        }
        Ok(())
    }
}

impl Handle<Count> for Watchman {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Writes the file. On a thread of its own, because a disk may take its time.
struct Recorder {
    series: Option<csv::Series<File>>,
    failed: Option<io::Error>,
    ledger: Ledger,
}

impl Processor for Recorder {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&RATES);
        // The file is to have no holes. If the disk is slow for long, readings are dropped before the rates, and counted.
        cx.subscribe(&RATES)
            .capacity(1024)
            .when_full(WhenFull::Wait)
            .samples()?;
        Ok(())
    }
}

impl Handle<Sample<Rates>> for Recorder {
    type Reply = ();

    fn handle(&mut self, rates: Sample<Rates>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.handled(&RATES);
        if let Some(series) = &mut self.series
            && let Err(error) = series.write(&rates)
        {
            // The rest would have a hole before it. The end of the program reports this.
            self.series = None;
            self.failed = Some(error);
        }
        Ok(())
    }
}

impl Handle<Finish> for Recorder {
    type Reply = io::Result<u64>;

    fn handle(
        &mut self,
        _: Finish,
        _: &mut Cx<'_, Self, io::Result<u64>>,
    ) -> Outcome<io::Result<u64>> {
        Ok(match (self.series.take(), self.failed.take()) {
            (_, Some(error)) => Err(error),
            (Some(series), None) => series.finish(),
            (None, None) => Ok(0),
        })
    }
}

impl Handle<Count> for Recorder {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Stands between `host/cpu` and a subscriber that publishers wait for, and waits in place of the sampler.
struct Relay {
    ledger: Ledger,
}

impl Processor for Relay {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&CPU);
        cx.subscribe(&CPU)
            .capacity(SLOW_CAPACITY)
            .when_full(WhenFull::DropOldest)
            .samples()?;
        Ok(())
    }

    fn on_error(&mut self, fault: Fault, _: &mut Cx<'_, Self>) {
        self.ledger.undelivered(&RELAYED, &fault);
    }
}

impl Handle<Sample<Reading<Cpu>>> for Relay {
    type Reply = ();

    fn handle(&mut self, sample: Sample<Reading<Cpu>>, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.handled(&CPU);
        // Without room this does not block the thread: the value stands in the outbox, and no sample is taken meanwhile.
        self.ledger.publish(cx, &RELAYED, sample.into_owned());
        Ok(())
    }
}

impl Handle<Count> for Relay {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// Subscribes with one of the policies, and is too slow on purpose.
struct Slow {
    when_full: WhenFull,
    topic: Topic<Reading<Cpu>>,
    ledger: Ledger,
}

impl Processor for Slow {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.ledger.subscribed(&self.topic);
        cx.subscribe(&self.topic)
            .capacity(SLOW_CAPACITY)
            .when_full(self.when_full)
            .samples()?;
        Ok(())
    }
}

impl Handle<Sample<Reading<Cpu>>> for Slow {
    type Reply = ();

    fn handle(&mut self, _: Sample<Reading<Cpu>>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        // A handler should not sleep: nobody else on its driver runs meanwhile. Here that is the point. It stands for work
        // that takes too long, and the driver is this processor's own, so that nobody else pays for it.
        thread::sleep(SLOWNESS);
        self.ledger.handled(&self.topic);
        Ok(())
    }
}

impl Handle<Count> for Slow {
    type Reply = Ledger;

    fn handle(&mut self, _: Count, _: &mut Cx<'_, Self, Ledger>) -> Outcome<Ledger> {
        Ok(self.ledger.clone())
    }
}

/// The state of the callbacks on the main thread.
struct Display {
    view: View,
    screen: Screen<Stdout>,
    /// Draws a table in place of writing lines.
    terminal: bool,
    colour: bool,
    start: Instant,
    ended: bool,
    /// Why nothing can be shown any more.
    failed: Option<io::Error>,
    ledger: Ledger,
}

impl Display {
    fn now(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.start)
    }

    /// A line that stays. On a terminal the page shows the same.
    fn line(&mut self, text: &str) {
        if !self.terminal {
            self.print(text);
        }
    }

    fn print(&mut self, text: &str) {
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
            let written = self.screen.draw(&self.view, terminal_size());
            self.note(written);
        } else {
            let line = self.view.line();
            self.print(&line);
        }
    }
}

fn terminal_size() -> Size {
    let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
    Size { width, height }
}

fn policy_rows(snapshot: &Snapshot) -> Vec<PolicyRow> {
    let subscriptions = snapshot
        .topics
        .iter()
        .flat_map(|topic| &topic.subscriptions);
    let mut slow: Vec<&SubscriptionSnapshot> = subscriptions
        .filter(|s| s.owner.as_ref().is_some_and(|o| o.starts_with("slow/")))
        .collect();
    let place = |when_full| WhenFull::ALL.iter().position(|&known| known == when_full);
    slow.sort_by_key(|s| place(s.when_full));
    slow.into_iter()
        .map(|s| PolicyRow {
            policy: format!("{:?}", s.when_full),
            offered: s.offered,
            handled: s.taken,
            dropped: s.dropped.total(),
            refused: s.refused,
            gap: s.lost,
            queued: s.queued,
            note: if s.closed { "closed" } else { "" }.to_owned(),
        })
        .collect()
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

/// The main thread's script.
type Main = Script<Display>;

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
    let terminal = io::stdout().is_terminal();
    let mut script = script.with(Display {
        view: View::new(match &origin {
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
    });
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

/// The first Ctrl-C or SIGTERM ends the program in order, the second at once.
fn end_on_signal(script: &mut Main) -> Result<()> {
    const END: Topic<()> = Topic::local("vitals/end");
    script.on(&END, |display, _, _| {
        display.ended = true;
    })?;
    let end = script.publisher(&END)?;
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

/// Makes the callbacks of the display. Returns the name under which the node knows them.
fn show(script: &mut Main) -> Result<String> {
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
        display.line(&display::alarm_line(&event));
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

fn spawn_receivers(
    node: &Node,
    arguments: &Arguments,
    series: Option<csv::Series<File>>,
    start: Instant,
) -> Result<Receivers> {
    let ledger = Ledger::default;
    let watchman = Watchman {
        alarms: Alarms::new(arguments.alarms.clone(), Duration::from_secs(3)),
        start,
        timer: None,
        ledger: ledger(),
    };
    let meters = Meters {
        meter: Meter::new(SPAN, WINDOW),
        start,
        timer: None,
        ledger: ledger(),
    };
    let mut slow = Vec::new();
    for when_full in WhenFull::ALL {
        let (name, topic) = match when_full {
            WhenFull::Wait => ("slow/wait", RELAYED),
            WhenFull::DropOldest => ("slow/drop-oldest", CPU),
            WhenFull::DropNewest => ("slow/drop-newest", CPU),
            WhenFull::Latest => ("slow/latest", CPU),
            WhenFull::Fail => ("slow/fail", CPU),
            WhenFull::Disconnect => ("slow/disconnect", CPU),
            // A policy of a later version.
            _ => continue,
        };
        let processor = Slow {
            when_full,
            topic,
            ledger: ledger(),
        };
        slow.push(node.spawn_thread(name, processor)?);
    }
    let recorder = match series {
        Some(series) => {
            let recorder = Recorder {
                series: Some(series),
                failed: None,
                ledger: ledger(),
            };
            Some(node.spawn_thread("csv", recorder)?)
        }
        None => None,
    };
    Ok(Receivers {
        watchman: node.spawn_thread("alarms", watchman)?,
        meters: node.spawn_thread("rates", meters)?,
        recorder,
        relay: node.spawn_thread("relay", Relay { ledger: ledger() })?,
        slow,
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
    fn sampler<T: Serialize + DeserializeOwned>(
        source: Source,
        topic: Topic<Reading<T>>,
        read: Read<T>,
        start: Instant,
    ) -> Sampler<T> {
        Sampler {
            source,
            read,
            topic,
            start,
            timer: None,
            ledger: Ledger::default(),
        }
    }
    let source = || {
        let watch = Watch {
            pids: arguments.processes.clone(),
            busiest: 3,
            look_every: Duration::from_secs(1),
        };
        Source::new(origin, watch)
    };
    let driver = node.driver("samplers")?;
    let cpu = sampler(source(), CPU, Source::cpu, start);
    let memory = sampler(source(), MEMORY, Source::memory, start);
    let net = sampler(source(), NET, Source::net, start);
    let disk = sampler(source(), DISK, Source::disk, start);
    let process = sampler(source(), PROCESS, Source::processes, start);
    Ok(Parts {
        cpu: driver.spawn("sampler/cpu", cpu)?,
        memory: driver.spawn("sampler/memory", memory)?,
        net: driver.spawn("sampler/net", net)?,
        disk: driver.spawn("sampler/disk", disk)?,
        process: driver.spawn("sampler/process", process)?,
        receivers,
    })
}

/// Waits for a reply while the callbacks of the display go on: others may be waiting for them.
fn ask<T: 'static>(script: &mut Main, mut pending: Pending<T>) -> Result<T> {
    script.spin_until(&mut pending, LIMIT)
}

/// A processor's name and what it has counted.
type Counted = (String, Ledger);

fn count<P: Handle<Count, Reply = Ledger>>(
    script: &mut Main,
    address: &Address<P>,
) -> Result<Counted> {
    let name = address.name().as_str();
    let ledger = ask(script, address.call(Count))
        .map_err(|error| Error::new(error.kind(), format!("{name:?} does not answer: {error}")))?;
    Ok((name.to_owned(), ledger))
}

fn count_receivers(script: &mut Main, receivers: &Receivers) -> Result<Vec<Counted>> {
    let mut ledgers = vec![
        count(script, &receivers.meters)?,
        count(script, &receivers.watchman)?,
        count(script, &receivers.relay)?,
    ];
    if let Some(recorder) = &receivers.recorder {
        ledgers.push(count(script, recorder)?);
    }
    for slow in &receivers.slow {
        ledgers.push(count(script, slow)?);
    }
    Ok(ledgers)
}

fn count_samplers(script: &mut Main, parts: &Parts) -> Result<Vec<Counted>> {
    Ok(vec![
        count(script, &parts.cpu)?,
        count(script, &parts.memory)?,
        count(script, &parts.net)?,
        count(script, &parts.disk)?,
        count(script, &parts.process)?,
    ])
}

/// Stops everything that publishes by the clock.
fn finish(script: &mut Main, parts: &Parts) -> Result<()> {
    ask(script, parts.cpu.call(Finish))?;
    ask(script, parts.memory.call(Finish))?;
    ask(script, parts.net.call(Finish))?;
    ask(script, parts.disk.call(Finish))?;
    ask(script, parts.process.call(Finish))?;
    ask(script, parts.receivers.meters.call(Finish))?;
    ask(script, parts.receivers.watchman.call(Finish))
}

/// Spins until nothing is queued, in an outbox or in a handler, and nothing changes any more. False if that takes too long.
fn settle(script: &mut Main) -> Result<bool> {
    let deadline = script.now() + LIMIT;
    let mut before = None;
    while script.now() < deadline {
        let pause = script.now() + Duration::from_millis(50);
        while script.now() < pause {
            let rest = pause.saturating_duration_since(script.now());
            if script.spin_once(rest)? == Spun::Shutdown {
                return Ok(false);
            }
        }
        let Snapshot { topics, runtime } = script.snapshot();
        let mut subscriptions = topics.iter().flat_map(|topic| &topic.subscriptions);
        let quiet = subscriptions.all(|subscription| subscription.queued == 0)
            && runtime
                .processors
                .iter()
                .all(|p| p.outbox == 0 && p.queued == 0 && p.handling_ns.is_none());
        // A snapshot is not taken of all at one moment, so it takes two that are alike.
        if quiet && before.as_ref() == Some(&topics) {
            return Ok(true);
        }
        before = quiet.then_some(topics);
    }
    Ok(false)
}

/// Prints what became of everything. Returns whether it adds up.
fn report(script: &mut Main, ledgers: &[Counted], display_name: &str) -> Result<bool> {
    let snapshot = script.snapshot();
    let mut accounts = Vec::new();
    let mut notes = Vec::new();
    for (owner, ledger) in ledgers {
        if let Some(failed) = &ledger.failed {
            notes.push(format!("{owner} could not publish: {failed}"));
        }
        for (&topic, &handled) in &ledger.handled {
            let mut sent: u64 = ledgers
                .iter()
                .filter_map(|(_, ledger)| ledger.published.get(topic))
                .sum();
            let known = snapshot
                .topics
                .iter()
                .filter(|known| known.name == topic)
                .flat_map(|known| &known.subscriptions)
                .find(|known| known.owner.as_ref() == Some(owner));
            let name = if owner == display_name {
                "display"
            } else {
                owner
            };
            let Some(known) = known else {
                // Then nobody can say what was dropped, and the account does not hold unless nothing was.
                accounts.push(Account {
                    name: format!("{name}: {topic}"),
                    sent,
                    handled,
                    ..Account::default()
                });
                continue;
            };
            if known.closed {
                // Its last sample was the one that found it full: the publisher was told so then.
                let refused = format!("{owner:?} on ");
                let last = ledgers.iter().find_map(|(_, ledger)| {
                    let mut told = ledger.last_refused.iter();
                    told.find(|(who, _)| who.starts_with(&refused))
                });
                if let Some((_, &until)) = last {
                    let after = sent.saturating_sub(until);
                    notes.push(format!("{name} was closed when it was full; {after} samples came later and were not sent to it"));
                    sent = until;
                }
            }
            let mut dropped: Vec<(String, u64)> = known
                .dropped
                .iter()
                .map(|(cause, count)| (format!("{cause:?}").to_lowercase(), count))
                .collect();
            dropped.push(("refused".to_owned(), known.refused));
            accounts.push(Account {
                name: format!("{name}: {topic} ({:?})", known.when_full),
                sent,
                handled,
                dropped,
                left: known.queued,
            });
        }
    }
    let (holds, verdict) = display::verdict(&accounts);
    let rows = policy_rows(&snapshot);
    script.state(|display| {
        let width = display.terminal.then(|| terminal_size().width);
        let colour = display.colour;
        display.print("");
        let policies = display::policy_table(&rows, width, colour);
        display.print(&policies.to_string());
        let table = display::account_table(&accounts, width, colour);
        display.print(&table.to_string());
        for note in notes {
            display.print(&note);
        }
        if display.view.troubles() > 0 {
            let troubles = display.view.troubles();
            display.print(&format!("{troubles} readings failed"));
        }
        display.print(&verdict);
    })?;
    Ok(holds)
}
