"""What other programs see of stubs: unwinders, debuggers, profilers, and readers of the log."""

import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from conftest import python

pytestmark = pytest.mark.stubs

# Makes `raise` hot, which does nothing with signal 0, and says where its stub is.
HOT = """
import ctypes, hotcall, os, re, sys
hotcall.install()
lib = ctypes.CDLL(None)
function = lib["raise"]
function.argtypes = [ctypes.c_int]
for _ in range(50):
    function(0)
assert hotcall.explain(function).tier == "stub", hotcall.explain(function)
"""


def run(code, setting):
    done = python(HOT + code, setting=setting)
    assert done.returncode == 0, done.stderr
    return done


def test_frames_are_found_through_a_stub():
    """The C library's backtrace, called through a stub, finds its way to the beginning of the program."""
    code = """
lib.backtrace.argtypes = [ctypes.c_void_p, ctypes.c_int]
room = (ctypes.c_void_p * 500)()
def frames():
    return room[:lib.backtrace(room, 500)]
def maps():
    return [[int(x, 16) for x in line.split()[0].split("-")] + [line.split()[-1]] for line in open("/proc/self/maps")]
def names(addresses):
    all = maps()
    return [next((name for start, end, name in all if start <= place < end), "nowhere") for place in addresses]
hotcall.uninstall()
plain = names(frames())
hotcall.install()
for _ in range(50):
    hot = frames()
assert hotcall.explain(lib.backtrace).tier == "stub"
hot = names(hot)
print(plain, hot, sep="\\n")
# Where ctypes and libffi were is one frame, of code that belongs to no file; the way from there on is the same.
assert [name for name in hot if "/" not in name] == hot[:1], hot
outside = [name for name in plain if "ctypes" not in name and "libffi" not in name]
assert len(hot) > 5 and hot[-6:] == outside[-6:], (outside, hot)
"""
    run(code, "threshold=10,gil=release")


def test_a_thread_ends_within_a_stub():
    """pthread_exit unwinds the thread through the stub."""
    code = """
import _thread, time
exit = lib.pthread_exit
exit.argtypes = [ctypes.c_void_p]
other = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(ctypes.cast(lib.free, ctypes.c_void_p).value)
other.argtypes = [ctypes.c_void_p]
for _ in range(50):
    other(None)
assert hotcall.explain(other).tier == "stub"
ctypes.memmove(ctypes.addressof(other), ctypes.addressof(exit), 8)
ended = []
def end():
    ended.append(1)
    other(None)
    ended.append(2)
for _ in range(3):
    _thread.start_new_thread(end, ())
time.sleep(0.3)
assert ended == [1, 1, 1], ended
sys.stdout.flush()
os._exit(0)
"""
    run(code, "threshold=10,gil=release")


def test_the_map_of_perf():
    code = """
print(os.getpid(), flush=True)
inner = os.fork()
if inner == 0:
    lib.labs.argtypes = [ctypes.c_long]
    for number in range(50):
        lib.labs(number)
    os._exit(0)
os.waitpid(inner, 0)
print(inner)
"""
    done = run(code, "threshold=10,perf=map")
    process, child = map(int, done.stdout.split())
    maps = [Path(f"/tmp/perf-{number}.map") for number in (process, child)]
    try:
        lines = [path.read_text().splitlines() for path in maps]
        assert [line.split(" ", 2)[2] for line in lines[0]] == ["hotcall::raise"]
        assert [line.split(" ", 2)[2] for line in lines[1]] == ["hotcall::raise", "hotcall::labs"]
        assert all(re.fullmatch(r"[0-9a-f]+ [0-9a-f]+ \S.*", line) for line in lines[0] + lines[1])
        assert all(path.stat().st_mode & 0o77 == 0 for path in maps)
    finally:
        for path in maps:
            path.unlink(missing_ok=True)


def test_the_dump_for_perf():
    done = run("print(os.getpid())", "threshold=10,perf=jitdump")
    path = Path(f"/tmp/jit-{done.stdout.strip()}.dump")
    try:
        assert b"hotcall::raise\0" in path.read_bytes()
    finally:
        path.unlink(missing_ok=True)


def test_nothing_is_told_unasked():
    done = run("print(os.getpid())", "threshold=10")
    assert not list(Path("/tmp").glob(f"*-{done.stdout.strip()}.*")) and done.stderr == ""


def test_the_log_is_for_people():
    code = """
lib.abs.argtypes = [ctypes.c_longdouble]
for _ in range(50):
    lib.abs(1.0)
"""
    done = run(code, "threshold=10,log=events")
    lines = done.stderr.splitlines()
    assert all(line.startswith("hotcall: ") for line in lines)
    assert any(re.fullmatch(r"hotcall: raise: stub 1, \d+ bytes of code, for arg\[0\]\.type == @int.*", line) for line in lines)
    assert any(line.startswith("hotcall: abs: refused, long-double: ") for line in lines)


def needs(program):
    if shutil.which(program) is None:
        warnings.warn(f"SKIPPED: {program} is not on this machine", stacklevel=2)
        pytest.skip(f"{program} is not on this machine")


def test_a_debugger_names_stubs_and_unwinds_them(tmp_path):
    needs("gdb")
    program = tmp_path / "program.py"
    program.write_text(HOT + "function(5)\n")
    command = ["gdb", "-batch", "-nx", "-ex", "set debuginfod enabled off", "-ex", "run", "-ex", "bt"]
    done = subprocess.run(
        [*command, "-ex", "kill", "--args", sys.executable, str(program)],
        env={**os.environ, "HOTCALL": "threshold=10,gdb=on"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if "SIGTRAP" not in done.stdout:
        warnings.warn("SKIPPED: gdb cannot run a program here", stacklevel=1)
        pytest.skip(f"gdb cannot run a program here: {done.stderr[-300:]}")
    frames = [line for line in done.stdout.splitlines() if line.startswith("#")]
    assert any("hotcall::raise" in frame for frame in frames[:6]), done.stdout
    assert any("_PyEval_EvalFrameDefault" in frame or "PyEval_EvalCode" in frame for frame in frames), done.stdout
    assert "__libc_start" in frames[-2] or "_start" in frames[-1], done.stdout


def test_a_profiler_names_stubs(tmp_path):
    needs("perf")
    program = tmp_path / "program.py"
    program.write_text("import os\nprint(os.getpid())\n" + HOT + "for _ in range(2000000):\n    function(0)\n")
    data = tmp_path / "perf.data"
    environment = {**os.environ, "HOTCALL": "threshold=10,perf=map,gil=hold"}
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-o", str(data), sys.executable, str(program)]
    done = subprocess.run(record, env=environment, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        warnings.warn("SKIPPED: perf cannot record here", stacklevel=1)
        pytest.skip(f"perf cannot record here: {done.stderr[-300:]}")
    names = Path(f"/tmp/perf-{int(done.stdout.split()[0])}.map")
    report = ["perf", "report", "-i", str(data), "--stdio", "--sort", "symbol"]
    done = subprocess.run(report, capture_output=True, text=True, timeout=120)
    names.unlink()
    assert "hotcall::raise" in done.stdout, done.stdout[-2000:] + done.stderr
