"""Checks that hotcall works here, and says what does not: ``python -m hotcall doctor``."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Callable
from typing import Any

import hotcall
from hotcall import _api

HEALTHY, WRONG, OFF, NO_STUBS = 0, 1, 2, 3
"""Exit statuses: all is well; a call was wrong; hotcall is off; it works without stubs."""

_CALLS = 300


def main() -> int:
    """Print what is found, a line each, and give the exit status."""
    _say("Python", f"{platform.python_implementation()} {platform.python_version()}")
    _say(
        "platform",
        f"{platform.system()} {platform.machine()}, {platform.libc_ver()[1] or 'no glibc'}",
    )
    version = _api._native.__version__ if _api._native is not None else "not loaded"
    _say("hotcall", version)
    _say("processor", _processor())
    _say("libffi of ctypes", _libffi())
    status = hotcall.status()
    if status.off is not None:
        _say("OFF", status.off)
        _say("advice", "programs run unchanged, on ctypes")
        return OFF
    with hotcall.installed():
        failures = _self_test(status.stubs_off is None)
        # Whether there is a thread for the monitor is known when a call has asked for it.
        status = hotcall.status()
    for failure in failures:
        _say("WRONG", failure)
    if failures:
        _say("advice", "do not use hotcall here, and report this output")
        return WRONG
    _say(
        "calls",
        "all right, by stubs and by the interpreter" if not status.stubs_off else "all right",
    )
    _say("GIL during calls", _gil(status))
    if status.stubs_off is not None:
        _say("NO STUBS", status.stubs_off)
        remedy = "take out jit=off" if "jit=off" in status.stubs_off else "allow executable memory"
        _say("advice", f"calls run in the interpreter; {remedy} for more speed")
        return NO_STUBS
    _say("executable memory", "granted; no page is writable and executable at once")
    _say("fields and byref", "on" if status.data else "off")
    return HEALTHY


def _say(what: str, text: str) -> None:
    sys.stdout.write(f"{what + ':':<20} {text}\n")


def _gil(status: hotcall.Status) -> str:
    """Who has the GIL during calls of functions for which nothing else was asked."""
    if status.gil != "lend":
        return "released" if status.gil == "release" else "held"
    return f"released, not lent: {status.lending_off}" if status.lending_off else "lent"


def _processor() -> str:
    """The processor's name, as far as the system tells."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [
                line.partition(":")[2].strip() for line in file if line.startswith("model name")
            ]
    except OSError:
        names = []
    return names[0] if names else platform.machine()


def _libffi() -> str:
    """The library that ctypes has loaded, as far as the system tells."""
    try:
        with open("/proc/self/maps", encoding="utf-8") as file:
            found = {line.split("/", 1)[1].strip() for line in file if "libffi" in line}
    except OSError:
        found = set()
    return "/" + sorted(found)[0] if found else "within ctypes"


def _self_test(stubs: bool) -> list[str]:
    """Make some calls, cold, interpreted and in stubs, and give what went wrong."""
    libc, libm = ctypes.CDLL(None, use_errno=True), ctypes.CDLL("libm.so.6")
    failures = []
    for name, (lib, result, types, arguments, want) in _cases(libc, libm).items():
        # A function object of our own, so that the program's are left alone.
        function = lib[name]
        function.restype, function.argtypes = result, types
        gave = [function(*arguments()) for _ in range(_CALLS)]
        wrong = [value for value in gave if value != want]
        if wrong:
            failures.append(f"{name} gave {wrong[0]!r}, not {want!r}")
        tier = hotcall.explain(function).tier
        if stubs and tier != "stub":
            failures.append(f"{name} is in tier {tier}, not in a stub")
    return failures


_Case = tuple[ctypes.CDLL, Any, list[Any], Callable[[], tuple[object, ...]], object]


def _cases(libc: ctypes.CDLL, libm: ctypes.CDLL) -> dict[str, _Case]:
    """For each function: its library, declaration, arguments, and the result that is right."""
    out = ctypes.c_int()
    return {
        "abs": (libc, ctypes.c_int, [ctypes.c_int], lambda: (-7,), 7),
        "strlen": (libc, ctypes.c_size_t, [ctypes.c_char_p], lambda: (b"hotcall",), 7),
        "ldexp": (libm, ctypes.c_double, [ctypes.c_double, ctypes.c_int], lambda: (1.5, 4), 24.0),
        "frexp": (
            libm,
            ctypes.c_double,
            [ctypes.c_double, ctypes.POINTER(ctypes.c_int)],
            lambda: (8.0, ctypes.byref(out)),
            0.5,
        ),
        "strchr": (
            libc,
            ctypes.c_char_p,
            [ctypes.c_char_p, ctypes.c_int],
            lambda: (b"a=b", 61),
            b"=b",
        ),
    }
