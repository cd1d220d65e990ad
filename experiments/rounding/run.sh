#!/usr/bin/env bash
# KL divergence of rounding methods at 4, 3 and 2 bits on the demo model; writes results.csv beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

results=experiments/rounding/results.csv
echo "bits,group_size,rounding,bits_per_weight,perplexity,kl_mean,kl_mean_uncertainty,kl_p99,top1_agreement" >"$results"
for bits in 4 3 2; do
  for group_size in 128 64; do
    for rounding in "rtn minmax" "rtn full_range" "gptq search"; do
      read -r method rule <<<"$rounding"
      "$calque" run experiments/rounding/job.yaml --progress none --set "quantization.method=$method" \
        --set "quantization.scale_rule=$rule" --set "quantization.bits=$bits" \
        --set "quantization.group_size=$group_size" --set "export.0.path=$out/model" \
        --set "run_dir=$out/run" >/dev/null
      python3 - "$out/run/metrics.json" "$bits,$group_size,$method $rule" >>"$results" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
m = report["evaluations"][0]["models"][1]
d = m["divergence"]
print(f'{sys.argv[2]},{report["artifacts"][0]["bits_per_weight"]:.3f},{m["perplexity_huggingface"]["value"]:.4f},'
      f'{d["kl_mean"]:.6f},{d["kl_mean_uncertainty"]:.6f},{d["kl_p99"]:.5f},{d["top1_agreement"]:.4f}')
PY
      tail -n 1 "$results" >&2
    done
  done
done
