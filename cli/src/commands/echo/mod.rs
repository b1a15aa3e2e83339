//! `mproc echo`
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | the command: what is heard, in which form it is printed |
//! | `show.rs` | values for people |
//! | `csv.rs` | values as rows of a table |
//! | `path.rs` | a place inside a value |
//! | `filter.rs` | which samples are shown |

mod csv;
mod filter;
mod path;
mod show;

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{self, data, note, safe, seconds};
use crate::session::Session;
use crate::tap::{Heard, Tap, TapOptions};
use crate::values::{Values, hexadecimal};
use clap::Args;
use filter::Filter;
use mproc::{Raw, Sample, TypeInfo};
use path::Path;
use serde::Serialize;
use serde_json::{Map, Value};
use show::Style;
use std::collections::HashMap;
use std::io::{BufWriter, IsTerminal, StdoutLock, Write};
use std::time::Duration;

/// Prints the samples of a topic as they come.
///
/// A publisher never waits for this: what comes faster than it is printed is lost here, and counted. A topic that nobody publishes
/// yet is waited for, and so is a program that dies. Ctrl-C ends it.
///
/// For people each sample is a line, or several if it does not fit: the time of day when it was published (UTC), its number at
/// its publisher, the value. Values of plain data without a schema are shown as bytes.
///
/// A filter compares fields with values, joined by "and", "or", "not" and parentheses: "x > 2 and name ~ arm". The operators are == !=
/// < <= > >= and ~ (text that contains, a list that has). "." is the value itself. A field alone holds if it is there and not false.
///
/// With --json each sample is an object on a line: "topic", "publisher" (1 is the first that was heard), "sequence" (its number at
/// its publisher), "published_unix_ns", "age_ns" (when it was taken), "lost" (samples that were not seen just before it),
/// "type", "value", "parts_bytes" (the lengths of its parts). "value" is null if it cannot be read; then there is "bytes_hex" and
/// perhaps "error".
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc echo host/cpu                         until Ctrl-C
  mproc echo host/cpu --once                  one sample
  mproc echo 'robot/**'                       all topics that match
  mproc echo pose --field position.x --csv    a column
  mproc echo log --filter 'level >= 3 and text ~ motor'
  mproc echo pose --json --count 100 | jq .value.x
  mproc echo camera/frames --once --raw > frame.bin")]
pub(crate) struct Arguments {
    /// A name, a pattern ("robot/**"), or an id as text ("7:1").
    topic: String,
    /// One sample, as --count 1.
    #[arg(long, short = '1', conflicts_with = "count")]
    once: bool,
    /// Ends after this many samples.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Only this part of each value: "a.b[0]", "a["odd name"]". Can be given several times.
    #[arg(long, short, value_name = "FIELD")]
    field: Vec<Path>,
    /// Only samples for which this holds.
    #[arg(long, value_name = "EXPRESSION")]
    filter: Option<Filter>,
    /// One JSON object a line.
    #[arg(long, group = "form")]
    json: bool,
    /// Comma-separated values. The first sample says which columns there are.
    #[arg(long, group = "form")]
    csv: bool,
    /// The bytes as they travel, and nothing else.
    #[arg(long, group = "form", conflicts_with_all = ["field", "filter", "precision", "truncate"])]
    raw: bool,
    /// Gives up, with exit code 4, when nothing was printed for this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Only the values, without number and time; with --csv without the row of titles.
    #[arg(long)]
    no_header: bool,
    /// Digits after the point of numbers that have one. Not with --json.
    #[arg(long, value_name = "DIGITS", value_parser = clap::value_parser!(u8).range(..=17), conflicts_with = "json")]
    precision: Option<u8>,
    /// So many elements of a list and characters of a text are shown; 0 for all. For people it is 32 elements and 256 characters
    /// unless told otherwise; JSON and CSV are whole.
    #[arg(long, value_name = "N", conflicts_with_all = ["json", "csv"])]
    truncate: Option<usize>,
    /// Places of the queue in which samples wait to be printed. What is queued occupies memory of the publisher.
    #[arg(long, value_name = "N", value_parser = output::places)]
    queue: Option<usize>,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    if arguments.raw && std::io::stdout().is_terminal() {
        return Err(
            Failure::new(Code::Usage, "bytes as they are would garble the terminal")
                .hint("mproc echo TOPIC --raw > FILE, or without --raw"),
        );
    }
    let session = Session::join(global)?;
    let options = TapOptions {
        queue: arguments.queue,
        is_prompt: false,
    };
    let mut tap = match Tap::open(&session, &arguments.topic, options) {
        // Ctrl-C is how this command ends.
        Err(_) if session.is_ending() => return Ok(()),
        tap => tap?,
    };
    let mut printer = Printer::new(arguments, tap.is_pattern());
    let done = echo(&session, &mut tap, &mut printer, arguments);
    // What was shown so far stays, however it ended.
    let flushed = printer.out.flush().map_err(Failure::from);
    tap.tell_lost();
    printer.tell_left_out();
    done.and(flushed)
}

