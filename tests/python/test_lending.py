"""What is particular to lending the GIL: thefts, demotions, and the monitor."""

import ctypes
import os
import shutil
import subprocess
import sys
from ctypes import CDLL, c_int, c_void_p

import pytest
from conftest import EXPECT_STUBS, LIBRARY
from gilkit import CAN_LEND, Unary, declared, in_process

import hotcall

pytestmark = pytest.mark.skipif(not CAN_LEND, reason="the GIL cannot be lent here")


class TestThefts:
    """When the GIL is taken away, and what the monitor costs."""

    def test_theft(self, lib):
        """The GIL is taken away from a call that lasts, once for each."""
        hotcall.install(gil="lend")
        function = declared(lib, "sleep_ms", c_int)
        function(0), function(0)
        before = hotcall.stats()["thefts"]
        function(50)
        assert hotcall.stats()["thefts"] == before + 1

    @pytest.mark.parametrize("name", ["sleep_us", "work_us"])
    def test_long_functions_release(self, lib, name):
        """A function whose calls last releases the GIL after a few of them, and goes on to do so."""
        hotcall.install(gil="lend")
        function, short = declared(lib, name, c_int), declared(lib, "add_one", c_int)
        for number in range(200):
            short(number)
        # On a busy machine the monitor may come too late for some.
        for _ in range(400):
            function(3000)
            if hotcall.explain(function).gil != "lend":
                break
        assert hotcall.explain(function).gil == "release, since calls that lent it were long"
        assert hotcall.explain(short).gil == "lend"
        thefts, demotions = (hotcall.stats()[name] for name in ["thefts", "demotions"])
        for _ in range(300):
            function(0)
        for _ in range(5):
            function(3000)
        assert hotcall.explain(function).gil.startswith("release")
        assert hotcall.stats()["thefts"] == thefts and hotcall.stats()["demotions"] == demotions
        if EXPECT_STUBS:
            assert "save_thread" in hotcall.trace(function)
        # A new declaration begins anew.
        function.argtypes = [ctypes.c_int32]
        function(0), function(0)
        assert hotcall.explain(function).gil == "lend"

    def test_mostly_short_functions_lend(self, lib):
        """A call that lasts now and then is no reason to release the GIL in all others."""
        hotcall.install(gil="lend")
        function = declared(lib, "sleep_us", c_int)
        for _ in range(4):
            for _ in range(5000):
                function(0)
            function(3000)
        assert hotcall.explain(function).gil == "lend"

    def test_functions_of_a_class_that_are_long(self, lib):
        """Functions that share the declaration of their class are demoted together."""
        hotcall.install(gil="lend")
        address = ctypes.cast(lib["sleep_us"], c_void_p).value
        for _ in range(10):
            assert Unary(address)(3000) == 3000
        assert hotcall.explain(Unary(address)).gil in (None, "release, since calls that lent it were long")

    def test_errno(self, fixture_path):
        """The callee's errno is the program's, whatever the monitor does meanwhile."""
        hotcall.install(gil="lend")
        plain, private = CDLL(fixture_path), CDLL(fixture_path, use_errno=True)
        for library in [plain, private]:
            library.sleep_us(0)
        for us in [0, 0, 500, 2000, 0]:
            plain.set_errno(35)
            plain.sleep_us(us)
            assert plain.get_errno() == 35
            ctypes.set_errno(5)
            private.sleep_us(us)
            assert private.get_errno() == 5 and ctypes.get_errno() == 5

    def test_no_thread_when_idle(self):
        """When nothing is lent for a while, the process is one with a single thread, to the kernel too."""
        in_process(
            """
    import errno
    def wait_until_alone():
        end = time.monotonic() + 10
        while tasks() > 1 and time.monotonic() < end:
            time.sleep(0.01)
        assert tasks() == 1
    for turn in range(3):
        heat()
        assert tasks() == 2
        wait_until_alone()
    heat()
    wait_until_alone()
    NEW_USER = 0x10000000
    unshare = CDLL(None, use_errno=True).unshare
    assert unshare(NEW_USER) == 0 or get_errno() != errno.EINVAL
    heat()
    assert tasks() == 2
    print("done")
    """,
            setting="threshold=20",
        )

    def test_a_call_when_the_monitor_ends(self):
        """Some 0.32 s after the last call it ends; a call that lasts from about then on is robbed, or has released the GIL."""
        in_process(
            """
    wait_for = declared("wait_for", POINTER(c_int))
    flag = c_int(7)
    for turn in range(10):
        heat()
        time.sleep(0.319 + turn * 0.001)
        flag.value = 0
        timer = threading.Timer(0.001, lambda: setattr(flag, "value", 7))
        timer.start()
        assert wait_for(flag) == 7
        timer.join()
    print("done")
    """
        )

    def test_monitor_is_cheap(self):
        """Beside a thread that calls all the time, the monitor wakes up some 500 times a second, for some 10 us each: less than
        a hundredth of a core. Wake-ups are counted, since their time depends on what else the machine does."""
        in_process(
            """
    def switches():
        tasks = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
        lines = [line for task in tasks for line in open(f"/proc/self/task/{task}/status")]
        return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))
    before, started = switches(), time.perf_counter()
    while time.perf_counter() - started < 1:
        heat()
    woken = (switches() - before) / (time.perf_counter() - started)
    assert 0 < woken < 900, woken
    print("done")
    """
        )

    def test_signals_do_not_reach_the_monitor(self):
        in_process(
            """
    (monitor,) = (task for task in os.listdir("/proc/self/task") if int(task) != os.getpid())
    status = open(f"/proc/self/task/{monitor}/status").read()
    blocked = int(status.partition("SigBlk:")[2].split()[0], 16)
    # The two that the C library keeps for itself cannot be blocked by programs.
    catchable = [number for number in range(1, 65) if number not in (9, 19, 32, 33)]
    assert all(blocked >> (number - 1) & 1 for number in catchable), hex(blocked)
    print("done")
    """
        )

    def test_interrupt_during_a_long_call(self):
        in_process(
            """
    # A shell that starts jobs in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    wait = declared("sleep_ms", c_int)
    wait(0), wait(0)
    threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    started = time.monotonic()
    try:
        for _ in range(50):
            wait(100)
        print("no interrupt")
    except KeyboardInterrupt:
        assert time.monotonic() - started < 4
        print("done")
    """
        )

    def test_no_thread_for_the_monitor(self):
        """Where the system gives no thread, the GIL is released, and the status says so."""
        in_process(
            """
    assert tasks() == 1, tasks()
    assert hotcall.status().lending_off == "the system gives no thread for it"
    assert "not lent, the system gives no thread" in str(hotcall.status())
    count = 0
    def work():
        global count
        while not stop:
            count += 1
    stop = False
    thread = threading.Thread(target=work)
    thread.start()
    before = count
    sleep_us(200_000)
    assert count > before + 1000
    stop = True
    thread.join()
    heat()
    add_one.argtypes = [c_int]
    heat()
    assert hotcall.explain(add_one).gil == "release"
    print("done")
    """,
            setting="threshold=1,monitor=deny",
        )

    def test_faulthandler_sees_the_caller(self):
        finished = in_process(
            """
    import faulthandler
    sleep_us(0), sleep_us(0)
    def outermost():
        sleep_us(400_000)
    faulthandler.dump_traceback_later(0.2, file=sys.stderr)
    outermost()
    faulthandler.cancel_dump_traceback_later()
    print("done")
    """
        )
        assert "in outermost" in finished.stderr, finished.stderr


