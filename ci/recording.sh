#!/usr/bin/env bash
# Records the example `vitals`, counts the messages with another reader of MCAP than the writer's, and plays the readings to
# the processor that makes rates of them: each rate must be the same number as when it was recorded. `--seconds N`, 4 unless
# told otherwise. Without Python, or without a network to fetch its package `mcap`, it says so and is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=4
if [ "${1:-}" = --seconds ]; then
  seconds=$2
fi

place=$(mktemp -d)
# A domain of its own: what else runs on this machine does not hear it.
export XDG_RUNTIME_DIR=$place
unset MPROC_DOMAIN
clean() {
  jobs -pr | xargs -r kill 2>/dev/null || true
  wait
  rm -rf "$place"
}
trap clean EXIT

if ! python3 -m venv "$place/venv" >"$place/venv.log" 2>&1 ||
  ! timeout 120 "$place/venv/bin/pip" install --quiet mcap zstandard lz4 >>"$place/venv.log" 2>&1; then
  echo "skipped: no Python package mcap ($(tail -1 "$place/venv.log"))"
  exit 0
fi

cargo build --quiet -p mproc --example vitals
cargo build --quiet -p mproc-cli
built=$(cargo metadata --no-deps --format-version 1 | python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])')/debug
mproc=$built/mproc
vitals=$built/examples/vitals

# Its domain is named for its number, which is known before it starts.
mkfifo "$place/go"
# shellcheck disable=SC2016 # The inner shell expands these.
timeout 120 bash -c 'echo $$ >"$0.pid"; read -r _ <"$0"; exec "$@"' "$place/go" \
  "$vitals" --processes --seconds "$seconds" >"$place/vitals.txt" &
running=$!
until [ -s "$place/go.pid" ]; do kill -0 "$running"; sleep 0.05; done
domain=vitals-$(cat "$place/go.pid")
timeout 120 "$mproc" --domain "$domain" record --all -o "$place/live.mcap" --json >"$place/live.json" &
recorder=$!
until [ -s "$place/live.mcap" ]; do kill -0 "$recorder"; sleep 0.05; done
echo >"$place/go"
wait "$running"
kill -TERM "$recorder"
wait "$recorder"
"$mproc" info "$place/live.mcap" --json >"$place/info.json"

# The processor alone. It ends when its input does.
mkfifo "$place/input"
MPROC_DOMAIN=again timeout 120 "$vitals" --role rates --began-ns "$(date +%s%N)" <"$place/input" >"$place/rates.txt" &
running=$!
exec 3>"$place/input"
# It must not keep that input open.
timeout 120 "$mproc" --domain again record host/rates -o "$place/again.mcap" --json >"$place/again.json" 3>&- &
recorder=$!
until [ -s "$place/again.mcap" ]; do kill -0 "$recorder"; sleep 0.05; done
timeout 120 "$mproc" --domain again play "$place/live.mcap" --quiet --wait-for 1 \
  --topics host/cpu --topics host/memory --topics host/net --topics host/disk --topics host/process
exec 3>&-
wait "$running"
kill -TERM "$recorder"
wait "$recorder"

if ! "$place/venv/bin/python" - "$place" <<'PYTHON'
"""Counts what the recordings hold, and compares the rates."""
import collections
import json
import sys
from mcap.reader import make_reader

place = sys.argv[1]


def read(name):
    """The values of each topic."""
    values = collections.defaultdict(list)
    with open(f"{place}/{name}.mcap", "rb") as file:
        for _, channel, message in make_reader(file, validate_crcs=True).iter_messages():
            assert channel.message_encoding == "json", (channel.topic, channel.message_encoding)
            values[channel.topic].append(json.loads(message.data))
    return values


def counts(name):
    with open(f"{place}/{name}.json") as file:
        report = json.load(file)
    assert report["dropped"] == 0, report
    return {topic["topic"]: topic["messages"] for topic in report["topics"]}


def rates(values):
    """The numbers, by what they are of and when. The name of a process is left out: it is the first that was seen."""
    found = {}
    for rates in values:
        at = rates["at"]["secs"] * 10**9 + rates["at"]["nanos"]
        numbers = []
        for value in rates["values"]:
            metric = value["metric"]
            if isinstance(metric, dict):
                for fields in metric.values():
                    fields.pop("comm", None)
            numbers.append((json.dumps(metric, sort_keys=True), value["value"]))
        kind = "".join(sorted({metric[:8] for metric, _ in numbers}))
        assert (at, kind) not in found, (at, kind)
        found[at, kind] = numbers, rates["went_back"]
    return found


live = read("live")
again = read("again")
for name, values in [("live", live), ("info", live), ("again", again)]:
    theirs = {topic: len(messages) for topic, messages in values.items()}
    ours = {topic: count for topic, count in counts(name).items() if count}
    assert ours == theirs, f"{name}: {ours} is not what Python counts: {theirs}"
for topic in ["cpu", "memory", "net", "disk", "process"]:
    assert len(live[f"host/{topic}"]) > 50, topic

then, now = rates(live["host/rates"]), rates(again["host/rates"])
# Who comes late misses what was published before: the recorder the first readings, and the first rates of each run. Behind
# that, both must be the same in all.
begin = max(min(at for at, _ in then), min(at for at, _ in now)) + 600_000_000
then = {key: value for key, value in then.items() if key[0] >= begin}
now = {key: value for key, value in now.items() if key[0] >= begin}
assert len(then) > 100, f"only {len(then)} rates to compare"
for key in sorted(set(then) | set(now)):
    assert then.get(key) == now.get(key), f"at {key}: {then.get(key)} was recorded, {now.get(key)} came again"
numbers = sum(len(values) for values, _ in then.values())
messages = sum(len(messages) for messages in live.values())
print(f"{messages} messages of {len(live)} topics, and {len(then)} rates with {numbers} numbers, the same as live")
PYTHON
then
  # On a busy machine there may be too little to compare, and what the rates are made of is dropped when it waits too long.
  if [ -n "${MPROC_RECORDING_AGAIN:-}" ]; then exit 1; fi
  echo "once more, for longer: a machine that is busy drops readings on their way"
  clean
  MPROC_RECORDING_AGAIN=1 exec ci/recording.sh --seconds $((seconds * 4))
fi
