#!/usr/bin/env python3
"""Checks who includes whom (the picture in src/README.md). Prints each breach; exits 1 if there is one."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# module: the modules (or single headers) whose public headers it may include besides its own
ALLOWED = {
    "core": [],
    "io": ["core"],
    "kernels": ["core"],
    "text": ["core", "io"],
    "model": ["core", "io"],
    "quant": ["core", "kernels", "calib/input_stats.h"],
    "calib": ["core", "kernels", "io", "model/block_runner.h"],
    "artifact": ["core", "io", "kernels/ggml_quantize.h", "kernels/pack_bits.h", "kernels/scale_search.h", "model/config.h", "model/family.h",
                 "model/weight_source.h", "quant/grid.h", "quant/quantized_matrix.h", "text/vocabulary.h"],
    "eval": ["core", "io", "kernels/ggml_quantize.h", "model", "text/corpus.h"],
    "pipeline": ["core", "io", "kernels", "text", "model", "calib", "quant", "artifact", "eval"],
    "report": ["core", "io", "model", "artifact/plan.h"],
    "config": ["core", "io", "kernels", "quant", "text", "artifact", "pipeline"],
    "study": ["core", "io", "text", "artifact", "eval", "pipeline", "config"],
    "cli": ["core", "io", "kernels/ggml_quantize.h", "kernels/operations.h", "text", "model", "artifact", "eval", "quant", "pipeline", "report", "config", "study"],
}
# third-party headers and the places that may know them
KEPT_TO = {
    r"torch/|ATen/|c10/": ["src/model/torch/"],
    r"Eigen/|tbb/": ["src/kernels/cpu/"],
    r"dnnl|oneapi/": ["src/kernels/cpu/", "src/model/torch/"],
    r"cuda_runtime|cuda_bf16|cuda_fp16|cublas|cusolver": ["src/kernels/cuda/"],
    r"yaml-cpp/": ["src/config/"],
    r"sentencepiece|utf8proc": ["src/text/"],
    r"pcre2": ["src/text/", "src/artifact/"],
    r"CLI/": ["src/cli/"],
}
# private headers that other modules may use: a third-party type in their interface keeps them out of include/
SHARED = {"io/strict_json.h": ["text", "model", "artifact", "report"]}


def breaches(path):
    relative = path.relative_to(ROOT).as_posix()
    module = re.match(r"(?:include/calque|src)/(\w+)/", relative).group(1)
    public = relative.startswith("include/")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.match(r'\s*#include\s+[<"]([^>"]+)[>"]', line)
        if not match:
            continue
        header = match.group(1)
        where = f"{relative}:{number}: includes {header}"
        if header.startswith("calque/"):
            target = header.removeprefix("calque/")
            allowed = ALLOWED[module] + [module]
            if target.split("/")[0] not in allowed and target not in allowed:
                yield f"{where}; {module} may include {', '.join(ALLOWED[module]) or 'nothing'}"
            continue
        for pattern, home in KEPT_TO.items():
            if re.match(pattern, header) and not relative.startswith(tuple(home)):
                yield f"{where}; only {', '.join(home)} may"
        if public and ("/" in header or header.endswith(".h")):
            yield f"{where}; public headers include the standard library and calque/ only"
        if not public and "/" in header and header.split("/")[0] in ALLOWED and header.split("/")[0] != module \
                and module not in SHARED.get(header, []):
            yield f"{where}; that is a private header of {header.split('/')[0]}"
        for one, other in (("cpu", "cuda"), ("cuda", "cpu")):
            if relative.startswith(f"src/kernels/{one}/") and header.startswith(f"kernels/{other}/"):
                yield f"{where}; backends never see each other"


def main():
    files = [p for folder in ("include/calque", "src") for p in sorted((ROOT / folder).rglob("*"))
             if p.suffix in (".h", ".cpp", ".cu", ".cuh")]
    found = [breach for path in files for breach in breaches(path)]
    print("\n".join(found) or f"{len(files)} files keep to the include rules")
    return 1 if found else 0


sys.exit(main())
