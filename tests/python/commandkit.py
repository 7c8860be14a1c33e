"""Runs programs by the command line, and by the interpreter alone, in processes of their own."""

import os
import subprocess
import sys


def run(*arguments, cwd, setting=None, interpreter=(), input="a line", **more):
    environment = {k: v for k, v in os.environ.items() if k not in ("HOTCALL", "PYTHONPATH")}
    environment.update({"HOTCALL": setting} if setting else {}, PYTHONDONTWRITEBYTECODE="1")
    return subprocess.run(
        [sys.executable, *interpreter, *arguments], cwd=cwd, env=environment, capture_output=True, text=True,
        input=input, timeout=60, **more,
    )  # fmt: skip


def outcome(done):
    return done.returncode, done.stdout, done.stderr


def compare(*program, cwd, **more):
    """Checks that a program is run alike by us and by the interpreter."""
    plain = run(*program, cwd=cwd, **more)
    ours = run("-m", "hotcall", *program, cwd=cwd, **more)
    assert outcome(ours) == outcome(plain)
    return plain


def compare_with(options, code, **more):
    """Checks that code prints the same with options of ours; what they show at the end goes elsewhere."""
    plain = run("-c", code, **more)
    ours = run("-m", "hotcall", *options, "-c", code, **more)
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout), ours.stderr
    return plain
