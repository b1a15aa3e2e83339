//! What `mproc info FILE` prints.

use super::scan::{Scanned, Span, scan};
use super::{shown, times};
use crate::failure::Outcome;
use crate::output;
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Files larger than this are read with a progress bar.
const LARGE_BYTES: u64 = 64 << 20;

/// What a file holds. The names of its fields are those of `mproc info FILE --json`.
#[derive(Debug, Serialize)]
struct Summary {
    file: String,
    bytes: u64,
    /// It was closed in order and could be read to its end.
    complete: bool,
    damage: Vec<String>,
    library: String,
    messages: u64,
    duration_ns: u64,
    /// When the first message was published, and the last.
    start_unix_ns: Option<u64>,
    end_unix_ns: Option<u64>,
    chunks: u64,
    compression: Vec<String>,
    /// How many times smaller the chunks are than what is in them.
    compression_ratio: Option<f64>,
    /// Samples that the recorder lost; `null` if the file does not say.
    dropped: Option<u64>,
    topics: Vec<Topic>,
    metadata: Vec<Metadata>,
}

#[derive(Debug, Serialize)]
struct Topic {
    topic: String,
    type_name: String,
    /// More than one if values stand in several forms.
    encodings: Vec<String>,
    codec: Option<String>,
    schema: Option<String>,
    /// Of which publishers messages stand in channels of their own.
    publishers: u64,
    messages: u64,
    bytes: u64,
    rate_hz: Option<f64>,
    dropped: Option<u64>,
    throttled: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Metadata {
    name: String,
    metadata: BTreeMap<String, String>,
}

/// Reads a file, with a progress bar on a terminal if it is large.
pub(crate) fn scan_shown(path: &Path) -> Outcome<Scanned> {
    let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len());
    let bar = if bytes > LARGE_BYTES && std::io::stderr().is_terminal() {
        indicatif::ProgressBar::new(bytes)
    } else {
        indicatif::ProgressBar::hidden()
    };
    let scanned = scan(path, |at, _| bar.set_position(at));
    bar.finish_and_clear();
    scanned
}

/// Prints what the file holds.
pub(crate) fn info(path: &Path, json: bool) -> Outcome {
    let summary = Summary::new(&scan_shown(path)?);
    if json {
        return output::json(&summary);
    }
    let mut out = output::standard();
    summary.print(&mut out)?;
    out.flush()?;
    Ok(())
}

impl Summary {
    fn new(file: &Scanned) -> Self {
        let duration_ns = file
            .published
            .map_or(0, |span: Span| span.last - span.first);
        let closing = |key: &'static str| {
            let all = file.metadata("mproc/recording");
            all.filter_map(move |all| all.get(key)?.parse::<u64>().ok())
        };
        let ratio = file.chunk_bytes_decompressed as f64 / file.chunk_bytes as f64;
        Self {
            file: file.path.display().to_string(),
            bytes: file.bytes,
            complete: file.is_closed && file.damage.is_empty(),
            damage: file.damage.clone(),
            library: file.library.clone(),
            messages: file.messages,
            duration_ns,
            start_unix_ns: file.published.map(|span| span.first),
            end_unix_ns: file.published.map(|span| span.last),
            chunks: file.chunks,
            compression: file.compressions.iter().cloned().collect(),
            compression_ratio: (file.chunk_bytes > 0).then_some(ratio),
            dropped: closing("dropped").reduce(u64::saturating_add),
            topics: topics(file),
            metadata: file
                .metadata
                .iter()
                .map(|metadata| Metadata {
                    name: metadata.name.clone(),
                    metadata: metadata.metadata.clone(),
                })
                .collect(),
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        let mut line = |name: &str, text: String| writeln!(out, "{name:<13}{text}");
        line("file", shown(&self.file))?;
        line("size", output::data(self.bytes))?;
        line("messages", self.messages.to_string())?;
        line(
            "duration",
            output::duration(Duration::from_nanos(self.duration_ns)),
        )?;
        if let (Some(start), Some(end)) = (self.start_unix_ns, self.end_unix_ns) {
            line("start", times::text(start))?;
            line("end", times::text(end))?;
        }
        let compression = match (self.compression.as_slice(), self.compression_ratio) {
            ([], _) | (_, None) => String::new(),
            (names, Some(ratio)) => format!(", {}, ratio {ratio:.2}", names.join(" and ")),
        };
        line("chunks", format!("{}{}", self.chunks, shown(&compression)))?;
        if let Some(dropped) = self.dropped {
            line("dropped", dropped.to_string())?;
        }
        line("written by", shown(&self.library))?;
        let complete = if self.complete {
            "yes"
        } else {
            "no: it was not closed in order, or is damaged; what could be read is shown"
        };
        line("complete", complete.to_owned())?;
        for damage in &self.damage {
            line("", shown(damage))?;
        }
        if !self.topics.is_empty() {
            let titles = [
                "TOPIC",
                ">MESSAGES",
                ">RATE",
                ">SIZE",
                ">DROPPED",
                "ENCODING",
                "TYPE",
            ];
            let mut table = output::Table::new(&titles);
            for topic in &self.topics {
                table.row([
                    shown(&topic.topic),
                    topic.messages.to_string(),
                    topic.rate_hz.map_or_else(|| "-".to_owned(), output::rate),
                    output::data(topic.bytes),
                    topic
                        .dropped
                        .map_or_else(|| "-".to_owned(), |n| n.to_string()),
                    shown(&topic.encodings.join(" ")),
                    shown(&topic.type_name),
                ]);
            }
            write!(out, "\n{table}")?;
        }
        Ok(())
    }
}

