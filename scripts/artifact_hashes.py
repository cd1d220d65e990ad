#!/usr/bin/env python3
"""Hashes of every file that a fixed list of small jobs writes: an artifact's bytes do not change when code moves.

    scripts/artifact_hashes.py write OUT.txt --program build/release/calque     # with the program as it was
    scripts/artifact_hashes.py check OUT.txt --program build/release/calque     # with the program as it is now
    scripts/artifact_hashes.py list

Hashes depend on the machine's instruction set (bfloat16 products, the order of sums), so write them with the old program and
check with the new one on one machine; they are not kept in the repository. A line is `sha256  job/path/of/file`, or
`numbers  job/metrics/text/seqlen/model` for what an evaluation measured. Jobs that must agree with each other (one thread and two,
with a limit of memory, killed and resumed, alone and in a sweep) are compared on the way. Python's standard library is enough.
"""
import argparse
import concurrent.futures
import dataclasses
import gzip
import hashlib
import json
import pathlib
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FIXTURES = ROOT / "tests/fixtures"
DEMO = ROOT / "tests/models/demo"
TEXTS = ROOT / "calibration_data"

FAMILIES = ["llama", "llama3_rope", "llama_bias", "mistral_sliding", "qwen2", "qwen3", "phi3", "gemma2", "gemma3", "mixtral",
            "qwen2_moe", "qwen3_moe"]
EXPERTS = ["mixtral", "qwen2_moe", "qwen3_moe", "wide_mixtral"]
TOKENIZERS = ["bytelevel_gpt2", "bytelevel_llama3", "bytelevel_qwen2", "bytelevel_tekken", "metaspace_always", "metaspace_first",
              "sentencepiece_bpe"]
FOREIGN = ["autoround_rtn_w4g128_negscale", "gptqmodel_w3g128_sym_v1", "gptqmodel_w4g128_asym_v2", "gptqmodel_w4g128_sym_v1",
           "gptqmodel_w8g128_sym_v1"]  # other programs' artifacts that hold whole models
LEGACY_TYPES = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
PLAIN_TYPES = ["F16", "BF16", "F32"]
LOW_MIXES = ["Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L"]
HIGH_MIXES = ["Q4_K_S", "Q4_K_M", "Q5_K_S", "Q5_K_M", "Q6_K"]
OTHER_TYPES = ["IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4"]


# ---- Models and texts that jobs start from, all below one folder, so that jobs can name them by relative paths.


def read_safetensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8:8 + length]), bytearray(data[8 + length:])


def write_safetensors(path, header, data):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def salient_channels(header, data):
    """Every 16th value of a norm becomes 8, so that channel scales have something to gain, and every 64th 0: a dead channel,
    but in Gemma, whose norms add 1. The tensors are bfloat16."""
    for name, tensor in header.items():
        if name.endswith(("input_layernorm.weight", "post_attention_layernorm.weight", "pre_feedforward_layernorm.weight")):
            begin, end = tensor["data_offsets"]
            for at in range(begin + 6, end, 32):
                data[at:at + 2] = b"\x00\x41"
            for at in range(begin + 10, end, 128):
                data[at:at + 2] = b"\x00\x00"


def add_tokenizer(folder, name="artifacts/source"):
    """The folder's vocabulary is at least as long as the tokenizer's."""
    for path in sorted((FIXTURES / name).iterdir()):
        if path.name.startswith("tokenizer"):
            shutil.copy(path, folder)


def make_family(models, family):
    folder = models / family
    folder.mkdir()
    shutil.copy(FIXTURES / "families" / family / "config.json", folder)
    header, data = read_safetensors(FIXTURES / "families" / family / "model.safetensors")
    salient_channels(header, data)
    write_safetensors(folder / "model.safetensors", header, data)
    add_tokenizer(folder)


def random_weights(name, count, dtype):
    """Random weights of both signs, mostly between 1/128 and 1/32, a few up to 1/8; the name is the seed."""
    source = random.Random(name)
    high_bytes = bytes((b & 0x80) | [0x3B, 0x3C, 0x3C, 0x3C, 0x3C, 0x3C, 0x3C, 0x3D][b & 7] for b in range(256))
    bf16 = bytearray(source.randbytes(2 * count))
    bf16[1::2] = bf16[1::2].translate(high_bytes)
    if dtype == "BF16":
        return bf16
    f32 = bytearray(source.randbytes(4 * count))
    f32[2::4], f32[3::4] = bf16[0::2], bf16[1::2]
    return f32


def ones(count, dtype):
    return b"\x80\x3f" * count if dtype == "BF16" else b"\x00\x00\x80\x3f" * count


