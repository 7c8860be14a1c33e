"""`hotcall.bind(f)`: whatever is done to it, or to `f`, a call of it is a call of `f`.

Every outcome is compared with that of the ctypes function itself, with and without hotcall.
"""

import copy
import ctypes
import gc
import pickle
import sys
import threading
import types
import weakref
from ctypes import CFUNCTYPE, PYFUNCTYPE, byref, c_byte, c_char_p, c_int, c_int64, c_ubyte, c_void_p, py_object

import pytest
from conftest import SECONDS, observe, python

import hotcall

pytestmark = pytest.mark.usefixtures("way")

TIMES = 20
ARGUMENTS = [
    (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), (1.5, 2, 3), ("x", 2, 3), (1, 2**40, 300), (2**70, 1, 1), (None, 1, 1),
    (c_int(5), c_int64(6), c_ubyte(7)), (True, -1, -1), (1, 2, b"x"), (b"x", byref(c_int(1)), []),
]  # fmt: skip
KEYWORDS = [{}, {"a": 1}, {"b": 2, "c": 3}, {"": 0}]
DECLARATIONS = {
    "all": ([c_int, c_int64, c_ubyte], c_int64),
    "other": ([c_byte, c_byte, c_byte], c_ubyte),
    "one": ([c_int], None),
    "none": ([], c_void_p),
    "undeclared": (None, c_int),
    "object": ([py_object], c_int),
    "callable result": ([c_int, c_int64, c_ubyte], hex),
}


def both(function, bound, *args, **kwargs):
    """Calls both many times, so that one is hot, and a call site is specialised for the other."""
    for _ in range(TIMES):
        wanted = observe(function, *args, **kwargs)
        assert observe(bound, *args, **kwargs) == wanted
    return wanted


@pytest.mark.parametrize("loader", [ctypes.CDLL, ctypes.PyDLL])
@pytest.mark.parametrize("when", [None, *DECLARATIONS])
@pytest.mark.parametrize("name", DECLARATIONS)
def test_outcomes_are_those_of_the_function(name, when, loader, fixture_path):
    """Results, and errors with their texts, for every number and type of arguments, with keywords and without.

    What was declared when the function was bound makes no difference.
    """
    library = loader(fixture_path)
    function = library["record_i"]
    c_int64.in_dll(library, "answer_i").value = -0x123456789
    if when:
        function.argtypes, function.restype = DECLARATIONS[when]
    bound = hotcall.bind(function)
    function.argtypes, function.restype = DECLARATIONS[name]
    outcomes = set()
    for args in ARGUMENTS:
        for kwargs in KEYWORDS:
            outcomes.add(both(function, bound, *args, **kwargs)[0])
    assert outcomes == {"raised", "returned"}


def site(text):
    """A function with one call of `f` in it, as often as it takes to specialise the call, and in C as well."""
    scope = {}
    exec(f"def run(f, x):\n    for _ in range(20):\n        result = {text}\n    return result", scope)
    return scope["run"]


@pytest.mark.parametrize("argtypes", [[c_int], [], [c_int, c_int], None])
@pytest.mark.parametrize(
    "text", ["f(x)", "f()", "f(x, x)", "f(a=x)", "f(x, a=x)", "f(*[x])", "f(**{'a': x})", "list(map(f, [x, x]))", "max([x], key=f)"]
)
def test_call_sites(text, argtypes, lib):
    """However a call is written, and by whatever path CPython makes it, it is that of the function."""
    function = lib["add_one"]
    # With nothing declared it may be called with nothing, and gives anything.
    function.argtypes, function.restype = argtypes, c_int if argtypes else None
    bound = hotcall.bind(function)
    for x in (5, -1, True, 2**40, 1.5, None, b"x", c_int(7), object):
        assert observe(site(text), bound, x) == observe(site(text), function, x)


