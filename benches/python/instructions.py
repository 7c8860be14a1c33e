"""Counts the instructions of a call with callgrind: by the extension, plain ctypes, the stubs and the interpreter.

Counts do not depend on how busy the machine is. They say nothing of cache misses, or of how many instructions run at
once, so they explain times and do not replace them.

`instructions.py` prints a table; `--record FOLDER` also writes it there, and `--check FOLDER` fails if a call by hotcall
takes 5 of 100 instructions more than is recorded. It needs valgrind, and the check a CPython as it was recorded with,
which shows in the counts of the others: it is skipped, with a loud line, where there is none.
"""

import argparse
import csv
import os
import platform
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
OTHERS, OURS = ["extension", "ctypes"], ["stub", "bound", "interpreter"]
COLUMNS = [*OTHERS, *OURS]
KEY = ["call", "gil"]
TOLERANCE = 0.05
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


def table():
    """Rows of instructions per call, by column, each with its call and who has the GIL."""
    stubs, interpreter = count("threshold=1"), count("threshold=1,jit=off")
    rows = []
    for gil in ["released", "held"]:
        for label in LABELS:
            counts = [stubs[label, gil, name] for name in ("extension", "ctypes", "hotcall", "bound")]
            counts.append(interpreter[label, gil, "hotcall"])
            named = dict(zip(COLUMNS, map(round, counts), strict=True))
            rows.append({"call": label, "gil": gil, **named})
    return rows


def show(rows):
    """Prints the table."""
    print(f"Instructions a call on CPython {platform.python_version()}, without the loop")
    print(f"{'':32}" + "".join(f"{column:>12}" for column in COLUMNS))
    for row in rows:
        title = f"{row['call']}, {row['gil']}"
        print(f"{title:32}" + "".join(f"{row[column]:12}" for column in COLUMNS))


def compare(rows, recorded):
    """Says what differs from the records by more than the tolerance; gives the calls that take more."""
    known = {tuple(row[name] for name in KEY): row for row in recorded}
    more = []
    for row in rows:
        old = known.get(tuple(row[name] for name in KEY), {})
        for column in COLUMNS:
            before = int(old.get(column, 0))
            if abs(row[column] - before) > TOLERANCE * before:
                what = f"{row['call']}, {row['gil']}, {column}: {row[column]} instructions, {before} recorded"
                if column in OTHERS:
                    print(f"#### SKIPPED: comparing instructions: another build of CPython, {what} ####")
                    return []
                print(what)
                more += [what] if row[column] > before else []
    return more


def main():
    parser = argparse.ArgumentParser(prog="instructions.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write the counts into a CSV file there")
    parser.add_argument("--check", type=Path, metavar="FOLDER", help="compare the counts with those recorded there")
    parser.add_argument("here", nargs="?", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        folder = build.build()
        return count_here(build.load_extension(folder), cases.Libraries(folder))
    if not shutil.which("valgrind"):
        return print("#### SKIPPED: counting instructions: there is no valgrind ####")
    name = "instructions-{}.{}.csv".format(*sys.version_info)
    if arguments.check and not (arguments.check / name).exists():
        return print(f"#### SKIPPED: comparing instructions: there are no records of {platform.python_version()} ####")
    rows = table()
    show(rows)
    if arguments.record:
        with (arguments.record / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, [*KEY, *COLUMNS], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    if arguments.check:
        with (arguments.check / name).open(newline="") as file:
            more = compare(rows, list(csv.DictReader(file)))
        if more:
            sys.exit(f"error: {len(more)} counts grew; if that is meant, record them: {Path(__file__).name} --record FOLDER")


if __name__ == "__main__":
    main()
