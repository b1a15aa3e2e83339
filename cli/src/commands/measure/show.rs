//! A window as lines of a table, or as JSON.

use super::tally::{Spread, Tally, figures};
use super::{Stream, What};
use crate::failure::Outcome;
use crate::output::{self, count, data, duration, rate, safe};
use mproc::PublisherId;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Printer {
    what: What,
    is_json: bool,
    is_pattern: bool,
    has_titles: bool,
}

/// What was published in a window: by one publisher, or on a topic in all.
#[derive(Debug, Serialize)]
struct Row<'a> {
    topic: &'a str,
    /// `None` for all together.
    publisher: Option<usize>,
    is_summary: bool,
    window_s: f64,
    published: u64,
    taken: u64,
    rate_hz: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_bytes: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ns: Option<Spread>,
}

impl Row<'_> {
    fn spread(&self) -> Option<Spread> {
        self.interval_ns.or(self.sample_bytes).or(self.age_ns)
    }
}

impl Printer {
    pub(super) fn new(what: What, is_json: bool, is_pattern: bool) -> Self {
        Self {
            what,
            is_json,
            is_pattern,
            has_titles: false,
        }
    }

    /// What a window had.
    pub(super) fn window(
        &mut self,
        streams: &BTreeMap<PublisherId, Stream>,
        length: Duration,
    ) -> Outcome {
        let rows = self.rows(streams, |stream| &stream.window, Some(length));
        self.print(&rows)
    }

    /// What there was in all, after the last window.
    pub(super) fn total(&mut self, streams: &BTreeMap<PublisherId, Stream>) -> Outcome {
        if streams.is_empty() {
            return Ok(());
        }
        let rows = self.rows(streams, |stream| &stream.total, None);
        if !self.is_json {
            let mut out = output::standard();
            writeln!(out, "in all")?;
            out.flush()?;
            self.has_titles = false;
        }
        self.print(&rows)
    }

