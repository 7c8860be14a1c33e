"""What came of holding hotcall's calls against those of ctypes."""

from __future__ import annotations

import atexit
import os
import sys
from dataclasses import dataclass

from hotcall import _api
from hotcall._facts import counted

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
        return f"{self.function}, {self.what}: {self.how} ({counted(self.count, 'call')})"


@dataclass(frozen=True)
class Checks:
    """The calls that were checked so far; ``str()`` gives it as text."""

    checking: bool
    """Whether calls are checked: ``HOTCALL=check=1``, or ``python -m hotcall --check``."""
    stub: int
    """Calls in stubs that were checked."""
    interpreter: int
    """Calls in the interpreter that were checked."""
    by_ctypes: tuple[tuple[str, int], ...]
    """Calls that ctypes made: the name of the refusal, or ``cold`` for those of functions that
    were not warm yet, and how many."""
    unchecked: tuple[tuple[str, int], ...]
    """Why others were not checked, and how many."""
    differences: tuple[Difference, ...]
    """What differs from ctypes; empty if all is well."""

    def __str__(self) -> str:
        """A paragraph for people."""
        if not self.checking:
            return "calls are not checked"
        checked = self.stub + self.interpreter
        lines = [f"hotcall: {self._verdict() if checked else self._why_nothing()}"]
        lines += [f"  {difference}" for difference in self.differences]
        others = list(self.unchecked)
        if checked or others:
            others += [
                (f"ctypes made {'it' if calls == 1 else 'them'}, {_why(name)}", calls)
                for name, calls in self.by_ctypes
            ]
        lines += [f"  not checked, {counted(calls, 'call')}: {reason}" for reason, calls in others]
        return "\n".join(lines)

    def _verdict(self) -> str:
        """What came of the calls that were checked."""
        count = len(self.differences)
        found = {0: "no difference", 1: "1 DIFFERENCE"}.get(count, f"{count} DIFFERENCES")
        stub = counted(self.stub, "call")
        return f"{found} to ctypes in {stub} of stubs and {self.interpreter} of the interpreter"

    def _why_nothing(self) -> str:
        """Why no call was checked."""
        count = sum(calls for _, calls in self.by_ctypes)
        if self.unchecked:
            return "nothing was checked"
        if not count:
            return (
                "nothing was checked: no foreign function was called in this process"
                " (its children are not counted)"
            )
        reasons = [f"{calls} {_why(name)}" for name, calls in self.by_ctypes]
        if len(reasons) == 1:
            reasons = [_why(self.by_ctypes[0][0])]
        made = "the only call" if count == 1 else f"all {count} calls"
        return f"nothing was checked: ctypes made {made} ({', '.join(reasons)})"


def _why(name: str) -> str:
    """Why ctypes made calls, in words."""
    return "not warm yet" if name == "cold" else name


def checks() -> Checks:
    """What came of the calls that were checked so far.

    Calls are checked where ``HOTCALL=check=1`` was set before hotcall was first used. Then each
    call of a warm function is first made twice to a function that only keeps what it is given,
    once by ctypes and once as hotcall would make it; what is passed, and what becomes of a result,
    is compared. Then the call is made, once.
    """
    if _api._native is None or _api.status().off:
        return Checks(False, 0, 0, (), (), ())
    native = _api._native.checked()
    if not native["checking"]:
        return Checks(False, 0, 0, (), (), ())
    return Checks(
        checking=True,
        stub=native["checked"][0],
        interpreter=native["checked"][1],
        by_ctypes=tuple((name, count) for name, count in native["by_ctypes"]),
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
