#!/usr/bin/env python3
"""Registers, shared memory and spills of every CUDA kernel, as ptxas counts them, against the table
src/kernels/cuda/resources.csv (a ceiling for each kernel; --update writes it anew). Fails where a kernel spills,
keeps a stack frame, exceeds its ceiling or is not in the table. Needs nvcc, no GPU.

    scripts/check_kernel_resources.py --nvcc /usr/local/cuda/bin/nvcc [--update] [FILE.cu ...]
"""
import argparse
import csv
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "src/kernels/cuda"
TABLE = FOLDER / "resources.csv"
ARCHITECTURES = ["80", "90"]
FLAGS = ["-std=c++20", "-O3", "--fmad=false", "--diag-suppress=554", "-Xptxas=-v", f"-I{ROOT}/src", f"-I{ROOT}/include"]
HEADER = ["file", "kernel", "registers", "shared_bytes"]

REPORT = re.compile(r"Compiling entry function '(?P<name>\w+)' for 'sm_(?P<arch>\w+)'(?P<facts>.*?)Used (?P<registers>\d+) registers"
                    r"(?P<rest>[^\n]*)", re.DOTALL)


def number(pattern, text):
    match = re.search(pattern, text)
    return int(match.group(1)) if match else 0


def plain_name(mangled):
    """'add_tile<float>' of the mangled name of calque::cuda::(anonymous namespace)::add_tile<float>(...)."""
    name = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"\(anonymous namespace\)::|_GLOBAL__N__\w+::|calque::(cuda::)?|^void ", "", name)
    depth = 0
    for i, c in enumerate(name):  # up to the list of parameters
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0 and i > 0:
            return name[:i]
    return name


def measure(nvcc, file):
    """{(file, kernel): {arch: {registers, shared_bytes, spilled_bytes, stack_bytes}}}"""
    # Without the host's half a kernel takes two thirds of the time, but then ccache keeps nothing.
    ccache = shutil.which("ccache")
    compiler = [ccache, nvcc, "-c"] if ccache else [nvcc, "-fatbin"]
    codes = [f"-gencode=arch=compute_{arch},code=sm_{arch}" for arch in ARCHITECTURES]
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(compiler + FLAGS + codes + [str(file), "-o", os.path.join(folder, "kernel")],
                             capture_output=True, text=True)
    if run.returncode:
        sys.exit(run.stderr)
    kernels = {}
    for match in REPORT.finditer(run.stdout + run.stderr):
        facts = match["facts"]
        kernels.setdefault((file.name, plain_name(match["name"])), {})[match["arch"]] = {
            "registers": int(match["registers"]),
            "shared_bytes": number(r"(\d+) bytes smem", match["rest"]),
            "spilled_bytes": number(r"(\d+) bytes spill stores", facts) + number(r"(\d+) bytes spill loads", facts),
            "stack_bytes": number(r"(\d+) bytes stack frame", facts),
        }
    return kernels


def ceiling_of(by_arch):
    # The hardware gives registers out by eights a thread.
    registers = max(facts["registers"] for facts in by_arch.values())
    return (registers + 7) // 8 * 8, max(facts["shared_bytes"] for facts in by_arch.values())


def read_table():
    with open(TABLE, newline="") as file:
        return {(row["file"], row["kernel"]): (int(row["registers"]), int(row["shared_bytes"])) for row in csv.DictReader(file)}


def write_table(kernels):
    with open(TABLE, "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(HEADER)
        for (name, kernel), by_arch in sorted(kernels.items()):
            rows.writerow([name, kernel, *ceiling_of(by_arch)])


def faults(kernels, table, files):
    for key, by_arch in kernels.items():
        where = f"{key[0]}: {key[1]}"
        for arch, facts in by_arch.items():
            if facts["spilled_bytes"] or facts["stack_bytes"]:
                yield (f"{where}: on sm_{arch} {facts['spilled_bytes']} bytes of registers are spilled, the stack has "
                       f"{facts['stack_bytes']} bytes")
            registers, shared = table.get(key, (0, 0))
            if key in table and (facts["registers"] > registers or facts["shared_bytes"] > shared):
                yield (f"{where}: on sm_{arch} {facts['registers']} registers and {facts['shared_bytes']} bytes of shared memory, "
                       f"allowed are {registers} and {shared}")
        if key not in table:
            yield f"{where}: not in {TABLE.relative_to(ROOT)}; run with --update"
    for key in table:
        if key[0] in files and key not in kernels:
            yield f"{key[0]}: {key[1]} is in {TABLE.relative_to(ROOT)}, but there is no such kernel; run with --update"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--nvcc", default=shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc")
    arguments.add_argument("--update", action="store_true", help="write the table; takes all files")
    arguments.add_argument("files", nargs="*", type=pathlib.Path)
    options = arguments.parse_args()
    files = options.files if options.files and not options.update else sorted(FOLDER.glob("*.cu"))
    kernels = {}
    for file in files:
        kernels |= measure(options.nvcc, file)
    for (file, kernel), by_arch in kernels.items():
        for arch, facts in by_arch.items():
            print(f"{file:20} {kernel:36} sm_{arch}: {facts['registers']:3} registers, {facts['shared_bytes']:6} bytes shared, "
                  f"{facts['spilled_bytes']} spilled")
    if options.update:
        write_table(kernels)
    found = list(faults(kernels, read_table(), {file.name for file in files}))
    print("\n".join(found) or f"{len(kernels)} kernels keep to {TABLE.relative_to(ROOT)}")
    return 1 if found or not kernels else 0


sys.exit(main())
