"""What becomes of functions that are called often: they run in stubs, keep references in balance, and die like others."""

import ctypes
import gc
import sys
from ctypes import POINTER, c_char_p, c_double, c_float, c_int, c_int64, c_ubyte, c_void_p, c_wchar_p, py_object

import pytest
from conftest import LIBRARY, hotly, plainly
from values import MyInt, Point

import hotcall


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


@pytest.mark.stubs
def test_many_shapes_are_bounded(lib, rng):
    """A thousand argument shapes over a hundred functions: chains, code and renewals stay within their limits."""
    hotcall.install()
    functions = []
    for _ in range(100):
        function = ctypes.CDLL(LIBRARY)["same"]
        function.argtypes, function.restype = [c_void_p], c_void_p
        functions.append(function)
    values = [(ctypes.c_int * number)() for number in range(1, 1001)]
    before = hotcall.stats()
    for _ in range(20_000):
        value = rng.choice(values)
        assert rng.choice(functions)(value) == ctypes.addressof(value)
    after = hotcall.stats()
    assert 0 < after["renewals"] <= 4 * 100
    assert after["shapes"] <= 8 * after["functions"]
    assert after["stubs"] - before["stubs"] <= 8 * 5 * 100
    assert after["code_bytes"] <= after["code_capacity"]


@pytest.mark.stubs
def test_a_site_follows_the_program(lib):
    """A function whose calls change for good runs in stubs again after a while."""
    hotcall.install()
    function = lib["same"]
    function.argtypes, function.restype = [c_void_p], c_void_p
    for number in range(1, 9):
        for _ in range(5):
            function((ctypes.c_int * number)())
    for _ in range(40):
        assert function(5) == 5
    before = hotcall.stats()
    for _ in range(100):
        function(5)
    assert hotcall.stats()["stub_calls"] - before["stub_calls"] == 100
