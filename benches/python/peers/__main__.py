"""Compares hotcall with other ways to call C from Python, on the Python that runs this: ctypes, cffi, Cython, nanobind,
pybind11, PyO3, and an extension module written by hand.

`python benches/python/peers [--record FOLDER] [--quick]` prints a table, and writes the ratios to the extension that holds
the GIL into a CSV file in FOLDER. Peers that are not installed, or cannot be compiled, are left out.
"""

import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import build  # noqa: E402
import contenders  # noqa: E402
import record  # noqa: E402
from timing import Contender, Group, Result, Statement, alternate  # noqa: E402

import hotcall  # noqa: E402

CALLS = 400
WARMING = 60
BASE, INTERPRETER = contenders.BASE, contenders.INTERPRETER


def timed(name, label, call):
    """A call as a contender of a round."""
    if call.statement is None:
        return Contender((name, label), call.function, call.args)
    return Statement((name, label), call.statement, call.args, {"function": call.function, **call.names})


def groups_of(found, wanted):
    """The contenders of a group; the program ends if one gives another result than was wanted."""
    group = []
    for label in contenders.LABELS:
        for name, contender in found.items():
            call = contender.call(label)
            if call is None:
                continue
            if call.is_made:
                result = contenders.result_of(call)
                if wanted.setdefault(label, result) != result:
                    sys.exit(f"error: {label}: {name} gives {result!r}, not {wanted[label]!r}")
            group.append(timed(name, label, call))
    return group


def measure(rounds, interpreter=False):
    """Times by contender and label, as lists of nanoseconds; the interpreter tier is measured in a process of its own."""
    folder = build.build()
    outside, inside = contenders.all_contenders(folder, build.load_extension(folder))
    if interpreter:
        outside, inside = {BASE: outside[BASE]}, {INTERPRETER: inside["hotcall"]}
    wanted = {}
    groups = [Group(groups_of(outside, wanted))]
    with hotcall.installed():
        # Functions that are called back are those of a program that installs hotcall first.
        groups.append(Group(groups_of(inside, wanted), hotcall.install, hotcall.uninstall))
    times = {}
    for (name, label), result in alternate(groups, rounds, CALLS, WARMING).items():
        times.setdefault(name, {})[label] = result.times
    return times


def in_process(options, *arguments):
    """What a process with HOTCALL=`options` measures."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, env={**os.environ, "HOTCALL": options}, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    return json.loads(done.stdout)


def ratios(times):
    """How many times the time of the extension that holds the GIL each call takes, by contender and label."""
    found = {}
    for name, labelled in times.items():
        for label, values in labelled.items():
            base = times[BASE].get(label)
            if base:
                found.setdefault(name, {})[label] = Result(values).over(Result(base)).median
    return found


def compare(rounds):
    """The nanoseconds of the extension by label, and the ratios of all by contender and label."""
    times = in_process("threshold=1", rounds)
    apart = in_process("threshold=1,jit=off", rounds // 2 + 1, "--interpreter")
    found = ratios(times) | {INTERPRETER: ratios(apart)[INTERPRETER]}
    found = {name: found[name] for name in contenders.NAMES if name in found}
    return {label: min(values) for label, values in times[BASE].items()}, found


def show(least, found):
    """Prints the table: a row for each function, a column for each contender."""
    print(f"CPython {sys.version.split()[0]}: times of a call as multiples of the extension that holds the GIL\n")
    for number, name in enumerate(found, 1):
        print(f"  {number:2} {name}")
    print(f"\n{'':24}{'ns':>7}" + "".join(f"{number:>7}" for number in range(1, len(found) + 1)))
    for label in contenders.LABELS:
        if label in least:
            row = "".join(f"{of[label]:7.2f}" if label in of else f"{'':7}" for of in found.values())
            print(f"{label:24}{least[label]:7.1f}{row}")
    print(f"{'geometric mean':31}" + "".join(f"{statistics.geometric_mean(of.values()):7.2f}" for of in found.values()))
    print()
    drop_in = 1.0 if sys.version_info >= (3, 12) else 1.15
    for name, most in (("hotcall", drop_in), ("hotcall, bound", 0.8)):
        target(f"{name}: geometric mean", statistics.geometric_mean(found[name].values()), most)
    for made, most in ((False, 1.5), (True, 2.5)):
        share = {label: ratio for label, ratio in found["hotcall"].items() if (label in contenders.MADE) == made}
        worst = max(share, key=share.get)
        which = "that make objects of their own" if made else "of plain values"
        target(f"hotcall: the worst of {len(share)} calls {which}, {worst}", share[worst], most)


def target(what, value, most):
    print(f"{'pass' if value <= most else 'MISS'}  {what}: at most {most}; {value:.2f}")


def write(folder, least, found):
    """Records the ratios, in place of any of the same date."""
    path = folder / "peers-{}.{}.csv".format(*sys.version_info)
    columns = ["date", "call", "extension_held_ns", *contenders.NAMES]
    rows = [
        {
            "date": datetime.date.today(),
            "call": label,
            "extension_held_ns": f"{nanoseconds:.1f}",
            **{name: f"{of[label]:.2f}" for name, of in found.items() if label in of},
        }
        for label, nanoseconds in least.items()
    ]
    record.replace(path, datetime.date.today(), columns, rows)


def main():
    parser = argparse.ArgumentParser(prog="benches/python/peers", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="measure for a few seconds only")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write the ratios into a CSV file there")
    parser.add_argument("--measure", type=int, metavar="ROUNDS", help=argparse.SUPPRESS)
    parser.add_argument("--interpreter", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        return json.dump(measure(arguments.measure, arguments.interpreter), sys.stdout)
    least, found = compare(5 if arguments.quick else 150)
    show(least, found)
    if arguments.record:
        write(arguments.record, least, found)


if __name__ == "__main__":
    main()
