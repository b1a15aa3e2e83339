//! `attach` and `recover`: what do the beginning and the end of a subscriber process cost its publisher?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Two clocks*: both processes read the clock that the machine has, and say what it showed.
//! - *The first subscription also starts what all of them need* (threads, sockets, the first meeting of
//!   the two processes): one is made before, and does not count.
//! - *Memory that both processes map is counted twice*: the proportional share of each is taken (`Pss` of
//!   `/proc/.../smaps_rollup`), which for both together counts each page once. It contains what the heaps grew by.
//! - *The leases were back before*: the publisher looks that all are out when it kills the subscriber, and
//!   that none is out afterwards.

use std::{error::Error, fs, time::Duration};

use mproc::{Subscription, SubscriptionOptions, Topic};

use crate::{
    check::LIMIT,
    harness::{Answer, Extra, Measured, Question, Stopwatch, Workload, cpu_time},
    payload::Mode,
    processes::{Here, Side, There, now_ns},
    report::MPROC,
    shm_ping::node,
};

/// A subscription in another process.
pub const ATTACH: Question = Question {
    name: "attach",
    about: "a running process subscribes, until the publisher's process knows; ns and bytes per subscription",
};

/// A subscriber process dies.
pub const RECOVER: Question = Question {
    name: "recover",
    about: "a process that holds 1000 samples is killed, until the publisher has them back; ns per death",
};

/// Samples that are held.
const LEASES: usize = 1000;

/// How long a sample that was published may be under way.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(10);

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    vec![
        Workload {
            question: &ATTACH,
            who: MPROC,
            variant: "100 links",
            n: 100,
            run: attach,
        },
        Workload {
            question: &RECOVER,
            who: MPROC,
            variant: "1000 leases",
            n: 1,
            run: recover,
        },
    ]
}

/// The other sides.
pub fn sides() -> Vec<Side> {
    vec![
        Side {
            name: ATTACH_SIDE,
            run: attach_there,
        },
        Side {
            name: RECOVER_SIDE,
            run: recover_there,
        },
    ]
}

const SAMPLES: Topic<[u8]> = Topic::slices("bench/samples");
const ATTACH_SIDE: &str = "mproc/attach";
const RECOVER_SIDE: &str = "mproc/recover";

/// The other process publishes, and says when it knew of each subscription.
fn attach(n: u64) -> Answer {
    let mut there = There::start(ATTACH_SIDE, &[n.to_string()])?;
    let node = node(there.place(), Mode::SpinThenPark)?;
    let mut subscriptions = vec![node.subscription(&SAMPLES)?];
    there.say("open")?;
    there.expect("ready")?;

    let both =
        |there: &There| Ok::<_, Box<dyn Error>>(memory("self")? + memory(&there.id().to_string())?);
    let memory_before = both(&there)?;
    let cpu_before = cpu_time();
    let mut wall_ns = 0;
    for _ in 0..n {
        let started = now_ns();
        subscriptions.push(node.subscription(&SAMPLES)?);
        let [known] = there.numbers()?;
        wall_ns += known.saturating_sub(started);
        there.say("next")?;
    }
    let [cpu_ns] = there.numbers()?;
    let cpu = cpu_time().saturating_sub(cpu_before) + Duration::from_nanos(cpu_ns);
    let bytes = both(&there)?.saturating_sub(memory_before);

    let [value] = there.numbers()?;
    for subscription in &subscriptions {
        check_value(subscription, value)?;
    }
    drop(subscriptions);
    // Both are done with what they have in common before it is removed.
    drop(node);
    there.end()?;
    Ok(Measured {
        wall: Duration::from_nanos(wall_ns),
        cpu,
        extra: Extra {
            bytes: Some(bytes as f64 / n as f64),
            ..Extra::default()
        },
    })
}

/// A subscription that is there gets what is published.
fn check_value(subscription: &Subscription<[u8]>, value: u64) -> Result<(), Box<dyn Error>> {
    let sample = subscription.recv_timeout(ARRIVAL_LIMIT)?;
    if sample[..] == value.to_le_bytes() {
        return Ok(());
    }
    Err(format!("{:?} came and not {value}", &sample[..]).into())
}

fn attach_there(here: &mut Here) -> Result<(), Box<dyn Error>> {
    let n: usize = here.argument(0)?;
    here.expect("open")?;
    let node = node(here.place(), Mode::SpinThenPark)?;
    let publisher = node.publisher(&SAMPLES)?;
    publisher.wait_for_subscribers(1, LIMIT)?;
    here.say("ready")?;
    let cpu_before = cpu_time();
    for count in 0..n {
        publisher.wait_for_subscribers(count + 2, LIMIT)?;
        here.say(now_ns())?;
        here.expect("next")?;
    }
    here.say(cpu_time().saturating_sub(cpu_before).as_nanos())?;
    let value = 42_u64;
    let mut loan = publisher.loan(size_of_val(&value))?;
    loan.copy_from_slice(&value.to_le_bytes());
    loan.publish().map_err(mproc::Error::from)?;
    here.say(value)?;
    here.expect("end")
}

/// Bytes of memory of a process, with its share of what it has in common with others.
fn memory(process: &str) -> Result<u64, Box<dyn Error>> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: u64 = kib
        .ok_or("the system does not say how much memory")?
        .parse()?;
    Ok(kib * 1024)
}

/// The other process subscribes, holds what comes, and is killed.
fn recover(n: u64) -> Answer {
    let mut total = Measured::default();
    for _ in 0..n {
        let mut there = There::start(RECOVER_SIDE, &[])?;
        let node = node(there.place(), Mode::SpinThenPark)?;
        let publisher = node.publisher(&SAMPLES)?;
        there.say("open")?;
        publisher.wait_for_subscribers(1, LIMIT)?;
        for number in 0..LEASES as u64 {
            let mut loan = publisher.loan(size_of_val(&number))?;
            loan.copy_from_slice(&number.to_le_bytes());
            loan.publish().map_err(mproc::Error::from)?;
        }
        there.expect("holding")?;
        let out = publisher.snapshot().outstanding;
        if out != LEASES as u64 {
            return Err(format!("{out} leases are out of {LEASES}").into());
        }

        let stopwatch = Stopwatch::start();
        there.kill()?;
        publisher.flush(LIMIT)?;
        let measured = stopwatch.stop();

        let out = publisher.snapshot().outstanding;
        if out != 0 {
            return Err(format!("{out} leases are still out").into());
        }
        total.wall += measured.wall;
        total.cpu += measured.cpu;
    }
    Ok(total)
}

fn recover_there(here: &mut Here) -> Result<(), Box<dyn Error>> {
    here.expect("open")?;
    let node = node(here.place(), Mode::SpinThenPark)?;
    let options = SubscriptionOptions::new()
        .capacity(LEASES)
        .max_leases(LEASES);
    let subscription = node.subscription_with(&SAMPLES, options)?;
    let mut held = Vec::new();
    for number in 0..LEASES as u64 {
        let sample = subscription.recv_timeout(ARRIVAL_LIMIT)?;
        if sample[..] != number.to_le_bytes() {
            return Err(format!("{:?} came and not {number}", &sample[..]).into());
        }
        held.push(sample);
    }
    here.say("holding")?;
    here.expect("never")
}
