"""Programs whose calls are timed or checked do as they do without it."""

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
