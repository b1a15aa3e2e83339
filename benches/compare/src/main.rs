//! Answers the questions of `mproc-benches` for `mproc` and its peers, in turn, in the same run.
//!
//! A file here has the name of the file of `mproc-benches` that asks the question, says what would
//! make the numbers wrong, and checks the work. What is here is only each peer's own way to do it,
//! as its documentation says. [`executors`], [`actors`] and [`ends`] hold what several questions need.

mod actors;
mod call;
mod call_ways;
mod ends;
mod executors;
mod fairness;
mod fan_out;
mod idle;
mod ping_pong;
mod recv_ways;
mod ring;
mod send;
mod shm_ping;
mod shm_stream;
mod skynet;
mod spawn;
mod versions;

use std::{path::PathBuf, process::ExitCode};

use mproc_benches::cli::{self, Party, Suite};

fn main() -> ExitCode {
    let mut workloads = mproc_benches::workloads();
    workloads.extend(send::workloads());
    workloads.extend(ping_pong::workloads());
    workloads.extend(call::workloads());
    workloads.extend(call_ways::workloads());
    workloads.extend(recv_ways::workloads());
    workloads.extend(fan_out::workloads());
    workloads.extend(ring::workloads());
    workloads.extend(skynet::workloads());
    workloads.extend(spawn::workloads());
    workloads.extend(fairness::workloads());
    workloads.extend(idle::workloads());
    workloads.extend(shm_ping::workloads());
    workloads.extend(shm_stream::workloads());

    let mut sides = mproc_benches::sides();
    sides.extend(spawn::sides());
    sides.extend(idle::sides());
    sides.extend(shm_ping::sides());
    sides.extend(shm_stream::sides());

    let mut parties = vec![Party::mproc()];
    parties.extend(versions::peers());

    cli::main(Suite {
        workloads,
        sides,
        parties,
        results: Some(PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../RESULTS.md"
        ))),
    })
}
