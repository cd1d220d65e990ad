"""Tokenizers, texts and token ids for small models."""
import gzip
import json
import struct

from models import write_safetensors

PROSE = ("The night train left the station a little after nine, and nobody on the platform looked up. "
         "She counted the lamps: one, two, three. Then she closed the book (page 214) and slept. ")
UNICODE = "Größe und Maß — 東京の夜、静かな雨。 😀👩‍👩‍👧 e\u0301 \u00a0 \u200b نص عربي ру́сский 1234567890 \t\r\n"


def byte_alphabet():
    """The characters that byte-level BPE uses for the bytes 0 to 255."""
    kept = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {}, 0
    for byte in range(256):
        if byte in kept:
            table[byte] = chr(byte)
        else:
            table[byte] = chr(256 + extra)
            extra += 1
    return table


def added(id_, content, special=True):
    return {"id": id_, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": special}


def bpe_model(vocab, merges, byte_fallback, unknown):
    return {"type": "BPE", "dropout": None, "unk_token": unknown, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": byte_fallback, "byte_fallback": byte_fallback,
            "ignore_merges": False, "vocab": vocab, "merges": merges}


def byte_level(with_bos):
    """tokenizer.json of a byte-level BPE with a few merges, GPT-2's pre-tokenizer."""
    alphabet = byte_alphabet()
    vocab = {"<|endoftext|>": 0, **{c: i + 1 for i, c in enumerate(alphabet.values())}}
    space = alphabet[32]
    merges = [("t", "h"), ("th", "e"), ("i", "n"), (space, "the"), ("o", "n")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    template = {"type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}},
                           {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [0], "tokens": ["<|endoftext|>"]}}}
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    document = {"version": "1.0", "truncation": None, "padding": None,
                "added_tokens": [added(0, "<|endoftext|>"), added(len(vocab), "<|im_start|>")], "normalizer": None,
                "pre_tokenizer": step, "post_processor": template if with_bos else None, "decoder": step,
                "model": bpe_model(vocab, [f"{a} {b}" for a, b in merges], False, None)}
    return document, len(vocab) + 1


def metaspace(with_bos):
    """tokenizer.json of a BPE with byte fallback, as Llama 2's."""
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2, **{f"<0x{b:02X}>": b + 3 for b in range(256)}}
    for character in "▁etaoinshrdlu":
        vocab[character] = len(vocab)
    merges = [("t", "h"), ("th", "e"), ("▁", "the"), ("i", "n")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    template = {"type": "TemplateProcessing", "pair": [],
                "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
    document = {"version": "1.0", "truncation": None, "padding": None,
                "added_tokens": [added(0, "<unk>"), added(1, "<s>"), added(2, "</s>")],
                "normalizer": {"type": "Sequence", "normalizers": [
                    {"type": "Prepend", "prepend": "▁"},
                    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
                "pre_tokenizer": None, "post_processor": template if with_bos else None,
                "decoder": {"type": "Fuse"},
                "model": bpe_model(vocab, [[a, b] for a, b in merges], True, "<unk>")}
    return document, len(vocab)


def varint(number):
    result = bytearray()
    while True:
        result.append(number & 127 | (128 if number > 127 else 0))
        number >>= 7
        if not number:
            return bytes(result)


def field(number, wire, payload):
    return varint(number << 3 | wire) + (varint(len(payload)) + payload if wire == 2 else payload)


def sentencepiece(algorithm):
    """A tokenizer.model with byte fallback: `algorithm` 1 is unigram, 2 BPE."""
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)]
    pieces += [(f"<0x{b:02X}>", 0.0, 6) for b in range(256)]
    words = ["th", "▁the", "▁t", "in", "▁a", "er", "▁", *"etaoinshrdlucmfwypvbgkjqxz.,"]
    pieces += [(word, -1.0 - i, 1) for i, word in enumerate(words)]
    data = b""
    for text, score, kind in pieces:
        piece = field(1, 2, text.encode()) + field(2, 5, struct.pack("<f", score)) + field(3, 0, varint(kind))
        data += field(1, 2, piece)
    trainer = field(3, 0, varint(algorithm)) + field(35, 0, varint(1)) + field(4, 0, varint(len(pieces)))
    normalizer = field(1, 2, b"identity") + field(3, 0, varint(1)) + field(4, 0, varint(1)) + field(5, 0, varint(1))
    return data + field(2, 2, trainer) + field(3, 2, normalizer), len(pieces)


def make_tokenizer(choices):
    """Files of a tokenizer by name, and the size of its vocabulary; ({}, None) for none."""
    kind = choices.pick("tokenizer", ["none", "byte_level", "metaspace", "sentencepiece_bpe", "sentencepiece_unigram"])
    if kind == "none":
        return kind, {}, None
    config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True,
              "tokenizer_class": "LlamaTokenizer"}
    if kind.startswith("sentencepiece"):
        data, size = sentencepiece(2 if kind.endswith("bpe") else 1)
        files = {"tokenizer.model": data}
        if choices.rarely("no_bos", 0.3):
            config["add_bos_token"] = False
    else:
        bos = not choices.rarely("no_bos", 0.3)
        document, size = byte_level(bos) if kind == "byte_level" else metaspace(bos)
        files = {"tokenizer.json": json.dumps(document, ensure_ascii=False).encode()}
        if kind == "byte_level":
            config = {"eos_token": "<|endoftext|>", "tokenizer_class": "GPT2Tokenizer"}
    if choices.rarely("chat_template", 0.3):
        config["chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
    if not choices.rarely("no_tokenizer_config", 0.2):
        files["tokenizer_config.json"] = json.dumps(config).encode()
    return kind, files, size


# ---- Texts

def zstd_frame(data):
    """A Zstandard frame of raw blocks: no compressor is needed to write one."""
    out = bytearray(b"\x28\xb5\x2f\xfd\xa0" + len(data).to_bytes(4, "little"))
    pieces = [data[i:i + 1000] for i in range(0, len(data), 1000)] or [b""]
    for i, piece in enumerate(pieces):
        last = i == len(pieces) - 1
        out += (len(piece) << 3 | last).to_bytes(3, "little") + piece
    return bytes(out)


def make_text(choices, folder):
    """Writes a text and returns the lines of its source in a job file."""
    body = choices.pick("text", ["prose", "unicode", "short", "empty", "invalid_utf8", "crlf", "nul"], 0.6)
    data = {"prose": (PROSE * 8).encode(), "unicode": ((UNICODE + PROSE) * 6).encode(), "short": b"Hello", "empty": b"",
            "invalid_utf8": (PROSE * 6).encode() + b"\xff\xfe\xc0\x80" + PROSE.encode(),
            "crlf": (PROSE * 8).replace(". ", ".\r\n").encode(), "nul": (PROSE * 6 + "\0\0" + PROSE).encode()}[body]
    kind = choices.pick("text_file", ["txt", "jsonl"])
    extra = ""
    if kind == "jsonl":
        documents = data.decode("utf-8", "surrogateescape").split(". ")
        column = choices.pick("text_column", ["text", "content"])
        lines = [json.dumps({column: d, "other": 1}) for d in documents]
        data = ("\n".join(lines) + "\n").encode()
        extra = f", text_column: {column}" if column != "text" else ""
    elif choices.rarely("split_on", 0.3):
        extra = ', split_on: ". "'
    name = f"text.{kind}"
    packed = choices.pick("compression", ["none", "gz", "zst"], 0.4)
    if packed == "gz":
        data, name = gzip.compress(data, mtime=0), name + ".gz"
    if packed == "zst":
        data, name = zstd_frame(data), name + ".zst"
    (folder / name).write_bytes(data)
    return name, extra


def write_tokens(choices, path, vocab, rows, width):
    dtype = choices.pick("ids_dtype", ["I32", "I64"])
    code = "i" if dtype == "I32" else "q"
    ids = [(7 * i * i + 3 * i + i // 5) % vocab for i in range(rows * width)]
    shape = choices.pick("ids_shape", [[rows, width], [rows * width]])
    write_safetensors(path, {"input_ids": (dtype, shape, struct.pack(f"<{len(ids)}{code}", *ids))})
