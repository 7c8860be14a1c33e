"""Draws the comparison with peers from its records: `picture.py FOLDER` writes peers.svg beside the CSV files, and
`picture.py --check FOLDER` tells whether it is what they give.

The picture shows, for each contender, the geometric mean of its times as multiples of the extension module that was
written by hand and holds the GIL, on a logarithmic scale. It is a function of the newest records alone.
"""

import csv
import math
import statistics
import sys
from pathlib import Path
from xml.sax.saxutils import escape

VERSIONS = ("3.11", "3.13")
SHOWN = [
    "hotcall, bound", "hotcall", "extension, GIL held", "Cython", "nanobind", "PyO3", "pybind11", "extension, GIL released",
    "cffi, API mode", "cffi, ABI mode", "ctypes",
]  # fmt: skip
BASE = "extension, GIL held"
WIDTH, LEFT, RIGHT, TOP, BAR, GAP = 860, 190, 60, 92, 13, 12
LOWEST, HIGHEST = 0.5, 32
STYLE = """
text { font: 13px sans-serif; fill: #57606a } .title { font-size: 16px; font-weight: bold; fill: #24292f }
.name { text-anchor: end } .own { font-weight: bold; fill: #24292f } .tick { text-anchor: middle; font-size: 11px }
.value { font-size: 11px } line { stroke: #d0d7de } .base { stroke: #57606a; stroke-dasharray: 4 3 }
.old { fill: #9aa4b2 } .new { fill: #57606a } .own-old { fill: #7cb3f2 } .own-new { fill: #1f6feb }
@media (prefers-color-scheme: dark) {
  text { fill: #9198a1 } .title, .own { fill: #f0f6fc } line { stroke: #3d444d } .base { stroke: #9198a1 }
  .old { fill: #4b5563 } .new { fill: #8b949e } .own-old { fill: #1f4f8f } .own-new { fill: #4493f8 }
}"""


def means(path):
    """The geometric mean of the newest ratios by contender."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    newest = max(row["date"] for row in rows)
    rows = [row for row in rows if row["date"] == newest]
    ratios = {name: [float(row[name]) for row in rows if row.get(name)] for name in SHOWN}
    return {name: statistics.geometric_mean(values) for name, values in ratios.items() if values}, len(rows)


def x(ratio):
    """Where a ratio lies from left to right."""
    share = math.log(ratio / LOWEST) / math.log(HIGHEST / LOWEST)
    return LEFT + share * (WIDTH - LEFT - RIGHT)


def text(at, y, content, kind):
    return f'<text x="{at:.0f}" y="{y:.0f}" class="{kind}">{escape(content)}</text>'


def bar(y, ratio, kind):
    """A bar with its figure."""
    return [
        f'<rect x="{LEFT}" y="{y}" width="{x(ratio) - LEFT:.1f}" height="{BAR}" rx="2" class="{kind}"/>',
        text(x(ratio) + 5, y + BAR - 2, f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}", "value"),
    ]


def legend(y):
    parts = []
    for index, (version, kind) in enumerate(zip(VERSIONS, ("old", "new"), strict=True)):
        at = LEFT + index * 130
        parts.append(f'<rect x="{at}" y="{y - 10}" width="12" height="12" rx="2" class="{kind}"/>')
        parts.append(text(at + 18, y, f"CPython {version}", "value"))
    return parts


def draw(folder):
    """The picture as SVG."""
    measured = [means(folder / f"peers-{version}.csv") for version in VERSIONS]
    functions = measured[0][1]
    names = [name for name in SHOWN if any(name in found for found, _ in measured)]
    row = 2 * BAR + GAP
    height = TOP + len(names) * row + 40
    bottom = height - 34
    parts = [
        text(20, 28, "The cost of a foreign call", "title"),
        text(20, 48, f"Geometric mean of {functions} functions, as multiples of an extension module written by hand", ""),
        text(20, 64, "that holds the GIL; shorter is better, and the scale is logarithmic", ""),
        *legend(84),
    ]
    for power in range(-1, 6):
        ratio = 2**power
        kind = "base" if ratio == 1 else ""
        parts.append(f'<line x1="{x(ratio):.1f}" x2="{x(ratio):.1f}" y1="{TOP}" y2="{bottom}" class="{kind}"/>')
        parts.append(text(x(ratio), bottom + 16, f"{ratio:g}", "tick"))
    for index, name in enumerate(names):
        y = TOP + 4 + index * row
        own = name.startswith("hotcall")
        parts.append(text(LEFT - 10, y + BAR + 4, name, "name own" if own else "name"))
        for place, ((found, _), kind) in enumerate(zip(measured, ("old", "new"), strict=True)):
            if name in found:
                parts += bar(y + place * BAR, found[name], f"own-{kind}" if own else kind)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    title = "<title>The cost of a foreign call by hotcall, extension modules and other ways to call C from Python</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", *parts, "</svg>", ""])


def main():
    folder = Path(sys.argv[-1])
    picture, drawn = folder / "peers.svg", draw(folder)
    if "--check" not in sys.argv:
        picture.write_text(drawn)
    elif picture.read_text() != drawn:
        sys.exit(f"error: {picture} is not what the records give; draw it anew with {Path(__file__).name} {folder}")


if __name__ == "__main__":
    main()
