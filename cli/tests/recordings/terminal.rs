//! Keys, in a terminal.

use crate::support::{LONG, LOOK_LIMIT, Place};
use crate::{numbers, time_of, two_numbers};
use std::process::{Command, Stdio};

/// A terminal of its own, if there is tmux. It is closed at drop.
struct Terminal<'a> {
    place: &'a Place,
}

impl<'a> Terminal<'a> {
    /// Runs `script` in it, where `$MPROC` is the command line.
    fn start(place: &'a Place, script: &str) -> Option<Self> {
        let version = Command::new("tmux")
            .arg("-V")
            .stdout(Stdio::null())
            .status();
        if !version.is_ok_and(|status| status.success()) {
            println!("skipped: no tmux");
            return None;
        }
        let terminal = Self { place };
        let script = format!(
            "export MPROC='{}' XDG_RUNTIME_DIR='{}' MPROC_LOOK_LIMIT={LOOK_LIMIT}; unset MPROC_DOMAIN; cd '{}'; {script}",
            env!("CARGO_BIN_EXE_mproc"),
            place.path().display(),
            place.path().display(),
        );
        let size = ["-x", "80", "-y", "24"];
        let output =
            terminal.run(&[&["new-session", "-d"][..], &size, &["sh", "-c", &script]].concat());
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
        command
            .args(["-S", "tmux", "-f", "/dev/null"])
            .args(arguments);
        command.env_remove("TMUX").output().unwrap()
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.run(arguments).stdout).into_owned()
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", "-t", ":0", key]);
    }

    /// Waits until the screen has this.
    fn shows(&self, text: &str) {
        let until = std::time::Instant::now() + LONG;
        loop {
            let screen = self.tmux(&["capture-pane", "-p", "-t", ":0"]);
            if screen.contains(text) {
                return;
            }
            assert!(std::time::Instant::now() < until, "no {text:?} in {screen}");
        }
    }
}

impl Drop for Terminal<'_> {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn keys_pause_step_and_change_the_rate() {
    let place = Place::new();
    numbers(&place, 5, &[]);
    let mut reader = place.program("reader");
    let script = "stty -a >before; \"$MPROC\" play run.mcap --pause --loop; echo code $?; stty -a >after; echo after; cat";
    let Some(terminal) = Terminal::start(&place, script) else {
        return;
    };
    terminal.shows("paused");
    terminal.press("s");
    assert_eq!(reader.line_with("@got"), "@got 0");
    terminal.press(".");
    assert_eq!(reader.line_with("@got"), "@got 1");
    terminal.shows("2 messages");
    terminal.press("+");
    terminal.shows("x2 paused");
    terminal.press("-");
    terminal.press("-");
    terminal.shows("x0.5 paused");
    terminal.press("Space");
    for n in 2..12 {
        assert_eq!(reader.line_with("@got"), format!("@got {}", n % 5));
    }
    terminal.press("q");
    terminal.shows("code 0");
    terminal.shows("\nafter\n");
    let settings = |name| std::fs::read_to_string(place.file(name)).unwrap();
    assert_eq!(settings("before"), settings("after"));
}

#[test]
fn steps_move_domain_time() {
    let place = Place::new();
    let (first, last) = two_numbers(&place);
    let mut follower = place.program("follower");
    let mut reader = place.program("reader");
    let script = "\"$MPROC\" play run.mcap --pause --clock; echo code $?; cat";
    let Some(terminal) = Terminal::start(&place, script) else {
        return;
    };
    terminal.shows("paused");
    terminal.press("s");
    assert_eq!(reader.line_with("@got"), "@got 0");
    terminal.press("s");
    assert_eq!(reader.line_with("@got"), "@got 1");
    // Time stands still between messages, and is theirs when they come.
    assert_eq!(time_of(&mut follower), last);
    assert!(last - first >= 300_000_000);
    terminal.shows("code 0");
}
