//! Where the figures come from: the files under `/proc`, or a library on a machine without them.
//!
//! Every reader has a [`Source`] of its own, and a source opens only the files that its reader asks for. So readers share
//! nothing, and run on any driver.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    error, fmt,
    fs::{self, File},
    io::{self, Read, Seek},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    figures::{
        self, Cpu, Disk, Memory, Net, ParseError, Process, Processes, Reading, Units, lossy_text,
        strict_text,
    },
    library::Library,
};

/// Which of the two kinds of source this machine has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The directory that holds `stat`, `meminfo` and the others; `/proc` but for tests.
    Proc(PathBuf),
    Library,
}

impl Origin {
    /// Decides once, at the start, and says in a sentence why if it is not `/proc`.
    pub(crate) fn find(root: &Path, no_proc: bool) -> (Self, Option<String>) {
        const INSTEAD: &str = "reading figures through the library sysinfo instead";
        if no_proc {
            let notice = format!("told not to use {}: {INSTEAD}", root.display());
            return (Self::Library, Some(notice));
        }
        let stat = root.join("stat");
        match File::open(&stat) {
            Ok(_) => (Self::Proc(root.to_owned()), None),
            Err(error) => {
                let notice = format!("cannot open {}: {error}; {INSTEAD}", stat.display());
                (Self::Library, Some(notice))
            }
        }
    }
}

/// Why there is no reading this time. The next one is tried all the same.
pub(crate) enum SourceError {
    Io { path: PathBuf, error: io::Error },
    Endless { path: PathBuf },
    Parse(ParseError),
    NoSuchProcess { pid: u32 },
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { path, error } => write!(f, "cannot read {}: {error}", path.display()),
            Self::Endless { path } => {
                write!(f, "{} is longer than {LENGTH_MAX} bytes", path.display())
            }
            Self::Parse(error) => error.fmt(f),
            Self::NoSuchProcess { pid } => write!(f, "there is no process {pid}"),
        }
    }
}

impl fmt::Debug for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SourceError({self})")
    }
}

// No `source()`: the text of the cause is part of ours.
impl error::Error for SourceError {}

impl From<ParseError> for SourceError {
    fn from(error: ParseError) -> Self {
        Self::Parse(error)
    }
}

/// The largest of these files, `stat` on a machine with thousands of cores and interrupts, stays far below.
const LENGTH_MAX: usize = 16 << 20;

/// A file that is opened once and read again and again from its start.
///
/// The kernel writes the text anew for a read at offset 0. Keeping the file open saves looking the path up, and keeping the
/// buffer saves allocating, 50 times a second.
struct ProcFile {
    path: PathBuf,
    file: Option<File>,
    buffer: Vec<u8>,
}

