#!/usr/bin/env bash
# The tests of the README's second command, and all of them again with every default capacity set to 1.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo test --workspace --all-features
MPROC_CAPACITY=1 cargo test --workspace --all-features --tests
