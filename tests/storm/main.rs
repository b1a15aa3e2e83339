//! Threads under load, in a graph of processors that panic, stop, are killed, are spawned again, and lose their pool.
//! `ci/soak.sh` runs it for minutes; `cargo test` for a moment.
//!
//! ```text
//! injectors (plain threads)  --send, call-->  members, each at a place that the chief chooses:
//! chief (this thread)        --stop, kill, drain, spawn again, shut a pool down-->   a thread of its own, a shared driver, a pool
//! ```
//!
//! Members send, call with continuations and blocking, start timers, reply later or never, take long, panic, fault, and stop
//! themselves. Which
//! and when comes from the seed; what then meets what is up to the system, so a seed does not replay a run, it only draws the
//! same numbers.
//!
//! | what is checked | how |
//! |---|---|
//! | no message is lost or doubled | each is in the accounts of `ledger.rs` from its birth to its drop, and its number in a checksum of both |
//! | each meets one fate | handled, returned or dropped; and by the runtime's own counters exactly the same numbers |
//! | order | what one sends to another in one lane carries numbers that only grow |
//! | nobody is stuck | the chief calls every member every few seconds; at the end everything must come to rest by itself |
//! | no panic but those on purpose | a hook sees all of them |
//! | a processor is entered by one thread at a time | each notes when it is entered and left |
//! | nothing is left | messages, processors, threads |

mod ledger;
mod members;

use ledger::Ledger;
use members::{Injector, Place, Program};
use mproc::{AfterPanic, Node, Options};
use std::env;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// The longest that anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);
/// How long a member may take to answer the chief. What members do takes milliseconds, their calls have limits.
const ANSWER: Duration = Duration::from_secs(30);
/// Between two rounds in which every member is called.
const ROUNDS: Duration = Duration::from_secs(5);
/// Members that there should be.
const MEMBERS: usize = 40;
/// Threads that send from outside.
const INJECTORS: u64 = 2;
/// What panics on purpose say.
const ON_PURPOSE: &str = "on purpose";

/// Numbers that look random, and are the same for the same seed (splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        ledger::mix(self.0)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn micros(&mut self, bound: u64) -> Duration {
        Duration::from_micros(self.below(bound))
    }
}

/// Panics that nobody meant, as the hook saw them.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static PANICS_ON_PURPOSE: AtomicU64 = AtomicU64::new(0);

fn watch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let on_purpose = info.payload().downcast_ref::<&str>() == Some(&ON_PURPOSE);
        if on_purpose {
            PANICS_ON_PURPOSE.fetch_add(1, Relaxed);
        } else {
            let name = thread::current().name().unwrap_or("?").to_owned();
            let text = format!("panic on thread {name}: {info}");
            eprintln!("{text}");
            PANICS.lock().unwrap_or_else(|e| e.into_inner()).push(text);
        }
    }));
}

