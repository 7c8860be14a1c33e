"""Every argument in every place, under plain ctypes and under hotcall: the outcomes must be the same.

Nothing here says what ctypes does; each test collects what it did, down to the bits that C saw, and compares. Each call is
made several times on one function object, so that it goes through recording and then through the stub.
"""

import ctypes
from ctypes import (
    CDLL, POINTER, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int64, c_long, c_longdouble, c_short, c_size_t, c_ubyte,
    c_void_p, create_string_buffer,
)  # fmt: skip

import pytest
from conftest import LONG, compare, observe
from recorders import FLAVOURS, call_one, flavoured, one_argument
from values import ARGTYPES, Point, goes_in_vector_register, is_crash, make_values

TIMES = 4


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", ARGTYPES)
def test_every_value_for_every_type(name, flavour, fixture_path):
    library, seen = flavoured(flavour, fixture_path)
    values = make_values(library)
    argtype = ARGTYPES[name]

    def scenario():
        outcomes = {}
        for value_name, value in values.items():
            if is_crash(name, value_name):
                continue
            function = one_argument(library, argtype, value)
            outcomes[value_name] = [call_one(function, seen, argtype, value) for _ in range(TIMES)]
        return outcomes

    compare(scenario)


@pytest.mark.parametrize("name", ARGTYPES)
def test_one_site_sees_all_values(name, fixture_path, rng):
    """One function object per type gets every value in random order: guards, chains, the cap, and errors in between."""
    library, seen = flavoured("CDLL", fixture_path)
    values = {key: value for key, value in make_values(library).items() if not is_crash(name, key)}
    argtype = ARGTYPES[name]
    order = rng.choices(list(values), k=len(values) * (40 if LONG else 4))

    def scenario():
        functions = {}
        outcomes = []
        for key in order:
            fresh = one_argument(library, argtype, values[key])
            function = functions.setdefault(goes_in_vector_register(argtype, values[key]), fresh)
            outcomes.append((key, call_one(function, seen, argtype, values[key])))
        return outcomes

    compare(scenario)


def test_long_double(lib, seen):
    def scenario():
        seen.clear()
        outcomes = []
        for value in make_values(lib).values():
            function = lib["record_g"]
            function.argtypes = [c_longdouble]
            function.restype = c_longdouble
            outcomes.append([(observe(function, value), bytes(seen.bytes)) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_counts_of_arguments_and_keywords(flavour, fixture_path):
    library, seen = flavoured(flavour, fixture_path)
    calls = [
        ((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((1, 2, 3, 4), {}), ((1, 2, 3.0), {}), ((1, 2, b"x", None, "w"), {}),
        ((1, 2), {"x": 1}), ((), {"a": 1, "b": 2}), ((1,), {"b": 2}), ((1, 2.0), {}), ((1.0, 2), {}), (("x", 2), {}),
    ]  # fmt: skip

    def scenario():
        outcomes = []
        for argtypes in [None, [], [c_int], [c_int, c_long], (c_int, c_long, c_double)]:
            for args, kwargs in calls:
                function = library["record_i"]
                function.argtypes = argtypes
                function.restype = None
                for _ in range(TIMES):
                    before = seen.calls
                    outcomes.append((argtypes, args, observe(function, *args, **kwargs), seen.calls - before))
        return outcomes

    compare(scenario)


def test_paramflags(lib):
    def scenario():
        prototype = ctypes.CFUNCTYPE(c_int, c_int, c_int)
        outcomes = []
        for flags in [((1, "a"), (1, "b", 5)), ((1, "a"), (1, "b")), ((1, "a", 3), (1, "b", 4))]:
            function = prototype(("record_i", lib), flags)
            for args, kwargs in [((), {}), ((1,), {}), ((1, 2), {}), ((1, 2, 3), {}), ((), {"a": 1}), ((1,), {"b": 9}), ((), {"c": 1})]:
                outcomes.append([observe(function, *args, **kwargs) for _ in range(TIMES)])
        out = ctypes.CFUNCTYPE(None, c_int64, POINTER(c_int))(("record_i", lib), ((1, "a"), (2, "out")))
        outcomes.append([observe(out, 1) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_too_many_arguments(lib):
    def scenario():
        function = lib["record_i"]
        function.restype = None
        return [observe(function, *[0] * count) for count in [1, 53, 100, 1024, 1025] for _ in range(TIMES)]

    compare(scenario)


class Sixteen(ctypes.Structure):
    _fields_ = [("a", c_int64), ("b", c_double)]


class Floats(ctypes.Structure):
    _fields_ = [("x", c_float), ("y", c_float)]


class Doubles(ctypes.Structure):
    _fields_ = [("x", c_double), ("y", c_double)]


class Large(ctypes.Structure):
    _fields_ = [("a", c_int64), ("b", c_int64), ("c", c_int64)]


STRUCTURES = {
    "take_s8": Point(1, -2),
    "take_s16": Sixteen(-(2**62), 1.5),
    "take_f8": Floats(1.5, -2.5),
    "take_f16": Doubles(1.5, -2.5),
    "take_s24": Large(1, 2, -3),
}


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_by_value(name, flavour, fixture_path):
    library, seen = flavoured(flavour, fixture_path)
    value = STRUCTURES[name]

    def scenario():
        seen.clear()
        outcomes = []
        for argtypes in [None, [c_int, type(value), c_int]]:
            function = library[name]
            function.argtypes = argtypes
            function.restype = type(value)
            for args in [(7, value, -7), (7, value, 2**40), (7, None, 1), (7, value), (7, value, 1.5), (-1, value, 1)]:
                # Where nothing is declared, C would read a missing structure from whatever is in its place.
                if argtypes is None and (len(args) < 3 or args[1] is None):
                    continue
                for _ in range(TIMES):
                    before = seen.calls
                    outcomes.append((observe(function, *args), seen.calls - before, list(seen.ints[:2]), bytes(seen.bytes)))
        return outcomes

    compare(scenario)


def test_variadic(lib):
    def scenario():
        outcomes = []
        for argtypes in [None, [c_int]]:
            function = lib["sum_doubles"]
            function.argtypes = argtypes
            function.restype = c_double
            for count in range(10):
                values = [c_double(number + 0.5) for number in range(count)]
                outcomes.append([observe(function, count, *values) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_narrow_variadic_arguments():
    """C would have promoted them: libffi refuses those behind the declared arguments, and so does ctypes."""

    def scenario():
        outcomes = []
        for extra in [c_float(1.5), c_short(1), c_bool(True), c_char(b"x"), c_ubyte(3), c_int(4), c_double(2.5), c_long(5), 6, b"text"]:
            for argtypes in ([c_void_p, c_size_t, c_char_p], [c_void_p, c_short, c_char_p], []):
                function = CDLL(None)["snprintf"]
                function.argtypes = argtypes
                buffer, form = create_string_buffer(40), b"%.1f" if isinstance(extra, (c_float, c_double)) else b"%x"
                if argtypes or not isinstance(extra, c_float):
                    outcomes.append([observe(function, buffer, 40, form, extra)[:3] for _ in range(3)])
                    outcomes.append(observe(function, buffer, 40, b"x"))
        return outcomes

    compare(scenario)
