"""Calls raise the audit events that ctypes raises, and no others: a hook may end the process for each."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONG, SEED, python

PROGRAM = Path(__file__).with_name("audit_program.py")
STEPS = 400


def run(seed, threshold, **environment):
    """What a program prints."""
    command = [sys.executable, "-X", "faulthandler", PROGRAM, str(seed), str(STEPS)]
    environment = {**os.environ, "HOTCALL": f"threshold={threshold}", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (seed, done.stderr)
    return done.stdout.splitlines()


def test_random_programs():
    rng = random.Random(SEED)
    for _ in range(100 if LONG else 6):
        seed, threshold = rng.randrange(2**32), rng.choice([1, 2, 4])
        plain, hot = run(seed, threshold, HOTCALL_PLAIN="1"), run(seed, threshold)
        for number, (wanted, seen) in enumerate(zip(plain, hot, strict=True)):
            assert seen == wanted, f"HOTCALL_SEED={SEED}: `{PROGRAM.name} {seed} {STEPS}`, threshold {threshold}, line {number + 1}"
        assert len(plain) == STEPS


def test_a_hook_that_refuses_to_show_code():
    """Hot calls go on where a sandbox lets nobody look at code and frames."""
    done = python("""if True:
        import ctypes, os, sys
        import hotcall.auto
        from ctypes import c_int
        class Checked(c_int):
            def _check_retval_(self):
                return self.value
        class Same:
            def from_param(self, value):
                return value
        def hook(event, args):
            if event == "object.__getattr__":
                os._exit(3)
        sys.addaudithook(hook)
        function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])["add_two"]
        function.argtypes, function.restype = [Same(), Same()], Checked
        assert [function(number, 2) for number in range(20)] == list(range(2, 22))
        explained = hotcall.explain(function)
        assert explained.tier == "stub" or not explained.shapes, explained
    """)
    assert done.returncode == 0, (done.returncode, done.stderr)


HOOKED = """if True:
    import ctypes, os, re, sys
    if {hot}:
        import hotcall
    library = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
    function = library.add_one
    function.argtypes = [ctypes.c_int]
    events, denied = [], False
    def hook(event, arguments):
        if event.startswith("ctypes."):
            events.append((event, re.sub("0x[0-9a-f]+", "address", str(arguments[-1]))))
            if denied:
                raise RuntimeError(event)
    def calls():
        for number in range(40):
            function(number)
            ctypes.memmove(ctypes.byref(ctypes.c_int(5)), b"1234", 4)
    steps = [lambda: sys.addaudithook(hook), lambda: {hot} and (hotcall.install(), events.clear()), calls, calls]
    for step in {order}:
        steps[step]()
    bound = hotcall.bind(function) if {hot} else function
    mapped = list(hotcall.map(function, range(5)) if {hot} else map(function, range(5)))
    print(bound(5), mapped)
    denied = True
    for call in (function, bound):
        try:
            print(call(1))
        except RuntimeError as error:
            print(error)
    denied = False
    sys.addaudithook(hook)
    calls()
    print([event for event in events if event[0] == "ctypes.call_function"])
"""


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 0, 3), (2, 1, 3, 0), (1, 0, 2)])
def test_hooks_see_the_calls_that_ctypes_shows_them(order):
    """From 3.14 on each call is an event. A hook may come before hotcall is installed, or when functions are hot."""
    plain, hot = (python(HOOKED.format(hot=hot, order=order)) for hot in (False, True))
    assert plain.returncode == 0 and (sys.version_info < (3, 14)) == ("ctypes.call_function" not in plain.stdout), plain
    assert (hot.stdout, hot.stderr) == (plain.stdout, "")


@pytest.mark.stubs
def test_without_a_hook_calls_are_fast():
    code = """if True:
        import ctypes, os, sys, hotcall
        hotcall.install()
        function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
        for number in range(300):
            function(number)
        print(hotcall.explain(function).tier)
        sys.addaudithook(lambda event, arguments: None)
        function(5)
        print(hotcall.explain(function).refused and hotcall.explain(function).refused.name)
    """
    audited = "audit-hook" if sys.version_info >= (3, 14) else "None"
    assert python(code).stdout.split() == ["stub", audited]
