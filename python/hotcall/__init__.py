"""A tracing JIT for foreign calls: unchanged ctypes code at the speed of an extension module.

    import hotcall
    hotcall.install()

From then on every ctypes function of the process, made before or after, runs in native code
once it is hot, and does exactly what it did before. What hotcall does not cover stays with
ctypes; ``explain(f)`` names the reason.
"""

from hotcall._api import (
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

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hotcall._checks import Checks, Difference, checks
    from hotcall._columns import map, vectorize
    from hotcall._facts import Callback, Explanation, Gil, Refusal, Shape, Status
    from hotcall._report import Report, Timed, report

    __version__: str

__all__ = [
    "Callback",
    "Checks",
    "Difference",
    "Explanation",
    "Gil",
    "Refusal",
    "Report",
    "Shape",
    "Status",
    "Timed",
    "__version__",
    "bind",
    "checks",
    "disassemble",
    "explain",
    "install",
    "installed",
    "map",
    "options",
    "report",
    "stats",
    "status",
    "trace",
    "uninstall",
    "vectorize",
]

_LATE = {
    "_checks": ("Checks", "Difference", "checks"),
    "_columns": ("map", "vectorize"),
    "_facts": ("Callback", "Explanation", "Gil", "Refusal", "Shape", "Status"),
    "_report": ("Report", "Timed", "report"),
}
"""What is imported when it is first asked for: a program that only installs does without."""


if not TYPE_CHECKING:
    # Those who check types would take any name for one of ours.

    def __getattr__(name: str) -> object:
        """Import what is asked for."""
        from importlib import import_module

        for module, names in _LATE.items():
            if name in names:
                value: object = getattr(import_module(f"hotcall.{module}"), name)
                globals()[name] = value
                return value
        if name == "__version__":
            from hotcall._api import _version

            return _version()
        raise AttributeError(f"module 'hotcall' has no attribute {name!r}")


def __dir__() -> list[str]:
    """All public names, imported or not."""
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
