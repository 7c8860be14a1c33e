"""Calls raise the audit events that ctypes raises, and no others: a hook may end the process for each."""

import os
import random
import subprocess
import sys
from pathlib import Path

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
