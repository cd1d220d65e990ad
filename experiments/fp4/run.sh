#!/bin/sh
# Rounds the demo model to nearest (min-max scales, searched scales) and by GPTQ, in every scheme of job.yaml, and prints
# what `calque run` measures of each. Needs a build in build/release.
set -e
cd "$(dirname "$0")"
CALQUE=${CALQUE:-../../build/release/calque}
for variant in "rtn minmax" "rtn search" "gptq search"; do
  set -- $variant
  echo "== $1, scale_rule: $2"
  "$CALQUE" run job.yaml --set quantization.method="$1" --set quantization.scale_rule="$2" --set name="fp4-$1-$2" \
      --set run_dir="../../runs/fp4-$1-$2" --progress none
done
