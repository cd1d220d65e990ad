"""Looks for values that are no numbers in files that calque wrote. Reads the containers by itself."""
import array
import json
import struct


def bad_half(data):
    """True if some fp16 of these little-endian bytes is infinite or not a number."""
    return any(high & 0x7C == 0x7C for high in set(data[1::2]))


def bad_bf16(data):
    if not any(high & 0x7F == 0x7F for high in set(data[1::2])):
        return False
    return any(value & 0x7F80 == 0x7F80 for value in array.array("H", data))


def bad_float(data):
    if not any(high & 0x7F == 0x7F for high in set(data[3::4])):
        return False
    return any(value & 0x7F800000 == 0x7F800000 for value in array.array("I", data))


CHECKS = {"F16": bad_half, "BF16": bad_bf16, "F32": bad_float}


def non_finite_in_safetensors(path):
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    for name, tensor in json.loads(data[8:8 + size]).items():
        if name == "__metadata__" or tensor["dtype"] not in CHECKS:
            continue
        begin, end = (8 + size + offset for offset in tensor["data_offsets"])
        if CHECKS[tensor["dtype"]](data[begin:end]):
            return f"{path.name}: {name} ({tensor['dtype']})"
    return None


# Type number -> (name, weights of a block, its bytes, places of its fp16 scales).
BLOCKS = {
    2: ("Q4_0", 32, 18, [0]), 3: ("Q4_1", 32, 20, [0, 2]), 6: ("Q5_0", 32, 22, [0]), 7: ("Q5_1", 32, 24, [0, 2]),
    8: ("Q8_0", 32, 34, [0]), 10: ("Q2_K", 256, 84, [80, 82]), 11: ("Q3_K", 256, 110, [108]),
    12: ("Q4_K", 256, 144, [0, 2]), 13: ("Q5_K", 256, 176, [0, 2]), 14: ("Q6_K", 256, 210, [208]),
    20: ("IQ4_NL", 32, 18, [0]), 23: ("IQ4_XS", 256, 136, [0]), 34: ("TQ1_0", 256, 54, [52]),
    35: ("TQ2_0", 256, 66, [64]), 39: ("MXFP4", 32, 17, []),
}
PLAIN = {0: ("F32", 4), 1: ("F16", 2), 30: ("BF16", 2)}


def bad_blocks(kind, data):
    name, _, size, scales = BLOCKS[kind]
    if name == "MXFP4":
        return 255 in data[0::17]
    return any(high & 0x7C == 0x7C for place in scales for high in set(data[place + 1::size]))


class Cursor:
    def __init__(self, data):
        self.data, self.at = data, 0

    def read(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        size = self.read("Q")
        self.at += size
        return self.data[self.at - size:self.at].decode()

    def value(self, kind):
        codes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
        if kind == 8:
            return self.string()
        if kind == 9:
            element, count = self.read("I"), self.read("Q")
            return [self.value(element) for _ in range(count)]
        return self.read(codes[kind])


def non_finite_in_gguf(path):
    cursor = Cursor(path.read_bytes())
    assert cursor.data[:4] == b"GGUF"
    cursor.at = 8
    tensors, keys = cursor.read("Q"), cursor.read("Q")
    alignment = 32
    for _ in range(keys):
        key = cursor.string()
        value = cursor.value(cursor.read("I"))
        alignment = value if key == "general.alignment" else alignment
        if isinstance(value, float) and (value != value or abs(value) == float("inf")):
            return f"{path.name}: key {key}"
    infos = []
    for _ in range(tensors):
        name = cursor.string()
        shape = [cursor.read("Q") for _ in range(cursor.read("I"))]
        infos.append((name, shape, cursor.read("I"), cursor.read("Q")))
    start = -(-cursor.at // alignment) * alignment
    for name, shape, kind, offset in infos:
        count = 1
        for extent in shape:
            count *= extent
        if kind in PLAIN:
            type_name, size = PLAIN[kind]
            data = cursor.data[start + offset:start + offset + count * size]
            bad = CHECKS[type_name](data)
        else:
            type_name, block, size, _ = BLOCKS[kind]
            data = cursor.data[start + offset:start + offset + count // block * size]
            bad = bad_blocks(kind, data)
        if bad:
            return f"{path.name}: {name} ({type_name})"
    return None


def weight_files(path):
    """The files of an artifact that hold weights: of a folder, or of a GGUF file that may be split."""
    if path.is_dir():
        return sorted(path.glob("*.safetensors"))
    if path.exists():
        return [path]
    return sorted(path.parent.glob(path.stem + "-*-of-*.gguf"))


def non_finite_in(path):
    for file in weight_files(path):
        found = non_finite_in_gguf(file) if file.suffix == ".gguf" else non_finite_in_safetensors(file)
        if found:
            return found
    return None


def contents(path):
    """Name -> bytes of every file of an artifact that does not tell when and how long the run was."""
    if not path.is_dir():
        return {file.name: file.read_bytes() for file in weight_files(path)}
    spoken = {"README.md", "SHA256SUMS"}
    return {str(f.relative_to(path)): f.read_bytes() for f in sorted(path.rglob("*"))
            if f.is_file() and f.name not in spoken and "calque" not in f.relative_to(path).parts[:-1]}


def numbers_of_json(text):
    """Parses JSON; NaN and Infinity, which JSON does not have, are a ValueError."""
    def refuse(constant):
        raise ValueError(f"the JSON holds {constant}")
    return json.loads(text, parse_constant=refuse)
