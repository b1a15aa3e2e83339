//! `fairness`: how long do quiet processors wait beside one that never stops?
//!
//! One processor has 1000 messages at any time: for each that it handles, which takes 5 µs, it sends itself another. A hundred
//! others are asked in turn, a thousand times a second, and say how long the question was under way. All are on two threads.
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *Who asks waits for the answer*, and asks less while it is slow: questions are due at fixed times, whatever became of the last
//!   one, and the wait is counted from when the question was due.
//! - *Who asks is late itself*: it sleeps until shortly before, and then spins.
//! - *The flood dries up*: it is counted, and a run fails if the flooded processor had less than a tenth of one core.
//! - *A third thread competes for two cores*: the one that asks does, a little. It is the same for all.

use std::{
    error::Error,
    hint,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use mproc::{Cx, Fault, Handle, MailboxOptions, Node, Options, Outcome, Processor};

use crate::{
    check::LIMIT,
    harness::{Answer, Extra, Question, Stopwatch, Workload},
    report::MPROC,
};

/// A flood, and a hundred that are quiet.
pub const FAIRNESS: Question = Question {
    name: "fairness",
    about: "1 processor is flooded, 100 quiet ones on the same 2 threads are asked 1000 times a second; ns from when a question was due until it was handled: mean, p50, p99",
};

/// Quiet ones.
pub const QUIET: usize = 100;
/// Messages that the flooded one has at any time.
pub const FLOOD: u64 = 1000;
/// On a pool, or an executor, of two threads.
pub const POOL: &str = "pool_of_2";
/// How many questions make a run: a second of them.
pub const ASKED: u64 = 1000;

/// How long the flooded one takes for a message.
const WORK: Duration = Duration::from_micros(5);
/// Between two questions.
const PERIOD: Duration = Duration::from_millis(1);
/// How long before its time who asks wakes up: the system wakes sleepers late.
const EARLY: Duration = Duration::from_micros(150);

/// Returns the answers of `mproc`.
pub fn workloads() -> Vec<Workload> {
    vec![Workload {
        question: &FAIRNESS,
        who: MPROC,
        variant: POOL,
        n: ASKED,
        run: mproc,
    }]
}

struct Flooded(Flood);

/// One drop of the flood.
struct Drop;

impl Processor for Flooded {}

impl Handle<Drop> for Flooded {
    type Reply = ();

    fn handle(&mut self, drop: Drop, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if self.0.work() {
            let sent = cx.me().send(drop);
            sent.map_err(|error| Fault::new(error.to_string()))?;
        }
        Ok(())
    }
}

struct Quiet(Waits);

impl Processor for Quiet {}

impl Handle<Instant> for Quiet {
    type Reply = ();

    fn handle(&mut self, due: Instant, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.note(due);
        Ok(())
    }
}

fn mproc(n: u64) -> Answer {
    let node = Node::with_options(Options::default());
    let pool = node.pool("pool", 2)?;
    let (flood, waits) = (Flood::default(), Waits::default());
    let flooded = pool.spawn_with(
        "flooded",
        MailboxOptions::unbounded(),
        Flooded(flood.clone()),
    )?;
    let quiet: Vec<_> = (0..QUIET)
        .map(|number| pool.spawn(&format!("quiet {number}"), Quiet(waits.clone())))
        .collect::<Result<_, _>>()?;
    measure(
        n,
        &flood,
        &waits,
        || flooded.send(Drop).expect("the flooded processor is there"),
        |number, due| {
            quiet[number]
                .send(due)
                .expect("the quiet processor is there")
        },
    )
}

/// What the flooded processor does.
#[derive(Debug, Clone, Default)]
pub struct Flood {
    handled: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Flood {
    /// Works for a moment. Returns whether the flood goes on.
    pub fn work(&self) -> bool {
        let until = Instant::now() + WORK;
        while Instant::now() < until {
            hint::spin_loop();
        }
        self.handled.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }
}

/// What the quiet ones have measured.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Mutex<Vec<u64>>>);

impl Waits {
    /// Notes that a question has come that was due then.
    pub fn note(&self, due: Instant) {
        let wait = due.elapsed();
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.0.lock().expect("nobody panics with it").push(wait);
    }

    fn len(&self) -> u64 {
        self.0.lock().expect("nobody panics with it").len() as u64
    }
}

/// Measures `n` questions. `flood` sends one drop to the flooded processor; `ask` sends a quiet one the time that was due.
///
/// # Errors
///
/// If a question was lost, or there was no flood.
pub fn measure(
    n: u64,
    flood: &Flood,
    waits: &Waits,
    mut send_drop: impl FnMut(),
    mut ask: impl FnMut(usize, Instant),
) -> Answer {
    for _ in 0..FLOOD {
        send_drop();
    }
    let stopwatch = Stopwatch::start();
    let start = Instant::now();
    let flood_before = flood.handled.load(Ordering::Relaxed);
    let mut due = start;
    for question in 0..n {
        due += PERIOD;
        let early = (due - EARLY).saturating_duration_since(Instant::now());
        if !early.is_zero() {
            thread::sleep(early);
        }
        while Instant::now() < due {
            hint::spin_loop();
        }
        ask(usize::try_from(question)? % QUIET, due);
    }
    let deadline = Instant::now() + LIMIT;
    while waits.len() < n && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let handled = flood.handled.load(Ordering::Relaxed) - flood_before;
    let took = start.elapsed();
    flood.over.store(true, Ordering::Relaxed);
    let measured = stopwatch.stop();

    let waits = std::mem::take(&mut *waits.0.lock().map_err(|_| "a quiet one panicked")?);
    if waits.len() as u64 != n {
        return Err(format!("{} of {n} questions arrived", waits.len()).into());
    }
    let least = took.as_nanos() / WORK.as_nanos() / 10;
    if u128::from(handled) < least {
        return Err(format!("{handled} drops were handled: there was no flood").into());
    }
    summary(waits, measured.cpu)
}

/// The wall time of a run is what all questions together have waited.
fn summary(mut waits: Vec<u64>, cpu: Duration) -> Answer {
    waits.sort_unstable();
    let at = |percent: usize| -> Result<f64, Box<dyn Error>> {
        let rank = (waits.len() * percent).div_ceil(100).max(1) - 1;
        Ok(*waits.get(rank).ok_or("nothing was asked")? as f64)
    };
    Ok(crate::harness::Measured {
        wall: Duration::from_nanos(waits.iter().sum()),
        cpu,
        extra: Extra {
            p50: Some(at(50)?),
            p99: Some(at(99)?),
            ..Extra::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_sorted_waits() {
        let measured = summary((1..=200).rev().collect(), Duration::ZERO).unwrap();
        assert_eq!(measured.extra.p50, Some(100.0));
        assert_eq!(measured.extra.p99, Some(198.0));
        assert_eq!(measured.wall, Duration::from_nanos(201 * 100));
    }
}
