"""Times each kind of argument and result, what programs do around calls, and calls of many shapes, with hotcall against
plain ctypes, and prints the results as JSON.

Run as `kinds.py ROUNDS` with HOTCALL=threshold=1. Functions are those of the C library, and of functions.h.
"""

import json
import sys
from ctypes import (
    CDLL, CFUNCTYPE, POINTER, Structure, byref, c_char, c_char_p, c_double, c_int, c_size_t, c_void_p, c_wchar_p, cast,
    create_string_buffer, memmove, pointer, string_at,
)  # fmt: skip

import hotcall

import build
from timing import Contender, Group, Statement, alternate

CALLS = 2000
WARMING = 60


class Pair(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class Cursor(Structure):
    _fields_ = [("kind", c_int), ("flags", c_int), ("data", c_void_p * 3)]


class Slots:
    __slots__ = ("x",)


class Given:
    """A converter that gives its argument back."""

    def from_param(value):  # noqa: N805
        return value


class Doubled:
    """A converter that does not."""

    @classmethod
    def from_param(cls, value):
        return c_int(value)


class Holder:
    def __init__(self, value):
        self._as_parameter_ = value


def calls(library, libc):
    """Functions and arguments by label. Each contender gets objects of its own."""

    def declare(name, restype, *argtypes, of=libc, errcheck=None):
        function = of[name]
        function.restype, function.argtypes = restype, argtypes or None
        if errcheck:
            function.errcheck = errcheck
        return function

    number, text = c_int(5), create_string_buffer(b"hello", 16)
    flags = CFUNCTYPE(c_double, c_double, POINTER(c_int))(("frexp", libc), ((1, "x"), (2, "e")))
    cursor = Cursor(1, 2, (c_void_p * 3)(3, 4, 5))
    return {
        "POINTER given byref": (declare("frexp", c_double, c_double, POINTER(c_int)), (8.0, byref(number))),
        "POINTER given pointer": (declare("frexp", c_double, c_double, POINTER(c_int)), (8.0, pointer(number))),
        "void* given array": (declare("strlen", c_size_t, c_void_p), (text,)),
        "undeclared int": (declare("abs", c_int), (-5,)),
        "undeclared byref": (declare("strlen", c_size_t), (byref(text),)),
        "str for wchar_t*": (declare("wcslen", c_size_t, c_wchar_p), ("hello",)),
        "POINTER result": (declare("strchr", POINTER(c_char), c_char_p, c_int), (b"hello", 108)),
        "errcheck": (declare("abs", c_int, c_int, errcheck=lambda result, function, args: result), (-5,)),
        "from_param, own argument": (declare("abs", c_int, Given), (number,)),
        "from_param, converted": (declare("abs", c_int, Doubled), (-5,)),
        "_as_parameter_": (declare("abs", c_int, c_int), (Holder(-5),)),
        "parameter flags, out": (flags, (8.0,)),
        "struct, registers": (declare("swap_pair", Pair, Pair, of=library), (Pair(1, 2),)),
        "struct, memory": (declare("kind_of_cursor", c_int, Cursor, of=library), (cursor,)),
        "cast": (cast, (text, c_void_p)),
        "string_at": (string_at, (text, 5)),
        "memmove": (memmove, (text, b"hello", 5)),
    }


def around():
    """Statements and their arguments by label."""
    pair, cursor, slots = Pair(1, 2), Cursor(), Slots()
    slots.x = 1
    numbers, pairs = (c_int * 8)(), (Pair * 3)()
    return {
        "read __slots__": ("a0.x", slots),
        "read field": ("a0.x", pair),
        "assign field": ("a0.x = 5", pair),
        "read array field": ("a0.data", cursor),
        "byref": ("byref(a0)", pair),
        "read array item": ("a0[2]", numbers),
        "assign array item": ("a0[2] = 5", numbers),
        "slice of an array": ("a0[1:7]", numbers),
        "item that is a structure": ("a0[1]", pairs),
        "pointer contents": ("a0.contents", pointer(pair)),
        "make a number": ("a0(5)", c_int),
        "make a structure": ("a0()", Pair),
        "make a pointer": ("a0(a1)", POINTER(Pair), pair),
    }


def shapes(libc):
    """Statements that call one function with 1, 2, 4, 8 and 32 shapes of arguments, and with 32 undeclared ones, 32 calls each."""
    first = [5, None, b"abc", c_void_p(9), byref(c_int(3)), (c_int * 2)(), pointer(c_int(1)), c_char_p(b"x")]
    values = first + [(c_int * count)() for count in range(3, 27)]
    statements = {}
    for label in ("1 shapes", "2 shapes", "4 shapes", "8 shapes", "32 shapes", "32 undeclared shapes"):
        function, count = libc["abs"], int(label.split()[0])
        function.argtypes, function.restype = None if "undeclared" in label else [c_void_p], None
        statement = "; ".join(f"a0(a{1 + index % count})" for index in range(32))
        statements[label] = (statement, function, *values[:count])
    return statements


def main():
    rounds = int(sys.argv[1])
    library = CDLL(str(build.build() / "functions.so"))
    groups = {"ctypes": [], "hotcall": []}
    for name, contenders in groups.items():
        # Function objects of each side are its own, so that neither meets what was learned of the other's.
        libc = CDLL(None)
        contenders += [Contender((label, name), *call) for label, call in calls(library, libc).items()]
        for label, (statement, *args) in {**around(), **shapes(libc)}.items():
            contenders.append(Statement((label, name), statement, tuple(args), {"byref": byref}))
    results = alternate(
        [Group(groups["ctypes"]), Group(groups["hotcall"], hotcall.install, hotcall.uninstall)], rounds, CALLS // 4, WARMING
    )
    times = {}
    for (label, kind), result in results.items():
        scale = 32 if label.endswith("shapes") else 1
        times.setdefault(label, {})[kind] = [time / scale for time in result.times]
    json.dump(times, sys.stdout)


if __name__ == "__main__":
    main()
