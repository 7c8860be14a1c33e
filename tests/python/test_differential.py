"""Every argument, result and error, under plain ctypes and under hotcall: the outcomes must be the same.

Nothing here says what ctypes does; each test collects what it did, down to the bits that C saw, and compares. Each call is
made several times on one function object, so that it goes through recording and then through the stub.
"""

import ctypes
import gc
import sys
from ctypes import (
    CDLL, POINTER, PyDLL, c_bool, c_byte, c_char, c_char_p, c_double, c_float, c_int, c_int64, c_long, c_longdouble,
    c_short, c_ubyte, c_uint, c_uint64, c_ulonglong, c_ushort, c_void_p, c_wchar, c_wchar_p, py_object,
)  # fmt: skip

import pytest
from conftest import LONG, Seen, compare, describe, hotly, observe, plainly
from values import ARGTYPES, FLOATS, AsParameter, FromParam, MyInt, Point, goes_in_vector_register, is_crash
from values import make_values, unwrapped

import hotcall

TIMES = 4
FLAVOURS = {
    "CDLL": CDLL,
    "use_errno": lambda path: CDLL(path, use_errno=True),
    "PyDLL": PyDLL,
}


def flavoured(flavour, path):
    library = FLAVOURS[flavour](path)
    return library, Seen.in_dll(library, "seen")


def text_behind(seen, wide):
    """The text up to its NUL in the memory that the recorder read."""
    data = bytes(seen.bytes)[: max(seen.size, 0)]
    if not wide:
        return data.split(b"\0")[0]
    words = [data[i : i + 4] for i in range(0, len(data), 4)]
    return b"".join(words[: words.index(bytes(4))] if bytes(4) in words else words)


def what_c_saw(seen, in_vector, narrow, text):
    """The first argument as C received it: all 64 bits of its register, or the text behind a temporary."""
    if in_vector:
        return seen.floats[0] & (0xFFFFFFFF if narrow else 2**64 - 1)
    word = seen.ints[0]
    # A str is passed as a copy whose address means nothing.
    if text and word > 2**20:
        return text_behind(seen, wide=True)
    return word


def call_one(function, seen, argtype, value):
    """One observed call of a recorder with one argument."""
    before = seen.calls
    in_vector = goes_in_vector_register(argtype, value)
    outcome = observe(function, value)
    if seen.calls == before:
        return outcome
    narrow = argtype is c_float or isinstance(unwrapped(value), c_float)
    return outcome, seen.calls - before, what_c_saw(seen, in_vector, narrow, isinstance(unwrapped(value), str))


def one_argument(library, argtype, value):
    """A fresh recorder for one argument of this type."""
    function = library["record_f" if goes_in_vector_register(argtype, value) else "record_p"]
    if argtype is not None:
        function.argtypes = [argtype]
    function.restype = None
    return function


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


class CheckedInt(c_int):
    """A result type with a check of its own."""

    def _check_retval_(self):
        value = self.value
        if value < 0:
            raise ArithmeticError(f"negative: {value}")
        return value * 2


RESULTS = {
    **{kind.__name__: kind for kind in [
        c_bool, c_char, c_wchar, c_byte, c_ubyte, c_short, c_ushort, c_int, c_uint, c_long, c_ulonglong, c_void_p,
    ]},
    "None": None,
    "MyInt": MyInt,
    "Point": Point,
    "POINTER(c_int)": POINTER(c_int),
    "Callback": ARGTYPES["Callback"],
    "CheckedInt": CheckedInt,
    "hex": hex,
    "lambda": lambda number: (number, "seen"),
}  # fmt: skip
BITS = [
    0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x41, 0x1F600, 0x10FFFF, 0x110000, 0xD800,
    2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 5, 2**40 + 3, 2**63 - 1, 2**63, 2**64 - 1, 0xDEADBEEFCAFEBABE,
]  # fmt: skip


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", RESULTS)
def test_results_in_rax(name, flavour, fixture_path):
    """Each result type reads its own bits of the register, and no others."""
    library, _ = flavoured(flavour, fixture_path)
    answer = c_uint64.in_dll(library, "answer_i")

    def scenario():
        function = library["record_i"]
        function.argtypes = []
        function.restype = RESULTS[name]
        outcomes = []
        for bits in BITS:
            answer.value = bits
            outcomes.append((bits, [observe(function) for _ in range(TIMES)]))
        return outcomes

    compare(scenario)


