//! What the machine tells about itself, as plain values, and the parsers of the files it tells it in.
//!
//! A parser takes text and gives figures or an error that names the file, the line, what was expected there and what was
//! found. It never panics, whatever the text: these files are input from outside, and on some machines (containers,
//! emulated kernels) they are written by something other than Linux.
//!
//! Two rules hold for all of them. A field that later kernels added may be missing, and then counts as 0; a field that
//! every kernel writes may not. What stands behind the last known field is left alone, because kernels add fields there.

use std::{borrow::Cow, error, fmt, str::SplitAsciiWhitespace, time::Duration};

use serde::{Deserialize, Serialize};

/// Figures of one kind, and when they were read.
///
/// `at` counts from the start of the program, on the clock of the driver that ran the reader, so that the rates computed
/// from it are also right in virtual time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reading<T> {
    pub(crate) at: Duration,
    pub(crate) figures: T,
}

/// Time spent in each state, in ticks since boot.
///
/// `idle` and `iowait` may go backwards: the kernel guesses them on an idle core and corrects the guess later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CpuTimes {
    pub(crate) user: u64,
    pub(crate) nice: u64,
    pub(crate) system: u64,
    pub(crate) idle: u64,
    pub(crate) iowait: u64,
    pub(crate) irq: u64,
    pub(crate) softirq: u64,
    pub(crate) steal: u64,
    /// Already counted in `user`; adding both would count it twice.
    pub(crate) guest: u64,
    /// Already counted in `nice`.
    pub(crate) guest_nice: u64,
}

/// One core that is online. Cores that are offline are not listed, so an index is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Core {
    pub(crate) index: u32,
    pub(crate) times: CpuTimes,
}

/// What `/proc/stat` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) total: CpuTimes,
    pub(crate) cores: Vec<Core>,
    pub(crate) context_switches: Option<u64>,
    pub(crate) forks: Option<u64>,
    pub(crate) processes_running: Option<u64>,
    pub(crate) processes_blocked: Option<u64>,
}

/// What `/proc/meminfo` says, as far as it is used here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) total_kb: u64,
    pub(crate) free_kb: u64,
    /// Missing before Linux 3.14.
    pub(crate) available_kb: Option<u64>,
    pub(crate) buffers_kb: u64,
    pub(crate) cached_kb: u64,
    pub(crate) dirty_kb: u64,
    pub(crate) swap_total_kb: u64,
    pub(crate) swap_free_kb: u64,
}

/// What passed one network interface, in one direction, since it came up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Traffic {
    pub(crate) bytes: u64,
    pub(crate) packets: u64,
    pub(crate) errors: u64,
    pub(crate) drops: u64,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
}

/// What `/proc/net/dev` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Net {
    pub(crate) interfaces: Vec<Interface>,
}

/// One block device, or a partition of one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Device {
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) name: String,
    pub(crate) reads: u64,
    /// In units of [`SECTOR_BYTES`], whatever the device's own sector size is.
    pub(crate) sectors_read: u64,
    pub(crate) writes: u64,
    /// In units of [`SECTOR_BYTES`] too.
    pub(crate) sectors_written: u64,
    /// Requests under way now. The only figure here that is not a counter.
    pub(crate) in_flight: u64,
    /// Time during which at least one request was under way. The kernel keeps 32 bits of it, so it wraps after 49 days.
    /// Not known on a machine without `/proc`.
    pub(crate) busy_ms: Option<u64>,
    /// Missing before Linux 4.18.
    pub(crate) discards: Option<u64>,
    /// Missing before Linux 5.5.
    pub(crate) flushes: Option<u64>,
}

/// The unit of the sector counters in `/proc/diskstats`; it is fixed by the kernel.
pub(crate) const SECTOR_BYTES: u64 = 512;

/// What `/proc/diskstats` says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Disk {
    pub(crate) devices: Vec<Device>,
}

/// What `/proc/<pid>/stat` says, as far as it is used here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// The name of the program file, cut to 15 bytes. A process may set it to anything, also to `) (`.
    pub(crate) comm: String,
    /// `R` running, `S` sleeping, `D` waiting for a device, `Z` ended but not collected, and others.
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) minor_faults: u64,
    pub(crate) major_faults: u64,
    pub(crate) user_ticks: u64,
    pub(crate) system_ticks: u64,
    pub(crate) threads: u64,
    /// When it started, in ticks since boot. A pid is given out again once its process has ended; a pair of pid and start is not.
    pub(crate) start_ticks: u64,
    pub(crate) virtual_bytes: u64,
    pub(crate) resident_pages: u64,
}

