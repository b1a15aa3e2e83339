#!/usr/bin/env bash
# The tests of the README's second command, and all of them again with every default capacity set to 1.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --workspace --all-features
# The command line tells its nodes what they are made with.
MPROC_CAPACITY=1 cargo test --workspace --exclude mproc-cli --all-features --tests
