"""What became of the calls of a process that timed them, by the foreign function they called."""

from __future__ import annotations

import sys
import textwrap
import time
from dataclasses import dataclass
from typing import Any

from hotcall import _api, _facts

MAKERS = ("stub", "interpreter", "ctypes")
"""Who makes calls, in the order of the figures below."""


@dataclass(frozen=True)
class Timed:
    """The calls of one foreign function. Tuples have an entry for each of ``MAKERS``."""

    name: str
    """The name that Python knows it by, or else the one in its library, or else its place."""
    place: str
    """Where it lies: library and symbol, or library and offset, or address."""
    signature: str | None
    """How it is declared; None if that is refused, was never read, or is gone."""
    gil: str | None
    """Who has the GIL during its calls, and why if that was changed; None if that is gone."""
    calls: tuple[int, ...]
    """How many calls each made."""
    whole: tuple[int, ...]
    """Nanoseconds from the entry of a call to its result."""
    inside: tuple[int, ...]
    """Nanoseconds in the foreign function; 0 for ctypes, of which only the whole is known."""
    refusals: tuple[_facts.Refusal, ...]
    """Why ctypes made calls that were not cold."""
    tier: str
    """Who made the newest call."""

    @property
    def total_calls(self) -> int:
        """How many calls were made."""
        return sum(self.calls)

    @property
    def total_time(self) -> int:
        """The nanoseconds of all calls."""
        return sum(self.whole)

    @property
    def inside_time(self) -> int:
        """Nanoseconds in the foreign function, of the calls of which that is known."""
        return sum(self.inside)

    @property
    def around_time(self) -> int:
        """Nanoseconds on the way there and back, of the calls of which that is known."""
        known = self.whole[0] + self.whole[1]
        return max(known - self.inside_time, 0)


@dataclass(frozen=True)
class Report:
    """All calls of the process so far; ``str()`` gives it as text, ``html()`` as a page."""

    timed: bool
    """Whether calls were timed: ``HOTCALL=profile=1``, or ``python -m hotcall --report``."""
    seconds: float
    """How long ago hotcall was imported."""
    functions: tuple[Timed, ...]
    """The foreign functions, those that took the most time first."""
    timeline: tuple[tuple[int, ...], ...]
    """The calls that each of ``MAKERS`` made, from the first to the last bucket of time."""
    bucket_seconds: float
    """The length of one bucket."""
    stats: dict[str, object]
    """The figures of ``hotcall.stats()``."""
    status: _facts.Status
    """What was on."""

    def __str__(self) -> str:
        """A table for people."""
        return "\n".join([*_head(self), *_table(self), *_advice(self), *_tail(self)])

    def html(self) -> str:
        """A page that stands alone: text, tables and plots in one file."""
        from hotcall import _page

        return _page.page(self)


def report() -> Report:
    """What became of the calls of this process so far.

    Calls are timed where ``HOTCALL=profile=1`` was set before hotcall was first used; otherwise
    there are no functions in the report.
    """
    if _api._native is None or _api.status().off:
        empty: dict[str, object] = _api.stats()
        return Report(False, _age(), (), (), 0.0, empty, _api.status())
    native = _api._native.profiled()
    functions = [_timed(one) for one in native["functions"]]
    functions.sort(key=lambda one: (-one.total_time, one.name))
    return Report(
        timed=native["timed"],
        seconds=_age(),
        functions=tuple(functions),
        timeline=tuple(tuple(bucket) for bucket in native["buckets"]),
        bucket_seconds=native["nanoseconds"] / 1e9,
        stats=_api.stats(),
        status=_api.status(),
    )


def _age() -> float:
    return time.monotonic() - _api.STARTED


def _timed(one: dict[str, Any]) -> Timed:
    address, symbol, library = one["address"], one["symbol"], one["library"]
    if library is None:
        place = f"{address:#x}"
    elif symbol is None:
        place = f"{library}+{one['offset']:#x}"
    else:
        place = f"{library}:{symbol}"
    return Timed(
        name=str(one["name"] or _names.get(address) or symbol or place),
        place=place,
        signature=one["signature"],
        gil=one["gil"],
        calls=tuple(one["calls"]),
        whole=tuple(one["whole"]),
        inside=tuple(one["inside"]),
        refusals=tuple(_facts.Refusal(*refusal) for refusal in one["refusals"]),
        tier=str(one["last"]),
    )


def share(part: int, whole: int) -> str:
    """A part of a whole as a percentage; never rounded up to all of it."""
    if not whole:
        return "-"
    percent = 100 * part / whole
    return f"{min(percent, 99.9) if part < whole else percent:.1f} %"


def span(nanoseconds: float) -> str:
    """A time with a unit that suits it."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if nanoseconds >= size:
            return f"{nanoseconds / size:.3g} {unit}"
    return f"{nanoseconds:.0f} ns"


def totals(report: Report) -> tuple[int, ...]:
    """The calls that each of ``MAKERS`` made."""
    return tuple(sum(one.calls[at] for one in report.functions) for at in range(len(MAKERS)))


def extent(report: Report) -> str:
    """How many calls of how many functions were made."""
    functions = _facts.counted(len(report.functions), "foreign function")
    return f"{_facts.counted(sum(totals(report)), 'call')} of {functions}"


def row(one: Timed) -> list[str]:
    """The cells of a function's row, as in ``COLUMNS``."""
    known = one.calls[0] + one.calls[1]
    return [
        one.name,
        str(one.total_calls),
        share(one.calls[0], one.total_calls),
        span(one.total_time),
        span(one.inside_time / known) if known else "-",
        span(one.around_time / known) if known else "-",
        span(one.whole[2] / one.calls[2]) if one.calls[2] else "-",
        one.tier,
    ]


