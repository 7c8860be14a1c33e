"""Forks, subinterpreters, interrupts and the end of the process, each with hot functions about.

What could crash or hang runs in an interpreter of its own, so that a failure is one test and not the end of the run.
"""

import sys

import pytest
from conftest import python

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


def test_subinterpreters_that_come_and_go():
    """Classes of interpreters that have ended, at whose addresses others have theirs, and their instances."""
    done = python("""if True:
        import hotcall.auto
        try:
            import _interpreters as interpreters
        except ImportError:
            import _xxsubinterpreters as interpreters
        code = '''if True:
            try:
                from ctypes import Structure, c_long, pointer
            except ImportError:
                pass
            else:
                class Point(Structure):
                    _fields_ = [("x", c_long)]
                p = pointer(Point())
                for _ in range(10):
                    for _ in range(100):
                        p.contents
                    kept = [p.contents for _ in range(40)]
                    del kept
        '''
        for turn in range(30):
            child = interpreters.create()
            failed = (getattr(interpreters, "exec", None) or interpreters.run_string)(child, code)
            assert failed is None, failed
            interpreters.destroy(child)
        print("done")
    """)  # fmt: skip
    assert done.stdout.split() == ["done"], done.stderr


@pytest.mark.needs_exec
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="ctypes of a subinterpreter has classes of its own, if it can be imported")
@pytest.mark.parametrize("policy", ["release", "lend"])
def test_callbacks_in_a_subinterpreter(policy):
    """A callback acts for the state that CPython keeps for the thread, which is not the one that calls."""
    run(
        f"""
    import _xxsubinterpreters as interpreters
    import textwrap
    hotcall.install(gil={policy!r})
    code = '''
    from ctypes import CDLL, CFUNCTYPE, c_int
    lib = CDLL(%r)
    Unary = CFUNCTYPE(c_int, c_int)
    add_one, call_back = lib.add_one, lib.call_back
    add_one.argtypes, call_back.argtypes = [c_int], [Unary, c_int]
    function = Unary(lambda number: add_one(number) * 2)
    for number in range(150):
        assert add_one(number) == number + 1
        assert call_back(function, number) == 2 * number + 2
    ''' % os.environ["HOTCALL_FIXTURE"]
    for turn in range(3):
        child = interpreters.create()
        interpreters.run_string(child, textwrap.dedent(code))
        check(hot)
        interpreters.destroy(child)
    print("done")
    """,
        seconds=20,
    )


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


@pytest.mark.parametrize("way", ["sleep.argtypes = [ctypes.c_int]", "sleep.argtypes = [Converting]", "wrap = Holder"])
@pytest.mark.parametrize("setting", ["threshold=1", "threshold=1,jit=off", "threshold=1000"])
def test_a_thread_that_comes_back_after_finalisation(setting, way):
    """CPython ends a daemon thread that asks for the GIL too late, by unwinding it, whichever tier it is in."""
    done = python(
        f"""if True:
        import hotcall.auto, ctypes, os, sys, threading, time
        sleep = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])["sleep_ms"]
        class Converting:
            @classmethod
            def from_param(cls, value):
                return ctypes.c_int(value)
        class Holder:
            def __init__(self, value):
                self._as_parameter_ = value
        wrap = lambda value: value
        {way}
        for _ in range(3):
            sleep(wrap(0))
        thread = threading.Thread(target=sleep, args=(wrap(200),), daemon=True)
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
    # A shell that starts jobs in the background has them ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
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
