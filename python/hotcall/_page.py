"""The report as a page that stands alone: no scripts, and nothing that is loaded from elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from hotcall import _facts, _report
from hotcall._report import COLUMNS, MAKERS, MEASURED, Report, Timed, row, share, span, totals

_COLORS = {"stub": "#2a7", "interpreter": "#e9a227", "ctypes": "#c44"}
_INSIDE, _AROUND, _UNKNOWN = "#57a", "#2a7", "#c44"
_MOST_BARS = 25

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #222; margin: 2em auto; max-width: 66em }
table { border-collapse: collapse; margin: 1em 0; font-variant-numeric: tabular-nums }
th, td { padding: .2em .7em; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, th:last-child, td:last-child { text-align: left }
td:first-child small { color: #777; display: block }
svg { width: 100%; height: auto } svg text { font: 12px system-ui, sans-serif; fill: #222 }
.key span { display: inline-block; width: .8em; height: .8em; margin: 0 .3em 0 1em }
p.note { color: #666 }
"""


def page(report: Report) -> str:
    """The whole page."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>hotcall: foreign calls</title>',
        f"<style>{_STYLE}</style></head><body><h1>Foreign calls</h1>",
        *_summary(report),
    ]
    if report.functions:
        parts += [
            *_times(report.functions[:_MOST_BARS]),
            *_makers(report),
            *_over_time(report),
            *_functions(report.functions),
            *_refusals(report.functions),
        ]
    parts += [f"<h2>GIL</h2><ul>{_items(_report.gil(report))}</ul>"]
    parts += [f'<p class="note">{escape(MEASURED)}</p>' if report.timed else "", "</body></html>"]
    return "\n".join(part for part in parts if part) + "\n"


def _items(lines: Iterable[str]) -> str:
    return "".join(f"<li>{escape(line)}</li>" for line in lines)


def _summary(report: Report) -> list[str]:
    made = totals(report)
    lines = [
        f"{_report.extent(report)} in {report.seconds:.2f} s,"
        f" {share(made[0], sum(made))} of them in stubs"
        if sum(made) or not report.timed
        else _report.NO_CALLS,
        _report.memory(report),
        *str(report.status).splitlines(),
    ]
    return [f"<ul>{_items(lines)}</ul>"]


def _key(entries: dict[str, str]) -> str:
    marks = (
        f'<span style="background:{color}"></span>{escape(name)}' for name, color in entries.items()
    )
    return f'<p class="key">{"".join(marks)}</p>'


def _bars(rows: list[tuple[str, list[tuple[float, str, str]]]], most: float) -> str:
    """Horizontal bars: for each a label and its pieces, each a size, a colour and what it says."""
    left, width, height = 210, 690, 22
    out = [f'<svg viewBox="0 0 {left + width + 10} {height * len(rows) + 4}" role="img">']
    for at, (label, pieces) in enumerate(rows):
        top = at * height + 3
        short = label if len(label) <= 30 else label[:29] + "\u2026"
        out.append(f'<text x="{left - 8}" y="{top + 13}" text-anchor="end">{escape(short)}</text>')
        x = float(left)
        for size, color, says in pieces:
            wide = width * size / most if most else 0.0
            if wide > 0:
                out.append(
                    f'<rect x="{x:.1f}" y="{top}" width="{max(wide, 0.3):.1f}"'
                    f' height="{height - 6}" fill="{color}"><title>{escape(says)}</title></rect>'
                )
            x += wide
    return "".join([*out, "</svg>"])


def _times(functions: tuple[Timed, ...]) -> list[str]:
    rows: list[tuple[str, list[tuple[float, str, str]]]] = [
        (
            one.name,
            [
                (one.inside_time, _INSIDE, f"inside {span(one.inside_time)}"),
                (one.around_time, _AROUND, f"around {span(one.around_time)}"),
                (one.whole[2], _UNKNOWN, f"by ctypes {span(one.whole[2])}"),
            ],
        )
        for one in functions
    ]
    key = {
        "in the foreign function": _INSIDE,
        "around it": _AROUND,
        "ctypes made the call": _UNKNOWN,
    }
    most = max((one.total_time for one in functions), default=0)
    return ["<h2>Where the time goes</h2>", _key(key), _bars(rows, most)]


def _makers(report: Report) -> list[str]:
    rows: list[tuple[str, list[tuple[float, str, str]]]] = [
        (
            one.name,
            [
                (count / one.total_calls, _COLORS[maker], f"{maker}: {count} of {one.total_calls}")
                for maker, count in zip(MAKERS, one.calls, strict=True)
            ],
        )
        for one in report.functions[:_MOST_BARS]
    ]
    return ["<h2>Who makes the calls</h2>", _key(_COLORS), _bars(rows, 1.0)]


def _over_time(report: Report) -> list[str]:
    """The share of each maker from the start of the process to its end."""
    buckets = report.timeline
    if len(buckets) < 2:
        return []
    left, width, height = 40, 860, 160
    step = width / len(buckets)
    most = max(sum(bucket) for bucket in buckets)
    out = [f'<svg viewBox="0 0 {left + width + 10} {height + 24}" role="img">']
    for at, bucket in enumerate(buckets):
        base = float(height)
        for maker, count in zip(MAKERS, bucket, strict=True):
            tall = height * count / most
            base -= tall
            if count:
                out.append(
                    f'<rect x="{left + at * step:.1f}" y="{base:.1f}" width="{step:.1f}"'
                    f' height="{tall:.1f}" fill="{_COLORS[maker]}"/>'
                )
    seconds = report.bucket_seconds * len(buckets)
    out.append(f'<text x="{left}" y="{height + 16}">0 s</text>')
    out.append(
        f'<text x="{left + width}" y="{height + 16}" text-anchor="end">{seconds:.3g} s</text>'
    )
    out.append("</svg>")
    heading = "<h2>Calls over time</h2>"
    calls = _facts.counted(most, "call")
    heading += f"<p>At most {calls} in {span(report.bucket_seconds * 1e9)}.</p>"
    return [heading, _key(_COLORS), "".join(out)]


def _functions(functions: tuple[Timed, ...]) -> list[str]:
    out = ["<h2>Functions</h2><table><tr>", *(f"<th>{column}</th>" for column in COLUMNS), "</tr>"]
    for one in functions:
        name, *cells = row(one)
        about = escape(f"{one.place} {one.signature or ''}".strip())
        out.append(f"<tr><td>{escape(name)}<small>{about}</small></td>")
        out += [f"<td>{escape(cell)}</td>" for cell in cells]
        out.append("</tr>")
    return ["".join([*out, "</table>"])]


def _refusals(functions: tuple[Timed, ...]) -> list[str]:
    lines = [f"{one.name}: {refusal}" for one in functions for refusal in one.refusals]
    return [f"<h2>What ctypes made, and why</h2><ul>{_items(lines)}</ul>"] if lines else []
