"""Callbacks on threads of every sort: Python's, C's, those that lend the GIL, across forks and at the end of the process."""

import signal
import threading
import time
from ctypes import CDLL, CFUNCTYPE, c_int, c_int64

import pytest
from conftest import LIBRARY, SECONDS, python

import hotcall

pytestmark = pytest.mark.needs_exec
Unary = CFUNCTYPE(c_int, c_int)


def test_foreign_threads():
    """A thread that C has made takes the GIL in the general way, each time."""
    hotcall.install()
    lib = CDLL(LIBRARY)
    seen = set()

    def callable(x):
        seen.add(threading.get_ident())
        return x + len(threading.enumerate()) * 0 + 1

    function = Unary(callable)
    assert [lib.call_back_in_thread(function, number) for number in range(50)] == list(range(1, 51))
    assert threading.get_ident() not in seen


@pytest.mark.parametrize("gil", ["release", "lend", "hold"])
def test_policies(gil):
    """Threads that call functions that call back, under each policy, all make progress."""
    hotcall.install(gil=gil)
    lib = CDLL(LIBRARY)
    lib.call_back_many.restype = c_int64
    stop = time.monotonic() + SECONDS
    rounds, errors = [0] * 4, []

    def work(index):
        function = Unary(lambda x: x + index)
        wants = sum(x + index for x in range(50))
        try:
            while time.monotonic() < stop:
                assert lib.call_back_many(function, 50) == wants
                rounds[index] += 1
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[index]) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    hotcall.install(gil="lend")
    assert not errors, errors
    assert min(rounds) > 10, rounds


def test_callbacks_within_lent_calls_are_cheap():
    """A call that has lent the GIL takes it back for a callback itself: nothing is stolen for it."""
    hotcall.install(gil="lend")
    if hotcall.status().lending_off:
        pytest.skip("the GIL is not lent here")
    lib = CDLL(LIBRARY)
    lib.call_back_many.restype = c_int64
    function = Unary(lambda x: 1)
    lib.call_back_many(function, 10)
    before = hotcall.stats()["thefts"]
    started = time.perf_counter()
    for _ in range(50):
        assert lib.call_back_many(function, 1000) == 1000
    taken = time.perf_counter() - started
    # A theft for each callback would take fifty microseconds each.
    assert hotcall.stats()["thefts"] - before < 500
    assert taken < 2, taken


def test_older_callbacks_within_lent_calls():
    """The same for function objects that are older than the hook, and for those that ctypes calls back."""
    from ctypes import Union

    class Choice(Union):
        _fields_ = [("i", c_int)]

    older = Unary(lambda x: 1)
    hotcall.install(gil="lend")
    lib = CDLL(LIBRARY)
    lib.call_back_many.restype = c_int64
    refused = CFUNCTYPE(c_int, Choice)(lambda x: 1)
    for function in (older, refused):
        started = time.perf_counter()
        assert sum(lib.call_back_many(function, 1000) for _ in range(10)) == 10_000
        assert time.perf_counter() - started < 2


def test_threads_make_and_drop_callbacks():
    """Threads that make, call and drop callbacks of many shapes at once."""
    hotcall.install()
    from ctypes import c_char_p, c_double, c_void_p

    kinds = [(c_int, 5), (c_double, 1.5), (c_char_p, b"x"), (c_void_p, 7)]
    stop = time.monotonic() + SECONDS
    errors = []

    def work(index):
        number = index
        try:
            while time.monotonic() < stop:
                number += 1
                chosen = [kinds[(number >> 2 * place) % 4] for place in range(number % 5)]
                given = [value for _, value in chosen]
                function = CFUNCTYPE(c_int, *[kind for kind, _ in chosen])(lambda *args, given=given: list(args) == given)
                assert [function(*given) for _ in range(3)] == [1] * 3
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=[index * 1000]) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


PRELUDE = """if True:
    import ctypes, os, sys, threading, time
    from ctypes import CDLL, CFUNCTYPE, PyDLL, c_int, c_int64
    import hotcall
    hotcall.install()
    lib, held = CDLL(os.environ["HOTCALL_FIXTURE"]), PyDLL(os.environ["HOTCALL_FIXTURE"])
    Unary = CFUNCTYPE(c_int, c_int)
    function = Unary(lambda x: x + 1)
    def check():
        for call in (lib.call_back, held.call_back, lib.call_back_in_thread):
            assert [call(function, number) for number in range(20)] == list(range(1, 21))
        other = Unary(lambda x: x + 2)
        assert [held.call_back(other, number) for number in range(20)] == list(range(2, 22))
    check()
"""


def run(code, says="done"):
    finished = python(PRELUDE + code.strip("\n"))
    assert finished.returncode == 0, (finished.returncode, finished.stdout, finished.stderr)
    assert finished.stdout.rstrip("\n").endswith(says), (finished.stdout, finished.stderr)


