"""Job files for small models, and the faults that are put into models, texts and job files."""
import json
import re
import struct

import texts
from models import SIZE, to_bytes, write_checkpoint, write_safetensors

GGUF_TYPES = ["Q4_0", "Q8_0", "Q4_K_M", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q2_K_S", "Q3_K_S", "Q3_K_M", "Q3_K_L", "Q4_K_S",
              "Q5_K_S", "Q5_K_M", "Q6_K", "IQ4_NL", "IQ4_XS", "IQ3_S", "TQ1_0", "TQ2_0", "MXFP4", "MXFP4_MOE", "F16", "BF16",
              "F32"]
# Schemes of compressed-tensors, which say bits and group_size.
SCHEMES = ["FP8_DYNAMIC", "FP8", "FP8_BLOCK", "FP8A16", "W8A8", "W8A16", "W4AFP8", "W4A8", "NVFP4", "NVFP4A16", "MXFP4", "MXFP4A16", "MXFP4XFP8", "MXFP8", "MXFP8A16"]
FAMILY_RULES = [r"*.down_proj", r"*.q_proj", r"re:.*\.mlp\.", r"lm_head", "model.layers.0.self_attn.o_proj"]


class Case:
    """Everything of one job: a folder with model, texts, job file; and what is known of it."""

    def __init__(self, choices, folder):
        self.folder = folder
        folder.mkdir(parents=True)
        pick, rarely = choices.pick, choices.rarely
        self.fault = pick("fault", ["none", *FAULTS], 0.4)
        self.tokenizer, files, size = texts.make_tokenizer(choices)
        vocab = size + pick("padded_vocab", [0, 5, 64], 0.3) if size else pick("vocab", [96, 64, 320, 257, 40, 1000])
        self.model = folder / "model"
        self.family, self.config, self.shapes = write_checkpoint(choices, self.model, vocab)
        for name, data in files.items():
            (self.model / name).write_bytes(data)
        if rarely("generation_config", 0.2):
            (self.model / "generation_config.json").write_text('{"eos_token_id": 2}')
        self.vocab = vocab
        self.tokens = folder / "tokens.safetensors"
        texts.write_tokens(choices, self.tokens, vocab, 6, 32)
        self.text = None
        if size:
            self.text, self.text_keys = texts.make_text(choices, folder)
        self.exports = []
        self.job = folder / "job.yaml"
        self.yaml = self.make_job(choices)
        self.imatrix = None
        apply_fault(self, choices)
        self.job.write_text(self.yaml)

    def make_job(self, choices):
        pick, rarely = choices.pick, choices.rarely
        method = pick("method", ["rtn", "gptq", "awq", "smoothquant"])
        count = pick("exports", [1, 2, 3], 0.5)
        formats = [pick(f"export.{i}.format", ["gguf", "gptq", "awq", "compressed-tensors", "mlx"]) for i in range(count)]
        self.scheme = pick("scheme", ["", *SCHEMES], 0.2)
        if self.scheme:
            formats = [form if form == "gguf" else "compressed-tensors" for form in formats]
        # Bits that every one of the folders can store, or any; group sizes that divide every row, or any.
        bits = ([4] if "awq" in formats else [4, 8] if "compressed-tensors" in formats else [4, 8, 3, 2])
        bits += rarely("any_bits", 0.1) * [8, 3, 2, 5]
        sizes = [32, -1, 16, 8] + rarely("any_group_size", 0.1) * [64, 128, 24]
        keys = [f"method: {method}"]
        bits, group_size = pick("bits", bits), pick("group_size", sizes)
        if not self.scheme or "compressed-tensors" not in formats:
            keys += [f"bits: {bits}", f"group_size: {group_size}"]
        preset = pick("preset", ["", "fast", "balanced", "best"], 0.1)
        if preset:
            keys.append(f"preset: {preset}")
        if rarely("asym", 0.2):
            keys.append("sym: false")
        rule = pick("scale_rule", ["auto", "minmax", "full_range", "search", "block_search"], 0.3)
        if rule != "auto":
            keys.append(f"scale_rule: {rule}")
        if method != "rtn":
            keys += self.method_keys(choices, method)
        if rarely("rule", 0.25):
            effect = pick("rule_effect", ["skip: true", "bits: 8", "group_size: 16", "sym: false", "skip: false"])
            keys.append("rules: [{" + f"match: '{pick('rule_match', FAMILY_RULES)}', {effect}, allow_no_match: true" + "}]")
        lines = ["version: 1", "name: hunted", "model: {path: model}", f"quantization: {{{', '.join(keys)}}}"]
        if method != "rtn" or rarely("text_for_rtn", 0.15):
            lines.append(self.calibration(choices))
        lines.append("export:")
        lines += [f"  - {self.export(choices, i, form)}" for i, form in enumerate(formats)]
        lines.append("run_dir: runs/a")
        lines.append("runtime: {threads: 1" + self.runtime(choices) + "}")
        if rarely("evaluate", 0.3):
            lines.append(self.evaluation(choices))
        if rarely("publish", 0.2):
            lines.append("publish: {model_card: false, checksums: " + pick("checksums", ["true", "false"]) + "}")
        return "\n".join(lines) + "\n"

    def method_keys(self, choices, method):
        pick, rarely = choices.pick, choices.rarely
        keys = ["fallback: {max_modules: 1000}", f"refine_passes: {pick('refine', [0, 1, 4])}"]
        if method == "awq":
            keys.append(f"awq: {{n_grid: {pick('n_grid', [3, 1])}, loss: {pick('loss', ['gram', 'output'])}}}")
            if rarely("awq_rtn", 0.4):
                keys.append("rounding: rtn")
        if method == "smoothquant" and rarely("alpha", 0.5):
            keys.append(f"smoothquant: {{alpha: {pick('smooth', [0.8, 0, 1])}}}")
        if rarely("no_act_order", 0.3):
            keys.append("act_order: false")
        if rarely("no_propagation", 0.2):
            keys.append("propagate_error: false")
        correction = pick("correction", ["auto", "1", "0", "0.5"], 0.3)
        if correction != "auto":
            keys.append(f"upstream_correction: {correction}")
        damping = pick("damping", ["", "0", "0.5"], 0.2)
        if damping:
            keys.append(f"damp_percent: {damping}")
        return keys

    def calibration(self, choices):
        pick, rarely = choices.pick, choices.rarely
        keys = [f"n_samples: {pick('n_samples', [2, 1, 4])}", f"seqlen: {pick('seqlen', [16, 8, 32, 4])}"]
        if self.text and rarely("calibrate_on_text", 0.7):
            keys.append("sources: [{path: " + self.text + self.text_keys + "}]")
            packing = pick("packing", ["concat", "truncate", "pad"], 0.4)
            if packing != "concat":
                keys.append(f"packing: {packing}")
            if rarely("no_calibration_bos", 0.2):
                keys.append("add_bos: false")
        else:
            keys.append("tokens: tokens.safetensors")
        if rarely("save_imatrix", 0.2):
            keys.append("save_imatrix: saved-imatrix" + pick("imatrix_kind", [".gguf", ".dat"]))
        return f"calibration: {{{', '.join(keys)}}}"

    def export(self, choices, i, form):
        pick, rarely = choices.pick, choices.rarely
        path = f"out/{i}" + (".gguf" if form == "gguf" else "")
        keys = [f"format: {form}", f"path: {path}"]
        if form == "gguf":
            keys.append(f"type: {pick(f'export.{i}.type', GGUF_TYPES)}")
            if rarely(f"export.{i}.strict_shapes", 0.15):
                keys.append("on_shape_fallback: refuse")
            else:
                keys.append("on_shape_fallback: allow")
            for key, chance in (("embedding_type", 0.15), ("output_type", 0.15)):
                if rarely(f"export.{i}.{key}?", chance):
                    keys.append(f"{key}: {pick(f'export.{i}.{key}', ['Q8_0', 'F16', 'Q4_0', 'Q6_K', 'BF16'])}")
            if rarely(f"export.{i}.mix", 0.15):
                kind = pick(f"export.{i}.mixed", ["Q8_0", "F16", "Q5_1", "Q3_K", "IQ4_XS"])
                keys.append("tensor_types: [{match: 'ffn_down', type: " + kind + "}]")
            if rarely(f"export.{i}.pure", 0.15):
                keys.append("pure: true")
            if rarely(f"export.{i}.split", 0.15):
                keys.append("split_max_size: 50000")
        else:
            if rarely(f"export.{i}.shards", 0.15):
                keys.append("max_shard_size: 50000")
            scale = pick(f"export.{i}.scale_dtype", ["auto", "float16", "bfloat16"], 0.3)
            if scale != "auto":
                keys.append(f"scale_dtype: {scale}")
        if form == "compressed-tensors" and self.scheme:
            keys.append(f"scheme: {self.scheme}")
        if form == "gptq":
            if rarely(f"export.{i}.desc_act", 0.25):
                keys.append("desc_act: true")
            checkpoint = pick(f"export.{i}.checkpoint", ["auto", "gptq", "gptq_v2"], 0.3)
            if checkpoint != "auto":
                keys.append(f"checkpoint_format: {checkpoint}")
        self.exports.append(self.folder / path)
        return f"{{{', '.join(keys)}}}"

    def runtime(self, choices):
        text = ""
        dtype = choices.pick("forward_dtype", ["float32", "auto", "bfloat16"])
        text += f", forward_dtype: {dtype}"
        if choices.rarely("checkpoints", 0.3):
            text += ", checkpoint: block"
        if choices.rarely("max_ram", 0.1):
            text += ", max_ram: 200MiB"
        return text

    def evaluation(self, choices):
        rarely = choices.rarely
        if self.text and rarely("evaluate_text", 0.5):
            # An evaluation reads plain text only.
            source = "text: " + self.text
        else:
            source = "tokens: tokens.safetensors"
        keys = ["texts: [{" + source + "}]", "seqlen: 16", "windows: 2"]
        if rarely("noise_floor", 0.2):
            keys.append("noise_floor: true")
        if rarely("kv_cache", 0.2):
            keys.append("kv_cache: [{k_type: " + choices.pick("k_type", ["fp8", "f16", "q8_0", "q4_0"]) + "}]")
        return f"evaluate: {{{', '.join(keys)}}}"


