#!/usr/bin/env bash
# Runs the sweep (or what is left of it) and copies its table beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}

"$calque" sweep experiments/tasks/sweep.yaml
cp runs/tasks/results.csv experiments/tasks/results.csv
"$calque" recommend runs/tasks --task reading
