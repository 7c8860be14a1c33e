"""The first use of hotcall, while other threads are about, each in a process of its own."""

import os
import sys

import pytest
from conftest import python
from gilkit import CAN_LEND

pytestmark = pytest.mark.skipif(not CAN_LEND, reason="the GIL cannot be lent here")


def start(code):
    """Runs code in a process of its own that has not used hotcall yet; it must print `done` last and end well."""
    prelude = "if True:\n    import ctypes, hotcall, os, sys, threading, time\n"
    finished = python(prelude + code.strip("\n"), seconds=20)
    assert (finished.returncode, finished.stdout) == (0, "done\n"), finished


def test_beside_busy_threads():
    """The thread that tries a release out gets its state back, whoever has had the GIL meanwhile."""
    start(
        """
    def work():
        count = 0
        while True:
            count += 1
    for _ in range(3):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.02)
    hotcall.install()
    assert hotcall.status().lending_off is None
    add_one = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
    for number in range(100):
        assert add_one(number) == number + 1
    print("done", flush=True)
    os._exit(0)
    """
    )


def test_by_several_threads_at_once():
    """All find it installed once, and a fork afterwards locks nothing twice."""
    start(
        """
    sys.setswitchinterval(1e-6)
    barrier = threading.Barrier(4)
    seen = []
    def work():
        barrier.wait()
        hotcall.install()
        seen.append(hotcall.status().installed)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert seen == [True] * 4, seen
    child = os.fork()
    if child == 0:
        os._exit(5)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    print("done")
    """
    )


def test_by_code_that_runs_meanwhile():
    """Python code that the start itself runs may ask for one: it does without."""
    start(
        """
    seen = set()
    def profiler(frame, event, argument):
        sys.setprofile(None)
        seen.add(hotcall.status().installed)
        sys.setprofile(profiler)
    sys.setprofile(profiler)
    hotcall.install()
    sys.setprofile(None)
    assert False in seen and hotcall.status().installed, seen
    print("done")
    """
    )


@pytest.mark.parametrize("event", ["ctypes.addressof", *(["compile"] if sys.version_info[:2] != (3, 12) else [])])
def test_in_a_child_that_was_forked_meanwhile(event):
    """The thread that was at it is not there, so the child starts by itself."""
    start(
        f"""
    begun, forked = threading.Event(), threading.Event()
    def hook(event, arguments):
        if event == {event!r} and not begun.is_set() and threading.current_thread() is thread:
            begun.set()
            forked.wait(10)
    sys.addaudithook(hook)
    thread = threading.Thread(target=hotcall.install)
    thread.start()
    assert begun.wait(10)
    child = os.fork()
    if child == 0:
        hotcall.install()
        os._exit(5 if hotcall.status().installed else 1)
    forked.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    thread.join()
    assert hotcall.status().installed
    print("done")
    """
    )


def test_before_the_program(tmp_path):
    """By `sitecustomize`: while that runs, 3.15 does not say yet that the interpreter is initialised."""
    show = "import hotcall; hotcall.install(); print(hotcall.status())"
    (tmp_path / "sitecustomize.py").write_text(show)
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    before = python("", env={"PYTHONPATH": paths})
    assert (before.stdout, before.stderr, before.returncode) == (python(show).stdout, "", 0)
