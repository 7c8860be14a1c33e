"""A random program of calls that prints which audit events they raise; `audit_program.py SEED STEPS`.

With hotcall it prints the same as without: `HOTCALL_PLAIN=1` in the environment keeps it to plain ctypes.
"""

import ctypes
import os
import random
import sys
from ctypes import (
    CDLL, CFUNCTYPE, POINTER, PYFUNCTYPE, PyDLL, Structure, byref, c_char_p, c_double, c_int, c_int64, c_short, c_ubyte,
    c_void_p, pointer,
)  # fmt: skip

from conftest import CAN_CALL_BACK, LIBRARY, observe

import hotcall


class Pair(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class Node(Structure):
    _fields_ = [("pair", Pair), ("four", c_short * 4), ("next", POINTER(Pair))]


class Failing(Structure):
    _fields_ = [("x", c_int)]

    def __init__(self):
        raise ValueError("not made")


class Checked(c_int):
    def _check_retval_(self):
        if self.value % 3 == 0:
            raise ValueError(self.value)
        return self.value


class CheckedByC(c_int):
    _check_retval_ = len


def same(value):
    return value


class Converter:
    """An instance is a converter in one of many ways."""

    def __init__(self, rng):
        self.from_param = rng.choice([same, lambda value: value, self.keep, self.add, self.refuse, int, c_int, c_int.from_param])

    def keep(self, value):
        return value

    def add(self, value):
        return value + 1 if isinstance(value, int) else value

    def refuse(self, value):
        raise KeyError(value)


class Asked:
    def __init__(self, value):
        self._as_parameter_ = value


class Asking:
    @property
    def _as_parameter_(self):
        return 5


class Refusing:
    @property
    def _as_parameter_(self):
        raise LookupError("nothing")


class Program:
    def __init__(self, seed):
        self.rng, self.library, self.held = random.Random(seed), CDLL(LIBRARY, use_errno=True), PyDLL(LIBRARY)
        self.kinds = [self.converted, self.checked, self.data, self.errno, self.flags]
        self.kinds += [self.called_back] if CAN_CALL_BACK else []

    def function(self, name):
        """A function object, often one that nobody has called yet."""
        library = self.rng.choice([self.library, self.held])
        return library[name] if self.rng.random() < 0.5 else getattr(library, name)

    def calls(self, function, *candidates):
        """Calls often enough that the function becomes hot."""
        return [observe(function, *map(self.rng.choice, candidates)) for _ in range(self.rng.choice([1, 3, 6]))]

    def converted(self):
        function = self.function("add_two")
        kinds = [Converter(self.rng), Converter(self.rng), c_int, c_short]
        function.argtypes = self.rng.choices(kinds, k=self.rng.choice([1, 1, 1, 2]))
        if self.rng.random() < 0.2:
            function.argtypes = None
        if self.rng.random() < 0.3:
            function.errcheck = lambda result, function, args: (result, args)
        values = [1, 2, True, c_int(3), c_short(4), Asked(5), Asked("x"), Asking(), Refusing(), "text", 2**70, None]
        values = values if self.rng.random() < 0.5 else values[:2] + self.rng.choices(values, k=2)
        outcome = self.calls(function, values, *([values] if len(function.argtypes or ()) == 2 else []))
        function.errcheck = same
        del function.errcheck, function.argtypes
        return len(outcome)

    def checked(self):
        function = self.function("add_one")
        function.restype = self.rng.choice([Checked, CheckedByC, lambda number: number, type("Number", (c_int,), {}), None])
        return self.calls(function, range(9))

    def called_back(self):
        make = self.rng.choice([CFUNCTYPE, PYFUNCTYPE])
        body = self.rng.choice([lambda number: number, lambda number: "text", lambda number: 1 // 0, abs])
        callback = make(c_int, c_int)(body)
        function = self.held["call_back"]
        function.argtypes = self.rng.choice([[c_void_p, c_int], [make(c_int, c_int), c_int], None])
        pairs = make(c_int, self.rng.choice([Pair, Failing, POINTER(Pair)]))(lambda pair: 0)
        return len(self.calls(function, [callback], range(5)) + self.calls(pairs, [Pair(1, 2)]) + self.calls(callback, [1]))

    def data(self):
        node, outcome = Node(Pair(1, 2), (c_short * 4)(1, 2, 3, 4)), []
        for number in range(3):
            node.pair.x = number
            node.next = pointer(Pair(number, 2))
            outcome += [node.pair.y, node.four[number], node.four[1:3], node.next.contents.x, node.next[0].y, byref(node)._obj is node]
        function = self.function("swap_pair")
        function.argtypes, function.restype = [Pair], Pair
        outcome += [function(node.pair).x for _ in range(4)]
        function = self.function("read_long")
        function.argtypes, function.restype = [POINTER(c_int64)], c_int64
        long = c_int64(7)
        return outcome + self.calls(function, [byref(long), pointer(long), (c_int64 * 2)(8), None, 5][:3])

    def errno(self):
        ctypes.set_errno(self.rng.randrange(50))
        function = self.function("swap_errno")
        function.argtypes = [c_int]
        return self.calls(function, range(1, 9)) and ctypes.get_errno() >= 0

    def flags(self):
        prototype = CFUNCTYPE(c_int, c_int)
        function = prototype(("add_one", self.library), ((self.rng.choice([1, 5]), "number", 3),))
        mixed = self.function("mix_d")
        mixed.argtypes, mixed.restype = [c_double, c_double, c_int], c_double
        length = self.function("length")
        length.argtypes, length.restype = [c_char_p], c_ubyte
        outcome = self.calls(function, [1, 2]) + self.calls(function)
        return outcome + self.calls(mixed, [1.5, 2], [0.5], [1]) + self.calls(length, [b"ab", "x"])


def main():
    program = Program(int(sys.argv[1]))
    if "HOTCALL_PLAIN" not in os.environ:
        hotcall.install()
    sys.unraisablehook = lambda what: None
    seen = []
    is_on = False

    def hook(event, args):
        if is_on:
            seen.append((event, *(arg if isinstance(arg, str) else type(arg).__name__ for arg in args)))

    sys.addaudithook(hook)
    for _ in range(int(sys.argv[2])):
        kind = program.rng.choice(program.kinds)
        is_on = True
        outcome = kind()
        is_on = False
        print(kind.__name__, outcome, seen)
        seen.clear()


if __name__ == "__main__":
    main()
