"""Forks, the end of threads, and the end of the process, while the GIL is lent."""

import os
import shutil
import subprocess

import pytest
from gilkit import CAN_LEND, in_process

pytestmark = pytest.mark.skipif(not CAN_LEND, reason="the GIL cannot be lent here")

COMPILER = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc")

# Makes allocations of all threads but the first one slow, as many as `slow` says.
SLOW = """
#define _GNU_SOURCE
#include <stddef.h>
#include <unistd.h>
volatile int slow;
void *__libc_malloc(size_t);
void *malloc(size_t size) {
    if (slow && gettid() != getpid()) {
        slow--;
        usleep(50000);
    }
    return __libc_malloc(size);
}
"""


def test_fork_warns_of_no_thread():
    """CPython warns when a process with threads forks; the monitor is none that it sees."""
    in_process(
        """
    import warnings
    warnings.simplefilter("error")
    for turn in range(50):
        heat()
        child = os.fork()
        if child == 0:
            heat()
            sleep_us(1000)
            os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    print("done")
    """
    )


def test_fork_in_a_callee():
    """Foreign code that forks, also while other threads lend."""
    in_process(
        """
    forks = declared("fork_and_exit", c_int)
    stop = False
    def work():
        while not stop:
            heat()
            sleep_us(200)
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for code in range(1, 40):
        assert forks(code) == code
    stop = True
    for thread in threads:
        thread.join()
    print("done")
    """
    )


@pytest.mark.needs_exec
def test_fork_in_a_callback():
    in_process(
        """
    function = declared("sleep_and_call", c_int, Unary, c_int)
    def forks(number):
        child = os.fork()
        if child == 0:
            heat()
            return 100
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        return number
    callback = Unary(forks)
    for turn in range(20):
        result = function(turn % 2 * 500, callback, turn)
        if result == 100:
            heat()
            os._exit(5)
        assert result == turn
    print("done")
    """
    )


@pytest.mark.skipif(not COMPILER, reason="there is no C compiler on this machine")
def test_fork_while_a_thread_ends(tmp_path):
    """Amid the end of another thread, which is made slow wherever it allocates, the child can make threads that call."""
    source, slow = tmp_path / "slow.c", tmp_path / "libslow.so"
    source.write_text(SLOW)
    subprocess.run([COMPILER, "-shared", "-fPIC", source, "-o", slow], check=True)
    in_process(
        """
    slow = c_int.in_dll(CDLL(None), "slow")
    def ends():
        heat()
        slow.value = 20
    def child():
        slow.value = 0
        signal.alarm(10)
        thread = threading.Thread(target=heat)
        thread.start()
        thread.join()
        os._exit(5)
    thread = threading.Thread(target=ends)
    thread.start()
    while not slow.value:
        time.sleep(0.001)
    for turn in range(20):
        time.sleep(0.02)
        forked = os.fork()
        if forked == 0:
            child()
        assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 5
    print("done")
    """,
        env={"LD_PRELOAD": str(slow)},
    )


def test_subprocesses():
    in_process(
        """
    import subprocess
    for turn in range(5):
        heat()
        assert subprocess.run([sys.executable, "-c", "print(5)"], capture_output=True).stdout == b"5\\n"
        assert subprocess.run(["true"], preexec_fn=heat).returncode == 0
        child = os.posix_spawn("/bin/true", ["true"], {})
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    print("done")
    """
    )


@pytest.mark.parametrize("ending", ["", "os._exit(0)", "sys.exit(0)"])
def test_daemon_threads_in_calls_at_exit(ending):
    """Threads in short, long and never-ending calls do not keep the process from ending, and do not crash it."""
    in_process(
        f"""
    never, sleep = declared("never_return"), declared("sleep_us", c_int)
    def long():
        while True:
            sleep(3000)
    def short():
        while True:
            heat()
    for target in [never, long, short, short]:
        threading.Thread(target=target, daemon=True).start()
    time.sleep(0.1)
    heat()
    print("done", flush=True)
    {ending}
    """
    )


def test_callee_that_never_returns():
    """The rest of the program gets on."""
    in_process(
        """
    never = declared("never_return")
    threading.Thread(target=never, daemon=True).start()
    started = time.monotonic()
    for _ in range(50):
        heat()
    assert time.monotonic() - started < 10
    print("done")
    """
    )


def test_callee_that_ends_its_thread():
    """As with plain ctypes its thread is gone; all others get on, and new threads can call."""
    code = """
    import ctypes
    ends = declared("end_thread", restype=None)
    for turn in range(5):
        ended = threading.Thread(target=ends, daemon=True)
        ended.start()
        time.sleep(0.05)
        heat()
        other = threading.Thread(target=heat)
        other.start()
        other.join()
    print("done", flush=True)
    os._exit(0)
    """
    in_process(code)