@pytest.mark.parametrize("kind", [c_float, c_double, ARGTYPES["MyDouble"]])
def test_results_in_xmm0(kind, lib):
    answer = c_uint64.in_dll(lib, "answer_f")
    patterns = [*BITS, 0x3FF8000000000000, 0x8000000000000000, 0x7FF0000000000000, 0x7FF8000000000001, 0x3FC00000, 0x7FC00000]

    def scenario():
        function = lib["record_f"]
        function.argtypes = []
        function.restype = kind
        outcomes = []
        for bits in patterns:
            answer.value = bits
            outcomes.append((bits, [observe(function) for _ in range(TIMES)]))
        return outcomes

    compare(scenario)


@pytest.mark.parametrize("kind", [c_char_p, c_wchar_p])
def test_results_that_are_text(kind, lib):
    texts = [None, "", "abc", "x" * 50, "a\0b", "\x7f", "\x80\xff", "\u1234"]
    if kind is c_char_p:
        texts = [text if text is None else text.encode() for text in texts]

    def scenario():
        function = lib["same"]
        function.argtypes = [kind]
        function.restype = kind
        fixed = lib["same"]
        fixed.restype = kind
        return [[(observe(function, text), observe(fixed, text)) for _ in range(TIMES)] for text in texts]

    compare(scenario)


def test_default_result_and_its_reset(lib):
    answer = c_uint64.in_dll(lib, "answer_i")
    answer.value = 2**40 - 7

    def scenario():
        function = lib["record_i"]
        outcomes = [[observe(function) for _ in range(TIMES)]]
        for kind in [c_long, None, c_ubyte, MyInt]:
            function.restype = kind
            outcomes.append([observe(function) for _ in range(TIMES)])
            del function.restype
            outcomes.append([observe(function) for _ in range(TIMES)])
        return outcomes

    compare(scenario)


def test_py_object_results(fixture_path):
    """A result of type py_object takes over a reference, which is added first."""
    things = [None, 5, 10**30, "text", [], {}, object(), 1.5, ("a", 1)]
    library = PyDLL(fixture_path)

    def scenario():
        function = library["same"]
        function.argtypes = [py_object]
        function.restype = py_object
        add = ctypes.pythonapi["Py_IncRef"]
        add.argtypes = [py_object]
        add.restype = None
        outcomes = []
        for thing in things:
            before = sys.getrefcount(thing)
            for _ in range(TIMES):
                add(thing)
                outcomes.append(describe(function(thing)))
            outcomes.append(sys.getrefcount(thing) - before)
        return outcomes

    compare(scenario)


def test_results_are_independent_objects(lib):
    """Results that are instances own their memory: no stub may hand out one twice."""

    def scenario():
        answer = c_uint64.in_dll(lib, "answer_i")
        function = lib["record_i"]
        function.argtypes = []
        kept = []
        for kind in [MyInt, Point, POINTER(c_int)]:
            function.restype = kind
            for number in range(8):
                answer.value = number
                kept.append(function())
        return [describe(thing) for thing in kept], len({id(thing) for thing in kept}), len({ctypes.addressof(t) for t in kept})

    compare(scenario)


def test_floats_are_independent_objects(lib):
    def scenario():
        function = lib["mix_d"]
        function.argtypes = [c_double, c_float, c_int]
        function.restype = c_double
        kept = [function(float(number), 0.5, number) for number in range(200)]
        return [describe(value) for value in kept], len({id(value) for value in kept})

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


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_errno(flavour, fixture_path):
    library = FLAVOURS[flavour](fixture_path)

    def scenario():
        get, put, swap, both = (library[name] for name in ["get_errno", "set_errno", "swap_errno", "errno_and"])
        for function in [put, swap]:
            function.argtypes = [c_int]
        get.argtypes = []
        both.argtypes = [c_int, c_double, c_char_p]
        outcomes = []
        ctypes.set_errno(0)
        put(0)
        for number in [11, 12, 13, 14, 15, 16, 17, 18]:
            outcomes.append(("put", put(number), get(), ctypes.get_errno()))
            outcomes.append(("swap", swap(number * 2), get(), ctypes.get_errno()))
            outcomes.append(("set", ctypes.set_errno(number * 3), get(), swap(5), ctypes.get_errno()))
            outcomes.append(("more", both(1, 2.0, b"x"), both(2, 3, None), ctypes.get_errno(), get()))
            outcomes.append(("error", observe(put, "x"), observe(put), get(), ctypes.get_errno()))
        return outcomes

    compare(scenario)


