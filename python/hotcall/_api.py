"""The public functions, on top of the native half of the package."""

from __future__ import annotations

import os
from _ctypes import CFuncPtr as _CFuncPtr
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

_missing = ""
try:
    from hotcall import _native as _native
except ImportError as _error:  # another processor, platform or kind of build
    _native = None  # type: ignore[assignment]
    _missing = f"the native module cannot be loaded: {_error}"
else:
    _native.configure(os.environ.get("HOTCALL", ""))


@dataclass(frozen=True)
class Shape:
    """One shape of arguments that was compiled for a function."""

    guards: tuple[str, ...]
    """The conditions on the arguments under which its stub makes the call."""
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
    """How many calls of the function it was counted for; 0 for all of them."""

    def __str__(self) -> str:
        """Name, advice, and the count if there is one."""
        times = f" ({self.count} calls)" if self.count else ""
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
    """Why none of its calls, or none of its traces, is accepted."""
    refusals: tuple[Refusal, ...]
    """The refusals of single calls."""
    shapes: tuple[Shape, ...]
    """What was compiled, oldest first. A call tries the newest first."""
    callback: Callback | None
    """Its callbacks, if it was made for a Python callable and hotcall knows it."""

    @property
    def code_bytes(self) -> int:
        """The size of its stubs in bytes, shared ones included."""
        return sum(shape.code_bytes for shape in self.shapes)

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
        lines += [f"  not this way, {refusal}" for refusal in self.refusals]
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


Gil = Literal["release", "lend", "hold"]
"""Who has the GIL during a foreign call.

``release``: nobody, as with ctypes. ``lend``: the caller; but it is taken away when the call
lasts or foreign code asks for it. ``hold``: the caller, by the user's word that the function is
short, does not block and does not wait for another Python thread. Functions of ``PyDLL`` always
hold it.
"""
_POLICIES = ("release", "lend", "hold")


def install(*, gil: Gil | None = None) -> None:
    """Accelerate all ctypes functions of the process, existing and future ones, in place.

    ``gil`` says who has the GIL during calls; None leaves that as it is, which at first is
    ``lend``, or what ``HOTCALL=gil=...`` says.

    Where hotcall cannot work nothing happens, and ``status()`` says why. Installing twice is
    the same as installing once. Raises ValueError if ``gil`` is no policy.
    """
    _check_policy(gil)
    if _native is not None:
        _native.install(gil)


def options(function: Callable[..., Any], *, gil: Gil | None = None) -> None:
    """Set who has the GIL during the calls of one ctypes function; None: as in the process.

    Where hotcall is off nothing happens. Raises TypeError if it is not a ctypes function,
    ValueError if ``gil`` is no policy.
    """
    if not isinstance(function, _CFuncPtr):
        given = type(function).__name__
        raise TypeError(f"hotcall.options: expected a ctypes function, not {given}")
    _check_policy(gil)
    if _native is not None:
        _native.set_options(function, gil)


def bind(function: Callable[..., Any]) -> Callable[..., Any]:
    """A built-in function that does what a ctypes function does, and is called faster.

    ``bind(f)(...)`` is ``f(...)``: the same arguments, keywords, results and errors, whatever
    becomes of the declaration of ``f``, which is its ``__self__`` and stays alive with it. It
    has ``f``'s name and documentation. CPython calls built-in functions faster than other
    objects, so this is for functions that are called often from Python code::

        cos = hotcall.bind(libm.cos)

    It works whether hotcall is installed or not, and where it is off. Raises TypeError if it
    is not a ctypes function.
    """
    if _native is not None:
        return _native.bind(function)
    if not isinstance(function, _CFuncPtr):
        given = type(function).__name__
        raise TypeError(f"hotcall.bind: expected a ctypes function, not {given}")
    # A method of the function, which is as near to it as there is.
    return function.__call__


def _check_policy(gil: str | None) -> None:
    if gil is not None and gil not in _POLICIES:
        raise ValueError(
            f"hotcall: {gil!r} is no policy of the GIL; expected 'release', 'lend' or 'hold'"
        )


def uninstall() -> None:
    """Put everything back as it was before ``install()``; harmless if it was not called."""
    if _native is not None:
        _native.uninstall()


