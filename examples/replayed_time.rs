//! A recorded series, replayed ten times as fast as it was recorded, with a pause and a step.
//!
//! Whoever handles it follows *domain time*: its timers and sleeps stand while that is paused, and are where the replay is. Here
//! all is in one process; in a domain the processors may be in others, unchanged. Run it as it is, or with `virtual`: then
//! nothing takes any time, and each run is like the other.

use mproc::prelude::*;
use mproc::{Clock, Slept, Tick, Time};

/// What was measured, and when.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
struct Reading {
    at: Time,
    degrees: f64,
}

const READINGS: Topic<Reading> = Topic::new("oven/readings");

/// The beginning of the recording: some night in November 2023.
const BEGIN: Time = Time::from_secs(1_700_000_000);

/// One reading a second, from half a second on.
fn recorded() -> Vec<Reading> {
    let degrees = |n: u32| 180.0 + 5.0 * (f64::from(n) / 10.0).sin();
    (0..40)
        .map(|n| Reading {
            at: BEGIN + Duration::from_millis(500) + n * Duration::from_secs(1),
            degrees: degrees(n),
        })
        .collect()
}

/// Seconds since the beginning, for people.
fn seconds(time: Time) -> u64 {
    (time - BEGIN).as_secs()
}

/// Says every ten seconds what the mean was. A window is told when the next one is over: by then all of it has come.
struct Means {
    clock: Clock,
    readings: Vec<Reading>,
}

const WINDOW: Duration = Duration::from_secs(10);

impl Processor for Means {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.follow(&self.clock);
        cx.subscribe(&READINGS).samples()?;
        cx.every(WINDOW, WindowOver);
        Ok(())
    }
}

impl Handle<Sample<Reading>> for Means {
    type Reply = ();
    fn handle(&mut self, reading: Sample<Reading>, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.readings.push(reading.into_owned());
        Ok(())
    }
}

struct WindowOver(Tick);

impl Handle<WindowOver> for Means {
    type Reply = ();
    fn handle(&mut self, WindowOver(tick): WindowOver, _: &mut Cx<'_, Self>) -> Outcome<()> {
        let (now, to) = (seconds(tick.time), seconds(tick.time).saturating_sub(10));
        let (told, later) = std::mem::take(&mut self.readings)
            .into_iter()
            .partition::<Vec<_>, _>(|reading| seconds(reading.at) < to);
        self.readings = later;
        if !told.is_empty() {
            let mean = told.iter().map(|r| r.degrees).sum::<f64>() / told.len() as f64;
            println!(
                "{now} s: {} readings until {to} s, {mean:.1} degrees",
                told.len()
            );
        }
        Ok(())
    }
}

fn main() -> mproc::Result<()> {
    let node = match std::env::args().nth(1).as_deref() {
        Some("virtual") => Node::simulated(1),
        _ => Node::new()?,
    };
    let time = node.drive_time()?;
    let clock = time.clock();
    time.set(BEGIN)?;
    let means = Means {
        clock: clock.clone(),
        readings: Vec::new(),
    };
    node.spawn_thread("means", means)?;

    // The replay itself: it sleeps by the same clock, on a thread of its own.
    let (publisher, by) = (node.publisher(&READINGS)?, clock.clone());
    let replay = closure(move |series: Vec<Reading>, _cx| -> Outcome<usize> {
        let mut published = 0;
        for reading in series {
            if by.sleep_until(reading.at).wait()? != Slept::Reached {
                break;
            }
            publisher.publish(reading)?;
            published += 1;
        }
        Ok(published)
    });
    let replay = node.spawn_thread("replay", replay)?;
    // Those who handle readings have subscribed before the first is published.
    node.publisher(&READINGS)?
        .wait_for_subscribers(1, Duration::from_secs(5))?;
    let mut replayed = replay.call(recorded()).limit(Duration::from_secs(60));
    replayed.begin();

    let until = |seconds| {
        clock
            .sleep_until(BEGIN + Duration::from_secs(seconds))
            .wait()
    };
    time.rate(10.0)?;
    time.resume()?;
    until(25)?;
    time.pause()?;
    println!("paused at {} s", seconds(clock.now()));
    // Steady time goes on, and nothing is replayed.
    node.steady_clock()
        .sleep(Duration::from_millis(300))
        .wait()?;
    println!("still at {} s", seconds(clock.now()));
    time.step(Duration::from_secs(10))?;
    println!("stepped to {} s", seconds(clock.now()));
    time.resume()?;
    until(51)?;
    println!("{} readings were replayed", replayed.wait()?);
    time.end();
    let report = node.shutdown(Duration::from_secs(5));
    println!(
        "ended: {}",
        if report.is_clean() {
            "all of it"
        } else {
            "not all of it"
        }
    );
    Ok(())
}
