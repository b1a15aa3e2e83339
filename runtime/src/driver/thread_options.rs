//! On which cores a driver's threads run, and how they stand against others.

use crate::error::{Error, ErrorKind};
use crate::world::World;

/// How the threads of a driver or pool stand with the system.
///
/// The system has threads inherit both from the thread that starts them. So a driver without options of its own that is made
/// inside a handler has those of the handler's driver.
///
/// # Examples
///
/// ```
/// # use mproc_runtime::{PoolOptions, Runtime, ThreadOptions};
/// let node = Runtime::new()?;
/// // Last among those that want the processor.
/// let quiet = ThreadOptions::default().nice(10);
/// let batch = node.pool_with("batch", PoolOptions::threads(2).each_thread(quiet));
/// # #[cfg(target_os = "linux")]
/// # assert!(batch.is_ok());
/// # Ok::<(), mproc_runtime::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadOptions {
    cores: Option<Vec<usize>>,
    nice: Option<i32>,
}

impl ThreadOptions {
    /// The threads run on these cores only, by the system's numbers, from 0. Linux only.
    pub fn cores(mut self, cores: impl IntoIterator<Item = usize>) -> Self {
        self.cores = Some(cores.into_iter().collect());
        self
    }

    /// How they stand against other threads, from -20 (first) to 19 (last); 0 is what most have. Below what the process has
    /// now, most systems ask for a privilege. Linux only.
    pub fn nice(mut self, nice: i32) -> Self {
        self.nice = Some(nice);
        self
    }

    /// Tries whether a thread of this process may be so. In a simulated world all may: there it means nothing.
    pub(super) fn check(&self, world: &World, driver: &str) -> Result<(), Error> {
        if *self == Self::default() || world.is_simulated() {
            return Ok(());
        }
        let cannot = |kind, why: String| {
            let text = format!("cannot make driver {driver:?}: {why}");
            Err(Error::new(kind, text))
        };
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            let why = format!("a nice value is from -20 to 19, not {nice}");
            return cannot(ErrorKind::InvalidSetting, why);
        }
        if self.cores.as_ref().is_some_and(Vec::is_empty) {
            let why = "its threads need at least one core".to_owned();
            return cannot(ErrorKind::InvalidSetting, why);
        }
        let theirs = self.clone();
        let (tell, told) = std::sync::mpsc::channel();
        let probe = world.spawn("mproc probe", move || {
            // Nobody is there to hear it only if this very call is over.
            let _nobody = tell.send(theirs.apply());
        });
        let tried = match probe {
            Ok(probe) => {
                let _panicked = probe.join();
                told.recv().unwrap_or(Ok(()))
            }
            Err(error) => Err(("no thread to be had".to_owned(), error)),
        };
        match tried {
            Ok(()) => Ok(()),
            Err((why, error)) => {
                let kind = match error.kind() {
                    std::io::ErrorKind::InvalidInput => ErrorKind::InvalidSetting,
                    _ => ErrorKind::Io,
                };
                let text = format!("cannot make driver {driver:?}: {why}");
                Err(Error::new(kind, text).with_source(error))
            }
        }
    }

    /// Says it of the calling thread; what was refused, if anything.
    #[cfg(target_os = "linux")]
    pub(super) fn apply(&self) -> Result<(), (String, std::io::Error)> {
        use rustix::thread::{CpuSet, sched_setaffinity};
        if let Some(cores) = &self.cores {
            let mut set = CpuSet::new();
            for &core in cores {
                if core >= CpuSet::MAX_CPU {
                    let why = format!("there is no core {core}");
                    return Err((why, std::io::ErrorKind::InvalidInput.into()));
                }
                set.set(core);
            }
            sched_setaffinity(None, &set).map_err(|error| {
                let why = format!("its threads may not run on the cores {cores:?}");
                (why, error.into())
            })?;
        }
        if let Some(nice) = self.nice {
            // On Linux this is about the thread, whatever its name says.
            rustix::process::setpriority_process(None, nice).map_err(|error| {
                let why = format!("its threads may not have the nice value {nice}");
                (why, error.into())
            })?;
        }
        Ok(())
    }

    /// Says it of the calling thread; what was refused, if anything.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn apply(&self) -> Result<(), (String, std::io::Error)> {
        if *self == Self::default() {
            return Ok(());
        }
        let why = "cores and nice values are for Linux only".to_owned();
        Err((why, std::io::ErrorKind::Unsupported.into()))
    }
}