def linear_shapes(c):
    """The linears of a block, by the names that llama, qwen2, gemma and mixtral give them."""
    hidden, ffn, width = c["hidden_size"], c["intermediate_size"], c["head_dim"]
    yield "self_attn.q_proj", (c["num_attention_heads"] * width, hidden)
    yield "self_attn.k_proj", (c["num_key_value_heads"] * width, hidden)
    yield "self_attn.v_proj", (c["num_key_value_heads"] * width, hidden)
    yield "self_attn.o_proj", (hidden, c["num_attention_heads"] * width)
    if c["model_type"] == "mixtral":
        yield "block_sparse_moe.gate", (c["num_local_experts"], hidden)
        for e in range(c["num_local_experts"]):
            yield f"block_sparse_moe.experts.{e}.w1", (ffn, hidden)
            yield f"block_sparse_moe.experts.{e}.w2", (hidden, ffn)
            yield f"block_sparse_moe.experts.{e}.w3", (ffn, hidden)
    else:
        yield "mlp.gate_proj", (ffn, hidden)
        yield "mlp.up_proj", (ffn, hidden)
        yield "mlp.down_proj", (hidden, ffn)


def tensor_shapes(c):
    yield "model.embed_tokens.weight", (c["vocab_size"], c["hidden_size"])
    for layer in range(c["num_hidden_layers"]):
        block = f"model.layers.{layer}."
        for name, shape in linear_shapes(c):
            yield f"{block}{name}.weight", shape
            if c["model_type"] == "qwen2" and name[-6:] in ("q_proj", "k_proj", "v_proj"):
                yield f"{block}{name}.bias", shape[:1]
        yield f"{block}input_layernorm.weight", (c["hidden_size"],)
        yield f"{block}post_attention_layernorm.weight", (c["hidden_size"],)
    yield "model.norm.weight", (c["hidden_size"],)
    if not c["tie_word_embeddings"]:
        yield "lm_head.weight", (c["vocab_size"], c["hidden_size"])


def make_random(models, name, base, tokenizer, dtype="BF16", **changes):
    """A model with the shape of a family's fixture, but for `changes`, and with random weights."""
    config = json.loads((FIXTURES / "families" / base / "config.json").read_text())
    config = config | {"head_dim": 32, "dtype": "bfloat16" if dtype == "BF16" else "float32"} | changes
    header, parts, offset = {"__metadata__": {"format": "pt"}}, [], 0
    for tensor, shape in tensor_shapes(config):
        count = shape[0] * (shape[1] if len(shape) == 2 else 1)
        parts.append(ones(count, dtype) if tensor.endswith("norm.weight") else random_weights(tensor, count, dtype))
        header[tensor] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(parts[-1])]}
        offset += len(parts[-1])
    data = bytearray(b"".join(parts))
    if dtype == "BF16":
        salient_channels(header, data)
    (models / name).mkdir()
    write_safetensors(models / name / "model.safetensors", header, data)
    (models / name / "config.json").write_text(json.dumps(config, indent=2))
    add_tokenizer(models / name, tokenizer)


