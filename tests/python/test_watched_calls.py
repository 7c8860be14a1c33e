"""Programs whose calls are timed or checked do as they do without it."""

import pytest
from commandkit import compare_with
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
