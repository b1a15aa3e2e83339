//! `fan_out_8` by the peers.

use std::{error::Error, thread};

use mproc_benches::{
    check::{Ordered, Outcome},
    fan_out::{EACH, FAN_OUT_8, ROOM, SUBSCRIBERS, THREADS, group, measure},
    harness::{Answer, Workload},
};

use crate::{
    actors::{self, Number},
    executors::{ActixThreads, TokioThread},
};

pub(crate) fn workloads() -> Vec<Workload> {
    let by = |who, n, run| Workload {
        question: &FAN_OUT_8,
        who,
        variant: "lossless",
        n,
        run,
    };
    vec![
        by("crossbeam", 8_000_000, crossbeam),
        by("std", 8_000_000, std),
        by("kanal", 2_000_000, kanal),
        by("flume", 2_000_000, flume),
        by("tokio", 6_000_000, tokio),
        by("kameo", 800_000, kameo),
        by("ractor", 800_000, ractor),
        by("actix", 800_000, actix),
    ]
}

/// A channel for each subscriber. `make` makes one: its sending and its receiving function.
///
/// A thread asks its four channels in a circle, and waits at each. That is the best form where all
/// get the same samples; a program that could not count on it would need a `select`.
fn channels<S, R, E>(n: u64, make: impl Fn() -> (S, R)) -> Answer
where
    S: FnMut(u64),
    R: FnMut() -> Result<u64, E> + Send + 'static,
{
    let mut senders = Vec::new();
    let mut outcomes = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let (subscribers, reports) = group();
        outcomes.extend(reports);
        let mut ends = Vec::new();
        for subscriber in subscribers {
            let (sender, receiver) = make();
            senders.push(sender);
            ends.push((subscriber, receiver));
        }
        threads.push(thread::spawn(move || take_in_turn(ends)));
    }
    let measured = measure(n, outcomes, |sample| {
        for send in &mut senders {
            send(sample);
        }
    })?;
    drop(senders);
    for thread in threads {
        thread.join().map_err(|_| "a subscriber panicked")?;
    }
    Ok(measured)
}

fn take_in_turn<R, E>(mut ends: Vec<(Ordered, R)>)
where
    R: FnMut() -> Result<u64, E>,
{
    loop {
        let mut last = false;
        for (subscriber, receive) in &mut ends {
            match receive() {
                Ok(sample) => last |= subscriber.take(sample),
                Err(_) => return,
            }
        }
        if last {
            return;
        }
    }
}

fn crossbeam(n: u64) -> Answer {
    channels(n, || {
        let (sender, receiver) = crossbeam_channel::bounded(ROOM);
        (
            move |sample| sender.send(sample).expect("the subscriber is there"),
            move || receiver.recv(),
        )
    })
}

fn std(n: u64) -> Answer {
    channels(n, || {
        let (sender, receiver) = std::sync::mpsc::sync_channel(ROOM);
        (
            move |sample| sender.send(sample).expect("the subscriber is there"),
            move || receiver.recv(),
        )
    })
}

fn kanal(n: u64) -> Answer {
    channels(n, || {
        let (sender, receiver) = kanal::bounded(ROOM);
        (
            move |sample| sender.send(sample).expect("the subscriber is there"),
            move || receiver.recv(),
        )
    })
}

fn flume(n: u64) -> Answer {
    channels(n, || {
        let (sender, receiver) = flume::bounded(ROOM);
        (
            move |sample| sender.send(sample).expect("the subscriber is there"),
            move || receiver.recv(),
        )
    })
}

/// `broadcast` never waits: it drops what is oldest. So it has room for all samples of the run.
fn tokio(n: u64) -> Answer {
    use tokio::sync::broadcast;

    let room = usize::try_from(n / SUBSCRIBERS)? + 1;
    let (sender, _) = broadcast::channel(room);
    let there: Vec<_> = (0..THREADS).map(|_| TokioThread::start()).collect();
    let mut outcomes = Vec::new();
    for thread in &there {
        let (subscribers, reports) = group();
        outcomes.extend(reports);
        for mut subscriber in subscribers {
            let mut receiver = sender.subscribe();
            thread.handle().spawn(async move {
                while let Ok(sample) = receiver.recv().await {
                    subscriber.take(sample);
                }
            });
        }
    }
    measure(n, outcomes, |sample| {
        sender.send(sample).expect("the subscribers are there");
    })
}

/// Actors, and a loop over their addresses. `start` starts an actor on the thread with this index
/// and returns the function that sends to it.
fn actors<S: FnMut(u64)>(
    n: u64,
    mut start: impl FnMut(usize, Ordered) -> Result<S, Box<dyn Error>>,
) -> Answer {
    let mut senders = Vec::new();
    let mut outcomes: Vec<Outcome<_>> = Vec::new();
    for thread in 0..usize::try_from(THREADS)? {
        let (subscribers, reports) = group();
        outcomes.extend(reports);
        for subscriber in subscribers {
            senders.push(start(thread, subscriber)?);
        }
    }
    assert_eq!(senders.len() as u64, EACH * THREADS);
    measure(n, outcomes, |sample| {
        for send in &mut senders {
            send(sample);
        }
    })
}

/// A loop over mailboxes without a bound, which was twice as fast here as `blocking_send` to bounded
/// ones. The crate `kameo_actors` has a `PubSub` actor instead, a second hop; it is not measured here.
fn kameo(n: u64) -> Answer {
    let there: Vec<_> = (0..THREADS).map(|_| TokioThread::start()).collect();
    actors(n, |thread, mut subscriber| {
        let actor = actors::kameo::start(there[thread].handle(), None, move |sample| {
            subscriber.take(sample);
        });
        Ok(move |sample| {
            actor
                .tell(Number(sample))
                .try_send()
                .expect("the actor is there");
        })
    })
}

/// An `OutputPort` of the second version, which loses nothing. It is served by a task on the first
/// of the two threads.
fn ractor(n: u64) -> Answer {
    let there: Vec<_> = (0..THREADS).map(|_| TokioThread::start()).collect();
    let port = {
        let _on = there[0].handle().enter();
        ractor::OutputPort::<u64>::default()
    };
    let mut outcomes = Vec::new();
    for thread in &there {
        let (subscribers, reports) = group();
        outcomes.extend(reports);
        for mut subscriber in subscribers {
            let actor = actors::ractor::start(thread.handle(), move |sample| {
                subscriber.take(sample);
            })?;
            port.subscribe(actor, Some);
        }
    }
    measure(n, outcomes, |sample| port.send(sample))
}

/// actix keeps no list of subscribers in its core, so the publisher loops.
fn actix(n: u64) -> Answer {
    let there = ActixThreads::start(usize::try_from(THREADS)?);
    actors(n, |thread, mut subscriber| {
        let actor = actors::actix::start(there.arbiter(thread), ROOM, move |sample| {
            subscriber.take(sample);
        });
        Ok(move |sample| actor.do_send(Number(sample)))
    })
}
