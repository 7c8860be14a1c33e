"""Times functions that never get fast, with hotcall against plain ctypes, and prints the results as JSON.

Run as `cold.py ROUNDS` with the options as they are by default.
"""

import json
import sys
from ctypes import CDLL, CFUNCTYPE, c_char_p, c_int, c_size_t, c_void_p, cast, create_string_buffer
from itertools import repeat

import hotcall

import build
from timing import Contender, Group, alternate

CALLS = 1000
OBJECTS = 50
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


def fleeting(label, library, calls):
    """Groups for new objects that are called `calls` times each."""
    plain = FleetingContender((label, "ctypes"), Fleeting(library, calls), ())
    hot = FleetingContender((label, "hotcall"), Fleeting(library, calls), ())
    return [Group([plain]), Group([hot], hotcall.install, hotcall.uninstall)]


def refused(label, function, arg):
    """Groups for one function that is called often, and that hotcall leaves to ctypes; none if it does not."""
    plain = Contender((label, "ctypes"), function, (arg,))
    hot = Contender((label, "hotcall"), function, (arg,))
    with hotcall.installed():
        hot.warm(1000)
        if hotcall.explain(function).tier != "ctypes":
            return []
    return [Group([plain]), Group([hot], hotcall.install, hotcall.uninstall)]


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


def made_for_each_call(label, library):
    """Groups for calls of a function object that is made from an address for each of them, as bindings of vtables do."""
    prototype = CFUNCTYPE(c_int, c_int)
    address = cast(library["negate"], c_void_p).value

    def call(number):
        return prototype(address)(number)

    return [
        Group([Contender((label, "ctypes"), call, (3,))]),
        Group([Contender((label, "hotcall"), call, (3,))], hotcall.install, hotcall.uninstall),
    ]


def main():
    rounds = int(sys.argv[1])
    library = CDLL(str(build.build() / "functions.so"))
    # One after the other, because each leaves more function objects behind: a program has few at first, then very many.
    results = {}
    for label, calls in [
        ("few functions, 1 call each", 1),
        ("many functions, 10 calls each", 10),
        ("very many, 1 call each", 1),
    ]:
        results |= alternate(fleeting(label, library, calls), rounds, CALLS)
    groups = [
        *made_for_each_call("made for each call", library),
        *refused("errcheck", with_errcheck(library), 3),
        *refused("an argument with __index__", takes_number(library), Number(3)),
        *refused("a string buffer as char *", takes_text(library), create_string_buffer(b"hello")),
    ]
    results |= alternate(groups, rounds, CALLS, warming=300)
    times = {}
    for (label, kind), result in results.items():
        times.setdefault(label, {})[kind] = result.times
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
