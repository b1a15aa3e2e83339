//! `mproc delay`

use super::measure::{self, What};
use crate::arguments::Arguments as Global;
use crate::failure::Outcome;
use clap::Args;

/// Tells how old samples are when they arrive.
///
/// The age is the time from being published to being taken here, by the clock that all processes of the host share: what a
/// subscriber of this speed sees, its wake-up included. Unlike "mproc hz", it has the publisher wake it for each sample. Ctrl-C ends
/// it, with a summary.
///
/// With --json each row is an object on a line: "topic", "publisher" (null for all together), "is_summary", "window_s", "published",
/// "taken", "rate_hz", "age_ns" ("min", "p50", "p90", "p99", "max", "mean").
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc delay robot/pose                 a line a second
  mproc delay robot/pose --window 1000   a line every thousand samples
  mproc delay robot/pose --once --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: measure::Arguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    measure::run(What::Delay, &arguments.common, global)
}
