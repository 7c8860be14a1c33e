"""Whole signatures, many of them random, and sites whose arguments change class: C receives the same words either way.

Each call is made several times on one function object, under plain ctypes and under hotcall, and the outcomes are compared.
"""

from ctypes import (
    c_bool, c_byte, c_char, c_double, c_float, c_int, c_int64, c_short, c_ubyte, c_uint, c_uint64, c_ushort, c_void_p,
)  # fmt: skip

import pytest
from conftest import LONG, compare, observe
from recorders import FLAVOURS, defined_words, flavoured
from values import FLOATS, AsParameter, FromParam, MyInt

STACK_TYPES = [c_byte, c_ubyte, c_short, c_ushort, c_int, c_uint, c_int64, c_bool, c_char, c_void_p, c_float, c_double]


def random_value(rng, argtype):
    """A value that this type accepts, of a random class."""
    if argtype in (c_float, c_double):
        return rng.choice([
            rng.uniform(-1e6, 1e6), rng.randint(-1000, 1000), True, argtype(rng.random()), rng.choice([0.0, -0.0, 1e300, 5e-324]),
        ])  # fmt: skip
    if argtype is c_char:
        return rng.choice([bytes([rng.randrange(256)]), rng.randrange(256), c_char(b"k")])
    if argtype is c_bool:
        return rng.choice([True, False, 0, 7, None, "", "x", c_bool(True)])
    number = rng.choice([rng.randint(-300, 300), rng.getrandbits(31), -rng.getrandbits(33), rng.getrandbits(64), -rng.getrandbits(90)])
    if argtype is c_void_p:
        return rng.choice([None, number, c_void_p(rng.getrandbits(40)), b"bytes"])
    return rng.choice([number, number, True, argtype(number), AsParameter(number)])


def signature_scenario(library, seen, argtypes, restype, rows):
    def scenario():
        function = library["record_f" if restype in FLOATS else "record_i"]
        function.argtypes = argtypes
        function.restype = restype
        outcomes = []
        for row in rows:
            for _ in range(3):
                seen.clear()
                outcomes.append((row, observe(function, *row), defined_words(seen, argtypes)))
        return outcomes

    return scenario


@pytest.mark.parametrize("argtypes", [
    [c_int] * 20, [c_double] * 20, [c_int, c_double] * 10, [c_float] * 12, [c_byte] * 9 + [c_float] * 9, [c_int64] * 30 + [c_double] * 10,
], ids=lambda types: f"{len(types)}x{types[0].__name__}")  # fmt: skip
def test_arguments_on_the_stack(argtypes, lib, seen, rng):
    rows = [[random_value(rng, argtype) for argtype in argtypes] for _ in range(6)]
    compare(signature_scenario(lib, seen, argtypes, None, rows))


def test_random_signatures(fixture_path, rng):
    for _ in range(3000 if LONG else 120):
        library, seen = flavoured(rng.choice(list(FLAVOURS)), fixture_path)
        answer = c_uint64.in_dll(library, "answer_i")
        answer.value = rng.getrandbits(64)
        c_uint64.in_dll(library, "answer_f").value = rng.getrandbits(64)
        argtypes = rng.choices(STACK_TYPES, k=rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 20, 30]))
        restype = rng.choice([None, *STACK_TYPES, MyInt])
        rows = [[random_value(rng, argtype) for argtype in argtypes] for _ in range(3)]
        if argtypes and rng.random() < 0.3:
            rows.append([*rows[0][:-1], object()])
        compare(signature_scenario(library, seen, argtypes, restype, [*rows, rows[0]]))


def test_polymorphic_site(lib, seen):
    """One site that alternates between classes of arguments stays right as its chain grows and ends."""
    values = [1, 1.5, True, c_int(3), c_double(2.5), 2**40, -1, None, "x", FromParam(), 2, 2.5]

    def scenario():
        outcomes = []
        for argtype in [c_int, c_double, c_void_p, c_bool]:
            function = lib["record_f" if argtype is c_double else "record_i"]
            function.argtypes = [argtype]
            function.restype = None
            for _ in range(20):
                for value in values:
                    seen.clear()
                    outcome = observe(function, value)
                    outcomes.append((outcome, outcome[0] == "returned" and not isinstance(value, str) and defined_words(seen, [argtype])))
        return outcomes

    compare(scenario)
