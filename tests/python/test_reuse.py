"""Results that are written into objects which were returned before: nobody who still has a result ever sees it change.

Each test keeps results in another place where Python keeps references, makes many more calls, and looks again.
"""

import ctypes
import gc
import sys
import threading
from collections import deque
from ctypes import CFUNCTYPE, c_bool, c_double, c_float, c_int, c_int64, c_uint64, c_void_p

import pytest
from conftest import EXPECT_STUBS, SECONDS, compare, python

import hotcall

EDGES = [0, 1, 5, 6, 255, 256, 257, 1023, 1024, 1025, 2047, 2048, 2**15, 2**30, 2**31, 2**45, 2**59, 2**60, 2**62, 2**63]
INTS = sorted({sign * (edge + step) for edge in EDGES for step in range(-7, 8) for sign in (1, -1)})
RESULTS = {
    "c_double": (c_double, [0.0, -0.0, 1.5, -2.25, 1e300, float("inf"), float("nan"), 5e-324]),
    "c_float": (c_float, [0.0, -0.0, 1.5, -2.25, float("inf"), 0.1]),
    "c_int64": (c_int64, INTS),
    "c_uint64": (c_uint64, INTS),
    "c_int": (c_int, INTS),
    "c_bool": (c_bool, INTS),
    "c_void_p": (c_void_p, INTS),
}
FLAVOURS = {"CDLL": ctypes.CDLL, "PyDLL": ctypes.PyDLL}


def returning(kind, path, flavour="PyDLL"):
    """A function that returns its argument as `kind`."""
    library = FLAVOURS[flavour](path)
    if kind in (c_double, c_float):
        answer = kind.in_dll(library, "answer_f")
        function = library["record_f"]
        function.argtypes, function.restype = [], kind

        def call(value):
            answer.value = value
            return function()

        return call
    function = library["same"]
    function.argtypes, function.restype = [c_int64], kind
    return function


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("name", RESULTS)
def test_values_are_those_of_ctypes(name, flavour, fixture_path):
    """Value, type and size, in many orders: after each value any other one, so that each is written over each kind of object."""
    kind, values = RESULTS[name]

    def scenario():
        function = returning(kind, fixture_path, flavour)
        order = [value for step in (1, 7, 11) for value in (values * step)[::step]]
        return [(repr(result), type(result), sys.getsizeof(result)) for result in map(function, order)]

    compare(scenario)


@pytest.mark.parametrize("name", RESULTS)
def test_what_is_kept_does_not_change(name, fixture_path, rng):
    """Random results are kept for a random time in a list, a dict, a set, a closure, an attribute or a generator's frame."""
    kind, values = RESULTS[name]

    class Holder:
        pass

    def keep_in_generator(value):
        local = value
        yield
        yield local

    def keep(value):
        """A function that gives the result back from where it was put."""
        place = rng.randrange(6)
        if place == 0:
            return [value].pop
        if place == 1:
            return {"key": value}.popitem
        if place == 2:
            return {value}.pop
        if place == 3:
            return lambda: value
        if place == 4:
            holder = Holder()
            holder.value = value
            return lambda: holder.value
        generator = keep_in_generator(value)
        next(generator)
        return lambda: next(generator)

    with hotcall.installed():
        function = returning(kind, fixture_path)
        kept = deque()
        for _ in range(20_000):
            wanted = rng.choice(values)
            kept.append((repr(function(wanted)), keep(function(wanted))))
            while len(kept) > rng.randrange(5):
                text, give = kept.popleft()
                found = give()
                assert repr(found[1] if type(found) is tuple else found) == text


def test_expressions(fixture_path):
    """Results that live on the evaluation stack alone, or are borrowed from a variable there, as CPython 3.14 does."""

    def pair(*values):
        return values

    def scenario():
        f = returning(c_double, fixture_path)
        n = returning(c_int64, fixture_path)

        def overwrite(name):
            frame = sys._getframe(1)
            frame.f_locals[name] = None
            return f(9.0)

        def clobbered():
            x = f(1.25)
            return pair(x, overwrite("x"), f(3.0))

        outcomes = []
        for step in range(50):
            x = f(step + 0.5)
            y = x
            a = n(step + 5000)
            outcomes += [
                f(1.0) + f(2.0) * f(3.0) - f(4.0),
                f(f(f(step + 0.25))),
                pair(x, (x := f(2.5)), x, (x := f(step + 3.5)), y),
                [f(i + 0.5) for i in range(4)],
                (n(1000) + n(2000)) * n(3000) - a,
                n(n(n(step + 2**33))),
                pair(a, (a := n(2**31)), a, n(2**32 + step)),
                n(10**6) < n(2 * 10**6) < n(3 * 10**6),
                {n(step + 10**6): f(0.5), n(step + 10**7): f(1.5)},
                clobbered()[1:],
            ]
            x += f(1.0)
            x += f(x)
            a += n(a)
            outcomes += [x, y, a, f"{f(1.5)} {f(2.5)} {n(777)} {n(778)}", max(f(1.0), f(2.0), f(3.0))]
            x, y = f(1.75), f(2.75)
            x, y = y, x
            outcomes += [x, y]
        return outcomes

    compare(scenario)


def test_results_that_live_together_are_different_objects(fixture_path):
    with hotcall.installed():
        for kind, value in ((c_double, 1.5), (c_int64, 70_000), (c_int64, 2**40)):
            function = returning(kind, fixture_path)
            results = [function(value) for _ in range(100)]
            assert len({id(result) for result in results}) == len(results)
            assert results == [value] * 100