def make_models(models):
    for family in FAMILIES:
        make_family(models, family)
    shutil.copytree(DEMO, models / "demo")
    # Rows of 256, which K-quants need; four queries a value, which llama.cpp's mixes treat differently.
    wide = {"hidden_size": 256, "intermediate_size": 512, "num_attention_heads": 8, "num_key_value_heads": 2}
    make_random(models, "wide_llama", "llama", "tokenizers/bytelevel_llama3", vocab_size=3002, num_hidden_layers=3, **wide)
    make_random(models, "wide_qwen2", "qwen2", "tokenizers/bytelevel_qwen2", dtype="F32", vocab_size=3002, **wide)
    make_random(models, "wide_mixtral", "mixtral", "artifacts/source", num_local_experts=8, **(wide | {"intermediate_size": 256}))
    make_random(models, "gemma", "llama", "artifacts/source", architectures=["GemmaForCausalLM"], model_type="gemma",
                hidden_act="gelu_pytorch_tanh", hidden_activation="gelu_pytorch_tanh", tie_word_embeddings=True)
    for tokenizer in TOKENIZERS:
        make_random(models, tokenizer, "llama", "tokenizers/" + tokenizer, vocab_size=4096, hidden_size=32, intermediate_size=32,
                    num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
    for path in sorted((FIXTURES / "artifacts/gguf").glob("*.gguf")) + sorted((FIXTURES / "gguf").glob("*imatrix*")):
        shutil.copy(path, models)
    for name in FOREIGN:
        shutil.copytree(FIXTURES / "artifacts" / name, models / name)


def make_texts(texts):
    """Beginnings of the calibration texts in every form that a source may have, and token ids."""
    prose = (TEXTS / "prose.txt").read_text()[:100000]
    (texts / "prose.txt").write_text(prose)
    (texts / "heldout.txt").write_text((TEXTS / "heldout_pride_and_prejudice.txt").read_text()[:30000])
    (texts / "code.txt.gz").write_bytes(gzip.compress((TEXTS / "code.txt").read_bytes()[:50000], mtime=0))
    speeches = (TEXTS / "speeches.txt").read_text()[:100000]
    paragraphs = [p + "</s> Thank you." for p in speeches.split("\n\n") if p.strip()]
    (texts / "speeches.jsonl").write_text("".join(json.dumps({"speech": p}) + "\n" for p in paragraphs))
    ids = [i * 7919 % 317 for i in range(16 * 64)]
    write_safetensors(texts / "ids.safetensors", {"input_ids": {"dtype": "I32", "shape": [16, 64], "data_offsets": [0, 4 * 1024]}},
                      struct.pack("<1024i", *ids))


# ---- Jobs


@dataclasses.dataclass
class Job:
    name: str
    purpose: str
    files: dict       # name: content, written as JSON, which is YAML
    commands: list    # arguments of the program, which runs in the job's folder; then perhaps ">", a file for what it prints
    same_as: str = ""       # the job, or point of a sweep, whose artifacts have the same bytes
    kill_at_block: int = 0  # the first command is killed when that many blocks are saved
    proof: str = ""         # a metric of the run that is not 0 if the job exercised its subject
    less_ram: int = 0       # MiB that the first command gets less than what the program plans to take


PROSE = {"path": "../../texts/prose.txt", "split_on": "\n\n\n"}
CALIBRATION = {"n_samples": 12, "seqlen": 64, "sources": [PROSE]}
EVALUATE = {"texts": [{"text": "../../texts/heldout.txt"}], "seqlen": 64, "windows": 4}
RUNTIME = {"threads": 1, "device": "cpu", "forward_dtype": "float32", "checkpoint": "off"}


def job_file(model, quantization, exports, calibration={}, evaluate=None, runtime=None, publish=None):
    """`calibration`: what is not as usual; None: no text."""
    content = {"version": 1, "name": "job", "run_dir": "run", "model": {"path": "../../models/" + model}}
    if calibration is not None:
        content["calibration"] = CALIBRATION | calibration
    if model in EXPERTS:  # some see no token of a short text
        quantization = quantization | {"fallback": {"max_modules": 1000}}
    content |= {"quantization": quantization, "export": exports, "runtime": RUNTIME | (runtime or {})}
    return content | ({"evaluate": evaluate} if evaluate else {}) | ({"publish": publish} if publish else {})


def run(name, purpose, *arguments, same_as="", kill_at_block=0, proof="", less_ram=0, **sections):
    commands = [["run", "job.yaml"]] + ([["resume", "run"]] if kill_at_block else [])
    proof = "resumed" if kill_at_block else proof
    return Job(name, purpose, {"job.yaml": job_file(*arguments, **sections)}, commands, same_as, kill_at_block, proof, less_ram)


def folder(format, name=None, **keys):
    return {"format": format, "path": "out/" + (name or format)} | keys


def gguf(type, name=None, **keys):
    return {"format": "gguf", "path": f"out/{name or type}.gguf", "type": type} | keys


def ggufs(types, **keys):
    return [gguf(type, **keys) for type in types]


def folder_jobs():
    gptq = {"method": "gptq", "bits": 4, "group_size": 128}
    first = "demo", gptq, [folder("gptq"), gguf("Q4_0")]
    caches = [{"k_type": "q8_0", "v_type": "q4_0"}, {"k_type": "fp8", "v_type": "q5_1", "layers": "0-2"}, {"k_type": "f16"}]
    measured = EVALUATE | {"noise_floor": True, "kv_cache": caches, "kv_cache_seqlens": [64, 0]}
    yield run("gptq-4", "GPTQ, 4 bits, and Q4_0 from one job; evaluation with rounded caches", *first, evaluate=measured)
    yield run("gptq-4-two-threads", "the same with two threads", *first, evaluate=measured, runtime={"threads": 2},
              same_as="gptq-4")
    yield run("gptq-4-killed", "the same, killed when two blocks are saved, and resumed", *first, evaluate=measured,
              runtime={"checkpoint": "block"}, same_as="gptq-4", kill_at_block=2)
    yield run("gptq-4-bfloat16", "bfloat16 forward pass of calibration and evaluation", *first,
              evaluate=EVALUATE | {"dtype": "bfloat16"}, runtime={"forward_dtype": "bfloat16"})
    second = "wide_llama", gptq | {"bits": 3, "group_size": 64}, [folder("gptq"), gguf("Q3_K_M")]
    saved = {"save_imatrix": "out/imatrix.gguf"}
    yield run("gptq-3-upstream", "3 bits and Q3_K_M: two passes beside the original; the imatrix saved", *second,
              calibration=saved, evaluate=EVALUATE)
    yield run("gptq-3-upstream-killed", "the same, killed in the second pass", *second, calibration=saved, evaluate=EVALUATE,
              runtime={"checkpoint": "block"}, same_as="gptq-3-upstream", kill_at_block=5)
    long = {"n_samples": 64, "seqlen": 512}
    third = "llama", gptq, [folder("gptq"), folder("compressed-tensors")]
    yield run("gptq-4-long", "more activations", *third, calibration=long)
    yield run("gptq-4-long-max-ram", "the same with activations in files", *third, calibration=long,
              less_ram=26, same_as="gptq-4-long", proof="activation_file_bytes")
    yield run("gptq-2-asym", "2 bits, half of the correction, gptq_v2",
              "demo", gptq | {"bits": 2, "group_size": 32, "sym": False, "upstream_correction": 0.5}, [folder("gptq")])
    yield run("gptq-8-channel", "8 bits, one group a row, no activation order, min-max scales",
              "wide_qwen2", gptq | {"bits": 8, "group_size": -1, "act_order": False, "scale_rule": "minmax"},
              [folder("gptq"), folder("compressed-tensors")])
    yield run("gptq-desc-act", "groups in the order of activations, v2; more damping, no refinement", "demo",
              gptq | {"group_size": 64, "damp_percent": 0.05, "damp_auto_increment": 0.02, "refine_passes": 0},
              [folder("gptq", desc_act=True, checkpoint_format="gptq_v2")])
    yield run("gptq-v1-asym", "zero points in the old convention; scales by blocks of the Gram matrix", "wide_llama",
              gptq | {"sym": False, "scale_rule": "block_search", "refine_passes": 1}, [folder("gptq", checkpoint_format="gptq")])
    few = {"n_samples": 2, "seqlen": 32}
    yield run("few-tokens", "a Hessian that needs more damping", "wide_llama",
              gptq | {"damp_percent": 0, "damp_auto_increment": 0.02}, [folder("gptq"), gguf("Q4_K_M")], calibration=few)
    yield run("fallbacks", "a Hessian that is given up, experts that see nothing: rounded to nearest", "qwen3_moe",
              gptq | {"group_size": 32, "damp_percent": 0, "damp_auto_increment": 0}, [folder("gptq"), gguf("Q4_0")],
              calibration={"n_samples": 1, "seqlen": 8})
    rules = [{"match": "*.down_proj", "bits": 8}, {"match": "lm_head", "skip": False, "bits": 8},
             {"match": r"re:model\.layers\.[01]\.self_attn", "skip": True}, {"match": "*.5.mlp.down_proj", "group_size": 64}]
    loadable = {"require": {"vllm": True, "tensor_parallel": [1, 2]}}
    yield run("rules", "module rules; shards; a folder that vLLM loads; what is published", "demo", gptq | {"rules": rules},
              [folder("gptq", max_shard_size="3MB", **loadable), folder("compressed-tensors")],
              publish={"base_model": "org/demo", "license": "apache-2.0", "quantized_by": "somebody"}, evaluate=EVALUATE)
    rules = [{"match": "*.o_proj", "sym": False}, {"match": "*.9.*", "skip": True, "allow_no_match": True}]
    yield run("asymmetric-rules", "some modules with zero points; no card and no checksums", "wide_llama",
              gptq | {"group_size": 32, "rules": rules},
              [folder("gptq"), folder("compressed-tensors")], publish={"model_card": False, "checksums": False})


def method_jobs():
    rtn = {"method": "rtn", "bits": 4, "group_size": 64}
    all_folders = [folder("gptq"), folder("awq", scale_dtype="bfloat16"), folder("compressed-tensors")]
    for rule in ("minmax", "full_range", "search", "block_search"):
        yield run("rtn-" + rule, f"round to nearest, scale rule {rule}, into three containers", "wide_qwen2",
                  rtn | {"scale_rule": rule, "sym": rule != "minmax"}, all_folders,
                  calibration={} if "search" in rule else None)
    shared = [folder(format, scale_dtype="bfloat16") for format in ("awq", "gptq", "compressed-tensors")]
    for loss in ("gram", "output"):
        for rounding in ("gptq", "rtn"):
            awq = {"rounding": rounding, "loss": loss, "n_grid": 8}
            yield run(f"awq-{loss}-{rounding}", f"channel scales by loss {loss}, rounding {rounding}; one pass for three folders",
                      "demo", {"method": "awq", "group_size": 128, "sym": False, "awq": awq}, shared, evaluate=EVALUATE)
    yield run("awq-gguf", "channel scales and legacy GGUF types; a K-quant is only rounded", "wide_llama", {"method": "awq"},
              ggufs(LEGACY_TYPES) + [gguf("Q4_K_M")])
    yield run("smoothquant", "channel scales for rounded inputs", "demo", {"method": "smoothquant", "smoothquant": {"alpha": 0.8}},
              [folder("compressed-tensors", scheme="W8A8")], evaluate=EVALUATE)
    yield run("mlx", "MLX's groups with offsets, embedding and head rounded", "demo",
              {"method": "gptq", "bits": 4, "group_size": 64, "sym": False}, [folder("mlx")], evaluate=EVALUATE)
    yield run("kv-scales", "scales of an FP8 key/value cache, a layer and a head", "demo", {"method": "gptq"},
              [folder("compressed-tensors", scheme="FP8_DYNAMIC", kv_cache="fp8"),
               folder("compressed-tensors", "kv-head", scheme="FP8_DYNAMIC", kv_cache="fp8_head")], evaluate=EVALUATE)
    yield run("ct-8-asym", "compressed-tensors, 8 bits with zero points, float16 scales", "wide_llama",
              {"method": "gptq", "bits": 8, "group_size": 128, "sym": False}, [folder("compressed-tensors", scale_dtype="float16")])
    yield run("independent-layers", "propagate_error: false; float32 weights", "wide_qwen2",
              {"method": "gptq", "bits": 4, "group_size": 64, "propagate_error": False}, [folder("gptq"), gguf("Q5_K_M")],
              calibration={"save_imatrix": "out/imatrix.dat"})


def family_jobs():
    for family in FAMILIES + ["gemma"]:
        yield run(f"{family}-awq", "channel scales folded, whole-module loss", family,
                  {"method": "awq", "bits": 4, "group_size": 32, "awq": {"loss": "output", "n_grid": 4}},
                  [folder("gptq"), gguf("Q4_1")], evaluate=EVALUATE)
        yield run(f"{family}-gptq", "3 bits beside the original; a mix with rows that are no whole blocks", family,
                  {"method": "gptq", "bits": 3, "group_size": 32},
                  [folder("gptq"), gguf("Q4_K_M", on_shape_fallback="allow")])


def gguf_jobs():
    every = LEGACY_TYPES + PLAIN_TYPES + LOW_MIXES + HIGH_MIXES + OTHER_TYPES
    for model, text in ("wide_llama", None), ("demo", {}):
        how = "without an importance matrix" if text is None else "with an importance matrix of its own"
        yield run(f"{model}-rtn-ggufs", f"every GGUF type and mix, rounded as llama.cpp does {how}", model, {"method": "rtn"},
                  ggufs(every), calibration=text, evaluate=EVALUATE)
    for name, types in ("legacy", LEGACY_TYPES + PLAIN_TYPES), ("low", LOW_MIXES), ("high", HIGH_MIXES), ("other", OTHER_TYPES):
        yield run(f"gptq-ggufs-{name}", "GGUF types with error feedback", "wide_llama", {"method": "gptq"}, ggufs(types))
    yield run("demo-gptq-gguf", "Q4_K_M of a trained model", "demo", {"method": "gptq"}, [gguf("Q4_K_M")], evaluate=EVALUATE)
    rules = [{"match": r"ffn_down", "type": "Q6_K"}, {"match": r"blk\.[0-2]\.attn_q", "type": "IQ4_NL"}]
    yield run("gguf-choices", "types of single tensors, of both ends, without a mix; split files", "demo", {"method": "gptq"},
              [gguf("Q4_K_S", tensor_types=rules, embedding_type="Q5_0", output_type="Q8_0"),
               gguf("Q3_K_L", pure=True, split_max_size="2MB")],
              evaluate=EVALUATE, publish={"quantized_by": "somebody", "base_model": "org/demo"})
    experts = [gguf("Q4_K_M"), gguf("IQ4_XS"), gguf("MXFP4_MOE"), gguf("Q2_K")]
    yield run("experts-rtn-ggufs", "eight stacked experts", "wide_mixtral", {"method": "rtn"}, experts)
    yield run("experts-gptq-ggufs", "eight stacked experts, error feedback", "wide_mixtral", {"method": "gptq"}, experts)
    yield run("gguf-source", "a GGUF file as the model", "tiny-f16.gguf", {"method": "gptq"}, [gguf("Q4_K_M"), gguf("Q5_1")],
              evaluate=EVALUATE)
    again = run("gguf-requantize", "a quantized GGUF file as the model", "tiny-1layer-Q8_0.gguf", {"method": "rtn"},
                [gguf("Q4_0")], calibration=None)
    again.files["job.yaml"]["model"]["allow_requantize"] = True
    yield again
    imatrix = {"method": "rtn", "imatrix": "../../models/tiny-imatrix.gguf"}
    yield run("given-imatrix", "llama-imatrix's file, llama-quantize's bytes", "tiny-f16.gguf", imatrix,
              ggufs(LOW_MIXES + HIGH_MIXES), calibration=None)
    yield imatrix_job()
    yield tokenizers_job()


def imatrix_job():
    measure = ["imatrix", "../../models/wide_llama", "../../texts/prose.txt", "--chunk-size", "64", "--threads", "1", "-o"]
    content = job_file("wide_llama", {"method": "rtn", "imatrix": "out/both.gguf"},
                       ggufs(["Q4_0", "Q2_K", "Q4_K_M", "IQ4_XS", "TQ2_0"]), calibration=None)
    commands = [measure + ["out/a.gguf", "--chunks", "6", "--process-output"],
                measure + ["out/b.dat", "--chunks", "4", "--dtype", "bfloat16"],
                ["imatrix", "--in-file", "out/a.gguf", "--in-file", "out/b.dat", "-o", "out/both.gguf"],
                ["run", "job.yaml"]]
    return Job("imatrix", "importance collected, in both formats, merged, and used", {"job.yaml": content}, commands)


def tokenizers_job():
    files = {f"{name}.yaml": job_file(name, {"method": "rtn"}, [gguf("F16", name)], None) for name in TOKENIZERS}
    files["bytelevel_gpt2.yaml"]["export"].append(gguf("F16", "named", pre="qwen2"))
    ids = [["tokenize", "--tokenizer", "../../models/" + name, "--text", "../../texts/heldout.txt", "--add-special", "--json",
            ">", f"out/{name}.ids"] for name in TOKENIZERS]
    return Job("tokenizers", "vocabularies in GGUF files, and token ids", files, [["run", name] for name in files] + ids)


def calibration_jobs():
    gptq = {"method": "gptq", "bits": 4, "group_size": 64}
    speeches = {"path": "../../texts/speeches.jsonl", "text_column": "speech"}
    texts = [PROSE | {"weight": 0.5}, speeches | {"weight": 0.3}, {"path": "../../texts/code.txt.gz", "weight": 0.2}]
    yield run("calibration-mixed", "three sources with weights, another seed, special tokens as text", "demo", gptq,
              [folder("gptq")], calibration={"sources": texts, "seed": 7, "parse_special": False})
    for packing in ("truncate", "pad"):
        yield run("calibration-" + packing, f"packing: {packing}, no BOS", "wide_llama", gptq, [folder("gptq")],
                  calibration={"sources": [speeches], "packing": packing, "add_bos": False})
    tokens = run("calibration-tokens", "token ids made elsewhere, for calibration and evaluation", "llama", gptq, [folder("gptq")],
                 evaluate=EVALUATE | {"texts": [{"name": "ids", "tokens": "../../texts/ids.safetensors"}]})
    tokens.files["job.yaml"]["calibration"] = {"n_samples": 12, "seqlen": 32, "tokens": "../../texts/ids.safetensors"}
    yield tokens


def other_jobs():
    base = job_file("demo", {"method": "gptq", "bits": 4, "group_size": 64, "propagate_error": False}, [folder("gptq")],
                    evaluate=EVALUATE)
    sweep = {"version": 1, "base": "base.yaml", "grid": {"bits": [3, 4], "group_size": [64, 128]}, "keep_artifacts": "all",
             "output": "sweep"}
    yield Job("sweep", "four points that share their statistics", {"base.yaml": base, "sweep.yaml": sweep},
              [["sweep", "sweep.yaml"]])
    # The point's names, because a model card tells them.
    alone = json.loads(json.dumps(base))
    alone["quantization"]["bits"] = 3
    alone["export"][0]["path"] = "out/demo-GPTQ-Int3-g64"
    yield Job("sweep-alone", "one of these points in a job of its own", {"job.yaml": alone}, [["run", "job.yaml"]], "sweep/point-1")
    sources = FOREIGN + sorted(path.name for path in (FIXTURES / "artifacts/gguf").glob("*.gguf"))
    commands = [["dequantize", "../../models/" + name, "--out", "out/" + name, "--dtype", "float32"] for name in sources]
    yield Job("dequantize", "other programs' artifacts read", {}, commands)
    content = job_file("wide_llama", {"method": "awq", "group_size": 64, "awq": {"n_grid": 4}},
                       [folder("gptq"), folder("awq"), folder("compressed-tensors"), gguf("Q4_K_M"), gguf("IQ4_XS")])
    artifacts = [export["path"] for export in content["export"]]
    commands = [["dequantize", path, "--out", path + "-plain", "--dtype", "bfloat16"] for path in artifacts]
    evaluate = ["eval", *artifacts, "--reference", "../../models/wide_llama", "--text", "../../texts/heldout.txt",
                "--seqlen", "64", "--windows", "4", "--threads", "1", "--kv-cache", "q8_0/q4_0", "--json",
                ">", "out/evaluations.json"]
    yield Job("round-trip", "own artifacts read back and evaluated", {"job.yaml": content},
              [["run", "job.yaml"], *commands, evaluate])


def all_jobs():
    return [*folder_jobs(), *method_jobs(), *family_jobs(), *gguf_jobs(), *calibration_jobs(), *other_jobs()]


# ---- Running


def fail(command, folder, result):
    log = (folder / "log.txt").read_text()[-1500:]
    raise RuntimeError(f"'{' '.join(command)}' ended with {result}: {log}")


def run_command(program, command, folder):
    """The words after `>`: the file that takes what is printed."""
    words, printed = (command[:-2], folder / command[-1]) if ">" in command else (command, folder / "log.txt")
    with open(printed, "a") as out, open(folder / "log.txt", "a") as log:
        result = subprocess.run([program, *words], cwd=folder, stdout=out, stderr=log).returncode
    if result != 0:
        fail(command, folder, result)


def run_and_kill(program, command, folder, blocks):
    journal = folder / "run/state/journal"
    with open(folder / "log.txt", "a") as log:
        process = subprocess.Popen([program, *command], cwd=folder, stdout=log, stderr=log)
        while process.poll() is None:
            if journal.exists() and journal.read_bytes().count(b'"record":"pass"') >= blocks:
                process.kill()
            time.sleep(0.001)
    if process.returncode != -signal.SIGKILL:
        fail(command, folder, f"{process.returncode} before it could be killed")


def planned_bytes(program, folder):
    plan = subprocess.run([program, "plan", "job.yaml", "--json"], cwd=folder, check=True, capture_output=True).stdout
    return json.loads(plan)["memory"]["peak_bytes"]


def run_job(program, job, folder):
    """Name: value of all that is compared, without the job's name in front."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "out").mkdir(parents=True)
    for name, content in job.files.items():
        (folder / name).write_text(json.dumps(content, indent=1))
    for i, command in enumerate(job.commands):
        if i == 0 and job.less_ram:
            command = command + ["--set", f"runtime.max_ram={planned_bytes(program, folder) - (job.less_ram << 20)}"]
        if i == 0 and job.kill_at_block:
            run_and_kill(program, command, folder, job.kill_at_block)
        else:
            run_command(program, command, folder)
    if job.proof and not json.loads((folder / "run/metrics.json").read_text())[job.proof]:
        raise RuntimeError(f"'{job.proof}' is 0 in the run's metrics")
    lines = facts_of_run(folder / "out", folder / "run") | facts_of_sweep(folder / "sweep")
    shutil.rmtree(folder)
    return lines


# ---- Results

# Not compared: the job as resolved, whose keys may change while artifacts do not; and measured seconds and bytes of memory
# (what an evaluation measured is taken from the metrics as lines of their own).
EXCLUDED = {"job.resolved.yaml", "metrics.json", "evaluations.json", "log.jsonl", "plan.json", "point.json"}


def normalised(path):
    """A file's bytes without what tells the version, the folder that the job ran in, or the job itself."""
    data = path.read_bytes()
    if path.name == "README.md":  # the card's job has every key, like job.resolved.yaml
        return re.sub(rb"(?s)\n## How it was made\n.*?\n## ", b"\n## ", data)
    if path.name == "SHA256SUMS":  # lists files that are compared already, or not at all
        return b"\n".join(line.split(maxsplit=1)[1] for line in data.splitlines())
    if path.name == "calibration_manifest.json":
        return re.sub(rb'("file": )"[^"]*/', rb'\1"', data)
    if path.name == "modules.csv":  # all but the seconds
        rows = [line.split(b",") for line in data.splitlines()]
        seconds = rows[0].index(b"seconds")
        return b"\n".join(b",".join(row[:seconds] + row[seconds + 1:]) for row in rows)
    # config.json, quantize_config.json, and GGUF's metadata.
    return re.sub(rb"calque:\d+\.\d+\.\d+", b"calque:VERSION", data)


def hashes_below(folder):
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in EXCLUDED]  # none if it is not there
    return {path.relative_to(folder).as_posix(): hashlib.sha256(normalised(path)).hexdigest() for path in files}


