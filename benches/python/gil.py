"""Measures what each policy of the GIL costs and does to other threads, against plain ctypes and a hand-written extension
that holds or releases the GIL, and prints the results as JSON.

Run as `gil.py ROUNDS` with HOTCALL=threshold=1. All contenders call `int negate(int)`.
"""

import json
import statistics
import sys
import threading
import time
from ctypes import CDLL, c_int

import hotcall

import build
from timing import Contender, Group, alternate

CALLS = 2000
POLICIES = ("release", "lend", "hold")
# One measurement with several threads lasts so long, in seconds.
SPAN = 0.25
# A thread that waits for the GIL asks for it so often, in seconds.
PAUSE = 0.001


def contenders():
    """Functions by name, each with what has to be done before it is timed, and behind it."""
    folder = build.build()
    extension = build.load_extension(folder)

    def declared():
        function = CDLL(str(folder / "functions.so"))["negate"]
        function.argtypes = [c_int]
        return function

    def nothing():
        pass

    found = {
        "extension, held": (extension.held_negate, nothing, nothing),
        "extension, released": (extension.negate, nothing, nothing),
        "ctypes": (declared(), nothing, nothing),
    }
    for policy in POLICIES:
        function = declared()
        hotcall.options(function, gil=policy)
        found[f"hotcall, {policy}"] = (function, hotcall.install, hotcall.uninstall)
    return found


def alone(found, rounds):
    groups = [Group([Contender(name, function, (5,))], enter, leave) for name, (function, enter, leave) in found.items()]
    return {name: result.times for name, result in alternate(groups, rounds, CALLS).items()}


def caller(function, stop):
    """Calls until told to stop; gives how often."""
    count = 0
    while not stop.is_set():
        for _ in range(100):
            function(5)
        count += 100
    return count


def spinner(stop):
    """Counts until told to stop."""
    count = 0
    while not stop.is_set():
        count += 1
    return count


def waiter(stop, waits):
    """Sleeps again and again, and notes how much later than asked it had the GIL, in microseconds."""
    while not stop.is_set():
        started = time.perf_counter()
        time.sleep(PAUSE)
        waits.append((time.perf_counter() - started - PAUSE) * 1e6)
    return len(waits)


def together(*works):
    """Runs each in a thread of its own for a while; gives what each did a second."""
    stop = threading.Event()
    counts = [0] * len(works)

    def body(index):
        counts[index] = works[index](stop)

    threads = [threading.Thread(target=body, args=(index,)) for index in range(len(works))]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(SPAN)
    stop.set()
    for thread in threads:
        thread.join()
    taken = time.perf_counter() - started
    return [count / taken for count in counts]


def with_others(found, rounds):
    """By name: rates beside a spinning thread and of several callers, and waiting times, each a list over the rounds."""
    seen = {name: {"caller": [], "spinner": [], "two callers": [], "four callers": [], "waits": []} for name in found}
    for _ in range(rounds):
        for name, (function, enter, leave) in found.items():
            enter()
            for _ in range(10):
                function(5)

            def calls(stop, function=function):
                return caller(function, stop)

            own, other = together(calls, spinner)
            seen[name]["caller"].append(own)
            seen[name]["spinner"].append(other)
            seen[name]["two callers"].append(sum(together(calls, calls)))
            seen[name]["four callers"].append(sum(together(calls, calls, calls, calls)))
            waits = seen[name]["waits"]
            together(calls, lambda stop, waits=waits: waiter(stop, waits))
            leave()
    return seen


def summary(seen):
    """The median of each rate, and percentiles of the waiting times."""
    waits = sorted(seen.pop("waits"))
    rates = {name: statistics.median(values) for name, values in seen.items()}
    places = {"wait 50 %": len(waits) // 2, "wait 99 %": len(waits) * 99 // 100, "wait at most": len(waits) - 1}
    return {**rates, **{name: waits[place] for name, place in places.items()}}


def main():
    rounds = int(sys.argv[1])
    found = contenders()
    single = alone(found, rounds)
    others = {name: summary(seen) for name, seen in with_others(found, max(2, rounds // 20)).items()}
    json.dump({"alone": single, "others": others}, sys.stdout)


if __name__ == "__main__":
    main()
