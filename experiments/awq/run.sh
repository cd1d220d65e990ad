#!/usr/bin/env bash
# Channel scales, clipping and rounding on the demo model, 4 bits, group 128, zero points; writes results.csv beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

results=experiments/awq/results.csv
echo "point,perplexity,kl_mean,kl_mean_uncertainty,kl_p99,top1_agreement,channel_scales_seconds,quantize_seconds" >"$results"

point() {  # name, then quantization keys
  local name=$1 sets=()
  shift
  for key in "$@"; do sets+=(--set "quantization.$key"); done
  "$calque" run experiments/awq/job.yaml --progress none "${sets[@]}" --set "export.0.path=$out/model" \
    --set "run_dir=$out/run" >/dev/null
  python3 - "$out/run/metrics.json" "$name" >>"$results" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
m, s = report["evaluations"][0]["models"][1], report["stage_seconds"]
d = m["divergence"]
print(f'{sys.argv[2]},{m["perplexity_huggingface"]["value"]:.4f},{d["kl_mean"]:.6f},{d["kl_mean_uncertainty"]:.6f},'
      f'{d["kl_p99"]:.5f},{d["top1_agreement"]:.4f},{s["transform"]:.2f},{s["quantize"]:.2f}')
PY
  tail -n 1 "$results" >&2
}

point "RTN min-max" method=rtn scale_rule=minmax
point "RTN search" method=rtn scale_rule=search
point "RTN block search" method=rtn scale_rule=block_search
point "AWQ scales + RTN min-max" rounding=rtn scale_rule=minmax
point "AWQ scales + clip + RTN" rounding=rtn
point "AWQ scales (output loss) + clip + RTN" rounding=rtn awq.loss=output
point "GPTQ search" method=gptq scale_rule=search
point "GPTQ block search" method=gptq scale_rule=block_search
point "AWQ scales + GPTQ search" rounding=gptq scale_rule=search
point "AWQ scales + clip + GPTQ" rounding=gptq
point "AWQ scales (output loss) + clip + GPTQ" rounding=gptq awq.loss=output
