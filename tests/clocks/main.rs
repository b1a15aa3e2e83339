//! Clocks, and what follows them: timers, sleeps, rates, silences. In virtual time, but for what two processes share.

mod between;
mod domain;
mod jumps;
mod rates;
mod sleeps;
mod timers;

use mproc::prelude::*;
use mproc::{Clock, Options, Tick, Time, TimerId};
use std::sync::mpsc::{Receiver, Sender, channel};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

fn simulated(seed: u64) -> Node {
    Node::simulated_with(seed, Options::default())
}

fn secs(secs: u64) -> Time {
    Time::from_secs(secs)
}

/// What a periodic timer told: its time, how many it skipped, and what the clock showed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    time: Time,
    skipped: u64,
    now: Time,
}

/// Tells of each tick of one timer.
struct Ticker {
    clock: Option<Clock>,
    period: Duration,
    told: Sender<Told>,
    timer: Option<TimerId>,
}

struct Ticked(Tick);

impl Processor for Ticker {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        if let Some(clock) = &self.clock {
            cx.follow(clock);
        }
        self.timer = Some(cx.every(self.period, Ticked));
        Ok(())
    }
}

impl Handle<Ticked> for Ticker {
    type Reply = ();
    fn handle(&mut self, Ticked(tick): Ticked, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.told.send(Told {
            time: tick.time,
            skipped: tick.skipped,
            now: cx.time(),
        })?;
        Ok(())
    }
}

impl Ticker {
    /// One with a period that follows `clock`, or what its driver does, and what it tells.
    fn new(clock: Option<&Clock>, period: Duration) -> (Self, Receiver<Told>) {
        let (told, ticks) = channel();
        let ticker = Self {
            clock: clock.cloned(),
            period,
            told,
            timer: None,
        };
        (ticker, ticks)
    }
}

/// The times of what has been told so far.
fn times(ticks: &Receiver<Told>) -> Vec<Time> {
    ticks.try_iter().map(|told| told.time).collect()
}
