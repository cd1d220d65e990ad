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
    "qwen2_moe": "Qwen2MoeForCausalLM", "qwen3_moe": "Qwen3MoeForCausalLM", "gemma4": "Gemma4ForCausalLM",
    "gpt_oss": "GptOssForCausalLM", "glm4_moe": "Glm4MoeForCausalLM", "qwen3_5": "Qwen3_5ForCausalLM",
    "qwen3_5_moe": "Qwen3_5MoeForCausalLM",
}
# Norms that multiply by 1 + weight.
PLUS_ONE = ("gemma", "gemma2", "gemma3", "qwen3_5", "qwen3_5_moe")
TYPES = {"gemma3": "gemma3_text", "gemma4": "gemma4_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text"}


def make_config(choices, vocab):
    """A config.json (as a dict) that is valid, of any family, with `vocab` rows of the embedding."""
    pick, rarely = choices.pick, choices.rarely
    family = pick("family", list(ARCHITECTURES))
    gemma = family.startswith("gemma")
    heads = pick("heads", [2, 1, 4, 3])
    odd = rarely("odd_sizes", 0.25)  # sizes that are no whole words or blocks
    config = {
        "architectures": [ARCHITECTURES[family]], "model_type": TYPES.get(family, family),
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
    if rarely("no_head_dim", 0.2) and not gemma and family not in NEWER and config["hidden_size"] % (2 * heads) == 0:
        del config["head_dim"]
    if family in ("llama", "qwen3", "qwen3_moe", "gemma", "gemma3"):
        config["attention_bias"] = rarely("attention_bias", 0.3)
    if family == "llama":
        config["mlp_bias"] = rarely("mlp_bias", 0.2)
    if family in NEWER:
        NEWER[family](choices, config, odd)
        return family, config
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


def layer_types(choices, layers):
    return [choices.pick(f"layer_type_{i}", ["sliding_attention", "full_attention"]) for i in range(layers)]


def add_gemma4(choices, config, odd):
    pick, rarely = choices.pick, choices.rarely
    layers = config["num_hidden_layers"]
    config["layer_types"] = layer_types(choices, layers)
    if rarely("usual_order", 0.7):
        config["layer_types"] = ["sliding_attention"] * (layers - 1)
    config["layer_types"] = config["layer_types"][:layers - 1] + ["full_attention"]
    config["sliding_window"] = pick("window", [8, 64, 3])
    config["global_head_dim"] = pick("global_head_dim", [64, 32] + odd * [16, 20])
    config["attention_k_eq_v"] = rarely("keys_are_values", 0.5)
    heads = config["num_attention_heads"]
    config["num_global_key_value_heads"] = pick("global_kv_heads", [None] + [n for n in (1, heads) if heads % n == 0])
    config["final_logit_softcapping"] = pick("logit_cap", [30.0, None])
    config["hidden_size_per_layer_input"] = pick("layer_embedding", [0, 32, 64] + odd * [16, 7])
    config["vocab_size_per_layer_input"] = config["vocab_size"]
    possible = [n for n in range(layers) if set(config["layer_types"][layers - n:]) <= set(config["layer_types"][:layers - n])]
    config["num_kv_shared_layers"] = pick("shared_layers", possible)
    config["use_double_wide_mlp"] = rarely("double_mlp", 0.5)
    config["enable_moe_block"] = rarely("experts_beside", 0.4)
    if config["enable_moe_block"]:
        config["num_experts"] = pick("experts", [4, 2, 3])
        config["top_k_experts"] = pick("experts_used", [2, 1])
        config["moe_intermediate_size"] = pick("expert_ffn", [64, 32, 96] + odd * [48])


def add_gpt_oss(choices, config, odd):
    pick = choices.pick
    config["layer_types"] = layer_types(choices, config["num_hidden_layers"])
    if choices.rarely("alternate", 0.8):  # the only order that GGUF's loaders know
        config["layer_types"] = ["full_attention" if i % 2 else "sliding_attention" for i in range(config["num_hidden_layers"])]
    config["sliding_window"] = pick("window", [8, 64, 3])
    config["attention_bias"], config["tie_word_embeddings"] = True, False
    config["num_local_experts"] = pick("experts", [4, 2, 3])
    config["num_experts_per_tok"] = pick("experts_used", [2, 1])
    config["swiglu_limit"] = 1.0 if choices.rarely("other_limit", 0.2) else 7.0
    if choices.rarely("yarn", 0.5):
        config["rope_scaling"] = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32, "truncate": False}
    config["rope_theta"] = 150000.0