@contextmanager
def installed() -> Iterator[None]:
    """Accelerate ctypes within a ``with`` block; leave it as it was found."""
    before = status().installed
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


def status() -> Status:
    """What is on, what is off, and why."""
    if _native is None:
        return Status(False, _missing, None, None, None, False, None)
    native = _native.status()
    return Status(
        installed=native["installed"],
        off=native["off"],
        stubs_off=native["stubs_off"],
        gil=native["gil"],
        lending_off=native["lending_off"],
        data=native["data"],
        callbacks_off=native["callbacks_off"],
    )


def stats() -> dict[str, Any]:
    """Figures of the process, as a new dict.

    ``functions`` (with a call site), ``shapes`` (stubs in their chains), ``full_chains``,
    ``renewals`` (chains that were dropped for new shapes), ``thefts`` (how often the GIL was
    taken away from a call that had lent it), ``yields`` (how often calls gave other threads a
    chance), ``demotions`` (functions that release the GIL since lending it did not pay),
    ``stubs``, ``code_bytes``, ``code_capacity``; of callbacks ``callbacks`` (functions that live),
    ``callback_shapes``, ``callback_stubs``, ``trampolines``, and ``callback_refusals``, a dict from
    name to the number of functions; and, where ``HOTCALL=count=1`` was set before the import
    (``counting`` is then True), the exact numbers of calls: ``stub_calls``,
    ``interpreter_calls``, ``ctypes_calls``, ``stub_callbacks``, ``interpreter_callbacks``, and
    ``refusals``, a dict from name to number.
    Where hotcall is off, all figures are 0.
    """
    if _native is None or _native.status()["off"]:
        names = ("stub_calls", "interpreter_calls", "ctypes_calls")
        sites = ("functions", "shapes", "full_chains", "renewals")
        gil = ("thefts", "yields", "demotions")
        code = ("stubs", "code_bytes", "code_capacity", "trampolines")
        back = ("callbacks", "callback_shapes", "callback_stubs")
        called = ("stub_callbacks", "interpreter_callbacks")
        figures = dict.fromkeys(names + sites + gil + code + back + called, 0)
        return {"counting": False, **figures, "refusals": {}, "callback_refusals": {}}
    return dict(_native.stats())


def explain(function: Callable[..., Any]) -> Explanation:
    """Tell in which tier a ctypes function is, what it was compiled for, and what was refused.

    Raises TypeError if it is not a ctypes function, RuntimeError where hotcall is off.
    """
    return _explain("explain", function)


def trace(function: Callable[..., Any]) -> str:
    """The traces of a ctypes function as text, oldest first; empty if it has none.

    Raises TypeError if it is not a ctypes function, RuntimeError where hotcall is off.
    """
    return "\n".join(shape.trace for shape in _explain("trace", function).shapes)


def disassemble(function: Callable[..., Any]) -> str:
    """The stubs of a ctypes function as text, oldest first; empty if it has none.

    Raises TypeError if it is not a ctypes function, RuntimeError where hotcall is off.
    """
    return "\n".join(shape.disassembly for shape in _explain("disassemble", function).shapes)


def _explain(caller: str, function: Callable[..., Any]) -> Explanation:
    if _native is None:
        raise RuntimeError(f"hotcall is off: {_missing}")
    native = _native.explain(caller, function)
    refused = native["refused"]
    return Explanation(
        name=native["name"],
        tier=native["tier"],
        gil=native["gil"],
        signature=native["signature"],
        refused=Refusal(refused[0], refused[1], 0) if refused else None,
        refusals=tuple(Refusal(*refusal) for refusal in native["refusals"]),
        shapes=tuple(
            Shape(
                tuple(shape["guards"]),
                shape["trace"],
                shape["code_bytes"],
                shape["disassembly"],
            )
            for shape in native["shapes"]
        ),
        callback=_callback(native["callback"]),
    )


def _callback(native: dict[str, Any] | None) -> Callback | None:
    if native is None:
        return None
    refused = native["refused"]
    refusal = Refusal(refused[0], refused[1], 0) if refused else None
    return Callback(**{**native, "refused": refusal})
