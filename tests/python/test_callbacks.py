"""Callbacks of every kind of argument and result, compared with plain ctypes: what the Python callable is given, and what C gets.

Each scenario calls a function object that was made for a Python callable, so that C enters it by its address.
"""

import ctypes
from ctypes import (
    CFUNCTYPE, POINTER, PYFUNCTYPE, Structure, Union, addressof, c_bool, c_byte, c_char, c_char_p, c_double, c_float,
    c_int, c_long, c_longdouble, c_longlong, c_short, c_size_t, c_ubyte, c_uint, c_ulong, c_ushort, c_void_p, c_wchar,
    c_wchar_p, cast, pointer, py_object, sizeof,
)  # fmt: skip

import pytest
from conftest import LONG, compare, describe, observe

import hotcall

pytestmark = pytest.mark.needs_exec

# More than the threshold of any lane.
TIMES = 5
ROUNDS = 1500 if LONG else 150


class Fancy(c_int):
    """A subclass of a simple type: callbacks get instances, which are made by calling it."""

    made = 0

    def __init__(self, *args):
        c_int.__init__(self, *args)
        type(self).made += 1


class FancyDouble(c_double):
    pass


class Pair(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


class Made(Structure):
    """A structure whose instances show that they were made by calling it."""

    _fields_ = [("x", c_long)]

    def __init__(self, *args):
        super().__init__(*args)
        self.note = "made"


class Mixed(Structure):
    _fields_ = [("a", c_long), ("b", c_double)]


class Floats(Structure):
    _fields_ = [("x", c_float), ("y", c_float), ("z", c_float)]


class Odd(Structure):
    _fields_ = [("x", c_ubyte * 3)]


class Large(Structure):
    _fields_ = [("a", c_long), ("b", c_double), ("c", c_int), ("d", c_char)]


class Nested(Structure):
    _fields_ = [("pair", Pair), ("f", c_float)]


class Choice(Union):
    _fields_ = [("i", c_int), ("f", c_float)]


class Numbers(ctypes.BigEndianStructure):
    _fields_ = [("x", c_int)]


Nothing = CFUNCTYPE(None)
OBJECT = object()


def record_value(cls):
    return lambda rng: cls.from_buffer_copy(rng.randbytes(sizeof(cls)))


def any_float(rng):
    return rng.choice([0.0, -0.0, 1.5, float("inf"), 5e-324, rng.uniform(-1e9, 1e9), -rng.random()])


def any_int(bits, signed):
    def value(rng):
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        return rng.choice([low, high, 0, 1, rng.randint(low, high), max(low, rng.randint(-200, 200))])

    return value


TEXT = b"a text that lives on"
WIDE = ctypes.create_unicode_buffer("wide, and \U0001f40d")

# Types of arguments, and values that C is to be given for each.
ARGUMENTS = {
    c_bool: lambda rng: rng.random() < 0.5,
    c_char: lambda rng: rng.randbytes(1),
    c_wchar: lambda rng: chr(rng.choice([65, 0xE9, 0x20AC, 0x1F40D, rng.randrange(1, 0xD800)])),
    c_byte: any_int(8, True),
    c_ubyte: any_int(8, False),
    c_short: any_int(16, True),
    c_ushort: any_int(16, False),
    c_int: any_int(32, True),
    c_uint: any_int(32, False),
    c_long: any_int(64, True),
    c_ulong: any_int(64, False),
    c_longlong: any_int(64, True),
    c_size_t: any_int(64, False),
    c_float: any_float,
    c_double: any_float,
    c_char_p: lambda rng: rng.choice([None, b"", TEXT]),
    c_wchar_p: lambda rng: rng.choice([None, cast(WIDE, c_wchar_p)]),
    c_void_p: lambda rng: rng.choice([None, rng.getrandbits(64)]),
    py_object: lambda rng: rng.choice([None, OBJECT, 5, "text", Pair]),
    POINTER(c_int): lambda rng: rng.choice([None, cast(c_void_p(rng.getrandbits(47)), POINTER(c_int))]),
    POINTER(Pair): lambda rng: cast(c_void_p(rng.getrandbits(47)), POINTER(Pair)),
    Fancy: lambda rng: Fancy(rng.randint(-9, 9)),
    FancyDouble: lambda rng: FancyDouble(any_float(rng)),
    Nothing: lambda rng: cast(c_void_p(rng.getrandbits(47)), Nothing),
    Pair: record_value(Pair),
    Made: record_value(Made),
    Mixed: record_value(Mixed),
    Floats: record_value(Floats),
    Odd: record_value(Odd),
    Large: record_value(Large),
    Nested: record_value(Nested),
}

# Types of results, and what a callable may give for each.
RESULTS = {
    None: lambda rng: rng.choice([None, 5, "ignored", OBJECT]),
    c_bool: lambda rng: rng.choice([True, False, 0, 1, "", "yes", [], None, 2.5]),
    c_char: lambda rng: rng.choice([rng.randbytes(1), bytearray(b"x"), rng.randrange(256)]),
    c_wchar: lambda rng: rng.choice(["x", "\u20ac", "\U0001f40d"]),
    c_float: lambda rng: rng.choice([any_float(rng), 3, True]),
    c_double: lambda rng: rng.choice([any_float(rng), 3, 2**70, True, Floaty()]),
    c_void_p: lambda rng: rng.choice([None, 0, rng.getrandbits(64), -1, 2**64 + 9]),
    py_object: lambda rng: rng.choice([OBJECT, Pair, TEXT, None]),
    Fancy: lambda rng: rng.choice([rng.randint(-9, 9), 2**40 + 9]),
    **{
        kind: lambda rng: rng.choice([rng.randint(-(2**70), 2**70), rng.randint(-9, 9), True, Index(), 2**40 + 9, -1, 0])
        for kind in (c_byte, c_ubyte, c_short, c_ushort, c_int, c_uint, c_long, c_ulong, c_longlong, c_size_t)
    },
}


class Index:
    def __index__(self):
        return 7


class Floaty:
    def __float__(self):
        return 2.25


def tell(value):
    """An argument as the callable sees it."""
    return describe(value), getattr(value, "note", None)


def calls_of(restype, argtypes, argument_lists, results, make=CFUNCTYPE, **options):
    """Calls a callback with each list of arguments; gives what it saw and what C got."""
    seen = []
    results = iter(results)

    def callable(*args):
        seen.append([tell(arg) for arg in args])
        return next(results)

    function = make(restype, *argtypes, **options)(callable)
    got = [observe(function, *args) for args in argument_lists]
    return seen, got


@pytest.mark.parametrize("kind", ARGUMENTS, ids=lambda kind: kind.__name__)
def test_each_argument(kind, rng):
    """Each kind of argument alone, and behind and before others."""
    for types in [(kind,), (c_int, kind, c_double), (kind, kind), (c_double,) * 9 + (kind,) + (c_long,) * 7 + (kind,)]:
        lists = [[ARGUMENTS[of](rng) for of in types] for _ in range(TIMES)]
        compare(lambda types=types, lists=lists: calls_of(c_int, types, lists, range(TIMES)))


@pytest.mark.parametrize("kind", RESULTS, ids=lambda kind: getattr(kind, "__name__", "None"))
def test_each_result(kind, rng):
    """Each kind of result, of objects that ctypes takes for it."""
    for _ in range(10):
        results = [RESULTS[kind](rng) for _ in range(TIMES)]
        compare(lambda results=results: calls_of(kind, [c_int], [[1]] * TIMES, results))


def test_random_signatures(rng):
    """Random signatures, with up to 24 arguments."""
    # libffi passes a structure of an integer and a float, in a register each, wrongly behind others with floats.
    kinds, results = [kind for kind in ARGUMENTS if kind not in (Mixed, Nested)], list(RESULTS)
    for _ in range(ROUNDS):
        types = [rng.choice(kinds) for _ in range(rng.choice([0, 1, 2, 3, 5, 9, 24]))]
        restype = rng.choice(results)
        lists = [[ARGUMENTS[of](rng) for of in types] for _ in range(TIMES)]
        given = [RESULTS[restype](rng) for _ in range(TIMES)]
        make = rng.choice([CFUNCTYPE, PYFUNCTYPE])
        options = {"use_errno": True} if make is CFUNCTYPE and rng.random() < 0.2 else {}
        compare(
            lambda restype=restype, types=types, lists=lists, given=given, make=make, options=options: calls_of(
                restype, types, lists, given, make, **options
            )
        )


@pytest.mark.stubs
@pytest.mark.parametrize("kind", ARGUMENTS, ids=lambda kind: kind.__name__)
def test_arguments_run_in_stubs(kind, rng):
    """What is compared above is native code."""
    hotcall.install()
    before = hotcall.stats()["stub_callbacks"]
    function = CFUNCTYPE(c_int, kind)(lambda value: 3)
    arguments = [ARGUMENTS[kind](rng) for _ in range(20)]
    assert [function(argument) for argument in arguments] == [3] * 20
    assert hotcall.stats()["stub_callbacks"] - before >= 15
    explanation = hotcall.explain(function).callback
    assert explanation.tier == "stub" and explanation.refused is None, explanation
    assert explanation.code_bytes > 0 and "call_back" in explanation.trace and "ret" in explanation.disassembly


@pytest.mark.parametrize(
    ("restype", "argtypes", "name"),
    [
        (c_int, [c_longdouble], "long-double"),
        (c_longdouble, [], "long-double"),
        (c_int, [c_int * 3], "callback-argument"),
        (c_int, [Choice], "by-value"),
        (c_int.__ctype_be__, [], "callback-result"),
    ],
)
def test_refusals(restype, argtypes, name):
    """What is left to ctypes has a name, is counted, and works as it did."""
    hotcall.install()
    before = hotcall.stats()["callback_refusals"].get(name, 0)
    function = CFUNCTYPE(restype, *argtypes)(lambda *args: 5)
    explanation = hotcall.explain(function).callback
    assert explanation.tier == "ctypes" and explanation.refused.name == name
    assert hotcall.stats()["callback_refusals"][name] == before + 1
    assert f"refused, {name}" in str(hotcall.explain(function))


def test_refused_callbacks_are_called():
    """Refused callbacks, which ctypes makes, see and give the same."""

    def scenario():
        long = calls_of(c_longdouble, [c_longdouble, c_int], [[1.5, 2], [-0.25, 3]] * 3, [2.5, 3] * 3)
        union = calls_of(c_int, [Choice, c_int], [[Choice(i=5), 2]] * 3, [1, 2, 3])
        return long, union

    compare(scenario)


def test_classes_are_called_for_instances():
    """An instance that a callback gets is made by calling its class, once for each."""

    def scenario():
        Fancy.made = 0
        seen = calls_of(c_int, [Fancy, Pair, Fancy], [[Fancy(1), Pair(2, 3), Fancy(4)]] * 9, range(9))
        return seen, Fancy.made

    compare(scenario)


def test_instances_own_their_memory():
    """What a callback keeps of its arguments stays as it was."""

    def scenario():
        kept = []
        function = CFUNCTYPE(None, Pair, Large, Fancy)(lambda *args: kept.extend(args))
        for number in range(6):
            function(Pair(number, 2), Large(number, 0.5, 3, b"x"), Fancy(number))
        return [describe(value) for value in kept]

    compare(scenario)


def test_pointers_reach_what_they_point_to(rng):
    """Pointers that callbacks get read and write the memory of the caller."""

    def scenario():
        values = (c_int * 4)(1, 2, 3, 4)

        @CFUNCTYPE(c_int, POINTER(c_int), c_void_p, POINTER(Pair))
        def bump(numbers, address, pairs):
            numbers[1] += 5
            c_int.from_address(address).value += 1
            pairs.contents.y = 9
            return sum(numbers[:4])

        pair = Pair(1, 2)
        return [bump(values, addressof(values), pointer(pair)) for _ in range(6)], list(values), pair.y

    compare(scenario)


class Callable:
    def __init__(self):
        self.seen = []

    def __call__(self, *args):
        self.seen.append(args)
        return len(args)

    def method(self, *args):
        return self(*args)


def defaults(a, b=5, *rest, c=7):
    return a + b + c + sum(rest)


@pytest.mark.parametrize(
    "callable",
    [Callable(), Callable().method, max, defaults, lambda *args: sum(args), int.__add__, (5).__add__, divmod],
    ids=repr,
)
def test_any_callable(callable):
    """Whatever can be called can be called back; what it raises is reported."""
    import sys

    def scenario():
        reports = []
        before, sys.unraisablehook = sys.unraisablehook, lambda report: reports.append((type(report.exc_value), str(report.exc_value)))
        try:
            got = [CFUNCTYPE(c_int, c_int, c_int)(callable)(3, 4) for _ in range(4)]
        finally:
            sys.unraisablehook = before
        return reports, got if not reports else None

    compare(scenario)
