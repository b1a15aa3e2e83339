//! `mproc top`: as tables, as JSON, and as a screen in a terminal, which tmux is.

mod support;

use mproc::prelude::*;
use mproc::{DEFAULT_DOMAIN, Options};
use serde_json::Value;
use std::process::Command;
use std::thread::sleep;
use std::time::Instant;
use support::{LONG, LOOK_LIMIT, Place, listen, play_role, say, send_signal};

const NUMBERS: Topic<u64> = Topic::new("robot/numbers");

fn node() -> Node {
    let builder = Node::builder().options(Options::default());
    builder.domain(DEFAULT_DOMAIN).unwrap().build().unwrap()
}

struct Counter {
    count: u64,
}

impl Processor for Counter {
    fn started(&mut self, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        cx.every(Duration::from_millis(5), |_| 1_u64);
        Ok(())
    }
}

impl Handle<u64> for Counter {
    type Reply = ();

    fn handle(&mut self, n: u64, cx: &mut Cx<'_, Self>) -> Outcome<()> {
        self.count += n;
        cx.publish(&NUMBERS, self.count)?;
        Ok(())
    }
}

/// Publishes, listens, and has a processor that is never done.
fn robot() {
    let node = node();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let (begun, has_begun) = std::sync::mpsc::channel();
    let blocked = closure(move |_: u32, _cx| {
        let _ = begun.send(());
        let _ = wait.recv();
    });
    let blocked = node.spawn_thread("blocked", blocked).unwrap();
    blocked.send(1).unwrap();
    blocked.send(2).unwrap();
    let (heard, has_heard) = std::sync::mpsc::channel();
    let listens = move |_: Sample<u64>| {
        // Who made it waits for the first only.
        let _ = heard.send(());
    };
    let _reader = node.subscribe(&NUMBERS, listens).unwrap();
    let _counter = node.spawn_thread("counter", Counter { count: 0 }).unwrap();
    has_begun.recv().unwrap();
    has_heard.recv().unwrap();
    drop((has_begun, has_heard));
    say("ready");
    listen();
    drop(go_on);
}

/// Listens, and never takes anything.
fn sleeper() {
    let node = node();
    let options = SubscriptionOptions::new()
        .capacity(4)
        .when_full(WhenFull::DropOldest);
    let _reader = node.subscription_with(&NUMBERS, options).unwrap();
    say("ready");
    listen();
}

#[test]
fn role() {
    play_role(&[("robot", robot), ("sleeper", sleeper)]);
}

#[test]
fn queues_and_drops_of_other_processes_are_seen() {
    let place = Place::new();
    let _robot = place.program("robot");
    let _sleeper = place.program("sleeper");
    let end = Instant::now() + LONG;
    loop {
        let ran = place.run(&["top", "--json", "--interval", "0.05"]);
        let figures = ran.json();
        let topics = figures["topics"].as_array().unwrap();
        let numbers = topics
            .iter()
            .find(|t| t["name"] == "robot/numbers")
            .unwrap();
        assert_eq!(numbers["publishers"].as_array().unwrap().len(), 1);
        let subscriptions = numbers["subscriptions"].as_array().unwrap();
        assert_eq!(subscriptions.len(), 2, "{numbers:#}");
        if numbers["drops"].as_u64().unwrap() > 0 {
            assert_eq!(
                (&numbers["queued"], &numbers["capacity"]),
                (&4.into(), &4.into())
            );
            let full = subscriptions.iter().find(|s| s["capacity"] == 4).unwrap();
            assert_eq!(
                (&full["queued"], &full["taken"]),
                (&4.into(), &0.into()),
                "{full}"
            );
            return;
        }
        assert!(Instant::now() < end, "{numbers:#}");
    }
}

