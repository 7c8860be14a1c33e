"""What is told of functions and of the process, as data. It is imported when it is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Gil = Literal["release", "lend", "hold"]
"""Who has the GIL during a foreign call.

``release``: nobody, as with ctypes. ``lend``: the caller; but it is taken away when the call
lasts or foreign code asks for it. ``hold``: the caller, by the user's word that the function is
short, does not block and does not wait for another Python thread. Functions of ``PyDLL`` always
hold it.
"""


def counted(number: object, noun: str) -> str:
    """A number of things, in words: ``1 call``, ``2 calls``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True)
class Shape:
    """One shape of arguments that was compiled for a function."""

    guards: tuple[str, ...]
    """The conditions on the arguments under which its stub makes the call, or the loop."""
    trace: str
    """What the stub does, as text, one instruction a line."""
    code_bytes: int
    """The size of its machine code in bytes."""
    disassembly: str
    """Its machine code as text, one instruction a line."""


@dataclass(frozen=True)
class Refusal:
    """Why calls stayed on ctypes."""

    name: str
    """The name under which it is counted in ``stats()["refusals"]``."""
    advice: str
    """What it means."""
    count: int
    """How many calls of the function it was counted for, until ctypes was left to make others
    like them unasked; 0 for all of them."""

    def __str__(self) -> str:
        """Name, advice, and the count if there is one."""
        times = f" ({counted(self.count, 'call')})" if self.count else ""
        return f"{self.name}: {self.advice}{times}"


@dataclass(frozen=True)
class Callback:
    """What is known of the callbacks of a function that was made for a Python callable."""

    tier: str
    """``interpreter``, ``stub``, or ``ctypes`` (refused)."""
    signature: str | None
    """The C function that it is; None if that is refused."""
    refused: Refusal | None
    """Why ctypes makes them, or why there is no native code for them."""
    trace: str | None
    """What the native code does, as text, one instruction a line; None if there is none."""
    code_bytes: int
    """The size of the native code in bytes."""
    disassembly: str | None
    """The native code as text, one instruction a line; None if there is none."""

    def __str__(self) -> str:
        """One line for people, and a second one if something was refused."""
        line = f"callbacks: {self.tier}" + (f", {self.signature}" if self.signature else "")
        if self.code_bytes:
            line += f", {self.code_bytes} bytes of code"
        return line + (f"\n    refused, {self.refused}" if self.refused else "")


@dataclass(frozen=True)
class Explanation:
    """What is known of a ctypes function; ``str()`` gives it as text."""

    name: str
    """Its ``__name__``."""
    tier: str
    """``cold`` (ctypes, until it is warm), ``interpreter``, ``stub``, or ``ctypes`` (refused)."""
    gil: str | None
    """Who has the GIL during its calls: ``release``, ``lend`` or ``hold``, and why if it was
    changed for it; None while it is cold or if it is refused."""
    signature: str | None
    """Its declaration; None if that is refused."""
    refused: Refusal | None
    """Why none of its calls, or none of its traces, is accepted; ``not-installed`` where hotcall
    is not."""
    refusals: tuple[Refusal, ...]
    """The refusals of single calls."""
    shapes: tuple[Shape, ...]
    """What was compiled, oldest first. A call tries the newest first."""
    loops: tuple[Shape, ...]
    """The loops of ``map``, oldest first; their guards say what columns they are for."""
    callback: Callback | None
    """Its callbacks, if it was made for a Python callable and hotcall knows it."""

    @property
    def code_bytes(self) -> int:
        """The size of its stubs in bytes, shared ones included."""
        return sum(shape.code_bytes for shape in self.shapes + self.loops)

    def __str__(self) -> str:
        """A paragraph for people."""
        lines = [f"{self.name}: {self.tier}" + (f", {self.signature}" if self.signature else "")]
        if self.refused:
            lines.append(f"  refused, {self.refused}")
        if self.gil and not self.refused:
            lines.append(f"  GIL: {self.gil}")
        for number, shape in enumerate(self.shapes, 1):
            lines.append(f"  shape {number}, {shape.code_bytes} bytes of code, if")
            lines += [f"    {guard}" for guard in shape.guards]
        for number, shape in enumerate(self.loops, 1):
            lines.append(f"  loop {number}, {shape.code_bytes} bytes of code, over")
            lines += [f"    {guard}" for guard in shape.guards]
        lines += [f"  not this way, {refusal}" for refusal in self.refusals]
        if self.refusals and self.tier == "ctypes":
            lines.append("  so ctypes makes the next calls too, which are not counted here")
        if self.callback:
            lines.append(f"  {self.callback}")
        return "\n".join(lines)


@dataclass(frozen=True)
class Status:
    """What is on, what is off, and why; ``str()`` gives it as text."""

    installed: bool
    """Whether ctypes is accelerated."""
    off: str | None
    """Why hotcall cannot work in this process; None if it can."""
    stubs_off: str | None
    """Why calls are interpreted but not compiled; None if they are compiled."""
    gil: str | None
    """Who has the GIL during calls unless a function says otherwise: ``release``, ``lend`` or
    ``hold``; None where hotcall is off."""
    lending_off: str | None
    """Why calls that would lend the GIL release it instead; None if they lend it."""
    data: bool
    """Whether fields of structures, and ``byref``, are made faster where hotcall is installed."""
    callbacks_off: str | None
    """Why callbacks are left to ctypes; None if they are made faster."""

    def __str__(self) -> str:
        """One line for each part."""
        if self.off:
            return f"hotcall: off, {self.off}"
        return "\n".join(
            [
                "hotcall: " + ("installed" if self.installed else "not installed"),
                "stubs: " + (f"off, {self.stubs_off}" if self.stubs_off else "on"),
                f"GIL: {self.gil}"
                + (f" (not lent, {self.lending_off})" if self.lending_off else ""),
                "fields and byref: " + ("on" if self.data else "off"),
                "callbacks: " + (f"off, {self.callbacks_off}" if self.callbacks_off else "on"),
            ]
        )