impl ProcFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            file: None,
            buffer: Vec::new(),
        }
    }

    fn read(&mut self) -> Result<&[u8], SourceError> {
        match self.try_read() {
            Ok(Some(length)) => Ok(&self.buffer[..length]),
            Ok(None) => Err(SourceError::Endless {
                path: self.path.clone(),
            }),
            Err(error) => {
                // The next reading starts from the path again: what is there may have been replaced.
                self.file = None;
                Err(SourceError::Io {
                    path: self.path.clone(),
                    error,
                })
            }
        }
    }

    /// Returns the length, or `None` if the file does not end within [`LENGTH_MAX`] bytes.
    ///
    /// Not `read_to_end`, which asks the kernel twice for a length that these files do not have.
    fn try_read(&mut self) -> io::Result<Option<usize>> {
        let file = match &mut self.file {
            Some(file) => {
                file.rewind()?;
                file
            }
            none => none.insert(File::open(&self.path)?),
        };
        let mut length = 0;
        loop {
            if length == self.buffer.len() {
                if length >= LENGTH_MAX {
                    return Ok(None);
                }
                self.buffer.resize((2 * length).max(4096), 0);
            }
            match file.read(&mut self.buffer[length..]) {
                Ok(0) => return Ok(Some(length)),
                Ok(count) => length += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads and parses. Errors name the file by the path that was really read.
    fn parsed<T>(
        &mut self,
        text: impl FnOnce(&[u8]) -> Result<Cow<'_, str>, ParseError>,
        parse: impl FnOnce(&str) -> Result<T, ParseError>,
    ) -> Result<T, SourceError> {
        let bytes = self.read()?;
        text(bytes)
            .and_then(|text| parse(&text))
            .map_err(|error| SourceError::Parse(error.in_file(self.path.display().to_string())))
    }
}

/// Reads one kind of figures, or several.
pub(crate) struct Source(Kind);

enum Kind {
    Proc(Box<Proc>),
    Library(Box<Library>),
}

struct Proc {
    stat: ProcFile,
    meminfo: ProcFile,
    net_dev: ProcFile,
    diskstats: ProcFile,
    processes: ProcessFiles,
}

/// Which processes are read each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Watch {
    /// These always, as long as they are there.
    pub(crate) pids: Vec<u32>,
    /// And that many of those which used the processor most between the last two full looks.
    pub(crate) busiest: usize,
    /// How often all processes of the machine are looked at: a look reads one file of each, so it is rarer than a reading.
    pub(crate) look_every: Duration,
}

impl Source {
    pub(crate) fn new(origin: &Origin, watch: Watch) -> Self {
        Self(match origin {
            Origin::Proc(root) => Kind::Proc(Box::new(Proc {
                stat: ProcFile::new(root.join("stat")),
                meminfo: ProcFile::new(root.join("meminfo")),
                net_dev: ProcFile::new(root.join("net").join("dev")),
                diskstats: ProcFile::new(root.join("diskstats")),
                processes: ProcessFiles::new(root.clone(), watch),
            })),
            Origin::Library => Kind::Library(Box::new(Library::new(watch))),
        })
    }

    pub(crate) fn cpu(&mut self, at: Duration) -> Result<Reading<Cpu>, SourceError> {
        let figures = match &mut self.0 {
            Kind::Proc(proc) => proc.stat.parsed(
                |bytes| strict_text(figures::STAT, bytes),
                figures::parse_stat,
            )?,
            Kind::Library(library) => library.cpu(at),
        };
        Ok(Reading { at, figures })
    }

    pub(crate) fn memory(&mut self, at: Duration) -> Result<Reading<Memory>, SourceError> {
        let figures = match &mut self.0 {
            Kind::Proc(proc) => proc.meminfo.parsed(
                |bytes| strict_text(figures::MEMINFO, bytes),
                figures::parse_meminfo,
            )?,
            Kind::Library(library) => library.memory(),
        };
        Ok(Reading { at, figures })
    }

    pub(crate) fn net(&mut self, at: Duration) -> Result<Reading<Net>, SourceError> {
        let figures = match &mut self.0 {
            Kind::Proc(proc) => proc
                .net_dev
                .parsed(|bytes| Ok(lossy_text(bytes)), figures::parse_net_dev)?,
            Kind::Library(library) => library.net(),
        };
        Ok(Reading { at, figures })
    }

    pub(crate) fn disk(&mut self, at: Duration) -> Result<Reading<Disk>, SourceError> {
        let figures = match &mut self.0 {
            Kind::Proc(proc) => proc.diskstats.parsed(
                |bytes| strict_text(figures::DISKSTATS, bytes),
                figures::parse_diskstats,
            )?,
            Kind::Library(library) => library.disk(),
        };
        Ok(Reading { at, figures })
    }

    /// Reads the watched processes.
    ///
    /// A process that has ended is left out. So is, until the next full look, one whose file cannot be read or parsed: that
    /// is an error once, and the others are read again from the next reading on.
    pub(crate) fn processes(&mut self, at: Duration) -> Result<Reading<Processes>, SourceError> {
        let figures = match &mut self.0 {
            Kind::Proc(proc) => proc.processes.read(at)?,
            Kind::Library(library) => library.processes(at)?,
        };
        Ok(Reading { at, figures })
    }
}

/// Chooses the processes to watch. Used by both kinds of source.
pub(crate) struct Chooser {
    watch: Watch,
    next_look: Duration,
    /// Ticks used up to the last full look, by pid and start.
    ticks: BTreeMap<(u32, u64), u64>,
    /// Pids asked for that were not there at the last look, so that each is reported once.
    missing: BTreeSet<u32>,
}

impl Chooser {
    pub(crate) fn new(watch: Watch) -> Self {
        Self {
            watch,
            next_look: Duration::ZERO,
            ticks: BTreeMap::new(),
            missing: BTreeSet::new(),
        }
    }

    pub(crate) fn look_is_due(&mut self, at: Duration) -> bool {
        if at < self.next_look {
            return false;
        }
        self.next_look = at.saturating_add(self.watch.look_every);
        true
    }

    /// Returns the pids to watch, in order, or the first that was asked for and has now gone missing.
    pub(crate) fn choose(&mut self, all: &[Process]) -> (Vec<u32>, Result<(), SourceError>) {
        let mut ticks = BTreeMap::new();
        let mut growth = Vec::with_capacity(all.len());
        for process in all {
            let key = (process.pid, process.start_ticks);
            let used = process.user_ticks.saturating_add(process.system_ticks);
            // A process not seen before counts with all it ever used, so the first look finds the busiest since they
            // started, and a newcomer that is busy at once is found too.
            let before = self.ticks.get(&key).copied().unwrap_or(0);
            growth.push((used.saturating_sub(before), process.pid));
            ticks.insert(key, used);
        }
        self.ticks = ticks;
        growth.sort_unstable_by(|a, b| b.cmp(a));
        let mut chosen: BTreeSet<u32> = BTreeSet::new();
        let mut outcome = Ok(());
        for &pid in &self.watch.pids {
            if all.iter().any(|process| process.pid == pid) {
                self.missing.remove(&pid);
                chosen.insert(pid);
            } else if self.missing.insert(pid) && outcome.is_ok() {
                outcome = Err(SourceError::NoSuchProcess { pid });
            }
        }
        let busiest = growth.iter().filter(|(growth, _)| *growth > 0);
        chosen.extend(busiest.take(self.watch.busiest).map(|&(_, pid)| pid));
        (chosen.into_iter().collect(), outcome)
    }
}

struct ProcessFiles {
    root: PathBuf,
    units: Option<Units>,
    chooser: Chooser,
    count: u64,
    watched: Vec<ProcFile>,
}

impl ProcessFiles {
    fn new(root: PathBuf, watch: Watch) -> Self {
        Self {
            root,
            units: None,
            chooser: Chooser::new(watch),
            count: 0,
            watched: Vec::new(),
        }
    }

    fn read(&mut self, at: Duration) -> Result<Processes, SourceError> {
        if self.chooser.look_is_due(at) {
            self.look()?;
        }
        let mut outcome = Ok(());
        let mut watched = Vec::with_capacity(self.watched.len());
        self.watched.retain_mut(|file| match read_process(file) {
            Ok(process) => {
                watched.extend(process);
                true
            }
            Err(error) => {
                outcome = Err(error);
                false
            }
        });
        outcome?;
        let root = &self.root;
        let units = *self.units.get_or_insert_with(|| units(root));
        Ok(Processes {
            units,
            count: self.count,
            watched,
        })
    }

    /// Looks at all processes, and chooses those to watch from now on.
    fn look(&mut self) -> Result<(), SourceError> {
        let listing = |error| SourceError::Io {
            path: self.root.clone(),
            error,
        };
        let mut all = Vec::new();
        let mut outcome = Ok(());
        let mut file = ProcFile::new(PathBuf::new());
        for entry in fs::read_dir(&self.root).map_err(listing)? {
            let name = entry.map_err(listing)?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
                continue;
            };
            // One buffer for all of them; the file differs.
            file.path = self.stat_of(pid);
            file.file = None;
            match read_process(&mut file) {
                Ok(process) => all.extend(process),
                // Some systems hide the processes of other users; then they are not there for us.
                Err(SourceError::Io { error, .. })
                    if error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(error) => outcome = Err(error),
            }
        }
        self.count = all.len() as u64;
        let (pids, found) = self.chooser.choose(&all);
        let mut kept = std::mem::take(&mut self.watched);
        self.watched = pids
            .into_iter()
            .map(|pid| {
                let path = self.stat_of(pid);
                match kept.iter().position(|file| file.path == path) {
                    Some(index) => kept.swap_remove(index),
                    None => ProcFile::new(path),
                }
            })
            .collect();
        outcome.and(found)
    }

    fn stat_of(&self, pid: u32) -> PathBuf {
        self.root.join(pid.to_string()).join("stat")
    }
}