fn echo(
    session: &Session,
    tap: &mut Tap<'_>,
    printer: &mut Printer<'_>,
    arguments: &Arguments,
) -> Outcome {
    let wanted = if arguments.once {
        Some(1)
    } else {
        arguments.count
    };
    let deadline = || arguments.timeout.map(|limit| session.now() + limit);
    let mut give_up = deadline();
    let mut shown = 0;
    while wanted.is_none_or(|wanted| shown < wanted) && !session.is_ending() {
        let heard = match tap.try_next() {
            Some(sample) => Heard::Sample(sample),
            None => {
                printer.out.flush()?;
                tap.next(give_up)?
            }
        };
        match heard {
            Heard::Sample(sample) => {
                if printer.print(tap, &sample, session)? {
                    shown += 1;
                    give_up = deadline();
                }
            }
            Heard::Nothing => {
                let what = match shown {
                    0 => "no sample".to_owned(),
                    n => format!("no sample after {n}"),
                };
                let limit = arguments.timeout.unwrap_or_default().as_secs_f64();
                return Err(Failure::new(
                    Code::TimeLimit,
                    format!("{what} of {:?} within {limit} s", arguments.topic),
                )
                .hint(format!("mproc info {:?}", arguments.topic)));
            }
            Heard::End => break,
        }
    }
    Ok(())
}

/// Without colour, and as it is: what filters colour out would change bytes.
type Out = BufWriter<StdoutLock<'static>>;

/// Prints samples in the form that was asked for.
struct Printer<'a> {
    arguments: &'a Arguments,
    is_pattern: bool,
    style: Style,
    width: usize,
    is_terminal: bool,
    out: Out,
    /// How to read values, by topic and type.
    values: HashMap<(String, u64), Values>,
    columns: Option<csv::Columns>,
    /// Rows whose values had more than there are columns for.
    rows_cut: u64,
    /// Samples that could not be read where only what they say can be printed.
    unreadable: u64,
    was_field_missed: bool,
}

/// What a sample says.
enum Said {
    Value(Value),
    /// The first elements of a slice that has so many.
    First(Value, usize),
    /// Only bytes, and why if that is not as it should be.
    Bytes(Option<String>),
}

#[derive(Serialize)]
struct Line<'a> {
    topic: String,
    publisher: usize,
    sequence: u64,
    published_unix_ns: u64,
    age_ns: u64,
    lost: u64,
    #[serde(rename = "type")]
    type_name: &'a str,
    value: &'a Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts_bytes: Vec<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_hex: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

impl<'a> Printer<'a> {
    fn new(arguments: &'a Arguments, is_pattern: bool) -> Self {
        let max = |usual: usize| match arguments.truncate {
            None => usual,
            Some(0) => usize::MAX,
            Some(n) => n,
        };
        Self {
            arguments,
            is_pattern,
            style: Style {
                precision: arguments.precision.map(usize::from),
                list_max: max(32),
                text_max: max(256),
            },
            width: output::width(),
            is_terminal: std::io::stdout().is_terminal(),
            out: BufWriter::new(std::io::stdout().lock()),
            values: HashMap::new(),
            columns: None,
            rows_cut: 0,
            unreadable: 0,
            was_field_missed: false,
        }
    }

