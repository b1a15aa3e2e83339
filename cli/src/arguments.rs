//! The command line.

use crate::commands::{
    bandwidth, bench, call, completions, delay, doctor, echo, graph, info, list, play, publish,
    rate, record, top,
};
use clap::{ColorChoice, Parser, Subcommand};
use mproc::{DEFAULT_DOMAIN, DomainOptions};

/// See running mproc programs, talk to them, record what they say and play it back.
///
/// It sees the programs of one domain on this host: "default", or the one that --domain or MPROC_DOMAIN names.
#[derive(Debug, Parser)]
#[command(
    name = "mproc",
    version,
    max_term_width = 120,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 not found, 4 time limit over, 5 problems found by doctor.",
    after_long_help = "\
Examples:
  mproc list                          who is there
  mproc echo host/cpu --once          one value of a topic
  mproc hz camera/frames              how often it is published
  mproc pub counter/add 5             publish a value
  mproc record -o run.mcap 'host/**'  record topics
  mproc top                           a live screen

Exit codes: 0 done, 1 failed, 2 wrong arguments, 3 not found, 4 time limit over, 5 problems found by doctor."
)]
pub(crate) struct Arguments {
    /// The domain to look at.
    #[arg(
        long,
        short = 'd',
        global = true,
        env = "MPROC_DOMAIN",
        default_value = DEFAULT_DOMAIN,
        value_name = "NAME",
        value_parser = domain,
        display_order = 900
    )]
    pub(crate) domain: String,
    /// When to use colour.
    #[arg(
        long,
        global = true,
        default_value = "auto",
        value_name = "WHEN",
        display_order = 901
    )]
    pub(crate) color: ColorChoice,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(list::Arguments),
    Info(info::Arguments),
    Echo(echo::Arguments),
    #[command(name = "hz")]
    Rate(rate::Arguments),
    #[command(name = "bw")]
    Bandwidth(bandwidth::Arguments),
    Delay(delay::Arguments),
    #[command(name = "pub")]
    Publish(publish::Arguments),
    Call(call::Arguments),
    Graph(graph::Arguments),
    Top(top::Arguments),
    Record(record::Arguments),
    Play(play::Arguments),
    Doctor(doctor::Arguments),
    Bench(bench::Arguments),
    Completions(completions::Arguments),
}

fn domain(name: &str) -> Result<String, String> {
    let domain = DomainOptions::new(name).map_err(|error| error.to_string())?;
    Ok(domain.name().to_owned())
}
