//! Questions of speed, each answered with a checked workload.
//!
//! A [`Question`] is a name and what one operation of it is. A [`Workload`] is one answer: who
//! does the work, in which variant, how many operations make a run, and the function that runs
//! them, checks that the work was really done, and says how long it took. [`cli::main`] takes a
//! [`Suite`] of workloads and does the rest: rounds, medians, tables.
//!
//! The workloads of `mproc` are here, in the file named by their question, beside the helpers
//! that make every peer do the same work and pass the same checks. The peers themselves are in
//! the package `compare/`, so that this one stays small.
//!
//! [`Question`]: harness::Question
//! [`Workload`]: harness::Workload
//! [`Suite`]: cli::Suite

pub mod alone;
pub mod call;
pub mod call_ways;
pub mod check;
pub mod cli;
pub mod fairness;
pub mod fan_out;
pub mod harness;
pub mod idle;
pub mod links;
pub mod neighbours;
pub mod payload;
pub mod ping_pong;
pub mod processes;
pub mod recv_ways;
pub mod report;
pub mod ring;
pub mod send;
pub mod shm_ping;
pub mod shm_stream;
pub mod skynet;
pub mod spawn;

use harness::{Question, Workload};
use processes::Side;

/// Every question, in the order in which `list` and `all` show them.
pub const QUESTIONS: &[&Question] = &[
    &send::SEND_1,
    &send::SEND_4,
    &ping_pong::ONE_DRIVER,
    &ping_pong::TWO_DRIVERS,
    &call::FROM_THREAD,
    &call_ways::THREE_WAYS,
    &recv_ways::TWO_WAYS,
    &fan_out::FAN_OUT_8,
    &ring::RING,
    &skynet::SKYNET,
    &spawn::SPAWN,
    &fairness::FAIRNESS,
    &idle::IDLE,
    &shm_ping::SHM_PING,
    &shm_ping::SHM_PING_WRITTEN,
    &shm_stream::SHM_STREAM,
    &links::ATTACH,
    &links::RECOVER,
];

/// The compiler that built this program, which is also the version of `std`.
pub const COMPILER: &str = env!("BENCHES_RUSTC");

/// Returns the answers of `mproc` to every question.
pub fn workloads() -> Vec<Workload> {
    let mut all = Vec::new();
    all.extend(send::workloads());
    all.extend(ping_pong::workloads());
    all.extend(call::workloads());
    all.extend(call_ways::workloads());
    all.extend(recv_ways::workloads());
    all.extend(fan_out::workloads());
    all.extend(ring::workloads());
    all.extend(skynet::workloads());
    all.extend(spawn::workloads());
    all.extend(fairness::workloads());
    all.extend(idle::workloads());
    all.extend(shm_ping::workloads());
    all.extend(shm_stream::workloads());
    all.extend(links::workloads());
    all
}

/// Returns what other processes do for the answers of `mproc`.
pub fn sides() -> Vec<Side> {
    let mut all = Vec::new();
    all.extend(spawn::sides());
    all.extend(idle::sides());
    all.extend(shm_ping::sides());
    all.extend(shm_stream::sides());
    all.extend(links::sides());
    all
}
