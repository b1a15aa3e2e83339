//! From two readings to rates, from rates to percentiles, from rates to alarms. No input or output, and no clock.
//!
//! Counters may wrap, or start again when a device is unplugged and comes back. A counter that went backwards gives no rate
//! for that interval and is counted ([`Rates::went_back`]): which of the two it was cannot be told, and no point in a series is
//! better than a wrong one. All other arithmetic on counters saturates.

use std::{
    collections::{BTreeMap, VecDeque},
    error, fmt,
    str::FromStr,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::figures::{
    Cpu, CpuTimes, Device, Disk, Interface, Memory, Net, Process, Processes, Reading, SECTOR_BYTES,
};

/// What a value is a value of. The order is the order of the rows of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Metric {
    Cpu,
    Memory,
    Swap,
    NetReceived { interface: String },
    NetSent { interface: String },
    DiskRead { device: String },
    DiskWritten { device: String },
    DiskBusy { device: String },
    ProcessCpu { pid: u32, comm: String },
    ProcessMemory { pid: u32, comm: String },
    Core { index: u32 },
}

impl Metric {
    pub(crate) fn kind(&self) -> MetricKind {
        match self {
            Self::Cpu => MetricKind::Cpu,
            Self::Memory => MetricKind::Memory,
            Self::Swap => MetricKind::Swap,
            Self::NetReceived { .. } => MetricKind::NetReceived,
            Self::NetSent { .. } => MetricKind::NetSent,
            Self::DiskRead { .. } => MetricKind::DiskRead,
            Self::DiskWritten { .. } => MetricKind::DiskWritten,
            Self::DiskBusy { .. } => MetricKind::DiskBusy,
            Self::ProcessCpu { .. } => MetricKind::ProcessCpu,
            Self::ProcessMemory { .. } => MetricKind::ProcessMemory,
            Self::Core { .. } => MetricKind::Core,
        }
    }

    pub(crate) fn unit(&self) -> Unit {
        match self {
            Self::Cpu
            | Self::Memory
            | Self::Swap
            | Self::DiskBusy { .. }
            | Self::ProcessCpu { .. }
            | Self::Core { .. } => Unit::Percent,
            Self::NetReceived { .. }
            | Self::NetSent { .. }
            | Self::DiskRead { .. }
            | Self::DiskWritten { .. } => Unit::BytesPerSecond,
            Self::ProcessMemory { .. } => Unit::Bytes,
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Memory => f.write_str("memory"),
            Self::Swap => f.write_str("swap"),
            Self::NetReceived { interface } => write!(f, "net {interface} received"),
            Self::NetSent { interface } => write!(f, "net {interface} sent"),
            Self::DiskRead { device } => write!(f, "disk {device} read"),
            Self::DiskWritten { device } => write!(f, "disk {device} written"),
            Self::DiskBusy { device } => write!(f, "disk {device} busy"),
            Self::ProcessCpu { pid, comm } => write!(f, "process cpu {comm} ({pid})"),
            Self::ProcessMemory { pid, comm } => write!(f, "process memory {comm} ({pid})"),
            Self::Core { index } => write!(f, "core {index}"),
        }
    }
}

/// All metrics of one sort, whatever the device; thresholds are set for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum MetricKind {
    Cpu,
    Memory,
    Swap,
    NetReceived,
    NetSent,
    DiskRead,
    DiskWritten,
    DiskBusy,
    ProcessCpu,
    ProcessMemory,
    Core,
}

impl MetricKind {
    /// Every kind, with its name on the command line.
    pub(crate) const NAMES: [(&'static str, Self); 11] = [
        ("cpu", Self::Cpu),
        ("memory", Self::Memory),
        ("swap", Self::Swap),
        ("net-received", Self::NetReceived),
        ("net-sent", Self::NetSent),
        ("disk-read", Self::DiskRead),
        ("disk-written", Self::DiskWritten),
        ("disk-busy", Self::DiskBusy),
        ("process-cpu", Self::ProcessCpu),
        ("process-memory", Self::ProcessMemory),
        ("core", Self::Core),
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Percent,
    Bytes,
    BytesPerSecond,
}

/// One point of one series.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Value {
    pub(crate) metric: Metric,
    pub(crate) value: f64,
}

/// What one reading gave, compared with an earlier one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) at: Duration,
    pub(crate) values: Vec<Value>,
    /// How many counters went backwards; for each there is a value less.
    pub(crate) went_back: u64,
}