/// Does to the members what the world does to programs.
struct Chief {
    program: Program,
    random: Random,
    pools_made: u64,
    faults: [(&'static str, u64); 6],
    failures: Vec<String>,
}

impl Chief {
    fn count(&mut self, what: &str) {
        for (name, count) in &mut self.faults {
            *count += u64::from(*name == what);
        }
    }

    /// Spawns a member at this seat, under the name of the seat. It may be taken: the last one there has not quite ended.
    fn fill(&mut self, seat: usize) {
        let place = match self.random.below(10) {
            0 => Place::Own,
            1 | 2 => Place::Shared(self.random.below(2) as usize),
            _ => Place::Pool(self.random.below(2) as usize),
        };
        let seed = self.random.next();
        if self.program.spawn(seat, place, seed) {
            self.count("spawned");
        }
    }

    fn strike(&mut self) {
        let seat = self.random.below(MEMBERS as u64) as usize;
        let Some(victim) = self.program.at(seat).filter(|victim| !victim.is_closed()) else {
            return self.fill(seat);
        };
        match self.random.below(100) {
            0..35 => {
                self.count("stopped");
                victim.stop();
            }
            35..60 => {
                self.count("killed");
                victim.kill();
            }
            60..85 => {
                self.count("drained");
                victim.drain();
            }
            85 => self.end_a_pool(),
            // By name, whether or not the one before has ended.
            _ => self.fill(seat),
        }
    }

    /// Others take the seats of most of those that have ended: some stay empty for a while.
    fn refill(&mut self) {
        for seat in 0..MEMBERS {
            let is_there = self.program.at(seat).is_some_and(|m| !m.is_closed());
            if !is_there && !self.random.one_in(4) {
                self.fill(seat);
            }
        }
    }

    /// Shuts a pool down with all its members, and makes another one.
    fn end_a_pool(&mut self) {
        let at = self.random.below(2) as usize;
        self.count("pools ended");
        let report = self.program.pool(at).shutdown(LONG);
        if !report.is_clean() {
            self.failures.push(format!("a pool did not end: {report}"));
        }
        self.pools_made += 1;
        let name = format!("pool {at} number {}", self.pools_made);
        match self.program.node.pool(&name, 1 + at) {
            Ok(pool) => self.program.set_pool(at, pool),
            Err(error) => self.failures.push(format!("no new pool: {error}")),
        }
    }

    /// Every member must answer, or have ended.
    fn call_all(&mut self) {
        for seat in 0..MEMBERS {
            let Some(member) = self.program.at(seat) else {
                continue;
            };
            if let Err(silence) = members::is_alive(&self.program, &member, ANSWER) {
                self.failures.push(format!(
                    "{} is stuck: {silence}: {:?}",
                    member.name(),
                    member.snapshot()
                ));
            }
        }
    }

    /// Waits until nobody does anything any more, by itself.
    fn settle(&mut self) {
        let deadline = Instant::now() + LONG;
        loop {
            let alive = self.program.ledger.alive();
            let waiting = self.program.ledger.waiting();
            let totals = self.program.node.snapshot().runtime.totals;
            if alive == 0 && waiting == 0 && totals.queued == 0 && totals.outbox == 0 {
                return;
            }
            if Instant::now() > deadline {
                let busy: Vec<_> = self.program.node.snapshot().runtime.processors;
                let busy = busy
                    .into_iter()
                    .filter(|p| p.queued > 0 || p.outbox > 0 || p.handling_ns.is_some());
                self.failures.push(format!(
                    "{alive} messages and {waiting} calls do not come to an end: {:#?}",
                    busy.collect::<Vec<_>>()
                ));
                return;
            }
            // Rest has no event: nothing happens when nothing happens any more.
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn storm(length: Duration, seed: u64) -> bool {
    println!("storm: {} s, seed {seed}", length.as_secs());
    watch_panics();
    let threads_before = threads();
    let options = Options::default()
        .dead_letters(0)
        .send_limit(Duration::from_millis(200));
    let node = Node::with_options(options);
    let ledger = Arc::new(Ledger::default());
    let program = Program::new(&node, ledger.clone(), MEMBERS);
    let mut chief = Chief {
        program: program.clone(),
        random: Random(seed),
        pools_made: 0,
        faults: [
            "spawned",
            "stopped",
            "killed",
            "drained",
            "pools ended",
            "rounds",
        ]
        .map(|name| (name, 0)),
        failures: Vec::new(),
    };
    for seat in 0..MEMBERS {
        chief.fill(seat);
    }
    let over = Arc::new(AtomicBool::new(false));
    let injectors: Vec<_> = (0..INJECTORS)
        .map(|_| {
            let mut injector = Injector::new(program.clone(), chief.random.next());
            let over = over.clone();
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    injector.act();
                }
            })
        })
        .collect();

    let start = Instant::now();
    let mut round = start;
    let mut handled_before = 0;
    let mut handled_at = start;
    while start.elapsed() < length && chief.failures.is_empty() {
        // The chief's own rhythm, which nothing else waits for.
        thread::sleep(chief.random.micros(20_000));
        chief.strike();
        chief.refill();
        if round.elapsed() > ROUNDS {
            chief.count("rounds");
            chief.call_all();
            let handled = ledger.handled();
            if handled != handled_before {
                handled_at = Instant::now();
            } else if handled_at.elapsed() > LONG {
                chief
                    .failures
                    .push(format!("nothing was handled for {LONG:?}"));
            }
            handled_before = handled;
            round = Instant::now();
        }
        chief.failures.extend(ledger.wrong());
    }
    over.store(true, Relaxed);
    program.calm();
    for injector in injectors {
        if injector.join().is_err() {
            chief.failures.push("an injector panicked".into());
        }
    }
    chief.call_all();
    chief.settle();
    end(chief, &node, start.elapsed());
    true_if_good(node, program, &ledger, threads_before)
}

/// What `end` found, for `true_if_good`: failures outlive the chief.
static FAILURES: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Says what was, and compares the accounts, when everything is at rest and the node still lives.
fn end(mut chief: Chief, node: &Node, took: Duration) {
    let ledger = chief.program.ledger.clone();
    let totals = node.snapshot().runtime.totals;
    println!("took        {:.1} s", took.as_secs_f64());
    let faults: Vec<_> = chief
        .faults
        .iter()
        .map(|(n, c)| format!("{n} {c}"))
        .collect();
    println!("faults      {}", faults.join(", "));
    println!(
        "panics      {} on purpose, {} reported by the node",
        PANICS_ON_PURPOSE.load(Relaxed),
        totals.panics
    );
    if PANICS_ON_PURPOSE.load(Relaxed) != totals.panics {
        chief.failures.push("the node counted other panics".into());
    }
    chief.failures.extend(ledger.audit(&totals));
    chief.failures.extend(ledger.wrong());
    FAILURES.lock().unwrap().append(&mut chief.failures);
}

fn true_if_good(node: Node, program: Program, ledger: &Ledger, threads_before: usize) -> bool {
    let mut failures = std::mem::take(&mut *FAILURES.lock().unwrap());
    let report = node.shutdown(LONG);
    if !report.is_clean() {
        failures.push(format!("the node did not end: {report}"));
    }
    let living = node.snapshot().runtime.processors.len();
    drop(program);
    drop(node);
    let left = [
        ("processors", living as u64),
        ("messages", ledger.alive()),
        ("states", ledger.states()),
    ];
    for (what, count) in left {
        println!("left        {count} {what}");
        if count != 0 {
            failures.push(format!("{count} {what} are left"));
        }
    }
    let threads_left = wait_for_threads(threads_before);
    println!("left        {threads_left} threads");
    if threads_left > 0 {
        failures.push(format!("{threads_left} threads are left"));
    }
    failures.extend(std::mem::take(&mut *PANICS.lock().unwrap()));
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    failures.is_empty()
}

/// Threads of this process, where the system tells.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, |tasks| tasks.count())
}

/// How many more threads there are than before. Those that have been joined may be in the system's list for a moment longer.
fn wait_for_threads(before: usize) -> usize {
    let deadline = Instant::now() + Duration::from_secs(10);
    while threads() > before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    threads().saturating_sub(before)
}

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let mut length = Duration::from_secs(3);
    let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |d| d.as_nanos());
    let mut seed = now as u64;
    for pair in arguments.chunks(2) {
        match pair {
            [name, number] if name == "--minutes" => {
                let minutes: f64 = number.parse().expect("--minutes N");
                length = Duration::from_secs_f64(60.0 * minutes);
            }
            [name, number] if name == "--seed" => seed = number.parse().expect("--seed N"),
            // Meant for tests of other kinds: a filter, a number of threads.
            _ => {
                println!("storm: does nothing with {arguments:?}; it takes --minutes N, --seed N");
                return ExitCode::SUCCESS;
            }
        }
    }
    if storm(length, seed) {
        ExitCode::SUCCESS
    } else {
        println!("the seed was {seed}");
        ExitCode::FAILURE
    }
}
