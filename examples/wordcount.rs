//! The main job of many: counts the words of a large text tree on a pool, and checks the totals against a plain loop.
//!
//! ```text
//!                 path                  counts of some words                   totals
//! main thread ----------> 2 readers  --------------------------> 1 counter  --------> main thread
//!                         per thread    by the word's hash       per thread
//!                             \
//!                              `--> the bar, on a thread of its own
//! ```
//!
//! - All readers and counters share one pool. A reader says that it blocks while it reads a file (`cx.block`), so others count
//!   meanwhile.
//! - Every mailbox is bounded, and whoever sends waits: the main thread for readers, readers for counters. However large the tree
//!   is, only a few files of it are in memory.
//! - A word always goes to the same counter, so no two of them count the same word, and no lock is needed. What a reader sends
//!   to a counter arrives in that order; the counters check it.
//!
//! ```sh
//! cargo run --release --example wordcount -- ~/.cargo/registry/src --extensions rs,md --top 10
//! ```
//!
//! Without a path it takes the documentation that came with Rust, else the sources of cargo's registry, else the current
//! directory. A word is a run of letters and digits, in lower case. Files that cannot be read or are no text are counted and
//! left out. The exit code is 1 if the plain loop finds other totals, and 2 if the arguments make no sense.

use std::{
    collections::HashMap,
    error::Error,
    fs,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use clap::{ArgAction, Parser};
use comfy_table::{CellAlignment, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use mproc::{Address, Cx, Fault, Handle, MailboxOptions, Node, Options, Outcome, Processor};

/// Counts the words of a text tree on a pool of threads.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// A directory or a file; what Rust brought along, if left out.
    path: Option<PathBuf>,

    /// Threads of the pool; as many as there are cores, if left out.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: Option<u16>,

    /// How many words the table shows.
    #[arg(long, default_value_t = 20)]
    top: usize,

    /// Endings of the files to read, separated by commas; an empty one means all files.
    #[arg(long, value_delimiter = ',', default_value = "html,md,rs,toml,txt")]
    extensions: Vec<String>,

    /// Whether a plain loop counts again and must find the same.
    #[arg(long, action = ArgAction::Set, default_value_t = true, default_missing_value = "true", num_args = 0..=1)]
    check: bool,
}

/// Files that wait in front of each reader.
const FILES_WAITING: usize = 8;
/// Batches that wait in front of each counter.
const BATCHES_WAITING: usize = 32;
/// What is larger is left out: a file is read as a whole.
const FILE_BYTES_MAX: u64 = 256 << 20;
/// Longer than anything here takes: a wait for room ends when there is room.
const LIMIT: Duration = Duration::from_secs(24 * 60 * 60);
/// Files that are named in a report; of the others only their number is.
const NAMED: usize = 5;

/// The same word has the same hash in every reader.
type Hasher = BuildHasherDefault<DefaultHasher>;
type Counts = HashMap<String, u64, Hasher>;

// ---------------------------------------------------------------------------------------------- what is counted

/// Reads a file as text.
fn read(path: &Path) -> io::Result<String> {
    let bytes = fs::metadata(path)?.len();
    if bytes > FILE_BYTES_MAX {
        let text = format!("it has {bytes} bytes, more than {FILE_BYTES_MAX}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    String::from_utf8(fs::read(path)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no text in UTF-8"))
}

/// The words of a text, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// What there is to read.
#[derive(Default)]
struct Tree {
    files: Vec<PathBuf>,
    bytes: u64,
    /// Directories and files that the system does not let us see.
    refused: Refused,
}

/// What could not be read: how much, and the first few with the reason.
#[derive(Clone, Default, PartialEq, Eq)]
struct Refused {
    count: u64,
    named: Vec<String>,
}

impl Refused {
    fn add(&mut self, path: &Path, why: &io::Error) {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("{}: {why}", path.display()));
        }
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.named.extend(other.named);
        self.named.truncate(NAMED);
    }
}

