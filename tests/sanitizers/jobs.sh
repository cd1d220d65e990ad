#!/usr/bin/env bash
# Runs the whole program on small models, as people run it: jobs of several families and methods, a
# run that is killed and resumed, a sweep, evaluation, the commands that read artifacts. It is meant
# for a program that watches itself: a report of a sanitizer ends it with exit code 99.
# Usage: jobs.sh CALQUE_PROGRAM REPOSITORY
set -euo pipefail
calque=$(realpath "$1")
repository=$(realpath "$2")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

families=$repository/tests/fixtures/families
demo=$repository/tests/models/demo
held_out=$repository/calibration_data/heldout_pride_and_prejudice.txt
steps=0

# expect CODE ARGUMENTS...: the program ends with this exit code.
expect() {
  local wanted=$1 code=0
  shift
  "$calque" "$@" >out.txt 2>err.txt || code=$?
  steps=$((steps + 1))
  [ "$code" -eq "$wanted" ] && return
  echo "exit code $code instead of $wanted: calque $*" >&2
  tail -n 200 err.txt >&2
  exit 1
}

# job NAME MODEL QUANTIZATION EXPORTS: a job file of 2 sequences of 48 tokens, and 2 threads.
job() {
  cat >"$1.yaml" <<YAML
version: 1
name: test
model: {path: $2}
calibration: {tokens: tokens.safetensors, n_samples: 4, seqlen: 48}
quantization: {$3}
export: [$4]
run_dir: runs/$1
runtime: {threads: 2, checkpoint: block}
publish: {model_card: true}
YAML
}

# Both halves of every sequence that the families' references were computed with.
/usr/bin/python3 - "$families/llama/reference.safetensors" tokens.safetensors <<'PYTHON'
import json, sys
data = open(sys.argv[1], "rb").read()
size = int.from_bytes(data[:8], "little")
begin, end = json.loads(data[8:8 + size])["input_ids"]["data_offsets"]
ids = data[8 + size + begin:8 + size + end]
header = json.dumps({"input_ids": {"dtype": "I32", "shape": [4, 48], "data_offsets": [0, len(ids)]}}).encode()
open(sys.argv[2], "wb").write(len(header).to_bytes(8, "little") + header + ids)
PYTHON

# Families and methods; GPTQ with Q4_0 needs two passes, and the saved states of both.
job gptq "$families/llama" "method: gptq, bits: 4, group_size: 32" \
  "{format: gptq, path: gptq}, {format: gguf, path: q4.gguf, type: Q4_0}"
job awq "$families/gemma3" "method: awq, bits: 4, group_size: 32, sym: false, awq: {n_grid: 4}" "{format: awq, path: awq}"
job experts "$families/qwen3_moe" "method: gptq, bits: 3, group_size: 32, fallback: {max_modules: 1000}" \
  "{format: gptq, path: experts}"
job mixtral "$families/mixtral" "method: awq, bits: 4, group_size: 32, awq: {n_grid: 4}, fallback: {max_modules: 1000}" \
  "{format: compressed-tensors, path: mixtral}"
job fused "$families/phi3" "method: gptq, bits: 4, group_size: 32, act_order: false" \
  "{format: compressed-tensors, path: fused}"
job plain "$families/gemma2" "method: rtn, bits: 8, group_size: -1" "{format: compressed-tensors, path: plain}"
expect 0 validate gptq.yaml
expect 0 plan gptq.yaml --probe
for name in gptq awq experts mixtral fused plain; do
  expect 0 run "$name.yaml" --progress none
done

# A run of 6 blocks is told to end, goes on, is killed, goes on: the bytes are those of one in one go.
job whole "$demo" "method: gptq, bits: 3, group_size: 64, refine_passes: 1" \
  "{format: gptq, path: whole}, {format: gguf, path: whole.gguf, type: Q3_K_M}"
job stopped "$demo" "method: gptq, bits: 3, group_size: 64, refine_passes: 1" \
  "{format: gptq, path: stopped}, {format: gguf, path: stopped.gguf, type: Q3_K_M}"
expect 0 run whole.yaml --progress none

# Every line of the journal is a record; there is one a block once the resolved job is there.
records() { { wc -l <runs/stopped/state/journal; } 2>/dev/null || echo 0; }

# stop SIGNAL CODE ARGUMENTS...: the program gets the signal when it has saved one more block.
stop() {
  local signal=$1 wanted=$2 code=0 before=
  shift 2
  "$calque" "$@" >out.txt 2>err.txt &
  local process=$!
  while kill -0 "$process" 2>/dev/null; do
    if [ -e runs/stopped/job.resolved.yaml ]; then
      before=${before:-$(records)}
      [ "$(records)" -gt "$before" ] && kill "-$signal" "$process" && break
    fi
    sleep 0.01
  done
  wait "$process" 2>/dev/null || code=$?
  steps=$((steps + 1))
  [ "$code" -eq "$wanted" ] && return
  echo "exit code $code instead of $wanted: calque $*, stopped by $signal" >&2
  tail -n 200 err.txt >&2
  exit 1
}

stop TERM 143 run stopped.yaml --progress none
stop KILL 137 resume runs/stopped --progress none
expect 0 resume runs/stopped --progress none
cmp whole/model.safetensors stopped/model.safetensors
cmp whole.gguf stopped.gguf

# Artifacts that are read back: checked, turned into plain folders, measured.
expect 0 verify stopped --reference "$demo"
expect 0 inspect q4.gguf
expect 0 dequantize awq --out awq-plain
expect 0 eval whole stopped.gguf --reference "$demo" --text "$held_out" --windows 2 --seqlen 64 --threads 2 \
  --noise-floor --kv-cache q8_0/q4_0 --kv-cache fp8 --kv-seqlen 96 --progress none
expect 0 imatrix "$demo" "$repository/calibration_data/code.txt" -o imatrix.gguf --chunk-size 64 --chunks 4 --threads 2 \
  --progress none

# A sweep of two points that share statistics and the original's hidden states.
job base "$demo" "method: gptq, bits: 4, group_size: 64" "{format: gptq, path: swept}"
cat >>base.yaml <<YAML
evaluate: {texts: [{text: $held_out}], seqlen: 64, windows: 2}
YAML
cat >sweep.yaml <<YAML
version: 1
base: base.yaml
set: {quantization.propagate_error: false}
grid: {bits: [3, 4]}
output: sweep
YAML
expect 0 sweep sweep.yaml --progress none
expect 0 report sweep
expect 0 compare sweep
expect 0 recommend sweep --max-kl 10

# Refusals: exceptions that leave the program's depths.
expect 2 run gptq.yaml --set quantization.bits=9
expect 6 verify sweep.yaml
head -c 5000 q4.gguf >short.gguf
expect 3 inspect short.gguf
echo "$steps runs of the program"
