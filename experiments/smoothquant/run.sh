#!/usr/bin/env bash
# SmoothQuant's channel scales under schemes that round inputs, on the demo model as it is and with large channels planted in it; writes
# results.csv beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
python3 experiments/smoothquant/plant.py tests/models/demo "$out/planted" 16

results=experiments/smoothquant/results.csv
echo "model,scheme,method,kl_mean,kl_mean_uncertainty,top1_agreement" >"$results"

point() {  # model's name, its folder, scheme, name of the method, quantization keys
  local name=$1 model=$2 scheme=$3 method=$4 sets=()
  shift 4
  for key in "$@"; do sets+=(--set "quantization.$key"); done
  "$calque" run experiments/smoothquant/job.yaml --progress none "${sets[@]}" --set "model.path=$model" --set "export.0.scheme=$scheme" \
    --set "export.0.path=$out/model" --set "run_dir=$out/run" >/dev/null
  python3 - "$out/run/metrics.json" "$name,$scheme,$method" >>"$results" <<'PY'
import json, sys
d = json.load(open(sys.argv[1]))["evaluations"][0]["models"][1]["divergence"]
print(f'{sys.argv[2]},{d["kl_mean"]:.6f},{d["kl_mean_uncertainty"]:.6f},{d["top1_agreement"]:.4f}')
PY
  tail -n 1 "$results" >&2
}

for model in plain planted; do
  folder=$PWD/tests/models/demo
  [ $model = planted ] && folder=$out/planted
  for scheme in W8A8 FP8_DYNAMIC; do
    point $model "$folder" $scheme "RTN" method=rtn
    point $model "$folder" $scheme "GPTQ" method=gptq
    for alpha in 0.5 0.8; do
      point $model "$folder" $scheme "SmoothQuant $alpha + RTN" method=smoothquant rounding=rtn smoothquant.alpha=$alpha
      point $model "$folder" $scheme "SmoothQuant $alpha + GPTQ" method=smoothquant smoothquant.alpha=$alpha
    done
  done
done
