"""Programs that the command line runs see, say and end as those that the interpreter itself runs."""

import marshal
import py_compile
import signal
import zipfile

import pytest
from commandkit import compare, outcome, run
from conftest import LIBRARY

CALLING = "import ctypes\nfor _ in range(99): ctypes.CDLL(None).abs(5)\n"

LEFT = "import atexit\natexit.register(lambda: print(sorted(globals())))\n"

# Programs whose output, errors and exit status say all that one can see of how it is run.
PROGRAMS = {
    "surroundings": """
import sys
names = {k: v if isinstance(v, (str, type(None), dict)) else str(type(v)) for k, v in globals().items()}
names.pop("names", None)
print(names, sys.argv, sys.path, __name__, sys.modules["__main__"].__dict__ is globals(), sys.flags.dont_write_bytecode)
""",
    "an exception": "def f():\n    1 / 0\n\n\nf()\n",
    "a chain of exceptions": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e\n",
    "a hook of its own": "import sys\nsys.excepthook = lambda *a: print('hook', a[0], a[2].tb_frame.f_code.co_qualname)\n1 / 0\n",
    "a group of exceptions": "raise ExceptionGroup('several', [ValueError(1), TypeError(2)])\n",
    "an exit": "import sys\nsys.exit(7)\n",
    "an exit with a text": "import sys\nsys.exit('a text')\n",
    "an exit without": "raise SystemExit\n",
    "an exit from a handler": "import atexit\natexit.register(print, 'at exit')\nraise SystemExit(3)\n",
    "a syntax error": "x = (\n",
    "a text that is no program": "x = '\\N{nothing}'\n",
    "an interrupt": "raise KeyboardInterrupt\n",
    "the last exception": "import atexit, sys\natexit.register(lambda: print(sys.last_traceback.tb_frame.f_code.co_name))\n1 / 0\n",
    "a daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(9,), daemon=True).start()\nprint('x')\n",
    "a hook that fails": "import sys\ndef hook(*a):\n    raise ValueError(sys.excepthook is hook)\nsys.excepthook = hook\n1 / 0\n",
    "a hook that ends the process": LEFT + "import sys\nsys.excepthook = sys.exit\n1 / 0\n",
    "a hook that cannot be called": "import sys\nsys.excepthook = None\n1 / 0\n",
    "a trace function": "import ctypes, sys\nsys.settrace(lambda frame, *a: print(frame.f_code.co_name))\n",
    "a trace function and an exit": "import ctypes, sys\nsys.settrace(lambda frame, *a: print(frame.f_code.co_name))\nsys.exit()\n",
    "no hook": "import sys\ndel sys.excepthook\n1 / 0\n",
    "an error of hotcall's own": "import hotcall\n\n\ndef f():\n    hotcall.explain(len)\n\n\nf()\n",
    "an error within hotcall": f"""
import ctypes, hotcall
class Refusing:
    @staticmethod
    def from_param(value):
        raise ValueError(value)
add_one = ctypes.CDLL({LIBRARY!r}).add_one
add_one.argtypes = [Refusing]
def f():
    return hotcall.map(add_one, [1])
f()
""",
    "what is left at the end": LEFT,
    "what is left after an exception": LEFT + "1 / 0\n",
    "what is left after an exit": LEFT + "raise SystemExit(1)\n",
    "what a hook finds": "import sys\nsys.excepthook = lambda *a: print(sorted(globals()))\n1 / 0\n",
    "what a finaliser finds": "class A:\n    def __del__(self): print(globals().get('__file__'))\na = A()\n1 / 0\n",
    "names that are gone": "globals().pop('__file__', None)\nglobals().pop('__cached__', None)\n1 / 0\n",
    "finders of paths": "import sys\nprint([item for item in sys.path_importer_cache.items() if item[0].endswith('.py')])\n",
    "annotations": "x: int = 1\nprint(globals().get('__annotations__'))\n",
    "input": "import sys\nprint(sys.stdin.read())\n",
    "pickling": "import pickle\nclass A: pass\nprint(type(pickle.loads(pickle.dumps(A()))) is A)\n",
    "a future": "from __future__ import annotations\nx: y = 1\nprint(__annotations__)\n",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_scripts_run_as_by_the_interpreter(name, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    compare("program.py", "-a", "b", "--report", cwd=tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_modules_run_as_by_the_interpreter(name, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    compare("-m", "program", "-a", "b", cwd=tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_texts_run_as_by_the_interpreter(name, tmp_path):
    compare("-c", PROGRAMS[name], "-a", "b", cwd=tmp_path)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_standard_input_runs_as_by_the_interpreter(name, tmp_path):
    compare("-", "-a", "b", cwd=tmp_path, input=PROGRAMS[name])
    compare(cwd=tmp_path, input=PROGRAMS[name])


@pytest.mark.parametrize("options", [("-P",), ("-I",), ("-E",), ("-O",), ("-u",)])
def test_options_of_the_interpreter_hold(options, tmp_path):
    (tmp_path / "program.py").write_text("import sys\nprint(sys.path, sys.argv, sys.flags, __debug__)\n")
    compare("program.py", cwd=tmp_path, interpreter=options)
    compare("-c", "import sys\nprint(sys.path)", cwd=tmp_path, interpreter=options)


# What the interpreter is given to read when a program has ended and `-i` makes it prompt.
AT_THE_PROMPT = "import sys\nprint(sorted(globals()), repr(getattr(sys, 'last_value', None)), sys.excepthook.__class__)\n"


@pytest.mark.parametrize("name", ["an exception", "an exit with a text", "an exit without", "a syntax error", "a hook that fails"])
def test_what_is_shown_before_a_prompt(name, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAMS[name])
    for way in [("program.py",), ("-m", "program"), ("-c", PROGRAMS[name]), ("missing.py",), ("-m", "missing")]:
        done = compare(*way, cwd=tmp_path, interpreter=["-i"], input=AT_THE_PROMPT)
        assert "__builtins__" in done.stdout
    plain, ours = (
        run(*way, "-c", PROGRAMS[name], cwd=tmp_path, interpreter=["-i"], input=AT_THE_PROMPT)
        for way in [(), ("-m", "hotcall", "--check")]
    )
    assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
    assert plain.stderr.rstrip() in ours.stderr and "hotcall: nothing was checked" in ours.stderr


def test_folders_archives_and_packages(tmp_path):
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "__main__.py").write_text(PROGRAMS["surroundings"] + "1 / 0\n")
    (folder / "__init__.py").write_text("")
    (folder / "other.py").write_text(PROGRAMS["surroundings"])
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        archive.write(folder / "__main__.py", "__main__.py")
    for program in [("package",), ("archive.zip",), ("-m", "package"), ("-m", "package.other")]:
        assert "__main__" in compare(*program, "a", cwd=tmp_path).stdout
    for missing in [("-m", "package.missing"), ("-m", "missing")]:
        assert compare(*missing, cwd=tmp_path).returncode == 1


def test_a_package_finds_the_main_module_as_it_is_at_the_start(tmp_path):
    (tmp_path / "package").mkdir()
    (tmp_path / "package/__init__.py").write_text("import __main__\nprint(vars(__main__), list(vars(__main__)))\n")
    (tmp_path / "package/__main__.py").write_text("")
    assert "BuiltinImporter" in compare("-m", "package", cwd=tmp_path).stdout


def test_a_link_is_followed_and_other_folders_are_found(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    (place / "program.py").write_text(PROGRAMS["surroundings"])
    (tmp_path / "link.py").symlink_to(place / "program.py")
    compare("link.py", cwd=tmp_path)
    compare("place/program.py", cwd=tmp_path)
    compare(str(place / "program.py"), cwd="/")


def test_paths_are_taken_as_they_are_written(tmp_path):
    for folder in ["here", "other/deep", "other/program", "here/program", "empty"]:
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here/link").symlink_to("../other/deep")
    for place in ["program.py", "other/program.py", "here/program.py", "other/program/__main__.py", "here/program/__main__.py"]:
        (tmp_path / place).write_text(f"place = {place!r}\n" + PROGRAMS["surroundings"])
    with zipfile.ZipFile(tmp_path / "program.zip", "w") as archive:
        archive.write(tmp_path / "program.py", "__main__.py")
    programs = "./program.py here/../program.py .//program.py here/link/../program.py"
    folders = "other/program other/program/ ./other/program here/../other/program/ here/link/../program"
    archives = "program.zip ./program.zip here/../program.zip"
    for path in [*programs.split(), *folders.split(), *archives.split(), f"{tmp_path}/./program.py"]:
        assert "__main__" in compare(path, "a", cwd=tmp_path).stdout
    for path in [".", "empty", "empty/", "./missing.py"]:
        assert compare(path, cwd=tmp_path).returncode != 0
    compare(str(tmp_path / "program.py").lstrip("/"), cwd="/")


def test_a_working_folder_that_is_gone(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAMS["surroundings"])
    code = """
import os, shutil, sys
os.mkdir("gone")
os.chdir("gone")
os.rmdir(os.getcwd())
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
    for program in [(str(tmp_path / "program.py"),), ("-m", "program")]:
        plain, ours = (run("-c", code, *way, *program, cwd=tmp_path) for way in [(), ("-m", "hotcall")])
        assert outcome(ours) == outcome(plain)


NO_PROGRAMS = {
    "other characters": b'x = 1\ny = "\xff"\n',
    "a zero": b'x = 1\ny = "\0"\n',
    "an unknown encoding": b"# coding: nosuch\n",
    "another encoding": b"# coding: ascii\nx = '\xe9'\n",
    "two encodings": b"\xef\xbb\xbf# coding: latin-1\n",
    "nothing": b"",
}


@pytest.mark.parametrize("name", NO_PROGRAMS)
def test_what_is_no_text_is_refused_as_by_the_interpreter(name, tmp_path):
    (tmp_path / "program.py").write_bytes(NO_PROGRAMS[name])
    compare("program.py", cwd=tmp_path)


def test_a_text_that_is_no_text(tmp_path):
    assert "Unable to decode" in compare("-c", "print('\udce9')", cwd=tmp_path).stderr


def test_compiled_files_and_those_that_are_not(tmp_path):
    source = tmp_path / "program.py"
    source.write_text(PROGRAMS["surroundings"] + "1 / 0\n")
    py_compile.compile(str(source), str(tmp_path / "program.pyc"))
    # The interpreter knows one by its contents, too.
    (tmp_path / "other").write_bytes((tmp_path / "program.pyc").read_bytes())
    for name in ["program.pyc", "other"]:
        assert "SourcelessFileLoader" in compare(name, cwd=tmp_path).stdout
    (tmp_path / "foreign.pyc").write_bytes(b"of another version")
    assert "Bad magic number" in compare("foreign.pyc", cwd=tmp_path).stderr
    code = (tmp_path / "program.pyc").read_bytes()[:16] + marshal.dumps(5)
    (tmp_path / "number.pyc").write_bytes(code)
    assert "Bad code object" in compare("number.pyc", cwd=tmp_path).stderr


def test_the_end_of_options_and_what_is_attached(tmp_path):
    for name in ["-x.py", "program.py", "doctor"]:
        (tmp_path / name).write_text(PROGRAMS["surroundings"])
    for program in [("--", "-x.py"), ("--", "doctor"), ("-mprogram", "a"), ("-cimport sys; print(sys.argv)", "-a")]:
        assert compare(*program, cwd=tmp_path).returncode == 0


OWN = ["ast", "copy", "dataclasses", "enum", "html", "inspect", "pkgutil", "platform", "re", "textwrap", "typing"]


def test_modules_of_the_program_are_not_hidden(tmp_path):
    """Neither does the program get ours in their place, nor do we get the program's."""
    for name in OWN:
        (tmp_path / f"{name}.py").write_text("")
    program = f"import {', '.join(OWN)}\nprint([module.__file__ for module in ({', '.join(OWN)})])\n"
    (tmp_path / "program.py").write_text(program)
    for way in [("program.py",), ("-m", "program"), ("-c", program)]:
        assert compare(*way, cwd=tmp_path).stdout.count(str(tmp_path)) == len(OWN)
    done = run("-m", "hotcall", "--report", "--check", "--html", "page.html", "-c", CALLING, cwd=tmp_path)
    assert done.returncode == 0 and "Traceback" not in done.stderr and (tmp_path / "page.html").stat().st_size
    assert run("-m", "hotcall", "doctor", cwd=tmp_path).returncode in (0, 3)


def test_few_modules_are_loaded(tmp_path):
    program = "import hotcall, sys\nhotcall.install()\nprint(*sorted(sys.modules), sep='\\n')\n"
    (tmp_path / "program.py").write_text(program)
    plain = run("-m", "program", cwd=tmp_path).stdout.split()
    ours = run("-m", "hotcall", "program.py", cwd=tmp_path).stdout.split()
    assert set(ours) - set(plain) == {"hotcall._run"}


def test_a_missing_script(tmp_path):
    assert compare("missing.py", cwd=tmp_path).returncode == 2


def test_an_interrupt_ends_the_process_by_its_signal(tmp_path):
    done = run("-m", "hotcall", "-c", "raise KeyboardInterrupt", cwd=tmp_path)
    assert done.returncode == -signal.SIGINT


# What `--check` must not compare or ask twice; `{}` stands for the code of the exit.
EXITS = {
    "a number that is compared": """
class Code(int):
    def __eq__(self, other): print("asked")
    __bool__ = __eq__
raise SystemExit(Code({}))
""",
    "an object that is compared": """
class Code:
    def __eq__(self, other): print("asked")
    __class__ = property(__eq__)
    __str__ = lambda self: "a text"
raise SystemExit(Code())
""",
    "a code that is looked up": """
class End(SystemExit):
    @property
    def code(self): print("asked"); return {}
raise End(5)
""",
    "a code that cannot be looked up": """
class End(SystemExit):
    @property
    def code(self): print("asked"); raise OSError
raise End(5)
""",
    "several": "raise SystemExit({}, 2)\n",
}


@pytest.mark.parametrize("name", EXITS)
def test_a_check_asks_for_the_exit_as_the_interpreter_does(name, tmp_path):
    for code in (0, 3):
        program = EXITS[name].format(code)
        plain = run("-c", program, cwd=tmp_path)
        ours = run("-m", "hotcall", "--check", "-c", program, cwd=tmp_path)
        assert (ours.returncode, ours.stdout) == (plain.returncode, plain.stdout)
        assert ours.stderr.startswith(plain.stderr) and "hotcall: nothing was checked" in ours.stderr