COLUMNS = (
    "function",
    "calls",
    "in stubs",
    "time",
    "inside, each",
    "around, each",
    "by ctypes, each",
    "now",
)
"""The columns of the table of functions."""

MEASURED = (
    "Each call is timed by the clock of the system, from where CPython enters hotcall to the end,"
    " and the foreign function within it; what reading the clock takes is measured and taken off."
    " Of a call that ctypes makes only the whole is known. Times below 20 ns are rough, and calls"
    " within callbacks are counted in the call around them too. A run that is timed is slower than"
    " one that is not."
)

NO_CALLS = "no foreign function was called in this process; calls of its children are not counted"
"""What there is to say of a report without calls."""


def _head(report: Report) -> list[str]:
    if report.status.off:
        return [f"hotcall: off, {report.status.off}"]
    made = totals(report)
    calls = ", ".join(
        f"{count} by {maker}s" if maker == "stub" else f"{count} by {'the ' * (at == 1)}{maker}"
        for at, (maker, count) in enumerate(zip(MAKERS, made, strict=True))
    )
    lines = [f"hotcall: {extent(report)}: {calls}"]
    if report.timed and not sum(made):
        lines = [f"hotcall: {NO_CALLS}"]
    if report.status.stubs_off:
        lines.append(f"stubs are off: {report.status.stubs_off}")
    if not report.timed:
        lines.append(
            "calls were not timed: set HOTCALL=profile=1, or run python -m hotcall --report"
        )
    return lines


def _table(report: Report) -> list[str]:
    if not report.functions:
        return []
    rows = [list(COLUMNS), *(row(one) for one in report.functions)]
    widths = [max(len(cells[at]) for cells in rows) for at in range(len(COLUMNS))]
    aligned = [
        "  ".join(
            cell.ljust(width) if at in (0, len(COLUMNS) - 1) else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        for cells in rows
    ]
    return ["", *(line.rstrip() for line in aligned)]


def _advice(report: Report) -> list[str]:
    refused = [one for one in report.functions if one.refusals]
    if not refused:
        return []
    lines = ["", "calls that ctypes made, and why"]
    for one in refused:
        lines += [f"  {one.name} ({one.place}): {refusal}" for refusal in one.refusals]
    return lines


def gil(report: Report) -> list[str]:
    """What was decided about the GIL, one line each."""
    if report.status.off:
        return []
    by_policy: dict[str, list[str]] = {}
    for one in report.functions:
        if one.gil and one.calls[0] + one.calls[1]:
            by_policy.setdefault(one.gil, []).append(one.name)
    lines = [f"{policy}: {', '.join(names)}" for policy, names in sorted(by_policy.items())]
    stats = report.stats
    lines.append(
        f"taken away while lent {_facts.counted(stats['thefts'], 'time')}, others given a chance"
        f" {_facts.counted(stats['yields'], 'time')}, functions that no longer lend it:"
        f" {stats['demotions']}"
    )
    if report.status.lending_off:
        lines.append(f"not lent: {report.status.lending_off}")
    return lines


def memory(report: Report) -> str:
    """How much code there is, and how much there may be."""
    stats = report.stats
    code = _facts.counted(stats["code_bytes"], "byte")
    stubs = _facts.counted(stats["stubs"], "stub")
    return f"code memory: {code} in {stubs}, of {stats['code_capacity']} that there may be"


def _tail(report: Report) -> list[str]:
    lines = ["", *(f"GIL, {line}" for line in gil(report))]
    lines.append(memory(report))
    if report.timed:
        lines.append("")
        lines += textwrap.wrap(MEASURED, 100)
    return lines


_names: dict[object, str] = {}
"""The names under which functions were looked up in libraries, by address."""


def learn_names() -> None:
    """Have the names of functions noted that ctypes looks up from now on.

    A function need not have a ``__name__``, and the address of one that its library chooses by the
    processor has no symbol of its own.
    """
    import _ctypes

    def note(event: str, arguments: tuple[object, ...]) -> None:
        try:
            library: Any = arguments[0]
            name: Any = arguments[1]
            address = _ctypes.dlsym(library._handle, name)
        except Exception:
            # No such name, or another hook refuses the look-up: it tells ctypes of that itself.
            return
        _names.setdefault(address, str(name))

    if _api._native is not None:
        _api._native.listen("ctypes.dlsym", note)


def write_at_exit(*, to_stderr: bool, page: str | None) -> None:
    """Have the report shown, or written to a file, when this process ends, not a child of it."""
    import atexit
    import os

    # Now: at the end the program may have a module of its own where this one would be found.
    from hotcall import _page

    process = os.getpid()

    def write() -> None:
        if os.getpid() != process:
            return
        made = report()
        if to_stderr and sys.stderr is not None:
            sys.stderr.write(f"\n{made}\n")
        if page is not None:
            with open(page, "w", encoding="utf-8") as file:
                file.write(_page.page(made))

    atexit.register(write)
