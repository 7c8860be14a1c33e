"""Objects whose `__class__` says that they are functions of ctypes are none: what is read of a function is not there."""

import ctypes
from unittest.mock import Mock

import _ctypes
import pytest
from conftest import observe, python

import hotcall

FUNCTIONS = {
    "bind": hotcall.bind,
    "options": lambda function: hotcall.options(function, gil="hold"),
    "explain": hotcall.explain,
    "trace": hotcall.trace,
    "disassemble": hotcall.disassemble,
    "map": lambda function: hotcall.map(function, [1, 2]),
    "vectorize": hotcall.vectorize,
}
NATIVE = {
    "bind": hotcall._api._native.bind,
    "options": lambda function: hotcall._api._native.set_options(function, "hold"),
    "explain": lambda function: hotcall._api._native.explain("explain", function),
    "map": lambda function: hotcall._api._native.loop("map", function, ((1, 2),), (False,), 2, None),
}


class Lie:
    __slots__ = tuple("abcdefghijklmnop")

    def __init__(self):
        for name in Lie.__slots__:
            setattr(self, name, 2**70)

    @property
    def __class__(self):
        return ctypes._CFuncPtr

    def __call__(self, *args):
        return "called"


class Judging(type):
    """A class that takes anything for an instance."""

    def __instancecheck__(cls, instance):
        return True


def liars(lib):
    function = lib["add_one"]
    return [Lie(), Mock(spec=function), Mock(spec=type(function)), Judging("Odd", (), {})()]


@pytest.mark.parametrize("functions", [FUNCTIONS, NATIVE], ids=["public", "native"])
def test_they_are_refused(functions, lib, way):
    for liar in liars(lib):
        for name, function in functions.items():
            with pytest.raises(TypeError, match=f"^hotcall.{name}: expected a ctypes function, not {type(liar).__name__}$"):
                function(liar)


def test_true_functions_are_taken(lib, way):
    """Those of classes that deny it too."""

    class Denying(_ctypes.CFuncPtr):
        _flags_, _restype_ = 1, ctypes.c_int

        @property
        def __class__(self):
            return int

    for function in [lib["add_one"], Denying(("add_one", lib))]:
        for _ in range(4):
            assert hotcall.bind(function)(1) == 2
            assert hotcall.map(function, [1, 2]) == [2, 3]
            assert hotcall.explain(function)


def test_a_class_in_the_place_of_ctypes_own():
    """What stands in `_ctypes` later decides nothing."""
    done = python("""if True:
        import _ctypes, ctypes, hotcall.auto, os
        class Lie:
            def __call__(self, *args):
                return "called"
        _ctypes.CFuncPtr = Lie
        for function in (hotcall.bind, hotcall.explain):
            try:
                function(Lie())
            except TypeError as error:
                print(error)
        function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])["add_one"]
        print(hotcall.bind(function)(1))
        hotcall.uninstall()
        print(function(1))
    """)
    assert done.stdout.splitlines() == [
        "hotcall.bind: expected a ctypes function, not Lie",
        "hotcall.explain: expected a ctypes function, not Lie",
        "2",
        "2",
    ], done.stderr


def test_arguments_that_lie(lib, way):
    """Where ctypes asks `isinstance` the lie is believed, as by ctypes; memory is read of true instances alone."""

    def lying_about(kind):
        attributes = {"__class__": property(lambda self: kind), "__slots__": ("a", "b", "c")}
        return type("Lying", (), attributes)()

    kinds = [ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_int * 3, ctypes.c_char_p, int, bytes, type(lib["add_one"])]
    function = lib["record_p"]
    for argtype in [None, *kinds[:4], ctypes.c_void_p, ctypes.py_object]:
        function.argtypes = None if argtype is None else [argtype]
        for kind in kinds:
            liar = lying_about(kind)
            outcomes = [observe(function, liar) for _ in range(4)]
            assert outcomes == outcomes[:1] * 4
            if argtype is not ctypes.py_object:
                assert outcomes[0][0] == "raised"
