"""Allocations that fail, at each point of what is done: hotcall does without what it wanted to know, or raises. `_testcapi`
makes allocations of CPython's fail. What CPython does not survive itself is left out: functions that are made, generators
among them (3.12 and 3.13 crash), and modules that are imported (3.13 crashes, 3.11 goes on forever)."""

import json

import pytest
from conftest import LONG, python

try:
    import _testcapi  # noqa: F401
except ImportError:
    pytest.skip("SKIPPED: this Python has no _testcapi, which lets allocations fail", allow_module_level=True)

# Prints, for each kind of work, what became of it where the n-th allocation fails, or all from there on: each in a child.
PROGRAM = r"""
import ctypes
import functools
import json
import os
import sys

import _testcapi
from ctypes import POINTER, Structure, c_char_p, c_double, c_int, c_longlong, c_size_t, c_void_p

import hotcall
from hotcall import _native as native

hotcall.install()

libc, libm = ctypes.CDLL("libc.so.6", use_errno=True), ctypes.CDLL("libm.so.6")
IGNORED = lambda unraisable: None


class Parameter:
    def __init__(self, value):
        self._as_parameter_ = value


class Converter:
    @classmethod
    def from_param(cls, value):
        return c_int(value)


class Identity:
    @classmethod
    def from_param(cls, value):
        return value


class Pointer(c_void_p):
    pass


class Pair(Structure):
    _fields_ = [("quotient", c_longlong), ("rest", c_longlong)]


class Outer(Structure):
    _fields_ = [("pair", Pair), ("next", POINTER(Pair)), ("text", c_char_p), ("items", c_int * 4)]


def declared(name, arguments, result, library=libc):
    function = library[name]
    function.argtypes, function.restype = arguments, result
    return function


cos = declared("cos", [c_double], c_double, libm)
strlen, strchr = declared("strlen", [c_char_p], c_size_t), declared("strchr", [c_char_p, c_int], c_char_p)
memcpy = declared("memcpy", [c_void_p, c_void_p, c_size_t], Pointer)
lldiv = declared("lldiv", [c_longlong, c_longlong], Pair)
converted, identical = declared("abs", [Converter], c_int), declared("labs", [Identity], c_longlong)
converted.errcheck = lambda result, function, arguments: result
COMPARE = ctypes.CFUNCTYPE(c_int, POINTER(c_int), POINTER(c_int))
compare = COMPARE(lambda one, other: one[0] - other[0])
qsort = declared("qsort", [c_void_p, c_size_t, c_size_t, COMPARE], None)
buffer, items, pair = ctypes.create_string_buffer(64), (c_int * 6)(3, 1, 2, 6, 5, 4), Pair(7, 2)
outer = Outer(pair, ctypes.pointer(pair), b"text")


def undeclared():
    libc.abs(-70000), libc.abs(c_int(5)), libc.abs(Parameter(5))


def fields():
    outer.pair.rest, outer.next.contents.quotient, outer.text, outer.items[1], outer.items[0:3]
    outer.pair, outer.text = Pair(3, 4), b"other"


def instances():
    ctypes.byref(pair), ctypes.pointer(pair), c_int(70000), Pair(1, 2), (c_int * 4)(1, 2), ctypes.cast(buffer, POINTER(c_int))[0]


def declaring():
    function = declared("labs", [c_int], c_int)
    function(-5), function(-6)
    function.restype = c_longlong
    function(-7)


def reinstall():
    hotcall.uninstall()
    hotcall.install()


WORK = {
    "scalars": lambda: (cos(1.5), cos(12345678901234)),
    "texts": lambda: (strlen(b"text"), strchr(b"hello", 108)),
    "undeclared": undeclared,
    "derived result": lambda: memcpy(buffer, b"1234567", 7).value,
    "structure": lambda: lldiv(7 * 10**12, 2).quotient,
    "converters": lambda: (converted(-100000), identical(-3)),
    "callback": lambda: qsort(items, 6, 4, compare),
    "fields": fields,
    "instances": instances,
    "errno": lambda: (ctypes.string_at(buffer, 5), libc.close(-1), ctypes.get_errno()),
    "declaring": declaring,
    "stats": hotcall.stats,
    "status": hotcall.status,
    "explain": functools.partial(native.explain, "explain", cos),
    "profiled": native.profiled,
    "checks": hotcall.checks,
    "bind": lambda: hotcall.bind(cos),
    "loop": functools.partial(native.loop, "map", cos, ((1.5, 2.5),), (False,), 2, None),
    "reinstall": reinstall,
}


def outcome(work, first, last):
    # In the child: 0 if the work was done, 1 if it raised, 2 if it raises again with memory, 3 if Rust has panicked.
    status = 0
    try:
        _testcapi.set_nomemory(first, last)
        try:
            work()
        finally:
            _testcapi.remove_mem_hooks()
    except BaseException as error:
        status = 3 if type(error).__name__ == "PanicException" else 1
    try:
        work()
    except BaseException:
        status = 2
    return status


sys.unraisablehook = IGNORED
for _ in range(int(os.environ["WARM"])):
    for work in WORK.values():
        work()
found = []
for name, work in WORK.items():
    for first in range(int(os.environ["POINTS"])):
        for last in (first + 1, 0):
            child = os.fork()
            if child == 0:
                os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
                os._exit(outcome(work, first, last))
            found.append((name, first, last, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])))
print(json.dumps(found))
"""


@pytest.mark.needs_exec
@pytest.mark.parametrize("warm", [0, 20])
def test_failed_allocations_end_no_process(warm):
    points = 300 if LONG else 24
    env = {"WARM": str(warm), "POINTS": str(points)}
    done = python(PROGRAM, setting="threshold=1", env=env, seconds=600 if LONG else 120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) >= 19 * 2 * points
    assert [place for place in found if place[-1] not in (0, 1)] == []
