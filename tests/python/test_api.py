"""The functions of the package: putting the hook in and out, looking at functions, and the options in the environment."""

import ctypes
import re
import sys
from ctypes import CDLL, CFUNCTYPE, c_char_p, c_double, c_int, c_int64, c_longdouble

import _ctypes
import pytest
from conftest import EXPECT_STUBS, LIBRARY, compare, is_active, observe, python, total_calls

import hotcall

COUNTERS = ("stub_calls", "interpreter_calls", "ctypes_calls", "code_bytes", "stubs")
VIEWS = [hotcall.explain, hotcall.trace, hotcall.disassemble]


def hot_function(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    for number in range(20):
        assert function(number) == number + 1
    return function


# Putting the hook in and taking it out.


def what_python_sees():
    """All of the function type that a program can look at."""
    root = _ctypes.CFuncPtr
    kinds = [root, ctypes.CDLL(LIBRARY)._FuncPtr, type(ctypes.pythonapi["Py_IsInitialized"]), CFUNCTYPE(c_int)]
    seen = []
    for kind in kinds:
        seen.append([kind.__name__, kind.__basicsize__, kind.__itemsize__, kind.__dictoffset__, kind.__mro__[-3:]])
        seen.append({name: (type(value).__name__, repr(value)) for name, value in vars(kind).items() if name in vars(root)})
        seen.append(kind.__call__ is root.__call__ or repr(kind.__call__))
    return seen


def flags():
    """The flags of function classes, without the one that says whether a class has been looked at since it was changed."""
    classes = [_ctypes.CFuncPtr, ctypes.CDLL(LIBRARY)._FuncPtr, CFUNCTYPE(c_int, c_int)]
    return [cls.__flags__ & ~(1 << 19) for cls in classes]


def test_install_and_uninstall_are_idempotent():
    assert not is_active()
    for _ in range(3):
        hotcall.install()
        assert is_active()
    for _ in range(3):
        hotcall.uninstall()
        assert not is_active()
    for _ in range(20):
        hotcall.install()
        assert is_active()
        hotcall.uninstall()
        assert not is_active()


def test_installed_restores_what_was():
    with hotcall.installed():
        assert is_active()
    assert not is_active()
    with pytest.raises(ZeroDivisionError):
        with hotcall.installed():
            raise ZeroDivisionError
    assert not is_active()
    hotcall.install()
    with hotcall.installed():
        assert is_active()
        with hotcall.installed():
            assert is_active()
        assert is_active()
    assert is_active()


def test_nothing_is_visible_from_python():
    plain = what_python_sees()
    hotcall.install()
    assert what_python_sees() == plain
    hotcall.uninstall()
    assert what_python_sees() == plain


def test_uninstall_restores_types(lib):
    before = flags()
    wrapper = _ctypes.CFuncPtr.__call__
    hotcall.install()
    hot_function(lib)
    assert _ctypes.CFuncPtr.__call__ is wrapper
    hotcall.uninstall()
    assert flags() == before
    assert _ctypes.CFuncPtr.__call__ is wrapper


def test_hot_functions_work_after_uninstall(lib):
    hotcall.install()
    function = hot_function(lib)
    hotcall.uninstall()
    before = total_calls()
    assert [function(number) for number in range(5)] == [1, 2, 3, 4, 5]
    assert observe(function, "x")[0] == "raised"
    assert total_calls() == before
    hotcall.install()
    assert [function(number) for number in range(5)] == [1, 2, 3, 4, 5]
    assert total_calls() > before


def test_functions_from_before_the_install_are_covered(lib):
    function = lib["add_one"]
    function.argtypes = [c_int]
    function(1)
    before = total_calls()
    hotcall.install()
    for _ in range(10):
        function(1)
    assert total_calls() - before >= 10


def test_classes_made_while_installed_work_after(lib):
    with hotcall.installed():
        kind = CDLL(lib._name)._FuncPtr
        prototype = CFUNCTYPE(c_double, c_double)
        function = kind(("add_one", lib))
        function(1)
    assert function(1) == 2
    assert kind(("add_two", lib))(1) == 3
    assert prototype(("sqrt", CDLL("libm.so.6")))(4.0) == 2.0


def test_function_objects_look_the_same(lib):
    def scenario():
        function = lib["add_one"]
        function.argtypes = [c_int]
        outcomes = []
        for _ in range(4):
            function(1)
            outcomes += [
                function.__name__, bool(function), ctypes.sizeof(function), type(function).__mro__[1:], dir(function),
                sorted(vars(function)), list(function._objects), function.argtypes == [c_int], function.restype,
                hasattr(function, "errcheck"),
                observe(hash, function), function == function, re.sub("0x[0-9a-f]+", "", repr(function)), memoryview(function).format,
                bytes(function) == bytes(lib["add_one"]), callable(function), sys.getsizeof(function),
            ]  # fmt: skip
        return outcomes

    compare(scenario)


def test_importing_auto_installs():
    code = """if True:
        import ctypes, os
        import hotcall.auto
        function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
        print(sum(function(number) for number in range(10)))
        stats = hotcall.stats()
        print(stats["stub_calls"] + stats["interpreter_calls"] + stats["ctypes_calls"] >= 10)
    """
    done = python(code)
    assert (done.returncode, done.stdout.split()) == (0, ["55", "True"]), done.stderr


def test_importing_hotcall_alone_installs_nothing():
    code = """if True:
        import hotcall, ctypes, os
        ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one(1)
        stats = hotcall.stats()
        print(stats["stub_calls"] + stats["interpreter_calls"] + stats["ctypes_calls"])
    """
    done = python(code)
    assert (done.returncode, done.stdout.split()) == (0, ["0"]), done.stderr


# Looking at functions.


def check_stats(stats):
    for name in COUNTERS:
        assert isinstance(stats[name], int) and stats[name] >= 0, name
    assert all(isinstance(name, str) and isinstance(count, int) for name, count in stats["refusals"].items())


def test_stats_count_every_call(lib):
    hotcall.install()
    function = lib["mix_i"]
    function.argtypes = [c_int, c_int64, c_int]
    before = total_calls()
    for _ in range(1000):
        function(1, 2, 3)
    assert total_calls() - before == 1000
    check_stats(hotcall.stats())


def test_stats_can_be_changed_without_effect():
    stats = hotcall.stats()
    stats["stub_calls"] = -1
    stats["refusals"]["made up"] = 5
    check_stats(hotcall.stats())
    assert "made up" not in hotcall.stats()["refusals"]


def test_stats_name_refusals(lib):
    """What is not sure to be the same stays with ctypes, is counted, and has a name."""
    hotcall.install()
    function = lib["record_g"]
    function.argtypes, function.restype = [c_longdouble], c_longdouble
    before = hotcall.stats()
    for _ in range(10):
        function(1.5)
    after = hotcall.stats()
    assert after["ctypes_calls"] - before["ctypes_calls"] == 10
    assert sum(after["refusals"].values()) > sum(before["refusals"].values())


@pytest.mark.stubs
def test_views_of_a_hot_function(lib):
    hotcall.install()
    function = hot_function(lib)
    assert str(hotcall.explain(function))
    assert len(str(hotcall.trace(function)).splitlines()) > 1
    assert len(str(hotcall.disassemble(function)).splitlines()) > 1
    # Traces are compared between runs and versions, so they name objects and hold no address of this process.
    assert not re.search(r"\b0x[0-9a-f]{9,}", str(hotcall.trace(function)))


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
def test_views_of_other_functions(view, lib):
    """Cold, refused, uncallable and megamorphic functions are explained too."""
    hotcall.install()
    cold = lib["add_two"]
    refused = lib["record_g"]
    refused.argtypes, refused.restype = [c_longdouble], c_longdouble
    null = CFUNCTYPE(c_int)()
    mixed = lib["same"]
    for _ in range(40):
        for value in [1, None, b"x", "x", c_int(1), (c_int * 2)(), ctypes.c_void_p(3), ctypes.byref(c_int(1))]:
            mixed(value)
        refused(1.5)
    for function in [cold, refused, null, mixed, ctypes.pythonapi.Py_IsInitialized]:
        assert isinstance(str(view(function)), str)
    hotcall.uninstall()
    assert isinstance(str(view(mixed)), str)


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
@pytest.mark.parametrize("bad", [None, 5, "add_one", len, c_int, c_int(1), CFUNCTYPE(c_int)], ids=repr)
def test_views_of_what_is_no_function(view, bad):
    with pytest.raises(TypeError) as error:
        view(bad)
    assert str(error.value)


@pytest.mark.parametrize("view", [*VIEWS, hotcall.install, hotcall.stats, hotcall.status], ids=lambda view: view.__name__)
def test_wrong_numbers_of_arguments(view):
    with pytest.raises(TypeError):
        view(1, 2, 3)


def test_status_speaks(lib):
    assert str(hotcall.status())
    hotcall.install()
    hot_function(lib)
    assert str(hotcall.status())


@pytest.mark.stubs
def test_explain_follows_the_life_of_a_function(lib):
    hotcall.install()
    function = lib["add_one"]
    function.argtypes = [c_int]
    cold = str(hotcall.explain(function))
    for _ in range(20):
        function(1)
    hot = str(hotcall.explain(function))
    function.errcheck = lambda result, function, args: result
    function.argtypes = [c_char_p]
    changed = str(hotcall.explain(function))
    assert cold != hot != changed


# Options.

CALLS = """if True:
    import ctypes, os
    import hotcall
    hotcall.install()
    function = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"]).add_one
    function.argtypes = [ctypes.c_int]
    assert sum(function(number) for number in range(100)) == 5050
    stats = hotcall.stats()
    print(stats["stub_calls"], stats["interpreter_calls"], stats["ctypes_calls"], stats["stubs"])
    hotcall.status()
"""


def counts(setting, env=None):
    done = python(CALLS, setting=setting, env=env)
    assert done.returncode == 0, done.stderr
    return [int(word) for word in done.stdout.split()]


def test_option_threshold_and_count():
    stub, interpreter, plain, stubs = counts("threshold=1,count=1")
    assert stub + interpreter + plain >= 100
    if EXPECT_STUBS:
        assert stub >= 98 and stubs >= 1


@pytest.mark.parametrize("setting", ["threshold=1,count=1,jit=off", "threshold=1,count=1,memory=deny"])
def test_options_that_forbid_stubs(setting):
    stub, interpreter, _, stubs = counts(setting)
    assert stub == 0 and stubs == 0
    assert interpreter >= 98


def test_code_memory_is_bounded():
    """Far more hot functions than the code memory holds: the bound is kept and every call is right."""
    code = """if True:
        import ctypes, os
        import hotcall.auto
        lib = ctypes.CDLL(os.environ["HOTCALL_FIXTURE"])
        kept = []
        for number in range(3000):
            function = lib["add_one"]
            function.argtypes = [ctypes.c_int]
            kept.append(function)
            assert [function(value) for value in (1, True, ctypes.c_int(5))] == [2, 2, 6]
        assert all(function(number) == number + 1 for number, function in enumerate(kept))
        print(hotcall.stats()["code_bytes"])
    """
    done = python(code, setting="threshold=1,code=64")
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 64 * 1024


@pytest.mark.parametrize("setting", [None, "", ",", " threshold=1 , count=1 ", "count=0", "log=trace,threshold=1", "jit=on"])
def test_settings_that_are_good(setting):
    done = python(CALLS, setting=setting)
    assert done.returncode == 0, done.stderr
    if not setting or "log" not in setting:
        assert done.stderr == ""


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("threshold=many", "threshold"),
        ("threshold=-1", "threshold"),
        ("threshold=99999999999999999999999", "threshold"),
        ("threshold", "threshold"),
        ("count=perhaps", "count"),
        ("jit=maybe", "jit"),
        ("memory=none", "memory"),
        ("speed=9", "speed"),
        ("threshold=1,speed=9,count=1", "speed"),
        ("\u00e9=1", "\u00e9"),
    ],
)
def test_settings_that_are_bad(setting, named):
    """A bad option is named, in an error or in a warning; either way the program is not silently something else."""
    done = python(CALLS, setting=setting, env={"PYTHONUTF8": "1"})
    assert named in done.stderr
    assert "HOTCALL" in done.stderr
    assert "panicked" not in done.stderr
    assert done.returncode in (0, 1)


