"""Random programs of nested calls and callbacks see the same with hotcall as without, whatever they change on the way."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONG, SEED

PROGRAM = Path(__file__).with_name("random_program.py")
STEPS = 600


def run(seed, **environment):
    """What a program prints."""
    command = [sys.executable, "-X", "faulthandler", PROGRAM, str(seed), str(STEPS)]
    environment = {**os.environ, "HOTCALL": "threshold=2", **environment}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (seed, done.stderr)
    return done.stdout.splitlines()


@pytest.mark.needs_exec
def test_random_programs():
    rng = random.Random(SEED)
    for _ in range(200 if LONG else 12):
        seed = rng.randrange(2**32)
        plain, hot = run(seed, HOTCALL_PLAIN="1"), run(seed)
        for number, (wanted, seen) in enumerate(zip(plain, hot, strict=False)):
            assert seen == wanted, f"HOTCALL_SEED={SEED}: `{PROGRAM.name} {seed} {STEPS}`, line {number + 1}"
        assert len(hot) == len(plain) > STEPS / 2
