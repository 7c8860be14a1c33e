"""Times functions that never get fast, with hotcall against plain ctypes, and prints the results as JSON.

Run as `cold.py ROUNDS` with the options as they are by default.
"""

import json
import sys
from ctypes import CDLL, c_char_p, c_int, c_size_t, create_string_buffer
from itertools import repeat

import build
import cases
from timing import Contender, Group, alternate

import hotcall

CALLS = 1000
OBJECTS = 20
"""Function objects that are timed together."""


class Fleeting:
    """Function objects that are called a few times each, and then kept, so that none has the address of another.

    An instance is called with ignored arguments: one call makes `calls` calls of each of `OBJECTS` new objects.
    """

    def __init__(self, library, calls):
        self.library, self.calls = library, calls
        self.all, self.fresh = [], []

    def renew(self):
        """Makes the objects of the next round; declaring them is not what is timed."""
        self.all += self.fresh
        self.fresh = [self.library["negate"] for _ in range(OBJECTS)]
        for function in self.fresh:
            function.argtypes = [c_int]

    def __call__(self):
        for function in self.fresh:
            for _ in repeat(None, self.calls):
                function(3)


class FleetingContender(Contender):
    """Times one call of a `Fleeting`; there is nothing to warm."""

    def warm(self, calls):
        self.function.renew()

    def time(self, calls):
        super().time(1)
        self.times[-1] /= OBJECTS * self.function.calls


def fleeting(library, calls, rounds):
    """New objects that are called `calls` times each."""
    plain = FleetingContender("ctypes", Fleeting(library, calls), ())
    hot = FleetingContender("hotcall", Fleeting(library, calls), ())
    return alternate([Group([plain]), Group([hot], hotcall.install, hotcall.uninstall)], rounds, CALLS)


def refused(function, args, rounds):
    """One function that is called often, and that hotcall leaves to ctypes."""
    plain = Contender("ctypes", function, args)
    hot = Contender("hotcall", function, args)
    with hotcall.installed():
        hot.warm(1000)
        if hotcall.explain(function).tier != "ctypes":
            return None
    return alternate([Group([plain]), Group([hot], hotcall.install, hotcall.uninstall)], rounds, CALLS, warming=300)


def with_errcheck(library):
    function = library["negate"]
    function.argtypes = [c_int]
    function.errcheck = lambda result, function, args: result
    return function


def takes_text(library):
    function = library["length"]
    function.argtypes, function.restype = [c_char_p], c_size_t
    return function


class Number:
    """Converts to an int by a method in Python, so no rule can take it."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value


def takes_number(library):
    function = library["negate"]
    function.argtypes = [c_int]
    return function


def main():
    rounds = int(sys.argv[1])
    library = CDLL(str(build.build() / "functions.so"))
    # The first of them come while few functions are known, the last when very many are.
    results = {
        "new objects, 1 call each": fleeting(library, 1, rounds),
        "new objects, 10 calls each": fleeting(library, 10, rounds),
        "errcheck": refused(with_errcheck(library), (3,), rounds),
        "an argument with __index__": refused(takes_number(library), (Number(3),), rounds),
        "a string buffer as char *": refused(takes_text(library), (create_string_buffer(b"hello"),), rounds),
    }
    times = {
        label: result and {name: contender.times for name, contender in result.items()}
        for label, result in results.items()
    }
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
