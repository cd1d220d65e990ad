#!/usr/bin/env python3
"""Loads GPTQ and AWQ folders that calque writes with GPTQModel on a CPU: every width, zero points, orders of columns.

usage: gptqmodel_folders.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. The packages come from PyPI into an environment of its own in
SCRATCH; they are several gigabytes, so this is no part of the tests that scripts/test.sh runs. SCRATCH/gptqmodel.csv has the
results.

Each folder is loaded by GPTQModel, and by transformers, which calls it. calque's loss is that of `calque run` in float32.
"""
import math
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from shared import demo_ids, demo_model, evaluation, losses, run_inside, run_job, versions_of  # noqa: E402

PACKAGES = ["torch", "transformers==5.24.0", "gptqmodel==7.7.0", "optimum==2.3.0"]
# Names, settings of `quantization` and of the export. The package's name for zero points below 4 bits is gptq_v2.
FOLDERS = {
    **{f"GPTQ {bits} bits g64": (f"bits: {bits}, group_size: 64", "format: gptq") for bits in (2, 3, 4, 8)},
    **{f"GPTQ {bits} bits channel": (f"bits: {bits}, group_size: -1", "format: gptq") for bits in (4, 8)},
    **{f"GPTQ {bits} bits g64, zero points": (f"bits: {bits}, group_size: 64, sym: false", "format: gptq") for bits in (2, 3, 4, 8)},
    "GPTQ 4 bits g64, desc_act": ("method: gptq, bits: 4, group_size: 64", "format: gptq, desc_act: true"),
    "GPTQ 4 bits g64, act order": ("method: gptq, bits: 4, group_size: 64", "format: gptq"),
    "AWQ 4 bits g32": ("bits: 4, group_size: 32", "format: awq"),
    "AWQ 4 bits g64, zero points": ("method: awq, bits: 4, group_size: 64, sym: false", "format: awq"),
}


def by_gptqmodel(path):
    import torch
    from gptqmodel import BACKEND, GPTQModel
    return GPTQModel.load(str(path), device="cpu", backend=BACKEND.TORCH, dtype=torch.float16).model


def by_transformers(path):
    import torch
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(path, device_map="cpu", dtype=torch.float16)


LOADERS = {"": by_gptqmodel, ", by transformers": by_transformers}
# The kernel that GPTQModel chooses for it beneath transformers takes groups of 32 to 256 only.
REFUSED = {"GPTQ 4 bits channel, demo, by transformers"}
# A layer rounds some ten times to float16, each time by 2^-12 of a value; logits, and a loss made of them, move so.
LAYERS = 6
MOST_OF_THE_LOSS = math.sqrt(10 * LAYERS) * 2**-12


def check(program, repository, scratch, results):
    import torch
    results.loader = versions_of(["gptqmodel", "transformers"])
    demo, ids = demo_model(repository), demo_ids(program, repository)
    evaluated, measured = evaluation(scratch, ids)
    folder = scratch / "folder"
    for name, (settings, export) in FOLDERS.items():
        settings = settings if "method" in settings else "method: rtn, " + settings
        try:
            run_job(program, scratch,
                    f"version: 1\nmodel: {{path: {demo}}}\nquantization: {{{settings}}}\n{evaluated}"
                    f"calibration: {{tokens: {scratch}/ids.safetensors, seqlen: {ids.shape[1]}, n_samples: {ids.shape[0]}}}\n"
                    f"runtime: {{forward_dtype: float32}}\nexport: [{{{export}, path: {folder}, overwrite: true}}]\n")
        except RuntimeError as error:
            results.failed(f"{name}, demo", str(error))
            continue
        here = measured()["folder"]
        for suffix, load in LOADERS.items():
            artifact = f"{name}, demo{suffix}"
            if artifact in REFUSED:
                continue
            try:
                model = load(folder)
                with torch.no_grad():
                    made = model(input_ids=torch.tensor(ids.astype("int64"))).logits.float().numpy()
                results.losses(artifact, losses(made, ids), here, MOST_OF_THE_LOSS * here)
            except Exception as error:  # whatever a loader throws is a finding, and the next one is tried
                results.failed(artifact, f"{type(error).__name__}: {str(error)[:300]}")


if __name__ == "__main__":
    sys.exit(run_inside(__doc__, "gptqmodel", [PACKAGES], check))
