"""Small checkpoints of every family, as a Hugging Face folder: config.json, weights, tokenizer files."""
import array
import json
import math
import random
import struct

# 4093 is a prime, so that rows of any usual width begin at different places of the pool.
POOL = 4093


def gaussians(scale):
    generator = random.Random(7)
    return array.array("f", (generator.gauss(0, scale) for _ in range(POOL)))


def to_bytes(values, dtype, clip=True):
    """`values` (floats) as the bytes of a tensor; bf16 is rounded towards zero. fp16 is clipped to its range."""
    if dtype == "F32":
        return array.array("f", values).tobytes()
    if dtype == "F16":
        if clip:
            values = [max(-65504.0, min(65504.0, v)) for v in values]
        return struct.pack(f"<{len(values)}e", *values)
    if dtype == "F64":
        return array.array("d", values).tobytes()
    assert dtype == "BF16", dtype
    raw = array.array("f", values).tobytes()
    result = bytearray(len(raw) // 2)
    result[0::2], result[1::2] = raw[2::4], raw[3::4]
    return bytes(result)


SIZE = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "U8": 1}


def write_safetensors(path, tensors, metadata=None):
    """`tensors`: name -> (dtype, shape, bytes)."""
    header, offset = {}, 0
    if metadata is not None:
        header["__metadata__"] = metadata
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data for _, _, data in tensors.values()))


# ---- Shapes of the families

ARCHITECTURES = {
    "llama": "LlamaForCausalLM", "mistral": "MistralForCausalLM", "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM", "gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM", "phi3": "Phi3ForCausalLM", "mixtral": "MixtralForCausalLM",
    "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM",
}


def make_config(choices, vocab):
    """A config.json (as a dict) that is valid, of any family, with `vocab` rows of the embedding."""
    pick, rarely = choices.pick, choices.rarely
    family = pick("family", list(ARCHITECTURES))
    gemma = family.startswith("gemma")
    heads = pick("heads", [2, 1, 4, 3])
    odd = rarely("odd_sizes", 0.25)  # sizes that are no whole words or blocks
    config = {
        "architectures": [ARCHITECTURES[family]], "model_type": "gemma3_text" if family == "gemma3" else family,
        "num_attention_heads": heads,
        "num_key_value_heads": pick("kv_heads", [n for n in (heads, 1, 2) if heads % n == 0]),
        "head_dim": pick("head_dim", [32, 64] + odd * [16, 8, 2, 20]),
        "hidden_size": pick("hidden", [64, 32, 128, 256, 96] + odd * [48, 40, 33]),
        "intermediate_size": pick("ffn", [128, 64, 256, 96, 512] + odd * [36, 7]),
        "num_hidden_layers": pick("layers", [1, 2, 3]),
        "vocab_size": vocab,
        "max_position_embeddings": pick("positions", [128, 64, 512]),
        "rms_norm_eps": pick("eps", [1e-5, 1e-6]),
        "tie_word_embeddings": rarely("tied", 0.9 if gemma else 0.4),
        "torch_dtype": "bfloat16",
    }
    config["hidden_activation" if gemma else "hidden_act"] = "gelu_pytorch_tanh" if gemma else "silu"
    if rarely("no_head_dim", 0.2) and not gemma and config["hidden_size"] % (2 * heads) == 0:
        del config["head_dim"]
    if family in ("llama", "qwen3", "qwen3_moe", "gemma", "gemma3"):
        config["attention_bias"] = rarely("attention_bias", 0.3)
    if family == "llama":
        config["mlp_bias"] = rarely("mlp_bias", 0.2)
    add_rope(choices, config)
    if family in ("mistral", "gemma2", "gemma3"):
        config["sliding_window"] = pick("window", [8, 64, 3])
    if family == "qwen2":
        config["use_sliding_window"] = rarely("use_window", 0.3)
        config["sliding_window"] = 8
        config["max_window_layers"] = pick("max_window_layers", [0, 1, 28])
    if family in ("gemma2", "gemma3"):
        config["query_pre_attn_scalar"] = pick("query_scalar", [32, 64])
    if family in ("mixtral", "qwen2_moe", "qwen3_moe"):
        config["num_local_experts" if family == "mixtral" else "num_experts"] = pick("experts", [2, 4, 3])
        config["num_experts_per_tok"] = pick("experts_used", [2, 1])
        config["moe_intermediate_size"] = pick("expert_ffn", [64, 32, 96, 256] + odd * [48])
        config["norm_topk_prob"] = rarely("norm_topk", 0.5)
    if family == "qwen2_moe":
        config["shared_expert_intermediate_size"] = pick("shared_ffn", [64, 128] + odd * [48])
    if family == "phi3":
        config["original_max_position_embeddings"] = config["max_position_embeddings"]
    return family, config


def add_rope(choices, config):
    kind = choices.pick("rope", ["plain", "llama3", "linear", "parameters"], 0.4)
    if kind == "parameters":
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 5e5}
        return
    config["rope_theta"] = 1e4
    if kind == "llama3":
        config["rope_scaling"] = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                  "original_max_position_embeddings": 32}
    if kind == "linear":
        config["rope_scaling"] = {"type": "linear", "factor": 2.0}


