#!/usr/bin/env python3
"""Adds a format, a method, a family, a mixer and an error code to a scratch copy of the sources and makes the program.

Each is a copy of the smallest one there is, under another name. Adding it may change at most two of the files that
are there; what is listed must list it afterwards. Exits 1 with the reasons if it does not. Compiles the files that are
new or changed, without optimisation, and links them in front of the libraries of a build of the unchanged sources.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shlex
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
        self.touched = set()  # by all additions, new files too
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
        self.touched.add(path)

    def change(self, path, text):
        (self.folder / path).write_text(text)
        self.changed.add(path)
        self.touched.add(path)

    def insert(self, path, before, line):
        """Into a file that is there, a line above the first that contains `before`."""
        lines = self.text(path).split("\n")
        at = next((i for i, there in enumerate(lines) if before in there), None)
        if at is None:
            sys.exit(f"{path}: no line contains '{before}'; this script must follow the sources")
        lines.insert(at, line)
        self.change(path, "\n".join(lines))


def add_format(tree):
    tree.add("src/formats/dummy.cpp", "src/formats/awq.cpp", {r"awq_format\b": "dummy_format", r'"awq"': '"dummy"'})
    tree.insert("src/formats/formats.cpp", "ROW(awq)", "  ROW(dummy)                \\")


def add_method(tree):
    tree.add("src/quant/dummy.cpp", "src/quant/rtn.cpp", {r"\bkRtn\b": "kDummy", r"\bmake_rtn\b": "make_dummy", r'"rtn"': '"dummy"'})
    methods = "src/quant/methods.cpp"
    tree.change(methods, tree.text(methods).replace("ROW(kRtn)", "ROW(kRtn) ROW(kDummy)"))


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


def run(command, folder):
    made = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if made.returncode != 0:
        sys.exit(f"{shlex.join(map(str, command))}\n{made.stderr[-4000:]}")


def build(tree, torch, built):
    """The program with the additions. A changed header only declares more, so its other readers stay as they are."""
    folder = tree.folder / "build/release"
    run(["cmake", "-S", tree.folder, "-B", folder, "-G", "Ninja", "-DCMAKE_BUILD_TYPE=None", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
         "-DCALQUE_TESTS=OFF", "-DCALQUE_CUDA=OFF", "-DCALQUE_PCH=OFF", f"-DCALQUE_TORCH={'ON' if torch else 'OFF'}"], tree.folder)
    entries = json.loads((folder / "compile_commands.json").read_text())
    wanted = [entry for entry in entries if str(pathlib.Path(entry["file"]).relative_to(tree.folder)) in tree.touched]
    sources = {path for path in tree.touched if path.endswith(".cpp") and (torch or "torch/" not in path and "tensors" not in path)}
    if missing := sources - {str(pathlib.Path(entry["file"]).relative_to(tree.folder)) for entry in wanted}:
        sys.exit(f"the build does not compile {', '.join(sorted(missing))}")
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda entry: run(shlex.split(entry["command"]), folder), wanted))
    outputs = [re.search(r" -o (\S+)", entry["command"]).group(1) for entry in wanted]
    objects = [folder / output for output in outputs if "torch" not in output]
    link = subprocess.run(["ninja", "-C", built, "-t", "commands", "calque"], capture_output=True, text=True, check=True).stdout
    words = [word for word in shlex.split(link.strip().split("\n")[-1]) if word not in (":", "&&")]
    at = words.index("-o")
    program = folder / "calque"
    # An object of the libraries may hold a batch of sources, and so a second definition of what is in front.
    run(words[:1] + ["-Wl,-z,muldefs"] + objects + words[1:at] + ["-o", program] + words[at + 2:], built)
    return program


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
    parser.add_argument("--built", type=pathlib.Path, default=ROOT / "build/release", help="a build of the sources as they are")
    arguments = parser.parse_args()
    faults = []
    with tempfile.TemporaryDirectory(prefix="calque-adding-") as folder:
        tree = Tree(pathlib.Path(folder))
        for kind, add in ADDITIONS.items():
            tree.changed = set()
            add(tree)
            print(f"{kind}: changes {', '.join(sorted(tree.changed))}")
            if len(tree.changed) > MOST_CHANGED:
                faults.append(f"a new {kind} changes {len(tree.changed)} files, more than {MOST_CHANGED}")
        faults += unlisted(build(tree, not arguments.no_torch, arguments.built.resolve()), tree.folder)
    print("\n".join(faults) or "each is added by at most two changes, builds and is listed")
    return 1 if faults else 0


sys.exit(main())
