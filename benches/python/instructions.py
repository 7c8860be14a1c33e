"""Counts the instructions of a call with callgrind: by the extension, plain ctypes, the stubs and the interpreter.

Counts do not depend on how busy the machine is. They say nothing of cache misses, or of how many instructions run at
once, so they explain times and do not replace them. `instructions.py` prints a table; it needs valgrind.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from itertools import repeat
from pathlib import Path

import hotcall

import build
import cases
from timing import make_loop

CALLS = 1000
LABELS = ["int()", "int(int)", "int(int, int)", "double(double)", "size_t(char *)", "5 ints, 5 doubles"]
COLUMNS = ["extension", "ctypes", "stub", "bound", "interpreter"]
MARK = "nothing"
"""The C function at whose entry callgrind writes what it counted since the last one."""


def contenders(ext, libraries, label):
    """Names and functions for one call, in the order in which they are counted."""
    case = next(case for case in cases.CASES if case.label == label)
    for gil in ["released", "held"]:
        function = libraries.declare(case, gil)
        yield gil, "extension", cases.extension_function(ext, case, gil), case.args
        yield gil, "ctypes", function, case.args
        yield gil, "hotcall", function, case.args
        yield gil, "bound", hotcall.bind(function), case.args


def count_here(ext, libraries):
    """Runs every loop between two marks; this is the program that runs under valgrind."""
    empty = make_loop(None)
    for warming in [True, False]:
        ext.held_nothing(0)
        empty(repeat(None, CALLS), None, ())
        ext.held_nothing(0)
        for label in LABELS:
            for _gil, name, function, args in contenders(ext, libraries, label):
                if name in ("hotcall", "bound"):
                    hotcall.install()
                loop = make_loop(len(args))
                loop(repeat(None, 100), function, args)
                ext.held_nothing(0)
                loop(repeat(None, 1 if warming else CALLS), function, args)
                ext.held_nothing(0)
                hotcall.uninstall()


def total(file):
    """The instructions in one of callgrind's files."""
    for line in file.read_text().splitlines():
        if line.startswith(("summary:", "totals:")):
            return int(line.split()[1])
    return 0


def count(options):
    """Instructions per call by (label, gil, name), with HOTCALL=`options`."""
    keys = [("", "", "empty")]
    folder = build.build()
    ext, libraries = build.load_extension(folder), cases.Libraries(folder)
    keys += [(label, gil, name) for label in LABELS for gil, name, *_ in contenders(ext, libraries, label)]
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary, "out")
        command = ["valgrind", "-q", "--tool=callgrind", f"--dump-before={MARK}", f"--callgrind-out-file={out}"]
        environment = {**os.environ, "HOTCALL": options, "PYTHONHASHSEED": "0"}
        subprocess.run([*command, sys.executable, __file__, "here"], env=environment, check=True)
        files = [Path(f"{out}.{number}") for number in range(1, 4 * len(keys) + 1)]
        # The first half is of the warming round. Of the rest, every second one is what was between two loops.
        counts = [total(file) for file in files[2 * len(keys) + 1 :: 2]]
    return {key: (amount - counts[0]) / CALLS for key, amount in zip(keys, counts, strict=True)}


def show(stubs, interpreter):
    """Prints a table for each way to treat the GIL."""
    for gil in ["released", "held"]:
        print(f"\nInstructions a call, without the loop; the GIL is {gil}")
        print(f"{'':20}" + "".join(f"{column:>12}" for column in COLUMNS))
        for label in LABELS:
            row = [stubs[label, gil, name] for name in ("extension", "ctypes", "hotcall", "bound")]
            row.append(interpreter[label, gil, "hotcall"])
            print(f"{label:20}" + "".join(f"{amount:12.0f}" for amount in row))


def main():
    if sys.argv[1:] == ["here"]:
        folder = build.build()
        count_here(build.load_extension(folder), cases.Libraries(folder))
    elif shutil.which("valgrind"):
        show(count("threshold=1"), count("threshold=1,jit=off"))
    else:
        print("#### SKIPPED: counting instructions: there is no valgrind ####")


if __name__ == "__main__":
    main()
