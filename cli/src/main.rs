//! `mproc`: see running programs, talk to them, record and replay what they say.
//!
//! | file | idea |
//! |---|---|
//! | `arguments.rs` | the command line itself; each command's own arguments stand with the command |
//! | `failure.rs` | why a command fails, what to try, and exit codes |
//! | `session.rs` | a command's place in the domain: it joins, looks around, and ends with Ctrl-C |
//! | `tap.rs` | hearing topics without holding anybody back |
//! | `unanswered.rs` | when to ask again for what programs have not told |
//! | `meeting.rs` | subscribers that nobody tells of |
//! | `world.rs` | what all programs of the domain have reported, put together |
//! | `values.rs` | values as people write them, and as they travel |
//! | `output/` | tables, JSON, units, colour |
//! | `commands/` | one file, or folder, for each command |

#![forbid(unsafe_code)]

mod arguments;
mod commands;
mod failure;
mod meeting;
mod output;
mod session;
mod tap;
mod unanswered;
mod values;
mod world;

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    match commands::run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}
