//! `recv_two_ways`: does it matter how a receiver waits for the next value?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Values are lost or come out of order*: they are the numbers from 0, and each is checked.
//! - *The queue hides the waiting*: it has the same bound for all ([`CAPACITY`]), and a full one makes the sender wait.
//! - *An executor's own work is counted*: the awaited receives are made by one future, on the calling thread, with no other task.
//!   Peers that have no executor of their own are awaited on tokio's, in its form for one thread.
//! - *The sender is what is measured*: it is a plain thread that blocks, in both ways and for all.

use std::{error::Error, thread};

use mproc::{Node, Options, Subscription, SubscriptionOptions, Topic};

use crate::{
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// A stream of numbers, received in each way.
pub const TWO_WAYS: Question = Question {
    name: "recv_two_ways",
    about: "u64 from another thread, received by blocking or awaiting; ns per value",
};

/// How many values a queue holds.
pub const CAPACITY: usize = 1024;

const NUMBERS: Topic<u64> = Topic::local("numbers");

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |variant, run| Workload {
        question: &TWO_WAYS,
        who: MPROC,
        variant,
        n: 500_000,
        run,
    };
    vec![by("wait", wait), by("await", awaited)]
}

/// A node, the subscription, and the thread that publishes.
type Stream = (Node, Subscription<u64>, thread::JoinHandle<()>);

/// A stream of `n` numbers.
fn stream(n: u64) -> Result<Stream, Box<dyn Error>> {
    let node = Node::with_options(Options::default());
    let options = SubscriptionOptions::new().capacity(CAPACITY);
    let numbers = node.subscription_with(&NUMBERS, options)?;
    let publisher = node.publisher(&NUMBERS)?;
    let sender = thread::spawn(move || {
        for number in 0..n {
            publisher
                .publish(number)
                .expect("the receiver makes room in time");
        }
    });
    Ok((node, numbers, sender))
}

fn wait(n: u64) -> Answer {
    let (_node, numbers, sender) = stream(n)?;
    let measured = measure(n, || numbers.recv().wait().map(|number| *number));
    sender.join().map_err(|_| "the sender panicked")?;
    measured
}

fn awaited(n: u64) -> Answer {
    let (node, numbers, sender) = stream(n)?;
    let receive = async || numbers.recv().await.map(|number| *number);
    let measured = node.run(measure_async(n, receive))?;
    sender.join().map_err(|_| "the sender panicked")?;
    measured
}

fn check(number: u64, expected: u64) -> Result<(), Box<dyn Error>> {
    if number == expected {
        return Ok(());
    }
    Err(format!("{number} came in the place of {expected}").into())
}

/// Measures `n` receives.
///
/// # Errors
///
/// If one fails or gives another number than the next.
pub fn measure<E: Into<Box<dyn Error>>>(
    n: u64,
    mut receive: impl FnMut() -> Result<u64, E>,
) -> Answer {
    let stopwatch = Stopwatch::start();
    for expected in 0..n {
        check(receive().map_err(Into::into)?, expected)?;
    }
    Ok(stopwatch.stop())
}

/// As [`measure`], for receives that are awaited.
///
/// # Errors
///
/// As [`measure`].
pub async fn measure_async<E: Into<Box<dyn Error>>>(
    n: u64,
    mut receive: impl AsyncFnMut() -> Result<u64, E>,
) -> Answer {
    let stopwatch = Stopwatch::start();
    for expected in 0..n {
        check(receive().await.map_err(Into::into)?, expected)?;
    }
    Ok(stopwatch.stop())
}