# ---- Faults

def change_text(old, new):
    """A fault of the job file: `old` becomes `new`."""
    def change(case, _):
        assert old in case.yaml, old
        case.yaml = case.yaml.replace(old, new, 1)
    return change


def set_setting(setting):
    """A fault of the job file: one more setting of `quantization`, and no rules but those in it."""
    def change(case, _):
        case.yaml = re.sub(r", rules: \[\{.*?\}\]", "", case.yaml)
        change_text("quantization: {", "quantization: {" + setting + ", ")(case, _)
    return change


def weights_file(case):
    return sorted(case.model.glob("*.safetensors"))[0]


def edit_weights(edit):
    """A fault of the first weights file: its bytes become edit(bytes)."""
    return lambda case, _: weights_file(case).write_bytes(edit(weights_file(case).read_bytes()))


def edit_header(edit):
    """A fault of the first weights file: `edit` gets its header as a dict, and the name of a matrix."""
    def change(data):
        size = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + size])
        edit(header, next(n for n, t in header.items() if n != "__metadata__" and len(t["shape"]) == 2))
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data[8 + size:]
    return edit_weights(change)


def edit_config(**changes):
    """A fault of config.json: values that change; None removes a key, and a function gets the case."""
    def change(case, _):
        config = json.loads((case.model / "config.json").read_text())
        for key, value in changes.items():
            config.pop(key, None)
            if value is not None:
                config[key] = value(case) if callable(value) else value
        (case.model / "config.json").write_text(json.dumps(config))
    return change


