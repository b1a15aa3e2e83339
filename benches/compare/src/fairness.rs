//! `fairness` by tokio: a task for each, which takes from its channel.

use mproc_benches::{
    fairness::{ASKED, FAIRNESS, Flood, POOL, QUIET, Waits, measure},
    harness::{Answer, Workload},
};
use tokio::sync::mpsc;

use crate::executors::two_workers;

pub(crate) fn workloads() -> Vec<Workload> {
    vec![Workload {
        question: &FAIRNESS,
        who: "tokio",
        variant: POOL,
        n: ASKED,
        run: tokio,
    }]
}

fn tokio(n: u64) -> Answer {
    let runtime = two_workers()?;
    let (flood, waits) = (Flood::default(), Waits::default());
    let (to_flooded, mut receiver) = mpsc::unbounded_channel();
    let (itself, flooded) = (to_flooded.clone(), flood.clone());
    runtime.spawn(async move {
        while receiver.recv().await.is_some() {
            if flooded.work() {
                let _ = itself.send(());
            }
        }
    });
    let quiet: Vec<_> = (0..QUIET)
        .map(|_| {
            let (sender, mut receiver) = mpsc::channel(1024);
            let waits = waits.clone();
            runtime.spawn(async move {
                while let Some(due) = receiver.recv().await {
                    waits.note(due);
                }
            });
            sender
        })
        .collect();
    measure(
        n,
        &flood,
        &waits,
        || to_flooded.send(()).expect("the flooded task is there"),
        |number, due| {
            quiet[number]
                .try_send(due)
                .expect("the quiet task is there, and has room");
        },
    )
}
