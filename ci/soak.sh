#!/usr/bin/env bash
# Threads under load, in a graph of processors that panic, end and come back: `ci/soak.sh --minutes 30`, 2 unless told otherwise.
# `--seed N` draws the same faults again; what they meet is up to the system.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ $# -eq 0 ]; then
  set -- --minutes 2
fi
cargo test --release --test storm -- "$@"
