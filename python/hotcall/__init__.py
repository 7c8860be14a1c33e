"""A tracing JIT for foreign calls: unchanged ctypes code at the speed of an extension module.

    import hotcall
    hotcall.install()

From then on every ctypes function of the process, made before or after, runs in native code
once it is hot, and does exactly what it did before. What hotcall does not cover stays with
ctypes; ``explain(f)`` names the reason.
"""

from hotcall._api import (
    Callback,
    Explanation,
    Gil,
    Shape,
    Status,
    bind,
    disassemble,
    explain,
    install,
    installed,
    options,
    stats,
    status,
    trace,
    uninstall,
)
from hotcall._checks import Checks, Difference, checks
from hotcall._report import Report, Timed, report

__all__ = [
    "Callback",
    "Checks",
    "Difference",
    "Explanation",
    "Gil",
    "Report",
    "Shape",
    "Status",
    "Timed",
    "bind",
    "checks",
    "disassemble",
    "explain",
    "install",
    "installed",
    "options",
    "report",
    "stats",
    "status",
    "trace",
    "uninstall",
]
