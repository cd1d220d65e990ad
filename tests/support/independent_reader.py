#!/usr/bin/env python3
"""Reads a folder of packed safetensors or a GGUF file from the definitions of the formats and compares
every weight with a file of dequantized weights; for folders also checks that the settings, resolved as
loaders do, name exactly the modules that are packed. Written apart from the C++ code, with numpy alone.

usage: independent_reader.py ARTIFACT DEQUANTIZED.safetensors

ARTIFACT     a folder of GPTQ (v1 or v2; 2, 3, 4, 8 bits), AWQ (GEMM) or compressed-tensors
             (pack-quantized; 4, 8 bits), each perhaps with settings by module, or a GGUF file (F32,
             F16, BF16, Q8_0, Q5_1, Q5_0, Q4_1, Q4_0), as calque exports them
DEQUANTIZED  float32 or float16 weights under their Hugging Face names

Exit status 0 if every tensor is in both and equal, 1 with one line a difference if not. Equal means:
the same bits (+0 and -0 count as the same) for float32, and the value rounded to float16 for float16.
"""
import json
import os
import re
import struct
import sys

import numpy as np

DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<u4"}


def read_safetensors(path):
    with open(path, "rb") as file:
        blob = file.read()
    (length,) = struct.unpack("<Q", blob[:8])
    tensors = {}
    for name, entry in json.loads(blob[8:8 + length]).items():
        if name == "__metadata__":
            continue
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        values = np.frombuffer(blob[first:last], DTYPES[entry["dtype"]]).reshape(entry["shape"])
        tensors[name] = from_bf16(values) if entry["dtype"] == "BF16" else values
    return tensors


