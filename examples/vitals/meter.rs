//! From readings to rates over a fixed span, and from rates to percentiles: what is kept of earlier readings and values. No
//! input or output, and no clock.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    figures::{Cpu, Disk, Memory, Net, Processes, Reading},
    metric::Metric,
    rates::{
        ProcessNames, Rates, Value, cpu_rates, disk_rates, memory_rates, net_rates, process_rates,
    },
    window::{Percentiles, Window},
};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Interface, Traffic};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
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
    fn a_series_without_values_is_forgotten() {
        let mut meter = Meter::new(ms(10), ms(100));
        meter.net(eth0(0, 0));
        meter.net(eth0(10, 10));
        assert_eq!(meter.summaries(ms(50)).len(), 2);
        assert_eq!(meter.summaries(ms(500)).len(), 0);
        assert!(meter.windows.is_empty());
    }
}