/// Reads one process, or nothing if it has ended meanwhile.
fn read_process(file: &mut ProcFile) -> Result<Option<Process>, SourceError> {
    // What Linux returns for a file of a process that ended after the file was opened (ESRCH).
    const NO_SUCH_PROCESS: i32 = 3;
    match file.parsed(|bytes| Ok(lossy_text(bytes)), figures::parse_pid_stat) {
        Ok(process) => Ok(Some(process)),
        Err(SourceError::Io { error, .. })
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(NO_SUCH_PROCESS) =>
        {
            // A pid is given out again: an open file would stay with the process that has ended.
            file.file = None;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Asks the kernel how long a tick is and how large a page.
///
/// It tells every program in the "auxiliary vector", pairs of words, which can be read as a file. Where it cannot, the values
/// of nearly all machines are taken.
fn units(root: &Path) -> Units {
    const PAGE_BYTES: usize = 6;
    const TICKS_PER_SECOND: usize = 17;
    let bytes = fs::read(root.join("self").join("auxv")).unwrap_or_default();
    let words: Vec<usize> = bytes
        .chunks_exact(size_of::<usize>())
        .filter_map(|word| Some(usize::from_ne_bytes(word.try_into().ok()?)))
        .collect();
    let find = |key| {
        let pair = words.chunks_exact(2).find(|pair| pair[0] == key)?;
        u64::try_from(pair[1]).ok().filter(|&value| value > 0)
    };
    Units {
        ticks_per_second: find(TICKS_PER_SECOND).unwrap_or(100),
        page_bytes: find(PAGE_BYTES).unwrap_or(4096),
    }
}