def from_bf16(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def unpack_stream(words, count, bits):
    """words [P, C] -> codes [count, C]: code i of a column is bits [bits*i, bits*(i+1)) of a stream
    whose bit t is bit t % 32 of word t // 32."""
    stream = (words[:, None, :] >> np.arange(32, dtype=np.uint32)[None, :, None]) & 1
    stream = stream.reshape(-1, words.shape[1])[:count * bits].reshape(count, bits, -1)
    weights = (1 << np.arange(bits, dtype=np.uint32))[None, :, None]
    return (stream * weights).sum(axis=1)


def gptq_setting(config, module):
    """Bits, group size, sym of a Linear; None: left alone. As loaders resolve them: skipping rules first
    (GPTQModel) or all in file order (vLLM), which must come out the same; then transformers' list."""
    def first_match(rules):
        for key, change in rules:
            if re.match(key[2:] if key[:2] in ("-:", "+:") else key, module):
                return None if key.startswith("-:") else change
        return {}

    if module == "lm_head" and not config.get("lm_head", False):
        return None
    rules = list(config.get("dynamic", {}).items())
    change = first_match(rules)
    assert change == first_match(sorted(rules, key=lambda rule: not rule[0].startswith("-:"))), module
    in_block = re.match(r".*?\.layers\.\d+\.(.*)", module)
    listed = [name for names in config.get("modules_in_block_to_quantize", []) for name in names]
    if change is None or (listed and in_block and in_block[1] not in listed):
        return None
    merged = {**config, **change}
    return merged["bits"], merged["group_size"], merged["sym"]


def awq_setting(config, module):
    """The list holds parts of module paths."""
    if any(part in module for part in config["modules_to_not_convert"]):
        return None
    if module == "lm_head" and not config.get("lm_head", False):
        return None
    assert config["zero_point"] and config["version"] == "gemm"
    return config["bits"], config["group_size"], False


def compressed_tensors_setting(config, module):
    """Names and expressions come before the class of the module."""
    def names(target):
        return re.match(target[3:], module) if target.startswith("re:") else target == module

    if any(names(target) for target in config["ignore"]):
        return None
    groups = config["config_groups"].values()
    found = [g for g in groups if any(names(target) for target in g["targets"])] or \
            [g for g in groups if "Linear" in g["targets"]]
    assert len(found) == 1, f"{module}: {len(found)} groups"
    weights = found[0]["weights"]
    assert (weights["strategy"] == "channel") == (weights["group_size"] is None), module
    return weights["num_bits"], weights["group_size"] or -1, weights["symmetric"]


FUSED = {"qkv_proj": ("q_proj", "k_proj", "v_proj"), "gate_up_proj": ("gate_proj", "up_proj")}


def check_fused(config, linears):
    """vLLM asks the rules of a GPTQ folder about fused modules: these must say what the parts say."""
    for parent in {module.rpartition(".")[0] for module in linears}:
        for fused, parts in FUSED.items():
            settings = [gptq_setting(config, f"{parent}.{part}") for part in parts if f"{parent}.{part}" in linears]
            if len(settings) == len(parts) and all(s == settings[0] for s in settings):
                rules = {key: value for key, value in config.items() if key != "modules_in_block_to_quantize"}
                assert gptq_setting(rules, f"{parent}.{fused}") == settings[0], f"{parent}.{fused}"


def decode_gptq(take, config, setting):
    bits, _, sym = setting
    words, zero_words, scales, groups = (take(part) for part in ("qweight", "qzeros", "scales", "g_idx"))
    groups = groups.astype(np.int64)
    added = 1 if config.get("checkpoint_format", "gptq") == "gptq" else 0      # v1 stores zero points minus one
    codes = unpack_stream(words, len(groups), bits)                        # [K, N]
    zeros = unpack_stream(zero_words.T, scales.shape[1], bits).T + added   # [G, N]
    assert not sym or (zeros == 1 << (bits - 1)).all()
    return codes, zeros, scales, groups


def unpack_awq(words):
    """words [R, N / 8] -> [R, N]: nibble i of word c holds column 8c + order[i]."""
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    columns = np.empty((words.shape[0], words.shape[1], 8), np.uint32)
    for nibble, column in enumerate(order):
        columns[:, :, column] = words >> np.uint32(4 * nibble) & 15
    return columns.reshape(words.shape[0], -1)


def decode_awq(take, config, setting):
    codes, zeros, scales = unpack_awq(take("qweight")), unpack_awq(take("qzeros")), take("scales")
    return codes, zeros, scales, np.arange(len(codes)) // (len(codes) // len(scales))


def decode_compressed_tensors(take, config, setting):
    bits, _, sym = setting
    words, scales, shape = take("weight_packed"), take("weight_scale").T, take("weight_shape")
    rows, columns = (int(n) for n in shape)
    codes = unpack_stream(words.T, columns, bits)                          # [K, N]
    zeros = np.full(scales.shape, 1 << (bits - 1)) if sym else unpack_stream(take("weight_zero_point"), rows, bits).T
    return codes, zeros, scales, np.arange(columns) // (columns // len(scales))


METHODS = {"gptq": (gptq_setting, decode_gptq, ".qweight"), "awq": (awq_setting, decode_awq, ".qweight"),
           "compressed-tensors": (compressed_tensors_setting, decode_compressed_tensors, ".weight_packed")}


def read_folder(folder):
    tensors = {}
    for file in sorted(os.listdir(folder)):
        if file.endswith(".safetensors"):
            tensors.update(read_safetensors(os.path.join(folder, file)))
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)["quantization_config"]
    setting_of, decode, marker = METHODS[config["quant_method"]]

    packed = {name[:-len(marker)] for name in tensors if name.endswith(marker)}
    plain = {name[:-len(".weight")] for name, values in tensors.items()
             if name.endswith(".weight") and values.ndim == 2 and "embed_tokens" not in name}
    assert not packed & plain, f"stored twice: {packed & plain}"
    settings = {module: setting_of(config, module) for module in packed | plain}
    for module, setting in settings.items():
        assert (setting is not None) == (module in packed), f"{module}: the settings say {setting}"
    if config["quant_method"] == "gptq":
        check_fused(config, settings)

    weights = {}
    for module in packed:
        codes, zeros, scales, groups = decode(lambda part: tensors.pop(f"{module}.{part}"), config, settings[module])
        size = settings[module][1] if settings[module][1] > 0 else len(codes)
        assert len(scales) * size == len(codes), f"{module}: {len(scales)} groups of {size}, {len(codes)} inputs"
        difference = codes.astype(np.float32) - zeros.astype(np.float32)[groups]
        weights[module + ".weight"] = (scales.astype(np.float32)[groups] * difference).T
    weights.update({name: values.astype(np.float32) for name, values in tensors.items()})
    return weights


class Bytes:
    """A cursor over a GGUF file."""
    SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
               10: "<Q", 11: "<q", 12: "<d"}

    def __init__(self, blob):
        self.blob, self.at = blob, 0

    def take(self, form):
        (value,) = struct.unpack_from(form, self.blob, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self):
        length = self.take("<Q")
        self.at += length
        return self.blob[self.at - length:self.at].decode("utf-8")

    def value(self, kind):
        if kind == 8:
            return self.text()
        if kind == 9:
            of = self.take("<I")
            return [self.value(of) for _ in range(self.take("<Q"))]
        return self.take(self.SCALARS[kind])


