#!/usr/bin/env bash
# Installs a build into a scratch folder, moves that folder, and uses what is in it: the program, its plug-in, texts and
# documents; and builds a program against the libraries. Usage: run.sh BUILD_FOLDER REPOSITORY
set -euo pipefail
build=$1
repository=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cmake --install "$build" --prefix "$work/first" >"$work/log" || { tail -5 "$work/log"; exit 1; }
prefix=$work/moved
mv "$work/first" "$prefix"
for file in share/man/man1/calque.1.gz share/man/man5/calque-job.5.gz share/bash-completion/completions/calque \
  share/zsh/site-functions/_calque share/fish/vendor_completions.d/calque.fish share/doc/calque/LICENSE; do
  [ -s "$prefix/$file" ] || { echo "not installed: $file"; exit 1; }
done

calque=$prefix/bin/calque
sentencepiece=$repository/tests/fixtures/tokenizers/sentencepiece_bpe
"$calque" --version
"$calque" tokenize --tokenizer "$sentencepiece" --string "a calque" >/dev/null
"$calque" quantize "$repository/tests/models/demo" Q4_K_M --out "$work/out" --dry-run | tee "$work/plan"
grep -q "calque's own texts" "$work/plan"

cmake -G Ninja -S "$repository/tests/install/consumer" -B "$work/consumer" -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" ||
  { cat "$work/log"; exit 1; }
cmake --build "$work/consumer" >"$work/log" || { cat "$work/log"; exit 1; }
"$work/consumer/consumer" "$repository/tests/models/demo" "$sentencepiece" | tee "$work/said"
grep -q "^6 blocks" "$work/said"
