"""Times what it takes to record, compile and install a stub, over many different signatures, and prints it as JSON.

Run with HOTCALL=threshold=1, so that the first call of a function is the one that makes its stub.
"""

import ctypes
import itertools
import json
import statistics
import sys
from time import perf_counter_ns

import hotcall

import build

TYPES = {
    ctypes.c_int: 1,
    ctypes.c_long: 2,
    ctypes.c_double: 3.5,
    ctypes.c_char_p: b"text",
    ctypes.c_uint8: 4,
}
RESULTS = [ctypes.c_int, ctypes.c_uint]


def time_call(function, args):
    started = perf_counter_ns()
    function(*args)
    return perf_counter_ns() - started


def main():
    # The function takes nothing; by the convention it may be called with anything.
    library = ctypes.CDLL(str(build.build() / "functions.so"))
    costs, sizes = [], []
    hotcall.install()
    for count in range(4):
        for argtypes, restype in itertools.product(itertools.product(TYPES, repeat=count), RESULTS):
            function = library["answer"]
            function.argtypes, function.restype = argtypes, restype
            args = [TYPES[kind] for kind in argtypes]
            first = time_call(function, args)
            later = min(time_call(function, args) for _ in range(5))
            costs.append(first - later)
            sizes.append(hotcall.explain(function).code_bytes)
    # The first one also maps the memory and touches the compiler for the first time.
    first, rest = costs[0], costs[1:]
    report = {"first": first, "mean": statistics.mean(rest), "median": statistics.median(rest), "least": min(rest)}
    json.dump({**report, "stubs": len(costs), "bytes": statistics.mean(sizes)}, sys.stdout)


if __name__ == "__main__":
    main()