impl Rates {
    fn push(&mut self, metric: Metric, value: f64) {
        self.values.push(Value { metric, value });
    }

    /// Adds what a counter gained per second.
    fn push_gain(&mut self, metric: Metric, before: u64, after: u64, per: f64) {
        match after.checked_sub(before) {
            Some(gain) => self.push(metric, gain as f64 * per),
            None => self.went_back = self.went_back.saturating_add(1),
        }
    }
}

/// Seconds between two readings, or `None` if the later one is not later: then there is nothing to divide by.
fn seconds<T>(before: &Reading<T>, after: &Reading<T>) -> Option<f64> {
    let elapsed = after.at.checked_sub(before.at)?;
    (!elapsed.is_zero()).then_some(elapsed.as_secs_f64())
}

/// Returns which part of its time a core was busy, in percent, or `None` if no tick has passed.
pub(crate) fn busy_percent(before: &CpuTimes, after: &CpuTimes) -> Option<f64> {
    // Each field by itself, because `idle` and `iowait` may go backwards, and then gained nothing. `guest` is part of `user`.
    let gain = |field: fn(&CpuTimes) -> u64| field(after).saturating_sub(field(before));
    let busy = [
        gain(|times| times.user),
        gain(|times| times.nice),
        gain(|times| times.system),
        gain(|times| times.irq),
        gain(|times| times.softirq),
        gain(|times| times.steal),
    ]
    .into_iter()
    .fold(0, u64::saturating_add);
    let idle = gain(|times| times.idle).saturating_add(gain(|times| times.iowait));
    // As fractions: the sum of the two could overflow.
    let all = busy as f64 + idle as f64;
    (all > 0.0).then(|| 100.0 * busy as f64 / all)
}

fn cpu_rates(before: &Reading<Cpu>, after: &Reading<Cpu>, rates: &mut Rates) {
    if let Some(busy) = busy_percent(&before.figures.total, &after.figures.total) {
        rates.push(Metric::Cpu, busy);
    }
    for core in &after.figures.cores {
        let earlier = find(&before.figures.cores, |earlier| earlier.index == core.index);
        let busy = earlier.and_then(|earlier| busy_percent(&earlier.times, &core.times));
        if let Some(busy) = busy {
            rates.push(Metric::Core { index: core.index }, busy);
        }
    }
}

/// Finds the earlier figures of the same thing. The lists are short, or nearly in the same order.
fn find<T>(earlier: &[T], same: impl FnMut(&&T) -> bool) -> Option<&T> {
    earlier.iter().find(same)
}

fn memory_rates(after: &Reading<Memory>, rates: &mut Rates) {
    let memory = &after.figures;
    // Before Linux 3.14 the kernel gave no estimate; this is what tools took instead.
    let available = memory.available_kb.unwrap_or_else(|| {
        memory
            .free_kb
            .saturating_add(memory.buffers_kb)
            .saturating_add(memory.cached_kb)
    });
    let mut push = |metric, total: u64, free: u64| {
        if total > 0 {
            let used = total.saturating_sub(free);
            rates.push(metric, 100.0 * used as f64 / total as f64);
        }
    };
    push(Metric::Memory, memory.total_kb, available);
    push(Metric::Swap, memory.swap_total_kb, memory.swap_free_kb);
}

fn net_rates(before: &Reading<Net>, after: &Reading<Net>, rates: &mut Rates) {
    let Some(seconds) = seconds(before, after) else {
        return;
    };
    let per = 1.0 / seconds;
    let interfaces = &before.figures.interfaces;
    for Interface {
        name,
        received,
        sent,
    } in &after.figures.interfaces
    {
        let Some(earlier) = find(interfaces, |earlier| earlier.name == *name) else {
            continue;
        };
        let interface = name.clone();
        let metric = Metric::NetReceived { interface };
        rates.push_gain(metric, earlier.received.bytes, received.bytes, per);
        let interface = name.clone();
        let metric = Metric::NetSent { interface };
        rates.push_gain(metric, earlier.sent.bytes, sent.bytes, per);
    }
}

