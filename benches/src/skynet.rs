//! `skynet`: what does a tree of processors cost that spawn each other?
//!
//! Each processor spawns ten, which spawn ten each, and so on down to the leaves. A leaf sends its number to who spawned it; all
//! others send on the sum of ten. Each ends when it has sent.
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Something is not spawned, or counted twice*: the sum that arrives at the top is checked.
//! - *The leaves are no processors*: they are spawned, started and ended as all others, with a name in `mproc`.
//! - *Ending is left out*: it is only in part. Those that end late do so after the stopwatch stopped; a run waits for them
//!   before the next one begins.
//!
//! Nanoseconds for each of a million leaves are milliseconds in total.

use std::error::Error;

use mproc::{Address, Cx, Fault, Handle, Node, Options, Outcome, Pool, Processor};

use crate::{
    check::{self, Report, report},
    harness::{Answer, Question, Stopwatch, Workload},
    report::MPROC,
};

/// A tree grows and adds up.
pub const SKYNET: Question = Question {
    name: "skynet",
    about: "a tree of processors, 10 children each, adds up the numbers of its leaves; ns per leaf (with 1M leaves: ms in total)",
};

/// Children of each.
pub const CHILDREN: u64 = 10;
/// The variant with a million leaves.
pub const MILLION_NAME: &str = "1M leaves";
/// The variant for those that need too much memory for a million.
pub const HUNDRED_K_NAME: &str = "100k leaves";

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |variant, n| Workload {
        question: &SKYNET,
        who: MPROC,
        variant,
        n,
        run: mproc,
    };
    vec![by(MILLION_NAME, 1_000_000), by(HUNDRED_K_NAME, 100_000)]
}

/// Whom a processor tells its sum.
enum Above {
    Parent(Address<Branch>),
    Top(Report<u64>),
}

/// A leaf, or a sum of ten.
struct Branch {
    above: Above,
    pool: Pool,
    tally: Tally,
}

/// Grows the tree below, of which `first` is the first leaf and which has `leaves` of them.
struct Grow {
    first: u64,
    leaves: u64,
}

struct Sum(u64);

impl Processor for Branch {}

impl Branch {
    fn tell(&self, sum: u64, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        match &self.above {
            Above::Parent(parent) => parent
                .send(Sum(sum))
                .map_err(|error| Fault::new(error.to_string()))?,
            Above::Top(report) => report.give(sum),
        }
        cx.stop();
        Ok(())
    }
}

impl Handle<Grow> for Branch {
    type Reply = ();

    fn handle(&mut self, Grow { first, leaves }: Grow, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if leaves == 1 {
            return self.tell(first, cx);
        }
        let leaves = leaves / CHILDREN;
        for child in 0..CHILDREN {
            let first = first + child * leaves;
            let branch = Self {
                above: Above::Parent(cx.me()),
                pool: self.pool.clone(),
                tally: Tally::default(),
            };
            let child = self.pool.spawn(&format!("{leaves} from {first}"), branch)?;
            child
                .send(Grow { first, leaves })
                .map_err(|error| Fault::new(error.to_string()))?;
        }
        Ok(())
    }
}

impl Handle<Sum> for Branch {
    type Reply = ();

    fn handle(&mut self, Sum(sum): Sum, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        match self.tally.add(sum) {
            Some(sum) => self.tell(sum, cx),
            None => Ok(()),
        }
    }
}

fn mproc(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let pool = node.pool("pool", 2)?;
    let (report, outcome) = report();
    let root = pool.spawn(
        "root",
        Branch {
            above: Above::Top(report),
            pool: pool.clone(),
            tally: Tally::default(),
        },
    )?;
    measure(n, &outcome, || {
        root.send(Grow {
            first: 0,
            leaves: n,
        })
        .expect("the root is there");
    })
}

/// Adds up what the children say.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    sum: u64,
    children: u64,
}

impl Tally {
    /// Adds the sum of one child, and returns the sum of all if this was the last.
    #[inline]
    pub fn add(&mut self, sum: u64) -> Option<u64> {
        self.sum += sum;
        self.children += 1;
        (self.children == CHILDREN).then_some(self.sum)
    }
}

/// Measures a tree of `n` leaves; `grow` starts it.
///
/// # Errors
///
/// If the sum is wrong.
pub fn measure(n: u64, outcome: &check::Outcome<u64>, grow: impl FnOnce()) -> Answer {
    let stopwatch = Stopwatch::start();
    grow();
    let sum = outcome.wait()?;
    let measured = stopwatch.stop();
    check(n, sum)?;
    Ok(measured)
}

/// Checks the sum of all leaves.
///
/// # Errors
///
/// If it is wrong.
pub fn check(n: u64, sum: u64) -> Result<(), Box<dyn Error>> {
    let expected = n * (n - 1) / 2;
    if sum == expected {
        return Ok(());
    }
    Err(format!("the sum of {n} leaves is {sum}, not {expected}").into())
}
