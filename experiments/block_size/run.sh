#!/usr/bin/env bash
# Runs the sweep (or what is left of it) and copies its tables beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}

"$calque" sweep experiments/block_size/sweep.yaml
cp runs/block_size/results.csv experiments/block_size/results.csv
cp runs/block_size/runs.csv experiments/block_size/runs.csv
"$calque" report runs/block_size
cp runs/block_size/report/key_quantization.block_size.svg experiments/block_size/