@pytest.mark.parametrize("argtypes", [[c_int], None])
def test_references_are_counted_as_for_the_function(argtypes, lib):
    function = lib["add_one"]
    function.argtypes = argtypes
    bound, argument = hotcall.bind(function), c_int(5)
    call = site("f(x)")
    call(bound, argument)
    before = [sys.getrefcount(each) for each in (function, bound, argument)]
    for _ in range(100):
        call(bound, argument)
        observe(bound, argument, argument, a=1)
    assert [sys.getrefcount(each) for each in (function, bound, argument)] == before


def test_it_follows_the_declaration(lib):
    """Each change shows in the next call, though the call site is specialised by then."""
    function = lib["record_i"]
    bound = hotcall.bind(function)
    c_int64.in_dll(lib, "answer_i").value = -0x123456789
    outcomes = []
    for _ in range(3):
        for argtypes, restype in DECLARATIONS.values():
            function.argtypes, function.restype = argtypes, restype
            outcomes.append(both(function, bound, 1, 2**40 + 7, 300))
        function.errcheck = lambda result, function, args: ("checked", result, args)
        outcomes.append(both(function, bound, 5, 6, 7))
        assert outcomes[-1][1][1] == ("str", "checked")
        del function.errcheck
    assert len(set(map(str, outcomes))) > 4


def test_parameter_flags_and_keywords(fixture_path):
    prototype = CFUNCTYPE(c_int64, c_int, c_int64, c_ubyte)
    function = prototype(("mix_i", ctypes.CDLL(fixture_path)), ((1, "a"), (1, "b", 5), (1, "c", 7)))
    bound = hotcall.bind(function)
    for args in ARGUMENTS:
        for kwargs in KEYWORDS:
            both(function, bound, *args, **kwargs)
    assert bound(1, c=2, b=3) == function(1, 3, 2) == 3 + 15 + 2


def test_it_is_a_builtin_function(lib):
    function = lib["add_one"]
    function.__doc__ = "Adds one.\0Or more."
    bound = hotcall.bind(function)
    assert type(bound) is types.BuiltinFunctionType
    assert bound.__self__ is function
    assert (bound.__name__, bound.__doc__, bound.__module__) == ("add_one", "Adds one.Or more.", None)
    assert bound == hotcall.bind(function)
    assert hash(bound) == hash(hotcall.bind(function))
    assert bound != hotcall.bind(lib["add_one"])
    assert copy.copy(bound) is bound
    nameless = hotcall.bind(CFUNCTYPE(c_int)(0))
    assert nameless.__name__ == "CFunctionType"


def test_it_cannot_be_pickled_as_the_function_cannot(lib):
    function = lib["add_one"]
    bound = hotcall.bind(function)
    assert observe(pickle.dumps, bound)[:4] == observe(pickle.dumps, function)[:4]


def test_what_is_no_function():
    for other in (len, lambda: None, None, c_int, 5, ctypes.CDLL(None).abs.__reduce__, ctypes.CDLL(None)["abs"].__call__):
        with pytest.raises(TypeError, match=f"hotcall.bind: expected a ctypes function, not {type(other).__name__}"):
            hotcall.bind(other)


def test_what_takes_a_function_takes_a_bound_one_for_it(lib, way):
    function = lib["add_two"]
    function.argtypes = [c_int]
    bound = hotcall.bind(function)
    assert hotcall.bind(bound) == bound
    assert hotcall.bind(bound).__self__ is function
    null = hotcall.bind(CFUNCTYPE(c_int)(0))
    assert hotcall.bind(null).__self__ is null.__self__
    assert hotcall.map(bound, range(TIMES)) == list(range(2, TIMES + 2))
    assert list(hotcall.vectorize(bound)(range(3))) == [2, 3, 4]
    hotcall.options(bound, gil="hold")
    assert [bound(value) for value in range(TIMES)] == list(range(2, TIMES + 2))
    assert hotcall.explain(bound) == hotcall.explain(function)
    assert hotcall.trace(bound) == hotcall.trace(function)
    assert hotcall.disassemble(bound) == hotcall.disassemble(function)
    if way == "installed":
        assert hotcall.explain(bound).gil.startswith("hold")


