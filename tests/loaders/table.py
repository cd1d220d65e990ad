#!/usr/bin/env python3
"""The table of what loads the artifacts: a line for each loader and kind of artifact, from results.csv.

table.py                     prints it
table.py --take FILE         replaces a loader's lines of results.csv with those of FILE
table.py --check README.md   exits with 1 if the file does not hold the table
"""
import csv
import pathlib
import re
import sys

RESULTS = pathlib.Path(__file__).resolve().parent / "results.csv"


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def name_of(row):
    """A loader's name without its version."""
    return re.sub(r"[ (].*", "", row["loader"])


def take(path):
    new = read(path)
    kept = [row for row in read(RESULTS) if name_of(row) != name_of(new[0])] if RESULTS.exists() else []
    with open(RESULTS, "w", newline="") as file:
        writer = csv.DictWriter(file, list(new[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted(kept + new, key=lambda row: name_of(row)))


def kind_of(row):
    """'GPTQ folders', 'compressed-tensors folders, inputs rounded' and their like."""
    artifact = row["artifact"]
    kind = "GGUF files" if artifact.startswith("GGUF") else artifact.split()[0] + " folders"
    rounded = re.match(r"compressed-tensors (FP8|W\dA8|W\dAFP8|NVFP4|MXFP\d)\S*", artifact)
    if rounded and not rounded.group(0).endswith("A16"):
        kind += ", inputs rounded"
    return kind if row["measure"] == "loss" else kind + " of type F32"


def table():
    lines = {}
    for row in read(RESULTS):
        lines.setdefault((row["loader"], kind_of(row), row["measure"]), []).append(row)
    text = ["| loader | artifacts | loaded | largest difference |", "|---|---|---|---|"]
    for (loader, kind, measure), rows in lines.items():
        loaded = [row for row in rows if not row["fault"]]
        worst = max((float(row["difference"]) for row in loaded), default=float("nan"))
        count = str(len(rows)) if len(loaded) == len(rows) else f"{len(loaded)} of {len(rows)}"
        text.append(f"| {loader} | {kind} | {count} | {worst:.2g} ({'loss' if measure == 'loss' else 'a logit'}) |")
    return "\n".join(text) + "\n"


def main():
    if sys.argv[1:2] == ["--take"]:
        take(sys.argv[2])
    elif sys.argv[1:2] == ["--check"]:
        if table() not in pathlib.Path(sys.argv[2]).read_text():
            print(f"{sys.argv[2]} should hold the table of tests/loaders/table.py:\n{table()}")
            return 1
    else:
        print(table(), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
