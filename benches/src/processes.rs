//! Starts this program a second time, as the other side of a question between processes.
//!
//! The two talk by lines: the first process writes to the other one's standard input and reads its
//! standard output. That is for beginning, ending and reporting, and never within what is measured.
//!
//! Nothing is left behind, whatever happens:
//!
//! - *The first process is interrupted or fails*: its end of the other one's standard input is
//!   closed by the system. A thread of the other process waits for just that, removes what the two
//!   had in the file system, and ends the process, whatever its other threads do. It is in a process
//!   group of its own, so that a signal from the terminal ends the first process only.
//! - *The other process fails*: its standard output is closed. A thread of the first process sees
//!   it, and the program ends with an error, since a thread that waits for a dead process by spinning
//!   would never look up.
//! - *Both wait for each other*: the program ends with an error after [`LIMIT`].
//! - *Both are killed*: the next run of anybody removes what they had in the file system.

use std::{
    env,
    error::Error,
    fmt, fs,
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, Command, ExitCode, Stdio},
    str::FromStr,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rustix::time::{ClockId, clock_gettime};

use crate::check::LIMIT;

/// The first argument of a process that is the other side.
const FLAG: &str = "--side";

/// How long the other process may take to end when its work is done.
const END_LIMIT: Duration = Duration::from_secs(10);

/// What the other process does.
#[derive(Debug, Clone, Copy)]
pub struct Side {
    /// The name under which it is started.
    pub name: &'static str,
    /// Does it.
    pub run: fn(&mut Here) -> Result<(), Box<dyn Error>>,
}

/// What two processes have in the file system for a run, so that no two runs meet.
#[derive(Debug, Clone)]
pub struct Place {
    directory: PathBuf,
}

/// What the names of all places begin with; the id of the first process follows.
const PREFIX: &str = "mproc-bench-";

/// Where the system has its named shared memory, which iceoryx2 uses too.
const SHARED_MEMORY: &str = "/dev/shm";

impl Place {
    /// Makes a place that nobody has.
    fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        static SWEPT: Once = Once::new();
        SWEPT.call_once(Self::sweep);
        let count = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{count}", process::id());
        Self {
            directory: env::temp_dir().join(name),
        }
    }

    /// A directory for this run.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A name for this run. What begins with it in `/dev/shm`, and has no digit after it, is removed at the end.
    pub fn name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// Removes everything. What is not there is no error.
    fn clear(&self) {
        let name = self.name();
        remove(&self.directory);
        for (path, other) in entries(Path::new(SHARED_MEMORY)) {
            // Not what another run has, whose number begins with the same digits.
            let rest = other.strip_prefix(&name);
            if rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit())) {
                remove(&path);
            }
        }
    }

    /// Removes what is left of processes that are no more.
    fn sweep() {
        for directory in [env::temp_dir().as_path(), Path::new(SHARED_MEMORY)] {
            for (path, name) in entries(directory) {
                let of = name
                    .strip_prefix(PREFIX)
                    .and_then(|rest| rest.split('-').next());
                let id = of.and_then(|id| id.parse::<u32>().ok());
                if id.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
                    remove(&path);
                }
            }
        }
    }
}

/// What is in a directory, with its name.
fn entries(directory: &Path) -> impl Iterator<Item = (PathBuf, String)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        (entry.path(), name)
    })
}

/// Removes a file or a directory, if it is there.
fn remove(path: &Path) {
    if path.is_dir() {
        let _ = fs::remove_dir_all(path);
    } else {
        let _ = fs::remove_file(path);
    }
}

/// The other process, seen from the first one. Dropping it ends that process.
#[derive(Debug)]
pub struct There {
    child: Child,
    input: ChildStdin,
    lines: mpsc::Receiver<String>,
    /// Its standard output may be closed from now on.
    may_end: Arc<AtomicBool>,
    /// Dropped when the run is over.
    _watched: mpsc::Sender<()>,
    place: Place,
}