    /// A row for each publisher, and one for each topic that has several.
    fn rows<'a>(
        &self,
        streams: &'a BTreeMap<PublisherId, Stream>,
        of: impl Fn(&'a Stream) -> &'a Tally,
        window: Option<Duration>,
    ) -> Vec<Row<'a>> {
        let topics: BTreeSet<&str> = streams.values().map(|stream| &*stream.topic).collect();
        let mut rows = Vec::new();
        for topic in topics {
            let mut streams: Vec<_> = streams.values().filter(|s| s.topic == topic).collect();
            streams.sort_by_key(|stream| stream.publisher);
            let mut all = figures();
            let first = rows.len();
            for stream in &streams {
                let tally = of(stream);
                // Their precision is the same, and their size grows.
                let _never_fails = all.add(tally.figures());
                rows.push(self.row(stream, tally, window));
            }
            if streams.len() > 1 {
                let those = &rows[first..];
                // Of those that have one now: others are silent.
                let sum = |of: fn(&Row<'_>) -> Option<f64>| {
                    those.iter().filter_map(of).reduce(|a, b| a + b)
                };
                let spread = Spread::of(&all);
                // In the end, what was published from the first of all to the last of all: they need not have been there together.
                let spans = streams.iter().filter_map(|stream| of(stream).span());
                let whole = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
                let whole_s = whole.filter(|_| window.is_none()).map(|(from, to)| {
                    let span = to.saturating_duration_since(from);
                    span.as_secs_f64()
                });
                let whole_s = whole_s.filter(|seconds| *seconds > 0.0);
                let over_whole = |count: f64| whole_s.map(|seconds| count / seconds);
                let published: u64 = those.iter().map(|row| row.published).sum();
                let bytes: Option<f64> = those
                    .iter()
                    .filter_map(|row| Some(row.bytes_per_second? * row.window_s))
                    .reduce(|a, b| a + b);
                let row = Row {
                    topic,
                    publisher: None,
                    is_summary: window.is_none(),
                    window_s: whole_s.unwrap_or_else(|| {
                        those.iter().map(|row| row.window_s).fold(0.0, f64::max)
                    }),
                    published,
                    taken: those.iter().map(|row| row.taken).sum(),
                    rate_hz: over_whole(published as f64).or_else(|| sum(|row| row.rate_hz)),
                    bytes_per_second: bytes
                        .and_then(over_whole)
                        .or_else(|| sum(|row| row.bytes_per_second)),
                    interval_ns: spread.filter(|_| self.what == What::Rate),
                    sample_bytes: spread.filter(|_| self.what == What::Bandwidth),
                    age_ns: spread.filter(|_| self.what == What::Delay),
                };
                rows.push(row);
            }
        }
        rows
    }

    fn row<'a>(&self, stream: &'a Stream, tally: &Tally, window: Option<Duration>) -> Row<'a> {
        let spread = Spread::of(tally.figures());
        // In a window without any there was none; before there were two nobody knows.
        let zero = (tally.published() == 0 && stream.total.published() > 0).then_some(0.0);
        let rate_hz = tally.rate_hz().or(zero);
        Row {
            topic: &stream.topic,
            publisher: Some(stream.publisher),
            is_summary: window.is_none(),
            window_s: window.map_or_else(|| tally.seconds(), |window| window.as_secs_f64()),
            published: tally.published(),
            taken: tally.taken(),
            rate_hz,
            bytes_per_second: match self.what {
                What::Bandwidth => tally.bytes_per_second().or(zero),
                _ => None,
            },
            interval_ns: spread.filter(|_| self.what == What::Rate),
            sample_bytes: spread.filter(|_| self.what == What::Bandwidth),
            age_ns: spread.filter(|_| self.what == What::Delay),
        }
    }

    fn print(&mut self, rows: &[Row<'_>]) -> Outcome {
        let mut out = output::standard();
        for row in rows {
            if self.is_json {
                output::json_line(&mut out, row)?;
                continue;
            }
            if !self.has_titles {
                self.has_titles = true;
                writeln!(out, "{}", self.titles().trim_end())?;
            }
            let mut others = rows.iter().filter(|other| other.topic == row.topic);
            let is_one_of_several = others.any(|other| other.publisher.is_none());
            writeln!(out, "{}", self.line(row, is_one_of_several).trim_end())?;
        }
        out.flush()?;
        Ok(())
    }

    fn titles(&self) -> String {
        let (first, of) = match self.what {
            What::Rate => (String::new(), "INTERVAL"),
            What::Bandwidth => (format!("{:>12}  ", "BANDWIDTH"), "SIZE"),
            What::Delay => (String::new(), "AGE"),
        };
        let spread = ["P50", "P90", "P99", "MAX"].map(|title| format!("{title:>9}"));
        format!(
            "{first}{:>9}  {:>9}  {:>6}  {:>12}  {}  {}",
            "RATE",
            "PUBLISHED",
            "TAKEN",
            format!("{of} MIN"),
            spread.join("  "),
            if self.is_pattern { "TOPIC" } else { "" }
        )
    }

    /// `is_one_of_several`: its number is told.
    fn line(&self, row: &Row<'_>, is_one_of_several: bool) -> String {
        let unknown = || "-".to_owned();
        let first = match self.what {
            What::Bandwidth => {
                let bandwidth = row
                    .bytes_per_second
                    .map_or_else(unknown, |bytes| format!("{}/s", data(bytes as u64)));
                format!("{bandwidth:>12}  ")
            }
            _ => String::new(),
        };
        let figure = |n: u64| match self.what {
            What::Bandwidth => data(n),
            _ => duration(Duration::from_nanos(n)),
        };
        let min = row.spread().map_or_else(unknown, |s| figure(s.min));
        let others = match row.spread() {
            Some(s) => [s.p50, s.p90, s.p99, s.max].map(figure),
            None => [(); 4].map(|()| unknown()),
        };
        let others = others.map(|figure| format!("{figure:>9}"));
        let share = match row.published {
            0 => unknown(),
            published => format!("{:.0} %", row.taken as f64 / published as f64 * 100.0),
        };
        let mut who = Vec::new();
        if self.is_pattern {
            who.push(safe(row.topic).into_owned());
        }
        match row.publisher {
            None => who.push("all".to_owned()),
            Some(publisher) if is_one_of_several => who.push(format!("p{publisher}")),
            Some(_) => {}
        }
        format!(
            "{first}{:>9}  {:>9}  {share:>6}  {min:>12}  {}  {}",
            row.rate_hz.map_or_else(unknown, rate),
            count(row.published),
            others.join("  "),
            who.join(" ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tally::Seen;
    use super::*;
    use std::time::Instant;

    fn stream(what: What, publisher: usize, micros: u64) -> Stream {
        let zero = Instant::now();
        let mut tally = Tally::new(what);
        for n in 0..101 {
            tally.add(&Seen {
                sequence: n,
                published: zero + Duration::from_micros(n * micros),
                bytes: 1024,
                age: Duration::from_micros(50),
            });
        }
        Stream {
            topic: "pose".to_owned(),
            publisher,
            window: tally.clone(),
            total: tally,
        }
    }

    fn lines(what: What, streams: Vec<Stream>) -> Vec<String> {
        let printer = Printer::new(what, false, false);
        let id = |n: u64| serde_json::from_value::<PublisherId>(n.into()).unwrap();
        let streams = (1_u64..).map(id).zip(streams).collect();
        let rows = printer.rows(
            &streams,
            |stream| &stream.window,
            Some(Duration::from_secs(1)),
        );
        let titles = std::iter::once(printer.titles());
        let lines = rows.iter().map(|row| printer.line(row, rows.len() > 1));
        titles
            .chain(lines)
            .map(|line| line.trim_end().to_owned())
            .collect()
    }

    #[test]
    fn numbers_stand_below_their_titles() {
        assert_eq!(
            lines(
                What::Rate,
                vec![stream(What::Rate, 1, 10), stream(What::Rate, 2, 1000)]
            ),
            [
                "     RATE  PUBLISHED   TAKEN  INTERVAL MIN        P50        P90        P99        MAX",
                "  100 kHz        100   100 %       10.0 us    10.0 us    10.0 us    10.0 us    10.0 us  p1",
                " 1.00 kHz        100   100 %       1.00 ms    1.00 ms    1.00 ms    1.00 ms    1.00 ms  p2",
                "  101 kHz        200   100 %       10.0 us    10.0 us    1.00 ms    1.00 ms    1.00 ms  all",
            ]
        );
        assert_eq!(
            lines(What::Bandwidth, vec![stream(What::Bandwidth, 1, 10)]),
            [
                "   BANDWIDTH       RATE  PUBLISHED   TAKEN      SIZE MIN        P50        P90        P99        MAX",
                "  97.7 MiB/s    100 kHz        100   100 %      1.00 KiB   1.00 KiB   1.00 KiB   1.00 KiB   1.00 KiB",
            ]
        );
        assert_eq!(
            lines(What::Delay, vec![stream(What::Delay, 1, 10)])[1],
            "  100 kHz        100   100 %       50.0 us    50.0 us    50.0 us    50.0 us    50.0 us"
        );
    }
}
