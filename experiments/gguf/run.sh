#!/usr/bin/env bash
# Thirteen GGUF types of the demo model, rounded as llama.cpp does without and with an importance matrix, and with error
# feedback; writes results.csv beside this file. About a quarter of an hour on two cores.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

results=experiments/gguf/results.csv
echo "type,rounding,bytes,perplexity,kl_mean,kl_mean_uncertainty,kl_p99,top1_agreement" >"$results"

texts=(calibration_data/prose.txt calibration_data/speeches.txt calibration_data/code.txt)
"$calque" imatrix tests/models/demo "${texts[@]}" --chunks 85 -o "$work/imatrix.gguf" --progress none >/dev/null

rounded() {  # name of the rounding, job, then settings
  local name=$1 job=$2
  shift 2
  "$calque" run "$job" --progress none --set "run_dir=$work/run" "$@" >/dev/null
  python3 - "$work/run/metrics.json" "$name" >>"$results" <<'PY'
import json, sys
report = json.load(open(sys.argv[1]))
bytes_of = {a["name"]: a["file_bytes"] for a in report["artifacts"]}
for m in report["evaluations"][0]["models"][1:]:
    d = m["divergence"]
    print(f'{m["label"].removesuffix(".gguf")},{sys.argv[2]},{bytes_of[m["label"]]},{m["perplexity_huggingface"]["value"]:.4f},'
          f'{d["kl_mean"]:.6f},{d["kl_mean_uncertainty"]:.6f},{d["kl_p99"]:.5f},{d["top1_agreement"]:.4f}')
PY
}

rounded none experiments/gguf/job.yaml
rounded imatrix experiments/gguf/job.yaml --set "quantization.imatrix=$work/imatrix.gguf"
rounded feedback experiments/gguf/feedback.yaml --set quantization.upstream_correction=0
rounded feedback+upstream experiments/gguf/feedback.yaml --set quantization.upstream_correction=1
