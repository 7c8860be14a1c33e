"""Runs ordinary ctypes bindings of libm, libc, zlib and sqlite3, with and without hotcall, in one process.

Prints how long a call takes each way, and checks that both gave the same. The exit status tells whether they did.
"""

import sys
from collections import Counter
from dataclasses import dataclass
from time import perf_counter_ns

import hotcall
import workloads
from libraries import Missing

ROUNDS = 10
# Runs until each function has been called often enough to be compiled.
WARMING = 4


@dataclass
class Timed:
    """The best times of one workload in nanoseconds a call, and what it gave."""

    workload: workloads.Workload
    plain: float
    hot: float
    tiers: Counter
    same: bool


def time_run(workload):
    """The time of one run in nanoseconds a call, and its result."""
    started = perf_counter_ns()
    result = workload.run()
    return (perf_counter_ns() - started) / workload.calls, result


def compare(workload):
    """Runs a workload both ways by turns."""
    plain, hot, same = [], [], True
    for _ in range(ROUNDS):
        time, expected = time_run(workload)
        plain.append(time)
        with hotcall.installed():
            # The functions get warm in the first runs after the installation, which must be right all the same.
            results = [time_run(workload)[1] for _ in range(WARMING)]
            time, result = time_run(workload)
            hot.append(time)
            tiers = Counter(tier(function) for function in workload.functions)
        # The text of a result has all its digits, and tells an int from a float and 0.0 from -0.0.
        same = same and {repr(each) for each in [*results, result]} == {repr(expected)}
    return Timed(workload, min(plain), min(hot), tiers, same)


def tier(function):
    """Where hotcall runs the calls of a function."""
    return "off" if hotcall.status().off else hotcall.explain(function).tier


def show(timed):
    """Prints the line of one workload."""
    tiers = ", ".join(tier if count == 1 else f"{count} {tier}s" for tier, count in timed.tiers.items())
    times = f"{timed.plain:7.0f} ns {timed.hot:7.0f} ns {timed.plain / timed.hot:6.1f}x"
    print(f"{timed.workload.name:26}{times}   {tiers}{'' if timed.same else '   RESULTS DIFFER'}")


def main():
    print("Nanoseconds a foreign call, with the Python code around it:\n")
    print(f"{'':26}{'ctypes':>10} {'hotcall':>10} {'ratio':>7}   tiers of the functions")
    same, example = True, None
    for group in workloads.GROUPS:
        try:
            for workload in group():
                timed = compare(workload)
                show(timed)
                same = same and timed.same
                example = example or workload
        except Missing as missing:
            print(f"{group.__name__:26}skipped: {missing}")
    print("\nAll results are the same both ways." if same else "\nRESULTS DIFFER")
    show_hotcall(example)
    return 0 if same else 1


def show_hotcall(workload):
    """What hotcall says of itself, and of one function that it has made fast."""
    with hotcall.installed():
        print(f"\n{hotcall.status()}")
        if workload and not hotcall.status().off:
            workload.run()
            print(f"\n{hotcall.explain(workload.functions[0])}")


if __name__ == "__main__":
    sys.exit(main())
