#!/usr/bin/env python3
"""Draws error_against_size.svg from results.csv: KL divergence against file size, for llama.cpp's
rounding with an importance matrix and for calque's default. Needs nothing but Python."""
import csv
import math
from pathlib import Path

FOLDER = Path(__file__).parent
TYPES = ["Q2_K", "Q3_K_S", "Q3_K_M", "IQ4_XS", "Q4_K_M", "Q5_K_M", "Q6_K"]
BELOW_4_BITS = {"Q2_K", "Q3_K_S", "Q3_K_M"}  # calque's default corrects upstream errors here
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 48, 52
X_RANGE, Y_RANGE = (2.8, 6.0), (0.0003, 0.06)  # MB; nats
STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #3a3f45; }
  .title { font-weight: 600; font-size: 15px; fill: #1b1f23; }
  .small { font-size: 12px; fill: #626a73; }
  .page { fill: #ffffff; } .grid { stroke: #e3e6e9; }
  .other { stroke: #8a929b; fill: #8a929b; } .calque { stroke: #1769c4; fill: #1769c4; }
  path { fill: none !important; stroke-width: 2; } circle { stroke-width: 0; }
  .label-other { fill: #626a73; } .label-calque { fill: #1769c4; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    text { fill: #c3cad2; } .title { fill: #f0f3f6; } .small { fill: #9aa4ae; }
    .page { fill: #0d1117; } .grid { stroke: #262c33; }
    .other { stroke: #7f8892; fill: #7f8892; } .calque { stroke: #58a6ff; fill: #58a6ff; }
    .label-other { fill: #9aa4ae; } .label-calque { fill: #58a6ff; }
  }
"""


def x_of(megabytes):
    low, high = X_RANGE
    return LEFT + (megabytes - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def y_of(nats):
    low, high = map(math.log, Y_RANGE)
    return TOP + (high - math.log(nats)) / (high - low) * (HEIGHT - TOP - BOTTOM)


def read_points():
    """Per series, (type, megabytes, nats) from the smallest file to the largest."""
    with open(FOLDER / "results.csv", newline="") as file:
        rows = {(row["type"], row["rounding"]): row for row in csv.DictReader(file)}

    def point(name, rounding):
        row = rows[name, rounding]
        return name, int(row["bytes"]) / 1e6, float(row["kl_mean"])

    other = [point(name, "imatrix") for name in TYPES]
    calque = [point(name, "feedback+upstream" if name in BELOW_4_BITS else "feedback") for name in TYPES]
    return other, calque


def line(points, kind):
    path = " L".join(f"{x_of(x):.1f},{y_of(y):.1f}" for _, x, y in points)
    dots = "".join(f'<circle class="{kind}" cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4"/>' for _, x, y in points)
    return f'<path class="{kind}" d="M{path}"/>{dots}'


def text(x, y, words, kind="", anchor="start"):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}" text-anchor="{anchor}">{words}</text>'


def axes():
    parts = []
    for nats in (0.0003, 0.001, 0.003, 0.01, 0.03):
        y = y_of(nats)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(LEFT - 8, y + 4, f"{nats:g}", "small", "end"))
    for megabytes in (3, 3.5, 4, 4.5, 5, 5.5, 6):
        parts.append(text(x_of(megabytes), HEIGHT - BOTTOM + 18, f"{megabytes:g}", "small", "middle"))
    parts.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "file size, MB (same block types, same bytes)", "", "middle"))
    return parts


def main():
    other, calque = read_points()
    parts = [f'<rect class="page" width="{WIDTH}" height="{HEIGHT}"/>',
             text(LEFT, 26, "KL divergence from the original (nats, lower is better), demo model", "title"), *axes(),
             line(other, "other"), line(calque, "calque")]
    for name, x, y in other:
        parts.append(text(x_of(x) + 8, y_of(y) - 7, name, "small"))
    parts.append(text(x_of(other[0][1]) + 62, y_of(other[0][2]) - 7, "llama.cpp, importance matrix", "label-other"))
    parts.append(text(x_of(calque[0][1]) - 4, y_of(calque[0][2]) + 52, "calque", "label-calque"))
    svg = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
           f'role="img" aria-label="KL divergence against file size: calque below llama.cpp with an importance matrix">'
           f"<style>{STYLE}</style>" + "\n".join(parts) + "</svg>\n")
    (FOLDER / "error_against_size.svg").write_text(svg)


if __name__ == "__main__":
    main()
