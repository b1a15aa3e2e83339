//! `recv_two_ways` by the peers. kameo is not among them: its actors are called, they receive nothing.

use std::thread;

use mproc_benches::{
    harness::{Answer, Workload},
    recv_ways::{CAPACITY, TWO_WAYS, measure, measure_async},
};

use crate::executors::here;

pub(crate) fn workloads() -> Vec<Workload> {
    let by = |who, variant, run| Workload {
        question: &TWO_WAYS,
        who,
        variant,
        n: 500_000,
        run,
    };
    vec![
        by("tokio", "wait", tokio_wait),
        by("tokio", "await", tokio_await),
        by("flume", "wait", flume_wait),
        by("flume", "await", flume_await),
        by("kanal", "wait", kanal_wait),
        by("kanal", "await", kanal_await),
    ]
}

/// Sends `n` numbers from a thread while `receive` measures.
fn sent<E: std::fmt::Debug>(
    n: u64,
    send: impl Fn(u64) -> Result<(), E> + Send + 'static,
    receive: impl FnOnce() -> Answer,
) -> Answer {
    let sender = thread::spawn(move || {
        for number in 0..n {
            send(number).expect("the receiver is there");
        }
    });
    let measured = receive();
    sender.join().map_err(|_| "the sender panicked")?;
    measured
}

fn tokio_wait(n: u64) -> Answer {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(CAPACITY);
    let receive = || measure(n, || receiver.blocking_recv().ok_or("the sender is gone"));
    sent(n, move |number| sender.blocking_send(number), receive)
}

fn tokio_await(n: u64) -> Answer {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(CAPACITY);
    let receive = || {
        here().block_on(measure_async(n, async || {
            receiver.recv().await.ok_or("the sender is gone")
        }))
    };
    sent(n, move |number| sender.blocking_send(number), receive)
}

fn flume_wait(n: u64) -> Answer {
    let (sender, receiver) = flume::bounded(CAPACITY);
    let receive = || measure(n, || receiver.recv());
    sent(n, move |number| sender.send(number), receive)
}

fn flume_await(n: u64) -> Answer {
    let (sender, receiver) = flume::bounded(CAPACITY);
    let receive = || here().block_on(measure_async(n, async || receiver.recv_async().await));
    sent(n, move |number| sender.send(number), receive)
}

fn kanal_wait(n: u64) -> Answer {
    let (sender, receiver) = kanal::bounded(CAPACITY);
    let receive = || measure(n, || receiver.recv());
    sent(n, move |number| sender.send(number), receive)
}

fn kanal_await(n: u64) -> Answer {
    let (sender, receiver) = kanal::bounded(CAPACITY);
    let receiver = receiver.to_async();
    let receive = || here().block_on(measure_async(n, async || receiver.recv().await));
    sent(n, move |number| sender.send(number), receive)
}