#[test]
fn once_prints_tables_with_rates() {
    let place = Place::new();
    let _robot = place.program("robot");
    let ran = place.run(&["top", "--once", "--interval", "0.2"]);
    let text = ran.ok();
    assert!(
        text.starts_with("domain default: 1 node, 0 silent\n\nPROCESSOR "),
        "{text}"
    );
    let blocked = text
        .lines()
        .find(|line| line.starts_with("blocked"))
        .unwrap();
    assert!(
        blocked.contains("1/1024") && blocked.contains("handling u32"),
        "{blocked}"
    );
    let numbers = text
        .lines()
        .find(|line| line.starts_with("robot/numbers"))
        .unwrap();
    assert!(numbers.trim_end().ends_with("u64"), "{numbers}");
    assert!(!text.contains('\u{1b}'), "{text:?}");
}

#[test]
fn json_has_loads_and_rates() {
    let place = Place::new();
    let _robot = place.program("robot");
    let end = Instant::now() + LONG;
    loop {
        let ran = place.run(&["top", "--json", "--interval", "0.2", "--count", "2"]);
        let lines: Vec<Value> = ran
            .ok()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        let figures = &lines[1];
        assert_eq!(figures["domain"], DEFAULT_DOMAIN);
        // This command itself is not in it.
        assert_eq!(figures["nodes"].as_array().unwrap().len(), 1);
        let processors = figures["processors"].as_array().unwrap();
        let blocked = processors.iter().find(|p| p["name"] == "blocked").unwrap();
        assert_eq!(blocked["state"], "handling");
        assert_eq!(blocked["queued"], 1);
        // It does nothing but handle.
        assert!(blocked["load"].as_f64().unwrap() > 0.0, "{blocked}");
        let topics = figures["topics"].as_array().unwrap();
        let numbers = topics
            .iter()
            .find(|t| t["name"] == "robot/numbers")
            .unwrap();
        assert_eq!(numbers["subscriptions"].as_array().unwrap().len(), 1);
        // It publishes by a timer, and on a busy machine not in every fifth of a second.
        if numbers["published_per_s"].as_f64().unwrap() > 0.0 {
            return;
        }
        assert!(Instant::now() < end, "{numbers}");
    }
}

#[test]
fn without_a_terminal_it_says_what_to_do() {
    let place = Place::new();
    let ran = place.run(&["top"]);
    assert_eq!(ran.code, Some(2));
    assert_eq!(
        ran.err,
        "mproc: standard output is not a terminal, which the live screen needs\n  try: mproc top --once, or --json\n"
    );
}

#[test]
fn wrong_intervals_are_refused() {
    let place = Place::new();
    for interval in ["0", "-1", "NaN", "1e9", "x"] {
        let ran = place.run(&["top", &format!("--interval={interval}")]);
        assert_eq!(ran.code, Some(2), "{interval}: {ran:?}");
    }
}

#[test]
fn a_reader_that_leaves_ends_it_quietly() {
    let place = Place::new();
    let _robot = place.program("robot");
    let program = env!("CARGO_BIN_EXE_mproc");
    let mut command = Command::new("sh");
    let script =
        format!("'{program}' top --json --interval 0.05 --count 1000000 | head -c 10; echo");
    command
        .arg("-c")
        .arg(script)
        .env("XDG_RUNTIME_DIR", place.path())
        .env("MPROC_LOOK_LIMIT", LOOK_LIMIT);
    let output = command.output().unwrap();
    assert!(output.stderr.is_empty(), "{output:?}");
}

/// A terminal of its own, in which a command runs.
struct Terminal<'a> {
    place: &'a Place,
}