fn disk_rates(before: &Reading<Disk>, after: &Reading<Disk>, rates: &mut Rates) {
    let Some(seconds) = seconds(before, after) else {
        return;
    };
    let per = SECTOR_BYTES as f64 / seconds;
    for now in &after.figures.devices {
        let Some(then) = find(&before.figures.devices, |then| same_device(then, now)) else {
            continue;
        };
        let device = now.name.clone();
        let metric = Metric::DiskRead { device };
        rates.push_gain(metric, then.sectors_read, now.sectors_read, per);
        let device = now.name.clone();
        let metric = Metric::DiskWritten { device };
        rates.push_gain(metric, then.sectors_written, now.sectors_written, per);
        if let (Some(then), Some(busy)) = (then.busy_ms, now.busy_ms) {
            match busy.checked_sub(then) {
                Some(gain_ms) => {
                    let device = now.name.clone();
                    let percent = gain_ms as f64 * 0.1 / seconds;
                    // The kernel counts in ticks of its own, so over a short interval the sum can pass the interval.
                    rates.push(Metric::DiskBusy { device }, percent.min(100.0));
                }
                None => rates.went_back = rates.went_back.saturating_add(1),
            }
        }
    }
}

fn same_device(a: &Device, b: &Device) -> bool {
    (a.major, a.minor, &a.name) == (b.major, b.minor, &b.name)
}

/// The name under which the series of each watched process, by pid and start, was begun.
///
/// A process may rename itself, and workers of the kernel do so for each job; the series goes on under its first name.
type ProcessNames = BTreeMap<(u32, u64), String>;

fn process_rates(
    before: &Reading<Processes>,
    after: &Reading<Processes>,
    names: &mut ProcessNames,
    rates: &mut Rates,
) {
    let units = after.figures.units;
    let watched = &after.figures.watched;
    names.retain(|key, _| watched.iter().any(|now| (now.pid, now.start_ticks) == *key));
    for now in watched {
        let key = (now.pid, now.start_ticks);
        let then = find(&before.figures.watched, |then| {
            (then.pid, then.start_ticks) == key
        });
        let name = names
            .entry(key)
            .or_insert_with(|| then.unwrap_or(now).comm.clone());
        let (pid, comm) = (now.pid, name.clone());
        let resident = now.resident_pages as f64 * units.page_bytes as f64;
        rates.push(Metric::ProcessMemory { pid, comm }, resident);
        let Some(then) = then else { continue };
        let Some(seconds) = seconds(before, after) else {
            continue;
        };
        let used = |process: &Process| process.user_ticks.saturating_add(process.system_ticks);
        let percent = 100.0 / (units.ticks_per_second.max(1) as f64 * seconds);
        let comm = name.clone();
        let metric = Metric::ProcessCpu { pid, comm };
        rates.push_gain(metric, used(then), used(now), percent);
    }
}

/// The readings of the last while, so that the newest can be compared with one a fixed span older.
///
/// Comparing each with the one just before it, 20 ms earlier, would give percentages in steps of 25 or more: a core counts in
/// ticks of 10 ms.
#[derive(Debug)]
struct Earlier<T> {
    span: Duration,
    readings: VecDeque<Reading<T>>,
}

/// More readings than this are not kept, however long the span; rates are then over as many as there are.
const READINGS_MAX: usize = 1024;

impl<T> Earlier<T> {
    fn new(span: Duration) -> Self {
        Self {
            span,
            readings: VecDeque::new(),
        }
    }

    /// Keeps `reading`, and returns it with the youngest that is at least a span older.
    ///
    /// Returns nothing while there is none that old: a rate over one interval of 20 ms, right after the start, would be off by
    /// a tick in two, and raise alarms.
    fn keep(&mut self, reading: Reading<T>) -> Option<(&Reading<T>, &Reading<T>)> {
        let now = reading.at;
        let old_enough = |candidate: &Reading<T>| candidate.at.saturating_add(self.span) <= now;
        while self.readings.get(1).is_some_and(old_enough) {
            self.readings.pop_front();
        }
        let full = self.readings.len() == READINGS_MAX;
        if full {
            self.readings.pop_front();
        }
        let comparable = full || self.readings.front().is_some_and(old_enough);
        self.readings.push_back(reading);
        let pair = (self.readings.front(), self.readings.back());
        let (Some(before), Some(after)) = pair else {
            return None;
        };
        comparable.then_some((before, after))
    }
}

/// The values of one series within the last `span`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    values: VecDeque<(Duration, f64)>,
}

/// At 50 values a second, the last 80 seconds. With a longer window or a faster reader the oldest values go first.
const VALUES_MAX: usize = 4096;

