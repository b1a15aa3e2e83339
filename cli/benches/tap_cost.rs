//! What does it cost a publisher of 100,000 values a second that somebody looks on?
//!
//! ```text
//! cargo bench -p mproc-cli --bench tap_cost
//! ```
//!
//! One process publishes `u64`s on a grid of 10 microseconds to a subscriber of its own, for two seconds; when it is late it goes on
//! without waiting, and the grid stays. Its rate is what it has published in the time that it took. Beside it runs nothing, or
//! `mproc echo`, `hz`, `bw` or `delay` in a process of their own, in turn, five times each. Told are the medians of the rate, and of
//! the mean time that a publish took.
//!
//! What would make the numbers wrong: a publisher that waits for nothing would hide a cost up to the size of its pauses, so the time of a
//! publish is told, too; other programs on the machine disturb, so the five are taken in turn, and medians. `echo` writes to
//! `/dev/null`: a terminal would cost the machine more, but not the publisher.

use mproc::prelude::*;
use mproc::{Options, WhenFull};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

const COUNT: Topic<u64> = Topic::new("count");
const ROLE: &str = "MPROC_TAP_COST_ROLE";
const HZ: u64 = 100_000;
const SECONDS: u64 = 2;
const ROUNDS: usize = 5;

fn main() {
    if std::env::var(ROLE).is_ok() {
        return publish();
    }
    // `cargo test --benches` only asks whether it starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let taps: [&[&str]; 5] = [
        &[],
        &["echo", "count"],
        &["hz", "count"],
        &["bw", "count"],
        &["delay", "count"],
    ];
    let mut runs = vec![Vec::new(); taps.len()];
    for _ in 0..ROUNDS {
        for (tap, runs) in taps.iter().zip(&mut runs) {
            runs.push(run(tap));
        }
    }
    println!(
        "{:<8} {:>12} {:>8} {:>14}",
        "beside", "rate, Hz", "change", "publish, ns"
    );
    let median = |of: &dyn Fn(&(f64, f64)) -> f64, runs: &[(f64, f64)]| {
        let mut figures: Vec<f64> = runs.iter().map(of).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let alone = median(&|run| run.0, &runs[0]);
    for (tap, runs) in taps.iter().zip(&runs) {
        let (rate, publish) = (median(&|run| run.0, runs), median(&|run| run.1, runs));
        let change = (rate / alone - 1.0) * 100.0;
        let name = tap.first().copied().unwrap_or("nothing");
        println!("{name:<8} {rate:>12.0} {change:>+7.2}% {publish:>14.0}");
    }
}

/// The rate, and the mean time of a publish in nanoseconds.
fn run(tap: &[&str]) -> (f64, f64) {
    let place = tempfile::tempdir().expect("a directory for the domain can be made");
    let here = |mut command: Command| -> Command {
        command
            .env("XDG_RUNTIME_DIR", place.path())
            .env_remove("MPROC_DOMAIN")
            .stdin(Stdio::piped())
            .stderr(Stdio::null());
        command
    };
    let mut command = here(Command::new(
        std::env::current_exe().expect("it has a path"),
    ));
    command.env(ROLE, "publish").stdout(Stdio::piped());
    let mut publisher = command.spawn().expect("it starts itself");
    let mut lines = BufReader::new(publisher.stdout.take().expect("it is a pipe")).lines();
    let mut line = || lines.next().expect("it says a line").expect("it is text");
    assert_eq!(line(), "ready");
    let mut watcher: Option<Child> = (!tap.is_empty()).then(|| {
        let mut command = here(Command::new(env!("CARGO_BIN_EXE_mproc")));
        command.args(tap).stdout(Stdio::null());
        command.spawn().expect("mproc starts")
    });
    let subscribers = 1 + usize::from(watcher.is_some());
    let input = publisher.stdin.as_mut().expect("it is a pipe");
    writeln!(input, "{subscribers}").expect("it listens");
    let said = line();
    if let Some(watcher) = &mut watcher {
        watcher
            .kill()
            .and_then(|()| watcher.wait())
            .expect("it can be ended");
    }
    publisher.wait().expect("it ends");
    let (rate, publish) = said.split_once(' ').expect("it says two numbers");
    let number = |text: &str| text.parse().expect("it is a number");
    (number(rate), number(publish))
}

fn publish() {
    let builder = Node::builder().options(Options::default());
    let builder = builder.domain("default").expect("it is a name");
    let node = builder.build().expect("the domain can be joined");
    let publisher = node.publisher(&COUNT).expect("the topic is new");
    let options = SubscriptionOptions::new()
        .capacity(1024)
        .when_full(WhenFull::DropOldest);
    let own = node
        .subscription_with(&COUNT, options)
        .expect("the topic is there");
    std::thread::spawn(move || own.iter().for_each(drop));
    println!("ready");
    let mut line = String::new();
    std::io::stdin()
        .read_line(&mut line)
        .expect("it is told how many listen");
    let subscribers = line.trim().parse().expect("it is a number");
    let limit = Duration::from_secs(10);
    publisher
        .wait_for_subscribers(subscribers, limit)
        .expect("they come");
    // The watcher has looked around.
    std::thread::sleep(Duration::from_millis(300));
    let count = HZ * SECONDS;
    let mut spent = Duration::ZERO;
    let begun = Instant::now();
    for n in 0..count {
        let due = begun + Duration::from_nanos(n * 1_000_000_000 / HZ);
        let mut now = Instant::now();
        while now < due {
            std::hint::spin_loop();
            now = Instant::now();
        }
        publisher.publish(n).expect("nobody holds it back");
        spent += now.elapsed();
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    println!("{rate} {}", spent.as_nanos() as f64 / count as f64);
}
