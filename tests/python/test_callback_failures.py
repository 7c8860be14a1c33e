"""What becomes of exceptions in callbacks: reports to `sys.unraisablehook` and to standard error, compared with plain ctypes in
wording, object and traceback; and what C gets then.
"""

import sys
import traceback
import warnings
from ctypes import (
    CFUNCTYPE, POINTER, Structure, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_long, c_short, c_ubyte, c_void_p,
    c_wchar, c_wchar_p, get_errno, py_object, set_errno,
)  # fmt: skip

import pytest
from conftest import compare, describe, observe, python

import hotcall

pytestmark = pytest.mark.needs_exec
TIMES = 4


class Reports:
    """The reports of unraisable exceptions, without what differs from run to run."""

    def __init__(self, callable):
        self.callable, self.seen = callable, []

    def __enter__(self):
        self.before = sys.unraisablehook, sys.excepthook
        sys.unraisablehook, sys.excepthook = self.unraisable, self.exception
        return self

    def __exit__(self, *error):
        sys.unraisablehook, sys.excepthook = self.before

    def unraisable(self, report):
        frames = [(frame.name, frame.line) for frame in traceback.extract_tb(report.exc_traceback)]
        frames = [frame for frame in frames if frame[0] not in ("scenario", "run")]
        about = {id(self.callable): "the callable", id(None): None}.get(id(report.object), report.object)
        text = report.err_msg and report.err_msg.replace(repr(self.callable), "the callable")
        context = type(report.exc_value.__context__).__name__
        self.seen.append(("unraisable", report.exc_type, str(report.exc_value), text, about, frames, context))

    def exception(self, kind, value, tb):
        self.seen.append(("exception", kind, str(value), len(traceback.extract_tb(tb)) > 0))


def run(restype, argtypes, callable, *args, times=TIMES, **options):
    """Makes callbacks that fail; gives what was reported."""
    with Reports(callable) as reports:
        function = CFUNCTYPE(restype, *argtypes, **options)(callable)
        for _ in range(times):
            function(*args)
    return reports.seen


def fail(error):
    def failing(*args):
        raise error

    return failing


class Odd(Exception):
    def __str__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    "error", [ValueError("v"), SystemExit(3), KeyboardInterrupt(), MemoryError(), RecursionError("r"), StopIteration(5)], ids=repr
)
@pytest.mark.parametrize("restype", [None, c_int, c_double], ids=repr)
def test_exceptions(error, restype):
    """Every exception, of whatever class, is reported and goes no further."""
    reports = []

    def scenario():
        reports.append(run(restype, [c_int], fail(type(error)(*error.args)), 5))
        return reports[-1]

    compare(scenario)
    assert len(reports[-1]) == TIMES


def test_chained_exceptions():
    def chaining(x):
        try:
            raise KeyError("first")
        except KeyError as error:
            raise ValueError("second") from error

    compare(lambda: run(c_int, [c_int], chaining, 5))


class Unfit:
    """An object that can be converted to nothing, and says so in its own way."""

    def __index__(self):
        raise ZeroDivisionError("no index")

    def __float__(self):
        raise KeyError("no float")

    def __bool__(self):
        raise OSError("no truth")


RESULTS = [None, "x", b"xy", 1.5, 10**400, -1, 300, [], object, Unfit(), "xy", "", b""]


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: repr(result)[:20])
@pytest.mark.parametrize(
    "restype", [c_bool, c_char, c_wchar, c_int, c_ubyte, c_short, c_long, c_float, c_double, c_void_p], ids=lambda kind: kind.__name__
)
def test_results_that_do_not_fit(restype, result):
    """A result that cannot be converted is reported as ctypes does, and C gets a zero; others get through."""
    zero = restype().value

    def scenario():
        callable = lambda x: result  # noqa: E731
        got = []
        with Reports(callable) as reports:
            function = CFUNCTYPE(restype, c_int)(callable)
            # What plain ctypes gives is undefined, and may be no character.
            got += [observe(function, 5) for _ in range(TIMES)]
        if reports.seen and hotcall.status().installed:
            assert got == [("returned", describe(zero))] * TIMES
        return reports.seen, None if reports.seen else got

    compare(scenario)


@pytest.mark.parametrize("kind", [c_char_p, c_wchar_p])
def test_results_that_leak(kind):
    """Texts are kept forever, which ctypes warns of; the warning may be an error."""
    text = b"bytes" if kind is c_char_p else "text"

    def scenario(action):
        callable = lambda x: text if x else None  # noqa: E731
        with warnings.catch_warnings(record=True) as caught, Reports(callable) as reports:
            warnings.simplefilter(action)
            function = CFUNCTYPE(kind, c_int)(callable)
            got = [function(number % 3) for number in range(TIMES)]
        seen = [(warning.category, str(warning.message)) for warning in caught]
        return got, seen, reports.seen

    compare(lambda: scenario("always"))
    compare(lambda: scenario("error"))


class Failing(Structure):
    """A structure of which no instance can be made by calling it."""

    _fields_ = [("x", c_int)]

    def __init__(self, *args):
        if not args:
            raise ValueError("no instance")


