#!/usr/bin/env python3
"""Loads MLX folders that calque writes with mlx-lm on the CPU: every width and group size, and every family that mlx-lm has.

usage: mlx_folders.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. The packages come from PyPI into an environment of its own in
SCRATCH. SCRATCH/mlx.csv has the results.

mlx-lm computes with the model's own data type; here the scales and all other numbers are widened to float32, which keeps their
values, as `calque run` computes here. So both have the same weights, and losses differ by sums in another order only.
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from shared import (demo_ids, demo_model, evaluation, families, family_ids, losses, run_inside, run_job,  # noqa: E402
                    versions_of)

PACKAGES = ["mlx[cpu]==0.32.4", "mlx-lm==0.32.2", "numpy"]
# Families of which calque writes no MLX folders, or only with experts as they were published (src/formats/mlx_models.cpp).
REFUSED = {"ernie4_5_moe", "exaone4", "gemma4_e", "gemma4_moe", "gemma4_vl", "gpt_oss", "minimax_m2", "qwen3_moe", "qwen3_next"}
# mlx-lm has no sliding window for these families, so they are compared within it.
WINDOW = {"gemma2": 24, "mistral_sliding": 24}
# mlx-lm takes the factors of long texts (longrope) at every length, so short ones are computed otherwise.
OTHERWISE = {"phi4_mini"}
# Mean of -log(probability) over all predictions, as for transformers.
MOST = 1e-3
# mlx-lm multiplies embeddings of gemma3 by sqrt(128) rounded to bfloat16 (2^-9.2 less), and adds 1e-6 to the mean square of a
# delta net's queries and keys, where transformers and calque add it to the sum, of 32 numbers here.
MOST_OF = {"gemma3": 5e-3, "qwen3_5_vl": 5e-3}


def logits(path, ids):
    """[rows, positions, vocabulary] of rows of token ids."""
    import mlx.core as mx
    import numpy as np
    from mlx_lm.utils import load_model
    model, _ = load_model(pathlib.Path(path))
    model.set_dtype(mx.float32)
    return np.stack([np.array(model(mx.array(row[None]))[0].astype(mx.float32)) for row in ids])


def job_text(model, path, settings, quantization):
    text = "" if "rtn" in quantization else f"calibration: {{tokens: {path.parent}/ids.safetensors, seqlen: 256, n_samples: 4}}\n"
    return (f"version: 1\nmodel: {{path: {model}}}\nquantization: {{{quantization}}}\n{settings}{text}runtime: {{forward_dtype: float32}}\n"
            f"export:\n  - {{format: mlx, path: {path}, overwrite: true}}\n")


def check_one(program, model, scratch, ids, results, name, quantization, most=MOST):
    """Compares mlx-lm's loss of the folder of a job with calque's."""
    path = scratch / "folder"
    settings, measured = evaluation(scratch, ids)
    try:
        run_job(program, scratch, job_text(model, path, settings, quantization))
        results.losses(name, losses(logits(path, ids), ids), measured()["folder"], most)
    except Exception as error:  # whatever a loader throws is a finding, and the next one is tried
        results.failed(name, f"{type(error).__name__}: {str(error)[:300]}")


def check(program, repository, scratch, results):
    results.loader = versions_of(["mlx-lm", "mlx"])
    demo, ids = demo_model(repository), demo_ids(program, repository)
    for bits in (2, 3, 4, 5, 6, 8):
        for group_size in (32, 64, 128):
            check_one(program, demo, scratch, ids, results, f"MLX {bits} bits g{group_size}, demo",
                      f"method: rtn, scale_rule: minmax, bits: {bits}, group_size: {group_size}")
    check_one(program, demo, scratch, ids, results, "MLX 4 bits g64 by GPTQ, demo", "method: gptq, bits: 4, group_size: 64")
    check_one(program, demo, scratch, ids, results, "MLX 3 bits g64 by AWQ, demo", "method: awq, bits: 3, group_size: 64")
    check_one(program, demo, scratch, ids, results, "MLX mixed bits, demo",
              "method: rtn, bits: 4, group_size: 64, rules: [{match: '*.down_proj', bits: 6}, {match: '*.o_proj', skip: true}, "
              "{match: model.embed_tokens, bits: 8, group_size: 32}]")
    for folder in families(repository):
        if folder.name in REFUSED | OTHERWISE:
            continue
        ids = family_ids(folder)[:, :WINDOW.get(folder.name)].copy()
        check_one(program, folder, scratch, ids, results, f"MLX 4 bits g32, {folder.name}", "method: rtn, bits: 4, group_size: 32",
                  MOST_OF.get(folder.name, MOST))


if __name__ == "__main__":
    sys.exit(run_inside(__doc__, "mlx", [PACKAGES], check))
