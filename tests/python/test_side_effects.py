"""What a call does beside its result, under plain ctypes and under hotcall: errno, exceptions, checks and conversions.

Nothing here says what ctypes does; each test collects what it did, down to the bits that C saw, and compares. Each call is
made several times on one function object, so that it goes through recording and then through the stub.
"""

import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_double, c_int, c_int64, c_ubyte, c_void_p, py_object

import pytest
from conftest import compare, describe, observe
from recorders import FLAVOURS
from values import FLOATS

TIMES = 4


ERRNO_FLAVOURS = {
    **FLAVOURS,
    "use_last_error": lambda path: ctypes.CDLL(path, use_last_error=True),
    "use both": lambda path: ctypes.CDLL(path, use_errno=True, use_last_error=True),
}


@pytest.mark.parametrize("flavour", ERRNO_FLAVOURS)
def test_errno(flavour, fixture_path):
    library = ERRNO_FLAVOURS[flavour](fixture_path)

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
        calls = [(1, 2, 3), (1, 3, 3), (1, 13, 3), (1, 14, 3), (1, 3, "x"), (b"t", 3, 3), (None, 1, 1), (1, 2), (1, 2, 3, 4)]
        return [observe(function, *args) for args in calls for _ in range(TIMES)], log

    compare(scenario)