def add_glm4_moe(choices, config, odd):
    pick, rarely = choices.pick, choices.rarely
    config["rope_theta"], config["partial_rotary_factor"] = 1e4, pick("turned", [0.5, 1.0])
    config["attention_bias"] = rarely("attention_bias", 0.5)
    config["use_qk_norm"] = rarely("qk_norm", 0.5)
    config["first_k_dense_replace"] = pick("dense_layers", [1, 0, 2])
    config["n_routed_experts"] = pick("experts", [4, 8, 2])
    config["num_experts_per_tok"] = pick("experts_used", [2, 1])
    config["n_group"] = config["topk_group"] = 1
    config["n_shared_experts"] = pick("shared_experts", [1, 2])
    config["moe_intermediate_size"] = pick("expert_ffn", [64, 32, 96] + odd * [48])
    config["norm_topk_prob"], config["routed_scaling_factor"] = True, pick("routed_scale", [1.0, 2.5])


def add_qwen3_5(choices, config, odd):
    pick = choices.pick
    config["layer_types"] = [pick(f"layer_type_{i}", ["linear_attention", "full_attention"])
                             for i in range(config["num_hidden_layers"])]
    if choices.rarely("usual_order", 0.7):  # GGUF's loaders know every n-th layer with attention
        config["layer_types"] = ["full_attention" if i % 2 else "linear_attention" for i in range(config["num_hidden_layers"])]
    config["linear_num_key_heads"] = keys = pick("key_heads", [2, 1])
    config["linear_num_value_heads"] = keys * pick("values_a_key", [2, 1, 3])
    config["linear_key_head_dim"] = pick("key_dim", [32, 16, 64])
    config["linear_value_head_dim"] = 48 if choices.rarely("other_value_dim", 0.2) else config["linear_key_head_dim"]
    config["linear_conv_kernel_dim"] = pick("kernel", [4, 2])
    config["rope_theta"], config["partial_rotary_factor"] = 1e7, pick("turned", [0.5, 1.0])
    if config["model_type"] == "qwen3_5_moe_text":
        config["num_experts"] = pick("experts", [4, 2, 3])
        config["num_experts_per_tok"] = pick("experts_used", [2, 1])
        config["moe_intermediate_size"] = pick("expert_ffn", [64, 32, 96] + odd * [48])
        config["shared_expert_intermediate_size"] = pick("shared_ffn", [64, 32] + odd * [48])


NEWER = {"gemma4": add_gemma4, "gpt_oss": add_gpt_oss, "glm4_moe": add_glm4_moe, "qwen3_5": add_qwen3_5,
         "qwen3_5_moe": add_qwen3_5}


