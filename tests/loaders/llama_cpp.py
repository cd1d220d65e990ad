#!/usr/bin/env python3
"""Loads what calque writes with llama.cpp itself: every architecture and every GGUF type.

usage: llama_cpp.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. llama.cpp is the library of two PyPI packages, which this
script installs into an environment of its own in SCRATCH; where that is not possible it says so and ends with 77.
SCRATCH/llama_cpp.csv has the results.

Architectures: each model of tests/fixtures/families becomes a GGUF file of type F32, and llama.cpp's logits of the
reference's tokens are compared with those of transformers. Types: the demo model becomes a file of every type, and
llama.cpp's perplexity on some windows of a book is compared with the one that `calque run` prints.
"""
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from shared import (demo_ids, demo_model, evaluation, families, losses, run_inside, run_job, tensors_of,  # noqa: E402
                    versions_of)

# The second has declarations of llama.cpp's functions for cffi, the first their library, built for old systems.
PACKAGES = ["xllamacpp==2026.10.11549", "llama-cpp-py-sync==0.11739", "cffi==2.1.1", "pycparser==3.12", "numpy"]


# ---- llama.cpp


class LlamaCpp:
    def __init__(self):
        import glob
        import sysconfig
        from llama_cpp_py_sync import _cffi_bindings
        self.ffi = _cffi_bindings.ffi
        library = glob.glob(sysconfig.get_paths()["purelib"] + "/xllamacpp/*.so")[0]
        self.lib = self.ffi.dlopen(library)
        self.errors = []
        self.log = self.ffi.callback("void(enum ggml_log_level, const char *, void *)", self.keep_error)
        self.lib.llama_log_set(self.log, self.ffi.NULL)
        self.lib.llama_backend_init()

    def keep_error(self, level, text, _):
        if level == 4:  # GGML_LOG_LEVEL_ERROR
            self.errors.append(self.ffi.string(text).decode(errors="replace").strip())

    def logits(self, path, ids):
        """[rows, positions, vocabulary] of rows of token ids; RuntimeError with llama.cpp's words if it does not load."""
        import numpy as np
        self.errors.clear()
        model = self.lib.llama_model_load_from_file(str(path).encode(), self.lib.llama_model_default_params())
        if model == self.ffi.NULL:
            raise RuntimeError("llama.cpp does not load it: " + "; ".join(self.errors))
        vocabulary = self.lib.llama_vocab_n_tokens(self.lib.llama_model_get_vocab(model))
        length = ids.shape[1]
        settings = self.lib.llama_context_default_params()
        settings.n_ctx = settings.n_batch = settings.n_ubatch = length
        settings.n_threads = settings.n_threads_batch = 1
        for name in ("n_outputs_max", "n_outputs_max_per_seq"):
            if hasattr(settings, name):
                setattr(settings, name, length)
        settings.flash_attn_type = 0     # disabled: it computes in float16
        settings.type_k = settings.type_v = 0  # a cache of float32
        context = self.lib.llama_init_from_model(model, settings)
        if context == self.ffi.NULL:
            raise RuntimeError("llama.cpp makes no context: " + "; ".join(self.errors))
        result = []
        for row in ids:
            self.lib.llama_memory_clear(self.lib.llama_get_memory(context), True)
            batch = self.lib.llama_batch_init(length, 0, 1)
            batch.n_tokens = length
            for i in range(length):
                batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(row[i]), i, 1, 1
                batch.seq_id[i][0] = 0
            if self.lib.llama_decode(context, batch) != 0:
                raise RuntimeError("llama_decode fails: " + "; ".join(self.errors))
            made = np.frombuffer(self.ffi.buffer(self.lib.llama_get_logits(context), 4 * length * vocabulary), np.float32)
            result.append(made.reshape(length, vocabulary).copy())
            self.lib.llama_batch_free(batch)
        self.lib.llama_free(context)
        self.lib.llama_model_free(model)
        return np.stack(result)


# ---- Architectures

# Loaders know EXAONE 4 with 64 layers or without windows only.
REFUSED = {"exaone4"}
# A GGUF file of Mistral has no window: equal as long as one window covers everything.
POSITIONS = {"mistral_sliding": 24}
# fp32 sums of at most 256 products, as in tests/forward/block_runner_test.cpp.
EXACT = 1e-3
# Rotary frequencies of the older references were rounded to bf16, which moves logits by up to 0.016 (README there).
ROUNDED = {"llama", "llama3_rope", "llama_bias", "mistral_sliding", "qwen2", "qwen3", "gemma2", "gemma3", "phi3", "mixtral",
           "qwen2_moe", "qwen3_moe"}
# Its gelu is a table of float16: each activation is off by up to 2^-11 of its input and of itself.
GELU = {"gemma2", "gemma3", "gemma4_vl", "gemma4_moe", "gemma4_e"}


# llama.cpp computes these in another way for which no key exists. So the model is changed until both ways are one, and
# llama.cpp's loss is compared with calque's.
def whole_pairs(config):
    """Yarn blends from a fraction of a pair on; llama.cpp rounds to whole pairs (configs/models.md)."""
    config["rope_parameters"]["truncate"] = True


def one_list_of_factors(config):
    """The longer list counts beyond the original context: of the sequence, in llama.cpp of the context, 256 here."""
    config["rope_parameters"]["short_factor"] = config["rope_parameters"]["long_factor"]


