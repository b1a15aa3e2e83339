//! From two readings to rates. No input or output, and no clock.
//!
//! Counters may wrap, or start again when a device is unplugged and comes back. A counter that went backwards gives no rate
//! for that interval and is counted ([`Rates::went_back`]): which of the two it was cannot be told, and no point in a series is
//! better than a wrong one. All other arithmetic on counters saturates.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    figures::{
        Cpu, CpuTimes, Device, Disk, Interface, Memory, Net, Process, Processes, Reading,
        SECTOR_BYTES,
    },
    metric::Metric,
};

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

pub(crate) fn cpu_rates(before: &Reading<Cpu>, after: &Reading<Cpu>, rates: &mut Rates) {
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

pub(crate) fn memory_rates(after: &Reading<Memory>, rates: &mut Rates) {
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

pub(crate) fn net_rates(before: &Reading<Net>, after: &Reading<Net>, rates: &mut Rates) {
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

pub(crate) fn disk_rates(before: &Reading<Disk>, after: &Reading<Disk>, rates: &mut Rates) {
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
pub(crate) type ProcessNames = BTreeMap<(u32, u64), String>;

pub(crate) fn process_rates(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        figures::{Core, Units},
        meter::Meter,
    };

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
}
