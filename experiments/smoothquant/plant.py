"""Writes a copy of a model whose blocks' inputs have large channels; its function is the same.

Every 64th entry of the norms before attention and MLP is multiplied by a power of two, and so is every 64th row of v and of up; the
columns that read these channels are divided by it. Large models come with such channels. Only numbers near F16's smallest change, by
rounding.

usage: plant.py MODEL OUT FACTOR
"""

import json
import shutil
import struct
import sys
from pathlib import Path

STEP, FIRST = 64, 5


def planted(name: str, shape: list[int], factor: float, heads: int, key_heads: int) -> list[tuple[int, float]]:
    """Elements of a tensor and what each is multiplied by."""
    part = name.split(".")[-2] if "." in name else name
    if part in ("input_layernorm", "post_attention_layernorm"):
        return [(i, factor) for i in range(FIRST, shape[0], STEP)]
    if part in ("v_proj", "up_proj"):
        return [(r * shape[1] + c, factor) for r in range(FIRST, shape[0], STEP) for c in range(shape[1])] + (
            columns(shape, range(FIRST, shape[1], STEP), 1 / factor))
    if part in ("q_proj", "k_proj", "gate_proj", "down_proj"):
        return columns(shape, range(FIRST, shape[1], STEP), 1 / factor)
    if part == "o_proj":
        size = shape[1] // heads
        large = [h * size + d for h in range(heads) for d in range(size) if (h // (heads // key_heads) * size + d) % STEP == FIRST]
        return columns(shape, large, 1 / factor)
    return []


def columns(shape, which, factor):
    return [(r * shape[1] + c, factor) for r in range(shape[0]) for c in which]


def main(model: Path, out: Path, factor: float) -> None:
    out.mkdir(parents=True)
    for file in model.iterdir():
        if file.name != "model.safetensors":
            shutil.copy(file, out / file.name)
    config = json.loads((model / "config.json").read_text())
    heads = config["num_attention_heads"]
    blob = bytearray((model / "model.safetensors").read_bytes())
    start = 8 + struct.unpack_from("<Q", blob)[0]
    for name, tensor in json.loads(blob[8:start]).items():
        if name == "__metadata__":
            continue
        changes = planted(name, tensor["shape"], factor, heads, config.get("num_key_value_heads", heads))
        if changes and tensor["dtype"] != "F16":
            raise SystemExit(f"{name} is {tensor['dtype']}, not F16")
        begin = start + tensor["data_offsets"][0]
        for element, by in changes:
            at = begin + 2 * element
            struct.pack_into("<e", blob, at, struct.unpack_from("<e", blob, at)[0] * by)
    (out / "model.safetensors").write_bytes(blob)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]))