    /// True if it was printed: its filter may say no.
    fn print(
        &mut self,
        tap: &mut Tap<'_>,
        sample: &Sample<Raw>,
        session: &Session,
    ) -> Outcome<bool> {
        if self.arguments.raw {
            self.out.write_all(sample.bytes())?;
            for part in sample.parts() {
                self.out.write_all(part)?;
            }
            return Ok(true);
        }
        let said = self.read(tap, sample)?;
        if let Some(filter) = &self.arguments.filter {
            match &said {
                Said::Value(value) if filter.holds(value) => {}
                Said::Value(_) | Said::First(..) => return Ok(false),
                Said::Bytes(_) => {
                    self.unreadable += 1;
                    return Ok(false);
                }
            }
        }
        let said = match said {
            Said::Value(value) => Said::Value(self.fields(value)),
            bytes => bytes,
        };
        if self.arguments.json {
            self.json(tap, sample, session, &said)?;
        } else if self.arguments.csv {
            match &said {
                Said::Value(value) | Said::First(value, _) => self.csv(tap, sample, value)?,
                Said::Bytes(_) => {
                    self.unreadable += 1;
                    return Ok(false);
                }
            }
        } else {
            self.people(tap, sample, &said)?;
        }
        Ok(true)
    }

    fn read(&mut self, tap: &mut Tap<'_>, sample: &Sample<Raw>) -> Outcome<Said> {
        let key = (sample.topic(), sample.info().type_hash);
        if !self.values.contains_key(&key) || tap.may_know_more(&key.0, key.1) {
            let info: TypeInfo = tap.info(sample)?;
            self.values.insert(key.clone(), Values::new(&info));
        }
        let values = &self.values[&key];
        let asked = self.arguments;
        let is_whole = asked.json || asked.csv || asked.filter.is_some() || !asked.field.is_empty();
        if !is_whole
            && let Ok(Some((value, count))) = values.read_first(sample.bytes(), self.style.list_max)
        {
            return Ok(Said::First(value, count));
        }
        Ok(match values.read(sample.bytes()) {
            Ok(Some(value)) => Said::Value(value),
            Ok(None) => Said::Bytes(None),
            Err(error) => Said::Bytes(Some(error.to_string())),
        })
    }

