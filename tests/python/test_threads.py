"""Threads, callbacks, signals and tracers in one process, each with hot functions about.

Threads call with random arguments and check each result against one that is worked out in Python.
"""

import ctypes
import random
import signal
import sys
import threading
import time
from ctypes import CDLL, CFUNCTYPE, PyDLL, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_ubyte, c_void_p

import pytest
from conftest import SECONDS, SEED

import hotcall

THREADS = 8
Binary = CFUNCTYPE(c_int, c_int)


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


@pytest.mark.needs_exec
def test_errno_of_threads_that_come_and_go(fixture_path):
    """Each thread that C makes has a thread state for one callback, at the address of the last one more often than not; its
    private errno is its own all the same, and begins at 0."""
    library = CDLL(fixture_path, use_errno=True)
    swap = library["swap_errno"]
    swap.argtypes = [c_int]
    call = CDLL(fixture_path)["call_back_in_thread"]
    seen = []

    @CFUNCTYPE(c_int, c_int)
    def callback(number):
        seen.append([swap(number), swap(-number), ctypes.get_errno(), ctypes.set_errno(3), swap(1)])
        return 0

    with hotcall.installed():
        for number in range(1, 400):
            call(callback, number)
            ctypes.set_errno(55)
            assert [swap(66), swap(77)] == [55, 66]
    assert seen == [[0, number, -number, -number, 3] for number in range(1, 400)]
