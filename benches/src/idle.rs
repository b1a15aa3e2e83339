//! `idle`: what do very many processors cost that have nothing to do?
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *They have never been there*: each has handled a message before.
//! - *Others in the process do something*: each run has a process of its own ([`alone`]), and the one thread beside those of
//!   the pool sleeps. It is counted from after it went to sleep until before it wakes: its own sleep is one switch, and it is
//!   taken off.
//! - *Who looks sees only one thread*: the switches of all threads are added up.
//!
//! Time on the wall is the two seconds that nothing happened in; what counts is `switches` (per second, of the whole process)
//! and the CPU time.

use std::{
    error::Error,
    mem,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use mproc::{Cx, Handle, Node, Options, Outcome, Processor};

use crate::{
    alone::{self, switches},
    harness::{Answer, Question, Stopwatch, Workload},
    processes::Side,
    report::MPROC,
};

/// Nothing happens.
pub const IDLE: Question = Question {
    name: "idle",
    about: "processors of a pool of 2 do nothing for 2 s; context switches per second of the whole process (ns: the 2 s, shared among them)",
};

/// A million of them.
pub const MILLION: u64 = 1_000_000;
/// The variant.
pub const POOL: &str = "pool_of_2";

/// How long nothing happens.
const WATCHED: Duration = Duration::from_secs(2);
/// How long it may take until the threads have gone to sleep.
const SETTLED: Duration = Duration::from_millis(200);

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    vec![Workload {
        question: &IDLE,
        who: MPROC,
        variant: POOL,
        n: MILLION,
        run: |n| alone::ask(SIDE, n),
    }]
}

/// The other process.
pub fn sides() -> Vec<Side> {
    vec![Side {
        name: SIDE,
        run: |here| alone::answer(here, mproc),
    }]
}

const SIDE: &str = "mproc/idle";

struct Idler(mpsc::Sender<()>);

impl Processor for Idler {}

impl Handle<()> for Idler {
    type Reply = ();

    fn handle(&mut self, (): (), _: &mut Cx<'_, Self>) -> Outcome<()> {
        Ok(self.0.send(())?)
    }
}

fn mproc(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let pool = node.pool("pool", 2)?;
    let (awake, all) = mpsc::channel();
    let addresses: Vec<_> = (0..n)
        .map(|number| pool.spawn(&number.to_string(), Idler(awake.clone())))
        .collect::<Result<_, _>>()?;
    for address in &addresses {
        address.send(())?;
    }
    for _ in 0..n {
        all.recv()?;
    }
    let measured = watch();
    // They end with their process: ending a million in order takes longer than all the rest, and is not asked for.
    mem::forget((node, addresses));
    measured
}

/// Measures that nothing happens in this process.
///
/// # Errors
///
/// If the system does not tell how often threads were switched.
pub fn watch() -> Answer {
    settle()?;
    let before = switches()?;
    let stopwatch = Stopwatch::start();
    thread::sleep(WATCHED);
    let mut measured = stopwatch.stop();
    // This thread has gone to sleep once.
    let count = switches()?.saturating_sub(before + 1);
    measured.extra.switches = Some(count as f64 / WATCHED.as_secs_f64());
    Ok(measured)
}

/// Waits until a while has passed in which only this thread was switched, at most a few seconds: whoever never rests is
/// measured as it is.
fn settle() -> Result<(), Box<dyn Error>> {
    let deadline = Instant::now() + 10 * SETTLED;
    while Instant::now() < deadline {
        let before = switches()?;
        thread::sleep(SETTLED);
        if switches()? <= before + 1 {
            break;
        }
    }
    Ok(())
}