@pytest.mark.parametrize("setting", ["threshold=0", "thresold=1", "jit", "code=1", "log=loud", "=1"])
def test_what_is_not_an_option_is_an_error(setting):
    done = python("import hotcall", setting=setting)
    assert done.returncode == 1
    assert setting in done.stderr and "expected" in done.stderr and "ValueError" in done.stderr


def test_options_that_are_not_named_keep_their_default():
    show = "from hotcall import _native; print(_native.status()['options'])"
    plain, empty, some = (python(show, setting=setting).stdout for setting in [None, "", "threshold=1, jit=off,log=trace"])
    assert plain == empty != some
    assert "threshold: 100," in plain and "jit: true" in plain and "log: Off" in plain
    changed = plain.replace("threshold: 100,", "threshold: 1,").replace("jit: true", "jit: false")
    assert some == changed.replace("log: Off", "log: Trace")


@pytest.mark.parametrize("setting", ["threshold=1,log=trace", "threshold=1,log=events,memory=deny"])
def test_a_log_that_cannot_be_written_is_lost(setting):
    """Standard error may be a pipe that nobody reads."""
    code = "import os; read, write = os.pipe(); os.close(read); os.dup2(write, 2)\n" + CALLS
    done = python(code, setting=setting)
    assert done.returncode == 0, done


def test_setting_that_is_no_text():
    done = python(CALLS, setting="threshold=\udcff")
    assert done.returncode in (0, 1)
    assert "HOTCALL" in done.stderr and "panicked" not in done.stderr
