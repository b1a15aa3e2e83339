//! Checks that the work was done, the same for `mproc` and every peer.
//!
//! Each check is a handful of instructions on the receiving side, so that it costs every peer the
//! same and next to nothing. A message that is lost must not hang the program either: an end
//! marker travels behind the messages, and whoever waits for a result waits [`LIMIT`] at most.

use std::{
    error::Error,
    sync::{Arc, Barrier, mpsc},
    time::Duration,
};

use crate::harness::Stopwatch;

/// The payload that says "no more from this sender". It is not counted as an operation.
pub const END: u64 = u64::MAX;

/// How long a result may take. A run takes less than a second, so this is reached only by a
/// workload that lost a message.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Makes the two ends that carry the result of a run out of a processor: the processor keeps the
/// [`Report`], the thread that measures keeps the [`Outcome`].
pub fn report<T>() -> (Report<T>, Outcome<T>) {
    // Room for one, and `try_send` below: reporting never waits.
    let (report, outcome) = mpsc::sync_channel(1);
    (Report(report), Outcome(outcome))
}

/// Carries the result of a run out of a processor.
#[derive(Debug, Clone)]
pub struct Report<T>(mpsc::SyncSender<T>);

impl<T> Report<T> {
    /// Gives the result. Only the first one counts.
    pub fn give(&self, result: T) {
        let _ = self.0.try_send(result);
    }
}

/// Waits for the result of a run.
#[derive(Debug)]
pub struct Outcome<T>(mpsc::Receiver<T>);

impl<T> Outcome<T> {
    /// Waits for the result.
    ///
    /// # Errors
    ///
    /// If there is none within [`LIMIT`], or if whoever should give it is gone.
    pub fn wait(&self) -> Result<T, Box<dyn Error>> {
        self.0
            .recv_timeout(LIMIT)
            .map_err(|error| format!("the receiving side gave no result: {error}").into())
    }
}

/// Counts and sums what arrives from several senders.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    count: u64,
    sum: u64,
    ends: u64,
}

impl Tally {
    /// Takes one payload and returns how many senders have ended, if this was an [`END`].
    #[inline]
    pub fn take(&mut self, payload: u64) -> Option<u64> {
        if payload == END {
            self.ends += 1;
            return Some(self.ends);
        }
        self.count += 1;
        self.sum = self.sum.wrapping_add(payload);
        None
    }

    /// Checks that each of `0..n` arrived.
    ///
    /// # Errors
    ///
    /// Says what arrived instead.
    pub fn check(&self, n: u64) -> Result<(), Box<dyn Error>> {
        let sum = (0..n).fold(0, u64::wrapping_add);
        if (self.count, self.sum) == (n, sum) {
            return Ok(());
        }
        Err(format!(
            "{} messages with sum {} arrived; {n} with sum {sum} were sent",
            self.count, self.sum
        )
        .into())
    }
}

/// A [`Tally`] that reports itself when all senders have ended: the state of a receiving processor.
#[derive(Debug)]
pub struct Sink {
    tally: Tally,
    senders: u64,
    report: Report<Tally>,
}

impl Sink {
    /// Makes a sink for this many senders.
    pub fn new(senders: u64) -> (Self, Outcome<Tally>) {
        let (report, outcome) = report();
        let sink = Self {
            tally: Tally::default(),
            senders,
            report,
        };
        (sink, outcome)
    }

    /// Takes one payload.
    #[inline]
    pub fn take(&mut self, payload: u64) {
        if self.tally.take(payload) == Some(self.senders) {
            self.report.give(self.tally);
        }
    }
}

/// Checks the order of what arrives from one publisher: the state of a subscribing processor.
#[derive(Debug)]
pub struct Ordered {
    next: u64,
    wrong: Option<u64>,
    report: Report<Result<u64, String>>,
}

impl Ordered {
    /// Expects 0, 1, 2 and so on, and then [`END`].
    pub fn new() -> (Self, Outcome<Result<u64, String>>) {
        let (report, outcome) = report();
        let ordered = Self {
            next: 0,
            wrong: None,
            report,
        };
        (ordered, outcome)
    }

    /// Takes one payload, and returns `true` if it was the last.
    #[inline]
    pub fn take(&mut self, payload: u64) -> bool {
        if payload == self.next {
            self.next += 1;
            return false;
        }
        self.unexpected(payload)
    }

    #[cold]
    fn unexpected(&mut self, payload: u64) -> bool {
        if payload != END {
            self.wrong.get_or_insert(payload);
            return false;
        }
        self.report.give(match self.wrong {
            None => Ok(self.next),
            Some(wrong) => Err(format!("{wrong} arrived instead of {}", self.next)),
        });
        true
    }
}

/// Lets threads begin at one moment, after all of them have been started.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Barrier>);

impl Gate {
    /// Makes a gate for this many threads beside the one that measures.
    pub fn new(threads: usize) -> Self {
        Self(Arc::new(Barrier::new(threads + 1)))
    }

    /// Waits until the measuring thread opens the gate.
    pub fn pass(&self) {
        // The first time everyone says "I am there", the second time they are let go. With one
        // barrier the threads could work for a while before the stopwatch starts.
        self.0.wait();
        self.0.wait();
    }

    /// Waits until all threads are at the gate, starts the stopwatch, and opens.
    pub fn open(&self) -> Stopwatch {
        self.0.wait();
        let stopwatch = Stopwatch::start();
        self.0.wait();
        stopwatch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tally_finds_a_lost_and_a_doubled_message() {
        let of = |payloads: &[u64]| {
            let mut tally = Tally::default();
            for &payload in payloads {
                tally.take(payload);
            }
            tally.check(4).is_ok()
        };
        assert!(of(&[0, 1, 2, 3, END]));
        assert!(of(&[2, 3, 0, 1, END]));
        assert!(!of(&[0, 1, 3, END]));
        assert!(!of(&[0, 1, 2, 2, END]));
        assert!(!of(&[0, 1, 2, 3, 3, END]));
    }

    #[test]
    fn sink_reports_when_every_sender_has_ended() {
        let (mut sink, outcome) = Sink::new(2);
        for payload in [0, 1, END, 2, END] {
            sink.take(payload);
        }
        outcome.wait().unwrap().check(3).unwrap();
    }

    #[test]
    fn ordered_reports_the_first_wrong_payload() {
        let (mut ordered, outcome) = Ordered::new();
        for payload in [0, 2, 1, END] {
            ordered.take(payload);
        }
        assert!(outcome.wait().unwrap().is_err());
    }
}
