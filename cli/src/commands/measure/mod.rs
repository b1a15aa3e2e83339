//! What `mproc hz`, `bw` and `delay` have in common: they measure from headers, and decode nothing.
//!
//! | file | idea |
//! |---|---|
//! | `mod.rs` | arguments, and windows of time or of samples |
//! | `tally.rs` | what was published by one publisher: exact, although not all samples are seen |
//! | `show.rs` | a window as lines of a table, or as JSON |

mod show;
mod tally;

use crate::arguments::Arguments as Global;
use crate::failure::{Code, Failure, Outcome};
use crate::output::{self, seconds};
use crate::session::Session;
use crate::tap::{Heard, Tap, TapOptions};
use clap::Args;
use mproc::PublisherId;
use show::Printer;
use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::{Duration, Instant};
use tally::{Seen, Tally};

/// What the three commands are told.
#[derive(Debug, Args)]
#[group(skip)]
pub(crate) struct Arguments {
    /// A name, a pattern ("robot/**"), or an id as text ("7:1").
    topic: String,
    /// A line is printed for each window: so many seconds ("5s", "200ms"), or so many samples ("1000").
    #[arg(long, short, value_name = "WINDOW", default_value = "1s")]
    window: Window,
    /// Ends after the first window.
    #[arg(long, short = '1')]
    once: bool,
    /// Ends after so many windows, and says what they were in all.
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "once", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
    /// Gives up, with exit code 4, when nothing came for this many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    timeout: Option<Duration>,
    /// Places of the queue in which samples wait to be counted. What is queued occupies memory of the publisher.
    #[arg(long, value_name = "N", value_parser = output::places)]
    queue: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Window {
    Time(Duration),
    Samples(u64),
}

impl FromStr for Window {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "a number of samples (1000), or a time (5s, 200ms) of a millisecond at least".to_owned()
        };
        if let Ok(samples) = text.parse() {
            return match samples {
                0 => Err(wrong()),
                samples => Ok(Self::Samples(samples)),
            };
        }
        let time = match text.strip_suffix("ms") {
            Some(number) => number.parse::<f64>().map(|ms| ms / 1000.0),
            None => text.strip_suffix('s').unwrap_or("no time").parse(),
        };
        let time = time.ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
        time.filter(|t| (Duration::from_millis(1)..=Duration::from_secs(86_400)).contains(t))
            .map(Self::Time)
            .ok_or_else(wrong)
    }
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Rate,
    Bandwidth,
    Delay,
}

/// One publisher of one topic.
#[derive(Debug)]
struct Stream {
    topic: String,
    /// The first that was heard is 1.
    publisher: usize,
    window: Tally,
    total: Tally,
}

pub(crate) fn run(what: What, arguments: &Arguments, global: &Global) -> Outcome {
    let session = Session::join(global)?;
    let options = TapOptions {
        queue: arguments.queue,
        // An age must not hold a rest.
        is_prompt: what == What::Delay,
    };
    let mut tap = match Tap::open(&session, &arguments.topic, options) {
        // Ctrl-C is how this command ends.
        Err(_) if session.is_ending() => return Ok(()),
        tap => tap?,
    };
    let mut printer = Printer::new(what, arguments.json, tap.is_pattern());
    measure(&session, &mut tap, &mut printer, what, arguments)
}

fn measure(
    session: &Session,
    tap: &mut Tap<'_>,
    printer: &mut Printer,
    what: What,
    arguments: &Arguments,
) -> Outcome {
    let mut streams = BTreeMap::<PublisherId, Stream>::new();
    // The first window begins with the first sample.
    let mut begun: Option<Instant> = None;
    let mut windows = 0;
    let mut last_heard = session.now();
    while !session.is_ending() {
        let end = match (arguments.window, begun) {
            (Window::Time(length), Some(begun)) => Some(begun + length),
            _ => None,
        };
        let give_up = arguments.timeout.map(|limit| last_heard + limit);
        let heard = match tap.try_next() {
            Some(sample) => Heard::Sample(sample),
            None => tap.next(end.into_iter().chain(give_up).min())?,
        };
        let now = session.now();
        match heard {
            Heard::Sample(sample) => {
                let parts: usize = sample.parts().map(<[u8]>::len).sum();
                let seen = Seen {
                    sequence: sample.sequence(),
                    published: sample.published(),
                    bytes: match what {
                        What::Bandwidth => (sample.bytes().len() + parts) as u64,
                        _ => 0,
                    },
                    age: now.saturating_duration_since(sample.published()),
                };
                let id = sample.publisher();
                let stream = streams.entry(id).or_insert_with(|| Stream {
                    topic: sample.topic(),
                    publisher: tap.publisher(&sample),
                    window: Tally::new(what),
                    total: Tally::new(what),
                });
                stream.window.add(&seen);
                stream.total.add(&seen);
                begun.get_or_insert(now);
                last_heard = now;
            }
            Heard::Nothing if give_up.is_some_and(|give_up| now >= give_up) => {
                let limit = arguments.timeout.unwrap_or_default().as_secs_f64();
                return Err(Failure::new(
                    Code::TimeLimit,
                    format!("no sample of {:?} within {limit} s", arguments.topic),
                )
                .hint(format!("mproc info {:?}", arguments.topic)));
            }
            Heard::Nothing => {}
            Heard::End => break,
        }
        let is_over = match arguments.window {
            Window::Time(_) => end.is_some_and(|end| now >= end),
            Window::Samples(n) => streams.values().map(|s| s.window.published()).sum::<u64>() >= n,
        };
        if !is_over {
            continue;
        }
        // A rate needs two samples.
        if what == What::Delay || streams.values().any(|s| s.total.rate_hz().is_some()) {
            printer.window(&streams, begun.map_or(Duration::ZERO, |begun| now - begun))?;
            windows += 1;
        }
        // The next one begins on the grid, unless it is behind.
        begun = end
            .filter(|end| now - *end < Duration::from_millis(500))
            .or(Some(now));
        for stream in streams.values_mut() {
            stream.window.next();
        }
        if windows == 1 && (arguments.once || arguments.count == Some(1)) {
            return Ok(());
        }
        if arguments.count.is_some_and(|count| windows >= count) {
            break;
        }
    }
    printer.total(&streams)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_a_time_or_a_number_of_samples() {
        let window = |text: &str| text.parse::<Window>();
        assert_eq!(window("1000"), Ok(Window::Samples(1000)));
        assert_eq!(window("0.5s"), Ok(Window::Time(Duration::from_millis(500))));
        assert_eq!(
            window("200ms"),
            Ok(Window::Time(Duration::from_millis(200)))
        );
        for wrong in [
            "", "0", "-1", "0s", "1e99s", "NaNs", "ms", "s", "1 h", "infs",
        ] {
            assert!(window(wrong).is_err(), "{wrong}");
        }
    }
}
