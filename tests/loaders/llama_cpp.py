#!/usr/bin/env python3
"""Loads what calque writes with llama.cpp itself: every architecture and every GGUF type.

usage: llama_cpp.py PROGRAM REPOSITORY SCRATCH

PROGRAM is calque, SCRATCH a folder that may be deleted. llama.cpp is the library of two PyPI packages, which this
script installs into an environment of its own in SCRATCH; where that is not possible it says so and ends with 77.

Architectures: each model of tests/fixtures/families becomes a GGUF file of type F32, and llama.cpp's logits of the
reference's tokens are compared with those of transformers. Types: the demo model becomes a file of every type, and
llama.cpp's perplexity on some windows of a book is compared with the one that `calque run` prints.
"""
import json
import math
import os
import pathlib
import subprocess
import sys

# The second has declarations of llama.cpp's functions for cffi, the first their library, built for old systems.
PACKAGES = ["xllamacpp==2026.10.11549", "llama-cpp-py-sync==0.11739", "cffi==2.1.1", "pycparser==3.12", "numpy"]
SKIPPED = 77


def environment(scratch):
    """Python of an environment with PACKAGES; None where they cannot be had."""
    folder = scratch / "environment"
    python, ready = folder / "bin/python", folder / "ready"
    if ready.exists() and ready.read_text() == " ".join(PACKAGES):
        return python
    make = [sys.executable, "-m", "venv", "--clear", str(folder)]
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--timeout", "15",
               "--retries", "1", *PACKAGES]
    for command in (make, install):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            print("skipped: no environment with llama.cpp:", done.stdout.strip().splitlines()[-1:])
            return None
    ready.write_text(" ".join(PACKAGES))
    return python


# ---- safetensors, as little of them as is needed


