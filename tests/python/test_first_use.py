"""The first use of hotcall leaves nothing behind that a program could see, and an interrupt of it decides nothing."""

import json
import sys

import pytest
from conftest import python

# What a program sees of ctypes that ctypes itself keeps for all, as text; `{}` is what comes before.
SEEN = """if True:
    {}
    import ctypes, gc, json, pickle, sys
    simple = [kind for kind in vars(ctypes).values() if isinstance(kind, type) and issubclass(kind, ctypes._SimpleCData)]
    simple = sorted(set(simple) - {{ctypes._SimpleCData}}, key=lambda kind: kind.__name__)
    bases = [ctypes._SimpleCData, ctypes._Pointer, ctypes.Array, ctypes.Structure, ctypes.Union, ctypes._CFuncPtr]
    bases += [type(base) for base in bases] + simple
    below = {{str(base): sorted(map(repr, type.__subclasses__(base))) for base in bases}}
    # From 3.14 on the first is empty, and each type knows its own.
    pointers = sorted(map(str, getattr(ctypes._pointer_type_cache, 'items', tuple)()))
    pointers += [str(vars(type(kind)).get("__pointer_type__") and getattr(kind, "__pointer_type__", None)) for kind in simple]
    functions = sorted(map(str, ctypes._c_functype_cache))
    made = []
    for kind in simple:
        made += [ctypes.POINTER(kind), ctypes.CFUNCTYPE(kind), ctypes.CFUNCTYPE(kind, kind, use_errno=True)]
        made += [kind * length for length in (1, 2, 3, 5, 8)]
    made += [ctypes.CFUNCTYPE(None), ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_double)]
    LP_c_int, c_int_Array_3 = ctypes.POINTER(ctypes.c_int), ctypes.c_int * 3
    # From 3.14 on pointers say that they are of the module ctypes, which does not have them.
    for kind in (LP_c_int, c_int_Array_3) if sys.version_info < (3, 14) else (c_int_Array_3,):
        assert pickle.loads(pickle.dumps(kind)) is kind
    names = [f"{{kind!r}} {{kind.__module__}} {{kind.__qualname__}}" for kind in made]
    print(json.dumps([below, pointers, functions, names]))
"""

USES = {
    "install": "import hotcall; hotcall.install()",
    "auto": "import ctypes, hotcall.auto",
    "status": "import hotcall; hotcall.status()",
    "reports": "import hotcall.auto; hotcall.stats(); hotcall.explain(__import__('ctypes').pythonapi.Py_IsInitialized)",
    "twice": "import hotcall.auto; hotcall.uninstall(); hotcall.install()",
}


def output(code):
    """What code prints in a process of its own."""
    finished = python(code, seconds=20)
    assert finished.returncode == 0 and not finished.stderr, finished.stderr
    return finished.stdout


@pytest.mark.parametrize("use", USES)
def test_classes_of_ctypes(use):
    """What ctypes makes on demand is the program's own, and no class derives from ctypes' own but the program's."""
    plain, with_hotcall = (json.loads(output(SEEN.format(code))) for code in ("import gc", USES[use]))
    for of_plain, seen in zip(plain, with_hotcall, strict=True):
        assert seen == of_plain


@pytest.mark.parametrize("use", USES)
def test_modules(use):
    """Modules that are new are the standard library's or hotcall's."""
    code = f"import sys; before = set(sys.modules); {USES[use]}; print(*(set(sys.modules) - before))"
    new = {name.partition(".")[0] for name in output(code).split()}
    assert new <= sys.stdlib_module_names | {"hotcall"}


@pytest.mark.parametrize("order", ["import hotcall.auto, models", "import models, hotcall.auto"])
def test_modules_of_the_program(order, tmp_path):
    """A module of the program may be named as hotcall pleases."""
    (tmp_path / "models.py").write_text("X = 5\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {order}; print(models.X, models.__file__, len(dir(models)))"
    x, file, names = output(code).split()
    assert (x, file) == ("5", str(tmp_path / "models.py"))
    assert int(names) <= 10, "names that are not the module's"


@pytest.mark.needs_exec
@pytest.mark.parametrize("exception", ["KeyboardInterrupt", "SystemExit", "MemoryError", "RecursionError", "GeneratorExit"])
def test_interrupts(exception):
    """An exception that is the program's comes out of the first use wherever it is raised, and the next one starts."""
    code = f"""if True:
    import ctypes, hotcall, hotcall._facts, os, sys
    left = -1
    def hook(event, arguments):
        global left
        # CPython itself reports what is raised in this one.
        if left >= 0 and event != "sys.unraisablehook":
            left -= 1
            if left < 0:
                raise {exception}("now")
    sys.addaudithook(hook)
    def child(turn):
        global left
        use = [hotcall.install, hotcall.status, hotcall.stats][turn % 3]
        left = turn
        try:
            use()
        except {exception}:
            pass
        else:
            assert left >= 0, (turn, left)
            return 7
        status = hotcall.status()
        assert status.off is None and not status.installed, status
        hotcall.install()
        status = hotcall.status()
        assert status.installed and status.data and not status.callbacks_off, status
        return 5
    for turn in range(1000):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = child(turn)
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (5, 7), (turn, status)
        if status == 7:
            break
    assert turn >= 2, turn
    """
    output(code)


@pytest.mark.needs_exec
def test_interrupts_by_signals():
    """Wherever a handler runs, its exception comes out: CPython looks for signals when it makes texts, too."""
    code = """if True:
    import ctypes, gc, hotcall, hotcall._facts, os, signal, traceback
    def child(delay):
        ran, came = [], False
        def handler(number, frame):
            ran.append(number)
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, handler)
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            hotcall.install()
            while not ran:
                pass
        except KeyboardInterrupt:
            came = True
        hotcall.install()
        status = hotcall.status()
        assert status.installed and status.data and not status.callbacks_off, status
        return 0 if came else 3
    lost = 0
    for turn in range(1, 120):
        pid = os.fork()
        if not pid:
            status = 1
            try:
                status = child(turn * 3e-5)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert status in (0, 3), turn
        lost += status == 3
    # CPython itself may give up what a handler raises, for example within a destructor.
    assert lost <= 1, lost
    """
    output(code)


def test_exceptions_are_described_without_code_of_theirs():
    """hotcall stays off, and says why; what a class says of its exceptions' arguments is not asked."""
    code = """if True:
    import sys
    class Odd(Exception):
        @property
        def args(self):
            print("asked")
            raise KeyboardInterrupt
    class Finder:
        def find_spec(self, name, path=None, target=None):
            if name == "ctypes" or name == "_ctypes":
                raise Odd("text")
    import hotcall
    for name in [name for name in sys.modules if "ctypes" in name]:
        del sys.modules[name]
    sys.meta_path.insert(0, Finder())
    hotcall.install()
    print(hotcall.status().off)
    """
    done = python(code)
    assert (done.stdout, done.stderr, done.returncode) == ("Odd: text\n", "", 0)
