"""Threads, forks, subinterpreters, signals and the end of the process, each with hot functions about.

What could crash or hang runs in an interpreter of its own, so that a failure is one test and not the end of the run.
"""

import random
import signal
import sys
import threading
import time
from ctypes import CDLL, CFUNCTYPE, PyDLL, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_ubyte, c_void_p

import pytest
from conftest import SECONDS, SEED, python

import hotcall

THREADS = 8
Binary = CFUNCTYPE(c_int, c_int)

# What the child processes begin with: hot functions of every common kind, and a check of them.
PRELUDE = """if True:
    import ctypes, os, signal, sys, threading, time
    from ctypes import c_char_p, c_double, c_float, c_int, c_int64, c_ubyte, c_void_p
    import hotcall
    hotcall.install()
    lib = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])

    def make():
        mix_i, mix_d, length = lib["mix_i"], lib["mix_d"], lib["length"]
        mix_i.argtypes, mix_i.restype = [c_int, c_int64, c_ubyte], c_int64
        mix_d.argtypes, mix_d.restype = [c_double, c_float, c_int], c_double
        length.argtypes = [c_char_p]
        return mix_i, mix_d, length

    def check(functions, times=50):
        mix_i, mix_d, length = functions
        for number in range(times):
            assert mix_i(number, number, number % 256) == number * 8 + number % 256
            assert mix_d(number, 0.5, 1) == mix_d(float(number), 0.5, True) == number * 2 + 3.0
            assert length(b"abc") == 3 and length(None) == 99

    hot = make()
    check(hot)
"""


def run(code, **options):
    """Runs code after the prelude in a process of its own, which must print `done` last and end well."""
    lines = code.strip("\n")
    finished = python(PRELUDE + lines, **options)
    assert finished.returncode == 0, (finished.returncode, finished.stdout, finished.stderr)
    assert finished.stdout.split()[-1:] == ["done"], (finished.stdout, finished.stderr)
    return finished


def wrap(value, bits):
    """The value as C's signed integer of that many bits."""
    value &= 2**bits - 1
    return value - 2**bits if value >> (bits - 1) else value


def kinds_of_calls(library):
    """Pairs of a function that makes random arguments and returns (function, arguments, expected result)."""
    mix_i, mix_d, length, wide, twenty, same = (
        library[name] for name in ["mix_i", "mix_d", "length", "wide_length", "mix_20i", "same"]
    )
    mix_i.argtypes, mix_i.restype = [c_int, c_int64, c_ubyte], c_int64
    mix_d.argtypes, mix_d.restype = [c_double, c_float, c_int], c_double
    length.argtypes, length.restype = [c_char_p], c_size_t
    wide.restype = c_size_t
    twenty.argtypes, twenty.restype = [c_int] * 20, c_int64
    same.argtypes, same.restype = [c_void_p], c_void_p

    def integers(rng):
        a, b, c = rng.randint(-(2**70), 2**70), rng.choice([rng.randint(-9, 9), rng.getrandbits(80), True]), rng.getrandbits(10)
        return mix_i, (a, b, c), wrap(wrap(a, 32) * 3 + b * 5 + c % 256, 64)

    def floats(rng):
        a, b, c = rng.choice([rng.randint(0, 99), rng.random(), c_double(3.0)]), rng.randint(0, 99) / 4, rng.randint(-9, 9)
        return mix_d, (a, b, c), getattr(a, "value", a) * 2 + b * 4 + c

    def texts(rng):
        size = rng.randint(0, 40)
        return length, (rng.choice([b"x" * size, c_char_p(b"x" * size)]),), size

    def wides(rng):
        size = rng.randint(0, 40)
        return wide, ("x" * size,), size

    def many(rng):
        args = [rng.randint(-(2**31), 2**31 - 1) for _ in range(20)]
        expected = 0
        for value in args:
            expected = expected * 31 + value
        return twenty, args, wrap(expected, 64)

    def pointers(rng):
        word = rng.getrandbits(48)
        return same, (rng.choice([word, c_void_p(word)]),), word or None

    return [integers, floats, texts, wides, many, pointers]


def in_threads(work, seconds=SECONDS):
    """Runs work(rng, stop) in several threads until the time is over, and reports what they raised."""
    stop = threading.Event()
    errors = []

    def body(number):
        try:
            work(random.Random(f"{SEED}/{number}"), stop)
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=body, args=(number,), daemon=True) for number in range(THREADS)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    hotcall.install()
    try:
        for thread in threads:
            thread.start()
        stop.wait(seconds)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        sys.setswitchinterval(interval)
    assert not any(thread.is_alive() for thread in threads), "threads hang"
    assert not errors, (SEED, errors)


