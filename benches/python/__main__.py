"""Compares hotcall with plain ctypes and with a hand-written extension module, on the Python that runs this.

`python benches/python` prints tables and whether the targets are met; `--record FOLDER` also writes the ratios into that
folder, and `--quick` measures for a few seconds only. The exit status tells whether all results were right, not how fast
they came.
"""

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import hotcall

import build
import record
import report
from timing import Result

HERE = Path(__file__).resolve().parent
FULL = {"calls": 300, "cold": 150, "kinds": 100, "gil": 200, "callbacks": 150, "columns": 40, "warmup": 40}
QUICK = {"calls": 15, "cold": 15, "kinds": 10, "gil": 10, "callbacks": 10, "columns": 5, "warmup": 4}


def measure(script, options, *args):
    """Runs one of the measuring programs with HOTCALL=`options`, which hotcall reads once in a process."""
    environment = {**os.environ, "HOTCALL": options}
    command = [sys.executable, HERE / script, *map(str, args)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"error: {script} failed with HOTCALL={options!r}")
    return json.loads(done.stdout)


def results(times):
    """Lists of times as results."""
    return {name: Result(values) for name, values in times.items()}


def labelled(times):
    """Lists of times by label and name, as results."""
    return {label: results(named) for label, named in times.items()}


def call_results(measured):
    return {label: results(case["times"]) for label, case in measured.items()}


def measure_all(rounds):
    """Everything that is measured, as a `report.Measured`."""
    stubs = measure("calls.py", "threshold=1", rounds["calls"])
    interpreter = measure("calls.py", "threshold=1,jit=off", rounds["calls"] // 2)
    cold = measure("cold.py", "", rounds["cold"])
    gil = measure("gil.py", "threshold=1", rounds["gil"])
    return report.Measured(
        stubs=call_results(stubs),
        sizes={label: case["bytes"] for label, case in stubs.items()},
        interpreter=call_results(interpreter),
        cold=labelled(cold),
        compiling=measure("compiling.py", "threshold=1"),
        gil={name: report.Gil(Result(times), gil["others"][name]) for name, times in gil["alone"].items()},
        kinds=labelled(measure("kinds.py", "threshold=1", rounds["kinds"])),
        callbacks=labelled(measure("callbacks.py", "threshold=1", rounds["callbacks"])),
        warmup=measure("warmup.py", "", rounds["warmup"]),
        columns=labelled(measure("columns.py", "threshold=1", rounds["columns"])),
    )


def why_not():
    """Why nothing can be compared here; None if it can."""
    try:
        build.build()
    except build.CannotBuild as error:
        return error
    return hotcall.status().off


def main():
    parser = argparse.ArgumentParser(prog="benches/python", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="measure for a few seconds only")
    parser.add_argument("--record", type=Path, metavar="FOLDER", help="write the ratios into a CSV file there")
    arguments = parser.parse_args()
    reason = why_not()
    if reason:
        print(f"#### SKIPPED: the comparison on Python {platform.python_version()}: {reason} ####")
        return
    measured = measure_all(QUICK if arguments.quick else FULL)
    print(f"CPython {platform.python_version()}")
    print()
    report.show(measured)
    if arguments.record:
        version = "{}.{}".format(*sys.version_info)
        record.write(arguments.record / f"python-{version}.csv", datetime.date.today(), measured)
        record.write_gil(arguments.record / f"gil-{version}.csv", datetime.date.today(), measured.gil)
        record.write_kinds(arguments.record / f"kinds-{version}.csv", datetime.date.today(), measured.kinds)
        record.write_warmup(arguments.record / f"warmup-{version}.csv", datetime.date.today(), measured.warmup)
        record.write_columns(arguments.record / f"columns-{version}.csv", datetime.date.today(), measured.columns)
        record.write_callbacks(arguments.record / f"callbacks-{version}.csv", datetime.date.today(), measured.callbacks)


if __name__ == "__main__":
    main()
