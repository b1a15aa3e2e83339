#!/usr/bin/env bash
# Format, lints and documentation, warnings as errors; and the size of the default build.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --workspace --all-targets --all-features -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features
count=$(cargo tree -p mproc -e normal --prefix none | sort -u | wc -l)
echo "crates in the default build: $count"
[ "$count" -lt 60 ]
if cargo tree -p mproc -e normal --prefix none | grep -E '^(tokio|async-std|smol|async-executor) '; then
  echo "an async runtime is in the default build" >&2
  exit 1
fi
