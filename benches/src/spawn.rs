//! `spawn`: what do very many processors cost, in time and in memory?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Spawning only begins*: it may return long before the processor is there. So the stopwatch stops when each has handled a
//!   message of its own, and checks that it was its own.
//! - *They do not live at once*: all are spawned before the first is sent to, and stopped only when all have handled theirs.
//! - *Some never end*: each counts its drop, and a run waits until all are dropped. `100k_to_end` counts that time as well.
//! - *The allocator has memory from before*: each run has a process of its own ([`alone`]). Bytes are what the private memory of
//!   that process grew by (`RssAnon`, so pages, heap and whatever else), when each has handled its message and all are idle. The
//!   list of addresses that the spawning thread keeps is in it, since nobody keeps a processor without one.
//! - *Not the same is bought*: the processors of `mproc` have names, which are checked to be unique and can be looked up. Actors
//!   of peers are measured without, as that is cheaper where they could have them.

use std::{
    error::Error,
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::Instant,
};

use mproc::{Cx, Handle, Node, Options, Outcome, Processor};

use crate::{
    alone::{self, resident},
    check::LIMIT,
    harness::{Answer, Question, Stopwatch, Workload},
    processes::Side,
    report::MPROC,
};

/// Spawning, first messages, memory.
pub const SPAWN: Question = Question {
    name: "spawn",
    about: "processors are spawned, all live at once, each has handled one message; ns and bytes (private memory of the process) per processor",
};

/// A hundred thousand.
pub const HUNDRED_K: u64 = 100_000;
/// A million.
pub const MILLION: u64 = 1_000_000;

/// The variant that stops when each has handled its message.
pub const HUNDRED_K_NAME: &str = "100k";
/// The same with a million.
pub const MILLION_NAME: &str = "1M";
/// The variant that stops when all have been dropped.
pub const TO_END_NAME: &str = "100k_to_end";

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    let by = |variant, n, run| Workload {
        question: &SPAWN,
        who: MPROC,
        variant,
        n,
        run,
    };
    vec![
        by(HUNDRED_K_NAME, HUNDRED_K, |n| alone::ask(SIDE, n)),
        by(MILLION_NAME, MILLION, |n| alone::ask(SIDE, n)),
        by(TO_END_NAME, HUNDRED_K, |n| alone::ask(SIDE_TO_END, n)),
    ]
}

/// The other processes.
pub fn sides() -> Vec<Side> {
    vec![
        Side {
            name: SIDE,
            run: |here| alone::answer(here, |n| mproc(n, Until::Handled)),
        },
        Side {
            name: SIDE_TO_END,
            run: |here| alone::answer(here, |n| mproc(n, Until::Ended)),
        },
    ]
}

const SIDE: &str = "mproc/spawn";
const SIDE_TO_END: &str = "mproc/spawn_to_end";

impl Processor for One {}

impl Handle<u64> for One {
    type Reply = ();

    fn handle(&mut self, number: u64, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.take(number);
        Ok(())
    }
}

/// On a pool of two threads.
fn mproc(n: u64, until: Until) -> Answer {
    let node = Node::with_options(Options::default());
    let pool = node.pool("pool", 2)?;
    measure(
        n,
        until,
        || {
            (0..n)
                .map(|number| Ok(pool.spawn(&number.to_string(), One::new(number))?))
                .collect()
        },
        |address, number| Ok(address.send(number)?),
        |address| address.stop(),
    )
}

/// When the stopwatch stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Each has handled its message.
    Handled,
    /// Each has been stopped and dropped.
    Ended,
}

/// One of very many: the state of a processor.
#[derive(Debug)]
pub struct One {
    number: u64,
}

/// What all of them have done. They are alone in their process.
static HANDLED: Count = Count::new();
static ENDED: Count = Count::new();
static WRONG: AtomicU64 = AtomicU64::new(0);

impl One {
    /// The one with this number.
    pub fn new(number: u64) -> Self {
        Self { number }
    }

    /// Takes the message, which is the same number.
    #[inline]
    pub fn take(&mut self, number: u64) {
        if number != self.number {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
        HANDLED.add();
    }
}

impl Drop for One {
    fn drop(&mut self) {
        ENDED.add();
    }
}

/// Counts up to a number that one thread waits for.
struct Count {
    count: AtomicU64,
    waits: OnceLock<(u64, Thread)>,
}

impl Count {
    const fn new() -> Self {
        Self {
            count: AtomicU64::new(0),
            waits: OnceLock::new(),
        }
    }

    /// Says who waits for what.
    fn expect(&self, n: u64) {
        self.waits.get_or_init(|| (n, thread::current()));
    }

    #[inline]
    fn add(&self) {
        // Release: whoever sees the count sees what was done before.
        let count = self.count.fetch_add(1, Ordering::Release) + 1;
        if let Some((n, thread)) = self.waits.get()
            && count == *n
        {
            thread.unpark();
        }
    }

    /// Waits until it has got there, at most [`LIMIT`].
    fn wait(&self, what: &str) -> Result<(), Box<dyn Error>> {
        let (n, _) = *self.waits.get().ok_or("nobody said what to wait for")?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let count = self.count.load(Ordering::Acquire);
            if count == n {
                return Ok(());
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if count > n || rest.is_zero() {
                return Err(format!("{count} of {n} {what}").into());
            }
            thread::park_timeout(rest);
        }
    }
}

/// Measures `n` lives, in a process that measures nothing else.
///
/// `spawn_all` returns what each is reached by, in order of their numbers; `tell` sends one its number; `stop` ends one.
///
/// # Errors
///
/// If not each has handled its number once, and ended once.
pub fn measure<A>(
    n: u64,
    until: Until,
    spawn_all: impl FnOnce() -> Result<Vec<A>, Box<dyn Error>>,
    mut tell: impl FnMut(&A, u64) -> Result<(), Box<dyn Error>>,
    mut stop: impl FnMut(A),
) -> Answer {
    HANDLED.expect(n);
    ENDED.expect(n);
    let before = resident()?;
    let stopwatch = Stopwatch::start();
    let all = spawn_all()?;
    if all.len() as u64 != n {
        return Err(format!("{} of {n} were spawned", all.len()).into());
    }
    for (one, number) in all.iter().zip(0..) {
        tell(one, number)?;
    }
    HANDLED.wait("have handled their message")?;
    let handled = match until {
        Until::Handled => Ok(stopwatch.stop()),
        Until::Ended => Err(stopwatch),
    };
    let bytes = resident()?.saturating_sub(before) as f64 / n as f64;
    for one in all {
        stop(one);
    }
    ENDED.wait("have ended")?;
    let mut measured = handled.unwrap_or_else(Stopwatch::stop);
    let wrong = WRONG.load(Ordering::Relaxed);
    if wrong > 0 {
        return Err(format!("{wrong} of {n} got the message of another").into());
    }
    HANDLED.wait("have handled their message")?;
    measured.extra.bytes = Some(bytes);
    Ok(measured)
}