fn topics(file: &Scanned) -> Vec<Topic> {
    let mut spans = BTreeMap::<String, Option<Span>>::new();
    let mut all = BTreeMap::<String, Topic>::new();
    for channel in file.channels.values() {
        let own = channel.own.as_ref().ok().and_then(Option::as_ref);
        let name = own.map_or(&channel.name, |own| &own.topic);
        let topic = all.entry(name.clone()).or_insert_with(|| Topic {
            topic: name.clone(),
            type_name: own
                .map_or(&channel.schema_name, |own| &own.info.type_name)
                .clone(),
            encodings: Vec::new(),
            codec: own.map(|own| super::channel::codec_name(own.info.codec).to_owned()),
            schema: own.and_then(|own| own.info.schema.clone()),
            publishers: 0,
            messages: 0,
            bytes: 0,
            rate_hz: None,
            dropped: None,
            throttled: None,
        });
        topic.publishers = topic
            .publishers
            .max(own.map_or(1, |own| u64::from(own.publisher)));
        topic.bytes += channel.bytes;
        let is_parts = own.is_some_and(|own| own.form == super::channel::Form::Parts);
        let encoding = if is_parts {
            "parts"
        } else {
            channel.encoding.as_str()
        };
        if !is_parts {
            topic.messages += channel.messages;
            let span = spans.entry(name.clone()).or_default();
            *span = Span::join(*span, channel.published);
        }
        if !topic.encodings.iter().any(|known| known == encoding) {
            topic.encodings.push(encoding.to_owned());
        }
    }
    for said in file.metadata("mproc/topic") {
        let Some(topic) = said.get("topic").and_then(|topic| all.get_mut(topic)) else {
            continue;
        };
        let add = |sum: &mut Option<u64>, key: &str| {
            if let Some(count) = said.get(key).and_then(|text| text.parse::<u64>().ok()) {
                *sum = Some(sum.unwrap_or(0).saturating_add(count));
            }
        };
        add(&mut topic.dropped, "dropped");
        add(&mut topic.throttled, "throttled");
    }
    let mut all: Vec<Topic> = all.into_values().collect();
    for topic in &mut all {
        let intervals = topic.messages.saturating_sub(1) as f64;
        let span = spans.get(&topic.topic).copied().flatten();
        let seconds = span.map_or(0.0, |span| (span.last - span.first) as f64 / 1e9);
        topic.rate_hz = (seconds > 0.0 && intervals > 0.0).then_some(intervals / seconds);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::recording::tests::file;
    use super::*;
    use serde_json::{Value, json};

    fn summary(count: u64) -> Summary {
        let place = tempfile::tempdir().unwrap();
        let mut summary = Summary::new(&file(&place.path().join("run.mcap"), count, None));
        summary.file = "run\x1b.mcap".to_owned();
        // It has the version and the time of day in it.
        assert!((4000..5000).contains(&summary.bytes));
        summary.bytes = 4096;
        summary
    }

    #[test]
    fn a_table_says_what_a_file_holds() {
        let mut text = Vec::new();
        summary(21).print(&mut text).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        let wanted = format!(
            "\
file         run\\u{{1b}}.mcap
size         4.00 KiB
messages     21
duration     20.0 ns
start        1970-01-01 00:00:00.000999980 UTC
end          1970-01-01 00:00:00.001000000 UTC
chunks       3, none, ratio 0.94
dropped      7
written by   mproc-cli/{version}
complete     yes

TOPIC  MESSAGES      RATE      SIZE  DROPPED  ENCODING  TYPE
text         21  1.00 GHz  1.27 KiB        7  json      Text
"
        );
        assert_eq!(String::from_utf8(text).unwrap(), wanted);
    }

    #[test]
    fn json_has_the_same_under_names_that_stay() {
        let mut said: Value = serde_json::to_value(summary(21)).unwrap();
        let Some(Value::Array(metadata)) = said.get_mut("metadata").map(Value::take) else {
            panic!("{said}");
        };
        assert_eq!(metadata.len(), 2);
        for field in ["compression_ratio", "library"] {
            assert!(!said[field].is_null(), "{field}");
            said[field] = Value::Null;
        }
        let wanted = json!({
            "file": "run\u{1b}.mcap",
            "bytes": 4096,
            "complete": true,
            "damage": [],
            "library": null,
            "messages": 21,
            "duration_ns": 20,
            "start_unix_ns": 999_980,
            "end_unix_ns": 1_000_000,
            "chunks": 3,
            "compression": ["none"],
            "compression_ratio": null,
            "dropped": 7,
            "topics": [{
                "topic": "text",
                "type_name": "Text",
                "encodings": ["json"],
                "codec": "serde",
                "schema": null,
                "publishers": 1,
                "messages": 21,
                "bytes": 21 * 62,
                "rate_hz": 1e9,
                "dropped": 7,
                "throttled": 0,
            }],
            "metadata": null,
        });
        assert_eq!(said, wanted);
    }
}
