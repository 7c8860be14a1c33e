"""Times callbacks: C that calls a Python callable, through the extension, with plain ctypes and with hotcall. Prints the
results as JSON, nanoseconds a callback.

Run as `callbacks.py ROUNDS` with HOTCALL=threshold=1.
"""

import json
import random
import sys
from ctypes import CDLL, CFUNCTYPE, POINTER, PyDLL, addressof, c_int, c_long

import hotcall

import build
from timing import Contender, Group, alternate

TIMES = 1000
NUMBERS = [random.Random(1).randrange(10**6) for _ in range(200)]


def identity(number):
    return number


def compare(a, b):
    return (a > b) - (a < b)


def compare_at(a, b):
    return a[0] - b[0]


class Counting:
    """C that calls back with one number after the other."""

    label = "int(int)"
    types = (c_int, c_int)
    callable = staticmethod(identity)
    times = TIMES

    def by_ctypes(self, libraries):
        return lambda function: libraries.functions.count(function, TIMES)

    def by_extension(self, ext):
        return lambda: ext.held_count(identity, TIMES)


class Sorting:
    """C that sorts, by a function that is given the numbers."""

    label = "qsort, int(long, long)"
    types = (c_int, c_long, c_long)
    callable = staticmethod(compare)

    def __init__(self):
        self.array, self.shuffled = (c_long * len(NUMBERS))(), (c_long * len(NUMBERS))(*NUMBERS)
        self.times = 1

    def sort(self, libraries, function):
        libraries.functions.sort(self.array, len(NUMBERS), function)

    def by_ctypes(self, libraries):
        def run(function):
            self.array[:] = self.shuffled
            self.sort(libraries, function)

        return run

    def by_extension(self, ext):
        def run():
            self.array[:] = self.shuffled
            ext.held_sort(compare, addressof(self.array), len(NUMBERS))

        return run

    def count(self, libraries):
        """Finds out how often C compares, and that the order is right."""
        seen = []

        def counting(a, b):
            seen.append(a)
            return self.callable(a, b)

        self.by_ctypes(libraries)(CFUNCTYPE(*self.types)(counting))
        if list(self.array) != sorted(NUMBERS):
            sys.exit(f"{self.label}: the numbers are not sorted")
        self.times = len(seen)


class SortingInPlace(Sorting):
    """C that sorts, by a function that is given pointers to the numbers."""

    label = "qsort, int(long *, long *)"
    types = (c_int, POINTER(c_long), POINTER(c_long))
    callable = staticmethod(compare_at)
    by_extension = None

    def sort(self, libraries, function):
        libraries.libc.qsort(self.array, len(NUMBERS), 8, function)


class Libraries:
    """The functions that call back, by whether the GIL is held meanwhile."""

    def __init__(self, folder, open_library):
        self.functions, self.libc = open_library(str(folder / "functions.so")), open_library(None)
        self.functions.count.restype = c_long


def main():
    rounds = int(sys.argv[1])
    folder = build.build()
    ext = build.load_extension(folder)
    libraries = {"released": Libraries(folder, CDLL), "held": Libraries(folder, PyDLL)}
    cases = [Counting(), Sorting(), SortingInPlace()]
    outside, plain, hot = [], [], []
    for case in cases:
        if isinstance(case, Sorting):
            case.count(libraries["held"])
        if case.by_extension:
            outside.append(Contender((case.label, "extension"), case.by_extension(ext), ()))
        for gil, library in libraries.items():
            run, make = case.by_ctypes(library), CFUNCTYPE(*case.types)
            plain.append(Contender((case.label, f"{gil} ctypes"), run, (make(case.callable),)))
            with hotcall.installed():
                hot.append(Contender((case.label, f"{gil} hotcall"), run, (make(case.callable),)))
    groups = [Group(outside), Group(plain), Group(hot, hotcall.install, hotcall.uninstall)]
    counts = {case.label: case.times for case in cases}
    times = {}
    for (label, name), result in alternate(groups, rounds, 5).items():
        times.setdefault(label, {})[name] = [time / counts[label] for time in result.times]
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