def test_its_hash_stays_as_it_is(lib):
    """Whatever becomes of the function: CPython makes it of the address that is called."""
    function = lib["add_one"]
    bound = hotcall.bind(function)
    known = {bound: "found"}
    for argtypes in ([c_int], [c_int64], None):
        function.argtypes = argtypes
        for value in range(TIMES):
            assert bound(value) == value + 1
            assert known[bound] == "found"
        assert hotcall.bind(function) == hotcall.bind(function)


def test_the_next_function_at_an_address(fixture_path):
    """It has nothing of the one before, though it may have its place."""
    for number in range(50):
        library = ctypes.CDLL(fixture_path)
        function = library["add_one" if number % 2 else "add_two"]
        function.argtypes = [c_int]
        bound = hotcall.bind(function)
        assert [bound(value) for value in range(TIMES)] == [value + 2 - number % 2 for value in range(TIMES)]
        del library, function, bound


def test_it_keeps_the_function_alive(fixture_path):
    function = ctypes.CDLL(fixture_path)["add_one"]
    bound = hotcall.bind(function)
    gone = weakref.ref(function)
    for _ in range(TIMES):
        bound(1)
    del function
    gc.collect()
    assert gone() is not None and bound(41) == 42
    # A cycle is found.
    gone().cycle = bound
    del bound
    gc.collect()
    assert gone() is None


def test_classes_with_a_call_of_their_own(lib):
    """A `__call__` is heeded, also one that the class gets later, or the object by another class."""

    class Plain(type(lib.add_one)):
        _restype_, _flags_ = c_int, lib.add_one._flags_

    class Calling(Plain):
        _flags_ = Plain._flags_

        def __call__(self, *args, **kwargs):
            return ("own", args, sorted(kwargs), super().__call__(*args))

    functions = [kind(("add_one", lib)) for kind in (Plain, Plain, Calling)]
    bounds = [hotcall.bind(function) for function in functions]

    def tell():
        return [both(function, bound, 4) for function, bound in zip(functions, bounds, strict=True)]

    before = tell()
    Plain.__call__ = lambda self, *args: ("later", args)
    after = tell()
    assert before != after
    del Plain.__call__
    assert tell() == before
    if sys.version_info >= (3, 12):
        # ctypes allows this from then on.
        functions[0].__class__ = Calling
        assert tell()[0] == before[2]


@pytest.mark.needs_exec
def test_calls_within_calls(lib):
    """A callback calls the bound function that called it, changes its declaration, and drops it."""
    call_back = lib["call_back"]
    bound = hotcall.bind(call_back)

    @CFUNCTYPE(c_int, c_int)
    def inner(depth):
        if depth == 3:
            call_back.argtypes = [type(inner), c_ubyte]
        return bound(inner, depth - 1) + 1 if depth else 0

    call_back.argtypes = [type(inner), c_int]
    for _ in range(TIMES):
        assert bound(inner, 6) == 6
    holder = [hotcall.bind(lib["call_back"])]

    @CFUNCTYPE(c_int, c_int)
    def dropping(value):
        holder.clear()
        gc.collect()
        return value

    assert holder[0](dropping, 9) == 9
    assert not holder


