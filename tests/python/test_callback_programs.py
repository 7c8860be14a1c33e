"""Examples: programs over real C libraries that call back, compared with plain ctypes.

qsort and bsearch of the C library, SQLite, expat, and libclang where its wheel is installed.
"""

import ctypes
import ctypes.util
from ctypes import (
    CDLL, CFUNCTYPE, POINTER, PYFUNCTYPE, PyDLL, Structure, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p, cast,
    py_object, sizeof, string_at,
)  # fmt: skip

import pytest
from conftest import EXPECT_STUBS, compare

import hotcall

pytestmark = pytest.mark.needs_exec

Compare = CFUNCTYPE(c_int, POINTER(c_int), POINTER(c_int))


class Entry(Structure):
    _fields_ = [("key", c_int), ("value", c_double)]


def sort_and_search(library, numbers):
    """Sorts with qsort, then finds each number with bsearch, and with lfind-like callbacks on structures."""
    libc = library(None)
    libc.bsearch.restype = POINTER(c_int)
    calls = []

    @Compare
    def ascending(a, b):
        calls.append(a[0])
        return a[0] - b[0]

    @CFUNCTYPE(c_int, POINTER(Entry), POINTER(Entry))
    def by_value(a, b):
        a, b = a.contents, b.contents
        return (a.value > b.value) - (a.value < b.value)

    array = (c_int * len(numbers))(*numbers)
    libc.qsort(array, len(array), sizeof(c_int), ascending)
    assert list(array) == sorted(numbers)
    entries = (Entry * len(numbers))(*[(number, -number / 2) for number in numbers])
    libc.qsort(entries, len(entries), sizeof(Entry), by_value)
    found = []
    for number in [*numbers[:20], 10**9]:
        pointer = libc.bsearch(byref(c_int(number)), array, c_size_t(len(array)), c_size_t(4), ascending)
        found.append(pointer[0] if pointer else None)
    return list(array), [entry.key for entry in entries], found, calls


@pytest.mark.parametrize("library", [CDLL, PyDLL])
def test_qsort_and_bsearch(library, rng):
    numbers = [rng.randint(-1000, 1000) for _ in range(200)]
    compare(lambda: sort_and_search(library, numbers))


@pytest.mark.stubs
def test_qsort_runs_in_stubs(rng):
    hotcall.install()
    before = hotcall.stats()["stub_callbacks"]
    *_, calls = sort_and_search(CDLL, [rng.randint(-1000, 1000) for _ in range(200)])
    assert hotcall.stats()["stub_callbacks"] - before > len(calls)


