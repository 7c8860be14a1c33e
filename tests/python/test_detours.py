"""Arguments that Python code runs for: `from_param` of a program's own, and `_as_parameter_`.

Each scenario runs under plain ctypes and under hotcall, and the outcomes are compared: order, values, errors, and what the
Python code changes behind the call's back.
"""

import ctypes
import gc
import sys
import traceback
import weakref
from ctypes import (
    CFUNCTYPE, POINTER, Structure, addressof, byref, c_char_p, c_double, c_int, c_int64, c_long, c_ubyte, c_void_p, cast,
    pointer,
)  # fmt: skip

import pytest
from conftest import compare, hotly, observe

import hotcall

TIMES = 5


class Given:
    """A converter that gives its argument back: a call of it can be left out."""

    def from_param(value):  # noqa: N805
        return value


class GivenByMethod:
    @classmethod
    def from_param(cls, value):
        return value


class Point(Structure):
    _fields_ = [("x", c_int), ("y", c_int)]


def looked_up(get):
    """An object whose `_as_parameter_` is what `get` gives, each time."""
    return type("LookedUp", (), {"_as_parameter_": property(lambda self: get())})()


def test_values_are_taken_before_the_next_conversion_runs(lib):
    """What a conversion changes in arguments that have been converted already is not seen by the call."""

    def scenario():
        outcomes = []
        first, second = c_int(1), c_int(2)
        for argtypes, make, change in [
            ([c_int64], lambda: c_int64(5), ("value", 77)),
            (None, lambda: c_int64(5), ("value", 77)),
            ([Given], lambda: c_int64(5), ("value", 77)),
            ([c_void_p], lambda: c_void_p(5), ("value", 77)),
            ([POINTER(c_int)], lambda: pointer(first), ("contents", second)),
            ([c_void_p], lambda: pointer(first), ("contents", second)),
            (None, lambda: pointer(first), ("contents", second)),
        ]:
            function = lib["same"]
            function.argtypes, function.restype = argtypes, c_void_p
            for _ in range(TIMES):
                value = make()
                passed = function(value, looked_up(lambda value=value, change=change: setattr(value, *change)))
                outcomes.append({addressof(first): "first", addressof(second): "second"}.get(passed, passed))
        return outcomes

    compare(scenario)


def test_a_referenced_instance_is_passed_itself(lib):
    """An argument passed by reference stays that object, whatever a later conversion does to it."""

    def scenario():
        outcomes = []
        function = lib["same"]
        function.restype = c_void_p
        for argtype in [POINTER(Point), c_void_p, None]:
            if argtype:
                function.argtypes = [argtype]
            for _ in range(TIMES):
                point = Point(1, 2)
                given = point if argtype is POINTER(Point) else byref(point)
                late = looked_up(lambda point=point: setattr(point, "x", 9) or 5)
                outcomes.append((function(given, late) == addressof(point), point.x))
        return outcomes

    compare(scenario)


def test_errors_come_from_ctypes(lib):
    """Whatever a conversion raises or gives, ctypes says what it says, and traceback and context are as they were."""

    def raising(error):
        def get():
            raise error

        return get

    gets = [raising(kind("text")) for kind in (ValueError, AttributeError, KeyboardInterrupt, MemoryError, SystemExit)]
    gets += [lambda value=value: value for value in (1.5, True, "text", b"b", None, [], c_double(1.5), object(), int)]

    def outcome(function, *args):
        try:
            return function(*args)
        except ctypes.ArgumentError as error:
            return str(error), error.__cause__, error.__context__, traceback.extract_tb(error.__traceback__)[1:]

    def scenario():
        outcomes = []
        for argtype in [c_int, c_double, c_char_p, c_void_p, POINTER(c_int), c_int * 3, CFUNCTYPE(c_int), Given, None]:
            for get in gets:
                class Converting:
                    @classmethod
                    def from_param(cls, value, get=get):
                        return get()

                function = lib["mix_i"]
                for argtypes, value in [([argtype], looked_up(get)), ([Converting, c_int], 5)]:
                    function.argtypes = None if None in argtypes else argtypes
                    for _ in range(TIMES):
                        result = outcome(function, value, 1, 2)
                        outcomes.append(result if isinstance(result, tuple) else "returned")
        return outcomes

    compare(scenario)