def test_fork():
    """Callbacks made before a fork, and after it, in parent and child; and a fork within a callback."""
    run("""
    for _ in range(5):
        child = os.fork()
        if not child:
            check()
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        check()
    def forking(x):
        child = os.fork()
        if not child:
            check()
            return 6
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 6
        return 7
    inside = Unary(forking)
    for call in (lib.call_back, held.call_back):
        result = call(inside, 1)
        if result == 6:
            os._exit(6)
        assert result == 7
    check()
    print("done")
    """)


def test_the_end_of_the_process():
    """Threads of Python and of C call back while the interpreter goes away; nothing crashes.

    From 3.12 on CPython by itself crashes now and then when a thread of C meets the end, so there are none of those.
    """
    run("""
    def call_forever():
        while True:
            lib.call_back_many(function, 1000)
    def in_threads():
        while True:
            lib.call_back_in_thread(function, 1)
    for work in (call_forever, call_forever if sys.version_info >= (3, 12) else in_threads, call_forever):
        threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    print("done")
    """)


@pytest.mark.parametrize("turn", range(5))
def test_threads_of_c_at_the_end_of_the_process(turn):
    """Threads that nobody knows of call back for good, while the end drops what they call.

    CPython by itself crashes now and then when one of them meets the end, or, 3.14, aborts with the text below; ending the
    process is something else.
    """
    code = """
    last = [c_int() for _ in range(4)]
    for number, at in enumerate(last):
        lib.start_calling(function, 100 + 50 * number, ctypes.byref(at))
    time.sleep(0.05)
    print(all(at.value > 1 for at in last), flush=True)
    """
    finished = python(PRELUDE + code.strip("\n"))
    aborted = finished.returncode == -signal.SIGABRT and "gilstate_tss_set: failed to set current tstate" in finished.stderr
    assert finished.stdout == "True\n" and (finished.returncode in (0, -signal.SIGSEGV) or aborted), finished


@pytest.mark.stubs
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_calls_of_what_was_dropped_when_the_process_ends(when):
    """They give zero, to a thread of C and to the one that ends the process; without trampolines they are lost, as with ctypes."""
    run("""
    # A cast would tie the function object to itself.
    address, seen = ctypes.c_void_p.from_buffer_copy(function), (c_int * 2)(5, 5)
    class Late:
        def __del__(self, call=held.call_back, address=address, seen=seen, sleep=time.sleep, write=os.write):
            globals().pop("function", None)
            sleep(0.5)
            write(1, repr([call(address, 1), *seen]).encode() + b" done")
    lib.start_calling(address, 300_000, seen)
    sys.late = Late()
    if WHEN == "before":
        del function
    """.replace("WHEN", repr(when)), "[0, 0, 5] done")


def test_callbacks_while_the_interpreter_ends():
    """Callbacks from destructors and from exit functions."""
    run("""
    import atexit
    atexit.register(check)
    class Late:
        def __del__(self, call=held.call_back, function=function):
            assert call(function, 1) == 2
    late = Late()
    sys.modules["kept for the end"] = late
    print("done")
    """)


def test_a_thread_that_ends_in_a_callback():
    """pthread_exit within a callback within a call."""
    run("""
    def ending(x):
        held.end_thread()
    function_that_ends = Unary(lambda x: sys.exit(3) or 5)
    before, sys.unraisablehook = sys.unraisablehook, lambda report: None
    results = []
    threads = [threading.Thread(target=lambda: results.append(lib.call_back(function_that_ends, 1))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [0] * 5, results
    check()
    print("done")
    """)


def test_interrupts():
    """A signal that arrives within callbacks is handled by Python code, there or behind them."""
    run("""
    import signal
    seen = []
    signal.signal(signal.SIGALRM, lambda *args: seen.append(1))
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    lib.call_back_many.restype = c_int64
    stop = time.monotonic() + 0.5
    while time.monotonic() < stop:
        assert lib.call_back_many(function, 1000) == 500500
        assert held.call_back_many(function, 10) == 55
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert len(seen) > 5, seen
    print("done")
    """)


def test_uninstalling_while_callbacks_run():
    """The hook may be taken out, and put back, within a callback."""
    run("""
    def toggling(x):
        hotcall.uninstall()
        result = held.call_back(function, x)
        hotcall.install()
        return result + held.call_back(function, x)
    toggle = Unary(toggling)
    for call in (lib.call_back, held.call_back):
        assert [call(toggle, number) for number in range(10)] == [2 * number + 2 for number in range(10)]
    check()
    hotcall.uninstall()
    check()
    print("done")
    """)


def test_callbacks_off():
    """The option leaves callbacks to ctypes."""
    finished = python(
        """if True:
        import hotcall
        from ctypes import CFUNCTYPE, c_int
        hotcall.install()
        f = CFUNCTYPE(c_int, c_int)(lambda x: x + 1)
        assert [f(number) for number in range(9)] == list(range(1, 10))
        assert hotcall.stats()["callbacks"] == hotcall.stats()["stub_callbacks"] == 0
        assert hotcall.status().callbacks_off == "switched off by callbacks=off", hotcall.status()
        assert hotcall.explain(f).callback is None
        print("done")
    """,
        setting="threshold=1,count=1,callbacks=off",
    )
    assert finished.stdout == "done\n", finished.stderr
