#!/usr/bin/env bash
# Runs the sweep (or what is left of it) and copies its tables beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}

"$calque" sweep experiments/bits_group_size/sweep.yaml
cp runs/bits_group_size/results.csv experiments/bits_group_size/results.csv
cp runs/bits_group_size/runs.csv experiments/bits_group_size/runs.csv
"$calque" report runs/bits_group_size
cp runs/bits_group_size/report/pareto_bits.svg runs/bits_group_size/report/key_quantization.group_size.svg experiments/bits_group_size/