def metric_lines(evaluations):
    lines = {}
    for evaluation in evaluations:
        for model in evaluation["models"]:
            numbers = {"ppl": model["perplexity_huggingface"]["value"], "ppl2": model["perplexity_llamacpp"]["value"]}
            if "divergence" in model:  # not of the original
                numbers |= {key: model["divergence"][key] for key in ("kl_mean", "kl_p99", "top1_agreement")}
            parts = ["metrics", evaluation["text"], str(evaluation["seqlen"]), model["label"], model["kind"], model["kv_cache"]]
            lines["/".join(filter(None, parts))] = " ".join(f"{key}={value!r}" for key, value in numbers.items())
    return lines


def probe_hashes(folder):
    """The logits of a folder's model for a few tokens, as recorded in the folder."""
    probes = {}
    for path in sorted(folder.rglob("calque/metrics.json")):
        probe = json.loads(path.read_text())["probe"]
        name = path.relative_to(folder).as_posix() + "#probe"
        probes[name] = hashlib.sha256(json.dumps(probe, sort_keys=True).encode()).hexdigest()
    return probes


def facts_of_run(out, record):
    """`out`: the artifacts; `record`: the run's folder, the same one in a sweep."""
    lines = hashes_below(out) | hashes_below(record) | probe_hashes(out)
    if (out / "evaluations.json").exists():
        lines |= metric_lines(json.loads((out / "evaluations.json").read_text()))
    if (record / "metrics.json").exists():
        lines |= metric_lines(json.loads((record / "metrics.json").read_text())["evaluations"])
    return lines