@pytest.mark.stubs
@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind is not on this machine")
def test_memcheck():
    """Threads, thefts, callbacks and a fork, under valgrind: no invalid access."""
    code = """if True:
    import ctypes, os, threading
    from ctypes import c_int
    import hotcall
    hotcall.install()
    lib = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
    Unary = ctypes.CFUNCTYPE(c_int, c_int)
    add_one, sleep_us, sleep_and_call = lib.add_one, lib.sleep_us, lib.sleep_and_call
    add_one.argtypes = sleep_us.argtypes = [c_int]
    sleep_and_call.argtypes = [c_int, Unary, c_int]
    callback = Unary(lambda number: add_one(number) + 1)
    def work():
        for number in range(200):
            assert add_one(number) == number + 1
            if number % 30 == 0:
                assert sleep_us(1500) == 1500
            if number % 50 == 0:
                assert sleep_and_call(1000, callback, number) == number + 2
    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if os.fork() == 0:
        work()
        os._exit(0)
    assert os.wait()[1] == 0
    work()
    assert hotcall.stats()["thefts"], hotcall.status()
    print("done")
    """
    environment = {**os.environ, "HOTCALL": "threshold=1,count=1", "HOTCALL_FIXTURE": LIBRARY, "PYTHONMALLOC": "malloc"}
    command = ["valgrind", "--error-exitcode=9", "--undef-value-errors=no", "--quiet", sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-4000:]
