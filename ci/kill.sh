#!/usr/bin/env bash
# Processes under load, of which one is killed every few milliseconds: `ci/kill.sh --minutes 5`, 2 unless told otherwise.
# `--seed N` draws the same kills again; what they hit is up to the system.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  set -- --minutes 2
fi
cargo test --release --test soak -- "$@"
