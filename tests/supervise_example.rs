//! `examples/supervise` shows what it says.

#[path = "support/examples.rs"]
mod examples;

use examples::example;
use std::process::Command;

#[test]
fn the_display_goes_on_while_the_sensor_is_restarted_until_its_supervisor_gives_up() {
    let output = Command::new(example("supervise")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = shown.lines().collect();
    let count = |with: &str| lines.iter().filter(|line| line.contains(with)).count();
    assert_eq!(count("display: reading"), 8, "{shown}");
    assert!(
        shown.contains("display: reading 2, the 8. in all"),
        "{shown}"
    );
    assert_eq!(
        count("sensor:  handler panicked: the device is gone"),
        4,
        "{shown}"
    );
    let end = "plant:   gave up on \"sensor\" after 3 restarts: panicked: the device is gone";
    assert_eq!(count(end), 1, "{shown}");
    assert_eq!(count("sensor was brought up again after"), 3, "{shown}");
}
