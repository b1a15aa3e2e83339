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
            own: cpu_time() + children_cpu_time().unwrap_or_default(),
            machine: Ticks::now()?,
        })
    }

    /// Returns the share of all CPUs, from 0 to 1, that others have used since.
    pub(crate) fn share(&self) -> Option<f64> {
        let now = Ticks::now()?;
        let all = now.all.checked_sub(self.machine.all).filter(|&n| n > 0)?;
        let busy = now.busy.checked_sub(self.machine.busy)?;
        let now_own = cpu_time() + children_cpu_time().unwrap_or_default();
        let own = now_own.saturating_sub(self.own).as_secs_f64()
            / (self.wall.elapsed().as_secs_f64() * f64::from(now.cpus));
        Some((busy as f64 / all as f64 - own).clamp(0.0, 1.0))
    }
}

/// CPU time of the processes that this one has started and that have ended, where the system says it (Linux).
fn children_cpu_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks = children_ticks(&stat)? as f64;
    Some(Duration::from_secs_f64(
        ticks / rustix::param::clock_ticks_per_second() as f64,
    ))
}

/// Reads "id (name) state ..": the name may have anything in it, and fields 16 and 17 are `cutime` and `cstime`.
fn children_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(13);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
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

    #[test]
    fn children_are_not_others() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4 5 6 7 8 90 91 300 40 20 0 1 0";
        assert_eq!(children_ticks(stat), Some(340));
        assert!(children_cpu_time().is_some());
    }
}
