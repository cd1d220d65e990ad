#!/usr/bin/env python3
"""Adds a format, a method, a family, a mixer and an error code to a scratch copy of the sources and builds the program.

Each is a copy of the smallest one there is, under another name. Adding it may change at most two of the files that
are there; what is listed must list it afterwards. Exits 1 with the reasons if it does not. Builds the program
without optimisation, in a minute or two.
"""
import argparse
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILT = ["CMakeLists.txt", "CMakePresets.json", "LICENSE", "scripts", "src", "include"]
MOST_CHANGED = 2


class Tree:
    """A scratch copy; remembers what the addition that is being made has changed."""

    def __init__(self, folder):
        self.folder = folder
        self.changed = set()
        for name in BUILT:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)

    def text(self, path):
        return (self.folder / path).read_text()

    def add(self, path, like, words):
        """A new file: `like` with its words replaced."""
        text = self.text(like)
        for old, new in words.items():
            text = re.sub(old, new, text)
        (self.folder / path).parent.mkdir(exist_ok=True)
        (self.folder / path).write_text(text)

    def insert(self, path, before, line):
        """Into a file that is there, a line above the first that contains `before`."""
        lines = self.text(path).split("\n")
        at = next((i for i, there in enumerate(lines) if before in there), None)
        if at is None:
            sys.exit(f"{path}: no line contains '{before}'; this script must follow the sources")
        lines.insert(at, line)
        (self.folder / path).write_text("\n".join(lines))
        self.changed.add(path)


def add_format(tree):
    tree.add("src/formats/dummy.cpp", "src/formats/awq.cpp", {r"awq_format\b": "dummy_format", r'"awq"': '"dummy"'})
    tree.insert("src/formats/formats.cpp", "ROW(awq)", "  ROW(dummy)                \\")


def add_method(tree):
    tree.add("src/quant/dummy.cpp", "src/quant/rtn.cpp", {r"\bkRtn\b": "kDummy", r"\bmake_rtn\b": "make_dummy", r'"rtn"': '"dummy"'})
    methods = "src/quant/methods.cpp"
    (tree.folder / methods).write_text(tree.text(methods).replace("ROW(kRtn)", "ROW(kRtn) ROW(kDummy)"))
    tree.changed.add(methods)


def add_family(tree):
    tree.add("src/model/families/dummy.cpp", "src/model/families/mistral.cpp", {r"\bmistral_family\b": "dummy_family"})
    tree.insert("src/model/families/families.h", "FamilySpec mistral_family", "FamilySpec dummy_family(const ModelConfig& config);")
    tree.insert("src/model/families.cpp", '{"MistralForCausalLM"', '      {"DummyForCausalLM", "dummy", "dummy", dummy_family},')


def add_mixer(tree):
    words = {r"mixers/mlp/": "mixers/dummy/", r"\bMlp": "Dummy", r"\bActivation\b": "DummyActivation", r"\bmlp_half\b": "dummy_half",
             r"\bmake_mlp\b": "make_dummy", r"\bmake_tensor_mlp\b": "make_tensor_dummy", r'"mlp"': '"dummy"', r"\bgated": "dummy_gated"}
    for file in sorted((ROOT / "src/mixers/mlp").iterdir()):
        tree.add(f"src/mixers/dummy/{file.name}", f"src/mixers/mlp/{file.name}", words)
    tree.insert("src/forward/cpu/mixers.cpp", '#include "mixers/mlp/cpu.h"', '#include "mixers/dummy/cpu.h"')
    tree.insert("src/forward/cpu/mixers.cpp", "{model::Mlp::kKind", "      {model::Dummy::kKind, make_dummy<T>},")
    tree.insert("src/forward/torch/tensor_mixer.cpp", '#include "mixers/mlp/tensors.h"', '#include "mixers/dummy/tensors.h"')
    tree.insert("src/forward/torch/tensor_mixer.cpp", "{model::Mlp::kKind", "      {model::Dummy::kKind, make_tensor_dummy},")


def add_error(tree):
    tree.insert("src/core/error_table.cpp", '{"E401"', '    {"E399", 3, "A dummy is missing.", "", "Add one."},')
    tree.insert("src/model/families.cpp", "if (const FamilyInfo* info = find_family(config.architecture))",
                '  if (config.architecture == "MissingDummy") throw Error(ErrorKind::kInput, "E399", "no dummy");')


ADDITIONS = {"format": add_format, "method": add_method, "family": add_family, "mixer": add_mixer, "error code": add_error}


def build(tree, torch):
    configure = ["cmake", "-S", tree.folder, "-B", tree.folder / "build/release", "-G", "Ninja", "-DCMAKE_BUILD_TYPE=None",
                 "-DCALQUE_TESTS=OFF", "-DCALQUE_CUDA=OFF", f"-DCALQUE_TORCH={'ON' if torch else 'OFF'}"]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    made = subprocess.run(["ninja", "-C", tree.folder / "build/release"], capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit("\n".join(line for line in made.stdout.split("\n") if "error" in line) or made.stdout[-2000:])
    return tree.folder / "build/release/calque"


def unlisted(program, folder):
    """The names that the program should list but does not."""
    def said(*arguments):
        run = subprocess.run([program, *arguments], capture_output=True, text=True)
        return run.stdout + run.stderr

    schema = said("schema")
    for place, expected in (("calque schema: quantization.method", r"`method` [^\n]*\bdummy\b"),
                            ("calque schema: export.format", r"`format` [^\n]*\bdummy\b")):
        if not re.search(expected, schema):
            yield f"{place} does not list it"
    if "Add one." not in said("explain", "E399"):
        yield "calque explain E399 does not know it"
    model = folder / "model"
    model.mkdir()
    config = (ROOT / "tests/fixtures/families/llama/config.json").read_text()
    (model / "config.json").write_text(config.replace("LlamaForCausalLM", "UnknownForCausalLM"))
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    job = folder / "job.yaml"
    job.write_text("version: 1\nmodel: {path: model}\ncalibration: {sources: [{path: text.txt}], n_samples: 1, seqlen: 8}\n"
                   "quantization: {method: rtn}\nexport: [{format: gptq, path: out}]\n")
    if "DummyForCausalLM" not in said("validate", str(job)):
        yield f"the list of families does not have it: {said('validate', str(job))}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--no-torch", action="store_true", help="without the plug-in for GPUs")
    torch = not parser.parse_args().no_torch
    faults = []
    with tempfile.TemporaryDirectory(prefix="calque-adding-") as folder:
        tree = Tree(pathlib.Path(folder))
        for kind, add in ADDITIONS.items():
            tree.changed = set()
            add(tree)
            print(f"{kind}: changes {', '.join(sorted(tree.changed))}")
            if len(tree.changed) > MOST_CHANGED:
                faults.append(f"a new {kind} changes {len(tree.changed)} files, more than {MOST_CHANGED}")
        faults += unlisted(build(tree, torch), tree.folder)
    print("\n".join(faults) or "each is added by at most two changes, builds and is listed")
    return 1 if faults else 0


sys.exit(main())
