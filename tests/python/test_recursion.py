"""Recursion without end, in which no Python function takes part: it ends in an exception, as with plain ctypes.

It could use up the stack, so it runs in an interpreter of its own. CPython 3.13.0 allows more levels than the usual stack has room for.
"""

import sys

import pytest
from conftest import ROOT, python

PROGRAM = """if True:
    import functools, os, sys, threading
    from ctypes import CDLL, CFUNCTYPE, POINTER, c_int, c_void_p
    from types import MethodType
    HOTCALL
    lib = CDLL(os.environ["HOTCALL_FIXTURE"])
    Unary, Nullary = CFUNCTYPE(c_int, c_int), CFUNCTYPE(c_int)
    raised = []

    def lead(function, to):
        c_void_p.from_buffer(function).value = c_void_p.from_buffer_copy(to).value

    def functions(count=2):
        made = [lib["add_one"] for _ in range(count)]
        for function in made:
            function.argtypes = [c_int]
        return made

    def warm(*calls):
        for _ in range(20):
            for call in calls:
                call()

    def back_to(make, kind):
        # A callback whose callable is the pointer that leads to it.
        pointer = Unary()
        lead(pointer, lib["add_one"])
        function = kind(make(pointer))
        warm(lambda: pointer(1), lambda: function(1) if kind is Unary else function())
        lead(pointer, function)
        return lambda kept=function: pointer(1)

    def callback():
        return back_to(lambda pointer: pointer, Unary)

    def method():
        return back_to(lambda pointer: MethodType(pointer, 5), Nullary)

    def partial():
        return back_to(functools.partial, Unary)

    def bound():
        return back_to(lambda pointer: sys.modules["hotcall"].bind(pointer) if "hotcall" in sys.modules else pointer, Unary)

    def restype():
        first, second = functions()
        first.restype = second
        warm(lambda: first(1))
        second.restype = first
        return lambda: first(1)

    def checker():
        class First(c_int):
            _check_retval_ = staticmethod(lambda result: 5)
        class Second(c_int):
            pass
        first, second = functions()
        first.restype = First
        Second._check_retval_ = staticmethod(first)
        second.restype = Second
        warm(lambda: first(1), lambda: second(1))
        First._check_retval_ = staticmethod(second)
        first.restype = First
        return lambda: first(1)

    def from_param():
        first, second = functions()
        class First:
            from_param = second
        class Second:
            from_param = first
        first.argtypes = [First]
        warm(lambda: first(1))
        second.argtypes = [Second]
        return lambda: first(1)

    def parameter():
        function = lib["add_one"]
        class Number:
            _as_parameter_ = 5
        class Endless:
            _as_parameter_ = property(function)
        warm(lambda: function(Number()))
        return lambda: function(Endless())

    def outparam():
        class Out(c_int):
            pass
        function = CFUNCTYPE(c_int, POINTER(Out))(("add_one", lib), ((2, "out"),))
        warm(function)
        Out.__ctypes_from_outparam__ = function
        return function

    def work():
        call = WAY()
        # There is hardly a level left to report on.
        sys.unraisablehook = lambda report: raised.append(report.exc_type)
        for _ in range(2):
            raised.clear()
            try:
                call()
            except Exception as error:
                raised.append(type(error))
        print(*raised)

    if sys.version_info[:2] == (3, 13):
        threading.stack_size(64 << 20)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
"""

CALLBACKS = ["callback", "method", "partial", "bound"]
OTHERS = ["restype", "checker", "from_param", "parameter", "outparam"]


def run(way, hotcall, setting=None):
    finished = python(PROGRAM.replace("WAY", way).replace("HOTCALL\n", hotcall + "\n"), setting=setting)
    assert finished.returncode == 0, (way, finished.returncode, finished.stderr[-2000:])
    return finished.stdout


@pytest.mark.parametrize("setting", ["threshold=1", "threshold=20", "jit=off,threshold=1"])
@pytest.mark.parametrize("way", [pytest.param(way, marks=pytest.mark.needs_exec) for way in CALLBACKS] + OTHERS)
def test_recursion_ends(way, setting):
    plain, hot = run(way, "pass"), run(way, "import hotcall; hotcall.install()", setting)
    if sys.version_info >= (3, 14):
        # The stack itself is measured, and begins elsewhere each time: so does the end, and there may be no room for a report.
        ends = {"<class 'RecursionError'>", "<class 'ctypes.ArgumentError'>"} | ({""} if way in CALLBACKS else set())
        assert {plain.strip(), hot.strip()} <= ends
        return
    assert "ArgumentError" in plain or "RecursionError" in plain
    # What has no level left for the report is reported by nobody.
    assert hot == plain or (way in CALLBACKS[1:] and hot == "\n")


DEPTH = """if True:
    import sys
    from ctypes import CFUNCTYPE, c_int
    HOTCALL
    deepest = 0
    sys.unraisablehook = lambda report: None
    @CFUNCTYPE(c_int, c_int)
    def turn(depth):
        global deepest
        deepest = max(deepest, depth)
        return turn(depth + 1)
    for _ in range(3):
        try:
            turn(0)
        except Exception:
            pass
    print(deepest)
"""


@pytest.mark.needs_exec
@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the stack itself is measured")
def test_how_deep_recursion_through_callbacks_goes():
    """What `identical.md` says of it; which levels are left at the end depends on the version."""
    text = (ROOT / "python" / "docs" / "identical.md").read_text()
    depths = []
    for start in ("pass", "import hotcall; hotcall.install()"):
        finished = python(DEPTH.replace("HOTCALL\n", start + "\n"), setting="threshold=1")
        depths.append(int(finished.stdout))
    plain, hot = depths
    written = {(3, 11): (497, 996), (3, 12): (497, 747), (3, 13): (998, 998)}[sys.version_info[:2]]
    assert all(str(depth) in text for depth in written)
    assert abs(plain - written[0]) < 10 and abs(hot - written[1]) < 10, depths