/// What the counts of [`Process`] are counts of. It differs between machines, so it travels with the figures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Units {
    pub(crate) ticks_per_second: u64,
    pub(crate) page_bytes: u64,
}

/// The processes that are watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Processes {
    pub(crate) units: Units,
    /// How many processes there were on the machine at the last full look. Only those in `watched` are read each time.
    pub(crate) count: u64,
    pub(crate) watched: Vec<Process>,
}

/// Why a text is not what its file name promises.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct ParseError {
    file: Cow<'static, str>,
    /// Counted from 1, as editors do.
    line: usize,
    expected: Cow<'static, str>,
    found: Found,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Cut to [`FOUND_CHARS`] characters, and escaped when shown, so that an error is one short line.
    Text(String),
    Byte(u8),
    EndOfLine,
    EndOfFile,
}

const FOUND_CHARS: usize = 40;

impl ParseError {
    fn new(line: usize, expected: impl Into<Cow<'static, str>>, found: Found) -> Self {
        Self {
            file: Cow::Borrowed(""),
            line,
            expected: expected.into(),
            found,
        }
    }

    /// Says which file it was, when that is known better than the parser can know it.
    pub(crate) fn in_file(mut self, file: impl Into<Cow<'static, str>>) -> Self {
        self.file = file.into();
        self
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} line {}: expected {}, found ",
            self.file, self.line, self.expected
        )?;
        match &self.found {
            Found::Text(text) => write!(f, "\"{}\"", text.escape_debug()),
            Found::Byte(byte) => write!(f, "the byte 0x{byte:02x}"),
            Found::EndOfLine => f.write_str("the end of the line"),
            Found::EndOfFile => f.write_str("the end of the file"),
        }
    }
}

impl fmt::Debug for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParseError({self})")
    }
}

impl error::Error for ParseError {}

fn text(found: &str) -> Found {
    Found::Text(found.chars().take(FOUND_CHARS).collect())
}

/// The name under which [`parse_stat`] reports errors.
pub(crate) const STAT: &str = "/proc/stat";
/// The name under which [`parse_meminfo`] reports errors.
pub(crate) const MEMINFO: &str = "/proc/meminfo";
/// The name under which [`parse_net_dev`] reports errors.
pub(crate) const NET_DEV: &str = "/proc/net/dev";
/// The name under which [`parse_diskstats`] reports errors.
pub(crate) const DISKSTATS: &str = "/proc/diskstats";
/// The name under which [`parse_pid_stat`] reports errors.
pub(crate) const PID_STAT: &str = "/proc/<pid>/stat";

/// Takes bytes for text where the kernel alone writes the file, so that a byte that is not text is an error.
///
/// # Errors
///
/// Names the line of the first byte that is not UTF-8.
pub(crate) fn strict_text<'a>(
    file: &'static str,
    bytes: &'a [u8],
) -> Result<Cow<'a, str>, ParseError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Cow::Borrowed(text)),
        Err(error) => {
            let (good, bad) = bytes.split_at(error.valid_up_to());
            let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
            let found = bad
                .first()
                .map_or(Found::EndOfFile, |&byte| Found::Byte(byte));
            Err(ParseError::new(line, "UTF-8 text", found).in_file(file))
        }
    }
}

/// Takes bytes for text where people choose names that the kernel does not check (programs, interfaces): a byte that is not
/// text becomes a replacement character, because a strange name is no reason to lose the figures beside it.
pub(crate) fn lossy_text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// One line, read word by word.
struct Words<'a> {
    line: usize,
    words: SplitAsciiWhitespace<'a>,
}

impl<'a> Words<'a> {
    fn new(line: usize, text: &'a str) -> Self {
        Self {
            line,
            words: text.split_ascii_whitespace(),
        }
    }

    fn error(&self, expected: impl Into<Cow<'static, str>>, found: Option<&str>) -> ParseError {
        ParseError::new(self.line, expected, found.map_or(Found::EndOfLine, text))
    }

