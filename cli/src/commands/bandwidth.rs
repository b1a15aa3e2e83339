//! `mproc bw`

use super::measure::{self, What};
use crate::arguments::Arguments as Global;
use crate::failure::Outcome;
use clap::Args;

/// Tells how many bytes of a topic are published.
///
/// Counted are the bytes of values and their parts as they travel. The rate is exact as that of "mproc hz"; where samples are lost on
/// the way to this command, they count as large as those that were seen. Ctrl-C ends it, with a summary.
///
/// With --json each row is an object on a line: "topic", "publisher" (null for all together), "is_summary", "window_s", "published",
/// "taken", "rate_hz", "bytes_per_second", "sample_bytes" ("min", "p50", "p90", "p99", "max", "mean").
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  mproc bw camera/frames               a line a second
  mproc bw 'camera/**' --window 10s    all cameras
  mproc bw lidar --once --json")]
pub(crate) struct Arguments {
    #[command(flatten)]
    common: measure::Arguments,
}

pub(crate) fn run(arguments: &Arguments, global: &Global) -> Outcome {
    measure::run(What::Bandwidth, &arguments.common, global)
}
