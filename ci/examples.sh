#!/usr/bin/env bash
# Every example runs and ends well.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --examples
for example in examples/*.rs; do
  name=$(basename "$example" .rs)
  echo "-- $name"
  case "$name" in
    vitals) timeout 120 "target/debug/examples/$name" --seconds 3 ;;
    *) timeout 120 "target/debug/examples/$name" ;;
  esac
done