/// A value below which a part of the values of a window lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) count: usize,
    pub(crate) last: f64,
    pub(crate) p50: f64,
    pub(crate) p95: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Window {
    pub(crate) fn push(&mut self, at: Duration, value: f64) {
        if self.values.len() == VALUES_MAX {
            self.values.pop_front();
        }
        self.values.push_back((at, value));
    }

    /// Forgets what is older than `span`.
    pub(crate) fn forget(&mut self, now: Duration, span: Duration) {
        while (self.values.front()).is_some_and(|&(at, _)| at.saturating_add(span) < now) {
            self.values.pop_front();
        }
    }

    /// Returns the percentiles by nearest rank, so each is a value that was seen, or `None` if the window is empty.
    ///
    /// Sorting a copy of a few hundred values when the table is drawn costs less than keeping them sorted at each value.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let &(_, last) = self.values.back()?;
        let mut sorted: Vec<f64> = self.values.iter().map(|&(_, value)| value).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = |percent: usize| {
            // The smallest value with at least that percentage of all values at or below it.
            let rank = (sorted.len() * percent).div_ceil(100).max(1);
            sorted[rank - 1]
        };
        Some(Percentiles {
            count: sorted.len(),
            last,
            p50: rank(50),
            p95: rank(95),
            p99: rank(99),
            max: rank(100),
        })
    }
}

/// The percentiles of one series, as they are published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) metric: Metric,
    pub(crate) percentiles: Percentiles,
}

/// Turns readings into rates and keeps the windows.
#[derive(Debug)]
pub(crate) struct Meter {
    window: Duration,
    cpu: Earlier<Cpu>,
    net: Earlier<Net>,
    disk: Earlier<Disk>,
    processes: Earlier<Processes>,
    names: ProcessNames,
    windows: BTreeMap<Metric, Window>,
    went_back: u64,
}

impl Meter {
    /// Rates are over `span`, percentiles over `window`.
    pub(crate) fn new(span: Duration, window: Duration) -> Self {
        Self {
            window,
            cpu: Earlier::new(span),
            net: Earlier::new(span),
            disk: Earlier::new(span),
            processes: Earlier::new(span),
            names: BTreeMap::new(),
            windows: BTreeMap::new(),
            went_back: 0,
        }
    }

    pub(crate) fn cpu(&mut self, reading: Reading<Cpu>) -> Rates {
        let mut rates = rates_at(reading.at);
        if let Some((before, after)) = self.cpu.keep(reading) {
            cpu_rates(before, after, &mut rates);
        }
        self.record(rates)
    }

    pub(crate) fn memory(&mut self, reading: Reading<Memory>) -> Rates {
        let mut rates = rates_at(reading.at);
        memory_rates(&reading, &mut rates);
        self.record(rates)
    }

    pub(crate) fn net(&mut self, reading: Reading<Net>) -> Rates {
        let mut rates = rates_at(reading.at);
        if let Some((before, after)) = self.net.keep(reading) {
            net_rates(before, after, &mut rates);
        }
        self.record(rates)
    }

    pub(crate) fn disk(&mut self, reading: Reading<Disk>) -> Rates {
        let mut rates = rates_at(reading.at);
        if let Some((before, after)) = self.disk.keep(reading) {
            disk_rates(before, after, &mut rates);
        }
        self.record(rates)
    }

    pub(crate) fn processes(&mut self, reading: Reading<Processes>) -> Rates {
        let mut rates = rates_at(reading.at);
        if let Some((before, after)) = self.processes.keep(reading) {
            process_rates(before, after, &mut self.names, &mut rates);
        }
        self.record(rates)
    }

    fn record(&mut self, rates: Rates) -> Rates {
        self.went_back = self.went_back.saturating_add(rates.went_back);
        for Value { metric, value } in &rates.values {
            // Look up before inserting: a key is cloned only for a new series.
            let window = match self.windows.get_mut(metric) {
                Some(window) => window,
                None => self.windows.entry(metric.clone()).or_default(),
            };
            window.push(rates.at, *value);
            window.forget(rates.at, self.window);
        }
        rates
    }

    /// Returns the percentiles of every series that had a value within the window, and forgets the others.
    pub(crate) fn summaries(&mut self, now: Duration) -> Vec<Summary> {
        let span = self.window;
        let mut summaries = Vec::with_capacity(self.windows.len());
        self.windows.retain(|metric, window| {
            window.forget(now, span);
            let Some(percentiles) = window.percentiles() else {
                return false;
            };
            summaries.push(Summary {
                metric: metric.clone(),
                percentiles,
            });
            true
        });
        summaries
    }

    /// How many counters went backwards since the start.
    pub(crate) fn went_back(&self) -> u64 {
        self.went_back
    }
}

fn rates_at(at: Duration) -> Rates {
    Rates {
        at,
        ..Rates::default()
    }
}

