//! `ring`: what does a hop cost where very little else is done?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Several tokens are under way*, and what is measured is how many hops fit side by side: there is one.
//! - *It goes another way*: the token carries the number of its hop, and each member knows which one is due to it.
//! - *The members are not there yet*: each has answered that it knows the next one before the token starts.
//!
//! A pool may keep the token on one thread, and a good one does: there is never anything that a second thread could do meanwhile.
//! So this is no figure of a hand-over between threads. Waking a second thread for nothing is what it punishes.

use std::error::Error;

use mproc::{Address, Cx, Handle, Node, Options, Processor};

use crate::{
    check::{Outcome, Report, report},
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// A token goes around.
pub const RING: Question = Question {
    name: "ring",
    about: "1 token goes 1000 times around 1000 processors, each of which sends it on; ns per hop",
};

/// Members of the ring.
pub const SIZE: u64 = 1000;
/// On a pool, or an executor, of two threads.
pub const POOL: &str = "pool_of_2";
/// On one driver, executor or arbiter of one thread.
pub const ONE_THREAD: &str = "one_thread";

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |variant, run| Workload {
        question: &RING,
        who: MPROC,
        variant,
        n: 1_000_000,
        run,
    };
    vec![
        by(POOL, |n| {
            let node = Node::with_options(Options::default());
            let pool = node.pool("pool", 2)?;
            mproc(n, |name, seat| Ok(pool.spawn(name, seat)?))
        }),
        by(ONE_THREAD, |n| {
            let node = Node::with_options(Options::default());
            let driver = node.driver("driver")?;
            mproc(n, |name, seat| Ok(driver.spawn(name, seat)?))
        }),
    ]
}

struct Seat {
    member: Member,
    next: Option<Address<Self>>,
}

struct Meet(Address<Seat>);

impl Processor for Seat {}

impl Handle<Meet> for Seat {
    type Reply = ();

    fn handle(&mut self, Meet(next): Meet, _: &mut Cx<'_, Self>) -> mproc::Outcome<()> {
        self.next = Some(next);
        Ok(())
    }
}

impl Handle<u64> for Seat {
    type Reply = ();

    fn handle(&mut self, hop: u64, _: &mut Cx<'_, Self>) -> mproc::Outcome<()> {
        if let (Some(hop), Some(next)) = (self.member.take(hop), &self.next) {
            next.send(hop).expect("the next member is there");
        }
        Ok(())
    }
}

fn mproc(n: u64, spawn: impl Fn(&str, Seat) -> Result<Address<Seat>, Box<dyn Error>>) -> Answer {
    let (members, outcome) = Member::ring(n);
    let seats: Vec<_> = members
        .into_iter()
        .enumerate()
        .map(|(index, member)| {
            let seat = Seat { member, next: None };
            spawn(&format!("member {index}"), seat)
        })
        .collect::<Result<_, _>>()?;
    for (seat, next) in seats.iter().zip(seats.iter().cycle().skip(1)) {
        seat.call(Meet(next.clone())).wait()?;
    }
    measure(&outcome, || {
        seats[0].send(0_u64).expect("the first member is there");
    })
}

/// The state of a processor in the ring.
#[derive(Debug)]
pub struct Member {
    due: u64,
    last: u64,
    report: Report<Result<(), String>>,
}

impl Member {
    /// Makes the members of a ring through which a token makes `n` hops. The first one is given hop 0.
    pub fn ring(n: u64) -> (Vec<Self>, Outcome<Result<(), String>>) {
        let (report, outcome) = report();
        let member = |due| Self {
            due,
            last: n,
            report: report.clone(),
        };
        ((0..SIZE).map(member).collect(), outcome)
    }

    /// Takes the token, and returns it as it goes on, if it does.
    #[inline]
    pub fn take(&mut self, hop: u64) -> Option<u64> {
        if hop != self.due {
            let due = self.due;
            self.report
                .give(Err(format!("hop {hop} came, {due} was due")));
            return None;
        }
        if hop == self.last {
            self.report.give(Ok(()));
            return None;
        }
        self.due += SIZE;
        Some(hop + 1)
    }
}

/// Measures the way of the token; `start` gives hop 0 to the first member.
///
/// # Errors
///
/// If the token was lost or came out of order.
pub fn measure(outcome: &Outcome<Result<(), String>>, start: impl FnOnce()) -> Answer {
    let stopwatch = Stopwatch::start();
    start();
    let way = outcome.wait()?;
    let measured = stopwatch.stop();
    way?;
    Ok(measured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_that_skips_a_member_is_found() {
        let (mut members, outcome) = Member::ring(10);
        assert_eq!(members[0].take(0), Some(1));
        assert_eq!(members[2].take(1), None);
        assert!(outcome.wait().unwrap().is_err());
    }
}
