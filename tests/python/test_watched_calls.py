"""Programs whose calls are timed or checked do as they do without it, and every call is counted."""

import re

import pytest
from commandkit import compare_with, run
from conftest import LIBRARY

REPORT, CHECK = ("--report",), ("--check",)

# The first recorded call of each target fails, and functions without a name of their own are asked for one.
FAILING = f"""
import ctypes
lib = ctypes.CDLL({LIBRARY!r})
prototype = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
api = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(("PyObject_Repr", ctypes.pythonapi))
class Fails:
    def __repr__(self):
        raise ZeroDivisionError("no text")
class Converting:
    @staticmethod
    def from_param(value):
        raise LookupError("no value")
converting = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(("same", lib))
converting.argtypes = [Converting]
calls = [
    lambda: ctypes.memmove(bytearray(3), b"x", 1),
    lambda: ctypes.memset(1.5, 0, 1),
    lambda: ctypes.string_at(1.5),
    lambda: prototype(("add_one", lib))("text"),
    lambda: ctypes.cast(ctypes.CDLL(None).abs, prototype)("text"),
    lambda: api(Fails()),
    lambda: converting(1),
]
for call in calls:
    for turn in range(3):
        try:
            call()
        except Exception as error:
            print(type(error).__name__, error, repr(error.__context__), repr(error.__cause__))
"""

# What a handler of a signal raises comes out of the program, whatever was under way.
INTERRUPTED = """
import ctypes, signal
labs = ctypes.CDLL(None).labs
name = ctypes.CDLL(None).strsignal
name.restype = ctypes.c_char_p
class Interrupt(BaseException):
    pass
armed, raised, seen = False, 0, 0
def handler(number, frame):
    global armed, raised
    if armed:
        armed = False
        raised += 1
        raise Interrupt
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while raised < 30:
    try:
        armed = True
        for number in range(300):
            labs(-3)
            name(9)
        armed = False
    except Interrupt:
        seen += 1
signal.setitimer(signal.ITIMER_REAL, 0)
print(raised == seen, raised - seen)
"""

LONG_DOUBLE = """
import ctypes
fabsl = ctypes.CDLL(None).fabsl
fabsl.argtypes, fabsl.restype = [ctypes.c_longdouble], ctypes.c_longdouble
for number in range(1000):
    fabsl(-3.0)
"""


@pytest.mark.parametrize("option", [REPORT, CHECK, REPORT + CHECK])
def test_exceptions_are_those_of_the_program(option, tmp_path):
    plain = compare_with(option, FAILING, cwd=tmp_path)
    assert plain.stdout.count("\n") == 21 and "ArgumentError" in plain.stdout


@pytest.mark.needs_exec
@pytest.mark.parametrize("option", [REPORT, CHECK])
def test_exceptions_of_callbacks_are_those_of_the_program(option, tmp_path):
    code = """if True:
        import ctypes
        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda number: number)
        for argument in ["text", None, 1.5]:
            try:
                callback(argument)
            except ctypes.ArgumentError as error:
                print(error)
        print(callback(3))
    """
    assert compare_with(option, code, cwd=tmp_path).stdout.count("\n") == 4


@pytest.mark.parametrize("option", [REPORT, CHECK, REPORT + CHECK])
def test_exceptions_of_signal_handlers_come_out(option, tmp_path):
    assert compare_with(option, INTERRUPTED, cwd=tmp_path).stdout == "True 0\n"


def test_results_that_differ_are_shown_with_all_their_bits(tmp_path):
    """Of functions without arguments, `check=flip` turns over one bit of the result."""
    code = """
import ctypes
class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int64), ("b", ctypes.c_int64)]
def call(function):
    for number in range(300):
        function()
for restype in [ctypes.c_int8, ctypes.c_uint64, ctypes.c_double, ctypes.c_char, ctypes.c_char_p, ctypes.c_void_p, Pair]:
    function = ctypes.CDLL(None)["gnu_get_libc_version" if restype is ctypes.c_char_p else "getpid"]
    function.argtypes, function.restype, function.__name__ = [], restype, restype.__name__
    call(function)
"""
    done = run("-m", "hotcall", "--check", "-o", "check=flip", "-c", code, cwd=tmp_path)
    assert done.returncode == 70 and "6 DIFFERENCES" in done.stderr, done.stderr
    value = {
        "c_byte": r"int -?\d+",
        "c_ulong": r"int \d+",
        "c_double": r"float \S+ \(0x[0-9a-f]{16}\)",
        "c_char": r'bytes b".+"',
        "c_void_p": r"int \d+",
        "Pair": r"Pair \[(?:[0-9a-f]{2}, ){15}[0-9a-f]{2}\]",
    }
    for name, text in value.items():
        line = rf"^  {name}, result: ctypes gives ({text}), hotcall ({text}) \(288 calls\)$"
        found = re.search(line, done.stderr, re.M)
        assert found and found[1] != found[2], (name, done.stderr)


