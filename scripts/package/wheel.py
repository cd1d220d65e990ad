#!/usr/bin/env python3
"""Packs an installed tree (components program and libraries) as a Python wheel: wheel.py TREE FOLDER

pip puts the tree into the environment as it is: bin/calque, lib/calque, share/calque, share/man. The wheel has no other
Python code than the module calque, for `python -m calque`. Its platform tag is the oldest glibc that has every symbol
which the binaries ask for, read from them.
"""
import base64
import hashlib
import pathlib
import re
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
# Libraries that a manylinux system has: glibc's. Everything else must be in the tree.
OF_THE_SYSTEM = re.compile(r"(ld-linux-x86-64|lib(c|m|dl|rt|pthread|resolv))\.so\.\d+")
SUMMARY = "Quantizes language models: GGUF files, and GPTQ, AWQ and compressed-tensors folders"


def version():
    return re.search(r"project\(calque VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text()).group(1)


def files_of(tree):
    """(path in the tree, file) of what goes in. Of a library and its links only the name that programs load."""
    linked = {path.resolve() for path in tree.rglob("*") if path.is_symlink()}
    for path in sorted(tree.rglob("*")):
        if path.is_file() and (path.is_symlink() or path.resolve() not in linked):
            yield path.relative_to(tree).as_posix(), path


def is_elf(file):
    with open(file, "rb") as stream:
        return stream.read(4) == b"\x7fELF"


def platform_tag(binaries):
    """manylinux_2_N of the newest GLIBC_2.N in the binaries. Refuses libraries that nobody brings."""
    names = {name.rsplit("/", 1)[-1] for name, _ in binaries}
    newest = 0
    for name, file in binaries:
        dynamic = subprocess.run(["readelf", "--dynamic", "--version-info", "--wide", file], check=True, capture_output=True,
                                 text=True).stdout
        for needed in re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic):
            if needed not in names and not OF_THE_SYSTEM.fullmatch(needed):
                sys.exit(f"error: {name} needs {needed}, which is not in the tree")
        newest = max([newest, *map(int, re.findall(r"GLIBC_2\.(\d+)", dynamic))])
    return f"manylinux_2_{newest}_x86_64"


def metadata(licences):
    readme = (ROOT / "scripts/package/pypi.md").read_text()
    head = [
        "Metadata-Version: 2.4", "Name: calque", f"Version: {version()}", f"Summary: {SUMMARY}",
        "License-Expression: Apache-2.0", *(f"License-File: {name}" for name in licences), "Requires-Python: >=3.8",
        "Keywords: quantization,gguf,gptq,awq,llm", "Classifier: Environment :: Console",
        "Classifier: Operating System :: POSIX :: Linux", "Classifier: Programming Language :: C++",
        "Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence", "Description-Content-Type: text/markdown",
    ]
    return "\n".join(head) + "\n\n" + readme


class Wheel:
    """A wheel that is being written. The same files give the same bytes."""

    def __init__(self, folder, tag):
        self.info = f"calque-{version()}.dist-info"
        self.path = folder / f"calque-{version()}-py3-none-{tag}.whl"
        self.zip = zipfile.ZipFile(self.path, "w", zipfile.ZIP_DEFLATED, compresslevel=9)
        self.record = []

    def add(self, name, data, executable=False):
        entry = zipfile.ZipInfo(name, (2026, 1, 1, 0, 0, 0))
        entry.external_attr = (0o100755 if executable else 0o100644) << 16
        entry.compress_type = zipfile.ZIP_DEFLATED
        self.zip.writestr(entry, data)
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        self.record.append(f"{name},sha256={digest},{len(data)}\n")

    def close(self):
        name = f"{self.info}/RECORD"
        self.add(name, ("".join(self.record) + f"{name},,\n").encode())
        self.zip.close()


def main():
    tree, folder = map(pathlib.Path, sys.argv[1:])
    files = dict(files_of(tree))
    tag = platform_tag([(name, file) for name, file in files.items() if is_elf(file)])
    wheel = Wheel(folder, tag)
    for name in ("__init__.py", "__main__.py"):
        wheel.add(f"calque/{name}", (ROOT / "scripts/package/python" / name).read_bytes())
    licences = {"LICENSE": files.pop("share/doc/calque/LICENSE")}
    for name in [name for name in files if name.startswith("share/doc/calque/licences/")]:
        licences[name.removeprefix("share/doc/calque/")] = files.pop(name)
    for name, file in files.items():
        if name == "bin/calque":
            wheel.add(f"calque-{version()}.data/scripts/calque", file.read_bytes(), executable=True)
        else:
            wheel.add(f"calque-{version()}.data/data/{name}", file.read_bytes())
    for name, file in licences.items():
        wheel.add(f"{wheel.info}/licenses/{name}", file.read_bytes())
    wheel.add(f"{wheel.info}/METADATA", metadata(licences).encode())
    wheel.add(f"{wheel.info}/WHEEL",
              f"Wheel-Version: 1.0\nGenerator: calque {version()}\nRoot-Is-Purelib: false\nTag: py3-none-{tag}\n".encode())
    wheel.close()
    print(wheel.path)


if __name__ == "__main__":
    main()