def write_model_file(name, data):
    return lambda case, _: (case.model / name).write_bytes(data)


def put_value(value):
    """A fault of the weights: one element of one tensor."""
    def change(case, choices):
        name = choices.pick("bad_tensor", list(case.shapes))
        for path in sorted(case.model.glob("*.safetensors")):
            data = bytearray(path.read_bytes())
            size = int.from_bytes(data[:8], "little")
            tensor = json.loads(data[8:8 + size]).get(name)
            if tensor is None:
                continue
            width = SIZE[tensor["dtype"]]
            begin, end = (8 + size + offset for offset in tensor["data_offsets"])
            at = begin + (end - begin) // width // 2 * width
            data[at:at + width] = to_bytes([value], tensor["dtype"], clip=False)
            path.write_bytes(bytes(data))
    return change


def calibrate_on(source, name=None, data=None):
    """A fault of the calibration, which becomes `source`; a file of this name is written for it."""
    def change(case, _):
        if name is not None:
            (case.folder / name).write_bytes(data)
        lines = [line for line in case.yaml.splitlines() if not line.startswith("calibration:")]
        length = "" if "seqlen:" in source else "seqlen: 8, "
        lines.insert(3, f"calibration: {{n_samples: 2, {length}{source}}}")
        case.yaml = "\n".join(lines) + "\n"
    return change


