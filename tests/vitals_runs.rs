//! The `vitals` example as a whole: it runs, writes its file, and accounts for every sample.

#[path = "support/examples.rs"]
mod examples;

use std::{fs, process::Command};

use examples::example;

fn runs_and_accounts_for_everything(arguments: &[&str]) -> String {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("vitals.csv");
    let output = Command::new(example("vitals"))
        .args(["--seconds", "2", "--csv"])
        .arg(&file)
        .args(arguments)
        .output()
        .unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}:\n{shown}\n{errors}",
        output.status
    );
    assert_eq!(errors, "");
    assert!(
        !shown.contains('\u{1b}'),
        "no escape sequence in a pipe: {shown:?}"
    );
    assert_holds(&shown);
    for policy in [
        "slow/wait: slow/relayed (Wait)",
        "slow/drop-oldest: host/cpu (DropOldest)",
        "slow/drop-newest: host/cpu (DropNewest)",
        "slow/latest: host/cpu (Latest)",
        "slow/fail: host/cpu (Fail)",
        "slow/disconnect: host/cpu (Disconnect)",
    ] {
        assert!(shown.contains(policy), "no {policy:?} in\n{shown}");
    }
    let text = fs::read_to_string(&file).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("time_s,metric,unit,value"));
    let rows = lines.count();
    assert!(rows > 0);
    assert!(
        shown.contains(&format!("csv: {rows} values written")),
        "{rows} lines; {shown}"
    );
    shown
}

fn assert_holds(shown: &str) {
    let verdict = shown.lines().find(|line| line.starts_with("sent "));
    let verdict = verdict.unwrap_or_else(|| panic!("no verdict in\n{shown}"));
    assert!(verdict.contains(": holds for all "), "{shown}");
    assert!(!shown.contains("DOES NOT HOLD"), "{shown}");
}

#[test]
fn it_accounts_for_every_sample() {
    runs_and_accounts_for_everything(&[]);
}

#[test]
fn without_proc_it_accounts_for_every_sample_too() {
    let shown = runs_and_accounts_for_everything(&["--no-proc"]);
    assert!(shown.contains("sysinfo"), "{shown}");
}

#[test]
fn a_file_that_cannot_be_made_is_named() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("missing").join("vitals.csv");
    let output = Command::new(example("vitals"))
        .args(["--seconds", "1", "--csv"])
        .arg(&file)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(
        errors.starts_with(&format!("vitals: cannot write {}: ", file.display())),
        "{errors}"
    );
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_it_in_order() {
    use std::io::{BufRead, BufReader, Read};
    use std::process::Stdio;

    let mut child = Command::new(example("vitals"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut shown = String::new();
    // It runs once it shows something.
    out.read_line(&mut shown).unwrap();
    let id = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
    out.read_to_string(&mut shown).unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}:\n{shown}\n{errors}",
        output.status
    );
    assert_holds(&shown);
}