/// When an alarm is raised, and when it is cleared again.
///
/// It is cleared lower than it is raised, so that a value that trembles around one limit is not a shower of alarms.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) kind: MetricKind,
    /// Raised at this value or above.
    pub(crate) raise: f64,
    /// Cleared at this value or below.
    pub(crate) clear: f64,
}

/// Why a text is not a threshold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ThresholdError(String);

impl fmt::Display for ThresholdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl error::Error for ThresholdError {}

impl FromStr for Threshold {
    type Err = ThresholdError;

    /// Reads `KIND=RAISE` or `KIND=RAISE:CLEAR`; a number may end in `k`, `M` or `G`. Without `CLEAR` it is nine tenths of `RAISE`.
    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let Some((name, limits)) = text.split_once('=') else {
            let message = format!("expected KIND=RAISE or KIND=RAISE:CLEAR, found {text:?}");
            return Err(ThresholdError(message));
        };
        let Some(&(_, kind)) = MetricKind::NAMES.iter().find(|(known, _)| *known == name) else {
            let known: Vec<&str> = MetricKind::NAMES.iter().map(|(known, _)| *known).collect();
            let message = format!("expected one of {}, found {name:?}", known.join(", "));
            return Err(ThresholdError(message));
        };
        let (raise, clear) = match limits.split_once(':') {
            Some((raise, clear)) => (limit(raise)?, limit(clear)?),
            None => {
                let raise = limit(limits)?;
                (raise, raise * 0.9)
            }
        };
        if clear > raise {
            let message = format!("expected CLEAR not above RAISE, found {limits:?}");
            return Err(ThresholdError(message));
        }
        Ok(Self { kind, raise, clear })
    }
}

fn limit(text: &str) -> Result<f64, ThresholdError> {
    let (digits, factor) = match text.as_bytes() {
        [digits @ .., b'k'] => (digits.len(), 1e3),
        [digits @ .., b'M'] => (digits.len(), 1e6),
        [digits @ .., b'G'] => (digits.len(), 1e9),
        digits => (digits.len(), 1.0),
    };
    // Anything but a letter at the end is one byte long, so this cut is between characters.
    match text[..digits].parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(number * factor),
        _ => Err(ThresholdError(format!(
            "expected a number, perhaps with k, M or G behind it, found {text:?}"
        ))),
    }
}

/// A change of one alarm, as it is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AlarmEvent {
    pub(crate) at: Duration,
    pub(crate) metric: Metric,
    pub(crate) change: AlarmChange,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum AlarmChange {
    Raised {
        value: f64,
        limit: f64,
    },
    Cleared {
        value: f64,
        limit: f64,
    },
    /// No value came for a while (an interface was removed, a process ended), so nothing could clear it.
    Gone,
}

/// Which alarms are raised.
#[derive(Debug)]
pub(crate) struct Alarms {
    thresholds: Vec<Threshold>,
    silence: Duration,
    /// By the place of the threshold and the metric: when its last value came.
    raised: BTreeMap<(usize, Metric), Duration>,
}

impl Alarms {
    /// An alarm without values for `silence` is cleared as [`AlarmChange::Gone`].
    pub(crate) fn new(thresholds: Vec<Threshold>, silence: Duration) -> Self {
        Self {
            thresholds,
            silence,
            raised: BTreeMap::new(),
        }
    }

    /// Compares new values with the thresholds, and returns what changed.
    pub(crate) fn update(&mut self, rates: &Rates) -> Vec<AlarmEvent> {
        let mut events = Vec::new();
        let at = rates.at;
        for Value { metric, value } in &rates.values {
            let value = *value;
            for (place, threshold) in self.thresholds.iter().enumerate() {
                if threshold.kind != metric.kind() {
                    continue;
                }
                let key = (place, metric.clone());
                let change = match self.raised.get_mut(&key) {
                    Some(_) if value <= threshold.clear => {
                        self.raised.remove(&key);
                        let limit = threshold.clear;
                        AlarmChange::Cleared { value, limit }
                    }
                    Some(seen) => {
                        *seen = at;
                        continue;
                    }
                    // Both limits may be one value; then a value on it clears and does not raise again.
                    None if value >= threshold.raise && value > threshold.clear => {
                        self.raised.insert(key, at);
                        let limit = threshold.raise;
                        AlarmChange::Raised { value, limit }
                    }
                    None => continue,
                };
                let metric = metric.clone();
                events.push(AlarmEvent { at, metric, change });
            }
        }
        events
    }