def tensor_shapes(family, config):
    """Names and shapes of every tensor, in the order of a checkpoint."""
    hidden, ffn, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    dim = config.get("head_dim", hidden // heads)
    q, kv = heads * dim, config["num_key_value_heads"] * dim
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}

    def linear(name, rows, columns, bias):
        shapes[name + ".weight"] = (rows, columns)
        if bias:
            shapes[name + ".bias"] = (rows,)

    def mlp(name, width, names=("gate_proj", "up_proj", "down_proj"), bias=False):
        linear(f"{name}.{names[0]}", width, hidden, bias)
        linear(f"{name}.{names[1]}", width, hidden, bias)
        linear(f"{name}.{names[2]}", hidden, width, bias)

    for i in range(config["num_hidden_layers"]):
        block = f"model.layers.{i}"
        attention = f"{block}.self_attn"
        every = config.get("attention_bias", False)
        qkv_bias = every or family in ("qwen2", "qwen2_moe")
        norms = ["input_layernorm", "post_attention_layernorm"]
        if family in ("gemma2", "gemma3"):
            norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
        for norm in norms:
            shapes[f"{block}.{norm}.weight"] = (hidden,)
        if family == "phi3":
            linear(f"{attention}.qkv_proj", q + 2 * kv, hidden, False)
        else:
            for name, rows in (("q_proj", q), ("k_proj", kv), ("v_proj", kv)):
                linear(f"{attention}.{name}", rows, hidden, qkv_bias)
        linear(f"{attention}.o_proj", hidden, q, every)
        if family in ("qwen3", "qwen3_moe", "gemma3"):
            shapes[f"{attention}.q_norm.weight"] = shapes[f"{attention}.k_norm.weight"] = (dim,)
        if family == "phi3":
            linear(f"{block}.mlp.gate_up_proj", 2 * ffn, hidden, False)
            linear(f"{block}.mlp.down_proj", hidden, ffn, False)
        elif family == "mixtral":
            linear(f"{block}.block_sparse_moe.gate", config["num_local_experts"], hidden, False)
            for e in range(config["num_local_experts"]):
                mlp(f"{block}.block_sparse_moe.experts.{e}", ffn, ("w1", "w3", "w2"))
        elif family in ("qwen2_moe", "qwen3_moe"):
            linear(f"{block}.mlp.gate", config["num_experts"], hidden, False)
            for e in range(config["num_experts"]):
                mlp(f"{block}.mlp.experts.{e}", config["moe_intermediate_size"])
            if family == "qwen2_moe":
                mlp(f"{block}.mlp.shared_expert", config["shared_expert_intermediate_size"])
                linear(f"{block}.mlp.shared_expert_gate", 1, hidden, False)
        else:
            mlp(f"{block}.mlp", ffn, bias=config.get("mlp_bias", False))
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


# ---- Values

def make_values(choices, shapes, gemma):
    """Name -> list of floats. Some matrices are zero, constant, or have a zero row or column, or outliers."""
    pool = gaussians(1.0)
    doubled = pool + pool
    special = choices.pick("special_values", ["none", "zero", "zero_row", "zero_column", "constant", "outlier", "tiny",
                                              "large"], 0.5)
    matrices = [name for name, shape in shapes.items() if len(shape) == 2]
    chosen = choices.pick("special_matrix", matrices) if special != "none" else None
    tensors = {}
    start = 0
    for name, shape in shapes.items():
        count = math.prod(shape)
        start = (start + 1009) % POOL
        repeats = count // POOL + 1
        flat = (doubled[start:start + POOL] * repeats)[:count]
        scale = 0.6 / math.sqrt(shape[1]) if len(shape) == 2 else 0.1
        if name.endswith("norm.weight"):
            middle = 0.0 if gemma else 1.0
            flat = array.array("f", (middle + scale * v for v in flat))
        else:
            flat = array.array("f", (scale * v for v in flat))
        if name == chosen:
            distort(flat, shape, special)
        tensors[name] = flat
    return tensors


def distort(flat, shape, special):
    rows, columns = shape
    if special == "zero":
        flat[:] = array.array("f", [0.0] * len(flat))
    if special == "constant":
        flat[:] = array.array("f", [0.125] * len(flat))
    if special == "zero_row":
        flat[0:columns] = array.array("f", [0.0] * columns)
    if special == "zero_column":
        flat[0::columns] = array.array("f", [0.0] * rows)
    if special == "outlier":
        flat[len(flat) // 2] = 30.0
    if special == "tiny":
        flat[:] = array.array("f", (1e-7 * v for v in flat))
    if special == "large":
        flat[:] = array.array("f", (200.0 * v for v in flat))


def write_checkpoint(choices, folder, vocab):
    """Writes config.json and the weights. Returns family, config and the shapes."""
    family, config = make_config(choices, vocab)
    shapes = tensor_shapes(family, config)
    dtype = choices.pick("dtype", ["BF16", "F16", "F32"])
    config["torch_dtype"] = {"BF16": "bfloat16", "F16": "float16", "F32": "float32"}[dtype]
    mixed = choices.rarely("norms_in_f32", 0.2)
    values = make_values(choices, shapes, family.startswith("gemma"))
    tensors = {}
    for name, shape in shapes.items():
        kind = "F32" if mixed and len(shape) == 1 else dtype
        tensors[name] = (kind, shape, to_bytes(values[name], kind))
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    write_weights(folder, tensors, choices.pick("shards", [1, 2, 3], 0.3))
    return family, config, shapes


def write_weights(folder, tensors, shards):
    if shards == 1:
        return write_safetensors(folder / "model.safetensors", tensors, {"format": "pt"})
    names = list(tensors)
    index = {}
    for s in range(shards):
        file = f"model-{s + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[s::shards]}
        write_safetensors(folder / file, part, {"format": "pt"})
        index.update({name: file for name in part})
    total = sum(len(data) for _, _, data in tensors.values())
    (folder / "model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}))
