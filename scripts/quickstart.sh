#!/usr/bin/env bash
# From nothing to two quantized models and a table: installs what is missing, builds, runs configs/demo.yaml.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh
echo "Building (the first time takes a few minutes) ..." >&2
cmake --preset release -DCALQUE_TESTS=OFF >/dev/null
cmake --build --preset release
exec build/release/calque run configs/demo.yaml