    /// The fields that were asked for: one as it is, several by their paths.
    fn fields(&mut self, value: Value) -> Value {
        let mut missed = None;
        let mut at = |path: &Path| match path.of(&value) {
            Some(found) => found.clone(),
            None => {
                missed = Some(path.text().to_owned());
                Value::Null
            }
        };
        let fields = match self.arguments.field.as_slice() {
            [] => return value,
            [path] if !self.arguments.csv => at(path),
            paths => {
                let fields = paths.iter().map(|path| (path.text().to_owned(), at(path)));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        };
        if let (Some(path), false) = (missed, self.was_field_missed) {
            self.was_field_missed = true;
            let there = match &value {
                Value::Object(fields) => {
                    let names: Vec<_> = fields.keys().map(String::as_str).collect();
                    format!("; it has {}", names.join(", "))
                }
                _ => String::new(),
            };
            note(&format!("a value has no {path:?}: null is shown{there}"));
        }
        fields
    }

    fn json(
        &mut self,
        tap: &mut Tap<'_>,
        sample: &Sample<Raw>,
        session: &Session,
        said: &Said,
    ) -> Outcome {
        let (value, error) = match said {
            Said::Value(value) | Said::First(value, _) => (value, None),
            Said::Bytes(error) => (&Value::Null, error.as_deref()),
        };
        if self.arguments.no_header {
            return output::json_line(&mut self.out, value);
        }
        let age = session.now().saturating_duration_since(sample.published());
        let is_bytes = matches!(said, Said::Bytes(_));
        let line = Line {
            topic: sample.topic(),
            publisher: tap.publisher(sample),
            sequence: sample.sequence(),
            published_unix_ns: tap.unix_ns(sample.published()),
            age_ns: u64::try_from(age.as_nanos()).unwrap_or(u64::MAX),
            lost: sample.gap(),
            type_name: &sample.info().type_name,
            value,
            parts_bytes: sample.parts().map(<[u8]>::len).collect(),
            bytes_hex: is_bytes.then(|| plain_hexadecimal(sample.bytes())),
            error,
        };
        output::json_line(&mut self.out, &line)
    }

    fn csv(&mut self, tap: &mut Tap<'_>, sample: &Sample<Raw>, value: &Value) -> Outcome {
        let is_first = self.columns.is_none();
        let columns = self.columns.get_or_insert_with(|| csv::Columns::of(value));
        let titles = ["topic", "publisher", "sequence", "published_unix_ns"];
        let style = self.style;
        let (cells, is_cut) = columns.row(value, |number| style.number(number));
        if is_first && !self.arguments.no_header {
            let names = columns.names().iter().cloned();
            let all: Vec<String> = titles
                .iter()
                .map(|t| (*t).to_owned())
                .chain(names)
                .collect();
            self.line(&csv::line(&all))?;
        }
        let mut row = vec![
            sample.topic(),
            tap.publisher(sample).to_string(),
            sample.sequence().to_string(),
            tap.unix_ns(sample.published()).to_string(),
        ];
        row.extend(cells);
        self.rows_cut += u64::from(is_cut);
        self.line(&csv::line(&row))
    }

    /// A line of CSV. Only a terminal is protected from what it would obey.
    fn line(&mut self, line: &str) -> Outcome {
        match self.is_terminal {
            true => writeln!(self.out, "{}", safe(line))?,
            false => writeln!(self.out, "{line}")?,
        }
        Ok(())
    }

    fn people(&mut self, tap: &mut Tap<'_>, sample: &Sample<Raw>, said: &Said) -> Outcome {
        let mut head = String::new();
        if !self.arguments.no_header {
            head = time_of_day(tap.unix_ns(sample.published()));
            if self.is_pattern {
                head.push_str(&format!("  {}", safe(&sample.topic())));
            }
            head.push_str(&format!("  #{}", sample.sequence()));
            if tap.publisher_count(sample) > 1 {
                head.push_str(&format!(" of p{}", tap.publisher(sample)));
            }
            if sample.gap() > 0 {
                head.push_str(&format!(" (after {} lost)", sample.gap()));
            }
            head.push_str("  ");
        }
        let parts: Vec<_> = sample.parts().map(|part| data(part.len() as u64)).collect();
        let mut beside = match said {
            Said::First(_, count) => format!("  (the first of {count} elements)"),
            _ => String::new(),
        };
        if !parts.is_empty() {
            beside.push_str(&format!("  + parts of {}", parts.join(", ")));
        }
        match said {
            Said::Bytes(error) => {
                let count_max = self.style.list_max;
                let bytes = hexadecimal(sample.bytes(), count_max);
                let why = error.as_ref().map_or(String::new(), |why| {
                    format!("  cannot be read as {}: {why}", sample.info().type_name)
                });
                writeln!(self.out, "{head}{bytes}{beside}{}", safe(&why))?;
            }
            Said::Value(value) | Said::First(value, _) => {
                let room = self.width.saturating_sub(head.len() + beside.len()).max(20);
                match self.style.line(value, room) {
                    Some(line) => writeln!(self.out, "{head}{line}{beside}")?,
                    None => {
                        let block = self.style.block(value, self.width);
                        match self.arguments.no_header {
                            true => writeln!(self.out, "{block}---{beside}")?,
                            false => write!(self.out, "{}{beside}\n{block}", head.trim_end())?,
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn tell_left_out(&self) {
        if self.rows_cut > 0 {
            note(&format!(
                "{} values had more than the first one has columns for; it was left out",
                self.rows_cut
            ));
        }
        if self.unreadable > 0 {
            note(&format!(
                "{} samples were left out: their values cannot be read, only their bytes; mproc info TOPIC tells the type",
                self.unreadable
            ));
        }
    }
}

fn plain_hexadecimal(bytes: &[u8]) -> String {
    hexadecimal(bytes, usize::MAX)[2..].to_owned()
}

/// `17:03:04.123456Z`
fn time_of_day(unix_ns: u64) -> String {
    let (seconds, micros) = (unix_ns / 1_000_000_000, unix_ns / 1000 % 1_000_000);
    let day = seconds % 86_400;
    format!(
        "{:02}:{:02}:{:02}.{micros:06}Z",
        day / 3600,
        day / 60 % 60,
        day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_are_utc() {
        assert_eq!(time_of_day(0), "00:00:00.000000Z");
        assert_eq!(time_of_day(1_763_757_784_123_456_789), "20:43:04.123456Z");
        assert_eq!(time_of_day(u64::MAX).len(), 16);
    }
}
