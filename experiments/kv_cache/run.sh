#!/usr/bin/env bash
# KL divergence with the key/value cache rounded, of the original and of a 4-bit artifact, at two lengths of context; then
# each layer's cache alone at q4_0. Writes results.csv and layers.csv beside this file.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
here=experiments/kv_cache
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

rows() {  # the file that holds the evaluations
  python3 - "$1" <<'PY'
import json, sys
read = json.load(open(sys.argv[1]))
for e in read["evaluations"] if isinstance(read, dict) else read:
    for m in e["models"]:
        if m["kind"] == "reference":
            continue
        d = m["divergence"]
        low, high = d["kl_intervals"]["p99"]
        model = "noise floor" if m["kind"] == "noise_floor" else m["label"]
        print(f'{e["seqlen"]},{model},{m["kv_cache"] or "as computed"},{m["kv_cache_bytes"]},'
              f'{m["perplexity_huggingface"]["value"]:.4f},{d["kl_mean"]:.7f},{d["kl_mean_uncertainty"]:.7f},'
              f'{d["kl_p99"]:.6f},{low:.6f},{high:.6f},{d["top1_agreement"]:.4f}')
PY
}
header="context,model,cache,cache_bytes,perplexity,kl_mean,kl_mean_uncertainty,kl_p99,kl_p99_low,kl_p99_high,top1_agreement"

"$calque" run $here/job.yaml --progress none --set "run_dir=$work/run" --set "export.0.path=$work/demo-GPTQ-Int4" >&2
{ echo "$header"; rows "$work/run/metrics.json"; } >$here/results.csv

caches=()
for layer in 0 1 2 3 4 5; do caches+=(--kv-cache "q4_0/-@$layer" --kv-cache "-/q4_0@$layer"); done
"$calque" eval --reference tests/models/demo --text calibration_data/heldout_pride_and_prejudice.txt --windows 8 \
  "${caches[@]}" --kv-seqlen 512 --progress none --json >"$work/layers.json"
{ echo "$header"; rows "$work/layers.json"; } >$here/layers.csv
