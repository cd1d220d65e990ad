#!/usr/bin/env python3
"""Checks who includes whom (the picture in src/README.md). Prints each breach; exits 1 if there is one."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
# module: the modules (or single headers) whose public headers it may include besides its own
ALLOWED = {
    "core": [],
    "ggml": ["core"],
    "io": ["core", "ggml"],
    "kernels": ["core", "ggml"],
    "text": ["core", "io"],
    "model": ["core", "io"],
    "forward": ["core", "io", "model"],
    "quant": ["core", "ggml", "kernels"],
    "calib": ["core", "io", "kernels", "text", "model", "forward", "quant", "formats", "record"],
    "formats": ["core", "io", "ggml", "kernels", "text", "model", "quant"],
    "record": ["core", "io", "text", "quant", "formats"],
    "eval": ["core", "io", "ggml", "text", "model", "forward", "record"],
    "job": ["core", "io", "ggml", "kernels", "text", "model", "forward", "quant", "calib", "formats", "eval", "record"],
    "verify": ["core", "io", "ggml", "text", "model", "forward", "quant", "formats", "eval", "record"],
    "forecast": ["core", "io", "ggml", "kernels", "text", "model", "forward", "quant", "calib", "formats", "eval", "record", "job"],
    "resume": ["core", "io", "text", "model", "quant", "formats", "eval", "record", "job"],
    "publish": ["core", "io", "text", "model", "formats", "record", "job", "verify"],
    "pipeline": ["core", "io", "ggml", "kernels", "text", "model", "forward", "quant", "calib", "formats", "eval", "record", "job",
                 "verify", "forecast", "resume", "publish"],
    "report": ["core", "io", "model", "formats", "record"],
    "config": ["core", "io", "ggml", "kernels", "text", "quant", "formats", "job"],
    "study": ["core", "io", "text", "formats", "eval", "record", "job", "forecast", "resume", "pipeline", "config"],
    "cli": ["core", "io", "ggml", "kernels", "text", "model", "forward", "quant", "calib", "formats", "eval", "record", "job",
            "verify", "forecast", "resume", "publish", "pipeline", "report", "config", "study"],
}
# A mixer's folder, src/mixers/<name>, holds what two rooms and the plug-in need of it.
MIXERS = {"spec": "model", "cpu": "forward", "tensors": "forward"}
# third-party headers and the places that may know them
KEPT_TO = {
    r"torch/|ATen/|c10/": ["src/forward/torch/", "src/mixers/"],
    r"Eigen/": ["src/kernels/cpu/"],
    r"tbb/": ["src/core/"],
    r"dnnl|oneapi/": ["src/kernels/cpu/", "src/forward/cpu/", "src/core/onednn/"],
    r"sleef": ["src/forward/cpu/"],
    r"cuda_runtime|cuda_bf16|cuda_fp16|cublas|cusolver": ["src/kernels/cuda/"],
    r"yaml-cpp/": ["src/config/", "src/publish/"],
    r"sentencepiece|utf8proc": ["src/text/"],
    r"pcre2": ["src/text/"],
    r"CLI/": ["src/cli/"],
}


def breaches(path):
    relative = path.relative_to(ROOT).as_posix()
    room = re.match(r"(?:include/calque|src)/(\w+)/", relative)
    module = room.group(1) if room else "cli"  # src/main.cpp
    if module == "mixers":
        module = MIXERS[path.stem]
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
        if public and ("/" in header or header.endswith(".h")) and header != "immintrin.h":
            yield f"{where}; public headers include the standard library and calque/ only"
        if header.startswith("mixers/") and MIXERS[pathlib.Path(header).stem] != module and module != "forward":
            yield f"{where}; that is a private header of {MIXERS[pathlib.Path(header).stem]}"
        if relative.startswith("src/mixers/") and header.startswith("model/") and module == "forward":
            yield f"{where}; that is a private header of model"
        if not public and "/" in header and header.split("/")[0] in ALLOWED and header.split("/")[0] != module:
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
