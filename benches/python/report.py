"""What was measured on one Python version, as tables, and the targets with what became of each."""

import statistics
import sys
from dataclasses import dataclass

from cases import CASES
from timing import Ratio, Result

GILS = {"released": "CDLL, the GIL is released", "held": "PyDLL, the GIL is held"}
SIMPLE = [case.label for case in CASES if case.simple]


@dataclass(frozen=True)
class Measured:
    """The results of all measuring programs, by label of what was called and by name of the contender."""

    stubs: dict
    sizes: dict
    """Bytes of code by label."""
    interpreter: dict
    cold: dict
    compiling: dict
    """Nanoseconds, and bytes, by name."""
    gil: dict
    """A `Gil` by contender."""
    kinds: dict
    callbacks: dict
    columns: dict
    warmup: dict
    """The numbers of calls at the end of blocks, and the nanoseconds of each block by contender."""


@dataclass(frozen=True)
class Gil:
    """What one way with the GIL costs, and what becomes of other threads."""

    alone: Result
    others: dict
    """Rates a second, and waiting times in microseconds, by name."""


def show(measured):
    """Prints everything."""
    print("Nanoseconds a call are the minimum of many alternated rounds, with the time of an empty loop subtracted.")
    print("Ratios are the median of the ratios in each round and, in brackets, the ratio of the minima.")
    for gil, title in GILS.items():
        show_stubs(measured, gil, title)
    show_interpreter(measured)
    show_cold(measured)
    show_gil(measured.gil)
    show_kinds(measured.kinds)
    show_callbacks(measured.callbacks)
    show_columns(measured.columns)
    show_warmup(measured.warmup)
    show_targets(measured)


def show_stubs(measured, gil, title):
    print(f"\n{title}; ratios to the extension that does the same")
    columns = ("extension", "ctypes", "hotcall", "bound")
    print(f"{'':24} {''.join(f'{name:>11}' for name in columns)}   {'ctypes':>14} {'hotcall':>12} {'bound':>12} {'bytes':>7}")
    for label, timed in measured.stubs.items():
        extension, *others = results = [timed[f"{gil} {name}"] for name in columns]
        times = " ".join(f"{result.least:7.1f} ns" for result in results)
        plain, hot, bound = (other.over(extension) for other in others)
        size = measured.sizes[label] if gil == "released" else ""
        print(f"{label:24} {times}   {plain!s:>14} {hot!s:>12} {bound!s:>12} {size:>7}")
    means = [geometric_mean(stub_ratios(measured, gil, name).values()) for name in columns[1:]]
    print(f"{'geometric mean':71} {means[0]!s:>14} {means[1]!s:>12} {means[2]!s:>12}")


def show_gil(contenders):
    """Costs of one short call by who has the GIL, alone; then a second of it beside other threads."""
    held, names = contenders["extension, held"].alone, next(iter(contenders.values())).others
    print("\nThe GIL around `int negate(int)`: alone, with the ratio to the extension that holds it; then beside other threads:")
    print("thousand turns a second of the caller and of a spinning thread, of two and of four callers together;")
    print("and by how many microseconds a thread that sleeps for 1 ms had the GIL too late")
    print(f"{'':20} {'alone':>10} {'ratio':>12}  " + " ".join(f"{name:>12}" for name in names))
    for name, gil in contenders.items():
        figures = [value if key.startswith("wait") else value / 1000 for key, value in gil.others.items()]
        print(f"{name:20} {gil.alone.least:7.1f} ns {gil.alone.over(held)!s:>12}  " + " ".join(f"{f:12.0f}" for f in figures))


def show_kinds(kinds):
    print("\nKinds of arguments and results, what is around calls, and many shapes; ratios are times as fast as ctypes")
    print(f"{'':26} {'ctypes':>10} {'hotcall':>10} {'':>12}")
    for label, timed in kinds.items():
        plain, hot = timed["ctypes"], timed["hotcall"]
        print(f"{label:26} {plain.least:7.1f} ns {hot.least:7.1f} ns {plain.over(hot)!s:>12}")
    single = kinds["1 shapes"]["hotcall"]
    for count in (2, 4):
        print(f"{f'{count} shapes over one':26} {kinds[f'{count} shapes']['hotcall'].over(single)!s:>35}   (at most 1.30)")


def show_callbacks(callbacks):
    print("\nC that calls Python back; ratios are to the extension, which holds the GIL, and times as fast as ctypes")
    print(f"{'':28} {'extension':>10} {'ctypes':>10} {'hotcall':>10} {'extension':>14} {'ctypes':>14}")
    for label, timed in callbacks.items():
        extension = timed.get("extension")
        for gil, title in GILS.items():
            plain, hot = timed[f"{gil} ctypes"], timed[f"{gil} hotcall"]
            own = f"{extension.least:7.1f} ns" if extension else ""
            over = hot.over(extension) if extension else ""
            name = f"{label}, {title.partition(',')[0]}"
            print(f"{name:28} {own:>10} {plain.least:7.1f} ns {hot.least:7.1f} ns {over!s:>14} {plain.over(hot)!s:>14}")


def show_columns(columns):
    print("\nWhole columns: nanoseconds an item, and multiples of the first")
    for label, timed in columns.items():
        first = next(iter(timed.values()))
        for name, result in timed.items():
            print(f"{f'{label}, {name}':42} {result.least:7.2f} ns {result.over(first)!s:>14}")


