//! Finds out whether the machine was busy with something else.
//!
//! Two threads that have to share one core because another program has the other one give figures
//! that are not only larger but in another order: hand-overs become switches, spinning is in vain,
//! and a lock is never contended. A median does not help, since the neighbour stays for all runs.

use std::{
    fs,
    time::{Duration, Instant},
};

use crate::harness::cpu_time;

/// Above this share, figures are not worth keeping.
pub const SHARE_MAX: f64 = 0.05;

/// What the machine had done when the measurement began.
#[derive(Debug)]
pub(crate) struct Neighbours {
    wall: Instant,
    own: Duration,
    machine: Ticks,
}

/// CPU time of the whole machine since it was started, in units of its own.
#[derive(Debug, PartialEq)]
struct Ticks {
    busy: u64,
    all: u64,
    cpus: u32,
}

impl Neighbours {
    /// Begins to watch, where the system says what it does (Linux).
    pub(crate) fn watch() -> Option<Self> {
        Some(Self {
            wall: Instant::now(),
            own: cpu_time(),
            machine: Ticks::now()?,
        })
    }

    /// Returns the share of all CPUs, from 0 to 1, that others have used since.
    pub(crate) fn share(&self) -> Option<f64> {
        let now = Ticks::now()?;
        let all = now.all.checked_sub(self.machine.all).filter(|&n| n > 0)?;
        let busy = now.busy.checked_sub(self.machine.busy)?;
        let own = cpu_time().saturating_sub(self.own).as_secs_f64()
            / (self.wall.elapsed().as_secs_f64() * f64::from(now.cpus));
        Some((busy as f64 / all as f64 - own).clamp(0.0, 1.0))
    }
}

impl Ticks {
    fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// Reads the line "cpu user nice system idle iowait irq softirq steal guest guest_nice", and
    /// counts the lines "cpu0 ..", "cpu1 ..".
    fn parse(stat: &str) -> Option<Self> {
        let mut lines = stat.lines();
        let values: Vec<u64> = lines
            .next()?
            .strip_prefix("cpu ")?
            .split_whitespace()
            // The time of guests is also in `user` and `nice`.
            .take(8)
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let all = values.iter().sum();
        // What another machine on the same host has taken (steal) counts as used by others.
        let idle = values.get(3)? + values.get(4)?;
        let cpus = lines.take_while(|line| line.starts_with("cpu")).count();
        Some(Self {
            busy: all - idle,
            all,
            cpus: u32::try_from(cpus).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_for_disks_is_not_busy() {
        let stat = "cpu  10 1 5 100 20 2 3 4 7 7\ncpu0 1 2\ncpu1 3 4\nintr 5\n";
        assert_eq!(
            Ticks::parse(stat),
            Some(Ticks {
                busy: 25,
                all: 145,
                cpus: 2
            })
        );
        assert_eq!(Ticks::parse("nothing"), None);
    }
}
