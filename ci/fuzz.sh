#!/usr/bin/env bash
# Random input, more of it than in the ordinary tests.
set -euo pipefail
cd "$(dirname "$0")/.."
PROPTEST_CASES="${PROPTEST_CASES:-20000}" cargo test -p mproc-pubsub --lib
if [ -f tests/vitals_parsers.rs ]; then
  PROPTEST_CASES="${PROPTEST_CASES:-20000}" cargo test --test vitals_parsers
fi
# Random programs in simulated worlds; `MPROC_SEED=n cargo test --test seeds` replays one.
MPROC_SEEDS="${MPROC_SEEDS:-10000}" cargo test --test seeds
