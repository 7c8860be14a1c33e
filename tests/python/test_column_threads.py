"""Loops over columns beside other threads, signals, forks, and the end of threads and processes."""

import array
import functools
import itertools
import random
import signal
import threading
import time
from ctypes import CFUNCTYPE, c_int

import pytest
from columnkit import COUNT, DOUBLES, cos_of, each
from gilkit import declared, in_process

import hotcall

pytestmark = pytest.mark.usefixtures("way")


@pytest.mark.needs_exec
def test_callbacks_within_a_loop(way, lib):
    """Python code runs within calls of the loop, which has released the GIL."""
    Unary = CFUNCTYPE(c_int, c_int)
    seen = []

    @Unary
    def callback(number):
        seen.append(number)
        return 3 * number

    call = declared(lib, "call_back", Unary, c_int)
    assert hotcall.map(call, itertools.repeat(callback), array.array("i", range(COUNT))) == [3 * i for i in range(COUNT)]
    assert seen == list(range(COUNT))


@pytest.mark.parametrize("gil", ["release", "lend", "hold"])
def test_other_threads_run_during_a_loop(way, lib, gil):
    """During a long loop another thread gets on: at once where the GIL is released, in turns where it is held."""
    work = declared(lib, "work_us", c_int)
    hotcall.options(work, gil=gil)
    hotcall.map(work, array.array("i", [0] * 200))
    started, turns = threading.Event(), []

    def watch():
        started.set()
        while not done.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.0005)

    done = threading.Event()
    thread = threading.Thread(target=watch)
    thread.start()
    started.wait()
    before = time.perf_counter()
    hotcall.map(work, array.array("i", [100] * 3000))
    after = time.perf_counter()
    done.set()
    thread.join()
    during = [turn for turn in turns if before < turn < after]
    # Of 0.3 s, turns of at most 5 ms and a switch each.
    assert len(during) >= 10, (len(during), after - before)


@pytest.mark.parametrize("caller", ["map", "vectorize"])
def test_an_interrupt_ends_a_loop(way, lib, caller):
    """A handler runs while the loop goes on, and what it raises says where the loop was."""
    sleep = declared(lib, "sleep_us", c_int)
    loop = functools.partial(hotcall.map, sleep) if caller == "map" else hotcall.vectorize(sleep)
    loop(array.array("i", [0] * 200))
    numbers = array.array("i", [2000] * 100_000)
    handler = signal.signal(signal.SIGALRM, lambda number, frame: (_ for _ in ()).throw(KeyboardInterrupt))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt) as raised:
            loop(numbers)
    finally:
        signal.signal(signal.SIGALRM, handler)
    (note,) = raised.value.__notes__
    assert 0 < int(note.removeprefix(f"hotcall.{caller}: item ")) < 10_000


def test_threads_loop_beside_each_other(way, lib):
    """The same function and other ones, in one place each."""
    add = declared(lib, "add_one", c_int)
    cos = cos_of(lib)
    wanted = each(cos, DOUBLES)
    failures = []

    def work(seed):
        rng = random.Random(seed)
        for _ in range(200):
            numbers = array.array("i", (rng.randint(-99, 99) for _ in range(50)))
            if hotcall.map(add, numbers) != [number + 1 for number in numbers] or hotcall.map(cos, DOUBLES) != wanted:
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_daemon_thread_in_a_loop_ends_with_the_process():
    in_process(
        """
    sleep = declared("sleep_us", c_int)
    import array
    def work():
        while True:
            hotcall.map(sleep, array.array("i", [500] * 1000))
    threading.Thread(target=work, daemon=True).start()
    time.sleep(0.2)
    print("done")
    """
    )


def test_a_callee_that_ends_its_thread():
    in_process(
        """
    import array
    end = declared("end_thread", c_int, restype=None)
    thread = threading.Thread(target=lambda: hotcall.map(end, array.array("i", range(300))))
    thread.start()
    time.sleep(0.3)
    print("done", flush=True)
    os._exit(0)
    """
    )


def test_a_loop_beside_a_fork():
    in_process(
        """
    import array
    numbers = array.array("i", range(1000))
    assert hotcall.map(add_one, numbers)[0] == 1
    stop = threading.Event()
    def work():
        while not stop.is_set():
            assert hotcall.map(add_one, numbers)[-1] == 1000
    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        child = os.fork()
        if not child:
            os._exit(hotcall.map(add_one, numbers)[-1] != 1000)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()
    print("done")
    """
    )