def show_warmup(warmup):
    print("\nThe first calls of a function: nanoseconds of the calls up to each number, and of all so far as a share of ctypes'")
    plain = hot = before = 0
    for calls, block, own in zip(warmup["calls"], warmup["ctypes"], warmup["hotcall"], strict=True):
        plain, hot, count = plain + block, hot + own, calls - before
        print(f"{calls:8} {block / count:10.0f} {own / count:10.0f} {hot / plain:8.2f}")
        before = calls


def show_interpreter(measured):
    print("\nThe interpreter tier; ratios are how many times as fast as ctypes it is")
    print(f"{'':24} {'ctypes':>10} {'hotcall':>10} {'CDLL':>12}   {'ctypes':>10} {'hotcall':>10} {'PyDLL':>12}")
    for label, timed in measured.interpreter.items():
        parts = []
        for gil in GILS:
            plain, hot = timed[f"{gil} ctypes"], timed[f"{gil} hotcall"]
            parts.append(f"{plain.least:7.1f} ns {hot.least:7.1f} ns {plain.over(hot)!s:>12}")
        print(f"{label:24} {'   '.join(parts)}")


def show_cold(measured):
    print("\nCalls that do not get fast; ratios to plain ctypes")
    for label, timed in measured.cold.items():
        plain, hot = timed["ctypes"], timed["hotcall"]
        print(f"{label:30} {plain.least:7.1f} ns {hot.least:7.1f} ns {hot.over(plain)!s:>14}")


def show_targets(measured):
    print("\nTargets; each is met if the worst case meets it")
    for gil, limit in (("released", 1.15), ("held", 1.3)):
        ratios = medians(stub_ratios(measured, gil, "hotcall", SIMPLE))
        at_most(f"{GILS[gil].partition(',')[0]}, simple calls: times the extension", ratios, limit)
    drop_in = 1.15 if sys.version_info < (3, 12) else 1.0
    for gil, title in GILS.items():
        for name, limit in (("hotcall", drop_in), ("bound", 0.8)):
            ratios = medians(stub_ratios(measured, gil, name, SIMPLE, over="held"))
            what = f"{title.partition(',')[0]}, {name}, simple calls: times the extension that holds the GIL, geometric mean"
            at_most(what, {f"of {len(ratios)}": statistics.geometric_mean(ratios.values())}, limit)
    for gil in GILS:
        slower = {label: timed[f"{gil} hotcall"].over(timed[f"{gil} ctypes"]) for label, timed in measured.interpreter.items()}
        at_most(f"interpreter, {GILS[gil].partition(',')[0]}: share of ctypes' time", medians(slower), 0.5)
    lend, hold, held = (measured.gil[name].alone for name in ("hotcall, lend", "hotcall, hold", "extension, held"))
    limit = 1.0 if sys.version_info >= (3, 12) else 1.2
    at_most("lending: times the extension that holds the GIL", {"a short call": lend.over(held).median}, limit)
    cost = lend.least - hold.least
    at_most("ns that lending costs over holding", {"a short call": cost}, 4, ".1f")
    back = {label: timed["held hotcall"].over(timed["extension"]) for label, timed in measured.callbacks.items() if "extension" in timed}
    at_most("callbacks that hold the GIL: times the extension", medians(back), 1.15)
    slower = {label: timed["held hotcall"].over(timed["held ctypes"]) for label, timed in measured.callbacks.items()}
    at_most("callbacks that hold the GIL: share of ctypes' time", medians(slower), 0.4)
    doubles = measured.columns["a million doubles"]
    at_most("map: times a loop in C", {"a million doubles": doubles["hotcall"].over(doubles["C"]).median}, 1.1)
    cold = {label: timed["hotcall"].over(timed["ctypes"]) for label, timed in measured.cold.items()}
    at_most("calls that do not get fast: times ctypes", medians(cold), 1.03)
    at_most("bytes of a simple stub", {label: measured.sizes[label] for label in SIMPLE}, 511, ".0f")
    stubs = measured.compiling["stubs"]
    mean, first, median = (measured.compiling[name] / 1000 for name in ("mean", "first", "median"))
    at_most(f"us to make a stub (mean {mean:.0f}, the first {first:.0f})", {f"median of {stubs}": median}, 100, ".0f")


def at_most(what, values, limit, form=".2f"):
    """Prints the line of one target: the worst of the values by label, and if there are several their geometric mean."""
    worst = max(values, key=values.get)
    verdict = "pass" if values[worst] <= limit else "MISS"
    mean = f", geometric mean {statistics.geometric_mean(values.values()):{form}}" if len(values) > 1 else ""
    print(f"{verdict}  {what}: at most {limit}; {values[worst]:{form}} ({worst}){mean}")


def stub_ratios(measured, gil, name, labels=None, over=None):
    """The ratios to the extension by label; `over` says which extension, if it is not the one that treats the GIL alike."""
    return {
        label: timed[f"{gil} {name}"].over(timed[f"{over or gil} extension"])
        for label, timed in measured.stubs.items()
        if labels is None or label in labels
    }


def medians(ratios):
    return {label: ratio.median for label, ratio in ratios.items()}


def geometric_mean(ratios):
    """That of the medians, and that of the ratios of minima."""
    pairs = [(ratio.median, ratio.least) for ratio in ratios]
    return Ratio(*map(statistics.geometric_mean, zip(*pairs, strict=True)))