def tensors_of(path):
    import numpy as np
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    kinds = {"I32": np.int32, "F32": np.float32}
    return {name: np.frombuffer(data[8 + size:][slice(*entry["data_offsets"])], kinds[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in json.loads(data[8:8 + size]).items() if name != "__metadata__"}


def write_ids(path, ids):
    header = json.dumps({"input_ids": {"dtype": "I32", "shape": list(ids.shape), "data_offsets": [0, ids.nbytes]}}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header + ids.tobytes())


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


def calque(program, *words):
    done = subprocess.run([program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"calque {' '.join(map(str, words))} ends with {done.returncode}:\n{done.stdout}")
    return done.stdout


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


def losses(logits, ids):
    """Mean negative logarithm of every next token's probability."""
    import numpy as np
    wide = logits[:, :-1].astype(np.float64)
    wide -= wide.max(-1, keepdims=True)
    logs = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    return float(-np.take_along_axis(logs, ids[:, 1:, None].astype(np.int64), 2).mean())


def evaluation(scratch, ids):
    """Settings of a job that evaluates every row of ids, and a function from its run to losses by the models' labels."""
    write_ids(scratch / "ids.safetensors", ids)

    def measured():
        models = json.loads((scratch / "run/metrics.json").read_text())["evaluations"][0]["models"]
        return {model["label"]: math.log(model["perplexity_huggingface"]["value"]) for model in models}

    return (f"run_dir: {scratch}/run\nevaluate: {{texts: [{{name: book, tokens: {scratch}/ids.safetensors}}], "
            f"seqlen: {ids.shape[1]}, windows: {ids.shape[0]}}}\n"), measured


def job_text(model, exports, settings=""):
    lines = [f"  - {{format: gguf, path: {path}, type: {kind}, on_shape_fallback: allow, overwrite: true}}" for path, kind in exports]
    return f"version: 1\nmodel: {{path: {model}}}\nquantization: {{method: rtn}}\n{settings}export:\n" + "\n".join(lines) + "\n"


def check_changed(program, folder, scratch, llama, ids):
    model = scratch / "model"
    model.mkdir(exist_ok=True)
    config = json.loads((folder / "config.json").read_text())
    CHANGED[folder.name](config)
    (model / "config.json").write_text(json.dumps(config))
    (model / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    path, job = scratch / "family.gguf", scratch / "family.yaml"
    settings, measured = evaluation(scratch, ids)
    job.write_text(job_text(model, [(path, "F32")], settings))
    calque(program, "run", job, "--resume", "never", "--progress", "none")
    there, here = losses(llama.logits(path, ids), ids), measured()["original"]
    fine = abs(there - here) <= EXACT
    print(f"{folder.name:16} loss {there:.5f}, calque {here:.5f}{'' if fine else '   FAILED'}")
    return fine


def check_architectures(program, repository, scratch, llama):
    import numpy as np
    failures = []
    for folder in sorted((repository / "tests/fixtures/families").iterdir()):
        family = folder.name
        if not folder.is_dir() or family in REFUSED:
            continue
        path, job = scratch / "family.gguf", scratch / "family.yaml"
        reference = tensors_of(folder / "reference.safetensors")
        ids, expected = reference["input_ids"], reference["logits"]
        try:
            if family in CHANGED:
                if not check_changed(program, folder, scratch, llama, ids):
                    failures.append(family)
                continue
            job.write_text(job_text(folder, [(path, "F32")]))
            calque(program, "run", job, "--progress", "none")
            made = llama.logits(path, ids)[:, :, :expected.shape[2]]
            positions = POSITIONS.get(family, ids.shape[1])
            worst = np.abs(made - expected)[:, :positions].max(-1)  # per position
            # Rounded frequencies send some tokens to other experts.
            difference = float(np.median(worst) if family in ROUNDED and "moe" in family else worst.max())
            largest = float(np.abs(expected).max())
            fine = difference <= allowed(family, largest)
            print(f"{family:16} {difference:9.2g} of {largest:5.1f}, at most {allowed(family, largest):.2g}{'' if fine else '   FAILED'}")
        except RuntimeError as error:
            fine = False
            print(f"{family:16} FAILED: {error}")
        if not fine:
            failures.append(family)
    return failures


# ---- Types

# The types that `calque plan` writes as a mix or as one type throughout (src/formats/gguf_mix.cpp).
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "Q3_K_L",
         "Q3_K_M", "Q3_K_S", "Q2_K", "Q2_K_S", "IQ4_NL", "IQ4_XS", "TQ2_0", "TQ1_0", "MXFP4", "MXFP4_MOE"]
WINDOWS, LENGTH = 4, 256
# Beside a quantized matrix llama.cpp rounds activations to 8 bits with a scale of their own for 32 or 256 of them: a step is
# 1/127 of the largest, about 3 to 4 standard deviations, so that the rounding has 4 / 127 / sqrt(12) = .9 % of their size.
# The mean loss of WINDOWS * LENGTH predictions moves by some thousandths (measured: 0.006 at most, at 2 bits).
ROUNDED_ACTIVATIONS = 0.02
# Beside F16 matrices activations are rounded to float16.
EXACT_LOSS = 1e-3


def check_types(program, repository, scratch, llama):
    import numpy as np
    model = repository / "tests/models/demo"
    text = repository / "calibration_data/heldout_pride_and_prejudice.txt"
    ids = json.loads(calque(program, "tokenize", "--tokenizer", model, "--text", text, "--json"))
    ids = np.array(ids[:WINDOWS * LENGTH], np.int32).reshape(WINDOWS, LENGTH)
    settings, measured = evaluation(scratch, ids)
    exports = [(scratch / f"{kind}.gguf", kind) for kind in TYPES]
    job = scratch / "types.yaml"
    job.write_text(job_text(model, exports, settings))
    calque(program, "run", job, "--resume", "never", "--progress", "none")
    of_calque = measured()
    failures = []
    for path, kind in exports:
        try:
            there, here = losses(llama.logits(path, ids), ids), of_calque[path.name]
            most = EXACT_LOSS if kind in ("F32", "F16", "BF16") else ROUNDED_ACTIVATIONS
            fine = abs(there - here) <= most
            print(f"{kind:10} perplexity {math.exp(there):8.3f}, calque {math.exp(here):8.3f}, logarithms differ by {abs(there - here):.4f}"
                  f"{'' if fine else '   FAILED'}")
        except RuntimeError as error:
            fine = False
            print(f"{kind:10} FAILED: {error}")
        if not fine:
            failures.append(kind)
        path.unlink(missing_ok=True)
    return failures


def main():
    program, repository, scratch = (pathlib.Path(word).resolve() for word in sys.argv[1:4])
    scratch.mkdir(parents=True, exist_ok=True)
    if "CALQUE_LLAMA_CPP" not in os.environ:
        python = environment(scratch)
        if python is None:
            return SKIPPED
        return subprocess.run([str(python), *sys.argv], env={**os.environ, "CALQUE_LLAMA_CPP": "here"}).returncode
    llama = LlamaCpp()
    failures = check_architectures(program, repository, scratch, llama) + check_types(program, repository, scratch, llama)
    print("failed:", ", ".join(failures)) if failures else print("llama.cpp loads and computes all of them")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
