"""What the Python tests share: the setting of hotcall, the compiled fixtures, and the comparison with plain ctypes.

hotcall reads its options when it is imported, so the variable is set here, before any test module is. A lane may set it
instead, for example to `threshold=1,count=1,jit=off`; tests about stubs look at `EXPECT_STUBS`.
"""

import os

# All tests together fill more code memory than a program does.
os.environ.setdefault("HOTCALL", "threshold=1,count=1,code=65536")

import ctypes  # noqa: E402
import gc  # noqa: E402
import random  # noqa: E402
import shutil  # noqa: E402
import struct  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402

import pytest  # noqa: E402

import hotcall  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "c-fixtures" / "src" / "pyfix.c"

# Whether this run may make stubs: not where an option or the kernel forbids them.
EXPECT_STUBS = not (
    {"jit=off", "memory=deny"} & set(os.environ["HOTCALL"].split(",")) or os.environ.get("HOTCALL_DENIED")
)
# How long a test that runs for a time runs.
SECONDS = float(os.environ.get("HOTCALL_SECONDS") or (30 if os.environ.get("HOTCALL_LONG") else 1.5))
LONG = bool(os.environ.get("HOTCALL_LONG"))
SEED = int(os.environ.get("HOTCALL_SEED") or random.SystemRandom().randrange(2**32))


def can_call_back():
    """Whether callbacks of ctypes itself work here: libffi needs executable memory for them."""
    try:
        return ctypes.CFUNCTYPE(ctypes.c_int)(lambda: 1)() == 1
    except MemoryError:
        return False


CAN_CALL_BACK = can_call_back()


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_exec: needs executable memory even without hotcall")
    config.addinivalue_line("markers", "stubs: is about stubs, so it needs executable memory and the JIT")


def pytest_report_header(config):
    return f"hotcall: HOTCALL={os.environ['HOTCALL']}, seed HOTCALL_SEED={SEED}"


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("needs_exec") and not CAN_CALL_BACK:
            item.add_marker(pytest.mark.skip(reason="ctypes itself cannot make callbacks here"))
        if item.get_closest_marker("stubs") and not EXPECT_STUBS:
            item.add_marker(pytest.mark.skip(reason="stubs are off in this run"))


