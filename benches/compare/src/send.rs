//! `send_1` and `send_4` by the peers.

use mproc_benches::{
    check::{END, Outcome, Sink, Tally},
    harness::{Answer, Stopwatch, Workload},
    send::{SEND_1, SEND_4, measure, receive},
};

use crate::{
    actors::{self, Number},
    executors::{ActixThreads, TokioThread},
};

/// The bound of `bounded_1024`.
const BOUND: usize = 1024;

pub(crate) fn workloads() -> Vec<Workload> {
    vec![
        send_1("unbounded", "crossbeam", 6_000_000, |n| {
            crossbeam(n, 1, None)
        }),
        send_1("unbounded", "std", 6_000_000, |n| std(n, 1)),
        send_1("unbounded", "kanal", 8_000_000, |n| kanal(n, 1, None)),
        send_1("unbounded", "flume", 2_000_000, |n| flume(n, 1, None)),
        send_1("unbounded", "tokio", 2_000_000, |n| tokio(n, 1)),
        send_1("unbounded", "kameo", 800_000, |n| kameo(n, 1)),
        send_1("unbounded", "ractor", 800_000, |n| ractor(n, 1)),
        send_1("unbounded", "actix", 800_000, |n| actix(n, 1)),
        send_1("bounded_1024", "crossbeam", 6_000_000, |n| {
            crossbeam(n, 1, Some(BOUND))
        }),
        send_1("bounded_1024", "std", 6_000_000, std_bounded),
        send_1("bounded_1024", "kanal", 2_000_000, |n| {
            kanal(n, 1, Some(BOUND))
        }),
        send_1("bounded_1024", "flume", 2_000_000, |n| {
            flume(n, 1, Some(BOUND))
        }),
        send_1("bounded_1024", "tokio", 2_000_000, tokio_bounded),
        send_1("bounded_1024", "kameo", 800_000, kameo_bounded),
        send_1("bounded_1024", "actix", 800_000, actix_bounded),
        send_4("crossbeam", 6_000_000, |n| crossbeam(n, 4, None)),
        send_4("std", 6_000_000, |n| std(n, 4)),
        send_4("kanal", 8_000_000, |n| kanal(n, 4, None)),
        send_4("flume", 2_000_000, |n| flume(n, 4, None)),
        send_4("tokio", 400_000, |n| tokio(n, 4)),
        send_4("kameo", 400_000, |n| kameo(n, 4)),
        send_4("ractor", 400_000, |n| ractor(n, 4)),
        send_4("actix", 800_000, |n| actix(n, 4)),
    ]
}

fn send_1(variant: &'static str, who: &'static str, n: u64, run: fn(u64) -> Answer) -> Workload {
    Workload {
        question: &SEND_1,
        who,
        variant,
        n,
        run,
    }
}

fn send_4(who: &'static str, n: u64, run: fn(u64) -> Answer) -> Workload {
    Workload {
        question: &SEND_4,
        who,
        variant: "unbounded",
        n,
        run,
    }
}

fn crossbeam(n: u64, senders: u64, bound: Option<usize>) -> Answer {
    let (sender, receiver) =
        bound.map_or_else(crossbeam_channel::unbounded, crossbeam_channel::bounded);
    measure(
        n,
        senders,
        move |number| sender.send(number).expect("the receiver is there"),
        || receive(senders, || receiver.recv()),
    )
}

fn std(n: u64, senders: u64) -> Answer {
    let (sender, receiver) = std::sync::mpsc::channel();
    measure(
        n,
        senders,
        move |number| sender.send(number).expect("the receiver is there"),
        || receive(senders, || receiver.recv()),
    )
}

fn std_bounded(n: u64) -> Answer {
    let (sender, receiver) = std::sync::mpsc::sync_channel(BOUND);
    measure(
        n,
        1,
        move |number| sender.send(number).expect("the receiver is there"),
        || receive(1, || receiver.recv()),
    )
}

fn kanal(n: u64, senders: u64, bound: Option<usize>) -> Answer {
    let (sender, receiver) = bound.map_or_else(kanal::unbounded, kanal::bounded);
    measure(
        n,
        senders,
        move |number| sender.send(number).expect("the receiver is there"),
        || receive(senders, || receiver.recv()),
    )
}

