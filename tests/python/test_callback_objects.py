"""The function objects of callbacks: what they are, what they share, what hotcall tells of them, and their errno."""

import ctypes
import pickle
import struct
import threading
from ctypes import (
    CDLL, CFUNCTYPE, POINTER, PyDLL, Structure, addressof, c_double, c_int, c_void_p, cast, get_errno, set_errno, sizeof,
)  # fmt: skip

import pytest
from conftest import EXPECT_STUBS, LIBRARY, compare, observe

import hotcall

pytestmark = pytest.mark.needs_exec


class Pair(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


Nothing = CFUNCTYPE(None)


def test_use_errno():
    """A callback with use_errno sees the private errno, and what it leaves there is C's."""

    def scenario():
        lib, real = CDLL(LIBRARY, use_errno=True), PyDLL(LIBRARY)
        seen = []

        def callable(value):
            seen.append(get_errno())
            set_errno(value)
            return value

        for use_errno in (True, False):
            function = CFUNCTYPE(c_int, c_int, use_errno=use_errno)(callable)
            plain = CFUNCTYPE(c_int, c_int)
            lib.call_back.argtypes = None
            for value in range(5, 12):
                real.set_errno(value * 100)
                set_errno(value * 10)
                lib.call_back(cast(function, plain), value)
                seen.append(get_errno())
        return seen

    compare(scenario)


def test_errno_space_of_a_new_thread():
    """The first thing that a thread does with ctypes may be a callback with use_errno."""
    def scenario():
        found = []
        function = CFUNCTYPE(c_int, c_int, use_errno=True)(lambda value: set_errno(value) * 0 + get_errno())
        outer = ctypes.PYFUNCTYPE(c_int, c_int)(cast(function, c_void_p).value)

        def work():
            found.append([outer(value) for value in (5, 6, 7)])

        for _ in range(3):
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
        return found

    compare(scenario)


def test_the_function_object():
    """The function object is what it was, but for its address."""
    Binary = CFUNCTYPE(c_int, c_int)

    class Table(Structure):
        _fields_ = [("f", Binary), ("g", Binary)]

    def scenario():
        function, other = Binary(lambda x: x + 1), Binary(lambda x: x + 2)
        address = cast(function, c_void_p).value
        table, array = Table(function, other), (Binary * 2)(function, other)
        seen = [address == c_void_p.from_buffer(function).value, bool(function), bool(Binary()), function == function]
        seen += [function == Binary(address), function != other, sizeof(function), "0" in function._objects]
        seen += [type(function._objects["0"]).__name__, function._b_needsfree_, function._b_base_]
        seen += [bytes(function) == struct.pack("P", address), repr(function).partition(" at ")[0]]
        seen += [table.f(1), table.g(1), array[0](1), array[1](1), cast(address, Binary)(1), Binary(address)(5)]
        seen += [Binary.from_address(addressof(function))(7), Binary.from_buffer(function)(7)]
        table.f = other
        seen += [table.f(1), cast(table.f, c_void_p).value == cast(other, c_void_p).value]
        seen += [observe(pickle.dumps, function), observe(hash, function)]
        return seen

    compare(scenario)


def test_classes_that_change_between_callbacks():
    """What a class of functions, or of an argument, gets later is seen by the functions that are made from then on."""

    def scenario():
        class Late(Structure):
            pass

        class Named(Structure):
            _fields_ = [("x", c_int), ("y", c_int)]

        class Longer(Named):
            pass

        seen = []
        for structure in (Late, Named, Longer):
            Base = CFUNCTYPE(c_int, structure)
            own = {"_flags_": Base._flags_, "_argtypes_": (c_int,), "_restype_": c_double}
            Derived = type("Derived", (Base,), own)

            def use(*, structure=structure, classes=(Base, Derived)):
                for Function in classes:

                    def work(Function=Function):
                        function = Function(lambda arg: (seen.append(type(arg).__name__), sizeof(arg) + arg.x)[1])
                        return [function(structure(3)) for _ in range(5)]

                    seen.append(observe(work))

            use()
            for changed, name, value in (
                (structure, "_fields_", [("x", c_double), ("y", c_double), ("z", c_double)]),
                (structure, "name", 1),
                (Base, "_argtypes_", (c_int,)),
                (Base, "_restype_", None),
                (Derived, "_argtypes_", (structure,)),
                (Derived, "_flags_", 0),
            ):
                seen.append(observe(setattr, changed, name, value))
                use()
                use()
        return seen

    compare(scenario)


@pytest.mark.parametrize("restype", [Pair, POINTER(c_int), c_int * 3, Nothing, int, "int"], ids=repr)
def test_results_that_ctypes_refuses(restype):
    compare(lambda: observe(lambda: CFUNCTYPE(restype, c_int)(lambda x: x)))


def test_what_is_made_before_the_import_of_the_hook():
    """Older function objects are called back by the rules as well, by the address that they had."""
    Binary = CFUNCTYPE(c_int, c_int)
    older = Binary(lambda x: x + 1)
    address = cast(older, c_void_p).value
    with hotcall.installed():
        before = hotcall.stats()["interpreter_callbacks"]
        assert [older(number) for number in range(20)] == list(range(1, 21))
        assert cast(older, c_void_p).value == address
        assert hotcall.stats()["interpreter_callbacks"] - before == 20
        assert hotcall.explain(older).callback.tier == "interpreter"
        newer = Binary(lambda x: x + 2)
        assert [newer(number) for number in range(20)] == list(range(2, 22))
        assert hotcall.explain(newer).callback.tier == ("stub" if EXPECT_STUBS else "interpreter")
    before = hotcall.stats()["interpreter_callbacks"], hotcall.stats()["stub_callbacks"]
    assert older(5) == 6 and newer(5) == 7
    assert (hotcall.stats()["interpreter_callbacks"], hotcall.stats()["stub_callbacks"]) == before
    with hotcall.installed():
        assert older(5) == 6 and newer(5) == 7
        assert sum([hotcall.stats()["interpreter_callbacks"], hotcall.stats()["stub_callbacks"]]) - sum(before) == 2


def test_callbacks_of_a_shape_share_their_code():
    """Making callbacks again and again makes no more code."""
    hotcall.install()

    def make(number):
        class Own(Structure):
            _fields_ = [("x", c_int)]

        return CFUNCTYPE(c_int, c_int, Own, c_double)(lambda x, own, y: number), Own

    def use(number):
        function, own = make(number)
        assert [function(1, own(2), 0.5) for _ in range(3)] == [number] * 3

    use(0)
    before = hotcall.stats()
    for number in range(300):
        use(number)
    after = hotcall.stats()
    assert after["callback_stubs"] == before["callback_stubs"]
    assert after["callback_shapes"] == before["callback_shapes"]
    assert after["trampolines"] <= before["trampolines"] + 100


def test_explain_and_stats():
    hotcall.install()
    function = CFUNCTYPE(c_int, c_int, POINTER(c_int))(lambda x, y: x)
    for number in range(10):
        function(number, None)
    explanation = hotcall.explain(function)
    assert explanation.callback.signature == "fn(i32, ptr) -> i32"
    assert "callbacks: " + explanation.callback.tier in str(explanation)
    assert hotcall.explain(CDLL(None).abs).callback is None
    stats = hotcall.stats()
    assert stats["callbacks"] > 0 and stats["callback_shapes"] > 0
    assert hotcall.status().callbacks_off is None and "callbacks: on" in str(hotcall.status())
