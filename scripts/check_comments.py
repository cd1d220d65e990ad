#!/usr/bin/env python3
"""Checks two habits of comments and documents. A comment is a sentence with a subject and a verb, so none begins with
"Of", "What", "Whether", "Where", "Which" or "How"; and a document that a comment or another document names exists.
Prints each fault as file:line; exits 1 if there is one. Arguments are the folders to check (default: all)."""
import io
import pathlib
import re
import sys
import tokenize

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ["include", "src", "tests", "scripts", "cmake", "benchmarks", "experiments", "configs"]
SLASHES = {".h", ".cpp", ".cu", ".cuh"}
HASHES = {".py", ".sh", ".cmake", ".yaml", ".yml"}
FRAGMENT = re.compile(r"(Of|What|Whether|Where|Which|How|Who|Whose|Why)\b", re.IGNORECASE)
DOCUMENT = re.compile(r"[\w./-]*\w\.md\b")
# Documents that a run or a publisher writes next to a model, named by the program and not kept in this repository.
WRITTEN = {"README.md", "CHANGELOG.md"}


def slash_comments(text):
    """(line, text, starts a block) of each // comment; quotes are skipped so that URLs in strings do not count."""
    in_block = False
    raw_end = None
    for number, line in enumerate(text.splitlines(), 1):
        if raw_end is not None:
            if raw_end in line:
                raw_end = None
            in_block = False
            continue
        position = comment_position(line)
        if isinstance(position, str):
            raw_end = position
            in_block = False
            continue
        if position is None:
            in_block = False
            continue
        words = line[position:].lstrip("/").strip()
        alone = not line[:position].strip()
        yield number, words, not (alone and in_block)
        in_block = bool(words)  # an empty comment line begins a new paragraph


def comment_position(line):
    """Column of the line's // comment or None; the closing delimiter when a raw string stays open."""
    column = 0
    while column < len(line):
        if line.startswith("//", column):
            return column
        raw = re.match(r'R"([^(]*)\(', line[column:])
        if raw:
            closing = ")" + raw.group(1) + '"'
            end = line.find(closing, column + raw.end())
            if end < 0:
                return closing
            column = end + len(closing)
        elif line[column] == '"' or (line[column] == "'" and not line[column - 1 : column].isalnum()):
            quote = line[column]
            column += 1
            while column < len(line) and line[column] != quote:
                column += 2 if line[column] == "\\" else 1
            column += 1
        else:
            column += 1
    return None


def hash_comments(text):
    """(line, text, starts a block) of each # comment."""
    in_block = False
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r"(.*?)(?:^|(?<=\s))#+(?!!)(.*)", line)
        if not match or match.group(1).count('"') % 2 or match.group(1).count("'") % 2:
            in_block = False
            continue
        words = match.group(2).strip()
        alone = not match.group(1).strip()
        yield number, words, not (alone and in_block)
        in_block = alone and bool(words)


def docstrings(text):
    """(line, text, starts a block) of each string that stands alone as a statement."""
    previous = None
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.STRING and (previous is None or previous in (tokenize.NEWLINE, tokenize.INDENT)):
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, line.lstrip("rf").strip('" '), offset == 0
        if token.type not in (tokenize.NL, tokenize.COMMENT, tokenize.ENCODING):
            previous = token.type


def comments(path):
    if path.suffix not in SLASHES | HASHES | {".md"} and path.name != "CMakeLists.txt":
        return
    text = path.read_text()
    if path.suffix in SLASHES:
        yield from slash_comments(text)
    elif path.suffix in HASHES or path.name == "CMakeLists.txt":
        yield from hash_comments(text)
        if path.suffix == ".py":
            yield from docstrings(text)
    elif path.suffix == ".md":
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line, False


def names_a_document(path, name):
    """True if `name` is a file seen from the repository's root or from the folder of `path`."""
    return (ROOT / name).is_file() or (path.parent / name).is_file() or name in WRITTEN


def faults(folders):
    for folder in folders or FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            where = path.relative_to(ROOT).as_posix()
            if not path.is_file() or path == pathlib.Path(__file__).resolve():
                continue
            for number, words, starts in comments(path):
                fragment = FRAGMENT.match(words) if starts else None
                if fragment:
                    yield f'{where}:{number}: a comment begins with "{fragment.group(1)}": {words[:80]}'
                for name in DOCUMENT.findall(words):
                    if "://" not in words and not names_a_document(path, name):
                        yield f"{where}:{number}: names {name}, which is not in the repository"


def main():
    found = list(faults(sys.argv[1:]))
    print("\n".join(found) or "comments are sentences, and the documents they name exist")
    return 1 if found else 0


sys.exit(main())
