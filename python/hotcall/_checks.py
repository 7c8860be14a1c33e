"""What came of holding hotcall's calls against those of ctypes."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass

from hotcall import _api

_PROCESS = os.getpid()
"""The process that is checked: neither its children nor what they inherit is shown."""


@dataclass(frozen=True)
class Difference:
    """Something that hotcall does not do as ctypes does."""

    function: str
    """Its ``__name__``, or that of its class."""
    what: str
    """An argument, the result, or what else differs."""
    how: str
    """How it differs, in the first call."""
    count: int
    """In how many calls it does."""

    def __str__(self) -> str:
        """One line."""
        return f"{self.function}, {self.what}: {self.how} ({self.count} calls)"


@dataclass(frozen=True)
class Checks:
    """The calls that were checked so far; ``str()`` gives it as text."""

    checking: bool
    """Whether calls are checked: ``HOTCALL=check=1``, or ``python -m hotcall --check``."""
    stub: int
    """Calls in stubs that were checked."""
    interpreter: int
    """Calls in the interpreter that were checked."""
    unchecked: tuple[tuple[str, int], ...]
    """Why others were not, and how many. Cold calls are not among them: ctypes makes these."""
    differences: tuple[Difference, ...]
    """What differs from ctypes; empty if all is well."""

    def __str__(self) -> str:
        """A paragraph for people."""
        if not self.checking:
            return "calls are not checked"
        count = len(self.differences)
        verdict = {0: "no difference", 1: "1 DIFFERENCE"}.get(count, f"{count} DIFFERENCES")
        lines = [
            f"hotcall: {verdict} to ctypes in {self.stub} calls of stubs"
            f" and {self.interpreter} of the interpreter"
        ]
        if not self.stub + self.interpreter:
            lines = [
                "hotcall: nothing was checked: no warm function was called in this process"
                " (its children are not counted)"
            ]
        lines += [f"  {difference}" for difference in self.differences]
        lines += [f"  not checked, {calls} calls: {reason}" for reason, calls in self.unchecked]
        return "\n".join(lines)


def checks() -> Checks:
    """What came of the calls that were checked so far.

    Calls are checked where ``HOTCALL=check=1`` was set before hotcall was first used. Then each
    call of a warm function is first made twice to a function that only keeps what it is given,
    once by ctypes and once as hotcall would make it; what is passed, and what becomes of a result,
    is compared. Then the call is made, once.
    """
    if _api._native is None or _api.status().off:
        return Checks(False, 0, 0, (), ())
    native = _api._native.checked()
    if not native["checking"]:
        return Checks(False, 0, 0, (), ())
    return Checks(
        checking=True,
        stub=native["checked"][0],
        interpreter=native["checked"][1],
        unchecked=tuple((reason, count) for reason, count in native["unchecked"]),
        differences=tuple(Difference(*difference) for difference in native["differences"]),
    )


def write_at_exit() -> None:
    """Have the outcome shown when this process ends, not when a child of it does."""

    def write() -> None:
        if os.getpid() == _PROCESS and sys.stderr is not None:
            sys.stderr.write(f"\n{checks()}\n")

    atexit.register(write)


def differ_in_the_end() -> bool:
    """Wait for threads and run what is left for the exit; then tell whether there is a difference.

    The interpreter would do both next, in this order, and finds nothing left to do.
    """
    shutdown = getattr(sys.modules.get("threading"), "_shutdown", None)
    if shutdown is not None:
        shutdown()
    atexit._run_exitfuncs()
    return os.getpid() == _PROCESS and bool(checks().differences)