CHANGED = {"gpt_oss": whole_pairs, "phi4_mini": one_list_of_factors}


def allowed(family, largest_logit):
    tolerance = EXACT
    if family in ROUNDED:
        tolerance += 0.016
    if family in GELU:
        tolerance += 2 * 2**-11 * largest_logit
    return tolerance


def job_text(model, exports, settings="", imatrix=None):
    rounding = f"method: rtn, imatrix: {imatrix}" if imatrix else "method: rtn"
    lines = [f"  - {{format: gguf, path: {path}, type: {kind}, on_shape_fallback: allow, overwrite: true}}" for path, kind in exports]
    return f"version: 1\nmodel: {{path: {model}}}\nquantization: {{{rounding}}}\n{settings}export:\n" + "\n".join(lines) + "\n"


def check_changed(program, folder, scratch, llama, ids, results):
    model = scratch / "model"
    model.mkdir(exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    CHANGED[folder.name](config)
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    path = scratch / "family.gguf"
    settings, measured = evaluation(scratch, ids)
    run_job(program, scratch, job_text(model, [(path, "F32")], settings))
    results.losses(f"GGUF F32, {folder.name}", losses(llama.logits(path, ids), ids), measured()["original"], EXACT)


def check_architectures(program, repository, scratch, llama, results):
    import numpy as np
    for folder in families(repository):
        family = folder.name
        if family in REFUSED:
            continue
        path = scratch / "family.gguf"
        reference = tensors_of(folder / "reference.safetensors")
        ids, expected = reference["input_ids"], reference["logits"]
        try:
            if family in CHANGED:
                check_changed(program, folder, scratch, llama, ids, results)
                continue
            run_job(program, scratch, job_text(folder, [(path, "F32")]))
            made = llama.logits(path, ids)[:, :, :expected.shape[2]]
            positions = POSITIONS.get(family, ids.shape[1])
            worst = np.abs(made - expected)[:, :positions].max(-1)  # per position
            # Rounded frequencies send some tokens to other experts.
            difference = float(np.median(worst) if family in ROUNDED and "moe" in family else worst.max())
            results.logits(f"GGUF F32, {family}", difference, allowed(family, float(np.abs(expected).max())))
        except RuntimeError as error:
            results.failed(f"GGUF F32, {family}", str(error))


# ---- Types

# The types that `calque plan` writes as a mix or as one type throughout (src/formats/gguf_mix.cpp).
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L",
         "Q3_K_M", "Q3_K_S", "Q2_K", "Q2_K_S", "IQ4_NL", "IQ4_XS", "TQ2_0", "TQ1_0", "MXFP4", "MXFP4_MOE"]
# These are written with an importance matrix: most of them are refused without.
WEIGHED_TYPES = ["IQ3_M", "IQ3_S", "IQ3_XS", "IQ3_XXS", "IQ2_M", "IQ2_S", "IQ2_XS", "IQ2_XXS", "IQ1_M", "IQ1_S"]
# Beside a quantized matrix llama.cpp rounds activations to 8 bits with a scale of their own for 32 or 256 of them: a step is
# 1/127 of the largest, about 3 to 4 standard deviations, so that the rounding has 4 / 127 / sqrt(12) = .9 % of their size.
# The mean loss of some thousand predictions moves by some thousandths (measured: 0.006 at most, at 2 bits).
ROUNDED_ACTIVATIONS = 0.02
# Beside F16 matrices activations are rounded to float16.
EXACT_LOSS = 1e-3


def importance_of(program, repository, scratch):
    path = scratch / "imatrix.gguf"
    text = repository / "calibration_data/prose.txt"
    subprocess.run([program, "imatrix", demo_model(repository), text, "--chunks", "16", "-o", path, "--progress", "none"],
                   check=True, stdout=subprocess.DEVNULL)
    return path


def check_kinds(kinds, program, repository, scratch, llama, results, imatrix=None):
    ids = demo_ids(program, repository)
    settings, measured = evaluation(scratch, ids)
    exports = [(scratch / f"{kind}.gguf", kind) for kind in kinds]
    run_job(program, scratch, job_text(demo_model(repository), exports, settings, imatrix))
    of_calque = measured()
    for path, kind in exports:
        try:
            most = EXACT_LOSS if kind in ("F32", "F16", "BF16") else ROUNDED_ACTIVATIONS
            results.losses(f"GGUF {kind}, demo", losses(llama.logits(path, ids), ids), of_calque[path.name], most)
        except RuntimeError as error:
            results.failed(f"GGUF {kind}, demo", str(error))
        path.unlink(missing_ok=True)


def check_types(program, repository, scratch, llama, results):
    check_kinds(TYPES, program, repository, scratch, llama, results)
    imatrix = importance_of(program, repository, scratch)
    check_kinds(WEIGHED_TYPES, program, repository, scratch, llama, results, imatrix)


def check(program, repository, scratch, results):
    results.loader = f"llama.cpp ({versions_of(['xllamacpp'])})"
    llama = LlamaCpp()
    check_architectures(program, repository, scratch, llama, results)
    check_types(program, repository, scratch, llama, results)


if __name__ == "__main__":
    sys.exit(run_inside(__doc__, "llama_cpp", [["--no-deps", *PACKAGES]], check))
