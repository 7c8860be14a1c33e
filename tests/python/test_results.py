"""Every type of result, under plain ctypes and under hotcall: the same value is made of the same bits.

Nothing here says what ctypes does; each test collects what it did, down to the bits that C saw, and compares. Each call is
made several times on one function object, so that it goes through recording and then through the stub.
"""

import ctypes
import sys
from ctypes import (
    POINTER, PyDLL, c_bool, c_byte, c_char, c_char_p, c_double, c_float, c_int, c_long, c_short, c_ubyte, c_uint, c_uint64,
    c_ulonglong, c_ushort, c_void_p, c_wchar, c_wchar_p, py_object,
)  # fmt: skip

import pytest
from conftest import compare, describe, observe, python
from recorders import FLAVOURS, flavoured
from values import ARGTYPES, MyInt, Point

TIMES = 4


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


def test_callables_as_result_types():
    """Callables of every sort, in whose memory nothing is a name; what is wrong there could crash."""
    finished = python("""if True:
        import ctypes, functools, os, hotcall
        hotcall.install()
        lib = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
        unary = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
        for kind in (lib["add_one"], unary(("add_one", lib)), hotcall.bind(lib["add_one"]), (5).__add__, functools.partial(max, -3)):
            function = lib["add_one"]
            function.restype = kind
            assert [function(number) for number in range(5)] == [kind(number + 1) for number in range(5)]
        print("done")
    """)
    assert finished.stdout == "done\n", finished


def test_floats_are_independent_objects(lib):
    def scenario():
        function = lib["mix_d"]
        function.argtypes = [c_double, c_float, c_int]
        function.restype = c_double
        kept = [function(float(number), 0.5, number) for number in range(200)]
        return [describe(value) for value in kept], len({id(value) for value in kept})

    compare(scenario)