@pytest.mark.needs_exec
def test_exceptions(fixture_path):
    function = PYFUNCTYPE(c_int, c_int)(lambda value: 1 // value)
    library = ctypes.PyDLL(fixture_path)
    raising = library["add_one"]
    raising.argtypes = [type("Raising", (), {"from_param": lambda value: 1 // value})]
    for callee in (function, raising):
        bound = hotcall.bind(callee)
        both(callee, bound, 1)
    assert both(raising, hotcall.bind(raising), 0)[1:3] == ("ctypes", "ArgumentError")


def test_install_and_uninstall_at_any_time(lib):
    function = lib["mix_i"]
    function.argtypes, function.restype = DECLARATIONS["all"]
    bound = hotcall.bind(function)
    for step in range(50):
        hotcall.install()
        assert [bound(step, 2, 3) for _ in range(5)] == [3 * step + 13] * 5
        hotcall.uninstall()
        assert bound(step, 2, 3) == 3 * step + 13


def test_it_is_counted_and_explained(lib, way):
    """Its calls are those of the function: the same site, the same stub."""
    function = lib["add_two"]
    function.argtypes = [c_int]
    bound = hotcall.bind(function)
    before = hotcall.stats()
    for value in range(TIMES):
        assert bound(value) == value + 2
    after = hotcall.stats()
    made = after["stub_calls"] + after["interpreter_calls"] - before["stub_calls"] - before["interpreter_calls"]
    assert made == (TIMES if way == "installed" else 0)


def test_threads(lib, way):
    """Threads call while another one changes the declaration, to one that gives the same results."""
    function = lib["add_one"]
    function.argtypes = [c_int]
    bound, wrong, stop = hotcall.bind(function), [], threading.Event()

    def work():
        value = 0
        while not stop.is_set():
            value = (value + 1) % 1000
            if bound(value) != value + 1:
                wrong.append(value)

    def change():
        while not stop.is_set():
            function.argtypes = [c_int]
            function.restype = c_int
            function.argtypes = None

    threads = [threading.Thread(target=target) for target in (work, work, work, change)]
    for thread in threads:
        thread.start()
    stop.wait(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong


def test_profilers_see_it(lib):
    """A profile function sees calls of built-in functions, and the result is the same."""
    bound, seen = hotcall.bind(lib["add_one"]), []
    sys.setprofile(lambda frame, event, arg: seen.append((event, getattr(arg, "__name__", None))))
    try:
        results = [bound(1), bound(2)]
    finally:
        sys.setprofile(None)
    assert results == [2, 3]
    assert seen.count(("c_call", "add_one")) == seen.count(("c_return", "add_one")) == 2


def test_without_the_native_half(lib, monkeypatch):
    """Where there is none, it is a Python function that looks the same."""
    function = lib["length"]
    function.argtypes = [c_char_p]
    native = hotcall.bind(function)
    nameless = CFUNCTYPE(c_int)(ctypes.cast(lib["add_one"], c_void_p).value)
    of_nameless = hotcall.bind(nameless)
    monkeypatch.setattr(hotcall._api, "_native", None)
    bound = hotcall.bind(function)
    assert bound(b"hello") == 5
    assert bound.__self__ is function
    assert (bound.__name__, bound.__doc__) == (native.__name__, native.__doc__)
    assert hotcall.bind(nameless).__name__ == of_nameless.__name__
    both(function, bound, 1.5)
    with pytest.raises(TypeError, match="expected a ctypes function, not int"):
        hotcall.bind(5)


def test_many_names_share_what_they_can(lib):
    """Binding again and again needs memory for each look once."""
    function = lib["add_one"]
    tracked = {ctypes.c_uint64.from_address(id(hotcall.bind(function)) + 16).value for _ in range(100)}
    assert len(tracked) == 1


def test_many_functions_leave_code_memory_for_stubs():
    """What is bound takes some of it, for good, up to a number."""
    code = """if True:
    import ctypes, hotcall
    from ctypes import CFUNCTYPE, c_long
    hotcall.install()
    labs = ctypes.CDLL(None).labs
    address = ctypes.cast(labs, ctypes.c_void_p).value
    functions = [CFUNCTYPE(c_long, c_long, c_long)(address) for _ in range(5000)]
    bound = [hotcall.bind(function) for function in functions]
    assert all(function(-number, 0) == number for number, function in enumerate(bound))
    assert hotcall.stats()["trampolines"] == (0 if hotcall.status().stubs_off else 4096)
    print("done")
    """
    done = python(code)
    assert (done.stdout, done.stderr) == ("done\n", "")
