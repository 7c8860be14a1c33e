"""`hotcall.map`: one call after the other, whatever way they are made.

The oracle is a list comprehension over the ctypes function itself.
"""

import _ctypes
import array
import ctypes
import itertools
import math
import random
import struct
from ctypes import (
    CDLL, PyDLL, byref, c_bool, c_byte, c_char_p, c_double, c_float, c_int, c_int64, c_long, c_short,
    c_size_t, c_ubyte, c_uint, c_ulong, c_ushort, c_void_p, c_wchar_p, py_object,
)  # fmt: skip

import pytest
from columnkit import COUNT, DOUBLES, cos_of, each, expect_loops, loops
from conftest import LONG, SEED, Seen, describe, observe, python, total_calls
from gilkit import declared

import hotcall

pytestmark = pytest.mark.usefixtures("way")

NUMBERS = [c_byte, c_ubyte, c_short, c_ushort, c_int, c_uint, c_long, c_ulong, c_float, c_double]
CODES = "bBhHiIlLqQfd"
RANGES = {code: struct.calcsize(code) * 8 for code in CODES}


def numbers(rng, code):
    """An array of numbers, extreme ones among them."""
    bits = RANGES[code]
    if code in "fd":
        extreme = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-320, 1e300 if code == "d" else 1e38]
        values = [rng.choice(extreme) if rng.random() < 0.3 else rng.uniform(-1e6, 1e6) for _ in range(COUNT)]
    else:
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if code.islower() else (0, 2**bits - 1)
        small = rng.random() < 0.7
        values = [
            rng.choice([low, high, 0]) if not small and rng.random() < 0.4 else rng.randint(max(low, -99), min(high, 99))
            for _ in range(COUNT)
        ]
    return array.array(code, values)


def column(rng):
    """Some column, and its items as an iterable for the oracle."""
    kind = rng.random()
    code = rng.choice(CODES)
    values = numbers(rng, code)
    if kind < 0.4:
        return values, values
    if kind < 0.5:
        twice = array.array(code, itertools.chain.from_iterable(zip(values, values, strict=True)))
        return memoryview(twice)[::2], values
    if kind < 0.6:
        return memoryview(values)[::-1], values[::-1]
    if kind < 0.7:
        made = (rng.choice(NUMBERS) * COUNT)(*range(COUNT))
        return made, list(made)
    if kind < 0.75:
        truths = bytes(rng.choice([0, 1]) for _ in range(COUNT))
        return memoryview(truths).cast("?"), [bool(truth) for truth in truths]
    if kind < 0.9:
        mixed = [rng.choice([1, -5, 2**40, 2**70, True, 1.5, -0.0, c_int(3), c_double(2.5), None, b"x", "y"]) for _ in range(COUNT)]
        items = mixed if rng.random() < 0.5 else list(values)
        return rng.choice([list, tuple])(items), items
    value = rng.choice([1, 2.5, True, 2**70, c_int(7)])
    return itertools.repeat(value), itertools.repeat(value)


