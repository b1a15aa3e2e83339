#!/usr/bin/env bash
# Every example runs and ends well. Those that are packages of their own have tests.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --examples
# Domains of their own: what else runs on this machine does not hear them.
XDG_RUNTIME_DIR=$(mktemp -d)
export XDG_RUNTIME_DIR
trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
run() {
  timeout 120 "target/debug/examples/$1" "${@:2}"
}
for example in examples/*.rs; do
  name=$(basename "$example" .rs)
  echo "-- $name"
  case "$name" in
    async_publisher)
      run async_publisher &
      run async_subscriber
      wait "$!"
      ;;
    async_subscriber) ;; # with its publisher
    frames) run frames --frames 30 --size 320x240 ;;
    service)
      # By itself and not by `run`, so that the signal reaches it.
      timeout 120 target/debug/examples/service serve &
      run service call 2 3
      run service factor 600851475143
      kill -TERM "$!"
      wait "$!"
      ;;
    two_processes)
      run two_processes publish --count 5 &
      run two_processes subscribe --count 5
      wait "$!"
      ;;
    vitals)
      run vitals --seconds 3
      run vitals --seconds 3 --processes
      ;;
    wordcount) run wordcount runtime --extensions rs,md --top 5 ;;
    *) run "$name" ;;
  esac
done
# A browser takes part if there is one.
echo "-- axum_bridge"
cargo test --manifest-path examples/axum_bridge/Cargo.toml --target-dir target/axum_bridge
