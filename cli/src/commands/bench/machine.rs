//! What is known of this machine, and what makes figures of it doubtful.

use serde::Serialize;
use std::fs;

/// Its names are those of the JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) kernel: Option<String>,
    /// How the frequency of the first core is chosen.
    pub(crate) governor: Option<String>,
    /// How many threads wanted to run during the last minute.
    pub(crate) load_1min: Option<f64>,
    pub(crate) is_optimised: bool,
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

impl Machine {
    pub(crate) fn look() -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self {
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            kernel: line("/proc/sys/kernel/osrelease"),
            governor: line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            load_1min: line("/proc/loadavg")
                .and_then(|line| line.split_whitespace().next()?.parse().ok()),
            is_optimised: !cfg!(debug_assertions),
        }
    }

    /// Why its figures may be worse than they would be.
    pub(crate) fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if !self.is_optimised {
            doubts.push(
                "this command was built without optimisation: build it with --release".to_owned(),
            );
        }
        if let Some(load) = self
            .load_1min
            .filter(|load| *load > 0.3 * self.cores as f64)
        {
            doubts.push(format!(
                "the machine is not quiet: load {load:.2} on {} cores",
                self.cores
            ));
        }
        if self.governor.as_deref() == Some("powersave") {
            doubts.push("the processor saves power (governor powersave)".to_owned());
        }
        if self.cores < 2 {
            doubts.push("one core only: what talks to another thread waits for it".to_owned());
        }
        doubts
    }
}
