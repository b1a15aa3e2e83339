//! What a node does at the limits of its process, and with peers that do not know the rules.
//!
//! This binary runs itself as the other processes: `role` is a test that does nothing unless the environment tells it its role.
//! Parent and children speak in lines; what a child reports on its standard error is a line that begins with `told`. Nobody
//! sleeps without a reason beside it: all wait for a line.
#![cfg(target_os = "linux")]

mod actor;
mod corrupt;
mod descriptors;
mod directories;
mod drivers;
mod forks;
mod idle;
mod memory;
mod raw;
mod skew;

use mproc::prelude::*;
use mproc::{DomainOptions, Error};
use std::env;
use std::path::Path;
use tempfile::TempDir;

/// Longer than anything takes on a busy machine.
const LONG: Duration = Duration::from_secs(60);

const DOMAIN: &str = "limits";

fn base() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn node(base: &Path) -> Result<Node, Error> {
    let mut domain = DomainOptions::new(DOMAIN)?.directory(base);
    if let Ok(bytes) = env::var("LIMITS_BYTES") {
        domain = domain.topic_bytes(bytes.parse().unwrap());
    }
    Node::builder()
        .options(mproc::Options::default())
        .domain_with(domain)
        .build()
}

/// What the other processes run.
#[test]
fn role() {
    let Ok(role) = env::var("LIMITS_ROLE") else {
        return;
    };
    let base = env::var_os("LIMITS_BASE").unwrap();
    let base = Path::new(&base);
    match role.as_str() {
        "node" => actor::act(base),
        "environment" => directories::act(),
        "skewed" => skew::act(base),
        "forker" => forks::act(base),
        "corrupt" => corrupt::act(base),
        "victim" => corrupt::act_victim(base),
        "friend" => corrupt::act_friend(base),
        "drivers" => drivers::act(base),
        other => panic!("no such role: {other}"),
    }
}