def sqlite(library):
    """User functions, collations, authorisers and `sqlite3_exec` of SQLite."""
    lib = library(ctypes.util.find_library("sqlite3"))
    for name in ("sqlite3_value_text", "sqlite3_errmsg", "sqlite3_column_text"):
        getattr(lib, name).restype = c_char_p
    Function = CFUNCTYPE(None, c_void_p, c_int, POINTER(c_void_p))
    Final = CFUNCTYPE(None, c_void_p)
    Row = CFUNCTYPE(c_int, py_object, c_int, POINTER(c_char_p), POINTER(c_char_p))
    Collation = CFUNCTYPE(c_int, c_void_p, c_int, c_void_p, c_int, c_void_p)
    lib.sqlite3_value_double.restype, lib.sqlite3_value_double.argtypes = c_double, [c_void_p]
    lib.sqlite3_value_int64.restype, lib.sqlite3_value_int64.argtypes = c_int64, [c_void_p]
    lib.sqlite3_value_text.argtypes = [c_void_p]
    lib.sqlite3_result_double.argtypes = [c_void_p, c_double]
    lib.sqlite3_result_int64.argtypes = [c_void_p, c_int64]
    lib.sqlite3_result_text.argtypes = [c_void_p, c_char_p, c_int, c_void_p]
    lib.sqlite3_exec.argtypes = [c_void_p, c_char_p, Row, py_object, c_void_p]
    lib.sqlite3_create_function.argtypes = [c_void_p, c_char_p, c_int, c_int, c_void_p, Function, c_void_p, c_void_p]
    lib.sqlite3_create_collation.argtypes = [c_void_p, c_char_p, c_int, c_void_p, Collation]
    lib.sqlite3_aggregate_context.restype = POINTER(c_int64)
    lib.sqlite3_aggregate_context.argtypes = [c_void_p, c_int]
    database = c_void_p()
    assert lib.sqlite3_open(b":memory:", byref(database)) == 0
    seen = []

    @Function
    def half(context, count, values):
        lib.sqlite3_result_double(context, lib.sqlite3_value_double(values[0]) / 2)

    @Function
    def backwards(context, count, values):
        text = lib.sqlite3_value_text(values[0])
        lib.sqlite3_result_text(context, text[::-1], -1, -1)

    @Function
    def step(context, count, values):
        lib.sqlite3_aggregate_context(context, 8)[0] += lib.sqlite3_value_int64(values[0])

    @Final
    def final(context):
        lib.sqlite3_result_int64(context, lib.sqlite3_aggregate_context(context, 8)[0])

    @Collation
    def by_length(data, size_a, a, size_b, b):
        seen.append((size_a, size_b))
        a, b = string_at(a, size_a), string_at(b, size_b)
        return (size_a, a) > (size_b, b) or -((size_a, a) < (size_b, b))

    @Row
    def row(rows, count, values, names):
        rows.append([(names[at], values[at]) for at in range(count)])
        return 0

    def run(statement, rows=None):
        rows = [] if rows is None else rows
        status = lib.sqlite3_exec(database, statement, row, rows, None)
        return status, rows

    assert lib.sqlite3_create_function(database, b"half", 1, 1, None, half, None, None) == 0
    assert lib.sqlite3_create_function(database, b"backwards", 1, 1, None, backwards, None, None) == 0
    aggregate = [database, b"total_of", 1, 1, None, cast(None, Function), cast(step, c_void_p), cast(final, c_void_p)]
    assert lib.sqlite3_create_function(*aggregate) == 0
    assert lib.sqlite3_create_collation(database, b"by_length", 1, None, by_length) == 0
    got = [run(b"create table words (word text, number integer)")]
    for number, word in enumerate([b"pear", b"fig", b"banana", b"apple", b"kiwi", b"date", b"plum"] * 5):
        got.append(run(b"insert into words values ('%s', %d)" % (word, number)))
    got.append(run(b"select word, half(number), backwards(word) from words order by word collate by_length, number"))
    got.append(run(b"select total_of(number), count(*) from words group by word order by 1"))
    got.append(run(b"select no_function(1)"))
    got.append(lib.sqlite3_errmsg(database))
    assert lib.sqlite3_close(database) == 0
    return got, seen


@pytest.mark.skipif(ctypes.util.find_library("sqlite3") is None, reason="SKIPPED: libsqlite3 is not on this machine")
@pytest.mark.parametrize("library", [CDLL, PyDLL])
def test_sqlite(library):
    compare(lambda: sqlite(library))


def test_the_module_sqlite3():
    """CPython's own extension beside it: its callbacks are none of ctypes', and work."""
    sqlite3 = pytest.importorskip("sqlite3")

    def scenario():
        connection = sqlite3.connect(":memory:")
        connection.create_function("twice", 1, lambda x: x * 2)
        return connection.execute("select twice(21)").fetchone()

    compare(scenario)