def halves(blocks, at):
    return np.ascontiguousarray(blocks[:, at:at + 2]).view("<f2").astype(np.float32)


def nibbles(blocks, at):
    """The first half of a block of 32 is in the low nibbles of its 16 bytes."""
    packed = blocks[:, at:at + 16]
    return np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32)


def fifth_bits(blocks, at):
    words = np.ascontiguousarray(blocks[:, at:at + 4]).view("<u4")
    return (words >> np.arange(32, dtype=np.uint32) & 1).astype(np.float32) * 16


# Super-blocks of 256: element i of each, by index.
I = np.arange(256)


def two_bits(blocks, at):
    return (blocks[:, at + 32 * (I // 128) + I % 32] >> (2 * (I % 128 // 32)) & 3).astype(np.float32)


def four_bits(blocks, at):
    """Bytes of 32 hold elements of two groups of 32: the even group in the low nibbles."""
    return (blocks[:, at + 32 * (I // 64) + I % 32] >> (4 * (I // 32 % 2)) & 15).astype(np.float32)


def six_bit_scales(blocks, at):
    """Scales and minima of the 8 groups of Q4_K and Q5_K, in 12 bytes."""
    s = blocks[:, at:at + 12]
    scales = np.concatenate([s[:, 0:4] & 63, s[:, 8:12] & 15 | s[:, 0:4] >> 6 << 4], axis=1)
    minima = np.concatenate([s[:, 4:8] & 63, s[:, 8:12] >> 4 | s[:, 4:8] >> 6 << 4], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def affine(step, minimum_step, scales, minima, codes, group):
    return step * scales[:, I // group] * codes - minimum_step * minima[:, I // group]


def q2_k(b):
    return affine(halves(b, 80), halves(b, 82), (b[:, :16] & 15).astype(np.float32),
                  (b[:, :16] >> 4).astype(np.float32), two_bits(b, 16), 16)


def q3_k(b):
    packed = b[:, 96:108]
    low = np.concatenate([packed[:, :8] & 15, packed[:, :8] >> 4], axis=1)
    j = np.arange(16)
    high = packed[:, 8 + j % 4] >> (2 * (j // 4)) & 3
    scales = (low | high << 4).astype(np.float32) - 32
    high_bit = (b[:, I % 32] >> (I // 32) & 1).astype(np.float32)
    return halves(b, 108) * scales[:, I // 16] * (two_bits(b, 32) + 4 * high_bit - 4)


def q4_k(b):
    return affine(halves(b, 0), halves(b, 2), *six_bit_scales(b, 4), four_bits(b, 16), 32)


def q5_k(b):
    fifth = (b[:, 16 + I % 32] >> (I // 32) & 1).astype(np.float32)
    return affine(halves(b, 0), halves(b, 2), *six_bit_scales(b, 4), four_bits(b, 48) + 16 * fifth, 32)


def q6_k(b):
    half, quarter, l = I // 128, I % 128 // 32, I % 32
    low = b[:, 64 * half + 32 * (quarter % 2) + l] >> (4 * (quarter // 2)) & 15
    high = b[:, 128 + 32 * half + l] >> (2 * quarter) & 3
    scales = np.ascontiguousarray(b[:, 192:208]).view(np.int8).astype(np.float32)
    return halves(b, 208) * scales[:, I // 16] * ((low | high << 4).astype(np.float32) - 32)


LEVELS = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.float32)


def iq4_nl(b):
    return halves(b, 0) * LEVELS[nibbles(b, 2).astype(int)]


def iq4_xs(b):
    j = np.arange(8)
    high = b[:, 2].astype(int)[:, None] | b[:, 3].astype(int)[:, None] << 8
    scales = (b[:, 4 + j // 2] >> (4 * (j % 2)) & 15) | (high >> (2 * j) & 3) << 4
    codes = b[:, 8 + 16 * (I // 32) + I % 16] >> (4 * (I % 32 // 16)) & 15
    return halves(b, 0) * (scales.astype(np.float32) - 32)[:, I // 32] * LEVELS[codes]


BLOCK_TYPES = {  # id: (name, elements of a block, its bytes, values)
    2: ("Q4_0", 32, 18, lambda b: halves(b, 0) * (nibbles(b, 2) - 8)),
    3: ("Q4_1", 32, 20, lambda b: halves(b, 0) * nibbles(b, 4) + halves(b, 2)),
    6: ("Q5_0", 32, 22, lambda b: halves(b, 0) * (nibbles(b, 6) + fifth_bits(b, 2) - 16)),
    7: ("Q5_1", 32, 24, lambda b: halves(b, 0) * (nibbles(b, 8) + fifth_bits(b, 4)) + halves(b, 2)),
    8: ("Q8_0", 32, 34, lambda b: halves(b, 0) * b[:, 2:].view(np.int8).astype(np.float32)),
    10: ("Q2_K", 256, 84, q2_k),
    11: ("Q3_K", 256, 110, q3_k),
    12: ("Q4_K", 256, 144, q4_k),
    13: ("Q5_K", 256, 176, q5_k),
    14: ("Q6_K", 256, 210, q6_k),
    20: ("IQ4_NL", 32, 18, iq4_nl),
    23: ("IQ4_XS", 256, 136, iq4_xs),
}


def gguf_values(blob, at, kind, ne):
    count, shape = int(np.prod(ne)), ne[::-1]
    if kind == 0:
        return np.frombuffer(blob, "<f4", count, at).reshape(shape)
    if kind == 1:
        return np.frombuffer(blob, "<f2", count, at).astype(np.float32).reshape(shape)
    if kind == 30:
        return from_bf16(np.frombuffer(blob, "<u2", count, at)).reshape(shape)
    _, elements, size, decode = BLOCK_TYPES[kind]
    blocks = np.frombuffer(blob, np.uint8, count // elements * size, at).reshape(-1, size)
    return decode(blocks).reshape(shape)


PARTS = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm",
         "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_k_norm": "self_attn.k_norm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
OUTER = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
         "output.weight": "lm_head.weight"}


def hugging_face_name(name):
    block = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    return OUTER[name] if not block else f"model.layers.{block[1]}.{PARTS[block[2]]}.{block[3]}"


def halves_of_heads(values, heads):
    """Architecture "llama" stores rows 2t, 2t+1 where Hugging Face has t, t + head_dim / 2."""
    rows = values.reshape(heads, -1, 2, *values.shape[1:])
    return rows.swapaxes(1, 2).reshape(values.shape)


def read_gguf(path):
    with open(path, "rb") as file:
        blob = file.read()
    cursor = Bytes(blob)
    if cursor.take("<4s") != b"GGUF" or cursor.take("<I") != 3:
        raise ValueError(f"{path}: not GGUF version 3")
    tensor_count, key_count = cursor.take("<Q"), cursor.take("<Q")
    keys = {}
    for _ in range(key_count):
        key = cursor.text()
        keys[key] = cursor.value(cursor.take("<I"))
    infos = []
    for _ in range(tensor_count):
        name = cursor.text()
        ne = [cursor.take("<Q") for _ in range(cursor.take("<I"))]
        infos.append((name, ne, cursor.take("<I"), cursor.take("<Q")))
    alignment = keys.get("general.alignment", 32)
    start = -(-cursor.at // alignment) * alignment

    weights = {}
    for name, ne, kind, offset in infos:
        if name == "rope_freqs.weight":  # computed, not a weight of the model
            continue
        values = gguf_values(blob, start + offset, kind, ne)
        heads = {"attn_q": keys["llama.attention.head_count"],
                 "attn_k": keys["llama.attention.head_count_kv"]}.get(
                     name.split(".")[-2]) if keys["general.architecture"] == "llama" else None
        weights[hugging_face_name(name)] = halves_of_heads(values, heads) if heads else values
    return weights


def difference(name, ours, theirs):
    if ours.shape != theirs.shape:
        return f"{name}: shape {list(ours.shape)} here, {list(theirs.shape)} there"
    rounded = ours.astype(theirs.dtype)
    wrong = np.argwhere(~(rounded == theirs))
    if not len(wrong):
        return None
    at = tuple(wrong[0])
    return f"{name}: {len(wrong)} of {ours.size} differ, first at {list(map(int, at))}: " \
           f"{rounded[at]!r} here, {theirs[at]!r} there"


def main(artifact, dequantized):
    ours = read_folder(artifact) if os.path.isdir(artifact) else read_gguf(artifact)
    theirs = read_safetensors(dequantized)
    faults = [f"{name}: only in one of the two" for name in sorted(set(ours) ^ set(theirs))]
    for name in sorted(set(ours) & set(theirs)):
        faults.append(difference(name, ours[name], theirs[name]))
    faults = [fault for fault in faults if fault]
    print("\n".join(faults) if faults else f"{len(ours)} tensors agree: {artifact}")
    return 1 if faults or not ours else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