def build_fixtures():
    """Compiles the fixtures to a file named after source and compiler, once."""
    folder = Path(os.environ.get("HOTCALL_FIXTURES") or Path(tempfile.gettempdir()) / f"hotcall-fixtures-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "libpyfix.so"
    if not target.exists() or target.stat().st_mtime < SOURCE.stat().st_mtime:
        partial = folder / f"libpyfix.{os.getpid()}.so"
        compiler = os.environ.get("CC") or shutil.which("cc") or "gcc"
        subprocess.run([compiler, "-O1", "-shared", "-fPIC", SOURCE, "-o", partial, "-lpthread"], check=True)
        os.replace(partial, target)
    return str(target)


LIBRARY = build_fixtures()


class Seen(ctypes.Structure):
    """The record `seen` of the fixtures."""

    _fields_ = [
        ("calls", ctypes.c_uint64),
        ("ints", ctypes.c_uint64 * 6),
        ("floats", ctypes.c_uint64 * 8),
        ("slots", ctypes.c_uint64 * 40),
        ("bytes", ctypes.c_ubyte * 64),
        ("size", ctypes.c_int64),
    ]

    def clear(self):
        """Forgets what was recorded, without a foreign call."""
        for name, kind in self._fields_:
            setattr(self, name, kind())


def describe(value):
    """A value in a form that is equal for equal outcomes only: type, bits and contents."""
    kind = type(value).__name__
    if isinstance(value, float):
        return (kind, struct.pack("d", value).hex())
    if isinstance(value, (ctypes._Pointer, ctypes._CFuncPtr)):
        # The object of a pointer is seen through the word it holds.
        return (kind, bytes(value).hex(), value._b_base_, value._objects is None)
    if isinstance(value, (ctypes.Structure, ctypes.Union, ctypes.Array, ctypes._SimpleCData)):
        return (kind, bytes(value).hex(), value._b_base_, value._objects is None)
    if isinstance(value, (tuple, list)):
        return (kind, *map(describe, value))
    if value is None or isinstance(value, (int, str, bytes, bool)):
        return (kind, value)
    return (kind, id(value))


def observe(call, *args, **kwargs):
    """Calls and tells what came of it: the result, or the exception with its text and surroundings."""
    try:
        return ("returned", describe(call(*args, **kwargs)))
    except RecursionError as error:
        return ("raised", type(error).__name__)
    except BaseException as error:
        around = (type(error.__cause__).__name__, type(error.__context__).__name__, error.__suppress_context__)
        return ("raised", type(error).__module__, type(error).__name__, str(error), repr(error.args), around)


def plainly(scenario):
    """Runs a scenario with plain ctypes."""
    hotcall.uninstall()
    return scenario()


def hotly(scenario):
    """Runs a scenario with hotcall installed, and takes it out again."""
    with hotcall.installed():
        return scenario()


def first_difference(plain, hot, path="outcome"):
    """Says where two nested outcomes first differ."""
    if type(plain) is type(hot) and isinstance(plain, (list, tuple)):
        for index, (old, new) in enumerate(zip(plain, hot, strict=False)):
            if old != new:
                return first_difference(old, new, f"{path}[{index}]")
    if isinstance(plain, dict) and isinstance(hot, dict) and plain.keys() == hot.keys():
        for key in plain:
            if plain[key] != hot[key]:
                return first_difference(plain[key], hot[key], f"{path}[{key!r}]")
    return f"{path} differs (HOTCALL_SEED={SEED})\n  plain:   {plain!r:.2000}\n  hotcall: {hot!r:.2000}"


def compare(scenario):
    """Checks that a scenario has the same outcome under plain ctypes and under hotcall.

    A scenario is a function of nothing that makes its own function objects, calls them often enough to become hot, and
    returns all that it saw.
    """
    plain = plainly(scenario)
    hot = hotly(scenario)
    if hot != plain:
        pytest.fail(first_difference(plain, hot), pytrace=False)


def in_threads(count, work):
    """Runs `work` with the numbers from 0 on, each in a thread of its own, and waits for all."""
    threads = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def total_calls():
    """How many calls hotcall has seen, in whichever tier."""
    stats = hotcall.stats()
    return stats["stub_calls"] + stats["interpreter_calls"] + stats["ctypes_calls"]


def is_active():
    """Whether calls go through hotcall now, told by its counters alone."""
    function = ctypes.CDLL(LIBRARY)["add_one"]
    before = total_calls()
    for _ in range(3):
        function(1)
    return total_calls() > before


def address_of(function):
    return ctypes.cast(function, ctypes.c_void_p).value


def retarget(function, address):
    """Points a function object elsewhere through its memory."""
    ctypes.memmove(ctypes.addressof(function), ctypes.byref(ctypes.c_void_p(address)), 8)


def python(code, *, setting="threshold=1,count=1", seconds=60, env=None):
    """Runs code in a fresh interpreter, from which crashes and option errors are best seen."""
    environment = {**os.environ, "HOTCALL_FIXTURE": LIBRARY, **(env or {})}
    environment.pop("HOTCALL", None)
    if setting is not None:
        environment["HOTCALL"] = setting
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code],
        env=environment, capture_output=True, text=True, timeout=seconds,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def start_uninstalled():
    """Every test starts and ends with plain ctypes, and with the usual policy of the GIL."""
    hotcall.uninstall()
    policy = hotcall.status().gil
    yield
    if hotcall.status().gil != policy:
        hotcall.install(gil=policy)
    hotcall.uninstall()


@pytest.fixture
def small_heap():
    """Spares the garbage collector what is there already, in tests that call it hundreds of times."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(params=["plain", "installed"])
def way(request, start_uninstalled):
    """Runs a test with plain ctypes and with hotcall."""
    if request.param == "installed":
        hotcall.install()
    return request.param


@pytest.fixture(scope="session")
def fixture_path():
    return LIBRARY


@pytest.fixture
def lib():
    return ctypes.CDLL(LIBRARY)


@pytest.fixture
def seen(lib):
    return Seen.in_dll(lib, "seen")


@pytest.fixture
def rng(request):
    """Random numbers that differ by test and are repeated by HOTCALL_SEED."""
    seed = f"{SEED}/{request.node.name}"
    print(f"HOTCALL_SEED={SEED} (this test: {seed})")
    return random.Random(seed)
