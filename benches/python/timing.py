"""Times contenders against each other: in one process, in turns, with the time of the loop itself subtracted."""

import gc
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import repeat
from time import perf_counter_ns


def make_loop(count):
    """A function `loop(times, function, args)` that calls `function` with `count` arguments for each item of `times`.

    Each contender gets one of its own, because CPython specialises a call instruction for the function that it meets.
    `count` is None for a loop that calls nothing.
    """
    names = [f"a{index}" for index in range(count or 0)]
    unpack = f"{', '.join(names)}, = args" if names else "pass"
    body = "pass" if count is None else f"function({', '.join(names)})"
    source = f"def loop(times, function, args):\n    {unpack}\n    for _ in times:\n        {body}\n"
    scope = {}
    exec(source, scope)
    return scope["loop"]


@dataclass
class Contender:
    """A function under one condition, and the time of a call in each round."""

    name: tuple | str
    function: Callable
    args: tuple
    times: list = field(default_factory=list)
    """Nanoseconds a call, that of the loop included."""

    def __post_init__(self):
        self.loop = make_loop(None if self.function is None else len(self.args))

    def warm(self, calls):
        self.loop(repeat(None, calls), self.function, self.args)

    def time(self, calls):
        times = repeat(None, calls)
        started = perf_counter_ns()
        self.loop(times, self.function, self.args)
        self.times.append((perf_counter_ns() - started) / calls)


class Statement(Contender):
    """A statement over the arguments a0, a1 and so on, and what else it names."""

    def __init__(self, name, statement, args, names=()):
        super().__init__(name, lambda: None, args)
        unpacked = "".join(f"a{index}, " for index in range(len(args)))
        scope = dict(names)
        exec(f"def loop(times, _, args):\n    {unpacked} = args\n    for _ in times:\n        {statement}\n", scope)
        self.loop = scope["loop"]


@dataclass
class Group:
    """Contenders that are timed under one condition, which `enter` makes and `leave` ends."""

    contenders: list
    enter: Callable[[], None] = lambda: None
    leave: Callable[[], None] = lambda: None

    def run(self, calls, warming):
        self.enter()
        for contender in self.contenders:
            contender.warm(warming)
            contender.time(calls)
        self.leave()


def alternate(groups, rounds, calls, warming=20):
    """Times every contender of the groups once a round, in both orders by turns, beside an empty loop.

    All that is to be compared, or stands in one table, belongs in one call, so that every contender meets the machine in
    all its moods. Returns a dict from the contender's name to its `Result`.
    """
    empty = Contender("empty", None, ())
    groups = [Group([empty]), *groups]
    gc.collect()
    gc.disable()
    try:
        for number in range(rounds):
            for group in groups if number % 2 else reversed(groups):
                group.run(calls, warming)
    finally:
        gc.enable()
    loop = min(empty.times)
    contenders = [contender for group in groups[1:] for contender in group.contenders]
    return {contender.name: Result([time - loop for time in contender.times]) for contender in contenders}


@dataclass
class Result:
    """The times of one contender in nanoseconds, one for each round."""

    times: list

    @property
    def least(self):
        return min(self.times)

    def over(self, other):
        """How many times the time of `other` this one takes."""
        middle = statistics.median(mine / theirs for mine, theirs in zip(self.times, other.times, strict=True))
        return Ratio(middle, self.least / other.least)


@dataclass(frozen=True)
class Ratio:
    """A ratio of times. Where the two figures differ much, the machine was too busy to say."""

    median: float
    """The median of the ratios in each round. It is the one to judge by, as both times of a round met the same conditions."""
    least: float
    """The ratio of the minima."""

    def __str__(self):
        return f"{self.median:.2f} ({self.least:.2f})"