impl Tree {
    /// Looks for files with one of these endings, or for all. Does not follow links, which may lead in circles.
    fn walk(path: &Path, extensions: &[String]) -> Self {
        let mut tree = Self::default();
        let wanted = |path: &Path| {
            let ending = path.extension().and_then(|e| e.to_str()).unwrap_or("");
            extensions
                .iter()
                .any(|e| e.is_empty() || e.trim_start_matches('.') == ending)
        };
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            if let Err(why) = tree.look_at(&path, &wanted, &mut waiting) {
                tree.refused.add(&path, &why);
            }
        }
        tree.files.sort();
        tree
    }

    fn look_at(
        &mut self,
        path: &Path,
        wanted: &impl Fn(&Path) -> bool,
        waiting: &mut Vec<PathBuf>,
    ) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        if metadata.is_dir() {
            for entry in fs::read_dir(path)? {
                waiting.push(entry?.path());
            }
        } else if metadata.is_file() && wanted(path) {
            self.files.push(path.to_owned());
            self.bytes += metadata.len();
        }
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------- readers

/// Reads files, and sends what is in them to the counters.
struct Reader {
    number: usize,
    counters: Vec<Address<Counter>>,
    /// How many batches each counter has got from here.
    sent: Vec<u64>,
    bar: Address<Bar>,
    read: ReaderTotals,
}

#[derive(Clone, Default)]
struct ReaderTotals {
    files: u64,
    bytes: u64,
    refused: Refused,
}

/// A file to read.
struct Read(PathBuf);

/// Asks for the totals of a reader. When it is handled everything before it has been sent: a processor whose sends wait for room
/// handles no further message.
struct AllRead;

impl Processor for Reader {}

impl Handle<Read> for Reader {
    type Reply = ();

    fn handle(&mut self, Read(path): Read, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        // The thread waits for the disk: another one takes its place meanwhile.
        let text = match cx.block(|| read(&path)) {
            Ok(text) => text,
            Err(why) => {
                self.read.refused.add(&path, &why);
                return Ok(());
            }
        };
        self.read.files += 1;
        self.read.bytes += text.len() as u64;
        let mut shares = vec![Counts::default(); self.counters.len()];
        for word in words(&text) {
            let hash = Hasher::default().hash_one(&word) as usize;
            *shares[hash % self.counters.len()].entry(word).or_default() += 1;
        }
        for (to, counts) in shares.into_iter().enumerate() {
            if counts.is_empty() {
                continue;
            }
            let batch = Batch {
                reader: self.number,
                number: self.sent[to],
                counts,
            };
            self.sent[to] += 1;
            let sent = self.counters[to].send(batch);
            sent.map_err(|error| Fault::new(format!("a counter takes nothing: {error}")))?;
        }
        // The bar may miss some: it is only looked at.
        let _missed = self.bar.try_send(Progress(text.len() as u64));
        Ok(())
    }
}

impl Handle<AllRead> for Reader {
    type Reply = ReaderTotals;

    fn handle(&mut self, _: AllRead, _: &mut Cx<'_, Self, ReaderTotals>) -> Outcome<ReaderTotals> {
        Ok(std::mem::take(&mut self.read))
    }
}

// ---------------------------------------------------------------------------------------------- counters

/// Adds up the words that fall to it.
struct Counter {
    counts: Counts,
    /// How many batches have come from each reader.
    received: Vec<u64>,
    /// Batches that did not come in their turn.
    out_of_order: u64,
}

/// Some words of one file.
struct Batch {
    reader: usize,
    number: u64,
    counts: Counts,
}

/// Asks for what a counter has counted.
struct AllCounted;

struct CounterTotals {
    counts: Counts,
    batches: u64,
    out_of_order: u64,
}

impl Processor for Counter {}

impl Handle<Batch> for Counter {
    type Reply = ();

    fn handle(&mut self, batch: Batch, _: &mut Cx<'_, Self>) -> Outcome<()> {
        let received = &mut self.received[batch.reader];
        self.out_of_order += u64::from(batch.number != *received);
        *received += 1;
        for (word, count) in batch.counts {
            *self.counts.entry(word).or_default() += count;
        }
        Ok(())
    }
}

impl Handle<AllCounted> for Counter {
    type Reply = CounterTotals;

    fn handle(
        &mut self,
        _: AllCounted,
        _: &mut Cx<'_, Self, CounterTotals>,
    ) -> Outcome<CounterTotals> {
        Ok(CounterTotals {
            counts: std::mem::take(&mut self.counts),
            batches: self.received.iter().sum(),
            out_of_order: self.out_of_order,
        })
    }
}

// ---------------------------------------------------------------------------------------------- the bar

