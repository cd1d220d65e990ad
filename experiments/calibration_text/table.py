#!/usr/bin/env python3
"""The tables of README.md from results.csv: mean KL divergence over the seeds, and its standard error."""

import collections
import csv
import pathlib
import statistics

TEXTS = {"heldout_pride_and_prejudice": "English novel", "code": "C++", "french": "French manual"}
CALIBRATIONS = {"before": "old texts", "builtin": "`builtin`", "prose": "`builtin:prose`", "code": "`builtin:code`"}


def cell(values):
    mean = statistics.mean(values)
    digits = 2 if mean > 0.1 else 4
    if len(values) == 1:
        return f"{mean:.{digits}f}"
    return f"{mean:.{digits}f} ± {statistics.stdev(values) / len(values) ** 0.5:.{digits}f}"


def main():
    found = collections.defaultdict(list)
    with open(pathlib.Path(__file__).parent / "results.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found[row["model"], row["bits"], row["text"], row["calibration"]].append(float(row["kl_mean"]))
    for model, bits in sorted({key[:2] for key in found}):
        print(f"\n{model}, {bits} bits\n\n| held-out text | {' | '.join(CALIBRATIONS.values())} |\n|---|---|---|---|---|")
        for text, name in TEXTS.items():
            cells = [found.get((model, bits, text, c)) for c in CALIBRATIONS]
            print(f"| {name} | {' | '.join(cell(c) if c else '' for c in cells)} |")


if __name__ == "__main__":
    main()
