//! What a program can see of the others in its domain, whatever they are doing.
//!
//! This binary runs itself as the other processes ([`actor`]): `role` is a test that does nothing unless the environment says so.
//! Nobody sleeps: each side waits for the other's lines, with a limit that only ends a test that hangs.
#![cfg(target_os = "linux")]

mod actor;
mod domains;
mod processes;
mod reports;
mod sends;
mod strangers;
mod waits;

use actor::Actor;
use mproc::prelude::*;
use mproc::{DomainOptions, NodeReport, Options, SilentNode, Survey};
use std::env;
use std::path::Path;
use std::thread;
use std::time::Instant;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// The documented capacities, and limits that a busy machine does not reach.
fn node_options() -> Options {
    Options::default().call_limit(LONG).send_limit(LONG)
}

const DOMAIN: &str = "seen";

/// A domain's directory.
struct Place {
    base: TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            base: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> &Path {
        self.base.path()
    }

    fn node(&self) -> Node {
        node(self.path())
    }

    fn actor(&self) -> Actor {
        Actor::start(self.path())
    }
}

fn domain(base: &Path) -> DomainOptions {
    DomainOptions::new(DOMAIN).unwrap().directory(base)
}

fn node(base: &Path) -> Node {
    Node::builder()
        .options(node_options())
        .domain_with(domain(base))
        .build()
        .unwrap()
}

/// Ends a node in order.
fn end(node: Node) {
    assert!(node.shutdown(LONG).is_clean());
}

/// A survey in which everybody answers.
fn survey(node: &Node) -> Survey {
    let survey = node.survey(LONG).wait_timeout(LONG * 2).unwrap();
    assert_eq!(survey.silent, []);
    survey
}

fn of_process(survey: &Survey, pid: u32) -> &NodeReport {
    let mut reports = survey.reports.iter();
    let found = reports.find(|report| report.node.pid == pid);
    found.unwrap_or_else(|| panic!("{pid} is not in {survey:?}"))
}

fn only_silent(survey: &Survey) -> &SilentNode {
    match &survey.silent[..] {
        [silent] => silent,
        other => panic!("{other:?}"),
    }
}

/// Waits until something is so that tells nobody.
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "it never came: {what}");
        thread::yield_now();
    }
}

/// Threads of this process with this name.
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|found| found.trim_end() == name).count()
}

/// What the other processes run. It does nothing in others.
#[test]
fn role() {
    if let Some(base) = env::var_os("INSPECT_BASE") {
        actor::act(base.as_ref());
    }
}