def facts_of_sweep(folder):
    """Runs by the number of their point: the names of their folders are hashes of paths and times."""
    lines = {}
    for path in sorted(folder.glob("points/*/point.json")):
        number = json.loads(path.read_text())["point"]
        lines |= {f"point-{number}/{name}": value for name, value in facts_of_run(path.parent, path.parent).items()}
    return lines


def disagreements(jobs, lines):
    """Between jobs that must have the same results."""
    for job in (job for job in jobs if job.same_as):
        own, other = ({name[len(prefix) + 1:]: value for name, value in lines.items() if name.startswith(prefix + "/")}
                      for prefix in (job.name, job.same_as))
        if own and other:
            yield from (f"{job.name} is not as {job.same_as}: {text}" for text in differences(other, own))


def differences(before, now):
    for name in sorted(before.keys() | now.keys()):
        if name not in now:
            yield f"missing: {name}"
        elif name not in before:
            yield f"new: {name}"
        elif before[name] != now[name]:
            yield f"differs: {name}: {before[name]}, now {now[name]}"


def run_all(program, jobs, work, at_once):
    """All lines; and the jobs that failed, with what they said."""
    for name, make in ("models", make_models), ("texts", make_texts):
        shutil.rmtree(work / name, ignore_errors=True)
        (work / name).mkdir(parents=True)
        make(work / name)
    lines, failures = {}, {}
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        running = {pool.submit(run_job, program, job, work / "jobs" / job.name): job for job in jobs}
        for done, future in enumerate(concurrent.futures.as_completed(running), 1):
            job = running[future]
            try:
                lines |= {f"{job.name}/{name}": value for name, value in future.result().items()}
            except Exception as error:
                failures[job.name] = error
            print(f"{done}/{len(jobs)} {job.name}", file=sys.stderr, flush=True)
    return lines, failures


