#!/usr/bin/env bash
# Builds the program so that it watches itself, and runs it.
#   scripts/sanitize.sh asan [--slow] [ARGUMENTS OF CTEST]   all tests, under AddressSanitizer, LeakSanitizer, UndefinedBehaviorSanitizer
#   scripts/sanitize.sh tsan [--slow] [ARGUMENTS OF CTEST]   all tests, under ThreadSanitizer
#   scripts/sanitize.sh short                                both, on the program alone: tests/sanitizers/jobs.sh
# --slow: tests with the label slow, too. The first report ends a process with exit code 99.
set -euo pipefail
cd "$(dirname "$0")/.."
settings=$PWD/tests/sanitizers

# detect_stack_use_after_return stays off: g++ 12 lays vectors of 64 bytes on its stacks misaligned
# (GCC bug 110027). A preloaded library (a disk that fails) comes before the sanitizer: link order.
export ASAN_OPTIONS="exitcode=99:detect_leaks=1:check_initialization_order=1\
:strict_string_checks=1:verify_asan_link_order=0:allocator_may_return_null=1${ASAN_OPTIONS:+:$ASAN_OPTIONS}"
export UBSAN_OPTIONS="exitcode=99:halt_on_error=1:print_stacktrace=1${UBSAN_OPTIONS:+:$UBSAN_OPTIONS}"
export LSAN_OPTIONS="suppressions=$settings/leaks.supp:print_suppressions=0${LSAN_OPTIONS:+:$LSAN_OPTIONS}"
export TSAN_OPTIONS="exitcode=99:halt_on_error=1:second_deadlock_stack=1:suppressions=$settings/races.supp\
:print_suppressions=0${TSAN_OPTIONS:+:$TSAN_OPTIONS}"

usage() { sed -n "2,6s/^# \{0,1\}//p" "$0" >&2; exit 2; }

# Names of tests that a sanitizer cannot run, as one regular expression. A line of the list is a
# pattern, two blanks and the reason.
left_out() { sed -e '/^#/d' -e '/^$/d' -e 's/  .*//' "$settings/$1.leave-out" | paste -sd '|'; }

# ThreadSanitizer cannot place its shadow memory if the kernel spreads addresses widely, so they are
# not randomized where that is allowed.
run() {
  local fixed=()
  if [ "$preset" = tsan ] && setarch "$(uname -m)" -R true 2>/dev/null; then fixed=(setarch "$(uname -m)" -R); fi
  "${fixed[@]}" "$@"
}

whole() {
  local slow=(-LE '^slow$')
  [ "${1:-}" = --slow ] && slow=() && shift
  cmake --preset "$preset" -DCALQUE_TESTS=ON >/dev/null
  run cmake --build --preset "$preset"
  run ctest --preset "$preset" -j "$(nproc)" "${slow[@]}" -E "$(left_out "$preset")" "$@"
}

# The program for the short form, compiled as fast as it gets: checks in functions instead of in
# line, and without those of null pointers, alignment, and types, which take a third of the time.
# Null pointers end the program anyway.
configure_short() {
  local flags="--param=asan-instrumentation-with-call-threshold=0;-fno-sanitize=null,alignment,vptr,object-size"
  case "$preset" in
    asan) set -- "-DCALQUE_SANITIZE_FLAGS=$flags,nonnull-attribute,returns-nonnull-attribute,pointer-overflow" ;;
    tsan) set -- -DCALQUE_PCH=ON ;;
  esac
  cmake --preset "$preset" -B "build/$preset-short" -DCALQUE_TESTS=OFF "$@" >/dev/null
}

short() {
  local began=$SECONDS
  for preset in asan tsan; do
    echo "$preset: building the program"
    configure_short
    cmake --build "build/$preset-short" --target calque_program -- --quiet
    echo "$preset: running jobs on small models ($((SECONDS - began)) s since the start)"
    run tests/sanitizers/jobs.sh "build/$preset-short/calque" .
  done
  echo "sanitizers: nothing found, $((SECONDS - began)) s"
}

preset=${1:-}
case "$preset" in
  asan | tsan) scripts/setup.sh; shift; whole "$@" ;;
  short) scripts/setup.sh; short ;;
  *) usage ;;
esac
