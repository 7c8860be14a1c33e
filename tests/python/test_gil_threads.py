"""What each policy of the GIL promises to other Python threads and to foreign code.

Under `release` and `lend` other Python threads and foreign threads get on during a call as they do with plain ctypes; under
`hold` they wait. What could hang runs in a process of its own, with a time limit.
"""

import ctypes
import random
import threading
import time
from ctypes import CDLL, c_int, c_void_p

import pytest
from conftest import SECONDS, SEED
from gilkit import FAIR, POLICIES, Unary, declared, in_process, progress

import hotcall

# The stress is to find what happens seldom.
STRESS = 20 * SECONDS


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
        # New function objects lend until they turn out long. They are of one class, so equal stubs are shared.
        return [
            (declared(lib, "sleep_us", c_int), lambda rng: (rng.choice([0, 0, 0, 20, 300]),), lambda us: us),
            (declared(lib, "work_us", c_int), lambda rng: (rng.choice([0, 0, 10, 100]),), lambda us: us),
            (declared(lib, "sleep_and_call", c_int, Unary, c_int),
             lambda rng: (rng.choice([0, 0, 100]), callback, rng.getrandbits(20)), lambda us, f, x: x + 2),
            (declared(lib, "call_back_in_thread", Unary, c_int),
             lambda rng: (callback, rng.getrandbits(20)), lambda f, x: x + 2),
        ]  # fmt: skip

    def work(number):
        rng = random.Random(f"{SEED}/{number}")
        try:
            while not stop.is_set():
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
