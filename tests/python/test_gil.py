"""The GIL during foreign calls: what each policy promises to other threads, to foreign code, and to the caller.

Under `release` and `lend` other Python threads and foreign threads get on during a call as they do with plain ctypes; under
`hold` they wait. What could hang runs in a process of its own, with a time limit.
"""

import ctypes
import os
import random
import sys
import threading
import time
from ctypes import CDLL, CFUNCTYPE, POINTER, byref, c_int, c_void_p

import pytest
from conftest import EXPECT_STUBS, SECONDS, SEED, python

import hotcall

Unary = CFUNCTYPE(c_int, c_int)
POLICIES = ["release", "lend", "hold"]
# Those that keep the promise of ctypes.
FAIR = ["release", "lend"]
# The stress is to find what happens seldom.
STRESS = 20 * SECONDS
CAN_LEND = hotcall.status().lending_off is None


@pytest.fixture(autouse=True)
def usual_policy():
    """Tests that choose a policy leave the usual one behind."""
    yield
    hotcall.install(gil="lend")
    hotcall.uninstall()


def declared(library, name, *argtypes, restype=c_int):
    function = library[name]
    function.argtypes, function.restype = argtypes, restype
    return function


def progress(call, seconds):
    """How far a counting thread gets per second while `call` is made again and again."""
    count, stop = 0, threading.Event()

    def work():
        nonlocal count
        while not stop.is_set():
            count += 1

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not count:
            time.sleep(0.001)
        before, started = count, time.perf_counter()
        while time.perf_counter() - started < seconds:
            call()
        return (count - before) / (time.perf_counter() - started)
    finally:
        stop.set()
        thread.join()


def in_process(code, **options):
    """Runs code in a process of its own, which must print `done` last and end well."""
    prelude = """if True:
    import ctypes, os, signal, sys, threading, time
    from ctypes import *
    import hotcall
    hotcall.install()
    lib = CDLL(os.environ["HOTCALL_FIXTURE"])
    Unary = CFUNCTYPE(c_int, c_int)
    def declared(name, *argtypes, restype=c_int):
        function = lib[name]
        function.argtypes, function.restype = argtypes, restype
        return function
    add_one, sleep_us = declared("add_one", c_int), declared("sleep_us", c_int)
    def heat():
        assert [add_one(number) for number in range(200)] == list(range(1, 201))
    def tasks():
        return len(os.listdir("/proc/self/task"))
    heat()
"""
    finished = python(prelude + code.strip("\n"), **options)
    assert finished.returncode == 0, (finished.returncode, finished.stdout, finished.stderr)
    assert finished.stdout.split()[-1:] == ["done"], (finished.stdout, finished.stderr)
    return finished


