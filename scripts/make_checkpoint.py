#!/usr/bin/env python3
"""Writes a Llama checkpoint with random bf16 weights of true shapes, and random token ids: for time and memory only."""
import argparse
import json
import pathlib

import numpy as np


def to_bf16(values):
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def shapes(a):
    kv = a.kv_heads * a.head_dim
    yield "model.embed_tokens.weight", (a.vocab, a.hidden)
    for i in range(a.layers):
        block = f"model.layers.{i}"
        yield f"{block}.input_layernorm.weight", (a.hidden,)
        yield f"{block}.self_attn.q_proj.weight", (a.heads * a.head_dim, a.hidden)
        yield f"{block}.self_attn.k_proj.weight", (kv, a.hidden)
        yield f"{block}.self_attn.v_proj.weight", (kv, a.hidden)
        yield f"{block}.self_attn.o_proj.weight", (a.hidden, a.heads * a.head_dim)
        yield f"{block}.post_attention_layernorm.weight", (a.hidden,)
        yield f"{block}.mlp.gate_proj.weight", (a.ffn, a.hidden)
        yield f"{block}.mlp.up_proj.weight", (a.ffn, a.hidden)
        yield f"{block}.mlp.down_proj.weight", (a.hidden, a.ffn)
    yield "model.norm.weight", (a.hidden,)
    if not a.tied:
        yield "lm_head.weight", (a.vocab, a.hidden)


def write_header(file, header):
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)


def config(a):
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": a.hidden,
        "intermediate_size": a.ffn, "num_hidden_layers": a.layers, "num_attention_heads": a.heads,
        "num_key_value_heads": a.kv_heads, "head_dim": a.head_dim, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "hidden_act": "silu", "tie_word_embeddings": a.tied,
        "vocab_size": a.vocab, "torch_dtype": "bfloat16", "attention_bias": False, "mlp_bias": False,
    }


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=pathlib.Path, required=True)
    # the shape of SmolLM2-135M
    p.add_argument("--hidden", type=int, default=576)
    p.add_argument("--ffn", type=int, default=1536)
    p.add_argument("--layers", type=int, default=30)
    p.add_argument("--heads", type=int, default=9)
    p.add_argument("--kv-heads", type=int, default=3)
    p.add_argument("--head-dim", type=int, default=64)
    p.add_argument("--vocab", type=int, default=49152)
    p.add_argument("--tied", action=argparse.BooleanOptionalAction, default=True)
    p.add_argument("--tokens", type=int, default=65536, help="ids in tokens.safetensors, one row")
    a = p.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)

    random = np.random.default_rng(0)
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in shapes(a):
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    with open(a.out / "model.safetensors", "wb") as file:
        write_header(file, header)
        for name, shape in shapes(a):
            if len(shape) == 1:
                values = 1 + 0.1 * random.standard_normal(shape, dtype=np.float32)
            else:
                values = random.standard_normal(shape, dtype=np.float32) / np.sqrt(shape[1], dtype=np.float32)
            file.write(to_bf16(values).tobytes())
    (a.out / "config.json").write_text(json.dumps(config(a), indent=2) + "\n")
    ids = random.integers(3, a.vocab, a.tokens, dtype=np.int32)
    with open(a.out / "tokens.safetensors", "wb") as file:
        write_header(file, {"input_ids": {"dtype": "I32", "shape": [a.tokens], "data_offsets": [0, ids.nbytes]}})
        file.write(ids.tobytes())
    print(f"{a.out}: {offset / 2 / 1e6:.1f} M weights")


main()
