"""errno where a program looks closely: the private one of a thread that ends or is tampered with, and C's own while hotcall is
busy with something else."""

import ctypes
import os
import shutil
import subprocess
import threading
from ctypes import CDLL, CFUNCTYPE, c_int, py_object

import pytest
from conftest import compare, observe, python

KEY = "ctypes.error_object"


def state_dict():
    """The dictionary of this thread state, in which ctypes keeps its private errno."""
    get = ctypes.pythonapi["PyThreadState_GetDict"]
    get.argtypes = []
    get.restype = ctypes.c_void_p
    return ctypes.cast(get(), py_object).value


def in_thread(work):
    """What `work` gives in a thread of its own."""
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(observe(work)))
    thread.start()
    thread.join()
    return outcome


def private(path, name):
    function = CDLL(path, use_errno=True)[name]
    function.argtypes = [c_int]
    return function


@pytest.mark.parametrize("instead", [5, "text", object(), [], None], ids=lambda it: type(it).__name__)
def test_something_else_in_place_of_the_private_errno(instead, fixture_path):
    def tamper():
        swap = private(fixture_path, "swap_errno")
        outcomes = [swap(5) for _ in range(4)]
        state_dict()[KEY] = instead
        outcomes += [(observe(swap, number), observe(ctypes.get_errno)) for number in range(4)]
        late = private(fixture_path, "swap_errno")
        outcomes += [observe(late, number) for number in range(4)]
        del state_dict()[KEY]
        return outcomes + [(swap(number), ctypes.get_errno()) for number in range(4)]

    compare(lambda: in_thread(tamper))


def test_private_errno_that_is_dropped(fixture_path):
    """ctypes makes a new one then."""

    def drop():
        swap = private(fixture_path, "swap_errno")
        outcomes = []
        for number in range(8):
            outcomes.append([swap(5), swap(number), ctypes.get_errno()])
            state_dict().pop(KEY)
            outcomes.append([swap(number), ctypes.get_errno()])
        return outcomes

    compare(lambda: in_thread(drop))


@pytest.mark.needs_exec
@pytest.mark.parametrize("exchanges", [False, True], ids=["plain", "use_errno"])
def test_private_errno_that_is_dropped_during_a_call(exchanges, fixture_path):
    """The call goes on with the one that it began with."""

    def drop():
        swap, call = private(fixture_path, "swap_errno"), CDLL(fixture_path, use_errno=True)["call_back"]
        outcomes = []

        @CFUNCTYPE(c_int, c_int, use_errno=exchanges)
        def callback(number):
            state_dict().pop(KEY)
            outcomes.append([ctypes.get_errno(), ctypes.set_errno(4)])
            return 0

        for number in range(8):
            outcomes.append([ctypes.set_errno(7), call(callback, number), ctypes.get_errno(), swap(1)])
        return outcomes

    compare(lambda: in_thread(drop))


def test_first_errno_of_a_thread_that_has_called_before(fixture_path):
    """Its thread state may have no dictionary yet."""

    def scenario():
        swap, plain = private(fixture_path, "swap_errno"), CDLL(fixture_path)["add_one"]
        ctypes.set_errno(0)
        outcomes = [swap(number) for number in range(4)]
        plain.argtypes = [c_int]

        def work():
            return [[plain(number) for number in range(4)], swap(5), swap(6), ctypes.get_errno()]

        return outcomes + [in_thread(work) for _ in range(4)]

    compare(scenario)


class Late:
    """Calls a function when it dies."""

    def __init__(self, call):
        self.call = call

    def __del__(self):
        self.call()


@pytest.mark.parametrize("how", ["thread-local", "in the dictionary of the state"])
@pytest.mark.parametrize("first", [False, True], ids=["object", "errno"])
def test_errno_of_a_thread_that_ends(how, first, fixture_path):
    """What a thread drops at its end calls functions too, when the private errno that it had is gone."""
    swap = private(fixture_path, "swap_errno")
    local = threading.local()

    def scenario():
        outcomes = []

        def late():
            outcomes.append([swap(33), ctypes.get_errno(), swap(34), ctypes.get_errno()])

        def work():
            if first:
                swap(4)
            if how == "thread-local":
                local.late = Late(late)
            else:
                state_dict()["late"] = Late(late)
            outcomes.append([swap(5), swap(6), ctypes.get_errno()])

        for _ in range(4):
            in_thread(work)
        return outcomes

    compare(scenario)


def test_errno_when_lines_of_the_log_are_lost():
    """Writing one fails where standard error is closed, before ctypes makes the call that is refused."""
    done = python(
        """
import ctypes, os, hotcall
os.close(2)
hotcall.install()
library = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
for number in range(40, 60):
    refused = library["get_errno"]
    refused.argtypes = [ctypes.c_longdouble]
    seen = [library.set_errno(number) and refused(1) for _ in range(4)]
    if seen != [number] * 4:
        os._exit(1)
os._exit(0)
""",
        setting="threshold=1,log=events",
    )
    assert done.returncode == 0


SLOW_BARRIERS = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

/* As the C library's, but that the barriers for which the monitor asks take 2 ms. */
long syscall(long number, ...) {
    static long (*original)(long, ...);
    long word[6];
    va_list args;
    va_start(args, number);
    for (int i = 0; i < 6; i++) word[i] = va_arg(args, long);
    va_end(args);
    if (!original) original = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    long result = original(number, word[0], word[1], word[2], word[3], word[4], word[5]);
    if (number == SYS_membarrier && word[0] == 8) nanosleep(&(struct timespec){0, 2000000}, 0);
    return result;
}
"""


def test_errno_while_the_monitor_decides(tmp_path):
    """A thread that comes back waits for the decision, in which a signal may interrupt it."""
    source, target = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text(SLOW_BARRIERS)
    compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
    subprocess.run([compiler, "-shared", "-fPIC", source, "-o", target, "-ldl"], check=True)
    done = python(
        """
import ctypes, os, signal, time, hotcall
hotcall.install(gil="lend")
library = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
get, seen = library.get_errno, set()
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
end = time.monotonic() + 3
while time.monotonic() < end:
    # A new function each time, since one that lasts is to release the GIL.
    work = library["work_and_fail"]
    work.argtypes = [ctypes.c_int, ctypes.c_int]
    for us in [150, 300, 700, 1000]:
        work(us, 1234)
        seen.add(get())
signal.setitimer(signal.ITIMER_REAL, 0)
assert seen == {1234}, seen
""",
        env={"LD_PRELOAD": str(target)},
    )
    assert done.returncode == 0, done.stderr


def test_errno_after_a_fork():
    """A fork in C leaves errno alone, whatever is done around it."""
    done = python(
        """
import ctypes, os, hotcall
hotcall.install(gil="lend")
library, fork = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]), ctypes.CDLL(None).fork
for number in range(40, 60):
    library.sleep_us(10)
    library.set_errno(number)
    child = fork()
    errno = library.get_errno()
    if child == 0:
        os._exit(errno)
    assert errno == number
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == number
"""
    )
    assert done.returncode == 0, done.stderr
