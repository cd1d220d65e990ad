#!/usr/bin/env bash
# MLX folders of 4 and 3 bits, groups of 64, by mlx.core.quantize's rounding, by searched scales and by GPTQ; writes results.csv beside this
# file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

results=experiments/mlx/results.csv
echo "bits,method,kl_mean,kl_mean_uncertainty,top1_agreement,bits_per_weight" >"$results"

point() {  # bits, name of the method, quantization keys
  local bits=$1 method=$2 sets=()
  shift 2
  for key in "$@"; do sets+=(--set "quantization.$key"); done
  "$calque" run experiments/mlx/job.yaml --progress none --set "quantization.bits=$bits" "${sets[@]}" --set "export.0.path=$out/model" \
    --set "run_dir=$out/run" >/dev/null
  python3 - "$out/run/metrics.json" "$bits,$method" >>"$results" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
d = report["evaluations"][0]["models"][1]["divergence"]
bits = report["artifacts"][0]["bits_per_weight"]
print(f'{sys.argv[2]},{d["kl_mean"]:.6f},{d["kl_mean_uncertainty"]:.6f},{d["top1_agreement"]:.4f},{bits:.3f}')
PY
  tail -n 1 "$results" >&2
}

for bits in 4 3; do
  point $bits "mlx.core.quantize" method=rtn scale_rule=minmax
  point $bits "searched" method=rtn
  point $bits "GPTQ" method=gptq
done