@pytest.mark.skipif(not EXPECT_STUBS, reason="measures memory addresses of stubs' results")
def test_a_dead_result_is_used_again(fixture_path):
    """The point of it all: as long as results die at once, the same two objects serve."""
    with hotcall.installed():
        for kind, value in ((c_double, 1.5), (c_int64, 70_000), (c_int64, -(2**40))):
            function = returning(kind, fixture_path)
            other = function(value)
            assert len({id(function(value)) for _ in range(50)}) == 1
            chain = []
            for _ in range(50):
                other = function(value)
                chain.append(id(other))
            assert len(set(chain)) == 2


def count(results):
    """The references to the one item of a list. Those to a variable's value differ by how a version loads it."""
    return sys.getrefcount(results[0])


def test_counts_of_references(fixture_path):
    """A result has one reference more while it is one of the two last of its kind; taking the hook out gives that up."""
    function = returning(c_double, fixture_path)
    plain = count([function(1.5)])
    with hotcall.installed():
        for _ in range(10):
            function(2.5)
        last = [function(2.5)]
        while_last = count(last)
        function(3.5), function(4.5)
        newest = [[function(5.5)], [function(6.5)]].pop()
        no_longer, held = count(last), count(newest)
    given_up, after = count(newest), count([function(1.5)])
    assert (last, newest) == ([2.5], [6.5])
    assert (no_longer, given_up, after) == (while_last - 1, held - 1, plain)
    assert (while_last, no_longer) == (plain + 1, plain)


def test_off(fixture_path):
    """`reuse=off` makes new objects, whose counts are those of ctypes."""
    code = """
import os, sys, hotcall
from ctypes import CDLL, c_double, c_int64
lib = CDLL(os.environ["HOTCALL_FIXTURE"])
lib.record_f.argtypes, lib.record_f.restype = [], c_double
lib.same.argtypes, lib.same.restype = [c_int64], c_int64
plain = [sys.getrefcount(lib.record_f()), sys.getrefcount(lib.same(10**6))]
hotcall.install()
for _ in range(10):
    assert [sys.getrefcount(lib.record_f()), sys.getrefcount(lib.same(10**6))] == plain
print("same", hotcall.stats()["ctypes_calls"] < 10)
"""
    done = python(code, setting="threshold=1,count=1,reuse=off")
    assert (done.stdout, done.stderr) == ("same True\n", "")


def test_the_collector_sees_nothing(fixture_path):
    """What refers to a result is what the program made; a collection in between changes nothing."""

    def scenario():
        function = returning(c_int64, fixture_path)
        outcomes = []
        for step in range(10):
            results = [function(10**6 + step + more) for more in range(3)]
            outcomes.append(([len(gc.get_referrers(result)) for result in results], [gc.is_tracked(r) for r in results]))
            gc.collect()
            outcomes.append([*results, function(10**7)])
        return outcomes

    compare(scenario)


@pytest.mark.needs_exec
def test_calls_within_calls(fixture_path):
    """A callback calls the function that called it, keeps some of its results, and raises now and then."""
    unraisable = []

    def scenario():
        library = ctypes.PyDLL(fixture_path)
        n = returning(c_int64, fixture_path)
        call_back = library["call_back"]
        kept = []

        @CFUNCTYPE(c_int, c_int)
        def inner(depth):
            mine = n(10**6 + depth)
            if depth:
                result = call_back(inner, depth - 1)
                kept.append(result if (depth - 1) % 3 != 2 else "undefined")
            kept.append(mine)
            if depth % 3 == 2:
                raise ValueError(depth)
            return mine + n(10**6)

        call_back.argtypes, call_back.restype = [type(inner), c_int], c_int
        return [(call_back(inner, depth), list(kept)) for depth in range(9) if depth % 3 != 2]

    hook, sys.unraisablehook = sys.unraisablehook, lambda failure: unraisable.append(repr(failure.exc_value))
    try:
        compare(scenario)
    finally:
        sys.unraisablehook = hook
    assert len(unraisable) % 2 == 0


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_threads(flavour, fixture_path):
    """Threads share the shelves: each keeps its own results for a while, and finds them as they were."""
    wrong, stop = [], threading.Event()

    def work(number):
        f = returning(c_int64, fixture_path, flavour)
        kept, step = deque(), 0
        while not stop.is_set():
            step += 1
            value = (number << 20) + step % 1000 if step % 2 else (number << 40) - step
            kept.append((value, f(value), -value, f(-value)))
            if len(kept) > step % 7:
                value, result, opposite, other = kept.popleft()
                if (value, opposite) != (result, other):
                    wrong.append((value, result, opposite, other))
                    return

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with hotcall.installed():
            threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 5)]
            for thread in threads:
                thread.start()
            stop.wait(SECONDS)
            stop.set()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert not wrong


def test_results_outlive_the_hook(fixture_path):
    """Installing and uninstalling at any time leaves what was returned as it is."""
    kept = []
    function = returning(c_int64, fixture_path)
    for step in range(50):
        with hotcall.installed():
            kept += [function(10**6 + step), function(2**40 + step)]
            function(5), function(10**9)
        function(10**6)
    assert kept == [value for step in range(50) for value in (10**6 + step, 2**40 + step)]
