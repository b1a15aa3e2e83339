//! Processes under load, of which one is killed every few milliseconds and started again. `ci/kill.sh` runs it for minutes;
//! `cargo test` for a moment.
//!
//! ```text
//! sources --frames--> relays --relayed--> sinks       killed at any moment, and started again
//!    |                                      ^
//!    +--frames, relayed--> anchor --pulse---+         lives to the end
//! ```
//!
//! The supervisor, which is no node, kills and counts. Every value says who wrote it, in which order, and what it must contain.
//! Whoever receives one checks that, and that the gap before it is exactly what it missed; samples are held for a while
//! and checked again when they are let go of. Each process writes its counts into a file after every sample, so that a
//! kill loses none. At the end the anchor waits until all that it published has come back, ends its node, and looks for what is
//! left.

#[path = "../processes/payload.rs"]
mod payload;

mod actors;

use mproc::WhenFull;
use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

/// The longest that anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// Those that are killed.
const MORTALS: [&str; 7] = ["source", "source", "relay", "relay", "sink", "sink", "sink"];

/// What a process counts. After `Lost` and `Taken` come five more for the other policies.
#[derive(Clone, Copy)]
enum Count {
    Published = 0,
    /// Publishes and loans that found no room within their limit.
    HeldBack = 1,
    /// At how many subscriptions the anchor's values were queued.
    Queued = 2,
    /// How many of these were taken.
    PulsesTaken = 3,
    /// How many of these had to go for later ones.
    PulsesEvicted = 4,
    Taken = 5,
    Lost = 11,
}

const COUNTS: usize = 17;

/// Counts that outlive their process.
struct Counts {
    values: Mutex<[u64; COUNTS]>,
    file: File,
}

impl Counts {
    fn create(path: &Path) -> Self {
        Self {
            values: Mutex::new([0; COUNTS]),
            file: File::create(path).unwrap(),
        }
    }

    fn add(&self, count: Count, policy: usize, more: u64) {
        use std::os::unix::fs::FileExt;
        let mut values = self.values.lock().unwrap();
        let at = count as usize + policy;
        values[at] += more;
        // Under the lock, so that no older number overwrites it.
        let bytes = values[at].to_le_bytes();
        self.file.write_all_at(&bytes, 8 * at as u64).unwrap();
    }

    fn read(path: &Path) -> [u64; COUNTS] {
        let mut bytes = Vec::new();
        if let Ok(mut file) = File::open(path) {
            file.read_to_end(&mut bytes).unwrap();
        }
        bytes.resize(8 * COUNTS, 0);
        std::array::from_fn(|at| {
            let number = bytes[8 * at..8 * (at + 1)].try_into();
            u64::from_le_bytes(number.expect("8 bytes"))
        })
    }
}

fn policies() -> impl Iterator<Item = (usize, WhenFull)> {
    WhenFull::ALL.into_iter().enumerate()
}

/// Numbers that look random, and are the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(1);
        payload::mix(self.0)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

// ---------------------------------------------------------------------------------------------- the supervisor

/// A process, and where it writes.
struct Started {
    role: &'static str,
    child: Child,
    counts: PathBuf,
    said: PathBuf,
}

struct Supervisor {
    base: TempDir,
    started: u64,
    random: Random,
    totals: [u64; COUNTS],
    /// What processes told people, by text, and how often.
    told: BTreeMap<String, u64>,
}

impl Supervisor {
    fn start(&mut self, role: &'static str) -> Started {
        let number = self.started;
        self.started += 1;
        let counts = self.base.path().join(format!("{number}.counts"));
        let said = self.base.path().join(format!("{number}.said"));
        let child = Command::new(env::current_exe().unwrap())
            .env("SOAK_ROLE", role)
            .env("SOAK_NUMBER", number.to_string())
            .env("SOAK_SEED", self.random.next().to_string())
            .env("SOAK_BASE", self.base.path())
            .env("SOAK_COUNTS", &counts)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&said).unwrap())
            .spawn()
            .unwrap();
        Started {
            role,
            child,
            counts,
            said,
        }
    }

    /// Its counts and words, after its end.
    fn bury(&mut self, dead: &Started) {
        let counts = Counts::read(&dead.counts);
        for (total, count) in self.totals.iter_mut().zip(counts) {
            *total += count;
        }
        let said = fs::read(&dead.said).unwrap();
        for line in String::from_utf8_lossy(&said).lines() {
            *self.told.entry(without_numbers(line)).or_default() += 1;
        }
        let _never_made = fs::remove_file(&dead.counts);
        fs::remove_file(&dead.said).unwrap();
    }

    fn domain_files(&self) -> usize {
        let entries = fs::read_dir(self.base.path().join("mproc/soak"));
        entries.map_or(0, |entries| entries.count())
    }

    fn total(&self, count: Count, policy: usize) -> u64 {
        self.totals[count as usize + policy]
    }

    /// How often something was told that begins or goes on like this.
    fn told(&self, what: &str) -> u64 {
        let matching = self.told.iter().filter(|(text, _)| text.contains(what));
        matching.map(|(_, count)| count).sum()
    }
}

/// So that equal reports about different processes are one.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    for c in line.chars() {
        if !c.is_ascii_digit() {
            text.push(c);
        } else if !text.ends_with('#') {
            text.push('#');
        }
    }
    text
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

fn dev_shm() -> usize {
    let entries = fs::read_dir("/dev/shm").map(|entries| entries.flatten());
    let ours = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().contains("mproc");
    entries.map_or(0, |entries| entries.filter(ours).count())
}

/// True if one that is over has taken something of each kind.
fn has_taken(all: &Supervisor) -> bool {
    let kinds = [Count::Taken, Count::PulsesTaken];
    kinds.iter().all(|&kind| all.total(kind, 0) > 0)
}