def test_errno_survives_two_calls_in_a_row(lib):
    """Nothing between two calls writes errno, not even in C."""

    def scenario():
        put, get = lib["set_errno"], lib["get_errno"]
        put.argtypes = [c_int]
        get.argtypes = []
        return [(put(number), get()) for number in range(1, 200)]

    compare(scenario)


def test_exceptions_set_by_c():
    def scenario():
        raiser = ctypes.pythonapi["PyErr_SetNone"]
        raiser.argtypes = [py_object]
        raiser.restype = None
        texter = ctypes.pythonapi["PyErr_SetString"]
        texter.argtypes = [py_object, c_char_p]
        maker = ctypes.pythonapi["PyLong_FromString"]
        maker.argtypes = [c_char_p, c_void_p, c_int]
        maker.restype = py_object
        outcomes = []
        for kind in [KeyError, ValueError, StopIteration]:
            outcomes += [(observe(raiser, kind), observe(texter, kind, b"text")) for _ in range(TIMES)]
        outcomes += [observe(maker, text, None, 10) for text in [b"12", b"7" * 30] for _ in range(TIMES)]
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


def test_errcheck(lib):
    """errcheck sees the result, the function and a tuple of the arguments, and replaces the result or not."""

    def scenario():
        log = []

        def keep(result, function, args):
            log.append(("keep", describe(result), function is target, type(args), args))
            return args

        def replace(result, function, args):
            log.append(("replace", describe(result)))
            return [result, args]

        def fail(result, function, args):
            raise OSError(result, "checked")

        target = lib["add_one"]
        target.argtypes = [c_int]
        outcomes = []
        for check in [keep, replace, fail, keep]:
            target.errcheck = check
            outcomes += [observe(target, number) for number in [1, 2, "x", 3, True]]
        given = (4,)
        target.errcheck = lambda result, function, args: args is given
        outcomes += [observe(target, *given) for _ in range(TIMES)]
        del target.errcheck
        outcomes += [observe(target, 5) for _ in range(TIMES)]
        outcomes.append(observe(setattr, target, "errcheck", None))
        return outcomes, log

    compare(scenario)


class Witness:
    """Notes every question that is put to it. Conversions ask the same questions, in the same order, in every tier."""

    def __init__(self, log):
        self.log = log

    def __bool__(self):
        self.log.append("bool")
        return True

    def __index__(self):
        self.log.append("index")
        return 3

    def __float__(self):
        self.log.append("float")
        return 3.0

    @property
    def _as_parameter_(self):
        self.log.append("as_parameter")
        return 4


class Judging(type(c_int)):
    """A metaclass that answers isinstance() itself."""

    log = []

    def __instancecheck__(cls, value):
        cls.log.append(type(value).__name__)
        return super().__instancecheck__(value)


class Judged(c_int, metaclass=Judging):
    pass


def test_side_effects_of_conversions(lib):
    def scenario():
        log = []
        Judging.log.clear()
        outcomes = []
        for argtype in [None, c_int, c_bool, c_double, c_char_p, c_void_p, POINTER(c_int), Judged, py_object]:
            function = lib["record_f" if argtype in FLOATS else "record_p"]
            function.argtypes = None if argtype is None else [c_int, argtype, c_int]
            function.restype = None
            for args in [(1, Witness(log), 2), (1, Witness(log), "bad"), ("bad", Witness(log), 2), (1, 5, 2), (1, None, 2)]:
                for _ in range(TIMES):
                    outcomes.append(observe(function, *args))
                    log.append("|")
        return outcomes, log, list(Judging.log)

    compare(scenario)


def test_from_param_runs_once_and_in_order(lib):
    def scenario():
        log = []

        class First:
            @classmethod
            def from_param(cls, value):
                log.append(("first", value))
                return value

        class Second:
            @staticmethod
            def from_param(value):
                log.append(("second", value))
                if value == 13:
                    raise KeyboardInterrupt("unlucky")
                if value == 14:
                    return 1.5
                return c_int(value) if value % 2 else value

        function = lib["mix_i"]
        function.argtypes = [First, Second, c_ubyte]
        function.restype = c_int64
        calls = [(1, 2, 3), (1, 3, 3), (1, 13, 3), (1, 14, 3), (1, 3, "x"), ("t", 3, 3), (None, 1, 1), (1, 2), (1, 2, 3, 4)]
        return [observe(function, *args) for args in calls for _ in range(TIMES)], log

    compare(scenario)


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