    fn word(&mut self, expected: &'static str) -> Result<&'a str, ParseError> {
        self.words.next().ok_or_else(|| self.error(expected, None))
    }

    /// Reads the next word as a number. `T` is as wide as the figure is kept, so that a wider one is an error, not a wrap.
    fn number<T: Unsigned>(&mut self, expected: &'static str) -> Result<T, ParseError> {
        let word = self.word(expected)?;
        number(self.line, expected, word)
    }

    /// Reads the next word as a number, or 0 when the line ends here.
    fn later_number(&mut self, expected: &'static str) -> Result<u64, ParseError> {
        Ok(self.optional_number(expected)?.unwrap_or(0))
    }

    fn optional_number(&mut self, expected: &'static str) -> Result<Option<u64>, ParseError> {
        self.words
            .next()
            .map(|word| number(self.line, expected, word))
            .transpose()
    }

    /// Passes over words that are not used, but must be there.
    fn skip(&mut self, count: usize, expected: &'static str) -> Result<(), ParseError> {
        for _ in 0..count {
            self.word(expected)?;
        }
        Ok(())
    }
}

trait Unsigned: Sized {
    const BITS: u32;
    fn parse(digits: &str) -> Option<Self>;
}

impl Unsigned for u32 {
    const BITS: u32 = u32::BITS;
    fn parse(digits: &str) -> Option<Self> {
        digits.parse().ok()
    }
}

impl Unsigned for u64 {
    const BITS: u32 = u64::BITS;
    fn parse(digits: &str) -> Option<Self> {
        digits.parse().ok()
    }
}

fn number<T: Unsigned>(line: usize, expected: &'static str, word: &str) -> Result<T, ParseError> {
    // `str::parse` takes a leading `+`, which no kernel writes.
    let digits = !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    if !digits {
        return Err(ParseError::new(line, expected, text(word)));
    }
    T::parse(word).ok_or_else(|| {
        let expected = format!("{expected} below 2^{}", T::BITS);
        ParseError::new(line, expected, text(word))
    })
}

/// The lines of a text, counted from 1.
fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

fn missing(text: &str, expected: &'static str) -> ParseError {
    // The file ends on the line behind its last line end, as an editor shows it.
    let line = 1 + text.matches('\n').count();
    ParseError::new(line, expected, Found::EndOfFile)
}

/// Reads `/proc/stat`.
///
/// # Errors
///
/// - A line that starts with `cpu` is not followed by at least four numbers (`user`, `nice`, `system`, `idle`; the later ones
///   count as 0 when missing).
/// - There is no line `cpu`.
pub(crate) fn parse_stat(text: &str) -> Result<Cpu, ParseError> {
    stat(text).map_err(|error| error.in_file(STAT))
}

fn stat(text: &str) -> Result<Cpu, ParseError> {
    let mut cpu = Cpu::default();
    let mut total = None;
    for (line, content) in numbered(text) {
        let mut words = Words::new(line, content);
        let Some(key) = words.words.next() else {
            continue;
        };
        if let Some(index) = key.strip_prefix("cpu") {
            if index.is_empty() {
                total = Some(cpu_times(&mut words)?);
            } else {
                cpu.cores.push(Core {
                    index: number(line, "a core number behind \"cpu\"", index)?,
                    times: cpu_times(&mut words)?,
                });
            }
            continue;
        }
        // The line `intr` is thousands of characters long on a large machine; like all others it is not read.
        let figure = match key {
            "ctxt" => &mut cpu.context_switches,
            "processes" => &mut cpu.forks,
            "procs_running" => &mut cpu.processes_running,
            "procs_blocked" => &mut cpu.processes_blocked,
            _ => continue,
        };
        *figure = Some(words.number("a count")?);
    }
    cpu.total = total.ok_or_else(|| missing(text, "a line \"cpu\""))?;
    Ok(cpu)
}

fn cpu_times(words: &mut Words<'_>) -> Result<CpuTimes, ParseError> {
    const TICKS: &str = "a number of ticks";
    Ok(CpuTimes {
        user: words.number(TICKS)?,
        nice: words.number(TICKS)?,
        system: words.number(TICKS)?,
        idle: words.number(TICKS)?,
        iowait: words.later_number(TICKS)?,
        irq: words.later_number(TICKS)?,
        softirq: words.later_number(TICKS)?,
        steal: words.later_number(TICKS)?,
        guest: words.later_number(TICKS)?,
        guest_nice: words.later_number(TICKS)?,
    })
}

/// Reads `/proc/meminfo`.
///
/// # Errors
///
/// - A line that is used is not a number of kB, or a line has no colon.
/// - There is no line `MemTotal` or no line `MemFree`.
pub(crate) fn parse_meminfo(text: &str) -> Result<Memory, ParseError> {
    meminfo(text).map_err(|error| error.in_file(MEMINFO))
}

fn meminfo(text: &str) -> Result<Memory, ParseError> {
    let mut memory = Memory::default();
    let mut total = None;
    let mut free = None;
    for (line, content) in numbered(text) {
        if content.trim_ascii().is_empty() {
            continue;
        }
        let Some((key, value)) = content.split_once(':') else {
            return Err(Words::new(line, content).error("a name and a colon", Some(content)));
        };
        let kb = || kilobytes(line, value);
        match key {
            "MemTotal" => total = Some(kb()?),
            "MemFree" => free = Some(kb()?),
            "MemAvailable" => memory.available_kb = Some(kb()?),
            "Buffers" => memory.buffers_kb = kb()?,
            "Cached" => memory.cached_kb = kb()?,
            "Dirty" => memory.dirty_kb = kb()?,
            "SwapTotal" => memory.swap_total_kb = kb()?,
            "SwapFree" => memory.swap_free_kb = kb()?,
            _ => {}
        }
    }
    memory.total_kb = total.ok_or_else(|| missing(text, "a line \"MemTotal:\""))?;
    memory.free_kb = free.ok_or_else(|| missing(text, "a line \"MemFree:\""))?;
    Ok(memory)
}

fn kilobytes(line: usize, value: &str) -> Result<u64, ParseError> {
    const KB: &str = "a number of kB";
    let mut words = Words::new(line, value);
    let kb = words.number(KB)?;
    // Without its unit a number could be off by 1024, or be a count of pages.
    match words.words.next() {
        Some("kB") => Ok(kb),
        found => Err(words.error("the unit kB", found)),
    }
}

/// Reads `/proc/net/dev`.
///
/// # Errors
///
/// - One of the two heading lines is missing.
/// - A line has no colon, no name before it, or fewer than 16 numbers behind it.
pub(crate) fn parse_net_dev(text: &str) -> Result<Net, ParseError> {
    net_dev(text).map_err(|error| error.in_file(NET_DEV))
}

fn net_dev(text: &str) -> Result<Net, ParseError> {
    const HEADING: &str = "a heading with \"|\" between its columns";
    let mut net = Net::default();
    let mut headings = 0;
    for (line, content) in numbered(text) {
        if headings < 2 {
            if !content.contains('|') {
                return Err(Words::new(line, content).error(HEADING, Some(content)));
            }
            headings += 1;
            continue;
        }
        if content.trim_ascii().is_empty() {
            continue;
        }
        // The last colon, because aliases (`eth0:1`) have one in their name. Old kernels put no space behind it.
        let Some((name, figures)) = content.rsplit_once(':') else {
            return Err(Words::new(line, content).error("an interface and a colon", Some(content)));
        };
        let name = name.trim_ascii();
        if name.is_empty() {
            let words = Words::new(line, content);
            return Err(words.error("the name of an interface", Some(content.trim_ascii())));
        }
        let mut words = Words::new(line, figures);
        let received = traffic(&mut words)?;
        // fifo, frame, compressed, multicast
        words.skip(4, "16 counters of an interface")?;
        let sent = traffic(&mut words)?;
        // fifo, colls, carrier, compressed
        words.skip(4, "16 counters of an interface")?;
        net.interfaces.push(Interface {
            name: name.to_owned(),
            received,
            sent,
        });
    }
    if headings < 2 {
        return Err(missing(text, HEADING));
    }
    Ok(net)
}

fn traffic(words: &mut Words<'_>) -> Result<Traffic, ParseError> {
    Ok(Traffic {
        bytes: words.number("a number of bytes")?,
        packets: words.number("a number of packets")?,
        errors: words.number("a number of errors")?,
        drops: words.number("a number of drops")?,
    })
}

/// Reads `/proc/diskstats`. An empty file is a machine without disks.
///
/// # Errors
///
/// A line is not a pair of device numbers, a name, and 11, 15 or 17 counters (more are left alone).
pub(crate) fn parse_diskstats(text: &str) -> Result<Disk, ParseError> {
    diskstats(text).map_err(|error| error.in_file(DISKSTATS))
}

fn diskstats(text: &str) -> Result<Disk, ParseError> {
    const REQUESTS: &str = "a number of requests";
    const SECTORS: &str = "a number of sectors";
    const MILLISECONDS: &str = "a number of milliseconds";
    let mut disk = Disk::default();
    for (line, content) in numbered(text) {
        if content.trim_ascii().is_empty() {
            continue;
        }
        let mut words = Words::new(line, content);
        let mut device = Device {
            major: words.number("a major device number")?,
            minor: words.number("a minor device number")?,
            name: words.word("the name of a device")?.to_owned(),
            ..Device::default()
        };
        device.reads = words.number(REQUESTS)?;
        words.skip(1, REQUESTS)?; // merged
        device.sectors_read = words.number(SECTORS)?;
        words.skip(1, MILLISECONDS)?;
        device.writes = words.number(REQUESTS)?;
        words.skip(1, REQUESTS)?; // merged
        device.sectors_written = words.number(SECTORS)?;
        words.skip(1, MILLISECONDS)?;
        device.in_flight = words.number(REQUESTS)?;
        device.busy_ms = Some(words.number(MILLISECONDS)?);
        words.skip(1, MILLISECONDS)?; // weighted by requests
        // Discards came in a group of four, flushes in a group of two: a group that has begun must be whole.
        device.discards = words.optional_number(REQUESTS)?;
        if device.discards.is_some() {
            words.skip(3, "four figures of discards")?;
            device.flushes = words.optional_number(REQUESTS)?;
            if device.flushes.is_some() {
                words.skip(1, "two figures of flushes")?;
            }
        }
        disk.devices.push(device);
    }
    Ok(disk)
}

/// Reads `/proc/<pid>/stat`.
///
/// # Errors
///
/// - There is no pid, no name in parentheses, no state, or fewer than the 22 figures that every kernel writes behind it.
pub(crate) fn parse_pid_stat(text: &str) -> Result<Process, ParseError> {
    pid_stat(text).map_err(|error| error.in_file(PID_STAT))
}

fn pid_stat(text: &str) -> Result<Process, ParseError> {
    const FAULTS: &str = "a number of page faults";
    const TICKS: &str = "a number of ticks";
    const NAME: &str = "a name in parentheses";
    if text.is_empty() {
        return Err(missing(text, "the figures of a process"));
    }
    // The name may hold spaces, parentheses and line ends, so the line cannot be split into words from the left: the name
    // ends at the last `)`, because no later field has one.
    let Some((before, figures)) = text.rsplit_once(')') else {
        return Err(Words::new(1, text).error(NAME, Some(text.trim_ascii())));
    };
    let Some((pid, comm)) = before.split_once('(') else {
        return Err(Words::new(1, text).error(NAME, Some(before.trim_ascii())));
    };
    let pid = Words::new(1, pid).number("a process id")?;
    // Line ends inside the name count, so that the line named in an error is the one an editor shows.
    let line = 1 + before.matches('\n').count();
    let mut words = Words::new(line, figures);
    let state = words.word("the state of the process")?;
    let mut letters = state.chars();
    let (Some(state), None) = (letters.next(), letters.next()) else {
        return Err(words.error("the state of the process, one letter", Some(state)));
    };
    let parent = words.number("the id of the parent process")?;
    words.skip(5, "the group, session, terminal and flags of the process")?;
    let minor_faults = words.number(FAULTS)?;
    words.skip(1, FAULTS)?; // of children
    let major_faults = words.number(FAULTS)?;
    words.skip(1, FAULTS)?; // of children
    let user_ticks = words.number(TICKS)?;
    let system_ticks = words.number(TICKS)?;
    // Two of children, then priority and nice, which may be negative.
    words.skip(4, "a number of ticks or a priority")?;
    let threads = words.number("a number of threads")?;
    words.skip(1, TICKS)?; // always 0 since Linux 2.6.17
    let start_ticks = words.number(TICKS)?;
    let virtual_bytes = words.number("a number of bytes")?;
    let resident_pages = words.number("a number of pages")?;
    Ok(Process {
        pid,
        comm: comm.to_owned(),
        state,
        parent,
        minor_faults,
        major_faults,
        user_ticks,
        system_ticks,
        threads,
        start_ticks,
        virtual_bytes,
        resident_pages,
    })
}