fn flume(n: u64, senders: u64, bound: Option<usize>) -> Answer {
    let (sender, receiver) = bound.map_or_else(flume::unbounded, flume::bounded);
    measure(
        n,
        senders,
        move |number| sender.send(number).expect("the receiver is there"),
        || receive(senders, || receiver.recv()),
    )
}

/// Plain threads on both sides: `send` on an unbounded channel needs no executor, and
/// `blocking_recv` was faster here than a task.
fn tokio(n: u64, senders: u64) -> Answer {
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    measure(
        n,
        senders,
        move |number| sender.send(number).expect("the receiver is there"),
        || receive(senders, || receiver.blocking_recv().ok_or("no sender left")),
    )
}

/// Two tasks, each on a thread of its own: faster here than `blocking_send` and `blocking_recv`, and
/// no slower than two workers of one executor.
fn tokio_bounded(n: u64) -> Answer {
    let there = TokioThread::start();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(BOUND);
    let (mut sink, outcome) = Sink::new(1);
    there.handle().spawn(async move {
        while let Some(number) = receiver.recv().await {
            sink.take(number);
        }
    });
    measure_task(n, &outcome, async move {
        for number in numbers(n) {
            sender.send(number).await.expect("the receiver is there");
        }
    })
}

/// What a single sender sends.
fn numbers(n: u64) -> impl Iterator<Item = u64> {
    (0..n).chain([END])
}

/// Measures `n` messages that a task on a thread of its own sends.
fn measure_task(
    n: u64,
    outcome: &Outcome<Tally>,
    task: impl Future<Output = ()> + Send + 'static,
) -> Answer {
    let here = TokioThread::start();
    let stopwatch = Stopwatch::start();
    here.handle().spawn(task);
    let tally = outcome.wait()?;
    let measured = stopwatch.stop();
    tally.check(n)?;
    Ok(measured)
}

/// `try_send` needs no executor, and without a bound there is nothing to wait for.
fn kameo(n: u64, senders: u64) -> Answer {
    let there = TokioThread::start();
    let (mut sink, outcome) = Sink::new(senders);
    let actor = actors::kameo::start(there.handle(), None, move |number| sink.take(number));
    measure(
        n,
        senders,
        move |number| {
            actor
                .tell(Number(number))
                .try_send()
                .expect("the actor is there");
        },
        || outcome.wait(),
    )
}

fn kameo_bounded(n: u64) -> Answer {
    let there = TokioThread::start();
    let (mut sink, outcome) = Sink::new(1);
    let actor = actors::kameo::start(there.handle(), Some(BOUND), move |number| sink.take(number));
    measure(
        n,
        1,
        move |number| {
            actor
                .tell(Number(number))
                .blocking_send()
                .expect("the actor is there");
        },
        || outcome.wait(),
    )
}

fn ractor(n: u64, senders: u64) -> Answer {
    let there = TokioThread::start();
    let (mut sink, outcome) = Sink::new(senders);
    let actor = actors::ractor::start(there.handle(), move |number| sink.take(number))?;
    measure(
        n,
        senders,
        move |number| actor.cast(number).expect("the actor is there"),
        || outcome.wait(),
    )
}

/// `do_send` does not wait and goes around the bound of the mailbox.
fn actix(n: u64, senders: u64) -> Answer {
    let there = ActixThreads::start(1);
    let (mut sink, outcome) = Sink::new(senders);
    let actor = actors::actix::start(there.arbiter(0), BOUND, move |number| sink.take(number));
    measure(
        n,
        senders,
        move |number| actor.do_send(Number(number)),
        || outcome.wait(),
    )
}

/// actix has no way to wait for room alone (`send` waits for the reply), so a full mailbox is tried
/// again after giving up the rest of the time slice.
fn actix_bounded(n: u64) -> Answer {
    let there = ActixThreads::start(1);
    let (mut sink, outcome) = Sink::new(1);
    let actor = actors::actix::start(there.arbiter(0), BOUND, move |number| sink.take(number));
    measure(
        n,
        1,
        move |number| {
            let mut message = Number(number);
            while let Err(error) = actor.try_send(message) {
                match error {
                    actix::prelude::SendError::Full(full) => message = full,
                    actix::prelude::SendError::Closed(_) => panic!("the actor is gone"),
                }
                std::thread::yield_now();
            }
        },
        || outcome.wait(),
    )
}
