#!/usr/bin/env bash
# KL divergence by calibration text: calque's own texts as they were, as they are, and texts of one domain; writes results.csv beside this file.
#   run.sh [MODEL ...]     folders; default: the demo model. Another model is calibrated and measured on less text, to save time.
# BITS=4 takes another width; points that results.csv has are not run again. It needs Debian's package debian-faq-fr (apt-get
# download), whose text is only read.
set -euo pipefail
cd "$(dirname "$0")/../.."
calque=${CALQUE:-build/release/calque}
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
texts=$PWD/calibration_data

# Held-out texts: a novel, this repository's C++, a French manual.
(cd "$out" && apt-get download debian-faq-fr >/dev/null && dpkg-deb -x debian-faq-fr_*.deb faq)
cat src/quant/*.cpp src/formats/*.cpp >"$out/code.txt"
find "$out/faq" -name '*.txt.gz' | sort | xargs zcat >"$out/french.txt"
evaluated="[{text: $texts/heldout_pride_and_prejudice.txt}, {text: $out/code.txt}, {text: $out/french.txt}]"

declare -A sources=(
  [before]="[{path: $texts/code.txt, split_on: \"\\n\\n\\n\"}, {path: $texts/prose.txt, split_on: \"\\n\\n\\n\"}, {path: $texts/speeches.txt, split_on: \"\\n\\n\\n\"}]"
  [builtin]="[builtin]"
  [prose]="[builtin:prose]"
  [code]="[builtin:code]"
)

results=experiments/calibration_text/results.csv
[ -e "$results" ] || echo "model,bits,calibration,seed,text,perplexity_original,perplexity,kl_mean,top1_agreement" >"$results"
for model in "${@:-tests/models/demo}"; do
  samples=128 windows=10 correction=auto
  [ "$(basename "$model")" = demo ] || { samples=32 windows=4 correction=0; }
  for bits in ${BITS:-3 4}; do
    for seed in 0 1 2; do
      for calibration in before builtin prose code; do
        grep -q "^$(basename "$model"),$bits,$calibration,$seed," "$results" && continue
        "$calque" run experiments/calibration_text/job.yaml --progress none --set "model.path=$(realpath "$model")" \
          --set "calibration={n_samples: $samples, seqlen: 512, seed: $seed, sources: ${sources[$calibration]}}" \
          --set "quantization.bits=$bits" --set "quantization.upstream_correction=$correction" --set "export.0.path=$out/model" --set "run_dir=$out/run" \
          --set "evaluate={texts: $evaluated, seqlen: 512, windows: $windows}" >/dev/null
        python3 - "$out/run/metrics.json" "$(basename "$model"),$bits,$calibration,$seed" >>"$results" <<'PY'
import json, sys
for evaluation in json.load(open(sys.argv[1]))["evaluations"]:
    original, model = evaluation["models"]
    d = model["divergence"]
    print(f'{sys.argv[2]},{evaluation["text"]},'
          f'{original["perplexity_huggingface"]["value"]:.4f},{model["perplexity_huggingface"]["value"]:.4f},'
          f'{d["kl_mean"]:.6f},{d["top1_agreement"]:.4f}')
PY
        rm -rf "$out/run" "$out/model"
        tail -n 3 "$results" >&2
      done
    done
  done
done
