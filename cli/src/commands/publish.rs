//! `mproc pub`

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::meeting::{self, Meeting};
use crate::output::{self, note, seconds};
use crate::session::Session;
use crate::values::Values;
use crate::world::{TopicView, World};
use clap::Args;
use mproc::{Error, ErrorKind, PublisherOptions, Rate, RawPublisher, TypeInfo};
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// How long to wait for subscriptions that are known to be there, unless told otherwise.
const MEET_LIMIT: Duration = Duration::from_secs(2);

/// How often whoever waits for a line looks whether Ctrl-C was pressed.
const LOOK_AT_CTRL_C: Duration = Duration::from_millis(50);

/// Publishes values on a topic.
///
/// A value is JSON. Its type is the one that the programs of the domain have declared; --type names it where there is none.
/// Values of plain data need a schema, which the programs announce; one that does not fit is
/// refused with its place. Of other types only its subscribers know whether it fits, and drop it if not: `mproc doctor` tells.
///
/// One value is published once, or --count times, or with --rate until Ctrl-C. Lines of a file or of standard input are published each
/// once. Before the end all subscribers have taken what was published, as far as they do within --timeout.
///
/// With --json the last line is an object: "published" (values), "delivered" (to how many subscriptions in sum), "refused" (by
/// subscriptions that were full), "missed_periods" (of --rate).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc pub counter/add 5
  mproc pub robot/goal '{\"x\": 1.5, \"y\": 2}'
  mproc pub chat '\"hello\"' --wait-for 1
  mproc pub motor/speed 0.5 --rate 50 --count 500
  mproc pub notes '\"hello\"' --type String      where nobody has declared it
  generate | mproc pub points --stdin          a line of JSON for each value
  mproc pub points --file points.jsonl --rate 100")]
pub(crate) struct Arguments {
    /// A name, or an id as text ("7:1").
    topic: String,
    /// The value, as JSON.
    #[arg(required_unless_present_any = ["stdin", "file"], conflicts_with_all = ["stdin", "file"], allow_hyphen_values = true)]
    value: Option<String>,
    /// A value from each line of standard input.
    #[arg(long, conflicts_with = "file")]
    stdin: bool,
    /// A value from each line of this file.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The type of the values, as the programs will call it: "f64", "Vec<String>", "Pose". They travel as MessagePack.
    #[arg(long, value_name = "TYPE")]
    r#type: Option<String>,
    /// So many values a second, on a grid without drift.
    #[arg(long, short, value_name = "HZ", value_parser = hertz)]
    rate: Option<f64>,
    /// Publishes the value so often, or so many lines at most.
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Waits until there are so many subscriptions and taps (echo, record and the like). If it is left out, 2 seconds at most for those
    /// that are known to be there.
    #[arg(long, short, value_name = "N")]
    wait_for: Option<usize>,
    /// How long to wait: for subscriptions, for room at them, and at the end until they have taken everything.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    timeout: Duration,
    /// Says at the end what was published as JSON.
    #[arg(long)]
    json: bool,
}

fn hertz(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(hz) if (1e-6..=1e6).contains(&hz) => Ok(hz),
        _ => Err("it must be between 0.000001 and 1000000".to_owned()),
    }
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Sent {
    published: u64,
    delivered: u64,
    refused: u64,
    missed_periods: u64,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    let session = Session::join(global)?;
    let world = session.look()?;
    let known = world
        .topics()
        .into_iter()
        .find(|t| t.name == arguments.topic);
    let info = info(&world, known.as_ref(), arguments)?;
    let values = Values::new(&info);
    if !values.is_readable() {
        return Err(Failure::new(
            Code::Usage,
            format!(
                "values of {:?} are plain data of type {}, and no program says its layout",
                arguments.topic, info.type_name
            ),
        )
        .hint("Topic::plain(..).with_schema(\"x: f64, y: f64\") in the program that declares it"));
    }
    // What can be refused is refused before anybody is met.
    let first = match &arguments.value {
        Some(value) => Some(encode(&values, value, "VALUE")?),
        None => None,
    };
    let lines = lines(arguments)?;
    let options = PublisherOptions::new().limit(arguments.timeout);
    let publisher = session
        .raw_publisher(&arguments.topic, &info, options)
        .map_err(|error| match error.kind() {
            ErrorKind::InvalidName | ErrorKind::InvalidSetting | ErrorKind::TypeConflict => {
                Failure::new(Code::Usage, error.to_string())
            }
            _ => Failure::from(error),
        })?;
    meet(&session, &world, &publisher, &info, arguments)?;

    let mut sent = Sent::default();
    let mut turns = Turns::new(&session, arguments);
    let result = match (first, lines) {
        (Some(bytes), _) => repeat(&publisher, &bytes, &mut turns, &mut sent, arguments),
        (None, Some(lines)) => {
            each_line(&session, &publisher, &values, lines, &mut turns, &mut sent)
        }
        (None, None) => Ok(()),
    };
    sent.missed_periods = turns.missed;
    finish(&session, &publisher, &sent, arguments, result)
}