def checked(code, cwd, *options):
    """Runs a checked program, and gives the lines that are shown at the end."""
    done = run("-m", "hotcall", "--check", *options, "-c", code, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip().splitlines()


def test_calls_that_ctypes_makes_are_counted(tmp_path):
    assert checked(LONG_DOUBLE, tmp_path) == [
        "hotcall: nothing was checked: ctypes made all 1000 calls (12 not warm yet, 988 long-double)"
    ]
    assert checked("import ctypes\nctypes.CDLL(None).abs(-3)", tmp_path) == [
        "hotcall: nothing was checked: ctypes made the only call (not warm yet)"
    ]
    assert checked("", tmp_path) == [
        "hotcall: nothing was checked: no foreign function was called in this process (its children are not counted)"
    ]


TALLY = """
found = hotcall.checks()
rest = sum(count for _, count in found.unchecked + found.by_ctypes)
print(calls, rest, rest + found.stub + found.interpreter)
"""


def test_each_call_is_counted_once(tmp_path):
    """Also those with keywords, with errcheck, of built-in functions, and refused ones."""
    code = f"""
import ctypes, hotcall
lib = ctypes.CDLL({LIBRARY!r})
labs = ctypes.CDLL(None).labs
labs.argtypes = [ctypes.c_long]
labs.errcheck = lambda result, function, arguments: result
nameless = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(("add_one", lib))
bound = hotcall.bind(lib.add_one)
calls = 0
for number in range(200):
    labs(-number)
    bound(number)
    nameless(number)
    calls += 3
    for wrong in [lambda: labs("text"), lambda: bound(1.5), lambda: nameless(1, what=2)]:
        if number % 3 == 0:
            calls += 1
            try:
                wrong()
            except (ctypes.ArgumentError, TypeError):
                pass
"""
    done = run("-m", "hotcall", "--check", "-o", "threshold=16", "-c", code + TALLY, cwd=tmp_path)
    calls, _, counted = done.stdout.split()
    assert calls == counted, done.stderr
    assert "not checked, 6 calls: ctypes made them, not warm yet" in done.stderr
    assert re.search(r"not checked, \d+ calls: ctypes made them, argument-value", done.stderr)
    assert re.search(r"not checked, \d+ calls: ctypes made them, keyword-arguments", done.stderr)


@pytest.mark.parametrize("turn", range(5))
def test_threads_that_end_in_a_checked_call(turn, tmp_path):
    """CPython ends daemon threads, when the process ends, in whichever of the two calls of a check they are."""
    code = """
import ctypes, threading, time
labs = ctypes.CDLL(None).labs
def work():
    while True:
        labs(-3)
for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
time.sleep(0.1)
"""
    checked(code, tmp_path)


def test_checked_functions_that_died_leave_nothing_behind(tmp_path):
    code = """
import ctypes, gc, weakref
libc = ctypes.CDLL(None)
def count():
    gc.collect()
    return sum(type(thing) is weakref.ReferenceType for thing in gc.get_objects())
def use(number):
    for _ in range(number):
        function = libc["labs"]
        function.argtypes = [ctypes.c_long]
        for value in range(20):
            function(value)
use(100)
before = count()
use(3000)
print(count() - before < 1500)
"""
    done = run("-m", "hotcall", "--check", "-c", code, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


def test_calls_with_detours_are_counted_once(tmp_path):
    """They are not checked themselves, but what a detour leads to is."""
    code = f"""
import ctypes, hotcall
class Converting:
    @staticmethod
    def from_param(value):
        if value < 0:
            raise ValueError(value)
        return ctypes.c_int(value)
add_one = ctypes.CDLL({LIBRARY!r}).add_one
add_one.argtypes = [Converting]
calls = 0
for number in range(200):
    add_one(number)
    calls += 1
    if number % 3 == 0:
        calls += 1
        try:
            add_one(-1)
        except ctypes.ArgumentError:
            pass
"""
    done = run("-m", "hotcall", "--check", "-o", "threshold=16", "-c", code + TALLY, cwd=tmp_path)
    calls, rest, counted = map(int, done.stdout.split())
    assert calls == rest and counted > calls + 150, done.stderr
    assert "Python code runs for an argument" in done.stderr and "argument-value" in done.stderr


def test_numbers_of_one_are_singular(tmp_path):
    once = "import ctypes\nabs = ctypes.CDLL(None).abs\nabs(-3)\n"
    done = run("-m", "hotcall", "--report", "--html", "page.html", "-c", once, cwd=tmp_path)
    for text in [done.stderr, (tmp_path / "page.html").read_text()]:
        assert "1 call of 1 foreign function" in text and not re.search(r"\b1 (calls|functions|times|stubs|bytes)\b", text)
    code = once + "abs.argtypes = [ctypes.c_int]\nfor number in range(99):\n    abs(number)\n"
    code += "try:\n    abs('text')\nexcept ctypes.ArgumentError:\n    pass\n"
    done = run("-m", "hotcall", "--check", "--report", "-o", "threshold=8", "-c", code, cwd=tmp_path)
    assert "not checked, 1 call: ctypes made it, argument-value" in done.stderr
    assert "(1 call)" in done.stderr and not re.search(r"\b1 (calls|functions|times|stubs|bytes)\b", done.stderr)