class TestChoosing:
    def test_process(self, lib):
        for policy in POLICIES:
            hotcall.install(gil=policy)
            assert hotcall.status().gil == policy
            function = declared(lib, "add_one", c_int)
            assert [function(number) for number in range(5)] == [1, 2, 3, 4, 5]
            assert hotcall.explain(function).gil == (policy if CAN_LEND or policy != "lend" else "release")

    def test_existing_functions_follow(self, lib):
        function = declared(lib, "add_one", c_int)
        for policy in [*POLICIES, *POLICIES]:
            hotcall.install(gil=policy)
            assert [function(number) for number in range(5)] == [1, 2, 3, 4, 5]
            assert hotcall.explain(function).gil == (policy if CAN_LEND or policy != "lend" else "release")

    @pytest.mark.stubs
    def test_function(self, lib):
        hotcall.install(gil="release")
        function, other = declared(lib, "add_one", c_int), declared(lib, "add_two", c_int)
        hotcall.options(function, gil="hold")
        for _ in range(2):
            assert [function(1) + other(1) for _ in range(5)] == [5] * 5
            assert (hotcall.explain(function).gil, hotcall.explain(other).gil) == ("hold", "release")
            assert "save_thread" not in hotcall.trace(function)
            assert "save_thread" in hotcall.trace(other)
            # The choice outlives a declaration.
            function.argtypes = [ctypes.c_int32]
        hotcall.options(function)
        function(1), function(1)
        assert hotcall.explain(function).gil == "release"

    def test_choice_dies_with_its_function(self, fixture_path):
        hotcall.install(gil="release")
        for _ in range(50):
            function = declared(CDLL(fixture_path), "add_one", c_int)
            hotcall.options(function, gil="hold")
            hotcall.uninstall()
            del function
            hotcall.install()
            function = declared(CDLL(fixture_path), "add_one", c_int)
            function(1), function(1)
            assert hotcall.explain(function).gil == "release"

    def test_python_api_holds(self, fixture_path):
        hotcall.install(gil="release")
        function = declared(ctypes.PyDLL(fixture_path), "add_one", c_int)
        function(1), function(1)
        assert hotcall.explain(function).gil == "hold"

    def test_environment(self):
        for policy in POLICIES:
            code = "import hotcall; hotcall.install(); print(hotcall.status().gil, 'GIL: ' in str(hotcall.status()))"
            assert python(code, setting=f"gil={policy}").stdout.split() == [policy, "True"]
        assert "gil=release, gil=lend or gil=hold" in python("import hotcall", setting="gil=keep").stderr

    def test_bad_arguments(self, lib):
        for call in [lambda: hotcall.install(gil="keep"), lambda: hotcall.options(lib["add_one"], gil="keep")]:
            with pytest.raises(ValueError, match="'keep' is no policy of the GIL; expected 'release', 'lend' or 'hold'"):
                call()
        with pytest.raises(TypeError, match="hotcall.options: expected a ctypes function, not builtin_function_or_method"):
            hotcall.options(len, gil="hold")

    def test_stats_count(self):
        assert {"thefts", "yields", "demotions"} <= hotcall.stats().keys()


class TestOthers:
    """What other Python threads get, by policy."""

    @pytest.mark.parametrize("policy", FAIR)
    def test_progress_during_a_blocking_call(self, lib, policy):
        """At least 80 % of what they get with plain ctypes, in the best of some rounds: the machine may be busy."""
        function = declared(lib, "sleep_ms", c_int)
        ratios = []
        for _ in range(6):
            hotcall.uninstall()
            plain = progress(lambda: function(100), 0.3)
            hotcall.install(gil=policy)
            function(0), function(0)
            ratios.append(progress(lambda: function(100), 0.3) / plain)
            if ratios[-1] > 0.8:
                return
        pytest.fail(f"other threads get {ratios} of what they get with plain ctypes")

    @pytest.mark.parametrize("policy", FAIR)
    def test_progress_beside_short_calls(self, lib, policy):
        """A thread that makes short calls leaves others at least what plain ctypes leaves them, but for noise."""
        function = declared(lib, "add_one", c_int)

        def calls():
            for _ in range(100):
                function(1)

        ratios = []
        for _ in range(6):
            hotcall.uninstall()
            plain = progress(calls, 0.3)
            hotcall.install(gil=policy)
            calls()
            ratios.append(progress(calls, 0.3) / plain)
            if ratios[-1] > 0.8:
                return
        pytest.fail(f"other threads get {ratios} of what they get with plain ctypes")

    @pytest.mark.parametrize("policy", FAIR)
    def test_callee_waits_for_another_thread(self, policy):
        """A callee that waits for a Python thread does not keep it from running."""
        in_process(
            f"""
    hotcall.install(gil="{policy}")
    wait_for = declared("wait_for", POINTER(c_int))
    flag = c_int(1)
    for _ in range(200):
        wait_for(flag)
    for turn in range(20):
        flag.value = 0
        def set():
            sum(range(1000))
            flag.value = 7
        thread = threading.Thread(target=set)
        thread.start()
        assert wait_for(flag) == 7
        thread.join()
    print("done")
    """
        )

    def test_many_threads_wait_in_callees(self):
        """Each of several threads is in a call that lasts, and all get on."""
        in_process(
            """
    wait_for = declared("wait_for", POINTER(c_int))
    flags = [c_int(0) for _ in range(8)]
    results = []
    def work(index):
        heat()
        results.append(wait_for(flags[index]))
    threads = [threading.Thread(target=work, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.1)
    heat()
    for index in [3, 1, 4, 0, 5, 7, 2, 6]:
        flags[index].value = index + 1
        threads[index].join()
        heat()
    assert results == [4, 2, 5, 1, 6, 8, 3, 7], results
    print("done")
    """
        )


