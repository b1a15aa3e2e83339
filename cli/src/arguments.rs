//! The command line.

use crate::commands::{
    bandwidth, bench, call, completions, delay, doctor, echo, graph, info, list, play, publish,
    rate, record, top,
};
use clap::{ColorChoice, Parser, Subcommand};
use mproc::{DEFAULT_DOMAIN, DomainOptions};
use std::time::Duration;

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
    /// How long programs may take to answer when they are asked what they hold; 2 if not given, 0.8 for the screen of top.
    #[arg(
        long,
        global = true,
        env = "MPROC_LOOK_LIMIT",
        value_name = "SECONDS",
        value_parser = look_limit,
        display_order = 902
    )]
    pub(crate) look_limit: Option<Duration>,
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

impl Arguments {
    /// How long programs may take to answer.
    pub(crate) fn look_limit(&self) -> Duration {
        self.look_limit.unwrap_or(Duration::from_secs(2))
    }
}

fn look_limit(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "a number of seconds is needed, such as 0.5".to_owned())?;
    if !(0.05..=600.0).contains(&seconds) {
        return Err("it must be between 0.05 and 600 seconds".to_owned());
    }
    Ok(Duration::from_secs_f64(seconds))
}

fn domain(name: &str) -> Result<String, String> {
    let domain = DomainOptions::new(name).map_err(|error| error.to_string())?;
    Ok(domain.name().to_owned())
}
