"""errno where a program looks closely: C's own while hotcall is busy with something else."""

import os
import shutil
import subprocess

from conftest import python


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
