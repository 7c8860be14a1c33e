"""The history of the comparison: a CSV file for each Python version, with a row for each call on each date.

All columns but the first four are ratios to the extension: medians of many rounds. It is the one that treats the GIL in
the same way, unless the column says that it holds it.
"""

import csv
from itertools import accumulate

COLUMNS = [
    "date",
    "call",
    "extension_released_ns",
    "extension_held_ns",
    "ctypes_cdll",
    "ctypes_pydll",
    "stub_cdll",
    "stub_pydll",
    "interpreter_cdll",
    "interpreter_pydll",
    "bound_cdll",
    "bound_pydll",
    "stub_cdll_to_held",
    "bound_cdll_to_held",
]


GIL_COLUMNS = [
    "date",
    "contender",
    "ns",
    "caller",
    "spinner",
    "two callers",
    "four callers",
    "wait 50 %",
    "wait 99 %",
    "wait at most",
]
KIND_COLUMNS = ["date", "label", "ctypes_ns", "times_as_fast"]
CALLBACK_COLUMNS = [
    "date",
    "label",
    "extension_ns",
    "pydll_to_extension",
    "cdll_to_extension",
    "pydll_times_as_fast_as_ctypes",
    "cdll_times_as_fast_as_ctypes",
]


def write(path, date, measured):
    """Adds the rows of one run, in place of any of the same date."""
    replace(path, date, COLUMNS, [row_of(date, label, measured) for label in measured.stubs])


def write_kinds(path, date, kinds):
    """Adds what each kind takes, in nanoseconds by ctypes and in times as fast as that, in place of the same date."""
    rows = []
    for label, timed in kinds.items():
        ratio = timed["ctypes"].over(timed["hotcall"]).median
        values = [date, label, f"{timed['ctypes'].least:.1f}", f"{ratio:.2f}"]
        rows.append(dict(zip(KIND_COLUMNS, values, strict=True)))
    replace(path, date, KIND_COLUMNS, rows)


def write_gil(path, date, contenders):
    """Adds what each way with the GIL costs alone, and what becomes of other threads, in place of the same date."""
    rows = []
    for name, gil in contenders.items():
        values = [date, name, f"{gil.alone.least:.1f}", *(f"{gil.others[column]:.0f}" for column in GIL_COLUMNS[3:])]
        rows.append(dict(zip(GIL_COLUMNS, values, strict=True)))
    replace(path, date, GIL_COLUMNS, rows)


def write_callbacks(path, date, callbacks):
    """Adds the ratios of callbacks to the extension, where there is one, and to ctypes, in place of the same date."""
    rows = []
    for label, timed in callbacks.items():
        hot = [timed[f"{gil} hotcall"] for gil in ("held", "released")]
        plain = [timed[f"{gil} ctypes"] for gil in ("held", "released")]
        extension = timed.get("extension")
        own = [f"{extension.least:.1f}", *(f"{time.over(extension).median:.2f}" for time in hot)] if extension else [""] * 3
        faster = [f"{before.over(after).median:.2f}" for before, after in zip(plain, hot, strict=True)]
        rows.append(dict(zip(CALLBACK_COLUMNS, [date, label, *own, *faster], strict=True)))
    replace(path, date, CALLBACK_COLUMNS, rows)


def write_columns(path, date, columns):
    """Adds what an item takes, in nanoseconds, in place of the same date."""
    names = ["date", "label", "contender", "ns"]
    rows = [
        dict(zip(names, [date, label, name, f"{result.least:.2f}"], strict=True))
        for label, timed in columns.items()
        for name, result in timed.items()
    ]
    replace(path, date, names, rows)


def write_warmup(path, date, warmup):
    """Adds what the calls up to each number take, all in all, in microseconds, in place of the same date."""
    names = ["date", "calls", "ctypes_us", "hotcall_us"]
    totals = [accumulate(warmup[name]) for name in ("ctypes", "hotcall")]
    rows = [
        dict(zip(names, [date, calls, f"{plain / 1000:.1f}", f"{hot / 1000:.1f}"], strict=True))
        for calls, plain, hot in zip(warmup["calls"], *totals, strict=True)
    ]
    replace(path, date, names, rows)


def replace(path, date, columns, rows):
    """Puts rows in place of those of the same date."""
    kept = []
    if path.exists():
        with path.open(newline="") as file:
            kept = [old for old in csv.DictReader(file) if old["date"] != str(date)]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept + rows)


def row_of(date, label, measured):
    """The row of one call."""
    stubs, interpreter = measured.stubs[label], measured.interpreter[label]

    def ratio(timed, gil, name, over=None):
        return f"{timed[f'{gil} {name}'].over(timed[f'{over or gil} extension']).median:.2f}"

    values = [date, label, *(f"{stubs[f'{gil} extension'].least:.1f}" for gil in ("released", "held"))]
    for timed, name in ((stubs, "ctypes"), (stubs, "hotcall"), (interpreter, "hotcall"), (stubs, "bound")):
        values += [ratio(timed, gil, name) for gil in ("released", "held")]
    values += [ratio(stubs, "released", name, over="held") for name in ("hotcall", "bound")]
    return dict(zip(COLUMNS, values, strict=True))
