//! Who the peers are, and which version of each was built.

use mproc_benches::{COMPILER, cli::Party, report::MPROC};

/// What cargo built from. It is kept with the sources, so that everyone measures the same versions.
const LOCK: &str = include_str!("../Cargo.lock");

/// The peers that are crates: their name on the command line and their package.
const CRATES: &[(&str, &str)] = &[
    ("crossbeam", "crossbeam-channel"),
    ("kanal", "kanal"),
    ("flume", "flume"),
    ("tokio", "tokio"),
    ("kameo", "kameo"),
    ("ractor", "ractor"),
    ("actix", "actix"),
    ("xtra", "xtra"),
    ("iceoryx2", "iceoryx2"),
    ("zmq", "zmq"),
];

/// Returns all who answer beside `mproc`.
pub(crate) fn peers() -> Vec<Party> {
    debug_assert!(!CRATES.iter().any(|(name, _)| *name == MPROC));
    let mut peers: Vec<_> = CRATES
        .iter()
        .map(|(name, package)| Party {
            name,
            version: version(package).unwrap_or("unknown").to_owned(),
        })
        .collect();
    // A socket is that of `std`, too.
    for name in ["std", "socket"] {
        peers.push(Party {
            name,
            // "rustc 1.88.0 (6b00bc388 2025-06-23)"
            version: COMPILER
                .split_whitespace()
                .nth(1)
                .unwrap_or("unknown")
                .to_owned(),
        });
    }
    peers.push(Party::limit());
    peers
}

/// Finds the version of a package in the lock file.
fn version(package: &str) -> Option<&'static str> {
    let name = format!("name = \"{package}\"");
    let mut lines = LOCK.lines().skip_while(|line| *line != name);
    lines
        .nth(1)?
        .strip_prefix("version = \"")?
        .strip_suffix('"')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_file_names_the_version_of_every_peer() {
        for (name, package) in CRATES {
            assert!(version(package).is_some(), "{name}");
        }
        assert_eq!(version("no such package"), None);
    }
}