@pytest.mark.needs_exec
class TestForeignCode:
    """What foreign code sees that asks for the GIL during a call."""

    @pytest.mark.parametrize("policy", POLICIES)
    def test_callback_of_the_callee(self, lib, policy):
        """Works under every policy, under `hold` too."""
        hotcall.install(gil=policy)
        function = declared(lib, "sleep_and_call", c_int, Unary, c_int)
        add_one = declared(lib, "add_one", c_int)
        callback = Unary(lambda number: add_one(number) * 2)
        for number in range(30):
            assert function(0, callback, number) == 2 * number + 2
            assert add_one(number) == number + 1
        assert function(1000, callback, 7) == 16

    @pytest.mark.parametrize("policy", FAIR)
    def test_callback_of_a_foreign_thread(self, lib, policy):
        hotcall.install(gil=policy)
        function = declared(lib, "call_back_in_thread", Unary, c_int)
        seen = []

        def note(number):
            seen.append(threading.get_ident())
            return number + 1

        callback = Unary(note)
        for number in range(30):
            assert function(callback, number) == number + 1
        assert len(seen) == 30 and threading.get_ident() not in seen

    @pytest.mark.parametrize("policy", [None, *POLICIES])
    def test_check_in_the_callee(self, lib, policy):
        """`PyGILState_Check` in a callee says what it says under plain ctypes, and 1 where the GIL is held."""
        if policy:
            hotcall.install(gil=policy)
        function = declared(lib, "ask", c_void_p)
        check = ctypes.cast(ctypes.pythonapi.PyGILState_Check, c_void_p)
        assert {function(check) for _ in range(10)} == {int(policy == "hold")}

    def test_nested(self, lib):
        """Calls within callbacks within calls, each of which may lend."""
        hotcall.install(gil="lend")
        function = declared(lib, "sleep_and_call", c_int, Unary, c_int)
        add_one = declared(lib, "add_one", c_int)

        def deeper(number):
            add_one(number)
            result = function(random.choice([0, 0, 300]), callback, number - 1) if number else 0
            return add_one(result)

        callback = Unary(deeper)
        for _ in range(10):
            assert function(0, callback, 12) == 13

    def test_generators_switch_inside(self, lib):
        """Callbacks whose generators go on in another callback: calls do not end in the order in which they began."""
        hotcall.install(gil="lend")
        function = declared(lib, "sleep_and_call", c_int, Unary, c_int)
        add_one = declared(lib, "add_one", c_int)

        def steps():
            total = 0
            while True:
                total = add_one(total)
                yield total

        generator = steps()
        inner = Unary(lambda number: next(generator))
        outer = Unary(lambda number: function(0, inner, 0) + next(generator))
        assert [function(0, outer, 0) for _ in range(20)] == [4 * turn + 3 for turn in range(20)]


