#!/usr/bin/env python3
"""Loads compressed-tensors folders that calque writes with transformers: every width and scheme, and every family but gpt-oss.

usage: transformers_folders.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. The packages come from PyPI into an environment of its own in
SCRATCH; they are several gigabytes, so this is no part of the tests that scripts/test.sh runs.

transformers decompresses the weights and computes in float32, as `calque run` does here, so that both have the same
weights and the losses differ by sums in another order only. Both round the inputs of linears where a scheme says so; integers
are divided by 127 of the largest in calque, as vLLM does it, and by 127.5 in the package.
"""
import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from llama_cpp import calque, evaluation, losses, tensors_of  # noqa: E402

# compressed-tensors reads streams of bits (3, 5, 6, 7 bits) since 0.18, zero points in 0.17 only. So none are tried here.
PACKAGES = ["torch", "transformers==5.24.0", "compressed-tensors==0.20.1", "accelerate", "numpy"]
# transformers does not load rounded experts of these classes (stacked_experts_remark in src/formats/requirements.cpp), so they
# stay as they are. Those of gpt-oss stay in MXFP4 then, which is not loaded beside other modules either.
STACKED = {"gemma4_moe"}
REFUSED = {"gpt_oss"}
SCHEMES = ["FP8_DYNAMIC", "FP8", "FP8_BLOCK", "FP8A16", "W8A8", "W4A8", "W4AFP8"]
# Mean of -log(probability) over all predictions; logits agree to 1e-3 (tests/forward/block_runner_test.cpp).
MOST = 1e-3
# If inputs are rounded, a last bit of one input moves others by steps, and after a few layers the errors of two programs
# are unrelated. They change log(probability) by sqrt(2 KL) = 0.035 a prediction (KL of rounded inputs: 0.0006 nats,
# experiments/fp8), so the mean difference of 4 x 255 predictions is sqrt(2) x 0.035 / sqrt(1020) = 0.0015, and three times
# that at most. calque itself gives 3.50146 with AVX-512 and 3.50252 with AVX2 for FP8_DYNAMIC.
MOST_WITH_ROUNDED_INPUTS = 4.6e-3


def environment(scratch):
    """Python of an environment with PACKAGES, made once."""
    folder = scratch / "environment"
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists() or ready.read_text() != " ".join(PACKAGES):
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PACKAGES], check=True)
        ready.write_text(" ".join(PACKAGES))
    return python


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


def check(program, model, scratch, ids, name, text, *how, most=MOST):
    """True if transformers' loss of the folder of the job `text(model, path, settings, *how)` is calque's; prints a line."""
    path, job = scratch / "folder", scratch / "job.yaml"
    settings, measured = evaluation(scratch, ids)
    job.write_text(text(model, path, settings, *how))
    try:
        calque(program, "run", job, "--resume", "never", "--progress", "none")
        made, faults = logits(path, ids)
        there, here = losses(made, ids), measured()["folder"]
        fine = abs(there - here) <= most and not faults
        print(f"{name:28} loss {there:.6f}, calque {here:.6f}{'' if fine else '   FAILED ' + '; '.join(faults)}", flush=True)
    except Exception as error:  # whatever a loader throws is a finding, and the next one is tried
        fine = False
        print(f"{name:28} FAILED: {type(error).__name__}: {str(error)[:300]}", flush=True)
    return fine


def main():
    program, repository, scratch = (pathlib.Path(word).resolve() for word in sys.argv[1:4])
    scratch.mkdir(parents=True, exist_ok=True)
    if "CALQUE_TRANSFORMERS" not in os.environ:
        python = environment(scratch)
        return subprocess.run([str(python), *sys.argv], env={**os.environ, "CALQUE_TRANSFORMERS": "here"}).returncode
    import numpy as np
    demo = repository / "tests/models/demo"
    text = repository / "calibration_data/heldout_pride_and_prejudice.txt"
    ids = json.loads(calque(program, "tokenize", "--tokenizer", demo, "--text", text, "--json"))
    ids = np.array(ids[:4 * 256], np.int32).reshape(4, 256)
    failures = []
    for bits in range(2, 9):
        for group_size in (64, -1):
            name = f"{bits} bits {'channel' if group_size < 0 else f'g{group_size}'}"
            if not check(program, demo, scratch, ids, name, job_text, bits, group_size):
                failures.append(name)
    for scheme in SCHEMES:
        most = MOST if scheme.endswith("A16") else MOST_WITH_ROUNDED_INPUTS
        if not check(program, demo, scratch, ids, scheme, scheme_text, scheme, most=most):
            failures.append(scheme)
    for folder in sorted((repository / "tests/fixtures/families").iterdir()):
        if (folder / "config.json").exists() and folder.name not in REFUSED:
            reference = tensors_of(folder / "reference.safetensors")["input_ids"]
            if not check(program, folder, scratch, reference, folder.name, job_text, 4, -1):
                failures.append(folder.name)
    print("failed:", ", ".join(failures)) if failures else print("transformers loads and computes all of them")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
