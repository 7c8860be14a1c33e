"""Times the first calls of a function, one after the other, with hotcall against plain ctypes, and prints the results as JSON.

Run as `warmup.py ROUNDS` with the options as they are by default. Each round has a library object of its own, and so a
stub of its own.
"""

import json
import statistics
import sys
from ctypes import CDLL, c_int
from itertools import repeat
from time import perf_counter_ns

import hotcall

import build

BLOCKS = [1 << power for power in range(15)]
"""Calls are timed up to these, the 1st, the 2nd, the 3rd and 4th, and so on: 16,384 in all."""


def curve(path):
    """Nanoseconds of each block of calls of a new function."""
    function = CDLL(path)["negate"]
    function.argtypes = [c_int]
    done, times = 0, []
    for end in BLOCKS:
        started = perf_counter_ns()
        for _ in repeat(None, end - done):
            function(3)
        times.append(perf_counter_ns() - started)
        done = end
    return times


def main():
    rounds = int(sys.argv[1])
    path = str(build.build() / "functions.so")
    curves = {"ctypes": [], "hotcall": []}
    for _ in range(rounds):
        curves["ctypes"].append(curve(path))
        with hotcall.installed():
            curves["hotcall"].append(curve(path))
    medians = {name: [statistics.median(block) for block in zip(*found, strict=True)] for name, found in curves.items()}
    json.dump({"calls": BLOCKS, **medians}, sys.stdout)


if __name__ == "__main__":
    main()
