//! `mproc hz`

use super::measure::{self, What};
use crate::arguments::Arguments as Global;
use crate::failure::Outcome;
use clap::Args;

/// Tells how often a topic is published.
///
/// The rate is exact also where samples are lost on the way to this command: each has its number at its publisher, and the time when
/// it was published. TAKEN is the share that was seen; intervals are those between neighbours that were both seen. Of several
/// publishers each has a row, in the order in which they were heard. Ctrl-C ends it, with a summary.
///
/// With --json each row is an object on a line: "topic", "publisher" (null for all together), "is_summary", "window_s", "published",
/// "taken", "rate_hz", "interval_ns" ("min", "p50", "p90", "p99", "max", "mean").
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc hz camera/frames               a line a second
  mproc hz camera/frames --window 5s   a line every five
  mproc hz imu --window 1000 --once    of the next thousand samples
  mproc hz 'robot/**' --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: measure::Arguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    measure::run(What::Rate, &arguments.common, global)
}
