#!/usr/bin/env python3
"""Loads compressed-tensors folders that calque writes with transformers: every width and scheme, and every family but gpt-oss.

usage: transformers_folders.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. The packages come from PyPI into an environment of its own in
SCRATCH; they are several gigabytes, so this is no part of the tests that scripts/test.sh runs. SCRATCH/transformers.csv has
the results.

transformers decompresses the weights and computes in float32, as `calque run` does here, so that both have the same
weights and the losses differ by sums in another order only. Both round the inputs of linears where a scheme says so; integers
are divided by 127 of the largest in calque, as vLLM does it, and by 127.5 in the package.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from shared import (demo_ids, demo_model, evaluation, families, family_ids, losses, run_inside, run_job,  # noqa: E402
                    versions_of)

# compressed-tensors reads streams of bits (3, 5, 6, 7 bits) since 0.18, zero points in 0.17 only. So none are tried here.
PACKAGES = ["torch", "transformers==5.24.0", "compressed-tensors==0.20.1", "accelerate", "numpy"]
# transformers does not load rounded experts of these classes (stacked_experts_remark in src/formats/requirements.cpp), so they
# stay as they are. Those of gpt-oss stay in MXFP4 then, which is not loaded beside other modules either.
STACKED = {"gemma4_moe"}
REFUSED = {"gpt_oss"}
SCHEMES = ["FP8_DYNAMIC", "FP8", "FP8_BLOCK", "FP8A16", "W8A8", "W4A8", "W4AFP8", "NVFP4", "NVFP4A16", "MXFP4", "MXFP4A16", "MXFP8", "MXFP8A16"]
# Mean of -log(probability) over all predictions; logits agree to 1e-3 (tests/forward/block_runner_test.cpp).
MOST = 1e-3
# If inputs are rounded, a last bit of one input moves others by steps, and after a few layers the errors of two programs
# are unrelated. They change log(probability) by sqrt(2 KL) = 0.035 a prediction (KL of rounded inputs: 0.0006 nats,
# experiments/fp8), so the mean difference of 4 x 255 predictions is sqrt(2) x 0.035 / sqrt(1020) = 0.0015, and three times
# that at most. calque itself gives 3.50146 with AVX-512 and 3.50252 with AVX2 for FP8_DYNAMIC.
MOST_WITH_ROUNDED_INPUTS = 4.6e-3


def multiply_in_the_inputs_type():
    """compressed-tensors decompresses FP4 and MX numbers to bfloat16, whatever type is asked for: exactly, but for the two
    factors of NVFP4's scales. Products with float32 inputs need them in that type."""
    import torch
    linear = torch.nn.functional.linear
    torch.nn.functional.linear = lambda x, weight, bias=None: linear(x, weight.to(x.dtype), bias)


def logits(path, ids):
    """[rows, positions, vocabulary] of rows of token ids, and messages on tensors that do not fit."""
    import torch
    import transformers
    transformers.logging.set_verbosity_error()
    config = transformers.AutoConfig.from_pretrained(path)
    loader = transformers.AutoModelForCausalLM
    if getattr(config, "text_config", None) is not None and hasattr(transformers, config.architectures[0]):
        loader = getattr(transformers, config.architectures[0])
    model, loading = loader.from_pretrained(path, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    faults = [f"{kind} {sorted(names)[:3]}" for kind, names in loading.items() if names and kind.endswith("_keys")]
    with torch.no_grad():
        made = model(torch.tensor(ids.astype("int64"))).logits
    return made.float().numpy(), faults


def scheme_text(model, path, settings, scheme):
    """Static schemes measure inputs on the tokens that are evaluated."""
    return (f"version: 1\nmodel: {{path: {model}}}\nquantization: {{method: rtn}}\n{settings}"
            f"calibration: {{tokens: {path.parent}/ids.safetensors, seqlen: 256, n_samples: 4}}\nruntime: {{forward_dtype: float32}}\n"
            f"export:\n  - {{format: compressed-tensors, path: {path}, scale_dtype: float16, scheme: {scheme}, overwrite: true}}\n")


def job_text(model, path, settings, bits, group_size):
    # The weights of experts are decompressed in the data type of their scales, in which bfloat16 leaves 2^-9 of them.
    skip = ", rules: [{match: '*.experts.*', skip: true}]" if pathlib.Path(model).name in STACKED else ""
    return (f"version: 1\nmodel: {{path: {model}}}\n"
            f"quantization: {{method: rtn, bits: {bits}, group_size: {group_size}{skip}}}\n{settings}"
            f"runtime: {{forward_dtype: float32}}\n"
            f"export:\n  - {{format: compressed-tensors, path: {path}, scale_dtype: float16, overwrite: true}}\n")


def check_one(program, model, scratch, ids, results, name, text, *how, most=MOST):
    """Compares transformers' loss of the folder of the job `text(model, path, settings, *how)` with calque's."""
    path = scratch / "folder"
    settings, measured = evaluation(scratch, ids)
    try:
        run_job(program, scratch, text(model, path, settings, *how))
        made, faults = logits(path, ids)
        results.losses(name, losses(made, ids), measured()["folder"], most, "; ".join(faults))
    except Exception as error:  # whatever a loader throws is a finding, and the next one is tried
        results.failed(name, f"{type(error).__name__}: {str(error)[:300]}")


def check(program, repository, scratch, results):
    results.loader = versions_of(["transformers", "compressed-tensors"])
    multiply_in_the_inputs_type()
    demo, ids = demo_model(repository), demo_ids(program, repository)
    for bits in range(2, 9):
        for group_size in (64, -1):
            name = f"compressed-tensors {bits} bits {'channel' if group_size < 0 else f'g{group_size}'}, demo"
            check_one(program, demo, scratch, ids, results, name, job_text, bits, group_size)
    for scheme in SCHEMES:
        most = MOST if scheme.endswith("A16") else MOST_WITH_ROUNDED_INPUTS
        check_one(program, demo, scratch, ids, results, f"compressed-tensors {scheme}, demo", scheme_text, scheme, most=most)
    for folder in families(repository):
        if folder.name not in REFUSED:
            check_one(program, folder, scratch, family_ids(folder), results, f"compressed-tensors 4 bits channel, {folder.name}",
                      job_text, 4, -1)


if __name__ == "__main__":
    sys.exit(run_inside(__doc__, "transformers", [PACKAGES], check))
