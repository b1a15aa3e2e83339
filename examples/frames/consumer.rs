//! A process that receives frames, and what it reports at the end.

use std::{
    collections::BTreeSet,
    fmt, thread,
    time::{Duration, Instant},
};

use clap::ValueEnum;
use mproc::prelude::*;
use serde::{Deserialize, Serialize};

use crate::{FRAMES, LIMIT, REPORTS, Result, memory::shared_file, picture};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub(crate) enum Consumer {
    /// Misses nothing: the source waits for it.
    Careful,
    /// Looks at the latest frame, however many came since the last.
    Latest,
    /// Takes long for each frame, and drops the oldest.
    Slow,
}

/// What one consumer has seen of the frames.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    consumer: Consumer,
    when_full: WhenFull,
    frames: u64,
    missed: u64,
    wrong: u64,
    bytes: u64,
    seconds: f64,
    /// The files of shared memory that its frames lay in.
    files: BTreeSet<String>,
    /// Frames that lay in memory of its own.
    elsewhere: u64,
}

impl Consumer {
    pub(crate) const ALL: [Self; 3] = [Self::Careful, Self::Latest, Self::Slow];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Careful => "careful",
            Self::Latest => "latest",
            Self::Slow => "slow",
        }
    }

    /// Receives frames up to the last, and reports.
    pub(crate) fn run(self) -> Result<()> {
        let node = Node::new()?; // in the domain that the source has set
        let (when_full, capacity) = match self {
            Self::Careful => (WhenFull::Wait, 4),
            Self::Latest => (WhenFull::Latest, 1),
            Self::Slow => (WhenFull::DropOldest, 2),
        };
        let options = SubscriptionOptions::new()
            .capacity(capacity)
            .when_full(when_full);
        let reports = node.publisher(&REPORTS)?;
        let frames = node.subscription_with(&FRAMES, options)?;
        let mut report = Report {
            consumer: self,
            when_full,
            frames: 0,
            missed: 0,
            wrong: 0,
            bytes: 0,
            seconds: 0.0,
            files: BTreeSet::new(),
            elsewhere: 0,
        };
        let mut first = None;
        loop {
            let frame = frames.recv_timeout(LIMIT)?;
            let start = *first.get_or_insert_with(Instant::now);
            let seen = picture::look(&frame);
            report.frames += 1;
            report.missed += frame.gap();
            report.wrong += u64::from(!seen.is_right);
            report.bytes += frame.len() as u64;
            match shared_file(&frame)? {
                Some(file) => _ = report.files.insert(file),
                None => report.elsewhere += 1,
            }
            if self == Self::Slow {
                // Stands for work that takes this long.
                thread::sleep(Duration::from_millis(50));
            }
            report.seconds = start.elapsed().as_secs_f64();
            if seen.is_last {
                break;
            }
        }
        reports.wait_for_subscribers(1, LIMIT)?;
        reports.publish(report)?;
        Ok(())
    }
}

impl Report {
    pub(crate) const HEADINGS: &str =
        "consumer  policy       frames  missed  wrong  frames/s  MB read  in own memory";

    /// True if all of `frames` are accounted for and were right, and each was read in a file that the source has filled.
    pub(crate) fn holds(&self, frames: u64, filled: &BTreeSet<String>) -> bool {
        self.frames + self.missed == frames
            && self.wrong == 0
            && self.elsewhere == 0
            && self.files.is_subset(filled)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<8}  {:<10}  {:>7}  {:>6}  {:>5}  {:>8.1}  {:>7.1}  {:>13}",
            self.consumer.name(),
            format!("{:?}", self.when_full),
            self.frames,
            self.missed,
            self.wrong,
            self.frames as f64 / self.seconds.max(1e-9),
            self.bytes as f64 / 1e6,
            self.elsewhere
        )
    }
}