fn soak(length: Duration, seed: u64) -> bool {
    println!("soak: {} s, seed {seed}", length.as_secs());
    let before = (descriptors(), dev_shm());
    let mut all = Supervisor {
        base: tempfile::tempdir().unwrap(),
        started: 0,
        random: Random(seed),
        totals: [0; COUNTS],
        told: BTreeMap::new(),
    };
    let mut anchor = all.start("anchor");
    let mut mortals: Vec<_> = MORTALS.iter().map(|role| all.start(role)).collect();
    let mut kills = BTreeMap::<&str, u64>::new();
    let mut failures = Vec::new();
    let start = Instant::now();
    let mut slower = 1;
    loop {
        if start.elapsed() >= length {
            // On a slow machine they live longer, until they get to do something.
            if has_taken(&all) || start.elapsed() >= length + LONG * 4 {
                break;
            }
            slower += 1;
        }
        // The killer's own rhythm, which nothing else waits for.
        let rhythm = Duration::from_micros(5_000 + all.random.below(45_000));
        thread::sleep(rhythm * slower);
        let at = all.random.below(mortals.len() as u64) as usize;
        let victim = &mut mortals[at];
        if let Some(status) = victim.child.try_wait().unwrap() {
            let said = fs::read_to_string(&victim.said).unwrap();
            failures.push(format!(
                "a {} ended by itself: {status}: {said}",
                victim.role
            ));
        }
        victim.child.kill().unwrap();
        victim.child.wait().unwrap();
        *kills.entry(victim.role).or_default() += 1;
        let next = all.start(MORTALS[at]);
        let dead = std::mem::replace(&mut mortals[at], next);
        all.bury(&dead);
        if let Some(status) = anchor.child.try_wait().unwrap() {
            let said = fs::read_to_string(&anchor.said).unwrap();
            println!("FAILED: the anchor ended by itself: {status}: {said}");
            mortals.iter_mut().for_each(|one| one.child.kill().unwrap());
            mortals.iter_mut().for_each(|one| drop(one.child.wait()));
            return false;
        }
    }
    for mut one in mortals {
        one.child.kill().unwrap();
        one.child.wait().unwrap();
        all.bury(&one);
    }
    let mut input = anchor.child.stdin.take().unwrap();
    writeln!(input, "end").unwrap();
    drop(input);
    let mut words = String::new();
    let mut output = anchor.child.stdout.take().unwrap();
    output.read_to_string(&mut words).unwrap();
    drop(output);
    let status = anchor.child.wait().unwrap();
    all.bury(&anchor);
    drop(anchor);
    if !status.success() {
        failures.push(format!("the anchor: {status}"));
    }
    report(&all, &kills, &words, before, &mut failures);
    for (text, count) in &all.told {
        println!("  told {count} times: {text}");
    }
    for failure in &failures {
        println!("FAILED: {failure}");
    }
    failures.is_empty()
}

/// Says what was, and adds what should not have been.
fn report(
    all: &Supervisor,
    kills: &BTreeMap<&str, u64>,
    anchor: &str,
    before: (usize, usize),
    failures: &mut Vec<String>,
) {
    let list = |count: Count| {
        let mut text = String::new();
        for (at, policy) in policies() {
            let _ = write!(text, "{policy:?} {}  ", all.total(count, at));
        }
        text
    };
    println!("kills       {}: {kills:?}", kills.values().sum::<u64>());
    println!("published   {}", all.total(Count::Published, 0));
    println!("held back   {}", all.total(Count::HeldBack, 0));
    println!("taken       {}", list(Count::Taken));
    println!("lost, gaps  {}", list(Count::Lost));
    let queued = all.total(Count::Queued, 0);
    let taken = all.total(Count::PulsesTaken, 0);
    let evicted = all.total(Count::PulsesEvicted, 0);
    let killed_with = queued as i64 - taken as i64 - evicted as i64;
    println!(
        "pulses      {queued} queued, {taken} taken, {evicted} evicted, {killed_with} lost with \
         those that were killed"
    );
    if killed_with < 0 {
        failures.push("more pulses were taken than queued".into());
    }
    let lost_waiting = all.total(Count::Lost, 0);
    if lost_waiting > 0 {
        failures.push(format!(
            "{lost_waiting} samples lost by subscriptions that wait"
        ));
    }
    if all.total(Count::Taken, 0) == 0 || taken == 0 {
        failures.push("nothing was taken: the soak has shown nothing".into());
    }
    for what in [
        "bad checksum",
        "bad order",
        "bad gap",
        "panicked",
        "protocol",
    ] {
        let count = all.told(what);
        println!("{what:11} {count}");
        if count > 0 {
            failures.push(format!("{what}: {count}"));
        }
    }
    print!("{anchor}");
    if !anchor.contains("anchor      leaves nothing") {
        failures.push("the anchor has leaks".into());
    }
    let leaks = [
        ("descriptors", descriptors() as i64 - before.0 as i64),
        ("files in /dev/shm", dev_shm() as i64 - before.1 as i64),
        ("files in the domain's directory", all.domain_files() as i64),
    ];
    for (what, count) in leaks {
        println!("left        {count} {what}");
        if count != 0 {
            failures.push(format!("{count} {what} are left"));
        }
    }
}

fn main() -> ExitCode {
    if let Ok(role) = env::var("SOAK_ROLE") {
        actors::act(&role);
        return ExitCode::SUCCESS;
    }
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
                println!("soak: does nothing with {arguments:?}; it takes --minutes N, --seed N");
                return ExitCode::SUCCESS;
            }
        }
    }
    if soak(length, seed) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