def bad_text(name, data):
    return calibrate_on(f"sources: [{{path: {name}}}]", name, data)


def bad_ids(values, dtype="I32", code="i"):
    """A fault of the token ids; values that are functions get the case."""
    def change(case, _):
        ids = [value(case) if callable(value) else value for value in values]
        write_safetensors(case.tokens, {"input_ids": (dtype, [len(ids)], struct.pack(f"<{len(ids)}{code}", *ids))})
        calibrate_on("tokens: tokens.safetensors")(case, _)
    return change


def edit_ids(edit):
    def change(case, _):
        edit(case.tokens)
        calibrate_on("tokens: tokens.safetensors")(case, _)
    return change


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:int(path.stat().st_size * keep)])


def write_the_path_twice(case, _):
    change_text("export:\n", f"export:\n  - {{format: gguf, path: {case.exports[0]}, type: F32}}\n")(case, _)


def occupy(case, _):
    path = case.exports[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".gguf":
        path.write_bytes(b"here")
        (path.parent / f"{path.stem}-00001-of-00002.gguf").write_bytes(b"here")
    else:
        path.mkdir()
        (path / "config.json").write_text("{}")


LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
LONG_TEXT = texts.PROSE.encode() * 40

# Name -> (who must refuse it, what it does). "validate": validate and run; "run": run at the latest, because only the
# values or the text show it; "maybe": nobody has to.
FAULTS = {
    # The model's folder.
    "weights cut in the data": ("validate", lambda case, _: cut(weights_file(case), 0.7)),
    "weights cut in the header": ("validate", edit_weights(lambda data: data[:60])),
    "weights empty": ("validate", edit_weights(lambda data: b"")),
    "weights missing": ("validate", lambda case, _: weights_file(case).unlink()),
    "weights are a pointer": ("validate", edit_weights(lambda data: LFS_POINTER)),
    "header length is huge": ("validate", edit_weights(lambda data: b"\xff" * 8 + data[8:])),
    "bytes after the last tensor": ("maybe", edit_weights(lambda data: data + b"\0" * 64)),
    "tensor missing": ("validate", edit_header(lambda header, name: header.pop(name))),
    "tensor renamed": ("validate", edit_header(lambda header, name: header.update(strange=header.pop(name)))),
    "shape turned": ("maybe", edit_header(lambda header, name: header[name]["shape"].reverse())),
    "shape wrong": ("validate", edit_header(lambda header, name: header[name].update(shape=[3, 5]))),
    "shape negative": ("validate", edit_header(lambda header, name: header[name].update(shape=[-1, 5]))),
    "dtype unknown": ("validate", edit_header(lambda header, name: header[name].update(dtype="Q7"))),
    "offsets past the end": ("validate", edit_header(lambda header, name: header[name].update(data_offsets=[0, 10**12]))),
    "index names a missing shard": ("maybe", write_model_file(
        "model.safetensors.index.json", b'{"weight_map": {"model.norm.weight": "model-00009-of-00009.safetensors"}}')),
    "index is no JSON": ("maybe", write_model_file("model.safetensors.index.json", b'{"weight_map": ')),
    "config missing": ("validate", lambda case, _: (case.model / "config.json").unlink()),
    "config cut": ("validate", lambda case, _: cut(case.model / "config.json", 0.5)),
    "config is a list": ("validate", write_model_file("config.json", b"[]")),
    "architecture unknown": ("validate", edit_config(architectures=["MambaForCausalLM"])),
    "hidden_size missing": ("validate", edit_config(hidden_size=None)),
    "hidden_size is text": ("validate", edit_config(hidden_size="64")),
    "hidden_size is 0": ("validate", edit_config(hidden_size=0)),
    "hidden_size negative": ("validate", edit_config(hidden_size=-64)),
    "heads do not divide": ("validate", edit_config(num_key_value_heads=7)),
    "layers too many": ("validate", edit_config(num_hidden_layers=lambda case: case.config["num_hidden_layers"] + 1)),
    "layers too few": ("maybe", edit_config(num_hidden_layers=1)),
    "layers beyond any model": ("validate", edit_config(num_hidden_layers=10**12)),
    "vocab_size too small": ("validate", edit_config(vocab_size=lambda case: case.vocab - 1)),
    "rope of an unknown type": ("validate", edit_config(rope_parameters=None, rope_scaling={"type": "yarn", "factor": 2})),
    "activation unknown": ("validate", edit_config(hidden_act="relu6", hidden_activation="relu6")),
    "a value is not a number": ("run", put_value(float("nan"))),
    "a value is infinite": ("run", put_value(float("inf"))),
    "tokenizer.json cut": ("maybe", write_model_file("tokenizer.json", b'{"version": "1.0", "model"')),
    "tokenizer.model is garbage": ("maybe", write_model_file("tokenizer.model", b"\x0a\x7f\x01garbage")),
    "tokenizer_config.json is garbage": ("maybe", write_model_file("tokenizer_config.json", b"nothing")),
    "generation_config.json is garbage": ("maybe", write_model_file("generation_config.json", b"[[")),
    "a folder in the place of a file": ("maybe", lambda case, _: (case.model / "special_tokens_map.json").mkdir()),
    # The job file.
    "unknown key": ("validate", change_text("method:", "methode:")),
    "unknown section": ("validate", change_text("run_dir:", "run_folder:")),
    "a number is text": ("validate", change_text("threads: 1", "threads: four")),
    "a truth value is a list": ("validate", set_setting("act_order: [true]")),
    "a number out of range": ("validate", set_setting("damp_percent: 1e9")),
    "key written twice": ("validate", change_text("name: hunted", "name: hunted\nname: twice")),
    "version 2": ("validate", change_text("version: 1", "version: 2")),
    "no version": ("validate", change_text("version: 1\n", "")),
    "YAML is not closed": ("validate", change_text("model: {path: model}", "model: {path: model")),
    "YAML with a tab": ("validate", change_text("name: hunted", "\tname: hunted")),
    "YAML with an anchor": ("validate", change_text("model: {path: model}", "model: &m {path: model}")),
    "YAML with a control character": ("maybe", change_text("name: hunted", "name: hun\x01ted")),
    "job is a list": ("validate", lambda case, _: setattr(case, "yaml", "- version: 1\n")),
    "job is empty": ("validate", lambda case, _: setattr(case, "yaml", "")),
    "no exports": ("validate", lambda case, _: setattr(case, "yaml", re.sub(r"export:\n(  - .*\n)+", "export: []\n", case.yaml))),
    "format unknown": ("validate", change_text("{format: ", "{format: x")),
    "export without path": ("validate", change_text(", path: out/", "} # ")),
    "two exports, one path": ("validate", write_the_path_twice),
    "export is there already": ("validate", occupy),
    "rule matches nothing": ("validate", set_setting("rules: [{match: 'nowhere', skip: true}]")),
    "rule is no pattern": ("validate", set_setting("rules: [{match: 're:(', skip: true}]")),
    "model path missing": ("validate", change_text("model: {path: model}", "model: {path: nowhere}")),
    "run folder is a file": ("run", lambda case, _: (case.folder / "runs").write_text("a file")),
    "export's folder is a file": ("run", lambda case, _: (case.folder / "out").write_text("a file")),
    # Texts and token ids.
    "text missing": ("validate", calibrate_on("sources: [{path: nowhere.txt}]")),
    "text is a folder": ("run", calibrate_on("sources: [{path: model}]")),
    "text empty": ("run", bad_text("empty.txt", b"")),
    "gz damaged": ("run", bad_text("bad.txt.gz", texts.gzip.compress(LONG_TEXT)[:-40])),
    "zst damaged": ("run", bad_text("bad.txt.zst", texts.zstd_frame(LONG_TEXT)[:-40])),
    "jsonl damaged": ("run", bad_text("bad.jsonl", b'{"text": "good"}\n{"text": \n')),
    "jsonl without the key": ("run", bad_text("bad.jsonl", b'{"body": "good"}\n')),
    "ids beyond the vocabulary": ("run", bad_ids([lambda case: case.vocab] * 200)),
    "ids negative": ("run", bad_ids([-1] * 200)),
    "ids are floats": ("run", bad_ids([1.0] * 200, "F32", "f")),
    "ids too few": ("run", bad_ids([1] * 9)),
    "ids missing": ("run", edit_ids(lambda path: path.unlink())),
    "ids cut": ("run", edit_ids(lambda path: cut(path, 0.6))),
    "rows longer than the model": ("validate", calibrate_on("tokens: tokens.safetensors, seqlen: 100000")),
}


def apply_fault(case, choices):
    if case.fault != "none":
        FAULTS[case.fault][1](case, choices)
