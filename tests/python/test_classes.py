"""Classes of arguments that come, change and go while stubs know them: never stale, never a crash."""

import ctypes
import gc
import weakref
from ctypes import (
    POINTER, Structure, addressof, byref, c_char_p, c_int, c_size_t, c_uint64, c_void_p, cast, memmove, pointer, py_object,
    string_at,
)  # fmt: skip
from unittest import mock

import pytest

import hotcall
from conftest import compare, observe

TIMES = 4


def make_structure():
    class Pair(Structure):
        _fields_ = [("a", c_int), ("b", c_int)]

    return Pair


def make_function(lib, argtype):
    function = lib["same"]
    function.restype = c_uint64
    function.argtypes = None if argtype is None else [argtype]
    return function


def test_a_class_may_die(lib):
    """A class is not kept alive by the stubs that know it, and one that gets its address is another class."""
    hotcall.install()
    function = make_function(lib, c_void_p)
    for round_ in range(60):
        structure = make_structure()
        array = (structure * 2)() if round_ % 2 else pointer(structure(1, 2))
        expected = addressof(array) if round_ % 2 else addressof(array.contents)
        for _ in range(TIMES):
            assert function(array) == expected
        alive = weakref.ref(type(array))
        del array
        # ctypes caches array and pointer types by their item type; that goes as well.
        cache = getattr(ctypes, "_pointer_type_cache", None)
        if isinstance(cache, dict):
            cache.pop(structure, None)
        del structure
        gc.collect()
        if round_ % 2 == 0:
            continue
        assert alive() is None, "the class is kept alive"


def test_a_class_may_lie_later(lib):
    """`__class__` and `__getattribute__` may be given to a class after its instances were seen."""

    def scenario():
        outcomes = []
        seen = []

        class Plain:
            pass

        class Derived(Plain):
            pass

        value = Derived()
        function = make_function(lib, py_object)
        outcomes += [observe(function, value)[0] for _ in range(TIMES)]

        def watch(self, name):
            seen.append(name)
            return object.__getattribute__(self, name)

        Plain.__getattribute__ = watch
        outcomes += [observe(function, value)[0] for _ in range(TIMES)]
        del Plain.__getattribute__
        outcomes += [observe(function, value)[0] for _ in range(TIMES)]
        return outcomes, seen

    compare(scenario)


def test_instances_that_ask_python(lib):
    """A property named `__class__` is asked as often as before, and mocks say what they said."""

    def scenario():
        asked = []

        class Property:
            @property
            def __class__(self):
                asked.append(1)
                return int

        outcomes = []
        for argtype in [py_object, c_void_p, POINTER(c_int), c_int, c_char_p]:
            function = make_function(lib, argtype)
            # A mock has parameters of parameters without end, of which ctypes itself dies.
            mocks = [mock.Mock(), mock.Mock(spec=c_int), mock.MagicMock()] if argtype is py_object else []
            for value in [Property(), *mocks]:
                outcomes += [observe(function, value)[0] for _ in range(TIMES)]
        return outcomes, len(asked)

    compare(scenario)


def test_metaclasses_that_ask_python(lib):
    """`__instancecheck__` of a metaclass decides what an argument type accepts."""

    def scenario():
        asked = []

        class Meta(type(Structure)):
            def __instancecheck__(cls, instance):
                asked.append(type(instance).__name__)
                return super().__instancecheck__(instance)

        class Checked(Structure, metaclass=Meta):
            _fields_ = [("a", c_int)]

        value, other = Checked(1), make_structure()(1, 2)
        function = make_function(lib, POINTER(Checked))
        outcomes = []
        for given in [value, byref(value), pointer(value), other, None]:
            outcomes += [observe(function, given)[0] for _ in range(TIMES)]
        return outcomes, asked

    compare(scenario)


def test_bases_may_change(lib):
    """Assigning `__bases__` changes what an instance is an instance of."""

    def scenario():
        class Base(Structure):
            _fields_ = [("a", c_int)]

        class Other(Structure):
            _fields_ = [("a", c_int)]

        class Derived(Base):
            pass

        value = Derived(3)
        functions = [make_function(lib, POINTER(Base)), make_function(lib, POINTER(Other))]
        outcomes = []
        for bases in [None, (Other,), (Base,), (Other,)]:
            if bases:
                outcomes.append(observe(setattr, Derived, "__bases__", bases)[0])
            for function in functions:
                outcomes += [observe(function, value)[0] for _ in range(TIMES)]
        return outcomes

    compare(scenario)


@pytest.mark.stubs
def test_functions_of_ctypes_itself(lib):
    """cast, string_at and memmove run in stubs and give what they gave."""

    def scenario():
        target, source = (c_int * 4)(), (c_int * 4)(1, 2, 3, 4)
        outcomes = []
        for _ in range(TIMES):
            memmove(target, source, 16)
            memmove(byref(target, 4), b"abcd", 4)
            outcomes.append(list(target))
            outcomes.append(string_at(source, 8))
            outcomes.append(cast(source, POINTER(c_int))[3])
            outcomes.append(cast(addressof(source), POINTER(c_int * 2)).contents[1])
            kept = cast(source, c_void_p)
            outcomes.append((kept.value == addressof(source), sorted(map(str, kept._objects))))
        return outcomes[4:], len(outcomes)

    hotcall.install()
    scenario()
    before = hotcall.stats()["stub_calls"]
    scenario()
    assert hotcall.stats()["stub_calls"] > before

    def comparable():
        outcomes, count = scenario()
        return [outcome for outcome in outcomes if not isinstance(outcome, tuple)], count

    compare(comparable)


@pytest.mark.stubs
def test_undeclared_arguments_share_nothing_but_their_types(lib):
    """A function without argtypes gets a stub for each combination of types."""

    def scenario():
        function = lib["mix_i"]
        function.restype = c_size_t
        outcomes = []
        for args in [(1, 2, 3), (c_int(1), 2, None), (True, -1, c_void_p(4)), (1, 2**40, 3), (1, 2**70, 3), (1.5, 2, 3)]:
            outcomes += [observe(function, *args) for _ in range(TIMES)]
        return outcomes

    compare(scenario)
