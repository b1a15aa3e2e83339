//! A service and a long task, in two processes: one serves, the other calls.
//!
//! ```text
//! cargo run --example service -- serve
//! cargo run --example service -- call 2 3            (in another terminal)
//! cargo run --example service -- factor 600851475143
//! ```
//!
//! Start them in any order. Stop `factor` with Ctrl-C, or kill it: the task at the server ends early. Kill the server while it
//! factors: `factor` says at once that it is gone. Of two that serve, the second makes way and says so.

use clap::{Parser, Subcommand};
use mproc::{TaskCx, prelude::*};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Add {
    a: i64,
    b: i64,
}

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    role: Role,
}

#[derive(Subcommand)]
enum Role {
    /// Serves "add" and the task "factor", until Ctrl-C.
    Serve,
    /// Adds two numbers.
    Call { a: i64, b: i64 },
    /// Has a number factored.
    Factor { number: u64 },
}

/// How long a caller waits for a server.
const LIMIT: Duration = Duration::from_secs(30);

fn main() -> mproc::Result<()> {
    match Arguments::parse().role {
        Role::Serve => serve(),
        Role::Call { a, b } => call(a, b),
        Role::Factor { number } => factor(number),
    }
}

fn serve() -> mproc::Result<()> {
    // How many sums it was asked for. Nothing is locked: callbacks run on this thread, one at a time.
    let mut script = mproc::init()?.with(0);
    script.serve("add", |asked, Add { a, b }: Add, _cx| {
        *asked += 1;
        println!("{a} + {b}, request {asked}");
        a.checked_add(b)
            .ok_or_else(|| mproc::Fault::new("the sum is too large"))
    })?;
    let _tasks = script.task("factor", |number: u64, task: &TaskCx<u64>| {
        println!("factors {number}");
        let factors = factors(number, task);
        println!(
            "{}",
            if factors.is_some() {
                "done"
            } else {
                "ends early"
            }
        );
        Ok(factors.unwrap_or_default())
    })?;
    println!("serving");
    script.spin()
}

/// The prime factors, each told as it is found. `None` if the task is to end early.
fn factors(mut number: u64, task: &TaskCx<u64>) -> Option<Vec<u64>> {
    let mut factors = Vec::new();
    let mut candidate = 2;
    while candidate <= number / candidate {
        if candidate % 1024 == 1 && task.is_cancel_requested() {
            task.accept_cancel();
            return None;
        }
        if number.is_multiple_of(candidate) {
            number /= candidate;
            factors.push(candidate);
            task.feedback(candidate);
        } else {
            candidate += 1;
        }
    }
    factors.push(number);
    Some(factors)
}

fn call(a: i64, b: i64) -> mproc::Result<()> {
    let node = mproc::init()?;
    let add = node.client::<Add, i64>("add")?;
    add.wait_for_service(LIMIT)?;
    println!("{a} + {b} = {}", add.call(Add { a, b }).wait()?);
    Ok(())
}

fn factor(number: u64) -> mproc::Result<()> {
    let mut script = mproc::init()?;
    let client = script.task_client::<u64, u64, Vec<u64>>("factor")?;
    client.wait_for_server(LIMIT)?;
    let task = client.start(number).wait()?;
    println!("started");
    // It spins while it waits, so that Ctrl-C ends it; that drops the task, and the server is told.
    while let Some(factor) = script.spin_until(&mut task.next_feedback(), Duration::MAX)? {
        println!("has the factor {}", factor.value);
    }
    let factors = script.spin_until(&mut task.result(), Duration::MAX)?;
    println!("{number} = {factors:?}");
    Ok(())
}
