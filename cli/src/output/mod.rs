//! What commands print: tables for people, JSON for programs. Colour only where a person looks.

mod ids;
mod table;
mod text;
mod units;

pub(crate) use table::Table;
pub(crate) use text::{cut, safe, safe_json};
pub(crate) use units::{count, data, duration, rate};

use crate::failure::Outcome;
use serde::Serialize;
use std::io::{self, BufWriter, Write};
use std::time::Duration;

/// Standard output, in which colour goes only where it is wanted. Flush it before waiting.
pub(crate) fn standard() -> BufWriter<anstream::AutoStream<io::StdoutLock<'static>>> {
    BufWriter::new(anstream::AutoStream::auto(io::stdout().lock()))
}

/// Prints `value` as JSON over several lines, and a line end.
pub(crate) fn json(value: &impl Serialize) -> Outcome {
    let mut out = standard();
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    writeln!(out, "{}", safe_json(&text))?;
    out.flush()?;
    Ok(())
}

/// As [`json`], of what programs report: hashes and ids of topics are text.
pub(crate) fn json_of_reports(value: &impl Serialize) -> Outcome {
    let mut out = standard();
    let text = ids::to_string_pretty(value).map_err(io::Error::from)?;
    writeln!(out, "{}", safe_json(&text))?;
    out.flush()?;
    Ok(())
}

/// Prints `value` as JSON on one line.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    writeln!(out, "{}", safe_json(&text))?;
    Ok(())
}

/// Says a line on standard error, beside the result. Nothing is wrong if nobody reads it.
pub(crate) fn note(line: &str) {
    let _nobody_reads_it = writeln!(anstream::stderr(), "mproc: {}", safe(line));
}

/// How many characters stand on a line of the terminal; 100 where there is none.
pub(crate) fn width() -> usize {
    comfy_table::Table::new().width().map_or(100, usize::from)
}

/// Seconds as an argument: `0.5`.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .trim_end_matches('s')
        .parse()
        .map_err(|_| "a number of seconds is needed, such as 0.5".to_owned())?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|time| *time <= Duration::from_secs(1 << 32))
        .ok_or_else(|| "it must be between 0 and 4294967296 seconds".to_owned())
}

/// The places of a queue as an argument.
pub(crate) fn places(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(places @ 1..=4096) => Ok(places),
        _ => Err("it must be between 1 and 4096".to_owned()),
    }
}