/// Shows how far the readers are.
struct Bar(ProgressBar);

/// So many bytes have been read.
struct Progress(u64);

impl Bar {
    /// Shown where somebody looks: not if the standard error goes into a file.
    fn new(bytes: u64) -> Self {
        if !io::stderr().is_terminal() {
            return Self(ProgressBar::hidden());
        }
        let style = "{bar:40} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        let style = ProgressStyle::with_template(style);
        Self(
            ProgressBar::new(bytes)
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())),
        )
    }
}

impl Processor for Bar {
    fn stopped(&mut self, _: &mproc::Exit, _: &mut Cx<'_, Self>) {
        self.0.finish_and_clear();
    }
}

impl Handle<Progress> for Bar {
    type Reply = ();

    fn handle(&mut self, Progress(bytes): Progress, _: &mut Cx<'_, Self>) -> Outcome<()> {
        self.0.inc(bytes);
        Ok(())
    }
}

// ---------------------------------------------------------------------------------------------- the program

/// What a count of the whole tree found.
struct Found {
    counts: Counts,
    read: ReaderTotals,
    batches: u64,
    took: Duration,
}

/// Counts on a pool.
fn count_on_a_pool(tree: &Tree, threads: usize) -> Result<Found, Box<dyn Error>> {
    let start = Instant::now();
    let node = Node::with_options(Options::default().send_limit(LIMIT).call_limit(LIMIT));
    let pool = node.pool("words", threads)?;
    let bar = node.spawn_thread("bar", Bar::new(tree.bytes))?;
    let readers = 2 * threads;
    let counters: Vec<_> = (0..threads)
        .map(|number| {
            let counter = Counter {
                counts: Counts::default(),
                received: vec![0; readers],
                out_of_order: 0,
            };
            let room = MailboxOptions::bounded(BATCHES_WAITING);
            pool.spawn_with(&format!("counter {number}"), room, counter)
        })
        .collect::<Result<_, _>>()?;
    let readers: Vec<_> = (0..readers)
        .map(|number| {
            let reader = Reader {
                number,
                counters: counters.clone(),
                sent: vec![0; counters.len()],
                bar: bar.clone(),
                read: ReaderTotals::default(),
            };
            let room = MailboxOptions::bounded(FILES_WAITING);
            pool.spawn_with(&format!("reader {number}"), room, reader)
        })
        .collect::<Result<_, _>>()?;

    for (path, reader) in tree.files.iter().zip(readers.iter().cycle()) {
        // Waits while this reader has enough to do.
        reader.send(Read(path.clone()))?;
    }
    let mut read = ReaderTotals::default();
    for reader in &readers {
        let totals = reader.call(AllRead).wait()?;
        read.files += totals.files;
        read.bytes += totals.bytes;
        read.refused.merge(totals.refused);
    }
    let (mut counts, mut batches) = (Counts::default(), 0);
    for counter in &counters {
        let totals = counter.call(AllCounted).wait()?;
        if totals.out_of_order > 0 {
            let text = format!("{} batches came out of order", totals.out_of_order);
            return Err(text.into());
        }
        batches += totals.batches;
        // No other counter has any of these words.
        counts.extend(totals.counts);
    }
    bar.stop();
    let took = start.elapsed();
    let report = node.shutdown(LIMIT);
    let dropped = node.snapshot().totals.dropped.clone();
    // Everything that a counter was sent has been counted, so nothing but progress may be left out.
    if !report.is_clean()
        || node
            .dead_letters()
            .recent()
            .iter()
            .any(|l| l.to_name.as_str() != "bar")
    {
        return Err(
            format!("the pool did not end as it should: {report}, dropped: {dropped}").into(),
        );
    }
    Ok(Found {
        counts,
        read,
        batches,
        took,
    })
}

/// Counts in a plain loop on this thread.
fn count_in_a_loop(tree: &Tree) -> Found {
    let start = Instant::now();
    let (mut counts, mut read_here) = (Counts::default(), ReaderTotals::default());
    for path in &tree.files {
        match read(path) {
            Ok(text) => {
                read_here.files += 1;
                read_here.bytes += text.len() as u64;
                for word in words(&text) {
                    *counts.entry(word).or_default() += 1;
                }
            }
            Err(why) => read_here.refused.add(path, &why),
        }
    }
    Found {
        counts,
        read: read_here,
        batches: 0,
        took: start.elapsed(),
    }
}

