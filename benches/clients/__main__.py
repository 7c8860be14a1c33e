"""Runs programs over real bindings with and without hotcall, and compares: results, shares of calls, and times.

    python benches/clients [--quick] [--instructions] [--record FOLDER]

Each run is a process of its own; runs with and without hotcall alternate. The results must be the same, and at least
95 of 100 calls must run in stubs: the exit status says so. Times are shown and recorded, never judged.
"""

import argparse
import csv
import datetime
import hashlib
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NAMES = ["solver", "syntax", "pages", "opcodes"]
LEAST_SHARE = 0.95
ROUNDS = 7
TIERS = ["stub_calls", "interpreter_calls", "ctypes_calls"]
COLUMNS = ["date", "client", "calls", "in_stubs", "ctypes_seconds", "hotcall_seconds", "times_as_fast", "of_way_to_ceiling"]
COLUMNS += ["fewer_instructions", "of_way_by_instructions"]


def child(name, size, mode):
    """Does the work once, after a short warm-up, and prints what came of it."""
    if mode != "plain":
        import hotcall

        hotcall.install()
    client = importlib.import_module(name)
    state = client.setup()
    client.work(max(1, size // 20), state)
    started = time.perf_counter()
    result = client.work(size, state)
    seconds = time.perf_counter() - started
    report = {"seconds": seconds, "result": hashlib.sha256(repr(result).encode()).hexdigest()}
    if mode == "count":
        report["stats"] = hotcall.stats()
    print(json.dumps(report))


def run(name, size, mode):
    """What a child reports."""
    environment = {key: value for key, value in os.environ.items() if key != "HOTCALL"}
    if mode == "count":
        environment["HOTCALL"] = "count=1"
    command = [sys.executable, __file__, "--child", name, "--size", str(size), "--mode", mode]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=600)
    if done.returncode:
        sys.exit(f"error: {name} ({mode}) ended with status {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def instructions(name, size, mode):
    """How many instructions callgrind counts for the work: the difference of two sizes, since all else is the same in both."""
    counts = []
    for work in (size // 3, size):
        with tempfile.TemporaryDirectory() as folder:
            tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={folder}/out"]
            command = [*tool, sys.executable, __file__, "--child", name, "--size", str(work), "--mode", mode]
            # The order of dictionaries' entries is the same in all runs.
            environment = {**os.environ, "PYTHONHASHSEED": "0"}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=3600)
        found = re.search(r"refs:\s+([\d,]+)", done.stderr)
        if done.returncode or not found:
            sys.exit(f"error: {name} ({mode}) cannot be counted: {done.stderr[-500:]}")
        counts.append(int(found[1].replace(",", "")))
    return counts[1] - counts[0]


def of_way(name, faster):
    """How far that is on the way to the ceilings of this version."""
    ceiling = importlib.import_module(name).CEILING.get(f"{sys.version_info[0]}.{sys.version_info[1]}")
    return "/".join(f"{(faster - 1) / (most - 1):.2f}" for most in ceiling or ())


def measure(name, quick):
    """One row of the table, and what is wrong with it."""
    client = importlib.import_module(name)
    size = 2 if quick else client.SIZE
    counted = run(name, client.SIZE, "count")
    times = {"plain": [], "hotcall": []}
    results = set() if quick else {counted["result"]}
    for _ in range(1 if quick else ROUNDS):
        for mode, seconds in times.items():
            report = run(name, size, mode)
            seconds.append(report["seconds"])
            results.add(report["result"])
    stats = counted["stats"]
    calls = [stats[tier] for tier in TIERS]
    share = calls[0] / sum(calls)
    faster = statistics.median(map(lambda old, new: old / new, *times.values()))
    row = {
        "client": name,
        "calls": sum(calls),
        "in_stubs": f"{share:.4f}",
        "ctypes_seconds": f"{min(times['plain']):.3f}",
        "hotcall_seconds": f"{min(times['hotcall']):.3f}",
        "times_as_fast": f"{faster:.2f}",
        "of_way_to_ceiling": of_way(name, faster),
    }
    wrong = []
    if len(results) != 1:
        wrong.append(f"{name}: the results differ")
    if share < LEAST_SHARE:
        wrong.append(f"{name}: only {share:.1%} of the calls ran in stubs")
    return row, stats["refusals"], wrong


def show(row, refusals):
    """Prints a row; refusals follow it by count."""
    print(
        f"{row['client']:10} {row['calls']:9,} {float(row['in_stubs']):8.2%} {row['ctypes_seconds']:>9} {row['hotcall_seconds']:>9}"
        f" {row['times_as_fast']:>7} {row['of_way_to_ceiling']:>12}"
    )
    for refusal, count in sorted(refusals.items(), key=lambda pair: -pair[1]):
        print(f"{'':10} {count:9,} refused: {refusal}")


def record(folder, rows):
    """Adds the rows to the history of this version, in place of any of the same date."""
    path = folder / f"clients-{sys.version_info[0]}.{sys.version_info[1]}.csv"
    today = str(datetime.date.today())
    known = []
    if path.exists():
        with path.open(newline="") as file:
            known = [row for row in csv.DictReader(file) if row["date"] != today]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(known + [{"date": today, **row} for row in rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one short run of each: results and shares alone")
    parser.add_argument("--instructions", action="store_true", help="count instructions too, which do not vary as times do")
    parser.add_argument("--record", type=Path, help="the folder of the history")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--mode", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        return child(given.child, given.size, given.mode)
    print(f"Python {sys.version.split()[0]}; the ceiling is that of calls / of all of ctypes costing nothing")
    print(f"{'client':10} {'calls':>9} {'in stubs':>8} {'ctypes s':>9} {'hotcall s':>9} {'ratio':>7} {'of the way':>12}")
    rows, wrong = [], []
    for name in NAMES:
        row, refusals, faults = measure(name, given.quick)
        show(row, refusals)
        rows.append(row)
        wrong += faults
        if given.instructions:
            plain, hot = (instructions(name, importlib.import_module(name).SIZE, mode) for mode in ("plain", "hotcall"))
            row |= {"fewer_instructions": f"{plain / hot:.2f}", "of_way_by_instructions": of_way(name, plain / hot)}
            print(f"{'':10} {plain:,} to {hot:,} instructions: {row['fewer_instructions']}, {row['of_way_by_instructions']}")
    if given.record:
        record(given.record, rows)
    sys.exit("\n".join(f"error: {fault}" for fault in wrong) or 0)


main()