# ---- The file


def instruction_sets():
    flags = re.search(r"^flags\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return " ".join(sorted(flag for flag in flags[1].split() if re.match("avx|amx|fma|f16c", flag))) if flags else "unknown"


def write_lines(path, lines):
    text = "".join(f"{lines[name]}  {name}\n" for name in sorted(lines))
    path.write_text(f"# {instruction_sets()}\n{text}")


def read_lines(path):
    first, *rest = path.read_text().splitlines()
    if first != "# " + instruction_sets():
        print(f"note: {path} was written on a machine with other instruction sets; its bytes may differ", file=sys.stderr)
    return {name: value for value, name in (line.split("  ", 1) for line in rest)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["write", "check", "list"])
    parser.add_argument("file", type=pathlib.Path, nargs="?", help="the file of hashes")
    parser.add_argument("--program", type=pathlib.Path, help="the calque program, its plug-ins beside it")
    parser.add_argument("--work", type=pathlib.Path, help="folder for models and jobs (default: a temporary one)")
    parser.add_argument("--jobs", default="", metavar="REGEX", help="only jobs whose names match")
    parser.add_argument("--at-once", type=int, default=2, help="jobs that run beside each other, each with one thread")
    arguments = parser.parse_args()
    jobs = [job for job in all_jobs() if re.search(arguments.jobs, job.name)]
    if arguments.action == "list":
        print("\n".join(f"{job.name:24} {job.purpose}" for job in jobs))
        return 0
    if arguments.file is None or arguments.program is None:
        parser.error(f"{arguments.action} needs the file and --program")

    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.work or pathlib.Path(temporary)).resolve()
        lines, failures = run_all(arguments.program.resolve(), jobs, work, arguments.at_once)
    faults = [f"{name} failed: {error}" for name, error in failures.items()] + list(disagreements(jobs, lines))
    if arguments.action == "check":
        left_out = {job.name for job in all_jobs()} - {job.name for job in jobs} | failures.keys()
        before = {name: value for name, value in read_lines(arguments.file).items() if name.split("/")[0] not in left_out}
        faults += differences(before, lines)
    elif not faults:
        write_lines(arguments.file, lines)
    print("\n".join(faults + [f"{len(jobs)} jobs, {len(lines)} lines, {len(faults)} faults, {time.monotonic() - begin:.0f} s"]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
