//! `send_1` and `send_4`: what does a message cost?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Starting threads is counted*: senders and receiver are at a gate before the stopwatch starts.
//! - *Sending is counted but receiving is not*: the stopwatch stops when the receiver has taken the
//!   last message, which for an unbounded queue may be long after it was sent.
//! - *A message is lost or doubled*: the receiver counts and sums.
//! - *The queue is never full, so the bound costs nothing*: the bound is 1024 and a run has hundreds
//!   of times as many messages; whichever side is slower, the other one meets the limit.
//! - *The backlog decides*: an unbounded queue whose sender is faster grows to many megabytes, and
//!   then memory is what is measured. That is so in life too, and alike for all peers, but it is why
//!   the range of `unbounded` is wide, and why its figure must not be compared with `bounded_1024`.

use std::{error::Error, thread};

use mproc::{Cx, Handle, MailboxOptions, Node, Options, Outcome, Processor};

use crate::{
    check::{END, Gate, Sink, Tally},
    harness::{Answer, Question, Workload},
    report::MPROC,
};

/// One sender.
pub const SEND_1: Question = Question {
    name: "send_1",
    about: "1 thread sends u64 to 1 receiver on another thread; ns per message",
};

/// Four senders.
pub const SEND_4: Question = Question {
    name: "send_4",
    about: "4 threads send u64 to 1 receiver on another thread, unbounded; ns per message",
};

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |question, variant, n, run| Workload {
        question,
        who: MPROC,
        variant,
        n,
        run,
    };
    vec![
        by(&SEND_1, "unbounded", 4_000_000, |n| {
            mproc(n, 1, MailboxOptions::unbounded())
        }),
        by(&SEND_1, "bounded_1024", 4_000_000, |n| {
            mproc(n, 1, MailboxOptions::bounded(1024))
        }),
        by(&SEND_4, "unbounded", 4_000_000, |n| {
            mproc(n, 4, MailboxOptions::unbounded())
        }),
        by(&SEND_4, "pool", 4_000_000, |n| mproc_on_pool(n, 4)),
    ]
}

impl Processor for Sink {}

impl Handle<u64> for Sink {
    type Reply = ();

    fn handle(&mut self, payload: u64, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.take(payload);
        Ok(())
    }
}

/// Plain threads send to a processor on a thread of its own.
fn mproc(n: u64, senders: u64, mailbox: MailboxOptions) -> Answer {
    let node = Node::with_options(Options::default());
    let (sink, outcome) = Sink::new(senders);
    let address = node.spawn_thread_with("sink", mailbox, sink)?;
    measure(
        n,
        senders,
        move |payload| address.send(payload).expect("the processor is there"),
        || outcome.wait(),
    )
}

/// Plain threads send to a processor on a pool of two.
fn mproc_on_pool(n: u64, senders: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let pool = node.pool("pool", 2)?;
    let (sink, outcome) = Sink::new(senders);
    let address = pool.spawn_with("sink", MailboxOptions::unbounded(), sink)?;
    measure(
        n,
        senders,
        move |payload| address.send(payload).expect("the processor is there"),
        || outcome.wait(),
    )
}

/// Measures `n` messages, in equal shares from this many `senders`.
///
/// Each sender is a thread with its own clone of `send`. `receive` is called on the calling thread;
/// it returns when it has seen [`END`] from each sender.
///
/// # Errors
///
/// If a sender failed or not every message arrived once.
///
/// # Panics
///
/// If `n` cannot be shared equally.
pub fn measure<S>(
    n: u64,
    senders: u64,
    send: S,
    receive: impl FnOnce() -> Result<Tally, Box<dyn Error>>,
) -> Answer
where
    S: FnMut(u64) + Clone + Send + 'static,
{
    assert!(
        n.is_multiple_of(senders),
        "{n} is not a multiple of {senders}"
    );
    let share = n / senders;
    let gate = Gate::new(usize::try_from(senders)?);
    let threads: Vec<_> = (0..senders)
        .map(|sender| {
            let gate = gate.clone();
            let mut send = send.clone();
            thread::spawn(move || {
                gate.pass();
                for payload in sender * share..(sender + 1) * share {
                    send(payload);
                }
                send(END);
            })
        })
        .collect();
    // What is left of a channel when its senders have failed is a closed one, and that ends `receive`.
    drop(send);

    let stopwatch = gate.open();
    let tally = receive()?;
    let measured = stopwatch.stop();

    for thread in threads {
        thread.join().map_err(|_| "a sender panicked")?;
    }
    tally.check(n)?;
    Ok(measured)
}

/// Takes payloads from `next` until each of `senders` has ended.
///
/// # Errors
///
/// If `next` does.
pub fn receive<E>(
    senders: u64,
    mut next: impl FnMut() -> Result<u64, E>,
) -> Result<Tally, Box<dyn Error>>
where
    E: Into<Box<dyn Error>>,
{
    let mut tally = Tally::default();
    loop {
        let payload = next().map_err(Into::into)?;
        if tally.take(payload) == Some(senders) {
            return Ok(tally);
        }
    }
}
