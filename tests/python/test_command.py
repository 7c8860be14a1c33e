"""The command line: what it takes, and the report, the page and the checks."""

import html.parser
import importlib.metadata
import os
import pty
import re
import subprocess
import sys

import pytest
from commandkit import outcome, run
from conftest import LIBRARY

COUNT = 400

CALLS = f"""
import ctypes
lib = ctypes.CDLL({LIBRARY!r})
lib.add_one.argtypes = [ctypes.c_int]
nameless = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(("add_one", lib))
strlen = ctypes.CFUNCTYPE(ctypes.c_size_t, ctypes.c_char_p)(("strlen", ctypes.CDLL(None)))
for number in range({COUNT}):
    assert lib.add_one(number) == number + 1
    assert strlen(b"four") == 4
    try:
        lib.add_one("text")
    except ctypes.ArgumentError:
        pass
"""

# The same calls when the program has ended: by a thread, and by a handler of the exit.
LATE = f"""
import atexit, threading, time
calls = compile({CALLS!r}, "calls", "exec")
def late():
    time.sleep(0.1)
    exec(calls, {{}})
"""
LATE_CALLS = [LATE + "threading.Thread(target=late).start()\n", LATE + "atexit.register(late)\n"]


def test_calls_are_accelerated(tmp_path):
    code = CALLS + "import hotcall\nprint(hotcall.explain(lib.add_one).tier, hotcall.status().installed)\n"
    done = run("-m", "hotcall", "-o", "threshold=10", "-c", code, cwd=tmp_path)
    assert outcome(done) in [(0, "stub True\n", ""), (0, "interpreter True\n", "")]