impl There {
    /// Starts this program as the side of that name, with these arguments.
    ///
    /// # Errors
    ///
    /// If there can be no process, or no directory.
    pub fn start(side: &str, arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let place = Place::new();
        let mut child = Command::new(env::current_exe()?)
            .arg(FLAG)
            .arg(side)
            .arg(place.directory())
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no way to the other process")?;
        let output = child.stdout.take().ok_or("no way from the other process")?;
        let may_end = Arc::new(AtomicBool::new(false));
        let (line, lines) = mpsc::channel();
        let (watched, watch) = mpsc::channel();
        // From here on, dropping it clears up.
        let there = Self {
            child,
            input,
            lines,
            may_end: may_end.clone(),
            _watched: watched,
            place: place.clone(),
        };
        // Only now is there anything to remove, and the other process is there to do it.
        fs::create_dir_all(place.directory())?;
        {
            let (place, side) = (place.clone(), side.to_owned());
            thread::spawn(move || {
                for text in BufReader::new(output).lines().map_while(Result::ok) {
                    let _ = line.send(text);
                }
                if !may_end.load(Ordering::Acquire) {
                    give_up(
                        &place,
                        &format!("the other process ({side}) ended too early"),
                    );
                }
            });
        }
        let side = side.to_owned();
        thread::spawn(move || {
            if watch.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout) {
                give_up(&place, &format!("nothing came of {side} in {LIMIT:?}"));
            }
        });
        Ok(there)
    }

    /// What the two have in the file system.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The id of the other process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Says a line to the other process.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn say(&mut self, line: impl fmt::Display) -> io::Result<()> {
        writeln!(self.input, "{line}")?;
        self.input.flush()
    }

    /// Waits for the next line of the other process.
    ///
    /// # Errors
    ///
    /// If it ends or says nothing.
    pub fn hear(&mut self) -> Result<String, Box<dyn Error>> {
        Ok(self.lines.recv_timeout(LIMIT)?)
    }

    /// Waits for a line, which must be this one.
    ///
    /// # Errors
    ///
    /// If it is another one, or there is none.
    pub fn expect(&mut self, line: &str) -> Result<(), Box<dyn Error>> {
        match self.hear()? {
            heard if heard == line => Ok(()),
            heard => Err(format!("the other process said {heard:?} and not {line:?}").into()),
        }
    }

    /// Waits for a line of numbers.
    ///
    /// # Errors
    ///
    /// If there is none, or it is not of this many numbers.
    pub fn numbers<const N: usize>(&mut self) -> Result<[u64; N], Box<dyn Error>> {
        let line = self.hear()?;
        let numbers: Vec<u64> = line
            .split_whitespace()
            .map(str::parse)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("the other process said {line:?} and not {N} numbers"))?;
        let numbers = numbers.try_into();
        numbers.map_err(|_| format!("the other process said {line:?} and not {N} numbers").into())
    }

    /// From now on the other process may end.
    pub fn let_end(&self) {
        self.may_end.store(true, Ordering::Release);
    }

    /// Kills the other process, as SIGKILL does. Returns before it is gone.
    ///
    /// # Errors
    ///
    /// If the system does not let us.
    pub fn kill(&mut self) -> io::Result<()> {
        self.let_end();
        self.child.kill()
    }

    /// Waits until the other process has ended in order.
    ///
    /// # Errors
    ///
    /// If it failed, or does not end.
    pub fn end(mut self) -> Result<(), Box<dyn Error>> {
        self.let_end();
        self.say("end")?;
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                return Err(format!("the other process failed: {status}").into());
            }
            if since.elapsed() > END_LIMIT {
                return Err(format!("the other process did not end in {END_LIMIT:?}").into());
            }
            thread::sleep(Duration::from_micros(500));
        }
    }
}

impl Drop for There {
    fn drop(&mut self) {
        self.let_end();
        // Both fail if it has ended, and then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.place.clear();
    }
}

/// Ends the program with an error. The other process sees that, and ends too.
fn give_up(place: &Place, why: &str) -> ! {
    eprintln!("error: {why}");
    place.clear();
    process::exit(1)
}

/// The other process, seen from itself.
#[derive(Debug)]
pub struct Here {
    arguments: Vec<String>,
    lines: mpsc::Receiver<String>,
    place: Place,
}

impl Here {
    /// What the two have in the file system.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// One of the arguments it was started with.
    ///
    /// # Errors
    ///
    /// If there is none, or it is something else.
    pub fn argument<T: FromStr>(&self, index: usize) -> Result<T, Box<dyn Error>> {
        let argument = self.arguments.get(index).ok_or("an argument is missing")?;
        let value = argument.parse();
        value.map_err(|_| format!("{argument:?} is no argument here").into())
    }

    /// Says a line to the first process.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub fn say(&self, line: impl fmt::Display) -> io::Result<()> {
        let mut output = io::stdout().lock();
        writeln!(output, "{line}")?;
        output.flush()
    }

    /// Waits for a line of the first process, which must be this one.
    ///
    /// # Errors
    ///
    /// If it is another one, or there is none.
    pub fn expect(&self, line: &str) -> Result<(), Box<dyn Error>> {
        let heard = self.lines.recv_timeout(LIMIT)?;
        if heard == line {
            return Ok(());
        }
        Err(format!("the first process said {heard:?} and not {line:?}").into())
    }
}

/// If this process was started as the other side, is that, and returns how it ends.
pub fn other_side(sides: &[Side]) -> Option<ExitCode> {
    let mut arguments = env::args().skip(1);
    if arguments.next()? != FLAG {
        return None;
    }
    let name = arguments.next()?;
    let place = Place {
        directory: PathBuf::from(arguments.next()?),
    };
    let (line, lines) = mpsc::channel();
    {
        let place = place.clone();
        thread::spawn(move || {
            for text in io::stdin().lines().map_while(Result::ok) {
                let _ = line.send(text);
            }
            // The first process is gone.
            place.clear();
            process::exit(1);
        });
    }
    let mut here = Here {
        arguments: arguments.collect(),
        lines,
        place,
    };
    let result = match sides.iter().find(|side| side.name == name) {
        Some(side) => (side.run)(&mut here),
        None => Err(format!("there is no side {name:?}").into()),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: the other process ({name}): {error}");
            ExitCode::FAILURE
        }
    })
}

/// Nanoseconds on a clock that all processes of the machine have in common.
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).expect("the clock began at 0");
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_differ_and_are_cleared() {
        let (one, other) = (Place::new(), Place::new());
        assert_ne!(one.directory(), other.directory());
        fs::create_dir_all(one.directory().join("inside")).unwrap();
        let in_memory = PathBuf::from(SHARED_MEMORY).join(one.name() + "-file");
        fs::write(&in_memory, "").unwrap();
        one.clear();
        assert!(!one.directory().exists());
        assert!(!in_memory.exists());
    }

    #[test]
    fn clock_goes_forward() {
        let before = now_ns();
        assert!(now_ns() >= before);
    }
}
