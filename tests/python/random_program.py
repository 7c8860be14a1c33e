"""A random program of calls, callbacks, and changes of both, which prints what it sees; `random_program.py SEED STEPS`.

With hotcall it also installs, uninstalls and chooses policies on the way. It prints the same with and without: what C leaves
undefined, or the machine, is left out. `HOTCALL_PLAIN=1` in the environment keeps it to plain ctypes.
"""

import ctypes
import gc
import os
import random
import sys
from ctypes import (
    CDLL, CFUNCTYPE, POINTER, PYFUNCTYPE, PyDLL, Structure, byref, c_char_p, c_double, c_float, c_int, c_int64, c_long, c_short,
    c_size_t, c_ubyte, c_void_p, cast, pointer,
)  # fmt: skip

from conftest import LIBRARY, describe, observe

import hotcall

Unary, Held, Errno = CFUNCTYPE(c_int, c_int), PYFUNCTYPE(c_int, c_int), CFUNCTYPE(c_int, c_int, use_errno=True)


class Pair(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class Number(c_int):
    pass


GOOD = {c_int: 3, c_int64: 5, c_ubyte: 7, c_double: 1.5, c_float: 2.5, c_char_p: b"hey"}
VALUES = [0, 1, -5, 2**31, 2**40, 2**70, True, 1.5, b"ab", None, "x", c_int(4), Pair(1, 2)]
DEEPEST = 5


class Program:
    """What a program has at hand, and what it has seen."""

    def __init__(self, seed, hot):
        self.rng, self.hot, self.depth, self.failures = random.Random(seed), hot, 0, 0
        self.log, self.callbacks, self.kept, self.bound, self.converting = [], [], [], [], 0
        self.Converting, self.Asked = self.converters()
        self.library, self.held = CDLL(LIBRARY), PyDLL(LIBRARY)
        self.errno = CDLL(LIBRARY, use_errno=True)
        sys.unraisablehook = self.unraisable
        self.declare()

    def unraisable(self, what):
        self.failures += 1
        message = (what.err_msg or "").partition("<")[0]
        self.log.append(("unraisable", type(what.exc_value).__name__, str(what.exc_value), message))

    def declare(self):
        """New function objects for all."""
        library, held, errno = self.library, self.held, self.errno
        self.functions = [
            self.declared(library, "add_one", c_int, c_int),
            self.declared(held, "add_two", c_int, c_int),
            self.declared(library, "mix_i", c_int64, c_int, c_int64, c_ubyte),
            self.declared(errno, "swap_errno", c_int, c_int),
            self.declared(library, "mix_d", c_double, c_double, c_float, c_int),
            self.declared(library, "swap_pair", Pair, Pair),
            self.declared(library, "length", c_size_t, c_char_p),
            self.declared(library, "call_back", c_int, Unary, c_int),
            self.declared(held, "call_back", c_int, Unary, c_int),
            self.declared(errno, "call_back", c_int, Unary, c_int),
            self.declared(held, "call_back", c_int, Held, c_int),
            self.declared(library, "call_back", c_int, c_void_p, c_int),
            self.declared(library, "call_back_many", c_int64, Unary, c_int),
            self.declared(library, "call_back_in_thread", c_int, Unary, c_int),
            self.declared(library, "sleep_and_call", c_int, c_int, Unary, c_int),
            self.declared(library, "read_long", c_int64, POINTER(c_int64)),
            self.declared(held, "read_long", lambda low: [low], c_void_p),
            self.declared(library, "mix_i", Number, self.Converting, c_int64, self.Converting),
            self.declared(held, "add_two", Number, self.Converting),
        ]

    def converters(self):
        """Classes whose code runs while arguments are converted, and does anything then but to declare functions anew."""

        def step():
            self.converting += 1
            try:
                if self.depth + self.converting < DEEPEST and self.rng.random() < 0.3:
                    self.step()
            finally:
                self.converting -= 1

        class Converting:
            @classmethod
            def from_param(cls, value):
                step()
                if value == 13:
                    raise ValueError("no thirteen")
                return c_int(value) if value == 14 else value

        class Asked:
            @property
            def _as_parameter_(self):
                step()
                return 21

        return Converting, Asked

    @staticmethod
    def declared(library, name, restype, *argtypes):
        function = library[name]
        function.argtypes, function.restype, function.tag = argtypes, restype, name
        return function

    def body(self, kind):
        """A Python function to be called back."""

        def callback(number):
            self.log.append(("callback", kind, describe(number), self.depth))
            self.depth += 1
            try:
                if self.depth < DEEPEST and self.rng.random() < 0.6:
                    self.step()
                what = self.rng.random()
                if what < 0.07:
                    raise ValueError(f"at {self.depth}")
                if what < 0.08:
                    raise SystemExit(3)
                return self.rng.choice(["text", None, 2**70]) if what < 0.15 else self.rng.randrange(-9, 9)
            finally:
                self.depth -= 1

        return callback

    def callback(self):
        """A function object for a Python function, often one that was passed before."""
        if self.callbacks and self.rng.random() < 0.7:
            return self.rng.choice(self.callbacks)
        made = self.rng.choice([Unary, Unary, Unary, Errno, Held])(self.body(self.rng.randrange(9)))
        self.callbacks.append(made)
        if len(self.callbacks) > 12:
            self.callbacks.pop(self.rng.randrange(12))
        return made

    def arguments(self, function):
        """Arguments that suit the function, nearly always."""
        arguments = []
        for kind in function.argtypes:
            if kind in (Unary, Held):
                arguments.append(self.callback())
            elif kind is c_void_p and "read" not in function.tag:
                arguments.append(cast(self.callback(), c_void_p))
            elif "call" in function.tag:
                arguments.append(self.rng.randrange(4))
            elif "read" in function.tag:
                long = c_int64(self.rng.randrange(9))
                arguments.append(self.rng.choice([byref, pointer, lambda long: (c_int64 * 2)(long)])(long))
            elif kind is self.Converting or self.rng.random() < 0.05:
                arguments.append(self.rng.choice([5, 6, 13, 14, self.Asked()]))
            else:
                good = Pair(3, 4) if kind is Pair else GOOD.get(kind, 3)
                arguments.append(good if self.rng.random() < 0.8 else self.rng.choice(VALUES))
        return arguments[:-1] if self.rng.random() < 0.05 else arguments

    def call(self):
        function = self.rng.choice(self.functions)
        before, callee = self.failures, function
        if self.rng.random() < 0.2:
            function, callee = self.bind(function)
        outcome = observe(callee, *self.arguments(function))
        # What a failed callback gives to C, and C's own errno within others, are anything.
        if "call" in function.tag and self.failures != before or function.tag == "swap_errno" and self.depth:
            outcome = "undefined"
        self.log.append((function.tag, outcome))

    def bind(self, function):
        """A function and what is bound to it, perhaps long ago; without hotcall that is the function."""
        if not self.bound or self.rng.random() < 0.3:
            self.bound.append((function, hotcall.bind(function) if self.hot else function))
            if len(self.bound) > 9:
                self.bound.pop(self.rng.randrange(9))
        return self.rng.choice(self.bound)

    def change(self):
        """Assigns to the declaration of a function."""
        function = self.rng.choice(self.functions)
        if function.tag in ("add_one", "add_two"):
            function.argtypes = [self.rng.choice([c_int, c_short, c_long])]
        elif self.rng.random() < 0.3:
            function.errcheck = lambda result, function, args: (result, len(args))
            # ctypes does not own the errcheck of a call that is under way.
            self.kept.append(function.errcheck)

    def choose(self):
        """Chooses a policy, or installs or uninstalls hotcall."""
        what, function = self.rng.random(), self.rng.choice(self.functions)
        policy = self.rng.choice(["release", "lend", "hold", None])
        if not self.hot:
            return
        if what < 0.5:
            # To hold the GIL while another thread needs it would be a broken promise.
            hotcall.options(function, gil=None if function.tag == "call_back_in_thread" else policy)
        elif what < 0.85:
            hotcall.install()
        else:
            hotcall.uninstall()

    def step(self):
        what = self.rng.random()
        if what < 0.82:
            self.call()
        elif what < 0.85:
            gc.collect()
        elif what < 0.88:
            self.declare()
        elif what < 0.92:
            if not self.converting:
                self.change()
        elif what < 0.94:
            ctypes.set_errno(self.rng.randrange(99))
        elif what < 0.98:
            self.choose()
        else:
            del self.callbacks[:-3]


def main():
    program = Program(int(sys.argv[1]), "HOTCALL_PLAIN" not in os.environ)
    if program.hot:
        hotcall.install()
    for _ in range(int(sys.argv[2])):
        program.step()
    print("\n".join(map(repr, program.log)))


if __name__ == "__main__":
    main()
