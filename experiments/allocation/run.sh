#!/bin/sh
# Llama.cpp's mixes, and files of their sizes with a type for every tensor (sensitivities measured, or from layers);
# compressed-tensors folders with one width, with widths by hand, and of their sizes with chosen widths. A line for each:
# KL divergence and top-1 agreement on a novel, then on this repository's C++. Needs a build in build/release.
set -e
cd "$(dirname "$0")"
CALQUE=${CALQUE:-../../build/release/calque}
OUT=../../out
mkdir -p $OUT
cat ../../src/quant/*.cpp ../../src/formats/*.cpp > $OUT/allocation-code.txt

# run NAME --set ...: one job in a folder of its own, and its line.
run() {
  name=$1
  shift
  "$CALQUE" run job.yaml --set name="$name" --set run_dir="../../runs/allocation/$name" "$@" --progress none > /dev/null
  python3 - "$name" <<'PY'
import json, sys
report = json.load(open(f"../../runs/allocation/{sys.argv[1]}/metrics.json"))
cells = [f"{report['artifacts'][0]['bits_per_weight']:.3f}"]
for evaluation in report["evaluations"]:
    d = evaluation["models"][1]["divergence"]
    cells.append(f"{d['kl_mean']:.5f} {100 * d['top1_agreement']:.2f}")
print(f"{sys.argv[1]:28}", "   ".join(cells))
PY
}

for type in Q2_K Q3_K_S Q3_K_M; do
  run "$type" --set export.0.type=$type
  size=$(wc -c < $OUT/allocation.gguf)
  run "$type-measured" --set quantization.target_size="$size"
  run "$type-layer" --set quantization.target_size="$size" --set quantization.allocation.sensitivity=layer \
      --set export.0.type=$type
done

folder() {
  run "$@" --set 'export.0={format: compressed-tensors, path: ../../out/allocation-folder, overwrite: true}'
}
# by_hand NAME BITS LAYERS: one bit more in these layers.
by_hand() {
  folder "$1" --set quantization.bits="$2" \
      --set "quantization.rules=[{match: 're:model\.layers\.$3\.', bits: $(($2 + 1))}]"
}
for bits in 2 3 4; do folder "$bits-bits" --set quantization.bits=$bits; done
by_hand 2.5-first 2 '[0-2]'
by_hand 2.5-ends 2 '[015]'
folder 2.5-measured --set quantization.target_bpw=6.746
folder 3.0-measured --set quantization.target_bpw=7.092
by_hand 3.5-first 3 '[0-2]'
by_hand 3.5-ends 3 '[015]'
folder 3.5-measured --set quantization.target_bpw=7.438
