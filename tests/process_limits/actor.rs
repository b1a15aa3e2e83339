//! A process that plays a role, and the role of an ordinary node that does what it is told.

use super::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

/// A child, and what it has said.
pub(crate) struct Actor {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    /// All that have come.
    pub(crate) seen: Vec<String>,
    /// Those that nobody has waited for.
    untaken: Vec<String>,
}

/// Lines of ours begin so; the harness writes others, and may begin one of ours.
fn listen(
    output: impl Read + Send + 'static,
    mark: &'static str,
    as_what: &str,
    tell: Sender<String>,
) {
    let as_what = as_what.to_owned();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            match line.split_once(mark) {
                Some((_, ours)) if tell.send(format!("{as_what}{ours}")).is_err() => return,
                Some(_) => {}
                // What a panic says is worth reading.
                None if !as_what.is_empty() => eprintln!("{line}"),
                None => {}
            }
        }
    });
}

pub(crate) fn start(role: &str, base: &Path, more: &[(&str, &OsStr)]) -> Actor {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "role", "--nocapture", "--test-threads=1"])
        .env_remove("MPROC_DOMAIN")
        .env_remove("MPROC_CAPACITY")
        .env("LIMITS_ROLE", role)
        .env("LIMITS_BASE", base)
        // One heap for all threads: see "squeeze".
        .env("MALLOC_ARENA_MAX", "1")
        .envs(more.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = child.stdin.take();
    let (tell, lines) = channel();
    listen(child.stdout.take().unwrap(), "@ ", "", tell.clone());
    listen(child.stderr.take().unwrap(), "mproc: ", "told ", tell);
    Actor {
        child,
        input,
        lines,
        seen: Vec::new(),
        untaken: Vec::new(),
    }
}

/// A node that does what it is told.
pub(crate) fn ordinary(base: &TempDir) -> Actor {
    start("node", base.path(), &[])
}

impl Actor {
    /// Waits for a line that begins with `start`, takes it, and returns the rest of it. Lines that come before it can still be
    /// taken.
    pub(crate) fn wait_for(&mut self, start: &str) -> String {
        self.wait_for_within(start, LONG)
    }