/// The type of the values: as the programs say, or as the arguments do.
fn info(world: &World, known: Option<&TopicView<'_>>, arguments: &Arguments) -> Outcome<TypeInfo> {
    let types: &[TypeInfo] = known.map_or(&[], |topic| &topic.types);
    let named = arguments.r#type.as_deref();
    let chosen = types
        .iter()
        .find(|info| named.is_none_or(|name| info.type_name == name));
    match (types, chosen, named) {
        ([info], Some(_), _) => Ok(info.clone()),
        ([], _, Some(name)) => Ok(TypeInfo::serde(name)),
        ([], _, None) => {
            let failure = world.topic(&arguments.topic).err().unwrap_or_else(|| {
                Failure::not_found(format!("nobody says the type of {:?}", arguments.topic))
            });
            Err(failure.hint("--type TYPE, if a program that will subscribe is not there yet"))
        }
        (_, Some(info), Some(_)) => Ok(info.clone()),
        (several, _, _) => {
            let names: Vec<_> = several.iter().map(|info| info.type_name.as_str()).collect();
            Err(Failure::new(
                Code::Usage,
                format!(
                    "topic {:?} has the type {}",
                    arguments.topic,
                    names.join(" or ")
                ),
            )
            .hint(format!("--type {:?}", names[0])))
        }
    }
}

/// The bytes of one value; `place` says where it stands.
fn encode(values: &Values, text: &str, place: &str) -> Outcome<Vec<u8>> {
    let type_name = &values.info().type_name;
    let value = serde_json::from_str(text).map_err(|error| {
        let failure = Failure::new(Code::Usage, format!("{place}: {}", of_json(&error)));
        match type_name.as_str() {
            "String" | "str" | "alloc::string::String" => failure.hint(format!(
                "'{}': text stands in quotes",
                serde_json::json!(text)
            )),
            _ => failure,
        }
    })?;
    values.write(&value).map_err(|error| {
        Failure::new(
            Code::Usage,
            format!("{place}: no value of type {type_name}: {error}"),
        )
    })
}

/// What is wrong in a line of JSON, and where. A line has one line.
fn of_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    format!("column {}: {what}", error.column())
}

type Lines = Box<dyn BufRead + Send>;

fn lines(arguments: &Arguments) -> Outcome<Option<Lines>> {
    if arguments.stdin {
        return Ok(Some(Box::new(BufReader::new(io::stdin()))));
    }
    let Some(path) = &arguments.file else {
        return Ok(None);
    };
    let file = File::open(path)
        .map_err(|error| Failure::from(error).while_doing(format!("cannot read {path:?}")))?;
    Ok(Some(Box::new(BufReader::new(file))))
}

/// Waits for those who are to get the first value.
fn meet(
    session: &Session,
    world: &World,
    publisher: &RawPublisher,
    info: &TypeInfo,
    arguments: &Arguments,
) -> Outcome {
    if let Some(count) = arguments.wait_for {
        return Ok(publisher.wait_for_subscribers(count, arguments.timeout)?);
    }
    let expected = meeting::expected(world, publisher.topic(), info);
    let known: usize = expected.values().sum();
    let limit = MEET_LIMIT.min(arguments.timeout);
    let meeting = Meeting {
        publisher,
        expected,
    };
    let meetings = [meeting];
    let missing = meeting::meet(session, &meetings, limit)?;
    if !world.silent.is_empty() {
        meeting::settle(&meetings, limit)?;
    }
    if missing > 0 {
        let seconds = limit.as_secs_f64();
        note(&format!(
            "{known} subscriptions and taps are known, and {missing} of them were not met within {seconds} s"
        ));
    }
    Ok(())
}

/// When the next value is due.
struct Turns<'a> {
    session: &'a Session,
    rate: Option<Rate>,
    left: Option<u64>,
    is_first: bool,
    missed: u64,
}