def newer_shapes(family, config):
    """tensor_shapes of the families in NEWER."""
    hidden, ffn, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    dim = config.get("head_dim", hidden // heads)
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], hidden)}

    def linear(name, rows, columns, bias=False):
        shapes[name + ".weight"] = (rows, columns)
        if bias:
            shapes[name + ".bias"] = (rows,)

    def mlp(name, width):
        linear(f"{name}.gate_proj", width, hidden)
        linear(f"{name}.up_proj", width, hidden)
        linear(f"{name}.down_proj", hidden, width)

    def norms(block, *names):
        for name in names:
            shapes[f"{block}.{name}.weight"] = (hidden,)

    def attention(name, kv_heads, own_dim, bias=False, o_bias=False, parts="qkv", gate=1):
        linear(f"{name}.q_proj", gate * heads * own_dim, hidden, bias)
        for part in parts[1:]:
            linear(f"{name}.{part}_proj", kv_heads * own_dim, hidden, bias)
        linear(f"{name}.o_proj", hidden, heads * own_dim, o_bias)

    layers, kv = config["num_hidden_layers"], config["num_key_value_heads"]
    each = config.get("hidden_size_per_layer_input", 0)
    if family == "gemma4" and each:
        shapes["model.embed_tokens_per_layer.weight"] = (config["vocab_size"], layers * each)
        linear("model.per_layer_model_projection", layers * each, hidden)
        shapes["model.per_layer_projection_norm.weight"] = (each,)
    for i in range(layers):
        block = f"model.layers.{i}"
        kind = config.get("layer_types", ["full_attention"] * layers)[i]
        if family == "gemma4":
            full, shares = kind == "full_attention", i >= layers - config["num_kv_shared_layers"]
            same = full and config["attention_k_eq_v"]
            own_dim = config["global_head_dim"] if full else dim
            own_kv = config["num_global_key_value_heads"] or kv if same else kv
            norms(block, "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm")
            attention(f"{block}.self_attn", own_kv, own_dim, parts="q" if shares else "qk" if same else "qkv")
            for part in "q" if shares else "qk":
                shapes[f"{block}.self_attn.{part}_norm.weight"] = (own_dim,)
            mlp(f"{block}.mlp", 2 * ffn if shares and config["use_double_wide_mlp"] else ffn)
            shapes[f"{block}.layer_scalar"] = (1,)
            if config["enable_moe_block"]:
                experts, width = config["num_experts"], config["moe_intermediate_size"]
                norms(block, "post_feedforward_layernorm_1", "pre_feedforward_layernorm_2", "post_feedforward_layernorm_2")
                linear(f"{block}.router.proj", experts, hidden)
                shapes[f"{block}.router.scale"], shapes[f"{block}.router.per_expert_scale"] = (hidden,), (experts,)
                shapes[f"{block}.experts.gate_up_proj"] = (experts, 2 * width, hidden)
                shapes[f"{block}.experts.down_proj"] = (experts, hidden, width)
            if each:
                linear(f"{block}.per_layer_input_gate", each, hidden)
                linear(f"{block}.per_layer_projection", hidden, each)
                norms(block, "post_per_layer_input_norm")
            continue
        norms(block, "input_layernorm", "post_attention_layernorm")
        if family == "gpt_oss":
            experts = config["num_local_experts"]
            attention(f"{block}.self_attn", kv, dim, True, True)
            shapes[f"{block}.self_attn.sinks"] = (heads,)
            linear(f"{block}.mlp.router", experts, hidden, True)
            shapes[f"{block}.mlp.experts.gate_up_proj"] = (experts, hidden, 2 * ffn)
            shapes[f"{block}.mlp.experts.gate_up_proj_bias"] = (experts, 2 * ffn)
            shapes[f"{block}.mlp.experts.down_proj"] = (experts, ffn, hidden)
            shapes[f"{block}.mlp.experts.down_proj_bias"] = (experts, hidden)
            continue
        if family == "glm4_moe":
            attention(f"{block}.self_attn", kv, dim, config["attention_bias"])
            if config["use_qk_norm"]:
                shapes[f"{block}.self_attn.q_norm.weight"] = shapes[f"{block}.self_attn.k_norm.weight"] = (dim,)
            if i < config["first_k_dense_replace"]:
                mlp(f"{block}.mlp", ffn)
                continue
            experts, width = config["n_routed_experts"], config["moe_intermediate_size"]
            linear(f"{block}.mlp.gate", experts, hidden)
            shapes[f"{block}.mlp.gate.e_score_correction_bias"] = (experts,)
            for e in range(experts):
                mlp(f"{block}.mlp.experts.{e}", width)
            mlp(f"{block}.mlp.shared_experts", width * config["n_shared_experts"])
            continue
        if kind == "linear_attention":
            keys = config["linear_num_key_heads"] * config["linear_key_head_dim"]
            values, count = config["linear_num_value_heads"] * config["linear_value_head_dim"], config["linear_num_value_heads"]
            net = f"{block}.linear_attn"
            for name, rows in (("qkv", 2 * keys + values), ("z", values), ("b", count), ("a", count)):
                linear(f"{net}.in_proj_{name}", rows, hidden)
            shapes[f"{net}.conv1d.weight"] = (2 * keys + values, 1, config["linear_conv_kernel_dim"])
            shapes[f"{net}.A_log"] = shapes[f"{net}.dt_bias"] = (count,)
            shapes[f"{net}.norm.weight"] = (config["linear_value_head_dim"],)
            linear(f"{net}.out_proj", hidden, values)
        else:
            attention(f"{block}.self_attn", kv, dim, gate=2)
            shapes[f"{block}.self_attn.q_norm.weight"] = shapes[f"{block}.self_attn.k_norm.weight"] = (dim,)
        if family == "qwen3_5":
            mlp(f"{block}.mlp", ffn)
            continue
        experts, width = config["num_experts"], config["moe_intermediate_size"]
        linear(f"{block}.mlp.gate", experts, hidden)
        shapes[f"{block}.mlp.experts.gate_up_proj"] = (experts, 2 * width, hidden)
        shapes[f"{block}.mlp.experts.down_proj"] = (experts, hidden, width)
        mlp(f"{block}.mlp.shared_expert", config["shared_expert_intermediate_size"])
        linear(f"{block}.mlp.shared_expert_gate", 1, hidden)
    shapes["model.norm.weight"] = (hidden,)
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (config["vocab_size"], hidden)
    return shapes


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
    if family in NEWER:
        return newer_shapes(family, config)
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

def make_values(choices, shapes, plus_one):
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
        scale = 0.6 / math.sqrt(shape[-1]) if len(shape) > 1 else 0.1
        if name.endswith(("norm.weight", "_1.weight", "_2.weight", "scale", "layer_scalar")):
            middle = 0.0 if plus_one else 1.0
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
    values = make_values(choices, shapes, family in PLUS_ONE)
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
