//! From rates to alarms: thresholds, and which alarms they raise and clear. No input or output, and no clock.

use std::{collections::BTreeMap, error, fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    metric::{Metric, MetricKind},
    rates::{Rates, Value},
};

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

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
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
