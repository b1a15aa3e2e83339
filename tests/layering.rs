//! Who may name whom, and where `unsafe` may be.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that may have `unsafe`, from the root.
const UNSAFE: [&str; 19] = [
    "runtime/src/parcel.rs",
    "runtime/src/parcels.rs",
    "runtime/src/name.rs",
    "runtime/src/cell/mod.rs",
    "runtime/src/cell/place.rs",
    "runtime/src/cell/visit.rs",
    "runtime/src/clock.rs",
    "runtime/src/driver/manual.rs",
    "shm/src/sys/map.rs",
    "shm/src/lease.rs",
    "shm/src/loan.rs",
    "shm/src/endpoint.rs",
    "shm/src/link/models.rs",
    "shm/src/fork.rs",
    // Calls to the system.
    "shm/src/sys/linux/process.rs",
    "shm/src/sys/macos/calls.rs",
    "shm/src/sys/macos/directory.rs",
    "shm/src/sys/macos/process.rs",
    // It forks.
    "shm/src/kill_tests.rs",
];

/// Files that may ask the system for time, threads, sleep or chance: the world, its simulated half, which arranges real
/// threads, and the measuring of handlers, which decides nothing.
const SYSTEM: [&str; 4] = [
    "runtime/src/world.rs",
    "runtime/src/driver/simulated.rs",
    "runtime/src/clock.rs",
    // The door through which the model checker's threads come in the place of real ones. It asks for nothing itself.
    "runtime/src/sync.rs",
];

/// How the system is asked.
const ASKS: [&str; 13] = [
    "Instant::now",
    "SystemTime",
    ".elapsed()",
    "thread::current",
    "thread::park",
    "thread::sleep",
    "thread::spawn",
    "thread::yield_now",
    "thread::Builder",
    "thread::scope",
    "available_parallelism",
    // Their order is drawn from the system's chance.
    "HashMap",
    "HashSet",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

/// Lines without comments, with file and number.
fn lines(folder: &str) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    for file in files(folder) {
        let text = fs::read_to_string(&file).unwrap();
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        for (i, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            lines.push((format!("{name}:{}", i + 1), code.to_owned()));
        }
    }
    lines
}

/// The identifiers of a line.
fn words(line: &str) -> impl Iterator<Item = &str> {
    line.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Paths into another crate: `name::`, or `use name;`.
fn names_crate(line: &str, name: &str) -> bool {
    let at_start = |at: usize| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != ':')
    };
    let spelled = format!("{name}::");
    line.match_indices(&spelled).any(|(at, _)| at_start(at))
        || line.trim() == format!("use {name};")
        || line.trim() == format!("extern crate {name};")
}

fn who_names(folder: &str, crates: &[&str]) -> Vec<String> {
    let named = |line: &str| crates.iter().any(|name| names_crate(line, name));
    let lines = lines(folder).into_iter();
    lines.filter(|(_, l)| named(l)).map(|(at, _)| at).collect()
}

#[test]
fn the_runtime_names_neither_topics_nor_the_facade() {
    let named = who_names("runtime/src", &["mproc_pubsub", "mproc"]);
    assert_eq!(named, Vec::<String>::new());
}

#[test]
fn topics_name_only_the_runtime() {
    assert_eq!(who_names("pubsub/src", &["mproc"]), Vec::<String>::new());
    assert!(!who_names("pubsub/src", &["mproc_runtime"]).is_empty());
}

#[test]
fn shared_memory_names_no_other_crate_of_the_project() {
    let others = ["mproc_runtime", "mproc_pubsub", "mproc"];
    assert_eq!(who_names("shm/src", &others), Vec::<String>::new());
}

#[test]
fn the_facade_names_the_crates_below() {
    assert!(!who_names("src", &["mproc_pubsub"]).is_empty());
}

#[test]
fn manifests_depend_downwards_only() {
    let manifest = |path: &str| fs::read_to_string(root().join(path)).unwrap();
    let depends = |text: &str, name: &str| {
        let key = |line: &str| line.split(['.', '=', ' ']).next() == Some(name);
        text.lines().any(key)
    };
    let runtime = manifest("runtime/Cargo.toml");
    assert!(!depends(&runtime, "mproc-pubsub") && !depends(&runtime, "mproc"));
    let pubsub = manifest("pubsub/Cargo.toml");
    assert!(depends(&pubsub, "mproc-runtime") && !depends(&pubsub, "mproc"));
}

/// The files of the runtime that call the system. What stands with a thread there (its cores, its nice value) is a matter of
/// its own.
#[test]
fn only_one_file_of_the_runtime_asks_the_system_about_descriptors() {
    let named = who_names("runtime/src", &["rustix", "libc"]);
    let files: std::collections::BTreeSet<_> =
        named.iter().filter_map(|at| at.split(':').next()).collect();
    let allowed = [
        "runtime/src/descriptor.rs",
        "runtime/src/driver/thread_options.rs",
    ];
    assert_eq!(files.into_iter().collect::<Vec<_>>(), allowed);
}

#[test]
fn topics_forbid_unsafe_code() {
    let text = fs::read_to_string(root().join("pubsub/src/lib.rs")).unwrap();
    assert!(text.lines().any(|l| l.trim() == "#![forbid(unsafe_code)]"));
}

/// Operations complete through wakers: there is no executor inside that could clash with the one around the caller, and
/// nothing that blocks for a future but `Runtime::run`, which says so in words.
#[test]
fn no_executor_is_inside() {
    let executors = [
        "tokio",
        "smol",
        "async_std",
        "async_executor",
        "futures",
        "futures_executor",
        "futures_lite",
        "pollster",
    ];
    for folder in ["runtime/src", "pubsub/src", "src"] {
        assert_eq!(who_names(folder, &executors), Vec::<String>::new());
        let blocks = lines(folder).into_iter();
        let blocks = blocks.filter(|(_, line)| words(line).any(|word| word == "block_on"));
        assert_eq!(
            blocks.map(|(at, _)| at).collect::<Vec<_>>(),
            Vec::<String>::new()
        );
    }
}

#[test]
fn only_the_world_asks_the_system_for_time_threads_sleep_or_chance() {
    let mut elsewhere = Vec::new();
    for file in files("runtime/src") {
        let name = file.strip_prefix(root()).unwrap().display().to_string();
        if SYSTEM.contains(&name.as_str()) || name.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        // Tests stand at the end of their file.
        let is_test = |line: &&str| line.starts_with("mod ") && line.ends_with("tests {");
        for (i, line) in text.lines().take_while(|l| !is_test(l)).enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if ASKS.iter().any(|asks| code.contains(asks)) {
                elsewhere.push(format!("{name}:{}", i + 1));
            }
        }
    }
    assert_eq!(elsewhere, Vec::<String>::new());
}

#[test]
fn unsafe_is_in_few_files_only() {
    let mut elsewhere = Vec::new();
    for folder in ["runtime/src", "pubsub/src", "shm/src", "src"] {
        for (at, line) in lines(folder) {
            let allowed = UNSAFE.iter().any(|f| at.starts_with(&format!("{f}:")));
            if !allowed && words(&line).any(|word| word == "unsafe") {
                elsewhere.push(at);
            }
        }
    }
    assert_eq!(elsewhere, Vec::<String>::new());
}
