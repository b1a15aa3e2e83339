#!/usr/bin/env bash
# Format, lints and documentation, warnings as errors; and the size of the default build.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo fmt --all --check
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy --workspace --all-targets --all-features -- -D warnings
for feature in tracing spans metrics; do
  cargo clippy -p mproc -p mproc-runtime --all-targets --features "mproc/$feature" -- -D warnings
done
cargo fmt --manifest-path examples/axum_bridge/Cargo.toml --check
cargo clippy --manifest-path examples/axum_bridge/Cargo.toml --target-dir target/axum_bridge --all-targets -- -D warnings
RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --all-features
# Systems where nothing is run must compile at least: macOS with its own transport, Windows without any.
if command -v rustup >/dev/null && rustup target add x86_64-apple-darwin x86_64-pc-windows-msvc; then
  export RUSTFLAGS="-D warnings"
  # The command line has compression in C, for which there is no compiler for that system here.
  cargo check --target x86_64-apple-darwin --workspace --exclude mproc-benches --exclude mproc-cli
  cargo check --target x86_64-apple-darwin -p mproc-shm --tests
  cargo check --target x86_64-pc-windows-msvc -p mproc
  unset RUSTFLAGS
else
  echo "other systems: skipped, there is no rustup, or it cannot fetch their standard libraries"
fi
count=$(cargo tree -p mproc -e normal --prefix none | sort -u | wc -l)
echo "crates in the default build: $count"
[ "$count" -lt 60 ]
if cargo tree -p mproc -e normal --prefix none | grep -E '^(tokio|async-std|smol|async-executor) '; then
  echo "an async runtime is in the default build" >&2
  exit 1
fi
