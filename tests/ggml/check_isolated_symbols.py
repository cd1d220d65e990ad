#!/usr/bin/env python3
"""Checks that object files define nothing outside namespaces of one name: check_isolated_symbols.py NM NAME FILE...

An inline function of a shared name, compiled for AVX-512 here, could be the copy that the linker keeps for the whole
program, which then ends on other processors."""
import subprocess
import sys

# what the compiler itself emits: exception tables' pointers, a sanitizer's marks
BENIGN = ("DW.ref.", "__odr_asan", "__asan_", "__ubsan_")


def defined_symbols(nm, files):
    lines = subprocess.run([nm, "--demangle", "--extern-only", "--defined-only", "--no-sort", *files], check=True, text=True,
                           capture_output=True).stdout.splitlines()
    return [line.split(" ", 2)[2] for line in lines if line.count(" ") >= 2]


def main():
    nm, namespace, *files = sys.argv[1:]
    symbols = defined_symbols(nm, files)
    inside = [name for name in symbols if f"::{namespace}::" in name]
    outside = [name for name in symbols if f"::{namespace}::" not in name and not name.startswith(BENIGN)]
    for name in outside:
        print(f"{name} is defined outside {namespace}: use a builtin, or a function of that namespace, in src/ggml/types and calque/core/simd.h")
    if not inside:
        print(f"no symbol of {namespace} in {len(files)} files: nothing was checked")
    return 1 if outside or not inside else 0


sys.exit(main())
