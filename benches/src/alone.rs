//! Runs a workload in a process of its own, for questions of memory and of whole processes.
//!
//! What an allocator has once got from the system it seldom gives back, so in a process that has run another workload the memory
//! of the next one cannot be seen. This program starts itself again instead, as the questions between processes do
//! ([`processes`](crate::processes)), and the other process does nothing else.

use std::{error::Error, fs, time::Duration};

use crate::{
    harness::{Answer, Extra, Measured},
    processes::{Here, There},
};

/// Asks another process, which is started for it, for one run of `n` operations.
///
/// # Errors
///
/// If the work there was wrong, or there can be no process.
pub fn ask(side: &str, n: u64) -> Answer {
    let mut there = There::start(side, &[n.to_string()])?;
    let line = there.hear()?;
    if let Some(wrong) = line.strip_prefix("wrong: ") {
        there.let_end();
        return Err(wrong.into());
    }
    let fields: Vec<Option<f64>> = line.split_whitespace().map(|f| f.parse().ok()).collect();
    let [Some(wall), Some(cpu), bytes, switches] = fields[..] else {
        return Err(format!("the other process said {line:?}").into());
    };
    there.end()?;
    Ok(Measured {
        wall: Duration::from_secs_f64(wall),
        cpu: Duration::from_secs_f64(cpu),
        extra: Extra {
            bytes,
            switches,
            ..Extra::default()
        },
    })
}

/// Does what [`ask`] asks for, in the other process.
///
/// # Errors
///
/// If the first process is gone.
pub fn answer(here: &mut Here, run: fn(u64) -> Answer) -> Result<(), Box<dyn Error>> {
    let field = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| v.to_string());
    match run(here.argument(0)?) {
        Ok(Measured { wall, cpu, extra }) => here.say(format!(
            "{} {} {} {}",
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
            field(extra.bytes),
            field(extra.switches)
        ))?,
        Err(error) => here.say(format!("wrong: {}", error.to_string().replace('\n', " ")))?,
    }
    here.expect("end")
}

/// Bytes of memory that this process has in use, as the system sees it, without what belongs to files.
///
/// # Errors
///
/// If the system does not tell: it is Linux that does.
pub fn resident() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:"));
    let kib: u64 = line
        .and_then(|line| line.trim().strip_suffix("kB")?.trim().parse().ok())
        .ok_or("the system does not say how much memory is in use")?;
    Ok(kib * 1024)
}

/// How often the threads of this process have been taken off a core so far, by themselves or by the system.
///
/// # Errors
///
/// If the system does not tell: it is Linux that does.
pub fn switches() -> Result<u64, Box<dyn Error>> {
    // `/proc/self/status` has those of the main thread alone.
    let mut sum = 0;
    for task in fs::read_dir("/proc/self/task")? {
        let Ok(status) = fs::read_to_string(task?.path().join("status")) else {
            // It has ended since.
            continue;
        };
        for line in status.lines() {
            if let Some((name, count)) = line.split_once(':')
                && name.ends_with("ctxt_switches")
            {
                sum += count.trim().parse::<u64>()?;
            }
        }
    }
    Ok(sum)
}
