//! Runs workloads and makes figures of what they measured.
//!
//! What would make the numbers wrong, and what is done about it:
//!
//! - *The machine drifts* (clock frequency, neighbours on the same host): workloads of one question
//!   run in turn, A B C, A B C, and not A A A, B B B, so that a slow second hits all alike.
//! - *The first run is cold* (page faults, lazy binding, thread stacks): it is made and thrown away.
//! - *One odd run pulls a mean*: a figure is the median, and its range stands beside it.
//! - *A fast figure may be bought with a busy loop*: the CPU time of the whole process is measured
//!   over the same interval as the wall time.
//! - *Another program has one of the cores*: what others used meanwhile is measured and reported.

use std::{
    error::Error,
    fmt,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::neighbours::Neighbours;

/// What is asked, and what one operation of it is.
#[derive(Debug)]
pub struct Question {
    /// The name on the command line.
    pub name: &'static str,
    /// One sentence: what happens, and per what the time is counted.
    pub about: &'static str,
}

/// One answer to a question.
#[derive(Debug, Clone, Copy)]
pub struct Workload {
    /// The question it answers.
    pub question: &'static Question,
    /// Who does the work: `mproc`, a peer, or `limit`.
    pub who: &'static str,
    /// In which form. Ratios are taken between workloads of the same variant only.
    pub variant: &'static str,
    /// Operations in a run; chosen so that a run takes 0.1 to 0.5 s.
    pub n: u64,
    /// Runs this many operations, checks the work and says how long it took.
    pub run: fn(u64) -> Answer,
}

/// What a run gives: the time it took, or why its work was wrong.
pub type Answer = Result<Measured, Box<dyn Error>>;

/// What one run measured.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Time on the wall for all operations of the run.
    pub wall: Duration,
    /// CPU time of all threads of the process, or of both processes, for all operations of the run.
    pub cpu: Duration,
    /// What only some questions measure.
    pub extra: Extra,
}

/// What only some questions measure; absent from the report where it is `None`.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Extra {
    /// Bytes of memory per operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<f64>,
    /// Median latency in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<f64>,
    /// 99th percentile of latency in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<f64>,
    /// Context switches per second of the whole process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub switches: Option<f64>,
}

/// Measures wall time and CPU time over the same interval.
#[derive(Debug)]
pub struct Stopwatch {
    wall: Instant,
    cpu: Duration,
}

impl Stopwatch {
    /// Starts to measure now.
    pub fn start() -> Self {
        Self {
            cpu: cpu_time(),
            wall: Instant::now(),
        }
    }

    /// Returns what has passed since the start.
    pub fn stop(self) -> Measured {
        let wall = self.wall.elapsed();
        Measured {
            wall,
            cpu: cpu_time().saturating_sub(self.cpu),
            extra: Extra::default(),
        }
    }
}

/// CPU time that all threads of this process have used so far.
pub(crate) fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(now.tv_sec).expect("CPU time is never negative");
    let nanos = u32::try_from(now.tv_nsec).expect("a timespec has less than 1e9 nanoseconds");
    Duration::new(seconds, nanos)
}

/// The result of all runs of a workload: one line of the report.
#[derive(Debug, Clone, Serialize)]
pub struct Figure {
    /// The question's name.
    pub question: &'static str,
    /// Who did the work.
    pub who: &'static str,
    /// In which form.
    pub variant: &'static str,
    /// Operations in each run.
    pub n: u64,
    /// Nanoseconds per operation: the median of the runs.
    pub ns: f64,
    /// The fastest run.
    pub ns_min: f64,
    /// The slowest run.
    pub ns_max: f64,
    /// CPU time of the process per operation: the median of the runs.
    pub cpu_ns: f64,
    /// What only some questions measure: the medians of the runs.
    #[serde(flatten)]
    pub extra: Extra,
}

/// All figures of a question.
#[derive(Debug)]
pub struct Figures {
    /// One for each workload.
    pub figures: Vec<Figure>,
    /// The share of all CPUs that other programs used meanwhile, if the system tells.
    pub others: Option<f64>,
}

