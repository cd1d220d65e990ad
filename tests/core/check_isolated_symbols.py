#!/usr/bin/env python3
"""Checks that object files show nothing outside namespaces of one name: check_isolated_symbols.py NM NAME FILE...

An inline function or template of a shared name, compiled for AVX-512 here, could be the copy that the linker keeps for
the whole program, which then ends on other processors."""
import re
import subprocess
import sys


def visible_symbols(nm, file):
    lines = subprocess.run([nm, "--demangle", "--extern-only", "--defined-only", "--no-sort", file], check=True, text=True,
                           capture_output=True).stdout.splitlines()
    names = [line.split(" ", 2)[2] for line in lines if line.count(" ") >= 2]
    return [re.sub(r"__vector\(\d+\)", "__vector", name) for name in names]  # templates name their result


def main():
    nm, namespace, *files = sys.argv[1:]
    failed = not files
    for file in files:
        symbols = visible_symbols(nm, file)
        outside = [name for name in symbols if f"::{namespace}::" not in name.split("(")[0]]
        for name in outside:
            print(f"{file}: {name} is visible outside {namespace}")
        if len(outside) == len(symbols):
            print(f"{file}: no symbol of {namespace}: nothing was checked")
            failed = True
        failed |= bool(outside)
    return 1 if failed else 0


sys.exit(main())