/// Says in which ways two counts differ; `None` if they do not.
fn difference(pool: &Found, plain: &Found) -> Option<String> {
    let sums = |found: &Found| {
        let words: u64 = found.counts.values().sum();
        format!(
            "{} files, {} bytes, {} left out, {words} words, {} different ones",
            found.read.files,
            found.read.bytes,
            found.read.refused.count,
            found.counts.len()
        )
    };
    let (on_pool, in_loop) = (sums(pool), sums(plain));
    if on_pool != in_loop {
        return Some(format!("the pool found {on_pool}; a plain loop {in_loop}"));
    }
    plain.counts.iter().find_map(|(word, count)| {
        let other = pool.counts.get(word).copied().unwrap_or(0);
        (other != *count).then(|| format!("{word:?}: {other} times; by a plain loop {count} times"))
    })
}

/// The most frequent words, those of equal frequency by the alphabet.
fn table(counts: &Counts, top: usize) -> Table {
    let words: u64 = counts.values().sum();
    let mut sorted: Vec<_> = counts.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut table = Table::new();
    table.load_preset(presets::UTF8_BORDERS_ONLY);
    table.set_header(["word", "times", "% of all"]);
    for (word, count) in sorted.into_iter().take(top) {
        let share = *count as f64 * 100.0 / words as f64;
        table.add_row([word.clone(), count.to_string(), format!("{share:.2}")]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// What is likely to be large and of words.
fn default_path() -> PathBuf {
    let sysroot = Command::new("rustc").args(["--print", "sysroot"]).output();
    let sysroot = sysroot.ok().and_then(|o| String::from_utf8(o.stdout).ok());
    let documentation = sysroot.map(|s| Path::new(s.trim()).join("share/doc/rust/html"));
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cargo")));
    let sources = cargo.map(|home| home.join("registry/src"));
    let found = [documentation, sources].into_iter().flatten();
    let mut found = found.filter(|path| path.is_dir());
    found.next().unwrap_or_else(|| PathBuf::from("."))
}

fn say_refused(refused: &Refused) {
    if refused.count > 0 {
        eprintln!("left out: {}", refused.count);
        for named in &refused.named {
            eprintln!("  {named}");
        }
        let more = refused.count.saturating_sub(refused.named.len() as u64);
        if more > 0 {
            eprintln!("  and {more} more");
        }
    }
}

fn run(arguments: &Arguments, path: &Path) -> Result<(), Box<dyn Error>> {
    let tree = Tree::walk(path, &arguments.extensions);
    let threads = arguments.threads.map_or_else(
        || std::thread::available_parallelism().map_or(2, usize::from),
        usize::from,
    );
    let found = count_on_a_pool(&tree, threads)?;

    let words: u64 = found.counts.values().sum();
    let seconds = found.took.as_secs_f64();
    let mut out = io::stdout().lock();
    if words > 0 {
        writeln!(out, "{}", table(&found.counts, arguments.top))?;
    }
    writeln!(
        out,
        "{}: {} files, {:.1} MB, {words} words, {} different ones",
        path.display(),
        found.read.files,
        found.read.bytes as f64 / 1e6,
        found.counts.len()
    )?;
    writeln!(
        out,
        "pool of {threads}: {seconds:.2} s, {:.1} MB/s, {:.0} words/s, {} batches",
        found.read.bytes as f64 / 1e6 / seconds,
        words as f64 / seconds,
        found.batches
    )?;
    out.flush()?;
    let mut refused = tree.refused.clone();
    refused.merge(found.read.refused.clone());
    say_refused(&refused);
    if arguments.check {
        let plain = count_in_a_loop(&tree);
        if let Some(difference) = difference(&found, &plain) {
            return Err(format!("{difference} (did a file change meanwhile?)").into());
        }
        writeln!(
            out,
            "checked: a plain loop found the same, in {:.2} s",
            plain.took.as_secs_f64()
        )?;
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let path = arguments.path.clone().unwrap_or_else(default_path);
    if let Err(why) = fs::metadata(&path) {
        eprintln!("error: cannot read {}: {why}", path.display());
        return ExitCode::from(2);
    }
    match run(&arguments, &path) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has had enough of it.
        Err(error) if is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
