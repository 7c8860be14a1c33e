"""What the tests of columns share: the oracle, and what tells that a loop was native."""

from ctypes import CDLL, c_double

import hotcall

COUNT = 40
DOUBLES = [index / 7 - 3 for index in range(COUNT)]


def loops(function):
    return len(hotcall.explain(function).loops)


def expect_loops(function, way, count):
    """Checks that so many native loops were made, where any can be."""
    if way == "installed" and hotcall.status().stubs_off is None:
        assert loops(function) == count, hotcall.explain(function)


def each(function, *columns, out=None):
    """What `map` has to do."""
    rows = zip(*columns, strict=False)
    if out is None:
        return [function(*row) for row in rows]
    for index, row in enumerate(rows):
        out[index] = function(*row)
    return out


def cos_of(lib, loader=CDLL):
    function = loader("libm.so.6")["cos"]
    function.argtypes, function.restype = [c_double], c_double
    return function
