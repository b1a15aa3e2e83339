#!/usr/bin/env bash
# Protocols under the model checker, in every interleaving of a few threads.
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS="${LOOM_MAX_PREEMPTIONS:-3}" \
  cargo test -p mproc-runtime -p mproc-shm --lib --release --target-dir target/loom loom_
# Whole pools, in many orders drawn by chance; a failure prints how to run that order again.
RUSTFLAGS="--cfg shuttle" MPROC_ORDERS="${MPROC_ORDERS:-3000}" \
  cargo test -p mproc-runtime --lib --target-dir target/shuttle shuttle_