def test_the_object_is_asked_once(lib):
    """Lookups and conversions run once each, left to right, and stop at the first that fails."""

    def scenario():
        log = []

        def noting(name, value):
            def get():
                log.append(name)
                if isinstance(value, Exception):
                    raise value
                return value

            return get

        class Noting:
            @staticmethod
            def from_param(value):
                log.append(("converted", value))
                return value

        function = lib["mix_i"]
        function.restype = c_int64
        function.argtypes = [Noting, c_int64, Noting, c_ubyte]
        bad = looked_up(noting("bad", LookupError("no")))
        good = looked_up(noting("good", 3))
        missing = looked_up(noting("missing", AttributeError("none")))
        outcomes = []
        for args in [(1, good, 2, 3), (good, good, good, good), (1, bad, 2, 3), (1, 2, bad, 3), (bad, 1, 2, 3), (1, 2, 3, bad),
                     (1.5, good, 2, 3), (1, "x", good, 2), (missing, 1, 2, 3), (1, missing, 2, 3), (1, 2, 3, missing),
                     (1, 2, 3, 4, good), (1, 2, 3, 4, bad), (1, 2)]:  # fmt: skip
            for _ in range(TIMES):
                # Each outcome names arguments, which are the same objects in both runs.
                outcomes.append((observe(function, *args), [entry if isinstance(entry, str) else entry[0] for entry in log]))
                log.clear()
        return outcomes

    compare(scenario)


def test_errcheck_sees_the_function_and_its_own_arguments(lib):
    def scenario():
        outcomes = []

        def errcheck(result, function, args):
            seen.append((result, function is called, args is given or args == given, type(args).__name__))
            return args if result % 2 else result

        for argtypes in [[Given, c_int64, c_ubyte], [GivenByMethod, Given, Given], [c_int64, c_int64, c_ubyte]]:
            called = lib["mix_i"]
            called.argtypes, called.restype, called.errcheck = argtypes, c_int64, errcheck
            for number in range(TIMES * 2):
                seen = []
                given = (looked_up(lambda number=number: c_int64(number)), c_int64(1), c_ubyte(2))
                outcomes.append((called(*given), seen))
        return outcomes

    compare(scenario)


def test_a_converter_that_is_left_out_is_called_while_somebody_watches(lib):
    """Trace and profile functions, and sys.monitoring, see each call of a converter."""

    class Watched:
        def from_param(value):  # noqa: N805
            return value

    code = Watched.from_param.__code__

    def watched(watch, unwatch, function):
        seen = []
        watch(lambda *args: seen.append(args) if code in args or getattr(args[0], "f_code", None) is code else None)
        try:
            for number in range(TIMES):
                function(number)
        finally:
            unwatch()
        return len(seen)

    def scenario():
        function = lib["add_one"]
        function.argtypes = [Watched]
        outcomes = []
        for _ in range(3):
            outcomes += [function(number) for number in range(TIMES)]
            for set_function in (sys.setprofile, sys.settrace):
                outcomes.append(watched(set_function, lambda set_function=set_function: set_function(None), function))
        monitoring = getattr(sys, "monitoring", None)
        if monitoring:
            tool, event = monitoring.OPTIMIZER_ID, monitoring.events.PY_START

            def local(callback):
                monitoring.use_tool_id(tool, "test")
                monitoring.register_callback(tool, event, callback)
                monitoring.set_local_events(tool, code, event)

            def unwatch():
                monitoring.set_local_events(tool, code, 0)
                monitoring.register_callback(tool, event, None)
                monitoring.free_tool_id(tool)

            outcomes.append(watched(local, unwatch, function))
        outcomes += [function(number) for number in range(TIMES)]
        return outcomes

    compare(scenario)