DOCUMENT = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e "text">]>
<a one="1" two="2"><b/>some &e; here<!-- a comment --><?target data?><c><d e="f">x</d></c></a>"""


def expat(library, stop=None):
    """Handlers of expat, with the parser's own user data, in pieces of every length."""
    lib = library(ctypes.util.find_library("expat"))
    Start = CFUNCTYPE(None, py_object, c_char_p, POINTER(c_char_p))
    End = CFUNCTYPE(None, py_object, c_char_p)
    Text = CFUNCTYPE(None, py_object, POINTER(ctypes.c_char), c_int)
    Instruction = CFUNCTYPE(None, py_object, c_char_p, c_char_p)
    lib.XML_ParserCreate.restype = c_void_p
    lib.XML_SetUserData.argtypes = [c_void_p, py_object]
    for name in ("XML_SetElementHandler", "XML_SetCharacterDataHandler", "XML_SetCommentHandler"):
        getattr(lib, name).argtypes = [c_void_p] + [c_void_p] * (2 if "Element" in name else 1)
    lib.XML_SetProcessingInstructionHandler.argtypes = [c_void_p, Instruction]
    lib.XML_Parse.argtypes = [c_void_p, c_char_p, c_int, c_int]
    lib.XML_ParserFree.argtypes = lib.XML_GetErrorCode.argtypes = [c_void_p]
    lib.XML_StopParser.argtypes = [c_void_p, ctypes.c_ubyte]
    got = []
    for size in (1, 7, len(DOCUMENT)):
        events = []
        parser = lib.XML_ParserCreate(None)

        def start(events, name, attributes):
            pairs = []
            while attributes[2 * len(pairs)]:
                pairs.append((attributes[2 * len(pairs)], attributes[2 * len(pairs) + 1]))
            events.append(("start", name, pairs))
            if name == stop:
                lib.XML_StopParser(parser, 0)  # noqa: B023

        handlers = [
            Start(start),
            End(lambda events, name: events.append(("end", name))),
            Text(lambda events, text, size: events.append(("text", text[:size]))),
            Instruction(lambda events, target, data: events.append(("instruction", target, data))),
            End(lambda events, text: events.append(("comment", text))),
        ]
        lib.XML_SetUserData(parser, events)
        lib.XML_SetElementHandler(parser, *[cast(handler, c_void_p) for handler in handlers[:2]])
        lib.XML_SetCharacterDataHandler(parser, cast(handlers[2], c_void_p))
        lib.XML_SetProcessingInstructionHandler(parser, handlers[3])
        lib.XML_SetCommentHandler(parser, cast(handlers[4], c_void_p))
        pieces = [DOCUMENT[at : at + size] for at in range(0, len(DOCUMENT), size)]
        statuses = [lib.XML_Parse(parser, piece, len(piece), at == len(pieces)) for at, piece in enumerate(pieces, 1)]
        got.append((events, statuses, lib.XML_GetErrorCode(parser)))
        lib.XML_ParserFree(parser)
    return got


@pytest.mark.skipif(ctypes.util.find_library("expat") is None, reason="SKIPPED: libexpat is not on this machine")
@pytest.mark.parametrize("library", [CDLL, PyDLL])
@pytest.mark.parametrize("stop", [None, b"c"])
def test_expat(library, stop):
    compare(lambda: expat(library, stop))


def test_python_functions_of_the_api():
    """PYFUNCTYPE: a Python function as a C function of CPython's API that may raise."""

    def scenario():
        make = PYFUNCTYPE(py_object, py_object, py_object)
        function = make(lambda a, b: (a, b))
        return [function("x", number)[1] for number in range(10)]

    compare(scenario)


def test_libclang(tmp_path):
    """libclang's visitor of syntax trees, through the bindings of its wheel."""
    cindex = pytest.importorskip("clang.cindex", reason="SKIPPED: libclang is not installed")
    source = tmp_path / "a.c"
    source.write_text("struct s { int x; double y; }; int f(struct s *p) { return p->x + 1; }\n")

    def scenario():
        unit = cindex.Index.create().parse(str(source))
        return [(cursor.kind.name, cursor.spelling) for cursor in unit.cursor.walk_preorder()]

    compare(scenario)


@pytest.mark.stubs
def test_programs_run_in_stubs():
    """What the examples do is done by native code."""
    hotcall.install()
    if ctypes.util.find_library("expat") is None:
        pytest.skip("SKIPPED: libexpat is not on this machine")
    before = hotcall.stats()
    expat(CDLL)
    after = hotcall.stats()
    native, live = (after[name] - before[name] for name in ("stub_callbacks", "interpreter_callbacks"))
    assert native > 5 * live and EXPECT_STUBS