impl<'a> Terminal<'a> {
    /// `None` where there is no tmux.
    fn start(place: &'a Place, width: u16, height: u16, script: &str) -> Option<Self> {
        if Command::new("tmux").arg("-V").output().is_err() {
            println!("skipped: no tmux");
            return None;
        }
        let terminal = Self { place };
        let (width, height) = (width.to_string(), height.to_string());
        let size = ["-x", &width, "-y", &height];
        let arguments = ["-f", "/dev/null", "new-session", "-d"];
        // Not by the shell of the user, which may be any.
        let program = ["sh", "-c", script];
        let output = terminal.run(&[&arguments[..], &size, &program].concat());
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            println!("skipped: tmux: {}", why.trim_end());
            return None;
        }
        Some(terminal)
    }

    fn run(&self, arguments: &[&str]) -> std::process::Output {
        // A socket's path may be long, and its name is short.
        let mut command = Command::new("tmux");
        command.current_dir(self.place.path());
        command.args(["-S", "tmux.sock"]).args(arguments);
        command
            .env("XDG_RUNTIME_DIR", self.place.path())
            .env("LC_ALL", "C.UTF-8")
            .env_remove("TMUX")
            .env_remove("MPROC_DOMAIN")
            .env("TERM", "xterm-256color");
        command.output().unwrap()
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn keys(&self, keys: &[&str]) {
        let mut arguments = vec!["send-keys"];
        arguments.extend(keys);
        self.tmux(&arguments);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns what it shows as soon as `is_wanted` says so.
    #[track_caller]
    fn until(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> String {
        let end = Instant::now() + LONG;
        loop {
            let screen = self.screen();
            if is_wanted(&screen) {
                return screen;
            }
            assert!(Instant::now() < end, "never {what}:\n{screen}");
            // A terminal does not say when something on it has changed.
            sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        let _ = self.run(&["kill-server"]);
    }
}

/// Runs `top` between two looks at the terminal's settings, and stays.
fn script(place: &Place, arguments: &str) -> String {
    script_with(place, &format!("--look-limit {LOOK_LIMIT} {arguments}"))
}

/// As [`script`], also where a program is stopped.
fn script_with(place: &Place, arguments: &str) -> String {
    let program = env!("CARGO_BIN_EXE_mproc");
    let at = place.path().display();
    format!(
        "stty -g > '{at}/before'; '{program}' top {arguments}; echo ended with $?; stty -g > '{at}/after'; echo over; cat"
    )
}

/// How many rows there are before the line of keys.
fn rows(screen: &str) -> Vec<&str> {
    let lines: Vec<_> = screen.lines().skip(3).collect();
    let end = lines.iter().position(|line| line.starts_with("? help"));
    lines[..end.unwrap_or(lines.len())]
        .iter()
        .copied()
        .filter(|line| !line.is_empty())
        .collect()
}

/// After its end the screen is as before, and so are the terminal's settings.
fn assert_given_back(place: &Place, terminal: &Terminal<'_>, code: u8) {
    let screen = terminal.until("over", |screen| screen.contains("over\n"));
    assert!(
        screen.starts_with(&format!("ended with {code}\nover\n")),
        "{screen}"
    );
    let settings = |name| std::fs::read_to_string(place.file(name)).unwrap();
    assert_eq!(settings("before"), settings("after"));
}

#[test]
fn screen_shows_sorts_filters_pauses_and_leaves_no_trace() {
    let place = Place::new();
    let robot = place.program("robot");
    let script = script(&place, "--interval 0.1");
    let Some(terminal) = Terminal::start(&place, 120, 16, &script) else {
        return;
    };
    // What is busy comes first.
    let screen = terminal.until("rates", |screen| {
        rows(screen)
            .first()
            .is_some_and(|row| row.starts_with("blocked") && row.contains("%"))
    });
    assert!(screen.contains("domain default  1 node  load "), "{screen}");
    assert!(screen.contains("handling u32"), "{screen}");

    terminal.keys(&["2"]);
    terminal.until("topics", |screen| {
        rows(screen)
            .first()
            .is_some_and(|row| row.starts_with("robot/numbers"))
    });
    terminal.keys(&["Enter"]);
    terminal.until("details", |screen| screen.contains("published_per_s"));
    terminal.keys(&["Escape"]);
    // Escape and another key at once are one key with Alt.
    terminal.until("the table", |screen| screen.contains("? help"));
    terminal.keys(&["1"]);

    terminal.keys(&["/"]);
    terminal.keys(&["-l", "BLOCK"]);
    terminal.until("a filter", |screen| {
        screen.contains("/BLOCK_")
            && screen.lines().filter(|line| line.contains("idle")).count() == 0
    });
    terminal.keys(&["Enter"]);
    let screen = terminal.until("one row", |screen| screen.contains("filter: BLOCK"));
    assert_eq!(rows(&screen).len(), 1, "{screen}");
    terminal.keys(&["Escape"]);
    terminal.until("all rows", |screen| rows(screen).len() >= 3);

    // By name, and the other way round.
    terminal.keys(&["<"]);
    terminal.until("by name", |screen| {
        screen.contains("PROCESSOR^")
            && rows(screen)
                .first()
                .is_some_and(|row| row.starts_with("blocked"))
    });
    terminal.keys(&["r"]);
    terminal.until("the other way round", |screen| {
        screen.contains("PROCESSORv")
            && rows(screen)
                .last()
                .is_some_and(|row| row.starts_with("blocked"))
    });

    terminal.keys(&["Space"]);
    terminal.until("paused", |screen| screen.contains("PAUSED"));
    drop(robot);
    terminal.keys(&["?"]);
    let screen = terminal.until("help", |screen| screen.contains("share of one core"));
    assert!(
        screen.contains("PAUSED  domain default  1 node"),
        "{screen}"
    );
    terminal.keys(&["q"]);
    terminal.keys(&["Space"]);
    // The program has gone meanwhile.
    terminal.until("nobody", |screen| {
        screen.contains("domain default  0 nodes")
    });

    terminal.keys(&["q"]);
    assert_given_back(&place, &terminal, 0);
}

#[test]
fn a_program_that_is_stopped_is_shown_as_silent_and_keys_are_served() {
    let place = Place::new();
    let robot = place.program("robot");
    let script = script_with(&place, "--interval 0.1 --look-limit 2");
    let Some(terminal) = Terminal::start(&place, 100, 10, &script) else {
        return;
    };
    terminal.until("a row", |screen| screen.contains("\nblocked"));
    robot.signal("STOP");
    terminal.until("a silent node", |screen| {
        screen.contains("0 nodes, 1 silent")
    });
    terminal.keys(&["5"]);
    let process = format!("process {}", robot.child.id());
    terminal.until("which one", |screen| {
        rows(screen)
            .first()
            .is_some_and(|row| row.starts_with(&process) && row.contains("no answer"))
    });
    robot.signal("CONT");
    terminal.until("it again", |screen| {
        screen.contains("domain default  1 node  load")
    });
    terminal.keys(&["q"]);
    assert_given_back(&place, &terminal, 0);
}

#[test]
fn small_terminal_shows_a_row_and_grows() {
    let place = Place::new();
    let _robot = place.program("robot");
    let script = script(&place, "--color never");
    let Some(terminal) = Terminal::start(&place, 20, 5, &script) else {
        return;
    };
    terminal.until("a row", |screen| screen.contains("\nblocked"));
    terminal.tmux(&["resize-window", "-x", "110", "-y", "20"]);
    terminal.until("more rows", |screen| {
        screen.contains("Enter details  q quit") && rows(screen).len() >= 3
    });
    terminal.keys(&["C-c"]);
    assert_given_back(&place, &terminal, 0);
}

#[test]
fn sigterm_gives_the_terminal_back() {
    let place = Place::new();
    let _robot = place.program("robot");
    let script = format!("echo $$ > shell; {}", script(&place, ""));
    let Some(terminal) = Terminal::start(&place, 80, 10, &script) else {
        return;
    };
    terminal.until("a row", |screen| screen.contains("\nblocked"));
    let shell = std::fs::read_to_string(place.file("shell")).unwrap();
    let shell = shell.trim();
    let children = format!("/proc/{shell}/task/{shell}/children");
    let Ok(children) = std::fs::read_to_string(&children) else {
        println!("skipped: no {children}");
        return;
    };
    let pid = children.split_whitespace().next().unwrap();
    let pid = rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap();
    send_signal(pid, "TERM");
    assert_given_back(&place, &terminal, 0);
}