def test_a_converter_that_changes_is_called(lib):
    """Its code may be replaced; the class attribute is read by ctypes when argtypes is assigned, and not again."""

    def scenario():
        class Changing:
            def from_param(value):  # noqa: N805
                return value

        def twice(value):
            return 2 * value

        converter = Changing.from_param
        function = lib["add_one"]
        function.argtypes = [Changing]
        outcomes = [function(number) for number in range(TIMES)]
        original, converter.__code__ = converter.__code__, twice.__code__
        outcomes += [function(number) for number in range(TIMES)]
        converter.__code__ = original
        outcomes += [function(number) for number in range(TIMES)]
        Changing.from_param = twice
        outcomes += [function(number) for number in range(TIMES)]
        function.argtypes = [Changing]
        return outcomes + [function(number) for number in range(TIMES)]

    compare(scenario)


def test_nothing_is_kept_alive():
    """A function, its converters, and their classes die together, though they refer to each other."""
    address = cast(ctypes.CDLL(None)["labs"], c_void_p).value

    def make():
        class Converting:
            @classmethod
            def from_param(cls, value):
                return cls.function and c_long(value)

        Converting.function = CFUNCTYPE(c_long)(address)
        Converting.function.argtypes = [Converting]
        Converting.function.restype = c_long
        assert [Converting.function(-number) for number in range(20)] == list(range(20))
        return weakref.ref(Converting), weakref.ref(Converting.function)

    def scenario():
        references = [make() for _ in range(5)]
        gc.collect()
        gc.collect()
        return [reference() is None for pair in references for reference in pair]

    assert all(hotly(scenario))


def test_reference_counts(lib):
    """A thousand detours take and give back as many references."""
    held = [object(), c_int(3), looked_up(lambda: held[1]), "text"]

    class Converting:
        @classmethod
        def from_param(cls, value):
            return held[1]

    def scenario():
        function = lib["mix_i"]
        function.argtypes = [c_int, Converting, c_int]
        wide = lib["same"]
        wide.argtypes = [c_void_p]
        outcomes = []
        for _ in range(3):
            before = [sys.getrefcount(one) for one in (*held, Converting)]
            for _ in range(1000):
                function(held[1], held[0], held[2])
                wide(held[3])
            outcomes.append([sys.getrefcount(one) - count for one, count in zip((*held, Converting), before, strict=True)])
        return outcomes[-1]

    compare(scenario)


def test_recursive_parameters_end(lib):
    """An object that is its own parameter ends in ctypes, as it does there."""

    def scenario():
        function = lib["add_one"]
        function.argtypes = [c_int]
        endless = looked_up(lambda: endless)
        return [observe(function, endless)[1] for _ in range(TIMES)]

    compare(scenario)


@pytest.mark.stubs
def test_detours_run_in_stubs(lib):
    """Each kind of detour leads from stub to stub once it is hot."""

    class Converting:
        @classmethod
        def from_param(cls, value):
            return c_int64(value)

    hotcall.install()
    given = looked_up(lambda: 3)
    by_flags = CFUNCTYPE(c_double, c_double, POINTER(c_int))(("split", lib), ((1, "x"), (2, "e")))
    converted = lib["mix_i"]
    converted.argtypes = [Converting, c_int64, Given]
    for function, args in [(by_flags, (12.0,)), (converted, (1, given, 2)), (converted, (given, given, given))]:
        if args[0] is given:
            function.argtypes = None
        for _ in range(10):
            function(*args)
        before = hotcall.stats()
        for _ in range(100):
            function(*args)
        after = hotcall.stats()
        assert after["stub_calls"] - before["stub_calls"] == 100, args
        shapes = hotcall.explain(function).shapes
        assert "help detour" in shapes[0].trace and "call" in shapes[-1].trace, "a detour, and where it leads"