def defined_words(seen, argtypes):
    """The words that C received, as far as a signature of these types defines them."""
    ints, floats, slots, words = 0, 0, 0, []
    for argtype in argtypes:
        mask = 256 ** ctypes.sizeof(argtype) - 1
        if issubclass(argtype, FLOATS) and floats < 8:
            words.append(seen.floats[floats] & mask)
            floats += 1
        elif not issubclass(argtype, FLOATS) and ints < 6:
            # Integers are widened to the whole register.
            words.append(seen.ints[ints])
            ints += 1
        else:
            words.append(seen.slots[slots] & mask)
            slots += 1
    return words


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


def test_references_are_kept_in_balance(lib):
    """After many calls, every object that took part has as many references as before."""
    integer, real, data, text, box = 10**6 + 1, 1234.5, b"some bytes", "some text", c_int(7)
    array, held = (c_int * 3)(), ctypes.pointer(c_int(5))
    took_part = [integer, real, data, text, box, array, held, None, int, float, c_int, MyInt, Point, POINTER(c_int), c_double]

    def drive(name, argtypes, restype, args):
        function = lib[name]
        function.argtypes = argtypes
        function.restype = restype
        for _ in range(10_000):
            function(*args)

    def errors():
        function = lib["add_one"]
        function.argtypes = [c_int]
        for _ in range(2_000):
            with pytest.raises(ctypes.ArgumentError):
                function(text)

    drives = [
        lambda: drive("mix_i", [c_int, c_int64, c_ubyte], c_int64, (integer, integer, 1)),
        lambda: drive("mix_i", None, MyInt, (integer, box, 1)),
        lambda: drive("mix_d", [c_double, c_float, c_int], c_double, (real, real, integer)),
        lambda: drive("length", [c_char_p], c_int64, (data,)),
        lambda: drive("wide_length", [c_wchar_p], c_int64, (text,)),
        lambda: drive("same", [c_void_p], c_void_p, (array,)),
        lambda: drive("same", [POINTER(c_int)], POINTER(c_int), (held,)),
        lambda: drive("same", [POINTER(c_int)], POINTER(c_int), (box,)),
        lambda: drive("same", [POINTER(c_int)], POINTER(c_int), (ctypes.byref(box),)),
        lambda: drive("same", [c_char_p], c_char_p, (data,)),
        lambda: drive("same", [py_object], c_void_p, (text,)),
        lambda: drive("record_i", [], Point, ()),
        lambda: drive("nothing", [], None, ()),
        errors,
    ]
    hotcall.install()
    for drive_once in drives:
        drive_once()
        gc.collect()
        before = [sys.getrefcount(thing) for thing in took_part]
        blocks = sys.getallocatedblocks()
        drive_once()
        gc.collect()
        after = [sys.getrefcount(thing) for thing in took_part]
        # A few references come and go with caches of the interpreter; a leak per call would be thousands.
        assert all(abs(new - old) < 20 for old, new in zip(before, after, strict=True)), list(zip(took_part, before, after, strict=True))
        assert sys.getallocatedblocks() - blocks < 500


def test_functions_are_freed(lib):
    """Function objects that became hot die like others, and take what they held with them."""

    def lives():
        function = lib["add_one"]
        function.argtypes = [c_int]
        function.payload = payload = type("Payload", (), {})()
        for _ in range(5):
            function(1)
        del function
        gc.collect()
        return sys.getrefcount(payload)

    assert plainly(lives) == hotly(lives)


@pytest.mark.stubs
def test_simple_functions_run_in_stubs(lib):
    """The harness would be of no use if nothing became hot."""
    hotcall.install()
    for name, argtypes, restype, args in [
        ("add_one", [c_int], c_int, (1,)),
        ("mix_d", [c_double, c_float, c_int], c_double, (1.0, 2.0, 3)),
        ("length", [c_char_p], c_int64, (b"abc",)),
        ("same", [c_void_p], c_void_p, (None,)),
        ("nothing", [], None, ()),
    ]:
        function = lib[name]
        function.argtypes = argtypes
        function.restype = restype
        before = hotcall.stats()["stub_calls"]
        for _ in range(50):
            function(*args)
        assert hotcall.stats()["stub_calls"] - before >= 40, f"{name}: {hotcall.explain(function)}"
