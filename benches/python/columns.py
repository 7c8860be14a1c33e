"""Times `hotcall.map` over a million doubles against a loop in C over the same array, and over lists against loops in
Python, and prints the results as JSON.

Run as `columns.py ROUNDS` with HOTCALL=threshold=1. The C loop is in the extension, which releases the GIL around it and
calls the same function in the same other library.
"""

import json
import sys
from array import array
from ctypes import CDLL, c_double

import hotcall

import build
from timing import Contender, Group, alternate

MANY, FEW = 1_000_000, 10_000


def comprehension(function):
    """A loop in Python that calls a function for each item."""
    return lambda items: [function(item) for item in items]


def main():
    rounds = int(sys.argv[1])
    folder = build.build()
    extension, library = build.load_extension(folder), CDLL(str(folder / "functions.so"))
    half = library.half
    half.argtypes, half.restype = [c_double], c_double
    doubles, results = array("d", range(MANY)), array("d", bytes(8 * MANY))
    numbers = list(array("d", range(FEW)))
    mapped = lambda items: hotcall.map(half, items)  # noqa: E731
    outside = [
        Contender(("a million doubles", "C"), extension.half_all, (doubles, results)),
        Contender(("a list of floats", "extension"), comprehension(extension.held_half), (numbers,)),
    ]
    inside = [
        Contender(("a million doubles", "hotcall"), lambda items, out: hotcall.map(half, items, out=out), (doubles, results)),
        Contender(("a list of floats", "hotcall"), mapped, (numbers,)),
        Contender(("a list of floats", "hotcall, loop in Python"), comprehension(hotcall.bind(half)), (numbers,)),
    ]
    groups = [Group(outside), Group(inside, hotcall.install, hotcall.uninstall)]
    times = {}
    for (label, name), result in alternate(groups, rounds, 1, warming=1).items():
        items = MANY if label == "a million doubles" else FEW
        times.setdefault(label, {})[name] = [time / items for time in result.times]
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