class TestLending:
    """What is particular to lending."""

    pytestmark = pytest.mark.skipif(not CAN_LEND, reason="the GIL cannot be lent here")

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
        for _ in range(20):
            function(3000)
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

    def test_no_wake_ups_when_idle(self):
        in_process(
            """
    def switches():
        def of(task):
            status = open(f"/proc/self/task/{task}/status").read()
            return sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
        return {task: of(task) for task in os.listdir("/proc/self/task") if int(task) != os.getpid()}
    heat()
    assert tasks() == 2
    time.sleep(0.3)
    before = switches()
    time.sleep(0.5)
    assert switches() == before
    heat()
    assert tasks() == 2
    print("done")
    """
        )

    def test_monitor_is_cheap(self):
        """Beside a thread that calls all the time, the monitor takes less than a hundredth of a core."""
        in_process(
            """
    def times():
        tasks = [task for task in os.listdir("/proc/self/task") if int(task) != os.getpid()]
        return sum(int(open(f"/proc/self/task/{task}/schedstat").read().split()[0]) for task in tasks)
    best = 1.0
    for _ in range(5):
        before, started = times(), time.perf_counter()
        while time.perf_counter() - started < 1:
            heat()
        best = min(best, (times() - before) / 1e9 / (time.perf_counter() - started))
        if best < 0.01:
            break
    assert best < 0.01, best
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


class TestProcesses:
    """Forks, the end of threads, and the end of the process, while the GIL is lent."""

    def test_fork_warns_of_no_thread(self):
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

    def test_fork_in_a_callee(self):
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

    def test_fork_in_a_callback(self):
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

    def test_subprocesses(self):
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
    def test_daemon_threads_in_calls_at_exit(self, ending):
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

    def test_callee_that_never_returns(self):
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

    def test_callee_that_ends_its_thread(self):
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


@pytest.mark.needs_exec
@pytest.mark.parametrize("policy", FAIR)
def test_stress(fixture_path, policy):
    """Threads with random calls, short, long and calling back, from here and from foreign threads; none may hang."""
    hotcall.install(gil=policy)
    lib = CDLL(fixture_path)
    stop, errors, calls = threading.Event(), [], [0] * 8
    callback = Unary(lambda number: add_one(number) + 1)
    add_one = declared(lib, "add_one", c_int)

    def functions():
        own = CDLL(fixture_path)
        return [
            (declared(own, "sleep_us", c_int), lambda rng: (rng.choice([0, 0, 0, 20, 300]),), lambda us: us),
            (declared(own, "work_us", c_int), lambda rng: (rng.choice([0, 0, 10, 100]),), lambda us: us),
            (declared(own, "sleep_and_call", c_int, Unary, c_int),
             lambda rng: (rng.choice([0, 0, 100]), callback, rng.getrandbits(20)), lambda us, f, x: x + 2),
            (declared(own, "call_back_in_thread", Unary, c_int),
             lambda rng: (callback, rng.getrandbits(20)), lambda f, x: x + 2),
        ]  # fmt: skip

    def work(number):
        rng = random.Random(f"{SEED}/{number}")
        try:
            while not stop.is_set():
                # New functions lend until they turn out long.
                for function, arguments, expected in functions():
                    for _ in range(rng.choice([1, 5, 50])):
                        args = arguments(rng)
                        got = function(*args)
                        assert got == expected(*args), (args, got)
                        for _ in range(rng.choice([1, 10, 100])):
                            assert add_one(41) == 42
                    calls[number] += 1
        except BaseException as error:
            errors.append(repr(error))

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    # The watchdog: every thread gets on within ten seconds.
    end = time.monotonic() + (STRESS if policy == "lend" else SECONDS)
    seen, since = list(calls), [time.monotonic()] * 8
    while time.monotonic() < end and not errors:
        time.sleep(0.2)
        for number, count in enumerate(calls):
            if count != seen[number]:
                seen[number], since[number] = count, time.monotonic()
        assert max(time.monotonic() - moment for moment in since) < 10, f"HOTCALL_SEED={SEED}: a thread hangs, {calls}"
    stop.set()
    for thread in threads:
        thread.join(20)
    assert not errors, (SEED, errors)
    assert not any(thread.is_alive() for thread in threads), f"HOTCALL_SEED={SEED}: threads hang"
