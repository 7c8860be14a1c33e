"""The calls that are timed: what they are, and how each contender is asked for them."""

import ctypes
from ctypes import c_bool, c_char_p, c_double, c_int, c_long, c_size_t, c_void_p
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One call of a foreign function with certain arguments."""

    label: str
    """What tables call it."""
    function: str
    """Its name in functions.h."""
    restype: Any
    argtypes: tuple
    args: tuple
    simple: bool = True
    """Whether it has at most two arguments, and nothing else that is special: the targets are about these."""
    use_errno: bool = False


CASES = [
    Case("int()", "answer", c_int, (), ()),
    Case("int(int)", "negate", c_int, (c_int,), (3,)),
    Case("int(int, int)", "add", c_int, (c_int, c_int), (40, 2)),
    Case("long(long) large", "large", c_long, (c_long,), (1 << 40,)),
    Case("double(double)", "half", c_double, (c_double,), (3.5,)),
    Case("double(double, double)", "scale", c_double, (c_double, c_double), (1.5, 2.5)),
    Case("size_t(char *)", "length", c_size_t, (c_char_p,), (b"hello",)),
    Case("char *(int)", "name", c_char_p, (c_int,), (1,)),
    Case("bool(int)", "is_even", c_bool, (c_int,), (4,)),
    Case("int(void *) None", "is_null", c_int, (c_void_p,), (None,)),
    Case("int(void *) int", "is_null", c_int, (c_void_p,), (1 << 20,)),
    Case("void(int)", "nothing", None, (c_int,), (7,)),
    Case("6 ints", "six", c_int, (c_int,) * 6, (1, 2, 3, 4, 5, 6), simple=False),
    Case("5 ints, 5 doubles", "ten", c_double, (c_int, c_double) * 5, (1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 5.5), simple=False),
    Case("int(int), errno kept", "fail", c_int, (c_int,), (2,), simple=False, use_errno=True),
]


class Libraries:
    """functions.so, loaded each way that ctypes has."""

    def __init__(self, folder):
        path = str(folder / "functions.so")
        self.released = ctypes.CDLL(path)
        self.released_errno = ctypes.CDLL(path, use_errno=True)
        self.held = ctypes.PyDLL(path)
        self.held_errno = ctypes.PyDLL(path, use_errno=True)

    def declare(self, case, gil):
        """A new function object for `case`; `gil` is "released" or "held"."""
        library = getattr(self, f"{gil}_errno" if case.use_errno else gil)
        function = library[case.function]
        function.argtypes = case.argtypes
        function.restype = case.restype
        return function


def extension_function(ext, case, gil):
    """The extension's function for `case`."""
    return getattr(ext, case.function if gil == "released" else f"held_{case.function}")
