//! Topics: payloads there and an acknowledgement back, and as many as possible; within the process and between two.

use super::figures::{RoundTrip, histogram};
use super::payload::{Seen, fill, words};
use crate::failure::{Code, Failure, Outcome};
use mproc::{
    DomainOptions, Error, Node, Options, Publisher, Sample, Subscription, SubscriptionOptions,
    Topic,
};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const PLAIN: Topic<[u64]> = Topic::slices("bench/plain");
const PLAIN_ANSWERS: Topic<[u64]> = Topic::slices("bench/plain/answers");
const SERDE: Topic<Vec<u64>> = Topic::new("bench/serde");
const SERDE_ANSWERS: Topic<[u64]> = Topic::slices("bench/serde/answers");

/// For what happens at once if anything works.
const LIMIT: Duration = Duration::from_secs(10);

/// How values travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Serde,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Serde];
}

enum Values {
    Plain(Publisher<[u64]>),
    Serde(Publisher<Vec<u64>>),
}

/// From this thread to a reader elsewhere, and back.
pub(crate) struct Line {
    values: Values,
    answers: Subscription<[u64]>,
    sent: u64,
}

/// Reads until the node ends, and answers. The second argument gives the words of a sample.
fn read<T: ?Sized + Send + Sync + 'static>(
    node: &Node,
    topic: &Topic<T>,
    answers: &Topic<[u64]>,
    words_of: fn(&T) -> &[u64],
) -> Result<(), Error> {
    let answers = node.publisher(answers)?;
    let values = node.subscription_with(topic, SubscriptionOptions::new().capacity(64))?;
    thread::spawn(move || {
        // An answer that comes before anybody listens would be missed.
        if answers.wait_for_subscribers(1, LIMIT).is_err() {
            return;
        }
        let mut seen = Seen::default();
        for sample in values.iter() {
            let sample: Sample<T> = sample;
            let answer = seen.take(words_of(&sample));
            drop(sample);
            let Some(answer) = answer else { continue };
            let Ok(mut loan) = answers.loan(answer.len()) else {
                return;
            };
            loan.copy_from_slice(&answer);
            if loan.publish().is_err() {
                return;
            }
        }
    });
    Ok(())
}

/// Starts the readers of a node.
pub(crate) fn readers(node: &Node) -> Result<(), Error> {
    read(node, &PLAIN, &PLAIN_ANSWERS, |words| words)?;
    read(node, &SERDE, &SERDE_ANSWERS, |words| words)
}

/// The domain of a run, which nobody else has.
pub(crate) fn domain(directory: &Path) -> Result<DomainOptions, Error> {
    Ok(DomainOptions::new("bench")?.directory(directory))
}

/// A node of this process alone, with its readers.
pub(crate) fn node_here() -> Outcome<Node> {
    let node = Node::with_options(Options::default());
    readers(&node)?;
    Ok(node)
}

fn wrong(text: impl Into<String>) -> Failure {
    Failure::new(Code::Failed, text)
}

impl Line {
    /// To the reader that there is on `node`, or in another process of its domain.
    pub(crate) fn new(node: &Node, kind: Kind) -> Outcome<Self> {
        let answers = match kind {
            Kind::Plain => &PLAIN_ANSWERS,
            Kind::Serde => &SERDE_ANSWERS,
        };
        let answers = node.subscription(answers)?;
        let values = match kind {
            Kind::Plain => Values::Plain(node.publisher(&PLAIN)?),
            Kind::Serde => Values::Serde(node.publisher(&SERDE)?),
        };
        match &values {
            Values::Plain(publisher) => publisher.wait_for_subscribers(1, LIMIT)?,
            Values::Serde(publisher) => publisher.wait_for_subscribers(1, LIMIT)?,
        }
        answers.wait_for_publishers(1, LIMIT)?;
        Ok(Self {
            values,
            answers,
            sent: 0,
        })
    }

    fn publish(&mut self, bytes: usize, wants_answer: bool) -> Outcome {
        self.sent += 1;
        let count = words(bytes);
        let delivered = match &self.values {
            Values::Plain(publisher) => {
                let mut loan = publisher.loan(count)?;
                fill(&mut loan, self.sent, wants_answer);
                loan.publish().map_err(Error::from)?
            }
            Values::Serde(publisher) => {
                let mut value = vec![0; count];
                fill(&mut value, self.sent, wants_answer);
                publisher.publish(value).map_err(Error::from)?
            }
        };
        match delivered.count {
            1 => Ok(()),
            n => Err(wrong(format!(
                "a value went to {n} readers, and there is one"
            ))),
        }
    }

    /// Waits for the answer to what was sent last, which says whether all came as it was sent.
    fn answer(&mut self) -> Outcome {
        let answer = self
            .answers
            .recv_timeout(LIMIT)
            .map_err(|error| wrong(format!("the reader has not answered: {error}")))?;
        match *answer {
            [sequence, count, 0] if sequence == self.sent && count == self.sent => Ok(()),
            _ => Err(wrong(format!(
                "{} values were sent, and the reader says of number, count and wrong ones: {:?}",
                self.sent, &*answer
            ))),
        }
    }

    /// A payload of this size there, and the answer back, again and again.
    pub(crate) fn there_and_back(&mut self, bytes: usize, time: Duration) -> Outcome<RoundTrip> {
        let mut times = histogram();
        let end = Instant::now() + time;
        loop {
            let began = Instant::now();
            self.publish(bytes, true)?;
            self.answer()?;
            let now = Instant::now();
            let ns = now.duration_since(began).as_nanos();
            times.saturating_record(u64::try_from(ns).unwrap_or(u64::MAX));
            if now >= end {
                return Ok(RoundTrip::of(&times));
            }
        }
    }

    /// As many payloads of this size as go, all of them read: values per second.
    pub(crate) fn stream(&mut self, bytes: usize, time: Duration) -> Outcome<u64> {
        let began = Instant::now();
        let first = self.sent;
        while began.elapsed() < time {
            self.publish(bytes, false)?;
        }
        self.publish(bytes, true)?;
        self.answer()?;
        let seconds = began.elapsed().as_secs_f64();
        // However slow it is, a value took less than for ever.
        Ok((((self.sent - first) as f64 / seconds) as u64).max(1))
    }
}