impl<'a> Turns<'a> {
    fn new(session: &'a Session, arguments: &Arguments) -> Self {
        let period = arguments.rate.map(|hz| Duration::from_secs_f64(1.0 / hz));
        Self {
            session,
            rate: period.map(|period| Rate::new(&session.steady_clock(), period)),
            left: arguments.count,
            is_first: true,
            missed: 0,
        }
    }

    /// Waits for the next turn. False if there is none.
    fn next(&mut self) -> bool {
        if self.left == Some(0) || self.session.is_ending() {
            return false;
        }
        self.left = self.left.map(|left| left - 1);
        if let Some(rate) = &mut self.rate {
            if self.is_first {
                rate.reset();
            } else {
                self.missed += rate.sleep().missed;
            }
        }
        self.is_first = false;
        !self.session.is_ending()
    }
}

fn publish(publisher: &RawPublisher, bytes: &[u8], sent: &mut Sent) -> Outcome {
    let delivered = publisher.publish(bytes, &[]).map_err(Error::from)?;
    sent.published += 1;
    sent.delivered += delivered.count as u64;
    sent.refused += delivered.refused.len() as u64;
    Ok(())
}

fn repeat(
    publisher: &RawPublisher,
    bytes: &[u8],
    turns: &mut Turns<'_>,
    sent: &mut Sent,
    arguments: &Arguments,
) -> Outcome {
    if arguments.rate.is_none() && arguments.count.is_none() {
        turns.left = Some(1);
    }
    while turns.next() {
        publish(publisher, bytes, sent)?;
    }
    Ok(())
}

fn each_line(
    session: &Session,
    publisher: &RawPublisher,
    values: &Values,
    mut lines: Lines,
    turns: &mut Turns<'_>,
    sent: &mut Sent,
) -> Outcome {
    // A read cannot be given up, so that another thread does it: Ctrl-C ends the command also where no line comes.
    let (tell, read) = sync_channel(64);
    std::thread::spawn(move || {
        loop {
            let mut line = Vec::new();
            let got = lines.read_until(b'\n', &mut line);
            let got = got.map(|count| (count > 0).then_some(line));
            let is_last = !matches!(got, Ok(Some(_)));
            if tell.send(got).is_err() || is_last {
                return;
            }
        }
    });
    let next = || -> Outcome<Option<Vec<u8>>> {
        loop {
            match read.recv_timeout(LOOK_AT_CTRL_C) {
                Ok(line) => return Ok(line?),
                Err(RecvTimeoutError::Timeout) if !session.is_ending() => {}
                Err(_) => return Ok(None),
            }
        }
    };
    for number in 1_u64.. {
        let Some(line) = next()? else {
            break;
        };
        let place = format!("line {number}");
        let text = std::str::from_utf8(&line).map_err(|error| {
            let at = error.valid_up_to() + 1;
            Failure::new(Code::Usage, format!("{place}: byte {at} is not UTF-8"))
        })?;
        if text.trim().is_empty() {
            continue;
        }
        let bytes = encode(values, text.trim_end(), &place)?;
        if !turns.next() {
            break;
        }
        publish(publisher, &bytes, sent)?;
    }
    Ok(())
}

/// Waits until what was published is taken, and says what came of it, also after a failure.
fn finish(
    session: &Session,
    publisher: &RawPublisher,
    sent: &Sent,
    arguments: &Arguments,
    result: Outcome,
) -> Outcome {
    // Ctrl-C ends the wait: then what is queued goes with this process.
    let flushed = publisher.flush(arguments.timeout);
    let periods = match sent.missed_periods {
        0 => String::new(),
        n => format!(", {n} periods missed"),
    };
    if arguments.json {
        output::json_line(&mut output::standard(), sent)?;
    } else {
        note(&format!(
            "published {}, delivered {}, refused {}{periods}",
            sent.published, sent.delivered, sent.refused
        ));
    }
    let result = match result {
        Err(_) if session.is_ending() => Ok(()),
        result => result,
    };
    result?;
    match flushed {
        Err(error) if !session.is_ending() => Err(Failure::from(error)
            .while_doing("not all that was published was taken")
            .hint("a longer --timeout; mproc info TOPIC shows whose queue is full")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_value_is_named_with_its_place() {
        let values = Values::new(&TypeInfo::serde("Pose"));
        let refused = encode(&values, r#"{"x": 1,, "y": 2}"#, "line 3").unwrap_err();
        assert_eq!(refused.text(), "line 3: column 9: key must be a string");
        assert_eq!(refused.code(), Code::Usage);
        assert!(encode(&values, r#"{"x": [1, null, "a"]}"#, "VALUE").is_ok());
    }
}
