#!/usr/bin/env bash
# bash completes by the script that the program prints; zsh and fish can read theirs, and man the manual, as far as
# this machine has them. Usage: shells.sh CALQUE_PROGRAM
set -euo pipefail
program=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

compopt() { :; }  # bash has it only while somebody types

# completes LINE WANTED...: what bash shows for `calque LINE` and the tabulator.
completes() {
  local line="$program $1" shown
  shift
  COMP_LINE=$line COMP_POINT=${#line} COMP_WORDBREAKS=$' \t\n"\'><=;|&(:'
  _calque "$program"
  shown="${COMPREPLY[*]-}"
  [[ $shown == "$*" ]] && return
  echo "calque ${line#"$program "}<tab> shows '$shown', not '$*'"
  failed=1
}

eval "$("$program" completion bash)"
mkdir -p "$work/models/one"
touch "$work/models/job.yaml"
completes "quanti" quantize
completes "run --progress " auto tty plain none
completes "run --progress=p" plain
completes "run job.yaml --set quantization.sy" quantization.sym=
completes "run job.yaml --set quantization.sym=" true false
completes "run job.yaml --set export.0.form" export.0.format=
completes "run $work/models/jo" "$work/models/job.yaml"
completes "report $work/models/" "$work/models/one"
completes "quantize model Q4_K_" Q4_K_M Q4_K_S
completes "nonsense " ""

"$program" completion zsh >"$work/_calque"
"$program" completion fish >"$work/calque.fish"
if command -v zsh >/dev/null; then zsh -n "$work/_calque" || failed=1; fi
if command -v fish >/dev/null; then
  shown=$(PATH="$(dirname "$program"):$PATH" HOME=$work fish --no-config -c "source $work/calque.fish
    complete -C 'calque run --progress p'; complete -C 'calque run --set quantization.sym='; complete -C 'calque run $work/models/jo'")
  [[ $shown == "plain"$'\n'"quantization.sym=false"$'\n'"quantization.sym=true"$'\n'"$work/models/job.yaml" ]] ||
    { echo "fish shows '$shown'"; failed=1; }
fi
if command -v man >/dev/null; then
  for page in __man __man-job; do
    "$program" "$page" >"$work/page"
    LC_ALL=C.UTF-8 MANWIDTH=100 man --warnings -E UTF-8 -l "$work/page" >"$work/text" 2>"$work/warnings"
    [ -s "$work/warnings" ] && { head -5 "$work/warnings"; failed=1; }
    grep -q "^SEE ALSO" "$work/text" || { echo "$page has no end"; failed=1; }
  done
fi
exit $failed