def call_and_check(makers, rng):
    function, args, expected = rng.choice(makers)(rng)
    got = function(*args)
    assert got == expected, (function.__name__, args, got, expected)


@pytest.mark.parametrize("library", [CDLL, PyDLL], ids=["CDLL", "PyDLL"])
def test_threads_on_the_same_functions(library, fixture_path):
    makers = kinds_of_calls(library(fixture_path))

    def work(rng, stop):
        while not stop.is_set():
            call_and_check(makers, rng)

    in_threads(work)


def test_threads_on_functions_of_their_own(fixture_path):
    """Functions become hot and are thrown away in all threads at once."""

    def work(rng, stop):
        while not stop.is_set():
            makers = kinds_of_calls(CDLL(fixture_path))
            for _ in range(30):
                call_and_check(makers, rng)

    in_threads(work)


def test_errno_belongs_to_a_thread(fixture_path):
    library = CDLL(fixture_path, use_errno=True)
    swap = library["swap_errno"]
    swap.argtypes = [c_int]

    def work(rng, stop):
        number = rng.getrandbits(20)
        swap(number)
        while not stop.is_set():
            following = rng.getrandbits(20)
            assert swap(following) == number
            number = following

    in_threads(work, SECONDS / 2)


def test_sleeping_in_c_lets_others_run(lib):
    """A long foreign call does not keep other threads from running, in whatever way the lock is given up."""
    sleep = lib["sleep_ms"]
    sleep.argtypes = [c_int]
    hotcall.install()
    for _ in range(20):
        sleep(0)
    stop = threading.Event()
    progress = []

    def counter():
        while not stop.is_set():
            progress.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=counter)
    thread.start()
    started = time.monotonic()
    sleep(300)
    ended = time.monotonic()
    stop.set()
    thread.join()
    assert sum(started + 0.05 < moment < ended - 0.05 for moment in progress) > 20


def test_two_sleeps_at_once(lib):
    sleep = lib["sleep_ms"]
    sleep.argtypes = [c_int]
    hotcall.install()
    sleep(0)
    threads = [threading.Thread(target=sleep, args=(200,)) for _ in range(8)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 0.8


@pytest.mark.needs_exec
def test_callbacks_from_threads(lib):
    """C calls back from the calling thread and from a new one, while other threads run."""
    here, there = lib["call_back"], lib["call_back_in_thread"]
    for function in [here, there]:
        function.argtypes = [Binary, c_int]
    double = Binary(lambda number: number * 2)

    def work(rng, stop):
        while not stop.is_set():
            number = rng.getrandbits(20)
            assert rng.choice([here, here, here, there])(double, number) == number * 2

    in_threads(work, SECONDS / 2)


@pytest.mark.needs_exec
def test_callbacks_that_raise(lib, monkeypatch):
    """The exception of a callback goes to the hook for such, and the call returns."""
    seen = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: seen.append(report.exc_type))

    @Binary
    def failing(number):
        raise LookupError(number)

    function = lib["call_back"]
    function.argtypes, function.restype = [Binary, c_int], None
    hotcall.install()
    for _ in range(20):
        assert function(failing, 1) is None
    assert seen == [LookupError] * 20


def test_fork():
    """Parent and child of a fork both go on with hot functions and make new ones."""
    run("""
    for turn in range(5):
        child = os.fork()
        if child == 0:
            try:
                check(hot)
                check(make())
                if os.fork() == 0:
                    check(hot), check(make())
                    os._exit(7)
                assert os.waitstatus_to_exitcode(os.wait()[1]) == 7
                os._exit(5)
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
        check(hot)
        check(make())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    print("done")
    """)


def test_fork_while_threads_call():
    """A fork amid calls of other threads leaves a child that can call."""
    run("""
    stop = threading.Event()
    def work():
        while not stop.is_set():
            check(hot, 5)
            check(make(), 5)
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for turn in range(30):
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            check(hot)
            check(make())
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    stop.set()
    for thread in threads:
        thread.join()
    print("done")
    """)


def test_fork_from_within_a_foreign_call():
    """C forks by itself, with no hook of Python's in between."""
    run("""
    fork = ctypes.PyDLL(None)["fork"]
    fork.argtypes = []
    for turn in range(5):
        child = fork()
        if child == 0:
            check(hot)
            check(make())
            os._exit(5)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
        check(hot)
    print("done")
    """)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path, fixture_path):
    script = tmp_path / "pool.py"
    script.write_text(f"""
import ctypes, multiprocessing
import hotcall.auto

lib = ctypes.CDLL({fixture_path!r})
add_one = lib.add_one
add_one.argtypes = [ctypes.c_int]

def work(number):
    for _ in range(100):
        assert add_one(number) == number + 1
    return add_one(number)

if __name__ == "__main__":
    work(1)
    context = multiprocessing.get_context({method!r})
    shared = context.Value("i", 5)
    with context.Pool(2) as pool:
        assert pool.map(work, range(20)) == list(range(1, 21))
    assert shared.value == 5
    print("done")
""")
    run(f"    import runpy; runpy.run_path({str(script)!r}, run_name='__main__')" if method == "fork" else f"""
    import subprocess
    subprocess.run([sys.executable, {str(script)!r}], check=True, timeout=50)
    """)  # fmt: skip