/// A run whose work was wrong. No figure comes out of such a run.
#[derive(Debug)]
pub struct WrongWork {
    workload: Workload,
    source: Box<dyn Error>,
}

impl fmt::Display for WrongWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Workload {
            question,
            who,
            variant,
            ..
        } = self.workload;
        write!(f, "{} by {who} ({variant}): {}", question.name, self.source)
    }
}

impl Error for WrongWork {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self.source.as_ref())
    }
}

/// Runs each of `workloads` once to warm up and then `runs` times, in turn.
///
/// # Errors
///
/// The first run whose work was wrong ends everything.
///
/// # Panics
///
/// If `runs` is 0.
pub fn run(workloads: &[Workload], runs: usize) -> Result<Figures, WrongWork> {
    assert!(runs > 0, "a median needs at least one run");
    let neighbours = Neighbours::watch();
    let mut measured = vec![Vec::with_capacity(runs); workloads.len()];
    for round in 0..=runs {
        for (workload, measured) in workloads.iter().zip(&mut measured) {
            let answer = (workload.run)(workload.n).map_err(|source| WrongWork {
                workload: *workload,
                source,
            })?;
            if round > 0 {
                measured.push(answer);
            }
        }
    }
    Ok(Figures {
        figures: workloads
            .iter()
            .zip(&measured)
            .map(|(workload, measured)| figure(workload, measured))
            .collect(),
        others: neighbours.and_then(|neighbours| neighbours.share()),
    })
}

fn figure(workload: &Workload, measured: &[Measured]) -> Figure {
    let per_operation = |time: Duration| time.as_secs_f64() * 1e9 / workload.n as f64;
    let wall: Vec<f64> = measured.iter().map(|m| per_operation(m.wall)).collect();
    let cpu = measured.iter().map(|m| per_operation(m.cpu)).collect();
    let extra = |field: fn(&Extra) -> Option<f64>| {
        let values: Vec<f64> = measured.iter().filter_map(|m| field(&m.extra)).collect();
        (!values.is_empty()).then(|| tenths(median(values)))
    };
    Figure {
        question: workload.question.name,
        who: workload.who,
        variant: workload.variant,
        n: workload.n,
        ns_min: tenths(wall.iter().copied().fold(f64::INFINITY, f64::min)),
        ns_max: tenths(wall.iter().copied().fold(0.0, f64::max)),
        ns: tenths(median(wall)),
        cpu_ns: tenths(median(cpu)),
        extra: Extra {
            bytes: extra(|e| e.bytes),
            p50: extra(|e| e.p50),
            p99: extra(|e| e.p99),
            switches: extra(|e| e.switches),
        },
    }
}

/// Rounds to one decimal: more would only be noise.
fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The middle value, or the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: Question = Question {
        name: "test",
        about: "nothing",
    };

    fn workload(run: fn(u64) -> Answer) -> Workload {
        Workload {
            question: &QUESTION,
            who: "limit",
            variant: "plain",
            n: 10,
            run,
        }
    }

    #[test]
    fn median_takes_the_middle() {
        assert_eq!(median(vec![9.0, 1.0, 5.0]), 5.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 9.0]), 3.0);
    }

    #[test]
    fn figure_is_per_operation_and_leaves_out_what_is_absent() {
        let figures = run(
            &[workload(|n| {
                Ok(Measured {
                    wall: Duration::from_nanos(25 * n),
                    cpu: Duration::from_nanos(50 * n),
                    extra: Extra {
                        bytes: Some(256.0),
                        ..Extra::default()
                    },
                })
            })],
            3,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_string(&figures.figures[0]).unwrap(),
            r#"{"question":"test","who":"limit","variant":"plain","n":10,"ns":25.0,"ns_min":25.0,"ns_max":25.0,"cpu_ns":50.0,"bytes":256.0}"#
        );
    }

    #[test]
    fn wrong_work_gives_no_figure() {
        let wrong = run(&[workload(|_| Err("9 of 10".into()))], 1).unwrap_err();
        assert_eq!(wrong.to_string(), "test by limit (plain): 9 of 10");
    }
}
