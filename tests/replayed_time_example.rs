//! `examples/replayed_time` shows what it says.

#[path = "support/examples.rs"]
mod examples;

use examples::example;
use std::process::Command;

fn run(args: &[&str]) -> Vec<String> {
    let output = Command::new(example("replayed_time"))
        .args(args)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    shown.lines().map(str::to_owned).collect()
}

#[test]
fn in_virtual_time_every_run_says_the_same() {
    let expected = [
        "20 s: 10 readings until 10 s, 182.1 degrees",
        "paused at 25 s",
        "still at 25 s",
        "stepped to 35 s",
        "30 s: 10 readings until 20 s, 184.8 degrees",
        "40 s: 10 readings until 30 s, 183.1 degrees",
        "50 s: 10 readings until 40 s, 178.5 degrees",
        "40 readings were replayed",
        "ended: all of it",
    ];
    assert_eq!(run(&["virtual"]), expected);
}

#[test]
fn in_real_time_all_is_replayed_too() {
    // What comes when is the machine's business, and so is in which window of means it counts.
    let shown = run(&[]);
    let said = |line: &str| shown.iter().any(|l| l == line);
    assert!(said("40 readings were replayed"), "{shown:?}");
    assert!(said("ended: all of it"), "{shown:?}");
    let at = |what: &str| shown.iter().find_map(|l| l.strip_prefix(what));
    assert_eq!(at("paused at "), at("still at "), "{shown:?}");
}