def test_subinterpreters():
    """A subinterpreter either gets hotcall or an ImportError; its ctypes works in any case, and so does ours."""
    run("""
    code = '''
    try:
        import hotcall.auto
    except ImportError:
        pass
    try:
        import ctypes
    except ImportError:
        pass
    else:
        for number in range(100):
            function = ctypes.CDLL(%r).add_one
            assert function(number) == number + 1
            assert function(number) == number + 1
    ''' % os.environ["HOTCALL_FIXTURE"]
    import textwrap
    code = textwrap.dedent(code)
    for turn in range(3):
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        for options in [(), ("legacy",)] if sys.version_info >= (3, 13) else [()]:
            child = interpreters.create(*options)
            failed = (getattr(interpreters, "exec", None) or interpreters.run_string)(child, code)
            assert failed is None, failed
            check(hot)
            interpreters.destroy(child)
            check(hot)
            check(make())
    print("done")
    """)


@pytest.mark.parametrize("turn", range(3))
def test_daemon_threads_at_exit(turn):
    """The process ends while threads call, sleep in C and make functions hot."""
    run("""
    def work():
        while True:
            check(hot, 5)
            check(make(), 5)
    def sleep():
        function = lib["sleep_ms"]
        function.argtypes = [c_int]
        while True:
            function(1)
    for target in [work, work, sleep, sleep]:
        threading.Thread(target=target, daemon=True).start()
    time.sleep(0.2)
    print("done", flush=True)
    """)


@pytest.mark.parametrize("setting", ["threshold=1", "threshold=1,jit=off", "threshold=1000"])
def test_a_thread_that_comes_back_after_finalisation(setting):
    """CPython ends a daemon thread that asks for the GIL too late, by unwinding it, whichever tier it is in."""
    done = python(
        """if True:
        import hotcall.auto, ctypes, os, sys, threading, time
        sleep = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])["sleep_ms"]
        sleep.argtypes = [ctypes.c_int]
        for _ in range(3):
            sleep(0)
        thread = threading.Thread(target=sleep, args=(200,), daemon=True)
        thread.start()
        time.sleep(0.05)
        class Late:
            def __del__(self, sleep=time.sleep):
                sleep(0.5)
        sys.late = Late()
        """,
        setting=setting,
    )
    assert (done.returncode, done.stderr) == (0, ""), done


def test_calls_at_exit():
    """Functions are called by exit handlers and finalisers, to the very end."""
    run("""
    import atexit
    class Late:
        def __init__(self, functions):
            self.functions = functions
        def __del__(self, check=check):
            check(self.functions, 3)
    late, later = Late(hot), Late(make())
    late.self = late
    sys.late = later
    atexit.register(check, make())
    atexit.register(hotcall.uninstall)
    atexit.register(check, hot)
    print("done", flush=True)
    """)


def test_interrupt_during_a_loop_of_calls():
    """A signal handler runs between calls, and what it raises comes out of the loop."""
    run("""
    for turn in range(5):
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            while True:
                check(hot, 1)
        except KeyboardInterrupt:
            pass
        else:
            assert False
        check(hot)
        check(make())
    print("done")
    """)


def test_signal_during_a_sleep(lib):
    """A signal interrupts the system call in C; the handler runs when the call returns."""
    sleep = lib["sleep_ms"]
    sleep.argtypes = [c_int]
    hotcall.install()
    sleep(0)
    seen = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: seen.append(time.monotonic()))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        assert sleep(2000) == 2000
        assert len(seen) == 1
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        function = lib["add_one"]
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            assert function(41) == 42
        assert len(seen) > 20
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_profilers_and_tracers_see_the_same(lib):
    """sys.setprofile gets no events for foreign calls, hot or not."""
    function = lib["add_one"]
    function.argtypes = [c_int]

    def events():
        seen = []
        for install in [sys.setprofile, sys.settrace]:
            install(lambda frame, event, arg: seen.append((event, frame.f_code.co_name)))
            try:
                for number in [1, 2, 3]:
                    function(number)
            finally:
                install(None)
        return [entry for entry in seen if entry[0] != "line"]

    plain = events()
    hotcall.install()
    for _ in range(5):
        function(1)
    assert events() == plain
