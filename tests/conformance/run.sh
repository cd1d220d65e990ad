#!/usr/bin/env bash
# Quantizes the demo model, and compares `calque dequantize` of each artifact with an independent reader (numpy, written from the
# formats' definitions); and lets `calque verify` look at it. Usage: run.sh CALQUE_PROGRAM REPOSITORY
set -euo pipefail
calque=$1
repository=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

quantize() {  # name, then --set arguments
  local name=$1
  shift
  "$calque" run "$repository/tests/conformance/job.yaml" --progress none --set "export.0.path=$work/$name" \
    --set "run_dir=$work/run" "$@" >/dev/null
  "$calque" dequantize "$work/$name" --out "$work/$name-plain" --dtype float32 >/dev/null
  echo "$name"
  /usr/bin/python3 "$repository/tests/support/independent_reader.py" "$work/$name" "$work/$name-plain/model.safetensors"
  "$calque" verify "$work/$name" >"$work/findings" || { cat "$work/findings"; return 1; }
}

for bits in 2 3 4 8; do quantize "gptq-$bits-sym" --set "quantization.bits=$bits"; done
for bits in 2 4; do quantize "gptq-$bits-asym" --set "quantization.bits=$bits" --set quantization.sym=false; done
quantize gptq-v1-asym --set quantization.sym=false --set export.0.checkpoint_format=gptq
quantize gptq-channel --set quantization.group_size=-1
for type in Q8_0 Q5_1 Q5_0 Q4_1 Q4_0 F16 Q2_K Q3_K_M Q4_K_M Q5_K_M IQ4_NL IQ4_XS; do
  quantize "$type.gguf" --set "export=[{format: gguf, path: $work/$type.gguf, type: $type}]"
done

container() {  # name, format, then --set arguments
  local name=$1 format=$2
  shift 2
  quantize "$name" --set "export=[{format: $format, path: $work/$name}]" "$@"
}
mixed="quantization.rules=[{match: '*.down_proj', bits: 8}, {match: 're:model\\.layers\\.0\\.self_attn\\..*', skip: true},\
 {match: '*.o_proj', sym: false}]"
container awq-sym awq
container awq-asym awq --set quantization.sym=false
for bits in 4 8; do
  container "ct-$bits-sym" compressed-tensors --set "quantization.bits=$bits"
  container "ct-$bits-asym" compressed-tensors --set "quantization.bits=$bits" --set quantization.sym=false
done
container gptq-mixed gptq --set "$mixed"
container ct-mixed compressed-tensors --set "$mixed"
# Modules that AWQ cannot hold stay unquantized; the folds change norms, which the reader takes from the file.
calibrated="calibration={n_samples: 8, seqlen: 256, sources: [{path: $repository/calibration_data/prose.txt}]}"
container awq-mixed awq --set "$calibrated" --set quantization.method=awq --set quantization.sym=false \
  --set "quantization.rules=[{match: '*.down_proj', skip: true}, {match: 'model.layers.1.*', skip: true}]"
container ct-head compressed-tensors --set "$calibrated" --set quantization.method=awq \
  --set "quantization.rules=[{match: lm_head, skip: false, bits: 8}, {match: '*.v_proj', skip: true}]"
container gptq-desc-act gptq --set "$calibrated" --set quantization.method=gptq --set export.0.desc_act=true
