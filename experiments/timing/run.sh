#!/usr/bin/env bash
# Seconds by stage and peak memory for a model of SmolLM2-135M's shape (random weights), 65,536 calibration tokens.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
[ -e /tmp/calque-timing/model/tokens.safetensors ] || /usr/bin/python3 scripts/make_checkpoint.py --out /tmp/calque-timing/model
for threads in 2 1; do
  for dtype in float32 bfloat16; do
    "$calque" run experiments/timing/job.yaml --progress none --set "runtime.forward_dtype=$dtype" \
      --set "runtime.threads=$threads" >/dev/null
    python3 - "$dtype, $threads threads" <<'PY'
import json, sys
r = json.load(open("/tmp/calque-timing/run/metrics.json"))
stages = ", ".join(f"{name} {seconds:.1f}" for name, seconds in r["stage_seconds"].items())
print(f"{sys.argv[1]}: {r['seconds']:.1f} s ({stages}), peak {r['peak_bytes'] / 2**20:.0f} MiB", flush=True)
PY
  done
done
