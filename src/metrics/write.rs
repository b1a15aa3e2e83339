//! How a series is written, through the crate that knows the format.

use crate::Drops;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// A label and its value.
pub(super) type Label<'a> = (&'static str, Cow<'a, str>);

/// One of many things of a kind, each with series of its own.
pub(super) trait Shown {
    /// Who it is, never used again for another. `None` if its counts go only up.
    fn id(&self) -> Option<u64>;

    fn labels(&self) -> Vec<Label<'_>>;
}

/// What a series is made of, beside its values. Times are given in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Counter,
    SecondsCounter,
    Gauge,
    SecondsGauge,
    /// A gauge whose name has its unit before the end: `_seconds_max`.
    SecondsMax,
}

/// The value last shown, of counters that may be taken back: by series and thing.
#[derive(Debug, Default)]
pub(super) struct Counted(BTreeMap<(&'static str, u64), u64>);

impl Counted {
    /// Somebody else may have been at it meanwhile.
    pub(super) fn merge(&mut self, other: Self) {
        for (key, value) in other.0 {
            let shown = self.0.entry(key).or_default();
            *shown = value.max(*shown);
        }
    }
}

/// Where everything is written to.
pub(super) struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
    before: Counted,
    now: Counted,
}

impl<'a> Out<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>, before: Counted) -> Self {
        Self {
            encoder,
            before,
            now: Counted::default(),
        }
    }

    /// What was shown. Things that are gone are not in it.
    pub(super) fn into_counted(self) -> Counted {
        self.now
    }

    /// A series of the node.
    pub(super) fn one(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &str,
        value: u64,
    ) -> fmt::Result {
        let value = self.never_less(kind, name, Some(0), value);
        let mut metric = family(&mut self.encoder, kind, name, help)?;
        put(&mut metric, kind, value)
    }

    /// A series for each of `all` that has a value.
    pub(super) fn each<T: Shown>(
        &mut self,
        kind: Kind,
        name: &'static str,
        help: &str,
        all: &[T],
        value: impl Fn(&T) -> Option<u64>,
    ) -> fmt::Result {
        let mut values = Vec::with_capacity(all.len());
        for one in all {
            let value = value(one).map(|value| self.never_less(kind, name, one.id(), value));
            values.push(value);
        }
        let mut metric = family(&mut self.encoder, kind, name, help)?;
        for (one, value) in all.iter().zip(values) {
            if let Some(value) = value {
                put(&mut metric.encode_family(&one.labels())?, kind, value)?;
            }
        }
        Ok(())
    }

    /// A counter for each of `all` and each cause.
    pub(super) fn drops<T: Shown>(
        &mut self,
        name: &'static str,
        help: &str,
        all: &[T],
        drops: impl Fn(&T) -> &Drops,
    ) -> fmt::Result {
        let mut metric = family(&mut self.encoder, Kind::Counter, name, help)?;
        for one in all {
            for (cause, n) in drops(one).iter() {
                let mut labels = one.labels();
                labels.push(("cause", label_of(cause.as_str())));
                put(&mut metric.encode_family(&labels)?, Kind::Counter, n)?;
            }
        }
        Ok(())
    }

    /// What is known of each of `all` in words.
    pub(super) fn info<T: Shown>(
        &mut self,
        name: &'static str,
        help: &str,
        all: &[T],
        words: impl Fn(&T) -> Vec<Label<'_>>,
    ) -> fmt::Result {
        let info = MetricType::Info;
        let mut metric = self.encoder.encode_descriptor(name, help, None, info)?;
        for one in all {
            let mut labels = one.labels();
            labels.extend(words(one));
            metric.encode_info(&labels)?;
        }
        Ok(())
    }

    /// A counter of a thing that goes down is one that was taken back: what was shown stays until it is reached again.
    fn never_less(&mut self, kind: Kind, name: &'static str, id: Option<u64>, value: u64) -> u64 {
        let (Kind::Counter | Kind::SecondsCounter, Some(id)) = (kind, id) else {
            return value;
        };
        let key = (name, id);
        let before = self.before.0.get(&key).copied().unwrap_or(0);
        let value = value.max(before);
        self.now.0.insert(key, value);
        value
    }
}

/// Words as label values: `no room` is `no_room`.
pub(super) fn label_of(words: &str) -> Cow<'_, str> {
    if words.contains(' ') {
        Cow::Owned(words.replace(' ', "_"))
    } else {
        Cow::Borrowed(words)
    }
}

fn family<'s>(
    encoder: &'s mut DescriptorEncoder<'_>,
    kind: Kind,
    name: &'static str,
    help: &str,
) -> Result<MetricEncoder<'s>, fmt::Error> {
    let (metric_type, unit) = match kind {
        Kind::Counter => (MetricType::Counter, None),
        Kind::SecondsCounter => (MetricType::Counter, Some(&Unit::Seconds)),
        Kind::Gauge | Kind::SecondsMax => (MetricType::Gauge, None),
        Kind::SecondsGauge => (MetricType::Gauge, Some(&Unit::Seconds)),
    };
    encoder.encode_descriptor(name, help, unit, metric_type)
}

fn put(metric: &mut MetricEncoder<'_>, kind: Kind, value: u64) -> fmt::Result {
    let seconds = value as f64 / 1e9;
    match kind {
        Kind::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None),
        Kind::SecondsCounter => metric.encode_counter::<NoLabelSet, _, u64>(&seconds, None),
        Kind::Gauge => metric.encode_gauge(&value),
        Kind::SecondsGauge | Kind::SecondsMax => metric.encode_gauge(&seconds),
    }
}