    pub(crate) fn wait_for_within(&mut self, start: &str, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut passed = 0;
        loop {
            if let Some(line) = self.untaken.get(passed) {
                if let Some(rest) = line.strip_prefix(start) {
                    let rest = rest.trim().to_owned();
                    self.untaken.remove(passed);
                    return rest;
                }
                passed += 1;
                continue;
            }
            match self
                .lines
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    if !line.starts_with("told") {
                        println!("{}: {line}", self.child.id());
                    }
                    self.seen.push(line.clone());
                    self.untaken.push(line);
                }
                Err(error) => panic!("waiting for {start:?}: {error}, after {:#?}", self.seen),
            }
        }
    }

    pub(crate) fn tell(&mut self, line: &str) {
        println!("{}> {line}", self.child.id());
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn ask(&mut self, line: &str, answer: &str) -> String {
        self.tell(line);
        self.wait_for(answer)
    }

    /// What it has reported so far.
    pub(crate) fn reports(&mut self) -> Vec<String> {
        self.seen.extend(
            self.lines
                .try_iter()
                .inspect(|line| self.untaken.push(line.clone())),
        );
        let told = self
            .seen
            .iter()
            .filter_map(|line| line.strip_prefix("told "));
        told.map(str::to_owned).collect()
    }

    pub(crate) fn label(&self) -> String {
        format!("process {}", self.child.id())
    }

    /// Has it end in order. An ordinary node says `over` then.
    pub(crate) fn end(&mut self) {
        self.input = None;
    }

    /// Ends it in order.
    pub(crate) fn leave(mut self) {
        self.input = None;
        let status = self.child.wait().unwrap();
        self.reports();
        assert!(status.success(), "{status}, after {:#?}", self.seen);
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ------------------------------------------------------------------------------------------------ the children's side

pub(crate) fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n@ {line}")
        .and_then(|()| out.flush())
        .unwrap();
}

pub(crate) fn orders() -> impl Iterator<Item = String> {
    std::io::stdin().lines().map_while(Result::ok)
}

pub(crate) fn limit(which: Resource, current: Option<u64>) {
    let maximum = getrlimit(which).maximum;
    setrlimit(which, Rlimit { current, maximum }).unwrap();
}

/// How much of a processor this process has used.
fn cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

pub(crate) fn topic(name: &str) -> Topic<Vec<u8>> {
    Topic::new("").renamed(name)
}

/// Lines: an order, the name of a topic, and numbers.
pub(crate) fn act(base: &Path) {
    let limits = [("LIMITS_FILES", Resource::Nofile)];
    for (name, which) in limits {
        if let Ok(value) = env::var(name) {
            limit(which, Some(value.parse().unwrap()));
        }
    }
    let node = node(base).unwrap();
    let mut publishers: BTreeMap<String, Publisher<Vec<u8>>> = BTreeMap::new();
    let mut subscriptions: BTreeMap<String, Subscription<Vec<u8>>> = BTreeMap::new();
    let mut frames: Option<Subscription<[u8]>> = None;
    let mut files: Vec<File> = Vec::new();
    for line in orders() {
        let words: Vec<&str> = line.split(' ').collect();
        let name = words.get(1).copied().unwrap_or_default();
        let number = |i: usize| words[i].parse::<usize>().unwrap();
        let publish = |value: Vec<u8>| match publishers[name].publish(value.clone()) {
            Ok(delivered) => say(&format!("published {}", delivered.count)),
            Err(error) => {
                let text = error.to_string();
                assert!(error.into_inner() == Some(value), "it comes back");
                say(&format!("refused {text}"));
            }
        };
        match words[0] {
            "publisher" => match node.publisher(&topic(name)) {
                Ok(publisher) => {
                    publishers.insert(name.to_owned(), publisher);
                    say("made");
                }
                Err(error) => say(&format!("not made {error}")),
            },
            "no-publisher" => {
                publishers.remove(name);
                say("gone");
            }
            "subscribe" => match node.subscription(&topic(name)) {
                Ok(subscription) => {
                    subscriptions.insert(name.to_owned(), subscription);
                    say("subscribed");
                }
                Err(error) => say(&format!("not subscribed {error}")),
            },
            "joined" => {
                let joined = publishers[name].wait_for_subscribers(number(2), LONG / 2);
                say(if joined.is_ok() {
                    "joined"
                } else {
                    "not joined"
                });
            }
            // True if so many join within a second, which they do in a thousandth if nothing is in the way.
            "probe" => {
                let limit = Duration::from_secs(1);
                let joined = publishers[name].wait_for_subscribers(number(2), limit);
                say(&format!("probe {}", joined.is_ok()));
            }
            "left" => {
                let end = Instant::now() + LONG;
                while publishers[name].subscriber_count() > number(2) {
                    assert!(Instant::now() < end, "they stay");
                    std::thread::yield_now();
                }
                say("left");
            }
            "publish" => publish(vec![number(3) as u8; number(2)]),
            // With no more address space than there is now, and a little for what is small.
            "squeeze" => {
                let value = vec![number(3) as u8; number(2)];
                let status = std::fs::read_to_string("/proc/self/status").unwrap();
                let mut lines = status.lines();
                let mapped = lines.find_map(|line| line.strip_prefix("VmSize:"));
                let mapped = mapped.and_then(|kib| kib.split_whitespace().next());
                let mapped: u64 = mapped.unwrap().parse().unwrap();
                let copy = value.clone();
                // What other threads need meanwhile comes from here, since an allocation of any size that fails ends a program. What
                // lies behind it keeps the heap from giving it back to the system.
                let room: Vec<_> = (0..512).map(|_| vec![0_u8; 4000]).collect();
                let behind = vec![0_u8; 100];
                drop(room);
                limit(Resource::As, Some((mapped << 10) + (4 << 20)));
                let refused = publishers[name].publish(value);
                limit(Resource::As, None);
                drop(behind);
                let error = refused.unwrap_err();
                let text = error.to_string();
                assert!(error.into_inner() == Some(copy), "it comes back");
                say(&format!("refused {text}"));
            }
            "take" => match subscriptions[name].recv_timeout(LONG) {
                Ok(sample) => say(&format!("took {} {}", sample.len(), sample[0])),
                Err(error) => say(&format!("nothing {error}")),
            },
            "take-soon" => match subscriptions[name].recv_timeout(Duration::from_millis(50)) {
                Ok(sample) => say(&format!("took {} {}", sample.len(), sample[0])),
                Err(_) => say("took nothing"),
            },
            "fsize" => {
                limit(Resource::Fsize, words[1].parse().ok());
                say("limited");
            }
            // Until so many descriptors are left.
            "fill" => {
                while let Ok(file) = File::open("/dev/null") {
                    files.push(file);
                }
                files.truncate(files.len() - number(1));
                say("filled");
            }
            "free" => {
                files.clear();
                say("freed");
            }
            "subscribe-frames" => {
                frames = Some(node.subscription(&forks::FRAMES).unwrap());
                say("subscribed");
            }
            "take-frame" => {
                let frame = frames.as_ref().unwrap().recv_timeout(LONG).unwrap();
                say(&format!("took {} {}", frame.len(), frame[0]));
            }
            "cpu" => say(&format!("cpu {}", cpu().as_millis())),
            "switches" => say(&format!("switches {}", idle::switches())),
            other => panic!("no such order: {other}"),
        }
    }
    drop((publishers, subscriptions, frames));
    drop(node);
    say("over");
}
