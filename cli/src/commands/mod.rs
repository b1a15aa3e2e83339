//! One file, or folder, for each command.

pub(crate) mod bandwidth;
pub(crate) mod bench;
pub(crate) mod call;
pub(crate) mod completions;
pub(crate) mod delay;
pub(crate) mod doctor;
pub(crate) mod echo;
pub(crate) mod graph;
pub(crate) mod info;
pub(crate) mod list;
mod measure;
pub(crate) mod play;
pub(crate) mod publish;
pub(crate) mod rate;
pub(crate) mod record;
pub(crate) mod recording;
pub(crate) mod top;

use crate::arguments::{Arguments, Command};
use crate::failure::Outcome;

/// Carries out the command.
pub(crate) fn run(arguments: &Arguments) -> Outcome {
    match arguments.color {
        clap::ColorChoice::Auto => anstream::ColorChoice::Auto,
        clap::ColorChoice::Always => anstream::ColorChoice::Always,
        clap::ColorChoice::Never => anstream::ColorChoice::Never,
    }
    .write_global();
    match &arguments.command {
        Command::List(own) => list::run(own, arguments),
        Command::Info(own) => info::run(own, arguments),
        Command::Echo(own) => echo::run(own, arguments),
        Command::Rate(own) => rate::run(own, arguments),
        Command::Bandwidth(own) => bandwidth::run(own, arguments),
        Command::Delay(own) => delay::run(own, arguments),
        Command::Publish(own) => publish::run(own, arguments),
        Command::Call(own) => call::run(own, arguments),
        Command::Graph(own) => graph::run(own, arguments),
        Command::Top(own) => top::run(own, arguments),
        Command::Record(own) => record::run(own, arguments),
        Command::Play(own) => play::run(own, arguments),
        Command::Doctor(own) => doctor::run(own, arguments),
        Command::Bench(own) => bench::run(own, arguments),
        Command::Completions(own) => completions::run(own, arguments),
    }
}