class Counting(c_int):
    made = 0

    def __init__(self, *args):
        c_int.__init__(self, *args)
        Counting.made += 1


@pytest.mark.parametrize("before", range(3))
def test_arguments_that_cannot_be_made(before):
    """The callable is not called then. The index of the argument, and whether it is printed or reported, are as in ctypes."""

    def scenario():
        Counting.made = 0
        called = []
        kinds = [c_int, Counting, c_double][:before] + [Failing, Counting]
        callable = called.append
        given = [kind() for kind in kinds if kind is not Failing]
        given.insert(before, Failing(3))
        made = Counting.made
        reports = run(c_int, kinds, callable, *given)
        return reports, called, Counting.made - made

    compare(scenario)


def test_null_objects_and_bad_characters():
    """A null pointer is no object, and not every number is a character."""

    def scenario():
        called = []
        record = []
        for kind, word in ((py_object, 0), (c_wchar, 0x7FFFFFFF)):
            callable = lambda *args: called.append(args) or 5  # noqa: E731
            with Reports(callable) as reports:
                function = CFUNCTYPE(c_int, c_int, kind, c_int)(callable)
                # The same function, by a type that lets every word through.
                by_word = CFUNCTYPE(c_int, c_int, c_long, c_int).from_buffer(function)
                for _ in range(TIMES):
                    by_word(1, word, 2)
            record.append(reports.seen)
        return record, called

    compare(scenario)


def test_failed_callbacks_give_zero():
    """C gets a zero from a callback that failed, of whatever type."""
    hotcall.install()
    for kind, zero in [(c_int, 0), (c_double, 0.0), (c_float, 0.0), (c_bool, False), (c_void_p, None), (c_char, b"\0")]:
        failing = fail(ValueError("v"))
        function = CFUNCTYPE(kind, c_int)(failing)
        with Reports(failing):
            assert [function(3) for _ in range(6)] == [zero] * 6


def test_a_hook_that_fails():
    """What fails while a failure is reported."""
    code = """if True:
        import sys, {hotcall}
        from ctypes import CFUNCTYPE, c_int
        {install}
        def hook(report):
            raise OSError("the hook")
        sys.unraisablehook = hook
        f = CFUNCTYPE(c_int, c_int)(lambda x: 1 / 0)
        for _ in range(5):
            f(3)
        class Odd(Exception):
            def __str__(self):
                raise ValueError
        sys.unraisablehook = sys.__unraisablehook__
        def odd(x):
            raise Odd
        for _ in range(3):
            CFUNCTYPE(c_int, c_int)(odd)(3)
        del sys.unraisablehook
        for _ in range(3):
            CFUNCTYPE(c_int, c_int)(odd)(3)
        print("done")
    """
    plain = python(code.format(hotcall="os", install=""), setting=None)
    hot = python(code.format(hotcall="hotcall", install="hotcall.install()"))
    assert plain.stdout == hot.stdout == "done\n", hot.stderr
    strip = lambda text: [line.partition(" at 0x")[0] for line in text.splitlines() if "File" not in line]  # noqa: E731
    assert strip(plain.stderr) == strip(hot.stderr)


def test_the_first_failure_leaves_the_hook_in_place():
    """How ctypes reports is learned at import, and leaves no trace."""
    code = """if True:
        import sys
        from ctypes import CFUNCTYPE, c_int
        seen = []
        def hook(report):
            seen.append(report.exc_type)
        sys.unraisablehook = hook
        import hotcall
        hotcall.install()
        assert sys.unraisablehook is hook and not seen
        def failing(x):
            raise KeyError(x)
        f = CFUNCTYPE(c_int, c_int)(failing)
        assert [f(3) for _ in range(4)] == [0] * 4
        assert seen == [KeyError] * 4, seen
        assert sys.unraisablehook is hook
        print("done")
    """
    finished = python(code)
    assert finished.stdout == "done\n" and not finished.stderr, finished.stderr


def test_errno_while_a_failure_is_reported():
    """The hook sees the private errno that the callable left."""

    def scenario():
        seen = []
        before, sys.unraisablehook = sys.unraisablehook, lambda report: seen.append(get_errno())

        def failing(x):
            set_errno(x)
            raise ValueError

        try:
            function = CFUNCTYPE(None, c_int, use_errno=True)(failing)
            for number in range(3, 9):
                set_errno(1)
                function(number)
        finally:
            sys.unraisablehook = before
        return seen

    compare(scenario)


def test_pointers_to_arguments_stay_until_the_result_is_converted():
    """Arguments are given up when the result has been converted, in their order."""

    def scenario():
        events = []

        class Noted(Structure):
            _fields_ = [("x", c_int)]

            def __del__(self):
                events.append(("gone", self.x))

        class Result:
            def __index__(self):
                events.append("converted")
                return 5

        function = CFUNCTYPE(c_int, Noted, POINTER(c_int), Noted)(lambda *args: Result())
        given = Noted(1), Noted(2)
        for _ in range(4):
            function(given[0], None, given[1])
        return list(events)

    compare(scenario)
