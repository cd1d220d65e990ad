#!/usr/bin/env bash
# llama-quantize's ten mixes of IQ1, IQ2 and IQ3: rounded as llama.cpp does with an importance matrix, and by GPTQ. A line for
# each: bits a weight, then KL divergence, its error and top-1 agreement, and the seconds of the stage that rounds; for both.
# Needs a build in build/release; about ten minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")"
calque=${CALQUE:-../../build/release/calque}

line() {  # type, settings
  local type=$1
  shift
  "$calque" run job.yaml --progress none --set run_dir="../../runs/iq" --set export.0.type="$type" "$@" >/dev/null
  python3 - <<'PY'
import json
report = json.load(open("../../runs/iq/metrics.json"))
d = report["evaluations"][0]["models"][1]["divergence"]
print(f"{report['artifacts'][0]['bits_per_weight']:.3f}  {d['kl_mean']:.5f} +- {d['kl_mean_uncertainty']:.5f}  "
      f"{100 * d['top1_agreement']:.2f}  {report['stage_seconds']['quantize']:.1f} s", end="   ")
PY
}

for type in IQ1_S IQ1_M IQ2_XXS IQ2_XS IQ2_S IQ2_M IQ3_XXS IQ3_XS IQ3_S IQ3_M; do
  printf '%-8s ' "$type"
  line "$type" --set quantization.method=rtn
  line "$type"
  echo
done
