//! The examples as programs, for tests that run them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Those that tests run.
const EXAMPLES: &[&str] = &[
    "async_handler",
    "async_publisher",
    "async_subscriber",
    "connection",
    "deadlock",
    "epoll_loop",
    "frames",
    "replayed_time",
    "service",
    "supervise",
    "tap",
    "two_processes",
    "vitals",
    "wordcount",
];

/// Builds them, which `cargo test` with a chosen test does not, and returns where this one is.
pub(crate) fn example(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    assert!(EXAMPLES.contains(&name), "{name} is not built");
    let place = BUILT.get_or_init(|| {
        // Tests are in <target>/<profile>/deps, examples in <target>/<profile>/examples.
        let test = env::current_exe().unwrap();
        let place = test.parent().and_then(Path::parent).unwrap();
        let profile = match place.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let mut build = Command::new(env!("CARGO"));
        build
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .args(["build", "--quiet", "--profile", profile, "--target-dir"])
            .arg(place.parent().unwrap());
        for name in EXAMPLES {
            build.args(["--example", name]);
        }
        assert!(build.status().unwrap().success(), "the examples are built");
        place.join("examples")
    });
    place.join(format!("{name}{}", env::consts::EXE_SUFFIX))
}
