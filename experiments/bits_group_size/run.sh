#!/usr/bin/env bash
# Runs the sweep (or what is left of it) and copies its tables beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}

"$calque" sweep experiments/bits_group_size/sweep.yaml
cp runs/bits_group_size/results.csv experiments/bits_group_size/results.csv
cp runs/bits_group_size/runs.csv experiments/bits_group_size/runs.csv
# Plots: "$calque" report runs/bits_group_size