def test_the_command_line_is_checked(tmp_path):
    for wrong in [("--what",), ("-m",), ("-o", "what=1", "-c", "1"), ("--html",), ("--report=x", "-c", "1"), ("-hx",)]:
        done = run("-m", "hotcall", *wrong, cwd=tmp_path)
        assert done.returncode == 2 and done.stdout == "", wrong
        assert re.fullmatch("hotcall: .+\nsee python -m hotcall --help\n", done.stderr), wrong
    done = run("-m", "hotcall", "-o", "jit=off,foo=1", "-c", "1", cwd=tmp_path, setting="jit=on")
    assert done.stderr.startswith('hotcall: -o: "foo=1" is not an option; expected ') and "HOTCALL" not in done.stderr
    done = run("-m", "hotcall", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "--check" in done.stdout
    done = run("-m", "hotcall", "--version", cwd=tmp_path)
    assert outcome(done) == (0, f"hotcall {importlib.metadata.version('hotcall')}\n", "")
    done = run("-m", "hotcall", "-othreshold=7", "-cimport hotcall\nprint(hotcall._api._native.status()['options'])", cwd=tmp_path)
    assert "threshold: 7" in done.stdout


def test_options_that_come_too_late_are_refused(tmp_path):
    """Where hotcall is in use before the command line is read nothing would become of them."""
    done = run("-m", "hotcall", "-m", "hotcall", "--check", "-o", "threshold=7", "-c", "print(5)", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "too late for options; set HOTCALL='check=1,threshold=7'\n" in done.stderr
    for options in [(), ("-o", "threshold=7")]:
        done = run("-m", "hotcall", *options, "-m", "hotcall", *options, "-c", "print(5)", cwd=tmp_path)
        assert outcome(done) == (0, "5\n", "")


def test_without_options_nothing_is_too_late(tmp_path):
    """Where a program changes the environment for its children."""
    code = "import hotcall.auto, os, runpy, sys; os.environ['HOTCALL'] = 'threshold=7'\n"
    code += "sys.argv[1:] = ['-c', 'print(5)']; sys.path.insert(0, ''); runpy.run_module('hotcall', run_name='__main__')"
    assert outcome(run("-c", code, cwd=tmp_path)) == (0, "5\n", "")


def test_what_is_wrong_in_the_environment_is_one_line(tmp_path):
    commands = [("-c", "1"), ("--help",), ("--version",), ("doctor",), ("-o", "jit=off", "-c", "1"), ("--what",)]
    for way in [("-m", "hotcall"), ("-mhotcall",), ("-B", "-X", "dev", "-m", "hotcall")]:
        for command in commands:
            done = run(*way, *command, cwd=tmp_path, setting="foo")
            assert (done.returncode, done.stdout) == (2, ""), command
            said = 'hotcall: HOTCALL: "foo" is not an option; expected .+\nsee python -m hotcall --help\n'
            assert re.fullmatch(said, done.stderr), done.stderr
    done = run("-m", "hotcall", "-c", "1", cwd=tmp_path, setting="threshold=\udcff")
    assert done.returncode == 2 and re.match("hotcall: HOTCALL: .*udcff.* is not an option", done.stderr), done.stderr
    # Other programs get the error, also those that are modules.
    (tmp_path / "program.py").write_text("import hotcall\n")
    for program in [("-m", "program"), ("-m", "program", "-m", "hotcall"), ("-c", "import hotcall", "-m", "hotcall")]:
        done = run(*program, cwd=tmp_path, setting="foo")
        assert done.returncode == 1 and 'ValueError: HOTCALL: "foo" is not an option' in done.stderr, program


def test_no_program_is_read_from_a_terminal(tmp_path):
    ours, theirs = pty.openpty()
    for nothing in [(), ("-",), ("--report",)]:
        done = run("-m", "hotcall", *nothing, cwd=tmp_path, input=None, stdin=theirs)
        assert done.returncode == 2 and "no program" in done.stderr
    os.close(ours)
    os.close(theirs)


def test_the_report_leaves_refused_look_ups_to_who_refuses_them(tmp_path):
    code = """if True:
        import ctypes, sys
        def hook(event, arguments):
            if event == "ctypes.dlsym/handle":
                raise RuntimeError("denied")
        library = ctypes.CDLL(None)
        sys.addaudithook(hook)
        print(library.abs(-3))
    """
    done = run("-m", "hotcall", "--report", "-c", code, cwd=tmp_path)
    assert done.stdout == "3\n" and done.returncode == 0, done.stderr


def test_the_report_counts_every_call(tmp_path):
    done = run("-m", "hotcall", "--report", "-c", CALLS, cwd=tmp_path, setting="threshold=10")
    assert done.returncode == 0 and done.stdout == "", done.stderr
    rows = {line.split()[0]: line.split()[1] for line in done.stderr.splitlines() if line.startswith(("add_one", "strlen"))}
    # A name that only the look-up had is found.
    assert rows == {"add_one": str(2 * COUNT), "strlen": str(COUNT)}
    assert re.search(r"add_one \(libpyfix.so:add_one\): argument-value: .*\(\d+ calls\)", done.stderr)
    assert "code memory:" in done.stderr and re.search(r"^GIL, \w+: .*add_one", done.stderr, re.M)


def profile(code):
    """Runs code that is timed, and gives what the report of it has, by Python."""
    ending = """
import hotcall, json
report = hotcall.report()
one = {f.name: [f.calls, f.whole, f.inside, f.signature, f.place, f.tier] for f in report.functions}
print(json.dumps([one, report.timed, report.timeline, [list(f.calls) for f in report.functions]]))
"""
    import json

    setting = "threshold=10,profile=1"
    done = subprocess.run(
        [sys.executable, "-c", "import hotcall\nhotcall.install()\n" + code + ending],
        env={**os.environ, "HOTCALL": setting}, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_times_are_those_of_the_functions(tmp_path):
    """A function that sleeps takes its time inside; what is around it is short."""
    code = """
import ctypes
usleep = ctypes.CDLL(None).usleep
usleep.argtypes = [ctypes.c_uint]
for _ in range(50):
    usleep(2000)
"""
    functions, timed, timeline, calls = profile(code)
    made, whole, inside, signature, place, tier = functions["usleep"]
    assert timed and sum(made) == 50 and made[2] == 1 and tier in ("stub", "interpreter")
    assert signature == "fn(c_uint) -> i32" and place.endswith(":usleep")
    assert 0.095e9 < sum(inside) < sum(whole) < 5e9 and inside[2] == 0
    assert (sum(whole[:2]) - sum(inside[:2])) / 49 < 1e6
    assert [sum(column) for column in zip(*timeline, strict=True)] == [sum(column) for column in zip(*calls, strict=True)]


@pytest.mark.needs_exec
def test_detours_callbacks_and_errcheck_are_counted_once():
    code = f"""
import ctypes
lib = ctypes.CDLL({LIBRARY!r})
class Converting:
    @staticmethod
    def from_param(value):
        return ctypes.c_int(value)
lib.add_one.argtypes = [Converting]
labs = ctypes.CDLL(None).labs
labs.argtypes = [ctypes.c_long]
labs.errcheck = lambda result, function, arguments: result
compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
sort = ctypes.CDLL(None).qsort
sort.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, compare]
sort.restype = None
inner = compare(lambda a, b: lib.add_one(a[0]) - lib.add_one(b[0]))
for number in range(100):
    assert lib.add_one(number) == number + 1 and labs(-number) == number
for _ in range(20):
    items = (ctypes.c_int * 2)(2, 1)
    sort(items, 2, 4, inner)
    assert list(items) == [1, 2]
"""
    functions, *_ = profile(code)
    assert {name: sum(one[0]) for name, one in functions.items()} == {"add_one": 140, "labs": 100, "qsort": 20}
    # What runs within a callback is within the call that called back.
    assert sum(functions["qsort"][1]) > 0


class Page(html.parser.HTMLParser):
    """Collects what a page is made of."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text, self.addresses = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "rect"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if tag != "rect":
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_stands_alone(tmp_path):
    code = CALLS + "lib['add_one'].__name__ = '<script>'\n"
    done = run("-m", "hotcall", "-o", "threshold=10", "--html", "page.html", "-c", code, cwd=tmp_path)
    assert outcome(done) == (0, "", "")
    page = Page()
    page.feed((tmp_path / "page.html").read_text())
    text = "".join(page.text)
    assert page.open == [] and page.addresses == [] and not {"script", "link", "img"} & set(page.tags)
    assert page.tags.count("svg") >= 2 and page.tags.count("rect") > 4
    assert "add_one" in text and "strlen" in text and "argument-value" in text


def test_the_place_of_the_page_is_that_at_the_start(tmp_path):
    (tmp_path / "place").mkdir()
    code = CALLS + "import os\nos.chdir('place')\n"
    done = run("-m", "hotcall", "--html=page.html", "-c", code, cwd=tmp_path)
    assert outcome(done) == (0, "", "")
    assert "add_one" in (tmp_path / "page.html").read_text() and not list((tmp_path / "place").iterdir())


def test_a_page_that_cannot_be_written_is_refused_at_the_start(tmp_path):
    for place in ["missing/page.html", "."]:
        done = run("-m", "hotcall", "--html", place, "-c", "print('it runs')", cwd=tmp_path)
        assert done.returncode == 2 and f"cannot write {place}: " in done.stderr and done.stdout == ""
    # A page of before is not lost where no program runs.
    (tmp_path / "page.html").write_text("before")
    assert run("-m", "hotcall", "--html", "page.html", "-o", "what=1", "-c", "1", cwd=tmp_path).returncode == 2
    assert (tmp_path / "page.html").read_text() == "before"


def test_what_is_checked_is_not_different(tmp_path):
    done = run("-m", "hotcall", "--check", "-o", "threshold=10", "-c", CALLS, cwd=tmp_path)
    assert done.returncode == 0 and "no difference" in done.stderr, done.stderr
    stubs, interpreted = map(int, re.search(r"in (\d+) calls of stubs and (\d+) of the interpreter", done.stderr).groups())
    assert stubs + interpreted >= 2 * (COUNT - 16)


def test_a_difference_is_found(tmp_path):
    done = run("-m", "hotcall", "--check", "-o", "check=flip", "-c", CALLS, cwd=tmp_path)
    assert done.returncode == 70 and "2 DIFFERENCES" in done.stderr
    assert re.search(r"add_one, argument 1: i32 in Gp\(0\): ctypes passes 0x\w+, hotcall 0x\w+ \(\d+ calls\)", done.stderr)
    success = "raise SystemExit(type('Code', (int,), {})())"
    assert run("-m", "hotcall", "--check", "-o", "check=flip", "-c", CALLS + success, cwd=tmp_path).returncode == 70
    # A failure of the program's own is not covered up.
    done = run("-m", "hotcall", "--check", "-o", "check=flip", "-c", CALLS + "raise SystemExit(5)", cwd=tmp_path)
    assert done.returncode == 5 and "2 DIFFERENCES" in done.stderr


@pytest.mark.parametrize("code", LATE_CALLS)
def test_calls_are_checked_to_the_very_end(code, tmp_path):
    done = run("-m", "hotcall", "--check", "-o", "check=flip", "-c", code, cwd=tmp_path)
    assert done.returncode == 70 and "2 DIFFERENCES" in done.stderr and "Traceback" not in done.stderr
    done = run("-m", "hotcall", "--check", "-c", code, cwd=tmp_path)
    assert done.returncode == 0 and "no difference" in done.stderr and "Traceback" not in done.stderr
    # The program's own failure says more, however early it is.
    for ending, status in [("raise SystemExit(5)", 5), ("1 / 0", 1)]:
        done = run("-m", "hotcall", "--check", "-o", "check=flip", "-c", code + ending, cwd=tmp_path)
        assert done.returncode == status and "2 DIFFERENCES" in done.stderr


def test_a_child_is_not_judged(tmp_path):
    code = CALLS + "import os\nif child := os.fork():\n    print(os.waitpid(child, 0)[1])\n"
    done = run("-m", "hotcall", "--check", "-o", "check=flip", "-c", code, cwd=tmp_path)
    assert done.returncode == 70 and done.stdout == "0\n" and done.stderr.count("2 DIFFERENCES") == 1


def test_calls_of_children_alone_are_nothing(tmp_path):
    code = f"import os\nif child := os.fork():\n    os.waitpid(child, 0)\nelse:\n    exec({CALLS!r})\n"
    done = run("-m", "hotcall", "--check", "--report", "--html", "page.html", "-c", code, cwd=tmp_path)
    assert done.returncode == 0 and "nothing was checked" in done.stderr and "no difference" not in done.stderr
    for text in [done.stderr, (tmp_path / "page.html").read_text()]:
        assert "no foreign function was called in this process" in text and "0 calls" not in text


def test_checks_call_the_function_once_and_run_no_code_twice(tmp_path):
    code = f"""
import ctypes, sys
lib = ctypes.CDLL({LIBRARY!r})
events = []
class Converting:
    @staticmethod
    def from_param(value):
        events.append(value)
        return ctypes.c_int(value)
def check(result, function, arguments):
    events.append(-1)
    return result
record = lib.record_i
record.argtypes = [Converting, ctypes.c_double, ctypes.c_wchar_p, ctypes.c_char_p]
record.errcheck = check
record.restype = lambda word: events.append(-2)
calls = ctypes.c_uint64.in_dll(lib, "seen")
for number in range(300):
    record(number, 0.5, "wide", b"narrow")
assert events == [event for number in range(300) for event in (number, -2, -1)], events[:20]
assert calls.value == 300
"""
    done = run("-m", "hotcall", "--check", "-o", "threshold=10", "-c", code, cwd=tmp_path)
    assert done.returncode == 0 and "no difference" in done.stderr, done.stderr
    assert "Python code runs for an argument" in done.stderr


def test_checks_run_no_code_of_classes(tmp_path):
    """Finalisers, also of classes that get one late, and what would be asked of a result for its text."""
    code = f"""
import _ctypes, ctypes, gc
lib = ctypes.CDLL({LIBRARY!r})
events = []
class Handle(ctypes.c_void_p):
    def __del__(self):
        events.append(self.value)
class Late(ctypes.c_void_p):
    def __bytes__(self):
        events.append("bytes")
        return b""
class Function(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL
    def __del__(self):
        events.append("function")
Whole = type("int", (ctypes.c_long,), dict(__repr__=lambda self: events.append("repr") or ""))
def call(function, restype, count=100):
    function.argtypes, function.restype = [ctypes.c_void_p], restype
    for _ in range(count):
        function(5)
    seen, events[:] = events[:], []
    return seen
assert call(lib["same"], Handle) == [5] * 100
late = lib["same"]
assert call(late, Late) == call(lib["same"], Whole) == []
Late.__del__ = Handle.__del__
late(5)
assert events == [5], events
events.clear()
assert call(Function(("same", lib)), ctypes.c_void_p) == []
gc.collect()
assert events == ["function"]
"""
    done = run("-m", "hotcall", "--check", "-o", "threshold=10", "-c", code, cwd=tmp_path)
    assert done.returncode == 0 and "no difference" in done.stderr, done.stderr
    assert "its class, or that of its results, has a finaliser" in done.stderr
