"""Parameter flags: arguments that are made for a call and given back, under plain ctypes and under hotcall."""

import re
from ctypes import CDLL, CFUNCTYPE, POINTER, byref, c_char_p, c_double, c_int, create_string_buffer

import pytest
from conftest import compare, observe

TIMES = 5
CALLS = [((12.0,), {}), ((), {}), ((12.0, c_int(3)), {}), (("x",), {}), ((1.0, 2, 3), {}), ((), {"x": 2.0}), ((4.0,), {"e": None})]


@pytest.mark.parametrize("errcheck", [None, lambda r, f, args: args, lambda r, f, args: (r, len(args))], ids=["none", "args", "own"])
def test_parameters(errcheck, lib):
    """Parameter flags of every kind: what is built, in which order, and what comes back."""

    def scenario():
        log = []

        class Logged(c_int):
            def __init__(self, *args):
                log.append("made")
                c_int.__init__(self, *args)

            def __ctypes_from_outparam__(self):
                log.append("given back")
                return ("out", self.value)

        buffer = create_string_buffer(4)
        outcomes = []
        for types, flags in [
            ((c_double, POINTER(c_int)), ((1, "x"), (2, "e"))),
            ((c_double, POINTER(c_int)), ((1, "x", 8.0), (2, "e"))),
            ((c_double, POINTER(c_int)), ((1,), (2,))),
            ((c_double, POINTER(Logged)), ((1, "x"), (2, "e"))),
            ((c_double, POINTER(c_int)), ((1, "x"), (3, "e"))),
            ((c_double, POINTER(c_int)), ((0, "x"), (3, "e", byref(c_int(4))))),
            ((c_double, POINTER(c_int)), ((1, "x"), (1, "e", None))),
            ((c_double, c_char_p), ((1, "x"), (2, "e", buffer))),
            ((c_double, c_int * 2), ((1, "x"), (2, "e"))),
            ((c_double, POINTER(c_int)), ((5, "x", 3.0), (2, "e"))),
        ]:
            function = CFUNCTYPE(c_double, *types)(("split", lib), flags)
            if errcheck:
                function.errcheck = errcheck
            for args, keywords in CALLS:
                for _ in range(TIMES):
                    outcome = observe(function, *args, **keywords)
                    # A reference is described by its address, which is another one each time.
                    text = re.sub(r"'CArgObject', \d+", "'CArgObject'", str(outcome))
                    outcomes.append((text, list(log)))
                    log.clear()
        return outcomes

    compare(scenario)


def test_argtypes_that_are_no_tuple(lib):
    """What was assigned to `argtypes` may be a list or any sequence: results and errors of parameter flags stay ctypes'."""

    def scenario():
        outcomes = []
        for kind in (list, tuple, dict.fromkeys, lambda types: type("Sub", (tuple,), {})(types)):
            one = CFUNCTYPE(c_int, c_int)(("add_one", lib), ((1, "x", -5),))
            both = CFUNCTYPE(c_double, c_double, POINTER(c_int))(("frexp", CDLL(None)), ((1, "x"), (3, "e")))
            one.argtypes, both.argtypes = kind([c_int]), kind([c_double, POINTER(c_int)])
            for _ in range(TIMES):
                outcomes.append([observe(one, -3), observe(one), observe(one, 1, 2)])
                outcomes.append([type(both(8.0, byref(c_int()))).__name__, observe(both, "x")[:3]])
        return outcomes

    compare(scenario)