    /// Clears alarms whose values have stopped.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<AlarmEvent> {
        let mut events = Vec::new();
        self.raised.retain(|(_, metric), seen| {
            let alive = seen.saturating_add(self.silence) >= now;
            if !alive {
                events.push(AlarmEvent {
                    at: now,
                    metric: metric.clone(),
                    change: AlarmChange::Gone,
                });
            }
            alive
        });
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Core, Traffic, Units};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn busy(user: u64, idle: u64) -> CpuTimes {
        CpuTimes {
            user,
            idle,
            ..CpuTimes::default()
        }
    }

    fn value(rates: &Rates, metric: &Metric) -> Option<f64> {
        let found = rates.values.iter().find(|value| value.metric == *metric);
        found.map(|value| value.value)
    }

    fn eth0(at_ms: u64, received: u64) -> Reading<Net> {
        Reading {
            at: ms(at_ms),
            figures: Net {
                interfaces: vec![Interface {
                    name: "eth0".to_owned(),
                    received: Traffic {
                        bytes: received,
                        ..Traffic::default()
                    },
                    sent: Traffic::default(),
                }],
            },
        }
    }

    fn eth0_received() -> Metric {
        Metric::NetReceived {
            interface: "eth0".to_owned(),
        }
    }

    #[test]
    fn busy_is_the_part_of_ticks_that_was_not_idle() {
        assert_eq!(busy_percent(&busy(10, 10), &busy(13, 11)), Some(75.0));
        assert_eq!(busy_percent(&busy(10, 10), &busy(10, 10)), None);
        // Idle time that goes backwards counts as none gained.
        assert_eq!(busy_percent(&busy(10, 10), &busy(12, 9)), Some(100.0));
        // The largest counters do not overflow.
        let most = CpuTimes {
            user: u64::MAX,
            system: u64::MAX,
            idle: u64::MAX,
            iowait: u64::MAX,
            ..CpuTimes::default()
        };
        assert_eq!(busy_percent(&CpuTimes::default(), &most), Some(50.0));
    }

    #[test]
    fn guest_time_is_not_counted_twice() {
        let after = CpuTimes {
            user: 50,
            guest: 50,
            idle: 50,
            ..CpuTimes::default()
        };
        assert_eq!(busy_percent(&CpuTimes::default(), &after), Some(50.0));
    }

    #[test]
    fn a_core_that_came_online_has_a_rate_from_its_second_reading_on() {
        let cores = |indexes: &[u32], user| Cpu {
            total: busy(user, user),
            cores: indexes
                .iter()
                .map(|&index| Core {
                    index,
                    times: busy(user, user),
                })
                .collect(),
            ..Cpu::default()
        };
        let mut meter = Meter::new(ms(20), ms(1000));
        let mut read = |at, figures| {
            meter.cpu(Reading {
                at: ms(at),
                figures,
            })
        };
        assert!(read(0, cores(&[0], 10)).values.is_empty());
        let second = read(20, cores(&[0, 3], 20));
        assert_eq!(value(&second, &Metric::Core { index: 0 }), Some(50.0));
        assert_eq!(value(&second, &Metric::Core { index: 3 }), None);
        let third = read(40, cores(&[0, 3], 30));
        assert_eq!(value(&third, &Metric::Core { index: 3 }), Some(50.0));
    }

    #[test]
    fn rates_are_over_the_span_once_there_are_readings_that_old() {
        let mut meter = Meter::new(ms(100), ms(1000));
        let rate = |rates: Rates| value(&rates, &eth0_received());
        assert_eq!(rate(meter.net(eth0(0, 0))), None);
        // The only earlier reading is younger than the span.
        assert_eq!(rate(meter.net(eth0(50, 50))), None);
        assert_eq!(rate(meter.net(eth0(100, 200))), Some(2000.0));
        // Compared with the one at 50 ms: 300 bytes in 100 ms.
        assert_eq!(rate(meter.net(eth0(150, 350))), Some(3000.0));
    }

    #[test]
    fn a_counter_that_goes_backwards_gives_no_rate_and_is_counted() {
        let mut meter = Meter::new(ms(10), ms(1000));
        meter.net(eth0(0, u64::MAX));
        let rates = meter.net(eth0(10, 5));
        assert_eq!(value(&rates, &eth0_received()), None);
        assert_eq!(rates.went_back, 1);
        assert_eq!(meter.went_back(), 1);
        let rates = meter.net(eth0(20, 15));
        assert_eq!(value(&rates, &eth0_received()), Some(1000.0));
    }

    #[test]
    fn readings_at_one_time_give_no_rate() {
        let mut meter = Meter::new(ms(10), ms(1000));
        meter.net(eth0(10, 0));
        assert!(meter.net(eth0(10, 99)).values.is_empty());
        assert!(meter.net(eth0(5, 100)).values.is_empty());
    }

    #[test]
    fn disk_rates_are_in_bytes_and_busy_is_at_most_all_the_time() {
        let disk = |at_ms, sectors, busy_ms| Reading {
            at: ms(at_ms),
            figures: Disk {
                devices: vec![Device {
                    name: "sda".to_owned(),
                    sectors_read: sectors,
                    busy_ms: Some(busy_ms),
                    ..Device::default()
                }],
            },
        };
        let metric = |make: fn(String) -> Metric| make("sda".to_owned());
        let read = metric(|device| Metric::DiskRead { device });
        let busy = metric(|device| Metric::DiskBusy { device });
        let mut meter = Meter::new(ms(1), ms(1000));
        meter.disk(disk(0, 0, 0));
        let rates = meter.disk(disk(500, 1000, 125));
        assert_eq!(value(&rates, &read), Some(1_024_000.0));
        assert_eq!(value(&rates, &busy), Some(25.0));
        let rates = meter.disk(disk(1000, 1000, 800));
        assert_eq!(value(&rates, &read), Some(0.0));
        assert_eq!(value(&rates, &busy), Some(100.0));
        // 32 bits of milliseconds have wrapped: no busy time, but the others.
        let rates = meter.disk(disk(1500, 2000, 3));
        assert_eq!(value(&rates, &read), Some(1_024_000.0));
        assert_eq!(value(&rates, &busy), None);
        assert_eq!(rates.went_back, 1);
    }

    #[test]
    fn a_renamed_process_goes_on_and_a_pid_given_out_again_is_another() {
        let process = |at_ms, start_ticks, user_ticks, comm: &str| Reading {
            at: ms(at_ms),
            figures: Processes {
                units: Units {
                    ticks_per_second: 100,
                    page_bytes: 4096,
                },
                count: 1,
                watched: vec![Process {
                    pid: 7,
                    comm: comm.to_owned(),
                    state: 'R',
                    parent: 1,
                    minor_faults: 0,
                    major_faults: 0,
                    user_ticks,
                    system_ticks: 0,
                    threads: 1,
                    start_ticks,
                    virtual_bytes: 0,
                    resident_pages: 2,
                }],
            },
        };
        let cpu = Metric::ProcessCpu {
            pid: 7,
            comm: "work".to_owned(),
        };
        let memory = Metric::ProcessMemory {
            pid: 7,
            comm: "work".to_owned(),
        };
        let mut meter = Meter::new(ms(1), ms(1000));
        meter.processes(process(0, 1, 100, "work"));
        let rates = meter.processes(process(1000, 1, 150, "renamed"));
        assert_eq!(value(&rates, &cpu), Some(50.0));
        assert_eq!(value(&rates, &memory), Some(8192.0));
        let rates = meter.processes(process(2000, 2, 900, "other"));
        assert_eq!(value(&rates, &cpu), None);
        assert_eq!(value(&rates, &memory), None);
        assert_eq!(rates.went_back, 0);
    }

    #[test]
    fn memory_of_an_old_kernel_is_estimated() {
        let mut meter = Meter::new(ms(1), ms(1000));
        let rates = meter.memory(Reading {
            at: ms(0),
            figures: Memory {
                total_kb: 100,
                free_kb: 10,
                buffers_kb: 20,
                cached_kb: 30,
                ..Memory::default()
            },
        });
        assert_eq!(value(&rates, &Metric::Memory), Some(40.0));
        // No swap: a percentage of nothing is not a number.
        assert_eq!(value(&rates, &Metric::Swap), None);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let mut window = Window::default();
        assert_eq!(window.percentiles(), None);
        window.push(ms(0), 7.0);
        let one = window.percentiles().unwrap();
        assert_eq!((one.p50, one.p95, one.p99, one.max), (7.0, 7.0, 7.0, 7.0));
        let mut window = Window::default();
        for n in (1..=100).rev() {
            window.push(ms(200 - n), n as f64);
        }
        let all = window.percentiles().unwrap();
        assert_eq!(all.count, 100);
        assert_eq!(all.last, 1.0);
        assert_eq!(
            (all.p50, all.p95, all.p99, all.max),
            (50.0, 95.0, 99.0, 100.0)
        );
        // What came before 150 ms is forgotten: 50 and less stay.
        window.forget(ms(250), ms(100));
        assert_eq!(window.percentiles().unwrap().max, 50.0);
    }

    #[test]
    fn a_window_is_bounded_and_a_series_without_values_is_forgotten() {
        let mut window = Window::default();
        for n in 0..2 * VALUES_MAX {
            window.push(ms(0), n as f64);
        }
        assert_eq!(window.percentiles().unwrap().count, VALUES_MAX);

        let mut meter = Meter::new(ms(10), ms(100));
        meter.net(eth0(0, 0));
        meter.net(eth0(10, 10));
        assert_eq!(meter.summaries(ms(50)).len(), 2);
        assert_eq!(meter.summaries(ms(500)).len(), 0);
        assert!(meter.windows.is_empty());
    }

    #[test]
    fn thresholds_are_read_or_refused_by_what_is_wrong() {
        let read = |text: &str| text.parse::<Threshold>();
        assert_eq!(
            read("cpu=90:80"),
            Ok(Threshold {
                kind: MetricKind::Cpu,
                raise: 90.0,
                clear: 80.0
            })
        );
        assert_eq!(
            read("net-received=10M"),
            Ok(Threshold {
                kind: MetricKind::NetReceived,
                raise: 10e6,
                clear: 9e6
            })
        );
        let refused = |text: &str| read(text).unwrap_err().to_string();
        assert_eq!(
            refused("cpu"),
            "expected KIND=RAISE or KIND=RAISE:CLEAR, found \"cpu\""
        );
        assert!(refused("gpu=1").starts_with("expected one of cpu, memory, "));
        assert!(refused("gpu=1").ends_with(", found \"gpu\""));
        assert_eq!(
            refused("cpu=80:90"),
            "expected CLEAR not above RAISE, found \"80:90\""
        );
        for wrong in [
            "cpu=", "cpu=x", "cpu=-1", "cpu=NaN", "cpu=inf", "cpu=9é", "cpu=1:", "cpu=k",
        ] {
            assert!(refused(wrong).starts_with("expected a number"), "{wrong}");
        }
    }

    #[test]
    fn an_alarm_between_its_limits_stays_as_it_is() {
        let mut alarms = Alarms::new(vec!["cpu=90:80".parse().unwrap()], ms(1000));
        let mut update = |at, value| {
            let rates = Rates {
                at: ms(at),
                values: vec![Value {
                    metric: Metric::Cpu,
                    value,
                }],
                went_back: 0,
            };
            let changes = alarms.update(&rates).into_iter();
            changes.map(|event| event.change).collect::<Vec<_>>()
        };
        assert_eq!(update(0, 85.0), []);
        let (value, limit) = (95.0, 90.0);
        assert_eq!(update(1, 95.0), [AlarmChange::Raised { value, limit }]);
        assert_eq!(update(2, 99.0), []);
        assert_eq!(update(3, 85.0), []);
        assert_eq!(update(4, 95.0), []);
        let (value, limit) = (80.0, 80.0);
        assert_eq!(update(5, 80.0), [AlarmChange::Cleared { value, limit }]);
        assert_eq!(update(6, 85.0), []);
    }

    #[test]
    fn equal_limits_do_not_raise_and_clear_on_one_value() {
        let mut alarms = Alarms::new(vec!["swap=0:0".parse().unwrap()], ms(1000));
        let mut update = |value| {
            let rates = Rates {
                at: ms(0),
                values: vec![Value {
                    metric: Metric::Swap,
                    value,
                }],
                went_back: 0,
            };
            alarms.update(&rates).len()
        };
        assert_eq!([0.0, 0.0, 1.0, 0.0, 0.0].map(&mut update), [0, 0, 1, 1, 0]);
    }

    #[test]
    fn an_alarm_without_values_is_gone_after_the_silence() {
        let mut alarms = Alarms::new(vec!["cpu=90".parse().unwrap()], ms(1000));
        let rates = Rates {
            at: ms(0),
            values: vec![Value {
                metric: Metric::Cpu,
                value: 95.0,
            }],
            went_back: 0,
        };
        assert_eq!(alarms.update(&rates).len(), 1);
        assert_eq!(alarms.expire(ms(1000)), []);
        let gone = alarms.expire(ms(1001));
        assert_eq!(gone.len(), 1);
        assert_eq!(gone[0].change, AlarmChange::Gone);
        assert_eq!(alarms.expire(ms(5000)), []);
    }
}
