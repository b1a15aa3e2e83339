//! `idle` by tokio: tasks that wait for a message.

use mproc_benches::{
    alone,
    harness::{Answer, Workload},
    idle::{IDLE, MILLION, POOL, watch},
    processes::Side,
};
use tokio::sync::mpsc;

use crate::executors::two_workers;

pub(crate) fn workloads() -> Vec<Workload> {
    vec![Workload {
        question: &IDLE,
        who: "tokio",
        variant: POOL,
        n: MILLION,
        run: |n| alone::ask(SIDE, n),
    }]
}

pub(crate) fn sides() -> Vec<Side> {
    vec![Side {
        name: SIDE,
        run: |here| alone::answer(here, tokio),
    }]
}

const SIDE: &str = "tokio/idle";

fn tokio(n: u64) -> Answer {
    let runtime = two_workers()?;
    let (awake, all) = std::sync::mpsc::channel();
    let senders: Vec<_> = (0..n)
        .map(|_| {
            let (sender, mut receiver) = mpsc::unbounded_channel::<()>();
            let awake = awake.clone();
            runtime.spawn(async move {
                while receiver.recv().await.is_some() {
                    let _ = awake.send(());
                }
            });
            sender
        })
        .collect();
    for sender in &senders {
        sender.send(())?;
    }
    for _ in 0..n {
        all.recv()?;
    }
    let measured = watch();
    std::mem::forget((runtime, senders));
    measured
}
