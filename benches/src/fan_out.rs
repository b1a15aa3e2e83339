//! `fan_out_8`: what does it cost to tell eight subscribers?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Slow subscribers miss samples*, which makes the publisher fast: every subscriber checks number
//!   and order, so only lossless forms pass. A peer that waits when a subscriber is full has room
//!   for 1024, `mproc` too; one that would drop has room for the whole run, and one without a bound
//!   has none.
//! - *Publishing is counted but delivery is not*: the stopwatch stops when the last subscriber has
//!   taken its last sample.
//! - *Samples and deliveries are mixed up*: the figure is per delivery, 8 for each sample.
//! - *Where the subscribers run decides*: always four on each of two threads, and the publisher is
//!   a plain thread.

use std::error::Error;

use mproc::{Cx, Handle, Node, Options, Processor, Topic, Topics as _};

use crate::{
    check::{END, Ordered, Outcome},
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// One publisher, eight subscribers.
pub const FAN_OUT_8: Question = Question {
    name: "fan_out_8",
    about: "1 publisher, 8 subscribers on 2 threads, nothing lost; ns per delivery",
};

/// How many subscribers there are.
pub const SUBSCRIBERS: u64 = 8;

/// How many threads they run on.
pub const THREADS: u64 = 2;

/// How many of them run on each thread.
pub const EACH: u64 = SUBSCRIBERS / THREADS;

/// How many samples a subscriber has room for where publishing waits.
pub const ROOM: usize = 1024;

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    vec![Workload {
        question: &FAN_OUT_8,
        who: MPROC,
        variant: "lossless",
        n: 800_000,
        run: mproc,
    }]
}

const SAMPLES: Topic<u64> = Topic::local("samples");

impl Processor for Ordered {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> mproc::Outcome<()> {
        cx.subscribe(&SAMPLES)
            .capacity(ROOM)
            .call(|subscriber, sample, _| {
                subscriber.take(*sample);
                Ok(())
            })?;
        Ok(())
    }
}

/// Asks whether a subscriber has started.
struct Started;

impl Handle<Started> for Ordered {
    type Reply = ();

    fn handle(&mut self, _: Started, _: &mut Cx<'_, Self>) -> mproc::Outcome<()> {
        Ok(())
    }
}

/// Subscriptions that wait, as they do by default, with as much room as those of the peers.
fn mproc(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let mut outcomes = Vec::new();
    for thread in 0..THREADS {
        let driver = node.driver(&format!("driver-{thread}"))?;
        let (subscribers, reports) = group();
        outcomes.extend(reports);
        for (index, subscriber) in subscribers.into_iter().enumerate() {
            let name = format!("subscriber-{thread}-{index}");
            driver.spawn(&name, subscriber)?.call(Started).wait()?;
        }
    }
    let publisher = node.publisher(&SAMPLES)?;
    measure(n, outcomes, |sample| {
        publisher
            .publish(sample)
            .expect("the subscribers make room in time");
    })
}

/// The subscribers of one thread, and what they will report.
pub type Group = (Vec<Ordered>, Vec<Outcome<Result<u64, String>>>);

/// Makes the subscribers of one thread.
pub fn group() -> Group {
    (0..EACH).map(|_| Ordered::new()).unzip()
}

/// Measures `n` deliveries: publishes an eighth of it on the calling thread.
///
/// # Errors
///
/// If a subscriber missed a sample or saw one out of order.
///
/// # Panics
///
/// If `n` is not a multiple of [`SUBSCRIBERS`].
pub fn measure(
    n: u64,
    outcomes: Vec<Outcome<Result<u64, String>>>,
    mut publish: impl FnMut(u64),
) -> Answer {
    assert!(
        n.is_multiple_of(SUBSCRIBERS),
        "{n} is not a multiple of {SUBSCRIBERS}"
    );
    assert_eq!(outcomes.len() as u64, SUBSCRIBERS, "subscribers");
    let samples = n / SUBSCRIBERS;

    let stopwatch = Stopwatch::start();
    for sample in 0..samples {
        publish(sample);
    }
    publish(END);
    let counts: Vec<_> = outcomes
        .iter()
        .map(Outcome::wait)
        .collect::<Result<_, Box<dyn Error>>>()?;
    let measured = stopwatch.stop();

    for count in counts {
        let count = count?;
        if count != samples {
            return Err(format!("a subscriber saw {count} samples of {samples}").into());
        }
    }
    Ok(measured)
}