def places(rng):
    """Two equal places for results, or none."""
    kind = rng.random()
    if kind < 0.3:
        return None, None
    if kind < 0.8:
        code = rng.choice(CODES)
        return array.array(code, bytes(COUNT * RANGES[code] // 8)), array.array(code, bytes(COUNT * RANGES[code] // 8))
    if kind < 0.9:
        item = rng.choice(NUMBERS)
        return (item * COUNT)(), (item * COUNT)()
    return [None] * COUNT, [None] * COUNT


def contents(out):
    """What lies in a place for results."""
    return describe(list(out)) if isinstance(out, list) else bytes(out)


def outcome(call, *columns, out):
    """What came of it; the note is for `map` alone, and `out` has what there was up to the error."""
    observed = observe(call, *columns, out=out)
    if observed[0] == "returned":
        return ("returned", contents(out) if out is not None else observed[1])
    return observed


def test_random_columns_give_what_single_calls_give(way, fixture_path):
    """Random signatures, columns and places: equal results, equal errors, equal bits."""
    rng = random.Random(SEED)
    seen = set()
    for _ in range(2000 if LONG else 400):
        kind = rng.choice([*NUMBERS, c_bool, c_void_p, None])
        argtypes = [rng.choice([*NUMBERS, c_bool, c_void_p]) for _ in range(rng.randint(1, 9))]
        library = CDLL(fixture_path, use_errno=rng.random() < 0.2)
        function = library["record_f" if kind in (c_double, c_float) else "record_i"]
        function.argtypes, function.restype = argtypes, kind
        answer = rng.choice([0, 1, 2**64 - 1, 0x8000_0000_0000_0080, rng.getrandbits(64)])
        c_int64.in_dll(library, "answer_i").value = answer
        c_int64.in_dll(library, "answer_f").value = answer
        pairs = [column(rng) for _ in argtypes]
        ours, theirs = places(rng)
        if all(isinstance(ours, itertools.repeat) for ours, _ in pairs):
            continue
        wanted = outcome(each, function, *(items for _, items in pairs), out=theirs)
        words = received(library, argtypes)
        got = outcome(hotcall.map, function, *(given for given, _ in pairs), out=ours)
        trace = f"HOTCALL_SEED={SEED} {argtypes} {kind} {pairs} {ours}"
        assert got == wanted, trace
        assert received(library, argtypes) == words, trace
        seen.add((wanted[0], loops(function) if way == "installed" else 0))
    assert {tier for _, tier in seen} == ({0, 1} if way == "installed" and hotcall.status().stubs_off is None else {0})
    assert {what for what, _ in seen} == {"returned", "raised"}


def received(library, argtypes):
    """What the last call was given, as bits."""
    seen, words = Seen.in_dll(library, "seen"), []
    ints, floats, slots = map(iter, (seen.ints, seen.floats, seen.slots))
    for kind in argtypes:
        registers = floats if kind in (c_float, c_double) else ints
        word = next(registers, None)
        word = next(slots) if word is None else word
        words.append(word & (2 ** (8 * ctypes.sizeof(kind)) - 1))
    return words


def test_each_item_reaches_its_call(way, lib):
    """Functions of several arguments, whose results depend on all of them."""
    mix_i = declared(lib, "mix_i", c_int, c_int64, c_ubyte, restype=c_int64)
    mix_d = declared(lib, "mix_d", c_double, c_float, c_int, restype=c_double)
    whole = array.array("i", range(-20, 20))
    large = array.array("q", (3**index for index in range(COUNT)))
    small = bytes(range(100, 140))
    assert hotcall.map(mix_i, whole, large, small) == each(mix_i, whole, large, small)
    assert hotcall.map(mix_d, DOUBLES, array.array("f", DOUBLES), whole) == each(mix_d, DOUBLES, array.array("f", DOUBLES), whole)
    assert hotcall.map(mix_d, whole, itertools.repeat(0.5), whole) == each(mix_d, whole, itertools.repeat(0.5), whole)
    for function, count in ((mix_i, 1), (mix_d, 2)):
        expect_loops(function, way, count)
    many = declared(lib, "mix_20i", *[c_int] * 20, restype=c_int64)
    columns = [array.array("i", [index * place for index in range(COUNT)]) for place in range(20)]
    out = array.array("q", [0]) * COUNT
    assert hotcall.map(many, *columns, out=out) is out
    assert list(out) == each(many, *columns)
    expect_loops(many, way, 1)


def test_objects_that_are_one_word(way, lib):
    """Bytes, references and None are passed by their address; what may change is read at its call."""
    length = declared(lib, "length", c_char_p, restype=c_size_t)
    texts = [b"", b"one", None, b"three" * 5] * 10
    assert hotcall.map(length, texts) == each(length, texts)
    expect_loops(length, way, 1)
    longs = [c_long(index) for index in range(COUNT)]
    read = declared(lib, "read_long", ctypes.POINTER(c_long), restype=c_int64)
    assert hotcall.map(read, [byref(long) for long in longs]) == list(range(COUNT))
    assert hotcall.map(read, longs) == list(range(COUNT))
    add = declared(lib, "add_one", c_int)
    numbers = [c_int(index) for index in range(COUNT)]
    assert hotcall.map(add, numbers) == list(range(1, COUNT + 1))
    expect_loops(add, way, 0)
    wide = declared(lib, "wide_length", c_wchar_p, restype=c_size_t)
    assert hotcall.map(wide, ["", "one", None]) == [0, 3, 99]


def test_results_that_are_no_numbers(way, lib):
    """Objects are made at each call, also of memory that the next call overwrites."""
    same = declared(lib, "same", c_char_p, restype=c_char_p)
    assert hotcall.map(same, [b"a", b"bc", None] * 20) == [b"a", b"bc", None] * 20
    same = declared(lib, "same", c_void_p, restype=c_void_p)
    assert hotcall.map(same, [0, 5, 2**64 - 1] * 20) == [None, 5, 2**64 - 1] * 20
    expect_loops(same, way, 1)
    listed = ctypes.pythonapi.PySequence_List
    listed.argtypes, listed.restype = [py_object], py_object
    assert hotcall.map(listed, ["ab", (), b"c"]) == [["a", "b"], [], [99]]
    nothing = declared(lib, "add_one", c_int, restype=None)
    assert hotcall.map(nothing, range(COUNT)) == [None] * COUNT
    checked = declared(lib, "add_one", c_int)
    checked.errcheck = lambda result, function, args: (result, args)
    assert hotcall.map(checked, [1, 2]) == [(2, (1,)), (3, (2,))]
    del checked.errcheck
    checked.restype = lambda result: hex(result)
    assert hotcall.map(checked, [1, 2]) == ["0x2", "0x3"]


def test_a_call_of_the_class_makes_each_call(way, lib):
    """A class of functions that has a `__call__` from the beginning, and one that is given one."""

    def function_of(members):
        declared = {"_flags_": _ctypes.FUNCFLAG_CDECL, "_argtypes_": [c_int], "_restype_": c_int}
        return type("Function", (_ctypes.CFuncPtr,), declared | members)(("add_one", lib))

    def doubled(self, value):
        return 2 * _ctypes.CFuncPtr.__call__(self, value)

    numbers = array.array("i", range(COUNT))
    early, late = function_of({"__call__": doubled}), function_of({})
    assert hotcall.map(late, numbers) == list(range(1, COUNT + 1))
    expect_loops(late, way, 1)
    type(late).__call__ = doubled
    for function in (early, late):
        assert hotcall.map(function, numbers) == each(function, numbers) == list(range(2, 2 * COUNT + 2, 2))
        assert list(hotcall.vectorize(function)(numbers)) == each(function, numbers)
    expect_loops(early, way, 0)


def test_undeclared_functions(way, lib):
    function = lib["add_one"]
    assert hotcall.map(function, [1, 2, 3]) == [2, 3, 4]
    assert hotcall.map(function, array.array("i", range(COUNT))) == list(range(1, COUNT + 1))


def test_errors_say_which_item(way, lib):
    """What was done before stays done; the exception is that of the call, with a note."""
    add = declared(lib, "add_one", c_int)
    out = array.array("i", [0]) * 5
    with pytest.raises(ctypes.ArgumentError) as raised:
        hotcall.map(add, [1, 2, "x", 4, 5], out=out)
    assert raised.value.__notes__ == ["hotcall.map: item 2"]
    assert str(raised.value) == str(observe_error(add, "x"))
    assert list(out) == [2, 3, 0, 0, 0]
    with pytest.raises(OverflowError) as raised:
        hotcall.map(add, range(300), out=array.array("b", bytes(300)))
    assert raised.value.__notes__ == ["hotcall.map: item 127"]
    with pytest.raises(TypeError) as raised:
        hotcall.map(add, range(5), out=memoryview(bytes(5)))
    assert raised.value.__notes__ == ["hotcall.map: item 0"]
    # An exception that takes no note is the same without one.
    class Silent(Exception):
        __notes__ = ()

    class Loud(Exception):
        def add_note(self, note):
            raise RuntimeError(note)

    def fail(result, function, args):
        raise kind

    add.errcheck = fail
    for kind in (Silent, Loud):
        with pytest.raises(kind):
            hotcall.map(add, [1, 2])


def observe_error(function, *args):
    try:
        function(*args)
    except BaseException as error:
        return error


def test_bad_arguments(way, lib):
    add = declared(lib, "add_one", c_int)
    for given, error, text in [
        ((add,), TypeError, "at least one column"),
        ((add, [1], [1, 2]), ValueError, "different lengths, 1, 2"),
        ((add, itertools.repeat(1)), ValueError, "without end"),
        ((add, 5), TypeError, "not iterable"),
        ((len, [1]), TypeError, "expected a ctypes function, not builtin_function_or_method"),
    ]:
        with pytest.raises(error, match=text):
            hotcall.map(*given)
    with pytest.raises(ValueError, match="out has 2 items, the columns have 3"):
        hotcall.map(add, [1, 2, 3], out=[0, 0])
    for bad, kind in [(5, "int"), ((0, 0, 0), "tuple"), (bytes(3), "bytes"), ({1}, "set"), (list, "type")]:
        with pytest.raises(TypeError, match=f"^hotcall.map: out must be a mutable sequence, not {kind}$"):
            hotcall.map(add, [1, 2, 3], out=bad)
    with pytest.raises(TypeError, match="expected a ctypes function"):
        hotcall.vectorize(len)


def test_empty_columns_and_finite_repeats(way, lib):
    add = declared(lib, "add_one", c_int)
    out = array.array("i")
    assert hotcall.map(add, []) == hotcall.map(add, array.array("i")) == []
    assert hotcall.map(add, [], out=out) is out
    assert hotcall.map(add, itertools.repeat(4, 3)) == [5, 5, 5]
    assert hotcall.map(add, (number for number in range(3))) == [1, 2, 3]


def test_results_over_their_own_column(way, lib):
    """In place, and shifted by one item: columns are read before results are written over them."""
    add = declared(lib, "add_one", c_int)
    numbers = array.array("i", range(COUNT))
    hotcall.map(add, numbers, out=numbers)
    assert list(numbers) == list(range(1, COUNT + 1))
    expect_loops(add, way, 1)
    hotcall.map(add, memoryview(numbers)[:-1], out=memoryview(numbers)[1:])
    assert list(numbers) == [1, *range(2, COUNT + 1)]
    expect_loops(add, way, 1)


def test_it_follows_the_declaration(way, lib):
    function = declared(lib, "mix_d", c_double, c_float, c_int, restype=c_double)
    columns = [DOUBLES, DOUBLES, range(COUNT)]
    assert hotcall.map(function, *columns) == each(function, *columns)
    function.restype = c_int
    assert hotcall.map(function, *columns) == each(function, *columns)
    function.argtypes = [c_double]
    with pytest.raises(ctypes.ArgumentError):
        hotcall.map(function, DOUBLES, DOUBLES, range(COUNT))
    expect_loops(function, way, 0)


def test_errno_is_that_of_the_program(way, fixture_path):
    """Each call finds the private errno of the one before it."""
    library = CDLL(fixture_path, use_errno=True)
    swap = declared(library, "swap_errno", c_int)
    ctypes.set_errno(77)
    assert hotcall.map(swap, array.array("i", range(COUNT))) == [77, *range(COUNT - 1)]
    assert ctypes.get_errno() == COUNT - 1
    expect_loops(swap, way, 1)


def test_what_explain_says_of_loops(way, lib):
    cos = cos_of(lib)
    out = array.array("d", bytes(8 * COUNT))
    hotcall.map(cos, array.array("f", DOUBLES), out=out)
    explanation = hotcall.explain(cos)
    if way == "plain" or hotcall.status().stubs_off:
        assert explanation.loops == ()
        return
    (loop,) = explanation.loops
    assert loop.guards == ("column[0]: f32, 4 bytes apart", "results: f64, 8 bytes apart")
    assert f"loop 1, {loop.code_bytes} bytes of code, over\n    column[0]: f32" in str(explanation)
    assert "promote" in loop.trace and loop.trace in hotcall.trace(cos)
    assert "call" in loop.disassembly and loop.disassembly in hotcall.disassemble(cos)


def test_functions_that_hold_the_gil_and_report_errors(way):
    """`PyDLL` functions are called one by one: each may leave an exception."""
    function = ctypes.pythonapi.PyLong_AsLong
    function.argtypes, function.restype = [py_object], c_long
    assert hotcall.map(function, [1, 2]) == [1, 2]
    with pytest.raises(TypeError) as raised:
        hotcall.map(function, [1, "x"])
    assert raised.value.__notes__ == ["hotcall.map: item 1"]
    cos = cos_of(None, PyDLL)
    assert hotcall.map(cos, DOUBLES) == [math.cos(x) for x in DOUBLES]
    expect_loops(cos, way, 0)


def test_calls_of_loops_are_counted(way, lib):
    """Where calls are counted, those of a loop are too; elsewhere no figure moves."""
    add = declared(lib, "add_one", c_int)
    numbers = array.array("i", range(COUNT))
    hotcall.map(add, numbers)
    before = total_calls()
    hotcall.map(add, numbers)
    assert total_calls() - before == (COUNT if way == "installed" and hotcall.stats()["counting"] else 0)


def test_results_that_there_is_no_memory_for(way):
    """A loop that needs more than there is ends with MemoryError, and not the process."""
    finished = python(
        """if True:
        import array, ctypes, resource, hotcall
        hotcall.install()
        function = ctypes.CDLL(None).labs
        function.argtypes, function.restype = [ctypes.c_long], ctypes.c_long
        numbers = array.array("l", [5]) * 20_000_000
        size = int(open("/proc/self/statm").read().split()[0]) * 4096
        resource.setrlimit(resource.RLIMIT_AS, (size + (16 << 20), -1))
        try:
            print(len(hotcall.map(function, numbers)))
        except MemoryError as error:
            print("MemoryError")
        """
    )
    assert (finished.returncode, finished.stdout) == (0, "MemoryError\n"), finished.stderr
